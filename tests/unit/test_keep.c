/* peft_trainer_keep and peft_trainer_back: what was kept comes back bit for bit, and steps
 * after it are those that were made before: everything that trains, every state. */
#include "kit.h"

static char base[64];

static const struct {
    const char *name, *method, *states;
    int accumulate, packing;
    float dropout;
} cases[] = {
    { "full", NULL, NULL, 1, 0, 0 },
    { "bf16", NULL, "bf16", 2, 0, 0 },
    { "8bit", NULL, "8bit", 1, 1, 0 },
    { "head", "head", NULL, 1, 0, 0 },
    { "lora", "lora", NULL, 3, 0, 0.1f },
    { "dora", "dora", "8bit", 1, 1, 0 },
    { "adalora", "adalora", NULL, 1, 0, 0 },
    { "vera", "vera", NULL, 2, 0, 0 },
    { "prefix", "prefix", NULL, 1, 0, 0 },
};

static peft_trainer *start(size_t i, peft_model **m, peft_dataset **d)
{
    const char *method = cases[i].method;
    int head = method && !strcmp(method, "head");
    peft_train_opts o = { .size = sizeof(o), .batch = 2, .steps = 14, .lr = 0.01f, .seed = 5,
                          .accumulate = cases[i].accumulate, .packing = cases[i].packing,
                          .max_len = cases[i].packing ? 16 : 0,
                          .optimizer_states = cases[i].states };
    peft_adapter_opts a = { .size = sizeof(a), .method = method, .rank = 4,
                            .dropout = cases[i].dropout };
    peft_head_opts h = { .size = sizeof(h), .labels = 3, .names = kit_labels };
    peft_trainer *t = NULL;
    *m = load(base);
    if (head) OK(peft_head_add(*m, &h));
    if (head) OK(peft_freeze(*m, "model.*"));
    if (method && !head) OK(peft_adapter_add(*m, "default", &a));
    *d = data(*m, head ? label_file() : rows_file());
    OK(peft_trainer_new(*m, *d, &o, &t));
    if (!t) GIVE_UP();
    return t;
}

static void steps(peft_trainer *t, int n, peft_step *last)
{
    *last = (peft_step){ .size = sizeof(*last) };
    for (int i = 0; i < n; i++) OK(peft_train_step(t, last));
}

/* Files of the state and the position. */
static int same_checkpoint(const char *a, const char *b)
{
    int same = 1;
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "trainer.json" : "state.safetensors";
        struct bytes x = get(in("%s/%s", a, name)), y = get(in("%s/%s", b, name));
        same = same && x.n == y.n && !memcmp(x.at, y.at, x.n);
        free(x.at);
        free(y.at);
    }
    return same;
}

static void check_case(size_t i, int before)
{
    peft_model *m;
    peft_dataset *d;
    peft_trainer *t = start(i, &m, &d);
    peft_step first, again;
    steps(t, before, &first);
    REFUSED(peft_trainer_back(t), PEFT_ESTATE);
    OK(peft_trainer_keep(t));
    OK(peft_trainer_save(t, in("kept")));
    steps(t, 5, &first);
    OK(peft_trainer_save(t, in("later")));
    for (int k = 0; k < 2; k++) {
        OK(peft_trainer_back(t));
        OK(peft_trainer_save(t, in("back")));
        CHECK(same_checkpoint("kept", "back"));
        steps(t, 5, &again);
        CHECK(first.loss == again.loss && first.grad_norm == again.grad_norm);
        CHECK_EQ(first.step, again.step);
        CHECK_EQ(first.tokens_seen, again.tokens_seen);
        OK(peft_trainer_save(t, in("again")));
        CHECK(same_checkpoint("later", "again"));
    }
    OK(peft_trainer_keep(t));                      /* takes the first one's place */
    steps(t, 2, &again);
    OK(peft_trainer_back(t));
    OK(peft_trainer_save(t, in("back")));
    CHECK(same_checkpoint("later", "back"));
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

static void test_bits(void)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) check_case(i, i % 2 ? 3 : 0);
}

/* The card of what is saved after `back` is that of the kept step. */
static void test_card(void)
{
    peft_model *m;
    peft_dataset *d;
    peft_trainer *t = start(4, &m, &d);
    peft_step s;
    steps(t, 3, &s);
    OK(peft_trainer_keep(t));
    steps(t, 2, &s);
    OK(peft_trainer_back(t));
    OK(peft_adapter_save(m, "default", in("adapter")));
    struct bytes card = get(in("adapter/README.md"));
    CHECK(strstr(card.at, " rows, 3 steps"));
    free(card.at);
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

static void test_refused(void)
{
    peft_model *m;
    peft_dataset *d;
    peft_trainer *t = start(0, &m, &d);
    peft_step s = { .size = sizeof(s) };
    REFUSED(peft_trainer_keep(NULL), PEFT_EARG);
    REFUSED(peft_trainer_back(NULL), PEFT_EARG);
    OK(peft_trainer_keep(t));
    OK(peft_train_run_for(t, 0, &s));
    CHECK(s.more);
    REFUSED(peft_trainer_keep(t), PEFT_ESTATE);
    REFUSED(peft_trainer_back(t), PEFT_ESTATE);
    peft_trainer_cancel(t);
    CHECK_EQ(peft_train_step(t, &s), PEFT_ECANCELLED);
    OK(peft_trainer_back(t));
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
    t = start(0, &m, &d);
    kit_mem.fail_at = kit_mem.calls + 1;
    kit_mem.forever = 1;
    CHECK_EQ(peft_trainer_keep(t), PEFT_ENOMEM);
    kit_mem.fail_at = kit_mem.forever = 0;
    OK(peft_trainer_keep(t));
    peft_trainer_free(t);
    peft_dataset_free(d);
    peft_model_free(m);
}

int main(void)
{
    kit_begin();
    snprintf(base, sizeof(base), "%s", make_model("base", 1));
    RUN(test_bits);
    RUN(test_card);
    RUN(test_refused);
    CHECK_EQ(kit_mem.live, 0);
    kit_end();
    return TEST_END();
}
