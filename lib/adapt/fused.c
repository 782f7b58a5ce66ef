/* LoRA on experts as one parameter.  transformers 5 holds a layer's experts as
 * [experts, out, in], gate and up after each other, and PEFT adapts that whole
 * (target_parameters, its ParamWrapper).  Of E experts with rank r its file has
 *     lora_A [E r, in]      row e r + k    is row k of expert e's A
 *     lora_B [out, r E]     column k E + e is column k of expert e's B
 * under the module's name, with ".base_layer" for each parameter of the module
 * that follows and is adapted too.  Here each expert's modules have an adapter of
 * their own; where two share the outputs (gate, up) the second borrows A. */
#include <math.h>
#include <stdio.h>

#include "adapt/adapt.h"

#define WRAPPER ".base_layer"

static int64_t slots_of(const struct fused_row *row) { return row->slots[1] ? 2 : 1; }

void fused_name(const struct fused_row *row, int64_t layer, char *to, size_t cap)
{
    const char *mark = strstr(row->module, "%d");
    snprintf(to, cap, "%.*s%d%s.%s", (int)(mark - row->module), row->module, (int)layer, mark + 2,
             row->param);
}

const struct fused_row *fused_rows(const struct model *m)
{
    static const struct fused_row none = { NULL, NULL, { 0, 0 } };
    return m->arch->style.fused && m->hp.experts ? m->arch->style.fused : &none;
}

int64_t fused_sites(const struct model *m, const struct fused_row *row)
{
    return m->hp.experts * slots_of(row);
}

int fused_attach(struct model *m, struct adapter *a, const struct fused_row *row, int64_t layer,
                 int32_t rank, float alpha)
{
    struct adapted *d = a->sites + a->n_sites;
    if (!a->method->fused)
        return fail(PEFT_EUNSUPPORTED, "method %s cannot adapt experts as one parameter",
                    a->method->name);
    if (a->dropout > 0 || a->bias)
        return fail(PEFT_EARG, "experts adapted as one parameter have no dropout and no bias");
    for (int64_t e = 0; e < m->hp.experts; e++)
        for (int64_t k = 0; k < slots_of(row); k++, d++) {
            struct site *s = m->layers[layer].experts[e].at[row->slots[k] - SLOT_EXPERT];
            a->n_sites++;
            int rc = adapter_attach(m, d, a, s, rank, alpha, k ? d - 1 : NULL);
            if (rc) return rc;
            d->fused = (uint8_t)(row - m->arch->style.fused + 1);
        }
    return PEFT_OK;
}

/* --- files */

int fused_find(const struct model *m, const char *module, const char *targets, int64_t *layer,
               const struct fused_row **found)
{
    char name[200];
    size_t n = strlen(module), w = sizeof(WRAPPER) - 1;
    int64_t depth = 0;
    for (; n > w && !memcmp(module + n - w, WRAPPER, w); depth++) n -= w;
    for (*layer = 0; *layer < m->hp.layers; (*layer)++) {
        const struct fused_row *row = fused_rows(m), *last = row;
        if (!row->param) return 0;
        fused_name(row, *layer, name, sizeof(name));
        if (strncmp(name, module, n) || name[n] != '.') continue;
        while (last->param) last++;
        for (int64_t left = depth; last-- > row;) {
            fused_name(last, *layer, name, sizeof(name));
            if (!adapter_targets(targets, name)) continue;
            *found = last;
            if (left-- == 0) return 1;
        }
        return 0;
    }
    return 0;
}

/* One expert's part within the file's matrix `all` of experts * rank rows or
 * columns; `first` = the row of B where the module's outputs begin. */
static void move_part(const struct adapted *d, int k, int64_t experts, int64_t first, float *all,
                      int write)
{
    const struct param *p = d->part[k];
    int64_t e = d->site->expert, wide = p->rows == d->rank ? p->cols : d->rank * experts;
    int by_columns = d->method->parts[k].rows == PART_OUT;
    for (int64_t i = 0; i < p->rows; i++)
        for (int64_t j = 0; j < p->cols; j++) {
            float *at = by_columns ? all + (first + i) * d->rank * experts + j * experts + e
                                   : all + (e * d->rank + i) * wide + j;
            if (write) *at = p->own[i * p->cols + j];
            else p->own[i * p->cols + j] = *at;
        }
}

int64_t fused_shape(const struct model *m, const struct adapted *d, int k, int64_t *rows)
{
    const struct param *p = d->part[k];
    int by_columns = d->method->parts[k].rows == PART_OUT;
    const struct fused_row *row = m->arch->style.fused + d->fused - 1;
    *rows = by_columns ? p->rows * slots_of(row) : p->rows * m->hp.experts;
    return by_columns ? p->cols * m->hp.experts : p->cols;
}

void fused_move(const struct model *m, const struct adapted *d, int k, float *all, int write)
{
    const struct fused_row *row = m->arch->style.fused + d->fused - 1;
    int64_t n = fused_sites(m, row), each = slots_of(row);
    for (int64_t i = 0; i < n; i++) {
        if (!write && d[i].part[k]) d[i].part[k]->is_new = 1;
        if (!adapted_owns(&d[i], k)) continue;
        move_part(&d[i], k, m->hp.experts, i % each * d->part[k]->rows, all, write);
    }
}

void fused_module(const struct model *m, const struct adapted *d, char *to, size_t cap)
{
    const struct fused_row *row = m->arch->style.fused + d->fused - 1;
    fused_name(row, d->site->layer, to, cap);
    size_t n = strlen(to) - strlen(row->param) - 1;
    to[n] = 0;
    for (row++; row->param; row++) {
        const struct expert *first = &m->layers[d->site->layer].experts[0];
        const struct adapted *o = adapted_at(d->adapter, first->at[row->slots[0] - SLOT_EXPERT]);
        if (o && o->fused) {
            snprintf(to + n, cap - n, WRAPPER);
            n = strlen(to);
        }
    }
}
