/* One LoRA adapter made of several, as PEFT's add_weighted_adapter computes it.
 * The scales go into the values, so that the result's own is 1.
 *   cat              A one below the other, B side by side: the exact sum
 *   svd              the best approximation of the sum of a given rank
 *   linear           A and B summed by themselves, each with the root of its weight
 *   magnitude_prune  the same of the largest values, a share `density` of each
 *   ties             the same, of values with the sign that has the majority, by
 *                    their mean (Yadav et al. 2023)
 *   dare_linear, dare_ties  values dropped at random, the rest divided by
 *                    density (Yu et al. 2024) */
#include <math.h>
#include <stdlib.h>

#include "adapt/adapt.h"

enum { MAX_COMBINED = 64 };
static const struct combine_row { const char *name; uint8_t cat, svd, prune, drop, majority; }
    combine_rows[] = {
        { "linear", 0, 0, 0, 0, 0 },      { "cat", 1, 0, 0, 0, 0 },
        { "svd", 0, 1, 0, 0, 0 },         { "magnitude_prune", 0, 0, 1, 0, 0 },
        { "ties", 0, 0, 1, 0, 1 },        { "dare_linear", 0, 0, 0, 1, 0 },
        { "dare_ties", 0, 0, 0, 1, 1 }
    };

struct combine {
    struct model *m;
    const struct combine_row *how;
    struct adapter *const *from;
    const float *weights;
    int32_t n;
    const peft_combine_opts *o;
};

/* The adapters' parts at one module, with what each counts. */
struct sources { const struct adapted *d[MAX_COMBINED]; float weight[MAX_COMBINED]; int n; };
static void combine_sources(const struct combine *c, const struct site *s, struct sources *to)
{
    to->n = 0;
    for (int32_t i = 0; i < c->n; i++) {
        const struct adapted *d = adapted_at(c->from[i], s);
        if (!d) continue;
        to->weight[to->n] = c->weights[i] * d->scale;
        to->d[to->n++] = d;
    }
}

static int compare_floats(const void *x, const void *y)
{
    float a = *(const float *)x, b = *(const float *)y;
    return (a < b) - (a > b);
}

/* y = x with the k largest kept; `sorted` is memory of n. */
static void combine_prune(float *y, const float *x, float *sorted, int64_t n, int64_t k)
{
    for (int64_t i = 0; i < n; i++) sorted[i] = fabsf(x[i]);
    qsort(sorted, (size_t)n, sizeof(*sorted), compare_floats);
    float least = k > 0 ? sorted[k - 1] : INFINITY;
    for (int64_t i = 0; i < n; i++) k -= fabsf(x[i]) > least;
    for (int64_t i = 0; i < n; i++)
        y[i] = fabsf(x[i]) > least || (fabsf(x[i]) == least && k-- > 0) ? x[i] : 0.0f;
}

/* Part k of all sources into `to`; x is memory of s->n + 1 times its size. */
static void combine_values(const struct combine *c, const struct sources *s, int k, int first,
                           float *x, float *to, int64_t n, uint64_t stream)
{
    double density = c->o->density > 0 ? c->o->density : 1;
    for (int i = 0; i < s->n; i++) {
        float *y = x + i * n;
        memcpy(y, s->d[i]->part[k]->own, (size_t)n * 4);
        if (c->how->prune && density < 1)
            combine_prune(y, s->d[i]->part[k]->own, x + s->n * n, n, (int64_t)(density * n));
        for (int64_t j = 0; j < n && c->how->drop; j++) {
            uint64_t at = (uint64_t)(j * MAX_COMBINED + i);
            y[j] = rng_uniform(c->o->seed, stream, at) < density ? y[j] / (float)density : 0.0f;
        }
    }
    for (int64_t j = 0; j < n; j++) {
        float sum = 0, total = 0;
        int count = 0;
        for (int i = 0; i < s->n; i++) total += x[i * n + j];
        for (int i = 0; i < s->n; i++) {
            float v = x[i * n + j], root = sqrtf(fabsf(s->weight[i]));
            if (c->how->majority && (v == 0 || (v > 0) != (total >= 0))) continue;
            sum += v * (first && s->weight[i] < 0 ? -root : root);
            count++;
        }
        to[j] = c->how->majority ? sum / (float)MAX(count, 1) : sum;
    }
}

static void combine_cat(const struct sources *s, int k, int first, const struct part *part,
                        struct param *to)
{
    int64_t at = 0;
    for (int i = 0; i < s->n; i++) {
        const struct param *p = s->d[i]->part[k];
        int by_rows = part->rows == PART_RANK;
        for (int64_t r = 0; r < p->rows; r++)
            for (int64_t c = 0; c < p->cols; c++)
                to->own[(r + (by_rows ? at : 0)) * to->cols + c + (by_rows ? 0 : at)] =
                    p->own[r * p->cols + c] * (first ? s->weight[i] : 1.0f);
        at += s->d[i]->rank;
    }
}

static int combine_svd(const struct combine *c, const struct sources *s, struct adapted *d)
{
    const struct param *w = d->site->w;
    struct mem *mem = &c->m->host.mem;
    float *sum = mem_array(mem, w->rows, w->cols * 4), *left = mem_array(mem, w->rows, d->rank * 4);
    struct matrix matrix = { &qtype_f32, sum, w->rows, w->cols };
    int rc = sum && left ? PEFT_OK : PEFT_ENOMEM;
    if (!rc) {
        c->m->compute.k->fill(sum, 0.0f, w->rows * w->cols);
        for (int i = 0; i < s->n; i++)
            c->m->compute.blas->sgemm(0, 0, w->rows, w->cols, s->d[i]->rank, s->weight[i],
                                      s->d[i]->part[1]->own, s->d[i]->rank, s->d[i]->part[0]->own,
                                      w->cols, 1.0f, sum, w->cols);
        rc = lowrank(c->m, &matrix, LOWRANK_SVD, d->rank, left, d->part[0]->own);
    }
    for (int64_t i = 0; i < w->rows * d->rank && !rc; i++)
        d->part[1]->own[i] = left[i % d->rank * w->rows + i / d->rank];
    mem_free(mem, sum);
    mem_free(mem, left);
    return rc;
}

/* The rank at a module; < 0 = an error. */
static int32_t combine_rank(const struct combine *c, const struct sources *s,
                            const struct site *site)
{
    int32_t sum = 0, most = 0;
    for (int i = 0; i < s->n; i++) {
        sum += s->d[i]->rank;
        most = MAX(most, s->d[i]->rank);
    }
    if (c->how->cat) return sum;
    if (c->how->svd && site->kind == SITE_LINEAR) return c->o->rank ? c->o->rank : most;
    if (sum == most * s->n && !c->how->svd) return most;
    return fail(PEFT_EUNSUPPORTED, "%s of %s: %s", c->how->name, site->name,
                c->how->svd ? "expected linear layers only" : "expected equal ranks; cat and svd "
                "take any");
}

static int combine_site(const struct combine *c, struct adapter *a, struct site *site,
                        uint64_t index)
{
    struct sources s;
    struct adapted *d = &a->sites[a->n_sites];
    combine_sources(c, site, &s);
    if (!s.n) return PEFT_OK;
    int32_t rank = combine_rank(c, &s, site);
    if (rank < 0) return rank;
    a->n_sites++;
    int rc = adapter_attach(c->m, d, a, site, rank, (float)rank, NULL), first = 1;
    if (!rc && c->how->svd) return combine_svd(c, &s, d);
    for (int k = 0; k < PARTS && !rc; k++) {
        struct param *p = d->part[k];
        if (!p) continue;
        if (c->how->cat) combine_cat(&s, k, first, &a->method->parts[k], p);
        else {
            float *x = mem_array(&c->m->host.mem, param_len(p), (s.n + 1) * 4);
            if (x) combine_values(c, &s, k, first, x, p->own, param_len(p), index * PARTS + k);
            else rc = PEFT_ENOMEM;
            mem_free(&c->m->host.mem, x);
        }
        first = 0;
    }
    return rc;
}

int adapter_combine(struct model *m, const char *name, struct adapter *const *from,
                    const float *weights, int32_t n, const peft_combine_opts *o)
{
    const char *how = o->how ? o->how : "linear";
    struct combine c = { m, NULL, from, weights, n, o };
    struct adapter *a;
    if (n < 1 || n > MAX_COMBINED)
        return fail(PEFT_EARG, "%d adapters, expected 1 to %d", n, MAX_COMBINED);
    if (!(o->density >= 0 && o->density <= 1) || o->rank < 0 || o->rank > 1 << 16)
        return fail(PEFT_EARG, "density %g, rank %d, expected 0 to 1 and 0 to 65536",
                    (double)o->density, o->rank);
    for (size_t i = 0; i < ARRAY_LEN(combine_rows); i++)
        if (!strcmp(combine_rows[i].name, how)) c.how = &combine_rows[i];
    if (!c.how)
        return fail(PEFT_EARG, "combination \"%s\", expected linear, cat, svd, magnitude_prune, "
                    "ties, dare_linear or dare_ties", how);
    for (int32_t i = 0; i < n; i++) {
        const struct adapter *f = from[i];
        int plain = !strcmp(f->method->name, "lora") && !f->bias && !f->shifts && !f->n_saved;
        for (int64_t k = 0; k < f->n_sites; k++)
            plain &= !f->sites[k].fused && !f->sites[k].method->puts_rows;
        if (!plain || !(fabsf(weights[i]) < 1e6f))
            return fail(PEFT_EUNSUPPORTED, "\"%s\" with weight %g, expected plain LoRA without "
                        "bias, modules_to_save and experts as one", f->name, (double)weights[i]);
    }
    int rc = adapter_new(m, name, from[0]->method, &a);
    if (rc) return rc;
    rc = adapter_room(m, a, m->n_sites);
    a->turned = from[0]->turned;
    for (int64_t i = 0; i < m->n_sites && !rc; i++)
        rc = combine_site(&c, a, m->sites[i], (uint64_t)i);
    if (rc) {
        adapter_drop(m, a);
        return rc;
    }
    a->rank = a->sites[0].rank;
    a->alpha = (float)a->rank;
    adapter_link(m, a);
    return PEFT_OK;
}
