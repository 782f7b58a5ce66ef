/* What peft_eval finds of each row, kept for figures. */
#include "judge/board.h"

struct measuring {
    struct peft_board *j;
    struct system *s;
    const char *doing;
    int32_t labels;                 /* of the model's head */
    int32_t *label_of;              /* [labels] on the board */
    uint32_t known;
    int by_row;                     /* rows of a folder have no lines of their own */
    int rc;
};

/* Numbers that live as long as the system. */
static const float *keep_floats(struct measuring *k, const float *x, int32_t n)
{
    float *to = arena_alloc(&k->s->arena, n * (int64_t)sizeof(*to));
    if (!to) k->rc = PEFT_ENOMEM;
    else memcpy(to, x, (size_t)n * sizeof(*to));
    return to;
}

/* How often each label of tokens is true, said, and both. */
static const double *count_tags(struct measuring *k, const peft_eval_row *r)
{
    int64_t n = k->j->n_labels;
    double *to = arena_alloc(&k->s->arena, 3 * n * (int64_t)sizeof(*to));
    if (!to) k->rc = PEFT_ENOMEM;
    for (int64_t i = 0; to && i < r->terms; i++) {
        int32_t is = k->label_of[r->labels[i]], said = k->label_of[r->tags[i]];
        to[is]++;
        to[n + said]++;
        to[2 * n + is] += is == said;
    }
    return to;
}

static void keep_row(struct measuring *k, const peft_eval_row *r, struct found *f)
{
    f->terms += r->terms;
    f->right += r->right;
    f->loss += r->loss;
    if (k->known & 1u << KNOWN_CLASS) {
        f->label = k->label_of[r->label];
        f->said = k->label_of[r->said];
        f->confidence = (double)r->scores[r->said];
    }
    if (r->wanted) {
        f->scores = keep_floats(k, r->scores, r->n);
        f->wanted = keep_floats(k, r->wanted, r->n);
        k->s->n_numbers = f->n = r->n;
    }
    if (r->tags) {
        f->counts = count_tags(k, r);
        f->n = k->j->n_labels;
    }
    f->chunks[0] += r->chunks_right;
    f->chunks[1] += r->chunks_said;
    f->chunks[2] += r->chunks;
    f->margin = r->margin;
    f->rank = r->rank;
    f->exact = r->exact;
    f->f1 = r->f1;
    if (r->answer) f->text = arena_strndup(&k->s->arena, r->answer, r->answer_n);
}

static int32_t on_row(void *ctx, const peft_eval_row *r)
{
    struct measuring *k = ctx;
    struct found *f = system_row(k->j, k->s, k->by_row ? r->row + 1 : r->line);
    if (!f) k->rc = PEFT_ENOMEM;
    else keep_row(k, r, f);
    return k->rc != PEFT_OK;
}

static int32_t on_batch(void *ctx, int64_t done, int64_t rows)
{
    struct measuring *k = ctx;
    if (!k->rc) k->rc = board_progress(k->j, "evaluating", done, rows);
    return k->rc != PEFT_OK;
}

/* Names of the head's classes; what tokens are told by depends on them. */
static int take_labels(struct measuring *k, const peft_model *m, const peft_info *info)
{
    int chunks = 0;
    if (!(k->label_of = mem_array(&k->j->host.mem, MAX(info->labels, 1), sizeof(*k->label_of))))
        return PEFT_ENOMEM;
    for (int32_t i = 0; i < info->labels; i++) {
        const char *name = peft_label_name(m, i);
        if ((k->label_of[i] = board_label(k->j, name ? name : "?")) < 0) return k->label_of[i];
        chunks |= name && !strncmp(name, "B-", 2);
    }
    if (k->known & 1u << KNOWN_TAGS && chunks) k->known = 1u << KNOWN_CHUNKS;
    return PEFT_OK;
}

int64_t text_bytes(const peft_model *m, const struct ids *ids)
{
    int64_t n = peft_detokenize(m, ids->v, ids->n, PEFT_DETOK_SKIP, NULL, 0);
    return n < 0 ? kit_failed((int32_t)n) : n;
}

/* The length of the text whose tokens count, which is the same for every tokenizer. */
static int count_bytes(struct measuring *k, const peft_model *m, const peft_dataset *d,
                       int64_t rows)
{
    struct ids trained;
    int64_t bytes = 0;
    int32_t rc = PEFT_OK;
    ids_init(&trained, &k->j->host.mem);
    for (int64_t i = 0; i < rows && !rc; i++) {
        peft_row r = { .size = sizeof(r) };
        if ((rc = peft_dataset_row(d, i, &r)) != PEFT_OK) {
            rc = kit_failed(rc);
            break;
        }
        trained.n = 0;
        for (int32_t t = 0; r.labels && t < r.n; t++)
            if (r.labels[t] >= 0) ids_push(&trained, r.ids[t]);
        struct found *f = system_row(k->j, k->s, r.line);
        if (!f || ids_check(&trained)) rc = PEFT_ENOMEM;
        else if ((bytes = text_bytes(m, &trained)) < 0) rc = (int32_t)bytes;
        else f->bytes += bytes;
    }
    ids_free(&trained);
    if (!rc) k->known |= 1u << KNOWN_BYTES;
    return rc;
}

static const struct { const char *head; enum known known; } kinds[] = {
    { "classification", KNOWN_CLASS }, { "multi-label", KNOWN_MULTI },
    { "regression", KNOWN_NUMBERS },   { "tokens", KNOWN_TAGS },
    { "question-answering", KNOWN_ANSWER }, { "reward", KNOWN_PAIR },
};

int measure_rows(struct peft_board *j, struct system *s, peft_model *m, const peft_dataset *d)
{
    struct measuring k = { .j = j, .s = s, .known = 1u << KNOWN_TOKENS };
    peft_eval_opts o = { .size = sizeof(o), .batch = j->o.batch, .progress = on_batch, .ctx = &k,
                         .on_row = on_row };
    peft_evaluation e = { .size = sizeof(e) };
    peft_info info = { .size = sizeof(info) };
    peft_dataset_stats stats = { .size = sizeof(stats) };
    int32_t rc = peft_model_info(m, &info);
    if (!rc) rc = peft_dataset_info(d, &stats);
    if (rc) return kit_failed(rc);
    k.by_row = !strcmp(stats.schema, "image folder");
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (info.labels && !strcmp(info.head, kinds[i].head)) k.known = 1u << kinds[i].known;
    if (!info.labels && (!strcmp(stats.schema, "match") || !strcmp(stats.schema, "alike")))
        k.known = 1u << (!strcmp(stats.schema, "match") ? KNOWN_RANK : KNOWN_NUMBERS);
    rc = k.known & (1u << KNOWN_CLASS | 1u << KNOWN_TAGS) ? take_labels(&k, m, &info) : PEFT_OK;
    if (!rc && (rc = peft_eval(m, d, &o, &e)) != PEFT_OK)
        rc = k.rc && k.rc != PEFT_ECANCELLED ? k.rc : kit_failed(rc);
    int causal = k.known == 1u << KNOWN_TOKENS && info.causal && info.has_tokenizer;
    if (!rc && causal) rc = count_bytes(&k, m, d, stats.rows);
    s->known |= k.known;
    mem_free(&j->host.mem, k.label_of);
    return rc;
}
