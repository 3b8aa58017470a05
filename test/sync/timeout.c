/* Timeout scopes: whose request was it? */
#include "test/coro/helpers.h"

#include <naru/sync.h>

static naru_future never;

static int wait_for_never(void *arg)
{
    (void)arg;
    return naru_future_wait(&never);
}

/* ---- one scope ---- */

TASK_TEST(a_wait_beyond_the_deadline_ends_as_a_timeout) /* TMO-01 */
{
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, NARU_MS(1)), 0);
    CHECK(!naru_timeout_expired(&t));
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    CHECK(naru_timeout_expired(&t));
    CHECK_EQ(naru_timeout_end(&t, -ECANCELED), -ETIMEDOUT);
    CHECK(naru_timeout_expired(&t));
    CHECK_EQ(naru_cancelling(naru_self()), 0);
    CHECK_EQ(naru_yield(), 0);
}

TASK_TEST(a_block_that_ends_in_time_keeps_its_result_and_the_timer_is_gone) /* TMO-02 */
{
    naru_timeout t;
    int64_t deadline = naru_now() + NARU_MS(1);
    CHECK_EQ(naru_timeout_begin_at(&t, deadline), 0);
    CHECK_EQ(naru_timeout_end(&t, 42), 42);
    CHECK(!naru_timeout_expired(&t));
    CHECK_EQ(naru_timeout_when(&t), deadline);
    CHECK_EQ(naru_sleep_until(deadline + NARU_MS(1)), 0);
    CHECK(!naru_timeout_expired(&t));
}

TASK_TEST(a_deadline_of_for_ever_never_comes) /* TMO-03 */
{
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, NARU_FOREVER), 0);
    CHECK_EQ(naru_timeout_when(&t), NARU_FOREVER);
    CHECK_EQ(naru_sleep(NARU_US(10)), 0);
    CHECK_EQ(naru_timeout_end(&t, 1), 1);
    CHECK_EQ(naru_timeout_begin_at(&t, NARU_FOREVER), 0);
    CHECK_EQ(naru_timeout_when(&t), NARU_FOREVER);
    CHECK_EQ(naru_timeout_end(&t, 1), 1);
}

TASK_TEST(a_deadline_too_far_away_to_be_told_is_for_ever)
{
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, NARU_FOREVER - 1), 0);
    CHECK_EQ(naru_timeout_when(&t), NARU_FOREVER);
    CHECK_EQ(naru_timeout_end(&t, 1), 1);
}

TASK_TEST(a_timeout_of_zero_ends_the_first_wait) /* TMO-04 */
{
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, 0), 0);
    CHECK_EQ(naru_timeout_end(&t, naru_sleep(NARU_FOREVER)), -ETIMEDOUT);
}

TASK_TEST(a_timeout_of_zero_ends_even_a_yield) /* TMO-04 */
{
    for (int i = 0; i < 100; i++) {
        naru_timeout t;
        CHECK_EQ(naru_timeout_begin(&t, 0), 0);
        CHECK_EQ(naru_timeout_end(&t, naru_yield()), -ETIMEDOUT);
    }
}

TASK_TEST(a_deadline_in_the_past_ends_even_a_yield) /* TMO-04 */
{
    int64_t past[] = {naru_now() - NARU_SEC(1), 0, -1, INT64_MIN};
    for (int i = 0; i < 4; i++) {
        naru_timeout t;
        CHECK_EQ(naru_timeout_begin_at(&t, past[i]), 0);
        CHECK_EQ(naru_timeout_when(&t), past[i]);
        CHECK_EQ(naru_timeout_end(&t, naru_yield()), -ETIMEDOUT);
        CHECK_EQ(naru_timeout_begin(&t, past[i] < 0 ? past[i] : -1), 0);
        CHECK_EQ(naru_timeout_end(&t, naru_yield()), -ETIMEDOUT);
    }
}

TASK_TEST(a_block_that_never_waits_is_not_interrupted_however_late_it_is) /* TMO-05, TMO-22 */
{
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, 0), 0);
    int64_t end = naru_now() + NARU_MS(1);
    while (naru_now() < end)
        continue;
    CHECK_EQ(naru_timeout_end(&t, 5), 5);
    CHECK(!naru_timeout_expired(&t));
    CHECK_EQ(naru_yield(), 0);
}

TASK_TEST(a_scope_that_expired_when_the_block_had_its_result_lets_it_pass) /* TMO-22 */
{
    naru_timeout t;
    naru_task *child = naru_spawn(return_number, number(3));
    CHECK_EQ(naru_yield(), 0); /* it is done */
    CHECK_EQ(naru_timeout_begin(&t, 0), 0);
    CHECK_EQ(naru_yield(), -ECANCELED);
    CHECK(naru_timeout_expired(&t));
    CHECK_EQ(naru_timeout_end(&t, naru_join(child)),
             3); /* the block swallowed it and has a result after all */
    CHECK_EQ(naru_cancelling(naru_self()), 0);
    CHECK_EQ(naru_yield(), 0);
}

TASK_TEST(an_error_of_the_block_passes_unchanged) /* TMO-13, TMO-14 */
{
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, NARU_FOREVER), 0);
    CHECK_EQ(naru_timeout_end(&t, -EPROTO), -EPROTO);
    CHECK_EQ(naru_timeout_begin(&t, 0), 0);
    CHECK_EQ(naru_yield(), -ECANCELED);
    CHECK_EQ(naru_timeout_end(&t, -EPROTO), -EPROTO);
    CHECK_EQ(naru_cancelling(naru_self()), 0);
}

static int timeout_of_a_child(void *arg)
{
    naru_timeout t;
    (void)arg;
    CHECK_EQ(naru_timeout_begin(&t, 0), 0);
    return naru_timeout_end(&t, naru_sleep(NARU_FOREVER));
}

TASK_TEST(a_timeout_in_a_child_is_an_error_like_any_other_for_its_parent) /* TMO-15 */
{
    CHECK_EQ(naru_join(naru_spawn(timeout_of_a_child, NULL)), -ETIMEDOUT);
    CHECK_EQ(naru_cancelling(naru_self()), 0);
}

TASK_TEST(a_timeout_around_an_await_ends_the_awaited_task_first)
{
    naru_timeout t;
    naru_task *child = naru_spawn(wait_for_never, NULL);
    CHECK_EQ(naru_timeout_begin(&t, 0), 0);
    CHECK_EQ(naru_timeout_end(&t, naru_await(child)), -ETIMEDOUT);
    CHECK(naru_cancelled(child));
    naru_release(child);
}

static int swallow(void *arg)
{
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    return return_number(arg);
}

TASK_TEST(a_timeout_is_one_also_if_the_awaited_task_swallowed_the_request)
{
    naru_timeout t;
    naru_task *child = naru_spawn(swallow, number(6));
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_timeout_begin(&t, 0), 0);
    CHECK_EQ(naru_timeout_end(&t, naru_await(child)), -ETIMEDOUT);
    CHECK_EQ(naru_result(child), 6);
    naru_release(child);
}

TASK_TEST(an_awaited_task_that_somebody_else_cancelled_is_no_timeout)
{
    naru_timeout t;
    naru_task *child = naru_spawn(wait_for_never, NULL);
    CHECK_EQ(naru_yield(), 0);
    naru_cancel(child);
    CHECK_EQ(naru_timeout_begin(&t, NARU_SEC(100)), 0);
    CHECK_EQ(naru_timeout_end(&t, naru_join(child)), -ECANCELED);
    CHECK(!naru_timeout_expired(&t));
}

TEST(a_timeout_outside_a_task_is_refused) /* TMO-19 */
{
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, 0), -EPERM);
    CHECK_EQ(naru_timeout_begin_at(&t, 0), -EPERM);
}

/* ---- nested ---- */

TASK_TEST(the_inner_of_two_scopes_may_expire_alone)
{
    naru_timeout outer, inner;
    CHECK_EQ(naru_timeout_begin(&outer, NARU_SEC(100)), 0);
    CHECK_EQ(naru_timeout_begin(&inner, 0), 0);
    CHECK_EQ(naru_timeout_end(&inner, naru_sleep(NARU_FOREVER)), -ETIMEDOUT);
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_timeout_end(&outer, 1), 1);
    CHECK(!naru_timeout_expired(&outer));
}

TASK_TEST(the_outer_of_two_scopes_goes_through_the_inner_as_a_cancellation)
{
    naru_timeout outer, inner;
    CHECK_EQ(naru_timeout_begin(&outer, 0), 0);
    CHECK_EQ(naru_timeout_begin(&inner, NARU_SEC(100)), 0);
    int rc = naru_timeout_end(&inner, naru_sleep(NARU_FOREVER));
    CHECK_EQ(rc, -ECANCELED);
    CHECK(!naru_timeout_expired(&inner));
    CHECK_EQ(naru_timeout_end(&outer, rc), -ETIMEDOUT);
    CHECK_EQ(naru_cancelling(naru_self()), 0);
}

enum { NESTED = 5 };

static void check_expiry_of_all(naru_timeout *scopes)
{
    int rc = naru_sleep(NARU_FOREVER);
    for (int i = NESTED - 1; i >= 0; i--) {
        CHECK(naru_timeout_expired(&scopes[i]));
        rc = naru_timeout_end(&scopes[i], rc);
        CHECK_EQ(rc, i > 0 ? -ECANCELED : -ETIMEDOUT);
    }
    CHECK_EQ(naru_cancelling(naru_self()), 0);
    CHECK_EQ(naru_yield(), 0);
}

TASK_TEST(of_scopes_whose_deadline_has_passed_the_outermost_is_the_timeout) /* TMO-07 */
{
    naru_timeout scopes[NESTED];
    for (int i = 0; i < NESTED; i++)
        CHECK_EQ(naru_timeout_begin(&scopes[i], 0), 0);
    check_expiry_of_all(scopes);
}

TASK_TEST(of_scopes_that_expire_at_once_the_outermost_is_the_timeout) /* TMO-07 */
{
    naru_timeout scopes[NESTED];
    int64_t wait = NARU_MS(1), deadline;
    for (;; wait *= 2) {
        deadline = naru_now() + wait;
        for (int i = 0; i < NESTED; i++)
            CHECK_EQ(naru_timeout_begin_at(&scopes[i], deadline), 0);
        if (naru_now() < deadline)
            break; /* all were begun before it */
        for (int i = NESTED - 1; i >= 0; i--)
            CHECK_EQ(naru_timeout_end(&scopes[i], 0), 0);
    }
    check_expiry_of_all(scopes);
}

TASK_TEST(a_new_scope_works_in_the_cleanup_of_an_expired_one) /* TMO-20 */
{
    naru_timeout outer, inner;
    CHECK_EQ(naru_timeout_begin(&outer, 0), 0);
    int rc = naru_sleep(NARU_FOREVER);
    CHECK_EQ(rc, -ECANCELED);
    CHECK_EQ(naru_timeout_begin(&inner, 0), 0);
    CHECK_EQ(naru_timeout_end(&inner, naru_sleep(NARU_FOREVER)), -ETIMEDOUT);
    CHECK_EQ(naru_timeout_end(&outer, rc), -ETIMEDOUT);
    CHECK_EQ(naru_cancelling(naru_self()), 0);
}

/* ---- somebody else's request ---- */

static int sleep_in_scope(void *timeout)
{
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, *(int64_t *)timeout), 0);
    int rc = naru_timeout_end(&t, naru_sleep(NARU_FOREVER));
    note(naru_timeout_expired(&t) ? "expired" : "not expired");
    return rc;
}

TASK_TEST(a_cancellation_from_outside_passes_through_a_scope_that_has_not_expired) /* TMO-09 */
{
    int64_t timeout = NARU_SEC(100);
    naru_task *task = naru_spawn(sleep_in_scope, &timeout);
    CHECK_EQ(naru_yield(), 0);
    naru_cancel(task);
    CHECK_EQ(naru_join(task), -ECANCELED);
    CHECK_STR(trace, "not expired");
}

static void cancel_it(void *task)
{
    CHECK(naru_cancel(task));
}

/* The scope is due at once, as a callback like the canceller's: so the order is the order of these two calls. */
static int expire_and_be_cancelled(void *expiry_first)
{
    static naru_callback cb;
    naru_timeout t;
    if (!expiry_first)
        naru_call_soon(naru_loop_current(), &cb, cancel_it, naru_self());
    CHECK_EQ(naru_timeout_begin(&t, 0), 0);
    if (expiry_first)
        naru_call_soon(naru_loop_current(), &cb, cancel_it, naru_self());
    int rc = naru_timeout_end(&t, naru_sleep(NARU_FOREVER));
    CHECK(naru_timeout_expired(&t));
    CHECK_EQ(naru_cancelling(naru_self()), 1);
    return rc;
}

TASK_TEST(a_cancellation_from_outside_just_after_the_expiry_is_not_lost) /* TASK-25 */
{
    CHECK_EQ(naru_join(naru_spawn(expire_and_be_cancelled, number(1))), -ECANCELED);
}

TASK_TEST(a_cancellation_from_outside_just_before_the_expiry_is_not_lost) /* TASK-25 */
{
    CHECK_EQ(naru_join(naru_spawn(expire_and_be_cancelled, number(0))), -ECANCELED);
}

static int scope_after_cancellation(void *arg)
{
    naru_timeout t;
    (void)arg;
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED); /* swallowed; its request stays counted */
    CHECK_EQ(naru_timeout_begin(&t, 0), 0);
    CHECK_EQ(naru_timeout_end(&t, naru_sleep(NARU_FOREVER)), -ETIMEDOUT);
    CHECK_EQ(naru_cancelling(naru_self()), 1);
    CHECK_EQ(naru_timeout_begin(&t, NARU_SEC(100)), 0);
    note("again");
    return naru_timeout_end(&t, naru_sleep(NARU_FOREVER));
}

TASK_TEST(in_a_task_that_swallowed_a_cancellation_scopes_still_know_their_own) /* TMO-12 */
{
    naru_task *task = naru_spawn(scope_after_cancellation, NULL);
    CHECK_EQ(naru_yield(), 0);
    naru_cancel(task);
    while (!strstr(trace, "again"))
        CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_yield(), 0);
    naru_cancel(task);
    CHECK_EQ(naru_join(task), -ECANCELED);
}

TASK_TEST(a_request_that_was_pending_when_the_scope_began_is_not_the_scopes)
{
    naru_timeout t;
    naru_cancel(naru_self());
    CHECK_EQ(naru_timeout_begin(&t, NARU_SEC(100)), 0);
    CHECK_EQ(naru_timeout_end(&t, naru_yield()), -ECANCELED);
    CHECK_EQ(naru_uncancel(naru_self()), 0);
}

static int block_that_swallows(void *arg)
{
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, 0), 0);
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    CHECK_EQ(naru_yield(), 0); /* once only */
    return naru_timeout_end(&t, return_number(arg));
}

TASK_TEST(a_block_that_swallows_the_expiry_keeps_its_result)
{
    CHECK_EQ(naru_join(naru_spawn(block_that_swallows, number(9))), 9);
}

TASK_TEST(a_sticky_task_is_free_again_after_its_timeout)
{
    naru_spawn_options options = {.flags = NARU_STICKY_CANCEL};
    naru_task *task = naru_spawn_with(&options, timeout_of_a_child, NULL);
    CHECK_EQ(naru_join(task), -ETIMEDOUT);
}

/* ---- moving the deadline ---- */

TASK_TEST(a_deadline_can_be_moved_away) /* TMO-16 */
{
    naru_timeout t;
    int64_t deadline = naru_now() + NARU_MS(1);
    CHECK_EQ(naru_timeout_begin_at(&t, deadline), 0);
    CHECK_EQ(naru_timeout_reschedule(&t, NARU_FOREVER), 0);
    CHECK_EQ(naru_timeout_when(&t), NARU_FOREVER);
    CHECK_EQ(naru_sleep_until(deadline + NARU_MS(1)), 0);
    CHECK_EQ(naru_timeout_end(&t, 0), 0);
    CHECK(!naru_timeout_expired(&t));
}

TASK_TEST(a_deadline_can_be_moved_back) /* TMO-16 */
{
    naru_timeout t;
    int64_t deadline = naru_now() + NARU_MS(1);
    CHECK_EQ(naru_timeout_begin_at(&t, deadline), 0);
    CHECK_EQ(naru_timeout_reschedule(&t, deadline + NARU_SEC(100)), 0);
    CHECK_EQ(naru_timeout_when(&t), deadline + NARU_SEC(100));
    CHECK_EQ(naru_sleep_until(deadline + NARU_MS(1)), 0);
    CHECK_EQ(naru_timeout_end(&t, 0), 0);
}

TASK_TEST(a_deadline_can_be_moved_into_the_past_and_is_due_at_the_next_wait) /* TMO-16 */
{
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, NARU_FOREVER), 0);
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_timeout_reschedule(&t, naru_now()), 0);
    CHECK_EQ(naru_timeout_end(&t, naru_yield()), -ETIMEDOUT);
}

TASK_TEST(a_deadline_that_is_due_can_still_be_moved_before_anything_waits)
{
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, 0), 0);
    CHECK_EQ(naru_timeout_reschedule(&t, NARU_FOREVER), 0);
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_timeout_end(&t, 2), 2);
}

TASK_TEST(an_expired_deadline_cannot_be_moved) /* TMO-17 */
{
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, 0), 0);
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    CHECK_EQ(naru_timeout_reschedule(&t, NARU_FOREVER), -EALREADY);
    CHECK_EQ(naru_timeout_end(&t, -ECANCELED), -ETIMEDOUT);
}

static int move_anothers(void *timeout)
{
    return naru_timeout_reschedule(timeout, 0);
}

TASK_TEST(another_tasks_deadline_cannot_be_moved)
{
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, NARU_FOREVER), 0);
    CHECK_EQ(naru_join(naru_spawn(move_anothers, &t)), -EPERM);
    CHECK_EQ(naru_timeout_end(&t, 1), 1);
}

/* ---- many ---- */

static int many_scopes(void *arg)
{
    for (int i = 0; i < 20; i++) {
        naru_timeout t;
        CHECK_EQ(naru_timeout_begin(&t, NARU_US(i)), 0);
        CHECK_EQ(naru_timeout_end(&t, naru_sleep(NARU_FOREVER)), -ETIMEDOUT);
        CHECK_EQ(naru_timeout_begin(&t, NARU_SEC(100)), 0);
        CHECK_EQ(naru_timeout_end(&t, naru_sleep(NARU_US(1))), 0);
    }
    CHECK_EQ(naru_cancelling(naru_self()), 0);
    return return_number(arg);
}

TASK_TEST(many_tasks_may_have_timeouts_at_once)
{
    naru_task *tasks[200];
    for (int i = 0; i < 200; i++)
        tasks[i] = naru_spawn(many_scopes, number(i));
    for (int i = 0; i < 200; i++)
        CHECK_EQ(naru_join(tasks[i]), i);
}

/* ---- the program's mistake ---- */

static int leave_a_scope_open(void *arg)
{
    naru_timeout t;
    (void)arg;
    return naru_timeout_begin(&t, NARU_MS(5));
}

static int use_the_stack_again(void *arg)
{
    volatile char frames[2048];
    memset((char *)frames, 0x55, sizeof frames);
    (void)arg;
    return naru_sleep(NARU_MS(20)) + frames[0] - 0x55;
}

static int open_scope_program(void *arg)
{
    CHECK_EQ(naru_join(naru_spawn(leave_a_scope_open, arg)), 0);
    return naru_join(naru_spawn(use_the_stack_again, arg));
}

TEST(a_scope_left_open_is_reported_and_its_timer_never_fires)
{
    if (test_runs_in("valgrind"))
        SKIP("Valgrind reports the mistake itself, and rightly: the scope's frame is dead");
    CHECK_EQ(run_recorded(0, open_scope_program, NULL), 0);
    CHECK_EQ(report_count, 1);
    CHECK(strstr(reports, "task-2 returned from inside a timeout") != NULL);
}

TEST(ending_a_scope_that_never_began_passes_the_result_on)
{
    naru_timeout t = {0};
    CHECK_EQ(naru_timeout_begin(&t, 1), -EPERM);
    CHECK_EQ(naru_timeout_end(&t, -EPERM), -EPERM);
}
