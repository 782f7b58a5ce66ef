/* What the nodes of a graph take on this machine.
 *
 * Nodes are of one kind when they have the same op, the same columns and the
 * same weights' shapes and types; they differ in rows.  One of each kind, that
 * with most rows, is run by itself, forward and backward, on memory of its own.
 * Two measurements of a kind at different sizes give fixed seconds and seconds
 * per unit of work:
 *
 *     seconds = fixed + slope * work + bytes / bandwidth
 *
 * the last because what caches hold while a node is run again and again comes
 * from memory in a large graph.  What is measured is the best of several; over a
 * run of many nodes, processors give less than that (SUSTAINED).
 *
 * work: flops, or bytes of an op that has none.  A long forward counts by steps. */
#include "graph/plan.h"

#include <math.h>

enum { KINDS_MAX = 160, SWEEP = 2 << 20, FILL = 4096 };

#define SUSTAINED 1.08

struct kind {
    const struct op *op;
    const struct qtype *type[GRAPH_IN];
    int64_t cols, in_cols[GRAPH_IN], in_rows[GRAPH_IN];      /* rows: of weights */
    int64_t wants;
};

struct point { double work, seconds; };
/* [backward]; the two of most work, in this order; work 0 = none. */
struct timed { struct kind kind; struct point at[2][2]; };

struct pace {
    struct host *host;
    double bandwidth, fresh;             /* bytes a second; 0 = not measured; seconds a byte
                                            that is written first */
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
    b->t.adds = b->t.leaves = 0;
    b->t.left = NULL;
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

static double run_node(const struct graph *g, struct bench *b, int backward)
{
    const struct run r = { g->compute, g->compute->k, 1, 0 };
    double begin = os_seconds();
    if (backward) b->t.op->backward(&b->t, &r);
    else op_forward((struct tensor *[]){ &b->t }, 1, &r);
    return os_seconds() - begin;
}

static void add_measured(struct timed *to, int backward, struct point at)
{
    struct point *p = to->at[backward];
    for (int k = 0; k < 2; k++)
        if (p[k].work == at.work) {
            p[k].seconds = MIN(p[k].seconds, at.seconds);
            return;
        }
    if (at.work > p[1].work) p[0] = p[1], p[1] = at;
    else if (at.work > p[0].work) p[0] = at;
}

/* The better of two runs; the first one also brings weights into memory. */
static void time_node(const struct graph *g, struct bench *b, struct timed *to)
{
    for (int backward = 0; backward < 2; backward++) {
        if (backward && (!b->t.needs_grad || !b->t.op->backward)) continue;
        double seconds = run_node(g, b, backward);
        seconds = MIN(seconds, run_node(g, b, backward));
        add_measured(to, backward, (struct point){ work_of(&b->t, backward), seconds });
    }
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

static void fill_piece(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct sweep *p = arg;
    (void)worker;
    p->c->k->fill(p->x + begin, 1, end - begin);
}

/* x += y beyond the caches, and before it the first touch of both; the best so far counts. */
static int measure_bandwidth(struct pace *p, const struct compute *c, int64_t memory)
{
    struct sweep sweep = { c, NULL, MIN(SWEEP, memory / 8) };
    if (sweep.n <= 0) return PEFT_OK;
    if (!(sweep.x = mem_alloc(&p->host->mem, 2 * sweep.n * 4))) return PEFT_ENOMEM;
    double begin = os_seconds();
    compute_rows(c, 2 * sweep.n, 16384, fill_piece, &sweep);
    double filled = os_seconds(), fresh = (filled - begin) / (8.0 * (double)sweep.n);
    compute_rows(c, sweep.n, 16384, sweep_piece, &sweep);
    p->fresh = p->bandwidth > 0 ? MIN(p->fresh, fresh) : fresh;
    p->bandwidth = MAX(p->bandwidth, 12.0 * (double)sweep.n / MAX(os_seconds() - filled, 1e-9));
    mem_free(&p->host->mem, sweep.x);
    return PEFT_OK;
}

/* --- the doors */

/* Flops a second of what was measured of each kind, and of a guess that counts as long as that
 * is little. */
static double pace_rate(const struct pace *p)
{
    double flops = 1e9, seconds = flops / 1e11;
    for (int i = 0; i < p->n; i++) {
        const struct timed *k = &p->timed[i];
        for (int backward = 0; backward < 2 && k->kind.op->flops; backward++) {
            flops += k->at[backward][1].work;
            seconds += k->at[backward][1].seconds;
        }
    }
    return flops / seconds;
}

/* The graph's kinds, and of each the node with most work: of others rows may have been left
 * out.  NULL = the graph has none. */
static void find_nodes(struct pace *p, const struct graph *g, const char *only,
                       const struct tensor **node)
{
    memset(node, 0, KINDS_MAX * sizeof *node);
    for (int64_t i = 0; i < g->n; i++) {
        const struct tensor *t = g->node[i];
        if (!t->op || t->op->view || t->external || !g->plan.node[i].needed ||
            (only && strcmp(only, t->op->name)))
            continue;
        const struct timed *found = find_kind(p, t);
        if (!found && p->n == KINDS_MAX) continue;
        int64_t k = found ? found - p->timed : p->n++;
        if (!found) p->timed[k] = (struct timed){ .kind = kind_of(t) };
        if (!node[k] || work_of(t, 0) > work_of(node[k], 0)) node[k] = t;
    }
}

int pace_measure(struct pace *p, struct graph *g, const char *only, double deadline,
                 int64_t memory)
{
    const struct tensor *node[KINDS_MAX];
    if (!g->planned) return fail(PEFT_ESTATE, "a graph was to be measured before it was planned");
    int rc = graph_reserve_scratch(g, g->report.scratch);
    if (!rc && !only && (p->bandwidth <= 0 || os_seconds() < deadline))
        rc = measure_bandwidth(p, g->compute, memory);
    find_nodes(p, g, only, node);
    for (int k = p->n - 1; k >= 0 && !rc; k--)
        if (node[k] && os_seconds() + op_cost(node[k], 0).flops / pace_rate(p) <= deadline)
            rc = measure_node(p, g, node[k], &p->timed[k], memory);
    return rc;
}

/* What is measured comes from the system while caches have it; more of it comes slower. */
double pace_fresh(const struct pace *p, double bytes) { return 1.6 * p->fresh * bytes; }

/* Pages come 64 KB at a time. */
double pace_mapped(double bytes) { return 1.5e-10 * bytes; }

double pace_bytes(const struct pace *p, double bytes)
{
    return p->bandwidth > 0 ? bytes / p->bandwidth : 0;
}

/* One step of a node, or its backward. */
static double step_seconds(const struct pace *p, const struct timed *k, const struct tensor *t,
                           int backward)
{
    const struct cost c = op_cost(t, backward);
    double work = work_of(t, backward);
    double moved = pace_bytes(p, c.bytes) / (double)steps_of(t, backward);
    if (!k || k->at[backward][1].work <= 0)
        return c.flops > 0 ? work / pace_rate(p) + moved : 2 * moved;
    const struct point *a = k->at[backward], *b = a + 1;
    double slope = b->seconds / b->work;
    if (b->work > a->work * 1.2 && b->seconds > a->seconds)
        slope = MIN(slope, (b->seconds - a->seconds) / (b->work - a->work));
    return MAX(b->seconds + slope * (work - b->work), 0) + moved;
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
    return SUSTAINED * sum;
}
