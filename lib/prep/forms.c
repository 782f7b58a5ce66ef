/* Writing conversations as rows, and the table of formats. */
#include "prep/talk.h"

static void put_text(struct buf *b, const char *s) { buf_json(b, s, (int64_t)strlen(s)); }

static void put_string(struct buf *b, const char *key, const char *value)
{
    put_text(b, key);
    buf_puts(b, ": ");
    put_text(b, value);
}

static int cannot(const char *form, const char *what)
{
    return fail(PEFT_EFORMAT, "%s cannot hold %s", form, what);
}

/* --- lists of messages */

/* A call's text is one function or a list of them, each of which is put into its frame. */
static int put_calls(struct buf *b, const char *text)
{
    json *j = NULL;
    int rc = json_parse(text, (int64_t)strlen(text), "a function call", &j);
    if (rc) return rc;
    const json *one = json_kind(j) == JSON_ARRAY ? json_first(j) : j;
    const char *sep = "";
    buf_puts(b, "\"tool_calls\": [");
    for (; one && !rc; one = json_kind(j) == JSON_ARRAY ? json_next(one) : NULL) {
        if (!json_string(json_get(one, "name")))
            rc = fail(PEFT_EFORMAT, "a function call without a name");
        buf_puts(b, sep);
        sep = ", ";
        buf_puts(b, "{\"type\": \"function\", \"function\": ");
        json_write(b, one);
        buf_putc(b, '}');
    }
    buf_putc(b, ']');
    json_free(j);
    return rc;
}

static int put_message(struct buf *b, const struct turn *m)
{
    int rc = PEFT_OK;
    if (m->node) {
        json_write(b, m->node);
        return rc;
    }
    buf_putc(b, '{');
    put_string(b, "role", message_roles[m->who]);
    buf_puts(b, ", ");
    put_string(b, "content", m->who == CALL ? "" : m->text);
    if (m->who == CALL) {
        buf_puts(b, ", ");
        rc = put_calls(b, m->text);
    }
    buf_putc(b, '}');
    return rc;
}

static int put_list(struct buf *b, const char *key, const struct turn *v, int64_t n)
{
    int rc = PEFT_OK;
    put_text(b, key);
    buf_puts(b, ": [");
    for (int64_t i = 0; i < n && !rc; i++) {
        if (i) buf_puts(b, ", ");
        rc = put_message(b, &v[i]);
    }
    buf_putc(b, ']');
    return rc;
}

static int write_messages(struct buf *b, const struct talk *t, int style)
{
    (void)style;
    return put_list(b, "messages", t->all.v, t->all.n);
}

/* --- ShareGPT: style 1 has the system message as a column */

static int write_sharegpt(struct buf *b, const struct talk *t, int style)
{
    const char *sep = "";
    int64_t first = style && t->all.n && t->all.v[0].who == SYSTEM;
    buf_puts(b, "\"conversations\": [");
    for (int64_t i = first; i < t->all.n; i++) {
        const struct turn *m = &t->all.v[i];
        if (!m->text)
            return cannot("sharegpt", m->who == CALL ? "a text beside a function call"
                                                     : "content that is no text");
        buf_puts(b, sep);
        sep = ", ";
        buf_putc(b, '{');
        put_string(b, "from", sharegpt_roles[m->who]);
        buf_puts(b, ", ");
        put_string(b, "value", m->text);
        buf_putc(b, '}');
    }
    buf_putc(b, ']');
    if (first) {
        buf_puts(b, ", ");
        put_string(b, "system", t->all.v[0].text ? t->all.v[0].text : "");
    }
    return PEFT_OK;
}

/* --- texts in columns */

/* [system] (user assistant)*, and where the answer is wanted an assistant at the end. */
static int check_plain(const char *form, const struct turns *v, int64_t n)
{
    int64_t at = n && v->v[0].who == SYSTEM;
    for (int64_t i = 0; i < n; i++) {
        enum speaker due = i < at ? SYSTEM : (i - at) % 2 ? ASSISTANT : USER;
        if (!v->v[i].text) return cannot(form, "content that is no text");
        if (v->v[i].who == CALL || v->v[i].who == TOOL) return cannot(form, "function calls");
        if (v->v[i].who != due)
            return cannot(form, due == USER ? "two answers in turn" : "two questions in turn");
    }
    return n > at && v->v[n - 1].who == USER ? PEFT_OK : cannot(form, "no question at the end");
}

static int check_answered(const char *form, const struct talk *t)
{
    if (t->prompt + 1 != t->all.n || t->all.v[t->prompt].who != ASSISTANT ||
        !t->all.v[t->prompt].text)
        return cannot(form, "a conversation without one answer at the end");
    return check_plain(form, &t->all, t->prompt);
}

static int write_alpaca(struct buf *b, const struct talk *t, int style)
{
    const struct turn *v = t->all.v;
    (void)style;
    int rc = check_answered("alpaca", t);
    if (rc) return rc;
    const char *task = v[t->prompt - 1].text, *input = t->input ? t->input : "";
    size_t n = strlen(task), k = strlen(input);
    bool cut = k && n > k && task[n - k - 1] == '\n' && !strcmp(task + n - k, input);
    if (!cut) input = "";
    buf_puts(b, "\"instruction\": ");
    buf_json(b, task, (int64_t)(cut ? n - k - 1 : n));
    buf_puts(b, ", ");
    put_string(b, "input", input);
    buf_puts(b, ", ");
    put_string(b, "output", v[t->prompt].text);
    int64_t at = v[0].who == SYSTEM;
    if (at) {
        buf_puts(b, ", ");
        put_string(b, "system", v[0].text);
    }
    if (at + 1 == t->prompt) return PEFT_OK;
    buf_puts(b, ", \"history\": [");
    for (int64_t i = at; i + 1 < t->prompt; i += 2) {
        buf_puts(b, i > at ? ", [" : "[");
        put_text(b, v[i].text);
        buf_puts(b, ", ");
        put_text(b, v[i + 1].text);
        buf_putc(b, ']');
    }
    buf_putc(b, ']');
    return PEFT_OK;
}

/* A message that is no more than its text. */
static bool is_bare(const struct turn *m, enum speaker who)
{
    return m->who == who && m->text &&
           (!m->node || (json_count(m->node) == 2 && json_string(json_get(m->node, "content"))));
}

static bool is_bare_question(const struct talk *t)
{
    return t->prompt == 1 && is_bare(&t->all.v[0], USER);
}
static bool is_bare_answer(const struct turn *v, int64_t n)
{
    return n == 1 && is_bare(v, ASSISTANT);
}

/* Style 1 has lists of messages also where strings would do. */
static int write_completion(struct buf *b, const struct talk *t, int style)
{
    const struct turn *answer = t->all.v + t->prompt;
    int64_t n = t->all.n - t->prompt;
    if (t->prompt < 1 || n < 1 || answer[0].who == USER || answer[n - 1].who == USER)
        return cannot("prompt-completion", "a conversation without an answer at the end");
    if (!style && is_bare_question(t) && is_bare_answer(answer, n)) {
        put_string(b, "prompt", t->all.v[0].text);
        buf_puts(b, ", ");
        put_string(b, "completion", answer->text);
        return PEFT_OK;
    }
    int rc = put_list(b, "prompt", t->all.v, t->prompt);
    buf_puts(b, ", ");
    return rc ? rc : put_list(b, "completion", answer, n);
}

/* Style 1 has lists of messages, style 2 repeats the prompt in both. */
static int write_preference(struct buf *b, const struct talk *t, int style)
{
    const struct turn *answer = t->all.v + t->prompt;
    int64_t n = t->all.n - t->prompt;
    if (!t->rejected.n) return cannot("preference", "a row without a rejected answer");
    if (!style && (!t->prompt || is_bare_question(t)) && is_bare_answer(answer, n) &&
        is_bare_answer(t->rejected.v, t->rejected.n)) {
        if (t->prompt) {
            put_string(b, "prompt", t->all.v[0].text);
            buf_puts(b, ", ");
        }
        put_string(b, "chosen", answer->text);
        buf_puts(b, ", ");
        put_string(b, "rejected", t->rejected.v->text);
        return PEFT_OK;
    }
    int rc = PEFT_OK;
    int64_t prompt = style == 2 ? 0 : t->prompt;
    if (prompt) {
        rc = put_list(b, "prompt", t->all.v, prompt);
        buf_puts(b, ", ");
    }
    if (!rc) rc = put_list(b, "chosen", t->all.v + prompt, t->all.n - prompt);
    buf_puts(b, ", ");
    if (prompt == t->prompt)
        return rc ? rc : put_list(b, "rejected", t->rejected.v, t->rejected.n);
    struct talk other = {.arena = t->arena};
    for (int64_t i = 0; i < t->prompt && !rc; i++)
        rc = turn_add(&other, &other.all, t->all.v[i].who, t->all.v[i].text, t->all.v[i].node);
    for (int64_t i = 0; i < t->rejected.n && !rc; i++)
        rc = turn_add(&other, &other.all, t->rejected.v[i].who, t->rejected.v[i].text,
                      t->rejected.v[i].node);
    return rc ? rc : put_list(b, "rejected", other.all.v, other.all.n);
}

/* --- the table */

int read_messages(const json *row, struct talk *t), read_sharegpt(const json *row, struct talk *t),
    read_alpaca(const json *row, struct talk *t), read_completion(const json *row, struct talk *t),
    read_preference(const json *row, struct talk *t),
    read_question_answer(const json *row, struct talk *t);

const struct form forms[] = {
    {"preference", {"chosen", "rejected"},
     {"prompt", "chosen", "rejected", "instruction", "input", "conversations", "system"}, 3,
     read_preference, write_preference},
    {"messages", {"messages"}, {"messages"}, 1, read_messages, write_messages},
    {"sharegpt", {"conversations"}, {"conversations", "system"}, 2, read_sharegpt, write_sharegpt},
    {"prompt-completion", {"prompt", "completion"}, {"prompt", "completion"}, 2, read_completion,
     write_completion},
    {"alpaca", {"instruction", "output"}, {"instruction", "input", "output", "system", "history"},
     1, read_alpaca, write_alpaca},
    {"question-answer", {"question", "answer"}, {"question", "answer", "context", "answers"}, 1,
     read_question_answer, NULL},
    {"question-answer", {"question", "answers"}, {"question", "answer", "context", "answers"}, 1,
     read_question_answer, NULL},
    {"text", {"text"}, {"text"}, 1, NULL, NULL},
    {0}};

const struct form *form_named(const char *name)
{
    const struct form *f = forms;
    while (f->name && strcmp(f->name, name)) f++;
    return f->name ? f : NULL;
}

const struct form *form_of(const json *row)
{
    const struct form *f = forms;
    for (; f->name; f++)
        if (row_member(row, f->need[0]) && (!f->need[1] || row_member(row, f->need[1]))) return f;
    return NULL;
}

bool form_owns(const struct form *f, const char *column)
{
    for (size_t i = 0; i < ARRAY_LEN(f->own) && f->own[i]; i++)
        if (!strcmp(f->own[i], column)) return true;
    return false;
}
