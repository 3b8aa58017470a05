/* Where stacks come from.
 *
 * A guarded stack is a slot of a large mapping with an inaccessible page below it, so that an overflow faults instead
 * of writing into a neighbour. Since Linux 6.13 MADV_GUARD_INSTALL does that inside one mapping; before, mprotect has to
 * split the mapping for each stack, and a process may have only vm.max_map_count (65,530) of them. The stride
 * from stack to stack is an odd number of pages, and each stack begins a different number of cache lines below
 * its end: otherwise all stacks would compete for the same few sets of the caches and of the TLB.
 *
 * Memory is only reserved. A page is real when it is first touched, so an idle task costs the one page at the top that
 * holds its frames and the stack's header; huge pages would spoil that and are turned off.
 *
 * A dense stack is the opposite trade: about 2 KiB, no guard, packed into huge pages on purpose. A page fault per
 * 2 MiB instead of one per task makes a million tasks several times cheaper to start. A canary at the end catches an
 * overflow after the fact. So little room is enough for naru's own calls; printf or a signal handler that does
 * not run on an alternate stack may need more. */
#include "coro/stack.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* asm-generic/mman-common.h, since Linux 6.13 */
#endif

enum { CHUNK_BYTES = 4 << 20, HUGE_PAGE = 2 << 20, COLOURS = 16, COLOUR_STEP = 64 };
static const uint64_t CANARY = 0x6e617275206c616e; /* a value that no pointer and no small number has */

#if defined(NARU__CONTEXT_ASAN)
enum { SANITIZER_FACTOR = 4 }; /* red zones around every variable */
#elif defined(NARU__CONTEXT_TSAN)
enum { SANITIZER_FACTOR = 2 };
#else
enum { SANITIZER_FACTOR = 1 };
#endif

size_t naru__stack_guard_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

size_t naru__stack_round(size_t size, bool dense)
{
    if (size > NARU__STACK_LARGEST)
        return 0;
    if (dense) {
        size_t wanted = size ? size : NARU__STACK_DENSE;
        return (wanted < NARU__STACK_DENSE ? NARU__STACK_DENSE : wanted + 63) & ~(size_t)63;
    }
    size_t wanted = (size ? size : NARU__STACK_DEFAULT) * SANITIZER_FACTOR;
    size_t rounded = NARU__STACK_SMALLEST;
    while (rounded < wanted) /* powers of two, so that there are few different sizes */
        rounded *= 2;
    return rounded;
}

/* ---- one stack's header ---- */

static struct naru__stack *make_header(char *mapping, size_t guard, size_t size, unsigned colour)
{
    size_t offset = guard + size - sizeof(struct naru__stack) - colour * COLOUR_STEP;
    struct naru__stack *stack = (struct naru__stack *)(void *)(mapping + (offset & ~(size_t)63));
    *stack = (struct naru__stack){.mapping = mapping, .mapped = guard + size};
    stack->context.low = mapping + guard;
    stack->context.size = (size_t)((char *)stack - mapping) - guard;
    return stack;
}

/* ---- guarded ---- */

static int guard_page(char *page, size_t size)
{
    static atomic_bool kernel_lacks_guards;
    if (!atomic_load_explicit(&kernel_lacks_guards, memory_order_relaxed)) {
        if (madvise(page, size, MADV_GUARD_INSTALL) == 0)
            return 0;
        if (errno != EINVAL)
            return -errno;
        atomic_store_explicit(&kernel_lacks_guards, true, memory_order_relaxed);
    }
    if (mprotect(page, size, PROT_NONE) == 0)
        return 0;
    return errno == ENOMEM ? -EMLINK : -errno;
}

static void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static size_t chunk_size(const struct naru__slots *slots)
{
    const struct naru__stacks *stacks = naru__container(slots, const struct naru__stacks, slots);
    return stacks->dense ? (size_t)HUGE_PAGE : stacks->stride * slots->per_chunk;
}

static char *map_guarded(struct naru__slots *slots)
{
    struct naru__stacks *stacks = naru__container(slots, struct naru__stacks, slots);
    char *memory = map(chunk_size(slots));
    stacks->error = memory ? 0 : -ENOMEM;
    if (memory)
        madvise(memory, chunk_size(slots), MADV_NOHUGEPAGE);
    return memory;
}

static void unmap_chunk(struct naru__slots *slots, char *memory)
{
    munmap(memory, chunk_size(slots));
}

static struct naru__slot *carve_guarded(struct naru__slots *slots, char *memory, unsigned index)
{
    struct naru__stacks *stacks = naru__container(slots, struct naru__stacks, slots);
    char *mapping = memory + stacks->stride * index;
    size_t guard = naru__stack_guard_size();
    stacks->error = guard_page(mapping, guard);
    if (stacks->error < 0)
        return NULL;
    struct naru__stack *stack = make_header(mapping, guard, stacks->size, index % COLOURS);
    stack->owner = stacks;
    return &stack->slot;
}

static void discard(struct naru__slots *slots, struct naru__slot *slot)
{
    (void)slots;
    naru__context_discard(&naru__container(slot, struct naru__stack, slot)->context);
}

static const struct naru__slots_type guarded = {map_guarded, unmap_chunk, carve_guarded, discard};

/* ---- dense ---- */

/* A huge page must be aligned like one: map twice as much and give back the ends. */
static char *map_dense(struct naru__slots *slots)
{
    struct naru__stacks *stacks = naru__container(slots, struct naru__stacks, slots);
    char *memory = map(2 * (size_t)HUGE_PAGE);
    stacks->error = memory ? 0 : -ENOMEM;
    if (!memory)
        return NULL;
    size_t before = -(uintptr_t)memory & (HUGE_PAGE - 1);
    if (before > 0)
        munmap(memory, before);
    munmap(memory + before + HUGE_PAGE, HUGE_PAGE - before);
    madvise(memory + before, HUGE_PAGE, MADV_HUGEPAGE);
    return memory + before;
}

static struct naru__slot *carve_dense(struct naru__slots *slots, char *memory, unsigned index)
{
    struct naru__stacks *stacks = naru__container(slots, struct naru__stacks, slots);
    char *mapping = memory + stacks->stride * index;
    struct naru__stack *stack = make_header(mapping, sizeof CANARY, stacks->size - sizeof CANARY, 0);
    *(uint64_t *)(void *)mapping = CANARY;
    stack->owner = stacks;
    return &stack->slot;
}

static const struct naru__slots_type dense = {map_dense, unmap_chunk, carve_dense, discard};

bool naru__stack_overrun(const struct naru__stack *stack)
{
    return *(const uint64_t *)(const void *)stack->mapping != CANARY;
}

/* ---- taking and giving ---- */

void naru__stacks_init(struct naru__stacks *stacks, size_t rounded_size, bool is_dense)
{
    size_t guard = naru__stack_guard_size();
    stacks->size = rounded_size;
    stacks->dense = is_dense;
    stacks->stride = is_dense ? rounded_size : rounded_size + guard;
    size_t count = is_dense ? HUGE_PAGE / stacks->stride : CHUNK_BYTES / stacks->stride;
    naru__slots_init(&stacks->slots, is_dense ? &dense : &guarded, count > 0 ? (unsigned)count : 1);
}

struct naru__stack *naru__stack_map(size_t size)
{
    size_t guard = naru__stack_guard_size();
    size_t rounded = naru__stack_round(size, false);
    if (rounded == 0)
        return NULL;
    char *memory = map(guard + rounded);
    if (!memory)
        return NULL;
    madvise(memory, guard + rounded, MADV_NOHUGEPAGE);
    if (guard_page(memory, guard) < 0) {
        munmap(memory, guard + rounded);
        return NULL;
    }
    return make_header(memory, guard, rounded, 0);
}

void naru__stack_unmap(struct naru__stack *stack)
{
    naru__context_discard(&stack->context);
    munmap(stack->mapping, stack->mapped);
}
