/* What one row says: lengths, scripts, a hash. */
#include "prep/inspect.h"

#include "data/image.h"
#include "prep/fields.h"

#include <math.h>

enum { TEXTS = 512 };
struct texts { struct field at[TEXTS]; int64_t n; };

static const char *nth_text(const struct texts *t, int64_t i) { return json_string(t->at[i].node); }
static void all_texts(json *row, struct texts *t)
{
    t->n = MIN(fields_of(row, t->at, TEXTS), TEXTS);
}

/* Tokens of a text, with what the tokenizer adds or without. */
static int64_t tokens_of(const struct inspect_reader *r, const char *text, bool special)
{
    int64_t n = peft_tokenize(r->model, text, strlen(text), special ? PEFT_TOK_SPECIAL : 0, NULL,
                              0);
    return n < 0 ? kit_failed((int32_t)n) : n;
}

/* < 0 where the template does not take these messages. */
static int64_t tokens_of_chat(const struct inspect_reader *r, const peft_message *m, int64_t n)
{
    int64_t bytes = peft_chat_render(r->model, m, (int32_t)n, 0, NULL, 0);
    char *text = bytes < 0 ? NULL : mem_alloc(&r->host->mem, bytes + 1);
    if (text) bytes = peft_chat_render(r->model, m, (int32_t)n, 0, text, bytes);
    if (text && bytes >= 0)
        bytes = peft_tokenize(r->model, text, (size_t)bytes, 0, NULL, 0);
    mem_free(&r->host->mem, text);
    return text ? bytes : -1;
}

static int64_t tokens_of_messages(const struct inspect_reader *r, const json *list)
{
    int64_t n = 0, count = json_count(list), found = -1;
    peft_message *m = mem_array(&r->host->mem, count, sizeof *m);
    if (!m) return PEFT_ENOMEM;
    for (const json *v = json_first(list); v; v = json_next(v)) {
        const char *from = json_string(json_get(v, "from"));
        const char *role = json_string(json_get(v, "role"));
        const char *content = json_string(json_get(v, "content"));
        if (!role) role = from && strcmp(from, "gpt") == 0 ? "assistant" :
                          from && strcmp(from, "human") == 0 ? "user" : from;
        if (!content) content = json_string(json_get(v, "value"));
        if (role && content) m[n++] = (peft_message){role, content};
    }
    if (n == count) found = tokens_of_chat(r, m, n);
    mem_free(&r->host->mem, m);
    return found;
}

/* A conversation, or without a template the text of Stanford Alpaca. */
static int64_t tokens_of_task(const struct inspect_reader *r, const json *row)
{
    const char *task = json_string(json_get(row, "instruction"));
    const char *input = json_string(json_get(row, "input"));
    const char *answer = json_string(json_get(row, "output"));
    const char *system = json_string(json_get(row, "system"));
    struct buf b;
    if (!task || !answer) return -1;
    buf_init(&b, &r->host->mem);
    buf_printf(&b, r->chat ? "%s" : "### Instruction:\n%s\n\n", task);
    if (input && *input)
        buf_printf(&b, r->chat ? "\n%s" : "### Input:\n%s\n\n", input);
    int64_t n = buf_check(&b);
    if (n == PEFT_OK && r->chat) {
        peft_message m[] = {{"system", system}, {"user", buf_str(&b)}, {"assistant", answer}};
        bool named = system && *system;
        n = tokens_of_chat(r, m + !named, 2 + named);
    } else if (n == PEFT_OK) {
        buf_printf(&b, "### Response:\n%s", answer);
        n = tokens_of(r, buf_str(&b), true);
        if (n >= 0) n += r->causal;
    }
    buf_free(&b);
    return n;
}

/* Texts that are read by themselves get each what the tokenizer adds; of others the first, and
 * an encoder's second one a mark behind it.  A text that is trained on gets an end. */
static int64_t tokens_of_texts(const struct inspect_reader *r, const json *row,
                               const struct texts *t)
{
    bool pair = row_member(row, "chosen") || row_member(row, "rejected");
    bool apart = row_member(row, "positive") || row_member(row, "score");
    bool asked = row_member(row, "answers") != NULL;    /* they stand in the context */
    int64_t all = 0, prompt = 0;
    for (int64_t i = 0; i < t->n; i++) {
        const struct field *f = &t->at[i];
        if (asked && f->role == FIELD_ANSWER) continue;
        int64_t n = tokens_of(r, nth_text(t, i), i == 0 || apart);
        if (n < 0) return n;
        all += n + (!r->causal && !apart && i == 1 && !f->word);
        if (pair && f->role != FIELD_ANSWER) prompt += n;
    }
    bool ends = r->causal && !field_label(row) && !apart && !asked;
    return all + prompt + (ends ? 1 + pair : 0);
}

static int64_t tokens_of_row(const struct inspect_reader *r, const json *row, const struct texts *t)
{
    const json *ids = row_member(row, "input_ids"), *chat = row_member(row, "messages");
    if (json_kind(ids) == JSON_ARRAY) return json_count(ids);
    if (!chat) chat = row_member(row, "conversations");
    int64_t n = r->chat && chat ? tokens_of_messages(r, chat) : tokens_of_task(r, row);
    error_clear();
    return n >= 0 || n == PEFT_ENOMEM ? n : tokens_of_texts(r, row, t);
}

static uint64_t hash_label(uint64_t h, struct mem *mem, const json *label)
{
    struct buf b;
    buf_init(&b, mem);
    json_write(&b, label);
    h = hash_more(h, buf_str(&b), b.n);
    buf_free(&b);
    return h;
}

/* Pictures are the same when their files are. */
static int see_picture(const struct inspect_reader *r, const char *name, struct facts *out)
{
    struct file_view v;
    struct image im;
    char *path = NULL;
    int rc = path_join(r->host, r->folder, name, &path);
    if (rc == PEFT_OK && (rc = file_open_view(r->host, path, true, &v)) == PEFT_OK) {
        out->hash = hash_more(out->hash, v.data, v.n);
        rc = image_decode(r->host, v.data, v.n, 3, &im);
        if (rc == PEFT_OK) {
            out->width = im.w;
            out->height = im.h;
            image_free(r->host, &im);
        }
        file_close_view(r->host, &v);
        if (rc < 0) fail_path(rc, name);
    }
    mem_free(&r->host->mem, path);
    if (rc != PEFT_EUNSUPPORTED) return rc;
    error_clear();                  /* a build without that kind of picture */
    return PEFT_OK;
}

int row_facts(const struct inspect_reader *r, json *row, struct facts *out)
{
    struct texts t;
    struct script_counts c = {.all = 0};
    const json *label = field_label(row), *ids = row_member(row, "input_ids");
    const char *picture = json_string(row_member(row, "image"));
    *out = (struct facts){.hash = HASH_BEGIN, .empty = !ids && !picture,
                          .label = json_number(label, NAN)};
    all_texts(row, &t);
    for (int64_t i = 0; i < t.n; i++) {
        int64_t words = out->words;
        const char *text = nth_text(&t, i);
        script_count(&c, text, &out->chars, &out->words);
        out->hash = hash_more(out->hash, text, (int64_t)strlen(text) + 1);
        out->empty &= out->words == words;
    }
    if (label) out->hash = hash_label(out->hash, &r->host->mem, label);
    if (ids) out->hash = hash_label(out->hash, &r->host->mem, ids);
    int rc = picture ? see_picture(r, picture, out) : PEFT_OK;
    if (rc < 0) return rc;
    out->hash = hash_end(out->hash);
    out->script = script_main(&c, &out->mixed);
    out->tokens = r->model ? tokens_of_row(r, row, &t) : 0;
    return out->tokens < 0 ? (int)out->tokens : PEFT_OK;
}

int row_words(json *row, struct buf *out)
{
    struct texts t;
    all_texts(row, &t);
    buf_clear(out);
    for (int64_t i = 0; i < t.n && out->n < EXCERPT; i++) {
        if (i) buf_puts(out, t.at[i].word ? " " : "\n");
        buf_puts(out, nth_text(&t, i));
    }
    if (!t.n) json_write(out, row);
    return buf_check(out);
}
