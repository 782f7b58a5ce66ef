/* Model -> file: a Hugging Face folder or a GGUF file, whatever it came from.
 * Names, settings and row order come from the family's tables. */
#include <stdio.h>

#include "model/load.h"
#include "model/rope.h"
#include "model/save.h"

/* --- tensors */

struct source {                     /* how one tensor is written */
    struct save *save;
    const struct source *next;      /* the next expert's, in the same tensor */
    const struct model *m;
    const struct param *p;
    float *row;                     /* room for one row, shared */
    void *packed;                   /* and for it in the target type */
    float *turned;                  /* the values as [in, out], or NULL */
    int order;                      /* enum row_order of the file */
    int64_t skip;                   /* rows at the beginning that the file lacks */
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
    qtype_bytes(o->type, cols, &bytes);
    for (int64_t i = s->skip; i < rows; i++) {
        const char *data = s->turned ? (const char *)s->turned : p->data;
        int64_t at = source_row(s, i) * cols;
        if (o->type == type && s->plus == 0.0f) {
            data += at / type->block * type->bytes;
        } else {
            qtype_expand(type, s->row, data, at, cols);
            for (int64_t k = 0; k < cols && s->plus != 0.0f; k++) s->row[k] += s->plus;
            o->type->from_f32(s->packed, s->row, cols);
            data = s->packed;
        }
        writer_put(w, data, bytes);
    }
    /* Under a limit, a whole model would not fit beside what trained. */
    if (s->m->limited.room) store_forget(s->m->store, p->data, param_bytes(p));
}

static int put_rows(const struct store_out *o, struct writer *w)
{
    int64_t from = writer_at(w);
    const struct source *s = o->arg;
    struct save *save = s->save;
    for (; s; s = s->next) put_matrix(o, s, w);
    save->done += writer_at(w) - from;
    if (save->opts->progress && save->opts->progress(save->opts->ctx, save->done, save->total))
        return fail(PEFT_ECANCELLED, "saving was cancelled");
    return PEFT_OK;
}

static const struct qtype *floats_of(const struct qtype *t)
{
    return t->exact ? t->exact : &qtype_f32;
}

static const struct qtype *target_type(const struct save *s, const struct param *p)
{
    if (s->gguf) {
        if (p->n_dims < 2) return &qtype_f32;          /* as llama.cpp expects norms and biases */
        int here = p->type->ggml_id >= 0;
        if (s->dtype && (p->type->is_float || p->own || !here)) return wish_fit(s->dtype, p->cols);
        return here ? p->type : floats_of(p->type);
    }
    if (s->dtype) return s->dtype;
    /* transformers keeps a quantised checkpoint's floats as they are, and multiplies
     * them with each other: one type, the config's. */
    const struct qtype *first = s->m->params[0]->type;
    if (s->wish && s->wish->bnb)
        return first == &qtype_bf16 || first == &qtype_f16 ? first : &qtype_f32;
    return p->stored->is_float ? p->stored : floats_of(p->stored);
}

/* llama.cpp adds these to floats or decides by them, and keeps them so. */
static int always_floats(const struct site *site)
{
    return site->slot == SLOT_POS || site->slot == SLOT_TYPE || site->slot == SLOT_BIAS ||
        site->slot == SLOT_ROUTER;
}

int site_gguf_name(const struct model *m, const struct site *s, char *to, size_t cap)
{
    const char *gguf = s->row->gguf, *mark = gguf ? strstr(gguf, "%d") : NULL;
    if (!gguf) return 0;
    snprintf(to, cap, "%s", gguf);
    if (mark)
        snprintf(to, cap, "%.*s%d%s", (int)(mark - gguf), gguf,
                 (int)(s->layer - m->stack[stack_of(s->flags)].first), mark + 2);
    return 1;
}

static const char *gguf_name(struct save *s, const struct site *site, const char *suffix)
{
    char name[160];
    if (!site_gguf_name(s->m, site, name, sizeof(name))) return NULL;
    size_t n = strlen(name);
    snprintf(name + n, sizeof(name) - n, "%s", suffix);
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

/* A linear layer's weight as bitsandbytes keeps it.  Blocks that were read from
 * such a file are written as they are. */
static int add_bnb(struct save *s, const struct param *p, const char *name)
{
    struct bnb_out w = { .name = name, .type = wish_bnb_type(s->wish, p),
                         .rows = p->rows, .cols = p->cols, .blocks = p->data,
                         .nested = s->wish->nested };
    struct source from = { .m = s->m, .p = p };
    struct mem *mem = &s->m->host.mem;
    int64_t len = param_len(p), bytes = 0, n = 0;
    float *values = NULL;
    void *blocks = NULL;
    int rc = PEFT_OK;
    if (p->type != w.type || p->order) {
        qtype_bytes(w.type, len, &bytes);
        values = mem_alloc(mem, len * 4);
        w.blocks = blocks = mem_alloc(mem, bytes);
        if (!values || !blocks) rc = PEFT_ENOMEM;
        for (int64_t i = 0; i < p->rows && !rc; i++)
            qtype_expand(p->type, values + i * p->cols, p->data, source_row(&from, i) * p->cols,
                         p->cols);
        if (!rc) w.type->from_f32(blocks, values, len);
    }
    if (!rc) rc = bnb_write(&s->m->host, &s->arena, &w, s->out + s->n, &n);
    s->n += n;
    mem_free(mem, values);
    mem_free(mem, blocks);
    return rc;
}

static int add_tensor(struct save *s, const struct site *site, const struct param *p,
                      const char *suffix)
{
    struct model *m = s->m;
    const char *name = p->name;
    int turn = p->turned && !s->gguf, norm = m->arch->style.norm_plus && site->kind == SITE_NORM;
    if (s->gguf && p == site->b && m->arch->style.gguf_bare) name = NULL;
    else if (s->gguf) name = gguf_name(s, site, suffix);
    else name = model_file_name(m, name);
    if (!name)
        return fail(PEFT_EUNSUPPORTED,
                    "GGUF has no place for %s: save a folder, or merge without a head", p->name);
    if (wish_bnb(s->wish, site) && p == site->w) return add_bnb(s, p, name);
    struct source *from = arena_alloc(&s->arena, sizeof(*from));
    if (!from) return PEFT_ENOMEM;
    *from = (struct source){ .save = s, .m = m, .p = p, .row = s->row, .packed = s->packed };
    if (s->gguf) from->order = slot_order(m->arch, site->row);
    if (s->gguf && site->slot == SLOT_POS) from->skip = m->hp.pos_offset;
    if (norm) from->plus = (float)(s->gguf - p->plus);
    if (turn) {
        if (!(from->turned = arena_alloc(&s->arena, param_len(p) * 4))) return PEFT_ENOMEM;
        param_read(m, p, from->turned);
    }
    const struct qtype *type = s->gguf && always_floats(site) ? &qtype_f32 : target_type(s, p);
    if (s->gguf && site->expert > 0) return stack_expert(s, name, from);
    if (!type->from_f32 && type != p->type)
        return fail(PEFT_EUNSUPPORTED, "type %s cannot be written", type->name);
    s->out[s->n++] = (struct store_out){ .name = name, .type = type, .n_dims = p->n_dims,
        .dims = { p->n_dims == 1 || turn ? p->cols : p->rows - from->skip,
                  turn ? p->rows : p->cols },
        .put = put_rows, .arg = from };
    if (p->file_n_dims) {
        s->out[s->n - 1].n_dims = p->file_n_dims;
        memcpy(s->out[s->n - 1].dims, p->file_dims, sizeof(p->file_dims));
    }
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
    int64_t each = s->wish && s->wish->bnb ? BNB_TENSORS : 1;
    s->out = arena_alloc(&s->arena, (m->n_params * each + 2) * (int64_t)sizeof(*s->out));
    s->row = arena_alloc(&s->arena, widest * 4);
    s->packed = arena_alloc(&s->arena, widest * 8);
    if (!s->out || !s->row || !s->packed) return PEFT_ENOMEM;
    for (int64_t i = 0; i < m->n_sites && !rc; i++) {
        const struct site *site = m->sites[i];
        if ((site->flags & SLOT_NOT_A_WEIGHT) && !s->gguf) continue;
        /* A classifier takes the language-model head's place in a folder. */
        if (!s->gguf && !slot_with(site->row, m->kind)) continue;
        if (site->slot == SLOT_LM_HEAD && m->head && !s->gguf) continue;
        /* What a bare encoder's vectors do not need, llama.cpp leaves out too. */
        if (site->slot == SLOT_POOLER && !m->head && s->gguf) continue;
        rc = add_tensor(s, site, site->w, site->kind == SITE_BIAS ? ".bias" : ".weight");
        if (!rc && site->b) rc = add_tensor(s, site, site->b, ".bias");
    }
    for (int64_t i = 0; i < s->n && !rc; i++) {
        const struct store_out *o = &s->out[i];
        int64_t count = 1, bytes = 0;
        for (int32_t k = 0; k < o->n_dims; k++) count *= o->dims[k];
        if (o->put && qtype_bytes(o->type, count, &bytes)) s->total += bytes;
    }
    return rc;
}

static int save_folder(struct save *s, const char *path, int64_t shard_bytes)
{
    struct host *h = &s->m->host;
    char *tmp;
    int rc = dir_begin(h, path, &tmp);
    if (rc) return rc;
    rc = save_config(s, tmp);
    if (!rc)
        rc = safetensors_write_dir(h, tmp, s->out, s->n,
                                   shard_bytes ? shard_bytes : INT64_C(5000000000));
    if (!rc) rc = gen_save(s->m, tmp);
    if (!rc && s->m->tok) rc = tok_save_folder(h, s->m->tok, tmp);
    if (!rc && s->m->vision) rc = vision_save(s->m, tmp);
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

/* Settings below the family's name. */
static void sink_number(void *ctx, const char *key, double x)
{
    struct kv_list *l = ctx;
    char name[96];
    snprintf(name, sizeof(name), "%s.%s", l->s->m->arch->gguf, key);
    add_kv_number(l, name, strstr(key, "length") ? GGUF_U32 : GGUF_F32, x);
}

static void sink_string(void *ctx, const char *key, const char *value)
{
    struct kv_list *l = ctx;
    char name[96];
    snprintf(name, sizeof(name), "%s.%s", l->s->m->arch->gguf, key);
    add_kv_string(l, name, value);
}

static void copy_kv(struct kv_list *l)
{
    for (int64_t i = 0; i < gguf_kv_count(l->s->m->store) && l->n < l->cap; i++) {
        struct gguf_kv *kv = &l->kv[l->n];
        gguf_kv_at(l->s->m->store, i, &kv->key, &kv->type, &kv->raw, &kv->n);
        l->n += strncmp(kv->key, "split.", 6) != 0;      /* it is one file now */
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
    if (!m->arch->style.causal) {
        snprintf(key, sizeof(key), "%s.attention.causal", arch);
        add_kv_number(l, key, GGUF_BOOL, 0);
    }
    snprintf(key, sizeof(key), "%s.vocab_size", arch);
    add_kv_number(l, key, GGUF_U32, (double)hp->vocab);
    scaling_put_gguf(m, &(struct scaling_sink){ sink_number, sink_string, l });
    struct gguf_kv *more = NULL;
    int64_t n = 0;
    if (!m->tok || l->rc) return;
    l->rc = tok_gguf_kv_rows(&l->s->m->host, m->tok, hp->vocab, &l->s->arena, &more, &n);
    for (int64_t i = 0; i < n && !l->rc && l->n < l->cap; i++) l->kv[l->n++] = more[i];
}

/* Rope scaling goes into a GGUF file as divisors of the frequencies, in part. */
static int add_divisors(struct save *s)
{
    const char *name;
    const float *values;
    int rc = 0;
    for (int i = 0; i < 2 && rc >= 0 && store_format(s->m->store) != STORE_GGUF; i++)
        if ((rc = scaling_tensor(s->m, &s->arena, i, &name, &values)) > 0)
            s->out[s->n++] = (struct store_out){ .name = name, .type = &qtype_f32, .n_dims = 1,
                                                 .dims = { s->m->hp.rot / 2 }, .data = values };
    return MIN(rc, PEFT_OK);
}

/* Whether GGUF has a name for a setting of the family. */
static int has_gguf(const struct model *m, size_t at)
{
    for (const struct key *k = m->arch->keys; k->at != UINT16_MAX; k++)
        if (k->at == at && k->gguf) return 1;
    return 0;
}

/* NULL, or what of the model GGUF cannot say. */
static const char *beyond_gguf(const struct model *m)
{
    const struct hparams *hp = &m->hp;
    int64_t scalar = hp->attn_scalar ? hp->attn_scalar : hp->head_dim;
    if (m->irregular) return "irregular layers";
    if (hp->alibi) return "ALiBi";
    if (hp->experts && !hp->experts_norm) return "shares of experts that are not scaled";
    if (m->arch->style.scalar && scalar != gguf_scalar(hp)) return "query_pre_attn_scalar";
    if (hp->window && !has_gguf(m, offsetof(struct hparams, window))) return "sliding window";
    if ((hp->attn_cap > 0 && !has_gguf(m, offsetof(struct hparams, attn_cap))) ||
        (hp->logit_cap > 0 && !has_gguf(m, offsetof(struct hparams, logit_cap))))
        return "soft caps";
    return scaling_beyond_gguf(m);
}

static int save_gguf(struct save *s, const char *path)
{
    struct kv_list l = { .cap = 256 + gguf_kv_count(s->m->store), .s = s };
    if (s->m->head || s->m->kind == HEAD_MASKED)
        return fail(PEFT_EUNSUPPORTED, "GGUF has no place for a classification head or one of the "
                    "kind \"%s\": save a folder", head_kinds[s->m->kind].name);
    const char *beyond = beyond_gguf(s->m);
    if (beyond || !s->m->arch->gguf)
        return fail(PEFT_EUNSUPPORTED, "GGUF has no words for this model (family %s%s%s): save a "
                    "folder", s->m->arch->name, beyond ? ", " : "", beyond ? beyond : "");
    if (s->m->hp.act != model_act(s->m))
        return fail(PEFT_EUNSUPPORTED,
                    "GGUF has no place for this model's activation: save a folder");
    l.kv = arena_alloc(&s->arena, l.cap * (int64_t)sizeof(*l.kv));
    if (!l.kv) return PEFT_ENOMEM;
    if (store_format(s->m->store) == STORE_GGUF) copy_kv(&l);
    else make_kv(&l);
    if (!l.rc) l.rc = add_divisors(s);
    return l.rc ? l.rc : gguf_write(&s->m->host, path, l.kv, l.n, s->out, s->n);
}

int model_save(const struct model *cm, const char *path, const peft_save_opts *o)
{
    struct model *m = (struct model *)(uintptr_t)cm;
    size_t n = strlen(path);
    struct save s = { .m = m, .opts = o, .gguf = n > 5 && !strcmp(path + n - 5, ".gguf") };
    int rc = PEFT_OK;
    if (m->output && m->output->w == m->untied)
        return fail(PEFT_ESTATE, "an adapter parts the embedding from the output layer, which are "
                    "one tensor in this model: disable it before the model is saved");
    if (o->dtype) rc = wish_find(o->dtype, s.gguf ? IN_GGUF : IN_FOLDER, "type", &s.wish);
    if (rc) return rc;
    if (s.wish && s.wish->type) s.dtype = qtype_by_name(s.wish->type);
    if (o->shard_bytes < 0)
        return fail(PEFT_EARG, "shards of %lld bytes", (long long)o->shard_bytes);
    arena_init(&s.arena, &m->host.mem);
    rc = collect(&s);
    if (!rc) rc = s.gguf ? save_gguf(&s, path) : save_folder(&s, path, o->shard_bytes);
    arena_free(&s.arena);
    return rc;
}
