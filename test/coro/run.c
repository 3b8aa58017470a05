/* naru_run: a program from its first task to its last, after which nothing is left of it. */
#include "helpers.h"

#include <dirent.h>
#include <fcntl.h>

/* ---- result ---- */

TEST(run_returns_what_main_returns) /* RUN-01 */
{
    CHECK_EQ(naru_run(return_number, number(42)), 42);
    CHECK_EQ(naru_run(return_number, number(-EPROTO)), -EPROTO);
    CHECK_EQ(naru_run(return_number, number(-ECANCELED)), -ECANCELED);
}

TEST(an_error_that_run_returned_is_not_reported)
{
    CHECK_EQ(run_recorded(0, return_number, number(-EPROTO)), -EPROTO);
    CHECK_STR(reports, "");
}

static int run_nested(void *arg)
{
    naru_loop *own;
    CHECK_EQ(naru_run(note_body, "nested"), -EBUSY);
    CHECK_EQ(naru_run_threads(2, NULL, note_body, "nested"), -EBUSY);
    CHECK_EQ(naru_loop_open(&own, NULL), 0);
    naru_task *task = naru_spawn_in(own, note_body, "nested");
    CHECK_EQ(naru_run_until(own, task), -EBUSY);
    naru_release(task);
    CHECK_EQ(naru_loop_close(own), 0);
    CHECK_STR(trace, "");
    CHECK_EQ(naru_yield(), 0); /* still running */
    return return_number(arg);
}

TEST(a_run_inside_a_run_is_refused_and_starts_nothing) /* RUN-02, LOOP-14, LOOP-15 */
{
    CHECK_EQ(naru_run(run_nested, number(3)), 3);
}

TEST(run_needs_a_function) /* RUN-03 */
{
    CHECK_EQ(naru_run(NULL, NULL), -EINVAL);
}

TEST(an_unknown_backend_is_not_supported)
{
    naru_options options = {.backend = "no such"};
    CHECK_EQ(naru_run_with(&options, note_body, "ran"), -ENOTSUP);
    CHECK_STR(trace, "");
}

static int run_without_descriptors(void *arg)
{
    int fds[4096], count = 0;
    (void)arg;
    while (count < 4096 && (fds[count] = open("/dev/null", O_RDONLY)) >= 0)
        count++;
    if (count == 4096)
        return 1; /* the limit is higher than that */
    int rc = naru_run(note_body, "ran");
    while (count > 0)
        close(fds[--count]);
    return rc == -EMFILE ? 0 : 2;
}

#include <sys/resource.h>

TEST(run_without_descriptors_left_is_emfile)
{
    struct rlimit limit;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 64;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(run_without_descriptors(NULL), 0);
}

/* ---- what is left when main has ended ---- */

static int note_cancel(void *name)
{
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    CHECK_EQ(naru_yield(), 0); /* may wait while it cleans up */
    note(name);
    return -ECANCELED;
}

static int leave_tasks(void *arg)
{
    naru_spawn(note_cancel, "a"); /* handle lost */
    naru_release(naru_spawn(note_cancel, "b"));
    CHECK_EQ(naru_yield(), 0);
    naru_release(naru_spawn(note_body, "started"));
    naru_release(naru_spawn(note_cancel, "c"));
    return return_number(arg);
}

TEST(tasks_left_are_cancelled_and_waited_for) /* RUN-04 */
{
    CHECK_EQ(naru_run(leave_tasks, number(5)), 5);
    CHECK_STR(trace, "started a b c");
}

static int spawn_during_cleanup(void *arg)
{
    (void)arg;
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    CHECK_EQ(naru_join(naru_spawn(note_body, "helper")), 0);
    naru_release(naru_spawn(note_body, "released helper"));
    return 0;
}

static int leave_one_that_spawns(void *arg)
{
    (void)arg;
    naru_release(naru_spawn(spawn_during_cleanup, NULL));
    return naru_yield();
}

TEST(tasks_that_clean_up_may_spawn_and_those_run_too)
{
    CHECK_EQ(naru_run(leave_one_that_spawns, NULL), 0);
    CHECK_STR(trace, "helper released helper");
}

static int spawn_one_that_sleeps(void *arg)
{
    (void)arg;
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    naru_spawn_options options = {.name = "latecomer"};
    naru_release(naru_spawn_with(&options, sleep_for_ever, NULL));
    return 0;
}

static int leave_one_that_spawns_sleeper(void *arg)
{
    (void)arg;
    naru_release(naru_spawn(spawn_one_that_sleeps, NULL));
    return naru_yield();
}

TEST(what_cleanup_spawned_and_does_not_end_is_named_and_cancelled)
{
    CHECK_EQ(run_recorded(0, leave_one_that_spawns_sleeper, NULL), 0);
    CHECK_EQ(report_count, 1);
    CHECK(strstr(reports, "latecomer") != NULL);
}

static int stubborn(void *arg)
{
    int ignored = 0;
    (void)arg;
    while (naru_sleep(NARU_MS(700)) < 0 || ignored < 2)
        ignored++;
    note("stubborn ended");
    return 0;
}

static int leave_stubborn(void *arg)
{
    (void)arg;
    naru_spawn_options options = {.name = "mule"};
    naru_release(naru_spawn_with(&options, stubborn, NULL));
    return naru_yield();
}

TEST(a_task_that_ignores_its_cancellation_is_named_and_waited_for)
{
    CHECK_EQ(run_recorded(0, leave_stubborn, NULL), 0);
    CHECK_EQ(report_count, 1);
    CHECK(strstr(reports, "mule") != NULL);
    CHECK_STR(trace, "stubborn ended");
}

static int unkillable(void *arg)
{
    for (;;)
        if (naru_sleep(NARU_FOREVER) == -ECANCELED)
            note(arg);
    return 0;
}

static int leave_unkillable(void *arg)
{
    (void)arg;
    naru_spawn_options options = {.name = "undead"};
    naru_release(naru_spawn_with(&options, unkillable, "asked"));
    CHECK_EQ(naru_yield(), 0);
    return 6;
}

TEST(a_task_that_parks_for_ever_in_spite_of_all_is_abandoned_with_a_report) /* TASK-34 */
{
    CHECK_EQ(run_recorded(0, leave_unkillable, NULL), 6);
    CHECK_STR(trace, "asked");
    CHECK(strstr(reports, "undead") != NULL);
    CHECK(strstr(reports, "'undead' was destroyed before it had ended") != NULL);
}

/* ---- generators left open ---- */

static int count_up(void *name)
{
    for (intptr_t i = 1; naru_generator_yield((void *)i) == 0;)
        i++;
    note(name);
    return 0;
}

static int fail_in_close(void *arg)
{
    (void)arg;
    while (naru_generator_yield(NULL) == 0)
        continue;
    return -EIO;
}

static int leave_generators(void *arg)
{
    void *value;
    naru_generator *a = naru_generator_start(count_up, "a");
    naru_generator *b = naru_generator_start(fail_in_close, NULL);
    naru_generator *c = naru_generator_start(count_up, "c");
    naru_generator_start(count_up, "never asked");
    CHECK_EQ(naru_generator_next(a, &value), 1);
    CHECK_EQ(naru_generator_next(b, &value), 1);
    CHECK_EQ(naru_generator_next(c, &value), 1);
    naru_release(naru_spawn(note_cancel, "task"));
    CHECK_EQ(naru_yield(), 0);
    return return_number(arg);
}

TEST(generators_left_open_are_closed_after_the_tasks_and_their_errors_reported) /* RUN-06, AGEN-13 */
{
    CHECK_EQ(run_recorded(0, leave_generators, number(1)), 1);
    CHECK_STR(trace, "task a c");
    CHECK_EQ(report_count, 1);
    CHECK(strstr(reports, "generator") != NULL);
}

static int wait_without_end(void *arg)
{
    (void)arg;
    for (;;)
        naru_sleep(NARU_FOREVER);
    return 0;
}

static int ask_generator(void *g)
{
    void *value;
    return naru_generator_next(g, &value);
}

static int leave_one_inside_generator(void *arg)
{
    naru_generator *g = naru_generator_start(wait_without_end, NULL);
    naru_release(naru_spawn(ask_generator, g));
    naru_generator_start(count_up, "other");
    CHECK_EQ(naru_yield(), 0);
    return return_number(arg);
}

TEST(a_task_that_never_leaves_a_generator_does_not_keep_the_run_from_ending)
{
    CHECK_EQ(run_recorded(0, leave_one_inside_generator, number(2)), 2);
}

/* ---- as before ---- */

static int count_fds(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static int count_threads(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/task");
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static int do_something_of_all(void *arg)
{
    void *value;
    naru_task *tasks[10];
    for (int i = 0; i < 10; i++)
        tasks[i] = naru_spawn(sleep_for_ever, NULL);
    naru_generator *g = naru_generator_start(count_up, "closed");
    CHECK_EQ(naru_generator_next(g, &value), 1);
    CHECK_EQ(naru_sleep(NARU_US(1)), 0);
    naru_release_all(tasks, 10);
    return return_number(arg);
}

TEST(after_a_run_the_process_is_as_before) /* LOOP-24, RUN-14 */
{
    static const int signals[] = {SIGINT, SIGSEGV, SIGBUS};
    struct sigaction before[3], after;
    stack_t stack_before, stack_after;
    CHECK_EQ(naru_run(return_number, NULL), 0); /* what is made once for the process */
    for (int i = 0; i < 3; i++)
        CHECK_EQ(sigaction(signals[i], NULL, &before[i]), 0);
    CHECK_EQ(sigaltstack(NULL, &stack_before), 0);
    int fds = count_fds(), threads = count_threads();
    CHECK_EQ(naru_run(do_something_of_all, NULL), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(sigaction(signals[i], NULL, &after), 0);
        CHECK(after.sa_handler == before[i].sa_handler);
        CHECK_EQ(after.sa_flags, before[i].sa_flags);
    }
    CHECK_EQ(sigaltstack(NULL, &stack_after), 0);
    CHECK_PTR(stack_after.ss_sp, stack_before.ss_sp);
    CHECK_EQ(stack_after.ss_flags, stack_before.ss_flags);
    CHECK_EQ(count_fds(), fds);
    CHECK_EQ(count_threads(), threads);
    CHECK_PTR(naru_loop_current(), NULL);
    CHECK_PTR(naru_self(), NULL);
}

TEST_SLOW(a_thousand_runs_leave_only_their_tombstones, 60)
{
    enum { RUNS = UNDER_TSAN ? 100 : 1000, TOMBSTONE = 256 };
    for (int i = 0; i < 50; i++)
        CHECK_EQ(naru_run(do_something_of_all, NULL), 0);
    trace[0] = '\0';
    long before = resident();
    for (int i = 0; i < RUNS; i++) {
        CHECK_EQ(naru_run(do_something_of_all, NULL), 0);
        trace[0] = '\0';
    }
    if (SANITIZED || getenv("NARU_RUNNER"))
        SKIP("ran, but sanitizers and Valgrind keep memory of their own: resident memory says nothing");
    CHECK_LE(resident() - before, 2 * RUNS * TOMBSTONE);
}

/* ---- deadlock ---- */

static naru_future never;

static int wait_for_never(void *arg)
{
    (void)arg;
    return naru_future_wait(&never);
}

static int deadlock(void *arg)
{
    (void)arg;
    naru_spawn_options options = {.name = "philosopher"};
    return naru_join(naru_spawn_with(&options, wait_for_never, NULL));
}

TEST(a_run_in_which_nothing_can_happen_any_more_is_a_deadlock_told_with_a_table)
{
    CHECK_EQ(run_recorded(0, deadlock, NULL), -EDEADLK);
    CHECK_EQ(report_count, 1);
    CHECK(strstr(reports, "deadlock") != NULL);
    CHECK(strstr(reports, "'main': waiting in await task 'philosopher'") != NULL);
    CHECK(strstr(reports, "'philosopher': waiting in future") != NULL);
    CHECK(strstr(reports, "run.c:") != NULL);
}

/* ---- SIGINT ---- */

static int clean_up_after_interrupt(void *arg)
{
    (void)arg;
    raise(SIGINT);
    CHECK_EQ(naru_sleep(NARU_SEC(100)), -ECANCELED);
    CHECK_EQ(naru_yield(), 0);
    note("cleaned up");
    return -ECANCELED;
}

TEST(sigint_cancels_main_and_the_run_ends_with_eintr)
{
    CHECK_EQ(naru_run(clean_up_after_interrupt, NULL), -EINTR);
    CHECK_STR(trace, "cleaned up");
}

static int interrupt_then_park(void *arg)
{
    (void)arg;
    raise(SIGINT);
    return naru_sleep(NARU_FOREVER);
}

TEST(a_sigint_that_has_come_already_is_no_deadlock)
{
    CHECK_EQ(run_recorded(0, interrupt_then_park, NULL), -EINTR);
    CHECK_STR(reports, "");
}

static int busy_interrupt(void *arg)
{
    (void)arg;
    raise(SIGINT);
    int rc;
    while ((rc = naru_yield()) == 0)
        continue;
    return rc;
}

TEST(sigint_reaches_a_main_that_never_sleeps)
{
    CHECK_EQ(naru_run(busy_interrupt, NULL), -EINTR);
}

static int swallow_interrupt(void *arg)
{
    (void)arg;
    raise(SIGINT);
    CHECK_EQ(naru_sleep(NARU_SEC(100)), -ECANCELED);
    return 8;
}

TEST(a_main_that_swallows_the_interrupt_returns_its_value) /* RUN-15 */
{
    CHECK_EQ(naru_run(swallow_interrupt, NULL), 8);
}

static int interrupt_twice(void *arg)
{
    (void)arg;
    raise(SIGINT);
    CHECK_EQ(naru_sleep(NARU_SEC(100)), -ECANCELED);
    raise(SIGINT);
    test_fail(__FILE__, __LINE__, "survived");
}

static int run_it(void *fn)
{
    return naru_run(*(naru_fn **)fn, NULL);
}

TEST(a_second_sigint_kills) /* RUN-13 */
{
    naru_fn *fn = interrupt_twice;
    struct child *child = in_child(run_it, &fn);
    CHECK(WIFSIGNALED(child->status));
    CHECK_EQ(WTERMSIG(child->status), SIGINT);
}

static int interrupt_twice_without_waiting(void *arg)
{
    (void)arg;
    raise(SIGINT);
    raise(SIGINT); /* the loop had no chance to see the first */
    test_fail(__FILE__, __LINE__, "survived");
}

TEST(a_second_sigint_kills_also_a_program_that_never_gets_to_its_loop) /* RUN-13 */
{
    naru_fn *fn = interrupt_twice_without_waiting;
    struct child *child = in_child(run_it, &fn);
    CHECK(WIFSIGNALED(child->status));
    CHECK_EQ(WTERMSIG(child->status), SIGINT);
}

static volatile sig_atomic_t own_handler_calls;

static void own_handler(int signo)
{
    (void)signo;
    own_handler_calls++;
}

static int interrupt_and_go_on(void *arg)
{
    raise(SIGINT);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(naru_yield(), 0);
    return return_number(arg);
}

TEST(a_programs_own_sigint_handler_stays) /* RUN-14 */
{
    signal(SIGINT, own_handler);
    CHECK_EQ(naru_run(interrupt_and_go_on, number(4)), 4);
    CHECK_EQ(own_handler_calls, 1);
    struct sigaction now;
    CHECK_EQ(sigaction(SIGINT, NULL, &now), 0);
    CHECK(now.sa_handler == own_handler);
}

TEST(an_ignored_sigint_stays_ignored) /* RUN-14 */
{
    signal(SIGINT, SIG_IGN);
    CHECK_EQ(naru_run(interrupt_and_go_on, number(4)), 4);
}

static int check_default_action(void *arg)
{
    struct sigaction now;
    CHECK_EQ(sigaction(SIGINT, NULL, &now), 0);
    CHECK(now.sa_handler == SIG_DFL);
    return return_number(arg);
}

TEST(no_sigint_leaves_it_alone)
{
    naru_options options = {.flags = NARU_NO_SIGINT};
    CHECK_EQ(naru_run_with(&options, check_default_action, number(1)), 1);
}

#include <pthread.h>

static void *run_in_thread(void *arg)
{
    (void)arg;
    CHECK_EQ(naru_run(check_default_action, number(1)), 1);
    return NULL;
}

TEST(only_the_main_thread_handles_sigint) /* RUN-14 */
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, run_in_thread, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static int interrupt_during_cleanup(void *arg)
{
    (void)arg;
    CHECK_EQ(naru_sleep(NARU_FOREVER), -ECANCELED);
    raise(SIGINT);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(naru_yield(), 0);
    return 0;
}

static int leave_interrupted_cleanup(void *arg)
{
    naru_release(naru_spawn(interrupt_during_cleanup, NULL));
    CHECK_EQ(naru_yield(), 0);
    return return_number(arg);
}

TEST(a_sigint_after_main_has_ended_does_not_change_its_result)
{
    CHECK_EQ(naru_run(leave_interrupted_cleanup, number(7)), 7);
}

/* ---- a loop of one's own ---- */

static naru_loop *opened(void)
{
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, NULL), 0);
    return loop;
}

TEST(run_until_gives_the_tasks_result_or_error) /* LOOP-09 */
{
    naru_loop *loop = opened();
    for (int result = -3; result <= 3; result++) {
        naru_task *task = naru_spawn_in(loop, return_number, number(result));
        CHECK_EQ(naru_run_until(loop, task), result);
        naru_release(task);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(run_until_counts_as_looking_at_the_error)
{
    naru_options options = {.report = record_report};
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, &options), 0);
    naru_task *task = naru_spawn_in(loop, return_number, number(-EPROTO));
    CHECK_EQ(naru_run_until(loop, task), -EPROTO);
    naru_release(task);
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK_STR(reports, "");
}

TEST(run_until_of_a_done_task_returns_at_once_and_again)
{
    naru_loop *loop = opened();
    naru_task *task = naru_spawn_in(loop, return_number, number(4));
    CHECK_EQ(naru_run_until(loop, task), 4);
    naru_release(naru_spawn_in(loop, note_body, "ran"));
    CHECK_EQ(naru_run_until(loop, task), 4);
    CHECK_STR(trace, "");
    naru_release(task);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static int stop_then_go_on(void *loop)
{
    naru_loop_stop(loop);
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_yield(), 0);
    return 5;
}

TEST(a_stopped_run_until_is_eintr_and_can_be_continued) /* LOOP-08 */
{
    naru_loop *loop = opened();
    naru_task *task = naru_spawn_in(loop, stop_then_go_on, loop);
    CHECK_EQ(naru_run_until(loop, task), -EINTR);
    CHECK(!naru_done(task));
    CHECK_EQ(naru_run_until(loop, task), 5);
    naru_release(task);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static int yield_some(void *arg)
{
    for (int i = 0; i < 10; i++)
        CHECK_EQ(naru_yield(), 0);
    return return_number(arg);
}

TEST(a_stopped_run_until_leaves_nothing_behind_that_stops_the_next) /* LOOP-12, LOOP-13 */
{
    naru_loop *loop = opened();
    naru_task *first = naru_spawn_in(loop, stop_then_go_on, loop);
    CHECK_EQ(naru_run_until(loop, first), -EINTR);
    naru_task *second = naru_spawn_in(loop, yield_some, number(6)); /* first ends during this */
    CHECK_EQ(naru_run_until(loop, second), 6);
    CHECK_EQ(naru_result(first), 5);
    naru_release(first);
    naru_release(second);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(run_until_refuses_a_task_of_another_loop) /* LOOP-11 */
{
    naru_loop *one = opened(), *other = opened();
    naru_task *task = naru_spawn_in(one, note_body, "ran");
    CHECK_EQ(naru_run_until(other, task), -EINVAL);
    CHECK_EQ(naru_run_until(other, NULL), -ENOMEM);
    CHECK_STR(trace, "");
    naru_release(task);
    CHECK_EQ(naru_loop_close(one), 0);
    CHECK_EQ(naru_loop_close(other), 0);
}

TEST(run_until_on_a_closed_loop_is_refused) /* RUN-10 */
{
    naru_loop *one = opened(), *other = opened();
    naru_task *task = naru_spawn_in(one, note_body, "ran");
    CHECK_EQ(naru_loop_close(other), 0);
    CHECK_EQ(naru_run_until(other, task), -ESHUTDOWN);
    naru_release(task);
    CHECK_EQ(naru_loop_close(one), 0);
}

TEST(run_until_that_can_never_end_is_a_deadlock_in_debug_mode)
{
    naru_options options = {.flags = NARU_DEBUG, .report = record_report};
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, &options), 0);
    naru_task *task = naru_spawn_in(loop, wait_for_never, NULL);
    CHECK_EQ(naru_run_until(loop, task), -EDEADLK);
    CHECK(strstr(reports, "deadlock") != NULL);
    naru_release(task);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(run_until_takes_a_task_that_spawn_on_has_just_made)
{
    naru_loop *loop = opened();
    naru_task *task = naru_spawn_on(loop, return_number, number(9));
    CHECK_EQ(naru_run_until(loop, task), 9);
    naru_release(task);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_pending_task_of_a_closed_loop_is_reported_by_name) /* TASK-34 */
{
    naru_options options = {.report = record_report};
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, &options), 0);
    naru_task *waiting = naru_spawn_in(loop, stop_then_go_on, loop);
    naru_task_set_name(waiting, "forgotten");
    CHECK_EQ(naru_loop_run(loop), 0);
    naru_release(waiting);
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK_EQ(report_count, 1);
    CHECK(strstr(reports, "forgotten") != NULL);
}

static const naru_local kept = {"kept", NULL};

static int set_kept(void *value)
{
    return naru_local_set(&kept, value);
}

static void set_kept_for_loop(void *value)
{
    CHECK_EQ(naru_local_set(&kept, value), 0);
}

static int get_kept(void *arg)
{
    (void)arg;
    return (int)(intptr_t)naru_local_get(&kept);
}

TEST(several_runs_of_one_loop_share_the_loops_locals_but_not_each_others) /* RUN-09 */
{
    naru_loop *loop = opened();
    naru_callback cb = {0};
    naru_call_soon(loop, &cb, set_kept_for_loop, number(3));
    naru_task *task = naru_spawn_in(loop, set_kept, number(4));
    CHECK_EQ(naru_run_until(loop, task), 0);
    naru_release(task);
    task = naru_spawn_in(loop, get_kept, NULL);
    CHECK_EQ(naru_run_until(loop, task), 3);
    naru_release(task);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* ---- fork ---- */

static int run_in_fork(void *arg)
{
    CHECK_PTR(naru_loop_current(), NULL);
    CHECK_PTR(naru_self(), NULL);
    return naru_run(return_number, arg);
}

static int fork_inside(void *arg)
{
    (void)arg;
    struct child *child = in_child(run_in_fork, number(5));
    CHECK(WIFEXITED(child->status));
    return WEXITSTATUS(child->status);
}

TEST(a_forked_child_of_a_task_can_run_a_loop_of_its_own) /* LOOP-39 */
{
    CHECK_EQ(naru_run(fork_inside, NULL), 5);
}

static int leave_stubborn_and_generator(void *arg)
{
    void *value;
    CHECK_EQ(naru_generator_next(naru_generator_start(count_up, "closed"), &value), 1);
    return leave_stubborn(arg);
}

/* The end has lost its patience with the task by then, and cancels what is spawned. */
TEST(generators_left_open_are_closed_also_after_a_task_that_would_not_end)
{
    CHECK_EQ(run_recorded(0, leave_stubborn_and_generator, NULL), 0);
    CHECK_STR(trace, "stubborn ended closed");
}
