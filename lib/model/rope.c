/* Table of rotary angles (Su et al. 2021): one row a position, rot/2 cosines
 * then rot/2 sines.  Scalings: linear divides every frequency; llama3 divides
 * the low ones and blends between (Llama 3.1's model card); a GGUF file has
 * llama3's divisors ready in rope_freqs.  Angles are formed in float32 as
 * Hugging Face does, so that both agree at long positions too.  Local layers
 * with a base of their own have a second table, without scaling.  ALiBi (Press
 * et al. 2021) has a slope for each head instead. */
#include <math.h>

#include "model/model.h"

double rope_frequency(const struct hparams *hp, double f)
{
    if (hp->rope == ROPE_LINEAR) return f / hp->rope_factor;
    if (hp->rope != ROPE_LLAMA3) return f;
    double length = 2.0 * 3.14159265358979323846 / f;
    if (length < hp->rope_original / hp->rope_high) return f;
    if (length > hp->rope_original / hp->rope_low) return f / hp->rope_factor;
    double s = (hp->rope_original / length - hp->rope_low) / (hp->rope_high - hp->rope_low);
    return (1.0 - s) * f / hp->rope_factor + s * f;
}

/* One table of `positions` rows. */
static void fill_table(const struct model *m, float *table, int64_t positions, double theta,
                       const float *divide, int scaled)
{
    const struct hparams *hp = &m->hp;
    int64_t half = hp->rot / 2;
    for (int64_t i = 0; i < half; i++) {
        double f = pow(theta, -2.0 * (double)i / (double)hp->rot);
        if (scaled) f = rope_frequency(hp, f);
        float frequency = (float)(divide ? f / divide[i] : f);
        for (int64_t p = 0; p < positions; p++) {
            float angle = (float)p * frequency;
            table[p * hp->rot + i] = cosf(angle);
            table[p * hp->rot + half + i] = sinf(angle);
        }
    }
}

int rope_reserve(struct model *m, int64_t positions)
{
    const struct hparams *hp = &m->hp;
    const struct site *freqs = m->global[SLOT_ROPE_FREQS];
    int64_t half = hp->rot / 2;
    if (m->arch->style.pos != POS_ROPE || positions <= m->rope_len) return PEFT_OK;
    positions = (positions + 255) / 256 * 256;
    float *table = mem_array(&m->host.mem, positions, hp->rot * 4), *local = NULL;
    float *divide = mem_array(&m->host.mem, half, 4);
    if (hp->local_theta > 0) local = mem_array(&m->host.mem, positions, hp->rot * 4);
    if (!table || !divide || (hp->local_theta > 0 && !local)) {
        mem_free(&m->host.mem, table);
        mem_free(&m->host.mem, local);
        mem_free(&m->host.mem, divide);
        return PEFT_ENOMEM;
    }
    if (freqs) freqs->w->type->to_f32(divide, freqs->w->data, half);
    fill_table(m, table, positions, hp->theta, freqs ? divide : NULL, 1);
    if (local) fill_table(m, local, positions, hp->local_theta, NULL, 0);
    mem_free(&m->host.mem, divide);
    mem_free(&m->host.mem, m->rope_table[0]);
    mem_free(&m->host.mem, m->rope_table[1]);
    m->rope_table[0] = table;
    m->rope_table[1] = local;
    m->rope_len = positions;
    return PEFT_OK;
}

/* For 2^k heads the slopes are 2^(-8/2^k), its square, ...; the other heads
 * take every second slope of twice as many. */
int rope_slopes(struct model *m)
{
    int64_t n = m->hp.heads, two = 1;
    if (m->arch->style.pos != POS_ALIBI) return PEFT_OK;
    if (!(m->slopes = arena_alloc(&m->arena, n * 4))) return PEFT_ENOMEM;
    while (two * 2 <= n) two *= 2;
    for (int64_t i = 0; i < n; i++) {
        double step = i < two ? 8.0 / (double)two : 4.0 / (double)two;
        m->slopes[i] = (float)pow(2.0, -step * (double)(i < two ? i + 1 : 2 * (i - two) + 1));
    }
    return PEFT_OK;
}
