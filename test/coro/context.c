/*
 * The context switch: that it changes nothing but the stack it runs on.
 *
 * What a switch must preserve, the compiler may or may not happen to use. So the registers are filled and
 * read back by assembly around a bare naru__switch (fill_and_switch, below, for each machine), and the
 * floating-point control state is read where the machine keeps it: fegetround, on x86-64, would look at the
 * x87's only.
 */
#include "coro/context.h"

#include <pthread.h>
#include <stdalign.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unwind.h>

#ifdef NARU__CONTEXT_ASAN
#include <sanitizer/asan_interface.h>
#endif

#include "test/harness/test.h"

enum { STACKS = 5, STACK_SIZE = 256 * 1024 };

static alignas(64) unsigned char stacks[STACKS][STACK_SIZE];
static naru__context thread_context;
static naru__context contexts[STACKS];

static void start(int i, void (*entry)(void *arg), void *arg)
{
    naru__context_init(&contexts[i], stacks[i], STACK_SIZE, entry, arg);
}

static void resume(int i)
{
    naru__context_switch(&thread_context, &contexts[i]);
}

static void suspend(int i)
{
    naru__context_switch(&contexts[i], &thread_context);
}

/* --- The machine ---------------------------------------------------------------------------------------- */

/*
 * fill_and_switch loads each callee-saved register from the array, switches, and when it is continued stores
 * what is in them to the array.
 *
 * control_state and set_control_state: floating-point control without the sticky exception flags. The choice
 * is any number, different ones mostly have different effects.
 */
void fill_and_switch(void **save, void *load, uint64_t *registers);

#if defined(__ELF__) && defined(__x86_64__) && !defined(__ILP32__)

enum { REGISTERS = 6 };

__asm__(".text\n"
        ".p2align 4\n"
        "fill_and_switch:\n"
        "    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15; pushq %rdx\n"
        "    movq 0(%rdx), %rbp; movq 8(%rdx), %rbx\n"
        "    movq 16(%rdx), %r12; movq 24(%rdx), %r13; movq 32(%rdx), %r14; movq 40(%rdx), %r15\n"
        "    call naru__switch\n"
        "    popq %rdx\n"
        "    movq %rbp, 0(%rdx); movq %rbx, 8(%rdx)\n"
        "    movq %r12, 16(%rdx); movq %r13, 24(%rdx); movq %r14, 32(%rdx); movq %r15, 40(%rdx)\n"
        "    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp\n"
        "    ret\n");

static uint64_t control_state(void)
{
    uint32_t mxcsr;
    uint16_t x87;

    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    return (uint64_t)(mxcsr & 0xffc0) << 16 | x87;
}

/* Rounding modes of both units, independently; flush to zero; division by zero unmasked in either. */
static void set_control_state(unsigned choice)
{
    uint32_t mxcsr = 0x1f80 ^ (choice & 3) << 13 ^ (choice >> 2 & 1) << 15 ^ (choice >> 3 & 1) << 9;
    uint16_t x87 = (uint16_t)(0x037f ^ (choice >> 4 & 3) << 10 ^ (choice >> 6 & 1) << 2);

    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
    __asm__ volatile("fldcw %0" : : "m"(x87));
}

#elif defined(__ELF__) && defined(__aarch64__) && !defined(__ILP32__)

enum { REGISTERS = 19 };

__asm__(".text\n"
        ".p2align 4\n"
        "fill_and_switch:\n"
        "    stp x29, x30, [sp, #-176]!\n"
        "    stp x19, x20, [sp, #16]; stp x21, x22, [sp, #32]; stp x23, x24, [sp, #48]\n"
        "    stp x25, x26, [sp, #64]; stp x27, x28, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]; stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]; stp d14, d15, [sp, #144]\n"
        "    str x2, [sp, #160]\n"
        "    ldp x19, x20, [x2]; ldp x21, x22, [x2, #16]; ldp x23, x24, [x2, #32]\n"
        "    ldp x25, x26, [x2, #48]; ldp x27, x28, [x2, #64]\n"
        "    ldp d8, d9, [x2, #80]; ldp d10, d11, [x2, #96]\n"
        "    ldp d12, d13, [x2, #112]; ldp d14, d15, [x2, #128]; ldr x29, [x2, #144]\n"
        "    bl naru__switch\n"
        "    ldr x2, [sp, #160]\n"
        "    stp x19, x20, [x2]; stp x21, x22, [x2, #16]; stp x23, x24, [x2, #32]\n"
        "    stp x25, x26, [x2, #48]; stp x27, x28, [x2, #64]\n"
        "    stp d8, d9, [x2, #80]; stp d10, d11, [x2, #96]\n"
        "    stp d12, d13, [x2, #112]; stp d14, d15, [x2, #128]; str x29, [x2, #144]\n"
        "    ldp x19, x20, [sp, #16]; ldp x21, x22, [sp, #32]; ldp x23, x24, [sp, #48]\n"
        "    ldp x25, x26, [sp, #64]; ldp x27, x28, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]; ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]; ldp d14, d15, [sp, #144]\n"
        "    ldp x29, x30, [sp], #176\n"
        "    ret\n");

static uint64_t control_state(void)
{
    uint64_t fpcr;

    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
}

/* Rounding mode and flush to zero. */
static void set_control_state(unsigned choice)
{
    uint64_t fpcr = (uint64_t)(choice & 7) << 22;

    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr));
}

#elif defined(__riscv) && __riscv_xlen == 64 && defined(__riscv_float_abi_double)

enum { REGISTERS = 24 };

__asm__(
    ".text\n"
    ".p2align 4\n"
    ".macro each_integer does, base\n"
    "    \\does s0, 0(\\base); \\does s1, 8(\\base); \\does s2, 16(\\base); \\does s3, 24(\\base)\n"
    "    \\does s4, 32(\\base); \\does s5, 40(\\base); \\does s6, 48(\\base); \\does s7, 56(\\base)\n"
    "    \\does s8, 64(\\base); \\does s9, 72(\\base); \\does s10, 80(\\base); \\does s11, 88(\\base)\n"
    ".endm\n"
    ".macro each_double does, base\n"
    "    \\does fs0, 96(\\base); \\does fs1, 104(\\base); \\does fs2, 112(\\base); \\does fs3, 120(\\base)\n"
    "    \\does fs4, 128(\\base); \\does fs5, 136(\\base); \\does fs6, 144(\\base); \\does fs7, 152(\\base)\n"
    "    \\does fs8, 160(\\base); \\does fs9, 168(\\base); \\does fs10, 176(\\base); \\does fs11, "
    "184(\\base)\n"
    ".endm\n"
    "fill_and_switch:\n"
    "    addi sp, sp, -208\n"
    "    each_integer sd, sp\n"
    "    each_double fsd, sp\n"
    "    sd ra, 192(sp); sd a2, 200(sp)\n"
    "    each_integer ld, a2\n"
    "    each_double fld, a2\n"
    "    call naru__switch\n"
    "    ld ra, 192(sp); ld a2, 200(sp)\n"
    "    each_integer sd, a2\n"
    "    each_double fsd, a2\n"
    "    each_integer ld, sp\n"
    "    each_double fld, sp\n"
    "    addi sp, sp, 208\n"
    "    ret\n");

static uint64_t control_state(void)
{
    uint64_t rounding;

    __asm__ volatile("frrm %0" : "=r"(rounding));
    return rounding;
}

static void set_control_state(unsigned choice)
{
    __asm__ volatile("fsrm %0" : : "r"((uint64_t)(choice & 3)));
}

#else

/* Of a machine without assembly of its own we test only what shows: where it goes, and how it rounds. */
#define NO_REGISTER_TEST 1

#if defined(__s390x__)

static uint64_t control_state(void)
{
    uint32_t fpc;

    __asm__ volatile("efpc %0" : "=d"(fpc));
    return fpc & 3;
}

static void set_control_state(unsigned choice)
{
    __asm__ volatile("sfpc %0" : : "d"(choice & 3));
}

#else

static uint64_t control_state(void)
{
    return 0;
}

static void set_control_state(unsigned choice)
{
    (void)choice;
}

#endif
#endif

/* --- Going there and back ------------------------------------------------------------------------------- */

static void append_numbers(void *arg)
{
    int *sum = arg;

    for (int i = 1;; i++) {
        *sum = *sum * 10 + i;
        suspend(0);
    }
}

TEST(a_switch_continues_where_the_context_stopped)
{
    int sum = 0;

    naru__context_adopt(&thread_context);
    start(0, append_numbers, &sum);
    CHECK_EQ(sum, 0);
    for (int i = 0; i < 5; i++)
        resume(0);
    CHECK_EQ(sum, 12345);
}

static void pass_on(void *arg)
{
    int *count = arg;

    for (;;) {
        int self = (*count)++ % STACKS;

        if (self == STACKS - 1)
            suspend(self);
        else
            naru__context_switch(&contexts[self], &contexts[self + 1]);
    }
}

TEST(contexts_switch_among_each_other)
{
    int count = 0;

    naru__context_adopt(&thread_context);
    for (int i = 0; i < STACKS; i++)
        start(i, pass_on, &count);
    for (int round = 1; round <= 3; round++) {
        resume(0);
        CHECK_EQ(count, round * STACKS);
    }
}

struct ping_pong {
    naru__context thread;
    naru__context partner;
    int count;
};

static void count_up(void *arg)
{
    struct ping_pong *p = arg;

    for (;;) {
        p->count++;
        naru__context_switch(&p->partner, &p->thread);
    }
}

static void *play_ping_pong(void *stack)
{
    struct ping_pong p = {0};

    naru__context_adopt(&p.thread);
    naru__context_init(&p.partner, stack, STACK_SIZE, count_up, &p);
    for (int i = 0; i < 1000; i++)
        naru__context_switch(&p.thread, &p.partner);
    CHECK_EQ(p.count, 1000);
    naru__context_discard(&p.partner);
    return NULL;
}

TEST(each_thread_switches_for_itself)
{
    pthread_t threads[STACKS];

    for (int i = 0; i < STACKS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, play_ping_pong, stacks[i]), 0);
    for (int i = 0; i < STACKS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

/* --- What a switch preserves ---------------------------------------------------------------------------- */

#ifndef NO_REGISTER_TEST

static uint64_t random_state = 88172645463325252u;
static int steps_left;

static uint64_t random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static naru__context *anyone_but(naru__context *self)
{
    naru__context *other;

    do
        other = &contexts[random_number() % STACKS];
    while (other == self);
    return other;
}

static void wander(void *arg)
{
    naru__context *self = arg;

    for (;;) {
        uint64_t before[REGISTERS], after[REGISTERS];
        uint64_t control;
        naru__context *next = steps_left-- > 0 ? anyone_but(self) : &thread_context;

        for (int i = 0; i < REGISTERS; i++)
            before[i] = after[i] = random_number();
        set_control_state((unsigned)random_number());
        control = control_state();

        fill_and_switch(&self->sp, next->sp, after);

        CHECK_EQ(control_state(), control);
        for (int i = 0; i < REGISTERS; i++)
            CHECK_EQ(after[i], before[i]);
    }
}

TEST(every_callee_saved_register_survives)
{
#if defined(NARU__CONTEXT_ASAN) || defined(NARU__CONTEXT_TSAN)
    SKIP("a bare naru__switch, which the sanitizer would not be told of");
#endif
    uint64_t control = control_state();

    naru__context_adopt(&thread_context);
    for (int i = 0; i < STACKS; i++)
        start(i, wander, &contexts[i]);
    steps_left = 100000;
    naru__switch(&thread_context.sp, contexts[0].sp);
    CHECK_LT(steps_left, 0);
    CHECK_EQ(control_state(), control);
}

#endif

/* No double is exactly two thirds. Which of its neighbours comes out is a matter of rounding. */
static double two_thirds(void)
{
    volatile double two = 2, three = 3;

    return two / three;
}

enum { CHOICES = 4 }; /* the first few, which are rounding modes of the unit that computes with doubles */

static void round_in_its_own_way(void *arg)
{
    unsigned choice = *(unsigned *)arg;
    double own;

    set_control_state(choice);
    own = two_thirds();
    for (;;) {
        suspend((int)choice);
        CHECK(two_thirds() == own);
    }
}

TEST(the_rounding_mode_belongs_to_the_context)
{
    unsigned choices[CHOICES];
    double nearest = two_thirds();

    naru__context_adopt(&thread_context);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < CHOICES; i++) {
            choices[i] = i;
            if (round == 0)
                start((int)i, round_in_its_own_way, &choices[i]);
            resume((int)i);
            CHECK(two_thirds() == nearest);
        }
    }
}

static void report_control_state(void *arg)
{
    *(uint64_t *)arg = control_state();
    naru__context_leave(&contexts[0], &thread_context);
}

TEST(a_new_context_starts_with_the_control_state_of_its_creator)
{
    uint64_t initial = control_state();
    uint64_t changed;
    uint64_t seen = 0;

    naru__context_adopt(&thread_context);
    set_control_state(0x73);
    changed = control_state();
    if (changed == initial)
        SKIP("this machine's control state is not known to the test");
    start(0, report_control_state, &seen);
    set_control_state(0);
    resume(0);
    CHECK_EQ(seen, changed);
}

/* --- The stack ------------------------------------------------------------------------------------------ */

static void report_position(void *arg)
{
    alignas(16) char local[16];
    uintptr_t address = (uintptr_t)local;

    __asm__("" : "+r"(address)); /* the compiler believes that it knows the remainder */
    CHECK_EQ(address % 16, 0);
    *(uintptr_t *)arg = (uintptr_t)__builtin_frame_address(0);
    naru__context_leave(&contexts[0], &thread_context);
}

TEST(entry_runs_aligned_near_the_top_of_its_stack_wherever_that_ends)
{
    naru__context_adopt(&thread_context);
    for (size_t offset = 0; offset < 64; offset++) {
        uintptr_t position = 0;
        uintptr_t top = (uintptr_t)stacks[0] + STACK_SIZE - offset;

        naru__context_init(&contexts[0], stacks[0], STACK_SIZE - offset, report_position, &position);
        resume(0);
        CHECK_LE(position, top);
        CHECK_LT(top - position, STACK_SIZE / 8);
    }
}

TEST(nothing_is_written_outside_the_stack)
{
    enum { MARGIN = 64 };
    unsigned char *low = stacks[0] + MARGIN;
    uintptr_t position;

    memset(stacks[0], 0xa5, STACK_SIZE);
    naru__context_adopt(&thread_context);
    naru__context_init(&contexts[0], low, STACK_SIZE - 2 * MARGIN, report_position, &position);
    resume(0);
    for (int i = 0; i < MARGIN; i++) {
        CHECK_EQ(stacks[0][i], 0xa5);
        CHECK_EQ(stacks[0][STACK_SIZE - 1 - i], 0xa5);
    }
}

static void count_and_leave(void *arg)
{
    (*(int *)arg)++;
    naru__context_leave(&contexts[0], &thread_context);
}

TEST(a_stack_that_was_left_can_be_started_again)
{
    int count = 0;

    naru__context_adopt(&thread_context);
    for (int i = 0; i < 10000; i++) {
        start(0, count_and_leave, &count);
        resume(0);
    }
    CHECK_EQ(count, 10000);
    naru__context_discard(&contexts[0]);
}

static void (*next_body)(int *count);

static void run_bodies(void *count)
{
    for (;;) {
        next_body(count);
        suspend(0);
    }
}

static void add_one(int *count)
{
    *count += 1;
}

static void add_ten_in_two_steps(int *count)
{
    *count += 5;
    suspend(0);
    *count += 5;
}

TEST(a_stack_runs_one_body_after_another)
{
    int count = 0;

    naru__context_adopt(&thread_context);
    start(0, run_bodies, &count);
    next_body = add_one;
    resume(0);
    next_body = add_ten_in_two_steps;
    resume(0);
    CHECK_EQ(count, 6);
    resume(0);
    CHECK_EQ(count, 11);
}

/* Each level has an array, which a sanitizer surrounds with poison, and something to do after the call. */
__attribute__((noinline)) static int dive(int depth, void (*at_the_bottom)(void))
{
    volatile char room[100];

    room[depth] = 1;
    if (depth == 0)
        at_the_bottom();
    else
        room[depth] = (char)(1 + (dive(depth - 1, at_the_bottom) == depth));
    return room[depth] + depth;
}

static void leave_from_the_bottom(void)
{
    naru__context_leave(&contexts[0], &thread_context);
}

static void suspend_at_the_bottom(void)
{
    suspend(0);
}

static void dive_deep(void *at_the_bottom)
{
    dive(99, *(void (**)(void))at_the_bottom);
    naru__context_leave(&contexts[0], &thread_context);
}

static void write_everywhere(void *arg)
{
    volatile char large[STACK_SIZE / 2] = {0};

    for (size_t i = 0; i < sizeof large; i++)
        large[i] = 1;
    *(int *)arg += large[sizeof large / 2];
    naru__context_leave(&contexts[0], &thread_context);
}

static void check_reuse_after(void (*at_the_bottom)(void))
{
    int written = 0;

    naru__context_adopt(&thread_context);
    for (int i = 0; i < 1000; i++) {
        start(0, dive_deep, &at_the_bottom);
        resume(0);
    }
    start(0, write_everywhere, &written);
    resume(0);
    CHECK_EQ(written, 1);
}

TEST(a_stack_left_from_deep_inside_can_be_started_again)
{
    check_reuse_after(leave_from_the_bottom);
}

TEST(an_abandoned_stack_can_be_started_again)
{
    check_reuse_after(suspend_at_the_bottom);
}

TEST(a_discarded_context_can_move_to_another_stack)
{
    int count = 0;

    naru__context_adopt(&thread_context);
    start(0, count_and_leave, &count);
    resume(0);
    naru__context_discard(&contexts[0]);
    naru__context_init(&contexts[0], stacks[1], STACK_SIZE, count_and_leave, &count);
    resume(0);
    CHECK_EQ(count, 2);
}

/* --- What tools see ------------------------------------------------------------------------------------- */

static int frames;
static int how_it_ended;

static _Unwind_Reason_Code count_frame(struct _Unwind_Context *frame, void *arg)
{
    (void)frame;
    (void)arg;
    return ++frames < 1000 ? _URC_NO_REASON : _URC_NORMAL_STOP;
}

static void look_up_the_stack(void)
{
    how_it_ended = _Unwind_Backtrace(count_frame, NULL);
}

static void dive_a_little(void *arg)
{
    (void)arg;
    dive(10, look_up_the_stack);
    naru__context_leave(&contexts[0], &thread_context);
}

/* Above the stack lie return addresses, so that an unwinder which misses the end finds where to go on. */
TEST(a_backtrace_ends_at_the_entry)
{
    enum { LURES = 64 };
    uintptr_t *above = (uintptr_t *)(stacks[0] + STACK_SIZE) - LURES;

    for (int i = 0; i < LURES; i++)
        above[i] = (uintptr_t)__builtin_return_address(0);
    naru__context_adopt(&thread_context);
    naru__context_init(&contexts[0], stacks[0], (size_t)((unsigned char *)above - stacks[0]), dive_a_little,
                       NULL);
    resume(0);
    CHECK_EQ(how_it_ended, _URC_END_OF_STACK);
    CHECK_GE(frames, 1);
    CHECK_LE(frames, 20);
}

#ifdef NARU__CONTEXT_ASAN

/* Adopting asks AddressSanitizer where it believes we are. */
static void report_bounds(void *arg)
{
    for (;;) {
        naru__context_adopt(arg);
        suspend(0);
    }
}

TEST(address_sanitizer_knows_on_which_stack_we_are)
{
    naru__context seen;
    char *here = __builtin_frame_address(0);

    naru__context_adopt(&thread_context);
    naru__context_adopt(&thread_context); /* asking does not change the answer */
    CHECK((char *)thread_context.low < here && here < (char *)thread_context.low + thread_context.size);
    start(0, report_bounds, &seen);
    for (int i = 0; i < 2; i++) {
        resume(0);
        CHECK_PTR(seen.low, stacks[0]);
        CHECK_EQ(seen.size, STACK_SIZE);
        naru__context_adopt(&seen);
        CHECK_PTR(seen.low, thread_context.low);
        CHECK_EQ(seen.size, thread_context.size);
    }
}

TEST(address_sanitizer_lets_a_new_context_use_all_of_its_stack)
{
    int count = 0;

    __asan_poison_memory_region(stacks[0] + STACK_SIZE / 2, 100); /* as an abandoned frame leaves it */
    start(0, count_and_leave, &count);
    CHECK(__asan_region_is_poisoned(stacks[0], STACK_SIZE) == NULL);
}

static void write_too_far(void *arg)
{
    volatile char small[16];
    volatile char *p = small;

    __asm__(""
            : "+r"(p)); /* UndefinedBehaviorSanitizer, which knows arrays but not pointers, would be first */
    p[*(int *)arg] = 1;
    naru__context_leave(&contexts[0], &thread_context);
}

static _Noreturn void overflow_in_a_context(int report)
{
    int index = 16;

    dup2(report, STDERR_FILENO);
    naru__context_adopt(&thread_context);
    start(0, write_too_far, &index);
    resume(0);
    _exit(0);
}

TEST(address_sanitizer_finds_an_overflow_in_a_context)
{
    char report[65536];
    size_t length = 0;
    ssize_t n;
    int ends[2];
    int status;
    pid_t child;

    CHECK_EQ(pipe(ends), 0);
    child = fork();
    CHECK_GE(child, 0);
    if (child == 0)
        overflow_in_a_context(ends[1]);
    close(ends[1]);
    while ((n = read(ends[0], report + length, sizeof report - 1 - length)) > 0)
        length += (size_t)n;
    report[length] = '\0';

    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
    CHECK(strstr(report, "stack-buffer-overflow") != NULL);
    CHECK(strstr(report, "write_too_far") != NULL);
}

#endif
