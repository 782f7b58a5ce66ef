/* EVA (Paischer et al. 2024): A starts as the first right singular vectors of what its
 * layer reads on the user's data, less its mean, and modules get ranks by the share of the
 * variance that their vectors explain.
 *
 * The vectors V [k, d] and singular values S come from batch to batch (incremental PCA,
 * Ross et al. 2008): with n rows of mean m seen, a batch X of b rows and mean c gives
 *
 *     SVD of [ S V ; X - c ; sqrt(n b / (n + b)) (m - c) ]
 *
 * cut at k = round(rank rho).  A component has settled when its cosine with the one before
 * is tau.  Of all modules' components the `sum of ranks` best are kept, by S^2 over the sum
 * of all squares; modules with the same input share V, and so have them several times.
 * The rules are those of Hugging Face PEFT. */
#include "train/train.h"

#include <math.h>
#include <stdlib.h>

enum { EVA_PASSES = 16 };           /* over the data, at most */
static const double eva_least = 1e-8;   /* shares below are rounding */

struct eva_site {
    int64_t first;                  /* the first module with the same input; -1 = never seen */
    struct tensor *x;               /* that input, in the present pass */
    int32_t most, rank;             /* components that are computed; that count */
    /* of the first */
    float *v, *s;                   /* [most, d], [most] */
    double *mean, spread;           /* [d]; the sum of squares around it */
    int64_t n;                      /* rows seen; 0 = there is no V yet */
    uint8_t *settled;               /* [most] */
};
struct eva {
    struct model *m;
    struct adapter *a;
    const struct dataset *d;
    const peft_eva_opts *o;
    const struct objective *objective;
    double rho, tau;
    struct eva_site *sites;         /* [n_sites] */
    struct eva_share *shares;       /* [n_shares] room */
    uint8_t *counts;                /* rows of the batch that count; or NULL */
    int64_t n_counts;
    int rc;
};

/* --- one input */

static int eva_counts(const struct eva *y, const struct tensor *x, int64_t row)
{
    return !y->counts || x->rows != y->n_counts || y->counts[row];
}

/* The rows of the decomposition, [before + n + 1, d]; the batch's mean goes to `mean`. */
static void eva_stack(const struct eva *y, struct eva_site *e, const struct tensor *x, int64_t n,
                      float *to, double *mean)
{
    const struct kernels *k = y->m->compute.k;
    int64_t d = x->cols, total = e->n + n;
    double weight = sqrt((double)e->n * (double)n / (double)total);
    for (int64_t i = 0; i < x->rows; i++)
        for (int64_t c = 0; c < d && eva_counts(y, x, i); c++)
            mean[c] += (double)tensor_f32(x)[i * d + c] / (double)n;
    for (int32_t i = 0; i < e->most && e->n; i++, to += d)
        k->axpy(to, e->v + i * d, e->s[i], 0, d);
    for (int64_t i = 0; i < x->rows; i++) {
        if (!eva_counts(y, x, i)) continue;
        for (int64_t c = 0; c < d; c++)
            to[c] = (float)((double)tensor_f32(x)[i * d + c] - mean[c]);
        e->spread += k->sum_squares(to, d);
        to += d;
    }
    for (int64_t c = 0; c < d; c++) {
        to[c] = (float)(weight * (e->mean[c] - mean[c]));
        e->mean[c] += (mean[c] - e->mean[c]) * (double)n / (double)total;
    }
    e->spread += k->sum_squares(to, d);
}

/* Component i from `right`, a vector times the root of its singular value; its largest
 * element is positive. */
static void eva_take(const struct eva *y, struct eva_site *e, int32_t i, const float *right,
                     int64_t d)
{
    const struct kernels *k = y->m->compute.k;
    float *v = e->v + i * d;
    double s = k->sum_squares(right, d), turn = s > 0 ? 1 / sqrt(s) : 0;
    int64_t top = 0;
    for (int64_t c = 1; c < d; c++)
        if (fabsf(right[c]) > fabsf(right[top])) top = c;
    if (right[top] < 0) turn = -turn;
    double cosine = turn * (double)k->dot(v, right, d);
    e->settled[i] = e->n && (cosine >= y->tau || !(s * s > eva_least * e->spread));
    k->axpy(v, right, (float)turn, 0, d);
    e->s[i] = (float)s;
}

static int eva_update(struct eva *y, struct eva_site *e, const struct tensor *x)
{
    struct mem *mem = &y->m->host.mem;
    int64_t d = x->cols, n = 0;
    for (int64_t i = 0; i < x->rows; i++) n += eva_counts(y, x, i);
    if (n < e->most) return PEFT_OK;
    int64_t rows = n + (e->n ? e->most : 0) + 1;
    float *stack = mem_array(mem, rows, d * 4), *left = mem_array(mem, e->most, rows * 4);
    float *right = mem_array(mem, e->most, d * 4);
    double *mean = mem_array(mem, d, 8);
    int rc = stack && left && right && mean ? PEFT_OK : PEFT_ENOMEM;
    if (!rc) {
        struct matrix w = { &qtype_f32, stack, rows, d };
        eva_stack(y, e, x, n, stack, mean);
        rc = lowrank(y->m, &w, LOWRANK_SVD, e->most, left, right);
    }
    for (int32_t i = 0; i < e->most && !rc; i++) eva_take(y, e, i, right + i * d, d);
    if (!rc) e->n += n;
    mem_free(mem, stack);
    mem_free(mem, left);
    mem_free(mem, right);
    mem_free(mem, mean);
    return rc;
}

static int eva_done(const struct eva_site *e)
{
    int32_t i = 0;
    while (e->n && i < e->rank && e->settled[i]) i++;
    return e->n && i == e->rank;
}

/* --- all of them */

/* Which of two components of the same share comes first: PEFT lists the modules that
 * stand for an input, then those that share one. */
struct eva_share { double share; int64_t order, site; };

static int eva_compare(const void *x, const void *y)
{
    const struct eva_share *a = x, *b = y;
    if (a->share != b->share) return a->share < b->share ? 1 : -1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* Ranks by shares of variance. */
static void eva_ranks(struct eva *y)
{
    int64_t n = 0, budget = 0, sites = y->a->n_sites;
    for (int64_t i = 0; i < sites; i++)
        if (y->sites[i].first == i && !y->sites[i].n) return;
    for (int64_t i = 0; i < sites; i++) {
        if (y->sites[i].first < 0) continue;
        const struct eva_site *e = &y->sites[y->sites[i].first];
        budget += y->a->sites[i].rank;
        for (int32_t k = 0; k < y->sites[i].most; k++) {
            double s = (double)e->s[k], share = e->spread > 0 ? s * s / e->spread : 0;
            int64_t order = (y->sites[i].first != i) * sites + i;
            if (share > eva_least) y->shares[n++] = (struct eva_share){ share, order, i };
        }
        y->sites[i].rank = 0;
    }
    qsort(y->shares, (size_t)n, sizeof(*y->shares), eva_compare);
    for (int64_t i = 0; i < MIN(n, budget); i++) y->sites[y->shares[i].site].rank++;
    for (int64_t i = 0; i < sites; i++) {
        struct eva_site *e = &y->sites[i], *first = e->first < 0 ? e : &y->sites[e->first];
        int32_t rank = e->rank;
        if (first->rank >= rank) continue;
        e->rank = first->rank;
        first->rank = rank;
    }
}

/* Called by nn_linear while a pass is built. */
static void eva_seen(void *arg, const struct site *s, struct tensor *x)
{
    struct eva *y = arg;
    const struct adapted *d = adapted_at(y->a, s);
    if (!d || d->fused || s->kind != SITE_LINEAR) return;
    y->sites[d - y->a->sites].x = x;
    x->watched = 1;
}

/* Then the inputs are known, and which of them are still to be looked at. */
static void eva_watch(struct eva *y)
{
    for (int64_t i = 0; i < y->a->n_sites; i++) {
        struct eva_site *e = &y->sites[i];
        if (e->x && e->first < 0)
            for (e->first = 0; y->sites[e->first].x != e->x; e->first++) {}
        if (e->x && e->first == i) e->x->watched = !eva_done(e);
    }
}

/* Called when an input is there. */
static void eva_look(void *arg, const struct tensor *x)
{
    struct eva *y = arg;
    for (int64_t i = 0; i < y->a->n_sites && !y->rc; i++)
        if (y->sites[i].x == x && y->sites[i].first == i && y->sites[i].v)
            y->rc = eva_update(y, &y->sites[i], x);
}

/* Rows whose own label is trained, as PEFT's use_label_mask. */
static int eva_mask(struct eva *y, const struct batch *b)
{
    struct mem *mem = &y->m->host.mem;
    mem_free(mem, y->counts);
    y->counts = NULL;
    y->n_counts = b->n;
    if (y->d->task != TASK_LM || y->o->all_tokens) return PEFT_OK;
    if (!(y->counts = mem_array(mem, b->n, 1))) return PEFT_ENOMEM;
    for (int64_t s = 0; s < b->n_seq; s++) {
        const struct example *x = &y->d->rows[b->example[s]];
        for (int32_t t = 0; t < b->start[s + 1] - b->start[s]; t++)
            y->counts[b->start[s] + t] = !x->labels || x->labels[t] != -100;
    }
    return PEFT_OK;
}

static int eva_pass(struct eva *y, const struct batch *b)
{
    struct pass p = { .m = y->m, .g = y->m->graph, .mem = y->m->mem, .seen = eva_seen,
                      .seen_arg = y };
    batch_pass(&p, b, 0);
    int rc = eva_mask(y, b);
    if (!rc) rc = pass_begin(&p);
    if (rc) return rc;
    for (int64_t i = 0; i < y->a->n_sites; i++) y->sites[i].x = NULL;
    struct tensor *x = y->objective->features(&p, b);
    if (y->objective->output) y->objective->output(&p, b, x);
    eva_watch(y);
    graph_watch(p.g, eva_look, y);
    return graph_forward(p.g);
}

/* After the first pass the inputs are known: memory for each. */
static int eva_begin(struct eva *y)
{
    struct mem *mem = &y->m->host.mem;
    int64_t n = 0;
    for (int64_t i = 0; i < y->a->n_sites; i++) {
        struct eva_site *e = &y->sites[i];
        const struct adapted *d = &y->a->sites[i];
        if (e->first < 0) continue;
        double most = nearbyint(d->rank * y->rho);
        struct eva_site *first = &y->sites[e->first];
        e->most = (int32_t)MIN(most, (double)d->site->w->cols);
        first->most = MAX(first->most, e->most);
    }
    for (int64_t i = 0; i < y->a->n_sites; i++) {
        struct eva_site *e = &y->sites[i];
        int64_t d = y->a->sites[i].site->w->cols;
        if (e->first < 0) continue;
        e->most = e->rank = y->sites[e->first].most;
        n += e->most;
        if (e->first != i) continue;
        e->v = mem_array(mem, e->most, d * 4);
        e->s = mem_array(mem, e->most, 4);
        e->mean = mem_array(mem, d, 8);
        e->settled = mem_array(mem, e->most, 1);
        if (!e->v || !e->s || !e->mean || !e->settled) return PEFT_ENOMEM;
    }
    y->shares = mem_array(mem, n, (int64_t)sizeof(*y->shares));
    if (!n) return fail(PEFT_EUNSUPPORTED, "adapter \"%s\" has no linear layer of its own that "
                        "reads this data", y->a->name);
    return y->shares ? PEFT_OK : PEFT_ENOMEM;
}

/* Inputs that have settled, and how many there are. */
static int64_t eva_settled(const struct eva *y, int64_t *all)
{
    int64_t n = *all = 0;
    for (int64_t i = 0; i < y->a->n_sites; i++) {
        if (y->sites[i].first != i) continue;
        ++*all;
        n += eva_done(&y->sites[i]);
    }
    return n;
}

static int eva_run(struct eva *y, struct batcher *b)
{
    int64_t all = 0, done = 0;
    for (int64_t pass = 0; pass < EVA_PASSES; pass++) {
        for (int64_t i = 0; i < batcher_count(b, pass); i++) {
            const struct batch *batch = batcher_get(b, pass, i);
            if (!batch) return PEFT_EDATA;
            int rc = eva_pass(y, batch);
            if (!rc && !y->shares && !(rc = eva_begin(y))) rc = eva_pass(y, batch);
            if (!rc) rc = y->rc;
            if (rc) return rc;
            eva_ranks(y);
            done = eva_settled(y, &all);
            if (y->o->progress && y->o->progress(y->o->ctx, done, all))
                return fail(PEFT_ECANCELLED, "cancelled by the host");
            if (done == all) return PEFT_OK;
        }
        for (int64_t i = 0; i < y->a->n_sites; i++)
            if (y->sites[i].first == i && !y->sites[i].n)
                return fail(PEFT_EDATA, "no batch has the %d tokens that count which %s needs "
                            "(rank times rho), expected a larger batch", y->sites[i].most,
                            y->a->sites[i].site->name);
    }
    return PEFT_OK;
}

/* The adapter with these ranks, and A. */
static int eva_apply(struct eva *y)
{
    struct mem *mem = &y->m->host.mem;
    struct adapter *a = y->a;
    int64_t at = 0, n = a->n_sites;
    int32_t *ranks = mem_array(mem, n, 4);
    int rc = ranks ? PEFT_OK : PEFT_ENOMEM;
    for (int64_t i = 0; i < n && !rc; i++)
        ranks[i] = y->sites[i].first < 0 ? a->sites[i].rank : y->sites[i].rank;
    if (!rc) rc = adapter_set_ranks(y->m, a, ranks, !y->o->keep_alpha);
    for (int64_t i = 0; i < n && !rc; i++) {
        if (!ranks[i]) continue;
        const struct adapted *d = &a->sites[at++];
        if (y->sites[i].first < 0) continue;
        const struct eva_site *e = &y->sites[y->sites[i].first];
        struct param *p = d->part[0];
        for (int64_t k = 0; k < ranks[i]; k++)
            y->m->compute.k->axpy(p->own + k * p->cols, e->v + k * p->cols,
                                  y->o->whiten ? 1 / sqrtf(e->s[k]) : 1.0f, 0, p->cols);
    }
    mem_free(mem, ranks);
    return rc;
}

static int eva_check(const struct eva *y)
{
    const struct adapter *a = y->a;
    const peft_eva_opts *o = y->o;
    if (!(y->rho >= 1 && y->rho <= 1000 && y->tau > 0 && y->tau <= 1 && o->batch >= 0))
        return fail(PEFT_EARG, "rho %g, tau %g, batch %d, expected rho from 1 to 1000, tau from 0 "
                    "to 1", y->rho, y->tau, o->batch);
    if (strcmp(a->method->peft_type, "LORA") || a->shifts || !a->enabled)
        return fail(PEFT_EARG, "\"%s\" is no enabled LoRA adapter that starts at random", a->name);
    for (int64_t i = 0; i < a->n_sites; i++) {
        const struct param *b = a->sites[i].part[1];
        for (int64_t k = 0; b && k < param_len(b); k++)
            if (b->own[k] != 0)
                return fail(PEFT_ESTATE, "%s is not zero, expected an adapter that has not been "
                            "trained", b->name);
    }
    return PEFT_OK;
}

int eva_init(struct model *m, struct adapter *a, const struct dataset *d, const peft_eva_opts *o)
{
    struct mem *mem = &m->host.mem;
    struct eva y = { .m = m, .a = a, .d = d, .o = o, .rho = o->rho != 0 ? (double)o->rho : 2,
                     .tau = o->tau != 0 ? (double)o->tau : 0.99 };
    struct batch_opts bo = { .batch = o->batch ? o->batch : 4, .shuffle = 1, .seed = o->seed };
    struct batcher *b = NULL;
    int64_t n = a->n_sites;
    int rc = eva_check(&y);
    if (rc) return rc;
    if (!(y.objective = objective_for(m, d, NULL))) return PEFT_EARG;
    if (!(y.sites = mem_array(mem, n, (int64_t)sizeof(*y.sites)))) return PEFT_ENOMEM;
    for (int64_t i = 0; i < n; i++) y.sites[i].first = -1;
    rc = model_graph(m);
    if (!rc) rc = rope_reserve(m, d->max_len);
    if (!rc) rc = batcher_new(d, &bo, &b);
    if (!rc) rc = eva_run(&y, b);
    if (!rc) rc = eva_apply(&y);
    for (int64_t i = 0; i < n; i++) {
        mem_free(mem, y.sites[i].v);
        mem_free(mem, y.sites[i].s);
        mem_free(mem, y.sites[i].mean);
        mem_free(mem, y.sites[i].settled);
    }
    mem_free(mem, y.sites);
    mem_free(mem, y.shares);
    mem_free(mem, y.counts);
    batcher_free(b);
    return rc;
}
