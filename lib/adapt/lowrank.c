/* Low-rank factors of a weight of any stored type, from products with it alone.
 *
 * SVD: subspace iteration (Halko, Martinsson & Tropp 2011) on 2 r rows and at least
 * r + 8, or on all of a small matrix, which makes it exact; then the singular vectors of
 * the small matrix Q W by Jacobi's method on its Gram matrix.
 * QR: the first r columns made orthonormal, and their products with W. */
#include <math.h>

#include "adapt/adapt.h"

enum { SVD_EXTRA = 8, SVD_ROUNDS = 8, SVD_SMALL = 64, EXACT_EXTRA = 32, EXACT_ROUNDS = 400 };
static const float EXACT_ERROR = 3e-6f, EXACT_GAP = 1e-3f;

/* Makes the k rows of x orthonormal, twice for accuracy; a row that depends on
 * those before it becomes zero. */
static void orthonormal(const struct kernels *kern, float *x, int64_t k, int64_t n)
{
    for (int64_t i = 0; i < k; i++) {
        float *row = x + i * n;
        double before = kern->sum_squares(row, n);
        for (int pass = 0; pass < 2; pass++)
            for (int64_t j = 0; j < i; j++)
                kern->axpy(row, x + j * n, -kern->dot(row, x + j * n, n), 1, n);
        double after = kern->sum_squares(row, n);
        float scale = after > 1e-10 * before ? (float)(1 / sqrt(after)) : 0.0f;
        kern->axpy(row, row, scale, 0, n);
    }
}

/* Eigenvalues (on the diagonal of s) and vectors (columns of v) of a symmetric
 * [n, n] matrix, by cyclic rotations. */
static void jacobi(double *s, double *v, int64_t n)
{
    for (int64_t i = 0; i < n * n; i++) v[i] = i / n == i % n;
    for (int sweep = 0; sweep < 30; sweep++) {
        double off = 0, all = 0;
        for (int64_t i = 0; i < n * n; i++) {
            all += s[i] * s[i];
            if (i / n != i % n) off += s[i] * s[i];
        }
        if (off <= 1e-26 * all) return;
        for (int64_t p = 0; p < n; p++)
            for (int64_t q = p + 1; q < n; q++) {
                double apq = s[p * n + q];
                if (apq == 0) continue;
                double theta = (s[q * n + q] - s[p * n + p]) / (2 * apq);
                double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
                double c = 1 / sqrt(t * t + 1), sn = t * c;
                for (int64_t k = 0; k < n; k++) {
                    double a = s[k * n + p], b = s[k * n + q];
                    s[k * n + p] = c * a - sn * b;
                    s[k * n + q] = sn * a + c * b;
                }
                for (int64_t k = 0; k < n; k++) {
                    double a = s[p * n + k], b = s[q * n + k];
                    s[p * n + k] = c * a - sn * b;
                    s[q * n + k] = sn * a + c * b;
                    a = v[k * n + p];
                    b = v[k * n + q];
                    v[k * n + p] = c * a - sn * b;
                    v[k * n + q] = sn * a + c * b;
                }
            }
    }
}

/* left [r, out] and right [r, in] = the r largest triples, each vector times the
 * root of its singular value; from q [k, out] orthonormal and b = q W [k, in].  Returns the
 * gap behind them: by how much the next value is smaller, over the last. */
static double small_svd(const struct kernels *kern, float *left, float *right, const float *q,
                      const float *b, double *s, int64_t k, int64_t r, int64_t out, int64_t in)
{
    double *v = s + k * k, last = 0, next = 0;
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j <= i; j++)
            s[i * k + j] = s[j * k + i] = kern->dot(b + i * in, b + j * in, in);
    jacobi(s, v, k);
    for (int64_t i = 0; i < r; i++) {
        int64_t best = 0;
        for (int64_t j = 1; j < k; j++)
            if (s[j * k + j] > s[best * k + best]) best = j;
        double value = sqrt(MAX(s[best * k + best], 0.0));
        s[best * k + best] = -1;
        last = value;
        kern->fill(left + i * out, 0.0f, out);
        kern->fill(right + i * in, 0.0f, in);
        for (int64_t j = 0; j < k && value > 0; j++) {
            float c = (float)v[j * k + best];
            kern->axpy(left + i * out, q + j * out, c * (float)sqrt(value), 1, out);
            kern->axpy(right + i * in, b + j * in, c / (float)sqrt(value), 1, in);
        }
    }
    for (int64_t j = 0; j < k; j++) next = MAX(next, s[j * k + j]);
    return last > 0 ? 1 - sqrt(next) / last : 0;
}

/* y [out] = left^T right x for one fixed random x, from which a change of the product shows. */
static void probe_product(const struct kernels *kern, float *y, const float *x, const float *left,
                          const float *right, int64_t r, int64_t out, int64_t in)
{
    kern->fill(y, 0.0f, out);
    for (int64_t i = 0; i < r; i++)
        kern->axpy(y, left + i * out, kern->dot(right + i * in, x, in), 1, out);
}

/* The product left^T right itself, which the signs of the vectors do not touch, up to
 * rounding: rounds until what is still to come, by the ratio of two changes, is small. */
static int exact_svd(struct model *m, const struct matrix *w, int64_t k, int64_t r, float *q,
                     float *b, double *s, float *left, float *right)
{
    const struct compute *c = &m->compute;
    int64_t out = w->rows, in = w->cols;
    float *x = mem_array(&m->host.mem, in + 2 * out, 4), *y = x + in, *last = y + out;
    double before = INFINITY, gap = 0, ratio = 0.5;
    int done = 0;
    if (!x) return PEFT_ENOMEM;
    rng_fill_normal(x, in, 1.0f, 1, rng_stream(RNG_INIT, 0));
    for (int i = 0; i < EXACT_ROUNDS && !done; i++) {
        linear_forward(c, q, b, w, k, 1.0f, 0.0f);
        orthonormal(c->k, q, k, out);
        linear_dx(c, b, q, w, k, 1.0f, 0.0f);
        if (i % 4 == 3) {
            gap = small_svd(c->k, left, right, q, b, s, k, r, out, in);
            probe_product(c->k, y, x, left, right, r, out, in);
            c->k->axpy(last, y, -1.0f, 1, out);
            double change = sqrt(c->k->sum_squares(last, out) / c->k->sum_squares(y, out));
            /* Below, rounding makes the changes, which then fall no more. */
            if (change > 4 * EXACT_ERROR && isfinite(before)) ratio = MIN(change / before, 0.999);
            done = change <= EXACT_ERROR && change * ratio <= (1 - ratio) * EXACT_ERROR;
            done |= k == MIN(out, in) && i > 3;
            before = change;
            memcpy(last, y, (size_t)out * 4);
        }
        if (!done) orthonormal(c->k, b, k, in);
    }
    mem_free(&m->host.mem, x);
    if (done && (gap > EXACT_GAP || r == MIN(out, in))) return PEFT_OK;
    return fail(PEFT_EUNSUPPORTED, "singular values %lld and %lld are too close to tell the "
                "subspaces apart", (long long)r, (long long)r + 1);
}

int lowrank(struct model *m, const struct matrix *w, enum lowrank how, int64_t r, float *left,
            float *right)
{
    int64_t out = w->rows, in = w->cols, most = MIN(out, in), k = r;
    if (how == LOWRANK_SVD) k = MIN(r + MAX(SVD_EXTRA, MIN(r, SVD_SMALL)), most);
    if (how == LOWRANK_SVD && most <= SVD_SMALL) k = most;
    if (how == LOWRANK_EXACT) k = MIN(r + MAX(r, EXACT_EXTRA), most);
    const struct compute *c = &m->compute;
    if (r > most)
        return fail(PEFT_EARG, "rank %lld for a weight [%lld, %lld], expected at most the smaller "
                    "side", (long long)r, (long long)out, (long long)in);
    int rc = model_graph(m);
    if (!rc) rc = graph_reserve(m->graph, 0, linear_scratch());
    if (rc) return rc;
    float *q = mem_array(&m->host.mem, k, out * 4), *b = mem_array(&m->host.mem, k, in * 4);
    double *s = mem_array(&m->host.mem, 2 * k, k * 8);
    if (q && b && s && how == LOWRANK_EXACT) {
        rng_fill_normal(b, k * in, 1.0f, 0, rng_stream(RNG_INIT, 0));
        rc = exact_svd(m, w, k, r, q, b, s, left, right);
    } else if (q && b && s && how == LOWRANK_SVD) {
        rng_fill_normal(b, k * in, 1.0f, 0, rng_stream(RNG_INIT, 0));
        for (int i = 0; i < SVD_ROUNDS; i++) {
            linear_forward(c, q, b, w, k, 1.0f, 0.0f);
            orthonormal(c->k, q, k, out);
            linear_dx(c, b, q, w, k, 1.0f, 0.0f);
            if (i + 1 < SVD_ROUNDS) orthonormal(c->k, b, k, in);
        }
        small_svd(c->k, left, right, q, b, s, k, r, out, in);
    } else if (q && b && s) {
        c->k->fill(b, 0.0f, k * in);
        for (int64_t i = 0; i < k; i++) b[i * in + i] = 1.0f;
        linear_forward(c, left, b, w, k, 1.0f, 0.0f);
        orthonormal(c->k, left, k, out);
        linear_dx(c, right, left, w, k, 1.0f, 0.0f);
    }
    if (!q || !b || !s) rc = PEFT_ENOMEM;
    mem_free(&m->host.mem, q);
    mem_free(&m->host.mem, b);
    mem_free(&m->host.mem, s);
    return rc;
}
