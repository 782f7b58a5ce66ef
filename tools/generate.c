/* peft generate and peft chat. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char *const reasons[] = {"eos", "length", "stop", "interrupted", "context"};

const char *reason_name(int32_t reason)
{
    return reason >= 0 && reason < 5 ? reasons[reason] : "?";
}

/* The number of a way to stop, or -1. */
static int32_t early_stopping(const char *name)
{
    static const char *const names[] = {"no", "yes", "never"};
    for (int32_t i = 0; i < 3; i++)
        if (!name || !strcmp(name, names[i]))
            return i;
    return -1;
}

void generate_setup(const struct args *args, peft_generate_opts *opts)
{
    *opts = (peft_generate_opts){
        .size = sizeof *opts, .max_tokens = args->max_tokens,
        .temperature = args->temperature > 0 ? (float)args->temperature : 0, .top_k = args->top_k,
        .top_p = (float)args->top_p, .min_p = (float)args->min_p,
        .repeat_penalty = (float)args->repeat_penalty, .seed = args->seed,
        .stop = args->stop.item, .n_stop = args->stop.n, .raw = args->raw,
        .num_beams = args->beams, .length_penalty = (float)args->length_penalty,
        .early_stopping = early_stopping(args->early_stopping)};
}

void generate_advised(const struct args *args, const peft_model *model, peft_generate_opts *opts)
{
    generate_setup(args, opts);
    if (args->temperature >= 0 || args->top_k || args->top_p > 0 || args->min_p > 0 ||
        args->repeat_penalty > 0 || args->beams)
        return;
    if (peft_generate_defaults(model, opts))
        return;
    if (opts->num_beams > 1)
        note("%s%d beams as the model advises; --beams 1 takes the likeliest token%s",
             paint(stderr, DIM), opts->num_beams, paint(stderr, PLAIN));
    if ((opts->temperature <= 0 && (opts->repeat_penalty <= 0 || opts->repeat_penalty == 1)))
        return;
    note("%ssampling as the model advises: temperature %g, top-k %d, top-p %g, repeat-penalty %g; "
         "--temperature 0 takes the likeliest%s", paint(stderr, DIM), (double)opts->temperature,
         opts->top_k, (double)opts->top_p, (double)opts->repeat_penalty, paint(stderr, PLAIN));
}

/* Text that grows, and whether it is shown as it comes. */
struct sink {
    char *text;
    size_t n;
    bool show;
};

static int32_t on_text(void *ctx, const char *piece, size_t n)
{
    struct sink *s = ctx;
    s->text = grow(s->text, s->n + n + 1);
    memcpy(s->text + s->n, piece, n);
    s->text[s->n += n] = 0;
    if (s->show) {
        fwrite(piece, 1, n, stdout);
        fflush(stdout);
    }
    return interrupted();
}

static int32_t generate(peft_model *model, const peft_message *messages, int32_t n,
                        const peft_generate_opts *opts, struct sink *sink,
                        peft_generated *result)
{
    peft_generate_opts o = *opts;
    o.on_text = on_text;
    o.ctx = sink;
    sink->text = grow(NULL, 1);
    sink->text[0] = 0;
    sink->n = 0;
    *result = (peft_generated){.size = sizeof *result};
    return peft_generate(model, messages, n, &o, result);
}

int answer(peft_model *model, const peft_message *messages, int32_t n,
           const peft_generate_opts *opts, char **text, peft_generated *result)
{
    struct sink sink = {0};
    int32_t rc = generate(model, messages, n, opts, &sink, result);
    *text = sink.text;
    return rc;
}

/* ---------------------------------------------------------------- generate */

static void print_answer(const char *text, size_t n, const peft_generated *g)
{
    struct json j;
    json_begin(&j, stdout);
    json_open(&j, NULL, '{');
    json_bytes(&j, "text", text, n);
    json_int(&j, "tokens", g->tokens);
    json_int(&j, "prompt_tokens", g->prompt_tokens);
    json_text(&j, "reason", reason_name(g->reason));
    json_num(&j, "prompt_seconds", g->prompt_seconds);
    json_num(&j, "seconds", g->seconds);
    json_num(&j, "tokens_per_second", g->seconds > 0 ? g->tokens / g->seconds : 0);
    json_close(&j);
}

static int answer_prompt(const struct args *args, peft_model *model, const char *prompt)
{
    peft_message messages[2];
    int32_t n = 0;
    if (args->system && !args->raw)
        messages[n++] = (peft_message){"system", args->system};
    messages[n++] = (peft_message){"user", prompt};

    peft_generate_opts opts;
    peft_generated result;
    struct sink sink = {.show = !args->json};
    generate_advised(args, model, &opts);
    interrupt_catch(NULL);
    int32_t rc = generate(model, messages, n, &opts, &sink, &result);
    interrupt_release();
    bool stopped = interrupted();
    if (rc == 0 && args->json)
        print_answer(sink.text, sink.n, &result);
    else if (sink.n && sink.text[sink.n - 1] != '\n')
        putchar('\n');
    free(sink.text);
    if (rc)
        return library_error(rc, "cannot generate");
    if (stderr_is_live() && !args->json && !stopped)
        note("%s%d + %d tokens, %.1f tokens/s, ended by %s%s", paint(stderr, DIM),
             result.prompt_tokens, result.tokens,
             result.seconds > 0 ? result.tokens / result.seconds : 0.0, reasons[result.reason],
             paint(stderr, PLAIN));
    return stopped ? EXIT_INTERRUPTED : EXIT_OK;
}

int run_generate(const struct args *args)
{
    char *typed = NULL;
    if (early_stopping(args->early_stopping) < 0)
        return usage_error("--early-stopping is \"%s\", expected no, yes or never",
                           args->early_stopping);
    if (!args->prompt && !args->prompts) {
        size_t n;
        typed = read_stream(stdin, &n);
        if (!typed || !n) {
            free(typed);
            return usage_error("there is no prompt: give --prompt TEXT, or text on stdin");
        }
        if (typed[n - 1] == '\n')
            typed[n - 1] = 0;
    }
    peft_model *model = NULL;
    peft_info info;
    int rc = open_model(args, &model, &info);
    if (!rc)
        rc = open_adapter(args, model, &info);
    if (!rc && args->prompts)
        rc = answer_prompts(args, model);
    else if (!rc)
        rc = answer_prompt(args, model, typed ? typed : args->prompt);
    peft_model_free(model);
    free(typed);
    return rc;
}

/* -------------------------------------------------------------------- chat */

struct chat {
    peft_model *model;
    peft_generate_opts opts;
    peft_message *message;
    int32_t n, first;              /* first: 1 with a system message */
};

static void chat_add(struct chat *c, const char *role, char *content)
{
    c->message = grow(c->message, (size_t)(c->n + 1) * sizeof *c->message);
    c->message[c->n++] = (peft_message){role, content};
}

static void chat_drop(struct chat *c, int32_t keep)
{
    while (c->n > keep)
        free((char *)c->message[--c->n].content);
}

/* One question and its answer.  An answer that was stopped stays in the
 * conversation; a question that failed does not. */
static void chat_turn(struct chat *c, const char *line)
{
    struct sink sink = {.show = true};
    peft_generated result;
    chat_add(c, "user", format("%s", line));
    interrupt_catch(NULL);
    int32_t rc = generate(c->model, c->message, c->n, &c->opts, &sink, &result);
    interrupt_release();
    putchar('\n');
    if (rc) {
        library_error(rc, "cannot answer");
        chat_drop(c, c->n - 1);
        free(sink.text);
        return;
    }
    chat_add(c, "assistant", sink.text);
    if (result.reason == PEFT_STOP_CONTEXT)
        note("the model's context is full: /reset starts a new conversation");
    fflush(stdout);
}

static int chat_loop(struct chat *c)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    bool live = stderr_is_live();
    note("/reset starts anew, /quit or Ctrl-D ends, Ctrl-C stops an answer.");
    for (;;) {
        if (live)
            fprintf(stderr, "%s>%s ", paint(stderr, GREEN), paint(stderr, PLAIN));
        if ((n = getline(&line, &cap, stdin)) < 0)
            break;
        while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            line[--n] = 0;
        if (!strcmp(line, "/quit"))
            break;
        if (!strcmp(line, "/reset"))
            chat_drop(c, c->first);
        else if (n)
            chat_turn(c, line);
    }
    if (live && n < 0)
        putc('\n', stderr);
    free(line);
    return EXIT_OK;
}

int run_chat(const struct args *args)
{
    if (args->json)
        return usage_error("chat talks with people; generate has --json");
    struct chat chat = {0};
    peft_info info;
    int rc = open_model(args, &chat.model, &info);
    if (!rc)
        rc = open_adapter(args, chat.model, &info);
    if (!rc && !info.has_tokenizer) {
        rc = EXIT_FILE;
        runtime_error("the model has no tokenizer, which chat needs");
    }
    if (!rc) {
        generate_advised(args, chat.model, &chat.opts);
        if (args->system)
            chat_add(&chat, "system", format("%s", args->system));
        chat.first = chat.n;
        rc = chat_loop(&chat);
    }
    chat_drop(&chat, 0);
    free(chat.message);
    peft_model_free(chat.model);
    return rc;
}
