/* Watches: "call me whenever this descriptor is ready", level-triggered, as asyncio's add_reader.
 *
 * A watch is a poll operation that is never finished with. Each time its turn comes it asks poll(2) what is ready
 * now. If something is, it queues itself for the next round and calls the user; if not, it goes back to waiting. So it
 * needs no level-triggered registration of its own beside the edge-triggered ones that operations use, and a callback
 * that read everything is not called again for nothing: the next turn finds the descriptor empty. */
#include "reactor/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

static void queue_turn(naru_op *op)
{
    naru__ring_push(&op->core->ready, &op->callback.link);
}

static void turn(void *arg)
{
    naru_watch *watch = arg;
    naru_op *op = &watch->op;
    struct naru__core *core = op->core;
    int fd = op->fd;
    bool done = op->state == NARU__OP_IDLE ? naru__op_start(core, op) : naru__op_continue(op);
    if (!done)
        return; /* it waits, and will be notified */
    op->state = NARU__OP_IDLE;
    if (op->result < 0) {
        /* The descriptor was closed under us, or can no longer be waited for. Say so once; the watch has ended. */
        watch->fn(watch->arg, POLLNVAL);
        return;
    }
    int events = (int)op->result;
    naru_op_poll(op, fd, watch->events);
    queue_turn(op);
    watch->fn(watch->arg, events); /* last: it may stop the watch and free it */
}

int naru_watch_start(naru_loop *loop, naru_watch *watch, int fd, int events,
                     void (*fn)(void *arg, int events), void *arg)
{
    struct naru__core *core = naru__core_of(loop);
    if (!core)
        return -ESHUTDOWN;
    naru_watch_stop(watch);
    if (events == 0 || (events & ~(POLLIN | POLLOUT | POLLPRI)) != 0)
        return -EINVAL;
    if (fcntl(fd, F_GETFD) < 0)
        return -EBADF;
    watch->events = events;
    watch->fn = fn;
    watch->arg = arg;
    naru_op *op = &watch->op;
    naru_op_poll(op, fd, events);
    op->notify = queue_turn;
    op->callback.fn = turn;
    op->callback.arg = watch;
    if (!naru__op_start(core, op))
        return 0;
    op->state = NARU__OP_IDLE;
    if (op->result < 0)
        return (int)op->result;
    naru_op_poll(op, fd, events);
    queue_turn(op);
    return 0;
}

bool naru_watch_stop(naru_watch *watch)
{
    bool queued = naru_callback_cancel(&watch->op.callback);
    return naru__op_withdraw(&watch->op) || queued;
}
