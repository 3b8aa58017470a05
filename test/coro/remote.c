/* Tasks for a loop that another thread runs, and their handles in several threads. */
#include "helpers.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

/* ---- a loop in a thread of its own ---- */

struct server {
    naru_loop *loop;
    pthread_t thread;
};

static void *serve(void *server)
{
    CHECK_EQ(naru_loop_run(((struct server *)server)->loop), 0);
    return NULL;
}

static void start(struct server *server)
{
    CHECK_EQ(naru_loop_open(&server->loop, NULL), 0);
    naru_loop_hold(server->loop);
    CHECK_EQ(pthread_create(&server->thread, NULL, serve, server), 0);
}

/* Without its hold the loop ends when its last task has. */
static void finish(struct server *server)
{
    naru_loop_unhold(server->loop);
    CHECK_EQ(pthread_join(server->thread, NULL), 0);
    CHECK_EQ(naru_loop_close(server->loop), 0);
}

static sem_t reached;

static int reach_and_sleep(void *arg)
{
    sem_post(&reached);
    return sleep_for_ever(arg);
}

/* ---- results ---- */

TEST(another_thread_gets_the_result_or_error_of_its_task) /* THR-14 */
{
    struct server server;
    start(&server);
    for (int result = -2; result <= 2; result++) {
        naru_task *task = naru_spawn_on(server.loop, return_number, number(result));
        CHECK_EQ(naru_task_wait_thread(task, NARU_FOREVER), result);
        CHECK_EQ(naru_task_wait_thread(task, 0), result);
        CHECK(naru_done(task));
        CHECK_EQ(naru_result(task), result);
        naru_release(task);
    }
    finish(&server);
}

TEST(waiting_in_a_thread_times_out_and_can_be_repeated)
{
    struct server server;
    start(&server);
    naru_task *task = naru_spawn_on(server.loop, sleep_for_ever, NULL);
    CHECK_EQ(naru_task_wait_thread(task, NARU_MS(2)), -ETIMEDOUT);
    CHECK_EQ(naru_task_wait_thread(task, 0), -ETIMEDOUT);
    CHECK_EQ(naru_task_wait_thread(task, -5), -ETIMEDOUT);
    CHECK_EQ(naru_result(task), -EAGAIN);
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_task_wait_thread(task, NARU_FOREVER), -ECANCELED); /* THR-16 */
    CHECK(naru_cancelled(task));
    naru_release(task);
    finish(&server);
}

static int wait_for_own(void *arg)
{
    (void)arg;
    naru_task *task = naru_spawn_on(naru_loop_current(), return_number, number(3));
    CHECK_EQ(naru_task_wait_thread(task, NARU_FOREVER), -EDEADLK);
    naru_task *local = naru_spawn(return_number, number(4));
    CHECK_EQ(naru_task_wait_thread(local, NARU_FOREVER), -EINVAL);
    CHECK_EQ(naru_join(task), 3);
    CHECK_EQ(naru_task_wait_thread(local, NARU_FOREVER), -EINVAL);
    return naru_join(local);
}

TEST(blocking_the_loops_own_thread_is_refused_and_so_are_ordinary_tasks)
{
    CHECK_EQ(naru_run(wait_for_own, NULL), 4);
}

TASK_TEST(a_task_spawned_on_ones_own_loop_can_be_awaited_at_once)
{
    naru_task *task = naru_spawn_on(naru_loop_current(), return_number, number(3));
    CHECK_EQ(naru_await(task), 3);
    CHECK_EQ(naru_join(task), 3);
}

TASK_TEST(a_task_spawned_on_ones_own_loop_keeps_its_place_in_the_order) /* THR-02 */
{
    naru_task *tasks[] = {naru_spawn(note_body, "1"), naru_spawn_on(naru_loop_current(), note_body, "2"),
                          naru_spawn(note_body, "3")};
    CHECK_EQ(naru_join(tasks[1]), 0);
    CHECK_EQ(naru_join(tasks[2]), 0);
    CHECK_EQ(naru_join(tasks[0]), 0);
    CHECK_EQ(times_in(trace, "2"), 1);
}

TASK_TEST(a_task_spawned_on_ones_own_loop_and_cancelled_at_once_never_runs)
{
    naru_task *task = naru_spawn_on(naru_loop_current(), note_body, "ran");
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_join(task), -ECANCELED);
    CHECK_STR(trace, "");
}

TASK_TEST(done_callbacks_work_on_a_task_spawned_on_ones_own_loop)
{
    naru_callback cb = {0};
    naru_task *task = naru_spawn_on(naru_loop_current(), note_body, "body");
    CHECK_EQ(naru_task_on_done(task, &cb, note_callback, "done"), 0);
    CHECK_EQ(naru_join(task), 0);
    settle();
    CHECK_STR(trace, "body done");
}

TEST(spawn_on_needs_a_function)
{
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, NULL), 0);
    CHECK_PTR(naru_spawn_on(loop, NULL, NULL), NULL);
    CHECK_EQ(naru_loop_close(loop), 0);
}

static int await_remote(void *task)
{
    return naru_await(task);
}

static int join_remote(void *task)
{
    CHECK_EQ(naru_await(task), -EINVAL);
    CHECK_EQ(naru_cancel_all((naru_task **)&task, 1), -EINVAL);
    return naru_join(task);
}

TEST(a_task_of_another_loop_cannot_be_awaited)
{
    struct server server;
    start(&server);
    sem_init(&reached, 0, 0);
    naru_task *task = naru_spawn_on(server.loop, reach_and_sleep, NULL);
    sem_wait(&reached);
    CHECK_EQ(naru_run(join_remote, naru_retain(task)), -EINVAL);
    naru_cancel(task);
    CHECK_EQ(naru_task_wait_thread(task, NARU_FOREVER), -ECANCELED);
    CHECK_EQ(naru_run(await_remote, task), -ECANCELED); /* done: its result is anybody's */
    naru_release(task);
    finish(&server);
}

/* ---- cancelling from afar ---- */

TEST(a_parked_task_is_cancelled_from_another_thread)
{
    struct server server;
    start(&server);
    sem_init(&reached, 0, 0);
    naru_task *task = naru_spawn_on(server.loop, reach_and_sleep, NULL);
    sem_wait(&reached);
    CHECK(naru_cancel(task));
    CHECK_EQ(naru_task_wait_thread(task, NARU_FOREVER), -ECANCELED);
    CHECK(!naru_cancel(task)); /* done */
    naru_release(task);
    finish(&server);
}

static sem_t gate;

static int block_the_loop(void *arg)
{
    (void)arg;
    sem_wait(&gate);
    return 0;
}

TEST(a_task_that_has_not_started_is_cancelled_from_another_thread_and_never_runs)
{
    struct server server;
    sem_init(&gate, 0, 0);
    start(&server);
    naru_task *blocker = naru_spawn_on(server.loop, block_the_loop, NULL);
    naru_task *task = naru_spawn_on(server.loop, note_body, "ran");
    CHECK(naru_cancel(task));
    CHECK(naru_cancel(task));
    sem_post(&gate);
    CHECK_EQ(naru_task_wait_thread(blocker, NARU_FOREVER), 0);
    /* The request may arrive in the same batch as the task or one later. */
    int rc = naru_task_wait_thread(task, NARU_FOREVER);
    CHECK_EQ(rc, -ECANCELED);
    CHECK_STR(trace, "");
    naru_release(task);
    naru_release(blocker);
    finish(&server);
}

/* ---- handles ---- */

static int post_done(void *arg)
{
    (void)arg;
    sem_post(&reached);
    return 1;
}

TEST(a_handle_may_be_released_before_the_task_has_ended) /* THR-20 */
{
    struct server server;
    start(&server);
    sem_init(&reached, 0, 0);
    naru_release(naru_spawn_on(server.loop, post_done, NULL));
    sem_wait(&reached);
    finish(&server);
}

static void *wait_and_release(void *task)
{
    CHECK_EQ(naru_task_wait_thread(task, NARU_FOREVER), 6);
    naru_release(task);
    return NULL;
}

TEST(several_threads_may_wait_for_one_task_and_release_it) /* THR-20 */
{
    struct server server;
    pthread_t threads[4];
    start(&server);
    for (int round = 0; round < 50; round++) {
        naru_task *task = naru_spawn_on(server.loop, return_number, number(6));
        for (int i = 0; i < 4; i++)
            CHECK_EQ(pthread_create(&threads[i], NULL, wait_and_release, naru_retain(task)), 0);
        naru_release(task);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    finish(&server);
}

static int owned_values;

static void destroy_owned(void *value)
{
    owned_values++;
    free(value);
}

static int give_owned(void *arg)
{
    naru_set_value_owned(malloc(8), destroy_owned);
    return return_number(arg);
}

TEST(a_handle_outlives_the_loop_with_result_and_value)
{
    struct server server;
    start(&server);
    naru_task *task = naru_spawn_on(server.loop, give_owned, number(2));
    CHECK_EQ(naru_task_wait_thread(task, NARU_FOREVER), 2);
    finish(&server);
    CHECK(naru_done(task));
    CHECK_EQ(naru_result(task), 2);
    CHECK(naru_value(task) != NULL);
    CHECK_EQ(naru_task_wait_thread(task, NARU_FOREVER), 2);
    CHECK(!naru_cancel(task));
    CHECK_EQ(owned_values, 0);
    naru_release(task);
    CHECK_EQ(owned_values, 1);
}

static int fail_unseen_remotely(void *arg)
{
    struct server server;
    (void)arg;
    start(&server);
    sem_init(&reached, 0, 0);
    naru_release(naru_spawn_on(server.loop, return_number, number(-EPROTO)));
    finish(&server);
    return 0;
}

TEST(an_unseen_error_of_a_shared_task_is_reported_on_stderr)
{
    struct child *child = in_child(fail_unseen_remotely, NULL);
    CHECK_EQ(child->status, 0);
    CHECK_EQ(times_in(child->said, "nobody looked"), 1);
}

/* ---- closing ---- */

TEST(a_loop_closed_before_a_task_could_start_cancels_it)
{
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, NULL), 0);
    naru_task *task = naru_spawn_on(loop, note_body, "ran");
    naru_task *cancelled = naru_spawn_on(loop, note_body, "ran");
    CHECK(naru_cancel(cancelled));
    naru_release(naru_spawn_on(loop, note_body, "ran"));
    CHECK(!naru_done(task));
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK(naru_cancelled(task));
    CHECK_EQ(naru_task_wait_thread(task, NARU_FOREVER), -ECANCELED);
    CHECK(naru_cancelled(cancelled));
    CHECK_STR(trace, "");
    naru_release(task);
    naru_release(cancelled);
}

TEST(a_closed_loop_takes_no_task)
{
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, NULL), 0);
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK_PTR(naru_spawn_on(loop, note_body, "ran"), NULL);
}

static int stop_loop(void *loop)
{
    naru_loop_stop(loop);
    return naru_sleep(NARU_FOREVER);
}

TEST(a_task_that_waits_when_its_loop_closes_ends_cancelled)
{
    naru_options options = {.report = record_report};
    naru_loop *loop;
    CHECK_EQ(naru_loop_open(&loop, &options), 0);
    naru_task *task = naru_spawn_on(loop, stop_loop, loop);
    CHECK_EQ(naru_loop_run(loop), 0);
    CHECK(!naru_done(task));
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK_EQ(naru_task_wait_thread(task, NARU_FOREVER), -ECANCELED);
    naru_release(task);
    CHECK_EQ(report_count, 1);
}

static int watch_unarrived_then_stop(void *arg)
{
    static naru_callback cb;
    naru_task *task = *(naru_task **)arg;
    CHECK_EQ(naru_task_on_done(task, &cb, note_callback, "done"), 0);
    naru_loop_stop(naru_loop_current());
    return 0;
}

TEST(a_loop_may_close_while_a_callback_waits_for_a_task_that_never_arrived)
{
    naru_options options = {.report = record_report};
    naru_loop *loop;
    naru_task *shared = NULL;
    CHECK_EQ(naru_loop_open(&loop, &options), 0);
    naru_task *waiter = naru_spawn_in(loop, watch_unarrived_then_stop, &shared);
    naru_loop_stop(loop); /* one batch, in which the mail is not looked at again */
    shared = naru_spawn_on(loop, note_body, "ran");
    CHECK_EQ(naru_loop_run(loop), 0);
    naru_release(waiter);
    CHECK_EQ(naru_loop_close(loop), 0);
    CHECK(naru_done(shared));
    naru_release(shared);
}

/* ---- races ---- */

static _Atomic(naru_loop *) storm_loop;
static atomic_int accepted, finished, refused;

static int count_one(void *arg)
{
    (void)arg;
    return 1;
}

static void *storm(void *arg)
{
    naru_loop *loop = atomic_load(&storm_loop);
    (void)arg;
    for (;;) {
        naru_task *task = naru_spawn_on(loop, count_one, NULL);
        if (!task)
            break;
        int before = atomic_fetch_add(&accepted, 1);
        if (before % 3 == 0)
            naru_cancel(task);
        if (before % 2 == 0) {
            int rc = naru_task_wait_thread(task, NARU_FOREVER);
            CHECK(rc == 1 || rc == -ECANCELED);
            atomic_fetch_add(&finished, 1);
        } else {
            atomic_fetch_add(&refused, 1);
        }
        naru_release(task);
    }
    return NULL;
}

static int stop_after_some(void *arg)
{
    (void)arg;
    while (atomic_load(&accepted) < 300)
        CHECK_EQ(naru_yield(), 0);
    naru_loop_stop(naru_loop_current());
    return 0;
}

TEST(threads_may_spawn_cancel_wait_and_release_while_the_loop_closes) /* THR-04 */
{
    enum { THREADS = 3, ROUNDS = 10 };
    for (int round = 0; round < ROUNDS; round++) {
        naru_loop *loop;
        pthread_t threads[THREADS];
        atomic_store(&accepted, 0);
        CHECK_EQ(naru_loop_open(&loop, NULL), 0);
        atomic_store(&storm_loop, loop);
        naru_release(naru_spawn_in(loop, stop_after_some, NULL));
        for (int i = 0; i < THREADS; i++)
            CHECK_EQ(pthread_create(&threads[i], NULL, storm, NULL), 0);
        CHECK_EQ(naru_loop_run(loop), 0);
        CHECK_EQ(naru_loop_close(loop), 0);
        for (int i = 0; i < THREADS; i++)
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
}
