/* Tasks: from spawn to the last handle.
 *
 * A task has two lives. Its body's begins when it first runs and ends when the body returns; then its stack is given
 * back at once. Its result's begins there and ends with the last reference: a handle that somebody keeps
 * holds a small block, no stack. Being alive counts as a reference too, so a task nobody holds runs on to its end.
 *
 * The result is a future, so awaiting a task is waiting for that future, with one difference: a request to stop is
 * passed on to the awaited task instead of cancelling the future over its head. */
#include "coro/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- creation ---- */

static size_t copy_limit(const struct naru__scheduler *s, const naru_spawn_options *options)
{
    if (options->flags & NARU_DENSE_STACK)
        return naru__stack_round(options->stack_size, true) / 4;
    return (options->stack_size ? options->stack_size : s->stacks.size) / 4;
}

/* Where the body finds its argument. False: no memory for the copy. */
static bool set_argument(naru_task *task, const void *arg, size_t size)
{
    task->arg = (void *)(uintptr_t)arg;
    if (size == 0)
        return true;
    if (size <= NARU__INLINE_COPY) {
        task->arg = task->copy;
    } else {
        task->arg = malloc(size);
        if (!task->arg)
            return false;
        task->flags |= NARU__TASK_HEAP_COPY;
    }
    memcpy(task->arg, arg, size);
    return true;
}

/* A block is made ready once, when its memory is new. Its end leaves it as it was made, so that a spawn only has to
 * write what differs from task to task: it is done for every connection, and for every call that runs at once. */
void naru__task_format(naru_task *task)
{
    memset(task, 0, sizeof *task);
    task->step.fn = naru__task_step;
    task->step.arg = task;
    naru__ring_init(&task->outcome.waiters);
}

void naru__task_init(naru_task *task, const naru_spawn_options *options, naru_fn *fn)
{
    task->fn = fn;
    task->state = NARU__TASK_NEW;
    task->cancels = 0;
    task->flags = (unsigned short)(options->flags & (NARU_DENSE_STACK | NARU_STICKY_CANCEL));
    task->refs = 2;
    task->scope = NULL;
    task->where = NULL;
    task->stack_size = options->stack_size;
    task->outcome.state = task->outcome.seen = 0;
    task->outcome.value = NULL;
}

static bool fits(const struct naru__scheduler *s, const naru_spawn_options *options)
{
    bool dense = options->flags & NARU_DENSE_STACK;
    if (options->stack_size == 0 && options->copy <= NARU__INLINE_COPY)
        return true;
    return naru__stack_round(options->stack_size, dense) > 0 &&
           (options->copy <= NARU__INLINE_COPY || options->copy <= copy_limit(s, options));
}

void naru__task_adopt(struct naru__scheduler *s, naru_task *task)
{
    task->scheduler = s;
    task->id = ++s->last_id;
    task->outcome.loop = s->core->loop;
    naru__ring_push(&s->tasks, &task->all);
    s->count++;
    if (s->impatient) {
        task->cancels = 1;
        task->cancel_pending = true;
    }
}

naru_task *naru__task_create(struct naru__scheduler *s, const naru_spawn_options *options, naru_fn *fn,
                             const void *arg)
{
    if (!fn || !fits(s, options) || (options->copy > 0 && !arg))
        return NULL;
    struct naru__slot *slot = naru__slots_take(&s->blocks);
    if (!slot)
        return NULL;
    naru_task *task = naru__container(slot, naru_task, slot);
    naru__task_init(task, options, fn);
    if (!set_argument(task, arg, options->copy))
        goto no_memory;
    if (options->name && naru_task_set_name(task, options->name) < 0)
        goto no_memory;
    struct naru__locals *locals = s->current ? s->current->locals : s->locals;
    if (locals)
        task->locals = naru__locals_share(locals);
    naru__task_adopt(s, task);
    return task;

no_memory:
    if (task->flags & NARU__TASK_HEAP_COPY)
        free(task->arg);
    naru__slots_give(slot);
    return NULL;
}

static naru_task *spawn(struct naru__scheduler *s, const naru_spawn_options *options, naru_fn *fn,
                        const void *arg)
{
    if (!s)
        return NULL;
    naru_task *task = naru__task_create(s, options, fn, arg);
    if (!task)
        return NULL;
    if ((options->flags & NARU_EAGER) && s->core == naru__here)
        naru__start_eagerly(s, task);
    else
        naru__make_ready(task);
    return task;
}

static struct naru__scheduler *scheduler_for_spawn(void)
{
    struct naru__scheduler *s = naru__scheduler_here();
    return s || !naru__here ? s : naru__scheduler_of(naru__here);
}

naru_task *(naru_spawn)(naru_fn *fn, void *arg)
{
    static const naru_spawn_options defaults;
    return spawn(scheduler_for_spawn(), &defaults, fn, arg);
}

naru_task *(naru_spawn_copy)(naru_fn *fn, const void *arg, size_t size)
{
    naru_spawn_options options = {.copy = size};
    return spawn(scheduler_for_spawn(), &options, fn, arg);
}

naru_task *(naru_spawn_with)(const naru_spawn_options *options, naru_fn *fn, void *arg)
{
    static const naru_spawn_options defaults;
    return spawn(scheduler_for_spawn(), options ? options : &defaults, fn, arg);
}

naru_task *(naru_spawn_in)(naru_loop *loop, naru_fn *fn, void *arg)
{
    static const naru_spawn_options defaults;
    struct naru__core *core = naru__core_of(loop);
    return core ? spawn(naru__scheduler_of(core), &defaults, fn, arg) : NULL;
}

naru_task *naru_task_spawned_at(naru_task *task, const char *where)
{
    if (task)
        task->where = where;
    return task;
}

/* ---- the end ---- */

size_t naru__task_label(const naru_task *task, char *buffer, size_t size)
{
    int length = task->name ? snprintf(buffer, size, "task '%s'", task->name)
                            : snprintf(buffer, size, "task-%" PRIu64, task->id);
    return (size_t)length;
}

/* The program's mistake: a scope must be ended by the function that began it. */
void naru__report_open_scope(const naru_task *task)
{
    char name[64];
    naru__task_label(task, name, sizeof name);
    naru__report(task->scheduler->core, NARU_ERROR,
                 "%s returned from inside a timeout or group that it never ended", name);
}

void naru__task_end(naru_task *task, int status)
{
    struct naru__scheduler *s = task->scheduler;
    if (task->flags & NARU__TASK_HEAP_COPY)
        free(task->arg);
    if (task->locals) {
        naru__locals_drop(task->locals);
        task->locals = NULL;
    }
    naru__unlink(&task->all);
    if (task->refs > 1 && !(task->flags & NARU__TASK_SHARED))
        naru__ring_push(&s->ended, &task->all);
    task->state = NARU__TASK_DONE;
    task->cancel_pending = false;
    task->stack = NULL;
    task->coroutine = NULL;
    naru__future_settle(&task->outcome, status);
    if (--s->count == 0 && s->draining)
        naru_loop_stop(s->core->loop);
    if (task->flags & NARU__TASK_SHARED)
        naru__shared_done(task);
    naru__task_unref(task);
}

void naru__task_report_unseen(const naru_task *task)
{
    int status = task->outcome.status;
    if (status >= 0 || status == -ECANCELED || __atomic_load_n(&task->outcome.seen, __ATOMIC_RELAXED))
        return;
    /* The last handle of a shared task may go on any thread, and after its loop: that report goes to stderr. */
    struct naru__core *core = task->flags & NARU__TASK_SHARED ? NULL : task->scheduler->core;
    char name[64];
    naru__task_label(task, name, sizeof name);
    const char *said = naru__message_text(task->message, status);
    naru__report(core, NARU_ERROR, "%s ended with error %d (%s%s%s) and nobody looked at it", name, status,
                 naru__error_text(status), said ? ": " : "", said ? said : "");
}

static void dispose_extras(naru_task *task)
{
    if (task->destroy)
        task->destroy(task->outcome.value);
    if (task->message)
        naru__message_drop(task->message);
    free(task->name);
    task->destroy = NULL;
    task->message = NULL;
    task->name = NULL;
}

void naru__task_dispose(naru_task *task)
{
    if (task->destroy || task->message || task->name)
        dispose_extras(task);
    if (naru__linked(&task->all))
        naru__unlink(&task->all);
    if (task->flags & NARU__TASK_SHARED)
        naru__shared_free(task);
    else
        naru__slots_give(&task->slot);
}

void naru__task_unref(naru_task *task)
{
    if (task->flags & NARU__TASK_SHARED ? !naru__shared_unref(task) : --task->refs > 0)
        return;
    if (task->outcome.status < 0)
        naru__task_report_unseen(task);
    naru__task_dispose(task);
}

naru_task *naru_retain(naru_task *task)
{
    if (task && (task->flags & NARU__TASK_SHARED))
        naru__shared_retain(task);
    else if (task)
        task->refs++;
    return task;
}

void naru_release(naru_task *task)
{
    if (task)
        naru__task_unref(task);
}

void naru_release_all(naru_task *const *tasks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        naru_release(tasks[i]);
}

/* ---- looking at one ---- */

bool naru_done(const naru_task *task)
{
    return !task || naru_future_done(&task->outcome);
}

bool naru_cancelled(const naru_task *task)
{
    return task && naru_future_cancelled(&task->outcome);
}

int naru_result(const naru_task *task)
{
    if (!task)
        return -ENOMEM;
    int status = naru_future_status(&task->outcome);
    if (status < 0 && naru_done(task))
        naru__mark_seen((naru_task *)(uintptr_t)task);
    return status;
}

naru_task *naru_self(void)
{
    return naru__self();
}

void naru_set_value_owned(void *value, void (*destroy)(void *value))
{
    naru_task *task = naru__self();
    if (!task)
        return;
    if (task->destroy && task->outcome.value != value)
        task->destroy(task->outcome.value);
    task->outcome.value = value;
    task->destroy = destroy;
}

void naru_set_value(void *value)
{
    naru_set_value_owned(value, NULL);
}

void *naru_value(const naru_task *task)
{
    return task && naru_done(task) ? task->outcome.value : NULL;
}

int naru_task_set_name(naru_task *task, const char *name)
{
    char *copy = task && name ? strdup(name) : NULL;
    if (!copy)
        return task && name ? -ENOMEM : -EINVAL;
    free(task->name);
    task->name = copy;
    return 0;
}

/* Most tasks are never asked, so the automatic name is made when the first one does. */
const char *naru_task_name(const naru_task *task)
{
    if (!task)
        return "(no task)";
    if (!task->name) {
        char text[32];
        naru__task_label(task, text, sizeof text);
        if (naru_task_set_name((naru_task *)(uintptr_t)task, text) < 0)
            return "task";
    }
    return task->name;
}

int naru_task_on_done(naru_task *task, naru_callback *cb, void (*fn)(void *arg), void *arg)
{
    if (!task)
        return -ENOMEM;
    if (!naru_done(task) && naru__here && !naru__task_belongs_to(task, naru__here->loop))
        return -EINVAL;
    return naru_future_on_done(&task->outcome, cb, fn, arg);
}

void naru_each_task(naru_loop *loop, void (*fn)(naru_task *task, void *arg), void *arg)
{
    struct naru__core *core = loop ? naru__core_of(loop) : naru__here;
    if (!core || !core->extension || !fn)
        return;
    struct naru__scheduler *s = naru__container(core->extension, struct naru__scheduler, extension);
    uint64_t newest = s->last_id; /* not those that fn spawns */
    for (naru_link *link = s->tasks.next, *next; link != &s->tasks; link = next) {
        naru_task *task = naru__container(link, naru_task, all);
        next = link->next;
        if (task->id <= newest)
            fn(task, arg);
    }
}
