/* Beam search: at each step the best continuations of all beams together go on,
 * and those that end are kept by sum of log p / length^penalty.  Which are
 * considered and when to stop follows transformers' generate, so that the same
 * settings give the same tokens. */
#include <math.h>

#include "model/generate.h"

enum { NEVER = 2, EXTRA = 9 };      /* early_stopping; candidates of a beam, at most */
static const float beam_none = -1e9f;    /* the sum of a beam that does not exist */

struct path { float score; int32_t parent, id; };
struct beams {
    struct gen *g;
    int64_t n, prompt, len;         /* beams; tokens of the prompt, and of a running beam */
    float sum[PEFT_BEAMS_MAX];      /* log p of the running ones */
    int32_t *run, *old;             /* their tokens [n][cap], and those of the step before */
    int32_t *done;                  /* [n + 1][cap] tokens of the ended ones, the best first */
    float done_score[PEFT_BEAMS_MAX + 1];
    int64_t done_len[PEFT_BEAMS_MAX + 1], n_done;
    float *moved;                   /* rows of one cache while beams change places */
    int64_t keep;                   /* candidates of a step */
    struct path best[PEFT_BEAMS_MAX * EXTRA];
    int improvable;
};

/* z <- log softmax(z), with the penalty on tokens seen. */
static void to_log_p(const struct beams *s, float *z, int64_t b)
{
    int64_t n = s->g->m->hp.vocab;
    double sum = 0;
    float max = z[0];
    for (int64_t i = 1; i < n; i++) max = MAX(max, z[i]);
    for (int64_t i = 0; i < n; i++) sum += exp((double)(z[i] - max));
    float all = (float)log(sum) + max;
    for (int64_t i = 0; i < n; i++) z[i] -= all;
    gen_penalise(s->g, s->run + b * s->g->cap, s->len, z);
}

/* The best `keep` continuations in order; of equal ones the first. */
static void best_paths(struct beams *s, float *z, int64_t rows)
{
    int64_t vocab = s->g->m->hp.vocab, n = 0;
    for (int64_t b = 0; b < rows; b++) {
        float *row = z + b * vocab;
        to_log_p(s, row, b);
        for (int32_t i = 0; i < vocab; i++) {
            float score = row[i] + s->sum[b];
            if (n == s->keep && !(score > s->best[n - 1].score)) continue;
            int64_t k = n < s->keep ? n++ : n - 1;
            for (; k > 0 && s->best[k - 1].score < score; k--) s->best[k] = s->best[k - 1];
            s->best[k] = (struct path){ score, (int32_t)b, i };
        }
    }
}

/* Keeps an ended beam, if it is among the best n. */
static void end_beam(struct beams *s, const struct path *p)
{
    int64_t cap = s->g->cap, len = s->len + 1, k = s->n_done;
    float score = p->score / powf((float)(len - s->prompt), s->g->o->length_penalty);
    while (k > 0 && s->done_score[k - 1] < score) k--;
    if (k == s->n) return;
    for (int64_t i = s->n_done; i > k; i--) {
        memcpy(s->done + i * cap, s->done + (i - 1) * cap, (size_t)cap * sizeof(*s->done));
        s->done_score[i] = s->done_score[i - 1];
        s->done_len[i] = s->done_len[i - 1];
    }
    memcpy(s->done + k * cap, s->run + p->parent * cap, (size_t)s->len * sizeof(*s->done));
    s->done[k * cap + s->len] = p->id;
    s->done_score[k] = score;
    s->done_len[k] = len;
    s->n_done = MIN(s->n_done + 1, s->n);
}

/* Beams take the caches of those that they go on from. */
static void move_caches(struct beams *s, const int32_t *parent)
{
    const struct gen *g = s->g;
    int64_t n = (g->each - g->cap + s->len) * g->width, each = g->each * g->width;
    int same = 1;
    for (int64_t b = 0; b < s->n; b++) same &= parent[b] == b;
    for (int64_t i = 0; i < 2 * g->layers && !same; i++) {
        float *cache = i % 2 ? g->cache[i / 2].v : g->cache[i / 2].k;
        for (int64_t b = 0; b < s->n; b++)
            memcpy(s->moved + b * n, cache + b * each, (size_t)n * sizeof(float));
        for (int64_t b = 0; b < s->n; b++)
            memcpy(cache + b * each, s->moved + parent[b] * n, (size_t)n * sizeof(float));
    }
}

/* One step: 1 = all that can be found is found, 0 = the beams go on. */
static int beam_step(struct beams *s, float *z, int64_t rows)
{
    struct gen *g = s->g;
    int32_t parent[PEFT_BEAMS_MAX];
    int64_t going = 0, cap = g->cap;
    int early = g->o->early_stopping, full = s->n_done == s->n, ended = s->len + 1 >= cap;
    best_paths(s, z, rows);
    int open = s->improvable && !(full && early == 1);
    int32_t *swap = s->old;
    for (int64_t k = 0; k < s->keep; k++) {
        const struct path *p = &s->best[k];
        int ends = ended || gen_ends(g->m, p->id);
        if (ends && k < s->n && open) end_beam(s, p);
        if (ends || going == s->n) continue;
        parent[going] = p->parent;
        memcpy(swap + going * cap, s->run + p->parent * cap, (size_t)s->len * sizeof(*swap));
        swap[going * cap + s->len] = p->id;
        s->sum[going++] = p->score;
    }
    s->old = s->run;
    s->run = swap;
    if (!going) return 1;
    for (int64_t b = going; b < s->n; b++) {        /* too few go on: beams that never win */
        parent[b] = parent[0];
        s->sum[b] = beam_none;
        memcpy(swap + b * cap, swap, (size_t)(s->len + 1) * sizeof(*swap));
    }
    move_caches(s, parent);
    s->len++;
    int64_t length = early == NEVER && g->o->length_penalty > 0 ? cap : s->len;
    float hope = s->sum[0] / powf((float)(length - s->prompt), g->o->length_penalty);
    s->improvable &= s->n_done < s->n || hope > s->done_score[s->n - 1];
    return !s->improvable || (s->n_done == s->n && early == 1);
}

/* How many of the vocabulary end an answer. */
static int64_t count_ends(const struct gen *g)
{
    int64_t n = 0;
    for (int32_t i = 0; i < g->m->hp.vocab; i++) n += gen_ends(g->m, i);
    return n;
}

static int beam_search(struct beams *s, const float *first)
{
    struct gen *g = s->g;
    int64_t vocab = g->m->hp.vocab, rows = 1;
    float *z = mem_array(&g->m->host.mem, vocab, sizeof(*z));
    if (!z) return PEFT_ENOMEM;
    memcpy(z, first, (size_t)vocab * sizeof(*z));
    int rc = PEFT_OK;
    for (float *at = z; !rc && !(rc = beam_step(s, at, rows)); rows = s->n)
        rc = gen_advance_beams(g, s->len - 1, s->run, &at);
    mem_free(&g->m->host.mem, z);
    return MIN(rc, PEFT_OK);
}

int beam_answer(struct gen *g, const float *z)
{
    struct mem *mem = &g->m->host.mem;
    struct beams s = { .g = g, .n = g->beams, .prompt = g->n, .len = g->n, .improvable = 1 };
    int64_t all = s.n * g->cap, ends = count_ends(g);
    int rc = PEFT_OK;
    s.keep = s.n * MIN(MAX(2, 1 + ends), EXTRA);
    if (s.keep > g->m->hp.vocab)
        return fail(PEFT_EARG, "%d beams of a vocabulary of %d", (int)s.n, (int)g->m->hp.vocab);
    s.run = mem_array(mem, all, sizeof(*s.run));
    s.old = mem_array(mem, all, sizeof(*s.old));
    s.done = mem_array(mem, all + g->cap, sizeof(*s.done));
    s.moved = mem_array(mem, s.n * g->each, g->width * (int64_t)sizeof(float));
    if (!s.run || !s.old || !s.done || !s.moved) rc = PEFT_ENOMEM;
    for (int64_t b = 1; b < s.n; b++) s.sum[b] = beam_none;
    if (!rc) {
        memcpy(s.run, g->tokens + g->n_source, (size_t)g->n * sizeof(*s.run));
        rc = g->n < g->cap ? beam_search(&s, z) : PEFT_OK;
    }
    int64_t n = s.n_done ? s.done_len[0] : g->n;
    int over = !rc && n > s.prompt && gen_ends(g->m, s.done[n - 1]);
    if (!rc)
        g->out->reason = over ? PEFT_STOP_EOS
                         : n - s.prompt >= g->limit ? PEFT_STOP_LENGTH : PEFT_STOP_CONTEXT;
    for (int64_t i = s.prompt; i < n - over && !rc; i++) rc = gen_say(g, s.done[i]);
    void *const parts[] = { s.run, s.old, s.done, s.moved };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) mem_free(mem, parts[i]);
    return MIN(rc, PEFT_OK);
}
