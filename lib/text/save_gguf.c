/* GGUF metadata of a tokenizer, the keys tokenizer.*: copied when it came from
 * a GGUF file, else made from its parts.  The keys are those that load_gguf.c
 * reads; its head says what they hold. */
#include "text/tok.h"

enum { KV_MAX = 24 };
#define OUT_KEY(name) "tokenizer.ggml." name

struct tok_kv_list {
    struct arena *arena;
    struct gguf_kv *kv;
    int64_t n;
    struct buf raw;             /* the value being written */
    int rc;
};

/* Takes what `raw` holds as the value of a key. */
static void kv_take(struct tok_kv_list *l, const char *key, int type)
{
    void *raw = l->rc == PEFT_OK ? arena_alloc(l->arena, l->raw.n) : NULL;
    if (l->rc == PEFT_OK && (l->raw.oom || !raw)) l->rc = PEFT_ENOMEM;
    if (l->rc == PEFT_OK) {
        memcpy(raw, l->raw.data, (size_t)l->raw.n);
        l->kv[l->n++] = (struct gguf_kv){key, type, raw, l->raw.n};
    }
    buf_clear(&l->raw);
}

static void kv_string(struct tok_kv_list *l, const char *key, const char *s)
{
    gguf_raw_string(&l->raw, s, (int64_t)strlen(s));
    kv_take(l, key, GGUF_STRING);
}

static void kv_flag(struct tok_kv_list *l, const char *key, bool value)
{
    gguf_raw_bool(&l->raw, value);
    kv_take(l, key, GGUF_BOOL);
}

static void kv_id(struct tok_kv_list *l, const char *key, int32_t id)
{
    if (id < 0) return;
    gguf_raw_u32(&l->raw, (uint32_t)id);
    kv_take(l, key, GGUF_U32);
}

static int copy_from_store(const struct store *s, struct arena *a, struct gguf_kv **kv, int64_t *n)
{
    int64_t count = gguf_kv_count(s);
    *kv = arena_alloc(a, MAX(count, 1) * (int64_t)sizeof **kv);
    if (!*kv) return PEFT_ENOMEM;
    for (int64_t i = 0; i < count; i++) {
        struct gguf_kv x;
        gguf_kv_at(s, i, &x.key, &x.type, &x.raw, &x.n);
        if (!strncmp(x.key, "tokenizer.", 10)) (*kv)[(*n)++] = x;
    }
    return PEFT_OK;
}

/* --- per token */

static int32_t out_type(const struct tokenizer *t, int64_t i, const float *score)
{
    const struct token *k = &t->tokens[i];
    if (!k->s) return TYPE_UNUSED;
    bool byte = k->n == 6 && !memcmp(k->s, "<0x", 3) && k->s[5] == '>';
    if (t->model == MODEL_UNIGRAM && i == t->uni.unk) return TYPE_UNKNOWN;
    if (t->model == MODEL_UNIGRAM && t->uni.byte_fallback && byte) return TYPE_BYTE;
    if (i == t->info.unk && t->model != MODEL_BPE) return TYPE_UNKNOWN;
    if (k->flags & TOKEN_SPECIAL) return score && i == t->bpe.unk ? TYPE_UNKNOWN : TYPE_CONTROL;
    if (k->flags & TOKEN_ADDED) return TYPE_USER;
    if (!score) return TYPE_NORMAL;
    if (byte) return TYPE_BYTE;
    /* No merge makes it, so a reader that joins by text must not either. */
    int32_t cp;
    return score[i] < 0 || uni_next(k->s, &cp) == k->n ? TYPE_NORMAL : TYPE_UNUSED;
}

/* BERT in GGUF: words begin with U+2581, inner pieces lose their "##". */
static void put_bert_token(struct buf *b, const struct token *k)
{
    char text[8] = SPM_SPACE;
    if (k->n >= 2 && k->s[0] == '[' && k->s[k->n - 1] == ']') {
        gguf_raw_string(b, k->s, k->n);
    } else if (k->n > 2 && !memcmp(k->s, "##", 2)) {
        gguf_raw_string(b, k->s + 2, k->n - 2);
    } else {
        struct buf word;
        buf_init(&word, b->mem);
        buf_put(&word, text, 3);
        buf_put(&word, k->s, k->n);
        b->oom |= word.oom;
        if (!word.oom) gguf_raw_string(b, word.data, word.n);
        buf_free(&word);
    }
}

static void kv_tokens(struct tok_kv_list *l, const struct tokenizer *t, int64_t rows)
{
    gguf_raw_array(&l->raw, GGUF_STRING, rows);
    for (int64_t i = 0; i < rows; i++) {
        const struct token *k = i < t->n ? &t->tokens[i] : NULL;
        if (k && k->s && t->model == MODEL_WORDPIECE) put_bert_token(&l->raw, k);
        else if (k && k->s) gguf_raw_string(&l->raw, k->s, k->n);
        else {
            /* Rows of the embedding without a token. */
            struct buf name;
            buf_init(&name, l->raw.mem);
            buf_printf(&name, "[PAD%lld]", (long long)i);
            gguf_raw_string(&l->raw, buf_str(&name), name.n);
            l->raw.oom |= name.oom;
            buf_free(&name);
        }
    }
    kv_take(l, OUT_KEY("tokens"), GGUF_ARRAY);
}

static void kv_types(struct tok_kv_list *l, const struct tokenizer *t, int64_t rows,
                     const float *score)
{
    gguf_raw_array(&l->raw, GGUF_I32, rows);
    for (int64_t i = 0; i < rows; i++)
        gguf_raw_u32(&l->raw, (uint32_t)(i < t->n ? out_type(t, i, score) : TYPE_UNUSED));
    kv_take(l, OUT_KEY("token_type"), GGUF_ARRAY);
}

/* --- models */

static void kv_byte_level(struct tok_kv_list *l, const struct tokenizer *t, int64_t rows)
{
    const char *pre = split_pre_name(t);
    if (!pre) {
        l->rc = fail(PEFT_EUNSUPPORTED, "GGUF has no name for this tokenizer's pre-tokenizer");
        return;
    }
    kv_string(l, OUT_KEY("model"), "gpt2");
    kv_string(l, OUT_KEY("pre"), pre);
    kv_tokens(l, t, rows);
    kv_types(l, t, rows, NULL);
    gguf_raw_array(&l->raw, GGUF_STRING, t->bpe.n_pairs);
    for (int64_t i = 0; i < t->bpe.n_pairs; i++) {
        const struct token *a = &t->tokens[t->bpe.pairs[2 * i]];
        const struct token *b = &t->tokens[t->bpe.pairs[2 * i + 1]];
        struct buf merge;
        buf_init(&merge, l->raw.mem);
        buf_put(&merge, a->s, a->n);
        buf_putc(&merge, ' ');
        buf_put(&merge, b->s, b->n);
        gguf_raw_string(&l->raw, buf_str(&merge), merge.n);
        l->raw.oom |= merge.oom;
        buf_free(&merge);
    }
    kv_take(l, OUT_KEY("merges"), GGUF_ARRAY);
}

/* The score of a token is minus its place among the tokens that merges make,
 * in the order of the merges; 0 = no merge makes it. */
static void merge_scores(const struct tokenizer *t, float *score)
{
    int64_t place = 0;
    for (int64_t i = 0; i < t->bpe.n_pairs; i++) {
        int32_t id = bpe_merged(t, t->bpe.pairs[2 * i], t->bpe.pairs[2 * i + 1]);
        if (id >= 0 && score[id] == 0) score[id] = (float)-++place;
    }
}

static void kv_spm(struct tok_kv_list *l, const struct tokenizer *t, int64_t rows)
{
    bool spaces = false, prefix = false;
    for (int i = 0; i < t->n_norm; i++) {
        const struct norm_step *p = &t->norm[i];
        spaces |= p->kind == NORM_REPLACE && p->n_from == 1 && p->from[0] == ' ' &&
                  p->n_to == 3 && !memcmp(p->to, SPM_SPACE, 3);
        prefix |= p->kind == NORM_PREPEND;
    }
    for (int i = 0; i < t->n_split; i++) {
        const struct split_step *p = &t->split[i];
        spaces |= p->kind == SPLIT_METASPACE && p->n_text == 3 && !memcmp(p->text, SPM_SPACE, 3);
        prefix |= p->kind == SPLIT_METASPACE && p->prepend != PREPEND_NEVER;
    }
    float *score = spaces ? arena_alloc(l->arena, t->n * (int64_t)sizeof *score) : NULL;
    if (!score) {
        l->rc = spaces ? PEFT_ENOMEM : fail(PEFT_EUNSUPPORTED, "GGUF cannot hold this kind of BPE");
        return;
    }
    merge_scores(t, score);
    kv_string(l, OUT_KEY("model"), "llama");
    kv_string(l, OUT_KEY("pre"), "default");
    kv_tokens(l, t, rows);
    kv_types(l, t, rows, score);
    gguf_raw_array(&l->raw, GGUF_F32, rows);
    for (int64_t i = 0; i < rows; i++)
        gguf_raw_f32(&l->raw, i >= t->n ? -1e6f : score[i] < 0 ? score[i] : (float)-(t->n + i));
    kv_take(l, OUT_KEY("scores"), GGUF_ARRAY);
    kv_flag(l, OUT_KEY("add_space_prefix"), prefix);
}

/* The normalizers before SentencePiece's handling of spaces: none or a map;
 * then whether that handling is T5's (words) or plain.  False = another. */
static bool unigram_parts(const struct tokenizer *t, const struct charsmap **map, bool *squeeze,
                          bool *prefix)
{
    int norm = 0, cut = t->n_split - 2, at = 0;
    *map = t->n_norm && t->norm[0].kind == NORM_CHARSMAP ? &t->norm[norm++].charsmap : NULL;
    if (t->n_split == 0) {
        *squeeze = false;
        *prefix = norm < t->n_norm && t->norm[norm].kind == NORM_PREPEND;
        norm += *prefix;
        return norm + 1 == t->n_norm && t->norm[norm].kind == NORM_REPLACE;
    }
    if (cut < 0 || t->split[cut].kind != SPLIT_METASPACE || t->split[cut].n_text != 3) return false;
    if (t->split[cut].prepend == PREPEND_FIRST || t->split[cut + 1].find != find_literal)
        return false;
    *squeeze = true;
    *prefix = t->split[cut].prepend == PREPEND_ALWAYS;
    at = cut > 0 && t->split[0].find == find_space && t->split[0].how == HOW_REMOVED;
    if (at) return cut == 1 && norm == t->n_norm;
    /* Spaces at the end go, and several become one U+2581. */
    return cut == 0 && t->n_norm == norm + 2 && t->norm[norm].kind == NORM_STRIP &&
           !t->norm[norm].left && t->norm[norm + 1].kind == NORM_REPLACE &&
           t->norm[norm + 1].expr.find == split_regex(" {2,}");
}

static void kv_unigram(struct tok_kv_list *l, const struct tokenizer *t, int64_t rows)
{
    const struct charsmap *map;
    bool squeeze, prefix;
    if (!unigram_parts(t, &map, &squeeze, &prefix)) {
        l->rc = fail(PEFT_EUNSUPPORTED, "GGUF cannot hold the normalizers of this Unigram model");
        return;
    }
    kv_string(l, OUT_KEY("model"), "t5");
    kv_string(l, OUT_KEY("pre"), "default");
    kv_tokens(l, t, rows);
    kv_types(l, t, rows, NULL);
    gguf_raw_array(&l->raw, GGUF_F32, rows);
    for (int64_t i = 0; i < rows; i++)
        gguf_raw_f32(&l->raw, i < t->n && t->tokens[i].flags & TOKEN_MODEL ? (float)t->uni.score[i]
                                                                          : -1e4f);
    kv_take(l, OUT_KEY("scores"), GGUF_ARRAY);
    if (map) {
        gguf_raw_array(&l->raw, GGUF_U8, map->n_raw);
        buf_put(&l->raw, map->raw, map->n_raw);
        kv_take(l, OUT_KEY("precompiled_charsmap"), GGUF_ARRAY);
    }
    kv_flag(l, OUT_KEY("add_space_prefix"), prefix);
    kv_flag(l, OUT_KEY("remove_extra_whitespaces"), squeeze);
}

static void kv_bert(struct tok_kv_list *l, const struct tokenizer *t, int64_t rows)
{
    bool lower = t->n_norm == 1 && t->norm[0].kind == NORM_BERT && t->norm[0].lower &&
                 t->norm[0].accents;
    if (!lower) {
        l->rc = fail(PEFT_EUNSUPPORTED, "GGUF holds only WordPiece in lower case");
        return;
    }
    kv_string(l, OUT_KEY("model"), "bert");
    kv_string(l, OUT_KEY("pre"), "default");
    kv_tokens(l, t, rows);
    kv_types(l, t, rows, NULL);
}

static void kv_settings(struct tok_kv_list *l, const struct tokenizer *t)
{
    const struct tok_info *i = &t->info;
    bool bert = t->model == MODEL_WORDPIECE;
    kv_id(l, OUT_KEY("bos_token_id"), bert ? i->cls : i->bos);
    kv_id(l, OUT_KEY("eos_token_id"), bert ? i->sep : i->eos);
    kv_id(l, OUT_KEY("unknown_token_id"), i->unk);
    kv_id(l, OUT_KEY("padding_token_id"), i->pad);
    kv_id(l, OUT_KEY("seperator_token_id"), i->sep);
    kv_id(l, OUT_KEY("cls_token_id"), i->cls);
    kv_id(l, OUT_KEY("mask_token_id"), i->mask);
    kv_flag(l, OUT_KEY("add_bos_token"), i->adds_bos);
    kv_flag(l, OUT_KEY("add_eos_token"), i->adds_eos);
    if (i->chat_template) kv_string(l, "tokenizer.chat_template", i->chat_template);
}

int tok_gguf_kv_rows(struct host *h, const struct tokenizer *t, int64_t rows, struct arena *a,
                     struct gguf_kv **kv, int64_t *n)
{
    *kv = NULL;
    *n = 0;
    if (t->store) return copy_from_store(t->store, a, kv, n);
    struct tok_kv_list l = {.arena = a, .kv = arena_alloc(a, KV_MAX * (int64_t)sizeof *l.kv)};
    if (!l.kv) return PEFT_ENOMEM;
    buf_init(&l.raw, &h->mem);
    rows = MAX(rows, t->n);
    if (t->model == MODEL_WORDPIECE) kv_bert(&l, t, rows);
    else if (t->model == MODEL_UNIGRAM) kv_unigram(&l, t, rows);
    else if (t->model == MODEL_WORDLEVEL) l.rc = fail(PEFT_EUNSUPPORTED, "GGUF knows no WordLevel");
    else if (t->n_split > 0 && t->split[t->n_split - 1].kind == SPLIT_BYTES)
        kv_byte_level(&l, t, rows);
    else kv_spm(&l, t, rows);
    kv_settings(&l, t);
    buf_free(&l.raw);
    *kv = l.kv;
    *n = l.n;
    return l.rc;
}

int tok_gguf_kv(struct host *h, const struct tokenizer *t, struct arena *a, struct gguf_kv **kv,
                int64_t *n)
{
    return tok_gguf_kv_rows(h, t, 0, a, kv, n);
}
