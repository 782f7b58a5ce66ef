/* The schedule: which nodes run forward, which backward, and which are
 * replayed, as events on one timeline.
 *
 * A value that the backward phase reads is kept from its forward event, or
 * made a second time just before the first reader (`again`):
 *   in the segments below the policy's number if it is only read within its
 *   own; what crosses segments is kept (Chen et al. 2016, "Training deep nets
 *   with sublinear memory cost").  They are the first ones because their turn
 *   comes when the values of the later ones are gone;
 *   elsewhere if its op is cheap and its operands are there anyway.
 * Replaying is driven by demand, so it is pruned to what gradients read.
 *
 * Row-wise ops that follow each other are a chain, run for a few rows at a time:
 * one pass over memory for a sum and the norm behind it. */
#include "graph/plan.h"

unsigned plan_reads(const struct tensor *t)
{
    unsigned reads = 0;
    for (int k = 0; k < GRAPH_IN; k++)
        if (wants(t, k)) reads |= t->op->save[k];
    return reads;
}

static bool is_view(const struct tensor *t)
{
    return t->op && t->op->view;
}

static void mark_bases(struct plan *p, struct tensor *const *node)
{
    for (int64_t i = 0; i < p->n_nodes; i++) {
        const struct tensor *t = node[i];
        p->node[i] = (struct plan_node){ .base = (int32_t)i, .value = -1, .aux = -1, .grad = -1,
                                         .left = -1, .latest = -1, .last = { -1, -1 } };
        if (is_view(t)) p->node[i].base = p->node[t->in[0]->id].base;
    }
    for (int64_t i = 0; i < p->n_nodes; i++)
        if (!node[i]->op || node[i]->keep || node[i]->external)
            p->node[p->node[i].base].fixed = 1;
}

/* Consumers come after their operands, so one walk back finds what is needed
 * and another what has a gradient to pass on. */
static void mark_needed(struct plan *p, struct tensor *const *node)
{
    for (int64_t i = p->n_nodes - 1; i >= 0; i--) {
        const struct tensor *t = node[i];
        if (t->keep || t->external) p->node[i].needed = 1;
        if (!p->node[i].needed) continue;
        for (int k = 0; k < GRAPH_IN; k++)
            if (t->in[k]) p->node[t->in[k]->id].needed = 1;
    }
    if (p->loss < 0) return;
    p->node[p->loss].visited = 1;
    for (int64_t i = p->loss; i >= 0; i--)
        for (int k = 0; p->node[i].visited && k < GRAPH_IN; k++)
            if (wants(node[i], k)) p->node[node[i]->in[k]->id].visited = 1;
}

static void mark_saved(struct plan *p, struct tensor *const *node)
{
    for (int64_t i = 0; i < p->n_nodes; i++) {
        const struct tensor *t = node[i];
        if (!t->op || !p->node[i].visited) continue;
        unsigned reads = plan_reads(t);
        for (int k = 0; k < GRAPH_IN; k++)
            if (t->in[k] && reads >> k & 1) p->node[p->node[t->in[k]->id].base].saved = 1;
        if (reads & SAVE_OUT) p->node[p->node[i].base].saved = 1;
    }
}

static bool is_whole(const struct plan *p, const struct tensor *t)
{
    return t->segment >= 0 && t->segment < p->policy;
}

static void choose_layers(struct plan *p, struct tensor *const *node)
{
    for (int64_t i = 0; i < p->n_nodes; i++) {
        const struct tensor *t = node[i];
        for (int k = 0; p->node[i].needed && k < GRAPH_IN; k++) {
            if (!t->in[k]) continue;
            int32_t b = p->node[t->in[k]->id].base;
            if (node[b]->segment != t->segment) p->node[b].pinned = 1;
        }
    }
    for (int64_t i = 0; i < p->n_nodes; i++) {
        const struct plan_node *b = &p->node[p->node[i].base];
        if (node[i]->op)
            p->node[i].again = is_whole(p, node[b->base]) && !b->fixed && !b->pinned;
    }
}

/* Making the cheap node i again needs its operands: those that are not there
 * anyway must be kept for it, which has to be less than keeping i. */
static bool pays(struct plan *p, struct tensor *const *node, int64_t i)
{
    int64_t forced = 0;
    const struct tensor *t = node[i];
    for (int pass = 0; pass < 2; pass++) {
        for (int k = 0; k < GRAPH_IN; k++) {
            if (!t->in[k]) continue;
            struct plan_node *b = &p->node[p->node[t->in[k]->id].base];
            if (b->fixed || b->saved || b->again) continue;
            if (pass) b->saved = 1;
            else forced += tensor_len(node[b->base]);
        }
        if (forced >= (p->node[i].saved ? tensor_len(t) : 1)) return false;
    }
    return true;
}

static void choose_cheap(struct plan *p, struct tensor *const *node)
{
    for (int64_t i = 0; i < p->n_nodes; i++) {
        struct plan_node *n = &p->node[i];
        if (!node[i]->op || !n->needed || is_whole(p, node[n->base])) continue;
        if (is_view(node[i])) n->again = p->node[n->base].again;
        else if (node[i]->op->cheap && !n->fixed) n->again = pays(p, node, i);
    }
}

static void add_event(struct plan *p, int64_t node, enum event_kind kind)
{
    int32_t e = (int32_t)p->n_events++;
    p->event[e] = (struct event){ (int32_t)node, kind, -1, -1, -1, e };
}

/* Replays node i after whatever it needs: a walk in depth, with a stack. */
static void demand(struct plan *p, struct tensor *const *node, int32_t i)
{
    int32_t *stack = p->work;
    int64_t top = 0;
    if (!p->node[i].again || p->node[i].replayed) return;
    stack[top++] = i;
    while (top > 0) {
        const struct tensor *t = node[stack[top - 1]];
        int64_t before = top;
        for (int k = GRAPH_IN - 1; k >= 0; k--) {
            const struct plan_node *u = t->in[k] ? &p->node[t->in[k]->id] : NULL;
            if (u && u->again && !u->replayed) stack[top++] = t->in[k]->id;
        }
        if (top > before) continue;
        top--;
        if (p->node[t->id].replayed) continue;
        p->node[t->id].replayed = 1;
        add_event(p, t->id, EVENT_REPLAY);
    }
}

/* Whether row i of what event e makes takes row i of all other values that it reads. */
static bool makes_rows(const struct plan *p, struct tensor *const *node, int32_t e)
{
    const struct tensor *t = node[p->event[e].node];
    if (p->event[e].kind == EVENT_BACKWARD || !t->op->rows) return false;
    for (int k = 0; k < GRAPH_IN; k++)
        if (t->in[k] && node[p->node[t->in[k]->id].base]->op && !by_rows(t, k)) return false;
    return true;
}

/* Whether event e reads what those from `first` on make, and each of them has a multiple of
 * the other's rows.  A value that somebody looks at may not be written over at once. */
static bool joins(const struct plan *p, struct tensor *const *node, int32_t first, int32_t e)
{
    const struct tensor *t = node[p->event[e].node];
    bool reads = false;
    if (e - first == CHAIN || node[p->event[e - 1].node]->watched) return false;
    for (int32_t i = first; i < e; i++) {
        const struct tensor *u = node[p->event[i].node];
        if (MAX(t->rows, u->rows) % MIN(t->rows, u->rows)) return false;
        for (int k = 0; k < GRAPH_IN; k++)
            reads |= t->in[k] && p->node[t->in[k]->id].base == p->node[u->id].base;
    }
    return reads;
}

static void make_chains(struct plan *p, struct tensor *const *node)
{
    for (int32_t e = 1; e < p->n_events; e++) {
        int32_t first = p->event[e - 1].chain;
        bool rows = makes_rows(p, node, e) || is_view(node[p->event[e].node]);
        if (rows && makes_rows(p, node, first) && joins(p, node, first, e))
            p->event[e].chain = first;
    }
}

void plan_schedule(struct plan *p, struct tensor *const *node)
{
    p->n_events = 0;
    mark_bases(p, node);
    mark_needed(p, node);
    mark_saved(p, node);
    if (p->policy > RECOMPUTE_CHEAP) choose_layers(p, node);
    if (p->policy >= RECOMPUTE_CHEAP) choose_cheap(p, node);
    for (int64_t i = 0; i < p->n_nodes; i++)
        if (node[i]->op && p->node[i].needed) add_event(p, i, EVENT_FORWARD);
    for (int64_t i = p->loss; i >= 0; i--) {
        const struct tensor *t = node[i];
        if (!t->op || !p->node[i].visited || is_view(t)) continue;
        unsigned reads = plan_reads(t);
        for (int k = 0; k < GRAPH_IN; k++)
            if (t->in[k] && reads >> k & 1) demand(p, node, t->in[k]->id);
        if (reads & SAVE_OUT) demand(p, node, t->id);
        add_event(p, i, EVENT_BACKWARD);
    }
    make_chains(p, node);
}
