/* The loop itself: open, run, stop, close, and the ready queue.
 *
 * All the rest of the reactor ends here: timers, descriptors, signals and posts only ever append callbacks to the ready
 * queue, and this file runs them. A round is
 *
 *     poll the kernel  ->  take the mail  ->  move due timers  ->  run batches until one must poll again
 *
 * and the wait in the poll is as long as the next timer allows: zero while anything is ready, no limit when only
 * descriptors can wake us, and not at all when nothing is left that could ever happen, which ends the run.
 *
 * The kernel is not asked for every batch, because a poll costs as much as dozens of small callbacks. It is asked at
 * least every 64 batches; and when batches turn out to be long, that number shrinks until polls are about
 * 50 microseconds apart. */
#include "reactor/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_BATCHES_PER_POLL = 64, DEFAULT_POOL_THREADS = 16 };
static const int64_t POLL_INTERVAL = NARU_US(50);
static const int64_t LONGEST_POLL = NARU_SEC(86400);
static const int64_t SLOW_STEP = NARU_MS(100);

_Thread_local struct naru__core *naru__here;

static const struct naru__backend *const backends[] = {&naru__epoll};

/* Closed loops. They are linked up so that a leak checker can tell a tombstone from a leak. */
static struct naru_loop *graves;
static pthread_mutex_t graves_mutex = PTHREAD_MUTEX_INITIALIZER;

int64_t naru_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t naru__add_ns(int64_t time, int64_t delay)
{
    int64_t sum;
    if (__builtin_add_overflow(time, delay, &sum))
        return delay > 0 ? NARU_FOREVER : INT64_MIN;
    return sum;
}

/* ---- reports ---- */

void naru__report_text(struct naru__core *core, int level, const char *text)
{
    if (core && core->options.report)
        core->options.report(level, text, core->options.report_arg);
    else
        fprintf(stderr, "naru: %s\n", text);
}

void naru__report(struct naru__core *core, int level, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    naru__report_text(core, level, text);
}

/* ---- open and close ---- */

static const struct naru__backend *choose_backend(const naru_options *options)
{
    const char *name = options->backend ? options->backend : getenv("NARU_BACKEND");
    if (!name || !*name)
        return backends[0];
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
    return NULL;
}

/* A fork copies the thread with its loop, but the kernel's half of it (epoll set, eventfd) stays shared with the parent.
 * So the child must not think it is inside that loop. */
static void forget_loop_in_child(void)
{
    naru__here = NULL;
    pthread_mutex_init(&graves_mutex, NULL); /* another thread of the parent may have held it */
    naru__signals_forget_in_child();
}

static void watch_for_forks(void)
{
    pthread_atfork(NULL, NULL, forget_loop_in_child);
}

static bool wants_debug(const naru_options *options)
{
    const char *value = getenv("NARU_DEBUG");
    return (options->flags & NARU_DEBUG) || (value && *value && strcmp(value, "0") != 0);
}

static struct naru__core *new_core(naru_loop *loop, const naru_options *options)
{
    struct naru__core *core = calloc(1, sizeof *core);
    if (!core)
        return NULL;
    if (options)
        core->options = *options;
    if (core->options.pool_threads == 0)
        core->options.pool_threads = DEFAULT_POOL_THREADS;
    core->debug = wants_debug(&core->options);
    core->loop = loop;
    core->batches_quota = MAX_BATCHES_PER_POLL;
    naru__ring_init(&core->batch);
    naru__ring_init(&core->ready);
    core->now = naru_now();
    naru__timers_init(&core->wheel, core->now);
    return core;
}

int naru__loop_open(naru_loop **loop_out, const naru_options *options)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int rc = -ENOMEM;
    *loop_out = NULL;
    naru_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return -ENOMEM;
    struct naru__core *core = new_core(loop, options);
    if (!core)
        goto no_core;
    core->backend = choose_backend(&core->options);
    if (!core->backend) {
        rc = -ENOTSUP;
        goto no_backend;
    }
    rc = core->backend->open(core);
    if (rc < 0)
        goto no_backend;
    pthread_once(&once, watch_for_forks);
    pthread_mutex_init(&loop->mutex, NULL);
    naru__ring_init(&loop->mail);
    loop->core = core;
    loop->wake = core->backend->wake;
    *loop_out = loop;
    return 0;

no_backend:
    free(core);
no_core:
    free(loop);
    return rc;
}

int naru_loop_open(naru_loop **loop, const naru_options *options)
{
    int rc = naru__loop_open(loop, options);
    if (rc == 0)
        (*loop)->core->exposed = true;
    return rc;
}

/* From here on nobody can add mail, and no wake-up can hit a descriptor number that somebody else got meanwhile. */
static void shut_the_door(naru_loop *loop)
{
    pthread_mutex_lock(&loop->mutex);
    loop->closed = true;
    pthread_mutex_unlock(&loop->mutex);
}

static void bury(naru_loop *loop)
{
    pthread_mutex_lock(&graves_mutex);
    loop->next_grave = graves;
    graves = loop;
    pthread_mutex_unlock(&graves_mutex);
}

int naru_loop_close(naru_loop *loop)
{
    if (!loop || !loop->core)
        return 0;
    struct naru__core *core = loop->core;
    if (core->running)
        return -EBUSY;
    naru__pool_close(core);
    naru__signals_close(core);
    shut_the_door(loop);
    naru__mail_drop_all(&loop->mail);
    naru__mail_drop_all(&core->batch);
    naru__mail_drop_all(&core->ready);
    naru__timers_drop(&core->wheel);
    naru__readiness_close(core);
    /* Last, because what was linked into the queues above may lie on the stacks that go now. */
    if (core->extension)
        core->extension->close(core->extension);
    core->backend->close(core);
    loop->core = NULL;
    free(core);
    bury(loop);
    return 0;
}

/* ---- the run ---- */

static void call(struct naru__core *core, naru_callback *cb)
{
    void (*fn)(void *arg) = cb->fn;
    if (!core->debug) {
        fn(cb->arg);
        return;
    }
    char what[80];
    if (!core->extension || !core->extension->label(cb, what, sizeof what))
        snprintf(what, sizeof what, "callback %p", (void *)(uintptr_t)fn);
    int64_t start = naru_now();
    fn(cb->arg);
    int64_t spent = naru_now() - start;
    if (spent > SLOW_STEP)
        naru__report(core, NARU_WARNING, "%s: a step took %lld ms and kept everything else waiting", what,
                     (long long)(spent / 1000000));
}

static void run_batches(struct naru__core *core)
{
    naru_callback *cb;
    core->batches_left = core->stopping ? 1 : core->batches_quota;
    while ((cb = naru__next_ready(core)) != NULL) {
        naru__unlink(&cb->link);
        call(core, cb);
    }
}

/* A round that ended because its batches were used up, not because it ran dry, tells how long they take. */
static void adapt_quota(struct naru__core *core, int64_t spent)
{
    if (spent > POLL_INTERVAL && core->batches_quota > 1)
        core->batches_quota /= 2;
    else if (spent < POLL_INTERVAL / 2 && core->batches_quota < MAX_BATCHES_PER_POLL)
        core->batches_quota *= 2;
}

static bool anything_can_happen(struct naru__core *core)
{
    if (core->busy > 0 || naru__signals_pending(core))
        return true;
    pthread_mutex_lock(&core->loop->mutex);
    bool expected = core->loop->holds > 0 || !naru__ring_empty(&core->loop->mail);
    pthread_mutex_unlock(&core->loop->mutex);
    return expected;
}

enum { GO_ON = 1 };

/* How long the poll may sleep, or what the run ends with. */
static int choose_wait(struct naru__core *core, int64_t *timeout)
{
    *timeout = 0;
    if (core->stopping || !naru__ring_empty(&core->ready))
        return GO_ON;
    int64_t next = naru__timers_next(&core->wheel);
    if (next != NARU_FOREVER) {
        int64_t wait = naru__add_ns(next, -naru_now());
        *timeout = wait < 0 ? 0 : wait < LONGEST_POLL ? wait : LONGEST_POLL;
        return GO_ON;
    }
    *timeout = -1;
    if (anything_can_happen(core))
        return GO_ON;
    struct naru__extension *extension = core->extension;
    if (!extension || extension->parked(extension) == 0)
        return 0;
    if (core->exposed && !core->debug)
        return GO_ON;
    extension->deadlock(extension);
    return -EDEADLK;
}

static int poll_once(struct naru__core *core)
{
    int64_t timeout;
    bool had_work = !naru__ring_empty(&core->ready);
    int rc = choose_wait(core, &timeout);
    if (rc != GO_ON)
        return rc;
    if (timeout != 0 && !naru__mail_prepare_sleep(core->loop))
        timeout = 0;
    if (timeout != 0 || core->busy > 0) /* else nobody waits for anything that the kernel could tell */
        rc = core->backend->poll(core, timeout);
    naru__mail_end_sleep(core->loop);
    if (rc < 0)
        return rc;
    naru__mail_drain(core);
    if (naru__signals_pending(core))
        naru__signals_collect(core);
    int64_t now = naru_now();
    if (had_work)
        adapt_quota(core, now - core->now);
    core->now = now;
    naru__timers_expire(&core->wheel, now, &core->ready);
    return GO_ON;
}

int naru_loop_run(naru_loop *loop)
{
    if (!loop || !loop->core)
        return -ESHUTDOWN;
    struct naru__core *core = loop->core;
    if (core->running || naru__here)
        return -EBUSY;
    core->running = true;
    core->runs++;
    naru__here = core;
    if (core->extension)
        core->extension->enter(core->extension);
    int rc;
    do {
        rc = poll_once(core);
        if (rc == GO_ON)
            run_batches(core);
        if (core->extension)
            core->extension->between(core->extension);
    } while (rc == GO_ON && !core->stopping);
    if (core->extension)
        core->extension->leave(core->extension);
    core->stopping = false;
    core->running = false;
    naru__here = NULL;
    return rc == GO_ON ? 0 : rc;
}

void naru_loop_stop(naru_loop *loop)
{
    if (!loop || !loop->core)
        return;
    loop->core->stopping = true;
    loop->core->batches_left = 0;
}

/* ---- small things ---- */

struct naru__core *naru__core_of(naru_loop *loop)
{
    struct naru__core *core = loop ? loop->core : NULL;
    if (core && core->debug && core->running && core != naru__here) {
        naru__report(NULL, NARU_ERROR,
                     "a loop was used from a thread that does not run it; only naru_post may do that");
        return NULL;
    }
    return core;
}

naru_loop *naru_loop_current(void)
{
    if (!naru__here)
        return NULL;
    naru__here->exposed = true;
    return naru__here->loop;
}

const char *naru_loop_backend(const naru_loop *loop)
{
    return loop && loop->core ? loop->core->backend->name : "closed";
}

void naru_call_soon(naru_loop *loop, naru_callback *cb, void (*fn)(void *arg), void *arg)
{
    struct naru__core *core = naru__core_of(loop);
    if (!core || !fn)
        return;
    if (naru__linked(&cb->link))
        naru__unlink(&cb->link);
    cb->fn = fn;
    cb->arg = arg;
    naru__ring_push(&core->ready, &cb->link);
}

bool naru_callback_cancel(naru_callback *cb)
{
    if (!naru__linked(&cb->link))
        return false;
    naru__unlink(&cb->link);
    return true;
}
