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

static void arm(naru_timeout *t, int64_t deadline)
{
    naru_timer_stop(&t->timer);
    t->timer.deadline = deadline;
    if (deadline != NARU_FOREVER)
        naru__timer_arm(t->task->scheduler->core, &t->timer, deadline);
}

int naru_timeout_begin_at(naru_timeout *t, int64_t deadline_ns)
{
    naru_task *self = naru_self();
    if (!self)
        return -EPERM;
    *t = (naru_timeout){.task = self, .outer = self->scope, .cancelling = naru_cancelling(self)};
    t->timer.callback.fn = expire;
    t->timer.callback.arg = t;
    self->scope = t;
    arm(t, deadline_ns);
    return 0;
}

int naru_timeout_begin(naru_timeout *t, int64_t timeout_ns)
{
    return naru_timeout_begin_at(t, timeout_ns == NARU_FOREVER ? NARU_FOREVER : naru__add_ns(naru_now(), timeout_ns));
}

int naru_timeout_reschedule(naru_timeout *t, int64_t deadline_ns)
{
    if (t->task != naru_self())
        return -EPERM;
    if (t->expired)
        return -EALREADY;
    arm(t, deadline_ns);
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
    naru_timer_stop(&t->timer);
    t->task->scope = t->outer;
    if (!t->expired)
        return rc;
    bool only_ours = naru_uncancel(t->task) <= t->cancelling;
    return only_ours && rc == -ECANCELED ? -ETIMEDOUT : rc;
}
