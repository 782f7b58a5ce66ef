/* Building: leaves and nodes in creation order, checked as they come.  The
 * first error sticks, and graph_plan reports it. */
#include "graph/plan.h"

#include <stdarg.h>
#include <stdio.h>

#define OP(name) &op_##name,
const struct op *const ops_all[] = {
#include "graph/ops.def"
    NULL
};
#undef OP

int graph_new(struct host *h, struct compute *c, struct graph **out)
{
    struct graph *g = *out = mem_zalloc(&h->mem, sizeof *g);
    if (!g) return PEFT_ENOMEM;
    g->host = h;
    g->compute = c;
    arena_init(&g->arena, &h->mem);
    graph_reset(g);
    return PEFT_OK;
}

void graph_free(struct graph *g)
{
    if (!g) return;
    struct mem *m = &g->host->mem;
    mem_free(m, g->plan.key);
    mem_free(m, g->plan.node);
    mem_free(m, g->plan.event);
    mem_free(m, g->plan.buffer);
    mem_free(m, g->plan.work);
    mem_free(m, g->node);
    mem_free(m, g->slab);
    arena_free(&g->arena);
    mem_free(m, g);
}

void graph_reset(struct graph *g)
{
    arena_reset(&g->arena);
    g->n = 0;
    g->name = NULL;
    g->segment = -1;
    g->error = PEFT_OK;
    g->planned = 0;
    g->see = NULL;
    g->message[0] = g->bad[0] = 0;
}

void graph_watch(struct graph *g, void (*see)(void *arg, const struct tensor *t), void *arg)
{
    g->see = see;
    g->see_arg = arg;
}

void graph_on_read(struct graph *g, void (*read)(void *arg, const struct tensor *leaf), void *arg)
{
    g->read = read;
    g->read_arg = arg;
}

void graph_leaves(const struct graph *g, void (*each)(void *, const struct tensor *), void *ctx)
{
    for (int64_t i = 0; i < g->n && g->planned; i++)
        if (!g->node[i]->op && g->plan.node[i].needed) each(ctx, g->node[i]);
}

int graph_error(const struct graph *g)
{
    return g->error;
}

/* Keeps this thread's message with the graph unless there is one already. */
static struct tensor *stick(struct graph *g, int code)
{
    if (!g->error) {
        g->error = code;
        snprintf(g->message, sizeof g->message, "%s", error_message());
    }
    return NULL;
}

struct tensor *graph_fail(struct graph *g, int code, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return stick(g, fail(code, "%s", text));
}

void graph_name(struct graph *g, const char *name)
{
    g->name = name ? arena_strndup(&g->arena, name, (int64_t)strlen(name)) : NULL;
}

void graph_segment(struct graph *g, int32_t segment)
{
    g->segment = segment;
}

void graph_chunks(struct graph *g, int64_t bytes)
{
    g->chunks = bytes;
}

const struct compute *graph_compute(const struct graph *g)
{
    return g->compute;
}

int64_t graph_chunk_rows(const struct graph *g, int64_t rows, int64_t row_bytes)
{
    enum { FEWEST = 16 };                /* with fewer, reading the weights takes longest */
    return g->chunks ? MIN(rows, MAX(g->chunks / row_bytes, FEWEST)) : rows;
}

void graph_keep(struct tensor *t)
{
    if (t) t->keep = 1;
}

int plan_grow(struct mem *m, void *array, int64_t *cap, int64_t n, int64_t size)
{
    if (n <= *cap) return PEFT_OK;
    int64_t room = MAX(n, 2 * *cap), bytes;
    void *old, *now;
    memcpy(&old, array, sizeof old);
    if (n > INT32_MAX || !mul_ok(room, size, &bytes))
        return fail(PEFT_ENOMEM, "a graph of %lld nodes", (long long)n);
    if (!(now = mem_realloc(m, old, bytes))) return PEFT_ENOMEM;
    memcpy(array, &now, sizeof now);
    *cap = room;
    return PEFT_OK;
}

/* The next tensor, not yet in the list. */
static struct tensor *new_node(struct graph *g, int64_t args_size)
{
    int rc = plan_grow(&g->host->mem, &g->node, &g->cap, g->n + 1, sizeof *g->node);
    struct tensor *t = rc ? NULL : arena_alloc(&g->arena, sizeof *t);
    if (!t) return stick(g, PEFT_ENOMEM);
    if (args_size && !(t->args = arena_alloc(&g->arena, args_size)))
        return stick(g, PEFT_ENOMEM);
    t->id = (int32_t)g->n;
    return t;
}

static int size_ok(int64_t rows, int64_t cols)
{
    int64_t n;
    return rows >= 1 && cols >= 1 && mul_ok(rows, cols, &n) && n <= (int64_t)1 << 40;
}

struct tensor *graph_leaf(struct graph *g, const char *name, const struct qtype *type,
                          int64_t rows, int64_t cols, const void *data, float *grad)
{
    if (g->error) return NULL;
    if (!size_ok(rows, cols))
        return graph_fail(g, PEFT_EARG, "%s is [%lld, %lld], expected at least one element",
                          name ? name : "a leaf", (long long)rows, (long long)cols);
    struct tensor *t = new_node(g, 0);
    if (!t) return NULL;
    t->name = name ? arena_strndup(&g->arena, name, (int64_t)strlen(name)) : NULL;
    t->type = type;
    t->rows = rows;
    t->cols = cols;
    memcpy(&t->x, &data, sizeof t->x);          /* ops never write to operands */
    t->g = grad;
    t->needs_grad = grad != NULL;
    t->segment = -1;
    g->node[g->n++] = t;
    return t;
}

static const struct tensor *view_base(const struct tensor *t)
{
    while (t->op && t->op->view) t = t->in[0];
    return t;
}

/* Two operands that share a gradient would have it written twice at once. */
static struct tensor *distinct_operand(struct graph *g, struct tensor *const *in, int k)
{
    if (!in[k]->needs_grad) return in[k];
    for (int j = 0; j < k; j++)
        if (in[j] && view_base(in[j]) == view_base(in[k])) return g_scale(g, in[k], 1.0f);
    return in[k];
}

static int check_operands(struct graph *g, const struct op *op, struct tensor *const *in, int n,
                          unsigned optional)
{
    for (int k = 0; k < n; k++) {
        if (!in[k] && !(optional >> k & 1))
            return fail(PEFT_EARG, "operand %d is absent", k);
        if (!in[k]) continue;
        if (in[k]->id >= g->n || g->node[in[k]->id] != in[k])
            return fail(PEFT_EARG, "operand %d is not of this graph", k);
        int stored = op->stored >> k & 1;
        if (!stored && in[k]->type != &qtype_f32)
            return fail(PEFT_EARG, "operand %d is %s, expected F32", k, in[k]->type->name);
        if (stored && !in[k]->type->to_f32)
            return fail(PEFT_EARG, "operand %d is %s, which is no weight type", k,
                        in[k]->type->name);
    }
    return PEFT_OK;
}

static int check_node(struct graph *g, struct tensor *t, int n, unsigned optional)
{
    int rc = check_operands(g, t->op, t->in, n, optional);
    if (!rc) rc = t->op->shape(t, g);
    if (!rc && !size_ok(t->rows, t->cols))
        rc = fail(PEFT_EARG, "the result is [%lld, %lld], expected at least one element",
                  (long long)t->rows, (long long)t->cols);
    if (rc) fail_in(rc, "%s%s%s: ", t->name ? t->name : "", t->name ? " " : "", t->op->name);
    return rc;
}

struct tensor *graph_node(struct graph *g, const struct op *op, struct tensor *const *in, int n,
                          unsigned optional, const void *args, size_t args_size)
{
    struct tensor *use[GRAPH_IN] = { 0 };
    if (g->error) return NULL;
    for (int k = 0; k < n; k++)
        use[k] = in[k] ? distinct_operand(g, in, k) : NULL;
    struct tensor *t = new_node(g, (int64_t)args_size);
    if (!t) return NULL;
    if (args_size) memcpy(t->args, args, args_size);
    t->args_bytes = (int64_t)args_size;
    memcpy(t->in, use, sizeof use);
    t->op = op;
    t->type = &qtype_f32;
    t->segment = g->segment;
    t->name = g->name;
    g->name = NULL;
    int rc = check_node(g, t, n, optional);
    if (rc) return stick(g, rc);
    for (int k = 0; k < n; k++)
        if (t->in[k]) t->needs_grad |= t->in[k]->needs_grad;
    g->node[g->n++] = t;
    return t;
}
