/* Signals as callbacks. */
#include "test/reactor/common.h"

#include "reactor/internal.h"

static naru_loop *loop;
static naru_signal usr1, other;

static void note_and_stop(void *arg)
{
    note(arg);
    CHECK(naru_signal_stop(&usr1));
}

static void watch_usr1(void (*fn)(void *arg), int number)
{
    CHECK_EQ(naru_signal_start(loop, &usr1, SIGUSR1, fn, ARG(number)), 0);
}

/* SIG-01, SIG-02 */
TEST(a_signal_is_called_back_from_the_loop_with_its_argument)
{
    loop = open_loop();
    watch_usr1(note_and_stop, 7);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(journal.count, 0);
    run_and_close(loop);
    CHECK_JOURNAL(7);
}

static void *kill_process(void *arg)
{
    (void)arg;
    CHECK_EQ(kill(getpid(), SIGUSR1), 0);
    return NULL;
}

/* SIG-01: for the loop it makes no difference on which thread the handler runs, or whether it sleeps already. */
TEST(a_signal_wakes_a_loop_that_sleeps)
{
    for (int i = 0; i < 200; i++) {
        loop = open_loop();
        watch_usr1(note_and_stop, 1);
        pthread_t thread = start_thread(kill_process, NULL);
        run_and_close(loop);
        pthread_join(thread, NULL);
        CHECK_JOURNAL(1);
    }
}

static void *raise_here(void *arg)
{
    CHECK_EQ(raise(SIGUSR1), 0); /* on this thread, not the loop's */
    return arg;
}

TEST(a_signal_handled_on_another_thread_reaches_the_loop)
{
    for (int i = 0; i < 200; i++) {
        loop = open_loop();
        watch_usr1(note_and_stop, 1);
        pthread_t thread = start_thread(raise_here, NULL);
        run_and_close(loop);
        pthread_join(thread, NULL);
        CHECK_JOURNAL(1);
    }
}

static void raise_inside(void *arg)
{
    CHECK_EQ(raise(SIGUSR1), 0);
    note(arg);
}

TEST(a_signal_raised_inside_a_callback_is_called_back_later)
{
    naru_callback a = {0}, b = {0};
    loop = open_loop();
    watch_usr1(note_and_stop, 3);
    naru_call_soon(loop, &a, raise_inside, ARG(1));
    naru_call_soon(loop, &b, note, ARG(2));
    run_and_close(loop);
    CHECK_JOURNAL(1, 2, 3);
}

static void raise_again_twice(void *arg)
{
    note(arg);
    if (journal.count < 3)
        CHECK_EQ(raise(SIGUSR1), 0);
    else
        CHECK(naru_signal_stop(&usr1));
}

/* SIG-01 */
TEST(every_delivery_after_a_callback_is_called_back_again)
{
    loop = open_loop();
    watch_usr1(raise_again_twice, 1);
    CHECK_EQ(raise(SIGUSR1), 0);
    run_and_close(loop);
    CHECK_JOURNAL(1, 1, 1);
}

TEST(deliveries_that_nobody_has_handled_yet_may_merge)
{
    loop = open_loop();
    watch_usr1(note, 1);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(raise(SIGUSR1), 0);
    one_round(loop);
    CHECK_JOURNAL(1);
    CHECK(naru_signal_stop(&usr1));
    run_and_close(loop);
}

TEST(different_signals_do_not_merge)
{
    loop = open_loop();
    watch_usr1(note, 1);
    CHECK_EQ(naru_signal_start(loop, &other, SIGUSR2, note, ARG(2)), 0);
    CHECK_EQ(raise(SIGUSR2), 0);
    one_round(loop);
    CHECK_JOURNAL(2);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(raise(SIGUSR2), 0);
    one_round(loop);
    CHECK_JOURNAL(1, 2);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(several_subscribers_are_all_called_in_order_of_start)
{
    naru_signal signals[3] = {0};
    loop = open_loop();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(naru_signal_start(loop, &signals[i], SIGUSR1, note, ARG(i)), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    one_round(loop);
    CHECK_JOURNAL(0, 1, 2);
    CHECK(naru_signal_stop(&signals[1]));
    CHECK_EQ(raise(SIGUSR1), 0);
    one_round(loop);
    CHECK_JOURNAL(0, 2);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(two_loops_are_both_told)
{
    loop = open_loop();
    naru_loop *second = open_loop();
    watch_usr1(note, 1);
    CHECK_EQ(naru_signal_start(second, &other, SIGUSR1, note, ARG(2)), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    one_round(loop);
    CHECK_JOURNAL(1);
    one_round(second);
    CHECK_JOURNAL(2);
    CHECK_EQ(naru_loop_close(loop), 0); /* leaves the other one's handler in place */
    CHECK_EQ(raise(SIGUSR1), 0);
    one_round(second);
    CHECK_JOURNAL(2);
    CHECK_EQ(naru_loop_close(second), 0);
}

static pthread_barrier_t barrier;
static atomic_int told;

static void count_and_stop(void *arg)
{
    atomic_fetch_add(&told, 1);
    CHECK(naru_signal_stop(arg));
}

static void *run_with_signal(void *arg)
{
    naru_signal own = {0};
    naru_loop *own_loop = open_loop();
    CHECK_EQ(naru_signal_start(own_loop, &own, SIGUSR1, count_and_stop, &own), 0);
    pthread_barrier_wait(&barrier);
    run_and_close(own_loop);
    return arg;
}

TEST(loops_of_several_threads_are_all_told)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    for (int round = 0; round < 50; round++) {
        atomic_store(&told, 0);
        pthread_barrier_init(&barrier, NULL, THREADS + 1);
        for (int i = 0; i < THREADS; i++)
            threads[i] = start_thread(run_with_signal, NULL);
        pthread_barrier_wait(&barrier);
        CHECK_EQ(kill(getpid(), SIGUSR1), 0);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        CHECK_EQ(atomic_load(&told), THREADS);
        pthread_barrier_destroy(&barrier);
    }
}

/* SIG-03 */
TEST(starting_again_replaces_callback_and_signal)
{
    loop = open_loop();
    watch_usr1(note, 1);
    watch_usr1(note, 2);
    CHECK_EQ(raise(SIGUSR1), 0);
    one_round(loop);
    CHECK_JOURNAL(2);
    CHECK_EQ(naru_signal_start(loop, &usr1, SIGUSR2, note, ARG(3)), 0);
    CHECK_EQ(raise(SIGUSR2), 0);
    one_round(loop);
    CHECK_JOURNAL(3);
    struct sigaction now;
    CHECK_EQ(sigaction(SIGUSR1, NULL, &now), 0);
    CHECK(now.sa_handler == SIG_DFL);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static volatile sig_atomic_t own_handler_runs;

static void own_handler(int signo)
{
    (void)signo;
    own_handler_runs++;
}

/* SIG-04 */
TEST(the_last_to_stop_puts_back_the_handler_that_was_there)
{
    struct sigaction own = {.sa_handler = own_handler, .sa_flags = SA_NODEFER}, now;
    CHECK_EQ(sigaction(SIGUSR1, &own, NULL), 0);
    loop = open_loop();
    watch_usr1(note, 1);
    CHECK_EQ(naru_signal_start(loop, &other, SIGUSR1, note, ARG(2)), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(own_handler_runs, 0);
    CHECK(naru_signal_stop(&usr1));
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(own_handler_runs, 0);
    CHECK(naru_signal_stop(&other));
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(own_handler_runs, 1);
    CHECK_EQ(sigaction(SIGUSR1, NULL, &now), 0);
    CHECK(now.sa_handler == own_handler);
    CHECK_EQ(now.sa_flags & SA_NODEFER, SA_NODEFER);
    run_and_close(loop);
    CHECK_EQ(journal.count, 0);
}

TEST(a_handler_put_over_the_librarys_stays)
{
    struct sigaction now;
    loop = open_loop();
    watch_usr1(note, 1);
    signal(SIGUSR1, own_handler);
    CHECK(naru_signal_stop(&usr1));
    CHECK_EQ(sigaction(SIGUSR1, NULL, &now), 0);
    CHECK(now.sa_handler == own_handler);
    run_and_close(loop);
}

/* SIG-04 */
TEST(signals_that_cannot_be_caught_or_do_not_exist_are_refused)
{
    static const int bad[] = {SIGKILL, SIGSTOP, 0, -1, 65, 1000, INT32_MIN, INT32_MAX};
    loop = open_loop();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ(naru_signal_start(loop, &usr1, bad[i], note, ARG(1)), -EINVAL);
        CHECK(!naru_signal_stop(&usr1));
    }
    run_and_close(loop); /* and is not kept alive by them */
}

TEST(the_highest_real_time_signal_works)
{
    if (test_runs_in("qemu"))
        SKIP("qemu-user keeps the last real-time signals for itself");
    loop = open_loop();
    int highest = getenv("NARU_RUNNER") ? SIGRTMAX - 1 : SIGRTMAX; /* valgrind keeps the last for itself */
    CHECK_EQ(naru_signal_start(loop, &usr1, highest, note_and_stop, ARG(1)), 0);
    CHECK_EQ(raise(highest), 0);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

/* SIG-04 */
TEST(stopping_tells_whether_it_ran)
{
    loop = open_loop();
    CHECK(!naru_signal_stop(&usr1));
    watch_usr1(note, 1);
    CHECK(naru_signal_stop(&usr1));
    CHECK(!naru_signal_stop(&usr1));
    run_and_close(loop);
}

/* SIG-08 */
TEST(a_delivery_not_yet_called_back_is_dropped_by_stop)
{
    loop = open_loop();
    watch_usr1(note, 1);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK(naru_signal_stop(&usr1));
    watch_usr1(note, 2); /* nor does it reach the next one */
    one_round(loop);
    CHECK_EQ(journal.count, 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void stop_other(void *arg)
{
    note(arg);
    CHECK(naru_signal_stop(&other));
    CHECK(naru_signal_stop(&usr1));
}

/* SIG-08 */
TEST(a_subscriber_stopped_by_an_earlier_one_is_not_called)
{
    loop = open_loop();
    watch_usr1(stop_other, 1);
    CHECK_EQ(naru_signal_start(loop, &other, SIGUSR1, note, ARG(2)), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

static void stop_and_free(void *arg)
{
    CHECK(naru_signal_stop(arg));
    free(arg);
    note(ARG(1));
}

TEST(a_signal_may_be_freed_inside_its_callback)
{
    naru_signal *freed = calloc(1, sizeof *freed);
    loop = open_loop();
    CHECK_EQ(naru_signal_start(loop, freed, SIGUSR1, stop_and_free, freed), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

static void *storm(void *stop)
{
    while (!atomic_load((atomic_bool *)stop))
        CHECK_EQ(raise(SIGUSR1), 0);
    return NULL;
}

/* The handler runs on another thread at any moment of start, run, stop and close. */
TEST_SLOW(loops_may_come_and_go_in_a_storm_of_signals, 60)
{
    if (test_runs_in("qemu"))
        SKIP("qemu-user falls over in a storm of signals");
    static atomic_bool stop;
    signal(SIGUSR1, SIG_IGN);
    pthread_t thread = start_thread(storm, &stop);
    for (int i = 0; i < 500; i++) {
        loop = open_loop();
        watch_usr1(note_and_stop, 1);
        if (i % 3 == 0) {
            CHECK_EQ(naru_loop_run(loop), 0);
            CHECK_JOURNAL(1);
        }
        CHECK_EQ(naru_loop_close(loop), 0);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
}

static void note_timer(void *arg)
{
    note(arg);
    CHECK(naru_signal_stop(&usr1));
}

/* SIG-10 */
TEST(a_signal_to_a_forked_child_does_not_reach_the_parent)
{
    naru_timer timer = {0};
    loop = open_loop();
    watch_usr1(note, 1);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        raise(SIGUSR1); /* the default action again: it ends the child */
        _exit(EXIT_FAILURE);
    }
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGUSR1);
    naru_timer_after(loop, &timer, NARU_MS(10), note_timer, ARG(2));
    run_and_close(loop);
    CHECK_JOURNAL(2);
}

TEST(a_forked_child_may_watch_signals_in_a_loop_of_its_own)
{
    naru_timer timer = {0};
    loop = open_loop();
    watch_usr1(note, 1);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        loop = open_loop();
        CHECK_EQ(naru_signal_start(loop, &other, SIGUSR1, stop_loop, loop), 0);
        CHECK_EQ(raise(SIGUSR1), 0);
        CHECK_EQ(naru_loop_run(loop), 0);
        CHECK(naru_signal_stop(&other));
        struct sigaction now;
        CHECK_EQ(sigaction(SIGUSR1, NULL, &now), 0);
        CHECK(now.sa_handler == SIG_DFL);
        CHECK_EQ(naru_loop_close(loop), 0);
        _exit(EXIT_SUCCESS);
    }
    check_child(pid);
    naru_timer_after(loop, &timer, NARU_MS(1), note_timer, ARG(2));
    run_and_close(loop);
    CHECK_JOURNAL(2);
}

/* ---- for interrupts ---- */

TEST(a_background_signal_does_not_keep_the_loop_alive)
{
    loop = open_loop();
    CHECK_EQ(naru__signal_start_background(loop->core, &usr1, SIGUSR1, note, ARG(1)), 0);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    one_round(loop);
    CHECK_JOURNAL(1);
    CHECK(naru_signal_stop(&usr1));
    run_and_close(loop);
}

TEST(a_second_background_signal_before_the_first_was_handled_is_fatal)
{
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        loop = open_loop();
        CHECK_EQ(naru__signal_start_background(loop->core, &usr1, SIGUSR1, note, ARG(1)), 0);
        raise(SIGUSR1);
        raise(SIGUSR1);
        _exit(EXIT_FAILURE);
    }
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGUSR1);
}
