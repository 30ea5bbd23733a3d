/* The functions of setrlimit(2), for the modules of PAM.
 *
 * A module such as pam_limits sets the user's limits in the process that it runs in. They are meant for
 * the shell: that process still has to write the login records and to close PAM, and a hard limit that was
 * lowered is raised again only with a right that containers do not give. So while a session is opened
 * these write down what a module sets, and a module that asks is told that it holds. At any other time
 * they are the system calls.
 *
 * <sys/resource.h> is not included: with large files it gives some of these functions other names. */

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's RLIM_NLIMITS. */
#define COUNT 16

/* The kernel's struct rlimit64. */
struct limit {
    unsigned long long soft, hard;
};

static struct limit noted[COUNT];
static atomic_uint is_noted;
/* The process that writes limits down; 0 for none. A process that a module forks does not. */
static atomic_int noting;

static int system_call(pid_t process, unsigned resource, const struct limit *new, struct limit *old)
{
    return (int)syscall(SYS_prlimit64, process, resource, new, old);
}

/* From now on what is set is written down, beginning with nothing. */
void rlogind_note_limits(void)
{
    atomic_store(&is_noted, 0);
    atomic_store(&noting, getpid());
}

/* From now on what is set holds again. */
void rlogind_stop_noting_limits(void)
{
    atomic_store(&noting, 0);
}

/* Whether this limit was set meanwhile, and to what. */
int rlogind_noted_limit(unsigned resource, struct limit *limit)
{
    if (resource >= COUNT || !(atomic_load(&is_noted) & 1u << resource))
        return 0;
    *limit = noted[resource];
    return 1;
}

/* Writes a limit down, if the kernel would let this process have it. */
static int note(unsigned resource, const struct limit *wanted)
{
    struct limit ours;

    if (wanted->soft > wanted->hard) {
        errno = EINVAL;
        return -1;
    }
    if (system_call(0, resource, NULL, &ours) != 0)
        return -1;
    if (wanted->hard > ours.hard) {
        /* Only the kernel can tell. */
        struct limit raised = { ours.soft, wanted->hard };
        if (system_call(0, resource, &raised, NULL) != 0)
            return -1;
    }
    noted[resource] = *wanted;
    atomic_fetch_or(&is_noted, 1u << resource);
    return 0;
}

static int change(pid_t process, unsigned resource, const struct limit *new, struct limit *old)
{
    pid_t own = getpid();
    struct limit before;

    if ((process != 0 && process != own) || atomic_load(&noting) != own || resource >= COUNT)
        return system_call(process, resource, new, old);
    if (!rlogind_noted_limit(resource, &before) && system_call(0, resource, NULL, &before) != 0)
        return -1;
    if (new && note(resource, new) != 0)
        return -1;
    if (old)
        *old = before;
    return 0;
}

int prlimit64(pid_t process, int resource, const struct limit *new, struct limit *old)
{
    return change(process, (unsigned)resource, new, old);
}

int setrlimit64(int resource, const struct limit *limit)
{
    return change(0, (unsigned)resource, limit, NULL);
}

int getrlimit64(int resource, struct limit *limit)
{
    return change(0, (unsigned)resource, NULL, limit);
}

#if defined __GLIBC__ && ULONG_MAX < ULLONG_MAX

/* Here the plain functions have narrower numbers, whose largest stands for no limit. */
struct narrow {
    unsigned long soft, hard;
};

static unsigned long long widen(unsigned long value)
{
    return value == ULONG_MAX ? ULLONG_MAX : value;
}

static unsigned long narrow(unsigned long long value)
{
    return value > ULONG_MAX ? ULONG_MAX : (unsigned long)value;
}

int prlimit(pid_t process, int resource, const struct narrow *new, struct narrow *old)
{
    struct limit wide = { 0, 0 }, before;

    if (new)
        wide = (struct limit){ widen(new->soft), widen(new->hard) };
    if (change(process, (unsigned)resource, new ? &wide : NULL, &before) != 0)
        return -1;
    if (old)
        *old = (struct narrow){ narrow(before.soft), narrow(before.hard) };
    return 0;
}

int setrlimit(int resource, const struct narrow *limit)
{
    return prlimit(0, resource, limit, NULL);
}

int getrlimit(int resource, struct narrow *limit)
{
    return prlimit(0, resource, NULL, limit);
}

#else

int prlimit(pid_t process, int resource, const struct limit *new, struct limit *old)
{
    return change(process, (unsigned)resource, new, old);
}

int setrlimit(int resource, const struct limit *limit)
{
    return change(0, (unsigned)resource, limit, NULL);
}

int getrlimit(int resource, struct limit *limit)
{
    return change(0, (unsigned)resource, NULL, limit);
}

#endif
