/* peft generate --prompts: many prompts at once, each with its own adapter.  With
 * --json each answer gives one line. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

struct prompt {
    char *line, *text, *adapter;   /* adapter NULL = the one of --adapter, if any */
    char *answer;
    size_t n;
    peft_message message[2];
    peft_generate_opts opts;
    peft_generated out;
};

static int32_t on_text(void *ctx, const char *piece, size_t n)
{
    struct prompt *p = ctx;
    p->answer = grow(p->answer, p->n + n + 1);
    memcpy(p->answer + p->n, piece, n);
    p->answer[p->n += n] = 0;
    return interrupted();
}

/* Adapters of --with act where they are named only. */
static int load_named(const struct args *args, peft_model *model)
{
    for (int i = 0; i < args->with.n; i++) {
        const char *given = args->with.item[i], *path = strchr(given, '=');
        if (!path || path == given)
            return usage_error("--with is \"%s\", expected NAME=PATH", given);
        char *name = format("%.*s", (int)(path - given), given);
        int32_t rc = peft_adapter_load(model, name, path + 1);
        if (!rc)
            rc = peft_adapter_disable(model, name);
        free(name);
        if (rc)
            return library_error(rc, "cannot load the adapter");
    }
    return 0;
}

/* A line is cut into copies, since each string of it takes its place. */
static bool read_prompt(const struct args *args, const char *line, struct prompt *p)
{
    int32_t n = 0;
    *p = (struct prompt){.line = format("%s", line)};
    if (*line == '{') {
        char *copy = format("%s", line), *name = string_of_line(copy, "adapter");
        p->adapter = name ? format("%s", name) : NULL;
        free(copy);
    }
    p->text = *line == '{' ? string_of_line(p->line, "prompt") : p->line;
    if (args->system && !args->raw)
        p->message[n++] = (peft_message){"system", args->system};
    p->message[n] = (peft_message){"user", p->text};
    return p->text != NULL;
}

static void show(const struct args *args, const struct prompt *p)
{
    const char *answer = p->answer ? p->answer : "";
    if (!args->json) {
        printf("%s> %s%s\n%s\n", paint(stdout, DIM), p->text, paint(stdout, PLAIN), answer);
        return;
    }
    struct json j;
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_text(&j, "prompt", p->text);
    if (p->adapter)
        json_text(&j, "adapter", p->adapter);
    json_bytes(&j, "text", answer, p->n);
    json_int(&j, "tokens", p->out.tokens);
    json_int(&j, "prompt_tokens", p->out.prompt_tokens);
    json_text(&j, "reason", reason_name(p->out.reason));
    json_close(&j);
}

static int answer_list(const struct args *args, peft_model *model, struct prompt *list, int32_t n)
{
    peft_generate_opts opts;
    peft_request *request = grow(NULL, (size_t)n * sizeof *request);
    generate_advised(args, model, &opts);
    for (int32_t i = 0; i < n; i++) {
        struct prompt *p = &list[i];
        p->opts = opts;
        p->opts.on_text = on_text;
        p->opts.ctx = p;
        p->out.size = sizeof p->out;
        request[i] = (peft_request){.size = sizeof *request, .messages = p->message,
                                    .n = p->message[1].role ? 2 : 1, .adapter = p->adapter,
                                    .opts = &p->opts, .out = &p->out};
    }
    interrupt_catch(NULL);
    int32_t rc = peft_generate_batch(model, request, n, args->batch);
    interrupt_release();
    for (int32_t i = 0; i < n && !rc; i++)
        show(args, &list[i]);
    free(request);
    if (rc)
        return library_error(rc, "cannot generate");
    return interrupted() ? EXIT_INTERRUPTED : EXIT_OK;
}

int answer_prompts(const struct args *args, peft_model *model)
{
    size_t size;
    char *all = read_file(args->prompts, &size);
    struct prompt *list = NULL;
    int32_t n = 0;
    int rc = all ? load_named(args, model) : runtime_error("cannot read %s", args->prompts);
    if (!all)
        return EXIT_FILE;
    for (char *line = all, *next; *line && !rc; line = next) {
        next = line + strcspn(line, "\n");
        if (*next)
            *next++ = 0;
        line[strcspn(line, "\r")] = 0;
        if (!*line)
            continue;
        list = grow(list, (size_t)(n + 1) * sizeof *list);
        if (!read_prompt(args, line, &list[n++]))
            rc = usage_error("%s: \"%s\" has no string \"prompt\"", args->prompts, line);
    }
    if (!rc && !n)
        rc = usage_error("%s has no prompts", args->prompts);
    if (!rc)
        rc = answer_list(args, model, list, n);
    for (int32_t i = 0; i < n; i++) {
        free(list[i].line);
        free(list[i].adapter);
        free(list[i].answer);
    }
    free(list);
    free(all);
    return rc;
}
