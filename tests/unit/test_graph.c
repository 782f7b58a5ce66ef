/* The graph as a whole, on a small transformer with adapters: plans that keep
 * apart what lives at once, equal bits for every policy, number of threads and
 * way of slicing, no cost for what is frozen, no allocation when repeating,
 * and errors that stick. */
#include "unit/graph_check.h"

enum { N = 24, D = 32, HEADS = 4, KV = 2, DIM = 8, FF = 48, RANK = 4, V = 50, LAYERS = 4 };

/* What is trained: adapters from layer `first` on, and everything else if `all`. */
struct net_opts { int first, all, layers, n; float dropout; };
struct net {
    struct rig *rig;
    struct net_opts o;
    float *data, *grads;                 /* of all leaves, one behind the other */
    int64_t used, cap;
    int32_t *ids, *target, *pos, *lo, *hi, *rows;
    float *table;
    struct loss_stats stats;
};

static void net_open(struct net *net, struct rig *rig, struct net_opts o)
{
    *net = (struct net){ .rig = rig, .o = o, .cap = 16384 * (int64_t)(o.layers + 1) };
    struct arena *a = &rig->arena;
    net->data = arena_alloc(a, net->cap * 4);
    net->grads = arena_alloc(a, net->cap * 4);
    rng_fill_normal(net->data, net->cap, 0.2f, 3, 1);
    net->table = numbers(a, (int64_t)o.n * DIM, 2);
    int32_t **arrays[] = { &net->ids, &net->target, &net->pos, &net->lo, &net->hi, &net->rows };
    for (size_t i = 0; i < ARRAY_LEN(arrays); i++) *arrays[i] = arena_alloc(a, o.n * 4);
    for (int32_t i = 0; i < o.n; i++) {
        net->ids[i] = i * 7 % V;
        net->target[i] = i * 11 % V;
        net->pos[i] = i % (o.n / 2);
        net->lo[i] = i / (o.n / 2) * (o.n / 2);      /* two sequences */
        net->hi[i] = i + 1;
        net->rows[i] = i;
    }
}

static tensor *net_leaf(struct net *net, const char *name, int64_t rows, int64_t cols, int trains)
{
    int64_t at = net->used;
    net->used += rows * cols;
    CHECK(net->used <= net->cap);
    if (net->used > net->cap) return NULL;
    return graph_leaf(net->rig->g, name, &qtype_f32, rows, cols, net->data + at,
                      trains ? net->grads + at : NULL);
}

static tensor *net_linear(struct net *net, int layer, tensor *x, int64_t out)
{
    graph *g = net->rig->g;
    int64_t in = x ? x->cols : D;
    int trains = layer >= net->o.first;
    tensor *w = net_leaf(net, "w", out, in, net->o.all);
    tensor *a = net_leaf(net, "lora_a", RANK, in, trains);
    tensor *b = net_leaf(net, "lora_b", out, RANK, trains);
    tensor *d = g_dropout(g, x, net->o.dropout, 5, (uint64_t)net->used);
    return g_linear_add(g, g_linear(g, x, w), g_linear(g, d, a), b, 2.0f);
}

static tensor *net_norm(struct net *net, tensor *x)
{
    return g_rmsnorm(net->rig->g, x, net_leaf(net, "norm", 1, D, net->o.all), 1e-5f, 1.0f);
}

static tensor *net_block(struct net *net, int layer, tensor *x)
{
    graph *g = net->rig->g;
    int32_t n = net->o.n;
    struct rope_args rq = { net->table, net->pos, HEADS, DIM, DIM, 0 }, rk = rq;
    struct attn a = { .nq = n, .nk = n, .heads = HEADS, .kv_heads = KV, .head_dim = DIM,
                      .scale = 0.35f, .lo = net->lo, .hi = net->hi };
    rk.heads = KV;
    tensor *h = net_norm(net, x);
    tensor *q = g_rope(g, net_linear(net, layer, h, HEADS * DIM), &rq);
    tensor *k = net_linear(net, layer, h, KV * DIM);
    k = g_reshape(g, g_scale(g, g_reshape(g, k, n * KV, DIM), 1.5f), n, KV * DIM);
    k = g_rope(g, k, &rk);
    tensor *v = net_linear(net, layer, h, KV * DIM);
    x = g_add(g, x, net_linear(net, layer, g_attention(g, q, k, v, NULL, &a), D));
    h = net_norm(net, x);
    tensor *gate = net_linear(net, layer, h, FF), *up = net_linear(net, layer, h, FF);
    return g_add(g, x, net_linear(net, layer, g_glu(g, gate, up, ACT_SILU), D));
}

static tensor *net_build(struct net *net)
{
    graph *g = net->rig->g;
    graph_reset(g);
    net->used = 0;
    memset(net->grads, 0, (size_t)net->cap * 4);
    tensor *x = g_embed(g, net_leaf(net, "embed", V, D, net->o.all), net->ids, net->o.n);
    for (int i = 0; i < net->o.layers; i++) {
        graph_segment(g, i);
        x = net_block(net, i, x);
    }
    graph_segment(g, -1);
    x = net_norm(net, x);
    return g_xent_head(g, x, net_leaf(net, "head", V, D, net->o.all), NULL, net->rows,
                       net->target, net->o.n, 0.05f, &net->stats);
}

/* Builds and plans; the report. */
static struct plan_report net_plan(struct net *net, enum recompute policy)
{
    struct plan_report report = { 0 };
    CHECK_EQ(graph_plan(net->rig->g, net_build(net), policy, &report), 0);
    CHECK_EQ(graph_reserve(net->rig->g, 0, 0), 0);
    return report;
}

static struct plan_report net_run(struct net *net, enum recompute policy)
{
    struct plan_report report = net_plan(net, policy);
    graph_start(net->rig->g);
    CHECK_EQ(graph_run(net->rig->g, 0, NULL), 1);
    return report;
}

static int same_gradients(const struct net *a, const struct net *b)
{
    return a->used == b->used && !memcmp(a->grads, b->grads, (size_t)a->used * 4);
}

static const struct net_opts all_opts[] = {
    { 0, 1, LAYERS, N, 0.0f }, { 0, 0, LAYERS, N, 0.1f }, { 2, 0, LAYERS, N, 0.1f },
    { 0, 1, LAYERS, N, 0.2f },
};

/* The more is recomputed, the less memory. */
static void test_policies(void)
{
    static const enum recompute policies[] = { RECOMPUTE_NONE, RECOMPUTE_CHEAP,
                                               (enum recompute)1, (enum recompute)2,
                                               RECOMPUTE_LAYERS };
    enum { POLICIES = ARRAY_LEN(policies) };
    for (size_t i = 0; i < ARRAY_LEN(all_opts); i++) {
        struct rig r;
        struct net a, b;
        struct plan_report report[POLICIES];
        rig_open(&r, 2);
        net_open(&a, &r, all_opts[i]);
        net_open(&b, &r, all_opts[i]);
        report[0] = net_run(&a, RECOMPUTE_NONE);
        for (int k = 0; k < POLICIES; k++) {
            report[k] = net_plan(&b, policies[k]);
            run_watched(r.g);
            CHECK(same_gradients(&a, &b));
            CHECK_EQ(report[k].replayed > 0, k > 0);
            CHECK_EQ(report[k].backward_nodes, report[0].backward_nodes);
            CHECK(report[k].flops >= report[MAX(k, 1) - 1].flops);
            /* But for what lies between the values. */
            CHECK(!k || report[k].slab <= report[k - 1].slab + report[k - 1].slab / 64);
        }
        CHECK(report[1].slab < report[0].slab);
        CHECK(report[POLICIES - 1].slab < report[1].slab);
        rig_close(&r);
    }
}

static void test_threads(void)
{
    static const int threads[] = { 1, 2, 3, 8 };
    struct rig first, r;
    struct net a, b;
    rig_open(&first, 1);
    net_open(&a, &first, all_opts[3]);
    net_run(&a, RECOMPUTE_CHEAP);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        rig_open(&r, threads[i]);
        net_open(&b, &r, all_opts[3]);
        net_run(&b, RECOMPUTE_CHEAP);
        CHECK(same_gradients(&a, &b));
        CHECK(a.stats.loss == b.stats.loss);
        rig_close(&r);
    }
    rig_close(&first);
}

static void test_slices(void)
{
    struct rig r;
    struct net a, b;
    rig_open(&r, 2);
    net_open(&a, &r, all_opts[1]);
    net_open(&b, &r, all_opts[1]);
    net_run(&a, RECOMPUTE_LAYERS);
    struct plan_report report = net_plan(&b, RECOMPUTE_LAYERS);
    graph_start(r.g);
    int32_t calls = 1, chained = 0;
    while (!graph_run(r.g, 1e-9, NULL)) calls++;
    CHECK(same_gradients(&a, &b));
    for (int64_t e = 0; e < r.g->plan.n_events; e++) chained += r.g->plan.event[e].chain < e;
    /* The head alone has four steps. */
    CHECK(chained > 0);
    CHECK_EQ(calls, report.nodes + report.backward_nodes + report.replayed - chained + 3);
    /* The stop flag, set from the beginning, lets nothing run. */
    _Atomic int stop = 1;
    net_plan(&b, RECOMPUTE_LAYERS);
    graph_start(r.g);
    CHECK_EQ(graph_run(r.g, 0, &stop), 0);
    CHECK_EQ(r.g->at, 0);
    stop = 0;
    CHECK_EQ(graph_run(r.g, 0, &stop), 1);
    CHECK(same_gradients(&a, &b));
    rig_close(&r);
}

/* --- chains of row-wise ops, and gradients that several sums share */

/* From now on the planned events run one at a time. */
static int unchain(struct graph *g)
{
    int chained = 0;
    for (int32_t e = 0; e < g->plan.n_events; e++) {
        chained += g->plan.event[e].chain < e;
        g->plan.event[e].chain = e;
    }
    return chained;
}

static void test_chained_net(void)
{
    for (size_t i = 0; i < ARRAY_LEN(all_opts); i++) {
        for (int policy = 0; policy < 3; policy++) {
            struct rig r;
            struct net a, b;
            rig_open(&r, 2);
            net_open(&a, &r, all_opts[i]);
            net_open(&b, &r, all_opts[i]);
            net_run(&a, (enum recompute)policy);
            net_plan(&b, (enum recompute)policy);
            /* Each layer has its sum and the next norm, and k's scale before its rope. */
            CHECK(unchain(r.g) >= 3 * LAYERS);
            graph_start(r.g);
            CHECK_EQ(graph_run(r.g, 0, NULL), 1);
            CHECK(same_gradients(&a, &b));
            CHECK(a.stats.loss == b.stats.loss);
            rig_close(&r);
        }
    }
}

/* What blocks are made of: x = norm(x + norm(bias(d))), heads normed and turned. */
static tensor *row_block(graph *g, tensor *x, tensor *d, tensor *const w[3], int which,
                         const struct rope_args *rope)
{
    int64_t rows = x->rows, cols = x->cols, dim = rope->head_dim;
    if (which == 0) return g_rmsnorm(g, g_add(g, x, g_turn(g, g_turn(g, d))), w[0], 1e-5f, 1);
    if (which == 1) {
        d = g_layernorm(g, g_bias(g, g_turn(g, g_turn(g, d)), w[0]), w[1], w[0], 1e-5f);
        return g_layernorm(g, g_add(g, x, d), NULL, NULL, 1e-5f);
    }
    if (which == 2) {
        d = g_reshape(g, g_bias(g, g_turn(g, g_turn(g, d)), w[0]), rows * cols / dim, dim);
        return g_rope(g, g_reshape(g, g_rmsnorm(g, d, w[2], 1e-5f, 0), rows, cols), rope);
    }
    d = g_slice_cols(g, g_concat_cols(g, g_turn(g, g_turn(g, d)), x), cols / 2, cols);
    return g_mul(g, g_glu(g, d, g_act(g, g_scale(g, d, 0.5f), ACT_GELU), ACT_SILU), w[1]);
}

/* The same bits as each op by itself, for any number of rows and threads. */
static void test_chained_rows(void)
{
    enum { DIMS = 16, WIDTH = 48, BLOCKS = 4, KINDS = 4 };
    static const int all_rows[] = { 1, 7, 37, 700 }, length[] = { 1, 3, 4, 5 };
    for (int i = 0; i < (int)ARRAY_LEN(all_rows) * KINDS; i++) {
        struct rig r;
        int rows = all_rows[i / KINDS], which = i % KINDS;
        rig_open(&r, 1 + i % 3);
        float *x = numbers(&r.arena, rows * WIDTH, 1), *w = numbers(&r.arena, WIDTH, 2);
        float *was = arena_alloc(&r.arena, rows * WIDTH * 4);
        int32_t *pos = arena_alloc(&r.arena, rows * 4);
        struct rope_args rope = { numbers(&r.arena, DIMS, 3), pos, WIDTH / DIMS, DIMS, DIMS, 0 };
        tensor *t = graph_leaf(r.g, "x", &qtype_f32, rows, WIDTH, x, NULL), *h = t;
        tensor *v[3] = { graph_leaf(r.g, "w", &qtype_f32, 1, WIDTH, w, NULL),
                         graph_leaf(r.g, "u", &qtype_f32, 1, WIDTH, w, NULL),
                         graph_leaf(r.g, "v", &qtype_f32, 1, DIMS, w, NULL) };
        for (int k = 0; k < BLOCKS; k++) h = row_block(r.g, k ? h : t, t, v, which, &rope);
        CHECK_EQ(graph_plan(r.g, NULL, RECOMPUTE_NONE, NULL), 0);
        CHECK_EQ(graph_reserve(r.g, 0, 0), 0);
        run_watched(r.g);
        memcpy(was, h->x, (size_t)(rows * WIDTH) * 4);
        CHECK_EQ(unchain(r.g), (which == 2 ? 1 : BLOCKS) * length[which]);
        run_watched(r.g);
        CHECK(!memcmp(was, h->x, (size_t)(rows * WIDTH) * 4));
        rig_close(&r);
    }
}

/* A graph of sums and what lies between them, drawn by `seed`.  apart: each operand of a sum
 * is a copy, which has no gradient in common with it. */
static tensor *draw_sums(struct rig *r, uint64_t seed, int apart, float *x, float *w, float *grads)
{
    enum { ROWS = 5, COLS = 16, LEAVES = 3, NODES = 14 };
    graph *g = r->g;
    tensor *at[LEAVES + NODES], *loss = NULL;
    uint8_t read[LEAVES + NODES] = { 0 };
    graph_reset(g);
    tensor *v = graph_leaf(g, "w", &qtype_f32, 1, COLS, w, NULL);
    tensor *m = graph_leaf(g, "m", &qtype_f32, COLS, COLS, w, NULL);
    memset(grads, 0, LEAVES * ROWS * COLS * 4);
    for (int i = 0; i < LEAVES; i++)
        at[i] = graph_leaf(g, "x", &qtype_f32, ROWS, COLS, x + i * ROWS * COLS,
                           grads + i * ROWS * COLS);
    for (int i = LEAVES; i < LEAVES + NODES; i++) {
        uint32_t draw = rng_u32(seed, 1, (uint64_t)i), near = (uint32_t)MIN(i, 5);
        int one = i - 1 - (int)(draw / 16 % near), two = i - 1 - (int)(draw / 256 % near);
        tensor *a = at[one], *b = at[two];
        read[one] = 1;
        switch (draw % 8) {
        case 0: at[i] = g_bias(g, a, v); break;
        case 1: at[i] = g_rmsnorm(g, a, v, 1e-5f, 0); break;
        case 2: at[i] = g_linear(g, a, m); break;
        case 3: at[i] = g_scale(g, g_reshape(g, a, COLS, ROWS), 0.7f);
                at[i] = g_reshape(g, at[i], ROWS, COLS); break;
        default:
            if (apart) a = g_scale(g, a, 1), b = g_scale(g, b, 1);
            at[i] = g_add(g, a, b);
            read[two] = 1;
        }
    }
    for (int i = 0; i < LEAVES + NODES; i++) {
        if (read[i]) continue;
        tensor *one = g_dot(g, at[i], w + i, NULL);
        loss = loss ? g_add(g, loss, one) : one;
    }
    return loss;
}

static void test_shared_gradients(void)
{
    enum { GRADS = 3 * 5 * 16 };
    struct rig r;
    int64_t shared = 0;
    rig_open(&r, 1);
    float *x = numbers(&r.arena, GRADS, 1), *w = numbers(&r.arena, 512, 2);
    float *grads[2] = { arena_alloc(&r.arena, GRADS * 4), arena_alloc(&r.arena, GRADS * 4) };
    for (uint64_t seed = 0; seed < 400; seed++) {
        for (int apart = 0; apart < 2; apart++) {
            tensor *loss = draw_sums(&r, seed, apart, x, w, grads[apart]);
            CHECK_EQ(graph_plan(r.g, loss, RECOMPUTE_NONE, NULL), 0);
            CHECK_EQ(graph_reserve(r.g, 0, 0), 0);
            run_watched(r.g);
            for (int64_t i = 0; i < r.g->n && !apart; i++) {
                const struct tensor *t = r.g->node[i];
                shared += t->op == &op_add && tensor_len(t) > 1 && t->g == t->in[0]->g &&
                          t->g == t->in[1]->g;
            }
        }
        CHECK(!memcmp(grads[0], grads[1], GRADS * 4));
    }
    CHECK(shared > 100);
    rig_close(&r);
}

/* Freezing costs nothing: neither backward nodes nor memory. */
static void test_frozen(void)
{
    struct rig r;
    rig_open(&r, 1);
    enum { ROWS = 64, WIDE = 256 };
    float *w = numbers(&r.arena, WIDE * WIDE, 1), *x = numbers(&r.arena, ROWS * WIDE, 2);
    float *gw = arena_alloc(&r.arena, WIDE * WIDE * 4);
    float *one = numbers(&r.arena, ROWS * WIDE, 3);
    struct plan_report report[2];
    for (int all = 0; all < 2; all++) {
        graph_reset(r.g);
        tensor *t = graph_leaf(r.g, "x", &qtype_f32, ROWS, WIDE, x, NULL);
        for (int i = 0; i < 8; i++) {
            int trains = all || i == 5;
            t = g_linear(r.g, t, graph_leaf(r.g, "w", &qtype_f32, WIDE, WIDE, w,
                                            trains ? gw : NULL));
        }
        CHECK_EQ(graph_plan(r.g, g_dot(r.g, t, one, NULL), RECOMPUTE_NONE, &report[all]), 0);
    }
    /* Trained layer 5: the loss, layers 7, 6 and 5 go back; only 5's operand
     * is kept, so three matrices live at once (it, and an operand and a value
     * going forward or two gradients going back). */
    int64_t matrix = ROWS * WIDE * 4;
    CHECK_EQ(report[0].backward_nodes, 4);
    CHECK(report[0].slab >= 3 * matrix && report[0].slab < 4 * matrix);
    CHECK_EQ(report[1].backward_nodes, 9);
    CHECK(report[1].slab >= 9 * matrix && report[1].slab < 10 * matrix);
    double gemm = 2.0 * ROWS * WIDE * WIDE;
    CHECK_NEAR(report[0].flops, gemm * (8 + 2 + 1), 1);
    CHECK_NEAR(report[1].flops, gemm * (8 + 7 + 8), 1);
    rig_close(&r);
}

/* A chain of in-place ops and identities runs in one buffer each way. */
static void test_in_place(void)
{
    struct rig r;
    rig_open(&r, 1);
    enum { ROWS = 64, WIDE = 256 };
    float *x = numbers(&r.arena, ROWS * WIDE, 2), *gx = arena_alloc(&r.arena, ROWS * WIDE * 4);
    float *b = numbers(&r.arena, WIDE, 3);
    struct plan_report report;
    tensor *t = graph_leaf(r.g, "x", &qtype_f32, ROWS, WIDE, x, gx);
    tensor *bias = graph_leaf(r.g, "b", &qtype_f32, 1, WIDE, b, NULL);
    for (int i = 0; i < 10; i++)
        t = g_scale(r.g, g_reshape(r.g, g_bias(r.g, t, bias), WIDE, ROWS), 0.5f),
        t = g_reshape(r.g, t, ROWS, WIDE);
    tensor *loss = g_dot(r.g, t, x, NULL);
    CHECK_EQ(graph_plan(r.g, loss, RECOMPUTE_NONE, &report), 0);
    CHECK(report.slab < ROWS * WIDE * 4 + 512);
    CHECK_EQ(graph_reserve(r.g, 0, 0), 0);
    run_watched(r.g);
    CHECK_NEAR(gx[5], x[5] / 1024, 1e-9);
    rig_close(&r);
}

static void test_no_allocation(void)
{
    struct rig r;
    struct net big, small;
    rig_open(&r, 2);
    net_open(&big, &r, all_opts[1]);
    net_open(&small, &r, (struct net_opts){ 0, 0, LAYERS, N / 2, 0.1f });
    net_run(&big, RECOMPUTE_CHEAP);
    int64_t calls = r.host.mem.calls;
    for (int i = 0; i < 4; i++) {
        net_run(i % 2 ? &small : &big, RECOMPUTE_CHEAP);
        net_run(i % 2 ? &small : &big, RECOMPUTE_CHEAP);
    }
    CHECK_EQ(r.host.mem.calls, calls);
    rig_close(&r);
}

/* Small gaps between what must live at once and what is taken. */
static void test_tight(void)
{
    struct rig r;
    rig_open(&r, 1);
    double worst = 1;
    for (int n = 0; n < 4; n++) {
        for (int policy = 0; policy < 3; policy++) {
            struct net net;
            net_open(&net, &r, (struct net_opts){ n % 2 ? 10 : 0, n / 2, 20, 32, 0.1f * (n % 2) });
            net_plan(&net, (enum recompute)policy);
            check_layout(r.g);
            worst = fmax(worst, (double)r.g->plan.slab / (double)r.g->plan.floor);
        }
    }
    CHECK(worst < 1.05);
    rig_close(&r);
}

static void test_kept(void)
{
    struct rig r;
    struct net net;
    rig_open(&r, 1);
    net_open(&net, &r, all_opts[1]);
    tensor *loss = net_build(&net), *mid = NULL, *unused;
    for (int64_t i = 0; i < r.g->n && !mid; i++)
        if (r.g->node[i]->op == &op_glu) mid = r.g->node[i];
    graph_keep(mid);
    unused = g_scale(r.g, mid, 2.0f);
    CHECK_EQ(graph_plan(r.g, loss, RECOMPUTE_LAYERS, NULL), 0);
    CHECK(!r.g->plan.node[unused->id].needed);
    CHECK_EQ(graph_reserve(r.g, 0, 0), 0);
    run_watched(r.g);
    float *value = arena_alloc(&r.arena, N * FF * 4);
    memcpy(value, mid->x, N * FF * 4);
    CHECK(r.c.k->finite(value, N * FF));
    graph_forward(r.g);
    CHECK(!memcmp(value, mid->x, N * FF * 4));
    rig_close(&r);
}

/* --- errors */
static const char *failing(struct rig *r, int which)
{
    static float x[64], y[64];
    static const int32_t bad[] = { 0, 4 }, wide[8] = { 0, 4 }, lo[4], hi[] = { 1, 2, 3, 5 };
    static const uint8_t carried[16];
    graph *g = r->g;
    graph_reset(g);
    tensor *a = graph_leaf(g, "a", &qtype_f32, 4, 8, x, y);
    tensor *b = graph_leaf(g, "b", &qtype_f32, 3, 8, x, NULL);
    tensor *h = graph_leaf(g, "half", &qtype_bf16, 4, 8, carried, NULL);
    struct attn at = { .nq = 4, .nk = 4, .heads = 2, .kv_heads = 1, .head_dim = 4, .scale = 1,
                       .lo = lo, .hi = hi };
    struct rope_args ra = { x, lo, 2, 4, 3, 0 };
    graph_name(g, "here");
    switch (which) {
    case 0: g_linear(g, a, g_reshape(g, b, 7, 4)); return "here reshape: [3, 8] as [7, 4]";
    case 1: g_linear(g, a, g_scale(g, b, 2)), g_add(g, a, b); return "equal shapes";
    case 2: g_linear(g, h, b); return "operand 0 is BF16, expected F32";
    case 3: g_embed(g, b, bad, 2); return "id 4 at 1, expected 0 to 2";
    case 4: g_rows(g, a, bad, 2); return "row 4 at 1, expected 0 to 3";
    case 5: g_bias(g, a, b); return "b is [3, 8], expected [1, 8]";
    case 6: g_slice_cols(g, a, 3, 6); return "columns [3, 9), expected within 8";
    case 7: g_attention(g, a, g_slice_cols(g, a, 0, 4), g_slice_cols(g, a, 4, 4), NULL,
                        &at);
            return "row 3 attends to [0, 5), expected within 4 keys";
    case 8: g_rope(g, a, &ra); return "rotation of 3";
    case 9: g_linear(g, NULL, b); return "operand 0 is absent";
    case 10: g_scale(g, graph_leaf(g, "q", qtype_by_name("Q8_0"), 4, 32, x, y), 1);
             return "operand 0 is Q8_0, expected F32";
    case 11: graph_leaf(g, "none", &qtype_f32, 0, 8, x, NULL); return "none is [0, 8]";
    case 12: g_xent(g, g_reshape(g, a, 8, 4), wide, 1, NULL); return "target 4 at 1";
    case 13: g_xent_head(g, a, g_scale(g, graph_leaf(g, "w", &qtype_f32, 5, 8, x, y), 1), NULL,
                         bad, bad, 1, 1, NULL);
             return "expected leaves when they train";
    case 14: g_act(g, a, ACT_COUNT); return "activation 8";
    case 15: g_reshape(g, a, INT64_MAX, INT64_MAX); return "expected as many elements";
    case 16: g_linear(g, a, graph_leaf(g, "q", qtype_by_name("Q8_0"), 4, 8, carried, NULL));
             return "expected a multiple of Q8_0's block of 32";
    case 17: g_cosent(g, a, x, 1, NULL); return "scores have 8 columns, expected 1";
    case 18: graph_fail(g, PEFT_EUNSUPPORTED, "no %s", "such thing"); return "no such thing";
    default: return "";
    }
}

static void test_errors(void)
{
    struct rig r;
    struct plan_report report;
    rig_open(&r, 1);
    const char *expect;
    for (int i = 0; *(expect = failing(&r, i)); i++) {
        int code = graph_error(r.g);
        CHECK(code < 0);
        tensor *more = g_scale(r.g, graph_leaf(r.g, "x", &qtype_f32, 1, 1, NULL, NULL), 1);
        CHECK(more == NULL);
        CHECK_EQ(fail(PEFT_EIO, "another message"), PEFT_EIO);
        CHECK_EQ(graph_plan(r.g, more, RECOMPUTE_NONE, &report), code);
        CHECK(strstr(error_message(), expect) != NULL);
        if (!strstr(error_message(), expect)) printf("  case %d wants %s\n", i, expect);
    }
    rig_close(&r);
}

static void test_bad_losses(void)
{
    struct rig r;
    rig_open(&r, 1);
    float x[64] = { 1 }, g[64];
    int32_t zero[4] = { 0 };
    graph_reset(r.g);
    CHECK_EQ(graph_plan(r.g, NULL, RECOMPUTE_NONE, NULL), PEFT_EARG);
    tensor *a = graph_leaf(r.g, "a", &qtype_f32, 4, 8, x, NULL);
    tensor *w = graph_leaf(r.g, "w", &qtype_f32, 3, 8, x, g);
    tensor *many = g_scale(r.g, a, 1), *frozen = g_dot(r.g, a, x, NULL);
    CHECK_EQ(graph_plan(r.g, many, RECOMPUTE_NONE, NULL), PEFT_EARG);
    CHECK_EQ(graph_plan(r.g, frozen, RECOMPUTE_NONE, NULL), PEFT_ESTATE);
    tensor *head = g_xent_head(r.g, a, w, NULL, zero, zero, 4, 1, NULL);
    tensor *twice = g_scale(r.g, head, 2);
    CHECK_EQ(graph_plan(r.g, twice, RECOMPUTE_NONE, NULL), PEFT_EARG);
    CHECK(strstr(error_message(), "must be the loss") != NULL);
    CHECK_EQ(graph_plan(r.g, g_reshape(r.g, head, 1, 1), RECOMPUTE_NONE, NULL), PEFT_EARG);
    CHECK_EQ(graph_plan(r.g, head, RECOMPUTE_NONE, NULL), 0);
    CHECK_EQ(graph_error(r.g), 0);
    CHECK_EQ(graph_reserve(r.g, (int64_t)1 << 60, 0), PEFT_ENOMEM);
    CHECK_EQ(graph_reserve(r.g, 0, (int64_t)1 << 62), PEFT_ENOMEM);
    CHECK_EQ(graph_reserve(r.g, 0, 0), 0);
    rig_close(&r);
}

/* Every allocation fails once; nothing is lost and the next try works. */
static int64_t fail_at;
static void *(*usual_alloc)(void *ctx, void *ptr, size_t old_size, size_t new_size);
static void *failing_alloc(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    if (new_size && --fail_at == 0) return NULL;
    return usual_alloc(ctx, ptr, old_size, new_size);
}

static void test_out_of_memory(void)
{
    int done = 0;
    for (int64_t n = 1; !done && n < 200; n++) {
        struct rig r;
        struct net a;
        rig_open(&r, 1);
        net_open(&a, &r, all_opts[1]);
        graph_free(r.g);
        CHECK_EQ(graph_new(&r.host, &r.c, &r.g), 0);
        usual_alloc = r.host.mem.alloc;
        r.host.mem.alloc = failing_alloc;
        fail_at = n;
        tensor *loss = net_build(&a);
        int rc = graph_plan(r.g, loss, RECOMPUTE_CHEAP, NULL);
        if (!rc) rc = graph_reserve(r.g, 0, 0);
        done = !rc;
        if (rc) CHECK_EQ(rc, PEFT_ENOMEM);
        fail_at = 0;
        net_run(&a, RECOMPUTE_CHEAP);
        rig_close(&r);
    }
    CHECK(done);
}

static void test_nonfinite(void)
{
    struct rig r;
    struct net net;
    rig_open(&r, 1);
    net_open(&net, &r, all_opts[0]);
    net_run(&net, RECOMPUTE_LAYERS);
    CHECK(graph_find_nonfinite(r.g) == NULL);
    float was = net.data[V * D];
    net.data[V * D] = NAN;                           /* the first norm's weight */
    net_run(&net, RECOMPUTE_LAYERS);
    CHECK_STR(graph_find_nonfinite(r.g), "norm");
    net.data[V * D] = was;
    /* A value that overflows: its node is named. */
    graph_reset(r.g);
    float x[4] = { 1e30f, 1, 1, 1 }, g[4] = { 0 };
    tensor *a = graph_leaf(r.g, "x", &qtype_f32, 1, 4, x, g);
    graph_name(r.g, "square");
    tensor *b = g_mul(r.g, a, graph_leaf(r.g, "y", &qtype_f32, 1, 4, x, NULL));
    tensor *loss = g_dot(r.g, b, x, NULL);
    CHECK_EQ(graph_plan(r.g, loss, RECOMPUTE_NONE, NULL), 0);
    CHECK_EQ(graph_reserve(r.g, 0, 0), 0);
    graph_start(r.g);
    graph_run(r.g, 0, NULL);
    CHECK_STR(graph_find_nonfinite(r.g), "the result of mul square");
    rig_close(&r);
}

static void test_profile(void)
{
    struct rig r;
    struct net net;
    static struct profile p;
    int64_t calls = 0;
    double flops = 0, bytes = 0;
    rig_open(&r, 1);
    net_open(&net, &r, all_opts[1]);
    graph_profile(r.g, &p);
    struct plan_report report = net_run(&net, RECOMPUTE_LAYERS);
    graph_profile(r.g, NULL);
    net_run(&net, RECOMPUTE_LAYERS);
    for (int64_t i = 0; i < p.n; i++) {
        CHECK(p.work[i].name && p.work[i].seconds >= 0);
        calls += p.work[i].calls;
        flops += p.work[i].flops;
        bytes += p.work[i].bytes;
    }
    CHECK_EQ(calls, report.nodes + report.backward_nodes + report.replayed);
    CHECK(flops > 0 && fabs(flops - report.flops) <= 1e-9 * flops);
    CHECK(bytes > 0);
    rig_close(&r);
}

/* y = x W^T of [8, 16] and a BF16 [32, 16]: 2 n in out flops either way, each tensor once. */
static void test_cost(void)
{
    struct rig r;
    static float x[8 * 16], gx[8 * 16];
    static uint16_t w[32 * 16];
    rig_open(&r, 1);
    tensor *a = graph_leaf(r.g, "x", &qtype_f32, 8, 16, x, gx);
    tensor *b = graph_leaf(r.g, "w", &qtype_bf16, 32, 16, w, NULL);
    tensor *y = g_linear(r.g, a, b);
    struct cost there = op_cost(y, 0), back = op_cost(y, 1);
    CHECK_EQ(there.flops, 2 * 8 * 16 * 32);
    CHECK_EQ(back.flops, 2 * 8 * 16 * 32);
    CHECK_EQ(there.bytes, 4 * (8 * 16 + 8 * 32) + 2 * 32 * 16);
    CHECK_EQ(back.bytes, there.bytes);
    const int32_t row[2] = { 1, 1 };
    tensor *few = g_rows(r.g, a, row, 2);
    CHECK_EQ(op_cost(few, 0).bytes, 2 * 4 * 2 * 16);
    CHECK_EQ(op_cost(g_reshape(r.g, a, 16, 8), 0).bytes, 0);
    rig_close(&r);
}

int main(void)
{
    RUN(test_policies);
    RUN(test_threads);
    RUN(test_slices);
    RUN(test_chained_net);
    RUN(test_chained_rows);
    RUN(test_shared_gradients);
    RUN(test_frozen);
    RUN(test_in_place);
    RUN(test_no_allocation);
    RUN(test_tight);
    RUN(test_kept);
    RUN(test_errors);
    RUN(test_bad_losses);
    RUN(test_out_of_memory);
    RUN(test_nonfinite);
    RUN(test_profile);
    RUN(test_cost);
    return TEST_END();
}
