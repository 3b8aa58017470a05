/*
 * coro/context.h - one flow of control per stack, and the step from one to another.
 *
 * A context is a stack on which somebody has stopped in the middle. Everything that the stopped code needs in
 * order to go on (the registers that a C function may expect to survive a call, and where to continue) lies
 * on that very stack, so the context itself has to remember one word: the stack pointer. Switching is an
 * ordinary function call that is made on one stack and returns on another.
 *
 * The machine's part is two functions, in assembly per architecture (context_<machine>.S) and with
 * swapcontext for all others (context_ucontext.c). Nothing else in naru knows which one is used.
 *
 * Traps. Tools that watch the stack pointer must be told of each step, or they see errors where there are
 * none: AddressSanitizer and ThreadSanitizer at each switch, Valgrind once per stack. Compilers may compute
 * the address of a thread-local variable before a switch and use it afterwards; this is sound only because a
 * context never moves to another thread. And errno belongs to the thread: whatever runs in between may change
 * it.
 *
 * Guarantee: to its caller a switch looks like a call of a C function that took long. Rounding mode and
 * floating-point traps belong to the context; the sticky exception flags are, as after any call, not to be
 * relied on.
 */
#ifndef NARU_CORO_CONTEXT_H
#define NARU_CORO_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Each of these says the same as the first line of its context_<machine>.S. All others take swapcontext. */
#if defined(__x86_64__) && !defined(__ILP32__)
#elif defined(__aarch64__) && !defined(__ILP32__)
#elif defined(__riscv) && __riscv_xlen == 64 && (!defined(__riscv_flen) || __riscv_flen == 64)
#elif !defined(NARU_CONTEXT_UCONTEXT)
#define NARU_CONTEXT_UCONTEXT 1
#endif

#if defined(__has_feature)
#define NARU__HAS_FEATURE(name) __has_feature(name)
#else
#define NARU__HAS_FEATURE(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || NARU__HAS_FEATURE(address_sanitizer)
#define NARU__CONTEXT_ASAN 1
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__SANITIZE_THREAD__) || NARU__HAS_FEATURE(thread_sanitizer)
#define NARU__CONTEXT_TSAN 1
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__has_include)
/* cppcheck-suppress preprocessorErrorDirective ; it does not know __has_include */
#if __has_include(<valgrind/valgrind.h>)
#define NARU__CONTEXT_VALGRIND 1
#endif
#endif

/* Rounding mode and floating-point exception masks, where they are known: what a function must give back as it found it. */
static inline unsigned naru__float_control(void)
{
#if defined(__x86_64__)
    unsigned mxcsr;
    unsigned short x87;
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(x87));
    return (mxcsr & 0xffc0u) | (unsigned)x87 << 16; /* without the sticky flags */
#elif defined(__aarch64__)
    unsigned long fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return (unsigned)fpcr;
#elif defined(__riscv_flen)
    unsigned long mode;
    __asm__ volatile("frrm %0" : "=r"(mode));
    return (unsigned)mode;
#else
    return 0;
#endif
}

static inline void naru__set_float_control(unsigned control)
{
#if defined(__x86_64__)
    unsigned mxcsr = control & 0xffffu;
    unsigned short x87 = (unsigned short)(control >> 16);
    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(x87));
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"((unsigned long)control));
#elif defined(__riscv_flen)
    __asm__ volatile("fsrm %0" : : "r"((unsigned long)control));
#else
    (void)control;
#endif
}

/* A context stays at its address from the first use until it is discarded. Zero it before its first init. */
typedef struct naru__context {
    void *sp;  /* where the suspended stack stands; stale while the context runs */
    void *low; /* the stack is [low, low + size); of an adopted one known under AddressSanitizer only */
    size_t size;
#ifdef NARU__CONTEXT_VALGRIND
    unsigned valgrind_id; /* 1 + Valgrind's number for this stack; 0: not registered */
#endif
#ifdef NARU__CONTEXT_ASAN
    void *fake_stack;         /* where AddressSanitizer keeps variables while this is suspended */
    void (*entry)(void *arg); /* what to call when AddressSanitizer knows that the first switch has arrived */
    void *arg;
#endif
#ifdef NARU__CONTEXT_TSAN
    void *fiber;     /* ThreadSanitizer's idea of this flow of control */
    bool owns_fiber; /* false: it is the thread's own */
#endif
} naru__context;

/*
 * Prepares c so that the first switch to it calls entry(arg) on the stack [low, low + size). entry must not
 * return; it ends with naru__context_leave. The new flow starts with the caller's floating-point control
 * state.
 *
 * A context that was left, or that nobody will continue, may be given to init again with the same stack, as
 * often as one likes and without discard. There is a cheaper way to use a stack again: entry goes on with the
 * next piece of work instead of leaving.
 */
void naru__context_init(naru__context *c, void *low, size_t size, void (*entry)(void *arg), void *arg);

/* Describes the stack that the caller runs on, so that it can be switched away from and back to. */
void naru__context_adopt(naru__context *c);

/*
 * Forgets a context that is not running and that nobody will continue. Call it before its stack is unmapped
 * or used for anything else.
 */
void naru__context_discard(naru__context *c);

/*
 * The machine's part. naru__switch_prepare puts at the upper end of a stack what naru__switch expects to find
 * on a suspended one, and returns its stack pointer. naru__switch suspends its caller, stores the stack
 * pointer in *save, and continues what was suspended at load.
 */
void *naru__switch_prepare(void *low, size_t size, void (*entry)(void *arg), void *arg);
void naru__switch(void **save, void *load);

/*
 * The same for two flows that stand at the same place in the code, as two tasks that both wait do. It ends in an
 * ordinary return, which the processor then predicts rightly, and so the returns that follow. Between a task and
 * the loop the first return is a surprise, but those that follow it are not.
 */
void naru__switch_alike(void **save, void *load);

/*
 * Suspends from, which must be the context of the stack we run on, and continues to. Returns when somebody
 * switches to from.
 *
 * The sanitizers' calls stand in the same function as the switch: ThreadSanitizer keeps a list of callers per
 * fiber, and a function entered on one fiber and left on another would put both out of balance.
 */
static inline void naru__context_switch(naru__context *from, naru__context *to)
{
#ifdef NARU__CONTEXT_TSAN
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
#ifdef NARU__CONTEXT_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->low, to->size);
#endif
    naru__switch(&from->sp, to->sp);
#ifdef NARU__CONTEXT_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

static inline void naru__context_switch_alike(naru__context *from, naru__context *to)
{
#if defined(NARU__CONTEXT_TSAN) || defined(NARU__CONTEXT_ASAN)
    naru__context_switch(from, to);
#else
    naru__switch_alike(&from->sp, to->sp);
#endif
}

/* The same for the last time: from will not be continued, and AddressSanitizer frees what it keeps for it. */
_Noreturn static inline void naru__context_leave(naru__context *from, naru__context *to)
{
#ifdef NARU__CONTEXT_TSAN
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
#ifdef NARU__CONTEXT_ASAN
    __sanitizer_start_switch_fiber(NULL, to->low, to->size);
#endif
    naru__switch(&from->sp, to->sp);
    __builtin_trap();
}

#endif
