/* Opening what the command line names, and interruption by signals. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

/* ---------------------------------------------------------------- warnings */

static bool hold;
static char *held;

static void show_warning(const char *line)
{
    note("%swarning:%s %s", paint(stderr, YELLOW), paint(stderr, PLAIN), line);
}

static void on_log(void *ctx, int32_t level, const char *line)
{
    (void)ctx;
    if (level > 1)
        return;
    if (!hold) {
        show_warning(line);
        return;
    }
    char *more = format("%s%s\n", held ? held : "", line);
    free(held);
    held = more;
}

void warnings_hold(void)
{
    hold = true;
}

void warnings_show(void)
{
    hold = false;
    for (char *line = held, *end; line && *line; line = end + 1) {
        end = strchr(line, '\n');
        *end = 0;
        show_warning(line);
    }
    free(held);
    held = NULL;
}

/* ------------------------------------------------------------------- model */

static bool has_file(const char *folder, const char *name)
{
    struct stat s;
    char *path = format("%s/%s", folder, name);
    bool yes = !stat(path, &s);
    free(path);
    return yes;
}

static bool is_adapter_folder(const char *path)
{
    return has_file(path, "adapter_config.json") && !has_file(path, "config.json");
}

bool is_model_folder(const char *path)
{
    return has_file(path, "config.json") && !has_file(path, "adapter_config.json");
}

int open_model(const struct args *args, peft_model **model, peft_info *info)
{
    return open_model_at(args, args->operand, model, info);
}

int open_model_at(const struct args *args, const char *path, peft_model **model, peft_info *info)
{
    peft_load_opts opts = {.size = sizeof opts, .threads = args->threads, .no_map = args->no_map,
                           .level = args->level, .blas = args->blas, .log = on_log,
                           .quant = args->quant, .compute = args->compute,
                           .any_base = args->any_base};
    int32_t rc = peft_model_load(path, &opts, model);
    if (!rc) {
        *info = (peft_info){.size = sizeof *info};
        rc = peft_model_info(*model, info);
    }
    if (rc && is_adapter_folder(path)) {
        library_error(rc, "cannot load the model");
        note("%s is an adapter: name its base model first, then --adapter %s", path, path);
        return EXIT_FILE;
    }
    return rc ? library_error(rc, "cannot load the model") : 0;
}

int open_adapter(const struct args *args, peft_model *model, peft_info *info)
{
    if (!args->adapter)
        return 0;
    int32_t rc = peft_adapter_load(model, "default", args->adapter);
    if (!rc)
        rc = peft_model_info(model, info);
    return rc ? library_error(rc, "cannot load the adapter") : 0;
}

peft_dataset_opts data_opts(const struct args *args)
{
    return (peft_dataset_opts){.size = sizeof(peft_dataset_opts), .max_len = args->max_len,
                               .train_on_prompt = args->train_on_prompt,
                               .system = args->system, .limit = args->limit,
                               .any_path = args->any_path, .prefix = args->prefix,
                               .columns = args->columns, .table = args->table,
                               .chunk = args->chunk};
}

int open_data(const struct args *args, const peft_model *model, const char *path,
              peft_dataset **data)
{
    peft_dataset_opts opts = data_opts(args);
    int32_t rc = peft_dataset_load(model, path, &opts, data);
    return rc ? library_error(rc, "cannot use the data") : 0;
}

/* ------------------------------------------------------------ interruption */

static volatile sig_atomic_t stop_asked;
static peft_trainer *volatile stop_trainer;
static struct sigaction before[3];
static const int signals[3] = {SIGINT, SIGTERM, SIGHUP};

static void on_signal(int number)
{
    (void)number;
    if (stop_asked)
        _exit(EXIT_INTERRUPTED);
    stop_asked = 1;
    if (stop_trainer)
        peft_trainer_cancel(stop_trainer);
}

void interrupt_catch(peft_trainer *trainer)
{
    struct sigaction s = {.sa_handler = on_signal};
    sigemptyset(&s.sa_mask);
    stop_asked = 0;
    stop_trainer = trainer;
    for (int i = 0; i < 3; i++) {
        sigaction(signals[i], &s, &before[i]);
        if (signals[i] == SIGHUP && before[i].sa_handler == SIG_IGN)
            signal(SIGHUP, SIG_IGN);  /* started by nohup */
    }
}

void interrupt_release(void)
{
    stop_trainer = NULL;
    for (int i = 0; i < 3; i++)
        sigaction(signals[i], &before[i], NULL);
}

bool interrupted(void)
{
    return stop_asked != 0;
}
