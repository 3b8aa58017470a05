/* What comes from other threads: posts, finished pool calls, tasks spawned from afar.
 *
 * A letter is a callback put into the loop's mailbox under its mutex. The one thing that must not go wrong is a letter
 * that arrives just as the loop falls asleep. The loop first says that it is asleep and then looks for mail; the sender
 * first leaves the letter and then looks whether the loop sleeps. Both steps are sequentially consistent, so at least
 * one of the two sees the other: the loop does not sleep, or it is woken.
 *
 * Closing takes the same mutex, so a sender finds the loop either open, and its wake-up descriptor alive, or closed. */
#include "reactor/internal.h"

#include <errno.h>
#include <stdlib.h>

/* With the mutex held. */
static void announce(naru_loop *loop)
{
    atomic_store(&loop->has_mail, true);
    if (atomic_exchange(&loop->asleep, false))
        loop->wake(loop->wake_fd);
}

int naru__mail_put(naru_loop *loop, naru_callback *cb)
{
    int rc = -ESHUTDOWN;
    pthread_mutex_lock(&loop->mutex);
    if (!loop->closed) {
        naru__ring_push(&loop->mail, &cb->link);
        announce(loop);
        rc = 0;
    }
    pthread_mutex_unlock(&loop->mutex);
    return rc;
}

static void mail_run(void *arg)
{
    struct naru__mail *mail = arg;
    mail->run(mail);
}

int naru__mail_send(naru_loop *loop, struct naru__mail *mail)
{
    mail->callback = (naru_callback){.fn = mail_run, .arg = mail};
    if (naru__here && naru__here->loop == loop) {
        /* From the loop's own thread a letter keeps its place among the callbacks around it. */
        naru__ring_push(&naru__here->ready, &mail->callback.link);
        return 0;
    }
    return naru__mail_put(loop, &mail->callback);
}

void naru__mail_drain(struct naru__core *core)
{
    naru_loop *loop = core->loop;
    if (!atomic_load(&loop->has_mail))
        return;
    pthread_mutex_lock(&loop->mutex);
    atomic_store(&loop->has_mail, false);
    naru__ring_append(&core->ready, &loop->mail);
    pthread_mutex_unlock(&loop->mutex);
}

void naru__mail_drop_all(naru_link *ring)
{
    naru_link *link;
    while ((link = naru__ring_pop(ring)) != NULL) {
        naru_callback *cb = naru__container(link, naru_callback, link);
        if (cb->fn == mail_run) {
            struct naru__mail *mail = cb->arg;
            mail->drop(mail);
        } else if (cb->fn == naru__pool_come_home) {
            ((naru_op *)cb->arg)->state = NARU__OP_IDLE; /* so that a late cancel leaves it alone */
        }
    }
}

bool naru__mail_prepare_sleep(naru_loop *loop)
{
    /* An exchange and not a store, though C needs no more: qemu-user lets a later load overtake a store-release. */
    atomic_exchange(&loop->asleep, true);
    return !atomic_load(&loop->has_mail);
}

void naru__mail_end_sleep(naru_loop *loop)
{
    atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
}

void naru_loop_hold(naru_loop *loop)
{
    if (!loop)
        return;
    pthread_mutex_lock(&loop->mutex);
    loop->holds++;
    pthread_mutex_unlock(&loop->mutex);
}

void naru_loop_unhold(naru_loop *loop)
{
    if (!loop)
        return;
    pthread_mutex_lock(&loop->mutex);
    if (loop->holds > 0 && --loop->holds == 0 && !loop->closed)
        announce(loop); /* it may have been the last thing the loop waited for */
    pthread_mutex_unlock(&loop->mutex);
}

/* ---- naru_post ---- */

struct post {
    struct naru__mail mail;
    void (*fn)(void *arg);
    void *arg;
};

static void post_run(struct naru__mail *mail)
{
    struct post post = *naru__container(mail, struct post, mail);
    free(naru__container(mail, struct post, mail));
    post.fn(post.arg);
}

static void post_drop(struct naru__mail *mail)
{
    free(naru__container(mail, struct post, mail));
}

int naru_post(naru_loop *loop, void (*fn)(void *arg), void *arg)
{
    if (!loop || !fn)
        return loop ? -EINVAL : -ESHUTDOWN;
    struct post *post = malloc(sizeof *post);
    if (!post)
        return -ENOMEM;
    *post = (struct post){{.run = post_run, .drop = post_drop}, fn, arg};
    int rc = naru__mail_send(loop, &post->mail);
    if (rc < 0)
        free(post);
    return rc;
}
