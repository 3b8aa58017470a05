/*
 * coro/context.c - the life of a context: beginning and end. The switch itself is in context.h.
 *
 * What the machine needs is one call (naru__switch_prepare); the rest of this file tells the tools that watch
 * over memory what we do with stacks. Without sanitizers, and outside Valgrind, that is a few instructions.
 *
 * The trap is the stack that is used again. Whoever left it, or was abandoned on it, never returned from the
 * functions that were running, so what the tools noted about those functions stays:
 *
 *   AddressSanitizer: poisoned gaps between dead variables. They are lifted at init. The fake stack of a
 *                     context that was abandoned, not left, cannot be freed: there is no call for it.
 *   ThreadSanitizer:  a list of callers that would grow with each use until it overflows; hence a new
 *                     fiber at each init.
 *   Valgrind:         nothing. A stack is registered at its first init and stays so until it is discarded.
 */
#include "coro/context.h"

#include <assert.h>
#include <stdint.h>

#ifdef NARU__CONTEXT_ASAN
#include <sanitizer/asan_interface.h>
#endif

#ifdef NARU__CONTEXT_VALGRIND
#include <valgrind/valgrind.h>
#endif

/* Room for the first frame of any machine, and then for a little code. */
enum { SMALLEST_STACK = 1024 };

#ifdef NARU__CONTEXT_VALGRIND

static void watch_stack(naru__context *c)
{
    if (c->valgrind_id == 0)
        c->valgrind_id = 1 + (unsigned)VALGRIND_STACK_REGISTER(c->low, (char *)c->low + c->size);
}

static void unwatch_stack(naru__context *c)
{
    if (c->valgrind_id != 0)
        VALGRIND_STACK_DEREGISTER(c->valgrind_id - 1);
    c->valgrind_id = 0;
}

#else

static void watch_stack(naru__context *c)
{
    (void)c;
}
static void unwatch_stack(naru__context *c)
{
    (void)c;
}

#endif

#ifdef NARU__CONTEXT_TSAN

static void drop_fiber(naru__context *c)
{
    if (c->owns_fiber)
        __tsan_destroy_fiber(c->fiber);
    c->fiber = NULL;
    c->owns_fiber = false;
}

static void renew_fiber(naru__context *c)
{
    drop_fiber(c);
    c->fiber = __tsan_create_fiber(0);
    c->owns_fiber = true;
}

static void adopt_fiber(naru__context *c)
{
    c->fiber = __tsan_get_current_fiber();
}

#else

static void drop_fiber(naru__context *c)
{
    (void)c;
}
static void renew_fiber(naru__context *c)
{
    (void)c;
}
static void adopt_fiber(naru__context *c)
{
    (void)c;
}

#endif

#ifdef NARU__CONTEXT_ASAN

/* The first function on every stack: completes the switch that led here. */
static void arrive(void *context)
{
    naru__context *c = context;

    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
    c->entry(c->arg);
}

static void prepare(naru__context *c, void (*entry)(void *arg), void *arg)
{
    __asan_unpoison_memory_region(c->low, c->size);
    c->fake_stack = NULL;
    c->entry = entry;
    c->arg = arg;
    c->sp = naru__switch_prepare(c->low, c->size, arrive, c);
}

/*
 * AddressSanitizer knows the bounds of the stack we are on, but tells them only to somebody who has just come
 * from it. So we pretend to go elsewhere, and to come back. (The system's answer would be wrong for a program
 * that calls us on a stack of its own making.)
 */
static void find_bounds(naru__context *c)
{
    const void *low;
    void *fake_stack;

    __sanitizer_start_switch_fiber(&fake_stack, c, sizeof *c);
    __sanitizer_finish_switch_fiber(fake_stack, &low, &c->size);
    __sanitizer_start_switch_fiber(&fake_stack, low, c->size);
    __sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
    c->low = (void *)(uintptr_t)low;
}

#else

static void prepare(naru__context *c, void (*entry)(void *arg), void *arg)
{
    c->sp = naru__switch_prepare(c->low, c->size, entry, arg);
}

static void find_bounds(naru__context *c)
{
    (void)c;
}

#endif

void naru__context_init(naru__context *c, void *low, size_t size, void (*entry)(void *arg), void *arg)
{
    assert(low != NULL && size >= SMALLEST_STACK && entry != NULL);

    c->low = low;
    c->size = size;
    watch_stack(c);
    renew_fiber(c);
    prepare(c, entry, arg);
}

void naru__context_adopt(naru__context *c)
{
    *c = (naru__context){0};
    find_bounds(c);
    adopt_fiber(c);
}

void naru__context_discard(naru__context *c)
{
    unwatch_stack(c);
    drop_fiber(c);
    c->sp = NULL;
}
