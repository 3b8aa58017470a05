/*
 * What does a task cost from spawn to join, if its body does nothing?
 *
 *   one at a time   spawn and join by turns: there is never more than one, so
 *                   its block and its stack are always the same warm ones.
 *   10,000          all are spawned, then all are joined. Their blocks are
 *                   memory that must be walked; whether 10,000 stacks are
 *                   touched as well is the runtime's choice.
 */
#include "common.h"

#include <naru/coro.h>

enum { CROWD = 10000 };

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void one_at_a_time(long count)
{
    for (long i = 0; i < count; i++)
        if (naru_join(naru_spawn(nothing, NULL)) != 0)
            bench_die("spawn and join");
}

static void crowds(long count)
{
    static naru_task *crowd[CROWD];

    for (long done = 0; done < count; done += CROWD) {
        for (int i = 0; i < CROWD; i++)
            crowd[i] = naru_spawn(nothing, NULL);
        for (int i = 0; i < CROWD; i++)
            if (naru_join(crowd[i]) != 0)
                bench_die("spawn and join of 10,000");
    }
}

static int measure(void *arg)
{
    double scale = *(double *)arg;

    bench_measure("spawn + join, one at a time", one_at_a_time, bench_count(2e6, scale));
    bench_measure("spawn 10,000, then join all, each", crowds, (bench_count(2e6, scale) / CROWD + 1) * CROWD);
    return 0;
}

int main(int argc, char **argv)
{
    double scale = bench_begin(argc, argv);

    return naru_run(measure, &scale) != 0;
}
