/* Generators: values one by one, from a body that runs in the task that asks. */
#include "helpers.h"

#include <naru/sync.h>

static int two_values(void *arg)
{
    (void)arg;
    CHECK_EQ(naru_generator_yield("one"), 0);
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_generator_yield("two"), 0);
    return 0;
}

TASK_TEST(a_generator_gives_its_values_in_order_and_then_its_end_every_time) /* AGEN-01, AGEN-02 */
{
    void *value;
    naru_generator *g = naru_generator_start(two_values, NULL);
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_STR(value, "one");
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_STR(value, "two");
    for (int i = 0; i < 3; i++) {
        value = trace;
        CHECK_EQ(naru_generator_next(g, &value), 0);
        CHECK_PTR(value, NULL);
    }
    CHECK_EQ(naru_generator_close(g), 0);
}

static int note_and_wait(void *arg)
{
    note("asked");
    CHECK_EQ(naru_sleep(NARU_US(1)), 0);
    note("rested");
    return naru_generator_yield(arg);
}

TASK_TEST(starting_a_generator_runs_nothing_and_waiting_inside_suspends_the_consumer) /* AGEN-01 */
{
    void *value;
    naru_generator *g = naru_generator_start(note_and_wait, NULL);
    CHECK_EQ(naru_yield(), 0);
    CHECK_STR(trace, "");
    naru_task *other = naru_spawn(note_body, "other");
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_STR(trace, "asked other rested");
    CHECK_EQ(naru_generator_close(g), 0);
    CHECK_EQ(naru_join(other), 0);
}

TEST(a_generator_needs_a_run_and_a_body)
{
    CHECK_PTR(naru_generator_start(two_values, NULL), NULL);
}

TASK_TEST(a_generator_needs_a_body)
{
    CHECK_PTR(naru_generator_start(NULL, NULL), NULL);
}

static naru_generator *orphan;

static void ask_in_callback(void *arg)
{
    void *value = arg;
    CHECK_EQ(naru_generator_next(orphan, &value), -EPERM);
    CHECK_PTR(value, NULL);
    CHECK_EQ(naru_generator_close(orphan), -EPERM);
    note("refused");
}

TASK_TEST(asking_and_closing_outside_a_task_are_refused)
{
    naru_callback cb = {0};
    orphan = naru_generator_start(two_values, NULL);
    naru_call_soon(naru_loop_current(), &cb, ask_in_callback, trace);
    settle();
    CHECK_STR(trace, "refused");
    CHECK_EQ(naru_generator_close(orphan), 0);
}

TASK_TEST(yielding_outside_a_generator_is_refused)
{
    CHECK_EQ(naru_generator_yield("x"), -EPERM);
}

static int fail_after_one(void *arg)
{
    (void)arg;
    CHECK_EQ(naru_generator_yield("one"), 0);
    return -EIO;
}

TASK_TEST(an_error_of_the_body_is_told_once_then_the_end) /* AGEN-03 */
{
    void *value;
    naru_generator *g = naru_generator_start(fail_after_one, NULL);
    CHECK_EQ(naru_generator_next(g, &value), 1);
    value = trace;
    CHECK_EQ(naru_generator_next(g, &value), -EIO);
    CHECK_PTR(value, NULL);
    CHECK_EQ(naru_generator_next(g, &value), 0);
    CHECK_EQ(naru_generator_close(g), 0); /* it was told already, and nothing was wound up */
}

static int is_consumer(void *consumer)
{
    CHECK_PTR(naru_self(), consumer);
    CHECK_EQ(naru_generator_yield(NULL), 0);
    CHECK_PTR(naru_self(), consumer);
    return 0;
}

TASK_TEST(inside_a_generator_self_is_the_consumer) /* AGEN-16 */
{
    void *value;
    naru_generator *g = naru_generator_start(is_consumer, naru_self());
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_EQ(naru_generator_next(g, &value), 0);
    CHECK_EQ(naru_generator_close(g), 0);
}

static int count_up(void *arg)
{
    for (intptr_t i = 1;; i++)
        if (naru_generator_yield((void *)i) < 0)
            return return_number(arg);
}

static int ask(void *g)
{
    void *value;
    CHECK_EQ(naru_generator_next(g, &value), 1);
    return (int)(intptr_t)value;
}

TASK_TEST(tasks_may_take_turns_in_asking)
{
    naru_generator *g = naru_generator_start(count_up, NULL);
    for (int i = 1; i <= 10; i++)
        CHECK_EQ(naru_join(naru_spawn(ask, g)), i);
    CHECK_EQ(naru_generator_close(g), 0);
}

static int wait_for_ever_inside(void *arg)
{
    (void)arg;
    return naru_sleep(NARU_FOREVER);
}

static int ask_and_expect_error(void *g)
{
    void *value = trace;
    int rc = naru_generator_next(g, &value);
    CHECK_PTR(value, NULL);
    return rc;
}

TASK_TEST(a_second_task_that_asks_or_closes_meanwhile_is_refused_and_the_first_not_harmed) /* AGEN-10 */
{
    void *value;
    naru_generator *g = naru_generator_start(note_and_wait, "x");
    naru_task *first = naru_spawn(ask, g);
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_generator_next(g, &value), -EBUSY);
    CHECK_EQ(naru_generator_close(g), -EBUSY);
    CHECK_NE(naru_join(first), 0);
    CHECK_EQ(naru_generator_close(g), 0);
}

static int ask_itself(void *g)
{
    void *value;
    CHECK_EQ(naru_generator_next(*(naru_generator **)g, &value), -EBUSY);
    CHECK_EQ(naru_generator_close(*(naru_generator **)g), -EBUSY);
    return naru_generator_yield(NULL);
}

TASK_TEST(a_generator_that_asks_itself_is_refused)
{
    void *value;
    naru_generator *g = NULL;
    g = naru_generator_start(ask_itself, &g);
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_EQ(naru_generator_close(g), 0);
}

/* ---- closing ---- */

static int note_close(void *result)
{
    while (naru_generator_yield(NULL) == 0)
        continue;
    CHECK_EQ(naru_yield(), 0); /* may wait while it cleans up */
    note("closed");
    return return_number(result);
}

TASK_TEST(close_lets_a_suspended_body_clean_up)
{
    void *value;
    naru_generator *g = naru_generator_start(note_close, number(-ECANCELED));
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_EQ(naru_generator_close(g), 0);
    CHECK_STR(trace, "closed");
}

TASK_TEST(a_body_that_swallows_the_close_and_ends_makes_close_succeed) /* AGEN-09 */
{
    void *value;
    naru_generator *g = naru_generator_start(note_close, number(5));
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_EQ(naru_generator_close(g), 0);
}

TASK_TEST(an_error_while_closing_is_closes_result)
{
    void *value;
    naru_generator *g = naru_generator_start(note_close, number(-EIO));
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_EQ(naru_generator_close(g), -EIO);
}

TASK_TEST(closing_one_that_never_started_runs_nothing) /* AGEN-07 */
{
    CHECK_EQ(naru_generator_close(naru_generator_start(note_close, NULL)), 0);
    CHECK_STR(trace, "");
}

TASK_TEST(closing_one_that_has_ended_is_fine) /* AGEN-07 */
{
    void *value;
    naru_generator *g = naru_generator_start(return_number, NULL);
    CHECK_EQ(naru_generator_next(g, &value), 0);
    CHECK_EQ(naru_generator_close(g), 0);
}

static int yield_again(void *arg)
{
    (void)arg;
    CHECK_EQ(naru_generator_yield(NULL), 0);
    CHECK_EQ(naru_generator_yield(NULL), -ECANCELED);
    naru_generator_yield("again");
    note("never");
    return 0;
}

TASK_TEST(a_body_that_yields_again_while_it_is_closed_is_a_broken_protocol) /* AGEN-08 */
{
    void *value;
    naru_generator *g = naru_generator_start(yield_again, NULL);
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_EQ(naru_generator_close(g), -EPROTO);
    CHECK_STR(trace, "");
}

TASK_TEST(many_generators_can_be_open_at_once)
{
    enum { MANY = 1000 };
    static naru_generator *all[MANY];
    void *value;
    for (int i = 0; i < MANY; i++)
        all[i] = naru_generator_start(count_up, NULL);
    for (int round = 1; round <= 3; round++)
        for (int i = 0; i < MANY; i++)
            CHECK_EQ(ask(all[i]), round);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(i % 2 ? naru_generator_close(all[i]) : naru_generator_next(all[i], &value), i % 2 ? 0 : 1);
}

static int chain_of(void *depth)
{
    int left = return_number(depth);
    naru_generator *inner = left > 0 ? naru_generator_start(chain_of, number(left - 1)) : NULL;
    for (int i = 0; i < 3; i++) {
        void *value = number(0);
        if (inner)
            CHECK_EQ(naru_generator_next(inner, &value), 1);
        CHECK_EQ(naru_yield(), 0);
        if (naru_generator_yield(number((int)(intptr_t)value + 1)) < 0)
            break;
    }
    return inner ? naru_generator_close(inner) : 0;
}

TASK_TEST(generators_nest)
{
    naru_generator *g = naru_generator_start(chain_of, number(20));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(ask(g), 21);
    CHECK_EQ(naru_generator_close(g), 0);
}

/* ---- cancellation and timeouts ---- */

TASK_TEST(a_cancellation_of_the_consumer_is_felt_inside)
{
    naru_generator *g = naru_generator_start(wait_for_ever_inside, NULL);
    naru_task *task = naru_spawn(ask_and_expect_error, g);
    CHECK_EQ(naru_yield(), 0);
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_join(task), -ECANCELED);
    CHECK_EQ(naru_generator_close(g), 0);
}

static int survive_cancellation(void *arg)
{
    (void)arg;
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    CHECK_EQ(naru_generator_yield(number(7)), 0);
    return 0;
}

TASK_TEST(a_generator_may_survive_a_cancellation_of_its_consumer)
{
    void *value;
    naru_generator *g = naru_generator_start(survive_cancellation, NULL);
    naru_task *task = naru_spawn(ask, g);
    CHECK_EQ(naru_yield(), 0);
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_join(task), 7);
    CHECK_EQ(naru_generator_next(g, &value), 0);
    CHECK_EQ(naru_generator_close(g), 0);
}

TASK_TEST(neither_next_nor_close_deliver_a_request_where_nothing_waits)
{
    naru_generator *g = naru_generator_start(count_up, NULL);
    naru_cancel(naru_self());
    CHECK_EQ(ask(g), 1);
    CHECK_EQ(naru_generator_close(g), 0);
    CHECK_EQ(naru_yield(), -ECANCELED);
}

static int yield_in_own_timeout(void *arg)
{
    naru_timeout t;
    (void)arg;
    CHECK_EQ(naru_timeout_begin(&t, NARU_FOREVER), 0);
    CHECK_EQ(naru_generator_yield("refused"), -EINVAL);
    CHECK_EQ(naru_timeout_end(&t, 0), 0);
    CHECK_EQ(naru_generator_yield("first"), 0);
    CHECK_EQ(naru_timeout_begin(&t, NARU_FOREVER), 0);
    CHECK_EQ(naru_generator_yield("refused"), -EINVAL);
    CHECK_EQ(naru_timeout_end(&t, 0), 0);
    CHECK_EQ(naru_generator_yield("second"), 0);
    return 0;
}

TASK_TEST(yielding_inside_a_timeout_of_its_own_is_refused)
{
    void *value;
    naru_timeout t;
    naru_generator *g = naru_generator_start(yield_in_own_timeout, NULL);
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_STR(value, "first");
    CHECK_EQ(naru_timeout_begin(&t, NARU_FOREVER), 0); /* the consumer's own scope is another matter */
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_STR(value, "second");
    CHECK_EQ(naru_timeout_end(&t, 0), 0);
    CHECK_EQ(naru_generator_next(g, &value), 0);
    CHECK_EQ(naru_generator_close(g), 0);
}

TASK_TEST(a_timeout_of_the_consumer_ends_a_wait_inside)
{
    void *value;
    naru_timeout t;
    naru_generator *g = naru_generator_start(wait_for_ever_inside, NULL);
    CHECK_EQ(naru_timeout_begin(&t, NARU_MS(1)), 0);
    CHECK_EQ(naru_timeout_end(&t, naru_generator_next(g, &value)), -ETIMEDOUT);
    CHECK_EQ(naru_generator_close(g), 0);
}

static int wait_in_timeout(void *arg)
{
    naru_timeout t;
    (void)arg;
    for (;;) {
        CHECK_EQ(naru_timeout_begin(&t, 0), 0);
        CHECK_EQ(naru_timeout_end(&t, naru_sleep(NARU_FOREVER)), -ETIMEDOUT);
        if (naru_generator_yield("tick") < 0)
            return 0;
    }
}

TASK_TEST(a_generator_may_use_timeouts_between_its_values)
{
    void *value;
    naru_generator *g = naru_generator_start(wait_in_timeout, NULL);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(naru_generator_next(g, &value), 1);
        CHECK_STR(value, "tick");
    }
    CHECK_EQ(naru_generator_close(g), 0);
}

/* ---- on a loop of one's own ---- */

static int open_and_leave(void *arg)
{
    void *value;
    (void)arg;
    CHECK_EQ(naru_generator_next(naru_generator_start(count_up, NULL), &value), 1);
    naru_generator_start(count_up, NULL);
    return 0;
}

TEST(generators_left_open_when_a_loop_closes_are_freed_without_running) /* the leak checkers look on */
{
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, NULL), 0);
    naru_task *task = naru_spawn_in(loop, open_and_leave, NULL);
    CHECK_EQ(naru_run_until(loop, task), 0);
    naru_release(task);
    CHECK_EQ(naru_loop_close(loop), 0);
}
