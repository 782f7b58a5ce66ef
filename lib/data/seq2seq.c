/* Rows of encoder-decoder models: a source text and its target.  The target's
 * tokens stand behind the decoder's start token, so that each row of the decoder
 * predicts the next one; as in Hugging Face the source is cut and ended by the
 * tokenizer's own rules, and the target ends with the end of sequence. */
#include "data/row.h"

/* --- tokens */

/* The target of which e->labels holds the labels goes behind the source in
 * e->ids.  A token that is not trained is read as the start token. */
int coder_target(struct coder *e)
{
    int64_t n = e->labels.n, from = e->ids.n;
    while (n > 0 && e->labels.v[n - 1] == NOT_TRAINED) n--;
    ids_push(&e->ends, (int32_t)from);
    ids_push(&e->ids, e->o->start);
    for (int64_t i = 0; i < n; i++)
        ids_push(&e->ids, e->labels.v[i] == NOT_TRAINED ? e->o->start : e->labels.v[i]);
    for (int64_t i = 0; i <= from; i++) ids_push(&e->labels, NOT_TRAINED);
    int rc = ids_check(&e->ids);
    if (rc == PEFT_OK) rc = ids_check(&e->labels);
    if (rc < 0) return rc;
    memmove(e->labels.v + from + 1, e->labels.v, (size_t)n * sizeof *e->labels.v);
    for (int64_t i = 0; i <= from; i++) e->labels.v[i] = NOT_TRAINED;
    e->labels.n = e->ids.n;
    ids_push(&e->ends, (int32_t)e->ids.n);
    return ids_check(&e->ends);
}

int coder_seq2seq(struct coder *e, const char *source, const char *target)
{
    struct buf *b = &e->text;
    buf_clear(b);
    buf_printf(b, "%s%s", e->o->prefix ? e->o->prefix : "", source);
    int rc = buf_check(b);
    if (rc == PEFT_OK) rc = tok_encode(e->host, e->tok, buf_str(b), b->n, TOK_SPECIAL, &e->ids);
    if (rc == PEFT_OK) rc = ids_check(&e->ids);
    if (rc == PEFT_OK && !e->ids.n) return fail(PEFT_EDATA, "the source text is empty");
    if (rc == PEFT_OK)
        rc = tok_encode(e->host, e->tok, target, (int64_t)strlen(target), 0, &e->labels);
    if (rc < 0) return rc;
    if (e->labels.n && e->info->eos >= 0 && e->labels.v[e->labels.n - 1] != e->info->eos)
        ids_push(&e->labels, e->info->eos);
    rc = ids_check(&e->labels);
    e->keep_last = rc == PEFT_OK && tok_is_special(e->tok, e->ids.v[e->ids.n - 1]);
    return rc < 0 ? rc : coder_target(e);
}

int data_source_text(const struct tokenizer *tok, const struct message *m, int64_t n,
                     struct buf *out)
{
    if (chat_known(tok)) return chat_render(tok, m, n, 1, out);
    if (n == 1) buf_puts(out, m[0].content);
    for (int64_t i = 0; n > 1 && i < n; i++)
        buf_printf(out, "%s%s: %s", i ? "\n" : "", m[i].role, m[i].content);
    return buf_check(out);
}

/* --- rows */

/* The first two columns are the texts. */
static int encode_columns(const struct schema *s, struct coder *e, const json *row)
{
    const char *source, *target;
    int rc = row_text(row, s->need[0], false, &source);
    if (rc == PEFT_OK) rc = row_text(row, s->need[1], false, &target);
    return rc < 0 ? rc : coder_seq2seq(e, source, target);
}

/* What stands in e->text, copied, is the source. */
static int encode_made(struct coder *e, const char *target)
{
    int rc = buf_check(&e->text);
    const char *source = rc < 0 ? NULL : arena_strndup(&e->scratch, buf_str(&e->text), e->text.n);
    if (!source) return rc < 0 ? rc : PEFT_ENOMEM;
    return coder_seq2seq(e, source, target);
}

static int encode_instruction(const struct schema *s, struct coder *e, const json *row)
{
    const char *task, *input, *answer;
    int rc = row_text(row, s->need[0], false, &task);
    if (rc == PEFT_OK) rc = row_text(row, "input", true, &input);
    if (rc == PEFT_OK) rc = row_text(row, s->need[1], false, &answer);
    if (rc < 0) return rc;
    buf_clear(&e->text);
    buf_printf(&e->text, "%s%s%s", task, input[0] ? "\n" : "", input);
    return encode_made(e, answer);
}

/* {"translation": {"en": "...", "fr": "..."}}: from the first into the second. */
static int encode_translation(const struct schema *s, struct coder *e, const json *row)
{
    const json *both = json_get(row, s->need[0]);
    const json *from = json_kind(both) == JSON_OBJECT ? json_first(both) : NULL;
    const json *to = from ? json_next(from) : NULL;
    if (!to || json_next(to) || !json_string(from) || !json_string(to))
        return fail(PEFT_EFORMAT, "\"%s\": expected an object of two texts, source and target",
                    s->need[0]);
    return coder_seq2seq(e, json_string(from), json_string(to));
}

/* T5's own form of a question; answers may be SQuAD's, of which the first counts. */
static int encode_asked(const struct schema *s, struct coder *e, const json *row)
{
    const char *question, *context, *answer = NULL;
    const json *v = json_get(row, s->need[1]);
    int rc = row_text(row, s->need[0], false, &question);
    if (rc == PEFT_OK) rc = row_text(row, "context", true, &context);
    if (rc < 0) return rc;
    if (json_kind(v) == JSON_OBJECT) v = json_get(v, "text");
    if (json_kind(v) == JSON_ARRAY) v = json_first(v);
    if (!(answer = json_string(v)))
        return fail(PEFT_EFORMAT, "\"%s\": expected a text, or an object with a list \"text\"",
                    s->need[1]);
    buf_clear(&e->text);
    buf_printf(&e->text, "question: %s", question);
    if (context[0]) buf_printf(&e->text, " context: %s", context);
    return encode_made(e, answer);
}

/* What stands before the last message, which is the assistant's, is the source. */
static int encode_dialogue(const struct schema *s, struct coder *e, const json *row)
{
    struct chat c;
    (void)s;
    int rc = row_chat(e, row, &c);
    if (rc < 0) return rc;
    if (c.n < 2 || strcmp(c.m[c.n - 1].role, "assistant") != 0)
        return fail(PEFT_EFORMAT, "expected messages that end with the assistant's");
    buf_clear(&e->text);
    rc = data_source_text(e->tok, c.m, c.n - 1, &e->text);
    return rc < 0 ? rc : encode_made(e, c.m[c.n - 1].content);
}

static int encode_target_ids(const struct schema *s, struct coder *e, const json *row)
{
    int64_t last = (int64_t)e->o->vocab - 1;
    const json *mask = row_member(row, "attention_mask");
    int rc = row_ids(json_get(row, s->need[0]), s->need[0], 0, last, 0, &e->ids);
    if (rc == PEFT_OK && mask) rc = row_drop_padding(e, mask);
    if (rc == PEFT_OK && !e->ids.n) return fail(PEFT_EDATA, "\"%s\" is empty", s->need[0]);
    if (rc == PEFT_OK)
        rc = row_ids(json_get(row, s->need[1]), s->need[1], 0, last, NOT_TRAINED, &e->labels);
    return rc < 0 ? rc : coder_target(e);
}

const struct schema seq2seq_schemas[] = {
    {"input_ids", {"input_ids", "labels"}, TASK_SEQ2SEQ, 0, .encode = encode_target_ids},
    {"messages", {"messages"}, TASK_SEQ2SEQ, 1, .encode = encode_dialogue},
    {"sharegpt", {"conversations"}, TASK_SEQ2SEQ, 1, .encode = encode_dialogue},
    {"prompt-completion", {"prompt", "completion"}, TASK_SEQ2SEQ, 1, .encode = encode_columns},
    {"alpaca", {"instruction", "output"}, TASK_SEQ2SEQ, 1, .encode = encode_instruction},
    {"translation", {"translation"}, TASK_SEQ2SEQ, 1, .encode = encode_translation},
    {"source-target", {"source", "target"}, TASK_SEQ2SEQ, 1, .encode = encode_columns},
    {"summary", {"text", "summary"}, TASK_SEQ2SEQ, 1, .encode = encode_columns},
    {"summary", {"document", "summary"}, TASK_SEQ2SEQ, 1, .encode = encode_columns},
    {"summary", {"dialogue", "summary"}, TASK_SEQ2SEQ, 1, .encode = encode_columns},
    {"summary", {"article", "highlights"}, TASK_SEQ2SEQ, 1, .encode = encode_columns},
    {"question-answer", {"question", "answer"}, TASK_SEQ2SEQ, 1, .encode = encode_asked},
    {"question-answer", {"question", "answers"}, TASK_SEQ2SEQ, 1, .encode = encode_asked},
    {0},
};
