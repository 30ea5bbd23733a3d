/* A PAM module of the tests. It writes down how it is called, to the file of its
 * log= argument, and then does what its other arguments say. */
#include <security/pam_appl.h>
#include <security/pam_ext.h>
#include <security/pam_modules.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The value of NAME=VALUE among the arguments, "" for NAME alone. */
static const char *argument(int argc, const char **argv, const char *name)
{
    size_t length = strlen(name);
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], name, length) == 0 && argv[i][length] == '=')
            return argv[i] + length + 1;
        if (strcmp(argv[i], name) == 0)
            return "";
    }
    return NULL;
}

static void note(int argc, const char **argv, const char *text)
{
    FILE *log = fopen(argument(argc, argv, "log"), "a");
    if (log) {
        fprintf(log, "%s\n", text);
        fclose(log);
    }
}

static const char *item(pam_handle_t *pam, int kind)
{
    const void *value = NULL;
    return pam_get_item(pam, kind, &value) == PAM_SUCCESS && value ? value : "(none)";
}

/* One call of the conversation with so many messages. */
static int talk(pam_handle_t *pam, int count, const struct pam_message *messages, struct pam_response **answers)
{
    const void *conv = NULL;
    const struct pam_message *list[8];
    for (int i = 0; i < count; i++)
        list[i] = &messages[i];
    *answers = NULL;
    if (pam_get_item(pam, PAM_CONV, &conv) != PAM_SUCCESS || !conv)
        return PAM_SYSTEM_ERR;
    const struct pam_conv *functions = conv;
    return functions->conv(count, list, answers, functions->appdata_ptr);
}

/* Two codes, one shown and one not, in one call, with a message of each kind between. */
static int ask_codes(pam_handle_t *pam, int argc, const char **argv)
{
    const struct pam_message messages[] = {
        { PAM_TEXT_INFO, "Card 7." },
        { PAM_PROMPT_ECHO_ON, "Shown code: " },
        { PAM_ERROR_MSG, "Take care." },
        { PAM_PROMPT_ECHO_OFF, "Hidden code: " },
    };
    struct pam_response *answers;
    int result = talk(pam, 4, messages, &answers);
    if (result != PAM_SUCCESS)
        return result;
    char text[2048];
    snprintf(text, sizeof text, "answers %s %s", answers[1].resp, answers[3].resp);
    note(argc, argv, text);
    int right = strcmp(answers[1].resp, "one") == 0 && strcmp(answers[3].resp, "two") == 0;
    int silent = !answers[0].resp && !answers[2].resp;
    free(answers[1].resp);
    free(answers[3].resp);
    free(answers);
    return right && silent ? PAM_SUCCESS : PAM_AUTH_ERR;
}

/* Asks in a style no terminal can answer, and writes down what it gets. */
static void ask_impossible(pam_handle_t *pam, int argc, const char **argv, int style)
{
    const struct pam_message message = { style, "\0\0\0\5\1" };
    struct pam_response *answers;
    char text[64];
    int result = talk(pam, 1, &message, &answers);
    snprintf(text, sizeof text, "style %d result %d answers %s", style, result, answers ? "some" : "none");
    note(argc, argv, text);
}

static int step(pam_handle_t *pam, const char *name, int argc, const char **argv)
{
    char text[2048];
    const char *value;
    snprintf(text, sizeof text, "%s user=%s rhost=%s ruser=%s tty=%s prompt=%s", name, item(pam, PAM_USER),
             item(pam, PAM_RHOST), item(pam, PAM_RUSER), item(pam, PAM_TTY), item(pam, PAM_USER_PROMPT));
    note(argc, argv, text);
    if (argument(argc, argv, "abort"))
        abort();
    if (argument(argc, argv, "segv"))
        *(volatile int *)NULL = 1;
    if ((value = argument(argc, argv, "chdir")) && chdir(value) != 0)
        return PAM_SYSTEM_ERR;
    if ((value = argument(argc, argv, "pause")))
        sleep((unsigned)atoi(value));
    if (argument(argc, argv, "impossible")) {
        ask_impossible(pam, argc, argv, 7); /* PAM_BINARY_PROMPT */
        ask_impossible(pam, argc, argv, 99);
    }
    /* Of one user another one, once. */
    const char *from = argument(argc, argv, "from");
    if (from && strcmp(from, item(pam, PAM_USER)) == 0)
        pam_set_item(pam, PAM_USER, argument(argc, argv, "to"));
    /* Forgets who it is, and asks for a name: as pam_get_user(3) does, or with a prompt of its own. */
    if (argument(argc, argv, "forget")) {
        const char *name = "";
        char *own = NULL;
        pam_set_item(pam, PAM_USER, argument(argc, argv, "empty"));
        int first = pam_get_user(pam, &name, NULL);
        int second = pam_prompt(pam, PAM_PROMPT_ECHO_ON, &own, "Name: ");
        snprintf(text, sizeof text, "asked %d %s %d %s", first, name ? name : "", second, own ? own : "");
        note(argc, argv, text);
        free(own);
        return PAM_AUTH_ERR;
    }
    if ((value = argument(argc, argv, "refuse")) && strcmp(value, item(pam, PAM_USER)) == 0)
        return PAM_PERM_DENIED;
    if ((value = argument(argc, argv, "fail")))
        return atoi(value);
    return argument(argc, argv, "codes") ? ask_codes(pam, argc, argv) : PAM_SUCCESS;
}

int pam_sm_authenticate(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    return step(pam, flags & PAM_DISALLOW_NULL_AUTHTOK ? "authenticate" : "authenticate-null", argc, argv);
}

int pam_sm_setcred(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    (void)pam;
    note(argc, argv, flags & PAM_DELETE_CRED ? "delete" : flags & PAM_ESTABLISH_CRED ? "establish" : "setcred");
    return PAM_SUCCESS;
}

int pam_sm_acct_mgmt(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    (void)flags;
    return step(pam, "account", argc, argv);
}

int pam_sm_open_session(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    return step(pam, flags & PAM_SILENT ? "open-silent" : "open", argc, argv);
}

int pam_sm_close_session(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    (void)pam, (void)flags;
    note(argc, argv, "close");
    return PAM_SUCCESS;
}

int pam_sm_chauthtok(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    (void)pam, (void)flags;
    note(argc, argv, "change");
    return PAM_SUCCESS;
}
