/*
 * What every program in bench/ needs and none of them measures.
 *
 * A figure is only worth printing when it was taken the same way as the one
 * it is compared with. So the clock, the pinning, the median and the printed
 * row live here once, and so do the ways to ask the kernel what a process has
 * used. Everything is static inline: a benchmark stays one compiler command,
 * with nothing to link.
 *
 * The second half is the scaffolding of the servers: options, the listening
 * socket, the signals that ask for a report. What the servers are measured for
 * (wait, accept, receive, send) stays in their own files, where a reader can
 * see all of it.
 *
 * Include this file first: it asks the C library for its Linux interfaces.
 * Failures end the program. A benchmark that limps on prints wrong numbers.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* ---- time and place ---- */

static inline int64_t bench_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Keeps the calling thread on one cpu. Returns 0, or a negative errno where
 * that cpu does not exist or is not ours; the caller may well go on unpinned,
 * its numbers are only noisier. */
static inline int bench_pin(int cpu)
{
    cpu_set_t set;

    if (cpu < 0 || cpu >= CPU_SETSIZE)
        return -EINVAL;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0 ? 0 : -errno;
}

/* ---- samples ---- */

struct bench_summary {
    double median;
    double min;
    double max;
};

static inline int bench_compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Sorts the samples where they are. */
static inline struct bench_summary bench_summarize(double *samples, size_t n)
{
    if (n == 0)
        return (struct bench_summary){0, 0, 0};
    qsort(samples, n, sizeof *samples, bench_compare);

    double upper = samples[n / 2];
    double lower = samples[(n - 1) / 2];

    return (struct bench_summary){(lower + upper) / 2, samples[0], samples[n - 1]};
}

/* One line of a result table: name, median, (min – max), unit. */
static inline void bench_row(const char *name, const char *unit, double *samples, size_t n)
{
    struct bench_summary s = bench_summarize(samples, n);

    printf("%-44s %10.2f  (%.2f – %.2f) %s\n", name, s.median, s.min, s.max, unit);
    fflush(stdout);
}

/* ---- failing ---- */

/* Ends the program with a message and, where errno says one, the cause. */
__attribute__((format(printf, 1, 2), noreturn)) static inline void bench_die(const char *format, ...)
{
    int cause = errno;
    va_list args;

    fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, cause != 0 ? ": %s\n" : "\n", strerror(cause));
    exit(2);
}

static inline void *bench_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL)
        bench_die("no memory for %zu × %zu bytes", count, size);
    return memory;
}

/* A whole number from the command line, within [min, max]. */
static inline long bench_number(const char *option, const char *text, long min, long max)
{
    char *end;

    errno = 0;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < min || value > max) {
        errno = 0;
        bench_die("--%s %s: a number from %ld to %ld is expected", option, text, min, max);
    }
    return value;
}

/* ---- the shape of a micro benchmark ---- */

enum { BENCH_ROUNDS = 9 };

/* What every micro benchmark begins with: it stays on core 0, where there is
 * one for it, and may be given a factor by which to do more or less. */
static inline double bench_begin(int argc, char **argv)
{
    char *end = NULL;
    double scale = argc > 1 ? strtod(argv[1], &end) : 1;

    if (argc > 2 || (argc > 1 && (end == argv[1] || *end != '\0')) || !(scale > 0 && scale <= 1000)) {
        fprintf(stderr, "usage: %s [SCALE]    0 < SCALE <= 1000, default 1\n", argv[0]);
        exit(2);
    }
    bench_pin(0);
    return scale;
}

/* So many operations at this scale; never so few that the clock matters. */
static inline long bench_count(double operations, double scale)
{
    return operations * scale < 1000 ? 1000 : (long)(operations * scale);
}

/* Runs work(count) once to warm up and nine times on the clock, and prints
 * the nanoseconds per operation. */
static inline void bench_measure(const char *name, void (*work)(long count), long count)
{
    double samples[BENCH_ROUNDS];

    work(count / 10);
    for (size_t i = 0; i < BENCH_ROUNDS; i++) {
        int64_t start = bench_now();

        work(count);
        samples[i] = (double)(bench_now() - start) / (double)count;
    }
    bench_row(name, "ns", samples, BENCH_ROUNDS);
}

/* ---- what a process has used ---- */

/* Processor time of this process, user and system together, in µs. */
static inline int64_t bench_cpu_us(void)
{
    struct rusage use;

    getrusage(RUSAGE_SELF, &use);
    return ((int64_t)use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000 + use.ru_utime.tv_usec +
           use.ru_stime.tv_usec;
}

/* Resident memory of a process in KiB, or -1. smaps_rollup walks the page
 * tables and is exact; statm, the fallback for a process that is not ours to
 * inspect, sums per-cpu counters and may be some dozens of pages off. */
static inline long bench_rss_kib(pid_t pid)
{
    char path[64];
    char line[256];
    long kib = -1;
    long pages;

    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        while (kib < 0 && fgets(line, sizeof line, file) != NULL)
            sscanf(line, "Rss: %ld kB", &kib);
        fclose(file);
    }
    if (kib >= 0)
        return kib;

    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return -1;
    if (fscanf(file, "%*d %ld", &pages) == 1)
        kib = pages * (sysconf(_SC_PAGESIZE) / 1024);
    fclose(file);
    return kib;
}

/* Raises the soft limit of open files to the hard one; returns the limit. */
static inline size_t bench_raise_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        bench_die("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        bench_die("setrlimit");
    return (size_t)limit.rlim_cur;
}

/* ---- the servers' scaffolding ---- */

struct bench_server {
    const char *unix_path; /* NULL: TCP on 127.0.0.1 */
    int port;              /* as given; 0: any free one */
    size_t buffer;         /* bytes per connection, for servers that have that; 0: their default */
    int listener;          /* non-blocking, bound and listening */
    int signals;           /* readable when a report or the end is wanted */
};

static inline int bench_listen_tcp(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t size = sizeof address;
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        bench_die("socket");
    /* An accepted socket inherits TCP_NODELAY: set once here, it costs
     * nothing per connection. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0)
        bench_die("setsockopt");
    if (bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, SOMAXCONN) != 0)
        bench_die("cannot listen on port %d", port);
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        bench_die("getsockname");
    printf("listening %d\n", ntohs(address.sin_port));
    return fd;
}

static inline struct sockaddr_un bench_unix_address(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        bench_die("%s", path);
    }
    strcpy(address.sun_path, path);
    return address;
}

static inline int bench_listen_unix(const char *path)
{
    struct sockaddr_un address = bench_unix_address(path);
    struct stat before;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        bench_die("socket");
    /* A socket left over by a killed run is removed, anything else is not. */
    if (lstat(path, &before) == 0 && S_ISSOCK(before.st_mode))
        unlink(path);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, SOMAXCONN) != 0)
        bench_die("cannot listen on %s", path);
    printf("listening %s\n", path);
    return fd;
}

static inline int bench_server_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);

    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        bench_die("signalfd");
    return fd;
}

static inline void bench_server_options(struct bench_server *server, int argc, char **argv)
{
    static const struct option options[] = {
        {"unix", required_argument, NULL, 'u'},
        {"port", required_argument, NULL, 'p'},
        {"buffer", required_argument, NULL, 'b'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'u') {
            server->unix_path = optarg;
        } else if (option == 'p') {
            server->port = (int)bench_number("port", optarg, 0, 65535);
        } else if (option == 'b') {
            server->buffer = (size_t)bench_number("buffer", optarg, 1, 1 << 28);
        } else {
            fprintf(stderr, "usage: %s [--unix PATH] [--port N] [--buffer BYTES]\n", argv[0]);
            exit(2);
        }
    }
}

/* Reads the command line, listens, says where on stdout. Signals are blocked
 * before that line is out, so whoever reads it may signal at once. */
static inline struct bench_server bench_server_open(int argc, char **argv)
{
    struct bench_server server = {0};

    bench_server_options(&server, argc, argv);
    server.signals = bench_server_signals();
    server.listener =
        server.unix_path != NULL ? bench_listen_unix(server.unix_path) : bench_listen_tcp(server.port);
    fflush(stdout);
    return server;
}

/* Takes what signals arrived: each one is answered with a line of what the
 * process has used. Returns false when one of them asked for the end. */
static inline bool bench_server_report(const struct bench_server *server)
{
    struct signalfd_siginfo info;
    bool going = true;

    while (read(server->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        printf("cpu_us=%lld rss_kib=%ld\n", (long long)bench_cpu_us(), bench_rss_kib(getpid()));
        fflush(stdout);
        if (info.ssi_signo != SIGUSR1)
            going = false;
    }
    return going;
}

static inline void bench_server_close(const struct bench_server *server)
{
    close(server->listener);
    close(server->signals);
    if (server->unix_path != NULL)
        unlink(server->unix_path);
}

#endif
