/* The one training loop.  A step is: batches -> graph -> loss -> backward ->
 * clip -> optimizer.  It is a small state machine, so that it can be left
 * after any node and gone on with later, with the same bits. */
#include <math.h>
#include <stdio.h>

#include "train/train.h"

/* --- a step's gradients become an update */

struct norm { const struct kernels *k; const float *g; double *part; int64_t grain; };

static void norm_piece(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct norm *n = arg;
    (void)worker;
    n->part[begin / n->grain] = n->k->sum_squares(n->g + begin, end - begin);
}

static double grad_norm(struct trainer *t)
{
    struct norm n = { t->m->compute.k, t->grads, t->norm_parts, NORM_GRAIN };
    double sum = 0;
    compute_rows(&t->m->compute, t->n_floats, NORM_GRAIN, norm_piece, &n);
    for (int64_t i = 0; i < div_up(t->n_floats, NORM_GRAIN); i++) sum += n.part[i];
    return sqrt(sum);
}

static int64_t warmup_steps(const struct trainer *t)
{
    double w = t->o.warmup;
    return (int64_t)(w < 1 ? ceil(w * (double)t->steps) : w);
}

/* What methods add to the loss, with its gradients, once a step. */
static double regularise(struct trainer *t)
{
    double sum = 0;
    for (struct adapter *a = t->m->adapters; a; a = a->next)
        if (a->enabled && a->method->regularise) sum += a->method->regularise(t->m, a);
    return sum;
}

/* 0.999f is not 0.999: torch holds its betas as doubles, and 1 - beta^t of the
 * float would be off by 1e-5. */
static double correction(float beta, int64_t t)
{
    return 1.0 - pow(round((double)beta * 1e7) / 1e7, (double)t);
}

/* --- a step that is not finite */

static int param_finite(const struct trainer *t, const struct param *p)
{
    enum { CHECKED = 1024 };                  /* whole blocks of all types */
    float x[CHECKED];
    for (int64_t n, i = 0; i < param_len(p); i += n) {
        n = MIN(CHECKED, param_len(p) - i);
        qtype_expand(p->type, x, p->data, i, n);
        if (!t->m->compute.k->finite(x, n)) return 0;
    }
    return 1;
}

/* Where it is seen first: in a weight, in a value or gradient of the last batch's graph, or
 * in the gradient that the last layers left. */
static int broken_step(struct trainer *t, const char *what)
{
    const struct param *p, *bad = NULL;
    const char *is = "the weight ", *node = NULL;
    for (int64_t i = 0; !bad && (p = model_nth_param(t->m, i)); i++)
        if (!param_finite(t, p)) bad = p;
    for (int64_t i = t->n_list - 1; !bad && i >= 0; i--)
        if (!t->m->compute.k->finite(t->grads + t->list[i].at, t->list[i].n)) {
            node = graph_find_nonfinite(t->graph);
            bad = t->list[i].p;
            is = "the gradient of ";
        }
    if (!bad) node = graph_find_nonfinite(t->graph);
    char layer[24] = "";
    if (bad && !node && bad->layer >= 0)
        snprintf(layer, sizeof layer, ", layer %d", (int)bad->layer);
    return fail(PEFT_ENONFINITE, "step %lld: %s is not finite, first seen in %s%s%s",
                (long long)t->step + 1, what, node ? "" : bad ? is : what,
                node ? node : bad ? bad->name : "", layer);
}

static int update(struct trainer *t, peft_step *out)
{
    double norm = grad_norm(t);
    double lr = t->o.lr * t->schedule->factor(t->step, t->steps, warmup_steps(t));
    if (!isfinite(norm)) return broken_step(t, "the gradient");
    struct hyper h = { .lr = (float)lr, .beta1 = t->o.beta1, .beta2 = t->o.beta2, .eps = t->o.eps,
                       .gscale = 1.0f, .bias1 = correction(t->o.beta1, t->step + 1),
                       .bias2 = correction(t->o.beta2, t->step + 1) };
    /* torch.nn.utils.clip_grad_norm_ */
    if (t->o.clip > 0 && norm > 0) h.gscale = (float)MIN(1.0, t->o.clip / (norm + 1e-6));
    states_update(t, &h);
    const struct made_step made = { t->step, t->steps, h.gscale };
    for (struct adapter *a = t->m->adapters; a; a = a->next)
        if (a->enabled && a->method->stepped) a->method->stepped(t->m, a, &made);
    t->m->edits++;
    t->prefix.edits = t->m->edits;
    out->grad_norm = norm;
    out->lr = lr;
    return PEFT_OK;
}

/* --- building a batch's graph */

static int plan_and_start(struct trainer *t, struct tensor *loss)
{
    int rc = graph_plan(t->graph, loss, loss ? t->how.policy : RECOMPUTE_NONE, NULL);
    if (!rc) rc = graph_reserve(t->graph, t->slab, t->scratch);
    if (!rc) graph_start(t->graph);
    return rc;
}

static int build(struct trainer *t, const struct batch *b)
{
    float scale = t->terms ? 1.0f / (float)t->terms : 0.0f;
    t->pass.training = 1;
    t->pass.draw = (uint64_t)t->step << 16 | (uint64_t)t->micro;
    batch_pass(&t->pass, b, t->d->max_len);
    int rc = pass_begin(&t->pass);
    if (rc) return rc;
    struct tensor *x = t->prefix.on ? prefix_cut(&t->prefix, &t->pass, b, t->prefix.gather)
                                    : t->objective->features(&t->pass, b);
    return plan_and_start(t, objective_loss(t->objective, &t->pass, b, x, scale, &t->stats));
}

static int build_below(struct trainer *t, const int32_t *rows, int64_t n)
{
    const struct batch *b = prefix_batch(&t->prefix.train, t->job, rows, n);
    if (!b) return PEFT_EDATA;
    t->pass.training = 1;
    batch_pass(&t->pass, b, t->d->max_len);
    int rc = pass_begin(&t->pass);
    if (rc) return rc;
    prefix_below(&t->prefix, &t->pass, b);
    return plan_and_start(t, NULL);
}

/* --- the state machine */

/* How many batches the next step has, and their terms and tokens. */
static void step_size(struct trainer *t)
{
    struct batch_size size;
    int64_t left;
    if (t->index >= batcher_count(t->batcher, t->epoch)) {
        t->epoch++;
        t->index = 0;
    }
    left = batcher_count(t->batcher, t->epoch) - t->index;
    t->micros = (int32_t)MIN(left, trainer_micros(t));
    t->micro = 0;
    t->terms = t->tokens = t->rows = 0;
    for (int32_t i = 0; i < t->micros; i++) {
        batcher_size(t->batcher, t->epoch, t->index + i, &size);
        t->terms += t->objective->term == PER_TARGET ? size.targets : size.seqs / t->d->texts;
        t->tokens += size.tokens;
        t->rows += size.seqs;
    }
}

static int begin_step(struct trainer *t)
{
    t->epoch0 = t->epoch;
    t->index0 = t->index;
    budget_take(t);
    int rc = trainer_prepare(t);
    if (rc) return rc;
    step_size(t);
    prefix_check(&t->prefix);
    t->rest = t->anchored = 0;
    t->stats = (struct loss_stats){ 0 };
    t->seconds = 0;
    trainer_zero(t, t->grads, t->n_floats * (int64_t)sizeof(float));
    t->stage = STAGE_MICRO;
    t->prefix.busy = 1;
    return PEFT_OK;
}

/* Back to where the step in flight, if any, began; the weights have not been
 * touched. */
static int undo_step(struct trainer *t, int rc)
{
    if (t->stage == STAGE_IDLE) return rc;
    t->epoch = t->epoch0;
    t->index = t->index0;
    t->stage = STAGE_IDLE;
    t->prefix.busy = 0;
    budget_lend(t);
    return rc;
}

static int finish_step(struct trainer *t, peft_step *out)
{
    out->loss = t->stats.count ? t->stats.loss / (double)t->stats.count : 0;
    out->loss += regularise(t);
    int rc = isfinite(out->loss) ? update(t, out) : broken_step(t, "the loss");
    if (rc) return undo_step(t, rc);
    anchor_stepped(t, out);
    t->step++;
    t->tokens_seen += t->tokens;
    t->terms_seen += t->terms;
    out->step = t->step;
    out->steps = t->steps;
    out->epoch = (double)t->epoch + (double)t->index / (double)batcher_count(t->batcher, t->epoch);
    out->tokens = t->tokens;
    out->trained_tokens = t->terms;
    out->tokens_seen = t->tokens_seen;
    out->seconds = t->seconds;
    t->stage = STAGE_IDLE;
    t->prefix.busy = 0;
    budget_lend(t);
    card_step(t, out);
    return PEFT_OK;
}

static int begin_micro(struct trainer *t)
{
    struct kept_rows *k = &t->prefix.train;
    int64_t n;
    const int32_t *rows = batcher_rows(t->batcher, t->epoch, t->index, &n);
    t->job = t->prefix.on ? prefix_next(&t->prefix, k, rows, n, t->rest) : PREFIX_READY;
    if (t->job != PREFIX_READY) {
        t->stage = STAGE_BELOW;
        return build_below(t, rows, n);
    }
    const struct batch *b = batcher_get(t->batcher, t->epoch, t->index);
    if (!b) return PEFT_EDATA;
    t->rest = 0;
    if (t->prefix.on && !prefix_gather(&t->prefix, k, b, t->prefix.gather)) return PEFT_OK;
    t->stage = STAGE_RUN;
    return build(t, b);
}

static int begin_anchor(struct trainer *t)
{
    const float *hidden;
    const struct batch *b = anchor_batch(t, &hidden);
    t->anchored = 1;
    t->stage = STAGE_ANCHOR;
    t->pass.draw = (uint64_t)t->step << 16 | (uint64_t)t->micro;
    struct tensor *loss = anchor_loss(t, b, hidden);
    return loss ? plan_and_start(t, loss) : PEFT_ENOMEM;
}

static int end_below(struct trainer *t)
{
    prefix_store(&t->prefix, &t->prefix.train, t->job);
    t->rest = t->job == PREFIX_REST;
    t->stage = STAGE_MICRO;
    return PEFT_OK;
}

static int end_micro(struct trainer *t)
{
    if (!isfinite(t->stats.loss)) return broken_step(t, "the loss");
    t->index++;
    t->micro++;
    t->stage = STAGE_MICRO;
    return PEFT_OK;
}

/* One stretch of work: 1 = the step is done, 0 = more to do. */
static int go_on(struct trainer *t, double deadline, peft_step *out)
{
    int rc = PEFT_OK, done;
    switch (t->stage) {
    case STAGE_IDLE:
        return begin_step(t);
    case STAGE_MICRO:
        if (t->micro < t->micros) return begin_micro(t);
        if (t->anchor.d && !t->anchored) return begin_anchor(t);
        rc = finish_step(t, out);
        return rc ? rc : 1;
    default:
        done = graph_run(t->graph, deadline, &t->cancel);
        if (!done) return 0;
        if (t->stage == STAGE_ANCHOR) return t->stage = STAGE_MICRO, PEFT_OK;
        return t->stage == STAGE_BELOW ? end_below(t) : end_micro(t);
    }
}

/* Notes the time of what a step does beside its graph. */
static void note_stage(struct trainer *t, enum stage stage, int last, double seconds)
{
    struct work w = { .name = "build and plan", .type = "", .calls = 1, .seconds = seconds };
    double floats = 4.0 * (double)t->n_floats;
    if (stage == STAGE_IDLE) {
        w.name = "zero gradients";
        w.bytes = floats;
    } else if (last) {
        w.name = "clip and optimizer";
        w.bytes = 4 * floats + 2.0 * t->optimizer->states * (double)t->state_bytes;
    }
    if (stage == STAGE_IDLE || stage == STAGE_MICRO) profile_add(t->profile, &w);
}

int trainer_profile(struct trainer *t, int on)
{
    struct mem *m = &t->m->host.mem;
    graph_profile(t->graph, NULL);
    mem_free(m, t->profile);
    t->profile = NULL;
    if (on && !(t->profile = mem_zalloc(m, sizeof *t->profile))) return PEFT_ENOMEM;
    graph_profile(t->graph, t->profile);
    return PEFT_OK;
}

int trainer_run(struct trainer *t, double deadline, peft_step *out)
{
    int rc = 0;
    if (t->stage == STAGE_IDLE && t->step >= t->steps)
        return fail(PEFT_EEND, "all %lld steps are done", (long long)t->steps);
    do {
        if (atomic_exchange(&t->cancel, 0)) {
            undo_step(t, 0);
            return fail(PEFT_ECANCELLED, "cancelled in step %lld", (long long)t->step + 1);
        }
        const enum stage stage = t->stage;
        int last = stage == STAGE_MICRO && t->micro == t->micros;
        double now = os_seconds();
        rc = go_on(t, deadline, out);
        now = os_seconds() - now;
        t->seconds += now;
        if (t->profile) note_stage(t, stage, last, now);
        if (rc == 1) out->seconds = t->seconds;
    } while (!rc && (deadline <= 0 || os_seconds() < deadline));
    if (rc < 0) return undo_step(t, rc);
    return rc;
}
