/* naru_dump: who waits for what. */
#include "helpers.h"

static char text[1 << 20];

static const char *dump(void)
{
    memset(text, 0, sizeof text);
    FILE *out = fmemopen(text, sizeof text - 1, "w");
    CHECK(out != NULL);
    naru_dump(NULL, out);
    fclose(out);
    return text;
}

static naru_task *named(const char *name, naru_fn *fn, void *arg)
{
    naru_spawn_options options = {.name = name};
    return (naru_spawn_with)(&options, fn, arg);
}

#define CONTAINS(part)                                                       \
    do {                                                                     \
        if (!strstr(text, part)) {                                           \
            fprintf(stderr, "%s", text);                                     \
            test_fail(__FILE__, __LINE__, "the dump contains \"" part "\""); \
        }                                                                    \
    } while (0)

TASK_TEST(a_dump_shows_name_state_what_it_waits_for_and_since_when) /* TASK-33 */
{
    static naru_future f;
    naru_task *tasks[] = {named("sleeper", sleep_for_ever, NULL), naru_spawn(sleep_for_ever, NULL),
                          named("dreamer", (naru_fn *)naru_future_wait, &f), NULL};
    CHECK_EQ(naru_yield(), 0);
    tasks[3] = named("newcomer", note_body, "x");
    dump();
    CONTAINS("5 tasks, 3 of them waiting");
    CONTAINS("task 'main': running");
    CONTAINS("task 'sleeper': waiting in sleep for ever, for ");
    CONTAINS("task 'dreamer': waiting in future ");
    CONTAINS("task 'newcomer': not started");
    naru_cancel_all(tasks, 4);
    naru_release_all(tasks, 4);
}

TASK_TEST(a_dump_shows_where_a_task_was_spawned)
{
    char here[100];
    naru_task *task = naru_spawn(sleep_for_ever, NULL);
    snprintf(here, sizeof here, "spawned at %s:%d", __FILE__, __LINE__ - 1);
    CHECK_EQ(naru_yield(), 0);
    CHECK(strstr(dump(), here) != NULL);
    naru_cancel(task);
    CHECK_EQ(naru_join(task), -ECANCELED);
}

static int await_it(void *task)
{
    return naru_await(task);
}

TASK_TEST(a_dump_shows_what_is_awaited_below_those_who_await_it)
{
    naru_task *leaf = named("leaf", sleep_for_ever, NULL);
    naru_task *branch = named("branch", await_it, leaf), *root = named("root", await_it, branch);
    CHECK_EQ(naru_yield(), 0);
    dump();
    CONTAINS("\n  task 'root': waiting in await task 'branch'");
    CONTAINS("\n    task 'branch': waiting in await task 'leaf'");
    CONTAINS("\n      task 'leaf': waiting in sleep");
    CHECK_EQ(times_in(text, "'leaf': "), 1);
    naru_cancel(root);
    CHECK_EQ(naru_join(root), -ECANCELED);
    naru_release(branch);
    naru_release(leaf);
}

TASK_TEST(a_dump_shows_requests_to_end)
{
    naru_task *task = named("leaver", sleep_for_ever, NULL);
    CHECK_EQ(naru_yield(), 0);
    naru_cancel(task);
    dump();
    CONTAINS("task 'leaver': ready, cancelling (1)");
    CHECK_EQ(naru_join(task), -ECANCELED);
}

static int sleep_hour(void *arg)
{
    (void)arg;
    return naru_sleep(NARU_SEC(3600));
}

TASK_TEST(a_dump_shows_how_long_a_sleep_still_takes)
{
    naru_task *task = named("napper", sleep_hour, NULL);
    CHECK_EQ(naru_yield(), 0);
    dump();
    CONTAINS("task 'napper': waiting in sleep 35"); /* some 3,599,999 ms */
    naru_cancel(task);
    CHECK_EQ(naru_join(task), -ECANCELED);
}

TEST(a_dump_outside_a_run_or_of_a_loop_without_tasks_says_so)
{
    naru_loop *loop;
    dump();
    CONTAINS("no tasks");
    CHECK_EQ(naru_loop_open(&loop, NULL), 0);
    FILE *out = fmemopen(text, sizeof text - 1, "w");
    naru_dump(loop, out);
    fclose(out);
    CONTAINS("no tasks");
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(a_loop_that_does_not_run_can_be_dumped)
{
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, NULL), 0);
    naru_task *task = naru_spawn_in(loop, note_body, "x");
    naru_task_set_name(task, "waits for the run");
    FILE *out = fmemopen(text, sizeof text - 1, "w");
    naru_dump(loop, out);
    fclose(out);
    CONTAINS("task 'waits for the run': not started, spawned at " __FILE__);
    naru_cancel(task);
    CHECK_EQ(naru_run_until(loop, task), -ECANCELED);
    naru_release(task);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TASK_TEST(a_long_name_is_cut_not_broken)
{
    char name[1000];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    naru_task *task = named(name, sleep_for_ever, NULL);
    CHECK_EQ(naru_yield(), 0);
    dump();
    CONTAINS("nnnn");
    CHECK_STR(naru_task_name(task), name);
    naru_cancel(task);
    CHECK_EQ(naru_join(task), -ECANCELED);
}

enum { DEPTH = 5000 };
static bool at_the_bottom;

static int descend(void *depth)
{
    int left = return_number(depth);
    if (left > 0)
        return naru_join(naru_spawn(descend, number(left - 1)));
    at_the_bottom = true;
    return naru_sleep(NARU_FOREVER);
}

TASK_TEST(the_dump_of_a_deep_chain_is_as_long_as_the_chain_not_its_square)
{
    size_t size = 0;
    char *whole = NULL;
    naru_task *top = naru_spawn(descend, number(DEPTH));
    while (!at_the_bottom)
        CHECK_EQ(naru_yield(), 0);
    CHECK_EQ(naru_yield(), 0);
    FILE *out = open_memstream(&whole, &size);
    naru_dump(NULL, out);
    fclose(out);
    CHECK_EQ(times_in(whole, "\n"), DEPTH + 3);
    CHECK_LT(size, DEPTH * 500);
    free(whole);
    naru_cancel(top);
    CHECK_EQ(naru_join(top), -ECANCELED);
}
