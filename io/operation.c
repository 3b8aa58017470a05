/* How a task does an operation.
 *
 * Try; if it would block, park; when told that it may work now, try again, on the task's own stack and just before the
 * result is used. The reactor's protocol (start, continue, withdraw) is the same for engines that complete by
 * themselves: then the first continue finds the operation done.
 *
 * Cancelling asks the reactor to take the operation back. If that succeeds nothing has happened, and the task gets
 * -ECANCELED. If not, because a pool thread or the kernel has the buffer, the task stays parked until the operation's own end
 * and gets its result; the request then stays pending. So no byte that was read, and no accepted descriptor, is lost.
 *
 * A task whose I/O never blocks would never let others run. So each step has a budget of operations; when it is used
 * up, the task yields before the next. */
#include "io/internal.h"

#include <errno.h>

static void wake(naru_op *op)
{
    naru__wake(op->arg, 0);
}

static void take_back(naru_task *task, void *object)
{
    if (naru__op_withdraw(object))
        naru__wake(task, -ECANCELED);
}

static void describe(void *object, FILE *out)
{
    const naru_op *op = object;
    fputs(naru__op_name(op), out);
    if (op->fd >= 0)
        fprintf(out, " on fd %d", op->fd);
}

static const struct naru__wait_kind io_kind = {
    .what = "I/O:", .result_wins = true, .cancel = take_back, .describe = describe};

/* True if it is over already; *rc is its result then. */
static bool begin(naru_op *op, ssize_t *rc)
{
    naru_task *self = naru__self();
    if (!self) {
        *rc = -EPERM;
        return true;
    }
    struct naru__scheduler *s = self->scheduler;
    if (__builtin_expect(s->budget == 0 || self->cancel_pending, 0)) {
        if (s->budget > 0)
            s->budget--; /* also a call that fails at once: it may be repeated for ever */
        *rc = s->budget > 0 ? naru__check_cancel() : naru_yield();
        if (*rc < 0)
            return true;
    }
    s->budget--;
    op->notify = wake;
    op->arg = self;
    if (!naru__op_start(s->core, op))
        return false;
    *rc = op->result;
    return true;
}

static ssize_t wait_for_end(naru_op *op)
{
    do {
        int rc = naru__park(&io_kind, op);
        if (op->state == NARU__OP_IDLE)
            return rc; /* taken back */
    } while (!naru__op_continue(op));
    return op->result;
}

ssize_t naru__io(naru_op *op)
{
    ssize_t rc;
    return begin(op, &rc) ? rc : wait_for_end(op);
}

struct deadline {
    naru_timer timer;
    naru_op *op;
};

static void too_late(void *arg)
{
    struct deadline *deadline = arg;
    naru_task *task = deadline->op->arg;
    if (task->state != NARU__TASK_PARKED) /* it has been told and tries again first: ask in the next batch */
        naru__ring_push(&deadline->op->core->ready, &deadline->timer.callback.link);
    else if (naru__op_withdraw(deadline->op))
        naru__wake(task, -ETIMEDOUT);
}

ssize_t naru__io_until(naru_op *op, int64_t deadline_ns)
{
    if (deadline_ns == NARU_FOREVER)
        return naru__io(op);
    ssize_t rc;
    if (begin(op, &rc))
        return rc;
    struct deadline deadline = {.timer.callback = {.fn = too_late, .arg = &deadline}, .op = op};
    naru__timer_arm(naru__here, &deadline.timer, deadline_ns);
    rc = wait_for_end(op);
    naru_timer_stop(&deadline.timer);
    return rc;
}
