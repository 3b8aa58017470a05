/* Tasks: how they start, what they leave behind, and how long handles live. */
#include "helpers.h"

#include <pthread.h>

/* ---- starting ---- */

TASK_TEST(a_spawned_task_does_not_run_before_its_creator_waits) /* TASK-01 */
{
    naru_task *task = naru_spawn(note_body, "child");
    note("creator");
    CHECK_EQ(naru_join(task), 0);
    CHECK_STR(trace, "creator child");
}

TASK_TEST(tasks_start_in_the_order_of_their_creation) /* TASK-01 */
{
    naru_task *tasks[] = {naru_spawn(note_body, "1"), naru_spawn(note_body, "2"), naru_spawn(note_body, "3")};
    naru_yield();
    CHECK_STR(trace, "1 2 3");
    naru_release_all(tasks, 3);
}

TEST(outside_a_run_there_is_nothing_to_spawn_into)
{
    naru_spawn_options options = {.flags = NARU_EAGER};
    int word = 1;
    CHECK_PTR(naru_spawn(note_body, "x"), NULL);
    CHECK_PTR(naru_spawn_arg(note_body, word), NULL);
    CHECK_PTR(naru_spawn_with(&options, note_body, "x"), NULL);
    CHECK_STR(trace, "");
}

TASK_TEST(a_task_needs_a_body) /* TASK-40 */
{
    CHECK_PTR(naru_spawn(NULL, NULL), NULL);
}

static void spawn_from_callback(void *task)
{
    *(naru_task **)task = naru_spawn(note_body, "child");
}

TASK_TEST(a_callback_can_spawn)
{
    naru_callback cb = {0};
    naru_task *task = NULL;
    naru_call_soon(naru_loop_current(), &cb, spawn_from_callback, &task);
    settle();
    CHECK_EQ(naru_join(task), 0);
    CHECK_STR(trace, "child");
}

TEST(spawn_in_a_loop_that_does_not_run_yet_starts_with_the_run)
{
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, NULL), 0);
    naru_task *task = naru_spawn_in(loop, return_number, number(7));
    CHECK(!naru_done(task));
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(naru_result(task), 7);
    naru_release(task);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(spawn_in_a_closed_loop_gives_no_task) /* LOOP-21 */
{
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, NULL), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK_PTR(naru_spawn_in(loop, note_body, "x"), NULL);
}

/* ---- results ---- */

TASK_TEST(the_result_of_a_body_is_the_result_of_its_task) /* TASK-02 */
{
    CHECK_EQ(naru_join(naru_spawn(return_number, number(42))), 42);
}

TASK_TEST(the_error_of_a_body_is_the_error_of_its_task_and_the_loop_goes_on) /* TASK-02 */
{
    CHECK_EQ(naru_join(naru_spawn(return_number, number(-EPROTO))), -EPROTO);
    CHECK_EQ(naru_join(naru_spawn(return_number, number(1))), 1);
}

TASK_TEST(the_result_of_a_pending_task_is_eagain) /* FUT-02 */
{
    naru_task *task = naru_spawn(return_number, number(3));
    CHECK(!naru_done(task));
    CHECK_EQ(naru_result(task), -EAGAIN);
    naru_yield();
    CHECK(naru_done(task));
    CHECK(!naru_cancelled(task));
    CHECK_EQ(naru_result(task), 3);
    naru_release(task);
}

TASK_TEST(a_body_that_returns_ecanceled_ended_cancelled)
{
    naru_task *task = naru_spawn(return_number, number(-ECANCELED));
    naru_yield();
    CHECK(naru_cancelled(task));
    CHECK_EQ(naru_cancelling(task), 0);
    naru_release(task);
}

TASK_TEST(null_tasks_are_out_of_memory_or_nothing)
{
    void *value = trace;
    naru_callback cb = {0};
    naru_task *none[2] = {NULL, NULL};
    CHECK_EQ(naru_await(NULL), -ENOMEM);
    CHECK_EQ(naru_join(NULL), -ENOMEM);
    CHECK_EQ(naru_join_value(NULL, &value), -ENOMEM);
    CHECK_PTR(value, NULL);
    CHECK_EQ(naru_result(NULL), -ENOMEM);
    CHECK_EQ(naru_task_on_done(NULL, &cb, note_callback, "x"), -ENOMEM);
    CHECK_EQ(naru_task_wait_thread(NULL, 0), -ENOMEM);
    CHECK(!naru_cancel(NULL));
    CHECK_EQ(naru_cancelling(NULL), 0);
    CHECK_EQ(naru_uncancel(NULL), 0);
    CHECK_PTR(naru_retain(NULL), NULL);
    CHECK_STR(naru_error_message(NULL), "");
    naru_release(NULL);
    naru_release_all(none, 2);
    CHECK_EQ(naru_cancel_all(none, 2), 0);
}

/* ---- awaiting ---- */

TEST(waiting_outside_a_task_is_refused)
{
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, NULL), 0);
    naru_task *task = naru_spawn_in(loop, note_body, "ran");
    naru_future f = NARU_FUTURE_INIT;
    void *value;
    CHECK_EQ(naru_await(task), -EPERM);
    CHECK_EQ(naru_cancel_all(&task, 1), -EPERM);
    CHECK_EQ(naru_yield(), -EPERM);
    CHECK_EQ(naru_sleep(0), -EPERM);
    CHECK_EQ(naru_sleep(NARU_SEC(100)), -EPERM);
    CHECK_EQ(naru_sleep_until(0), -EPERM);
    CHECK_EQ(naru_future_wait(&f), -EPERM);
    CHECK_EQ(naru_generator_yield(NULL), -EPERM);
    CHECK_EQ(naru_join_value(naru_retain(task), &value), -EPERM); /* and has released */
    CHECK_EQ(naru_join(task), -EPERM);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_STR(trace, "ran");
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void wait_in_callback(void *task)
{
    CHECK_PTR(naru_self(), NULL);
    CHECK_EQ(naru_await(task), -EPERM);
    CHECK_EQ(naru_yield(), -EPERM);
    CHECK_EQ(naru_sleep(NARU_SEC(100)), -EPERM);
    note("callback");
}

TASK_TEST(waiting_in_a_callback_is_refused)
{
    naru_callback cb = {0};
    naru_task *task = naru_spawn(note_body, "x");
    naru_call_soon(naru_loop_current(), &cb, wait_in_callback, task);
    CHECK_EQ(naru_join(task), 0);
    settle();
    CHECK_STR(trace, "x callback");
}

static int await_it(void *task)
{
    return naru_await(task);
}

TASK_TEST(several_tasks_may_await_one_and_all_get_its_result) /* TASK-36 */
{
    naru_task *inner = naru_spawn(return_number, number(-EPROTO));
    naru_task *outer[3];
    for (int i = 0; i < 3; i++)
        outer[i] = naru_spawn(await_it, inner);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(naru_join(outer[i]), -EPROTO);
    naru_release(inner);
}

TASK_TEST(a_done_task_may_be_awaited_again_and_again_without_suspending) /* TASK-37 */
{
    naru_task *task = naru_spawn(return_number, number(5));
    naru_yield();
    naru_task *witness = naru_spawn(note_body, "ran");
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(naru_await(task), 5);
    CHECK_STR(trace, "");
    naru_release(task);
    naru_release(witness);
}

static int await_self(void *arg)
{
    (void)arg;
    return naru_await(naru_self());
}

TASK_TEST(a_task_cannot_await_itself) /* TASK-27 */
{
    CHECK_EQ(naru_join(naru_spawn(await_self, NULL)), -EDEADLK);
}

static int await_next(void *next)
{
    int rc = naru_await(*(naru_task **)next);
    if (rc == -EDEADLK)
        note("refused");
    return rc == -EDEADLK ? 9 : rc;
}

TASK_TEST(a_circle_of_two_is_refused_to_the_one_who_closes_it)
{
    naru_task *ring[2] = {NULL, NULL};
    ring[0] = naru_spawn(await_next, &ring[1]);
    ring[1] = naru_spawn(await_next, &ring[0]);
    CHECK_EQ(naru_await(ring[0]), 9);
    CHECK_EQ(naru_await(ring[1]), 9);
    CHECK_STR(trace, "refused");
    naru_release_all(ring, 2);
}

TASK_TEST(a_circle_of_three_is_refused_to_the_one_who_closes_it)
{
    naru_task *ring[3] = {NULL, NULL, NULL};
    for (int i = 0; i < 3; i++)
        ring[i] = naru_spawn(await_next, &ring[(i + 1) % 3]);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(naru_await(ring[i]), 9);
    CHECK_STR(trace, "refused");
    naru_release_all(ring, 3);
}

enum { LONG_CHAIN = 100000 };
static naru_task *chain[LONG_CHAIN];

static int await_predecessor(void *index)
{
    size_t i = (size_t)(intptr_t)index;
    return i == 0 ? naru_sleep(NARU_MS(1)) : naru_await(chain[i - 1]);
}

/* The search for circles must not walk it again for every new link. */
TASK_TEST_SLOW(a_chain_of_a_hundred_thousand_awaits_may_grow_at_its_end, 60)
{
    size_t length = (size_t)many(LONG_CHAIN);
    for (size_t i = 0; i < length; i++)
        chain[i] = naru_spawn(await_predecessor, (void *)(intptr_t)i);
    CHECK_EQ(naru_await(chain[length - 1]), 0);
    naru_release_all(chain, length);
}

/* ---- handles ---- */

static int release_it(void *task)
{
    naru_release(task);
    return 0;
}

TASK_TEST(a_handle_may_be_released_while_others_await_the_task)
{
    naru_task *task = naru_spawn(sleep_for_ever, NULL);
    naru_task *waiter = naru_spawn(await_it, task);
    naru_yield();
    naru_task *releaser = naru_spawn(release_it, task);
    CHECK_EQ(naru_join(releaser), 0);
    naru_cancel(task); /* the waiter keeps it alive */
    CHECK_EQ(naru_join(waiter), -ECANCELED);
}

TASK_TEST(a_released_task_runs_on)
{
    naru_release(naru_spawn(note_body, "ran"));
    settle();
    CHECK_STR(trace, "ran");
}

TASK_TEST(a_handle_keeps_result_name_and_message_after_the_end)
{
    naru_spawn_options options = {.name = "keeper"};
    naru_task *task = naru_spawn_with(&options, return_number, number(11));
    naru_task *same = naru_retain(task);
    CHECK_PTR(same, task);
    naru_yield();
    naru_release(same);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(naru_join(naru_spawn(return_number, number(1))), 1);
    CHECK_EQ(naru_result(task), 11);
    CHECK_STR(naru_task_name(task), "keeper");
    naru_release(task);
}

static int leave_handles(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++)
        naru_spawn(return_number, number(0));
    return 0;
}

TEST(handles_never_released_are_freed_at_the_end_of_the_run) /* the leak checkers look on */
{
    CHECK_EQ(run_recorded(0, leave_handles, NULL), 0);
    CHECK_STR(reports, "");
}

TEST(debug_mode_reports_handles_never_released)
{
    CHECK_EQ(run_recorded(NARU_DEBUG, leave_handles, NULL), 0);
    CHECK_EQ(times_in(reports, "never released"), 3);
}

/* ---- values ---- */

static char *owned(void)
{
    return strcpy(malloc(16), "owned");
}

static int destroyed;

static void destroy(void *value)
{
    destroyed++;
    free(value);
}

static int give_value(void *arg)
{
    naru_set_value("value");
    return return_number(arg);
}

static int give_owned(void *arg)
{
    naru_set_value_owned(owned(), destroy);
    return return_number(arg);
}

TASK_TEST(join_value_hands_over_the_value_beside_the_result)
{
    void *value = NULL;
    CHECK_EQ(naru_join_value(naru_spawn(give_value, number(3)), &value), 3);
    CHECK_STR(value, "value");
}

TASK_TEST(a_failing_body_may_have_a_value_too)
{
    void *value = NULL;
    CHECK_EQ(naru_join_value(naru_spawn(give_value, number(-EPROTO)), &value), -EPROTO);
    CHECK_STR(value, "value");
}

TASK_TEST(join_value_gives_null_where_there_is_no_value)
{
    void *value = trace;
    CHECK_EQ(naru_join_value(naru_spawn(return_number, number(3)), &value), 3);
    CHECK_PTR(value, NULL);
}

static int value_then_wait(void *arg)
{
    naru_set_value("early");
    return sleep_for_ever(arg);
}

TASK_TEST(a_value_shows_when_the_task_is_done_and_stays_the_tasks)
{
    naru_task *task = naru_spawn(value_then_wait, NULL);
    naru_yield();
    CHECK_PTR(naru_value(task), NULL);
    naru_cancel(task);
    CHECK_EQ(naru_await(task), -ECANCELED);
    CHECK_STR(naru_value(task), "early");
    CHECK_STR(naru_value(task), "early");
    naru_release(task);
}

TASK_TEST(an_owned_value_that_was_taken_is_not_destroyed)
{
    void *value = NULL;
    CHECK_EQ(naru_join_value(naru_spawn(give_owned, NULL), &value), 0);
    CHECK_STR(value, "owned");
    CHECK_EQ(destroyed, 0);
    free(value);
}

TASK_TEST(an_owned_value_is_taken_by_one_joiner_only)
{
    void *first = NULL, *second = trace;
    naru_task *task = naru_retain(naru_spawn(give_owned, NULL));
    CHECK_EQ(naru_join_value(naru_retain(task), &first), 0);
    CHECK_STR(first, "owned");
    CHECK_PTR(naru_value(task), NULL);
    CHECK_EQ(naru_join_value(task, &second), 0);
    CHECK_PTR(second, NULL);
    naru_release(task);
    CHECK_EQ(destroyed, 0);
    free(first);
}

TASK_TEST(an_owned_value_nobody_took_is_destroyed_with_the_task)
{
    naru_task *task = naru_spawn(give_owned, NULL);
    CHECK_EQ(naru_await(task), 0);
    CHECK_STR(naru_value(task), "owned");
    CHECK_EQ(destroyed, 0);
    naru_release(task);
    CHECK_EQ(destroyed, 1);
}

TASK_TEST(join_without_taking_destroys_an_owned_value)
{
    CHECK_EQ(naru_join(naru_spawn(give_owned, NULL)), 0);
    CHECK_EQ(destroyed, 1);
}

static int replace_values(void *arg)
{
    naru_set_value_owned(owned(), destroy);
    CHECK_EQ(destroyed, 0);
    naru_set_value_owned(owned(), destroy);
    CHECK_EQ(destroyed, 1);
    void *same = owned();
    naru_set_value_owned(same, destroy);
    CHECK_EQ(destroyed, 2);
    naru_set_value_owned(same, destroy); /* again: not replaced */
    CHECK_EQ(destroyed, 2);
    naru_set_value("plain");
    CHECK_EQ(destroyed, 3);
    return return_number(arg);
}

TASK_TEST(a_replaced_owned_value_is_destroyed_at_once)
{
    CHECK_EQ(naru_join(naru_spawn(replace_values, NULL)), 0);
    CHECK_EQ(destroyed, 3);
}

static int join_value_of(void *task)
{
    void *value = trace;
    int rc = naru_join_value(task, &value);
    CHECK_PTR(value, NULL);
    return rc;
}

static int owned_then_wait(void *arg)
{
    naru_set_value_owned(owned(), destroy);
    return sleep_for_ever(arg);
}

TASK_TEST(a_cancelled_join_value_leaves_the_value_to_the_task)
{
    naru_task *task = naru_spawn(owned_then_wait, NULL);
    naru_task *joiner = naru_spawn(join_value_of, naru_retain(task));
    naru_yield();
    naru_cancel(joiner);
    CHECK_EQ(naru_join(joiner), -ECANCELED);
    CHECK_EQ(destroyed, 0);
    naru_release(task);
    CHECK_EQ(destroyed, 1);
}

static int leave_owned_values(void *arg)
{
    naru_spawn(give_owned, NULL); /* handle lost */
    naru_release(naru_spawn(give_owned, NULL));
    naru_spawn(owned_then_wait, NULL); /* still waits at the end */
    settle();
    return return_number(arg);
}

TEST(owned_values_left_at_the_end_of_the_run_are_destroyed_once_each)
{
    CHECK_EQ(naru_run(leave_owned_values, NULL), 0);
    CHECK_EQ(destroyed, 3);
}

TEST(a_value_set_outside_a_task_goes_nowhere)
{
    naru_set_value("x");
    naru_set_value_owned("x", destroy);
    CHECK_EQ(destroyed, 0);
}

/* ---- arguments ---- */

struct argument {
    size_t size;
    unsigned char bytes[16384 - sizeof(size_t)];
};

static int check_copy(void *copy)
{
    CHECK_EQ((uintptr_t)copy % 16, 0);
    const struct argument *a = copy;
    CHECK_EQ(naru_yield(), 0); /* it lives as long as the body */
    for (size_t i = sizeof a->size; i < a->size; i++)
        CHECK_EQ(((unsigned char *)copy)[i], i % 251);
    memset(copy, 0, a->size);
    return 0;
}

TASK_TEST(a_copied_argument_is_aligned_and_whole_whatever_its_size)
{
    static struct argument original;
    for (size_t i = 0; i < sizeof original; i++)
        ((unsigned char *)&original)[i] = (unsigned char)(i % 251);
    size_t sizes[] = {8, 9, 16, 31, 32, 33, 64, 100, 4096, 16383, 16384};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        original.size = sizes[i];
        naru_task *task = naru_spawn_copy(check_copy, &original, sizes[i]);
        original.size = 0; /* it has been copied */
        CHECK_EQ(naru_join(task), 0);
    }
}

static int check_byte(void *copy)
{
    return *(unsigned char *)copy;
}

TASK_TEST(one_byte_can_be_copied)
{
    unsigned char byte = 77;
    naru_task *task = naru_spawn_arg(check_byte, byte);
    byte = 0;
    CHECK_EQ(naru_join(task), 77);
}

TASK_TEST(spawn_arg_takes_a_compound_literal)
{
    CHECK_EQ(naru_join(naru_spawn_arg(check_byte, (unsigned char[]){5, 6, 7})), 5);
}

static int is_original(void *arg)
{
    return arg == trace;
}

TASK_TEST(a_copy_of_no_bytes_passes_the_pointer)
{
    CHECK_EQ(naru_join(naru_spawn_copy(is_original, trace, 0)), 1);
}

TASK_TEST(a_copy_of_more_than_a_quarter_of_the_stack_is_refused)
{
    static char big[1 << 20];
    naru_spawn_options options = {.stack_size = 256 * 1024, .copy = 64 * 1024};
    CHECK_EQ(naru_join(naru_spawn_with(&options, check_byte, big)), 0);
    options.copy++;
    CHECK_PTR(naru_spawn_with(&options, check_byte, big), NULL);
    options = (naru_spawn_options){.flags = NARU_DENSE_STACK, .copy = 1024};
    CHECK_PTR(naru_spawn_with(&options, check_byte, big), NULL);
    CHECK_PTR(naru_spawn_copy(check_byte, big, sizeof big), NULL);
}

TASK_TEST(a_copy_is_freed_when_the_task_never_ran) /* the leak checkers look on */
{
    static struct argument original;
    naru_task *task = naru_spawn_copy(check_copy, &original, 4096);
    naru_cancel(task);
    CHECK_EQ(naru_join(task), -ECANCELED);
}

/* ---- eager ---- */

static const naru_spawn_options EAGER = {.name = "eager", .flags = NARU_EAGER};

static int eager_body(void *result)
{
    CHECK_STR(naru_task_name(naru_self()), "eager"); /* EAGER-08 */
    note("body");
    return return_number(result);
}

TASK_TEST(an_eager_task_that_does_not_wait_is_done_when_spawn_returns)
{
    naru_task *self = naru_self();
    naru_task *task = naru_spawn_with(&EAGER, eager_body, number(4));
    CHECK_PTR(naru_self(), self);
    CHECK(naru_done(task));
    CHECK(!naru_cancel(task)); /* EAGER-05 */
    CHECK_EQ(naru_join(task), 4);
    CHECK_STR(trace, "body");
}

TASK_TEST(an_error_in_the_eager_step_is_the_tasks_and_the_creator_goes_on) /* EAGER-03, EAGER-04 */
{
    naru_task *self = naru_self();
    naru_task *task = naru_spawn_with(&EAGER, eager_body, number(-EPROTO));
    CHECK_PTR(naru_self(), self);
    CHECK_EQ(naru_join(task), -EPROTO);
}

static int note_yield_note(void *arg)
{
    note("begin");
    CHECK_EQ(naru_yield(), 0);
    note("end");
    return return_number(arg);
}

TASK_TEST(an_eager_task_that_waits_goes_on_as_any_other) /* EAGER-02 */
{
    naru_task *task = naru_spawn_with(&EAGER, note_yield_note, number(6));
    note("creator");
    CHECK(!naru_done(task));
    CHECK_EQ(naru_join(task), 6);
    CHECK_STR(trace, "begin creator end");
}

TASK_TEST(an_eager_task_that_waits_can_be_cancelled) /* EAGER-05 */
{
    naru_task *task = naru_spawn_with(&EAGER, sleep_for_ever, NULL);
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_join(task), -ECANCELED);
}

static int nest_eagerly(void *depth)
{
    int left = return_number(depth);
    naru_task *self = naru_self(), *children[5];
    if (left == 0)
        return 1;
    int sum = 0;
    for (int i = 0; i < 5; i++) {
        children[i] = naru_spawn_with(&EAGER, nest_eagerly, number(left - 1));
        CHECK_PTR(naru_self(), self);
    }
    for (int i = 0; i < 5; i++)
        sum += naru_join(children[i]);
    return sum;
}

TASK_TEST(eager_tasks_nest_and_all_are_done_at_once) /* EAGER-14 */
{
    naru_task *task = naru_spawn_with(&EAGER, nest_eagerly, number(4));
    CHECK(naru_done(task));
    CHECK_EQ(naru_join(task), 625);
}

static int nest_then_wait(void *depth)
{
    int left = return_number(depth);
    naru_task *child = left > 0 ? naru_spawn_with(&EAGER, nest_then_wait, number(left - 1)) : NULL;
    CHECK_EQ(naru_yield(), 0);
    return child ? 1 + naru_join(child) : 0;
}

TASK_TEST(eager_tasks_that_wait_at_every_depth_all_go_on)
{
    CHECK_EQ(naru_join(naru_spawn_with(&EAGER, nest_then_wait, number(50))), 50);
}

static void spawn_eagerly(void *task)
{
    *(naru_task **)task = naru_spawn_with(&EAGER, note_yield_note, number(2));
    CHECK_PTR(naru_self(), NULL);
    note("callback");
}

TASK_TEST(a_callback_can_spawn_eagerly)
{
    naru_callback cb = {0};
    naru_task *task = NULL;
    naru_call_soon(naru_loop_current(), &cb, spawn_eagerly, &task);
    settle();
    CHECK_EQ(naru_join(task), 2);
    CHECK_STR(trace, "begin callback end");
}

TASK_TEST(callbacks_of_an_eagerly_finished_task_still_run_later) /* EAGER-11 */
{
    naru_callback cb = {0};
    naru_task *task = naru_spawn_with(&EAGER, note_body, "body");
    CHECK_EQ(naru_task_on_done(task, &cb, note_callback, "done"), 0);
    note("creator");
    settle();
    CHECK_STR(trace, "body creator done");
    naru_release(task);
}

TASK_TEST(a_task_with_a_pending_request_can_start_another_eagerly)
{
    naru_cancel(naru_self());
    naru_task *task = naru_spawn_with(&EAGER, note_yield_note, number(6));
    CHECK_STR(trace, "begin");
    CHECK_EQ(naru_yield(), -ECANCELED);
    CHECK_EQ(naru_join(task), 6);
}

/* ---- self, names ---- */

static int self_is_me(void *task)
{
    for (int i = 0; i < 3; i++) {
        CHECK_PTR(naru_self(), *(naru_task **)task);
        CHECK_EQ(naru_yield(), 0);
    }
    return 0;
}

TASK_TEST(self_is_the_running_task_also_when_several_take_turns) /* TASK-28 */
{
    naru_task *tasks[3];
    for (int i = 0; i < 3; i++)
        tasks[i] = naru_spawn(self_is_me, &tasks[i]);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(naru_join(tasks[i]), 0);
}

TEST(outside_a_run_there_is_no_self) /* TASK-29 */
{
    CHECK_PTR(naru_self(), NULL);
}

TASK_TEST(automatic_names_are_unique_and_grow) /* TASK-32 */
{
    unsigned numbers[3];
    for (int i = 0; i < 3; i++) {
        naru_task *task = naru_spawn(return_number, NULL);
        CHECK_EQ(sscanf(naru_task_name(task), "task-%u", &numbers[i]), 1);
        CHECK_EQ(naru_join(task), 0);
    }
    CHECK_LT(numbers[0], numbers[1]);
    CHECK_LT(numbers[1], numbers[2]);
}

TASK_TEST(a_name_is_copied_and_can_be_changed) /* TASK-32, LOOP-38 */
{
    char name[] = "first";
    naru_spawn_options options = {.name = name};
    naru_task *task = naru_spawn_with(&options, return_number, NULL);
    name[0] = 'X';
    CHECK_STR(naru_task_name(task), "first");
    CHECK_EQ(naru_task_set_name(task, "second"), 0);
    CHECK_STR(naru_task_name(task), "second");
    CHECK_EQ(naru_task_set_name(task, NULL), -EINVAL);
    CHECK_STR(naru_task_name(task), "second");
    CHECK_EQ(naru_join(task), 0);
}

TASK_TEST(the_main_task_is_called_main)
{
    CHECK_STR(naru_task_name(naru_self()), "main");
}

TASK_TEST(spawn_with_no_options_is_plain_spawn)
{
    CHECK_EQ(naru_join(naru_spawn_with(NULL, return_number, number(8))), 8);
}

/* ---- done callbacks ---- */

TASK_TEST(done_callbacks_run_after_the_end_in_order_of_registration) /* TASK-39 */
{
    naru_callback cbs[3] = {0};
    naru_task *task = naru_spawn(note_body, "body");
    CHECK_EQ(naru_task_on_done(task, &cbs[0], note_callback, "1"), 0);
    CHECK_EQ(naru_task_on_done(task, &cbs[1], note_callback, "2"), 0);
    CHECK_EQ(naru_task_on_done(task, &cbs[2], note_callback, "3"), 0);
    settle();
    CHECK_STR(trace, "body 1 2 3");
    naru_release(task);
}

static int await_and_note(void *task)
{
    int rc = naru_await(task);
    note("waiter");
    return rc;
}

TASK_TEST(callbacks_and_waiters_go_in_the_order_they_came)
{
    naru_callback cbs[2] = {0};
    naru_task *task = naru_spawn(note_yield_note, NULL);
    CHECK_EQ(naru_task_on_done(task, &cbs[0], note_callback, "before"), 0);
    naru_task *waiter = naru_spawn(await_and_note, task);
    CHECK_EQ(naru_yield(), 0); /* now it waits */
    CHECK_EQ(naru_task_on_done(task, &cbs[1], note_callback, "after"), 0);
    settle();
    CHECK_STR(trace, "begin end before waiter after");
    naru_release(task);
    naru_release(waiter);
}

TASK_TEST(a_done_callback_taken_back_does_not_run)
{
    naru_callback cb = {0};
    naru_task *task = naru_spawn(note_body, "body");
    CHECK_EQ(naru_task_on_done(task, &cb, note_callback, "x"), 0);
    CHECK(naru_callback_cancel(&cb));
    CHECK_EQ(naru_join(task), 0);
    settle();
    CHECK_STR(trace, "body");
}

TASK_TEST(a_done_callback_already_queued_can_still_be_taken_back)
{
    naru_callback cb = {0};
    naru_task *task = naru_spawn_with(&EAGER, note_body, "body");
    CHECK_EQ(naru_task_on_done(task, &cb, note_callback, "x"), 0);
    CHECK(naru_callback_cancel(&cb));
    settle();
    CHECK_STR(trace, "body");
    naru_release(task);
}

/* ---- each_task ---- */

static void note_name(naru_task *task, void *arg)
{
    (void)arg;
    note(naru_task_name(task));
}

static naru_task *named(const char *name, naru_fn *fn, void *arg)
{
    naru_spawn_options options = {.name = name};
    return naru_spawn_with(&options, fn, arg);
}

TASK_TEST(each_task_shows_the_unfinished_ones_in_order_of_creation) /* TASK-30 */
{
    naru_task *tasks[] = {named("a", sleep_for_ever, NULL), named("b", return_number, NULL),
                          named("c", sleep_for_ever, NULL)};
    naru_yield();
    naru_each_task(NULL, note_name, NULL);
    CHECK_STR(trace, "main a c");
    trace[0] = '\0';
    naru_cancel(tasks[0]);
    CHECK_EQ(naru_await(tasks[0]), -ECANCELED);
    naru_each_task(naru_loop_current(), note_name, NULL);
    CHECK_STR(trace, "main c");
    naru_release_all(tasks, 3);
}

static int count_eager(void *arg)
{
    naru_each_task(NULL, note_name, arg);
    return 0;
}

TASK_TEST(each_task_shows_an_eager_task_during_its_step) /* EAGER-06 */
{
    naru_release(naru_spawn_with(&EAGER, count_eager, NULL));
    naru_each_task(NULL, note_name, NULL);
    CHECK_STR(trace, "main eager main");
}

static void cancel_and_spawn(naru_task *task, void *spawned)
{
    naru_task ***next = spawned;
    note(naru_task_name(task));
    if (task != naru_self())
        naru_cancel(task);
    *(*next)++ = naru_spawn(return_number, number(1));
    *(*next)++ = naru_spawn_with(&EAGER, return_number, number(2));
}

TASK_TEST(each_task_allows_to_cancel_and_to_spawn_inside_and_does_not_show_the_new_ones)
{
    naru_task *tasks[] = {named("a", sleep_for_ever, NULL), named("b", sleep_for_ever, NULL)};
    naru_task *spawned[8], **next = spawned;
    naru_yield();
    naru_each_task(NULL, cancel_and_spawn, &next);
    CHECK_STR(trace, "main a b");
    CHECK_EQ(next - spawned, 6);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(naru_join(spawned[i]), 1 + i % 2);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(naru_join(tasks[i]), -ECANCELED);
}

TEST(each_task_outside_a_run_without_a_loop_shows_nothing)
{
    naru_each_task(NULL, note_name, NULL);
    CHECK_STR(trace, "");
}

/* ---- unseen errors ---- */

static int fail_unseen(void *arg)
{
    (void)arg;
    naru_release(named("unlucky", return_number, number(-EPROTO)));
    settle();
    return 0;
}

TEST(an_error_nobody_looked_at_is_reported_once_with_the_tasks_name) /* FUT-15, EXC-06 */
{
    CHECK_EQ(run_recorded(0, fail_unseen, NULL), 0);
    CHECK_EQ(report_count, 1);
    CHECK(strstr(reports, "unlucky") != NULL);
}

static int fail_and_keep(void *arg)
{
    (void)arg;
    named("kept", return_number, number(-EPROTO));
    settle();
    return 0;
}

TEST(an_unseen_error_behind_a_handle_never_released_is_reported_once)
{
    CHECK_EQ(run_recorded(0, fail_and_keep, NULL), 0);
    CHECK_EQ(report_count, 1);
    CHECK(strstr(reports, "kept") != NULL);
}

static int fail_and_look(void *arg)
{
    (void)arg;
    CHECK_EQ(naru_join(naru_spawn(return_number, number(-EPROTO))), -EPROTO);
    naru_task *task = naru_spawn(return_number, number(-EPROTO));
    settle();
    CHECK_EQ(naru_result(task), -EPROTO);
    naru_release(task);
    task = naru_spawn(return_number, number(-EPROTO));
    CHECK_EQ(naru_await(task), -EPROTO);
    naru_release(task);
    naru_release(naru_spawn(return_number, number(-ECANCELED)));
    task = naru_spawn(sleep_for_ever, NULL);
    naru_cancel(task);
    naru_release(task);
    naru_release(naru_spawn(return_number, number(1)));
    settle();
    return -EPROTO; /* run's caller gets this one */
}

TEST(errors_that_were_awaited_or_read_and_cancelled_tasks_are_not_reported) /* FUT-16 */
{
    CHECK_EQ(run_recorded(0, fail_and_look, NULL), -EPROTO);
    CHECK_STR(reports, "");
}

static int cancel_after_failure(void *arg)
{
    (void)arg;
    naru_task *task = naru_spawn(return_number, number(-EPROTO));
    settle();
    CHECK(!naru_cancel(task));
    CHECK_EQ(naru_cancelling(task), 0); /* TASK-06 */
    naru_release(task);
    return 0;
}

TEST(cancelling_a_failed_task_says_that_its_error_does_not_matter) /* FUT-17 */
{
    CHECK_EQ(run_recorded(0, cancel_after_failure, NULL), 0);
    CHECK_STR(reports, "");
}

/* ---- the processor ---- */

#if defined(__x86_64__)
#include <xmmintrin.h>

static int round_up_for_a_while(void *arg)
{
    (void)arg;
    _MM_SET_ROUNDING_MODE(_MM_ROUND_UP);
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(_MM_GET_ROUNDING_MODE(), _MM_ROUND_UP);
    CHECK_EQ(naru_sleep(NARU_US(1)), 0);
    CHECK_EQ(_MM_GET_ROUNDING_MODE(), _MM_ROUND_UP);
    return 0;
}

TASK_TEST(each_task_has_its_own_rounding_mode)
{
    naru_task *task = naru_spawn(round_up_for_a_while, NULL);
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(_MM_GET_ROUNDING_MODE(), _MM_ROUND_NEAREST);
    CHECK_EQ(naru_join(task), 0);
    CHECK_EQ(_MM_GET_ROUNDING_MODE(), _MM_ROUND_NEAREST);
}

static int rounding(void *arg)
{
    (void)arg;
    return (int)_MM_GET_ROUNDING_MODE();
}

TASK_TEST(a_rounding_mode_does_not_stay_behind_on_a_stack_for_the_next_task)
{
    CHECK_EQ(naru_join(naru_spawn(round_up_for_a_while, NULL)), 0);
    CHECK_EQ(naru_join(naru_spawn(rounding, NULL)), _MM_ROUND_NEAREST);
}

static int round_up_and_end(void *arg)
{
    (void)arg;
    _MM_SET_ROUNDING_MODE(_MM_ROUND_UP);
    return 0;
}

TASK_TEST(a_rounding_mode_does_not_leak_into_a_task_that_starts_on_the_same_stack)
{
    naru_release(naru_spawn(round_up_and_end, NULL));
    CHECK_EQ(naru_join(naru_spawn(rounding, NULL)), _MM_ROUND_NEAREST);
}
#endif
