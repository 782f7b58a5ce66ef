/* Extractive question answering: the mean of two cross entropies over the
 * tokens of a row, of where the answer begins and of where it ends.  Without an
 * answer both are the first token. */
#include "train/train.h"

static struct tensor *span_features(struct pass *p, const struct batch *b)
{
    (void)b;
    return model_hidden(p);
}

static struct tensor *span_output(struct pass *p, const struct batch *b, struct tensor *x)
{
    (void)b;
    return model_classify(p, x);
}

static struct tensor *span_loss(struct pass *p, const struct batch *b, struct tensor *z,
                                float scale, struct loss_stats *stats)
{
    return g_span(p->g, z, b->start, b->span, b->n_rows, scale, stats);
}

static int span_fits(const struct model *m, const struct dataset *d)
{
    (void)d;
    if (m->kind == HEAD_SPAN) return 1;
    return fail(PEFT_EARG, "the rows are questions, expected a head of the kind "
                "\"question-answering\"");
}

const struct objective objective_span = {
    "span", TASK_SPAN, PER_TOKEN, PER_ROW, span_fits, span_features, span_output, span_loss,
    note_spans, report_spans, NULL
};
