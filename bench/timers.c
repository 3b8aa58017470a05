/*
 * What does a timer cost that is stopped before it fires?
 *
 * Most timers are timeouts, and most timeouts never happen: start and stop is
 * the pair that counts. It is measured alone and among others that are armed
 * with random deadlines within a minute, because a runtime whose timers are a
 * heap pays for each of them and one with a wheel does not. The deadline
 * of the measured timer moves on by a microsecond each time and wraps around
 * after a second, as it would with requests coming in.
 *
 * The last row restarts armed timers in random order: what is paid there is
 * the cache misses of a million timers and the lists they hang in.
 *
 * Deadlines are absolute; reading the clock is not part of the figure.
 */
#include "common.h"

#include <naru/reactor.h>

#define MINUTE_NS UINT64_C(60000000000)

enum { MOST = 1000000 };

static naru_loop *loop;
static naru_timer *others;
static int64_t base;
static uint64_t state = 88172645463325252;

/* Marsaglia's xorshift: any repeatable sequence would do. */
static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void never(void *arg)
{
    (void)arg;
    bench_die("a timer fired");
}

static int64_t some_deadline(void)
{
    return base + NARU_SEC(3600) + (int64_t)(next_random() % MINUTE_NS);
}

static void start_and_stop(long count)
{
    naru_timer timer = {0};
    int64_t first = base + NARU_SEC(3605);

    for (long i = 0; i < count; i++) {
        naru_timer_start(loop, &timer, first + i % 1000000 * 1000, never, NULL);
        if (!naru_timer_stop(&timer))
            bench_die("a timer was not running");
    }
}

static void restart_any(long count)
{
    for (long i = 0; i < count; i++)
        naru_timer_start(loop, &others[next_random() % MOST], some_deadline(), never, NULL);
}

static void arm_others(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        naru_timer_start(loop, &others[i], some_deadline(), never, NULL);
}

int main(int argc, char **argv)
{
    double scale = bench_begin(argc, argv);
    long count = bench_count(5e6, scale);

    if (naru_loop_open(&loop, NULL) < 0)
        bench_die("naru_loop_open");
    others = bench_alloc(MOST, sizeof *others);
    base = naru_now();

    bench_measure("timer start + stop, alone", start_and_stop, count);
    arm_others(0, 10000);
    bench_measure("timer start + stop, among 10,000", start_and_stop, count);
    arm_others(10000, MOST);
    bench_measure("timer start + stop, among 1,000,000", start_and_stop, count);
    bench_measure("restart of any of 1,000,000", restart_any, bench_count(1e6, scale));

    naru_loop_close(loop);
    free(others);
    return 0;
}
