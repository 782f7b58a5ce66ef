/* Other ranks for the modules of an adapter that is in the model. */
#include "adapt/adapt.h"

static int64_t ranks_len(const struct adapted *d, int k, int32_t rank)
{
    const struct part *part = &d->method->parts[k];
    int of_rank = part->rows == PART_RANK || part->cols == PART_RANK;
    return of_rank && d->part[k] ? param_len(d->part[k]) / d->rank * rank : 0;
}

static void ranks_take(struct model *m, struct adapted *d, int k, int32_t rank, float *values)
{
    struct param *p = d->part[k];
    mem_free(&m->host.mem, p->own);
    p->data = p->own = values;
    if (d->method->parts[k].rows == PART_RANK) p->rows = rank;
    else p->cols = rank;
}

/* All memory before anything changes. */
int adapter_set_ranks(struct model *m, struct adapter *a, const int32_t *ranks, int alpha)
{
    struct mem *mem = &m->host.mem;
    int64_t n = a->n_sites, left = 0;
    int rc = PEFT_OK;
    float **fresh = mem_array(mem, n * PARTS, sizeof(*fresh));
    if (!fresh) return PEFT_ENOMEM;
    for (int64_t i = 0; i < n * PARTS && !rc; i++) {
        const struct adapted *d = &a->sites[i / PARTS];
        int32_t rank = ranks[i / PARTS];
        int64_t len = rank == d->rank ? 0 : ranks_len(d, (int)(i % PARTS), rank);
        if (len && !(fresh[i] = mem_array(mem, len, 4))) rc = PEFT_ENOMEM;
    }
    for (int64_t i = 0; i < n * PARTS && rc; i++) mem_free(mem, fresh[i]);
    for (int64_t i = 0; i < n && !rc; i++) {
        struct adapted *d = &a->sites[i], *to = &a->sites[left];
        a->at[d->site->index] = ranks[i] ? to : NULL;
        if (!ranks[i]) {
            adapted_free(m, d);
            continue;
        }
        for (int k = 0; k < PARTS; k++)
            if (fresh[i * PARTS + k]) ranks_take(m, d, k, ranks[i], fresh[i * PARTS + k]);
        if (alpha) d->alpha *= (float)ranks[i] / (float)d->rank;
        d->rank = ranks[i];
        d->derived_at = 0;
        if (a->method->set_scale) a->method->set_scale(d);
        *to = *d;
        left++;
    }
    mem_free(mem, fresh);
    if (rc) return rc;
    a->n_sites = left;
    m->edits++;
    return PEFT_OK;
}
