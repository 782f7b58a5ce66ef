/* What one row says: lengths, scripts, a hash. */
#include "prep/inspect.h"

#include "prep/fields.h"

#include <math.h>

enum { TEXTS = 512 };
struct texts { struct field at[TEXTS]; int64_t n; };

static const char *nth_text(const struct texts *t, int64_t i) { return json_string(t->at[i].node); }
static void all_texts(json *row, struct texts *t)
{
    t->n = MIN(fields_of(row, t->at, TEXTS), TEXTS);
}

static int64_t tokens_of_chat(const struct reader *r, struct mem *mem, const json *list)
{
    int64_t n = 0, count = json_count(list), bytes = -1;
    peft_message *m = mem_array(mem, count, sizeof *m);
    char *text = NULL;
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
    if (n == count) bytes = peft_chat_render(r->model, m, (int32_t)n, 0, NULL, 0);
    if (bytes >= 0 && (text = mem_alloc(mem, bytes + 1)))
        bytes = peft_chat_render(r->model, m, (int32_t)n, 0, text, bytes);
    if (bytes >= 0 && text) bytes = peft_tokenize(r->model, text, (size_t)bytes, 0, NULL, 0);
    mem_free(mem, text);
    mem_free(mem, m);
    return bytes;
}

static int64_t tokens_of_row(const struct reader *r, struct mem *mem, const json *row,
                          const struct texts *t)
{
    const json *ids = row_member(row, "input_ids"), *chat = row_member(row, "messages");
    if (json_kind(ids) == JSON_ARRAY) return json_count(ids);
    if (!chat) chat = row_member(row, "conversations");
    int64_t n = r->chat && chat ? tokens_of_chat(r, mem, chat) : -1, all = 0;
    if (n >= 0) return n;
    for (int64_t i = 0; i < t->n; i++) {
        const char *text = nth_text(t, i);
        n = peft_tokenize(r->model, text, strlen(text), i ? 0 : PEFT_TOK_SPECIAL, NULL, 0);
        if (n < 0) return kit_failed((int32_t)n);
        all += n;
    }
    return all;
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

int row_facts(const struct reader *r, struct mem *mem, json *row, struct facts *out)
{
    struct texts t;
    struct script_counts c = {.all = 0};
    const json *label = field_label(row), *ids = row_member(row, "input_ids");
    *out = (struct facts){.hash = HASH_BEGIN, .empty = !ids, .label = json_number(label, NAN)};
    all_texts(row, &t);
    for (int64_t i = 0; i < t.n; i++) {
        int64_t words = out->words;
        const char *text = nth_text(&t, i);
        script_count(&c, text, &out->chars, &out->words);
        out->hash = hash_more(out->hash, text, (int64_t)strlen(text) + 1);
        out->empty &= out->words == words;
    }
    if (label) out->hash = hash_label(out->hash, mem, label);
    if (ids) out->hash = hash_label(out->hash, mem, ids);
    out->hash = hash_end(out->hash);
    out->script = script_main(&c, &out->mixed);
    out->tokens = r->model ? tokens_of_row(r, mem, row, &t) : 0;
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
    return buf_check(out);
}
