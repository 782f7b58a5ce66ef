/* Several texts at once, each with an adapter of its own: peft_forward_batch,
 * peft_generate_batch. */
#include <stdlib.h>

#include "api/infer.h"

int acting_adapter(const struct model *m, const char *name, const struct adapter **out)
{
    *out = !name ? NULL : *name ? adapter_find(m, name) : &adapter_base;
    if (*out || !name) return PEFT_OK;
    return fail(PEFT_ENOTFOUND, "the model has no adapter \"%s\"", name);
}

struct choice { const struct adapter *a; int32_t key, text; };

static int by_key(const void *a, const void *b)
{
    const struct choice *x = a, *y = b;
    return x->key != y->key ? x->key - y->key : x->text - y->text;
}

/* Adapters count in the order in which they were added: addresses would let the bits
 * of a run depend on chance. */
static int choose(const struct model *m, const char *name, struct choice *to)
{
    int rc = acting_adapter(m, name, &to->a);
    to->key = to->a ? 1 : 0;
    for (const struct adapter *a = m->adapters; a && to->a && to->a != &adapter_base; a = a->next) {
        to->key++;
        if (a == to->a) break;
    }
    return rc;
}

int mix_new(struct model *m, const char *const *names, int32_t n, struct mix *out)
{
    struct mem *mem = &m->host.mem;
    struct choice *list = names ? mem_array(mem, n, sizeof(*list)) : NULL;
    int rc = PEFT_OK;
    out->acts = names ? mem_array(mem, n, sizeof(*out->acts)) : NULL;
    out->order = mem_array(mem, n, sizeof(*out->order));
    if (!out->order || (names && (!list || !out->acts))) rc = PEFT_ENOMEM;
    for (int32_t i = 0; i < n && !rc; i++) {
        if (names) rc = choose(m, names[i], &list[i]);
        if (names) list[i].text = i;
        else out->order[i] = i;
    }
    if (!rc && names) qsort(list, (size_t)n, sizeof(*list), by_key);
    for (int32_t i = 0; i < n && names && !rc; i++) {
        out->acts[i] = list[i].a;
        out->order[i] = list[i].text;
    }
    mem_free(mem, list);
    return rc;
}

void mix_free(struct model *m, struct mix *x)
{
    mem_free(&m->host.mem, x->acts);
    mem_free(&m->host.mem, x->order);
}

/* --- logits */

int32_t peft_forward_batch(peft_model *model, const int32_t *ids, const int32_t *lengths, int32_t n,
                           const char *const *adapters, float *logits)
{
    ARG(model && ids && lengths && logits && n > 0, "no model, ids, lengths or room for logits "
        "given");
    struct model *m = model_of(model);
    struct seqs t;
    struct mix mix;
    const struct tensor *z = NULL;
    int64_t all = 0, each = m->head && !head_kinds[m->kind].each_token;
    int rc = check_forward(m);
    for (int32_t i = 0; i < n && !rc; all += lengths[i++])
        rc = lengths[i] < 1 ? fail(PEFT_EARG, "text %d has no tokens", i)
                            : check_ids(m, ids + all, lengths[i]);
    if (!rc && all > INT32_MAX)
        rc = fail(PEFT_EARG, "%lld tokens, expected 2^31 at most", (long long)all);
    if (rc) return rc;
    seqs_init(&t, m);
    rc = mix_new(m, adapters, n, &mix);
    int64_t *from = rc ? NULL : mem_array(&m->host.mem, (int64_t)n + 1, sizeof(*from));
    if (!rc && !from) rc = PEFT_ENOMEM;
    for (int32_t i = 0; i < n && !rc; i++) from[i + 1] = from[i] + lengths[i];
    for (int32_t i = 0; i < n && !rc; i++)
        rc = seqs_add(&t, ids + from[mix.order[i]], lengths[mix.order[i]], 0);
    t.acts = mix.acts;
    if (!rc) rc = seqs_run(&t, m, head_output, NULL, &z);
    const float *x = rc ? NULL : tensor_f32(z);
    for (int32_t i = 0; i < n && !rc; i++) {
        int64_t at = mix.order[i], rows = each ? 1 : lengths[at];
        memcpy(logits + (each ? at : from[at]) * z->cols, x, (size_t)(rows * z->cols) * 4);
        x += rows * z->cols;
    }
    mem_free(&m->host.mem, from);
    mix_free(m, &mix);
    seqs_free(&t);
    return rc;
}
