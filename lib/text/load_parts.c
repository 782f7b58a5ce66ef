/* tokenizer.json's normalizer, pre_tokenizer, post_processor and decoder.  Each
 * component has a "type"; a table says how one is read.  A type, an option or
 * an expression that is not known is refused by name, never guessed. */
#include "text/tok.h"

enum { LITERAL_MAX = 64, DEPTH_MAX = 8 };

struct part_type {
    const char *type;
    int (*read)(struct tokenizer *t, const json *j, int depth);
};

/* A component that is a table row; `what` names the kind in messages. */
static int read_component(struct tokenizer *t, const json *j, const char *what,
                     const struct part_type *rows, size_t n, int depth)
{
    if (!j || json_kind(j) == JSON_NULL) return PEFT_OK;
    const char *type = json_string(json_get(j, "type"));
    if (!type) return fail(PEFT_EFORMAT, "tokenizer.json: a %s without \"type\"", what);
    if (depth > DEPTH_MAX) return fail(PEFT_EUNSUPPORTED, "tokenizer.json: %s too deep", what);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(type, rows[i].type)) return rows[i].read(t, j, depth);
    return fail(PEFT_EUNSUPPORTED, "tokenizer.json: %s of type \"%.60s\" is not supported", what,
                type);
}

/* The members of a Sequence, each read by `each`. */
static int read_sequence(struct tokenizer *t, const json *j, const char *member, int depth,
                         int (*each)(struct tokenizer *, const json *, int))
{
    const json *list = json_get(j, member);
    if (!list || json_kind(list) != JSON_ARRAY)
        return fail(PEFT_EFORMAT, "tokenizer.json: a Sequence without \"%s\"", member);
    int rc = PEFT_OK;
    for (const json *k = json_first(list); k && rc == PEFT_OK; k = json_next(k))
        rc = each(t, k, depth + 1);
    return rc;
}

/* A short string of the component, copied: 1 .. LITERAL_MAX bytes. */
static int read_literal(struct tokenizer *t, const json *j, const char *type, const char *member,
                        const char **s, int64_t *n)
{
    const char *text = json_string(json_get(j, member));
    if (!text) return fail(PEFT_EFORMAT, "tokenizer.json: %s without string \"%s\"", type, member);
    *n = (int64_t)strlen(text);
    if (*n < 1 || *n > LITERAL_MAX)
        return fail(PEFT_EUNSUPPORTED, "tokenizer.json: %s with a \"%s\" of %lld bytes", type,
                    member, (long long)*n);
    *s = arena_strndup(&t->arena, text, *n);
    return *s ? PEFT_OK : PEFT_ENOMEM;
}

/* --- normalizers */

static int read_normalizer(struct tokenizer *t, const json *j, int depth);

static int norm_sequence(struct tokenizer *t, const json *j, int depth)
{
    return read_sequence(t, j, "normalizers", depth, read_normalizer);
}

static int norm_form(struct tokenizer *t, const json *j, int depth)
{
    static const char *const names[] = {"NFC", "NFD", "NFKC", "NFKD"};
    (void)depth;
    struct norm_step *p = norm_push(t, NORM_FORM);
    if (!p) return PEFT_EUNSUPPORTED;
    const char *type = json_string(json_get(j, "type"));
    for (int i = 0; i < 4; i++)
        if (!strcmp(type, names[i])) p->form = (enum uni_form)i;
    return PEFT_OK;
}

/* Those without options. */
static int norm_plain(struct tokenizer *t, const json *j, int depth)
{
    static const struct { const char *type; enum norm_kind kind; } rows[] = {
        {"Lowercase", NORM_LOWER}, {"StripAccents", NORM_STRIP_MARKS}, {"Nmt", NORM_NMT},
        {"ByteLevel", NORM_BYTES},
    };
    const char *type = json_string(json_get(j, "type"));
    (void)depth;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (!strcmp(type, rows[i].type))
            return norm_push(t, rows[i].kind) ? PEFT_OK : PEFT_EUNSUPPORTED;
    return PEFT_EUNSUPPORTED;
}

static int norm_precompiled(struct tokenizer *t, const json *j, int depth)
{
    const char *text = json_string(json_get(j, "precompiled_charsmap"));
    const uint8_t *raw;
    int64_t n;
    (void)depth;
    if (!text)
        return fail(PEFT_EFORMAT, "tokenizer.json: Precompiled without \"precompiled_charsmap\"");
    struct norm_step *p = norm_push(t, NORM_CHARSMAP);
    if (!p) return PEFT_EUNSUPPORTED;
    int rc = charsmap_base64(&t->arena, text, &raw, &n);
    return rc < 0 ? rc : charsmap_open(&p->charsmap, raw, n);
}

static int norm_strip_space(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    struct norm_step *p = norm_push(t, NORM_STRIP);
    if (!p) return PEFT_EUNSUPPORTED;
    p->left = json_bool(json_get(j, "strip_left"), 1);
    p->right = json_bool(json_get(j, "strip_right"), 1);
    return PEFT_OK;
}

static int norm_prepend(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    struct norm_step *p = norm_push(t, NORM_PREPEND);
    return p ? read_literal(t, j, "Prepend", "prepend", &p->to, &p->n_to) : PEFT_EUNSUPPORTED;
}

/* {"String": literal} or {"Regex": expression}, which leaves *n at 0. */
static int read_pattern(struct tokenizer *t, const json *j, const char *type, const char **s,
                        int64_t *n, struct expr *expr)
{
    const char *regex = json_string(json_get(j, "pattern.Regex"));
    *n = 0;
    if (regex) return expr_compile(t, regex, expr);
    return read_literal(t, json_get(j, "pattern"), type, "String", s, n);
}

static int read_content(struct tokenizer *t, const json *j, const char *type, const char **s,
                        int64_t *n)
{
    const char *content = json_string(json_get(j, "content"));
    *s = "", *n = 0;
    return content && !*content ? PEFT_OK : read_literal(t, j, type, "content", s, n);
}

static int norm_replace_read(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    struct norm_step *p = norm_push(t, NORM_REPLACE);
    if (!p) return PEFT_EUNSUPPORTED;
    int rc = read_pattern(t, j, "Replace", &p->from, &p->n_from, &p->expr);
    return rc < 0 ? rc : read_content(t, j, "Replace", &p->to, &p->n_to);
}

static int norm_bert_read(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    struct norm_step *p = norm_push(t, NORM_BERT);
    if (!p) return PEFT_EUNSUPPORTED;
    p->clean = json_bool(json_get(j, "clean_text"), 1);
    p->han = json_bool(json_get(j, "handle_chinese_chars"), 1);
    p->lower = json_bool(json_get(j, "lowercase"), 1);
    p->accents = json_bool(json_get(j, "strip_accents"), p->lower);
    return PEFT_OK;
}

static int read_normalizer(struct tokenizer *t, const json *j, int depth)
{
    static const struct part_type rows[] = {
        {"Sequence", norm_sequence}, {"NFC", norm_form}, {"NFD", norm_form},
        {"NFKC", norm_form}, {"NFKD", norm_form}, {"Lowercase", norm_plain},
        {"StripAccents", norm_plain}, {"Nmt", norm_plain}, {"ByteLevel", norm_plain},
        {"Strip", norm_strip_space}, {"Prepend", norm_prepend}, {"Replace", norm_replace_read},
        {"Precompiled", norm_precompiled}, {"BertNormalizer", norm_bert_read},
    };
    return read_component(t, j, "normalizer", rows, ARRAY_LEN(rows), depth);
}

/* --- pre-tokenizers */

static int read_splitter(struct tokenizer *t, const json *j, int depth);

static int split_sequence(struct tokenizer *t, const json *j, int depth)
{
    return read_sequence(t, j, "pretokenizers", depth, read_splitter);
}

static int split_byte_level(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    return split_push_byte_level(t, json_bool(json_get(j, "add_prefix_space"), 1),
                                 json_bool(json_get(j, "use_regex"), 1));
}

static int split_digits(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    bool each = json_bool(json_get(j, "individual_digits"), 0);
    return split_push_find(t, find_number, each ? HOW_ISOLATED : HOW_CONTIGUOUS);
}

static int read_how(const json *j, enum split_how *how)
{
    static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious",
                                        "MergedWithNext"};
    const char *name = json_string(json_get(j, "behavior"));
    for (int i = 0; name && i < (int)ARRAY_LEN(names); i++)
        if (!strcmp(name, names[i])) return *how = (enum split_how)i, PEFT_OK;
    return name ? fail(PEFT_EUNSUPPORTED, "tokenizer.json: split behavior \"%.60s\"", name)
                : PEFT_OK;
}

static int split_by_pattern(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    struct split_step *p = split_push(t, SPLIT_FIND);
    if (!p) return PEFT_EUNSUPPORTED;
    p->invert = json_bool(json_get(j, "invert"), 0);
    int rc = read_how(j, &p->how);
    if (rc < 0) return rc;
    struct expr expr = {.find = find_literal};
    rc = read_pattern(t, j, "Split", &p->text, &p->n_text, &expr);
    p->find = expr.find;
    p->regex = expr.regex;
    return rc;
}

static int split_char(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    int rc = split_push_find(t, find_literal, HOW_REMOVED);
    if (rc < 0) return rc;
    struct split_step *p = &t->split[t->n_split - 1];
    return read_literal(t, j, "CharDelimiterSplit", "delimiter", &p->text, &p->n_text);
}

static int split_length(struct tokenizer *t, const json *j, int depth)
{
    int64_t length = 5;
    (void)depth;
    int rc = json_int(j, "length", 1, INT32_MAX, &length);
    if (rc >= 0) rc = split_push_find(t, find_length, HOW_ISOLATED);
    if (rc == PEFT_OK) t->split[t->n_split - 1].n_text = length;
    return rc;
}

static int split_punctuation(struct tokenizer *t, const json *j, int depth)
{
    enum split_how how = HOW_ISOLATED;
    (void)depth;
    int rc = read_how(j, &how);
    return rc < 0 ? rc : split_push_find(t, find_punct, how);
}

static int split_bert(struct tokenizer *t, const json *j, int depth)
{
    (void)j, (void)depth;
    int rc = split_push_find(t, find_space, HOW_REMOVED);
    return rc < 0 ? rc : split_push_find(t, find_punct, HOW_ISOLATED);
}

static int split_whitespace(struct tokenizer *t, const json *j, int depth)
{
    (void)j, (void)depth;
    int rc = split_push_find(t, find_words, HOW_REMOVED);
    if (rc == PEFT_OK) t->split[t->n_split - 1].invert = true;
    return rc;
}

static int split_whitespace_only(struct tokenizer *t, const json *j, int depth)
{
    (void)j, (void)depth;
    return split_push_find(t, find_space, HOW_REMOVED);
}

static int read_prepend(const json *j, enum prepend *out)
{
    static const char *const names[] = {"always", "first", "never"};
    const char *name = json_string(json_get(j, "prepend_scheme"));
    if (!json_bool(json_get(j, "add_prefix_space"), 1)) name = "never";
    *out = PREPEND_ALWAYS;
    for (int i = 0; name && i < (int)ARRAY_LEN(names); i++)
        if (!strcmp(name, names[i])) return *out = (enum prepend)i, PEFT_OK;
    return name ? fail(PEFT_EUNSUPPORTED, "tokenizer.json: prepend_scheme \"%.60s\"", name)
                : PEFT_OK;
}

static int split_metaspace(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    struct split_step *p = split_push(t, SPLIT_METASPACE);
    if (!p) return PEFT_EUNSUPPORTED;
    int rc = read_literal(t, j, "Metaspace", "replacement", &p->text, &p->n_text);
    if (rc == PEFT_OK) rc = read_prepend(j, &p->prepend);
    if (rc < 0 || !json_bool(json_get(j, "split"), 1)) return rc;
    struct split_step *cut = split_push(t, SPLIT_FIND);
    if (!cut) return PEFT_EUNSUPPORTED;
    *cut = (struct split_step){.kind = SPLIT_FIND, .find = find_literal, .how = HOW_MERGED_NEXT,
                               .text = p->text, .n_text = p->n_text};
    return PEFT_OK;
}

static int read_splitter(struct tokenizer *t, const json *j, int depth)
{
    static const struct part_type rows[] = {
        {"Sequence", split_sequence}, {"ByteLevel", split_byte_level}, {"Digits", split_digits},
        {"Split", split_by_pattern}, {"Punctuation", split_punctuation},
        {"BertPreTokenizer", split_bert}, {"Whitespace", split_whitespace},
        {"WhitespaceSplit", split_whitespace_only}, {"Metaspace", split_metaspace},
        {"CharDelimiterSplit", split_char}, {"FixedLength", split_length},
    };
    return read_component(t, j, "pre_tokenizer", rows, ARRAY_LEN(rows), depth);
}

/* --- post-processors */

static int read_post(struct tokenizer *t, const json *j, int depth);

static int post_sequence(struct tokenizer *t, const json *j, int depth)
{
    return read_sequence(t, j, "processors", depth, read_post);
}

static int post_trim(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    return json_bool(json_get(j, "trim_offsets"), 1)
               ? trim_push(t, json_bool(json_get(j, "add_prefix_space"), 1)) : PEFT_OK;
}

static int post_special(const json *tokens, const char *name, int64_t type, struct post *p)
{
    bool named = name && tokens && json_kind(tokens) == JSON_OBJECT;
    for (const json *k = named ? json_first(tokens) : NULL; k; k = json_next(k)) {
        const json *ids = json_get(k, "ids");
        if (strcmp(json_key(k), name) || !ids || json_kind(ids) != JSON_ARRAY) continue;
        int rc = PEFT_OK;
        for (const json *id = json_first(ids); id && rc == PEFT_OK; id = json_next(id)) {
            double x = json_number(id, -1);
            if (!(x >= 0 && x < INT32_MAX) || x != (double)(int32_t)x)
                return fail(PEFT_EFORMAT, "tokenizer.json: post_processor: a bad id for \"%.60s\"",
                            name);
            rc = post_push(p, POST_TOKEN, (int32_t)x, (int32_t)type);
        }
        return rc;
    }
    return fail(PEFT_EFORMAT, "tokenizer.json: post_processor: no special token \"%.60s\"",
                name ? name : "");
}

static int post_items(const json *list, const json *tokens, struct post *p)
{
    p->n = 0;
    int rc = PEFT_OK;
    for (const json *k = json_first(list); k && rc == PEFT_OK; k = json_next(k)) {
        const json *seq = json_get(k, "Sequence"), *item = seq ? seq : json_get(k, "SpecialToken");
        const char *id = json_string(json_get(item, "id"));
        int64_t type = 0;
        if (!item || !id)
            return fail(PEFT_EFORMAT, "tokenizer.json: post_processor: an item is neither "
                        "Sequence nor SpecialToken");
        if ((rc = json_int(item, "type_id", 0, 1 << 16, &type)) < 0) return rc;
        rc = seq ? post_push(p, !strcmp(id, "B") ? POST_B : POST_A, 0, (int32_t)type)
                 : post_special(tokens, id, type, p);
    }
    return rc;
}

static int post_template(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    const json *tokens = json_get(j, "special_tokens");
    const json *single = json_get(j, "single"), *pair = json_get(j, "pair");
    int rc = single ? post_items(single, tokens, &t->single) : PEFT_OK;
    return rc < 0 || !pair ? rc : post_items(pair, tokens, &t->pair);
}

/* "sep": ["[SEP]", 102] */
static int post_id(const json *j, const char *member, int32_t *id)
{
    const json *first = json_first(json_get(j, member));
    double x = json_number(first ? json_next(first) : NULL, -1);
    if (!(x >= 0 && x < INT32_MAX) || x != (double)(int32_t)x)
        return fail(PEFT_EFORMAT, "tokenizer.json: post_processor: \"%s\" is not [text, id]",
                    member);
    *id = (int32_t)x;
    return PEFT_OK;
}

static int post_bert_read(struct tokenizer *t, const json *j, int depth)
{
    int32_t cls, sep;
    (void)depth;
    int rc = post_id(j, "cls", &cls);
    if (rc == PEFT_OK) rc = post_id(j, "sep", &sep);
    return rc < 0 ? rc : post_bert(t, cls, sep);
}

/* <s> A </s> and <s> A </s> </s> B </s>, all of type 0. */
static int post_roberta_read(struct tokenizer *t, const json *j, int depth)
{
    int rc = post_trim(t, j, depth);
    if (rc == PEFT_OK) rc = post_bert_read(t, j, depth);
    if (rc < 0) return rc;
    int32_t sep = t->single.items[2].id;
    t->pair = t->single;
    post_push(&t->pair, POST_TOKEN, sep, 0);
    post_push(&t->pair, POST_B, 0, 0);
    return post_push(&t->pair, POST_TOKEN, sep, 0);
}

static int read_post(struct tokenizer *t, const json *j, int depth)
{
    static const struct part_type rows[] = {
        {"Sequence", post_sequence}, {"ByteLevel", post_trim},
        {"TemplateProcessing", post_template}, {"BertProcessing", post_bert_read},
        {"RobertaProcessing", post_roberta_read},
    };
    return read_component(t, j, "post_processor", rows, ARRAY_LEN(rows), depth);
}

/* --- decoders */

static int read_decoder(struct tokenizer *t, const json *j, int depth);

static int decode_sequence(struct tokenizer *t, const json *j, int depth)
{
    return read_sequence(t, j, "decoders", depth, read_decoder);
}

static int decode_plain(struct tokenizer *t, const json *j, int depth)
{
    const char *type = json_string(json_get(j, "type"));
    (void)depth;
    enum decode_kind kind = !strcmp(type, "ByteLevel") ? DECODE_BYTES
                            : !strcmp(type, "Fuse") ? DECODE_FUSE : DECODE_BYTE_FALLBACK;
    return decode_push(t, kind) ? PEFT_OK : PEFT_EUNSUPPORTED;
}

static int decode_wordpiece(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    struct decode_step *d = decode_push(t, DECODE_WORDPIECE);
    if (!d) return PEFT_EUNSUPPORTED;
    d->cleanup = json_bool(json_get(j, "cleanup"), 1);
    return read_literal(t, j, "WordPiece", "prefix", &d->from, &d->n_from);
}

static int decode_metaspace(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    struct decode_step *d = decode_push(t, DECODE_METASPACE);
    if (!d) return PEFT_EUNSUPPORTED;
    int rc = read_prepend(j, &d->prepend);
    return rc < 0 ? rc : read_literal(t, j, "Metaspace", "replacement", &d->from, &d->n_from);
}

static int decode_replace(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    struct decode_step *d = decode_push(t, DECODE_REPLACE);
    if (!d) return PEFT_EUNSUPPORTED;
    int rc = read_pattern(t, j, "Replace", &d->from, &d->n_from, &d->expr);
    return rc < 0 ? rc : read_content(t, j, "Replace", &d->to, &d->n_to);
}

static int decode_strip(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    struct decode_step *d = decode_push(t, DECODE_STRIP);
    if (!d) return PEFT_EUNSUPPORTED;
    int rc = json_int(j, "start", 0, 1 << 20, &d->start);
    if (rc >= 0) rc = json_int(j, "stop", 0, 1 << 20, &d->stop);
    return rc < 0 ? rc : read_literal(t, j, "Strip", "content", &d->from, &d->n_from);
}

static int decode_suffix(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    struct decode_step *d = decode_push(t, DECODE_SUFFIX);
    return d ? read_literal(t, j, "BPEDecoder", "suffix", &d->from, &d->n_from)
             : PEFT_EUNSUPPORTED;
}

static int decode_ctc_read(struct tokenizer *t, const json *j, int depth)
{
    (void)depth;
    struct decode_step *d = decode_push(t, DECODE_CTC);
    if (!d) return PEFT_EUNSUPPORTED;
    d->cleanup = json_bool(json_get(j, "cleanup"), 1);
    int rc = read_literal(t, j, "CTC", "pad_token", &d->from, &d->n_from);
    return rc < 0 ? rc : read_literal(t, j, "CTC", "word_delimiter_token", &d->to, &d->n_to);
}

static int read_decoder(struct tokenizer *t, const json *j, int depth)
{
    static const struct part_type rows[] = {
        {"Sequence", decode_sequence}, {"ByteLevel", decode_plain}, {"Fuse", decode_plain},
        {"ByteFallback", decode_plain}, {"WordPiece", decode_wordpiece},
        {"Metaspace", decode_metaspace}, {"Replace", decode_replace}, {"Strip", decode_strip},
        {"BPEDecoder", decode_suffix}, {"CTC", decode_ctc_read},
    };
    return read_component(t, j, "decoder", rows, ARRAY_LEN(rows), depth);
}

int tok_read_parts(struct tokenizer *t, const json *root)
{
    const json *decoder = json_get(root, "decoder");
    int rc = read_normalizer(t, json_get(root, "normalizer"), 0);
    if (rc == PEFT_OK) rc = read_splitter(t, json_get(root, "pre_tokenizer"), 0);
    if (rc == PEFT_OK) rc = read_post(t, json_get(root, "post_processor"), 0);
    if (rc == PEFT_OK) rc = read_decoder(t, decoder, 0);
    t->has_decoder = decoder && json_kind(decoder) != JSON_NULL;
    return rc;
}
