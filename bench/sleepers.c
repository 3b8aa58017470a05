/*
 * A million tasks that sleep for a second: how long does it take until all
 * have woken and ended, beyond that second, and what does each of them hold?
 *
 *   beyond      wall time from before the first spawn to after the last end,
 *               less the second that was asked for.
 *   CPU         what the process spent, user and system.
 *   resident    the highest resident set, less what was there before the
 *               first spawn, per sleeper: task, stack and whatever else.
 *
 * First touch of memory is what a million tasks cost, so every round is a
 * process of its own that starts with none. "default" gives each task the
 * stack any task gets, with its guard page; "dense" asks for the small kind.
 */
#include "common.h"

#include <naru/coro.h>
#include <sys/wait.h>

static const naru_spawn_options kinds[] = {{.name = NULL}, {.flags = NARU_DENSE_STACK}};
static const naru_spawn_options *kind;
static long sleepers;
static long asleep;
static naru_future all_woke = NARU_FUTURE_INIT;

struct result {
    double beyond_s;
    double cpu_s;
    double bytes;
};

static int sleep_once(void *arg)
{
    (void)arg;

    int rc = naru_sleep(NARU_SEC(1));

    if (--asleep == 0)
        naru_future_set(&all_woke, 0, NULL);
    return rc;
}

static int sleep_all(void *arg)
{
    (void)arg;
    asleep = sleepers;
    for (long i = 0; i < sleepers; i++) {
        naru_task *task = naru_spawn_with(kind, sleep_once, NULL);

        if (task == NULL)
            bench_die("task %ld could not be spawned", i);
        naru_release(task);
    }
    return naru_future_wait(&all_woke);
}

/* In KiB, never less than what is resident now. */
static long highest_rss_kib(void)
{
    struct rusage use;

    getrusage(RUSAGE_SELF, &use);
    return use.ru_maxrss;
}

static struct result measure(void)
{
    long rss = highest_rss_kib();
    int64_t cpu = bench_cpu_us();
    int64_t start = bench_now();

    if (naru_run(sleep_all, NULL) != 0) {
        errno = 0;
        bench_die("a sleeper failed");
    }
    return (struct result){
        .beyond_s = (double)(bench_now() - start) / 1e9 - 1,
        .cpu_s = (double)(bench_cpu_us() - cpu) / 1e6,
        .bytes = (double)(highest_rss_kib() - rss) * 1024 / (double)sleepers,
    };
}

/* One round, in a process of its own. */
static struct result measure_in_child(void)
{
    struct result result;
    int fd[2];
    int status;

    if (pipe(fd) != 0)
        bench_die("pipe");

    pid_t child = fork();

    if (child < 0)
        bench_die("fork");
    if (child == 0) {
        result = measure();
        _exit(write(fd[1], &result, sizeof result) == (ssize_t)sizeof result ? 0 : 2);
    }
    close(fd[1]);

    bool whole = read(fd[0], &result, sizeof result) == (ssize_t)sizeof result;

    close(fd[0]);
    waitpid(child, &status, 0);
    if (!whole || status != 0) {
        errno = 0;
        bench_die("a round failed with status %d", status);
    }
    return result;
}

static void report(const char *name, const char *what, const char *unit, double *samples, size_t rounds)
{
    char row[64];

    snprintf(row, sizeof row, "%ld sleepers, %s stacks, %s", sleepers, name, what);
    bench_row(row, unit, samples, rounds);
}

int main(int argc, char **argv)
{
    static double beyond[BENCH_ROUNDS];
    static double cpu[BENCH_ROUNDS];
    static double bytes[BENCH_ROUNDS];
    bool dense = argc > 1 && strcmp(argv[1], "dense") == 0;

    if (argc > 4 || (argc > 1 && !dense && strcmp(argv[1], "default") != 0)) {
        fprintf(stderr, "usage: %s [default | dense] [SLEEPERS [ROUNDS]]\n", argv[0]);
        return 2;
    }
    sleepers = argc > 2 ? bench_number("sleepers", argv[2], 1, 100000000) : 1000000;

    size_t rounds = argc > 3 ? (size_t)bench_number("rounds", argv[3], 1, BENCH_ROUNDS) : BENCH_ROUNDS;

    kind = &kinds[dense];
    bench_pin(0);
    for (size_t i = 0; i < rounds; i++) {
        struct result result = measure_in_child();

        beyond[i] = result.beyond_s;
        cpu[i] = result.cpu_s;
        bytes[i] = result.bytes;
    }
    report(argc > 1 ? argv[1] : "default", "beyond 1 s", "s", beyond, rounds);
    report(argc > 1 ? argv[1] : "default", "CPU", "s", cpu, rounds);
    report(argc > 1 ? argv[1] : "default", "resident", "bytes each", bytes, rounds);
    return 0;
}
