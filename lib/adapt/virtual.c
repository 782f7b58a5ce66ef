/* What the methods with virtual tokens share.  Their parts: the tokens, [n, width],
 * or with an encoder its input [n, in] and then W, b of each of its layers:
 *     tokens = (act(.. act(x W1^T + b1) ..)) Wk^T + bk,
 * where x may go through layers of LSTM first, whose weights are one vector.
 * Files hold what comes out, prompt_embeddings, as PEFT does; so what was loaded
 * has no encoder, and trains the tokens themselves. */
#include <math.h>

#include "adapt/virtual.h"

int virtual_alone(const struct model *m, const struct adapter *a)
{
    const struct adapted *d = a->method->virtual ? model_virtual(m) : NULL;
    if (!d || d->adapter == a) return PEFT_OK;
    return fail(PEFT_ESTATE, "adapter \"%s\" has virtual tokens too, and a text has those of one: "
                "disable it first", d->adapter->name);
}

static int check_number(const char *name, int32_t is, int64_t want)
{
    if (is == want) return PEFT_OK;
    return fail(PEFT_EFORMAT, "setting %s is %d, this model has %lld", name, is, (long long)want);
}

/* Fills in what is not said, and checks what is. */
int virtual_begin_at(struct model *m, struct adapted *d)
{
    struct adapter *a = d->adapter;
    int keys = a->method->virtual == VIRTUAL_KEYS, two = m->stack[STACK_ENCODER].end > 0;
    int64_t layers = m->stack[STACK_MAIN].end - m->stack[STACK_MAIN].first;
    int64_t width = keys ? m->hp.kv_heads * m->hp.head_dim : d->site->w->cols;
    int rc = virtual_alone(m, a);
    if (rc) return rc;
    if (m->vision)
        return fail(PEFT_EUNSUPPORTED, "method %s puts tokens before texts, this model reads "
                    "pictures", a->method->name);
    if (d->rank >= m->hp.room)
        return fail(PEFT_EARG, "%d virtual tokens, the model has room for %lld", d->rank,
                    (long long)m->hp.room);
    if (!a->virtual.width) a->virtual.width = (int32_t)width;
    if (!a->virtual.layers) a->virtual.layers = (int32_t)layers;
    if (!a->virtual.heads) a->virtual.heads = (int32_t)(keys ? m->hp.kv_heads : m->hp.heads);
    if (!a->virtual.hidden) a->virtual.hidden = a->virtual.width;
    if (!a->virtual.stacks) a->virtual.stacks = two && (keys || !a->virtual.encodes) ? 2 : 1;
    if ((rc = check_number("token_dim", a->virtual.width, width))) return rc;
    if (keys && a->virtual.layers < layers)
        return check_number("num_layers", a->virtual.layers, layers);
    if (keys || !two)
        return check_number("num_transformer_submodules", a->virtual.stacks, 1 + two);
    return PEFT_OK;
}

/* The part with an LSTM's weights; the linear layers after it are two then. */
enum { LSTM_PART = PARTS - 1, LSTM_LINEAR = 2 };

static int is_lstm(const struct adapter *a)
{
    return a->virtual.encodes && a->virtual.kind && !strcmp(a->virtual.kind, "LSTM");
}

/* Both directions of all its layers, or of those before layer `to`. */
static int64_t lstm_before_layer(const struct adapter *a, int32_t to)
{
    int64_t hidden = a->virtual.hidden;
    return !to ? 0 : 2 * lstm_len(a->virtual.width, hidden) +
                     2 * (to - 1) * lstm_len(2 * hidden, hidden);
}

/* Layers of the encoder: what the method has parts for. */
static int depth_of(const struct adapted *d)
{
    const struct adapter *a = d->adapter;
    int n = 0;
    while (2 * n + 2 < LSTM_PART && a->method->parts[2 * n + 1].suffix) n++;
    if (is_lstm(a)) n = LSTM_LINEAR;
    int encodes = a->virtual.encodes && (a->method->virtual == VIRTUAL_ROWS || a->virtual.projects);
    return encodes ? n : 0;
}

void virtual_shape(const struct adapted *d, int k, int64_t *rows, int64_t *cols)
{
    const struct adapter *a = d->adapter;
    int keys = a->method->virtual == VIRTUAL_KEYS, layer = (k - 1) / 2, depth = depth_of(d);
    int64_t in = a->virtual.width, out = keys ? 2 * a->virtual.layers * in : in;
    int64_t hidden = a->virtual.hidden, from = is_lstm(a) ? 2 * hidden : in;
    if (is_lstm(a)) hidden *= 2;
    int64_t to = layer + 1 == depth ? out : hidden;
    *rows = !k ? (keys ? 1 : a->virtual.stacks) * (int64_t)d->rank : k % 2 ? to : 1;
    *cols = !k ? (depth ? in : out) : k % 2 ? layer ? hidden : from : to;
    if (k && layer >= depth) *rows = 0;
    if (k != LSTM_PART) return;
    *rows = is_lstm(a);
    *cols = lstm_before_layer(a, a->virtual.depth);
}

/* The numbers that torch's layers begin with: normal ones of embeddings, of linear
 * layers uniform ones within 1 / root of their inputs, of LSTMs of their outputs. */
int virtual_init(struct model *m, struct adapted *d, uint64_t seed, uint64_t stream)
{
    (void)m;
    rng_fill_normal(d->part[0]->own, param_len(d->part[0]), 1.0f, seed, stream);
    for (int k = 1; k < PARTS; k++) {
        struct param *p = d->part[k];
        if (!p) continue;
        int64_t n = k == LSTM_PART ? d->adapter->virtual.hidden : d->part[k - (k % 2 == 0)]->cols;
        float bound = 1 / sqrtf((float)n);
        rng_fill_uniform(p->own, param_len(p), -bound, bound, seed, stream + (uint64_t)k * 0x10000);
    }
    return PEFT_OK;
}

struct tensor *virtual_tokens(struct pass *p, const struct adapted *d)
{
    const struct adapter *a = d->adapter;
    struct tensor *x = nn_leaf(p, d->part[0]);
    struct tensor *lstm = d->part[LSTM_PART] ? nn_leaf(p, d->part[LSTM_PART]) : NULL;
    for (int32_t l = 0; lstm && l < a->virtual.depth; l++) {
        if (l) x = nn_dropout(p, x, a->dropout);
        x = g_lstm(p->g, x, lstm, a->virtual.hidden, lstm_before_layer(a, l));
    }
    for (int k = 1; k < PARTS && d->part[k]; k += 2) {
        if (k > 1) x = g_act(p->g, x, (enum act)d->method->act);
        x = g_bias(p->g, g_linear(p->g, x, nn_leaf(p, d->part[k])), nn_leaf(p, d->part[k + 1]));
    }
    return x;
}

/* --- files */

/* Where column i of a file's is here: keys have the order of the rows of k_proj. */
static int64_t column_of(const struct model *m, const struct adapter *a, int64_t i)
{
    int64_t width = a->virtual.width, group = i / width;
    const struct site *k = m->layers[m->stack[STACK_MAIN].first].at[SLOT_K];
    int ordered = a->method->virtual == VIRTUAL_KEYS && group % 2 == 0 && k &&
                  k->w->order == ROWS_ROPE;
    return ordered ? group * width + row_in_gguf(&m->hp, ROWS_ROPE, i % width) : i;
}

/* y [n, out] = x [n, in] W^T + b, x through the activation first when it is not
 * the encoder's input; without a graph, as an adapter is saved from any thread. */
static void layer_values(const struct model *m, const struct adapted *d, int k, float *x, float *y)
{
    const struct param *w = d->part[k], *b = d->part[k + 1];
    const struct kernels *kern = m->compute.k;
    int64_t n = d->part[0]->rows;
    if (k > 1) kern->act(x, x, n * w->cols, (enum act)d->method->act);
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < w->rows; i++)
            y[r * w->rows + i] = kern->dot(x + r * w->cols, w->own + i * w->cols, w->cols) +
                                 b->own[i];
}

/* The LSTM's layers in the same way; *x becomes [n, 2 hidden]. */
static int lstm_values(const struct model *m, const struct adapted *d, struct arena *t, float **x)
{
    const struct adapter *a = d->adapter;
    struct lstm l = { .n = d->part[0]->rows, .in = a->virtual.width, .hidden = a->virtual.hidden,
                      .stride = 2 * (int64_t)a->virtual.hidden };
    float *state = arena_alloc(t, LSTM_STATE * l.n * l.hidden * 4);
    for (int32_t i = 0; i < a->virtual.depth; i++, l.in = l.stride) {
        const float *w = d->part[LSTM_PART]->own + lstm_before_layer(a, i);
        float *y = arena_alloc(t, l.n * l.stride * 4);
        if (!state || !y) return PEFT_ENOMEM;
        for (l.back = 0; l.back < 2; l.back++)
            lstm_forward(m->compute.k, &l, w + l.back * lstm_len(l.in, l.hidden), *x,
                         y + l.back * l.hidden, state);
        *x = y;
    }
    return PEFT_OK;
}

int virtual_out(const struct model *m, const struct adapted *d, struct arena *t,
                struct store_out *out)
{
    int64_t n = d->part[0]->rows, cols = d->part[0]->cols;
    float *x = arena_alloc(t, n * cols * 4);
    if (!x) return PEFT_ENOMEM;
    memcpy(x, d->part[0]->own, (size_t)(n * cols) * 4);
    if (d->part[LSTM_PART] && lstm_values(m, d, t, &x)) return PEFT_ENOMEM;
    for (int k = 1; k < PARTS && d->part[k]; k += 2) {
        float *y = arena_alloc(t, n * d->part[k]->rows * 4);
        if (!y) return PEFT_ENOMEM;
        layer_values(m, d, k, x, y);
        cols = d->part[k]->rows;
        x = y;
    }
    float *to = arena_alloc(t, n * cols * 4);
    if (!to) return PEFT_ENOMEM;
    for (int64_t i = 0; i < n * cols; i++)
        to[i] = x[i / cols * cols + column_of(m, d->adapter, i % cols)];
    *out = (struct store_out){ .name = VIRTUAL_NAME, .type = &qtype_f32, .n_dims = 2,
                               .dims = { n, cols }, .data = to };
    return PEFT_OK;
}

int virtual_in(struct model *m, struct adapted *d, const struct store_tensor *t)
{
    struct param *p = d->part[0];
    float *x = mem_array(&m->host.mem, t->count, 4);
    if (!x) return PEFT_ENOMEM;
    t->type->to_f32(x, t->data, t->count);
    for (int64_t i = 0; i < t->count; i++)
        p->own[i / p->cols * p->cols + column_of(m, d->adapter, i % p->cols)] = x[i];
    mem_free(&m->host.mem, x);
    return PEFT_OK;
}
