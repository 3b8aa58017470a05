/*
 * naru's echo server for the measurements: limit/echo.c's counterpart, with
 * the same options, the same "listening" line and the same reports, so that
 * the two differ only in what is measured.
 *
 * It is written as anybody would: a task accepts, each connection has a task
 * of its own that receives and sends until there is nothing more, and its
 * buffer lies on that task's stack. How large it is, is the one thing to
 * choose (--buffer). A receive that fills the buffer may have left something
 * in the socket, and costs another look; so it should be larger than the
 * messages. And a stack page that is touched stays: 1 KiB, the default, keeps
 * an idle connection within one page.
 */
#include "common.h"

#include <naru/io.h>
#include <poll.h>

enum { DEFAULT_BUFFER = 1024, BESIDE_BUFFER = 16 * 1024 };

static struct bench_server server;

/* The size comes from the command line, and main has made the stack fit it. */
static int echo(void *arg)
{
    int fd = *(int *)arg;
    unsigned char *buffer = __builtin_alloca(server.buffer);
    ssize_t size;

    while ((size = naru_recv(fd, buffer, server.buffer, 0)) > 0)
        if (naru_send_all(fd, buffer, (size_t)size) < 0)
            break;
    naru_close(fd);
    return 0;
}

static int accept_all(void *arg)
{
    (void)arg;
    for (;;) {
        int fd = naru_accept(server.listener, NULL, NULL);

        if (fd == -ECANCELED)
            return fd;
        if (fd < 0) {
            errno = -fd;
            bench_die("accept");
        }

        naru_task *task = naru_spawn_arg(echo, fd);

        if (task == NULL)
            bench_die("no memory for a connection");
        naru_release(task);
    }
}

/* Until a signal asks for the end; the run then cancels whatever is left. */
static int serve(void *arg)
{
    (void)arg;
    naru_release(naru_spawn(accept_all, NULL));
    do {
        int rc = naru_poll_fd(server.signals, POLLIN, NARU_FOREVER);

        if (rc < 0)
            return rc;
    } while (bench_server_report(&server));
    return 0;
}

int main(int argc, char **argv)
{
    naru_options options = {.flags = NARU_NO_SIGINT};

    bench_raise_files();
    server = bench_server_open(argc, argv);
    if (server.buffer == 0)
        server.buffer = DEFAULT_BUFFER;
    if (server.buffer > 3 * BESIDE_BUFFER) /* else the default stack of 64 KiB will do */
        options.stack_size = server.buffer + BESIDE_BUFFER;

    int rc = naru_run_with(&options, serve, NULL);

    if (rc < 0) {
        errno = -rc;
        bench_die("naru_run");
    }
    bench_server_close(&server);
    return 0;
}
