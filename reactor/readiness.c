/* Descriptors and who waits on them: how "try it, and wait if it would block" becomes an operation.
 *
 * For engines that tell *readiness* (epoll, kqueue), each descriptor has an entry with the list of operations that wait
 * on it. An operation is tried at once; only when that says EAGAIN it joins the list, and the descriptor is registered
 * with the kernel, edge-triggered, for that direction. The registration then stays: a descriptor costs one or two
 * epoll_ctl calls in its life, however often it is waited on. An event makes the waiting operations try again,
 * each when its turn in the batch comes, so that data is read just before it is used.
 *
 * Three traps are handled here.
 *  - An edge comes once. So nobody may wait without having seen EAGAIN after the last edge. There is one shortcut: a
 *    TCP socket whose last read came up short is empty (epoll(7) says so), and the next read need not try before it
 *    waits; any event takes that mark off. (tokio does the same.) But a FIN, an error or urgent data may stop a read
 *    short with more to come and no further edge, so an entry that has seen one is always tried. So is every other kind
 *    of socket: a Unix socket's read also stops at a passed descriptor, and trying costs little there.
 *  - A number is not a file. Closing must wake who waits, and an event fetched before the close must not reach the
 *    file that got the number next: events carry the entry's generation.
 *  - A descriptor that only polls wait on may belong to another library, which closes it without telling us. So
 *    polls take their registration away again when the last of them leaves. */
#include "reactor/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the table: pages of entries, so that an entry never moves ---- */

enum { PAGE_BITS = 8, PAGE_ENTRIES = 1 << PAGE_BITS };

static void reset(struct naru__fd *entry)
{
    entry->generation++;
    entry->type = NARU__FD_UNKNOWN;
    entry->armed = 0;
    entry->kept = entry->drained = entry->always_try = false;
}

/* Outside a run naru_close is close(2) and tells nobody. So what was known before this run is not trusted: the
 * descriptor is registered anew. (If it is still registered after all, epoll says EEXIST, which is fine.) */
static void renew(struct naru__fd *entry, uint32_t run)
{
    entry->run = run;
    if (naru__ring_empty(&entry->waiters))
        reset(entry);
}

static struct naru__fd *find(struct naru__core *core, int fd)
{
    size_t page = (size_t)(unsigned)fd >> PAGE_BITS;
    if (fd < 0 || page >= core->fd_page_count || !core->fd_pages[page])
        return NULL;
    struct naru__fd *entry = &core->fd_pages[page][fd & (PAGE_ENTRIES - 1)];
    if (entry->run != core->runs)
        renew(entry, core->runs);
    return entry;
}

static int make_page(struct naru__core *core, size_t page)
{
    if (page >= core->fd_page_count) {
        size_t count = page + 1 > 2 * core->fd_page_count ? page + 1 : 2 * core->fd_page_count;
        struct naru__fd **pages = realloc(core->fd_pages, count * sizeof *pages);
        if (!pages)
            return -ENOMEM;
        memset(pages + core->fd_page_count, 0, (count - core->fd_page_count) * sizeof *pages);
        core->fd_pages = pages;
        core->fd_page_count = count;
    }
    struct naru__fd *entries = calloc(PAGE_ENTRIES, sizeof *entries);
    if (!entries)
        return -ENOMEM;
    for (int i = 0; i < PAGE_ENTRIES; i++)
        naru__ring_init(&entries[i].waiters);
    core->fd_pages[page] = entries;
    return 0;
}

static struct naru__fd *find_or_make(struct naru__core *core, int fd)
{
    struct naru__fd *entry = find(core, fd);
    if (entry || make_page(core, (size_t)(unsigned)fd >> PAGE_BITS) < 0)
        return entry;
    return find(core, fd);
}

/* ---- what kind of file ---- */

/* Called once per descriptor; kept out of the way, and off the stack, of what is called for each message. */
__attribute__((noinline)) static enum naru__fd_type socket_type(int fd)
{
    int ignored;
    socklen_t size = sizeof ignored;
    bool tcp = getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &ignored, &size) == 0; /* no other socket knows it */
    return tcp ? NARU__FD_STREAM : NARU__FD_SOCKET;
}

/* Also makes it non-blocking, so that no attempt can stop the loop. 0 or -errno. */
__attribute__((noinline)) static int classify(int fd, enum naru__fd_type *type)
{
    struct stat info;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &info) < 0)
        return -errno;
    if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode) || S_ISBLK(info.st_mode)) {
        *type = NARU__FD_FILE;
        return 0;
    }
    if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    *type = S_ISSOCK(info.st_mode) ? socket_type(fd) : NARU__FD_PLAIN;
    return 0;
}

/* read and write mean something else on each type of file; from here on the operation says what is really done. The
 * table is not told what was found out here: a number that nobody has waited on may be closed without telling us. */
static int prepare_any_file(naru_op *op, const struct naru__fd *entry, enum naru__fd_type *type)
{
    if (op->fd < 0)
        return -EBADF;
    if (entry && entry->type != NARU__FD_UNKNOWN) {
        *type = (enum naru__fd_type)entry->type;
    } else {
        int rc = classify(op->fd, type);
        if (rc < 0)
            return rc;
    }
    if (*type == NARU__FD_STREAM || *type == NARU__FD_SOCKET) {
        if (op->kind == NARU__OP_READ &&
            op->size > 0) /* of nothing, a read need not wait, but a recv would */
            op->kind = NARU__OP_RECV;
        else if (op->kind == NARU__OP_WRITE)
            op->kind = NARU__OP_SEND;
    }
    return 0;
}

static bool reads_or_writes(const naru_op *op)
{
    return op->kind >= NARU__OP_READ && op->kind <= NARU__OP_WRITEV;
}

/* ---- waiting ---- */

static unsigned wanted(const naru_op *op)
{
    unsigned events = NARU__HUP;
    if (op->events & (POLLIN | POLLRDNORM | POLLRDHUP))
        events |= NARU__IN;
    if (op->events & (POLLOUT | POLLWRNORM))
        events |= NARU__OUT;
    if (op->events & POLLPRI)
        events |= NARU__PRI;
    return events;
}

static bool done(naru_op *op, ssize_t result)
{
    op->result = result;
    op->state = NARU__OP_DONE;
    return true;
}

/* Returns true only if it failed, which ends the operation. */
static bool join_waiters(struct naru__core *core, naru_op *op, struct naru__fd *entry)
{
    if (!entry)
        entry = find_or_make(core, op->fd);
    if (!entry)
        return done(op, -ENOMEM);
    unsigned events = wanted(op) | entry->armed;
    if (events != entry->armed) {
        int rc = core->backend->arm(core, op->fd, entry, events);
        if (rc < 0)
            return done(op, rc);
        entry->armed = (uint8_t)events;
    }
    if (op->kind != NARU__OP_POLL && !entry->kept) {
        /* From now on it must be closed by naru_close, so what is found out about it can be relied on. */
        enum naru__fd_type type = NARU__FD_UNKNOWN;
        entry->kept = true;
        if (classify(op->fd, &type) == 0)
            entry->type = (uint8_t)type;
    }
    op->entry = entry;
    naru__ring_push(&entry->waiters, &op->link);
    op->state = NARU__OP_WAITING;
    core->busy++;
    return false;
}

static void leave_waiters(struct naru__core *core, naru_op *op)
{
    struct naru__fd *entry = op->entry;
    naru__unlink(&op->link);
    core->busy--;
    if (!entry->kept && entry->armed && naru__ring_empty(&entry->waiters)) {
        core->backend->arm(core, op->fd, entry, 0);
        entry->armed = 0;
        entry->drained = entry->always_try = false;
    }
}

/* Whether others wait for the same: then a newcomer may not try before them. */
static bool must_queue(const struct naru__fd *entry, const naru_op *op)
{
    unsigned events = wanted(op) & ~(unsigned)NARU__HUP;
    for (const naru_link *link = entry->waiters.next; link != &entry->waiters; link = link->next) {
        const naru_op *other = naru__container(link, const naru_op, link);
        if (other->kind != NARU__OP_POLL && (wanted(other) & events))
            return op->kind != NARU__OP_POLL;
    }
    return false;
}

/* The one who was told is gone, and what it was told of may not be used up: the next in line is told. (All who waited
 * when the event came were told then; this is for those who came later.) */
static void pass_on(struct naru__fd *entry, const naru_op *gone)
{
    unsigned events = wanted(gone) & ~(unsigned)NARU__HUP;
    for (naru_link *link = entry->waiters.next; link != &entry->waiters; link = link->next) {
        naru_op *op = naru__container(link, naru_op, link);
        if (op->state == NARU__OP_WAITING && (wanted(op) & events)) {
            op->state = NARU__OP_NOTIFIED;
            op->notify(op);
            return;
        }
    }
}

static bool is_plain_recv(const naru_op *op)
{
    return op->kind == NARU__OP_RECV && (op->flags & ~MSG_NOSIGNAL) == 0;
}

static void note_short_read(struct naru__fd *entry, const naru_op *op, ssize_t result)
{
    if (entry && entry->type == NARU__FD_STREAM && is_plain_recv(op) && result > 0 &&
        (size_t)result < op->size)
        entry->drained = (entry->armed & NARU__IN) && !entry->always_try;
}

/* Whether there is no use in trying: the socket is known to be empty, or others were first. */
static bool must_wait(const struct naru__fd *entry, const naru_op *op)
{
    if (entry->drained && is_plain_recv(op))
        return true;
    return !naru__ring_empty(&entry->waiters) && must_queue(entry, op);
}

bool naru__readiness_start(struct naru__core *core, naru_op *op)
{
    if (naru__op_info(op)->blocking)
        return naru__pool_start(core, op);
    struct naru__fd *entry = find(core, op->fd);
    if (naru__op_info(op)->any_file) {
        enum naru__fd_type type = NARU__FD_UNKNOWN;
        int rc = prepare_any_file(op, entry, &type);
        if (rc < 0)
            return done(op, rc);
        if (type == NARU__FD_FILE && reads_or_writes(op))
            return naru__pool_start(core, op);
    }
    bool only_try = op->flags & MSG_DONTWAIT;
    if (entry && !only_try && must_wait(entry, op))
        return join_waiters(core, op, entry);
    ssize_t result = naru__op_info(op)->attempt(op);
    if (result == -EAGAIN && !only_try)
        return join_waiters(core, op, entry);
    note_short_read(entry, op, result);
    return done(op, result);
}

bool naru__readiness_continue(struct naru__core *core, naru_op *op)
{
    struct naru__fd *entry = op->entry;
    ssize_t result = naru__op_info(op)->attempt(op);
    if (result == -EAGAIN) {
        op->state = NARU__OP_WAITING; /* still in its place in the list */
        return false;
    }
    leave_waiters(core, op);
    note_short_read(entry, op, result);
    if (!naru__ring_empty(&entry->waiters))
        pass_on(entry, op);
    return done(op, result);
}

void naru__readiness_withdraw(struct naru__core *core, naru_op *op)
{
    struct naru__fd *entry = op->entry;
    leave_waiters(core, op);
    if (op->state == NARU__OP_NOTIFIED && !naru__ring_empty(&entry->waiters))
        pass_on(entry, op);
}

/* ---- events ---- */

void naru__readiness_event(struct naru__core *core, int fd, uint32_t generation, unsigned events)
{
    struct naru__fd *entry = find(core, fd);
    if (!entry || entry->generation != generation)
        return;
    if (events & (NARU__HUP | NARU__PRI)) {
        entry->always_try = true;
        if (events & NARU__HUP)
            events |= NARU__IN | NARU__OUT;
    }
    if (events & (NARU__IN | NARU__PRI))
        entry->drained = false;
    for (naru_link *link = entry->waiters.next; link != &entry->waiters; link = link->next) {
        naru_op *op = naru__container(link, naru_op, link);
        if (op->state == NARU__OP_WAITING && (wanted(op) & events)) {
            op->state = NARU__OP_NOTIFIED;
            op->notify(op);
        }
    }
}

/* Ends what waits on an entry. While the number still means the same file, what has come in is taken first. */
static void evict(struct naru__core *core, struct naru__fd *entry, bool same_file)
{
    naru_link *link;
    while ((link = naru__ring_pop(&entry->waiters)) != NULL) {
        naru_op *op = naru__container(link, naru_op, link);
        bool told = op->state == NARU__OP_NOTIFIED;
        bool try_it = same_file && (told || !(op->events & POLLOUT));
        ssize_t result = try_it ? naru__op_info(op)->attempt(op) : -EBADF;
        core->busy--;
        done(op, result == -EAGAIN ? -EBADF : result);
        if (!told)
            op->notify(op);
    }
}

void naru__readiness_forget(struct naru__core *core, int fd)
{
    struct naru__fd *entry = find(core, fd);
    naru__pool_forget(core, fd);
    if (!entry)
        return;
    evict(core, entry, true);
    reset(entry);
}

void naru__fd_fresh(struct naru__core *core, int fd)
{
    struct naru__fd *entry = find(core, fd);
    if (!entry)
        return;
    evict(core, entry, false);
    reset(entry);
}

void naru__readiness_close(struct naru__core *core)
{
    for (size_t page = 0; page < core->fd_page_count; page++) {
        struct naru__fd *entries = core->fd_pages[page];
        for (int i = 0; entries && i < PAGE_ENTRIES; i++) {
            naru_link *link;
            while ((link = naru__ring_pop(&entries[i].waiters)) != NULL)
                naru__container(link, naru_op, link)->state = NARU__OP_IDLE;
        }
        free(entries);
    }
    free(core->fd_pages);
}
