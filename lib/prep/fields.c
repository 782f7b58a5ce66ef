/* The texts of a row, by a table of columns and of the shapes that these may have. */
#include "prep/fields.h"

#include <stdio.h>

const char *const field_role_names[FIELD_ROLES] = {"text", "input", "answer", "system"};

struct found {
    struct field *out;
    int64_t n, cap;
    struct field next;              /* what a text that is found now will be */
};

static void found_add(struct found *f, const json *node)
{
    if (json_kind(node) != JSON_STRING) return;
    f->next.node = (json *)(uintptr_t)node;
    if (f->n < f->cap) f->out[f->n] = f->next;
    f->n++;
    f->next.at++;
}

/* --- shapes */

static const struct { const char *name; enum field_role role; } speakers[] = {
    {"system", FIELD_SYSTEM}, {"developer", FIELD_SYSTEM}, {"user", FIELD_INPUT},
    {"human", FIELD_INPUT}, {"tool", FIELD_INPUT}, {"observation", FIELD_INPUT},
    {"assistant", FIELD_ANSWER}, {"gpt", FIELD_ANSWER},
};

/* Content is a string or a list of parts.  A message of another speaker, such as a
 * "function_call", holds no prose. */
static void message_texts(struct found *f, const json *m)
{
    static const char *const keys[] = {"content", "value", "thinking", "reasoning_content"};
    const char *who = json_string(json_get(m, "role"));
    if (!who) who = json_string(json_get(m, "from"));
    f->next.fixed = json_get(m, "train_detail") != NULL;
    f->next.joined = false;
    for (size_t i = 0; who && i < ARRAY_LEN(speakers); i++) {
        if (strcmp(who, speakers[i].name) != 0) continue;
        f->next.role = speakers[i].role;
        for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
            const json *v = json_get(m, keys[k]);
            found_add(f, v);
            if (json_kind(v) != JSON_ARRAY) continue;
            for (const json *p = json_first(v); p; p = json_next(p))
                found_add(f, json_get(p, "text"));
        }
    }
}

/* A string, a message, or a list of either; of pairs in "history". */
static void any_texts(struct found *f, const json *v)
{
    enum field_role role = f->next.role;
    found_add(f, v);
    if (json_kind(v) == JSON_OBJECT) message_texts(f, v);
    if (json_kind(v) != JSON_ARRAY) return;
    f->next.at = 0;
    for (const json *m = json_first(v); m; m = json_next(m)) {
        f->next.role = role;
        found_add(f, m);
        if (json_kind(m) == JSON_OBJECT) message_texts(f, m);
        if (json_kind(m) != JSON_ARRAY) continue;
        f->next.role = FIELD_INPUT;
        for (const json *s = json_first(m); s; s = json_next(s)) {
            found_add(f, s);
            f->next.role = FIELD_ANSWER;
        }
    }
}

static void word_texts(struct found *f, const json *v)
{
    f->next.word = true;
    any_texts(f, v);
}

/* {"text": [..], "answer_start": [..]}, or a list of such with one text each.  Those with
 * positions stand in the context, letter by letter. */
static void answer_texts(struct found *f, const json *v)
{
    const json *list = json_kind(v) == JSON_ARRAY ? v : json_get(v, "text");
    f->next.at = 0;
    f->next.fixed = json_get(v, "answer_start") != NULL;
    for (const json *a = json_first(list); a; a = json_next(a)) {
        if (json_get(a, "answer_start")) f->next.fixed = true;
        found_add(f, json_kind(a) == JSON_OBJECT ? json_get(a, "text") : a);
    }
}

/* {"en": "..", "fr": ".."}: from the first into the second. */
static void translation_texts(struct found *f, const json *v)
{
    if (json_kind(v) != JSON_OBJECT) return;
    f->next.at = 0;
    for (const json *s = json_first(v); s; s = json_next(s)) {
        found_add(f, s);
        f->next.role = FIELD_ANSWER;
    }
}

static void segment_texts(struct found *f, const json *v)
{
    f->next.at = 0;
    for (const json *s = json_first(v); s; s = json_next(s)) found_add(f, json_get(s, "text"));
}

/* --- columns */

static const struct column {
    const char *name;
    enum field_role role;
    void (*texts)(struct found *f, const json *v);
    bool joined;
    const char *fixed_by[3];        /* members that hold positions in the text */
} columns[] = {
    {"text", FIELD_TEXT, any_texts, false, {"spans", "entities"}},
    {"text_pair", FIELD_TEXT, any_texts, false, {0}},
    {"sentence", FIELD_TEXT, any_texts, false, {0}},
    {"sentence1", FIELD_TEXT, any_texts, false, {0}},
    {"sentence2", FIELD_TEXT, any_texts, false, {0}},
    {"anchor", FIELD_TEXT, any_texts, false, {0}},
    {"query", FIELD_TEXT, any_texts, false, {0}},
    {"positive", FIELD_TEXT, any_texts, false, {0}},
    {"negative", FIELD_TEXT, any_texts, false, {0}},
    {"tokens", FIELD_TEXT, word_texts, false, {0}},
    {"segments", FIELD_TEXT, segment_texts, true, {0}},
    {"messages", FIELD_INPUT, any_texts, false, {0}},
    {"conversations", FIELD_INPUT, any_texts, false, {0}},
    {"history", FIELD_INPUT, any_texts, false, {0}},
    {"instruction", FIELD_INPUT, any_texts, false, {0}},
    {"input", FIELD_INPUT, any_texts, false, {0}},
    {"prompt", FIELD_INPUT, any_texts, true, {0}},
    {"question", FIELD_INPUT, any_texts, false, {0}},
    {"context", FIELD_INPUT, any_texts, false, {"answers", "start_positions"}},
    {"source", FIELD_INPUT, any_texts, false, {0}},
    {"document", FIELD_INPUT, any_texts, false, {0}},
    {"article", FIELD_INPUT, any_texts, false, {0}},
    {"translation", FIELD_INPUT, translation_texts, false, {0}},
    {"output", FIELD_ANSWER, any_texts, false, {0}},
    {"completion", FIELD_ANSWER, any_texts, true, {0}},
    {"completions", FIELD_ANSWER, any_texts, true, {0}},
    {"chosen", FIELD_ANSWER, any_texts, true, {0}},
    {"rejected", FIELD_ANSWER, any_texts, true, {0}},
    {"answer", FIELD_ANSWER, any_texts, false, {0}},
    {"answers", FIELD_ANSWER, answer_texts, false, {0}},
    {"target", FIELD_ANSWER, any_texts, false, {0}},
    {"summary", FIELD_ANSWER, any_texts, false, {0}},
    {"highlights", FIELD_ANSWER, any_texts, false, {0}},
    {"system", FIELD_SYSTEM, any_texts, false, {0}},
};
static const char *const labels[] = {"label", "labels", "score", "tags", "ner_tags", "kto_tag"};
static const char *const no_texts[] = {"id", "idx", "uuid", "key", "url", "tools", "group", "split",
                                       "lang", "language", "date", "image", "file"};

static const struct column *column_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        if (strcmp(columns[i].name, name) == 0) return &columns[i];
    return NULL;
}

static bool is_named(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

int64_t fields_of(json *row, struct field *out, int64_t cap)
{
    struct found f = {.out = out, .cap = cap};
    for (const json *v = json_first(row); v; v = json_next(v)) {
        const struct column *c = column_of(json_key(v));
        if (!c) continue;
        f.next = (struct field){.column = c->name, .at = -1, .role = c->role,
                                .joined = c->joined};
        for (int i = 0; i < 3 && c->fixed_by[i]; i++)
            f.next.fixed |= json_get(row, c->fixed_by[i]) != NULL;
        c->texts(&f, v);
    }
    for (const json *v = f.n ? NULL : json_first(row); v; v = json_next(v)) {
        const char *key = json_key(v);
        if (is_named(labels, ARRAY_LEN(labels), key) ||
            is_named(no_texts, ARRAY_LEN(no_texts), key))
            continue;
        f.next = (struct field){.column = key, .at = -1, .role = FIELD_TEXT};
        found_add(&f, v);
    }
    return f.n;
}

int fields_list(struct mem *m, json *row, struct field **list, int64_t *cap, int64_t *n)
{
    *n = fields_of(row, *list, *cap);
    if (*n <= *cap) return PEFT_OK;
    int64_t bytes;
    struct field *now = mul_ok(*n, 2 * (int64_t)sizeof *now, &bytes) ?
                            mem_realloc(m, *list, bytes) : NULL;
    if (!now) return PEFT_ENOMEM;
    *list = now;
    *cap = 2 * *n;
    *n = fields_of(row, *list, *cap);
    return PEFT_OK;
}

void field_name(const struct field *f, char *out, size_t cap)
{
    if (f->at < 0) snprintf(out, cap, "%s", f->column);
    else snprintf(out, cap, "%s[%d]", f->column, f->at);
}

const json *field_label(const json *row)
{
    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        const json *v = json_get(row, labels[i]);
        if (v && json_kind(v) != JSON_NULL) return v;
    }
    return NULL;
}
