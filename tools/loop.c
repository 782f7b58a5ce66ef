/* The training loop: steps, the progress line, evaluations, checkpoints, and
 * what happens on Ctrl-C: the step in flight is undone, a checkpoint written
 * and the command shown that goes on from it. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "train.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ----------------------------------------------------------------- samples */

static int read_questions(struct run *run)
{
    const char *path = run->args->sample_file;
    if (!path)
        return 0;
    if (!run->info.has_tokenizer || !run->info.causal || run->info.labels)
        return usage_error("--sample-file: %s cannot answer questions", run->info.name);
    char *text = read_file(path, NULL);
    if (!text) {
        runtime_error("--sample-file: %s cannot be read", path);
        return EXIT_FILE;
    }
    for (char *line = strtok(text, "\r\n"); line; line = strtok(NULL, "\r\n")) {
        run->sample = grow(run->sample, (size_t)(run->n_samples + 1) * sizeof *run->sample);
        run->sample[run->n_samples++] = (struct sample){format("%s", line), NULL, NULL};
    }
    free(text);
    return 0;
}

static int ask_questions(struct run *run, bool after)
{
    peft_generate_opts opts;
    peft_generated result;
    generate_setup(run->args, &opts);
    opts.max_tokens = run->args->sample_tokens ? run->args->sample_tokens : 64;
    for (int i = 0; i < run->n_samples && !interrupted(); i++) {
        struct sample *s = &run->sample[i];
        peft_message m[2] = {{"system", run->args->system}, {"user", s->prompt}};
        int32_t skip = !run->args->system;
        progress(false, "asking question %d of %d", i + 1, run->n_samples);
        int32_t rc = answer(run->model, m + skip, 2 - skip, &opts, after ? &s->after : &s->before,
                            &result);
        if (rc)
            return library_error(rc, "cannot answer a question of --sample-file");
    }
    return 0;
}

static void show_samples(const struct run *run)
{
    if (run->args->quiet)
        return;
    for (int i = 0; i < run->n_samples; i++) {
        const struct sample *s = &run->sample[i];
        fprintf(stderr, "\n%s%s%s\n", paint(stderr, BOLD), s->prompt, paint(stderr, PLAIN));
        if (!i)
            side_by_side(stderr, "(before)", "(after)");
        side_by_side(stderr, s->before, s->after);
    }
}

/* -------------------------------------------------------------- evaluation */

static int32_t on_batch(void *ctx, int64_t done, int64_t rows)
{
    (void)ctx;
    if (stderr_is_live())
        progress(false, "evaluating %lld of %lld rows", (long long)done, (long long)rows);
    return interrupted();
}

static int evaluate(struct run *run, int64_t step, double epoch)
{
    if (!run->eval)
        return 0;
    peft_eval_opts opts = {.size = sizeof opts, .batch = run->args->batch, .progress = on_batch};
    peft_evaluation e = {.size = sizeof e};
    int32_t rc = peft_eval(run->model, run->eval, &opts, &e);
    if (rc == PEFT_ECANCELLED)
        return 0;
    if (rc)
        return library_error(rc, "cannot evaluate");
    struct eval_row row = {.step = step, .epoch = epoch, .loss = e.loss, .n = e.n_metrics};
    memcpy(row.metric, e.metrics, sizeof row.metric);
    history_add_eval(&run->history, &row);
    write_eval_row(run->metrics, &row);
    if (run->args->json)
        write_eval_row(stdout, &row);
    char text[2][64] = {"", ""};
    for (int i = 0; i < 2 && i < row.n; i++)
        snprintf(text[i], sizeof text[i], "  %s %.4f", row.metric[i].name, row.metric[i].value);
    note("step %lld  eval loss %.4f%s%s", (long long)step, e.loss, text[0], text[1]);
    return watch_eval(run, step, &e);
}

static bool evaluated(const struct run *run, int64_t step)
{
    const struct history *h = &run->history;
    return h->n_evals && h->eval[h->n_evals - 1].step == step;
}

/* The evaluation of the weights that are the result. */
const struct eval_row *result_eval(const struct run *run)
{
    const struct history *h = &run->history;
    const struct eval_row *e = h->n_evals ? &h->eval[h->n_evals - 1] : NULL;
    for (int64_t i = 0; i < h->n_evals && run->kept_step; i++)
        if (h->eval[i].step == run->kept_step)
            e = &h->eval[i];
    return e;
}

static void note_evaluations(const struct run *run)
{
    const struct eval_row *first = run->history.eval, *after = result_eval(run);
    if (!after)
        return;
    note("\n%-14s %12s %12s", "", "before", "after");
    note("%-14s %12.4f %12.4f", "eval loss", first->loss, after->loss);
    for (int i = 0; i < first->n && i < after->n; i++)
        note("%-14s %12.4f %12.4f", first->metric[i].name, first->metric[i].value,
             after->metric[i].value);
}

/* -------------------------------------------------------------------- steps */

static void show_step(const struct run *run, const peft_step *s, const struct step_row *row)
{
    const struct history *h = &run->history;
    double left = (now() - run->seconds) / (double)(s->step - run->first_step) *
                  (double)(s->steps - s->step);
    progress(s->step == s->steps,
             "step %lld/%lld  loss %.3f (smooth %.3f)  |g| %.3g  lr %.2e  %.0f tok/s  %s  ETA %s",
             (long long)s->step, (long long)s->steps, s->loss, h->step[h->n_steps - 1].smooth,
             s->grad_norm, s->lr, row->speed, show_bytes(row->rss), show_seconds(left));
}

static void log_step(struct run *run, const peft_step *s)
{
    struct step_row row = {.step = s->step, .epoch = s->epoch, .loss = s->loss,
                           .grad_norm = s->grad_norm, .lr = s->lr, .seen = s->tokens_seen,
                           .speed = s->seconds > 0 ? (double)s->tokens / s->seconds : 0,
                           .rss = memory_resident()};
    peft_watch_step(run->watch, s);
    row.smooth = watch_state(run).smooth;
    history_add_step(&run->history, &row);
    write_step_row(run->metrics, &row);
    if (run->args->json)
        write_step_row(stdout, &row);
    if (!run->args->quiet)
        show_step(run, s, &row);
    watch_tell(run);
}

static int broken_step(struct run *run, int32_t rc, int64_t last)
{
    if (rc != PEFT_ENONFINITE)
        return library_error(rc, "cannot train");
    struct step_row row = {.step = last + 1, .loss = NAN, .grad_norm = NAN, .lr = NAN,
                           .epoch = NAN, .smooth = NAN, .rss = memory_resident()};
    write_step_row(run->metrics, &row);
    if (run->args->json)
        write_step_row(stdout, &row);
    rc = library_error(rc, "training stopped");
    watch_broken(run, last + 1);
    return rc;
}

/* Whether what a broken run had reached before is worth to be its result. */
static bool has_best(const struct run *run)
{
    peft_watched w = watch_state(run);
    return run->keep_best && w.best_step > 0 && w.best_loss < w.first_loss;
}

/* Steps until the end, an interruption (rc 0, interrupted()) or a failure. */
static int train(struct run *run, int64_t *step)
{
    const struct args *a = run->args;
    double epoch = 0;
    while (!interrupted() && !run->ended) {
        peft_step s = {.size = sizeof s};
        int32_t rc = peft_train_step(run->trainer, &s);
        if (rc == PEFT_EEND || rc == PEFT_ECANCELLED)
            break;
        if (rc)
            return broken_step(run, rc, *step);
        *step = s.step;
        log_step(run, &s);
        bool new_epoch = floor(s.epoch + 1e-9) > floor(epoch + 1e-9);
        bool due = a->eval_every ? s.step % a->eval_every == 0 : new_epoch;
        epoch = s.epoch;
        if (due && !run->broken && !interrupted() && (rc = evaluate(run, s.step, s.epoch)) != 0)
            return rc;
        if (a->checkpoint_every && s.step % a->checkpoint_every == 0 &&
            (rc = folder_checkpoint(run, s.step)) != 0)
            return rc;
    }
    return 0;
}

/* --------------------------------------------------------- before and after */

static peft_cache cache_of(const struct run *run)
{
    peft_cache c = {.size = sizeof c};
    peft_trainer_cache(run->trainer, &c);
    return c;
}

/* What is computed once, as far as it can be told before it is. */
static void show_cache(const struct run *run)
{
    peft_cache c = cache_of(run);
    if (c.what[0])
        note("cached: %s for %s rows, %s, of which %s in memory%s%s", c.what, show_count(c.rows),
             show_bytes(c.bytes), show_bytes(c.memory), run->args->cache_file ? ", in " : "",
             run->args->cache_file ? run->args->cache_file : "");
    else if (c.why[0] && (run->args->cache_file || run->args->cache > 0))
        note("nothing is cached: %s", c.why);
}

static void show_cache_use(const struct run *run)
{
    peft_cache c = cache_of(run);
    if (c.what[0] && c.used)
        note("cache   %s rows used, %s computed: %.0f%% hits, %s%s%s", show_count(c.used),
             show_count(c.made), 100.0 * (double)(c.used - c.made) / (double)c.used,
             show_bytes(c.bytes), c.file ? ", file " : "", c.file ? show_bytes(c.file) : "");
}

static void show_first_line(const struct run *run)
{
    const peft_plan *p = &run->plan;
    note("%s%s%s  trainable params: %s || all params: %s || trainable%%: %.4f  "
         "predicted peak memory: %s  predicted time: %s",
         paint(stderr, BOLD), run->info.name, paint(stderr, PLAIN),
         show_count(p->trainable_params), show_count(p->total_params),
         p->total_params ? 100.0 * (double)p->trainable_params / (double)p->total_params : 0.0,
         show_bytes(run->predicted_memory), show_seconds(run->predicted_seconds));
    if (*p->choice)
        note("within %s: %s", show_bytes(run->args->memory_limit), p->choice);
    warnings_show();
    note("%s rows, %s tokens (%s trained), longest %d; %lld steps on %d threads",
         show_count(run->stats.rows), show_count(run->stats.tokens),
         show_count(run->stats.trained_tokens), run->stats.max_len, (long long)p->steps,
         run->threads);
    before_notes(run);
    show_cache(run);
    if (run->sys.memory_available && run->predicted_memory > run->sys.memory_available)
        note("%swarning:%s only %s of memory are available; --recompute layers, a smaller "
             "--batch or --max-len need less", paint(stderr, YELLOW), paint(stderr, PLAIN),
             show_bytes(run->sys.memory_available));
}

/* The state is saved even with --quiet, and so is the way back shown. */
static int stop_here(struct run *run, int64_t step)
{
    progress_end();
    if (!step) {
        fprintf(stderr, "interrupted before the first step; nothing to resume\n");
        return EXIT_INTERRUPTED;
    }
    int rc = step > run->first_step ? folder_checkpoint(run, step) : 0;
    if (rc)
        return rc;
    fprintf(stderr, "interrupted after step %lld; the state is saved.  To go on:\n ",
            (long long)step);
    for (int i = 0; i < run->args->argc; i++) {
        if (!strcmp(run->args->argv[i], "--overwrite"))
            continue;
        putc(' ', stderr);
        put_shell_word(stderr, run->args->argv[i]);
    }
    fputs(run->args->resume ? "\n" : " --resume\n", stderr);
    return EXIT_INTERRUPTED;
}

static int start(struct run *run, int64_t step)
{
    int rc = 0;
    char *path = folder_path(run, "metrics.jsonl");
    if (step) {
        char *from = format("%s/checkpoint-%lld", run->args->out, (long long)step);
        rc = peft_trainer_resume(run->trainer, from);
        if (rc)
            rc = library_error(rc, "cannot resume");
        else
            rc = history_resume(&run->history, path, step);
        if (!rc)
            rc = watch_replay(run);
        if (!rc)
            note("resumed after step %lld from %s", (long long)step, from);
        free(from);
    }
    if (!rc && !(run->metrics = fopen(path, step ? "a" : "w")))
        rc = runtime_error("cannot write %s", path);
    free(path);
    return rc;
}

static int finish(struct run *run, int64_t step)
{
    if (run->broken && !has_best(run)) {
        fprintf(stderr, "ended after step %lld by --stop-on: %s; there is no result\n",
                (long long)step, run->ended);
        return EXIT_NONFINITE;
    }
    int rc = evaluated(run, step) || run->broken ? 0 : evaluate(run, step, run->history.n_steps ?
             run->history.step[run->history.n_steps - 1].epoch : 0);
    if (rc)
        return rc;
    show_cache_use(run);
    if (interrupted() || (rc = watch_finish(run)) != 0 || (rc = forget_finish(run)) != 0 ||
        (rc = ask_questions(run, true)) != 0)
        return rc ? rc : stop_here(run, step);
    if ((rc = folder_save_result(run)) != 0 || (rc = receipt_write(run)) != 0 ||
        (rc = report_write(run)) != 0)
        return rc;
    show_samples(run);
    note_evaluations(run);
    bool adapter = is_adapter(run->method);
    note("\n%s in %s  (%s, peak memory %s)", adapter ? "adapter" : "model", run->args->out,
         show_seconds(run->seconds), show_bytes(memory_peak()));
    if (run->base_trains)
        note("weights of the base trained too: %s/model is the adapter's base now",
             run->args->out);
    note("report  %s/report.html", run->args->out);
    folder_best_drop(run);
    return ferror(run->metrics) ? runtime_error("metrics.jsonl could not be written") : EXIT_OK;
}

int run_loop(struct run *run)
{
    int64_t step = 0;
    int rc = read_questions(run);
    if (!rc)
        rc = folder_open(run, &step);
    if (!rc)
        rc = watch_begin(run, step);
    if (rc)
        return rc;
    show_first_line(run);
    auto_show(run);
    if (run->choice.n && (rc = auto_write(run)) != 0)
        return rc;
    if (run->args->show_row && (rc = before_show(run, stderr)) != 0)
        return rc;
    signal(SIGPIPE, SIG_IGN);  /* a closed stdout does not cost the training */
    interrupt_catch(run->trainer);
    rc = ask_questions(run, false);
    if (!rc)
        rc = start(run, step);
    if (!rc && !step && !interrupted())
        rc = evaluate(run, 0, 0);
    run->first_step = step;
    run->seconds = now();      /* the beginning, until the loop has ended */
    if (!rc)
        rc = train(run, &step);
    run->seconds = now() - run->seconds;
    progress_end();
    if (!rc)
        rc = interrupted() ? stop_here(run, step) : finish(run, step);
    else if (rc == EXIT_NONFINITE && has_best(run) && !finish(run, step))
        rc = EXIT_NONFINITE;
    interrupt_release();
    return rc;
}

int run_train(const struct args *args)
{
    struct args mine = *args;
    peft_receipt *earlier = NULL;
    if (!args->out)
        return usage_error("where to?  --out DIR");
    struct run run = {.args = &mine, .checks = true};
    warnings_hold();
    int rc = continue_take(&mine, &earlier);
    if (!rc)
        rc = run_setup(&run);
    if (!rc) {
        settings_make(&run);
        rc = run_loop(&run);
    }
    warnings_show();
    run_release(&run);
    peft_receipt_free(earlier);
    return rc;
}
