/* The figures of a run: kept for the report, and logged to metrics.jsonl with
 * the names of Hugging Face's trainer_state.json, a row at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "train.h"

void history_add_step(struct history *h, const struct step_row *row)
{
    /* Room doubles at each power of two. */
    if (!(h->n_steps & (h->n_steps - 1)))
        h->step = grow(h->step, (size_t)(h->n_steps ? 2 * h->n_steps : 1) * sizeof *h->step);
    h->step[h->n_steps++] = *row;
}

void history_add_eval(struct history *h, const struct eval_row *row)
{
    h->eval = grow(h->eval, (size_t)(h->n_evals + 1) * sizeof *h->eval);
    h->eval[h->n_evals++] = *row;
}

void history_free(struct history *h)
{
    free(h->step);
    free(h->eval);
}

/* Learning rates are float32, whose seven digits are what a row shows. */
static double float_digits(double v)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%.7g", v);
    return strtod(digits, NULL);
}

void write_step_row(FILE *to, const struct step_row *row)
{
    struct json j;
    json_begin(&j, to);
    json_open(&j, NULL, '{');
    json_int(&j, "step", row->step);
    json_num(&j, "epoch", row->epoch);
    json_num(&j, "loss", row->loss);
    json_num(&j, "loss_smooth", float_digits(row->smooth));
    json_num(&j, "grad_norm", row->grad_norm);
    json_num(&j, "learning_rate", float_digits(row->lr));
    json_int(&j, "num_input_tokens_seen", row->seen);
    json_num(&j, "tokens_per_second", row->speed);
    json_int(&j, "rss_bytes", row->rss);
    json_close(&j);
    fflush(to);
}

void write_eval_row(FILE *to, const struct eval_row *row)
{
    struct json j;
    json_begin(&j, to);
    json_open(&j, NULL, '{');
    json_int(&j, "step", row->step);
    json_num(&j, "epoch", row->epoch);
    json_num(&j, "eval_loss", row->loss);
    for (int i = 0; i < row->n; i++) {
        char key[64];
        snprintf(key, sizeof key, "eval_%s", row->metric[i].name);
        json_num(&j, key, row->metric[i].value);
    }
    json_close(&j);
    fflush(to);
}

/* The number after "key" in a row that this file wrote; NaN for null. */
static double row_number(const char *line, const char *key)
{
    char quoted_key[64];
    snprintf(quoted_key, sizeof quoted_key, "\"%s\": ", key);
    const char *at = strstr(line, quoted_key);
    if (!at || !strncmp(at += strlen(quoted_key), "null", 4))
        return NAN;
    return strtod(at, NULL);
}

static void take_row(struct history *h, const char *line)
{
    const char *at = strstr(line, "\"eval_loss\": ");
    if (strstr(line, "\"finding\": "))
        return;
    if (at) {
        struct eval_row row = {.step = (int64_t)row_number(line, "step"),
                               .epoch = row_number(line, "epoch"),
                               .loss = row_number(line, "eval_loss")};
        while (row.n < PEFT_METRICS && (at = strstr(at + 1, "\"eval_")) != NULL) {
            int n = (int)strcspn(at + 1, "\"");
            char *key = format("%.*s", n, at + 1);
            row.metric[row.n].name = format("%s", key + strlen("eval_"));
            row.metric[row.n++].value = row_number(line, key);
            free(key);
        }
        history_add_eval(h, &row);
        return;
    }
    history_add_step(h, &(struct step_row){
        .step = (int64_t)row_number(line, "step"), .epoch = row_number(line, "epoch"),
        .loss = row_number(line, "loss"), .grad_norm = row_number(line, "grad_norm"),
        .lr = row_number(line, "learning_rate"), .speed = row_number(line, "tokens_per_second"),
        .seen = (int64_t)row_number(line, "num_input_tokens_seen"),
        .rss = (int64_t)row_number(line, "rss_bytes")});
}

int history_resume(struct history *h, const char *path, int64_t last)
{
    char *text = read_file(path, NULL);
    if (!text)
        return 0;
    FILE *kept = folder_create(path);
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = 0;
        double step = row_number(line, "step");
        if (!(step >= 0 && step <= (double)last))
            continue;
        take_row(h, line);
        if (kept)
            fprintf(kept, "%s\n", line);
    }
    free(text);
    return folder_close(kept, path);
}

/* ------------------------------------------------------------------ memory */

int64_t memory_peak(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u))
        return 0;
#ifdef __APPLE__
    return u.ru_maxrss;
#else
    return (int64_t)u.ru_maxrss * 1024;
#endif
}

int64_t memory_resident(void)
{
    long long pages, resident;
    FILE *f = fopen("/proc/self/statm", "r");
    int got = f ? fscanf(f, "%lld %lld", &pages, &resident) : 0;
    if (f)
        fclose(f);
    return got == 2 ? resident * sysconf(_SC_PAGESIZE) : memory_peak();
}
