/* Bare coroutines: resume and yield, without a loop.
 *
 * A coroutine is a stack and two moments: somebody enters it and waits, it leaves and waits. Who is innermost is kept per
 * flow of control: per task if there is one, else per thread. So a coroutine may be resumed inside a task, and what it calls
 * may suspend that task: the task then simply stands on the coroutine's stack. */
#include "coro/internal.h"

#include <stdlib.h>

/* For code outside tasks. */
static _Thread_local struct {
    naru__context *context; /* the stack it stands on; NULL: the thread's own, not adopted yet */
    naru_coroutine *innermost;
    naru__context own;
} thread_flow;

static naru__context **context_slot(naru_task *task)
{
    if (task)
        return &task->context;
    if (!thread_flow.context || thread_flow.context == &thread_flow.own) {
        naru__context_adopt(&thread_flow.own);
        thread_flow.context = &thread_flow.own;
    }
    return &thread_flow.context;
}

static naru_coroutine **innermost_slot(naru_task *task)
{
    return task ? &task->coroutine : &thread_flow.innermost;
}

naru_coroutine *naru__coroutine_here(void)
{
    return *innermost_slot(naru_self());
}

void naru__coroutine_enter(naru_coroutine *c)
{
    naru_task *task = naru_self();
    naru__context **at = context_slot(task);
    naru_coroutine **innermost = innermost_slot(task);
    c->resumer = *at;
    c->outer = *innermost;
    c->running = true;
    *innermost = c;
    *at = &c->stack->context;
    naru__context_switch(c->resumer, &c->stack->context);
}

/* The bookkeeping of going back; the switch is the caller's, because the last one is of another kind. */
static void step_out(naru_coroutine *c)
{
    naru_task *task = naru_self();
    c->running = false;
    *innermost_slot(task) = c->outer;
    *context_slot(task) = c->resumer;
}

void naru__coroutine_leave(naru_coroutine *c)
{
    step_out(c);
    naru__context_switch(&c->stack->context, c->resumer);
}

static void coroutine_main(void *arg)
{
    naru_coroutine *c = arg;
    c->transfer = c->fn(c->transfer);
    c->finished = true;
    step_out(c);
    naru__context_leave(&c->stack->context, c->resumer);
}

void naru__coroutine_prepare(naru_coroutine *c, struct naru__stack *stack)
{
    c->stack = stack;
    naru__context_init(&stack->context, stack->context.low, stack->context.size, coroutine_main, c);
}

naru_coroutine *naru_coroutine_create(void *(*fn)(void *first), size_t stack_size)
{
    naru_coroutine *c = fn ? calloc(1, sizeof *c) : NULL;
    if (!c)
        return NULL;
    struct naru__stack *stack = naru__stack_map(stack_size);
    if (!stack) {
        free(c);
        return NULL;
    }
    c->fn = fn;
    naru__coroutine_prepare(c, stack);
    return c;
}

void *naru_coroutine_resume(naru_coroutine *c, void *value)
{
    if (!c || c->finished || c->running)
        return NULL;
    c->transfer = value;
    naru__coroutine_enter(c);
    return c->transfer;
}

void *naru_coroutine_yield(void *value)
{
    naru_coroutine *c = naru__coroutine_here();
    if (!c || c->is_generator)
        return NULL;
    c->transfer = value;
    naru__coroutine_leave(c);
    return c->transfer;
}

bool naru_coroutine_finished(const naru_coroutine *c)
{
    return !c || c->finished;
}

void naru_coroutine_destroy(naru_coroutine *c)
{
    if (!c || c->running)
        return;
    naru__stack_unmap(c->stack);
    free(c);
}
