/* naru_run_threads: the same program in several threads, a loop in each.
 *
 * The threads share nothing but this: an entry each in a table, where a main task signs in with its loop when it starts
 * and signs out when it ends. The first that fails asks all who are signed in to stop, by post; who signs in
 * later finds out by itself. */
#include "coro/internal.h"

#include <errno.h>
#include <stdlib.h>

static _Thread_local unsigned thread_index;

unsigned naru_thread_index(void)
{
    return thread_index;
}

struct team;

struct member {
    struct team *team;
    unsigned index;
    pthread_t thread;
    naru_loop *loop; /* while its main task runs; under the team's mutex */
    naru_task *main; /* its own thread's */
    bool held;       /* the loop is, because others may still want to stop it; under the team's mutex */
    bool ended;
    int result;
};

struct team {
    pthread_mutex_t mutex;
    const naru_options *options;
    naru_fn *fn;
    void *arg;
    int first_error;
    unsigned size;
    unsigned running; /* main tasks that have not ended: they may still fail and cancel the others */
    struct member members[];
};

static void asked_to_stop(void *arg)
{
    struct member *member = arg;
    naru_cancel(member->main); /* NULL if it has just ended */
}

/* With the mutex held. */
static void fail_team(struct team *team, int error)
{
    if (team->first_error < 0) {
        if (error == -EINTR && team->first_error == -ECANCELED)
            team->first_error = error; /* an interrupt shows first as the cancellation it caused */
        return;
    }
    team->first_error = error;
    for (unsigned i = 0; i < team->size; i++)
        if (team->members[i].loop)
            naru_post(team->members[i].loop, asked_to_stop, &team->members[i]);
}

static void let_go(struct member *member)
{
    if (member->held)
        naru_loop_unhold(member->loop);
    member->held = false;
}

/* With the mutex held. The last one left waits for nobody but itself: its deadlock is one. */
static void sign_out(struct member *member)
{
    struct team *team = member->team;
    let_go(member);
    member->loop = NULL;
    member->main = NULL;
    member->ended = true;
    if (--team->running == 1)
        for (unsigned i = 0; i < team->size; i++)
            let_go(&team->members[i]);
}

static int member_main(void *arg)
{
    struct member *member = arg;
    struct team *team = member->team;
    pthread_mutex_lock(&team->mutex);
    int error = team->first_error;
    member->main = naru_self();
    member->loop = naru__here->loop;
    member->held = team->running > 1;
    if (member->held)
        naru_loop_hold(member->loop);
    pthread_mutex_unlock(&team->mutex);

    int rc = error < 0 ? -ECANCELED : team->fn(team->arg);

    pthread_mutex_lock(&team->mutex);
    sign_out(member);
    if (rc < 0)
        fail_team(team, rc);
    pthread_mutex_unlock(&team->mutex);
    return rc;
}

static void *run_member(void *arg)
{
    struct member *member = arg;
    struct team *team = member->team;
    unsigned outer_index = thread_index;
    thread_index = member->index;
    member->result = naru_run_with(team->options, member_main, member);
    thread_index = outer_index;
    pthread_mutex_lock(&team->mutex);
    if (!member->ended)
        sign_out(member); /* it never began: the loop could not even be opened */
    if (member->result < 0)
        fail_team(team, member->result);
    pthread_mutex_unlock(&team->mutex);
    return NULL;
}

int naru_run_threads(unsigned threads, const naru_options *options, naru_fn *fn, void *arg)
{
    if (threads == 0 || !fn)
        return -EINVAL;
    if (naru__here)
        return -EBUSY;
    struct team *team = calloc(1, sizeof *team + threads * sizeof(struct member));
    if (!team)
        return -ENOMEM;
    pthread_mutex_init(&team->mutex, NULL);
    team->options = options;
    team->fn = fn;
    team->arg = arg;
    team->size = threads;
    team->running = threads;
    for (unsigned i = 0; i < threads; i++) {
        team->members[i].team = team;
        team->members[i].index = i;
    }
    unsigned started = 1;
    while (started < threads &&
           pthread_create(&team->members[started].thread, NULL, run_member, &team->members[started]) == 0)
        started++;
    if (started < threads) {
        pthread_mutex_lock(&team->mutex);
        team->running -= threads - started;
        fail_team(team, -EAGAIN);
        pthread_mutex_unlock(&team->mutex);
    }
    run_member(&team->members[0]);
    for (unsigned i = 1; i < started; i++)
        pthread_join(team->members[i].thread, NULL);
    int result = team->first_error < 0 ? team->first_error : team->members[0].result;
    pthread_mutex_destroy(&team->mutex);
    free(team);
    return result;
}
