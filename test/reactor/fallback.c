/* Older kernels: what the library does where a system call or a flag of it is missing. A seccomp filter plays the old
 * kernel. */
#include "test/reactor/common.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static naru_loop *loop;

/* From here on the system call fails like this, in the whole process. */
static void deny(int number, int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        SKIP("no seccomp filters here");
}

static void check_epipe_without_signal(int error)
{
    struct pair pair = make_socketpair(SOCK_STREAM);
    struct ends ends = make_pipe();
    const int fds[2] = {pair.a, ends.write};
    struct iovec part = {"x", 1};
    sigset_t before, after, pending;
    naru_op op;
    signal(SIGPIPE, SIG_DFL);
    deny(SYS_pwritev2, error);
    close(pair.b);
    close(ends.read);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    loop = open_loop();
    for (int i = 0; i < 2; i++) {
        naru_op_write(&op, fds[i], "x", 1);
        CHECK_EQ(result_of(loop, &op), -EPIPE);
        naru_op_writev(&op, fds[i], &part, 1);
        CHECK_EQ(result_of(loop, &op), -EPIPE);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    CHECK_EQ(sigismember(&after, SIGPIPE), sigismember(&before, SIGPIPE));
    sigpending(&pending);
    CHECK(!sigismember(&pending, SIGPIPE));
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(without_the_flag_against_sigpipe_there_is_still_no_signal)
{
    check_epipe_without_signal(EOPNOTSUPP);
}

TEST(without_pwritev2_there_is_still_no_signal)
{
    check_epipe_without_signal(ENOSYS);
}

TEST(without_the_flag_a_sigpipe_that_was_pending_stays_pending)
{
    struct ends ends = make_pipe();
    naru_op op;
    sigset_t sigpipe, pending;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, NULL);
    CHECK_EQ(raise(SIGPIPE), 0);
    deny(SYS_pwritev2, EOPNOTSUPP);
    close(ends.read);
    loop = open_loop();
    naru_op_write(&op, ends.write, "x", 1);
    CHECK_EQ(result_of(loop, &op), -EPIPE);
    sigpending(&pending);
    CHECK(sigismember(&pending, SIGPIPE));
    CHECK_EQ(naru_loop_close(loop), 0);
}

TEST(without_the_flag_pipes_and_files_are_still_written)
{
    char content[8];
    struct ends ends = make_pipe();
    int file = temporary_file("");
    naru_op op;
    deny(SYS_pwritev2, EOPNOTSUPP);
    loop = open_loop();
    naru_op_write(&op, ends.write, "hello", 5);
    CHECK_EQ(result_of(loop, &op), 5);
    CHECK_EQ(read(ends.read, content, sizeof content), 5);
    naru_op_write(&op, file, "hello", 5);
    CHECK_EQ(result_of(loop, &op), 5);
    CHECK_EQ(pread(file, content, sizeof content, 0), 5);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static void check_due(void *arg)
{
    CHECK_GE(naru_now(), ((naru_timer *)arg)->deadline);
    note(ARG(1));
}

/* TIMER-06: with milliseconds only, the wait is rounded up and not down. */
TEST(without_epoll_pwait2_timers_are_still_never_early)
{
#ifdef SYS_epoll_pwait2
    naru_timer timers[20] = {0};
    deny(SYS_epoll_pwait2, ENOSYS);
    loop = open_loop();
    for (int i = 0; i < 20; i++)
        naru_timer_after(loop, &timers[i], i * NARU_US(300), check_due, &timers[i]);
    run_and_close(loop);
    CHECK_EQ(journal.count, 20);
#else
    SKIP("these headers do not know epoll_pwait2");
#endif
}

TEST(without_threads_a_call_gives_eagain)
{
    naru_op op;
    deny(SYS_clone, EAGAIN);
#ifdef SYS_clone3
    deny(SYS_clone3, EAGAIN);
#endif
    loop = open_loop();
    naru_op_call(&op, NULL, NULL); /* is not called */
    CHECK_EQ(result_of(loop, &op), -EAGAIN);
    naru_op_fsync(&op, 0);
    CHECK_EQ(result_of(loop, &op), -EAGAIN);
    CHECK_EQ(naru_loop_close(loop), 0);
    _exit(EXIT_SUCCESS); /* at an exit a leak checker would want a thread */
}
