/* naru_poll_fd: results as in poll(2), its three kinds of timeout, and no registration left behind. */
#include "test/io/io_test.h"

#include <sys/eventfd.h>

TASK_TEST(what_is_ready_is_told_at_once)
{
    int pair[2];
    stream_pair(pair);
    for (int i = 0; i < 3; i++) {
        const int64_t timeouts[] = {0, NARU_SEC(10), NARU_FOREVER};
        CHECK_EQ(naru_poll_fd(pair[0], POLLOUT, timeouts[i]), POLLOUT);
        CHECK_EQ(naru_poll_fd(pair[0], POLLIN | POLLOUT, timeouts[i]), POLLOUT);
    }
    CHECK_EQ(send(pair[1], "x", 1, 0), 1);
    CHECK_EQ(naru_poll_fd(pair[0], POLLIN, NARU_FOREVER), POLLIN);
    CHECK_EQ(naru_poll_fd(pair[0], POLLIN | POLLOUT, 0), POLLIN | POLLOUT);
    close_pair(pair);
}

TASK_TEST(without_a_timeout_it_only_looks)
{
    int pair[2];
    stream_pair(pair);
    CHECK_EQ(naru_poll_fd(pair[0], POLLIN, 0), -ETIMEDOUT);
    CHECK_EQ(naru_poll_fd(pair[0], POLLIN, -1), -ETIMEDOUT);
    CHECK_EQ(naru_poll_fd(pair[0], POLLIN, INT64_MIN), -ETIMEDOUT);
    close_pair(pair);
}

static int count_up(void *arg)
{
    ++*(int *)arg;
    return 0;
}

TASK_TEST(without_a_timeout_it_does_not_suspend)
{
    int pair[2], ran = 0;
    stream_pair(pair);
    naru_task *task = naru_spawn(count_up, &ran);
    CHECK_EQ(naru_poll_fd(pair[0], POLLIN, 0), -ETIMEDOUT);
    CHECK_EQ(ran, 0);
    finish(task);
    close_pair(pair);
}

TASK_TEST(a_timeout_ends_it_and_not_before)
{
    int pair[2];
    stream_pair(pair);
    int64_t begin = naru_now();
    CHECK_EQ(naru_poll_fd(pair[0], POLLIN, NARU_MS(20)), -ETIMEDOUT);
    CHECK_GE(naru_now() - begin, NARU_MS(20));
    CHECK_EQ(naru_poll_fd(pair[0], POLLIN, 1), -ETIMEDOUT);
    close_pair(pair);
}

static struct call polling(int fd, int events)
{
    return (struct call){.fd = fd, .events = events};
}

TASK_TEST(it_waits_for_each_of_its_events)
{
    int pair[2];
    static char buffer[1 << 20];
    stream_pair(pair);
    struct call in = polling(pair[0], POLLIN), out = polling(pair[0], POLLOUT);
    stuff(pair[0]);
    naru_task *reader = start_waiting(call_poll, &in), *writer = start_waiting(call_poll, &out);
    CHECK_EQ(send(pair[1], "x", 1, 0), 1);
    finish(reader);
    CHECK_EQ(in.result, POLLIN);
    CHECK(!out.returned);
    while (recv(pair[1], buffer, sizeof buffer, MSG_DONTWAIT) > 0)
        continue;
    finish(writer);
    CHECK_EQ(out.result, POLLOUT);
    close_pair(pair);
}

TASK_TEST(urgent_data_is_pollpri)
{
    int pair[2];
    tcp_pair(pair);
    struct call call = polling(pair[0], POLLPRI);
    naru_task *task = start_waiting(call_poll, &call);
    CHECK_EQ(send(pair[1], "!", 1, MSG_OOB), 1);
    finish(task);
    CHECK_EQ(call.result, POLLPRI);
    close_pair(pair);
}

TASK_TEST(a_hang_up_is_always_reported)
{
    const short events[] = {0, POLLIN, POLLPRI};
    for (size_t i = 0; i < COUNT(events); i++) {
        int pair[2];
        stream_pair(pair);
        struct call call = polling(pair[0], events[i]);
        naru_task *task = start_waiting(call_poll, &call);
        CHECK_EQ(naru_close(pair[1]), 0);
        finish(task);
        CHECK(call.result & POLLHUP);
        CHECK_EQ(naru_close(pair[0]), 0);
    }
}

TASK_TEST(an_error_is_always_reported)
{
    int pipe_ends[2];
    CHECK_EQ(naru_pipe(pipe_ends), 0);
    stuff(pipe_ends[1]);
    struct call call = polling(pipe_ends[1], 0);
    naru_task *task = start_waiting(call_poll, &call);
    CHECK_EQ(naru_close(pipe_ends[0]), 0);
    finish(task);
    CHECK_EQ(call.result, POLLERR);
    CHECK_EQ(naru_close(pipe_ends[1]), 0);
}

TASK_TEST(an_end_of_the_peer_is_pollrdhup)
{
    enum { RDHUP = 0x2000 };
    int pair[2];
    tcp_pair(pair);
    struct call call = polling(pair[0], RDHUP);
    naru_task *task = start_waiting(call_poll, &call);
    CHECK_EQ(shutdown(pair[1], SHUT_WR), 0);
    finish(task);
    CHECK_EQ(call.result, RDHUP);
    close_pair(pair);
}

TASK_TEST(regular_files_are_always_ready)
{
    FILE *file = tmpfile();
    CHECK_EQ(naru_poll_fd(fileno(file), POLLIN | POLLOUT, NARU_FOREVER), POLLIN | POLLOUT);
    fclose(file);
}

TASK_TEST(a_wait_can_be_cancelled_and_then_waits_again)
{
    int pair[2];
    stream_pair(pair);
    struct call call = polling(pair[0], POLLIN);
    for (int i = 0; i < 3; i++) {
        call.returned = call.started = false;
        naru_task *task = start_waiting(call_poll, &call);
        naru_cancel(task);
        finish(task);
        CHECK_EQ(call.result, -ECANCELED);
    }
    CHECK_EQ(send(pair[1], "x", 1, 0), 1);
    CHECK_EQ(naru_poll_fd(pair[0], POLLIN, NARU_FOREVER), POLLIN);
    close_pair(pair);
}

TASK_TEST(a_pending_cancellation_comes_first_even_without_a_timeout)
{
    int pair[2];
    stream_pair(pair);
    naru_cancel(naru_self());
    CHECK_EQ(naru_poll_fd(pair[0], POLLOUT, 0), -ECANCELED);
    naru_cancel(naru_self());
    CHECK_EQ(naru_poll_fd(pair[0], POLLOUT, NARU_SEC(1)), -ECANCELED);
    CHECK_EQ(naru_poll_fd(pair[0], POLLOUT, 0), POLLOUT);
    close_pair(pair);
}

TASK_TEST(what_is_not_open_is_ebadf)
{
    const int bad[] = {-1, INT32_MIN, 1000000, INT32_MAX};
    const int64_t timeouts[] = {0, NARU_MS(10), NARU_FOREVER};
    for (size_t i = 0; i < COUNT(bad); i++)
        for (size_t k = 0; k < COUNT(timeouts); k++)
            CHECK_EQ(naru_poll_fd(bad[i], POLLIN, timeouts[k]), -EBADF);
}

TASK_TEST(it_leaves_the_descriptor_blocking)
{
    int pipe_ends[2];
    CHECK_EQ(pipe(pipe_ends), 0);
    CHECK_EQ(naru_poll_fd(pipe_ends[0], POLLIN, NARU_MS(1)), -ETIMEDOUT);
    CHECK(!(fcntl(pipe_ends[0], F_GETFL) & O_NONBLOCK));
    close_pair(pipe_ends);
}

/* The number of lines that begin with "tfd:" in what the kernel tells of all epoll descriptors. */
static int registrations_of(int fd)
{
    int count = 0;
    for (int at = 3; at < 1000; at++) {
        char path[64], line[256];
        int registered;
        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", at);
        FILE *file = fopen(path, "r");
        if (!file)
            continue;
        while (fgets(line, sizeof line, file))
            count += sscanf(line, "tfd: %d", &registered) == 1 && registered == fd;
        fclose(file);
    }
    return count;
}

TASK_TEST(it_leaves_no_registration_however_it_ends)
{
    int pair[2];
    stream_pair(pair);
    struct call call = polling(pair[0], POLLIN);
    naru_task *task = start_waiting(call_poll, &call);
    CHECK_EQ(registrations_of(pair[0]), 1);
    CHECK_EQ(send(pair[1], "x", 1, 0), 1);
    finish(task);
    CHECK_EQ(registrations_of(pair[0]), 0);
    CHECK_EQ(naru_poll_fd(pair[1], POLLIN, NARU_MS(1)), -ETIMEDOUT);
    CHECK_EQ(registrations_of(pair[1]), 0);
    call = polling(pair[1], POLLIN);
    task = start_waiting(call_poll, &call);
    naru_cancel(task);
    finish(task);
    CHECK_EQ(registrations_of(pair[1]), 0);
    close_pair(pair);
}

TASK_TEST(descriptors_that_others_close_and_reuse_can_be_polled_again)
{
    for (int i = 0; i < 100; i++) {
        int pipe_ends[2];
        CHECK_EQ(pipe(pipe_ends), 0);
        struct call call = polling(pipe_ends[0], POLLIN);
        naru_task *task = naru_spawn(call_poll, &call);
        CHECK_EQ(naru_yield(), 0);
        CHECK(!call.returned);
        CHECK_EQ(write(pipe_ends[1], "x", 1), 1);
        finish(task);
        CHECK_EQ(call.result, POLLIN);
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        int fd = eventfd(0, EFD_CLOEXEC);
        CHECK_EQ(fd, pipe_ends[0]);
        CHECK_EQ(naru_poll_fd(fd, POLLIN, NARU_US(1)), -ETIMEDOUT);
        close(fd);
    }
}

TASK_TEST(several_may_poll_one_descriptor_and_all_are_told)
{
    int pair[2];
    struct call calls[4];
    naru_task *tasks[4];
    stream_pair(pair);
    for (int i = 0; i < 4; i++) {
        calls[i] = polling(pair[0], POLLIN);
        tasks[i] = start_waiting(call_poll, &calls[i]);
    }
    CHECK_EQ(send(pair[1], "x", 1, 0), 1);
    for (int i = 0; i < 4; i++) {
        finish(tasks[i]);
        CHECK_EQ(calls[i].result, POLLIN);
        CHECK_EQ(calls[i].order, calls[0].order + i);
    }
    CHECK_EQ(registrations_of(pair[0]), 0);
    close_pair(pair);
}

TASK_TEST(poll_and_recv_can_wait_on_one_descriptor)
{
    int pair[2];
    stream_pair(pair);
    struct call poll_call = polling(pair[0], POLLIN), recv_call = {.fd = pair[0]};
    naru_task *poller = start_waiting(call_poll, &poll_call), *reader = start_waiting(call_recv, &recv_call);
    CHECK_EQ(send(pair[1], "x", 1, 0), 1);
    finish(reader);
    CHECK_EQ(recv_call.result, 1);
    finish(poller);
    CHECK_EQ(poll_call.result, POLLIN);
    close_pair(pair);
}

TEST(outside_a_task_it_is_eperm)
{
    CHECK_EQ(naru_poll_fd(0, POLLIN, 0), -EPERM);
    CHECK_EQ(naru_poll_fd(0, POLLIN, NARU_FOREVER), -EPERM);
    CHECK_EQ(naru_poll_fd(-1, POLLIN, 0), -EPERM);
}
