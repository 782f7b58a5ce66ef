/* Chat templates.  A model brings a Jinja program; instead of running it, we
 * recognise it by phrases that must (and must not) be in it, and render from a
 * row of the table.  In a row's texts, BOS and EOS stand for the model's own
 * tokens and ROLE for the message's role.
 *
 * When phrases are looked for, a line break also matches Jinja's "\n", and the
 * two kinds of quotes are the same. */
#include "text/tok.h"

#define BOS "\1"
#define EOS "\2"
#define ROLE "\3"

struct chat_role { const char *role, *open, *close; };      /* role NULL: any */
struct chat_template {
    const char *name;
    const char *all[4], *none[6];
    const char *begin;              /* before everything */
    struct chat_role roles[3];
    const char *prompt;             /* opens the assistant's turn */
    const char *end;                /* instead of it, when nothing is asked */
    const char *default_system;     /* when the first message is another's */
    const char *system_before;      /* begins the system's turn, which is
                                     * always there; NULL = nothing */
    const char *system_open, *system_close;     /* around the system text
                                     * inside the user's turn, NULL = as a turn */
    bool system_joined;             /* and trimmed as one with the content */
    bool system_last;               /* in the last turn instead of the first */
    bool trim;                      /* contents lose outer white space */
    bool alternate;                 /* user and assistant must take turns */
};

#define CHATML_ROLES {{NULL, "<|im_start|>" ROLE "\n", "<|im_end|>\n"}}
#define CHATML_PROMPT "<|im_start|>assistant\n"
#define CHATML_NONE "<think>", "enable_thinking", "trim", "bos_token"
#define LLAMA3_ROLES {{NULL, "<|start_header_id|>" ROLE "<|end_header_id|>\n\n", "<|eot_id|>"}}
#define LLAMA3_PROMPT "<|start_header_id|>assistant<|end_header_id|>\n\n"
#define GEMMA_ROLES {{"assistant", "<start_of_turn>model\n", "<end_of_turn>\n"}, \
                     {NULL, "<start_of_turn>" ROLE "\n", "<end_of_turn>\n"}}
#define SMOLLM_SYSTEM "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
#define QWEN25_SYSTEM "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

#define CHATML_TURN "+ '\n' + message['content'] + '<|im_end|>' + '\n'"
#define CHATML_TURN2 "+ '\n' + message['content'] + '<|im_end|>\n'"
#define LLAMA2_ROLES {{"user", BOS "[INST] ", " [/INST]"}, {"assistant", " ", " " EOS}}
#define LLAMA2_SYSTEM "'<<SYS>>\n' + system_message + '\n<</SYS>>\n\n'"
#define MISTRAL_USER "{{ '[INST] ' + message['content'] + ' [/INST]' }}"
#define PHI3_PAIR "'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + " \
    "'<|assistant|>' + '\n'"
#define PHI3_PAIR_ROLES {{"user", "<|user|>\n", "<|end|>\n<|assistant|>\n"}, \
                         {"assistant", "", "<|end|>\n"}}
#define PHI3_ROLES {{NULL, "<|" ROLE "|>\n", "<|end|>\n"}}
#define GEMMA_TURN "'<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n'"

static const struct chat_template chat_rows[] = {
    {.name = "smollm2", .all = {CHATML_TURN, SMOLLM_SYSTEM}, .none = {CHATML_NONE},
     .roles = CHATML_ROLES, .prompt = CHATML_PROMPT, .default_system = SMOLLM_SYSTEM},
    {.name = "qwen2.5", .all = {"+ '\n' + message.content + '<|im_end|>' + '\n'", QWEN25_SYSTEM},
     .none = {CHATML_NONE},
     .roles = CHATML_ROLES, .prompt = CHATML_PROMPT, .default_system = QWEN25_SYSTEM},
    {.name = "qwen2", .all = {CHATML_TURN,
                              "<|im_start|>system\nYou are a helpful assistant.<|im_end|>"},
     .none = {CHATML_NONE}, .roles = CHATML_ROLES, .prompt = CHATML_PROMPT,
     .default_system = "You are a helpful assistant."},
    {.name = "qwen1.5", .all = {CHATML_TURN,
                                "<|im_start|>system\nYou are a helpful assistant<|im_end|>"},
     .none = {CHATML_NONE}, .roles = CHATML_ROLES, .prompt = CHATML_PROMPT,
     .default_system = "You are a helpful assistant"},
    {.name = "chatml", .all = {"<|im_start|>", CHATML_TURN},
     .none = {CHATML_NONE, "You are", "<|im_start|>system"},
     .roles = CHATML_ROLES, .prompt = CHATML_PROMPT},
    {.name = "chatml", .all = {"<|im_start|>", CHATML_TURN2},
     .none = {CHATML_NONE, "You are", "<|im_start|>system"},
     .roles = CHATML_ROLES, .prompt = CHATML_PROMPT},
    {.name = "llama3.1", .all = {"<|start_header_id|>", "Cutting Knowledge Date: December 2023",
                                 "26 Jul 2024", "message['content'] | trim + '<|eot_id|>'"},
     .begin = BOS, .roles = LLAMA3_ROLES, .prompt = LLAMA3_PROMPT, .default_system = "",
     .system_before = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
     .trim = true},
    {.name = "llama3", .all = {"'<|start_header_id|>' + message['role']", "bos_token + content",
                               "message['content'] | trim + '<|eot_id|>'"},
     .none = {"Cutting Knowledge", "<think>", "You are"},
     .begin = BOS, .roles = LLAMA3_ROLES, .prompt = LLAMA3_PROMPT, .trim = true},
    {.name = "llama2", .all = {"bos_token + '[INST] ' + content.strip() + ' [/INST]'",
                               "content.strip() + ' ' + eos_token", LLAMA2_SYSTEM},
     .none = {"You are"}, .roles = LLAMA2_ROLES,
     .prompt = "", .system_open = "<<SYS>>\n", .system_close = "\n<</SYS>>\n\n", .trim = true,
     .system_joined = true, .alternate = true},
    {.name = "llama2", .all = {"bos_token + '[INST] ' + content | trim + ' [/INST]'",
                               "content | trim + ' ' + eos_token", LLAMA2_SYSTEM},
     .none = {"You are"}, .roles = LLAMA2_ROLES,
     .prompt = "", .system_open = "<<SYS>>\n", .system_close = "\n<</SYS>>\n\n", .trim = true,
     .system_joined = true, .alternate = true},
    {.name = "mistral-v3", .all = {"[AVAILABLE_TOOLS]",
                                   "\"[INST] \" + message[\"content\"] + \"[/INST]\"",
                                   "\" \" + message[\"content\"]|trim + eos_token"},
     .begin = BOS,
     .roles = {{"user", "[INST] ", "[/INST]"}, {"assistant", " ", EOS}}, .prompt = "",
     .system_open = "", .system_close = "\n\n", .system_last = true, .alternate = true},
    {.name = "mistral-v1", .all = {MISTRAL_USER, "{{ message['content'] + eos_token + ' ' }}"},
     .none = {"<<SYS>>"}, .begin = BOS,
     .roles = {{"user", "[INST] ", " [/INST]"}, {"assistant", "", EOS " "}}, .prompt = "",
     .alternate = true},
    {.name = "mistral", .all = {MISTRAL_USER, "{{ message['content'] + eos_token}}"},
     .none = {"<<SYS>>"}, .begin = BOS,
     .roles = {{"user", "[INST] ", " [/INST]"}, {"assistant", "", EOS}}, .prompt = "",
     .alternate = true},
    {.name = "phi3", .all = {"'<|user|>\n' + message['content'] + '<|end|>\n'", "<|system|>\n",
                             "{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}"},
     .none = {"bos_token", "trim"}, .roles = PHI3_ROLES, .prompt = "<|assistant|>\n", .end = EOS},
    {.name = "phi3-small", .all = {"{{ bos_token }}", "'<|' + message['role'] + '|>' + '\n' + "
                                   "message['content'] + '<|end|>\n'",
                                   "{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}"},
     .begin = BOS, .roles = PHI3_ROLES, .prompt = "<|assistant|>\n", .end = EOS},
    {.name = "phi3-mini", .all = {"{{ bos_token }}", PHI3_PAIR},
     .begin = BOS, .roles = PHI3_PAIR_ROLES, .prompt = ""},
    {.name = "phi3-medium", .all = {PHI3_PAIR}, .roles = PHI3_PAIR_ROLES, .prompt = ""},
    {.name = "zephyr", .all = {"'<|user|>\n' + message['content'] + eos_token }}\n", "<|system|>\n",
                               "{{ '<|assistant|>' }}\n"},
     .none = {"<|end|>", "trim"},
     .roles = {{NULL, "<|" ROLE "|>\n", EOS "\n"}}, .prompt = "<|assistant|>\n"},
    {.name = "gemma3", .all = {"<start_of_turn>", "first_user_prefix", "{{ bos_token }}"},
     .begin = BOS, .roles = GEMMA_ROLES, .prompt = "<start_of_turn>model\n",
     .system_open = "", .system_close = "\n\n", .trim = true, .alternate = true},
    {.name = "gemma", .all = {GEMMA_TURN, "System role not supported", "{{ bos_token }}"},
     .begin = BOS, .roles = GEMMA_ROLES, .prompt = "<start_of_turn>model\n", .trim = true,
     .alternate = true},
    {.name = "gemma", .all = {GEMMA_TURN, "System role not supported"},
     .roles = GEMMA_ROLES, .prompt = "<start_of_turn>model\n", .trim = true, .alternate = true},
};

/* For models without a template. */
static const struct chat_template chat_plain = {
    .name = "plain",
    .roles = {{"system", "System: ", "\n"}, {"user", "User: ", "\n"},
              {"assistant", "Assistant: ", "\n"}},
    .prompt = "Assistant:",
};

/* --- recognition */

static bool same_mark(char source, char mark)
{
    return source == mark || (source == '"' && mark == '\'') || (source == '\'' && mark == '"');
}

static bool mark_here(const char *s, const char *mark)
{
    for (; *mark; mark++) {
        if (*mark == '\n' && s[0] == '\\' && s[1] == 'n') s += 2;
        else if (*s && same_mark(*s, *mark)) s++;
        else return false;
    }
    return true;
}

static bool has_mark(const char *jinja, const char *mark)
{
    for (; *jinja; jinja++)
        if (mark_here(jinja, mark)) return true;
    return false;
}

const struct chat_template *chat_find(const char *jinja)
{
    for (size_t i = 0; i < ARRAY_LEN(chat_rows); i++) {
        const struct chat_template *c = &chat_rows[i];
        bool fits = true;
        for (size_t k = 0; k < ARRAY_LEN(c->all) && c->all[k] && fits; k++)
            fits = has_mark(jinja, c->all[k]);
        for (size_t k = 0; k < ARRAY_LEN(c->none) && c->none[k] && fits; k++)
            fits = !has_mark(jinja, c->none[k]);
        if (fits) return c;
    }
    return NULL;
}

static const struct chat_template *chat_row(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(chat_rows); i++)
        if (!strcmp(chat_rows[i].name, name)) return &chat_rows[i];
    return NULL;
}

/* The model's own, or what serves without one; NULL when it is not known. */
static const struct chat_template *chat_of(const struct tokenizer *t)
{
    if (t->chat || t->info.chat_template) return t->chat;
    bool chatml = tok_lookup(t, "<|im_start|>") >= 0 && tok_lookup(t, "<|im_end|>") >= 0;
    return chatml ? chat_row("chatml") : &chat_plain;
}

const char *chat_template_name(const struct tokenizer *t)
{
    const struct chat_template *c = chat_of(t);
    return c && c != &chat_plain ? c->name : NULL;
}

/* --- rendering */

static void put_token(struct buf *out, const struct tokenizer *t, int32_t id)
{
    if (id >= 0) buf_put(out, t->tokens[id].s, t->tokens[id].n);
}

static void put_marked(struct buf *out, const struct tokenizer *t, const char *text,
                       const char *role)
{
    for (; text && *text; text++) {
        if (*text == *BOS) put_token(out, t, t->info.bos);
        else if (*text == *EOS) put_token(out, t, t->info.eos);
        else if (*text == *ROLE) buf_puts(out, role);
        else buf_putc(out, *text);
    }
}

/* Content, as Python's strip() would leave it when `trim`. */
static void put_content(struct buf *out, const char *s, bool left, bool right)
{
    int64_t from = 0, to = (int64_t)strlen(s);
    int32_t cp;
    while (left && from < to) {
        int len = uni_next(s + from, &cp);
        if (!uni_space(cp) && !(cp >= 0x1c && cp <= 0x1f)) break;
        from += len;
    }
    while (right && to > from) {
        int64_t last = to - 1;
        while (((uint8_t)s[last] & 0xc0) == 0x80) last--;
        uni_next(s + last, &cp);
        if (!uni_space(cp) && !(cp >= 0x1c && cp <= 0x1f)) break;
        to = last;
    }
    buf_put(out, s + from, to - from);
}

static const struct chat_role *role_row(const struct chat_template *c, const char *role)
{
    for (size_t i = 0; i < ARRAY_LEN(c->roles) && c->roles[i].open; i++)
        if (!c->roles[i].role || !strcmp(c->roles[i].role, role)) return &c->roles[i];
    return NULL;
}

static void put_default_system(struct buf *out, const struct tokenizer *t,
                               const struct chat_template *c, const char *system)
{
    const struct chat_role *r = role_row(c, "system");
    put_marked(out, t, r->open, "system");
    put_marked(out, t, c->system_before, "");
    put_content(out, system, c->trim, c->trim);
    put_marked(out, t, r->close, "system");
}

static int check_turns(const struct tokenizer *t, const struct chat_template *c,
                          const struct message *m, int64_t n)
{
    if (!c)
        return fail(PEFT_EUNSUPPORTED, "the model's chat template is not known; known are "
                    "chatml, smollm2, qwen1.5 to qwen2.5, llama2, llama3, llama3.1, mistral, "
                    "phi3, zephyr, gemma, gemma3: \"%.120s\"", t->info.chat_template);
    if (n < 1) return fail(PEFT_EARG, "a conversation without messages");
    for (int64_t i = 0; i < n; i++) {
        if (!m[i].role || !m[i].content)
            return fail(PEFT_EARG, "message %lld has no role or no content", (long long)i + 1);
        int64_t size = (int64_t)strlen(m[i].content);
        if (utf8_check(m[i].content, size) < size)
            return fail(PEFT_EFORMAT, "message %lld is not UTF-8", (long long)i + 1);
        bool system = !strcmp(m[i].role, "system") && i == 0;
        if (!role_row(c, m[i].role) && !(system && c->system_open))
            return fail(PEFT_EDATA, "message %lld: template %s has no role \"%.40s\"",
                        (long long)i + 1, c->name, m[i].role);
    }
    int64_t skip = !strcmp(m[0].role, "system");
    if (c->alternate && skip && !c->system_open)
        return fail(PEFT_EDATA, "template %s has no role \"system\"", c->name);
    for (int64_t i = skip; i < n && c->alternate; i++) {
        const char *want = (i - skip) % 2 ? "assistant" : "user";
        if (strcmp(m[i].role, want))
            return fail(PEFT_EDATA, "message %lld: template %s wants a turn of %s, found \"%.40s\"",
                        (long long)i + 1, c->name, want, m[i].role);
    }
    return PEFT_OK;
}

int chat_render(const struct tokenizer *t, const struct message *m, int64_t n, int prompt,
                struct buf *out)
{
    const struct chat_template *c = chat_of(t);
    int rc = check_turns(t, c, m, n);
    if (rc < 0) return rc;
    bool has_system = !strcmp(m[0].role, "system");
    const char *system = has_system && c->system_open ? m[0].content : NULL;
    int64_t from = system ? 1 : 0;
    put_marked(out, t, c->begin, "");
    if (c->default_system && (!has_system || c->system_before)) {
        put_default_system(out, t, c, has_system ? m[0].content : c->default_system);
        from = has_system;
    }
    for (int64_t i = from; i < n; i++) {
        const struct chat_role *r = role_row(c, m[i].role);
        bool inside = system && i == (c->system_last ? n - 1 : 1) && strcmp(m[i].role, "assistant");
        put_marked(out, t, r->open, m[i].role);
        if (inside) {
            put_marked(out, t, c->system_open, "");
            put_content(out, system, false, false);
            put_marked(out, t, c->system_close, "");
        }
        put_content(out, m[i].content, c->trim && !(inside && c->system_joined), c->trim);
        put_marked(out, t, r->close, m[i].role);
    }
    put_marked(out, t, prompt ? c->prompt : c->end, "assistant");
    return buf_check(out);
}
