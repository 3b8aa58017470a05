/* The timing wheel alone, driven by a virtual clock over centuries, against a reference that just sorts.
 *
 * What is promised: expiry in exact order of (deadline, start); and a next time to look that is never later than the
 * earliest deadline (or a timer would be late) and never before the wheel's own time (or the loop would spin). */
#include "test/reactor/common.h"

#include "reactor/internal.h"

enum { TIMERS = 200 };

struct entry {
    naru_timer timer;
    uint64_t start; /* 0: not running */
};

static struct naru__core core;
static struct entry entries[TIMERS];
static uint64_t starts;
static int64_t now;

static uint64_t random_state = 0x9E3779B97F4A7C15;

static uint64_t random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Of any magnitude below 2^bits, each equally likely. */
static int64_t random_magnitude(unsigned bits)
{
    return (int64_t)(random_number() >> (64 - 1 - random_number() % bits));
}

static bool precedes(const struct entry *a, const struct entry *b)
{
    if (a->timer.deadline != b->timer.deadline)
        return a->timer.deadline < b->timer.deadline;
    return a->start < b->start;
}

static struct entry *earliest(void)
{
    struct entry *first = NULL;
    for (int i = 0; i < TIMERS; i++)
        if (entries[i].start && (!first || precedes(&entries[i], first)))
            first = &entries[i];
    return first;
}

static void check_next(void)
{
    const struct entry *first = earliest();
    int64_t next = naru__timers_next(&core.wheel);
    if (!first) {
        CHECK_EQ(next, NARU_FOREVER);
        return;
    }
    CHECK_LE(next, first->timer.deadline);
    if (first->timer.deadline >= core.wheel.time)
        CHECK_GE(next, core.wheel.time);
}

/* Goes to `time`: what comes out must be what sorts first, and all that is due must come out. */
static void expire(int64_t time)
{
    naru_link ready;
    naru_link *link;
    now = time;
    naru__ring_init(&ready);
    naru__timers_expire(&core.wheel, now, &ready);
    while ((link = naru__ring_pop(&ready)) != NULL) {
        struct entry *first = earliest();
        CHECK_PTR(link, &first->timer.callback.link);
        CHECK_LE(first->timer.deadline, now);
        first->start = 0;
    }
    const struct entry *left = earliest();
    CHECK(!left || left->timer.deadline > now);
}

static int64_t random_deadline(void)
{
    const struct entry *some = &entries[random_number() % TIMERS];
    switch (random_number() % 16) {
    case 0:
        return now;
    case 1:
        return naru__add_ns(now, -random_magnitude(62)); /* overdue when it starts */
    case 2:
        return random_number() % 2 ? INT64_MIN : INT64_MAX;
    case 3:
    case 4:
        return some->timer.deadline; /* equal to another's */
    case 5:
        return naru__add_ns(now, random_magnitude(62));
    case 6:
        return (now | ((INT64_C(1) << (random_number() % 60)) - 1)) + 1; /* where a digit turns over */
    default:
        return naru__add_ns(now, random_magnitude(40));
    }
}

static void start(struct entry *entry)
{
    entry->start = ++starts;
    naru__timer_arm(&core, &entry->timer, random_deadline());
}

static void stop(struct entry *entry)
{
    CHECK_EQ(naru_timer_stop(&entry->timer), entry->start != 0);
    entry->start = 0;
}

static void step(void)
{
    if (random_number() % 4 == 0) {
        int64_t next = naru__timers_next(&core.wheel);
        if (next != NARU_FOREVER)
            expire(next > now ? next : now); /* as the loop does */
    } else {
        expire(naru__add_ns(now, random_magnitude(random_number() % 8 ? 36 : 54)));
    }
}

static void restart_time(int64_t time)
{
    if (core.wheel.overdue.next) /* not before the first */
        naru__timers_drop(&core.wheel);
    for (int i = 0; i < TIMERS; i++) {
        CHECK(!naru__linked(&entries[i].timer.callback.link));
        entries[i].start = 0;
    }
    now = time;
    naru__timers_init(&core.wheel, now);
    CHECK_EQ(naru__timers_next(&core.wheel), NARU_FOREVER);
}

/* TIMER-03, TIMER-04 */
TEST_SLOW(a_million_random_operations_over_centuries_agree_with_sorting, 60)
{
    restart_time(0);
    for (int i = 0; i < 1000000; i++) {
        struct entry *entry = &entries[random_number() % TIMERS];
        switch (random_number() % 8) {
        case 0:
            step();
            break;
        case 1:
            stop(entry);
            break;
        default:
            start(entry);
        }
        if (i % 8 == 0)
            check_next();
        if (now > INT64_MAX / 2)
            restart_time(random_magnitude(61));
    }
    CHECK_GT(starts, 0);
}

/* From any time, deadlines at every distance 2^i - 1, 2^i, 2^i + 1. */
TEST(timers_at_every_distance_expire_exactly_when_they_are_due)
{
    for (int round = 0; round < 200; round++) {
        restart_time(random_magnitude(61));
        for (int i = 0; i < 3 * 61; i++) {
            entries[i].start = ++starts;
            naru__timer_arm(&core, &entries[i].timer, now + (INT64_C(1) << i / 3) + i % 3 - 1);
        }
        while (earliest()) {
            int64_t deadline = earliest()->timer.deadline;
            expire(deadline - 1);
            CHECK_EQ(earliest()->timer.deadline, deadline);
            expire(deadline);
        }
        check_next();
    }
}

/* Waking when the wheel says so must lead to the timer, without more wakes than there are levels. */
TEST(following_the_wheel_reaches_the_earliest_timer_in_a_wake_per_level)
{
    for (int round = 0; round < 1000; round++) {
        restart_time(random_magnitude(60));
        int64_t deadline = now + random_magnitude(60);
        for (int i = 0; i < TIMERS; i++) { /* close to each other: they share slots until the end */
            entries[i].start = ++starts;
            naru__timer_arm(&core, &entries[i].timer, deadline + i);
        }
        int wakes = 0;
        for (; earliest() && earliest()->timer.deadline == deadline; wakes++) {
            int64_t next = naru__timers_next(&core.wheel);
            CHECK_LE(next, deadline);
            expire(next);
        }
        CHECK_LE(wakes, NARU__WHEEL_LEVELS);
    }
}

/* With few timers the wake is exact: no wake too early. */
TEST(the_next_time_is_exact_when_there_are_few_timers)
{
    for (int round = 0; round < 1000; round++) {
        restart_time(random_magnitude(61));
        for (int i = 0; i < 10; i++) {
            entries[i].start = ++starts;
            naru__timer_arm(&core, &entries[i].timer, now + random_magnitude(60));
        }
        CHECK_EQ(naru__timers_next(&core.wheel), earliest()->timer.deadline);
    }
}
