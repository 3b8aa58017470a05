/* What went wrong, in words. */
#include "helpers.h"

#include <pthread.h>

static int fail_politely(void *what)
{
    return naru_fail(-EPROTO, "line %d: %s", 7, (char *)what);
}

TASK_TEST(fail_returns_its_code_and_the_task_has_the_words)
{
    naru_task *task = naru_spawn(fail_politely, "bad verb");
    CHECK_EQ(naru_await(task), -EPROTO);
    CHECK_STR(naru_error_message(task), "line 7: bad verb");
    naru_release(task);
}

TASK_TEST(a_task_that_said_nothing_has_no_words)
{
    naru_task *task = naru_spawn(return_number, number(-EIO));
    CHECK_STR(naru_error_message(task), ""); /* pending */
    CHECK_EQ(naru_await(task), -EIO);
    CHECK_STR(naru_error_message(task), "");
    naru_release(task);
}

static int fail_and_recover(void *arg)
{
    (void)arg;
    fail_politely("recovered");
    return 0;
}

static int fail_with_another_code(void *arg)
{
    (void)arg;
    fail_politely("first");
    return -EIO;
}

TASK_TEST(words_said_with_another_code_are_not_told)
{
    naru_task *task = naru_spawn(fail_and_recover, NULL);
    CHECK_EQ(naru_await(task), 0);
    CHECK_STR(naru_error_message(task), "");
    naru_release(task);
    task = naru_spawn(fail_with_another_code, NULL);
    CHECK_EQ(naru_await(task), -EIO);
    CHECK_STR(naru_error_message(task), "");
    CHECK_STR(naru_strerror(-EIO), strerror(EIO));
    naru_release(task);
}

static int fail_twice(void *arg)
{
    (void)arg;
    fail_politely("first");
    return fail_politely("second");
}

TASK_TEST(the_last_words_count)
{
    naru_task *task = naru_spawn(fail_twice, NULL);
    CHECK_EQ(naru_await(task), -EPROTO);
    CHECK_STR(naru_error_message(task), "line 7: second");
    naru_release(task);
}

static int join_polite(void *depth)
{
    int left = return_number(depth);
    return naru_join(left == 0 ? naru_spawn(fail_politely, "deep")
                               : naru_spawn(join_polite, number(left - 1)));
}

TASK_TEST(the_words_come_up_with_the_error_through_every_await)
{
    naru_task *task = naru_spawn(join_polite, number(10));
    CHECK_EQ(naru_await(task), -EPROTO);
    CHECK_STR(naru_error_message(task), "line 7: deep");
    CHECK_STR(naru_strerror(-EPROTO), "line 7: deep");
    CHECK_STR(naru_strerror(EPROTO), "line 7: deep");
    naru_release(task);
    CHECK_STR(naru_strerror(-EPROTO), "line 7: deep"); /* counted, not borrowed */
}

TEST(strerror_without_words_is_the_systems)
{
    CHECK_STR(naru_strerror(-ENOENT), strerror(ENOENT));
    CHECK_STR(naru_strerror(ENOENT), strerror(ENOENT));
    CHECK(naru_strerror(-99999) != NULL);
    CHECK(naru_strerror(INT32_MIN) != NULL);
}

TEST(after_a_run_strerror_knows_what_main_said)
{
    CHECK_EQ(naru_run(join_polite, number(2)), -EPROTO);
    CHECK_STR(naru_strerror(-EPROTO), "line 7: deep");
    CHECK_EQ(naru_run(return_number, number(-EPROTO)), -EPROTO);
    CHECK_STR(naru_strerror(-EPROTO), strerror(EPROTO)); /* the next run said nothing */
}

TEST(fail_outside_a_task_is_for_the_thread)
{
    CHECK_EQ(fail_politely("thread"), -EPROTO);
    CHECK_STR(naru_strerror(-EPROTO), "line 7: thread");
}

static void *no_words_here(void *arg)
{
    (void)arg;
    CHECK_STR(naru_strerror(-EPROTO), strerror(EPROTO));
    fail_politely("other thread"); /* freed with the thread */
    return NULL;
}

TEST(the_words_of_one_thread_are_not_anothers)
{
    pthread_t thread;
    fail_politely("mine");
    CHECK_EQ(pthread_create(&thread, NULL, no_words_here, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_STR(naru_strerror(-EPROTO), "line 7: mine");
    CHECK_EQ(naru_run(return_number, NULL), 0);
}

static int fail_at_length(void *arg)
{
    (void)arg;
    static char text[5000];
    memset(text, 'x', sizeof text - 1);
    return naru_fail(-EPROTO, "%s", text);
}

TASK_TEST(words_may_be_long)
{
    naru_task *task = naru_spawn(fail_at_length, NULL);
    CHECK_EQ(naru_await(task), -EPROTO);
    CHECK_EQ(strlen(naru_error_message(task)), 4999);
    naru_release(task);
}

static int fail_unseen(void *fn)
{
    naru_release(naru_spawn((naru_fn *)fn, "for the log"));
    settle();
    return 0;
}

TEST(the_report_of_an_unseen_error_has_the_words)
{
    CHECK_EQ(run_recorded(0, fail_unseen, (void *)fail_politely), 0);
    CHECK(strstr(reports, "line 7: for the log") != NULL);
}

TEST(the_report_of_a_long_unseen_error_is_cut_not_broken)
{
    CHECK_EQ(run_recorded(0, fail_unseen, (void *)fail_at_length), 0);
    CHECK_EQ(report_count, 1);
    CHECK(strstr(reports, "xxxx") != NULL);
}
