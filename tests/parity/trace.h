/* Ten training steps as PEFT made them: a trace has loss and grad_norm of each,
 * and its rows, the rate (0.01) and accumulation where they are not the usual ones. */
#ifndef PARITY_TRACE_H
#define PARITY_TRACE_H

#include "golden.h"

#define TRACES "tests/golden/traces/"

static const char *trace_rows(const json *trace)
{
    const json *rows = json_get(trace, "rows");
    const char *path = rows ? at("%s/trace.jsonl", test_dir) : TRACES "rows.jsonl";
    struct buf b;
    if (!rows) return path;
    FILE *f = fopen(path, "w");
    buf_init(&b, &test_host.mem);
    for (const json *j = json_first(rows); j; j = json_next(j)) {
        json_write(&b, j);
        buf_putc(&b, '\n');
    }
    fwrite(b.data, 1, (size_t)b.n, f);
    fclose(f);
    buf_free(&b);
    return path;
}

/* accumulate 0: as the trace says. */
static peft_trainer *trace_trainer(peft_model *m, const json *trace, int32_t accumulate, float clip,
                                   peft_dataset **d)
{
    int32_t parts = accumulate ? accumulate : (int32_t)json_number(json_get(trace, "accum"), 1);
    peft_train_opts o = { .size = sizeof(o), .weight_decay = 0.01f, .clip = clip,
                          .lr = (float)json_number(json_get(trace, "lr"), 0.01),
                          .schedule = "constant", .batch = 4 / parts, .accumulate = parts,
                          .steps = 10, .no_shuffle = 1 };
    peft_trainer *t = NULL;
    CHECK_EQ(peft_dataset_load(m, trace_rows(trace), NULL, d), PEFT_OK);
    if (*d) CHECK_EQ(peft_trainer_new(m, *d, &o, &t), PEFT_OK);
    return t;
}

/* Trains as the trace does; returns the largest relative difference of a loss. */
static double trace_follow(peft_model *m, const json *trace, int32_t accumulate)
{
    peft_dataset *d = NULL;
    peft_trainer *t = trace_trainer(m, trace, accumulate, 1, &d);
    peft_step s = { .size = sizeof(s) };
    double worst = 0;
    for (int i = 0; i < 10 && t; i++) {
        CHECK_EQ(peft_train_step(t, &s), PEFT_OK);
        CHECK_NEAR(rel(s.loss, number_at(trace, "loss", i)), 0, 2e-5);
        CHECK_NEAR(rel(s.grad_norm, number_at(trace, "grad_norm", i)), 0, 1e-4);
        worst = fmax(worst, rel(s.loss, number_at(trace, "loss", i)));
    }
    peft_trainer_free(t);
    peft_dataset_free(d);
    return worst;
}

#endif
