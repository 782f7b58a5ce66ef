/* Several answers at once: a pass has what is new of each, the rest of its prompt or
 * one token, with the adapter that acts on it.  Each answer has a seat, a part of the
 * cache, and the next request gets it when the answer is at its end. */
#include "model/generate.h"

enum { MOST_NEW = 512 };        /* tokens of prompts in a pass, about */

struct seat {
    struct gen g;
    const struct gen_request *r;    /* NULL = free */
    int64_t done;                   /* tokens of it that are in the cache */
    int64_t new;                    /* that this pass adds; 0 = not listed yet */
    int32_t next;                   /* token that follows, -1 = none yet */
};
struct serve {
    struct model *m;
    struct gen all;                 /* owns what the seats share */
    struct seat *seat, **list;      /* [n], those of a pass in its order */
    int64_t n, n_list;
    int32_t *ids, *pos, *start, *first_row, *past;
    const struct adapter **acts;
};

static int new_seats(struct serve *s, int64_t cap)
{
    struct mem *mem = &s->m->host.mem;
    int64_t n = s->n, tokens = n + MOST_NEW, each = cap + virtual_before(s->m, STACK_MAIN);
    s->all.m = s->m;
    if (!mul_ok(n, each, &s->all.rows)) return fail(PEFT_EARG, "%lld answers", (long long)n);
    s->seat = mem_array(mem, n, sizeof(*s->seat));
    s->list = mem_array(mem, n, sizeof(*s->list));
    s->acts = mem_array(mem, n, sizeof(*s->acts));
    s->ids = mem_array(mem, tokens, sizeof(*s->ids));
    s->pos = mem_array(mem, tokens, sizeof(*s->pos));
    s->start = mem_array(mem, n + 1, sizeof(*s->start));
    s->first_row = mem_array(mem, n, sizeof(*s->first_row));
    s->past = mem_array(mem, n, sizeof(*s->past));
    s->all.tokens = mem_array(mem, s->all.rows, sizeof(*s->all.tokens));
    if (!s->seat || !s->list || !s->acts || !s->ids || !s->pos || !s->start || !s->first_row ||
        !s->past || !s->all.tokens)
        return PEFT_ENOMEM;
    int rc = model_graph(s->m);
    if (!rc) rc = rope_reserve(s->m, cap);
    if (!rc) rc = gen_make_cache(&s->all);
    for (int64_t i = 0; i < n && !rc; i++) {
        s->seat[i].g.order = s->all.order;
        s->seat[i].g.row = i * each;
        s->seat[i].g.tokens = s->all.tokens + i * cap;
    }
    return rc;
}

static void free_seats(struct serve *s)
{
    void *const parts[] = { s->seat, s->list, s->acts, s->ids, s->pos, s->start, s->first_row,
                            s->past, s->all.tokens, s->all.cache, s->all.memory, s->all.order };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) mem_free(&s->m->host.mem, parts[i]);
}

static void occupy(struct serve *s, struct seat *t, const struct gen_request *r)
{
    t->g.cap = gen_cap(s->m, r);
    t->r = r;
    t->done = 0;
    gen_begin(&t->g, s->m, r);
    memcpy(t->g.tokens, r->prompt, (size_t)r->n * sizeof(*r->prompt));
}

static int leave(struct seat *t, int rc)
{
    t->r = NULL;
    return gen_end(&t->g, rc);
}

/* What a seat adds to the pass; `room` tokens of prompts are left. */
static int64_t enlist(struct serve *s, struct seat *t, int64_t n, int64_t room)
{
    int64_t k = s->n_list++;
    t->new = MIN(t->g.n - t->done, MAX(room, 1));
    s->list[k] = t;
    s->acts[k] = t->r->adapter;
    s->first_row[k] = (int32_t)t->g.row;
    s->past[k] = (int32_t)t->done;
    for (int64_t i = 0; i < t->new; i++) {
        s->pos[n + i] = (int32_t)(t->done + i);
        s->ids[n + i] = t->g.tokens[t->done + i];
    }
    s->start[k + 1] = (int32_t)(n + t->new);
    return t->new;
}

/* All answers that go on, those of the same adapter next to each other. */
static int64_t enlist_all(struct serve *s)
{
    int64_t n = 0;
    s->n_list = 0;
    for (int64_t i = 0; i < s->n; i++) s->seat[i].new = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const struct seat *first = &s->seat[i];
        int listed = !first->r || first->new;
        for (struct seat *t = s->seat + i; !listed && t < s->seat + s->n; t++)
            if (t->r && t->r->adapter == first->r->adapter) n += enlist(s, t, n, MOST_NEW - n);
    }
    return n;
}

/* One pass; afterwards each seat of the list has the token that follows. */
static int serve_run(struct serve *s, int64_t n)
{
    struct model *m = s->m;
    int whole = 0;
    struct pass p = { .m = m, .g = m->graph, .mem = m->mem, .n = n, .n_seq = s->n_list,
                      .ids = s->ids, .pos = s->pos, .start = s->start, .acts = s->acts,
                      .cache = s->all.cache, .room = s->all.rows, .first_row = s->first_row,
                      .past = s->past };
    int rc = gen_goes_on(&s->all);
    if (!rc) rc = pass_begin(&p);
    if (rc) return rc;
    for (int64_t k = 0; k < s->n_list; k++)
        whole |= s->list[k]->done + s->list[k]->new == s->list[k]->g.n;
    struct tensor *z = model_hidden(&p);
    if (whole) z = model_logits(&p, model_pool(&p, z, POOL_LAST));
    if (z) graph_keep(z);
    if ((rc = graph_forward(p.g))) return rc;
    for (int64_t k = 0; k < s->n_list; k++) {
        struct seat *t = s->list[k];
        t->done += t->new;
        t->next = -1;
        if (t->done == t->g.n) t->next = gen_sample(&t->g, tensor_f32(z) + k * z->cols);
    }
    return PEFT_OK;
}

/* Gives the tokens out.  Callbacks come here, when nothing of the pass is read any
 * more, so that they may use the model. */
static int say(struct serve *s)
{
    for (int64_t k = 0; k < s->n_list; k++) {
        struct seat *t = s->list[k];
        if (t->next < 0) continue;
        if (!t->g.out->tokens) t->g.out->prompt_seconds = os_seconds() - t->g.began;
        int rc = gen_take(&t->g, t->next);
        if (rc > 0) rc = leave(t, 0);
        if (rc) return rc;
    }
    return PEFT_OK;
}

/* A dependence of frequencies on the length is one on the other answers. */
static int goes_along(const struct model *m, const struct gen_request *r)
{
    return r->o->num_beams <= 1 && !m->stack[STACK_ENCODER].end && !rope_by_length(m);
}

static const struct gen_request *next_request(const struct model *m, const struct gen_request **r,
                                              const struct gen_request *end)
{
    while (*r < end && !goes_along(m, *r)) ++*r;
    return *r < end ? (*r)++ : NULL;
}

static int serve_all(struct serve *s, const struct gen_request *r, const struct gen_request *end)
{
    for (int rc = PEFT_OK;;) {
        const struct gen_request *next;
        for (int64_t i = 0; i < s->n; i++)
            if (!s->seat[i].r && (next = next_request(s->m, &r, end))) occupy(s, &s->seat[i], next);
        int64_t n = enlist_all(s);
        if (!n) return PEFT_OK;
        if ((rc = serve_run(s, n)) || (rc = say(s))) return rc;
    }
}

int model_serve(struct model *m, const struct gen_request *r, int64_t n, int64_t batch)
{
    struct serve s = { .m = m };
    int64_t cap = 0, together = 0;
    int rc = PEFT_OK;
    for (int64_t i = 0; i < n; i++) {
        int64_t each = gen_cap(m, &r[i]);
        if (each < 0) return fail_in((int)each, "request %lld: ", (long long)i);
        if (!goes_along(m, &r[i])) continue;
        together++;
        cap = MAX(cap, each);
    }
    s.n = MIN(together, batch);
    if (s.n) {
        rc = new_seats(&s, cap);
        if (!rc) rc = serve_all(&s, r, r + n);
        for (int64_t i = 0; s.seat && i < s.n; i++)
            if (s.seat[i].r) leave(&s.seat[i], rc);
    }
    free_seats(&s);
    for (int64_t i = 0; i < n && !rc; i++)
        if (!goes_along(m, &r[i])) rc = model_generate(m, &r[i]);
    return rc;
}
