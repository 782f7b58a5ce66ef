/* Random changes of training pictures.  All that moves pixels is one affine
 * map around the middle, sampled bilinearly with the edge repeated outside:
 *
 *     crop, zoom -> shift -> rotate -> mirror
 *
 * then brightness (pixels times 1 + b), contrast (distance from the middle grey times
 * 1 + c), saturation (distance from the pixel's own grey times 1 + s) and hue (a turn
 * of the circle in HSV), the last two as torchvision's adjust_saturation and adjust_hue.
 * Draws are Philox(seed; epoch; 8 row + which): they depend on nothing else. */
#include "data/image.h"

#include <math.h>
#include <stdlib.h>

static const struct option {
    const char *name;
    size_t at;
    float absent, most;             /* value where only the name stands; 0 = a value is needed */
} options[] = {
    {"flip", offsetof(struct augment, flip), 0.5f, 1},
    {"rotate", offsetof(struct augment, rotate), 10, 180},
    {"crop", offsetof(struct augment, crop), 0.1f, 0.95f},
    {"shift", offsetof(struct augment, shift), 0.1f, 0.95f},
    {"brightness", offsetof(struct augment, brightness), 0.2f, 1},
    {"contrast", offsetof(struct augment, contrast), 0.2f, 1},
    {"saturation", offsetof(struct augment, saturation), 0.2f, 1},
    {"hue", offsetof(struct augment, hue), 0.05f, 0.5f},
};

/* "0.25": digits and one point, whatever the locale. */
static const char *read_decimal(const char *s, float *out)
{
    double x = 0, unit = 1;
    int digits = 0;
    for (; *s >= '0' && *s <= '9' && digits < 9; s++, digits++) x = x * 10 + (*s - '0');
    if (*s == '.')
        for (s++; *s >= '0' && *s <= '9' && digits < 18; s++, digits++)
            x += (*s - '0') * (unit /= 10);
    *out = (float)x;
    return digits ? s : NULL;
}

int augment_parse(const char *text, struct augment *out)
{
    *out = (struct augment){0};
    for (const char *s = text ? text : ""; *s;) {
        size_t n = strcspn(s, "=,"), i = 0;
        while (i < ARRAY_LEN(options) &&
               (strlen(options[i].name) != n || memcmp(options[i].name, s, n) != 0))
            i++;
        if (i == ARRAY_LEN(options))
            return fail(PEFT_EARG, "augmentation \"%.*s\", expected flip, rotate, crop, shift, "
                        "brightness, contrast, saturation or hue", (int)MIN(n, 40), s);
        float value = options[i].absent;
        const char *end = s + n;
        if (*end == '=') end = read_decimal(end + 1, &value);
        if (!end || (*end && *end != ',') || !(value <= options[i].most))
            return fail(PEFT_EARG, "augmentation \"%s\", expected a number of 0 to %g for %s", text,
                        (double)options[i].most, options[i].name);
        memcpy((char *)out + options[i].at, &value, sizeof value);
        out->on |= value > 0;
        s = *end ? end + 1 : end;
    }
    return PEFT_OK;
}

struct draws { uint64_t seed, stream, index; };

/* From the eighth on they lie in further streams. */
static double draw(const struct draws *d, int which)
{
    return (double)rng_uniform(d->seed, d->stream + ((uint64_t)(which / 8) << 48),
                               d->index + (uint64_t)(which % 8));
}
static double draw_both_ways(const struct draws *d, int which, float most)
{
    return (2 * draw(d, which) - 1) * (double)most;
}

/* Of output (x, y), from the middle, the input (a x + b y + c, d x + e y + f). */
struct map_2d { double a, b, c, d, e, f; };

static struct map_2d draw_map(const struct augment *o, const struct draws *d,
                              const struct vision *v)
{
    const double degree = 3.14159265358979323846 / 180;
    double side = 1 - (double)o->crop * draw(d, 0), mirror = draw(d, 2) < (double)o->flip ? -1 : 1;
    double angle = degree * draw_both_ways(d, 1, o->rotate);
    float room = (float)(1 - side) / 2 + o->shift;
    double u = draw_both_ways(d, 3, room) * v->w, w = draw_both_ways(d, 4, room) * v->h;
    double s = side * sin(angle), c = side * cos(angle);
    return (struct map_2d){c * mirror, -s, u, s * mirror, c, w};
}

static double clamp(double x, double most) { return x < 0 ? 0 : x > most ? most : x; }

/* HSV's way back, of value v and chroma c, is v - c clamp(min(k, 4 - k), 0, 1) with k = n + h
 * modulo 6, h the hue in sixths and n 5, 3, 1. */
void change_colour(const struct colour *c, double *x, int32_t channels)
{
    for (int32_t k = 0; k < channels; k++)
        x[k] = (x[k] * c->brightness - 127.5) * c->contrast + 127.5;
    if (channels != 3 || (c->saturation == 1 && c->hue == 0)) return;
    for (int k = 0; k < 3; k++) x[k] = clamp(x[k], 255);
    double grey = 0.2989 * x[0] + 0.587 * x[1] + 0.114 * x[2];
    for (int k = 0; k < 3; k++) x[k] = clamp(grey + c->saturation * (x[k] - grey), 255);
    double r = x[0], g = x[1], b = x[2], v = MAX(MAX(r, g), b), chroma = v - MIN(MIN(r, g), b);
    if (!(chroma > 0)) return;
    double h = v == r ? (g - b) / chroma : v == g ? 2 + (b - r) / chroma : 4 + (r - g) / chroma;
    for (int k = 0; k < 3; k++) {
        double at = 5 - 2 * k + h + 6 * c->hue;
        while (at >= 6) at -= 6;
        x[k] = v - chroma * clamp(MIN(at, 4 - at), 1);
    }
}

static uint8_t to_byte(double x) { return (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x + 0.5); }

/* The value at (u, w), which lie on pixels' centres at whole numbers. */
static double sample_bilinear(const struct vision *v, const uint8_t *px, double u, double w,
                              int32_t k)
{
    u = MIN(MAX(u, 0), v->w - 1);
    w = MIN(MAX(w, 0), v->h - 1);
    int32_t x = MIN((int32_t)u, MAX(v->w - 2, 0)), y = MIN((int32_t)w, MAX(v->h - 2, 0));
    int32_t right = x + 1 < v->w, down = y + 1 < v->h, c = v->channels;
    const uint8_t *p = px + ((int64_t)y * v->w + x) * c + k, *q = p + (int64_t)down * v->w * c;
    double s = u - x, t = w - y;
    double top = p[0] + s * (p[right * c] - p[0]), low = q[0] + s * (q[right * c] - q[0]);
    return top + t * (low - top);
}

void augment_picture(const struct augment *o, const struct vision *v, uint64_t seed, int64_t epoch,
                     int64_t row, const uint8_t *from, uint8_t *to)
{
    struct draws d = {seed, rng_stream(RNG_AUGMENT, (uint32_t)epoch), (uint64_t)row * 8};
    struct map_2d m = draw_map(o, &d, v);
    struct colour c = {1 + draw_both_ways(&d, 5, o->brightness),
                       1 + draw_both_ways(&d, 6, o->contrast),
                       1 + draw_both_ways(&d, 7, o->saturation), draw_both_ways(&d, 8, o->hue)};
    if (c.hue < 0) c.hue++;
    double cx = (v->w - 1) / 2.0, cy = (v->h - 1) / 2.0, px[3];
    for (int32_t y = 0; y < v->h; y++)
        for (int32_t x = 0; x < v->w; x++) {
            double i = x - cx, j = y - cy;
            double u = cx + m.a * i + m.b * j + m.c, w = cy + m.d * i + m.e * j + m.f;
            for (int32_t k = 0; k < v->channels; k++) px[k] = sample_bilinear(v, from, u, w, k);
            change_colour(&c, px, v->channels);
            for (int32_t k = 0; k < v->channels; k++) *to++ = to_byte(px[k]);
        }
}
