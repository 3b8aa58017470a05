/* Stacks for tasks and coroutines: sizes, guard pages, and the struct at the top of each. */
#ifndef NARU_CORO_STACK_H
#define NARU_CORO_STACK_H

#include "coro/context.h"
#include "coro/slots.h"

/* The header of a stack, at its upper end, beside the frames that are used first: one page for both. */
struct naru__stack {
    struct naru__slot slot;
    naru__context context;      /* sp is NULL as long as it was never prepared */
    struct naru__stacks *owner; /* NULL: mapped alone */
    char *mapping;              /* the slot's lowest address: where the guard page is, if there is one */
    size_t mapped;
};

/* All stacks of one size. */
struct naru__stacks {
    struct naru__slots slots;
    struct naru__stacks *next;
    size_t size;   /* bytes per slot, header included, guard not */
    size_t stride; /* from one slot to the next */
    bool dense;
    int error; /* why the last carve failed */
};

enum naru__stack_limits {
    NARU__STACK_DEFAULT = 64 * 1024,
    NARU__STACK_SMALLEST = 16 * 1024,
    NARU__STACK_DENSE = 1984,
    NARU__STACK_LARGEST = 1 << 30,
};

size_t naru__stack_round(size_t size,
                         bool dense); /* 0 means the default; 0 comes back for one that is too large */
void naru__stacks_init(struct naru__stacks *stacks, size_t rounded_size, bool dense);

/* NULL: no memory, or no mapping left for its guard page; stacks->error says which: -ENOMEM or -EMLINK. */
static inline struct naru__stack *naru__stack_take(struct naru__stacks *stacks)
{
    struct naru__slot *slot = naru__slots_take(&stacks->slots);
    return slot ? naru__container(slot, struct naru__stack, slot) : NULL;
}

static inline void naru__stack_give(struct naru__stack *stack)
{
    naru__slots_give(&stack->slot);
}

/* One by itself, for coroutines without a loop. */
struct naru__stack *naru__stack_map(size_t size);
void naru__stack_unmap(struct naru__stack *stack);

size_t naru__stack_guard_size(void);

/* A dense stack has no guard page but a word at its end that nobody may overwrite. */
bool naru__stack_overrun(const struct naru__stack *stack);

#endif
