/* Operations: one I/O request that completes once.
 *
 * "Submit it, and you are told once when it is done" is the shape of a completion engine such as io_uring. Here it is
 * made from system calls that never block: each kind of operation is a row of the table below, whose `attempt` makes
 * one try and says -EAGAIN when it would have to wait. Who waits, and for what, is readiness.c's business; what can
 * not be tried without blocking goes to pool.c.
 *
 * The trap of this file is SIGPIPE. The library may neither let it kill the program nor change its handling. Sockets
 * have MSG_NOSIGNAL; for pipes there is RWF_NOSIGNAL since Linux 6.18, and before that only the detour of
 * blocking the signal in this thread and taking it away again before it is let through. */
#include "reactor/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

/* ---- attempts ---- */

static ssize_t result_of(ssize_t rc)
{
    return rc >= 0 ? rc : errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

#define REPEAT(call)                       \
    ({                                     \
        ssize_t rc_;                       \
        do                                 \
            rc_ = (call);                  \
        while (rc_ < 0 && errno == EINTR); \
        result_of(rc_);                    \
    })

static ssize_t attempt_recv(naru_op *op)
{
    return REPEAT(recv(op->fd, op->buffer, op->size, op->flags | MSG_DONTWAIT));
}

static ssize_t attempt_send(naru_op *op)
{
    return REPEAT(send(op->fd, op->buffer, op->size, op->flags | MSG_DONTWAIT | MSG_NOSIGNAL));
}

static ssize_t attempt_recvmsg(naru_op *op)
{
    return REPEAT(recvmsg(op->fd, op->buffer, op->flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
}

static ssize_t attempt_sendmsg(naru_op *op)
{
    return REPEAT(sendmsg(op->fd, op->buffer, op->flags | MSG_DONTWAIT | MSG_NOSIGNAL));
}

static ssize_t attempt_read(naru_op *op)
{
    return REPEAT(read(op->fd, op->buffer, op->size));
}

static ssize_t attempt_readv(naru_op *op)
{
    return REPEAT(readv(op->fd, op->buffer, (int)op->size));
}

/* writev with SIGPIPE blocked. A SIGPIPE that was pending before is not ours to take away. */
static ssize_t writev_blocking_sigpipe(int fd, const struct iovec *parts, int count)
{
    sigset_t sigpipe, before, pending;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
    sigpending(&pending);
    ssize_t rc = REPEAT(writev(fd, parts, count));
    if (rc == -EPIPE && !sigismember(&pending, SIGPIPE)) {
        const struct timespec at_once = {0, 0};
        while (sigtimedwait(&sigpipe, NULL, &at_once) < 0 && errno == EINTR)
            continue;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x00000100 /* linux/fs.h, since Linux 6.18 */
#endif

static ssize_t writev_quietly(int fd, const struct iovec *parts, int count)
{
    static atomic_bool kernel_lacks_nosignal;
    if (!atomic_load_explicit(&kernel_lacks_nosignal, memory_order_relaxed)) {
        ssize_t rc = REPEAT(pwritev2(fd, parts, count, -1, RWF_NOSIGNAL));
        if (rc != -EOPNOTSUPP && rc != -ENOSYS)
            return rc;
        atomic_store_explicit(&kernel_lacks_nosignal, true, memory_order_relaxed);
    }
    return writev_blocking_sigpipe(fd, parts, count);
}

static ssize_t attempt_write(naru_op *op)
{
    struct iovec part = {op->buffer, op->size};
    return writev_quietly(op->fd, &part, 1);
}

static ssize_t attempt_writev(naru_op *op)
{
    return writev_quietly(op->fd, op->buffer, (int)op->size);
}

static ssize_t attempt_accept(naru_op *op)
{
    ssize_t rc;
    do
        rc = REPEAT(accept4(op->fd, op->buffer, op->length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    while (rc == -ECONNABORTED); /* that client has already gone; the next one may be waiting */
    return rc;
}

/* A connect is begun once and then waited for; the second attempt asks how it went. */
static ssize_t attempt_connect(naru_op *op)
{
    enum { BEGUN = 1 };
    if (op->mode != BEGUN) {
        op->mode = BEGUN;
        if (connect(op->fd, op->buffer, (socklen_t)op->size) == 0)
            return 0;
        /* Interrupted, it goes on by itself: connect(2). */
        return errno == EINPROGRESS || errno == EINTR ? -EAGAIN : errno == EAGAIN ? -ENOBUFS : -errno;
    }
    struct pollfd ready = {.fd = op->fd, .events = POLLOUT};
    if (poll(&ready, 1, 0) == 0)
        return -EAGAIN;
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return -errno;
    return -error;
}

static ssize_t attempt_poll(naru_op *op)
{
    if (op->fd < 0)
        return -EBADF; /* poll(2) would pass over it */
    struct pollfd ready = {.fd = op->fd, .events = op->events};
    ssize_t rc = REPEAT(poll(&ready, 1, 0));
    if (rc <= 0)
        return rc < 0 ? rc : -EAGAIN;
    return ready.revents & POLLNVAL ? -EBADF : ready.revents;
}

static ssize_t attempt_pread(naru_op *op)
{
    return REPEAT(pread(op->fd, op->buffer, op->size, op->offset));
}

static ssize_t attempt_pwrite(naru_op *op)
{
    return REPEAT(pwrite(op->fd, op->buffer, op->size, op->offset));
}

static ssize_t attempt_open(naru_op *op)
{
    return REPEAT(open(op->buffer, op->flags | O_CLOEXEC, op->mode));
}

static ssize_t attempt_fsync(naru_op *op)
{
    return REPEAT(fsync(op->fd));
}

static ssize_t attempt_call(naru_op *op)
{
    return op->call(op->buffer);
}

const struct naru__op_kind_info naru__op_kinds[NARU__OP_KINDS] = {
    [NARU__OP_RECV] = {"recv", POLLIN, .attempt = attempt_recv},
    [NARU__OP_SEND] = {"send", POLLOUT, .attempt = attempt_send},
    [NARU__OP_RECVMSG] = {"recvmsg", POLLIN, .attempt = attempt_recvmsg},
    [NARU__OP_SENDMSG] = {"sendmsg", POLLOUT, .attempt = attempt_sendmsg},
    [NARU__OP_READ] = {"read", POLLIN, .any_file = true, .attempt = attempt_read},
    [NARU__OP_WRITE] = {"write", POLLOUT, .any_file = true, .attempt = attempt_write},
    [NARU__OP_READV] = {"readv", POLLIN, .any_file = true, .attempt = attempt_readv},
    [NARU__OP_WRITEV] = {"writev", POLLOUT, .any_file = true, .attempt = attempt_writev},
    [NARU__OP_ACCEPT] = {"accept", POLLIN, .any_file = true, .attempt = attempt_accept},
    [NARU__OP_CONNECT] = {"connect", POLLOUT, .any_file = true, .attempt = attempt_connect},
    [NARU__OP_POLL] = {"poll", 0, .attempt = attempt_poll},
    [NARU__OP_PREAD] = {"pread", 0, .blocking = true, .attempt = attempt_pread},
    [NARU__OP_PWRITE] = {"pwrite", 0, .blocking = true, .attempt = attempt_pwrite},
    [NARU__OP_OPEN] = {"open", 0, .blocking = true, .attempt = attempt_open},
    [NARU__OP_FSYNC] = {"fsync", 0, .blocking = true, .attempt = attempt_fsync},
    [NARU__OP_CALL] = {"call", 0, .blocking = true, .attempt = attempt_call},
};

const char *naru__op_name(const naru_op *op)
{
    return naru__op_kinds[op->kind].name;
}

/* ---- filling one in ---- */

/* Only what the attempts read is written: an operation is made for every message. */
static void fill(naru_op *op, enum naru__op_kind kind, int fd, const void *buffer, size_t size, int flags)
{
    op->kind = (unsigned char)kind;
    op->state = NARU__OP_IDLE;
    op->fd = fd;
    op->flags = flags;
    op->events = naru__op_kinds[kind].events;
    op->mode = 0;
    op->buffer = (void *)(uintptr_t)buffer;
    op->size = size;
    op->callback.link.next = NULL;
}

void naru_op_recv(naru_op *op, int fd, void *buffer, size_t size, int flags)
{
    fill(op, NARU__OP_RECV, fd, buffer, size, flags);
}

void naru_op_send(naru_op *op, int fd, const void *data, size_t size, int flags)
{
    fill(op, NARU__OP_SEND, fd, data, size, flags);
}

void naru_op_recvmsg(naru_op *op, int fd, struct msghdr *message, int flags)
{
    fill(op, NARU__OP_RECVMSG, fd, message, 0, flags);
}

void naru_op_sendmsg(naru_op *op, int fd, const struct msghdr *message, int flags)
{
    fill(op, NARU__OP_SENDMSG, fd, message, 0, flags);
}

void naru_op_read(naru_op *op, int fd, void *buffer, size_t size)
{
    fill(op, NARU__OP_READ, fd, buffer, size, 0);
}

void naru_op_write(naru_op *op, int fd, const void *data, size_t size)
{
    fill(op, NARU__OP_WRITE, fd, data, size, 0);
}

void naru_op_readv(naru_op *op, int fd, const struct iovec *parts, int count)
{
    fill(op, NARU__OP_READV, fd, parts, (size_t)count, 0);
}

void naru_op_writev(naru_op *op, int fd, const struct iovec *parts, int count)
{
    fill(op, NARU__OP_WRITEV, fd, parts, (size_t)count, 0);
}

void naru_op_accept(naru_op *op, int fd, struct sockaddr *addr, socklen_t *len)
{
    fill(op, NARU__OP_ACCEPT, fd, addr, 0, 0);
    op->length = len;
}

void naru_op_connect(naru_op *op, int fd, const struct sockaddr *addr, socklen_t len)
{
    fill(op, NARU__OP_CONNECT, fd, addr, len, 0);
}

void naru_op_poll(naru_op *op, int fd, int events)
{
    fill(op, NARU__OP_POLL, fd, NULL, 0, 0);
    op->events = (short)events;
}

void naru_op_pread(naru_op *op, int fd, void *buffer, size_t size, int64_t offset)
{
    fill(op, NARU__OP_PREAD, fd, buffer, size, 0);
    op->offset = offset;
}

void naru_op_pwrite(naru_op *op, int fd, const void *data, size_t size, int64_t offset)
{
    fill(op, NARU__OP_PWRITE, fd, data, size, 0);
    op->offset = offset;
}

void naru_op_open(naru_op *op, const char *path, int flags, unsigned mode)
{
    fill(op, NARU__OP_OPEN, -1, path, 0, flags);
    op->mode = mode;
}

void naru_op_fsync(naru_op *op, int fd)
{
    fill(op, NARU__OP_FSYNC, fd, NULL, 0, 0);
}

void naru_op_call(naru_op *op, int (*fn)(void *arg), void *arg)
{
    fill(op, NARU__OP_CALL, -1, arg, 0, 0);
    op->call = fn;
}

/* ---- the protocol ---- */

bool naru__op_withdraw(naru_op *op)
{
    if (op->state == NARU__OP_IDLE || op->state == NARU__OP_DONE)
        return false;
    if (!op->core->backend->withdraw(op->core, op))
        return false;
    op->state = NARU__OP_IDLE;
    return true;
}

/* ---- with a callback ---- */

static void turn(void *arg)
{
    naru_op *op = arg;
    if (naru__op_continue(op)) {
        op->state = NARU__OP_IDLE;
        op->done(op);
    }
}

static void queue_turn(naru_op *op)
{
    op->callback.fn = turn;
    op->callback.arg = op;
    naru__ring_push(&op->core->ready, &op->callback.link);
}

void naru_op_submit(naru_loop *loop, naru_op *op, void (*done)(naru_op *op), void *arg)
{
    struct naru__core *core = naru__core_of(loop);
    op->done = done;
    op->arg = arg;
    op->notify = queue_turn;
    if (!core) {
        op->result = -ESHUTDOWN;
        done(op);
        return;
    }
    if (naru__op_start(core, op)) {
        op->state = NARU__OP_DONE;
        queue_turn(op);
    }
}

void naru_op_cancel(naru_op *op)
{
    if (!naru__op_withdraw(op))
        return;
    if (naru__linked(&op->callback.link))
        naru__unlink(&op->callback.link);
    op->result = -ECANCELED;
    op->state = NARU__OP_DONE;
    queue_turn(op);
}

void naru_loop_forget(naru_loop *loop, int fd)
{
    struct naru__core *core = naru__core_of(loop);
    if (core)
        core->backend->forget(core, fd);
}
