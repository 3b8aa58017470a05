/* Timers: never before their deadline, in order of deadlines, equals in order of start. */
#include "test/reactor/common.h"

#include <stdlib.h>

static naru_loop *loop;

static void busy_wait_until(int64_t time)
{
    while (naru_now() < time)
        continue;
}

static void check_due(void *arg)
{
    const naru_timer *timer = arg;
    CHECK_GE(naru_now(), timer->deadline);
    note(ARG(1));
}

/* TIMER-02 */
TEST(a_timer_is_called_once_and_not_before_its_deadline)
{
    naru_timer timer = {0};
    int64_t deadline = naru_now() + NARU_MS(20);
    loop = open_loop();
    naru_timer_start(loop, &timer, deadline, check_due, &timer);
    CHECK_EQ(timer.deadline, deadline);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

/* TIMER-02 */
TEST(a_timer_after_a_delay_counts_from_now)
{
    naru_timer timer = {0};
    loop = open_loop();
    int64_t before = naru_now();
    naru_timer_after(loop, &timer, NARU_MS(20), check_due, &timer);
    int64_t after = naru_now();
    CHECK_GE(timer.deadline, before + NARU_MS(20));
    CHECK_LE(timer.deadline, after + NARU_MS(20));
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

TEST(a_delay_of_zero_runs_in_the_next_round)
{
    naru_timer timer = {0};
    loop = open_loop();
    naru_timer_after(loop, &timer, 0, note, ARG(1));
    CHECK_EQ(journal.count, 0);
    one_round(loop);
    CHECK_JOURNAL(1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* TIMER-03 */
TEST(timers_due_together_run_in_order_of_deadline)
{
    naru_timer timers[4] = {0};
    int64_t now = naru_now();
    loop = open_loop();
    naru_timer_start(loop, &timers[0], now + 30, note, ARG(3));
    naru_timer_start(loop, &timers[1], now + 10, note, ARG(1));
    naru_timer_start(loop, &timers[2], now + 40, note, ARG(4));
    naru_timer_start(loop, &timers[3], now + 20, note, ARG(2));
    busy_wait_until(now + 40);
    run_and_close(loop);
    CHECK_JOURNAL(1, 2, 3, 4);
}

/* TIMER-03 */
TEST(a_more_negative_delay_comes_first)
{
    naru_timer timers[4] = {0};
    loop = open_loop();
    naru_timer_after(loop, &timers[0], 0, note, ARG(4));
    naru_timer_after(loop, &timers[1], NARU_SEC(-1), note, ARG(3));
    naru_timer_after(loop, &timers[2], NARU_SEC(-10), note, ARG(2));
    naru_timer_after(loop, &timers[3], INT64_MIN, note, ARG(1));
    run_and_close(loop);
    CHECK_JOURNAL(1, 2, 3, 4);
}

/* TIMER-04 */
TEST(timers_of_equal_deadline_run_in_order_of_start)
{
    naru_timer timers[4] = {0};
    int64_t deadline = naru_now() + NARU_MS(1);
    loop = open_loop();
    for (int i = 0; i < 4; i++)
        naru_timer_start(loop, &timers[i], deadline, note, ARG(i));
    run_and_close(loop);
    CHECK_JOURNAL(0, 1, 2, 3);
}

TEST(restarting_a_timer_moves_it_and_puts_it_behind_its_equals)
{
    naru_timer timers[3] = {0};
    int64_t deadline = naru_now() + NARU_MS(1);
    loop = open_loop();
    naru_timer_start(loop, &timers[0], deadline + NARU_SEC(3600), note, ARG(9));
    for (int i = 1; i < 3; i++)
        naru_timer_start(loop, &timers[i], deadline, note, ARG(i));
    naru_timer_start(loop, &timers[0], deadline, note, ARG(3));
    naru_timer_start(loop, &timers[1], deadline, note, ARG(4));
    CHECK_EQ(timers[0].deadline, deadline);
    run_and_close(loop);
    CHECK_JOURNAL(2, 3, 4);
}

/* TIMER-05 */
TEST(a_due_timer_runs_after_the_callbacks_that_were_ready_before)
{
    naru_timer timer = {0};
    naru_callback callback = {0};
    loop = open_loop();
    naru_timer_start(loop, &timer, 0, note, ARG(2));
    naru_call_soon(loop, &callback, note, ARG(1));
    run_and_close(loop);
    CHECK_JOURNAL(1, 2);
}

TEST(a_stopped_timer_is_not_called)
{
    naru_timer timers[2] = {0};
    loop = open_loop();
    naru_timer_after(loop, &timers[0], NARU_MS(1), note, ARG(1));
    naru_timer_after(loop, &timers[1], NARU_MS(2), note, ARG(2));
    CHECK(naru_timer_stop(&timers[0]));
    CHECK(!naru_timer_stop(&timers[0]));
    run_and_close(loop);
    CHECK_JOURNAL(2);
}

TEST(stopping_the_last_timer_lets_the_loop_end)
{
    naru_timer timer = {0};
    loop = open_loop();
    naru_timer_after(loop, &timer, NARU_SEC(3600), note, ARG(1));
    CHECK(naru_timer_stop(&timer));
    run_and_close(loop);
    CHECK_EQ(journal.count, 0);
}

/* TIMER-11 */
TEST(stopping_a_timer_that_ran_has_no_effect)
{
    naru_timer timer = {0};
    loop = open_loop();
    CHECK(!naru_timer_stop(&timer));
    naru_timer_after(loop, &timer, 0, note, ARG(1));
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK(!naru_timer_stop(&timer));
    CHECK_JOURNAL(1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* TIMER-12 */
TEST(the_deadline_stays_readable_after_stop_and_call)
{
    naru_timer called = {0}, stopped = {0};
    loop = open_loop();
    naru_timer_start(loop, &called, 1234, note, ARG(1));
    naru_timer_start(loop, &stopped, NARU_FOREVER, note, ARG(2));
    CHECK(naru_timer_stop(&stopped));
    run_and_close(loop);
    CHECK_JOURNAL(1);
    CHECK_EQ(called.deadline, 1234);
    CHECK_EQ(stopped.deadline, NARU_FOREVER);
}

static naru_timer mine, other;

static void stop_itself(void *arg)
{
    CHECK(!naru_timer_stop(&mine));
    note(arg);
}

TEST(a_timer_is_not_running_in_its_own_callback)
{
    loop = open_loop();
    naru_timer_after(loop, &mine, 0, stop_itself, ARG(1));
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

static void stop_other(void *arg)
{
    CHECK(naru_timer_stop(&other));
    note(arg);
}

/* TIMER-10 */
TEST(a_timer_stopped_by_an_earlier_one_of_its_batch_is_not_called)
{
    naru_timer third = {0};
    loop = open_loop();
    naru_timer_start(loop, &mine, 1, stop_other, ARG(1));
    naru_timer_start(loop, &other, 2, note, ARG(2));
    naru_timer_start(loop, &third, 3, note, ARG(3));
    run_and_close(loop);
    CHECK_JOURNAL(1, 3);
}

static void restart_other(void *arg)
{
    note(arg);
    naru_timer_after(loop, &other, NARU_MS(1), note, ARG(9));
}

TEST(a_timer_restarted_by_an_earlier_one_of_its_batch_is_called_at_its_new_time_only)
{
    naru_timer third = {0};
    loop = open_loop();
    naru_timer_start(loop, &mine, 1, restart_other, ARG(1));
    naru_timer_start(loop, &other, 2, note, ARG(2));
    naru_timer_start(loop, &third, 3, note, ARG(3));
    run_and_close(loop);
    CHECK_JOURNAL(1, 3, 9);
}

static void restart_itself(void *arg)
{
    int left = (int)(intptr_t)arg;
    CHECK_GE(naru_now(), mine.deadline);
    note(arg);
    if (left > 1)
        naru_timer_start(loop, &mine, mine.deadline + NARU_US(100), restart_itself, ARG(left - 1));
}

TEST(a_timer_may_restart_itself)
{
    loop = open_loop();
    naru_timer_after(loop, &mine, 0, restart_itself, ARG(3));
    run_and_close(loop);
    CHECK_JOURNAL(3, 2, 1);
}

static void restart_in_the_past(void *arg)
{
    note(arg);
    naru_timer_start(loop, &mine, INT64_MIN, restart_in_the_past, arg);
    naru_loop_stop(loop);
}

TEST(a_timer_that_restarts_itself_in_the_past_runs_once_per_round)
{
    naru_timer far = {0};
    loop = open_loop();
    naru_timer_after(loop, &far, 0, note, ARG(2));
    naru_timer_start(loop, &mine, INT64_MIN, restart_in_the_past, ARG(1));
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(1, 2);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void free_timer(void *timer)
{
    free(timer);
    note(ARG(1));
}

TEST(a_timer_may_be_freed_in_its_own_callback)
{
    loop = open_loop();
    for (int i = 0; i < 3; i++) {
        naru_timer *timer = calloc(1, sizeof *timer);
        naru_timer_after(loop, timer, i, free_timer, timer);
    }
    run_and_close(loop);
    CHECK_JOURNAL(1, 1, 1);
}

TEST(a_delay_beyond_the_end_of_time_saturates)
{
    naru_timer timers[3] = {0};
    naru_timer stop = {0};
    loop = open_loop();
    naru_timer_after(loop, &timers[0], NARU_FOREVER, note, ARG(1));
    naru_timer_after(loop, &timers[1], NARU_FOREVER - 1, note, ARG(2));
    naru_timer_start(loop, &timers[2], NARU_FOREVER, note, ARG(3));
    CHECK_EQ(timers[0].deadline, NARU_FOREVER);
    CHECK_EQ(timers[1].deadline, NARU_FOREVER);
    naru_timer_after(loop, &stop, NARU_MS(1), stop_loop, loop);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_EQ(journal.count, 0);
    for (int i = 0; i < 3; i++)
        CHECK(naru_timer_stop(&timers[i]));
    CHECK_EQ(naru_loop_close(loop), 0);
}

/* TIMER-14: the wait for it does not overflow; a post ends it. */
static void *post_stop(void *arg)
{
    CHECK_EQ(naru_post(arg, stop_loop, arg), 0);
    return NULL;
}

TEST(a_loop_may_wait_for_a_timer_that_is_years_away)
{
    for (int years = 1; years < 290; years *= 2) {
        naru_timer timer = {0};
        loop = open_loop();
        naru_timer_after(loop, &timer, years * NARU_SEC(31557600), note, ARG(1));
        pthread_t thread = start_thread(post_stop, loop);
        CHECK_EQ(naru_loop_run(loop), 0);
        pthread_join(thread, NULL);
        CHECK(naru_timer_stop(&timer));
        CHECK_EQ(naru_loop_close(loop), 0);
    }
    CHECK_EQ(journal.count, 0);
}

/* ---- many, against a reference ---- */

struct numbered {
    naru_timer timer;
    uint64_t start; /* the number of its last start */
    bool running;
};

static struct {
    struct numbered *timers;
    const struct numbered **expected;
    size_t count, next;
} many;

static uint64_t random_state = 88172645463325252;

static uint64_t random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void check_turn(void *arg)
{
    struct numbered *timer = arg;
    CHECK_LT(many.next, many.count);
    CHECK_PTR(timer, many.expected[many.next]);
    CHECK_GE(naru_now(), timer->timer.deadline);
    many.next++;
}

static int by_deadline_and_start(const void *a, const void *b)
{
    const struct numbered *x = *(const struct numbered *const *)a, *y = *(const struct numbered *const *)b;
    if (x->timer.deadline != y->timer.deadline)
        return x->timer.deadline < y->timer.deadline ? -1 : 1;
    return x->start < y->start ? -1 : 1;
}

/* Starts `total` timers at random, starts again or stops some, and prepares the order in which they must come. */
static void start_many(size_t total, int64_t (*deadline)(void))
{
    uint64_t starts = 0;
    many.timers = calloc(total, sizeof *many.timers);
    many.expected = calloc(total, sizeof *many.expected);
    for (size_t i = 0; i < total + total / 4; i++) {
        struct numbered *timer = &many.timers[i < total ? i : random_number() % total];
        timer->start = ++starts;
        timer->running = true;
        naru_timer_start(loop, &timer->timer, deadline(), check_turn, timer);
    }
    for (size_t i = 0; i < total / 5; i++) {
        struct numbered *timer = &many.timers[random_number() % total];
        CHECK_EQ(naru_timer_stop(&timer->timer), timer->running);
        timer->running = false;
    }
    for (size_t i = 0; i < total; i++)
        if (many.timers[i].running)
            many.expected[many.count++] = &many.timers[i];
    qsort(many.expected, many.count, sizeof(void *), by_deadline_and_start);
}

static void end_many(void)
{
    CHECK_EQ(many.next, many.count);
    free(many.timers);
    free(many.expected);
}

static int64_t base;

/* Of every kind that is due within 20 ms of base: before all time, long ago, around now, and equal ones of each. */
static int64_t any_due_deadline(void)
{
    switch (random_number() % 8) {
    case 0:
        return INT64_MIN + (int64_t)(random_number() % 3);
    case 1:
        return (int64_t)(random_number() % 100) - 50;
    case 2:
        return base - (int64_t)(random_number() % 1000);
    case 3:
        return base - (int64_t)(random_number() >> (1 + random_number() % 62));
    case 4:
        return base + (int64_t)(random_number() % 50);
    case 5:
        return base + (int64_t)(random_number() % 100000);
    default:
        return base + (int64_t)(random_number() % NARU_MS(20));
    }
}

/* TIMER-03, TIMER-04 */
TEST_SLOW(a_hundred_thousand_timers_due_at_once_run_in_exact_order, 60)
{
    naru_timer never = {0};
    loop = open_loop();
    base = naru_now();
    start_many(100000, any_due_deadline);
    naru_timer_start(loop, &never, INT64_MAX, note, ARG(1));
    busy_wait_until(base + NARU_MS(20));
    one_round(loop);
    end_many();
    CHECK(naru_timer_stop(&never));
    run_and_close(loop);
    CHECK_EQ(journal.count, 0);
}

static int64_t deadline_within_200_ms(void)
{
    /* Every other one shares its deadline with some more. */
    int64_t after = (int64_t)(random_number() % NARU_MS(200));
    return base + (random_number() % 2 ? after : after / NARU_MS(1) * NARU_MS(1));
}

/* TIMER-02, TIMER-03, TIMER-04 */
TEST_SLOW(timers_spread_over_time_run_in_exact_order_and_never_early, 60)
{
    loop = open_loop();
    base = naru_now();
    start_many(50000, deadline_within_200_ms);
    run_and_close(loop);
    end_many();
}

/* TIMER-09: nothing of a stopped timer stays behind, so one struct serves for all of them. */
TEST(a_million_far_timers_may_be_started_and_stopped)
{
    naru_timer timer = {0};
    loop = open_loop();
    for (int i = 0; i < 1000000; i++) {
        naru_timer_after(loop, &timer, NARU_SEC(3600) + i * NARU_MS(7), note, ARG(1));
        CHECK(naru_timer_stop(&timer));
    }
    run_and_close(loop);
    CHECK_EQ(journal.count, 0);
}
