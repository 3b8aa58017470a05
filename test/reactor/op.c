/* Operations on descriptors that can be waited for: each kind, its errors, and what cancelling does. */
#include "test/reactor/common.h"

#include <sys/eventfd.h>
#include <sys/un.h>

static naru_loop *loop;
static char buffer[64];

/* ---- at once, and after waiting ---- */

TEST(an_operation_that_need_not_wait_is_still_done_from_the_loop)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    naru_op op;
    struct outcome outcome;
    loop = open_loop();
    put(pair.b, "hello", 5);
    naru_op_recv(&op, pair.a, buffer, sizeof buffer, 0);
    submit(loop, &op, &outcome); /* checks that done was not called inside */
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.calls, 1);
    CHECK_EQ(outcome.result, 5);
    CHECK_EQ(memcmp(buffer, "hello", 5), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static int write_end;

static void put_hello(void *arg)
{
    note(arg);
    put(write_end, "hello", 5);
}

/* Submits op when there is nothing yet; a timer then writes to `to`. */
static ssize_t result_after_hello(naru_op *op, int to)
{
    naru_timer timer = {0};
    write_end = to;
    naru_timer_after(loop, &timer, NARU_MS(1), put_hello, ARG(1));
    ssize_t result = result_of(loop, op);
    CHECK_JOURNAL(1);
    return result;
}

TEST(a_recv_waits_for_data)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    naru_op op;
    loop = open_loop();
    naru_op_recv(&op, pair.a, buffer, sizeof buffer, 0);
    CHECK_EQ(result_after_hello(&op, pair.b), 5);
    CHECK_EQ(memcmp(buffer, "hello", 5), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_read_waits_on_sockets_and_pipes)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    struct ends ends = make_pipe();
    naru_op op;
    loop = open_loop();
    naru_op_read(&op, pair.a, buffer, 2);
    CHECK_EQ(result_after_hello(&op, pair.b), 2);
    naru_op_read(&op, ends.read, buffer, sizeof buffer);
    CHECK_EQ(result_after_hello(&op, ends.write), 5);
    CHECK_EQ(memcmp(buffer, "hello", 5), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_readv_fills_its_parts_in_order)
{
    char first[2], second[8];
    struct iovec parts[2] = {{first, sizeof first}, {second, sizeof second}};
    struct pair pair = make_socketpair(SOCK_STREAM);
    struct ends ends = make_pipe();
    naru_op op;
    loop = open_loop();
    naru_op_readv(&op, pair.a, parts, 2);
    CHECK_EQ(result_after_hello(&op, pair.b), 5);
    CHECK_EQ(memcmp(second, "llo", 3), 0);
    naru_op_readv(&op, ends.read, parts, 2);
    CHECK_EQ(result_after_hello(&op, ends.write), 5);
    CHECK_EQ(memcmp(first, "he", 2), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(write_and_writev_give_what_they_wrote)
{
    struct iovec parts[2] = {{"he", 2}, {"llo", 3}};
    struct pair pair = make_socketpair(SOCK_STREAM);
    struct ends ends = make_pipe();
    const int to[2] = {pair.a, ends.write}, from[2] = {pair.b, ends.read};
    naru_op op;
    loop = open_loop();
    for (int i = 0; i < 2; i++) {
        naru_op_write(&op, to[i], "hello", 5);
        CHECK_EQ(result_of(loop, &op), 5);
        naru_op_writev(&op, to[i], parts, 2);
        CHECK_EQ(result_of(loop, &op), 5);
        CHECK_EQ(read(from[i], buffer, sizeof buffer), 10);
        CHECK_EQ(memcmp(buffer, "hellohello", 10), 0);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}

static size_t drain_total;

/* Takes out all there is now. */
static void drain(void *arg)
{
    static char sink[65536];
    ssize_t n;
    int fd = (int)(intptr_t)arg;
    while ((n = read(fd, sink, sizeof sink)) > 0)
        drain_total += (size_t)n;
}

TEST(send_and_write_wait_for_room)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    struct ends ends = make_pipe();
    const int to[3] = {pair.a, pair.a, ends.write}, from[3] = {pair.b, pair.b, ends.read};
    loop = open_loop();
    for (int i = 0; i < 3; i++) {
        naru_op op;
        naru_timer timer = {0};
        size_t filled = fill_up(to[i]);
        CHECK_EQ(fcntl(from[i], F_SETFL, O_NONBLOCK), 0);
        if (i == 0)
            naru_op_send(&op, to[i], "hello", 5, 0);
        else
            naru_op_write(&op, to[i], "hello", 5);
        drain_total = 0;
        naru_timer_after(loop, &timer, NARU_MS(1), drain, ARG(from[i]));
        CHECK_EQ(result_of(loop, &op), 5);
        drain(ARG(from[i]));
        CHECK_EQ(drain_total, filled + 5);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(sendmsg_and_recvmsg_carry_parts_and_descriptors)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    struct iovec part = {"x", 1}, into = {buffer, sizeof buffer};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    *CMSG_FIRSTHDR(&message) = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &pair.a, sizeof(int));
    naru_op sender, receiver;
    struct outcome sent, received;
    loop = open_loop();
    struct msghdr incoming = {
        .msg_iov = &into, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    naru_op_recvmsg(&receiver, pair.b, &incoming, 0);
    submit(loop, &receiver, &received); /* waits */
    naru_op_sendmsg(&sender, pair.a, &message, 0);
    submit(loop, &sender, &sent);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(sent.result, 1);
    CHECK_EQ(received.result, 1);
    CHECK(CMSG_FIRSTHDR(&incoming) != NULL);
    int passed;
    memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&incoming)), sizeof passed);
    CHECK_EQ(fcntl(passed, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(reading_an_eventfd_waits_for_its_count)
{
    naru_op op;
    uint64_t count = 0;
    naru_timer timer = {0};
    int fd = eventfd(0, EFD_CLOEXEC);
    loop = open_loop();
    write_end = fd;
    naru_op_read(&op, fd, &count, sizeof count);
    struct outcome outcome;
    submit(loop, &op, &outcome);
    one_round(loop);
    CHECK_EQ(outcome.calls, 0);
    put(fd, &(uint64_t){3}, 8);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.result, 8);
    CHECK_EQ(count, 3);
    CHECK(!naru_timer_stop(&timer));
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(end_of_file_is_a_result_of_0)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    struct ends ends = make_pipe();
    naru_op ops[2];
    struct outcome outcomes[2];
    loop = open_loop();
    naru_op_recv(&ops[0], pair.a, buffer, 1, 0);
    naru_op_read(&ops[1], ends.read, buffer, 1);
    submit(loop, &ops[0], &outcomes[0]);
    submit(loop, &ops[1], &outcomes[1]);
    one_round(loop);
    close(pair.b);
    close(ends.write);
    CHECK_EQ(naru_loop_run(loop), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(outcomes[i].calls, 1);
        CHECK_EQ(outcomes[i].result, 0);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_read_of_no_bytes_does_not_wait)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    struct ends ends = make_pipe();
    naru_op op;
    loop = open_loop();
    naru_op_read(&op, pair.a, buffer, 0);
    CHECK_EQ(result_of(loop, &op), 0);
    naru_op_read(&op, ends.read, buffer, 0);
    CHECK_EQ(result_of(loop, &op), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(msg_dontwait_gives_eagain_instead_of_waiting)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    struct iovec into = {buffer, sizeof buffer};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1};
    naru_op op;
    loop = open_loop();
    naru_op_recv(&op, pair.a, buffer, 1, MSG_DONTWAIT);
    CHECK_EQ(result_of(loop, &op), -EAGAIN);
    naru_op_recvmsg(&op, pair.a, &message, MSG_DONTWAIT);
    CHECK_EQ(result_of(loop, &op), -EAGAIN);
    fill_up(pair.a);
    naru_op_send(&op, pair.a, buffer, 1, MSG_DONTWAIT);
    CHECK_EQ(result_of(loop, &op), -EAGAIN);
    naru_op_sendmsg(&op, pair.a, &message, MSG_DONTWAIT);
    CHECK_EQ(result_of(loop, &op), -EAGAIN);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* ---- errors ---- */

TEST(a_descriptor_that_is_not_open_gives_ebadf)
{
    if (test_runs_in("qemu"))
        SKIP("qemu-user looks at a message before the descriptor");
    struct ends ends = make_pipe();
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct msghdr message = {0};
    const int bad[2] = {ends.read, -1};
    close(ends.read);
    loop = open_loop();
    ends.read = dup2(0, 900); /* the number of the pipe is the loop's now */
    close(900);
    for (int i = 0; i < 2; i++) {
        int fd = i == 0 ? 900 : bad[1];
        naru_op op;
        naru_op_recv(&op, fd, buffer, 1, 0);
        CHECK_EQ(result_of(loop, &op), -EBADF);
        naru_op_send(&op, fd, buffer, 1, 0);
        CHECK_EQ(result_of(loop, &op), -EBADF);
        naru_op_recvmsg(&op, fd, &message, 0);
        CHECK_EQ(result_of(loop, &op), -EBADF);
        naru_op_sendmsg(&op, fd, &message, 0);
        CHECK_EQ(result_of(loop, &op), -EBADF);
        naru_op_read(&op, fd, buffer, 1);
        CHECK_EQ(result_of(loop, &op), -EBADF);
        naru_op_write(&op, fd, buffer, 1);
        CHECK_EQ(result_of(loop, &op), -EBADF);
        naru_op_readv(&op, fd, NULL, 0);
        CHECK_EQ(result_of(loop, &op), -EBADF);
        naru_op_writev(&op, fd, NULL, 0);
        CHECK_EQ(result_of(loop, &op), -EBADF);
        naru_op_accept(&op, fd, NULL, NULL);
        CHECK_EQ(result_of(loop, &op), -EBADF);
        naru_op_connect(&op, fd, (struct sockaddr *)&address, sizeof address);
        CHECK_EQ(result_of(loop, &op), -EBADF);
        naru_op_poll(&op, fd, POLLIN);
        CHECK_EQ(result_of(loop, &op), -EBADF);
        naru_op_pread(&op, fd, buffer, 1, 0);
        CHECK_EQ(result_of(loop, &op), -EBADF);
        naru_op_pwrite(&op, fd, buffer, 1, 0);
        CHECK_EQ(result_of(loop, &op), -EBADF);
        naru_op_fsync(&op, fd);
        CHECK_EQ(result_of(loop, &op), -EBADF);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(socket_operations_on_a_pipe_give_enotsock)
{
    struct ends ends = make_pipe();
    naru_op op;
    loop = open_loop();
    naru_op_recv(&op, ends.read, buffer, 1, 0);
    CHECK_EQ(result_of(loop, &op), -ENOTSOCK);
    naru_op_send(&op, ends.write, buffer, 1, 0);
    CHECK_EQ(result_of(loop, &op), -ENOTSOCK);
    naru_op_accept(&op, ends.read, NULL, NULL);
    CHECK_EQ(result_of(loop, &op), -ENOTSOCK);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(reading_the_writing_end_gives_ebadf)
{
    struct ends ends = make_pipe();
    naru_op op;
    loop = open_loop();
    naru_op_read(&op, ends.write, buffer, 1);
    CHECK_EQ(result_of(loop, &op), -EBADF);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* SIGPIPE has its default action here: it would kill the test. */
TEST(writing_to_nobody_gives_epipe_and_no_signal)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    struct ends ends = make_pipe();
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    naru_op op;
    signal(SIGPIPE, SIG_DFL);
    close(pair.b);
    close(ends.read);
    loop = open_loop();
    naru_op_send(&op, pair.a, "x", 1, 0);
    CHECK_EQ(result_of(loop, &op), -EPIPE);
    naru_op_sendmsg(&op, pair.a, &message, 0);
    CHECK_EQ(result_of(loop, &op), -EPIPE);
    for (int i = 0; i < 2; i++) {
        int fd = i == 0 ? pair.a : ends.write;
        naru_op_write(&op, fd, "x", 1);
        CHECK_EQ(result_of(loop, &op), -EPIPE);
        naru_op_writev(&op, fd, &part, 1);
        CHECK_EQ(result_of(loop, &op), -EPIPE);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_writer_that_waits_gets_epipe_when_the_reader_goes)
{
    struct ends ends = make_pipe();
    naru_op op;
    struct outcome outcome;
    signal(SIGPIPE, SIG_DFL);
    fill_up(ends.write);
    loop = open_loop();
    naru_op_write(&op, ends.write, "x", 1);
    submit(loop, &op, &outcome);
    one_round(loop);
    close(ends.read);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.result, -EPIPE);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_sigpipe_that_was_pending_before_a_write_stays_pending)
{
    struct ends ends = make_pipe();
    naru_op op;
    sigset_t sigpipe, pending;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, NULL);
    CHECK_EQ(raise(SIGPIPE), 0);
    close(ends.read);
    loop = open_loop();
    naru_op_write(&op, ends.write, "x", 1);
    CHECK_EQ(result_of(loop, &op), -EPIPE);
    sigpending(&pending);
    CHECK(sigismember(&pending, SIGPIPE));
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* ---- accept and connect ---- */

TEST(accept_waits_and_gives_a_non_blocking_close_on_exec_socket_and_the_address)
{
    struct sockaddr_in address = {0}, peer = {0}, self_address = {0};
    socklen_t size = sizeof peer;
    naru_op accepting, connecting;
    struct outcome accepted, connected;
    int server = listener(&address);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    loop = open_loop();
    naru_op_accept(&accepting, server, (struct sockaddr *)&peer, &size);
    submit(loop, &accepting, &accepted);
    one_round(loop);
    naru_op_connect(&connecting, client, (struct sockaddr *)&address, sizeof address);
    submit(loop, &connecting, &connected);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(connected.result, 0);
    CHECK_GE(accepted.result, 0);
    CHECK_EQ(fcntl((int)accepted.result, F_GETFD), FD_CLOEXEC);
    CHECK(fcntl((int)accepted.result, F_GETFL) & O_NONBLOCK);
    CHECK_EQ(size, sizeof peer);
    socklen_t self_size = sizeof self_address;
    CHECK_EQ(getsockname(client, (struct sockaddr *)&self_address, &self_size), 0);
    CHECK_EQ(peer.sin_port, self_address.sin_port);
    CHECK_EQ(naru_loop_close(loop), 0);
}

enum { CLIENTS = 100 };
static naru_op accepting;
static int accepted_count, listening;

static void accept_next(naru_op *op)
{
    CHECK_GE(op->result, 0);
    close((int)op->result);
    if (++accepted_count < CLIENTS) {
        naru_op_accept(op, listening, NULL, NULL);
        naru_op_submit(loop, op, accept_next, NULL);
    }
}

static naru_op connecting[CLIENTS];
static struct outcome connected[CLIENTS];

TEST(many_clients_are_accepted_one_after_the_other)
{
    struct sockaddr_in address;
    listening = listener(&address);
    loop = open_loop();
    naru_op_accept(&accepting, listening, NULL, NULL);
    naru_op_submit(loop, &accepting, accept_next, NULL);
    for (int i = 0; i < CLIENTS; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK_GE(client, 0);
        naru_op_connect(&connecting[i], client, (struct sockaddr *)&address, sizeof address);
        submit(loop, &connecting[i], &connected[i]);
    }
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(accepted_count, CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        CHECK_EQ(connected[i].result, 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* SOCK-04 */
TEST(connecting_to_a_closed_port_is_refused)
{
    struct sockaddr_in address;
    naru_op op;
    bound_socket(SOCK_STREAM, &address); /* has the port, and does not listen */
    int client = socket(AF_INET, SOCK_STREAM, 0);
    loop = open_loop();
    naru_op_connect(&op, client, (struct sockaddr *)&address, sizeof address);
    CHECK_EQ(result_of(loop, &op), -ECONNREFUSED);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(connecting_a_connected_socket_gives_eisconn)
{
    struct pair pair = make_tcp_pair();
    struct sockaddr_in address;
    naru_op op;
    listener(&address);
    loop = open_loop();
    naru_op_connect(&op, pair.a, (struct sockaddr *)&address, sizeof address);
    CHECK_EQ(result_of(loop, &op), -EISCONN);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(connecting_to_no_such_unix_socket_gives_enoent)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
    naru_op op;
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    loop = open_loop();
    naru_op_connect(&op, client, (struct sockaddr *)&address, sizeof address);
    CHECK_EQ(result_of(loop, &op), -ENOENT);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* ---- poll ---- */

TEST(a_poll_waits_and_tells_what_is_ready)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    naru_op op;
    loop = open_loop();
    naru_op_poll(&op, pair.a, POLLIN);
    CHECK_EQ(result_after_hello(&op, pair.b), POLLIN);
    naru_op_poll(&op, pair.a, POLLIN | POLLOUT);
    CHECK_EQ(result_of(loop, &op), POLLIN | POLLOUT);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_poll_for_nothing_waits_for_a_hang_up)
{
    struct ends ends = make_pipe();
    naru_op op;
    struct outcome outcome;
    loop = open_loop();
    naru_op_poll(&op, ends.read, 0);
    submit(loop, &op, &outcome);
    put(ends.write, "x", 1);
    one_round(loop);
    CHECK_EQ(outcome.calls, 0);
    close(ends.write);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.result, POLLHUP);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_poll_leaves_no_registration)
{
    loop = open_loop();
    for (int i = 0; i < 10; i++) { /* the same numbers again and again, for different files */
        struct ends ends = make_pipe();
        struct pair pair;
        naru_op op;
        naru_op_poll(&op, ends.read, POLLIN);
        CHECK_EQ(result_after_hello(&op, ends.write), POLLIN);
        close(ends.read);
        close(ends.write);
        pair = make_socketpair(SOCK_STREAM);
        CHECK_EQ(pair.a, ends.read);
        naru_op_poll(&op, pair.a, POLLIN);
        CHECK_EQ(result_after_hello(&op, pair.b), POLLIN);
        close(pair.a);
        close(pair.b);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_cancelled_poll_leaves_no_registration)
{
    struct ends ends = make_pipe();
    naru_op op;
    struct outcome outcome;
    loop = open_loop();
    naru_op_poll(&op, ends.read, POLLIN);
    submit(loop, &op, &outcome);
    naru_op_cancel(&op);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.result, -ECANCELED);
    int copy = dup(ends.read); /* the open file lives on: a registration would, too */
    close(ends.read);
    struct pair pair = make_socketpair(SOCK_STREAM);
    CHECK_EQ(pair.a, ends.read);
    naru_op_poll(&op, pair.a, POLLIN);
    submit(loop, &op, &outcome);
    put(ends.write, "x", 1); /* of no concern to the new file */
    one_round(loop);
    CHECK_EQ(outcome.calls, 0);
    put(pair.b, "x", 1);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.result, POLLIN);
    close(copy);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* ---- several on one descriptor ---- */

enum { READERS = 5 };

static void note_done(naru_op *op)
{
    CHECK_EQ(op->result, 1);
    note(op->arg);
}

TEST(operations_on_one_descriptor_are_served_first_come_first_served)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    naru_op ops[READERS];
    loop = open_loop();
    for (int i = 0; i < READERS; i++) {
        naru_op_recv(&ops[i], pair.a, &buffer[i], 1, 0);
        naru_op_submit(loop, &ops[i], note_done, ARG(i));
    }
    put(pair.b, "ab", 2);
    one_round(loop);
    CHECK_JOURNAL(0, 1);
    put(pair.b, "cde", 3);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(2, 3, 4);
    CHECK_EQ(memcmp(buffer, "abcde", 5), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_reader_and_a_writer_on_one_descriptor_wait_independently)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    naru_op reader, writer;
    struct outcome read_outcome, written;
    fill_up(pair.a);
    loop = open_loop();
    naru_op_recv(&reader, pair.a, buffer, sizeof buffer, 0);
    submit(loop, &reader, &read_outcome);
    naru_op_send(&writer, pair.a, "x", 1, 0);
    submit(loop, &writer, &written);
    one_round(loop);
    put(pair.b, "hello", 5);
    one_round(loop);
    CHECK_EQ(read_outcome.result, 5);
    CHECK_EQ(written.calls, 0);
    CHECK_EQ(fcntl(pair.b, F_SETFL, O_NONBLOCK), 0);
    drain(ARG(pair.b));
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(written.result, 1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* ---- cancelling ---- */

TEST(a_cancelled_operation_is_done_once_with_ecanceled_from_the_loop)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    naru_op op;
    struct outcome outcome;
    loop = open_loop();
    naru_op_recv(&op, pair.a, buffer, 1, 0);
    submit(loop, &op, &outcome);
    naru_op_cancel(&op);
    naru_op_cancel(&op);
    CHECK_EQ(outcome.calls, 0);
    put(pair.b, "x", 1);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.calls, 1);
    CHECK_EQ(outcome.result, -ECANCELED);
    CHECK_EQ(recv(pair.a, buffer, 1, MSG_DONTWAIT), 1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(cancelling_an_operation_that_has_its_result_has_no_effect)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    naru_op op;
    struct outcome outcome;
    loop = open_loop();
    put(pair.b, "x", 1);
    naru_op_recv(&op, pair.a, buffer, 1, 0);
    submit(loop, &op, &outcome);
    naru_op_cancel(&op);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.result, 1);
    naru_op_cancel(&op);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.calls, 1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(cancelling_an_operation_never_submitted_has_no_effect)
{
    naru_op op;
    naru_op_recv(&op, 0, buffer, 1, 0);
    naru_op_cancel(&op);
}

static naru_op victim;

static void cancel_victim(naru_op *op)
{
    CHECK_EQ(op->result, 1);
    note(ARG(1));
    naru_op_cancel(&victim);
}

/* Both were told by the same poll that there is something; SOCK-02: no byte is lost. */
TEST(an_operation_cancelled_in_the_batch_of_its_event_leaves_the_data)
{
    struct pair first = make_socketpair(SOCK_STREAM), second = make_socketpair(SOCK_STREAM);
    naru_op op;
    struct outcome outcome;
    char byte = 0;
    loop = open_loop();
    naru_op_recv(&op, first.a, &byte, 1, 0);
    naru_op_submit(loop, &op, cancel_victim, NULL);
    naru_op_recv(&victim, second.a, buffer, 1, 0);
    submit(loop, &victim, &outcome);
    put(first.b, "a", 1);
    put(second.b, "b", 1);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(1);
    CHECK_EQ(outcome.calls, 1);
    CHECK_EQ(outcome.result, -ECANCELED);
    naru_op_recv(&victim, second.a, &byte, 1, 0);
    CHECK_EQ(result_of(loop, &victim), 1);
    CHECK_EQ(byte, 'b');
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* SOCK-02 */
TEST(cancelling_the_first_of_two_waiters_leaves_the_data_to_the_second)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    naru_op second;
    struct outcome cancelled, received;
    loop = open_loop();
    naru_op_recv(&victim, pair.a, buffer, 1, 0);
    submit(loop, &victim, &cancelled);
    naru_op_recv(&second, pair.a, buffer, 1, 0);
    submit(loop, &second, &received);
    naru_op_cancel(&victim);
    put(pair.b, "x", 1);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(cancelled.result, -ECANCELED);
    CHECK_EQ(received.result, 1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* SOCK-02 */
TEST(cancelling_and_trying_again_loses_no_bytes)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    unsigned char sent = 0, expected = 0;
    naru_op op;
    struct outcome outcome;
    loop = open_loop();
    for (int i = 0; i < 3000; i++) {
        unsigned char byte;
        naru_op_recv(&op, pair.a, &byte, 1, 0);
        submit(loop, &op, &outcome);
        if (i % 3 != 0) {
            put(pair.b, &sent, 1);
            sent++;
        }
        if (i % 2 == 0)
            one_round(loop);
        naru_op_cancel(&op);
        one_round(loop);
        CHECK_EQ(outcome.calls, 1);
        if (outcome.result == 1) {
            CHECK_EQ(byte, expected);
            expected++;
        } else {
            CHECK_EQ(outcome.result, -ECANCELED);
        }
    }
    unsigned char byte;
    while (recv(pair.a, &byte, 1, MSG_DONTWAIT) == 1) {
        CHECK_EQ(byte, expected);
        expected++;
    }
    CHECK_EQ(expected, sent);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* ---- the struct's life ---- */

static struct pair reused_pair;
static char reused_byte;

static void receive_again(naru_op *op)
{
    CHECK_EQ(op->result, 1);
    note(ARG(reused_byte));
    if (reused_byte == 'c')
        return;
    naru_op_recv(op, reused_pair.a, &reused_byte, 1, 0);
    naru_op_submit(loop, op, receive_again, NULL);
}

TEST(an_operation_may_be_used_again_inside_its_done)
{
    naru_op op;
    loop = open_loop();
    reused_pair = make_socketpair(SOCK_STREAM);
    naru_op_recv(&op, reused_pair.a, &reused_byte, 1, 0);
    naru_op_submit(loop, &op, receive_again, NULL);
    put(reused_pair.b, "ab", 2);
    one_round(loop);
    put(reused_pair.b, "c", 1);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL('a', 'b', 'c');
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void free_op(naru_op *op)
{
    note(ARG(op->result));
    free(op);
}

TEST(an_operation_may_be_freed_inside_its_done)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    loop = open_loop();
    naru_op *at_once = malloc(sizeof *at_once), *later = malloc(sizeof *later),
            *cancelled = malloc(sizeof *later);
    naru_op_send(at_once, pair.a, "x", 1, 0);
    naru_op_submit(loop, at_once, free_op, NULL);
    naru_op_recv(later, pair.a, buffer, 3, 0);
    naru_op_submit(loop, later, free_op, NULL);
    naru_op_recv(cancelled, pair.a, buffer, 3, 0);
    naru_op_submit(loop, cancelled, free_op, NULL);
    naru_op_cancel(cancelled);
    put(pair.b, "abc", 3);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(1, -ECANCELED, 3);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* ---- forgetting, and numbers that change their file ---- */

TEST(forgetting_a_descriptor_ends_who_waits_with_ebadf)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    naru_op reader, writer, poller;
    struct outcome outcomes[3];
    fill_up(pair.a);
    loop = open_loop();
    naru_op_recv(&reader, pair.a, buffer, 1, 0);
    naru_op_send(&writer, pair.a, "x", 1, 0);
    naru_op_poll(&poller, pair.a, POLLIN);
    submit(loop, &reader, &outcomes[0]);
    submit(loop, &writer, &outcomes[1]);
    submit(loop, &poller, &outcomes[2]);
    one_round(loop);
    naru_loop_forget(loop, pair.a);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(outcomes[i].calls, 0);
    close(pair.a);
    CHECK_EQ(naru_loop_run(loop), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(outcomes[i].calls, 1);
        CHECK_EQ(outcomes[i].result, -EBADF);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(forgetting_a_descriptor_gives_data_that_had_come)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    naru_op first, second;
    struct outcome outcomes[2];
    loop = open_loop();
    naru_op_recv(&first, pair.a, buffer, 1, 0);
    naru_op_recv(&second, pair.a, buffer, 1, 0);
    submit(loop, &first, &outcomes[0]);
    submit(loop, &second, &outcomes[1]);
    put(pair.b, "x", 1);
    naru_loop_forget(loop, pair.a);
    close(pair.a);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcomes[0].result, 1);
    CHECK_EQ(outcomes[1].result, -EBADF);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static int forgotten;

static void forget_it(naru_op *op)
{
    (void)op;
    naru_loop_forget(loop, forgotten);
    close(forgotten);
    forgotten = -1;
}

/* The victim was told, and its turn would come right after; the number is closed by then. */
TEST(forgetting_in_the_batch_of_the_event_ends_the_operation_once)
{
    struct pair first = make_socketpair(SOCK_STREAM), second = make_socketpair(SOCK_STREAM);
    naru_op op;
    struct outcome outcome;
    char byte;
    forgotten = second.a;
    loop = open_loop();
    naru_op_recv(&op, first.a, &byte, 1, 0);
    naru_op_submit(loop, &op, forget_it, NULL);
    naru_op_recv(&victim, second.a, buffer, 1, 0);
    submit(loop, &victim, &outcome);
    put(first.b, "a", 1);
    put(second.b, "b", 1);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.calls, 1);
    CHECK_EQ(outcome.result, 1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(cancelling_after_forgetting_has_no_effect)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    struct outcome outcome;
    loop = open_loop();
    naru_op_recv(&victim, pair.a, buffer, 1, 0);
    submit(loop, &victim, &outcome);
    naru_loop_forget(loop, pair.a);
    naru_op_cancel(&victim);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.calls, 1);
    CHECK_EQ(outcome.result, -EBADF);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(forgetting_a_descriptor_that_nobody_waited_on_does_nothing)
{
    loop = open_loop();
    naru_loop_forget(loop, 0);
    naru_loop_forget(loop, 12345);
    naru_loop_forget(loop, -1);
    run_and_close(loop);
}

TEST(after_forgetting_the_number_may_mean_another_file)
{
    loop = open_loop();
    for (int i = 0; i < 10; i++) {
        naru_op op;
        struct ends ends = make_pipe();
        naru_op_read(&op, ends.read, buffer, sizeof buffer);
        CHECK_EQ(result_after_hello(&op, ends.write), 5);
        int copy = dup(ends.read); /* keeps the old registration alive in the kernel */
        naru_loop_forget(loop, ends.read);
        close(ends.read);
        struct pair pair = make_socketpair(SOCK_STREAM);
        CHECK_EQ(pair.a, ends.read);
        struct outcome outcome;
        naru_op_read(&op, pair.a, buffer, sizeof buffer);
        submit(loop, &op, &outcome);
        put(ends.write, "ghost", 5);
        one_round(loop);
        CHECK_EQ(outcome.calls, 0);
        put(pair.b, "x", 1);
        CHECK_EQ(naru_loop_run(loop), 0);
        CHECK_EQ(outcome.result, 1);
        naru_loop_forget(loop, pair.a);
        close(pair.a);
        close(pair.b);
        close(copy);
        close(ends.write);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* Only descriptors that were waited on must be forgotten before they are closed. */
TEST(a_descriptor_that_never_waited_may_just_be_closed_and_its_number_mean_another_file)
{
    naru_op op;
    loop = open_loop();
    struct ends ends = make_pipe();
    naru_op_write(&op, ends.write, "x", 1); /* need not wait */
    CHECK_EQ(result_of(loop, &op), 1);
    int number = ends.write;
    close(number);
    int file = temporary_file("content");
    CHECK_EQ(file, number);
    naru_op_read(&op, file, buffer, sizeof buffer);
    CHECK_EQ(result_of(loop, &op), 7);
    close(file);
    struct pair pair = make_socketpair(SOCK_STREAM);
    CHECK_EQ(pair.a, number);
    naru_op_read(&op, pair.a, buffer, sizeof buffer);
    CHECK_EQ(result_after_hello(&op, pair.b), 5);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_socket_number_that_never_waited_may_become_a_pipe)
{
    naru_op op;
    loop = open_loop();
    struct pair pair = make_socketpair(SOCK_STREAM);
    put(pair.b, "x", 1);
    naru_op_read(&op, pair.a, buffer, 1);
    CHECK_EQ(result_of(loop, &op), 1);
    close(pair.a);
    struct ends ends = make_pipe();
    CHECK_EQ(ends.read, pair.a);
    naru_op_read(&op, ends.read, buffer, sizeof buffer);
    CHECK_EQ(result_after_hello(&op, ends.write), 5);
    CHECK_EQ(naru_loop_close(loop), 0);
}
