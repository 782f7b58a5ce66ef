/* Classes of texts by models without a head for them, and without a model. */
#include <math.h>
#include <stdio.h>

#include "judge/board.h"

static int each_label(struct peft_board *j, const struct asks *a)
{
    for (int64_t i = 0; i < a->n; i++) {
        int32_t label = a->v[i].kind == ASK_CLASS ? board_label(j, a->v[i].answer) : 0;
        if (label < 0) return label;
    }
    return PEFT_OK;
}

/* The labels of the data and, if there is a file of them, of the examples. */
static int find_labels(struct peft_board *j)
{
    enum { MOST = 200 };
    int rc = board_rows(j);
    if (!rc && j->shots_path) rc = board_shots(j);
    if (!rc) rc = each_label(j, &j->rows);
    if (!rc && j->shots_path) rc = each_label(j, &j->shots);
    if (!rc && (j->n_labels < 2 || j->n_labels > MOST))
        rc = fail(PEFT_EUNSUPPORTED, "%d labels of texts in %s, expected 2 to %d for a model "
                  "without a head to choose from", j->n_labels, j->path, (int)MOST);
    return rc;
}

/* Scores [labels] become probabilities, and the row's guess. */
static int note_guess(struct peft_board *j, struct system *s, int64_t line, int32_t label,
                      const double *score)
{
    struct found *f = system_row(j, s, line);
    double top = score[0], sum = 0;
    if (!f) return PEFT_ENOMEM;
    f->label = label;
    f->said = 0;
    for (int32_t i = 1; i < j->n_labels; i++)
        if (score[i] > score[f->said]) f->said = i;
    top = score[f->said];
    for (int32_t i = 0; i < j->n_labels; i++) sum += exp(score[i] - top);
    f->confidence = 1 / sum;
    f->loss = log(sum) + top - score[f->label];
    f->terms = 1;
    f->right = f->label == f->said;
    return PEFT_OK;
}

/* --------------------------------------------------------------- likelihoods */

/* A row's prompt with each label behind it.  Labels are told apart by the tokens where
 * they part: what all of them have in common, and what follows when only one is left,
 * is not asked for, so that labels with different first tokens are one pass. */
struct choice {
    struct prompt *v;               /* [labels] */
    double *score, *prior;          /* [labels] sums of log p; of a text without content */
    int32_t *member, *next;         /* [labels] of a group */
    double *logp;
};

static void choice_free(struct choice *c, int32_t n, struct mem *mem)
{
    for (int32_t i = 0; c->v && i < n; i++) prompt_free(&c->v[i]);
    void *all[] = { c->v, c->score, c->prior, c->member, c->next, c->logp };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) mem_free(mem, all[i]);
}

static int choice_new(struct choice *c, int32_t n, struct mem *mem)
{
    c->v = mem_array(mem, n, sizeof(*c->v));
    c->score = mem_array(mem, n, sizeof(*c->score));
    c->prior = mem_array(mem, n, sizeof(*c->prior));
    c->member = mem_array(mem, n, sizeof(*c->member));
    c->next = mem_array(mem, n, sizeof(*c->next));
    c->logp = mem_array(mem, n, sizeof(*c->logp));
    for (int32_t i = 0; c->v && i < n; i++) prompt_init(&c->v[i], mem);
    return c->v && c->score && c->prior && c->member && c->next && c->logp ? PEFT_OK : PEFT_ENOMEM;
}

/* The same examples before each label, as many as the longest has room for. */
static int make_prompts(struct peft_board *j, const peft_model *m, const struct ask *a,
                        int32_t shots, int64_t room, struct choice *c)
{
    int rc = PEFT_OK;
    for (int32_t i = 0; i < j->n_labels && !rc; i++) {
        rc = prompt_make(j, m, a, shots, j->labels[i], room, &c->v[i]);
        if (!rc && c->v[i].ids.n > room)
            rc = fail(PEFT_EDATA, "%s line %lld: %lld tokens, the model has room for %lld", j->path,
                      (long long)a->line, (long long)c->v[i].ids.n, (long long)room);
        if (!rc && i && c->v[i].shots < c->v[0].shots) {
            shots = c->v[i].shots;
            i = -1;                 /* begin anew with fewer */
        }
    }
    return rc;
}

/* Labels that have their first d tokens in common with label i; 0 when a smaller one has
 * them too, which has asked for the group. */
static int32_t group_of(const struct choice *c, int32_t n, int32_t i, int64_t d)
{
    const struct ids *own = &c->v[i].ids;
    int32_t found = 0;
    for (int32_t k = 0; k < n; k++) {
        const struct ids *x = &c->v[k].ids;
        if (x->n <= d || memcmp(x->v, own->v, (size_t)d * sizeof(*own->v)) != 0) continue;
        if (k < i) return 0;
        c->member[found++] = k;
    }
    return found;
}

/* Tokens that all labels begin with, the prompt and more. */
static int64_t common_tokens(const struct choice *c, int32_t n)
{
    const struct ids *a = &c->v[0].ids;
    int64_t d = a->n - 1;
    for (int32_t k = 1; k < n; k++) {
        const struct ids *b = &c->v[k].ids;
        int64_t same = 0;
        while (same < MIN(d, b->n - 1) && a->v[same] == b->v[same]) same++;
        d = same;
    }
    return MAX(d, 1);
}

static int score_labels(struct peft_board *j, struct system *s, peft_model *m, struct choice *c)
{
    int32_t n = j->n_labels;
    int64_t from = common_tokens(c, n);
    memset(c->score, 0, (size_t)n * sizeof(*c->score));
    for (int32_t i = 0; i < n; i++)
        for (int64_t d = from; d < c->v[i].ids.n; d++) {
            int32_t group = group_of(c, n, i, d), parts = 0;
            if (group == 1) break;
            for (int32_t k = 0; k < group; k++) {
                c->next[k] = c->v[c->member[k]].ids.v[d];
                parts |= c->next[k] != c->next[0];
            }
            if (!parts) continue;
            int32_t rc = peft_logprob_next(m, c->v[i].ids.v, (int32_t)d, c->next, group, c->logp);
            if (rc) return kit_failed(rc);
            s->told.prompt_tokens += d;
            for (int32_t k = 0; k < group; k++) c->score[c->member[k]] += c->logp[k];
        }
    return PEFT_OK;
}

/* What a model says whatever the text is no answer: each label's likelihood is divided by
 * that for a text without content (contextual calibration, Zhao et al. 2021). */
static int score_nothing(struct peft_board *j, struct system *s, peft_model *m, int64_t room,
                         struct choice *c)
{
    const peft_message nothing = { "user", "N/A" };
    const struct ask a = { 0, ASK_CLASS, &nothing, 1, "" };
    int rc = make_prompts(j, m, &a, s->told.shots, room, c);
    if (!rc) rc = score_labels(j, s, m, c);
    if (!rc) memcpy(c->prior, c->score, (size_t)j->n_labels * sizeof(*c->prior));
    return rc;
}

int guess_by_likelihood(struct peft_board *j, struct system *s, peft_model *m)
{
    struct mem *mem = &j->host.mem;
    peft_info info = { .size = sizeof(info) };
    struct choice c = { .score = NULL };
    int rc = peft_model_info(m, &info);
    if (rc) return kit_failed(rc);
    rc = find_labels(j);
    int32_t labels = j->n_labels;
    if (!rc) rc = choice_new(&c, labels, mem);
    if (!rc) rc = score_nothing(j, s, m, info.max_len, &c);
    for (int64_t i = 0; i < j->rows.n && !rc; i++) {
        const struct ask *a = &j->rows.v[i];
        if (a->kind == ASK_CLASS) {
            rc = make_prompts(j, m, a, s->told.shots, info.max_len, &c);
            if (!rc) rc = score_labels(j, s, m, &c);
            for (int32_t k = 0; k < labels; k++) c.score[k] -= c.prior[k];
            if (!rc) rc = note_guess(j, s, a->line, board_label(j, a->answer), c.score);
        }
        if (!rc) rc = board_progress(j, "asking for labels", i + 1, j->rows.n);
    }
    choice_free(&c, labels, mem);
    s->known = 1u << KNOWN_CLASS;
    snprintf(s->told.how, sizeof(s->told.how), "asked for the label, by the likelihood of each%s",
             s->told.shots ? ", with examples" : "");
    return rc;
}

/* -------------------------------------------------------- the nearest examples */

static int embed(peft_model *m, const struct ask *a, float *to)
{
    const char *text = a->messages[a->n - 1].content;
    peft_embed_opts o = { .size = sizeof(o), .normalize = 1 };
    int32_t rc = peft_embed_text(m, &text, 1, &o, to);
    return rc ? kit_failed(rc) : PEFT_OK;
}

static double dot_of(const float *a, const float *b, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* means [labels, dim]: of up to `shots` examples of each label, of length 1. */
static int mean_examples(struct peft_board *j, struct system *s, peft_model *m, int32_t dim,
                         float *means, float *x)
{
    int rc = PEFT_OK;
    for (int32_t label = 0; label < j->n_labels && !rc; label++) {
        float *mean = means + (int64_t)label * dim;
        int32_t n = 0;
        for (int64_t i = 0; i < j->shots.n && n < s->told.shots && !rc; i++) {
            const struct ask *a = &j->shots.v[i];
            if (a->kind != ASK_CLASS || strcmp(a->answer, j->labels[label]) != 0) continue;
            rc = embed(m, a, x);
            for (int32_t k = 0; k < dim; k++) mean[k] += x[k];
            n++;
        }
        double length = sqrt(dot_of(mean, mean, dim));
        for (int32_t k = 0; k < dim && length > 0; k++) mean[k] = (float)((double)mean[k] / length);
    }
    return rc;
}

int guess_by_nearest(struct peft_board *j, struct system *s, peft_model *m)
{
    enum { SCALE = 20 };            /* of cosines, before the softmax */
    struct mem *mem = &j->host.mem;
    peft_info info = { .size = sizeof(info) };
    if (!s->told.shots)
        return fail(PEFT_EUNSUPPORTED, "the model has no head for classes, and there are no "
                    "examples whose embeddings could stand for them");
    int rc = peft_model_info(m, &info);
    rc = rc ? kit_failed(rc) : find_labels(j);
    if (rc) return rc;
    int32_t dim = info.embed_dim ? info.embed_dim : info.dim;
    float *means = mem_array(mem, (int64_t)j->n_labels + 1, dim * (int64_t)sizeof(*means));
    double *score = mem_array(mem, j->n_labels, sizeof(*score));
    if (!means || !score) rc = PEFT_ENOMEM;
    float *x = rc ? NULL : means + (int64_t)j->n_labels * dim;
    if (!rc) rc = mean_examples(j, s, m, dim, means, x);
    for (int64_t i = 0; i < j->rows.n && !rc; i++) {
        const struct ask *a = &j->rows.v[i];
        if (a->kind != ASK_CLASS) continue;
        rc = embed(m, a, x);
        for (int32_t k = 0; k < j->n_labels; k++)
            score[k] = SCALE * dot_of(x, means + (int64_t)k * dim, dim);
        if (!rc) rc = note_guess(j, s, a->line, board_label(j, a->answer), score);
        if (!rc) rc = board_progress(j, "embedding", i + 1, j->rows.n);
    }
    mem_free(mem, means);
    mem_free(mem, score);
    s->known = 1u << KNOWN_CLASS;
    snprintf(s->told.how, sizeof(s->told.how), "the label with the nearest mean embedding of %d "
             "examples", s->told.shots);
    return rc;
}

/* ----------------------------------------------------------- no model at all */

/* Where the true classes are known from: a system that was measured. */
static const struct system *classes_known(const struct peft_board *j)
{
    for (int32_t i = 0; i < j->n; i++)
        if (j->systems[i]->known & 1u << KNOWN_CLASS) return j->systems[i];
    return NULL;
}

int guess_majority(struct peft_board *j, struct system *s)
{
    const struct system *known = classes_known(j);
    int rc = !known || j->shots_path ? find_labels(j) : PEFT_OK;
    const struct asks *from = j->shots_path ? &j->shots : &j->rows;
    double *score = rc ? NULL : mem_array(&j->host.mem, j->n_labels, sizeof(*score));
    if (!rc && !score) rc = PEFT_ENOMEM;
    if (rc) return rc;
    for (int64_t i = 0; (!known || j->shots_path) && i < from->n; i++)
        if (from->v[i].kind == ASK_CLASS) score[board_label(j, from->v[i].answer)]++;
    for (int64_t i = 0; known && !j->shots_path && i < known->n; i++)
        score[known->rows[i].label]++;
    for (int32_t i = 0; i < j->n_labels; i++) score[i] = log(score[i] + 1);
    for (int64_t i = 0; known && i < known->n && !rc; i++)
        rc = note_guess(j, s, known->rows[i].line, known->rows[i].label, score);
    for (int64_t i = 0; !known && i < j->rows.n && !rc; i++) {
        const struct ask *a = &j->rows.v[i];
        if (a->kind == ASK_CLASS)
            rc = note_guess(j, s, a->line, board_label(j, a->answer), score);
    }
    mem_free(&j->host.mem, score);
    s->known = 1u << KNOWN_CLASS;
    snprintf(s->told.how, sizeof(s->told.how), "the most frequent label, whatever the text");
    return rc;
}
