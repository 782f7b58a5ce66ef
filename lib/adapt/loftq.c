/* LoftQ (Li et al. 2023) on a base that is quantised already: the factors of rank r that
 * are nearest to W - Q, by its singular value decomposition.  Further rounds of the paper
 * would quantise W - B A anew; here the base stays as it is, so that its file still fits,
 * and for blocks that stay the first round is the best there is. */
#include "adapt/adapt.h"

int loftq_open(struct model *m, const char *path, struct model **out)
{
    peft_load_opts o = { .size = sizeof(o), .threads = 1, .level = cpu_level_names[m->level],
                         .blas = "none", .alloc = m->host.mem.alloc,
                         .alloc_ctx = m->host.mem.ctx, .io = &m->host.io, .log = m->host.log,
                         .log_ctx = m->host.log_ctx };
    int64_t quantised = 0, packed = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        quantised += !m->params[i]->type->is_float;
        packed += m->params[i]->packed != NULL;
    }
    if (!quantised)
        return fail(PEFT_EARG, "init loftq is of a quantised base, but %s is of floats: load it "
                    "with `quant`", m->name);
    if (!path && !packed)
        return fail(PEFT_EARG, "init loftq needs the floats that %s was quantised from: name the "
                    "float model (init_model), or load that with `quant`", m->name);
    return model_load(path ? path : m->path, &o, out);
}

int loftq_factors(struct model *m, const struct adapted *a, float *left, float *right)
{
    const struct param *w = a->site->w, *f = model_param(a->adapter->floats, w->name);
    struct mem *mem = &m->host.mem;
    int64_t n = param_len(w);
    if (!f || f->rows != w->rows || f->cols != w->cols || !f->type->is_float)
        return fail(PEFT_EUNSUPPORTED, "init loftq: %s is %s in %s, expected floats [%lld, %lld]",
                    w->name, f ? f->type->name : "not", a->adapter->floats->path,
                    (long long)w->rows, (long long)w->cols);
    float *rest = mem_array(mem, n, 4), *other = mem_array(mem, n, 4);
    int rc = rest && other ? PEFT_OK : PEFT_ENOMEM;
    if (!rc) {
        struct matrix residual = { &qtype_f32, rest, w->rows, w->cols };
        param_read(a->adapter->floats, f, other);
        param_write(m, w, rest, &qtype_f32, other);
        qtype_expand(w->type, other, w->data, 0, n);
        m->compute.k->axpy(rest, other, -1.0f, 1, n);
        rc = lowrank(m, &residual, LOWRANK_SVD, a->rank, left, right);
    }
    mem_free(mem, rest);
    mem_free(mem, other);
    return rc;
}
