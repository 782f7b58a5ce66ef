/* Liveness: from the events to buffers.
 *
 * A value lives from the event that makes it to its last reader.  It may take
 * over the memory of an operand that nobody reads later (`inplace`).  The
 * gradient of a node lives from the first contribution, which stores while
 * later ones add, to the node's own backward event, where an operand's
 * gradient may take its memory over in turn (`grad_inplace`), or have it beside
 * others that are the same number by number (`grad_same`).  Aux belongs to the
 * forward or replay that made it; temp to one event, and to those that work is
 * left to. */
#include "graph/plan.h"

static int32_t base_id(const struct plan *p, const struct tensor *t)
{
    return p->node[t->id].base;
}

static void note_reader(struct plan *p, const struct tensor *t, const uint8_t *made, int32_t at)
{
    struct plan_node *b = &p->node[base_id(p, t)];
    b->last[made[b->base]] = at;
}

/* Fills last[]: `made` says which of a node's two values is the present one. */
static void find_last(struct plan *p, struct tensor *const *node, uint8_t *made)
{
    memset(made, 0, (size_t)p->n_nodes);
    for (int32_t e = 0; e < p->n_events; e++) {
        const struct tensor *t = node[p->event[e].node];
        bool back = p->event[e].kind == EVENT_BACKWARD;
        unsigned reads = back ? plan_reads(t) : ~(unsigned)SAVE_OUT;
        if (t->op->view) continue;
        for (int k = 0; k < GRAPH_IN; k++)
            if (t->in[k] && reads >> k & 1) note_reader(p, t->in[k], made, e);
        if (p->event[e].kind == EVENT_REPLAY) made[t->id] = 1;
        if (!back || reads & SAVE_OUT) note_reader(p, t, made, e);
    }
}

static int32_t new_buffer(struct plan *p, int64_t bytes, int32_t first, int32_t last)
{
    int64_t size = div_up(bytes, PLAN_UNIT) * PLAN_UNIT;
    p->buffer[p->n_buffers] = (struct buffer){ .size = size, .first = first, .last = last };
    return (int32_t)p->n_buffers++;
}

/* The operand whose memory the value made at event e may take over, or -1. */
static int32_t take_over(const struct plan *p, const struct tensor *t, const uint8_t *made,
                         int32_t e)
{
    for (int k = 0; k < GRAPH_IN; k++) {
        if (!t->in[k] || !(t->op->inplace >> k & 1)) continue;
        const struct plan_node *b = &p->node[base_id(p, t->in[k])];
        bool free = !b->fixed && b->last[made[b->base]] == e && b->value >= 0 &&
                    tensor_len(t->in[k]) == tensor_len(t);
        for (int j = 0; j < GRAPH_IN; j++)
            if (j != k && t->in[j] && base_id(p, t->in[j]) == b->base) free = false;
        if (free) return b->value;
    }
    return -1;
}

static void make_value(struct plan *p, const struct tensor *t, const uint8_t *made, int replay,
                       int32_t e)
{
    struct plan_node *n = &p->node[t->id];
    struct event *ev = &p->event[e];
    if (t->aux_bytes) n->aux = ev->aux = new_buffer(p, t->aux_bytes, e, e);
    if (t->work_bytes) ev->temp = new_buffer(p, t->work_bytes, e, e);
    if (t->external) return;
    int32_t last = n->fixed ? (int32_t)p->n_events : n->last[replay];
    int32_t b = take_over(p, t, made, e);
    if (b < 0) b = new_buffer(p, tensor_len(t) * 4, e, last);
    p->buffer[b].last = MAX(p->buffer[b].last, last);
    n->value = ev->value = b;
}

/* Whether node `base` may have gradient `b` too, from the backward event of node `at` on: of
 * all that have it only the last to go back may be added to, once the others have gone. */
static bool may_share(const struct plan *p, struct tensor *const *node, int32_t base, int32_t b,
                      int32_t at)
{
    int32_t waiting = p->buffer[b].holders + 1;
    for (int32_t i = at - 1; waiting > 1; i--) {
        const struct tensor *t = node[i];
        if (!t->op || t->op->view || !p->node[i].visited) continue;
        for (int k = 0; k < GRAPH_IN; k++) {
            int32_t u = wants(t, k) ? base_id(p, t->in[k]) : -1;
            if (u >= 0 && (u == base || p->node[u].grad == b)) return false;
        }
        waiting -= i == base || p->node[i].grad == b;
    }
    return true;
}

/* A place for the gradient of in[k], and whether it is added to. */
static void make_gradient(struct plan *p, struct tensor *const *node, const struct tensor *t,
                          int k, int32_t e)
{
    struct plan_node *n = &p->node[t->id], *b = &p->node[base_id(p, t->in[k])];
    if (!node[b->base]->op || b->grad >= 0) {
        n->adds |= (uint8_t)(1 << k);
        return;
    }
    bool same = t->op->grad_same >> k & 1;
    bool over = t->op->grad_inplace >> k & 1 && tensor_len(t->in[k]) == tensor_len(t);
    if (p->buffer[n->grad].holders ? same && may_share(p, node, b->base, n->grad, t->id)
                                   : same || over)
        b->grad = n->grad;
    else
        b->grad = new_buffer(p, tensor_len(t->in[k]) * 4, e, e);
    p->buffer[b->grad].holders++;
}

/* Of ops that make gradients of leaves together, the last one does. */
static void leave_work(struct plan *p, struct tensor *const *node, const struct tensor *t,
                       int32_t e)
{
    int32_t *latest = &p->node[t->in[0]->id].latest, n = 1;
    for (int k = 0; k < GRAPH_IN; k++)
        if (t->op->later >> k & 1 && (!wants(t, k) || t->in[k]->op)) return;
    for (int32_t i = *latest; i >= 0; i = p->node[i].left) n++;
    if (n <= THINS && *latest >= 0 && node[*latest]->op == t->op) {
        p->node[t->id].left = *latest;
        p->node[*latest].leaves = 1;
    }
    for (int32_t i = p->node[t->id].left; i >= 0; i = p->node[i].left)
        p->buffer[p->node[i].temp].last = e;
    *latest = t->id;
}

static void go_back(struct plan *p, struct tensor *const *node, const struct tensor *t, int32_t e)
{
    struct plan_node *n = &p->node[t->id];
    struct event *ev = &p->event[e];
    if (n->grad < 0) n->grad = new_buffer(p, tensor_len(t) * 4, e, e);      /* the loss */
    else p->buffer[n->grad].holders--;
    p->buffer[n->grad].last = e;
    if (n->aux >= 0 && plan_reads(t) & SAVE_AUX) p->buffer[n->aux].last = e;
    if (t->temp_bytes) n->temp = ev->temp = new_buffer(p, t->temp_bytes, e, e);
    if (t->op->later && t->temp_bytes) leave_work(p, node, t, e);
    for (int k = 0; k < GRAPH_IN; k++)
        if (wants(t, k)) make_gradient(p, node, t, k, e);
}

void plan_buffers(struct plan *p, struct tensor *const *node)
{
    uint8_t *made = p->work;
    p->n_buffers = 0;
    find_last(p, node, made);
    memset(made, 0, (size_t)p->n_nodes);
    for (int32_t e = 0; e < p->n_events; e++) {
        const struct tensor *t = node[p->event[e].node];
        int kind = p->event[e].kind;
        if (t->op->view) continue;
        if (kind == EVENT_BACKWARD) {
            go_back(p, node, t, e);
            continue;
        }
        make_value(p, t, made, kind == EVENT_REPLAY, e);
        if (kind == EVENT_REPLAY) made[t->id] = 1;
    }
    /* Of events that are run together each one's buffers live as long as all of them. */
    for (int64_t i = 0; i < p->n_buffers; i++) {
        struct buffer *b = &p->buffer[i];
        b->first = p->event[b->first].chain;
        while (b->last + 1 < p->n_events && p->event[b->last + 1].chain <= b->last) b->last++;
    }
    /* A view has its base's gradient. */
    for (int64_t i = 0; i < p->n_nodes; i++) p->node[i].grad = p->node[p->node[i].base].grad;
}
