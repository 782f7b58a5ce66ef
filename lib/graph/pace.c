/* What the nodes of a graph take on this machine.
 *
 * Nodes are of one kind when they have the same op, the same columns and the
 * same weights' shapes and types; they differ in rows.  One of each kind is run
 * by itself, forward and backward, on memory of its own.  Two measurements of a
 * kind at different sizes give fixed seconds and seconds per unit of work:
 *
 *     seconds = fixed + slope * work,  and at least 2 bytes / bandwidth of an op
 *
 * without flops: values that caches hold between the nodes of a small graph come
 * from memory in a large one.
 *
 * work: flops, or bytes of an op that has none.  A long forward counts by steps. */
#include "graph/plan.h"

#include <math.h>

enum { POINTS = 2, KINDS_MAX = 160, SWEEP = 2 << 20, FILL = 4096 };

struct kind {
    const struct op *op;
    const struct qtype *type[GRAPH_IN];
    int64_t cols, in_cols[GRAPH_IN], in_rows[GRAPH_IN];      /* rows: of weights */
    int64_t wants;
};

struct point { double work, seconds; };
struct timed { struct kind kind; struct point at[2][POINTS]; int n; };   /* [backward] */

struct pace {
    struct host *host;
    double bandwidth;                    /* bytes a second; 0 = not measured */
    struct timed timed[KINDS_MAX];
    int n;
};

int pace_new(struct host *h, struct pace **out)
{
    struct pace *p = *out = mem_zalloc(&h->mem, sizeof *p);
    if (p) p->host = h;
    return p ? PEFT_OK : PEFT_ENOMEM;
}

void pace_free(struct pace *p)
{
    if (p) mem_free(&p->host->mem, p);
}

static struct kind kind_of(const struct tensor *t)
{
    struct kind k;
    memset(&k, 0, sizeof k);
    k.op = t->op;
    k.cols = t->cols;
    for (int i = 0; i < GRAPH_IN; i++) {
        const struct tensor *in = t->in[i];
        if (!in) continue;
        k.type[i] = in->type;
        k.in_cols[i] = in->cols;
        if (i && !in->op) k.in_rows[i] = in->rows;
        k.wants |= (int64_t)(in->needs_grad != 0) << i;
    }
    return k;
}

static const struct timed *find_kind(const struct pace *p, const struct tensor *t)
{
    const struct kind k = kind_of(t);
    for (int i = 0; i < p->n; i++)
        if (!memcmp(&p->timed[i].kind, &k, sizeof k)) return &p->timed[i];
    return NULL;
}

static int64_t steps_of(const struct tensor *t, int backward)
{
    return !backward && t->op->steps ? t->op->steps(t) : 1;
}

static double work_of(const struct tensor *t, int backward)
{
    const struct cost c = op_cost(t, backward);
    return (c.flops > 0 ? c.flops : c.bytes) / (double)steps_of(t, backward);
}

/* --- running a node by itself */

/* A copy of a node and its operands, with memory of its own. */
struct bench {
    struct tensor t, in[GRAPH_IN];
    char *memory;
    int64_t bytes;
};

/* The next n bytes; while there is no memory only their number counts. */
static void *pace_room(struct bench *b, int64_t n)
{
    void *at = b->memory ? b->memory + b->bytes : NULL;
    b->bytes += div_up(n, PLAN_UNIT) * PLAN_UNIT;
    return at;
}

static void lay_bench(struct bench *b, const struct tensor *t)
{
    b->bytes = 0;
    b->t = *t;
    b->t.adds = 0;
    b->t.x = pace_room(b, tensor_len(t) * 4);
    b->t.g = pace_room(b, tensor_len(t) * 4);
    b->t.aux = pace_room(b, t->aux_bytes);
    b->t.temp = pace_room(b, MAX(t->temp_bytes, t->work_bytes));
    for (int k = 0; k < GRAPH_IN; k++) {
        if (!t->in[k]) continue;
        b->in[k] = *t->in[k];
        b->t.in[k] = &b->in[k];
        if (b->in[k].op || !b->in[k].x) b->in[k].x = pace_room(b, tensor_len(t->in[k]) * 4);
        if (b->in[k].needs_grad) b->in[k].g = pace_room(b, tensor_len(t->in[k]) * 4);
    }
}

/* Numbers of no meaning, neither zero nor large. */
static void fill_memory(struct bench *b)
{
    float some[FILL / 4];
    for (int i = 0; i < FILL / 4; i++) some[i] = (float)(i * 37 % 101 - 50) * 0.002f + 0.001f;
    for (int64_t at = 0; at < b->bytes; at += FILL)
        memcpy(b->memory + at, some, (size_t)MIN(FILL, b->bytes - at));
}

static double run_node(const struct graph *g, const struct bench *b, int backward)
{
    const struct run r = { g->compute, g->compute->k, 1, 0 };
    double begin = os_seconds();
    if (backward) b->t.op->backward(&b->t, &r);
    else b->t.op->forward(&b->t, &r);
    return os_seconds() - begin;
}

static void add_measured(struct timed *to, int backward, struct point at)
{
    struct point *p = to->at[backward];
    if (to->n >= POINTS) p[0] = p[1];
    p[MIN(to->n, POINTS - 1)] = at;
}

/* The best of some runs; the first one also brings weights into memory.  What takes long is
 * run less often. */
static void time_node(const struct graph *g, const struct bench *b, struct timed *to)
{
    static const double long_enough = 2e-3;
    for (int backward = 0; backward < 2; backward++) {
        if (backward && (!b->t.needs_grad || !b->t.op->backward)) continue;
        double seconds = run_node(g, b, backward);
        for (int i = 0; i < 2 && (seconds < long_enough || !i); i++)
            seconds = MIN(seconds, run_node(g, b, backward));
        add_measured(to, backward, (struct point){ work_of(&b->t, backward), seconds });
    }
    to->n++;
}

static int measure_node(struct pace *p, const struct graph *g, const struct tensor *t,
                        struct timed *to, int64_t memory)
{
    struct bench b = { .memory = NULL };
    lay_bench(&b, t);
    if (b.bytes > memory) return PEFT_OK;
    int64_t bytes = b.bytes;
    if (!(b.memory = mem_alloc(&p->host->mem, bytes))) return PEFT_ENOMEM;
    lay_bench(&b, t);
    fill_memory(&b);
    time_node(g, &b, to);
    mem_free(&p->host->mem, b.memory);
    return PEFT_OK;
}

/* --- memory */

struct sweep { const struct compute *c; float *x; int64_t n; };

static void sweep_piece(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct sweep *p = arg;
    (void)worker;
    p->c->k->add(p->x + begin, p->x + p->n + begin, p->x + begin, end - begin);
}

/* x += y beyond the caches. */
static int measure_bandwidth(struct pace *p, const struct compute *c, int64_t memory)
{
    struct sweep sweep = { c, NULL, MIN(SWEEP, memory / 8) };
    double seconds = INFINITY;
    if (sweep.n < 1) return PEFT_OK;
    if (!(sweep.x = mem_alloc(&p->host->mem, 2 * sweep.n * 4))) return PEFT_ENOMEM;
    c->k->fill(sweep.x, 1, 2 * sweep.n);
    for (int i = 0; i < 2; i++) {
        double begin = os_seconds();
        compute_rows(c, sweep.n, 16384, sweep_piece, &sweep);
        seconds = MIN(seconds, os_seconds() - begin);
    }
    p->bandwidth = 12.0 * (double)sweep.n / MAX(seconds, 1e-9);
    mem_free(&p->host->mem, sweep.x);
    return PEFT_OK;
}

/* --- the doors */

/* Flops a second of what was measured last of each kind. */
static double pace_rate(const struct pace *p)
{
    double flops = 0, seconds = 0;
    for (int i = 0; i < p->n; i++) {
        const struct timed *k = &p->timed[i];
        for (int backward = 0; backward < 2 && k->n && k->kind.op->flops; backward++) {
            const struct point *at = &k->at[backward][MIN(k->n, POINTS) - 1];
            flops += at->work, seconds += at->seconds;
        }
    }
    return seconds > 0 ? flops / seconds : 1e10;
}

int pace_measure(struct pace *p, struct graph *g, const char *only, double deadline,
                 int64_t memory)
{
    uint8_t seen[KINDS_MAX] = { 0 };
    if (!g->planned) return fail(PEFT_ESTATE, "a graph was to be measured before it was planned");
    int rc = graph_reserve_scratch(g, g->report.scratch);
    if (!rc && p->bandwidth <= 0) rc = measure_bandwidth(p, g->compute, memory);
    for (int64_t i = 0; i < g->n && !rc && os_seconds() < deadline; i++) {
        const struct tensor *t = g->node[i];
        if (!t->op || t->op->view || t->external || !g->plan.node[i].needed ||
            (only && strcmp(only, t->op->name)))
            continue;
        struct timed *to = (struct timed *)(uintptr_t)find_kind(p, t);
        if (!to) {
            if (p->n == KINDS_MAX) continue;
            to = &p->timed[p->n++];
            *to = (struct timed){ .kind = kind_of(t) };
        }
        double expected = op_cost(t, 0).flops / pace_rate(p);
        if (seen[to - p->timed] || os_seconds() + expected > deadline) continue;
        seen[to - p->timed] = 1;
        rc = measure_node(p, g, t, to, memory);
    }
    return rc;
}

/* One step of a node, or its backward. */
static double step_seconds(const struct pace *p, const struct timed *k, const struct tensor *t,
                           int backward)
{
    const struct cost c = op_cost(t, backward);
    double work = work_of(t, backward), least = p->bandwidth > 0 ? 2 * c.bytes / p->bandwidth : 0;
    if (!k || !k->n || k->at[backward][0].work <= 0) {
        return c.flops > 0 ? work / pace_rate(p) : least;
    }
    const struct point *a = k->at[backward], *b = &a[MIN(k->n, POINTS) - 1];
    double slope = b->seconds / b->work;
    if (b->work > a->work * 1.2 && b->seconds > a->seconds)
        slope = MIN(slope, (b->seconds - a->seconds) / (b->work - a->work));
    double seconds = b->seconds + slope * (work - b->work);
    return c.flops > 0 ? MAX(seconds, 0) : MAX(seconds, least);
}

double pace_plan(const struct pace *p, const struct graph *g)
{
    double sum = 0;
    for (int64_t e = 0; e < g->plan.n_events && g->planned; e++) {
        const struct event *ev = &g->plan.event[e];
        const struct tensor *t = g->node[ev->node];
        int backward = ev->kind == EVENT_BACKWARD;
        if (t->op->view) continue;
        sum += step_seconds(p, find_kind(p, t), t, backward) * (double)steps_of(t, backward);
    }
    return sum;
}

double pace_bytes(const struct pace *p, double bytes)
{
    return p->bandwidth > 0 ? bytes / p->bandwidth : 0;
}
