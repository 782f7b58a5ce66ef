/* Rank 3, inside lib/text: the parts of a tokenizer, in the order in which a
 * text passes them.
 *
 *   text -> added tokens cut out -> normalizers -> added tokens again ->
 *   splits -> model (BPE, Unigram, WordPiece ...) -> template with BOS, [CLS] ... -> ids
 *
 * The parts are those of the Hugging Face library `tokenizers`, and have its
 * exact meaning; GGUF metadata is turned into the same parts. */
#ifndef TEXT_TOK_H
#define TEXT_TOK_H

#include "text/text.h"
#include "text/unicode.h"

enum { STEPS_MAX = 12, POST_MAX = 16, EOT_MAX = 16, FILES_MAX = 16, TRIMS_MAX = 4 };

/* --- texts on their way */
/* Bytes of the original text.  A rewritten text has one for each byte. */
struct span { int32_t from, to; };
struct aligned {
    const char *s;
    int64_t n;
    const struct span *at;      /* NULL: not asked for, or this is the original */
};
/* A text being written.  `src` of what is put is the byte of `in` that it
 * stands for; spans are kept when `in` has some. */
struct draft { struct buf chars, spans; };
void draft_init(struct draft *d, struct mem *m);
void draft_free(struct draft *d);
void draft_clear(struct draft *d);
void draft_put(struct draft *d, const struct aligned *in, int64_t src, const char *s, int64_t n);
void draft_copy(struct draft *d, const struct aligned *in, int64_t from, int64_t to);
int draft_check(const struct draft *d);
struct aligned draft_text(struct draft *d, const struct aligned *in);

/* --- vocabulary */
enum {
    TOKEN_SPECIAL = 1,
    TOKEN_ADDED = 2,
    TOKEN_MODEL = 4,    /* known to the model, not only added */
    TOKEN_NORMALIZED = 8    /* an added one whose normalized text is another */
};
/* As SentencePiece and GGUF number them. */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };
struct token {
    const char *s;      /* NULL: no token has this id */
    int32_t n;
    int32_t flags;
};

/* --- added tokens: matched in the text before the model sees it */
struct added {
    const char *s;      /* as in the file */
    const char *match;  /* what is looked for: normalized if `normalized` */
    int32_t n, n_match, id;
    bool special, lstrip, rstrip, single_word, normalized;
};
struct trie_node { int32_t child, sibling, added; uint8_t byte; };
struct trie {
    struct trie_node *nodes;    /* 0 = no node; 1.. */
    int32_t n, cap;
    int32_t root[256];
};

/* --- expressions that no scanner of split.c knows: regex.c */
struct regex;
int regex_compile(struct tokenizer *t, const char *pattern, const struct regex **out);
void regex_free_all(struct tokenizer *t);
/* An expression: a scanner of split.c, else a `regex`.  Both NULL = none. */
struct split_step;
/* End of the span that begins at `at` < n, and whether it is a match. */
typedef int64_t find_fn(const struct split_step *p, const char *s, int64_t n, int64_t at,
                        bool *match);
struct expr { find_fn *find; const struct regex *regex; };
int expr_compile(struct tokenizer *t, const char *pattern, struct expr *out);
/* Calls `each` for the matches and for what lies between them, in order. */
typedef int expr_each_fn(void *ctx, int64_t from, int64_t to, bool match);
int expr_scan(const struct expr *x, const char *s, int64_t n, expr_each_fn *each, void *ctx);

/* --- the character map of SentencePiece: charsmap.c */
struct charsmap {
    const uint8_t *raw, *units;     /* the whole; a double array of uint32 */
    const char *text;               /* replacements, each up to a NUL */
    int64_t n_raw, n_units, n_text;
};
/* `raw` is kept, and must live as long as the tokenizer. */
int charsmap_open(struct charsmap *m, const void *raw, int64_t n);
/* `changes` as uni_normalize gives them; NULL = not asked for. */
int charsmap_apply(const struct charsmap *m, const char *s, int64_t n, struct buf *out,
                   struct ids *changes);
int charsmap_base64(struct arena *a, const char *s, const uint8_t **raw, int64_t *n);
void charsmap_put_base64(struct buf *b, const uint8_t *raw, int64_t n);

/* --- normalizers: text -> text */
enum norm_kind { NORM_FORM, NORM_LOWER, NORM_STRIP, NORM_STRIP_MARKS, NORM_PREPEND, NORM_REPLACE,
                 NORM_BERT, NORM_CHARSMAP, NORM_NMT, NORM_BYTES };
struct norm_step {
    enum norm_kind kind;
    enum uni_form form;
    struct charsmap charsmap;
    struct expr expr;           /* replace: in place of `from` */
    const char *from, *to;      /* replace; prepend: `to` */
    int64_t n_from, n_to;
    bool left, right;           /* strip */
    bool clean, han, accents, lower;    /* BERT */
};

/* --- splits: text -> pieces */
enum split_kind { SPLIT_FIND, SPLIT_PREFIX_SPACE, SPLIT_BYTES, SPLIT_METASPACE };
enum split_how { HOW_ISOLATED, HOW_REMOVED, HOW_CONTIGUOUS, HOW_MERGED_PREVIOUS, HOW_MERGED_NEXT };
enum prepend { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };
struct split_step {
    enum split_kind kind;
    find_fn *find;
    const struct regex *regex;  /* in place of `find` */
    enum split_how how;
    bool invert;
    const char *text;           /* a literal to find; metaspace: its character */
    int64_t n_text;             /* find_length: characters */
    enum prepend prepend;
};
/* The scanner for a regular expression, or NULL. */
find_fn *split_regex(const char *regex);
/* For the pre-tokenizer of a GGUF file. */
struct split_pre {
    const char *name;           /* tokenizer.ggml.pre */
    const char *regex[2];       /* applied in this order; NULL = none */
    bool nfc, ignore_merges;
};
const struct split_pre *split_pre_find(const char *name);
/* A name for the splits of t that GGUF readers know, or NULL. */
const char *split_pre_name(const struct tokenizer *t);
find_fn find_gpt2, find_number, find_digits, find_space, find_punct, find_literal, find_words,
    find_length;

/* --- decoders: tokens -> text */
enum decode_kind { DECODE_BYTES, DECODE_WORDPIECE, DECODE_METASPACE, DECODE_REPLACE,
                   DECODE_BYTE_FALLBACK, DECODE_FUSE, DECODE_STRIP, DECODE_SUFFIX, DECODE_CTC };
struct decode_step {
    enum decode_kind kind;
    struct expr expr;           /* replace: in place of `from` */
    const char *from, *to;      /* replace; wordpiece: prefix; metaspace: char; suffix;
                                 * CTC: padding and delimiter */
    int64_t n_from, n_to;
    int64_t start, stop;        /* strip */
    bool cleanup;               /* wordpiece, CTC */
    enum prepend prepend;       /* metaspace */
};

/* --- post-processor */
enum post_kind { POST_TOKEN, POST_A, POST_B };
struct post_item { enum post_kind kind; int32_t id, type; };
struct post { struct post_item items[POST_MAX]; int n; };
/* Spans of tokens lose the spaces at their ends (ByteLevel, RobertaProcessing
 * with trim_offsets), but for the one that was put before the text. */
struct trim { bool prefix_space; };

/* --- models */
enum model_kind {
    MODEL_BPE,          /* pairs of ids merge by rank */
    MODEL_SCORES,       /* SentencePiece in GGUF: neighbours merge when the
                         * joined text is a token, highest score first */
    MODEL_WORDPIECE,
    MODEL_UNIGRAM,
    MODEL_WORDLEVEL
};
struct merge_slot { uint64_t key; int32_t rank, id; };      /* id -1 = free */
struct bpe {
    struct merge_slot *slots;
    int64_t cap, n;
    uint64_t seed;
    int32_t *pairs;             /* left, right by rank, as in the file */
    int64_t n_pairs;
    int32_t *rank;              /* MODEL_SCORES: by id; -1 = never the result */
    int32_t max_bytes;          /* the longest such token */
    int32_t of_char[512];       /* ids of one-character tokens, -1 = none */
    int32_t of_raw[256];        /* ids of the characters that stand for bytes */
    bool raw;                   /* pieces are bytes, not these characters */
    const uint32_t *joints;     /* [2^16 bits] words.c; NULL = pieces stay whole */
    int32_t of_byte[256];       /* <0x00> ... */
    bool byte_fallback, fuse_unk, ignore_merges;
    const char *end_suffix, *prefix;    /* of words; NULL = none */
    int32_t unk;
};
struct wordpiece {
    const char *prefix;
    int64_t n_prefix, max_chars;
    int32_t max_bytes, unk;
};

struct unigram {
    struct unigram_node *nodes;
    double *score;              /* by id; -INFINITY = never in a text */
    double unk_score;
    int32_t unk;                /* -1 = none */
    bool byte_fallback;
};
enum { IDLE_MAX = 4 };
struct encoder;
struct idle { struct encoder *_Atomic slot[IDLE_MAX]; };

struct jinja;
struct tok_file { const char *name; struct file_view view; };

struct tokenizer {
    struct host *host;
    struct arena arena;
    struct tok_info info;
    enum model_kind model;
    struct token *tokens;
    int64_t n, cap;
    struct map vocab;           /* the model's: text -> id */
    struct map added_ids;       /* text -> index into added */
    struct added *added;
    int64_t n_added, cap_added;
    struct trie plain, normalized;
    struct norm_step norm[STEPS_MAX];
    struct split_step split[STEPS_MAX];
    struct decode_step decode[STEPS_MAX];
    int n_norm, n_split, n_decode;
    int n_pieces;               /* splits that make pieces: without a last
                                 * SPLIT_BYTES if the model does it */
    bool has_decoder;
    struct post single, pair;
    struct trim trim[TRIMS_MAX];
    int n_trim;
    struct bpe bpe;
    struct wordpiece wp;        /* WordLevel: `unk` only */
    struct unigram uni;
    struct regex *regexes;
    int32_t eot[EOT_MAX];
    int n_eot;
    struct jinja *chat;         /* NULL: no template, or one with an error */
    bool chat_parts;            /* it takes contents that are lists of parts */
    bool add_prefix;            /* SentencePiece: a space before the text */
    struct idle *idle;          /* encoders that no thread uses */
    struct tok_file files[FILES_MAX];
    int n_files;
    const struct store *store;  /* where it came from, if GGUF */
    struct json_items merges;   /* of tokenizer.json, while it is read */
};

/* Words met before, with their ids (words.c). */
enum { WORD_IDS = 7 };
struct words { struct word *v; int64_t cap, met; };

/* What one call of tok_encode works with.  The memory is kept for the next
 * call, by whichever thread. */
struct symbol { int32_t id, prev, next, at, len; };
struct pair_merge { int32_t rank, at, id; };
struct encoder {
    const struct tokenizer *t;
    struct ids *out;
    struct token_spans *spans;  /* NULL: not asked for */
    struct mem *mem;
    const char *text;           /* the original one */
    int64_t n_text, longest, first_id;  /* bytes; the first id of this text, in `out` */
    int32_t part;
    struct aligned now;            /* what the pieces point into */
    bool plain;                 /* special tokens are text */
    bool first;                 /* this part begins where the text begins */
    struct draft norm[2], step[STEPS_MAX];
    struct buf own[STEPS_MAX + 1], word;    /* own: spans of what is rewritten first */
    bool mapped;                /* bytes are written out as characters after all */
    struct words words;
    const char *word_at;        /* the word being encoded, where its ids end, */
    int64_t n_ends, ends[WORD_IDS];     /* and how many there are */
    struct symbol *symbols;
    int64_t n_symbols, cap_symbols;
    struct pair_merge *heap;
    int64_t n_heap, cap_heap;
    struct unigram_best *best;  /* by position in the text */
    int64_t cap_best;
};
/* vocab.c: building */
int tok_new(struct host *h, struct tokenizer **out);
int tok_set_token(struct tokenizer *t, int64_t id, const char *s, int64_t n, int64_t n_entries);
int tok_add(struct tokenizer *t, const struct added *a, int64_t n_entries);
int32_t tok_model_id(const struct tokenizer *t, const char *s, int64_t n);
/* words.c */
int words_prepare(struct tokenizer *t);
int words_encode(struct encoder *e, const char *s, int64_t n);
void words_free(struct words *w, struct mem *m);
/* Called once all parts are there. */
int tok_finish(struct tokenizer *t);

/* tokenizer.c */
/* Appends an id that stands for n bytes at s, which point into e->now. */
void token_push(struct encoder *e, int32_t id, const char *s, int64_t n);
/* The span of the id with this index, which may be there already. */
void token_push_span(struct encoder *e, int32_t id, int64_t index, const char *s, int64_t n);
/* The same for an added token, whose text is that of the input. */
void token_push_added(struct encoder *e, int32_t id, const char *s, int64_t n);
/* Takes back the ids from `n` on. */
void token_drop(struct encoder *e, int64_t n);
/* What n bytes at s, in e->now, stand for. */
struct span token_span(const struct encoder *e, const char *s, int64_t n);
/* x, a part of e->now, gets its spans if they are asked for; `own` holds them
 * when it lies in the original text. */
int token_spans_of(struct encoder *e, struct buf *own, struct aligned *x);

/* added.c */
int trie_add(struct tokenizer *t, struct trie *r, const char *s, int64_t n, int32_t added);
/* The longest added token at s, or -1. */
int32_t trie_match(const struct trie *r, const char *s, int64_t n, int64_t *len);
/* Cuts the text at added tokens: ids go to `out`, the rest to `part`. */
int added_cut(struct encoder *e, const struct trie *r, const char *s, int64_t n,
              int (*part)(struct encoder *e, const char *s, int64_t n, bool first));

/* normal.c, pre.c, bpe.c, wordpiece.c: each appends to e->out in the end */
int normalize(const struct tokenizer *t, struct draft two[2], struct aligned *x);
int split_run(struct encoder *e, int step, const char *s, int64_t n);
int split_rewrite(struct encoder *e, int step, const char *s, int64_t n);
/* Bytes as the characters that stand for them. */
void write_bytes(struct draft *d, const struct aligned *in);
int bpe_reserve(struct tokenizer *t, int64_t n_merges);
int bpe_add_merge(struct tokenizer *t, const char *a, int64_t na, const char *b, int64_t nb);
/* What the merge of two tokens makes, or -1. */
int32_t bpe_merged(const struct tokenizer *t, int32_t left, int32_t right);
/* Turns scores into ranks; `score` by id, NaN = never the result of a merge. */
int bpe_set_scores(struct tokenizer *t, const float *score);
int bpe_encode(struct encoder *e, const char *s, int64_t n);
int wordpiece_encode(struct encoder *e, const char *s, int64_t n);
int wordlevel_encode(struct encoder *e, const char *s, int64_t n);
int unigram_encode(struct encoder *e, const char *s, int64_t n);
/* Takes what `score` of t->n ids holds; the vocabulary is complete. */
int unigram_build(struct tokenizer *t);
void unigram_free(struct tokenizer *t);
/* By enum model_kind; a row without `kind` ends the table. */
struct tok_model {
    const char *kind;           /* tok_info.kind */
    const char *json, *gguf;    /* model.type, tokenizer.ggml.model; NULL = cannot be */
    int (*encode)(struct encoder *e, const char *s, int64_t n);
};
extern const struct tok_model tok_models[];

/* Parts that several readers need. */
struct split_step *split_push(struct tokenizer *t, enum split_kind kind);
int split_push_find(struct tokenizer *t, find_fn *find, enum split_how how);
int split_push_byte_level(struct tokenizer *t, bool prefix_space, bool use_regex);
struct norm_step *norm_push(struct tokenizer *t, enum norm_kind kind);
struct decode_step *decode_push(struct tokenizer *t, enum decode_kind kind);
int decode_push_spm(struct tokenizer *t, bool strip);
/* Spaces of the text become U+2581, and one is put before it if `prefix`. */
int norm_push_spm(struct tokenizer *t, bool prefix);
/* Words, each with U+2581 before it, as T5 and XLM-R have them. */
int split_push_words(struct tokenizer *t, bool prefix);
int trim_push(struct tokenizer *t, bool prefix_space);
int post_push(struct post *p, enum post_kind kind, int32_t id, int32_t type);
/* [bos] A [eos], and the pair [bos] A [eos] [bos] B [eos]; -1 = none. */
int post_simple(struct tokenizer *t, int32_t bos, int32_t eos);
int post_bert(struct tokenizer *t, int32_t cls, int32_t sep);
/* BERT without tokenizer.json: all its parts. */
int wordpiece_defaults(struct tokenizer *t, bool lower, const char *unk);
#define SPM_SPACE "\xe2\x96\x81"       /* U+2581, SentencePiece's space */

/* load_parts.c, load_json.c: tokenizer.json and vocab.json */
int tok_read_parts(struct tokenizer *t, const json *root);
int tok_read_json(struct tokenizer *t, const json *root);
int tok_read_vocab(struct tokenizer *t, const json *vocab, int64_t n_entries);
/* load_legacy.c: folders without tokenizer.json.  `config` may be NULL. */
int tok_read_vocab_txt(struct tokenizer *t, const struct file_view *vocab, const json *config);
int tok_read_vocab_merges(struct tokenizer *t, const json *vocab, const struct file_view *merges,
                          const json *config);
/* load_spm.c: a SentencePiece model in a folder.  The jsons may be NULL. */
int tok_read_spm(struct tokenizer *t, const struct file_view *model, const json *config,
                 const json *special, const json *model_config);
/* The text of a special token in a config: a string or an object with
 * "content"; NULL = none. */
const char *tok_content(const json *config, const char *name);
/* Makes a token of the vocabulary a special one. */
int tok_add_special(struct tokenizer *t, const char *s);

/* template.c: parses info.chat_template.  One with an error is not kept, and
 * the error is that of chat_render. */
int chat_prepare(struct tokenizer *t);

#endif
