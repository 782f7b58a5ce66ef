/* peft_model_*, peft_freeze*, peft_head_add, peft_system_info. */
#include <stdio.h>

#include "api/api.h"

int32_t peft_io_default(peft_io *out)
{
    ARG(out, "no peft_io given");
    return os_io_default(out);
}

int32_t peft_model_load(const char *path, const peft_load_opts *opts, peft_model **out)
{
    peft_load_opts o;
    ARG(path && *path, "no path given");
    ARG(out, "no place for the model given");
    *out = NULL;
    int rc = take_options(&o, sizeof(o), opts);
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    struct model *m = NULL;
    rc = model_load(path, &o, &m);
    fp_leave(fp);
    if (!rc) *out = (peft_model *)m;
    return rc;
}

void peft_model_free(peft_model *model) { model_free(model_of(model)); }

int32_t peft_model_save(const peft_model *model, const char *path, const peft_save_opts *opts)
{
    peft_save_opts o;
    ARG(model, "no model given");
    ARG(path && *path, "no path given");
    int rc = take_options(&o, sizeof(o), opts);
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    rc = model_save(model_of(model), path, &o);
    fp_leave(fp);
    return rc;
}

/* "Q4_1 x210, F32 x61" */
static void list_types(const struct model *m, char *out, size_t cap)
{
    size_t n = 0;
    out[0] = 0;
    for (int k = 0; qtypes[k]; k++) {
        int64_t count = 0;
        for (int64_t i = 0; i < m->n_params; i++) count += m->params[i]->type == qtypes[k];
        if (count && n < cap - 1)
            n += (size_t)snprintf(out + n, cap - n, "%s%s x%lld", n ? ", " : "", qtypes[k]->name,
                                  (long long)count);
    }
}

int32_t peft_model_info(const peft_model *model, peft_info *out)
{
    ARG(model, "no model given");
    int rc = check_result(out);
    if (rc) return rc;
    const struct model *m = model_of(model);
    const struct param *p;
    peft_info i = { 0 };
    snprintf(i.family, sizeof(i.family), "%s", m->arch->name);
    snprintf(i.name, sizeof(i.name), "%s", m->name);
    snprintf(i.format, sizeof(i.format), "%s",
             store_format(m->store) == STORE_GGUF ? "gguf" : "safetensors");
    list_types(m, i.types, sizeof(i.types));
    i.layers = (int32_t)m->hp.layers;
    i.dim = (int32_t)m->hp.dim;
    i.heads = (int32_t)m->hp.heads;
    i.kv_heads = (int32_t)m->hp.kv_heads;
    i.head_dim = (int32_t)m->hp.head_dim;
    i.ff_dim = (int32_t)m->hp.ff;
    i.vocab = (int32_t)m->hp.vocab;
    i.max_len = (int32_t)m->hp.max_len;
    i.labels = (int32_t)m->hp.labels;
    i.causal = m->arch->style.causal;
    i.image_height = (int32_t)m->hp.image[0];
    i.image_width = (int32_t)m->hp.image[1];
    i.channels = (int32_t)m->hp.channels;
    i.embed_dim = (int32_t)(m->global[SLOT_PROJECTION] ? m->hp.projection : m->hp.embed);
    i.encoder_layers = (int32_t)m->hp.enc_layers;
    i.decoder_start = m->hp.enc_layers ? (int32_t)m->hp.start_id : -1;
    snprintf(i.head, sizeof(i.head), "%s", head_kinds[m->kind].name);
    i.outputs = m->head ? (int32_t)m->hp.labels : model_lm_head(m) ? (int32_t)m->hp.vocab : 0;
    i.each_token = head_kinds[m->kind].each_token;
    i.has_tokenizer = m->tok != NULL;
    i.has_chat_template = m->tok && tok_info(m->tok)->chat_template;
    for (int64_t k = 0; (p = model_nth_param(m, k)); k++) {
        i.n_tensors++;
        if (!p->counted) continue;
        i.params_total += param_len(p);
        if (!p->adapter) i.params += param_len(p);
        if (p->trainable) i.trainable += param_len(p);
        if (!p->adapter) i.weight_bytes += param_bytes(p);
    }
    for (const struct adapter *a = m->adapters; a; a = a->next) i.n_adapters++;
    i.bos = i.eos = i.pad = -1;
    if (m->tok) {
        i.bos = tok_info(m->tok)->bos;
        i.eos = tok_info(m->tok)->eos;
        i.pad = tok_info(m->tok)->pad;
    }
    give_result(out, &i, sizeof(i));
    return PEFT_OK;
}

int32_t peft_model_param(const peft_model *model, int32_t i, peft_param *out)
{
    ARG(model, "no model given");
    int rc = check_result(out);
    if (rc) return rc;
    const struct param *p = model_nth_param(model_of(model), i);
    if (!p) return fail(PEFT_ENOTFOUND, "tensor %d, which is beyond the last one", i);
    peft_param r = { .name = p->name, .type = p->type->name,
                     .rows = p->turned ? p->cols : p->rows, .cols = p->turned ? p->rows : p->cols,
                     .layer = p->layer, .trainable = p->counted && p->trainable };
    give_result(out, &r, sizeof(r));
    return PEFT_OK;
}

int64_t peft_model_read(const peft_model *model, const char *name, float *to, int64_t cap)
{
    ARG(model && name, "no model or name given");
    const struct param *p = model_param(model_of(model), name);
    if (!p) return fail(PEFT_ENOTFOUND, "no tensor is called \"%s\"", name);
    if (!to) return param_len(p);
    if (cap < param_len(p))
        return fail(PEFT_EARG, "room for %lld floats, expected %lld", (long long)cap,
                    (long long)param_len(p));
    param_read(model_of(model), p, to);
    return param_len(p);
}

int32_t peft_model_write(peft_model *model, const char *name, const float *from, int64_t n)
{
    ARG(model && name && from, "no model, name or numbers given");
    struct model *m = model_of(model);
    const struct param *p = model_param(m, name);
    int rc = no_trainers(m);
    if (rc) return rc;
    if (!p || !p->own || n != param_len(p))
        return fail(PEFT_ENOTFOUND, "no tensor of %lld numbers called \"%s\" has been trained",
                    (long long)n, name);
    param_write(m, p, p->own, &qtype_f32, from);
    m->edits++;
    return PEFT_OK;
}

int32_t peft_freeze_layers(peft_model *model, int32_t first, int32_t last)
{
    ARG(model, "no model given");
    int rc = no_trainers(model_of(model));
    return rc ? rc : model_freeze_layers(model_of(model), first, last);
}

int32_t peft_freeze(peft_model *model, const char *glob)
{
    ARG(model, "no model given");
    int rc = no_trainers(model_of(model));
    return rc ? rc : model_freeze(model_of(model), glob, 0);
}

int32_t peft_unfreeze(peft_model *model, const char *glob)
{
    ARG(model, "no model given");
    int rc = no_trainers(model_of(model));
    return rc ? rc : model_freeze(model_of(model), glob, 1);
}

int32_t peft_to_float(peft_model *model, const char *glob, int32_t only_cost, int64_t *bytes)
{
    ARG(model, "no model given");
    int rc = only_cost ? PEFT_OK : no_trainers(model_of(model));
    return rc ? rc : model_to_float(model_of(model), glob, only_cost, bytes);
}

int32_t peft_head_add(peft_model *model, const peft_head_opts *opts)
{
    peft_head_opts o;
    ARG(model, "no model given");
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc) rc = no_trainers(model_of(model));
    if (rc) return rc;
    if (!(o.dropout >= 0 && o.dropout < 1))
        return fail(PEFT_EARG, "dropout %g, expected 0 or more and below 1", (double)o.dropout);
    return model_head_add(model_of(model), &o);
}

const char *peft_label_name(const peft_model *model, int32_t i)
{
    const struct model *m = model_of(model);
    return m && m->head && i >= 0 && i < m->hp.labels ? m->labels[i] : NULL;
}

/* One thread's speed: products of 256 x 256 x 256 for about 30 ms. */
static double measure(const struct blas *b, float *x)
{
    enum { N = 256 };
    float *y = x + N * N, *z = y + N * N;
    double begin, end;
    int runs = 0;
    for (int i = 0; i < 2 * N * N; i++) x[i] = (float)(i % 13) * 0.1f;
    b->sgemm(0, 1, N, N, N, 1.0f, x, N, y, N, 0.0f, z, N);
    begin = end = os_seconds();
    for (; end - begin < 0.03; runs++) {
        b->sgemm(0, 1, N, N, N, 1.0f, x, N, y, N, 0.0f, z, N);
        end = os_seconds();
    }
    return 2.0 * N * N * N * runs / (end - begin) / 1e9;
}

int32_t peft_system_info(peft_system *out)
{
    peft_system s = { 0 };
    struct host h;
    struct blas *b = NULL;
    error_clear();
    int rc = check_result(out);
    if (!rc) rc = host_init(&h, NULL);
    if (!rc) rc = blas_open(&h, NULL, &b, s.advice, sizeof(s.advice));
    if (rc) return rc;
    os_cpu_name(s.cpu, sizeof(s.cpu));
    snprintf(s.level, sizeof(s.level), "%s", cpu_level_names[cpu_best()]);
    s.cores = os_cores();
    snprintf(s.blas, sizeof(s.blas), "%s", b->name);
    snprintf(s.blas_core, sizeof(s.blas_core), "%s", b->core);
    float *x = mem_alloc(&h.mem, 3 * 256 * 256 * 4);
    if (x) s.gflops = measure(b, x);
    mem_free(&h.mem, x);
    s.memory_total = os_memory_total();
    s.memory_available = os_memory_available();
    blas_close(&h, b);
    give_result(out, &s, sizeof(s));
    return PEFT_OK;
}
