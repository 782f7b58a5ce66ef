/* Answers a question, with an adapter if one is named; the text is shown as
 * it comes.
 *
 *   ./generate model.gguf "What is the capital of France?" [adapter] */
#include <peft.h>
#include <stdio.h>

static int32_t show(void *ctx, const char *piece, size_t n)
{
    (void)ctx;
    fwrite(piece, 1, n, stdout);
    fflush(stdout);
    return 0;  /* anything else would stop the answer */
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: generate MODEL QUESTION [ADAPTER_FOLDER]\n");
        return 2;
    }
    peft_model *model = NULL;
    peft_message question = {"user", argv[2]};
    peft_generate_opts opts = {.size = sizeof opts, .max_tokens = 128, .on_text = show};
    peft_generated g = {.size = sizeof g};

    int32_t rc = peft_model_load(argv[1], NULL, &model);
    if (!rc && argc > 3)
        rc = peft_adapter_load(model, "default", argv[3]);
    if (!rc)
        rc = peft_generate(model, &question, 1, &opts, &g);
    if (!rc)
        printf("\n(%d tokens, %.1f a second)\n", g.tokens, g.tokens / g.seconds);
    else
        fprintf(stderr, "%s: %s\n", peft_errname(rc), peft_errmsg());
    peft_model_free(model);
    return rc != 0;
}
