/* The epoll engine: the kernel's interest list, and the wait.
 *
 * What this file is about is the key. epoll files its registrations under (descriptor number, open file), while a
 * program thinks in numbers only: after dup or fork a closed number lives on as a ghost that still sends events. So an
 * event carries, beside the number, the generation of its table entry (see readiness.c), and an event of another
 * generation is nobody's. Ghosts are edge-triggered too, so they cost a wake-up now and then and nothing else.
 *
 * Directions are registered when they are first waited for, not both at once: a Unix socket reports every message that
 * its peer takes out as writability, which a reader has no use for.
 *
 * The wake-up is an eventfd, edge-triggered and never read: every write to it is an event of its own, and its 64-bit
 * count does not overflow in practice (at one wake-up per nanosecond it would take 584 years). */
#include "reactor/internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { EVENTS_PER_POLL = 256 };
#define WAKE_UP UINT64_MAX

struct epoll {
    int fd;
    struct epoll_event events[EVENTS_PER_POLL];
};

static int epoll_open(struct naru__core *core)
{
    int rc;
    struct epoll *e = calloc(1, sizeof *e);
    if (!e)
        return -ENOMEM;
    e->fd = epoll_create1(EPOLL_CLOEXEC);
    if (e->fd < 0)
        goto no_epoll;
    int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd < 0)
        goto no_eventfd;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = WAKE_UP};
    if (epoll_ctl(e->fd, EPOLL_CTL_ADD, wake_fd, &event) < 0)
        goto no_wake;
    core->backend_state = e;
    core->loop->wake_fd = wake_fd;
    return 0;

no_wake:
    rc = -errno;
    close(wake_fd);
    errno = -rc;
no_eventfd:
    rc = -errno;
    close(e->fd);
    errno = -rc;
no_epoll:
    rc = -errno;
    free(e);
    return rc;
}

static void epoll_close(struct naru__core *core)
{
    struct epoll *e = core->backend_state;
    close(core->loop->wake_fd);
    close(e->fd);
    free(e);
}

static int epoll_arm(struct naru__core *core, int fd, struct naru__fd *entry, unsigned events)
{
    struct epoll *e = core->backend_state;
    if (events == 0)
        return epoll_ctl(e->fd, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
    struct epoll_event event = {.events = EPOLLET,
                                .data.u64 = (uint64_t)entry->generation << 32 | (uint32_t)fd};
    if (events & NARU__IN)
        event.events |= EPOLLIN | EPOLLRDHUP | EPOLLPRI;
    if (events & NARU__OUT)
        event.events |= EPOLLOUT;
    if (events & NARU__PRI)
        event.events |= EPOLLPRI;
    int op = entry->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(e->fd, op, fd, &event) == 0)
        return 0;
    /* The table was wrong: a ghost holds the key, or the descriptor was closed and reused behind our back. */
    if (errno == EEXIST || errno == ENOENT) {
        op = errno == EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
        if (epoll_ctl(e->fd, op, fd, &event) == 0)
            return 0;
    }
    return -errno;
}

static unsigned translate(uint32_t events)
{
    unsigned result = 0;
    if (events & EPOLLIN)
        result |= NARU__IN;
    if (events & EPOLLOUT)
        result |= NARU__OUT;
    if (events & EPOLLPRI)
        result |= NARU__PRI;
    if (events & EPOLLRDHUP)
        result |= NARU__IN | NARU__HUP;
    if (events & (EPOLLHUP | EPOLLERR))
        result |= NARU__HUP;
    return result;
}

/* epoll_pwait2 takes nanoseconds. Before Linux 5.11 there are only milliseconds, and they are rounded up: a loop that
 * wakes before its timer is due would spin until it is. */
static int wait_for_events(struct epoll *e, int64_t timeout_ns)
{
#ifdef SYS_epoll_pwait2
    static atomic_bool kernel_lacks_pwait2;
    if (timeout_ns > 0 && !atomic_load_explicit(&kernel_lacks_pwait2, memory_order_relaxed)) {
        struct {
            int64_t tv_sec, tv_nsec;
        } timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        int n = (int)syscall(SYS_epoll_pwait2, e->fd, e->events, EVENTS_PER_POLL, &timeout, NULL, 0);
        if (n >= 0 || errno != ENOSYS)
            return n;
        atomic_store_explicit(&kernel_lacks_pwait2, true, memory_order_relaxed);
    }
#endif
    int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000;
    return epoll_wait(e->fd, e->events, EVENTS_PER_POLL, ms > INT_MAX ? INT_MAX : (int)ms);
}

static int epoll_poll(struct naru__core *core, int64_t timeout_ns)
{
    struct epoll *e = core->backend_state;
    int n = wait_for_events(e, timeout_ns);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++) {
        uint64_t tag = e->events[i].data.u64;
        if (tag != WAKE_UP)
            naru__readiness_event(core, (int)(uint32_t)tag, (uint32_t)(tag >> 32),
                                  translate(e->events[i].events));
    }
    return 0;
}

static void epoll_wake(int wake_fd)
{
    uint64_t one = 1;
    ssize_t written = write(wake_fd, &one, sizeof one);
    (void)written; /* can only fail when the count is full, and then there is an event already */
}

static bool epoll_withdraw(struct naru__core *core, naru_op *op)
{
    if (op->state == NARU__OP_POOLED)
        return naru__pool_withdraw(core, op);
    naru__readiness_withdraw(core, op);
    return true;
}

const struct naru__backend naru__epoll = {
    .name = "epoll",
    .open = epoll_open,
    .close = epoll_close,
    .start = naru__readiness_start,
    .resume = naru__readiness_continue,
    .withdraw = epoll_withdraw,
    .forget = naru__readiness_forget,
    .poll = epoll_poll,
    .wake = epoll_wake,
    .arm = epoll_arm,
};
