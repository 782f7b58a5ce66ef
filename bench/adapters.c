/* What several adapters on one model cost:
 *
 *     bench_adapters MODEL FOLDER [RESIDENT]
 *
 * Saves one LoRA adapter of rank 16 on all linear layers into FOLDER and loads it
 * RESIDENT times.  Prints, as one JSON object: microseconds of a switch; the first
 * token after one against another (medians); bytes resident and seconds to load of
 * each adapter against the bytes of its file; and how many times as many tokens a
 * second 8 requests have at once as one after the other, with one adapter and with 8. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

enum { ANSWERS = 8, TOKENS = 32, SWITCHES = 25, PROMPT = 24 };

static void need(int64_t rc)
{
    if (rc >= 0) return;
    fprintf(stderr, "bench_adapters: %s\n", peft_errmsg());
    exit(1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, size_t n)
{
    qsort(x, n, sizeof(*x), by_value);
    return x[n / 2];
}

static const char *name_of(int i)
{
    static char ring[ANSWERS][16];
    char *s = ring[i % ANSWERS];
    snprintf(s, sizeof(ring[0]), "a%d", i);
    return s;
}

/* When each token comes, and a switch after every second one. */
struct watch { peft_model *model; int at; double begin, plain[SWITCHES], after[SWITCHES], call; };

static int32_t tick(void *ctx, const char *piece, size_t n)
{
    struct watch *w = ctx;
    double now = os_seconds();
    int k = w->at / 2;
    (void)piece;
    (void)n;
    if (w->at > 0 && k < SWITCHES) *(w->at % 2 ? &w->after[k] : &w->plain[k]) = now - w->begin;
    if (w->at++ % 2 == 0) {
        double from = os_seconds();
        need(peft_adapter_disable(w->model, name_of(k % 2)));
        need(peft_adapter_enable(w->model, name_of(1 - k % 2)));
        w->call = fmax(w->call, os_seconds() - from);
    }
    w->begin = now;
    return w->at > 2 * SWITCHES;
}

static void switches(peft_model *m)
{
    static struct watch w;
    peft_message ask = { "user", "Tell me a long story about a small model." };
    peft_generate_opts o = { .size = sizeof(o), .max_tokens = 8 * SWITCHES, .on_text = tick,
                             .ctx = &w, .temperature = 1, .seed = 3 };
    w.model = m;
    need(peft_adapter_enable(m, name_of(0)));
    need(peft_generate(m, &ask, 1, &o, NULL));
    double after = median(w.after, SWITCHES), plain = median(w.plain + 1, SWITCHES - 1);
    printf("\"switch_us\": %.1f, \"token_ms\": %.3f, \"token_after_switch_ms\": %.3f, ",
           w.call * 1e6, plain * 1e3, after * 1e3);
    for (int i = 0; i < 2; i++) need(peft_adapter_disable(m, name_of(i)));
}

/* Seconds of the answers, and their tokens. */
static double answer_all(peft_model *m, int many, int at_once, int64_t *tokens)
{
    int32_t ids[ANSWERS][PROMPT], to[TOKENS];
    peft_generated out[ANSWERS];
    peft_request r[ANSWERS];
    peft_generate_opts o = { .size = sizeof(o), .max_tokens = TOKENS };
    for (int i = 0; i < ANSWERS; i++) {
        for (int k = 0; k < PROMPT; k++) ids[i][k] = 300 + (i * 131 + k * 17) % 20000;
        out[i].size = sizeof(out[i]);
        r[i] = (peft_request){ .size = sizeof(r[i]), .ids = ids[i], .n = PROMPT, .opts = &o,
                               .adapter = name_of(many ? i : 0), .to = to, .out = &out[i] };
    }
    double begin = os_seconds();
    if (at_once) need(peft_generate_batch(m, r, ANSWERS, ANSWERS));
    for (int i = 0; i < ANSWERS && !at_once; i++) need(peft_generate_batch(m, &r[i], 1, 1));
    double seconds = os_seconds() - begin;
    for (int i = 0; i < ANSWERS; i++) *tokens += out[i].tokens;
    return seconds;
}

static void throughput(peft_model *m)
{
    for (int many = 0; many < 2; many++) {
        double best = 0;
        for (int round = 0; round < 3; round++) {
            int64_t single = 0, together = 0;
            double one = answer_all(m, many, 0, &single), all = answer_all(m, many, 1, &together);
            best = fmax(best, one / (double)single / (all / (double)together));
        }
        printf("\"%s\": %.2f, ", many ? "at_once_8_adapters" : "at_once_1_adapter", best);
    }
}

int main(int argc, char **argv)
{
    peft_model *m = NULL;
    peft_info before = { .size = sizeof(before) }, after = before;
    peft_adapter_opts o = { .size = sizeof(o), .rank = 16 };
    int n = argc > 3 ? atoi(argv[3]) : 100;
    if (argc < 3 || n < ANSWERS) return 2;
    need(peft_model_load(argv[1], NULL, &m));
    need(peft_model_info(m, &before));
    need(peft_adapter_add(m, "a0", &o));
    need(peft_model_info(m, &after));
    need(peft_adapter_save(m, "a0", argv[2]));
    need(peft_adapter_remove(m, "a0"));
    int64_t file = (after.params_total - before.params_total) * 4, start = os_rss();
    double begin = os_seconds();
    for (int i = 0; i < n; i++) {
        need(peft_adapter_load(m, name_of(i), argv[2]));
        need(peft_adapter_disable(m, name_of(i)));
    }
    printf("{\"adapters\": %d, \"adapter_bytes\": %lld, \"resident_bytes_each\": %lld, "
           "\"load_ms_each\": %.2f, ", n, (long long)file, (long long)(os_rss() - start) / n,
           (os_seconds() - begin) * 1e3 / n);
    switches(m);
    throughput(m);
    printf("\"threads\": %d}\n", pool_threads(model_of(m)->pool));
    peft_model_free(m);
    return 0;
}
