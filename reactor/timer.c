/* Timers: a hierarchical timing wheel with slots of one nanosecond.
 *
 * A deadline is read as a number of eleven digits of six bits. A timer hangs in the slot [level][digit] where `level`
 * is the highest digit in which its deadline differs from the wheel's time, and `digit` is the deadline's digit there.
 * So starting is an exclusive or, a count of leading zeros and a push to the end of a list; stopping is an unlink; and
 * neither depends on how many others there are. When time reaches the first slot, its timers move down to
 * finer levels (at most ten moves in a timer's life, four or five for a second). At the lowest level all timers of a
 * slot have the very same deadline, so they fire in exact order; and since equal deadlines always share a slot, and
 * lists are kept in order of arrival, equals fire first come first. (The wheel is Varghese and Lauck's, "Hashed and
 * hierarchical timing wheels", 1987; keying levels by the highest differing digit is the radix heap's idea.)
 *
 * The trap is a deadline that lies before the wheel's time: it has no slot. Such timers are due anyway; they wait in
 * a list of their own that is sorted when it is used, by a merge sort because it must be stable. */
#include "reactor/internal.h"

enum { LEVEL_MASK = NARU__WHEEL_SLOTS - 1, SCAN_LIMIT = 32 };

static naru_timer *timer_of(naru_link *link)
{
    return naru__container(link, naru_timer, callback.link);
}

void naru__timers_init(struct naru__wheel *wheel, int64_t now)
{
    wheel->time = now;
    naru__ring_init(&wheel->overdue);
    naru__ring_init(&wheel->never);
    for (int level = 0; level < NARU__WHEEL_LEVELS; level++)
        for (int slot = 0; slot < NARU__WHEEL_SLOTS; slot++)
            naru__ring_init(&wheel->slots[level][slot]);
}

void naru__timers_drop(struct naru__wheel *wheel)
{
    while (naru__ring_pop(&wheel->overdue) || naru__ring_pop(&wheel->never))
        continue;
    for (int level = 0; level < NARU__WHEEL_LEVELS; level++)
        for (int slot = 0; slot < NARU__WHEEL_SLOTS; slot++)
            while (naru__ring_pop(&wheel->slots[level][slot]))
                continue;
}

static void hang(struct naru__wheel *wheel, naru_timer *timer)
{
    int64_t deadline = timer->deadline;
    if (deadline < wheel->time || deadline == NARU_FOREVER) {
        naru__ring_push(deadline == NARU_FOREVER ? &wheel->never : &wheel->overdue, &timer->callback.link);
        return;
    }
    uint64_t differing = (uint64_t)deadline ^ (uint64_t)wheel->time;
    unsigned level = (63U - (unsigned)__builtin_clzll(differing | 1)) / NARU__WHEEL_BITS;
    unsigned slot = (unsigned)(deadline >> (level * NARU__WHEEL_BITS)) & LEVEL_MASK;
    wheel->levels |= 1U << level;
    wheel->occupied[level] |= (uint64_t)1 << slot;
    naru__ring_push(&wheel->slots[level][slot], &timer->callback.link);
}

void naru__timer_arm(struct naru__core *core, naru_timer *timer, int64_t deadline)
{
    if (naru__linked(&timer->callback.link))
        naru__unlink(&timer->callback.link);
    timer->deadline = deadline;
    hang(&core->wheel, timer);
}

void naru_timer_start(naru_loop *loop, naru_timer *timer, int64_t deadline_ns, void (*fn)(void *arg),
                      void *arg)
{
    struct naru__core *core = naru__core_of(loop);
    if (!core)
        return;
    timer->callback.fn = fn;
    timer->callback.arg = arg;
    naru__timer_arm(core, timer, deadline_ns);
}

void naru_timer_after(naru_loop *loop, naru_timer *timer, int64_t delay_ns, void (*fn)(void *arg), void *arg)
{
    naru_timer_start(loop, timer, naru__add_ns(naru_now(), delay_ns), fn, arg);
}

bool naru_timer_stop(naru_timer *timer)
{
    return naru_callback_cancel(&timer->callback);
}

/* The earliest slot that has something. Stopping leaves bits behind; they are cleared here, once each. */
static naru_link *first_slot(struct naru__wheel *wheel, unsigned *level, unsigned *slot)
{
    while (wheel->levels) {
        unsigned l = (unsigned)__builtin_ctz(wheel->levels);
        while (wheel->occupied[l]) {
            unsigned s = (unsigned)__builtin_ctzll(wheel->occupied[l]);
            if (!naru__ring_empty(&wheel->slots[l][s])) {
                *level = l;
                *slot = s;
                return &wheel->slots[l][s];
            }
            wheel->occupied[l] &= wheel->occupied[l] - 1;
        }
        wheel->levels &= wheel->levels - 1;
    }
    return NULL;
}

/* The first nanosecond a slot stands for: the wheel's digits above the level, the slot's own, then zeros. */
static int64_t slot_start(const struct naru__wheel *wheel, unsigned level, unsigned slot)
{
    unsigned shift = level * NARU__WHEEL_BITS;
    uint64_t above = level + 1 < NARU__WHEEL_LEVELS ? UINT64_MAX << (shift + NARU__WHEEL_BITS) : 0;
    return (int64_t)(((uint64_t)wheel->time & above) | (uint64_t)slot << shift);
}

/* Exact when few timers share the first slot. With many it is the slot's start: the loop then wakes once too early,
 * moves them to finer slots, and has paid for the wake-up with work that was due anyway. */
int64_t naru__timers_next(struct naru__wheel *wheel)
{
    unsigned level, slot;
    if (!naru__ring_empty(&wheel->overdue))
        return INT64_MIN;
    const naru_link *head = first_slot(wheel, &level, &slot);
    if (!head)
        return NARU_FOREVER;
    int64_t earliest = NARU_FOREVER;
    int seen = 0;
    for (naru_link *link = head->next; link != head; link = link->next) {
        if (level == 0 || ++seen > SCAN_LIMIT)
            return slot_start(wheel, level, slot);
        if (timer_of(link)->deadline < earliest)
            earliest = timer_of(link)->deadline;
    }
    return earliest;
}

static void merge(naru_link *into, naru_link *a, naru_link *b)
{
    while (!naru__ring_empty(a) && !naru__ring_empty(b)) {
        bool second = timer_of(b->next)->deadline < timer_of(a->next)->deadline;
        naru__ring_push(into, naru__ring_pop(second ? b : a));
    }
    naru__ring_append(into, a);
    naru__ring_append(into, b);
}

/* Stable merge sort by deadline: bins[i] is empty or holds 2^i sorted timers that came before those of lower bins. */
static void sort_by_deadline(naru_link *ring)
{
    naru_link bins[48], carry, merged;
    unsigned used = 0;
    naru_link *link;
    while ((link = naru__ring_pop(ring)) != NULL) {
        naru__ring_init(&carry);
        naru__ring_push(&carry, link);
        unsigned i = 0;
        for (; i < used && !naru__ring_empty(&bins[i]); i++) {
            naru__ring_init(&merged);
            merge(&merged, &bins[i], &carry);
            naru__ring_append(&carry, &merged);
        }
        if (i == used)
            naru__ring_init(&bins[used++]);
        naru__ring_append(&bins[i], &carry);
    }
    for (unsigned i = 0; i < used; i++) {
        naru__ring_init(&merged);
        merge(&merged, &bins[i], ring);
        naru__ring_append(ring, &merged);
    }
}

/* Moves what is due at `now` to the end of `ready`, in order. */
void naru__timers_expire(struct naru__wheel *wheel, int64_t now, naru_link *ready)
{
    unsigned level, slot;
    naru_link *head;
    if (!naru__ring_empty(&wheel->overdue)) {
        sort_by_deadline(&wheel->overdue);
        naru__ring_append(ready, &wheel->overdue);
    }
    while ((head = first_slot(wheel, &level, &slot)) != NULL) {
        int64_t start = slot_start(wheel, level, slot);
        if (start > now)
            break;
        wheel->time = start;
        if (level == 0) {
            naru__ring_append(ready, head);
            continue;
        }
        naru_link moving;
        naru__ring_init(&moving);
        naru__ring_append(&moving, head);
        naru_link *link;
        while ((link = naru__ring_pop(&moving)) != NULL)
            hang(wheel, timer_of(link));
    }
    /* No slot starts before `now`, so they all keep their place when time goes there. */
    if (wheel->time < now)
        wheel->time = now;
}
