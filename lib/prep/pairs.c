/* Questions and answers in a text.
 *
 * A template is literal text with {question} and {answer}, and perhaps {system} and
 * {input}: a slot's text goes as far as the next literal, the last one's to where the
 * template begins anew.  Without one, the text is read line by line.  A question is a
 * heading or a bold line that ends in "?", or a line "Q: ..."; its answer is what follows
 * up to the next question or heading, for "Q:" from "A:" on.  A table whose head has the
 * columns question and answer gives a pair a row. */
#include "prep/talk.h"

/* --- pieces of text */

struct piece { const char *at; int64_t n; };

static bool is_white(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static struct piece trim(struct piece p)
{
    while (p.n && is_white(p.at[0])) p.at++, p.n--;
    while (p.n && is_white(p.at[p.n - 1])) p.n--;
    return p;
}

static struct piece drop(struct piece p, int64_t n)
{
    return trim((struct piece){p.at + n, p.n - n});
}

static bool ends_with(struct piece p, const char *s)
{
    int64_t n = (int64_t)strlen(s);
    return p.n >= n && !memcmp(p.at + p.n - n, s, (size_t)n);
}

static bool begins_with(struct piece p, const char *s)
{
    int64_t n = (int64_t)strlen(s);
    return p.n >= n && !memcmp(p.at, s, (size_t)n);
}

/* Also as Chinese and Arabic write it. */
static bool is_question(struct piece p)
{
    return ends_with(p, "?") || ends_with(p, "\xef\xbc\x9f") || ends_with(p, "\xd8\x9f");
}

/* Bytes of a word at the beginning, whatever its case; 0 = another one. */
static int64_t word_at(struct piece p, const char *word)
{
    int64_t n = (int64_t)strlen(word);
    for (int64_t i = 0; i < n; i++)
        if (i >= p.n || (p.at[i] | 0x20) != word[i]) return 0;
    return n;
}

/* --- templates */

enum { SLOTS = 8 };
enum place { NO_SLOT = -1, QUESTION, ANSWER, INPUT, SYSTEM_SLOT, SLOT_NAMES };
static const char *const slot_names[] = {"{question}", "{answer}", "{input}", "{system}"};

struct layout {
    struct piece literal[SLOTS + 1];        /* before each slot, and after the last */
    enum place slot[SLOTS];
    int n;
};

static enum place slot_at(const char *s)
{
    for (int i = 0; i < SLOT_NAMES; i++)
        if (!strncmp(s, slot_names[i], strlen(slot_names[i]))) return (enum place)i;
    return NO_SLOT;
}

/* A line end at the end of the template's file is none of its own. */
static int layout_read(const char *s, struct layout *l)
{
    const char *from = s, *end = s + strlen(s);
    bool has[SLOT_NAMES] = {false};
    *l = (struct layout){0};
    while (end > s && (end[-1] == '\n' || end[-1] == '\r')) end--;
    for (const char *at = s; at < end; at++) {
        enum place slot = *at == '{' ? slot_at(at) : NO_SLOT;
        if (slot == NO_SLOT) continue;
        if (l->n == SLOTS || has[slot])
            return fail(PEFT_EARG, "the template has %s twice", slot_names[slot]);
        has[slot] = true;
        l->literal[l->n] = (struct piece){from, at - from};
        if (l->n && at == from)
            return fail(PEFT_EARG, "the template has %s directly behind %s", slot_names[slot],
                        slot_names[l->slot[l->n - 1]]);
        l->slot[l->n++] = slot;
        from = at + strlen(slot_names[slot]);
        at = from - 1;
    }
    l->literal[l->n] = (struct piece){from, end - from};
    if (!has[QUESTION] || !has[ANSWER])
        return fail(PEFT_EARG, "the template lacks %s", slot_names[has[QUESTION]]);
    return PEFT_OK;
}

int layout_check(const char *layout)
{
    struct layout l;
    return layout_read(layout, &l);
}

static const char *find(const char *at, const char *end, struct piece what)
{
    for (; what.n && end - at >= what.n; at++) {
        at = memchr(at, what.at[0], (size_t)(end - at));
        if (!at || end - at < what.n) return NULL;
        if (!memcmp(at, what.at, (size_t)what.n)) return at;
    }
    return NULL;
}

struct reading {
    struct mem *mem;
    const struct pairs *to;
    bool cells;                     /* of a table: "\|" is a bar */
    struct buf question, answer, input;
};

static int give_pair(struct reading *r, struct piece question, struct piece input,
                     struct piece answer)
{
    question = trim(question);
    answer = trim(answer);
    input = trim(input);
    if (!question.n || !answer.n) return PEFT_OK;
    struct { struct buf *to; struct piece from; } all[] = {
        {&r->question, question}, {&r->input, input}, {&r->answer, answer}};
    for (int i = 0; i < 3; i++) {
        buf_clear(all[i].to);
        for (int64_t k = 0; k < all[i].from.n; k++)
            if (!r->cells || k + 1 == all[i].from.n || memcmp(all[i].from.at + k, "\\|", 2) != 0)
                buf_putc(all[i].to, all[i].from.at[k]);
        buf_putc(all[i].to, 0);
        if (buf_check(all[i].to)) return PEFT_ENOMEM;
    }
    return r->to->found(r->to->ctx, r->question.data, input.n ? r->input.data : NULL,
                        r->answer.data);
}

static int read_by_layout(struct reading *r, struct piece text, const struct layout *l)
{
    const char *at = text.at, *end = at + text.n;
    struct piece first = l->literal[0];
    int rc = PEFT_OK;
    while (!rc && at < end) {
        struct piece slot[SLOT_NAMES] = {{0}};
        if (first.n && !(at = find(at, end, first))) break;
        at += first.n;
        for (int i = 0; i < l->n; i++) {
            struct piece next = l->literal[i + 1];
            bool last = i + 1 == l->n && !trim(next).n;
            const char *stop = find(at, end, last ? trim(first) : next);
            if (!stop && !last) return rc;
            if (!stop) stop = end;
            slot[l->slot[i]] = (struct piece){at, stop - at};
            at = last ? stop : stop + next.n;
        }
        rc = give_pair(r, slot[QUESTION], slot[INPUT], slot[ANSWER]);
    }
    return rc;
}

/* --- by lines */

enum line_kind { LINE_TEXT, LINE_QUESTION, LINE_ASKED, LINE_ANSWER, LINE_HEADING, LINE_TABLE };
struct scanner {
    struct reading *r;
    const char *at, *end;
    struct piece line;              /* the present one */
    bool code;                      /* between fences */
    struct piece question, answer;
    bool asked;                     /* a "Q:" waits for its "A:" */
    struct buf asking;              /* its lines */
    int columns[2];                 /* of question and answer in the present table, or -1 */
    bool in_table;
};

static struct piece next_line(struct scanner *s)
{
    const char *stop = memchr(s->at, '\n', (size_t)(s->end - s->at));
    struct piece p = {s->at, (stop ? stop : s->end) - s->at};
    s->at = stop ? stop + 1 : s->end;
    return p;
}

/* "1.", "1)" or "Q3." before a question say only where it stands. */
static struct piece without_number(struct piece p)
{
    struct piece rest = p;
    int64_t mark = word_at(rest, "q");
    int64_t i = mark;
    while (i < rest.n && rest.at[i] >= '0' && rest.at[i] <= '9') i++;
    if (i == mark || i >= rest.n || !strchr(".):", rest.at[i])) i = 0;
    return i ? drop(rest, i + 1) : p;
}

/* Bytes of "Q:", "Question 3:", "A." ... with the mark-up around them; 0 = none. */
static int64_t mark_at(struct piece p, const char *letter, const char *word)
{
    int64_t i = 0;
    while (i < p.n && strchr("*_->#", p.at[i]) && p.at[i]) i++;
    while (i < p.n && p.at[i] == ' ') i++;
    struct piece rest = {p.at + i, p.n - i};
    int64_t n = word_at(rest, word);
    if (!n) n = word_at(rest, letter);
    if (!n) return 0;
    for (i += n; i < p.n && (p.at[i] == ' ' || (p.at[i] >= '0' && p.at[i] <= '9'));) i++;
    while (i < p.n && (p.at[i] == '*' || p.at[i] == '_')) i++;
    if (i >= p.n || p.at[i] != ':') return 0;
    for (i++; i < p.n && (p.at[i] == '*' || p.at[i] == '_');) i++;
    return i;
}

/* What stands between ** or __ that enclose the whole line. */
static bool bold_of(struct piece p, struct piece *inner)
{
    static const char *const marks[] = {"**", "__"};
    for (int i = 0; i < 2; i++) {
        if (p.n <= 4 || !begins_with(p, marks[i]) || !ends_with(p, marks[i])) continue;
        *inner = trim((struct piece){p.at + 2, p.n - 4});
        return !find(inner->at, inner->at + inner->n, (struct piece){marks[i], 2});
    }
    return false;
}

static bool heading_of(struct piece p, struct piece *title)
{
    int64_t n = 0;
    while (n < p.n && p.at[n] == '#') n++;
    if (!n || n > 6 || (n < p.n && !is_white(p.at[n]))) return false;
    *title = drop(p, n);
    while (title->n && title->at[title->n - 1] == '#') title->n--;
    *title = trim(*title);
    return true;
}

/* A line of = or - below makes this one a heading. */
static bool is_underlined(const struct scanner *s)
{
    struct scanner ahead = *s;
    if (ahead.at >= ahead.end) return false;
    struct piece p = trim(next_line(&ahead));
    if (p.n < 3 || !strchr("=-", p.at[0])) return false;
    for (int64_t i = 0; i < p.n; i++)
        if (p.at[i] != p.at[0]) return false;
    return true;
}

static enum line_kind kind_of(struct scanner *s, struct piece *text)
{
    struct piece p = trim(s->line), inner;
    int64_t n;
    *text = p;
    if (begins_with(p, "```") || begins_with(p, "~~~")) s->code = !s->code;
    if (s->code) return LINE_TEXT;
    if (p.n && p.at[0] == '|') return LINE_TABLE;
    bool title = heading_of(p, &inner), below = !title && p.n && is_underlined(s);
    if (below) next_line(s);
    if (!title && !below && (n = mark_at(p, "q", "question")) > 0)
        return *text = drop(p, n), LINE_ASKED;
    if (!title && !below && (n = mark_at(p, "a", "answer")) > 0)
        return *text = drop(p, n), LINE_ANSWER;
    if (!title && !below && !bold_of(p, &inner)) return LINE_TEXT;
    if (below) inner = p;
    bold_of(inner, &inner);
    if ((n = mark_at(inner, "q", "question")) > 0) inner = drop(inner, n);
    *text = without_number(inner);
    return is_question(inner) ? LINE_QUESTION : title || below ? LINE_HEADING : LINE_TEXT;
}

static int end_pair(struct scanner *s)
{
    struct piece question = s->question;
    if (s->asking.n) question = (struct piece){s->asking.data, s->asking.n};
    int rc = give_pair(s->r, question, (struct piece){0}, s->answer);
    s->question = s->answer = (struct piece){0};
    buf_clear(&s->asking);
    s->asked = false;
    return rc;
}

/* Cell i of a table's row, as "| a | b |"; false = there is none. */
static bool cell_at(struct piece row, int i, struct piece *out)
{
    const char *at = row.at + 1, *end = row.at + row.n;
    for (;; i--) {
        const char *stop = at;
        while (stop < end && (*stop != '|' || stop[-1] == '\\')) stop++;
        if (at >= end) return false;
        if (!i) return *out = trim((struct piece){at, stop - at}), true;
        at = stop + 1;
    }
}

/* A row of a table of questions and answers. */
static int table_row(struct scanner *s, struct piece row)
{
    struct piece pair[2];
    for (int k = 0; k < 2; k++)
        if (!cell_at(row, s->columns[k], &pair[k])) return PEFT_OK;
    if (pair[0].n && strspn(pair[0].at, ":-") >= (size_t)pair[0].n) return PEFT_OK;
    s->r->cells = true;
    int rc = give_pair(s->r, pair[0], (struct piece){0}, pair[1]);
    s->r->cells = false;
    return rc;
}

/* Whether this is the head of such a table. */
static bool table_head(struct scanner *s, struct piece row)
{
    enum { CELLS = 64 };
    struct piece cell;
    s->columns[0] = s->columns[1] = -1;
    for (int i = 0; i < CELLS && cell_at(row, i, &cell); i++) {
        if (s->columns[0] < 0 && word_at(cell, "question")) s->columns[0] = i;
        if (s->columns[1] < 0 && word_at(cell, "answer")) s->columns[1] = i;
    }
    return s->columns[0] >= 0 && s->columns[1] >= 0;
}

static int take_line(struct scanner *s)
{
    struct piece text, whole = s->line;
    enum line_kind kind = kind_of(s, &text);
    int rc = PEFT_OK;
    if (kind == LINE_TABLE && s->in_table) return table_row(s, text);
    s->in_table = kind == LINE_TABLE && table_head(s, text);
    if (s->in_table) return end_pair(s);
    switch (kind) {
    case LINE_QUESTION:
    case LINE_ASKED:
        rc = end_pair(s);
        s->asked = kind == LINE_ASKED;
        if (s->asked) buf_put(&s->asking, text.at, text.n);
        else s->question = text;
        break;
    case LINE_HEADING:
        rc = end_pair(s);
        break;
    case LINE_ANSWER:
        s->asked = false;
        if (s->question.n || s->asking.n) s->answer = text.n ? text : (struct piece){text.at, 0};
        break;
    default:
        if (s->asked && text.n) {
            buf_putc(&s->asking, '\n');
            buf_put(&s->asking, text.at, text.n);
        } else if (!s->asked && (s->question.n || s->asking.n)) {
            if (!s->answer.at) s->answer.at = whole.at;
            s->answer.n = whole.at + whole.n - s->answer.at;
        }
    }
    return rc ? rc : buf_check(&s->asking);
}

static int read_by_lines(struct reading *r, struct piece text)
{
    struct scanner s = {.r = r, .at = text.at, .end = text.at + text.n};
    int rc = PEFT_OK;
    buf_init(&s.asking, r->mem);
    while (s.at < s.end && !rc) {
        s.line = next_line(&s);
        rc = take_line(&s);
    }
    if (!rc) rc = end_pair(&s);
    buf_free(&s.asking);
    return rc;
}

/* --- both */

static const char plain_layout[] = "### Instruction:\n{question}\n\n### Response:\n{answer}";
static const char input_layout[] =
    "### Instruction:\n{question}\n\n### Input:\n{input}\n\n### Response:\n{answer}";

int pairs_find(struct mem *m, const char *text, int64_t n, const char *layout,
               const struct pairs *to)
{
    struct reading r = {.mem = m, .to = to};
    struct piece all = {text, n};
    struct layout l;
    buf_init(&r.question, m);
    buf_init(&r.answer, m);
    buf_init(&r.input, m);
    if (!layout && begins_with(all, "### Instruction:\n"))
        layout = strstr(text, "\n\n### Input:\n") ? input_layout : plain_layout;
    int rc = layout ? layout_read(layout, &l) : PEFT_OK;
    if (!rc) rc = layout ? read_by_layout(&r, all, &l) : read_by_lines(&r, all);
    buf_free(&r.question);
    buf_free(&r.answer);
    buf_free(&r.input);
    return rc;
}

static void put_pair(struct buf *b, const struct layout *l, const char *const *slots)
{
    for (int i = 0; i < l->n; i++) {
        buf_put(b, l->literal[i].at, l->literal[i].n);
        buf_puts(b, slots[l->slot[i]] ? slots[l->slot[i]] : "");
    }
    buf_put(b, l->literal[l->n].at, l->literal[l->n].n);
}

int text_of(struct buf *b, const struct talk *t, const char *layout)
{
    const char *input = t->input ? t->input : "";
    struct layout l, with_input;
    int rc = layout_read(layout ? layout : plain_layout, &l);
    if (!rc) rc = layout_read(input_layout, &with_input);
    const struct turn *v = t->all.v;
    int64_t at = t->all.n && v[0].who == SYSTEM;
    for (int64_t i = 0; i < t->all.n && !rc; i++) {
        enum speaker due = i < at ? SYSTEM : (i - at) % 2 ? ASSISTANT : USER;
        if (!v[i].text || v[i].who != due)
            rc = fail(PEFT_EFORMAT, "text cannot hold other than questions and answers in turn");
    }
    if (rc || (t->all.n - at) % 2 || t->all.n == at)
        return rc ? rc : fail(PEFT_EFORMAT, "text cannot hold a question without an answer");
    if (at && !layout) buf_printf(b, "%s\n\n", v[0].text);
    for (; at < t->all.n; at += 2) {
        const char *slots[SLOT_NAMES] = {v[at].text, v[at + 1].text, NULL, NULL};
        bool first = at < 2, last = at + 2 == t->all.n, split = last && *input && !layout;
        size_t n = strlen(v[at].text), k = strlen(input);
        if (!first) buf_puts(b, "\n\n");
        if (first && at) slots[SYSTEM_SLOT] = v[0].text;
        split = split && n > k && !strcmp(v[at].text + n - k, input);
        char *question = split ? arena_strndup(t->arena, v[at].text, (int64_t)(n - k) - 1) : NULL;
        if (split && !question) return PEFT_ENOMEM;
        if (split) slots[QUESTION] = question, slots[INPUT] = input;
        put_pair(b, split ? &with_input : &l, slots);
    }
    return buf_check(b);
}
