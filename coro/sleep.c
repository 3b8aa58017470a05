/* Time: yield and sleep.
 *
 * A sleeper's timer lies in its own frame. When it fires it wakes the task; when the task is cancelled first, the timer is
 * stopped in the same step, so that no timer ever fires for a frame that is gone. */
#include "coro/internal.h"

#include <errno.h>
#include <inttypes.h>

int naru_yield(void)
{
    struct naru__scheduler *s = naru__scheduler_here();
    if (!s || !s->current)
        return -EPERM;
    naru_task *task = s->current;
    task->state = NARU__TASK_READY;
    naru__make_ready(task);
    naru__switch_away(s);
    return __builtin_expect(task->cancel_pending, 0) ? naru__check_cancel() : 0;
}

struct sleeper {
    naru_timer timer;
    naru_task *task;
};

static void wake(void *arg)
{
    struct sleeper *sleeper = arg;
    naru__wake(sleeper->task, 0);
}

static void cancel(naru_task *task, void *object)
{
    struct sleeper *sleeper = object;
    naru_timer_stop(&sleeper->timer);
    naru__wake(task, -ECANCELED);
}

static void describe(void *object, FILE *out)
{
    const struct sleeper *sleeper = object;
    if (sleeper->timer.deadline == NARU_FOREVER)
        fputs("for ever", out);
    else
        fprintf(out, "%" PRId64 " ms more", (sleeper->timer.deadline - naru_now()) / 1000000);
}

static const struct naru__wait_kind sleep_kind = {.what = "sleep", .cancel = cancel, .describe = describe};

int naru_sleep_until(int64_t deadline_ns)
{
    naru_task *self = naru_self();
    if (!self)
        return -EPERM;
    struct sleeper sleeper = {.timer.deadline = deadline_ns, .task = self};
    if (deadline_ns != NARU_FOREVER) {
        sleeper.timer.callback.fn = wake;
        sleeper.timer.callback.arg = &sleeper;
        naru__timer_arm(naru__here, &sleeper.timer, deadline_ns);
    }
    return naru__park(&sleep_kind, &sleeper);
}

int naru_sleep(int64_t ns)
{
    if (ns <= 0)
        return naru_yield();
    return naru_sleep_until(naru__add_ns(naru_now(), ns));
}
