/* The vocabulary, and what is put together once all parts are read. */
#include "text/tok.h"

int tok_new(struct host *h, struct tokenizer **out)
{
    struct tokenizer *t = mem_zalloc(&h->mem, sizeof *t);
    *out = t;
    if (!t) return PEFT_ENOMEM;
    t->host = h;
    arena_init(&t->arena, &h->mem);
    map_init(&t->vocab, &h->mem);
    map_init(&t->added_ids, &h->mem);
    t->info = (struct tok_info){.kind = "bpe", .bos = -1, .eos = -1, .pad = -1, .unk = -1,
                                .cls = -1, .sep = -1, .mask = -1};
    t->bpe.unk = t->wp.unk = t->uni.unk = -1;
    for (int i = 0; i < 256; i++) t->bpe.of_byte[i] = -1;
    t->idle = arena_alloc(&t->arena, sizeof *t->idle);
    if (t->idle) return PEFT_OK;
    tok_free(t);
    *out = NULL;
    return PEFT_ENOMEM;
}

void tok_free(struct tokenizer *t)
{
    if (!t) return;
    struct mem *m = &t->host->mem;
    tok_rest(t);
    for (int i = 0; i < t->n_files; i++) file_close_view(t->host, &t->files[i].view);
    map_free(&t->vocab);
    map_free(&t->added_ids);
    mem_free(m, t->tokens);
    mem_free(m, t->added);
    mem_free(m, t->plain.nodes);
    mem_free(m, t->normalized.nodes);
    mem_free(m, t->bpe.slots);
    mem_free(m, t->bpe.pairs);
    mem_free(m, t->bpe.rank);
    unigram_free(t);
    regex_free_all(t);
    arena_free(&t->arena);
    mem_free(m, t);
}

/* Room for id.  Ids may have gaps, but the table stays in proportion to the
 * entries of the file. */
static int tok_room(struct tokenizer *t, int64_t id, int64_t n_entries)
{
    int64_t most = MIN(n_entries, INT64_C(1) << 26) * 4 + 65536;
    if (id < 0 || id >= most)
        return fail(PEFT_EFORMAT, "token id %lld in a vocabulary of %lld", (long long)id,
                    (long long)n_entries);
    if (id >= t->cap) {
        int64_t cap = MAX(id + 1, MAX(t->cap * 2, MIN(n_entries, most)));
        struct token *v = mem_realloc(&t->host->mem, t->tokens, cap * (int64_t)sizeof *v);
        if (!v) return PEFT_ENOMEM;
        memset(v + t->cap, 0, (size_t)(cap - t->cap) * sizeof *v);
        t->tokens = v;
        t->cap = cap;
    }
    t->n = MAX(t->n, id + 1);
    return PEFT_OK;
}

int tok_set_token(struct tokenizer *t, int64_t id, const char *s, int64_t n, int64_t n_entries)
{
    int rc = tok_room(t, id, n_entries);
    if (rc < 0) return rc;
    if (n > 1 << 20) return fail(PEFT_EFORMAT, "token %lld is %lld bytes long", (long long)id,
                                 (long long)n);
    if (utf8_check(s, n) < n)
        return fail(PEFT_EFORMAT, "token %lld is not UTF-8", (long long)id);
    if (t->tokens[id].s)
        return fail(PEFT_EFORMAT, "token id %lld stands for both \"%.*s\" and \"%.*s\"",
                    (long long)id, (int)MIN(t->tokens[id].n, 60), t->tokens[id].s,
                    (int)MIN(n, 60), s);
    rc = map_add(&t->vocab, s, n, id);
    if (rc < 0) return rc;
    t->tokens[id] = (struct token){s, (int32_t)n, rc ? TOKEN_MODEL : 0};
    return PEFT_OK;
}

int32_t tok_model_id(const struct tokenizer *t, const char *s, int64_t n)
{
    return (int32_t)map_get(&t->vocab, s, n, -1);
}

int tok_add(struct tokenizer *t, const struct added *a, int64_t n_entries)
{
    if (a->n == 0) return PEFT_OK;
    int64_t model = tok_model_id(t, a->s, a->n);
    if (model >= 0 && model != a->id)
        return fail(PEFT_EFORMAT, "added token \"%.*s\" has id %d, the vocabulary says %lld",
                    MIN(a->n, 60), a->s, a->id, (long long)model);
    int64_t old = map_get(&t->added_ids, a->s, a->n, -1);
    if (old >= 0 && t->added[old].id != a->id)
        return fail(PEFT_EFORMAT, "added token \"%.*s\" has the ids %d and %d", MIN(a->n, 60),
                    a->s, t->added[old].id, a->id);
    if (old >= 0) return PEFT_OK;
    int rc = tok_room(t, a->id, n_entries);
    if (rc < 0) return rc;
    struct token *k = &t->tokens[a->id];
    if (k->s && (k->n != a->n || memcmp(k->s, a->s, (size_t)k->n) != 0))
        return fail(PEFT_EFORMAT, "token id %d stands for both \"%.*s\" and \"%.*s\"", a->id,
                    MIN(k->n, 60), k->s, MIN(a->n, 60), a->s);
    if (t->n_added == t->cap_added) {
        int64_t cap = t->cap_added ? t->cap_added * 2 : 32;
        struct added *v = mem_realloc(&t->host->mem, t->added, cap * (int64_t)sizeof *v);
        if (!v) return PEFT_ENOMEM;
        t->added = v;
        t->cap_added = cap;
    }
    rc = map_add(&t->added_ids, a->s, a->n, t->n_added);
    if (rc < 0) return rc;
    t->added[t->n_added++] = *a;
    k->s = a->s;
    k->n = a->n;
    k->flags |= TOKEN_ADDED | (a->special ? TOKEN_SPECIAL : 0);
    return PEFT_OK;
}

/* --- finishing */

static int build_tries(struct tokenizer *t)
{
    struct draft two[2];
    draft_init(&two[0], &t->host->mem);
    draft_init(&two[1], &t->host->mem);
    int rc = PEFT_OK;
    for (int64_t i = 0; i < t->n_added && rc == PEFT_OK; i++) {
        struct added *a = &t->added[i];
        const char *s = a->s;
        int64_t n = a->n;
        if (a->normalized && t->n_norm > 0) {
            struct aligned x = {s, n, NULL};
            if ((rc = normalize(t, two, &x)) < 0) break;
            s = x.s, n = x.n;
            if (!(s = arena_strndup(&t->arena, s, n))) rc = PEFT_ENOMEM;
            else if (n != a->n || memcmp(s, a->s, (size_t)n) != 0)
                t->tokens[a->id].flags |= TOKEN_NORMALIZED;
        }
        a->match = s;
        a->n_match = (int32_t)n;
        if (rc == PEFT_OK)
            rc = trie_add(t, a->normalized ? &t->normalized : &t->plain, s, n, (int32_t)i);
    }
    draft_free(&two[0]);
    draft_free(&two[1]);
    return rc;
}

/* Tokens that end a turn in the chat formats of known models. */
static void find_eot(struct tokenizer *t)
{
    static const char *const names[] = {
        "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
        "<|end_of_text|>", "</s>",
    };
    if (t->info.eos >= 0 && t->n_eot < EOT_MAX) t->eot[t->n_eot++] = t->info.eos;
    for (size_t i = 0; i < ARRAY_LEN(names) && t->n_eot < EOT_MAX; i++) {
        int32_t id = tok_lookup(t, names[i]);
        if (id >= 0 && (t->tokens[id].flags & TOKEN_SPECIAL) && !tok_is_eot(t, id))
            t->eot[t->n_eot++] = id;
    }
}

static void find_byte_tokens(struct tokenizer *t)
{
    static const char hex[] = "0123456789ABCDEF";
    for (int i = 0; i < 256; i++) {
        char name[7] = {'<', '0', 'x', hex[i >> 4], hex[i & 15], '>', 0};
        t->bpe.of_byte[i] = tok_model_id(t, name, 6);
    }
    for (int32_t cp = 0; cp < (int32_t)ARRAY_LEN(t->bpe.of_char); cp++) {
        char s[4];
        t->bpe.of_char[cp] = tok_model_id(t, s, uni_put(s, cp));
    }
}

/* Whether the model can take bytes as they are for the characters that stand
 * for them. */
static bool takes_bytes(struct tokenizer *t)
{
    struct bpe *b = &t->bpe;
    for (int i = 0; i < 256; i++) b->of_raw[i] = b->of_char[uni_of_byte((uint8_t)i)];
    return t->model == MODEL_BPE && !b->prefix && !b->end_suffix && t->n_split > 0 &&
           t->split[t->n_split - 1].kind == SPLIT_BYTES;
}

static void drop_bad_id(const struct tokenizer *t, int32_t *id)
{
    if (*id >= t->n || (*id >= 0 && !t->tokens[*id].s)) *id = -1;
}

int tok_finish(struct tokenizer *t)
{
    int rc = build_tries(t);
    if (rc < 0) return rc;
    for (int64_t i = 0; t->model == MODEL_WORDPIECE && i < t->n; i++)
        if (t->tokens[i].flags & TOKEN_MODEL)
            t->wp.max_bytes = MAX(t->wp.max_bytes, t->tokens[i].n);
    find_byte_tokens(t);
    t->bpe.raw = takes_bytes(t);
    t->n_pieces = t->n_split - t->bpe.raw;
    if ((rc = words_prepare(t)) < 0) return rc;
    int32_t *const ids[] = {&t->info.bos, &t->info.eos, &t->info.pad, &t->info.unk,
                            &t->info.cls, &t->info.sep, &t->info.mask};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) drop_bad_id(t, ids[i]);
    find_eot(t);
    for (struct post *p = &t->single; p; p = p == &t->single ? &t->pair : NULL)
        for (int i = 0; i < p->n; i++)
            if (p->items[i].kind == POST_TOKEN &&
                (p->items[i].id >= t->n || !t->tokens[p->items[i].id].s))
                return fail(PEFT_EFORMAT, "the post-processor adds id %d, which no token has",
                            p->items[i].id);
    bool seen = false;
    for (int i = 0; i < t->single.n; i++) {
        if (t->single.items[i].kind != POST_TOKEN) seen = true;
        else if (seen) t->info.adds_eos = 1;
        else t->info.adds_bos = 1;
    }
    t->info.kind = tok_models[t->model].kind;
    t->info.n_vocab = t->n;
    return chat_prepare(t);
}

/* --- parts that several readers need */

int trim_push(struct tokenizer *t, bool prefix_space)
{
    if (t->n_trim == TRIMS_MAX)
        return fail(PEFT_EUNSUPPORTED, "more than %d post-processors that trim", TRIMS_MAX);
    t->trim[t->n_trim++].prefix_space = prefix_space;
    return PEFT_OK;
}

int post_push(struct post *p, enum post_kind kind, int32_t id, int32_t type)
{
    if (p->n == POST_MAX)
        return fail(PEFT_EUNSUPPORTED, "a post-processor template of more than %d items",
                    POST_MAX);
    p->items[p->n++] = (struct post_item){kind, id, type};
    return PEFT_OK;
}

int post_simple(struct tokenizer *t, int32_t bos, int32_t eos)
{
    t->single.n = t->pair.n = 0;
    for (int k = 0; k < 2; k++) {
        enum post_kind kind = k ? POST_B : POST_A;
        if (bos >= 0) post_push(&t->pair, POST_TOKEN, bos, k);
        post_push(&t->pair, kind, 0, k);
        if (eos >= 0) post_push(&t->pair, POST_TOKEN, eos, k);
        if (k == 0) t->single = t->pair;
    }
    return PEFT_OK;
}

int post_bert(struct tokenizer *t, int32_t cls, int32_t sep)
{
    t->single = (struct post){{{POST_TOKEN, cls, 0}, {POST_A, 0, 0}, {POST_TOKEN, sep, 0}}, 3};
    t->pair = t->single;
    post_push(&t->pair, POST_B, 0, 1);
    post_push(&t->pair, POST_TOKEN, sep, 1);
    return PEFT_OK;
}

int wordpiece_defaults(struct tokenizer *t, bool lower, const char *unk)
{
    t->model = MODEL_WORDPIECE;
    t->wp.prefix = "##";
    t->wp.n_prefix = 2;
    t->wp.max_chars = 100;
    t->wp.unk = tok_model_id(t, unk, (int64_t)strlen(unk));
    if (t->wp.unk < 0)
        return fail(PEFT_EFORMAT, "the vocabulary has no \"%s\", which WordPiece needs", unk);
    struct norm_step *norm = norm_push(t, NORM_BERT);
    if (!norm) return PEFT_EUNSUPPORTED;
    norm->clean = norm->han = true;
    norm->accents = norm->lower = lower;
    int rc = split_push_find(t, find_space, HOW_REMOVED);
    if (rc == PEFT_OK) rc = split_push_find(t, find_punct, HOW_ISOLATED);
    struct decode_step *d = rc == PEFT_OK ? decode_push(t, DECODE_WORDPIECE) : NULL;
    if (!d) return PEFT_EUNSUPPORTED;
    d->from = "##";
    d->n_from = 2;
    d->cleanup = true;
    t->has_decoder = true;
    return PEFT_OK;
}
