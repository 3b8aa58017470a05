/* The blocking pool: threads for what no kernel interface can wait for, such as files on a readiness engine.
 *
 * Threads are made on demand, up to a limit, and leave after ten idle seconds. The queue is made of the operations
 * themselves, so it holds no memory of its own however long it gets. An operation that no thread has begun
 * can be taken back; one that a thread has begun belongs to it until the call returns, because the caller's buffer does.
 * A finished one goes home by the loop's mailbox.
 *
 * A thread that leaves cannot join itself. It joins the one that left before it and leaves its own name for the next,
 * so at most one finished thread is ever unjoined. */
#include "reactor/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const int64_t IDLE_LIMIT = NARU_SEC(10);

struct naru__pool {
    pthread_mutex_t mutex;
    pthread_cond_t work;  /* a job was queued, or closing */
    pthread_cond_t empty; /* the last thread is leaving */
    naru_link jobs;
    size_t queued;
    unsigned threads, idle, limit;
    bool closing;
    bool someone_left;
    pthread_t left; /* the thread to join, if someone_left */
    naru_loop *loop;
    pid_t process; /* whose threads they are: a fork does not copy them */
};

/* On the loop's thread: a job has come home. */
void naru__pool_come_home(void *arg)
{
    naru_op *op = arg;
    op->core->busy--;
    op->state = NARU__OP_DONE;
    op->notify(op);
}

static void run_job(struct naru__pool *pool, naru_op *op)
{
    op->result = naru__op_info(op)->attempt(op);
    op->callback.fn = naru__pool_come_home;
    op->callback.arg = op;
    naru__mail_put(pool->loop, &op->callback); /* cannot be refused: the loop waits for us before it closes */
}

/* With the mutex held. False: nothing came for so long that the thread should go. */
static bool wait_for_work(struct naru__pool *pool)
{
    struct timespec until;
    int64_t limit = naru__add_ns(naru_now(), IDLE_LIMIT);
    until.tv_sec = (time_t)(limit / 1000000000);
    until.tv_nsec = (long)(limit % 1000000000);
    int rc = 0;
    pool->idle++;
    while (naru__ring_empty(&pool->jobs) && !pool->closing && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&pool->work, &pool->mutex, &until);
    pool->idle--;
    return !naru__ring_empty(&pool->jobs);
}

static void leave(struct naru__pool *pool)
{
    bool join_it = pool->someone_left;
    pthread_t previous = pool->left;
    pool->someone_left = true;
    pool->left = pthread_self();
    if (--pool->threads == 0)
        pthread_cond_signal(&pool->empty);
    pthread_mutex_unlock(&pool->mutex);
    if (join_it)
        pthread_join(previous, NULL);
}

static void *work(void *arg)
{
    struct naru__pool *pool = arg;
    pthread_mutex_lock(&pool->mutex);
    while (wait_for_work(pool)) {
        naru_op *op = naru__container(naru__ring_pop(&pool->jobs), naru_op, link);
        pool->queued--;
        pthread_mutex_unlock(&pool->mutex);
        run_job(pool, op);
        pthread_mutex_lock(&pool->mutex);
    }
    leave(pool);
    return NULL;
}

static struct naru__pool *open_pool(struct naru__core *core)
{
    struct naru__pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, &monotonic);
    pthread_cond_init(&pool->empty, NULL);
    pthread_condattr_destroy(&monotonic);
    naru__ring_init(&pool->jobs);
    pool->limit = core->options.pool_threads;
    pool->loop = core->loop;
    pool->process = getpid();
    return pool;
}

/* Signals are for the program's own threads. */
static int start_thread(struct naru__pool *pool)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, NULL, work, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -rc;
}

bool naru__pool_start(struct naru__core *core, naru_op *op)
{
    int rc = 0;
    if (!core->pool)
        core->pool = open_pool(core);
    struct naru__pool *pool = core->pool;
    op->state = NARU__OP_DONE;
    op->result = -ENOMEM;
    if (!pool)
        return true;
    pthread_mutex_lock(&pool->mutex);
    if (pool->queued + 1 > pool->idle && pool->threads < pool->limit) {
        rc = start_thread(pool);
        if (rc == 0)
            pool->threads++;
    }
    if (pool->threads > 0) { /* without a new thread it waits for an old one */
        naru__ring_push(&pool->jobs, &op->link);
        pool->queued++;
        op->state = NARU__OP_POOLED;
        core->busy++;
        pthread_cond_signal(&pool->work);
    } else {
        op->result = rc;
    }
    bool failed = pool->threads == 0;
    pthread_mutex_unlock(&pool->mutex);
    return failed;
}

bool naru__pool_withdraw(struct naru__core *core, naru_op *op)
{
    struct naru__pool *pool = core->pool;
    pthread_mutex_lock(&pool->mutex);
    bool taken_back = naru__linked(&op->link);
    if (taken_back) {
        naru__unlink(&op->link);
        pool->queued--;
        core->busy--;
    }
    pthread_mutex_unlock(&pool->mutex);
    return taken_back;
}

/* A job that waits here must not run on whatever file gets the number next. (One that a thread has just taken may: as
 * with close(2) in one thread and read(2) in another.) */
void naru__pool_forget(struct naru__core *core, int fd)
{
    struct naru__pool *pool = core->pool;
    naru_link forgotten, *link, *next;
    if (!pool)
        return;
    naru__ring_init(&forgotten);
    pthread_mutex_lock(&pool->mutex);
    for (link = pool->jobs.next; link != &pool->jobs; link = next) {
        next = link->next;
        if (naru__container(link, naru_op, link)->fd == fd) {
            naru__unlink(link);
            naru__ring_push(&forgotten, link);
            pool->queued--;
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    while ((link = naru__ring_pop(&forgotten)) != NULL) {
        naru_op *op = naru__container(link, naru_op, link);
        op->result = -EBADF;
        naru__pool_come_home(op);
    }
}

void naru__pool_close(struct naru__core *core)
{
    struct naru__pool *pool = core->pool;
    naru_link *link;
    if (!pool)
        return;
    core->pool = NULL;
    if (pool->process != getpid()) {
        free(pool); /* in a forked child: the threads are not here, but one of them may have held the mutex */
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    while ((link = naru__ring_pop(&pool->jobs)) != NULL)
        naru__container(link, naru_op, link)->state = NARU__OP_IDLE;
    pthread_cond_broadcast(&pool->work);
    while (pool->threads > 0)
        pthread_cond_wait(&pool->empty, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    if (pool->someone_left)
        pthread_join(pool->left, NULL);
    pthread_mutex_destroy(&pool->mutex);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->empty);
    free(pool);
}
