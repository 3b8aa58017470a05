/*
 * coro/context_riscv64.S - the switch for 64-bit RISC-V (lp64d, or lp64 without floating point).
 *
 * A suspended stack looks like this, from its saved stack pointer upwards:
 *
 *      0   ra: where to continue
 *      8   s0 (frame pointer), s1 ... s11: the registers a function must give back as it found them
 *    104   rounding mode
 *    112   fs0 ... fs11, where doubles are passed in registers
 *
 * The idea, the order of things and the guarantee are those of context_x86_64.S. What differs: RISC-V has no
 * floating-point traps, so the rounding mode is all the control state there is; it is written only when it
 * changes. The last instruction jumps through t1, since a jump through ra would be predicted to return to the
 * latest call.
 */
#include "context_asm.inc"

#if defined(__riscv) && __riscv_xlen == 64 && (!defined(__riscv_flen) || __riscv_flen == 64) \
    && !defined(NARU_CONTEXT_UCONTEXT)

#if defined(__riscv_float_abi_double)
#define FRAME 208
#else
#define FRAME 112
#endif

        .text

        .macro  save register, offset
        sd      \register, \offset(sp)
        .cfi_rel_offset \register, \offset
        .endm

        .macro  load register, offset
        ld      \register, \offset(sp)
        .cfi_restore \register
        .endm

        .macro  save_double register, offset
        fsd     \register, \offset(sp)
        .cfi_rel_offset \register, \offset
        .endm

        .macro  load_double register, offset
        fld     \register, \offset(sp)
        .cfi_restore \register
        .endm

        /* void name(void **save, void *load); the two differ in how they go on where the other side stopped. */
        .macro  define_switch name
        begin_hidden_function \name
        addi    sp, sp, -FRAME
        .cfi_adjust_cfa_offset FRAME
        save    ra, 0
        save    s0, 8
        save    s1, 16
        save    s2, 24
        save    s3, 32
        save    s4, 40
        save    s5, 48
        save    s6, 56
        save    s7, 64
        save    s8, 72
        save    s9, 80
        save    s10, 88
        save    s11, 96
#if defined(__riscv_float_abi_double)
        save_double fs0, 112
        save_double fs1, 120
        save_double fs2, 128
        save_double fs3, 136
        save_double fs4, 144
        save_double fs5, 152
        save_double fs6, 160
        save_double fs7, 168
        save_double fs8, 176
        save_double fs9, 184
        save_double fs10, 192
        save_double fs11, 200
#endif
#if defined(__riscv_flen)
        frrm    t0
        sd      t0, 104(sp)
#endif

        sd      sp, 0(a0)
        mv      sp, a1

#if defined(__riscv_flen)
        ld      t1, 104(sp)
        bne     t0, t1, 2f
1:
#endif
        .cfi_remember_state
        load    ra, 0
        load    s0, 8
        load    s1, 16
        load    s2, 24
        load    s3, 32
        load    s4, 40
        load    s5, 48
        load    s6, 56
        load    s7, 64
        load    s8, 72
        load    s9, 80
        load    s10, 88
        load    s11, 96
#if defined(__riscv_float_abi_double)
        load_double fs0, 112
        load_double fs1, 120
        load_double fs2, 128
        load_double fs3, 136
        load_double fs4, 144
        load_double fs5, 152
        load_double fs6, 160
        load_double fs7, 168
        load_double fs8, 176
        load_double fs9, 184
        load_double fs10, 192
        load_double fs11, 200
#endif
        addi    sp, sp, FRAME
        .cfi_adjust_cfa_offset -FRAME
        .ifc \name, naru__switch_alike
        ret
        .else
        mv      t1, ra
        jr      t1
        .endif

#if defined(__riscv_flen)
2:
        .cfi_restore_state
        fsrm    t1
        j       1b
#endif
        end_function \name
        .endm

        define_switch naru__switch
        define_switch naru__switch_alike

        /* void *naru__switch_prepare(void *low, size_t size, void (*entry)(void *), void *arg) */
        begin_hidden_function naru__switch_prepare
        add     a0, a0, a1
        andi    a0, a0, -16
        addi    a0, a0, -FRAME
        lla     t0, 3f
        sd      t0, 0(a0)
        sd      zero, 8(a0)             /* s0: no frame above the first */
        sd      a2, 16(a0)              /* s1: entry */
        sd      a3, 24(a0)              /* s2: arg */
        sd      zero, 32(a0)
        sd      zero, 40(a0)
        sd      zero, 48(a0)
        sd      zero, 56(a0)
        sd      zero, 64(a0)
        sd      zero, 72(a0)
        sd      zero, 80(a0)
        sd      zero, 88(a0)
        sd      zero, 96(a0)
#if defined(__riscv_float_abi_double)
        sd      zero, 112(a0)
        sd      zero, 120(a0)
        sd      zero, 128(a0)
        sd      zero, 136(a0)
        sd      zero, 144(a0)
        sd      zero, 152(a0)
        sd      zero, 160(a0)
        sd      zero, 168(a0)
        sd      zero, 176(a0)
        sd      zero, 184(a0)
        sd      zero, 192(a0)
        sd      zero, 200(a0)
#endif
#if defined(__riscv_flen)
        frrm    t0
        sd      t0, 104(a0)
#endif
        ret
        end_function naru__switch_prepare

        /* The outermost frame of every new stack. Why the nop: see context_x86_64.S. */
        begin_static_function naru__switch_outermost
        .cfi_undefined ra
        nop
3:
        mv      a0, s2
        jalr    s1
        unimp
        end_function naru__switch_outermost

#endif
