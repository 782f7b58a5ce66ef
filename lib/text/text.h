/* Rank 3: strings and token ids. */
#ifndef TEXT_TEXT_H
#define TEXT_TEXT_H

#include "base/json.h"
#include "store/store.h"

struct tokenizer;
extern const struct named tok_kinds[];      /* what is read; name NULL ends it */
/* From a Hugging Face folder: tokenizer.json (with tokenizer_config.json and
 * special_tokens_map.json beside it), or vocab.json + merges.txt, or
 * vocab.txt, or a SentencePiece model (tokenizer.model, spiece.model,
 * sentencepiece.bpe.model, spm.model).  PEFT_ENOTFOUND when the folder has none of them. */
int tok_open_folder(struct host *h, const char *dir, struct tokenizer **out);
/* From GGUF metadata (tokenizer.ggml.*).  PEFT_ENOTFOUND when there is none. */
int tok_open_gguf(struct host *h, const struct store *s, struct tokenizer **out);
void tok_free(struct tokenizer *t);

/* Writes the files of a Hugging Face folder into `dir`: the original ones when
 * they came from a folder, else a tokenizer.json + tokenizer_config.json that
 * encode the same. */
int tok_save_folder(struct host *h, const struct tokenizer *t, const char *dir);

/* The metadata tokenizer.* of a GGUF file, allocated from `a`: copied when the
 * tokenizer came from one (the store must still be open), else made.
 * PEFT_EUNSUPPORTED when GGUF cannot express the tokenizer.  `rows`: readers
 * want as many tokens as the embedding has rows, so unused ones are added. */
int tok_gguf_kv(struct host *h, const struct tokenizer *t, struct arena *a, struct gguf_kv **kv,
                int64_t *n);
int tok_gguf_kv_rows(struct host *h, const struct tokenizer *t, int64_t rows, struct arena *a,
                     struct gguf_kv **kv, int64_t *n);

struct tok_info {
    const char *kind;               /* "bpe", "wordpiece", "unigram", "wordlevel" */
    int64_t n_vocab;                /* ids 0..n_vocab-1 */
    int32_t bos, eos, pad, unk, cls, sep, mask;     /* -1 = none */
    int adds_bos, adds_eos;         /* by TOK_SPECIAL */
    const char *chat_template;      /* Jinja source, or NULL */
};
const struct tok_info *tok_info(const struct tokenizer *t);
/* Ids that end a turn: eos, <|im_end|>, <|eot_id|>, ... */
int tok_is_eot(const struct tokenizer *t, int32_t id);
int tok_is_special(const struct tokenizer *t, int32_t id);
/* Whether a token goes on the word of the one before ("##ing"); -1: this
 * tokenizer does not mark that. */
int tok_goes_on(const struct tokenizer *t, int32_t id);

enum { TOK_SPECIAL = 1 /* add BOS, [CLS] ... */, TOK_PLAIN = 2 /* do not parse special tokens */ };
/* Appends ids.  n bytes of valid UTF-8 (else PEFT_EFORMAT).  const: any thread. */
int tok_encode(struct host *h, const struct tokenizer *t, const char *text, int64_t n, int flags,
               struct ids *out);
/* Two segments as BERT does: [CLS] a [SEP] b [SEP]; types (may be NULL) gets 0 and 1. */
int tok_encode_pair(struct host *h, const struct tokenizer *t, const char *a, int64_t na,
                    const char *b, int64_t nb, struct ids *out, struct ids *types);
/* Encoders keep their memory, a megabyte at most, for the next call; this frees
 * what no call uses now.  Any thread. */
void tok_rest(const struct tokenizer *t);
/* Where ids come from: id i stands for the bytes [begin, end) of text `part`, 0
 * or 1 of a pair; one that the template adds has the part -1 and [0, 0).  As in
 * Hugging Face's tokenizers: whole characters, of which several ids may share
 * one; what a normalizer made stands for what it was made from; and spaces are
 * left out where the tokenizer says so (trim_offsets). */
struct token_spans { struct ids begin, end, part; };
void token_spans_init(struct token_spans *x, struct mem *m);
void token_spans_free(struct token_spans *x);
/* tok_encode and tok_encode_pair, with spans appended as well. */
int tok_encode_spans(struct host *h, const struct tokenizer *t, const char *text, int64_t n,
                     int flags, struct ids *out, struct token_spans *spans);
int tok_encode_pair_spans(struct host *h, const struct tokenizer *t, const char *a, int64_t na,
                          const char *b, int64_t nb, struct ids *out, struct ids *types,
                          struct token_spans *spans);
enum { DETOK_SKIP = 1 /* leave special tokens out */ };
int tok_decode(const struct tokenizer *t, const int32_t *ids, int64_t n, int flags,
               struct buf *out);
/* The bytes that one token stands for, for streaming (may end inside a
 * character); the buffer is appended to. */
int tok_piece(const struct tokenizer *t, int32_t id, struct buf *out);
/* The id of a token's text, or -1. */
/* Appends bytes; what is not UTF-8 becomes U+FFFD, one for each maximal part
 * of a character (the Unicode Standard, section 3.9). */
void uni_append_lossy(struct buf *out, const char *s, int64_t n);
int32_t tok_lookup(const struct tokenizer *t, const char *token);

/* --- chat templates */
struct message { const char *role, *content; };
/* Renders as the model's own template does (Jinja, jinja.h); `prompt` 1 ends
 * with the opening of the assistant's turn.  PEFT_EFORMAT: the template has an
 * error; PEFT_EDATA: it refuses the conversation.  A model without template
 * uses chatml when it has its tokens, else plain text ("User: ...\nAssistant:
 * ..."). */
int chat_render(const struct tokenizer *t, const struct message *m, int64_t n, int prompt,
                struct buf *out);
struct chat_input {
    const struct message *m;        /* [n] */
    const json *const *fields;      /* [n] objects, or NULL: what else templates may see of each
                                     * message; a role there gives way to that of `m`, and a list
                                     * as content is kept if the template takes lists */
    int64_t n;
    int prompt;
    const json *tools;              /* a list, or NULL */
};
/* `spans` (may be NULL) gets the first byte and the end of each {% generation %}
 * block, where the template marks what is the assistant's. */
int chat_render_input(const struct tokenizer *t, const struct chat_input *in, struct buf *out,
                      struct ids *spans);
/* Whether the model has a form for conversations, its template or chatml. */
int chat_known(const struct tokenizer *t);
/* Whether the template has {% generation %} blocks. */
int chat_marks_answers(const struct tokenizer *t);

#endif
