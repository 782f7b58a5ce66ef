/* Which rows train (trainable_token_indices, token_indices): read from options and
 * from adapter_config.json, made into adapted modules, written.  A member is a
 * list of ids of the input embedding, or an object { module: list }. */
#include <stdio.h>

#include "adapt/io.h"

const char *tokens_key(const struct method *method)
{
    if (method->puts_rows) return "token_indices";
    return method->patterns ? "trainable_token_indices" : NULL;
}

const struct method *tokens_method(const struct adapter *a)
{
    return a->method->puts_rows ? a->method : &method_tokens_beside;
}

/* --- reading */

static struct site *token_site(const struct model *m, const char *module)
{
    struct site *s;
    if (!module) return m->global[SLOT_EMBED];
    for (int64_t i = 0; (s = model_site(m, i)); i++)
        if (adapter_has_ending(s->name, module) || adapter_has_ending(s->peft_name, module))
            return s;
    return NULL;
}

/* A list of n ids, still to be filled in, of a module (NULL: the input embedding). */
static int token_list(struct model *m, struct adapter *a, const char *module, int64_t n,
                      struct token_list **out)
{
    struct site *s = token_site(m, module);
    if (!s || !(s->kind & (SITE_EMBED | SITE_LINEAR)) || s->w->turned || s->w->order)
        return fail(PEFT_EARG, "rows of \"%s\" cannot train as tokens, expected an embedding or "
                    "an output layer such as \"%s\"", module ? module : "the embedding",
                    m->global[SLOT_EMBED] ? m->global[SLOT_EMBED]->name : "embed_tokens");
    for (int64_t i = 0; i < a->n_tokens; i++)
        if (a->tokens[i].site == s) return fail(PEFT_EARG, "%s has two lists of tokens", s->name);
    if (n < 1) return fail(PEFT_EARG, "the list of trainable tokens of %s is empty", s->name);
    struct token_list *lists = arena_alloc(&a->arena, (a->n_tokens + 1) * (int64_t)sizeof(*lists));
    /* The ids, and after them their places by ascending id. */
    int32_t *ids = arena_alloc(&a->arena, 2 * n * (int64_t)sizeof(*ids));
    if (!lists || !ids) return PEFT_ENOMEM;
    if (a->n_tokens) memcpy(lists, a->tokens, (size_t)a->n_tokens * sizeof(*lists));
    *out = &lists[a->n_tokens++];
    **out = (struct token_list){ s, ids, n };
    a->tokens = lists;
    return PEFT_OK;
}

static bool id_before(const void *ctx, int64_t i, int64_t k)
{
    const int32_t *ids = ctx;
    return ids[i] < ids[k];
}

static int sort_list(struct model *m, const struct token_list *l)
{
    int64_t *order = mem_array(&m->host.mem, l->n, 8);
    int rc = order ? PEFT_OK : PEFT_ENOMEM;
    for (int64_t i = 0; i < l->n && !rc; i++) order[i] = i;
    if (!rc) sort_index(order, l->n, id_before, l->ids);
    for (int64_t i = 0; i < l->n && !rc; i++) {
        l->ids[l->n + i] = (int32_t)order[i];
        if (i && l->ids[order[i]] == l->ids[order[i - 1]])
            rc = fail(PEFT_EARG, "token %d of %s is listed twice", l->ids[order[i]], l->site->name);
    }
    mem_free(&m->host.mem, order);
    return rc;
}

static int check_id(const struct token_list *l, double id)
{
    if (id >= 0 && id < (double)l->site->w->rows && id == (double)(int32_t)id) return PEFT_OK;
    return fail(PEFT_EARG, "token %g of %s, expected ids from 0 to %lld", id, l->site->name,
                (long long)l->site->w->rows - 1);
}

static int read_list(struct model *m, struct adapter *a, const char *module, const json *list)
{
    struct token_list *l;
    int64_t n = 0;
    if (json_kind(list) != JSON_ARRAY)
        return fail(PEFT_EFORMAT, "trainable tokens are %s, expected a list of ids",
                    json_kind_name(list));
    int rc = token_list(m, a, module, json_count(list), &l);
    for (const json *j = rc ? NULL : json_first(list); j && !rc; j = json_next(j)) {
        rc = check_id(l, json_number(j, -1));
        if (!rc) l->ids[n++] = (int32_t)json_number(j, -1);
    }
    return rc ? rc : sort_list(m, l);
}

int tokens_read(struct model *m, struct adapter *a, const json *config)
{
    const char *key = tokens_key(a->method);
    const json *j = key ? json_get(config, key) : NULL, *of;
    const char *module = NULL;
    int rc = PEFT_OK;
    if (!j || json_kind(j) == JSON_NULL) return PEFT_OK;
    if (a->method->puts_rows) {
        of = json_get(config, "target_modules");
        module = json_string(json_kind(of) == JSON_ARRAY ? json_first(of) : of);
        if (json_kind(of) == JSON_ARRAY && json_count(of) > 1)
            return fail(PEFT_EUNSUPPORTED, "token_indices of %lld modules, expected one",
                        (long long)json_count(of));
    }
    if (json_kind(j) != JSON_OBJECT) return read_list(m, a, module, j);
    for (j = json_first(j); j && !rc; j = json_next(j)) rc = read_list(m, a, json_key(j), j);
    return rc;
}

/* A token's id: a number, or the token's text. */
static int text_id(const struct model *m, const struct token_list *l, const char *text, size_t n,
                   int32_t *out)
{
    char token[256];
    double id = 0;
    snprintf(token, sizeof(token), "%.*s", (int)n, text);
    if (strspn(token, "0123456789") == strlen(token) && n < 10) {
        for (size_t i = 0; i < n; i++) id = id * 10 + (token[i] - '0');
    } else {
        id = m->tok && n < sizeof(token) ? tok_lookup(m->tok, token) : -1;
        if (id < 0)
            return fail(PEFT_ENOTFOUND, "the tokenizer has no token \"%s\" (trainable_tokens)",
                        token);
    }
    *out = (int32_t)id;
    return check_id(l, id);
}

int tokens_parse(struct model *m, struct adapter *a, const char *text, const char *module)
{
    struct token_list *l;
    int64_t n = 1, i = 0;
    for (const char *t = text; *t; t++) n += *t == ',';
    if (!tokens_key(a->method))
        return fail(PEFT_EARG, "method %s takes no trainable tokens, expected lora, dora or tokens",
                    a->method->name);
    int rc = token_list(m, a, module, n, &l);
    for (const char *t = text; i < n && !rc; i++) {
        size_t len = strcspn(t, ",");
        rc = text_id(m, l, t, len, &l->ids[i]);
        t += len + 1;
    }
    return rc ? rc : sort_list(m, l);
}

/* --- the adapted modules */

int tokens_attach(struct model *m, struct adapter *a)
{
    const struct method *method = tokens_method(a);
    int rc = PEFT_OK;
    for (int64_t i = 0; i < a->n_tokens && !rc; i++) {
        const struct token_list *l = &a->tokens[i];
        struct adapted *d = &a->sites[a->n_sites];
        for (int64_t k = 0; k < a->n_sites; k++)
            if (a->sites[k].site == l->site)
                return fail(PEFT_EARG, "%s is adapted whole, expected no trainable tokens of it",
                            l->site->name);
        for (int64_t k = 0; k < a->n_saved; k++)
            if (a->saved[k].p == l->site->w)
                return fail(PEFT_EARG, "%s trains whole (modules_to_save), expected no trainable "
                            "tokens of it", l->site->name);
        a->n_sites++;
        rc = adapter_attach_as(m, d, method, a, l->site, (int32_t)l->n, 1.0f, NULL);
        d->index = l->ids;
        if (!rc) rc = method->init(m, d, 0, 0);
        if (!rc) rc = adapter_attach_twin(m, a, d);
    }
    return rc;
}

/* --- writing */

static void put_ids(struct buf *b, const struct token_list *l)
{
    for (int64_t i = 0; i < l->n; i++) buf_printf(b, "%s%d", i ? ", " : "[", l->ids[i]);
    buf_puts(b, "]");
}

void tokens_write(const struct model *m, const struct adapter *a, struct buf *b, int *n)
{
    int plain = a->n_tokens == 1 && (a->method->puts_rows ||
                                     a->tokens[0].site == m->global[SLOT_EMBED]);
    if (!a->n_tokens) return;
    buf_printf(b, "%s\n  \"%s\": %s", (*n)++ ? "," : "", tokens_key(a->method), plain ? "" : "{");
    for (int64_t i = 0; i < a->n_tokens; i++) {
        const char *name = model_file_name(m, a->tokens[i].site->peft_name);
        if (!plain) {
            buf_puts(b, i ? ", " : "");
            buf_json(b, name, (int64_t)strlen(name));
            buf_puts(b, ": ");
        }
        put_ids(b, &a->tokens[i]);
    }
    if (!plain) buf_puts(b, "}");
}
