/* A tokenizer from GGUF metadata: the keys tokenizer.ggml.*, turned into the
 * parts that tokenizer.json would name.  Token texts stay in the file.
 *
 *   model   gpt2: byte-level BPE with merges, split as `pre` says
 *           llama: SentencePiece BPE with scores; bert: WordPiece, where a
 *           word's first token begins with U+2581 and the inner ones are bare
 *   t5      Unigram with scores; precompiled_charsmap, and whether spaces that
 *           are too many go (remove_extra_whitespaces)
 *   token_type  1 normal, 2 unknown, 3 control, 4 user defined, 5 unused,
 *           6 byte */
#include "text/tok.h"

#include <math.h>

struct gguf_tokens {
    struct gguf_array text, type, score, merges;
    bool has_type, has_score, has_merges;
};

#define KEY(name) "tokenizer.ggml." name

static int gguf_arrays(const struct store *s, struct gguf_tokens *g)
{
    int rc = store_array(s, KEY("tokens"), GGUF_STRING, &g->text);
    if (rc <= 0) return rc < 0 ? rc : fail(PEFT_EFORMAT, "no key " KEY("tokens"));
    if ((rc = store_array(s, KEY("token_type"), -1, &g->type)) < 0) return rc;
    g->has_type = rc > 0;
    if (rc > 0 && g->type.type != GGUF_I32 && g->type.type != GGUF_U32)
        return fail(PEFT_EFORMAT, KEY("token_type") " is not an array of 32-bit integers");
    if ((rc = store_array(s, KEY("scores"), GGUF_F32, &g->score)) < 0) return rc;
    g->has_score = rc > 0;
    if ((rc = store_array(s, KEY("merges"), GGUF_STRING, &g->merges)) < 0) return rc;
    g->has_merges = rc > 0;
    if (g->text.n < 1 || g->text.n > INT32_MAX / 4)
        return fail(PEFT_EFORMAT, KEY("tokens") " has %lld elements", (long long)g->text.n);
    if ((g->has_type && g->type.n != g->text.n) || (g->has_score && g->score.n != g->text.n))
        return fail(PEFT_EFORMAT, KEY("tokens") " has %lld elements, its types %lld, its scores "
                    "%lld", (long long)g->text.n, (long long)g->type.n, (long long)g->score.n);
    return PEFT_OK;
}

static int64_t type_of(const struct gguf_tokens *g, int64_t i)
{
    return g->has_type ? store_array_int(&g->type, i) : TYPE_NORMAL;
}

static int gguf_string(struct tokenizer *t, const char *key, const char **out)
{
    int64_t n = 0;
    *out = NULL;
    int rc = store_string(t->store, key, out, &n);
    if (rc <= 0) return rc;
    if (memchr(*out, 0, (size_t)n) || utf8_check(*out, n) < n)
        return fail(PEFT_EFORMAT, "%s is not UTF-8 text", key);
    *out = arena_strndup(&t->arena, *out, n);
    return *out ? 1 : PEFT_ENOMEM;
}

static int gguf_flag(const struct store *s, const char *key, int absent, int *out)
{
    int rc = store_bool(s, key, out);
    if (rc == 0) *out = absent;
    return rc;
}

/* --- vocabulary */

static int gguf_vocab(struct tokenizer *t, const struct gguf_tokens *g)
{
    int64_t n;
    const char *s;
    int rc = PEFT_OK;
    for (int64_t i = 0; i < g->text.n && rc == PEFT_OK; i++) {
        store_array_string(&g->text, i, &s, &n);
        rc = tok_set_token(t, i, s, n, g->text.n);
    }
    return rc;
}

static bool phantom(const char *s, int64_t n)
{
    return n >= 3 && !memcmp(s, SPM_SPACE, 3);
}

/* BERT's vocabulary gets its "##" back; names in brackets stay. */
static int gguf_vocab_bert(struct tokenizer *t, const struct gguf_tokens *g)
{
    int64_t n, marked = 0;
    const char *s;
    int rc = PEFT_OK;
    for (int64_t i = 0; i < g->text.n; i++) {
        store_array_string(&g->text, i, &s, &n);
        marked += phantom(s, n);
    }
    for (int64_t i = 0; i < g->text.n && rc == PEFT_OK; i++) {
        store_array_string(&g->text, i, &s, &n);
        if (phantom(s, n)) {
            s += 3, n -= 3;
        } else if (marked > 0 && !(n >= 2 && s[0] == '[' && s[n - 1] == ']')) {
            char *inner = arena_alloc(&t->arena, n + 3);
            if (!inner) return PEFT_ENOMEM;
            memcpy(inner, "##", 2);
            memcpy(inner + 2, s, (size_t)n);
            s = inner, n += 2;
        }
        rc = tok_set_token(t, i, s, n, g->text.n);
    }
    return rc;
}

static int gguf_added(struct tokenizer *t, const struct gguf_tokens *g)
{
    for (int64_t i = 0; i < g->text.n; i++) {
        int64_t type = type_of(g, i);
        if (type != TYPE_CONTROL && type != TYPE_UNKNOWN && type != TYPE_USER) continue;
        struct added a = {.s = t->tokens[i].s, .n = t->tokens[i].n, .id = (int32_t)i,
                          .special = type != TYPE_USER};
        if (!(t->tokens[i].flags & TOKEN_MODEL)) continue;
        int rc = tok_add(t, &a, g->text.n);
        if (rc < 0) return rc;
    }
    return PEFT_OK;
}

/* --- models */

static int gguf_merges(struct tokenizer *t, const struct gguf_tokens *g)
{
    int64_t n;
    const char *s;
    if (!g->has_merges) return fail(PEFT_EFORMAT, "no key " KEY("merges"));
    int rc = bpe_reserve(t, g->merges.n);
    for (int64_t i = 0; i < g->merges.n && rc == PEFT_OK; i++) {
        store_array_string(&g->merges, i, &s, &n);
        /* A token may begin with a space itself. */
        const char *space = n > 1 ? memchr(s + 1, ' ', (size_t)(n - 1)) : NULL;
        if (!space)
            return fail(PEFT_EFORMAT, "merge \"%.*s\" is not two tokens and a space",
                        (int)MIN(n, 60), s);
        rc = bpe_add_merge(t, s, space - s, space + 1, n - (space + 1 - s));
    }
    return rc;
}

static int gguf_gpt2(struct tokenizer *t, const struct gguf_tokens *g)
{
    const char *name, *arch;
    int rc = gguf_string(t, KEY("pre"), &name);
    if (rc >= 0) rc = gguf_string(t, "general.architecture", &arch);
    if (rc < 0) return rc;
    /* Files from before this key are split unlike any model was trained,
     * unless it is the first one of this kind. */
    if ((!name || !strcmp(name, "default")) && arch && !strcmp(arch, "gpt2")) name = "gpt-2";
    const struct split_pre *pre = name ? split_pre_find(name) : NULL;
    if (!pre)
        return fail(PEFT_EUNSUPPORTED, KEY("pre") " is \"%.60s\", known are gpt-2, smollm, "
                    "llama-bpe, qwen2 and their kin", name ? name : "(absent)");
    if (pre->nfc && !norm_push(t, NORM_FORM)) return PEFT_EUNSUPPORTED;
    for (int i = 0; i < 2 && pre->regex[i] && rc >= 0; i++)
        rc = split_push_find(t, split_regex(pre->regex[i]), HOW_ISOLATED);
    if (rc < 0) return rc;
    if (!split_push(t, SPLIT_BYTES) || !decode_push(t, DECODE_BYTES)) return PEFT_EUNSUPPORTED;
    t->has_decoder = true;
    t->bpe.ignore_merges = pre->ignore_merges;
    if ((rc = gguf_vocab(t, g)) < 0) return rc;
    return gguf_merges(t, g);
}

static int gguf_llama(struct tokenizer *t, const struct gguf_tokens *g)
{
    int prefix;
    t->bpe.byte_fallback = true;
    t->bpe.fuse_unk = true;
    int rc = gguf_flag(t->store, KEY("add_space_prefix"), 1, &prefix);
    if (rc < 0) return rc;
    if (!g->has_score) return fail(PEFT_EFORMAT, "no key " KEY("scores"));
    t->add_prefix = prefix;
    if ((rc = norm_push_spm(t, prefix)) < 0) return rc;
    if ((rc = decode_push_spm(t, prefix)) < 0) return rc;
    if ((rc = gguf_vocab(t, g)) < 0) return rc;
    float *score = mem_array(&t->host->mem, t->n, sizeof *score);
    if (!score) return PEFT_ENOMEM;
    for (int64_t i = 0; i < t->n; i++) {
        /* User defined tokens are found whole, and only then. */
        bool joins = type_of(g, i) == TYPE_NORMAL && (t->tokens[i].flags & TOKEN_MODEL);
        score[i] = joins ? store_array_f32(&g->score, i) : NAN;
    }
    rc = bpe_set_scores(t, score);
    mem_free(&t->host->mem, score);
    return rc;
}

static int gguf_bert(struct tokenizer *t, const struct gguf_tokens *g)
{
    int rc = gguf_vocab_bert(t, g);
    return rc < 0 ? rc : wordpiece_defaults(t, true, "[UNK]");
}

static int gguf_charsmap(struct tokenizer *t)
{
    struct gguf_array map = {0};
    int rc = store_array(t->store, KEY("precompiled_charsmap"), -1, &map);
    if (rc <= 0 || map.n == 0) return rc < 0 ? rc : PEFT_OK;
    if (map.type != GGUF_U8 && map.type != GGUF_I8)
        return fail(PEFT_EFORMAT, KEY("precompiled_charsmap") " is not an array of bytes");
    struct norm_step *p = norm_push(t, NORM_CHARSMAP);
    return p ? charsmap_open(&p->charsmap, map.data, map.n) : PEFT_EUNSUPPORTED;
}

/* Scores of normal pieces; the others' may be anything, and must not make an
 * unknown character dearer than it was in training. */
static int gguf_scores(struct tokenizer *t, const struct gguf_tokens *g)
{
    double lowest = 0;
    double *score = t->uni.score = mem_array(&t->host->mem, t->n, sizeof *score);
    if (!score) return PEFT_ENOMEM;
    for (int64_t i = 0; i < t->n; i++) {
        score[i] = store_array_f32(&g->score, i);
        if (type_of(g, i) == TYPE_NORMAL && score[i] < lowest) lowest = score[i];
    }
    for (int64_t i = 0; i < t->n; i++) {
        const struct token *k = &t->tokens[i];
        bool filler = type_of(g, i) == TYPE_UNUSED && k->n > 4 && !memcmp(k->s, "[PAD", 4);
        if (type_of(g, i) != TYPE_NORMAL && !(score[i] >= lowest)) score[i] = lowest;
        if (filler) score[i] = -INFINITY;
    }
    return PEFT_OK;
}

static int gguf_t5(struct tokenizer *t, const struct gguf_tokens *g)
{
    int prefix, squeeze;
    int64_t unk = -1;
    if (!g->has_score) return fail(PEFT_EFORMAT, "no key " KEY("scores"));
    int rc = gguf_flag(t->store, KEY("add_space_prefix"), 1, &prefix);
    if (rc >= 0) rc = gguf_flag(t->store, KEY("remove_extra_whitespaces"), 0, &squeeze);
    if (rc >= 0) rc = store_int(t->store, KEY("unknown_token_id"), 0, g->text.n - 1, &unk);
    for (int64_t i = 0; i < g->text.n && unk < 0; i++)
        if (type_of(g, i) == TYPE_UNKNOWN) unk = i;
    if (rc >= 0) rc = gguf_charsmap(t);
    if (rc >= 0 && squeeze) rc = split_push_words(t, prefix);
    if (rc >= 0 && !squeeze) rc = norm_push_spm(t, prefix);
    if (rc >= 0 && !squeeze) rc = decode_push_spm(t, prefix);
    if (rc >= 0) rc = gguf_vocab(t, g);
    if (rc >= 0) rc = gguf_scores(t, g);
    if (rc < 0) return rc;
    t->uni.unk = (int32_t)unk;
    t->uni.byte_fallback = tok_model_id(t, "<0x41>", 6) >= 0;
    t->add_prefix = prefix;
    return unigram_build(t);
}

/* --- settings */

static int gguf_special_ids(struct tokenizer *t)
{
    struct tok_info *info = &t->info;
    const struct { const char *key; int32_t *id; } rows[] = {
        {KEY("bos_token_id"), &info->bos}, {KEY("eos_token_id"), &info->eos},
        {KEY("padding_token_id"), &info->pad}, {KEY("unknown_token_id"), &info->unk},
        {KEY("cls_token_id"), &info->cls}, {KEY("seperator_token_id"), &info->sep},
        {KEY("mask_token_id"), &info->mask}, {KEY("eot_token_id"), NULL},
        {KEY("eom_token_id"), NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t id;
        int rc = store_int(t->store, rows[i].key, 0, t->n - 1, &id);
        if (rc < 0) return rc;
        if (rc == 0) continue;
        if (rows[i].id) *rows[i].id = (int32_t)id;
        else t->eot[t->n_eot++] = (int32_t)id;
    }
    if (t->model == MODEL_SCORES) t->bpe.unk = info->unk;
    if (t->model != MODEL_WORDPIECE) return PEFT_OK;
    if (info->cls < 0) info->cls = info->bos >= 0 ? info->bos : tok_lookup(t, "[CLS]");
    if (info->sep < 0) info->sep = info->eos >= 0 ? info->eos : tok_lookup(t, "[SEP]");
    if (info->unk < 0) info->unk = t->wp.unk;
    info->bos = info->eos = -1;
    return PEFT_OK;
}

/* <s> A </s>, and the pair <s> A </s> </s> B </s>. */
static int post_xlm(struct tokenizer *t)
{
    const struct tok_info *i = &t->info;
    t->single = (struct post){{{POST_TOKEN, i->bos, 0}, {POST_A, 0, 0}, {POST_TOKEN, i->eos, 0}},
                              3};
    t->pair = t->single;
    post_push(&t->pair, POST_TOKEN, i->sep, 0);
    post_push(&t->pair, POST_B, 0, 0);
    return post_push(&t->pair, POST_TOKEN, i->eos, 0);
}

static int gguf_post(struct tokenizer *t)
{
    struct tok_info *info = &t->info;
    if (t->model == MODEL_WORDPIECE)
        return info->cls >= 0 && info->sep >= 0 ? post_bert(t, info->cls, info->sep) : PEFT_OK;
    int bos, eos;
    /* Readers of GGUF put BOS before SentencePiece and Llama 3 text when the
     * file does not say. */
    bool llama = t->model == MODEL_SCORES || t->bpe.ignore_merges;
    int rc = gguf_flag(t->store, KEY("add_bos_token"), llama, &bos);
    if (rc >= 0) rc = gguf_flag(t->store, KEY("add_eos_token"), 0, &eos);
    if (rc < 0) return rc;
    if (t->model == MODEL_UNIGRAM && bos && eos && info->sep >= 0) return post_xlm(t);
    return bos || eos ? post_simple(t, bos ? info->bos : -1, eos ? info->eos : -1) : PEFT_OK;
}

static int read_gguf(struct tokenizer *t, const char *model)
{
    static int (*const readers[])(struct tokenizer *t, const struct gguf_tokens *g) = {
        [MODEL_BPE] = gguf_gpt2, [MODEL_SCORES] = gguf_llama, [MODEL_WORDPIECE] = gguf_bert,
        [MODEL_UNIGRAM] = gguf_t5,
    };
    struct gguf_tokens g = {0};
    int kind = 0;
    while (tok_models[kind].kind &&
           (!tok_models[kind].gguf || strcmp(model, tok_models[kind].gguf)))
        kind++;
    if (!tok_models[kind].kind)
        return fail(PEFT_EUNSUPPORTED, KEY("model") " is \"%.60s\", expected gpt2, llama, t5 or "
                    "bert", model);
    t->model = (enum model_kind)kind;
    int rc = gguf_arrays(t->store, &g);
    if (rc == PEFT_OK) rc = readers[kind](t, &g);
    if (rc == PEFT_OK) rc = gguf_added(t, &g);
    if (rc == PEFT_OK) rc = gguf_special_ids(t);
    if (rc == PEFT_OK) rc = gguf_post(t);
    if (rc == PEFT_OK) rc = gguf_string(t, "tokenizer.chat_template", &t->info.chat_template);
    return rc < 0 ? rc : tok_finish(t);
}

static int open_gguf(struct host *h, const struct store *s, struct tokenizer **out)
{
    struct tokenizer *t;
    const char *model;
    int rc = tok_new(h, &t);
    if (rc < 0) return rc;
    t->store = s;
    rc = gguf_string(t, KEY("model"), &model);
    if (rc == 0 || (rc > 0 && (!strcmp(model, "none") || !strcmp(model, "no_vocab"))))
        rc = fail(PEFT_ENOTFOUND, "%s holds no tokenizer", store_path(s));
    else if (rc > 0)
        rc = read_gguf(t, model);
    if (rc < 0) tok_free(t);
    else *out = t;
    return rc < 0 ? rc : PEFT_OK;
}

int tok_open_gguf(struct host *h, const struct store *s, struct tokenizer **out)
{
    *out = NULL;
    bool began = mem_budget(&h->mem);
    if (began) mem_budget_more(&h->mem, JSON_MEMORY + FILE_TIMES * store_bytes(s));
    int rc = open_gguf(h, s, out);
    mem_budget_end(&h->mem, began);
    return fail_path(rc, store_path(s));
}
