/* The speed of reading a prompt and of answering, as JSON:
 *
 *     bench_generate MODEL THREADS PROMPT TOKENS ROUNDS [COMPUTE]
 *
 * Greedy, from PROMPT arbitrary ids to TOKENS new ones; the best of the rounds counts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "peft.h"

static void need(int64_t rc)
{
    if (rc >= 0) return;
    fprintf(stderr, "bench_generate: %s\n", peft_errmsg());
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc < 6) return 2;
    int32_t n = atoi(argv[3]), tokens = atoi(argv[4]), *ids = malloc((size_t)n * 4);
    peft_load_opts load = { .size = sizeof(load), .threads = atoi(argv[2]),
                            .compute = argc > 6 ? argv[6] : NULL };
    peft_generate_opts o = { .size = sizeof(o), .max_tokens = tokens };
    peft_model *m = NULL;
    double prompt = 0, decode = 0;
    need(peft_model_load(argv[1], &load, &m));
    for (int round = 0; round < atoi(argv[5]); round++) {
        peft_generated out = { .size = sizeof(out) };
        for (int32_t k = 0; k < n; k++) ids[k] = 300 + (round * 131 + k * 17) % 20000;
        need(peft_generate_ids(m, ids, n, &o, NULL, 0, &out));
        prompt = fmax(prompt, n / out.prompt_seconds);
        if (out.tokens > 1)
            decode = fmax(decode, (out.tokens - 1) / (out.seconds - out.prompt_seconds));
    }
    printf("{\"prompt_tokens_per_second\": %.1f, \"tokens_per_second\": %.1f}\n", prompt, decode);
    peft_model_free(m);
    free(ids);
    return 0;
}
