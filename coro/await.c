/* Waiting for tasks, and the cancellation that travels along.
 *
 * A task that awaits another is, for somebody who wants it to stop, that other one: the request goes down the chain to
 * the task that really waits, which ends, and the ends come back up. So a canceller never leaves a child behind
 * that its parent believed to be waiting for. Each awaiting task returns -ECANCELED then, even if the one it awaited
 * made something else of the request: a request that was accepted is not lost.
 *
 * The one trap is a circle. It is refused when it would be closed, by walking the chain that the new link would lead to. */
#include "coro/internal.h"

#include <errno.h>

static naru_task *awaited(void *object)
{
    return object;
}

static void describe(void *object, FILE *out)
{
    char name[64];
    naru__task_label(object, name, sizeof name);
    fputs(name, out);
}

const struct naru__wait_kind naru__await_kind = {
    .what = "await", .waits_for = awaited, .passes_on = true, .describe = describe};

/* Most waits are spared the walk: a task that waits for nothing closes no circle, nor does one whom nobody awaits. */
static bool closes_circle(const naru_task *task, const naru_task *self)
{
    if (task == self || task->state != NARU__TASK_PARKED || !naru__future_awaited(&self->outcome))
        return task == self;
    while (task != self) {
        if (task->state != NARU__TASK_PARKED || !task->wait->waits_for)
            return false;
        task = task->wait->waits_for(task->wait_object);
    }
    return true;
}

/* Until the task is done. 0, or why not. */
static int wait_for(naru_task *task, naru_task *self)
{
    if (naru__settled(&task->outcome))
        return 0;
    if (task->scheduler != self->scheduler && !naru__task_belongs_to(task, self->scheduler->core->loop))
        return -EINVAL;
    if (closes_circle(task, self))
        return -EDEADLK;
    return naru__future_park(&task->outcome, &naru__await_kind, task);
}

static int collect(naru_task *task, naru_task *self)
{
    if (task->outcome.status < 0 && task->message)
        naru__message_pass(task, self);
    if (task->outcome.status < 0)
        naru__mark_seen(task);
    return task->outcome.status;
}

int naru_await(naru_task *task)
{
    if (!task)
        return -ENOMEM;
    naru_task *self = naru__self();
    if (!self)
        return -EPERM;
    naru_retain(task); /* whoever holds it may let go while we wait */
    int rc = wait_for(task, self);
    if (rc == 0)
        rc = collect(task, self);
    naru_release(task);
    return rc;
}

int naru_join(naru_task *task)
{
    return naru_join_value(task, NULL);
}

int naru_join_value(naru_task *task, void **value)
{
    naru_task *self = naru__self();
    if (value)
        *value = NULL;
    if (!task)
        return -ENOMEM;
    int rc = self ? wait_for(task, self) : -EPERM;
    if (rc == 0) {
        rc = collect(task, self);
        if (value) {
            *value = task->outcome.value;
            task->outcome.value = NULL; /* nobody else gets it */
            task->destroy = NULL;
        }
    }
    naru_release(task);
    return rc;
}

/* All have been asked already, so a request that arrives meanwhile stays pending and the wait goes on. */
static void wait_on(naru_task *task, void *object)
{
    (void)task;
    (void)object;
}

static const struct naru__wait_kind cancel_all_kind = {.what = "cancel_all, for",
                                                       .result_wins = true,
                                                       .waits_for = awaited,
                                                       .cancel = wait_on,
                                                       .describe = describe};

int naru_cancel_all(naru_task *const *tasks, size_t count)
{
    naru_task *self = naru__self();
    if (!self)
        return -EPERM;
    if (!tasks)
        return 0;
    for (size_t i = 0; i < count; i++) {
        if (!tasks[i] || naru_done(tasks[i]))
            continue;
        if (!naru__task_belongs_to(tasks[i], self->scheduler->core->loop))
            return -EINVAL;
        if (closes_circle(tasks[i], self))
            return -EDEADLK;
    }
    for (size_t i = 0; i < count; i++)
        naru_cancel(tasks[i]);
    int circle = 0;
    for (size_t i = 0; i < count; i++) {
        if (!tasks[i] || naru_done(tasks[i]))
            continue;
        if (closes_circle(tasks[i], self)) /* it came to wait for us meanwhile: somebody has to give in */
            circle = -EDEADLK;
        else
            naru__future_park(&tasks[i]->outcome, &cancel_all_kind, tasks[i]);
    }
    int rc = naru__check_cancel();
    return rc < 0 ? rc : circle;
}
