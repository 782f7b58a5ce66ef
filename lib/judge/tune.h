/* A search for settings: its space, its trials, and their file. */
#ifndef JUDGE_TUNE_H
#define JUDGE_TUNE_H

#include "judge/auto.h"

/* --- space.c: what may vary.  A setting is kept as its text, which is rounded so that the
 * text makes the same run again. */
enum { CHOICES = 16, SETTING = 64 };
struct knob {
    const char *name;
    enum { KNOB_REAL, KNOB_WHOLE, KNOB_TEXT } kind;
    int log;                        /* ranges are even in the logarithm */
    double least, most, usual;
};
struct axis_of {                    /* of a space */
    const struct knob *knob;
    int n;                          /* choices; 0 = a range */
    char choice[CHOICES][SETTING];
    double low, high;
    double usual;
};
struct space { int n; struct axis_of axis[PEFT_KNOBS]; };
/* `text` as peft_tune_opts.search has it. */
int space_parse(const char *text, struct space *out);
/* Settings of a trial into its names and values. */
void space_draw(const struct space *s, uint64_t seed, int64_t trial, peft_trial *out);
/* A setting, or `absent`. */
double trial_number(const peft_trial *t, const char *name, double absent);
const char *trial_text(const peft_trial *t, const char *name);

/* --- trials.c: trials.jsonl, a line that tells the search and one for each run */
struct trials {
    struct host *host;
    char *path;
    struct buf text;                /* the whole file */
    peft_trial *run;                /* [n] those that ended */
    int64_t n;
};
/* Reads the file, if there is one, whose first line must be `head`. */
int trials_open(struct trials *t, const char *dir, const char *head, const struct space *s);
int trials_add(struct trials *t, const peft_trial *run);
/* A run that ended by itself, not by the budget; or NULL. */
const peft_trial *trials_find(const struct trials *t, int32_t trial, int32_t rung);
void trials_free(struct trials *t);

#endif
