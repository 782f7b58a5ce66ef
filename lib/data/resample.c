/* Resizing as Pillow does it (libImaging/Resample.c), to the bit: each output
 * pixel is a weighted mean of the input pixels under the filter, which is
 * widened by the scale when the picture gets smaller.  Weights are integers of
 * 22 fractional bits; rows first, then columns, with bytes in between. */
#include "data/image.h"

#include <math.h>

enum { BITS = 32 - 8 - 2 };

static double sinc(double x)
{
    x *= 3.14159265358979323846;
    return x == 0 ? 1 : sin(x) / x;
}

static double filter_box(double x) { return x > -0.5 && x <= 0.5 ? 1 : 0; }
static double filter_bilinear(double x) { return fabs(x) < 1 ? 1 - fabs(x) : 0; }
static double filter_lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

static double filter_hamming(double x)
{
    x = fabs(x);
    if (x == 0) return 1;
    if (x >= 1) return 0;
    x *= 3.14159265358979323846;
    return sin(x) / x * (0.54 + 0.46 * cos(x));
}

static double filter_bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static const struct filter {
    double (*f)(double x);
    double support;
} resample_filters[RESAMPLE_COUNT] = {
    [RESAMPLE_LANCZOS] = {filter_lanczos, 3}, [RESAMPLE_BILINEAR] = {filter_bilinear, 1},
    [RESAMPLE_BICUBIC] = {filter_bicubic, 2}, [RESAMPLE_BOX] = {filter_box, 0.5},
    [RESAMPLE_HAMMING] = {filter_hamming, 1}
};

/* Output i is the sum over k < count[i] of weight[i * size + k] * in[first[i] + k]. */
struct weights { int32_t *first, *count, *weight; int64_t size; double *exact; };

static void weights_free(struct host *h, struct weights *w)
{
    mem_free(&h->mem, w->first);
    mem_free(&h->mem, w->count);
    mem_free(&h->mem, w->weight);
    mem_free(&h->mem, w->exact);
}

static int weights_make(struct host *h, int32_t in, int32_t out, const struct filter *filter,
                        struct weights *w)
{
    double scale = (double)in / out, wide = MAX(scale, 1), support = filter->support * wide;
    w->size = (int64_t)ceil(support) * 2 + 1;
    w->first = mem_array(&h->mem, out, sizeof *w->first);
    w->count = mem_array(&h->mem, out, sizeof *w->count);
    w->weight = mem_array(&h->mem, out * w->size, sizeof *w->weight);
    w->exact = mem_array(&h->mem, w->size, sizeof *w->exact);
    if (!w->first || !w->count || !w->weight || !w->exact) return PEFT_ENOMEM;
    for (int32_t i = 0; i < out; i++) {
        double center = (i + 0.5) * scale, sum = 0;
        int32_t from = (int32_t)(center - support + 0.5), to = (int32_t)(center + support + 0.5);
        from = MAX(from, 0);
        to = MIN(to, in);
        for (int32_t k = 0; k < to - from; k++)
            sum += w->exact[k] = filter->f((k + from - center + 0.5) * (1.0 / wide));
        for (int32_t k = 0; k < to - from; k++) {
            double x = w->exact[k] * (sum != 0 ? 1.0 / sum : 1) * (1 << BITS);
            w->weight[i * w->size + k] = (int32_t)(x < 0 ? x - 0.5 : x + 0.5);
        }
        w->first[i] = from;
        w->count[i] = to - from;
    }
    return PEFT_OK;
}

static uint8_t clip(int32_t sum)
{
    sum >>= BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* One output element from inputs `step` bytes apart. */
static uint8_t mean(const struct weights *w, int32_t i, const uint8_t *in, int64_t step)
{
    const int32_t *weight = w->weight + i * w->size;
    int32_t sum = 1 << (BITS - 1);
    in += w->first[i] * step;
    for (int32_t k = 0; k < w->count[i]; k++, in += step) sum += *in * weight[k];
    return clip(sum);
}

/* Along x (down 0) or y. */
static int resize_axis(struct host *h, struct image *im, int down, int32_t size,
                       const struct filter *filter)
{
    struct weights w = {0};
    struct image to = {0};
    int64_t c = im->channels, row = im->w * c;
    if (size == (down ? im->h : im->w)) return PEFT_OK;
    int rc = weights_make(h, down ? im->h : im->w, size, filter, &w);
    if (!rc) rc = image_alloc(h, down ? im->w : size, down ? size : im->h, im->channels, INT64_MAX,
                              &to);
    for (int32_t y = 0; y < to.h; y++) {
        uint8_t *out = to.px + y * to.w * c;
        if (down)
            for (int64_t i = 0; i < row; i++) out[i] = mean(&w, y, im->px + i, row);
        for (int32_t x = 0; x < to.w && !down; x++)
            for (int64_t k = 0; k < c; k++)
                out[x * c + k] = mean(&w, x, im->px + y * row + k, c);
    }
    weights_free(h, &w);
    if (rc) return rc;
    image_free(h, im);
    *im = to;
    return PEFT_OK;
}

/* The steps are summed up, as Pillow does, so that ties round alike. */
static int resize_nearest(struct host *h, struct image *im, int32_t w, int32_t high)
{
    struct image to;
    int64_t c = im->channels;
    double dx = (double)im->w / w, dy = (double)im->h / high, u, v = dy * 0.5;
    int rc = image_alloc(h, w, high, im->channels, INT64_MAX, &to);
    if (rc) return rc;
    for (int32_t y = 0; y < high; y++, v += dy) {
        const uint8_t *row = im->px + MIN((int64_t)v, im->h - 1) * im->w * c;
        u = dx * 0.5;
        for (int32_t x = 0; x < w; x++, u += dx)
            memcpy(to.px + ((int64_t)y * w + x) * c, row + MIN((int64_t)u, im->w - 1) * c,
                   (size_t)c);
    }
    image_free(h, im);
    *im = to;
    return PEFT_OK;
}

int image_resize(struct host *h, struct image *im, int32_t w, int32_t high, enum resample how)
{
    if (w == im->w && high == im->h) return PEFT_OK;
    if (how == RESAMPLE_NEAREST) return resize_nearest(h, im, w, high);
    int rc = resize_axis(h, im, 0, w, &resample_filters[how]);
    return rc ? rc : resize_axis(h, im, 1, high, &resample_filters[how]);
}

int image_center_crop(struct host *h, struct image *im, int32_t w, int32_t high)
{
    struct image to;
    int64_t c = im->channels;
    if (w == im->w && high == im->h) return PEFT_OK;
    int rc = image_alloc(h, w, high, im->channels, INT64_MAX, &to);
    if (rc) return rc;
    memset(to.px, 0, (size_t)(w * high * c));
    /* Padding and cropping both give the odd pixel to the end. */
    int32_t left = MAX(im->w - w, 0) / 2, top = MAX(im->h - high, 0) / 2;
    int32_t x = MAX(w - im->w, 0) / 2, y = MAX(high - im->h, 0) / 2;
    int64_t n = MIN(w, im->w) * c;
    for (int32_t i = 0; i < MIN(high, im->h); i++)
        memcpy(to.px + ((int64_t)(y + i) * w + x) * c,
               im->px + ((int64_t)(top + i) * im->w + left) * c, (size_t)n);
    image_free(h, im);
    *im = to;
    return PEFT_OK;
}
