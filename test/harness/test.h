/*
 * What a test program needs, and no more.
 *
 * A test program is a file with several cases:
 *
 *     #include "test/harness/test.h"
 *
 *     TEST(a_cancelled_sleep_returns_at_once)
 *     {
 *         CHECK_EQ(naru_run(cancel_a_sleep, NULL), 0);
 *     }
 *
 * Every case runs in a process of its own: what it leaks, blocks or breaks ends with it, and a case that hangs is
 * killed by the runner (run.c) without harm to the others. That is also why a failing check just ends the process:
 * there is nothing to clean up, and no longjmp has to find its way out of a task's stack or a thread.
 *
 * In a child that a test forked itself, a failing check ends the child with status 1: wait for it and check that.
 */
#ifndef NARU_TEST_H
#define NARU_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { TEST_SECONDS = 20 }; /* what a case may take, if it says nothing else */

struct test_case {
    const char *name;
    void (*run)(void);
    int seconds;
    struct test_case *next;
};

/* A case, and one that may take longer than usual (in a plain build; the runner gives slow builds more). */
#define TEST(name) TEST_SLOW(name, TEST_SECONDS)
#define TEST_SLOW(name, seconds)                                            \
    static void test_##name(void);                                          \
    __attribute__((constructor)) static void register_##name(void)          \
    {                                                                       \
        static struct test_case self = {#name, test_##name, seconds, NULL}; \
        test_register(&self);                                               \
    }                                                                       \
    static void test_##name(void)

/* The checks print what was expected, what there was, and where; then the case has failed and is over. */
#define CHECK(condition)                                            \
    do {                                                            \
        if (!(condition))                                           \
            test_fail(__FILE__, __LINE__, "CHECK(" #condition ")"); \
    } while (0)

/* Integers of any type and sign: they are compared as numbers, so that -1 is never SIZE_MAX. */
#define CHECK_EQ(a, b) test_check_integers(__FILE__, __LINE__, #a " == " #b, "==", a, b)
#define CHECK_NE(a, b) test_check_integers(__FILE__, __LINE__, #a " != " #b, "!=", a, b)
#define CHECK_LT(a, b) test_check_integers(__FILE__, __LINE__, #a " < " #b, "<", a, b)
#define CHECK_LE(a, b) test_check_integers(__FILE__, __LINE__, #a " <= " #b, "<=", a, b)
#define CHECK_GT(a, b) test_check_integers(__FILE__, __LINE__, #a " > " #b, ">", a, b)
#define CHECK_GE(a, b) test_check_integers(__FILE__, __LINE__, #a " >= " #b, ">=", a, b)
#define CHECK_STR(a, b) test_check_strings(__FILE__, __LINE__, #a " == " #b, a, b)
#define CHECK_PTR(a, b) test_check_pointers(__FILE__, __LINE__, #a " == " #b, a, b)

/* This machine or this kernel cannot do what the case is about. */
#define SKIP(reason) test_skip(reason)

/* A tool or an optional part that could be installed is not: a complete run (REQUIRE=1) takes this as failure. */
#define SKIP_MISSING(what) test_skip(TEST_MISSING what)

/* Whether the case runs inside a tool: "qemu" imitates the system calls too, and "valgrind" some of them. */
bool test_runs_in(const char *tool);

/* Between the programs and their runner. */
#define TEST_MISSING "missing: "
enum { TEST_SKIPPED = 77 };

/* Wide enough for every 64-bit integer, signed or not. */
typedef __int128 test_integer;

void test_register(struct test_case *self);
_Noreturn void test_fail(const char *file, int line, const char *what);
_Noreturn void test_skip(const char *reason);
void test_check_integers(const char *file, int line, const char *what, const char *relation, test_integer a,
                         test_integer b);
void test_check_strings(const char *file, int line, const char *what, const char *a, const char *b);
void test_check_pointers(const char *file, int line, const char *what, const void *a, const void *b);

#endif
