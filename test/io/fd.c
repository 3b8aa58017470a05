/* Files of every kind by read and write; open, pread, pwrite, fsync; and what happens to calls in the pool. */
#include "test/io/io_test.h"

#include <sys/eventfd.h>
#include <sys/stat.h>

/* ---- pipes and what is like them ---- */

TASK_TEST(a_pipe_carries_bytes_and_then_its_end)
{
    int pipe_ends[2];
    struct call call = {0};
    CHECK_EQ(naru_pipe(pipe_ends), 0);
    for (int i = 0; i < 2; i++) {
        CHECK(fcntl(pipe_ends[i], F_GETFD) & FD_CLOEXEC);
        CHECK(fcntl(pipe_ends[i], F_GETFL) & O_NONBLOCK);
    }
    call.fd = pipe_ends[0];
    naru_task *task = start_waiting(call_read, &call);
    CHECK_EQ(naru_write(pipe_ends[1], "hello", 5), 5);
    finish(task);
    CHECK_EQ(call.result, 5);
    call.returned = false;
    task = start_waiting(call_read, &call);
    CHECK_EQ(naru_close(pipe_ends[1]), 0);
    finish(task);
    CHECK_EQ(call.result, 0);
    CHECK_EQ(naru_close(pipe_ends[0]), 0);
}

TASK_TEST(write_to_a_full_pipe_waits)
{
    int pipe_ends[2];
    struct call call = {0};
    static char buffer[1 << 20];
    CHECK_EQ(naru_pipe(pipe_ends), 0);
    stuff(pipe_ends[1]);
    call.fd = pipe_ends[1];
    naru_task *task = start_waiting(call_write, &call);
    CHECK_GT(naru_read(pipe_ends[0], buffer, sizeof buffer), 0);
    finish(task);
    CHECK_EQ(call.result, 1);
    close_pair(pipe_ends);
}

TASK_TEST(a_pipe_nobody_reads_is_epipe_and_no_signal)
{
    int pipe_ends[2];
    struct call call = {0};
    struct iovec parts[] = {{(char[]){"ab"}, 2}, {(char[]){"c"}, 1}};
    CHECK_EQ(naru_pipe(pipe_ends), 0);
    stuff(pipe_ends[1]);
    call.fd = pipe_ends[1];
    naru_task *task = start_waiting(call_write, &call);
    CHECK_EQ(naru_close(pipe_ends[0]), 0);
    finish(task);
    CHECK_EQ(call.result, -EPIPE);
    CHECK_EQ(naru_write(pipe_ends[1], "x", 1), -EPIPE);
    CHECK_EQ(naru_writev(pipe_ends[1], parts, 2), -EPIPE);
    CHECK_EQ(naru_close(pipe_ends[1]), 0);
    sigset_t pending;
    CHECK_EQ(sigpending(&pending), 0);
    CHECK(!sigismember(&pending, SIGPIPE));
}

TASK_TEST(readv_and_writev_scatter_and_gather)
{
    int ends[2];
    for (int i = 0; i < 2; i++) {
        char a[2], b[8];
        struct iovec out[] = {{(char[]){"abc"}, 3}, {NULL, 0}, {(char[]){"de"}, 2}}, in[] = {{a, 2}, {b, 8}};
        if (i == 0)
            CHECK_EQ(naru_pipe(ends), 0);
        else
            stream_pair(ends);
        CHECK_EQ(naru_writev(ends[1], out, 3), 5);
        CHECK_EQ(naru_readv(ends[0], in, 2), 5);
        CHECK_EQ(memcmp(a, "ab", 2), 0);
        CHECK_EQ(memcmp(b, "cde", 3), 0);
        close_pair(ends);
    }
}

TASK_TEST(a_blocking_descriptor_is_made_non_blocking_and_does_not_stop_the_loop)
{
    int pipe_ends[2];
    struct call call = {0};
    CHECK_EQ(pipe(pipe_ends), 0);
    call.fd = pipe_ends[0];
    naru_task *task = start_waiting(call_read, &call);
    CHECK(fcntl(pipe_ends[0], F_GETFL) & O_NONBLOCK);
    CHECK_EQ(naru_write(pipe_ends[1], "x", 1), 1);
    finish(task);
    close_pair(pipe_ends);
}

TASK_TEST(a_fifo_is_read_and_written)
{
    char path[] = "/tmp/naru-fifo-XXXXXX";
    struct call call = {0};
    CHECK(mkdtemp(path) != NULL);
    char name[64];
    snprintf(name, sizeof name, "%s/fifo", path);
    CHECK_EQ(mkfifo(name, 0600), 0);
    call.fd = naru_open(name, O_RDWR, 0);
    CHECK_GE(call.fd, 0);
    int writer = naru_open(name, O_WRONLY, 0);
    CHECK_GE(writer, 0);
    naru_task *task = start_waiting(call_read, &call);
    CHECK_EQ(naru_write(writer, "abc", 3), 3);
    finish(task);
    CHECK_EQ(call.result, 3);
    close_pair((int[]){call.fd, writer});
    unlink(name);
    rmdir(path);
}

TASK_TEST(both_ends_of_a_fifo_are_opened_by_two_tasks)
{
    char path[] = "/tmp/naru-fifo-XXXXXX", name[64];
    CHECK(mkdtemp(path) != NULL);
    snprintf(name, sizeof name, "%s/fifo", path);
    CHECK_EQ(mkfifo(name, 0600), 0);
    CHECK_EQ(naru_open(name, O_WRONLY | O_NONBLOCK, 0), -ENXIO);
    int reader = naru_open(name, O_RDONLY | O_NONBLOCK, 0); /* without a writer, it would wait in the pool */
    int writer = naru_open(name, O_WRONLY, 0);
    CHECK_GE(reader, 0);
    CHECK_GE(writer, 0);
    CHECK_EQ(naru_write(writer, "x", 1), 1);
    CHECK_EQ(naru_read(reader, name, 1), 1);
    close_pair((int[]){reader, writer});
    snprintf(name, sizeof name, "%s/fifo", path);
    unlink(name);
    rmdir(path);
}

TASK_TEST(an_eventfd_is_read_and_written)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    struct call call = {.fd = fd, .size = 8};
    uint64_t value = 3, read = 0;
    naru_task *task = start_waiting(call_read, &call);
    CHECK_EQ(naru_write(fd, &value, 8), 8);
    finish(task);
    CHECK_EQ(call.result, 8);
    memcpy(&read, call.buffer, 8);
    if (!test_runs_in("qemu-s390x")) /* which turns the bytes round on the way out, but not on the way in */
        CHECK_EQ(read, 3);
    CHECK_EQ(naru_write(fd, &value, 3), -EINVAL);
    CHECK_EQ(naru_close(fd), 0);
}

TASK_TEST(a_terminal_is_read_and_written_and_ends_with_eio)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0)
        SKIP("this machine has no terminals");
    CHECK_EQ(grantpt(master), 0);
    CHECK_EQ(unlockpt(master), 0);
    int slave = naru_open(ptsname(master), O_RDWR | O_NOCTTY, 0);
    CHECK_GE(slave, 0);
    struct call call = {.fd = slave};
    naru_task *task = start_waiting(call_read, &call);
    CHECK_EQ(naru_write(master, "line\n", 5), 5);
    finish(task);
    CHECK_EQ(call.result, 5);
    char echo[16];
    CHECK_EQ(naru_read(master, echo, sizeof echo), 6); /* "line\r\n" */
    call = (struct call){.fd = master};
    task = start_waiting(call_read, &call);
    CHECK_EQ(naru_close(slave), 0);
    finish(task);
    CHECK_EQ(call.result, -EIO);
    CHECK_EQ(naru_close(master), 0);
}

TASK_TEST(dev_zero_and_dev_null)
{
    char buffer[1000];
    int zero = naru_open("/dev/zero", O_RDONLY, 0), null = naru_open("/dev/null", O_RDWR, 0);
    memset(buffer, 1, sizeof buffer);
    CHECK_EQ(naru_read(zero, buffer, sizeof buffer), sizeof buffer);
    for (size_t i = 0; i < sizeof buffer; i++)
        CHECK_EQ(buffer[i], 0);
    CHECK_EQ(naru_read(null, buffer, sizeof buffer), 0);
    CHECK_EQ(naru_write(null, buffer, sizeof buffer), sizeof buffer);
    close_pair((int[]){zero, null});
}

/* ---- regular files ---- */

static int temporary(void)
{
    char path[] = "/tmp/naru-file-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    CHECK_GE(fd, 0);
    unlink(path);
    return fd;
}

TASK_TEST(a_regular_file_is_written_and_read_in_the_pool)
{
    char buffer[16] = {0};
    int fd = temporary();
    struct iovec parts[] = {{(char[]){"ab"}, 2}, {(char[]){"cd"}, 2}}, in[] = {{buffer, 1}, {buffer + 1, 15}};
    CHECK_EQ(naru_write(fd, "12345", 5), 5);
    CHECK_EQ(naru_writev(fd, parts, 2), 4);
    CHECK_EQ(naru_read(fd, buffer, 16), 0);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    CHECK_EQ(naru_read(fd, buffer, 3), 3);
    CHECK_EQ(memcmp(buffer, "123", 3), 0);
    CHECK_EQ(naru_readv(fd, in, 2), 6);
    CHECK_EQ(memcmp(buffer, "45abcd", 6), 0);
    CHECK_EQ(naru_fsync(fd), 0);
    CHECK_EQ(naru_close(fd), 0);
}

TASK_TEST(pread_and_pwrite_leave_the_position_alone)
{
    char buffer[16];
    int fd = temporary();
    CHECK_EQ(naru_pwrite(fd, "abc", 3, 10), 3);
    CHECK_EQ(naru_pread(fd, buffer, 16, 0), 13);
    CHECK_EQ(buffer[0], 0);
    CHECK_EQ(naru_pread(fd, buffer, 2, 11), 2);
    CHECK_EQ(memcmp(buffer, "bc", 2), 0);
    CHECK_EQ(naru_pread(fd, buffer, 16, 13), 0);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
    CHECK_EQ(naru_pread(fd, buffer, 1, -1), -EINVAL);
    CHECK_EQ(naru_pwrite(fd, buffer, 1, -1), -EINVAL);
    int64_t far = (int64_t)3 << 32; /* beyond 4 GiB */
    CHECK_EQ(naru_pwrite(fd, "z", 1, far), 1);
    CHECK_EQ(naru_pread(fd, buffer, 8, far), 1);
    CHECK_EQ(naru_close(fd), 0);
}

TASK_TEST(positions_and_syncs_are_not_for_pipes)
{
    int pipe_ends[2];
    char byte;
    CHECK_EQ(naru_pipe(pipe_ends), 0);
    CHECK_EQ(naru_pread(pipe_ends[0], &byte, 1, 0), -ESPIPE);
    CHECK_EQ(naru_pwrite(pipe_ends[1], "x", 1, 0), -ESPIPE);
    CHECK_EQ(naru_fsync(pipe_ends[0]), -EINVAL);
    close_pair(pipe_ends);
}

TASK_TEST(open_creates_close_on_exec_and_says_what_open_says)
{
    char path[] = "/tmp/naru-open-XXXXXX", name[64];
    struct stat info;
    CHECK(mkdtemp(path) != NULL);
    snprintf(name, sizeof name, "%s/new", path);
    CHECK_EQ(naru_open(name, O_RDONLY, 0), -ENOENT);
    int fd = naru_open(name, O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK_GE(fd, 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(fstat(fd, &info), 0);
    CHECK_EQ(info.st_mode & 0777 & ~0640u, 0);
    CHECK_EQ(naru_open(name, O_RDWR | O_CREAT | O_EXCL, 0640), -EEXIST);
    CHECK_EQ(naru_open(path, O_WRONLY, 0), -EISDIR);
    CHECK_EQ(naru_open("/dev/null/x", O_RDONLY, 0), -ENOTDIR);
    CHECK_EQ(naru_open("", O_RDONLY, 0), -ENOENT);
    int directory = naru_open(path, O_RDONLY, 0);
    CHECK_EQ(naru_read(directory, name, 8), -EISDIR);
    close_pair((int[]){fd, directory});
    unlink(name);
    snprintf(name, sizeof name, "%s/new", path);
    unlink(name);
    rmdir(path);
}

TASK_TEST(many_tasks_read_and_write_one_file_at_once)
{
    enum { TASKS = 64 };
    struct call calls[TASKS];
    naru_task *tasks[TASKS];
    int fd = temporary();
    for (int i = 0; i < TASKS; i++)
        CHECK_EQ(naru_pwrite(fd, &(char){(char)i}, 1, i), 1);
    for (int i = 0; i < TASKS; i++) {
        calls[i] = (struct call){.fd = fd, .size = 1};
        tasks[i] = naru_spawn(call_read, &calls[i]);
    }
    uint64_t seen = 0;
    for (int i = 0; i < TASKS; i++) {
        finish(tasks[i]);
        CHECK_EQ(calls[i].result, 1);
        seen |= (uint64_t)1 << calls[i].buffer[0];
    }
    CHECK_EQ(seen, UINT64_MAX); /* the position is shared: each byte went to one of them */
    CHECK_EQ(naru_close(fd), 0);
}

/* ---- cancellation in the pool ---- */

struct opening {
    const char *path;
    int result;
};

static int open_fifo(void *arg)
{
    struct opening *opening = arg;
    opening->result = naru_open(opening->path, O_RDONLY, 0);
    return opening->result < 0 ? opening->result : 0;
}

TASK_TEST(a_call_the_pool_has_begun_is_waited_for_and_its_result_is_kept)
{
    char path[] = "/tmp/naru-fifo-XXXXXX", name[64];
    struct opening opening = {name, 1};
    CHECK(mkdtemp(path) != NULL);
    snprintf(name, sizeof name, "%s/fifo", path);
    CHECK_EQ(mkfifo(name, 0600), 0);
    naru_task *task = naru_spawn(open_fifo, &opening);
    CHECK_EQ(naru_sleep(NARU_MS(test_runs_in("valgrind") ? 1000 : 50)),
             0); /* a thread is in open(2) now, until somebody opens for writing */
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_sleep(NARU_MS(20)), 0);
    CHECK(!naru_done(task));
    int writer = open(name, O_WRONLY | O_CLOEXEC);
    CHECK_GE(writer, 0);
    CHECK_EQ(naru_join(task), 0);
    CHECK_GE(opening.result, 0); /* opened: not lost */
    close_pair((int[]){opening.result, writer});
    unlink(name);
    rmdir(path);
}

static int one_thread(void *unused)
{
    char path[] = "/tmp/naru-fifo-XXXXXX", name[64];
    struct opening first = {name, 1}, second = {"/dev/null", 1};
    (void)unused;
    CHECK(mkdtemp(path) != NULL);
    snprintf(name, sizeof name, "%s/fifo", path);
    CHECK_EQ(mkfifo(name, 0600), 0);
    naru_task *busy = naru_spawn(open_fifo, &first);
    CHECK_EQ(naru_sleep(NARU_MS(50)), 0);
    naru_task *queued = naru_spawn(open_fifo, &second);
    let_others_run();
    CHECK(naru_cancel(queued));
    CHECK_EQ(naru_join(queued), -ECANCELED); /* although the only thread is still busy */
    CHECK_EQ(second.result, -ECANCELED);
    int writer = open(name, O_WRONLY | O_CLOEXEC);
    CHECK_EQ(naru_join(busy), 0);
    close_pair((int[]){first.result, writer});
    unlink(name);
    rmdir(path);
    return 0;
}

TEST(a_call_the_pool_has_not_begun_is_taken_back_at_once)
{
    CHECK_EQ(naru_run_with(&(naru_options){.pool_threads = 1}, one_thread, NULL), 0);
}

/* ---- cancellation before anything was done ---- */

TASK_TEST(a_pending_cancellation_stops_every_call_before_it_does_anything)
{
    int pipe_ends[2], fd = temporary();
    char buffer[8] = {0};
    struct iovec part = {buffer, 8};
    CHECK_EQ(naru_pipe(pipe_ends), 0);
    CHECK_EQ(naru_write(pipe_ends[1], "abc", 3), 3);
#define CANCELLED(call)             \
    do {                            \
        naru_cancel(naru_self());   \
        CHECK_EQ(call, -ECANCELED); \
    } while (0)
    CANCELLED(naru_read(pipe_ends[0], buffer, 8));
    CANCELLED(naru_readv(pipe_ends[0], &part, 1));
    CANCELLED(naru_write(pipe_ends[1], buffer, 8));
    CANCELLED(naru_writev(pipe_ends[1], &part, 1));
    CANCELLED(naru_pread(fd, buffer, 8, 0));
    CANCELLED(naru_pwrite(fd, buffer, 8, 0));
    CANCELLED(naru_open("/dev/null", O_RDONLY, 0));
    CANCELLED(naru_fsync(fd));
    CANCELLED(naru_recv(pipe_ends[0], buffer, 8, 0));
    CANCELLED(naru_send(pipe_ends[1], buffer, 8, 0));
    CANCELLED(naru_send_all(pipe_ends[1], buffer, 0));
    CHECK_EQ(naru_read(pipe_ends[0], buffer, 8), 3);
    CHECK_EQ(lseek(fd, 0, SEEK_END), 0);
    close_pair(pipe_ends);
    CHECK_EQ(naru_close(fd), 0);
}

/* ---- limits ---- */

TASK_TEST(sizes_of_zero_do_what_the_system_does)
{
    int pipe_ends[2], pair[2], fd = temporary();
    char buffer[1] = {0};
    CHECK_EQ(naru_pipe(pipe_ends), 0);
    tcp_pair(pair);
    CHECK_EQ(naru_read(pipe_ends[0], buffer, 0), 0);
    CHECK_EQ(naru_write(pipe_ends[1], buffer, 0), 0);
    CHECK_EQ(naru_readv(pipe_ends[0], NULL, 0), 0);
    CHECK_EQ(naru_writev(pipe_ends[1], NULL, 0), 0);
    CHECK_EQ(naru_read(fd, buffer, 0), 0);
    CHECK_EQ(naru_write(fd, buffer, 0), 0);
    CHECK_EQ(naru_pread(fd, buffer, 0, 0), 0);
    CHECK_EQ(naru_write(pair[0], buffer, 0), 0);
    CHECK_EQ(naru_send(pair[0], buffer, 0, 0), 0);
    close_pair(pipe_ends);
    close_pair(pair);
    CHECK_EQ(naru_close(fd), 0);
}

/* read(2) of nothing returns at once also on a socket, unlike recv(2). */
TASK_TEST(read_of_nothing_from_a_socket_returns_at_once)
{
    for (int i = 0; i < 2; i++) {
        int pair[2];
        naru_timeout t;
        if (i == 0)
            tcp_pair(pair);
        else
            stream_pair(pair);
        CHECK_EQ(naru_timeout_begin(&t, NARU_SEC(1)), 0);
        CHECK_EQ(naru_timeout_end(&t, (int)naru_read(pair[0], &(char){0}, 0)), 0);
        close_pair(pair);
    }
}

TASK_TEST(impossible_counts_and_pointers_are_errors)
{
    int pipe_ends[2];
    struct iovec part = {(char[]){"x"}, 1};
    const int counts[] = {-1, INT32_MIN, INT32_MAX, 1025};
    CHECK_EQ(naru_pipe(pipe_ends), 0);
    CHECK_EQ(naru_write(pipe_ends[1], "x", 1), 1);
    for (size_t i = 0; i < COUNT(counts); i++) {
        if (counts[i] > 0 && under_valgrind())
            continue;
        CHECK_EQ(naru_readv(pipe_ends[0], &part, counts[i]), -EINVAL);
        CHECK_EQ(naru_writev(pipe_ends[1], &part, counts[i]), -EINVAL);
    }
    if (!under_valgrind())
        CHECK_EQ(naru_write(pipe_ends[1], NULL, 5), -EFAULT);
    if (!under_valgrind())
        CHECK_EQ(naru_writev(pipe_ends[1], &(struct iovec){(void *)&part, SIZE_MAX}, 1), -EINVAL);
    CHECK_EQ(naru_read(pipe_ends[1], &(char){0}, 1), -EBADF); /* the wrong end */
    CHECK_EQ(naru_write(pipe_ends[0], "x", 1), -EBADF);
    if (!under_valgrind())
        CHECK_EQ(naru_read(pipe_ends[0], NULL, 5), -EFAULT);
    close_pair(pipe_ends);
}

TASK_TEST(descriptors_that_are_not_open_are_ebadf)
{
    const int bad[] = {-1, INT32_MIN, 1000000, INT32_MAX};
    char buffer[8] = {0};
    struct iovec part = {buffer, 8};
    for (size_t i = 0; i < COUNT(bad); i++) {
        CHECK_EQ(naru_read(bad[i], buffer, 8), -EBADF);
        CHECK_EQ(naru_write(bad[i], buffer, 8), -EBADF);
        CHECK_EQ(naru_readv(bad[i], &part, 1), -EBADF);
        CHECK_EQ(naru_writev(bad[i], &part, 1), -EBADF);
        CHECK_EQ(naru_pread(bad[i], buffer, 8, 0), -EBADF);
        CHECK_EQ(naru_pwrite(bad[i], buffer, 8, 0), -EBADF);
        CHECK_EQ(naru_fsync(bad[i]), -EBADF);
    }
}

/* These were read without ever waiting, so a plain close(2) is allowed, and the number may come back as anything. */

static void open_socket(int ends[2])
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
}

static void open_pipe(int ends[2])
{
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
}

static void open_file(int ends[2])
{
    ends[0] = temporary();
    ends[1] = dup(ends[0]);
    CHECK_EQ(pwrite(ends[1], "y", 1, 1), 1); /* the other byte comes from the test, before the position */
}

static void (*const openers[])(int ends[2]) = {open_socket, open_pipe, open_file};

TASK_TEST(a_number_closed_by_others_and_used_again_is_taken_for_what_it_is_now)
{
    for (size_t i = 0; i < COUNT(openers); i++) {
        for (size_t k = 0; k < COUNT(openers); k++) {
            int first[2], second[2];
            char byte;
            openers[i](first);
            CHECK_EQ(write(first[1], "1", 1), 1);
            CHECK_EQ(naru_read(first[0], &byte, 1), 1);
            close(first[0]);
            close(first[1]);
            openers[k](second);
            CHECK_EQ(second[0], first[0]);
            CHECK_EQ(write(second[1], "2", 1), 1);
            CHECK_EQ(naru_read(second[0], &byte, 1), 1);
            close_pair(second);
        }
    }
}

/* ... and if nothing is there to be read, only the task waits, and it can be cancelled. */
TASK_TEST(a_number_closed_by_others_and_used_again_by_a_pipe_does_not_stop_the_loop)
{
    for (size_t i = 0; i < COUNT(openers); i++) {
        int first[2], second[2];
        char byte;
        openers[i](first);
        CHECK_EQ(write(first[1], "1", 1), 1);
        CHECK_EQ(naru_read(first[0], &byte, 1), 1);
        close(first[0]);
        close(first[1]);
        open_pipe(second);
        CHECK_EQ(second[0], first[0]);
        struct call call = {.fd = second[0]};
        naru_task *task = start_waiting(call_read, &call);
        naru_cancel(task);
        finish(task);
        CHECK_EQ(call.result, -ECANCELED);
        close_pair(second);
    }
}

TEST(outside_a_task_every_call_is_eperm)
{
    int pipe_ends[2];
    char buffer[8] = {0};
    struct iovec part = {buffer, 8};
    CHECK_EQ(naru_pipe(pipe_ends), 0); /* does not suspend: works anywhere */
    CHECK_EQ(naru_read(pipe_ends[0], buffer, 8), -EPERM);
    CHECK_EQ(naru_write(pipe_ends[1], buffer, 8), -EPERM);
    CHECK_EQ(naru_readv(pipe_ends[0], &part, 1), -EPERM);
    CHECK_EQ(naru_writev(pipe_ends[1], &part, 1), -EPERM);
    CHECK_EQ(naru_pread(pipe_ends[0], buffer, 8, 0), -EPERM);
    CHECK_EQ(naru_pwrite(pipe_ends[1], buffer, 8, 0), -EPERM);
    CHECK_EQ(naru_open("/dev/null", O_RDONLY, 0), -EPERM);
    CHECK_EQ(naru_fsync(pipe_ends[0]), -EPERM);
    CHECK_EQ(naru_read(-1, buffer, 8), -EPERM);
    close_pair(pipe_ends);
}

/* A descriptor that was never waited on may be closed by close(2), so nothing is known about the next of that number. */
TASK_TEST(a_number_closed_behind_our_back_means_the_new_file)
{
    int ends[2], again[2];
    char byte;
    naru_timeout t;
    CHECK_EQ(naru_pipe(ends), 0);
    close(ends[0]);
    close(ends[1]);
    CHECK_EQ(pipe(again), 0); /* blocking */
    CHECK_EQ(again[0], ends[0]);
    CHECK_EQ(naru_timeout_begin(&t, NARU_MS(20)), 0);
    CHECK_EQ(naru_timeout_end(&t, (int)naru_read(again[0], &byte, 1)), -ETIMEDOUT);
    close_pair(again);
}
