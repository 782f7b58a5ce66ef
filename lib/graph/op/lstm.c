/* A layer of LSTM in both directions (kernel/lstm.c): x [N, in] -> [N, 2H], the rows' h from
 * the first to the last, then from the last to the first.  w [1, ...] has the weights of the
 * first direction from `first` on, then those of the other.  aux: for each direction gates
 * and c of every row; temp: the gradients of the gates. */
#include "graph/op.h"

struct lstm_args { int64_t hidden, first; };

static struct lstm lstm_of(const struct tensor *t, int64_t way)
{
    const struct lstm_args *a = t->args;
    return (struct lstm){ t->rows, t->in[0]->cols, a->hidden, t->cols, way != 0 };
}
static int64_t lstm_at(const struct tensor *t, int64_t way)
{
    const struct lstm_args *a = t->args;
    return a->first + way * lstm_len(t->in[0]->cols, a->hidden);
}

static int shape_lstm(struct tensor *t, struct graph *g)
{
    const struct lstm_args *a = t->args;
    const struct tensor *x = t->in[0], *w = t->in[1];
    (void)g;
    if (a->hidden < 1 || a->first < 0 || lstm_at(t, 2) > tensor_len(w))
        return fail(PEFT_EARG, "w has %lld numbers, expected %lld for %lld inputs and %lld outputs",
                    (long long)tensor_len(w), (long long)lstm_at(t, 2), (long long)x->cols,
                    (long long)a->hidden);
    t->rows = x->rows;
    t->cols = 2 * a->hidden;
    t->aux_bytes = 2 * LSTM_STATE * t->rows * a->hidden * 4;
    t->temp_bytes = 2 * (4 * t->rows + 3) * a->hidden * 4;
    return PEFT_OK;
}

static void lstm_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                      int worker)
{
    (void)worker;
    for (int64_t way = begin; way < end; way++) {
        struct lstm l = lstm_of(t, way);
        float *state = (float *)t->aux + way * LSTM_STATE * l.n * l.hidden;
        lstm_forward(r->k, &l, tensor_f32(t->in[1]) + lstm_at(t, way), t->in[0]->x,
                     tensor_f32(t) + way * l.hidden, state);
    }
}

static void forward_lstm(const struct tensor *t, const struct run *r)
{
    op_parallel(t, r, 2, 1, lstm_part);
}

static float *lstm_gates(const struct tensor *t, const struct lstm *l, int64_t way)
{
    return (float *)t->temp + way * 4 * l->n * l->hidden;
}

static void lstm_back_part(const struct tensor *t, const struct run *r, int64_t begin, int64_t end,
                           int worker)
{
    (void)worker;
    for (int64_t way = begin; way < end; way++) {
        struct lstm l = lstm_of(t, way);
        const float *state = (float *)t->aux + way * LSTM_STATE * l.n * l.hidden;
        float *da = lstm_gates(t, &l, way), *temp = lstm_gates(t, &l, 2) + way * 3 * l.hidden;
        lstm_backward(r->k, &l, tensor_f32(t->in[1]) + lstm_at(t, way), t->g + way * l.hidden,
                      state, da, temp);
        if (wants(t, 1))
            lstm_weights(r->k, &l, t->in[0]->x, tensor_f32(t) + way * l.hidden, da,
                         t->in[1]->g + lstm_at(t, way));
    }
}

static void lstm_input_part(const struct tensor *t, const struct run *r, int64_t begin,
                            int64_t end, int worker)
{
    (void)worker;
    for (int64_t i = begin; i < end; i++)
        for (int64_t way = 0; way < 2; way++) {
            struct lstm l = lstm_of(t, way);
            const float *w = tensor_f32(t->in[1]) + lstm_at(t, way);
            const float *da = lstm_gates(t, &l, way) + i * 4 * l.hidden;
            for (int64_t j = 0; j < 4 * l.hidden; j++)
                r->k->axpy(t->in[0]->g + i * l.in, w + j * l.in, da[j],
                           adds(t, 0) || way || j, l.in);
        }
}

static void backward_lstm(const struct tensor *t, const struct run *r)
{
    if (wants(t, 1)) op_clear(t, r, 1);
    op_parallel(t, r, 2, 1, lstm_back_part);
    if (wants(t, 0)) op_parallel(t, r, t->rows, 1, lstm_input_part);
}

static double flops_lstm(const struct tensor *t)
{
    const struct lstm_args *a = t->args;
    return 4.0 * (double)t->rows * (double)lstm_len(t->in[0]->cols, a->hidden);
}

const struct op op_lstm = {
    .name = "lstm",
    .save = { SAVE_IN1 | SAVE_AUX, SAVE_IN0 | SAVE_IN1 | SAVE_OUT | SAVE_AUX },
    .shape = shape_lstm,
    .forward = forward_lstm,
    .backward = backward_lstm,
    .flops = flops_lstm,
};

tensor *g_lstm(graph *g, tensor *x, tensor *w, int64_t hidden, int64_t first)
{
    return graph_node(g, &op_lstm, (tensor *[]){ x, w }, 2, 0,
                      &(struct lstm_args){ hidden, first }, sizeof(struct lstm_args));
}
