/* A stack overflow, reported by name.
 *
 * Below each stack lies a page that nobody may touch. A task that runs into it gets SIGSEGV, and the handler has to run on
 * a stack of its own because there is none left: the alternate signal stack that each thread running a loop is given. It
 * compares the address with the guard page of the running task, says which task it was, puts back the handling that was
 * there before and returns; the fault happens again and ends the process as it would have, core dump and all.
 *
 * A frame larger than the guard page can step over it. -fstack-clash-protection makes compilers touch every page.
 *
 * In the handler only what is async-signal-safe may be used, so the message is put together by hand. */
#include "coro/internal.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIGNAL_STACK = 64 * 1024 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned users; /* threads that run a loop */
static bool installed;
static struct sigaction segv_before, bus_before;

struct line {
    char text[256];
    size_t length;
};

static void add(struct line *line, const char *text)
{
    while (*text && line->length < sizeof line->text)
        line->text[line->length++] = *text++;
}

static void add_number(struct line *line, uint64_t number)
{
    char digits[24];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    add(line, digits + at);
}

static void say(const naru_task *task, size_t size, const char *what)
{
    struct line line = {.length = 0};
    add(&line, "naru: stack overflow in ");
    if (task->name) {
        add(&line, "task '");
        add(&line, task->name);
        add(&line, "'");
    } else {
        add(&line, "task-");
        add_number(&line, task->id);
    }
    add(&line, " (");
    add_number(&line, size);
    add(&line, " bytes of stack): ");
    add(&line, what);
    add(&line, "\n");
    ssize_t written = write(STDERR_FILENO, line.text, line.length);
    (void)written;
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
    (void)context;
    struct naru__scheduler *s = naru__scheduler_here();
    if (s && s->current) {
        const naru__context *c = s->current->context;
        char *low = c->low, *address = info->si_addr;
        if (address < low && address >= low - naru__stack_guard_size())
            say(s->current, c->size,
                "give it a larger one (stack_size in naru_spawn_options or naru_options)");
    }
    sigaction(signo, signo == SIGSEGV ? &segv_before : &bus_before, NULL);
}

void naru__overflow_dense(const naru_task *task)
{
    say(task, task->stack->context.size,
        "dense stacks are small; spawn it without NARU_DENSE_STACK, or with a stack_size");
    abort();
}

/* Only where nobody else looks after faults: sanitizers and crash reporters know better what to do. */
static void install(int signo, struct sigaction *before)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    action.sa_sigaction = on_fault;
    sigaction(signo, &action, before);
}

static bool is_default(int signo)
{
    struct sigaction now;
    return sigaction(signo, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL;
}

static bool is_ours(int signo)
{
    struct sigaction now;
    return sigaction(signo, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault;
}

static void reset_in_child(void)
{
    pthread_mutex_init(&mutex, NULL); /* another thread of the parent may have held it */
}

static void watch_for_forks(void)
{
    pthread_atfork(NULL, NULL, reset_in_child);
}

static void add_user(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_for_forks);
    pthread_mutex_lock(&mutex);
    if (users++ == 0 && is_default(SIGSEGV) && is_default(SIGBUS)) {
        install(SIGSEGV, &segv_before);
        install(SIGBUS, &bus_before);
        installed = true;
    }
    pthread_mutex_unlock(&mutex);
}

static void remove_user(void)
{
    pthread_mutex_lock(&mutex);
    if (--users == 0 && installed) {
        if (is_ours(SIGSEGV))
            sigaction(SIGSEGV, &segv_before, NULL);
        if (is_ours(SIGBUS))
            sigaction(SIGBUS, &bus_before, NULL);
        installed = false;
    }
    pthread_mutex_unlock(&mutex);
}

/* An alternate stack that somebody else set up is left alone, and used. */
void naru__overflow_enter(struct naru__scheduler *s)
{
    stack_t now;
    if (sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_DISABLE)) {
        void *memory = mmap(NULL, SIGNAL_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        stack_t ours = {.ss_sp = memory, .ss_size = SIGNAL_STACK};
        if (memory != MAP_FAILED && sigaltstack(&ours, NULL) == 0)
            s->overflow = memory;
        else if (memory != MAP_FAILED)
            munmap(memory, SIGNAL_STACK);
    }
    add_user();
}

void naru__overflow_leave(struct naru__scheduler *s)
{
    remove_user();
    if (!s->overflow)
        return;
    stack_t off = {.ss_flags = SS_DISABLE};
    sigaltstack(&off, NULL);
    munmap(s->overflow, SIGNAL_STACK);
    s->overflow = NULL;
}
