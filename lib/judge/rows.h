/* Rows of a data set through the public functions, as the checks read them. */
#ifndef JUDGE_ROWS_H
#define JUDGE_ROWS_H

#include "judge/judge.h"

/* Where texts of rows are made. */
struct row_text {
    const peft_model *model;
    int has_tokenizer;
    struct buf text;
};
int row_text_init(struct row_text *t, const peft_model *model, struct mem *mem);
void row_text_free(struct row_text *t);
/* t->text becomes the tokens as text, or the bytes of the ids. */
int row_decode(struct row_text *t, const int32_t *ids, int64_t n);
/* The same of a row, with white space folded: equal rows have equal ones.  1 = done,
 * 0 = the row has no tokens, as pictures have. */
int row_key(struct row_text *t, const peft_dataset *data, int64_t i);
/* Row i; what there is of it is ours to read as long as the data set lives. */
static inline int row_get(const peft_dataset *data, int64_t i, peft_row *out)
{
    *out = (peft_row){ .size = sizeof(*out) };
    int rc = peft_dataset_row(data, i, out);
    return rc ? kit_failed(rc) : PEFT_OK;
}
static inline int stats_get(const peft_dataset *data, peft_dataset_stats *out)
{
    *out = (peft_dataset_stats){ .size = sizeof(*out) };
    int rc = peft_dataset_info(data, out);
    return rc ? kit_failed(rc) : PEFT_OK;
}
static inline int info_get(const peft_model *model, peft_info *out)
{
    *out = (peft_info){ .size = sizeof(*out) };
    int rc = peft_model_info(model, out);
    return rc ? kit_failed(rc) : PEFT_OK;
}

#endif
