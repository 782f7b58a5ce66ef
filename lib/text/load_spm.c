/* A SentencePiece model in a folder without tokenizer.json: protobuf's wire
 * format (sentencepiece_model.proto), of which these fields are read.
 *
 *   ModelProto      1 pieces, 2 trainer, 3 normalizer
 *   piece           1 text, 2 score (float), 3 type: 1 normal, 2 unknown,
 *                   3 control, 4 user defined, 5 unused, 6 byte
 *   trainer         3 model type: 1 Unigram, 2 BPE, 3 word, 4 character;
 *                   35 byte fallback; 40-43 ids of unk, bos, eos, pad
 *   normalizer      2 character map, 3 add a space before the text, 4 remove
 *                   spaces that are too many
 *
 * A file says nothing of the tokens that a model's authors put around texts,
 * or of ids that they moved: that is what a tokenizer's class stands for. */
#include "text/tok.h"

#include <math.h>

enum { SPM_UNIGRAM = 1, SPM_BPE = 2 };
enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };
/* A longer piece has too many ways to be cut in two. */
enum { MERGED_MAX = 512 };

/* --- protobuf */

struct wire { const uint8_t *start, *p, *end; };
struct field {
    int64_t number;
    int type;
    uint64_t value;             /* of a number, or the raw bits of a float */
    struct wire bytes;
};

static bool wire_varint(struct wire *w, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; w->p < w->end && shift < 64; shift += 7) {
        uint8_t byte = *w->p++;
        *out |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return true;
    }
    return false;
}

static bool wire_fixed(struct wire *w, int n, uint64_t *out)
{
    *out = 0;
    if (w->end - w->p < n) return false;
    for (int i = 0; i < n; i++) *out |= (uint64_t)w->p[i] << 8 * i;
    w->p += n;
    return true;
}

/* 1 = a field, 0 = the end. */
static int wire_next(struct wire *w, struct field *f)
{
    const uint8_t *at = w->p;
    uint64_t key = 0;
    if (w->p == w->end) return 0;
    bool ok = wire_varint(w, &key);
    *f = (struct field){.number = (int64_t)(key >> 3), .type = (int)(key & 7)};
    if (f->type == WIRE_VARINT) ok = ok && wire_varint(w, &f->value);
    else if (f->type == WIRE_64) ok = ok && wire_fixed(w, 8, &f->value);
    else if (f->type == WIRE_32) ok = ok && wire_fixed(w, 4, &f->value);
    else if (f->type == WIRE_BYTES)
        ok = ok && wire_varint(w, &f->value) && f->value <= (uint64_t)(w->end - w->p);
    else ok = false;
    if (!ok || f->number == 0)
        return fail(PEFT_EFORMAT, "the SentencePiece model has no valid field at offset %lld",
                    (long long)(at - w->start));
    if (f->type == WIRE_BYTES) {
        f->bytes = (struct wire){w->start, w->p, w->p + f->value};
        w->p = f->bytes.end;
    }
    return 1;
}

/* --- the file */

struct spm_piece { const char *s; int32_t n, type; float score; };
struct spm {
    struct spm_piece *pieces;
    int64_t n;
    int64_t model, unk, bos, eos, pad;
    bool byte_fallback, prefix, squeeze;
    struct wire charsmap;
};

static int read_spm_piece(struct wire w, struct spm_piece *p)
{
    const struct wire whole = w;
    struct field f;
    int rc;
    *p = (struct spm_piece){.type = TYPE_NORMAL};
    while ((rc = wire_next(&w, &f)) > 0) {
        if (f.number == 1 && f.type == WIRE_BYTES) {
            p->s = (const char *)f.bytes.p;
            p->n = (int32_t)MIN(f.bytes.end - f.bytes.p, INT32_MAX);
        } else if (f.number == 2 && f.type == WIRE_32) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&p->score, &bits, sizeof bits);
        } else if (f.number == 3 && f.type == WIRE_VARINT) {
            p->type = f.value < 7 ? (int32_t)f.value : 0;
        }
    }
    if (rc == 0 && (p->n == 0 || p->type == 0 || !isfinite(p->score)))
        return fail(PEFT_EFORMAT, "the SentencePiece model has a piece without %s at offset %lld",
                    p->n == 0 ? "text" : p->type == 0 ? "a known type" : "a finite score",
                    (long long)(whole.p - whole.start));
    return rc;
}

/* The numbers of a message, by a table. */
static int read_numbers(struct wire w, const int64_t *numbers, int64_t *const *to, int n,
                        struct wire *charsmap)
{
    struct field f;
    int rc;
    while ((rc = wire_next(&w, &f)) > 0) {
        if (charsmap && f.number == 2 && f.type == WIRE_BYTES) *charsmap = f.bytes;
        for (int i = 0; i < n; i++)
            if (f.number == numbers[i] && f.type == WIRE_VARINT) *to[i] = (int32_t)f.value;
    }
    return rc;
}

static int read_spm_file(struct tokenizer *t, const struct file_view *view, struct spm *m)
{
    static const int64_t trainer[] = {3, 35, 40, 41, 42, 43}, normalizer[] = {3, 4};
    const struct wire all = {view->data, view->data, view->data + view->n};
    int64_t bytes = 0, prefix = 1, squeeze = 1, count = 0;
    struct wire w = all;
    struct field f;
    int rc;
    *m = (struct spm){.model = SPM_UNIGRAM, .bos = 1, .eos = 2, .pad = -1};
    while ((rc = wire_next(&w, &f)) > 0) count += f.number == 1 && f.type == WIRE_BYTES;
    if (rc < 0) return rc;
    if (count < 1 || count > INT32_MAX / 4)
        return fail(PEFT_EFORMAT, "the SentencePiece model has %lld pieces", (long long)count);
    if (!(m->pieces = mem_array(&t->host->mem, count, sizeof *m->pieces))) return PEFT_ENOMEM;
    for (w = all; rc >= 0 && (rc = wire_next(&w, &f)) > 0;) {
        if (f.type != WIRE_BYTES) continue;
        if (f.number == 1) rc = read_spm_piece(f.bytes, &m->pieces[m->n++]);
        if (f.number == 2)
            rc = read_numbers(f.bytes, trainer, (int64_t *const[]){&m->model, &bytes, &m->unk,
                              &m->bos, &m->eos, &m->pad}, 6, NULL);
        if (f.number == 3)
            rc = read_numbers(f.bytes, normalizer, (int64_t *const[]){&prefix, &squeeze}, 2,
                              &m->charsmap);
    }
    m->byte_fallback = bytes, m->prefix = prefix, m->squeeze = squeeze;
    if (rc == 0 && m->model != SPM_UNIGRAM && m->model != SPM_BPE)
        return fail(PEFT_EUNSUPPORTED, "the SentencePiece model is of type %lld, expected 1 "
                    "(Unigram) or 2 (BPE)", (long long)m->model);
    return rc;
}

/* --- parts that readers share */

int norm_push_spm(struct tokenizer *t, bool prefix)
{
    struct norm_step *p = prefix ? norm_push(t, NORM_PREPEND) : NULL;
    if (p) p->to = SPM_SPACE, p->n_to = 3;
    if (prefix && !p) return PEFT_EUNSUPPORTED;
    if (!(p = norm_push(t, NORM_REPLACE))) return PEFT_EUNSUPPORTED;
    p->from = " ", p->n_from = 1, p->to = SPM_SPACE, p->n_to = 3;
    return PEFT_OK;
}

static int push_metaspace(struct tokenizer *t, enum prepend prepend)
{
    struct split_step *p = split_push(t, SPLIT_METASPACE);
    if (!p) return PEFT_EUNSUPPORTED;
    p->text = SPM_SPACE, p->n_text = 3;
    p->prepend = prepend;
    return PEFT_OK;
}

int split_push_words(struct tokenizer *t, bool prefix)
{
    enum prepend prepend = prefix ? PREPEND_ALWAYS : PREPEND_NEVER;
    int rc = split_push_find(t, find_space, HOW_REMOVED);
    if (rc == PEFT_OK) rc = push_metaspace(t, prepend);
    if (rc == PEFT_OK) rc = split_push_find(t, find_literal, HOW_MERGED_NEXT);
    struct decode_step *d = rc == PEFT_OK ? decode_push(t, DECODE_METASPACE) : NULL;
    if (!d) return rc < 0 ? rc : PEFT_EUNSUPPORTED;
    struct split_step *cut = &t->split[t->n_split - 1];
    cut->text = d->from = SPM_SPACE;
    cut->n_text = d->n_from = 3;
    d->prepend = prepend;
    t->has_decoder = true;
    return PEFT_OK;
}

/* --- classes */

static int push_charsmap(struct tokenizer *t, const struct spm *m)
{
    int64_t n = m->charsmap.end - m->charsmap.p;
    if (n == 0) return PEFT_OK;
    struct norm_step *p = norm_push(t, NORM_CHARSMAP);
    return p ? charsmap_open(&p->charsmap, m->charsmap.p, n) : PEFT_EUNSUPPORTED;
}

static int parts_words(struct tokenizer *t, const struct spm *m, const json *config)
{
    int rc = push_charsmap(t, m);
    return rc < 0 ? rc : split_push_words(t, json_bool(json_get(config, "add_prefix_space"), 1));
}

static int parts_albert(struct tokenizer *t, const struct spm *m, const json *config)
{
    bool accents = json_bool(json_get(config, "keep_accents"), 0);
    bool lower = json_bool(json_get(config, "do_lower_case"), 1);
    for (int i = 0; i < 2; i++) {
        struct norm_step *p = norm_push(t, NORM_REPLACE);
        if (!p) return PEFT_EUNSUPPORTED;
        p->from = i ? "''" : "``", p->n_from = 2, p->to = "\"", p->n_to = 1;
    }
    struct norm_step *form = accents ? NULL : norm_push(t, NORM_FORM);
    if (form) form->form = UNI_NFKD;
    if (!accents && (!form || !norm_push(t, NORM_STRIP_MARKS))) return PEFT_EUNSUPPORTED;
    if (lower && !norm_push(t, NORM_LOWER)) return PEFT_EUNSUPPORTED;
    return parts_words(t, m, config);
}

static int parts_llama(struct tokenizer *t, const struct spm *m, const json *config)
{
    bool prefix = json_bool(json_get(config, "add_prefix_space"), 1);
    bool legacy = json_bool(json_get(config, "legacy"), 0);
    (void)m;
    int rc = legacy ? norm_push_spm(t, prefix)
                    : push_metaspace(t, prefix ? PREPEND_FIRST : PREPEND_NEVER);
    return rc < 0 ? rc : decode_push_spm(t, prefix);
}

static int parts_gemma(struct tokenizer *t, const struct spm *m, const json *config)
{
    (void)m, (void)config;
    int rc = norm_push_spm(t, false);
    return rc < 0 ? rc : decode_push_spm(t, false);
}

/* What the file itself says: SentencePiece's own way. */
static int parts_own(struct tokenizer *t, const struct spm *m, const json *config)
{
    (void)config;
    int rc = push_charsmap(t, m);
    if (rc == PEFT_OK && m->squeeze) return split_push_words(t, m->prefix);
    if (rc == PEFT_OK) rc = norm_push_spm(t, m->prefix);
    return rc < 0 ? rc : decode_push_spm(t, m->prefix);
}

enum { N_NAMES = 7, FRONT_MAX = 5 };
enum { NAME_BOS, NAME_EOS, NAME_UNK, NAME_SEP, NAME_PAD, NAME_CLS, NAME_MASK };
static const char *const name_keys[N_NAMES] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                               "pad_token", "cls_token", "mask_token"};

/* `front` takes the place of the first `skip` pieces, `back` comes last; a
 * score of `front` is 0, the last one's -100 if there are five.  `post`: one
 * letter for each item, < bos, > eos, c cls, s sep; the pair's part B and what
 * follows it are of type `type_b`.  Without `single`, the config's add_bos_token
 * (absent: `adds_bos`) and add_eos_token decide. */
struct spm_class {
    const char *name, *model_types;
    int model, skip;
    const char *front[FRONT_MAX];
    bool mask_last, extra_ids, unk_named, mask_lstrip, adds_bos;
    int (*parts)(struct tokenizer *t, const struct spm *m, const json *config);
    const char *single, *pair;
    int type_b;
    const char *names[N_NAMES];
};
#define XLM_NAMES {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"}
static const struct spm_class spm_classes[] = {
    {.name = "T5Tokenizer", .model_types = " t5 mt5 umt5 ", .model = SPM_UNIGRAM,
     .extra_ids = true, .parts = parts_words, .single = "A>", .pair = "A>B>",
     .names = {NULL, "</s>", "<unk>", NULL, "<pad>", NULL, NULL}},
    {.name = "XLMRobertaTokenizer", .model_types = " xlm-roberta ", .model = SPM_UNIGRAM,
     .skip = 3, .front = {"<s>", "<pad>", "</s>", "<unk>"}, .mask_last = true,
     .parts = parts_words, .single = "<A>", .pair = "<A>>B>", .names = XLM_NAMES},
    {.name = "CamembertTokenizer", .model_types = " camembert ", .model = SPM_UNIGRAM, .skip = 1,
     .front = {"<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"}, .mask_last = true,
     .mask_lstrip = true, .parts = parts_words, .single = "<A>", .pair = "<A>>B>",
     .names = XLM_NAMES},
    {.name = "AlbertTokenizer", .model_types = " albert ", .model = SPM_UNIGRAM,
     .parts = parts_albert, .single = "cAs", .pair = "cAsBs", .type_b = 1,
     .names = {"[CLS]", "[SEP]", "<unk>", "[SEP]", "<pad>", "[CLS]", "[MASK]"}},
    {.name = "LlamaTokenizer", .model_types = " llama mistral mixtral ", .model = SPM_BPE,
     .parts = parts_llama, .adds_bos = true,
     .names = {"<s>", "</s>", "<unk>", NULL, NULL, NULL, NULL}},
    {.name = "GemmaTokenizer", .model_types = " gemma gemma2 gemma3 gemma3_text ",
     .model = SPM_BPE, .unk_named = true, .parts = parts_gemma, .adds_bos = true,
     .names = {"<bos>", "<eos>", "<unk>", NULL, "<pad>", NULL, "<mask>"}},
    {.name = "PreTrainedTokenizerFast", .model_types = "", .unk_named = true, .parts = parts_own},
};

/* By "tokenizer_class", else by the model's "model_type"; the last row is for
 * folders that name neither. */
static int find_class(const json *config, const json *model_config, const struct spm_class **out)
{
    const char *name = json_string(json_get(config, "tokenizer_class"));
    const char *type = json_string(json_get(model_config, "model_type"));
    size_t n = name ? strlen(name) : 0, last = ARRAY_LEN(spm_classes) - 1;
    char padded[40] = " ";
    if (n > 4 && !strcmp(name + n - 4, "Fast") && strcmp(name, spm_classes[last].name)) n -= 4;
    if (type && strlen(type) < sizeof padded - 3) {
        memcpy(padded + 1, type, strlen(type));
        padded[1 + strlen(type)] = ' ';
    }
    *out = &spm_classes[last];
    for (size_t i = 0; i <= last; i++) {
        const struct spm_class *c = &spm_classes[i];
        bool hit = name ? strlen(c->name) == n && !strncmp(name, c->name, n)
                        : padded[1] && strstr(c->model_types, padded);
        if (hit) return *out = c, PEFT_OK;
    }
    return name ? fail(PEFT_EUNSUPPORTED, "tokenizer_class \"%.60s\" with a SentencePiece model "
                       "and no tokenizer.json", name) : PEFT_OK;
}

/* --- vocabulary */

static int add_spm_piece(struct tokenizer *t, const char *s, int64_t n, float score, int64_t total)
{
    int64_t id = t->n;
    int rc = tok_set_token(t, id, s, n, total);
    if (rc == PEFT_OK && t->uni.score) t->uni.score[id] = score;
    if (rc == PEFT_OK && !(t->tokens[id].flags & TOKEN_MODEL))
        return fail(PEFT_EFORMAT, "the SentencePiece model has \"%.*s\" twice", (int)MIN(n, 60), s);
    return rc;
}

static int spm_vocab(struct tokenizer *t, const struct spm *m, const struct spm_class *c,
                     int64_t extra)
{
    int64_t total = m->n + FRONT_MAX + 1 + extra;
    int rc = PEFT_OK;
    if (m->model == SPM_UNIGRAM &&
        !(t->uni.score = mem_array(&t->host->mem, total, sizeof *t->uni.score)))
        return PEFT_ENOMEM;
    for (int i = 0; i < FRONT_MAX && c->front[i] && rc == PEFT_OK; i++)
        rc = add_spm_piece(t, c->front[i], (int64_t)strlen(c->front[i]), i == 4 ? -100 : 0, total);
    for (int64_t i = c->skip; i < m->n && rc == PEFT_OK; i++)
        rc = add_spm_piece(t, m->pieces[i].s, m->pieces[i].n, m->pieces[i].score, total);
    if (rc == PEFT_OK && c->mask_last)
        rc = add_spm_piece(t, c->names[NAME_MASK], (int64_t)strlen(c->names[NAME_MASK]), 0, total);
    for (int64_t i = extra - 1; i >= 0 && rc == PEFT_OK; i--) {
        struct buf b;
        buf_init(&b, &t->host->mem);
        buf_printf(&b, "<extra_id_%lld>", (long long)i);
        const char *s = arena_strndup(&t->arena, buf_str(&b), b.n);
        rc = s ? add_spm_piece(t, s, b.n, 0, total) : PEFT_ENOMEM;
        buf_free(&b);
    }
    return rc;
}

/* Every way to cut a piece into two pieces is a merge: in the order of the
 * pieces, and of one piece the shortest left part first.  Calls with `write`
 * false count them. */
static int spm_merges(struct tokenizer *t, bool write, int64_t *count)
{
    int rc = PEFT_OK;
    *count = 0;
    for (int64_t i = 0; i < t->n && rc == PEFT_OK; i++) {
        const struct token k = t->tokens[i];
        if (k.n > MERGED_MAX)
            return fail(PEFT_EUNSUPPORTED, "piece %lld has %d bytes, at most %d are expected",
                        (long long)i, k.n, MERGED_MAX);
        for (int32_t at = 1; at < k.n && rc == PEFT_OK; at++) {
            if (((uint8_t)k.s[at] & 0xc0) == 0x80) continue;
            if (tok_model_id(t, k.s, at) < 0 || tok_model_id(t, k.s + at, k.n - at) < 0) continue;
            ++*count;
            if (write) rc = bpe_add_merge(t, k.s, at, k.s + at, k.n - at);
        }
    }
    return rc;
}

static int spm_bpe(struct tokenizer *t)
{
    int64_t n;
    int rc = spm_merges(t, false, &n);
    if (rc == PEFT_OK && n > 16 * t->n + 65536)
        return fail(PEFT_EUNSUPPORTED, "%lld pieces that merge in %lld ways", (long long)t->n,
                    (long long)n);
    if (rc == PEFT_OK) rc = bpe_reserve(t, n);
    return rc < 0 ? rc : spm_merges(t, true, &n);
}

/* --- special tokens */

/* Adds a token, given as a string or an object; new ones get the next id. */
static int add_named(struct tokenizer *t, const json *j, const char *absent, bool lstrip,
                     int32_t *id)
{
    const char *s = json_string(j);
    if (!s) s = json_string(json_get(j, "content"));
    if (!s) s = absent;
    int64_t n = s ? (int64_t)strlen(s) : 0;
    if (n == 0 || n > 1 << 16) return PEFT_OK;
    int32_t old = tok_lookup(t, s);
    struct added a = {.n = (int32_t)n, .id = old >= 0 ? old : (int32_t)t->n, .special = true};
    a.s = arena_strndup(&t->arena, s, n);
    a.lstrip = json_bool(json_get(j, "lstrip"), lstrip);
    a.rstrip = json_bool(json_get(j, "rstrip"), 0);
    a.single_word = json_bool(json_get(j, "single_word"), 0);
    a.normalized = json_bool(json_get(j, "normalized"), 0);
    if (id) *id = a.id;
    return a.s ? tok_add(t, &a, t->n + 1) : PEFT_ENOMEM;
}

static int add_list(struct tokenizer *t, const json *list)
{
    int rc = PEFT_OK;
    bool array = list && json_kind(list) == JSON_ARRAY;
    for (const json *k = array ? json_first(list) : NULL; k && rc == PEFT_OK; k = json_next(k))
        rc = add_named(t, k, NULL, false, NULL);
    return rc;
}

/* The names of a file without a class. */
static const char *own_name(struct tokenizer *t, const struct spm *m, int i)
{
    int64_t id = i == NAME_BOS ? m->bos : i == NAME_EOS ? m->eos
                 : i == NAME_UNK ? m->unk : i == NAME_PAD ? m->pad : -1;
    if (id < 0 || id >= m->n) return NULL;
    return arena_strndup(&t->arena, m->pieces[id].s, m->pieces[id].n);
}

static int spm_specials(struct tokenizer *t, const struct spm *m, const struct spm_class *c,
                        const json *config, const json *special)
{
    struct tok_info *o = &t->info;
    int32_t *const ids[N_NAMES] = {&o->bos, &o->eos, &o->unk, &o->sep, &o->pad, &o->cls, &o->mask};
    int rc = PEFT_OK;
    for (int64_t i = c->skip; i < m->n && rc == PEFT_OK; i++) {
        const struct spm_piece *p = &m->pieces[i];
        struct added a = {.s = p->s, .n = p->n, .special = p->type == TYPE_CONTROL,
                          .id = tok_model_id(t, p->s, p->n)};
        if (p->type == TYPE_CONTROL || p->type == TYPE_USER) rc = tok_add(t, &a, t->n);
    }
    for (int i = 0; i < N_NAMES && rc == PEFT_OK; i++) {
        const json *j = json_get(config, name_keys[i]);
        const char *absent = c->parts == parts_own ? own_name(t, m, i) : c->names[i];
        if (!j) j = json_get(special, name_keys[i]);
        rc = add_named(t, j, absent, i == NAME_MASK && c->mask_lstrip, ids[i]);
    }
    for (int i = 0; c->extra_ids && i < t->n && rc == PEFT_OK; i++)
        if (t->tokens[i].n > 10 && !memcmp(t->tokens[i].s, "<extra_id_", 10))
            rc = tok_add(t, &(struct added){.s = t->tokens[i].s, .n = t->tokens[i].n, .id = i,
                                            .special = true}, t->n);
    for (int i = 0; i < FRONT_MAX && c->front[i] && rc == PEFT_OK; i++)
        rc = tok_add_special(t, c->front[i]);
    if (rc == PEFT_OK) rc = add_list(t, json_get(config, "additional_special_tokens"));
    if (rc == PEFT_OK) rc = add_list(t, json_get(config, "extra_special_tokens"));
    return rc < 0 ? rc : add_list(t, json_get(special, "additional_special_tokens"));
}

static int put_template(struct tokenizer *t, const char *letters, int type_b, struct post *out)
{
    int type = 0, rc = PEFT_OK;
    out->n = 0;
    for (const char *s = letters; *s && rc == PEFT_OK; s++) {
        int32_t id = *s == '<' ? t->info.bos : *s == '>' ? t->info.eos
                     : *s == 'c' ? t->info.cls : t->info.sep;
        if (*s == 'B' || (s[0] == '<' && s[1] == 'B')) type = type_b;
        if (*s == 'A' || *s == 'B') rc = post_push(out, *s == 'A' ? POST_A : POST_B, 0, type);
        else if (id >= 0) rc = post_push(out, POST_TOKEN, id, type);
    }
    return rc;
}

static int build_spm(struct tokenizer *t, const struct spm *m, const struct spm_class *c,
                     const json *config, const json *special)
{
    int64_t extra = c->extra_ids ? 100 : 0;
    if (c->model && c->model != m->model)
        return fail(PEFT_EUNSUPPORTED, "%s with a SentencePiece model of type %lld, expected %d",
                    c->name, (long long)m->model, c->model);
    if (m->n < c->skip)
        return fail(PEFT_EFORMAT, "the SentencePiece model has %lld pieces", (long long)m->n);
    int rc = c->extra_ids ? json_int(config, "extra_ids", 0, 1 << 16, &extra) : PEFT_OK;
    if (rc >= 0) rc = spm_vocab(t, m, c, extra);
    if (rc < 0) return rc;
    t->model = m->model == SPM_UNIGRAM ? MODEL_UNIGRAM : MODEL_BPE;
    const char *unk = tok_content(config, "unk_token");
    int32_t unk_id = c->front[3] ? 3 : m->unk >= 0 && m->unk < m->n ? (int32_t)m->unk : -1;
    if (unk && tok_lookup(t, unk) >= 0) unk_id = tok_lookup(t, unk);
    bool bytes = c->parts == parts_own ? m->byte_fallback : m->model == SPM_BPE;
    t->uni.unk = m->model == SPM_UNIGRAM ? unk_id : -1;
    t->bpe.unk = m->model == SPM_BPE && c->unk_named ? unk_id : -1;
    t->uni.byte_fallback = t->bpe.byte_fallback = bytes;
    t->bpe.fuse_unk = true;
    rc = m->model == SPM_UNIGRAM ? unigram_build(t) : spm_bpe(t);
    if (rc == PEFT_OK) rc = c->parts(t, m, config);
    if (rc == PEFT_OK) rc = spm_specials(t, m, c, config, special);
    if (rc < 0) return rc;
    if (!c->single) {
        bool adds_bos = json_bool(json_get(config, "add_bos_token"), c->adds_bos);
        bool adds_eos = json_bool(json_get(config, "add_eos_token"), 0);
        return post_simple(t, adds_bos ? t->info.bos : -1, adds_eos ? t->info.eos : -1);
    }
    rc = put_template(t, c->single, c->type_b, &t->single);
    return rc < 0 ? rc : put_template(t, c->pair, c->type_b, &t->pair);
}

int tok_read_spm(struct tokenizer *t, const struct file_view *view, const json *config,
                 const json *special, const json *model_config)
{
    struct spm m = {0};
    const struct spm_class *c;
    int rc = find_class(config, model_config, &c);
    if (rc == PEFT_OK) rc = read_spm_file(t, view, &m);
    if (rc == PEFT_OK) rc = build_spm(t, &m, c, config, special);
    mem_free(&t->host->mem, m.pieces);
    return rc;
}
