/* naru_close: who waits is woken, and a number that is used again at once means the new file only. */
#include "test/io/io_test.h"

static void check_woken_by_close(int fd, naru_fn *fn, short events)
{
    struct call call = {.fd = fd, .events = events};
    naru_task *task = start_waiting(fn, &call);
    CHECK_EQ(naru_close(fd), 0);
    CHECK(!is_open(fd));
    finish(task);
    CHECK_EQ(call.result, -EBADF);
}

TASK_TEST(close_wakes_a_waiting_recv)
{
    int pair[2];
    tcp_pair(pair);
    check_woken_by_close(pair[0], call_recv, 0);
    CHECK_EQ(naru_close(pair[1]), 0);
}

TASK_TEST(close_wakes_a_waiting_send)
{
    int pair[2];
    tcp_pair(pair);
    stuff(pair[0]);
    check_woken_by_close(pair[0], call_send, 0);
    CHECK_EQ(naru_close(pair[1]), 0);
}

TASK_TEST(close_wakes_a_waiting_accept)
{
    int port;
    check_woken_by_close(listen_anywhere(&port), call_accept, 0);
}

TASK_TEST(close_wakes_waiting_reads_and_writes_on_pipes)
{
    int pipe_ends[2];
    CHECK_EQ(naru_pipe(pipe_ends), 0);
    check_woken_by_close(pipe_ends[0], call_read, 0);
    CHECK_EQ(naru_close(pipe_ends[1]), 0);
    CHECK_EQ(naru_pipe(pipe_ends), 0);
    stuff(pipe_ends[1]);
    check_woken_by_close(pipe_ends[1], call_write, 0);
    CHECK_EQ(naru_close(pipe_ends[0]), 0);
}

TASK_TEST(close_wakes_a_waiting_poll)
{
    int pair[2];
    tcp_pair(pair);
    check_woken_by_close(pair[0], call_poll, POLLIN);
    CHECK_EQ(naru_close(pair[1]), 0);
}

static int connect_there(void *arg)
{
    struct call *call = arg;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)call->events)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    call->started = true;
    return note(call, naru_connect(call->fd, (struct sockaddr *)&address, sizeof address));
}

TASK_TEST(close_wakes_a_waiting_connect)
{
    int port, fill[FILL], listener = full_listener(&port, fill);
    check_woken_by_close(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), connect_there, (short)port);
    for (int i = 0; i < FILL; i++)
        close(fill[i]);
    close(listener);
}

TASK_TEST(close_wakes_all_who_wait_and_in_their_order)
{
    enum { TASKS = 8 };
    int pair[2];
    struct call calls[TASKS] = {{0}};
    naru_task *tasks[TASKS];
    tcp_pair(pair);
    stuff(pair[0]);
    for (int i = 0; i < TASKS; i++) {
        calls[i] = (struct call){.fd = pair[0], .events = POLLIN};
        tasks[i] = start_waiting(i % 3 == 0 ? call_recv : i % 3 == 1 ? call_send : call_poll, &calls[i]);
    }
    CHECK_EQ(naru_close(pair[0]), 0);
    for (int i = 0; i < TASKS; i++) {
        finish(tasks[i]);
        CHECK_EQ(calls[i].result, -EBADF);
        CHECK_EQ(calls[i].order, calls[0].order + i);
    }
    CHECK_EQ(naru_close(pair[1]), 0);
}

/* Nobody runs between what comes in and the close. */
TASK_TEST(data_that_had_come_is_delivered_when_the_descriptor_is_closed)
{
    int pair[2];
    struct call first = {0}, second = {0};
    stream_pair(pair);
    first.fd = second.fd = pair[1];
    naru_task *one = start_waiting(call_recv, &first), *two = start_waiting(call_recv, &second);
    CHECK_EQ(send(pair[0], "abc", 3, 0), 3);
    CHECK_EQ(naru_close(pair[1]), 0);
    finish(one);
    finish(two);
    CHECK_EQ(first.result, 3);
    CHECK_EQ(memcmp(first.buffer, "abc", 3), 0);
    CHECK_EQ(second.result, -EBADF);
    CHECK_EQ(naru_close(pair[0]), 0);
}

TASK_TEST(a_connection_that_had_come_is_delivered_when_the_listener_is_closed)
{
    int port, listener = listen_anywhere(&port), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct call call = {.fd = listener};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    naru_task *task = start_waiting(call_accept, &call);
    CHECK_EQ(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(naru_close(listener), 0);
    finish(task);
    CHECK_GE(call.result, 0);
    close_pair((int[]){fd, (int)call.result});
}

TASK_TEST(events_that_had_come_are_delivered_when_the_descriptor_is_closed)
{
    int pair[2];
    struct call call = {.events = POLLIN};
    stream_pair(pair);
    call.fd = pair[1];
    naru_task *task = start_waiting(call_poll, &call);
    CHECK_EQ(send(pair[0], "abc", 3, 0), 3);
    CHECK_EQ(naru_close(pair[1]), 0);
    finish(task);
    CHECK_EQ(call.result, POLLIN);
    CHECK_EQ(naru_close(pair[0]), 0);
}

/* The old waiters wake when the number already means the new connection: they must not touch it. */
TASK_TEST(a_number_used_again_at_once_belongs_to_the_new_connection)
{
    int old[2], new[2];
    struct call waiting = {0}, call = {0};
    stream_pair(old);
    waiting.fd = old[0];
    naru_task *task = start_waiting(call_recv, &waiting);
    CHECK_EQ(naru_close(old[0]), 0);
    stream_pair(new);
    CHECK(new[0] == waiting.fd || new[1] == waiting.fd);
    int same = waiting.fd, peer = new[0] == same ? new[1] : new[0];
    CHECK_EQ(send(peer, "new", 3, 0), 3);
    finish(task);
    CHECK_EQ(waiting.result, -EBADF);
    CHECK_EQ(naru_recv(same, call.buffer, 8, 0), 3);
    call.fd = same;
    task = start_waiting(call_recv, &call);
    CHECK_EQ(naru_send(peer, "more", 4, 0), 4);
    finish(task);
    CHECK_EQ(call.result, 4);
    close_pair(new);
    CHECK_EQ(naru_close(old[1]), 0);
}

/* An event of the old file may be on its way when the number changes its meaning. */
TASK_TEST(numbers_used_again_over_and_over_never_lose_a_wake_up)
{
    for (int i = 0; i < scaled(2000); i++) {
        int pair[2];
        struct call call = {0};
        if (i % 3 == 0)
            CHECK_EQ(naru_pipe(pair), 0);
        else if (i % 3 == 1)
            stream_pair(pair);
        else
            tcp_pair(pair);
        call.fd = pair[i % 3 ? i & 1 : 0];
        int peer = pair[0] == call.fd ? pair[1] : pair[0];
        naru_task *task = naru_spawn(call_read, &call);
        CHECK_EQ(naru_yield(), 0);
        CHECK_EQ(naru_write(peer, "x", 1), 1);
        if (i % 2)
            CHECK_EQ(naru_yield(), 0);
        bool cancelled = i % 5 == 0 && naru_cancel(task);
        CHECK_EQ(naru_close(call.fd), 0);
        finish(task);
        CHECK(call.result == 1 || call.result == -EBADF || (cancelled && call.result == -ECANCELED));
        CHECK_EQ(naru_close(peer), 0);
    }
}

TASK_TEST(a_duplicate_keeps_the_file_open_and_the_closed_number_quiet)
{
    int pair[2];
    struct call call = {0};
    stream_pair(pair);
    call.fd = pair[0];
    naru_task *task = start_waiting(call_recv, &call);
    int copy = fcntl(pair[0], F_DUPFD_CLOEXEC, 200);
    CHECK_EQ(naru_close(pair[0]), 0);
    finish(task);
    CHECK_EQ(call.result, -EBADF);
    int other[2];
    stream_pair(other);
    struct call new_call = {.fd = other[0]};
    task = start_waiting(call_recv, &new_call);
    CHECK_EQ(naru_send(pair[1], "ghost", 5, 0), 5);
    let_others_run();
    CHECK(!new_call.returned);
    CHECK_EQ(naru_recv(copy, call.buffer, 8, 0), 5);
    CHECK_EQ(naru_send(other[1], "x", 1, 0), 1);
    finish(task);
    CHECK_EQ(new_call.result, 1);
    close_pair(other);
    close_pair((int[]){copy, pair[1]});
}

TASK_TEST(what_is_not_open_is_ebadf)
{
    int pair[2];
    CHECK_EQ(naru_close(-1), -EBADF);
    CHECK_EQ(naru_close(INT32_MIN), -EBADF);
    CHECK_EQ(naru_close(1000000), -EBADF);
    stream_pair(pair);
    close_pair(pair);
    CHECK_EQ(naru_close(pair[0]), -EBADF);
}

TASK_TEST(close_does_not_suspend_and_works_when_cancelled)
{
    int pair[2];
    stream_pair(pair);
    naru_cancel(naru_self());
    close_pair(pair);
    CHECK_EQ(naru_yield(), -ECANCELED);
}

TEST(outside_a_run_it_is_close)
{
    int pair[2];
    CHECK_EQ(naru_pipe(pair), 0);
    close_pair(pair);
    CHECK_EQ(naru_close(pair[0]), -EBADF);
    CHECK(!is_open(pair[1]));
}
