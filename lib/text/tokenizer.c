/* Text to ids: the path through the parts of a tokenizer. */
#include "text/tok.h"

const struct tok_info *tok_info(const struct tokenizer *t)
{
    return &t->info;
}

int tok_is_eot(const struct tokenizer *t, int32_t id)
{
    for (int i = 0; i < t->n_eot; i++)
        if (t->eot[i] == id) return 1;
    return 0;
}

int tok_is_special(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n && (t->tokens[id].flags & TOKEN_SPECIAL) != 0;
}

int32_t tok_lookup(const struct tokenizer *t, const char *token)
{
    int64_t n = (int64_t)strlen(token);
    int64_t added = map_get(&t->added_ids, token, n, -1);
    return added >= 0 ? t->added[added].id : tok_model_id(t, token, n);
}

static void encoder_init(struct encoder *e, struct host *h, const struct tokenizer *t,
                         struct ids *out, bool plain)
{
    *e = (struct encoder){.t = t, .out = out, .mem = &h->mem, .plain = plain};
    buf_init(&e->norm[0], e->mem);
    buf_init(&e->norm[1], e->mem);
    buf_init(&e->word, e->mem);
    for (int i = 0; i < STEPS_MAX; i++) buf_init(&e->step[i], e->mem);
}

static void encoder_free(struct encoder *e)
{
    buf_free(&e->norm[0]);
    buf_free(&e->norm[1]);
    buf_free(&e->word);
    for (int i = 0; i < STEPS_MAX; i++) buf_free(&e->step[i]);
    mem_free(e->mem, e->symbols);
    mem_free(e->mem, e->heap);
    mem_free(e->mem, e->best);
}

static int encode_piece(struct encoder *e, const char *s, int64_t n, bool first)
{
    e->first = e->first && first;
    int rc = split_run(e, 0, s, n);
    e->first = false;
    return rc;
}

static int encode_part(struct encoder *e, const char *s, int64_t n, bool first)
{
    e->first = first;
    int rc = normalize(e->t, e->norm, &s, &n);
    return rc < 0 ? rc : added_cut(e, &e->t->normalized, s, n, encode_piece);
}

static int encode_text(struct encoder *e, const char *s, int64_t n)
{
    if (n < 0 || n > INT32_MAX / 8)
        return fail(PEFT_EARG, "a text of %lld bytes, at most %d are expected", (long long)n,
                    INT32_MAX / 8);
    int64_t bad = utf8_check(s, n);
    if (bad < n)
        return fail(PEFT_EFORMAT, "the text is not UTF-8: byte 0x%02x at offset %lld",
                    (uint8_t)s[bad], (long long)bad);
    int rc = added_cut(e, &e->t->plain, s, n, encode_part);
    return rc < 0 ? rc : ids_check(e->out);
}

static void push_types(struct ids *types, int64_t upto, int32_t type)
{
    while (types && types->n < upto && !types->oom) ids_push(types, type);
}

/* Fills a template: text a, text b, and the tokens around them.  On failure
 * nothing stays appended. */
static int encode_post(struct encoder *e, const struct post *p, const char *const text[2],
                       const int64_t n[2], struct ids *types)
{
    int64_t before = e->out->n, before_types = types ? types->n : 0;
    int rc = PEFT_OK;
    for (int i = 0; i < p->n && rc == PEFT_OK; i++) {
        const struct post_item *it = &p->items[i];
        if (it->kind == POST_TOKEN) ids_push(e->out, it->id);
        else rc = encode_text(e, text[it->kind == POST_B], n[it->kind == POST_B]);
        push_types(types, before_types + e->out->n - before, it->type);
    }
    if (rc == PEFT_OK) rc = ids_check(e->out);
    if (rc == PEFT_OK && types) rc = ids_check(types);
    if (rc < 0) {
        e->out->n = before;
        if (types) types->n = before_types;
    }
    return rc;
}

int tok_encode(struct host *h, const struct tokenizer *t, const char *text, int64_t n, int flags,
               struct ids *out)
{
    static const struct post bare = {{{POST_A, 0, 0}}, 1};
    bool special = (flags & TOK_SPECIAL) && t->single.n > 0;
    struct encoder e;
    encoder_init(&e, h, t, out, (flags & TOK_PLAIN) != 0);
    int rc = encode_post(&e, special ? &t->single : &bare, (const char *const[]){text, ""},
                         (const int64_t[]){n, 0}, NULL);
    encoder_free(&e);
    return rc;
}

int tok_encode_pair(struct host *h, const struct tokenizer *t, const char *a, int64_t na,
                    const char *b, int64_t nb, struct ids *out, struct ids *types)
{
    static const struct post bare = {{{POST_A, 0, 0}, {POST_B, 0, 1}}, 2};
    struct encoder e;
    encoder_init(&e, h, t, out, false);
    int rc = encode_post(&e, t->pair.n > 0 ? &t->pair : &bare, (const char *const[]){a, b},
                         (const int64_t[]){na, nb}, types);
    encoder_free(&e);
    return rc;
}
