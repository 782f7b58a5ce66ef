/* Rows that are conversations, or become some: OpenAI's messages, ShareGPT's and
 * Alpaca's columns, prompts with their answers, pairs of answers.
 *
 * What trains are the assistant's messages, as far as "train" and "train_detail"
 * (axolotl) do not say otherwise. */
#include "data/row.h"

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

/* A message without text that calls no tool has nothing to learn. */
static void chat_add_fields(struct chat *c, const char *role, const char *content, bool train,
                            const json *fields)
{
    bool some = content[0] || (fields && row_member(fields, "tool_calls"));
    c->m[c->n] = (struct message){role, content};
    c->fields[c->n] = fields;
    c->train[c->n++] = train && some;
}

static void chat_add(struct chat *c, const char *role, const char *content, bool train)
{
    chat_add_fields(c, role, content, train && strcmp(role, "assistant") == 0, NULL);
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
    {"developer", "system"}, {"human", "user"}, {"gpt", "assistant"}, {"model", "assistant"},
    {"function_call", "assistant"}, {"observation", "tool"}, {"function", "tool"},
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
        bool own = train && (flag || strcmp(role, "assistant") == 0);
        if (own && (row_member(m, "train_detail") || strcmp(role, "assistant") != 0))
            c->by_hand = true;
        chat_add_fields(c, role, content, own && json_bool(flag, 1), m);
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
    if (rc == PEFT_OK) rc = chat_alloc(e, c, json_count(list) + 2);
    if (rc < 0) return rc;
    c->tools = tools_of(row);
    chat_begin(e, c, "", begins_with_system(list, "role"));
    return add_messages(e, row, key, c, true);
}

/* {"name", "arguments"}, or a list of them, as OpenAI's member of a message. */
static int put_calls(struct buf *b, const char *text)
{
    json *calls = NULL;
    int rc = json_parse(text, (int64_t)strlen(text), "\"function_call\"", &calls);
    if (rc < 0) return rc;
    const char *sep = ",\"tool_calls\":[";
    for (const json *c = json_kind(calls) == JSON_ARRAY ? json_first(calls) : calls; c;
         c = json_next(c), sep = ",") {
        buf_printf(b, "%s{\"type\":\"function\",\"function\":", sep);
        json_write(b, c);
        buf_putc(b, '}');
    }
    json_free(calls);
    buf_puts(b, *sep == ',' && !sep[1] ? "]" : "");
    return PEFT_OK;
}

static bool is_call(const json *message)
{
    const char *from = json_string(json_get(message, "from"));
    return from && !strcmp(from, "function_call");
}

static void put_turn(struct buf *b, const char *sep, const char *role, const char *content)
{
    buf_printf(b, "%s{\"role\":\"%s\",\"content\":", sep, role);
    buf_json(b, content, (int64_t)strlen(content));
}

/* ShareGPT's calls of tools, which templates know from messages only: the row
 * as such, in e->made. */
static int make_messages(struct coder *e, const json *row, const char *key)
{
    struct buf *b = &e->text;
    const json *tools = row_member(row, "tools");
    const char *role, *text, *list = json_string(tools), *sep = "";
    int rc = row_text(row, "system", true, &text);
    buf_clear(b);
    buf_puts(b, "{\"tools\":");
    if (list && *list) buf_puts(b, list);
    else if (tools && !list) json_write(b, tools);
    else buf_puts(b, "null");
    buf_puts(b, ",\"messages\":[");
    if (rc == PEFT_OK && text[0]) {
        put_turn(b, sep, "system", text);
        sep = "},";
    }
    for (const json *m = json_first(json_get(row, key)); m && rc == PEFT_OK;
         m = json_next(m), sep = "},") {
        rc = role_of(m, "from", &role);
        if (rc == PEFT_OK) rc = row_text(m, "value", false, &text);
        if (rc < 0) return rc;
        put_turn(b, sep, role, is_call(m) ? "" : text);
        if (is_call(m)) rc = put_calls(b, text);
    }
    buf_puts(b, "}]}");
    if (rc == PEFT_OK) rc = buf_check(b);
    json_free(e->made);
    e->made = NULL;
    return rc < 0 ? rc : json_parse(b->data, b->n, "\"tools\"", &e->made);
}

static int read_sharegpt(struct coder *e, const json *row, const char *key, struct chat *c)
{
    const json *list;
    const char *system, *role, *content;
    int rc = list_of(row, key, &list);
    if (rc == PEFT_OK) rc = row_text(row, "system", true, &system);
    if (rc < 0) return rc;
    bool calls = row_member(row, "tools") != NULL;
    for (const json *m = json_first(list); m; m = json_next(m)) calls = calls || is_call(m);
    if (calls) {
        rc = make_messages(e, row, key);
        return rc < 0 ? rc : read_messages(e, e->made, "messages", c);
    }
    if ((rc = chat_alloc(e, c, json_count(list) + 2)) < 0) return rc;
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

int encode_chat(const struct schema *s, struct coder *e, const json *row)
{
    struct chat c;
    (void)s;
    int rc = row_chat(e, row, &c);
    return rc < 0 ? rc : coder_chat(e, &c);
}

/* Two strings are joined as they are; two lists are one conversation. */
int encode_completion(const struct schema *s, struct coder *e, const json *row)
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

/* "history": earlier questions and answers, [["q", "a"], ...]. */
static int history_pair(const json *pair, const char **q, const char **a)
{
    *q = json_string(json_first(pair));
    *a = json_string(json_next(json_first(pair)));
    if (*q && *a && json_count(pair) == 2) return PEFT_OK;
    return fail(PEFT_EFORMAT, "\"history\": expected pairs of strings, [[\"ask\", \"answer\"]]");
}

static void alpaca_text(struct buf *b, const char *task, const char *input)
{
    buf_printf(b, "### Instruction:\n%s\n\n", task);
    if (input[0]) buf_printf(b, "### Input:\n%s\n\n", input);
    buf_puts(b, "### Response:\n");
}

/* What comes before the answer: for a model with a chat template the messages,
 * whose answers train, with room for one more; for others the text form of
 * Stanford Alpaca in *prompt. */
static int read_alpaca(struct coder *e, const json *row, struct chat *c, const char **prompt)
{
    const char *task, *input, *system, *q, *a;
    const json *history = row_member(row, "history");
    struct buf *b = &e->text;
    bool chat = chat_known(e->tok);
    int rc = row_text(row, "instruction", false, &task);
    if (rc == PEFT_OK) rc = row_text(row, "input", true, &input);
    if (rc == PEFT_OK) rc = row_text(row, "system", true, &system);
    if (rc == PEFT_OK && chat) rc = chat_alloc(e, c, 2 * json_count(history) + 3);
    if (rc < 0) return rc;
    buf_clear(b);
    if (chat) chat_begin(e, c, system, false);
    else if (!system[0] && e->o->system) system = e->o->system;
    if (!chat) buf_printf(b, "%s%s", system, system[0] ? "\n\n" : "");
    for (const json *h = json_first(history); h; h = json_next(h)) {
        if ((rc = history_pair(h, &q, &a)) < 0) return rc;
        if (chat) chat_add(c, "user", q, false), chat_add(c, "assistant", a, true);
        else alpaca_text(b, q, ""), buf_printf(b, "%s\n\n", a);
    }
    if (chat) buf_printf(b, "%s%s%s", task, input[0] ? "\n" : "", input);
    else alpaca_text(b, task, input);
    if ((rc = buf_check(b)) < 0) return rc;
    if (!(*prompt = arena_strndup(&e->scratch, buf_str(b), b->n))) return PEFT_ENOMEM;
    if (chat) chat_add(c, "user", *prompt, false);
    return PEFT_OK;
}

int encode_alpaca(const struct schema *s, struct coder *e, const json *row)
{
    struct chat c;
    const char *prompt, *answer;
    int rc = row_text(row, s->need[1], false, &answer);
    if (rc == PEFT_OK) rc = read_alpaca(e, row, &c, &prompt);
    if (rc < 0) return rc;
    if (!chat_known(e->tok)) return coder_answer(e, prompt, answer);
    chat_add(&c, "assistant", answer, true);
    return coder_chat(e, &c);
}

/* axolotl's pieces of text, each by itself, which say whether they train. */
int encode_segments(const struct schema *s, struct coder *e, const json *row)
{
    const json *list = json_get(row, s->need[0]);
    for (const json *v = json_first(list); v; v = json_next(v)) {
        const char *text;
        int64_t from = e->ids.n;
        int rc = row_text(v, "text", false, &text);
        if (rc == PEFT_OK)
            rc = tok_encode(e->host, e->tok, text, (int64_t)strlen(text), 0, &e->ids);
        if (rc == PEFT_OK) rc = ids_check(&e->ids);
        if (rc < 0) return rc;
        bool train = json_bool(json_get(v, "label"), 0) || e->o->train_on_prompt;
        for (; from < e->ids.n; from++)
            ids_push(&e->labels, train ? e->ids.v[from] : NOT_TRAINED);
    }
    return ids_check(&e->labels);
}

/* By how much the better answer is better. */
static int read_margin(struct coder *e, const json *row)
{
    const json *margin = row_member(row, "margin");
    if (margin && json_kind(margin) != JSON_NUMBER)
        return fail(PEFT_EFORMAT, "\"margin\": expected a number, found %s",
                    json_kind_name(margin));
    e->row.value = (float)json_number(margin, 0);
    return PEFT_OK;
}

/* LLaMA-Factory's pairs: the prompt is Alpaca's columns or ShareGPT's messages. */
int encode_pair_turns(const struct schema *s, struct coder *e, const json *row)
{
    bool alpaca = !strcmp(s->need[2], "instruction");
    int rc = read_margin(e, row);
    for (int t = 0; t < 2 && rc == PEFT_OK; t++) {
        struct chat c;
        const json *v = json_get(row, s->need[t]);
        const char *prompt, *answer = json_string(json_kind(v) == JSON_OBJECT ?
                                                  json_get(v, "value") : v);
        if (!answer)
            return fail(PEFT_EFORMAT, "\"%s\": expected a string, or an object with \"value\"",
                        s->need[t]);
        rc = alpaca ? read_alpaca(e, row, &c, &prompt) : read_sharegpt(e, row, s->need[2], &c);
        if (rc < 0) return rc;
        if (alpaca && !chat_known(e->tok)) {
            rc = coder_add_answer(e, prompt, answer);
            continue;
        }
        chat_add(&c, "assistant", answer, false);
        rc = coder_add_chat(e, &c);
    }
    return rc;
}

/* TRL's RewardTrainer: the better and the worse answer, strings or lists of
 * messages, with or without their prompt, and a margin. */
int encode_pair(const struct schema *s, struct coder *e, const json *row)
{
    const json *prompt = row_member(row, "prompt");
    int rc = read_margin(e, row);
    for (int t = 0; t < 2 && rc == PEFT_OK; t++) {
        const char *before = "", *answer;
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
    }
    return rc;
}
