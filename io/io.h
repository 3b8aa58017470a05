/* naru/io.h: files and sockets by their POSIX names, except that they suspend the task and not the thread.
 *
 * Arguments and results are those of the system call of that name; errors come back as -errno. Marks and conventions are
 * those of coro.h. For every call marked S: if the task has a cancellation pending when it is called, -ECANCELED and
 * nothing was done; cancelled while it waits, -ECANCELED and nothing was done; but I/O that has happened is always
 * reported, and the cancellation then stays pending for the next suspension. Interrupted calls are repeated; -EAGAIN is
 * returned only to MSG_DONTWAIT, and by calls on files if the pool may not start its first thread. The buffers must
 * stay until the call returns.
 *
 * Any number of tasks may wait on one descriptor, also in the same direction: first come, first served.
 *
 * A descriptor that these calls have waited on must be closed with naru_close. Descriptors made here are CLOEXEC and
 * non-blocking; others are made non-blocking when they are first waited on, or used by read, write, accept or connect.
 * SIGPIPE is never raised: -EPIPE. */
#ifndef NARU_IO_H
#define NARU_IO_H

#include <naru/sync.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- any descriptor ---- */

/* S. Regular files are read and written in the blocking pool. A cancelled call that a pool thread has begun is waited for. */
NARU_SUSPENDS ssize_t naru_read(int fd, void *buffer, size_t size);
NARU_SUSPENDS ssize_t naru_write(int fd, const void *data, size_t size);
NARU_SUSPENDS ssize_t naru_readv(int fd, const struct iovec *parts, int count);
NARU_SUSPENDS ssize_t naru_writev(int fd, const struct iovec *parts, int count);
NARU_SUSPENDS ssize_t naru_pread(int fd, void *buffer, size_t size, int64_t offset);
NARU_SUSPENDS ssize_t naru_pwrite(int fd, const void *data, size_t size, int64_t offset);

NARU_SUSPENDS int naru_open(const char *path, int flags,
                            unsigned mode); /* S, in the pool: a descriptor, CLOEXEC */
NARU_SUSPENDS int naru_fsync(int fd);       /* S, in the pool */

/* Wakes whoever waits on fd in this loop, with its data if that had come and else with -EBADF, and closes it. Does not
 * suspend. 0; -EBADF; -EIO and the like (it is closed all the same). Outside a run it is close(2). */
int naru_close(int fd);

/* S: events and result as in poll(2) (POLLIN, POLLOUT, POLLPRI; POLLHUP and POLLERR are always reported); -ETIMEDOUT after
 * timeout_ns (0: at once, without suspending; NARU_FOREVER: never); -EBADF. Leaves no registration behind, so it serves for
 * descriptors of other libraries, which close them themselves. */
NARU_SUSPENDS int naru_poll_fd(int fd, int events, int64_t timeout_ns);

/* As pipe(2) and socketpair(2). They do not suspend. */
NARU_CHECK int naru_pipe(int fd[2]);
NARU_CHECK int naru_socketpair(int domain, int type, int fd[2]);

/* ---- sockets ---- */

/* S. MSG_WAITALL has no effect: what is there is returned. */
NARU_SUSPENDS ssize_t naru_recv(int fd, void *buffer, size_t size, int flags);
NARU_SUSPENDS ssize_t naru_send(int fd, const void *data, size_t size, int flags);
NARU_SUSPENDS ssize_t naru_recvmsg(int fd, struct msghdr *message, int flags);
NARU_SUSPENDS ssize_t naru_sendmsg(int fd, const struct msghdr *message, int flags);

/* S: all of it: size, or an error, and then it is not known how much went out. */
NARU_SUSPENDS ssize_t naru_send_all(int fd, const void *data, size_t size);

/* S: a descriptor, or as accept(2): -EMFILE and -ENFILE come at once, every time, so pause before the next try. */
NARU_SUSPENDS int naru_accept(int fd, struct sockaddr *addr, socklen_t *len);

/* S: 0, or as connect(2). A Unix socket whose listener's queue is full: -ENOBUFS. Cancelled: close the descriptor. */
NARU_SUSPENDS int naru_connect(int fd, const struct sockaddr *addr, socklen_t len);

/* ---- TCP ---- */

enum { NARU_REUSE_PORT = 1 }; /* several listeners on one port, each in a loop of its own: SO_REUSEPORT */

/* S: a listening socket with SO_REUSEADDR and TCP_NODELAY (which its connections inherit). host: a numeric address,
 * "localhost" (127.0.0.1), or NULL: every interface, IPv4 and IPv6. port 0: any free one, see naru_local_port. backlog
 * <= 0: the system's limit. 0 and *fd; -ENOTSUP for any other host name; -EADDRINUSE, -EACCES and what else socket, bind
 * and listen say. On failure *fd is -1. */
NARU_SUSPENDS NARU_CHECK int naru_tcp_listen(const char *host, uint16_t port, int backlog, unsigned flags,
                                             int *fd);

/* S: a connection with TCP_NODELAY. host as above ("localhost": 127.0.0.1, then ::1; NULL the same). The error is that of
 * the last address tried. */
NARU_SUSPENDS NARU_CHECK int naru_tcp_connect(const char *host, uint16_t port, int *fd);

int naru_local_port(int fd); /* of a socket; -ENOTSOCK, -EBADF, -EAFNOSUPPORT. Any thread */

#ifdef __cplusplus
}
#endif
#endif
