/* The loop itself: opening, running, stopping, holding, and what it reports. */
#include "test/reactor/common.h"

#include "reactor/internal.h"

#include <sys/resource.h>
#include <time.h>

static naru_loop *loop;

/* ---- time ---- */

/* TIMER-01 */
TEST(now_is_the_monotonic_clock)
{
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    int64_t now = naru_now();
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK_LE(before.tv_sec * NARU_SEC(1) + before.tv_nsec, now);
    CHECK_LE(now, after.tv_sec * NARU_SEC(1) + after.tv_nsec);
}

TEST(durations_are_constant_expressions_in_nanoseconds)
{
    static const int64_t durations[] = {NARU_SEC(2), NARU_MS(20), NARU_US(3)};
    CHECK_EQ(durations[0], 2000000000);
    CHECK_EQ(durations[1], 20000000);
    CHECK_EQ(durations[2], 3000);
    CHECK_EQ(NARU_SEC(0.5), 500000000);
    CHECK_EQ(NARU_MS(-1.5), -1500000);
    CHECK_EQ(NARU_FOREVER, INT64_MAX);
}

/* ---- opening ---- */

TEST(the_default_backend_is_epoll)
{
    unsetenv("NARU_BACKEND");
    loop = open_loop();
    CHECK_STR(naru_loop_backend(loop), "epoll");
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_backend_is_chosen_by_option)
{
    CHECK_EQ(setenv("NARU_BACKEND", "no such", 1), 0);
    CHECK_EQ(naru_loop_open(&loop, &(naru_options){.backend = "epoll"}), 0);
    CHECK_STR(naru_loop_backend(loop), "epoll");
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_backend_is_chosen_by_the_environment)
{
    CHECK_EQ(setenv("NARU_BACKEND", "epoll", 1), 0);
    loop = open_loop();
    CHECK_STR(naru_loop_backend(loop), "epoll");
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(an_unknown_backend_is_not_supported)
{
    int fds = count_fds();
    loop = (naru_loop *)&loop;
    CHECK_EQ(naru_loop_open(&loop, &(naru_options){.backend = "no such"}), -ENOTSUP);
    CHECK_PTR(loop, NULL);
    CHECK_EQ(setenv("NARU_BACKEND", "no such", 1), 0);
    loop = (naru_loop *)&loop;
    CHECK_EQ(naru_loop_open(&loop, NULL), -ENOTSUP);
    CHECK_PTR(loop, NULL);
    CHECK_EQ(count_fds(), fds);
}

/* At each number of descriptors short of enough. */
TEST(opening_without_descriptors_left_fails_and_leaks_none)
{
    int fds = count_fds();
    struct rlimit limit;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int lowest_free = dup(0);
    CHECK_GE(lowest_free, 0);
    close(lowest_free);
    limit.rlim_cur = (rlim_t)lowest_free;
    int rc;
    int failures = 0;
    for (;; limit.rlim_cur++) {
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
        loop = (naru_loop *)&loop;
        rc = naru_loop_open(&loop, NULL);
        if (rc == 0)
            break;
        CHECK_EQ(rc, -EMFILE);
        CHECK_PTR(loop, NULL);
        failures++;
    }
    CHECK_GE(failures, 1);
    CHECK_EQ(naru_loop_close(loop), 0);
    limit.rlim_cur += 10;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(count_fds(), fds);
}

static struct ends channel;
static naru_watch watch;

static void take_byte(void *arg, int events)
{
    char byte;
    CHECK_EQ(events, POLLIN);
    CHECK_EQ(read(channel.read, &byte, 1), 1);
    note(arg);
    naru_watch_stop(&watch);
}

/* Takes all memory there is, down to the last small piece. */
static void exhaust_memory(void)
{
    struct rlimit limit;
    CHECK_EQ(getrlimit(RLIMIT_AS, &limit), 0);
    limit.rlim_cur = 1 << 20; /* less than there is: nothing new is mapped */
    CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
    void *volatile taken; /* or a compiler that knows malloc would leave it out */
    for (size_t size = 1 << 20; size >= 16; size /= 2)
        do
            taken = malloc(size);
        while (taken);
}

TEST(without_memory_opening_and_posting_fail_and_break_nothing)
{
    if (SANITIZED || getenv("NARU_RUNNER"))
        SKIP("a sanitizer or an emulator has memory of its own");
    naru_loop *second;
    loop = open_loop();
    CHECK_EQ(naru_post(loop, note, ARG(1)), 0);
    exhaust_memory();
    CHECK_EQ(naru_post(loop, note, ARG(2)), -ENOMEM);
    CHECK_EQ(naru_loop_open(&second, NULL), -ENOMEM);
    CHECK_PTR(second, NULL);
    naru_signal usr1 = {0};
    CHECK_EQ(naru_signal_start(loop, &usr1, SIGUSR1, note, ARG(3)), -ENOMEM);
    CHECK(!naru_signal_stop(&usr1));
    struct ends ends = make_pipe();
    CHECK_EQ(naru_watch_start(loop, &watch, ends.read, POLLIN, take_byte, NULL), -ENOMEM);
    CHECK(!naru_watch_stop(&watch));
    naru_op op;
    char byte;
    naru_op_read(&op, ends.read, &byte, 1);
    CHECK_EQ(result_of(loop, &op), -ENOMEM);
    naru_op_pread(&op, ends.read, &byte, 1, 0);
    CHECK_EQ(result_of(loop, &op), -ENOMEM);
    CHECK_JOURNAL(1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* LOOP-24 */
TEST(opening_running_and_closing_leaves_no_descriptor)
{
    int fds = count_fds();
    for (int i = 0; i < 100; i++) {
        loop = open_loop();
        run_and_close(loop);
    }
    CHECK_EQ(count_fds(), fds);
}

TEST(the_descriptors_of_a_loop_are_close_on_exec)
{
    int first = dup(0);
    CHECK_GE(first, 0);
    close(first);
    loop = open_loop();
    int last = dup(0);
    CHECK_GT(last, first);
    for (int fd = first; fd < last; fd++)
        CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* ---- running ---- */

TEST(a_loop_with_nothing_to_do_ends_at_once)
{
    loop = open_loop();
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_loop_may_be_run_again)
{
    naru_callback a = {0};
    loop = open_loop();
    naru_call_soon(loop, &a, note, ARG(1));
    CHECK_EQ(naru_loop_run(loop), 0);
    naru_call_soon(loop, &a, note, ARG(2));
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(1, 2);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void put_byte(void *arg)
{
    note(arg);
    put(channel.write, "x", 1);
}

TEST(a_run_lasts_until_timers_watches_and_callbacks_are_all_done)
{
    naru_timer timer = {0};
    loop = open_loop();
    channel = make_pipe();
    CHECK_EQ(naru_watch_start(loop, &watch, channel.read, POLLIN, take_byte, ARG(2)), 0);
    naru_timer_after(loop, &timer, NARU_MS(1), put_byte, ARG(1));
    run_and_close(loop);
    CHECK_JOURNAL(1, 2);
}

static void note_nested_run(void *arg)
{
    CHECK_EQ(naru_loop_run(arg), -EBUSY);
    note(ARG(1));
}

/* LOOP-14 */
TEST(running_a_running_loop_is_refused_and_it_goes_on)
{
    naru_callback a = {0}, b = {0};
    loop = open_loop();
    naru_call_soon(loop, &a, note_nested_run, loop);
    naru_call_soon(loop, &b, note, ARG(2));
    run_and_close(loop);
    CHECK_JOURNAL(1, 2);
}

/* LOOP-15 */
TEST(running_a_second_loop_in_a_thread_is_refused)
{
    naru_callback a = {0}, b = {0};
    naru_loop *second = open_loop();
    loop = open_loop();
    naru_call_soon(second, &b, note, ARG(2));
    naru_call_soon(loop, &a, note_nested_run, second);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(1);
    run_and_close(second);
    CHECK_JOURNAL(2);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static pthread_barrier_t barrier;

static void meet(void *own_loop)
{
    pthread_barrier_wait(&barrier); /* both are inside their runs now */
    CHECK_PTR(naru_loop_current(), own_loop);
    pthread_barrier_wait(&barrier);
}

static void *run_own_loop(void *arg)
{
    naru_callback callback = {0};
    naru_loop *own = open_loop();
    CHECK_PTR(naru_loop_current(), NULL);
    naru_call_soon(own, &callback, meet, own);
    run_and_close(own);
    CHECK_PTR(naru_loop_current(), NULL);
    return arg;
}

/* LOOP-16 */
TEST(two_threads_run_two_loops_at_once_and_each_sees_its_own)
{
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_t thread = start_thread(run_own_loop, NULL);
    run_own_loop(NULL);
    pthread_join(thread, NULL);
}

static void check_current(void *own_loop)
{
    CHECK_PTR(naru_loop_current(), own_loop);
    note(ARG(1));
}

/* LOOP-17 */
TEST(the_current_loop_is_the_one_that_runs_and_none_outside)
{
    naru_callback a = {0};
    naru_loop *other = open_loop();
    loop = open_loop();
    CHECK_PTR(naru_loop_current(), NULL);
    naru_call_soon(loop, &a, check_current, loop);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_PTR(naru_loop_current(), NULL);
    CHECK_JOURNAL(1);
    CHECK_EQ(naru_loop_close(other), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void *open_and_fill(void *callback)
{
    loop = open_loop();
    naru_call_soon(loop, callback, note, ARG(1));
    return NULL;
}

TEST(a_loop_may_be_opened_in_one_thread_and_run_in_another)
{
    naru_callback a = {0};
    pthread_join(start_thread(open_and_fill, &a), NULL);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

/* ---- stopping ---- */

static naru_callback requeued;

static void requeue(void *arg)
{
    note(arg);
    naru_call_soon(loop, &requeued, requeue, arg);
}

/* LOOP-06 */
TEST(a_run_stopped_before_it_began_does_one_round)
{
    loop = open_loop();
    naru_call_soon(loop, &requeued, requeue, ARG(1));
    naru_loop_stop(loop);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* LOOP-06 */
TEST(a_run_stopped_before_it_began_polls_without_waiting)
{
    char byte;
    naru_op op;
    struct outcome outcome;
    loop = open_loop();
    channel = make_pipe();
    naru_op_read(&op, channel.read, &byte, 1);
    submit(loop, &op, &outcome);
    one_round(loop);
    CHECK_EQ(outcome.calls, 0);
    put(channel.write, "x", 1);
    one_round(loop);
    CHECK_EQ(outcome.calls, 1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* LOOP-06 */
TEST(a_stop_counts_for_one_run_only)
{
    naru_timer timer = {0};
    loop = open_loop();
    naru_loop_stop(loop);
    naru_loop_stop(loop);
    CHECK_EQ(naru_loop_run(loop), 0);
    naru_timer_after(loop, &timer, NARU_MS(20), note, ARG(1)); /* a run of one round would end before */
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

static naru_callback queued_late;

static void stop_and_queue(void *arg)
{
    note(arg);
    naru_loop_stop(loop);
    naru_call_soon(loop, &queued_late, note, ARG(9));
}

TEST(a_stop_inside_lets_the_batch_finish_and_the_rest_wait_for_the_next_run)
{
    naru_callback a = {0}, b = {0};
    loop = open_loop();
    naru_call_soon(loop, &a, stop_and_queue, ARG(1));
    naru_call_soon(loop, &b, note, ARG(2));
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(1, 2);
    run_and_close(loop);
    CHECK_JOURNAL(9);
}

TEST(a_stop_ends_a_run_that_still_has_things_to_wait_for)
{
    naru_timer timer = {0}, far = {0};
    loop = open_loop();
    channel = make_pipe();
    CHECK_EQ(naru_watch_start(loop, &watch, channel.read, POLLIN, take_byte, ARG(2)), 0);
    naru_timer_after(loop, &far, NARU_SEC(3600), note, ARG(3));
    naru_timer_after(loop, &timer, NARU_MS(1), stop_loop, loop);
    run_and_close(loop);
    CHECK_EQ(journal.count, 0);
}

/* ---- holding ---- */

static void *post_and_unhold(void *arg)
{
    CHECK_EQ(naru_post(loop, note, arg), 0);
    naru_loop_unhold(loop);
    return NULL;
}

TEST(a_hold_keeps_a_loop_with_nothing_to_do_waiting_for_a_post)
{
    for (int i = 0; i < 100; i++) {
        loop = open_loop();
        naru_loop_hold(loop);
        pthread_t thread = start_thread(post_and_unhold, ARG(1));
        run_and_close(loop);
        pthread_join(thread, NULL);
        CHECK_JOURNAL(1);
    }
}

static void *unhold(void *arg)
{
    naru_loop_unhold(arg);
    return NULL;
}

TEST(the_last_unhold_ends_a_run_that_has_nothing_else)
{
    for (int i = 0; i < 100; i++) {
        loop = open_loop();
        naru_loop_hold(loop);
        naru_loop_hold(loop);
        pthread_t first = start_thread(unhold, loop);
        pthread_t second = start_thread(unhold, loop);
        CHECK_EQ(naru_loop_run(loop), 0);
        pthread_join(first, NULL);
        pthread_join(second, NULL);
        CHECK_EQ(naru_loop_close(loop), 0);
    }
}

static void *hold_and_pass(void *arg)
{
    naru_loop_hold(loop);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return post_and_unhold(arg);
}

static void pass_barrier(void *arg)
{
    note(arg);
    pthread_barrier_wait(&barrier);
}

TEST(a_hold_by_another_thread_keeps_a_running_loop_alive)
{
    naru_callback a = {0}, b = {0};
    pthread_barrier_init(&barrier, NULL, 2);
    loop = open_loop();
    naru_call_soon(loop, &a, pass_barrier, ARG(1)); /* behind it the hold is there */
    naru_call_soon(loop, &b, pass_barrier, ARG(2));
    pthread_t thread = start_thread(hold_and_pass, ARG(3));
    run_and_close(loop);
    pthread_join(thread, NULL);
    CHECK_JOURNAL(1, 2, 3);
}

TEST(an_unhold_without_a_hold_does_nothing)
{
    loop = open_loop();
    naru_loop_unhold(loop);
    naru_loop_hold(loop);
    naru_loop_unhold(loop);
    run_and_close(loop);
}

/* ---- deadlock: the coroutine layer is played by an extension that always has one parked ---- */

static void nothing(struct naru__extension *e)
{
    (void)e;
}

static size_t one(struct naru__extension *e)
{
    (void)e;
    return 1;
}

static void note_deadlock(struct naru__extension *e)
{
    (void)e;
    note(ARG(-EDEADLK));
}

static bool no_label(const naru_callback *cb, char *text, size_t size)
{
    (void)cb;
    (void)text;
    (void)size;
    return false;
}

static struct naru__extension one_parked = {nothing, nothing, nothing, no_label, one, note_deadlock, nothing};

TEST(a_run_with_tasks_parked_for_ever_ends_with_deadlock)
{
    CHECK_EQ(naru__loop_open(&loop, NULL), 0); /* nobody else has the pointer */
    loop->core->extension = &one_parked;
    CHECK_EQ(naru_loop_run(loop), -EDEADLK);
    CHECK_JOURNAL(-EDEADLK);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(in_debug_mode_deadlock_is_also_found_when_the_program_has_the_loop)
{
    CHECK_EQ(naru_loop_open(&loop, &(naru_options){.flags = NARU_DEBUG}), 0);
    loop->core->extension = &one_parked;
    CHECK_EQ(naru_loop_run(loop), -EDEADLK);
    CHECK_JOURNAL(-EDEADLK);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void *post_stop(void *arg)
{
    CHECK_EQ(naru_post(loop, stop_loop, loop), 0);
    return arg;
}

TEST(with_tasks_parked_a_loop_that_the_program_has_waits_for_posts)
{
    unsetenv("NARU_DEBUG");
    loop = open_loop();
    loop->core->extension = &one_parked;
    pthread_t thread = start_thread(post_stop, NULL);
    CHECK_EQ(naru_loop_run(loop), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(journal.count, 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* ---- debug mode and reports; EXC-07, EXC-08 ---- */

static struct {
    int calls, level;
    char text[512];
    void *arg;
} reported;

static void take_report(int level, const char *text, void *arg)
{
    reported.calls++;
    reported.level = level;
    reported.arg = arg;
    snprintf(reported.text, sizeof reported.text, "%s", text);
}

static void be_slow(void *arg)
{
    int64_t until = naru_now() + NARU_MS(101);
    while (naru_now() < until)
        continue;
    note(arg);
}

static void check_slow_report(void)
{
    CHECK_EQ(reported.calls, 1);
    CHECK_EQ(reported.level, NARU_WARNING);
    CHECK_PTR(reported.arg, &reported);
    CHECK(strstr(reported.text, " ms ") != NULL);
    CHECK_NE(reported.text[strlen(reported.text) - 1], '\n');
}

static void run_a_slow_callback(unsigned flags)
{
    naru_callback a = {0};
    CHECK_EQ(naru_loop_open(&loop,
                            &(naru_options){.flags = flags, .report = take_report, .report_arg = &reported}),
             0);
    naru_call_soon(loop, &a, be_slow, ARG(1));
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

/* EXC-07 */
TEST(debug_mode_reports_a_step_that_took_over_a_tenth_of_a_second)
{
    unsetenv("NARU_DEBUG");
    run_a_slow_callback(NARU_DEBUG);
    check_slow_report();
}

/* EXC-08 */
TEST(debug_mode_is_off_by_default)
{
    unsetenv("NARU_DEBUG");
    run_a_slow_callback(0);
    CHECK_EQ(reported.calls, 0);
}

/* EXC-08 */
TEST(debug_mode_is_turned_on_by_the_environment)
{
    CHECK_EQ(setenv("NARU_DEBUG", "1", 1), 0);
    run_a_slow_callback(0);
    check_slow_report();
}

/* EXC-08 */
TEST(debug_mode_stays_off_when_the_environment_says_0)
{
    CHECK_EQ(setenv("NARU_DEBUG", "0", 1), 0);
    run_a_slow_callback(0);
    CHECK_EQ(reported.calls, 0);
}

/* What fn(arg) writes to stderr. */
static const char *stderr_of(void (*fn)(void *arg), void *arg)
{
    static char text[1024];
    int before = dup(STDERR_FILENO);
    struct ends ends = make_pipe();
    CHECK_EQ(dup2(ends.write, STDERR_FILENO), STDERR_FILENO);
    close(ends.write);
    fn(arg);
    fflush(stderr);
    CHECK_EQ(dup2(before, STDERR_FILENO), STDERR_FILENO);
    ssize_t n = read(ends.read, text, sizeof text - 1);
    CHECK_GE(n, 0);
    text[n] = '\0';
    return text;
}

static void run_slowly_without_hook(void *arg)
{
    naru_callback a = {0};
    CHECK_EQ(naru_loop_open(&loop, &(naru_options){.flags = NARU_DEBUG}), 0);
    naru_call_soon(loop, &a, be_slow, arg);
    run_and_close(loop);
}

TEST(without_a_hook_reports_go_to_stderr)
{
    const char *text = stderr_of(run_slowly_without_hook, ARG(1));
    CHECK(strncmp(text, "naru: ", 6) == 0);
    CHECK(strchr(text, '\n') == text + strlen(text) - 1);
}

static naru_callback foreign_callback;
static naru_timer foreign_timer;
static struct outcome foreign_outcome;
static naru_op foreign_op;

static void *use_from_wrong_thread(void *arg)
{
    naru_call_soon(loop, &foreign_callback, note, ARG(1));
    naru_timer_after(loop, &foreign_timer, 0, note, ARG(2));
    CHECK_EQ(naru_watch_start(loop, &watch, 0, POLLIN, take_byte, NULL), -ESHUTDOWN);
    naru_op_poll(&foreign_op, 0, POLLIN);
    naru_op_submit(loop, &foreign_op, record, &foreign_outcome);
    CHECK_EQ(foreign_outcome.result, -ESHUTDOWN);
    CHECK_EQ(naru_post(loop, note, ARG(3)), 0);
    return arg;
}

/* The loop's thread waits meanwhile, so that there is no real race. */
static void let_other_thread_use_it(void *arg)
{
    (void)arg;
    pthread_join(start_thread(use_from_wrong_thread, NULL), NULL);
}

static void run_it(void *arg)
{
    CHECK_EQ(naru_loop_run(arg), 0);
}

/* THR-05 */
TEST(debug_mode_refuses_and_reports_use_from_a_wrong_thread)
{
    naru_callback a = {0};
    CHECK_EQ(naru_loop_open(&loop, &(naru_options){.flags = NARU_DEBUG}), 0);
    naru_call_soon(loop, &a, let_other_thread_use_it, NULL);
    const char *text = stderr_of(run_it, loop);
    CHECK(strstr(text, "thread") != NULL);
    CHECK_EQ(foreign_outcome.calls, 1);
    CHECK_JOURNAL(3);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void *queue_and_end(void *callback)
{
    naru_call_soon(loop, callback, note, ARG(1));
    return NULL;
}

/* THR-05 */
TEST(debug_mode_lets_any_thread_use_a_loop_that_does_not_run)
{
    naru_callback a = {0};
    CHECK_EQ(naru_loop_open(&loop, &(naru_options){.flags = NARU_DEBUG}), 0);
    pthread_join(start_thread(queue_and_end, &a), NULL);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

/* ---- fork; LOOP-39 ---- */

static void run_a_loop_in_a_child(void *arg)
{
    (void)arg;
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid > 0) {
        check_child(pid);
        note(ARG(1));
        return;
    }
    CHECK_PTR(naru_loop_current(), NULL);
    struct ends own = make_pipe();
    naru_loop *second = open_loop();
    naru_op op;
    char byte;
    naru_timer timer = {0};
    naru_op_read(&op, own.read, &byte, 1);
    channel = own;
    naru_timer_after(second, &timer, NARU_MS(1), put_byte, ARG(2));
    CHECK_EQ(result_of(second, &op), 1);
    CHECK_EQ(naru_loop_close(second), 0);
    _exit(EXIT_SUCCESS);
}

/* LOOP-39 */
TEST(a_forked_child_sees_no_running_loop_and_can_run_its_own)
{
    naru_callback a = {0}, b = {0};
    loop = open_loop();
    naru_call_soon(loop, &a, run_a_loop_in_a_child, NULL);
    naru_call_soon(loop, &b, check_current, loop);
    run_and_close(loop);
    CHECK_JOURNAL(1, 1);
}

/* LOOP-39 */
TEST(a_forked_child_with_its_own_loop_leaves_the_parents_waits_alone)
{
    naru_callback a = {0};
    naru_timer timer = {0};
    naru_op op;
    char byte;
    loop = open_loop();
    struct ends ends = channel = make_pipe();
    naru_op_read(&op, ends.read, &byte, 1);
    naru_call_soon(loop, &a, run_a_loop_in_a_child, NULL);
    naru_timer_after(loop, &timer, NARU_MS(5), put_byte, ARG(2));
    CHECK_EQ(result_of(loop, &op), 1);
    CHECK_JOURNAL(1, 2);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* LOOP-39 */
TEST(a_forked_child_may_close_the_loop_it_inherited)
{
    naru_signal usr1 = {0}, own_usr1 = {0};
    naru_op op;
    char byte;
    struct outcome outcome;
    loop = open_loop();
    channel = make_pipe();
    CHECK_EQ(naru_signal_start(loop, &usr1, SIGUSR1, stop_loop, loop), 0);
    naru_op_read(&op, channel.read, &byte, 1);
    submit(loop, &op, &outcome);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        CHECK_EQ(naru_loop_close(loop), 0);
        naru_loop *second = open_loop();
        CHECK_EQ(naru_signal_start(second, &own_usr1, SIGUSR1, stop_loop, second), 0);
        CHECK_EQ(raise(SIGUSR1), 0);
        run_and_close(second);
        _exit(EXIT_SUCCESS);
    }
    check_child(pid);
    put(channel.write, "x", 1);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(outcome.result, 1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static int return_0(void *arg)
{
    (void)arg;
    return 0;
}

/* LOOP-39: the threads of the pool were not copied. */
TEST(a_forked_child_may_close_an_inherited_loop_that_has_a_pool)
{
    if (test_runs_in("qemu"))
        SKIP("qemu-user does not survive the fork of a program with threads");
    naru_op op;
    loop = open_loop();
    naru_op_call(&op, return_0, NULL);
    CHECK_EQ(result_of(loop, &op), 0);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        CHECK_EQ(naru_loop_close(loop), 0);
        naru_loop *second = open_loop();
        naru_op_call(&op, return_0, NULL);
        if (!THREAD_SANITIZED)
            CHECK_EQ(result_of(second, &op), 0);
        CHECK_EQ(naru_loop_close(second), 0);
        _exit(EXIT_SUCCESS);
    }
    check_child(pid);
    naru_op_call(&op, return_0, NULL);
    CHECK_EQ(result_of(loop, &op), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}
