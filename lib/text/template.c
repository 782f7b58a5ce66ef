/* Chat templates: the variables that transformers gives a template, and the
 * form of conversations for models without one. */
#include "text/jinja.h"
#include "text/tok.h"

/* --- models without a template */

/* The parts around a role and its content. */
struct chat_form { const char *open, *middle, *close, *prompt; bool named; };
static const struct chat_form chatml_form = {
    "<|im_start|>", "\n", "<|im_end|>\n", "<|im_start|>assistant\n", false,
};
static const struct chat_form plain_form = {"", ": ", "\n", "Assistant:", true};
static const struct { const char *role, *name; } plain_names[] = {
    {"system", "System"}, {"user", "User"}, {"assistant", "Assistant"},
};

static bool has_chatml(const struct tokenizer *t)
{
    return tok_lookup(t, "<|im_start|>") >= 0 && tok_lookup(t, "<|im_end|>") >= 0;
}

static int render_form(const struct chat_form *f, const struct chat_input *in, struct buf *out)
{
    for (int64_t i = 0; i < in->n; i++) {
        const char *role = f->named ? NULL : in->m[i].role;
        for (size_t k = 0; k < ARRAY_LEN(plain_names) && f->named; k++)
            if (!strcmp(in->m[i].role, plain_names[k].role)) role = plain_names[k].name;
        if (!role)
            return fail(PEFT_EDATA, "message %lld: a model without a chat template has no role "
                        "\"%.40s\"", (long long)i + 1, in->m[i].role);
        buf_puts(out, f->open);
        buf_puts(out, role);
        buf_puts(out, f->middle);
        buf_puts(out, in->m[i].content);
        buf_puts(out, f->close);
    }
    if (in->prompt) buf_puts(out, f->prompt);
    return buf_check(out);
}

/* --- the variables of a template */

static void put_text(struct jrun *r, struct jv dict, const char *name, const char *text)
{
    jv_put(r, dict, jv_text(name), jv_copy(r, text, (int64_t)strlen(text)));
}

static bool is_null(const json *j)
{
    return !j || json_kind(j) == JSON_NULL;
}

/* Reasoning goes by three names; as in transformers, a message with any of
 * them has the first two. */
static const json *reasoning_of(const json *fields)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const json *found = NULL;
    for (size_t i = 0; i < ARRAY_LEN(names) && is_null(found); i++)
        found = json_get(fields, names[i]);
    return is_null(found) ? NULL : found;
}

static struct jv message_value(struct jrun *r, const struct message *m, const json *fields,
                               bool parts)
{
    struct jv dict = jv_dict(r, JV_DICT);
    const json *reasoning = fields ? reasoning_of(fields) : NULL;
    if (reasoning) jv_put(r, dict, jv_text("thinking"), jv_json(r, reasoning));
    for (const json *f = fields ? json_first(fields) : NULL; f; f = json_next(f)) {
        const char *key = json_key(f);
        bool text = json_kind(f) == JSON_STRING || (json_kind(f) == JSON_ARRAY && !parts);
        if (!strcmp(key, "role")) put_text(r, dict, key, m->role);
        else if (!strcmp(key, "content") && text) put_text(r, dict, key, m->content);
        else jv_put(r, dict, jv_copy(r, key, (int64_t)strlen(key)), jv_json(r, f));
    }
    if (!fields || !json_get(fields, "role")) put_text(r, dict, "role", m->role);
    if (!fields) put_text(r, dict, "content", m->content);
    if (reasoning) jv_put(r, dict, jv_text("reasoning_content"), jv_json(r, reasoning));
    return dict;
}

/* Tokens that the model does not have are undefined. */
static void set_tokens(struct jrun *r, const struct tokenizer *t)
{
    const struct { const char *name; int32_t id; } rows[] = {
        {"bos_token", t->info.bos}, {"eos_token", t->info.eos}, {"unk_token", t->info.unk},
        {"pad_token", t->info.pad}, {"cls_token", t->info.cls}, {"sep_token", t->info.sep},
        {"mask_token", t->info.mask},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].id < 0 || !t->tokens[rows[i].id].s) continue;
        const struct token *k = &t->tokens[rows[i].id];
        jinja_var(r, rows[i].name, jv_copy(r, k->s, k->n));
    }
}

static int render_jinja(const struct tokenizer *t, const struct chat_input *in, bool parts,
                        int64_t most, struct buf *out, struct ids *spans)
{
    struct jrun r;
    jinja_begin(&r, &t->host->mem);
    r.most = most;
    struct jv list = jv_seq(&r, JV_LIST, in->n);
    for (int64_t i = 0; i < in->n && r.rc == PEFT_OK; i++)
        jv_push(&r, list, message_value(&r, &in->m[i], in->fields ? in->fields[i] : NULL, parts));
    jinja_var(&r, "messages", list);
    jinja_var(&r, "add_generation_prompt", jv_bool(in->prompt));
    jinja_var(&r, "tools", in->tools ? jv_json(&r, in->tools) : jv_none());
    jinja_var(&r, "documents", jv_none());
    set_tokens(&r, t);
    int rc = r.rc == PEFT_OK ? jinja_render(t->chat, &r, out, spans) : r.rc;
    jinja_end(&r);
    return rc == PEFT_OK ? buf_check(out) : rc;
}

/* --- recognition */

#define PROBE "a-part-of-text"
enum { PROBE_MEMORY = 16 << 20 };       /* a model is being loaded: not much */

/* Templates for text alone print a list as Python's repr, or fail. */
static bool takes_parts(const struct tokenizer *t)
{
    static const char text[] = "{\"role\":\"user\",\"content\":"
                               "[{\"type\":\"text\",\"text\":\"" PROBE "\"}]}";
    struct message m = {"user", PROBE};
    struct buf b;
    json *j = NULL;
    buf_init(&b, &t->host->mem);
    bool yes = json_parse(text, (int64_t)sizeof text - 1, "probe", &j) == PEFT_OK;
    const json *fields[] = {j};
    struct chat_input in = {.m = &m, .fields = fields, .n = 1};
    yes = yes && render_jinja(t, &in, true, PROBE_MEMORY, &b, NULL) == PEFT_OK &&
          strstr(buf_str(&b), PROBE) && !strstr(buf_str(&b), "'" PROBE "'") &&
          !strstr(buf_str(&b), "\"" PROBE "\"");
    json_free(j);
    buf_free(&b);
    return yes;
}

int chat_prepare(struct tokenizer *t)
{
    const char *text = t->info.chat_template;
    if (!text) return PEFT_OK;
    int rc = jinja_parse(&t->arena, text, (int64_t)strlen(text), &t->chat);
    if (rc == PEFT_ENOMEM) return rc;
    t->chat_parts = rc == PEFT_OK && takes_parts(t);
    return PEFT_OK;
}

int chat_known(const struct tokenizer *t)
{
    return t->info.chat_template || has_chatml(t);
}

int chat_marks_answers(const struct tokenizer *t)
{
    return t->chat && jinja_generates(t->chat);
}

/* The error that chat_prepare left out. */
static int template_error(const struct tokenizer *t)
{
    struct arena a;
    struct jinja *j;
    const char *text = t->info.chat_template;
    arena_init(&a, &t->host->mem);
    int rc = jinja_parse(&a, text, (int64_t)strlen(text), &j);
    arena_free(&a);
    return rc;
}

/* --- rendering */

static int check_turns(const struct chat_input *in)
{
    if (in->n < 1) return fail(PEFT_EARG, "a conversation without messages");
    for (int64_t i = 0; i < in->n; i++) {
        const char *const texts[] = {in->m[i].role, in->m[i].content};
        for (int k = 0; k < 2; k++) {
            if (!texts[k])
                return fail(PEFT_EARG, "message %lld has no role or no content", (long long)i + 1);
            int64_t size = (int64_t)strlen(texts[k]);
            if (utf8_check(texts[k], size) < size)
                return fail(PEFT_EFORMAT, "message %lld is not UTF-8", (long long)i + 1);
        }
    }
    return PEFT_OK;
}

int chat_render_input(const struct tokenizer *t, const struct chat_input *in, struct buf *out,
                      struct ids *spans)
{
    int rc = check_turns(in);
    if (rc < 0) return rc;
    if (t->chat) return render_jinja(t, in, t->chat_parts, JINJA_MEMORY, out, spans);
    if (t->info.chat_template) return template_error(t);
    return render_form(has_chatml(t) ? &chatml_form : &plain_form, in, out);
}

int chat_render(const struct tokenizer *t, const struct message *m, int64_t n, int prompt,
                struct buf *out)
{
    struct chat_input in = {.m = m, .n = n, .prompt = prompt};
    return chat_render_input(t, &in, out, NULL);
}
