/* What the files of the reactor share, and what the layer above may use of it.
 *
 * A loop is two structs. `struct naru_loop` is the part that other threads may touch: a mailbox under a mutex. It is
 * small and never freed, so that a late naru_post meets a closed door and not a freed one. `struct naru__core` is the
 * thread's own: queues, timers, descriptors. It dies with naru_loop_close, and nothing in it is ever locked.
 *
 * One round of the loop is poll, then mail, then timers, then one *batch*: what is ready when the batch begins. What a
 * batch makes ready waits for the next one, so nothing starves. While there is work, several batches go by for each
 * poll (see naru__next_ready). */
#ifndef NARU_REACTOR_INTERNAL_H
#define NARU_REACTOR_INTERNAL_H

#include "reactor/list.h"

#include <pthread.h>
#include <stdatomic.h>

struct naru__core;
struct naru__backend;
struct naru__fd;
struct naru__pool;
struct naru__signals;

/* ---- the part that other threads may touch ---- */

struct naru_loop {
    pthread_mutex_t mutex;        /* over mail, holds, closed, and over writing to wake_fd */
    naru_link mail;               /* callbacks on their way into the ready queue */
    struct naru__core *core;      /* NULL once closed; for the owner's thread only */
    struct naru_loop *next_grave; /* closed loops, so that they stay reachable */
    void (*wake)(int wake_fd);    /* the backend's */
    int wake_fd;
    unsigned holds;
    bool closed;
    atomic_bool has_mail; /* there is something under the mutex to look at */
    atomic_bool asleep;   /* the loop is about to wait, or waits, and wants to be woken */
};
_Static_assert(sizeof(struct naru_loop) <= 256, "a tombstone is at most 256 bytes");

/* ---- timers: a hierarchical timing wheel, see timer.c ---- */

enum { NARU__WHEEL_BITS = 6, NARU__WHEEL_SLOTS = 1 << NARU__WHEEL_BITS, NARU__WHEEL_LEVELS = 11 };

struct naru__wheel {
    int64_t time;      /* no slot holds an earlier deadline */
    naru_link never;   /* deadline NARU_FOREVER: they can be stopped, and that is all */
    naru_link overdue; /* started with a deadline before `time`, in order of start */
    unsigned levels;   /* bit set: the level may have something */
    uint64_t
        occupied[NARU__WHEEL_LEVELS]; /* bit set: the slot may have something (cleared when found empty) */
    naru_link slots[NARU__WHEEL_LEVELS][NARU__WHEEL_SLOTS];
};

/* ---- the thread's own part ---- */

/* What stands on the reactor and lives as long as the loop: the coroutine layer's scheduler. */
struct naru__extension {
    void (*enter)(struct naru__extension *e);   /* a run begins on this thread */
    void (*leave)(struct naru__extension *e);   /* it ends */
    void (*between)(struct naru__extension *e); /* between rounds: a time for housekeeping */
    bool (*label)(const naru_callback *cb, char *text,
                  size_t size);                  /* if cb is one of its own: what it stands for */
    size_t (*parked)(struct naru__extension *e); /* how many wait for something that nobody will do */
    void (*deadlock)(struct naru__extension *e); /* nothing will happen any more: say who waits for what */
    void (*close)(struct naru__extension *e);    /* the loop closes: free everything */
};

struct naru__core {
    /* The ready queue: `batch` runs now, `ready` is the next batch. */
    naru_link batch, ready;
    unsigned batches_left;  /* before the next poll; 0 also makes a stop take effect */
    unsigned batches_quota; /* what batches_left starts from: adapts so that polls are at most ~50 us apart */
    bool stopping, running, debug;
    uint32_t runs; /* how many have begun */
    bool exposed;  /* the program has the loop pointer: somebody may post for ever */
    int64_t now;   /* when the last poll returned: cheap, and good enough for "since when" */

    struct naru__extension *extension;
    naru_loop *loop;

    /* Things in flight that will, or may, make something happen: waiting operations, running signals, pool calls. */
    size_t busy;

    const struct naru__backend *backend;
    void *backend_state;
    struct naru__fd **fd_pages; /* see readiness.c */
    size_t fd_page_count;
    struct naru__pool *pool;       /* NULL until first used */
    struct naru__signals *signals; /* NULL until first used */
    naru_options options;
    struct naru__wheel wheel;
};

extern _Thread_local struct naru__core *naru__here; /* the core this thread runs; NULL outside a run */

/* The next thing to run in this round, still queued; NULL when the round is over. Turns to the next batch without
 * leaving the caller: up to batches_left of them go by for each poll. */
static inline naru_callback *naru__next_ready(struct naru__core *core)
{
    if (naru__ring_empty(&core->batch)) {
        if (core->batches_left == 0 || naru__ring_empty(&core->ready))
            return NULL;
        core->batches_left--;
        naru__ring_move(&core->batch, &core->ready);
    }
    return naru__container(core->batch.next, naru_callback, link);
}

/* The loop's core, or NULL if the loop is closed or (debug mode) not this thread's, which is reported. */
struct naru__core *naru__core_of(naru_loop *loop);

int naru__loop_open(naru_loop **loop, const naru_options *options); /* as naru_loop_open, but not `exposed` */
void naru__report(struct naru__core *core, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void naru__report_text(struct naru__core *core, int level, const char *text);
int64_t naru__add_ns(int64_t time, int64_t delay); /* saturating */

/* ---- timer.c ---- */

void naru__timers_init(struct naru__wheel *wheel, int64_t now);
void naru__timer_arm(struct naru__core *core, naru_timer *timer,
                     int64_t deadline);               /* fn and arg are set already */
void naru__timers_drop(struct naru__wheel *wheel);    /* unlinks them all, for closing */
int64_t naru__timers_next(struct naru__wheel *wheel); /* when to look again; NARU_FOREVER: never */
void naru__timers_expire(struct naru__wheel *wheel, int64_t now, naru_link *ready);

/* ---- mail.c: what comes from other threads ---- */

/* A letter that must not just be dropped when the loop closes. Queued as a callback that mail.c knows again by its fn. */
struct naru__mail {
    naru_callback callback;
    void (*run)(struct naru__mail *mail);  /* on the loop's thread */
    void (*drop)(struct naru__mail *mail); /* instead of run: the loop was closed first */
};

int naru__mail_send(naru_loop *loop, struct naru__mail *mail); /* any thread; 0 or -ESHUTDOWN */
int naru__mail_put(naru_loop *loop, naru_callback *cb);        /* the same for a plain callback */
void naru__mail_drain(struct naru__core *core);                /* into the ready queue */
void naru__mail_drop_all(naru_link *ring);                     /* empties ring; letters get their drop */
bool naru__mail_prepare_sleep(naru_loop *loop);                /* false: there is mail, do not sleep */
void naru__mail_end_sleep(naru_loop *loop);

/* ---- op.c: operations ---- */

enum naru__op_state {
    NARU__OP_IDLE,     /* not submitted, or done */
    NARU__OP_WAITING,  /* in its descriptor's list until readiness moves it on */
    NARU__OP_NOTIFIED, /* in the same list; notify was called: somebody will call naru__op_continue */
    NARU__OP_POOLED, /* with the blocking pool; its link tells whether queued (under the pool's mutex) or running */
    NARU__OP_DONE, /* result is set; notify was or will be called */
};

enum naru__op_kind {
    NARU__OP_NONE,
    NARU__OP_RECV,
    NARU__OP_SEND,
    NARU__OP_RECVMSG,
    NARU__OP_SENDMSG,
    NARU__OP_READ,
    NARU__OP_WRITE,
    NARU__OP_READV,
    NARU__OP_WRITEV,
    NARU__OP_ACCEPT,
    NARU__OP_CONNECT,
    NARU__OP_POLL,
    NARU__OP_PREAD,
    NARU__OP_PWRITE,
    NARU__OP_OPEN,
    NARU__OP_FSYNC,
    NARU__OP_CALL,
    NARU__OP_KINDS
};

/* The protocol below naru_op_submit, also for the layer above (which has no use for a callback):
 *   start     true: done, the result is set. false: op->notify(op) will be called later, from the loop.
 *   continue  after a notify: true: done. false: not yet after all, notify will be called again.
 *   withdraw  true: taken back, nothing has happened and notify will not be called. false: the kernel or a thread has
 *             it (or it is done): notify will come (or has come). */
static inline bool naru__op_start(struct naru__core *core, naru_op *op);
static inline bool naru__op_continue(naru_op *op);
bool naru__op_withdraw(naru_op *op);
const char *naru__op_name(const naru_op *op);

/* One row per kind of operation. */
struct naru__op_kind_info {
    const char *name;
    short events;  /* what to wait for when the attempt would block; 0: as the operation says */
    bool blocking; /* always in the pool */
    bool any_file; /* read(2) and the like: what to do depends on the type of the file */
    ssize_t (*attempt)(naru_op *op); /* one try: the result, or -EAGAIN if it would block */
};
extern const struct naru__op_kind_info naru__op_kinds[NARU__OP_KINDS];

static inline const struct naru__op_kind_info *naru__op_info(const naru_op *op)
{
    return &naru__op_kinds[op->kind];
}

/* ---- readiness.c: descriptors and who waits on them, for backends that tell readiness ---- */

enum naru__fd_type {
    NARU__FD_UNKNOWN,
    NARU__FD_STREAM, /* a TCP socket: a short read empties it */
    NARU__FD_SOCKET, /* any other socket */
    NARU__FD_PLAIN,  /* pipe, terminal, eventfd …: something the kernel can poll */
    NARU__FD_FILE,   /* regular file, directory, disk: always "ready", but it blocks: for the pool */
};

enum { NARU__IN = 1, NARU__OUT = 2, NARU__PRI = 4, NARU__HUP = 8 };

struct naru__fd {
    naru_link waiters;   /* operations, first come first */
    uint32_t run;        /* core->runs when it was last used: between runs, close(2) goes unnoticed */
    uint32_t generation; /* grows when the number changes its file: events of an older one are stale */
    uint8_t type;        /* enum naru__fd_type; known once the entry is kept */
    uint8_t armed;       /* NARU__IN | …: what the backend was asked to report, edge-triggered */
    bool kept;           /* the registration outlives its waiters (false: only polls have waited here) */
    bool drained;        /* the last read came up short and no event since: do not try, wait */
    bool always_try;     /* saw a hang-up, an error or urgent data: edges may not come again */
};

bool naru__readiness_start(struct naru__core *core, naru_op *op);
bool naru__readiness_continue(struct naru__core *core, naru_op *op);
void naru__readiness_withdraw(struct naru__core *core, naru_op *op);
void naru__readiness_event(struct naru__core *core, int fd, uint32_t generation, unsigned events);
void naru__readiness_forget(struct naru__core *core, int fd);
void naru__readiness_close(struct naru__core *core);

/* A descriptor has just been made: whatever the table says under its number is about another file. */
void naru__fd_fresh(struct naru__core *core, int fd);

/* ---- backends ---- */

/* What an engine must do. One const table per file, chosen by name at run time; a completion engine replaces the
 * readiness functions by its own submit. All negative results are -errno. */
struct naru__backend {
    const char *name;
    int (*open)(struct naru__core *core); /* sets loop->wake_fd */
    void (*close)(struct naru__core *core);
    bool (*start)(struct naru__core *core, naru_op *op);
    bool (*resume)(struct naru__core *core, naru_op *op);
    bool (*withdraw)(struct naru__core *core, naru_op *op); /* as naru__op_withdraw */
    void (*forget)(struct naru__core *core, int fd); /* the number is about to be closed, or was reused */
    int (*poll)(struct naru__core *core, int64_t timeout_ns); /* < 0: no limit; sleeps at most that long */
    void (*wake)(int wake_fd);                                /* any thread, also from a signal handler */
    /* For readiness.c only: report `events` (edge-triggered) of fd from now on; 0: nothing any more. */
    int (*arm)(struct naru__core *core, int fd, struct naru__fd *entry, unsigned events);
};

extern const struct naru__backend naru__epoll;

static inline bool naru__op_start(struct naru__core *core, naru_op *op)
{
    op->core = core;
    return core->backend->start(core, op);
}

static inline bool naru__op_continue(naru_op *op)
{
    return op->state == NARU__OP_DONE || op->core->backend->resume(op->core, op);
}

/* ---- pool.c: blocking calls in threads ---- */

bool naru__pool_start(struct naru__core *core, naru_op *op);    /* as naru__op_start */
bool naru__pool_withdraw(struct naru__core *core, naru_op *op); /* true if no thread had begun */
void naru__pool_forget(struct naru__core *core, int fd);        /* -EBADF for those no thread has begun */
void naru__pool_close(struct naru__core *core);                 /* waits for what runs */
void naru__pool_come_home(void *op); /* the callback by which a finished operation arrives */

/* ---- signal.c ---- */

/* For interrupts: as naru_signal_start, but the loop does not stay alive for it, and a second delivery before the first
 * was called back has the signal's default action at once. */
int naru__signal_start_background(struct naru__core *core, naru_signal *s, int signo, void (*fn)(void *arg),
                                  void *arg);
void naru__signals_collect(struct naru__core *core); /* queues the callbacks of what was delivered */
void naru__signals_close(struct naru__core *core);
bool naru__signals_pending(const struct naru__core *core);
void naru__signals_forget_in_child(void); /* after fork */

#endif
