/* Reading rows into conversations. */
#include "prep/talk.h"

const char *const message_roles[] = {"system", "user", "assistant", "tool", "assistant"};
const char *const sharegpt_roles[] = {"system", "human", "gpt", "observation", "function_call"};

int turn_add(struct talk *t, struct turns *to, enum speaker who, const char *text,
             const json *node)
{
    if ((to->n & (to->n - 1)) == 0) {       /* full at powers of two */
        struct turn *v = arena_alloc(t->arena, MAX(2 * to->n, 2) * (int64_t)sizeof *v);
        if (!v) return PEFT_ENOMEM;
        if (to->n) memcpy(v, to->v, (size_t)to->n * sizeof *v);
        to->v = v;
    }
    to->v[to->n++] = (struct turn){who, text, node};
    return PEFT_OK;
}

char *talk_text(struct talk *t, const char *a, const char *b, const char *c)
{
    size_t n[3] = {strlen(a), strlen(b), strlen(c)};
    char *s = arena_alloc(t->arena, (int64_t)(n[0] + n[1] + n[2]) + 1);
    if (!s) return NULL;
    memcpy(s, a, n[0]);
    memcpy(s + n[0], b, n[1]);
    memcpy(s + n[0] + n[1], c, n[2]);
    return s;
}

int speaker_named(const char *name, enum speaker *out)
{
    static const struct { const char *name; enum speaker who; } more[] = {
        {"developer", SYSTEM}, {"function", TOOL},
    };
    for (int i = 0; i <= CALL; i++)
        if (!strcmp(name, message_roles[i]) || !strcmp(name, sharegpt_roles[i]))
            return *out = (enum speaker)i, PEFT_OK;
    for (size_t i = 0; i < ARRAY_LEN(more); i++)
        if (!strcmp(name, more[i].name)) return *out = more[i].who, PEFT_OK;
    return fail(PEFT_EFORMAT, "a speaker \"%.40s\", expected system, user, assistant or tool",
                name);
}

/* --- lists of messages */

/* JSON as a text in the arena. */
static int node_text(struct talk *t, const json *v, const char **out)
{
    struct buf b;
    buf_init(&b, t->arena->mem);
    json_write(&b, v);
    int rc = buf_check(&b);
    if (!rc && !(*out = arena_strndup(t->arena, b.data, b.n))) rc = PEFT_ENOMEM;
    buf_free(&b);
    return rc;
}

/* The functions of "tool_calls", without what else stands there. */
static int call_text(struct talk *t, const json *calls, const char **out)
{
    const char *text = "";
    int64_t n = 0;
    int rc = PEFT_OK;
    for (const json *c = json_first(calls); c && !rc; c = json_next(c), n++) {
        const char *one = "";
        const json *function = json_get(c, "function");
        rc = node_text(t, function ? function : c, &one);
        if (!rc && !(text = talk_text(t, text, n ? ", " : "", one))) rc = PEFT_ENOMEM;
    }
    if (!rc && n > 1 && !(text = talk_text(t, "[", text, "]"))) rc = PEFT_ENOMEM;
    *out = text;
    return rc;
}

/* Parts of text are joined; anything else is more than a text. */
static int content_text(struct talk *t, const json *content, const char **out)
{
    *out = json_string(content);
    if (*out || json_kind(content) != JSON_ARRAY) return PEFT_OK;
    const char *text = "";
    for (const json *p = json_first(content); p && text; p = json_next(p)) {
        const char *part = json_string(json_get(p, "text"));
        if (!part) return PEFT_OK;
        text = talk_text(t, text, part, "");
    }
    *out = text;
    return text ? PEFT_OK : PEFT_ENOMEM;
}

static int read_message(struct talk *t, const json *m, struct turns *to)
{
    enum speaker who;
    const char *role, *text = NULL;
    const json *content = row_member(m, "content"), *calls = row_member(m, "tool_calls");
    if (json_kind(m) != JSON_OBJECT)
        return fail(PEFT_EFORMAT, "expected a list of messages, found %s in it", json_kind_name(m));
    int rc = row_text(m, "role", false, &role);
    if (!rc) rc = speaker_named(role, &who);
    if (!rc && !content && !calls)
        rc = fail(PEFT_EFORMAT, "a message without \"content\"");
    if (!rc && content) rc = content_text(t, content, &text);
    if (!rc && calls && json_first(calls)) {
        who = CALL;
        if (text && *text) text = NULL;
        else rc = call_text(t, calls, &text);
    }
    return rc ? rc : turn_add(t, to, who, text, m);
}

static int read_list(struct talk *t, const json *list, const char *key, struct turns *to)
{
    int rc = PEFT_OK;
    if (json_kind(list) != JSON_ARRAY || !json_first(list))
        rc = fail(PEFT_EFORMAT, "expected a list of messages, found %s",
                  json_kind(list) == JSON_ARRAY ? "an empty one" : json_kind_name(list));
    for (const json *m = json_first(list); m && !rc; m = json_next(m))
        rc = read_message(t, m, to);
    return rc ? fail_in(rc, "\"%s\": ", key) : PEFT_OK;
}

int read_messages(const json *row, struct talk *t)
{
    int rc = read_list(t, json_get(row, "messages"), "messages", &t->all);
    t->prompt = t->all.n - 1;
    return rc;
}

/* --- ShareGPT */

static int read_value(struct talk *t, const json *m, struct turns *to)
{
    enum speaker who;
    const char *from, *value;
    int rc = row_text(m, "from", false, &from);
    if (!rc) rc = row_text(m, "value", false, &value);
    if (!rc) rc = speaker_named(from, &who);
    return rc ? rc : turn_add(t, to, who, value, NULL);
}

static int read_values(const json *row, struct talk *t)
{
    const json *list = json_get(row, "conversations");
    const char *system;
    int rc = row_text(row, "system", true, &system);
    if (!rc && (json_kind(list) != JSON_ARRAY || !json_first(list)))
        rc = fail(PEFT_EFORMAT, "\"conversations\": expected a list of turns");
    if (!rc && *system) rc = turn_add(t, &t->all, SYSTEM, system, NULL);
    for (const json *m = json_first(list); m && !rc; m = json_next(m))
        rc = read_value(t, m, &t->all);
    return rc;
}

int read_sharegpt(const json *row, struct talk *t)
{
    int rc = read_values(row, t);
    t->prompt = t->all.n - 1;
    return rc;
}

/* --- columns of text */

/* Alpaca's question: system, history, instruction and input. */
static int read_question(const json *row, struct talk *t)
{
    const char *system, *task, *input, *ask, *reply;
    int rc = row_text(row, "system", true, &system);
    if (!rc) rc = row_text(row, "instruction", false, &task);
    if (!rc) rc = row_text(row, "input", true, &input);
    if (!rc && *system) rc = turn_add(t, &t->all, SYSTEM, system, NULL);
    const json *history = rc ? NULL : row_member(row, "history");
    for (const json *h = json_first(history); h && !rc; h = json_next(h)) {
        ask = json_string(json_first(h));
        reply = ask ? json_string(json_next(json_first(h))) : NULL;
        if (json_kind(h) != JSON_ARRAY || !reply)
            return fail(PEFT_EFORMAT, "\"history\": expected pairs [question, answer]");
        rc = turn_add(t, &t->all, USER, ask, NULL);
        if (!rc) rc = turn_add(t, &t->all, ASSISTANT, reply, NULL);
    }
    if (rc) return rc;
    if (*input) {
        t->input = input;
        if (!(task = talk_text(t, task, "\n", input))) return PEFT_ENOMEM;
    }
    return turn_add(t, &t->all, USER, task, NULL);
}

int read_alpaca(const json *row, struct talk *t)
{
    const char *answer;
    int rc = row_text(row, "output", false, &answer);
    if (!rc) rc = read_question(row, t);
    t->prompt = t->all.n;
    return rc ? rc : turn_add(t, &t->all, ASSISTANT, answer, NULL);
}

int read_completion(const json *row, struct talk *t)
{
    const json *prompt = json_get(row, "prompt"), *answer = json_get(row, "completion");
    if (json_kind(prompt) == JSON_ARRAY) {
        int rc = read_list(t, prompt, "prompt", &t->all);
        t->prompt = t->all.n;
        return rc ? rc : read_list(t, answer, "completion", &t->all);
    }
    const char *a, *b;
    int rc = row_text(row, "prompt", false, &a);
    if (!rc) rc = row_text(row, "completion", false, &b);
    if (!rc) rc = turn_add(t, &t->all, USER, a, NULL);
    t->prompt = 1;
    return rc ? rc : turn_add(t, &t->all, ASSISTANT, b, NULL);
}

/* SQuAD's answers too: the first one. */
int read_question_answer(const json *row, struct talk *t)
{
    const char *question, *context, *answer;
    const json *first = json_get(row, "answers");
    int rc = row_text(row, "question", false, &question);
    if (!rc) rc = row_text(row, "context", true, &context);
    if (!rc) rc = row_text(row, "answer", first != NULL, &answer);
    if (rc) return rc;
    if (json_kind(first) == JSON_OBJECT) first = json_get(first, "text");
    first = json_first(first);
    if (json_kind(first) == JSON_OBJECT) first = json_get(first, "text");
    const char *said = json_string(first);
    if (said && !*answer) answer = said;
    if (!*answer) return fail(PEFT_EFORMAT, "\"answers\": none, expected a text");
    if (*context && !(question = talk_text(t, context, "\n\n", question))) return PEFT_ENOMEM;
    rc = turn_add(t, &t->all, USER, question, NULL);
    t->prompt = 1;
    return rc ? rc : turn_add(t, &t->all, ASSISTANT, answer, NULL);
}

/* --- two answers: strings, lists of messages, or turns of ShareGPT */

static int read_answer(struct talk *t, const json *row, const char *key, struct turns *to)
{
    const json *v = json_get(row, key);
    const char *text;
    if (json_kind(v) == JSON_ARRAY) return read_list(t, v, key, to);
    if (json_kind(v) == JSON_OBJECT)
        return json_get(v, "from") ? read_value(t, v, to) : read_message(t, v, to);
    int rc = row_text(row, key, false, &text);
    return rc ? rc : turn_add(t, to, ASSISTANT, text, NULL);
}

static bool same_turn(const struct turn *a, const struct turn *b)
{
    return a->who == b->who && a->text && b->text && !strcmp(a->text, b->text);
}

/* Without a prompt it is what both answers begin with. */
static void find_prompt(struct talk *t)
{
    int64_t n = 0, most = MIN(t->all.n, t->rejected.n) - 1;
    while (n < most && same_turn(&t->all.v[n], &t->rejected.v[n])) n++;
    t->prompt = n;
    t->rejected.v += n;
    t->rejected.n -= n;
}

int read_preference(const json *row, struct talk *t)
{
    const json *prompt = row_member(row, "prompt");
    const char *text;
    int rc = PEFT_OK, none = 0;
    if (row_member(row, "conversations")) rc = read_values(row, t);
    else if (row_member(row, "instruction")) rc = read_question(row, t);
    else if (json_kind(prompt) == JSON_ARRAY) rc = read_list(t, prompt, "prompt", &t->all);
    else if (prompt && !(rc = row_text(row, "prompt", false, &text)))
        rc = turn_add(t, &t->all, USER, text, NULL);
    else none = 1;
    t->prompt = t->all.n;
    if (!rc) rc = read_answer(t, row, "chosen", &t->all);
    if (!rc) rc = read_answer(t, row, "rejected", &t->rejected);
    if (!rc && none) find_prompt(t);
    return rc;
}

int talk_rejected(struct talk *t, const json *row)
{
    return read_answer(t, row, "rejected", &t->rejected);
}
