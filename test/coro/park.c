/* The one way to wait: the semaphore of park.h, word for word, and a lock that is handed on. */
#include "helpers.h"

#include "coro/park.h"

/* ---- the semaphore of the comment ---- */

struct semaphore {
    naru_link line;
    int permits;
};

static const struct naru__wait_kind semaphore_kind = {.what = "semaphore"};

static void release(struct semaphore *s)
{
    if (!naru__wake_first(&s->line))
        s->permits++;
}

static int acquire(struct semaphore *s)
{
    if (s->permits > 0 && naru__ring_empty(&s->line)) {
        s->permits--;
        return 0;
    }
    struct naru__waiter me;
    int rc = naru__wait_in_line(&s->line, &me, &semaphore_kind, s);
    if (rc < 0 && me.given)
        release(s);
    return rc;
}

static struct semaphore semaphore;

static int acquire_and_note(void *name)
{
    int rc = acquire(&semaphore);
    if (rc == 0)
        note(name);
    return rc;
}

/* Several in line, in order. */
static void queue_up(naru_task **tasks, int count)
{
    static const char *const names[] = {"1", "2", "3", "4", "5", "6"};
    naru__ring_ready(&semaphore.line);
    for (int i = 0; i < count; i++)
        tasks[i] = naru_spawn(acquire_and_note, (void *)(uintptr_t)names[i]);
    CHECK_EQ(naru_yield(), 0);
}

TASK_TEST(zeroed_memory_is_a_line_in_which_nobody_stands)
{
    naru_link line = {0};
    CHECK(!naru__wake_first(&line));
    CHECK(!naru__wake_first(&line));
}

TASK_TEST(waiters_are_served_first_come_first)
{
    naru_task *tasks[3];
    queue_up(tasks, 3);
    release(&semaphore);
    release(&semaphore);
    release(&semaphore);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(naru_join(tasks[i]), 0);
    CHECK_STR(trace, "1 2 3");
    CHECK_EQ(semaphore.permits, 0);
}

TASK_TEST(a_permit_given_to_one_who_is_cancelled_before_it_resumes_goes_to_the_next)
{
    naru_task *tasks[3];
    queue_up(tasks, 3);
    release(&semaphore);
    CHECK(naru_cancel(tasks[0]));
    CHECK_EQ(naru_join(tasks[0]), -ECANCELED);
    settle();
    CHECK_STR(trace, "2");
    CHECK_EQ(naru_join(tasks[1]), 0);
    CHECK_EQ(naru_cancel_all(&tasks[2], 1), 0);
    naru_release(tasks[2]);
    CHECK_EQ(semaphore.permits, 0);
}

TASK_TEST(a_permit_whose_every_taker_is_cancelled_is_not_lost)
{
    naru_task *tasks[5];
    queue_up(tasks, 5);
    release(&semaphore);
    release(&semaphore);
    for (int i = 0; i < 5; i++)
        CHECK(naru_cancel(tasks[i]));
    for (int i = 0; i < 5; i++)
        CHECK_EQ(naru_join(tasks[i]), -ECANCELED);
    CHECK_STR(trace, "");
    CHECK_EQ(semaphore.permits, 2);
}

TASK_TEST(wake_first_passes_over_those_who_are_leaving_already)
{
    naru_task *tasks[3];
    queue_up(tasks, 3);
    CHECK(naru_cancel(tasks[0]));
    CHECK(naru_cancel(tasks[1]));
    release(&semaphore); /* for the third */
    for (int i = 0; i < 3; i++)
        CHECK_EQ(naru_join(tasks[i]), i < 2 ? -ECANCELED : 0);
    CHECK_STR(trace, "3");
    CHECK_EQ(semaphore.permits, 0);
}

TASK_TEST(cancelling_in_the_middle_leaves_the_others_in_order)
{
    naru_task *tasks[4];
    queue_up(tasks, 4);
    CHECK(naru_cancel(tasks[1]));
    CHECK_EQ(naru_join(tasks[1]), -ECANCELED);
    for (int i = 0; i < 3; i++)
        release(&semaphore);
    for (int i = 0; i < 4; i++)
        if (i != 1)
            CHECK_EQ(naru_join(tasks[i]), 0);
    CHECK_STR(trace, "1 3 4");
}

static int acquire_cancelled(void *arg)
{
    (void)arg;
    naru_cancel(naru_self());
    CHECK_EQ(acquire(&semaphore), -ECANCELED);
    CHECK_EQ(acquire(&semaphore), 0);
    return 0;
}

TASK_TEST(a_pending_request_is_delivered_by_the_wait_in_line)
{
    naru__ring_ready(&semaphore.line);
    naru_task *task = naru_spawn(acquire_cancelled, NULL);
    settle();
    CHECK(!naru_done(task));
    release(&semaphore);
    CHECK_EQ(naru_join(task), 0);
    CHECK_EQ(semaphore.permits, 0);
}

/* Every way in which release, cancel and resume of two waiters can follow each other. */
TASK_TEST(no_interleaving_loses_or_doubles_a_permit)
{
    for (int plan = 0; plan < 4 * 4 * 4 * 4; plan++) {
        naru_task *tasks[2];
        int released = 0, taken = 0;
        semaphore = (struct semaphore){{NULL, NULL}, 0};
        queue_up(tasks, 2);
        for (int step = 0, rest = plan; step < 4; step++, rest /= 4) {
            switch (rest % 4) {
            case 0:
                release(&semaphore);
                released++;
                break;
            case 1:
                naru_cancel(tasks[0]);
                break;
            case 2:
                naru_cancel(tasks[1]);
                break;
            default:
                CHECK_EQ(naru_yield(), 0);
            }
        }
        settle();
        for (int i = 0; i < 2; i++) {
            taken += naru_done(tasks[i]) && naru_result(tasks[i]) == 0;
            CHECK(naru_done(tasks[i]) || semaphore.permits == 0);
        }
        CHECK_EQ(semaphore.permits + taken, released);
        CHECK_EQ(naru_cancel_all(tasks, 2), 0);
        naru_release_all(tasks, 2);
    }
}

/* ---- a lock that is handed from one to the next ---- */

struct lock {
    naru_link line;
    bool locked; /* stays so while it is handed from one to the next: nobody gets in between */
};

static const struct naru__wait_kind lock_kind = {.what = "lock"};

static void unlock(struct lock *l)
{
    if (!naru__wake_first(&l->line))
        l->locked = false;
}

static int lock(struct lock *l)
{
    if (!l->locked) {
        l->locked = true;
        return 0;
    }
    struct naru__waiter me;
    int rc = naru__wait_in_line(&l->line, &me, &lock_kind, l);
    if (rc < 0 && me.given)
        unlock(l);
    return rc;
}

static struct lock shared_lock;
static int inside, entered;

static int work_under_lock(void *rounds)
{
    for (int i = 0; i < return_number(rounds); i++) {
        int rc = lock(&shared_lock);
        if (rc < 0)
            return rc;
        CHECK_EQ(++inside, 1);
        entered++;
        rc = naru_yield();
        inside--;
        unlock(&shared_lock);
        if (rc < 0)
            return rc;
    }
    return 0;
}

TASK_TEST(a_lock_never_has_two_inside_and_never_stays_behind_whoever_is_cancelled)
{
    enum { WORKERS = 20, ROUNDS = 30 };
    naru_task *tasks[WORKERS];
    uint32_t random = 12345;
    for (int i = 0; i < WORKERS; i++)
        tasks[i] = naru_spawn(work_under_lock, number(ROUNDS));
    for (int i = 0; i < WORKERS - 1; i++) {
        random = random * 1664525 + 1013904223;
        for (unsigned j = 0; j < random >> 28; j++)
            CHECK_EQ(naru_yield(), 0);
        naru_cancel(tasks[i]);
    }
    CHECK_EQ(naru_await(tasks[WORKERS - 1]), 0); /* the one that was left alone got all its turns */
    for (int i = 0; i < WORKERS; i++)
        naru_join(tasks[i]);
    CHECK_EQ(inside, 0);
    CHECK(!shared_lock.locked);
    CHECK_GE(entered, ROUNDS);
}

/* ---- the primitive ---- */

static const struct naru__wait_kind plain_kind = {.what = "test"};

static int park_plainly(void *arg)
{
    return naru__park(&plain_kind, arg);
}

TASK_TEST(a_park_ends_exactly_once_and_the_first_waker_counts)
{
    naru_task *task = naru_spawn(park_plainly, NULL);
    CHECK(!naru__wake(task, 1)); /* not parked yet */
    CHECK_EQ(naru_yield(), 0);
    CHECK(naru__wake(task, 2));
    CHECK(!naru__wake(task, 3));
    CHECK_EQ(naru_await(task), 2);
    CHECK(!naru__wake(task, 4));
    naru_release(task);
}

TASK_TEST(waking_one_who_was_cancelled_is_refused)
{
    naru_task *task = naru_spawn(park_plainly, NULL);
    CHECK_EQ(naru_yield(), 0);
    CHECK(naru_cancel(task));
    CHECK(!naru__wake(task, 2));
    CHECK_EQ(naru_join(task), -ECANCELED);
}

static int cancel_calls;

static void count_cancel(naru_task *task, void *object)
{
    (void)task;
    (void)object;
    cancel_calls++;
}

static const struct naru__wait_kind io_kind = {.what = "io", .result_wins = true, .cancel = count_cancel};

static int park_for_io(void *arg)
{
    int rc = naru__park(&io_kind, arg);
    CHECK_EQ(naru__check_cancel(), return_number(arg) ? -ECANCELED : 0);
    return rc;
}

TASK_TEST(a_kind_whose_result_wins_delivers_it_and_the_request_stays_pending)
{
    naru_task *task = naru_spawn(park_for_io, number(1));
    CHECK_EQ(naru_yield(), 0);
    CHECK(naru_cancel(task));
    CHECK_EQ(cancel_calls, 1);
    CHECK(naru__wake(task, 17));
    CHECK_EQ(naru_join(task), 17);
}

TASK_TEST(a_kind_whose_result_wins_keeps_it_also_when_cancelled_after_the_wake_up)
{
    naru_task *task = naru_spawn(park_for_io, number(1));
    CHECK_EQ(naru_yield(), 0);
    CHECK(naru__wake(task, 17));
    CHECK(naru_cancel(task));
    CHECK_EQ(cancel_calls, 0);
    CHECK_EQ(naru_join(task), 17);
}

static void wake_with_cancellation(naru_task *task, void *object)
{
    (void)object;
    cancel_calls++;
    CHECK(naru__wake(task, -ECANCELED));
}

static const struct naru__wait_kind stoppable_kind = {
    .what = "stoppable", .result_wins = true, .cancel = wake_with_cancellation};

static int park_stoppably(void *arg)
{
    int rc = naru__park(&stoppable_kind, arg);
    CHECK_EQ(naru__check_cancel(), 0);
    return rc;
}

TASK_TEST(a_cancel_function_that_wakes_with_the_cancellation_has_delivered_it)
{
    naru_task *task = naru_spawn(park_stoppably, NULL);
    CHECK_EQ(naru_yield(), 0);
    CHECK(naru_cancel(task));
    CHECK(naru_cancel(task)); /* woken already: not asked again */
    CHECK_EQ(cancel_calls, 1);
    CHECK_EQ(naru_await(task), -ECANCELED);
    CHECK_EQ(naru_cancelling(task), 2);
    naru_release(task);
}

TEST(check_task_asks_whether_there_is_one)
{
    CHECK_EQ(naru__check_task(), -EPERM);
    CHECK_EQ(naru__check_cancel(), 0);
}

TASK_TEST(check_cancel_delivers_once)
{
    CHECK_EQ(naru__check_task(), 0);
    naru_cancel(naru_self());
    CHECK_EQ(naru__check_cancel(), -ECANCELED);
    CHECK_EQ(naru__check_cancel(), 0);
}
