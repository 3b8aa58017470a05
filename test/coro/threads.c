/* naru_run_threads: a loop per thread, and one result. */
#include "helpers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

static atomic_uint seen;
static atomic_int ended;

static int note_index(void *arg)
{
    atomic_fetch_or(&seen, 1U << naru_thread_index());
    CHECK(naru_self() != NULL);
    return return_number(arg);
}

TEST(each_thread_has_its_index)
{
    CHECK_EQ(naru_run_threads(4, NULL, note_index, number(3)), 3);
    CHECK_EQ(seen, 15);
    CHECK_EQ(naru_thread_index(), 0);
}

static int index_plus_ten(void *arg)
{
    (void)arg;
    return 10 + (int)naru_thread_index();
}

TEST(without_an_error_the_result_is_that_of_thread_0)
{
    CHECK_EQ(naru_run_threads(3, NULL, index_plus_ten, NULL), 10);
}

TEST(one_thread_is_the_callers)
{
    CHECK_EQ(naru_run_threads(1, NULL, index_plus_ten, NULL), 10);
}

TEST(no_thread_at_all_and_no_function_are_refused)
{
    CHECK_EQ(naru_run_threads(0, NULL, index_plus_ten, NULL), -EINVAL);
    CHECK_EQ(naru_run_threads(2, NULL, NULL, NULL), -EINVAL);
}

static int fail_in_thread(void *which)
{
    if ((int)naru_thread_index() == return_number(which))
        return -EPROTO;
    int rc = naru_sleep(NARU_FOREVER);
    CHECK_EQ(rc, -ECANCELED);
    atomic_fetch_add(&ended, 1);
    return rc;
}

TEST(the_first_error_cancels_the_other_main_tasks_and_is_the_result)
{
    for (int which = 0; which < 3; which++) {
        atomic_store(&ended, 0);
        CHECK_EQ(naru_run_threads(3, NULL, fail_in_thread, number(which)), -EPROTO);
        CHECK_LE(atomic_load(&ended), 2); /* one that had not started yet never will */
    }
}

static int wait_for_all_then_fail(void *which)
{
    atomic_fetch_add(&seen, 1);
    while (atomic_load(&seen) < 3)
        CHECK_EQ(naru_yield(), 0);
    return fail_in_thread(which);
}

TEST(an_error_cancels_main_tasks_that_wait)
{
    CHECK_EQ(naru_run_threads(3, NULL, wait_for_all_then_fail, number(1)), -EPROTO);
    CHECK_EQ(ended, 2);
}

TEST(an_error_of_opening_a_loop_is_the_result)
{
    naru_options options = {.backend = "no such"};
    CHECK_EQ(naru_run_threads(3, &options, note_index, NULL), -ENOTSUP);
    CHECK_EQ(seen, 0);
}

static int interrupt_thread_0(void *arg)
{
    (void)arg;
    if (naru_thread_index() == 0)
        raise(SIGINT);
    return naru_sleep(NARU_FOREVER);
}

TEST(sigint_ends_all_threads_with_eintr)
{
    CHECK_EQ(naru_run_threads(3, NULL, interrupt_thread_0, NULL), -EINTR);
}

static int run_with_few_threads(void *arg)
{
    struct rlimit limit = {.rlim_cur = 1, .rlim_max = 1};
    (void)arg;
    /* root has no limit: become somebody else */
    if (setrlimit(RLIMIT_NPROC, &limit) < 0 || (getuid() == 0 && setresuid(54321, 54321, 54321) < 0))
        return 100;
    pthread_t probe;
    if (pthread_create(&probe, NULL, (void *(*)(void *))(void *)getpid, NULL) == 0)
        return 100;
    int rc = naru_run_threads(4, NULL, note_index, NULL);
    return rc == -EAGAIN ? (int)atomic_load(&seen) : 101;
}

TEST(threads_that_cannot_be_started_are_eagain_and_nothing_is_left_running)
{
    struct child *child = in_child(run_with_few_threads, NULL);
    CHECK(WIFEXITED(child->status));
    if (WEXITSTATUS(child->status) == 100)
        SKIP("this user's number of threads cannot be limited here");
    CHECK_EQ(WEXITSTATUS(child->status), 0); /* thread 0 did not run fn either */
}

static int run_again(void *arg)
{
    note_index(arg);
    return naru_join(naru_spawn(return_number, arg));
}

TEST(threads_can_be_run_many_times_over)
{
    for (int i = 0; i < 50; i++)
        CHECK_EQ(naru_run_threads(4, NULL, run_again, number(i)), i);
}

static void *run_two(void *result)
{
    *(int *)result = naru_run_threads(2, NULL, index_plus_ten, NULL);
    return NULL;
}

TEST(two_teams_may_run_side_by_side)
{
    pthread_t threads[2];
    int results[2];
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, run_two, &results[i]), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        CHECK_EQ(results[i], 10);
    }
}
