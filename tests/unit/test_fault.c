/* Fault injection through the hooks that a host has: the n-th allocation, or
 * the n-th call of a file function, fails.  Every call must say so, leave its
 * objects usable and the files as they were, and lose no memory. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>

#include "kit.h"

struct world {
    peft_model *m;
    peft_dataset *d, *part;
    peft_trainer *t;
};

static peft_load_opts opts;
static char base[64];

/* --- what is tried.  `set` runs without faults; `act` with them, and must
 * succeed when it is called again. */

static int load_folder(struct world *w) { return peft_model_load(base, &opts, &w->m); }
static int load_unmapped(struct world *w)
{
    peft_load_opts o = opts;
    o.no_map = 1;
    return peft_model_load(base, &o, &w->m);
}
static int load_gguf(struct world *w) { return peft_model_load(in("base.gguf"), &opts, &w->m); }
static int add_adapter(struct world *w)
{
    peft_adapter_opts o = { .size = sizeof(o), .rank = 2, .modules_to_save = "model.norm" };
    return peft_adapter_add(w->m, "x", &o);
}
static int add_lora(struct world *w)
{
    peft_adapter_opts o = { .size = sizeof(o), .rank = 2 };
    return peft_adapter_add(w->m, "x", &o);
}
static int load_adapter(struct world *w)
{
    return peft_adapter_load(w->m, "y", in("adapter"));
}
static int load_head_adapter(struct world *w)
{
    return peft_adapter_load(w->m, "y", in("head_adapter"));
}
static int save_adapter(struct world *w) { return peft_adapter_save(w->m, "x", in("out_adapter")); }
static int load_adapter_gguf(struct world *w)
{
    return peft_adapter_load(w->m, "y", in("adapter.gguf"));
}
static int load_adapter_mlx(struct world *w)
{
    return peft_adapter_load(w->m, "y", in("adapter_mlx"));
}
static int save_adapter_gguf(struct world *w)
{
    return peft_adapter_save(w->m, "x", in("out_adapter.gguf"));
}
static int save_adapter_mlx(struct world *w)
{
    peft_adapter_save_opts o = { .size = sizeof(o), .format = "mlx" };
    return peft_adapter_save_as(w->m, "x", in("out_mlx"), &o);
}
static int merge_adapter(struct world *w) { return peft_adapter_merge(w->m, "x"); }
static int add_head(struct world *w)
{
    peft_head_opts o = { .size = sizeof(o), .labels = 3, .names = kit_labels };
    return peft_head_add(w->m, &o);
}
static int load_rows(struct world *w)
{
    return peft_dataset_load(w->m, in("rows.jsonl"), NULL, &w->d);
}
static int load_chat(struct world *w)
{
    return peft_dataset_load(w->m, in("chat.jsonl"), NULL, &w->d);
}
static int load_labels(struct world *w)
{
    return peft_dataset_load(w->m, in("labels.jsonl"), NULL, &w->d);
}
static int split(struct world *w) { return peft_dataset_split(w->d, 0.3, 1, &w->part); }
static int subset(struct world *w)
{
    return peft_dataset_subset(w->d, (const int64_t[]){ 1, 1 }, 2, &w->part);
}
static int info(struct world *w)
{
    peft_dataset_stats s = { .size = sizeof(s) };
    return peft_dataset_info(w->d, &s);
}
static int new_trainer(struct world *w)
{
    peft_train_opts o = { .size = sizeof(o), .batch = 2, .steps = 3, .lr = 0.01f };
    return peft_trainer_new(w->m, w->d, &o, &w->t);
}
static int new_packing(struct world *w)
{
    peft_train_opts o = { .size = sizeof(o), .batch = 1, .packing = 1, .max_len = 16, .steps = 3 };
    return peft_trainer_new(w->m, w->d, &o, &w->t);
}
static int plan(struct world *w)
{
    peft_plan p = { .size = sizeof(p) };
    return peft_trainer_plan(w->t, &p);
}
static int train(struct world *w)
{
    int rc;
    while (!(rc = peft_train_step(w->t, NULL))) {}
    return rc == PEFT_EEND ? PEFT_OK : rc;
}
static int save_trainer(struct world *w) { return peft_trainer_save(w->t, in("check")); }
static int resume(struct world *w) { return peft_trainer_resume(w->t, in("state")); }
static int evaluate(struct world *w)
{
    peft_evaluation e = { .size = sizeof(e) };
    return peft_eval(w->m, w->d, NULL, &e);
}
static int forward(struct world *w)
{
    static float z[6 * VOCAB];
    return peft_forward(w->m, kit_ids, 6, z);
}
static int embed(struct world *w)
{
    float x[DIM];
    return peft_embed(w->m, kit_ids, 6, 1, x);
}
static int generate(struct world *w)
{
    static const peft_message ask = { "user", "hello" };
    static const char *const stop[] = { "zzz" };
    peft_generate_opts o = { .size = sizeof(o), .max_tokens = 6, .temperature = 1, .top_k = 9,
                             .stop = stop, .n_stop = 1 };
    return peft_generate(w->m, &ask, 1, &o, NULL);
}
static int64_t text(struct world *w)
{
    static const peft_message ask = { "user", "hello" };
    int32_t ids[64];
    char out[256];
    int64_t n = peft_chat_render(w->m, &ask, 1, 1, out, sizeof(out));
    if (n >= 0) n = peft_tokenize(w->m, out, (size_t)n, 0, ids, 64);
    return n < 0 ? n : peft_detokenize(w->m, ids, n, 0, out, sizeof(out));
}
static int use_text(struct world *w)
{
    int64_t n = text(w);
    return n < 0 ? (int)n : PEFT_OK;
}
static int to_float(struct world *w) { return peft_to_float(w->m, "*", 0, NULL); }
static int save_folder(struct world *w)
{
    peft_save_opts o = { .size = sizeof(o), .shard_bytes = 20000 };
    return peft_model_save(w->m, in("out"), &o);
}
static int save_gguf(struct world *w) { return peft_model_save(w->m, in("out.gguf"), NULL); }

typedef int step(struct world *);
static const struct scenario {
    const char *name;
    step *set[4], *act;
    const char *writes;             /* what act replaces, under kit_dir */
    int reads;                      /* it opens files: also for the faults of files */
} scenarios[] = {
    { "load folder", { 0 }, load_folder, NULL, 1 },
    { "load unmapped", { 0 }, load_unmapped, NULL, 1 },
    { "load gguf", { 0 }, load_gguf, NULL, 1 },
    { "forward", { load_folder }, forward, NULL, 0 },
    { "embed", { load_folder }, embed, NULL, 0 },
    { "text", { load_folder }, use_text, NULL, 0 },
    { "generate", { load_folder }, generate, NULL, 0 },
    { "generate gguf", { load_gguf }, generate, NULL, 0 },
    { "head_add", { load_folder }, add_head, NULL, 0 },
    { "adapter_add", { load_folder }, add_adapter, NULL, 0 },
    { "adapter_add with head", { load_folder, add_head }, add_adapter, NULL, 0 },
    { "adapter_load", { load_folder }, load_adapter, NULL, 1 },
    { "adapter_load gguf", { load_gguf, add_adapter }, load_adapter, NULL, 1 },
    { "adapter_load with head", { load_folder }, load_head_adapter, NULL, 1 },
    { "adapter_save", { load_gguf, add_adapter }, save_adapter, "out_adapter", 0 },
    { "adapter_load of gguf", { load_folder }, load_adapter_gguf, NULL, 1 },
    { "adapter_load of mlx", { load_folder }, load_adapter_mlx, NULL, 1 },
    { "adapter_save as gguf", { load_gguf, add_lora }, save_adapter_gguf, "out_adapter.gguf", 0 },
    { "adapter_save as mlx", { load_gguf, add_adapter }, save_adapter_mlx, "out_mlx", 0 },
    { "merge", { load_gguf, add_adapter }, merge_adapter, NULL, 0 },
    { "to_float", { load_gguf }, to_float, NULL, 0 },
    { "dataset rows", { load_folder }, load_rows, NULL, 1 },
    { "dataset chat", { load_folder }, load_chat, NULL, 1 },
    { "dataset labels", { load_folder, add_head }, load_labels, NULL, 1 },
    { "split", { load_folder, load_rows }, split, NULL, 0 },
    { "subset", { load_folder, load_rows }, subset, NULL, 0 },
    { "info", { load_folder, load_rows }, info, NULL, 0 },
    { "trainer_new", { load_folder, add_adapter, load_rows }, new_trainer, NULL, 0 },
    { "trainer_new packing", { load_folder, add_adapter, load_rows }, new_packing, NULL, 0 },
    { "trainer_new head", { load_folder, add_head, load_labels }, new_trainer, NULL, 0 },
    { "plan", { load_folder, add_adapter, load_rows, new_trainer }, plan, NULL, 0 },
    { "train", { load_folder, add_adapter, load_rows, new_trainer }, train, NULL, 0 },
    { "train full", { load_folder, load_rows, new_packing }, train, NULL, 0 },
    { "train head", { load_folder, add_head, load_labels, new_trainer }, train, NULL, 0 },
    { "trainer_save", { load_folder, add_adapter, load_rows, new_trainer }, save_trainer,
      "check", 0 },
    { "resume", { load_folder, add_adapter, load_rows, new_trainer }, resume, NULL, 1 },
    { "eval", { load_folder, load_rows }, evaluate, NULL, 0 },
    { "eval head", { load_folder, add_head, load_labels }, evaluate, NULL, 0 },
    { "save folder", { load_folder, add_adapter }, save_folder, "out", 0 },
    { "save folder of gguf", { load_gguf }, save_folder, "out", 0 },
    { "save gguf", { load_folder }, save_gguf, "out.gguf", 0 },
    { "save gguf of gguf", { load_gguf }, save_gguf, "out.gguf", 0 },
};

static void make(struct world *w, const struct scenario *s)
{
    memset(w, 0, sizeof(*w));
    for (int i = 0; i < 4 && s->set[i]; i++) OK(s->set[i](w));
}
static void drop(struct world *w)
{
    peft_trainer_free(w->t);
    peft_dataset_free(w->part);
    peft_dataset_free(w->d);
    peft_model_free(w->m);
    CHECK_EQ(atomic_load(&kit_mem.live), 0);
    atomic_store(&kit_mem.live, 0);
}

/* What a failed call may not change. */
static double outputs(struct world *w)
{
    static float z[6 * VOCAB];
    double sum = 0;
    peft_info i = { .size = sizeof(i) };
    if (!w->m) return 0;
    OK(peft_model_info(w->m, &i));
    OK(peft_forward(w->m, kit_ids, 6, z));
    for (int k = 0; k < (i.labels ? i.labels : 6 * VOCAB); k++) sum += z[k] * (k % 7 + 1);
    return sum + 1e6 * (double)i.n_adapters + 1e7 * i.labels + 1e-9 * (double)i.trainable;
}

/* A sum over the names and bytes of a file or folder; -1 = not there. */
static int64_t fingerprint(const char *path)
{
    struct stat st;
    int64_t sum = 1;
    if (stat(path, &st)) return -1;
    if (!S_ISDIR(st.st_mode)) {
        struct bytes b = get(path);
        for (size_t i = 0; i < b.n; i++) sum = (int64_t)((uint64_t)sum * 31 + (uint8_t)b.at[i]);
        free(b.at);
        return sum & INT64_MAX;
    }
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char full[512];
        if (e->d_name[0] == '.') continue;
        snprintf(full, sizeof(full), "%s/%s", path, e->d_name);
        sum += fingerprint(full) % 1000003 * (int64_t)strlen(e->d_name);
    }
    if (d) closedir(d);
    return sum;
}
/* What a scenario writes has the same bytes whenever it succeeds. */
static void check_written(const struct scenario *s)
{
    static int64_t first[ARRAY_LEN(scenarios)];
    int64_t i = s - scenarios;
    if (!s->writes) return;
    int64_t now = fingerprint(in("%s", s->writes));
    if (first[i] && now != first[i]) {
        test_bad++;
        printf("%s: wrote other bytes than without a fault\n", s->name);
    }
    if (!first[i]) first[i] = now;
}

/* Temporary files that a call left behind. */
static int leftovers(void)
{
    int n = 0;
    DIR *d = opendir(kit_dir);
    for (struct dirent *e; d && (e = readdir(d));)
        n += strstr(e->d_name, ".tmp-") || strstr(e->d_name, ".old-");
    if (d) closedir(d);
    return n;
}

/* --- memory */

/* Returns 0 when the n-th allocation is beyond the call's last one. */
static int fail_nth(const struct scenario *s, long n, int forever)
{
    struct world w;
    double before = 0;
    make(&w, s);
    int same = n % 5 == 1 && s->act != train && s->act != merge_adapter;
    if (same) before = outputs(&w);
    long from = atomic_load(&kit_mem.calls);
    kit_mem.forever = forever;
    atomic_store(&kit_mem.fail_at, from + n);
    int rc = s->act(&w);
    atomic_store(&kit_mem.fail_at, 0);
    int hit = atomic_load(&kit_mem.calls) >= from + n;
    if (rc && (rc != PEFT_ENOMEM || !is_failure(rc))) {
        test_bad++;
        printf("%s, allocation %ld: %d \"%s\"\n", s->name, n, rc, peft_errmsg());
    }
    if (rc && same && before != outputs(&w)) {
        test_bad++;
        printf("%s, allocation %ld: the model is not what it was\n", s->name, n);
    }
    if (rc && (rc = s->act(&w))) {
        test_bad++;
        printf("%s, allocation %ld: then %d \"%s\"\n", s->name, n, rc, peft_errmsg());
    }
    check_written(s);
    if (w.m && n % 5 == 1) outputs(&w);
    int bad = test_bad;
    drop(&w);
    if (bad != test_bad) printf("%s, allocation %ld: memory is lost\n", s->name, n);
    return hit;
}

static void test_memory(void)
{
#ifdef __SANITIZE_ADDRESS__
    enum { STRIDE = 3 };
#else
    enum { STRIDE = 1 };
#endif
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
        long n = 1;
        fail_nth(&scenarios[i], LONG_MAX / 2, 0);       /* none: what it writes */
        while (fail_nth(&scenarios[i], n, 0)) n += n < 40 ? 1 : STRIDE;
        for (long k = 1; k < n; k += n < 60 ? 1 : 2 * STRIDE + 1) fail_nth(&scenarios[i], k, 1);
        CHECK_EQ(leftovers(), 0);
    }
}

/* --- files */

enum kind { OPEN, LENGTH, READ, WRITE, SYNC, CLOSE, MAP, RENAME, MKDIR, SYNC_DIR, KIND, LIST };
static struct {
    peft_io os;
    long calls, fail_at;            /* 0 = none */
    int err, open;                  /* what it returns, 0 = a short write; files open */
    enum kind failed;
} disk;

static int faulty(enum kind k)
{
    if (!disk.err && k != WRITE) return 0;
    if (++disk.calls != disk.fail_at) return 0;
    disk.failed = k;
    return 1;
}
static void *f_open(void *c, const char *path, int32_t write, int32_t *err)
{
    if (faulty(OPEN)) {
        *err = disk.err;
        return NULL;
    }
    void *f = disk.os.open(c, path, write, err);
    disk.open += f != NULL;
    return f;
}
static int64_t f_length(void *c, void *f)
{
    return faulty(LENGTH) ? disk.err : disk.os.length(c, f);
}
static int64_t f_read(void *c, void *f, int64_t at, void *to, int64_t n)
{
    return faulty(READ) ? disk.err : disk.os.read(c, f, at, to, n);
}
/* A write that fails has written a part; one with err 0 is merely short. */
static int64_t f_write(void *c, void *f, const void *from, int64_t n)
{
    if (!faulty(WRITE)) return disk.os.write(c, f, from, n);
    int64_t part = disk.os.write(c, f, from, (n + 1) / 2);
    return disk.err ? disk.err : part;
}
static int32_t f_sync(void *c, void *f) { return faulty(SYNC) ? disk.err : disk.os.sync(c, f); }
static int32_t f_close(void *c, void *f)
{
    int32_t rc = disk.os.close(c, f);
    disk.open--;
    return faulty(CLOSE) ? disk.err : rc;
}
static const void *f_map(void *c, void *f, int64_t n)
{
    return faulty(MAP) ? NULL : disk.os.map(c, f, n);
}
static int32_t f_rename(void *c, const char *from, const char *to)
{
    return faulty(RENAME) ? disk.err : disk.os.rename(c, from, to);
}
static int32_t f_mkdir(void *c, const char *path)
{
    return faulty(MKDIR) ? disk.err : disk.os.mkdir(c, path);
}
static int32_t f_sync_dir(void *c, const char *path)
{
    return faulty(SYNC_DIR) ? disk.err : disk.os.sync_dir(c, path);
}
static int32_t f_kind(void *c, const char *path)
{
    return faulty(KIND) ? disk.err : disk.os.kind(c, path);
}
static int32_t f_list(void *c, const char *path, int32_t (*each)(void *, const char *), void *arg)
{
    return faulty(LIST) ? disk.err : disk.os.list(c, path, each, arg);
}

static int fail_nth_call(const struct scenario *s, long n, int err)
{
    struct world w;
    disk.fail_at = 0;
    make(&w, s);
    int64_t before = s->writes ? fingerprint(in("%s", s->writes)) : 0;
    disk.calls = 0;
    disk.fail_at = n;
    disk.err = err;
    int rc = s->act(&w), hit = disk.calls >= n;
    disk.fail_at = 0;
    /* Not to know what a path is means that it is not found. */
    int expected = disk.failed == KIND ? PEFT_ENOTFOUND : PEFT_EIO;
    if (rc && ((rc != PEFT_EIO && rc != expected) || !is_failure(rc))) {
        test_bad++;
        printf("%s, call %ld (%d): %d \"%s\"\n", s->name, n, disk.failed, rc, peft_errmsg());
    }
    if (rc && err == 0) {
        test_bad++;
        printf("%s, call %ld: a short write is a failure: %s\n", s->name, n, peft_errmsg());
    }
    /* A file that is renamed already cannot come back when its folder's sync fails. */
    if (rc && s->writes && disk.failed != SYNC_DIR &&
        fingerprint(in("%s", s->writes)) != before) {
        test_bad++;
        printf("%s, call %ld (%d): the old files are changed\n", s->name, n, disk.failed);
    }
    int left = leftovers();
    /* The old folder is removed by listing it. */
    if (left && disk.failed == LIST && !rc) {
        char cmd[128];
        snprintf(cmd, sizeof(cmd), "rm -rf %s/*.old-*", kit_dir);
        left = system(cmd) || leftovers();
    }
    if (left) {
        test_bad++;
        printf("%s, call %ld (%d): temporary files are left\n", s->name, n, disk.failed);
    }
    if (rc && (rc = s->act(&w))) {
        test_bad++;
        printf("%s, call %ld: then %d \"%s\"\n", s->name, n, rc, peft_errmsg());
    }
    check_written(s);
    drop(&w);
    if (disk.open) {
        test_bad++;
        printf("%s, call %ld (%d): %d files are open\n", s->name, n, disk.failed, disk.open);
        disk.open = 0;
    }
    return hit;
}

static void test_files(void)
{
    static const int errors[] = { -EIO, -ENOSPC, 0 };
    peft_io io = { .size = sizeof(io), .open = f_open, .length = f_length, .read = f_read,
                   .write = f_write, .sync = f_sync, .close = f_close, .map = f_map,
                   .rename = f_rename, .mkdir = f_mkdir, .sync_dir = f_sync_dir, .kind = f_kind,
                   .list = f_list };
    disk.os.size = sizeof(disk.os);
    OK(peft_io_default(&disk.os));
    io.unmap = disk.os.unmap;
    io.remove = disk.os.remove;
    opts.io = &io;
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++)
        for (size_t k = 0; k < ARRAY_LEN(errors); k++) {
            const struct scenario *s = &scenarios[i];
            if (s->writes || (s->reads && errors[k]))
                for (long n = 1; fail_nth_call(s, n, errors[k]);) n++;
        }
    opts.io = NULL;
}

static void make_files(void)
{
    struct world w = { 0 };
    snprintf(base, sizeof(base), "%s", make_model("base", 1));
    rows_file();
    chat_file();
    label_file();
    OK(load_folder(&w));
    OK(peft_model_save(w.m, in("base.gguf"), NULL));
    OK(add_adapter(&w));
    OK(peft_adapter_save(w.m, "x", in("adapter")));
    OK(save_adapter(&w));
    OK(save_adapter_mlx(&w));
    OK(rename(in("out_mlx"), in("adapter_mlx")));
    OK(save_adapter_mlx(&w));
    OK(load_rows(&w));
    OK(new_trainer(&w));
    OK(peft_train_step(w.t, NULL));
    OK(peft_trainer_save(w.t, in("state")));
    OK(save_trainer(&w));
    drop(&w);
    memset(&w, 0, sizeof(w));
    OK(load_folder(&w));
    OK(add_lora(&w));
    OK(peft_adapter_save(w.m, "x", in("adapter.gguf")));
    OK(save_adapter_gguf(&w));
    OK(peft_adapter_remove(w.m, "x"));
    OK(add_head(&w));
    OK(add_adapter(&w));
    OK(peft_adapter_save(w.m, "x", in("head_adapter")));
    drop(&w);
}

int main(void)
{
    kit_begin();
    opts = kit_opts();
    RUN(make_files);
    RUN(test_memory);
    RUN(test_files);
    kit_end();
    return TEST_END();
}
