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
static double rel(double a, double b) { return fabs(a - b) / fmax(1e-12, fabs(b)); }

#endif
