/* Closing: what is dropped, what a closed loop answers, and that nothing freed is touched (run it under ASan). */
#include "test/reactor/common.h"

#include "reactor/internal.h"

#include <sched.h>

static naru_loop *loop;

static void never(void *arg)
{
    (void)arg;
    test_fail(__FILE__, __LINE__, "what was dropped is not called");
}

static void never_watched(void *arg, int events)
{
    (void)events;
    never(arg);
}

static void never_done(naru_op *op)
{
    never(op->arg);
}

static void note_close(void *arg)
{
    CHECK_EQ(naru_loop_close(arg), -EBUSY);
    note(ARG(1));
}

/* LOOP-20 */
TEST(closing_a_running_loop_is_refused_and_it_goes_on)
{
    naru_callback a = {0}, b = {0};
    loop = open_loop();
    naru_call_soon(loop, &a, note_close, loop);
    naru_call_soon(loop, &b, note, ARG(2));
    run_and_close(loop);
    CHECK_JOURNAL(1, 2);
}

/* LOOP-19 */
TEST(closing_again_or_closing_null_does_nothing)
{
    loop = open_loop();
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK_EQ(naru_loop_close(NULL), 0);
}

/* LOOP-18, LOOP-21, LOOP-31 */
TEST(a_closed_loop_refuses_everything)
{
    naru_callback callback = {0};
    naru_timer timer = {0};
    naru_watch watch = {0};
    naru_signal usr1 = {0};
    struct ends ends = make_pipe();
    loop = open_loop();
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK_STR(naru_loop_backend(loop), "closed");
    CHECK_EQ(naru_loop_run(loop), -ESHUTDOWN);
    naru_loop_stop(loop);
    naru_loop_hold(loop);
    naru_loop_unhold(loop);
    naru_loop_unhold(loop);
    naru_loop_forget(loop, ends.read);
    naru_call_soon(loop, &callback, never, NULL);
    CHECK(!naru_callback_cancel(&callback));
    naru_timer_start(loop, &timer, 0, never, NULL);
    CHECK(!naru_timer_stop(&timer));
    naru_timer_after(loop, &timer, 0, never, NULL);
    CHECK(!naru_timer_stop(&timer));
    CHECK_EQ(naru_watch_start(loop, &watch, ends.read, POLLIN, never_watched, NULL), -ESHUTDOWN);
    CHECK(!naru_watch_stop(&watch));
    CHECK_EQ(naru_signal_start(loop, &usr1, SIGUSR1, never, NULL), -ESHUTDOWN);
    CHECK(!naru_signal_stop(&usr1));
    CHECK_EQ(naru_post(loop, never, NULL), -ESHUTDOWN);
}

TEST(an_operation_submitted_to_a_closed_loop_is_done_at_once)
{
    struct outcome outcome = {0};
    naru_op op;
    char byte;
    struct ends ends = make_pipe();
    loop = open_loop();
    CHECK_EQ(naru_loop_close(loop), 0);
    naru_op_read(&op, ends.read, &byte, 1);
    naru_op_submit(loop, &op, record, &outcome);
    CHECK_EQ(outcome.calls, 1);
    CHECK_EQ(outcome.result, -ESHUTDOWN);
    naru_op_cancel(&op);
    CHECK_EQ(outcome.calls, 1);
}

TEST(closing_drops_callbacks)
{
    naru_callback *callback = calloc(1, sizeof *callback);
    loop = open_loop();
    naru_call_soon(loop, callback, never, NULL);
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK(!naru_callback_cancel(callback));
    free(callback);
}

TEST(closing_drops_timers_of_every_distance)
{
    enum { MANY = 64 };
    naru_timer *timers = calloc(MANY, sizeof *timers);
    loop = open_loop();
    for (int i = 0; i < MANY; i++)
        naru_timer_after(loop, &timers[i], i < 63 ? INT64_C(1) << i : -1, never, NULL);
    CHECK_EQ(naru_loop_close(loop), 0);
    for (int i = 0; i < MANY; i++)
        CHECK(!naru_timer_stop(&timers[i]));
    free(timers);
}

/* One that waits, one that is ready and has its next call queued. */
TEST(closing_drops_watches)
{
    naru_watch *watches = calloc(2, sizeof *watches);
    struct ends ends = make_pipe();
    loop = open_loop();
    CHECK_EQ(naru_watch_start(loop, &watches[0], ends.read, POLLIN, never_watched, NULL), 0);
    CHECK_EQ(naru_watch_start(loop, &watches[1], ends.write, POLLOUT, never_watched, NULL), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK(!naru_watch_stop(&watches[0]));
    CHECK(!naru_watch_stop(&watches[1]));
    free(watches);
}

/* One that waits, one that is complete and has its done queued. */
TEST(closing_drops_operations)
{
    naru_op *ops = calloc(2, sizeof *ops);
    char byte;
    struct ends ends = make_pipe();
    loop = open_loop();
    naru_op_read(&ops[0], ends.read, &byte, 1);
    naru_op_submit(loop, &ops[0], never_done, NULL);
    naru_op_write(&ops[1], ends.write, "x", 1);
    naru_op_submit(loop, &ops[1], never_done, NULL);
    CHECK_EQ(naru_loop_close(loop), 0);
    naru_op_cancel(&ops[0]);
    naru_op_cancel(&ops[1]);
    free(ops);
}

static struct ends channel;

static void stop_the_loop(naru_op *op)
{
    CHECK_EQ(op->result, 1);
    naru_loop_stop(loop);
}

static naru_op first_reader, second_reader;
static char bytes[2];

/* Both readers are told that there is something; the first stops the loop, the second goes back to waiting. */
TEST(closing_drops_an_operation_that_was_notified)
{
    naru_callback stop = {0};
    loop = open_loop();
    channel = make_pipe();
    naru_op_read(&first_reader, channel.read, &bytes[0], 1);
    naru_op_read(&second_reader, channel.read, &bytes[1], 1);
    naru_op_submit(loop, &first_reader, stop_the_loop, NULL);
    naru_op_submit(loop, &second_reader, never_done, NULL);
    put(channel.write, "x", 1);
    naru_call_soon(loop, &stop, stop_loop, loop);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
    naru_op_cancel(&second_reader);
}

static int return_7(void *arg)
{
    (void)arg;
    return 7;
}

static naru_op *calls;
static bool began, ended, second_ran;
static pthread_barrier_t barrier;

/* Reads past the library's lock: the test has no other way to see that the close has begun. */
__attribute__((no_sanitize("thread"))) static bool was_dropped(const naru_op *op)
{
    return *(const volatile unsigned char *)&op->state == NARU__OP_IDLE;
}

static int last_beyond_close(void *arg)
{
    (void)arg;
    began = true;
    pthread_barrier_wait(&barrier);
    while (!was_dropped(&calls[1]))
        sched_yield();
    ended = true;
    return 0;
}

static int note_second(void *arg)
{
    (void)arg;
    second_ran = true;
    return 0;
}

/* LOOP-23 differs: the memory that a thread works on may go after the close, so the thread must have ended. */
TEST(closing_waits_for_running_pool_calls_and_drops_queued_ones)
{
    calls = calloc(2, sizeof *calls);
    pthread_barrier_init(&barrier, NULL, 2);
    CHECK_EQ(naru_loop_open(&loop, &(naru_options){.pool_threads = 1}), 0);
    naru_op_call(&calls[0], last_beyond_close, NULL);
    naru_op_call(&calls[1], note_second, NULL);
    naru_op_submit(loop, &calls[0], never_done, NULL);
    naru_op_submit(loop, &calls[1], never_done, NULL);
    pthread_barrier_wait(&barrier);
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK(began);
    CHECK(ended);
    CHECK(!second_ran);
    naru_op_cancel(&calls[0]);
    naru_op_cancel(&calls[1]);
    free(calls);
}

TEST(closing_right_after_submitting_pool_calls_leaves_nothing_behind)
{
    enum { ROUNDS = 200, CALLS = 8 };
    naru_op *ops = calloc(CALLS, sizeof *ops);
    for (int i = 0; i < ROUNDS; i++) {
        loop = open_loop();
        for (int j = 0; j < CALLS; j++) {
            naru_op_call(&ops[j], return_7, NULL);
            naru_op_submit(loop, &ops[j], never_done, NULL);
        }
        CHECK_EQ(naru_loop_close(loop), 0);
        for (int j = 0; j < CALLS; j++)
            naru_op_cancel(&ops[j]);
    }
    free(ops);
}

TEST(closing_drops_posts)
{
    loop = open_loop();
    for (int i = 0; i < 10; i++)
        CHECK_EQ(naru_post(loop, never, NULL), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void post_from_inside(void *arg)
{
    CHECK_EQ(naru_post(arg, never, NULL), 0);
    naru_loop_stop(arg);
}

TEST(closing_drops_posts_of_the_loops_own_thread)
{
    naru_callback a = {0};
    loop = open_loop();
    naru_call_soon(loop, &a, post_from_inside, loop);
    run_and_close(loop);
}

TEST(closing_drops_signals_and_restores_their_handling)
{
    naru_signal *usr1 = calloc(1, sizeof *usr1);
    struct sigaction before, after;
    CHECK_EQ(sigaction(SIGUSR1, NULL, &before), 0);
    loop = open_loop();
    CHECK_EQ(naru_signal_start(loop, usr1, SIGUSR1, never, NULL), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK_EQ(sigaction(SIGUSR1, NULL, &after), 0);
    CHECK(after.sa_handler == before.sa_handler);
    CHECK(!naru_signal_stop(usr1));
    free(usr1);
}

TEST(a_struct_dropped_by_one_loop_serves_in_the_next)
{
    naru_callback callback = {0};
    naru_timer timer = {0};
    naru_signal usr1 = {0};
    naru_watch watch = {0};
    struct ends ends = make_pipe();
    for (int i = 0; i < 3; i++) {
        loop = open_loop();
        naru_call_soon(loop, &callback, never, NULL);
        naru_timer_after(loop, &timer, 0, never, NULL);
        CHECK_EQ(naru_signal_start(loop, &usr1, SIGUSR1, never, NULL), 0);
        CHECK_EQ(naru_watch_start(loop, &watch, ends.read, POLLIN, never_watched, NULL), 0);
        CHECK_EQ(naru_loop_close(loop), 0);
    }
    loop = open_loop();
    naru_call_soon(loop, &callback, note, ARG(1));
    naru_timer_after(loop, &timer, NARU_MS(1), note, ARG(2));
    run_and_close(loop);
    CHECK_JOURNAL(1, 2);
}

/* LOOP-24 */
TEST(closing_with_everything_in_flight_leaves_no_descriptor)
{
    naru_watch watch = {0};
    naru_signal usr1 = {0};
    naru_op op, call;
    char byte;
    struct ends ends = make_pipe();
    int fds = count_fds();
    loop = open_loop();
    CHECK_EQ(naru_watch_start(loop, &watch, ends.read, POLLIN, never_watched, NULL), 0);
    CHECK_EQ(naru_signal_start(loop, &usr1, SIGUSR1, never, NULL), 0);
    naru_op_read(&op, ends.read, &byte, 1);
    naru_op_submit(loop, &op, never_done, NULL);
    naru_op_call(&call, return_7, NULL);
    naru_op_submit(loop, &call, never_done, NULL);
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK_EQ(count_fds(), fds);
}
