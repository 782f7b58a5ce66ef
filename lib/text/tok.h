/* Rank 3, inside lib/text: the parts of a tokenizer, in the order in which a
 * text passes them.
 *
 *   text -> added tokens cut out -> normalizers -> added tokens again ->
 *   splits -> model (BPE, WordPiece) -> template with BOS, [CLS] ... -> ids
 *
 * The parts are those of the Hugging Face library `tokenizers`, and have its
 * exact meaning; GGUF metadata is turned into the same parts. */
#ifndef TEXT_TOK_H
#define TEXT_TOK_H

#include "text/text.h"
#include "text/unicode.h"

enum { STEPS_MAX = 12, POST_MAX = 16, EOT_MAX = 16, FILES_MAX = 10 };

/* --- vocabulary */
enum {
    TOKEN_SPECIAL = 1,
    TOKEN_ADDED = 2,
    TOKEN_MODEL = 4,    /* known to the model, not only added */
    TOKEN_NORMALIZED = 8    /* an added one whose normalized text is another */
};
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

/* --- normalizers: text -> text */
enum norm_kind { NORM_FORM, NORM_LOWER, NORM_STRIP, NORM_STRIP_MARKS, NORM_PREPEND, NORM_REPLACE,
                 NORM_BERT };
struct norm_step {
    enum norm_kind kind;
    enum uni_form form;
    const char *from, *to;      /* replace; prepend: `to` */
    int64_t n_from, n_to;
    bool left, right;           /* strip */
    bool clean, han, accents, lower;    /* BERT */
};

/* --- splits: text -> pieces */
enum split_kind { SPLIT_FIND, SPLIT_PREFIX_SPACE, SPLIT_BYTES, SPLIT_METASPACE };
enum split_how { HOW_ISOLATED, HOW_REMOVED, HOW_CONTIGUOUS, HOW_MERGED_PREVIOUS, HOW_MERGED_NEXT };
enum prepend { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };
struct split_step;
/* End of the span that begins at `at` < n, and whether it is a match. */
typedef int64_t find_fn(const struct split_step *p, const char *s, int64_t n, int64_t at,
                        bool *match);
struct split_step {
    enum split_kind kind;
    find_fn *find;
    enum split_how how;
    bool invert;
    const char *text;           /* a literal to find; metaspace: its character */
    int64_t n_text;
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
find_fn find_gpt2, find_number, find_digits, find_space, find_punct, find_literal, find_words;

/* --- decoders: tokens -> text */
enum decode_kind { DECODE_BYTES, DECODE_WORDPIECE, DECODE_METASPACE, DECODE_REPLACE,
                   DECODE_BYTE_FALLBACK, DECODE_FUSE, DECODE_STRIP };
struct decode_step {
    enum decode_kind kind;
    const char *from, *to;      /* replace; wordpiece: prefix; metaspace: char */
    int64_t n_from, n_to;
    int64_t start, stop;        /* strip */
    bool cleanup;               /* wordpiece */
    enum prepend prepend;       /* metaspace */
};

/* --- post-processor */
enum post_kind { POST_TOKEN, POST_A, POST_B };
struct post_item { enum post_kind kind; int32_t id, type; };
struct post { struct post_item items[POST_MAX]; int n; };

/* --- models */
enum model_kind {
    MODEL_BPE,          /* pairs of ids merge by rank */
    MODEL_SCORES,       /* SentencePiece in GGUF: neighbours merge when the
                         * joined text is a token, highest score first */
    MODEL_WORDPIECE
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
    bool has_decoder;
    struct post single, pair;
    struct bpe bpe;
    struct wordpiece wp;
    int32_t eot[EOT_MAX];
    int n_eot;
    struct jinja *chat;         /* NULL: no template, or one with an error */
    bool chat_parts;            /* it takes contents that are lists of parts */
    bool add_prefix;            /* SentencePiece: a space before the text */
    struct tok_file files[FILES_MAX];
    int n_files;
    const struct store *store;  /* where it came from, if GGUF */
    struct json_items merges;   /* of tokenizer.json, while it is read */
};

/* What one call of tok_encode works with. */
struct symbol { int32_t id, prev, next, at, len; };
struct pair_merge { int32_t rank, at, id; };
struct encoder {
    const struct tokenizer *t;
    struct ids *out;
    struct mem *mem;
    bool plain;                 /* special tokens are text */
    bool first;                 /* this part begins where the text begins */
    struct buf norm[2], step[STEPS_MAX], word;
    struct symbol *symbols;
    int64_t n_symbols, cap_symbols;
    struct pair_merge *heap;
    int64_t n_heap, cap_heap;
};
/* vocab.c: building */
int tok_new(struct host *h, struct tokenizer **out);
int tok_set_token(struct tokenizer *t, int64_t id, const char *s, int64_t n, int64_t n_entries);
int tok_add(struct tokenizer *t, const struct added *a, int64_t n_entries);
int32_t tok_model_id(const struct tokenizer *t, const char *s, int64_t n);
/* Called once all parts are there. */
int tok_finish(struct tokenizer *t);

/* added.c */
int trie_add(struct tokenizer *t, struct trie *r, const char *s, int64_t n, int32_t added);
/* The longest added token at s, or -1. */
int32_t trie_match(const struct trie *r, const char *s, int64_t n, int64_t *len);
/* Cuts the text at added tokens: ids go to `out`, the rest to `part`. */
int added_cut(struct encoder *e, const struct trie *r, const char *s, int64_t n,
              int (*part)(struct encoder *e, const char *s, int64_t n, bool first));

/* normal.c, pre.c, bpe.c, wordpiece.c: each appends to e->out in the end */
int normalize(const struct tokenizer *t, struct buf two[2], const char **s, int64_t *n);
int split_run(struct encoder *e, int step, const char *s, int64_t n);
int bpe_reserve(struct tokenizer *t, int64_t n_merges);
int bpe_add_merge(struct tokenizer *t, const char *a, int64_t na, const char *b, int64_t nb);
/* What the merge of two tokens makes, or -1. */
int32_t bpe_merged(const struct tokenizer *t, int32_t left, int32_t right);
/* Turns scores into ranks; `score` by id, NaN = never the result of a merge. */
int bpe_set_scores(struct tokenizer *t, const float *score);
int bpe_encode(struct encoder *e, const char *s, int64_t n);
int wordpiece_encode(struct encoder *e, const char *s, int64_t n);

/* Parts that several readers need. */
struct split_step *split_push(struct tokenizer *t, enum split_kind kind);
int split_push_find(struct tokenizer *t, find_fn *find, enum split_how how);
int split_push_byte_level(struct tokenizer *t, bool prefix_space, bool use_regex);
struct norm_step *norm_push(struct tokenizer *t, enum norm_kind kind);
struct decode_step *decode_push(struct tokenizer *t, enum decode_kind kind);
int decode_push_spm(struct tokenizer *t, bool strip);
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
/* The text of a special token in a config: a string or an object with
 * "content"; NULL = none. */
const char *tok_content(const json *config, const char *name);
/* Makes a token of the vocabulary a special one. */
int tok_add_special(struct tokenizer *t, const char *s);

/* template.c: parses info.chat_template.  One with an error is not kept, and
 * the error is that of chat_render. */
int chat_prepare(struct tokenizer *t);

#endif
