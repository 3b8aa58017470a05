/* What becomes of stacks when the system has no memory, no mapping, or no cheap guard pages to give.
 *
 * The three system calls are replaced here: a definition in the program comes before the C library's. */
#include "helpers.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

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

static bool no_cheap_guards;
static int mappings_left = INT32_MAX; /* guard pages that mprotect still makes */
static int memory_left = INT32_MAX;   /* stack mappings that mmap still makes */
static int stack_mappings, guards;

/* Not instrumented: they are called before a sanitizer is ready. */
#define PLAIN __attribute__((no_sanitize("thread"), no_sanitize("address")))

PLAIN int madvise(void *address, size_t size, int advice)
{
    if (advice == MADV_GUARD_INSTALL && no_cheap_guards) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_madvise, address, size, advice);
}

PLAIN int mprotect(void *address, size_t size, int protection)
{
    if (protection == PROT_NONE) {
        if (mappings_left == 0) {
            errno = ENOMEM;
            return -1;
        }
        mappings_left--;
        guards++;
    }
    return (int)syscall(SYS_mprotect, address, size, protection);
}

PLAIN void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (flags & MAP_STACK) {
        if (memory_left == 0) {
            errno = ENOMEM;
            return MAP_FAILED;
        }
        memory_left--;
        stack_mappings++;
    }
#if defined(__s390x__) /* the call takes its arguments in memory there */
    unsigned long args[] = {(unsigned long)address,    size,
                            (unsigned long)protection, (unsigned long)flags,
                            (unsigned long)fd,         (unsigned long)offset};
    return (void *)syscall(SYS_mmap, args);
#else
    return (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
#endif
}

/* A size that no other stack here has: the first one needs a mapping of its own. */
static naru_task *spawn_large(naru_fn *fn, void *arg)
{
    naru_spawn_options options = {.name = "large", .stack_size = 1 << 20};
    return naru_spawn_with(&options, fn, arg);
}

/* ---- an older kernel ---- */

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
    CHECK_GT(guards, 0); /* by mprotect */
    return recurse(0);
}

static int overflow_without_cheap_guards(void *arg)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    no_cheap_guards = true;
    return naru_run(overflow, arg);
}

TEST(without_cheap_guard_pages_an_overflow_is_reported_all_the_same)
{
    struct child *child = in_child(overflow_without_cheap_guards, NULL);
    CHECK(WIFSIGNALED(child->status));
    CHECK_EQ(WTERMSIG(child->status), SIGSEGV);
    CHECK(strstr(child->said, "naru: stack overflow in task 'main'") != NULL);
}

/* ---- no mapping left ---- */

static int one_task_too_many(void *arg)
{
    naru_task *tasks[10];
    (void)arg;
    mappings_left = 5;
    for (int i = 0; i < 10; i++)
        tasks[i] = naru_spawn(sleep_for_ever, NULL);
    CHECK_EQ(naru_yield(), 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(naru_result(tasks[i]), i < 5 ? -EAGAIN : -ENOMEM);
    CHECK_EQ(naru_cancel_all(tasks, 10), 0);
    naru_release_all(tasks, 10);
    CHECK_EQ(naru_join(naru_spawn(return_number, number(3))), 3); /* the five stacks are still good */
    return 0;
}

TEST(a_process_out_of_mappings_is_told_of_max_map_count_and_the_task_ends_without_memory)
{
    no_cheap_guards = true;
    CHECK_EQ(run_recorded(0, one_task_too_many, NULL), 0);
    CHECK_EQ(times_in(reports, "vm.max_map_count"), 5);
    CHECK(strstr(reports, "task-") != NULL);
}

TEST(a_main_task_without_a_guard_page_is_no_memory)
{
    no_cheap_guards = true;
    mappings_left = 0;
    CHECK_EQ(run_recorded(0, note_body, "ran"), -ENOMEM);
    CHECK_STR(trace, "");
    CHECK_EQ(times_in(reports, "vm.max_map_count"), 1);
}

static void *never_runs(void *arg)
{
    note("ran");
    return arg;
}

TEST(a_coroutine_without_a_guard_page_is_not_made)
{
    no_cheap_guards = true;
    mappings_left = 0;
    CHECK_PTR(naru_coroutine_create(never_runs, 0), NULL);
    mappings_left = 1;
    naru_coroutine *c = naru_coroutine_create(never_runs, 0);
    CHECK(c != NULL);
    naru_coroutine_destroy(c);
}

/* ---- no memory ---- */

TEST(a_main_task_without_a_stack_is_no_memory)
{
    memory_left = 0;
    CHECK_EQ(run_recorded(0, note_body, "ran"), -ENOMEM);
    CHECK_STR(trace, "");
    CHECK(strstr(reports, "no memory") != NULL);
}

TEST(a_coroutine_without_a_stack_is_not_made)
{
    memory_left = 0;
    CHECK_PTR(naru_coroutine_create(never_runs, 0), NULL);
}

static int spawn_without_memory(void *arg)
{
    (void)arg;
    memory_left = 0;
    CHECK_EQ(naru_join(spawn_large(note_body, "ran")), -ENOMEM);
    CHECK_STR(trace, "");
    memory_left = 1;
    CHECK_EQ(naru_join(spawn_large(note_body, "ran")), 0);
    CHECK_STR(trace, "ran");
    return 0;
}

TEST(a_task_without_a_stack_ends_without_memory_and_the_next_may_have_one)
{
    CHECK_EQ(run_recorded(0, spawn_without_memory, NULL), 0);
    CHECK_EQ(report_count, 1);
    CHECK(strstr(reports, "task 'large': no memory for a stack") != NULL);
}

static int spawn_eagerly_without_memory(void *arg)
{
    naru_spawn_options options = {.name = "large", .stack_size = 1 << 20, .flags = NARU_EAGER};
    naru_task *self = naru_self();
    memory_left = 0;
    naru_task *task = naru_spawn_with(&options, note_body, "ran");
    CHECK_PTR(naru_self(), self);
    CHECK(naru_done(task));
    CHECK_EQ(naru_join(task), -ENOMEM);
    CHECK_EQ(naru_yield(), 0);
    return return_number(arg);
}

TEST(an_eager_task_without_a_stack_ends_and_its_creator_goes_on)
{
    CHECK_EQ(run_recorded(0, spawn_eagerly_without_memory, number(2)), 2);
    CHECK_STR(trace, "");
}

static int dense_without_memory(void *arg)
{
    naru_spawn_options options = {.name = "dense", .stack_size = 4096, .flags = NARU_DENSE_STACK};
    memory_left = 0;
    CHECK_EQ(naru_join(naru_spawn_with(&options, note_body, "ran")), -ENOMEM);
    return return_number(arg);
}

TEST(a_dense_task_without_a_stack_ends_without_memory)
{
    CHECK_EQ(run_recorded(0, dense_without_memory, number(1)), 1);
    CHECK_EQ(report_count, 1);
}

static int yield_once(void *arg)
{
    return naru_generator_yield(arg);
}

static int generator_without_memory(void *arg)
{
    void *value;
    naru_generator *generators[100];
    (void)arg;
    memory_left = 0;
    int last = 0, rc = 1;
    while (last < 100 && rc == 1) {
        generators[last] = naru_generator_start(yield_once, "x");
        rc = naru_generator_next(generators[last++], &value);
    }
    CHECK_EQ(rc, -ENOMEM);
    CHECK_PTR(value, NULL);
    memory_left = 1;
    CHECK_EQ(naru_generator_next(generators[last - 1], &value), 1); /* it can be asked again */
    CHECK_STR(value, "x");
    for (int i = 0; i < last; i++)
        CHECK_EQ(naru_generator_close(generators[i]), 0);
    return 0;
}

TEST(a_generator_without_a_stack_says_so_and_can_be_asked_again)
{
    CHECK_EQ(run_recorded(0, generator_without_memory, NULL), 0);
}

/* ---- no stack for nothing ---- */

TASK_TEST(a_task_cancelled_before_it_starts_takes_no_stack)
{
    int before = stack_mappings;
    naru_task *tasks[10];
    for (int i = 0; i < 10; i++) {
        tasks[i] = spawn_large(note_body, "ran");
        CHECK(naru_cancel(tasks[i]));
    }
    for (int i = 0; i < 10; i++)
        CHECK_EQ(naru_join(tasks[i]), -ECANCELED);
    CHECK_EQ(stack_mappings, before);
    CHECK_STR(trace, "");
}

TASK_TEST(a_generator_that_is_never_asked_takes_no_stack)
{
    int before = stack_mappings;
    naru_generator *generators[200];
    for (int i = 0; i < 200; i++)
        generators[i] = naru_generator_start(yield_once, NULL);
    for (int i = 0; i < 200; i++)
        CHECK_EQ(naru_generator_close(generators[i]), 0);
    CHECK_EQ(stack_mappings, before);
}
