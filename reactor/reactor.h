/* naru/reactor.h: an event loop with callbacks, usable without coroutines.
 *
 * A loop calls you back: soon (the ready queue), at a time (timers), when a descriptor or a signal is ready
 * (watches), when a piece of I/O is done (operations), or because another thread asked for it (posts).
 * Everything but a post is *intrusive*: the small struct you pass in lives in your own memory, the library links it
 * into its queues and allocates nothing. Such a struct starts zeroed, must stay where it is while it is
 * armed, and may be reused or freed from inside its own callback.
 *
 * Conventions, here and in every layer above: a result is >= 0 or -errno, and errno itself means nothing.
 * Times are int64_t nanoseconds on the monotonic clock. One loop belongs to one thread: unless a comment says
 * "any thread", call only from the thread that runs (or is about to run) the loop. A loop that is closed does nothing:
 * calls on it return -ESHUTDOWN, or nothing where they have no result. */
#ifndef NARU_REACTOR_H
#define NARU_REACTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NARU_CHECK __attribute__((warn_unused_result))

/* Durations, from any arithmetic value up to 290 years: NARU_SEC(0.5), NARU_MS(20). Constant when the value is. */
#define NARU_SEC(x) ((int64_t)((double)(x)*1e9))
#define NARU_MS(x) ((int64_t)((double)(x)*1e6))
#define NARU_US(x) ((int64_t)((double)(x)*1e3))
#define NARU_FOREVER INT64_MAX /* no limit */

/* naru_options.flags */
enum {
    NARU_DEBUG = 1, /* check threads, time every step, report more; also by NARU_DEBUG=1 in the environment */
    NARU_NO_SIGINT = 2,   /* naru_run leaves SIGINT alone */
    NARU_SIM_FAULTS = 4,  /* reserved for the sim backend: inject faults */
    NARU_SIM_SHUFFLE = 8, /* reserved for the sim backend: shuffle the ready queue */
};

/* Levels given to naru_options.report. */
enum { NARU_INFO, NARU_WARNING, NARU_ERROR };

typedef struct naru_loop naru_loop;

/* A zeroed struct, or NULL in place of a pointer to one, means defaults. Copied by naru_loop_open. */
typedef struct naru_options {
    const char *backend;   /* NULL: $NARU_BACKEND, else the system's default ("epoll" on Linux) */
    uint64_t seed;         /* reserved for the sim backend */
    size_t stack_size;     /* bytes for each task's stack; 0: 64 KiB */
    unsigned pool_threads; /* limit of the blocking pool; 0: 16 */
    unsigned flags;        /* NARU_DEBUG | ... */
    /* What would go to stderr: warnings, errors nobody looked at, deadlocks. text has no trailing newline and is
     * gone when the function returns. Called on the loop's thread. NULL: write to stderr. */
    void (*report)(int level, const char *text, void *arg);
    void *report_arg;
} naru_options;

/* Opens a loop. 0, or: -ENOMEM; -EMFILE or -ENFILE (no descriptor left); -ENOTSUP (no such backend in this
 * build). On failure *loop is NULL. Any thread; the thread that first runs it owns it. */
NARU_CHECK int naru_loop_open(naru_loop **loop, const naru_options *options);

/* Closes a loop: pending callbacks, timers, watches, operations and posts are dropped without being called, threads of
 * the blocking pool are waited for. 0, also when closed before or NULL; -EBUSY while it runs. The pointer stays good
 * for naru_loop_close and naru_post: a tombstone of at most 256 bytes is left for good. */
int naru_loop_close(naru_loop *loop);

/* Runs until naru_loop_stop (0), or until nothing is left that could ever happen (0): no callback, timer, watch, signal,
 * operation or hold. -EDEADLK: nothing can happen any more and tasks are parked for ever (reported; when the program
 * could still post through a loop pointer it holds, only in debug mode). -EBUSY: this loop, or another one in this
 * thread, runs already. -ESHUTDOWN: closed. Any other negative: the backend's wait failed. May be called again. */
int naru_loop_run(naru_loop *loop);

/* Lets naru_loop_run return after the current batch; called before a run, that run does one round with what is ready. */
void naru_loop_stop(naru_loop *loop);

/* Any thread. Between hold and unhold the loop waits even when it has nothing to do: something outside will post. */
void naru_loop_hold(naru_loop *loop);
void naru_loop_unhold(naru_loop *loop);

/* The loop this thread runs; NULL outside a run. */
naru_loop *naru_loop_current(void);

/* "epoll", ...; "closed" for a closed loop. */
const char *naru_loop_backend(const naru_loop *loop);

/* Nanoseconds on the running loop's clock, which is CLOCK_MONOTONIC unless the backend makes its own. Any thread. */
int64_t naru_now(void);

/* Links of an intrusive queue. Internal, as are all members below that do not carry a comment for users. */
typedef struct naru_link {
    struct naru_link *next, *prev;
} naru_link;

/* ---- callbacks ---- */

typedef struct naru_callback {
    naru_link link;
    void (*fn)(void *arg);
    void *arg;
} naru_callback;

/* Queues fn(arg) for the next batch; a callback that is still queued moves to the end. First come, first served. */
void naru_call_soon(naru_loop *loop, naru_callback *cb, void (*fn)(void *arg), void *arg);

/* Takes a callback back. True if it was still waiting to run (it will not), also when it waits for a future. */
bool naru_callback_cancel(naru_callback *cb);

/* ---- timers ---- */

typedef struct naru_timer {
    naru_callback callback;
    int64_t deadline; /* readable: when it is, or was, due */
} naru_timer;

/* Calls fn(arg) once, not before deadline_ns on naru_now()'s clock. Earlier deadlines first, first come first among
 * equals; one in the past is due at once. Starting a running timer restarts it. With
 * NARU_FOREVER it is running, but never due, and does not keep the loop running. */
void naru_timer_start(naru_loop *loop, naru_timer *timer, int64_t deadline_ns, void (*fn)(void *arg),
                      void *arg);

/* The same, delay_ns from now (saturating). */
void naru_timer_after(naru_loop *loop, naru_timer *timer, int64_t delay_ns, void (*fn)(void *arg), void *arg);

/* True if it was running: it will not be called any more. Constant time. */
bool naru_timer_stop(naru_timer *timer);

/* ---- operations ---- */

/* One I/O request. Fill it in with one of the naru_op_... functions below, submit it, and done(op) runs exactly once,
 * from the loop, with op->result. Until then the struct and the memory it points to belong to the library. */
typedef struct naru_op {
    ssize_t result; /* for done: what the system call of that name returns, or -errno */
    void *arg;      /* for done: as given to naru_op_submit */
    int fd;
    int flags;
    short events;
    unsigned char kind, state;
    unsigned mode;
    void (*notify)(struct naru_op *op);
    naru_link link;
    struct naru__fd *entry;
    void *buffer;
    size_t size;
    struct naru__core *core;
    int64_t offset;
    socklen_t *length;
    int (*call)(void *arg);
    void (*done)(struct naru_op *op);
    naru_callback callback;
} naru_op;

/* The arguments are those of the system call of that name. On a socket or a pipe an operation is tried at once, and
 * waited for only if it would block. read, write, readv and writev work on any descriptor: on regular files, as pread,
 * pwrite, open and fsync always, they run in the blocking pool. SIGPIPE is never raised: -EPIPE. A descriptor is
 * made non-blocking when something first waits on it, and by read, write, accept and connect. Interrupted calls are
 * repeated. MSG_DONTWAIT in flags: -EAGAIN instead of waiting. MSG_WAITALL has no effect: what is there is returned. */
void naru_op_recv(naru_op *op, int fd, void *buffer, size_t size, int flags);
void naru_op_send(naru_op *op, int fd, const void *data, size_t size, int flags);
void naru_op_recvmsg(naru_op *op, int fd, struct msghdr *message, int flags);
void naru_op_sendmsg(naru_op *op, int fd, const struct msghdr *message, int flags);
void naru_op_read(naru_op *op, int fd, void *buffer, size_t size);
void naru_op_write(naru_op *op, int fd, const void *data, size_t size);
void naru_op_readv(naru_op *op, int fd, const struct iovec *parts, int count);
void naru_op_writev(naru_op *op, int fd, const struct iovec *parts, int count);
void naru_op_accept(naru_op *op, int fd, struct sockaddr *addr,
                    socklen_t *len); /* result: CLOEXEC, non-blocking */
void naru_op_connect(naru_op *op, int fd, const struct sockaddr *addr, socklen_t len);
void naru_op_poll(naru_op *op, int fd,
                  int events); /* events and result as in poll(2); leaves no registration */
void naru_op_pread(naru_op *op, int fd, void *buffer, size_t size, int64_t offset);
void naru_op_pwrite(naru_op *op, int fd, const void *data, size_t size, int64_t offset);
void naru_op_open(naru_op *op, const char *path, int flags, unsigned mode); /* result: CLOEXEC */
void naru_op_fsync(naru_op *op, int fd);
void naru_op_call(naru_op *op, int (*fn)(void *arg),
                  void *arg); /* fn(arg) in a thread of the blocking pool */

/* Starts the operation. done is never called from inside submit, except on a closed loop: at once, with -ESHUTDOWN.
 * Errors arrive as op->result: what the system call says, -ENOMEM, -EAGAIN when the pool may not start its first thread,
 * -ECANCELED after naru_op_cancel, -EBADF when the descriptor was closed by naru_close or naru_loop_forget. */
void naru_op_submit(naru_loop *loop, naru_op *op, void (*done)(naru_op *op), void *arg);

/* Asks for an end. done still runs exactly once: with -ECANCELED if nothing happened, else with what did happen. A
 * call that a pool thread has begun cannot be stopped. No effect on an operation that is done or was never submitted. */
void naru_op_cancel(naru_op *op);

/* Before a descriptor that operations of this loop have waited on is closed: those that still wait end with -EBADF (or
 * with their data, if it had come), and the number may be used again by another file. */
void naru_loop_forget(naru_loop *loop, int fd);

/* ---- watches ---- */

typedef struct naru_watch {
    naru_op op;
    int events;
    void (*fn)(void *arg, int events);
    void *arg;
} naru_watch;

/* Calls fn(arg, events) in every round in which fd is ready (level-triggered), until stopped. events as in poll(2):
 * POLLIN, POLLOUT, POLLPRI; what is reported may also hold POLLHUP and POLLERR, and is
 * POLLNVAL, once and for the last time, if the descriptor turns out to be closed. Starting a running watch restarts it.
 * 0; -EBADF; -EINVAL (other or no events); -ENOMEM; -EPERM (the system cannot wait on such a descriptor, and it is not
 * always ready); -ESHUTDOWN. */
NARU_CHECK int naru_watch_start(naru_loop *loop, naru_watch *watch, int fd, int events,
                                void (*fn)(void *arg, int events), void *arg);

/* True if it was running. Leaves no registration behind: after it, the descriptor may be closed by anybody. Stop a watch
 * before its descriptor is closed, or it may go on with the next file of that number. */
bool naru_watch_stop(naru_watch *watch);

/* ---- signals ---- */

typedef struct naru_signal {
    naru_callback callback;
    naru_link link;
    struct naru__core *core;
    int signo;
    bool background;
} naru_signal;

/* Calls fn(arg) from the loop after each delivery of signo (the system, and this library, may merge deliveries that
 * nobody has handled yet). Several may watch one signal, in one loop or in several. In a loop that naru_run made,
 * watching SIGINT takes the place of naru_run's own handling of it. The first one installs a handler, the last one to
 * stop puts back what was there. 0; -EINVAL (no such signal, or it cannot be caught); -ENOMEM; -ESHUTDOWN. Starting a
 * running one restarts it. */
NARU_CHECK int naru_signal_start(naru_loop *loop, naru_signal *s, int signo, void (*fn)(void *arg),
                                 void *arg);

/* True if it was running; a delivery not yet called back is dropped. */
bool naru_signal_stop(naru_signal *s);

/* ---- other threads ---- */

/* Any thread, but not from a signal handler. Queues fn(arg) for the loop and wakes it. Posts of one thread keep their
 * order; from the thread that runs the loop it is naru_call_soon with an allocation. 0; -ENOMEM; -EINVAL: no fn;
 * -ESHUTDOWN once closed. */
int naru_post(naru_loop *loop, void (*fn)(void *arg), void *arg);

#ifdef __cplusplus
}
#endif
#endif
