/* Generation: prompt in chunks through the cache, then token by token;
 * sampling; streaming of whole UTF-8 text with stop strings held back.  An
 * encoder runs once, with the first chunk, and leaves its keys and values. */
#include <math.h>
#include <stdlib.h>

#include "model/generate.h"

enum { CHUNK = 512 };

/* --- running the model */

int gen_make_cache(struct gen *g)
{
    struct model *m = g->m;
    struct mem *mem = &m->host.mem;
    int64_t each, source, all;
    g->layers = m->stack[STACK_MAIN].end - m->stack[STACK_MAIN].first;
    g->width = m->hp.kv_heads * m->hp.head_dim;
    g->virtual = model_virtual(m);
    g->n_cross = g->n_source ? g->n_source + virtual_before(m, STACK_ENCODER) : 0;
    if (g->rows > INT32_MAX || !mul_ok(g->rows, g->width, &each) ||
        !mul_ok(g->n_cross, g->width, &source) || !add_ok(each, source, &all) ||
        !mul_ok(all, 8 * g->layers, &all))
        return fail(PEFT_EARG, "a context of %lld is too long", (long long)g->rows);
    int rc = model_graph_and(m, all);
    if (rc) return rc;
    g->cache = mem_array(mem, 2 * g->layers, sizeof(*g->cache));
    g->memory = mem_alloc(mem, all);
    g->order = mem_array(mem, m->hp.vocab, sizeof(*g->order));
    if (!g->cache || !g->memory || !g->order) return PEFT_ENOMEM;
    g->cross = g->cache + g->layers;
    for (int64_t i = 0; i < g->layers; i++) {
        float *from = g->memory + 2 * i * (each + source);
        g->cache[i] = (struct kv_cache){ from, from + each };
        g->cross[i] = (struct kv_cache){ from + 2 * each, from + 2 * each + source };
    }
    return PEFT_OK;
}

int gen_goes_on(const struct gen *g)
{
    if (model_virtual(g->m) == g->virtual) return PEFT_OK;
    return fail(PEFT_ESTATE, "virtual tokens came or went within an answer, which begins with "
                "them: expected such adapters enabled and disabled between answers");
}

/* What all passes have in common. */
static struct pass new_pass(const struct gen *g)
{
    return (struct pass){ .m = g->m, .g = g->m->graph, .mem = g->m->mem, .cache = g->cache,
                          .room = g->rows, .acts = g->acts[0] ? g->acts : NULL,
                          .cross = g->n_source ? g->cross : NULL,
                          .n_cross = g->n_cross, .length = g->n };
}

/* Tokens [at, at + n), before the first an encoder's text; *logits of the last
 * one, unless logits is NULL. */
static int advance(struct gen *g, int64_t at, int64_t n, float **logits)
{
    int64_t source = at ? 0 : g->n_source, from = g->n_source - source + at;
    int32_t starts[3] = { 0, (int32_t)source, (int32_t)(source + n) }, last = (int32_t)(n - 1);
    int32_t first_row = (int32_t)g->row, past = (int32_t)at;
    struct pass p = new_pass(g);
    p.first_row = &first_row;
    p.past = &past;
    p.n = source + n;
    p.n_source = source > 0;
    p.n_seq = 1 + p.n_source;
    p.ids = g->tokens + from;
    p.pos = g->pos + from;
    p.start = starts + !source;
    int rc = gen_goes_on(g);
    if (!rc) rc = pass_begin(&p);
    if (rc) return rc;
    struct tensor *y = g_rows(p.g, model_hidden(&p), &last, 1);
    if (logits) y = model_logits(&p, y);
    if (y) graph_keep(y);
    rc = graph_forward(p.g);
    if (!rc && logits) *logits = y->x;
    return rc;
}

int gen_catch_up(struct gen *g, int64_t at, float **logits)
{
    int rc = PEFT_OK;
    for (; at < g->n && !rc; at += CHUNK)
        rc = advance(g, at, MIN(CHUNK, g->n - at), at + CHUNK >= g->n ? logits : NULL);
    return rc;
}

/* The caches of all beams anew, for other frequencies. */
static int refill_beams(struct gen *g, int64_t n, const int32_t *run)
{
    int rc = PEFT_OK;
    g->n = n;
    for (int64_t b = 0; b < g->beams && !rc; b++) {
        memcpy(g->tokens + g->n_source, run + b * g->cap, (size_t)n * sizeof(*run));
        g->row = b * g->each;
        rc = gen_catch_up(g, 0, NULL);
    }
    g->row = 0;
    return rc;
}

int gen_advance_beams(struct gen *g, int64_t at, const int32_t *run, float **logits)
{
    int32_t start[PEFT_BEAMS_MAX + 1], pos[PEFT_BEAMS_MAX], ids[PEFT_BEAMS_MAX];
    int32_t first_row[PEFT_BEAMS_MAX];
    int rc = gen_goes_on(g);
    if (!rc && rope_switches(g->m, at + 1)) rc = refill_beams(g, at, run);
    g->n = at + 1;
    struct pass p = new_pass(g);
    for (int64_t b = 0; b <= g->beams; b++) start[b] = (int32_t)b;
    for (int64_t b = 0; b < g->beams; b++) {
        pos[b] = (int32_t)at;
        first_row[b] = (int32_t)(b * g->each);
        ids[b] = run[b * g->cap + at];
    }
    p.n = p.n_seq = g->beams;
    p.ids = ids;
    p.pos = pos;
    p.start = start;
    p.first_row = first_row;
    p.past = pos;
    if (!rc) rc = pass_begin(&p);
    if (rc) return rc;
    struct tensor *y = model_logits(&p, model_hidden(&p));
    if (y) graph_keep(y);
    rc = graph_forward(p.g);
    if (!rc) *logits = y->x;
    return rc;
}

/* --- sampling */

static int by_p(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->p != y->p) return x->p < y->p ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

void gen_penalise(const struct gen *g, const int32_t *seen, int64_t n, float *z)
{
    float r = g->o->repeat_penalty;
    if (r <= 0 || r == 1) return;
    for (int64_t i = 0; i < g->m->hp.vocab; i++) g->order[i].id = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t id = seen[i];
        if (g->order[id].id) continue;
        g->order[id].id = 1;
        z[id] = z[id] > 0 ? z[id] / r : z[id] * r;
    }
}

static int32_t argmax(const float *z, int64_t n)
{
    int32_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (z[i] > z[best]) best = (int32_t)i;
    return best;
}

/* Temperature, top-k, min-p (a share of the best), top-p (Holtzman et al.
 * 2020), in that order. */
int32_t gen_sample(struct gen *g, float *z)
{
    const peft_generate_opts *o = g->o;
    int64_t n = g->m->hp.vocab, keep = n, step = g->out->tokens;
    gen_penalise(g, g->tokens + g->n_source, g->n, z);
    int32_t best = argmax(z, n);
    if (o->temperature <= 0) return best;
    double sum = 0, cut = 0;
    for (int64_t i = 0; i < n; i++) {
        g->order[i].id = (int32_t)i;
        g->order[i].p = expf((z[i] - z[best]) / o->temperature);
    }
    if (o->top_k > 0 || o->top_p > 0 || o->min_p > 0)
        qsort(g->order, (size_t)n, sizeof(*g->order), by_p);
    if (o->top_k > 0) keep = MIN(keep, o->top_k);
    if (o->min_p > 0)
        while (keep > 1 && g->order[keep - 1].p < o->min_p) keep--;
    for (int64_t i = 0; i < keep; i++) sum += g->order[i].p;
    if (o->top_p > 0 && o->top_p < 1) {
        int64_t k = 0;
        while (k < keep && cut < o->top_p * sum) cut += g->order[k++].p;
        keep = MAX(k, 1);
        sum = cut;
    }
    double u = rng_uniform(o->seed, rng_stream(RNG_SAMPLE, 0), (uint64_t)step) * sum;
    for (int64_t i = 0; i < keep; i++)
        if ((u -= g->order[i].p) < 0) return g->order[i].id;
    return g->order[keep - 1].id;
}

/* --- text */

/* Bytes at the end that may still become a stop string or a character. */
static int64_t held_back(const struct gen *g)
{
    const char *end = g->text.data + g->text.n;
    int64_t hold = 0;
    for (int64_t k = 1; k <= 4 && k <= g->text.n; k++) {
        unsigned char c = (unsigned char)end[-k];
        if ((c & 0xC0) == 0x80) continue;
        int64_t need = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
        if (need > k) hold = k;
        break;
    }
    for (int32_t i = 0; i < g->o->n_stop; i++) {
        int64_t len = (int64_t)strlen(g->o->stop[i]);
        for (int64_t k = MIN(len - 1, g->text.n); k > hold; k--)
            if (!memcmp(end - k, g->o->stop[i], (size_t)k)) hold = k;
    }
    return hold;
}

/* Where a stop string begins, or -1. */
static int64_t find_stop(const struct gen *g)
{
    for (int64_t at = g->emitted; at < g->text.n; at++)
        for (int32_t i = 0; i < g->o->n_stop; i++) {
            int64_t len = (int64_t)strlen(g->o->stop[i]);
            if (len && len <= g->text.n - at &&
                !memcmp(g->text.data + at, g->o->stop[i], (size_t)len))
                return at;
        }
    return -1;
}

/* 0, the reason to stop, or < 0.  A model may say bytes that are no UTF-8. */
static int emit(struct gen *g, int64_t until)
{
    const peft_generate_opts *o = g->o;
    if (until <= g->emitted) return 0;
    buf_clear(&g->piece);
    uni_append_lossy(&g->piece, g->text.data + g->emitted, until - g->emitted);
    int rc = buf_check(&g->piece);
    if (rc) return rc;
    g->emitted = until;
    return o->on_text && o->on_text(o->ctx, g->piece.data, (size_t)g->piece.n) ? PEFT_STOP_CALLBACK
                                                                               : 0;
}

int gen_say(struct gen *g, int32_t id)
{
    int first = !g->out->tokens++, rc = PEFT_OK;
    if (g->ids) {
        ids_push(g->ids, id);
        return ids_check(g->ids);
    }
    /* A decoder begins a text; others go on with one. */
    if (first && g->n_source) rc = tok_decode(g->m->tok, &id, 1, 0, &g->text);
    else rc = tok_piece(g->m->tok, id, &g->text);
    if (!rc) rc = buf_check(&g->text);
    if (rc) return rc;
    int64_t stop = find_stop(g);
    if (stop >= 0) {
        g->text.n = stop;
        g->out->reason = PEFT_STOP_STRING;
        return 1;
    }
    rc = emit(g, g->text.n - held_back(g));
    if (rc > 0) g->out->reason = rc;
    return MIN(rc, 1);
}

int gen_full(struct gen *g)
{
    if (g->out->tokens < g->limit && g->n < g->cap) return 0;
    g->out->reason = g->out->tokens >= g->limit ? PEFT_STOP_LENGTH : PEFT_STOP_CONTEXT;
    return 1;
}

int gen_take(struct gen *g, int32_t id)
{
    if (gen_ends(g->m, id)) {
        g->out->reason = PEFT_STOP_EOS;
        return 1;
    }
    g->tokens[g->n_source + g->n++] = id;
    int rc = gen_say(g, id);
    return rc ? rc : gen_full(g);
}

static int answer(struct gen *g, float *z)
{
    int rc = gen_full(g);
    while (!rc && !(rc = gen_take(g, gen_sample(g, z))))
        rc = gen_catch_up(g, rope_switches(g->m, g->n) ? 0 : g->n - 1, &z);
    return MIN(rc, PEFT_OK);
}

int64_t gen_cap(const struct model *m, const struct gen_request *r)
{
    int64_t room = model_room(m), limit = r->o->max_tokens > 0 ? r->o->max_tokens : 256;
    if (r->n < 1) return fail(PEFT_EARG, "an empty prompt, expected one token or more");
    if (r->n >= room)
        return fail(PEFT_EARG, "the prompt has %lld tokens, the model has room for %lld",
                    (long long)r->n, (long long)room - 1);
    return MIN((m->stack[STACK_ENCODER].end ? 1 : r->n) + limit, room);
}

void gen_begin(struct gen *g, struct model *m, const struct gen_request *r)
{
    int two = m->stack[STACK_ENCODER].end > 0;
    g->m = m;
    g->o = r->o;
    g->out = r->out;
    g->ids = r->ids;
    for (int k = 0; k < PEFT_BEAMS_MAX; k++) g->acts[k] = r->adapter;
    g->limit = r->o->max_tokens > 0 ? r->o->max_tokens : 256;
    g->beams = MAX(r->o->num_beams, 1);
    g->n_source = two ? r->n : 0;
    g->n = two ? 1 : r->n;
    g->emitted = 0;
    g->began = os_seconds();
    g->out->prompt_tokens = (int32_t)r->n;
    buf_init(&g->text, &m->host.mem);
    buf_init(&g->piece, &m->host.mem);
}

int gen_end(struct gen *g, int rc)
{
    if (!rc && g->out->reason != PEFT_STOP_CALLBACK) rc = MIN(emit(g, g->text.n), PEFT_OK);
    g->out->seconds = os_seconds() - g->began;
    buf_free(&g->text);
    buf_free(&g->piece);
    return rc;
}

/* The encoder's text is the source, and the decoder's begins with one token. */
static int begin(struct gen *g, const struct gen_request *r)
{
    struct mem *mem = &g->m->host.mem;
    g->each = g->cap + virtual_before(g->m, STACK_MAIN);
    g->rows = g->beams * g->each;
    int rc = model_graph(g->m);
    if (!rc) rc = rope_reserve(g->m, MAX(g->cap, g->n_source));
    if (!rc) rc = gen_make_cache(g);
    if (rc) return rc;
    g->pos = mem_array(mem, g->n_source + g->cap, sizeof(*g->pos));
    g->tokens = mem_array(mem, g->n_source + g->cap, sizeof(*g->tokens));
    if (!g->pos || !g->tokens) return PEFT_ENOMEM;
    for (int64_t i = 0; i < g->n_source; i++) g->pos[i] = (int32_t)i;
    for (int64_t i = 0; i < g->cap; i++) g->pos[g->n_source + i] = (int32_t)i;
    memcpy(g->tokens, r->prompt, (size_t)r->n * sizeof(*r->prompt));
    if (g->n_source) g->tokens[r->n] = (int32_t)g->m->hp.start_id;
    return PEFT_OK;
}

int model_generate(struct model *m, const struct gen_request *r)
{
    struct gen g = { .cap = gen_cap(m, r) };
    float *z = NULL;
    if (g.cap < 0) return (int)g.cap;
    gen_begin(&g, m, r);
    int rc = begin(&g, r);
    if (!rc) rc = gen_catch_up(&g, 0, &z);
    r->out->prompt_seconds = os_seconds() - g.began;
    if (!rc) rc = g.beams > 1 ? beam_answer(&g, z) : answer(&g, z);
    rc = gen_end(&g, rc);
    void *const parts[] = { g.cache, g.memory, g.pos, g.tokens, g.order };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) mem_free(&m->host.mem, parts[i]);
    return rc;
}
