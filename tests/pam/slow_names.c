/* A name service that takes its time (nsswitch.conf's `slow`): while /tmp/slow is there it does not answer for a minute,
   and then knows nobody. While /tmp/away is there it says at once that it cannot be reached. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <unistd.h>

static enum nss_status answer(int *error)
{
    for (int i = 0; i < 1200 && access("/tmp/slow", F_OK) == 0; i++)
        usleep(50000);
    if (access("/tmp/away", F_OK) == 0) {
        *error = EAGAIN;
        return NSS_STATUS_TRYAGAIN;
    }
    *error = ENOENT;
    return NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_slow_getpwnam_r(const char *name, struct passwd *result, char *buffer, size_t length, int *error)
{
    (void)name, (void)result, (void)buffer, (void)length;
    return answer(error);
}

enum nss_status _nss_slow_getpwuid_r(uid_t uid, struct passwd *result, char *buffer, size_t length, int *error)
{
    (void)uid, (void)result, (void)buffer, (void)length;
    return answer(error);
}

enum nss_status _nss_slow_getgrnam_r(const char *name, struct group *result, char *buffer, size_t length, int *error)
{
    (void)name, (void)result, (void)buffer, (void)length;
    return answer(error);
}

enum nss_status _nss_slow_getgrgid_r(gid_t gid, struct group *result, char *buffer, size_t length, int *error)
{
    (void)gid, (void)result, (void)buffer, (void)length;
    return answer(error);
}
