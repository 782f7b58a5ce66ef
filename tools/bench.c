/* peft bench: the speed of training steps, and with --roofline where it goes.
 *
 * --paced lets another program run steps of several contenders in turns.  The bound of an
 * operation is the longer of its flops at the machine's peak and its bytes at the speed of
 * copying; bytes that a cache still holds may beat it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train.h"

struct bench {
    struct run run;
    char *path;                /* of made-up data; or NULL */
    peft_peaks peaks;
    double *seconds;           /* [steps] */
    int64_t tokens, trained;   /* of a step */
    int steps;
    peft_work *work;
    int n_work;
    double flops, bound;       /* of a step */
};

static double peak_of(const struct bench *b, bool half)
{
    double f32 = b->peaks.gflops > b->peaks.gflops_blas ? b->peaks.gflops : b->peaks.gflops_blas;
    return 1e9 * (half ? b->peaks.gflops_bf16 : f32);
}

/* Seconds of a row in all steps, at best. */
static double bound_of(const struct bench *b, const peft_work *w)
{
    double compute = w->flops / peak_of(b, w->half), memory = w->bytes / (1e9 * b->peaks.gbytes);
    return compute > memory ? compute : memory;
}

/* Rows of arbitrary tokens, all trained. */
static int make_data(struct bench *b, struct args *args)
{
    peft_model *model = NULL;
    peft_info info;
    int rc = open_model(args, &model, &info);
    peft_model_free(model);
    if (rc)
        return rc;
    if (!info.causal || info.labels)
        return usage_error("which data?  --data FILE; rows are made up for language models only");
    const char *folder = getenv("TMPDIR");
    b->path = format("%s/peft-bench-XXXXXX.jsonl", folder ? folder : "/tmp");
    int file = mkstemps(b->path, 6);
    FILE *to = file < 0 ? NULL : fdopen(file, "w");
    if (!to)
        return runtime_error("%s cannot be written", b->path);
    int32_t rows = (args->batch ? args->batch : 4) * (args->accumulate ? args->accumulate : 1);
    uint32_t id = 1;
    for (int64_t i = 0; i < (int64_t)rows * args->steps; i++) {
        fputs("{\"input_ids\": [", to);
        for (int32_t k = 0; k < args->length; k++) {
            id = id * 1664525 + 1013904223;
            fprintf(to, "%s%u", k ? "," : "", (id >> 8) % (uint32_t)info.vocab);
        }
        fputs("]}\n", to);
    }
    args->data = b->path;
    args->max_len = args->length;
    return fclose(to) ? runtime_error("%s cannot be written", b->path) : 0;
}

/* The first step makes memory and reads the weights; it does not count. */
static int run_steps(struct bench *b)
{
    peft_step s = {.size = sizeof s};
    b->seconds = grow(NULL, (size_t)b->steps * sizeof *b->seconds);
    int32_t rc = peft_train_step(b->run.trainer, &s);
    if (!rc && b->run.args->roofline)
        rc = peft_trainer_profile(b->run.trainer, 1);
    for (int i = 0; i < b->steps && !rc && !interrupted(); i++) {
        rc = peft_train_step(b->run.trainer, &s);
        b->seconds[i] = s.seconds;
        b->tokens = s.tokens;
        b->trained = s.trained_tokens;
        progress(false, "step %d of %d", i + 1, b->steps);
    }
    progress_end();
    if (rc == PEFT_EEND)
        return usage_error("the data has fewer than %d steps", b->steps + 1);
    return rc ? library_error(rc, "cannot train") : interrupted() ? EXIT_INTERRUPTED : 0;
}

static int run_paced(struct bench *b)
{
    struct json j;
    peft_step s = {.size = sizeof s};
    int32_t rc = PEFT_OK;
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_int(&j, "planned_bytes", b->run.plan.peak);
    json_int(&j, "activation_bytes", b->run.plan.activations);
    json_num(&j, "flops_per_step", b->run.plan.flops_per_step);
    json_close(&j);
    fflush(stdout);
    for (int c; !rc && (c = getchar()) != EOF && !interrupted();) {
        if (c != '\n' || (rc = peft_train_step(b->run.trainer, &s)) != 0)
            continue;
        json_begin(&j, stdout);
        json_open(&j, NULL, '{');
        json_int(&j, "step", s.step);
        json_num(&j, "loss", s.loss);
        json_int(&j, "tokens", s.tokens);
        json_int(&j, "trained_tokens", s.trained_tokens);
        json_num(&j, "seconds", s.seconds);
        json_int(&j, "rss_bytes", memory_resident());
        json_close(&j);
        fflush(stdout);
    }
    return rc && rc != PEFT_EEND ? library_error(rc, "cannot train") : 0;
}

static void collect(struct bench *b)
{
    peft_work w = {.size = sizeof w};
    while (!peft_trainer_work(b->run.trainer, b->n_work, &w)) {
        b->work = grow(b->work, (size_t)(b->n_work + 1) * sizeof *b->work);
        b->work[b->n_work++] = w;
        b->flops += w.flops / b->steps;
        b->bound += bound_of(b, &w) / b->steps;
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(struct bench *b)
{
    qsort(b->seconds, (size_t)b->steps, sizeof *b->seconds, by_value);
    return (b->seconds[(b->steps - 1) / 2] + b->seconds[b->steps / 2]) / 2;
}

/* ------------------------------------------------------------------ output */

static void work_json(const struct bench *b, struct json *j)
{
    json_open(j, "work", '[');
    for (int i = 0; i < b->n_work; i++) {
        const peft_work *w = &b->work[i];
        double bound = bound_of(b, w);
        json_open(j, NULL, '{');
        json_text(j, "name", w->name);
        json_text(j, "direction", w->backward ? "back" : "forward");
        json_text(j, "type", w->type);
        json_int(j, "inputs", w->inputs);
        json_int(j, "outputs", w->outputs);
        json_num(j, "calls", (double)w->calls / b->steps);
        json_num(j, "rows", (double)w->rows / b->steps);
        json_num(j, "seconds", w->seconds / b->steps);
        json_num(j, "flops", w->flops / b->steps);
        json_num(j, "bytes", w->bytes / b->steps);
        json_num(j, "gflops", w->flops / w->seconds / 1e9);
        json_num(j, "gbytes", w->bytes / w->seconds / 1e9);
        json_num(j, "bound_seconds", bound / b->steps);
        json_num(j, "ratio", bound / w->seconds);
        json_close(j);
    }
    json_close(j);
}

static void bench_json(struct bench *b)
{
    struct json j;
    double middle = median(b);
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_text(&j, "model", b->run.info.name);
    json_text(&j, "types", b->run.info.types);
    json_text(&j, "method", b->run.method);
    json_text(&j, "cpu", b->run.sys.cpu);
    json_int(&j, "threads", b->run.threads);
    json_int(&j, "steps", b->steps);
    json_int(&j, "tokens_per_step", b->tokens);
    json_int(&j, "trained_tokens_per_step", b->trained);
    json_num(&j, "seconds_per_step", middle);
    json_num(&j, "tokens_per_second", (double)b->tokens / middle);
    json_num(&j, "best_tokens_per_second", (double)b->tokens / b->seconds[0]);
    json_num(&j, "planned_flops_per_step", b->run.plan.flops_per_step);
    json_int(&j, "peak_rss_bytes", memory_peak());
    if (b->run.args->roofline) {
        json_open(&j, "peaks", '{');
        json_text(&j, "kernels", b->peaks.kernels);
        json_num(&j, "gflops", b->peaks.gflops);
        json_text(&j, "kernels_bf16", b->peaks.kernels_bf16);
        json_num(&j, "gflops_bf16", b->peaks.gflops_bf16);
        json_text(&j, "blas", b->run.sys.blas);
        json_num(&j, "gflops_blas", b->peaks.gflops_blas);
        json_num(&j, "gbytes", b->peaks.gbytes);
        json_close(&j);
        json_num(&j, "flops_per_step", b->flops);
        json_num(&j, "bound_seconds_per_step", b->bound);
        json_num(&j, "share_of_bound", b->bound / middle);
        json_num(&j, "share_of_peak", b->flops / middle / peak_of(b, false));
        json_num(&j, "share_of_blas", b->flops / middle / 1e9 / b->peaks.gflops_blas);
        work_json(b, &j);
    }
    json_close(&j);
}

/* Kinds of less than a share of the time are one row. */
static void work_table(const struct bench *b)
{
    static const double least = 0.004;
    double all = 0;
    peft_work rest = {.name = "others"};
    for (int i = 0; i < b->n_work; i++)
        all += b->work[i].seconds;
    table_head(8, (const char *const[]){"work", "weight", ">calls", ">ms", ">share", ">GFLOP/s",
                                        ">GB/s", ">of bound"});
    for (int i = 0; i <= b->n_work; i++) {
        const peft_work *w = i < b->n_work ? &b->work[i] : &rest;
        double bound = bound_of(b, w);
        if (i < b->n_work && w->seconds < least * all) {
            rest.calls += w->calls;
            rest.seconds += w->seconds;
            rest.flops += w->flops;
            rest.bytes += w->bytes;
            continue;
        }
        if (!w->calls)
            break;
        char *cell[8] = {
            format("%s%s", w->name, w->backward ? ", back" : ""),
            w->inputs ? format("%lld > %lld %s", (long long)w->inputs, (long long)w->outputs,
                               w->type)
                  : format("%s", ""),
            format("%.0f", (double)w->calls / b->steps),
            format("%.2f", 1e3 * w->seconds / b->steps), format("%.1f %%", 100 * w->seconds / all),
            w->flops > 0 ? format("%.1f", w->flops / w->seconds / 1e9) : format("%s", ""),
            w->bytes > 0 ? format("%.1f", w->bytes / w->seconds / 1e9) : format("%s", ""),
            bound > 0 ? format("%.2f", bound / w->seconds) : format("%s", "")};
        table_row((const char *const *)cell);
        for (int k = 0; k < 8; k++)
            free(cell[k]);
    }
    table_end(stdout);
}

static void bench_table(struct bench *b)
{
    const peft_peaks *p = &b->peaks;
    double middle = median(b), best = b->seconds[0];
    printf("%s (%s), method %s, %d threads of %s\n", b->run.info.name, b->run.info.types,
           b->run.method, b->run.threads, b->run.sys.cpu);
    if (b->run.args->roofline) {
        printf("limits: %.0f GFLOP/s (%s tiles), %.0f by %s, ", p->gflops, p->kernels,
               p->gflops_blas, b->run.sys.blas);
        if (p->gflops_bf16 > 0)
            printf("%.0f in bfloat16 (%s), ", p->gflops_bf16, p->kernels_bf16);
        printf("%.1f GB/s\n\n", p->gbytes);
        work_table(b);
        printf("\n");
    }
    printf("%d steps of %lld tokens: median %.1f ms, %.0f tokens/s; best %.0f tokens/s\n", b->steps,
           (long long)b->tokens, 1e3 * middle, (double)b->tokens / middle,
           (double)b->tokens / best);
    if (b->run.args->roofline)
        printf("%.1f GFLOP a step at %.0f GFLOP/s: %.0f %% of the float32 peak, %.0f %% of BLAS "
               "alone; all bounds together %.1f ms, %.0f %% of the time\n", b->flops / 1e9,
               b->flops / middle / 1e9, 100 * b->flops / middle / peak_of(b, false),
               100 * b->flops / middle / 1e9 / p->gflops_blas, 1e3 * b->bound,
               100 * b->bound / middle);
}

int run_bench(const struct args *given)
{
    struct args args = *given;
    struct bench b = {.run = {.args = &args}, .steps = args.steps ? args.steps : 4};
    int rc = 0;
    args.steps = b.steps + 1;
    args.length = args.length ? args.length : 256;
    interrupt_catch(NULL);
    if (!args.data)
        rc = make_data(&b, &args);
    if (!rc)
        rc = run_setup(&b.run);
    b.peaks.size = sizeof b.peaks;
    if (!rc && args.roofline && peft_model_peaks(b.run.model, &b.peaks))
        rc = library_error(PEFT_ENOMEM, "cannot measure the machine");
    if (!rc)
        rc = args.paced ? run_paced(&b) : run_steps(&b);
    if (!rc && !args.paced) {
        collect(&b);
        if (args.json)
            bench_json(&b);
        else
            bench_table(&b);
    }
    interrupt_release();
    if (b.path)
        unlink(b.path);
    free(b.path);
    free(b.seconds);
    free(b.work);
    run_release(&b.run);
    return rc;
}
