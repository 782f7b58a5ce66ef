/* Rows of tasks beside language modelling and classes: several labels, labels
 * of words, marked stretches of text, questions about a context.  Positions in
 * a text that come from a file count characters, as in Python. */
#include "data/row.h"

#include <stdio.h>

/* --- several labels */

static int multi_numbers(struct coder *e, const json *list)
{
    int64_t n = json_count(list), wanted = e->o->n_labels;
    if (wanted && n != wanted)
        return fail(PEFT_EDATA, "\"labels\": %lld numbers, expected one for each of the head's "
                    "%lld labels", (long long)n, (long long)wanted);
    float *v = arena_alloc(e->arena, n * (int64_t)sizeof *v);
    if (!v) return PEFT_ENOMEM;
    e->row.values = v;
    e->row.n_classes = (int32_t)n;
    for (const json *j = json_first(list); j; j = json_next(j)) {
        if (json_kind(j) != JSON_NUMBER && json_kind(j) != JSON_BOOL)
            return fail(PEFT_EFORMAT, "\"labels\": expected numbers only, found %s",
                        json_kind_name(j));
        *v++ = (float)(json_kind(j) == JSON_BOOL ? json_bool(j, 0) : json_number(j, 0));
    }
    e->label_set->kind = LABEL_NUMBER;
    e->label_set->most = MAX(e->label_set->most, (int32_t)n - 1);
    return PEFT_OK;
}

int multi_read(struct coder *e, const json *list)
{
    const json *j = json_first(list);
    e->task = TASK_MULTI;
    e->row.value = 0;
    if (j && json_kind(j) != JSON_STRING) return multi_numbers(e, list);
    int32_t *ids = arena_alloc(e->arena, json_count(list) * (int64_t)sizeof *ids);
    if (!ids) return PEFT_ENOMEM;
    e->row.classes = ids;
    if (e->label_set->kind == LABEL_NONE) e->label_set->kind = LABEL_NAME;
    for (; j; j = json_next(j)) {
        if (json_kind(j) != JSON_STRING)
            return fail(PEFT_EFORMAT, "\"labels\": expected strings only, found %s",
                        json_kind_name(j));
        int rc = labels_name(e->label_set, json_string(j), &ids[e->row.n_classes++]);
        if (rc < 0) return rc;
    }
    return PEFT_OK;
}

int encode_multi(const struct schema *s, struct coder *e, const json *row)
{
    const json *labels = json_get(row, s->need[0]);
    const char *text, *pair = NULL;
    int rc = row_text(row, s->need[1], false, &text);
    if (rc == PEFT_OK && row_member(row, "text_pair"))
        rc = row_text(row, "text_pair", false, &pair);
    if (rc < 0) return rc;
    if (json_kind(labels) == JSON_ARRAY) {
        rc = multi_read(e, labels);
    } else {
        e->task = TASK_CLASS;
        rc = labels_read(e->label_set, labels, &e->row);
    }
    return rc < 0 ? rc : coder_class(e, text, pair);
}

/* --- labels of tokens */

/* The text of e->text as tokens, none of them labelled. */
static int encode_located(struct coder *e)
{
    struct token_spans *at = &e->spans_of;
    at->begin.n = at->end.n = at->part.n = 0;
    int rc = buf_check(&e->text);
    if (rc == PEFT_OK)
        rc = tok_encode_spans(e->host, e->tok, buf_str(&e->text), e->text.n, TOK_SPECIAL, &e->ids,
                              at);
    for (int64_t i = 0; i < e->ids.n; i++) ids_push(&e->labels, NOT_TRAINED);
    if (rc == PEFT_OK) rc = ids_check(&e->labels);
    e->keep_last = rc == PEFT_OK && !e->o->causal && e->ids.n > 0 &&
                   tok_is_special(e->tok, e->ids.v[e->ids.n - 1]);
    return rc;
}

/* The tag of what follows within a word or stretch: B-X goes on as I-X. */
static int inside_of(struct coder *e, int32_t tag, int32_t *out)
{
    char name[128];
    const char *s = tag < e->label_set->n ? e->label_set->names[tag] : "";
    *out = tag;
    if (strncmp(s, "B-", 2) != 0) return PEFT_OK;
    snprintf(name, sizeof name, "I-%s", s + 2);
    int64_t known = map_get(&e->label_set->index, name, (int64_t)strlen(name), -1);
    if (known >= 0) *out = (int32_t)known;
    return PEFT_OK;
}

static int read_tag(struct coder *e, const json *tag, int32_t *out)
{
    struct example x = {.label = -1, .line = e->row.line};
    int rc = labels_read(e->label_set, tag, &x);
    *out = x.label;
    if (rc == PEFT_OK && x.label < 0)
        return fail(PEFT_EDATA, "a tag is %g, expected a name or a number from 0 on",
                    (double)x.value);
    return rc;
}

/* Words and their tags.  Their text is joined by spaces, and the first piece of
 * a word has its tag. */
int encode_tokens(const struct schema *s, struct coder *e, const json *row)
{
    const json *words = json_get(row, s->need[0]), *marks = json_get(row, s->need[1]);
    int64_t n = json_count(words), w = -1, last = -1;
    if (json_kind(words) != JSON_ARRAY || json_kind(marks) != JSON_ARRAY || json_count(marks) != n)
        return fail(PEFT_EFORMAT, "\"%s\" and \"%s\": expected two lists of one length, found %lld "
                    "and %lld elements", s->need[0], s->need[1], (long long)n,
                    (long long)json_count(marks));
    int32_t *tag = arena_alloc(&e->scratch, (n + 1) * (int64_t)sizeof *tag), k = 0;
    if (!tag) return PEFT_ENOMEM;
    buf_clear(&e->text);
    e->part.n = 0;
    for (const json *j = json_first(words), *t = json_first(marks); j;
         j = json_next(j), t = json_next(t)) {
        if (json_kind(j) != JSON_STRING)
            return fail(PEFT_EFORMAT, "\"%s\": expected strings, found %s", s->need[0],
                        json_kind_name(j));
        if (e->text.n) buf_putc(&e->text, ' ');
        ids_push(&e->part, (int32_t)e->text.n);
        buf_puts(&e->text, json_string(j));
        int rc = read_tag(e, t, &tag[k++]);
        if (rc < 0) return rc;
    }
    int rc = ids_check(&e->part);
    if (rc == PEFT_OK) rc = encode_located(e);
    for (int64_t i = 0; rc == PEFT_OK && i < e->ids.n; i++) {
        if (e->spans_of.part.v[i] < 0) continue;
        while (w + 1 < n && e->part.v[w + 1] < e->spans_of.end.v[i]) w++;
        if (w < 0) continue;
        if (w != last) e->labels.v[i] = tag[w];
        else if (e->o->label_all) rc = inside_of(e, tag[w], &e->labels.v[i]);
        last = w;
    }
    return rc;
}

/* Bytes at which the characters of a text begin, [n + 1]. */
static int32_t *char_starts(struct coder *e, const char *text, int64_t bytes, int64_t *n)
{
    int32_t *at = arena_alloc(&e->scratch, (bytes + 2) * (int64_t)sizeof *at);
    *n = 0;
    for (int64_t i = 0; at && i < bytes; i++)
        if (((unsigned char)text[i] & 0xc0) != 0x80) at[(*n)++] = (int32_t)i;
    if (at) at[*n] = (int32_t)bytes;
    return at;
}

/* {"start", "end", "label"} or [start, end, label]. */
static int read_stretch(const json *j, int64_t chars, int64_t at[2], const char **label)
{
    const json *v[3] = {json_get(j, "start"), json_get(j, "end"), json_get(j, "label")};
    if (json_kind(j) == JSON_ARRAY && json_count(j) == 3) {
        v[0] = json_first(j);
        v[1] = json_next(v[0]);
        v[2] = json_next(v[1]);
    }
    *label = json_string(v[2]);
    for (int i = 0; i < 2; i++) {
        double x = json_number(v[i], -1);
        if (!(x >= 0 && x <= (double)chars) || !*label || !**label || strlen(*label) > 100)
            return fail(PEFT_EFORMAT, "a marked stretch: expected start and end within the text's "
                        "%lld characters, and a label", (long long)chars);
        at[i] = (int64_t)x;
    }
    return PEFT_OK;
}

/* A text and marked stretches of it: tags B-X, I-X, and O elsewhere. */
int encode_entities(const struct schema *s, struct coder *e, const json *row)
{
    const char *text, *label;
    int32_t outside, tag[2];
    int64_t chars, at[2];
    int rc = row_text(row, s->need[0], false, &text);
    if (rc < 0) return rc;
    buf_clear(&e->text);
    buf_puts(&e->text, text);
    const struct token_spans *t = &e->spans_of;
    const json *list = json_get(row, s->need[1]);
    int32_t *start = char_starts(e, text, (int64_t)strlen(text), &chars);
    if (!start) return PEFT_ENOMEM;
    if (json_kind(list) != JSON_ARRAY)
        return fail(PEFT_EFORMAT, "\"%s\": expected a list, found %s", s->need[1],
                    json_kind_name(list));
    rc = encode_located(e);
    if (rc == PEFT_OK) rc = labels_name(e->label_set, "O", &outside);
    for (int64_t i = 0; rc == PEFT_OK && i < e->ids.n; i++)
        if (t->part.v[i] >= 0) e->labels.v[i] = outside;
    int64_t i = 0, before = -1;
    for (const json *j = json_first(list); rc == PEFT_OK && j; j = json_next(j)) {
        char name[2][128];
        if ((rc = read_stretch(j, chars, at, &label)) < 0) return rc;
        for (int k = 0; k < 2 && rc == PEFT_OK; k++) {
            snprintf(name[k], sizeof name[k], "%c-%s", "BI"[k], label);
            rc = labels_name(e->label_set, name[k], &tag[k]);
        }
        if (at[0] < before) i = 0;
        before = at[0];
        bool first = true;
        for (; rc == PEFT_OK && i < e->ids.n && t->begin.v[i] < start[at[1]]; i++) {
            if (t->part.v[i] < 0 || t->end.v[i] <= start[at[0]]) continue;
            e->labels.v[i] = tag[!first];
            first = false;
        }
    }
    return rc;
}

/* --- questions */

static const char *keep(struct coder *e, const char *s)
{
    return arena_strndup(e->arena, s, (int64_t)strlen(s));
}

/* "answers": {"text": [..], "answer_start": [..]} or a list of objects with
 * these; *at is the first one's character, -1 where it is not told. */
static int read_answers(struct coder *e, struct question *q, const json *answers, double *at)
{
    const json *texts = json_get(answers, "text"), *starts = json_get(answers, "answer_start");
    bool lists = json_kind(answers) == JSON_OBJECT;
    const json *first = json_first(lists ? texts : answers);
    int64_t n = json_count(lists ? texts : answers);
    *at = -1;
    if (answers && ((lists ? json_kind(texts) : json_kind(answers)) != JSON_ARRAY))
        return fail(PEFT_EFORMAT, "\"answers\": expected lists \"text\" and \"answer_start\"");
    if (!n) return PEFT_OK;
    q->answers = arena_alloc(e->arena, n * (int64_t)sizeof *q->answers);
    if (!q->answers) return PEFT_ENOMEM;
    for (const json *j = first; j; j = json_next(j)) {
        const char *text = json_string(lists ? j : json_get(j, "text"));
        if (!text) return fail(PEFT_EFORMAT, "\"answers\": expected texts as strings");
        if (!(q->answers[q->n_answers++] = keep(e, text))) return PEFT_ENOMEM;
    }
    *at = json_number(lists ? json_first(starts) : json_get(first, "answer_start"), -1);
    return PEFT_OK;
}

/* The first answer's tokens, from the last that begins at or before it to the
 * first that ends at or behind its end. */
static int place_answer(struct coder *e, const struct question *q, double at)
{
    int64_t chars, n = (int64_t)strlen(q->answers[0]), from = -1;
    int32_t *start = char_starts(e, q->context, q->context_n, &chars);
    if (!start) return PEFT_ENOMEM;
    if (at >= 0 && at < (double)chars && start[(int64_t)at] + n <= q->context_n &&
        !memcmp(q->context + start[(int64_t)at], q->answers[0], (size_t)n))
        from = start[(int64_t)at];
    const char *found = from < 0 ? strstr(q->context, q->answers[0]) : NULL;
    if (found) from = found - q->context;
    if (from < 0 || !n)
        return fail(PEFT_EDATA, "the answer \"%.60s\" does not stand in the context",
                    q->answers[0]);
    int32_t a = 0, b = q->n - 1;
    while (a + 1 < q->n && q->begin[a + 1] <= from) a++;
    while (b > a && q->end[b - 1] >= from + n) b--;
    e->answer[0] = a;
    e->answer[1] = b;
    return PEFT_OK;
}

/* All tokens of the pair into e->whole; the context's places into q. */
static int encode_whole(struct coder *e, struct question *q, const char *question)
{
    struct token_spans *t = &e->spans_of;
    t->begin.n = t->end.n = t->part.n = e->whole.n = e->part.n = 0;
    int rc = tok_encode_pair_spans(e->host, e->tok, question, (int64_t)strlen(question), q->context,
                                   q->context_n, &e->whole, &e->part, t);
    if (rc < 0) return rc;
    int64_t n = e->whole.n, from = 0, to;
    while (from < n && t->part.v[from] != 1) from++;
    for (to = from; to < n && t->part.v[to] == 1;) to++;
    q->n = (int32_t)(to - from);
    e->before = (int32_t)from;
    e->after = (int32_t)(n - to);
    for (e->second = 0; e->second < n && !e->part.v[e->second];) e->second++;
    int32_t *at = arena_alloc(e->arena, 2 * (int64_t)q->n * (int64_t)sizeof *at);
    if (!at) return PEFT_ENOMEM;
    memcpy(at, t->begin.v + from, (size_t)q->n * sizeof *at);
    memcpy(at + q->n, t->end.v + from, (size_t)q->n * sizeof *at);
    q->begin = at;
    q->end = at + q->n;
    return PEFT_OK;
}

/* The next window of the context into e->ids.  An answer that it does not hold
 * as a whole is at its first token, as is none. */
static int next_window(struct coder *e)
{
    const struct question *q = e->question;
    int32_t room = e->o->window - e->before - e->after, n = MIN(room, q->n - e->next);
    int32_t shared = MIN(e->o->stride, room / 2);
    if (e->next < 0) return 0;
    e->ids.n = 0;
    for (int32_t i = 0; i < e->before; i++) ids_push(&e->ids, e->whole.v[i]);
    for (int32_t i = 0; i < n; i++) ids_push(&e->ids, e->whole.v[e->before + e->next + i]);
    for (int32_t i = 0; i < e->after; i++)
        ids_push(&e->ids, e->whole.v[e->whole.n - e->after + i]);
    e->row.question = q;
    e->row.first = e->next;
    e->row.before = e->before;
    e->row.second = e->second;
    bool in = e->answer[0] >= e->next && e->answer[1] < e->next + n;
    for (int k = 0; k < 2; k++)
        e->row.span[k] = in ? e->before + e->answer[k] - e->next : 0;
    e->next = e->next + n < q->n ? e->next + room - shared : -1;
    int rc = ids_check(&e->ids);
    return rc < 0 ? rc : 1;
}

int encode_question(const struct schema *s, struct coder *e, const json *row)
{
    const char *question, *context, *id;
    double at = -1;
    struct question *q = arena_alloc(e->arena, sizeof *q);
    int rc = row_text(row, s->need[0], false, &question);
    if (rc == PEFT_OK) rc = row_text(row, s->need[1], false, &context);
    if (rc < 0 || !q) return rc < 0 ? rc : PEFT_ENOMEM;
    id = json_string(json_get(row, "id"));
    q->context_n = (int64_t)strlen(context);
    q->context = keep(e, context);
    q->id = keep(e, id ? id : "");
    if (!q->context || !q->id) return PEFT_ENOMEM;
    if (!json_bool(json_get(row, "is_impossible"), 0))
        rc = read_answers(e, q, row_member(row, "answers"), &at);
    if (rc == PEFT_OK) rc = encode_whole(e, q, question);
    if (rc < 0) return rc;
    if (!q->n) return fail(PEFT_EDATA, "the context has no tokens");
    if (e->before + e->after >= e->o->window)
        return fail(PEFT_EDATA, "the question's %d tokens leave no room for the context in %d",
                    e->before + e->after, e->o->window);
    e->question = q;
    e->answer[0] = e->answer[1] = -1;
    if (q->n_answers && (rc = place_answer(e, q, at)) < 0) return rc;
    e->next = 0;
    e->more = next_window;
    return MIN(next_window(e), PEFT_OK);
}
