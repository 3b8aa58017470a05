/* "I/O that has happened is always reported": whatever the moment a cancellation comes, nothing is lost and nothing is
 * twice. A ticker cancels the reader again and again while a peer goes on; all must arrive, in order. */
#include "test/io/io_test.h"

enum { NUMBERS = 20000 };

/* Only a full-sized run can promise that some cancellation found the task waiting. */
static bool full_size(void)
{
    return scaled(NUMBERS) == NUMBERS;
}

struct stream {
    int in, out;
    ssize_t (*receive)(int fd, void *buffer, size_t size);
    uint32_t count, cancelled;
    naru_task *reader;
    unsigned random;
    bool done;
};

static unsigned next_random(struct stream *s)
{
    s->random = s->random * 1664525 + 1013904223;
    return s->random >> 8;
}

/* Numbers in pieces of odd sizes, so that the reader finds them cut. */
static int write_numbers(void *arg)
{
    struct stream *s = arg;
    uint32_t numbers[64];
    for (uint32_t next = 0; next < s->count;) {
        size_t n = 1 + next_random(s) % 64, sent = 0;
        for (size_t i = 0; i < n; i++)
            numbers[i] = next++;
        while (sent < n * 4) {
            size_t piece = 1 + next_random(s) % (n * 4 - sent);
            ssize_t rc = naru_write(s->out, (char *)numbers + sent, piece);
            CHECK_GT(rc, 0);
            sent += (size_t)rc;
            if (next_random(s) % 4 == 0)
                CHECK_EQ(naru_yield(), 0);
        }
        if (next_random(s) % 64 == 0)
            CHECK_EQ(naru_sleep(NARU_US(20)), 0);
    }
    return naru_close(s->out);
}

static int read_numbers(void *arg)
{
    struct stream *s = arg;
    unsigned char buffer[100];
    uint64_t at = 0;
    for (;;) {
        ssize_t n = s->receive(s->in, buffer, 1 + next_random(s) % sizeof buffer);
        if (n == -ECANCELED) {
            s->cancelled++;
            continue;
        }
        if (n == 0)
            break;
        CHECK_GT(n, 0);
        for (ssize_t i = 0; i < n; i++, at++) {
            uint32_t number = (uint32_t)(at / 4);
            CHECK_EQ(buffer[i], ((unsigned char *)&number)[at % 4]);
        }
    }
    CHECK_GE(at, (uint64_t)s->count * 4);
    s->done = true;
    return 0;
}

static int cancel_now_and_then(void *arg)
{
    struct stream *s = arg;
    while (!s->done) {
        naru_cancel(s->reader);
        int rc = next_random(s) % 8 ? naru_yield() : naru_sleep(NARU_US(1 + next_random(s) % 50));
        if (rc < 0)
            return rc;
    }
    return 0;
}

static ssize_t plain_recv(int fd, void *buffer, size_t size)
{
    return naru_recv(fd, buffer, size, 0);
}

static ssize_t scattered_recv(int fd, void *buffer, size_t size)
{
    struct iovec parts[2] = {{buffer, size / 2}, {(char *)buffer + size / 2, size - size / 2}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    return naru_recvmsg(fd, &message, 0);
}

static ssize_t scattered_read(int fd, void *buffer, size_t size)
{
    struct iovec parts[2] = {{buffer, size / 2}, {(char *)buffer + size / 2, size - size / 2}};
    return naru_readv(fd, parts, 2);
}

/* A scope that expires at the worst of times instead of a ticker that cancels. */
static ssize_t timed_recv(int fd, void *buffer, size_t size)
{
    static unsigned turn;
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, NARU_US(turn++ % 30)), 0);
    int rc = naru_timeout_end(&t, (int)naru_recv(fd, buffer, size, 0));
    return rc == -ETIMEDOUT ? -ECANCELED : rc;
}

static void check_stream(const int pair[2], ssize_t (*receive)(int, void *, size_t), bool cancelling)
{
    struct stream s = {.in = pair[0], .out = pair[1], .receive = receive, .random = 1};
    s.count = (uint32_t)scaled(NUMBERS);
    naru_task *writer = naru_spawn(write_numbers, &s);
    s.reader = naru_spawn(read_numbers, &s);
    naru_task *ticker = cancelling ? naru_spawn(cancel_now_and_then, &s) : NULL;
    finish(writer);
    finish(s.reader);
    if (ticker)
        finish(ticker);
    CHECK(s.cancelled > 0 || !full_size());
    CHECK_EQ(naru_close(s.in), 0);
}

#define STREAM_TEST(name, make_pair, receive, cancelling) \
    TASK_TEST_SLOW(name, 60)                              \
    {                                                     \
        int pair[2];                                      \
        make_pair(pair);                                  \
        check_stream(pair, receive, cancelling);          \
    }

static void pipe_pair(int pair[2])
{
    CHECK_EQ(naru_pipe(pair), 0);
}

STREAM_TEST(recv_from_tcp_loses_nothing, tcp_pair, plain_recv, true)
STREAM_TEST(recv_from_a_unix_socket_loses_nothing, stream_pair, plain_recv, true)
STREAM_TEST(recvmsg_loses_nothing, tcp_pair, scattered_recv, true)
STREAM_TEST(read_from_a_pipe_loses_nothing, pipe_pair, naru_read, true)
STREAM_TEST(read_from_a_socket_loses_nothing, stream_pair, naru_read, true)
STREAM_TEST(readv_from_a_pipe_loses_nothing, pipe_pair, scattered_read, true)
STREAM_TEST(recv_inside_timeouts_loses_nothing, tcp_pair, timed_recv, false)

/* The other direction: what a cancelled writer says it has not written must not arrive. */
static int read_counting(void *arg)
{
    struct stream *s = arg;
    char buffer[64];
    ssize_t n;
    while ((n = naru_read(s->in, buffer, sizeof buffer)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            CHECK_EQ((unsigned char)buffer[i], (s->count + (uint32_t)i) & 0xff);
        s->count += (uint32_t)n;
        if (next_random(s) % 4 == 0)
            CHECK_EQ(naru_yield(), 0);
    }
    return (int)n;
}

static int write_counting(void *arg)
{
    struct stream *s = arg;
    uint32_t limit = (uint32_t)scaled(200000), at = 0;
    char buffer[200];
    while (at < limit) {
        size_t size = 1 + next_random(s) % sizeof buffer;
        for (size_t i = 0; i < size; i++)
            buffer[i] = (char)(at + i);
        ssize_t n = naru_write(s->out, buffer, size);
        if (n == -ECANCELED) {
            s->cancelled++;
            continue;
        }
        CHECK_GT(n, 0);
        at += (uint32_t)n;
    }
    s->done = true;
    CHECK_EQ(naru_close(s->out), 0);
    naru_uncancel(naru_self());
    return (int)at;
}

TASK_TEST_SLOW(a_cancelled_write_has_written_nothing, 60)
{
    int pipe_ends[2];
    pipe_pair(pipe_ends);
    CHECK_GT(fcntl(pipe_ends[1], F_SETPIPE_SZ, 4096), 0);
    struct stream s = {.in = pipe_ends[0], .out = pipe_ends[1], .random = 7};
    naru_task *reader = naru_spawn(read_counting, &s);
    s.reader = naru_spawn(write_counting, &s); /* who is cancelled */
    naru_task *ticker = naru_spawn(cancel_now_and_then, &s);
    int written = naru_join(s.reader);
    CHECK_GT(written, 0);
    s.done = true;
    finish(ticker);
    finish(reader);
    CHECK_EQ(s.count, written);
    CHECK(s.cancelled > 0 || !full_size());
    CHECK_EQ(naru_close(s.in), 0);
}

/* ---- accept ---- */

static int accept_counting(void *arg)
{
    struct stream *s = arg;
    char byte;
    for (uint32_t i = 0; i < s->count;) {
        int fd = naru_accept(s->in, NULL, NULL);
        if (fd == -ECANCELED) {
            s->cancelled++;
            continue;
        }
        CHECK_GE(fd, 0);
        ssize_t n;
        while ((n = naru_recv(fd, &byte, 1, 0)) == -ECANCELED)
            continue;
        CHECK_EQ(n, 1);
        CHECK_EQ((unsigned char)byte, i & 0xff);
        CHECK_EQ(naru_close(fd), 0);
        i++;
    }
    s->done = true;
    return 0;
}

TASK_TEST_SLOW(accept_loses_no_connection, 60)
{
    struct stream s = {.random = 3, .count = (uint32_t)scaled(2000)};
    int port, before = open_descriptors();
    s.in = listen_anywhere(&port);
    s.reader = naru_spawn(accept_counting, &s);
    naru_task *ticker = naru_spawn(cancel_now_and_then, &s);
    for (uint32_t i = 0; i < s.count; i++) {
        int fd;
        CHECK_EQ(naru_tcp_connect("127.0.0.1", (uint16_t)port, &fd), 0);
        CHECK_EQ(naru_send(fd, &(char){(char)i}, 1, 0), 1);
        CHECK_EQ(naru_close(fd), 0);
    }
    finish(s.reader);
    finish(ticker);
    CHECK(s.cancelled > 0 || !full_size());
    CHECK_EQ(naru_close(s.in), 0);
    CHECK_EQ(open_descriptors(), before);
}

/* ---- one at a time ---- */

TASK_TEST(what_had_come_before_the_cancellation_is_delivered_and_the_cancellation_stays)
{
    int pair[2];
    struct call call = {0};
    stream_pair(pair);
    call.fd = pair[1];
    naru_task *task = start_waiting(call_recv, &call);
    CHECK_EQ(naru_send(pair[0], "abc", 3, 0), 3);
    /* Wait, as a task that has the thread, until the loop has told the reader but not yet run it: one yield lets it
     * run, so this is the other order. Both must do. */
    naru_cancel(task);
    finish(task);
    CHECK(call.result == 3 || call.result == -ECANCELED);
    if (call.result == -ECANCELED)
        CHECK_EQ(naru_recv(pair[1], call.buffer, 8, 0), 3);
    close_pair(pair);
}

TASK_TEST(a_sticky_cancellation_fails_every_call)
{
    int pair[2];
    struct call call = {0};
    stream_pair(pair);
    call.fd = pair[1];
    naru_spawn_options options = {.flags = NARU_STICKY_CANCEL};
    naru_task *task = naru_spawn_with(&options, call_recv, &call);
    let_others_run();
    naru_cancel(task);
    finish(task);
    CHECK_EQ(call.result, -ECANCELED);
    close_pair(pair);
}
