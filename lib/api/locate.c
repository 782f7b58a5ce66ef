/* peft_tag_text and peft_answer: heads that say where in a text something
 * stands.  The rules are those of the pipelines of transformers. */
#include "api/infer.h"

#include <math.h>

static struct tensor *token_outputs(struct pass *p, struct tensor *hidden, void *arg)
{
    (void)arg;
    return model_classify(p, hidden);
}

/* What comes before and behind the text, with n of its tokens from `from` on. */
static void window_of(const struct ids *all, int64_t before, int64_t after, int64_t from,
                      int64_t n, struct ids *w)
{
    w->n = 0;
    for (int64_t i = 0; i < before; i++) ids_push(w, all->v[i]);
    for (int64_t i = 0; i < n; i++) ids_push(w, all->v[before + from + i]);
    for (int64_t i = 0; i < after; i++) ids_push(w, all->v[all->n - after + i]);
}

/* --- tags */

enum aggregate { AS_TOKENS, AS_GROUPS, AS_FIRST, AS_MEAN, AS_MAX };

/* A text's tokens between what the tokenizer puts before and behind them. */
struct located {
    struct model *m;
    struct ids ids;
    struct token_spans at;
    int32_t before, after, n;       /* n: between */
    float *score;                   /* [n, labels] probabilities */
};
struct piece { int32_t label, begin, end; float score; };

static int locate(struct located *l, const char *text, int64_t n)
{
    int rc = tok_encode_spans(&l->m->host, l->m->tok, text, n, TOK_SPECIAL, &l->ids, &l->at);
    if (rc) return rc;
    int64_t from = 0, to = l->ids.n;
    while (from < to && l->at.part.v[from] < 0) from++;
    while (to > from && l->at.part.v[to - 1] < 0) to--;
    l->before = (int32_t)from;
    l->after = (int32_t)(l->ids.n - to);
    l->n = (int32_t)(to - from);
    return PEFT_OK;
}

/* Probabilities of all tokens, from windows a quarter of which is shared: of two
 * windows the one counts that reaches farther around the token. */
static int score_tokens(struct located *l, int32_t max_len)
{
    int64_t labels = l->m->hp.labels, room = max_len - l->before - l->after, shared = room / 4;
    const struct tensor *z = NULL;
    struct seqs t;
    if (room < 1) return fail(PEFT_EARG, "a window of %d tokens leaves no room", max_len);
    if (!(l->score = mem_array(&l->m->host.mem, l->n * labels, 4))) return PEFT_ENOMEM;
    struct ids w;
    seqs_init(&t, l->m);
    ids_init(&w, &l->m->host.mem);
    int rc = PEFT_OK;
    for (int64_t from = 0; from < l->n && !rc; from += room - shared) {
        int64_t n = MIN(room, l->n - from), skip = from ? shared / 2 : 0;
        window_of(&l->ids, l->before, l->after, from, n, &w);
        seqs_clear(&t);
        rc = ids_check(&w);
        if (!rc) rc = seqs_add(&t, w.v, w.n, 0);
        if (!rc) rc = seqs_run(&t, l->m, token_outputs, NULL, &z);
        if (rc) break;
        memcpy(l->score + (from + skip) * labels, tensor_f32(z) + (l->before + skip) * labels,
               (size_t)((n - skip) * labels) * sizeof(float));
        if (from + n == l->n) break;
    }
    ids_free(&w);
    seqs_free(&t);
    if (!rc) l->m->compute.k->softmax(l->score, l->n, labels, labels);
    return rc;
}

static int32_t best_class(const float *z, int64_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (z[i] > z[best]) best = i;
    return best;
}

/* Tokens [from, to) are one word: its label by the pieces' scores. */
static struct piece word_of(const struct located *l, int32_t from, int32_t to, enum aggregate how)
{
    int64_t labels = l->m->hp.labels;
    float *first = l->score + from * labels;
    const float *from_row = first;
    for (int32_t i = from + 1; i < to; i++) {
        const float *row = l->score + i * labels;
        if (how == AS_MEAN) for (int64_t k = 0; k < labels; k++) first[k] += row[k];
        if (how == AS_MAX && row[best_class(row, labels)] > from_row[best_class(from_row, labels)])
            from_row = row;
    }
    int32_t best = best_class(from_row, labels);
    float score = from_row[best] / (how == AS_MEAN ? (float)(to - from) : 1.0f);
    return (struct piece){ best, l->at.begin.v[l->before + from],
                          l->at.end.v[l->before + to - 1], score };
}

/* A piece goes on a word when the tokenizer says so, or when it does not tell
 * and nothing parts the piece from the one before. */
static int goes_on(const struct located *l, const char *text, int32_t i)
{
    int told = tok_goes_on(l->m->tok, l->ids.v[l->before + i]);
    if (told >= 0) return told;
    int32_t begin = l->at.begin.v[l->before + i], end = l->at.end.v[l->before + i - 1];
    static const char blank[] = " \t\r\n";
    return begin == end && end > 0 && !strchr(blank, text[begin]) && !strchr(blank, text[end - 1]);
}

static const char *label_type(const char *label, int *begins)
{
    int marked = (label[0] == 'B' || label[0] == 'I') && label[1] == '-';
    *begins = marked && label[0] == 'B';
    return marked ? label + 2 : label;
}

struct tag_list { peft_tag *tag; int64_t n, cap; int all; peft_tag now; int32_t parts; };

static void end_tag(struct tag_list *t)
{
    if (!t->parts) return;
    t->now.score /= (float)t->parts;
    if (t->all || strcmp(t->now.label, "O")) {
        if (t->n < t->cap) t->tag[t->n] = t->now;
        t->n++;
    }
    t->parts = 0;
}

static void take_piece(struct tag_list *t, const struct model *m, const struct piece *p, int group)
{
    int begins = 0;
    const char *name = m->labels[p->label], *label = group ? label_type(name, &begins) : name;
    if (t->parts && group && !begins && !strcmp(t->now.label, label)) {
        t->now.end = p->end;
        t->now.score += p->score;
        t->parts++;
        return;
    }
    end_tag(t);
    t->now = (peft_tag){ label, p->begin, p->end, p->score };
    t->parts = 1;
}

static int aggregate_by_name(const char *name)
{
    static const char *const names[] = { "none", "simple", "first", "average", "max" };
    if (!name) return AS_GROUPS;
    for (int i = 0; i < (int)ARRAY_LEN(names); i++)
        if (!strcmp(name, names[i])) return i;
    return fail(PEFT_EARG, "aggregate \"%.40s\", expected none, simple, first, average or max",
                name);
}

int64_t peft_tag_text(peft_model *model, const char *text, size_t n, const peft_tag_opts *opts,
                      peft_tag *found, int64_t cap)
{
    peft_tag_opts o;
    ARG(model && (text || !n) && (found || cap <= 0), "no model, text or room for tags given");
    ARG(n <= INT32_MAX, "a text of %zu bytes, expected at most 2 GB", n);
    struct model *m = model_of(model);
    int rc = take_options(&o, sizeof(o), opts), how;
    if (!rc) rc = need_tokenizer(m);
    if (!rc && (how = aggregate_by_name(o.aggregate)) < 0) rc = how;
    if (!rc && !o.max_len) o.max_len = (int32_t)MIN(512, model_longest(m));
    if (!rc) rc = check_max_len(m, &o.max_len);
    if (rc) return rc;
    if (m->kind != HEAD_TOKENS)
        return fail(PEFT_ESTATE, "the model's head is of the kind \"%s\", expected \"tokens\"",
                    head_kinds[m->kind].name);
    struct located l = { .m = m };
    struct tag_list t = { .tag = found, .cap = cap, .all = o.all };
    ids_init(&l.ids, &m->host.mem);
    token_spans_init(&l.at, &m->host.mem);
    rc = locate(&l, text, (int64_t)n);
    if (!rc) rc = score_tokens(&l, o.max_len);
    how = aggregate_by_name(o.aggregate);
    for (int32_t i = 0, k; i < l.n && !rc; i = k) {
        for (k = i + 1; k < l.n && how >= AS_FIRST && goes_on(&l, text, k);) k++;
        struct piece p = word_of(&l, i, k, (enum aggregate)how);
        take_piece(&t, m, &p, how != AS_TOKENS);
    }
    end_tag(&t);
    mem_free(&m->host.mem, l.score);
    token_spans_free(&l.at);
    ids_free(&l.ids);
    return rc ? rc : t.n;
}

/* --- answers */

struct asked {
    struct model *m;
    const peft_answer_opts *o;
    struct ids ids, types;
    struct token_spans at;
    int32_t before, after, n, second;
    struct span_score *best;        /* of one window, [n_best] */
    peft_answer_span *out;          /* best first */
    int32_t used, cap;
    float none;                     /* least probability of "none" of a window */
};

static void keep_answer(struct asked *a, peft_answer_span s)
{
    int32_t at = 0;
    while (at < a->used && (a->out[at].begin != s.begin || a->out[at].end != s.end)) at++;
    if (at < a->used) {             /* another window has it too */
        if (a->out[at].score >= s.score) return;
    } else if (a->used < a->cap) {
        a->used++;
    } else if (a->out[--at].score >= s.score) {
        return;
    }
    for (; at > 0 && a->out[at - 1].score < s.score; at--) a->out[at] = a->out[at - 1];
    a->out[at] = s;
}

/* log of the sum of exp over the rows that may be an end: the first token, which
 * stands for "none", and the context. */
static double log_total(const float *z, int64_t from, int64_t to)
{
    double top = (double)z[0], sum = 0;
    for (int64_t i = from; i < to; i++) top = MAX(top, (double)z[2 * i]);
    for (int64_t i = from; i < to; i++) sum += exp((double)z[2 * i] - top);
    if (from > 0) sum += exp((double)z[0] - top);
    return log(sum) + top;
}

static int ask_window(struct asked *a, struct seqs *t, int32_t from, int32_t n)
{
    const struct tensor *out = NULL;
    seqs_clear(t);
    struct ids *w = &a->types;      /* the window's ids; the types are known by now */
    window_of(&a->ids, a->before, a->after, from, n, w);
    int rc = ids_check(w);
    if (!rc) rc = seqs_add(t, w->v, w->n, a->second);
    if (!rc) rc = seqs_run(t, a->m, token_outputs, NULL, &out);
    if (rc) return rc;
    const float *z = tensor_f32(out);
    double lse = log_total(z, a->before, a->before + n) +
                 log_total(z + 1, a->before, a->before + n);
    int32_t k = spans_best(z, a->before, a->before + n, a->o->max_answer, a->best, a->o->n_best);
    a->none = fminf(a->none, (float)exp((double)z[0] + (double)z[1] - lse));
    for (int32_t i = 0; i < k; i++)
        keep_answer(a, (peft_answer_span){
            a->at.begin.v[from + a->best[i].begin], a->at.end.v[from + a->best[i].end],
            (float)exp((double)a->best[i].score - lse) });
    return PEFT_OK;
}

static int ask(struct asked *a, const char *question, const char *context)
{
    struct seqs t;
    struct model *m = a->m;
    int rc = tok_encode_pair_spans(&m->host, m->tok, question, (int64_t)strlen(question), context,
                                   (int64_t)strlen(context), &a->ids, &a->types, &a->at);
    if (rc) return rc;
    int64_t from = 0, to;
    while (from < a->ids.n && a->at.part.v[from] != 1) from++;
    for (to = from; to < a->ids.n && a->at.part.v[to] == 1;) to++;
    while (a->second < a->types.n && !a->types.v[a->second]) a->second++;
    a->before = (int32_t)from;
    a->after = (int32_t)(a->ids.n - to);
    a->n = (int32_t)(to - from);
    int32_t room = a->o->max_len - a->before - a->after, shared = MIN(a->o->stride, room / 2);
    if (room < 1)
        return fail(PEFT_EARG, "the question's %d tokens leave no room for the context in %d",
                    a->before + a->after, a->o->max_len);
    seqs_init(&t, m);
    for (int32_t at = 0; at < a->n && !rc; at += room - shared) {
        rc = ask_window(a, &t, at, MIN(room, a->n - at));
        if (at + room >= a->n) break;
    }
    seqs_free(&t);
    return rc;
}

int32_t peft_answer(peft_model *model, const char *question, const char *context,
                    const peft_answer_opts *opts, peft_answer_span *answers, int32_t cap)
{
    peft_answer_opts o;
    ARG(model && question && context && answers && cap > 0,
        "no model, question, context or room for answers given");
    struct model *m = model_of(model);
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc) rc = need_tokenizer(m);
    if (!rc && !o.max_len) o.max_len = (int32_t)MIN(384, model_longest(m));
    if (!rc) rc = check_max_len(m, &o.max_len);
    if (rc) return rc;
    if (m->kind != HEAD_SPAN)
        return fail(PEFT_ESTATE, "the model's head is of the kind \"%s\", expected "
                    "\"question-answering\"", head_kinds[m->kind].name);
    if (o.n_best < 0 || o.n_best > 1 << 16 || o.max_answer < 0 || o.stride < 0)
        return fail(PEFT_EARG, "n_best %d, max_answer %d, stride %d, expected 1 or more", o.n_best,
                    o.max_answer, o.stride);
    if (!o.n_best) o.n_best = 1;
    if (!o.max_answer) o.max_answer = 15;
    if (!o.stride) o.stride = 128;
    struct asked a = { .m = m, .o = &o, .out = answers, .cap = MIN(cap, o.n_best), .none = 1 };
    ids_init(&a.ids, &m->host.mem);
    ids_init(&a.types, &m->host.mem);
    token_spans_init(&a.at, &m->host.mem);
    a.best = mem_array(&m->host.mem, o.n_best, sizeof(*a.best));
    rc = a.best ? ask(&a, question, context) : PEFT_ENOMEM;
    if (!rc && o.no_answer) keep_answer(&a, (peft_answer_span){ 0, 0, a.none });
    mem_free(&m->host.mem, a.best);
    token_spans_free(&a.at);
    ids_free(&a.ids);
    ids_free(&a.types);
    return rc ? rc : a.used;
}
