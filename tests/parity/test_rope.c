/* Rope scalings against transformers, below and beyond the original length:
 * logits, gradients, ten full steps, and the same logits from GGUF and back. */
#include "golden.h"

static const char *root = "tests/golden/rope", *name;
static const json *gold;
static struct store *in, *out;
static double worst_logit, worst_grad, worst_loss;

/* A folder with the case's config.json and the weights that it shares. */
static const char *folder(void)
{
    static char dir[128];
    struct buf b;
    char cmd[400];
    snprintf(dir, sizeof(dir), "%s/%s", test_dir, name);
    snprintf(cmd, sizeof(cmd), "mkdir -p %s && cp %s/%s.safetensors %s/model.safetensors",
             dir, root, json_string(json_get(gold, "weights")), dir);
    CHECK_EQ(system(cmd), 0);
    buf_init(&b, &test_host.mem);
    json_write(&b, json_get(gold, "config"));
    CHECK_EQ(file_write(&test_host, at("%s/config.json", dir), b.data, b.n), PEFT_OK);
    buf_free(&b);
    return dir;
}

static void check_logits(peft_model *m, const char *batch)
{
    int64_t count = 0, vocab = 48;
    const float *want = floats(out, at("%s.%s", name, batch), &count);
    const struct store_tensor *t = store_find(in, at("%s.input_ids", batch));
    int32_t ids[96], n = (int32_t)t->count;
    float *got = malloc(96 * 48 * sizeof(float));
    double worst = 0;
    for (int i = 0; i < n; i++) ids[i] = (int32_t)((const int64_t *)t->data)[i];
    CHECK(m && want);
    CHECK_EQ(m ? peft_forward(m, ids, n, got) : 1, PEFT_OK);
    for (int64_t i = 0; want && i < count; i++)
        worst = fmax(worst, fabs(got[n * vocab - count + i] - want[i]));
    CHECK_NEAR(worst, 0, 2e-5);
    if (!(worst <= 2e-5)) printf("  %s %s: %g\n", name, batch, worst);
    worst_logit = fmax(worst_logit, worst);
    free(got);
}

/* Batch a, then c, as rows of a data file. */
static const char *data_file(const char *order)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s.jsonl", test_dir, order);
    FILE *f = fopen(path, "w");
    for (const char *b = order; *b; b++) {
        const struct store_tensor *x = store_find(in, at("%c.input_ids", *b));
        const int64_t *ids = x->data, *y = store_find(in, at("%c.labels", *b))->data;
        const int64_t *mask = store_find(in, at("%c.attention_mask", *b))->data;
        for (int64_t r = 0; r < 2; r++)
            for (int k = 0; k < 2; k++) {
                fprintf(f, k ? "], \"labels\": [" : "{\"input_ids\": [");
                for (int64_t i = r * x->dims[1], first = i; i < (r + 1) * x->dims[1]; i++)
                    if (mask[i])
                        fprintf(f, "%s%d", i > first ? ", " : "", (int)(k ? y : ids)[i]);
                if (k) fprintf(f, "]}\n");
            }
    }
    fclose(f);
    return path;
}

static peft_trainer *trainer(peft_model *m, peft_dataset **d, const char *order)
{
    peft_train_opts o = { .size = sizeof(o), .lr = 1e-3f, .schedule = "constant", .clip = -1,
                          .weight_decay = 0.01f, .batch = 2, .steps = 10, .no_shuffle = 1 };
    peft_trainer *t = NULL;
    CHECK_EQ(peft_dataset_load(m, data_file(order), NULL, d), PEFT_OK);
    if (*d) CHECK_EQ(peft_trainer_new(m, *d, &o, &t), PEFT_OK);
    return t;
}

static void check_losses(const char *dir)
{
    peft_model *m = load_model(dir);
    peft_dataset *d = NULL;
    peft_trainer *t = m ? trainer(m, &d, "ac") : NULL;
    peft_step s = { .size = sizeof(s) };
    for (int i = 0; i < 10 && t; i++) {
        double want = number_at(gold, "losses", i);
        CHECK_EQ(peft_train_step(t, &s), PEFT_OK);
        CHECK_NEAR(rel(s.loss, want), 0, 5e-5);
        worst_loss = fmax(worst_loss, rel(s.loss, want));
    }
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

static void check_gradients(const char *dir)
{
    peft_model *m = load_model(dir);
    peft_dataset *d = NULL;
    peft_trainer *pt = m ? trainer(m, &d, "c") : NULL;
    peft_step s = { .size = sizeof(s) };
    if (!pt) return;
    CHECK_EQ(peft_train_step(pt, &s), PEFT_OK);
    for (const json *j = json_first(json_get(gold, "grad_norms")); j; j = json_next(j)) {
        const struct param *p = model_param(trainer_of(pt)->m, json_key(j));
        double sum = 0, want = json_number(j, NAN);
        CHECK(p && p->grad);
        for (int64_t i = 0; p && i < param_len(p); i++) sum += (double)p->grad[i] * p->grad[i];
        if (want > 1e-6) CHECK_NEAR(rel(sqrt(sum), want), 0, 1e-4);
    }
    const struct param *p = model_param(trainer_of(pt)->m, json_string(json_get(gold, "grad")));
    const float *g = floats(out, at("%s.grad", name), NULL);
    double top = 0, worst = 0;
    for (int64_t i = 0; p && g && i < param_len(p); i++) {
        top = fmax(top, fabs(g[i]));
        worst = fmax(worst, fabs(p->grad[i] - g[i]));
    }
    CHECK(p && g && worst <= 1e-4 * top);
    worst_grad = fmax(worst_grad, worst / top);
    peft_trainer_free(pt);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* What GGUF cannot say is refused; the rest comes back from it, and from a
 * folder made of that. */
static void check_formats(const char *dir)
{
    static const char *const endings[] = { "gguf", "folder" };
    peft_save_opts o = { .size = sizeof(o) };
    char from[128], to[128];
    snprintf(from, sizeof(from), "%s", dir);
    for (int k = 0; k < 2; k++) {
        peft_model *m = load_model(from);
        snprintf(to, sizeof(to), "%s/%s.%s", test_dir, name, endings[k]);
        int rc = m ? peft_model_save(m, to, &o) : PEFT_OK;
        peft_model_free(m);
        if (rc == PEFT_EUNSUPPORTED && !k) {
            printf("  %s\n", peft_errmsg());
            return;
        }
        CHECK_EQ(rc, PEFT_OK);
        m = load_model(to);
        check_logits(m, "b1");
        check_logits(m, "b2");
        peft_model_free(m);
        memcpy(from, to, sizeof(from));
    }
}

static void test_case(void)
{
    const char *dir = folder();
    peft_model *m = load_model(dir);
    worst_logit = worst_grad = worst_loss = 0;
    check_logits(m, "b1");
    check_logits(m, "b2");
    peft_model_free(m);
    check_gradients(dir);
    check_losses(dir);
    check_formats(dir);
    printf("  %-18s logits %.1e, gradients %.1e, losses %.1e\n", name, worst_logit, worst_grad,
           worst_loss);
}

/* All cases, of another folder if one is named. */
int main(int argc, char **argv)
{
    golden_begin();
    if (argc > 1) root = argv[1];
    json *cases = read_json_file(at("%s/cases.json", root));
    in = open_st(at("%s/inputs.safetensors", root));
    out = open_st(at("%s/outputs.safetensors", root));
    for (gold = json_first(cases); gold; gold = json_next(gold)) {
        name = json_key(gold);
        RUN(test_case);
    }
    store_close(in);
    store_close(out);
    json_free(cases);
    golden_end();
    return TEST_END();
}
