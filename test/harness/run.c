/*
 * The runner: takes test programs, asks each for its cases, runs every case in a process of its own, several at a
 * time, and ends with one line that says how it went.
 *
 *     test-run [options] program...
 *         -b directory   where the programs were built; tests find it in NARU_BUILD
 *         -f factor      multiply all time limits
 *         -j jobs        how many at a time (default: twice the processors, for most cases wait rather than work)
 *         -r             a case skipped because something is not installed has failed
 *         -t pattern     only cases whose "coro/task: name" contains this, or matches it if it has * ? or [
 *         -v             name the passing ones, too
 *         -w command     run programs by this command (qemu, valgrind); tests find it in NARU_RUNNER
 *
 * The trap here is to wait for the wrong thing. The end of the output is not the end of the test: a grandchild
 * that was left behind holds the pipe open. And the end of the test is not the end of the output: there may be
 * some left in the pipe. So a case is over when its process is (SIGCHLD interrupts the wait) or when its time is;
 * then its whole process group is killed, while the dead leader still reserves the group's number, and what is
 * in the pipe by then is its output.
 *
 * It uses libc only, never naru, and is always built plainly and for the machine it runs on.
 */
#include "test/harness/test.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    OUTPUT_MAX = 64 * 1024, /* of a case's output the end is kept: that is where it says what went wrong */
    WRAPPER_MAX = 32,       /* words of the -w command */
    LIST_SECONDS = 30,      /* for naming the cases */
};

/* One execution of a program: to list its cases, or to run one of them. */
struct job {
    const char *program;
    char *name;  /* of the case; NULL: list them */
    int seconds; /* its limit, not yet multiplied */
    struct job *next;

    /* while it runs */
    pid_t pid;
    int fd; /* our end of the pipe; -1 once it is at its end */
    double started;
    bool timed_out;
    char *output;
    size_t length;
};

static struct {
    const char *pattern;
    char *wrapper[WRAPPER_MAX + 1];
    int factor;
    int jobs;
    bool verbose;
    bool require;
} options = {.factor = 1};

static struct {
    struct job *first;
    struct job **end;
} waiting = {NULL, &waiting.first};

static struct job **running; /* options.jobs slots, the first running_count are taken */
static int running_count;
static struct pollfd *poll_set; /* what each of them writes */

static struct {
    int passed;
    int failed;
    int skipped;
} count;

static volatile sig_atomic_t interrupted;
static sigset_t wait_mask; /* the signals we take while waiting, and only then */

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "test-run: %s: %s\n", what, strerror(errno));
    exit(2);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void *allocate(void *old, size_t size)
{
    void *memory = realloc(old, size);
    if (!memory)
        die("memory");
    return memory;
}

/* --- Names --- */

/* build/test/coro/task -> coro/task */
static const char *short_name(const char *program)
{
    const char *name = program;
    int slashes = 0;
    for (const char *at = program + strlen(program); at > program; at--) {
        if (at[-1] == '/' && ++slashes == 2)
            break;
        name = at - 1;
    }
    return name;
}

static bool is_wanted(const char *program, const char *name)
{
    if (!options.pattern)
        return true;
    char full[1024];
    snprintf(full, sizeof full, "%s: %s", short_name(program), name);
    if (strpbrk(options.pattern, "*?["))
        return fnmatch(options.pattern, full, 0) == 0;
    return strstr(full, options.pattern) != NULL;
}

/* --- The queue --- */

static void enqueue(const char *program, const char *name, int seconds)
{
    struct job *job = allocate(NULL, sizeof *job);
    *job = (struct job){.program = program, .seconds = seconds, .fd = -1};
    if (name) {
        job->name = strdup(name);
        if (!job->name)
            die("memory");
    }
    *waiting.end = job;
    waiting.end = &job->next;
}

static struct job *dequeue(void)
{
    struct job *job = waiting.first;
    waiting.first = job->next;
    if (!waiting.first)
        waiting.end = &waiting.first;
    return job;
}

static void discard(struct job *job)
{
    free(job->output);
    free(job->name);
    free(job);
}

/* --- Reports --- */

__attribute__((format(printf, 3, 4))) static void report(const struct job *job, const char *verdict,
                                                         const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("%s %s: %s", verdict, short_name(job->program), job->name ? job->name : "--list");
    vprintf(format, arguments);
    printf(" (%.2f s)\n", now() - job->started);
    va_end(arguments);
}

static void print_output(const struct job *job)
{
    for (const char *line = job->output; line && *line;) {
        size_t length = strcspn(line, "\n");
        printf("    | %.*s\n", (int)length, line);
        line += length + (line[length] == '\n');
    }
}

static const char *last_line(const struct job *job)
{
    if (!job->output)
        return "";
    char *text = job->output;
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == '\n')
        text[--length] = '\0';
    const char *newline = strrchr(text, '\n');
    return newline ? newline + 1 : text;
}

static void report_failure(const struct job *job, int status)
{
    count.failed++;
    if (job->timed_out)
        report(job, "FAIL", ": killed after %d s", job->seconds * options.factor);
    else if (WIFSIGNALED(status))
        report(job, "FAIL", ": signal %d, %s", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        report(job, "FAIL", ": exit status %d", WEXITSTATUS(status));
    print_output(job);
}

static void report_skip(const struct job *job)
{
    const char *reason = last_line(job);
    bool is_missing = strncmp(reason, TEST_MISSING, strlen(TEST_MISSING)) == 0;
    if (options.require && is_missing) {
        count.failed++;
        report(job, "FAIL", ": %s", reason);
    } else {
        count.skipped++;
        report(job, "SKIP", ": %s", reason);
    }
}

/* Each line of a list is the name of a case and its limit in seconds. */
static void enqueue_listed(const struct job *list)
{
    char *rest = NULL;
    for (char *line = strtok_r(list->output, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *blank = strchr(line, ' ');
        if (!blank)
            continue;
        *blank = '\0';
        if (is_wanted(list->program, line))
            enqueue(list->program, line, atoi(blank + 1));
    }
}

static void finish(struct job *job, int status)
{
    bool exited = !job->timed_out && WIFEXITED(status);
    if (exited && WEXITSTATUS(status) == 0 && !job->name) {
        if (job->output)
            enqueue_listed(job);
    } else if (exited && WEXITSTATUS(status) == 0) {
        count.passed++;
        if (options.verbose)
            report(job, "ok  ", "%s", "");
    } else if (exited && WEXITSTATUS(status) == TEST_SKIPPED) {
        report_skip(job);
    } else {
        report_failure(job, status);
    }
    fflush(stdout);
    discard(job);
}

/* --- Running --- */

static _Noreturn void become_test(const struct job *job, int output)
{
    setpgid(0, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    int input = open("/dev/null", O_RDONLY);
    if (input < 0 || dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0)
        _exit(127);
    close(input);

    char *command[WRAPPER_MAX + 3];
    int words = 0;
    while (options.wrapper[words]) {
        command[words] = options.wrapper[words];
        words++;
    }
    command[words++] = (char *)job->program;
    command[words++] = job->name ? job->name : (char *)"--list";
    command[words] = NULL;
    execvp(command[0], command);
    dprintf(2, "%s: %s\n", command[0], strerror(errno));
    _exit(127);
}

static void start(struct job *job)
{
    int pipe_ends[2];
    if (pipe2(pipe_ends, O_CLOEXEC) < 0)
        die("pipe");
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        become_test(job, pipe_ends[1]);
    /* The child does the same. Whoever is first, the group exists before anybody relies on it. */
    setpgid(pid, pid);
    close(pipe_ends[1]);
    fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK);
    job->pid = pid;
    job->fd = pipe_ends[0];
    job->started = now();
    running[running_count++] = job;
}

static void append(struct job *job, const char *text, size_t length)
{
    if (job->length + length > 2 * (size_t)OUTPUT_MAX) {
        memmove(job->output, job->output + job->length - OUTPUT_MAX, OUTPUT_MAX);
        job->length = OUTPUT_MAX;
    }
    job->output = allocate(job->output, job->length + length + 1);
    memcpy(job->output + job->length, text, length);
    job->length += length;
    job->output[job->length] = '\0';
}

static void read_output(struct job *job)
{
    char chunk[16384];
    while (job->fd >= 0) {
        ssize_t got = read(job->fd, chunk, sizeof chunk);
        if (got > 0) {
            append(job, chunk, (size_t)got);
        } else if (got == 0 || errno != EINTR) {
            if (got < 0 && errno == EAGAIN)
                return;
            close(job->fd);
            job->fd = -1;
        }
    }
}

static double deadline(const struct job *job)
{
    return job->started + job->seconds * options.factor;
}

/* If its process has ended or must end now: finish the job and return true. */
static bool is_over(struct job *job)
{
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)job->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
        die("waitid");
    bool ended = info.si_pid != 0;
    if (!ended && now() < deadline(job))
        return false;

    job->timed_out = !ended;
    kill(-job->pid, SIGKILL);
    int status = 0;
    while (waitpid(job->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    read_output(job);
    if (job->fd >= 0)
        close(job->fd);
    finish(job, status);
    return true;
}

/* Sleeps until a test writes, ends, or runs out of time. */
static void wait_for_events(void)
{
    double wake = now() + 3600;
    for (int i = 0; i < running_count; i++) {
        poll_set[i] = (struct pollfd){.fd = running[i]->fd, .events = POLLIN};
        if (deadline(running[i]) < wake)
            wake = deadline(running[i]);
    }
    /* A millisecond more: to wake before the deadline would be to wake in vain. */
    double left = wake - now() + 0.001;
    if (left < 0)
        left = 0;
    time_t seconds = (time_t)left;
    struct timespec timeout = {seconds, (long)((left - (double)seconds) * 1e9)};
    if (ppoll(poll_set, (nfds_t)running_count, &timeout, &wait_mask) < 0 && errno != EINTR)
        die("ppoll");
}

static void kill_all(void)
{
    for (int i = 0; i < running_count; i++)
        kill(-running[i]->pid, SIGKILL);
}

static void run_queue(void)
{
    while ((waiting.first || running_count > 0) && !interrupted) {
        while (waiting.first && running_count < options.jobs)
            start(dequeue());
        wait_for_events();
        for (int i = 0; i < running_count; i++)
            read_output(running[i]);
        for (int i = running_count - 1; i >= 0; i--) {
            if (is_over(running[i]))
                running[i] = running[--running_count];
        }
    }
    kill_all();
}

/* --- The start --- */

static void on_signal(int signo)
{
    if (signo != SIGCHLD)
        interrupted = signo;
}

/* Blocked except while waiting, so that none comes between looking and going to sleep. */
static void prepare_signals(void)
{
    const int wanted[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t blocked;
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        sigaction(wanted[i], &action, NULL);
        sigaddset(&blocked, wanted[i]);
    }
    sigprocmask(SIG_BLOCK, &blocked, &wait_mask);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        sigdelset(&wait_mask, wanted[i]);
}

static void set_wrapper(char *command)
{
    setenv("NARU_RUNNER", command, 1);
    char *rest = NULL;
    int words = 0;
    for (char *word = strtok_r(command, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        if (words == WRAPPER_MAX) {
            fprintf(stderr, "test-run: -w has more than %d words\n", WRAPPER_MAX);
            exit(2);
        }
        options.wrapper[words++] = word;
    }
}

static void set_build(const char *directory)
{
    char path[PATH_MAX];
    if (!realpath(directory, path))
        die(directory);
    setenv("NARU_BUILD", path, 1);
}

static int positive(const char *text)
{
    int value = atoi(text);
    if (value > 0)
        return value;
    fprintf(stderr, "test-run: '%s' should be a positive number\n", text);
    exit(2);
}

static void parse_options(int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "b:f:j:rt:vw:")) != -1) {
        switch (option) {
        case 'b':
            set_build(optarg);
            break;
        case 'f':
            options.factor = positive(optarg);
            break;
        case 'j':
            options.jobs = positive(optarg);
            break;
        case 'r':
            options.require = true;
            break;
        case 't':
            options.pattern = optarg;
            break;
        case 'v':
            options.verbose = true;
            break;
        case 'w':
            set_wrapper(optarg);
            break;
        default:
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    unsetenv("NARU_RUNNER");
    parse_options(argc, argv);
    if (!options.jobs)
        options.jobs = 2 * (int)sysconf(_SC_NPROCESSORS_ONLN);
    running = allocate(NULL, (size_t)options.jobs * sizeof(struct job *));
    poll_set = allocate(NULL, (size_t)options.jobs * sizeof(struct pollfd));
    prepare_signals();

    for (int i = optind; i < argc; i++)
        enqueue(argv[i], NULL, LIST_SECONDS);
    run_queue();

    bool none = count.passed + count.failed + count.skipped == 0;
    if (interrupted)
        printf("broken off by signal %d\n", (int)interrupted);
    else if (none)
        printf("no test case %s\n", options.pattern ? "matches the pattern" : "found");
    printf("%d passed, %d failed, %d skipped\n", count.passed, count.failed, count.skipped);
    return count.failed || none || interrupted ? EXIT_FAILURE : EXIT_SUCCESS;
}
