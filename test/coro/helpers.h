/* What the tests of tasks have in common: a case that is a main task, a trace of what happened in which order, what
 * was reported, and a child process whose last words are read.
 *
 * Order is made by events only. Tasks that are ready run first come first served, so a test that spawns, yields and
 * cancels knows exactly who has run up to where; no sleep ever stands in for that. */
#ifndef NARU_TEST_CORO_HELPERS_H
#define NARU_TEST_CORO_HELPERS_H

#include <errno.h>
#include <naru/coro.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/harness/test.h"

#if defined(__has_feature)
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
enum { UNDER_ASAN = 1 };
#else
enum { UNDER_ASAN = 0 };
#endif

#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
enum { UNDER_TSAN = 1 };
#else
enum { UNDER_TSAN = 0 };
#endif

enum { SANITIZED = UNDER_ASAN || UNDER_TSAN };

/* ThreadSanitizer knows at most 8,128 flows of control, AddressSanitizer makes each several times larger. */
static inline int many(int count)
{
    int most = UNDER_TSAN ? 2000 : UNDER_ASAN ? 10000 : count;
    return count < most ? count : most;
}

/* A case whose body is the main task of a run. */
#define TASK_TEST(name) TASK_TEST_SLOW(name, TEST_SECONDS)
#define TASK_TEST_SLOW(name, seconds)             \
    static void in_task_##name(void);             \
    static int main_##name(void *arg)             \
    {                                             \
        (void)arg;                                \
        in_task_##name();                         \
        return 0;                                 \
    }                                             \
    TEST_SLOW(name, seconds)                      \
    {                                             \
        CHECK_EQ(naru_run(main_##name, NULL), 0); \
    }                                             \
    static void in_task_##name(void)

/* ---- who did what, in order ---- */

static char trace[4096];

static inline void note(const char *text)
{
    size_t length = strlen(trace);
    snprintf(trace + length, sizeof trace - length, "%s%s", length > 0 ? " " : "", text);
}

/* A callback and a body that say their name. */
static inline void note_callback(void *text)
{
    note(text);
}

static inline int note_body(void *text)
{
    note(text);
    return 0;
}

/* ---- bodies ---- */

static inline int return_number(void *number)
{
    return (int)(intptr_t)number;
}

static inline int sleep_for_ever(void *arg)
{
    (void)arg;
    return naru_sleep(NARU_FOREVER);
}

/* As an argument for return_number. */
static inline void *number(int n)
{
    return (void *)(intptr_t)n;
}

/* Lets everybody who is ready run until they wait. */
static inline void settle(void)
{
    for (int i = 0; i < 10; i++)
        CHECK_EQ(naru_yield(), 0);
}

/* ---- reports ---- */

static char reports[16384];
static int report_count;

static inline void record_report(int level, const char *text, void *arg)
{
    (void)level;
    (void)arg;
    size_t length = strlen(reports);
    snprintf(reports + length, sizeof reports - length, "%s\n", text);
    report_count++;
}

static inline int run_recorded(unsigned flags, naru_fn *fn, void *arg)
{
    naru_options options = {.flags = flags, .report = record_report};
    return naru_run_with(&options, fn, arg);
}

static inline int times_in(const char *text, const char *what)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}

/* ---- another process ---- */

struct child {
    int status;
    char said[32768]; /* on stderr */
};

/* Runs fn(arg) in a child; what it returns is the exit status. */
static inline struct child *in_child(int (*fn)(void *arg), void *arg)
{
    static struct child child;
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        _exit(fn(arg));
    }
    close(ends[1]);
    size_t length = 0;
    ssize_t n;
    while ((n = read(ends[0], child.said + length, sizeof child.said - 1 - length)) > 0)
        length += (size_t)n;
    child.said[length] = '\0';
    close(ends[0]);
    CHECK_EQ(waitpid(pid, &child.status, 0), pid);
    return &child;
}

/* Resident memory of this process, in bytes. */
static inline long resident(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    CHECK(f != NULL);
    CHECK_EQ(fscanf(f, "%*s %ld", &pages), 1);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

#endif
