/* R = I + 2 Q + 2 Q^2 + ... + Q^n, the Cayley transform (I - Q)(I + Q)^-1 of -Q by
 * its first terms as Hugging Face PEFT cuts them off; Q [b, b] is skew-symmetric
 * and given by its upper triangle in the order of rows, v [b (b - 1) / 2].
 * By Horner: H_n = c_n I, H_i = c_i I + Q H_(i+1), R = H_0; back from dH_0 = dR,
 * dQ += dH_i H_(i+1)^T, dH_(i+1) = Q^T dH_i. */
#include "kernel/kernel.h"

/* PEFT's `terms`: the power of the last, and the factor of power i. */
static int cayley_degree(int terms) { return terms > 2 ? MAX(3, terms - 1) : terms - 1; }
static float cayley_factor(int i, int degree)
{
    return i == 0 || (i == degree && degree > 2) ? 1.0f : 2.0f;
}

int64_t cayley_temp(int64_t b, int terms) { return (cayley_degree(terms) + 5) * b * b; }

static void cayley_skew(float *q, const float *v, int64_t b)
{
    for (int64_t i = 0; i < b; i++) {
        q[i * b + i] = 0;
        for (int64_t j = i + 1; j < b; j++, v++) {
            q[i * b + j] = *v;
            q[j * b + i] = -*v;
        }
    }
}

/* h[i] = H_i, each [b, b], from `q`. */
static void cayley_chain(const struct compute *c, float *h, const float *q, int64_t b, int degree)
{
    int64_t n = b * b;
    for (int i = degree; i >= 0; i--) {
        float *x = h + i * n;
        if (i == degree) c->k->fill(x, 0.0f, n);
        else c->blas->sgemm(0, 0, b, b, b, 1.0f, q, b, x + n, b, 0.0f, x, b);
        for (int64_t k = 0; k < b; k++) x[k * b + k] += cayley_factor(i, degree);
    }
}

void cayley_forward(const struct compute *c, float *r, const float *v, int64_t b, int terms,
                    float *temp)
{
    float *h = temp + b * b;
    cayley_skew(temp, v, b);
    cayley_chain(c, h, temp, b, cayley_degree(terms));
    c->k->axpy(r, h, 1.0f, 0, b * b);
}

void cayley_backward(const struct compute *c, float *dv, const float *dr, const float *v,
                     int64_t b, int terms, int add, float *temp)
{
    int degree = cayley_degree(terms);
    int64_t n = b * b;
    float *q = temp, *dq = q + n, *d = dq + n, *next = d + n, *h = next + n;
    cayley_skew(q, v, b);
    cayley_chain(c, h, q, b, degree);
    c->k->fill(dq, 0.0f, n);
    c->k->axpy(d, dr, 1.0f, 0, n);
    for (int i = 0; i < degree; i++) {
        c->blas->sgemm(0, 1, b, b, b, 1.0f, d, b, h + (i + 1) * n, b, 1.0f, dq, b);
        c->blas->sgemm(1, 0, b, b, b, 1.0f, q, b, d, b, 0.0f, next, b);
        float *swap = d;
        d = next;
        next = swap;
    }
    for (int64_t i = 0; i < b; i++)
        for (int64_t j = i + 1; j < b; j++, dv++)
            *dv = (add ? *dv : 0.0f) + dq[i * b + j] - dq[j * b + i];
}
