/* WordPiece: the longest token that the rest of a word begins with, again and
 * again; a word that leaves a rest is unknown as a whole.  Tokens inside a
 * word have a prefix, "##".  (Schuster and Nakajima, "Japanese and Korean
 * voice search", ICASSP 2012.) */
#include "text/tok.h"

static int64_t count_chars(const char *s, int64_t n)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) count += ((uint8_t)s[i] & 0xc0) != 0x80;
    return count;
}

/* The id of the longest token at `at`; its length in the text in *len. */
static int32_t longest_piece(const struct tokenizer *t, const struct buf *word, int64_t at,
                             int64_t *len)
{
    /* The word lies behind a prefix, which inner pieces overwrite its front
     * with: no copy of each candidate is needed. */
    const struct wordpiece *w = &t->wp;
    int64_t extra = at ? w->n_prefix : 0;
    char *s = word->data + w->n_prefix + at - extra;
    int64_t n = MIN(word->n - (w->n_prefix + at) + extra, (int64_t)w->max_bytes);
    if (extra) memcpy(s, w->prefix, (size_t)extra);
    for (; n > extra; n--) {
        if (s + n < word->data + word->n && ((uint8_t)s[n] & 0xc0) == 0x80) continue;
        int32_t id = tok_model_id(t, s, n);
        if (id >= 0) return *len = n - extra, id;
    }
    return -1;
}

int wordpiece_encode(struct encoder *e, const char *s, int64_t n)
{
    const struct wordpiece *w = &e->t->wp;
    struct buf *word = &e->word;
    int64_t before = e->out->n, len;
    bool known = n <= w->max_chars || count_chars(s, n) <= w->max_chars;
    buf_clear(word);
    buf_put(word, w->prefix, w->n_prefix);
    buf_put(word, s, n);
    if (buf_check(word) < 0) return PEFT_ENOMEM;
    for (int64_t at = 0; at < n && known; at += len) {
        int32_t id = longest_piece(e->t, word, at, &len);
        known = id >= 0;
        if (known) token_push(e, id, s + at, len);
        else len = 0;
    }
    if (!known) {
        token_drop(e, before);
        token_push(e, w->unk, s, n);
    }
    return PEFT_OK;
}

/* WordLevel: a word is a token or unknown. */
int wordlevel_encode(struct encoder *e, const char *s, int64_t n)
{
    int32_t id = tok_model_id(e->t, s, n);
    if (id < 0) id = e->t->wp.unk;
    if (id < 0)
        return fail(PEFT_EDATA, "the word \"%.*s\" is no token, and there is none for unknown ones",
                    (int)MIN(n, 60), s);
    token_push(e, id, s, n);
    return PEFT_OK;
}
