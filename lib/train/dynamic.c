/* The best type for each matrix under a budget, from a calibration text.
 *
 * KL(full || quantised), of encoders 1 - cos (compare.c), is least, and its gradient
 * zero, at the full weights W; so the gradient g is taken where all matrices have their
 * smallest types, at W_0.  For the quadratic that KL is near W, g = H (W_0 - W), and a
 * tensor's part of KL is about <g, W_0 - W> / 2.  Of each tensor and type T only two sums are kept,
 *     <g, W_T - W_0>  and  |W_T - W|^2,
 * of which two estimates are made (peft.h).  The choice is a multiple-choice knapsack:
 * for a multiplier m every tensor takes the type of least cost + m bytes; bisection
 * finds the least m that keeps to the budget (exact on the convex hull of each tensor's
 * types), and what is left is spent on the best cost per byte. */
#include <math.h>
#include <stdio.h>

#include "train/quantise.h"

enum { CHOICES = 12, DYN_TASK = 65536 };
static const char ggml_types[] = "q4_0,q4_1,q4_k,q5_0,q5_1,q5_k,q6_k,q8_0,bf16";

struct dyn_choice {
    const struct qtype *type;
    int64_t bytes;
    double align, error;            /* <g, W_T - W_0>, |W_T - W|^2 */
    double cost;                    /* by the rule at hand, beside W_0's */
};
struct dyn_item {                   /* a matrix, or the experts' that are one tensor */
    struct site *const *sites;
    int64_t n;
    int n_choices, now, best;
    struct dyn_choice choice[CHOICES];
};
/* A matrix as it was, and blocks in its place. */
struct dyn_kept { struct param *p; const void *data; const struct qtype *type; void *blocks; };

struct dyn {
    struct model *m;
    const struct dataset *d;
    const peft_quantize_opts *o;
    struct batcher *batcher;
    struct dyn_item *items;
    struct dyn_kept *kept;          /* [n_sites], by site, and [n_params] that are rounded */
    float *hidden, *grads, *room;   /* the reference's, of all batches; a group's; tasks' */
    double *sums;                   /* [tasks, 2] */
    int64_t n_items, rows, fixed, weights;
    struct reference ref;
    int64_t done;                   /* of 1000 */
};

/* --- what can be chosen */

/* What the loss of encoders does not see, their poolers, stays as it is. */
static int dyn_takes(const struct model *m, const struct site *s)
{
    return s->w->type->is_float && s->w->n_dims >= 2 && s->slot != SLOT_ROUTER &&
        (compare_lm(m) || !(s->flags & SLOT_HEAD)) &&
        (s->kind == SITE_LINEAR || s->slot == SLOT_EMBED) && !(s->flags & SLOT_NOT_A_WEIGHT);
}

/* nf4 and fp4 are for what bitsandbytes would take. */
static const struct qtype *dyn_type(const struct wish *w, const struct site *s)
{
    if (w->bnb) return wish_bnb(w, s) ? bnb_type(w->bnb, s->w->stored) : NULL;
    const struct qtype *t = qtype_by_name(w->type);
    return s->w->cols % t->block ? NULL : t;
}

static int dyn_choices(struct dyn_item *it, const char *types)
{
    const struct site *s = it->sites[0];
    for (const char *at = types, *end; *at; at = *end ? end + 1 : end) {
        const struct wish *w;
        char name[16];
        end = at + strcspn(at, ",");
        snprintf(name, sizeof(name), "%.*s", (int)MIN(end - at, 15), at);
        int rc = wish_find(name, IN_FILES | IN_MEMORY, "type", &w);
        if (rc) return rc;
        const struct qtype *t = dyn_type(w, s);
        int64_t bytes = 0;
        if (!t || it->n_choices == CHOICES || !qtype_bytes(t, param_len(s->w), &bytes)) continue;
        int k = it->n_choices++;
        for (; k > 0 && it->choice[k - 1].bytes > bytes * it->n; k--)
            it->choice[k] = it->choice[k - 1];
        it->choice[k] = (struct dyn_choice){ .type = t, .bytes = bytes * it->n };
    }
    return PEFT_OK;
}

static int64_t dyn_bytes(const struct dyn *y, int which)
{
    int64_t sum = y->fixed;
    for (int64_t i = 0; i < y->n_items; i++) {
        const struct dyn_item *it = &y->items[i];
        sum += it->choice[which < 0 ? it->now : which].bytes;
    }
    return sum;
}

static int dyn_collect(struct dyn *y)
{
    struct model *m = y->m;
    const char *types = y->o->types ? y->o->types : ggml_types;
    int rc = PEFT_OK;
    y->items = mem_array(&m->host.mem, m->n_sites, (int64_t)sizeof *y->items);
    y->kept = mem_array(&m->host.mem, m->n_sites + m->n_params, (int64_t)sizeof *y->kept);
    if (!y->items || !y->kept) return PEFT_ENOMEM;
    for (int64_t i = 0, n; i < m->n_sites && !rc; i += n) {
        struct dyn_item *it = &y->items[y->n_items];
        struct site *const *s = &m->sites[i];
        for (n = 1; s[0]->expert >= 0 && i + n < m->n_sites && s[n]->slot == s[0]->slot &&
             s[n]->layer == s[0]->layer; n++) {}
        *it = (struct dyn_item){ .sites = s, .n = n };
        if (dyn_takes(m, s[0])) rc = dyn_choices(it, types);
        if (it->n_choices) y->n_items++;
    }
    for (int64_t i = 0; i < m->n_params; i++) {
        y->weights += m->params[i]->counted ? param_len(m->params[i]) : 0;
        y->fixed += param_bytes(m->params[i]);
    }
    for (int64_t i = 0; i < y->n_items; i++)
        for (int64_t k = 0; k < y->items[i].n; k++)
            y->fixed -= param_bytes(y->items[i].sites[k]->w);
    if (!rc && !y->n_items)
        rc = fail(PEFT_EUNSUPPORTED, "%s has no matrices of floats to choose for", m->path);
    return rc;
}

/* --- blocks in the place of the weights */

static void dyn_restore(struct dyn *y)
{
    for (int64_t i = y->m->n_sites + y->m->n_params - 1; y->kept && i >= 0; i--) {
        struct dyn_kept *k = &y->kept[i];
        if (!k->p) continue;
        k->p->data = k->data;
        k->p->type = k->type;
        mem_free(&y->m->host.mem, k->blocks);
        *k = (struct dyn_kept){ 0 };
    }
}

static int64_t dyn_place(const struct dyn *y, const struct dyn_item *it, int64_t k)
{
    return it->sites + k - y->m->sites;
}

struct dyn_job {
    const struct dyn *y;
    const struct param *p;
    const struct dyn_kept *kept;    /* or NULL: p is as it was */
    const struct qtype *to;
    char *blocks;                   /* written, or NULL: the sums are made */
    const float *grad;
};

static void dyn_task(void *arg, int64_t task, int worker)
{
    const struct dyn_job *j = arg;
    int64_t at = task * DYN_TASK, n = MIN(DYN_TASK, param_len(j->p) - at);
    float *w = j->y->room + (int64_t)worker * 4 * DYN_TASK, *least = w + DYN_TASK;
    float *to = least + DYN_TASK;
    void *packed = j->blocks ? (void *)(j->blocks + at / j->to->block * j->to->bytes)
                             : (void *)(to + DYN_TASK);
    double align = 0, error = 0;
    qtype_expand(j->kept ? j->kept->type : j->p->type, w, j->kept ? j->kept->data : j->p->data,
                 at, n);
    j->to->from_f32(packed, w, n);
    if (j->blocks) return;
    qtype_expand(j->p->type, least, j->p->data, at, n);
    qtype_expand(j->to, to, packed, 0, n);
    for (int64_t i = 0; i < n; i++) {
        double off = (double)to[i] - (double)w[i];
        error += off * off;
        align += (double)j->grad[at + i] * ((double)to[i] - (double)least[i]);
    }
    j->y->sums[2 * task] = align;
    j->y->sums[2 * task + 1] = error;
}

static void dyn_run(const struct dyn_job *j)
{
    pool_run(j->y->m->pool, div_up(param_len(j->p), DYN_TASK), dyn_task, (void *)(uintptr_t)j);
}

/* What is chosen from bitsandbytes' types is for a folder, whose other floats get the
 * embeddings' type (save.c): what they will be rounded to, or NULL. */
static const struct qtype *dyn_rounded_to(const struct dyn *y)
{
    const struct qtype *t = y->m->params[0]->type;
    for (int64_t i = 0; i < y->n_items; i++)
        if (y->items[i].choice[y->items[i].now].type->flat &&
            !y->items[i].choice[y->items[i].now].type->is_float)
            return t == &qtype_bf16 || t == &qtype_f16 ? t : NULL;
    return NULL;
}

static float *dyn_rounded(struct mem *mem, const struct param *p, const struct qtype *to)
{
    float *x = mem_alloc(mem, param_len(p) * 4);
    for (int64_t i = 0; x && i < param_len(p); i++) {
        char bits[4];
        float v = ((const float *)p->data)[i] - (float)p->plus;
        to->from_f32(bits, &v, 1);
        to->to_f32(&x[i], bits, 1);
        x[i] += (float)p->plus;
    }
    return x;
}

static int dyn_round(struct dyn *y)
{
    const struct qtype *to = dyn_rounded_to(y);
    for (int64_t i = 0; to && i < y->m->n_params; i++) {
        struct param *p = y->m->params[i];
        if (p->type != &qtype_f32) continue;
        float *x = dyn_rounded(&y->m->host.mem, p, to);
        if (!x) return PEFT_ENOMEM;
        y->kept[y->m->n_sites + i] = (struct dyn_kept){ p, p->data, p->type, x };
        p->data = x;
    }
    return PEFT_OK;
}

/* All matrices with the types chosen now. */
static int dyn_apply(struct dyn *y)
{
    dyn_restore(y);
    for (int64_t i = 0; i < y->n_items; i++)
        for (int64_t k = 0; k < y->items[i].n; k++) {
            struct param *p = y->items[i].sites[k]->w;
            const struct qtype *t = y->items[i].choice[y->items[i].now].type;
            int64_t bytes = 0;
            qtype_bytes(t, param_len(p), &bytes);
            struct dyn_job j = { .y = y, .p = p, .to = t };
            if (!(j.blocks = mem_alloc(&y->m->host.mem, bytes))) return PEFT_ENOMEM;
            dyn_run(&j);
            y->kept[dyn_place(y, &y->items[i], k)] =
                (struct dyn_kept){ p, p->data, p->type, j.blocks };
            p->data = j.blocks;
            p->type = t;
        }
    return dyn_round(y);
}

/* --- passes over the calibration text */

static int dyn_tell(struct dyn *y, int64_t done)
{
    y->done = MAX(y->done, done);
    return y->o->progress && y->o->progress(y->o->ctx, y->done, 1000)
        ? fail(PEFT_ECANCELLED, "cancelled by the host") : PEFT_OK;
}

static int dyn_reference(struct dyn *y)
{
    float *to = y->hidden;
    int rc = PEFT_OK;
    for (int64_t i = 0; !rc && i < batcher_count(y->batcher, 0); i++) {
        const struct batch *b = batcher_get(y->batcher, 0, i);
        if (!b) return PEFT_EDATA;
        if (!compare_rows(y->m, b)) continue;
        rc = compare_hidden(y->m, b, to);
        to += compare_rows(y->m, b) * y->m->hp.embed;
    }
    return rc;
}

/* One pass; with `training` the gradients of those that have room for them. */
static int dyn_pass(struct dyn *y, int training, struct compared *sum)
{
    float scale = 1.0f / (float)y->rows;
    struct graph *g = y->m->graph;
    int rc = PEFT_OK;
    y->ref.hidden = y->hidden;
    for (int64_t i = 0; !rc && i < batcher_count(y->batcher, 0); i++) {
        const struct batch *b = batcher_get(y->batcher, 0, i);
        if (!b) return PEFT_EDATA;
        if (!compare_rows(y->m, b)) continue;
        struct pass p = { .m = y->m, .g = g, .mem = y->m->mem, .training = training };
        struct plan_report report;
        batch_pass(&p, b, 0);
        if ((rc = pass_begin(&p))) break;
        struct tensor *loss = compare_loss(&p, b, &y->ref, scale, sum);
        graph_keep(loss);
        rc = graph_plan(g, training ? loss : NULL, training ? RECOMPUTE_LAYERS : RECOMPUTE_NONE,
                        &report);
        if (!rc) rc = graph_reserve(g, report.slab, report.scratch);
        if (!rc) {
            graph_start(g);
            graph_run(g, 0, NULL);
        }
        y->ref.hidden += compare_rows(y->m, b) * y->m->hp.embed;
        if (!rc) rc = dyn_tell(y, y->done);
    }
    return rc;
}

/* Gradients of the items [first, last), and their sums. */
static int dyn_group(struct dyn *y, int64_t first, int64_t last)
{
    struct compared sum = { 0 };
    float *at = y->grads;
    for (int64_t i = first; i < last; i++)
        for (int64_t k = 0; k < y->items[i].n; k++) {
            struct param *p = y->items[i].sites[k]->w;
            p->grad = at;
            p->trainable = 1;
            at += param_len(p);
        }
    y->m->compute.k->fill(y->grads, 0.0f, at - y->grads);
    int rc = dyn_pass(y, 1, &sum);
    for (int64_t i = first; i < last; i++) {
        struct dyn_item *it = &y->items[i];
        for (int64_t k = 0; k < it->n; k++) {
            struct param *p = it->sites[k]->w;
            for (int c = 0; c < it->n_choices && !rc; c++) {
                struct dyn_job j = { .y = y, .p = p, .to = it->choice[c].type, .grad = p->grad,
                                     .kept = &y->kept[dyn_place(y, it, k)] };
                dyn_run(&j);
                for (int64_t t = 0; t < div_up(param_len(p), DYN_TASK); t++) {
                    it->choice[c].align += y->sums[2 * t];
                    it->choice[c].error += y->sums[2 * t + 1];
                }
            }
            p->grad = NULL;
            p->trainable = 0;
        }
    }
    return rc ? rc : dyn_tell(y, 50 + 700 * last / y->n_items);
}

static int64_t dyn_floats(const struct dyn_item *it)
{
    return it->n * param_len(it->sites[0]->w);
}

static int dyn_measure(struct dyn *y)
{
    int64_t most = y->o->gradient_bytes ? y->o->gradient_bytes / 4 : 64 << 20, room = 0, all = 0;
    for (int64_t i = 0; i < y->n_items; i++) {
        room = MAX(room, dyn_floats(&y->items[i]));
        all += dyn_floats(&y->items[i]);
    }
    room = MIN(MAX(room, most), all);
    if (!(y->grads = mem_alloc(&y->m->host.mem, room * 4))) return PEFT_ENOMEM;
    int rc = PEFT_OK;
    for (int64_t i = 0, last; i < y->n_items && !rc; i = last) {
        int64_t sum = 0;
        for (last = i; last < y->n_items && sum + dyn_floats(&y->items[last]) <= room; last++)
            sum += dyn_floats(&y->items[last]);
        rc = dyn_group(y, i, last);
    }
    mem_free(&y->m->host.mem, y->grads);
    y->grads = NULL;
    return rc;
}

/* --- choosing */

enum { RULE_GRADIENT, RULE_ENERGY, RULES };
static const char *const rule_names[RULES] = { "gradient", "energy" };

static void dyn_costs(struct dyn *y, int rule)
{
    double energy = 0, error = 0;
    /* <g, W_0 - W> is -<g, W_T - W_0> for T without error: bounded below by a tenth
     * of the mean, as it is a sum with noise. */
    for (int64_t i = 0; i < y->n_items; i++) {
        const struct dyn_item *it = &y->items[i];
        energy += fmax(0, -it->choice[it->n_choices - 1].align);
        error += it->choice[0].error;
    }
    for (int64_t i = 0; i < y->n_items; i++) {
        struct dyn_item *it = &y->items[i];
        const struct dyn_choice *wide = &it->choice[it->n_choices - 1], *least = &it->choice[0];
        double mine = fmax(-wide->align, 0.1 * energy * (error > 0 ? least->error / error : 0));
        for (int c = 0; c < it->n_choices; c++)
            it->choice[c].cost = rule == RULE_GRADIENT ? it->choice[c].align
                : least->error > 0 ? mine * it->choice[c].error / least->error : 0;
    }
}

static int64_t dyn_at(struct dyn *y, double multiplier)
{
    for (int64_t i = 0; i < y->n_items; i++) {
        struct dyn_item *it = &y->items[i];
        it->now = 0;
        for (int c = 1; c < it->n_choices; c++) {
            const struct dyn_choice *a = &it->choice[it->now], *b = &it->choice[c];
            if (b->cost + multiplier * (double)b->bytes < a->cost + multiplier * (double)a->bytes)
                it->now = c;
        }
    }
    return dyn_bytes(y, -1);
}

static void dyn_choose(struct dyn *y, int64_t budget)
{
    double lo = -60, hi = 10;            /* of the multiplier's logarithm to base 2 */
    for (int i = 0; i < 60; i++) {
        double mid = (lo + hi) / 2;
        if (dyn_at(y, exp2(mid)) <= budget) hi = mid;
        else lo = mid;
    }
    int64_t left = budget - dyn_at(y, exp2(hi));
    for (;;) {
        struct dyn_item *best = NULL;
        double most = 0;
        int to = 0;
        for (int64_t i = 0; i < y->n_items; i++) {
            struct dyn_item *it = &y->items[i];
            for (int c = 0; c < it->n_choices; c++) {
                int64_t more = it->choice[c].bytes - it->choice[it->now].bytes;
                double gain = it->choice[it->now].cost - it->choice[c].cost;
                if (more > left || more <= 0 || !(gain / (double)more > most)) continue;
                most = gain / (double)more;
                best = it;
                to = c;
            }
        }
        if (!best) return;
        left -= best->choice[to].bytes - best->choice[best->now].bytes;
        best->now = to;
    }
}

/* The choice of each rule is measured; the better one is left in `best`. */
static int dyn_decide(struct dyn *y, int64_t budget, peft_quantized *out)
{
    int rc = PEFT_OK;
    for (int rule = 0; rule < RULES && !rc; rule++) {
        struct compared sum = { 0 };
        dyn_costs(y, rule);
        dyn_choose(y, budget);
        rc = dyn_apply(y);
        if (!rc) rc = dyn_pass(y, 0, &sum);
        if (!rc) rc = dyn_tell(y, 850 + 100 * rule);
        if (rc || (rule && !(compare_mean(y->m, &sum) < out->kl))) continue;
        out->kl = compare_mean(y->m, &sum);
        if (compare_lm(y->m)) {
            out->perplexity = exp(sum.kl.loss / (double)y->rows);
            out->reference_perplexity = exp(sum.kl.ref_loss / (double)y->rows);
        }
        snprintf(out->rule, sizeof(out->rule), "%s", rule_names[rule]);
        for (int64_t i = 0; i < y->n_items; i++) y->items[i].best = y->items[i].now;
    }
    return rc;
}

/* --- the whole */

static int dyn_begin(struct dyn *y)
{
    struct model *m = y->m;
    struct batch_opts bo = { .batch = y->o->batch ? y->o->batch : 1 };
    struct batch_size size;
    int64_t tasks = 0;
    if (y->o->batch < 0 || y->o->budget < 0 || y->o->gradient_bytes < 0 || !(y->o->bits >= 0))
        return fail(PEFT_EARG, "a negative option");
    if (m->adapters)
        return fail(PEFT_ESTATE, "the model has adapters: merge or remove them first");
    int rc = compare_begin(m, y->d);
    if (!rc) rc = dyn_collect(y);
    if (!rc) rc = batcher_new(y->d, &bo, &y->batcher);
    if (rc) return rc;
    for (int64_t i = 0; i < batcher_count(y->batcher, 0); i++) {
        batcher_size(y->batcher, 0, i, &size);
        y->rows += compare_lm(m) ? size.targets : size.seqs;
    }
    for (int64_t i = 0; i < m->n_params; i++)
        tasks = MAX(tasks, div_up(param_len(m->params[i]), DYN_TASK));
    y->sums = mem_alloc(&m->host.mem, tasks * 16);
    y->room = mem_alloc(&m->host.mem, (int64_t)pool_threads(m->pool) * 4 * DYN_TASK * 4);
    y->hidden = mem_alloc(&m->host.mem, y->rows * m->hp.embed * 4);
    return y->sums && y->room && y->hidden ? PEFT_OK : PEFT_ENOMEM;
}

static int dyn_budget(const struct dyn *y, int64_t *budget, peft_quantized *out)
{
    double bits = y->o->bits > 0 ? y->o->bits : 5;
    out->least = dyn_bytes(y, 0);
    out->tensors = (int32_t)y->n_items;
    *budget = y->o->budget ? y->o->budget : (int64_t)(bits * (double)y->weights / 8);
    if (*budget < out->least)
        return fail(PEFT_EARG, "a budget of %lld bytes (%.3f bits a weight), expected %lld or more "
                    "(%.3f) with these types", (long long)*budget,
                    8 * (double)*budget / (double)y->weights, (long long)out->least,
                    8 * (double)out->least / (double)y->weights);
    return PEFT_OK;
}

static int dyn_keep(struct dyn *y)
{
    struct mem *mem = &y->m->host.mem;
    int rc = PEFT_OK;
    for (int64_t i = 0; i < y->n_items && !rc; i++)
        for (int64_t k = 0; k < y->items[i].n && !rc; k++)
            if (y->items[i].sites[k]->w->type != y->items[i].choice[y->items[i].best].type)
                rc = param_quantise(y->m, y->items[i].sites[k]->w,
                                    y->items[i].choice[y->items[i].best].type, 0);
    const struct qtype *to = rc ? NULL : dyn_rounded_to(y);
    for (int64_t i = 0; to && i < y->m->n_params; i++) {
        struct param *p = y->m->params[i];
        if (p->type != &qtype_f32) continue;
        float *x = dyn_rounded(mem, p, to);
        if (!x) return PEFT_ENOMEM;
        mem_free(mem, p->own);
        mem_free(mem, p->packed);
        p->packed = NULL;
        p->data = p->own = x;
        p->stored = to;
    }
    return rc;
}

int quantise_run(struct model *m, const struct dataset *d, const peft_quantize_opts *o,
                 peft_quantized *out)
{
    struct dyn y = { .m = m, .d = d, .o = o, .ref = reference_of(m, NULL) };
    struct mem *mem = &m->host.mem;
    struct compared sum = { 0 };
    int64_t budget = 0;
    uint8_t *trained = mem_alloc(mem, m->n_params + 1);
    int rc = trained ? dyn_begin(&y) : PEFT_ENOMEM;
    for (int64_t i = 0; trained && i < m->n_params; i++) {
        trained[i] = m->params[i]->trainable;
        m->params[i]->trainable = 0;
    }
    if (!rc) rc = dyn_budget(&y, &budget, out);
    if (!rc) rc = dyn_reference(&y);
    if (!rc) rc = dyn_tell(&y, 20);
    if (!rc) rc = dyn_apply(&y);                     /* the smallest types: all are at 0 */
    if (!rc) rc = dyn_pass(&y, 0, &sum);
    out->least_kl = compare_mean(m, &sum);
    if (!rc) rc = dyn_tell(&y, 50);
    if (!rc) rc = dyn_measure(&y);
    if (!rc) rc = dyn_decide(&y, budget, out);
    dyn_restore(&y);
    for (int64_t i = 0; trained && i < m->n_params; i++) m->params[i]->trainable = trained[i];
    for (int64_t i = 0; i < y.n_items; i++) y.items[i].now = y.items[i].best;
    if (!rc) rc = dyn_keep(&y);
    if (!rc) out->bytes = dyn_bytes(&y, -1);
    batcher_free(y.batcher);
    mem_free(mem, y.items);
    mem_free(mem, y.kept);
    mem_free(mem, y.hidden);
    mem_free(mem, y.room);
    mem_free(mem, y.sums);
    mem_free(mem, trained);
    return rc;
}
