/*
 * coro/context_aarch64.S - the switch for 64-bit ARM (AAPCS64).
 *
 * A suspended stack looks like this, from its saved stack pointer upwards:
 *
 *      0   x19 ... x28: the registers a function must give back as it found them
 *     80   x29 (frame pointer), x30 (where to continue)
 *     96   d8 ... d15: of the vector registers only these, and only their lower halves, survive a call
 *    160   FPCR: rounding mode and exception traps; unused (8)
 *
 * The idea, the order of things and the guarantee are those of context_x86_64.S. What differs: FPCR is read
 * straight into a register, so comparing costs nothing, whereas writing it may drain the pipeline; it is
 * written only when it changes. The last instruction is "br x30" and not "ret", which would be predicted to
 * return to the latest call.
 *
 * No note claims support for branch target identification: the br lands behind a call, where no landing pad
 * is.
 */
#include "context_asm.inc"

#if defined(__aarch64__) && !defined(__ILP32__) && !defined(NARU_CONTEXT_UCONTEXT)

#define FRAME 176

        .text

        .macro  save_pair first, second, offset
        stp     \first, \second, [sp, #\offset]
        .cfi_rel_offset \first, \offset
        .cfi_rel_offset \second, \offset + 8
        .endm

        .macro  load_pair first, second, offset
        ldp     \first, \second, [sp, #\offset]
        .cfi_restore \first
        .cfi_restore \second
        .endm

        /* void name(void **save, void *load); the two differ in how they go on where the other side stopped. */
        .macro  define_switch name
        begin_hidden_function \name
        sub     sp, sp, #FRAME
        .cfi_adjust_cfa_offset FRAME
        save_pair x19, x20, 0
        save_pair x21, x22, 16
        save_pair x23, x24, 32
        save_pair x25, x26, 48
        save_pair x27, x28, 64
        save_pair x29, x30, 80
        save_pair d8, d9, 96
        save_pair d10, d11, 112
        save_pair d12, d13, 128
        save_pair d14, d15, 144
        mrs     x9, fpcr
        str     x9, [sp, #160]

        mov     x10, sp
        str     x10, [x0]
        mov     sp, x1

        ldr     x10, [sp, #160]
        cmp     x9, x10
        b.ne    2f
1:
        .cfi_remember_state
        load_pair x19, x20, 0
        load_pair x21, x22, 16
        load_pair x23, x24, 32
        load_pair x25, x26, 48
        load_pair x27, x28, 64
        load_pair x29, x30, 80
        load_pair d8, d9, 96
        load_pair d10, d11, 112
        load_pair d12, d13, 128
        load_pair d14, d15, 144
        add     sp, sp, #FRAME
        .cfi_adjust_cfa_offset -FRAME
        .ifc \name, naru__switch_alike
        ret
        .else
        br      x30
        .endif

2:
        .cfi_restore_state
        msr     fpcr, x10
        b       1b
        end_function \name
        .endm

        define_switch naru__switch
        define_switch naru__switch_alike

        /* void *naru__switch_prepare(void *low, size_t size, void (*entry)(void *), void *arg) */
        begin_hidden_function naru__switch_prepare
        add     x0, x0, x1
        and     x0, x0, #-16
        sub     x0, x0, #FRAME
        stp     x2, x3, [x0]            /* x19: entry, x20: arg */
        stp     xzr, xzr, [x0, #16]
        stp     xzr, xzr, [x0, #32]
        stp     xzr, xzr, [x0, #48]
        stp     xzr, xzr, [x0, #64]
        adr     x9, 3f
        stp     xzr, x9, [x0, #80]      /* x29: no frame above the first */
        stp     xzr, xzr, [x0, #96]
        stp     xzr, xzr, [x0, #112]
        stp     xzr, xzr, [x0, #128]
        stp     xzr, xzr, [x0, #144]
        mrs     x9, fpcr
        stp     x9, xzr, [x0, #160]
        ret
        end_function naru__switch_prepare

        /* The outermost frame of every new stack. Why the nop: see context_x86_64.S. */
        begin_static_function naru__switch_outermost
        .cfi_undefined x30
        nop
3:
        mov     x0, x20
        blr     x19
        brk     #1
        end_function naru__switch_outermost

#endif
