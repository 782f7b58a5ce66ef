/* IA3 (Liu et al. 2022): a factor for each output of keys and values, and for
 * each input of the second linear layer of the feed-forward part.  The factors
 * start as 1.  Outputs are scaled together with their bias. */
#include <stdio.h>

#include "adapt/adapt.h"

enum { IA3_OUT, IA3_IN };

/* The name's ending from the layer's number on, or with it where other modules
 * end so too (BERT's output.dense). */
static int ia3_name(struct model *m, const struct site *s, char *to, size_t cap)
{
    const char *mark = strstr(s->row->hf, "%d"), *name = strstr(s->name, mark ? mark + 3 : s->name);
    int renamed = strcmp(s->name, s->peft_name);
    snprintf(to, cap, "%s", renamed ? s->peft_name : name ? name : s->name);
    for (int64_t i = 0; i < m->n_sites && mark && !renamed; i++)
        if (m->sites[i]->slot != s->slot && adapter_targets(to, m->sites[i]->name)) {
            const char *from = s->name + (mark - s->row->hf) - 1;
            while (from > s->name && from[-1] != '.') from--;
            snprintf(to, cap, "%s", from);
        }
    return (int)strlen(to);
}

static int ia3_begin(struct model *m, struct adapted *a)
{
    struct adapter *owner = a->adapter;
    char name[160], *list;
    if (owner->names && (adapter_targets(owner->names, a->site->name) ||
                         adapter_targets(owner->names, a->site->peft_name)))
        a->at_input = 1;
    if (!owner->default_names || a->at_input ||
        (a->site->slot != SLOT_DOWN && a->site->slot != SLOT_X_DOWN))
        return PEFT_OK;
    a->at_input = 1;
    size_t n = owner->names ? strlen(owner->names) : 0;
    int64_t len = ia3_name(m, a->site, name, sizeof(name));
    if (!(list = arena_alloc(&owner->arena, (int64_t)n + len + 2))) return PEFT_ENOMEM;
    snprintf(list, n + (size_t)len + 2, "%s%s%s", n ? owner->names : "", n ? "," : "", name);
    owner->names = list;
    return PEFT_OK;
}

static void ia3_shape(const struct adapted *a, int k, int64_t *rows, int64_t *cols)
{
    (void)cols;
    if ((k == IA3_IN) != a->at_input) *rows = 0;
}

static int ia3_init(struct model *m, struct adapted *a, uint64_t seed, uint64_t stream)
{
    struct param *p = a->part[a->at_input ? IA3_IN : IA3_OUT];
    (void)seed;
    (void)stream;
    m->compute.k->fill(p->own, 1.0f, param_len(p));
    return PEFT_OK;
}

static struct tensor *ia3_before(struct pass *p, const struct adapted *a, struct tensor *x)
{
    return a->at_input ? g_mul(p->g, x, nn_leaf(p, a->part[IA3_IN])) : x;
}

static struct tensor *ia3_last(struct pass *p, const struct adapted *a, struct tensor *y)
{
    if (a->at_input) return y;
    struct tensor *l = nn_leaf(p, a->part[IA3_OUT]);
    return g_mul(p->g, y, g_reshape(p->g, l, 1, a->site->w->rows));
}

static void ia3_merge(struct model *m, const struct adapted *a, float *w, float *b)
{
    const struct kernels *k = m->compute.k;
    const float *l = a->part[a->at_input ? IA3_IN : IA3_OUT]->own;
    int64_t rows = a->site->w->rows, cols = a->site->w->cols;
    for (int64_t i = 0; i < rows; i++, w += cols) {
        if (a->at_input) k->mul(w, w, l, 0, cols);
        else k->axpy(w, w, l[i], 0, cols);
    }
    if (b && !a->at_input) k->mul(b, b, l, 0, rows);
}

static const struct method_setting ia3_settings[] = {
    { "feedforward_modules", 'n', offsetof(struct adapter, names), 0, 0, 0 },
    { "fan_in_fan_out", 'b', offsetof(struct adapter, turned), 0, 0, 1 },
    { NULL, 0, 0, 0, 0, 0 }
};

#define BIT(slot) ((uint64_t)1 << (slot))
const struct method method_ia3 = {
    .name = "ia3",
    .peft_type = "IA3",
    .about = "a factor for each key, value and feed-forward unit",
    .config = "\"init_ia3_weights\": true",
    .settings = ia3_settings,
    .parts = { { "ia3_l", PART_OUT, PART_ONE, 0, 0 },
               { "ia3_l", PART_ONE, PART_IN, PART_MATRIX, 0 } },
    .at = SITE_LINEAR,
    .slots = BIT(SLOT_QKV) | BIT(SLOT_K) | BIT(SLOT_V) | BIT(SLOT_DOWN) | BIT(SLOT_X_DOWN),
    .lr = 5e-3f,
    .turns_bias = 1,
    .begin = ia3_begin,
    .shape = ia3_shape,
    .init = ia3_init,
    .before = ia3_before,
    .last = ia3_last,
    .merge = ia3_merge
};
#undef BIT
