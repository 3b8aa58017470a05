/* TCP: listening and connecting, for numeric addresses and localhost.
 *
 * A host becomes a short list of addresses, tried in order. getaddrinfo does the parsing: with AI_NUMERICHOST it asks
 * nobody and does not block. */
#include "io/internal.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ADDRESSES = 2 };

struct address {
    struct sockaddr_storage storage;
    socklen_t length;
};

static int parse(const char *host, uint16_t port, struct address *address)
{
    char service[8];
    struct addrinfo *found, hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    snprintf(service, sizeof service, "%u", port);
    int rc = strcmp(host, "*") == 0 ? EAI_NONAME
                                    : getaddrinfo(host, service, &hints, &found); /* glibc: "*" is NULL */
    if (rc == EAI_MEMORY)
        return -ENOMEM;
    if (rc != 0)
        return naru_fail(-ENOTSUP,
                         "'%s' is not a numeric address, and names other than localhost are not resolved yet",
                         host);
    memcpy(&address->storage, found->ai_addr, found->ai_addrlen);
    address->length = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

/* How many addresses, or an error. */
static int addresses_of(const char *host, uint16_t port, struct address list[MAX_ADDRESSES])
{
    if (host && strcmp(host, "localhost") != 0) {
        int rc = parse(host, port, &list[0]);
        return rc < 0 ? rc : 1;
    }
    int rc = parse("127.0.0.1", port, &list[0]);
    if (rc == 0)
        rc = parse("::1", port, &list[1]);
    return rc < 0 ? rc : 2;
}

static int set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

/* A socket for the address's family, with TCP_NODELAY: tasks write whole messages, and waiting to merge them helps nobody. */
static int new_socket(const struct address *address)
{
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (naru__here)
        naru__fd_fresh(naru__here, fd);
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return fd;
}

static int listen_on(const struct address *address, bool both_families, int backlog, unsigned flags)
{
    int fd = new_socket(address);
    if (fd < 0)
        return fd;
    int rc = set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && (flags & NARU_REUSE_PORT))
        rc = set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0 && address->storage.ss_family == AF_INET6)
        rc = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !both_families);
    if (rc == 0 && bind(fd, (const struct sockaddr *)&address->storage, address->length) < 0)
        rc = -errno;
    if (rc == 0 && listen(fd, backlog > 0 ? backlog : SOMAXCONN) < 0)
        rc = -errno;
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}

int naru_tcp_listen(const char *host, uint16_t port, int backlog, unsigned flags, int *fd)
{
    struct address list[MAX_ADDRESSES] = {0};
    *fd = -1;
    int rc = naru__check_task();
    if (rc == 0)
        rc = naru__check_cancel();
    if (rc < 0)
        return rc;
    if (host) {
        rc = addresses_of(host, port, list);
        if (rc > 0)
            rc = listen_on(&list[0], false, backlog, flags);
    } else {
        rc = parse("::", port, &list[0]);
        if (rc == 0)
            rc = listen_on(&list[0], true, backlog, flags);
        if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL) { /* a system without IPv6 */
            rc = parse("0.0.0.0", port, &list[0]);
            if (rc == 0)
                rc = listen_on(&list[0], false, backlog, flags);
        }
    }
    if (rc < 0)
        return rc;
    *fd = rc;
    return 0;
}

static int connect_to(const struct address *address, int *fd_out)
{
    int fd = new_socket(address);
    if (fd < 0)
        return fd;
    int rc = naru_connect(fd, (const struct sockaddr *)&address->storage, address->length);
    if (rc == 0)
        *fd_out = fd;
    else
        naru_close(fd);
    return rc;
}

int naru_tcp_connect(const char *host, uint16_t port, int *fd)
{
    struct address list[MAX_ADDRESSES] = {0};
    *fd = -1;
    int rc = naru__check_task();
    if (rc < 0)
        return rc;
    int count = addresses_of(host, port, list);
    if (count < 0)
        return count;
    for (int i = 0; i < count; i++) {
        rc = connect_to(&list[i], fd);
        if (rc == 0 || rc == -ECANCELED)
            break;
    }
    return rc;
}

int naru_local_port(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return -errno;
    if (address.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)&address)->sin_port);
    if (address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)&address)->sin6_port);
    return -EAFNOSUPPORT;
}
