/* Where an optimizer's numbers are kept: a table of storages.  An optimizer reads and
 * writes floats; what is kept in fewer bits is expanded for STATE_CHUNK elements at a
 * time, updated and packed again while it lies in the cache, so that every optimizer has
 * every storage. */
#include "train/train.h"

static void load_bf16(const struct states *s, float *y, const struct state_at *at, int64_t n)
{
    (void)s;
    qtype_bf16.to_f32(y, (const uint16_t *)at->part[0] + at->first, n);
}

/* Which way a number is rounded depends on seed, step and place alone. */
static void store_bf16(const struct states *s, const struct state_at *at, const float *x, int64_t n)
{
    uint64_t block = (uint64_t)s->step << 32 | (uint64_t)(at->first / (STATE_DRAWS / 16));
    s->k->round16((uint16_t *)at->part[0] + at->first, x, n, s->seed,
                  rng_stream(RNG_STATE, at->stream), block);
}

static void load_8bit(const struct states *s, float *y, const struct state_at *at, int64_t n)
{
    s->k->unpack8(y, (const uint8_t *)at->part[0] + at->first,
                  (const float *)at->part[1] + at->first / STATE_BLOCK, s->level[at->plain], n);
}

static void store_8bit(const struct states *s, const struct state_at *at, const float *x, int64_t n)
{
    s->k->pack8((uint8_t *)at->part[0] + at->first,
                (float *)at->part[1] + at->first / STATE_BLOCK, x, n, at->plain);
}

static const struct storage f32 = { "f32", 32, { { "F32", 4, 1 } }, NULL, NULL };
static const struct storage bf16 = { "bf16", 16, { { "BF16", 2, 1 } }, load_bf16, store_bf16 };
static const struct storage eight = { "8bit", 8, { { "U8", 1, 1 }, { "F32", 4, STATE_BLOCK } },
                                      load_8bit, store_8bit };
static const struct storage *const storages[] = { &f32, &bf16, &eight, NULL };

const struct storage *storage_for(const char *name)
{
    for (int i = 0; storages[i]; i++)
        if (!strcmp(storages[i]->name, name)) return storages[i];
    return NULL;
}

/* Few numbers are not worth the trouble, and are the most delicate: biases, norms. */
const struct storage *storage_of(const struct storage *wish, int64_t n)
{
    return n < STATE_SMALL ? &f32 : wish;
}

int64_t storage_count(const struct storage_part *p, int64_t n)
{
    return p->type ? div_up(n, p->per) : 0;
}

static int64_t part_bytes(const struct storage_part *p, int64_t n)
{
    return div_up(storage_count(p, n) * p->bytes, 64) * 64;
}

int64_t storage_bytes(const struct storage *s, int64_t n)
{
    return part_bytes(&s->part[0], n) + part_bytes(&s->part[1], n);
}

void *state_part(const struct trainer *t, const struct trained *p, int k, int part)
{
    char *at = t->state[k] + p->state_at;
    return part ? at + part_bytes(&p->storage->part[0], p->n) : at;
}

/* --- the update: one pass over weights, gradients and states of all tensors */

struct update { struct trainer *t; struct hyper h; struct states s; };

/* Elements [from, to) of a tensor. */
static void update_tensor(const struct update *u, int64_t i, int64_t from, int64_t to)
{
    const struct trainer *t = u->t;
    const struct trained *p = &t->list[i];
    struct hyper h = u->h;
    struct state_at at[STATES];
    float buffer[STATES][STATE_CHUNK], *state[STATES];
    int fewer = p->storage->load != NULL, n_states = t->optimizer->states;
    h.decay = p->decay;
    h.lr *= p->p->lr_ratio > 0 ? p->p->lr_ratio : 1.0f;
    for (int k = 0; k < n_states; k++)
        at[k] = (struct state_at){ { state_part(t, p, k, 0), state_part(t, p, k, 1) }, 0,
                                   (uint32_t)(i * STATES + k), t->optimizer->plain >> k & 1 };
    for (int64_t n; from < to; from += n) {
        n = fewer ? MIN(to - from, STATE_CHUNK) : to - from;
        for (int k = 0; k < n_states; k++) {
            at[k].first = from;
            state[k] = fewer ? buffer[k] : (float *)at[k].part[0] + from;
            if (fewer) p->storage->load(&u->s, buffer[k], &at[k], n);
        }
        t->optimizer->step(u->s.k, p->p->own + from, t->grads + p->at + from, state, n, &h);
        for (int k = 0; k < n_states && fewer; k++) p->storage->store(&u->s, &at[k], buffer[k], n);
    }
}

/* Blocks [begin, end) of all tensors. */
static void update_blocks(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct update *u = arg;
    const struct trainer *t = u->t;
    int64_t i = 0, above = t->n_list;
    (void)worker;
    while (above - i > 1) {                 /* the last tensor that begins at or before it */
        int64_t middle = (i + above) / 2;
        if (t->list[middle].block <= begin) i = middle;
        else above = middle;
    }
    for (; i < t->n_list && t->list[i].block < end; i++) {
        const struct trained *p = &t->list[i];
        update_tensor(u, i, (MAX(begin, p->block) - p->block) * STATE_BLOCK,
                      MIN((end - p->block) * STATE_BLOCK, p->n));
    }
}

void states_update(struct trainer *t, const struct hyper *h)
{
    struct update u = { t, *h, { t->m->compute.k, { t->levels[0], t->levels[1] }, t->o.seed,
                                 t->step } };
    compute_rows(&t->m->compute, t->n_blocks, UPDATE_BLOCKS, update_blocks, &u);
}
