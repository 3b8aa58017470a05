/* Watches: level-triggered calls, independent of each other, and nothing left behind. */
#include "test/reactor/common.h"

static naru_loop *loop;
static naru_watch watch, second_watch;
static struct pair pair;
static int calls_left;

static void note_and_count(void *arg, int events)
{
    (void)events;
    note(arg);
    if (--calls_left == 0)
        naru_watch_stop(&watch);
}

static void must_not(void *arg, int events)
{
    (void)arg;
    (void)events;
    test_fail(__FILE__, __LINE__, "this watch was stopped or has nothing to tell");
}

static void open_all(void)
{
    loop = open_loop();
    pair = make_socketpair(SOCK_STREAM);
}

static void watch_a(int events, void (*fn)(void *arg, int events), int number)
{
    CHECK_EQ(naru_watch_start(loop, &watch, pair.a, events, fn, ARG(number)), 0);
}

/* LOOP-26 */
TEST(a_watch_is_called_in_every_round_while_its_descriptor_is_ready)
{
    open_all();
    watch_a(POLLIN, note_and_count, 1);
    put(pair.b, "x", 1);
    calls_left = 5; /* nobody reads */
    run_and_close(loop);
    CHECK_JOURNAL(1, 1, 1, 1, 1);
}

static void take_one(void *arg, int events)
{
    char byte;
    CHECK_EQ(events, POLLIN);
    CHECK_EQ(recv(pair.a, &byte, 1, MSG_DONTWAIT), 1); /* it is never called for nothing */
    note(ARG(byte));
    if (byte == 'c')
        CHECK(naru_watch_stop(arg));
}

/* LOOP-26 */
TEST(a_watch_is_called_again_when_more_comes)
{
    open_all();
    CHECK_EQ(naru_watch_start(loop, &watch, pair.a, POLLIN, take_one, &watch), 0);
    for (const char *byte = "abc"; *byte; byte++) {
        for (int i = 0; i < 3; i++)
            one_round(loop);
        put(pair.b, byte, 1);
    }
    run_and_close(loop);
    CHECK_JOURNAL('a', 'b', 'c');
}

TEST(a_watch_is_not_called_from_inside_start)
{
    open_all();
    put(pair.b, "x", 1);
    watch_a(POLLIN, note_and_count, 1);
    CHECK_EQ(journal.count, 0);
    calls_left = 1;
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

static void note_events(void *arg, int events)
{
    note(ARG(events));
    naru_watch_stop(arg);
}

TEST(a_watch_is_told_which_events)
{
    open_all();
    CHECK_EQ(naru_watch_start(loop, &watch, pair.a, POLLIN | POLLOUT, note_events, &watch), 0);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(POLLOUT);
    put(pair.b, "x", 1);
    CHECK_EQ(naru_watch_start(loop, &watch, pair.a, POLLIN | POLLOUT, note_events, &watch), 0);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(POLLIN | POLLOUT);
    close(pair.b);
    CHECK_EQ(naru_watch_start(loop, &watch, pair.a, POLLIN, note_events, &watch), 0);
    run_and_close(loop);
    CHECK_JOURNAL(POLLIN | POLLHUP);
}

TEST(a_watch_tells_of_errors_without_being_asked)
{
    struct ends ends = make_pipe();
    loop = open_loop();
    fill_up(ends.write);
    CHECK_EQ(naru_watch_start(loop, &watch, ends.write, POLLOUT, note_events, &watch), 0);
    one_round(loop);
    close(ends.read);
    run_and_close(loop);
    CHECK_EQ(journal.count, 1);
    CHECK(journal.what[0] & POLLERR);
}

TEST(a_watch_for_urgent_data_is_called_for_that_only)
{
    loop = open_loop();
    pair = make_tcp_pair();
    CHECK_EQ(naru_watch_start(loop, &watch, pair.a, POLLPRI, note_events, &watch), 0);
    put(pair.b, "a", 1);
    wait_readable(pair.a);
    one_round(loop);
    one_round(loop);
    CHECK_EQ(journal.count, 0);
    CHECK_EQ(send(pair.b, "b", 1, MSG_OOB), 1);
    run_and_close(loop);
    CHECK_JOURNAL(POLLPRI);
}

/* LOOP-27 */
TEST(a_reader_and_a_writer_of_one_descriptor_are_independent)
{
    open_all();
    watch_a(POLLIN, must_not, 1);
    CHECK_EQ(naru_watch_start(loop, &second_watch, pair.a, POLLOUT, note_events, &second_watch), 0);
    one_round(loop);
    CHECK_JOURNAL(POLLOUT);
    CHECK(naru_watch_stop(&watch));
    CHECK_EQ(naru_watch_start(loop, &second_watch, pair.a, POLLOUT, note_events, &second_watch), 0);
    run_and_close(loop);
    CHECK_JOURNAL(POLLOUT);
}

/* LOOP-27 */
TEST(stopping_the_writer_keeps_the_reader)
{
    open_all();
    fill_up(pair.a);
    calls_left = 1;
    watch_a(POLLIN, note_and_count, 1);
    CHECK_EQ(naru_watch_start(loop, &second_watch, pair.a, POLLOUT, must_not, NULL), 0);
    one_round(loop);
    CHECK(naru_watch_stop(&second_watch));
    put(pair.b, "x", 1);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

TEST(a_watch_and_an_operation_share_a_descriptor)
{
    naru_op op;
    char byte;
    struct outcome outcome;
    open_all();
    watch_a(POLLIN, note_and_count, 1);
    calls_left = 1;
    naru_op_recv(&op, pair.a, &byte, 1, 0);
    submit(loop, &op, &outcome);
    one_round(loop);
    put(pair.b, "xy", 2);
    run_and_close(loop);
    CHECK_EQ(outcome.result, 1);
    CHECK_JOURNAL(1);
}

/* LOOP-26 */
TEST(starting_a_running_watch_replaces_it)
{
    open_all();
    put(pair.b, "x", 1);
    watch_a(POLLIN, must_not, 1);
    calls_left = 1;
    watch_a(POLLIN, note_and_count, 2);
    run_and_close(loop);
    CHECK_JOURNAL(2);
}

TEST(a_watch_may_move_to_another_descriptor)
{
    struct ends ends = make_pipe();
    open_all();
    watch_a(POLLIN, must_not, 1);
    one_round(loop);
    CHECK_EQ(naru_watch_start(loop, &watch, ends.write, POLLOUT, note_events, &watch), 0);
    put(pair.b, "x", 1);
    run_and_close(loop);
    CHECK_JOURNAL(POLLOUT);
}

static void restart(void *arg, int events)
{
    note(arg);
    (void)events;
    if (--calls_left > 0)
        watch_a(POLLIN, restart, (int)(intptr_t)arg + 1);
    else
        CHECK(naru_watch_stop(&watch));
}

TEST(a_watch_may_be_restarted_inside_its_callback)
{
    open_all();
    put(pair.b, "x", 1);
    calls_left = 3;
    watch_a(POLLIN, restart, 1);
    run_and_close(loop);
    CHECK_JOURNAL(1, 2, 3);
}

static void stop_twice(void *arg, int events)
{
    (void)events;
    CHECK(naru_watch_stop(&watch));
    CHECK(!naru_watch_stop(&watch));
    note(arg);
}

/* LOOP-28 */
TEST(a_watch_stopped_inside_its_callback_is_not_called_again)
{
    open_all();
    put(pair.b, "x", 1);
    watch_a(POLLIN, stop_twice, 1);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

/* LOOP-28 */
TEST(stopping_a_watch_tells_whether_it_ran)
{
    open_all();
    CHECK(!naru_watch_stop(&watch));
    watch_a(POLLIN, must_not, 1); /* waits */
    CHECK(naru_watch_stop(&watch));
    CHECK(!naru_watch_stop(&watch));
    watch_a(POLLOUT, must_not, 1); /* has its call queued */
    CHECK(naru_watch_stop(&watch));
    CHECK(!naru_watch_stop(&watch));
    run_and_close(loop);
}

static void stop_the_other(void *arg, int events)
{
    (void)events;
    CHECK(naru_watch_stop(&second_watch));
    note(arg);
    naru_watch_stop(&watch);
}

TEST(a_watch_stopped_by_an_earlier_callback_of_its_batch_is_not_called)
{
    open_all();
    watch_a(POLLIN, stop_the_other, 1);
    CHECK_EQ(naru_watch_start(loop, &second_watch, pair.a, POLLIN, must_not, NULL), 0);
    one_round(loop);
    put(pair.b, "x", 1);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

static void stop_and_free(void *arg, int events)
{
    (void)events;
    CHECK(naru_watch_stop(arg));
    free(arg);
    note(ARG(1));
}

TEST(a_watch_may_be_freed_inside_its_callback)
{
    naru_watch *freed = calloc(1, sizeof *freed);
    open_all();
    CHECK_EQ(naru_watch_start(loop, freed, pair.a, POLLIN, stop_and_free, freed), 0);
    one_round(loop);
    put(pair.b, "x", 1);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

TEST(watching_a_closed_descriptor_is_refused)
{
    open_all();
    close(pair.a);
    CHECK_EQ(naru_watch_start(loop, &watch, pair.a, POLLIN, must_not, NULL), -EBADF);
    CHECK_EQ(naru_watch_start(loop, &watch, -1, POLLIN, must_not, NULL), -EBADF);
    CHECK(!naru_watch_stop(&watch));
    run_and_close(loop);
}

TEST(watching_for_no_or_other_events_is_refused)
{
    open_all();
    CHECK_EQ(naru_watch_start(loop, &watch, pair.a, 0, must_not, NULL), -EINVAL);
    CHECK_EQ(naru_watch_start(loop, &watch, pair.a, POLLIN | POLLHUP, must_not, NULL), -EINVAL);
    CHECK_EQ(naru_watch_start(loop, &watch, pair.a, 1 << 20, must_not, NULL), -EINVAL);
    CHECK_EQ(naru_watch_start(loop, &watch, pair.a, -1, must_not, NULL), -EINVAL);
    CHECK(!naru_watch_stop(&watch));
    run_and_close(loop);
}

TEST(a_regular_file_is_always_ready)
{
    loop = open_loop();
    pair.a = temporary_file("content");
    calls_left = 3;
    watch_a(POLLIN, note_and_count, 1);
    run_and_close(loop);
    CHECK_JOURNAL(1, 1, 1);
}

TEST(waiting_for_what_a_regular_file_never_has_is_refused)
{
    loop = open_loop();
    pair.a = temporary_file("content");
    CHECK_EQ(naru_watch_start(loop, &watch, pair.a, POLLPRI, must_not, NULL), -EPERM);
    CHECK(!naru_watch_stop(&watch));
    run_and_close(loop);
}

TEST(a_watch_leaves_no_registration_when_it_stops)
{
    loop = open_loop();
    for (int i = 0; i < 10; i++) {
        pair = make_socketpair(SOCK_STREAM);
        watch_a(POLLIN, must_not, 1);
        one_round(loop);
        CHECK(naru_watch_stop(&watch));
        int copy = dup(pair.a), number = pair.a, peer = pair.b;
        close(pair.a); /* without telling the loop */
        pair = make_socketpair(SOCK_STREAM);
        CHECK_EQ(pair.a, number);
        watch_a(POLLIN, must_not, 1);
        put(peer, "ghost", 5);
        one_round(loop);
        one_round(loop);
        calls_left = 1;
        watch_a(POLLIN, note_and_count, 1);
        put(pair.b, "x", 1);
        CHECK_EQ(naru_loop_run(loop), 0);
        CHECK_JOURNAL(1);
        close(copy);
        close(peer);
        close(pair.a);
        close(pair.b);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void close_on_first(void *arg, int events)
{
    note(ARG(events));
    if (events != POLLNVAL)
        close((int)(intptr_t)arg);
}

TEST(a_ready_watch_whose_descriptor_is_closed_says_so_once_and_has_ended)
{
    open_all();
    put(pair.b, "x", 1);
    watch_a(POLLIN, close_on_first, pair.a);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(POLLIN, POLLNVAL);
    CHECK(!naru_watch_stop(&watch));
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_waiting_watch_whose_descriptor_is_forgotten_says_so_once_and_has_ended)
{
    open_all();
    CHECK_EQ(naru_watch_start(loop, &watch, pair.a, POLLIN, close_on_first, ARG(-1)), 0);
    one_round(loop);
    naru_loop_forget(loop, pair.a);
    close(pair.a);
    CHECK_EQ(journal.count, 0);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(POLLNVAL);
    CHECK(!naru_watch_stop(&watch));
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_waiting_watch_keeps_the_loop_alive)
{
    naru_timer timer = {0};
    open_all();
    watch_a(POLLIN, must_not, 1);
    naru_timer_after(loop, &timer, NARU_MS(1), stop_loop, loop);
    CHECK_EQ(naru_loop_run(loop), 0); /* by the stop */
    CHECK(naru_watch_stop(&watch));
    run_and_close(loop);
}
