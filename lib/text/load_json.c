/* tokenizer.json: the model with its vocabulary and merges, and the added
 * tokens.  Vocabularies are walked once, from member to member. */
#include "text/tok.h"

static bool is_object(const json *j)
{
    return j && json_kind(j) == JSON_OBJECT;
}

static bool is_array(const json *j)
{
    return j && json_kind(j) == JSON_ARRAY;
}

/* A whole number in [0, 2^31), or -1. */
static int32_t json_id(const json *j)
{
    double x = json_number(j, -1);
    return x >= 0 && x < INT32_MAX && x == (double)(int32_t)x ? (int32_t)x : -1;
}

/* {"token": id, ...} */
int tok_read_vocab(struct tokenizer *t, const json *vocab, int64_t n_entries)
{
    if (!is_object(vocab))
        return fail(PEFT_EFORMAT, "the vocabulary is not an object of token and id");
    for (const json *k = json_first(vocab); k; k = json_next(k)) {
        int64_t n = (int64_t)strlen(json_key(k));
        int32_t id = json_id(k);
        if (id < 0)
            return fail(PEFT_EFORMAT, "token \"%.60s\" has %s as its id", json_key(k),
                        json_kind_name(k));
        const char *s = arena_strndup(&t->arena, json_key(k), n);
        int rc = s ? tok_set_token(t, id, s, n, n_entries) : PEFT_ENOMEM;
        if (rc < 0) return rc;
    }
    return PEFT_OK;
}

/* A merge is "a b" or ["a", "b"]. */
static int read_merge(struct tokenizer *t, const json *k)
{
    const char *a = json_string(k), *b;
    if (a) {
        int64_t n = (int64_t)strlen(a);
        b = memchr(a, ' ', (size_t)n);
        if (!b || strchr(b + 1, ' '))
            return fail(PEFT_EFORMAT, "merge \"%.80s\" is not two tokens and a space", a);
        return bpe_add_merge(t, a, b - a, b + 1, n - (b + 1 - a));
    }
    const json *first = is_array(k) ? json_first(k) : NULL;
    const json *second = first ? json_next(first) : NULL;
    a = json_string(first), b = json_string(second);
    if (!a || !b || json_next(second))
        return fail(PEFT_EFORMAT, "a merge is %s, expected \"a b\" or [\"a\", \"b\"]",
                    json_kind_name(k));
    return bpe_add_merge(t, a, (int64_t)strlen(a), b, (int64_t)strlen(b));
}

/* An optional string of at most 32 bytes; "" counts as none. */
static int short_string(struct tokenizer *t, const json *model, const char *member,
                        const char **out)
{
    const char *s = json_string(json_get(model, member));
    *out = NULL;
    if (!s || !*s) return PEFT_OK;
    if (strlen(s) > 32)
        return fail(PEFT_EUNSUPPORTED, "tokenizer.json: %s is %lld bytes long", member,
                    (long long)strlen(s));
    *out = arena_strndup(&t->arena, s, (int64_t)strlen(s));
    return *out ? PEFT_OK : PEFT_ENOMEM;
}

static int read_unk(const struct tokenizer *t, const json *model, int32_t *unk)
{
    const char *s = json_string(json_get(model, "unk_token"));
    if (!s) return PEFT_OK;
    *unk = tok_model_id(t, s, (int64_t)strlen(s));
    return *unk >= 0 ? PEFT_OK
                     : fail(PEFT_EFORMAT, "unk_token \"%.60s\" is not in the vocabulary", s);
}

static int read_bpe(struct tokenizer *t, const json *model)
{
    struct bpe *b = &t->bpe;
    const json *merges = json_get(model, "merges");
    if (!is_array(merges)) return fail(PEFT_EFORMAT, "tokenizer.json: BPE without merges");
    if (json_number(json_get(model, "dropout"), 0) > 0)
        return fail(PEFT_EUNSUPPORTED, "tokenizer.json: BPE with dropout");
    b->byte_fallback = json_bool(json_get(model, "byte_fallback"), 0);
    b->fuse_unk = json_bool(json_get(model, "fuse_unk"), 0);
    b->ignore_merges = json_bool(json_get(model, "ignore_merges"), 0);
    int rc = read_unk(t, model, &b->unk);
    if (rc == PEFT_OK) rc = short_string(t, model, "continuing_subword_prefix", &b->prefix);
    if (rc == PEFT_OK) rc = short_string(t, model, "end_of_word_suffix", &b->end_suffix);
    if (rc == PEFT_OK) rc = bpe_reserve(t, t->merges.n);
    for (const json *k; rc == PEFT_OK && (k = json_next_item(&t->merges));)
        rc = read_merge(t, k);
    return rc < 0 ? rc : t->merges.rc;
}

static int read_wordpiece(struct tokenizer *t, const json *model)
{
    struct wordpiece *w = &t->wp;
    w->max_chars = 100;
    int rc = json_int(model, "max_input_chars_per_word", 1, 1000, &w->max_chars);
    if (rc >= 0) rc = read_unk(t, model, &w->unk);
    if (rc >= 0) rc = short_string(t, model, "continuing_subword_prefix", &w->prefix);
    if (rc < 0) return rc;
    if (w->unk < 0) return fail(PEFT_EFORMAT, "tokenizer.json: WordPiece without unk_token");
    if (!w->prefix) w->prefix = "";
    w->n_prefix = (int64_t)strlen(w->prefix);
    return PEFT_OK;
}

/* A score of a piece, given as any number. */
static int read_piece(struct tokenizer *t, const json *k, int64_t id, int64_t n)
{
    const json *piece = is_array(k) ? json_first(k) : NULL;
    const json *score = piece ? json_next(piece) : NULL;
    const char *text = json_string(piece);
    if (!text || !score || json_kind(score) != JSON_NUMBER || json_next(score))
        return fail(PEFT_EFORMAT, "tokenizer.json: piece %lld of the vocabulary is not [text, "
                    "score]", (long long)id);
    const char *s = arena_strndup(&t->arena, text, (int64_t)strlen(text));
    t->uni.score[id] = json_number(score, 0);
    return s ? tok_set_token(t, id, s, (int64_t)strlen(s), n) : PEFT_ENOMEM;
}

static int read_unigram(struct tokenizer *t, const json *model)
{
    const json *vocab = json_get(model, "vocab");
    int64_t n = json_count(vocab), id = 0, unk = -1;
    if (!is_array(vocab) || n < 1)
        return fail(PEFT_EFORMAT, "tokenizer.json: Unigram without a list of pieces");
    const json *unk_id = json_get(model, "unk_id");
    int rc = unk_id && json_kind(unk_id) != JSON_NULL ? json_int(model, "unk_id", 0, n - 1, &unk)
                                                      : PEFT_OK;
    if (rc < 0) return rc;
    t->uni.unk = (int32_t)unk;
    t->uni.byte_fallback = json_bool(json_get(model, "byte_fallback"), 0);
    if (!(t->uni.score = mem_array(&t->host->mem, n, sizeof *t->uni.score))) return PEFT_ENOMEM;
    rc = PEFT_OK;
    for (const json *k = json_first(vocab); k && rc == PEFT_OK; k = json_next(k))
        rc = read_piece(t, k, id++, n);
    return rc < 0 ? rc : unigram_build(t);
}

static int read_wordlevel(struct tokenizer *t, const json *model)
{
    const char *unk = json_string(json_get(model, "unk_token"));
    if (!unk) unk = "<unk>";
    t->wp.unk = tok_model_id(t, unk, (int64_t)strlen(unk));
    return PEFT_OK;
}

static int read_added(struct tokenizer *t, const json *k, int64_t n_entries)
{
    const char *s = json_string(json_get(k, "content"));
    struct added a = {.id = json_id(json_get(k, "id"))};
    if (!s || a.id < 0)
        return fail(PEFT_EFORMAT, "tokenizer.json: an added token without \"content\" or \"id\"");
    if (strlen(s) > 1 << 16) return fail(PEFT_EFORMAT, "tokenizer.json: an added token too long");
    a.n = (int32_t)strlen(s);
    a.s = arena_strndup(&t->arena, s, a.n);
    a.special = json_bool(json_get(k, "special"), 0);
    a.lstrip = json_bool(json_get(k, "lstrip"), 0);
    a.rstrip = json_bool(json_get(k, "rstrip"), 0);
    a.single_word = json_bool(json_get(k, "single_word"), 0);
    a.normalized = json_bool(json_get(k, "normalized"), !a.special);
    return a.s ? tok_add(t, &a, n_entries) : PEFT_ENOMEM;
}

int tok_read_json(struct tokenizer *t, const json *root)
{
    static int (*const readers[])(struct tokenizer *t, const json *model) = {
        [MODEL_BPE] = read_bpe, [MODEL_WORDPIECE] = read_wordpiece,
        [MODEL_UNIGRAM] = read_unigram, [MODEL_WORDLEVEL] = read_wordlevel,
    };
    const json *model = json_get(root, "model"), *added = json_get(root, "added_tokens");
    const json *vocab = json_get(model, "vocab");
    if (!is_object(model)) return fail(PEFT_EFORMAT, "tokenizer.json: no object \"model\"");
    const char *type = json_string(json_get(model, "type"));
    if (!type) type = json_get(model, "merges") ? "BPE" : is_array(vocab) ? "Unigram" : "(none)";
    int kind = 0;
    while (tok_models[kind].kind && (!tok_models[kind].json || strcmp(type, tok_models[kind].json)))
        kind++;
    if (!tok_models[kind].kind)
        return fail(PEFT_EUNSUPPORTED, "tokenizer.json: a model of type \"%.60s\", expected BPE, "
                    "Unigram, WordPiece or WordLevel", type);
    t->model = (enum model_kind)kind;
    int64_t n_entries = json_count(vocab) + json_count(added);
    int rc = kind == MODEL_UNIGRAM ? PEFT_OK : tok_read_vocab(t, vocab, n_entries);
    if (rc == PEFT_OK) rc = readers[kind](t, model);
    if (rc == PEFT_OK) rc = tok_read_parts(t, root);
    for (const json *k = is_array(added) ? json_first(added) : NULL; k && rc == PEFT_OK;
         k = json_next(k))
        rc = read_added(t, k, n_entries);
    return rc;
}
