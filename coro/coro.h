/* naru/coro.h: tasks and everything they need to wait for each other.
 *
 * naru_run(fn, arg) is the program: it opens a loop, runs fn in a task, and returns its result when every task has
 * ended. A task is a body that runs on a stack of its own. It runs until it calls something that waits; then others
 * run. Such a call is marked S below (it can *suspend*). Nothing else suspends, so between two S calls a task has
 * the thread, and what it shares with other tasks, to itself.
 *
 * For every S function: called outside a task it returns -EPERM; if the task is cancelled there, -ECANCELED. A
 * cancellation is delivered once, at the call that waits then or, if there is none, at the next one that would wait (for
 * I/O, sleep and yield: at the next call).
 * Calls are for the thread that runs the loop unless they say otherwise, and are not for signal handlers.
 *
 * A body returns an int: >= 0 is its result, < 0 its error. One that returns -ECANCELED ended cancelled. An error that
 * nobody has looked at when the task's last handle goes is reported, once, with the task's name.
 *
 * Handles: naru_spawn gives you one reference. naru_join waits and releases it; naru_release gives it up while
 * the task runs on. Handles do not outlive naru_run (or the loop's close), except those of naru_spawn_on. */
#ifndef NARU_CORO_H
#define NARU_CORO_H

#include <naru/reactor.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Define NARU_STRICT before the first include to be warned of every ignored result of a call that can suspend. */
#ifdef NARU_STRICT
#define NARU_SUSPENDS NARU_CHECK
#else
#define NARU_SUSPENDS
#endif

typedef int naru_fn(void *arg);
typedef struct naru_task naru_task;

/* naru_spawn_options.flags */
enum {
    NARU_EAGER = 1, /* run up to the first suspension before naru_spawn_with returns (if the loop runs) */
    NARU_DENSE_STACK =
        2, /* a stack of about 2 KiB without a guard page: for very many tasks that do very little.
                               naru's waiting calls and socket I/O fit; file I/O, naru_fail and printf need a stack_size
                               of 8 KiB. Link with -z now: the first call of a lazily bound function needs 3 KiB more.
                               An ordinary stack instead if more than 64 KiB are asked for, under sanitizers, and
                               where switching uses ucontext */
    NARU_STICKY_CANCEL = 4, /* once cancelled, every suspension fails, not only the next one */
};

typedef struct naru_spawn_options {
    const char *name;  /* copied; NULL: "task-1", "task-2", ... */
    size_t copy;       /* bytes of arg to copy for the body; 0: pass the pointer */
    size_t stack_size; /* bytes, rounded up; 0: the loop's default. At most 1 GiB */
    unsigned flags;
} naru_spawn_options;

/* ---- running ---- */

/* Runs fn(arg) as the main task of a new loop and returns its result. Then what is left is cancelled and waited
 * for, and everything is freed. Or: -EBUSY inside a running loop; -ENOMEM, -EMFILE, -ENFILE, -ENOTSUP as
 * naru_loop_open; -EDEADLK if the main task, and everything it could wait for, was parked for ever (reported with a
 * table of who waits for what); -EINTR when SIGINT ended it (the main task is cancelled; a second SIGINT kills), or
 * naru_loop_stop did.
 * SIGINT is handled only in the main thread and only if nobody else handles it. */
int naru_run(naru_fn *fn, void *arg);
int naru_run_with(const naru_options *options, naru_fn *fn, void *arg);

/* Runs a loop of one's own until task is done; the task's result (its error then counts as seen). -EINTR: stopped by
 * naru_loop_stop before it was done, it can be run on; -EDEADLK: it can never be done; -EINVAL: a task of another loop;
 * -ENOMEM: task is NULL; and naru_loop_run's errors. */
int naru_run_until(naru_loop *loop, naru_task *task);

/* Runs fn(arg) in `threads` loops at once, each in a thread of its own (the first in the caller's). The first error
 * cancels the other main tasks. That error, else the result of fn in thread 0. -EINVAL: 0 threads; -EAGAIN: a thread
 * could not be started (nothing is left running); and naru_run's errors. */
int naru_run_threads(unsigned threads, const naru_options *options, naru_fn *fn, void *arg);

/* Which of naru_run_threads' threads this is, from 0; 0 elsewhere. Any thread. */
unsigned naru_thread_index(void);

/* ---- spawning ---- */

/* A new task that starts in the next batch. NULL: no memory, or outside a running loop. The caller owns a reference. */
naru_task *naru_spawn(naru_fn *fn, void *arg);

/* arg is copied; the copy is 16-byte aligned and lives as long as the body runs. NULL also if size is more than a quarter
 * of the stack (32 bytes always fit), or arg is NULL and size is not 0. */
naru_task *naru_spawn_copy(naru_fn *fn, const void *arg, size_t size);
#define naru_spawn_arg(fn, ...) naru_spawn_copy((fn), &(__VA_ARGS__), sizeof(__VA_ARGS__))
#ifdef __cplusplus
extern "C++" {
template <typename T> inline naru_task *naru__spawn_value(naru_fn *fn, const T &value)
{
    return naru_spawn_copy(fn, &value, sizeof value);
}
}
#undef naru_spawn_arg /* C++ has no address of a temporary */
#define naru_spawn_arg(fn, ...) naru_task_spawned_at(naru__spawn_value((fn), __VA_ARGS__), NARU__HERE)
#endif

/* With a name, another stack, ...; options NULL: as naru_spawn. */
naru_task *naru_spawn_with(const naru_spawn_options *options, naru_fn *fn, void *arg);

/* On a loop of this thread that need not be running yet. */
naru_task *naru_spawn_in(naru_loop *loop, naru_fn *fn, void *arg);

/* Any thread. NULL: no memory, or the loop is closed. If the loop closes before the task could start, it ends with
 * -ECANCELED. This handle, unlike others, may be used with naru_cancel, naru_release, naru_retain, naru_done,
 * naru_result and naru_task_wait_thread from any thread, and outlives the loop. */
naru_task *naru_spawn_on(naru_loop *loop, naru_fn *fn, void *arg);

/* Blocks the calling thread, which must not be the loop's, until such a task is done: its result. -ETIMEDOUT after
 * timeout_ns; -EINVAL: not from naru_spawn_on; -EDEADLK: called on the loop's own thread; -ENOMEM: NULL. */
int naru_task_wait_thread(naru_task *task, int64_t timeout_ns);

/* What the macros around the spawning functions add: the place in the source, for naru_dump. */
naru_task *naru_task_spawned_at(naru_task *task, const char *where);
#define NARU__TEXT_(x) #x
#define NARU__TEXT(x) NARU__TEXT_(x)
#define NARU__HERE __FILE__ ":" NARU__TEXT(__LINE__)
#define naru_spawn(...) naru_task_spawned_at(naru_spawn(__VA_ARGS__), NARU__HERE)
#define naru_spawn_copy(...) naru_task_spawned_at(naru_spawn_copy(__VA_ARGS__), NARU__HERE)
#define naru_spawn_with(...) naru_task_spawned_at(naru_spawn_with(__VA_ARGS__), NARU__HERE)
#define naru_spawn_in(...) naru_task_spawned_at(naru_spawn_in(__VA_ARGS__), NARU__HERE)

/* ---- waiting for tasks ---- */

/* S: waits for the task and returns its result, any number of times and from any number of tasks. Does not suspend if it is
 * done already. A cancellation of the caller is passed on to the awaited task; await then waits for its end and
 * returns -ECANCELED. -ENOMEM: NULL; -EDEADLK: itself, or a task that (in)directly awaits the caller; -EINVAL: another
 * loop's. */
NARU_SUSPENDS int naru_await(naru_task *task);

/* S: naru_await, then naru_release, whatever the result. */
NARU_SUSPENDS int naru_join(naru_task *task);

/* S: as naru_join, and takes the task's value: *value is the caller's now (NULL if there is none, or if the wait
 * itself failed: then the value goes with the task). */
NARU_SUSPENDS int naru_join_value(naru_task *task, void **value);

naru_task *naru_retain(naru_task *task); /* one more reference; returns task */
void naru_release(naru_task *task);      /* gives one up; the task itself runs on. NULL: nothing */

/* Asks the task to end: its current or next suspension returns -ECANCELED. A task that never started never will. False
 * if it is done already (an error it ended with then counts as seen), or NULL. From another thread, requests that
 * arrive together count as one. */
bool naru_cancel(naru_task *task);

/* S: cancels all of them and waits until all are done. NULLs are skipped. 0, or -ECANCELED if the caller was cancelled
 * meanwhile (all are done then, too); -EDEADLK: the caller is among them, or one of them awaits the caller (nothing was
 * done), or came to await it while it was cleaning up (that one was not waited for); -EINVAL: a task of another loop. */
NARU_SUSPENDS int naru_cancel_all(naru_task *const *tasks, size_t count);
void naru_release_all(naru_task *const *tasks, size_t count);

int naru_cancelling(const naru_task *task); /* requests made and not yet taken back */

/* Takes one request back (not below zero) and returns how many are left. At zero a request that was not delivered yet
 * will not be. */
int naru_uncancel(naru_task *task);

bool naru_done(const naru_task *task);      /* also of NULL */
bool naru_cancelled(const naru_task *task); /* done, with -ECANCELED */

/* The result or error, which then counts as seen; -EAGAIN while pending; -ENOMEM: NULL. */
int naru_result(const naru_task *task);

/* ---- values, messages, names ---- */

/* From inside a body: a pointer to hand over beside the int. Outside a task: nothing. */
void naru_set_value(void *value);

/* The same, and destroy(value) is called when the task is freed or the value replaced, unless naru_join_value took it. */
void naru_set_value_owned(void *value, void (*destroy)(void *value));
void *naru_value(const naru_task *task); /* stays the task's; NULL while pending */

/* return naru_fail(-EPROTO, "line %d: %s", n, what); remembers the message with this task's error and returns code. */
int naru_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What the task said of the error it ended with; "" if nothing. Valid while the handle is. */
const char *naru_error_message(const naru_task *task);

/* What naru_fail said with this code, in this task or in one whose result it got (after naru_run: in main); else the
 * system's text. Valid until the next naru_fail, wait or run of this task or thread. Takes -EIO as well as EIO. */
const char *naru_strerror(int error);

/* Queues fn(arg) once the task is done, in the order of these calls and of the waiters between them; taken back by
 * naru_callback_cancel. 0; -ENOMEM: NULL; -EINVAL: another loop's; -EPERM outside a run, if it is done. */
int naru_task_on_done(naru_task *task, naru_callback *cb, void (*fn)(void *arg), void *arg);

naru_task *naru_self(void); /* the calling task; NULL outside one. No reference is added. Any thread */

const char *naru_task_name(const naru_task *task); /* valid while the handle is, until set_name */
int naru_task_set_name(naru_task *task,
                       const char *name); /* copied. 0; -ENOMEM (the old name stays); -EINVAL: NULL */

/* Calls fn for each unfinished task of the loop (NULL: the current one), in order of creation. fn must not suspend; it
 * may cancel and spawn. */
void naru_each_task(naru_loop *loop, void (*fn)(naru_task *task, void *arg), void *arg);

/* The tree of tasks (who awaits whom): name, state, what each waits for and since when, where it was spawned. loop NULL:
 * the current one. Only on the loop's thread. */
void naru_dump(naru_loop *loop, FILE *out);

/* ---- time ---- */

NARU_SUSPENDS int naru_yield(void); /* S: lets everything that is ready run first. 0 or -ECANCELED */

/* S: 0 after ns nanoseconds (<= 0: as naru_yield; NARU_FOREVER: only a cancellation ends it), or -ECANCELED. */
NARU_SUSPENDS int naru_sleep(int64_t ns);
NARU_SUSPENDS int naru_sleep_until(int64_t deadline_ns); /* on naru_now()'s clock */

/* What timeouts, and groups to come, have in common: a place in the chain of the scopes a task is in. Internal. */
struct naru__scope {
    struct naru__scope *outer;
    naru_timer *timer; /* that must not fire once the scope's frame is gone */
};

/* ---- futures ---- */

/* A result that will come, to be waited for by any number of tasks. Embedded, of one loop's thread. It must stay where it
 * is while anybody waits. */
typedef struct naru_future {
    naru_link waiters;
    naru_loop *loop; /* in which somebody waits for it */
    void *value;
    int status;
    unsigned char state, seen;
} naru_future;
#define NARU_FUTURE_INIT                  \
    {                                     \
        {NULL, NULL}, NULL, NULL, 0, 0, 0 \
    }

/* S: waits until it is done: its status. Does not suspend if it is already. As in asyncio, cancelling one waiter cancels
 * the future for all of them. -EINVAL: it is waited for in another loop. */
NARU_SUSPENDS int naru_future_wait(naru_future *f);

/* Settles it and wakes all waiters in the order they came. False if it was done already. */
bool naru_future_set(naru_future *f, int status, void *value);
bool naru_future_cancel(naru_future *f); /* the same as naru_future_set(f, -ECANCELED, NULL) */
bool naru_future_done(const naru_future *f);
bool naru_future_cancelled(const naru_future *f);
int naru_future_status(const naru_future *f); /* -EAGAIN while pending */
void *naru_future_value(const naru_future *f);

/* As naru_task_on_done. 0; -EPERM outside a running loop; -EINVAL: it is waited for in another loop. */
int naru_future_on_done(naru_future *f, naru_callback *cb, void (*fn)(void *arg), void *arg);

/* ---- task locals ---- */

/* A variable with a value per task: static const naru_local user = {"user", NULL}; its address is the key. A new task
 * starts with a copy of its creator's values. Outside tasks, inside a run, the values belong to the loop. */
typedef struct naru_local {
    const char *name;
    void *initial;
} naru_local;
void *naru_local_get(const naru_local *key);            /* never set: key->initial */
int naru_local_set(const naru_local *key, void *value); /* 0; -ENOMEM; -EPERM outside a run */

/* ---- bare coroutines: no loop, no task ---- */

typedef struct naru_coroutine naru_coroutine;

/* fn runs on a stack of its own from the first resume on; its argument is that resume's value. stack_size 0: 64 KiB.
 * NULL: no memory. Any thread, but one coroutine stays on one thread. */
naru_coroutine *naru_coroutine_create(void *(*fn)(void *first), size_t stack_size);

/* Continues it until it yields or returns, and gives what it yielded or returned. NULL at once if it is finished or already
 * running. */
void *naru_coroutine_resume(naru_coroutine *c, void *value);

/* Inside a coroutine: hands value to the resumer; returns the next resume's value. NULL outside one. */
void *naru_coroutine_yield(void *value);
bool naru_coroutine_finished(const naru_coroutine *c);

/* Frees it. If it is suspended in the middle its body is not continued: whatever it owns is the program's to know. Nothing
 * happens to one that is running, or to NULL. */
void naru_coroutine_destroy(naru_coroutine *c);

/* ---- generators ---- */

/* An asynchronous generator: a body that hands out values one by one and may suspend in between. It runs in the task that
 * asks for the next value. */
typedef struct naru_generator naru_generator;
naru_generator *naru_generator_start(naru_fn *fn,
                                     void *arg); /* NULL: no memory, or outside a run. Runs nothing yet */

/* S: 1 and a value; 0 at the end; < 0: the error the body ended with, once, then 0. -EBUSY: another task is in it. */
NARU_SUSPENDS NARU_CHECK int naru_generator_next(naru_generator *g, void **value);

/* Inside the body: hands out a value and waits to be asked for more: 0. -ECANCELED once it is being closed: clean up and
 * return. -EINVAL inside a timeout or group that the generator opened itself (PEP 789); -EPERM outside a generator. */
NARU_SUSPENDS int naru_generator_yield(void *value);

/* S: lets a suspended body clean up, and frees the generator. Once per handle, also when it never started (its body then
 * does not run) or has ended. The error the body ended with, if it was one; -EPROTO if it yielded again instead; -EBUSY
 * if another task is in it (then nothing was done). Generators left open are closed when naru_run ends. */
NARU_SUSPENDS int naru_generator_close(naru_generator *g);

#ifdef __cplusplus
}
#endif
#endif
