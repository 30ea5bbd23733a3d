/* The functions of syslog(3), for the modules of PAM and of the name services.
 *
 * The C library's own wait for as long as syslogd does not read, and they write under the name of
 * this program whatever a module likes. These hand a line to the rest of the program, or drop it
 * when nobody wants it, and never wait.
 *
 * In C, for Rust cannot define a function with a variable number of arguments. <syslog.h> is not
 * included: with _FORTIFY_SOURCE it defines some of these functions itself. */

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>

/* The longest line, with its end: what is longer is cut. */
#define LONGEST 1024

typedef void receiver(int priority, const char *text, size_t length);

static _Atomic(receiver *) current;

/* From now on lines go to this function. */
void rlogind_receive_module_log(receiver *next)
{
    atomic_store(&current, next);
}

static void receive(int priority, const char *format, va_list arguments)
{
    /* For %m, and for callers who look at it after they have logged. */
    int error = errno;
    receiver *to = atomic_load(&current);
    char text[LONGEST];

    if (to) {
        errno = error;
        int length = vsnprintf(text, sizeof text, format, arguments);
        if (length > 0)
            to(priority, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
    }
    errno = error;
}

#define RECEIVE(priority, format)                                                                                      \
    va_list arguments;                                                                                                 \
    va_start(arguments, format);                                                                                       \
    receive(priority, format, arguments);                                                                              \
    va_end(arguments)

void syslog(int priority, const char *format, ...)
{
    RECEIVE(priority, format);
}

void vsyslog(int priority, const char *format, va_list arguments)
{
    receive(priority, format, arguments);
}

/* What the two above become in a module that was built with _FORTIFY_SOURCE. */
void __syslog_chk(int priority, int flag, const char *format, ...)
{
    (void)flag;
    RECEIVE(priority, format);
}

void __vsyslog_chk(int priority, int flag, const char *format, va_list arguments)
{
    (void)flag;
    receive(priority, format, arguments);
}

/* The name of the program, the facility and what is to be logged are not a module's to choose. */
void openlog(const char *name, int options, int facility)
{
    (void)name, (void)options, (void)facility;
}

void closelog(void)
{
}

int setlogmask(int mask)
{
    (void)mask;
    return 0xff; /* All severities, and so it stays. */
}
