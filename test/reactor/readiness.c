/* Edges and short reads: whatever the peer does, in whatever pieces, a reader gets all of it and never hangs.
 *
 * After a read that came up short the library does not try again but waits. Each case here is one in which that would
 * be wrong if something besides data could end a read early. A hang shows as the case's time limit. */
#include "test/reactor/common.h"

#include <netinet/tcp.h>

static naru_loop *loop;
static char buffer[64];

/* ---- a reader that keeps reading with a large buffer until the end ---- */

static struct {
    naru_op op;
    int fd;
    size_t size;  /* of each read */
    size_t total; /* read so far */
    ssize_t end;  /* what the last read gave: 0 or an error */
    bool ended, use_read;
    char last; /* byte */
    char buffer[65536];
    void (*each)(void); /* after each read that gave something */
} reader;

static void on_read(naru_op *op);

static void read_on(void)
{
    if (reader.use_read)
        naru_op_read(&reader.op, reader.fd, reader.buffer, reader.size);
    else
        naru_op_recv(&reader.op, reader.fd, reader.buffer, reader.size, 0);
    naru_op_submit(loop, &reader.op, on_read, NULL);
}

static void on_read(naru_op *op)
{
    if (op->result <= 0) {
        reader.end = op->result;
        reader.ended = true;
        return;
    }
    reader.last = reader.buffer[op->result - 1];
    reader.total += (size_t)op->result;
    if (reader.each)
        reader.each();
    read_on();
}

static void start_reader(int fd, size_t size)
{
    reader.fd = fd;
    reader.size = size;
    reader.total = 0;
    reader.ended = false;
    read_on();
}

/* A first exchange, after which the descriptor is registered and its last read was short. */
static void warm_up(int peer)
{
    one_round(loop);
    put(peer, "w", 1);
    wait_available(reader.fd, 1);
    while (reader.total == 0)
        one_round(loop);
    CHECK_EQ(reader.total, 1);
    one_round(loop);
    reader.total = 0;
}

static void run_to_end(void)
{
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK(reader.ended);
}

static int chunk_peer;
static size_t chunks_left, chunk_total;

static void put_chunk(void)
{
    static const char zeros[1000];
    if (reader.total < chunk_total)
        return; /* not all of the last one is here yet */
    if (chunks_left == 0) {
        shutdown(chunk_peer, SHUT_WR);
        return;
    }
    size_t size = 1 + chunks_left-- % sizeof zeros;
    put(chunk_peer, zeros, size);
    chunk_total += size;
}

static void ping_pong(struct pair pair, size_t read_size, bool use_read)
{
    loop = open_loop();
    chunk_peer = pair.b;
    chunks_left = 3000;
    chunk_total = 0;
    reader.each = put_chunk;
    reader.use_read = use_read;
    start_reader(pair.a, read_size);
    put_chunk();
    run_to_end();
    CHECK_EQ(reader.end, 0);
    CHECK_EQ(reader.total, chunk_total);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(each_chunk_written_after_a_short_read_arrives_over_tcp)
{
    ping_pong(make_tcp_pair(), sizeof reader.buffer, false);
}

TEST(each_chunk_written_after_a_short_read_arrives_over_a_unix_socket)
{
    ping_pong(make_socketpair(SOCK_STREAM), sizeof reader.buffer, false);
}

TEST(each_chunk_arrives_with_read_as_well)
{
    ping_pong(make_tcp_pair(), sizeof reader.buffer, true);
}

TEST(each_chunk_arrives_when_reads_are_smaller_than_chunks)
{
    ping_pong(make_tcp_pair(), 100, false);
}

/* From another thread at any moment: between poll, event, read and next read. */
static void *write_and_shut_down(void *arg)
{
    static const char zeros[700];
    int fd = (int)(intptr_t)arg;
    for (size_t i = 0; i < 20000; i++)
        put(fd, zeros, 1 + i % sizeof zeros);
    shutdown(fd, SHUT_WR);
    return NULL;
}

TEST_SLOW(nothing_is_lost_when_the_peer_writes_at_any_moment, 60)
{
    size_t expected = 0;
    for (size_t i = 0; i < 20000; i++)
        expected += 1 + i % 700;
    for (int i = 0; i < 2; i++) {
        struct pair pair = i == 0 ? make_tcp_pair() : make_socketpair(SOCK_STREAM);
        loop = open_loop();
        start_reader(pair.a, sizeof reader.buffer);
        pthread_t thread = start_thread(write_and_shut_down, ARG(pair.b));
        run_to_end();
        pthread_join(thread, NULL);
        CHECK_EQ(reader.end, 0);
        CHECK_EQ(reader.total, expected);
        CHECK_EQ(naru_loop_close(loop), 0);
    }
}

TEST(data_and_end_that_come_at_once_are_both_read)
{
    for (int i = 0; i < 200; i++) {
        struct pair pair = i % 2 ? make_tcp_pair() : make_socketpair(SOCK_STREAM);
        loop = open_loop();
        start_reader(pair.a, sizeof reader.buffer);
        warm_up(pair.b);
        put(pair.b, "hello", 5);
        CHECK_EQ(shutdown(pair.b, SHUT_WR), 0);
        run_to_end();
        CHECK_EQ(reader.end, 0);
        CHECK_EQ(reader.total, 5);
        CHECK_EQ(naru_loop_close(loop), 0);
        close(pair.a);
        close(pair.b);
    }
}

static void *put_and_shut_down(void *arg)
{
    int fd = (int)(intptr_t)arg;
    put(fd, "hello", 5);
    shutdown(fd, SHUT_WR);
    return NULL;
}

TEST(data_and_end_that_race_with_the_reader_are_both_read)
{
    for (int i = 0; i < 300; i++) {
        struct pair pair = make_tcp_pair();
        loop = open_loop();
        start_reader(pair.a, sizeof reader.buffer);
        warm_up(pair.b);
        pthread_t thread = start_thread(put_and_shut_down, ARG(pair.b));
        run_to_end();
        pthread_join(thread, NULL);
        CHECK_EQ(reader.total, 5);
        CHECK_EQ(naru_loop_close(loop), 0);
        close(pair.a);
        close(pair.b);
    }
}

TEST(after_half_a_close_one_can_still_write)
{
    struct pair pair = make_tcp_pair();
    naru_op op;
    loop = open_loop();
    start_reader(pair.a, sizeof reader.buffer);
    warm_up(pair.b);
    CHECK_EQ(shutdown(pair.b, SHUT_WR), 0);
    run_to_end();
    CHECK_EQ(reader.end, 0);
    naru_op_send(&op, pair.a, "hello", 5, 0);
    CHECK_EQ(result_of(loop, &op), 5);
    CHECK_EQ(recv(pair.b, buffer, sizeof buffer, 0), 5);
    naru_op_recv(&op, pair.a, buffer, 1, 0);
    CHECK_EQ(result_of(loop, &op), 0); /* again, as often as one asks */
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* With the writer registered first: the hang-up's edge must not be missed when the reader comes. */
TEST(an_end_that_came_while_only_a_writer_waited_is_read)
{
    struct pair pair = make_tcp_pair();
    naru_op writer;
    struct outcome written;
    fill_up(pair.a);
    loop = open_loop();
    naru_op_send(&writer, pair.a, "x", 1, 0);
    submit(loop, &writer, &written);
    one_round(loop);
    put(pair.b, "hello", 5);
    CHECK_EQ(shutdown(pair.b, SHUT_WR), 0);
    wait_available(pair.a, 5);
    one_round(loop);
    naru_op_cancel(&writer);
    start_reader(pair.a, sizeof reader.buffer);
    run_to_end();
    CHECK_EQ(reader.total, 5);
    CHECK_EQ(reader.end, 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void reset_connection(int fd)
{
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)), 0);
    close(fd);
}

TEST(a_reset_ends_a_waiting_reader_with_econnreset)
{
    struct pair pair = make_tcp_pair();
    loop = open_loop();
    start_reader(pair.a, sizeof reader.buffer);
    warm_up(pair.b);
    reset_connection(pair.b);
    run_to_end();
    CHECK_EQ(reader.end, -ECONNRESET);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* In Linux a reset drops what was not yet read, so what must come is the error, not the data. */
TEST(data_and_a_reset_that_come_at_once_end_the_reader)
{
    for (int i = 0; i < 100; i++) {
        struct pair pair = make_tcp_pair();
        loop = open_loop();
        start_reader(pair.a, sizeof reader.buffer);
        warm_up(pair.b);
        put(pair.b, "hello", 5);
        reset_connection(pair.b);
        run_to_end();
        CHECK_EQ(reader.end, -ECONNRESET);
        CHECK_EQ(naru_loop_close(loop), 0);
        close(pair.a);
    }
}

static void write_on(naru_op *op)
{
    if (op->result < 0) {
        note(ARG(op->result));
        return;
    }
    naru_op_send(op, op->fd, "x", 1, 0); /* the kernel had found some more room */
    naru_op_submit(loop, op, write_on, NULL);
}

TEST(a_reset_ends_a_waiting_writer)
{
    struct pair pair = make_tcp_pair();
    naru_op op;
    fill_up(pair.a);
    loop = open_loop();
    naru_op_send(&op, pair.a, "x", 1, 0);
    naru_op_submit(loop, &op, write_on, NULL);
    one_round(loop);
    reset_connection(pair.b);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(journal.count, 1);
    CHECK(journal.what[0] == -ECONNRESET || journal.what[0] == -EPIPE);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* A read stops short at the urgent byte although more is there: "ab" | c | "d". */
TEST(data_behind_urgent_data_is_read)
{
    for (int i = 0; i < 100; i++) {
        struct pair pair = make_tcp_pair();
        loop = open_loop();
        start_reader(pair.a, sizeof reader.buffer);
        warm_up(pair.b);
        put(pair.b, "ab", 2);
        CHECK_EQ(send(pair.b, "c", 1, MSG_OOB), 1);
        put(pair.b, "d", 1);
        CHECK_EQ(shutdown(pair.b, SHUT_WR), 0);
        run_to_end();
        CHECK_EQ(reader.end, 0);
        CHECK_EQ(reader.total, 3);
        CHECK_EQ(reader.last, 'd');
        CHECK_EQ(naru_loop_close(loop), 0);
        close(pair.a);
        close(pair.b);
    }
}

static int urgent_peer;

static void *write_with_urgent_bytes(void *arg)
{
    for (int i = 0; i < 300; i++) {
        put(urgent_peer, "ab", 2);
        CHECK_EQ(send(urgent_peer, "c", 1, MSG_OOB), 1);
        put(urgent_peer, "d", 1);
    }
    CHECK_EQ(shutdown(urgent_peer, SHUT_WR), 0);
    return arg;
}

/* With urgent bytes inline the number of bytes is certain however they overtake each other. */
TEST(urgent_data_at_any_moment_does_not_stop_a_reader)
{
    for (int inline_too = 0; inline_too < 2; inline_too++) {
        struct pair pair = make_tcp_pair();
        CHECK_EQ(setsockopt(pair.a, SOL_SOCKET, SO_OOBINLINE, &inline_too, sizeof inline_too), 0);
        loop = open_loop();
        start_reader(pair.a, sizeof reader.buffer);
        warm_up(pair.b);
        urgent_peer = pair.b;
        pthread_t thread = start_thread(write_with_urgent_bytes, NULL);
        run_to_end();
        pthread_join(thread, NULL);
        CHECK_EQ(reader.end, 0);
        CHECK_GE(reader.total, 300 * 3);
        if (inline_too)
            CHECK_EQ(reader.total, 300 * 4);
        CHECK_EQ(naru_loop_close(loop), 0);
    }
}

/* ---- datagrams: a short read says nothing about what else is queued ---- */

TEST(all_queued_datagrams_are_received_one_by_one)
{
    static const int types[3] = {SOCK_DGRAM, SOCK_SEQPACKET, SOCK_DGRAM};
    for (int i = 0; i < 3; i++) {
        struct pair pair;
        naru_op op;
        struct outcome outcome;
        if (i < 2) {
            pair = make_socketpair(types[i]);
        } else {
            struct sockaddr_in a, b;
            pair = (struct pair){bound_socket(SOCK_DGRAM, &a), bound_socket(SOCK_DGRAM, &b)};
            CHECK_EQ(connect(pair.b, (struct sockaddr *)&a, sizeof a), 0);
            CHECK_EQ(connect(pair.a, (struct sockaddr *)&b, sizeof b), 0);
        }
        loop = open_loop();
        naru_op_recv(&op, pair.a, buffer, sizeof buffer, 0);
        submit(loop, &op, &outcome);
        one_round(loop); /* registered, and waiting */
        for (int length = 1; length <= 5; length++)
            put(pair.b, "hello", (size_t)length);
        CHECK_EQ(naru_loop_run(loop), 0);
        CHECK_EQ(outcome.result, 1);
        for (int length = 2; length <= 5; length++) {
            if (length % 2)
                naru_op_recv(&op, pair.a, buffer, sizeof buffer, 0);
            else
                naru_op_read(&op, pair.a, buffer, sizeof buffer);
            CHECK_EQ(result_of(loop, &op), length);
        }
        CHECK_EQ(naru_loop_close(loop), 0);
    }
}

TEST(a_datagram_longer_than_the_buffer_is_cut_and_the_next_one_whole)
{
    struct pair pair = make_socketpair(SOCK_DGRAM);
    naru_op op;
    loop = open_loop();
    put(pair.b, "hello", 5);
    put(pair.b, "you", 3);
    naru_op_recv(&op, pair.a, buffer, 2, 0);
    CHECK_EQ(result_of(loop, &op), 2);
    naru_op_recv(&op, pair.a, buffer, sizeof buffer, 0);
    CHECK_EQ(result_of(loop, &op), 3);
    CHECK_EQ(memcmp(buffer, "you", 3), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(an_empty_datagram_is_a_result_of_0_and_not_the_end)
{
    struct pair pair = make_socketpair(SOCK_DGRAM);
    naru_op op;
    loop = open_loop();
    CHECK_EQ(send(pair.b, "", 0, 0), 0);
    put(pair.b, "x", 1);
    naru_op_recv(&op, pair.a, buffer, sizeof buffer, 0);
    CHECK_EQ(result_of(loop, &op), 0);
    naru_op_recv(&op, pair.a, buffer, sizeof buffer, 0);
    CHECK_EQ(result_of(loop, &op), 1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* ---- mixed readers on one stream ---- */

TEST(peeking_after_a_short_read_sees_what_comes_and_leaves_it)
{
    struct pair pair = make_tcp_pair();
    naru_op op;
    struct outcome outcome;
    loop = open_loop();
    naru_op_recv(&op, pair.a, buffer, sizeof buffer, 0);
    submit(loop, &op, &outcome);
    one_round(loop);
    put(pair.b, "abc", 3);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.result, 3);
    put(pair.b, "de", 2);
    wait_available(pair.a, 2);
    naru_op_recv(&op, pair.a, buffer, sizeof buffer, MSG_PEEK);
    CHECK_EQ(result_of(loop, &op), 2);
    naru_op_recv(&op, pair.a, buffer, sizeof buffer, 0);
    CHECK_EQ(result_of(loop, &op), 2);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* The event was fetched and the mark taken off while nobody waited. */
TEST(data_that_came_while_nobody_waited_is_read_at_once)
{
    struct pair pair = make_tcp_pair();
    naru_op op;
    struct outcome outcome;
    loop = open_loop();
    naru_op_recv(&op, pair.a, buffer, sizeof buffer, 0);
    submit(loop, &op, &outcome);
    one_round(loop);
    put(pair.b, "abc", 3);
    CHECK_EQ(naru_loop_run(loop), 0);
    for (int rounds = 0; rounds < 3; rounds++) {
        put(pair.b, "de", 2);
        wait_available(pair.a, 2);
        for (int i = 0; i < rounds; i++)
            one_round(loop);
        naru_op_recv(&op, pair.a, buffer, sizeof buffer, 0);
        CHECK_EQ(result_of(loop, &op), 2);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* A reader outside the library empties the socket between event and turn. */
TEST(an_event_whose_data_somebody_else_took_sends_the_reader_back_to_wait)
{
    struct pair pair = make_tcp_pair();
    naru_op op;
    struct outcome outcome;
    loop = open_loop();
    naru_op_recv(&op, pair.a, buffer, sizeof buffer, 0);
    submit(loop, &op, &outcome);
    one_round(loop);
    put(pair.b, "x", 1);
    wait_readable(pair.a);
    CHECK_EQ(recv(pair.a, buffer, 1, 0), 1);
    one_round(loop);
    CHECK_EQ(outcome.calls, 0);
    put(pair.b, "abc", 3);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.result, 3);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_low_water_mark_delays_but_does_not_lose)
{
    struct pair pair = make_tcp_pair();
    naru_op op;
    struct outcome outcome;
    int mark = 4;
    CHECK_EQ(setsockopt(pair.a, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark), 0);
    loop = open_loop();
    naru_op_recv(&op, pair.a, buffer, sizeof buffer, 0);
    submit(loop, &op, &outcome);
    one_round(loop);
    put(pair.b, "ab", 2);
    put(pair.b, "cdef", 4);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_GE(outcome.result, 4);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* The table of descriptors grows in pages; numbers of all sizes have an entry of their own. */
TEST(descriptors_of_high_numbers_work)
{
    loop = open_loop();
    for (int number = 100; number < 1000; number += 131) {
        struct pair pair = make_socketpair(SOCK_STREAM);
        naru_op op;
        struct outcome outcome;
        int high = dup2(pair.a, number);
        CHECK_EQ(high, number);
        naru_op_recv(&op, high, buffer, sizeof buffer, 0);
        submit(loop, &op, &outcome);
        one_round(loop);
        put(pair.b, "x", 1);
        CHECK_EQ(naru_loop_run(loop), 0);
        CHECK_EQ(outcome.result, 1);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}
