/* Token classification: cross entropy over the head's classes, the mean over
 * the tokens that have a label. */
#include "train/train.h"

static struct tensor *token_features(struct pass *p, const struct batch *b)
{
    return g_rows(p->g, model_hidden(p), b->rows, b->n_target);
}

static struct tensor *token_output(struct pass *p, const struct batch *b, struct tensor *x)
{
    (void)b;
    return model_classify(p, x);
}

static struct tensor *token_loss(struct pass *p, const struct batch *b, struct tensor *z,
                                 float scale, struct loss_stats *stats)
{
    return g_xent(p->g, z, b->target, scale, stats);
}

static int token_fits(const struct model *m, const struct dataset *d)
{
    if (m->kind != HEAD_TOKENS)
        return fail(PEFT_EARG, "the rows have labels of tokens, expected a head of the kind "
                    "\"tokens\"");
    if (d->n_labels > m->hp.labels)
        return fail(PEFT_EARG, "the data set has %d classes, the model's head %d", d->n_labels,
                    (int)m->hp.labels);
    return 1;
}

const struct objective objective_tokens = {
    "tokens", TASK_TOKEN, PER_TARGET, PER_TARGET, token_fits, token_features, token_output,
    token_loss, note_tokens, report_tokens, row_tokens
};
