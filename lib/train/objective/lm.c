/* Language modelling: -log p(token) over the trained tokens, of the next token
 * of a text or of the target that belongs to a source, or, masked, of the token
 * itself.  The head's logits never exist as a whole
 * (g_xent_head), unless the head itself carries an adapter that is not of rows. */
#include "train/train.h"

static struct tensor *lm_features(struct pass *p, const struct batch *b)
{
    struct tensor *x = model_hidden(p);
    return g_rows(p->g, x, pass_rows(p, b->rows, b->n_target), b->n_target);
}

static struct tensor *lm_loss(struct pass *p, const struct batch *b, struct tensor *x, float scale,
                              struct loss_stats *stats)
{
    const struct site *head = model_lm_head(p->m), *bias = p->m->global[SLOT_LM_BIAS];
    const struct adapted *rows = nn_rows(p, head);
    struct head_opts o = { .cap = (float)p->m->hp.logit_cap };
    if (nn_adapted(p, head) && !rows)
        return g_xent(p->g, model_logits(p, x), b->target, scale, stats);
    x = model_before_lm(p, x);
    if (rows) {
        o.rows = nn_leaf(p, rows->part[0]);
        o.index = rows->index;
    }
    graph_name(p->g, head->name);
    return g_xent_head_with(p->g, x, nn_leaf(p, head->w), nn_leaf(p, bias ? bias->w : head->b),
                            NULL, b->target, b->n_target, scale, o, stats);
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
    if (!model_lm_head(m)) return fail(PEFT_EARG, "the model has no language-model head");
    return 1;
}

/* A target's tokens are those of a language model that reads a source too. */
static int seq2seq_fits(const struct model *m, const struct dataset *d)
{
    (void)m;
    (void)d;
    return 1;                       /* such rows are made for no other model */
}

const struct objective objective_seq2seq = {
    "seq2seq", TASK_SEQ2SEQ, PER_TARGET, PER_TARGET, seq2seq_fits, lm_features, NULL, lm_loss,
    NULL, NULL, NULL
};

static int masked_fits(const struct model *m, const struct dataset *d)
{
    (void)d;
    if (m->kind == HEAD_MASKED) return 1;
    if (m->head)
        return fail(PEFT_EARG, "the model has a head with %d labels, but the data set has none",
                    (int)m->hp.labels);
    return fail(PEFT_EARG, "an encoder trains on labelled text, expected rows with text and label, "
                "or a head of the kind \"masked-lm\"");
}

const struct objective objective_lm = {
    "lm", TASK_LM, PER_TARGET, PER_TARGET, lm_fits, lm_features, NULL, lm_loss, NULL, NULL, NULL
};
const struct objective objective_masked = {
    "masked", TASK_MASKED, PER_TARGET, PER_TARGET, masked_fits, lm_features, NULL, lm_loss, NULL,
    NULL, NULL
};
