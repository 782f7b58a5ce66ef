/* Generation: prompt in chunks through the cache, then token by token;
 * sampling; streaming of whole UTF-8 text with stop strings held back. */
#include <math.h>
#include <stdlib.h>

#include "model/model.h"

enum { CHUNK = 512 };

struct gen {
    struct model *m;
    const peft_generate_opts *o;
    struct kv_cache *cache;
    float *memory;                  /* all layers' caches in one block */
    int32_t *pos;                   /* 0, 1, 2, ... [cap] */
    int32_t *tokens;                /* prompt and answer, [cap] */
    int64_t n, cap;
    struct candidate *order;        /* [vocab], for sampling */
    struct buf text;                /* the answer so far */
    struct buf piece;               /* what of it is handed out, as UTF-8 */
    int64_t emitted;                /* bytes of it */
};
struct candidate { float p; int32_t id; };

/* --- running the model */

static int make_cache(struct gen *g)
{
    struct model *m = g->m;
    struct mem *mem = &m->host.mem;
    int64_t width = m->hp.kv_heads * m->hp.head_dim, each;
    if (!mul_ok(g->cap, width, &each))
        return fail(PEFT_EARG, "a context of %lld is too long", (long long)g->cap);
    g->cache = mem_array(mem, m->hp.layers, sizeof(*g->cache));
    g->memory = mem_array(mem, m->hp.layers * 2, each * 4);
    g->pos = mem_array(mem, g->cap, sizeof(*g->pos));
    g->tokens = mem_array(mem, g->cap, sizeof(*g->tokens));
    g->order = mem_array(mem, m->hp.vocab, sizeof(*g->order));
    if (!g->cache || !g->memory || !g->pos || !g->tokens || !g->order) return PEFT_ENOMEM;
    for (int64_t i = 0; i < m->hp.layers; i++) {
        g->cache[i].k = g->memory + (2 * i) * each;
        g->cache[i].v = g->memory + (2 * i + 1) * each;
    }
    for (int64_t i = 0; i < g->cap; i++) g->pos[i] = (int32_t)i;
    return PEFT_OK;
}

/* Tokens [at, at + n) through the model; *logits of the last one. */
static int advance(struct gen *g, int64_t at, int64_t n, int want_logits, float **logits)
{
    int32_t start[2] = { 0, (int32_t)n }, last = (int32_t)(n - 1);
    struct pass p = { .m = g->m, .g = g->m->graph, .mem = g->m->mem, .n = n, .n_seq = 1,
                      .ids = g->tokens + at, .pos = g->pos + at, .start = start,
                      .cache = g->cache, .past = at, .length = g->n };
    int rc = pass_begin(&p);
    if (rc) return rc;
    struct tensor *x = model_hidden(&p), *y = x;
    if (want_logits) y = model_logits(&p, g_rows(p.g, x, &last, 1));
    if (y) graph_keep(y);
    rc = graph_forward(p.g);
    if (!rc && want_logits) *logits = y->x;
    return rc;
}

/* All tokens from `at` on. */
static int catch_up(struct gen *g, int64_t at, float **logits)
{
    int rc = PEFT_OK;
    for (; at < g->n && !rc; at += CHUNK)
        rc = advance(g, at, MIN(CHUNK, g->n - at), at + CHUNK >= g->n, logits);
    return rc;
}

/* --- sampling */

static int by_p(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->p != y->p) return x->p < y->p ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

/* Keskar et al. 2019, as Hugging Face applies it: once for each token seen. */
static void penalise(struct gen *g, float *z)
{
    float r = g->o->repeat_penalty;
    if (r <= 0 || r == 1) return;
    for (int64_t i = 0; i < g->m->hp.vocab; i++) g->order[i].id = 0;
    for (int64_t i = 0; i < g->n; i++) {
        int32_t id = g->tokens[i];
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
static int32_t sample(struct gen *g, float *z, int64_t step)
{
    const peft_generate_opts *o = g->o;
    int64_t n = g->m->hp.vocab, keep = n;
    penalise(g, z);
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

static int answer(struct gen *g, float *z, peft_generated *out)
{
    int64_t limit = g->o->max_tokens > 0 ? g->o->max_tokens : 256;
    int reason = 0;
    for (out->tokens = 0; ; ) {
        if (out->tokens >= limit || g->n >= g->cap) {
            out->reason = out->tokens >= limit ? PEFT_STOP_LENGTH : PEFT_STOP_CONTEXT;
            break;
        }
        int32_t id = sample(g, z, out->tokens);
        if (gen_ends(g->m, id)) {
            out->reason = PEFT_STOP_EOS;
            break;
        }
        g->tokens[g->n++] = id;
        out->tokens++;
        int rc = tok_piece(g->m->tok, id, &g->text);
        if (!rc) rc = buf_check(&g->text);
        if (rc) return rc;
        int64_t stop = find_stop(g);
        if (stop >= 0) {
            g->text.n = stop;
            out->reason = PEFT_STOP_STRING;
            break;
        }
        if ((reason = emit(g, g->text.n - held_back(g)))) {
            out->reason = MAX(reason, 0);
            return MIN(reason, PEFT_OK);
        }
        if (out->tokens >= limit || g->n >= g->cap) continue;
        if ((rc = catch_up(g, rope_switches(g->m, g->n) ? 0 : g->n - 1, &z))) return rc;
    }
    return MIN(emit(g, g->text.n), PEFT_OK);
}

int model_generate(struct model *m, const int32_t *prompt, int64_t n,
                   const peft_generate_opts *o, peft_generated *out)
{
    struct gen g = { .m = m, .o = o };
    float *z = NULL;
    double begin = os_seconds();
    int64_t limit = o->max_tokens > 0 ? o->max_tokens : 256;
    if (n < 1) return fail(PEFT_EARG, "an empty prompt, expected one token or more");
    if (n >= m->hp.room)
        return fail(PEFT_EARG, "the prompt has %lld tokens, the model has room for %lld",
                    (long long)n, (long long)m->hp.room - 1);
    g.cap = MIN(n + limit, m->hp.room);
    buf_init(&g.text, &m->host.mem);
    buf_init(&g.piece, &m->host.mem);
    int rc = model_graph(m);
    if (!rc) rc = rope_reserve(m, g.cap);
    if (!rc) rc = make_cache(&g);
    if (!rc) {
        memcpy(g.tokens, prompt, (size_t)n * sizeof(*prompt));
        g.n = n;
        out->prompt_tokens = (int32_t)n;
    }
    if (!rc) rc = catch_up(&g, 0, &z);
    out->prompt_seconds = os_seconds() - begin;
    if (!rc) rc = answer(&g, z, out);
    out->seconds = os_seconds() - begin;
    mem_free(&m->host.mem, g.cache);
    mem_free(&m->host.mem, g.memory);
    mem_free(&m->host.mem, g.pos);
    mem_free(&m->host.mem, g.tokens);
    mem_free(&m->host.mem, g.order);
    buf_free(&g.text);
    buf_free(&g.piece);
    return rc;
}
