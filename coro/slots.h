/* Many equal pieces of memory: task blocks and stacks.
 *
 * Slots are carved from chunks that the owner maps. Freed ones are used again last in first out, while they are warm, and
 * taken from one chunk as long as it has any, so that other chunks run empty and can be given back to the system.
 * Giving back happens only in naru__slots_trim, which the loop calls between rounds, never in naru__slots_give: a
 * task that ends gives its stack away while it still stands on it. */
#ifndef NARU_CORO_SLOTS_H
#define NARU_CORO_SLOTS_H

#include "reactor/list.h"

struct naru__chunk {
    naru_link link; /* in slots->partial or slots->full */
    struct naru__slots *owner;
    char *memory;
    struct naru__slot *free;
    unsigned carved; /* slots handed out at least once are [0, carved) */
    unsigned used;
};

/* Stands somewhere in each slot; where is the owner's choice. */
struct naru__slot {
    struct naru__chunk *chunk;
    struct naru__slot *next_free;
};

struct naru__slots_type {
    char *(*map)(struct naru__slots *slots); /* memory for per_chunk slots; NULL: none */
    void (*unmap)(struct naru__slots *slots, char *memory);
    struct naru__slot *(*carve)(struct naru__slots *slots, char *memory,
                                unsigned index);                         /* NULL: it failed */
    void (*uncarve)(struct naru__slots *slots, struct naru__slot *slot); /* before unmap; may be NULL */
};

struct naru__slots {
    const struct naru__slots_type *type;
    unsigned per_chunk;
    unsigned chunks, empty_chunks; /* empty ones are among the partial */
    naru_link partial, full;       /* partial: the one used last comes first */
};

void naru__slots_init(struct naru__slots *slots, const struct naru__slots_type *type, unsigned per_chunk);
struct naru__slot *naru__slots_take_slowly(struct naru__slots *slots);
void naru__slots_give(struct naru__slot *slot);
void naru__slots_trim_now(struct naru__slots *slots);
void naru__slots_close(struct naru__slots *slots); /* whatever is still in use goes too */

/* NULL: no memory. */
static inline struct naru__slot *naru__slots_take(struct naru__slots *slots)
{
    struct naru__chunk *chunk = naru__container(slots->partial.next, struct naru__chunk, link);
    if (naru__ring_empty(&slots->partial) || !chunk->free || chunk->used == 0 ||
        chunk->used + 1 == slots->per_chunk)
        return naru__slots_take_slowly(slots); /* a chunk begins to be used, or is used up */
    struct naru__slot *slot = chunk->free;
    chunk->free = slot->next_free;
    chunk->used++;
    return slot;
}

/* Keeps one empty chunk, and one for every four in use, so that a load that swings does not map and unmap all the time. */
static inline void naru__slots_trim(struct naru__slots *slots)
{
    if (slots->empty_chunks > 1)
        naru__slots_trim_now(slots);
}

#endif
