/* Model -> file: a Hugging Face folder or a GGUF file, whatever it came from.
 * Names, settings and row order come from the family's tables. */
#include <math.h>
#include <stdio.h>

#include "model/model.h"

/* --- tensors */

struct source {                     /* how one tensor is written */
    const struct source *next;      /* the next expert's, in the same tensor */
    const struct model *m;
    const struct param *p;
    float *row;                     /* room for one row, shared */
    void *packed;                   /* and for it in the target type */
    float *turned;                  /* the values as [in, out], or NULL */
    int order;                      /* enum row_order of the file */
    float plus;                     /* added to every element */
};

static int64_t source_row(const struct source *s, int64_t i)
{
    if (s->p->order == s->order) return i;
    return s->order ? row_in_hf(&s->m->hp, s->order, i) : param_row(s->m, s->p, i);
}

static void put_matrix(const struct store_out *o, const struct source *s, struct writer *w)
{
    const struct param *p = s->p;
    const struct qtype *type = s->turned ? &qtype_f32 : p->type;
    int64_t rows = s->turned ? p->cols : p->rows, cols = s->turned ? p->rows : p->cols, bytes = 0;
    if (rows == 1 && (p->order || s->order)) {                /* a bias of ordered rows */
        rows = cols;
        cols = 1;
    }
    int64_t from = cols / type->block * type->bytes;
    qtype_bytes(o->type, cols, &bytes);
    for (int64_t i = 0; i < rows; i++) {
        const char *data = s->turned ? (const char *)s->turned : p->data;
        data += source_row(s, i) * from;
        if (o->type != type || s->plus != 0.0f) {
            type->to_f32(s->row, data, cols);
            for (int64_t k = 0; k < cols && s->plus != 0.0f; k++) s->row[k] += s->plus;
            o->type->from_f32(s->packed, s->row, cols);
            data = s->packed;
        }
        writer_put(w, data, bytes);
    }
}

static int put_rows(const struct store_out *o, struct writer *w)
{
    for (const struct source *s = o->arg; s; s = s->next) put_matrix(o, s, w);
    return PEFT_OK;
}

struct save {
    struct model *m;
    const struct qtype *dtype;      /* wish for float tensors, or NULL */
    int gguf;
    struct arena arena;
    struct store_out *out;
    int64_t n;
    float *row;
    void *packed;
};

/* What `dtype` may be, the first three also in folders.  A tensor whose rows are
 * no whole blocks gets the type `instead`, as in llama.cpp; its row comes later. */
static const struct wish { const char *name, *type, *instead; } wishes[] = {
    { "f32", "F32", NULL },     { "f16", "F16", NULL },     { "bf16", "BF16", NULL },
    { "q6_k", "Q6_K", "Q8_0" }, { "q5_k", "Q5_K", "Q5_1" }, { "q4_k", "Q4_K", "Q5_0" },
    { "q8_0", "Q8_0", "F16" },  { "q5_1", "Q5_1", "F16" },  { "q5_0", "Q5_0", "F16" },
    { "q4_1", "Q4_1", "F16" },  { "q4_0", "Q4_0", "F16" },
};
enum { FOLDER_WISHES = 3 };

static const struct qtype *fitting(const struct qtype *t, int64_t cols)
{
    for (size_t i = 0; i < ARRAY_LEN(wishes) && cols % t->block != 0; i++)
        if (!strcmp(wishes[i].type, t->name)) t = qtype_by_name(wishes[i].instead);
    return t;
}

static int find_wish(const char *name, int gguf, const struct qtype **out)
{
    size_t n = gguf ? ARRAY_LEN(wishes) : FOLDER_WISHES;
    char list[128];
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(name, wishes[i].name)) {
            *out = qtype_by_name(wishes[i].type);
            return PEFT_OK;
        }
        at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s", i ? ", " : "",
                               wishes[i].name);
    }
    return fail(PEFT_EARG, "type \"%.40s\", expected one of %s%s", name, list,
                gguf ? "" : " in a folder");
}

static const struct qtype *target_type(const struct save *s, const struct param *p)
{
    if (s->gguf) {
        if (p->n_dims < 2) return &qtype_f32;          /* as llama.cpp expects norms and biases */
        if (s->dtype && (p->type->is_float || p->own)) return fitting(s->dtype, p->cols);
        /* GGUF has no floats of 8 bits; half floats hold all of them. */
        return p->type->ggml_id < 0 ? &qtype_f16 : p->type;
    }
    if (s->dtype) return s->dtype;
    return p->stored->is_float ? p->stored : &qtype_f32;
}

static const char *gguf_name(struct save *s, const struct site *site, const char *suffix)
{
    const char *gguf = site->row->gguf, *mark = gguf ? strstr(gguf, "%d") : NULL;
    char name[160];
    if (!gguf) return NULL;
    if (mark)
        snprintf(name, sizeof(name), "%.*s%d%s%s", (int)(mark - gguf), gguf,
                 (int)(site->layer - s->m->stack[stack_of(site->flags)].first), mark + 2, suffix);
    else snprintf(name, sizeof(name), "%s%s", gguf, suffix);
    return arena_strndup(&s->arena, name, (int64_t)strlen(name));
}

/* In GGUF the experts of a layer are one tensor, the first one's. */
static int stack_expert(struct save *s, const char *name, const struct source *from)
{
    for (int64_t i = s->n - 1; i >= 0; i--) {
        if (strcmp(s->out[i].name, name)) continue;
        struct source *last = s->out[i].arg;
        while (last->next) last = (struct source *)(uintptr_t)last->next;
        const struct qtype *type = target_type(s, from->p);
        if (type != s->out[i].type)
            return fail(PEFT_EUNSUPPORTED, "the experts of %s have several types, expected one: "
                        "give a dtype", name);
        last->next = from;
        return PEFT_OK;
    }
    return fail(PEFT_EUNSUPPORTED, "%s lacks its first expert", name);
}

static int add_tensor(struct save *s, const struct site *site, const struct param *p,
                      const char *suffix)
{
    struct model *m = s->m;
    const char *name = p->name;
    int turn = p->turned && !s->gguf, norm = m->arch->style.norm_plus && site->kind == SITE_NORM;
    if (s->gguf) name = gguf_name(s, site, suffix);
    else name = model_file_name(m, name);
    if (!name)
        return fail(PEFT_EUNSUPPORTED,
                    "GGUF has no place for %s: save a folder, or merge without a head", p->name);
    struct source *from = arena_alloc(&s->arena, sizeof(*from));
    if (!from) return PEFT_ENOMEM;
    *from = (struct source){ .m = m, .p = p, .row = s->row, .packed = s->packed };
    if (s->gguf) from->order = slot_order(m->arch, site->row);
    if (norm) from->plus = (float)(s->gguf - p->plus);
    if (turn) {
        if (!(from->turned = arena_alloc(&s->arena, param_len(p) * 4))) return PEFT_ENOMEM;
        param_read(m, p, from->turned);
    }
    const struct qtype *type = target_type(s, p);
    if (s->gguf && site->expert > 0) return stack_expert(s, name, from);
    if (!type->from_f32 && type != p->type)
        return fail(PEFT_EUNSUPPORTED, "type %s cannot be written", type->name);
    s->out[s->n++] = (struct store_out){ .name = name, .type = type, .n_dims = p->n_dims,
        .dims = { p->n_dims == 1 || turn ? p->cols : p->rows, turn ? p->rows : p->cols },
        .put = put_rows, .arg = from };
    if (s->gguf && site->expert == 0) {
        struct store_out *o = &s->out[s->n - 1];
        o->n_dims = 3;
        o->dims[2] = o->dims[1];
        o->dims[1] = o->dims[0];
        o->dims[0] = m->hp.experts;
    }
    return PEFT_OK;
}

static int collect(struct save *s)
{
    struct model *m = s->m;
    int64_t widest = 0;
    int rc = PEFT_OK;
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = m->params[i];
        widest = MAX(widest, p->turned ? MAX(p->rows, p->cols) : p->cols);
    }
    s->out = arena_alloc(&s->arena, (m->n_params + 1) * (int64_t)sizeof(*s->out));
    s->row = arena_alloc(&s->arena, widest * 4);
    s->packed = arena_alloc(&s->arena, widest * 8);
    if (!s->out || !s->row || !s->packed) return PEFT_ENOMEM;
    for (int64_t i = 0; i < m->n_sites && !rc; i++) {
        const struct site *site = m->sites[i];
        if ((site->flags & SLOT_NOT_A_WEIGHT) && !s->gguf) continue;
        /* A classifier takes the language-model head's place in a folder. */
        if (site->slot == SLOT_LM_HEAD && m->head && !s->gguf) continue;
        rc = add_tensor(s, site, site->w, ".weight");
        if (!rc && site->b) rc = add_tensor(s, site, site->b, ".bias");
    }
    return rc;
}

/* --- Hugging Face's config.json */

static void put_member(struct buf *b, const char *key, int *n)
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
        "libpeft_pool",  "quantization_config", "problem_type"
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
    static const char *const pools[] = { "last", "cls", "mean" };
    put_string(b, "libpeft_pool", pools[m->pool_kind], n);
    if (m->hp.labels == 1) put_string(b, "problem_type", "regression", n);
}

/* GGUF holds Llama 3's scaling as divisors only.  The largest is the factor,
 * and one within the blend tells the original length; low 1 and high 4 are the
 * constants of every Llama 3.1 and later.  What these do not give back has no
 * place in config.json. */
static int put_llama3(const struct model *m, struct buf *b, int *n)
{
    const struct param *p = m->global[SLOT_ROPE_FREQS]->w;
    const float *divide = p->data;
    struct hparams hp = m->hp;
    hp.rope = ROPE_LLAMA3;
    hp.rope_factor = hp.rope_low = 1;
    hp.rope_high = 4;
    hp.rope_original = 8192;
    for (int64_t i = 0; i < p->cols; i++) hp.rope_factor = MAX(hp.rope_factor, (double)divide[i]);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < p->cols; i++) {
            double d = (double)divide[i], factor = hp.rope_factor;
            double f = pow(hp.theta, -2.0 * (double)i / (double)hp.rot);
            if (pass && !(fabs(f / rope_frequency(&hp, f) - d) <= 1e-3 * d))
                return fail(PEFT_EUNSUPPORTED, "%s: rope_freqs are not Llama 3's scaling, which "
                            "config.json could hold", m->path);
            if (!pass && d > 1.001 && d < 0.999 * factor)
                hp.rope_original = round((3.0 * (1.0 / d - 1.0 / factor) / (1.0 - 1.0 / factor) +
                                          1.0) * 2.0 * 3.14159265358979323846 / f);
        }
    put_member(b, "rope_scaling", n);
    buf_puts(b, "{\"rope_type\": \"llama3\", \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
                "\"original_max_position_embeddings\": ");
    buf_printf(b, "%lld, \"factor\": ", (long long)hp.rope_original);
    buf_number(b, hp.rope_factor);
    buf_puts(b, "}");
    return PEFT_OK;
}

/* Settings of a model that came from GGUF, by the family's table of keys. */
static int put_settings(const struct model *m, struct buf *b, int *n)
{
    static const char *const acts[] = { "linear", "silu", "gelu",   "gelu_pytorch_tanh",
                                        "relu",   "tanh", "sigmoid" };
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
        if (k->kind == 'i' || k->kind == 'd') buf_printf(b, "%lld", (long long)*(const int64_t *)at);
        else if (k->kind == 'b') buf_puts(b, *(const int64_t *)at ? "true" : "false");
        else buf_real(b, *(const double *)at);
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
    int rc = m->global[SLOT_ROPE_FREQS] ? put_llama3(m, b, n) : PEFT_OK;
    if (hp->rope == ROPE_LINEAR) {
        put_member(b, "rope_scaling", n);
        buf_puts(b, "{\"rope_type\": \"linear\", \"type\": \"linear\", \"factor\": ");
        buf_number(b, hp->rope_factor);
        buf_puts(b, "}");
    }
    const struct tok_info *t = m->tok ? tok_info(m->tok) : NULL;
    const struct { const char *key; int32_t id;
    } ids[] = { { "bos_token_id", t ? t->bos : -1 },
                { "eos_token_id", t ? t->eos : -1 },
                { "pad_token_id", t ? t->pad : -1 } };
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        if (ids[i].id < 0) continue;
        put_member(b, ids[i].key, n);
        buf_printf(b, "%d", ids[i].id);
    }
    return rc;
}

static int put_config(const struct save *s, const char *dir)
{
    struct model *m = s->m;
    const char *class = m->head             ? m->arch->class_cls
                        : m->arch->class_lm ? m->arch->class_lm
                                            : m->arch->class_base;
    const char *dtype = s->dtype == &qtype_bf16  ? "bfloat16"
                        : s->dtype == &qtype_f16 ? "float16"
                                                 : "float32";
    struct buf b;
    char *path = NULL;
    int n = 0, rc = PEFT_OK;
    buf_init(&b, &m->host.mem);
    put_member(&b, "architectures", &n);
    buf_printf(&b, "[\"%s\"]", class);
    if (store_config(m->store)) {
        for (const json *j = json_first(store_config(m->store)); j; j = json_next(j)) {
            if (is_ours(json_key(j))) continue;
            put_member(&b, json_key(j), &n);
            json_write(&b, j);
        }
    } else {
        rc = put_settings(m, &b, &n);
    }
    if (!s->dtype && m->params[0]->type == &qtype_bf16) dtype = "bfloat16";
    if (!s->dtype && m->params[0]->type == &qtype_f16) dtype = "float16";
    put_string(&b, "torch_dtype", dtype, &n);
    if (m->head) put_labels(m, &b, &n);
    buf_puts(&b, "\n}\n");
    if (!rc) rc = buf_check(&b);
    if (!rc) rc = path_join(&m->host, dir, "config.json", &path);
    if (!rc) rc = file_write(&m->host, path, b.data, b.n);
    mem_free(&m->host.mem, path);
    buf_free(&b);
    return rc;
}

static int save_folder(struct save *s, const char *path, int64_t shard_bytes)
{
    struct host *h = &s->m->host;
    char *tmp;
    int rc = dir_begin(h, path, &tmp);
    if (rc) return rc;
    rc = put_config(s, tmp);
    if (!rc)
        rc = safetensors_write_dir(h, tmp, s->out, s->n,
                                   shard_bytes ? shard_bytes : INT64_C(5000000000));
    if (!rc && s->m->tok) rc = tok_save_folder(h, s->m->tok, tmp);
    if (rc) dir_abort(h, tmp);
    else rc = dir_commit(h, path, tmp);
    return rc;
}

/* --- GGUF */

struct kv_list { struct gguf_kv *kv; int64_t n, cap; struct save *s; int rc; };

static void add_kv(struct kv_list *l, const char *key, int type, const struct buf *raw)
{
    char *name = arena_strndup(&l->s->arena, key, (int64_t)strlen(key));
    char *data = raw->oom ? NULL : arena_strndup(&l->s->arena, raw->data, raw->n);
    if (l->n == l->cap || !name || !data) {
        l->rc = fail(PEFT_ENOMEM, "out of memory for GGUF metadata");
        return;
    }
    l->kv[l->n++] = (struct gguf_kv){ name, type, data, raw->n };
}

static void add_kv_number(struct kv_list *l, const char *key, int type, double x)
{
    struct buf b;
    buf_init(&b, &l->s->m->host.mem);
    if (type == GGUF_F32) gguf_raw_f32(&b, (float)x);
    else if (type == GGUF_BOOL) gguf_raw_bool(&b, x != 0);
    else gguf_raw_u32(&b, (uint32_t)x);
    add_kv(l, key, type, &b);
    buf_free(&b);
}

static void add_kv_string(struct kv_list *l, const char *key, const char *text)
{
    struct buf b;
    buf_init(&b, &l->s->m->host.mem);
    gguf_raw_string(&b, text, (int64_t)strlen(text));
    add_kv(l, key, GGUF_STRING, &b);
    buf_free(&b);
}

static void copy_kv(struct kv_list *l)
{
    for (int64_t i = 0; i < gguf_kv_count(l->s->m->store) && l->n < l->cap; i++) {
        struct gguf_kv *kv = &l->kv[l->n++];
        gguf_kv_at(l->s->m->store, i, &kv->key, &kv->type, &kv->raw, &kv->n);
    }
}

static void make_kv(struct kv_list *l)
{
    const struct model *m = l->s->m;
    const struct hparams *hp = &m->hp;
    char key[96];
    const char *arch = m->arch->gguf;
    add_kv_string(l, "general.architecture", arch);
    add_kv_string(l, "general.name", m->name);
    for (const struct key *k = m->arch->keys; k->at != UINT16_MAX; k++) {
        const void *at = (const char *)hp + k->at;
        if (!k->gguf || k->kind == 'x') continue;
        snprintf(key, sizeof(key), strncmp(k->gguf, "tokenizer.", 10) ? "%s.%s" : "%.0s%s", arch,
                 k->gguf);
        if (k->kind == 'f' && *(const double *)at != 0)
            add_kv_number(l, key, GGUF_F32, *(const double *)at);
        if (k->kind == 'b') add_kv_number(l, key, GGUF_BOOL, (double)*(const int64_t *)at);
        if (k->kind == 'd' || (k->kind == 'i' && *(const int64_t *)at))
            add_kv_number(l, key, GGUF_U32, (double)*(const int64_t *)at);
    }
    snprintf(key, sizeof(key), "%s.vocab_size", arch);
    add_kv_number(l, key, GGUF_U32, (double)hp->vocab);
    if (hp->rope == ROPE_LINEAR) {
        snprintf(key, sizeof(key), "%s.rope.scaling.type", arch);
        add_kv_string(l, key, "linear");
        snprintf(key, sizeof(key), "%s.rope.scaling.factor", arch);
        add_kv_number(l, key, GGUF_F32, hp->rope_factor);
    }
    struct gguf_kv *more = NULL;
    int64_t n = 0;
    if (!m->tok || l->rc) return;
    l->rc = tok_gguf_kv_rows(&l->s->m->host, m->tok, hp->vocab, &l->s->arena, &more, &n);
    for (int64_t i = 0; i < n && !l->rc && l->n < l->cap; i++) l->kv[l->n++] = more[i];
}

/* Llama 3's rope scaling goes into a GGUF file as divisors of the frequencies. */
static int add_rope_freqs(struct save *s)
{
    const struct hparams *hp = &s->m->hp;
    int64_t half = hp->rot / 2;
    if (hp->rope != ROPE_LLAMA3 || s->m->global[SLOT_ROPE_FREQS]) return PEFT_OK;
    float *divide = arena_alloc(&s->arena, half * 4);
    if (!divide) return PEFT_ENOMEM;
    for (int64_t i = 0; i < half; i++) {
        double f = pow(hp->theta, -2.0 * (double)i / (double)hp->rot);
        divide[i] = (float)(f / rope_frequency(hp, f));
    }
    s->out[s->n++] = (struct store_out){ .name = "rope_freqs.weight",
                                         .type = &qtype_f32,
                                         .n_dims = 1,
                                         .dims = { half },
                                         .data = divide };
    return PEFT_OK;
}

static int save_gguf(struct save *s, const char *path)
{
    struct kv_list l = { .cap = 256 + gguf_kv_count(s->m->store), .s = s };
    if (s->m->head)
        return fail(PEFT_EUNSUPPORTED,
                    "GGUF has no place for a classification head: save a folder");
    if (s->m->irregular || !s->m->arch->gguf)
        return fail(PEFT_EUNSUPPORTED, "GGUF has no words for this model (family %s%s): save a "
                    "folder", s->m->arch->name, s->m->irregular ? ", irregular layers" : "");
    if (s->m->hp.act != model_act(s->m))
        return fail(PEFT_EUNSUPPORTED,
                    "GGUF has no place for this model's activation: save a folder");
    l.kv = arena_alloc(&s->arena, l.cap * (int64_t)sizeof(*l.kv));
    if (!l.kv) return PEFT_ENOMEM;
    if (store_format(s->m->store) == STORE_GGUF) copy_kv(&l);
    else make_kv(&l);
    if (!l.rc) l.rc = add_rope_freqs(s);
    return l.rc ? l.rc : gguf_write(&s->m->host, path, l.kv, l.n, s->out, s->n);
}

int model_save(const struct model *cm, const char *path, const peft_save_opts *o)
{
    struct model *m = (struct model *)(uintptr_t)cm;
    size_t n = strlen(path);
    struct save s = { .m = m, .gguf = n > 5 && !strcmp(path + n - 5, ".gguf") };
    int rc = o->dtype ? find_wish(o->dtype, s.gguf, &s.dtype) : PEFT_OK;
    if (rc) return rc;
    if (o->shard_bytes < 0)
        return fail(PEFT_EARG, "shards of %lld bytes", (long long)o->shard_bytes);
    arena_init(&s.arena, &m->host.mem);
    rc = collect(&s);
    if (!rc) rc = s.gguf ? save_gguf(&s, path) : save_folder(&s, path, o->shard_bytes);
    arena_free(&s.arena);
    return rc;
}
