/* The one list of the project: a ring of links around a head.
 *
 * A ring is circular and doubly linked, and its head is a link like any other. So taking an element out needs no head,
 * no search and no special case at the ends: that is what makes cancelling anything, anywhere, O(1). A link
 * outside any ring has next == NULL, which is how "is it still waiting?" is asked of callbacks and timers. */
#ifndef NARU_REACTOR_LIST_H
#define NARU_REACTOR_LIST_H

#include <assert.h>
#include <naru/reactor.h>

#define naru__container(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void naru__ring_init(naru_link *head)
{
    head->next = head->prev = head;
}

static inline bool naru__ring_empty(const naru_link *head)
{
    return head->next == head;
}

static inline bool naru__linked(const naru_link *link)
{
    return link->next != NULL;
}

/* Puts link last. It must not be in a ring. */
static inline void naru__ring_push(naru_link *head, naru_link *link)
{
    naru_link *last = head->prev;
    link->next = head;
    link->prev = last;
    last->next = link;
    head->prev = link;
}

/* Takes link out of the ring it is in. */
static inline void naru__unlink(naru_link *link)
{
    assert(naru__linked(link));
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = NULL;
}

/* Takes the first out of a ring that has one. */
static inline void naru__ring_drop_first(naru_link *head, naru_link *first)
{
    naru_link *second = first->next;
    head->next = second;
    second->prev = head;
    first->next = NULL;
}

/* Moves all of a ring that is not empty to one that is. */
static inline void naru__ring_move(naru_link *empty, naru_link *from)
{
    naru_link *first = from->next, *last = from->prev;
    empty->next = first;
    first->prev = empty;
    empty->prev = last;
    last->next = empty;
    naru__ring_init(from);
}

static inline naru_link *naru__ring_pop(naru_link *head)
{
    naru_link *first = head->next;
    if (first == head)
        return NULL;
    naru__unlink(first);
    return first;
}

/* Moves all of from to the end of head, keeping the order. */
static inline void naru__ring_append(naru_link *head, naru_link *from)
{
    if (naru__ring_empty(from))
        return;
    head->prev->next = from->next;
    from->next->prev = head->prev;
    from->prev->next = head;
    head->prev = from->prev;
    naru__ring_init(from);
}

#endif
