/* Chunks of equal slots; the idea is told in slots.h. */
#include "coro/slots.h"

#include <stdlib.h>

void naru__slots_init(struct naru__slots *slots, const struct naru__slots_type *type, unsigned per_chunk)
{
    *slots = (struct naru__slots){.type = type, .per_chunk = per_chunk};
    naru__ring_init(&slots->partial);
    naru__ring_init(&slots->empty);
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
    return chunk;
}

static struct naru__chunk *chunk_with_room(struct naru__slots *slots)
{
    if (!naru__ring_empty(&slots->partial))
        return naru__container(slots->partial.next, struct naru__chunk, link);
    if (naru__ring_empty(&slots->empty))
        return add_chunk(slots);
    struct naru__chunk *chunk = naru__container(slots->empty.next, struct naru__chunk, link);
    to_front(&slots->partial, chunk);
    slots->empty_chunks--;
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
    free(chunk);
}

struct naru__slot *naru__slots_take(struct naru__slots *slots)
{
    struct naru__chunk *chunk = chunk_with_room(slots);
    if (!chunk)
        return NULL;
    struct naru__slot *slot = chunk->free;
    if (slot) {
        chunk->free = slot->next_free;
    } else {
        slot = slots->type->carve(slots, chunk->memory, chunk->carved);
        if (!slot) {
            if (chunk->used == 0)
                remove_chunk(chunk);
            return NULL;
        }
        slot->chunk = chunk;
        chunk->carved++;
    }
    if (++chunk->used == slots->per_chunk)
        to_front(&slots->full, chunk);
    return slot;
}

void naru__slots_give(struct naru__slot *slot)
{
    struct naru__chunk *chunk = slot->chunk;
    struct naru__slots *slots = chunk->owner;
    slot->next_free = chunk->free;
    chunk->free = slot;
    if (--chunk->used == 0) {
        to_front(&slots->empty, chunk);
        slots->empty_chunks++;
    } else if (slots->partial.next != &chunk->link) {
        to_front(&slots->partial, chunk);
    }
}

void naru__slots_trim_now(struct naru__slots *slots)
{
    while (slots->empty_chunks > 1 + (slots->chunks - slots->empty_chunks) / 4) {
        remove_chunk(naru__container(slots->empty.prev, struct naru__chunk, link));
        slots->empty_chunks--;
    }
}

void naru__slots_close(struct naru__slots *slots)
{
    naru_link *rings[] = {&slots->partial, &slots->empty, &slots->full};
    for (int i = 0; i < 3; i++)
        while (!naru__ring_empty(rings[i]))
            remove_chunk(naru__container(rings[i]->next, struct naru__chunk, link));
}
