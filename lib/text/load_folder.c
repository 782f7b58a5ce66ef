/* A tokenizer from a Hugging Face folder: tokenizer.json or what came before
 * it, and the settings in the files beside it.  The files stay open, so that
 * they can be written again byte for byte. */
#include "text/tok.h"

static const char *const folder_files[] = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
    "vocab.json", "merges.txt", "added_tokens.json", "chat_template.jinja",
    "generation_config.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "spm.model",
};

static int open_files(struct tokenizer *t, const char *dir)
{
    struct host *h = t->host;
    int rc = PEFT_OK;
    for (size_t i = 0; i < ARRAY_LEN(folder_files) && rc == PEFT_OK; i++) {
        char *path;
        if ((rc = path_join(h, dir, folder_files[i], &path)) < 0) return rc;
        if (path_kind(h, path) == 1) {
            struct tok_file *f = &t->files[t->n_files];
            rc = file_open_view(h, path, true, &f->view);
            if (rc == PEFT_OK) f->name = folder_files[i], t->n_files++;
            bool tree = strstr(folder_files[i], ".json") != NULL;
            mem_budget_more(&h->mem, f->view.n * (FILE_TIMES - 1 - tree * JSON_TIMES));
        }
        mem_free(&h->mem, path);
    }
    return rc;
}

static const struct file_view *folder_file(const struct tokenizer *t, const char *name)
{
    for (int i = 0; i < t->n_files; i++)
        if (!strcmp(t->files[i].name, name)) return &t->files[i].view;
    return NULL;
}

/* 1 = parsed, 0 = there is no such file. */
static int folder_json(const struct tokenizer *t, const char *name, json **out)
{
    const struct file_view *v = folder_file(t, name);
    *out = NULL;
    if (!v) return 0;
    int rc = json_parse((const char *)v->data, v->n, name, out);
    return rc < 0 ? rc : 1;
}

/* --- vocabulary */

struct folder_config { json *tokenizer, *special, *generation, *model; };

static int read_legacy(struct tokenizer *t, const char *dir, const struct folder_config *c)
{
    static const char *const models[] = {"tokenizer.model", "spiece.model",
                                         "sentencepiece.bpe.model", "spm.model"};
    const struct file_view *txt = folder_file(t, "vocab.txt");
    const struct file_view *merges = folder_file(t, "merges.txt");
    if (txt) return tok_read_vocab_txt(t, txt, c->tokenizer);
    for (size_t i = 0; i < ARRAY_LEN(models) && !merges; i++) {
        const struct file_view *model = folder_file(t, models[i]);
        if (!model) continue;
        int rc = tok_read_spm(t, model, c->tokenizer, c->special, c->model);
        return rc < 0 ? fail_in(rc, "%s: ", models[i]) : rc;
    }
    if (!merges || !folder_file(t, "vocab.json"))
        return fail(PEFT_ENOTFOUND, "%s: no tokenizer.json, SentencePiece model, vocab.txt or "
                    "vocab.json with merges.txt", dir);
    json *vocab;
    int rc = folder_json(t, "vocab.json", &vocab);
    if (rc > 0) rc = tok_read_vocab_merges(t, vocab, merges, c->tokenizer);
    json_free(vocab);
    return rc;
}

/* {"3": {"content": ..., "special": ...}} */
static int read_added_decoder(struct tokenizer *t, const json *list)
{
    bool object = list && json_kind(list) == JSON_OBJECT;
    int64_t n_entries = t->n + json_count(list);
    for (const json *k = object ? json_first(list) : NULL; k; k = json_next(k)) {
        const char *s = json_string(json_get(k, "content")), *key = json_key(k);
        int64_t id = 0;
        for (; *key >= '0' && *key <= '9' && id < INT32_MAX; key++) id = id * 10 + (*key - '0');
        if (*key || !*json_key(k) || id >= INT32_MAX || !s || strlen(s) > 1 << 16)
            return fail(PEFT_EFORMAT, "tokenizer_config.json: added_tokens_decoder: \"%.40s\"",
                        json_key(k));
        struct added a = {.id = (int32_t)id, .n = (int32_t)strlen(s)};
        if (map_get(&t->added_ids, s, a.n, -1) >= 0) continue;
        a.s = arena_strndup(&t->arena, s, a.n);
        a.special = json_bool(json_get(k, "special"), 0);
        a.lstrip = json_bool(json_get(k, "lstrip"), 0);
        a.rstrip = json_bool(json_get(k, "rstrip"), 0);
        a.single_word = json_bool(json_get(k, "single_word"), 0);
        a.normalized = json_bool(json_get(k, "normalized"), !a.special);
        int rc = a.s ? tok_add(t, &a, n_entries) : PEFT_ENOMEM;
        if (rc < 0) return rc;
    }
    return PEFT_OK;
}

/* --- settings */

static void read_special_ids(struct tokenizer *t, const struct folder_config *c)
{
    struct tok_info *info = &t->info;
    const struct { const char *name; int32_t *id; } rows[] = {
        {"bos_token", &info->bos}, {"eos_token", &info->eos}, {"pad_token", &info->pad},
        {"unk_token", &info->unk}, {"cls_token", &info->cls}, {"sep_token", &info->sep},
        {"mask_token", &info->mask},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *s = tok_content(c->tokenizer, rows[i].name);
        if (!s) s = tok_content(c->special, rows[i].name);
        if (s) *rows[i].id = tok_lookup(t, s);
    }
    /* A model has one unknown token, the others are -1. */
    if (info->unk < 0) info->unk = MAX(t->wp.unk, MAX(t->bpe.unk, t->uni.unk));
    if (t->model != MODEL_WORDPIECE) return;
    if (info->cls < 0) info->cls = tok_lookup(t, "[CLS]");
    if (info->sep < 0) info->sep = tok_lookup(t, "[SEP]");
    if (info->pad < 0) info->pad = tok_lookup(t, "[PAD]");
    if (info->mask < 0) info->mask = tok_lookup(t, "[MASK]");
}

/* An id or a list of ids in generation_config.json or config.json.  The first
 * is the answer; with `eot` all of them end a turn. */
static int32_t read_id(struct tokenizer *t, const json *config, const char *name, bool eot)
{
    const json *j = json_get(config, name);
    bool list = j && json_kind(j) == JSON_ARRAY;
    int32_t first = -1;
    for (const json *k = list ? json_first(j) : j; k; k = list ? json_next(k) : NULL) {
        double x = json_number(k, -1);
        if (!(x >= 0 && x < (double)t->n) || x != (double)(int32_t)x) continue;
        if (first < 0) first = (int32_t)x;
        if (eot && t->n_eot < EOT_MAX && !tok_is_eot(t, (int32_t)x))
            t->eot[t->n_eot++] = (int32_t)x;
    }
    return first;
}

static void read_config_ids(struct tokenizer *t, const struct folder_config *c)
{
    const json *const from[] = {c->generation, c->model};
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        int32_t bos = read_id(t, from[i], "bos_token_id", false);
        int32_t eos = read_id(t, from[i], "eos_token_id", i == 0);
        int32_t pad = read_id(t, from[i], "pad_token_id", false);
        if (t->info.bos < 0) t->info.bos = bos;
        if (t->info.eos < 0) t->info.eos = eos;
        if (t->info.pad < 0) t->info.pad = pad;
    }
}

/* A file of its own, a string, or the "default" of a list. */
static int read_chat_template(struct tokenizer *t, const json *config)
{
    const struct file_view *file = folder_file(t, "chat_template.jinja");
    const json *j = json_get(config, "chat_template");
    const char *s = json_string(j);
    int64_t n = s ? (int64_t)strlen(s) : 0;
    for (const json *k = j && json_kind(j) == JSON_ARRAY ? json_first(j) : NULL; k;
         k = json_next(k)) {
        const char *name = json_string(json_get(k, "name"));
        const char *text = json_string(json_get(k, "template"));
        if (name && text && (!s || !strcmp(name, "default"))) s = text, n = (int64_t)strlen(text);
    }
    if (file) s = (const char *)file->data, n = file->n;
    if (!s) return PEFT_OK;
    if (utf8_check(s, n) < n || memchr(s, 0, (size_t)n))
        return fail(PEFT_EFORMAT, "the chat template is not UTF-8 text");
    t->info.chat_template = arena_strndup(&t->arena, s, n);
    return t->info.chat_template ? PEFT_OK : PEFT_ENOMEM;
}

/* For these classes transformers makes the template itself, from add_bos_token
 * and add_eos_token; for the others tokenizer.json decides, if it does. */
static void read_adds(struct tokenizer *t, const json *config)
{
    static const char *const classes[] = {
        "LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast",
        "GemmaTokenizer", "GemmaTokenizerFast",
    };
    const char *name = json_string(json_get(config, "tokenizer_class"));
    int bos = json_bool(json_get(config, "add_bos_token"), -1);
    int eos = json_bool(json_get(config, "add_eos_token"), 0);
    bool decides = t->single.n == 0 && bos == 1;
    for (size_t i = 0; name && i < ARRAY_LEN(classes); i++)
        if (!strcmp(name, classes[i]) && bos >= 0) decides = true;
    if (decides && t->model != MODEL_WORDPIECE)
        post_simple(t, bos ? t->info.bos : -1, eos ? t->info.eos : -1);
}

static int read_folder_settings(struct tokenizer *t, const char *dir, struct folder_config *c)
{
    char *path;
    struct file_view view;
    int rc = folder_json(t, "tokenizer_config.json", &c->tokenizer);
    if (rc >= 0) rc = folder_json(t, "special_tokens_map.json", &c->special);
    if (rc >= 0) rc = folder_json(t, "generation_config.json", &c->generation);
    if (rc < 0 || (rc = path_join(t->host, dir, "config.json", &path)) < 0) return rc;
    if (path_kind(t->host, path) == 1) {
        rc = file_open_view(t->host, path, true, &view);
        if (rc == PEFT_OK) {
            rc = json_parse((const char *)view.data, view.n, "config.json", &c->model);
            file_close_view(t->host, &view);
        }
    }
    mem_free(&t->host->mem, path);
    return rc;
}

static int read_folder(struct tokenizer *t, const char *dir, struct folder_config *c)
{
    json *root;
    int rc = open_files(t, dir);
    if (rc == PEFT_OK) rc = read_folder_settings(t, dir, c);
    if (rc < 0) return rc;
    const struct file_view *v = folder_file(t, "tokenizer.json");
    root = NULL;
    if (v) {
        rc = json_parse_but((const char *)v->data, v->n, "tokenizer.json", "model.merges",
                            &t->merges, &root);
        if (rc == PEFT_OK) rc = tok_read_json(t, root);
        json_free(t->merges.now);
    } else {
        rc = read_legacy(t, dir, c);
    }
    json_free(root);
    if (rc == PEFT_OK) rc = read_added_decoder(t, json_get(c->tokenizer, "added_tokens_decoder"));
    if (rc < 0) return rc;
    read_special_ids(t, c);
    read_config_ids(t, c);
    read_adds(t, c->tokenizer);
    rc = read_chat_template(t, c->tokenizer);
    return rc < 0 ? rc : tok_finish(t);
}

static int open_folder(struct host *h, const char *dir, struct tokenizer **out)
{
    struct folder_config c = {0};
    struct tokenizer *t;
    int rc = tok_new(h, &t);
    if (rc < 0) return rc;
    rc = read_folder(t, dir, &c);
    json_free(c.tokenizer);
    json_free(c.special);
    json_free(c.generation);
    json_free(c.model);
    if (rc < 0) tok_free(t);
    else *out = t;
    return rc;
}

int tok_open_folder(struct host *h, const char *dir, struct tokenizer **out)
{
    *out = NULL;
    bool began = mem_budget(&h->mem);
    int rc = open_folder(h, dir, out);
    mem_budget_end(&h->mem, began);
    return fail_path(rc, dir);
}
