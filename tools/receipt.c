/* Receipts: what a result was made of, beside it; `peft replay`, which makes it again; and
 * `peft train --continue`, which learns from where an earlier run has ended, with a sample of
 * its rows. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "train.h"

enum { FILES = 64 };

/* ---------------------------------------------------------------- writing */

/* Files whose bytes follow from the words alone: weights and what describes them. */
static bool is_made(const char *name)
{
    const char *end = strrchr(name, '.');
    return (end && (!strcmp(end, ".safetensors") || !strcmp(end, ".gguf"))) ||
           !strcmp(name, "adapter_config.json") || !strcmp(name, "config.json");
}

static int list_made(const char *folder, peft_receipt_file *files)
{
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *e; d && n < FILES && (e = readdir(d)) != NULL;)
        if (is_made(e->d_name))
            files[n++] = (peft_receipt_file){.path = format("%s", e->d_name)};
    if (d)
        closedir(d);
    return n;
}

static int list_results(const struct run *run, peft_metric *to)
{
    const struct history *h = &run->history;
    int n = 0;
    if (h->n_steps)
        to[n++] = (peft_metric){"loss", h->step[h->n_steps - 1].smooth};
    if (h->n_evals) {
        const struct eval_row *e = &h->eval[h->n_evals - 1];
        to[n++] = (peft_metric){"eval_loss", e->loss};
        for (int i = 0; i < e->n; i++)
            to[n++] = (peft_metric){e->metric[i].name, e->metric[i].value};
    }
    if (run->drift.tokens)
        to[n++] = (peft_metric){"kl_to_base", run->drift.kl};
    return n;
}

int receipt_write(const struct run *run)
{
    const struct args *a = run->args;
    const struct { const char *role, *path; } roles[] = {
        {"base", a->operand}, {"data", a->data}, {"replay", a->replay}, {"adapter", a->adapter},
        {"probe", a->probe}, {"init model", a->init_model}, {"eval", run->eval ? a->eval : NULL}};
    peft_receipt_file inputs[sizeof roles / sizeof *roles], files[FILES];
    peft_metric results[PEFT_METRICS + 3];
    struct words words = {0};
    int n = 0, n_files = list_made(a->out, files);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (roles[i].path && is_path(roles[i].path))
            inputs[n++] = (peft_receipt_file){.role = roles[i].role, .path = roles[i].path};
    static const char *const without[] = {"out", "resume", "overwrite", "json", "quiet", "threads",
                                          "auto", "continue", NULL};
    options_words(find_command("train"), a, without, &words);
    /* What was chosen is among the words; rows may have been set aside for it all the same. */
    words_add(&words, run->choice.size && !run->choice.refit ? "--auto" : "--no-auto");
    if (a->memory_limit && !a->manner) {
        words_add(&words, "--manner");
        words_add(&words, run->plan.manner);
    }
    if (!a->level) {
        words_add(&words, "--level");
        words_add(&words, run->sys.level);
    }
    peft_receipt_info info = {.size = sizeof info, .inputs = inputs, .n_inputs = n,
                              .words = words.word, .n_words = words.n,
                              .kernels = a->level ? a->level : run->sys.level,
                              .blas = run->sys.blas,
                              .results = results, .n_results = list_results(run, results),
                              .files = files, .n_files = n_files};
    char *path = folder_path(run, "receipt.json");
    int32_t rc = peft_receipt_write(path, &info, a->out);
    for (int i = 0; i < n_files; i++)
        free((char *)(uintptr_t)files[i].path);
    words_free(&words);
    free(path);
    return rc ? saving_error(rc, "cannot write the receipt") : 0;
}

/* ----------------------------------------------------------------- replay */

static int check_input(const peft_receipt_file *f)
{
    char hash[65];
    int32_t rc = peft_hash_path(f->path, hash, NULL);
    if (rc)
        return library_error(rc, f->role);
    if (!strcmp(hash, f->hash))
        return 0;
    fprintf(stderr, "peft: %s: the %s has changed: its SHA-256 is %.16s..., the receipt says "
            "%.16s...\n", f->path, f->role, hash, f->hash);
    return EXIT_FILE;
}

static int compare_files(const struct args *args, const peft_receipt_info *r, const char *out)
{
    struct json j;
    int differ = 0;
    json_begin(&j, stdout);
    if (args->json) {
        json_open(&j, NULL, '{');
        json_text(&j, "out", out);
        json_open(&j, "files", '[');
    }
    for (int32_t i = 0; i < r->n_files; i++) {
        char *path = format("%s/%s", out, r->files[i].path), hash[65] = "";
        bool same = !peft_hash_path(path, hash, NULL) && !strcmp(hash, r->files[i].hash);
        differ += !same;
        if (args->json) {
            json_open(&j, NULL, '{');
            json_text(&j, "path", r->files[i].path);
            json_text(&j, "sha256", hash);
            json_bool(&j, "same", same);
            json_close(&j);
        } else
            printf("%-32s %s\n", r->files[i].path, same ? "the same bytes" :
                   *hash ? "other bytes" : "missing");
        free(path);
    }
    if (args->json) {
        json_close(&j);
        json_bool(&j, "same", !differ);
        json_close(&j);
    }
    return differ ? EXIT_RUNTIME : EXIT_OK;
}

static int replay(const struct args *args, const peft_receipt_info *r, const char *out)
{
    const struct command *train = find_command("train");
    char **words = grow(NULL, (size_t)(r->n_words + 8) * sizeof *words);
    struct args again;
    int n = 0;
    words[n++] = args->argv[0];
    words[n++] = "train";
    for (int32_t i = 0; i < r->n_words; i++)
        words[n++] = (char *)(uintptr_t)r->words[i];
    words[n++] = "--out";
    words[n++] = (char *)(uintptr_t)out;
    if (args->overwrite)
        words[n++] = "--overwrite";
    int rc = options_parse(train, n, words, &again);
    again.quiet = args->quiet;
    again.threads = args->threads;
    if (!rc)
        rc = train->run(&again);
    free(words);
    return rc ? rc : compare_files(args, r, out);
}

int run_replay(const struct args *args)
{
    peft_receipt *receipt = NULL;
    if (!args->out)
        return usage_error("where to?  --out DIR");
    char *file = is_folder(args->operand) ?
                 format("%s/receipt.json", args->operand) : format("%s", args->operand);
    int32_t code = peft_receipt_read(file, &receipt);
    int rc = code ? library_error(code, "cannot read the receipt") : 0;
    const peft_receipt_info *r = peft_receipt_get(receipt);
    int32_t v = peft_version();
    char *now = format("%d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    if (!rc && strcmp(now, r->version))
        note("made by libpeft %s, this is %s: bytes may differ", r->version, now);
    for (int32_t i = 0; !rc && i < r->n_inputs; i++)
        rc = check_input(&r->inputs[i]);
    if (!rc)
        rc = replay(args, r, args->out);
    peft_receipt_free(receipt);
    free(now);
    free(file);
    return rc;
}

/* --------------------------------------------------------------- continue */

static const char *input_of(const peft_receipt_info *r, const char *role)
{
    for (int32_t i = 0; i < r->n_inputs; i++)
        if (!strcmp(r->inputs[i].role, role))
            return r->inputs[i].path;
    return NULL;
}

/* --continue DIR becomes --adapter DIR, on the base and with the old data that its receipt
 * names, unless they are given. */
int continue_take(struct args *a, peft_receipt **receipt)
{
    const char *from = a->go_on;
    *receipt = NULL;
    if (!from)
        return a->operand ? 0 : usage_error("which model?  peft train MODEL --data FILE --out DIR");
    if (a->adapter)
        return usage_error("give --continue or --adapter, not both");
    a->adapter = from;
    char *path = format("%s/receipt.json", from);
    int32_t code = peft_receipt_read(path, receipt);
    free(path);
    const peft_receipt_info *r = peft_receipt_get(*receipt);
    if (code && !a->operand)
        return library_error(code, "--continue without the base needs a receipt");
    if (code) {
        note("%s has no receipt (%s): no old rows are repeated", from, peft_errmsg());
        return 0;
    }
    const char *base = input_of(r, "base"), *data = input_of(r, "data");
    if (!a->operand)
        a->operand = base;
    if (!a->operand)
        return usage_error("which model?  the receipt of %s names none", from);
    for (int32_t i = 0; i < r->n_inputs; i++) {
        bool is_data = r->inputs[i].path == data;
        if (r->inputs[i].path != a->operand && !(is_data && !a->replay && a->replay_share != 0))
            continue;
        if (!is_data || is_path(data)) {
            int rc = check_input(&r->inputs[i]);
            if (rc)
                return rc;
        }
        if (is_data && is_path(data))
            a->replay = data;
        else if (is_data)
            note("%s is not there any more: no old rows are repeated", data);
    }
    return 0;
}
