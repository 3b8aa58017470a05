/* Timeout scopes: a timer that cancels the task it belongs to, and the art of knowing one's own request again.
 *
 * A task may be cancelled by several at once: its own timeouts, nested, and somebody outside. All of them arrive as the same
 * -ECANCELED. What tells them apart is the count of requests. A scope notes the count when it begins; if it
 * has expired, it takes its own request back at the end, and only if that leaves no more than there were at the beginning
 * was the -ECANCELED its own, and becomes -ETIMEDOUT. Otherwise somebody else wants the task to stop as well, and
 * that must not be lost. */
#include "coro/internal.h"

#include <errno.h>
#include <naru/sync.h>

static void expire(void *arg)
{
    naru_timeout *t = arg;
    t->expired = true;
    naru_cancel(t->task);
}

/* A deadline that has passed is due at the next suspension, whatever that is: a timer might fire only some batches
 * later, when the loop next looks at the clock. */
static void arm(naru_timeout *t, int64_t deadline, int64_t now)
{
    struct naru__core *core = t->task->scheduler->core;
    naru_timer_stop(&t->timer);
    t->timer.deadline = deadline;
    if (deadline <= now)
        naru__ring_push(&core->ready, &t->timer.callback.link);
    else if (deadline != NARU_FOREVER)
        naru__timer_arm(core, &t->timer, deadline);
}

static int begin(naru_timeout *t, int64_t deadline, int64_t now)
{
    naru_task *self = naru_self();
    if (!self)
        return -EPERM;
    *t = (naru_timeout){.scope = {self->scope, &t->timer}, .task = self, .cancelling = naru_cancelling(self)};
    t->timer.callback.fn = expire;
    t->timer.callback.arg = t;
    self->scope = &t->scope;
    arm(t, deadline, now);
    return 0;
}

int naru_timeout_begin_at(naru_timeout *t, int64_t deadline_ns)
{
    return begin(t, deadline_ns, naru_now());
}

int naru_timeout_begin(naru_timeout *t, int64_t timeout_ns)
{
    int64_t now = naru_now();
    return begin(t, naru__add_ns(now, timeout_ns), now);
}

int naru_timeout_reschedule(naru_timeout *t, int64_t deadline_ns)
{
    if (t->task != naru_self())
        return -EPERM;
    if (t->expired)
        return -EALREADY;
    arm(t, deadline_ns, naru_now());
    return 0;
}

int64_t naru_timeout_when(const naru_timeout *t)
{
    return t->timer.deadline;
}

bool naru_timeout_expired(const naru_timeout *t)
{
    return t->expired;
}

int naru_timeout_end(naru_timeout *t, int rc)
{
    if (!t->task)
        return rc; /* it never began */
    naru_timer_stop(&t->timer);
    if (t->task->scope != &t->scope)
        naru__report(t->task->scheduler->core, NARU_ERROR,
                     "a timeout was ended out of order, or in another task");
    t->task->scope = t->scope.outer;
    if (!t->expired)
        return rc;
    bool only_ours = naru_uncancel(t->task) <= t->cancelling;
    return only_ours && rc == -ECANCELED ? -ETIMEDOUT : rc;
}
