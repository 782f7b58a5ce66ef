/* The space of a search: axes of ranges and choices, and points in it.
 *
 * Point k has the coordinates frac(shift_j + k / g^(j + 1)), where g is the root of
 * x^(d + 1) = x + 1 (Roberts 2018, "The unreasonable effectiveness of quasirandom
 * sequences"): any number of points is spread evenly.  The shift is drawn. */
#include <math.h>
#include <stdio.h>

#include "base/rng.h"
#include "judge/tune.h"

static const struct knob knobs[] = {
    { "lr", KNOB_REAL, 1, 1e-9, 1e3, 1e-3 },
    { "rank", KNOB_WHOLE, 1, 1, 65536, 16 },
    { "targets", KNOB_TEXT, 0, 0, 0, 0 },
    { "epochs", KNOB_WHOLE, 0, 1, 10000, 3 },
    { "batch", KNOB_WHOLE, 1, 1, 65536, 4 },
    { "alpha", KNOB_REAL, 1, 1e-3, 1e6, 32 },
    { "dropout", KNOB_REAL, 0, 0, 0.999, 0 },
    { "warmup", KNOB_REAL, 0, 0, 1e9, 0 },
    { "weight-decay", KNOB_REAL, 0, 0, 1e3, 0 },
};

/* "5e-05": three digits, that are also what is trained with. */
static void put_number(char out[SETTING], double x)
{
    struct mem mem;
    struct buf b;
    double unit = 1;
    mem_init(&mem, NULL, NULL);
    buf_init(&b, &mem);
    while (x > 0 && x * unit < 100 && unit < 1e15) unit *= 10;
    while (x > 0 && x * unit >= 1000 && unit > 1e-15) unit /= 10;
    buf_number(&b, unit >= 1 ? round(x * unit) / unit : round(x));
    snprintf(out, SETTING, "%s", buf_str(&b));
    buf_free(&b);
}

static int take_number(const struct knob *k, const char *text, int64_t n, double *out)
{
    json *j = NULL;
    int rc = json_parse(text, n, "search", &j);
    *out = rc ? NAN : json_number(j, NAN);
    json_free(j);
    if (!rc && *out >= k->least && *out <= k->most &&
        (k->kind != KNOB_WHOLE || !(*out != floor(*out))))
        return PEFT_OK;
    return fail(PEFT_EARG, "search: %s is \"%.*s\", expected %s of %g to %g", k->name,
                (int)MIN(n, 60), text, k->kind == KNOB_WHOLE ? "whole numbers" : "numbers",
                k->least, k->most);
}

/* The values of an axis, n bytes. */
static int take_values(struct axis_of *a, const char *text, int64_t n)
{
    const struct knob *k = a->knob;
    const char *dots = k->kind == KNOB_TEXT ? NULL : strstr(text, "..");
    if (dots && dots < text + n) {
        int rc = take_number(k, text, dots - text, &a->low);
        if (!rc) rc = take_number(k, dots + 2, text + n - dots - 2, &a->high);
        if (!rc && !(a->low < a->high && (!k->log || a->low > 0)))
            rc = fail(PEFT_EARG, "search: %s is \"%.*s\", expected the smaller end first",
                      k->name, (int)n, text);
        return rc;
    }
    for (const char *end = text + n; text <= end; text++) {
        int64_t m = 0;
        double x = 0;
        while (text + m < end && text[m] != '|') m++;
        if (!m || m >= SETTING || a->n == CHOICES)
            return fail(PEFT_EARG, "search: %s has an empty value, one of more than %d bytes or "
                        "more than %d of them", k->name, SETTING - 1, CHOICES);
        int rc = k->kind == KNOB_TEXT ? PEFT_OK : take_number(k, text, m, &x);
        if (rc) return rc;
        if (k->kind == KNOB_TEXT)
            snprintf(a->choice[a->n++], SETTING, "%.*s", (int)m, text);
        else
            put_number(a->choice[a->n++], x);
        text += m;
    }
    return PEFT_OK;
}

static const struct knob *knob_of(const char *name, int64_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(knobs); i++) {
        const char *k = knobs[i].name;
        int64_t at = 0;
        while (at < n && k[at] && (k[at] == name[at] || (k[at] == '-' && name[at] == '_'))) at++;
        if (at == n && !k[at]) return &knobs[i];
    }
    return NULL;
}

/* Where an axis ends: at a comma after which another one begins. */
static int64_t axis_len(const char *text)
{
    int64_t n = 0;
    while (text[n]) {
        if (text[n] == ',' && strcspn(text + n + 1, ",=") < strlen(text + n + 1) &&
            text[n + 1 + (int64_t)strcspn(text + n + 1, ",=")] == '=')
            break;
        n++;
    }
    return n;
}

int space_parse(const char *text, struct space *out)
{
    *out = (struct space){ 0 };
    while (*text) {
        int64_t n = axis_len(text), name = (int64_t)strcspn(text, "=");
        const struct knob *k = name < n ? knob_of(text, name) : NULL;
        if (!k)
            return fail(PEFT_EARG, "search: \"%.*s\", expected lr=, rank=, targets=, epochs=, "
                        "batch=, alpha=, dropout=, warmup= or weight-decay=", (int)MIN(n, 60),
                        text);
        for (int i = 0; i < out->n; i++)
            if (out->axis[i].knob == k)
                return fail(PEFT_EARG, "search: %s is given twice", k->name);
        if (out->n == PEFT_KNOBS)
            return fail(PEFT_EARG, "search: more than %d settings", PEFT_KNOBS);
        struct axis_of *a = &out->axis[out->n++];
        a->knob = k;
        a->usual = k->usual;
        int rc = take_values(a, text + name + 1, n - name - 1);
        if (rc) return rc;
        text += text[n] ? n + 1 : n;
    }
    return out->n ? PEFT_OK : fail(PEFT_EARG, "search: nothing to search for");
}

/* ----------------------------------------------------------------- points */

static void draw_range(const struct axis_of *a, double u, char out[SETTING])
{
    const struct knob *k = a->knob;
    double low = a->low, high = a->high + (k->kind == KNOB_WHOLE && !k->log), x;
    x = k->log ? low * pow(high / low, u) : low + (high - low) * u;
    if (k->kind == KNOB_WHOLE) x = fmin(k->log ? round(x) : floor(x), a->high);
    put_number(out, x);
}

/* The usual setting, or what is nearest to it. */
static void draw_usual(const struct axis_of *a, char out[SETTING])
{
    const struct knob *k = a->knob;
    int best = 0;
    double least = INFINITY;
    if (!a->n) {
        put_number(out, fmax(a->low, fmin(a->high, a->usual)));
        return;
    }
    for (int i = 0; i < a->n && k->kind != KNOB_TEXT; i++) {
        double x = 0;
        take_number(k, a->choice[i], (int64_t)strlen(a->choice[i]), &x);
        double off = fabs(k->log ? log(x / a->usual) : x - a->usual);
        if (off < least) best = i;
        least = fmin(least, off);
    }
    memcpy(out, a->choice[best], SETTING);
}

void space_draw(const struct space *s, uint64_t seed, int64_t trial, peft_trial *out)
{
    double g = 2;
    for (int i = 0; i < 60; i++) g = pow(1 + g, 1.0 / (s->n + 1));
    out->n = s->n;
    for (int j = 0; j < s->n; j++) {
        const struct axis_of *a = &s->axis[j];
        uint64_t stream = rng_stream(RNG_SAMPLE, 64);
        double u = (double)rng_uniform(seed, stream, (uint64_t)j) +
                   (double)trial * pow(1 / g, j + 1);
        u -= floor(u);
        out->name[j] = a->knob->name;
        if (!trial) draw_usual(a, out->value[j]);
        else if (!a->n) draw_range(a, u, out->value[j]);
        else memcpy(out->value[j], a->choice[MIN((int)(u * a->n), a->n - 1)], SETTING);
    }
}

const char *trial_text(const peft_trial *t, const char *name)
{
    for (int i = 0; i < t->n; i++)
        if (!strcmp(t->name[i], name)) return t->value[i];
    return NULL;
}

double trial_number(const peft_trial *t, const char *name, double absent)
{
    const char *text = trial_text(t, name);
    json *j = NULL;
    double x = absent;
    if (text && !json_parse(text, (int64_t)strlen(text), name, &j)) x = json_number(j, absent);
    json_free(j);
    return x;
}
