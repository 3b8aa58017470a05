/* A TCP server that sends back whatever it gets, one task per connection.
 *
 *     echo_server [port]          port 0, or none: any free one
 *
 * Each connection reads like the only one in the world: receive, send, again. The task waits in these calls and the thread
 * does not, so that one thread has thousands of them. What a connection costs is its stack, hence the small buffer. */
#include <naru/io.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* That a peer has gone, or went in the middle, is its own affair: no error of the server's. */
static int echo(void *arg)
{
    int fd = *(int *)arg;
    char buffer[2048];
    ssize_t n;
    while ((n = naru_recv(fd, buffer, sizeof buffer, 0)) > 0) {
        n = naru_send_all(fd, buffer, (size_t)n);
        if (n < 0)
            break;
    }
    naru_close(fd);
    return n == -ECANCELED ? (int)n : 0;
}

/* A pause is all it takes when descriptors or memory run out: those who have them will give them back. */
static int serve(int listener)
{
    for (;;) {
        int fd = naru_accept(listener, NULL, NULL);
        naru_task *task = fd < 0 ? NULL : naru_spawn_arg(echo, fd);
        if (task) {
            naru_release(task);
            continue;
        }
        if (fd >= 0)
            naru_close(fd);
        else if (fd != -EMFILE && fd != -ENFILE && fd != -ENOBUFS && fd != -ENOMEM)
            return fd;
        int rc = naru_sleep(NARU_MS(50));
        if (rc < 0)
            return rc;
    }
}

static int run(void *arg)
{
    int listener;
    int rc = naru_tcp_listen(NULL, *(const uint16_t *)arg, 0, 0, &listener);
    if (rc < 0)
        return rc;
    printf("listening on port %d\n", naru_local_port(listener));
    fflush(stdout);
    rc = serve(listener);
    naru_close(listener);
    return rc;
}

int main(int argc, char **argv)
{
    uint16_t port = argc > 1 ? (uint16_t)strtoul(argv[1], NULL, 10) : 0;
    int rc = naru_run(run, &port);
    if (rc == -EINTR) {
        puts("interrupted, good-bye");
        return 0;
    }
    fprintf(stderr, "%s: %s\n", argv[0], naru_strerror(rc));
    return 1;
}
