/* The folder --out: metrics.jsonl, training_args.json, checkpoint-N and best-N
 * folders, and at the end the adapter's or the model's files and report.html.
 *
 * A run whose report is missing while a checkpoint is there was interrupted;
 * it is not started anew by accident.  Files appear whole: they are written
 * under another name and then renamed. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "train.h"

char *folder_path(const struct run *run, const char *name)
{
    return format("%s/%s", run->args->out, name);
}

int make_folders(const char *path)
{
    char *copy = format("%s", path);
    for (char *p = copy + 1; *p; p++)
        if (*p == '/') {
            *p = 0;
            mkdir(copy, 0777);
            *p = '/';
        }
    int rc = mkdir(copy, 0777);
    struct stat s;
    if (rc && errno == EEXIST && !stat(copy, &s) && S_ISDIR(s.st_mode))
        rc = 0;
    free(copy);
    return rc ? runtime_error("cannot make the folder %s: %s", path, strerror(errno)) : 0;
}

static bool exists(const struct run *run, const char *name)
{
    struct stat s;
    char *path = folder_path(run, name);
    bool yes = !stat(path, &s);
    free(path);
    return yes;
}

/* --------------------------------------------------------- files in one go */

FILE *folder_create(const char *path)
{
    char *part = format("%s.part", path);
    FILE *f = fopen(part, "w");
    free(part);
    return f;
}

int folder_close(FILE *file, const char *path)
{
    char *part = format("%s.part", path);
    bool bad = !file || fflush(file) || fsync(fileno(file)) || ferror(file);
    if (file)
        bad = fclose(file) || bad;
    bad = bad || rename(part, path);
    int rc = bad ? runtime_error("cannot write %s: %s", path, strerror(errno)) : 0;
    if (bad)
        unlink(part);
    free(part);
    return rc;
}

/* Removes a folder of files and folders; nothing when it is not there. */
static void remove_folder(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        char *inside = format("%s/%s", path, e->d_name);
        if (unlink(inside))
            remove_folder(inside);
        free(inside);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

/* -------------------------------------------------------------- checkpoints */

/* The step in a folder's name that begins so; -1 = it has none. */
static int64_t numbered(const char *name, const char *start)
{
    char *end;
    size_t n = strlen(start);
    if (strncmp(name, start, n) != 0 || name[n] < '0' || name[n] > '9')
        return -1;
    long long step = strtoll(name + n, &end, 10);
    return *end ? -1 : step;
}

/* The newest checkpoint older than `below`, or -1. */
static int64_t newest_checkpoint(const struct run *run, int64_t below)
{
    int64_t newest = -1;
    DIR *d = opendir(run->args->out);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        int64_t step = numbered(e->d_name, "checkpoint-");
        if (step > newest && step < below)
            newest = step;
    }
    if (d)
        closedir(d);
    return newest;
}

static void drop_checkpoints(const struct run *run, int64_t below)
{
    for (int64_t step; (step = newest_checkpoint(run, below)) >= 0;) {
        char *path = format("%s/checkpoint-%lld", run->args->out, (long long)step);
        remove_folder(path);
        free(path);
        below = step;
    }
}

int folder_checkpoint(const struct run *run, int64_t step)
{
    char *path = format("%s/checkpoint-%lld", run->args->out, (long long)step);
    int32_t rc = peft_trainer_save(run->trainer, path);
    free(path);
    if (rc)
        return saving_error(rc, "cannot write a checkpoint");
    /* The one before stays, in case this one is found to be damaged. */
    int64_t before = newest_checkpoint(run, step);
    if (before >= 0)
        drop_checkpoints(run, before);
    return 0;
}

/* ------------------------------------------------------------ the best one */

static char *best_path(const struct run *run, int64_t step)
{
    return format("%s/best-%lld", run->args->out, (long long)step);
}

static void drop_best(const struct run *run, int64_t but)
{
    DIR *d = opendir(run->args->out);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        int64_t step = numbered(e->d_name, "best-");
        char *path = best_path(run, step);
        if (step >= 0 && step != but)
            remove_folder(path);
        free(path);
    }
    if (d)
        closedir(d);
}

void folder_best_drop(const struct run *run)
{
    drop_best(run, -1);
}

int folder_best_save(const struct run *run, int64_t step)
{
    char *path = best_path(run, step);
    int32_t rc = peft_trainer_save(run->trainer, path);
    free(path);
    if (rc)
        return saving_error(rc, "cannot keep the best evaluation's weights");
    drop_best(run, step);
    return 0;
}

int folder_best_back(const struct run *run, int64_t step)
{
    struct stat s;
    char *path = best_path(run, step);
    int32_t rc = stat(path, &s) ? PEFT_ENOTFOUND : peft_trainer_resume(run->trainer, path);
    if (rc == PEFT_ENOTFOUND)
        note("%s is gone, and with it the best evaluation's weights: the last ones are saved",
             path);
    free(path);
    return rc == PEFT_ENOTFOUND ? -1 : rc ? library_error(rc, "cannot go back to the best "
                                                          "evaluation") : 0;
}

/* ---------------------------------------------------------------- settings */

static char *setting_line(const struct settings *s, int i)
{
    return format("  \"%s\": %s%s", s->item[i].key, s->item[i].value, i + 1 < s->n ? "," : "");
}

int folder_settings_write(const struct run *run)
{
    char *path = folder_path(run, "training_args.json");
    FILE *f = folder_create(path);
    if (f) {
        fputs("{\n", f);
        for (int i = 0; i < run->settings.n; i++) {
            char *line = setting_line(&run->settings, i);
            fprintf(f, "%s\n", line);
            free(line);
        }
        fputs("}\n", f);
    }
    int rc = folder_close(f, path);
    free(path);
    return rc;
}

char *stored_value(const char *text, const char *key)
{
    char *want = format("\n  \"%s\": ", key);
    const char *at = strstr(text, want);
    char *value = NULL;
    if (at) {
        at += strlen(want);
        int n = (int)strcspn(at, "\n");
        value = format("%.*s", n && at[n - 1] == ',' ? n - 1 : n, at);
    }
    free(want);
    return value;
}

char *stored_number(double v)
{
    return format("%.9g", v);
}

char *folder_manner(const struct run *run)
{
    char *path = folder_path(run, "training_args.json"), *text = read_file(path, NULL);
    char *limit = text ? stored_value(text, "memory_limit") : NULL;
    char *value = text ? stored_value(text, "memory_manner") : NULL, *manner = NULL;
    char *now = stored_number((double)run->args->memory_limit);
    if (limit && value && !strcmp(limit, now))
        manner = format("%.*s", (int)strcspn(value + 1, "\""), value + 1);
    free(path);
    free(text);
    free(limit);
    free(value);
    free(now);
    return manner;
}

int folder_settings_check(const struct run *run)
{
    char *path = folder_path(run, "training_args.json");
    char *text = read_file(path, NULL);
    free(path);
    int rc = text ? 0 : runtime_error("%s has no training_args.json, so nothing to resume",
                                      run->args->out);
    for (int i = 0; text && !rc && i < run->settings.n; i++) {
        const struct setting *s = &run->settings.item[i];
        char *was = stored_value(text, s->key);
        if (!s->loose && (!was || strcmp(was, s->value) != 0))
            rc = usage_error("--resume: %s was %s when the run began, and is %s now", s->key,
                             was ? was : "not there", s->value);
        free(was);
    }
    free(text);
    return rc;
}

/* -------------------------------------------------------------------- open */

static bool is_result_file(const char *name)
{
    static const char *const ends[] = {".safetensors", ".safetensors.index.json"};
    size_t n = strlen(name);
    for (int i = 0; i < 2; i++)
        if (n > strlen(ends[i]) && !strcmp(name + n - strlen(ends[i]), ends[i]))
            return true;
    return !strcmp(name, "adapter_config.json") || !strcmp(name, "config.json");
}

/* A result replaces older results in --out, so --out must not be where the
 * model lies, nor a folder with weights that no run of ours put there. */
static int check_place(const struct run *run)
{
    const char *out = run->args->out;
    char *real_out = realpath(out, NULL), *model = realpath(run->args->operand, NULL);
    int rc = 0;
    size_t n = real_out ? strlen(real_out) : 0;
    if (real_out && model && !strncmp(model, real_out, n) &&
        (!model[n] || (model[n] == '/' && !strchr(model + n + 1, '/'))))
        rc = usage_error("--out %s is where the model lies: choose another folder", out);
    free(real_out);
    free(model);
    if (rc || exists(run, "training_args.json"))
        return rc;
    DIR *d = opendir(out);
    for (struct dirent *e; d && !rc && (e = readdir(d)) != NULL;)
        if (is_result_file(e->d_name))
            rc = usage_error("--out %s holds %s, which no run of peft train put there: choose "
                             "another folder", out, e->d_name);
    if (d)
        closedir(d);
    return rc;
}

int folder_open(struct run *run, int64_t *step)
{
    const struct args *a = run->args;
    int64_t newest = newest_checkpoint(run, INT64_MAX);
    bool unfinished = newest >= 0 && !exists(run, "report.html");
    *step = 0;
    int rc = check_place(run);
    if (rc)
        return rc;
    if (a->resume && newest < 0)
        return runtime_error("there is no checkpoint in %s to resume from", a->out);
    if (a->resume) {
        *step = newest;
        return folder_settings_check(run);
    }
    if (unfinished && !a->overwrite)
        return usage_error("%s holds a run interrupted at step %lld: --resume goes on with it, "
                           "--overwrite starts anew", a->out, (long long)newest);
    rc = make_folders(a->out);
    if (!rc)
        rc = folder_settings_write(run);
    if (rc)
        return rc;
    drop_checkpoints(run, INT64_MAX);
    folder_best_drop(run);
    char *report = folder_path(run, "report.html");
    unlink(report);
    free(report);
    return 0;
}

/* ------------------------------------------------------------------ result */

/* Removes weights of an earlier result that the new one has no file for, such
 * as the shards of a larger model: a reader would take them for a part. */
static void drop_stale(const char *out, const char *fresh)
{
    DIR *d = opendir(out);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        struct stat s;
        char *old = format("%s/%s", out, e->d_name), *new = format("%s/%s", fresh, e->d_name);
        if (is_result_file(e->d_name) && stat(new, &s))
            unlink(old);
        free(old);
        free(new);
    }
    if (d)
        closedir(d);
}

/* A README.md in `out` that somebody else wrote, or changed. */
static bool is_foreign_card(const char *out)
{
    char *path = format("%s/README.md", out), *text = NULL;
    struct stat s;
    bool there = !stat(path, &s);
    if (there)
        text = read_file(path, NULL);
    bool foreign = there && (!text || !strstr(text, "<!-- made by libpeft;"));
    free(text);
    free(path);
    return foreign;
}

/* Moves a whole folder's files up into `out`: weights first, since a folder
 * counts as a model or an adapter by its config. */
static int move_up(const char *from, const char *out)
{
    int rc = 0;
    for (int pass = 0; pass < 2 && !rc; pass++) {
        DIR *d = opendir(from);
        for (struct dirent *e; d && !rc && (e = readdir(d)) != NULL;) {
            const char *end = strrchr(e->d_name, '.');
            bool config = end && !strcmp(end, ".json");
            if (e->d_name[0] == '.' || config != (pass == 1) ||
                (!strcmp(e->d_name, "README.md") && is_foreign_card(out)))
                continue;
            char *a = format("%s/%s", from, e->d_name), *b = format("%s/%s", out, e->d_name);
            if (rename(a, b))
                rc = runtime_error("cannot write %s: %s", b, strerror(errno));
            free(a);
            free(b);
        }
        if (d)
            closedir(d);
    }
    return rc;
}

int folder_save_result(const struct run *run)
{
    bool adapter = is_adapter(run->method);
    char *saving = folder_path(run, ".saving"), *base = folder_path(run, "model");
    int32_t code = adapter ? peft_adapter_save(run->model, run->adapter, saving) :
                   peft_model_save(run->model, saving, NULL);
    int rc = code ? saving_error(code, "cannot write the result") : 0;
    if (!rc && run->base_trains && (code = peft_model_save(run->model, base, NULL)) != 0)
        rc = saving_error(code, "cannot write the result");
    if (!rc) {
        drop_stale(run->args->out, saving);
        rc = move_up(saving, run->args->out);
    }
    remove_folder(saving);
    free(saving);
    free(base);
    return rc;
}
