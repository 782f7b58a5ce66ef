/* Successive halving (Jamieson & Talwalkar 2016; Li et al., Hyperband, 2018): of n trials
 * on rung r, each with the share eta^(r + 1 - rungs) of its own steps, the best n / eta go
 * on to the next rung.  A run begins anew on each rung, with a schedule as long as it is:
 * that costs a third more than going on, and compares runs that are complete.  Short runs
 * favour what learns fast, so the usual settings, trial 0, run whole at once and do not
 * compete in them: what is found is no worse than they are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "judge/tune.h"

enum { LEAST_STEPS = 8, USUAL_TRIALS = 9, MOST_TRIALS = 243, RECENT = 3 };

struct tuner {
    struct chooser a;               /* the model, and what is undone after a trial */
    struct host host;
    peft_tune_opts o;
    peft_adapter_opts adapter;
    peft_train_opts train;          /* as given; those of the run are in `a` */
    const char *metric;
    struct space space;
    struct trials trials;
    peft_evaluation first;
    double first_value;
    peft_trial best;
    int has_best;
    int64_t rows;                   /* that train */
    double used;                    /* seconds of all runs */
    double pace[RECENT];            /* seconds a step of the last runs */
    int64_t n_paces;
    double whole;                   /* seconds of the last whole run */
    int32_t n, rungs;
    double scale;                   /* of all shares: the budget has no room for whole runs */
    char targets[2 * SETTING];
};

struct running {
    struct tuner *t;
    peft_trial *r;
    peft_watch *watch;
    peft_watched seen;
    double began;
    int64_t evaluated;              /* the step of the last evaluation */
};

/* By the metric; where that is the same, by the loss. */
static int better(const struct tuner *t, const peft_trial *a, const peft_trial *b)
{
    double x = a->value_best, y = b->value_best;
    if (isnan(x) || isnan(y)) return !isnan(x) && isnan(y);
    if (!(x < y) && !(x > y)) return a->loss < b->loss;
    return peft_metric_falls(t->metric) ? x < y : x > y;
}

/* ---------------------------------------------------------------- settings */

/* "q_proj+v_proj", "all" and "attention" as peft_adapter_opts.targets has them. */
static const char *take_targets(struct tuner *t, const char *text)
{
    if (!text) return t->adapter.targets;
    if (!strcmp(text, "all")) return NULL;
    if (!strcmp(text, "attention")) return "*attn*,*attention*,*Attention*";
    snprintf(t->targets, sizeof(t->targets), "%s", text);
    for (char *p = t->targets; *p; p++)
        if (*p == '+') *p = ',';
    return t->targets;
}

static void take_settings(struct tuner *t, const peft_trial *r)
{
    struct chooser *a = &t->a;
    peft_train_opts *x = &a->train;
    a->adapter = t->adapter;
    *x = t->train;
    a->c.rank = (int32_t)trial_number(r, "rank", t->adapter.rank);
    a->adapter.targets = take_targets(t, trial_text(r, "targets"));
    a->adapter.alpha = (float)trial_number(r, "alpha", (double)t->adapter.alpha);
    a->adapter.dropout = (float)trial_number(r, "dropout", (double)t->adapter.dropout);
    x->lr = (float)trial_number(r, "lr", (double)x->lr);
    x->epochs = (int32_t)trial_number(r, "epochs", x->epochs);
    x->batch = (int32_t)trial_number(r, "batch", x->batch ? x->batch : 4);
    x->warmup = (float)trial_number(r, "warmup", (double)x->warmup);
    x->weight_decay = (float)trial_number(r, "weight-decay", (double)x->weight_decay);
    if (trial_text(r, "epochs")) x->steps = 0;
}

/* The steps of a whole run with these settings. */
static int whole_steps(struct tuner *t, int64_t *steps)
{
    const peft_train_opts *x = &t->a.train;
    int64_t each = (int64_t)x->batch * MAX(x->accumulate, 1);
    *steps = x->steps ? x->steps : MAX(x->epochs, 1) * div_up(t->rows, each);
    if (!x->packing || x->steps) return PEFT_OK;
    peft_plan p;
    int rc = try_plan(&t->a, x, &p);
    *steps = p.steps;
    return rc;
}

/* ------------------------------------------------------------------ one run */

static int32_t on_rows(void *ctx, int64_t done, int64_t rows)
{
    const struct tuner *t = ctx;
    (void)done;
    (void)rows;
    return t->o.progress ? t->o.progress(t->o.ctx, NULL, 0, 0) : 0;
}

static int evaluate(struct tuner *t, peft_evaluation *e, double *value)
{
    peft_eval_opts o = { .size = sizeof(o), .batch = t->o.eval_batch, .progress = on_rows,
                         .ctx = t, .objective = t->train.objective };
    *e = (peft_evaluation){ .size = sizeof(*e) };
    int rc = peft_eval(t->a.model, t->a.eval, &o, e);
    if (rc) return kit_failed(rc);
    *value = e->loss;
    if (!strcmp(t->metric, "loss")) return PEFT_OK;
    for (int32_t i = 0; i < e->n_metrics; i++)
        if (!strcmp(t->metric, e->metrics[i].name)) {
            *value = e->metrics[i].value;
            return PEFT_OK;
        }
    return fail(PEFT_ENOTFOUND, "the evaluation has no metric \"%s\"", t->metric);
}

static int is_of_adapter(const struct tuner *t)
{
    return strcmp(t->o.method, "head") && strcmp(t->o.method, "last") &&
           strcmp(t->o.method, "full");
}

static int save_best(struct tuner *t)
{
    char *path;
    int rc = path_join(&t->host, t->o.dir, "best", &path);
    if (rc) return rc;
    rc = is_of_adapter(t) ? peft_adapter_save(t->a.model, "default", path)
                          : peft_model_save(t->a.model, path, NULL);
    mem_free(&t->host.mem, path);
    return rc ? kit_failed(rc) : PEFT_OK;
}

/* An evaluation within a run; the best of all is saved at once. */
static int judge_run(struct tuner *t, struct running *x, int64_t step)
{
    peft_evaluation e;
    peft_trial *r = x->r;
    double value;
    int rc = evaluate(t, &e, &value);
    if (!rc && (rc = peft_watch_eval(x->watch, step, &e)) != 0) rc = kit_failed(rc);
    x->evaluated = step;
    x->seen = (peft_watched){ .size = sizeof(x->seen) };
    if (!rc) peft_watch_info(x->watch, &x->seen);
    if (rc || !x->seen.improved) return rc;
    r->best_step = step;
    r->loss = e.loss;
    r->value_best = value;
    if (t->has_best && !better(t, r, &t->best)) return PEFT_OK;
    if ((rc = save_best(t)) != 0) return rc;
    r->best = 1;
    t->best = *r;
    t->has_best = 1;
    return PEFT_OK;
}

static void end_run(peft_trial *r, const char *why)
{
    snprintf(r->ended, sizeof(r->ended), "%s", why);
}

/* What was found ends a run that cannot become anything. */
static int look(struct running *x, const peft_step *s)
{
    peft_notice n = { .size = sizeof(n) };
    int rc = peft_watch_step(x->watch, s);
    for (int32_t i = 0; !rc && !peft_watch_notice(x->watch, i, &n); i++)
        if (!strcmp(n.kind, "diverged") || !strcmp(n.kind, "dead")) end_run(x->r, n.kind);
    return rc ? kit_failed(rc) : PEFT_OK;
}

static int walk_steps(struct running *x, peft_trainer *trainer)
{
    struct tuner *t = x->t;
    peft_trial *r = x->r;
    double epoch = 0;
    peft_step s = { .size = sizeof(s) };
    while (!*r->ended) {
        int rc = peft_train_step(trainer, &s);
        if (rc == PEFT_EEND) break;
        if (rc == PEFT_ENONFINITE) end_run(r, "nonfinite");
        else if (rc) return kit_failed(rc);
        if (rc) break;
        r->steps = s.step;
        if ((rc = look(x, &s)) != 0) return rc;
        if (t->o.progress && t->o.progress(t->o.ctx, r, s.step, s.steps))
            return fail(PEFT_ECANCELLED, "cancelled in trial %d", r->trial);
        int due = s.step == s.steps || floor(s.epoch + 1e-9) > floor(epoch + 1e-9);
        epoch = s.epoch;
        if (due && !*r->ended && (rc = judge_run(t, x, s.step)) != 0) return rc;
        if (x->seen.stop && !*r->ended) end_run(r, "patience");
        if (t->o.seconds > 0 && s.step < s.steps && !*r->ended &&
            t->used + os_seconds() - x->began > t->o.seconds)
            end_run(r, "budget");
    }
    /* The only result that there will be. */
    if (!strcmp(r->ended, "budget") && !t->has_best && x->evaluated != r->steps)
        return judge_run(t, x, r->steps);
    return PEFT_OK;
}

static int watch_run(void *ctx, peft_trainer *trainer)
{
    struct running *x = ctx;
    struct tuner *t = x->t;
    peft_watch_opts o = { .size = sizeof(o), .model = t->a.model, .metric = t->metric,
                          .patience = MAX(t->o.patience, 0) };
    int rc = peft_watch_new(&o, &x->watch);
    if (!rc) rc = peft_watch_eval(x->watch, 0, &t->first);
    rc = rc ? kit_failed(rc) : walk_steps(x, trainer);
    peft_watch_free(x->watch);
    return rc;
}

/* One run of a trial, of so many steps; the model is as before it. */
static int run_trial(struct tuner *t, peft_trial *r, int64_t steps, int64_t whole)
{
    struct running x = { .t = t, .r = r, .began = os_seconds() };
    if (steps < whole) {
        t->a.train.steps = (int32_t)steps;
        t->a.train.epochs = 0;
    }
    r->loss = r->value_best = NAN;
    int rc = try_run(&t->a, t->a.data, &t->a.train, watch_run, &x);
    r->seconds = os_seconds() - x.began;
    if (rc) return rc;
    if (r->best) t->best = *r;
    return trials_add(&t->trials, r);
}

/* --------------------------------------------------------------- the search */

static double share_of(const struct tuner *t, int32_t rung)
{
    return fmin(1, t->scale * pow(t->o.eta, rung + 1 - t->rungs));
}

static int32_t next_count(const struct tuner *t, int32_t n)
{
    return (int32_t)div_up(n, t->o.eta);
}

static int32_t rungs_of(const struct tuner *t, int32_t n)
{
    int32_t rungs = 1;
    for (; n >= t->o.eta; n /= t->o.eta) rungs++;
    return rungs;
}

/* Seconds of a search of n trials and the usual one, of which a whole run takes `all` and an
 * evaluation `once`. */
static double cost_of(const struct tuner *t, int32_t n, double all, double once)
{
    double cost = all + once;
    int32_t rung = 0, rungs = rungs_of(t, n);
    for (; rung < rungs; rung++, n = next_count(t, n))
        cost += n * (all * pow(t->o.eta, rung + 1 - rungs) + once);
    return cost;
}

/* Seconds that a step will take: the least of the last runs', since what is cached of a
 * frozen part is computed in the first ones. */
static double pace_of(const struct tuner *t)
{
    double least = 0;
    for (int64_t i = 0; i < MIN(t->n_paces, RECENT); i++)
        if (!i || t->pace[i] < least) least = t->pace[i];
    return least;
}

/* Steps that a run may have within the budget: all, fewer on the last rung, or 0. */
static int64_t affordable(const struct tuner *t, int32_t rung, int64_t steps)
{
    if (!(t->o.seconds > 0)) return steps;
    double left = t->o.seconds - t->used;
    double each = pace_of(t);
    int64_t fit = each > 0 ? (int64_t)fmin(0.85 * left / each, 1e15) : steps;
    if (left <= 0) return 0;
    if (fit >= steps) return steps;
    return rung >= t->rungs - 1 && fit > steps / t->o.eta && fit >= LEAST_STEPS ? fit : 0;
}

static void count_run(struct tuner *t, const peft_trial *r)
{
    t->used += r->seconds;
    if (r->steps) t->pace[t->n_paces++ % RECENT] = r->seconds / (double)r->steps;
}

/* The trial's run on this rung: one that was made before, or a new one.  1 = the budget
 * has no room for it. */
static int do_run(struct tuner *t, int32_t trial, int32_t rung, peft_trial *out)
{
    const peft_trial *was = trials_find(&t->trials, trial, rung);
    int64_t whole, steps;
    if (was) {
        *out = *was;
    } else {
        *out = (peft_trial){ .size = sizeof(*out), .trial = trial, .rung = rung };
        space_draw(&t->space, t->o.seed, trial, out);
        take_settings(t, out);
        int rc = whole_steps(t, &whole);
        if (rc) return rc;
        steps = MAX((int64_t)ceil(share_of(t, rung) * (double)whole - 1e-9),
                    MIN(whole, LEAST_STEPS));
        if (!(steps = affordable(t, rung, steps))) return 1;
        out->share = (double)steps / (double)whole;
        rc = run_trial(t, out, steps, whole);
        if (rc) return rc;
        count_run(t, out);
    }
    if (t->o.on_trial && t->o.on_trial(t->o.ctx, out))
        return fail(PEFT_ECANCELLED, "cancelled after trial %d", trial);
    return !strcmp(out->ended, "budget");
}

/* The best first; of equal ones the earlier. */
static void sort_runs(const struct tuner *t, peft_trial *run, int32_t n)
{
    for (int32_t i = 1; i < n; i++) {
        peft_trial x = run[i];
        int32_t k = i;
        for (; k > 0 && better(t, &x, &run[k - 1]); k--) run[k] = run[k - 1];
        run[k] = x;
    }
}

/* Trials from `first` on, until the best one has made a whole run.  1 = the budget ended. */
static int halve(struct tuner *t, int32_t first, peft_tuned *out)
{
    peft_trial *run = mem_array(&t->host.mem, t->n, sizeof(*run));
    int32_t usual = !first && t->n > 1, n = t->n - usual;
    int rc = run ? PEFT_OK : PEFT_ENOMEM, last = 0;
    out->trials += usual;
    if (usual && !rc) rc = do_run(t, 0, t->rungs - 1, &run[0]);
    for (int32_t i = 0; i < n && !rc; i++) run[i] = (peft_trial){ .trial = first + usual + i };
    for (int32_t rung = 0; !last && !rc; rung++, n = next_count(t, n)) {
        for (int32_t i = 0; i < n && !rc; i++) {
            out->trials += rung == 0;
            rc = do_run(t, run[i].trial, rung, &run[i]);
        }
        if (!rc) sort_runs(t, run, n);
        last = rung >= t->rungs - 1 && share_of(t, rung) >= 1;
        t->whole = run[0].seconds;
    }
    mem_free(&t->host.mem, run);
    out->whole |= last && !rc;
    return rc;
}

/* With a budget alone, other trials follow for as long as there is time; how long they run
 * is by what a whole run took. */
static int search(struct tuner *t, peft_tuned *out)
{
    int32_t first = 0;
    int rc = PEFT_OK;
    do {
        rc = halve(t, first, out);
        first += t->n;
        if (t->whole > 0)
            t->scale = fmin(1, 0.5 * t->o.seconds / cost_of(t, t->n, t->whole, 0));
    } while (!rc && !t->o.trials && t->o.seconds > 0 && first + t->n <= MOST_TRIALS);
    out->runs = (int32_t)t->trials.n;
    out->seconds = t->used;
    return MIN(rc, 0);
}

/* -------------------------------------------------------------- what it needs */

/* As many trials as the budget allows, by the plan of a usual run; where it is too small for
 * a few of them, they have a share of their steps. */
static int trials_for(struct tuner *t)
{
    peft_trial r = { .size = sizeof(r) };
    peft_plan p;
    space_draw(&t->space, t->o.seed, 0, &r);
    take_settings(t, &r);
    int rc = try_plan(&t->a, &t->a.train, &p);
    double once = t->first.seconds, all = p.seconds + once * MAX(t->a.train.epochs, 1);
    double room = 0.85 * t->o.seconds, least;
    int32_t few = t->o.eta * t->o.eta;
    if (t->o.trials) few = t->o.trials;
    else if (cost_of(t, few, 0.25 * all, once) > room) few = t->o.eta;
    least = cost_of(t, few, all, once);
    if (least > room)
        t->scale = fmax((room - cost_of(t, few, 0, once)) / (least - cost_of(t, few, 0, once)),
                        0.05);
    t->n = few;
    for (int32_t n = few; n <= MOST_TRIALS && !t->o.trials; n++)
        if (cost_of(t, n, all, once) <= room) t->n = n;
    return rc;
}

/* What a file is of the same search by; without the number of trials. */
static void put_head(const struct tuner *t, struct buf *b, const char *search)
{
    const peft_train_opts *x = &t->train;
    buf_puts(b, "{\"search\": ");
    buf_json(b, search, (int64_t)strlen(search));
    buf_printf(b, ", \"method\": \"%s\", \"metric\": \"%s\", \"eta\": %d, \"patience\": %d, "
               "\"seed\": %llu, \"rows\": %lld, \"eval_rows\": %lld, \"batch\": %d, "
               "\"accumulate\": %d, \"epochs\": %d, \"steps\": %d, \"train_seed\": %llu, "
               "\"model\": ",
               t->o.method, t->metric, t->o.eta, t->o.patience,
               (unsigned long long)t->o.seed, (long long)t->rows, (long long)t->first.rows,
               x->batch, x->accumulate, x->epochs, x->steps, (unsigned long long)x->seed);
    buf_json(b, t->a.info.name, (int64_t)strlen(t->a.info.name));
    buf_puts(b, ", \"lr\": ");
    buf_number(b, (double)x->lr);
}

/* The number of trials and the scale that a file was begun with, if there is one. */
static void trials_before(struct tuner *t)
{
    struct line_reader *lines = NULL;
    char *path, *line;
    int64_t n, number, trials = 0;
    json *j = NULL;
    if (path_join(&t->host, t->o.dir, "trials.jsonl", &path)) return;
    if (path_kind(&t->host, path) && !line_open(&t->host, path, &lines) &&
        line_next(lines, &line, &n, &number) == 1 && !json_parse(line, n, "trials.jsonl", &j))
        json_int(j, "trials", 1, MOST_TRIALS, &trials);
    if (trials && (!t->o.trials || t->o.trials == trials)) {
        t->n = (int32_t)trials;
        t->scale = json_number(json_get(j, "scale"), 1);
    }
    json_free(j);
    line_close(lines);
    mem_free(&t->host.mem, path);
}

static int open_trials(struct tuner *t, const char *search)
{
    struct buf head;
    int rc = PEFT_OK;
    t->scale = 1;
    trials_before(t);
    if (!t->n && t->o.seconds > 0) rc = trials_for(t);
    if (!t->n) t->n = t->o.trials ? t->o.trials : USUAL_TRIALS;
    t->rungs = rungs_of(t, t->n);
    buf_init(&head, &t->host.mem);
    put_head(t, &head, search);
    buf_printf(&head, ", \"trials\": %d, \"scale\": ", t->n);
    buf_number(&head, t->scale);
    buf_putc(&head, '}');
    if (!rc) rc = buf_check(&head);
    if (!rc) rc = trials_open(&t->trials, t->o.dir, buf_str(&head), &t->space);
    buf_free(&head);
    for (int64_t i = 0; i < t->trials.n && !rc; i++) {
        const peft_trial *r = &t->trials.run[i];
        count_run(t, r);
        if (isnan(r->value_best) || (t->has_best && !better(t, r, &t->best))) continue;
        t->best = *r;
        t->has_best = 1;
    }
    return rc;
}

/* Where nothing is said: what is not given, around the method's usual learning rate. */
static const char *usual_search(struct tuner *t, struct buf *b)
{
    double lr = round((double)prior_of(t->o.method)->lr * 1e7) / 1e7;
    if (!(lr > 0)) lr = 1e-3;
    int lora = !strcmp(t->o.method, "lora") || !strcmp(t->o.method, "dora");
    if (!(t->train.lr > 0)) {
        buf_puts(b, ",lr=");
        buf_number(b, round(lr * 1e6) / 1e7);
        buf_puts(b, "..");
        buf_number(b, round(lr * 3e7) / 1e7);
    }
    if (lora && !t->adapter.rank) buf_puts(b, ",rank=4|8|16|32");
    if (lora && !t->adapter.targets) buf_puts(b, ",targets=all|attention");
    if (!t->train.steps && !t->train.epochs) buf_puts(b, ",epochs=1..5");
    return b->n ? buf_str(b) + 1 : "";
}

/* The usual learning rate is that of a training to which none is given.  Targets that name nothing
 * are told before anything runs. */
static int check_space(struct tuner *t)
{
    int rc = PEFT_OK;
    for (int i = 0; i < t->space.n && !rc; i++) {
        struct axis_of *a = &t->space.axis[i];
        int lr = !strcmp(a->knob->name, "lr"), n = a->knob->kind == KNOB_TEXT ? a->n : lr;
        for (int k = 0; k < n && !rc; k++) {
            peft_plan p;
            peft_trial r = { .n = !lr, .name = { a->knob->name } };
            memcpy(r.value[0], a->choice[k], sizeof(a->choice[k]));
            take_settings(t, &r);
            if (lr) t->a.train.lr = 0;
            rc = try_plan(&t->a, &t->a.train, &p);
            if (lr) a->usual = p.lr;
        }
    }
    return rc;
}

static int tune(struct tuner *t, peft_tuned *out)
{
    struct buf search_text;
    peft_dataset_stats stats;
    buf_init(&search_text, &t->host.mem);
    const char *space = t->o.search ? t->o.search : usual_search(t, &search_text);
    int rc = space_parse(space, &t->space);
    if (!rc) rc = info_get(t->a.model, &t->a.info);
    if (!rc && t->a.info.n_adapters)
        rc = fail(PEFT_ESTATE, "the model has an adapter, expected none");
    if (!rc) rc = stats_get(t->a.data, &stats);
    if (!rc) rc = trains_note(&t->a);
    t->rows = rc ? 0 : stats.rows;
    if (!rc) rc = check_space(t);
    if (!rc) rc = evaluate(t, &t->first, &t->first_value);
    if (!rc && !path_kind(&t->host, t->o.dir) &&
        t->host.io.mkdir(t->host.io.ctx, t->o.dir) < 0)
        rc = fail(PEFT_EIO, "%s: cannot be made", t->o.dir);
    if (!rc) rc = open_trials(t, space);
    if (!rc) rc = search(t, out);
    out->best = t->best;
    out->lr = (float)trial_number(&t->best, "lr", (double)t->train.lr);
    out->first_loss = t->first.loss;
    out->first_value = t->first_value;
    if (t->trials.path) trials_free(&t->trials);
    mem_free(&t->host.mem, t->a.trains);
    buf_free(&search_text);
    return rc;
}

int32_t peft_tune(peft_model *model, peft_dataset *data, const peft_dataset *eval,
                  const peft_tune_opts *opts, peft_tuned *out)
{
    KIT_ARG(model && data && eval, "no model, data or evaluation data given");
    KIT_ARG(opts && opts->dir && *opts->dir, "no folder for the trials given");
    struct tuner t = { .a = { .model = model, .data = data, .eval = eval } };
    peft_tuned found = { .size = sizeof(found) };
    int rc = take_options(&t.o, sizeof(t.o), opts);
    if (!rc) rc = check_result(out);
    if (!rc) rc = take_options(&t.adapter, sizeof(t.adapter), t.o.adapter);
    if (!rc) rc = take_options(&t.train, sizeof(t.train), t.o.train);
    if (!rc) rc = host_init(&t.host, t.o.host);
    if (rc) return kit_end(rc);
    t.adapter.size = sizeof(t.adapter);
    t.train.size = sizeof(t.train);
    if (!t.o.method) t.o.method = "lora";
    if (!t.o.eta) t.o.eta = 3;
    if (!t.o.patience) t.o.patience = 2;
    t.metric = t.o.metric ? t.o.metric : "loss";
    t.trials.host = &t.host;
    t.a.c.last = t.o.last ? t.o.last : 2;
    KIT_ARG(strlen(t.o.method) < sizeof(t.a.c.method) && t.o.trials >= 0 &&
            t.o.trials <= MOST_TRIALS && t.o.eta >= 2 && t.o.seconds >= 0,
            "method \"%s\", %d trials, eta %d, %g seconds, expected 1 to %d trials and an eta "
            "of 2 or more", t.o.method, t.o.trials, t.o.eta, t.o.seconds, MOST_TRIALS);
    snprintf(t.a.c.method, sizeof(t.a.c.method), "%s", t.o.method);
    mem_init(&t.a.mem, NULL, NULL);
    rc = tune(&t, &found);
    if (!rc) give_result(out, &found, sizeof(found));
    return kit_end(rc);
}
