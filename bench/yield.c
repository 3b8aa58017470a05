/*
 * How fast do tasks give way to each other?
 *
 * A ring of tasks, each of which does nothing but naru_yield, so every switch
 * goes once through the ready queue. Two tasks show the bare path, all of it
 * in the first cache. A thousand show what the stacks cost the caches: each
 * switch touches another stack, and if their tops were all at the same offset
 * into a page they would fall into the same few cache sets.
 *
 * The loop asks the kernel for news from time to time, also here, where there
 * is never any. That is part of the figure.
 */
#include "common.h"

#include <naru/coro.h>

enum { MOST = 1000 };

static int tasks;
static long yields; /* of each task */

static int give_way(void *arg)
{
    (void)arg;
    for (long i = 0; i < yields; i++)
        if (naru_yield() != 0)
            bench_die("naru_yield failed");
    return 0;
}

static void turn_ring(long count)
{
    naru_task *ring[MOST];
    int n = tasks;

    yields = count / n;
    for (int i = 0; i < n; i++)
        ring[i] = naru_spawn(give_way, NULL);
    for (int i = 0; i < n; i++)
        if (naru_join(ring[i]) != 0)
            bench_die("a task of the ring failed");
}

static int measure(void *arg)
{
    double scale = *(double *)arg;

    tasks = 2;
    bench_measure("yield, two tasks, per switch", turn_ring, bench_count(10e6, scale));
    tasks = MOST;
    bench_measure("yield, ring of 1,000, per switch", turn_ring, bench_count(10e6, scale) / MOST * MOST);
    return 0;
}

int main(int argc, char **argv)
{
    double scale = bench_begin(argc, argv);

    return naru_run(measure, &scale) != 0;
}
