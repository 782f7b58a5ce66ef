/* Ten steps of every method as torch and PEFT took them (golden/make_trace.py): each
 * loss, each gradient norm, and the first step's gradients value by value. */
#include "trace.h"

/* The library's own start where the file names an `init`; else PEFT's adapter. */
static const struct trace { const char *name, *unfrozen; } traces[] = {
    { "full", "*" },         { "bitfit", "*.bias" },
    { "lora", NULL },        { "lora_accum2", NULL },  { "lora_accum4", NULL },
    { "lora_plus", NULL },   { "lora_embed", NULL },   { "lora_bias", NULL },
    { "lora_pattern", NULL },{ "rslora_mts", NULL },   { "gaussian", NULL },
    { "pissa", NULL },       { "olora", NULL },        { "dora", NULL },
    { "ia3", NULL },         { "ln", NULL },           { "vera", NULL },
    { "loha", NULL },        { "lokr", NULL },         { "lokr_both", NULL },
    { "oft", NULL },
};

static const char *text_of(const json *j, const char *key, const char *other)
{
    const char *s = json_string(json_get(j, key));
    return s ? s : other;
}

static peft_model *start(const struct trace *t, const json *j)
{
    peft_model *m = load_model(at("tests/golden/%s", text_of(j, "base", "peft/base_llama")));
    peft_adapter_opts o = { .size = sizeof(o), .init = text_of(j, "init", NULL), .rank = 2,
                            .alpha = 8, .rslora = -1, .targets = "q_proj,v_proj,down_proj" };
    float ratio = (float)json_number(json_get(j, "lr_ratio"), 0);
    if (t->unfrozen) {
        CHECK_EQ(peft_freeze(m, "*"), PEFT_OK);
        CHECK_EQ(peft_unfreeze(m, t->unfrozen), PEFT_OK);
    } else if (o.init) {
        CHECK_EQ(peft_adapter_add(m, "default", &o), PEFT_OK);
    } else {
        CHECK_EQ(peft_adapter_load(m, "default", at(TRACES "%s/start",
                                                    text_of(j, "start", t->name))), PEFT_OK);
    }
    const struct adapter *a = model_of(m)->adapters;
    for (int64_t i = 0; a && ratio > 0 && i < a->n_sites; i++)
        a->sites[i].part[1]->lr_ratio = ratio;
    return m;
}

static int64_t columns(const struct store_tensor *t) { return t->dims[t->n_dims > 1]; }

/* Largest difference of two tensors over the largest value of the second.  Where the
 * start is ours, files hold its factors beside the trained ones, and the signs of the
 * factors are free. */
static double differ(const struct store_tensor *ours, const struct store_tensor *want, int free)
{
    double worst = 0, top = 0;
    if (!ours || (free ? ours->count != 2 * want->count : ours->count != want->count)) return NAN;
    const float *a = ours->data, *b = want->data;
    int64_t cols = columns(want);
    for (int64_t i = 0; i < want->count; i++) {
        double x = a[i / cols * columns(ours) + i % cols], y = b[i];
        worst = fmax(worst, free ? fabs(fabs(x) - fabs(y)) : fabs(x - y));
        top = fmax(top, fabs(y));
    }
    return top > 0 ? worst / top : worst;
}

/* The gradients take the place of what trains, and are then saved: so they have the
 * names, shapes and order of rows of files. */
static double check_gradients(const struct trace *of, const json *j)
{
    peft_model *m = start(of, j);
    peft_dataset *d = NULL;
    peft_trainer *t = trace_trainer(m, j, 0, -1, &d);
    peft_step s = { .size = sizeof(s) };
    const char *dir = at("%s/%s", test_dir, of->name);
    double worst = 0;
    CHECK_EQ(t ? peft_train_step(t, &s) : -1, PEFT_OK);
    for (int64_t i = 0; t && i < trainer_of(t)->n_list; i++) {
        struct param *p = trainer_of(t)->list[i].p;
        memcpy(p->own, p->grad, (size_t)param_len(p) * 4);
    }
    if (of->unfrozen) CHECK_EQ(peft_model_save(m, dir, NULL), PEFT_OK);
    else CHECK_EQ(peft_adapter_save(m, "default", dir), PEFT_OK);
    struct store *ours = open_st(at(of->unfrozen ? "%s/model.safetensors"
                                                 : "%s/adapter_model.safetensors", dir));
    struct store *want = open_st(at(TRACES "%s/gradient.safetensors", of->name));
    for (int64_t i = 0; ours && want && i < store_count(want); i++) {
        const struct store_tensor *w = store_at(want, i);
        double error = differ(store_find(ours, w->name), w, json_get(j, "init") != NULL);
        if (!(error <= 1e-4)) printf("%s: %s\n", of->name, w->name);
        CHECK_NEAR(error, 0, 1e-4);
        worst = fmax(worst, error);
    }
    store_close(ours);
    store_close(want);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
    return worst;
}

static void test_traces(void)
{
    for (size_t i = 0; i < ARRAY_LEN(traces); i++) {
        int bad = test_bad;
        double gradient = NAN;
        json *j = read_json_file(at(TRACES "%s/trace.json", traces[i].name));
        CHECK(j != NULL);
        peft_model *m = start(&traces[i], j);
        double loss = trace_follow(m, j, 0);
        peft_model_free(m);
        if (!access(at(TRACES "%s/gradient.safetensors", traces[i].name), R_OK))
            gradient = check_gradients(&traces[i], j);
        printf("  %-14s losses %.1e, gradients %.1e%s\n", traces[i].name, loss, gradient,
               test_bad > bad ? "  <--" : "");
        json_free(j);
    }
}

int main(void)
{
    golden_begin();
    RUN(test_traces);
    golden_end();
    return TEST_END();
}
