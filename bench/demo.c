/*
 * A tour of naru in less than twenty seconds: what "make demo" runs.
 *
 * First an example shows what waiting for several things at once is worth.
 * Then the example servers are put under load, with as many connections as a
 * table can make plausible, and the table says what came of it. The servers
 * are the ones in test/examples, as a user would build them; the load is the
 * generator that all measurements here are made with.
 *
 * The program is written on naru itself. Children are waited for through
 * their pidfd, which becomes readable when they end: no thread blocks in
 * waitpid. Server and load have a core each if there are two.
 *
 * Whatever is missing or fails is named; what can be shown is shown all the
 * same, and the exit status tells.
 */
#include "common.h"

#include <fcntl.h>
#include <limits.h>
#include <naru/io.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

#define PATIENCE NARU_SEC(15) /* with any one child */

enum { NO_CORE = -1, SERVER_CORE = 0, LOAD_CORE = 1, IDLE_CONNECTIONS = 5000 };

static const char *build;
static bool two_cores;

/* ---- children ---- */

struct child {
    pid_t pid;
    int output; /* its stdout, if that is not ours; else -1 */
    int pidfd;
};

static int complain(const char *who, const char *what, int error)
{
    fflush(stdout);
    fprintf(stderr, "demo: %s: %s%s%s\n", who, what, error < 0 ? ": " : "",
            error < 0 ? naru_strerror(error) : "");
    return error < 0 ? error : -ECHILD;
}

static void place(pid_t pid, int core)
{
    cpu_set_t set;

    if (core == NO_CORE || !two_cores)
        return;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    sched_setaffinity(pid, sizeof set, &set);
}

/* Starts a program; its stdout goes to `output` unless that is -1. */
static int spawn_with(pid_t *pid, char *const *argv, int output)
{
    posix_spawn_file_actions_t actions;
    int rc = posix_spawn_file_actions_init(&actions);

    if (rc != 0)
        return -rc;
    if (output >= 0)
        rc = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (rc == 0)
        rc = posix_spawn(pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return -rc;
}

static int start(struct child *child, char *const *argv, bool take_output, int core)
{
    int pipe_ends[2] = {-1, -1};

    *child = (struct child){.pid = -1, .output = -1, .pidfd = -1};
    fflush(stdout);
    if (take_output && pipe2(pipe_ends, O_CLOEXEC) != 0)
        return complain(argv[0], "no pipe", -errno);

    int rc = spawn_with(&child->pid, argv, pipe_ends[1]);

    child->output = pipe_ends[0];
    if (pipe_ends[1] >= 0)
        close(pipe_ends[1]);
    if (rc < 0)
        return complain(argv[0], "cannot be started", rc);
    place(child->pid, core);
    child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    return child->pidfd < 0 ? complain(argv[0], "cannot be waited for", -errno) : 0;
}

/* Waits for its end; one that takes too long, or that nobody waits for any more, is killed. What waitpid says of it. */
static int finish(struct child *child)
{
    int status = -1;

    if (child->pid > 0) {
        if (child->pidfd < 0 || naru_poll_fd(child->pidfd, POLLIN, PATIENCE) < 0)
            kill(child->pid, SIGKILL);
        waitpid(child->pid, &status, 0);
    }
    if (child->pidfd >= 0)
        naru_close(child->pidfd);
    if (child->output >= 0)
        naru_close(child->output);
    return status;
}

/* What it writes, up to the first newline or the end, as a string. */
static int read_line(const struct child *child, char *line, size_t size)
{
    naru_timeout timeout;
    size_t got = 0;
    ssize_t n = naru_timeout_begin(&timeout, PATIENCE);

    if (n < 0)
        return (int)n;
    do {
        n = naru_read(child->output, line + got, size - 1 - got);
        got += n > 0 ? (size_t)n : 0;
        line[got] = '\0';
    } while (n > 0 && got < size - 1 && strchr(line, '\n') == NULL);
    n = naru_timeout_end(&timeout, n < 0 ? (int)n : 0);
    return n < 0 ? (int)n : strchr(line, '\n') == NULL ? -EPIPE : 0;
}

/* ---- at once ---- */

static int show_gather(void)
{
    char path[PATH_MAX];
    char scale[] = "0.45";
    struct child child;

    printf("\n--- Waiting: examples/gather, three waits in turn and then at once ---\n\n");
    snprintf(path, sizeof path, "%s/examples/gather", build);

    int rc = start(&child, (char *[]){path, scale, NULL}, false, NO_CORE);
    int status = finish(&child);

    if (rc < 0)
        return rc;
    return status == 0 ? 0 : complain(path, "failed", 0);
}

/* ---- under load ---- */

struct figures {
    double rate;
    double p50_us;
    double p99_us;
    double cpu_us;
    double bytes;
};

/* The value of a field in the load's JSON line; -1: null or missing. */
static double field(const char *json, const char *name)
{
    char key[64];
    double value;

    snprintf(key, sizeof key, "\"%s\":", name);

    const char *at = strstr(json, key);

    return at != NULL && sscanf(at + strlen(key), "%lf", &value) == 1 ? value : -1;
}

/* `options` are the load's own, ended by NULL. */
static int load(struct figures *figures, long port, pid_t server, const char *const *options)
{
    char path[PATH_MAX];
    char port_text[24];
    char pid_text[16];
    char json[2048];
    char *argv[16] = {path, "--port", port_text, "--server-pid", pid_text};
    size_t count = 5;
    struct child child;

    snprintf(path, sizeof path, "%s/bench/load", build);
    snprintf(port_text, sizeof port_text, "%ld", port);
    snprintf(pid_text, sizeof pid_text, "%d", (int)server);
    while (*options != NULL)
        argv[count++] = (char *)(uintptr_t)*options++;

    int rc = start(&child, argv, true, LOAD_CORE);

    if (rc == 0 && (rc = read_line(&child, json, sizeof json)) < 0)
        complain(path, "no result", rc);

    int status = finish(&child);

    if (rc < 0)
        return rc;
    *figures = (struct figures){
        .rate = field(json, "rate"),
        .p50_us = field(json, "p50_us"),
        .p99_us = field(json, "p99_us"),
        .cpu_us = field(json, "server_cpu_us_per_message"),
        .bytes = field(json, "bytes_per_connection"),
    };
    return status == 0 ? 0 : complain(path, "there were errors under load", 0);
}

/* Starts an example server and learns its port from the line it prints. */
static int start_server(struct child *server, const char *name, long *port)
{
    char path[PATH_MAX];
    char line[256];

    snprintf(path, sizeof path, "%s/examples/%s", build, name);

    int rc = start(server, (char *[]){path, "0", NULL}, true, SERVER_CORE);

    if (rc < 0)
        return rc;
    rc = read_line(server, line, sizeof line);
    if (rc < 0)
        return complain(path, "did not say where it listens", rc);
    return sscanf(line, "listening on port %ld", port) == 1 ? 0 : complain(path, "says no port", 0);
}

static int stop_server(struct child *server, int rc)
{
    if (server->pid > 0)
        kill(server->pid, SIGTERM);
    finish(server);
    return rc;
}

static void print_row(const char *name, const struct figures *f)
{
    printf("%-36s %12.0f %10.2f %10.2f", name, f->rate, f->p50_us / 1e3, f->p99_us / 1e3);
    if (f->cpu_us >= 0)
        printf(" %11.2f\n", f->cpu_us);
    else
        printf(" %11s\n", "unknown");
    fflush(stdout);
}

struct row {
    const char *name;
    const char *options[12];
};

#define FOR_TWO_SECONDS "--seconds", "2", "--warmup", "0.3"

static int print_rows(const struct row *rows, size_t count, long port, pid_t server)
{
    for (size_t i = 0; i < count; i++) {
        struct figures figures;
        int rc = load(&figures, port, server, rows[i].options);

        if (rc < 0)
            return rc;
        print_row(rows[i].name, &figures);
    }
    return 0;
}

/* A server of its own: one that has had other connections holds memory already. */
static int show_memory(void)
{
    char count[24];
    long connections = IDLE_CONNECTIONS;
    long files = (long)bench_raise_files();
    struct figures figures;
    struct child server;
    long port;
    int rc = start_server(&server, "echo_server", &port);

    if (connections > files - 100)
        connections = files / 2;
    snprintf(count, sizeof count, "%ld", connections);

    const char *options[] = {"--idle", "--connections", count, "--seconds", "0.3", NULL};

    if (rc == 0)
        rc = load(&figures, port, server.pid, options);
    if (rc == 0 && figures.bytes >= 0)
        printf("\n%ld idle connections: %.1f KiB of memory each\n", connections, figures.bytes / 1024);
    return stop_server(&server, rc);
}

static int show_server(const char *name, const struct row *rows, size_t count)
{
    struct child server;
    long port;
    int rc = start_server(&server, name, &port);

    if (rc == 0) {
        printf("%-36s %12s %10s %10s %12s\n", "", "per second", "median ms", "p99 ms", "CPU µs each");
        rc = print_rows(rows, count, port, server.pid);
    }
    return stop_server(&server, rc);
}

static int show_echo(void)
{
    static const struct row rows[] = {
        {"   50 connections, 64 B", {"--connections", "50", FOR_TWO_SECONDS}},
        {"  500 connections, 64 B", {"--connections", "500", FOR_TWO_SECONDS}},
    };

    printf("\n--- Echo: examples/echo_server, one task per connection, on one thread (%s) ---\n\n",
           naru_loop_backend(naru_loop_current()));

    int rc = show_server("echo_server", rows, sizeof rows / sizeof *rows);

    return rc < 0 ? rc : show_memory();
}

static int show_http(void)
{
    static const struct row rows[] = {
        {"   50 connections", {"--http", "--connections", "50", FOR_TWO_SECONDS}},
    };

    printf("\n--- HTTP: examples/http_hello, the same for requests ---\n\n");
    return show_server("http_hello", rows, sizeof rows / sizeof *rows);
}

/* A part that fails does not take the others with it; an interruption does. */
static int show_all(void *arg)
{
    static int (*const parts[])(void) = {show_gather, show_echo, show_http};
    int result = 0;

    (void)arg;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int rc = parts[i]();

        if (rc == -ECANCELED)
            return rc;
        if (rc < 0)
            result = rc;
    }
    if (result == 0 && two_cores)
        printf("\nServer and load have a core each. CPU is what the server spends on a message, kernel "
               "included.\n");
    return result;
}

int main(int argc, char **argv)
{
    cpu_set_t set;

    if (argc != 2) {
        fprintf(stderr, "usage: %s BUILD\n", argv[0]);
        return 2;
    }
    build = argv[1];
    two_cores = sched_getaffinity(0, sizeof set, &set) == 0 && CPU_ISSET(SERVER_CORE, &set) &&
                CPU_ISSET(LOAD_CORE, &set);
    bench_raise_files();

    int rc = naru_run(show_all, NULL);

    fflush(stdout);
    if (rc < 0)
        fprintf(stderr, "demo: not everything could be shown (%s)\n", naru_strerror(rc));
    return rc < 0;
}
