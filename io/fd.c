/* The POSIX names. Each call fills in an operation and does it. */
#include "io/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

ssize_t naru_read(int fd, void *buffer, size_t size)
{
    naru_op op;
    naru_op_read(&op, fd, buffer, size);
    return naru__io(&op);
}

ssize_t naru_write(int fd, const void *data, size_t size)
{
    naru_op op;
    naru_op_write(&op, fd, data, size);
    return naru__io(&op);
}

ssize_t naru_readv(int fd, const struct iovec *parts, int count)
{
    naru_op op;
    naru_op_readv(&op, fd, parts, count);
    return naru__io(&op);
}

ssize_t naru_writev(int fd, const struct iovec *parts, int count)
{
    naru_op op;
    naru_op_writev(&op, fd, parts, count);
    return naru__io(&op);
}

ssize_t naru_pread(int fd, void *buffer, size_t size, int64_t offset)
{
    naru_op op;
    naru_op_pread(&op, fd, buffer, size, offset);
    return naru__io(&op);
}

ssize_t naru_pwrite(int fd, const void *data, size_t size, int64_t offset)
{
    naru_op op;
    naru_op_pwrite(&op, fd, data, size, offset);
    return naru__io(&op);
}

ssize_t naru_recv(int fd, void *buffer, size_t size, int flags)
{
    naru_op op;
    naru_op_recv(&op, fd, buffer, size, flags);
    return naru__io(&op);
}

ssize_t naru_send(int fd, const void *data, size_t size, int flags)
{
    naru_op op;
    naru_op_send(&op, fd, data, size, flags);
    return naru__io(&op);
}

ssize_t naru_recvmsg(int fd, struct msghdr *message, int flags)
{
    naru_op op;
    naru_op_recvmsg(&op, fd, message, flags);
    return naru__io(&op);
}

ssize_t naru_sendmsg(int fd, const struct msghdr *message, int flags)
{
    naru_op op;
    naru_op_sendmsg(&op, fd, message, flags);
    return naru__io(&op);
}

ssize_t naru_send_all(int fd, const void *data, size_t size)
{
    if (size == 0) {
        int rc = naru__check_task();
        return rc < 0 ? rc : naru__check_cancel();
    }
    for (size_t sent = 0; sent < size;) {
        ssize_t n = naru_send(fd, (const char *)data + sent, size - sent, 0);
        if (n < 0)
            return n;
        sent += (size_t)n;
    }
    return (ssize_t)size;
}

/* The number of a new descriptor may be one that the loop knows from before: closed behind our back. */
static int fresh(int fd)
{
    if (fd >= 0 && naru__here)
        naru__fd_fresh(naru__here, fd);
    return fd;
}

int naru_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
    naru_op op;
    naru_op_accept(&op, fd, addr, len);
    int accepted = (int)naru__io(&op);
    return accepted < 0 ? accepted : fresh(accepted);
}

int naru_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    naru_op op;
    naru_op_connect(&op, fd, addr, len);
    return (int)naru__io(&op);
}

int naru_open(const char *path, int flags, unsigned mode)
{
    naru_op op;
    naru_op_open(&op, path, flags, mode);
    return fresh((int)naru__io(&op));
}

int naru_fsync(int fd)
{
    naru_op op;
    naru_op_fsync(&op, fd);
    return (int)naru__io(&op);
}

int naru_poll_fd(int fd, int events, int64_t timeout_ns)
{
    naru_op op;
    if (fd < 0) /* poll(2) takes these for "no descriptor" */
        return naru__check_task() < 0 ? -EPERM : -EBADF;
    naru_op_poll(&op, fd, events);
    if (timeout_ns <= 0) {
        int rc = naru__check_task();
        if (rc == 0)
            rc = naru__check_cancel();
        ssize_t now = rc < 0 ? rc : naru__op_info(&op)->attempt(&op);
        return now == -EAGAIN ? -ETIMEDOUT : (int)now;
    }
    return (int)naru__io_until(&op, naru__add_ns(timeout_ns == NARU_FOREVER ? 0 : naru_now(), timeout_ns));
}

int naru_close(int fd)
{
    struct naru__core *core = naru__here;
    if (core && fd >= 0)
        core->backend->forget(core, fd);
    /* Linux has closed it even when it says EINTR: close(2). */
    return close(fd) == 0 || errno == EINTR ? 0 : -errno;
}

int naru_pipe(int fd[2])
{
    if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    fresh(fd[0]);
    fresh(fd[1]);
    return 0;
}

int naru_socketpair(int domain, int type, int fd[2])
{
    if (socketpair(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) < 0)
        return -errno;
    fresh(fd[0]);
    fresh(fd[1]);
    return 0;
}
