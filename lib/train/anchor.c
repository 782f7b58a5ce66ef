/* Holding on to what a model could do.  Beside its batches each step has one row of other
 * texts, the anchor, on which the model shall say what it said before the run:
 *
 *     loss + w * mean over the row's tokens of KL(p_before || p_now)
 *
 * p_before comes from hidden states that are computed once, before the first step, so that
 * no second model is needed.  Under a bound b, w is a multiplier that rises while KL is
 * above it and falls while it is below (dual ascent in the logarithm, as the adaptive
 * penalty of PPO, Schulman et al. 2017, sec. 4). */
#include <math.h>

#include "train/train.h"

enum { ANCHOR_BATCH = 1 };
static const double weight_rate = 0.2;          /* of w, in its logarithm, a step */
static const double smoothing = 0.3;            /* of a step in the smoothed KL */
static const double weight_least = 0.3, weight_most = 1e3;  /* parts of what w begins with */
static const double soon_back = 0.05;           /* share of its excess that KL loses a step */
static const double bound_margin = 0.7;         /* of the bound, that is aimed at */

int anchor_new(struct trainer *t, struct dataset *d)
{
    struct anchor *a = &t->anchor;
    struct batch_opts bo = { .batch = ANCHOR_BATCH };
    if (!(t->o.anchor_weight >= 0 && t->o.anchor_weight < 1e6f && t->o.drift_bound >= 0 &&
          isfinite(t->o.drift_bound)))
        return fail(PEFT_EARG, "anchor weight %g, drift bound %g, expected 0 or more",
                    (double)t->o.anchor_weight, (double)t->o.drift_bound);
    if (!d && (t->o.anchor_weight > 0 || t->o.drift_bound > 0))
        return fail(PEFT_EARG, "an anchor weight or drift bound, but no anchor texts");
    if (!d) return PEFT_OK;
    if (d->host != &t->m->host)
        return fail(PEFT_EARG, "the anchor was made from another model");
    if (!compare_lm(t->m) || d->task != TASK_LM)
        return fail(PEFT_EARG, "rows of %s as anchor of a model with a %s head, expected texts and "
                    "a language model", d->schema, head_kinds[t->m->kind].name);
    a->weight = t->o.anchor_weight > 0 ? t->o.anchor_weight : 1;
    int rc = compare_begin(t->m, d);
    if (!rc) rc = batcher_new(d, &bo, &a->batcher);
    if (rc) return rc;
    a->d = d;
    d->trainers++;
    batcher_max(a->batcher, 1, &a->max);
    for (int64_t i = 0; i < batcher_count(a->batcher, 0); i++) {
        struct batch_size s;
        batcher_size(a->batcher, 0, i, &s);
        a->rows += s.targets;
    }
    return a->rows ? PEFT_OK : fail(PEFT_EDATA, "the anchor has no tokens to compare");
}

/* A head that trains is kept as it was. */
static int64_t head_floats(const struct trainer *t)
{
    const struct param *w = model_lm_head(t->m)->w;
    return w->trainable ? param_len(w) : 0;
}

int64_t anchor_bytes(const struct trainer *t)
{
    if (!t->anchor.d) return 0;
    return (t->anchor.rows * t->m->hp.embed + head_floats(t)) * (int64_t)sizeof(float);
}

/* The model's own hidden states, as it is now. */
int anchor_begin(struct trainer *t)
{
    struct anchor *a = &t->anchor;
    int rc = PEFT_OK;
    if (!a->d || a->hidden) return PEFT_OK;
    if (!(a->hidden = mem_alloc(&t->m->host.mem, anchor_bytes(t)))) return PEFT_ENOMEM;
    float *to = a->hidden + head_floats(t);
    if (head_floats(t)) memcpy(a->hidden, model_lm_head(t->m)->w->own, (size_t)head_floats(t) * 4);
    for (int64_t i = 0; i < batcher_count(a->batcher, 0) && !rc; i++) {
        const struct batch *b = batcher_get(a->batcher, 0, i);
        struct pass p = t->pass;
        p.training = 0;
        batch_pass(&p, b, a->d->max_len);
        rc = pass_begin(&p);
        if (rc || !compare_rows(t->m, b)) continue;
        struct tensor *x = compare_features(&p, b);
        graph_keep(x);
        if ((rc = graph_forward(p.g))) break;
        memcpy(to, tensor_f32(x), (size_t)tensor_len(x) * 4);
        to += tensor_len(x);
    }
    graph_reset(t->graph);
    if (rc) {
        mem_free(&t->m->host.mem, a->hidden);
        a->hidden = NULL;
    }
    return rc;
}

struct tensor *anchor_loss(struct trainer *t, const struct batch *b, const float *hidden)
{
    struct anchor *a = &t->anchor;
    struct reference r = reference_of(t->m, hidden);
    if (head_floats(t)) r.head.data = a->hidden, r.head.type = &qtype_f32;
    a->sum = (struct compared){ 0 };
    t->pass.training = 1;
    batch_pass(&t->pass, b, a->d->max_len);
    if (pass_begin(&t->pass)) return NULL;
    return compare_loss(&t->pass, b, &r, (float)(a->weight / (double)MAX(1, b->n_target)), &a->sum);
}

/* This step's row, and its hidden states. */
const struct batch *anchor_batch(struct trainer *t, const float **hidden)
{
    struct anchor *a = &t->anchor;
    int64_t now = t->step % batcher_count(a->batcher, 0);
    if (now < a->at) a->at = a->first = 0;
    for (; a->at < now; a->at++) {
        struct batch_size s;
        batcher_size(a->batcher, 0, a->at, &s);
        a->first += s.targets;
    }
    *hidden = a->hidden + head_floats(t) + a->first * t->m->hp.embed;
    return batcher_get(a->batcher, 0, now);
}

void anchor_stepped(struct trainer *t, peft_step *out)
{
    struct anchor *a = &t->anchor;
    if (!a->d) return;
    out->drift = compare_mean(t->m, &a->sum);
    out->drift_weight = a->weight;
    if (!(t->o.drift_bound > 0)) return;
    double before = a->smooth, aim = bound_margin * (double)t->o.drift_bound;
    double start = t->o.anchor_weight > 0 ? t->o.anchor_weight : 1;
    a->smooth += (out->drift - before) * smoothing;
    /* Soon back already: more weight would only overshoot. */
    if (a->smooth > aim && before - a->smooth > soon_back * (a->smooth - aim)) return;
    double over = fmin(fmax(a->smooth / aim - 1, -1), 1);
    a->weight = fmin(fmax(a->weight * exp(weight_rate * over), start * weight_least),
                     start * weight_most);
}

void anchor_free(struct trainer *t)
{
    struct anchor *a = &t->anchor;
    mem_free(&t->m->host.mem, a->hidden);
    batcher_free(a->batcher);
    if (a->d) a->d->trainers--;
}
