/* From a plan to results: memory, the event loop, profiles, and the search
 * for the first value that is not finite. */
#include "graph/plan.h"

#include <stdio.h>

void graph_release(struct graph *g)
{
    mem_free(&g->host->mem, g->slab);
    g->slab = NULL;
    g->slab_bytes = 0;
}

void graph_limit(struct graph *g, int64_t slab)
{
    g->limit = slab;
}

static void *large_alloc(struct mem *m, int64_t bytes)
{
    void *at = mem_alloc(m, bytes);
    if (at) os_large_pages(at, bytes);
    return at;
}

int graph_reserve_scratch(struct graph *g, int64_t scratch)
{
    struct mem *m = &g->host->mem;
    struct compute *c = g->compute;
    if (scratch > c->scratch_each) {
        int64_t each, all;
        mem_free(m, c->scratch);
        c->scratch = NULL;
        c->scratch_each = 0;
        if (!align_ok(scratch, 64, &each) || !mul_ok(each, pool_threads(c->pool), &all))
            return fail(PEFT_ENOMEM, "scratch of %lld bytes", (long long)scratch);
        if (!(c->scratch = large_alloc(m, all))) return PEFT_ENOMEM;
        c->scratch_each = each;
    }
    int64_t panels = MAX(g->panels, scratch ? PANELS_MIN : 0);
    if (panels > c->panels_bytes) {
        mem_free(m, c->panels);
        c->panels_bytes = 0;
        if (!(c->panels = large_alloc(m, panels))) return PEFT_ENOMEM;
        c->panels_bytes = panels;
    }
    return PEFT_OK;
}

int graph_reserve(struct graph *g, int64_t slab, int64_t scratch)
{
    if (g->planned) {
        slab = MAX(slab, g->report.slab);
        scratch = MAX(scratch, g->report.scratch);
    }
    if (g->limit && slab > g->limit)
        return fail(PEFT_ENOMEM, "%lld bytes are needed, and the memory limit leaves %lld",
                    (long long)slab, (long long)g->limit);
    if (slab > g->slab_bytes) {
        graph_release(g);                /* so that the old and the new never add up */
        if (!(g->slab = large_alloc(&g->host->mem, slab))) return PEFT_ENOMEM;
        g->slab_bytes = slab;
    }
    return graph_reserve_scratch(g, scratch);
}

static void *buffer_at(const struct graph *g, int32_t i)
{
    return i < 0 ? NULL : g->slab + g->plan.buffer[i].offset;
}

void graph_start(struct graph *g)
{
    const struct plan *p = &g->plan;
    for (int64_t i = 0; i < g->n; i++) {
        struct tensor *t = g->node[i];
        if (!t->op) continue;
        const struct tensor *base = g->node[p->node[i].base];
        t->adds = p->node[i].adds;
        t->leaves = p->node[i].leaves;
        t->left = p->node[i].left < 0 ? NULL : g->node[p->node[i].left];
        t->g = base->op ? buffer_at(g, p->node[i].grad) : base->g;
    }
    g->at = g->step = 0;
    g->packed = NULL;
}

/* Pointers move as the plan says. */
static struct tensor *place_value(const struct graph *g, const struct event *ev)
{
    struct tensor *t = g->node[ev->node];
    t->temp = buffer_at(g, ev->temp);
    if (ev->kind == EVENT_BACKWARD) return t;
    if (t->op->view) t->x = t->in[0]->x;
    if (ev->value >= 0) t->x = buffer_at(g, ev->value);
    if (ev->aux >= 0) t->aux = buffer_at(g, ev->aux);
    return t;
}

/* What is to be done when an event is over. */
static void end_event(const struct graph *g, const struct event *ev)
{
    const struct tensor *t = g->node[ev->node];
    for (int k = 0; g->read && k < GRAPH_IN; k++)
        if (t->in[k] && !t->in[k]->op) g->read(g->read_arg, t->in[k]);
    if (t->watched && g->see && ev->kind == EVENT_FORWARD) g->see(g->see_arg, t);
}

/* Runs the next events of a chain, `most` of them, or one step of an event.  What x was packed
 * for a product stays packed while nothing but rows is worked on. */
static void run_events(struct graph *g, int most)
{
    const struct event *ev = &g->plan.event[g->at];
    const struct run r = { g->compute, g->compute->k, g->plan.loss >= 0, g->step };
    struct tensor *chain[CHAIN], *t = chain[0] = place_value(g, ev);
    int64_t steps = 1;
    int n = 1;
    if (ev->kind == EVENT_BACKWARD) {
        if (ev->node == g->plan.loss) t->g[0] = 1.0f;
        t->op->backward(t, &r);
        g->packed = NULL;
    } else {
        for (; n < most && g->at + n < g->plan.n_events && ev[n].chain == ev->chain; n++)
            chain[n] = place_value(g, ev + n);
        if (t->op->steps) steps = t->op->steps(t);
        g->compute->again = t->op->packs && g->packed == t->in[0];
        op_forward(chain, n, &r);
        g->compute->again = 0;
        if (t->op->forward) g->packed = t->op->packs ? t->in[0] : NULL;
    }
    if (++g->step < steps) return;
    g->step = 0;
    g->at += n;
    for (int i = 0; i < n; i++) end_event(g, ev + i);
}

static double event_bytes(const struct graph *g, const struct event *ev)
{
    return op_cost(g->node[ev->node], ev->kind == EVENT_BACKWARD).bytes;
}

/* What an event took, `seconds`, and whether it is over. */
static void note_event(struct graph *g, const struct event *ev, double seconds, bool over)
{
    const struct tensor *t = g->node[ev->node], *w = op_weight(t);
    const struct cost cost = op_cost(t, ev->kind == EVENT_BACKWARD);
    const struct work now = { .name = t->op->name, .type = w ? w->type->name : "",
                              .in = w ? w->cols : 0,
                              .out = w && w != t->in[0] ? w->rows : t->cols,
                              .backward = ev->kind == EVENT_BACKWARD,
                              .half = w && t->op->flops && compute_half(g->compute),
                              .calls = over, .rows = over ? t->rows : 0, .seconds = seconds,
                              .flops = over ? cost.flops : 0, .bytes = over ? cost.bytes : 0 };
    profile_add(g->profile, &now);
}

/* Each of a chain takes its part of the time by the bytes that it would move alone. */
static void run_timed(struct graph *g)
{
    const struct event *ev = &g->plan.event[g->at];
    double begin = os_seconds(), all = 0, seconds;
    int64_t at = g->at;
    run_events(g, CHAIN);
    seconds = os_seconds() - begin;
    int64_t n = MAX(g->at - at, 1);
    for (int64_t i = 0; i < n; i++) all += event_bytes(g, ev + i);
    for (int64_t i = 0; i < n; i++)
        note_event(g, ev + i, n > 1 ? seconds * event_bytes(g, ev + i) / all : seconds, !g->step);
}

int graph_run(struct graph *g, double deadline, const _Atomic int *stop)
{
    g->packed = NULL;
    while (g->at < g->plan.n_events) {
        if (stop && *stop) return 0;
        if (g->profile) run_timed(g);
        else run_events(g, CHAIN);
        if (deadline > 0 && os_seconds() >= deadline) return g->at == g->plan.n_events;
    }
    return 1;
}

int graph_forward(struct graph *g)
{
    int rc = graph_plan(g, NULL, RECOMPUTE_NONE, NULL);
    if (!rc) rc = graph_reserve(g, 0, 0);
    if (rc) return rc;
    graph_start(g);
    graph_run(g, 0, NULL);
    return PEFT_OK;
}

void graph_profile(struct graph *g, struct profile *p)
{
    g->profile = p;
}

static bool is_finite(const struct graph *g, const void *x, const struct tensor *t)
{
    return !x || t->type != &qtype_f32 || g->compute->k->finite(x, tensor_len(t));
}

static const char *name_bad(struct graph *g, const char *what, const struct tensor *t)
{
    int n = snprintf(g->bad, sizeof g->bad, "%s%s%s%s%s", what, t->op ? t->op->name : "",
                     t->op && t->name ? " " : "", t->name ? t->name : "",
                     t->op || t->name ? "" : "a leaf");
    if (t->segment >= 0 && n >= 0 && n < (int)sizeof g->bad)
        snprintf(g->bad + n, sizeof g->bad - (size_t)n, ", layer %d", (int)t->segment);
    return g->bad;
}

/* What the event that has just run read and wrote. */
static const char *first_bad(struct graph *g, const struct event *ev)
{
    const struct tensor *t = g->node[ev->node];
    for (int k = 0; k < GRAPH_IN; k++) {
        const struct tensor *u = t->in[k];
        if (u && !u->op && !is_finite(g, u->x, u)) return name_bad(g, "", u);
        if (ev->kind == EVENT_BACKWARD && wants(t, k) && !is_finite(g, u->g, u))
            return name_bad(g, "the gradient of ", u);
    }
    if (ev->kind != EVENT_BACKWARD && !is_finite(g, t->x, t))
        return name_bad(g, "the result of ", t);
    return NULL;
}

const char *graph_find_nonfinite(struct graph *g)
{
    const char *bad = NULL;
    if (!g->planned || !g->slab) return NULL;
    for (int64_t i = 0; i < g->n; i++) {
        const struct tensor *t = g->node[i];
        if (!t->op && t->g) memset(t->g, 0, (size_t)tensor_len(t) * sizeof *t->g);
    }
    graph_start(g);
    while (!bad && g->at < g->plan.n_events) {
        const struct event *ev = &g->plan.event[g->at];
        do run_events(g, 1);
        while (g->step);
        bad = first_bad(g, ev);
    }
    return bad;
}
