/* One row: its texts repaired and masked, its length, what it is compared by. */
#include "prep/clean.h"
#include "prep/damage.h"
#include "prep/keys.h"

struct look {
    struct clean *c;
    struct clean_worker *w;
    struct flow_row *r;
    struct field *f;
    const char *s;                  /* the text as it is by now */
    int64_t n;
    int changed;
    bool tell;                      /* the first pass counts what it finds */
    uint32_t caught;                /* rules that drop the row, as bits */
};

/* A rule has found something: `after` is what it makes of the text, or NULL. */
static void found(struct look *x, int rule, int64_t places, const struct buf *after, int64_t at)
{
    struct clean *c = x->c;
    struct shown e;
    if (c->act[rule] == ACT_DROP) x->caught |= 1u << rule;
    else if (x->tell) {
        bool wanted = report_wants(&c->report, rule);
        if (wanted)
            e = example_of(x->f, x->s, x->n, after ? after->data : NULL, after ? after->n : 0, at);
        finding_add(x->r, rule, places, wanted ? &e : NULL);
    }
    if (!after) return;
    x->s = after->data;
    x->n = after->n;
    x->changed++;
}

static int look_damage(struct look *x)
{
    struct damage d;
    struct buf *out = &x->w->text[x->changed & 1];
    enum action act = x->c->act[RULE_ENCODING];
    bool fix = act == ACT_FIX && !x->f->fixed;
    if (act == ACT_OFF) return PEFT_OK;
    buf_clear(out);
    damage_find(x->s, x->n, &d, fix ? out : NULL);
    int64_t places = d.twice + d.control + d.lost;
    if (places) found(x, RULE_ENCODING, places, out->n ? out : NULL, d.at);
    return buf_check(out);
}

/* What stands in the place of personal data; where positions count, as many stars. */
static void put_mask(struct buf *out, const struct look *x, const struct personal_place *p)
{
    if (!x->f->fixed) {
        buf_puts(out, personal_masks[p->kind]);
        return;
    }
    for (int64_t i = p->from; i < p->to; i++)
        if (((unsigned char)x->s[i] & 0xc0) != 0x80) buf_putc(out, '*');
}

static int look_personal(struct look *x)
{
    struct buf *out = &x->w->text[x->changed & 1];
    struct personal_place p = {.to = 0}, first[PERSONAL_KINDS];
    int64_t from = 0, places[PERSONAL_KINDS] = {0};
    uint32_t kinds = 0;
    bool masked = false;
    for (int k = 0; k < PERSONAL_KINDS; k++)
        if (x->c->act[RULE_PERSONAL + k] != ACT_OFF) kinds |= 1u << k;
    if (!kinds) return PEFT_OK;
    buf_clear(out);
    while (personal_next(&x->c->personal, x->s, x->n, kinds, p.to, &p)) {
        if (!places[p.kind]++) first[p.kind] = p;
        if (x->c->act[RULE_PERSONAL + p.kind] != ACT_MASK) continue;
        buf_put(out, x->s + from, p.from - from);
        put_mask(out, x, &p);
        from = p.to;
        masked = true;
    }
    if (masked) buf_put(out, x->s + from, x->n - from);
    /* Each kind is shown beside the text in which all are masked. */
    const char *s = x->s;
    int64_t n = x->n;
    for (int k = 0; k < PERSONAL_KINDS; k++) {
        if (!places[k]) continue;
        bool mask = x->c->act[RULE_PERSONAL + k] == ACT_MASK;
        x->s = s, x->n = n;
        found(x, RULE_PERSONAL + k, places[k], mask && !out->oom ? out : NULL, first[k].from);
    }
    if (masked) x->s = out->data, x->n = out->n, x->changed |= 1;
    return buf_check(out);
}

/* All texts of the row, changed as the rules want it: 1 = some was. */
static int look_texts(struct look *x, int64_t *n)
{
    int changed = 0;
    int rc = fields_list(&x->c->host.mem, x->r->row, &x->w->fields, &x->w->cap, n);
    for (int64_t i = 0; i < *n && rc >= 0; i++) {
        x->f = &x->w->fields[i];
        x->s = json_string(x->f->node);
        x->n = (int64_t)strlen(x->s);
        x->changed = 0;
        rc = look_damage(x);
        if (rc >= 0) rc = look_personal(x);
        if (rc < 0 || !x->changed) continue;
        rc = json_set_string(x->f->node, x->s, x->n);
        changed = 1;
    }
    return rc < 0 ? rc : changed;
}

/* --- lengths */

static int count_tokens(struct look *x, int64_t n, int64_t *tokens)
{
    *tokens = 0;
    for (int64_t i = 0; i < n; i++) {
        const char *s = json_string(x->w->fields[i].node);
        int64_t k = peft_tokenize(x->c->o.model, s, strlen(s), PEFT_TOK_PLAIN, NULL, 0);
        if (k < 0) return kit_failed((int32_t)k);
        *tokens += k;
    }
    return PEFT_OK;
}

static int look_length(struct look *x, int64_t n)
{
    const peft_clean_opts *o = &x->c->o;
    int64_t chars = x->w->words.chars, tokens = 0;
    bool count = o->model && (o->min_tokens || o->max_tokens);
    int rc = count ? count_tokens(x, n, &tokens) : PEFT_OK;
    bool brief = chars < o->min_chars || (count && tokens < o->min_tokens);
    bool lengthy = (o->max_chars && chars > o->max_chars) ||
                   (count && o->max_tokens && tokens > o->max_tokens);
    x->f = NULL;
    x->s = x->r->text;
    x->n = x->r->n;
    if (brief && x->c->act[RULE_SHORT]) found(x, RULE_SHORT, 1, NULL, 0);
    if (lengthy && x->c->act[RULE_LONG]) found(x, RULE_LONG, 1, NULL, 0);
    return rc;
}

/* --- what a row is compared by */

/* What it asks, which must not be asked in the evaluation data; a few words may be asked by
 * anyone. */
static void look_input(struct look *x, struct clean_note *note, int64_t n)
{
    enum { LEAST = 5 };
    struct words *w = &x->w->input;
    bool answers = false;
    row_words_begin(w);
    for (int64_t i = 0; i < n; i++) {
        const struct field *f = &x->w->fields[i];
        const char *s = json_string(f->node);
        answers |= f->role == FIELD_ANSWER;
        if (f->role == FIELD_INPUT) row_words_add(w, s, (int64_t)strlen(s), true);
    }
    note->asks = answers && w->n >= LEAST;
    note->input = w->exact;
}

static int look_label(struct look *x, uint32_t *out)
{
    struct buf *b = &x->w->label;
    const json *label = field_label(x->r->row);
    buf_clear(b);
    if (label) json_write(b, label);
    *out = label ? (uint32_t)key_of(1, buf_str(b), b->n) | 1 : 0;
    return buf_check(b);
}

static int look_row(struct look *x, struct clean_note *note)
{
    int64_t n;
    int rc = look_texts(x, &n);
    if (rc < 0) return rc;
    note->info.changed = rc;
    struct words *w = &x->w->words;
    row_words_begin(w);
    for (int64_t i = 0; i < n; i++) {
        const struct field *f = &x->w->fields[i];
        const char *s = json_string(f->node);
        row_words_add(w, s, (int64_t)strlen(s), f->role != FIELD_SYSTEM);
    }
    if (w->oom) return fail(PEFT_ENOMEM, "out of memory for the words of a row");
    note->info.text = w->exact;
    if (!w->tokens && !json_get(x->r->row, "input_ids") && x->c->act[RULE_EMPTY])
        note->info.verdict = RULE_EMPTY;
    if (n == 0) note->info.text = key_of(2, x->r->text, x->r->n);
    rc = look_label(x, &note->info.label);
    if (rc >= 0) rc = look_length(x, n);
    if (rc >= 0 && x->c->act[RULE_LEAK]) look_input(x, note, n);
    if (rc >= 0 && x->c->act[RULE_NEAR])
        note->sketched = sketch_words(w, x->c->shingle, &note->near.sketch);
    note->near.label = note->info.label;
    for (int i = 0; i < CLEAN_RULES && rc >= 0; i++)
        if (x->caught >> i & 1 && note->info.verdict == NO_VERDICT) note->info.verdict = (uint8_t)i;
    return rc;
}

int clean_look(void *ctx, struct flow_row *r, int worker)
{
    struct clean *c = ctx;
    struct clean_note *note = r->note;
    struct look x = {.c = c, .w = &c->worker[worker], .r = r, .tell = !c->evaluation};
    note->info = (struct row_info){.line = (uint32_t)r->line, .of = NO_ROW, .verdict = NO_VERDICT};
    int rc = flow_parse(r);
    if (rc == PEFT_EFORMAT && c->act[RULE_BROKEN] != ACT_FAIL) {
        note->info.verdict = RULE_BROKEN;
        return PEFT_OK;
    }
    return rc < 0 ? rc : look_row(&x, note);
}

int clean_again(void *ctx, struct flow_row *r, int worker)
{
    struct clean *c = ctx;
    struct look x = {.c = c, .w = &c->worker[worker], .r = r};
    const struct row_info *info = r->note;
    int64_t n;
    bool drop = info->verdict != NO_VERDICT && c->act[info->verdict] != ACT_FLAG;
    if (!info->changed || drop) return PEFT_OK;
    int rc = flow_parse(r);
    if (rc >= 0) rc = look_texts(&x, &n);
    return rc < 0 ? rc : flow_change(r);
}
