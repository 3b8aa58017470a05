/* naru_run: a program from its first task to the last byte freed.
 *
 * What makes an asynchronous program easy to trust is that it ends completely. When the main task is done, all other tasks
 * are cancelled and waited for, generators that were left open are closed, and the loop goes with everything in it. A
 * task that will not end (in C it is easy to ignore the -ECANCELED) is named after a second, because a
 * program that hangs at its end without a word is hard to understand.
 *
 * SIGINT cancels the main task, which can then clean up; a second one, or one that the loop is too busy to see, has its usual
 * effect. */
#include "coro/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static const int64_t PATIENCE = NARU_SEC(1);

/* ---- until one task is done ---- */

static void stop_loop(void *loop)
{
    naru_loop_stop(loop);
}

int naru_run_until(naru_loop *loop, naru_task *task)
{
    naru_callback when_done = {.fn = NULL};
    if (!task)
        return -ENOMEM;
    if (!loop || !loop->core)
        return -ESHUTDOWN;
    if (loop->core->running || naru__here)
        return -EBUSY;
    if (!naru__task_belongs_to(task, loop))
        return -EINVAL;
    if (naru_done(task))
        return naru_result(task);
    task->outcome.loop = loop; /* one from naru_spawn_on may still be on its way */
    int rc = naru_task_on_done(task, &when_done, stop_loop, loop);
    if (rc == 0)
        rc = naru_loop_run(loop);
    naru_callback_cancel(&when_done);
    if (naru_done(task))
        return naru_result(task);
    return rc < 0 ? rc : -EINTR;
}

/* ---- the end of a run ---- */

struct end {
    naru_timer timer;
    struct naru__scheduler *scheduler;
    bool reported;
};

static void cancel_once(naru_task *task, void *arg)
{
    (void)arg;
    if (naru_cancelling(task) == 0)
        naru_cancel(task);
}

static void cancel_it(naru_task *task, void *arg)
{
    (void)arg;
    naru_cancel(task);
}

static void report_stubborn(struct naru__scheduler *s)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return;
    fputs("the run cannot end: these tasks go on after they were cancelled\n", out);
    naru_dump(s->core->loop, out);
    fclose(out);
    if (size > 0)
        text[size - 1] = '\0';
    naru__report_text(s->core, NARU_WARNING, text);
    free(text);
}

/* What was spawned by tasks that clean up has had time to finish by now. */
static void lose_patience(void *arg)
{
    struct end *end = arg;
    struct naru__core *core = end->scheduler->core;
    if (!end->reported)
        report_stubborn(end->scheduler);
    end->reported = true;
    end->scheduler->impatient = true;
    naru_each_task(core->loop, cancel_once, NULL);
}

/* Cancels all tasks and runs the loop until they have ended, or never will. */
static void drain(struct naru__scheduler *s)
{
    struct end end = {.scheduler = s};
    s->draining = true;
    naru_each_task(s->core->loop, cancel_it, NULL);
    naru_timer_after(s->core->loop, &end.timer, PATIENCE, lose_patience, &end);
    while (s->count > 0)
        if (naru_loop_run(s->core->loop) < 0)
            break;
    naru_timer_stop(&end.timer);
    s->draining = s->impatient = false;
}

static int close_generators(void *scheduler)
{
    naru__generators_close_all(scheduler);
    return 0;
}

static naru_task *add_task(struct naru__scheduler *s, const char *name, naru_fn *fn, void *arg)
{
    naru_spawn_options options = {.name = name};
    naru_task *task = naru__task_create(s, &options, fn, arg);
    if (task)
        naru__make_ready(task);
    return task;
}

static void wind_up(struct naru__scheduler *s)
{
    drain(s);
    if (naru__ring_empty(&s->generators))
        return;
    naru_task *closer = add_task(s, "generators", close_generators, s);
    if (closer) {
        naru_run_until(s->core->loop, closer);
        naru_release(closer);
    }
    drain(s);
}

/* ---- SIGINT ---- */

struct interrupt {
    naru_signal signal;
    naru_task *main;
    bool came;
};

static void on_interrupt(void *arg)
{
    struct interrupt *interrupt = arg;
    interrupt->came = true;
    naru_signal_stop(&interrupt->signal); /* the next one has its usual effect */
    naru_cancel(interrupt->main);
}

static bool should_handle_interrupts(const struct naru__core *core)
{
    struct sigaction now;
    return !(core->options.flags & NARU_NO_SIGINT) && gettid() == getpid() &&
           sigaction(SIGINT, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL;
}

/* ---- naru_run ---- */

static int run_main(struct naru__core *core, naru_fn *fn, void *arg)
{
    struct naru__scheduler *s = naru__scheduler_of(core);
    naru_task *task = s ? add_task(s, "main", fn, arg) : NULL;
    if (!task)
        return -ENOMEM;
    struct interrupt interrupt = {.main = task};
    if (should_handle_interrupts(core)) {
        int rc = naru__signal_start_background(core, &interrupt.signal, SIGINT, on_interrupt, &interrupt);
        if (rc < 0)
            naru__report(core, NARU_WARNING, "SIGINT is not handled: %s", naru__error_text(rc));
    }
    int rc = naru_run_until(core->loop, task);
    wind_up(s);
    naru_signal_stop(&interrupt.signal);
    if (interrupt.came && naru_cancelled(task))
        rc = -EINTR;
    naru__message_keep(task->message);
    naru_release(task);
    return rc;
}

int naru_run_with(const naru_options *options, naru_fn *fn, void *arg)
{
    naru_loop *loop;
    if (!fn)
        return -EINVAL;
    if (naru__here)
        return -EBUSY;
    int rc = naru__loop_open(&loop, options);
    if (rc < 0)
        return rc;
    rc = run_main(loop->core, fn, arg);
    naru_loop_close(loop);
    return rc;
}

int naru_run(naru_fn *fn, void *arg)
{
    return naru_run_with(NULL, fn, arg);
}
