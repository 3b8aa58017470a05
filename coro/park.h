/* The one way to wait.
 *
 * Everything a task can wait for, a future, another task, a time, an operation, and all the locks and queues of the layer
 * above, is built from two calls:
 *
 *     rc = naru__park(&kind, object);     suspend the running task until it is woken; returns what the waker gave
 *     naru__wake(task, rc)                let a parked task go on (in the next batch)
 *
 * and these rules.
 *
 *  - A park ends exactly once. Of all that might end it, the first naru__wake returns true; the others return false, and
 *    whoever gets false has given nothing away and offers it to the next in order.
 *  - A cancellation is one of those wakers. Unless the kind says otherwise, it wakes with -ECANCELED at once. If somebody
 *    else woke the task first, but it has not resumed yet, the cancellation still wins: park returns -ECANCELED. So
 *    whoever was *given* something with the wake-up (a lock, a permit) and gets -ECANCELED must pass it on. Kinds with
 *    `result_wins` turn this round: what happened is delivered, and the cancellation stays pending (for I/O), unless
 *    the kind's cancel function itself woke the task with -ECANCELED.
 *  - A cancellation that is pending when the task parks is delivered by that park; the task does leave the processor.
 *  - What the task waits in is the caller's: a struct naru__waiter in its own frame, linked into the object's queue. It must
 *    be out of the queue before the function returns; naru__wait_in_line below does all of that.
 *
 * A semaphore, whole:
 *
 *     int acquire(struct semaphore *s)
 *     {
 *         if (s->permits > 0 && naru__ring_empty(&s->line)) {
 *             s->permits--;
 *             return 0;
 *         }
 *         struct naru__waiter me;
 *         int rc = naru__wait_in_line(&s->line, &me, &semaphore_kind, s);
 *         if (rc < 0 && me.given)
 *             release(s);
 *         return rc;
 *     }
 *
 *     void release(struct semaphore *s)
 *     {
 *         if (!naru__wake_first(&s->line))
 *             s->permits++;
 *     }
 */
#ifndef NARU_CORO_PARK_H
#define NARU_CORO_PARK_H

#include <naru/coro.h>

#include "reactor/list.h"

/* One static const struct per kind of thing that can be waited for. */
struct naru__wait_kind {
    const char *what; /* for naru_dump: "sleep", "lock" */

    /* A success is never dropped for a cancellation. The kind's cancel function decides what a request does. */
    bool result_wins;

    /* The parked task was asked to stop, and is not woken yet. NULL: naru__wake(task, -ECANCELED). A function may instead
     * leave the task parked until what it waits for has wound up. */
    void (*cancel)(naru_task *task, void *object);

    /* If the wait is for another task's end: which. */
    naru_task *(*waits_for)(void *object);
    bool passes_on; /* a request goes to that task, and the parked one waits on for its end */

    void (*describe)(void *object, FILE *out); /* NULL: nothing more to say */

    /* The loop closes and the task, which would not end, is abandoned with its stack: take it out of the object's queue, if
     * the object may outlive the loop. NULL: it cannot. */
    void (*abandon)(naru_task *task, void *object);
};

/* S, in a task only. What naru__wake gave, or -ECANCELED. */
int naru__park(const struct naru__wait_kind *kind, void *object);

/* True if the task was parked and this ended it. On the loop's thread. */
bool naru__wake(naru_task *task, int result);

/* 0, or -EPERM outside a task: what every S function asks first. */
int naru__check_task(void);

/* If the running task has a cancellation pending, delivers it: -ECANCELED; else 0. For calls that may complete without
 * waiting and want to notice cancellations all the same. */
int naru__check_cancel(void);

struct naru__waiter {
    naru_link link;
    naru_task *task;
    bool given; /* naru__wake_first chose this one */
};

/* S: joins the end of the line and parks. Returns as naru__park, out of the line in any case. The head of a line may be
 * zeroed memory. */
int naru__wait_in_line(naru_link *line, struct naru__waiter *waiter, const struct naru__wait_kind *kind,
                       void *object);

/* Wakes the first in line who is not already leaving. False: there is none. */
bool naru__wake_first(naru_link *line);

/* Zeroed memory is an empty ring that does not know it yet: static initialisers of locks and futures are just zeros. */
static inline void naru__ring_ready(naru_link *head)
{
    if (!head->next)
        naru__ring_init(head);
}

#endif
