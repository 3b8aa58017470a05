/* Task locals: a copy at creation, then each for itself. */
#include "helpers.h"

#include <pthread.h>

static const naru_local user = {"user", NULL};
static const naru_local level = {"level", (void *)1};

static int get_level(void *arg)
{
    (void)arg;
    return (int)(intptr_t)naru_local_get(&level);
}

static int set_level(void *value)
{
    CHECK_EQ(naru_local_set(&level, value), 0);
    return get_level(NULL);
}

TASK_TEST(a_local_never_set_has_its_initial_value) /* CTX-06 */
{
    CHECK_PTR(naru_local_get(&user), NULL);
    CHECK_EQ(get_level(NULL), 1);
}

TEST(outside_a_run_locals_are_initial_and_cannot_be_set)
{
    CHECK_EQ(get_level(NULL), 1);
    CHECK_EQ(naru_local_set(&level, number(2)), -EPERM);
}

TASK_TEST(a_task_starts_with_its_creators_values) /* CTX-01 */
{
    set_level(number(2));
    CHECK_EQ(naru_join(naru_spawn(get_level, NULL)), 2);
}

TASK_TEST(the_values_are_those_of_the_moment_of_the_spawn) /* CTX-01 */
{
    set_level(number(2));
    naru_task *task = naru_spawn(get_level, NULL);
    set_level(number(3));
    CHECK_EQ(naru_join(task), 2);
}

TASK_TEST(what_a_task_sets_its_creator_does_not_see) /* CTX-01 */
{
    set_level(number(2));
    CHECK_EQ(naru_join(naru_spawn(set_level, number(7))), 7);
    CHECK_EQ(get_level(NULL), 2);
}

TASK_TEST(a_function_that_is_called_shares_its_callers_values) /* CTX-05 */
{
    CHECK_EQ(set_level(number(5)), 5);
    CHECK_EQ(get_level(NULL), 5);
}

static int set_and_check_often(void *mine)
{
    for (int i = 0; i < 20; i++) {
        naru_local_set(&user, mine);
        CHECK_EQ(naru_yield(), 0);
        CHECK_PTR(naru_local_get(&user), mine);
        CHECK_EQ(get_level(NULL), 4);
    }
    return 0;
}

TASK_TEST(a_hundred_tasks_each_see_their_own_value) /* CTX-02 */
{
    naru_task *tasks[100];
    set_level(number(4));
    for (int i = 0; i < 100; i++)
        tasks[i] = naru_spawn(set_and_check_often, number(i));
    for (int i = 0; i < 100; i++)
        CHECK_EQ(naru_join(tasks[i]), 0);
    CHECK_PTR(naru_local_get(&user), NULL);
}

TASK_TEST(many_locals_are_kept_apart)
{
    static naru_local keys[100];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 100; i++)
            CHECK_EQ(naru_local_set(&keys[i], number(i + round)), 0);
    for (int i = 0; i < 100; i++)
        CHECK_EQ((intptr_t)naru_local_get(&keys[i]), i + 1);
}

static int eager_values(void *arg)
{
    CHECK_EQ(get_level(arg), 6);
    return set_level(number(7));
}

TASK_TEST(an_eager_task_has_its_own_copy_too)
{
    naru_spawn_options options = {.flags = NARU_EAGER};
    set_level(number(6));
    naru_task *task = naru_spawn_with(&options, eager_values, NULL);
    CHECK_EQ(get_level(NULL), 6);
    CHECK_EQ(naru_join(task), 7);
}

static void set_in_callback(void *task)
{
    CHECK_EQ(get_level(NULL), 1);
    CHECK_EQ(set_level(number(9)), 9);
    *(naru_task **)task = naru_spawn(get_level, NULL);
}

TASK_TEST(outside_tasks_the_values_belong_to_the_loop)
{
    naru_callback cb = {0};
    naru_task *task = NULL;
    set_level(number(2));
    naru_call_soon(naru_loop_current(), &cb, set_in_callback, &task);
    settle();
    CHECK_EQ(get_level(NULL), 2);
    CHECK_EQ(naru_join(task), 9);
}

static int set_in_generator(void *arg)
{
    (void)arg;
    CHECK_EQ(get_level(NULL), 3);
    set_level(number(4));
    return naru_generator_yield(NULL);
}

TASK_TEST(a_generator_shares_its_consumers_values) /* AGEN-16 */
{
    void *value;
    set_level(number(3));
    naru_generator *g = naru_generator_start(set_in_generator, NULL);
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_EQ(get_level(NULL), 4);
    CHECK_EQ(naru_generator_close(g), 0);
}

static int set_yield_check(void *arg)
{
    (void)arg;
    int mine = 100 + (int)naru_thread_index();
    set_level(number(mine));
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(naru_yield(), 0);
        CHECK_EQ(get_level(NULL), mine);
    }
    return 0;
}

TEST(loops_in_two_threads_set_the_same_local_independently) /* CTX-12 */
{
    CHECK_EQ(naru_run_threads(2, NULL, set_yield_check, NULL), 0);
}
