/* Rows of a file as questions: what is asked, and what should be answered. */
#include <stdio.h>

#include "judge/board.h"

struct asking { struct arena *arena; const char *system; };

static const char *keep(struct asking *a, const char *text)
{
    return text ? arena_strndup(a->arena, text, (int64_t)strlen(text)) : NULL;
}

static const char *role_named(const char *role)
{
    static const char *const names[][2] = { { "human", "user" }, { "gpt", "assistant" },
                                            { "developer", "system" } };
    for (size_t i = 0; role && i < ARRAY_LEN(names); i++)
        if (!strcmp(role, names[i][0])) return names[i][1];
    return role;
}

/* Appends the texts of a list of messages to out[*n]; 0 = some of it is no text. */
static int take_messages(struct asking *a, const json *list, const char *role, const char *content,
                         peft_message *out, int32_t *n)
{
    for (const json *m = json_first(list); m; m = json_next(m)) {
        const char *who = role_named(json_string(json_get(m, role)));
        peft_message said = { keep(a, who), keep(a, json_string(json_get(m, content))) };
        if (!said.role || !said.content) return 0;
        out[(*n)++] = said;
    }
    return 1;
}

/* The last answer is what should be said, what comes before it is asked. */
static int ask_chat(struct asking *a, const json *first, const json *second, const char *role,
                    const char *content, struct ask *out)
{
    int64_t cap = json_count(first) + json_count(second) + 1;
    peft_message *m = arena_alloc(a->arena, cap * (int64_t)sizeof(*m));
    int32_t n = 0;
    if (!m) return PEFT_ENOMEM;
    const char *begin = role_named(json_string(json_get(json_first(first), role)));
    if (a->system && (!begin || strcmp(begin, "system") != 0))
        m[n++] = (peft_message){ "system", a->system };
    if (!take_messages(a, first, role, content, m, &n) ||
        (second && !take_messages(a, second, role, content, m, &n)))
        return PEFT_OK;
    while (n > 0 && strcmp(m[n - 1].role, "assistant") != 0) n--;
    if (n < 2) return PEFT_OK;
    *out = (struct ask){ out->line, ASK_CHAT, m, n - 1, m[n - 1].content };
    return PEFT_OK;
}

static int ask_text(struct asking *a, enum ask_kind kind, const char *text, const char *answer,
                    struct ask *out)
{
    peft_message *m = arena_alloc(a->arena, 2 * (int64_t)sizeof(*m));
    if (!m) return PEFT_ENOMEM;
    int32_t n = 0;
    if (a->system && kind != ASK_RAW) m[n++] = (peft_message){ "system", a->system };
    m[n++] = (peft_message){ "user", keep(a, text) };
    const char *said = keep(a, answer);
    if (!m[n - 1].content || !said) return PEFT_ENOMEM;
    *out = (struct ask){ out->line, kind, m, n, said };
    return PEFT_OK;
}

/* Stanford Alpaca's rows as a conversation of one turn. */
static int ask_instruction(struct asking *a, const json *row, const char *task, const char *answer,
                           struct ask *out)
{
    const char *input = json_string(json_get(row, "input"));
    struct buf b;
    buf_init(&b, a->arena->mem);
    buf_printf(&b, "%s%s%s", task, input && *input ? "\n" : "", input ? input : "");
    int rc = buf_check(&b);
    if (!rc) rc = ask_text(a, ASK_CHAT, buf_str(&b), answer, out);
    buf_free(&b);
    return rc;
}

static const char *label_text(const json *label, char number[32])
{
    if (json_kind(label) == JSON_BOOL) return json_bool(label, 0) ? "true" : "false";
    if (json_kind(label) != JSON_NUMBER) return json_string(label);
    snprintf(number, 32, "%.0f", json_number(label, 0));
    return number;
}

static int ask_of(struct asking *a, const json *row, struct ask *out)
{
    char number[32];
    const json *chat = json_get(row, "messages"), *shared = json_get(row, "conversations");
    const json *prompt = json_get(row, "prompt"), *end = json_get(row, "completion");
    if (chat) return ask_chat(a, chat, NULL, "role", "content", out);
    if (shared) return ask_chat(a, shared, NULL, "from", "value", out);
    if (json_kind(prompt) == JSON_ARRAY) return ask_chat(a, prompt, end, "role", "content", out);
    if (json_string(prompt) && json_string(end))
        return ask_text(a, ASK_RAW, json_string(prompt), json_string(end), out);
    const char *task = json_string(json_get(row, "instruction"));
    const char *answer = json_string(json_get(row, "output"));
    if (task && answer) return ask_instruction(a, row, task, answer, out);
    const char *text = json_string(json_get(row, "text"));
    const char *label = label_text(json_get(row, "label"), number);
    if (!text) text = json_string(json_get(row, "sentence"));
    return text && label ? ask_text(a, ASK_CLASS, text, label, out) : PEFT_OK;
}

static struct ask *next_ask(struct asks *to, struct mem *mem, int64_t line)
{
    if (to->n == to->cap) {
        int64_t cap = MAX(2 * to->cap, 256), bytes;
        struct ask *now = mul_ok(cap, (int64_t)sizeof(*now), &bytes)
                              ? mem_realloc(mem, to->v, bytes) : NULL;
        if (!now) return NULL;
        to->v = now;
        to->cap = cap;
    }
    to->v[to->n] = (struct ask){ .line = line };
    return &to->v[to->n++];
}

int asks_read(struct host *h, const char *path, const peft_dataset_opts *o, struct asks *out)
{
    const struct source_opts so = { .columns = o->columns, .table = o->table, .limit = o->limit };
    struct row_source *src = NULL;
    struct asking a = { &out->arena, o->system };
    *out = (struct asks){ .n = 0 };
    arena_init(&out->arena, &h->mem);
    int rc = source_open(h, path, &so, &src), more = 0;
    while (!rc) {
        json *row = NULL;
        int64_t line;
        if ((more = source_next(src, &row, &line)) <= 0) {
            rc = more;
            break;
        }
        struct ask *ask = next_ask(out, &h->mem, line);
        rc = ask ? ask_of(&a, row, ask) : PEFT_ENOMEM;
        json_free(row);
    }
    source_close(src);
    if (!rc && !out->n) rc = fail(PEFT_EDATA, "%s has no rows", path);
    if (rc) asks_free(out, &h->mem);
    return rc;
}

void asks_free(struct asks *a, struct mem *mem)
{
    if (a->arena.mem) arena_free(&a->arena);
    mem_free(mem, a->v);
    *a = (struct asks){ .n = 0 };
}
