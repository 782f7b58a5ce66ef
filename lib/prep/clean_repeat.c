/* Rows that repeat others: what they ask, exactly, with another label, nearly.  Rows are put in
 * the order of what they are compared by; what is found goes back to them in theirs. */
#include "prep/clean.h"

/* --- verdicts: (row << 32 | of, verdict | equal << 8), sorted, and so put into the rows */

static int tell_verdict(struct sorter *verdicts, uint32_t row, uint32_t of, int rule)
{
    return sorter_put(verdicts, (uint64_t)row << 32 | of, (uint64_t)rule | SKETCH_BINS << 8);
}

struct change {
    struct sorter *verdicts;        /* or NULL */
    struct spill_reader *likes;     /* of struct near_like, or NULL */
    struct sorter_rows rows;        /* of them */
    int (*then)(struct clean *c, struct change *x, int64_t i, struct row_info *info);
    struct sorter *texts;
};

static int give_verdict(struct change *x, int64_t i, struct row_info *info)
{
    uint64_t e[2];
    int rc = x->verdicts ? sorter_row(&x->rows, i, e) : 0;
    if (rc <= 0) return rc;
    info->of = (uint32_t)e[0];
    info->verdict = (uint8_t)e[1];
    info->equal = (uint8_t)(e[1] >> 8);
    return PEFT_OK;
}

/* All rows once more, with these verdicts; `then` may change one further, and leave it out
 * (0). */
static int change_rows(struct clean *c, struct change *x)
{
    struct spill now;
    struct spill_reader rows;
    const void *row;
    int rc = x->verdicts ? sorter_rows(&x->rows, x->verdicts) : PEFT_OK;
    spill_begin(&now, &c->scratch, sizeof(struct row_info), c->memory / 16);
    spill_read(&rows, &c->infos);
    while (rc >= 0 && (rc = spill_next(&rows, &row)) > 0) {
        struct row_info info = *(const struct row_info *)row;
        rc = give_verdict(x, rows.at - 1, &info);
        if (rc >= 0) rc = x->then(c, x, rows.at - 1, &info);
        if (rc > 0) rc = spill_put(&now, &info);
    }
    spill_close(&rows);
    if (rc >= 0) rc = spill_turn(&now);
    spill_free(&c->infos);
    c->infos = now;
    return rc;
}

/* --- what is asked in the evaluation data */

static int find_asked(struct clean *c, struct sorter *verdicts)
{
    uint64_t first[2] = {0}, e[2];
    bool any = false;
    int rc = sorter_turn(&c->inputs);
    while (rc >= 0 && (rc = sorter_next(&c->inputs, e)) > 0) {
        if (!any || e[0] != first[0]) memcpy(first, e, sizeof e);
        any = true;
        if ((int64_t)first[1] < c->first && (int64_t)e[1] >= c->first)
            rc = tell_verdict(verdicts, (uint32_t)e[1], (uint32_t)first[1], RULE_LEAK);
    }
    sorter_free(&c->inputs);
    return rc;
}

/* Rows that nothing has caught so far are compared by their texts. */
static int list_text(struct clean *c, struct change *x, int64_t i, struct row_info *info)
{
    (void)c;
    if (info->verdict != NO_VERDICT) return 1;
    int rc = sorter_put(x->texts, info->text, (uint64_t)i << 32 | info->label);
    return rc < 0 ? rc : 1;
}

/* --- equal texts, and contradicting labels.  Of one text: its labels, in the order of the rows,
 * and rows that do not bring a new one. */

enum { LABELS = 64 };                   /* beyond, a text's further labels count as the last */
struct repeat { uint32_t row; uint16_t label; bool exact; };
struct same_text {
    struct { uint32_t label, row; int64_t votes; } label[LABELS];
    int labels;
    bool several;                   /* labels that contradict */
    struct spill repeats;           /* of struct repeat; begun when there is one */
};

static int same_text_add(struct clean *c, struct same_text *t, uint32_t row, uint32_t label,
                         struct sorter *verdicts)
{
    bool known = t->labels > 0, train = row >= c->first;
    bool leaks = known && train && t->label[0].row < c->first;
    if (leaks && c->act[RULE_LEAK])
        return tell_verdict(verdicts, row, t->label[0].row, RULE_LEAK);
    int k = 0;
    while (k < t->labels && t->label[k].label != label) k++;
    bool fresh = k == t->labels && k < LABELS;
    k = MIN(k, LABELS - 1);
    if (fresh) {
        t->label[k].label = label;
        t->label[k].row = row;
        t->label[k].votes = 0;
        t->labels++;
    }
    if (!train) return PEFT_OK;
    struct repeat r = {.row = row, .label = (uint16_t)k};
    r.exact = !fresh && t->label[k].row >= c->first && c->act[RULE_EXACT];
    /* A row without a label contradicts none. */
    bool votes = known && !leaks && label && t->label[0].label && c->act[RULE_CONTRADICTION];
    t->label[k].votes += votes;
    t->several |= votes && k;
    if (!votes) return r.exact ? tell_verdict(verdicts, row, t->label[k].row, RULE_EXACT) : PEFT_OK;
    if (!t->repeats.size)
        spill_begin(&t->repeats, &c->scratch, sizeof r, c->memory / 64);
    return spill_put(&t->repeats, &r);
}

/* The label that most rows have, or -1: a tie. */
static int find_majority(const struct same_text *t)
{
    int64_t most = 0;
    int winner = -1;
    for (int k = 0; k < t->labels; k++) {
        int64_t n = t->label[k].votes + !k;     /* the first row is not among those that repeat */
        if (n > most) winner = k, most = n;
        else if (n == most) winner = -1;
    }
    return winner;
}

static int judge_row(struct clean *c, const struct same_text *t, const struct repeat *r, int winner,
                     struct sorter *verdicts)
{
    uint32_t first = t->label[0].row, of = r->row == first ? NO_ROW : first;
    bool stays = c->act[RULE_CONTRADICTION] == ACT_FLAG ? r->exact : r->label == winner;
    if (t->several && !stays) return tell_verdict(verdicts, r->row, of, RULE_CONTRADICTION);
    return r->exact ? tell_verdict(verdicts, r->row, t->label[r->label].row, RULE_EXACT) : PEFT_OK;
}

static int same_text_end(struct clean *c, struct same_text *t, struct sorter *verdicts)
{
    struct spill_reader repeats = {.at = 0};
    const void *r;
    bool majority = c->act[RULE_CONTRADICTION] == ACT_MAJORITY;
    int winner = t->several && majority ? find_majority(t) : -1, rc = PEFT_OK;
    if (t->several)
        rc = judge_row(c, t, &(struct repeat){.row = t->label[0].row}, winner, verdicts);
    if (rc >= 0 && t->repeats.size) {
        rc = spill_turn(&t->repeats);
        spill_read(&repeats, &t->repeats);
    }
    while (rc >= 0 && repeats.s && (rc = spill_next(&repeats, &r)) > 0)
        rc = judge_row(c, t, r, winner, verdicts);
    spill_close(&repeats);
    spill_free(&t->repeats);
    t->labels = 0;
    t->several = false;
    return rc;
}

static int find_equal(struct clean *c, struct sorter *texts, struct sorter *verdicts)
{
    struct same_text t = {.labels = 0};
    uint64_t e[2], text = 0;
    int rc = sorter_turn(texts);
    while (rc >= 0 && (rc = sorter_next(texts, e)) > 0) {
        if (e[0] != text) rc = same_text_end(c, &t, verdicts);
        text = e[0];
        if (rc >= 0)
            rc = same_text_add(c, &t, (uint32_t)(e[1] >> 32), (uint32_t)e[1], verdicts);
    }
    int end = rc < 0 ? rc : same_text_end(c, &t, verdicts);
    spill_free(&t.repeats);
    return end;
}

/* --- likeness */

static int tell_search(void *ctx, double share)
{
    struct clean *c = ctx;
    const peft_source_opts *o = &c->source;
    int64_t done = c->done + (int64_t)(share * (double)c->search);
    if (!o->progress || !o->progress(o->ctx, done, c->total)) return PEFT_OK;
    return fail(PEFT_ECANCELLED, "cancelled while searching for rows that are alike");
}

static int leave_out(struct clean *c, struct change *x, int64_t i, struct row_info *info)
{
    (void)x;
    if (info->verdict != NO_VERDICT) near_leave_out(&c->near_rows, i);
    return 1;
}

/* Rows like one of the evaluation data leak. */
static int give_like(struct clean *c, const struct near_like *like, struct row_info *info)
{
    bool leak = like->of < c->first;
    if (like->of == NO_ROW || (leak && !c->act[RULE_LEAK])) return PEFT_OK;
    info->of = like->of;
    info->equal = (uint8_t)like->equal;
    info->verdict = leak ? RULE_LEAK : RULE_NEAR;
    return PEFT_OK;
}

/* Rows of the file alone, and lines instead of numbers of rows. */
static int finish_row(struct clean *c, struct change *x, int64_t i, struct row_info *info)
{
    struct row_info room;
    const void *like;
    int rc = x->likes ? spill_next(x->likes, &like) : 0;
    if (rc < 0 || i < c->first) return MIN(rc, 0);
    if (rc > 0) give_like(c, like, info);
    const struct row_info *of = info->of == NO_ROW ? &(struct row_info){.line = 0} :
                                spill_at(&c->infos, info->of, &room);
    if (of) info->of = of->line;
    return of ? 1 : PEFT_EIO;
}

static int find_near(struct clean *c, struct spill *likes)
{
    struct near *n = &c->near_rows;
    n->alike = c->near;
    n->threads = flow_threads(&c->source);
    n->first = c->first;
    n->stop = tell_search;
    n->ctx = c;
    int rc = near_search(n, likes);
    c->done += c->search;
    return rc;
}

int clean_repeats(struct clean *c)
{
    struct sorter texts, verdicts;
    struct spill likes = {.size = 0};
    struct spill_reader like;
    int rc = spill_turn(&c->infos);
    sorter_begin(&texts, &c->scratch, 2, 0, c->memory / 8);
    sorter_begin(&verdicts, &c->scratch, 2, 0, c->memory / 16);
    if (rc >= 0) rc = find_asked(c, &verdicts);
    struct change asked = {.verdicts = &verdicts, .then = list_text, .texts = &texts};
    if (rc >= 0) rc = change_rows(c, &asked);
    sorter_free(&verdicts);
    sorter_begin(&verdicts, &c->scratch, 2, 0, c->memory / 16);
    if (rc >= 0) rc = find_equal(c, &texts, &verdicts);
    sorter_free(&texts);
    struct change equal = {.verdicts = &verdicts, .then = leave_out};
    if (rc >= 0) rc = change_rows(c, &equal);
    sorter_free(&verdicts);
    if (rc >= 0 && c->act[RULE_NEAR]) rc = find_near(c, &likes);
    spill_read(&like, &likes);
    struct change last = {.likes = c->act[RULE_NEAR] ? &like : NULL, .then = finish_row};
    if (rc >= 0) rc = change_rows(c, &last);
    spill_close(&like);
    spill_free(&likes);
    near_end(&c->near_rows);
    return rc;
}
