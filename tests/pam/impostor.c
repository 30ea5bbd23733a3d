/* Stands where the daemon's executable was: what it does is in a script that a test may change. The daemon starts
   its executable by a descriptor that is closed on exec, by which no interpreter could read a script. */
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    char **words = calloc(count + 2, sizeof *words);

    if (!words)
        return 1;
    words[0] = "sh";
    words[1] = "/tmp/impostor.sh";
    for (int i = 1; i < count; i++)
        words[i + 1] = arguments[i];
    execv("/bin/sh", words);
    return 1;
}
