/* Gathering rows makes what only they need for them alone: the same loss and gradients as
 * gathering at the end, from fewer flops. */
#include "graph/op.h"
#include "graph_check.h"

enum { N = 60, D = 12, F = 20, HEADS = 3, DIM = 4, LEAVES = 9 };

struct net {
    struct rig rig;
    float *x[LEAVES], *g[LEAVES];
    struct tensor *at[LEAVES];
    int32_t lo[N], hi[N], self[N], pos[N];
    float table[N * DIM];
    float goal[N * D];
};
enum { X, WQ, WK, WV, WO, W_GATE, W_UP, W_DOWN, NORM };
static const int shape[LEAVES][2] = { { N, D }, { D, D }, { DIM, D }, { DIM, D }, { D, D },
                                      { F, D }, { F, D }, { D, F }, { 1, D } };

static void net_open(struct net *t)
{
    rig_open(&t->rig, 2);
    for (int k = 0; k < LEAVES; k++) {
        t->x[k] = numbers(&t->rig.arena, shape[k][0] * shape[k][1], k + 1);
        t->g[k] = arena_alloc(&t->rig.arena, shape[k][0] * shape[k][1] * 4);
    }
    for (int i = 0; i < N; i++) {
        t->lo[i] = i / 20 * 20;
        t->hi[i] = i + 1;
        t->self[i] = i;
        t->pos[i] = i % 20;
        for (int k = 0; k < DIM; k++)
            t->table[i * DIM + k] = (k < DIM / 2 ? cosf : sinf)((float)i / (float)(1 + k % 2));
        for (int k = 0; k < D; k++) t->goal[i * D + k] = t->x[X][(i * D + k * 7) % (N * D)];
    }
}

static struct tensor *turned(struct net *t, struct tensor *x, int heads)
{
    struct rope_args a = { t->table, t->pos, heads, DIM, DIM, 0 };
    return g_rope(t->rig.g, x, &a);
}

/* One layer of a transformer, with a tensor of its own for what comes before it. */
static struct tensor *layer(struct net *t, struct tensor **norm)
{
    graph *g = t->rig.g;
    struct tensor **w = t->at;
    struct attn a = { .nq = N, .nk = N, .heads = HEADS, .kv_heads = 1, .head_dim = DIM,
                      .scale = 0.5f, .lo = t->lo, .hi = t->hi, .self = t->self };
    for (int k = 0; k < LEAVES; k++)
        w[k] = graph_leaf(g, "leaf", &qtype_f32, shape[k][0], shape[k][1], t->x[k], t->g[k]);
    struct tensor *x = g_scale(g, w[X], 0.5f), *y = *norm = g_rmsnorm(g, x, w[NORM], 1e-5f, 0);
    struct tensor *q = turned(t, g_linear(g, y, w[WQ]), HEADS);
    struct tensor *k = turned(t, g_linear(g, y, w[WK]), 1), *v = g_linear(g, y, w[WV]);
    x = g_add(g, x, g_linear(g, g_attention(g, q, k, v, NULL, &a), w[WO]));
    y = g_rmsnorm(g, x, w[NORM], 1e-5f, 1);
    y = g_glu(g, g_linear(g, y, w[W_GATE]), g_linear(g, y, w[W_UP]), ACT_SILU);
    return g_linear_add(g, x, y, w[W_DOWN], 0.7f);
}

static double run(struct net *t, const int32_t *rows, int n, int late, enum recompute policy,
                  double *flops, float *norm_row)
{
    graph *g = t->rig.g;
    struct plan_report report;
    struct tensor *norm;
    graph_reset(g);
    for (int k = 0; k < LEAVES; k++)
        memset(t->g[k], 0, (size_t)(shape[k][0] * shape[k][1]) * sizeof(float));
    struct tensor *y = layer(t, &norm);
    if (norm_row) graph_keep(norm);
    y = (late ? graph_rows : g_rows)(g, y, rows, n);
    struct tensor *loss = g_mse(g, y, t->goal, 1.0f / (float)n, NULL);
    CHECK_EQ(graph_plan(g, loss, policy, &report), 0);
    CHECK_EQ(graph_reserve(g, 0, 0), 0);
    graph_start(g);
    CHECK_EQ(graph_run(g, 0, NULL), 1);
    *flops = report.flops;
    if (norm_row) memcpy(norm_row, norm->x, D * sizeof(float));
    return (double)tensor_f32(loss)[0];
}

static void compare(const int32_t *rows, int n, enum recompute policy)
{
    struct net t;
    double flops[2], worst = 0, size = 0;
    float norm[2][D], *late_g[LEAVES];
    net_open(&t);
    double late = run(&t, rows, n, 1, policy, &flops[0], norm[0]);
    for (int k = 0; k < LEAVES; k++) {
        int64_t bytes = shape[k][0] * shape[k][1] * 4;
        late_g[k] = arena_alloc(&t.rig.arena, bytes);
        memcpy(late_g[k], t.g[k], (size_t)bytes);
    }
    double early = run(&t, rows, n, 0, policy, &flops[1], norm[1]);
    CHECK_NEAR(early, late, 1e-6 * late);
    CHECK(n < N ? flops[1] < 0.8 * flops[0] : flops[1] == flops[0]);
    for (int k = 0; k < LEAVES; k++)
        for (int i = 0; i < shape[k][0] * shape[k][1]; i++) {
            size = fmax(size, fabs((double)late_g[k][i]));
            worst = fmax(worst, fabs((double)(late_g[k][i] - t.g[k][i])));
        }
    CHECK_NEAR(worst, 0, 1e-6 * size);
    for (int i = 0; i < D; i++) CHECK_NEAR(norm[0][i], norm[1][i], 0);
    rig_close(&t.rig);
}

static void test_gather(void)
{
    static const int32_t some[] = { 3, 4, 5, 19, 20, 41, 59 }, odd[] = { 58, 3, 3, 20, 7 };
    int32_t all[N];
    for (int i = 0; i < N; i++) all[i] = i;
    for (int k = 0; k < 3; k++) {
        static const enum recompute each[] = { RECOMPUTE_NONE, RECOMPUTE_CHEAP,
                                               RECOMPUTE_LAYERS };
        enum recompute p = each[k];
        compare(some, (int)ARRAY_LEN(some), p);
        compare(odd, (int)ARRAY_LEN(odd), p);
        compare(some, 1, p);
        compare(all, N, p);
    }
}

/* Rows of rows, and rows that are none. */
static void test_twice(void)
{
    static const int32_t first[] = { 50, 40, 30, 20, 10 }, then[] = { 4, 0 }, wrong[] = { 3, N };
    float size = 0;
    struct net t;
    struct tensor *norm;
    net_open(&t);
    struct tensor *x = layer(&t, &norm);
    struct tensor *y = g_rows(t.rig.g, g_rows(t.rig.g, x, first, 5), then, 2);
    struct tensor *z = graph_rows(t.rig.g, x, (const int32_t[]){ 10, 50 }, 2);
    graph_keep(y);
    graph_keep(z);
    CHECK_EQ(graph_forward(t.rig.g), 0);
    for (int i = 0; i < 2 * D; i++) size = fmaxf(size, fabsf(tensor_f32(z)[i]));
    for (int i = 0; i < 2 * D; i++)
        CHECK_NEAR(tensor_f32(y)[i], tensor_f32(z)[i], 1e-6 * (double)size);
    graph_reset(t.rig.g);
    CHECK(!g_rows(t.rig.g, layer(&t, &norm), wrong, 2));
    CHECK_EQ(graph_plan(t.rig.g, NULL, RECOMPUTE_NONE, NULL), PEFT_EARG);
    rig_close(&t.rig);
}

int main(void)
{
    RUN(test_gather);
    RUN(test_twice);
    return TEST_END();
}
