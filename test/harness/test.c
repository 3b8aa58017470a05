/*
 * The main program of every test program, and its checks.
 *
 *     program            runs all cases one after the other, each in a process of its own: by hand
 *     program case       runs one case in this very process: for a debugger, and for the runner
 *     program --list     names the cases and how many seconds each may take: for the runner
 *
 * It must not use naru: a harness that stands on what it tests falls with it.
 */
#include "test/harness/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct test_case *first;
static struct test_case **end = &first;

void test_register(struct test_case *self)
{
    *end = self;
    end = &self->next;
}

/* --- Checks --- */

/* No exit(3): its handlers would run on the stack of some task or thread, and a leak checker would complain about
 * all that the broken-off case had no chance to free. */
static _Noreturn void leave(int status)
{
    fflush(stdout);
    fflush(stderr);
    _exit(status);
}

void test_fail(const char *file, int line, const char *what)
{
    fflush(stdout);
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    leave(EXIT_FAILURE);
}

bool test_runs_in(const char *tool)
{
    const char *runner = getenv("NARU_RUNNER");
    return runner && strstr(runner, tool);
}

void test_skip(const char *reason)
{
    printf("%s\n", reason);
    leave(TEST_SKIPPED);
}

static bool holds(test_integer a, const char *relation, test_integer b)
{
    bool or_equal = relation[1] == '=';
    switch (relation[0]) {
    case '<':
        return a < b || (or_equal && a == b);
    case '>':
        return a > b || (or_equal && a == b);
    case '!':
        return a != b;
    default:
        return a == b;
    }
}

/* Results are 0 or -errno nearly everywhere, so a small negative value is shown with what it would mean. */
static void print_integer(const char *label, test_integer value)
{
    enum { ERRNO_MAX = 133 };

    if (value > INT64_MAX) {
        fprintf(stderr, "    %s %llu\n", label, (unsigned long long)value);
    } else if (value < 0 && value >= -ERRNO_MAX) {
        fprintf(stderr, "    %s %d (%s)\n", label, (int)value, strerror((int)-value));
    } else {
        fprintf(stderr, "    %s %lld\n", label, (long long)value);
    }
}

void test_check_integers(const char *file, int line, const char *what, const char *relation, test_integer a,
                         test_integer b)
{
    if (holds(a, relation, b))
        return;
    print_integer(" left:", a);
    print_integer("right:", b);
    test_fail(file, line, what);
}

void test_check_strings(const char *file, int line, const char *what, const char *a, const char *b)
{
    if (a == b || (a && b && strcmp(a, b) == 0))
        return;
    const char *quote_a = a ? "\"" : "";
    const char *quote_b = b ? "\"" : "";
    fprintf(stderr, "     left: %s%s%s\n", quote_a, a ? a : "NULL", quote_a);
    fprintf(stderr, "    right: %s%s%s\n", quote_b, b ? b : "NULL", quote_b);
    test_fail(file, line, what);
}

void test_check_pointers(const char *file, int line, const char *what, const void *a, const void *b)
{
    if (a == b)
        return;
    fprintf(stderr, "     left: %p\n    right: %p\n", a, b);
    test_fail(file, line, what);
}

/* --- The three ways to run --- */

static int list(void)
{
    for (const struct test_case *test = first; test; test = test->next)
        printf("%s %d\n", test->name, test->seconds);
    return EXIT_SUCCESS;
}

static int run_one(const char *name)
{
    for (const struct test_case *test = first; test; test = test->next) {
        if (strcmp(test->name, name) == 0) {
            test->run();
            return EXIT_SUCCESS;
        }
    }
    fprintf(stderr, "no test case '%s'; --list names them\n", name);
    return EXIT_FAILURE;
}

/* Returns the wait status, or -1 if there was no way to run it. */
static int run_in_child(const struct test_case *test)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        test->run();
        exit(EXIT_SUCCESS);
    }
    int status = -1;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

static int run_all(void)
{
    int passed = 0;
    int failed = 0;
    int skipped = 0;
    for (const struct test_case *test = first; test; test = test->next) {
        int status = run_in_child(test);
        if (status == 0) {
            passed++;
            printf("ok   %s\n", test->name);
        } else if (status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == TEST_SKIPPED) {
            skipped++;
            printf("SKIP %s\n", test->name);
        } else {
            failed++;
            printf("FAIL %s\n", test->name);
        }
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    /* Into a pipe, too, each line goes when it is written: in order with stderr, and only once across a fork. */
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    if (argc < 2)
        return run_all();
    if (strcmp(argv[1], "--list") == 0)
        return list();
    return run_one(argv[1]);
}
