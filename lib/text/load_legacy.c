/* Folders from before tokenizer.json: vocab.txt (BERT), and vocab.json with
 * merges.txt.  What these files do not say, the tokenizer's class does. */
#include "text/tok.h"

/* The next line of a text file, without its end; false at the end. */
static bool view_line(const struct file_view *v, int64_t *at, const char **s, int64_t *n)
{
    if (*at >= v->n) return false;
    const char *from = (const char *)v->data + *at;
    const char *end = memchr(from, '\n', (size_t)(v->n - *at));
    *s = from;
    *n = end ? end - from : v->n - *at;
    *at += *n + 1;
    while (*n > 0 && (from[*n - 1] == '\r' || from[*n - 1] == '\n')) --*n;
    return true;
}

const char *tok_content(const json *config, const char *name)
{
    const json *j = json_get(config, name);
    const char *s = json_string(j);
    return s ? s : json_string(json_get(j, "content"));
}

int tok_add_special(struct tokenizer *t, const char *s)
{
    int64_t n = s ? (int64_t)strlen(s) : 0;
    struct added a = {.id = n > 0 ? tok_model_id(t, s, n) : -1, .n = (int32_t)n, .special = true};
    if (a.id < 0) return PEFT_OK;
    a.s = t->tokens[a.id].s;
    return tok_add(t, &a, t->n);
}

static int add_specials(struct tokenizer *t, const json *config, const char *const names[][2],
                        size_t n)
{
    int rc = PEFT_OK;
    for (size_t i = 0; i < n && rc == PEFT_OK; i++) {
        const char *s = tok_content(config, names[i][0]);
        rc = tok_add_special(t, s ? s : names[i][1]);
    }
    return rc;
}

int tok_read_vocab_txt(struct tokenizer *t, const struct file_view *vocab, const json *config)
{
    static const char *const names[][2] = {
        {"unk_token", "[UNK]"}, {"sep_token", "[SEP]"}, {"pad_token", "[PAD]"},
        {"cls_token", "[CLS]"}, {"mask_token", "[MASK]"},
    };
    const char *s;
    int64_t n, at = 0, id = 0, n_lines = 0;
    int rc = PEFT_OK;
    while (view_line(vocab, &at, &s, &n)) n_lines++;
    for (at = 0; rc == PEFT_OK && view_line(vocab, &at, &s, &n); id++) {
        /* The line may lie in a mapped file, which outlives the vocabulary. */
        rc = tok_set_token(t, id, s, n, n_lines);
    }
    if (rc < 0) return fail_in(rc, "vocab.txt: ");
    const char *unk = tok_content(config, "unk_token");
    rc = wordpiece_defaults(t, json_bool(json_get(config, "do_lower_case"), 1),
                            unk ? unk : "[UNK]");
    if (rc < 0) return rc;
    t->norm[0].han = json_bool(json_get(config, "tokenize_chinese_chars"), t->norm[0].han);
    t->norm[0].accents = json_bool(json_get(config, "strip_accents"), t->norm[0].accents);
    if ((rc = add_specials(t, config, names, ARRAY_LEN(names))) < 0) return rc;
    const char *cls = tok_content(config, "cls_token"), *sep = tok_content(config, "sep_token");
    int32_t cls_id = tok_lookup(t, cls ? cls : "[CLS]");
    int32_t sep_id = tok_lookup(t, sep ? sep : "[SEP]");
    return cls_id >= 0 && sep_id >= 0 ? post_bert(t, cls_id, sep_id) : PEFT_OK;
}

/* How the classes of transformers split; the first row is for folders that
 * name no class. */
static const struct { const char *class_name, *pre; bool roberta; } legacy_classes[] = {
    {"GPT2Tokenizer", "gpt-2", false},
    {"GPT2TokenizerFast", "gpt-2", false},
    {"CodeGenTokenizer", "gpt-2", false},
    {"CodeGenTokenizerFast", "gpt-2", false},
    {"Qwen2Tokenizer", "qwen2", false},
    {"Qwen2TokenizerFast", "qwen2", false},
    {"RobertaTokenizer", "gpt-2", true},
    {"RobertaTokenizerFast", "gpt-2", true},
};

static int legacy_parts(struct tokenizer *t, const json *config)
{
    const char *name = json_string(json_get(config, "tokenizer_class"));
    if (!name) name = legacy_classes[0].class_name;
    size_t row = 0;
    while (row < ARRAY_LEN(legacy_classes) && strcmp(name, legacy_classes[row].class_name)) row++;
    if (row == ARRAY_LEN(legacy_classes))
        return fail(PEFT_EUNSUPPORTED, "tokenizer_class \"%.60s\" with vocab.json and no "
                    "tokenizer.json", name);
    const struct split_pre *pre = split_pre_find(legacy_classes[row].pre);
    if (pre->nfc && !norm_push(t, NORM_FORM)) return PEFT_EUNSUPPORTED;
    if (json_bool(json_get(config, "add_prefix_space"), 0) && !split_push(t, SPLIT_PREFIX_SPACE))
        return PEFT_EUNSUPPORTED;
    int rc = split_push_find(t, split_regex(pre->regex[0]), HOW_ISOLATED);
    if (rc < 0) return rc;
    if (!split_push(t, SPLIT_BYTES) || !decode_push(t, DECODE_BYTES)) return PEFT_EUNSUPPORTED;
    t->has_decoder = true;
    int32_t bos = tok_lookup(t, "<s>"), eos = tok_lookup(t, "</s>");
    if (!legacy_classes[row].roberta || bos < 0 || eos < 0) return PEFT_OK;
    trim_push(t, json_bool(json_get(config, "add_prefix_space"), 0));
    post_bert(t, bos, eos);
    t->pair = (struct post){{{POST_TOKEN, bos, 0}, {POST_A, 0, 0}, {POST_TOKEN, eos, 0},
                             {POST_TOKEN, eos, 0}, {POST_B, 0, 0}, {POST_TOKEN, eos, 0}}, 6};
    return PEFT_OK;
}

int tok_read_vocab_merges(struct tokenizer *t, const json *vocab, const struct file_view *merges,
                          const json *config)
{
    static const char *const names[][2] = {
        {"bos_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"},
        {"unk_token", "<|endoftext|>"}, {"pad_token", NULL}, {"cls_token", NULL},
        {"sep_token", NULL}, {"mask_token", NULL},
    };
    const char *s;
    int64_t n, at = 0, n_lines = 0;
    t->model = MODEL_BPE;
    int rc = tok_read_vocab(t, vocab, json_count(vocab));
    if (rc < 0) return fail_in(rc, "vocab.json: ");
    while (view_line(merges, &at, &s, &n)) n_lines++;
    rc = bpe_reserve(t, n_lines);
    for (at = 0; rc == PEFT_OK && view_line(merges, &at, &s, &n);) {
        if (n == 0 || (n >= 8 && !memcmp(s, "#version", 8))) continue;
        const char *space = memchr(s, ' ', (size_t)n);
        if (!space) return fail(PEFT_EFORMAT, "merges.txt: \"%.*s\" is not two tokens",
                                (int)MIN(n, 60), s);
        rc = bpe_add_merge(t, s, space - s, space + 1, n - (space + 1 - s));
    }
    if (rc < 0) return fail_in(rc, "merges.txt: ");
    if ((rc = legacy_parts(t, config)) < 0) return rc;
    return add_specials(t, config, names, ARRAY_LEN(names));
}
