/* peft_model_peaks, peft_trainer_profile, peft_trainer_work. */
#include <stdio.h>

#include "api/api.h"
#include "kernel/tile.h"

int32_t peft_model_peaks(peft_model *model, peft_peaks *out)
{
    ARG(model, "no model given");
    struct model *m = model_of(model);
    int rc = check_result(out);
    if (rc) return rc;
    const struct tile *half = tile_half(m->level), *full = tile_full(m->level);
    struct peaks p;
    peft_peaks found = { 0 };
    if (!full) full = tile_float(&m->compute);
    void *memory = mem_alloc(&m->host.mem, PEAKS_MEMORY);
    if (!memory) return PEFT_ENOMEM;
    peaks_measure(&m->compute, full, half, memory, &p);
    mem_free(&m->host.mem, memory);
    found.gflops = p.tile / 1e9;
    found.gflops_bf16 = p.half / 1e9;
    found.gflops_blas = p.blas / 1e9;
    found.gbytes = p.copy / 1e9;
    snprintf(found.kernels, sizeof(found.kernels), "%s", full->name);
    snprintf(found.kernels_bf16, sizeof(found.kernels_bf16), "%s", half ? half->name : "");
    give_result(out, &found, sizeof(found));
    return PEFT_OK;
}

int32_t peft_trainer_profile(peft_trainer *trainer, int32_t on)
{
    ARG(trainer, "no trainer given");
    if (trainer_of(trainer)->stage != STAGE_IDLE)
        return fail(PEFT_ESTATE, "a step is in flight");
    return trainer_profile(trainer_of(trainer), on);
}

/* How many rows come before row i of a list by time. */
static int64_t place(const struct profile *p, int64_t i)
{
    int64_t before = 0;
    for (int64_t j = 0; j < p->n; j++) {
        double more = p->work[j].seconds - p->work[i].seconds;
        before += more > 0 || (!(more < 0) && j < i);
    }
    return before;
}

int32_t peft_trainer_work(const peft_trainer *trainer, int32_t i, peft_work *out)
{
    ARG(trainer, "no trainer given");
    const struct profile *p = trainer_of(trainer)->profile;
    int rc = check_result(out);
    if (rc) return rc;
    if (!p) return fail(PEFT_ESTATE, "no profile was asked for");
    if (i < 0 || i >= p->n) return fail(PEFT_EEND, "%lld kinds of work", (long long)p->n);
    int64_t k = 0;
    while (place(p, k) != i) k++;
    const struct work *w = &p->work[k];
    peft_work one = { .inputs = w->in, .outputs = w->out, .backward = w->backward,
                      .half = w->half, .calls = w->calls, .rows = w->rows,
                      .seconds = w->seconds, .flops = w->flops, .bytes = w->bytes };
    snprintf(one.name, sizeof(one.name), "%s", w->name);
    snprintf(one.type, sizeof(one.type), "%s", w->type);
    give_result(out, &one, sizeof(one));
    return PEFT_OK;
}
