/* Rows to tokens and loss masks.
 *
 * What is trained in a conversation are the {% generation %} blocks of the
 * template, if it has one for each answer, to the byte.  Else it is found by
 * rendering prefixes: answer i
 * is what stands in render(messages[..i], with its text) behind
 * render(messages[..i-1], with the opening of the assistant's turn), so it
 * needs no support by the template.  The comparison is made in tokens of the
 * whole text.  The end-of-turn token is trained, else the model never stops;
 * what a template puts behind it is not. */
#include "data/row.h"

int64_t count_trained(const int32_t *labels, int64_t from, int64_t n, int64_t *first)
{
    int64_t count = 0;
    *first = n;
    for (int64_t i = n - 1; i >= from; i--) {
        if (labels[i] == NOT_TRAINED) continue;
        count++;
        *first = i;
    }
    return count;
}

/* Encodes into `out`, which is emptied first, behind the BOS if the tokenizer
 * adds one.  A chat template may have written it already. */
static int encode(struct coder *e, const char *text, int64_t n, bool chat, struct ids *out)
{
    bool bos = e->info->adds_bos && e->info->bos >= 0;
    out->n = 0;
    if (bos) ids_push(out, e->info->bos);
    int rc = tok_encode(e->host, e->tok, text, n, 0, out);
    if (rc == PEFT_OK) rc = ids_check(out);
    if (rc == PEFT_OK && chat && bos && out->n > 1 && out->v[1] == out->v[0]) {
        out->n--;
        memmove(out->v, out->v + 1, (size_t)out->n * sizeof *out->v);
    }
    return rc;
}

static int64_t common_prefix(const struct ids *a, const struct ids *b)
{
    int64_t n = MIN(a->n, b->n), i = 0;
    while (i < n && a->v[i] == b->v[i]) i++;
    return i;
}

/* Labels for all of e->ids. */
static int label_all(struct coder *e, bool trained)
{
    e->labels.n = 0;
    for (int64_t i = 0; i < e->ids.n; i++)
        ids_push(&e->labels, trained ? e->ids.v[i] : NOT_TRAINED);
    return ids_check(&e->labels);
}

static void label_span(struct coder *e, int64_t start, int64_t end)
{
    for (int64_t i = start; i < end; i++) e->labels.v[i] = e->ids.v[i];
}

static int push_eos(struct coder *e)
{
    if (e->info->eos < 0) return PEFT_OK;
    ids_push(&e->ids, e->info->eos);
    ids_push(&e->labels, e->info->eos);
    int rc = ids_check(&e->ids);
    return rc < 0 ? rc : ids_check(&e->labels);
}

static int render(struct coder *e, const struct chat_input *in, struct ids *spans)
{
    buf_clear(&e->text);
    int rc = chat_render_input(e->tok, in, &e->text, spans);
    return rc == PEFT_OK ? buf_check(&e->text) : rc;
}

/* How many tokens of the whole text are those of its first n messages.  Where
 * a token reaches over the border, it counts as behind it. */
static int prefix_tokens(struct coder *e, const struct chat *c, int64_t n, int prompt,
                         int64_t *out)
{
    /* An answer that opens the conversation: its role without its text. */
    const struct message empty = {c->m[0].role, ""};
    struct chat_input in = {n > 0 ? c->m : &empty, n > 0 ? c->fields : NULL, MAX(n, 1),
                            n > 0 && prompt, c->tools};
    int rc = render(e, &in, NULL);
    if (rc == PEFT_OK) rc = encode(e, buf_str(&e->text), e->text.n, true, &e->part);
    if (rc == PEFT_OK) *out = common_prefix(&e->ids, &e->part);
    return rc;
}

/* The span's end behind its end-of-turn token, where generation stops too;
 * *stops is whether there is one. */
static int64_t trim_turn(const struct coder *e, int64_t start, int64_t end, bool *stops)
{
    int64_t i = start;
    while (i < end && !tok_is_eot(e->tok, e->ids.v[i])) i++;
    *stops = i < end;
    return *stops ? i + 1 : end;
}

/* Labels what the template marks as the assistant's; 0 when it does not have
 * one mark for each answer. */
static int label_marked(struct coder *e, const struct chat *c)
{
    int64_t answers = 0, k = 0, at[2] = {0};
    for (int64_t i = 0; i < c->n; i++) answers += !strcmp(c->m[i].role, "assistant");
    if (!answers || e->spans.n != 2 * answers) return 0;
    for (int64_t i = 0; i < c->n; i++) {
        if (strcmp(c->m[i].role, "assistant") != 0) continue;
        const int32_t *span = &e->spans.v[2 * k++];
        for (int side = 0; c->train[i] && side < 2; side++) {
            int rc = encode(e, buf_str(&e->text), span[side], true, &e->part);
            if (rc < 0) return rc;
            at[side] = common_prefix(&e->ids, &e->part);
        }
        if (c->train[i]) label_span(e, at[0], at[1]);
        if (c->train[i] && at[1] >= e->o->max_len) break;
    }
    return 1;
}

/* How many tokens of the whole text come before character `at` of message i. */
static int tokens_before(struct coder *e, const struct chat *c, int64_t i, int64_t at,
                         int64_t *out)
{
    struct message whole = c->m[i];
    const json *fields = c->fields[i];
    const char *end = whole.content;
    while (*end && at > 0)
        for (at--, end++; ((unsigned char)*end & 0xc0) == 0x80;) end++;
    c->m[i].content = arena_strndup(&e->scratch, whole.content, end - whole.content);
    c->fields[i] = NULL;
    int rc = c->m[i].content ? prefix_tokens(e, c, i + 1, 0, out) : PEFT_ENOMEM;
    c->m[i] = whole;
    c->fields[i] = fields;
    return rc;
}

/* axolotl's "train_detail": characters of a message that do not train, from
 * "begin_offset" to "end_offset", both of them included. */
static int label_details(struct coder *e, const struct chat *c, int64_t i)
{
    enum { DETAILS = 256 };
    const json *list = c->fields[i] ? row_member(c->fields[i], "train_detail") : NULL;
    if (json_count(list) > DETAILS)
        return fail(PEFT_EFORMAT, "\"train_detail\": %lld parts, expected at most %d",
                    (long long)json_count(list), (int)DETAILS);
    for (const json *v = json_first(list); v; v = json_next(v)) {
        int64_t from = -1, to = -1;
        int rc = json_int(v, "begin_offset", 0, INT32_MAX, &from);
        if (rc >= 0) rc = json_int(v, "end_offset", 0, INT32_MAX, &to);
        if (rc < 0 || from < 0 || to < 0)
            return fail(PEFT_EFORMAT, "\"train_detail\": expected begin_offset, end_offset and "
                        "train in each");
        if (json_bool(json_get(v, "train"), 1)) continue;
        rc = tokens_before(e, c, i, from, &from);
        if (rc == PEFT_OK) rc = tokens_before(e, c, i, to + 1, &to);
        if (rc < 0) return rc;
        for (; from < to; from++) e->labels.v[from] = NOT_TRAINED;
    }
    return PEFT_OK;
}

int coder_chat(struct coder *e, const struct chat *c)
{
    bool stops = true;
    struct chat_input in = {c->m, c->fields, c->n, 0, c->tools};
    e->spans.n = 0;
    bool marked = !c->by_hand && chat_marks_answers(e->tok);
    int rc = render(e, &in, marked ? &e->spans : NULL);
    if (rc == PEFT_OK) rc = encode(e, buf_str(&e->text), e->text.n, true, &e->ids);
    if (rc == PEFT_OK) rc = label_all(e, e->o->train_on_prompt);
    if (rc == PEFT_OK) rc = label_marked(e, c);
    if (rc != PEFT_OK) return rc < 0 ? rc : PEFT_OK;
    /* What lies behind the cut needs no rendering, which bounds the work. */
    int64_t start = 0, end = 0;
    for (int64_t i = 0; rc == PEFT_OK && i < c->n && end < e->o->max_len; i++) {
        if (!c->train[i]) continue;
        rc = strcmp(c->m[i].role, "assistant") ? tokens_before(e, c, i, 0, &start) :
             prefix_tokens(e, c, i, 1, &start);
        if (rc == PEFT_OK) rc = prefix_tokens(e, c, i + 1, 0, &end);
        if (rc < 0) return rc;
        /* Some templates write a last answer otherwise than an earlier one
         * (Qwen3 and its reasoning): its turn is taken as it stands. */
        bool moved = end <= start;
        end = trim_turn(e, start, moved ? e->ids.n : end, &stops);
        if (moved && !stops) end = start;
        label_span(e, start, end);
        rc = label_details(e, c, i);
        if (i < c->n - 1) stops = true;
    }
    return rc == PEFT_OK && !stops ? push_eos(e) : rc;
}

int coder_text(struct coder *e, const char *text)
{
    int64_t n = (int64_t)strlen(text);
    int rc;
    if (!e->o->causal) {
        rc = tok_encode(e->host, e->tok, text, n, TOK_SPECIAL, &e->ids);
        return rc < 0 ? rc : coder_masked(e);
    }
    rc = encode(e, text, n, false, &e->ids);
    if (rc == PEFT_OK) rc = label_all(e, true);
    bool open = e->ids.n && e->ids.v[e->ids.n - 1] != e->info->eos;
    return rc == PEFT_OK && n && open ? push_eos(e) : rc;
}

int coder_masked(struct coder *e)
{
    e->task = TASK_MASKED;
    e->masks = 1;
    e->labels.n = 0;
    if (!e->tok || e->info->mask < 0)
        return fail(PEFT_ENOTFOUND, "the model's tokenizer has no token for masking, expected rows "
                    "with input_ids and labels");
    e->keep_last = e->ids.n > 0 && tok_is_special(e->tok, e->ids.v[e->ids.n - 1]);
    for (int64_t i = 0; i < e->ids.n; i++)
        ids_push(&e->labels, tok_is_special(e->tok, e->ids.v[i]) ? NOT_TRAINED : e->ids.v[i]);
    return ids_check(&e->labels);
}

/* Appends the tokens of e->part as the row's next text. */
static int add_text_of_pair(struct coder *e, bool close)
{
    if (close && e->info->eos >= 0 && e->part.n && e->part.v[e->part.n - 1] != e->info->eos)
        ids_push(&e->part, e->info->eos);
    for (int64_t i = 0; i < e->part.n; i++) ids_push(&e->ids, e->part.v[i]);
    ids_push(&e->ends, (int32_t)e->ids.n);
    int rc = ids_check(&e->part);
    if (rc == PEFT_OK) rc = ids_check(&e->ends);
    return rc == PEFT_OK ? ids_check(&e->ids) : rc;
}

int coder_add_answer(struct coder *e, const char *prompt, const char *answer)
{
    buf_clear(&e->text);
    buf_puts(&e->text, prompt);
    buf_puts(&e->text, answer);
    int rc = buf_check(&e->text);
    e->part.n = 0;
    if (rc == PEFT_OK)
        rc = tok_encode(e->host, e->tok, buf_str(&e->text), e->text.n, TOK_SPECIAL, &e->part);
    return rc == PEFT_OK ? add_text_of_pair(e, e->o->causal) : rc;
}

int coder_add_chat(struct coder *e, const struct chat *c)
{
    struct chat_input in = {c->m, c->fields, c->n, 0, c->tools};
    int rc = render(e, &in, NULL);
    if (rc == PEFT_OK) rc = encode(e, buf_str(&e->text), e->text.n, true, &e->part);
    return rc == PEFT_OK ? add_text_of_pair(e, false) : rc;
}

int coder_answer(struct coder *e, const char *prompt, const char *answer)
{
    int64_t n = (int64_t)strlen(prompt);
    struct buf *b = &e->text;
    int rc = encode(e, prompt, n, false, &e->part);
    if (rc < 0) return rc;
    buf_clear(b);
    buf_puts(b, prompt);
    buf_puts(b, answer);
    if ((rc = buf_check(b)) < 0) return rc;
    rc = encode(e, buf_str(b), b->n, false, &e->ids);
    if (rc == PEFT_OK) rc = label_all(e, e->o->train_on_prompt);
    if (rc < 0 || !answer[0]) return rc;
    label_span(e, common_prefix(&e->ids, &e->part), e->ids.n);
    bool open = e->ids.n && e->ids.v[e->ids.n - 1] != e->info->eos;
    return open ? push_eos(e) : PEFT_OK;
}

int coder_class(struct coder *e, const char *text, const char *pair)
{
    int64_t n = (int64_t)strlen(text);
    int rc;
    if (pair && e->o->causal)
        return fail(PEFT_EUNSUPPORTED, "a second text in a row needs an encoder model");
    e->part.n = 0;
    if (pair) rc = tok_encode_pair(e->host, e->tok, text, n, pair, (int64_t)strlen(pair), &e->ids,
                                   &e->part);
    else rc = tok_encode(e->host, e->tok, text, n, TOK_SPECIAL, &e->ids);
    if (rc == PEFT_OK) rc = ids_check(&e->ids);
    if (rc == PEFT_OK) rc = ids_check(&e->part);
    e->row.second = 0;
    while (pair && rc == PEFT_OK && e->row.second < e->part.n && !e->part.v[e->row.second])
        e->row.second++;
    e->keep_last = rc == PEFT_OK && !e->o->causal && e->ids.n > 0 &&
                   tok_is_special(e->tok, e->ids.v[e->ids.n - 1]);
    return rc;
}
