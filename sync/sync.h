/* naru/sync.h: what tasks synchronise with.
 *
 * So far: timeouts. Marks and conventions are those of coro.h. */
#ifndef NARU_SYNC_H
#define NARU_SYNC_H

#include <naru/coro.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A scope with a deadline, asyncio.timeout():
 *
 *     naru_timeout t;
 *     int rc = naru_timeout_begin(&t, NARU_MS(500));
 *     if (rc == 0)
 *         rc = naru_timeout_end(&t, fetch(url));
 *
 * When the deadline passes, the task is cancelled; end turns the -ECANCELED that comes of it into -ETIMEDOUT, and lets one
 * that somebody else asked for pass. Scopes may be nested and must be ended in reverse order, in the task that began
 * them, before the function that holds the struct returns. */
typedef struct naru_timeout {
    struct naru__scope scope;
    naru_timer timer;
    naru_task *task;
    int cancelling; /* requests there were before */
    bool expired;
} naru_timeout;

/* timeout_ns from now (<= 0: at the next suspension; NARU_FOREVER: never). 0; -EPERM outside a task. Do not suspend. */
NARU_CHECK int naru_timeout_begin(naru_timeout *t, int64_t timeout_ns);
NARU_CHECK int naru_timeout_begin_at(naru_timeout *t, int64_t deadline_ns);

/* Moves the deadline (NARU_FOREVER: away). 0; -EALREADY: it has expired; -EPERM: not this task's. */
int naru_timeout_reschedule(naru_timeout *t, int64_t deadline_ns);
int64_t naru_timeout_when(const naru_timeout *t);
bool naru_timeout_expired(const naru_timeout *t);

/* Ends the scope; rc is what the block came to. -ETIMEDOUT in place of -ECANCELED if, and only if, this scope caused it;
 * else rc. Does not suspend. */
int naru_timeout_end(naru_timeout *t, int rc);

#ifdef __cplusplus
}
#endif
#endif
