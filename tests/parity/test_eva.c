/* EVA: A and the ranks are PEFT's (make_eva.py) and those of a whole decomposition, the
 * same for any number of threads; files are plain LoRA; what cannot start is refused. */
#include "golden.h"

static peft_model *tiny(int threads)
{
    peft_load_opts l = { .size = sizeof(l), .threads = threads };
    peft_adapter_opts a = { .size = sizeof(a), .rank = 4, .alpha = 8, .rslora = -1 };
    peft_model *m = NULL;
    CHECK_EQ(peft_model_load("tests/golden/peft/base_llama", &l, &m), PEFT_OK);
    CHECK_EQ(peft_adapter_add(m, "default", &a), PEFT_OK);
    return m;
}

/* The rows of the traces, `times` over. */
static peft_dataset *rows(peft_model *m, int times)
{
    struct file_view v;
    peft_dataset *d = NULL;
    const char *path = at("%s/rows.jsonl", test_dir);
    FILE *f = fopen(path, "w");
    CHECK_EQ(file_open_view(&test_host, "tests/golden/traces/rows.jsonl", false, &v), PEFT_OK);
    for (int i = 0; i < times; i++) fwrite(v.data, 1, (size_t)v.n, f);
    fclose(f);
    file_close_view(&test_host, &v);
    CHECK_EQ(peft_dataset_load(m, path, NULL, &d), PEFT_OK);
    return d;
}

static const struct adapted *found(peft_model *m, const char *name)
{
    const struct adapter *a = model_of(m)->adapters;
    for (int64_t i = 0; i < a->n_sites; i++)
        if (!strcmp(a->sites[i].site->name, name)) return &a->sites[i];
    return NULL;
}

/* The same vectors, sign included: PEFT's with rho 1 are near only, from too small a space.
 * Of modules with one input PEFT may give another one the rank that is left over. */
static void check_peft(int rho)
{
    peft_model *m = tiny(2), *want = tiny(2);
    peft_dataset *d = rows(m, 1);
    peft_eva_opts o = { .size = sizeof(o), .rho = (float)rho, .tau = 0.999f, .batch = 8 };
    CHECK_EQ(peft_adapter_init_eva(m, "default", d, &o), PEFT_OK);
    CHECK_EQ(peft_adapter_remove(want, "default"), PEFT_OK);
    CHECK_EQ(peft_adapter_load(want, "default", at("tests/golden/peft/eva_%d", rho)), PEFT_OK);
    const struct adapter *a = model_of(m)->adapters;
    CHECK_EQ(a->n_sites, model_of(want)->adapters->n_sites);
    int64_t mine = 0, theirs = 0, differ = 0;
    for (int64_t i = 0; i < a->n_sites; i++) {
        const struct adapted *x = &a->sites[i], *y = found(want, x->site->name);
        if (!y) continue;
        mine += x->rank;
        theirs += y->rank;
        differ += x->rank != y->rank;
        CHECK_NEAR(x->alpha / (float)x->rank, y->alpha / (float)y->rank, 1e-6);
        CHECK_NEAR(x->scale, y->scale, 1e-6);
        for (int64_t k = 0; k < MIN(x->rank, y->rank) * x->site->w->cols; k++)
            CHECK_NEAR(x->part[0]->own[k], y->part[0]->own[k], rho == 1 ? 2e-2 : 2e-3);
    }
    CHECK_EQ(mine, theirs);
    CHECK_EQ(mine, 4 * a->n_sites);
    CHECK(differ <= (rho == 1 ? 0 : 2));
    peft_dataset_free(d);
    peft_model_free(m);
    peft_model_free(want);
}

static void test_peft(void)
{
    check_peft(1);
    check_peft(2);
}

/* The first layer reads norm(embedding of a token) * weight, whose covariance must have A's
 * rows as its vectors, largest value first. */
static void test_whole(void)
{
    enum { DIM = 16 };
    peft_model *m = tiny(2);
    peft_dataset *d = rows(m, 1);
    peft_eva_opts o = { .size = sizeof(o), .rho = 1, .batch = 8 };
    static float embed[64 * DIM], weight[DIM];
    static double x[256][DIM], mean[DIM];
    int n = 0;
    CHECK_EQ(peft_adapter_init_eva(m, "default", d, &o), PEFT_OK);
    CHECK_EQ(peft_model_read(m, "model.embed_tokens.weight", embed, 64 * DIM), 64 * DIM);
    CHECK_EQ(peft_model_read(m, "model.layers.0.input_layernorm.weight", weight, DIM), DIM);
    peft_row row = { .size = sizeof(row) };
    for (int64_t r = 0; !peft_dataset_row(d, r, &row); r++)
        for (int t = 0; t < row.n; t++) {
            const float *e = embed + row.ids[t] * DIM;
            double sum = 0;
            if (row.labels[t] == -100) continue;
            for (int c = 0; c < DIM; c++) sum += (double)e[c] * (double)e[c] / DIM;
            for (int c = 0; c < DIM; c++) x[n][c] = (double)(e[c] * weight[c]) / sqrt(sum + 1e-6);
            for (int c = 0; c < DIM; c++) mean[c] += x[n][c];
            n++;
        }
    const struct adapted *a = found(m, "model.layers.0.self_attn.k_proj");
    double before = 1e30, all = 0;
    for (int i = 0; i < n; i++)
        for (int c = 0; c < DIM; c++) {
            x[i][c] -= mean[c] / n;
            all += x[i][c] * x[i][c];
        }
    for (int k = 0; k < 4; k++) {
        const float *v = a->part[0]->own + k * DIM;
        double y[DIM] = { 0 }, value = 0;
        for (int i = 0; i < n; i++) {
            double p = 0;
            for (int c = 0; c < DIM; c++) p += x[i][c] * (double)v[c];
            for (int c = 0; c < DIM; c++) y[c] += p * x[i][c];
        }
        for (int c = 0; c < DIM; c++) value += y[c] * (double)v[c];
        for (int c = 0; c < DIM; c++) CHECK_NEAR(y[c], value * (double)v[c], 1e-4 * all);
        CHECK(value <= before * 1.0001 && value > all / DIM);
        before = value;
    }
    peft_dataset_free(d);
    peft_model_free(m);
}

/* Several batches, with ranks that move a lot and modules that go: the same bits, and what
 * is saved reads back. */
static void test_bits(void)
{
    static float first[8192];
    static const int32_t ids[] = { 1, 5, 9, 13 };
    static float a[4 * 64], b[4 * 64];
    int64_t n = 0;
    for (int threads = 1; threads <= 8; threads += threads < 3 ? 1 : 5) {
        peft_model *m = tiny(threads);
        peft_dataset *d = rows(m, 3);
        peft_eva_opts o = { .size = sizeof(o), .rho = 4, .batch = 6, .all_tokens = 1, .seed = 3 };
        CHECK_EQ(peft_adapter_init_eva(m, "default", d, &o), PEFT_OK);
        const struct adapter *ad = model_of(m)->adapters;
        int64_t at_ = 0, ranks = 0;
        for (int64_t i = 0; i < ad->n_sites; i++) {
            const struct param *p = ad->sites[i].part[0];
            ranks += ad->sites[i].rank;
            for (int64_t k = 0; k < param_len(p); k++, at_++)
                if (threads == 1) first[at_] = p->own[k];
                else CHECK(first[at_] == p->own[k]);
            for (int64_t k = 0; k < param_len(ad->sites[i].part[1]); k++)
                ad->sites[i].part[1]->own[k] = 0.1f * (float)(k % 7);
        }
        if (threads == 1) n = at_;
        CHECK_EQ(n, at_);
        CHECK_EQ(ranks, 56);
        model_of(m)->edits++;
        CHECK_EQ(peft_forward(m, ids, 4, a), PEFT_OK);
        CHECK_EQ(peft_adapter_save(m, "default", at("%s/eva", test_dir)), PEFT_OK);
        CHECK_EQ(peft_adapter_init_eva(m, "default", d, &o), PEFT_ESTATE);
        CHECK_EQ(peft_adapter_remove(m, "default"), PEFT_OK);
        CHECK_EQ(peft_adapter_load(m, "again", at("%s/eva", test_dir)), PEFT_OK);
        CHECK_EQ(peft_forward(m, ids, 4, b), PEFT_OK);
        for (int i = 0; i < 4 * 64; i++) CHECK_NEAR(a[i], b[i], 0);
        peft_dataset_free(d);
        peft_model_free(m);
    }
}

static int32_t stop(void *ctx, int64_t done, int64_t total)
{
    CHECK(done <= total && total == 8);       /* inputs: four in each of two layers */
    return --*(int *)ctx < 0;
}

static void test_refused(void)
{
    peft_model *m = tiny(2);
    peft_dataset *d = rows(m, 1);
    int calls = 1;
    peft_eva_opts o = { .size = sizeof(o), .batch = 2, .progress = stop, .ctx = &calls };
    CHECK_EQ(peft_adapter_init_eva(m, "other", d, &o), PEFT_ENOTFOUND);
    CHECK_EQ(peft_adapter_init_eva(m, "default", d, &o), PEFT_ECANCELLED);
    CHECK_EQ(found(m, "model.layers.0.self_attn.q_proj")->rank, 4);
    o.rho = 0.5f;
    CHECK_EQ(peft_adapter_init_eva(m, "default", d, &o), PEFT_EARG);
    o = (peft_eva_opts){ .size = sizeof(o), .rho = 4, .batch = 1 };
    CHECK_EQ(peft_adapter_init_eva(m, "default", d, &o), PEFT_EDATA);
    peft_adapter_opts a = { .size = sizeof(a), .method = "loha" };
    CHECK_EQ(peft_adapter_add(m, "loha", &a), PEFT_OK);
    CHECK_EQ(peft_adapter_init_eva(m, "loha", d, &o), PEFT_EARG);
    peft_dataset_free(d);
    peft_model_free(m);
}

/* Two adapters at the same modules: taking modules out of the first leaves the second. */
static void test_several(void)
{
    peft_model *m = tiny(2);
    peft_adapter_opts a = { .size = sizeof(a), .rank = 2 };
    peft_dataset *d = rows(m, 1);
    peft_eva_opts o = { .size = sizeof(o), .rho = 4, .batch = 8 };
    CHECK_EQ(peft_adapter_add(m, "second", &a), PEFT_OK);
    CHECK_EQ(peft_adapter_init_eva(m, "default", d, &o), PEFT_OK);
    for (const struct adapter *x = model_of(m)->adapters; x; x = x->next)
        for (int64_t i = 0; i < x->n_sites; i++)
            CHECK(adapted_at(x, x->sites[i].site) == &x->sites[i]);
    CHECK_EQ(peft_adapter_remove(m, "default"), PEFT_OK);
    CHECK_EQ(peft_adapter_remove(m, "second"), PEFT_OK);
    peft_dataset_free(d);
    peft_model_free(m);
}

int main(void)
{
    golden_begin();
    RUN(test_peft);
    RUN(test_whole);
    RUN(test_bits);
    RUN(test_refused);
    RUN(test_several);
    golden_end();
    return TEST_END();
}
