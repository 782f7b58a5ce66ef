/* Walks ops_all: each op's gradients against finite differences, for every
 * set of operands that want one, stored and added, on odd shapes. */
#include "unit/graph_check.h"

enum { MAX_LEAVES = 8, SHAPES = 3 };
static const struct { int32_t n, d, m; } shapes[SHAPES] = {
    { 1, 32, 1 }, { 7, 64, 3 }, { 37, 32, 5 },
};

/* How the operands are given: leaves as they are (gradients are added), passed
 * through a node (stored), or with another consumer before (added). */
enum wrap { WRAP_NONE, WRAP_STORE, WRAP_ADD, WRAPS };

struct leaf_data { float *x, *g, *extra; int64_t rows, cols; int direct; };
struct setup {
    struct rig *rig;
    graph *g;
    int32_t n, d, m;                     /* the shape: rows, columns, something small */
    int variant;
    unsigned want;                       /* bit i: leaf i gets a gradient */
    enum wrap wrap;
    struct leaf_data leaf[MAX_LEAVES];
    tensor *wrapped[MAX_LEAVES];
    int leaves;
    struct arena *arena;                 /* of this build: arguments */
    struct loss_stats stats;
};

static tensor *new_leaf(struct setup *s, int64_t rows, int64_t cols, int direct)
{
    struct leaf_data *l = &s->leaf[s->leaves];
    if (!l->x) {
        l->rows = rows;
        l->cols = cols;
        l->x = numbers(&s->rig->arena, rows * cols, (uint64_t)s->leaves + 1);
        l->g = arena_alloc(&s->rig->arena, rows * cols * 4);
        l->extra = numbers(&s->rig->arena, rows * cols, (uint64_t)s->leaves + 50);
        l->direct = direct;
    }
    int wanted = s->want >> s->leaves & 1;
    tensor *t = graph_leaf(s->g, "leaf", &qtype_f32, rows, cols, l->x, wanted ? l->g : NULL);
    if (s->wrap && !direct && wanted) t = g_scale(s->g, t, 1.0f);
    return s->wrapped[s->leaves++] = t;
}
static tensor *leaf(struct setup *s, int64_t rows, int64_t cols)
{
    return new_leaf(s, rows, cols, 0);
}

enum { TYPES = 6 };
/* A frozen leaf of a stored type. */
static tensor *stored(struct setup *s, const char *type, int64_t rows, int64_t cols)
{
    const struct qtype *q = qtype_by_name(type);
    int64_t bytes = 0;
    CHECK(q && q->from_f32 && qtype_bytes(q, rows * cols, &bytes));
    void *data = arena_alloc(s->arena, bytes);
    q->from_f32(data, numbers(s->arena, rows * cols, 99), rows * cols);
    return graph_leaf(s->g, type, q, rows, cols, data, NULL);
}

/* Variant 0 and above: F32, then stored types. */
static tensor *weight(struct setup *s, int64_t rows, int64_t cols, int direct)
{
    static const char *const types[] = { "F32", "BF16", "F16", "Q8_0", "Q4_0", "Q4_1" };
    if (!s->variant) return new_leaf(s, rows, cols, direct);
    return stored(s, types[s->variant], rows, cols);
}

static int32_t *indices(struct setup *s, int64_t n, int32_t limit, uint64_t stream)
{
    int32_t *v = arena_alloc(s->arena, n * 4);
    for (int64_t i = 0; i < n; i++)
        v[i] = (int32_t)(rng_u32(5, stream, (uint64_t)i) % (uint32_t)limit);
    return v;
}

/* --- builders of the cases */
static tensor *case_linear(struct setup *s)
{
    tensor *x = leaf(s, s->n, s->d);
    return g_linear(s->g, x, weight(s, s->m, s->d, 0));
}
static tensor *case_linear_add(struct setup *s)
{
    tensor *y = leaf(s, s->n, s->m), *x = leaf(s, s->n, s->d);
    return g_linear_add(s->g, y, x, weight(s, s->m, s->d, 0), 0.7f);
}
/* More than have their gradients of A made at once, some of one A. */
static tensor *low_ranks_of_one_x(struct setup *s)
{
    tensor *x = leaf(s, s->n, s->d), *w = stored(s, "F32", s->m, s->d), *y = NULL;
    tensor *a[] = { leaf(s, 3, s->d), leaf(s, 3, s->d) };
    tensor *b[] = { leaf(s, s->m, 3), leaf(s, s->m, 3) };
    for (int i = 0; i < THINS + 1; i++) {
        tensor *one = g_low_rank(s->g, g_linear(s->g, x, w), x, a[i % 2], b[i / 2 % 2],
                                 0.05f * (float)(i + 1));
        y = y ? g_add(s->g, y, one) : one;
    }
    return y;
}
static tensor *case_low_rank(struct setup *s)
{
    if (s->variant == TYPES) return low_ranks_of_one_x(s);
    tensor *x = leaf(s, s->n, s->d), *w = weight(s, s->m, s->d, 0);
    tensor *a = leaf(s, 3, s->d), *b = leaf(s, s->m, 3);
    return g_low_rank(s->g, g_linear(s->g, x, w), x, a, b, 0.7f);
}
static tensor *case_low_rank_glu(struct setup *s)
{
    tensor *gate = leaf(s, s->n, s->d), *up = leaf(s, s->n, s->d), *w;
    w = stored(s, (const char *[]){ "F32", "BF16", "Q4_1" }[s->variant], s->m, s->d);
    tensor *a = leaf(s, 3, s->d), *b = leaf(s, s->m, 3), *x = g_glu(s->g, gate, up, ACT_SILU);
    return g_low_rank(s->g, g_linear(s->g, x, w), x, a, b, 0.7f);
}
static tensor *case_magnitude(struct setup *s)
{
    int cols = s->variant >= TYPES;
    if (cols) {
        tensor *m = leaf(s, 1, s->d);
        float *a = numbers(s->arena, 3 * s->m, 5), *b = numbers(s->arena, 3 * s->d, 6);
        return g_magnitude_cols(s->g, m, stored(s, s->variant > TYPES ? "Q8_0" : "F32", s->m, s->d),
                                graph_leaf(s->g, "A", &qtype_f32, s->m, 3, a, NULL),
                                graph_leaf(s->g, "B", &qtype_f32, s->d, 3, b, NULL), 0.7f);
    }
    tensor *m = leaf(s, 1, s->m);
    tensor *w = s->variant ? weight(s, s->m, s->d, 0) : stored(s, "F32", s->m, s->d);
    float *a = numbers(s->arena, 3 * s->d, 5), *b = numbers(s->arena, 3 * s->m, 6);
    return g_magnitude(s->g, m, w, graph_leaf(s->g, "A", &qtype_f32, 3, s->d, a, NULL),
                       graph_leaf(s->g, "B", &qtype_f32, s->m, 3, b, NULL), 0.7f);
}
static tensor *case_cayley(struct setup *s)
{
    return g_cayley(s->g, g_scale(s->g, leaf(s, s->n, 10), 0.2f), 5, 1 + s->variant);
}
/* Two layers whose weights are one leaf. */
static tensor *case_lstm(struct setup *s)
{
    int64_t in = 1 + s->d / 8, h = 2 + s->m, first = 2 * lstm_len(in, h);
    tensor *x = leaf(s, s->n, in);
    tensor *w = leaf(s, 1, first + 2 * lstm_len(2 * h, h) * s->variant);
    x = g_lstm(s->g, x, w, h, 0);
    return s->variant ? g_lstm(s->g, x, w, h, first) : x;
}
static tensor *case_rotate(struct setup *s)
{
    tensor *x = leaf(s, s->n, 12);
    return g_rotate(s->g, x, leaf(s, 12, 4));
}
static tensor *case_embed(struct setup *s)
{
    return g_embed(s->g, weight(s, s->m, s->d, 0), indices(s, s->n, s->m, 1), s->n);
}
static tensor *case_bias(struct setup *s)
{
    tensor *x = leaf(s, s->n, s->d);
    return g_bias(s->g, x, leaf(s, 1, s->d));
}
static tensor *case_add(struct setup *s)
{
    tensor *a = leaf(s, s->n, s->d);
    return g_add(s->g, a, s->variant ? a : leaf(s, s->n, s->d));
}
static tensor *case_mul(struct setup *s)
{
    tensor *a = leaf(s, s->n, s->d);
    if (s->variant == 2) return g_mul(s->g, a, g_reshape(s->g, a, s->n, s->d));
    return g_mul(s->g, a, leaf(s, s->variant ? 1 : s->n, s->d));
}
static tensor *case_scale(struct setup *s)
{
    return g_scale(s->g, leaf(s, s->n, s->d), -1.7f);
}
static tensor *case_act(struct setup *s)
{
    return g_act(s->g, leaf(s, s->n, s->d), (enum act)s->variant);
}
static tensor *case_glu(struct setup *s)
{
    tensor *gate = leaf(s, s->n, s->d);
    return g_glu(s->g, gate, leaf(s, s->n, s->d), (enum act)(ACT_SILU + s->variant));
}
static tensor *case_rmsnorm(struct setup *s)
{
    tensor *x = leaf(s, s->n, s->d);
    return g_rmsnorm(s->g, x, leaf(s, 1, s->d), 1e-5f, s->variant ? 1.0f : 0.0f);
}
static tensor *case_layernorm(struct setup *s)
{
    tensor *x = leaf(s, s->n, s->d), *w = s->variant & 1 ? NULL : leaf(s, 1, s->d);
    return g_layernorm(s->g, x, w, s->variant & 2 ? NULL : leaf(s, 1, s->d), 1e-5f);
}
static tensor *case_rope(struct setup *s)
{
    int32_t dim = 16, rot = s->variant & 2 ? 8 : 16;
    float *table = numbers(s->arena, 64 * rot, 7);
    struct rope_args a = { table, indices(s, s->n, 64, 2), s->d / dim, dim, rot, s->variant & 1 };
    return g_rope(s->g, leaf(s, s->n, s->d), &a);
}
static tensor *case_attention(struct setup *s)
{
    int32_t heads = 4, kv = 2, dim = s->d / 4, n = s->n;
    int32_t *lo = arena_alloc(s->arena, n * 4), *hi = arena_alloc(s->arena, n * 4);
    for (int32_t i = 0; i < n; i++) {
        lo[i] = s->variant == 1 ? n / 2 * (i >= n / 2) : 0;
        hi[i] = i + 1;
    }
    struct attn a = { .nq = n, .nk = n, .heads = heads, .kv_heads = kv, .head_dim = dim,
                      .scale = 0.3f, .softcap = s->variant == 2 ? 5.0f : 0.0f, .lo = lo, .hi = hi,
                      .slopes = s->variant == 4 ? numbers(s->arena, heads, 10) : NULL };
    tensor *q = leaf(s, n, heads * dim), *k = leaf(s, n, kv * dim);
    tensor *v = s->variant == 3 ? k : leaf(s, n, kv * dim), *bias = NULL;
    if (s->variant >= 5) {                           /* two texts, or one of both directions */
        int32_t *self = arena_alloc(s->arena, n * 4);
        for (int32_t i = 0; i < n; i++) {
            lo[i] = s->variant == 5 && i >= n / 2 ? n / 2 : 0;
            if (s->variant == 6) hi[i] = n;
            self[i] = i;
        }
        a.self = self;
        a.origin = n;
        a.distances = 2 * n + 1;
        bias = leaf(s, a.distances, heads);
    }
    return g_attention(s->g, q, k, v, bias, &a);
}
static tensor *case_route(struct setup *s)
{
    /* The three largest are far from the others: a difference must not change them. */
    float *far = arena_alloc(s->arena, s->n * s->d * 4);
    for (int32_t i = 0; i < s->n * s->d; i++)
        far[i] = (i % s->d + i / s->d) % s->d < 3 ? 3.0f : 0.0f;
    tensor *x = g_scale(s->g, leaf(s, s->n, s->d), 0.2f);
    x = g_add(s->g, x, graph_leaf(s->g, "far", &qtype_f32, s->n, s->d, far, NULL));
    return g_route(s->g, x, 3, s->variant);
}
static tensor *case_expert(struct setup *s)
{
    int64_t f = 16;
    tensor *x = g_scale(s->g, leaf(s, s->n, s->d), 0.1f);    /* or differences are too coarse */
    float *mask = arena_alloc(s->arena, s->n * 4 * 4);
    for (int32_t i = 0; i < s->n * 4; i++) mask[i] = (float)((i * 7 + s->variant) % 3 > 0);
    tensor *shares = g_mul(s->g, leaf(s, s->n, 4),
                           graph_leaf(s->g, "mask", &qtype_f32, s->n, 4, mask, NULL));
    tensor *w[3] = { leaf(s, f, s->d), leaf(s, f, s->d), leaf(s, s->d, f) };
    return g_expert(s->g, x, shares, w, s->variant, ACT_SILU);
}
static tensor *case_scale_rows(struct setup *s)
{
    tensor *a = leaf(s, s->n, s->d);
    return g_scale_rows(s->g, a, leaf(s, s->n, 1));
}
static tensor *case_dropout(struct setup *s)
{
    return g_dropout(s->g, leaf(s, s->n, s->d), 0.3f, 1, 2);
}
static tensor *case_rows(struct setup *s)
{
    return g_rows(s->g, leaf(s, s->n, s->d), indices(s, s->m + 2, s->n, 3), s->m + 2);
}
static tensor *case_pool_mean(struct setup *s)
{
    int32_t *start = arena_alloc(s->arena, 4 * 4);
    start[0] = s->n > 2;
    start[1] = start[2] = s->n / 2 + start[0];       /* the second is empty */
    start[3] = s->n;
    return g_pool_mean(s->g, leaf(s, s->n, s->d), start, 3, s->variant);
}
static tensor *case_concat_rows(struct setup *s)
{
    tensor *a = leaf(s, s->n, s->d);
    return g_concat_rows(s->g, a, leaf(s, s->m, s->d));
}
static tensor *case_concat_cols(struct setup *s)
{
    tensor *a = leaf(s, s->n, s->d);
    return g_concat_cols(s->g, a, leaf(s, s->n, s->m));
}
static tensor *case_slice_cols(struct setup *s)
{
    return g_slice_cols(s->g, leaf(s, s->n, s->d), s->m, s->d - 2 * s->m);
}
static tensor *case_reshape(struct setup *s)
{
    return g_reshape(s->g, leaf(s, s->n, s->d), s->n * s->d / 16, 16);
}
static tensor *case_cache(struct setup *s)
{
    float *cache = numbers(s->arena, (s->n + 2) * s->d, 8);
    static int32_t at[64];
    for (int64_t i = 0; i < s->n; i++) at[i] = (int32_t)(i + 2);
    return g_cache(s->g, leaf(s, s->n, s->d), cache, at, s->n + 2);
}
static tensor *case_slice_rows(struct setup *s)
{
    return g_slice_rows(s->g, leaf(s, s->n, s->d), s->n / 2, (s->n + 1) / 2);
}
static tensor *case_put_rows(struct setup *s)
{
    tensor *x = leaf(s, s->n, s->d);
    return g_put_rows(s->g, x, leaf(s, (s->n + 1) / 2, s->d), s->n / 2);
}
static tensor *case_xent_head(struct setup *s)
{
    int all = s->variant & 1;
    int64_t v = 11, n = all ? s->n : s->m + 2;
    tensor *h = leaf(s, s->n, s->d), *w = weight(s, v, s->d, 1);
    tensor *b = s->variant ? NULL : new_leaf(s, 1, v, 1);
    struct head_opts o = { .cap = s->variant & 2 ? 3.0f : 0.0f };
    if (s->variant % 3 != 1) {
        static const int32_t index[] = { 7, 2, 3 };
        o.rows = new_leaf(s, 3, s->d, 1);
        o.index = index;
    }
    return g_xent_head_with(s->g, h, w, b, all ? NULL : indices(s, n, s->n, 4),
                            indices(s, n, (int32_t)v, 5), n, 0.25f, o, &s->stats);
}
static tensor *case_swap_rows(struct setup *s)
{
    static const int32_t index[] = { 2, 0, 5, 1, 0, 2 };
    tensor *x = leaf(s, s->n, s->d);
    return g_swap_rows(s->g, x, leaf(s, 3, s->d), indices(s, s->n, 4, 12), index);
}
static tensor *case_swap_cols(struct setup *s)
{
    static const int32_t index[] = { 2, 0 };
    tensor *x = leaf(s, s->n, s->d);
    return g_swap_cols(s->g, x, leaf(s, s->n, 2), index);
}
static tensor *case_turn(struct setup *s) { return g_turn(s->g, leaf(s, s->n, s->d)); }
static tensor *case_kl_head(struct setup *s)
{
    int64_t v = 11;
    tensor *h = leaf(s, s->n, s->d), *w = weight(s, v, s->d, 1);
    tensor *b = NULL, *ref, *ref_w;
    float *r = numbers(s->arena, s->n * 16, 21), *u = numbers(s->arena, v * 16, 22);
    ref = graph_leaf(s->g, "ref", &qtype_f32, s->n, 16, r, NULL);
    ref_w = graph_leaf(s->g, "ref_w", &qtype_f32, v, 16, u, NULL);
    if (s->variant & 1)
        b = graph_leaf(s->g, "b", &qtype_f32, 1, v, numbers(s->arena, v, 23), NULL);
    return g_kl_head(s->g, h, w, b, ref, ref_w, NULL, 0.25f, s->variant & 2 ? 3.0f : 0.0f, NULL);
}
static tensor *case_xent(struct setup *s)
{
    return g_xent(s->g, leaf(s, s->n, s->d), indices(s, s->n, s->d, 6), 0.25f, &s->stats);
}
static tensor *case_mse(struct setup *s)
{
    int64_t c = s->variant ? s->d : 1;
    return g_mse(s->g, leaf(s, s->n, c), numbers(s->arena, s->n * c, 9), 0.5f, &s->stats);
}
static tensor *case_bce(struct setup *s)
{
    float *y = numbers(s->arena, s->n * s->d, 9);
    for (int64_t i = 0; i < s->n * s->d; i++) y[i] = y[i] > 0;
    return g_bce(s->g, leaf(s, s->n, s->d), y, 0.5f, &s->stats);
}
static tensor *case_rank(struct setup *s)
{
    const float *margin = s->variant ? numbers(s->arena, s->n, 9) : NULL;
    return g_rank(s->g, leaf(s, 2 * s->n, 1), margin, 0.5f, &s->stats);
}
static tensor *case_span(struct setup *s)
{
    int32_t *start = arena_alloc(s->arena, 8 * 4), *span = start + 3, two = s->n > 1;
    start[1] = two ? (int32_t)s->n / 2 : 1;
    start[1 + two] = (int32_t)s->n;
    span[1] = start[1] - 1;
    span[2] = span[3] = (int32_t)s->n - 1;
    return g_span(s->g, leaf(s, s->n, 2), start, span, 1 + two, 0.5f, &s->stats);
}
static tensor *case_unit(struct setup *s)
{
    return g_unit(s->g, leaf(s, s->n, s->d));
}
static tensor *case_dot_rows(struct setup *s)
{
    tensor *a = leaf(s, s->n, s->d);
    return g_dot_rows(s->g, a, leaf(s, s->n, s->d));
}
static tensor *case_match(struct setup *s)
{
    int32_t *same = arena_alloc(s->arena, (s->n + 2) * 4);
    for (int32_t i = 0; i < s->n + 2; i++) same[i] = i && i % 5 == 4 ? i - 3 : i;
    return g_match(s->g, leaf(s, s->n, s->n + 2), same, 0.25f, &s->stats);
}
static tensor *case_cosent(struct setup *s)
{
    float *target = arena_alloc(s->arena, s->n * 4);
    for (int32_t i = 0; i < s->n; i++) target[i] = (float)(i * 7 % 5);
    return g_cosent(s->g, leaf(s, s->n, 1), target, 0.5f, &s->stats);
}
static tensor *case_triplet(struct setup *s)
{
    tensor *a = leaf(s, s->n, s->d), *p = leaf(s, s->n, s->d);
    return g_triplet(s->g, a, p, leaf(s, s->n, s->d), 7.0f, 0.1f, &s->stats);
}

static const struct op_case {
    const struct op *op;
    tensor *(*build)(struct setup *s);
    int variants;
    int loss;                            /* the value is a loss and has to be the root */
    double tolerance;
} cases[] = {
    { &op_linear, case_linear, TYPES, 0, 1e-3 },
    { &op_linear_add, case_linear_add, TYPES, 0, 1e-3 },
    { &op_low_rank, case_low_rank, TYPES + 1, 0, 4e-3 },
    { &op_low_rank_glu, case_low_rank_glu, 3, 0, 2e-3 },
    { &op_magnitude, case_magnitude, TYPES + 2, 0, 1e-3 },
    { &op_cayley, case_cayley, 6, 0, 2e-3 },
    { &op_lstm, case_lstm, 2, 0, 3e-3 },
    { &op_rotate, case_rotate, 1, 0, 1e-3 },
    { &op_embed, case_embed, TYPES, 0, 1e-3 },
    { &op_bias, case_bias, 1, 0, 1e-3 },
    { &op_add, case_add, 2, 0, 1e-3 },
    { &op_mul, case_mul, 3, 0, 1e-3 },
    { &op_scale, case_scale, 1, 0, 1e-3 },
    { &op_act, case_act, ACT_COUNT, 0, 2e-3 },
    { &op_glu, case_glu, 3, 0, 2e-3 },
    { &op_route, case_route, 2, 0, 3e-3 },
    { &op_expert, case_expert, 4, 0, 3e-3 },
    { &op_scale_rows, case_scale_rows, 1, 0, 1e-3 },
    { &op_rmsnorm, case_rmsnorm, 2, 0, 2e-3 },
    { &op_layernorm, case_layernorm, 4, 0, 2e-3 },
    { &op_rope, case_rope, 4, 0, 1e-3 },
    { &op_attention, case_attention, 7, 0, 3e-3 },
    { &op_dropout, case_dropout, 1, 0, 1e-3 },
    { &op_rows, case_rows, 1, 0, 1e-3 },
    { &op_pool_mean, case_pool_mean, 2, 0, 1e-3 },
    { &op_concat_rows, case_concat_rows, 1, 0, 1e-3 },
    { &op_concat_cols, case_concat_cols, 1, 0, 1e-3 },
    { &op_slice_cols, case_slice_cols, 1, 0, 1e-3 },
    { &op_reshape, case_reshape, 1, 0, 1e-3 },
    { &op_swap_rows, case_swap_rows, 1, 0, 1e-3 },
    { &op_swap_cols, case_swap_cols, 1, 0, 1e-3 },
    { &op_turn, case_turn, 1, 0, 1e-3 },
    { &op_slice_rows, case_slice_rows, 1, 0, 0 },
    { &op_put_rows, case_put_rows, 1, 0, 0 },
    { &op_cache, case_cache, 1, 0, 0 },
    { &op_xent_head, case_xent_head, TYPES, 1, 3e-3 },
    { &op_kl_head, case_kl_head, TYPES, 1, 5e-3 },
    { &op_xent, case_xent, 1, 1, 3e-3 },
    { &op_unit, case_unit, 1, 0, 3e-3 },
    { &op_dot_rows, case_dot_rows, 1, 0, 1e-3 },
    { &op_match, case_match, 1, 1, 3e-3 },
    { &op_cosent, case_cosent, 1, 1, 3e-3 },
    { &op_triplet, case_triplet, 1, 1, 3e-3 },
    { &op_mse, case_mse, 2, 1, 3e-3 },
    { &op_bce, case_bce, 1, 1, 3e-3 },
    { &op_rank, case_rank, 2, 1, 3e-3 },
    { &op_span, case_span, 1, 1, 3e-3 },
};

static const struct op_case *case_of(const struct op *op)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (cases[i].op == op) return &cases[i];
    return NULL;
}

/* Builds the case and a loss on top; *value is where the loss's value goes. */
static tensor *build(struct setup *s, const struct op_case *c, double *value)
{
    tensor *first[MAX_LEAVES] = { 0 }, *loss;
    graph_reset(s->g);
    s->leaves = 0;
    loss = c->build(s);
    CHECK(loss != NULL);
    if (!loss) return NULL;
    if (!c->loss) {
        loss = g_dot(s->g, loss, numbers(s->arena, tensor_len(loss), 77), value);
    }
    for (int i = 0; i < s->leaves && s->wrap == WRAP_ADD; i++)
        if (s->wrapped[i]->op)
            first[i] = g_dot(s->g, s->wrapped[i], s->leaf[i].extra, NULL);
    for (int i = 0; i < s->leaves; i++)
        if (first[i]) loss = g_add(s->g, loss, first[i]);
    return loss;
}

static void run_loss(struct setup *s, tensor *loss, enum recompute policy)
{
    for (int i = 0; i < s->leaves; i++)
        memset(s->leaf[i].g, 0, (size_t)(s->leaf[i].rows * s->leaf[i].cols) * 4);
    CHECK_EQ(graph_plan(s->g, loss, policy, NULL), 0);
    CHECK_EQ(graph_reserve(s->g, 0, 0), 0);
    run_watched(s->g);
}

/* The loss at the present data: in double where the case allows it. */
static double loss_at(struct setup *s, const struct op_case *c, const double *value)
{
    memset(&s->stats, 0, sizeof s->stats);
    CHECK_EQ(graph_forward(s->g), 0);
    return c->loss ? (double)tensor_f32(s->g->node[s->g->n - 1])[0] : *value;
}

/* Gradients of all leaves at once, by the op and by differences. */
static void check_differences(struct setup *s, const struct op_case *c)
{
    const float step = 0.0078125f;
    double value = 0, worst = 0;
    tensor *loss = build(s, c, &value);
    if (!loss) return;
    run_loss(s, loss, RECOMPUTE_NONE);
    for (int i = 0; i < s->leaves; i++) {
        struct leaf_data *l = &s->leaf[i];
        for (int64_t j = 0; j < l->rows * l->cols; j++) {
            float x = l->x[j];
            l->x[j] = x + step;
            double up = loss_at(s, c, &value);
            l->x[j] = x - step;
            double down = loss_at(s, c, &value);
            l->x[j] = x;
            double want = (up - down) / (2 * (double)step);
            double off = fabs(want - (double)l->g[j]) / (1 + fabs(want));
            worst = off <= worst ? worst : off;
        }
    }
    CHECK_NEAR(worst, 0, c->tolerance);
    if (worst > c->tolerance) printf("  %s variant %d n %d\n", c->op->name, s->variant, s->n);
}

/* Every set of wanted operands, in every manner, gives the same numbers. */
static void check_sets(struct setup *s, const struct op_case *c, float *const *full)
{
    int leaves = s->leaves;
    double value;
    for (unsigned want = 1; want < 1u << leaves; want++) {
        for (int wrap = 0; wrap < WRAPS; wrap++) {
            double worst = 0;
            if (wrap == WRAP_ADD && c->op->root) continue;
            s->want = want;
            s->wrap = (enum wrap)wrap;
            tensor *loss = build(s, c, &value);
            if (!loss) return;
            run_loss(s, loss, (enum recompute)(want % 3));
            for (int i = 0; i < leaves; i++) {
                const struct leaf_data *l = &s->leaf[i];
                for (int64_t j = 0; j < l->rows * l->cols; j++) {
                    float base = wrap == WRAP_ADD && !l->direct ? l->extra[j] : 0.0f;
                    double expect = want >> i & 1 ? (double)full[i][j] + (double)base : 0;
                    double off = fabs((double)l->g[j] - expect) / (1 + fabs(expect));
                    worst = off <= worst ? worst : off;
                }
            }
            CHECK_NEAR(worst, 0, 1e-5);
            if (!(worst <= 1e-5))
                printf("  %s variant %d want %u wrap %d n %d\n", c->op->name, s->variant, want,
                       wrap, s->n);
        }
    }
}

static void check_case(struct rig *rig, const struct op_case *c, int variant, int shape)
{
    struct arena arena;
    float *full[MAX_LEAVES];
    struct setup s = { .rig = rig, .g = rig->g, .n = shapes[shape].n, .d = shapes[shape].d,
                       .m = shapes[shape].m, .variant = variant, .want = ~0u, .arena = &arena };
    arena_init(&arena, &rig->host.mem);
    if (!c->op->backward && !c->op->view) {          /* marked: inference only */
        double value;
        tensor *loss = build(&s, c, &value);
        CHECK_EQ(graph_plan(s.g, loss, RECOMPUTE_NONE, NULL), PEFT_EARG);
        CHECK_EQ(graph_forward(s.g), 0);
        arena_free(&arena);
        return;
    }
    double value;
    s.want = 0;                                      /* counts the leaves */
    tensor *probe = build(&s, c, &value);
    s.want = ~0u;
    if (probe && s.leaves > 0) {
        check_differences(&s, c);
        for (int i = 0; i < s.leaves; i++) {
            int64_t n = s.leaf[i].rows * s.leaf[i].cols;
            full[i] = arena_alloc(&arena, n * 4);
            memcpy(full[i], s.leaf[i].g, (size_t)n * 4);
        }
        check_sets(&s, c, full);
    } else if (probe) {
        CHECK_EQ(graph_forward(s.g), 0);
    }
    arena_free(&arena);
}

static void test_gradients(void)
{
    struct rig rig;
    rig_open(&rig, 2);
    for (int i = 0; ops_all[i]; i++) {
        const struct op_case *c = case_of(ops_all[i]);
        int before = test_bad;
        CHECK(c != NULL);
        if (!c) printf("  %s has no case\n", ops_all[i]->name);
        for (int v = 0; c && v < c->variants; v++)
            for (int shape = 0; shape < SHAPES; shape++) {
                check_case(&rig, c, v, shape);
                arena_reset(&rig.arena);
            }
        if (test_bad > before) printf("  in op %s\n", ops_all[i]->name);
    }
    rig_close(&rig);
}

/* --- values where they are known */
static void test_values(void)
{
    struct rig r;
    rig_open(&r, 1);
    float x[] = { 1, 2, 3, 4, 5, 6 }, w[] = { 1, -1, 0.5f }, cache[9] = { 9, 9, 9 };
    int32_t starts[] = { 0, 2 }, target[] = { 2, 0 }, at[] = { 2, 1 };
    struct loss_stats stats = { 0 };
    tensor *a = graph_leaf(r.g, "x", &qtype_f32, 2, 3, x, NULL);
    tensor *b = graph_leaf(r.g, "w", &qtype_f32, 1, 3, w, NULL);
    tensor *lin = g_linear(r.g, a, b), *mul = g_mul(r.g, a, b), *bias = g_bias(r.g, a, b);
    tensor *mean = g_pool_mean(r.g, a, starts, 1, 0), *slice = g_slice_cols(r.g, a, 1, 2);
    tensor *rows = g_concat_rows(r.g, a, b), *cols = g_concat_cols(r.g, slice, a);
    tensor *cached = g_cache(r.g, a, cache, at, 3), *loss = g_xent(r.g, a, target, 0.5f, &stats);
    tensor *second = g_slice_rows(r.g, a, 1, 1), *put = g_put_rows(r.g, a, b, 1);
    tensor *keep[] = { lin, mul, bias, mean, slice, rows, cols, cached, second, put, loss };
    for (size_t i = 0; i < ARRAY_LEN(keep); i++) graph_keep(keep[i]);
    CHECK_EQ(graph_forward(r.g), 0);
    CHECK_NEAR(tensor_f32(lin)[0], 0.5, 1e-6);
    CHECK_NEAR(tensor_f32(lin)[1], 2.0, 1e-6);
    CHECK_NEAR(tensor_f32(mul)[4], -5, 0);
    CHECK_NEAR(tensor_f32(bias)[5], 6.5, 0);
    CHECK_NEAR(tensor_f32(mean)[1], 3.5, 1e-6);
    CHECK_NEAR(tensor_f32(slice)[2], 5, 0);
    CHECK_NEAR(tensor_f32(rows)[7], -1, 0);
    CHECK_NEAR(tensor_f32(cols)[5 + 2], 4, 0);
    CHECK_EQ(cached->rows, 3);
    CHECK_NEAR(cache[0], 9, 0);
    CHECK_NEAR(cache[8], 3, 0);
    CHECK_NEAR(tensor_f32(second)[2], 6, 0);
    CHECK_NEAR(tensor_f32(put)[2], 3, 0);
    CHECK_NEAR(tensor_f32(put)[5], 0.5, 0);
    CHECK_NEAR(tensor_f32(loss)[0], 0.5 * (0.40760596 + 2.40760596), 1e-6);
    CHECK_NEAR(stats.loss, 0.40760596 + 2.40760596, 1e-6);
    CHECK_EQ(stats.count, 2);
    CHECK_EQ(stats.hits, 1);
    rig_close(&r);
}

/* The head in one and the head in parts agree, over several chunks. */
static void check_head_chunks(int all)
{
    struct rig r;
    rig_open(&r, 2);
    enum { N = 112, D = 4, V = 300000 };
    float *h = numbers(&r.arena, N * D, 1), *w = numbers(&r.arena, (int64_t)V * D, 2);
    float *gh = arena_alloc(&r.arena, N * D * 4), *gw = arena_alloc(&r.arena, (int64_t)V * D * 4);
    float *gh2 = arena_alloc(&r.arena, N * D * 4), *gw2 = arena_alloc(&r.arena, (int64_t)V * D * 4);
    int32_t rows[N], target[N];
    struct loss_stats one = { 0 }, two = { 0 };
    for (int32_t i = 0; i < N; i++) {
        rows[i] = all ? i : N - 1 - i;
        target[i] = i * 7001 % V;
    }
    tensor *th = graph_leaf(r.g, "h", &qtype_f32, N, D, h, gh);
    tensor *tw = graph_leaf(r.g, "w", &qtype_f32, V, D, w, gw);
    tensor *loss = g_xent_head(r.g, th, tw, NULL, all ? NULL : rows, target, N, 0.1f, &one);
    CHECK(loss && loss->op->steps(loss) == 3);
    CHECK_EQ(graph_plan(r.g, loss, RECOMPUTE_NONE, NULL), 0);
    CHECK_EQ(graph_reserve(r.g, 0, 0), 0);
    graph_start(r.g);
    CHECK_EQ(graph_run(r.g, 1e-9, NULL), 0);         /* stops after a chunk */
    CHECK_EQ(graph_run(r.g, 0, NULL), 1);
    double first = (double)tensor_f32(loss)[0];
    graph_reset(r.g);
    th = graph_leaf(r.g, "h", &qtype_f32, N, D, h, gh2);
    tw = graph_leaf(r.g, "w", &qtype_f32, V, D, w, gw2);
    loss = g_xent(r.g, g_linear(r.g, g_rows(r.g, th, rows, N), tw), target, 0.1f, &two);
    CHECK_EQ(graph_plan(r.g, loss, RECOMPUTE_NONE, NULL), 0);
    CHECK_EQ(graph_reserve(r.g, 0, 0), 0);
    graph_start(r.g);
    CHECK_EQ(graph_run(r.g, 0, NULL), 1);
    CHECK_NEAR(first, tensor_f32(loss)[0], 1e-5 * first);
    CHECK_NEAR(one.loss, two.loss, 1e-6 * two.loss);
    CHECK_EQ(one.count, N);
    CHECK_EQ(one.hits, two.hits);
    double worst = 0;
    for (int i = 0; i < N * D; i++) worst = fmax(worst, fabs((double)(gh[i] - gh2[i])));
    for (int i = 0; i < V * D; i++) worst = fmax(worst, fabs((double)(gw[i] - gw2[i])));
    CHECK_NEAR(worst, 0, 1e-5);
    rig_close(&r);
}

static void test_head_chunks(void)
{
    check_head_chunks(0);
    check_head_chunks(1);
}

static void test_no_targets(void)
{
    struct rig r;
    rig_open(&r, 1);
    float x[32] = { 1 }, g[32] = { 0 };
    int32_t none[1] = { 0 };
    tensor *h = g_scale(r.g, graph_leaf(r.g, "h", &qtype_f32, 4, 8, x, g), 2.0f);
    tensor *w = graph_leaf(r.g, "w", &qtype_f32, 3, 8, x, NULL);
    tensor *loss = g_xent_head(r.g, h, w, NULL, none, none, 0, 1.0f, NULL);
    CHECK_EQ(graph_plan(r.g, loss, RECOMPUTE_NONE, NULL), 0);
    CHECK_EQ(graph_reserve(r.g, 0, 0), 0);
    run_watched(r.g);
    CHECK_NEAR(tensor_f32(loss)[0], 0, 0);
    CHECK_NEAR(g[0], 0, 0);
    rig_close(&r);
}

/* The share of kept elements, their scale, and the mask's independence of how
 * the work is cut. */
static void test_dropout(void)
{
    struct rig r;
    rig_open(&r, 2);
    enum { N = 1000, D = 101 };
    float *ones = arena_alloc(&r.arena, N * D * 4), *last = arena_alloc(&r.arena, N * D * 4);
    for (int i = 0; i < N * D; i++) ones[i] = 1;
    tensor *x = graph_leaf(r.g, "x", &qtype_f32, N, D, ones, NULL);
    CHECK(g_dropout(r.g, x, 0.0f, 1, 1) == x);
    tensor *y = g_dropout(r.g, x, 0.25f, 7, 1), *z = g_dropout(r.g, x, 0.25f, 7, 2);
    graph_keep(y);
    CHECK_EQ(graph_forward(r.g), 0);
    int64_t kept = 0, odd = 0, both = 0;
    for (int i = 0; i < N * D; i++) {
        float v = tensor_f32(y)[i];
        kept += v > 0;
        both += v > 0 && tensor_f32(z)[i] > 0;
        odd += v > 0 && fabsf(v - 4.0f / 3) > 1e-6f;
    }
    for (uint32_t i = 0; i < N * D; i += 37) {       /* the documented draw */
        uint32_t q = i % 512, counter[4] = { i / 512 * 64 + q % 64, 0, 1, 0 }, u[4];
        philox4x32(counter, (uint32_t[2]){ 7, 0 }, u);
        odd += (u[q % 256 / 64] >> q / 256 * 16 & 0xffff) < 0x4000 ? tensor_f32(y)[i] > 0
                                                                  : tensor_f32(y)[i] <= 0;
    }
    CHECK_NEAR((double)kept / (N * D), 0.75, 0.01);
    CHECK_NEAR((double)both / (N * D), 0.5625, 0.01);
    CHECK_EQ(odd, 0);
    memcpy(last, y->x, (size_t)N * D * 4);
    graph_reset(r.g);
    x = graph_leaf(r.g, "x", &qtype_f32, 1, N * D, ones, NULL);
    y = g_dropout(r.g, x, 0.25f, 7, 1);
    CHECK_EQ(graph_forward(r.g), 0);
    CHECK(!memcmp(last, y->x, (size_t)N * D * 4));
    CHECK(!g_dropout(r.g, x, 1.0f, 7, 1) && graph_error(r.g) == PEFT_EARG);
    rig_close(&r);
}

int main(void)
{
    RUN(test_values);
    RUN(test_gradients);
    RUN(test_head_chunks);
    RUN(test_no_targets);
    RUN(test_dropout);
    return TEST_END();
}
