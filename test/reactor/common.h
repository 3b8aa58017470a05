/* What the tests of the reactor share: a journal of what happened in which order, and pairs of descriptors. */
#ifndef NARU_TEST_REACTOR_COMMON_H
#define NARU_TEST_REACTOR_COMMON_H

#include "test/harness/test.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <naru/reactor.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Its children cannot start threads. */
#if defined __has_feature
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZED 1
#endif
#endif
#if defined __SANITIZE_THREAD__
#define THREAD_SANITIZED 1
#endif
#ifndef THREAD_SANITIZED
#define THREAD_SANITIZED 0
#endif

/* Small integers as the argument of a callback. */
#define ARG(n) ((void *)(intptr_t)(n))

/* ---- the journal: on the loop's thread only ---- */

static struct {
    size_t count;
    int what[256];
} journal;

static inline void note(void *arg)
{
    CHECK_LT(journal.count, sizeof journal.what / sizeof *journal.what);
    journal.what[journal.count++] = (int)(intptr_t)arg;
}

static inline void check_journal(const char *file, int line, const char *what, const int *expected,
                                 size_t count)
{
    if (count == journal.count && memcmp(expected, journal.what, count * sizeof *expected) == 0)
        return;
    fprintf(stderr, "    journal:");
    for (size_t i = 0; i < journal.count; i++)
        fprintf(stderr, " %d", journal.what[i]);
    fprintf(stderr, "\n");
    test_fail(file, line, what);
}

/* The journal holds exactly these numbers, and is empty afterwards. */
#define CHECK_JOURNAL(...)                                                              \
    do {                                                                                \
        const int expected_[] = {__VA_ARGS__};                                          \
        check_journal(__FILE__, __LINE__, "CHECK_JOURNAL(" #__VA_ARGS__ ")", expected_, \
                      sizeof expected_ / sizeof *expected_);                            \
        journal.count = 0;                                                              \
    } while (0)

/* ---- loops ---- */

static inline naru_loop *open_loop(void)
{
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, NULL), 0);
    return loop;
}

/* Runs it until nothing is left, and closes it. */
static inline void run_and_close(naru_loop *loop)
{
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static inline void stop_loop(void *loop)
{
    naru_loop_stop(loop);
}

/* ---- operations ---- */

/* What an operation came to. The argument of its done. */
struct outcome {
    int calls;
    ssize_t result;
};

static inline void record(naru_op *op)
{
    struct outcome *outcome = op->arg;
    outcome->calls++;
    outcome->result = op->result;
}

static inline void submit(naru_loop *loop, naru_op *op, struct outcome *outcome)
{
    *outcome = (struct outcome){0};
    naru_op_submit(loop, op, record, outcome);
    CHECK_EQ(outcome->calls, 0);
}

/* Submits it and runs the loop until it, and all else, is done. */
static inline ssize_t result_of(naru_loop *loop, naru_op *op)
{
    struct outcome outcome;
    submit(loop, op, &outcome);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.calls, 1);
    return outcome.result;
}

/* Lets the loop do one round with what there is, without sleeping. */
static inline void one_round(naru_loop *loop)
{
    naru_loop_stop(loop);
    CHECK_EQ(naru_loop_run(loop), 0);
}

/* ---- descriptors ---- */

struct ends {
    int read, write;
};

static inline struct ends make_pipe(void)
{
    int fds[2];
    CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
    return (struct ends){fds[0], fds[1]};
}

struct pair {
    int a, b;
};

static inline struct pair make_socketpair(int type)
{
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
    return (struct pair){fds[0], fds[1]};
}

/* A socket bound to a free port of 127.0.0.1; not yet listening. */
static inline int bound_socket(int type, struct sockaddr_in *address)
{
    socklen_t size = sizeof *address;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    CHECK_GE(fd, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK_EQ(bind(fd, (struct sockaddr *)address, sizeof *address), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)address, &size), 0);
    return fd;
}

static inline int listener(struct sockaddr_in *address)
{
    int fd = bound_socket(SOCK_STREAM, address);
    CHECK_EQ(listen(fd, 128), 0);
    return fd;
}

static inline struct pair make_tcp_pair(void)
{
    struct sockaddr_in address;
    int server = listener(&address);
    int a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_GE(a, 0);
    CHECK_EQ(connect(a, (struct sockaddr *)&address, sizeof address), 0);
    int b = accept4(server, NULL, NULL, SOCK_CLOEXEC);
    CHECK_GE(b, 0);
    close(server);
    return (struct pair){a, b};
}

/* The other side acts: blocking system calls that must do all of it. */
static inline void put(int fd, const void *data, size_t size)
{
    CHECK_EQ(write(fd, data, size), (ssize_t)size);
}

/* Waits until the kernel has delivered: loopback is fast, but not synchronous by contract. */
static inline void wait_readable(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    CHECK_EQ(poll(&ready, 1, -1), 1);
}

static inline void wait_available(int fd, size_t size)
{
    char buffer[4096];
    CHECK_LE(size, sizeof buffer);
    ssize_t n;
    while ((n = recv(fd, buffer, sizeof buffer, MSG_PEEK | MSG_DONTWAIT)) < (ssize_t)size)
        CHECK(n >= 0 || errno == EAGAIN);
}

/* Of one or more kilobytes, until it would block. Returns how much it was. */
static inline size_t fill_up(int fd)
{
    static const char zeros[4096];
    size_t total = 0;
    int flags = fcntl(fd, F_GETFL);
    CHECK_EQ(fcntl(fd, F_SETFL, flags | O_NONBLOCK), 0);
    for (size_t size = sizeof zeros; size > 0; size /= 2) {
        ssize_t n;
        while ((n = write(fd, zeros, size)) > 0)
            total += (size_t)n;
        CHECK_EQ(errno, EAGAIN);
    }
    return total;
}

static inline int count_fds(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* A file without a name. */
static inline int temporary_file(const char *content)
{
    char path[] = "/tmp/naru-test-XXXXXX";
    int fd = mkstemp(path);
    CHECK_GE(fd, 0);
    CHECK_EQ(unlink(path), 0);
    put(fd, content, strlen(content));
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

/* ---- threads and processes ---- */

static inline pthread_t start_thread(void *(*fn)(void *arg), void *arg)
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, fn, arg), 0);
    return thread;
}

/* A child has ended, and well. */
static inline void check_child(pid_t pid)
{
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
}

#endif
