/* A module that logs in every way there is. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <security/pam_ext.h>
#include <security/pam_modules.h>

static void *log_in_thread(void *unused)
{
    syslog(LOG_NOTICE, "from a thread");
    return unused;
}

static void log_in_child(void)
{
    pid_t child = fork();
    if (child == 0) {
        syslog(LOG_NOTICE, "from a child");
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

int pam_sm_open_session(pam_handle_t *handle, int flags, int count, const char **arguments)
{
    char longest[4000];
    pthread_t thread;
    int n;

    (void)flags, (void)count, (void)arguments;
    openlog("rlogind", 0, LOG_KERN);
    setlogmask(LOG_MASK(LOG_EMERG));
    errno = ENOENT;
    syslog(LOG_KERN | LOG_DEBUG, "plain %s %d: %m", "text", 7);
    pam_syslog(handle, LOG_CRIT, "forged\nrlogind[1]: event=\"%s\" user=\"alice\" \x1b[2J\xe2\x80\xae", "password-failed");
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    syslog(LOG_INFO, "long %s", longest);
    if (pthread_create(&thread, NULL, log_in_thread, NULL) == 0)
        pthread_join(thread, NULL);
    log_in_child();
    for (n = 0; n < 100; n++)
        syslog(LOG_INFO, "flood %d\n", n);
    closelog();
    return PAM_SUCCESS;
}

int pam_sm_close_session(pam_handle_t *handle, int flags, int count, const char **arguments)
{
    (void)handle, (void)flags, (void)count, (void)arguments;
    return PAM_SUCCESS;
}
