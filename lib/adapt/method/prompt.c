/* Prompt tuning (Lester et al. 2021): the embeddings of n tokens before a text.
 * They begin as embeddings of tokens drawn from the vocabulary (SAMPLE_VOCAB), as
 * those of a text's tokens, which is repeated or cut (TEXT), or as normal random
 * numbers (RANDOM, PEFT's default, from which more steps are needed). */
#include <math.h>

#include "adapt/virtual.h"

/* Rows of the embeddings, as they are where the virtual ones are put in. */
static void prompt_copy(struct model *m, struct adapted *d, const int32_t *ids, int64_t n)
{
    const struct param *w = d->site->w;
    float scale = m->arch->style.embed_scale ? sqrtf((float)m->hp.dim) : 1.0f;
    for (int64_t i = 0; i < d->part[0]->rows; i++) {
        float *to = d->part[0]->own + i * w->cols;
        qtype_expand(w->type, to, w->data, ids[i % n] * w->cols, w->cols);
        m->compute.k->axpy(to, to, scale, 0, w->cols);
    }
}

static int prompt_text(struct model *m, struct adapted *d)
{
    const char *text = d->adapter->virtual.text;
    struct ids ids;
    if (!text || !*text)
        return fail(PEFT_EARG, "prompt_tuning_init is TEXT, expected a prompt_tuning_init_text");
    if (!m->tok) return fail(PEFT_ENOTFOUND, "%s has no tokenizer for the text", m->path);
    ids_init(&ids, &m->host.mem);
    int rc = tok_encode(&m->host, m->tok, text, (int64_t)strlen(text), TOK_SPECIAL, &ids);
    if (!rc && !ids.n) rc = fail(PEFT_EARG, "prompt_tuning_init_text has no tokens");
    if (!rc) prompt_copy(m, d, ids.v, ids.n);
    ids_free(&ids);
    return rc;
}

static int prompt_sample(struct model *m, struct adapted *d, uint64_t seed, uint64_t stream)
{
    int64_t n = d->part[0]->rows;
    int32_t *ids = mem_array(&m->host.mem, n, sizeof(*ids));
    if (!ids) return PEFT_ENOMEM;
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)(rng_u32(seed, stream, (uint64_t)i) % (uint64_t)m->hp.vocab);
    prompt_copy(m, d, ids, n);
    mem_free(&m->host.mem, ids);
    return PEFT_OK;
}

static int prompt_begin(struct model *m, struct adapted *d)
{
    struct adapter *a = d->adapter;
    if (!a->virtual.init) a->virtual.init = a->virtual.encodes ? "SAMPLE_VOCAB" : "RANDOM";
    return virtual_begin_at(m, d);
}

static int prompt_init(struct model *m, struct adapted *d, uint64_t seed, uint64_t stream)
{
    struct adapter *a = d->adapter;
    const char *init = a->virtual.init;
    if (!strcmp(init, "RANDOM")) return virtual_init(m, d, seed, stream);
    if (!strcmp(init, "SAMPLE_VOCAB")) return prompt_sample(m, d, seed, stream);
    if (strcmp(init, "TEXT"))
        return fail(PEFT_EARG, "prompt_tuning_init \"%.40s\", expected RANDOM, SAMPLE_VOCAB or "
                    "TEXT", init);
    /* PEFT reads no such configuration that does not name it. */
    if (!a->virtual.tokenizer) a->virtual.tokenizer = m->path;
    return prompt_text(m, d);
}

static const struct method_setting prompt_settings[] = {
    VIRTUAL_SETTINGS,
    { "prompt_tuning_init", 's', offsetof(struct adapter, virtual.init), 0, 0, 0 },
    { "prompt_tuning_init_text", 's', offsetof(struct adapter, virtual.text), 0, 0, 0 },
    { "tokenizer_name_or_path", 's', offsetof(struct adapter, virtual.tokenizer), 0, 0, 0 },
    { NULL, 0, 0, 0, 0, 0 }
};

const struct method method_prompt = {
    .name = "prompt",
    .peft_type = "PROMPT_TUNING",
    .about = "embeddings of tokens before each text",
    .settings = prompt_settings,
    .parts = { { VIRTUAL_NAME, PART_RANK, PART_IN, 0, SITE_EMBED } },
    .virtual = VIRTUAL_ROWS,
    .rank = 20,
    .lr = 3e-2f,
    .shape = virtual_shape,
    .begin = prompt_begin,
    .init = prompt_init,
    .tokens = virtual_tokens
};
