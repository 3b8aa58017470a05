/* Debug mode: it reports more, and changes nothing else. */
#include "helpers.h"

#include <pthread.h>
#include <time.h>

static int spin(void *arg)
{
    int64_t end = naru_now() + NARU_MS(130);
    while (naru_now() < end)
        continue;
    return return_number(arg);
}

static int spawn_spinner(void *arg)
{
    return naru_join(naru_spawn(spin, arg));
}

TEST(a_step_that_takes_long_is_reported) /* EXC-07 */
{
    CHECK_EQ(run_recorded(NARU_DEBUG, spawn_spinner, number(3)), 3);
    CHECK_GE(times_in(reports, "a step took"), 1);
}

TEST(without_debug_mode_it_is_not) /* EXC-08 */
{
    CHECK_EQ(run_recorded(0, spawn_spinner, number(3)), 3);
    CHECK_STR(reports, "");
}

TEST(the_environment_turns_debug_mode_on_and_0_leaves_it_off) /* EXC-08, RUN-07 */
{
    setenv("NARU_DEBUG", "0", 1);
    CHECK_EQ(run_recorded(0, spawn_spinner, number(3)), 3);
    CHECK_STR(reports, "");
    setenv("NARU_DEBUG", "1", 1);
    CHECK_EQ(run_recorded(0, spawn_spinner, number(3)), 3);
    CHECK_GE(times_in(reports, "a step took"), 1);
}

static int take_turns(void *name)
{
    for (int i = 0; i < 3; i++) {
        note(name);
        CHECK_EQ(naru_yield(), 0);
    }
    return 0;
}

static const naru_spawn_options EAGER = {.flags = NARU_EAGER};

static int a_bit_of_all(void *arg)
{
    naru_task *tasks[] = {naru_spawn(take_turns, "a"), naru_spawn(take_turns, "b"),
                          naru_spawn_with(&EAGER, take_turns, "e"), naru_spawn(sleep_for_ever, NULL)};
    CHECK_EQ(naru_sleep(NARU_US(10)), 0);
    CHECK_EQ(naru_cancel_all(tasks + 3, 1), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(naru_join(tasks[i]), i < 3 ? 0 : -ECANCELED);
    return return_number(arg);
}

TEST(the_order_of_things_is_the_same_in_debug_mode)
{
    char plain[sizeof trace];
    CHECK_EQ(run_recorded(0, a_bit_of_all, number(2)), 2);
    strcpy(plain, trace);
    trace[0] = '\0';
    CHECK_EQ(run_recorded(NARU_DEBUG, a_bit_of_all, number(2)), 2);
    CHECK_STR(trace, plain);
    CHECK_EQ(report_count, times_in(reports, "a step took")); /* a busy machine may make steps long */
}

static void *spawn_from_wrong_thread(void *loop)
{
    CHECK_PTR(naru_spawn_in(loop, note_body, "wrong"), NULL);
    return NULL;
}

static int let_thread_spawn(void *arg)
{
    pthread_t thread;
    (void)arg;
    CHECK_EQ(pthread_create(&thread, NULL, spawn_from_wrong_thread, naru_loop_current()), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    return 0;
}

static int run_with_wrong_thread(void *arg)
{
    naru_options options = {.flags = NARU_DEBUG};
    return naru_run_with(&options, let_thread_spawn, arg);
}

TEST(spawning_from_a_wrong_thread_is_refused_and_reported) /* THR-05 */
{
    struct child *child = in_child(run_with_wrong_thread, NULL);
    CHECK_EQ(child->status, 0);
    CHECK(strstr(child->said, "thread") != NULL);
}
