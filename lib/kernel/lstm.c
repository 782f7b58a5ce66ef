/* A direction of a layer of LSTM (Hochreiter and Schmidhuber 1997), as torch.nn.LSTM: rows
 * x_t [in] one after the other, from either end, become h_t [H], which begin as zeros:
 *
 *     [i f g o] = W x_t + b + V h_(t-1) + d,  i, f, o through a sigmoid, g through tanh
 *     c_t = f c_(t-1) + i g,  h_t = o tanh(c_t)
 *
 * Its weights w are W [4H, in], V [4H, H], b [4H], d [4H], as torch flattens them. */
#include "kernel/kernel.h"

int64_t lstm_len(int64_t in, int64_t hidden) { return 4 * hidden * (in + hidden + 2); }

/* The row of step s, and where that of the step before lies; -1 = there is none. */
static int64_t lstm_row(const struct lstm *l, int64_t s) { return l->back ? l->n - 1 - s : s; }
static int64_t lstm_before(const struct lstm *l, int64_t s) { return s ? lstm_row(l, s - 1) : -1; }

void lstm_forward(const struct kernels *k, const struct lstm *l, const float *w, const float *x,
                  float *h, float *state)
{
    int64_t n = l->hidden, in = l->in;
    const float *v = w + 4 * n * in, *b = v + 4 * n * n, *d = b + 4 * n;
    for (int64_t s = 0; s < l->n; s++) {
        int64_t t = lstm_row(l, s), before = lstm_before(l, s);
        float *gate = state + t * LSTM_STATE * n, *c = gate + 4 * n, *to = h + t * l->stride;
        for (int64_t j = 0; j < 4 * n; j++) {
            gate[j] = k->dot(x + t * in, w + j * in, in) + b[j] + d[j];
            if (s) gate[j] += k->dot(h + before * l->stride, v + j * n, n);
        }
        k->act(gate, gate, 2 * n, ACT_SIGMOID);
        k->act(gate + 2 * n, gate + 2 * n, n, ACT_TANH);
        k->act(gate + 3 * n, gate + 3 * n, n, ACT_SIGMOID);
        const float *old = s ? state + before * LSTM_STATE * n + 4 * n : NULL;
        for (int64_t j = 0; j < n; j++)
            c[j] = gate[j] * gate[2 * n + j] + (old ? gate[n + j] * old[j] : 0);
        k->act(to, c, n, ACT_TANH);
        for (int64_t j = 0; j < n; j++) to[j] *= gate[3 * n + j];
    }
}

/* The gradients of one step's gates before sigmoid and tanh, from dh and what c says later. */
static void lstm_step_back(const struct kernels *k, int64_t n, const float *gate, const float *old,
                           const float *dy, float *dh, float *dc, float *room, float *da)
{
    k->act(room, gate + 4 * n, n, ACT_TANH);
    for (int64_t j = 0; j < n; j++) {
        float i = gate[j], f = gate[n + j], g = gate[2 * n + j], o = gate[3 * n + j];
        float up = dy[j] + dh[j], down = dc[j] + up * o * (1 - room[j] * room[j]);
        da[j] = down * g * i * (1 - i);
        da[n + j] = old ? down * old[j] * f * (1 - f) : 0;
        da[2 * n + j] = down * i * (1 - g * g);
        da[3 * n + j] = up * room[j] * o * (1 - o);
        dc[j] = down * f;
    }
}

void lstm_backward(const struct kernels *k, const struct lstm *l, const float *w, const float *dh,
                   const float *state, float *da, float *temp)
{
    int64_t n = l->hidden;
    const float *v = w + 4 * n * l->in;
    float *up = temp, *dc = temp + n, *room = temp + 2 * n;
    k->fill(temp, 0.0f, 2 * n);
    for (int64_t s = l->n - 1; s >= 0; s--) {
        int64_t t = lstm_row(l, s), before = lstm_before(l, s);
        const float *old = s ? state + before * LSTM_STATE * n + 4 * n : NULL;
        lstm_step_back(k, n, state + t * LSTM_STATE * n, old, dh + t * l->stride, up, dc, room,
                       da + t * 4 * n);
        k->fill(up, 0.0f, n);
        for (int64_t j = 0; j < 4 * n && s; j++)
            k->axpy(up, v + j * n, da[t * 4 * n + j], 1, n);
    }
}

void lstm_weights(const struct kernels *k, const struct lstm *l, const float *x, const float *h,
                  const float *da, float *dw)
{
    int64_t n = l->hidden, in = l->in;
    float *dv = dw + 4 * n * in, *db = dv + 4 * n * n, *dd = db + 4 * n;
    for (int64_t j = 0; j < 4 * n; j++)
        for (int64_t s = 0; s < l->n; s++) {
            int64_t t = lstm_row(l, s), before = lstm_before(l, s);
            float a = da[t * 4 * n + j];
            k->axpy(dw + j * in, x + t * in, a, 1, in);
            if (s) k->axpy(dv + j * n, h + before * l->stride, a, 1, n);
            db[j] += a;
            dd[j] += a;
        }
}
