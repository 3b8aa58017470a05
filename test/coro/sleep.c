/* Yield and sleep. */
#include "helpers.h"

static int take_turns(void *name)
{
    for (int i = 0; i < 3; i++) {
        note(name);
        CHECK_EQ(naru_yield(), 0);
    }
    return 0;
}

TASK_TEST(yield_lets_everything_that_is_ready_run_first)
{
    naru_task *tasks[] = {naru_spawn(take_turns, "a"), naru_spawn(take_turns, "b")};
    for (int i = 0; i < 2; i++)
        CHECK_EQ(naru_join(tasks[i]), 0);
    CHECK_STR(trace, "a b a b a b");
}

TASK_TEST(a_sleep_of_no_time_gives_up_exactly_one_turn) /* TIMER-15 */
{
    naru_callback cb = {0};
    naru_call_soon(naru_loop_current(), &cb, note_callback, "callback");
    CHECK_EQ(naru_sleep(0), 0);
    note("sleeper");
    naru_call_soon(naru_loop_current(), &cb, note_callback, "callback");
    CHECK_EQ(naru_sleep(-5), 0);
    note("sleeper");
    naru_call_soon(naru_loop_current(), &cb, note_callback, "callback");
    CHECK_EQ(naru_sleep(INT64_MIN), 0);
    note("sleeper");
    CHECK_STR(trace, "callback sleeper callback sleeper callback sleeper");
}

TASK_TEST(a_sleep_is_never_too_short)
{
    for (int i = 0; i < 20; i++) {
        int64_t begin = naru_now();
        CHECK_EQ(naru_sleep(NARU_US(100) * i), 0);
        CHECK_GE(naru_now() - begin, NARU_US(100) * i);
    }
}

TASK_TEST(sleep_until_a_time_ends_no_earlier_than_that)
{
    int64_t deadline = naru_now() + NARU_MS(2);
    CHECK_EQ(naru_sleep_until(deadline), 0);
    CHECK_GE(naru_now(), deadline);
}

TASK_TEST(sleep_until_a_time_in_the_past_ends)
{
    CHECK_EQ(naru_sleep_until(naru_now() - NARU_SEC(5)), 0);
    CHECK_EQ(naru_sleep_until(0), 0);
    CHECK_EQ(naru_sleep_until(INT64_MIN), 0);
}

struct nap {
    int64_t deadline;
    const char *name;
};

static int nap(void *arg)
{
    struct nap *n = arg;
    CHECK_EQ(naru_sleep_until(n->deadline), 0);
    note(n->name);
    return 0;
}

TASK_TEST(sleepers_wake_in_the_order_of_their_deadlines_and_equals_as_they_came) /* TIMER-04 */
{
    int64_t soon = naru_now() + NARU_MS(3);
    struct nap naps[] = {{soon + NARU_MS(2), "4"}, {soon, "1"}, {soon + 1, "3"}, {soon, "2"}};
    naru_task *tasks[4];
    for (int i = 0; i < 4; i++)
        tasks[i] = naru_spawn(nap, &naps[i]);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(naru_join(tasks[i]), 0);
    CHECK_STR(trace, "1 2 3 4");
}

static int sleep_long(void *arg)
{
    (void)arg;
    return naru_sleep(INT64_MAX - 1);
}

TASK_TEST(a_sleep_of_almost_for_ever_does_not_overflow)
{
    naru_task *task = naru_spawn(sleep_long, NULL);
    CHECK_EQ(naru_sleep(NARU_MS(1)), 0);
    CHECK(!naru_done(task));
    naru_cancel(task);
    CHECK_EQ(naru_join(task), -ECANCELED);
}

static int sleep_hour(void *arg)
{
    (void)arg;
    return naru_sleep(NARU_SEC(3600));
}

TASK_TEST(a_cancelled_sleep_leaves_no_timer) /* TIMER-16: or it would fire into a frame that is gone */
{
    enum { MANY = 1000 };
    static naru_task *tasks[MANY];
    for (int i = 0; i < MANY; i++)
        tasks[i] = naru_spawn(sleep_hour, NULL);
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_cancel_all(tasks, MANY), 0);
    naru_release_all(tasks, MANY);
}

static int sleep_hour_and_end_run(void *arg)
{
    (void)arg;
    naru_task *task = naru_spawn(sleep_hour, NULL);
    CHECK_EQ(naru_yield(), 0);
    naru_cancel(task);
    return naru_join(task);
}

TEST(after_a_cancelled_sleep_a_loop_has_nothing_to_wait_for)
{
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, NULL), 0);
    naru_release(naru_spawn_in(loop, sleep_hour_and_end_run, NULL));
    CHECK_EQ(naru_loop_run(loop), 0); /* returns now, not in an hour */
    CHECK_EQ(naru_loop_close(loop), 0);
}
