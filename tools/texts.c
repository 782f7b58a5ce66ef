/* peft classify, peft answer, peft embed: what heads say about texts.  With
 * --json each text gives one line. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* ----------------------------------------------------------------- texts */

struct texts {
    char *all;                 /* the file, cut into lines */
    char **text;
    int32_t n;
};

char *string_of_line(char *line, const char *key)
{
    size_t n = strlen(key);
    char *from = *line == '{' ? line : NULL, *to;
    while (from && (from = strchr(from, '"')) && (strncmp(from + 1, key, n) || from[n + 1] != '"'))
        from++;
    if (!from || !(from = strchr(from + n + 2, '"')))
        return NULL;
    for (to = line, from++; *from && *from != '"'; from++) {
        if (*from != '\\') {
            *to++ = *from;
            continue;
        }
        static const char marks[] = "nrtbf", means[] = "\n\r\t\b\f";
        const char *at = *++from ? strchr(marks, *from) : NULL;
        if (*from != 'u') {
            *to++ = at ? means[at - marks] : *from;
            continue;
        }
        char hex[5] = "";
        strncpy(hex, from + 1, 4);
        unsigned long c = strtoul(hex, NULL, 16);
        from += strlen(hex);
        if (c >= 0xd800 && c < 0xdc00 && from[1] == '\\' && from[2] == 'u') {
            strncpy(hex, from + 3, 4);
            c = 0x10000 + ((c - 0xd800) << 10) + (strtoul(hex, NULL, 16) & 0x3ff);
            from += 2 + strlen(hex);
        }
        if (c < 0x80)
            *to++ = (char)c;
        else {
            int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
            static const unsigned char first[] = {0, 0xc0, 0xe0, 0xf0};
            *to++ = (char)(first[more] | c >> 6 * more);
            while (more--)
                *to++ = (char)(0x80 | (c >> 6 * more & 0x3f));
        }
    }
    *to = 0;
    return line;
}

static char *text_of_line(char *line)
{
    char *text = string_of_line(line, "text");
    return text ? text : line;
}

static int texts_open(const struct args *args, struct texts *t)
{
    size_t n = 0;
    *t = (struct texts){0};
    t->all = args->text ? format("%s", args->text) :
             args->data ? read_file(args->data, &n) : read_stream(stdin, &n);
    if (!t->all) {
        runtime_error("cannot read %s", args->data ? args->data : "stdin");
        return EXIT_FILE;
    }
    size_t lines = 1;
    for (const char *p = t->all; *p && !args->text; p++)
        lines += *p == '\n';
    t->text = grow(NULL, lines * sizeof *t->text);
    for (char *p = t->all; *p;) {
        char *end = args->text ? NULL : strchr(p, '\n'), *next = end ? end + 1 : p + strlen(p);
        if (end)
            *end = 0;
        if (end > p && end[-1] == '\r')
            end[-1] = 0;
        if (*p)
            t->text[t->n++] = args->text ? p : text_of_line(p);
        p = next;
    }
    return t->n ? 0 : usage_error("no text: give --text TEXT, --data FILE, or lines on stdin");
}

static void texts_close(struct texts *t)
{
    free(t->text);
    free(t->all);
}

static int open_both(const struct args *args, peft_model **model, peft_info *info)
{
    int rc = open_model(args, model, info);
    return rc ? rc : open_adapter(args, *model, info);
}

/* ------------------------------------------------------------------ tags */

static int tag_texts(const struct args *args, peft_model *model, const struct texts *t)
{
    peft_tag_opts opts = {.size = sizeof opts, .aggregate = args->aggregate,
                          .max_len = args->max_len};
    for (int32_t i = 0; i < t->n; i++) {
        size_t n = strlen(t->text[i]);
        peft_tag *tag = grow(NULL, (n + 1) * sizeof *tag);
        int64_t count = peft_tag_text(model, t->text[i], n, &opts, tag, (int64_t)n + 1);
        struct json j;
        json_begin(&j, stdout);
        if (args->json && count >= 0) {
            json_open(&j, NULL, '{');
            json_text(&j, "text", t->text[i]);
            json_open(&j, "tags", '[');
        }
        for (int64_t k = 0; k < count; k++) {
            if (!args->json) {
                printf("%-12s %.3f  %.*s\n", tag[k].label, (double)tag[k].score,
                       (int)(tag[k].end - tag[k].begin), t->text[i] + tag[k].begin);
                continue;
            }
            json_open(&j, NULL, '{');
            json_text(&j, "label", tag[k].label);
            json_num(&j, "score", (double)tag[k].score);
            json_int(&j, "begin", tag[k].begin);
            json_int(&j, "end", tag[k].end);
            json_close(&j);
        }
        if (args->json && count >= 0) {
            json_close(&j);
            json_close(&j);
        }
        free(tag);
        if (count < 0)
            return library_error((int32_t)count, "cannot classify");
    }
    return 0;
}

/* --------------------------------------------------------------- classes */

static void put_scores(const struct args *args, const peft_model *model, const peft_info *info,
                       const char *text, const float *score, int32_t best)
{
    struct json j;
    bool many = !strcmp(info->head, "multi-label"), one = !strcmp(info->head, "classification");
    double limit = args->threshold > 0 ? args->threshold : 0.5;
    if (args->json) {
        json_begin(&j, stdout);
        json_open(&j, NULL, '{');
        json_text(&j, "text", text);
        if (one)
            json_text(&j, "label", peft_label_name(model, best));
        json_open(&j, "scores", '{');
        for (int32_t i = 0; i < info->labels; i++)
            json_num(&j, peft_label_name(model, i), (double)score[i]);
        json_close(&j);
        json_close(&j);
        return;
    }
    if (one)
        printf("%-12s %.3f", peft_label_name(model, best), (double)score[best]);
    for (int32_t i = 0; i < info->labels && !one; i++)
        if (!many)
            printf("%s%.4f", i ? " " : "", (double)score[i]);
        else if ((double)score[i] > limit)
            printf("%s %.3f  ", peft_label_name(model, i), (double)score[i]);
    printf("  %s\n", text);
}

static int classify_texts(const struct args *args, peft_model *model, const peft_info *info,
                          const struct texts *t)
{
    peft_classify_opts opts = {.size = sizeof opts, .max_len = args->max_len,
                               .batch = args->batch};
    float *score = grow(NULL, (size_t)t->n * (size_t)(info->labels + 1) * sizeof *score);
    int32_t *best = grow(NULL, (size_t)t->n * sizeof *best);
    int32_t rc = peft_classify(model, (const char *const *)t->text, t->n, &opts, score, best);
    for (int32_t i = 0; i < t->n && !rc; i++)
        put_scores(args, model, info, t->text[i], score + (size_t)i * (size_t)info->labels,
                   best[i]);
    free(best);
    free(score);
    return rc ? library_error(rc, "cannot classify") : 0;
}

int run_classify(const struct args *args)
{
    peft_model *model = NULL;
    peft_info info;
    struct texts t = {0};
    int rc = args->image.n ? 0 : texts_open(args, &t);
    if (!rc)
        rc = open_both(args, &model, &info);
    if (!rc)
        rc = args->image.n ? classify_pictures(args, model, &info) :
             !strcmp(info.head, "tokens") ? tag_texts(args, model, &t) :
             classify_texts(args, model, &info, &t);
    peft_model_free(model);
    texts_close(&t);
    return rc;
}

/* --------------------------------------------------------------- answers */

static void put_answers(const struct args *args, const char *context,
                        const peft_answer_span *found, int32_t n)
{
    struct json j;
    json_begin(&j, stdout);
    if (args->json) {
        json_open(&j, NULL, '{');
        json_text(&j, "question", args->question);
        json_open(&j, "answers", '[');
    }
    for (int32_t i = 0; i < n; i++) {
        size_t len = (size_t)(found[i].end - found[i].begin);
        if (!args->json) {
            printf("%.3f  %.*s\n", (double)found[i].score, len ? (int)len : 11,
                   len ? context + found[i].begin : "(no answer)");
            continue;
        }
        json_open(&j, NULL, '{');
        json_bytes(&j, "answer", context + found[i].begin, len);
        json_num(&j, "score", (double)found[i].score);
        json_int(&j, "begin", found[i].begin);
        json_int(&j, "end", found[i].end);
        json_close(&j);
    }
    if (args->json) {
        json_close(&j);
        json_close(&j);
    }
}

int run_answer(const struct args *args)
{
    peft_model *model = NULL;
    peft_info info;
    size_t n = 0;
    if (!args->question)
        return usage_error("which question?  --question TEXT");
    char *context = args->context ? read_file(args->context, &n) : read_stream(stdin, &n);
    int rc = context ? open_both(args, &model, &info) : EXIT_FILE;
    if (!context)
        runtime_error("cannot read %s", args->context ? args->context : "stdin");
    if (!rc) {
        int32_t most = args->n_best ? args->n_best : 1;
        peft_answer_opts opts = {.size = sizeof opts, .n_best = most, .max_len = args->max_len,
                                 .stride = args->stride, .no_answer = args->no_answer};
        peft_answer_span *found = grow(NULL, (size_t)most * sizeof *found);
        int32_t count = peft_answer(model, args->question, context, &opts, found, most);
        if (count < 0)
            rc = library_error(count, "cannot answer");
        else
            put_answers(args, context, found, count);
        free(found);
    }
    peft_model_free(model);
    free(context);
    return rc;
}

/* ------------------------------------------------------------ embeddings */

static void put_vector(FILE *to, const char *text, const float *x, int32_t dim)
{
    struct json j;
    json_begin(&j, to);
    json_open(&j, NULL, '{');
    json_text(&j, "text", text);
    json_open(&j, "embedding", '[');
    for (int32_t i = 0; i < dim; i++)
        json_num(&j, NULL, (double)x[i]);
    json_close(&j);
    json_close(&j);
}

int run_embed(const struct args *args)
{
    peft_model *model = NULL;
    peft_info info;
    struct texts t;
    int rc = texts_open(args, &t);
    if (!rc)
        rc = open_both(args, &model, &info);
    if (!rc) {
        peft_embed_opts opts = {.size = sizeof opts, .pool = args->pool, .max_len = args->max_len,
                                .normalize = args->normalize, .batch = args->batch};
        float *x = grow(NULL, (size_t)t.n * (size_t)info.dim * sizeof *x);
        int32_t code = peft_embed_text(model, (const char *const *)t.text, t.n, &opts, x);
        FILE *to = args->out && !code ? fopen(args->out, "w") : stdout;
        if (code)
            rc = library_error(code, "cannot embed");
        else if (!to)
            rc = runtime_error("cannot write %s", args->out);
        for (int32_t i = 0; i < t.n && !rc; i++)
            put_vector(to, t.text[i], x + (size_t)i * (size_t)info.dim, info.dim);
        if (to && to != stdout && fclose(to) && !rc)
            rc = runtime_error("cannot write %s", args->out);
        free(x);
    }
    peft_model_free(model);
    texts_close(&t);
    return rc;
}
