/* Table of rotary angles (Su et al. 2021): one row a position, rot/2 cosines
 * then rot/2 sines.  The frequencies theta^(-2i/rot) may be scaled for longer
 * contexts, as transformers' modeling_rope_utils does:
 *   linear    all divided by `factor` (position interpolation, Chen et al. 2023)
 *   dynamic   a larger theta, by the length L of the longest sequence:
 *             theta (factor L / max - factor + 1)^(rot / (rot - 2)) for L > max
 *   llama3    low ones divided, with a blend between (Llama 3.1's model card)
 *   yarn      the same with a ramp over the dimensions (Peng et al. 2023)
 *   longrope  a divisor for each, others beyond the original length (Ding et al. 2024)
 * Yarn and longrope also multiply cosines and sines.  Angles are formed in
 * float32 as Hugging Face does, so that both agree at long positions too.
 * Local layers with a base of their own have a second table.  ALiBi (Press et
 * al. 2021) has a slope for each head instead. */
#include <math.h>

#include "model/rope.h"

static const double two_pi = 2.0 * 3.14159265358979323846;

/* --- frequencies */

static void fill_linear(const struct hparams *hp, const struct rope_scaling *s, double theta,
                        int64_t length, double *f)
{
    (void)theta;
    (void)length;
    for (int64_t i = 0; i < hp->rot / 2; i++) f[i] /= s->factor;
}

static void fill_dynamic(const struct hparams *hp, const struct rope_scaling *s, double theta,
                         int64_t length, double *f)
{
    double rot = (double)hp->rot, most = (double)hp->max_len;
    double grown = s->factor * MAX((double)length, most) / most - (s->factor - 1.0);
    theta *= pow(grown, rot / (rot - 2.0));
    for (int64_t i = 0; i < hp->rot / 2; i++) f[i] = pow(theta, -2.0 * (double)i / rot);
}

static void fill_llama3(const struct hparams *hp, const struct rope_scaling *s, double theta,
                        int64_t length, double *f)
{
    (void)theta;
    (void)length;
    for (int64_t i = 0; i < hp->rot / 2; i++) {
        double turns = s->original * f[i] / two_pi;     /* within the original length */
        double share = (turns - s->low) / (s->high - s->low);
        share = turns > s->high ? 1.0 : turns < s->low ? 0.0 : share;
        f[i] = (1.0 - share) * f[i] / s->factor + share * f[i];
    }
}

/* The dimension that turns `rotations` times within the original length. */
static double yarn_dim(const struct hparams *hp, const struct rope_scaling *s, double theta,
                       double rotations)
{
    return (double)hp->rot * log(s->original / (rotations * two_pi)) / (2.0 * log(theta));
}

static void fill_yarn(const struct hparams *hp, const struct rope_scaling *s, double theta,
                      int64_t length, double *f)
{
    double low = yarn_dim(hp, s, theta, s->high), high = yarn_dim(hp, s, theta, s->low);
    (void)length;
    low = fmax(s->exact ? low : floor(low), 0.0);
    high = fmin(s->exact ? high : ceil(high), (double)hp->rot - 1.0);
    if (low == high) high += 0.001;
    for (int64_t i = 0; i < hp->rot / 2; i++) {
        double share = fmin(fmax(((double)i - low) / (high - low), 0.0), 1.0);
        f[i] = f[i] / s->factor * share + f[i] * (1.0 - share);
    }
}

double rope_yarn_mscale(double factor, double by)
{
    return factor <= 1.0 ? 1.0 : 0.1 * by * log(factor) + 1.0;
}

static double yarn_attention(const struct rope_scaling *s)
{
    if (s->mscale == 0 || s->mscale_all == 0) return rope_yarn_mscale(s->factor, 1.0);
    return rope_yarn_mscale(s->factor, s->mscale) / rope_yarn_mscale(s->factor, s->mscale_all);
}

static double long_attention(const struct rope_scaling *s)
{
    return s->factor <= 1.0 ? 1.0 : sqrt(1.0 + log(s->factor) / log(s->original));
}

const struct rope_kind rope_kinds[ROPE_TYPES] = {
    [ROPE_LINEAR] = { "linear", "linear", ROOM_TIMES_MAX, NULL, fill_linear },
    [ROPE_DYNAMIC] = { "dynamic", NULL, ROOM_ANY, NULL, fill_dynamic },
    [ROPE_LLAMA3] = { "llama3", NULL, ROOM_SAME, NULL, fill_llama3 },
    [ROPE_YARN] = { "yarn", "yarn", ROOM_TIMES_ORIGINAL, yarn_attention, fill_yarn },
    [ROPE_LONG] = { "longrope", "longrope", ROOM_TIMES_ORIGINAL, long_attention, NULL },
};

/* Which frequencies a length asks for: equal keys, equal tables.  0 = all do. */
static int64_t length_key(const struct hparams *hp, const struct rope_scaling *s, int64_t length)
{
    if (s->divide[1]) return (double)length > s->original ? 2 : 1;
    return s->kind == &rope_kinds[ROPE_DYNAMIC] ? MAX(length, hp->max_len) : 0;
}

void rope_frequencies(const struct hparams *hp, const struct rope_scaling *s, double theta,
                      int64_t length, double *f)
{
    const float *divide = s->divide[length_key(hp, s, length) == 2 && s->divide[1]];
    for (int64_t i = 0; i < hp->rot / 2; i++) f[i] = pow(theta, -2.0 * (double)i / (double)hp->rot);
    if (s->kind && s->kind->fill) s->kind->fill(hp, s, theta, length, f);
    for (int64_t i = 0; i < hp->rot / 2 && divide; i++) f[i] /= (double)divide[i];
}

int rope_by_length(const struct model *m)
{
    if (m->arch->style.pos != POS_ROPE) return 0;
    return length_key(&m->hp, &m->hp.rope[0], 1) || length_key(&m->hp, &m->hp.rope[1], 1);
}

/* A dynamic base moves with every token, and what is cached stays (as in
 * transformers); between longrope's two sets the cache is made again. */
int rope_switches(const struct model *m, int64_t n)
{
    n += virtual_before(m, STACK_MAIN);
    for (int k = 0; k < 2 && m->arch->style.pos == POS_ROPE; k++) {
        const struct rope_scaling *s = &m->hp.rope[k];
        if (s->divide[1] && length_key(&m->hp, s, n) != length_key(&m->hp, s, n - 1)) return 1;
    }
    return 0;
}

/* --- tables */

static double base_of(const struct hparams *hp, int k) { return k ? hp->local_theta : hp->theta; }

static int fill_table(struct model *m, int k, float *table, int64_t positions, int64_t length)
{
    const struct hparams *hp = &m->hp;
    const struct rope_scaling *s = &hp->rope[k];
    int64_t half = hp->rot / 2;
    float by = s->attention > 0 ? (float)s->attention : 1.0f;
    double *f = mem_array(&m->host.mem, half, sizeof(*f));
    if (!f) return PEFT_ENOMEM;
    rope_frequencies(hp, s, base_of(hp, k), length, f);
    for (int64_t i = 0; i < half; i++)
        for (int64_t p = 0; p < positions; p++) {
            float angle = (float)p * (float)f[i];
            table[p * hp->rot + i] = cosf(angle) * by;
            table[p * hp->rot + half + i] = sinf(angle) * by;
        }
    mem_free(&m->host.mem, f);
    return PEFT_OK;
}

int rope_reserve(struct model *m, int64_t positions)
{
    float *table[2] = { NULL, NULL };
    int64_t bytes, rot = m->hp.rot;
    positions += model_virtual_tokens(m);
    if (m->arch->style.pos != POS_ROPE || positions <= m->rope_len) return PEFT_OK;
    positions = (MAX(positions, 2 * m->rope_len) + 255) / 256 * 256;
    if (!mul_ok(positions, rot * 4, &bytes)) return PEFT_ENOMEM;
    for (int k = 0; k < 2; k++) {
        if (base_of(&m->hp, k) <= 0 || length_key(&m->hp, &m->hp.rope[k], 1)) continue;
        if (!(table[k] = arena_alloc(&m->arena, bytes))) return PEFT_ENOMEM;
        int rc = fill_table(m, k, table[k], positions, 1);
        if (rc) return rc;
    }
    m->rope_table[0] = table[0];
    m->rope_table[1] = table[1];
    m->rope_len = positions;
    return PEFT_OK;
}

int rope_begin(struct pass *p, struct rope_cache cache[2])
{
    struct model *m = p->m;
    int64_t length = p->length ? p->length + virtual_before(m, STACK_MAIN) : 0;
    p->rope[0] = m->rope_table[0];
    p->rope[1] = m->rope_table[1];
    if (!rope_by_length(m)) return PEFT_OK;
    for (int64_t i = 0; i < p->all.n && !p->length; i++) length = MAX(length, p->all.pos[i] + 1);
    for (int k = 0; k < 2; k++) {
        struct rope_cache *c = &cache[k];
        int64_t key = length_key(&m->hp, &m->hp.rope[k], length), rows = MAX(c->rows, length);
        if (base_of(&m->hp, k) <= 0 || !key) continue;
        if (c->rows < length) {
            rows = (length + 255) / 256 * 256;
            mem_free(&m->host.mem, c->table);
            c->rows = c->key = 0;
            if (!(c->table = mem_array(&m->host.mem, rows, m->hp.rot * 4))) return PEFT_ENOMEM;
        }
        if (c->key != key) {
            int rc = fill_table(m, k, c->table, rows, length);
            if (rc) return rc;
        }
        c->rows = rows;
        c->key = key;
        p->rope[k] = c->table;
    }
    return PEFT_OK;
}

/* --- ALiBi */

/* For 2^k heads the slopes are 2^(-8/2^k), its square, ...; the other heads
 * take every second slope of twice as many. */
int rope_slopes(struct model *m)
{
    int64_t n = m->hp.heads, two = 1;
    if (m->arch->style.pos != POS_ALIBI && !m->hp.alibi) return PEFT_OK;
    if (!(m->slopes = arena_alloc(&m->arena, n * 4))) return PEFT_ENOMEM;
    while (two * 2 <= n) two *= 2;
    for (int64_t i = 0; i < n; i++) {
        double step = i < two ? 8.0 / (double)two : 4.0 / (double)two;
        m->slopes[i] = (float)pow(2.0, -step * (double)(i < two ? i + 1 : 2 * (i - two) + 1));
        uint16_t half;
        qtype_bf16.from_f32(&half, &m->slopes[i], 1);
        if (m->hp.alibi) qtype_bf16.to_f32(&m->slopes[i], &half, 1);
    }
    return PEFT_OK;
}
