/* What peft train does with what is found in a run: findings told and logged, the best
 * evaluation's weights kept in --out/best-N, the run ended by --patience or --stop-on. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train.h"

static const char *const kinds[] = {"diverged", "dead", "overfitting", "spike", "chance", "worse",
                                    "nonfinite", "any"};

/* Whether a list of kinds, parted by commas, has this one. */
static bool has_kind(const char *list, const char *kind)
{
    for (const char *p = list; p && *p; p += strcspn(p, ","), p += *p == ',') {
        size_t n = strcspn(p, ",");
        if ((n == strlen(kind) && !strncmp(p, kind, n)) || (n == 3 && !strncmp(p, "any", 3)))
            return true;
    }
    return false;
}

static int check_kinds(const char *list)
{
    const int n_kinds = sizeof kinds / sizeof *kinds;
    for (const char *p = list; p && *p; p += strcspn(p, ","), p += *p == ',') {
        char *word = format("%.*s", (int)strcspn(p, ","), p);
        int i = 0;
        while (i < n_kinds && strcmp(word, kinds[i]))
            i++;
        const char *hint = i < n_kinds ? NULL : nearest(word, kinds, n_kinds);
        int rc = i < n_kinds ? 0 :
                 usage_error("--stop-on is \"%s\", expected diverged, dead, overfitting, spike, "
                             "chance, worse or any%s%s", word, hint ? "; did you mean " : "",
                             hint ? hint : "");
        free(word);
        if (rc)
            return rc;
    }
    return 0;
}

int watch_begin(struct run *run, int64_t resumed)
{
    const struct args *a = run->args;
    bool best = !a->keep || !strcmp(a->keep, "best");
    if (a->keep && !best && strcmp(a->keep, "last"))
        return usage_error("--keep is \"%s\", expected best or last", a->keep);
    if (!run->eval && (a->patience || a->metric || (a->keep && best)))
        return usage_error("%s needs --eval", a->patience ? "--patience" : a->metric ?
                           "--metric" : "--keep best");
    int rc = check_kinds(a->stop_on);
    if (rc)
        return rc;
    run->keep_best = run->eval && best;
    peft_watch_opts opts = {.size = sizeof opts, .model = run->model, .metric = a->metric,
                            .patience = a->patience, .resumed = resumed};
    if ((rc = peft_watch_new(&opts, &run->watch)) != 0)
        return library_error(rc, "cannot watch the run");
    return 0;
}

peft_watched watch_state(const struct run *run)
{
    peft_watched w = {.size = sizeof w};
    peft_watch_info(run->watch, &w);
    return w;
}

/* ---------------------------------------------------------------- findings */

static void write_notice(FILE *to, const peft_notice *n)
{
    struct json j;
    json_begin(&j, to);
    json_open(&j, NULL, '{');
    json_int(&j, "step", n->step);
    json_text(&j, "finding", n->kind);
    json_int(&j, "since", n->since);
    json_text(&j, "what", n->what);
    json_text(&j, "advice", n->advice);
    json_close(&j);
    fflush(to);
}

/* Says what is new. */
void watch_tell(struct run *run)
{
    peft_notice n = {.size = sizeof n};
    for (; !peft_watch_notice(run->watch, run->told, &n); run->told++) {
        write_notice(run->metrics, &n);
        if (run->args->json)
            write_notice(stdout, &n);
        progress_end();
        note("%sstep %lld, %s:%s %s\n  try %s", paint(stderr, YELLOW), (long long)n.step, n.kind,
             paint(stderr, PLAIN), n.what, n.advice);
        if (!run->ended && has_kind(run->args->stop_on, n.kind)) {
            run->ended = n.kind;
            run->broken = !strcmp(n.kind, "diverged") || !strcmp(n.kind, "dead");
        }
    }
}

/* A step that is not finite was undone: the run is over. */
void watch_broken(struct run *run, int64_t step)
{
    peft_watch_step(run->watch, &(peft_step){.size = sizeof(peft_step), .step = step,
                                             .loss = NAN, .grad_norm = NAN});
    watch_tell(run);
    run->ended = "nonfinite";
    run->broken = true;
}

int watch_eval(struct run *run, int64_t step, const peft_evaluation *e)
{
    int32_t rc = peft_watch_eval(run->watch, step, e);
    if (rc == PEFT_ENOTFOUND)
        return usage_error("--metric: %s", peft_errmsg());
    if (rc)
        return library_error(rc, "cannot watch the run");
    peft_watched w = watch_state(run);
    if (run->keep_best && w.improved && step > 0 && (rc = folder_best_save(run, step)) != 0)
        return rc;
    watch_tell(run);
    if (w.stop && !run->ended)
        run->ended = "patience";
    return 0;
}

/* Tells the watch what a resumed run did before. */
int watch_replay(struct run *run)
{
    const struct history *h = &run->history;
    int64_t k = 0;
    for (int64_t i = 0; i <= h->n_steps; i++) {
        for (; k < h->n_evals && (i == h->n_steps || h->eval[k].step < h->step[i].step); k++) {
            peft_evaluation e = {.size = sizeof e, .loss = h->eval[k].loss,
                                 .n_metrics = h->eval[k].n};
            memcpy(e.metrics, h->eval[k].metric, sizeof e.metrics);
            int32_t rc = peft_watch_eval(run->watch, h->eval[k].step, &e);
            if (rc)
                return library_error(rc, "metrics.jsonl");
        }
        if (i == h->n_steps)
            break;
        peft_step s = {.size = sizeof s, .step = h->step[i].step, .steps = run->plan.steps,
                       .loss = h->step[i].loss, .grad_norm = h->step[i].grad_norm,
                       .lr = h->step[i].lr};
        peft_watch_step(run->watch, &s);
        h->step[i].smooth = watch_state(run).smooth;
    }
    peft_watched w = watch_state(run);
    run->told = w.n_notices;
    run->ended = w.stop ? "patience" : NULL;
    return 0;
}

/* ------------------------------------------------------------------ the end */

char *kept_words(const struct run *run)
{
    peft_watched w = watch_state(run);
    if (!run->kept_step)
        return NULL;
    return format("kept: the weights of step %lld, whose evaluation was the best of %lld (%s "
                  "%.4f)%s", (long long)w.best_step, (long long)w.evaluations,
                  run->args->metric ? run->args->metric : "loss", w.best,
                  isfinite(w.first_loss) && w.best_loss >= w.first_loss ?
                  "; before the training it was no worse" : "");
}

char *ended_words(const struct run *run)
{
    const struct history *h = &run->history;
    long long last = h->n_steps ? h->step[h->n_steps - 1].step : 0;
    peft_watched w = watch_state(run);
    if (!run->ended)
        return NULL;
    if (!strcmp(run->ended, "patience"))
        return format("ended after step %lld: %d evaluations were no better than that of step "
                      "%lld", last, w.waited, (long long)w.best_step);
    if (!strcmp(run->ended, "nonfinite"))
        return format("ended after step %lld: the next one was not finite", last);
    return format("ended after step %lld by --stop-on: %s", last, run->ended);
}

static void note_words(char *words)
{
    if (words)
        note("%s", words);
    free(words);
}

/* So that the adapter's README.md tells the evaluation of what is saved. */
static int evaluate_again(struct run *run)
{
    peft_eval_opts opts = {.size = sizeof opts, .batch = run->args->batch};
    peft_evaluation e = {.size = sizeof e};
    int32_t rc = peft_eval(run->model, run->eval, &opts, &e);
    return rc ? library_error(rc, "cannot evaluate") : 0;
}

/* The best evaluation's weights take the place of the last ones. */
int watch_finish(struct run *run)
{
    const struct history *h = &run->history;
    int64_t last = h->n_steps ? h->step[h->n_steps - 1].step : 0;
    peft_watched w = watch_state(run);
    note_words(ended_words(run));
    if (!run->keep_best || w.best_step <= 0)
        return 0;
    int rc = w.best_step != last ? folder_best_back(run, w.best_step) : 0;
    if (!rc && w.best_step != last)
        rc = evaluate_again(run);
    if (rc)
        return rc < 0 ? 0 : rc;
    run->kept_step = w.best_step;
    note_words(kept_words(run));
    return 0;
}
