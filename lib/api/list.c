/* The library's tables as text, so that what is told of it cannot differ from what
 * it has. */
#include <stdio.h>

#include "api/api.h"

/* Models that are made so, for people; a family without a row has no others. */
static const struct named known_models[] = {
    {"llama", "Llama 1 to 3, SmolLM 1 and 2, TinyLlama, Vicuna"},
    {"mistral", "Mistral 7B"},
    {"mixtral", "Mixtral 8x7B"},
    {"smollm3", "SmolLM 3"},
    {"qwen2", "Qwen 1.5, 2 and 2.5"},
    {"qwen3", "Qwen 3"},
    {"qwen3_moe", "Qwen 3 MoE"},
    {"gemma", "Gemma 1"},
    {"gemma2", "Gemma 2"},
    {"gemma3_text", "Gemma 3"},
    {"phi", "Phi 1 to 2"},
    {"phi3", "Phi 3"},
    {"olmo2", "OLMo 2"},
    {"starcoder2", "StarCoder 2"},
    {"gpt2", "GPT-2, DistilGPT-2"},
    {"gpt_neox", "GPT-NeoX, Pythia"},
    {"falcon", "Falcon"},
    {"opt", "OPT"},
    {"bloom", "BLOOM"},
    {"bert", "BERT, MiniLM"},
    {"roberta", "RoBERTa"},
    {"xlm-roberta", "XLM-RoBERTa"},
    {"distilbert", "DistilBERT"},
    {"modernbert", "ModernBERT"},
    {"vit", "ViT, DeiT without distillation"},
    {"clip_vision_model", "CLIP's image tower"},
    {"T5EncoderModel", "the encoder of a T5 alone"},
    {"t5", "T5, FLAN-T5"},
    {"mt5", "mT5"},
};

static const struct named formats[] = {
    {"GGUF", "versions 2 and 3, whole or in parts, read; version 3 written"},
    {"safetensors", "Hugging Face folders, sharded too, read and written"},
    {"bitsandbytes", "4 bits (NF4, FP4, double quantisation) read and written, LLM.int8 read"},
    {"pictures", "PNG and JPEG read, where the build has libpng and libjpeg"},
    {"PEFT", "adapter folders of Hugging Face PEFT read and written"},
    {"GGUF adapter", "LoRA as llama.cpp loads it beside the base, read and written"},
    {"MLX adapter", "LoRA, DoRA and whole tensors of MLX-LM read and written"},
};

static void put(char *to, size_t cap, const char *text)
{
    snprintf(to, cap, "%s", text ? text : "");
}
#define PUT(field, text) put(field, sizeof(field), text)

static int named_row(const struct named *rows, size_t n, int32_t i, peft_entry *e)
{
    if ((size_t)i >= n || !rows[i].name) return 0;
    PUT(e->name, rows[i].name);
    PUT(e->about, rows[i].about);
    return 1;
}

static int format_row(int32_t i, peft_entry *e)
{
    return named_row(formats, ARRAY_LEN(formats), i, e);
}

static int tokenizer_row(int32_t i, peft_entry *e)
{
    return named_row(tok_kinds, SIZE_MAX, i, e);
}

static int head_entry(int32_t i, peft_entry *e)
{
    if (i < 0 || i >= HEAD_IDS) return 0;
    PUT(e->name, head_kinds[i].name);
    PUT(e->about, head_kinds[i].about);
    PUT(e->hf, head_kinds[i].suffix);
    return 1;
}

static int is_mixture(const struct arch *a)
{
    for (const struct key *k = a->keys; k->at != UINT16_MAX; k++)
        if (k->at == offsetof(struct hparams, experts)) return 1;
    return 0;
}

static int family_row(int32_t i, peft_entry *e)
{
    const struct arch *a = NULL;
    for (int32_t k = 0; archs[k] && !a; k++)
        if (k == i) a = archs[k];
    if (!a) return 0;
    const char *known = a->style.hf_class ? a->style.hf_class : a->name;
    const char *classes[] = { a->class_lm, a->class_cls, a->class_base };
    size_t n = 0;
    for (size_t k = 0; k < ARRAY_LEN(classes); k++)
        if (classes[k] && n < sizeof(e->hf))
            n += (size_t)snprintf(e->hf + n, sizeof(e->hf) - n, "%s%s", n ? ", " : "", classes[k]);
    PUT(e->name, a->name);
    PUT(e->kind, slot_find(a, SLOT_CROSS_Q) ? "encoder and decoder"
                 : !a->style.causal         ? "encoder"
                 : is_mixture(a)            ? "mixture of experts"
                                            : "decoder");
    PUT(e->gguf, a->gguf);
    for (size_t k = 0; k < ARRAY_LEN(known_models); k++)
        if (!strcmp(known_models[k].name, known)) PUT(e->about, known_models[k].about);
    return 1;
}

static int type_row(int32_t i, peft_entry *e)
{
    const struct qtype *t = NULL;
    for (int32_t k = 0; qtypes[k] && !t; k++)
        if (k == i) t = qtypes[k];
    if (!t) return 0;
    PUT(e->name, t->name);
    snprintf(e->kind, sizeof(e->kind), "%g bits", 8.0 * t->bytes / t->block);
    PUT(e->hf, t->block == 1 ? "safetensors" : t->ggml_id < 0 ? "bitsandbytes" : "");
    PUT(e->gguf, t->ggml_id < 0 ? "" : "yes");
    PUT(e->about, !t->to_f32 ? "carried" : t->from_f32 ? "read and written" : "read");
    return 1;
}

static int method_row(int32_t i, peft_entry *e)
{
    const struct method *m = NULL;
    for (int32_t k = 0; methods[k] && !m; k++)
        if (k == i) m = methods[k];
    if (!m) return 0;
    PUT(e->name, m->name);
    PUT(e->kind, m->merge || m->keeps ? "merges" : "stays apart");
    PUT(e->hf, m->mark ? m->mark : m->peft_type);
    PUT(e->about, m->about);
    return 1;
}

static const struct { const char *name; int (*row)(int32_t i, peft_entry *e); } lists[] = {
    { "families", family_row }, { "formats", format_row }, { "types", type_row },
    { "tokenizers", tokenizer_row }, { "heads", head_entry },
    { "methods", method_row },
};

int32_t peft_list(const char *which, int32_t i, peft_entry *out)
{
    char names[96];
    size_t n = 0;
    peft_entry e = { 0 };
    ARG(which && i >= 0, "no table or row given");
    int rc = check_result(out);
    if (rc) return rc;
    for (size_t k = 0; k < ARRAY_LEN(lists); k++) {
        n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", k ? ", " : "", lists[k].name);
        if (strcmp(lists[k].name, which)) continue;
        if (!lists[k].row(i, &e)) return fail(PEFT_EEND, "%s has %d rows", which, i);
        give_result(out, &e, sizeof(e));
        return PEFT_OK;
    }
    return fail(PEFT_EARG, "table \"%.40s\", expected one of %s", which, names);
}
