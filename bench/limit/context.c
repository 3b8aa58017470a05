/*
 * How cheap can it be to leave one stack and continue on another?
 *
 * Two stacks hand control back and forth, nothing else happens. Each row is
 * one way of doing that, in nanoseconds per one-way switch:
 *
 *   call         the limit of a library: a function that must preserve the
 *                six registers the ABI calls callee-saved, whoever called it.
 *   call + FP    the same, preserving also the floating point control words
 *                (rounding, exception masks), which the ABI demands as well
 *                and most libraries quietly leave out.
 *   inline       the floor, out of a library's reach: the compiler is told
 *                that every register is lost and saves what is live here,
 *                which is nothing. Stack, frame pointer and resume address
 *                are exchanged, and the processor predicts all three.
 *   swapcontext  what POSIX offered; it asks the kernel for the signal mask
 *                at every switch.
 *
 * The trap is the `ret` instruction. The processor predicts a return from its
 * own stack of calls, and that is wrong whenever stacks change, at some 20
 * cycles each. An indirect jump is predicted from history and does not care.
 *
 * On anything but x86-64 only the swapcontext row is printed.
 */
#include "../common.h"

#include <ucontext.h>

enum {
    ROUNDS = 9,
    STACK_BYTES = 64 * 1024,
    FAST_SWITCHES = 20 * 1000 * 1000,
    SLOW_SWITCHES = 1000 * 1000,
};

static _Alignas(64) unsigned char stack[STACK_BYTES];

/* Runs `ping`, which makes so many round trips, nine times over. */
static void measure(const char *name, void (*ping)(long trips), long switches)
{
    double samples[ROUNDS];

    ping(switches / 20);
    for (size_t i = 0; i < ROUNDS; i++) {
        int64_t start = bench_now();

        ping(switches / 2);
        samples[i] = (double)(bench_now() - start) / (double)switches;
    }
    bench_row(name, "ns", samples, ROUNDS);
}

#if defined(__x86_64__)

/* ---- inline: three words, the compiler does the rest ---- */

struct place {
    void *stack_pointer;
    void *frame_pointer; /* not nameable as clobbered where it is in use */
    void *resume;
};

static struct place inline_main;
static struct place inline_peer;

/* Nothing is pushed: the compiler may keep data below the stack pointer. */
static inline __attribute__((always_inline)) void switch_inline(struct place *from, struct place *to)
{
    __asm__ volatile("movq %%rsp, 0(%0)\n\t"
                     "movq %%rbp, 8(%0)\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "movq %%rax, 16(%0)\n\t"
                     "movq 0(%1), %%rsp\n\t"
                     "movq 8(%1), %%rbp\n\t"
                     "jmpq *16(%1)\n"
                     "1:"
                     : "+D"(from), "+S"(to)
                     :
                     : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
                       "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory");
}

static void peer_inline(void)
{
    for (;;)
        switch_inline(&inline_peer, &inline_main);
}

static void ping_inline(long trips)
{
    while (trips-- > 0)
        switch_inline(&inline_main, &inline_peer);
}

/* A function may expect the stack as a call leaves it: 8 below a multiple of
 * 16. The zero there ends a debugger's walk. */
static void *fresh_stack(void)
{
    void **top = (void **)(void *)(stack + STACK_BYTES) - 1;

    *top = NULL;
    return top;
}

static void measure_inline(void)
{
    /* A function pointer cannot be cast to an object pointer in ISO C. */
    void (*entry)(void) = peer_inline;

    inline_peer = (struct place){.stack_pointer = fresh_stack()};
    memcpy(&inline_peer.resume, &entry, sizeof entry);
    measure("switch, inline", ping_inline, FAST_SWITCHES);
}

/* ---- call: what the ABI asks a function to preserve ---- */

/* Saves on the current stack, leaves its pointer in *from, continues at `to`. */
void bench_switch(void **from, void *to);
void bench_switch_fp(void **from, void *to);

/* One instruction a line, which the formatter would not keep. */
/* clang-format off */
#define PUSH_CALLEE_SAVED      \
    "    pushq %rbp\n"         \
    "    pushq %rbx\n"         \
    "    pushq %r12\n"         \
    "    pushq %r13\n"         \
    "    pushq %r14\n"         \
    "    pushq %r15\n"

#define EXCHANGE_STACKS        \
    "    movq %rsp, (%rdi)\n"  \
    "    movq %rsi, %rsp\n"

#define POP_AND_RESUME         \
    "    popq %r15\n"          \
    "    popq %r14\n"          \
    "    popq %r13\n"          \
    "    popq %r12\n"          \
    "    popq %rbx\n"          \
    "    popq %rbp\n"          \
    "    popq %rcx\n"          \
    "    jmpq *%rcx\n"

__asm__(
    ".text\n"
    ".p2align 4\n"
    ".type bench_switch, @function\n"
    "bench_switch:\n"
    PUSH_CALLEE_SAVED
    EXCHANGE_STACKS
    POP_AND_RESUME
    ".size bench_switch, . - bench_switch\n"
    ".p2align 4\n"
    ".type bench_switch_fp, @function\n"
    "bench_switch_fp:\n"
    PUSH_CALLEE_SAVED
    "    subq $8, %rsp\n"
    "    stmxcsr 0(%rsp)\n"
    "    fnstcw 4(%rsp)\n"
    EXCHANGE_STACKS
    "    ldmxcsr 0(%rsp)\n"
    "    fldcw 4(%rsp)\n"
    "    addq $8, %rsp\n"
    POP_AND_RESUME
    ".size bench_switch_fp, . - bench_switch_fp\n");
/* clang-format on */

static void *call_main;
static void *call_peer;

static void peer_call(void)
{
    for (;;)
        bench_switch(&call_peer, call_main);
}

static void ping_call(long trips)
{
    while (trips-- > 0)
        bench_switch(&call_main, call_peer);
}

static void peer_call_fp(void)
{
    for (;;)
        bench_switch_fp(&call_peer, call_main);
}

static void ping_call_fp(long trips)
{
    while (trips-- > 0)
        bench_switch_fp(&call_main, call_peer);
}

/* Lays out a stack as if `entry` had been left there just before its start. */
static void start_peer(void (*entry)(void))
{
    uintptr_t *top = fresh_stack();

    memcpy(--top, &entry, sizeof entry);
    for (int i = 0; i < 6; i++)
        *--top = 0;
    call_peer = top;
}

static void measure_call(void)
{
    start_peer(peer_call);
    measure("switch, call", ping_call, FAST_SWITCHES);
}

static void measure_call_fp(void)
{
    struct {
        uint32_t mxcsr;
        uint16_t x87;
        uint16_t unused;
    } control = {0};

    _Static_assert(sizeof control == 8, "as bench_switch_fp lays it out");
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(control.mxcsr), "=m"(control.x87));
    start_peer(peer_call_fp);
    call_peer = (uintptr_t *)call_peer - 1;
    memcpy(call_peer, &control, sizeof control);
    measure("switch, call + FP control state", ping_call_fp, FAST_SWITCHES);
}

static void measure_assembly(void)
{
    measure_inline();
    measure_call();
    measure_call_fp();
}

#else

static void measure_assembly(void) {}

#endif

/* ---- swapcontext ---- */

static ucontext_t posix_main;
static ucontext_t posix_peer;

static void peer_posix(void)
{
    for (;;)
        swapcontext(&posix_peer, &posix_main);
}

static void ping_posix(long trips)
{
    while (trips-- > 0)
        swapcontext(&posix_main, &posix_peer);
}

static void measure_posix(void)
{
    if (getcontext(&posix_peer) != 0)
        bench_die("getcontext");
    posix_peer.uc_stack.ss_sp = stack;
    posix_peer.uc_stack.ss_size = sizeof stack;
    makecontext(&posix_peer, peer_posix, 0);
    measure("switch, swapcontext", ping_posix, SLOW_SWITCHES);
}

int main(void)
{
    bench_pin(sched_getcpu());
    measure_assembly();
    measure_posix();
    return 0;
}
