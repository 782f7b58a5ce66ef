/* config.json of a model that is saved: the original with what changed, or made
 * from the settings of a GGUF file. */
#include <stdio.h>

#include "model/rope.h"
#include "model/save.h"

void put_member(struct buf *b, const char *key, int *n)
{
    buf_puts(b, (*n)++ ? ",\n  " : "{\n  ");
    buf_json(b, key, (int64_t)strlen(key));
    buf_puts(b, ": ");
}

static void put_string(struct buf *b, const char *key, const char *value, int *n)
{
    put_member(b, key, n);
    buf_json(b, value, (int64_t)strlen(value));
}

static int is_ours(const char *key)
{
    static const char *const keys[] = {
        "architectures", "torch_dtype",         "dtype",       "id2label", "label2id", "num_labels",
        "libpeft_pool",  "quantization_config", "problem_type", "libpeft_head"
    };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (!strcmp(keys[i], key)) return 1;
    return 0;
}

static void put_labels(const struct model *m, struct buf *b, int *n)
{
    put_member(b, "id2label", n);
    for (int32_t i = 0; i < m->hp.labels; i++) {
        buf_printf(b, "%s\"%d\": ", i ? ", " : "{", i);
        buf_json(b, m->labels[i], (int64_t)strlen(m->labels[i]));
    }
    buf_puts(b, "}");
    put_member(b, "label2id", n);
    for (int32_t i = 0; i < m->hp.labels; i++) {
        buf_puts(b, i ? ", " : "{");
        buf_json(b, m->labels[i], (int64_t)strlen(m->labels[i]));
        buf_printf(b, ": %d", i);
    }
    buf_puts(b, "}");
    put_string(b, "libpeft_pool", pool_names[m->pool_kind], n);
    const struct head_kind *h = &head_kinds[m->kind];
    if (h->problem) put_string(b, "problem_type", h->problem, n);
    if (!h->problem && !h->each_token) put_string(b, "libpeft_head", h->name, n);
}

/* "BertModel" and the head make "BertForTokenClassification". */
static void put_class(const struct model *m, struct buf *b, int *n)
{
    const struct head_kind *h = &head_kinds[m->kind];
    int stem = (int)(strlen(m->arch->class_base) - strlen("Model"));
    const char *class = m->kind == HEAD_LM            ? m->arch->class_lm
                        : m->head && !h->each_token    ? m->arch->class_cls
                        : m->global[SLOT_PROJECTION]   ? m->arch->style.class_projection
                                                       : m->arch->class_base;
    int whole = class != m->arch->class_base || !h->suffix;
    put_member(b, "architectures", n);
    buf_printf(b, "[\"%.*s%s\"]", whole ? (int)strlen(class) : stem, class, whole ? "" : h->suffix);
}

/* Settings of a model that came from GGUF, by the family's table of keys. */
static int put_settings(const struct model *m, struct buf *b, int *n)
{
    static const char *const acts[] = { "linear", "silu", "gelu",   "gelu_pytorch_tanh",
                                        "relu",   "tanh", "sigmoid", "quick_gelu" };
    const struct hparams *hp = &m->hp;
    const struct key *done[64];
    int64_t n_done = 0;
    for (const struct key *k = m->arch->keys; k->at != UINT16_MAX && n_done < 64; k++) {
        int seen = 0;
        for (int64_t i = 0; i < n_done; i++) seen |= done[i]->at == k->at;
        const void *at = (const char *)hp + k->at;
        if (seen || !k->hf || strchr(k->hf, '.') || k->kind == 'x' ||
            (k->kind == 'i' && !*(const int64_t *)at) ||
            (k->kind == 'f' && *(const double *)at == 0))
            continue;
        done[n_done++] = k;
        put_member(b, k->hf, n);
        if (k->kind == 'b') buf_puts(b, *(const int64_t *)at ? "true" : "false");
        else if (k->kind == 'f') buf_real(b, *(const double *)at);
        else buf_printf(b, "%lld", (long long)*(const int64_t *)at);
    }
    put_string(b, "model_type", m->arch->name, n);
    char act[48];
    int gated = m->arch->style.act_key && m->layers[0].at[SLOT_GATE];
    snprintf(act, sizeof(act), "%s%s", gated ? "gated-" : "", acts[hp->act]);
    put_string(b, m->arch->style.act_key ? m->arch->style.act_key : "hidden_act", act, n);
    put_member(b, "vocab_size", n);
    buf_printf(b, "%lld", (long long)hp->vocab);
    put_member(b, "tie_word_embeddings", n);
    buf_puts(b, m->global[SLOT_LM_HEAD] ? "false" : "true");
    const struct layer *l = &m->layers[0];
    const struct told told = { .bias = l->at[SLOT_QKV] && l->at[SLOT_QKV]->b,
                               .two_norms = l->at[SLOT_FFN_NORM] != NULL };
    if (m->arch->tell) m->arch->tell(hp, &told, b, n);
    int rc = scaling_put_config(m, b, n);
    const struct tok_info *t = m->tok ? tok_info(m->tok) : NULL;
    const struct { const char *key; int32_t id;
    } ids[] = { { "bos_token_id", t ? t->bos : -1 },
                { "eos_token_id", t ? t->eos : -1 },
                { "pad_token_id", t ? t->pad : -1 } };
    if (!t) {           /* the class's own might lie beyond the vocabulary */
        put_member(b, "pad_token_id", n);
        buf_puts(b, "null");
    }
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        if (ids[i].id < 0) continue;
        put_member(b, ids[i].key, n);
        buf_printf(b, "%d", ids[i].id);
    }
    return rc;
}

/* As transformers' BitsAndBytesConfig writes it; the linear layers that stay
 * floats are named, since its own choice differs. */
static void put_quantization(const struct save *s, struct buf *b, const char *dtype, int *n)
{
    int skipped = 0;
    put_member(b, "quantization_config", n);
    buf_printf(b, "{\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true, "
               "\"load_in_8bit\": false, \"bnb_4bit_quant_type\": \"%s\", "
               "\"bnb_4bit_use_double_quant\": %s, \"bnb_4bit_compute_dtype\": \"%s\", "
               "\"bnb_4bit_quant_storage\": \"uint8\", \"llm_int8_skip_modules\": [",
               s->wish->bnb, s->wish->nested ? "true" : "false", dtype);
    if (s->m->arch->class_lm) {
        const struct slot_row *head = slot_find(s->m->arch, SLOT_LM_HEAD);
        if (head && head->hf) buf_json(b, head->hf, (int64_t)strlen(head->hf)), skipped++;
    }
    for (int64_t i = 0; i < s->m->n_sites; i++) {
        const struct site *site = s->m->sites[i];
        int other = site->kind != SITE_LINEAR || site->slot == SLOT_LM_HEAD;
        if (other || save_as_bnb(s, site)) continue;
        const char *name = model_file_name(s->m, site->name);
        buf_puts(b, skipped++ ? ", " : "");
        buf_json(b, name, (int64_t)strlen(name));
    }
    buf_puts(b, "]}");
}

/* transformers' classes pool in one way each, ModernBERT's as config.json says. */
static void warn_of_pool(const struct model *m)
{
    int told = m->pool_kind != POOL_LAST &&
        json_kind(json_get(store_config(m->store), "classifier_pooling")) != JSON_NULL;
    if (!m->head || head_kinds[m->kind].each_token || told ||
        m->pool_kind == m->arch->style.pool)
        return;
    host_log(&m->host, LOG_WARN, "the head reads the \"%s\" state, but transformers' %s always "
             "reads \"%s\": only libpeft computes the same from this folder",
             pool_names[m->pool_kind], m->arch->class_cls, pool_names[m->arch->style.pool]);
}

int save_config(const struct save *s, const char *dir)
{
    struct model *m = s->m;
    const char *dtype = s->dtype == &qtype_bf16  ? "bfloat16"
                        : s->dtype == &qtype_f16 ? "float16"
                                                 : "float32";
    struct buf b;
    char *path = NULL;
    int n = 0, rc = PEFT_OK;
    warn_of_pool(m);
    buf_init(&b, &m->host.mem);
    put_class(m, &b, &n);
    if (store_config(m->store)) {
        for (const json *j = json_first(store_config(m->store)); j; j = json_next(j)) {
            if (is_ours(json_key(j))) continue;
            if (m->head && m->pool_kind != POOL_LAST &&
                !strcmp(json_key(j), "classifier_pooling")) {
                put_string(&b, json_key(j), pool_names[m->pool_kind], &n);
                continue;
            }
            put_member(&b, json_key(j), &n);
            json_write(&b, j);
        }
    } else {
        rc = put_settings(m, &b, &n);
    }
    if (!s->dtype && m->params[0]->type == &qtype_bf16) dtype = "bfloat16";
    if (!s->dtype && m->params[0]->type == &qtype_f16) dtype = "float16";
    put_string(&b, "torch_dtype", dtype, &n);
    if (s->wish && s->wish->bnb) put_quantization(s, &b, dtype, &n);
    if (m->head) put_labels(m, &b, &n);
    buf_puts(&b, "\n}\n");
    if (!rc) rc = buf_check(&b);
    if (!rc) rc = path_join(&m->host, dir, "config.json", &path);
    if (!rc) rc = file_write(&m->host, path, b.data, b.n);
    mem_free(&m->host.mem, path);
    buf_free(&b);
    return rc;
}
