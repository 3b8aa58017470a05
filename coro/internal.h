/* What the files of the coroutine layer share.
 *
 * Two structs carry everything. A `struct naru_task` is one task: a block of about 288 bytes that is not on its stack, so
 * that a finished task's result can be kept while its stack is used by others. A `struct naru__scheduler` is one
 * loop's set of tasks and of what they are made from; it hangs on the loop's core as its extension.
 *
 * A task is in exactly one place at a time: in the ready queue (its `step` callback is linked there), running, or
 * parked, when only whoever it waits for knows it. */
#ifndef NARU_CORO_INTERNAL_H
#define NARU_CORO_INTERNAL_H

#include "coro/park.h"
#include "coro/stack.h"
#include "reactor/internal.h"

enum naru__task_state {
    NARU__TASK_NEW,   /* in the ready queue, has no stack yet. Moved on by run_task in scheduler.c */
    NARU__TASK_READY, /* in the ready queue, woken. Moved on by run_task in scheduler.c */
    NARU__TASK_RUNNING, /* on the processor (or started another one eagerly). Moved on by park, yield or its end */
    NARU__TASK_PARKED, /* waits. Moved on by naru__wake */
    NARU__TASK_DONE,   /* has a result, and no stack any more */
};

enum { NARU__TASK_SHARED = 1 << 8, NARU__TASK_HEAP_COPY = 1 << 9 }; /* beside the public flags */

enum { NARU__INLINE_COPY = 32 };

struct naru__message; /* message.c */
struct naru__locals;  /* local.c */

/* Ordered by use: a wake-up and the switch that follows touch the first group, a wait the second. */
struct naru_task {
    naru_callback step;     /* its place in the ready queue */
    naru__context *context; /* where it stands: its stack's, or that of the generator it is in */
    struct naru__scheduler *scheduler;
    unsigned char state; /* enum naru__task_state */
    bool cancel_pending; /* a request has not been delivered */
    unsigned short flags;
    int cancels; /* requests not taken back */
    int wake_result;
    unsigned refs; /* handles, and one for running */

    /* what it waits for; kept by naru__park */
    const struct naru__wait_kind *wait;
    void *wait_object;
    int64_t wait_since;

    naru_coroutine *coroutine; /* the innermost one it is in */
    struct naru__scope *scope; /* innermost timeout, group, … the task is in (kept by the layer above) */
    naru_fn *fn;
    void *arg;
    struct naru__stack *stack; /* from its first step until its end */

    naru_link all; /* in scheduler->tasks until it ends, then in scheduler->ended while handles are left */
    naru_future outcome; /* status, value, and who waits for them */
    uint64_t id;
    struct naru__slot slot;
    struct naru__locals *locals;
    struct naru__message *message;
    void (*destroy)(void *); /* for outcome.value */
    char *name;              /* NULL: task-<id> */
    const char *where;       /* file:line of the spawn, or NULL */
    size_t stack_size;       /* as asked for */
    _Alignas(16) char copy[NARU__INLINE_COPY];
};

struct naru__scheduler {
    struct naru__extension extension;
    struct naru__core *core;
    naru_task *current;
    naru_task *ended_dense; /* its body has returned, the rest happens on the loop's stack */
    int ended_status;
    struct naru__eager
        *eager;      /* who gets control back when the running task first suspends; see scheduler.c */
    bool detour;     /* the next switch is not just to the next in the queue: `eager`, or debug mode */
    unsigned budget; /* I/O that this step may still do without giving way */

    naru_link tasks, ended;
    size_t count, parked;
    uint64_t last_id;
    bool draining;  /* stop the loop when the last task ends */
    bool impatient; /* the end takes too long: tasks that are spawned now are cancelled at birth */

    struct naru__slots blocks;   /* struct naru_task */
    struct naru__stacks stacks;  /* the default size */
    struct naru__stacks *others; /* other sizes, made on demand */
    naru__context thread;        /* the loop's own stack */
    unsigned float_control;      /* what every task starts with: the loop's */
    struct naru__locals *locals; /* of code outside tasks */
    naru_link generators;
    void *overflow; /* overflow.c */
};

/* ---- scheduler.c ---- */

struct naru__scheduler *
naru__scheduler_of(struct naru__core *core); /* makes it on first use; NULL: no memory */
struct naru__stacks *naru__stacks_of(struct naru__scheduler *s, size_t size,
                                     bool dense); /* NULL: no memory, too large */
void naru__report_no_stack(struct naru__scheduler *s, const struct naru__stacks *stacks,
                           const naru_task *task);
void naru__task_step(void *task); /* the callback by which a task is in the ready queue */

static inline struct naru__scheduler *naru__scheduler_here(void)
{
    struct naru__core *core = naru__here;
    return core && core->extension ? naru__container(core->extension, struct naru__scheduler, extension)
                                   : NULL;
}

static inline bool naru__settled(const naru_future *f)
{
    return __atomic_load_n(&f->state, __ATOMIC_ACQUIRE) != 0;
}

static inline naru_task *naru__self(void)
{
    struct naru__scheduler *s = naru__scheduler_here();
    return s ? s->current : NULL;
}

/* Somebody looked at the task's error. Any thread, for tasks from naru_spawn_on. */
static inline void naru__mark_seen(naru_task *task)
{
    __atomic_store_n(&task->outcome.seen, 1, __ATOMIC_RELAXED);
}

static inline void naru__make_ready(naru_task *task)
{
    naru__ring_push(&task->scheduler->core->ready, &task->step.link);
}

/* A body has returned with scopes still open down to `until`. Their frames are dead but not yet overwritten, so no function
 * may be called before their timers are out of the loop. True if there were any. */
static inline bool naru__drop_scopes(naru_task *task, const struct naru__scope *until)
{
    bool any = false;
    while (task->scope && task->scope != until) {
        naru_link *armed = &task->scope->timer->callback.link;
        if (armed->next) {
            armed->prev->next = armed->next;
            armed->next->prev = armed->prev;
        }
        task->scope = task->scope->outer;
        any = true;
    }
    return any;
}

void naru__report_open_scope(const naru_task *task);

/* Suspends the running task, whose fate has been arranged, and lets others run. */
void naru__switch_away(struct naru__scheduler *s);

/* Starts a new task at once; returns when it suspends for the first time, or ends. */
void naru__start_eagerly(struct naru__scheduler *s, naru_task *task);

/* ---- task.c ---- */

naru_task *naru__task_create(struct naru__scheduler *s, const naru_spawn_options *options, naru_fn *fn,
                             const void *arg);
void naru__task_format(naru_task *task); /* a new block of memory */
void naru__task_init(naru_task *task, const naru_spawn_options *options, naru_fn *fn);
void naru__task_adopt(struct naru__scheduler *s,
                      naru_task *task);           /* into the scheduler's list, with a number */
void naru__task_end(naru_task *task, int status); /* result, waiters, references; frees it perhaps */
void naru__task_unref(naru_task *task);
void naru__task_dispose(naru_task *task); /* frees what hangs on it, and the block */
void naru__task_report_unseen(const naru_task *task);
size_t naru__task_label(const naru_task *task, char *buffer, size_t size); /* its name, without allocating */

/* ---- remote.c: tasks whose handles other threads may hold ---- */

naru_loop *naru__shared_loop(const naru_task *task);
bool naru__task_belongs_to(const naru_task *task, const naru_loop *loop); /* also one on its way there */
void naru__shared_done(naru_task *task); /* the task has its result: tell blocked threads */
void naru__shared_retain(naru_task *task);
bool naru__shared_unref(naru_task *task); /* true: it was the last reference */
void naru__shared_free(naru_task *task);
bool naru__shared_cancel(naru_task *task); /* from another thread */

/* ---- future.c ---- */

extern const struct naru__wait_kind naru__await_kind;
int naru__future_park(naru_future *f, const struct naru__wait_kind *kind,
                      void *object); /* S: until it is settled */
bool naru__future_awaited(
    const naru_future *f); /* by a task that waits for the end of the one it belongs to */
void naru__future_settle(naru_future *f, int status);

/* ---- message.c ---- */

const char *naru__error_text(int error); /* the system's words */

void naru__message_drop(struct naru__message *message);
void naru__message_pass(naru_task *from,
                        naru_task *to); /* what went wrong in one explains the other's error */
void naru__message_keep(struct naru__message *message); /* for naru_strerror in this thread, after the run */
const char *naru__message_text(const struct naru__message *message,
                               int code); /* NULL: nothing said with this code */

/* ---- local.c ---- */

struct naru__locals *naru__locals_share(struct naru__locals *locals);
void naru__locals_drop(struct naru__locals *locals);

/* ---- coroutine.c ---- */

struct naru_coroutine {
    struct naru__stack *stack;
    naru__context *resumer;
    naru_coroutine *outer; /* the one that resumed this one, if any */
    void *(*fn)(void *first);
    void *transfer; /* goes in with a resume, comes out with a yield */
    bool running, finished, is_generator;
};

void naru__coroutine_prepare(naru_coroutine *c,
                             struct naru__stack *stack); /* fn is set; the next enter starts it */
void naru__coroutine_enter(naru_coroutine *c);
void naru__coroutine_leave(naru_coroutine *c);
naru_coroutine *naru__coroutine_here(void);

/* ---- generator.c ---- */

void naru__generators_close_all(struct naru__scheduler *s); /* in a task, at the end of a run */
void naru__generators_drop(struct naru__scheduler *s);      /* without running them */

/* ---- overflow.c ---- */

void naru__overflow_enter(struct naru__scheduler *s); /* this thread runs the loop now */
void naru__overflow_leave(struct naru__scheduler *s);
_Noreturn void naru__overflow_dense(const naru_task *task);

#endif
