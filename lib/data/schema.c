/* Schemas: which columns a row must have, and how they become tokens.  The
 * first row decides by the first table row whose columns it all has; other
 * columns are ignored. */
#include "data/row.h"

#include <stdio.h>

/* Member `key` of a row; null counts as absent. */
const json *row_member(const json *row, const char *key)
{
    const json *v = json_get(row, key);
    return v && json_kind(v) != JSON_NULL ? v : NULL;
}

/* A string column; "" when an optional one is absent. */
int row_text(const json *row, const char *key, bool optional, const char **out)
{
    const json *v = row_member(row, key);
    *out = "";
    if (!v && optional) return PEFT_OK;
    if (json_kind(v) != JSON_STRING)
        return fail(PEFT_EFORMAT, "\"%s\": expected a string, found %s", key, json_kind_name(v));
    *out = json_string(v);
    return PEFT_OK;
}

/* --- conversations */

static int chat_alloc(struct coder *e, struct chat *c, int64_t cap)
{
    int64_t bytes;
    *c = (struct chat){0};
    if (!mul_ok(cap, (int64_t)sizeof *c->m, &bytes))
        return fail(PEFT_ENOMEM, "%lld messages", (long long)cap);
    c->m = arena_alloc(&e->scratch, bytes);
    c->train = arena_alloc(&e->scratch, cap);
    c->fields = arena_alloc(&e->scratch, bytes);
    return c->m && c->train && c->fields ? PEFT_OK : PEFT_ENOMEM;
}

/* An answer without text that calls no tool has nothing to learn. */
static void chat_add_fields(struct chat *c, const char *role, const char *content, bool train,
                            const json *fields)
{
    bool some = content[0] || (fields && row_member(fields, "tool_calls"));
    c->m[c->n] = (struct message){role, content};
    c->fields[c->n] = fields;
    c->train[c->n++] = train && strcmp(role, "assistant") == 0 && some;
}

static void chat_add(struct chat *c, const char *role, const char *content, bool train)
{
    chat_add_fields(c, role, content, train, NULL);
}

/* The system message of the options goes before a conversation without one. */
static void chat_begin(const struct coder *e, struct chat *c, const char *system, bool has_one)
{
    if (has_one) return;
    if (!system[0] && e->o->system) system = e->o->system;
    if (system[0]) chat_add(c, "system", system, false);
}

/* Content is a string, or a list of parts of which only text is known.  A call
 * of tools needs none. */
static int content_of(struct coder *e, const json *message, const char **out)
{
    const json *v = json_get(message, "content");
    if (json_kind(v) == JSON_STRING) {
        *out = json_string(v);
        return PEFT_OK;
    }
    if ((!v || json_kind(v) == JSON_NULL) && row_member(message, "tool_calls")) return PEFT_OK;
    if (!v || json_kind(v) != JSON_ARRAY)
        return fail(PEFT_EFORMAT, "\"content\" of a message: expected a string, found %s",
                    json_kind_name(v));
    buf_clear(&e->text);
    for (const json *part = json_first(v); part; part = json_next(part)) {
        const char *type = json_string(json_get(part, "type"));
        const char *text = json_string(json_get(part, "text"));
        if (!type || strcmp(type, "text") != 0 || !text)
            return fail(PEFT_EUNSUPPORTED, "a message part of type \"%.40s\", expected \"text\"",
                        type ? type : "?");
        buf_puts(&e->text, text);
    }
    int rc = buf_check(&e->text);
    if (rc < 0) return rc;
    *out = arena_strndup(&e->scratch, buf_str(&e->text), e->text.n);
    return *out ? PEFT_OK : PEFT_ENOMEM;
}

static const struct { const char *name, *role; } roles[] = {
    {"system", "system"}, {"user", "user"}, {"assistant", "assistant"}, {"tool", "tool"},
    {"developer", "system"}, {"human", "user"}, {"gpt", "assistant"},
};

static int role_of(const json *message, const char *key, const char **out)
{
    int rc = row_text(message, key, false, out);
    if (rc < 0) return rc;
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        if (strcmp(*out, roles[i].name) == 0) {
            *out = roles[i].role;
            return PEFT_OK;
        }
    }
    return fail(PEFT_EFORMAT, "\"%s\" is \"%.40s\", expected \"system\", \"user\", \"assistant\" "
                "or \"tool\"", key, *out);
}

static int add_messages(struct coder *e, const json *row, const char *key, struct chat *c,
                        bool train)
{
    const json *list = json_get(row, key);
    for (const json *m = json_first(list); m; m = json_next(m)) {
        const char *role, *content = "";
        if (json_kind(m) != JSON_OBJECT)
            return fail(PEFT_EFORMAT, "\"%s\": expected a list of objects, found %s in it", key,
                        json_kind_name(m));
        int rc = role_of(m, "role", &role);
        if (rc == PEFT_OK) rc = content_of(e, m, &content);
        if (rc < 0) return rc;
        const json *flag = row_member(m, "train");
        if (flag && json_kind(flag) != JSON_BOOL)
            return fail(PEFT_EFORMAT, "\"train\": expected true or false, found %s",
                        json_kind_name(flag));
        chat_add_fields(c, role, content, train && json_bool(flag, 1), m);
    }
    return PEFT_OK;
}

/* What a conversation's answers may call: a list, if the row has one. */
static const json *tools_of(const json *row)
{
    const json *tools = row_member(row, "tools");
    return tools && json_kind(tools) == JSON_ARRAY && json_first(tools) ? tools : NULL;
}

static int list_of(const json *row, const char *key, const json **out)
{
    *out = json_get(row, key);
    if (json_kind(*out) != JSON_ARRAY || !json_first(*out))
        return fail(PEFT_EFORMAT, "\"%s\": expected a list of messages, found %s", key,
                    json_kind(*out) == JSON_ARRAY ? "an empty one" : json_kind_name(*out));
    return PEFT_OK;
}

static bool begins_with_system(const json *list, const char *key)
{
    const char *role = json_string(json_get(json_first(list), key));
    return role && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0);
}

static int read_messages(struct coder *e, const json *row, const char *key, struct chat *c)
{
    const json *list;
    int rc = list_of(row, key, &list);
    if (rc == PEFT_OK) rc = chat_alloc(e, c, json_count(list) + 1);
    if (rc < 0) return rc;
    c->tools = tools_of(row);
    chat_begin(e, c, "", begins_with_system(list, "role"));
    return add_messages(e, row, key, c, true);
}

static int read_sharegpt(struct coder *e, const json *row, const char *key, struct chat *c)
{
    const json *list;
    const char *system, *role, *content;
    int rc = list_of(row, key, &list);
    if (rc == PEFT_OK) rc = row_text(row, "system", true, &system);
    if (rc == PEFT_OK) rc = chat_alloc(e, c, json_count(list) + 1);
    if (rc < 0) return rc;
    chat_begin(e, c, system, begins_with_system(list, "from"));
    for (const json *m = json_first(list); m; m = json_next(m)) {
        rc = role_of(m, "from", &role);
        if (rc == PEFT_OK) rc = row_text(m, "value", false, &content);
        if (rc < 0) return rc;
        chat_add(c, role, content, true);
    }
    return PEFT_OK;
}

int row_chat(struct coder *e, const json *row, struct chat *out)
{
    if (row_member(row, "messages")) return read_messages(e, row, "messages", out);
    return read_sharegpt(e, row, "conversations", out);
}

static int encode_chat(const struct schema *s, struct coder *e, const json *row)
{
    struct chat c;
    (void)s;
    int rc = row_chat(e, row, &c);
    return rc < 0 ? rc : coder_chat(e, &c);
}

/* Two strings are joined as they are; two lists are one conversation. */
static int encode_completion(const struct schema *s, struct coder *e, const json *row)
{
    const json *prompt, *answer;
    const char *a, *b;
    int rc;
    if (json_kind(json_get(row, s->need[0])) != JSON_ARRAY) {
        rc = row_text(row, s->need[0], false, &a);
        if (rc == PEFT_OK) rc = row_text(row, s->need[1], false, &b);
        return rc < 0 ? rc : coder_answer(e, a, b);
    }
    struct chat c;
    rc = list_of(row, s->need[0], &prompt);
    if (rc == PEFT_OK) rc = list_of(row, s->need[1], &answer);
    if (rc == PEFT_OK) rc = chat_alloc(e, &c, json_count(prompt) + json_count(answer) + 1);
    if (rc < 0) return rc;
    c.tools = tools_of(row);
    chat_begin(e, &c, "", begins_with_system(prompt, "role"));
    rc = add_messages(e, row, s->need[0], &c, false);
    if (rc == PEFT_OK) rc = add_messages(e, row, s->need[1], &c, true);
    return rc < 0 ? rc : coder_chat(e, &c);
}

/* A model with a chat template sees a conversation, others the text form of
 * Stanford Alpaca. */
static int encode_alpaca(const struct schema *s, struct coder *e, const json *row)
{
    const char *task, *input, *answer, *system;
    int rc = row_text(row, s->need[0], false, &task);
    if (rc == PEFT_OK) rc = row_text(row, "input", true, &input);
    if (rc == PEFT_OK) rc = row_text(row, s->need[1], false, &answer);
    if (rc == PEFT_OK) rc = row_text(row, "system", true, &system);
    if (rc < 0) return rc;
    bool chat = chat_known(e->tok);
    struct buf *b = &e->text;
    buf_clear(b);
    if (chat) {
        buf_printf(b, "%s%s%s", task, input[0] ? "\n" : "", input);
    } else {
        if (!system[0] && e->o->system) system = e->o->system;
        buf_printf(b, "%s%s### Instruction:\n%s\n\n", system, system[0] ? "\n\n" : "", task);
        if (input[0]) buf_printf(b, "### Input:\n%s\n\n", input);
        buf_puts(b, "### Response:\n");
    }
    if ((rc = buf_check(b)) < 0) return rc;
    const char *prompt = arena_strndup(&e->scratch, buf_str(b), b->n);
    if (!prompt) return PEFT_ENOMEM;
    if (!chat) return coder_answer(e, prompt, answer);
    struct chat c;
    if ((rc = chat_alloc(e, &c, 3)) < 0) return rc;
    chat_begin(e, &c, system, false);
    chat_add(&c, "user", prompt, false);
    chat_add(&c, "assistant", answer, true);
    return coder_chat(e, &c);
}

/* --- text, classes, ids */

static int encode_plain(const struct schema *s, struct coder *e, const json *row)
{
    const char *text;
    int rc = row_text(row, s->need[0], false, &text);
    return rc < 0 ? rc : coder_text(e, text);
}

/* TRL's RewardTrainer: the better and the worse answer, strings or lists of
 * messages, with or without their prompt, and a margin. */
static int encode_pair(const struct schema *s, struct coder *e, const json *row)
{
    const json *prompt = row_member(row, "prompt"), *margin = row_member(row, "margin");
    if (margin && json_kind(margin) != JSON_NUMBER)
        return fail(PEFT_EFORMAT, "\"margin\": expected a number, found %s",
                    json_kind_name(margin));
    e->row.value = (float)json_number(margin, 0);
    for (int t = 0; t < 2; t++) {
        const char *before = "", *answer;
        int rc = PEFT_OK;
        if (json_kind(json_get(row, s->need[t])) != JSON_ARRAY) {
            if (prompt) rc = row_text(row, "prompt", false, &before);
            if (rc == PEFT_OK) rc = row_text(row, s->need[t], false, &answer);
            if (rc == PEFT_OK) rc = coder_add_answer(e, before, answer);
            if (rc < 0) return rc;
            continue;
        }
        struct chat c;
        const json *list, *first = NULL;
        rc = list_of(row, s->need[t], &list);
        if (rc == PEFT_OK && prompt) rc = list_of(row, "prompt", &first);
        if (rc == PEFT_OK) rc = chat_alloc(e, &c, json_count(list) + json_count(first) + 1);
        if (rc < 0) return rc;
        chat_begin(e, &c, "", begins_with_system(first ? first : list, "role"));
        if (first) rc = add_messages(e, row, "prompt", &c, false);
        if (rc == PEFT_OK) rc = add_messages(e, row, s->need[t], &c, false);
        if (rc == PEFT_OK) rc = coder_add_chat(e, &c);
        if (rc < 0) return rc;
    }
    return PEFT_OK;
}

/* Columns: label, text, and the second text, which may be absent. */
static int encode_labelled(const struct schema *s, struct coder *e, const json *row)
{
    const char *text, *pair_key = s->need[2] ? s->need[2] : "text_pair", *pair = NULL;
    int rc = row_text(row, s->need[1], false, &text);
    if (rc == PEFT_OK && row_member(row, pair_key)) rc = row_text(row, pair_key, false, &pair);
    if (rc == PEFT_OK) rc = labels_read(e->label_set, json_get(row, s->need[0]), &e->row);
    return rc < 0 ? rc : coder_class(e, text, pair);
}

/* Reads a list of integers in [lo, hi], or `other`. */
int row_ids(const json *list, const char *key, int64_t lo, int64_t hi, int64_t other,
                    struct ids *out)
{
    if (json_kind(list) != JSON_ARRAY)
        return fail(PEFT_EFORMAT, "\"%s\": expected a list of integers, found %s", key,
                    json_kind_name(list));
    for (const json *v = json_first(list); v; v = json_next(v)) {
        if (json_kind(v) != JSON_NUMBER)
            return fail(PEFT_EFORMAT, "\"%s\": element %lld: expected an integer, found %s", key,
                        (long long)out->n, json_kind_name(v));
        double x = json_number(v, 0);
        bool valid = (x >= (double)lo && x <= (double)hi) || x == (double)other;
        if (!valid || x != (double)(int64_t)x)
            return fail(PEFT_EFORMAT, "\"%s\": element %lld is %.17g, expected an integer of "
                        "%lld to %lld", key, (long long)out->n, x, (long long)lo, (long long)hi);
        ids_push(out, (int32_t)x);
    }
    return ids_check(out);
}

static int encode_pair_ids(const struct schema *s, struct coder *e, const json *row)
{
    int64_t last = (int64_t)e->o->vocab - 1;
    for (int t = 0; t < 2; t++) {
        int rc = row_ids(json_get(row, s->need[t]), s->need[t], 0, last, 0, &e->ids);
        ids_push(&e->ends, (int32_t)e->ids.n);
        if (rc < 0) return rc;
    }
    e->row.value = 0;
    return ids_check(&e->ends);
}

/* Padding at the end is dropped; a hole elsewhere has no meaning here. */
int row_drop_padding(struct coder *e, const json *mask)
{
    e->part.n = 0;
    int rc = row_ids(mask, "attention_mask", 0, 1, 1, &e->part);
    if (rc < 0) return rc;
    if (e->part.n != e->ids.n)
        return fail(PEFT_EFORMAT, "\"attention_mask\": %lld elements, expected %lld as in "
                    "\"input_ids\"", (long long)e->part.n, (long long)e->ids.n);
    int64_t n = e->part.n;
    while (n > 0 && e->part.v[n - 1] == 0) n--;
    for (int64_t i = 0; i < n; i++)
        if (e->part.v[i] == 0)
            return fail(PEFT_EFORMAT, "\"attention_mask\": element %lld is 0 before a 1, expected "
                        "zeros at the end only", (long long)i);
    e->ids.n = n;
    if (e->labels.n) e->labels.n = n;
    return PEFT_OK;
}

/* Answers as Hugging Face's models take them. */
static int ids_span(struct coder *e, const json *row)
{
    int64_t first = 0, last = 0;
    int rc = json_int(row, "start_positions", 0, e->ids.n - 1, &first);
    if (rc >= 0) rc = json_int(row, "end_positions", 0, e->ids.n - 1, &last);
    e->task = TASK_SPAN;
    e->row.span[0] = (int32_t)first;
    e->row.span[1] = (int32_t)last;
    return MIN(rc, PEFT_OK);
}

static int encode_ids(const struct schema *s, struct coder *e, const json *row)
{
    int64_t last = (int64_t)e->o->vocab - 1;
    const json *labels = row_member(row, "labels"), *label = row_member(row, "label");
    if (!label && labels && json_kind(labels) != JSON_ARRAY) label = labels;
    int rc = row_ids(json_get(row, s->need[0]), s->need[0], 0, last, 0, &e->ids);
    if (rc < 0) return rc;
    int tokens = e->o->head == HEAD_TOKENS, masked = !e->o->causal;
    if (row_member(row, "start_positions")) {
        rc = ids_span(e, row);
    } else if (label) {
        e->task = TASK_CLASS;
        rc = labels_read(e->label_set, label, &e->row);
    } else if (labels && (e->o->head == HEAD_MULTI || e->o->head == HEAD_REGRESS)) {
        rc = multi_read(e, labels);
    } else if (labels) {
        e->task = tokens ? TASK_TOKEN : masked ? TASK_MASKED : TASK_LM;
        if (tokens) last = e->o->n_labels - 1;
        rc = row_ids(labels, "labels", 0, last, NOT_TRAINED, &e->labels);
        if (rc == PEFT_OK && e->labels.n != e->ids.n)
            rc = fail(PEFT_EFORMAT, "\"labels\": %lld elements, expected %lld as in \"%s\"",
                      (long long)e->labels.n, (long long)e->ids.n, s->need[0]);
    } else if (masked) {
        rc = coder_masked(e);
    } else {
        for (int64_t i = 0; i < e->ids.n; i++) ids_push(&e->labels, e->ids.v[i]);
        rc = ids_check(&e->labels);
    }
    const json *mask = row_member(row, "attention_mask");
    if (rc == PEFT_OK && mask) rc = row_drop_padding(e, mask);
    return rc;
}

/* --- the table */

static const struct schema schemas[] = {
    {"input_ids", {"input_ids"}, TASK_LM, 0, encode_ids},
    {"chosen-rejected", {"chosen_input_ids", "rejected_input_ids"}, TASK_PAIR, 0, encode_pair_ids},
    {"tokens-tags", {"tokens", "tags"}, TASK_TOKEN, 1, encode_tokens},
    {"tokens-tags", {"tokens", "ner_tags"}, TASK_TOKEN, 1, encode_tokens},
    {"tokens-tags", {"tokens", "labels"}, TASK_TOKEN, 1, encode_tokens},
    {"text-spans", {"text", "spans"}, TASK_TOKEN, 1, encode_entities},
    {"text-spans", {"text", "entities"}, TASK_TOKEN, 1, encode_entities},
    {"question-context", {"question", "context"}, TASK_SPAN, 1, encode_question},
    {"chosen-rejected", {"chosen", "rejected"}, TASK_PAIR, 1, encode_pair},
    {"messages", {"messages"}, TASK_LM, 1, encode_chat},
    {"sharegpt", {"conversations"}, TASK_LM, 1, encode_chat},
    {"prompt-completion", {"prompt", "completion"}, TASK_LM, 1, encode_completion},
    {"alpaca", {"instruction", "output"}, TASK_LM, 1, encode_alpaca},
    {"match", {"anchor", "positive"}, TASK_MATCH, 1, encode_match},
    {"match", {"query", "positive"}, TASK_MATCH, 1, encode_match},
    {"alike", {"score", "sentence1", "sentence2"}, TASK_ALIKE, 1, encode_alike},
    {"text-label", {"label", "text"}, TASK_CLASS, 1, encode_labelled},
    {"text-label", {"score", "text"}, TASK_CLASS, 1, encode_labelled},
    {"text-labels", {"labels", "text"}, TASK_MULTI, 1, encode_multi},
    {"text-label", {"label", "sentence"}, TASK_CLASS, 1, encode_labelled},
    {"text-label", {"label", "sentence1", "sentence2"}, TASK_CLASS, 1, encode_labelled},
    {"text", {"text"}, TASK_LM, 1, encode_plain},
    {NULL, {NULL}, TASK_LM, 0, NULL},
};

static bool has_columns(const struct schema *s, const json *row)
{
    for (size_t i = 0; i < ARRAY_LEN(s->need) && s->need[i]; i++)
        if (!row_member(row, s->need[i])) return false;
    return true;
}

/* Appends `word` to a list, or dots and false when it is full. */
static bool list_add(char *list, size_t cap, const char *sep, const char *word)
{
    size_t at = strlen(list);
    if (!at) sep = "";
    bool fits = at + strlen(sep) + strlen(word) + 8 < cap;
    snprintf(list + at, cap - at, "%s%s", sep, fits ? word : "...");
    return fits;
}

/* PEFT_EFORMAT that lists the columns of the row. */
static int wrong_columns(const json *row, const char *expected)
{
    char found[160] = "";
    const json *v = json_first(row);
    while (v && list_add(found, sizeof found, ", ", json_key(v))) v = json_next(v);
    return fail(PEFT_EFORMAT, "expected %s; found %s", expected, found[0] ? found : "no columns");
}

int schema_find(const struct data_opts *o, const json *row, const struct schema **out)
{
    for (const struct schema *s = o->seq2seq ? seq2seq_schemas : schemas; s->name; s++) {
        if (!has_columns(s, row)) continue;
        *out = s;
        return PEFT_OK;
    }
    if (o->seq2seq)
        return wrong_columns(row, "prompt and completion, instruction and output, text and "
                             "summary, translation, source and target, question and answer, "
                             "messages, or input_ids and labels");
    return wrong_columns(row, "messages, conversations, prompt and completion, instruction and "
                         "output, text and label or labels, tokens and tags, question and "
                         "context, chosen and rejected, anchor and positive, score and sentence1 "
                         "and sentence2, text, or input_ids");
}

int schema_encode(const struct schema *s, struct coder *e, const json *row)
{
    char expected[120] = "";
    e->ids.n = e->labels.n = e->ends.n = 0;
    e->task = s->task;
    e->more = NULL;
    e->masks = 0;
    arena_reset(&e->scratch);
    if (has_columns(s, row)) return s->encode(s, e, row);
    for (size_t i = 0; i < ARRAY_LEN(s->need) && s->need[i]; i++)
        list_add(expected, sizeof expected, " and ", s->need[i]);
    list_add(expected, sizeof expected, " ", "as in the first row");
    return wrong_columns(row, expected);
}
