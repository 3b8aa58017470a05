/* Sockets: send and receive in all their forms, accept, connect, descriptors on their way to another process. */
#include "test/io/io_test.h"

#include <sys/un.h>
#include <sys/wait.h>

/* ---- recv and send ---- */

TASK_TEST(recv_waits_for_data_and_takes_what_is_there)
{
    int pair[2];
    struct call call = {0};
    tcp_pair(pair);
    call.fd = pair[1];
    naru_task *task = start_waiting(call_recv, &call);
    CHECK_EQ(naru_send(pair[0], "hello", 5, 0), 5);
    finish(task);
    CHECK_EQ(call.result, 5);
    CHECK_EQ(memcmp(call.buffer, "hello", 5), 0);
    close_pair(pair);
}

TASK_TEST(recv_gives_the_rest_and_then_zero_when_the_peer_has_closed)
{
    int pair[2];
    char buffer[8];
    tcp_pair(pair);
    CHECK_EQ(naru_send(pair[0], "rest", 4, 0), 4);
    CHECK_EQ(naru_close(pair[0]), 0);
    CHECK_EQ(naru_recv(pair[1], buffer, 3, 0), 3);
    CHECK_EQ(naru_recv(pair[1], buffer, 8, 0), 1);
    CHECK_EQ(naru_recv(pair[1], buffer, 8, 0), 0);
    CHECK_EQ(naru_recv(pair[1], buffer, 8, 0), 0);
    CHECK_EQ(naru_close(pair[1]), 0);
}

TASK_TEST(a_half_closed_peer_still_gets_an_answer)
{
    int pair[2];
    struct call call = {0};
    char buffer[8];
    tcp_pair(pair);
    call.fd = pair[1];
    naru_task *task = start_waiting(call_recv, &call);
    CHECK_EQ(naru_send(pair[0], "ask", 3, 0), 3);
    CHECK_EQ(shutdown(pair[0], SHUT_WR), 0);
    finish(task);
    CHECK_EQ(call.result, 3);
    CHECK_EQ(naru_recv(pair[1], buffer, sizeof buffer, 0), 0);
    CHECK_EQ(naru_send(pair[1], "answer", 6, 0), 6);
    CHECK_EQ(naru_recv(pair[0], buffer, sizeof buffer, 0), 6);
    close_pair(pair);
}

TASK_TEST(a_reset_wakes_the_reader_with_econnreset)
{
    int pair[2];
    struct call call = {0};
    tcp_pair(pair);
    call.fd = pair[1];
    naru_task *task = start_waiting(call_recv, &call);
    struct linger at_once = {.l_onoff = 1};
    CHECK_EQ(setsockopt(pair[0], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    CHECK_EQ(naru_close(pair[0]), 0);
    finish(task);
    CHECK_EQ(call.result, -ECONNRESET);
    CHECK_EQ(naru_close(pair[1]), 0);
}

TASK_TEST(recv_takes_the_flags_of_recv)
{
    int pair[2];
    char buffer[8];
    tcp_pair(pair);
    CHECK_EQ(naru_send(pair[0], "abcd", 4, 0), 4);
    CHECK_EQ(naru_recv(pair[1], buffer, 2, MSG_PEEK), 2);
    CHECK_EQ(naru_recv(pair[1], buffer, 8, MSG_PEEK), 4);
    CHECK_EQ(naru_recv(pair[1], buffer, 8, 0), 4);
    CHECK_EQ(naru_recv(pair[1], buffer, 8, MSG_OOB), -EINVAL);
    close_pair(pair);
}

TASK_TEST(a_short_peek_does_not_make_the_next_recv_wait)
{
    int pair[2];
    struct call call = {0};
    char buffer[8];
    tcp_pair(pair);
    call.fd = pair[1];
    call.size = 2;
    naru_task *task = start_waiting(call_recv, &call);
    CHECK_EQ(naru_send(pair[0], "abcd", 4, 0), 4);
    finish(task);
    CHECK_EQ(naru_recv(pair[1], buffer, 8, MSG_PEEK), 2);
    CHECK_EQ(naru_recv(pair[1], buffer, 8, 0), 2);
    close_pair(pair);
}

TASK_TEST(dontwait_is_the_one_way_to_eagain)
{
    int pair[2];
    char buffer[8] = {0};
    struct iovec part = {buffer, sizeof buffer};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    tcp_pair(pair);
    CHECK_EQ(naru_recv(pair[0], buffer, 8, MSG_DONTWAIT), -EAGAIN);
    CHECK_EQ(naru_recvmsg(pair[0], &message, MSG_DONTWAIT), -EAGAIN);
    CHECK_GT(stuff(pair[0]), 0);
    CHECK_EQ(naru_send(pair[0], "x", 1, MSG_DONTWAIT), -EAGAIN);
    CHECK_EQ(naru_sendmsg(pair[0], &message, MSG_DONTWAIT), -EAGAIN);
    close_pair(pair);
}

TASK_TEST(dontwait_looks_also_after_a_short_read)
{
    int pair[2];
    struct call call = {0};
    char buffer[8];
    tcp_pair(pair);
    call.fd = pair[1];
    naru_task *task = start_waiting(call_recv, &call);
    CHECK_EQ(naru_send(pair[0], "abc", 3, 0), 3);
    finish(task);
    CHECK_EQ(naru_recv(pair[1], buffer, 8, MSG_DONTWAIT), -EAGAIN);
    CHECK_EQ(send(pair[0], "de", 2, 0), 2);
    CHECK_EQ(naru_recv(pair[1], buffer, 8, MSG_DONTWAIT), 2);
    close_pair(pair);
}

TASK_TEST(send_waits_until_there_is_room)
{
    int pair[2];
    struct call call = {0};
    static char buffer[1 << 20];
    tcp_pair(pair);
    size_t stuffed = stuff(pair[0]), got = 0;
    call.fd = pair[0];
    naru_task *task = start_waiting(call_send, &call);
    while (got < stuffed + 1) {
        ssize_t n = naru_recv(pair[1], buffer, sizeof buffer, 0);
        CHECK_GT(n, 0);
        got += (size_t)n;
    }
    finish(task);
    CHECK_EQ(call.result, 1);
    CHECK_EQ(got, stuffed + 1);
    close_pair(pair);
}

TASK_TEST(reader_and_writer_of_one_socket_wait_independently)
{
    int pair[2];
    struct call reading = {0}, writing = {0};
    tcp_pair(pair);
    stuff(pair[0]);
    reading.fd = writing.fd = pair[0];
    naru_task *reader = start_waiting(call_recv, &reading);
    naru_task *writer = start_waiting(call_send, &writing);
    CHECK_EQ(naru_send(pair[1], "r", 1, 0), 1);
    finish(reader);
    CHECK(!writing.returned);
    static char buffer[1 << 20];
    while (!writing.returned) {
        CHECK_GT(naru_recv(pair[1], buffer, sizeof buffer, 0), 0);
        CHECK_EQ(naru_yield(), 0);
    }
    finish(writer);
    CHECK_EQ(writing.result, 1);
    close_pair(pair);
}

TASK_TEST(sending_to_a_peer_that_has_gone_is_epipe_and_no_signal)
{
    int pair[2];
    struct iovec part = {(char[]){"x"}, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    stream_pair(pair);
    CHECK_EQ(naru_close(pair[1]), 0);
    CHECK_EQ(naru_send(pair[0], "x", 1, 0), -EPIPE);
    CHECK_EQ(naru_send_all(pair[0], "x", 1), -EPIPE);
    CHECK_EQ(naru_sendmsg(pair[0], &message, 0), -EPIPE);
    CHECK_EQ(naru_write(pair[0], "x", 1), -EPIPE);
    CHECK_EQ(naru_writev(pair[0], &part, 1), -EPIPE);
    CHECK_EQ(naru_close(pair[0]), 0);
}

TASK_TEST(a_waiting_sender_is_woken_with_an_error_when_the_peer_goes)
{
    int pair[2];
    struct call call = {0};
    stream_pair(pair);
    stuff(pair[0]);
    call.fd = pair[0];
    naru_task *task = start_waiting(call_send, &call);
    CHECK_EQ(naru_close(pair[1]), 0);
    finish(task);
    CHECK(call.result == -EPIPE || call.result == -ECONNRESET);
    CHECK_EQ(naru_close(pair[0]), 0);
}

TASK_TEST(a_datagram_that_is_empty_is_received_as_zero_bytes)
{
    int pair[2];
    char buffer[8];
    CHECK_EQ(naru_socketpair(AF_UNIX, SOCK_DGRAM, pair), 0);
    CHECK_EQ(naru_send(pair[0], "", 0, 0), 0);
    CHECK_EQ(naru_send(pair[0], "abcdef", 6, 0), 6);
    CHECK_EQ(naru_recv(pair[1], buffer, sizeof buffer, 0), 0);
    CHECK_EQ(naru_recv(pair[1], buffer, 3, 0), 3); /* the rest of a datagram is lost, as ever */
    CHECK_EQ(naru_recv(pair[1], buffer, 3, MSG_DONTWAIT), -EAGAIN);
    close_pair(pair);
}

TASK_TEST(datagrams_that_came_together_are_received_one_by_one)
{
    int pair[2];
    struct call call = {0};
    char buffer[64];
    CHECK_EQ(naru_socketpair(AF_UNIX, SOCK_DGRAM, pair), 0);
    call.fd = pair[1];
    naru_task *task = start_waiting(call_recv, &call);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(send(pair[0], "abc", (size_t)i + 1, 0), i + 1);
    finish(task);
    CHECK_EQ(call.result, 1);
    CHECK_EQ(naru_recv(pair[1], buffer, sizeof buffer, 0), 2);
    CHECK_EQ(naru_recv(pair[1], buffer, sizeof buffer, 0), 3);
    close_pair(pair);
}

/* ---- send_all ---- */

enum { BULK = 10 << 20 };

static unsigned char pattern(size_t at)
{
    return (unsigned char)(at * 31 + (at >> 8) * 7);
}

struct bulk {
    int fd;
    size_t size, got;
    bool slow;
};

static int receive_bulk(void *arg)
{
    struct bulk *bulk = arg;
    static unsigned char buffer[40000];
    for (int round = 0; bulk->got < bulk->size; round++) {
        ssize_t n = naru_recv(bulk->fd, buffer, sizeof buffer, 0);
        CHECK_GT(n, 0);
        for (ssize_t i = 0; i < n; i++)
            if (buffer[i] != pattern(bulk->got + (size_t)i))
                CHECK_EQ(buffer[i], pattern(bulk->got + (size_t)i));
        bulk->got += (size_t)n;
        if (bulk->slow && round % 16 == 0)
            CHECK_EQ(naru_sleep(NARU_US(100)), 0);
    }
    return 0;
}

static void send_bulk(const int pair[2], int small)
{
    struct bulk bulk = {.fd = pair[1], .size = (size_t)scaled(BULK), .slow = true};
    unsigned char *data = malloc(bulk.size);
    CHECK(data != NULL);
    for (size_t i = 0; i < bulk.size; i++)
        data[i] = pattern(i);
    CHECK_EQ(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    CHECK_EQ(setsockopt(pair[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    naru_task *receiver = naru_spawn(receive_bulk, &bulk);
    CHECK_EQ(naru_send_all(pair[0], data, bulk.size), bulk.size);
    finish(receiver);
    CHECK_EQ(bulk.got, bulk.size);
    free(data);
    close_pair(pair);
}

TASK_TEST_SLOW(send_all_brings_ten_megabytes_through_small_buffers_of_tcp, 60)
{
    int pair[2];
    tcp_pair(pair);
    send_bulk(
        pair,
        1 << 18); /* with windows of a few segments the kernel's own timers make it crawl, also without naru */
}

TASK_TEST_SLOW(send_all_brings_ten_megabytes_through_small_buffers_of_a_unix_socket, 60)
{
    int pair[2];
    stream_pair(pair);
    send_bulk(pair, 8192);
}

TASK_TEST(send_all_of_nothing_is_zero)
{
    int pair[2];
    stream_pair(pair);
    CHECK_EQ(naru_send_all(pair[0], NULL, 0), 0);
    close_pair(pair);
}

static int send_all_megabyte(void *arg)
{
    struct call *call = arg;
    static char data[1 << 20];
    call->started = true;
    return note(call, naru_send_all(call->fd, data, sizeof data));
}

TASK_TEST(send_all_can_be_cancelled_in_the_middle)
{
    int pair[2];
    struct call call = {0};
    stream_pair(pair);
    call.fd = pair[0];
    naru_task *task = start_waiting(send_all_megabyte, &call);
    CHECK(naru_cancel(task));
    finish(task);
    CHECK_EQ(call.result, -ECANCELED);
    close_pair(pair);
}

TASK_TEST(send_all_stops_with_the_error_when_the_peer_goes_in_the_middle)
{
    int pair[2];
    struct call call = {0};
    stream_pair(pair);
    call.fd = pair[0];
    naru_task *task = start_waiting(send_all_megabyte, &call);
    CHECK_EQ(naru_close(pair[1]), 0);
    finish(task);
    CHECK(call.result == -EPIPE || call.result == -ECONNRESET);
    CHECK_EQ(naru_close(pair[0]), 0);
}

/* ---- sendmsg and recvmsg ---- */

TASK_TEST(sendmsg_gathers_and_recvmsg_scatters)
{
    int pair[2];
    char a[3], b[8];
    struct iovec out[] = {{(char[]){"abc"}, 3}, {(char[]){"defg"}, 4}}, in[] = {{a, 3}, {b, 8}};
    struct msghdr sent = {.msg_iov = out, .msg_iovlen = 2}, received = {.msg_iov = in, .msg_iovlen = 2};
    stream_pair(pair);
    CHECK_EQ(naru_sendmsg(pair[0], &sent, 0), 7);
    CHECK_EQ(naru_recvmsg(pair[1], &received, 0), 7);
    CHECK_EQ(memcmp(a, "abc", 3), 0);
    CHECK_EQ(memcmp(b, "defg", 4), 0);
    close_pair(pair);
}

union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

static void send_descriptor(int socket, int fd, const char *text)
{
    union control control = {0};
    struct iovec part = {(char *)(uintptr_t)text, strlen(text)};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header =
        (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    CHECK_EQ(naru_sendmsg(socket, &message, 0), strlen(text));
}

static int receive_descriptor(int socket, char *text, size_t size)
{
    union control control;
    struct iovec part = {text, size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    CHECK_GT(naru_recvmsg(socket, &message, 0), 0);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    CHECK(header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int)));
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

static int receive_descriptor_task(void *arg)
{
    struct call *call = arg;
    call->started = true;
    return note(call, receive_descriptor(call->fd, call->buffer, sizeof call->buffer));
}

TASK_TEST(a_passed_descriptor_arrives_close_on_exec_and_works)
{
    int pair[2], pipe_ends[2];
    struct call call = {0};
    char buffer[4];
    stream_pair(pair);
    CHECK_EQ(naru_pipe(pipe_ends), 0);
    call.fd = pair[1];
    naru_task *task = start_waiting(receive_descriptor_task, &call);
    send_descriptor(pair[0], pipe_ends[1], "take it");
    finish(task);
    int fd = (int)call.result;
    CHECK_GE(fd, 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(naru_write(fd, "abc", 3), 3);
    CHECK_EQ(naru_read(pipe_ends[0], buffer, 4), 3);
    CHECK_EQ(naru_close(fd), 0);
    close_pair(pipe_ends);
    close_pair(pair);
}

/* A recv stops short at a message that carries descriptors, although there is more to come; so shortness alone does not
 * say that a Unix socket is empty. */
TASK_TEST(what_follows_a_passed_descriptor_is_received_without_another_event)
{
    int pair[2];
    struct call call = {0};
    char buffer[64];
    naru_timeout t;
    stream_pair(pair);
    call.fd = pair[1];
    naru_task *task = start_waiting(call_recv, &call);
    send_descriptor(pair[0], 0, "first");
    CHECK_EQ(naru_send(pair[0], "second", 6, 0), 6);
    finish(task);
    CHECK_EQ(call.result, 5);
    CHECK_EQ(naru_timeout_begin(&t, NARU_SEC(2)), 0);
    CHECK_EQ(naru_timeout_end(&t, (int)naru_recv(pair[1], buffer, sizeof buffer, 0)), 6);
    close_pair(pair);
}

/* The same with credentials: messages of different senders are not glued together. */
TASK_TEST(what_follows_a_message_of_another_sender_is_received_without_another_event)
{
    int pair[2];
    struct call call = {0};
    char buffer[64];
    naru_timeout t;
    stream_pair(pair);
    CHECK_EQ(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)), 0);
    call.fd = pair[1];
    naru_task *task = start_waiting(call_recv, &call);
    pid_t child = fork();
    if (child == 0)
        _exit(send(pair[0], "first", 5, 0) != 5);
    siginfo_t info;
    CHECK_EQ(waitid(P_PID, (id_t)child, &info, WEXITED), 0);
    CHECK_EQ(info.si_status, 0);
    CHECK_EQ(send(pair[0], "second", 6, 0), 6);
    finish(task);
    CHECK_EQ(call.result, 5);
    CHECK_EQ(naru_timeout_begin(&t, NARU_SEC(2)), 0);
    CHECK_EQ(naru_timeout_end(&t, (int)naru_recv(pair[1], buffer, sizeof buffer, 0)), 6);
    close_pair(pair);
}

TASK_TEST(urgent_data_does_not_hide_what_follows_it)
{
    int pair[2];
    struct call call = {0};
    char buffer[64];
    size_t got = 0;
    naru_timeout t;
    tcp_pair(pair);
    call.fd = pair[1];
    naru_task *task = start_waiting(call_recv, &call);
    CHECK_EQ(send(pair[0], "one", 3, 0), 3);
    CHECK_EQ(send(pair[0], "!", 1, MSG_OOB), 1);
    CHECK_EQ(send(pair[0], "three", 5, 0), 5);
    finish(task);
    got = (size_t)call.result;
    CHECK_EQ(naru_timeout_begin(&t, NARU_SEC(2)), 0);
    while (got < 8) {
        ssize_t n = naru_recv(pair[1], buffer, sizeof buffer, 0);
        CHECK_GT(n, 0);
        got += (size_t)n;
    }
    CHECK_EQ(naru_timeout_end(&t, 0), 0);
    CHECK_EQ(got, 8);
    close_pair(pair);
}

/* ---- accept and connect ---- */

TASK_TEST(accept_waits_and_tells_who_it_is)
{
    int port, fd, listener = listen_anywhere(&port);
    struct call call = {.fd = listener};
    naru_task *task = start_waiting(call_accept, &call);
    CHECK_EQ(naru_tcp_connect("127.0.0.1", (uint16_t)port, &fd), 0);
    finish(task);
    CHECK_GE(call.result, 0);
    CHECK_EQ(naru_close((int)call.result), 0);
    CHECK_EQ(naru_close(fd), 0);

    struct sockaddr_in address = {0};
    socklen_t size = sizeof address;
    CHECK_EQ(naru_tcp_connect("127.0.0.1", (uint16_t)port, &fd), 0);
    int accepted = naru_accept(listener, (struct sockaddr *)&address, &size);
    CHECK_EQ(size, sizeof address);
    CHECK_EQ(ntohs(address.sin_port), naru_local_port(fd));
    close_pair((int[]){fd, accepted});
    CHECK_EQ(naru_close(listener), 0);
}

TASK_TEST(accept_without_a_free_descriptor_is_emfile_at_once_every_time)
{
    if (test_runs_in("valgrind"))
        SKIP("Valgrind accepts, closes what it got, and then says EMFILE");
    int port, fd, listener = listen_anywhere(&port);
    struct rlimit limit, tight;
    CHECK_EQ(naru_tcp_connect("127.0.0.1", (uint16_t)port, &fd), 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    tight = (struct rlimit){.rlim_cur = 3, .rlim_max = limit.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(naru_accept(listener, NULL, NULL), -EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int accepted = naru_accept(listener, NULL, NULL);
    CHECK_GE(accepted, 0);
    close_pair((int[]){fd, accepted});
    CHECK_EQ(naru_close(listener), 0);
}

TASK_TEST(accepting_tasks_are_served_in_the_order_they_came)
{
    enum { TASKS = 5 };
    int port, fds[TASKS], listener = listen_anywhere(&port);
    struct call calls[TASKS] = {{0}};
    naru_task *tasks[TASKS];
    for (int i = 0; i < TASKS; i++) {
        calls[i].fd = listener;
        tasks[i] = start_waiting(call_accept, &calls[i]);
    }
    for (int i = 0; i < TASKS; i++) {
        CHECK_EQ(naru_tcp_connect("127.0.0.1", (uint16_t)port, &fds[i]), 0);
        let_others_run();
        for (int k = 0; k < TASKS; k++)
            CHECK_EQ(calls[k].returned, k <= i);
    }
    for (int i = 0; i < TASKS; i++) {
        finish(tasks[i]);
        CHECK_EQ(calls[i].order, calls[0].order + i);
        close_pair((int[]){fds[i], (int)calls[i].result});
    }
    CHECK_EQ(naru_close(listener), 0);
}

struct taker {
    int listener;
    int taken;
};

static int take_all(void *arg)
{
    struct taker *taker = arg;
    for (;;) {
        int fd = naru_accept(taker->listener, NULL, NULL);
        if (fd < 0)
            return fd;
        taker->taken++;
        CHECK_EQ(naru_close(fd), 0);
    }
}

/* Who has just been served queues up behind those who wait. */
TASK_TEST(tasks_that_accept_in_loops_take_turns_when_many_connections_come_at_once)
{
    enum { TAKERS = 4, ROUNDS = 5 };
    int port, fds[TAKERS * ROUNDS], listener = listen_anywhere(&port);
    struct taker takers[TAKERS];
    naru_task *tasks[TAKERS];
    for (int i = 0; i < TAKERS; i++) {
        takers[i] = (struct taker){listener, 0};
        tasks[i] = naru_spawn(take_all, &takers[i]);
    }
    let_others_run();
    for (size_t i = 0; i < COUNT(fds); i++) { /* nobody runs meanwhile */
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK_EQ(connect(fds[i], (struct sockaddr *)&address, sizeof address), 0);
    }
    for (int taken = 0; taken < TAKERS * ROUNDS;) {
        CHECK_EQ(naru_yield(), 0);
        taken = 0;
        for (int i = 0; i < TAKERS; i++)
            taken += takers[i].taken;
    }
    for (int i = 0; i < TAKERS; i++)
        CHECK_EQ(takers[i].taken, ROUNDS);
    CHECK_EQ(naru_cancel_all(tasks, TAKERS), 0);
    naru_release_all(tasks, TAKERS);
    for (size_t i = 0; i < COUNT(fds); i++)
        CHECK_EQ(close(fds[i]), 0);
    CHECK_EQ(naru_close(listener), 0);
}

TASK_TEST(who_waits_is_served_before_who_comes_later)
{
    int pair[2];
    struct call first = {0};
    char buffer[4];
    stream_pair(pair);
    first.fd = pair[1];
    first.size = 1;
    naru_task *task = start_waiting(call_recv, &first);
    CHECK_EQ(send(pair[0], "ab", 2, 0), 2);
    CHECK_EQ(naru_recv(pair[1], buffer, 1, 0), 1);
    finish(task);
    CHECK_EQ(first.buffer[0], 'a');
    CHECK_EQ(buffer[0], 'b');
    close_pair(pair);
}

TASK_TEST(connect_to_a_unix_socket_and_accept_there)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); /* blocking: accept changes that */
    socklen_t size = sizeof address;
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)),
             0); /* a name of the system's choice */
    CHECK_EQ(listen(listener, 0), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    struct call call = {.fd = listener};
    naru_task *task = start_waiting(call_accept, &call);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(naru_connect(fd, (struct sockaddr *)&address, size), 0);
    finish(task);
    CHECK_EQ(naru_send((int)call.result, "x", 1, 0), 1);
    CHECK_EQ(naru_recv(fd, call.buffer, 8, 0), 1);
    close_pair((int[]){fd, (int)call.result});

    int fds[8], count = 0, rc = 0;
    while (count < 8 && rc == 0) {
        fds[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        rc = naru_connect(fds[count++], (struct sockaddr *)&address, size);
    }
    CHECK_EQ(rc, -ENOBUFS); /* the queue is full */
    while (count > 0)
        CHECK_EQ(naru_close(fds[--count]), 0);
    CHECK_EQ(naru_close(listener), 0);
}

TASK_TEST(connect_says_what_connect_says)
{
    int pair[2], fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(1)};
    struct sockaddr_un nowhere = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(naru_connect(fd, (struct sockaddr *)&address, 3), -EINVAL);
    CHECK_EQ(naru_connect(fd, (struct sockaddr *)&address, sizeof address), -ECONNREFUSED);
    CHECK_EQ(naru_close(fd), 0);
    tcp_pair(pair);
    CHECK_EQ(naru_connect(pair[1], (struct sockaddr *)&address, sizeof address), -EISCONN);
    close_pair(pair);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(naru_connect(fd, (struct sockaddr *)&nowhere, sizeof nowhere), -ENOENT);
    CHECK_EQ(naru_close(fd), 0);
}

TASK_TEST(a_socketpair_is_close_on_exec_and_non_blocking)
{
    const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    for (size_t i = 0; i < COUNT(types); i++) {
        int pair[2];
        CHECK_EQ(naru_socketpair(AF_UNIX, types[i], pair), 0);
        for (int k = 0; k < 2; k++) {
            CHECK(fcntl(pair[k], F_GETFD) & FD_CLOEXEC);
            CHECK(fcntl(pair[k], F_GETFL) & O_NONBLOCK);
        }
        close_pair(pair);
    }
    int pair[2];
    if (!test_runs_in("qemu")) /* it takes 99 for 3 */
        CHECK_EQ(naru_socketpair(AF_UNIX, 99, pair), -EINVAL);
    CHECK_EQ(naru_socketpair(12345, SOCK_STREAM, pair), -EAFNOSUPPORT);
}

/* ---- what cannot be ---- */

TASK_TEST(bad_descriptors_and_wrong_kinds_are_errors)
{
    const int bad[] = {-1, INT32_MIN, 1000000};
    int pair[2], pipe_ends[2];
    char buffer[8] = {0};
    struct iovec part = {buffer, sizeof buffer};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct sockaddr_in address = {.sin_family = AF_INET};
    for (size_t i = 0; i < COUNT(bad); i++) {
        CHECK_EQ(naru_recv(bad[i], buffer, 8, 0), -EBADF);
        CHECK_EQ(naru_send(bad[i], buffer, 8, 0), -EBADF);
        CHECK_EQ(naru_send_all(bad[i], buffer, 8), -EBADF);
        CHECK_EQ(naru_recvmsg(bad[i], &message, 0), -EBADF);
        CHECK_EQ(naru_sendmsg(bad[i], &message, 0), -EBADF);
        CHECK_EQ(naru_accept(bad[i], NULL, NULL), -EBADF);
        CHECK_EQ(naru_connect(bad[i], (struct sockaddr *)&address, sizeof address), -EBADF);
    }
    CHECK_EQ(naru_pipe(pipe_ends), 0);
    CHECK_EQ(naru_recv(pipe_ends[0], buffer, 8, 0), -ENOTSOCK);
    CHECK_EQ(naru_send(pipe_ends[1], buffer, 8, 0), -ENOTSOCK);
    CHECK_EQ(naru_accept(pipe_ends[0], NULL, NULL), -ENOTSOCK);
    CHECK_EQ(naru_connect(pipe_ends[0], (struct sockaddr *)&address, sizeof address), -ENOTSOCK);
    close_pair(pipe_ends);
    tcp_pair(pair);
    CHECK_EQ(naru_accept(pair[0], NULL, NULL), -EINVAL);
    if (!under_valgrind())
        CHECK_EQ(naru_send(pair[0], NULL, 8, 0), -EFAULT);
    if (!under_valgrind())
        CHECK_EQ(naru_sendmsg(pair[0], &(struct msghdr){.msg_iov = NULL, .msg_iovlen = 1}, 0), -EFAULT);
    if (!under_valgrind())
        CHECK_EQ(naru_sendmsg(pair[0], &(struct msghdr){.msg_iov = &part, .msg_iovlen = SIZE_MAX}, 0),
                 -EMSGSIZE);
    close_pair(pair);
}

TEST(outside_a_task_every_call_is_eperm)
{
    int pair[2];
    char buffer[8] = {0};
    struct iovec part = {buffer, sizeof buffer};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CHECK_EQ(naru_socketpair(AF_UNIX, SOCK_STREAM, pair), 0); /* does not suspend: works anywhere */
    CHECK_EQ(naru_recv(pair[0], buffer, 8, 0), -EPERM);
    CHECK_EQ(naru_send(pair[0], buffer, 8, 0), -EPERM);
    CHECK_EQ(naru_send_all(pair[0], buffer, 8), -EPERM);
    CHECK_EQ(naru_send_all(pair[0], buffer, 0), -EPERM);
    CHECK_EQ(naru_recvmsg(pair[0], &message, 0), -EPERM);
    CHECK_EQ(naru_sendmsg(pair[0], &message, 0), -EPERM);
    CHECK_EQ(naru_accept(pair[0], NULL, NULL), -EPERM);
    CHECK_EQ(naru_connect(pair[0], (struct sockaddr *)&address, sizeof address), -EPERM);
    CHECK_EQ(recv(pair[1], buffer, 8, MSG_DONTWAIT), -1); /* nothing was sent */
    close_pair(pair);
}
