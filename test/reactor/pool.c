/* The blocking pool: files and calls, in few threads, without holding up the loop. */
#include "test/reactor/common.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/stat.h>

static naru_loop *loop;
static char buffer[64];

static naru_loop *open_loop_with_threads(unsigned threads)
{
    CHECK_EQ(naru_loop_open(&loop, &(naru_options){.pool_threads = threads}), 0);
    return loop;
}

/* ---- files ---- */

TEST(reading_a_regular_file_moves_its_position)
{
    int file = temporary_file("hello world");
    struct iovec parts[2] = {{buffer, 1}, {buffer + 1, 5}};
    naru_op op;
    loop = open_loop();
    naru_op_read(&op, file, buffer, 5);
    CHECK_EQ(result_of(loop, &op), 5);
    CHECK_EQ(memcmp(buffer, "hello", 5), 0);
    naru_op_readv(&op, file, parts, 2);
    CHECK_EQ(result_of(loop, &op), 6);
    CHECK_EQ(memcmp(buffer, " world", 6), 0);
    naru_op_read(&op, file, buffer, 5);
    CHECK_EQ(result_of(loop, &op), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(writing_a_regular_file_moves_its_position)
{
    int file = temporary_file("");
    struct iovec parts[2] = {{"c", 1}, {"def", 3}};
    naru_op op;
    loop = open_loop();
    naru_op_write(&op, file, "ab", 2);
    CHECK_EQ(result_of(loop, &op), 2);
    naru_op_writev(&op, file, parts, 2);
    CHECK_EQ(result_of(loop, &op), 4);
    naru_op_fsync(&op, file);
    CHECK_EQ(result_of(loop, &op), 0);
    CHECK_EQ(pread(file, buffer, sizeof buffer, 0), 6);
    CHECK_EQ(memcmp(buffer, "abcdef", 6), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(pread_and_pwrite_leave_the_position_alone)
{
    int file = temporary_file("hello");
    naru_op op;
    loop = open_loop();
    naru_op_pwrite(&op, file, "J", 1, 0);
    CHECK_EQ(result_of(loop, &op), 1);
    naru_op_pread(&op, file, buffer, sizeof buffer, 3);
    CHECK_EQ(result_of(loop, &op), 2);
    CHECK_EQ(memcmp(buffer, "lo", 2), 0);
    CHECK_EQ(lseek(file, 0, SEEK_CUR), 0);
    naru_op_pread(&op, file, buffer, sizeof buffer, 0);
    CHECK_EQ(result_of(loop, &op), 5);
    CHECK_EQ(memcmp(buffer, "Jello", 5), 0);
    naru_op_pread(&op, file, buffer, 1, -1);
    CHECK_EQ(result_of(loop, &op), -EINVAL);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(open_gives_a_close_on_exec_descriptor_with_flags_and_mode)
{
    char directory[] = "/tmp/naru-test-XXXXXX";
    char path[64];
    struct stat info;
    naru_op op;
    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/file", directory);
    umask(0);
    loop = open_loop();
    naru_op_open(&op, path, O_RDONLY, 0);
    CHECK_EQ(result_of(loop, &op), -ENOENT);
    naru_op_open(&op, path, O_WRONLY | O_CREAT | O_EXCL, 0640);
    int fd = (int)result_of(loop, &op);
    CHECK_GE(fd, 0);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
    CHECK_EQ(fstat(fd, &info), 0);
    CHECK_EQ(info.st_mode & 0777, 0640);
    naru_op_open(&op, path, O_WRONLY | O_CREAT | O_EXCL, 0640);
    CHECK_EQ(result_of(loop, &op), -EEXIST);
    unlink(path);
    rmdir(directory);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(reading_a_directory_gives_eisdir)
{
    naru_op op;
    int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_GE(directory, 0);
    loop = open_loop();
    naru_op_read(&op, directory, buffer, 1);
    CHECK_EQ(result_of(loop, &op), -EISDIR);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* ---- calls ---- */

static pthread_t loop_thread;

static int check_other_thread(void *arg)
{
    CHECK(!pthread_equal(pthread_self(), loop_thread));
    CHECK_PTR(naru_loop_current(), NULL);
    return *(int *)arg;
}

static void check_own_thread(naru_op *op)
{
    CHECK(pthread_equal(pthread_self(), loop_thread));
    note(ARG(op->result));
}

/* THR-06 */
TEST(a_call_runs_in_another_thread_and_its_result_arrives_in_the_loops)
{
    int value = 42, error = -EDOM;
    naru_op ops[2];
    loop_thread = pthread_self();
    loop = open_loop_with_threads(1);
    naru_op_call(&ops[0], check_other_thread, &value);
    naru_op_submit(loop, &ops[0], check_own_thread, NULL);
    naru_op_call(&ops[1], check_other_thread, &error);
    naru_op_submit(loop, &ops[1], check_own_thread, NULL);
    CHECK_EQ(journal.count, 0);
    run_and_close(loop);
    CHECK_JOURNAL(42, -EDOM);
}

static int check_signals_masked(void *arg)
{
    (void)arg;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    for (int signo = 1; signo < SIGRTMIN; signo++)
        if (signo < 32 && signo != SIGKILL && signo != SIGSTOP && sigismember(&mask, signo) != 1)
            return signo;
    return 0;
}

TEST(signals_are_masked_in_the_threads_of_the_pool_and_only_there)
{
    sigset_t before_mask, after_mask;
    naru_op op;
    pthread_sigmask(SIG_SETMASK, NULL, &before_mask);
    loop = open_loop();
    naru_op_call(&op, check_signals_masked, NULL);
    CHECK_EQ(result_of(loop, &op), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after_mask);
    for (int signo = 1; signo < 32; signo++)
        CHECK_EQ(sigismember(&after_mask, signo), sigismember(&before_mask, signo));
    CHECK_EQ(naru_loop_close(loop), 0);
}

static int wait_in_barrier(void *barrier)
{
    pthread_barrier_wait(barrier);
    return 0;
}

static void pass(void *barrier)
{
    pthread_barrier_wait(barrier);
    note(ARG(1));
}

TEST(the_loop_goes_on_while_a_call_blocks)
{
    pthread_barrier_t barrier;
    naru_op op;
    struct outcome outcome;
    naru_timer timer = {0};
    pthread_barrier_init(&barrier, NULL, 2);
    loop = open_loop();
    naru_op_call(&op, wait_in_barrier, &barrier);
    submit(loop, &op, &outcome);
    naru_timer_after(loop, &timer, NARU_MS(1), pass, &barrier); /* only then can the call end */
    run_and_close(loop);
    CHECK_EQ(outcome.calls, 1);
    CHECK_JOURNAL(1);
}

/* ---- cancelling ---- */

static bool victim_ran;

static int run_victim(void *arg)
{
    (void)arg;
    victim_ran = true;
    return 1;
}

TEST(a_queued_call_that_is_cancelled_never_runs)
{
    pthread_barrier_t barrier;
    naru_op blocked, victim, last;
    struct outcome outcomes[3];
    pthread_barrier_init(&barrier, NULL, 2);
    loop = open_loop_with_threads(1);
    naru_op_call(&blocked, wait_in_barrier, &barrier);
    submit(loop, &blocked, &outcomes[0]);
    naru_op_call(&victim, run_victim, NULL);
    submit(loop, &victim, &outcomes[1]);
    naru_op_call(&last, check_signals_masked, NULL);
    submit(loop, &last, &outcomes[2]);
    naru_op_cancel(&victim);
    naru_op_cancel(&victim);
    CHECK_EQ(outcomes[1].calls, 0);
    one_round(loop);
    CHECK_EQ(outcomes[1].calls, 1);
    CHECK_EQ(outcomes[1].result, -ECANCELED);
    pthread_barrier_wait(&barrier);
    run_and_close(loop);
    CHECK(!victim_ran);
    CHECK_EQ(outcomes[0].calls, 1);
    CHECK_EQ(outcomes[1].calls, 1);
    CHECK_EQ(outcomes[2].calls, 1);
}

static int meet_twice_and_return_7(void *barrier)
{
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
    return 7;
}

TEST(cancelling_a_call_that_has_begun_has_no_effect)
{
    pthread_barrier_t barrier;
    naru_op op;
    struct outcome outcome;
    pthread_barrier_init(&barrier, NULL, 2);
    loop = open_loop();
    naru_op_call(&op, meet_twice_and_return_7, &barrier);
    submit(loop, &op, &outcome);
    pthread_barrier_wait(&barrier);
    naru_op_cancel(&op);
    one_round(loop);
    CHECK_EQ(outcome.calls, 0);
    pthread_barrier_wait(&barrier);
    run_and_close(loop);
    CHECK_EQ(outcome.calls, 1);
    CHECK_EQ(outcome.result, 7);
}

static int count_one(void *counter)
{
    atomic_fetch_add((atomic_int *)counter, 1);
    return 1;
}

/* A call has run exactly if its result says so, whoever was first. */
TEST(cancelling_races_with_the_threads_cleanly)
{
    enum { CALLS = 2000 };
    static atomic_int ran;
    naru_op *ops = calloc(CALLS, sizeof *ops);
    struct outcome *outcomes = calloc(CALLS, sizeof *outcomes);
    loop = open_loop_with_threads(2);
    for (int i = 0; i < CALLS; i++) {
        naru_op_call(&ops[i], count_one, &ran);
        submit(loop, &ops[i], &outcomes[i]);
        if (i % 3 == 0)
            sched_yield();
        naru_op_cancel(&ops[i]);
    }
    CHECK_EQ(naru_loop_run(loop), 0);
    int results = 0;
    for (int i = 0; i < CALLS; i++) {
        CHECK_EQ(outcomes[i].calls, 1);
        CHECK(outcomes[i].result == 1 || outcomes[i].result == -ECANCELED);
        results += outcomes[i].result == 1;
    }
    CHECK_EQ(results, atomic_load(&ran));
    CHECK_EQ(naru_loop_close(loop), 0);
    free(ops);
    free(outcomes);
}

/* ---- threads ---- */

static struct {
    pthread_mutex_t mutex;
    int now, most;
} inside = {PTHREAD_MUTEX_INITIALIZER, 0, 0};

static int stay_a_moment(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&inside.mutex);
    if (++inside.now > inside.most)
        inside.most = inside.now;
    pthread_mutex_unlock(&inside.mutex);
    for (int i = 0; i < 20; i++)
        sched_yield();
    pthread_mutex_lock(&inside.mutex);
    inside.now--;
    pthread_mutex_unlock(&inside.mutex);
    return 0;
}

static void many_calls(unsigned threads, int limit)
{
    enum { CALLS = 5000 };
    naru_op *ops = calloc(CALLS, sizeof *ops);
    struct outcome *outcomes = calloc(CALLS, sizeof *outcomes);
    loop = open_loop_with_threads(threads);
    for (int i = 0; i < CALLS; i++) {
        naru_op_call(&ops[i], stay_a_moment, NULL);
        submit(loop, &ops[i], &outcomes[i]);
    }
    run_and_close(loop);
    for (int i = 0; i < CALLS; i++) {
        CHECK_EQ(outcomes[i].calls, 1);
        CHECK_EQ(outcomes[i].result, 0);
    }
    CHECK_LE(inside.most, limit);
    free(ops);
    free(outcomes);
}

TEST_SLOW(thousands_of_calls_run_in_no_more_threads_than_allowed, 60)
{
    many_calls(3, 3);
}

TEST_SLOW(the_default_limit_is_sixteen_threads, 60)
{
    many_calls(0, 16);
}

/* The barrier opens only if all of them run at once. */
TEST(as_many_calls_as_threads_are_allowed_run_at_once)
{
    enum { CALLS = 16 };
    pthread_barrier_t barrier;
    naru_op ops[CALLS];
    struct outcome outcomes[CALLS];
    pthread_barrier_init(&barrier, NULL, CALLS);
    loop = open_loop();
    for (int i = 0; i < CALLS; i++) {
        naru_op_call(&ops[i], wait_in_barrier, &barrier);
        submit(loop, &ops[i], &outcomes[i]);
    }
    run_and_close(loop);
}

/* THR-08 */
TEST(a_loop_that_calls_nothing_has_no_threads)
{
    struct stat info;
    naru_callback a = {0};
    loop = open_loop();
    naru_call_soon(loop, &a, note, ARG(1));
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(stat("/proc/self/task", &info), 0);
    if (!SANITIZED && !test_runs_in("qemu")) /* these have threads of their own */
        CHECK_EQ(info.st_nlink, 3);          /* ".", ".." and the only thread */
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(without_a_first_thread_a_call_gives_eagain)
{
    pthread_attr_t attributes;
    naru_op op;
    const char *runner = getenv("NARU_RUNNER");
    if (runner && strstr(runner, "valgrind"))
        SKIP("valgrind refuses so large a stack in a way the kernel never does, with EINVAL");
    loop = open_loop();
    CHECK_EQ(pthread_getattr_default_np(&attributes), 0);
    CHECK_EQ(pthread_attr_setstacksize(&attributes, (size_t)1 << 47), 0); /* more than there are addresses */
    if (pthread_setattr_default_np(&attributes) != 0)
        SKIP("this C library does not take so large a default stack");
    naru_op_call(&op, run_victim, NULL);
    CHECK_EQ(result_of(loop, &op), -EAGAIN);
    CHECK(!victim_ran);
    CHECK_EQ(pthread_attr_setstacksize(&attributes, (size_t)1 << 20), 0);
    CHECK_EQ(pthread_setattr_default_np(&attributes), 0);
    naru_op_call(&op, run_victim, NULL);
    CHECK_EQ(result_of(loop, &op), 1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static int count_threads(void)
{
    struct stat info;
    CHECK_EQ(stat("/proc/self/task", &info), 0);
    return (int)info.st_nlink - 2;
}

/* Takes as long as the pool waits for work: ten seconds. */
TEST_SLOW(idle_threads_leave_and_new_ones_come_when_needed, 60)
{
    enum { CALLS = 4 };
    int before = 0;
    loop = open_loop();
    for (int round = 0; round < 2; round++) {
        pthread_barrier_t barrier;
        naru_op ops[CALLS];
        struct outcome outcomes[CALLS];
        pthread_barrier_init(&barrier, NULL, CALLS);
        for (int i = 0; i < CALLS; i++) {
            naru_op_call(&ops[i], wait_in_barrier, &barrier);
            submit(loop, &ops[i], &outcomes[i]);
        }
        if (round == 0)
            before = count_threads() - CALLS;
        CHECK_EQ(naru_loop_run(loop), 0);
        for (int i = 0; i < CALLS; i++)
            CHECK_EQ(outcomes[i].calls, 1);
        while (round == 0 && count_threads() > before)
            usleep(10000);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
    while (count_threads() > before) /* a thread that has been joined may be listed for a moment longer */
        usleep(1000);
}

/* ---- the struct's life ---- */

static int calls_left;

static int return_0(void *arg)
{
    (void)arg;
    return 0;
}

static void call_again(naru_op *op)
{
    CHECK_EQ(op->result, 0);
    if (--calls_left > 0) {
        naru_op_call(op, return_0, NULL);
        naru_op_submit(loop, op, call_again, NULL);
    } else {
        free(op);
        note(ARG(1));
    }
}

TEST(an_operation_may_call_again_and_be_freed_inside_its_done)
{
    naru_op *op = malloc(sizeof *op);
    calls_left = 1000;
    loop = open_loop();
    naru_op_call(op, return_0, NULL);
    naru_op_submit(loop, op, call_again, NULL);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}
