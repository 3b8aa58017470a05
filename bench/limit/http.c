/*
 * The plaintext HTTP server that is the limit for naru's: one fixed page,
 * keep-alive, pipelining, epoll by hand, one thread.
 *
 * Two tricks carry it, and neither is for a real server. A request is not
 * parsed: all that matters is where its head ends, so a run of received bytes
 * is only searched for CR LF CR LF, looking at every fourth byte (requests
 * with a body would be taken for more requests). And since every answer is
 * the same, the bytes owed to a connection are a periodic stream: *how many*
 * are owed says everything, because the last of them always ends an answer.
 * So there is no output buffer per connection, no matter how slowly a peer
 * reads, and answers to any number of pipelined requests leave in one send
 * from one block of ready copies.
 *
 * A connection that owes is not read from until it has paid. Reading is
 * edge-triggered and re-arms after a full buffer or an end that came with
 * data, for the reasons told in echo.c.
 */
#include "../common.h"

#include <sys/epoll.h>

#define ANSWER                     \
    "HTTP/1.1 200 OK\r\n"          \
    "Content-Type: text/plain\r\n" \
    "Content-Length: 13\r\n"       \
    "\r\n"                         \
    "Hello, World!"

enum {
    ANSWER_BYTES = sizeof ANSWER - 1,
    COPIES = 1024,
    BLOCK_BYTES = ANSWER_BYTES * COPIES,
    END_BYTES = 4,              /* CR LF CR LF */
    TAIL_BYTES = END_BYTES - 1, /* as much of an end as one read can cut off */
    READ_BYTES = 64 * 1024,
    BATCH = 512, /* events taken per wait */
};

/* How a connection is watched while it owes nothing. */
static const uint32_t READING = EPOLLIN | EPOLLRDHUP | EPOLLET;

/* All zero between whole requests, which is also how a new one starts. */
struct connection {
    uint32_t owed; /* bytes of answers not yet sent */
    uint8_t tail_size;
    char tail[TAIL_BYTES]; /* last bytes received, if a head is unfinished */
};

/* One read can ask for this much at most; it must fit what counts it. */
_Static_assert((uint64_t)(READ_BYTES + TAIL_BYTES) / END_BYTES * ANSWER_BYTES <= UINT32_MAX,
               "owed must hold the answers to a full read");

static char block[BLOCK_BYTES];             /* copies of the answer, end to end */
static char input[TAIL_BYTES + READ_BYTES]; /* the tail goes in front of what is read */
static struct connection *connections;      /* by descriptor */
static int epoll;

/* Also re-arms: epoll looks again, and tells again if there is anything. */
static void watch(int fd, uint32_t events, int how)
{
    struct epoll_event event = {.events = events, .data.fd = fd};

    if (epoll_ctl(epoll, how, fd, &event) != 0)
        bench_die("epoll_ctl");
}

static void hang_up(int fd)
{
    connections[fd] = (struct connection){0};
    close(fd);
}

/* Not an end of the connection: try again when epoll says so. */
static bool is_later(ssize_t result)
{
    return result < 0 && (errno == EAGAIN || errno == EINTR);
}

/* Returns what follows the first CR LF CR LF, or NULL. `last` is where its
 * final byte could be: a byte that is neither CR nor LF rules out this place
 * and the next three, a LF that is not final rules out the next one. */
static const char *after_head(const char *begin, const char *end)
{
    const char *last = begin + TAIL_BYTES;

    while (last < end) {
        if (*last == '\n') {
            if (memcmp(last - TAIL_BYTES, "\r\n\r\n", END_BYTES) == 0)
                return last + 1;
            last += 2;
        } else {
            last += *last == '\r' ? 1 : END_BYTES;
        }
    }
    return NULL;
}

/* Books an answer for each head that ends in [begin, end) and remembers the
 * bytes with which the next one's end may have begun. */
static void take_requests(struct connection *c, const char *begin, const char *end)
{
    const char *next;

    while ((next = after_head(begin, end)) != NULL) {
        c->owed += ANSWER_BYTES;
        begin = next;
    }
    c->tail_size = (uint8_t)(end - begin < TAIL_BYTES ? end - begin : TAIL_BYTES);
    memcpy(c->tail, end - c->tail_size, c->tail_size);
}

/* Sends until nothing is owed. Negative, with errno, when that must wait or
 * the connection is broken. */
static ssize_t pay(int fd, struct connection *c)
{
    while (c->owed > 0) {
        size_t into_answer = (ANSWER_BYTES - c->owed % ANSWER_BYTES) % ANSWER_BYTES;
        size_t ready = BLOCK_BYTES - into_answer;
        ssize_t sent = send(fd, block + into_answer, c->owed < ready ? c->owed : ready, MSG_NOSIGNAL);

        if (sent < 0)
            return sent;
        c->owed -= (uint32_t)sent;
    }
    return 0;
}

static void on_readable(int fd, uint32_t events)
{
    struct connection *c = &connections[fd];
    ssize_t size = recv(fd, input + TAIL_BYTES, READ_BYTES, 0);

    if (is_later(size))
        return;
    if (size <= 0) {
        hang_up(fd);
        return;
    }

    char *begin = input + TAIL_BYTES - c->tail_size;

    memcpy(begin, c->tail, c->tail_size);
    take_requests(c, begin, input + TAIL_BYTES + size);

    ssize_t paid = pay(fd, c);

    if (is_later(paid))
        watch(fd, EPOLLOUT, EPOLL_CTL_MOD);
    else if (paid < 0)
        hang_up(fd);
    else if (size == READ_BYTES || (events & EPOLLRDHUP) != 0)
        watch(fd, READING, EPOLL_CTL_MOD);
}

static void on_writable(int fd)
{
    ssize_t paid = pay(fd, &connections[fd]);

    if (paid == 0)
        watch(fd, READING, EPOLL_CTL_MOD);
    else if (!is_later(paid))
        hang_up(fd);
}

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0)
            watch(fd, READING, EPOLL_CTL_ADD);
        else if (errno == EAGAIN)
            return;
        else if (errno != ECONNABORTED && errno != EINTR)
            bench_die("accept");
    }
}

/* Returns false when the end was asked for. */
static bool dispatch(const struct bench_server *server, int fd, uint32_t events)
{
    if (fd == server->listener)
        accept_all(fd);
    else if (fd == server->signals)
        return bench_server_report(server);
    else if (connections[fd].owed == 0)
        on_readable(fd, events);
    else
        on_writable(fd);
    return true;
}

static void serve(const struct bench_server *server)
{
    struct epoll_event events[BATCH];
    bool going = true;

    watch(server->listener, EPOLLIN, EPOLL_CTL_ADD);
    watch(server->signals, EPOLLIN, EPOLL_CTL_ADD);
    while (going) {
        int count = epoll_wait(epoll, events, BATCH, -1);

        for (int i = 0; i < count; i++)
            going &= dispatch(server, events[i].data.fd, events[i].events);
    }
}

int main(int argc, char **argv)
{
    struct bench_server server;

    for (size_t i = 0; i < COPIES; i++)
        memcpy(block + i * ANSWER_BYTES, ANSWER, ANSWER_BYTES);
    connections = bench_alloc(bench_raise_files(), sizeof *connections);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        bench_die("epoll_create1");
    server = bench_server_open(argc, argv);
    serve(&server);
    free(connections);
    bench_server_close(&server);
    close(epoll);
    return 0;
}
