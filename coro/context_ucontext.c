/*
 * coro/context_ucontext.c - the switch for every machine that has no assembly here, by swapcontext.
 *
 * The idea is that of the assembly: what a suspended flow needs lies on its own stack. There it is a handful
 * of registers, here a ucontext_t, which is simply a local variable of the function that switches; what goes
 * for the stack pointer is its address. So neither a context nor the thread's own stack needs room elsewhere.
 *
 * The trap is the price: swapcontext saves and restores the signal mask, a system call per switch, and a
 * ucontext_t takes from one to five kilobytes. It does where nothing better exists, and as a second opinion
 * when the assembly is in doubt (make CONTEXT=ucontext). The signal mask thereby becomes part of a context.
 *
 * Guarantee: as in context.h. swapcontext keeps the floating-point control state, getcontext takes the
 * creator's.
 */
#include "coro/context.h"

#ifdef NARU_CONTEXT_UCONTEXT

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <ucontext.h>

void naru__switch(void **save, void *load)
{
    ucontext_t here;

    /* swapcontext leaves these alone, but AddressSanitizer, which steps in before it, looks at them. */
    here.uc_stack = (stack_t){0};
    here.uc_link = NULL;
    *save = &here; /* cppcheck-suppress autoVariables ; for as long as somebody can find it, we are here */
    if (swapcontext(&here, load) != 0)
        abort();
}

void naru__switch_alike(void **save, void *load)
{
    naru__switch(save, load);
}

/* makecontext passes nothing but ints, so each pointer travels in two halves. */
static void *joined(unsigned high, unsigned low)
{
    return (void *)(uintptr_t)((uint64_t)high << 32 | low);
}

static unsigned high_half(uintptr_t p)
{
    return (unsigned)((uint64_t)p >> 32);
}

static unsigned low_half(uintptr_t p)
{
    return (unsigned)(p & 0xffffffffu);
}

static void start(unsigned entry_high, unsigned entry_low, unsigned arg_high, unsigned arg_low)
{
    void (*entry)(void *arg) = (void (*)(void *))joined(entry_high, entry_low);

    entry(joined(arg_high, arg_low));
    abort();
}

void *naru__switch_prepare(void *low, size_t size, void (*entry)(void *arg), void *arg)
{
    uintptr_t top = ((uintptr_t)low + size - sizeof(ucontext_t)) & ~(uintptr_t)63;
    ucontext_t *first = (void *)top;
    uintptr_t e = (uintptr_t)entry;
    uintptr_t a = (uintptr_t)arg;

    assert(size >= 2 * sizeof(ucontext_t)); /* this one, and another when it is suspended */
    if (getcontext(first) != 0)
        abort();
    first->uc_stack = (stack_t){.ss_sp = low, .ss_size = top - (uintptr_t)low};
    first->uc_link = NULL;
    makecontext(first, (void (*)(void))start, 4, high_half(e), low_half(e), high_half(a), low_half(a));
    return first;
}

#endif
