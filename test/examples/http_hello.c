/* A small HTTP/1.1 server: one page for every GET, on connections that stay open.
 *
 *     http_hello [port]          port 0, or none: any free one
 *
 * A connection is a stream of bytes, not of requests: one read may bring half a head or sixteen of them. So what
 * was read is kept until a head is complete, all complete requests are answered into one buffer, and that is sent
 * before the next read. Nothing is allocated, and each kind of answer is a string made by the compiler. */
#include <naru/io.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEAD_MAX = 8192, BODY_MAX = 1 << 20, OUTPUT_MAX = 4096 };
enum status { OK, METHOD, BAD, LARGE_BODY, LARGE_HEAD, CODING };

/* By status, and by whether the connection ends then. */
#define ANSWER(status, fields, size, body) \
    "HTTP/1.1 " status "\r\n" fields "Content-Type: text/plain\r\nContent-Length: " size "\r\n\r\n" body
#define ANSWERS(status, fields, size, body)                                                            \
    {                                                                                                  \
        ANSWER(status, fields, size, body), ANSWER(status, fields "Connection: close\r\n", size, body) \
    }
static const char *const answers[][2] = {
    [OK] = ANSWERS("200 OK", "", "13", "Hello, World!"),
    [METHOD] = ANSWERS("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "19", "only GET and HEAD.\n"),
    [BAD] = ANSWERS("400 Bad Request", "", "12", "bad request\n"),
    [LARGE_BODY] = ANSWERS("413 Content Too Large", "", "22", "the body is too large\n"),
    [LARGE_HEAD] = ANSWERS("431 Request Header Fields Too Large", "", "22", "the head is too large\n"),
    [CODING] = ANSWERS("501 Not Implemented", "", "22", "no transfer encodings.\n"),
};

struct request {
    enum status status;
    size_t body; /* bytes that follow the head; nobody looks at them */
    bool has_length, wants_head, closes;
};

struct connection {
    int fd;
    bool closing;    /* after what is in output */
    size_t skip;     /* bytes of a body still to come */
    size_t filled;   /* bytes in input: the beginning of a request */
    size_t searched; /* of these, lines that do not end the head */
    size_t answered; /* bytes in output */
    char input[HEAD_MAX], output[OUTPUT_MAX];
};

/* ---- one request: [line, end) is what stands before its CRLF ---- */

static bool is(const char *from, const char *to, const char *text)
{
    size_t length = strlen(text);
    return (size_t)(to - from) == length && strncasecmp(from, text, length) == 0;
}

static void request_line(struct request *r, const char *line, const char *end)
{
    const char *target = memchr(line, ' ', (size_t)(end - line));
    const char *version = target ? memchr(target + 1, ' ', (size_t)(end - target - 1)) : NULL;
    if (!version || target == line || version == target + 1 ||
        !(is(version, end, " HTTP/1.1") || is(version, end, " HTTP/1.0"))) {
        r->status = BAD;
        return;
    }
    r->closes = end[-1] == '0';
    r->wants_head = target - line == 4 && memcmp(line, "HEAD", 4) == 0;
    if (!r->wants_head && !(target - line == 3 && memcmp(line, "GET", 3) == 0))
        r->status = METHOD;
}

static void header_line(struct request *r, const char *line, const char *end)
{
    const char *colon = memchr(line, ':', (size_t)(end - line));
    if (!colon || colon == line || *line == ' ' || colon[-1] == ' ') {
        r->status = BAD;
        return;
    }
    const char *value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (value < end && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if (is(line, colon, "Connection")) {
        r->closes |= is(value, end, "close");
    } else if (is(line, colon, "Expect")) {
        r->closes = true; /* whether the body will still come after our answer nobody can know */
    } else if (is(line, colon, "Transfer-Encoding")) {
        r->status = r->status == BAD ? BAD : CODING;
    } else if (is(line, colon, "Content-Length")) {
        char *stop;
        size_t length = strtoul(value, &stop, 10); /* if too large, ULONG_MAX */
        if (value == end || *value < '0' || *value > '9' || stop != end ||
            (r->has_length && r->body != length))
            r->status = BAD;
        else if (length > BODY_MAX && r->status != BAD)
            r->status = LARGE_BODY;
        r->has_length = true;
        r->body = length;
    }
}

static struct request parse(const char *head, const char *end)
{
    struct request r = {.status = OK};
    for (const char *line = head, *next; line < end; line = next) {
        next = (const char *)memchr(line, '\n', (size_t)(end - line)) + 1;
        const char *stop = next - 2;
        if (stop < line || *stop != '\r')
            r.status = BAD;
        else if (line == head)
            request_line(&r, line, stop);
        else if (stop > line)
            header_line(&r, line, stop);
    }
    r.closes |= r.status > METHOD; /* where the next request would begin is not known */
    return r;
}

/* ---- a connection ---- */

static int flush(struct connection *c)
{
    ssize_t n = naru_send_all(c->fd, c->output, c->answered);
    c->answered = 0;
    return n < 0 ? (int)n : 0;
}

static int answer(struct connection *c, const struct request *r)
{
    const char *text = answers[r->status][r->closes];
    size_t size = r->wants_head ? (size_t)(strstr(text, "\r\n\r\n") + 4 - text) : strlen(text);
    int rc = c->answered + size > OUTPUT_MAX ? flush(c) : 0;
    memcpy(c->output + c->answered, text, size);
    c->answered += size;
    c->closing = r->closes;
    return rc;
}

/* Behind the blank line that ends the head; NULL: it is not here yet. A bare LF counts as the end of a line here, so
 * that what is no request at all is refused and not waited for. */
static const char *end_of_head(struct connection *c, const char *head, const char *end)
{
    const char *line = head + c->searched, *newline;
    while ((newline = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        bool is_blank = newline == line || (newline == line + 1 && *line == '\r');
        line = newline + 1;
        if (is_blank)
            return line;
    }
    c->searched = (size_t)(line - head);
    return NULL;
}

/* Answers every complete request of the input, and keeps the rest. */
static int take_requests(struct connection *c)
{
    const char *at = c->input, *end = c->input + c->filled, *body;
    int rc = 0;
    while (rc == 0 && !c->closing) {
        size_t skipped = c->skip < (size_t)(end - at) ? c->skip : (size_t)(end - at);
        c->skip -= skipped;
        at += skipped;
        while (c->searched == 0 && at < end && (*at == '\r' || *at == '\n'))
            at++; /* some clients send an empty line too many after a body: RFC 9112, 2.2 */
        body = end_of_head(c, at, end);
        if (!body)
            break;
        struct request r = parse(at, body);
        rc = answer(c, &r);
        c->skip = r.body;
        c->searched = 0;
        at = body;
    }
    c->filled = (size_t)(end - at);
    memmove(c->input, at, c->filled);
    if (rc == 0 && !c->closing && c->filled == HEAD_MAX)
        rc = answer(c, &(struct request){.status = LARGE_HEAD, .closes = true});
    return rc;
}

/* To close while the peer still sends would reset the connection and take our last answer with it. */
static int linger(struct connection *c)
{
    naru_timeout t;
    ssize_t n = naru_timeout_begin(&t, NARU_SEC(1));
    if (n < 0)
        return (int)n;
    shutdown(c->fd, SHUT_WR);
    do
        n = naru_recv(c->fd, c->input, HEAD_MAX, 0);
    while (n > 0);
    return naru_timeout_end(&t, (int)n);
}

/* That a peer has gone, or went in the middle, is its own affair: no error of the server's. */
static int talk(void *arg)
{
    struct connection c;
    memset(&c, 0, offsetof(struct connection, input));
    c.fd = *(int *)arg;
    ssize_t n;
    int rc = 0;
    while ((n = naru_recv(c.fd, c.input + c.filled, HEAD_MAX - c.filled, 0)) > 0) {
        c.filled += (size_t)n;
        rc = take_requests(&c);
        if (rc == 0)
            rc = flush(&c);
        if (rc < 0 || c.closing)
            break;
    }
    if (n < 0)
        rc = (int)n;
    else if (rc == 0 && c.closing)
        rc = linger(&c);
    naru_close(c.fd);
    return rc == -ECANCELED ? rc : 0;
}

/* A pause is all it takes when descriptors or memory run out: those who have them will give them back. */
static int serve(int listener)
{
    for (;;) {
        int fd = naru_accept(listener, NULL, NULL);
        naru_task *task = fd < 0 ? NULL : naru_spawn_arg(talk, fd);
        if (task) {
            naru_release(task);
            continue;
        }
        if (fd >= 0)
            naru_close(fd);
        else if (fd != -EMFILE && fd != -ENFILE && fd != -ENOBUFS && fd != -ENOMEM)
            return fd;
        int rc = naru_sleep(NARU_MS(50));
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
    printf("listening on port %d\n", naru_local_port(listener));
    fflush(stdout);
    rc = serve(listener);
    naru_close(listener);
    return rc;
}

int main(int argc, char **argv)
{
    uint16_t port = argc > 1 ? (uint16_t)strtoul(argv[1], NULL, 10) : 0;
    int rc = naru_run(run, &port);
    if (rc == -EINTR) {
        puts("interrupted, good-bye");
        return 0;
    }
    fprintf(stderr, "%s: %s\n", argv[0], naru_strerror(rc));
    return 1;
}
