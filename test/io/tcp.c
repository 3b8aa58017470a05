/* Listening and connecting: which hosts are understood, what the errors are, and that nothing is left open. */
#include "test/io/io_test.h"

/* ---- listening ---- */

static int family_of(int fd)
{
    int family = 0;
    socklen_t size = sizeof family;
    CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size), 0);
    return family;
}

static int flag(int fd, int level, int option)
{
    int value = -1;
    socklen_t size = sizeof value;
    CHECK_EQ(getsockopt(fd, level, option, &value, &size), 0);
    return value;
}

static bool has_ipv6(void)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool yes = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        close(fd);
    return yes;
}

#define NEED_IPV6()                           \
    do {                                      \
        if (!has_ipv6())                      \
            SKIP("this machine has no IPv6"); \
    } while (0)

/* Connects from `host` and returns the accepted end. Both are closed. */
static void check_reachable(int listener, const char *host)
{
    int fd;
    CHECK_EQ(naru_tcp_connect(host, (uint16_t)naru_local_port(listener), &fd), 0);
    int accepted = naru_accept(listener, NULL, NULL);
    CHECK_GE(accepted, 0);
    close_pair((int[]){fd, accepted});
}

TASK_TEST(listens_on_a_numeric_ipv4_address)
{
    int fd;
    CHECK_EQ(naru_tcp_listen("127.0.0.1", 0, 0, 0, &fd), 0);
    CHECK_EQ(family_of(fd), AF_INET);
    check_reachable(fd, "127.0.0.1");
    CHECK_EQ(naru_close(fd), 0);
}

TASK_TEST(listens_on_a_numeric_ipv6_address)
{
    int fd;
    NEED_IPV6();
    CHECK_EQ(naru_tcp_listen("::1", 0, 0, 0, &fd), 0);
    CHECK_EQ(family_of(fd), AF_INET6);
    CHECK_EQ(flag(fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    check_reachable(fd, "::1");
    CHECK_EQ(naru_close(fd), 0);
}

TASK_TEST(localhost_listens_on_127_0_0_1_and_nowhere_else)
{
    struct sockaddr_in address = {0};
    socklen_t size = sizeof address;
    int fd, other;
    CHECK_EQ(naru_tcp_listen("localhost", 0, 0, 0, &fd), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    CHECK_EQ(ntohl(address.sin_addr.s_addr), INADDR_LOOPBACK);
    CHECK_EQ(naru_tcp_connect("127.0.0.2", (uint16_t)naru_local_port(fd), &other), -ECONNREFUSED);
    CHECK_EQ(naru_close(fd), 0);
}

TASK_TEST(no_host_listens_on_every_interface_of_both_families)
{
    int fd;
    CHECK_EQ(naru_tcp_listen(NULL, 0, 0, 0, &fd), 0);
    check_reachable(fd, "127.0.0.1");
    check_reachable(fd, "127.0.0.2");
    if (has_ipv6())
        check_reachable(fd, "::1");
    CHECK_EQ(naru_close(fd), 0);
}

TASK_TEST(a_listener_is_close_on_exec_and_non_blocking)
{
    int port, fd = listen_anywhere(&port);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK_EQ(naru_close(fd), 0);
}

TASK_TEST(both_ends_of_a_connection_have_nodelay_and_are_close_on_exec_and_non_blocking)
{
    int pair[2];
    tcp_pair(pair);
    for (int i = 0; i < 2; i++) {
        CHECK_NE(flag(pair[i], IPPROTO_TCP, TCP_NODELAY), 0);
        CHECK(fcntl(pair[i], F_GETFD) & FD_CLOEXEC);
        CHECK(fcntl(pair[i], F_GETFL) & O_NONBLOCK);
    }
    close_pair(pair);
}

static const char *const names[] = {"example.org", "no such host", "",     "*", "256.0.0.1",
                                    "localhost.",  "127.0.0.1:80", "[::1]"};

TASK_TEST(other_host_names_are_not_supported_and_the_message_says_which)
{
    for (size_t i = 0; i < COUNT(names); i++) {
        char quoted[64];
        int fd = 5;
        snprintf(quoted, sizeof quoted, "'%s'", names[i]);
        CHECK_EQ(naru_tcp_listen(names[i], 0, 0, 0, &fd), -ENOTSUP);
        CHECK_EQ(fd, -1);
        CHECK(strstr(naru_strerror(-ENOTSUP), quoted) != NULL);
        fd = 5;
        CHECK_EQ(naru_tcp_connect(names[i], 80, &fd), -ENOTSUP);
        CHECK_EQ(fd, -1);
        CHECK(strstr(naru_strerror(-ENOTSUP), quoted) != NULL);
    }
}

TASK_TEST(a_port_that_is_taken_is_eaddrinuse_and_leaves_nothing_open)
{
    int port, other = 5, first = listen_anywhere(&port);
    int before = open_descriptors();
    CHECK_EQ(naru_tcp_listen("127.0.0.1", (uint16_t)port, 0, 0, &other), -EADDRINUSE);
    CHECK_EQ(other, -1);
    CHECK_EQ(naru_tcp_listen(NULL, (uint16_t)port, 0, 0, &other), -EADDRINUSE);
    CHECK_EQ(other, -1);
    CHECK_EQ(open_descriptors(), before);
    CHECK_EQ(naru_close(first), 0);
}

TASK_TEST(an_address_that_is_not_ours_is_eaddrnotavail)
{
    int fd = 5;
    CHECK_EQ(naru_tcp_listen("192.0.2.1", 0, 0, 0, &fd), -EADDRNOTAVAIL);
    CHECK_EQ(fd, -1);
}

TASK_TEST(a_port_can_be_listened_on_again_right_after_connections_on_it)
{
    int port, fd, other, accepted, listener = listen_anywhere(&port);
    CHECK_EQ(naru_tcp_connect("127.0.0.1", (uint16_t)port, &fd), 0);
    accepted = naru_accept(listener, NULL, NULL);
    CHECK_GE(accepted, 0);
    CHECK_EQ(naru_close(accepted), 0); /* this end is in TIME_WAIT then */
    CHECK_EQ(naru_close(fd), 0);
    CHECK_EQ(naru_close(listener), 0);
    CHECK_EQ(naru_tcp_listen("127.0.0.1", (uint16_t)port, 0, 0, &other), 0);
    CHECK_EQ(naru_close(other), 0);
}

TASK_TEST(reuse_port_lets_two_listen_on_one_port)
{
    int first, second, third;
    CHECK_EQ(naru_tcp_listen("127.0.0.1", 0, 0, NARU_REUSE_PORT, &first), 0);
    uint16_t port = (uint16_t)naru_local_port(first);
    CHECK_EQ(naru_tcp_listen("127.0.0.1", port, 0, NARU_REUSE_PORT, &second), 0);
    CHECK_EQ(naru_local_port(second), port);
    CHECK_EQ(naru_tcp_listen("127.0.0.1", port, 0, 0, &third), -EADDRINUSE);
    close_pair((int[]){first, second});
}

TASK_TEST(the_backlog_is_what_is_asked_for)
{
    int fd, port, connections[8] = {0}, done = 0;
    CHECK_EQ(naru_tcp_listen("127.0.0.1", 0, 2, 0, &fd), 0);
    port = naru_local_port(fd);
    for (size_t i = 0; i < COUNT(connections); i++) {
        naru_timeout t;
        CHECK_EQ(naru_timeout_begin(&t, NARU_MS(100)), 0);
        int rc = naru_timeout_end(&t, naru_tcp_connect("127.0.0.1", (uint16_t)port, &connections[i]));
        CHECK(rc == 0 || rc == -ETIMEDOUT);
        if (rc < 0)
            break;
        done++;
    }
    CHECK_GE(done, 2);
    CHECK_LT(done, 8);
    for (int i = 0; i < done; i++)
        CHECK_EQ(naru_close(connections[i]), 0);
    CHECK_EQ(naru_close(fd), 0);
}

/* ---- connecting ---- */

static uint16_t unused_port(void)
{
    int port, fd = listen_anywhere(&port);
    CHECK_EQ(naru_close(fd), 0);
    return (uint16_t)port;
}

TASK_TEST(where_nobody_listens_a_connect_is_refused_and_leaves_nothing_open)
{
    const char *const hosts[] = {"127.0.0.1", "localhost", NULL};
    uint16_t port = unused_port();
    int before = open_descriptors();
    for (size_t i = 0; i < COUNT(hosts); i++) {
        int fd = 5;
        CHECK_EQ(naru_tcp_connect(hosts[i], port, &fd), -ECONNREFUSED);
        CHECK_EQ(fd, -1);
    }
    CHECK_EQ(open_descriptors(), before);
}

TASK_TEST(localhost_falls_back_to_ipv6)
{
    int listener, before;
    NEED_IPV6();
    CHECK_EQ(naru_tcp_listen("::1", 0, 0, 0, &listener), 0);
    before = open_descriptors();
    check_reachable(listener, "localhost");
    check_reachable(listener, NULL);
    CHECK_EQ(open_descriptors(), before);
    CHECK_EQ(naru_close(listener), 0);
}

struct connecting {
    int port, fd, result;
};

static int connect_somewhere(void *arg)
{
    struct connecting *c = arg;
    return c->result = naru_tcp_connect("127.0.0.1", (uint16_t)c->port, &c->fd);
}

static void close_plain(int listener, const int *fill)
{
    for (int i = 0; i < FILL; i++)
        close(fill[i]);
    close(listener);
}

TASK_TEST(a_connect_cancelled_in_the_middle_leaves_nothing_open)
{
    struct connecting c = {.fd = 5, .result = 1};
    int fill[FILL], listener = full_listener(&c.port, fill);
    int before = open_descriptors();
    naru_task *task = naru_spawn(connect_somewhere, &c);
    CHECK_EQ(naru_sleep(NARU_MS(20)), 0);
    CHECK_EQ(c.result, 1);
    CHECK_EQ(open_descriptors(), before + 1);
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_join(task), -ECANCELED);
    CHECK_EQ(c.fd, -1);
    CHECK_EQ(open_descriptors(), before);
    close_plain(listener, fill);
}

TASK_TEST(a_connect_ends_at_a_timeout_and_leaves_nothing_open)
{
    struct connecting c = {.fd = 5};
    int fill[FILL], listener = full_listener(&c.port, fill);
    int before = open_descriptors();
    naru_timeout t;
    CHECK_EQ(naru_timeout_begin(&t, NARU_MS(20)), 0);
    CHECK_EQ(naru_timeout_end(&t, naru_tcp_connect("127.0.0.1", (uint16_t)c.port, &c.fd)), -ETIMEDOUT);
    CHECK_EQ(c.fd, -1);
    CHECK_EQ(open_descriptors(), before);
    close_plain(listener, fill);
}

TASK_TEST(a_connect_to_localhost_that_is_cancelled_does_not_try_the_next_address)
{
    struct connecting c = {.fd = 5};
    int other, fill[FILL], listener = full_listener(&c.port, fill);
    naru_timeout t;
    NEED_IPV6();
    CHECK_EQ(naru_tcp_listen("::1", (uint16_t)c.port, 0, 0, &other), 0);
    CHECK_EQ(naru_timeout_begin(&t, NARU_MS(20)), 0);
    CHECK_EQ(naru_timeout_end(&t, naru_tcp_connect("localhost", (uint16_t)c.port, &c.fd)), -ETIMEDOUT);
    CHECK_EQ(c.fd, -1);
    CHECK_EQ(naru_poll_fd(other, POLLIN, 0), -ETIMEDOUT);
    CHECK_EQ(naru_close(other), 0);
    close_plain(listener, fill);
}

TASK_TEST(a_pending_cancellation_stops_listen_and_connect_before_they_do_anything)
{
    int port, fd = 5, listener = listen_anywhere(&port), before = open_descriptors();
    naru_cancel(naru_self());
    CHECK_EQ(naru_tcp_connect("127.0.0.1", (uint16_t)port, &fd), -ECANCELED);
    CHECK_EQ(fd, -1);
    CHECK_EQ(naru_poll_fd(listener, POLLIN, NARU_MS(10)), -ETIMEDOUT);
    naru_cancel(naru_self());
    CHECK_EQ(naru_tcp_listen("127.0.0.1", 0, 0, 0, &fd), -ECANCELED);
    CHECK_EQ(fd, -1);
    CHECK_EQ(open_descriptors(), before);
    CHECK_EQ(naru_close(listener), 0);
}

TASK_TEST(without_a_free_descriptor_listen_and_connect_say_emfile)
{
    int port, fd = 5, listener = listen_anywhere(&port);
    struct rlimit limit;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    struct rlimit tight = {.rlim_cur = 3, .rlim_max = limit.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
    CHECK_EQ(naru_tcp_connect("127.0.0.1", (uint16_t)port, &fd), -EMFILE);
    CHECK_EQ(fd, -1);
    CHECK_EQ(naru_tcp_listen(NULL, 0, 0, 0, &fd), -EMFILE);
    CHECK_EQ(fd, -1);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(naru_close(listener), 0);
}

/* ---- naru_local_port ---- */

TASK_TEST(local_port_is_that_of_the_socket)
{
    int pair[2];
    struct sockaddr_in address = {0};
    socklen_t size = sizeof address;
    tcp_pair(pair);
    CHECK_EQ(getpeername(pair[0], (struct sockaddr *)&address, &size), 0);
    CHECK_EQ(naru_local_port(pair[1]), ntohs(address.sin_port));
    close_pair(pair);
}

TEST(local_port_of_what_has_none_is_an_error)
{
    int pair[2], pipe_ends[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    CHECK_EQ(pipe(pipe_ends), 0);
    CHECK_EQ(naru_local_port(pair[0]), -EAFNOSUPPORT);
    CHECK_EQ(naru_local_port(pipe_ends[0]), -ENOTSOCK);
    CHECK_EQ(naru_local_port(-1), -EBADF);
    CHECK_EQ(naru_local_port(1000000), -EBADF);
}

/* ---- outside a task ---- */

TEST(outside_a_task_listen_and_connect_are_eperm)
{
    int fd = 5;
    CHECK_EQ(naru_tcp_listen("127.0.0.1", 0, 0, 0, &fd), -EPERM);
    CHECK_EQ(fd, -1);
    fd = 5;
    CHECK_EQ(naru_tcp_connect("127.0.0.1", 80, &fd), -EPERM);
    CHECK_EQ(fd, -1);
}
