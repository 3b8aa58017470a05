/* Task locals: variables with a value per task.
 *
 * A task's values are a small array of (key, value) pairs. A new task shares its creator's array, which costs a counter;
 * whoever sets a value while the array is shared gets a copy of it first. So spawning never copies, reading is a
 * short search, and what one task sets no other sees. */
#include "coro/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct pair {
    const naru_local *key;
    void *value;
};

struct naru__locals {
    unsigned refs;
    unsigned count, room;
    struct pair pairs[];
};

struct naru__locals *naru__locals_share(struct naru__locals *locals)
{
    locals->refs++;
    return locals;
}

void naru__locals_drop(struct naru__locals *locals)
{
    if (locals && --locals->refs == 0)
        free(locals);
}

/* The running task's, else the loop's own; NULL outside a run. */
static struct naru__locals **mine(void)
{
    struct naru__core *core = naru__here;
    struct naru__scheduler *s = core ? naru__scheduler_of(core) : NULL;
    if (!s)
        return NULL;
    return s->current ? &s->current->locals : &s->locals;
}

static struct pair *find(struct naru__locals *locals, const naru_local *key)
{
    for (unsigned i = 0; locals && i < locals->count; i++)
        if (locals->pairs[i].key == key)
            return &locals->pairs[i];
    return NULL;
}

void *naru_local_get(const naru_local *key)
{
    if (!key)
        return NULL;
    struct naru__locals **locals = mine();
    struct pair *pair = locals ? find(*locals, key) : NULL;
    return pair ? pair->value : key->initial;
}

/* Makes *locals one that nobody shares and that has room for one more pair. */
static int make_writable(struct naru__locals **locals)
{
    struct naru__locals *old = *locals;
    unsigned count = old ? old->count : 0;
    if (old && old->refs == 1 && count < old->room)
        return 0;
    unsigned room = count < 4 ? 4 : 2 * count;
    struct naru__locals *copy = malloc(sizeof *copy + room * sizeof(struct pair));
    if (!copy)
        return -ENOMEM;
    copy->refs = 1;
    copy->count = count;
    copy->room = room;
    if (old)
        memcpy(copy->pairs, old->pairs, count * sizeof(struct pair));
    naru__locals_drop(old);
    *locals = copy;
    return 0;
}

int naru_local_set(const naru_local *key, void *value)
{
    struct naru__locals **locals = mine();
    if (!locals)
        return -EPERM;
    int rc = make_writable(locals);
    if (rc < 0)
        return rc;
    struct pair *pair = find(*locals, key);
    if (!pair) {
        pair = &(*locals)->pairs[(*locals)->count++];
        pair->key = key;
    }
    pair->value = value;
    return 0;
}
