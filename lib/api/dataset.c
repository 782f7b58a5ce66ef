/* peft_dataset_*. */
#include <stdio.h>

#include "api/api.h"

/* The options as the layers below take them, which point into *o. */
static int take_data_opts(const struct model *m, const peft_dataset_opts *opts,
                          peft_dataset_opts *o, struct data_opts *to)
{
    int32_t room = (int32_t)model_room(m);
    int rc = take_options(o, sizeof(*o), opts);
    if (rc) return rc;
    if (o->stride < 0 || o->chunk < 0 || o->shard_rows < 0)
        return fail(PEFT_EARG, "stride %d, chunk %lld, shard_rows %lld, expected 0 or more",
                    o->stride, (long long)o->chunk, (long long)o->shard_rows);
    if (o->max_len < 0 || o->limit < 0 || (!m->vision && o->max_len > room))
        return fail(PEFT_EARG,
                    "max_len %d, limit %d, expected 0 or more and at most the model's %d",
                    o->max_len, o->limit, room);
    *to = (struct data_opts){ .max_len = o->max_len ? o->max_len : MIN(1024, room),
                              .any_len = o->max_len ? 0 : room,
                              .vocab = (int32_t)m->hp.vocab, .train_on_prompt = o->train_on_prompt,
                              .source = { o->columns, o->table, o->limit, o->chunk, o->text,
                                          (int64_t)o->text_n },
                              .causal = m->arch->style.causal, .system = o->system,
                              .prefix = o->prefix, .seq2seq = m->stack[STACK_ENCODER].end > 0,
                              .start = (int32_t)m->hp.start_id,
                              .labels = (const char *const *)(m->head ? m->labels : NULL),
                              .n_labels = m->head ? (int32_t)m->hp.labels : 0,
                              .head = m->kind, .stride = o->stride ? o->stride : 128,
                              .window = o->max_len ? o->max_len :
                                        (int32_t)MIN(384, model_longest(m)),
                              .label_all = o->label_all, .vision = m->vision,
                              .any_path = o->any_path, .progress = o->progress, .ctx = o->ctx };
    if (m->kind == HEAD_SPAN) to->labels = NULL, to->n_labels = 0;
    return PEFT_OK;
}

int32_t peft_dataset_load(const peft_model *model, const char *path, const peft_dataset_opts *opts,
                          peft_dataset **out)
{
    peft_dataset_opts o;
    struct data_opts d;
    ARG(model && path && *path, "no model or path given");
    ARG(out, "no place for the data set given");
    *out = NULL;
    struct model *m = model_of(model);
    struct dataset *data = NULL;
    int rc = take_data_opts(m, opts, &o, &d);
    if (!rc) rc = data_load(&m->host, m->tok, path, &d, &data);
    if (!rc) *out = (peft_dataset *)data;
    return rc;
}

void peft_dataset_free(peft_dataset *data) { data_free(dataset_of(data)); }

int32_t peft_dataset_split(peft_dataset *data, double share, uint64_t seed, peft_dataset **eval)
{
    ARG(data && eval, "no data set or place for its part given");
    ARG(share > 0 && share < 1, "share %g, expected a number between 0 and 1", share);
    struct dataset *part = NULL;
    *eval = NULL;
    int rc = data_split(dataset_of(data), share, seed, &part);
    if (!rc) *eval = (peft_dataset *)part;
    return rc;
}

int32_t peft_dataset_subset(const peft_dataset *data, const int64_t *rows, int64_t n,
                            peft_dataset **out)
{
    ARG(data && rows && out, "no data set, rows or place for their data set given");
    struct dataset *part = NULL;
    int rc = data_subset(dataset_of(data), rows, n, &part);
    *out = (peft_dataset *)part;
    return rc;
}

int32_t peft_dataset_mix(const peft_dataset *data, const peft_dataset *other, int64_t n,
                         uint64_t seed, peft_dataset **out)
{
    ARG(data && other && out, "no data sets or place for the result given");
    struct dataset *all = NULL;
    *out = NULL;
    int rc = data_mix(dataset_of(data), dataset_of(other), n, seed, &all);
    if (!rc) *out = (peft_dataset *)all;
    return rc;
}

/* The length of the i-th row, if they were sorted. */
static int32_t nth(const int32_t *count, int64_t i)
{
    int32_t len = 0;
    while (i >= count[len]) i -= count[len++];
    return len;
}

/* What is told of a data set of which so many rows have each length below n. */
static void tell_stats(const struct dataset *d, const int32_t *count, int64_t n,
                       peft_dataset_stats *s)
{
    *s = (peft_dataset_stats){ .trained_tokens = d->trained, .truncated = d->truncated,
                               .skipped = d->skipped, .labels = d->n_labels };
    static const enum head_id heads[] = {
        [TASK_LM] = HEAD_LM, [TASK_CLASS] = HEAD_CLASS, [TASK_MULTI] = HEAD_MULTI,
        [TASK_TOKEN] = HEAD_TOKENS, [TASK_SPAN] = HEAD_SPAN, [TASK_PAIR] = HEAD_REWARD,
        [TASK_MASKED] = HEAD_MASKED, [TASK_SEQ2SEQ] = HEAD_LM, [TASK_MATCH] = HEAD_BODY,
        [TASK_ALIKE] = HEAD_BODY
    };
    enum head_id head = d->task == TASK_CLASS && !d->n_labels ? HEAD_REGRESS : heads[d->task];
    snprintf(s->head, sizeof(s->head), "%s", head_kinds[head].name);
    snprintf(s->schema, sizeof(s->schema), "%s", d->schema);
    for (int64_t i = 0; i < n; i++) {
        s->rows += count[i];
        s->tokens += count[i] * i;
    }
    if (!s->rows) return;
    s->min_len = nth(count, 0);
    s->median_len = nth(count, s->rows / 2);
    s->mean_len = (int32_t)(s->tokens / s->rows);
    s->p95_len = nth(count, s->rows * 95 / 100);
    s->max_len = nth(count, s->rows - 1);
}

int32_t peft_dataset_info(const peft_dataset *data, peft_dataset_stats *out)
{
    ARG(data, "no data set given");
    const struct dataset *d = dataset_of(data);
    peft_dataset_stats s;
    int rc = check_result(out);
    if (rc) return rc;
    int32_t *count = mem_array(&d->host->mem, d->max_len + 1, sizeof(*count));
    if (!count) return PEFT_ENOMEM;
    int64_t trained = 0;
    for (int64_t i = 0; i < d->n; i++) {
        const struct example *e = &d->rows[i];
        count[e->n]++;
        for (int32_t k = 1; e->labels && k < e->n; k++) trained += e->labels[k] >= 0;
    }
    tell_stats(d, count, d->max_len + 1, &s);
    s.trained_tokens = trained;
    mem_free(&d->host->mem, count);
    give_result(out, &s, sizeof(s));
    return PEFT_OK;
}

int32_t peft_dataset_prepare(const peft_model *model, const char *path,
                             const peft_dataset_opts *opts, const char *to,
                             peft_dataset_stats *out)
{
    peft_dataset_opts o;
    struct data_opts d;
    struct dataset *data = NULL;
    struct ids count;
    ARG(model && path && *path && to && *to, "no model, path or file to write given");
    struct model *m = model_of(model);
    int rc = out ? check_result(out) : PEFT_OK;
    if (!rc) rc = take_data_opts(m, opts, &o, &d);
    if (rc) return rc;
    d.threads = pool_threads(m->pool);
    ids_init(&count, &m->host.mem);
    rc = data_prepare(&m->host, m->tok, path, &d, to, o.shard_rows, &count, &data);
    if (!rc && out) {
        peft_dataset_stats s;
        tell_stats(data, count.v, count.n, &s);
        give_result(out, &s, sizeof(s));
    }
    data_free(data);
    ids_free(&count);
    return rc;
}

const char *peft_dataset_label(const peft_dataset *data, int32_t i)
{
    const struct dataset *d = dataset_of(data);
    return d && d->labels && i >= 0 && i < d->n_labels ? d->labels[i] : NULL;
}

int32_t peft_dataset_row(const peft_dataset *data, int64_t i, peft_row *out)
{
    ARG(data, "no data set given");
    const struct dataset *d = dataset_of(data);
    int rc = check_result(out);
    if (rc) return rc;
    if (i < 0 || i >= d->n)
        return fail(PEFT_ENOTFOUND, "row %lld, expected 0 to %lld", (long long)i,
                    (long long)d->n - 1);
    const struct example *e = &d->rows[i];
    peft_row r = {
        .line = e->line, .n = e->n, .ids = e->ids, .labels = e->labels, .label = e->label,
        .picture = e->picture
    };
    give_result(out, &r, sizeof(r));
    return PEFT_OK;
}
