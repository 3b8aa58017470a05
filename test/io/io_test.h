/* What the tests of the I/O layer share: cases that run in a task, connected pairs, and a look at open descriptors. */
#ifndef IO_TEST_H
#define IO_TEST_H

#include "test/harness/test.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <naru/io.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* A case whose body is the main task of a run. */
#define TASK_TEST(name) TASK_TEST_SLOW(name, TEST_SECONDS)
#define TASK_TEST_SLOW(name, seconds)             \
    static void body_##name(void);                \
    static int main_##name(void *unused)          \
    {                                             \
        (void)unused;                             \
        body_##name();                            \
        return 0;                                 \
    }                                             \
    TEST_SLOW(name, seconds)                      \
    {                                             \
        CHECK_EQ(naru_run(main_##name, NULL), 0); \
    }                                             \
    static void body_##name(void)

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Valgrind, and a processor that is imitated, are some fifty times slower: such a run has smaller numbers. */
static inline int scaled(int number)
{
    const char *runner = getenv("NARU_RUNNER");
    if (!runner || !(strstr(runner, "valgrind") || strstr(runner, "qemu")))
        return number;
    return number > 20 ? number / 20 : 1;
}

/* Valgrind takes a pointer that the system is meant to refuse for a mistake. */
static inline bool under_valgrind(void)
{
    const char *runner = getenv("NARU_RUNNER");
    return runner && strstr(runner, "valgrind");
}

/* Only after a whole round of the loop has gone by has everything that is ready been seen. */
static inline void let_others_run(void)
{
    for (int i = 0; i < 5; i++)
        CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_sleep(NARU_MS(2)), 0);
}

static inline int listen_anywhere(int *port)
{
    int fd;
    CHECK_EQ(naru_tcp_listen("127.0.0.1", 0, 0, 0, &fd), 0);
    *port = naru_local_port(fd);
    CHECK_GT(*port, 0);
    return fd;
}

/* A TCP connection on this machine: pair[0] connected, pair[1] accepted. */
static inline void tcp_pair(int pair[2])
{
    int port, listener = listen_anywhere(&port);
    CHECK_EQ(naru_tcp_connect("127.0.0.1", (uint16_t)port, &pair[0]), 0);
    pair[1] = naru_accept(listener, NULL, NULL);
    CHECK_GE(pair[1], 0);
    CHECK_EQ(naru_close(listener), 0);
}

static inline void stream_pair(int pair[2])
{
    CHECK_EQ(naru_socketpair(AF_UNIX, SOCK_STREAM, pair), 0);
}

static inline void close_pair(const int pair[2])
{
    CHECK_EQ(naru_close(pair[0]), 0);
    CHECK_EQ(naru_close(pair[1]), 0);
}

/* A listener on 127.0.0.1 whose queue is full, so that the next one to connect waits: a firewall in miniature. The
 * connections that fill it are in fill. */
enum { FILL = 2 };
static inline int full_listener(int *port, int fill[FILL])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_GE(fd, 0);
    CHECK_EQ(bind(fd, (struct sockaddr *)&address, size), 0);
    CHECK_EQ(listen(fd, 0), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    for (int i = 0; i < FILL; i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        CHECK_GE(fill[i], 0);
        if (connect(fill[i], (struct sockaddr *)&address, size) < 0)
            CHECK_EQ(errno, EINPROGRESS);
    }
    return fd;
}

static inline int open_descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static inline bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* As many descriptors as the system lets us have. */
static inline size_t raise_descriptors(void)
{
    struct rlimit limit;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return limit.rlim_cur;
}

/* Takes what a socket or a pipe will take without waiting. Returns how much that was. */
static inline size_t stuff(int fd)
{
    static char zeros[65536];
    size_t total = 0;
    CHECK_EQ(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
    for (size_t size = sizeof zeros; size > 0; size = size > 1 ? 1 : 0) {
        ssize_t n = write(fd, zeros, size);
        for (; n > 0; n = write(fd, zeros, size))
            total += (size_t)n;
        CHECK_EQ(errno, EAGAIN);
    }
    return total;
}

/* A task that makes one call and notes what came of it. */
struct call {
    int fd;
    char buffer[64];
    size_t size;
    int events;
    ssize_t result;
    int order; /* when it returned, counted from 1 */
    bool started, returned;
};

static inline int note(struct call *call, ssize_t result)
{
    static int returned;
    call->result = result;
    call->order = ++returned;
    call->returned = true;
    return 0;
}

static inline int call_recv(void *arg)
{
    struct call *call = arg;
    call->started = true;
    return note(call, naru_recv(call->fd, call->buffer, call->size ? call->size : sizeof call->buffer, 0));
}

static inline int call_read(void *arg)
{
    struct call *call = arg;
    call->started = true;
    return note(call, naru_read(call->fd, call->buffer, call->size ? call->size : sizeof call->buffer));
}

static inline int call_send(void *arg)
{
    struct call *call = arg;
    call->started = true;
    return note(call, naru_send(call->fd, "x", 1, 0));
}

static inline int call_write(void *arg)
{
    struct call *call = arg;
    call->started = true;
    return note(call, naru_write(call->fd, "x", 1));
}

static inline int call_accept(void *arg)
{
    struct call *call = arg;
    call->started = true;
    return note(call, naru_accept(call->fd, NULL, NULL));
}

static inline int call_poll(void *arg)
{
    struct call *call = arg;
    call->started = true;
    return note(call, naru_poll_fd(call->fd, call->events, NARU_FOREVER));
}

/* Spawns fn(call) and lets it come to its wait. */
static inline naru_task *start(naru_fn *fn, struct call *call)
{
    naru_task *task = naru_spawn(fn, call);
    CHECK(task != NULL);
    let_others_run();
    CHECK(call->started);
    return task;
}

static inline naru_task *start_waiting(naru_fn *fn, struct call *call)
{
    naru_task *task = start(fn, call);
    CHECK(!call->returned);
    return task;
}

static inline void finish(naru_task *task)
{
    CHECK_EQ(naru_join(task), 0);
}

#endif
