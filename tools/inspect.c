/* peft doctor, inspect and tokenize: what is here, before anything trains. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"


/* ------------------------------------------------------------------ doctor */

static void doctor_json(const peft_system *s)
{
    struct json j;
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_int(&j, "version", peft_version());
    json_text(&j, "cpu", s->cpu);
    json_text(&j, "level", s->level);
    json_int(&j, "cores", s->cores);
    json_text(&j, "blas", s->blas);
    json_text(&j, "blas_core", s->blas_core);
    json_num(&j, "gflops", s->gflops);
    json_int(&j, "memory_total", s->memory_total);
    json_int(&j, "memory_available", s->memory_available);
    json_text(&j, "advice", s->advice);
    json_bool(&j, "ok", !*s->advice);
    json_close(&j);
}

int run_doctor(const struct args *args)
{
    peft_system s = {.size = sizeof s};
    int32_t rc = peft_system_info(&s);
    if (rc)
        return library_error(rc, "cannot look at this machine");
    if (args->json) {
        doctor_json(&s);
        return EXIT_OK;
    }
    char *speed = format("%.0f GFLOP/s a thread (sgemm)", s.gflops);
    char *cores = format("%d usable", s.cores);
    char *blas = format("%s%s%s", s.blas, *s.blas_core ? ", kernels for " : "", s.blas_core);
    char *memory = format("%s of %s available", show_bytes(s.memory_available),
                          show_bytes(s.memory_total));
    printf("processor  %s\ncores      %s\nkernels    %s\nBLAS       %s\nspeed      %s\n"
           "memory     %s\n",
           s.cpu, cores, s.level, blas, speed, memory);
    if (*s.advice)
        printf("%sadvice%s     %s\n", paint(stdout, YELLOW), paint(stdout, PLAIN), s.advice);
    else
        printf("%sall is well%s\n", paint(stdout, GREEN), paint(stdout, PLAIN));
    free(speed);
    free(cores);
    free(blas);
    free(memory);
    return EXIT_OK;
}

/* ----------------------------------------------------------------- inspect */

static void inspect_json(const peft_model *model, const peft_info *i, bool tensors)
{
    struct json j;
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_text(&j, "family", i->family);
    json_text(&j, "name", i->name);
    json_text(&j, "format", i->format);
    json_text(&j, "types", i->types);
    json_int(&j, "params", i->params);
    json_int(&j, "weight_bytes", i->weight_bytes);
    json_int(&j, "layers", i->layers);
    json_int(&j, "encoder_layers", i->encoder_layers);
    json_int(&j, "dim", i->dim);
    json_int(&j, "heads", i->heads);
    json_int(&j, "kv_heads", i->kv_heads);
    json_int(&j, "head_dim", i->head_dim);
    json_int(&j, "ff_dim", i->ff_dim);
    json_int(&j, "vocab", i->vocab);
    json_int(&j, "max_len", i->max_len);
    json_int(&j, "labels", i->labels);
    json_int(&j, "image_height", i->image_height);
    json_int(&j, "image_width", i->image_width);
    json_int(&j, "channels", i->channels);
    json_bool(&j, "causal", i->causal);
    json_bool(&j, "has_tokenizer", i->has_tokenizer);
    json_bool(&j, "has_chat_template", i->has_chat_template);
    json_int(&j, "bos", i->bos);
    json_int(&j, "eos", i->eos);
    json_int(&j, "pad", i->pad);
    json_int(&j, "n_tensors", i->n_tensors);
    if (tensors)
        json_open(&j, "tensors", '[');
    peft_param p = {.size = sizeof p};
    for (int32_t k = 0; tensors && k < i->n_tensors && !peft_model_param(model, k, &p); k++) {
        json_open(&j, NULL, '{');
        json_text(&j, "name", p.name);
        json_text(&j, "type", p.type);
        json_int(&j, "rows", p.rows);
        json_int(&j, "cols", p.cols);
        json_int(&j, "layer", p.layer);
        json_close(&j);
    }
    if (tensors)
        json_close(&j);
    json_close(&j);
}

static void inspect_table(const peft_model *model, const peft_info *i, bool tensors)
{
    printf("%s%s%s\n", paint(stdout, BOLD), i->name, paint(stdout, PLAIN));
    printf("family      %s, %s\n", i->family, i->encoder_layers ? "encoder and decoder"
           : i->causal ? "decoder" : "encoder");
    printf("stored      %s as %s: %s\n", show_bytes(i->weight_bytes), i->format, i->types);
    printf("parameters  %s in %d tensors\n", show_count(i->params), i->n_tensors);
    printf("layers      %d of width %d, feed-forward %d", i->layers, i->dim, i->ff_dim);
    if (i->encoder_layers)
        printf("; %d of them the encoder's", i->encoder_layers);
    putchar('\n');
    printf("attention   %d heads of %d, %d for keys and values\n", i->heads, i->head_dim,
           i->kv_heads);
    printf("positions   %s\n", show_count(i->max_len));
    if (i->channels)
        printf("pictures    %d x %d, %d channels\n", i->image_width, i->image_height, i->channels);
    else
        printf("vocabulary  %s tokens%s%s\n", show_count(i->vocab),
               i->has_tokenizer ? ", with tokenizer" : ", no tokenizer",
               i->has_chat_template ? " and chat template" : "");
    for (int32_t k = 0; k < i->labels; k++)
        printf("%s %s\n", k ? "           " : "classes    ", peft_label_name(model, k));
    if (!tensors)
        return;
    putchar('\n');
    table_head(3, (const char *const[]){"tensor", "type", ">shape"});
    peft_param p = {.size = sizeof p};
    for (int32_t k = 0; k < i->n_tensors && !peft_model_param(model, k, &p); k++) {
        char shape[48];
        snprintf(shape, sizeof shape, "%lld x %lld", (long long)p.rows, (long long)p.cols);
        table_row((const char *const[]){p.name, p.type, shape});
    }
    table_end(stdout);
}

int run_inspect(const struct args *args)
{
    peft_model *model = NULL;
    peft_info info;
    int rc = open_model(args, &model, &info);
    if (!rc && args->json)
        inspect_json(model, &info, args->tensors);
    else if (!rc)
        inspect_table(model, &info, args->tensors);
    peft_model_free(model);
    return rc;
}

/* ---------------------------------------------------------------- tokenize */

static char *decode(const peft_model *model, const int32_t *ids, int64_t n, int32_t flags,
                    int64_t *bytes)
{
    *bytes = peft_detokenize(model, ids, n, flags, NULL, 0);
    if (*bytes < 0)
        return NULL;
    char *text = grow(NULL, (size_t)*bytes + 1);
    *bytes = peft_detokenize(model, ids, n, flags, text, *bytes);
    if (*bytes >= 0)
        return text;
    free(text);
    return NULL;
}

static int print_pieces(const peft_model *model, const int32_t *ids, const int32_t *offsets,
                        int64_t n, bool as_json)
{
    struct json j;
    json_begin(&j, stdout);
    if (as_json) {
        json_open(&j, NULL, '{');
        json_open(&j, "ids", '[');
        for (int64_t i = 0; i < n; i++)
            json_int(&j, NULL, ids[i]);
        json_close(&j);
        json_open(&j, "offsets", '[');
        for (int64_t i = 0; i < n; i++) {
            json_open(&j, NULL, '[');
            json_int(&j, NULL, offsets[2 * i]);
            json_int(&j, NULL, offsets[2 * i + 1]);
            json_close(&j);
        }
        json_close(&j);
        json_open(&j, "pieces", '[');
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t bytes;
        char *piece = decode(model, ids + i, 1, 0, &bytes);
        if (!piece)
            return library_error((int32_t)bytes, "cannot decode");
        if (!as_json) {
            printf("%d\t", ids[i]);
            j.first = true;
        }
        json_bytes(&j, NULL, piece, (size_t)bytes);
        if (!as_json)
            putchar('\n');
        free(piece);
    }
    if (as_json) {
        json_close(&j);
        json_close(&j);
    }
    return EXIT_OK;
}

static int encode_text(const struct args *args, const peft_model *model)
{
    size_t n = args->text ? strlen(args->text) : 0;
    char *text = args->text ? format("%s", args->text) : read_stream(stdin, &n);
    int32_t flags = (args->no_special ? 0 : PEFT_TOK_SPECIAL) | (args->plain ? PEFT_TOK_PLAIN : 0);
    int32_t *ids = NULL, *offsets = NULL;
    int rc;
    int64_t count = text ? peft_tokenize(model, text, n, flags, NULL, 0) : PEFT_EIO;
    if (count > 0) {
        ids = grow(NULL, (size_t)count * sizeof *ids);
        offsets = grow(NULL, (size_t)count * 2 * sizeof *offsets);
        count = peft_tokenize_offsets(model, text, n, flags, ids, offsets, count);
    }
    if (count < 0)
        rc = library_error((int32_t)count, "cannot tokenize");
    else
        rc = print_pieces(model, ids, offsets, count, args->json);
    free(offsets);
    free(ids);
    free(text);
    return rc;
}

static int decode_text(const struct args *args, const peft_model *model)
{
    int32_t *ids = grow(NULL, (strlen(args->decode) + 1) * sizeof *ids);
    int64_t n = 0;
    int rc = EXIT_OK;
    for (const char *p = args->decode; *p;) {
        char *end;
        if (strchr(" ,\t\n[]", *p)) {
            p++;
            continue;
        }
        long id = strtol(p, &end, 10);
        if (end == p || id < 0 || id > 2147483647) {
            free(ids);
            return usage_error("--decode: \"%.20s\" is not a token id", p);
        }
        ids[n++] = (int32_t)id;
        p = end;
    }
    int64_t bytes;
    char *text = decode(model, ids, n, args->no_special ? PEFT_DETOK_SKIP : 0, &bytes);
    if (!text)
        rc = library_error((int32_t)bytes, "cannot decode");
    else if (args->json) {
        struct json j;
        json_begin(&j, stdout);
        json_open(&j, NULL, '{');
        json_bytes(&j, "text", text, (size_t)bytes);
        json_close(&j);
    } else {
        fwrite(text, 1, (size_t)bytes, stdout);
        putchar('\n');
    }
    free(text);
    free(ids);
    return rc;
}

int run_tokenize(const struct args *args)
{
    if (args->decode && args->text)
        return usage_error("give --text or --decode, not both");
    peft_model *model = NULL;
    peft_info info;
    int rc = open_model(args, &model, &info);
    if (!rc)
        rc = args->decode ? decode_text(args, model) : encode_text(args, model);
    peft_model_free(model);
    return rc;
}
