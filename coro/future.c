/* Futures: a result that comes later, and the list of who wants it.
 *
 * Waiting tasks and callbacks stand in one list, so that they go in the order in which they came. A callback is
 * linked by itself; a waiting task by a callback in its frame that is never called and only marks it. Settling the
 * future moves them all to the ready queue and calls nobody: what a waiter does cannot surprise whoever settled it. */
#include "coro/internal.h"

#include <errno.h>

enum { PENDING, SETTLED };

/* What a waiting task's link has for its fn. */
static void waiting_task(void *task)
{
    naru__wake(task, 0);
}

/* The state is written last, with release: other threads may look at the result of a shared task. */
void naru__future_settle(naru_future *f, int status)
{
    struct naru__core *core = f->loop ? f->loop->core : NULL; /* a closed loop calls nobody back */
    f->status = status;
    __atomic_store_n(&f->state, SETTLED, __ATOMIC_RELEASE);
    naru_link *link;
    while (f->waiters.next && (link = naru__ring_pop(&f->waiters)) != NULL) {
        naru_callback *cb = naru__container(link, naru_callback, link);
        if (cb->fn == waiting_task)
            naru__wake(cb->arg, 0);
        else if (core)
            naru__ring_push(&core->ready, link);
    }
}

int naru__future_park(naru_future *f, const struct naru__wait_kind *kind, void *object)
{
    naru_callback me = {.fn = waiting_task, .arg = naru__self()};
    naru__ring_ready(&f->waiters);
    naru__ring_push(&f->waiters, &me.link);
    int rc = naru__park(kind, object);
    naru_callback_cancel(&me);
    return rc;
}

bool naru__future_awaited(const naru_future *f)
{
    for (naru_link *link = f->waiters.next; link && link != &f->waiters; link = link->next) {
        naru_callback *cb = naru__container(link, naru_callback, link);
        if (cb->fn == waiting_task && ((naru_task *)cb->arg)->wait->waits_for)
            return true;
    }
    return false;
}

static void cancel_for_all(naru_task *task, void *object)
{
    (void)task;
    naru_future_cancel(object);
}

static void leave(naru_task *task, void *object)
{
    naru_future *f = object;
    for (naru_link *link = f->waiters.next, *next; link != &f->waiters; link = next) {
        const naru_callback *cb = naru__container(link, const naru_callback, link);
        next = link->next;
        if (cb->fn == waiting_task && cb->arg == task)
            naru__unlink(link);
    }
}

static void describe(void *object, FILE *out)
{
    fprintf(out, "%p", object);
}

static const struct naru__wait_kind future_kind = {
    .what = "future", .cancel = cancel_for_all, .describe = describe, .abandon = leave};

/* A future belongs to the loop in which somebody waits for it; when nobody does, or the loop is closed, to none. */
static int belongs_here(naru_future *f, struct naru__core *core)
{
    if (!f->loop || !f->loop->core || !f->waiters.next || naru__ring_empty(&f->waiters))
        f->loop = core->loop;
    return f->loop == core->loop ? 0 : -EINVAL;
}

int naru_future_wait(naru_future *f)
{
    int rc = f ? naru__check_task() : -EINVAL;
    if (rc < 0)
        return rc;
    if (!naru_future_done(f)) {
        rc = belongs_here(f, naru__here);
        if (rc == 0)
            rc = naru__future_park(f, &future_kind, f);
        if (rc < 0)
            return rc;
    }
    return f->status;
}

bool naru_future_set(naru_future *f, int status, void *value)
{
    if (!f || naru_future_done(f))
        return false;
    f->value = value;
    naru__future_settle(f, status);
    return true;
}

bool naru_future_cancel(naru_future *f)
{
    return naru_future_set(f, -ECANCELED, NULL);
}

bool naru_future_done(const naru_future *f)
{
    return __atomic_load_n(&f->state, __ATOMIC_ACQUIRE) == SETTLED;
}

bool naru_future_cancelled(const naru_future *f)
{
    return naru_future_done(f) && f->status == -ECANCELED;
}

int naru_future_status(const naru_future *f)
{
    return naru_future_done(f) ? f->status : -EAGAIN;
}

void *naru_future_value(const naru_future *f)
{
    return naru_future_done(f) ? f->value : NULL;
}

int naru_future_on_done(naru_future *f, naru_callback *cb, void (*fn)(void *arg), void *arg)
{
    struct naru__core *core = naru__here;
    if (!core && f->loop && !naru_future_done(f))
        core = f->loop->core;
    if (!core)
        return -EPERM;
    int rc = belongs_here(f, core);
    if (rc < 0)
        return rc;
    naru_callback_cancel(cb);
    cb->fn = fn;
    cb->arg = arg;
    naru__ring_ready(&f->waiters);
    naru__ring_push(naru_future_done(f) ? &core->ready : &f->waiters, &cb->link);
    return 0;
}
