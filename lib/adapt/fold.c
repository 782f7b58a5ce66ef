/* Adapters as plain LoRA: one rank r, one scale s = alpha / r, and no other base.
 *   rsLoRA, patterns    B_i times s_i / s, A_i and B_i filled with zeros up to r
 *   PiSSA, OLoRA        s (B A - B0 A0) as [B, -B0] [A; A0], of twice the rank
 *   any other method    the best approximation of what merging would add to W, by SVD */
#include <math.h>

#include "adapt/io.h"

const char *adapter_unfoldable(const struct adapter *a)
{
    if (!a->method->restart) return "its method is no LoRA";
    if (a->bias) return "it has biases (lora_bias)";
    if (a->n_saved) return "it replaces whole tensors (modules_to_save)";
    for (int64_t i = 0; i < a->n_sites; i++)
        if (a->sites[i].fused) return "it adapts experts as one parameter";
    return NULL;
}

/* Part k of `to` holds that of `from` and, behind it along the rank, its initial values. */
static void fold_part(const struct adapted *to, const struct adapted *from, int k)
{
    const struct part *part = &to->method->parts[k];
    const struct param *p = to->part[k], *now = from->part[k];
    const struct param *start = k + START < PARTS ? from->part[k + START] : NULL;
    float ratio = part->rows == PART_OUT ? from->scale / to->scale : 1.0f;
    if (part->rows == PART_RANK) {
        memcpy(p->own, now->own, (size_t)param_len(now) * 4);
        if (start) memcpy(p->own + param_len(now), start->own, (size_t)param_len(now) * 4);
        return;
    }
    for (int64_t i = 0; i < now->rows; i++)
        for (int64_t j = 0; j < now->cols; j++) {
            float *at = p->own + i * p->cols + j;
            *at = now->own[i * now->cols + j] * ratio;
            if (start) at[now->cols] = -start->own[i * now->cols + j] * ratio;
        }
}

static int fold_exact(struct model *m, struct adapter *a, const struct adapter *from)
{
    double scale = from->rslora ? from->alpha / sqrt(from->rank) : (double)from->alpha / from->rank;
    int twice = from->shifts ? 2 : 1, rc = PEFT_OK;
    a->rank = 0;
    for (int64_t i = 0; i < from->n_sites; i++)
        a->rank = MAX(a->rank, from->sites[i].rank * twice);
    /* llama.cpp takes an alpha of 0 for a scale of 1. */
    a->alpha = (float)((scale != 0 ? scale : 1) * a->rank);
    for (int64_t i = 0; i < from->n_sites && !rc; i++) {
        struct adapted *d = &a->sites[i];
        rc = adapter_attach(m, d, a, from->sites[i].site, a->rank, a->alpha, NULL);
        a->n_sites++;
        for (int k = 0; k < PARTS && !rc; k++)
            if (d->part[k]) fold_part(d, &from->sites[i], k);
    }
    return rc;
}

struct sums { double all, rest; };

/* diff [out, in] = what merging adds to the module's weight. */
static int fold_difference(struct model *m, struct adapted *d, float *diff)
{
    const struct site *s = d->site;
    const struct method *method = d->method;
    float *b = s->b && method->turns_bias ? mem_array(&m->host.mem, param_len(s->b), 4) : NULL;
    int rc = !method->turns_bias || !s->b || b ? PEFT_OK : PEFT_ENOMEM;
    if (!rc && method->derive) rc = method->derive(m, d);
    qtype_expand(s->w->type, diff, s->w->data, 0, param_len(s->w));
    if (b) qtype_expand(s->b->type, b, s->b->data, 0, param_len(s->b));
    if (!rc) method->merge(m, d, diff, b);
    for (int64_t i = 0; b && i < param_len(s->b) && !rc; i++) {
        float was;
        qtype_expand(s->b->type, &was, s->b->data, i, 1);
        if (was != b[i])
            rc = fail(PEFT_EUNSUPPORTED, "%s changes the bias of %s, which no LoRA does: expected "
                      "a merged model", method->name, s->name);
    }
    mem_free(&m->host.mem, b);
    float row[256];
    for (int64_t at = 0; at < param_len(s->w) && !rc; at += 256) {
        int64_t n = MIN(param_len(s->w) - at, 256);
        qtype_expand(s->w->type, row, s->w->data, at, n);
        m->compute.k->axpy(diff + at, row, -1.0f, 1, n);
    }
    return rc;
}

static int fold_site(struct model *m, struct adapted *to, struct adapted *from, struct sums *sums)
{
    const struct param *w = to->site->w;
    struct mem *mem = &m->host.mem;
    float *diff = mem_array(mem, w->rows, w->cols * 4);
    int32_t r = (int32_t)MIN(to->rank, MIN(w->rows, w->cols));   /* zeros behind */
    float *left = mem_array(mem, w->rows, r * 4);
    struct matrix matrix = { &qtype_f32, diff, w->rows, w->cols };
    float *a = to->part[0]->own, *b = to->part[1]->own;
    int rc = diff && left ? fold_difference(m, from, diff) : PEFT_ENOMEM;
    if (!rc) rc = lowrank(m, &matrix, LOWRANK_SVD, r, left, a);
    for (int64_t i = 0; i < w->rows * r && !rc; i++)
        b[i / r * to->rank + i % r] = left[i % r * w->rows + i / r];
    if (!rc) {
        sums->all += m->compute.k->sum_squares(diff, param_len(w));
        m->compute.blas->sgemm(0, 0, w->rows, w->cols, to->rank, -1.0f, b, to->rank, a, w->cols,
                               1.0f, diff, w->cols);
        sums->rest += m->compute.k->sum_squares(diff, param_len(w));
    }
    mem_free(mem, diff);
    mem_free(mem, left);
    return rc;
}

static int fold_svd(struct model *m, struct adapter *a, const struct adapter *from, int32_t rank,
                    double *error)
{
    struct sums sums = { 0, 0 };
    int rc = PEFT_OK;
    a->rank = rank;
    a->alpha = (float)rank;
    if (!from->method->merge || from->n_saved || from->bias)
        return fail(PEFT_EUNSUPPORTED, "%s: %s; expected a change of linear layers' weights alone",
                    from->method->name, !from->method->merge ? "it changes no weights" :
                    from->bias ? "it has biases" : "it replaces whole tensors");
    for (int64_t i = 0; i < from->n_sites && !rc; i++) {
        struct site *s = from->sites[i].site;
        if (s->kind != SITE_LINEAR)
            return fail(PEFT_EUNSUPPORTED, "%s is adapted, expected linear layers alone", s->name);
        rc = adapter_attach(m, &a->sites[i], a, s, rank, a->alpha, NULL);
        a->n_sites++;
        a->turned |= s->w->turned;
        if (!rc) rc = fold_site(m, &a->sites[i], &from->sites[i], &sums);
    }
    *error = sums.all > 0 ? sqrt(sums.rest / sums.all) : 0;
    return rc;
}

int adapter_fold(struct model *m, const char *name, const struct adapter *from, int32_t rank,
                 struct adapter **out, double *error)
{
    struct adapter *a;
    int rc = adapter_new(m, name, method_by_name("lora"), &a);
    if (rc) return rc;
    a->turned = from->turned;
    *error = 0;
    rc = adapter_room(m, a, from->n_sites);
    if (!rc && from->base &&
        !(a->base = arena_strndup(&a->arena, from->base, (int64_t)strlen(from->base))))
        rc = PEFT_ENOMEM;
    if (!rc) rc = rank ? fold_svd(m, a, from, rank, error) : fold_exact(m, a, from);
    if (rc) {
        adapter_drop(m, a);
        return rc;
    }
    adapter_link(m, a);
    adapter_enable(m, a, 0);
    *out = a;
    return PEFT_OK;
}

/* How far training went from the start: |B A - B0 A0|^2 and |B0 A0|^2 by the Gram matrices of
 * the factors, |X Y|^2 = sum of (X^T X) * (Y Y^T). */
static double gram(const struct model *m, const struct param *b1, const struct param *a1,
                   const struct param *b2, const struct param *a2)
{
    double sum = 0;
    for (int64_t i = 0; i < a1->rows; i++)
        for (int64_t j = 0; j < a2->rows; j++) {
            double columns = 0;
            for (int64_t k = 0; k < b1->rows; k++)
                columns += (double)b1->own[k * b1->cols + i] * (double)b2->own[k * b2->cols + j];
            sum += columns * m->compute.k->dot(a1->own + i * a1->cols, a2->own + j * a2->cols,
                                               a1->cols);
        }
    return sum;
}

int adapter_restart(struct model *m, struct adapter *a)
{
    double now = 0, start = 0, both = 0;
    for (int64_t i = 0; i < a->n_sites; i++) {
        const struct adapted *d = &a->sites[i];
        if (d->fused || !d->part[START])
            return fail(PEFT_EUNSUPPORTED, "init_lora_weights \"%s\" at %s, expected linear layers",
                        a->start, d->site->name);
        int rc = a->method->restart(m, d);
        if (rc) return fail_in(rc, "%s of %s: ", a->start, d->site->name);
        const struct param *pa = d->part[0], *pb = d->part[1];
        const struct param *a0 = d->part[START], *b0 = d->part[START + 1];
        now += gram(m, pb, pa, pb, pa);
        start += gram(m, b0, a0, b0, a0);
        both += gram(m, pb, pa, b0, a0);
    }
    if (now + start - 2 * both < start) return PEFT_OK;
    return fail(PEFT_EUNSUPPORTED, "the adapter began with values of its base (init_lora_weights "
                "\"%s\"), and is farther from this one's than they are from 0: it is another base",
                a->start);
}
