/* Every family against transformers: logits, every gradient's norm, whole
 * gradients, and ten AdamW steps of full, LoRA and head-only tuning. */
#include <dirent.h>

#include "golden.h"

static const char *family;
static json *gold;
static struct store *in, *out;
static const struct arch no_arch = { .name = "none" }, *tested;
static const char *seen[64];                /* families */
static int n_seen;
static double worst_logit, worst_grad, worst_loss;

static void open_family(const char *name)
{
    family = name;
    gold = read_json_file(at("tests/golden/tiny/%s/golden.json", name));
    in = open_st(at("tests/golden/tiny/%s/inputs.safetensors", name));
    out = open_st(at("tests/golden/tiny/%s/outputs.safetensors", name));
}
static void close_family(void)
{
    json_free(gold);
    store_close(in);
    store_close(out);
}
static int is_kind(const char *kind) { return !strcmp(json_string(json_get(gold, "kind")), kind); }
static int is_pair(void) { return is_kind("seq2seq"); }
static int is_cls(void) { return is_kind("cls") || is_kind("vit"); }
static peft_model *base(void) { return load_model(at("tests/golden/tiny/%s", family)); }

static const int64_t *ints(const char *fmt, char batch, int64_t *cols)
{
    const struct store_tensor *t = store_find(in, at(fmt, batch));
    if (t && cols) *cols = t->dims[t->n_dims - 1];
    return t ? t->data : NULL;
}
static int32_t row_ids(char batch, int r, int32_t *ids)
{
    int64_t cols = 0;
    const int64_t *x = ints("%c.input_ids", batch, &cols),
                  *mask = ints("%c.attention_mask", batch, NULL);
    int32_t n = 0;
    for (int64_t i = 0; i < cols; i++)
        if (!mask || mask[r * cols + i]) ids[n++] = (int32_t)x[r * cols + i];
    return n;
}

/* Both batches as rows of a data file. */
static const char *data_file(void)
{
    static char path[160];
    if (is_kind("vit")) return at("tests/golden/tiny/%s/data.csv", family);
    snprintf(path, sizeof(path), "%s/%s.jsonl", test_dir, family);
    FILE *f = fopen(path, "w");
    for (const char *b = "ac"; *b; b++) {
        int64_t cols = 0;
        const int64_t *labels = ints("%c.labels", *b, &cols);
        for (int r = 0; r < 2; r++) {
            int32_t ids[64], n = row_ids(*b, r, ids);
            fprintf(f, "{\"input_ids\": [");
            for (int i = 0; i < n; i++) fprintf(f, "%s%d", i ? ", " : "", ids[i]);
            if (is_cls()) {
                fprintf(f, "], \"label\": %d}\n", (int)labels[r]);
                continue;
            }
            fprintf(f, "], \"labels\": [");
            if (is_pair()) n = (int32_t)cols;
            for (int i = 0; i < n; i++)
                fprintf(f, "%s%d", i ? ", " : "", (int)labels[r * cols + i]);
            fprintf(f, "]}\n");
        }
    }
    fclose(f);
    return path;
}

/* What the decoder reads: its start token, and the labels but the last. */
static int32_t target_ids(char batch, int r, int32_t start, int32_t *ids)
{
    int64_t cols = 0;
    const int64_t *labels = ints("%c.labels", batch, &cols);
    int32_t n = 0;
    ids[n++] = start;
    for (int64_t i = 0; i + 1 < cols && labels[r * cols + i + 1] >= 0; i++)
        ids[n++] = (int32_t)labels[r * cols + i];
    return n;
}

static void check_logits(char batch, int rows, const char *name, peft_model *m)
{
    int64_t count, vocab;
    const float *want = floats(out, name, &count);
    peft_info info = { .size = sizeof(info) };
    if (!want || !m) return;
    peft_model_info(m, &info);
    vocab = is_cls() ? info.labels : info.vocab;
    int64_t padded = count / vocab / rows;
    float *got = malloc(64 * 300 * sizeof(float));
    for (int r = 0; r < rows; r++) {
        int64_t each;
        int32_t ids[64], n = is_kind("vit") ? 1 : row_ids(batch, r, ids);
        double worst = 0;
        const float *pixels = floats(in, at("%c.pixel_values", batch), &each);
        if (pixels) {
            CHECK_EQ(peft_forward_pixels(m, pixels + r * (each / rows), 1, got), PEFT_OK);
        } else if (is_pair()) {
            int32_t target[64], k = target_ids(batch, r, info.decoder_start, target);
            CHECK_EQ(peft_forward_pair(m, ids, n, target, k, got), PEFT_OK);
            CHECK_EQ(peft_forward(m, ids, n, got), PEFT_ESTATE);
            n = k;
        } else {
            CHECK_EQ(peft_forward(m, ids, n, got), PEFT_OK);
        }
        int64_t len = is_cls() ? vocab : n * vocab,
                first = is_cls() ? r * vocab : r * padded * vocab;
        for (int64_t i = 0; i < len; i++) worst = fmax(worst, fabs(got[i] - want[first + i]));
        CHECK_NEAR(worst, 0, 2e-5);
        worst_logit = fmax(worst_logit, worst);
        if (worst > 2e-5) printf("  %s %s row %d\n", family, name, r);
    }
    free(got);
}

static int32_t read_list(const json *list, int32_t *to)
{
    int32_t n = 0;
    for (const json *j = json_first(list); j; j = json_next(j))
        to[n++] = (int32_t)json_number(j, 0);
    return n;
}

/* The answers of transformers' generate, greedy and by beam search. */
static void check_answers(peft_model *m)
{
    for (const json *c = json_first(json_get(gold, "generate")); c; c = json_next(c)) {
        int32_t source[64], want[64], got[64];
        int32_t n = read_list(json_get(c, "source"), source);
        int32_t k = read_list(json_get(c, "ids"), want);
        peft_generate_opts o = {
            .size = sizeof(o), .max_tokens = 12,
            .num_beams = (int32_t)json_number(json_get(c, "num_beams"), 1),
            .length_penalty = (float)json_number(json_get(c, "length_penalty"), 1),
            .early_stopping = (int32_t)json_number(json_get(c, "early"), 0),
            .repeat_penalty = (float)json_number(json_get(c, "repetition_penalty"), 0),
        };
        int64_t len = peft_generate_ids(m, source, n, &o, got, 64, NULL);
        CHECK_EQ(len, k);
        CHECK(len == k && !memcmp(got, want, (size_t)k * sizeof(*got)));
        if (len != k || memcmp(got, want, (size_t)k * sizeof(*got)))
            printf("  %s: %d beams, penalty %g, early %d\n", family, o.num_beams,
                   (double)o.length_penalty, o.early_stopping);
    }
}

static peft_trainer *trainer(peft_model *m, peft_dataset **d, double lr)
{
    return golden_trainer(m, data_file(), lr, 2, NULL, d);
}

static void check_losses(const char *part, peft_model *m)
{
    peft_dataset *d = NULL;
    peft_trainer *t = trainer(m, &d, json_number(json_get(gold, at("%s.lr", part)), 0));
    peft_step s = { .size = sizeof(s) };
    for (int i = 0; i < 10 && t; i++) {
        double want = number_at(gold, at("%s.losses", part), i);
        double norm = number_at(gold, at("%s.grad_norm_per_step", part), i);
        CHECK_EQ(peft_train_step(t, &s), PEFT_OK);
        CHECK_NEAR(rel(s.loss, want), 0, 5e-5);
        worst_loss = fmax(worst_loss, rel(s.loss, want));
        CHECK_NEAR(rel(s.grad_norm, norm), 0, 1e-3);
        if (rel(s.loss, want) > 5e-5)
            printf("  %s %s step %d: %.7f, expected %.7f\n", family, part, i, s.loss, want);
    }
    if (t) CHECK_EQ(peft_train_step(t, &s), PEFT_EEND);
    peft_trainer_free(t);
    peft_dataset_free(d);
}

/* The gradients of the first step stay in the trainer after it. */
static void check_gradients(void)
{
    peft_model *m = base();
    peft_dataset *d = NULL;
    peft_trainer *pt = m ? trainer(m, &d, 1e-3) : NULL;
    peft_step s = { .size = sizeof(s) };
    if (!pt) return;
    CHECK_EQ(peft_train_step(pt, &s), PEFT_OK);
    struct trainer *t = trainer_of(pt);
    int64_t count = 0;
    for (const json *j = json_first(json_get(gold, "grad_norms")); j; j = json_next(j), count++) {
        const struct param *p = model_param(t->m, json_key(j));
        CHECK(p && p->grad);
        double sum = 0, want = json_number(j, NAN);
        if (!p || !p->grad || want < 1e-6) continue;      /* a key's bias: zero but for rounding */
        for (int64_t i = 0; i < param_len(p); i++) sum += (double)p->grad[i] * p->grad[i];
        CHECK_NEAR(rel(sqrt(sum), want), 0, 1e-4);
        if (!(rel(sqrt(sum), want) <= 1e-4))
            printf("  %s %s: %g, expected %g\n", family, p->name, sqrt(sum), want);
        const float *g = floats(out, at("grad.%s", p->name), NULL);
        double top = 0, worst = 0;
        for (int64_t i = 0; g && i < param_len(p); i++) top = fmax(top, fabs(g[i]));
        for (int64_t r = 0; g && r < p->rows; r++)
            for (int64_t c = 0; c < p->cols; c++) {
                int64_t theirs = p->turned ? c * p->rows + r : r * p->cols + c;
                worst = fmax(worst, fabs(p->grad[r * p->cols + c] - g[theirs]));
            }
        CHECK(worst <= 1e-4 * top);
        if (g && top > 0) worst_grad = fmax(worst_grad, worst / top);
    }
    CHECK_EQ(count, t->n_list);
    peft_trainer_free(pt);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* A GGUF file of the model, and a folder made from that, give its logits. */
static void check_formats(void)
{
    static const char *const names[] = { "x.gguf", "x.folder" };
    char from[96];
    peft_save_opts o = { .size = sizeof(o) };
    snprintf(from, sizeof(from), "tests/golden/tiny/%s", family);
    for (int k = 0; k < 2; k++) {
        peft_model *m = load_model(from);
        const char *to = at("%s/%s.%s", test_dir, family, names[k]);
        if (!m || !model_of(m)->arch->gguf || model_of(m)->head) {
            peft_model_free(m);
            return;
        }
        int rc = peft_model_save(m, to, &o);
        peft_model_free(m);
        if (rc == PEFT_EUNSUPPORTED && !k) return;        /* more than GGUF can say */
        CHECK_EQ(rc, PEFT_OK);
        snprintf(from, sizeof(from), "%s", to);
        m = load_model(from);
        check_logits('a', 2, "a.logits", m);
        check_logits('b', 1, "b.logits", m);
        peft_model_free(m);
    }
}

/* Final hidden states of batch a's first row. */
static int64_t hidden(peft_model *pm, float *to)
{
    struct model *m = model_of(pm);
    int32_t ids[64], pos[64], n = row_ids('a', 0, ids), start[2] = { 0, n };
    for (int i = 0; i < n; i++) pos[i] = i;
    CHECK_EQ(model_graph(m), PEFT_OK);
    CHECK_EQ(rope_reserve(m, n), PEFT_OK);
    struct pass p = { .m = m, .g = m->graph, .mem = m->mem, .n = n, .n_seq = 1, .ids = ids,
                      .pos = pos, .start = start };
    CHECK_EQ(pass_begin(&p), PEFT_OK);
    struct tensor *x = model_hidden(&p);
    graph_keep(x);
    CHECK_EQ(graph_forward(p.g), PEFT_OK);
    memcpy(to, x->x, (size_t)tensor_len(x) * sizeof(float));
    return tensor_len(x);
}

/* The same for an encoder without its head, whose output are its hidden states. */
static void check_encoder_formats(void)
{
    static const char *const names[] = { "e.gguf", "e.folder" };
    static float want[64 * 300], got[64 * 300];
    char to[96];
    peft_save_opts o = { .size = sizeof(o) };
    peft_model *pm = base();
    struct model *m = pm ? model_of(pm) : NULL;
    int64_t n = 0, len;
    if (!m || !m->arch->gguf || !m->head || m->arch->style.causal) {
        peft_model_free(pm);
        return;
    }
    for (int64_t i = 0; i < m->n_sites; i++)
        if (!(m->sites[i]->flags & SLOT_OF_HEAD)) m->sites[n++] = m->sites[i];
    m->n_sites = n;
    m->head = NULL;
    len = hidden(pm, want);
    for (int k = 0; k < 2; k++) {
        snprintf(to, sizeof(to), "%s/%s.%s", test_dir, family, names[k]);
        CHECK_EQ(peft_model_save(pm, to, &o), PEFT_OK);
        peft_model_free(pm);
        if (!(pm = load_model(to))) return;
        CHECK_EQ(hidden(pm, got), len);
        for (int64_t i = 0; i < len; i++) CHECK_NEAR(got[i], want[i], 1e-6);
    }
    peft_model_free(pm);
}

static int has_head_only(void) { return json_get(gold, "head") != NULL; }

/* "score" -> "score.*" for each module of the head. */
static const char *head_globs(void)
{
    static char globs[160];
    size_t n = 0;
    for (const json *j = json_first(json_get(gold, "head.modules")); j; j = json_next(j))
        n += (size_t)snprintf(globs + n, sizeof(globs) - n, "%s.*,", json_string(j));
    return globs;
}

static void check_family(const char *name)
{
    open_family(name);
#ifndef PEFT_PNG
    if (is_kind("vit")) {             /* its rows are PNG files */
        tested = NULL;
        for (int i = 0; archs[i]; i++)
            if (archs[i]->style.image && archs[i]->class_cls) tested = archs[i];
        close_family();
        return;
    }
#endif
    peft_model *m = base();
    tested = m ? model_of(m)->arch : &no_arch;
    worst_logit = worst_grad = worst_loss = 0;
    check_logits('a', 2, "a.logits", m);
    check_logits('b', 1, "b.logits", m);
    check_answers(m);
    peft_model_free(m);
    check_gradients();
    m = base();
    check_losses("full", m);
    peft_model_free(m);
    m = base();
    CHECK_EQ(peft_adapter_load(m, "default", at("tests/golden/tiny/%s/lora_step0", name)), PEFT_OK);
    check_losses("lora", m);
    check_logits('a', 2, "a.logits_lora10", m);
    CHECK_EQ(peft_adapter_merge(m, "default"), PEFT_OK);
    check_logits('a', 2, "a.logits_lora10", m);
    peft_model_free(m);
    if (has_head_only()) {
        m = base();
        CHECK_EQ(peft_freeze(m, "*"), PEFT_OK);
        CHECK_EQ(peft_unfreeze(m, head_globs()), PEFT_OK);
        check_losses("head", m);
        peft_model_free(m);
    }
    check_formats();
    check_encoder_formats();
    printf("  %-18s logits %.1e, gradients %.1e, losses %.1e\n", name, worst_logit, worst_grad,
           worst_loss);
    close_family();
}

/* Every kernel level that the processor has, with and without BLAS. */
static void test_levels(void)
{
    open_family("llama");
    for (int i = 0; i < CPU_LEVELS; i++)
        for (int blas = 0; blas < 2; blas++) {
            peft_load_opts o = { .size = sizeof(o), .level = cpu_level_names[i],
                                 .blas = blas ? NULL : "none" };
            peft_model *m = NULL;
            int has = cpu_has((enum cpu_level)i) && kernels_get((enum cpu_level)i);
            CHECK_EQ(peft_model_load("tests/golden/tiny/llama", &o, &m), has ? PEFT_OK : PEFT_EARG);
            if (!m) continue;
            check_logits('b', 1, "b.logits", m);
            check_losses("full", m);
            peft_model_free(m);
        }
    close_family();
}

static const char *golden_name;
static void test_family(void) { check_family(golden_name); }

static void test_every_family_has_a_golden_model(void)
{
    for (int i = 0; archs[i]; i++) {
        int found = 0;
        for (int k = 0; k < n_seen; k++) found |= !strcmp(archs[i]->name, seen[k]);
        found |= archs[i]->style.image && !archs[i]->class_cls;      /* test_vision.c */
        if (!found) printf("  %s has no golden model\n", archs[i]->name);
        CHECK(found);
    }
}

/* All golden models, or the one that is named. */
int main(int argc, char **argv)
{
    golden_begin();
    DIR *d = opendir("tests/golden/tiny");
    for (struct dirent *e; d && (e = readdir(d)) && n_seen < 64;) {
        if (e->d_name[0] == '.' || (argc > 1 && strcmp(argv[1], e->d_name))) continue;
        golden_name = e->d_name;
        RUN(test_family);
        seen[n_seen++] = tested->name;
    }
    if (d) closedir(d);
    if (argc == 1) {
        RUN(test_every_family_has_a_golden_model);
        RUN(test_levels);
    }
    golden_end();
    return TEST_END();
}
