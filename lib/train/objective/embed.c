/* Embeddings by contrast, as sentence-transformers defines the losses.  Rows
 * are a text, one that fits it, and texts that do not; or two texts and how
 * alike they are.
 *     match     multiple negatives ranking: scale * cosine to each fitting and
 *               each other text of the batch, cross entropy of the own one
 *     triplet   Euclidean distances, max(0, d(a, p) - d(a, n) + margin)
 *     cosent    order of scale * cosine as that of the scores
 *     cosine    squared difference of cosine and score */
#include "train/train.h"

static struct tensor *embed_features(struct pass *p, const struct batch *b)
{
    (void)b;
    return model_pool(p, model_hidden(p), p->m->sentence.pool);
}

/* Cosines are products of these. */
static struct tensor *embed_unit(struct pass *p, const struct batch *b, struct tensor *x)
{
    (void)b;
    return g_unit(p->g, x);
}

/* The k-th text of every row, or with `all` those from the k-th on. */
static struct tensor *texts(struct pass *p, const struct batch *b, struct tensor *x, int64_t k,
                            int all)
{
    int64_t n = x ? x->rows : 0, d = x ? x->cols : 0, from = k * b->n_rows;
    if (!x) return NULL;
    x = g_reshape(p->g, x, 1, n * d);
    int64_t rows = all ? n - from : b->n_rows;
    return g_reshape(p->g, g_slice_cols(p->g, x, from * d, rows * d), rows, d);
}

static struct tensor *match_loss(struct pass *p, const struct batch *b, struct tensor *x,
                                  float scale, struct loss_stats *stats)
{
    struct tensor *z = g_linear(p->g, texts(p, b, x, 0, 0), texts(p, b, x, 1, 1));
    return g_match(p->g, g_scale(p->g, z, loss_opts(p)->scale), b->same + b->n_rows, scale, stats);
}

static struct tensor *triplet_loss(struct pass *p, const struct batch *b, struct tensor *x,
                                    float scale, struct loss_stats *stats)
{
    return g_triplet(p->g, texts(p, b, x, 0, 0), texts(p, b, x, 1, 0), texts(p, b, x, 2, 0),
                     loss_opts(p)->margin, scale, stats);
}

static struct tensor *cosines(struct pass *p, const struct batch *b, struct tensor *x)
{
    return g_dot_rows(p->g, texts(p, b, x, 0, 0), texts(p, b, x, 1, 0));
}

/* The logarithm is one for the whole batch; times its rows it counts as theirs. */
static struct tensor *cosent_loss(struct pass *p, const struct batch *b, struct tensor *x,
                                   float scale, struct loss_stats *stats)
{
    struct tensor *s = g_scale(p->g, cosines(p, b, x), loss_opts(p)->scale);
    return g_cosent(p->g, s, b->value, scale * (float)b->n_rows, stats);
}

static struct tensor *cosine_loss(struct pass *p, const struct batch *b, struct tensor *x,
                                   float scale, struct loss_stats *stats)
{
    return g_mse(p->g, cosines(p, b, x), b->value, scale, stats);
}

static int any_fits(const struct model *m, const struct dataset *d)
{
    (void)d;
    if (!m->head) return 1;
    return fail(PEFT_EARG, "the model has a head with %d labels, expected none for embeddings",
                (int)m->hp.labels);
}

static int triplet_fits(const struct model *m, const struct dataset *d)
{
    if (d->texts == 3) return any_fits(m, d);
    return fail(PEFT_EARG, "rows of %d texts, expected an anchor, a positive and a negative",
                (int)d->texts);
}

#define EMBED(id, task, fits, output, note, report, row) \
    const struct objective objective_##id = { #id, task, PER_TEXT, PER_ROW, fits, embed_features, \
                                              output, id##_loss, note, report, row }
EMBED(match, TASK_MATCH, any_fits, embed_unit, note_texts, report_texts, NULL);
EMBED(triplet, TASK_MATCH, triplet_fits, NULL, note_texts, report_texts, NULL);
EMBED(cosent, TASK_ALIKE, any_fits, embed_unit, note_alike, report_numbers,
      row_numbers);
EMBED(cosine, TASK_ALIKE, any_fits, embed_unit, note_alike, report_numbers,
      row_numbers);
