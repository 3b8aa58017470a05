/* Posts: from any thread, in order, waking, and never through a door that is closed. */
#include "test/reactor/common.h"

#include <sched.h>
#include <stdatomic.h>

static naru_loop *loop;

static void *post_note(void *arg)
{
    CHECK_EQ(naru_post(loop, note, arg), 0);
    return NULL;
}

TEST(a_post_runs_on_the_loops_thread)
{
    loop = open_loop();
    pthread_join(start_thread(post_note, ARG(1)), NULL);
    CHECK_EQ(journal.count, 0);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

static void note_and_stop(void *arg)
{
    note(arg);
    naru_loop_stop(loop);
}

static void *post_and_stop(void *arg)
{
    CHECK_EQ(naru_post(loop, note_and_stop, arg), 0);
    return NULL;
}

/* THR-01: often, so that the post hits the loop before, while and after it falls asleep. */
TEST(a_post_wakes_a_loop_that_sleeps)
{
    loop = open_loop();
    naru_loop_hold(loop);
    for (int i = 0; i < 500; i++) {
        pthread_t thread = start_thread(post_and_stop, ARG(1));
        CHECK_EQ(naru_loop_run(loop), 0);
        pthread_join(thread, NULL);
        CHECK_JOURNAL(1);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}

static atomic_int waiting_for;

static void answer(void *arg)
{
    atomic_store(&waiting_for, (int)(intptr_t)arg);
    if ((intptr_t)arg == 0)
        naru_loop_stop(loop);
}

static void *ask_and_wait(void *arg)
{
    for (int i = 20000; i >= 0; i--) {
        CHECK_EQ(naru_post(loop, answer, ARG(i)), 0);
        while (atomic_load(&waiting_for) != i)
            continue; /* so that the loop falls asleep in between */
    }
    return arg;
}

/* THR-01: a lost wake-up would hang it. */
TEST_SLOW(no_wake_up_is_lost_in_many_round_trips, 60)
{
    loop = open_loop();
    naru_loop_hold(loop);
    atomic_store(&waiting_for, -1);
    pthread_t thread = start_thread(ask_and_wait, NULL);
    CHECK_EQ(naru_loop_run(loop), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static naru_callback before, after;

static void queue_around_a_post(void *arg)
{
    naru_call_soon(loop, &before, note, ARG(1));
    CHECK_EQ(naru_post(loop, note, ARG(2)), 0);
    naru_call_soon(loop, &after, note, ARG(3));
    CHECK_EQ(naru_post(loop, note, ARG(4)), 0);
    note(arg);
}

/* THR-02 */
TEST(a_post_from_the_loops_own_thread_keeps_its_place_among_callbacks)
{
    naru_callback a = {0};
    loop = open_loop();
    naru_call_soon(loop, &a, queue_around_a_post, ARG(0));
    run_and_close(loop);
    CHECK_JOURNAL(0, 1, 2, 3, 4);
}

static int posts_left;

static void post_again(void *arg)
{
    note(arg);
    if (--posts_left > 0)
        CHECK_EQ(naru_post(loop, post_again, arg), 0);
}

TEST(a_post_may_post_again)
{
    loop = open_loop();
    posts_left = 3;
    CHECK_EQ(naru_post(loop, post_again, ARG(1)), 0);
    run_and_close(loop);
    CHECK_JOURNAL(1, 1, 1);
}

TEST(a_waiting_post_keeps_the_loop_from_ending)
{
    loop = open_loop();
    CHECK_EQ(naru_post(loop, note, ARG(1)), 0);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

enum { THREADS = 4, POSTS = 100000 };

static int received[THREADS];

static void receive(void *arg)
{
    intptr_t n = (intptr_t)arg;
    intptr_t sender = n % THREADS;
    CHECK_EQ(n / THREADS, received[sender]);
    received[sender]++;
}

static void *post_many(void *arg)
{
    for (intptr_t i = 0; i < POSTS; i++)
        CHECK_EQ(naru_post(loop, receive, ARG(i * THREADS + (intptr_t)arg)), 0);
    naru_loop_unhold(loop);
    return NULL;
}

TEST_SLOW(posts_of_several_threads_all_arrive_each_threads_in_order, 60)
{
    pthread_t threads[THREADS];
    loop = open_loop();
    for (int i = 0; i < THREADS; i++) {
        naru_loop_hold(loop);
        threads[i] = start_thread(post_many, ARG(i));
    }
    CHECK_EQ(naru_loop_run(loop), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ(received[i], POSTS);
    }
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* ---- closing; THR-04 ---- */

static void *post_until_closed(void *arg)
{
    int rc;
    while ((rc = naru_post(arg, note, ARG(1))) == 0)
        continue;
    CHECK_EQ(rc, -ESHUTDOWN);
    CHECK_EQ(naru_post(arg, note, ARG(1)), -ESHUTDOWN);
    return NULL;
}

/* THR-04: with the number of the wake-up descriptor used again at once, so that a late write would be seen. */
TEST_SLOW(a_post_that_races_with_close_is_taken_or_refused_and_writes_nowhere_else, 60)
{
    for (int i = 0; i < 300; i++) {
        pthread_t threads[2];
        loop = open_loop();
        int next = dup(0);
        close(next);
        for (int j = 0; j < 2; j++)
            threads[j] = start_thread(post_until_closed, loop);
        for (int j = 0; j < i % 7; j++)
            sched_yield();
        CHECK_EQ(naru_loop_close(loop), 0);
        struct ends ends[2] = {make_pipe(), make_pipe()}; /* takes the numbers */
        CHECK_LT(ends[0].read, next);
        for (int j = 0; j < 2; j++)
            pthread_join(threads[j], NULL);
        for (int j = 0; j < 2; j++) {
            struct pollfd ready = {.fd = ends[j].read, .events = POLLIN};
            CHECK_EQ(poll(&ready, 1, 0), 0);
            close(ends[j].read);
            close(ends[j].write);
        }
    }
    CHECK_EQ(journal.count, 0);
}

static void *hold_and_unhold(void *arg)
{
    for (int i = 0; i < 10000; i++) {
        naru_loop_hold(arg);
        naru_loop_unhold(arg);
    }
    return NULL;
}

TEST(holding_may_race_with_run_and_close)
{
    for (int i = 0; i < 20; i++) {
        loop = open_loop();
        pthread_t thread = start_thread(hold_and_unhold, loop);
        CHECK_EQ(naru_loop_run(loop), 0);
        CHECK_EQ(naru_loop_close(loop), 0);
        pthread_join(thread, NULL);
    }
}

TEST(a_post_to_a_closed_loop_is_refused_for_ever)
{
    loop = open_loop();
    CHECK_EQ(naru_loop_close(loop), 0);
    naru_loop *next = open_loop(); /* does not take the tombstone's place */
    CHECK(next != loop);
    CHECK_EQ(naru_post(loop, note, ARG(1)), -ESHUTDOWN);
    CHECK_EQ(naru_loop_close(next), 0);
    CHECK_EQ(naru_post(loop, note, ARG(1)), -ESHUTDOWN);
}
