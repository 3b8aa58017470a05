/* A chat room on TCP, one line a message: run it and come in with "nc localhost 7000" from several terminals.
 *
 *     chat [port]          port 0, or none: any free one
 *
 * The question of every chat is what becomes of those who do not read. If the sender waited for them, one sleeping
 * terminal would stop the room. So each client has two tasks: a reader that puts what was said into everybody's
 * queue, which never waits, and a writer that takes from its own queue at the pace of its own peer. The queue is
 * bounded, and whoever lets it run full is shown the door. */
#include <naru/io.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 20, LINE_BYTES = 500, QUEUE_BYTES = 64 * 1024, KERNEL_BYTES = 64 * 1024 };

struct client {
    struct client *next; /* in the room, once it has a name */
    int fd;
    char name[NAME_BYTES + 1];
    char input[512]; /* what was received and not yet looked at: from begin to end */
    size_t begin, end;
    size_t queued, sent; /* counted from the start, and thus the place in the ring of bytes below */
    naru_future news;    /* done when there is something for the writer */
    bool cut_off;
    char queue[QUEUE_BYTES];
};

static struct client *room;

/* ---- out: nobody waits here but the writer ---- */

static void enqueue(struct client *c, const char *text, size_t size)
{
    if (c->cut_off)
        return;
    if (size > QUEUE_BYTES - (c->queued - c->sent)) {
        c->cut_off = true;
        printf("%s does not read, and is cut off\n", c->name);
        shutdown(c->fd, SHUT_RDWR); /* its reader and its writer notice, and leave as if the peer had */
        return;
    }
    for (size_t i = 0; i < size; i++)
        c->queue[c->queued++ % QUEUE_BYTES] = text[i];
    naru_future_set(&c->news, 0, NULL);
}

static void tell_others(const struct client *sender, const char *format, const char *text)
{
    char line[NAME_BYTES + LINE_BYTES + 32];
    int size = snprintf(line, sizeof line, format, sender->name, text);
    for (struct client *c = room; c; c = c->next)
        if (c != sender)
            enqueue(c, line, (size_t)size);
}

static int writer(void *arg)
{
    struct client *c = arg;
    for (;;) {
        while (c->sent < c->queued) {
            size_t from = c->sent % QUEUE_BYTES, size = c->queued - c->sent;
            ssize_t n =
                naru_send(c->fd, c->queue + from, size < QUEUE_BYTES - from ? size : QUEUE_BYTES - from, 0);
            if (n < 0)
                return n == -ECANCELED ? (int)n : 0; /* gone; the reader will notice as well */
            c->sent += (size_t)n;
        }
        c->news = (naru_future)NARU_FUTURE_INIT;
        int rc = naru_future_wait(&c->news);
        if (rc < 0)
            return rc;
    }
}

/* ---- in ---- */

/* 1: a line, without its end and with control characters made harmless; 0: the peer has gone; < 0: an error. What is
 * longer than the buffer is cut. */
static int read_line(struct client *c, char *line, size_t size)
{
    size_t length = 0;
    for (;;) {
        while (c->begin < c->end) {
            char byte = c->input[c->begin++];
            if (byte == '\n') {
                line[length] = '\0';
                return 1;
            }
            if (byte != '\r' && length < size - 1)
                line[length++] = (unsigned char)byte < ' ' || byte == 127 ? '?' : byte;
        }
        int rc = naru_yield(); /* before more comes in, what has been said goes out */
        ssize_t n = rc < 0 ? rc : naru_recv(c->fd, c->input, sizeof c->input, 0);
        if (n <= 0)
            return (int)n;
        c->begin = 0;
        c->end = (size_t)n;
    }
}

static bool is_taken(const char *name)
{
    for (const struct client *c = room; c; c = c->next)
        if (strcmp(c->name, name) == 0)
            return true;
    return false;
}

static int ask_name(struct client *c)
{
    static const char question[] = "name? ", taken[] = "that one is here already\n";
    char name[sizeof c->name];
    for (;;) {
        enqueue(c, question, sizeof question - 1);
        int rc = read_line(c, name, sizeof name);
        if (rc <= 0)
            return rc;
        if (name[0] && !is_taken(name)) {
            strcpy(c->name, name);
            return 1;
        }
        if (name[0])
            enqueue(c, taken, sizeof taken - 1);
    }
}

static void leave(struct client *c)
{
    struct client **at = &room;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    printf("%s left\n", c->name);
    tell_others(c, "* %s left%s\n", "");
}

static int talk(struct client *c)
{
    char line[LINE_BYTES + 1];
    int rc = ask_name(c);
    if (rc <= 0)
        return rc;
    c->next = room;
    room = c;
    printf("%s joined\n", c->name);
    tell_others(c, "* %s joined%s\n", "");
    while ((rc = read_line(c, line, sizeof line)) > 0)
        if (line[0])
            tell_others(c, "%s: %s\n", line);
    leave(c);
    return rc;
}

static int serve_client(void *arg)
{
    int fd = *(int *)arg, rc = -ENOMEM;
    struct client *c = calloc(1, sizeof *c);
    naru_task *task = NULL;
    if (c) {
        c->fd = fd;
        task = naru_spawn(writer, c);
    }
    if (task) {
        rc = talk(c);
        naru_cancel(task);
        naru_join(task);
    }
    naru_close(fd);
    free(c);
    return rc == -ECONNRESET ? 0 : rc;
}

/* ---- the server ---- */

static int serve(int listener)
{
    for (;;) {
        int fd = naru_accept(listener, NULL, NULL);
        naru_task *task = fd < 0 ? NULL : naru_spawn_arg(serve_client, fd);
        if (task) {
            naru_release(task);
            continue;
        }
        if (fd >= 0)
            naru_close(fd);
        else if (fd != -EMFILE && fd != -ENFILE && fd != -ENOBUFS && fd != -ENOMEM)
            return fd;
        int rc = naru_sleep(NARU_MS(50)); /* until somebody has left */
        if (rc < 0)
            return rc;
    }
}

static int run(void *arg)
{
    int listener;
    int rc = naru_tcp_listen(NULL, *(const uint16_t *)arg, 0, 0, &listener);
    if (rc < 0)
        return rc;
    /* The kernel would take megabytes for a peer that does not read. Connections inherit this. */
    setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &(int){KERNEL_BYTES}, sizeof(int));
    printf("listening on port %d\n", naru_local_port(listener));
    rc = serve(listener);
    naru_close(listener);
    return rc;
}

int main(int argc, char **argv)
{
    uint16_t port = argc > 1 ? (uint16_t)strtoul(argv[1], NULL, 10) : 0;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* a log, also when it goes to a file */
    int rc = naru_run(run, &port);
    if (rc == -EINTR) {
        puts("interrupted, good-bye");
        return 0;
    }
    fprintf(stderr, "%s: %s\n", argv[0], naru_strerror(rc));
    return 1;
}
