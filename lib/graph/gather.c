/* Fewer rows.  Of the last layer only some rows may count: those of trained tokens, of
 * [CLS], of the token that an answer begins behind.  Gathering rows of a value is then the
 * same as making the value from gathered rows of its operands, for every op that works
 * row by row; queries of attention are such rows, its keys are not.
 *
 * The walk goes down from x, from consumers to operands.  A value that somebody needs as a
 * whole, that no row-wise op has made, or that the caller looks at, is where rows are
 * gathered; all others are made anew, on fewer rows, and nobody needs the old ones. */
#include "graph/plan.h"

enum { WANT_ROWS = 1, WANT_ALL = 2 };
struct gather {
    struct graph *graph;
    const int32_t *index;
    int64_t n, low;                      /* no node below `low` is wanted by rows */
    uint8_t *want;                       /* of nodes up to x */
    struct tensor **made;
};

const int32_t *graph_pick(struct graph *g, const int32_t *at, const int32_t *index, int64_t n)
{
    int32_t *to = at ? arena_alloc(&g->arena, n * (int64_t)sizeof *to) : NULL;
    for (int64_t i = 0; to && i < n; i++) to[i] = at[index[i]];
    return to;
}

/* Marks what each operand is wanted for; from consumers to operands. */
static void mark(struct gather *w, int64_t top)
{
    w->low = top;
    for (int64_t i = top; i >= w->low; i--) {
        struct tensor *t = w->graph->node[i];
        if (!w->want[i]) continue;
        if (!t->op || !t->op->rowwise || t->keep || t->watched || t->external)
            w->want[i] |= WANT_ALL;
        for (int k = 0; t->op && k < GRAPH_IN; k++) {
            if (!t->in[k]) continue;
            bool rows = w->want[i] == WANT_ROWS && by_rows(t, k);
            w->want[t->in[k]->id] |= rows ? WANT_ROWS : WANT_ALL;
            if (rows) w->low = MIN(w->low, t->in[k]->id);
        }
    }
}

static struct tensor *make_rows(struct gather *w, const struct tensor *t)
{
    struct graph *g = w->graph;
    struct tensor *in[GRAPH_IN] = { 0 };
    void *args = t->args_bytes ? arena_alloc(&g->arena, t->args_bytes) : NULL;
    if (t->args_bytes) {
        if (!args) return graph_fail(g, PEFT_ENOMEM, "no memory for %s", t->op->name);
        memcpy(args, t->args, (size_t)t->args_bytes);
    }
    if (t->op->gather && t->op->gather(g, args, w->index, w->n))
        return graph_fail(g, PEFT_ENOMEM, "no memory for rows of %s", t->op->name);
    for (int k = 0; k < GRAPH_IN; k++)
        if (t->in[k]) in[k] = by_rows(t, k) ? w->made[t->in[k]->id] : t->in[k];
    unsigned absent = 0;
    for (int k = 0; k < GRAPH_IN; k++) absent |= (unsigned)!t->in[k] << k;
    g->name = t->name;
    g->segment = t->segment;
    return graph_node(g, t->op, in, GRAPH_IN, absent, args, (size_t)t->args_bytes);
}

struct tensor *graph_gather(struct graph *g, struct tensor *x, const int32_t *index, int64_t n)
{
    if (g->error || n >= x->rows) return NULL;
    int64_t nodes = x->id + 1;
    struct gather w = { .graph = g, .index = index, .n = n };
    w.want = arena_alloc(&g->arena, nodes);
    w.made = arena_alloc(&g->arena, nodes * (int64_t)sizeof(void *));
    if (!w.want || !w.made) return graph_fail(g, PEFT_ENOMEM, "no memory to gather rows");
    const char *name = g->name;
    int32_t segment = g->segment;
    w.want[x->id] = WANT_ROWS;
    mark(&w, x->id);
    for (int64_t i = w.low; i < nodes && w.low < x->id && !g->error; i++) {
        if (!(w.want[i] & WANT_ROWS)) continue;
        struct tensor *t = g->node[i];
        g->segment = t->segment;
        w.made[i] = w.want[i] == WANT_ROWS ? make_rows(&w, t) : graph_rows(g, t, index, n);
    }
    g->name = name;
    g->segment = segment;
    return w.made[x->id];
}
