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

/* --- text, classes, ids */

static int encode_plain(const struct schema *s, struct coder *e, const json *row)
{
    const char *text;
    int rc = row_text(row, s->need[0], false, &text);
    return rc < 0 ? rc : coder_text(e, text);
}

/* Columns: label, text, and the second text, which may be absent. */
static int encode_labelled(const struct schema *s, struct coder *e, const json *row)
{
    const char *text, *pair_key = s->need[2] ? s->need[2] : "text_pair", *pair = NULL;
    int rc = row_text(row, s->need[1], false, &text);
    if (rc == PEFT_OK && row_member(row, pair_key)) rc = row_text(row, pair_key, false, &pair);
    if (rc == PEFT_OK && e->label_set)
        rc = labels_read(e->label_set, json_get(row, s->need[0]), &e->row);
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

#define KTO_USE "KTO: whether an answer is good or bad"

/* The letters say of what kind the columns must be: a list, true or false; any
 * other counts for all kinds.  Rows that no objective learns from have no `encode`. */
static const struct schema schemas[] = {
    {"input_ids", {"input_ids"}, TASK_LM, 0, .encode = encode_ids},
    {"chosen-rejected", {"chosen_input_ids", "rejected_input_ids"}, TASK_PAIR, 0,
     .encode = encode_pair_ids},
    {"tokens-tags", {"tokens", "tags"}, TASK_TOKEN, 1, .encode = encode_tokens},
    {"tokens-tags", {"tokens", "ner_tags"}, TASK_TOKEN, 1, .encode = encode_tokens},
    {"tokens-tags", {"tokens", "labels"}, TASK_TOKEN, 1, .encode = encode_tokens},
    {"text-spans", {"text", "spans"}, TASK_TOKEN, 1, .encode = encode_entities},
    {"text-spans", {"text", "entities"}, TASK_TOKEN, 1, .encode = encode_entities},
    {"question-context", {"question", "context"}, TASK_SPAN, 1, .encode = encode_question},
    {"sharegpt-preference", {"chosen", "rejected", "conversations"}, TASK_PAIR, 1,
     .encode = encode_pair_turns},
    {"alpaca-preference", {"chosen", "rejected", "instruction"}, TASK_PAIR, 1,
     .encode = encode_pair_turns},
    {"chosen-rejected", {"chosen", "rejected"}, TASK_PAIR, 1, .encode = encode_pair},
    {"stepwise", {"prompt", "completions", "labels"}, .kinds = "?ll",
     .use = "PRM: a reward for each step of an answer"},
    {"kto", {"prompt", "completion", "label"}, .kinds = "??b", .use = KTO_USE},
    {"kto", {"messages", "label"}, .kinds = "lb", .use = KTO_USE},
    {"kto", {"messages", "kto_tag"}, .kinds = "lb", .use = KTO_USE},
    {"kto", {"instruction", "output", "kto_tag"}, .kinds = "??b", .use = KTO_USE},
    {"messages", {"messages"}, TASK_LM, 1, .encode = encode_chat},
    {"sharegpt", {"conversations"}, TASK_LM, 1, .encode = encode_chat},
    {"prompt-completion", {"prompt", "completion"}, TASK_LM, 1, .encode = encode_completion},
    {"alpaca", {"instruction", "output"}, TASK_LM, 1, .encode = encode_alpaca},
    {"segments", {"segments"}, TASK_LM, 1, .kinds = "l", .encode = encode_segments},
    {"match", {"anchor", "positive"}, TASK_MATCH, 1, .encode = encode_match},
    {"match", {"query", "positive"}, TASK_MATCH, 1, .encode = encode_match},
    {"alike", {"score", "sentence1", "sentence2"}, TASK_ALIKE, 1, .encode = encode_alike},
    {"text-label", {"label", "text"}, TASK_CLASS, 1, .encode = encode_labelled},
    {"text-label", {"score", "text"}, TASK_CLASS, 1, .encode = encode_labelled},
    {"text-labels", {"labels", "text"}, TASK_MULTI, 1, .encode = encode_multi},
    {"text-label", {"label", "sentence"}, TASK_CLASS, 1, .encode = encode_labelled},
    {"text-label", {"label", "sentence1", "sentence2"}, TASK_CLASS, 1, .encode = encode_labelled},
    {"image-label", {"image", "label"}, .use = "models of pictures"},
    {"text", {"text"}, TASK_LM, 1, .encode = encode_plain},
    {"prompt", {"prompt"}, .use = "GRPO and RLOO: answers that a function of the host rewards"},
    {0},
};

static const char *const task_uses[] = {
    [TASK_LM] = "language models", [TASK_CLASS] = "a class or a number for each text",
    [TASK_SEQ2SEQ] = "encoder-decoder models", [TASK_MULTI] = "several labels for each text",
    [TASK_TOKEN] = "a label for each word", [TASK_SPAN] = "finding answers in texts",
    [TASK_PAIR] = "reward models", [TASK_MASKED] = "masked language models",
    [TASK_MATCH] = "embeddings", [TASK_ALIKE] = "embeddings",
};

static bool has_column(const struct schema *s, size_t i, const json *row)
{
    const json *v = row_member(row, s->need[i]);
    char kind = s->kinds ? s->kinds[i] : '?';
    return v && (kind != 'b' || json_kind(v) == JSON_BOOL) &&
           (kind != 'l' || json_kind(v) == JSON_ARRAY);
}

/* The number of columns that the row lacks, and the last of them. */
static int lacks(const struct schema *s, const json *row, const char **which)
{
    int n = 0;
    for (size_t i = 0; i < ARRAY_LEN(s->need) && s->need[i]; i++)
        if (!has_column(s, i, row)) n++, *which = s->need[i];
    return n;
}

static const struct schema *find_schema(const struct schema *s, const json *row)
{
    const char *which;
    while (s->name && lacks(s, row, &which)) s++;
    return s->name ? s : NULL;
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

static void list_columns(const json *row, char *list, size_t cap)
{
    const json *v = json_first(row);
    while (v && list_add(list, cap, ", ", json_key(v))) v = json_next(v);
    if (!*list) snprintf(list, cap, "no columns");
}

static void list_needs(const struct schema *s, char *list, size_t cap)
{
    for (size_t i = 0; i < ARRAY_LEN(s->need) && s->need[i]; i++)
        list_add(list, cap, " and ", s->need[i]);
}

bool schema_of(const json *row, struct schema_match *out)
{
    const struct schema *s = find_schema(schemas, row);
    if (!s) s = find_schema(seq2seq_schemas, row);
    *out = (struct schema_match){.name = s ? s->name : "", .use = s ? schema_use(s) : "",
                                 .trains = s && s->encode};
    if (s) list_needs(s, out->why, sizeof out->why);
    for (const struct schema *t = schemas; t->name; t++) {
        char near[80];
        const char *which;
        if (!t->need[1] || lacks(t, row, &which) != 1 || (s && !strcmp(s->name, t->name))) continue;
        snprintf(near, sizeof near, "%s but for %s", t->name, which);
        if (!strstr(out->near, near)) list_add(out->near, sizeof out->near, ", ", near);
    }
    return s != NULL;
}

const char *schema_use(const struct schema *s)
{
    return s->use ? s->use : task_uses[s->task];
}

int schema_find(const struct data_opts *o, const json *row, const struct schema **out)
{
    struct schema_match m;
    char found[160] = "";
    *out = find_schema(o->seq2seq ? seq2seq_schemas : schemas, row);
    if (*out && (*out)->encode) return PEFT_OK;
    bool known = schema_of(row, &m);
    if (known)
        return fail(PEFT_EUNSUPPORTED, "rows of the schema %s (%s) are for %s, which nothing here "
                    "learns from", m.name, m.why, m.use);
    list_columns(row, found, sizeof found);
    return fail(PEFT_EFORMAT, "expected %s; found %s%s%s", o->seq2seq ?
                "prompt and completion, instruction and output, text and summary, translation, "
                "source and target, question and answer, messages, or input_ids and labels" :
                "messages, conversations, prompt and completion, instruction and output, text and "
                "label or labels, tokens and tags, question and context, chosen and rejected, "
                "anchor and positive, score and sentence1 and sentence2, text, or input_ids",
                found, *m.near ? ", which is " : "", m.near);
}

int schema_same(const struct schema *s, const json *row, int64_t line)
{
    struct schema_match m;
    char expected[120] = "", found[160] = "";
    const char *which;
    if (!lacks(s, row, &which)) return PEFT_OK;
    list_needs(s, expected, sizeof expected);
    list_columns(row, found, sizeof found);
    schema_of(row, &m);
    return fail(PEFT_EFORMAT, "expected %s as in the first row (%s, line %lld); found %s%s%s%s",
                expected, s->name, (long long)line, found, *m.name ? " (" : "", m.name,
                *m.name ? ")" : "");
}

int schema_encode(const struct schema *s, struct coder *e, const json *row)
{
    e->ids.n = e->labels.n = e->ends.n = 0;
    e->task = s->task;
    e->more = NULL;
    e->masks = 0;
    arena_reset(&e->scratch);
    return s->encode(s, e, row);
}
