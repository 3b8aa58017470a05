/*
 * What does it cost to leave one flow of control and continue another?
 *
 *   context      naru__context_switch, the step on which everything else is
 *                built. To be compared with "switch, call + FP control state"
 *                of limit/context, which preserves the same things.
 *   coroutine    naru_coroutine_resume and naru_coroutine_yield by turns, as
 *                a user calls them: the same step, and the bookkeeping of who
 *                resumed whom.
 *
 * Both are one way: a round trip is two. Nothing runs on either side but the
 * switch itself, so registers and caches are as warm as they ever get.
 */
#include "common.h"

#include "coro/context.h"
#include <naru/coro.h>

static _Alignas(64) unsigned char stack[64 * 1024];
static naru__context here;
static naru__context there;

static void go_back(void *arg)
{
    (void)arg;
    for (;;)
        naru__context_switch(&there, &here);
}

static void switch_contexts(long count)
{
    for (long i = 0; i < count; i += 2)
        naru__context_switch(&here, &there);
}

/* Until it is resumed with something. */
static void *yield_again(void *value)
{
    while (value == NULL)
        value = naru_coroutine_yield(NULL);
    return NULL;
}

static naru_coroutine *coroutine;

static void resume(long count)
{
    for (long i = 0; i < count; i += 2)
        naru_coroutine_resume(coroutine, NULL);
}

int main(int argc, char **argv)
{
    long count = bench_count(10e6, bench_begin(argc, argv));

    naru__context_adopt(&here);
    naru__context_init(&there, stack, sizeof stack, go_back, NULL);
    bench_measure("context switch, one way", switch_contexts, count);
    naru__context_discard(&there);
    naru__context_discard(&here);

    coroutine = naru_coroutine_create(yield_again, 0);
    if (coroutine == NULL)
        bench_die("no coroutine");
    bench_measure("coroutine resume or yield, one way", resume, count);
    naru_coroutine_destroy(coroutine);
    return 0;
}
