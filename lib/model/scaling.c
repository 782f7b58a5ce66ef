/* Scalings of rotary positions in files: config.json's rope_parameters (or
 * rope_scaling, before transformers 5), GGUF's ARCH.rope.scaling.* with its
 * tensors rope_freqs, rope_factors_short and rope_factors_long, both ways. */
#include <math.h>
#include <stdio.h>

#include "model/load.h"
#include "model/rope.h"

enum { BY_LINEAR = 1 << ROPE_LINEAR, BY_DYNAMIC = 1 << ROPE_DYNAMIC, BY_LLAMA3 = 1 << ROPE_LLAMA3,
       BY_YARN = 1 << ROPE_YARN, BY_LONG = 1 << ROPE_LONG };

/* The numbers of each kind.  A 0 counts as not said, as in transformers.
 * llama.cpp multiplies by yarn's usual attention factor in any case, so GGUF
 * holds what exceeds it (attention_unit). */
#define AT(field) offsetof(struct rope_scaling, field)
static const struct number {
    const char *hf, *gguf;
    uint16_t at;
    uint8_t kinds;
    double absent;
} scale_numbers[] = {
    { "factor", "rope.scaling.factor", AT(factor), BY_LINEAR | BY_DYNAMIC | BY_LLAMA3 | BY_YARN,
      0 },
    { "factor", NULL, AT(factor), BY_LONG, 0 },
    { "original_max_position_embeddings", "rope.scaling.original_context_length", AT(original),
      BY_YARN | BY_LONG, 0 },
    { "original_max_position_embeddings", NULL, AT(original), BY_LLAMA3, 0 },
    { "low_freq_factor", NULL, AT(low), BY_LLAMA3, 0 },
    { "high_freq_factor", NULL, AT(high), BY_LLAMA3, 0 },
    { "beta_slow", "rope.scaling.yarn_beta_slow", AT(low), BY_YARN, 1 },
    { "beta_fast", "rope.scaling.yarn_beta_fast", AT(high), BY_YARN, 32 },
    { "attention_factor", "rope.scaling.attn_factor", AT(attention), BY_YARN | BY_LONG, 0 },
    { "mscale", NULL, AT(mscale), BY_YARN, 0 },
    { "mscale_all_dim", NULL, AT(mscale_all), BY_YARN, 0 },
};
#undef AT

static int scaled_by(const struct rope_scaling *s, unsigned kinds)
{
    return s->kind && (kinds >> (s->kind - rope_kinds) & 1);
}

static double *scale_number(const struct rope_scaling *s, const struct number *n)
{
    return (double *)(uintptr_t)((const char *)s + n->at);
}

static double attention_unit(const struct rope_scaling *s)
{
    return scaled_by(s, BY_YARN) ? rope_yarn_mscale(s->factor, 1.0) : 1.0;
}

/* --- what both formats have in common */

static int settle_scaling(struct model *m, struct rope_scaling *s)
{
    struct hparams *hp = &m->hp;
    const char *name = s->kind->name;
    double most = (double)hp->max_len;
    if (s->original == 0) s->original = most;
    if (s->factor == 0 && scaled_by(s, BY_YARN | BY_LONG)) s->factor = most / s->original;
    if (!(s->factor > 0) || !(s->original >= 1) || !isfinite(s->factor + s->original) ||
        (scaled_by(s, BY_LLAMA3 | BY_YARN) &&
         (!(s->low > 0) || !(s->high > s->low) || !isfinite(s->high))))
        return fail(PEFT_EFORMAT, "%s: rope scaling \"%s\" lacks its factors", m->path, name);
    if (s->attention == 0 && s->kind->attention) s->attention = s->kind->attention(s);
    if (!(s->attention >= 0) || !isfinite(s->attention))
        return fail(PEFT_EFORMAT, "%s: rope scaling \"%s\" with an attention factor of %g", m->path,
                    name, s->attention);
    if (scaled_by(s, BY_DYNAMIC) && hp->rot <= 2)
        return fail(PEFT_EFORMAT, "%s: rope scaling \"%s\" of 2 dimensions", m->path, name);
    double room = s->kind->room == ROOM_TIMES_MAX        ? most * s->factor
                  : s->kind->room == ROOM_TIMES_ORIGINAL ? s->original * s->factor
                  : s->kind->room == ROOM_ANY            ? 1 << 30
                                                         : most;
    hp->room = MAX(hp->room, (int64_t)fmin(room, 1 << 30));
    return PEFT_OK;
}

/* --- config.json */

static int read_divisors(struct model *m, const json *r, const char *key, const float **out)
{
    const json *list = json_get(r, key);
    int64_t n = m->hp.rot / 2, i = 0;
    float *x = json_count(list) == n ? arena_alloc(&m->arena, n * 4) : NULL;
    if (json_kind(list) != JSON_ARRAY || json_count(list) != n)
        return fail(PEFT_EFORMAT, "%s: rope scaling without \"%s\" of %lld numbers", m->path, key,
                    (long long)n);
    if (!x) return PEFT_ENOMEM;
    *out = x;
    for (const json *j = json_first(list); j; j = json_next(j), i++) {
        x[i] = (float)json_number(j, 0);
        if (!(x[i] > 0) || !isfinite(x[i]))
            return fail(PEFT_EFORMAT, "%s: \"%s\"[%d] is no number above 0", m->path, key, (int)i);
    }
    return PEFT_OK;
}

/* "su" is longrope's first name; the first Phi 3 said "yarn" with its lists. */
static const struct rope_kind *kind_by_name(const char *name, const json *r)
{
    if (!strcmp(name, "su") || json_kind(json_get(r, "long_factor")) == JSON_ARRAY)
        name = "longrope";
    for (int i = 0; i < ROPE_TYPES; i++)
        if (!strcmp(name, rope_kinds[i].name)) return &rope_kinds[i];
    return NULL;
}

/* 1 = scaled. */
static int scaling_object(struct model *m, const char *path, struct rope_scaling *s)
{
    const json *root = store_config(m->store), *r = json_get(root, path);
    const json *type = json_get(r, "rope_type");
    if (json_kind(r) == JSON_NULL) return 0;
    if (json_kind(type) == JSON_NULL) type = json_get(r, "type");
    const char *name = json_string(type);
    if (json_kind(r) != JSON_OBJECT || (json_kind(type) != JSON_NULL && !name))
        return fail(PEFT_EFORMAT, "%s: \"%s\" is no object with a type", m->path, path);
    if (!name || !strcmp(name, "default")) return 0;
    if (!(s->kind = kind_by_name(name, r)))
        return fail(PEFT_EUNSUPPORTED, "rope scaling \"%s\", expected default, linear, dynamic, "
                    "llama3, yarn or longrope", name);
    double outside = json_number(json_get(root, "original_max_position_embeddings"), 0);
    if (outside != 0 && scaled_by(s, BY_LLAMA3 | BY_YARN | BY_LONG)) s->original = outside;
    for (size_t i = 0; i < ARRAY_LEN(scale_numbers); i++) {
        double *x = scale_number(s, &scale_numbers[i]);
        if (!scaled_by(s, scale_numbers[i].kinds) || *x != 0) continue;
        const json *j = json_get(r, scale_numbers[i].hf);
        if (json_kind(j) != JSON_NULL && json_kind(j) != JSON_NUMBER)
            return fail(PEFT_EFORMAT, "%s: \"%s\" of \"%s\" is no number", m->path,
                        scale_numbers[i].hf, path);
        *x = json_number(j, 0);
        if (*x == 0) *x = scale_numbers[i].absent;
    }
    s->exact = !json_bool(json_get(r, "truncate"), 1);
    int rc = PEFT_OK;
    if (scaled_by(s, BY_LONG)) rc = read_divisors(m, r, "short_factor", &s->divide[0]);
    if (scaled_by(s, BY_LONG) && !rc) rc = read_divisors(m, r, "long_factor", &s->divide[1]);
    return rc ? rc : 1;
}

static int config_scaling(struct model *m)
{
    static const struct { const char *path; int table; } at[] = {
        { "rope_parameters.full_attention", 0 }, { "rope_parameters.sliding_attention", 1 },
        { "rope_parameters", 0 }, { "rope_scaling", 0 } };
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        struct rope_scaling *s = &m->hp.rope[at[i].table];
        int rc = s->kind ? 0 : scaling_object(m, at[i].path, s);
        if (rc > 0) rc = settle_scaling(m, s);
        if (rc < 0) return rc;
    }
    return PEFT_OK;
}

/* --- GGUF */

static int gguf_number(struct model *m, const char *key, double *x)
{
    char name[96];
    snprintf(name, sizeof(name), "%s.%s", m->arch->gguf, key);
    return store_number(m->store, name, x);
}

static int gguf_kind(struct model *m, struct rope_scaling *s)
{
    char key[96];
    const char *name;
    int64_t n;
    double factor = 0;
    snprintf(key, sizeof(key), "%s.rope.scaling.type", m->arch->gguf);
    int rc = store_string(m->store, key, &name, &n);
    if (rc < 0 || (rc && n == 4 && !memcmp(name, "none", 4))) return MIN(rc, PEFT_OK);
    /* Without a type a factor is linear's; both may have old names. */
    if (!rc) {
        rc = gguf_number(m, "rope.scaling.factor", &factor);
        if (!rc) rc = gguf_number(m, "rope.scale_linear", &factor);
        if (rc > 0 && factor != 0 && factor != 1) s->kind = &rope_kinds[ROPE_LINEAR];
        if (s->kind) s->factor = factor;
        return MIN(rc, PEFT_OK);
    }
    for (int i = 0; i < ROPE_TYPES && !s->kind; i++) {
        const char *known = rope_kinds[i].gguf;
        if (known && strlen(known) == (size_t)n && !memcmp(known, name, (size_t)n))
            s->kind = &rope_kinds[i];
    }
    return s->kind ? PEFT_OK
                   : fail(PEFT_EUNSUPPORTED, "rope scaling \"%.*s\", expected linear, yarn, "
                          "longrope or none", (int)MIN(n, 24), name);
}

static int gguf_scaling(struct model *m)
{
    struct rope_scaling *s = &m->hp.rope[0];
    double by = 1;
    int rc = gguf_kind(m, s);
    /* A file with longrope's tensors need not name it (Phi 3). */
    if (!rc && store_find(m->store, "rope_factors_long.weight")) s->kind = &rope_kinds[ROPE_LONG];
    if (!rc && scaled_by(s, BY_YARN)) {
        if ((rc = gguf_number(m, "rope.scaling.yarn_ext_factor", &by)) < 0) return rc;
        if (by != 1)
            return fail(PEFT_EUNSUPPORTED, "%s: yarn with an extrapolation factor of %g, not 1",
                        m->path, by);
    }
    if (rc < 0 || !s->kind) return rc;
    for (size_t i = 0; i < ARRAY_LEN(scale_numbers); i++) {
        double *x = scale_number(s, &scale_numbers[i]);
        if (!scaled_by(s, scale_numbers[i].kinds) || *x != 0) continue;
        if (scale_numbers[i].gguf && (rc = gguf_number(m, scale_numbers[i].gguf, x)) < 0) return rc;
        if (*x == 0) *x = scale_numbers[i].absent;
    }
    if (s->attention != 0) s->attention *= attention_unit(s);
    else if (scaled_by(s, BY_LONG)) s->attention = 1;
    return settle_scaling(m, s);
}

int scaling_read(struct model *m)
{
    /* Biases by distance hold for any length; the one told is what was trained. */
    int any = m->arch->style.pos == POS_DISTANCE;
    m->hp.room = any ? MAX(m->hp.max_len, 1 << 20) : m->hp.max_len;
    if (m->arch->style.pos != POS_ROPE) return PEFT_OK;
    return store_format(m->store) == STORE_GGUF ? gguf_scaling(m) : config_scaling(m);
}

int scaling_bind(struct model *m)
{
    static const int slots[2][2] = { { SLOT_ROPE_FREQS, 0 }, { SLOT_ROPE_SHORT, SLOT_ROPE_LONG } };
    struct rope_scaling *s = &m->hp.rope[0];
    int longer = scaled_by(s, BY_LONG), gguf = store_format(m->store) == STORE_GGUF;
    for (int k = 0; k < 2 && gguf; k++) {
        int slot = slots[longer][k];
        const struct site *site = slot ? m->global[slot] : NULL;
        float *x = site ? arena_alloc(&m->arena, m->hp.rot / 2 * 4) : NULL;
        if (longer && !site)
            return fail(PEFT_EUNSUPPORTED, "%s: rope scaling \"longrope\" without both of "
                        "rope_factors_short and rope_factors_long, or in a family that has none",
                        m->path);
        if (!site) continue;
        if (!x) return PEFT_ENOMEM;
        s->divide[k] = x;
        site->w->type->to_f32(x, site->w->data, m->hp.rot / 2);
    }
    return PEFT_OK;
}

/* --- writing config.json */

static void put_divisors(struct buf *b, const char *key, const float *x, int64_t n, int *members)
{
    put_member(b, key, members);
    for (int64_t i = 0; i < n; i++) {
        buf_puts(b, i ? ", " : "[");
        buf_real(b, (double)x[i]);
    }
    buf_puts(b, "]");
}

/* GGUF holds Llama 3's scaling as divisors only.  The largest is the factor,
 * and one within the blend tells the original length; low 1 and high 4 are the
 * constants of every Llama 3.1 and later.  What these do not give back has no
 * place in config.json. */
static int guess_llama3(const struct model *m, struct rope_scaling *s)
{
    const struct hparams *hp = &m->hp;
    const float *divide = hp->rope[0].divide[0];
    int64_t half = hp->rot / 2;
    int bad = hp->rope[0].kind != NULL;
    double *f = mem_array((struct mem *)(uintptr_t)&m->host.mem, half, sizeof(*f));
    if (!f) return PEFT_ENOMEM;
    *s = (struct rope_scaling){ .kind = &rope_kinds[ROPE_LLAMA3], .factor = 1, .low = 1, .high = 4,
                                .original = 8192 };
    for (int64_t i = 0; i < half; i++) s->factor = MAX(s->factor, (double)divide[i]);
    rope_frequencies(hp, &(struct rope_scaling){ 0 }, hp->theta, 1, f);
    for (int64_t i = 0; i < half; i++) {
        double d = (double)divide[i];
        if (d > 1.001 && d < 0.999 * s->factor)
            s->original = round(2.0 * 3.14159265358979323846 / f[i] *
                                (3.0 * (1.0 / d - 1.0 / s->factor) / (1.0 - 1.0 / s->factor) + 1));
    }
    rope_frequencies(hp, s, hp->theta, 1, f);
    for (int64_t i = 0; i < half; i++) {
        double plain = pow(hp->theta, -2.0 * (double)i / (double)hp->rot), d = (double)divide[i];
        bad |= !(fabs(plain / f[i] - d) <= 1e-3 * d);
    }
    mem_free((struct mem *)(uintptr_t)&m->host.mem, f);
    return bad ? fail(PEFT_EUNSUPPORTED, "%s: rope_freqs are not Llama 3's scaling, which "
                      "config.json could hold", m->path) : PEFT_OK;
}

int scaling_put_config(const struct model *m, struct buf *b, int *n)
{
    struct rope_scaling s = m->hp.rope[0];
    int members = 0, rc = PEFT_OK;
    if (s.divide[0] && !s.divide[1] && (rc = guess_llama3(m, &s))) return rc;
    if (!s.kind) return PEFT_OK;
    if (s.divide[1]) {                  /* where Phi 3 looks for it */
        put_member(b, "original_max_position_embeddings", n);
        buf_printf(b, "%lld", (long long)s.original);
    }
    put_member(b, "rope_scaling", n);
    put_member(b, "rope_type", &members);
    buf_json(b, s.kind->name, (int64_t)strlen(s.kind->name));
    put_member(b, "type", &members);
    buf_json(b, s.kind->name, (int64_t)strlen(s.kind->name));
    for (size_t i = 0; i < ARRAY_LEN(scale_numbers); i++) {
        double x = *scale_number(&s, &scale_numbers[i]);
        if (!scaled_by(&s, scale_numbers[i].kinds) || x == 0) continue;
        put_member(b, scale_numbers[i].hf, &members);
        if (x == floor(x) && scale_numbers[i].at == offsetof(struct rope_scaling, original))
            buf_printf(b, "%lld", (long long)x);
        else buf_real(b, x);
    }
    if (s.divide[1]) {
        put_divisors(b, "short_factor", s.divide[0], m->hp.rot / 2, &members);
        put_divisors(b, "long_factor", s.divide[1], m->hp.rot / 2, &members);
    }
    buf_puts(b, "}");
    return PEFT_OK;
}

/* --- writing GGUF */

const char *scaling_beyond_gguf(const struct model *m)
{
    const struct rope_scaling *s = &m->hp.rope[0];
    if (m->hp.rope[1].kind) return "rope scaling of local layers";
    if (scaled_by(s, BY_DYNAMIC)) return "dynamic rope scaling";
    if (scaled_by(s, BY_YARN) && s->exact) return "yarn without rounding";
    if (scaled_by(s, BY_LLAMA3) && !slot_find(m->arch, SLOT_ROPE_FREQS))
        return "Llama 3's rope scaling in this family";
    if (scaled_by(s, BY_LONG) && !slot_find(m->arch, SLOT_ROPE_LONG))
        return "longrope in this family";
    return NULL;
}

void scaling_put_gguf(const struct model *m, const struct scaling_sink *to)
{
    const struct rope_scaling *s = &m->hp.rope[0];
    if (!s->kind || !s->kind->gguf) return;
    to->string(to->ctx, "rope.scaling.type", s->kind->gguf);
    for (size_t i = 0; i < ARRAY_LEN(scale_numbers); i++) {
        double x = *scale_number(s, &scale_numbers[i]);
        if (scale_numbers[i].at == offsetof(struct rope_scaling, attention)) x /= attention_unit(s);
        if (scale_numbers[i].gguf && scaled_by(s, scale_numbers[i].kinds) && x != 0)
            to->number(to->ctx, scale_numbers[i].gguf, x);
    }
}

int scaling_tensor(const struct model *m, struct arena *a, int i, const char **name,
                   const float **values)
{
    static const char *const names[] = { "rope_factors_short.weight", "rope_factors_long.weight" };
    const struct hparams *hp = &m->hp;
    int64_t half = hp->rot / 2;
    if (hp->rope[0].divide[i]) {
        *name = names[i];
        *values = hp->rope[0].divide[i];
        return 1;
    }
    if (i || !scaled_by(&hp->rope[0], BY_LLAMA3)) return 0;
    double *f = arena_alloc(a, half * (int64_t)sizeof(*f));
    float *x = arena_alloc(a, half * 4);
    if (!f || !x) return PEFT_ENOMEM;
    rope_frequencies(hp, &hp->rope[0], hp->theta, 1, f);
    for (int64_t k = 0; k < half; k++)
        x[k] = (float)(pow(hp->theta, -2.0 * (double)k / (double)hp->rot) / f[k]);
    *name = "rope_freqs.weight";
    *values = x;
    return 1;
}
