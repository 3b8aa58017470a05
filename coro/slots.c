/* Chunks of equal slots; the idea is told in slots.h. */
#include "coro/slots.h"

#include <stdlib.h>

void naru__slots_init(struct naru__slots *slots, const struct naru__slots_type *type, unsigned per_chunk)
{
    *slots = (struct naru__slots){.type = type, .per_chunk = per_chunk};
    naru__ring_init(&slots->partial);
    naru__ring_init(&slots->full);
}

static void to_front(naru_link *ring, struct naru__chunk *chunk)
{
    naru__unlink(&chunk->link);
    naru__ring_push(ring->next, &chunk->link);
}

static struct naru__chunk *add_chunk(struct naru__slots *slots)
{
    struct naru__chunk *chunk = calloc(1, sizeof *chunk);
    if (!chunk)
        return NULL;
    chunk->owner = slots;
    chunk->memory = slots->type->map(slots);
    if (!chunk->memory) {
        free(chunk);
        return NULL;
    }
    naru__ring_push(&slots->partial, &chunk->link);
    slots->chunks++;
    slots->empty_chunks++;
    return chunk;
}

static void remove_chunk(struct naru__chunk *chunk)
{
    struct naru__slots *slots = chunk->owner;
    naru__unlink(&chunk->link);
    if (slots->type->uncarve)
        for (struct naru__slot *slot = chunk->free; slot; slot = slot->next_free)
            slots->type->uncarve(slots, slot);
    slots->type->unmap(slots, chunk->memory);
    slots->chunks--;
    if (chunk->used == 0)
        slots->empty_chunks--;
    free(chunk);
}

static struct naru__slot *carve(struct naru__chunk *chunk)
{
    struct naru__slots *slots = chunk->owner;
    struct naru__slot *slot = slots->type->carve(slots, chunk->memory, chunk->carved);
    if (!slot) {
        if (chunk->used == 0)
            remove_chunk(chunk);
        return NULL;
    }
    slot->chunk = chunk;
    chunk->carved++;
    return slot;
}

struct naru__slot *naru__slots_take_slowly(struct naru__slots *slots)
{
    struct naru__chunk *chunk = naru__container(slots->partial.next, struct naru__chunk, link);
    if (naru__ring_empty(&slots->partial) && !(chunk = add_chunk(slots)))
        return NULL;
    struct naru__slot *slot = chunk->free;
    if (slot)
        chunk->free = slot->next_free;
    else if (!(slot = carve(chunk)))
        return NULL;
    if (chunk->used++ == 0)
        slots->empty_chunks--;
    if (chunk->used == slots->per_chunk)
        to_front(&slots->full, chunk);
    return slot;
}

void naru__slots_give(struct naru__slot *slot)
{
    struct naru__chunk *chunk = slot->chunk;
    struct naru__slots *slots = chunk->owner;
    slot->next_free = chunk->free;
    chunk->free = slot;
    if (slots->partial.next != &chunk->link)
        to_front(&slots->partial, chunk);
    if (--chunk->used == 0)
        slots->empty_chunks++;
}

void naru__slots_trim_now(struct naru__slots *slots)
{
    naru_link *link = slots->partial.prev;
    while (slots->empty_chunks > 1 + (slots->chunks - slots->empty_chunks) / 4) {
        struct naru__chunk *chunk = naru__container(link, struct naru__chunk, link);
        link = link->prev;
        if (chunk->used == 0)
            remove_chunk(chunk);
    }
}

void naru__slots_close(struct naru__slots *slots)
{
    naru_link *rings[] = {&slots->partial, &slots->full};
    for (int i = 0; i < 2; i++)
        while (!naru__ring_empty(rings[i]))
            remove_chunk(naru__container(rings[i]->next, struct naru__chunk, link));
}
