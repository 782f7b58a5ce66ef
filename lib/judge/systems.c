/* Systems side by side: peft_board_new, peft_board_run, and what can be asked of them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "judge/board.h"

/* ---------------------------------------------------------------- the board */

int32_t board_label(struct peft_board *j, const char *name)
{
    int64_t at = map_gets(&j->label_index, name, -1);
    if (at >= 0) return (int32_t)at;
    if (j->n_labels == j->labels_cap) {
        int32_t cap = MAX(2 * j->labels_cap, 16);
        const char **now = mem_realloc(&j->host.mem, j->labels, cap * (int64_t)sizeof(*now));
        if (!now) return PEFT_ENOMEM;
        j->labels = now;
        j->labels_cap = cap;
    }
    char *kept = arena_strndup(&j->arena, name, (int64_t)strlen(name));
    if (!kept || map_add(&j->label_index, kept, (int64_t)strlen(kept), j->n_labels) < 0)
        return PEFT_ENOMEM;
    j->labels[j->n_labels] = kept;
    return j->n_labels++;
}

int board_progress(const struct peft_board *j, const char *doing, int64_t done, int64_t rows)
{
    if (!j->o.progress || !j->o.progress(j->o.ctx, doing, done, rows)) return PEFT_OK;
    return fail(PEFT_ECANCELLED, "cancelled by the host");
}

int board_rows(struct peft_board *j)
{
    if (j->has_rows) return PEFT_OK;
    int rc = asks_read(&j->host, j->path, &j->data, &j->rows);
    j->has_rows = !rc;
    return rc;
}

/* The examples in the order of a draw by the seed. */
int board_shots(struct peft_board *j)
{
    if (j->has_shots) return PEFT_OK;
    if (!j->shots_path)
        return fail(PEFT_EARG, "no file of examples given for few-shot prompts");
    peft_dataset_opts all = j->data;
    all.limit = 0;
    int rc = asks_read(&j->host, j->shots_path, &all, &j->shots);
    int32_t *order = rc ? NULL : mem_array(&j->host.mem, j->shots.n, sizeof(*order));
    struct ask *drawn = rc ? NULL : mem_array(&j->host.mem, j->shots.n, sizeof(*drawn));
    if (!rc && (!order || !drawn)) rc = PEFT_ENOMEM;
    for (int64_t i = 0; i < j->shots.n && !rc; i++) order[i] = (int32_t)i;
    if (!rc) rng_shuffle(order, j->shots.n, j->o.seed, rng_stream(RNG_BOOTSTRAP, 2));
    for (int64_t i = 0; i < j->shots.n && !rc; i++) drawn[i] = j->shots.v[order[i]];
    if (!rc) memcpy(j->shots.v, drawn, (size_t)j->shots.n * sizeof(*drawn));
    mem_free(&j->host.mem, order);
    mem_free(&j->host.mem, drawn);
    j->has_shots = !rc;
    return rc;
}

struct found *system_row(struct peft_board *j, struct system *s, int64_t line)
{
    int64_t from = 0, to = s->n;
    if (s->n && s->rows[s->n - 1].line < line) from = s->n;     /* as it usually is */
    while (from < to) {
        int64_t middle = (from + to) / 2;
        if (s->rows[middle].line < line) from = middle + 1;
        else to = middle;
    }
    if (from < s->n && s->rows[from].line == line) return &s->rows[from];
    if (s->n == s->cap) {
        int64_t cap = MAX(2 * s->cap, 256), bytes;
        struct found *now = mul_ok(cap, (int64_t)sizeof(*now), &bytes)
                                ? mem_realloc(&j->host.mem, s->rows, bytes) : NULL;
        if (!now) return NULL;
        s->rows = now;
        s->cap = cap;
    }
    memmove(s->rows + from + 1, s->rows + from, (size_t)(s->n++ - from) * sizeof(*s->rows));
    s->rows[from] = (struct found){ .line = line, .label = -1, .said = -1 };
    return &s->rows[from];
}

static void system_free(struct peft_board *j, struct system *s)
{
    if (!s) return;
    arena_free(&s->arena);
    mem_free(&j->host.mem, s->rows);
    mem_free(&j->host.mem, s->name);
    mem_free(&j->host.mem, s);
}

/* ------------------------------------------------------------------- public */

int32_t peft_board_new(const char *path, const peft_board_opts *opts, peft_board **out)
{
    peft_board_opts o;
    KIT_ARG(path && *path && out, "no file of rows, or no place for the board given");
    *out = NULL;
    int rc = take_options(&o, sizeof(o), opts);
    struct draws d = { o.samples, o.level, o.seed };
    if (!rc) rc = draws_check(&d);
    if (rc) return kit_end(rc);
    KIT_ARG(o.max_tokens >= 0 && o.batch >= 0, "max_tokens %d, batch %d: expected 0 or more",
            o.max_tokens, o.batch);
    struct host host;
    if ((rc = host_init(&host, NULL)) != PEFT_OK) return kit_end(rc);
    struct peft_board *j = mem_zalloc(&host.mem, sizeof(*j));
    if (!j) return kit_end(PEFT_ENOMEM);
    host_init(&j->host, NULL);
    j->o = o;
    j->draws = d;
    struct mem *mem = &j->host.mem;
    map_init(&j->label_index, mem);
    arena_init(&j->arena, mem);
    rc = take_options(&j->data, sizeof(j->data), o.data);
    if (!rc && !(j->path = mem_strdup(mem, path))) rc = PEFT_ENOMEM;
    if (!rc && o.shots && !(j->shots_path = mem_strdup(mem, o.shots))) rc = PEFT_ENOMEM;
    if (!rc && o.question && !(j->question = mem_strdup(mem, o.question))) rc = PEFT_ENOMEM;
    if (rc) peft_board_free(j);
    else *out = j;
    return kit_end(rc);
}

void peft_board_free(peft_board *j)
{
    if (!j) return;
    for (int32_t i = 0; i < j->n; i++) system_free(j, j->systems[i]);
    struct mem *mem = &j->host.mem;
    asks_free(&j->rows, mem);
    asks_free(&j->shots, mem);
    map_free(&j->label_index);
    arena_free(&j->arena);
    void *all[] = { j->path, j->shots_path, j->question, j->labels, j->systems };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) mem_free(mem, all[i]);
    struct host host = j->host;
    mem_free(&host.mem, j);
}

/* Which way a model answers the rows. */
static int measure(struct peft_board *j, struct system *s, peft_model *m, const peft_dataset *d)
{
    peft_info info = { .size = sizeof(info) };
    peft_dataset_stats stats = { .size = sizeof(stats) };
    int32_t shots = s->told.shots, rc = peft_model_info(m, &info);
    if (!rc) rc = peft_dataset_info(d, &stats);
    if (rc) return kit_failed(rc);
    if (!info.labels && !strcmp(stats.head, "classification"))
        return info.causal ? guess_by_likelihood(j, s, m) : guess_by_nearest(j, s, m);
    if (shots && (info.labels || !info.causal || info.encoder_layers))
        return fail(PEFT_EUNSUPPORTED, "examples go before prompts of a language model%s",
                    info.labels ? ", and this model has a head" : "");
    if (shots) return prompt_rows(j, s, m, d);
    rc = measure_rows(j, s, m, d);
    return rc || !j->o.generate || info.labels ? rc : answer_rows(j, s, m, d);
}

static int run_model(struct peft_board *j, struct system *s, peft_model *m)
{
    peft_dataset *d = NULL;
    int32_t rc = peft_dataset_load(m, j->path, &j->data, &d);
    rc = rc ? kit_failed(rc) : measure(j, s, m, d);
    peft_dataset_free(d);
    return rc;
}

static int add_system(struct peft_board *j, const char *name, int32_t shots, struct system **out)
{
    struct mem *mem = &j->host.mem;
    if (j->n == j->cap) {
        int32_t cap = MAX(2 * j->cap, 8);
        struct system **now = mem_realloc(mem, j->systems, cap * (int64_t)sizeof(*now));
        if (!now) return PEFT_ENOMEM;
        j->systems = now;
        j->cap = cap;
    }
    struct system *s = mem_zalloc(mem, sizeof(*s));
    if (!s) return PEFT_ENOMEM;
    arena_init(&s->arena, mem);
    *out = s;
    if (!(s->name = mem_strdup(mem, name))) return PEFT_ENOMEM;
    s->told = (peft_judged){ .size = sizeof(s->told), .name = s->name, .shots = shots };
    return PEFT_OK;
}

int32_t peft_board_run(peft_board *j, peft_model *model, const char *name, int32_t shots,
                       peft_judged *out)
{
    struct system *s = NULL;
    double begin = os_seconds();
    KIT_ARG(j && name && *name, "no board, or no name of the system given");
    KIT_ARG(shots >= 0, "%d examples, expected 0 or more", shots);
    for (int32_t i = 0; i < j->n; i++)
        KIT_ARG(strcmp(j->systems[i]->name, name), "two systems are called \"%s\"", name);
    int rc = out ? check_result(out) : PEFT_OK;
    if (!rc && shots) rc = board_shots(j);
    if (!rc) rc = add_system(j, name, shots, &s);
    if (!rc) rc = model ? run_model(j, s, model) : guess_majority(j, s);
    if (!rc && !s->n) rc = fail(PEFT_EDATA, "%s has no rows to measure", j->path);
    if (rc) {
        system_free(j, s);
        return kit_end(rc);
    }
    s->told.rows = s->n;
    s->told.seconds = os_seconds() - begin;
    for (int64_t i = 0; i < s->n; i++)
        s->told.labels |= s->rows[i].label >= 0;
    s->told.labels *= j->n_labels;
    j->systems[j->n] = s;
    if (out) {
        peft_judged told = s->told;
        give_result(out, &told, sizeof(told));
    }
    return j->n++;
}

const char *peft_board_label(const peft_board *j, int32_t i)
{
    return j && i >= 0 && i < j->n_labels ? j->labels[i] : NULL;
}

int32_t peft_board_confusion(const peft_board *j, int32_t system, int64_t *counts)
{
    KIT_SYSTEM(j, system);
    const struct system *s = j->systems[system];
    int64_t n = j->n_labels;
    if (!s->told.labels)
        return kit_end(fail(PEFT_ESTATE, "%s tells no classes apart", s->name));
    if (counts) memset(counts, 0, (size_t)(n * n) * sizeof(*counts));
    for (int64_t i = 0; i < s->n && counts; i++)
        counts[s->rows[i].label * n + s->rows[i].said]++;
    return (int32_t)n;
}

int32_t peft_board_row(peft_board *j, int32_t system, int64_t i, peft_prediction *out)
{
    KIT_SYSTEM(j, system);
    int rc = check_result(out);
    const struct system *s = j->systems[system];
    if (rc || i < 0 || i >= s->n) return rc ? kit_end(rc) : PEFT_EEND;
    const struct found *f = &s->rows[i];
    peft_prediction p = { .line = f->line, .loss = f->loss, .terms = f->terms,
                          .wanted = f->label < 0 ? f->reference : j->labels[f->label],
                          .said = f->label < 0 ? f->text : j->labels[f->said],
                          .confidence = f->confidence, .exact = f->exact, .f1 = f->f1 };
    give_result(out, &p, sizeof(p));
    return PEFT_OK;
}
