/* Weights into blocks in memory: for training on a base of fewer bits (QLoRA,
 * Dettmers et al. 2023), tensor by tensor, so that at no time there are more than the
 * result and one tensor as it was. */
#include <stdio.h>

#include "model/quantise.h"

/* The row of what takes the place of another comes after it. */
static const struct wish wishes[] = {
    { "f32", "F32", NULL, IN_FILES, NULL, 0 },
    { "f16", "F16", NULL, IN_FILES, NULL, 0 },
    { "bf16", "BF16", NULL, IN_FILES, NULL, 0 },
    { "q6_k", "Q6_K", "Q8_0", IN_GGUF | IN_MEMORY, NULL, 0 },
    { "q5_k", "Q5_K", "Q5_1", IN_GGUF | IN_MEMORY, NULL, 0 },
    { "q4_k", "Q4_K", "Q5_0", IN_GGUF | IN_MEMORY, NULL, 0 },
    { "q8_0", "Q8_0", "F16", IN_GGUF | IN_MEMORY, NULL, 0 },
    { "q5_1", "Q5_1", "F16", IN_GGUF | IN_MEMORY, NULL, 0 },
    { "q5_0", "Q5_0", "F16", IN_GGUF | IN_MEMORY, NULL, 0 },
    { "q4_1", "Q4_1", "F16", IN_GGUF | IN_MEMORY, NULL, 0 },
    { "q4_0", "Q4_0", "F16", IN_GGUF | IN_MEMORY, NULL, 0 },
    { "held", NULL, NULL, IN_FOLDER, "held", 0 },
    { "nf4", NULL, NULL, IN_FOLDER | IN_MEMORY, "nf4", 0 },
    { "nf4_dq", NULL, NULL, IN_FOLDER | IN_MEMORY, "nf4", 1 },
    { "fp4", NULL, NULL, IN_FOLDER | IN_MEMORY, "fp4", 0 },
    { "fp4_dq", NULL, NULL, IN_FOLDER | IN_MEMORY, "fp4", 1 },
};

const struct qtype *wish_fit(const struct qtype *t, int64_t cols)
{
    for (size_t i = 0; i < ARRAY_LEN(wishes) && cols % t->block != 0; i++)
        if (wishes[i].instead && !strcmp(wishes[i].type, t->name))
            t = qtype_by_name(wishes[i].instead);
    return t;
}

int wish_find(const char *name, int where, const char *what, const struct wish **out)
{
    char list[128];
    size_t at = 0;
    for (size_t i = 0; i < ARRAY_LEN(wishes); i++) {
        if (!(wishes[i].where & where)) continue;
        if (!strcmp(name, wishes[i].name)) {
            *out = &wishes[i];
            return PEFT_OK;
        }
        at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s", at ? ", " : "",
                               wishes[i].name);
    }
    return fail(PEFT_EARG, "%s \"%.40s\", expected one of %s%s", what, name, list,
                where == IN_FOLDER ? " in a folder" : "");
}

/* Routers and experts of transformers' mixtures are no linear layers there.  "held": those
 * that are such blocks. */
int wish_bnb(const struct wish *w, const struct site *site)
{
    return w && w->bnb && site->kind == SITE_LINEAR && site->expert < 0 &&
        (strcmp(w->bnb, "held") || site->w->type->flat) &&
        site->slot != SLOT_ROUTER && !(site->flags & (SLOT_HEAD | SLOT_OF_HEAD));
}

const struct qtype *wish_bnb_type(const struct wish *w, const struct param *p)
{
    return strcmp(w->bnb, "held") ? bnb_type(w->bnb, p->stored) : p->type;
}

/* --- the values in memory */

enum { PACK_TASK = 65536 };         /* elements: whole blocks of every type */
struct packing {
    const struct param *p;
    const struct qtype *to;
    char *blocks;
    float *room;                    /* [threads, PACK_TASK] */
};

static void pack_task(void *arg, int64_t task, int worker)
{
    const struct packing *k = arg;
    int64_t at = task * PACK_TASK, n = MIN(PACK_TASK, param_len(k->p) - at);
    float *x = k->room + (int64_t)worker * PACK_TASK;
    qtype_expand(k->p->type, x, k->p->data, at, n);
    k->to->from_f32(k->blocks + at / k->to->block * k->to->bytes, x, n);
}

/* The scales, which begin the blocks, become what 8 bits leave of them. */
static int nest_scales(struct model *m, const struct qtype *t, char *blocks, int64_t n)
{
    struct mem *mem = &m->host.mem;
    float *scale = mem_alloc(mem, n * 4), level[256];
    float *largest = mem_alloc(mem, div_up(n, SCALES_BLOCK) * 4);
    uint8_t *q = mem_alloc(mem, n);
    int rc = scale && largest && q ? PEFT_OK : PEFT_ENOMEM;
    if (!rc) {
        for (int64_t i = 0; i < n; i++) memcpy(&scale[i], blocks + i * t->bytes, 4);
        float mean = scales_pack(q, largest, scale, n);
        tree_levels(level, 0);
        for (int64_t i = 0; i < n; i++) {
            scale[i] = level[q[i]] * largest[i / SCALES_BLOCK];
            scale[i] += mean;
            memcpy(blocks + i * t->bytes, &scale[i], 4);
        }
    }
    mem_free(mem, scale);
    mem_free(mem, largest);
    mem_free(mem, q);
    return rc;
}

int param_quantise(struct model *m, struct param *p, const struct qtype *to, int nested)
{
    struct mem *mem = &m->host.mem;
    struct packing k = { .p = p, .to = to };
    int64_t bytes = 0, old = param_bytes(p);
    const void *data = p->data;
    int rc = PEFT_ENOMEM;
    if (!qtype_bytes(to, param_len(p), &bytes))
        return fail(PEFT_EUNSUPPORTED, "rows of %lld of %s are no whole blocks of %s",
                    (long long)p->cols, p->name, to->name);
    k.blocks = mem_alloc(mem, bytes);
    k.room = mem_alloc(mem, (int64_t)pool_threads(m->pool) * PACK_TASK * 4);
    if (k.blocks && k.room) {
        pool_run(m->pool, div_up(param_len(p), PACK_TASK), pack_task, &k);
        rc = nested ? nest_scales(m, to, k.blocks, bytes / to->bytes) : PEFT_OK;
    }
    mem_free(mem, k.room);
    if (rc) {
        mem_free(mem, k.blocks);
        return rc;
    }
    mem_free(mem, p->own);
    mem_free(mem, p->packed);
    p->own = NULL;
    p->data = p->packed = k.blocks;
    p->type = p->stored = to;
    store_forget(m->store, data, old);
    return PEFT_OK;
}

/* The type of a site's weight under m->quant; NULL = as it is. */
static const struct qtype *wished_type(const struct model *m, const struct site *s)
{
    if (!s->w->type->is_float || s->kind != SITE_LINEAR || s->slot == SLOT_ROUTER ||
        (s->flags & (SLOT_HEAD | SLOT_OF_HEAD | SLOT_NOT_A_WEIGHT)))
        return NULL;
    if (m->quant->bnb) return wish_bnb(m->quant, s) ? bnb_type(m->quant->bnb, s->w->stored) : NULL;
    return wish_fit(qtype_by_name(m->quant->type), s->w->cols);
}

int quantise_sites(struct model *m, int64_t first)
{
    int rc = PEFT_OK;
    for (int64_t i = first; m->quant && i < m->n_sites && !rc; i++) {
        const struct qtype *to = wished_type(m, m->sites[i]);
        if (to) rc = param_quantise(m, m->sites[i]->w, to, m->quant->nested);
    }
    return rc;
}

int quantise_check(const struct model *m)
{
    int64_t n = 0;
    for (int64_t i = 0; i < m->n_params; i++) n += m->params[i]->packed != NULL;
    if (!m->quant || n) return PEFT_OK;
    return fail(PEFT_EUNSUPPORTED, "%s: quant \"%s\", expected linear layers of floats; those of "
                "this model are %s", m->path, m->quant->name,
                m->layers[0].at[SLOT_O] ? m->layers[0].at[SLOT_O]->w->type->name : "not");
}
