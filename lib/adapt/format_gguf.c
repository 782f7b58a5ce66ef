/* LoRA as GGUF, which llama.cpp loads beside its base: general.type "adapter",
 * general.architecture the base's, adapter.type "lora", adapter.lora.alpha float32, and
 * the tensors NAME.weight.lora_a and NAME.weight.lora_b of the base's tensors
 * NAME.weight; see foreign.c.  Source: llama.cpp's convert_lora_to_gguf.py and
 * src/llama-adapter.cpp, where alpha 0 stands for a scale of 1. */
#include <math.h>
#include <stdio.h>

#include "adapt/io.h"

static int gguf_module(const struct model *m, const struct site *s, char *to, size_t cap)
{
    /* llama.cpp looks for adapters of token embeddings, not of others. */
    if (s->kind == SITE_EMBED && s->slot != SLOT_EMBED) return 0;
    return site_gguf_name(m, s, to, cap);
}

static int gguf_expect(const struct load *l, const char *key, const char *want, int code)
{
    const char *found = NULL;
    int rc = store_string(l->st, key, &found, NULL);
    if (rc < 0 || (rc && want && !strcmp(found, want))) return MIN(rc, PEFT_OK);
    return fail(code, "%s is \"%s\", expected \"%s\"", key, found ? found : "(none)",
                want ? want : "(none: GGUF has no such family)");
}

static int gguf_settings(struct load *l, const char *path, json **config)
{
    double alpha = 0;
    struct gguf_array tokens;
    struct buf b;
    int rc = store_open(&l->m->host, path, true, &l->st);
    if (rc) return rc;
    if (store_format(l->st) != STORE_GGUF)
        return fail(PEFT_EFORMAT, "expected an adapter's folder or its .gguf file");
    rc = gguf_expect(l, "general.type", "adapter", PEFT_EFORMAT);
    if (!rc) rc = gguf_expect(l, "adapter.type", "lora", PEFT_EUNSUPPORTED);
    if (!rc) rc = gguf_expect(l, "general.architecture", l->m->arch->gguf, PEFT_EFORMAT);
    if (!rc) rc = MIN(store_number(l->st, "adapter.lora.alpha", &alpha), PEFT_OK);
    if (rc) return rc;
    if (!isfinite(alpha))
        return fail(PEFT_EFORMAT, "adapter.lora.alpha is not finite");
    if ((rc = store_array(l->st, "adapter.alora.invocation_tokens", -1, &tokens)))
        return rc < 0 ? rc : fail(PEFT_EUNSUPPORTED, "the adapter acts after its invocation tokens "
                                  "only (aLoRA), which is not supported");
    l->scale = alpha == 0;
    buf_init(&b, &l->m->host.mem);
    buf_puts(&b, "{\"peft_type\": \"LORA\", \"lora_alpha\": ");
    buf_number(&b, alpha);
    buf_puts(&b, "}");
    rc = buf_check(&b);
    if (!rc) rc = json_parse(b.data, b.n, "adapter.lora.alpha", config);
    buf_free(&b);
    return rc;
}

/* Norms that mergekit puts beside LoRA are whole; Gemma's exceed Hugging Face's by 1. */
static int gguf_give(struct load *l, const struct store_tensor *t)
{
    static const char ending[] = ".weight";
    const struct model *m = l->m;
    size_t n = strlen(t->name), k = sizeof(ending) - 1;
    int64_t i = n > k && !strcmp(t->name + n - k, ending)
                    ? map_get(&l->modules, t->name, (int64_t)(n - k), -1) : -1;
    if (i < 0 || m->sites[i]->kind != SITE_NORM || !t->type->is_float) return foreign_give(l, t);
    char name[300];
    struct store_tensor other = *t;
    float *values = mem_array(&l->m->host.mem, t->count, 4);
    if (!values) return PEFT_ENOMEM;
    t->type->to_f32(values, t->data, t->count);
    for (int64_t j = 0; j < t->count && m->arch->style.norm_plus; j++) values[j] -= 1.0f;
    other.type = &qtype_f32;
    other.data = values;
    snprintf(name, sizeof(name), "%s%s", m->sites[i]->name, ending);
    int rc = load_named(l, &other, name);
    mem_free(&l->m->host.mem, values);
    return rc;
}

static int gguf_save(struct adapter_out *o, const char *path)
{
    const struct model *m = o->m;
    const char *const texts[][2] = { { "general.architecture", m->arch->gguf },
                                     { "general.type", "adapter" }, { "adapter.type", "lora" },
                                     { "general.name", o->a->name } };
    struct gguf_kv kv[ARRAY_LEN(texts) + 1];
    int64_t n = 0;
    if (!m->arch->gguf)
        return fail(PEFT_EUNSUPPORTED, "GGUF has no words for models of the family %s: save the "
                    "adapter as peft", m->arch->name);
    int rc = foreign_collect(o);
    if (rc) return rc;
    adapter_cast(o);
    struct buf b;
    buf_init(&b, &o->m->host.mem);
    for (size_t i = 0; i < ARRAY_LEN(kv) && !rc; i++) {
        int last = i == ARRAY_LEN(texts);
        buf_clear(&b);
        if (last) gguf_raw_f32(&b, (float)(o->scale * o->rank));
        else gguf_raw_string(&b, texts[i][1], (int64_t)strlen(texts[i][1]));
        char *raw = buf_check(&b) ? NULL : arena_strndup(&o->t, b.data, b.n);
        if (!raw) rc = PEFT_ENOMEM;
        kv[n++] = (struct gguf_kv){ last ? "adapter.lora.alpha" : texts[i][0],
                                    last ? GGUF_F32 : GGUF_STRING, raw, b.n };
    }
    if (!rc) rc = gguf_write(&o->m->host, path, kv, n, o->out, o->n);
    buf_free(&b);
    return rc;
}

const struct adapter_format format_gguf = {
    .name = "gguf", .settings = gguf_settings, .give = gguf_give, .save = gguf_save,
    .methods = { "lora", NULL }, .endings = { ".weight.lora_a", ".weight.lora_b", NULL },
    .turned = { { 0, 1 }, { 0, 0 } }, .ordered = 1, .module = gguf_module
};
