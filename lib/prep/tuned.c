/* What heads cannot see: for each part of the rows LoRA and a head are trained on the other
 * parts and asked about that one.  Rows reach the trainer as JSONL in memory. */
#include "prep/labels.h"

#include <math.h>

enum { TUNED_RANK = 16, TUNED_BATCH = 16, TUNED_CHUNK = 64, TRAINED_ROW = 3 };
static const float tuned_rate = 5e-4f;
static const char tuned_name[] = "faults";

static int tuned_rows(struct host *h, const struct tuned *o, peft_dataset **out)
{
    struct buf b;
    buf_init(&b, &h->mem);
    for (int64_t i = 0, at = 0; i < o->n; i++) {
        buf_puts(&b, "{\"text\": ");
        buf_json(&b, o->rows[i].text, (int64_t)strlen(o->rows[i].text));
        buf_puts(&b, o->several ? ", \"labels\": [" : ", \"label\": ");
        for (int64_t from = at; at < o->rows[i].end; at++) {
            const char *name = o->name[o->given[at]];
            if (at > from) buf_puts(&b, ", ");
            buf_json(&b, name, (int64_t)strlen(name));
        }
        buf_puts(&b, o->several ? "]}\n" : "}\n");
    }
    peft_dataset_opts d = {.size = sizeof d, .max_len = o->max_len, .text = b.data,
                           .text_n = (size_t)b.n};
    int rc = buf_check(&b);
    if (!rc && (rc = peft_dataset_load(o->model, "rows.jsonl", &d, out)) != 0) rc = kit_failed(rc);
    buf_free(&b);
    return rc;
}

/* Rows that cost as much as reading so many once. */
static int tuned_step(struct tuned *o, int64_t rows)
{
    o->done += rows;
    if (o->progress && o->progress(o->ctx, o->done))
        return fail(PEFT_ECANCELLED, "cancelled while the model was tuned");
    return PEFT_OK;
}

/* The data set's rows that are not of the part. */
static int other_parts(struct host *h, const struct tuned *o, const peft_dataset *all,
                       int32_t part, peft_dataset **out)
{
    peft_dataset_stats s = {.size = sizeof s};
    peft_row row = {.size = sizeof row};
    int64_t *rows = NULL, n = 0;
    int rc = peft_dataset_info(all, &s);
    if (!rc) rows = mem_array(&h->mem, MAX(s.rows, 1), sizeof *rows);
    if (!rc && !rows) return PEFT_ENOMEM;
    for (int64_t i = 0; !rc && i < s.rows; i++) {
        rc = peft_dataset_row(all, i, &row);
        if (!rc && o->part[row.line - 1] != part) rows[n++] = i;
    }
    if (!rc) rc = peft_dataset_subset(all, rows, n, out);
    mem_free(&h->mem, rows);
    return rc ? kit_failed(rc) : PEFT_OK;
}

static int ask_part(struct tuned *o, int32_t part, float *p, float *scores)
{
    const char *text[TUNED_CHUNK];
    int64_t row[TUNED_CHUNK];
    peft_classify_opts c = {.size = sizeof c, .max_len = o->max_len};
    int rc = PEFT_OK;
    for (int64_t i = 0; !rc && i < o->n; ) {
        int32_t n = 0;
        for (; i < o->n && n < TUNED_CHUNK; i++) {
            if (o->part[i] != part) continue;
            row[n] = i;
            text[n++] = o->rows[i].text;
        }
        if (!n) break;
        rc = peft_classify(o->model, text, n, &c, scores, NULL);
        rc = rc ? kit_failed(rc) : tuned_step(o, n);
        for (int32_t k = 0; !rc && k < n; k++)
            memcpy(p + row[k] * o->labels, scores + (int64_t)k * o->labels,
                   (size_t)o->labels * sizeof *p);
    }
    return rc;
}

static int train_part(struct tuned *o, peft_trainer *t)
{
    peft_step s = {.size = sizeof s};
    int rc;
    while ((rc = peft_train_step(t, &s)) == PEFT_OK)
        if ((rc = tuned_step(o, TUNED_BATCH * TRAINED_ROW)) != 0) return rc;
    return rc == PEFT_EEND ? PEFT_OK : kit_failed(rc);
}

static int new_head(const struct tuned *o)
{
    peft_head_opts head = {.size = sizeof head, .labels = o->labels, .names = o->name,
                           .seed = o->seed, .kind = o->several ? "multi-label" : "classification"};
    int rc = peft_head_add(o->model, &head);
    return rc ? kit_failed(rc) : PEFT_OK;
}

static int tuned_part(struct host *h, struct tuned *o, const peft_dataset *all, int32_t part,
                      float *p, float *scores)
{
    peft_adapter_opts lora = {.size = sizeof lora, .rank = TUNED_RANK, .seed = o->seed};
    peft_train_opts x = {.size = sizeof x, .lr = tuned_rate, .schedule = "linear", .warmup = 0.06f,
                         .batch = TUNED_BATCH, .epochs = o->epochs, .seed = o->seed};
    peft_dataset *rows = NULL;
    peft_trainer *t = NULL;
    int rc = other_parts(h, o, all, part, &rows);
    if (!rc && ((rc = peft_adapter_add(o->model, tuned_name, &lora)) != 0 ||
                (rc = peft_trainer_new(o->model, rows, &x, &t)) != 0 ||
                (rc = peft_trainer_keep(t)) != 0))
        rc = kit_failed(rc);
    if (!rc) rc = train_part(o, t);
    if (!rc) rc = ask_part(o, part, p, scores);
    /* The head as it was, for the next part. */
    int32_t back = t ? peft_trainer_back(t) : PEFT_OK;
    if (!rc && back) rc = kit_failed(back);
    peft_trainer_free(t);
    peft_adapter_remove(o->model, tuned_name);
    peft_dataset_free(rows);
    return rc;
}

int64_t tuned_work(int64_t rows, int32_t folds, int32_t epochs)
{
    return rows * (1 + (int64_t)TRAINED_ROW * epochs * (folds - 1));
}

int tuned_cross(struct host *h, struct tuned *o, float *p)
{
    struct mem *mem = &h->mem;
    float *scores = mem_array(mem, TUNED_CHUNK, o->labels * (int64_t)sizeof *scores);
    peft_dataset *all = NULL;
    int rc = scores ? new_head(o) : PEFT_ENOMEM;
    if (!rc) rc = tuned_rows(h, o, &all);
    for (int32_t k = 0; !rc && k < o->folds; k++) rc = tuned_part(h, o, all, k, p, scores);
    peft_dataset_free(all);
    mem_free(mem, scores);
    return rc;
}

void tuned_join(float *p, const float *other, int64_t n, int32_t labels)
{
    for (int64_t i = 0; i < n * labels; i += labels) {
        float sum = 0;
        for (int32_t k = 0; k < labels; k++) sum += p[i + k] = sqrtf(p[i + k] * other[i + k]);
        for (int32_t k = 0; k < labels; k++) p[i + k] /= MAX(sum, 1e-30f);
    }
}
