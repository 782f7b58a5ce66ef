/* Writes a tokenizer as a Hugging Face folder.  Files that came from one are
 * copied; for a tokenizer from GGUF, tokenizer.json is made from its parts. */
#include "text/tok.h"

#include <math.h>
#include <stdlib.h>

static void put_token_json(struct buf *b, const struct tokenizer *t, int32_t id)
{
    buf_json(b, t->tokens[id].s, t->tokens[id].n);
}

static void put_bool(struct buf *b, const char *key, bool value)
{
    buf_printf(b, "\"%s\":%s", key, value ? "true" : "false");
}

static int added_by_id(const void *a, const void *b)
{
    const struct added *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static int put_added(struct buf *b, const struct tokenizer *t)
{
    struct added *v = mem_array(b->mem, t->n_added, sizeof *v);
    if (!v) return PEFT_ENOMEM;
    if (t->n_added) memcpy(v, t->added, (size_t)t->n_added * sizeof *v);
    qsort(v, (size_t)t->n_added, sizeof *v, added_by_id);
    buf_puts(b, "\"added_tokens\":[");
    for (int64_t i = 0; i < t->n_added; i++) {
        buf_printf(b, "%s\n{\"id\":%d,\"content\":", i ? "," : "", v[i].id);
        buf_json(b, v[i].s, v[i].n);
        buf_putc(b, ',');
        put_bool(b, "single_word", v[i].single_word), buf_putc(b, ',');
        put_bool(b, "lstrip", v[i].lstrip), buf_putc(b, ',');
        put_bool(b, "rstrip", v[i].rstrip), buf_putc(b, ',');
        put_bool(b, "normalized", v[i].normalized), buf_putc(b, ',');
        put_bool(b, "special", v[i].special), buf_putc(b, '}');
    }
    buf_puts(b, "],\n");
    mem_free(b->mem, v);
    return PEFT_OK;
}

/* --- the parts, by model */

static void put_charsmap(struct buf *b, const struct norm_step *p)
{
    buf_puts(b, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"");
    charsmap_put_base64(b, p->charsmap.raw, p->charsmap.n_raw);
    buf_puts(b, "\"}");
}

static void put_spm_parts(struct buf *b, const struct tokenizer *t, const struct norm_step *map)
{
    buf_puts(b, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    if (map) put_charsmap(b, map), buf_putc(b, ',');
    if (t->add_prefix) buf_puts(b, "{\"type\":\"Prepend\",\"prepend\":\"" SPM_SPACE "\"},");
    buf_puts(b, "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SPM_SPACE
             "\"}]},\n\"pre_tokenizer\":null,\n"
             "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"
             "{\"String\":\"" SPM_SPACE "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},"
             "{\"type\":\"Fuse\"}");
    if (t->add_prefix)
        buf_puts(b, ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}");
    buf_puts(b, "]},\n");
}

/* A Unigram model's, as load_gguf.c makes them. */
static void put_unigram_parts(struct buf *b, const struct tokenizer *t)
{
    static const char words[] = "\"replacement\":\"" SPM_SPACE "\",\"prepend_scheme\":";
    const char *prepend = t->add_prefix ? "\"always\"" : "\"never\"";
    const struct norm_step *map = t->n_norm && t->norm[0].kind == NORM_CHARSMAP ? t->norm : NULL;
    if (t->n_split == 0) {
        put_spm_parts(b, t, map);
        return;
    }
    buf_puts(b, "\"normalizer\":");
    if (map) put_charsmap(b, map);
    else buf_puts(b, "null");
    buf_printf(b, ",\n\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
               "\"WhitespaceSplit\"},{\"type\":\"Metaspace\",%s%s,\"split\":true}]},\n"
               "\"decoder\":{\"type\":\"Metaspace\",%s%s,\"split\":true},\n", words, prepend,
               words, prepend);
}

static void put_bert_parts(struct buf *b, const struct tokenizer *t)
{
    const struct norm_step *p = &t->norm[0];
    buf_puts(b, "\"normalizer\":{\"type\":\"BertNormalizer\",");
    put_bool(b, "clean_text", p->clean), buf_putc(b, ',');
    put_bool(b, "handle_chinese_chars", p->han), buf_putc(b, ',');
    put_bool(b, "strip_accents", p->accents), buf_putc(b, ',');
    put_bool(b, "lowercase", p->lower);
    buf_puts(b, "},\n\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\n"
             "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},\n");
}

static int put_byte_level_parts(struct buf *b, const struct tokenizer *t)
{
    const char *name = split_pre_name(t);
    const struct split_pre *pre = name ? split_pre_find(name) : NULL;
    if (!pre) return fail(PEFT_EUNSUPPORTED, "this pre-tokenizer cannot be written");
    buf_puts(b, t->n_norm ? "\"normalizer\":{\"type\":\"NFC\"},\n" : "\"normalizer\":null,\n");
    buf_puts(b, "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (int i = 0; i < 2 && pre->regex[i]; i++) {
        buf_puts(b, "{\"type\":\"Split\",\"pattern\":{\"Regex\":");
        buf_json(b, pre->regex[i], (int64_t)strlen(pre->regex[i]));
        buf_puts(b, "},\"behavior\":\"Isolated\",\"invert\":false},");
    }
    buf_puts(b, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
             "\"use_regex\":false}]},\n\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
             "true,\"trim_offsets\":true,\"use_regex\":true},\n");
    return PEFT_OK;
}

static void put_post_items(struct buf *b, const struct tokenizer *t, const char *key,
                           const struct post *p)
{
    buf_printf(b, "\"%s\":[", key);
    for (int i = 0; i < p->n; i++) {
        const struct post_item *it = &p->items[i];
        if (i) buf_putc(b, ',');
        if (it->kind == POST_TOKEN) {
            buf_puts(b, "{\"SpecialToken\":{\"id\":");
            put_token_json(b, t, it->id);
        } else {
            buf_printf(b, "{\"Sequence\":{\"id\":\"%s\"", it->kind == POST_A ? "A" : "B");
        }
        buf_printf(b, ",\"type_id\":%d}}", it->type);
    }
    buf_puts(b, "],");
}

static void put_post(struct buf *b, const struct tokenizer *t)
{
    if (t->single.n == 0) {
        buf_puts(b, "\"post_processor\":null,\n");
        return;
    }
    buf_puts(b, "\"post_processor\":{\"type\":\"TemplateProcessing\",");
    put_post_items(b, t, "single", &t->single);
    put_post_items(b, t, "pair", &t->pair);
    buf_puts(b, "\"special_tokens\":{");
    bool any = false;
    for (int i = 0; i < t->pair.n; i++) {
        const struct post_item *it = &t->pair.items[i];
        bool seen = it->kind != POST_TOKEN;
        for (int k = 0; k < i && !seen; k++)
            seen = t->pair.items[k].kind == POST_TOKEN && t->pair.items[k].id == it->id;
        if (seen) continue;
        if (any) buf_putc(b, ',');
        any = true;
        put_token_json(b, t, it->id);
        buf_puts(b, ":{\"id\":");
        put_token_json(b, t, it->id);
        buf_printf(b, ",\"ids\":[%d],\"tokens\":[", it->id);
        put_token_json(b, t, it->id);
        buf_puts(b, "]}");
    }
    buf_puts(b, "}},\n");
}

/* --- the model */

static void put_vocab(struct buf *b, const struct tokenizer *t)
{
    bool any = false;
    buf_puts(b, "\"vocab\":{");
    for (int64_t i = 0; i < t->n; i++) {
        if (!(t->tokens[i].flags & TOKEN_MODEL)) continue;
        buf_puts(b, any ? ",\n" : "\n");
        put_token_json(b, t, (int32_t)i);
        buf_printf(b, ":%lld", (long long)i);
        any = true;
    }
    buf_puts(b, "}");
}

static void put_merge(struct buf *b, const struct tokenizer *t, bool first, int32_t left,
                      int32_t right)
{
    buf_puts(b, first ? "\n[" : ",\n[");
    put_token_json(b, t, left);
    buf_putc(b, ',');
    put_token_json(b, t, right);
    buf_putc(b, ']');
}

struct scored_merge { int32_t rank, id, left, right; };

static int merge_order(const void *a, const void *b)
{
    const struct scored_merge *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return (x->right > y->right) - (x->right < y->right);
}

/* A text that can be one side of a merge: one character, or what a merge
 * makes; -1 otherwise. */
static int32_t merge_side(const struct tokenizer *t, const char *s, int64_t n)
{
    int32_t cp, id = tok_model_id(t, s, n);
    return id >= 0 && (t->bpe.rank[id] >= 0 || uni_next(s, &cp) == n) ? id : -1;
}

/* With scores any two tokens whose joined text is a token merge: each token
 * gives all its splits, in the order of the scores. */
static int put_scored_merges(struct buf *b, const struct tokenizer *t)
{
    struct buf list;
    buf_init(&list, b->mem);
    for (int64_t i = 0; i < t->n; i++) {
        const struct token *k = &t->tokens[i];
        if (t->bpe.rank[i] < 0) continue;
        for (int32_t at = 1; at < k->n; at++) {
            if (((uint8_t)k->s[at] & 0xc0) == 0x80) continue;
            struct scored_merge m = {t->bpe.rank[i], (int32_t)i, merge_side(t, k->s, at),
                                     merge_side(t, k->s + at, k->n - at)};
            if (m.left >= 0 && m.right >= 0) buf_put(&list, &m, sizeof m);
        }
    }
    int rc = buf_check(&list);
    struct scored_merge *v = (struct scored_merge *)(void *)list.data;
    int64_t n = rc < 0 ? 0 : list.n / (int64_t)sizeof *v;
    if (n > 0) qsort(v, (size_t)n, sizeof *v, merge_order);
    for (int64_t i = 0; i < n; i++) put_merge(b, t, i == 0, v[i].left, v[i].right);
    buf_free(&list);
    return rc;
}

static void put_unigram(struct buf *b, const struct tokenizer *t)
{
    buf_puts(b, "\"model\":{\"type\":\"Unigram\",\"unk_id\":");
    if (t->uni.unk >= 0) buf_printf(b, "%d,", t->uni.unk);
    else buf_puts(b, "null,");
    put_bool(b, "byte_fallback", t->uni.byte_fallback);
    buf_puts(b, ",\"vocab\":[");
    int64_t n = t->n;
    while (n > 1 && t->uni.score[n - 1] == -INFINITY) n--;
    for (int64_t i = 0; i < n; i++) {
        buf_puts(b, i ? ",\n[" : "\n[");
        put_token_json(b, t, (int32_t)i);
        buf_putc(b, ',');
        buf_real(b, fmax(t->uni.score[i], t->uni.unk_score + 10));
        buf_putc(b, ']');
    }
    buf_puts(b, "]}");
}

static int put_model(struct buf *b, const struct tokenizer *t)
{
    int rc = PEFT_OK;
    if (t->model == MODEL_UNIGRAM) {
        put_unigram(b, t);
        return PEFT_OK;
    }
    if (t->model == MODEL_WORDPIECE) {
        buf_puts(b, "\"model\":{\"type\":\"WordPiece\",\"unk_token\":");
        put_token_json(b, t, t->wp.unk);
        buf_puts(b, ",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,");
        put_vocab(b, t);
        buf_puts(b, "}");
        return PEFT_OK;
    }
    buf_puts(b, "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":");
    if (t->bpe.unk >= 0) put_token_json(b, t, t->bpe.unk);
    else buf_puts(b, "null");
    buf_puts(b, ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,");
    put_bool(b, "fuse_unk", t->bpe.fuse_unk), buf_putc(b, ',');
    put_bool(b, "byte_fallback", t->bpe.byte_fallback), buf_putc(b, ',');
    put_bool(b, "ignore_merges", t->bpe.ignore_merges), buf_putc(b, ',');
    put_vocab(b, t);
    buf_puts(b, ",\n\"merges\":[");
    if (t->model == MODEL_SCORES) rc = put_scored_merges(b, t);
    for (int64_t i = 0; i < t->bpe.n_pairs; i++)
        put_merge(b, t, i == 0, t->bpe.pairs[2 * i], t->bpe.pairs[2 * i + 1]);
    buf_puts(b, "]}");
    return rc;
}

static int put_tokenizer_json(struct buf *b, const struct tokenizer *t)
{
    buf_puts(b, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n");
    int rc = put_added(b, t);
    if (rc < 0) return rc;
    if (t->model == MODEL_WORDPIECE) put_bert_parts(b, t);
    else if (t->model == MODEL_SCORES) put_spm_parts(b, t, NULL);
    else if (t->model == MODEL_UNIGRAM) put_unigram_parts(b, t);
    else rc = put_byte_level_parts(b, t);
    if (rc < 0) return rc;
    put_post(b, t);
    rc = put_model(b, t);
    buf_puts(b, "}\n");
    return rc < 0 ? rc : buf_check(b);
}

/* --- the settings */

static void put_special_names(struct buf *b, const struct tokenizer *t)
{
    const struct tok_info *i = &t->info;
    const struct { const char *name; int32_t id; } rows[] = {
        {"bos_token", i->bos}, {"eos_token", i->eos}, {"pad_token", i->pad},
        {"unk_token", i->unk}, {"cls_token", i->cls}, {"sep_token", i->sep},
        {"mask_token", i->mask},
    };
    bool any = false;
    for (size_t k = 0; k < ARRAY_LEN(rows); k++) {
        if (rows[k].id < 0) continue;
        buf_printf(b, "%s\n  \"%s\": ", any ? "," : "", rows[k].name);
        put_token_json(b, t, rows[k].id);
        any = true;
    }
    if (!any) buf_puts(b, "\n  \"additional_special_tokens\": []");
}

static void put_tok_config(struct buf *b, const struct tokenizer *t)
{
    buf_puts(b, "{");
    put_special_names(b, t);
    buf_printf(b, ",\n  \"add_bos_token\": %s,\n  \"add_eos_token\": %s",
               t->info.adds_bos ? "true" : "false", t->info.adds_eos ? "true" : "false");
    if (t->info.chat_template) {
        buf_puts(b, ",\n  \"chat_template\": ");
        buf_json(b, t->info.chat_template, (int64_t)strlen(t->info.chat_template));
    }
    if (t->model == MODEL_WORDPIECE)
        buf_printf(b, ",\n  \"do_lower_case\": %s", t->norm[0].lower ? "true" : "false");
    buf_puts(b, ",\n  \"clean_up_tokenization_spaces\": false,\n"
             "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
}

static int write_in(struct host *h, const char *dir, const char *name, const void *data,
                    int64_t n)
{
    char *path;
    int rc = path_join(h, dir, name, &path);
    if (rc < 0) return rc;
    rc = file_write(h, path, data, n);
    mem_free(&h->mem, path);
    return rc;
}

int tok_save_folder(struct host *h, const struct tokenizer *t, const char *dir)
{
    int rc = PEFT_OK;
    for (int i = 0; i < t->n_files && rc == PEFT_OK; i++)
        rc = write_in(h, dir, t->files[i].name, t->files[i].view.data, t->files[i].view.n);
    if (!t->store || rc < 0) return rc;
    struct buf b;
    buf_init(&b, &h->mem);
    rc = put_tokenizer_json(&b, t);
    if (rc == PEFT_OK) rc = write_in(h, dir, "tokenizer.json", b.data, b.n);
    buf_clear(&b);
    if (rc == PEFT_OK) put_tok_config(&b, t), rc = buf_check(&b);
    if (rc == PEFT_OK) rc = write_in(h, dir, "tokenizer_config.json", b.data, b.n);
    buf_clear(&b);
    if (rc == PEFT_OK) {
        buf_puts(&b, "{");
        put_special_names(&b, t);
        buf_puts(&b, "\n}\n");
        rc = buf_check(&b);
    }
    if (rc == PEFT_OK) rc = write_in(h, dir, "special_tokens_map.json", b.data, b.n);
    buf_free(&b);
    return rc;
}
