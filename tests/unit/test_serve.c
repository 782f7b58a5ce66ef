/* Several adapters at work: answers of a batch against single ones, switching while
 * an answer is made, heads and embeddings by text, what an adapter costs. */
#include "kit.h"

enum { ADAPTERS = 6, ROOM = 600 };
static const char *const methods_used[ADAPTERS] = { "lora", "dora", "ia3", "lora", "vera", "oft" };
static const char *const named[ADAPTERS] = { "a0", "a1", "a2", "a3", "a4", "a5" };

static void stir(peft_model *model, float by)
{
    struct model *m = model_of(model);
    int64_t i = m->n_params;
    for (struct param *p; (p = model_nth_param(m, i)); i++)
        for (int64_t k = 0; k < param_len(p); k++)
            p->own[k] += by * rng_normal(11, (uint64_t)i, (uint64_t)k);
    m->edits++;
}

static void add(peft_model *m, const char *name, const char *method, int32_t rank)
{
    peft_adapter_opts o = { .size = sizeof(o), .method = method, .rank = rank, .seed = 5,
                            .settings = strcmp(method, "oft") ? NULL : "{\"oft_block_size\": 8}" };
    OK(peft_adapter_add(m, name, &o));
}

static peft_model *with_adapters(void)
{
    peft_model *m = load(make_model("m", 1));
    for (int i = 0; i < ADAPTERS; i++) {
        int none = !strcmp(methods_used[i], "ia3") || !strcmp(methods_used[i], "oft");
        add(m, named[i], methods_used[i], none ? 0 : 4);
    }
    stir(m, 0.3f);
    for (int i = 0; i < ADAPTERS; i++) OK(peft_adapter_disable(m, named[i]));
    return m;
}

struct heard { char text[ROOM]; size_t n; int32_t pieces; };

static int32_t hear(void *ctx, const char *piece, size_t n)
{
    struct heard *h = ctx;
    if (h->n + n < sizeof(h->text)) memcpy(h->text + h->n, piece, n);
    h->n += n;
    return ++h->pieces >= 1000;
}

/* --- answers at once are answers by themselves */

enum { ASKED = 14 };
static peft_message ask[ASKED];
static peft_generate_opts how[ASKED];
static struct heard alone[ASKED], together[ASKED];
static peft_generated one[ASKED], all[ASKED];
static peft_request asked[ASKED];

static void make_requests(void)
{
    static const char *const prompts[] = { "hello", "a", "user b c d e f g h i j", "so", "x y" };
    static const char *const stop[] = { "a", "e" };
    for (int i = 0; i < ASKED; i++) {
        ask[i] = (peft_message){ "user", prompts[i % 5] };
        one[i].size = all[i].size = sizeof(one[i]);
        how[i] = (peft_generate_opts){ .size = sizeof(how[i]), .max_tokens = 3 + i * 5 % 37,
                                       .on_text = hear, .raw = i % 2 };
        if (i % 4 == 1) how[i].temperature = 1, how[i].seed = (uint64_t)i;
        if (i % 4 == 2) how[i].repeat_penalty = 1.3f, how[i].stop = stop, how[i].n_stop = 2;
        if (i == 8) how[i].num_beams = 3;
        if (i == 12) how[i].max_tokens = 500;
        asked[i] = (peft_request){ .size = sizeof(asked[i]), .messages = &ask[i], .n = 1,
                                   .adapter = i % 8 < ADAPTERS ? named[i % 8]
                                              : i % 8 == 6 ? PEFT_BASE : NULL,
                                   .opts = &how[i], .out = &all[i] };
    }
}

static void check_answers(int32_t batch, peft_model *m)
{
    for (int i = 0; i < ASKED; i++) {
        together[i] = (struct heard){ .n = 0 };
        how[i].ctx = &together[i];
    }
    OK(peft_generate_batch(m, asked, ASKED, batch));
    for (int i = 0; i < ASKED; i++) {
        CHECK_EQ(together[i].n, alone[i].n);
        CHECK(!memcmp(together[i].text, alone[i].text, alone[i].n));
        CHECK_EQ(all[i].tokens, one[i].tokens);
        CHECK_EQ(all[i].prompt_tokens, one[i].prompt_tokens);
        CHECK_EQ(all[i].reason, one[i].reason);
        CHECK(all[i].seconds >= all[i].prompt_seconds);
    }
}

static void test_batch(void)
{
    peft_model *m = with_adapters();
    make_requests();
    for (int i = 0; i < ASKED; i++) {
        const char *own = asked[i].adapter ? asked[i].adapter : "a3";
        alone[i] = (struct heard){ .n = 0 };
        how[i].ctx = &alone[i];
        if (*own) OK(peft_adapter_enable(m, own));
        OK(peft_generate(m, &ask[i], 1, &how[i], &one[i]));
        if (*own) OK(peft_adapter_disable(m, own));
    }
    CHECK(one[12].reason == PEFT_STOP_CONTEXT || one[12].reason == PEFT_STOP_EOS);
    OK(peft_adapter_enable(m, "a3"));
    check_answers(1, m);
    check_answers(3, m);
    check_answers(0, m);

    int32_t ids[] = { 5, 9, 40 }, to[2][8] = { { 0 } };
    how[0] = (peft_generate_opts){ .size = sizeof(how[0]), .max_tokens = 8 };
    peft_request by_ids = { .size = sizeof(by_ids), .ids = ids, .n = 3, .to = to[0], .cap = 8,
                            .opts = &how[0], .out = &all[0] };
    OK(peft_generate_batch(m, &by_ids, 1, 0));
    CHECK_EQ(peft_generate_ids(m, ids, 3, &how[0], to[1], 8, NULL), all[0].tokens);
    CHECK(!memcmp(to[0], to[1], sizeof(to[0])));
    peft_model_free(m);
}

/* --- a switch between two tokens: what is in the cache stays */

static struct { peft_model *m; const peft_generated *out; int32_t on_at, off_at, calls; } plot;

static int32_t change(void *ctx, const char *piece, size_t n)
{
    float z[4 * VOCAB];
    const int32_t ids[] = { 3, 4, 5, 6 };
    hear(ctx, piece, n);
    OK(peft_forward(plot.m, ids, 4, z));
    if (!plot.on_at && plot.out->tokens >= 4) {
        OK(peft_adapter_enable(plot.m, "a1"));
        plot.on_at = plot.out->tokens;
    } else if (plot.on_at && !plot.off_at && plot.out->tokens >= 9) {
        OK(peft_adapter_disable(plot.m, "a1"));
        OK(peft_adapter_remove(plot.m, "a0"));
        add(plot.m, "new", "lora", 2);
        OK(peft_adapter_enable(plot.m, "a2"));
        plot.off_at = plot.out->tokens;
    }
    return 0;
}

/* Greedy tokens by hand, each with the adapters of its time. */
static void by_hand(struct ids *to, peft_model *model, const int32_t *prompt, int64_t n)
{
    struct model *m = model_of(model);
    struct kv_cache cache[LAYERS];
    static float memory[LAYERS][2][LEN * 8];
    int32_t pos[LEN], past = 0, first_row = 0;
    for (int l = 0; l < LAYERS; l++) cache[l] = (struct kv_cache){ memory[l][0], memory[l][1] };
    for (int32_t i = 0; i < LEN; i++) pos[i] = i;
    for (int64_t step = 0, done = n; step < 16; step++, n = 1) {
        int32_t start[] = { 0, (int32_t)n }, best = 0;
        const int32_t *ids = step ? &to->v[step - 1] : prompt;
        struct pass p = { .m = m, .g = m->graph, .mem = m->mem, .n = n, .n_seq = 1, .ids = ids,
                          .pos = pos + past, .start = start, .cache = cache, .room = LEN,
                          .first_row = &first_row, .past = &past };
        if (step == plot.on_at) OK(peft_adapter_enable(model, "a1"));
        if (step == plot.off_at) {
            OK(peft_adapter_disable(model, "a1"));
            OK(peft_adapter_remove(model, "a0"));
            OK(peft_adapter_enable(model, "a2"));
        }
        OK(pass_begin(&p));
        struct tensor *z = model_logits(&p, model_pool(&p, model_hidden(&p), POOL_LAST));
        graph_keep(z);
        OK(graph_forward(p.g));
        for (int32_t i = 1; i < VOCAB; i++)
            if (tensor_f32(z)[i] > tensor_f32(z)[best]) best = i;
        ids_push(to, best);
        past = (int32_t)(done + step);
    }
}

static void test_switch(void)
{
    const int32_t prompt[] = { 5, 9, 40, 17 };
    peft_model *m = with_adapters(), *same = with_adapters();
    struct heard h = { .n = 0 };
    peft_generated out = { .size = sizeof(out) };
    peft_generate_opts o = { .size = sizeof(o), .max_tokens = 16, .on_text = change, .ctx = &h };
    struct gen_request r = { prompt, 4, &o, NULL, &out, NULL };
    struct ids ids;
    struct buf piece, text;
    OK(peft_adapter_enable(m, "a0"));
    OK(peft_adapter_enable(same, "a0"));
    plot.m = m;
    plot.out = &out;
    plot.on_at = plot.off_at = 0;
    OK(model_generate(model_of(m), &r));
    CHECK(plot.on_at > 0 && plot.off_at > plot.on_at);
    OK(model_graph(model_of(same)));
    OK(rope_reserve(model_of(same), LEN));
    ids_init(&ids, &model_of(same)->host.mem);
    buf_init(&piece, &model_of(same)->host.mem);
    buf_init(&text, &model_of(same)->host.mem);
    by_hand(&ids, same, prompt, 4);
    for (int32_t i = 0; i < out.tokens; i++) OK(tok_piece(model_of(same)->tok, ids.v[i], &piece));
    uni_append_lossy(&text, piece.data, piece.n);
    CHECK_EQ(text.n, (int64_t)h.n);
    CHECK(!memcmp(text.data, h.text, h.n));
    buf_free(&text);
    buf_free(&piece);
    ids_free(&ids);
    peft_model_free(m);
    peft_model_free(same);
}

/* Virtual tokens are in the cache from the beginning of an answer to its end. */
static int32_t tokens_off(void *ctx, const char *piece, size_t n)
{
    (void)piece;
    (void)n;
    OK(peft_adapter_disable(ctx, "v"));
    return 0;
}

static void test_virtual(void)
{
    static const char *const kinds[] = { "prompt", "prefix" };
    const int32_t prompt[] = { 5, 9, 40, 17 };
    peft_model *m = with_adapters();
    for (int k = 0; k < 2; k++) {
        peft_adapter_opts a = { .size = sizeof(a), .method = kinds[k], .rank = 3 };
        peft_generate_opts o = { .size = sizeof(o), .max_tokens = 16, .on_text = tokens_off,
                                 .ctx = m };
        peft_generated out = { .size = sizeof(out) };
        struct gen_request r = { prompt, 4, &o, NULL, &out, NULL };
        OK(peft_adapter_add(m, "v", &a));
        REFUSED(model_generate(model_of(m), &r), PEFT_ESTATE);
        OK(peft_adapter_enable(m, "v"));
        REFUSED(model_serve(model_of(m), &r, 1, 2), PEFT_ESTATE);
        OK(peft_adapter_remove(m, "v"));
    }
    peft_model_free(m);
}

/* What a request names stays until its answer is there. */
static int32_t meddle(void *ctx, const char *piece, size_t n)
{
    peft_model *m = plot.m;
    (void)piece;
    (void)n;
    if (plot.calls++) return 0;
    REFUSED(peft_adapter_remove(m, ctx), PEFT_ESTATE);
    REFUSED(peft_adapter_merge(m, ctx), PEFT_ESTATE);
    REFUSED(peft_adapter_set_merged(m, ctx, 1), PEFT_ESTATE);
    OK(peft_adapter_remove(m, "a5"));
    OK(peft_adapter_enable(m, "a2"));
    return 0;
}

static void test_held(void)
{
    peft_model *m = with_adapters();
    make_requests();
    for (int i = 0; i < 2; i++) {
        how[i] = (peft_generate_opts){ .size = sizeof(how[i]), .max_tokens = 12, .raw = 1,
                                       .on_text = i ? hear : meddle,
                                       .ctx = i ? (void *)&together[i] : (void *)"a0" };
        together[i] = (struct heard){ .n = 0 };
        asked[i].adapter = "a0";
    }
    plot.m = m;
    plot.calls = 0;
    OK(peft_generate_batch(m, asked, 2, 0));
    CHECK(plot.calls > 0);
    OK(peft_adapter_remove(m, "a0"));
    how[0].on_text = hear;
    asked[0].adapter = "a0";
    REFUSED(peft_generate_batch(m, asked, 1, 0), PEFT_ENOTFOUND);
    asked[0].adapter = NULL;
    asked[1].adapter = NULL;
    asked[1].size--;
    REFUSED(peft_generate_batch(m, asked, 2, 0), PEFT_EARG);
    asked[1].size = sizeof(asked[1]);
    asked[1].n = 0;
    REFUSED(peft_generate_batch(m, asked, 2, 0), PEFT_EARG);
    REFUSED(peft_generate_batch(m, asked, 0, 0), PEFT_EARG);
    REFUSED(peft_generate_batch(m, asked, 1, -1), PEFT_EARG);
    peft_model_free(m);
}

/* --- texts of heads and embeddings */

static void test_texts(void)
{
    static const char *const texts[] = { "hello", "b c", "user", "a", "hello user", "x" };
    static const char *const who[] = { "a1", PEFT_BASE, "a0", "a1", NULL, "a2" };
    float scores[6 * 3], single[3], vectors[6 * DIM], vector[DIM];
    int32_t labels[6], label;
    peft_model *m = load(make_model("m", 1));
    peft_head_opts head = { .size = sizeof(head), .labels = 3 };
    OK(peft_head_add(m, &head));
    for (int i = 0; i < 3; i++) add(m, named[i], methods_used[i], i == 2 ? 0 : 4);
    stir(m, 0.3f);
    for (struct adapter *a = model_of(m)->adapters; a; a = a->next)
        for (int64_t k = 0; k < a->n_saved; k++)
            rng_fill_normal(a->saved[k].mine, param_len(a->saved[k].p), 0.5f, 1,
                            (uint64_t)a->name[1]);
    for (int i = 0; i < 3; i++) OK(peft_adapter_disable(m, named[i]));
    peft_classify_opts c = { .size = sizeof(c), .adapters = who, .batch = 4 };
    peft_embed_opts e = { .size = sizeof(e), .adapters = who, .batch = 4 };
    OK(peft_classify(m, texts, 6, &c, scores, labels));
    OK(peft_embed_text(m, texts, 6, &e, vectors));
    for (int i = 0; i < 6; i++) {
        int on = who[i] && *who[i];
        if (on) OK(peft_adapter_enable(m, who[i]));
        OK(peft_classify(m, &texts[i], 1, NULL, single, &label));
        OK(peft_embed_text(m, &texts[i], 1, NULL, vector));
        if (on) OK(peft_adapter_disable(m, who[i]));
        for (int k = 0; k < 3; k++) CHECK_NEAR(scores[3 * i + k], single[k], 1e-5);
        for (int k = 0; k < DIM; k++) CHECK_NEAR(vectors[DIM * i + k], vector[k], 1e-5);
        CHECK_EQ(labels[i], label);
    }
    /* The states between: the last are the output, and adapters change the others too. */
    int32_t layers = info_of(m).layers;
    float deep[6 * 2 * DIM], own[2 * DIM], moved = 0;
    peft_embed_opts d = { .size = sizeof(d), .depths = 2 };
    e.depths = 2;
    OK(peft_embed_text(m, texts, 6, &e, deep));
    for (int i = 0; i < 6; i++) {
        OK(peft_embed_text(m, &texts[i], 1, &d, own));
        for (int k = 0; k < DIM; k++) {
            CHECK_NEAR(deep[(2 * i + 1) * DIM + k], vectors[i * DIM + k], 1e-5);
            CHECK(i != 1 || fabsf(deep[2 * i * DIM + k] - own[k]) < 1e-5f);
            moved += i ? 0 : fabsf(deep[k] - own[k]);
        }
    }
    CHECK(moved > 1e-3f);
    d.depths = layers + 1;
    REFUSED(peft_embed_text(m, texts, 1, &d, own), PEFT_EARG);
    d.depths = -1;
    REFUSED(peft_embed_text(m, texts, 1, &d, own), PEFT_EARG);
    c.adapters = (const char *const[]){ "a1", "none" };
    REFUSED(peft_classify(m, texts, 2, &c, scores, NULL), PEFT_ENOTFOUND);
    peft_model_free(m);
}

/* --- what cannot be mixed is said */

static void test_refused(void)
{
    const int32_t ids[] = { 3, 4, 5, 6 }, lengths[] = { 2, 2 };
    float z[4 * VOCAB];
    peft_model *m = load(make_model("m", 0));
    add(m, "dora", "dora", 2);
    add(m, "lora", "lora", 2);
    peft_adapter_opts o = { .size = sizeof(o), .targets = "v_proj", .modules_to_save = "q_proj" };
    OK(peft_adapter_disable(m, "dora"));
    OK(peft_adapter_set_merged(m, "lora", 1));
    REFUSED(peft_forward_batch(m, ids, lengths, 2, (const char *[]){ "lora", NULL }, z),
            PEFT_EUNSUPPORTED);
    OK(peft_forward_batch(m, ids, lengths, 2, NULL, z));
    OK(peft_adapter_set_merged(m, "lora", 0));
    OK(peft_adapter_add(m, "copy", &o));
    REFUSED(peft_forward_batch(m, ids, lengths, 2, (const char *[]){ "dora", "lora" }, z),
            PEFT_EUNSUPPORTED);
    OK(peft_adapter_disable(m, "copy"));
    OK(peft_forward_batch(m, ids, lengths, 2, (const char *[]){ "dora", "copy" }, z));
    REFUSED(peft_forward_batch(m, ids, (const int32_t[]){ 4, 0 }, 2, NULL, z), PEFT_EARG);
    REFUSED(peft_forward_batch(m, ids, (const int32_t[]){ 2, LEN + 1 }, 2, NULL, z), PEFT_EARG);
    peft_model_free(m);
}

/* --- one model, a hundred adapters */

enum { MANY = 100 };

static void test_many(void)
{
    static float mixed[MANY * 3 * VOCAB], single[3 * VOCAB];
    static char names[MANY][16];
    const char *who[MANY];
    int32_t ids[MANY * 3], lengths[MANY];
    peft_model *m = load(make_model("m", 0));
    for (int i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof(names[i]), "n%d", i);
        add(m, names[i], "lora", 2);
        OK(peft_adapter_disable(m, names[i]));
        lengths[i] = 3;
        for (int k = 0; k < 3; k++) ids[3 * i + k] = (i * 3 + k * 7) % VOCAB;
    }
    stir(m, 0.3f);
    for (int i = 0; i < MANY; i++) who[i] = names[(i * 37) % MANY];
    OK(peft_forward_batch(m, ids, lengths, MANY, who, mixed));
    for (int i = 0; i < MANY; i += 9) {
        OK(peft_adapter_enable(m, who[i]));
        OK(peft_forward(m, ids + 3 * i, 3, single));
        OK(peft_adapter_disable(m, who[i]));
        for (int k = 0; k < 3 * VOCAB; k++)
            CHECK_NEAR(mixed[i * 3 * VOCAB + k], single[k], 1e-5);
    }
    peft_model_free(m);
}

static void test_memory(void)
{
    static const char *const kinds[] = { "lora", "dora", "loha" };
    peft_model *m = load(make_model("m", 0));
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        int64_t before = kit_mem.live, bytes = 0;
        add(m, "first", kinds[k], 512);
        add(m, "second", kinds[k], 512);
        int64_t both = kit_mem.live - before;
        struct param *p;
        for (int64_t i = model_of(m)->n_params; (p = model_nth_param(model_of(m), i)); i++)
            bytes += param_bytes(p);
        CHECK(both >= bytes && both <= bytes + bytes / 20 + 2 * (80 << 10));
        OK(peft_adapter_save(m, "first", in("saved")));
        OK(peft_adapter_remove(m, "first"));
        OK(peft_adapter_remove(m, "second"));
        CHECK_EQ(kit_mem.live, before);
        OK(peft_adapter_load(m, "loaded", in("saved")));
        CHECK(kit_mem.live - before <= both / 2 + 4096);
        OK(peft_adapter_remove(m, "loaded"));
        CHECK_EQ(kit_mem.live, before);
        REFUSED(peft_adapter_add(m, "x", &(peft_adapter_opts){ .size = sizeof(peft_adapter_opts),
                                                               .targets = "nothing" }),
                PEFT_ENOTFOUND);
        CHECK_EQ(kit_mem.live, before);
    }
    peft_model_free(m);
    CHECK_EQ(kit_mem.live, 0);
}

/* Switching one adapter leaves what another derived from the weights. */
static void test_derived(void)
{
    const int32_t ids[] = { 3, 4 };
    float z[2 * VOCAB];
    peft_model *m = load(make_model("m", 0));
    add(m, "dora", "dora", 2);
    add(m, "lora", "lora", 2);
    struct adapter *dora = adapter_find(model_of(m), "dora");
    OK(peft_forward(m, ids, 2, z));
    CHECK_EQ(dora->sites[0].derived_at, model_of(m)->edits);
    OK(peft_adapter_disable(m, "dora"));
    OK(peft_adapter_disable(m, "lora"));
    OK(peft_adapter_set_weight(m, "lora", 0.5f));
    OK(peft_adapter_enable(m, "dora"));
    CHECK_EQ(dora->sites[0].derived_at, model_of(m)->edits);
    OK(peft_adapter_set_weight(m, "dora", 0.5f));
    CHECK(dora->sites[0].derived_at != model_of(m)->edits);
    OK(peft_forward(m, ids, 2, z));
    OK(peft_adapter_merge(m, "lora"));
    CHECK(dora->sites[0].derived_at != model_of(m)->edits);
    peft_model_free(m);
}

int main(void)
{
    kit_begin();
    RUN(test_batch);
    RUN(test_switch);
    RUN(test_virtual);
    RUN(test_held);
    RUN(test_texts);
    RUN(test_refused);
    RUN(test_many);
    RUN(test_memory);
    RUN(test_derived);
    kit_end();
    return TEST_END();
}
