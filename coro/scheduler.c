/* Who runs next: the ready queue seen by tasks.
 *
 * A task that parks does not go back to the loop. It looks at the ready queue itself, and when the next thing there is
 * a task, it switches straight to it. Only a plain callback, the end of a round, or an empty queue leads back to the
 * loop's own stack. So a switch between two tasks costs one switch, not two.
 *
 * A task gets its stack when it first runs. When a body has ended, the flow of control on its stack goes on with
 * the next task if that has not started yet, without any switch: ten thousand short tasks run through one warm stack.
 *
 * A dense stack has room for its task and nothing else. So a dense task ends, and the next one begins, on the loop's
 * stack: a report, or a value's destroy function, needs more than the little that is left.
 *
 * The traps: a task may be freed by its own end, so nothing of it is used after naru__task_end; and the stack that is
 * given back is still the one we stand on, so nobody may unmap it before we have left (see slots.h). */
#include "coro/internal.h"

#include <errno.h>
#include <stdlib.h>

enum { BLOCKS_BYTES = 64 * 1024, IO_BUDGET = 64 };

/* A task that starts another one eagerly is suspended in the middle of a step until the other suspends. */
struct naru__eager {
    struct naru__eager *outer;
    naru_task *starter; /* NULL: a callback */
    naru__context *context;
};

/* ---- taking stacks ---- */

void naru__report_no_stack(struct naru__scheduler *s, const struct naru__stacks *stacks,
                           const naru_task *task)
{
    char who[64];
    naru__task_label(task, who, sizeof who);
    if (stacks && stacks->error == -EMLINK)
        naru__report(s->core, NARU_ERROR,
                     "%s: no guard page for another stack: the process has reached vm.max_map_count mappings "
                     "(raise it with sysctl, or use fewer tasks, or NARU_DENSE_STACK)",
                     who);
    else
        naru__report(s->core, NARU_ERROR, "%s: no memory for a stack", who);
}

static void task_main(void *arg);

static struct naru__stacks *stacks_for(struct naru__scheduler *s, const naru_task *task)
{
    bool dense = task->flags & NARU_DENSE_STACK;
    return task->stack_size == 0 && !dense ? &s->stacks : naru__stacks_of(s, task->stack_size, dense);
}

/* Gives a new task its stack. True if it can run now. False: it ended instead. */
static bool begin(struct naru__scheduler *s, naru_task *task, struct naru__stack *spare)
{
    if (task->cancel_pending) {
        naru__task_end(task, -ECANCELED);
        return false;
    }
    struct naru__stacks *stacks = stacks_for(s, task);
    struct naru__stack *stack = spare;
    if (!spare || spare->owner != stacks) {
        stack = stacks ? naru__stack_take(stacks) : NULL;
        if (!stack) {
            naru__report_no_stack(s, stacks, task);
            naru__task_end(task, -ENOMEM);
            return false;
        }
        if (!stack->context.sp)
            naru__context_init(&stack->context, stack->context.low, stack->context.size, task_main, s);
    }
    task->stack = stack;
    task->context = &stack->context;
    return true;
}

/* ---- who is next ---- */

static inline naru__context *run_task(struct naru__scheduler *s, naru_task *task)
{
    task->state = NARU__TASK_RUNNING;
    s->current = task;
    s->budget = IO_BUDGET;
    return task->context;
}

static void set_detour(struct naru__scheduler *s)
{
    s->detour = s->eager || s->core->debug;
}

static naru__context *back_to_starter(struct naru__scheduler *s)
{
    struct naru__eager *frame = s->eager;
    s->eager = frame->outer;
    s->current = frame->starter;
    set_detour(s);
    return frame->context;
}

/* The next in the queue, if it is a task, taken out of it. */
static inline naru_task *next_task(struct naru__scheduler *s)
{
    naru_callback *cb = naru__next_ready(s->core);
    if (!cb || cb->fn != naru__task_step)
        return NULL;
    naru__ring_drop_first(&s->core->batch, &cb->link);
    return naru__container(cb, naru_task, step);
}

/* Where to go from here. spare: a stack whose task has ended, and which the next new task may simply go on with. In
 * debug mode every step goes through the loop, which measures it. */
static inline naru__context *next_context(struct naru__scheduler *s, struct naru__stack *spare)
{
    naru_task *task;
    if (__builtin_expect(s->eager != NULL, 0))
        return back_to_starter(s);
    while (!s->detour && (task = next_task(s)) != NULL)
        if (__builtin_expect(task->state != NARU__TASK_NEW, 1) || begin(s, task, spare))
            return run_task(s, task);
    s->current = NULL;
    return &s->thread;
}

static inline void check_canary(const naru_task *task)
{
    if (__builtin_expect(task->flags & NARU_DENSE_STACK, 0) && task->stack->owner->dense &&
        naru__stack_overrun(task->stack))
        naru__overflow_dense(task);
}

/* What runs on every task stack, for as many tasks as come along. A stack that is given back stays suspended in here, so
 * that the next task that takes it needs no new context. */
static void task_main(void *arg)
{
    struct naru__scheduler *s = arg;
    for (;;) {
        naru_task *task = s->current;
        struct naru__stack *stack = task->stack;
        if (naru__float_control() != s->float_control)
            naru__set_float_control(s->float_control); /* whoever ran here before has changed it */
        int status = task->fn(task->arg);
        if (__builtin_expect(task->scope != NULL, 0) && naru__drop_scopes(task, NULL))
            naru__report_open_scope(task);
        check_canary(task);
        s->current = NULL; /* nothing that is called on its way out can suspend */
        naru__context *next = &s->thread;
        if (stack->owner->dense && !s->eager) {
            s->ended_dense = task; /* naru__task_step does the rest */
            s->ended_status = status;
        } else {
            naru__task_end(task, status);
            next = next_context(s, stack);
        }
        if (next != &stack->context) {
            naru__stack_give(stack);
            naru__context_switch_alike(&stack->context, next);
        }
    }
}

__attribute__((noinline)) static void switch_away_slowly(struct naru__scheduler *s)
{
    const naru_task *task = s->current;
    naru__context *from = task->context, *to = &s->thread;
    check_canary(task);
    if (task->stack->owner->dense && !s->eager)
        s->current = NULL;
    else
        to = next_context(s, NULL);
    if (to != from)
        naru__context_switch_alike(from, to);
}

/* The fast way: from one waiting task to another that has been woken. The switch comes last, so that it is a jump and not
 * a call: then its return is this function's return, which the processor predicts from the call that the other task made
 * to get here (see context_x86_64.S). Nothing here calls a function, so no register has to be saved twice. */
void naru__switch_away(struct naru__scheduler *s)
{
    naru_task *task = s->current, *next = NULL;
    struct naru__core *core = s->core;
    bool ordinary = !s->detour && !(task->flags & NARU_DENSE_STACK);
    naru_callback *cb = ordinary ? naru__next_ready(core) : NULL;
    if (cb && cb->fn == naru__task_step)
        next = naru__container(cb, naru_task, step);
    if (!next || next->state == NARU__TASK_NEW) {
        switch_away_slowly(s);
        return;
    }
    naru__ring_drop_first(&core->batch, &cb->link);
    run_task(s, next);
    if (next != task)
        naru__context_switch_alike(task->context, next->context);
}

/* From the loop. */
void naru__task_step(void *arg)
{
    naru_task *task = arg;
    struct naru__scheduler *s = task->scheduler;
    if (task->state == NARU__TASK_NEW && !begin(s, task, NULL))
        return;
    naru__context_switch_alike(&s->thread, run_task(s, task));
    if (s->ended_dense) {
        task = s->ended_dense;
        s->ended_dense = NULL;
        naru__task_end(task, s->ended_status);
    }
}

void naru__start_eagerly(struct naru__scheduler *s, naru_task *task)
{
    naru_task *starter = s->current;
    unsigned budget = s->budget;
    struct naru__eager frame = {s->eager, starter, starter ? starter->context : &s->thread};
    if (!begin(s, task, NULL))
        return;
    s->eager = &frame;
    set_detour(s);
    naru__context_switch(frame.context, run_task(s, task));
    s->budget = budget;
}

/* ---- parking ---- */

int naru__check_task(void)
{
    struct naru__scheduler *s = naru__scheduler_here();
    return s && s->current ? 0 : -EPERM;
}

static void delivered(naru_task *task)
{
    task->cancel_pending = (task->flags & NARU_STICKY_CANCEL) != 0;
}

int naru__check_cancel(void)
{
    naru_task *task = naru__self();
    if (!task || !task->cancel_pending)
        return 0;
    delivered(task);
    return -ECANCELED;
}

/* A request reaches a parked task. Awaiting passes it down the chain, which is a loop here because it may be long. */
static void deliver_to_parked(naru_task *task)
{
    while (task->wait->passes_on) {
        task = task->wait->waits_for(task->wait_object);
        task->cancels++;
        task->cancel_pending = true;
        if (task->state != NARU__TASK_PARKED)
            return;
    }
    if (task->wait->cancel)
        task->wait->cancel(task, task->wait_object);
    else
        naru__wake(task, -ECANCELED);
}

int naru__park(const struct naru__wait_kind *kind, void *object)
{
    struct naru__scheduler *s = naru__scheduler_here();
    naru_task *task = s->current;
    task->wait = kind;
    task->wait_object = object;
    task->wait_since = s->core->now;
    task->state = NARU__TASK_PARKED;
    s->parked++;
    if (task->cancel_pending)
        deliver_to_parked(task);
    naru__switch_away(s);
    task->wait = NULL;
    if (task->cancel_pending && (!kind->result_wins || task->wake_result == -ECANCELED)) {
        delivered(task);
        return -ECANCELED;
    }
    return task->wake_result;
}

bool naru__wake(naru_task *task, int result)
{
    if (task->state != NARU__TASK_PARKED)
        return false;
    task->state = NARU__TASK_READY;
    task->wake_result = result;
    task->scheduler->parked--;
    naru__make_ready(task);
    return true;
}

int naru__wait_in_line(naru_link *line, struct naru__waiter *waiter, const struct naru__wait_kind *kind,
                       void *object)
{
    *waiter = (struct naru__waiter){.task = naru_self()};
    naru__ring_ready(line);
    naru__ring_push(line, &waiter->link);
    int rc = naru__park(kind, object);
    if (naru__linked(&waiter->link))
        naru__unlink(&waiter->link);
    return rc;
}

bool naru__wake_first(naru_link *line)
{
    naru__ring_ready(line);
    naru_link *link;
    while ((link = naru__ring_pop(line)) != NULL) {
        struct naru__waiter *waiter = naru__container(link, struct naru__waiter, link);
        if (naru__wake(waiter->task, 0)) {
            waiter->given = true;
            return true;
        }
    }
    return false;
}

bool naru_cancel(naru_task *task)
{
    if (!task)
        return false;
    if (naru_done(task)) {
        naru_result(task); /* whoever cancels a task does not care for its error any more */
        return false;
    }
    if ((task->flags & NARU__TASK_SHARED) && (!naru__here || naru__here->loop != naru__shared_loop(task)))
        return naru__shared_cancel(task);
    task->cancels++;
    task->cancel_pending = true;
    if (task->state == NARU__TASK_PARKED)
        deliver_to_parked(task);
    return true;
}

int naru_cancelling(const naru_task *task)
{
    return task ? task->cancels : 0;
}

int naru_uncancel(naru_task *task)
{
    if (!task || task->cancels == 0)
        return 0;
    if (--task->cancels == 0)
        task->cancel_pending = false;
    return task->cancels;
}

/* ---- a loop's scheduler ---- */

static struct naru__scheduler *scheduler_of(struct naru__extension *e)
{
    return naru__container(e, struct naru__scheduler, extension);
}

static void enter(struct naru__extension *e)
{
    naru__context_adopt(&scheduler_of(e)->thread);
    scheduler_of(e)->float_control = naru__float_control();
    naru__overflow_enter(scheduler_of(e));
}

static void leave(struct naru__extension *e)
{
    naru__overflow_leave(scheduler_of(e));
}

static void between(struct naru__extension *e)
{
    struct naru__scheduler *s = scheduler_of(e);
    naru__slots_trim(&s->blocks);
    naru__slots_trim(&s->stacks.slots);
    for (struct naru__stacks *stacks = s->others; stacks; stacks = stacks->next)
        naru__slots_trim(&stacks->slots);
}

static bool label(const naru_callback *cb, char *text, size_t size)
{
    if (cb->fn != naru__task_step)
        return false;
    naru__task_label(cb->arg, text, size);
    return true;
}

static size_t parked(struct naru__extension *e)
{
    return scheduler_of(e)->parked;
}

static void deadlock(struct naru__extension *e)
{
    struct naru__core *core = scheduler_of(e)->core;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out) {
        fputs("deadlock: every task waits for something that can never happen\n", out);
        naru_dump(core->loop, out);
        fclose(out);
    }
    if (size > 0 && text[size - 1] == '\n')
        text[size - 1] = '\0';
    naru__report_text(core, NARU_ERROR,
                      text ? text : "deadlock: every task waits for something that can never happen");
    free(text);
}

static void abandon(naru_task *task)
{
    char name[64];
    naru__task_label(task, name, sizeof name);
    naru__report(task->scheduler->core, NARU_WARNING, "%s was destroyed before it had ended", name);
    if (naru__linked(&task->step.link))
        naru__unlink(&task->step.link);
    if (task->state == NARU__TASK_PARKED && task->wait->abandon)
        task->wait->abandon(task, task->wait_object);
}

/* Tasks that never ran to their end are abandoned where they stand. They may await each other, so none is freed before
 * all have ended. */
static void drop_tasks(struct naru__scheduler *s)
{
    naru_link *link, dropped;
    naru__ring_init(&dropped);
    while ((link = naru__ring_pop(&s->tasks)) != NULL) {
        naru_task *task = naru__container(link, naru_task, all);
        abandon(task);
        naru_retain(task);
        naru__ring_push(&s->tasks, link); /* its end takes it out again */
        naru__task_end(task, -ECANCELED);
        if (naru__linked(link))
            naru__unlink(link);
        naru__ring_push(&dropped, link);
    }
    naru__mail_drop_all(&s->core->ready);
    while ((link = naru__ring_pop(&dropped)) != NULL) {
        naru_task *task = naru__container(link, naru_task, all);
        if (!(task->flags & NARU__TASK_SHARED))
            naru__ring_push(&s->ended, link);
        naru_release(task);
    }
}

/* Handles that were never released die with the loop, but not the errors nobody has seen. */
static void drop_handles(struct naru__scheduler *s)
{
    while (!naru__ring_empty(&s->ended)) {
        naru_task *task = naru__container(s->ended.next, naru_task, all);
        if (s->core->debug) {
            char name[64];
            naru__task_label(task, name, sizeof name);
            naru__report(s->core, NARU_WARNING, "a handle of %s was never released", name);
        }
        naru__task_report_unseen(task);
        naru__task_dispose(task);
    }
}

static void close_scheduler(struct naru__extension *e)
{
    struct naru__scheduler *s = scheduler_of(e);
    drop_tasks(s);
    drop_handles(s);
    naru__generators_drop(s);
    naru__locals_drop(s->locals);
    naru__slots_close(&s->blocks);
    naru__slots_close(&s->stacks.slots);
    while (s->others) {
        struct naru__stacks *stacks = s->others;
        s->others = stacks->next;
        naru__slots_close(&stacks->slots);
        free(stacks);
    }
    s->core->extension = NULL;
    free(s);
}

static char *map_blocks(struct naru__slots *slots)
{
    (void)slots;
    return aligned_alloc(64, BLOCKS_BYTES);
}

static void unmap_blocks(struct naru__slots *slots, char *memory)
{
    (void)slots;
    free(memory);
}

static struct naru__slot *carve_block(struct naru__slots *slots, char *memory, unsigned index)
{
    (void)slots;
    naru_task *task = (naru_task *)(void *)memory + index;
    naru__task_format(task);
    return &task->slot;
}

static const struct naru__slots_type block_type = {map_blocks, unmap_blocks, carve_block, NULL};

struct naru__scheduler *naru__scheduler_of(struct naru__core *core)
{
    if (core->extension)
        return scheduler_of(core->extension);
    size_t size = naru__stack_round(core->options.stack_size, false);
    struct naru__scheduler *s = size > 0 ? calloc(1, sizeof *s) : NULL;
    if (!s)
        return NULL;
    s->extension = (struct naru__extension){enter, leave, between, label, parked, deadlock, close_scheduler};
    s->core = core;
    naru__ring_init(&s->tasks);
    naru__ring_init(&s->ended);
    naru__ring_init(&s->generators);
    naru__slots_init(&s->blocks, &block_type, BLOCKS_BYTES / sizeof(naru_task));
    naru__stacks_init(&s->stacks, size, false);
    core->extension = &s->extension;
    set_detour(s);
    if (core->running)
        enter(&s->extension);
    return s;
}

struct naru__stacks *naru__stacks_of(struct naru__scheduler *s, size_t size, bool dense)
{
#if defined(NARU__CONTEXT_ASAN) || defined(NARU__CONTEXT_TSAN) || defined(NARU_CONTEXT_UCONTEXT)
    dense = false; /* their instrumentation alone, or one ucontext_t, would not fit */
#endif
    if (size == 0 && !dense)
        return &s->stacks;
    if (size > NARU__STACK_DEFAULT)
        dense = false; /* no longer small: nothing to win, and a guard page to lose */
    size_t rounded = naru__stack_round(size, dense);
    if (rounded == 0)
        return NULL;
    if (rounded == s->stacks.size && !dense)
        return &s->stacks;
    for (struct naru__stacks *stacks = s->others; stacks; stacks = stacks->next)
        if (stacks->size == rounded && stacks->dense == dense)
            return stacks;
    struct naru__stacks *stacks = calloc(1, sizeof *stacks);
    if (!stacks)
        return NULL;
    naru__stacks_init(stacks, rounded, dense);
    stacks->next = s->others;
    s->others = stacks;
    return stacks;
}
