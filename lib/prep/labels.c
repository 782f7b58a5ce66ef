/* Texts and labels of rows of any schema. */
#include "prep/labels.h"

enum { TEXTS_MAX = 64 };

/* What labelling adds to a row. */
static const char *const added[] = {"label", "labeller", "likely", "confidence", "margin",
                                    "agreement", "line"};

static bool is_added(const char *key)
{
    for (size_t i = 0; i < ARRAY_LEN(added); i++)
        if (!strcmp(key, added[i])) return true;
    return false;
}

/* Where there are several, with what they are: "question: ", of a conversation "answer: ". */
int label_text(json *row, struct buf *out)
{
    struct field f[TEXTS_MAX];
    int64_t n = MIN(fields_of(row, f, TEXTS_MAX), TEXTS_MAX), at = out->n, kept = 0;
    for (int64_t i = 0; i < n; i++)
        if (!is_added(f[i].column)) f[kept++] = f[i];
    for (int64_t i = 0; i < kept; i++) {
        if (i) buf_putc(out, f[i].word ? ' ' : '\n');
        if (kept > 1 && !f[i].word)
            buf_printf(out, "%s: ", f[i].at < 0 ? f[i].column : field_role_names[f[i].role]);
        buf_puts(out, json_string(f[i].node));
    }
    const char *image = json_string(json_get(row, "image"));
    if (out->n == at && image) buf_puts(out, image);
    return buf_check(out);
}

int label_name(const json *row, struct buf *out)
{
    const json *v = field_label(row);
    switch (v ? json_kind(v) : JSON_NULL) {
    case JSON_NULL: return 0;
    case JSON_STRING:
        if (!*json_string(v)) return 0;
        buf_puts(out, json_string(v));
        break;
    case JSON_NUMBER: buf_number(out, json_number(v, 0)); break;
    case JSON_BOOL: buf_puts(out, json_bool(v, 0) ? "true" : "false"); break;
    default:
        return fail(PEFT_EDATA, "label: expected one, a string or a number, found %s",
                    json_kind_name(v));
    }
    return buf_check(out) < 0 ? PEFT_ENOMEM : 1;
}

void label_open(struct buf *out, const json *row, const char *label)
{
    buf_putc(out, '{');
    int64_t at = out->n;
    for (const json *v = json_first(row); v; v = json_next(v)) {
        const char *key = json_key(v);
        if (is_added(key) && (label || v != field_label(row))) continue;
        if (out->n > at) buf_puts(out, ", ");
        buf_json(out, key, (int64_t)strlen(key));
        buf_puts(out, ": ");
        json_write(out, v);
    }
    if (!label) return;
    buf_puts(out, out->n > at ? ", \"label\": " : "\"label\": ");
    buf_json(out, label, (int64_t)strlen(label));
}
