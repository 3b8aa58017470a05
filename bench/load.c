/*
 * The load that every server in this project is measured with.
 *
 * A closed loop: each of C connections keeps D messages in flight, and sends
 * the next one when a complete answer has come back. Nothing is sent on a
 * schedule, so a slow server is asked less and the rate is its own. On a small
 * machine this program, not the server, is the first to run out of processor.
 * The figure to compare is therefore what the *server* spent per message, read
 * from the kernel's accounting of all its threads at both ends of the window.
 *
 * All kinds of load are one machine. A message of known size goes out, a reply
 * of known size comes back, and its first bytes must be what is expected:
 *
 *   echo          the message itself. It begins with a stamp of connection and
 *                 sequence number, so a lost, doubled, reordered or misdirected
 *                 piece is noticed; --check compares all other bytes too.
 *   --http        the size of a page is learnt from one request beforehand,
 *                 each later answer must start alike and be as long.
 *   --connect-rate  echo, but each connection carries one message and is then
 *                 reset, which leaves no TIME_WAIT behind; time counts from
 *                 before the connect.
 *   --idle        echo, one message per connection, then silence: only what
 *                 the server holds resident per connection is of interest.
 *
 * A message can be rebuilt from its number, so connections own no buffers: the
 * output is stamped into one shared block, the input is checked as it passes.
 *
 * A latency runs from the moment a message is due, which is when the reply it
 * waited for was read, to the moment its own reply is complete. The clock is
 * read once per ready connection, which is all that 1 % of precision needs.
 *
 * Everything runs in phases: connect, warm up, measure, drain (nothing new is
 * sent; what stays unanswered is an error), idle. One JSON line at the end;
 * exit status 1 if there were errors.
 */
#include "common.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <sys/epoll.h>

enum {
    BATCH = 256,              /* events taken per wait */
    INPUT_BYTES = 256 * 1024, /* one read */
    OUTPUT_BYTES = 64 * 1024, /* one send, if several messages fit */
    STAMP_BYTES = 8,
    HTTP_START_BYTES = 12, /* "HTTP/1.1 200" */
    PER_SOURCE = 25000,    /* connections from one source address */
    SHOWN_ERRORS = 5,
};

#define DRAIN_NS INT64_C(2000000000) /* patience for the last replies */
#define SETTLE_SECONDS 0.2           /* until a server has gone quiet */

enum mode { ECHO, HTTP, CONNECT_RATE, IDLE };

static const char *const mode_names[] = {"echo", "http", "connect-rate", "idle"};

static struct {
    enum mode mode;
    const char *unix_path;
    int port;
    int cpu;      /* -1: unpinned */
    pid_t server; /* 0: unknown, its figures are null */
    size_t connections;
    size_t size;
    size_t pipeline;
    double seconds;
    double warmup;
    bool check;
} options = {
    .cpu = -1,
    .connections = 50,
    .size = 64,
    .pipeline = 1,
    .seconds = 5,
    .warmup = 1,
};

/* Set once before the first connection. */
static struct {
    size_t message;        /* bytes out per message */
    size_t reply;          /* bytes back per message */
    size_t checked;        /* bytes at a reply's start that are compared */
    unsigned char *output; /* `slots` messages, end to end */
    size_t slots;
} plan;

struct connection {
    int fd;       /* -1: none */
    bool blocked; /* watched for EPOLLOUT as well */
    uint32_t number;
    uint64_t begun;                        /* messages handed out to be sent */
    uint64_t sent;                         /* messages completely sent; <= begun */
    uint64_t answered;                     /* replies completely received; <= begun */
    size_t sent_bytes;                     /* of message number `sent` */
    size_t got_bytes;                      /* of reply number `answered` */
    int64_t *due;                          /* when messages in flight began, ring of `pipeline` */
    unsigned char start[HTTP_START_BYTES]; /* first bytes of the reply coming in */
};

static struct connection *connections;
static int epoll;
static bool sending = true; /* false from the drain on */
static bool measuring;      /* inside the window: replies count */
static uint64_t unanswered; /* messages in flight, on all connections */
static uint64_t errors;
static unsigned char input[INPUT_BYTES];

/* ---- latencies: log-linear, 128 steps to each doubling ---- */

enum {
    STEP_BITS = 7,
    STEPS = 1 << STEP_BITS,
    DOUBLINGS = 34, /* 2^34 ns is beyond 10 s */
    BUCKETS = (DOUBLINGS - STEP_BITS + 1) * STEPS,
};

#define LONGEST_NS 10000000000u

static struct {
    uint64_t counts[BUCKETS];
    uint64_t total;
    uint64_t longest;
} histogram;

/* Below 128 ns exact, above with the leading 8 bits of the value. */
static size_t bucket_of(uint64_t ns)
{
    if (ns < STEPS)
        return ns;

    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - STEP_BITS;

    return shift * (size_t)STEPS + (ns >> shift);
}

/* The middle of what a bucket holds. */
static double bucket_ns(size_t bucket)
{
    if (bucket < 2 * STEPS)
        return (double)bucket;

    size_t shift = bucket / STEPS - 1;
    size_t lead = bucket % STEPS + STEPS;

    return ((double)lead + 0.5) * (double)(UINT64_C(1) << shift);
}

static void histogram_add(int64_t latency)
{
    uint64_t ns = latency < 0 ? 0 : (uint64_t)latency;

    if (!measuring)
        return;
    if (ns > LONGEST_NS)
        ns = LONGEST_NS;
    histogram.counts[bucket_of(ns)]++;
    histogram.total++;
    if (ns > histogram.longest)
        histogram.longest = ns;
}

static double percentile_us(double share)
{
    uint64_t below = (uint64_t)(share * (double)histogram.total);
    uint64_t seen = 0;

    for (size_t i = 0; i < BUCKETS; i++) {
        seen += histogram.counts[i];
        if (seen > below) {
            double ns = bucket_ns(i);
            double longest = (double)histogram.longest;

            return (ns < longest ? ns : longest) / 1e3;
        }
    }
    return 0;
}

/* ---- what the server has used ---- */

/* Run time of all threads in ns. The scheduler's own figure is exact, but a
 * thread that ended takes its share along. Without it (CONFIG_SCHED_INFO),
 * clock ticks have to do. Returns -1 if the process cannot be read. */
static int64_t threads_run_ns(pid_t pid)
{
    char path[320];
    int64_t sum = -1;
    long long ns;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        return -1;
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", (int)pid, task->d_name);
        FILE *file = task->d_name[0] == '.' ? NULL : fopen(path, "re");
        if (file == NULL)
            continue;
        if (fscanf(file, "%lld", &ns) == 1)
            sum = (sum < 0 ? 0 : sum) + ns;
        fclose(file);
    }
    closedir(tasks);
    return sum;
}

static int64_t ticks_run_ns(pid_t pid)
{
    char path[64];
    char line[1024];
    unsigned long long user;
    unsigned long long system;
    int64_t ns = -1;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    if (fgets(line, sizeof line, file) != NULL) {
        /* The name may hold blanks and brackets: count from its end. */
        const char *rest = strrchr(line, ')');
        if (rest != NULL &&
            sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) == 2)
            ns = (int64_t)(user + system) * (1000000000 / sysconf(_SC_CLK_TCK));
    }
    fclose(file);
    return ns;
}

static int64_t server_run_ns(void)
{
    if (options.server == 0)
        return -1;

    int64_t ns = threads_run_ns(options.server);

    return ns >= 0 ? ns : ticks_run_ns(options.server);
}

static long server_rss_kib(void)
{
    return options.server == 0 ? -1 : bench_rss_kib(options.server);
}

/* ---- connections ---- */

/* Above a port range's worth of connections to one place, another source
 * address is needed. The port is left to connect, which knows what is free
 * towards this destination. */
static int bind_source(int fd, uint32_t number)
{
    struct sockaddr_in source = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK + number / PER_SOURCE),
    };
    int one = 1;

    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one) != 0)
        return -1;
    return bind(fd, (struct sockaddr *)&source, sizeof source);
}

static int connect_tcp(uint32_t number)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)options.port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        bench_die("socket");
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        (options.connections > PER_SOURCE && bind_source(fd, number) != 0))
        bench_die("preparing connection %u", number);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

static int connect_unix(void)
{
    struct sockaddr_un address = bench_unix_address(options.unix_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        bench_die("socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Sockets stay blocking: a connect on this machine is done when it returns,
 * and all other calls say MSG_DONTWAIT. */
static int connect_server(uint32_t number)
{
    return options.unix_path != NULL ? connect_unix() : connect_tcp(number);
}

static void watch(struct connection *c, uint32_t events, int how)
{
    struct epoll_event event = {.events = events, .data.ptr = c};

    if (epoll_ctl(epoll, how, c->fd, &event) != 0)
        bench_die("epoll_ctl");
}

static void show_error(const struct connection *c, const char *what)
{
    if (++errors <= SHOWN_ERRORS)
        fprintf(stderr, "load: connection %u after %llu replies: %s\n", c->number,
                (unsigned long long)c->answered, what);
}

static bool connection_open(struct connection *c)
{
    c->fd = connect_server(c->number);
    if (c->fd < 0) {
        show_error(c, strerror(errno));
        return false;
    }
    c->begun = c->sent = c->answered = 0;
    c->sent_bytes = c->got_bytes = 0;
    c->blocked = false;
    watch(c, EPOLLIN, EPOLL_CTL_ADD);
    return true;
}

static void connection_close(struct connection *c)
{
    unanswered -= c->begun - c->answered;
    close(c->fd);
    c->fd = -1;
}

/* A reset instead of a farewell: neither side is left in TIME_WAIT. */
static void connection_reset(struct connection *c)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    connection_close(c);
}

/* ---- out ---- */

/* The stamp is a prefix of these 8 bytes where messages are shorter. */
static uint64_t stamp_of(const struct connection *c, uint64_t message)
{
    return (uint64_t)c->number << 40 | (message & 0xffffffffffu);
}

static void stamp_output(const struct connection *c, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t stamp = stamp_of(c, c->sent + i);

        memcpy(plan.output + i * plan.message, &stamp, plan.checked);
    }
}

static void count_sent(struct connection *c, size_t bytes)
{
    c->sent_bytes += bytes;
    c->sent += c->sent_bytes / plan.message;
    c->sent_bytes %= plan.message;
}

static void set_blocked(struct connection *c, bool blocked)
{
    if (c->blocked == blocked)
        return;
    c->blocked = blocked;
    watch(c, blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

/* Sends what is begun as far as the socket takes it. False: an error. */
static bool flush(struct connection *c)
{
    while (c->sent < c->begun) {
        uint64_t waiting = c->begun - c->sent;
        size_t count = waiting < plan.slots ? (size_t)waiting : plan.slots;
        size_t size = count * plan.message - c->sent_bytes;

        if (options.mode != HTTP)
            stamp_output(c, count);

        ssize_t sent = send(c->fd, plan.output + c->sent_bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent >= 0)
            count_sent(c, (size_t)sent);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (sent < (ssize_t)size) {
            set_blocked(c, true);
            return true;
        }
    }
    set_blocked(c, false);
    return true;
}

static void begin_messages(struct connection *c, size_t count, int64_t now)
{
    for (size_t i = 0; i < count; i++)
        c->due[c->begun++ % options.pipeline] = now;
    unanswered += count;
}

/* ---- in ---- */

/* Is [from, from + size) of an echo's body what was sent? */
static bool body_matches(const unsigned char *bytes, size_t from, size_t size)
{
    size_t skip = from < plan.checked ? plan.checked - from : 0;

    if (skip >= size)
        return true;
    return memcmp(bytes + skip, plan.output + from + skip, size - skip) == 0;
}

static bool start_matches(const struct connection *c)
{
    uint64_t stamp = stamp_of(c, c->answered);

    if (options.mode == HTTP)
        return memcmp(c->start, "HTTP/1.1 200", plan.checked) == 0;
    return memcmp(c->start, &stamp, plan.checked) == 0;
}

/* Takes bytes of one reply; returns how many. */
static size_t take_piece(struct connection *c, const unsigned char *bytes, size_t size)
{
    size_t missing = plan.reply - c->got_bytes;

    if (size > missing)
        size = missing;
    if (c->got_bytes < plan.checked) {
        size_t part = plan.checked - c->got_bytes;

        memcpy(c->start + c->got_bytes, bytes, part < size ? part : size);
    }
    return size;
}

/* Takes received bytes. Returns what is wrong with them, or NULL. */
static const char *take_replies(struct connection *c, const unsigned char *bytes, size_t size, int64_t now)
{
    while (size > 0) {
        if (c->answered == c->begun)
            return "more came back than was asked for";

        size_t piece = take_piece(c, bytes, size);

        if (options.check && !body_matches(bytes, c->got_bytes, piece))
            return "wrong bytes inside a reply";
        c->got_bytes += piece;
        bytes += piece;
        size -= piece;
        if (c->got_bytes < plan.reply)
            return NULL;
        if (!start_matches(c))
            return "reply does not start as expected";
        histogram_add(now - c->due[c->answered % options.pipeline]);
        c->got_bytes = 0;
        c->answered++;
        unanswered--;
    }
    return NULL;
}

/* ---- the closed loop ---- */

/* From nothing to a first message on its way. */
static bool start(struct connection *c)
{
    int64_t now = bench_now();

    if (!connection_open(c))
        return false;
    begin_messages(c, options.pipeline, now);
    if (flush(c))
        return true;
    show_error(c, strerror(errno));
    connection_close(c);
    return false;
}

/* A broken connection is replaced, so that the load stays what it was. */
static void fail(struct connection *c, const char *what)
{
    show_error(c, what);
    connection_reset(c);
    if (sending)
        start(c);
}

/* Replies are in: the next messages are due. */
static void go_on(struct connection *c, size_t count, int64_t now)
{
    if (options.mode == CONNECT_RATE)
        connection_reset(c);
    if (options.mode == IDLE || !sending)
        return;
    if (options.mode == CONNECT_RATE) {
        start(c);
        return;
    }
    begin_messages(c, count, now);
    if (!flush(c))
        fail(c, strerror(errno));
}

static void on_readable(struct connection *c)
{
    ssize_t size = recv(c->fd, input, sizeof input, MSG_DONTWAIT);

    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) {
        fail(c, size == 0 ? "closed by the server" : strerror(errno));
        return;
    }

    int64_t now = bench_now();
    uint64_t before = c->answered;
    const char *wrong = take_replies(c, input, (size_t)size, now);

    if (wrong != NULL)
        fail(c, wrong);
    else if (c->answered > before)
        go_on(c, (size_t)(c->answered - before), now);
}

static void dispatch(struct connection *c, uint32_t events)
{
    if ((events & EPOLLOUT) != 0 && !flush(c))
        fail(c, strerror(errno));
    else if ((events & ~(uint32_t)EPOLLOUT) != 0)
        on_readable(c);
}

/* Handles what is ready, waiting for it until `deadline` at the latest. */
static void turn(int64_t deadline)
{
    struct epoll_event events[BATCH];
    int64_t left = deadline - bench_now();
    int count = epoll_wait(epoll, events, BATCH, left > 0 ? (int)(left / 1000000 + 1) : 0);

    for (int i = 0; i < count; i++)
        dispatch(events[i].data.ptr, events[i].events);
}

static void run_for(double seconds)
{
    int64_t deadline = bench_now() + (int64_t)(seconds * 1e9);

    while (bench_now() < deadline)
        turn(deadline);
}

/* Lets everything in flight come home. What does not is an error each. */
static void drain(void)
{
    int64_t deadline = bench_now() + DRAIN_NS;

    while (unanswered > 0 && bench_now() < deadline)
        turn(deadline);
    if (unanswered == 0)
        return;
    errors += unanswered;
    fprintf(stderr, "load: %llu messages were never answered\n", (unsigned long long)unanswered);
}

/* ---- the phases ---- */

struct usage {
    int64_t at;
    int64_t server_ns; /* -1: unknown */
    int64_t load_us;
};

static struct usage take_usage(void)
{
    return (struct usage){bench_now(), server_run_ns(), bench_cpu_us()};
}

static void start_all(void)
{
    for (size_t i = 0; i < options.connections; i++) {
        if (!start(&connections[i]))
            bench_die("cannot connect to the server");
    }
}

static void close_all(void)
{
    for (size_t i = 0; i < options.connections; i++) {
        if (connections[i].fd >= 0)
            connection_reset(&connections[i]);
    }
}

static void print_number(const char *name, double value, bool known)
{
    if (known)
        printf(",\"%s\":%.3f", name, value);
    else
        printf(",\"%s\":null", name);
}

/* Resident memory only: socket buffers belong to the kernel. */
static void print_memory(long before, long idle)
{
    bool known = before >= 0 && idle >= 0;
    double per_connection = (double)(idle - before) * 1024 / (double)options.connections;

    print_number("server_rss_kib_before", (double)before, before >= 0);
    print_number("server_rss_kib_idle", (double)idle, idle >= 0);
    /* With --connect-rate no connection is left to hold anything. */
    print_number("bytes_per_connection", per_connection, known && options.mode != CONNECT_RATE);
    printf("}\n");
}

static void print_window(const struct usage *from, const struct usage *to)
{
    double seconds = (double)(to->at - from->at) / 1e9;
    double server_us = (double)(to->server_ns - from->server_ns) / 1e3;
    double messages = (double)histogram.total;

    printf("{\"mode\":\"%s\",\"messages\":%llu,\"seconds\":%.3f,\"rate\":%.0f", mode_names[options.mode],
           (unsigned long long)histogram.total, seconds, messages / seconds);
    print_number("p50_us", percentile_us(0.5), true);
    print_number("p90_us", percentile_us(0.9), true);
    print_number("p99_us", percentile_us(0.99), true);
    print_number("p999_us", percentile_us(0.999), true);
    print_number("max_us", (double)histogram.longest / 1e3, true);
    printf(",\"errors\":%llu", (unsigned long long)errors);
    print_number("server_cpu_us_per_message", server_us / messages,
                 from->server_ns >= 0 && to->server_ns >= 0 && histogram.total > 0);
    print_number("load_cpu_share", (double)(to->load_us - from->load_us) / 1e6 / seconds, true);
}

static void measure_rate(long rss_before)
{
    start_all();
    run_for(options.warmup);

    struct usage from = take_usage();
    measuring = true;
    run_for(options.seconds);
    measuring = false;
    struct usage to = take_usage();

    sending = false;
    drain();
    run_for(SETTLE_SECONDS);
    print_window(&from, &to);
    print_memory(rss_before, server_rss_kib());
}

static void measure_idle(long rss_before)
{
    start_all();
    sending = false;
    drain();
    run_for(options.seconds);
    printf("{\"mode\":\"idle\",\"connections\":%zu,\"errors\":%llu", options.connections,
           (unsigned long long)errors);
    print_memory(rss_before, server_rss_kib());
}

/* ---- preparing ---- */

static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/* The size of a whole answer, if `text` holds its head; 0: not yet. */
static size_t answer_size(const char *text)
{
    const char *body = strstr(text, "\r\n\r\n");
    const char *length = strcasestr(text, "\r\nContent-Length:");

    if (body == NULL)
        return 0;
    errno = 0;
    if (strncmp(text, "HTTP/1.1 200", HTTP_START_BYTES) != 0)
        bench_die("the server answers: %.*s", (int)strcspn(text, "\r"), text);
    if (length == NULL || length > body)
        bench_die("the server's answer has no Content-Length");
    return (size_t)(body - text) + 4 + strtoul(length + strlen("\r\nContent-Length:"), NULL, 10);
}

/* One request on a connection of its own, waiting as long as it takes. */
static size_t learn_answer_size(void)
{
    char head[16 * 1024];
    size_t got = 0;
    size_t whole;
    int fd = connect_server(0);

    if (fd < 0 || send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0)
        bench_die("cannot ask the server");
    do {
        ssize_t size = recv(fd, head + got, sizeof head - 1 - got, 0);

        if (size <= 0)
            bench_die("the server does not answer with a head");
        got += (size_t)size;
        head[got] = '\0';
        whole = answer_size(head);
    } while (whole == 0);
    close(fd);
    return whole;
}

static void plan_http(void)
{
    plan.message = sizeof request - 1;
    plan.reply = learn_answer_size();
    plan.checked = HTTP_START_BYTES;
}

static void plan_echo(void)
{
    plan.message = options.size;
    plan.reply = options.size;
    plan.checked = options.size < STAMP_BYTES ? options.size : STAMP_BYTES;
}

static void plan_output(void)
{
    plan.slots = plan.message < OUTPUT_BYTES ? OUTPUT_BYTES / plan.message : 1;
    plan.output = bench_alloc(plan.slots, plan.message);
    for (size_t i = 0; i < plan.slots * plan.message; i++) {
        size_t at = i % plan.message;

        /* 251 is prime: no shift by a power of two looks the same. */
        plan.output[i] = options.mode == HTTP ? (unsigned char)request[at] : (unsigned char)(at % 251);
    }
}

static void plan_connections(void)
{
    int64_t *due = bench_alloc(options.connections * options.pipeline, sizeof *due);

    connections = bench_alloc(options.connections, sizeof *connections);
    for (size_t i = 0; i < options.connections; i++)
        connections[i] = (struct connection){
            .fd = -1,
            .number = (uint32_t)i,
            .due = due + i * options.pipeline,
        };
}

static double seconds_option(const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !(value >= 0 && value <= 86400))
        bench_die("%s: seconds are expected", text);
    return value;
}

_Noreturn static void usage(void)
{
    fprintf(stderr,
            "usage: load --port N | --unix PATH\n"
            "            [--connections C] [--size S] [--pipeline D] [--seconds T] [--warmup T]\n"
            "            [--http | --connect-rate | --idle] [--check] [--server-pid PID] [--cpu N]\n");
    exit(2);
}

static void set_mode(enum mode mode)
{
    if (options.mode != ECHO)
        usage();
    options.mode = mode;
}

static void set_option(int option)
{
    switch (option) {
    case 'p':
        options.port = (int)bench_number("port", optarg, 1, 65535);
        break;
    case 'u':
        options.unix_path = optarg;
        break;
    case 'c':
        options.connections = (size_t)bench_number("connections", optarg, 1, 1 << 23);
        break;
    case 's':
        options.size = (size_t)bench_number("size", optarg, 1, 1 << 28);
        break;
    case 'd':
        options.pipeline = (size_t)bench_number("pipeline", optarg, 1, 1 << 20);
        break;
    case 't':
        options.seconds = seconds_option(optarg);
        break;
    case 'w':
        options.warmup = seconds_option(optarg);
        break;
    case 'h':
        set_mode(HTTP);
        break;
    case 'r':
        set_mode(CONNECT_RATE);
        break;
    case 'i':
        set_mode(IDLE);
        break;
    case 'k':
        options.check = true;
        break;
    case 'P':
        options.server = (pid_t)bench_number("server-pid", optarg, 1, 1 << 30);
        break;
    case 'C':
        options.cpu = (int)bench_number("cpu", optarg, 0, CPU_SETSIZE - 1);
        break;
    default:
        usage();
    }
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", required_argument, NULL, 'p'},
        {"unix", required_argument, NULL, 'u'},
        {"connections", required_argument, NULL, 'c'},
        {"size", required_argument, NULL, 's'},
        {"pipeline", required_argument, NULL, 'd'},
        {"seconds", required_argument, NULL, 't'},
        {"warmup", required_argument, NULL, 'w'},
        {"http", no_argument, NULL, 'h'},
        {"connect-rate", no_argument, NULL, 'r'},
        {"idle", no_argument, NULL, 'i'},
        {"check", no_argument, NULL, 'k'},
        {"server-pid", required_argument, NULL, 'P'},
        {"cpu", required_argument, NULL, 'C'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1)
        set_option(option);
    if (optind < argc || (options.port == 0) == (options.unix_path == NULL))
        usage();
    if (options.mode == CONNECT_RATE || options.mode == IDLE)
        options.pipeline = 1;
    if (options.mode == HTTP)
        options.check = false;
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    if (options.cpu >= 0 && bench_pin(options.cpu) != 0)
        fprintf(stderr, "load: not pinned to cpu %d\n", options.cpu);
    if (bench_raise_files() < options.connections + 16) {
        errno = 0;
        bench_die("%zu connections are more than the limit of open files allows", options.connections);
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        bench_die("epoll_create1");

    /* Before the first connection, which for HTTP is the one that learns. */
    long rss_before = server_rss_kib();

    if (options.mode == HTTP)
        plan_http();
    else
        plan_echo();
    plan_output();
    plan_connections();

    if (options.mode == IDLE)
        measure_idle(rss_before);
    else
        measure_rate(rss_before);

    close_all();
    close(epoll);
    free(connections[0].due);
    free(connections);
    free(plan.output);
    return errors > 0;
}
