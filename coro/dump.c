/* naru_dump: who waits for what.
 *
 * Tasks form a tree by awaiting: under each task that nobody awaits stands what it awaits, and so on. A task that several
 * others await is shown under each. */
#include "coro/internal.h"

#include <inttypes.h>

static const char *state_name(const naru_task *task)
{
    switch (task->state) {
    case NARU__TASK_NEW:
        return "not started";
    case NARU__TASK_READY:
        return "ready";
    case NARU__TASK_RUNNING:
        return "running";
    case NARU__TASK_PARKED:
        return "waiting";
    default:
        return "done";
    }
}

static naru_task *awaited_by(const naru_task *task)
{
    if (task->state != NARU__TASK_PARKED || !task->wait->waits_for)
        return NULL;
    return task->wait->waits_for(task->wait_object);
}

static void print_wait(const naru_task *task, FILE *out)
{
    fprintf(out, " in %s", task->wait->what);
    if (task->wait->describe) {
        fputs(" ", out);
        task->wait->describe(task->wait_object, out);
    }
    fprintf(out, ", for %" PRId64 " ms", (naru_now() - task->wait_since) / 1000000);
}

/* Chains may be as long as there are tasks; the indentation must not make the square of that. */
enum { DEEPEST_INDENT = 40 };

static void print_task(const naru_task *task, unsigned depth, FILE *out)
{
    unsigned indent = depth < DEEPEST_INDENT ? depth : DEEPEST_INDENT;
    char name[64];
    naru__task_label(task, name, sizeof name);
    fprintf(out, "%*s%s: %s", (int)(2 * indent + 2), "", name, state_name(task));
    if (task->state == NARU__TASK_PARKED)
        print_wait(task, out);
    if (task->cancels > 0)
        fprintf(out, ", cancelling (%d)", task->cancels);
    if (task->where)
        fprintf(out, ", spawned at %s", task->where);
    fputs("\n", out);
}

void naru_dump(naru_loop *loop, FILE *out)
{
    struct naru__core *core = loop ? loop->core : naru__here;
    if (!out)
        return;
    if (!core || !core->extension) {
        fprintf(out, "naru: no tasks\n");
        return;
    }
    struct naru__scheduler *s = naru__container(core->extension, struct naru__scheduler, extension);
    fprintf(out, "naru: %zu tasks, %zu of them waiting\n", s->count, s->parked);
    for (naru_link *link = s->tasks.next; link != &s->tasks; link = link->next) {
        naru_task *task = naru__container(link, naru_task, all);
        if (naru__future_awaited(&task->outcome))
            continue; /* printed below those who await it */
        unsigned depth = 0;
        for (; task; task = awaited_by(task))
            print_task(task, depth++, out);
    }
}
