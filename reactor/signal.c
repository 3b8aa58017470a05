/* Signals as callbacks.
 *
 * A handler may do next to nothing: it sets the signal's bit in the mask of each loop that is interested, and wakes
 * that loop. The loop finds the bits after its poll and queues callbacks. Bits merge, as pending signals do.
 *
 * The trap is that a handler may run at any instant on any thread, also while a loop is being closed on another. So
 * what handlers read, the list of loops' masks, only ever grows (entries are used again, never freed), and a loop
 * that closes takes its interest back and then waits until no handler is still looking. Signal handlers and the
 * process are one per process: the table of who installed what is under a mutex, which no handler takes. */
#include "reactor/internal.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

enum { SIGNALS = 64 };

/* One loop's part. The first group is read by handlers. */
struct naru__signals {
    struct naru__signals *next; /* set before the entry is published, never changed */
    _Atomic uint64_t interest, pending;
    atomic_int wake_fd;
    void (*_Atomic wake)(int wake_fd);

    naru_link subscribers; /* naru_signal.link, in order of start; the loop's thread only */
    bool in_use;           /* under the mutex */
    bool inherited; /* the loop is that of a parent process: the table below does not count its subscribers */
};

static struct naru__signals *_Atomic entries;
static atomic_int handlers_running;
static _Atomic uint64_t
    fatal_twice; /* delivered again before the first was handled: the default action, at once */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct {
    unsigned subscribers;
    struct sigaction before;
} table[SIGNALS + 1];

static uint64_t bit(int signo)
{
    return (uint64_t)1 << (signo - 1);
}

static void on_signal(int signo)
{
    int saved_errno = errno;
    atomic_fetch_add(&handlers_running, 1);
    for (struct naru__signals *s = atomic_load(&entries); s; s = s->next) {
        if (atomic_load(&s->interest) & bit(signo)) {
            if (atomic_fetch_or(&s->pending, bit(signo)) & atomic_load(&fatal_twice) & bit(signo)) {
                signal(signo, SIG_DFL);
                raise(signo); /* comes when this handler has returned */
            }
            atomic_load (&s->wake)(atomic_load(&s->wake_fd));
        }
    }
    atomic_fetch_sub(&handlers_running, 1);
    errno = saved_errno;
}

/* ---- the process's table ---- */

static int subscribe(int signo)
{
    int rc = 0;
    pthread_mutex_lock(&mutex);
    if (table[signo].subscribers == 0) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK};
        sigfillset(&action.sa_mask);
        if (sigaction(signo, &action, &table[signo].before) < 0)
            rc = -errno;
    }
    if (rc == 0)
        table[signo].subscribers++;
    pthread_mutex_unlock(&mutex);
    return rc;
}

static void unsubscribe(int signo)
{
    pthread_mutex_lock(&mutex);
    if (--table[signo].subscribers == 0) {
        struct sigaction now;
        /* Somebody may have put a handler of their own over ours since; that one stays. */
        if (sigaction(signo, NULL, &now) == 0 && now.sa_handler == on_signal)
            sigaction(signo, &table[signo].before, NULL);
    }
    pthread_mutex_unlock(&mutex);
}

/* A forked child has none of the loops: their wake-up descriptors still wake the parent. Only async-signal-safe calls. */
void naru__signals_forget_in_child(void)
{
    pthread_mutex_init(&mutex, NULL);
    atomic_store(&handlers_running, 0);
    for (struct naru__signals *s = atomic_load(&entries); s; s = s->next) {
        atomic_store(&s->interest, 0);
        s->inherited = true;
    }
    for (int signo = 1; signo <= SIGNALS; signo++)
        if (table[signo].subscribers > 0) {
            table[signo].subscribers = 0;
            sigaction(signo, &table[signo].before, NULL);
        }
}

/* ---- a loop's part ---- */

static struct naru__signals *take_entry(void)
{
    struct naru__signals *s;
    pthread_mutex_lock(&mutex);
    for (s = atomic_load(&entries); s; s = s->next)
        if (!s->in_use)
            break;
    if (!s) {
        s = calloc(1, sizeof *s);
        if (s) {
            s->next = atomic_load(&entries);
            atomic_store(&entries, s);
        }
    }
    if (s) {
        s->in_use = true;
        s->inherited = false;
    }
    pthread_mutex_unlock(&mutex);
    return s;
}

static int open_signals(struct naru__core *core)
{
    struct naru__signals *s = take_entry();
    if (!s)
        return -ENOMEM;
    naru__ring_init(&s->subscribers);
    atomic_store(&s->pending, 0);
    atomic_store(&s->wake_fd, core->loop->wake_fd);
    atomic_store(&s->wake, core->backend->wake);
    core->signals = s;
    return 0;
}

static bool still_wanted(const struct naru__signals *signals, int signo)
{
    for (naru_link *link = signals->subscribers.next; link != &signals->subscribers; link = link->next)
        if (naru__container(link, naru_signal, link)->signo == signo)
            return true;
    return false;
}

/* A program's own watch takes the place of a background one. */
static void stop_background(struct naru__core *core, int signo)
{
    naru_link *link, *next;
    for (link = core->signals->subscribers.next; link != &core->signals->subscribers; link = next) {
        naru_signal *s = naru__container(link, naru_signal, link);
        next = link->next;
        if (s->background && s->signo == signo)
            naru_signal_stop(s);
    }
}

static int start(struct naru__core *core, naru_signal *s, int signo, bool background)
{
    if (naru__linked(&s->link) && s->core == core && s->signo == signo && s->background == background) {
        naru_callback_cancel(&s->callback);
        return 0; /* goes on without a moment in which nobody watches */
    }
    naru_signal_stop(s);
    if (signo < 1 || signo > SIGNALS)
        return -EINVAL;
    int rc = core->signals ? 0 : open_signals(core);
    if (rc < 0)
        return rc;
    atomic_fetch_or(&core->signals->interest, bit(signo));
    rc = subscribe(signo);
    if (rc < 0) {
        if (!still_wanted(core->signals, signo))
            atomic_fetch_and(&core->signals->interest, ~bit(signo));
        return rc;
    }
    s->core = core;
    s->signo = signo;
    s->background = background;
    naru__ring_push(&core->signals->subscribers, &s->link);
    if (!background) {
        core->busy++;
        stop_background(core, signo);
    }
    return 0;
}

int naru_signal_start(naru_loop *loop, naru_signal *s, int signo, void (*fn)(void *arg), void *arg)
{
    struct naru__core *core = naru__core_of(loop);
    if (!core)
        return -ESHUTDOWN;
    int rc = start(core, s, signo, false);
    s->callback = (naru_callback){.fn = fn, .arg = arg};
    return rc;
}

int naru__signal_start_background(struct naru__core *core, naru_signal *s, int signo, void (*fn)(void *arg),
                                  void *arg)
{
    int rc = start(core, s, signo, true);
    s->callback = (naru_callback){.fn = fn, .arg = arg};
    if (rc == 0)
        atomic_fetch_or(&fatal_twice, bit(signo));
    return rc;
}

bool naru_signal_stop(naru_signal *s)
{
    if (!naru__linked(&s->link))
        return false;
    naru__unlink(&s->link);
    naru_callback_cancel(&s->callback);
    if (s->background)
        atomic_fetch_and(&fatal_twice, ~bit(s->signo));
    else
        s->core->busy--;
    struct naru__signals *signals = s->core->signals;
    if (!still_wanted(signals, s->signo)) {
        atomic_fetch_and(&signals->interest, ~bit(s->signo));
        atomic_fetch_and(&signals->pending, ~bit(s->signo));
    }
    if (!signals->inherited)
        unsubscribe(s->signo);
    return true;
}

bool naru__signals_pending(const struct naru__core *core)
{
    return core->signals && atomic_load_explicit(&core->signals->pending, memory_order_relaxed) != 0;
}

void naru__signals_collect(struct naru__core *core)
{
    struct naru__signals *signals = core->signals;
    uint64_t delivered = atomic_exchange(&signals->pending, 0);
    for (naru_link *link = signals->subscribers.next; link != &signals->subscribers; link = link->next) {
        naru_signal *s = naru__container(link, naru_signal, link);
        if ((delivered & bit(s->signo)) && !naru__linked(&s->callback.link))
            naru__ring_push(&core->ready, &s->callback.link);
    }
}

void naru__signals_close(struct naru__core *core)
{
    struct naru__signals *signals = core->signals;
    if (!signals)
        return;
    while (!naru__ring_empty(&signals->subscribers))
        naru_signal_stop(naru__container(signals->subscribers.next, naru_signal, link));
    atomic_exchange(&signals->interest, 0); /* as in mail.c: not just a store */
    while (atomic_load(&handlers_running) > 0)
        sched_yield(); /* a handler on another thread may be about to write to our wake-up descriptor */
    pthread_mutex_lock(&mutex);
    signals->in_use = false;
    pthread_mutex_unlock(&mutex);
    core->signals = NULL;
}
