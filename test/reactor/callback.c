/* Callbacks: order, batches, cancelling, and that one who is always ready starves nobody. */
#include "test/reactor/common.h"

enum { BATCHES_PER_POLL = 64 };

static naru_loop *loop;

/* A callback that does several things, to be filled in by the test. */
struct actor {
    naru_callback callback;
    void (*act)(struct actor *self);
    int number;
    struct actor *other;
};

static void play(void *arg)
{
    struct actor *self = arg;
    note(ARG(self->number));
    if (self->act)
        self->act(self);
}

static void soon(struct actor *actor)
{
    naru_call_soon(loop, &actor->callback, play, actor);
}

/* LOOP-01 */
TEST(callbacks_run_in_the_order_they_were_queued)
{
    naru_callback callbacks[5] = {0};
    loop = open_loop();
    for (int i = 0; i < 5; i++)
        naru_call_soon(loop, &callbacks[i], note, ARG(i));
    CHECK_EQ(journal.count, 0);
    run_and_close(loop);
    CHECK_JOURNAL(0, 1, 2, 3, 4);
}

static void queue_other(struct actor *self)
{
    soon(self->other);
}

/* LOOP-02: seen by stopping, which ends the run after the current batch. */
TEST(a_callback_queued_by_a_callback_runs_in_the_next_batch)
{
    struct actor second = {.number = 2};
    struct actor first = {.number = 1, .act = queue_other, .other = &second};
    loop = open_loop();
    soon(&first);
    one_round(loop);
    CHECK_JOURNAL(1);
    one_round(loop);
    CHECK_JOURNAL(2);
    run_and_close(loop);
    CHECK_EQ(journal.count, 0);
}

TEST(a_callback_queued_by_a_callback_runs_after_all_that_were_queued_before)
{
    struct actor last = {.number = 9};
    struct actor first = {.number = 1, .act = queue_other, .other = &last};
    struct actor second = {.number = 2};
    loop = open_loop();
    soon(&first);
    soon(&second);
    run_and_close(loop);
    CHECK_JOURNAL(1, 2, 9);
}

TEST(queueing_a_queued_callback_again_moves_it_to_the_end)
{
    naru_callback a = {0}, b = {0}, c = {0};
    loop = open_loop();
    naru_call_soon(loop, &a, note, ARG(1));
    naru_call_soon(loop, &b, note, ARG(2));
    naru_call_soon(loop, &c, note, ARG(3));
    naru_call_soon(loop, &a, note, ARG(4));
    run_and_close(loop);
    CHECK_JOURNAL(2, 3, 4);
}

TEST(queueing_again_from_the_running_batch_postpones_to_the_next)
{
    struct actor later = {.number = 2};
    struct actor first = {.number = 1, .act = queue_other, .other = &later};
    struct actor third = {.number = 3};
    loop = open_loop();
    soon(&first);
    soon(&later);
    soon(&third);
    one_round(loop);
    CHECK_JOURNAL(1, 3);
    run_and_close(loop);
    CHECK_JOURNAL(2);
}

TEST(a_callback_may_queue_itself_again)
{
    struct actor self = {.number = 1, .act = queue_other, .other = &self};
    loop = open_loop();
    soon(&self);
    one_round(loop);
    one_round(loop);
    CHECK_JOURNAL(1, 1);
    CHECK(naru_callback_cancel(&self.callback));
    run_and_close(loop);
    CHECK_EQ(journal.count, 0);
}

/* LOOP-33 */
TEST(a_cancelled_callback_does_not_run)
{
    naru_callback a = {0}, b = {0};
    loop = open_loop();
    naru_call_soon(loop, &a, note, ARG(1));
    naru_call_soon(loop, &b, note, ARG(2));
    CHECK(naru_callback_cancel(&a));
    run_and_close(loop);
    CHECK_JOURNAL(2);
}

/* LOOP-33 */
TEST(cancelling_a_callback_twice_has_no_effect)
{
    naru_callback a = {0};
    loop = open_loop();
    naru_call_soon(loop, &a, note, ARG(1));
    CHECK(naru_callback_cancel(&a));
    CHECK(!naru_callback_cancel(&a));
    run_and_close(loop);
    CHECK_EQ(journal.count, 0);
}

/* LOOP-33 */
TEST(cancelling_a_callback_that_ran_has_no_effect)
{
    naru_callback a = {0};
    loop = open_loop();
    naru_call_soon(loop, &a, note, ARG(1));
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK(!naru_callback_cancel(&a));
    CHECK_JOURNAL(1);
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(cancelling_a_callback_never_queued_has_no_effect)
{
    naru_callback a = {0};
    CHECK(!naru_callback_cancel(&a));
}

TEST(a_cancelled_callback_may_be_queued_again)
{
    naru_callback a = {0}, b = {0};
    loop = open_loop();
    naru_call_soon(loop, &a, note, ARG(1));
    naru_call_soon(loop, &b, note, ARG(2));
    CHECK(naru_callback_cancel(&a));
    naru_call_soon(loop, &a, note, ARG(3));
    run_and_close(loop);
    CHECK_JOURNAL(2, 3);
}

static void cancel_other(struct actor *self)
{
    CHECK(naru_callback_cancel(&self->other->callback));
}

/* LOOP-32 */
TEST(a_callback_cancelled_by_an_earlier_one_of_its_batch_is_skipped)
{
    struct actor victim = {.number = 2};
    struct actor first = {.number = 1, .act = cancel_other, .other = &victim};
    struct actor third = {.number = 3};
    loop = open_loop();
    soon(&first);
    soon(&victim);
    soon(&third);
    run_and_close(loop);
    CHECK_JOURNAL(1, 3);
}

static void cancel_itself(struct actor *self)
{
    CHECK(!naru_callback_cancel(&self->callback));
}

TEST(a_running_callback_is_no_longer_waiting)
{
    struct actor self = {.number = 1, .act = cancel_itself};
    loop = open_loop();
    soon(&self);
    run_and_close(loop);
    CHECK_JOURNAL(1);
}

static void free_itself(struct actor *self)
{
    free(self);
}

TEST(a_callback_may_free_its_own_struct)
{
    loop = open_loop();
    for (int i = 0; i < 3; i++) {
        struct actor *actor = calloc(1, sizeof *actor);
        actor->number = i;
        actor->act = free_itself;
        soon(actor);
    }
    run_and_close(loop);
    CHECK_JOURNAL(0, 1, 2);
}

static void cancel_and_free_other(struct actor *self)
{
    cancel_other(self);
    free(self->other);
}

TEST(a_callback_may_cancel_and_free_the_next_of_its_batch)
{
    struct actor *victim = calloc(1, sizeof *victim);
    struct actor first = {.number = 1, .act = cancel_and_free_other, .other = victim};
    struct actor third = {.number = 3};
    loop = open_loop();
    soon(&first);
    soon(victim);
    soon(&third);
    run_and_close(loop);
    CHECK_JOURNAL(1, 3);
}

static size_t expected_next;

static void count_up(void *arg)
{
    CHECK_EQ((size_t)(uintptr_t)arg, expected_next);
    expected_next++;
}

/* LOOP-01 */
TEST_SLOW(a_million_callbacks_run_in_order, 60)
{
    enum { MANY = 1000000 };
    naru_callback *callbacks = calloc(MANY, sizeof *callbacks);
    loop = open_loop();
    for (size_t i = 0; i < MANY; i++)
        naru_call_soon(loop, &callbacks[i], count_up, (void *)(uintptr_t)i);
    run_and_close(loop);
    CHECK_EQ(expected_next, MANY);
    free(callbacks);
}

/* ---- one that queues itself again and again; LOOP-04 ---- */

/* Turns from 0; at turn 1000 `provoke` makes something happen, whose callback must come within 64 batches. */
static struct {
    naru_callback callback;
    void (*provoke)(void);
    unsigned turns, provoked_at;
} spinner;

enum { WARM_UP = 1000 };

static void spin(void *arg)
{
    (void)arg;
    naru_call_soon(loop, &spinner.callback, spin, NULL);
    if (++spinner.turns == WARM_UP) {
        spinner.provoked_at = spinner.turns;
        spinner.provoke();
    }
    /* Otherwise a starved test would only end by its time limit. */
    CHECK_LE(spinner.turns, WARM_UP + BATCHES_PER_POLL + 1);
}

static void arrive(void *arg)
{
    (void)arg;
    CHECK_GT(spinner.provoked_at, 0);
    CHECK_LE(spinner.turns - spinner.provoked_at, BATCHES_PER_POLL);
    naru_callback_cancel(&spinner.callback);
    naru_loop_stop(loop);
    note(ARG(1));
}

static void spin_until(void (*provoke)(void))
{
    spinner.provoke = provoke;
    naru_call_soon(loop, &spinner.callback, spin, NULL);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK_JOURNAL(1);
}

static naru_timer timer;

static void provoke_timer(void)
{
    naru_timer_start(loop, &timer, naru_now(), arrive, NULL);
}

TEST(a_callback_that_requeues_itself_does_not_starve_timers)
{
    loop = open_loop();
    spin_until(provoke_timer);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static struct ends channel;

static void provoke_pipe(void)
{
    put(channel.write, "x", 1);
}

static void arrive_by_watch(void *arg, int events)
{
    CHECK_EQ(events, POLLIN);
    arrive(arg);
}

TEST(a_callback_that_requeues_itself_does_not_starve_watches)
{
    naru_watch watch = {0};
    loop = open_loop();
    channel = make_pipe();
    CHECK_EQ(naru_watch_start(loop, &watch, channel.read, POLLIN, arrive_by_watch, NULL), 0);
    spin_until(provoke_pipe);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void arrive_by_op(naru_op *op)
{
    CHECK_EQ(op->result, 1);
    arrive(NULL);
}

TEST(a_callback_that_requeues_itself_does_not_starve_operations)
{
    naru_op op;
    char byte;
    loop = open_loop();
    channel = make_pipe();
    naru_op_read(&op, channel.read, &byte, 1);
    naru_op_submit(loop, &op, arrive_by_op, NULL);
    spin_until(provoke_pipe);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void *post_arrival(void *arg)
{
    (void)arg;
    CHECK_EQ(naru_post(loop, arrive, NULL), 0);
    return NULL;
}

static void provoke_post(void)
{
    pthread_join(start_thread(post_arrival, NULL), NULL);
}

TEST(a_callback_that_requeues_itself_does_not_starve_posts)
{
    loop = open_loop();
    spin_until(provoke_post);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void provoke_signal(void)
{
    CHECK_EQ(raise(SIGUSR1), 0);
}

TEST(a_callback_that_requeues_itself_does_not_starve_signals)
{
    naru_signal usr1 = {0};
    loop = open_loop();
    CHECK_EQ(naru_signal_start(loop, &usr1, SIGUSR1, arrive, NULL), 0);
    spin_until(provoke_signal);
    CHECK_EQ(naru_loop_close(loop), 0);
}
