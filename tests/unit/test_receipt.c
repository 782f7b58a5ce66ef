/* Receipts, the built-in probe, and adapters that are held near their base. */
#include "kit.h"
#include "peft_judge.h"

static void test_hashes(void)
{
    char a[65], b[65];
    int64_t bytes = 0;
    put(in("x"), "abc");
    OK(peft_hash_path(in("x"), a, &bytes));
    CHECK_STR(a, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_EQ(bytes, 3);
    mkdir(in("tree"), 0777);
    mkdir(in("tree/below"), 0777);
    put(in("tree/b"), "1");
    put(in("tree/below/a"), "2");
    OK(peft_hash_path(in("tree"), a, &bytes));
    CHECK_EQ(bytes, 2);
    put(in("tree/below/a"), "3");
    OK(peft_hash_path(in("tree"), b, NULL));
    CHECK(strcmp(a, b) != 0);
    put(in("tree/below/a"), "2");
    OK(peft_hash_path(in("tree"), b, NULL));
    CHECK_STR(a, b);
    REFUSED(peft_hash_path(in("nothing"), a, NULL), PEFT_ENOTFOUND);
}

static void test_round_trip(void)
{
    char data[256];
    snprintf(data, sizeof(data), "%s", put(in("d.jsonl"), "{}\n"));
    mkdir(in("made"), 0777);
    put(in("made/w.safetensors"), "abc");
    peft_receipt_file inputs[] = { { .role = "data", .path = data } };
    peft_receipt_file files[] = { { .path = "w.safetensors" } };
    const char *words[] = { "base", "--data=\"quoted\"\n", "\xc3\xa9" };
    peft_metric results[] = { { "loss", 0.1 }, { "kl", 1e-300 } };
    peft_receipt_info info = { .size = sizeof(info), .inputs = inputs, .n_inputs = 1,
                               .words = words, .n_words = 3, .results = results, .n_results = 2,
                               .files = files, .n_files = 1 };
    char path[256];
    snprintf(path, sizeof(path), "%s", in("made/receipt.json"));
    OK(peft_receipt_write(path, &info, in("made")));
    peft_receipt *r = NULL;
    OK(peft_receipt_read(path, &r));
    const peft_receipt_info *got = peft_receipt_get(r);
    CHECK(got && got->n_words == 3 && got->n_inputs == 1 && got->n_files == 1);
    for (int i = 0; i < 3; i++) CHECK_STR(got->words[i], words[i]);
    CHECK_STR(got->inputs[0].role, "data");
    CHECK_STR(got->files[0].path, "w.safetensors");
    CHECK_EQ(got->files[0].bytes, 3);
    CHECK_EQ(strlen(got->inputs[0].hash), 64);
    CHECK(got->n_results == 2 && got->results[0].value - 0.1 == 0 &&
          got->results[1].value - 1e-300 == 0);
    CHECK_STR(got->version, "0.1.0");
    peft_receipt_free(r);
    info.n_files = 1;
    files[0].path = "../d.jsonl";                       /* leaves its folder */
    REFUSED(peft_receipt_write(in("other.json"), &info, in("made")), PEFT_EFORMAT);
    CHECK(access(in("other.json"), F_OK) != 0);
}

static void test_hostile(void)
{
    static const char *const texts[] = {
        "", "[]", "{}", "{\"receipt\": 2}", "{\"receipt\": 1}",
        "{\"receipt\": 1, \"libpeft\": 5, \"kernels\": \"\", \"blas\": \"\"}",
        "{\"receipt\": 1, \"libpeft\": \"\", \"kernels\": \"\", \"blas\": \"\", \"inputs\": 3}",
        "{\"receipt\": 1, \"libpeft\": \"\", \"kernels\": \"\", \"blas\": \"\", \"inputs\": [], "
        "\"files\": [{\"path\": 7}], \"words\": [\"a\"]}",
        "{\"receipt\": 1, \"libpeft\": \"\", \"kernels\": \"\", \"blas\": \"\", \"inputs\": [], "
        "\"files\": [], \"words\": [1]}",
        "{\"receipt\": 1, \"libpeft\": \"\", \"kernels\": \"\", \"blas\": \"\", \"inputs\": [], "
        "\"files\": [], \"words\": []}",
        "{\"receipt\": 1, \"libpeft\": \"\", \"kernels\": \"\", \"blas\": \"\", \"inputs\": [], "
        "\"files\": [{\"path\": \"a\", \"sha256\": \"b\", \"bytes\": -1}], \"words\": [\"a\"]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        peft_receipt *r = (peft_receipt *)1;
        REFUSED(peft_receipt_read(put(in("odd.json"), texts[i]), &r), PEFT_EFORMAT);
        CHECK(!r && strstr(peft_errmsg(), "odd.json"));
    }
    CHECK(!peft_receipt_get(NULL));
    peft_receipt_free(NULL);
}

/* An adapter that went far is brought back within the bound, and no further. */
static void test_hold(void)
{
    char base[256];
    snprintf(base, sizeof(base), "%s", make_model("base", 1));
    peft_model *m = load(base), *before = load(base);
    peft_dataset *d = data(m, rows_file()), *probe = NULL;
    peft_dataset_opts o = { .size = sizeof(o), .max_len = 60 };
    peft_dataset_stats s = { .size = sizeof(s) };
    OK(peft_probe_load(m, NULL, &o, &probe));
    OK(peft_dataset_info(probe, &s));
    CHECK(s.rows >= 10 && s.max_len <= 60);
    OK(peft_adapter_add(m, "default", NULL));
    peft_train_opts t = { .size = sizeof(t), .lr = 2e-2f, .steps = 20 };
    peft_trainer *trainer = NULL;
    OK(peft_trainer_new(m, d, &t, &trainer));
    for (int i = 0; i < 20; i++) OK(peft_train_step(trainer, NULL));
    peft_trainer_free(trainer);
    peft_drift far = { .size = sizeof(far) }, held = far;
    OK(peft_drift_hold(m, "default", before, probe, 1e3, &far));
    CHECK(far.weight - 1 == 0 && far.kl > 0.01);
    double bound = far.kl / 3;
    OK(peft_drift_hold(m, "default", before, probe, bound, &held));
    CHECK(held.kl <= bound && held.kl > 0.8 * bound);
    CHECK(held.weight > 0 && held.weight < 1 && held.before - far.kl == 0);
    peft_comparison c = { .size = sizeof(c) };
    OK(peft_compare(m, before, probe, NULL, &c));       /* it is in force */
    CHECK(fabs(c.kl - held.kl) < 1e-9);
    REFUSED(peft_drift_hold(m, "default", before, probe, 0, &held), PEFT_EARG);
    REFUSED(peft_drift_hold(m, "other", before, probe, 1, &held), PEFT_ENOTFOUND);
    peft_dataset_free(probe);
    peft_dataset_free(d);
    peft_model_free(m);
    peft_model_free(before);
}

/* The same of what trains the model itself: all of it, its last layer, its output. */
static void test_hold_own(void)
{
    static const char *const trains[] = { "*", "model.layers.1.*", "model.embed_tokens.weight" };
    char base[256];
    snprintf(base, sizeof(base), "%s", make_model("base", 1));
    peft_model *before = load(base);
    for (size_t i = 0; i < ARRAY_LEN(trains); i++) {
        peft_model *m = load(base);
        peft_dataset *d = data(m, rows_file()), *probe = NULL;
        peft_dataset_opts o = { .size = sizeof(o), .max_len = 60 };
        peft_train_opts t = { .size = sizeof(t), .lr = 5e-3f, .steps = 20 };
        peft_trainer *trainer = NULL;
        peft_drift far = { .size = sizeof(far) }, held = far;
        float z[3][N_LOGITS];
        OK(peft_probe_load(m, NULL, &o, &probe));
        OK(peft_freeze(m, "*"));
        REFUSED(peft_drift_hold(m, NULL, before, probe, 1, &held), PEFT_ESTATE);
        OK(peft_unfreeze(m, trains[i]));
        OK(peft_trainer_new(m, d, &t, &trainer));
        for (int k = 0; k < 20; k++) OK(peft_train_step(trainer, NULL));
        REFUSED(peft_drift_hold(m, NULL, before, probe, 1e-6, &held), PEFT_ESTATE);
        peft_trainer_free(trainer);
        logits(m, z[0]);
        OK(peft_drift_hold(m, NULL, before, probe, 1e3, &far));
        logits(m, z[1]);
        CHECK(far.weight - 1 == 0 && far.kl > 1e-4 && !memcmp(z[0], z[1], sizeof(z[0])));
        double bound = far.kl / 3;
        OK(peft_drift_hold(m, NULL, before, probe, bound, &held));
        CHECK(held.kl <= bound && held.kl > 0.8 * bound);
        CHECK(held.weight > 0 && held.weight < 1 && held.before - far.kl == 0);
        peft_comparison c = { .size = sizeof(c) };
        OK(peft_compare(m, before, probe, NULL, &c));
        CHECK(fabs(c.kl - held.kl) < 1e-9);
        /* From a file it is the same model. */
        OK(peft_model_save(m, in("held%d", (int)i), NULL));
        logits(m, z[0]);
        peft_model *again = load(in("held%d", (int)i));
        logits(again, z[2]);
        CHECK(distance(z[0], z[2], N_LOGITS) < 1e-5);
        peft_model_free(again);
        REFUSED(peft_model_write(m, "model.norm.weight", z[0], 3), PEFT_ENOTFOUND);
        peft_dataset_free(probe);
        peft_dataset_free(d);
        peft_model_free(m);
    }
    peft_model_free(before);
}

int main(void)
{
    kit_begin();
    RUN(test_hashes);
    RUN(test_round_trip);
    RUN(test_hostile);
    RUN(test_hold);
    RUN(test_hold_own);
    kit_end();
    return TEST_END();
}
