/* Rows for embeddings: texts that fit each other, and pairs with a score. */
#include <math.h>

#include "data/row.h"

/* One more text of the row. */
static int add_embedded(struct coder *e, const char *text)
{
    int rc = tok_encode(e->host, e->tok, text, (int64_t)strlen(text), TOK_SPECIAL, &e->ids);
    if (rc == PEFT_OK) ids_push(&e->ends, (int32_t)e->ids.n);
    if (rc == PEFT_OK) rc = ids_check(&e->ids);
    if (rc == PEFT_OK) rc = ids_check(&e->ends);
    int64_t from = e->ends.n > 1 ? e->ends.v[e->ends.n - 2] : 0;
    if (rc == PEFT_OK && e->ids.n == from) rc = fail(PEFT_EDATA, "an empty text");
    e->keep_last = rc == PEFT_OK && tok_is_special(e->tok, e->ids.v[e->ids.n - 1]);
    return rc;
}

/* A text and one that fits, then "negative", "negative_1" to "negative_9" and
 * the list "negatives", each as far as it is there. */
int encode_match(const struct schema *s, struct coder *e, const json *row)
{
    static const char *const names[] = {
        "negative", "negative_1", "negative_2", "negative_3", "negative_4", "negative_5",
        "negative_6", "negative_7", "negative_8", "negative_9"
    };
    const char *text;
    int rc = PEFT_OK;
    for (int k = 0; k < 2 && rc == PEFT_OK; k++) {
        rc = row_text(row, s->need[k], false, &text);
        if (rc == PEFT_OK) rc = add_embedded(e, text);
    }
    for (size_t i = 0; i < ARRAY_LEN(names) && rc == PEFT_OK; i++) {
        if (!row_member(row, names[i])) continue;
        rc = row_text(row, names[i], false, &text);
        if (rc == PEFT_OK) rc = add_embedded(e, text);
    }
    for (const json *v = json_first(row_member(row, "negatives")); v && rc == PEFT_OK;
         v = json_next(v)) {
        if (!(text = json_string(v)))
            return fail(PEFT_EFORMAT, "\"negatives\": expected strings, found %s",
                        json_kind_name(v));
        rc = add_embedded(e, text);
    }
    return rc;
}

/* Columns: score and two texts. */
int encode_alike(const struct schema *s, struct coder *e, const json *row)
{
    const char *text;
    const json *score = json_get(row, s->need[0]);
    e->row.value = (float)json_number(score, NAN);
    if (!isfinite(e->row.value))
        return fail(PEFT_EFORMAT, "\"%s\": expected a number, found %s", s->need[0],
                    json_kind_name(score));
    int rc = row_text(row, s->need[1], false, &text);
    if (rc == PEFT_OK) rc = add_embedded(e, text);
    if (rc == PEFT_OK) rc = row_text(row, s->need[2], false, &text);
    return rc == PEFT_OK ? add_embedded(e, text) : rc;
}
