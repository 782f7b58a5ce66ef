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

enum act model_act(const struct model *m)
{
    const struct style *s = &m->arch->style;
    return (enum act)(s->gated_act && m->layers[0].at[SLOT_GATE] ? s->gated_act : s->act);
}

const struct slot_row *slot_find(const struct arch *a, int slot)
{
    for (const struct slot_row *row = a->slots; row->kind; row++)
        if (row->slot == slot) return row;
    return NULL;
}

const char *model_file_name(const struct model *m, const char *name)
{
    size_t skip = m->arch->prefix ? strlen(m->arch->prefix) : 0;
    int bare = m->kind == HEAD_BODY && !m->global[SLOT_PROJECTION];
    return bare && skip && !strncmp(name, m->arch->prefix, skip) ? name + skip : name;
}

int64_t param_len(const struct param *p) { return p->rows * p->cols; }

int64_t param_bytes(const struct param *p)
{
    return div_up(param_len(p), p->type->block) * p->type->bytes;
}

void adapted_free(struct model *m, struct adapted *a)
{
    for (int k = 0; k < PARTS; k++)
        if (adapted_owns(a, k)) mem_free(&m->host.mem, a->part[k]->own);
    mem_free(&m->host.mem, a->derived);
}

/* Several enabled adapters may keep the same module.  The one that was enabled
 * last counts, and each remembers what it took the place of: a chain from the
 * parameter, over the copies, down to the model's own values. */
struct saved_module *copy_where(const struct model *m, const struct param *p, const float *mine,
                                const float *old)
{
    for (struct adapter *a = m->adapters; a; a = a->next)
        for (int64_t i = 0; a->enabled && i < a->n_saved + a->n_merged; i++) {
            struct saved_module *s = i < a->n_saved ? &a->saved[i] : &a->merged[i - a->n_saved];
            if (s->p == p && ((mine && s->mine == mine) || (old && s->old_own == old))) return s;
        }
    return NULL;
}

struct param *model_nth_param(const struct model *m, int64_t i)
{
    if (i < 0) return NULL;
    if (i < m->n_params) return m->params[i];
    i -= m->n_params;
    if (m->output && m->output->w == m->untied && i-- == 0) return m->untied;
    for (struct adapter *a = m->adapters; a; a = a->next)
        for (int64_t s = 0; s < a->n_sites; s++)
            for (int k = 0; k < PARTS; k++)
                if (adapted_owns(&a->sites[s], k) && i-- == 0) return a->sites[s].part[k];
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

enum row_order slot_order(const struct arch *a, const struct slot_row *row)
{
    if ((row->flags & SLOT_ROPE_ROWS) && a->style.gguf_pair) return ROWS_ROPE;
    return row->slot == SLOT_QKV && a->style.qkv_groups ? ROWS_QKV : ROWS_PLAIN;
}

/* ROWS_ROPE: row h*d + 2i + j is Hugging Face's h*d + j*d/2 + i.
 * ROWS_QKV: Hugging Face has for each key head its heads of q, then k, then v;
 * GGUF has all of q, all of k, all of v. */
int64_t row_in_gguf(const struct hparams *hp, int order, int64_t i)
{
    int64_t d = hp->head_dim, head = i / d, r = i % d, q = hp->heads / hp->kv_heads;
    int64_t group = head / (q + 2), k = head % (q + 2);
    if (order == ROWS_ROPE) return head * d + (r % (d / 2)) * 2 + r / (d / 2);
    if (order == ROWS_PLAIN) return i;
    if (k < q) return (group * q + k) * d + r;
    return (hp->heads + (k - q) * hp->kv_heads + group) * d + r;
}

int64_t row_in_hf(const struct hparams *hp, int order, int64_t i)
{
    int64_t d = hp->head_dim, head = i / d, r = i % d, q = hp->heads / hp->kv_heads;
    if (order == ROWS_ROPE) return head * d + r % 2 * (d / 2) + r / 2;
    if (order == ROWS_PLAIN) return i;
    if (head < hp->heads) return (head / q * (q + 2) + head % q) * d + r;
    head -= hp->heads;
    return (head % hp->kv_heads * (q + 2) + q + head / hp->kv_heads) * d + r;
}

int64_t param_row(const struct model *m, const struct param *p, int64_t i)
{
    return row_in_gguf(&m->hp, p->order, i);
}

/* A bias along ordered rows is [1, n]: its elements are the rows. */
static int64_t ordered(const struct param *p, int64_t *cols)
{
    int bias = p->order && p->rows == 1;
    *cols = bias ? 1 : p->cols;
    return bias ? p->cols : p->rows;
}

void param_read(const struct model *m, const struct param *p, float *to)
{
    int64_t cols, rows = ordered(p, &cols);
    float part[256];
    for (int64_t i = 0; i < rows && !p->turned; i++)
        qtype_expand(p->type, to + i * cols, p->data, param_row(m, p, i) * cols, cols);
    /* Turned matrices are read by rows and written by columns. */
    for (int64_t i = 0; i < rows && p->turned; i++)
        for (int64_t k = 0; k < cols; k += 256) {
            int64_t n = MIN(cols - k, 256);
            qtype_expand(p->type, part, p->data, i * cols + k, n);
            for (int64_t j = 0; j < n; j++) to[(k + j) * rows + i] = part[j];
        }
    for (int64_t i = 0; i < cols && p->plus; i++) to[i] -= 1.0f;
}

void param_write(const struct model *m, const struct param *p, float *to, const struct qtype *type,
                 const void *from)
{
    int64_t cols, rows = ordered(p, &cols);
    int64_t bytes = (p->turned ? 1 : cols) * type->bytes;
    for (int64_t i = 0; i < rows && !p->turned; i++)
        type->to_f32(to + param_row(m, p, i) * cols, (const char *)from + i * bytes, cols);
    for (int64_t i = 0; i < rows * cols && p->turned; i++)
        type->to_f32(to + i % rows * cols + i / rows, (const char *)from + i * bytes, 1);
    for (int64_t i = 0; i < cols && p->plus; i++) to[i] += 1.0f;
}

struct copying { const struct param *p; float *to; };

static void copy_piece(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct copying *c = arg;
    (void)worker;
    qtype_expand(c->p->type, c->to + begin, c->p->data, begin, end - begin);
}

int param_own(struct model *m, struct param *p)
{
    enum { PIECE = 1 << 18 };                 /* whole blocks of all types */
    p->stored = &qtype_f32;
    if (p->own) return PEFT_OK;
    float *own = mem_alloc(&m->host.mem, param_len(p) * 4);
    if (!own) return PEFT_ENOMEM;
    compute_rows(&m->compute, param_len(p), PIECE, copy_piece, &(struct copying){ p, own });
    store_forget(m->store, p->data, param_bytes(p));
    mem_free(&m->host.mem, p->packed);
    p->packed = NULL;
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
