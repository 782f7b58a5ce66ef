/* Reward model: -log sigmoid(r(better) - r(worse) - margin) of a head with one
 * output (Ouyang et al. 2022). */
#include "train/train.h"

static struct tensor *reward_features(struct pass *p, const struct batch *b)
{
    (void)b;
    return model_pooled(p, model_hidden(p));
}

static struct tensor *reward_output(struct pass *p, const struct batch *b, struct tensor *x)
{
    (void)b;
    return model_classify(p, x);
}

static struct tensor *reward_loss(struct pass *p, const struct batch *b, struct tensor *z,
                                  float scale, struct loss_stats *stats)
{
    return g_rank(p->g, z, b->value, scale, stats);
}

/* Without a head of one output the rows may be for another objective. */
static int reward_fits(const struct model *m, const struct dataset *d)
{
    return m->head && m->hp.labels == 1 && d->texts == 2 && !head_kinds[m->kind].each_token;
}

const struct objective objective_reward = {
    "reward", TASK_PAIR, PER_TEXT, PER_ROW, reward_fits, reward_features, reward_output,
    reward_loss, note_pairs, report_pairs, row_pair
};
