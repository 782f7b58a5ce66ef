/* What nodes cost, by the fields of their ops, and the table of measured times. */
#include "graph/op.h"

const struct tensor *op_weight(const struct tensor *t)
{
    for (int k = GRAPH_IN - 1; k >= 0; k--)
        if (t->op->stored >> k & 1 && t->in[k]) return t->in[k];
    return NULL;
}

static double stored_bytes(const struct tensor *t)
{
    return (double)tensor_len(t) / t->type->block * t->type->bytes;
}

static void add_stored(struct cost *c, const struct tensor *t, double share)
{
    double bytes = share * stored_bytes(t);
    c->bytes += bytes;
    if (!t->op && !t->needs_grad) c->frozen += bytes;
}

static double float_bytes(const struct tensor *t) { return 4.0 * (double)tensor_len(t); }

static struct cost cost_forward(const struct tensor *t)
{
    struct cost c = { .flops = t->op->flops ? t->op->flops(t) : 0,
                      .bytes = float_bytes(t) + (double)t->aux_bytes };
    for (int k = 0; k < GRAPH_IN; k++) {
        if (!t->in[k]) continue;
        double share = (double)tensor_len(t) / (double)tensor_len(t->in[k]);
        add_stored(&c, t->in[k], t->op->part >> k & 1 ? MIN(share, 1) : 1);
    }
    return c;
}

/* Each gradient is written unless it lies where it is the same already, what it reads besides
 * is read once for all of them, and an operand whose gradient reads anything costs the flops
 * of forward. */
static struct cost cost_backward(const struct tensor *t)
{
    struct cost c = { 0 };
    unsigned reads = 0;
    for (int k = 0; k < GRAPH_IN; k++) {
        if (!wants(t, k) || (t->op->grad_same >> k & 1 && t->in[k]->g == t->g)) continue;
        if (t->op->flops && (t->op->save[k] || t->op->root >> k & 1)) c.flops += t->op->flops(t);
        c.bytes += float_bytes(t->in[k]) * (adds(t, k) ? 2 : 1);
        reads |= t->op->save[k];
    }
    for (int k = 0; k < GRAPH_IN; k++)
        if (t->in[k] && reads >> k & 1) add_stored(&c, t->in[k], 1);
    if (reads & SAVE_OUT) c.bytes += float_bytes(t);
    if (c.bytes > 0) c.bytes += float_bytes(t);
    if (reads & SAVE_AUX) c.bytes += (double)t->aux_bytes;
    return c;
}

struct cost op_cost(const struct tensor *t, int backward)
{
    if (!t->op || t->op->view) return (struct cost){ 0 };
    struct cost c = backward ? cost_backward(t) : cost_forward(t);
    if (t->op->cost) t->op->cost(t, backward, &c);
    return c;
}

static bool same_work(const struct work *a, const struct work *b)
{
    return !strcmp(a->name, b->name) && !strcmp(a->type, b->type) && a->in == b->in &&
           a->out == b->out && a->backward == b->backward;
}

void profile_add(struct profile *p, const struct work *w)
{
    int64_t i = 0;
    while (i < p->n && !same_work(&p->work[i], w)) i++;
    if (i == p->n && p->n < PROFILE_WORKS) {
        p->work[p->n++] = *w;
        return;
    }
    struct work *to = &p->work[MIN(i, PROFILE_WORKS - 1)];
    to->calls += w->calls;
    to->rows += w->rows;
    to->seconds += w->seconds;
    to->flops += w->flops;
    to->bytes += w->bytes;
}
