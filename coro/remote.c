/* Tasks spawned from other threads, whose handles other threads may hold.
 *
 * Such a task's block is larger than an ordinary one and comes from malloc: it brings the letters by which it travels to
 * its loop and by which requests to cancel it do (so that neither can fail for want of memory), a counter that any
 * thread may change, and a condition variable to block on. Apart from that it is a task like any other. */
#include "coro/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

struct shared {
    naru_task task;
    naru_loop *loop;
    struct naru__mail start, cancel;
    atomic_bool cancel_on_its_way;
    atomic_uint refs;
    pthread_mutex_t mutex;
    pthread_cond_t done;
};

static struct shared *shared_of(const naru_task *task)
{
    return naru__container((naru_task *)(uintptr_t)task, struct shared, task);
}

naru_loop *naru__shared_loop(const naru_task *task)
{
    return shared_of(task)->loop;
}

bool naru__task_belongs_to(const naru_task *task, const naru_loop *loop)
{
    if (task->flags & NARU__TASK_SHARED)
        return shared_of(task)->loop == loop;
    return task->scheduler->core == loop->core;
}

void naru__shared_retain(naru_task *task)
{
    atomic_fetch_add(&shared_of(task)->refs, 1);
}

bool naru__shared_unref(naru_task *task)
{
    return atomic_fetch_sub(&shared_of(task)->refs, 1) == 1;
}

void naru__shared_free(naru_task *task)
{
    struct shared *shared = shared_of(task);
    pthread_mutex_destroy(&shared->mutex);
    pthread_cond_destroy(&shared->done);
    free(shared);
}

void naru__shared_done(naru_task *task)
{
    struct shared *shared = shared_of(task);
    pthread_mutex_lock(&shared->mutex);
    pthread_cond_broadcast(&shared->done);
    pthread_mutex_unlock(&shared->mutex);
}

/* ---- the way to the loop ---- */

static void end_without_running(naru_task *task, int status)
{
    task->state = NARU__TASK_DONE;
    naru__future_settle(&task->outcome, status);
    naru__shared_done(task);
    naru_release(task);
}

static void arrive(struct naru__mail *mail)
{
    naru_task *task = &naru__container(mail, struct shared, start)->task;
    struct naru__scheduler *s = naru__scheduler_of(naru__here);
    if (!s) {
        end_without_running(task, -ENOMEM);
        return;
    }
    naru__task_adopt(s, task);
    naru__make_ready(task);
}

static void never_arrive(struct naru__mail *mail)
{
    end_without_running(&naru__container(mail, struct shared, start)->task, -ECANCELED);
}

static void request_arrives(struct naru__mail *mail)
{
    struct shared *shared = naru__container(mail, struct shared, cancel);
    atomic_store(&shared->cancel_on_its_way, false);
    naru_cancel(&shared->task);
    naru_release(&shared->task);
}

static void request_never_arrives(struct naru__mail *mail)
{
    naru_release(&naru__container(mail, struct shared, cancel)->task);
}

bool naru__shared_cancel(naru_task *task)
{
    struct shared *shared = shared_of(task);
    if (atomic_exchange(&shared->cancel_on_its_way, true))
        return true;
    naru_retain(task);
    if (naru__mail_send(shared->loop, &shared->cancel) == 0)
        return true;
    naru_release(task);
    return false;
}

naru_task *naru_spawn_on(naru_loop *loop, naru_fn *fn, void *arg)
{
    static const naru_spawn_options defaults;
    struct shared *shared = fn && loop ? calloc(1, sizeof *shared) : NULL;
    if (!shared)
        return NULL;
    naru__task_format(&shared->task);
    naru__task_init(&shared->task, &defaults, fn);
    shared->task.flags |= NARU__TASK_SHARED;
    shared->task.arg = arg;
    shared->loop = loop;
    shared->start.run = arrive;
    shared->start.drop = never_arrive;
    shared->cancel.run = request_arrives;
    shared->cancel.drop = request_never_arrives;
    atomic_init(&shared->refs, 2);
    pthread_mutex_init(&shared->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&shared->done, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (naru__mail_send(loop, &shared->start) == 0)
        return &shared->task;
    naru__shared_free(&shared->task);
    return NULL;
}

int naru_task_wait_thread(naru_task *task, int64_t timeout_ns)
{
    if (!task)
        return -ENOMEM;
    if (!(task->flags & NARU__TASK_SHARED))
        return -EINVAL;
    struct shared *shared = shared_of(task);
    if (naru_done(task))
        return naru_result(task);
    if (naru__here && naru__here->loop == shared->loop)
        return -EDEADLK;
    int64_t deadline = naru__add_ns(naru_now(), timeout_ns < 0 ? 0 : timeout_ns);
    struct timespec until = {.tv_sec = (time_t)(deadline / 1000000000),
                             .tv_nsec = (long)(deadline % 1000000000)};
    int rc = 0;
    pthread_mutex_lock(&shared->mutex);
    while (!naru_done(task) && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&shared->done, &shared->mutex, &until);
    pthread_mutex_unlock(&shared->mutex);
    return naru_done(task) ? naru_result(task) : -ETIMEDOUT;
}
