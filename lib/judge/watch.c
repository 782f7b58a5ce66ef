/* A run is watched: its losses are smoothed, and what goes wrong is named.
 *
 *     smooth_t = m_t / (1 - b^t),  m_t = b m_(t-1) + (1 - b) loss_t   (Kingma & Ba 2015)
 *
 * and the same of |loss - smooth|, the noise.  Limits are given where they are used; they
 * are wide, since a warning of a healthy run costs more than one of a broken run that comes
 * a few steps later. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "judge/judge.h"

enum {
    EARLY = 10,                 /* steps in which a dead run is named */
    FLAT = 8,                   /* losses that are compared */
    ZEROS = 3,                  /* steps without a gradient, or far too high a loss */
    TENSORS = 256, WHOLE = 16,  /* looked at: of LoRA's B, else */
    SAMPLES = 64,               /* numbers of each */
    FAR = 20                    /* steps between two notices of spikes */
};

struct mean { double sum, weight; };
struct looked { char *name; uint64_t hash; float sample[SAMPLES]; int n; };
struct past { int64_t step; double loss, value, smooth; };

struct peft_watch {
    struct mem mem;
    peft_watch_opts o;
    char *metric;
    struct mean smooth, noise, fast;
    double last[FLAT], start, least;    /* the loss before it trained; the least smooth one */
    int64_t n, n_looking;               /* steps; those since weights were looked at first */
    int64_t high, high_since, zero_grad, zero_lr, spiked;
    struct looked *looked;
    int64_t n_looked;
    int adapters;                       /* those are LoRA's B */
    struct past *past, first;
    int64_t n_past, best;               /* evaluations after step 0; the best one, -1 = none */
    int has_first;
    peft_notice *notice;
    int32_t n_notices;
    peft_step now;                      /* the last one */
};

static double mean_of(const struct mean *m) { return m->weight > 0 ? m->sum / m->weight : 0; }
static void mean_add(struct mean *m, double keep, double x)
{
    m->sum = keep * m->sum + (1 - keep) * x;
    m->weight = keep * m->weight + (1 - keep);
}

/* ---------------------------------------------------------------- notices */

/* The kind's notice, or NULL. */
static const peft_notice *noticed(const struct peft_watch *w, const char *kind)
{
    for (int32_t i = w->n_notices - 1; i >= 0; i--)
        if (!strcmp(w->notice[i].kind, kind)) return &w->notice[i];
    return NULL;
}

__attribute__((format(printf, 5, 6)))
static int notice_add(struct peft_watch *w, const char *kind, int64_t since, const char *advice,
                      const char *what, ...)
{
    peft_notice *more = mem_realloc(&w->mem, w->notice,
                                    (w->n_notices + 1) * (int64_t)sizeof(*more));
    if (!more) return PEFT_ENOMEM;
    w->notice = more;
    peft_notice *x = &more[w->n_notices++];
    *x = (peft_notice){ .size = sizeof(*x), .kind = kind, .step = w->now.step, .since = since };
    va_list v;
    va_start(v, what);
    vsnprintf(x->what, sizeof(x->what), what, v);
    va_end(v);
    snprintf(x->advice, sizeof(x->advice), "%s", advice);
    return PEFT_OK;
}

/* ---------------------------------------------------------------- weights */

/* A tensor as it is now. */
static int look(struct peft_watch *w, const char *name, struct looked *out)
{
    int64_t n = peft_model_read(w->o.model, name, NULL, 0);
    if (n < 0) return kit_failed((int32_t)n);
    float *x = mem_alloc(&w->mem, n * 4);
    if (!x) return PEFT_ENOMEM;
    int64_t rc = peft_model_read(w->o.model, name, x, n);
    out->hash = hash_floats(HASH_FLOATS, x, n);
    out->n = (int)MIN(n, SAMPLES);
    for (int i = 0; i < out->n; i++) out->sample[i] = x[i * n / out->n];
    mem_free(&w->mem, x);
    return rc < 0 ? kit_failed((int32_t)rc) : PEFT_OK;
}

/* Whether a tensor is one to look at; of LoRA those that begin with zero. */
static int is_looked(const peft_param *p, int adapters)
{
    return p->trainable && (adapters ? strstr(p->name, "lora_B") != NULL
                                     : p->rows * p->cols <= INT64_C(1) << 24);
}

static int look_first(struct peft_watch *w)
{
    peft_param p = { .size = sizeof(p) };
    int64_t all = 0, at = 0, n;
    for (int32_t i = 0; !peft_model_param(w->o.model, i, &p); i++)
        w->adapters |= is_looked(&p, 1);
    for (int32_t i = 0; !peft_model_param(w->o.model, i, &p); i++)
        all += is_looked(&p, w->adapters);
    n = MIN(all, w->adapters ? TENSORS : WHOLE);
    if (!n) return PEFT_OK;
    if (!(w->looked = mem_array(&w->mem, n, sizeof(*w->looked)))) return PEFT_ENOMEM;
    for (int32_t i = 0; !peft_model_param(w->o.model, i, &p); i++) {
        if (!is_looked(&p, w->adapters)) continue;
        if (at++ != w->n_looked * all / n || w->n_looked == n) continue;
        struct looked *x = &w->looked[w->n_looked];
        int rc = (x->name = mem_strdup(&w->mem, p.name)) ? look(w, x->name, x) : PEFT_ENOMEM;
        if (rc) return rc;
        w->n_looked++;
    }
    return PEFT_OK;
}

/* How far a tensor has moved, of its own size; LoRA's B by what A begins with. */
static double movement(const struct looked *a, const struct looked *b)
{
    double moved = 0, own = 0;
    for (int i = 0; i < a->n; i++) {
        moved += pow((double)b->sample[i] - (double)a->sample[i], 2);
        own += pow((double)a->sample[i], 2);
    }
    return sqrt(moved / (own > 0 ? own : 4e-4 * a->n));
}

static int look_again(struct peft_watch *w)
{
    static const char raise[] = "a higher learning rate; see that what trains is part of the "
                                "model's way to its loss";
    int64_t same = 0;
    double most = 0;
    const char *which = "";
    for (int64_t i = 0; i < w->n_looked; i++) {
        struct looked now = { 0 }, *was = &w->looked[i];
        int rc = look(w, was->name, &now);
        if (rc) return rc;
        same += now.hash == was->hash;
        which = now.hash == was->hash ? was->name : which;
        most = fmax(most, now.hash == was->hash ? 0 : fmax(movement(was, &now), 1e-300));
    }
    if (!w->n_looked || noticed(w, "dead")) return PEFT_OK;
    if (same == w->n_looked)
        return notice_add(w, "dead", 1, raise, "%s unchanged after %lld steps (%s)",
                          w->adapters ? "LoRA's B is" : "the weights are",
                          (long long)w->n_looking, which);
    if (most < 1e-6)
        return notice_add(w, "dead", 1, raise, "the weights have hardly moved in %lld steps: by "
                          "%.1g of their size, at a learning rate of %.2g", (long long)w->n_looking,
                          most, w->now.lr);
    if (same && w->adapters && !strstr(which, "expert"))
        return notice_add(w, "dead", 1, "leave those modules out of the targets, or see why the "
                          "loss does not depend on them",
                          "LoRA's B is unchanged in %lld of %lld modules (%s)", (long long)same,
                          (long long)w->n_looked, which);
    return PEFT_OK;
}

/* ------------------------------------------------------------------ steps */

/* From where on a loss is too high for a run that works: half as much again and 0.5 above
 * what it began with, or above guessing; later on twice what it has reached. */
static double too_high(const struct peft_watch *w)
{
    double limit = 1.5 * w->start + 0.5, chance = w->o.chance;
    if (chance > 0 && w->start < 0.9 * chance)
        limit = fmin(limit, fmax(1.05 * chance, 1.2 * w->start));
    if (w->n > EARLY)
        limit = fmin(limit, fmax(2 * w->least + 6 * mean_of(&w->noise), 0.5 * w->start + 0.5));
    return limit;
}

static int see_divergence(struct peft_watch *w, const peft_step *s)
{
    char advice[120];
    int over = mean_of(&w->fast) > too_high(w);
    if (over && !w->high) w->high_since = s->step;
    w->high = over ? w->high + 1 : 0;
    if (w->high != ZEROS || noticed(w, "diverged")) return PEFT_OK;
    snprintf(advice, sizeof(advice), "a learning rate of %.1g or less, or a warm-up",
             fmin(s->lr / 10, 1e-3));
    return notice_add(w, "diverged", w->high_since, advice,
                      "the loss diverges: %.3g, after %.3g %s", s->loss,
                      w->n > EARLY ? w->least : w->start,
                      w->n > EARLY ? "at its best" : "at the start");
}

static int see_spike(struct peft_watch *w, const peft_step *s, double before, double noise)
{
    int far = w->n > EARLY && s->loss > before + 6 * noise && s->loss > 1.5 * before;
    if (!far || (w->spiked && s->step < w->spiked + FAR) || w->high > 1) return PEFT_OK;
    w->spiked = s->step;
    return notice_add(w, "spike", s->step, "nothing, if the loss comes back; else a smaller "
                      "learning rate, or a look at the rows of this step",
                      "a spike: the loss is %.3g after %.3g, the gradient's norm %.3g", s->loss,
                      before, s->grad_norm);
}

static int see_death(struct peft_watch *w, const peft_step *s)
{
    double low = INFINITY, high = 0;
    int ends = s->steps > 0 && 10 * s->step > 9 * s->steps && s->step > ZEROS;
    w->zero_grad = s->grad_norm < 1e-12 ? w->zero_grad + 1 : 0;
    w->zero_lr = s->lr <= 0 && !ends ? w->zero_lr + 1 : 0;
    for (int i = 0; i < FLAT; i++) {
        low = fmin(low, w->last[i]);
        high = fmax(high, w->last[i]);
    }
    if (noticed(w, "dead")) return PEFT_OK;
    if (w->zero_grad == ZEROS)
        return notice_add(w, "dead", s->step - ZEROS + 1, "see that what trains is part of the "
                          "model's way to its loss, and that the rows have something to train",
                          "the gradient is zero");
    if (w->zero_lr == ZEROS)
        return notice_add(w, "dead", s->step - ZEROS + 1, "a learning rate above zero",
                          "the learning rate is zero");
    if (w->n >= FLAT && high - low < 1e-4 * fabs(high) && high > 1e-3)
        return notice_add(w, "dead", s->step - FLAT + 1, "a higher learning rate, if it is not "
                          "still warming up", "the loss is flat: %.5g to %.5g in %d steps", low,
                          high, FLAT);
    if (s->step > w->o.resumed) w->n_looking++;
    return w->n_looking == EARLY / 2 || w->n_looking == EARLY ? look_again(w) : PEFT_OK;
}

static int see_chance(struct peft_watch *w, const peft_step *s)
{
    double smooth = mean_of(&w->smooth), chance = w->o.chance;
    if (!(chance > 0) || w->n < EARLY || 5 * s->step < s->steps || smooth < 0.97 * chance ||
        smooth < 0.98 * w->start || noticed(w, "chance") || noticed(w, "diverged") ||
        noticed(w, "dead"))
        return PEFT_OK;
    return notice_add(w, "chance", 1, "a higher learning rate; labels and texts that belong "
                      "together", "the loss is %.3g, and that of guessing %.3g", smooth, chance);
}

static int watch_step(struct peft_watch *w, const peft_step *s)
{
    double before = mean_of(&w->smooth), noise = mean_of(&w->noise);
    w->now = *s;
    if (!isfinite(s->loss) || !isfinite(s->grad_norm))
        return noticed(w, "nonfinite") ? PEFT_OK
               : notice_add(w, "nonfinite", s->step, "a smaller learning rate, gradients that are "
                            "clipped, or a warm-up", "the loss or the gradient is not finite");
    if (!w->n++) {
        before = s->loss;
        w->start = w->has_first ? fmax(w->first.loss, s->loss) : s->loss;
        w->least = s->loss;
    }
    w->last[w->n % FLAT] = s->loss;
    mean_add(&w->smooth, w->o.smoothing, s->loss);
    mean_add(&w->fast, 0.5, s->loss);
    int rc = see_divergence(w, s);
    if (!rc) rc = see_spike(w, s, before, noise);
    /* One far loss does not make the noise. */
    double off = fabs(s->loss - before);
    if (w->n > 1) mean_add(&w->noise, 0.9, w->n > EARLY ? fmin(off, 3 * noise) : off);
    w->least = fmin(w->least, mean_of(&w->smooth));
    if (!rc) rc = see_death(w, s);
    return rc ? rc : see_chance(w, s);
}

/* ------------------------------------------------------------ evaluations */

static int metric_value(const struct peft_watch *w, const peft_evaluation *e, double *value)
{
    *value = e->loss;
    if (!strcmp(w->metric, "loss")) return PEFT_OK;
    for (int32_t i = 0; i < e->n_metrics; i++)
        if (!strcmp(w->metric, e->metrics[i].name)) {
            *value = e->metrics[i].value;
            return PEFT_OK;
        }
    return fail(PEFT_ENOTFOUND, "the evaluation has no metric \"%s\", expected loss%s%s%s",
                w->metric, e->n_metrics ? ", " : "", e->n_metrics ? e->metrics[0].name : "",
                e->n_metrics > 1 ? " ..." : "");
}

/* By the metric; where that is the same, by the loss. */
static int is_better(const struct peft_watch *w, const struct past *a, const struct past *b)
{
    if (!(a->value < b->value) && !(a->value > b->value)) return a->loss < b->loss;
    return peft_metric_falls(w->metric) ? a->value < b->value : a->value > b->value;
}

/* The evaluation got worse since its best one while the training loss fell: at once
 * when by a twentieth, else when it stays so for two evaluations. */
static int see_overfitting(struct peft_watch *w)
{
    const struct past *now = &w->past[w->n_past - 1], *best = w->past;
    for (int64_t i = 1; i < w->n_past; i++)
        if (w->past[i].loss < best->loss) best = &w->past[i];
    double rise = now->loss / best->loss - 1;
    if (noticed(w, "overfitting") || !(rise > 0.01) || !(now->smooth < 0.98 * best->smooth) ||
        (now - best < 2 && rise < 0.05))
        return PEFT_OK;
    return notice_add(w, "overfitting", best->step, "end there (patience, and keep the best "
                      "evaluation); fewer epochs, more or more varied rows, dropout, a smaller "
                      "rank or learning rate", "since step %lld the training loss fell from %.3g "
                      "to %.3g, while that of the evaluation rose from %.3g to %.3g",
                      (long long)best->step, best->smooth, now->smooth, best->loss, now->loss);
}

static int see_worse(struct peft_watch *w)
{
    const struct past *now = &w->past[w->n_past - 1];
    int early = w->now.steps > 0 && 5 * now->step < w->now.steps;
    if (!w->has_first || early || noticed(w, "worse") || noticed(w, "overfitting") ||
        !(now->loss > 1.02 * w->first.loss))
        return PEFT_OK;
    return notice_add(w, "worse", 0, "a smaller learning rate, or fewer steps; see that the "
                      "evaluation's rows are like those that train",
                      "the evaluation is worse than before the training: loss %.3g, it was %.3g",
                      now->loss, w->first.loss);
}

static int watch_eval(struct peft_watch *w, int64_t step, const peft_evaluation *e)
{
    struct past x = { step, e->loss, 0, w->n ? mean_of(&w->smooth) : NAN };
    int rc = metric_value(w, e, &x.value);
    if (rc) return rc;
    if (!step) {
        w->first = x;
        w->has_first = 1;
        return PEFT_OK;
    }
    struct past *more = mem_realloc(&w->mem, w->past, (w->n_past + 1) * (int64_t)sizeof(*more));
    if (!more) return PEFT_ENOMEM;
    w->past = more;
    more[w->n_past] = x;
    if (isfinite(x.value) && (w->best < 0 || is_better(w, &x, &more[w->best])))
        w->best = w->n_past;
    w->n_past++;
    rc = see_overfitting(w);
    return rc ? rc : see_worse(w);
}

/* ----------------------------------------------------------------- public */

int32_t peft_metric_falls(const char *metric)
{
    static const char *const falls[] = { "loss", "perplexity", "mse", "mae", "brier" };
    for (size_t i = 0; i < ARRAY_LEN(falls); i++)
        if (metric && !strcmp(metric, falls[i])) return 1;
    return 0;
}

void peft_watch_free(peft_watch *watch)
{
    if (!watch) return;
    struct mem mem = watch->mem;
    for (int64_t i = 0; i < watch->n_looked; i++) mem_free(&watch->mem, watch->looked[i].name);
    mem_free(&watch->mem, watch->looked);
    mem_free(&watch->mem, watch->past);
    mem_free(&watch->mem, watch->notice);
    mem_free(&watch->mem, watch->metric);
    mem_free(&mem, watch);
}

/* The loss of equal probabilities, where it is a cross entropy of one label. */
static double chance_of(const peft_model *model)
{
    peft_info i = { .size = sizeof(i) };
    if (!model || peft_model_info(model, &i)) return 0;
    if (!strcmp(i.head, "language-model")) return log((double)MAX(i.vocab, 1));
    if (!strcmp(i.head, "classification") || !strcmp(i.head, "tokens"))
        return log((double)MAX(i.labels, 1));
    return 0;
}

int32_t peft_watch_new(const peft_watch_opts *opts, peft_watch **out)
{
    peft_watch_opts o;
    struct mem mem;
    KIT_ARG(out, "no place for the watch given");
    *out = NULL;
    int rc = take_options(&o, sizeof(o), opts);
    if (rc) return kit_end(rc);
    KIT_ARG(o.patience >= 0 && o.smoothing >= 0 && o.smoothing < 1 && o.chance >= 0,
            "patience %d, smoothing %g, chance %g, expected 0 or more, and smoothing below 1",
            o.patience, o.smoothing, o.chance);
    mem_init(&mem, NULL, NULL);
    peft_watch *w = mem_zalloc(&mem, sizeof(*w));
    if (!w) return kit_end(PEFT_ENOMEM);
    mem_init(&w->mem, NULL, NULL);
    w->o = o;
    w->best = -1;
    if (!(o.smoothing > 0)) w->o.smoothing = 0.9;
    if (!(o.chance > 0)) w->o.chance = chance_of(o.model);
    if (!(w->metric = mem_strdup(&w->mem, o.metric ? o.metric : "loss"))) rc = PEFT_ENOMEM;
    if (!rc && o.model) rc = look_first(w);
    if (rc) peft_watch_free(w);
    else *out = w;
    return kit_end(rc);
}

int32_t peft_watch_step(peft_watch *watch, const peft_step *step)
{
    KIT_ARG(watch && step, "no watch or step given");
    return kit_end(watch_step(watch, step));
}

int32_t peft_watch_eval(peft_watch *watch, int64_t step, const peft_evaluation *e)
{
    KIT_ARG(watch && e && step >= 0, "no watch or evaluation given");
    return kit_end(watch_eval(watch, step, e));
}

int32_t peft_watch_info(const peft_watch *watch, peft_watched *out)
{
    KIT_ARG(watch, "no watch given");
    int rc = check_result(out);
    if (rc) return kit_end(rc);
    const struct past *best = watch->best >= 0 ? &watch->past[watch->best] : NULL;
    peft_watched x = { .smooth = mean_of(&watch->smooth), .steps = watch->n,
                       .evaluations = watch->n_past + watch->has_first,
                       .best_step = best ? best->step : -1, .best = best ? best->value : NAN,
                       .best_loss = best ? best->loss : NAN,
                       .first_loss = watch->has_first ? watch->first.loss : NAN,
                       .n_notices = watch->n_notices };
    x.waited = best ? (int32_t)(watch->n_past - 1 - watch->best) : 0;
    x.improved = best && !x.waited;
    x.stop = watch->o.patience > 0 && x.waited >= watch->o.patience;
    give_result(out, &x, sizeof(x));
    return PEFT_OK;
}

int32_t peft_watch_notice(const peft_watch *watch, int32_t i, peft_notice *out)
{
    KIT_ARG(watch && i >= 0, "no watch given, or a notice before the first");
    int rc = check_result(out);
    if (rc) return kit_end(rc);
    if (i >= watch->n_notices)
        return kit_end(fail(PEFT_EEND, "there are %d notices", watch->n_notices));
    peft_notice x = watch->notice[i];
    give_result(out, &x, sizeof(x));
    return PEFT_OK;
}
