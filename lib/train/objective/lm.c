/* Language modelling: -log p(next token) over the trained tokens.  The head's
 * logits never exist as a whole (g_xent_head), unless the head itself carries
 * an adapter. */
#include "train/train.h"

static struct tensor *lm_features(struct pass *p, const struct batch *b)
{
    return g_rows(p->g, model_hidden(p), b->rows, b->n_target);
}

static struct tensor *lm_loss(struct pass *p, const struct batch *b, struct tensor *x, float scale,
                              struct loss_stats *stats)
{
    const struct site *head = model_lm_head(p->m);
    if (nn_adapted(head)) return g_xent(p->g, model_logits(p, x), b->target, scale, stats);
    graph_name(p->g, head->name);
    return g_xent_head_capped(p->g, x, nn_leaf(p, head->w), nn_leaf(p, head->b), NULL, b->target,
                              b->n_target, scale, (float)p->m->hp.logit_cap, stats);
}

static int lm_fits(const struct model *m, const struct dataset *d)
{
    (void)d;
    if (m->head)
        return fail(PEFT_EARG, "the model has a head with %d labels, but the data set has none",
                    (int)m->hp.labels);
    if (!m->arch->style.causal)
        return fail(PEFT_EARG,
                    "an encoder trains on labelled text, expected rows with text and label");
    return 1;
}

const struct objective objective_lm = {
    "lm", TASK_LM, PER_TARGET, PER_TARGET, lm_fits, lm_features, lm_loss
};
