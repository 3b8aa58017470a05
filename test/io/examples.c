/* The example programs, run for real: started as a user would, talked to by nc, curl, wrk and plain sockets, and
 * ended by SIGINT. Nothing here uses naru: the clients block, with a limit on every wait. */
#include "test/io/io_test.h"

#include <spawn.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

/* ---- programs ---- */

struct program {
    pid_t pid;
    FILE *out; /* its stdout and stderr */
    int port;
};

enum { MAX_WORDS = 40 };

/* Starts build/examples/name with these arguments (up to a NULL), under the runner if there is one. */
static struct program start_program(const char *name, ...)
{
    static char runner[4096], path[4096];
    char *words[MAX_WORDS + 1];
    int count = 0, ends[2];
    const char *build = getenv("NARU_BUILD");
    if (!build)
        build = "build";
    snprintf(path, sizeof path, "%s/examples/%s", build, name);
    snprintf(runner, sizeof runner, "%s", getenv("NARU_RUNNER") ? getenv("NARU_RUNNER") : "");
    for (char *word = strtok(runner, " "); word && count < MAX_WORDS / 2; word = strtok(NULL, " "))
        words[count++] = word;
    words[count++] = path;
    va_list args;
    va_start(args, name);
    while (count < MAX_WORDS && (words[count] = va_arg(args, char *)) != NULL)
        count++;
    va_end(args);

    struct program program = {0};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGINT);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    enum { TOOL_LOG = 20 }; /* what valgrind has to say goes to the test's own output */
    setenv("VALGRIND_OPTS", "--log-fd=20", 1);
    posix_spawn_file_actions_adddup2(&actions, 2, TOOL_LOG);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
    CHECK_EQ(posix_spawnp(&program.pid, words[0], &actions, &attributes, words, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(ends[1]);
    program.out = fdopen(ends[0], "r");
    CHECK(program.out != NULL);
    return program;
}

static struct program start_server(const char *name)
{
    char line[256];
    struct program program = start_program(name, "0", NULL);
    CHECK(fgets(line, sizeof line, program.out) != NULL);
    if (sscanf(line, "listening on port %d\n", &program.port) != 1)
        test_fail(__FILE__, __LINE__, line);
    return program;
}

/* Reads what it still has to say, waits for it, and returns the exit status; 128 and more: a signal. */
static int wait_program(struct program *program, char *text, size_t size)
{
    int status;
    size_t length = fread(text, 1, size - 1, program->out);
    text[length] = '\0';
    fclose(program->out);
    CHECK_EQ(waitpid(program->pid, &status, 0), program->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static char output[1 << 16];

static void stop_server(struct program *program)
{
    CHECK_EQ(kill(program->pid, SIGINT), 0);
    int status = wait_program(program, output, sizeof output);
    if (status != 0 || !strstr(output, "interrupted, good-bye\n"))
        fputs(output, stderr);
    CHECK_EQ(status, 0);
    CHECK(strstr(output, "interrupted, good-bye\n") != NULL);
}

/* What a shell command writes; it must end well. */
static const char *shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *shell(const char *format, ...)
{
    static char text[1 << 16];
    char command[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    FILE *file = popen(command, "r");
    CHECK(file != NULL);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    if (pclose(file) != 0)
        test_fail(__FILE__, __LINE__, command);
    return text;
}

#define NEED(tool)                                              \
    do {                                                        \
        if (system("command -v " tool " >/dev/null 2>&1") != 0) \
            SKIP_MISSING(tool);                                 \
    } while (0)

/* ---- sockets ---- */

static int dial_with(int port, int receive_buffer)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval limit = {.tv_sec = 15};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_GE(fd, 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    CHECK_EQ(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)), 0);
    if (receive_buffer)
        CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(int)), 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static int dial(int port)
{
    return dial_with(port, 0);
}

static void put(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, text, size, MSG_NOSIGNAL);
        CHECK_GT(n, 0);
        text += n;
        size -= (size_t)n;
    }
}

static void say(int fd, const char *text)
{
    put(fd, text, strlen(text));
}

/* Everything up to the end, or `size` bytes. */
static size_t take(int fd, char *text, size_t size)
{
    size_t got = 0;
    ssize_t n = 1;
    while (got < size && (n = recv(fd, text + got, size - got, 0)) > 0)
        got += (size_t)n;
    CHECK_GE(n, 0); /* a timeout is EAGAIN */
    return got;
}

static void expect(int fd, const char *text)
{
    char got[4096];
    size_t size = strlen(text);
    got[take(fd, got, size)] = '\0';
    CHECK_STR(got, text);
}

static void expect_end(int fd)
{
    CHECK_EQ(take(fd, (char[1]){0}, 1), 0);
    close(fd);
}

/* ---- hello and gather ---- */

TEST(hello_greets_with_a_pause)
{
    struct program hello = start_program("hello", NULL);
    CHECK_EQ(wait_program(&hello, output, sizeof output), 0);
    CHECK_STR(output, "Hello...\n...World!\n");
}

TEST(gather_waits_in_turn_and_then_at_once)
{
    float in_turn = 0, at_once = 0, factor = 0;
    struct program gather = start_program("gather", "0.1", NULL);
    CHECK_EQ(wait_program(&gather, output, sizeof output), 0);
    const char *turn =
        "=== one after the other ===\ntask 1: started\ntask 1: done\ntask 2: started\ntask 2: done\n"
        "task 3: started\ntask 3: done\none after the other: ";
    const char *once =
        "=== all at once ===\ntask 1: started\ntask 2: started\ntask 3: started\ntask 2: done\n"
        "task 1: done\ntask 3: done\nall at once: ";
    CHECK_EQ(strncmp(output, turn, strlen(turn)), 0);
    CHECK_EQ(sscanf(output + strlen(turn), "%f s\n", &in_turn), 1);
    const char *second = strstr(output, once);
    CHECK(second != NULL);
    CHECK_EQ(sscanf(second + strlen(once), "%f s\n%f times as fast\n", &at_once, &factor), 2);
    CHECK(in_turn >= 0.6f && at_once >= 0.3f && factor > 0);
}

TEST(gather_refuses_what_is_no_scale)
{
    const char *const wrong[] = {"x", "0", "-1", "nan", "1e99"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct program gather = start_program("gather", wrong[i], NULL);
        CHECK_EQ(wait_program(&gather, output, sizeof output), 2);
        CHECK(strstr(output, "usage: ") != NULL);
    }
}

/* ---- echo_server ---- */

TEST(echo_server_talks_to_nc)
{
    NEED("nc");
    struct program server = start_server("echo_server");
    CHECK_STR(shell("printf 'hello\\nworld\\n' | timeout 15 nc -N 127.0.0.1 %d", server.port),
              "hello\nworld\n");
    stop_server(&server);
}

TEST_SLOW(echo_server_serves_a_thousand_connections_at_once, 60)
{
    static int fds[1000];
    int count = scaled(1000);
    raise_descriptors();
    struct program server = start_server("echo_server");
    for (int i = 0; i < count; i++)
        fds[i] = dial(server.port);
    for (int round = 0; round < 3; round++) {
        char text[32];
        for (int i = 0; i < count; i++) {
            snprintf(text, sizeof text, "%d in round %d", i, round);
            say(fds[i], text);
        }
        for (int i = 0; i < count; i++) {
            snprintf(text, sizeof text, "%d in round %d", i, round);
            expect(fds[i], text);
        }
    }
    for (int i = 0; i < count; i++) {
        shutdown(fds[i], SHUT_WR);
        expect_end(fds[i]);
    }
    stop_server(&server);
}

TEST_SLOW(echo_server_brings_a_megabyte_back_through_each_of_a_few, 60)
{
    enum { FEW = 4, SIZE = 1 << 20 };
    static char data[SIZE], back[SIZE];
    struct program server = start_server("echo_server");
    pid_t writers[FEW];
    int fds[FEW];
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)(i * 7 + i / 251);
    for (int i = 0; i < FEW; i++) {
        fds[i] = dial(server.port);
        writers[i] = fork();
        if (writers[i] == 0) {
            put(fds[i], data, SIZE);
            _exit(0);
        }
    }
    for (int i = 0; i < FEW; i++) {
        int status;
        CHECK_EQ(take(fds[i], back, SIZE), SIZE);
        CHECK_EQ(memcmp(back, data, SIZE), 0);
        CHECK_EQ(waitpid(writers[i], &status, 0), writers[i]);
        CHECK_EQ(status, 0);
        close(fds[i]);
    }
    stop_server(&server);
}

TEST(echo_server_survives_running_out_of_descriptors)
{
    enum { CROWD = 60 };
    int fds[CROWD];
    struct rlimit limit, tight;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    tight = (struct rlimit){.rlim_cur = 40, .rlim_max = limit.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
    struct program server = start_server("echo_server");
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < CROWD; i++) {
        fds[i] = dial(server.port);
        say(fds[i], "hello");
    }
    for (int i = 0; i < CROWD; i++) { /* each that leaves makes room for another */
        expect(fds[i], "hello");
        close(fds[i]);
    }
    stop_server(&server);
}

TEST(a_reset_connection_does_not_disturb_echo_server)
{
    struct program server = start_server("echo_server");
    struct linger at_once = {.l_onoff = 1};
    for (int i = 0; i < 20; i++) {
        int fd = dial(server.port);
        say(fd, "never read");
        CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
        close(fd);
    }
    int fd = dial(server.port);
    say(fd, "still there?");
    expect(fd, "still there?");
    stop_server(&server);
    CHECK_STR(output, "interrupted, good-bye\n"); /* not a word about the others */
}

TEST(echo_server_says_why_it_cannot_listen)
{
    char port[16];
    struct program server = start_server("echo_server");
    snprintf(port, sizeof port, "%d", server.port);
    struct program second = start_program("echo_server", port, NULL);
    CHECK_EQ(wait_program(&second, output, sizeof output), 1);
    CHECK(strstr(output, "Address already in use") != NULL);
    stop_server(&server);
}

/* ---- http_hello ---- */

#define PAGE_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n"
#define PAGE PAGE_HEAD "Hello, World!"
#define LAST_PAGE                                                                                           \
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, " \
    "World!"
#define GET "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

TEST(http_hello_talks_to_curl)
{
    NEED("curl");
    struct program server = start_server("http_hello");
    int port = server.port;
    CHECK_STR(shell("curl -s -m 15 http://127.0.0.1:%d/ http://127.0.0.1:%d/other"
                    " -w '[%%{http_code} %%{num_connects}]'",
                    port, port),
              "Hello, World![200 1]Hello, World![200 0]");
    CHECK_STR(shell("curl -s -m 15 -I -w '%%{http_code}' -o /dev/null http://127.0.0.1:%d/", port), "200");
    CHECK_STR(shell("curl -s -m 15 -I http://127.0.0.1:%d/", port), PAGE_HEAD);
    CHECK_STR(shell("curl -s -m 15 --http1.0 -w '[%%{http_code}]' http://127.0.0.1:%d/", port),
              "Hello, World![200]");
    CHECK_STR(
        shell("curl -s -m 15 -d 'a=b' http://127.0.0.1:%d/ --next -s -w '[%%{http_code} %%{num_connects}]'"
              " http://127.0.0.1:%d/",
              port, port),
        "only GET and HEAD.\nHello, World![200 0]");
    CHECK_STR(
        shell("head -c 3000000 /dev/zero | curl -s -m 15 -o /dev/null -w '%%{http_code}' --data-binary @-"
              " http://127.0.0.1:%d/",
              port),
        "413");
    CHECK_STR(shell("curl -s -m 15 -H 'Transfer-Encoding: chunked' -d abc -o /dev/null -w '%%{http_code}'"
                    " http://127.0.0.1:%d/",
                    port),
              "501");
    stop_server(&server);
}

TEST_SLOW(http_hello_talks_to_wrk_without_an_error, 60)
{
    NEED("wrk");
    struct program server = start_server("http_hello");
    const char *report = shell("wrk -c 50 -t 1 -d %d http://127.0.0.1:%d/", 5, server.port);
    if (strstr(report, "Socket errors") || strstr(report, "Non-2xx") || !strstr(report, "requests in"))
        test_fail(__FILE__, __LINE__, report);
    stop_server(&server);
}

TEST(http_hello_answers_pipelined_requests_in_order)
{
    struct program server = start_server("http_hello");
    int fd = dial(server.port), count = scaled(1000);
    say(fd, GET "HEAD / HTTP/1.1\r\n\r\n" GET "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345" GET);
    expect(fd, PAGE PAGE_HEAD PAGE
           "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\nContent-Type: text/plain\r\n"
           "Content-Length: 19\r\n\r\nonly GET and HEAD.\n" PAGE);
    for (int i = 0; i < count; i++)
        say(fd, GET);
    for (int i = 0; i < count; i++)
        expect(fd, PAGE);
    say(fd, "GET / HTTP/1.1\r\nconnection:  Close \r\n\r\n" GET);
    expect(fd, LAST_PAGE); /* and nothing for what follows */
    shutdown(fd, SHUT_WR);
    expect_end(fd);
    stop_server(&server);
}

TEST(http_hello_takes_requests_byte_by_byte)
{
    struct program server = start_server("http_hello");
    int fd = dial(server.port);
    const char *requests =
        GET "\r\nPUT /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcHEAD / HTTP/1.1\r\nHost: x\r\n\r\n" GET;
    for (const char *at = requests; *at; at++) {
        put(fd, at, 1);
        struct timespec moment = {0, 100000};
        nanosleep(&moment, NULL);
    }
    expect(fd, PAGE "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\nContent-Type: text/plain\r\n"
                    "Content-Length: 19\r\n\r\nonly GET and HEAD.\n" PAGE_HEAD PAGE);
    close(fd);
    stop_server(&server);
}

TEST(http_hello_takes_requests_cut_at_every_place)
{
    struct program server = start_server("http_hello");
    const char *requests = "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n\r\n\r\nGET / " GET;
    int fd = dial(server.port);
    for (size_t cut = 1; cut < strlen(requests); cut++) {
        put(fd, requests, cut);
        put(fd, requests + cut, strlen(requests) - cut);
        expect(fd, "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\nContent-Type: text/plain\r\n"
                   "Content-Length: 19\r\n\r\nonly GET and HEAD.\n" PAGE);
    }
    close(fd);
    stop_server(&server);
}

static void check_refused(int port, const char *request, const char *status)
{
    char got[1024];
    int fd = dial(port);
    say(fd, request);
    got[take(fd, got, sizeof got - 1)] = '\0'; /* up to the end: it hangs up */
    got[strcspn(got, "\r")] = '\0';
    CHECK_STR(got, status);
    close(fd);
}

TEST(http_hello_refuses_what_is_no_request_and_hangs_up)
{
    static const char *const garbage[] = {
        "garbage\r\n\r\n",
        "garbage\n\n",
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "GET  HTTP/1.1\r\n\r\n",
        " / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\n\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET / x HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n: x\r\n\r\n",
        "GET / HTTP/1.1\r\nName : x\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: \r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    };
    struct program server = start_server("http_hello");
    for (size_t i = 0; i < COUNT(garbage); i++)
        check_refused(server.port, garbage[i], "HTTP/1.1 400 Bad Request");
    check_refused(server.port, "POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n",
                  "HTTP/1.1 413 Content Too Large");
    check_refused(server.port, "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
                  "HTTP/1.1 413 Content Too Large");
    check_refused(server.port, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                  "HTTP/1.1 501 Not Implemented");
    check_refused(server.port, "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK");
    stop_server(&server);
}

TEST(http_hello_refuses_a_head_that_is_too_long)
{
    static char head[20000];
    struct program server = start_server("http_hello");
    size_t at = (size_t)sprintf(head, "GET / HTTP/1.1\r\nLong: ");
    memset(head + at, 'x', sizeof head - at - 1);
    check_refused(server.port, head, "HTTP/1.1 431 Request Header Fields Too Large");
    head[8192 - 4] = '\0'; /* one that just fits */
    int fd = dial(server.port);
    say(fd, head);
    say(fd, "\r\n\r\n" GET);
    expect(fd, PAGE PAGE);
    close(fd);
    stop_server(&server);
}

TEST(http_hello_answers_a_peer_that_has_shut_its_side)
{
    struct program server = start_server("http_hello");
    int fd = dial(server.port);
    say(fd, GET GET "GET / HTTP/1.1\r\nunfinished");
    shutdown(fd, SHUT_WR);
    expect(fd, PAGE PAGE);
    expect_end(fd);
    stop_server(&server);
}

TEST(http_hello_survives_resets_in_the_middle)
{
    struct program server = start_server("http_hello");
    struct linger at_once = {.l_onoff = 1};
    const char *const beginnings[] = {"", "GET / HT", GET, (GET GET GET "GET"),
                                      "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nab"};
    for (int i = 0; i < 50; i++) {
        int fd = dial(server.port);
        say(fd, beginnings[i % (int)COUNT(beginnings)]);
        CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
        close(fd);
    }
    int fd = dial(server.port);
    say(fd, GET);
    expect(fd, PAGE);
    stop_server(&server);
    CHECK_STR(output, "interrupted, good-bye\n");
}

/* ---- chat ---- */

static int enter_with(int port, const char *name, int receive_buffer)
{
    int fd = dial_with(port, receive_buffer);
    expect(fd, "name? ");
    say(fd, name);
    say(fd, "\n");
    return fd;
}

static int enter(int port, const char *name)
{
    return enter_with(port, name, 0);
}

static void expect_log(struct program *program, const char *text)
{
    char line[256];
    CHECK(fgets(line, sizeof line, program->out) != NULL);
    CHECK_STR(line, text);
}

TEST(chat_shows_everybody_what_the_others_say_in_order)
{
    struct program server = start_server("chat");
    int ann = enter(server.port, "ann");
    expect_log(&server, "ann joined\n");
    int bob = enter(server.port, "bob");
    expect(ann, "* bob joined\n");
    int cid = enter(server.port, "cid");
    expect(ann, "* cid joined\n");
    expect(bob, "* cid joined\n");
    say(ann, "one\r\ntwo\n\nth");
    say(ann, "ree\n");
    expect(bob, "ann: one\nann: two\nann: three\n");
    expect(cid, "ann: one\nann: two\nann: three\n");
    say(bob, "beep\a\x1b[2J\n");
    expect(ann, "bob: beep??[2J\n");
    expect(cid, "bob: beep??[2J\n");
    close(bob);
    expect(ann, "* bob left\n");
    expect(cid, "* bob left\n");
    say(cid, "bye\n");
    expect(ann, "cid: bye\n");
    stop_server(&server);
    close(ann);
    close(cid);
}

TEST(chat_asks_again_for_a_name_that_is_empty_or_taken)
{
    struct program server = start_server("chat");
    int ann = enter(server.port, "ann"), other = enter(server.port, "");
    expect(other, "name? ");
    say(other, "ann\n");
    expect(other, "that one is here already\nname? ");
    say(other, "a name that is much too long for this room\n");
    expect(ann, "* a name that is much  joined\n");
    stop_server(&server);
}

TEST(chat_cuts_long_lines)
{
    static char line[3000], cut[600];
    struct program server = start_server("chat");
    int ann = enter(server.port, "ann"), bob = enter(server.port, "bob");
    expect(ann, "* bob joined\n");
    memset(line, 'x', sizeof line - 2);
    line[sizeof line - 2] = '\n';
    snprintf(cut, sizeof cut, "bob: %.500s\nbob: next\n", line);
    say(bob, line);
    say(bob, "next\n");
    expect(ann, cut);
    stop_server(&server);
}

TEST_SLOW(chat_brings_ten_thousand_lines_to_all_who_read, 60)
{
    struct program server = start_server("chat");
    int ann = enter(server.port, "ann"), bob = enter(server.port, "bob"), count = scaled(10000);
    expect(ann, "* bob joined\n");
    int cid = enter(server.port, "cid");
    expect(ann, "* cid joined\n");
    expect(bob, "* cid joined\n");
    pid_t flood = fork();
    if (flood == 0) {
        for (int i = 0; i < count; i++) {
            char line[32];
            snprintf(line, sizeof line, "%d\n", i);
            say(ann, line);
        }
        _exit(0);
    }
    pid_t other = fork(); /* both read at the same time */
    int fd = other == 0 ? cid : bob;
    for (int i = 0; i < count; i++) {
        char line[32];
        snprintf(line, sizeof line, "ann: %d\n", i);
        expect(fd, line);
    }
    if (other == 0)
        _exit(0);
    int status;
    CHECK_EQ(waitpid(other, &status, 0), other);
    CHECK_EQ(status, 0);
    CHECK_EQ(waitpid(flood, &status, 0), flood);
    CHECK_EQ(status, 0);
    stop_server(&server);
    CHECK(strstr(output, "cut off") == NULL);
}

TEST_SLOW(chat_cuts_off_who_does_not_read_and_the_others_go_on, 60)
{
    static char line[401];
    struct program server = start_server("chat");
    int ann = enter(server.port, "ann"), sleeper = enter_with(server.port, "sleeper", 4096);
    expect(ann, "* sleeper joined\n");
    int bob = enter(server.port, "bob");
    expect(ann, "* bob joined\n");
    memset(line, 'x', sizeof line - 2);
    line[sizeof line - 2] = '\n';
    char expected[512];
    snprintf(expected, sizeof expected, "ann: %s", line);
    for (int i = 0; i < 4000; i++) { /* 1.6 MB, each line read by bob before the next: nobody else is slow */
        say(ann, line);
        char start[5] = "";
        CHECK_EQ(take(bob, start, 4), 4);
        if (start[0] == '*') {
            expect(bob, "eeper left\n");
            expect(bob, expected);
            expect(ann, "* sleeper left\n");
            say(bob, "still here\n");
            expect(ann, "bob: still here\n");
            stop_server(&server);
            CHECK(strstr(output, "sleeper does not read, and is cut off\n") != NULL);
            close(sleeper);
            return;
        }
        expect(bob, expected + 4);
    }
    test_fail(__FILE__, __LINE__, "the sleeper was never cut off");
}

TEST(chat_talks_to_nc)
{
    enum { GUESTS = 3 };
    FILE *guests[GUESTS];
    char path[] = "/tmp/naru-chat-XXXXXX", text[128];
    NEED("nc");
    CHECK(mkdtemp(path) != NULL);
    struct program server = start_server("chat");
    int ann = enter(server.port, "ann");
    for (int i = 0; i < GUESTS; i++) {
        snprintf(text, sizeof text, "exec timeout 15 nc -N 127.0.0.1 %d >%s/%d", server.port, path, i);
        guests[i] = popen(text, "w");
        CHECK(guests[i] != NULL);
        fprintf(guests[i], "nc%d\n", i);
        fflush(guests[i]);
        snprintf(text, sizeof text, "* nc%d joined\n", i);
        expect(ann, text);
    }
    for (int i = 0; i < GUESTS; i++) {
        fprintf(guests[i], "line of %d\n", i);
        fflush(guests[i]);
        snprintf(text, sizeof text, "nc%d: line of %d\n", i, i);
        expect(ann, text);
    }
    for (int i = 0; i < GUESTS; i++)
        for (int k = 0; k < GUESTS; k++)
            if (i != k)
                shell(
                    "cd %s && timeout 15 sh -c \"until grep -q 'nc%d: line of %d' %d; do sleep 0.02; done\"",
                    path, k, k, i);
    for (int i = 0; i < GUESTS; i++) {
        pclose(guests[i]); /* its input ends, and so does nc */
        snprintf(text, sizeof text, "* nc%d left\n", i);
        expect(ann, text);
    }
    shell("cd %s && ! grep -q 'nc0: ' 0 && grep -q 'nc1 joined' 0 && grep -q 'nc0 left' 2 && rm -r %s", path,
          path);
    stop_server(&server);
}

/* ---- port_scan ---- */

static int listen_plain(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_GE(fd, 0);
    if (bind(fd, (struct sockaddr *)&address, size) < 0) {
        close(fd);
        return -1;
    }
    CHECK_EQ(listen(fd, 100), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static struct program scan(int first, int last, const char *concurrency, const char *timeout_ms)
{
    char from[16], to[16];
    snprintf(from, sizeof from, "%d", first);
    snprintf(to, sizeof to, "%d", last);
    return start_program("port_scan", "127.0.0.1", from, to, concurrency, timeout_ms, NULL);
}

static bool says_open(int port)
{
    char line[32];
    snprintf(line, sizeof line, "\n%d open\n", port);
    return strstr(output, line) != NULL || strstr(output, line + 1) == output;
}

/* Others on this machine use ports as well, so only the own ones are looked at one by one. */
TEST(port_scan_finds_open_ports_sorted)
{
    enum { LISTENERS = 5 };
    int ports[LISTENERS], lowest = 65536, highest = 0;
    for (int i = 0; i < LISTENERS; i++) {
        ports[i] = 20000 + (getpid() * 16 + i * 3) % 10000; /* below what the system gives out by itself */
        while (listen_plain(&ports[i]) < 0)
            ports[i]++;
        lowest = ports[i] < lowest ? ports[i] : lowest;
        highest = ports[i] > highest ? ports[i] : highest;
    }
    struct program program = scan(lowest - 100, highest + 100, "50", "5000");
    CHECK_EQ(wait_program(&program, output, sizeof output), 0);
    int open, closed, silent, failed, previous = 0, listed = 0;
    for (int i = 0; i < LISTENERS; i++)
        CHECK(says_open(ports[i]));
    char *line = output;
    for (int port, end; sscanf(line, "%d open\n%n", &port, &end) == 1 && line[strcspn(line, "\n,")] == '\n';
         line += end) {
        CHECK_GT(port, previous);
        previous = port;
        listed++;
    }
    CHECK_EQ(sscanf(line, "%d open, %d closed, %d timed out, %d failed", &open, &closed, &silent, &failed),
             4);
    CHECK_EQ(open, listed);
    CHECK_EQ(open + closed, highest - lowest + 201);
    CHECK_EQ(silent + failed, 0);
}

TEST(port_scan_gives_up_on_a_port_that_does_not_answer)
{
    int port, fill[FILL];
    full_listener(&port, fill);
    struct program program = scan(port, port, "1", "100");
    CHECK_EQ(wait_program(&program, output, sizeof output), 0);
    CHECK_STR(output, "0 open, 0 closed, 1 timed out, 0 failed\n");
}

TEST(port_scan_finds_a_closed_port_closed)
{
    int port = 0;
    close(listen_plain(&port));
    struct program program = scan(port, port, "1", "5000");
    CHECK_EQ(wait_program(&program, output, sizeof output), 0);
    CHECK_STR(output, "0 open, 1 closed, 0 timed out, 0 failed\n");
}

TEST(port_scan_needs_no_more_descriptors_than_workers)
{
    struct rlimit limit, tight;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    tight = (struct rlimit){.rlim_cur = 30, .rlim_max = limit.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
    struct program program = scan(20000, 20500, "10", "5000");
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(wait_program(&program, output, sizeof output), 0);
    CHECK(strstr(output, "0 timed out, 0 failed\n") != NULL);
}

TEST(port_scan_refuses_names_and_wrong_ranges)
{
    struct program program = start_program("port_scan", "example.org", "1", "5", NULL);
    CHECK_EQ(wait_program(&program, output, sizeof output), 1);
    CHECK(strstr(output, "'example.org' is not a numeric address") != NULL);
    const char *const ranges[][2] = {{"0", "5"}, {"5", "4"}, {"1", "65536"}, {"x", "y"}, {"-5", "5"}};
    for (size_t i = 0; i < COUNT(ranges); i++) {
        program = start_program("port_scan", "127.0.0.1", ranges[i][0], ranges[i][1], NULL);
        CHECK_EQ(wait_program(&program, output, sizeof output), 2);
    }
}

TEST(port_scan_tells_what_it_has_when_interrupted)
{
    int port, fill[FILL];
    full_listener(&port, fill);
    struct program program = scan(port, port, "1", "60000");
    struct timespec a_while = {scaled(40) < 40 ? 5 : 1, 0}; /* it says nothing when it begins */
    nanosleep(&a_while, NULL);
    CHECK_EQ(kill(program.pid, SIGINT), 0);
    CHECK_EQ(wait_program(&program, output, sizeof output), 0);
    CHECK_STR(output, "0 open, 0 closed, 0 timed out, 0 failed (interrupted)\n");
}
