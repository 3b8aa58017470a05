/* Asynchronous generators: a coroutine that runs inside the task that asks for its next value.
 *
 * Since it runs in the consumer's task, what it awaits suspends the consumer, a cancellation of the consumer is felt
 * inside it, and naru_self is the consumer: exactly as with Python's `async for`. It needs a stack only between the
 * first value and the end.
 *
 * The trap is closing. A generator that is dropped in the middle still owns things, so it is continued once more, its
 * yield says -ECANCELED, and it is expected to clean up and return. One that yields again instead is not
 * argued with: it is abandoned, and the closer is told. */
#include "coro/internal.h"

#include <errno.h>
#include <stdlib.h>

struct naru_generator {
    naru_coroutine coroutine; /* its stack is NULL before the first next and after the end */
    naru_link link;           /* in scheduler->generators */
    struct naru__scheduler *scheduler;
    naru_fn *fn;
    void *arg;
    int status; /* what the body returned */
    bool closing;
    struct naru__scope *scope; /* the innermost scope when it was last entered */
};

static void *body(void *arg)
{
    naru_generator *g = arg;
    g->status = g->fn(g->arg);
    if (naru__drop_scopes(naru__self(), g->scope))
        naru__report_open_scope(naru__self());
    return NULL;
}

naru_generator *naru_generator_start(naru_fn *fn, void *arg)
{
    struct naru__scheduler *s = naru__here ? naru__scheduler_of(naru__here) : NULL;
    naru_generator *g = s && fn ? calloc(1, sizeof *g) : NULL;
    if (!g)
        return NULL;
    g->coroutine.fn = body;
    g->coroutine.is_generator = true;
    g->scheduler = s;
    g->fn = fn;
    g->arg = arg;
    naru__ring_push(&s->generators, &g->link);
    return g;
}

static void give_stack_back(naru_generator *g)
{
    struct naru__stack *stack = g->coroutine.stack;
    stack->context.sp = NULL; /* whoever takes it next must prepare it */
    naru__stack_give(stack);
    g->coroutine.stack = NULL;
}

/* Runs the body up to its next yield, or its end. 1: a value; 0: it has ended; < 0: it could not begin. */
static int advance(naru_generator *g)
{
    naru_coroutine *c = &g->coroutine;
    if (!c->stack) {
        struct naru__stack *stack = naru__stack_take(&g->scheduler->stacks);
        if (!stack) {
            naru__report_no_stack(g->scheduler, &g->scheduler->stacks, naru_self());
            return -ENOMEM;
        }
        c->transfer = g;
        naru__coroutine_prepare(c, stack);
    }
    g->scope = naru_self()->scope;
    naru__coroutine_enter(c);
    if (!c->finished)
        return 1;
    give_stack_back(g);
    return 0;
}

int naru_generator_next(naru_generator *g, void **value)
{
    *value = NULL;
    int rc = g ? naru__check_task() : -ENOMEM;
    if (rc < 0)
        return rc;
    if (g->coroutine.running)
        return -EBUSY;
    if (g->coroutine.finished)
        return 0;
    rc = advance(g);
    if (rc == 1)
        *value = g->coroutine.transfer;
    return rc == 0 && g->status < 0 ? g->status : rc;
}

int naru_generator_yield(void *value)
{
    naru_coroutine *c = naru__coroutine_here();
    if (!c || !c->is_generator)
        return -EPERM;
    naru_generator *g = naru__container(c, naru_generator, coroutine);
    if (naru_self()->scope != g->scope)
        return -EINVAL;
    c->transfer = value;
    naru__coroutine_leave(c);
    return g->closing ? -ECANCELED : 0;
}

static int wind_up(naru_generator *g)
{
    g->closing = true;
    int rc = advance(g);
    if (rc == 1) {
        give_stack_back(g);
        return -EPROTO;
    }
    return g->status < 0 && g->status != -ECANCELED ? g->status : 0;
}

int naru_generator_close(naru_generator *g)
{
    int rc = g ? naru__check_task() : -ENOMEM;
    if (rc < 0)
        return rc;
    if (g->coroutine.running)
        return -EBUSY;
    if (g->coroutine.stack)
        rc = wind_up(g);
    naru__unlink(&g->link);
    free(g);
    return rc;
}

/* One that a task never left stays as it is. */
static naru_generator *first_idle(struct naru__scheduler *s)
{
    for (naru_link *link = s->generators.next; link != &s->generators; link = link->next) {
        naru_generator *g = naru__container(link, naru_generator, link);
        if (!g->coroutine.running)
            return g;
    }
    return NULL;
}

void naru__generators_close_all(struct naru__scheduler *s)
{
    naru_generator *g;
    while ((g = first_idle(s)) != NULL) {
        int rc = naru_generator_close(g);
        if (rc < 0)
            naru__report(s->core, NARU_ERROR, "a generator that was left open ended with error %d (%s)", rc,
                         naru__error_text(rc));
    }
}

void naru__generators_drop(struct naru__scheduler *s)
{
    naru_link *link;
    while ((link = naru__ring_pop(&s->generators)) != NULL) {
        naru_generator *g = naru__container(link, naru_generator, link);
        if (g->coroutine.stack)
            naru__context_discard(&g->coroutine.stack->context);
        free(g);
    }
}
