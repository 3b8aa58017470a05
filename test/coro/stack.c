/* Stacks: as large as asked for, used again, given back, and never run over in silence. */
#include "helpers.h"

#include <sys/resource.h>

#include "coro/context.h"

/* The sanitizers look after faults by default; here naru shall. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "handle_segv=0:handle_sigbus=0:handle_abort=0:use_sigaltstack=0";
}

const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "handle_segv=0:handle_sigbus=0:handle_abort=0:use_sigaltstack=0";
}

/* Frames small enough that none steps over the guard page. */
__attribute__((noinline)) static int use_bytes(size_t bytes)
{
    volatile char frame[512];
    frame[0] = 1;
    frame[sizeof frame - 1] = 2;
    int deeper = bytes > sizeof frame ? use_bytes(bytes - sizeof frame) : 0;
    return deeper + frame[0] + frame[sizeof frame - 1] > 0;
}

static int use_stack(void *bytes)
{
    return use_bytes((size_t)(uintptr_t)bytes);
}

static naru_task *sized(size_t stack_size, size_t use)
{
    naru_spawn_options options = {.stack_size = stack_size};
    return naru_spawn_with(&options, use_stack, (void *)use);
}

/* ---- sizes ---- */

TASK_TEST(a_task_has_the_stack_it_was_asked_for)
{
    size_t sizes[] = {1 << 18, 1 << 20, 3 << 20, 8 << 20};
    for (int i = 0; i < 4; i++)
        CHECK_EQ(naru_join(sized(sizes[i], sizes[i] / 2)), 1);
}

TASK_TEST(a_size_is_rounded_up_to_something_that_works)
{
    CHECK_EQ(naru_join(sized(1, 2000)), 1);
    CHECK_EQ(naru_join(sized(1000, 2000)), 1);
    CHECK_EQ(naru_join(sized(100001, 50000)), 1);
}

TASK_TEST(a_gigabyte_is_the_most)
{
    CHECK_PTR(sized(((size_t)1 << 30) + 1, 0), NULL);
    CHECK_PTR(sized(SIZE_MAX, 0), NULL);
    if (SANITIZED)
        SKIP("sanitizers multiply stacks: a gigabyte of them is more than they map");
    CHECK_EQ(naru_join(sized((size_t)1 << 30, 1 << 20)), 1);
}

static int use_half_a_megabyte(void *arg)
{
    (void)arg;
    return naru_join(naru_spawn(use_stack, (void *)(uintptr_t)(1 << 19)));
}

TEST(the_default_size_is_an_option_of_the_loop)
{
    naru_options options = {.stack_size = 1 << 20};
    CHECK_EQ(naru_run_with(&options, use_half_a_megabyte, NULL), 1);
}

TEST(a_default_size_beyond_a_gigabyte_is_no_memory)
{
    naru_options options = {.stack_size = (size_t)2 << 30};
    CHECK_EQ(naru_run_with(&options, note_body, "ran"), -ENOMEM);
    CHECK_STR(trace, "");
}

TASK_TEST(different_sizes_live_side_by_side)
{
    naru_task *tasks[60];
    for (int i = 0; i < 60; i++)
        tasks[i] = sized((size_t)(1 + i % 5) << 16, (size_t)(1 + i % 5) << 14);
    for (int i = 0; i < 60; i++)
        CHECK_EQ(naru_join(tasks[i]), 1);
}

/* ---- used again ---- */

static uintptr_t pages[64];
static int page_count;

static int note_page(void *arg)
{
    char here;
    uintptr_t page = (uintptr_t)__builtin_frame_address(0) >> 12;
    (void)arg;
    (void)here;
    for (int i = 0; i < page_count; i++)
        if (pages[i] == page)
            return 0;
    CHECK_LT(page_count, 64);
    pages[page_count++] = page;
    return 0;
}

TASK_TEST(ten_thousand_tasks_one_after_the_other_use_few_stacks)
{
    for (int i = 0; i < 10000; i++)
        CHECK_EQ(naru_join(naru_spawn(note_page, NULL)), 0);
    CHECK_LE(page_count, 4);
}

TASK_TEST(ten_thousand_tasks_spawned_at_once_that_do_not_wait_use_few_stacks)
{
    for (int i = 0; i < 10000; i++)
        naru_release(naru_spawn(note_page, NULL));
    settle();
    CHECK_LE(page_count, 4);
}

static void burst(int count)
{
    naru_task **tasks = malloc((size_t)count * sizeof *tasks);
    for (int i = 0; i < count; i++)
        tasks[i] = naru_spawn(sleep_for_ever, NULL);
    CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_cancel_all(tasks, (size_t)count), 0);
    naru_release_all(tasks, (size_t)count);
    free(tasks);
}

TASK_TEST_SLOW(memory_is_given_back_after_a_burst_of_a_hundred_thousand_tasks, 60)
{
    enum { MANY = 100000, FEW = 1000 };
    bool exact = !SANITIZED && !getenv("NARU_RUNNER");
    burst(FEW);
    CHECK_EQ(naru_sleep(NARU_US(1)), 0);
    long before = resident();
    burst(many(MANY));
    for (int i = 0; i < 5; i++)
        CHECK_EQ(naru_sleep(NARU_US(1)), 0); /* between rounds it is given back */
    if (!exact)
        SKIP("ran, but sanitizers and Valgrind keep memory of their own: resident memory says nothing");
    CHECK_LE(resident() - before, 64L << 20); /* at its height it was more than 400 MiB */
}

/* ---- overflow ---- */

static int without_core_dump(naru_fn *fn, void *arg)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    return naru_run(fn, arg);
}

__attribute__((noinline)) static int recurse(int depth)
{
    volatile char frame[256];
    frame[0] = (char)depth;
    frame[sizeof frame - 1] = (char)depth;
    int deeper = depth < 100000000 ? recurse(depth + 1) : 0;
    return deeper + frame[0] + frame[sizeof frame - 1];
}

static int overflow(void *arg)
{
    (void)arg;
    return recurse(0);
}

static naru_task *named(const char *name, naru_fn *fn, void *arg)
{
    naru_spawn_options options = {.name = name};
    return naru_spawn_with(&options, fn, arg);
}

static int overflow_in_task(void *arg)
{
    return naru_join(named("deep", overflow, arg));
}

/* qemu-user says that it has followed any advice, and does nothing. */
static void needs_guard_pages(void)
{
    if (test_runs_in("qemu"))
        SKIP("qemu-user takes MADV_GUARD_INSTALL and installs nothing");
}

static int run_overflow_in_task(void *arg)
{
    return without_core_dump(overflow_in_task, arg);
}

TEST(an_overflow_is_reported_with_the_tasks_name_and_ends_the_process_as_ever)
{
    needs_guard_pages();
    struct child *child = in_child(run_overflow_in_task, NULL);
    CHECK(WIFSIGNALED(child->status));
    CHECK_EQ(WTERMSIG(child->status), SIGSEGV);
    CHECK_EQ(times_in(child->said, "naru: stack overflow in task 'deep'"), 1);
}

static int overflow_in_unnamed(void *arg)
{
    return naru_join(naru_spawn(overflow, arg));
}

static int run_overflow_in_unnamed(void *arg)
{
    return without_core_dump(overflow_in_unnamed, arg);
}

TEST(a_task_without_a_name_is_reported_by_its_number)
{
    needs_guard_pages();
    struct child *child = in_child(run_overflow_in_unnamed, NULL);
    CHECK_EQ(WTERMSIG(child->status), SIGSEGV);
    CHECK(strstr(child->said, "naru: stack overflow in task-2 ") != NULL);
}

static int overflow_in_one_of_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 1000; i++)
        naru_release(i == 500 ? named("the one", overflow, NULL) : naru_spawn(sleep_for_ever, NULL));
    return naru_sleep(NARU_FOREVER);
}

static int run_overflow_in_one_of_many(void *arg)
{
    return without_core_dump(overflow_in_one_of_many, arg);
}

TEST(an_overflow_in_one_of_a_thousand_tasks_names_that_one)
{
    needs_guard_pages();
    struct child *child = in_child(run_overflow_in_one_of_many, NULL);
    CHECK_EQ(WTERMSIG(child->status), SIGSEGV);
    CHECK(strstr(child->said, "naru: stack overflow in task 'the one'") != NULL);
}

static int overflow_generator(void *arg)
{
    void *value;
    return naru_generator_next(naru_generator_start(overflow, arg), &value);
}

static int run_overflow_generator(void *arg)
{
    return without_core_dump(overflow_generator, arg);
}

TEST(an_overflow_inside_a_generator_is_its_consumers)
{
    needs_guard_pages();
    struct child *child = in_child(run_overflow_generator, NULL);
    CHECK_EQ(WTERMSIG(child->status), SIGSEGV);
    CHECK(strstr(child->said, "naru: stack overflow in task 'main'") != NULL);
}

static int null_pointer(void *arg)
{
    volatile int *nothing = arg;
    return *nothing;
}

static int run_null_pointer(void *arg)
{
    return without_core_dump(null_pointer, arg);
}

TEST(another_fault_is_no_stack_overflow)
{
    struct child *child = in_child(run_null_pointer, NULL);
    CHECK(WIFSIGNALED(child->status) || WIFEXITED(child->status));
    CHECK_EQ(times_in(child->said, "stack overflow in"), 0);
    CHECK_NE(child->status, 0);
}

static void program_handler(int signo)
{
    (void)signo;
    _exit(55);
}

static int fault(void *arg)
{
    (void)arg;
    return raise(SIGSEGV);
}

static int run_with_own_handler(void *arg)
{
    signal(SIGSEGV, program_handler);
    return without_core_dump(fault, arg);
}

TEST(a_programs_own_fault_handler_stays)
{
    struct child *child = in_child(run_with_own_handler, NULL);
    CHECK(WIFEXITED(child->status));
    CHECK_EQ(WEXITSTATUS(child->status), 55);
}

/* ---- dense ---- */

static const naru_spawn_options DENSE = {.flags = NARU_DENSE_STACK};

static int wait_twice(void *arg)
{
    if (naru_yield() < 0 || naru_yield() < 0)
        return -EIO;
    return return_number(arg);
}

TASK_TEST_SLOW(dense_tasks_wait_and_end_like_others, 60)
{
    static naru_task *tasks[10000];
    int count = many(10000);
    for (int i = 0; i < count; i++)
        tasks[i] = naru_spawn_with(&DENSE, wait_twice, number(i));
    for (int i = 0; i < count; i++)
        CHECK_EQ(naru_join(tasks[i]), i);
}

static int use_naru(void *arg)
{
    naru_task *child = naru_spawn_with(&DENSE, wait_twice, arg);
    int rc = child ? naru_join(child) : -ENOMEM;
    if (naru_sleep(NARU_US(1)) < 0)
        return -EIO;
    return rc;
}

TASK_TEST(a_dense_stack_is_enough_for_narus_own_calls)
{
    naru_task *tasks[100];
    for (int i = 0; i < 100; i++)
        tasks[i] = naru_spawn_with(&DENSE, use_naru, number(i));
    for (int i = 0; i < 100; i++)
        CHECK_EQ(naru_join(tasks[i]), i);
}

TASK_TEST(dense_and_other_tasks_start_each_other)
{
    naru_task *tasks[100];
    for (int i = 0; i < 100; i++)
        tasks[i] = i % 2 ? naru_spawn_with(&DENSE, wait_twice, number(i)) : naru_spawn(use_naru, number(i));
    for (int i = 0; i < 100; i++)
        CHECK_EQ(naru_join(tasks[i]), i);
}

TASK_TEST(a_dense_stack_may_have_any_size)
{
    size_t sizes[] = {1, 2000, 4096, 10000, 100000, 1 << 20, 4 << 20, 64 << 20};
    for (int i = 0; i < 8; i++) {
        naru_spawn_options options = {.flags = NARU_DENSE_STACK, .stack_size = sizes[i]};
        naru_task *tasks[5];
        for (int j = 0; j < 5; j++)
            tasks[j] = naru_spawn_with(&options, wait_twice, number(j));
        for (int j = 0; j < 5; j++)
            CHECK_EQ(naru_join(tasks[j]), j);
        if (sizes[i] >= 10000)
            CHECK_EQ(naru_join(naru_spawn_with(&options, use_stack, (void *)(sizes[i] / 2))), 1);
    }
    naru_spawn_options options = {.flags = NARU_DENSE_STACK, .stack_size = ((size_t)1 << 30) + 1};
    CHECK_PTR(naru_spawn_with(&options, wait_twice, NULL), NULL);
}

/* Every byte: the canary sees only what was written over it. */
static int use_too_much(void *arg)
{
    volatile char all[2100];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (char)i;
    return return_number(arg) + all[7] - 7;
}

static int overrun_dense(void *arg)
{
    naru_spawn_options options = {.name = "fat", .flags = NARU_DENSE_STACK};
    for (int i = 0; i < 10; i++)
        naru_release(naru_spawn_with(&DENSE, sleep_for_ever, NULL));
    CHECK_EQ(naru_yield(), 0);
    return naru_join(naru_spawn_with(&options, use_too_much, arg));
}

static int run_overrun_dense(void *arg)
{
    return without_core_dump(overrun_dense, arg);
}

TEST(a_dense_stack_that_was_run_over_is_reported_and_aborts)
{
    if (SANITIZED)
        SKIP("under sanitizers dense stacks are ordinary ones");
#ifdef NARU_CONTEXT_UCONTEXT
    SKIP("with ucontext dense stacks are ordinary ones");
#endif
    struct child *child = in_child(run_overrun_dense, NULL);
    CHECK(WIFSIGNALED(child->status));
    CHECK_EQ(WTERMSIG(child->status), SIGABRT);
    CHECK(strstr(child->said, "naru: stack overflow in task 'fat'") != NULL);
}
