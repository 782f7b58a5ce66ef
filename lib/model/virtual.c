/* Virtual tokens: what an adapter puts before every text, as rows of embeddings
 * (Lester et al. 2021) or as keys and values in every layer (Li & Liang 2021).
 * The text's own tokens follow them, so their positions begin at n.
 *
 * Rows: the stack works on more rows than the batch has, [v0..vn, text 0, v0..vn,
 * text 1, ...], and virtual_real takes the batch's own out of its result.
 * Keys: only attention knows, whose keys are in that order instead.
 * With a cache they are put there with the first token. */
#include "model/model.h"

const struct adapted *model_virtual(const struct model *m)
{
    for (const struct adapter *a = m->adapters; a; a = a->next)
        if (a->enabled && a->method->virtual) return a->sites;
    return NULL;
}

int64_t model_virtual_tokens(const struct model *m)
{
    const struct adapted *d = model_virtual(m);
    return d ? d->rank : 0;
}

static int stack_with(const struct model *m, const struct adapted *d)
{
    int encoder = d->method->virtual == VIRTUAL_ROWS && m->stack[STACK_ENCODER].end;
    return encoder ? STACK_ENCODER : STACK_MAIN;
}

int64_t virtual_before(const struct model *m, int stack)
{
    const struct adapted *d = model_virtual(m);
    return d && stack_with(m, d) == stack ? d->rank : 0;
}

int64_t model_room(const struct model *m) { return m->hp.room - model_virtual_tokens(m); }

int64_t model_longest(const struct model *m) { return MIN(m->hp.max_len, model_room(m)); }

int model_fits(const struct model *m, int64_t tokens)
{
    int64_t n = model_virtual_tokens(m);
    if (!n || tokens <= model_room(m)) return PEFT_OK;
    return fail(PEFT_EARG, "texts of up to %lld tokens, expected at most %lld (max_len): the model "
                "has room for %lld, of which %lld are virtual", (long long)tokens,
                (long long)model_room(m), (long long)m->hp.room, (long long)n);
}

/* The adapter with virtual tokens that acts on all texts of the pass; NULL = none. */
static int find_acting(const struct pass *p, const struct adapted **out)
{
    const struct adapted *enabled = model_virtual(p->m);
    *out = enabled;
    for (int64_t s = 0; p->acts && s < p->n_seq; s++) {
        const struct adapter *a = p->acts[s];
        const struct adapted *d = a && a != &adapter_base && a->method->virtual ? a->sites : NULL;
        if (!a) d = enabled;
        if (!s) *out = d;
        if (d == *out && (!d || (d == enabled && a == p->acts[0]))) continue;
        return fail(PEFT_EUNSUPPORTED, "\"%s\" has virtual tokens, which all texts of a batch have "
                    "or none: expected it enabled for all", (d ? d : *out)->adapter->name);
    }
    return PEFT_OK;
}

/* So many virtual tokens are put before a sequence in this pass. */
static int64_t put_before(const struct pass *p, int64_t seq)
{
    const struct virtual_rows *v = &p->virtual;
    int which = seq < p->n_source ? STACK_ENCODER : STACK_MAIN;
    int began = p->cache && which == STACK_MAIN && p->past[seq - p->n_source];
    return which == v->stack && !began ? v->tokens : 0;
}

/* Where the rows of each text are among all, and what stands before them. */
static void place_rows(struct pass *p, int32_t *at)
{
    struct virtual_rows *v = &p->virtual;
    int32_t *pos = at, *types = pos + p->all.n, *start = types + p->all.n;
    int32_t *real = start + p->n_seq + 1, next = 0;
    for (int64_t s = 0; s < p->n_seq; s++) {
        int here = (s < p->n_source ? STACK_ENCODER : STACK_MAIN) == v->stack;
        int64_t put = v->how == VIRTUAL_ROWS ? put_before(p, s) : 0;
        start[s] = next;
        for (int32_t k = 0; k < put; k++, next++) {
            pos[next] = k;
            types[next] = 0;
        }
        for (int32_t i = p->start[s]; i < p->start[s + 1]; i++, next++) {
            pos[next] = p->pos[i] + (int32_t)(here ? v->tokens : 0);
            types[next] = p->types ? p->types[i] : 0;
            real[i] = next;
        }
    }
    start[p->n_seq] = next;
    p->all.pos = pos;
    p->all.types = types;
    p->all.start = start;
    v->real = real;
}

/* Of the stack's sequences [first, end): the tokens, then the sequence's own rows,
 * which stand behind `tokens` rows; and their places in the cache. */
static void fill_index(struct pass *p, int64_t first, int64_t end, int64_t tokens, int32_t *index)
{
    struct virtual_rows *v = &p->virtual;
    int32_t *place = index + v->n;
    int cached = p->cache && v->stack == STACK_MAIN;
    v->index = index;
    v->place = place;
    for (int64_t s = first; s < end; s++) {
        int64_t put = put_before(p, s), own = p->start[s + 1] - p->start[s];
        int64_t row = cached ? p->first_row[s - p->n_source] : 0;
        if (cached && !put) row += p->past[s - p->n_source] + v->tokens;
        for (int64_t k = 0; k < put; k++) *index++ = (int32_t)k;
        for (int64_t i = 0; i < own; i++)
            *index++ = (int32_t)(tokens + p->start[s] - p->start[first] + i);
        for (int64_t k = 0; k < put + own; k++) *place++ = (int32_t)(row + k);
    }
}

int virtual_begin(struct pass *p)
{
    const struct adapted *d;
    struct virtual_rows *v = &p->virtual;
    int rc = find_acting(p, &d);
    if (rc) return rc;
    *v = (struct virtual_rows){ .tokens = d ? d->rank : 0 };
    p->all.n = p->n;
    p->all.reach = p->reach ? p->reach + v->tokens : 0;
    p->all.pos = p->pos;
    p->all.types = p->types;
    p->all.start = p->start;
    p->wide = NULL;
    for (int64_t s = 0; s < p->n_seq; s++) {
        int64_t past = p->cache && s >= p->n_source ? p->past[s - p->n_source] : 0;
        p->all.reach = MAX(p->all.reach, p->start[s + 1] - p->start[s] + past + v->tokens);
    }
    if (!d) return PEFT_OK;
    v->how = d->method->virtual;
    v->stack = stack_with(p->m, d);
    int64_t first = v->stack == STACK_MAIN ? p->n_source : 0, put = 0;
    int64_t end = v->stack == STACK_MAIN ? p->n_seq : p->n_source;
    for (int64_t s = first; s < end; s++) put += put_before(p, s);
    int64_t own = p->start[end] - p->start[first], room = 3 * p->n + 4 * (put + own) + p->n_seq + 1;
    if (room > INT32_MAX)
        return fail(PEFT_EARG, "%lld virtual tokens for %lld texts are too many",
                    (long long)v->tokens, (long long)p->n_seq);
    int32_t *at = pass_mem_virtual(p->mem, room);
    if (!at) return PEFT_ENOMEM;
    if (v->how == VIRTUAL_ROWS) p->all.n += put;
    place_rows(p, at);
    if (!put) return PEFT_OK;
    v->by = d;
    v->n = own + put;
    v->real += p->start[first];
    v->real_n = own;
    fill_index(p, first, end, v->how == VIRTUAL_ROWS ? d->part[0]->rows : v->tokens,
               at + 2 * p->all.n + p->n_seq + 1 + p->n);
    return PEFT_OK;
}

static int acts(const struct pass *p, const struct stream *s, int how)
{
    const struct virtual_rows *v = &p->virtual;
    return v->by && s == &p->stream[v->stack] && v->how == how;
}

const int32_t *virtual_places(const struct pass *p, const struct stream *s)
{
    return acts(p, s, VIRTUAL_KEYS) ? p->virtual.place : s->self;
}

struct tensor *virtual_embed(struct pass *p, const struct stream *s, struct tensor *x)
{
    struct virtual_rows *v = &p->virtual;
    if (acts(p, s, VIRTUAL_KEYS)) v->x = v->by->adapter->method->tokens(p, v->by);
    if (!acts(p, s, VIRTUAL_ROWS)) return x;
    v->x = v->by->adapter->method->tokens(p, v->by);
    return g_rows(p->g, g_concat_rows(p->g, v->x, x), v->index, v->n);
}

/* PEFT repeats the layers of an encoder-decoder model for its cross attention, which
 * does not use them: layer i has the pair 2 i, beginning again at the end. */
struct tensor *virtual_keys(struct pass *p, const struct stream *s, int64_t layer, int part,
                            struct tensor *x)
{
    const struct virtual_rows *v = &p->virtual;
    if (!x || !acts(p, s, VIRTUAL_KEYS)) return x;
    const struct adapter *a = v->by->adapter;
    int64_t pair = layer * a->virtual.stacks % a->virtual.layers;
    struct tensor *y = g_slice_cols(p->g, v->x, (2 * pair + part) * x->cols, x->cols);
    return g_rows(p->g, g_concat_rows(p->g, y, x), v->index, v->n);
}

struct tensor *virtual_real(struct pass *p, struct tensor *x)
{
    if (!acts(p, &p->stream[STACK_MAIN], VIRTUAL_ROWS)) return x;
    p->wide = x;
    return g_rows(p->g, x, p->virtual.real, p->virtual.real_n);
}
