/* Cancellation: a request is delivered once, at the wait it meets or at the next one, and it is never lost. */
#include "helpers.h"

#include "coro/park.h"

/* ---- before the start ---- */

TASK_TEST(a_task_cancelled_before_it_starts_never_runs)
{
    naru_task *task = naru_spawn(note_body, "ran");
    CHECK(naru_cancel(task));
    CHECK(!naru_done(task)); /* TASK-05 */
    CHECK_EQ(naru_join(task), -ECANCELED);
    CHECK_STR(trace, "");
}

TASK_TEST(a_cancel_taken_back_before_the_start_changes_nothing)
{
    naru_task *task = naru_spawn(note_body, "ran");
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_uncancel(task), 0);
    CHECK_EQ(naru_join(task), 0);
    CHECK_STR(trace, "ran");
}

/* ---- in each kind of wait: during, and between the wake-up and the resume ---- */

static naru_future future;
static naru_task *awaited;
static const struct naru__wait_kind line_kind = {.what = "line"};
static naru_link line;

static int wait_in_await(void *arg)
{
    (void)arg;
    return naru_await(awaited);
}

static int wait_in_future(void *arg)
{
    (void)arg;
    return naru_future_wait(&future);
}

static int wait_in_yield(void *arg)
{
    (void)arg;
    return naru_yield();
}

static int wait_in_line(void *arg)
{
    (void)arg;
    struct naru__waiter me;
    return naru__wait_in_line(&line, &me, &line_kind, &line);
}

/* Takes the cancellation it gets for no reason to end. */
static int swallow_and_await(void *arg)
{
    (void)arg;
    CHECK_EQ(naru_await(awaited), -ECANCELED);
    return 0;
}

static naru_task *started(naru_fn *fn)
{
    naru_task *task = naru_spawn(fn, NULL);
    CHECK_EQ(naru_yield(), 0);
    return task;
}

TASK_TEST(cancel_during_await_ends_it_when_the_awaited_task_has_ended)
{
    awaited = naru_spawn(sleep_for_ever, NULL);
    naru_task *task = started(wait_in_await);
    CHECK(naru_cancel(task));
    CHECK(!naru_done(task)); /* TASK-05 */
    CHECK(!naru_done(awaited));
    CHECK_EQ(naru_join(task), -ECANCELED);
    CHECK(naru_cancelled(awaited));
    naru_release(awaited);
}

TASK_TEST(cancel_after_the_awaited_task_ended_but_before_the_resume_still_wins)
{
    awaited = naru_spawn(sleep_for_ever, NULL);
    naru_task *task = started(wait_in_await);
    naru_cancel(awaited);
    while (!naru_done(awaited))
        naru_yield(); /* awaited ends, its waiter stands behind us */
    naru_uncancel(awaited);
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_join(task), -ECANCELED);
    naru_release(awaited);
}

static int end_with_value_and_cancel_waiter(void *waiter)
{
    naru_cancel(*(naru_task **)waiter);
    return 3;
}

TASK_TEST(cancel_of_the_waiter_by_the_task_it_awaits_wins_over_the_result)
{
    naru_task *waiter = NULL;
    awaited = naru_spawn(end_with_value_and_cancel_waiter, &waiter);
    waiter = naru_spawn(wait_in_await, NULL);
    /* the awaited one runs first: it cancels a task that never started */
    CHECK_EQ(naru_join(waiter), -ECANCELED);
    naru_release(awaited);
}

TASK_TEST(cancel_during_a_future_wait_cancels_the_future) /* TASK-07 */
{
    naru_task *task = started(wait_in_future);
    CHECK(naru_cancel(task));
    CHECK(naru_future_cancelled(&future));
    CHECK_EQ(naru_join(task), -ECANCELED);
}

TASK_TEST(cancel_after_a_future_was_set_but_before_the_resume_still_wins)
{
    naru_task *task = started(wait_in_future);
    CHECK(naru_future_set(&future, 5, NULL));
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_join(task), -ECANCELED);
    CHECK_EQ(naru_future_status(&future), 5);
}

TASK_TEST(cancel_of_the_task_and_of_its_future_together_is_one_delivery) /* TASK-12 */
{
    naru_task *task = started(wait_in_future);
    CHECK(naru_future_cancel(&future));
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_cancelling(task), 1);
    CHECK_EQ(naru_join(task), -ECANCELED);
}

TASK_TEST(a_cancelled_future_ends_its_waiter_though_nobody_cancelled_that) /* TASK-11 */
{
    naru_task *task = started(wait_in_future);
    CHECK(naru_future_cancel(&future));
    CHECK_EQ(naru_await(task), -ECANCELED);
    CHECK_EQ(naru_cancelling(task), 0);
    naru_release(task);
}

TASK_TEST(cancel_during_a_sleep_ends_it_at_once) /* TASK-26 */
{
    naru_task *task = started(sleep_for_ever);
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_join(task), -ECANCELED);
}

static void cancel_it(void *task)
{
    CHECK(naru_cancel(*(naru_task **)task));
}

/* Both timers are due already, so in the same round: the sleeper's first, then this one, then the sleeper resumes. */
static int sleep_and_be_cancelled(void *task)
{
    static naru_timer timer;
    int64_t deadline = naru_now() - NARU_MS(1);
    naru_timer_start(naru_loop_current(), &timer, deadline + 1, cancel_it, task);
    return naru_sleep_until(deadline);
}

TASK_TEST(cancel_after_the_sleeps_timer_fired_but_before_the_resume_still_wins)
{
    naru_task *task = naru_spawn(sleep_and_be_cancelled, &task);
    CHECK_EQ(naru_join(task), -ECANCELED);
}

TASK_TEST(cancel_during_a_yield_is_delivered_by_it) /* TASK-19 */
{
    naru_task *task = naru_spawn(wait_in_yield, NULL);
    naru_callback cb = {0};
    naru_call_soon(naru_loop_current(), &cb, cancel_it, &task); /* after its first step, before its second */
    CHECK_EQ(naru_join(task), -ECANCELED);
}

TASK_TEST(cancel_during_a_wait_in_line_takes_the_waiter_out)
{
    naru_task *task = started(wait_in_line);
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_join(task), -ECANCELED);
    CHECK(!naru__wake_first(&line));
}

TASK_TEST(cancel_after_a_wake_in_line_but_before_the_resume_still_wins)
{
    naru_task *task = started(wait_in_line);
    CHECK(naru__wake_first(&line));
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_join(task), -ECANCELED);
}

TASK_TEST(cancel_of_one_who_is_already_woken_by_a_cancel_is_still_one_delivery)
{
    naru_task *task = started(wait_in_line);
    CHECK(naru_cancel(task));
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_cancelling(task), 2);
    CHECK_EQ(naru_join(task), -ECANCELED);
}

/* ---- pending requests ---- */

#define SELF_CANCEL_TEST(name, wait)                                      \
    static int cancel_self_and_##name(void *arg)                          \
    {                                                                     \
        (void)arg;                                                        \
        naru_cancel(naru_self());                                         \
        CHECK_EQ(wait, -ECANCELED);                                       \
        CHECK_EQ(naru_cancelling(naru_self()), 1);                        \
        CHECK_EQ(naru_yield(), 0); /* delivered once */                   \
        return 0;                                                         \
    }                                                                     \
    TASK_TEST(a_self_cancel_is_delivered_by_the_next_##name)              \
    {                                                                     \
        CHECK_EQ(naru_join(naru_spawn(cancel_self_and_##name, NULL)), 0); \
    }

/* TASK-16 */
SELF_CANCEL_TEST(yield, naru_yield())
SELF_CANCEL_TEST(sleep, naru_sleep(NARU_FOREVER))
SELF_CANCEL_TEST(short_sleep, naru_sleep(0))
SELF_CANCEL_TEST(sleep_until, naru_sleep_until(naru_now() + NARU_SEC(100)))
SELF_CANCEL_TEST(future_wait, naru_future_wait(&future))
SELF_CANCEL_TEST(join, naru_join(naru_spawn(sleep_for_ever, NULL)))
SELF_CANCEL_TEST(line, wait_in_line(NULL))

TASK_TEST(a_self_cancel_cancels_at_once_what_the_task_would_wait_for) /* TASK-16 */
{
    naru_cancel(naru_self());
    CHECK_EQ(naru_future_wait(&future), -ECANCELED);
    CHECK(naru_future_cancelled(&future));
}

TASK_TEST(a_self_cancel_at_join_cancels_the_child_that_has_not_started)
{
    naru_task *task = naru_spawn(note_body, "ran");
    naru_cancel(naru_self());
    CHECK_EQ(naru_join(task), -ECANCELED);
    CHECK_STR(trace, "");
}

TASK_TEST(waiting_for_what_is_done_already_delivers_nothing) /* TASK-20 */
{
    naru_task *task = naru_spawn(return_number, number(2));
    naru_yield();
    naru_future_set(&future, 3, NULL);
    naru_cancel(naru_self());
    CHECK_EQ(naru_await(task), 2);
    CHECK_EQ(naru_future_wait(&future), 3);
    CHECK_EQ(naru_join(task), 2);
    CHECK_EQ(naru_yield(), -ECANCELED);
}

TASK_TEST(a_pending_request_that_is_taken_back_is_not_delivered)
{
    naru_cancel(naru_self());
    naru_cancel(naru_self());
    CHECK_EQ(naru_cancelling(naru_self()), 2);
    CHECK_EQ(naru_uncancel(naru_self()), 1);
    CHECK_EQ(naru_uncancel(naru_self()), 0);
    CHECK_EQ(naru_yield(), 0);
}

TASK_TEST(uncancel_stops_at_zero) /* TASK-22 */
{
    CHECK_EQ(naru_uncancel(naru_self()), 0);
    CHECK_EQ(naru_cancelling(naru_self()), 0);
}

TASK_TEST(one_of_two_requests_taken_back_leaves_the_other_to_be_delivered)
{
    naru_cancel(naru_self());
    naru_cancel(naru_self());
    CHECK_EQ(naru_uncancel(naru_self()), 1);
    CHECK_EQ(naru_yield(), -ECANCELED);
    CHECK_EQ(naru_yield(), 0);
}

TASK_TEST(uncancel_of_a_wait_in_line_that_was_already_cancelled_does_not_lose_the_wake_up)
{
    naru_task *task = started(wait_in_line);
    naru_cancel(task);
    CHECK_EQ(naru_uncancel(task), 0);
    CHECK_EQ(naru_join(task), -ECANCELED); /* it was woken with that */
}

TASK_TEST(uncancel_after_the_end_changes_nothing) /* TASK-24 */
{
    naru_task *task = started(sleep_for_ever);
    naru_cancel(task);
    CHECK_EQ(naru_await(task), -ECANCELED);
    CHECK_EQ(naru_cancelling(task), 1);
    CHECK_EQ(naru_uncancel(task), 0);
    CHECK(naru_cancelled(task));
    naru_release(task);
}

/* ---- what bodies make of it ---- */

static int swallow(void *result)
{
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    return return_number(result);
}

TASK_TEST(a_body_that_swallows_the_request_ends_with_its_value) /* TASK-13 */
{
    naru_task *task = naru_spawn(swallow, number(8));
    CHECK_EQ(naru_yield(), 0);
    naru_cancel(task);
    CHECK_EQ(naru_await(task), 8);
    CHECK(!naru_cancelled(task));
    naru_release(task);
}

TASK_TEST(a_body_that_turns_the_request_into_an_error_ends_with_that) /* TASK-15 */
{
    naru_task *task = naru_spawn(swallow, number(-EIO));
    CHECK_EQ(naru_yield(), 0);
    naru_cancel(task);
    CHECK_EQ(naru_join(task), -EIO);
}

static int swallow_twice(void *arg)
{
    (void)arg;
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    note("first");
    CHECK_EQ(naru_yield(), 0); /* not disturbed by the old request */
    CHECK_EQ(naru_sleep(NARU_US(1)), 0);
    note("rested");
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    note("second");
    return 0;
}

TASK_TEST(a_second_request_interrupts_again_and_the_first_only_once) /* TASK-14 */
{
    naru_task *task = naru_spawn(swallow_twice, NULL);
    CHECK_EQ(naru_yield(), 0);
    naru_cancel(task);
    while (!strstr(trace, "rested"))
        CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_yield(), 0);
    naru_cancel(task);
    CHECK_EQ(naru_await(task), 0);
    CHECK_EQ(naru_cancelling(task), 2);
    CHECK_STR(trace, "first rested second");
    naru_release(task);
}

static int cancel_self_and_return(void *result)
{
    naru_cancel(naru_self());
    return return_number(result);
}

TASK_TEST(a_body_that_returns_before_a_request_is_delivered_ends_with_its_value)
{
    CHECK_EQ(naru_join(naru_spawn(cancel_self_and_return, number(6))), 6);
    CHECK_EQ(naru_join(naru_spawn(cancel_self_and_return, number(-EIO))), -EIO); /* TASK-18 */
}

TASK_TEST(cancel_of_a_done_task_is_refused_and_not_counted) /* TASK-06 */
{
    naru_task *task = naru_spawn(return_number, number(1));
    CHECK_EQ(naru_await(task), 1);
    CHECK(!naru_cancel(task));
    CHECK_EQ(naru_cancelling(task), 0);
    naru_release(task);
}

static int sticky_body(void *arg)
{
    (void)arg;
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    CHECK_EQ(naru_yield(), -ECANCELED);
    CHECK_EQ(naru_sleep(NARU_US(1)), -ECANCELED);
    CHECK_EQ(naru_future_wait(&future), -ECANCELED);
    CHECK_EQ(wait_in_line(NULL), -ECANCELED);
    CHECK_EQ(naru_uncancel(naru_self()), 0);
    CHECK_EQ(naru_yield(), 0);
    return 0;
}

TASK_TEST(a_sticky_request_fails_every_wait_until_it_is_taken_back)
{
    naru_spawn_options options = {.flags = NARU_STICKY_CANCEL};
    naru_task *task = naru_spawn_with(&options, sticky_body, NULL);
    CHECK_EQ(naru_yield(), 0);
    naru_cancel(task);
    CHECK_EQ(naru_join(task), 0);
}

/* ---- along the chain ---- */

TASK_TEST(a_parent_is_cancelled_even_if_the_child_swallowed_the_request) /* differs from TASK-09 on purpose */
{
    awaited = naru_spawn(swallow, number(8));
    naru_task *parent = started(wait_in_await);
    naru_cancel(parent);
    CHECK_EQ(naru_await(parent), -ECANCELED);
    CHECK_EQ(naru_result(awaited), 8);
    CHECK_EQ(naru_cancelling(parent), 1);
    CHECK_EQ(naru_cancelling(awaited), 1);
    naru_release(awaited);
    naru_release(parent);
}

TASK_TEST(a_child_cancelled_by_somebody_else_is_an_error_like_any_other_for_its_parent)
{
    awaited = naru_spawn(sleep_for_ever, NULL);
    naru_task *parent = started(wait_in_await);
    naru_cancel(awaited);
    CHECK_EQ(naru_await(parent), -ECANCELED);
    CHECK_EQ(naru_cancelling(parent), 0);
    naru_release(awaited);
    naru_release(parent);
}

TASK_TEST(cancelling_one_of_two_awaiting_tasks_ends_the_awaited_and_thereby_both) /* TASK-38 */
{
    awaited = naru_spawn(sleep_for_ever, NULL);
    naru_task *one = naru_spawn(wait_in_await, NULL), *other = started(wait_in_await);
    naru_cancel(one);
    CHECK_EQ(naru_await(other), -ECANCELED);
    CHECK_EQ(naru_cancelling(other), 0);
    CHECK_EQ(naru_join(one), -ECANCELED);
    naru_release(other);
    naru_release(awaited);
}

static int rest_then_value(void *arg)
{
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_yield(), 0);
    note("child cleaned up");
    return return_number(arg);
}

static int await_and_say(void *arg)
{
    int rc = wait_in_await(arg);
    note("parent goes on");
    return rc;
}

TASK_TEST(a_parent_goes_on_only_when_its_child_has_cleaned_up)
{
    awaited = naru_spawn(rest_then_value, NULL);
    naru_task *parent = started(await_and_say);
    naru_cancel(parent);
    CHECK_EQ(naru_join(parent), -ECANCELED);
    CHECK_STR(trace, "child cleaned up parent goes on");
    naru_release(awaited);
}

TASK_TEST(a_swallowed_cancellation_of_the_parent_is_over_for_it)
{
    awaited = naru_spawn(sleep_for_ever, NULL);
    naru_task *parent = started(swallow_and_await);
    naru_cancel(parent);
    CHECK_EQ(naru_join(parent), 0);
    naru_release(awaited);
}

enum { DEPTH = 100000 };
static int deepest;

static int descend(void *depth)
{
    int left = return_number(depth);
    if (left == 0) {
        deepest++;
        return naru_sleep(NARU_FOREVER);
    }
    int rc = naru_join(naru_spawn(descend, number(left - 1)));
    CHECK_EQ(naru_cancelling(naru_self()), 1);
    return rc;
}

TASK_TEST_SLOW(a_request_goes_down_a_chain_of_a_hundred_thousand_awaits_and_comes_back_up, 60)
{
    naru_task *top = naru_spawn(descend, number(many(DEPTH)));
    while (deepest == 0)
        CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_yield(), 0);
    CHECK(naru_cancel(top));
    CHECK_EQ(naru_join(top), -ECANCELED);
}

/* ---- cancel_all ---- */

TASK_TEST(cancel_all_ends_when_all_have_ended_and_skips_null_and_done_ones)
{
    naru_task *tasks[] = {naru_spawn(sleep_for_ever, NULL),       NULL,
                          naru_spawn(return_number, number(1)),   naru_spawn(swallow, number(2)),
                          naru_spawn(rest_then_value, number(3)), NULL};
    CHECK_EQ(naru_yield(), 0);
    naru_task *unstarted = tasks[5] = naru_spawn(note_body, "ran");
    CHECK_EQ(naru_cancel_all(tasks, 6), 0);
    int expected[] = {-ECANCELED, 0, 1, 2, 3, -ECANCELED};
    for (int i = 0; i < 6; i++)
        if (tasks[i])
            CHECK_EQ(naru_result(tasks[i]), expected[i]);
    CHECK(naru_cancelled(unstarted));
    CHECK_STR(trace, "child cleaned up");
    naru_release_all(tasks, 6);
}

TASK_TEST(cancel_all_of_nothing_is_done)
{
    CHECK_EQ(naru_cancel_all(NULL, 0), 0);
}

TASK_TEST(cancel_all_refuses_to_cancel_its_caller_and_does_nothing)
{
    naru_task *tasks[] = {naru_spawn(sleep_for_ever, NULL), naru_self()};
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_cancel_all(tasks, 2), -EDEADLK);
    CHECK_EQ(naru_cancelling(tasks[0]), 0);
    CHECK_EQ(naru_cancelling(tasks[1]), 0);
    CHECK_EQ(naru_cancel_all(tasks, 1), 0);
    naru_release(tasks[0]);
}

static int cancel_parent(void *parent)
{
    naru_task *tasks[] = {parent};
    CHECK_EQ(naru_cancel_all(tasks, 1), -EDEADLK);
    return 4;
}

TASK_TEST(cancel_all_refuses_to_wait_for_a_task_that_awaits_its_caller)
{
    CHECK_EQ(naru_join(naru_spawn(cancel_parent, naru_self())), 4);
}

struct several {
    naru_task *tasks[2];
};

static int cancel_several(void *arg)
{
    struct several *several = arg;
    int rc = naru_cancel_all(several->tasks, 2);
    CHECK(naru_done(several->tasks[0]));
    CHECK(naru_done(several->tasks[1]));
    return rc;
}

TASK_TEST(cancel_all_that_is_cancelled_itself_still_waits_for_all_and_says_so)
{
    struct several several = {{naru_spawn(rest_then_value, NULL), naru_spawn(rest_then_value, NULL)}};
    CHECK_EQ(naru_yield(), 0);
    naru_task *canceller = naru_spawn(cancel_several, &several);
    CHECK_EQ(naru_yield(), 0);
    CHECK(!naru_done(several.tasks[0]));
    naru_cancel(canceller);
    CHECK_EQ(naru_await(canceller), -ECANCELED);
    CHECK_EQ(naru_cancelling(several.tasks[0]), 1); /* asked once, not once more for the canceller's sake */
    naru_release(canceller);
    naru_release_all(several.tasks, 2);
}

TASK_TEST(cancel_all_with_a_request_pending_does_its_work_and_then_delivers_it)
{
    naru_task *tasks[] = {naru_spawn(rest_then_value, NULL)};
    CHECK_EQ(naru_yield(), 0);
    naru_cancel(naru_self());
    CHECK_EQ(naru_cancel_all(tasks, 1), -ECANCELED);
    CHECK(naru_done(tasks[0]));
    CHECK_EQ(naru_yield(), 0);
    naru_release(tasks[0]);
}

static naru_task *rival;

static int await_canceller(void *canceller)
{
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    CHECK_EQ(naru_await(*(naru_task **)canceller), -EDEADLK);
    return 5;
}

static int cancel_rival(void *arg)
{
    (void)arg;
    return naru_cancel_all(&rival, 1);
}

TASK_TEST(whoever_awaits_the_one_that_waits_for_its_end_is_refused)
{
    naru_task *canceller = NULL;
    rival = naru_spawn(await_canceller, &canceller);
    CHECK_EQ(naru_yield(), 0);
    canceller = naru_spawn(cancel_rival, NULL);
    CHECK_EQ(naru_await(canceller), 0);
    CHECK_EQ(naru_result(rival), 5);
    naru_release(rival);
    naru_release(canceller);
}
