/*
 * coro/context_x86_64.S - the switch for x86-64 (System V ABI).
 *
 * A suspended stack looks like this, from its saved stack pointer upwards:
 *
 *      0   MXCSR (4 bytes), x87 control word (2), unused (2)
 *      8   r15, r14, r13, r12, rbx, rbp: the registers a function must give back as it found them
 *     56   where to continue
 *
 * naru__switch builds that on the stack it leaves and takes it down from the one it goes to. All other
 * registers are dead across a call, so the compiler has saved those it cares about.
 *
 * The trap is floating-point control: rounding modes and exception masks are callee-saved too, and zeros
 * would unmask every exception, so a new stack inherits its creator's. Measured on Zen 5, one way: 1.8 ns
 * without MXCSR, 3.8 with it; all of the difference is stmxcsr. Loading MXCSR is free there, whereas
 * comparing first costs 1.6 ns more (what stmxcsr stored is slow to read back). For the x87 control word it
 * is the other way round: comparing is cheap, and fldcw slow on many processors.
 *
 * How to go on at the other side is a question of prediction. A ret is predicted to go back to the latest call. Where
 * the two sides stopped at different places, as resume and yield do, that is wrong (7.3 ns instead of 2.4 for the
 * switch alone), and naru__switch ends in pop and jmp: an indirect jump is predicted from history. Where both
 * stopped at the same place, as waiting tasks do, it is right, and then the returns of the callers are right as well;
 * a jmp would leave the predictor one call out of step and have all of them wrong (yield: 18 ns instead of 9). That
 * is naru__switch_alike.
 *
 * Guarantee: the unwind information is right at every instruction. Since both stacks have the same shape it
 * need not know on which of them rsp stands. Backtraces end at naru__switch_outermost: its return address is
 * declared undefined, and rbp is zero.
 *
 * No note claims support for control-flow enforcement (IBT, shadow stack): a switch would have to change
 * shadow stacks as well.
 */
#include "context_asm.inc"

#if defined(__x86_64__) && !defined(__ILP32__) && !defined(NARU_CONTEXT_UCONTEXT)

        .text

        .macro  push_saved register
        pushq   %\register
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %\register, 0
        .endm

        .macro  pop_saved register
        popq    %\register
        .cfi_adjust_cfa_offset -8
        .cfi_restore %\register
        .endm

        /* void name(void **save, void *load); the two differ in how they go on where the other side stopped. */
        .macro  define_switch name
        begin_hidden_function \name
        push_saved rbp
        push_saved rbx
        push_saved r12
        push_saved r13
        push_saved r14
        push_saved r15
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        movzwl  4(%rsp), %eax

        movq    %rsp, (%rdi)
        movq    %rsi, %rsp

        ldmxcsr (%rsp)
        cmpw    4(%rsp), %ax
        jne     2f
1:
        .cfi_remember_state
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        pop_saved r15
        pop_saved r14
        pop_saved r13
        pop_saved r12
        pop_saved rbx
        pop_saved rbp
        .ifc \name, naru__switch_alike
        ret
        .else
        popq    %rcx
        .cfi_adjust_cfa_offset -8
        .cfi_register %rip, %rcx
        jmp     *%rcx
        .endif

2:
        .cfi_restore_state
        fldcw   4(%rsp)
        jmp     1b
        end_function \name
        .endm

        define_switch naru__switch
        define_switch naru__switch_alike

        /* void *naru__switch_prepare(void *low, size_t size, void (*entry)(void *), void *arg) */
        begin_hidden_function naru__switch_prepare
        leaq    (%rdi, %rsi), %rax
        andq    $-16, %rax
        subq    $64, %rax
        movq    $0, (%rax)
        stmxcsr (%rax)
        fnstcw  4(%rax)
        movq    $0, 8(%rax)
        movq    $0, 16(%rax)
        movq    %rcx, 24(%rax)          /* r13: arg */
        movq    %rdx, 32(%rax)          /* r12: entry */
        movq    $0, 40(%rax)
        movq    $0, 48(%rax)            /* rbp: no frame above the first */
        leaq    3f(%rip), %rdx
        movq    %rdx, 56(%rax)
        ret
        end_function naru__switch_prepare

        /*
         * The outermost frame of every new stack. Unwinders look up a return address minus one, so that a
         * call at the very end of a function is found in it; the nop keeps that inside here for a stack that
         * has not started yet.
         */
        begin_static_function naru__switch_outermost
        .cfi_undefined %rip
        nop
3:
        movq    %r13, %rdi
        callq   *%r12
        ud2
        end_function naru__switch_outermost

#endif
