/* Reading golden references: small helpers over the library's own readers. */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/api.h"
#include "../test.h"

static struct host test_host;
static char test_dir[64];

static void golden_begin(void)
{
    host_init(&test_host, NULL);
    snprintf(test_dir, sizeof(test_dir), "/tmp/libpeft-test-XXXXXX");
    if (!mkdtemp(test_dir)) exit(1);
}
static void golden_end(void)
{
    char cmd[96];
    snprintf(cmd, sizeof(cmd), "rm -rf %s", test_dir);
    if (system(cmd)) exit(1);
}
static const char *at(const char *fmt, ...)
{
    static char ring[8][256];
    static int next;
    char *s = ring[next++ % 8];
    va_list v;
    va_start(v, fmt);
    vsnprintf(s, 256, fmt, v);
    va_end(v);
    return s;
}
static json *read_json_file(const char *path)
{
    struct file_view v;
    json *j = NULL;
    if (file_open_view(&test_host, path, false, &v)) return NULL;
    json_parse((const char *)v.data, v.n, path, &j);
    file_close_view(&test_host, &v);
    return j;
}
static double number_at(const json *j, const char *path, int i)
{
    const json *e = json_first(json_get(j, path));
    while (e && i-- > 0) e = json_next(e);
    return json_number(e, NAN);
}
static struct store *open_st(const char *path)
{
    struct store *s = NULL;
    CHECK_EQ(store_open_safetensors(&test_host, path, true, &s), PEFT_OK);
    return s;
}
static const float *floats(const struct store *s, const char *name, int64_t *n)
{
    const struct store_tensor *t = store_find(s, name);
    if (n) *n = t ? t->count : 0;
    return t ? t->data : NULL;
}
static peft_model *load_model(const char *path)
{
    peft_load_opts o = { .size = sizeof(o), .threads = 2 };
    peft_model *m = NULL;
    CHECK_EQ(peft_model_load(path, &o, &m), PEFT_OK);
    return m;
}
/* Ten AdamW steps as the golden runs made them. */
static peft_trainer *golden_trainer(peft_model *m, const char *file, double lr, int32_t batch,
                                    const char *objective, peft_dataset **d)
{
    peft_train_opts o = { .size = sizeof(o), .lr = (float)lr, .schedule = "constant", .clip = -1,
                          .weight_decay = 0.01f, .batch = batch, .steps = 10, .no_shuffle = 1,
                          .objective = objective };
    peft_trainer *t = NULL;
    CHECK_EQ(peft_dataset_load(m, file, NULL, d), PEFT_OK);
    if (*d) CHECK_EQ(peft_trainer_new(m, *d, &o, &t), PEFT_OK);
    return t;
}
/* Worst distance of the last token's logits, or of a head's, from those of PEFT. */
static inline double last_apart(peft_model *m, const json *expect)
{
    static float got[64 * 128];
    int32_t ids[64], n = 0;
    int64_t i = 0;
    double worst = 0;
    peft_info info = { .size = sizeof(info) };
    const json *want = json_get(expect, "logits_last");
    for (const json *j = json_first(json_get(expect, "ids")); j; j = json_next(j))
        ids[n++] = (int32_t)json_number(j, -1);
    CHECK_EQ(peft_model_info(m, &info), PEFT_OK);
    CHECK_EQ(peft_forward(m, ids, n, got), PEFT_OK);
    if (!want) want = json_get(expect, "logits");
    if (want && json_kind(json_first(want)) == JSON_ARRAY) want = json_first(want);
    const float *last = got + (info.labels ? 0 : (int64_t)(n - 1) * info.vocab);
    for (const json *j = json_first(want); j; j = json_next(j), i++)
        worst = fmax(worst, fabs(last[i] - json_number(j, NAN)));
    CHECK_EQ(i, info.labels ? info.labels : info.vocab);
    return i ? worst : 1e9;
}
static double rel(double a, double b) { return fabs(a - b) / fmax(1e-12, fabs(b)); }

#endif
