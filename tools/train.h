/* What the parts of `peft train` and `peft plan` share.
 *
 * setup.c makes a run from the options, loop.c trains it, watch.c looks at it,
 * history.c keeps and logs its figures, folder.c owns the files in --out, report.c
 * and chart.c draw the report. */
#ifndef TRAIN_H
#define TRAIN_H

#include "cli.h"

struct step_row {
    int64_t step;
    double epoch, loss, smooth, grad_norm, lr, speed;
    int64_t seen, rss;
};
struct eval_row {
    int64_t step;
    double epoch, loss;
    int n;
    peft_metric metric[PEFT_METRICS];
};
struct history {
    struct step_row *step;
    struct eval_row *eval;
    int64_t n_steps, n_evals;
};

/* What a run was made of: one line of training_args.json each.  `loose` ones
 * may differ when a run is resumed, since the result has the same bits. */
struct setting {
    const char *key;
    char *value;               /* as JSON */
    bool loose;
};
struct settings {
    struct setting item[96];
    int n;
};

struct sample {
    char *prompt, *before, *after;
};

struct run {
    const struct args *args;
    const char *method;
    peft_model *model;
    peft_dataset *data, *eval;
    peft_dataset *whole;       /* what both are parts of, where rows were set aside to choose by */
    peft_trainer *trainer;
    peft_info info;
    peft_dataset_stats stats, eval_stats;
    peft_plan plan;
    peft_cost cost;
    struct args chosen;        /* with --auto: the arguments and what was chosen */
    peft_choice choice;        /* n = 0: nothing was */
    int64_t replayed;          /* rows of --replay among the data */
    peft_dataset *probe;       /* that forgetting is measured on, or NULL */
    peft_comparison drift;     /* tokens = 0: not measured */
    const char *adapter;       /* whose files are the result */
    char *aside;               /* of evaluation data that was set aside; or NULL */
    bool plans;                /* nothing will be trained */
    bool checks;               /* rows are looked through before anything runs */
    peft_checked checked;
    peft_system sys;
    int32_t threads;
    double predicted_seconds;  /* of all steps */
    int64_t predicted_memory;  /* the plan's peak, evaluations included */
    int32_t base_tensors;      /* tensors of the model without its adapter */
    bool base_trains;          /* an adapter, and weights of its base too */

    struct settings settings;
    struct history history;
    struct sample *sample;
    int n_samples;
    FILE *metrics;
    peft_watch *watch;
    int32_t told;              /* of its notices */
    bool keep_best;
    const char *ended;         /* by what, before all steps were made; NULL = not */
    bool broken;               /* it was no use by then */
    int64_t kept_step;         /* whose weights are the result; 0 = the last one's */

    double seconds;            /* of this process's training loop */
    int64_t first_step;        /* resumed after this step */
};

/* setup.c */
int run_setup(struct run *run);
peft_adapter_opts adapter_opts(const struct args *args);
int train_opts(const struct args *args, peft_train_opts *opts);
bool is_adapter(const char *method);      /* a row of the library's table of methods */
void run_release(struct run *run);
void settings_make(struct run *run);

/* before.c */
int before_check(struct run *run);        /* refuses data that is of no use */
void before_notes(const struct run *run);
/* The row that --show-row names, else the first, with what trains marked; NULL = there is none. */
char *before_row(const struct run *run, FILE *to);
int before_show(const struct run *run, FILE *to);
void before_json(const struct run *run, struct json *j);

/* auto.c */
/* Sets a share of the rows aside for evaluation; 0 = as many as are usual, if any. */
int set_aside(struct run *run, double share);
bool auto_wanted(const struct args *args);
int auto_choose(struct run *run);         /* run->args has what was chosen then */
void auto_show(const struct run *run);
int auto_write(const struct run *run);    /* auto.json in --out */
void auto_json(const struct run *run, struct json *j, const char *key);

/* forget.c */
int forget_mix(struct run *run);
int forget_begin(struct run *run);
void forget_opts(const struct run *run, peft_train_opts *opts);
int forget_finish(struct run *run);       /* measures, and keeps to --drift-bound */

/* receipt.c */
int receipt_write(const struct run *run);
/* --continue: what its receipt says joins *args, which points into *receipt then. */
int continue_take(struct args *args, peft_receipt **receipt);

/* The model, its head, and the data alone. */
int run_open(struct run *run);

/* history.c */
void history_add_step(struct history *h, const struct step_row *row);
void history_add_eval(struct history *h, const struct eval_row *row);
void write_step_row(FILE *to, const struct step_row *row);
void write_eval_row(FILE *to, const struct eval_row *row);
/* Reads the rows up to `last` and drops the others from the file. */
int history_resume(struct history *h, const char *path, int64_t last);
void history_free(struct history *h);
int64_t memory_resident(void);
int64_t memory_peak(void);

/* folder.c */
/* The value that a file of ours has for a key, or NULL. */
char *stored_value(const char *text, const char *key);
/* A number as it stands there. */
char *stored_number(double v);
char *folder_path(const struct run *run, const char *name);
/* Checks what lies in --out and makes it ready; with --resume *step is that
 * of the newest checkpoint, else 0. */
int folder_open(struct run *run, int64_t *step);
int folder_settings_check(const struct run *run);
/* How the run in --out fitted its memory limit, if it was the present one; NULL = it had none. */
char *folder_manner(const struct run *run);
int folder_settings_write(const struct run *run);
int folder_checkpoint(const struct run *run, int64_t step);
int folder_save_result(const struct run *run);
/* The weights of the best evaluation: back returns -1 when they are not there. */
int folder_best_save(const struct run *run, int64_t step);
int folder_best_back(const struct run *run, int64_t step);
void folder_best_drop(const struct run *run);
int make_folders(const char *path);
/* A file of --out that appears whole; close returns an exit code. */
FILE *folder_create(const char *path);
int folder_close(FILE *file, const char *path);

/* watch.c: peft_watch, of a run that goes on after `resumed`. */
int watch_begin(struct run *run, int64_t resumed);
int watch_replay(struct run *run);
peft_watched watch_state(const struct run *run);
void watch_tell(struct run *run);
void watch_broken(struct run *run, int64_t step);
int watch_eval(struct run *run, int64_t step, const peft_evaluation *e);
/* Why the run ended early, and which weights are the result; NULL = there is nothing to
 * say.  The caller frees them. */
char *ended_words(const struct run *run);
char *kept_words(const struct run *run);
/* Puts back the weights that are kept. */
int watch_finish(struct run *run);

/* loop.c */
int run_loop(struct run *run);
/* The evaluation of the weights that are the result; NULL = there is none. */
const struct eval_row *result_eval(const struct run *run);

/* report.c */
int report_write(const struct run *run);
extern const char page_style[];            /* of a page with light and dark modes */

/* tune_report.c: n runs of trials. */
void tune_report(FILE *to, const struct run *run, const peft_tuned *r, const peft_trial *trial,
                 int n, const char *command);

/* chart.c */
struct series {
    const char *name;          /* in the legend; NULL = none */
    const char *style;         /* CSS class */
    const double *x, *y;
    int64_t n;
    bool dots;
};
struct chart {
    const char *title, *x_label;
    const struct series *series;
    int n_series;
    bool from_zero;
};
void html_text(FILE *to, const char *s);
void chart_draw(FILE *to, const struct chart *chart);
/* Bars: count[i] of values in low + i * width. */
void chart_bars(FILE *to, const char *title, const char *x_label, const int64_t *count, int n,
                double low, double width);

#endif
