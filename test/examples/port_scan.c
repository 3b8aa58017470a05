/* Which ports of a host take connections?
 *
 *     port_scan host first last [concurrency [timeout in ms]]
 *
 * Trying a port is mostly waiting, and a port behind a firewall never answers. So many are tried at once, but not all: a fixed
 * number of workers take the next port each, which bounds descriptors and politeness alike. And each try has a
 * deadline: naru_timeout cancels whatever waits inside it, and naru_tcp_connect, when cancelled, leaves nothing behind. */
#include <naru/io.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORTS = 65536, MAX_WORKERS = 1000 };

struct scan {
    const char *host;
    long next, last;
    long workers;
    int64_t timeout;
    long open, closed, silent, failed;
    int error; /* the last of those that failed */
    bool is_open[PORTS];
};

/* A connect to a port that nobody listens on may, on the own machine, be given just this port to come from: then TCP
 * connects the socket to itself. */
static bool talks_to_itself(int fd)
{
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t here_size = sizeof here, there_size = sizeof there;
    return getsockname(fd, (struct sockaddr *)&here, &here_size) == 0 &&
           getpeername(fd, (struct sockaddr *)&there, &there_size) == 0 &&
           memcmp(&here, &there, sizeof here) == 0;
}

static int try_port(struct scan *scan, uint16_t port, int *fd)
{
    naru_timeout t;
    int rc = naru_timeout_begin(&t, scan->timeout);
    return rc < 0 ? rc : naru_timeout_end(&t, naru_tcp_connect(scan->host, port, fd));
}

static int worker(void *arg)
{
    struct scan *scan = arg;
    while (scan->next <= scan->last) {
        uint16_t port = (uint16_t)scan->next++;
        int fd, rc = try_port(scan, port, &fd);
        if (rc == -ECANCELED || rc == -ENOTSUP)
            return rc;
        if (rc == 0) {
            if (talks_to_itself(fd))
                rc = -ECONNREFUSED;
            naru_close(fd);
        }
        switch (rc) {
        case 0:
            scan->is_open[port] = true;
            scan->open++;
            break;
        case -ECONNREFUSED:
            scan->closed++;
            break;
        case -ETIMEDOUT:
            scan->silent++;
            break;
        default:
            scan->failed++;
            scan->error = rc;
        }
    }
    return 0;
}

static int run(void *arg)
{
    struct scan *scan = arg;
    naru_task *workers[MAX_WORKERS];
    size_t count = (size_t)scan->workers, joined = 0;
    int rc = 0;
    for (size_t i = 0; i < count; i++)
        workers[i] = naru_spawn(worker, scan);
    while (joined < count && rc >= 0)
        rc = naru_join(workers[joined++]);
    /* An error, or an interrupt: the others need not go on. */
    naru_cancel_all(workers + joined, count - joined);
    naru_release_all(workers + joined, count - joined);
    return rc;
}

int main(int argc, char **argv)
{
    static struct scan scan;
    scan.host = argc > 1 ? argv[1] : "";
    scan.next = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
    scan.last = argc > 3 ? strtol(argv[3], NULL, 10) : 0;
    scan.workers = argc > 4 ? strtol(argv[4], NULL, 10) : 100;
    scan.timeout = NARU_MS(argc > 5 ? strtod(argv[5], NULL) : 1000);
    if (argc < 4 || scan.next < 1 || scan.last < scan.next || scan.last >= PORTS || scan.workers < 1 ||
        scan.workers > MAX_WORKERS || scan.timeout <= 0) {
        fprintf(stderr, "usage: %s host first last [concurrency [timeout in ms]]\n", argv[0]);
        return 2;
    }
    int rc = naru_run(run, &scan);
    if (rc < 0 && rc != -EINTR) {
        fprintf(stderr, "%s: %s\n", argv[0], naru_strerror(rc));
        return 1;
    }
    for (int port = 0; port < PORTS; port++)
        if (scan.is_open[port])
            printf("%d open\n", port);
    printf("%ld open, %ld closed, %ld timed out, %ld failed%s\n", scan.open, scan.closed, scan.silent,
           scan.failed, rc == -EINTR ? " (interrupted)" : "");
    if (scan.failed > 0)
        fprintf(stderr, "%s: %s\n", argv[0], naru_strerror(scan.error));
    return scan.failed > 0;
}
