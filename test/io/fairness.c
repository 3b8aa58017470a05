/* Nobody starves: a task whose I/O never has to wait still lets others run, and thousands of connections all get on. */
#include "test/io/io_test.h"

static int count_sleeps(void *arg)
{
    int *count = arg;
    for (;;) {
        int rc = naru_sleep(NARU_US(100));
        if (rc < 0)
            return rc;
        ++*count;
    }
}

static int count_yields(void *arg)
{
    int *count = arg;
    for (;;) {
        int rc = naru_yield();
        if (rc < 0)
            return rc;
        ++*count;
    }
}

/* Does `step` until both have been seen to run, or hangs, and the runner says so. */
static void check_lets_others_run(ssize_t (*step)(int fd), int fd)
{
    int sleeps = 0, yields = 0;
    naru_task *others[2] = {naru_spawn(count_sleeps, &sleeps), naru_spawn(count_yields, &yields)};
    while (sleeps < 5 || yields < 5)
        CHECK_GT(step(fd), 0);
    CHECK_EQ(naru_cancel_all(others, 2), 0);
    naru_release_all(others, 2);
}

static ssize_t read_a_byte(int fd)
{
    return naru_read(fd, &(char){0}, 1);
}

TASK_TEST(reading_what_is_always_there_does_not_starve_others)
{
    int fd = naru_open("/dev/zero", O_RDONLY, 0);
    CHECK_GE(fd, 0);
    check_lets_others_run(read_a_byte, fd);
    CHECK_EQ(naru_close(fd), 0);
}

static int shared_pair[2];

/* Keeps the socket full, without ever suspending. */
static ssize_t recv_and_refill(int fd)
{
    CHECK_EQ(send(shared_pair[1], "x", 1, MSG_DONTWAIT), 1);
    return naru_recv(fd, &(char){0}, 1, 0);
}

TASK_TEST(a_socket_that_is_always_full_does_not_starve_others)
{
    stream_pair(shared_pair);
    CHECK_EQ(send(shared_pair[1], "reserve", 7, MSG_DONTWAIT), 7);
    check_lets_others_run(recv_and_refill, shared_pair[0]);
    close_pair(shared_pair);
}

static ssize_t send_and_drain(int fd)
{
    char buffer[64];
    ssize_t n = naru_send_all(fd, "abcdefgh", 8);
    CHECK_EQ(recv(shared_pair[1], buffer, sizeof buffer, MSG_DONTWAIT), 8);
    return n;
}

TASK_TEST(sending_to_a_peer_that_always_reads_does_not_starve_others)
{
    stream_pair(shared_pair);
    check_lets_others_run(send_and_drain, shared_pair[0]);
    close_pair(shared_pair);
}

static int push(void *arg)
{
    int fd = *(int *)arg;
    for (;;) {
        ssize_t n = naru_send(fd, "0123456789abcdef", 16, 0);
        if (n < 0)
            return (int)n;
    }
}

static int pull(void *arg)
{
    int fd = *(int *)arg;
    char buffer[16];
    for (;;) {
        ssize_t n = naru_recv(fd, buffer, sizeof buffer, 0);
        if (n < 0)
            return (int)n;
    }
}

/* Sender and receiver feed each other without a pause. */
TASK_TEST(a_pair_that_is_never_idle_does_not_starve_a_sleeper_or_a_cancellation)
{
    int pair[2];
    stream_pair(pair);
    naru_task *tasks[] = {naru_spawn(push, &pair[0]), naru_spawn(pull, &pair[1])};
    for (int i = 0; i < 20; i++)
        CHECK_EQ(naru_sleep(NARU_US(500)), 0);
    CHECK_EQ(naru_cancel_all(tasks, 2), 0);
    naru_release_all(tasks, 2);
    close_pair(pair);
}

TASK_TEST(a_timeout_ends_a_task_whose_io_never_waits)
{
    int fd = naru_open("/dev/zero", O_RDONLY, 0), rc = 0;
    char buffer[16];
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, NARU_MS(5)), 0);
    while (rc >= 0)
        rc = (int)naru_read(fd, buffer, sizeof buffer);
    CHECK_EQ(naru_timeout_end(&t, rc), -ETIMEDOUT);
    CHECK_EQ(naru_close(fd), 0);
}

/* ---- many ---- */

static int echo(void *arg)
{
    int fd = *(int *)arg;
    char buffer[256];
    ssize_t n;
    while ((n = naru_recv(fd, buffer, sizeof buffer, 0)) > 0)
        CHECK_EQ(naru_send_all(fd, buffer, (size_t)n), n);
    CHECK_EQ(naru_close(fd), 0);
    return (int)n;
}

static int accept_echoes(void *arg)
{
    int listener = *(int *)arg;
    for (;;) {
        int fd = naru_accept(listener, NULL, NULL);
        if (fd < 0)
            return fd;
        naru_release(naru_spawn_arg(echo, fd));
    }
}

struct crowd {
    int port, connected, answered, size;
    naru_future all_here;
};

static int ask(void *arg)
{
    struct crowd *crowd = arg;
    char message[16] = {0}, answer[16];
    int fd;
    CHECK_EQ(naru_tcp_connect("127.0.0.1", (uint16_t)crowd->port, &fd), 0);
    if (++crowd->connected == crowd->size)
        naru_future_set(&crowd->all_here, 0, NULL);
    CHECK_EQ(naru_future_wait(&crowd->all_here), 0);
    for (int i = 0; i < 3; i++) {
        snprintf(message, sizeof message, "%d %d", fd, i);
        CHECK_EQ(naru_send_all(fd, message, sizeof message), sizeof message);
        for (size_t got = 0; got < sizeof answer;) {
            ssize_t n = naru_recv(fd, answer + got, sizeof answer - got, 0);
            CHECK_GT(n, 0);
            got += (size_t)n;
        }
        CHECK_STR(answer, message);
    }
    crowd->answered++;
    return naru_close(fd);
}

/* ThreadSanitizer takes each task's stack for a thread, and has room for some 8,000 of these. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FEWER_TASKS 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(FEWER_TASKS)
enum { CONNECTIONS = 3000 };
#else
enum { CONNECTIONS = 5000 };
#endif

TASK_TEST_SLOW(five_thousand_connections_at_once_are_all_answered, 60)
{
    static naru_task *tasks[CONNECTIONS];
    struct crowd crowd = {.size = scaled(CONNECTIONS), .all_here = NARU_FUTURE_INIT};
    if (raise_descriptors() < (size_t)crowd.size * 2 + 50)
        SKIP("not enough descriptors (ulimit -Hn)");
    int before = open_descriptors(), listener = listen_anywhere(&crowd.port);
    naru_task *server = naru_spawn(accept_echoes, &listener);
    for (int i = 0; i < crowd.size; i++) {
        tasks[i] = naru_spawn(ask, &crowd);
        CHECK(tasks[i] != NULL);
    }
    for (int i = 0; i < crowd.size; i++)
        finish(tasks[i]);
    CHECK_EQ(crowd.answered, crowd.size);
    naru_cancel(server);
    CHECK_EQ(naru_join(server), -ECANCELED);
    CHECK_EQ(naru_close(listener), 0);
    while (open_descriptors() > before) /* the other ends see that these have gone */
        CHECK_EQ(naru_sleep(NARU_MS(10)), 0);
}
