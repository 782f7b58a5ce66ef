/* Added rows: what texts and pictures share. */
#ifndef PREP_AUGMENT_H
#define PREP_AUGMENT_H

#include "prep/edit.h"
#include "prep/keys.h"

enum { BACK_TRANSLATION = EDITS, AUGMENT_COPIES = 32 };

struct augment_run {
    struct host host;
    peft_augment_opts o;
    peft_source_opts source;
    const char *path;
    struct thesaurus thesaurus;
    struct editor editor;
    int methods[PEFT_AUGMENTS], n_methods;
    struct keys eval;               /* texts or pictures of evaluation */
    struct writer *out;
    struct buf waiting;             /* rows that are to be translated, and those behind them */
    int32_t n_waiting;              /* texts to translate */
    peft_augmented result;
};

/* A row says by its own columns that it is no training row, or a copy. */
bool is_guarded(const json *row);
/* The random numbers of a copy of a row. */
struct draws augment_draws(const struct augment_run *a, int64_t row, int64_t copy);
/* Whether the row is among those that get copies. */
bool is_chosen(const struct augment_run *a, int64_t row);

/* --- translate.c: texts through one model, and another one back; *out in the arena */
int translate_texts(const struct augment_run *a, const char *const *texts, int32_t n,
                    struct arena *arena, const char **out);
/* --- pictured.c */
int augment_pictures(struct augment_run *a, const char *out);

#endif
