/* Answers to the prompts of rows, and likelihoods of the wanted ones behind examples. */
#include <stdio.h>

#include "judge/board.h"

/* A prompt, and what a model writes to it. */
struct asked {
    struct answering *in;
    int64_t line;
    struct prompt prompt;
    struct ids wanted;
    struct buf said;
    peft_generate_opts o;
    peft_generated out;
};
struct answering {
    struct peft_board *j;
    struct system *s;
    peft_model *m;
    struct asked *v;
    int64_t n, begun;               /* answers of which there is some text */
    int rc;
};

static int32_t on_text(void *ctx, const char *piece, size_t n)
{
    struct asked *a = ctx;
    struct answering *all = a->in;
    if (!a->said.n && !all->rc)
        all->rc = board_progress(all->j, "answering", ++all->begun, all->n);
    buf_put(&a->said, piece, (int64_t)n);
    return all->rc != PEFT_OK;
}

/* The last stretch of trained tokens is the answer; 0 = there is none behind a prompt. */
static int answer_span(const peft_row *r, int32_t *first, int32_t *end)
{
    *end = r->n;
    while (*end > 0 && (!r->labels || r->labels[*end - 1] < 0)) --*end;
    *first = *end;
    while (*first > 0 && r->labels[*first - 1] >= 0) --*first;
    return *first > 1 && *end > *first;      /* the first token is never trained */
}

static int begin(struct answering *a, const peft_dataset *d)
{
    peft_dataset_stats stats = { .size = sizeof(stats) };
    struct mem *mem = &a->j->host.mem;
    int32_t rc = peft_dataset_info(d, &stats);
    if (rc) return kit_failed(rc);
    if (!(a->v = mem_array(mem, stats.rows, sizeof(*a->v)))) return PEFT_ENOMEM;
    for (int64_t i = 0; i < stats.rows && !rc; i++) {
        struct asked *x = &a->v[a->n];
        peft_row r = { .size = sizeof(r) };
        int32_t first, end;
        if ((rc = peft_dataset_row(d, i, &r)) != PEFT_OK) return kit_failed(rc);
        if (!answer_span(&r, &first, &end)) continue;
        a->n++;
        x->in = a;
        x->line = r.line;
        prompt_init(&x->prompt, mem);
        ids_init(&x->wanted, mem);
        buf_init(&x->said, mem);
        for (int32_t k = 0; k < first; k++) ids_push(&x->prompt.ids, r.ids[k]);
        for (int32_t k = first; k < end; k++) ids_push(&x->wanted, r.ids[k]);
        rc = MIN(ids_check(&x->prompt.ids), ids_check(&x->wanted));
    }
    if (!rc && !a->n)
        rc = fail(PEFT_EUNSUPPORTED, "%s has no prompts with answers, only texts of which all "
                  "tokens count", a->j->path);
    return rc;
}

static void end(struct answering *a)
{
    for (int64_t i = 0; i < a->n; i++) {
        prompt_free(&a->v[i].prompt);
        ids_free(&a->v[i].wanted);
        buf_free(&a->v[i].said);
    }
    mem_free(&a->j->host.mem, a->v);
}

/* Without blanks around it. */
static const char *keep_text(struct arena *arena, const char *s, int64_t n)
{
    while (n > 0 && (uint8_t)*s <= ' ') s++, n--;
    while (n > 0 && (uint8_t)s[n - 1] <= ' ') n--;
    return arena_strndup(arena, s, n);
}

static int keep_answer(struct answering *a, struct asked *x)
{
    struct found *f = system_row(a->j, a->s, x->line);
    int64_t n = peft_detokenize(a->m, x->wanted.v, x->wanted.n, PEFT_DETOK_SKIP, NULL, 0);
    char *text = n < 0 ? NULL : mem_alloc(&a->j->host.mem, n + 1);
    if (n < 0) return kit_failed((int32_t)n);
    if (!f || !text) return PEFT_ENOMEM;
    peft_detokenize(a->m, x->wanted.v, x->wanted.n, PEFT_DETOK_SKIP, text, n);
    f->reference = keep_text(&a->s->arena, text, n);
    f->text = keep_text(&a->s->arena, buf_str(&x->said), x->said.n);
    mem_free(&a->j->host.mem, text);
    a->s->told.answers++;
    a->s->told.prompt_tokens += x->out.prompt_tokens;
    a->s->told.tokens += x->out.tokens;
    return f->reference && f->text ? PEFT_OK : PEFT_ENOMEM;
}

static int generate(struct answering *a, int two_stacks)
{
    struct peft_board *j = a->j;
    peft_request *list = mem_array(&j->host.mem, a->n, sizeof(*list));
    int rc = list ? PEFT_OK : PEFT_ENOMEM;
    for (int64_t i = 0; i < a->n && !rc; i++) {
        struct asked *x = &a->v[i];
        x->o = (peft_generate_opts){ .size = sizeof(x->o), .on_text = on_text, .ctx = x,
                                     .max_tokens = j->o.max_tokens ? j->o.max_tokens : 128 };
        x->out.size = sizeof(x->out);
        /* A target begins with a token of the decoder's own. */
        list[i] = (peft_request){ .size = sizeof(*list), .ids = x->prompt.ids.v,
                                  .n = (int32_t)x->prompt.ids.n - two_stacks, .opts = &x->o,
                                  .out = &x->out };
    }
    if (!rc && (rc = peft_generate_batch(a->m, list, (int32_t)a->n, j->o.batch)) != PEFT_OK)
        rc = kit_failed(rc);
    if (!rc) rc = a->rc;
    for (int64_t i = 0; i < a->n && !rc; i++) rc = keep_answer(a, &a->v[i]);
    mem_free(&j->host.mem, list);
    if (!rc) a->s->known |= 1u << KNOWN_TEXT;
    return rc;
}

int answer_rows(struct peft_board *j, struct system *s, peft_model *m, const peft_dataset *d)
{
    struct answering a = { .j = j, .s = s, .m = m };
    peft_info info = { .size = sizeof(info) };
    int rc = peft_model_info(m, &info);
    rc = rc ? kit_failed(rc) : begin(&a, d);
    if (!rc) rc = generate(&a, info.encoder_layers > 0);
    end(&a);
    return rc;
}

/* --------------------------------------------------------------- with examples */

static const struct ask *ask_at(const struct asks *a, int64_t line)
{
    int64_t from = 0, to = a->n;
    while (from < to) {
        int64_t middle = (from + to) / 2;
        if (a->v[middle].line < line) from = middle + 1;
        else to = middle;
    }
    return from < a->n && a->v[from].line == line ? &a->v[from] : NULL;
}

/* The answer's tokens stay those of the row, its prompt gets examples. */
static int put_examples(struct answering *a, struct asked *x, int64_t room)
{
    const struct ask *ask = ask_at(&a->j->rows, x->line);
    if (!ask || ask->kind == ASK_NONE)
        return fail(PEFT_EUNSUPPORTED, "%s line %lld: no prompt and answer that examples could go "
                    "before", a->j->path, (long long)x->line);
    int rc = prompt_make(a->j, a->m, ask, a->s->told.shots, NULL, room - x->wanted.n, &x->prompt);
    if (!rc && x->prompt.ids.n + x->wanted.n > room)
        rc = fail(PEFT_EDATA, "%s line %lld: longer than the model's %lld tokens", a->j->path,
                  (long long)x->line, (long long)room);
    return rc;
}

static int likelihood(struct answering *a, struct asked *x)
{
    struct prompt p;
    double logp = 0;
    int32_t right = 0, n = (int32_t)(x->prompt.ids.n + x->wanted.n);
    int32_t from = (int32_t)x->prompt.ids.n;
    prompt_init(&p, &a->j->host.mem);
    for (int64_t i = 0; i < n; i++)
        ids_push(&p.ids, i < from ? x->prompt.ids.v[i] : x->wanted.v[i - from]);
    int rc = ids_check(&p.ids);
    if (!rc && (rc = peft_logprob(a->m, p.ids.v, &n, &from, 1, &logp, &right)) != PEFT_OK)
        rc = kit_failed(rc);
    prompt_free(&p);
    if (rc) return rc;
    struct found *f = system_row(a->j, a->s, x->line);
    if (!f) return PEFT_ENOMEM;
    f->loss = -logp;
    f->right = right;
    f->terms = x->wanted.n;
    if ((f->bytes = text_bytes(a->m, &x->wanted)) < 0) return (int)f->bytes;
    a->s->told.prompt_tokens += from;
    return PEFT_OK;
}

int prompt_rows(struct peft_board *j, struct system *s, peft_model *m, const peft_dataset *d)
{
    struct answering a = { .j = j, .s = s, .m = m };
    peft_info info = { .size = sizeof(info) };
    int rc = peft_model_info(m, &info);
    rc = rc ? kit_failed(rc) : board_rows(j);
    if (!rc) rc = begin(&a, d);
    for (int64_t i = 0; i < a.n && !rc; i++) {
        rc = put_examples(&a, &a.v[i], info.max_len);
        if (!rc) rc = likelihood(&a, &a.v[i]);
        if (!rc) rc = board_progress(j, "evaluating", i + 1, a.n);
    }
    s->known |= 1u << KNOWN_TOKENS | 1u << KNOWN_BYTES;
    if (!rc && j->o.generate) rc = generate(&a, 0);
    end(&a);
    snprintf(s->told.how, sizeof(s->told.how), "with examples before each prompt");
    return rc;
}
