/* Bare coroutines: values in and out, with and without tasks around. */
#include "helpers.h"

#include <pthread.h>

static void *echo(void *value)
{
    while (strcmp(value, "end") != 0)
        value = naru_coroutine_yield(value);
    return "ended";
}

static void check_echo(void)
{
    naru_coroutine *c = naru_coroutine_create(echo, 0);
    CHECK(!naru_coroutine_finished(c));
    CHECK_STR(naru_coroutine_resume(c, "a"), "a");
    CHECK_STR(naru_coroutine_resume(c, "b"), "b");
    CHECK(!naru_coroutine_finished(c));
    CHECK_STR(naru_coroutine_resume(c, "end"), "ended");
    CHECK(naru_coroutine_finished(c));
    CHECK_PTR(naru_coroutine_resume(c, "x"), NULL);
    naru_coroutine_destroy(c);
}

TEST(values_go_in_with_resume_and_come_out_with_yield_and_return)
{
    check_echo();
}

TASK_TEST(the_same_inside_a_task)
{
    check_echo();
}

static void check_echo_in_callback(void *arg)
{
    check_echo();
    note(arg);
}

TASK_TEST(the_same_inside_a_callback)
{
    naru_callback cb = {0};
    naru_call_soon(naru_loop_current(), &cb, check_echo_in_callback, "callback");
    settle();
    CHECK_STR(trace, "callback");
}

TEST(yield_outside_a_coroutine_gives_null)
{
    CHECK_PTR(naru_coroutine_yield("x"), NULL);
}

TASK_TEST(yield_in_a_task_outside_a_coroutine_gives_null)
{
    CHECK_PTR(naru_coroutine_yield("x"), NULL);
}

static int yield_in_generator(void *arg)
{
    CHECK_PTR(naru_coroutine_yield("x"), NULL);
    return naru_generator_yield(arg);
}

TASK_TEST(a_generators_body_is_not_a_bare_coroutine)
{
    void *value;
    naru_generator *g = naru_generator_start(yield_in_generator, "y");
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_STR(value, "y");
    CHECK_EQ(naru_generator_close(g), 0);
}

static void *yield_to_generator(void *arg)
{
    CHECK_EQ(naru_generator_yield(arg), -EPERM);
    return arg;
}

static int coroutine_in_generator(void *arg)
{
    naru_coroutine *c = naru_coroutine_create(yield_to_generator, 0);
    CHECK_PTR(naru_coroutine_resume(c, arg), arg);
    naru_coroutine_destroy(c);
    return naru_generator_yield(arg);
}

TASK_TEST(a_bare_coroutine_inside_a_generator_cannot_yield_for_it)
{
    void *value;
    naru_generator *g = naru_generator_start(coroutine_in_generator, "y");
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_EQ(naru_generator_close(g), 0);
}

static naru_coroutine *running;

static void *resume_itself(void *value)
{
    CHECK_PTR(naru_coroutine_resume(running, "x"), NULL);
    naru_coroutine_destroy(running); /* nothing happens */
    CHECK(!naru_coroutine_finished(running));
    return value;
}

TEST(a_running_coroutine_is_neither_resumed_nor_destroyed)
{
    running = naru_coroutine_create(resume_itself, 0);
    CHECK_STR(naru_coroutine_resume(running, "in"), "in");
    naru_coroutine_destroy(running);
}

static void *nest(void *depth)
{
    intptr_t left = (intptr_t)depth;
    if (left == 0)
        return naru_coroutine_yield((void *)1);
    naru_coroutine *inner = naru_coroutine_create(nest, 0);
    intptr_t sum = 1 + (intptr_t)naru_coroutine_resume(inner, (void *)(left - 1));
    naru_coroutine_yield((void *)sum);
    CHECK_PTR(naru_coroutine_resume(inner, NULL), NULL);
    CHECK(naru_coroutine_finished(inner));
    naru_coroutine_destroy(inner);
    return NULL;
}

TEST(coroutines_nest)
{
    naru_coroutine *c = naru_coroutine_create(nest, 0);
    CHECK_EQ((intptr_t)naru_coroutine_resume(c, (void *)30), 31);
    CHECK_PTR(naru_coroutine_resume(c, NULL), NULL);
    CHECK(naru_coroutine_finished(c));
    naru_coroutine_destroy(c);
}

TEST(a_suspended_or_never_started_coroutine_can_be_destroyed) /* the leak checkers look on */
{
    naru_coroutine *c = naru_coroutine_create(echo, 0);
    CHECK_STR(naru_coroutine_resume(c, "a"), "a");
    naru_coroutine_destroy(c);
    naru_coroutine_destroy(naru_coroutine_create(echo, 0));
    naru_coroutine_destroy(NULL);
}

static void *use_stack(void *size)
{
    size_t bytes = (size_t)(uintptr_t)size;
    volatile char big[256];
    big[0] = 1;
    big[255] = 2;
    if (bytes > sizeof big)
        use_stack((void *)(uintptr_t)(bytes - sizeof big));
    return (void *)(intptr_t)(big[0] + big[255]);
}

TEST(a_coroutine_has_the_stack_it_was_asked_for)
{
    naru_coroutine *c = naru_coroutine_create(use_stack, 4 << 20);
    CHECK_EQ((intptr_t)naru_coroutine_resume(c, (void *)(uintptr_t)(2 << 20)), 3);
    naru_coroutine_destroy(c);
}

TEST(a_stack_that_is_too_large_is_no_memory)
{
    CHECK_PTR(naru_coroutine_create(echo, (size_t)2 << 30), NULL);
    CHECK_PTR(naru_coroutine_create(echo, SIZE_MAX), NULL);
}

TEST(ten_thousand_coroutines_come_and_go)
{
    for (int i = 0; i < 10000; i++) {
        naru_coroutine *c = naru_coroutine_create(echo, 0);
        CHECK_STR(naru_coroutine_resume(c, "a"), "a");
        naru_coroutine_destroy(c);
    }
}

static void *check_in_thread(void *arg)
{
    for (int i = 0; i < 100; i++)
        check_echo();
    return arg;
}

TEST(each_thread_has_its_own_coroutines)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, check_in_thread, NULL), 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

/* ---- together with tasks ---- */

static void *sleep_inside(void *value)
{
    CHECK_EQ(naru_sleep(NARU_US(1)), 0);
    value = naru_coroutine_yield(value);
    CHECK_EQ(naru_join(naru_spawn(note_body, "child")), 0);
    return value;
}

TASK_TEST(what_a_coroutine_waits_for_suspends_its_task)
{
    naru_coroutine *c = naru_coroutine_create(sleep_inside, 0);
    naru_task *other = naru_spawn(note_body, "other");
    CHECK_STR(naru_coroutine_resume(c, "a"), "a");
    CHECK_STR(trace, "other");
    CHECK_STR(naru_coroutine_resume(c, "b"), "b");
    CHECK_STR(trace, "other child");
    naru_coroutine_destroy(c);
    CHECK_EQ(naru_join(other), 0);
}

static void *sleep_for_ever_inside(void *arg)
{
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    return arg;
}

static int resume_it(void *c)
{
    CHECK_STR(naru_coroutine_resume(c, "a"), "a");
    return 3;
}

TASK_TEST(a_coroutine_that_waits_is_running_for_everybody_else)
{
    naru_coroutine *c = naru_coroutine_create(sleep_for_ever_inside, 0);
    naru_task *task = naru_spawn(resume_it, c);
    CHECK_EQ(naru_yield(), 0);
    CHECK_PTR(naru_coroutine_resume(c, "x"), NULL);
    naru_coroutine_destroy(c);
    naru_cancel(task);
    CHECK_EQ(naru_join(task), 3);
    CHECK(naru_coroutine_finished(c));
    naru_coroutine_destroy(c);
}

static int resume_with_number(void *c)
{
    return (int)(intptr_t)naru_coroutine_resume(c, NULL);
}

static void *count_calls(void *arg)
{
    for (intptr_t i = 1;; i++) {
        CHECK(naru_self() != NULL);
        naru_coroutine_yield((void *)i);
        CHECK_EQ(naru_yield(), 0);
    }
    return arg;
}

TASK_TEST(a_suspended_coroutine_may_be_continued_by_another_task)
{
    naru_coroutine *c = naru_coroutine_create(count_calls, 0);
    for (int i = 1; i <= 10; i++)
        CHECK_EQ(naru_join(naru_spawn(resume_with_number, c)), i);
    naru_coroutine_destroy(c);
}

static const naru_spawn_options EAGER = {.flags = NARU_EAGER};

static int yield_then(void *arg)
{
    CHECK_PTR(naru_coroutine_yield("not mine"), NULL);
    CHECK_EQ(naru_yield(), 0);
    return return_number(arg);
}

static void *spawn_eagerly_inside(void *task)
{
    *(naru_task **)task = naru_spawn_with(&EAGER, yield_then, number(4));
    return naru_coroutine_yield(task);
}

TASK_TEST(an_eager_task_started_in_a_coroutine_returns_there)
{
    naru_task *task = NULL;
    naru_coroutine *c = naru_coroutine_create(spawn_eagerly_inside, 0);
    CHECK_PTR(naru_coroutine_resume(c, &task), &task);
    CHECK_EQ(naru_join(task), 4);
    CHECK_PTR(naru_coroutine_resume(c, NULL), NULL);
    naru_coroutine_destroy(c);
}

static void eagerly_in_coroutine_in_callback(void *task)
{
    naru_coroutine *c = naru_coroutine_create(spawn_eagerly_inside, 0);
    CHECK_PTR(naru_coroutine_resume(c, task), task);
    CHECK_PTR(naru_coroutine_resume(c, NULL), NULL);
    naru_coroutine_destroy(c);
    note("callback");
}

TASK_TEST(an_eager_task_started_in_a_coroutine_in_a_callback_returns_there)
{
    naru_callback cb = {0};
    naru_task *task = NULL;
    naru_call_soon(naru_loop_current(), &cb, eagerly_in_coroutine_in_callback, &task);
    settle();
    CHECK_STR(trace, "callback");
    CHECK_EQ(naru_join(task), 4);
}

static int yield_often(void *arg)
{
    for (int i = 0; i < 10; i++)
        CHECK_EQ(naru_yield(), 0);
    return return_number(arg);
}

static void *run_inside(void *arg)
{
    CHECK_EQ(naru_run(yield_often, number(5)), 5);
    return naru_coroutine_yield(arg);
}

TEST(a_coroutine_may_run_a_loop)
{
    naru_coroutine *c = naru_coroutine_create(run_inside, 256 * 1024);
    CHECK_STR(naru_coroutine_resume(c, "x"), "x");
    CHECK_PTR(naru_coroutine_resume(c, NULL), NULL);
    naru_coroutine_destroy(c);
    CHECK_EQ(naru_run(yield_often, number(6)), 6);
}
