/* Futures: settled once, seen by all who wait, in the order they came. */
#include "helpers.h"

static naru_future f;

TEST(a_new_future_is_pending) /* FUT-01, FUT-02 */
{
    CHECK(!naru_future_done(&f));
    CHECK(!naru_future_cancelled(&f));
    CHECK_EQ(naru_future_status(&f), -EAGAIN);
    CHECK_PTR(naru_future_value(&f), NULL);
}

TEST(a_future_is_settled_once_and_keeps_its_first_outcome) /* FUT-03, FUT-04 */
{
    naru_future ready = NARU_FUTURE_INIT;
    CHECK(naru_future_set(&ready, 5, trace));
    CHECK(!naru_future_set(&ready, 6, NULL));
    CHECK(!naru_future_cancel(&ready));
    CHECK(naru_future_done(&ready));
    CHECK(!naru_future_cancelled(&ready));
    CHECK_EQ(naru_future_status(&ready), 5);
    CHECK_PTR(naru_future_value(&ready), trace);
}

TEST(a_cancelled_future_is_done_with_ecanceled) /* FUT-04, FUT-05 */
{
    CHECK(naru_future_cancel(&f));
    CHECK(naru_future_done(&f));
    CHECK(naru_future_cancelled(&f));
    CHECK_EQ(naru_future_status(&f), -ECANCELED);
    CHECK_PTR(naru_future_value(&f), NULL);
    CHECK(!naru_future_cancel(&f));
}

TASK_TEST(waiting_for_a_settled_future_does_not_suspend)
{
    naru_task *witness = naru_spawn(note_body, "ran");
    naru_future_set(&f, -EIO, NULL);
    CHECK_EQ(naru_future_wait(&f), -EIO);
    CHECK_EQ(naru_future_wait(&f), -EIO);
    CHECK_STR(trace, "");
    naru_release(witness);
}

static int wait_and_note(void *name)
{
    int rc = naru_future_wait(&f);
    note(name);
    return rc;
}

TASK_TEST(all_waiters_are_woken_in_the_order_they_came_in_one_batch) /* FUT-14 */
{
    naru_task *tasks[] = {naru_spawn(wait_and_note, "1"), naru_spawn(wait_and_note, "2"),
                          naru_spawn(wait_and_note, "3")};
    CHECK_EQ(naru_yield(), 0);
    CHECK(naru_future_set(&f, 4, NULL));
    CHECK_STR(trace, ""); /* nobody runs inside set: FUT-07 */
    CHECK_EQ(naru_yield(), 0);
    CHECK_STR(trace, "1 2 3");
    for (int i = 0; i < 3; i++)
        CHECK_EQ(naru_join(tasks[i]), 4);
}

TASK_TEST(callbacks_and_waiters_of_a_future_go_in_one_order) /* FUT-07 */
{
    naru_callback cbs[2] = {0};
    CHECK_EQ(naru_future_on_done(&f, &cbs[0], note_callback, "a"), 0);
    naru_task *task = naru_spawn(wait_and_note, "b");
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_future_on_done(&f, &cbs[1], note_callback, "c"), 0);
    CHECK(naru_future_set(&f, 0, NULL));
    CHECK_STR(trace, "");
    CHECK_EQ(naru_join(task), 0);
    settle();
    CHECK_STR(trace, "a b c");
}

TASK_TEST(a_callback_on_a_settled_future_is_queued_not_called) /* FUT-08 */
{
    naru_callback cb = {0};
    naru_future_set(&f, 0, NULL);
    CHECK_EQ(naru_future_on_done(&f, &cb, note_callback, "x"), 0);
    CHECK_STR(trace, "");
    settle();
    CHECK_STR(trace, "x");
}

TASK_TEST(taking_back_any_callback_leaves_the_others_in_order) /* FUT-10 */
{
    for (int gone = 0; gone < 3; gone++) {
        static const char *const names[] = {"1", "2", "3"}, *const left[] = {"2 3", "1 3", "1 2"};
        naru_future mine = NARU_FUTURE_INIT;
        naru_callback cbs[3] = {0};
        trace[0] = '\0';
        for (int i = 0; i < 3; i++)
            CHECK_EQ(naru_future_on_done(&mine, &cbs[i], note_callback, (void *)(uintptr_t)names[i]), 0);
        CHECK(naru_callback_cancel(&cbs[gone]));
        CHECK(!naru_callback_cancel(&cbs[gone]));
        naru_future_cancel(&mine);
        settle();
        CHECK_STR(trace, left[gone]);
    }
}

TASK_TEST(a_callback_registered_again_moves_and_runs_once)
{
    naru_future other = NARU_FUTURE_INIT;
    naru_callback cb = {0};
    CHECK_EQ(naru_future_on_done(&f, &cb, note_callback, "old"), 0);
    CHECK_EQ(naru_future_on_done(&other, &cb, note_callback, "new"), 0);
    naru_future_set(&f, 0, NULL);
    naru_future_set(&other, 0, NULL);
    settle();
    CHECK_STR(trace, "new");
}

TASK_TEST(cancelling_one_waiter_cancels_the_future_for_all)
{
    naru_task *one = naru_spawn(wait_and_note, "1"), *other = naru_spawn(wait_and_note, "2");
    CHECK_EQ(naru_yield(), 0);
    CHECK(naru_cancel(one));
    CHECK(naru_future_cancelled(&f));
    CHECK_EQ(naru_await(other), -ECANCELED);
    CHECK_EQ(naru_cancelling(other), 0);
    CHECK_EQ(naru_join(one), -ECANCELED);
    naru_release(other);
}

static int set_value(void *value)
{
    naru_future_set(&f, 1, value);
    return 0;
}

TASK_TEST(the_value_of_a_future_is_for_whoever_waited)
{
    naru_task *setter = naru_spawn(set_value, "hello");
    CHECK_EQ(naru_future_wait(&f), 1);
    CHECK_STR(naru_future_value(&f), "hello");
    CHECK_EQ(naru_join(setter), 0);
}

static void set_from_callback(void *arg)
{
    (void)arg;
    CHECK(naru_future_set(&f, 9, NULL));
}

TASK_TEST(a_callback_can_settle_a_future)
{
    naru_callback cb = {0};
    naru_call_soon(naru_loop_current(), &cb, set_from_callback, NULL);
    CHECK_EQ(naru_future_wait(&f), 9);
}

TEST(on_done_outside_a_run_is_refused)
{
    naru_callback cb = {0};
    CHECK_EQ(naru_future_on_done(&f, &cb, note_callback, "x"), -EPERM);
}

static int wait_for_it(void *arg)
{
    (void)arg;
    return naru_future_wait(&f);
}

static int on_done_it(void *arg)
{
    static naru_callback cb;
    (void)arg;
    return naru_future_on_done(&f, &cb, note_callback, "x");
}

static int run_loop_until(naru_loop *loop, naru_fn *fn)
{
    naru_task *task = naru_spawn_in(loop, fn, NULL);
    int rc = naru_run_until(loop, task);
    naru_release(task);
    return rc;
}

static int wait_no_longer_than_a_round(void *arg)
{
    naru_task *waiter = naru_spawn(wait_for_it, arg);
    CHECK_EQ(naru_yield(), 0);
    naru_loop_stop(naru_loop_current());
    CHECK_EQ(naru_yield(), 0);
    naru_release(waiter);
    return 0;
}

TEST(a_future_that_is_waited_for_in_one_loop_is_refused_in_another) /* FUT-21 */
{
    naru_loop *one, *other;
    CHECK_EQ(naru_loop_open(&one, NULL), 0);
    CHECK_EQ(naru_loop_open(&other, NULL), 0);
    run_loop_until(one, wait_no_longer_than_a_round);
    CHECK(!naru_future_done(&f));
    CHECK_EQ(run_loop_until(other, wait_for_it), -EINVAL);
    CHECK_EQ(run_loop_until(other, on_done_it), -EINVAL);
    naru_future_set(&f, 0, NULL);
    CHECK_EQ(run_loop_until(other, wait_for_it), 0);
    CHECK_EQ(naru_loop_close(one), 0);
    CHECK_EQ(naru_loop_close(other), 0);
}

/* ---- after the loop ---- */

static int calls;

static void note_called(void *arg)
{
    (void)arg;
    calls++;
}

static void set_it_to_seven(void *arg)
{
    naru_future_set(arg, 7, NULL);
}

static int wait_for_it_with_a_timer(void *arg)
{
    static naru_timer timer;
    (void)arg;
    naru_timer_after(naru_loop_current(), &timer, 1, set_it_to_seven, &f);
    return naru_future_wait(&f);
}

static naru_callback left_behind;

static int leave_a_callback(void *arg)
{
    (void)arg;
    return naru_future_on_done(&f, &left_behind, note_called, NULL);
}

TEST(a_callback_that_waits_for_a_future_is_dropped_with_its_loop)
{
    CHECK_EQ(naru_run(leave_a_callback, NULL), 0);
    CHECK(naru_future_set(&f, 1, NULL));
    CHECK(!naru_callback_cancel(&left_behind));
    CHECK_EQ(calls, 0);
    CHECK_EQ(naru_future_on_done(&f, &left_behind, note_called, NULL), -EPERM);
}

TEST(a_future_left_pending_by_one_run_can_be_waited_for_in_the_next)
{
    CHECK_EQ(naru_run(leave_a_callback, NULL), 0);
    CHECK_EQ(naru_run(wait_for_it_with_a_timer, NULL), 7);
}
