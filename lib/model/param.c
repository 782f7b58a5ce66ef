/* Parameters: look-up, globs, what trains, float copies. */
#include "model/model.h"

static int glob_one(const char *g, const char *g_end, const char *s)
{
    const char *star = NULL, *mark = NULL;
    while (*s) {
        if (g < g_end && *g == '*') { star = ++g; mark = s; continue; }
        if (g < g_end && (*g == '?' || *g == *s)) { g++; s++; continue; }
        if (!star) return 0;
        g = star;
        s = ++mark;
    }
    while (g < g_end && *g == '*') g++;
    return g == g_end;
}

int glob_match(const char *globs, const char *name)
{
    for (const char *g = globs; g && *g;) {
        while (*g == ' ' || *g == ',') g++;
        const char *end = g + strcspn(g, ",");
        const char *last = end;
        while (last > g && last[-1] == ' ') last--;
        if (last > g && glob_one(g, last, name)) return 1;
        g = end;
    }
    return 0;
}

int64_t param_len(const struct param *p) { return p->rows * p->cols; }

struct param *model_nth_param(const struct model *m, int64_t i)
{
    if (i < 0) return NULL;
    if (i < m->n_params) return m->params[i];
    i -= m->n_params;
    for (struct adapter *a = m->adapters; a; a = a->next)
        for (int64_t s = 0; s < a->n_sites; s++)
            for (int k = 0; k < PARTS; k++)
                if (a->sites[s].part[k] && i-- == 0) return a->sites[s].part[k];
    return NULL;
}

struct param *model_param(const struct model *m, const char *name)
{
    for (int64_t i = 0; i < m->n_params; i++)
        if (!strcmp(m->params[i]->name, name)) return m->params[i];
    for (struct adapter *a = m->adapters; a; a = a->next)
        for (int64_t s = 0; s < a->n_sites; s++)
            for (int k = 0; k < PARTS; k++)
                if (a->sites[s].part[k] && !strcmp(a->sites[s].part[k]->name, name))
                    return a->sites[s].part[k];
    return NULL;
}

int model_freeze(struct model *m, const char *globs, int trainable)
{
    struct param *p;
    int64_t hits = 0;
    if (!globs || !*globs)
        return fail(PEFT_EARG, "no tensor name given, expected a glob such as \"*.bias\"");
    for (int64_t i = 0; (p = model_nth_param(m, i)); i++) {
        if (!p->counted || !glob_match(globs, p->name)) continue;
        p->trainable = (uint8_t)trainable;
        hits++;
    }
    if (!hits)
        return fail(PEFT_ENOTFOUND,
                    "no tensor is called \"%s\"; this model has names such as \"%s\"", globs,
                    m->params[m->n_params / 2]->name);
    return PEFT_OK;
}

int model_freeze_layers(struct model *m, int32_t first, int32_t last)
{
    int64_t n = m->hp.layers, a = first < 0 ? first + n : first, b = last < 0 ? last + n : last;
    if (a < 0 || b >= n || a > b)
        return fail(PEFT_EARG, "layers %d to %d given, expected a range within 0 to %d", first,
                    last, (int)n - 1);
    struct param *p;
    for (int64_t i = 0; (p = model_nth_param(m, i)); i++)
        if (p->layer >= a && p->layer <= b) p->trainable = 0;
    return PEFT_OK;
}

/* Llama's GGUF keeps the rows of q and k with the two halves of each head
 * interleaved: our row h*d + 2i + j is Hugging Face's h*d + j*d/2 + i. */
int64_t param_row(const struct model *m, const struct param *p, int64_t i)
{
    if (!p->rope_rows || !m->rope_pair) return i;
    int64_t d = m->hp.head_dim, head = i / d, r = i % d;
    return head * d + (r % (d / 2)) * 2 + r / (d / 2);
}

void param_read(const struct model *m, const struct param *p, float *to)
{
    int64_t row_bytes = p->cols / p->type->block * p->type->bytes;
    /* A bias of rope rows is [1, n]: its elements are the rows. */
    if (p->rope_rows && p->rows == 1 && m->rope_pair) {
        const char *from = p->data;
        for (int64_t i = 0; i < p->cols; i++)
            p->type->to_f32(to + i, from + param_row(m, p, i) * p->type->bytes, 1);
        return;
    }
    for (int64_t i = 0; i < p->rows; i++)
        p->type->to_f32(to + i * p->cols,
                        (const char *)p->data + param_row(m, p, i) * row_bytes, p->cols);
}

int param_own(struct model *m, struct param *p)
{
    p->stored = &qtype_f32;
    if (p->own) return PEFT_OK;
    float *own = mem_alloc(&m->host.mem, param_len(p) * 4);
    if (!own) return PEFT_ENOMEM;
    p->type->to_f32(own, p->data, param_len(p));
    p->own = own;
    p->data = own;
    p->type = &qtype_f32;
    return PEFT_OK;
}

int model_to_float(struct model *m, const char *globs, int only_cost, int64_t *bytes)
{
    int64_t sum = 0, hits = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        struct param *p = m->params[i];
        if (!p->counted || !glob_match(globs ? globs : "*", p->name)) continue;
        hits++;
        if (p->type == &qtype_f32) continue;
        sum += param_len(p) * 4;
        if (!only_cost && param_own(m, p)) return PEFT_ENOMEM;
    }
    if (!hits) return fail(PEFT_ENOTFOUND, "no tensor is called \"%s\"", globs);
    if (bytes) *bytes = sum;
    return PEFT_OK;
}
