/* Rows set aside for evaluation: each label's share, equal texts on one side. */
#include <math.h>

#include "judge/rows.h"

struct aside {
    struct mem mem;
    struct arena texts;
    peft_dataset_stats stats;
    int64_t *first;                 /* [rows] the first row with the same text */
    int64_t *rows;                  /* [rows] of a part */
    int32_t *label, *order, *copies;    /* [rows]; copies: rows of a first one's text */
    double *want;                   /* [labels or 1] its rows, then those still to be set aside */
    uint8_t *aside;                 /* [rows] */
};

static int find_equal(struct aside *s, const peft_model *model, const peft_dataset *data)
{
    struct map places;
    struct row_text t;
    peft_row r;
    int64_t line = 0;
    map_init(&places, &s->mem);
    int rc = row_text_init(&t, model, &s->mem);
    for (int64_t i = 0; i < s->stats.rows && rc >= 0; i++) {
        s->first[i] = i;
        if ((rc = row_get(data, i, &r)) < 0) break;
        s->label[i] = s->stats.labels && !r.labels ? MAX(r.label, 0) : 0;
        s->want[s->label[i]] += 1;
        int same = i > 0 && r.line > 0 && r.line == line;   /* windows of one question */
        line = r.line;
        if (same) s->first[i] = s->first[i - 1];
        else if ((rc = row_key(&t, data, i)) > 0) {
            s->first[i] = map_get(&places, t.text.data, t.text.n, i);
            char *own = s->first[i] < i ? NULL : arena_strndup(&s->texts, t.text.data, t.text.n);
            if (own) rc = map_add(&places, own, t.text.n, i);
            else if (s->first[i] == i) rc = PEFT_ENOMEM;
        }
        s->copies[s->first[i]]++;
    }
    row_text_free(&t);
    map_free(&places);
    return rc < 0 ? rc : PEFT_OK;
}

/* Of each label, texts in a random order until there are enough. */
static void set_aside(struct aside *s, double share)
{
    for (int32_t k = 0; k < MAX(s->stats.labels, 1); k++) {
        double rows = s->want[k];
        s->want[k] = MIN(MAX(round(share * rows), rows >= 5), rows - 1);
    }
    for (int64_t k = 0; k < s->stats.rows; k++) {
        int64_t i = s->order[k];
        double *want = &s->want[s->label[i]];
        if (s->first[i] != i || s->copies[i] > *want) continue;
        s->aside[i] = 1;
        *want -= s->copies[i];
    }
}

static int give_part(const struct aside *s, const peft_dataset *data, int aside,
                     peft_dataset **out)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->stats.rows; i++)
        if (s->aside[s->first[i]] == aside) s->rows[n++] = i;
    if (!n) return PEFT_OK;
    int rc = peft_dataset_subset(data, s->rows, n, out);
    return rc ? kit_failed(rc) : PEFT_OK;
}

static double usual_share(int64_t rows)
{
    double n = (double)rows;
    return rows < 20 ? 0 : MIN(MAX(n / 10, MIN(250, n / 4)), 2000) / n;
}

static int part(struct aside *s, const peft_model *model, const peft_dataset *data, double share,
                 uint64_t seed, peft_dataset **parts)
{
    int64_t n = s->stats.rows;
    s->first = mem_array(&s->mem, n, sizeof(*s->first));
    s->rows = mem_array(&s->mem, n, sizeof(*s->rows));
    s->label = mem_array(&s->mem, n, sizeof(*s->label));
    s->order = mem_array(&s->mem, n, sizeof(*s->order));
    s->copies = mem_array(&s->mem, n, sizeof(*s->copies));
    s->aside = mem_zalloc(&s->mem, n);
    s->want = mem_array(&s->mem, MAX(s->stats.labels, 1), sizeof(*s->want));
    if (!s->first || !s->rows || !s->label || !s->order || !s->copies || !s->aside || !s->want)
        return PEFT_ENOMEM;
    for (int64_t i = 0; i < n; i++) s->order[i] = (int32_t)i;
    rng_shuffle(s->order, n, seed, rng_stream(RNG_SPLIT, 1));
    int rc = find_equal(s, model, data);
    if (!rc && share > 0) set_aside(s, share);
    for (int k = 0; k < 2 && !rc; k++) rc = give_part(s, data, k, &parts[k]);
    return rc;
}

int32_t peft_judge_aside(const peft_model *model, const peft_dataset *data,
                         const peft_aside_opts *opts, peft_dataset **train, peft_dataset **eval)
{
    KIT_ARG(model && data && train && eval, "no model, data set or place for its parts given");
    peft_aside_opts o;
    peft_dataset *parts[2] = { NULL, NULL };
    struct aside s = { 0 };
    *train = *eval = NULL;
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc && !(o.share >= 0 && o.share < 1))
        rc = fail(PEFT_EARG, "share %g, expected a number between 0 and 1", o.share);
    if (!rc) rc = stats_get(data, &s.stats);
    if (rc) return kit_end(rc);
    mem_init(&s.mem, NULL, NULL);
    arena_init(&s.texts, &s.mem);
    rc = part(&s, model, data, o.share > 0 ? o.share : usual_share(s.stats.rows), o.seed, parts);
    arena_free(&s.texts);
    mem_free(&s.mem, s.first);
    mem_free(&s.mem, s.rows);
    mem_free(&s.mem, s.label);
    mem_free(&s.mem, s.order);
    mem_free(&s.mem, s.copies);
    mem_free(&s.mem, s.aside);
    mem_free(&s.mem, s.want);
    if (rc) {
        peft_dataset_free(parts[0]);
        peft_dataset_free(parts[1]);
        return kit_end(rc);
    }
    *train = parts[0];
    *eval = parts[1];
    return kit_end(PEFT_OK);
}
