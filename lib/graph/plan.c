/* graph_plan: from nodes to events, buffers and offsets, or the previous plan
 * when the same nodes come again. */
#include "graph/plan.h"

static int check_loss(const struct graph *g, const struct tensor *loss)
{
    if (loss->id >= g->n || g->node[loss->id] != loss || !loss->op || loss->op->view)
        return fail(PEFT_EARG, "the loss is not a computed value of this graph");
    if (tensor_len(loss) != 1)
        return fail(PEFT_EARG, "the loss is [%lld, %lld], expected [1, 1]",
                    (long long)loss->rows, (long long)loss->cols);
    if (!loss->needs_grad)
        return fail(PEFT_ESTATE, "the loss depends on nothing that trains");
    return PEFT_OK;
}

static int check_gradients(const struct graph *g, const struct tensor *loss)
{
    for (int64_t i = 0; i < g->n; i++) {
        const struct tensor *t = g->node[i];
        const char *name = t->name ? t->name : "a node";
        if (!t->op || !g->plan.node[i].needed) continue;
        if (g->plan.node[i].visited && !t->op->view && !t->op->backward)
            return fail(PEFT_EARG, "%s: %s has no gradient", name, t->op->name);
        for (int k = 0; k < GRAPH_IN && t != loss; k++)
            if (t->op->root >> k & 1 && wants(t, k))
                return fail(PEFT_EARG, "%s: %s with trainable weights must be the loss", name,
                            t->op->name);
    }
    return PEFT_OK;
}

static struct plan_key key_of(const struct tensor *t)
{
    struct plan_key key;
    memset(&key, 0, sizeof key);
    key.op = t->op;
    key.type = t->type;
    key.rows = t->rows;
    key.cols = t->cols;
    key.aux_bytes = t->aux_bytes;
    key.temp_bytes = t->temp_bytes;
    key.work_bytes = t->work_bytes;
    for (int k = 0; k < GRAPH_IN; k++) key.in[k] = t->in[k] ? t->in[k]->id : -1;
    key.segment = t->segment;
    key.flags = t->needs_grad | t->keep << 1 | t->external << 2 | t->watched << 3;
    return key;
}

/* Writes the keys; true when they are those of the plan that is there. */
static bool same_keys(struct graph *g, int32_t loss, enum recompute policy)
{
    struct plan *p = &g->plan;
    bool same = p->valid && p->n_nodes == g->n && p->loss == loss && p->policy == (int)policy;
    for (int64_t i = 0; i < g->n; i++) {
        struct plan_key key = key_of(g->node[i]);
        if (same && !memcmp(&p->key[i], &key, sizeof key)) continue;
        same = false;
        p->key[i] = key;
    }
    p->valid = false;
    p->n_nodes = g->n;
    p->loss = loss;
    p->policy = (int32_t)policy;
    return same;
}

static int make_plan(struct graph *g, struct tensor *loss, enum recompute policy)
{
    struct plan *p = &g->plan;
    struct mem *m = &g->host->mem;
    int64_t n = g->n;
    int rc = plan_grow(m, &p->key, &p->cap_key, n, sizeof *p->key);
    if (!rc) rc = plan_grow(m, &p->node, &p->cap_node, n, sizeof *p->node);
    if (!rc) rc = plan_grow(m, &p->event, &p->cap_event, 3 * n, sizeof *p->event);
    if (!rc) rc = plan_grow(m, &p->work, &p->cap_work, n * GRAPH_IN * 4 + 4, 1);
    if (rc) {
        p->valid = false;
        return rc;
    }
    if (same_keys(g, loss ? loss->id : -1, policy)) {
        p->valid = true;
        return PEFT_OK;
    }
    plan_schedule(p, g->node);
    if (loss && (rc = check_gradients(g, loss))) return rc;
    rc = plan_grow(m, &p->buffer, &p->cap_buffer, 3 * p->n_events + n, sizeof *p->buffer);
    if (rc) return rc;
    plan_buffers(p, g->node);
    rc = plan_grow(m, &p->work, &p->cap_work, plan_layout_work(p), 1);
    if (rc) return rc;
    plan_layout(p);
    if (p->slab > PLAN_SLAB_MAX) return fail(PEFT_ENOMEM, "a step needs more than 256 GiB");
    p->valid = true;
    return PEFT_OK;
}

static struct plan_report report_of(const struct graph *g)
{
    const struct plan *p = &g->plan;
    struct plan_report r = { .slab = p->slab };
    for (int64_t e = 0; e < p->n_events; e++) {
        const struct event *ev = &p->event[e];
        const struct tensor *t = g->node[ev->node];
        r.nodes += ev->kind == EVENT_FORWARD;
        r.replayed += ev->kind == EVENT_REPLAY;
        r.backward_nodes += ev->kind == EVENT_BACKWARD;
        const struct cost cost = op_cost(t, ev->kind == EVENT_BACKWARD);
        r.flops += cost.flops;
        r.bytes += cost.bytes;
        r.frozen += cost.frozen;
        const struct tensor *w = t->op->flops ? op_weight(t) : NULL;
        if (t->op->scratch) r.scratch = MAX(r.scratch, t->op->scratch(t));
        if (w) r.panels = MAX(r.panels, linear_panels(t->in[0]->rows, w->cols, w->rows));
    }
    return r;
}

int graph_plan(struct graph *g, struct tensor *loss, enum recompute policy,
               struct plan_report *report)
{
    g->planned = 0;
    if (g->error) return fail(g->error, "%s", g->message);
    int rc = loss ? check_loss(g, loss) : PEFT_OK;
    if (rc) return rc;
    int64_t last = g->n - 1;
    while (last >= 0 && !g->node[last]->op) last--;
    if (last < 0) return fail(PEFT_EARG, "the graph has no nodes");
    graph_keep(loss ? loss : g->node[last]);
    if ((rc = make_plan(g, loss, policy))) return rc;
    g->report = report_of(g);
    g->panels = MAX(g->panels, g->report.panels);
    g->planned = 1;
    if (report) *report = g->report;
    return PEFT_OK;
}
