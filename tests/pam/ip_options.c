/* An rlogin client, alice's, whose packets carry the IP option OPTION (bytes of a C array). Writes
 * what the server says to standard output. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
    static const unsigned char option[] = { OPTION };
    static const char hello[] = "\0alice\0alice\0vt100/38400";
    /* Another one each time: the last one may wait for late segments. */
    int port = 1023 - getpid() % 400, on = 1, client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    setsockopt(client, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    do
        address.sin_port = htons(port--);
    while (bind(client, (struct sockaddr *)&address, sizeof address) != 0);
    if (sizeof option > 1 && setsockopt(client, IPPROTO_IP, IP_OPTIONS, option, sizeof option) != 0) {
        perror("IP_OPTIONS");
        return 1;
    }
    struct timeval patience = { .tv_sec = 3 };
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    address.sin_port = htons(513);
    if (connect(client, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("connect");
        return 1;
    }
    if (write(client, hello, sizeof hello) != sizeof hello)
        return 1;
    char text[4096];
    ssize_t length;
    while ((length = read(client, text, sizeof text)) > 0)
        fwrite(text, 1, (size_t)length, stdout);
    return 0;
}
