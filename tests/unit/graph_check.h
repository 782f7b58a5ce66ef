/* What test_ops.c and test_graph.c share: a machine to run graphs on, an op
 * that turns any value into a loss, and a run that is watched: memory that
 * the plan holds for dead is filled with NaN before each event, or chain of
 * them, which may change nothing but the buffers that the plan gives it. */
#ifndef TESTS_GRAPH_CHECK_H
#define TESTS_GRAPH_CHECK_H

#include <stdlib.h>

#include "base/rng.h"
#include "graph/plan.h"
#include "test.h"

struct rig {
    struct host host;
    struct pool *pool;
    struct blas *blas;
    struct compute c;
    struct graph *g;
    struct arena arena;                  /* data of leaves */
};

static void rig_open(struct rig *r, int threads)
{
    char advice[320];
    memset(r, 0, sizeof *r);
    CHECK_EQ(host_init(&r->host, NULL), 0);
    CHECK_EQ(pool_new(&r->host, threads, &r->pool), 0);
    CHECK_EQ(blas_open(&r->host, "none", &r->blas, advice, sizeof advice), 0);
    r->c = (struct compute){ .k = kernels_get(cpu_best()), .blas = r->blas, .pool = r->pool };
    CHECK_EQ(graph_new(&r->host, &r->c, &r->g), 0);
    arena_init(&r->arena, &r->host.mem);
}

static void rig_close(struct rig *r)
{
    graph_free(r->g);
    arena_free(&r->arena);
    mem_free(&r->host.mem, r->c.scratch);
    mem_free(&r->host.mem, r->c.panels);
    blas_close(&r->host, r->blas);
    pool_free(r->pool);
    CHECK_EQ(r->host.mem.live, 0);
}

/* Normal numbers at least 0.1 away from 0, where relu has its corner. */
static inline float *numbers(struct arena *a, int64_t n, uint64_t stream)
{
    float *x = arena_alloc(a, n * 4);
    rng_fill_normal(x, n, 1.0f, 20, stream);
    for (int64_t i = 0; i < n; i++) x[i] += x[i] < 0 ? -0.1f : 0.1f;
    return x;
}

/* --- the loss sum of x * w, whose gradient is w */
struct dot_args { const float *w; double *value; };

static int shape_dot(struct tensor *t, struct graph *g)
{
    (void)g;
    t->rows = t->cols = 1;
    return PEFT_OK;
}

static void forward_dot(const struct tensor *t, const struct run *r)
{
    const struct dot_args *a = t->args;
    double sum = 0;
    (void)r;
    for (int64_t i = 0; i < tensor_len(t->in[0]); i++)
        sum += (double)a->w[i] * (double)tensor_f32(t->in[0])[i];
    if (a->value) *a->value = sum;
    tensor_f32(t)[0] = (float)sum;
}

static void backward_dot(const struct tensor *t, const struct run *r)
{
    const struct dot_args *a = t->args;
    op_axpy(r, t->in[0]->g, a->w, t->g[0], adds(t, 0), tensor_len(t->in[0]));
}

static const struct op op_dot = { .name = "dot", .shape = shape_dot, .forward = forward_dot,
                                  .backward = backward_dot };

static inline tensor *g_dot(graph *g, tensor *x, const float *w, double *value)
{
    return graph_node(g, &op_dot, (tensor *[]){ x }, 1, 0, &(struct dot_args){ w, value },
                      sizeof(struct dot_args));
}

/* --- the watched run */
static int in_buffer(const struct graph *g, int32_t b, int64_t at)
{
    const struct buffer *u = b < 0 ? NULL : &g->plan.buffer[b];
    return u && at >= u->offset && at < u->offset + u->size;
}

static int event_writes(const struct graph *g, const struct event *ev, int64_t at)
{
    const struct tensor *t = g->node[ev->node];
    if (in_buffer(g, ev->temp, at)) return 1;
    if (ev->kind != EVENT_BACKWARD)
        return in_buffer(g, ev->value, at) || in_buffer(g, ev->aux, at);
    if (ev->node == g->plan.loss && in_buffer(g, g->plan.node[t->id].grad, at)) return 1;
    for (int k = 0; k < GRAPH_IN; k++)
        if (wants(t, k) && in_buffer(g, g->plan.node[t->in[k]->id].grad, at)) return 1;
    return 0;
}

static int may_write(const struct graph *g, int64_t e, int64_t end, int64_t at)
{
    while (e < end && !event_writes(g, &g->plan.event[e], at)) e++;
    return e < end;
}

/* Buffers do not overlap while they live, which they do as long as chains that they are in. */
static inline void check_layout(const struct graph *g)
{
    const struct plan *p = &g->plan;
    int64_t bad = 0;
    for (int64_t i = 0; i < p->n_buffers; i++) {
        const struct buffer *a = &p->buffer[i];
        bad += a->offset < 0 || a->offset % 64 || a->offset + a->size > p->slab ||
               a->first > a->last || p->event[a->first].chain < a->first ||
               (a->last + 1 < p->n_events && p->event[a->last + 1].chain <= a->last);
        for (int64_t j = 0; j < i; j++) {
            const struct buffer *b = &p->buffer[j];
            bad += a->first <= b->last && b->first <= a->last &&
                   a->offset < b->offset + b->size && b->offset < a->offset + a->size;
        }
    }
    CHECK_EQ(bad, 0);
    CHECK(p->slab >= p->floor);
}

/* Poisons what is not alive both before and in event e. */
static void poison(struct graph *g, int64_t e, uint8_t *alive)
{
    const struct plan *p = &g->plan;
    memset(alive, 0, (size_t)p->slab);
    for (int64_t b = 0; b < p->n_buffers; b++)
        if (p->buffer[b].first < e && p->buffer[b].last >= e)
            memset(alive + p->buffer[b].offset, 1, (size_t)p->buffer[b].size);
    for (int64_t i = 0; i < p->slab; i++)
        if (!alive[i]) g->slab[i] = (char)0xff;
}

static inline void run_watched(struct graph *g)
{
    const struct plan *p = &g->plan;
    uint8_t *alive = malloc((size_t)p->slab + 1);
    char *before = malloc((size_t)p->slab + 1);
    int64_t bad = 0;
    check_layout(g);
    graph_start(g);
    for (int64_t e = 0, end; e < p->n_events; e = end) {
        poison(g, e, alive);
        if (g->compute->scratch)
            memset(g->compute->scratch, 0xff,
                   (size_t)(g->compute->scratch_each * pool_threads(g->compute->pool)));
        memcpy(before, g->slab, (size_t)p->slab);
        while (g->at == e) graph_run(g, 1e-9, NULL);
        end = g->at;
        for (int64_t i = 0; i < p->slab; i++)
            bad += g->slab[i] != before[i] && !may_write(g, e, end, i);
    }
    CHECK_EQ(bad, 0);
    CHECK_EQ(graph_run(g, 0, NULL), 1);
    free(alive);
    free(before);
}

#endif
