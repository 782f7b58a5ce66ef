/* The anchor: texts on which a model shall stay as it was while it learns others. */
#include "kit.h"
#include "peft_judge.h"

enum { STEPS = 100 };
static char base[256];

/* Rows of `n` ids that differ by `salt`. */
static const char *write_rows(const char *name, int rows, int n, int salt)
{
    const char *path = in("%s", name);
    FILE *f = fopen(path, "w");
    if (!f) GIVE_UP();
    for (int r = 0; r < rows; r++) {
        fprintf(f, "{\"input_ids\": [3");
        for (int i = 0; i < n; i++) fprintf(f, ", %d", 5 + (r * 37 + i * (11 + salt) + salt) % 240);
        fprintf(f, "]}\n");
    }
    fclose(f);
    return path;
}

struct run { peft_model *m; peft_dataset *d, *anchor; peft_trainer *t; };

/* What trains: an adapter (NULL), or tensors of the model. */
static struct run begin(peft_train_opts o, const char *trains, int threads)
{
    struct run r = { 0 };
    peft_load_opts lo = kit_opts();
    lo.threads = threads;
    OK(peft_model_load(base, &lo, &r.m));
    if (!trains) OK(peft_adapter_add(r.m, "default", NULL));
    if (trains) OK(peft_freeze(r.m, "*"));
    if (trains) OK(peft_unfreeze(r.m, trains));
    r.d = data(r.m, in("train.jsonl"));
    r.anchor = data(r.m, in("anchor.jsonl"));
    o.size = sizeof(o);
    o.lr = trains ? 2e-3f : 5e-3f;
    o.steps = STEPS;
    if (o.anchor_weight > 0 || o.drift_bound > 0) o.anchor = r.anchor;
    OK(peft_trainer_new(r.m, r.d, &o, &r.t));
    if (!r.t) GIVE_UP();
    return r;
}

static void end(struct run *r)
{
    peft_trainer_free(r->t);
    peft_dataset_free(r->d);
    peft_dataset_free(r->anchor);
    peft_model_free(r->m);
}

static peft_step steps(struct run *r, int n)
{
    peft_step s = { .size = sizeof(s) };
    for (int i = 0; i < n; i++) OK(peft_train_step(r->t, &s));
    return s;
}

static double drift(struct run *r)
{
    peft_model *before = load(base);
    peft_comparison c = { .size = sizeof(c) };
    OK(peft_compare(r->m, before, r->anchor, NULL, &c));
    peft_model_free(before);
    return c.kl;
}

static void test_bound(const char *trains)
{
    peft_train_opts o = { 0 };
    struct run r = begin(o, trains, 1);
    double free_loss = steps(&r, STEPS).loss, far = drift(&r);
    end(&r);
    double bound = far / 10;
    o.drift_bound = (float)bound;
    r = begin(o, trains, 1);
    peft_step first = steps(&r, 1);
    CHECK(fabs(first.drift) < 1e-6 && fabs(first.drift_weight - 1) < 1e-12);
    peft_step last = steps(&r, STEPS - 1);
    double now = drift(&r);
    printf("%s: loss %.3f alone, %.3f held; drift %.4f alone, %.4f held, bound %.4f\n",
           trains ? trains : "LoRA", free_loss, last.loss, far, now, bound);
    CHECK(now <= 1.25 * bound);
    CHECK(last.loss < first.loss - 0.1);
    /* What may be left is taken back. */
    peft_model *before = load(base);
    peft_drift held = { .size = sizeof(held) };
    peft_trainer_free(r.t);
    r.t = NULL;
    OK(peft_drift_hold(r.m, trains ? NULL : "default", before, r.anchor, bound, &held));
    CHECK(held.kl <= bound && held.weight > 0.5 && drift(&r) <= bound);
    peft_model_free(before);
    end(&r);
}

/* A constant weight: less drift, the more of it. */
static void test_weight(void)
{
    double last = 1e9;
    for (float w = 0; w < 150; w = w > 0 ? 10 * w : 1.5f) {
        struct run r = begin((peft_train_opts){ .anchor_weight = w }, NULL, 1);
        peft_step s = steps(&r, STEPS);
        CHECK(fabs(s.drift_weight - (double)w) < 1e-9);
        double now = drift(&r);
        CHECK(now < last);
        last = now;
        end(&r);
    }
}

static void adapter_bits(struct run *r, const char *path, struct bytes *out)
{
    OK(peft_adapter_save(r->m, "default", path));
    char file[300];
    snprintf(file, sizeof(file), "%s/adapter_model.safetensors", path);
    *out = get(file);
}

/* The bits do not depend on threads, slices, cancelling, or resuming. */
static void test_same_bits(void)
{
    const peft_train_opts o = { .drift_bound = 0.02f, .accumulate = 2, .optimizer_states = "bf16" };
    struct bytes want, is;
    struct run r = begin(o, NULL, 1);
    steps(&r, 14);
    OK(peft_trainer_save(r.t, in("checkpoint")));
    steps(&r, 6);
    adapter_bits(&r, in("one"), &want);
    end(&r);

    r = begin(o, NULL, 3);
    peft_step s = { .size = sizeof(s) };
    for (int done = 0, calls = 0; done < 20; calls++) {
        if (calls == 40) OK(peft_trainer_cancel(r.t));
        int32_t rc = peft_train_run_for(r.t, 1, &s);
        CHECK(rc == PEFT_OK || (rc == PEFT_ECANCELLED && calls == 40));
        done += rc == PEFT_OK && !s.more;
    }
    adapter_bits(&r, in("two"), &is);
    CHECK(is.n == want.n && !memcmp(is.at, want.at, is.n));
    free(is.at);
    end(&r);

    r = begin(o, NULL, 1);
    OK(peft_trainer_resume(r.t, in("checkpoint")));
    steps(&r, 6);
    adapter_bits(&r, in("three"), &is);
    CHECK(is.n == want.n && !memcmp(is.at, want.at, is.n));
    free(is.at);
    free(want.at);
    end(&r);

    r = begin((peft_train_opts){ .accumulate = 2, .optimizer_states = "bf16" }, NULL, 1);
    OK(peft_trainer_save(r.t, in("plain")));
    end(&r);
    r = begin(o, NULL, 1);
    REFUSED(peft_trainer_resume(r.t, in("plain")), PEFT_ESTATE);
    end(&r);
}

static void test_refusals(void)
{
    struct run r = begin((peft_train_opts){ 0 }, NULL, 1);
    peft_trainer *t = NULL;
    peft_train_opts o = { .size = sizeof(o), .drift_bound = 1 };
    REFUSED(peft_trainer_new(r.m, r.d, &o, &t), PEFT_EARG);
    o = (peft_train_opts){ .size = sizeof(o), .anchor = r.anchor, .drift_bound = -1 };
    REFUSED(peft_trainer_new(r.m, r.d, &o, &t), PEFT_EARG);
    peft_model *other = load(base);
    peft_dataset *theirs = data(other, in("anchor.jsonl"));
    o = (peft_train_opts){ .size = sizeof(o), .anchor = theirs };
    REFUSED(peft_trainer_new(r.m, r.d, &o, &t), PEFT_EARG);
    CHECK(!t);
    peft_dataset_free(theirs);
    peft_model_free(other);
    end(&r);
}

/* The plan knows of the anchor, and no step allocates after the first. */
static void test_plan(void)
{
    struct run r = begin((peft_train_opts){ 0 }, NULL, 1);
    peft_plan plain = { .size = sizeof(plain) }, held = plain;
    OK(peft_trainer_plan(r.t, &plain));
    end(&r);
    r = begin((peft_train_opts){ .drift_bound = 0.1f }, NULL, 1);
    OK(peft_trainer_plan(r.t, &held));
    CHECK(held.data - plain.data > 4 * 8 * 15 * DIM);
    steps(&r, 2);
    long calls = atomic_load(&kit_mem.calls);
    steps(&r, 8);
    CHECK_EQ(atomic_load(&kit_mem.calls), calls);
    end(&r);
}

static void test_lora(void) { test_bound(NULL); }
static void test_full(void) { test_bound("*"); }
static void test_last(void) { test_bound("model.layers.1.*"); }
static void test_output(void) { test_bound("model.embed_tokens.weight"); }

int main(void)
{
    kit_begin();
    snprintf(base, sizeof(base), "%s", make_model("base", 0));
    write_rows("train.jsonl", 12, 12, 3);
    write_rows("anchor.jsonl", 8, 15, 29);
    RUN(test_lora);
    RUN(test_full);
    RUN(test_last);
    RUN(test_output);
    RUN(test_weight);
    RUN(test_same_bits);
    RUN(test_refusals);
    RUN(test_plan);
    kit_end();
    return TEST_END();
}
