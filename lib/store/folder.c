/* Folders in Hugging Face layout: config.json, and the weights in
 * model.safetensors or in the shards that model.safetensors.index.json names
 * ({"weight_map": {tensor: file}}).  A folder with one GGUF file, or the parts
 * of one, and no safetensors is that file. */
#include "store/impl.h"

static int parse_file(struct store *s, const char *path, json **out)
{
    struct file_view v;
    int rc = file_open_view(s->h, path, false, &v);
    if (rc < 0) return rc;
    if (v.n > JSON_LIMIT)
        rc = fail(PEFT_EFORMAT, "%s: has %lld bytes, expected at most %d", path, (long long)v.n,
                  (int)JSON_LIMIT);
    else
        rc = json_parse((const char *)v.data, v.n, path, out);
    file_close_view(s->h, &v);
    if (rc == PEFT_OK && json_kind(*out) != JSON_OBJECT) {
        rc = fail(PEFT_EFORMAT, "%s: is %s, expected an object", path, json_kind_name(*out));
        json_free(*out);
        *out = NULL;
    }
    return rc;
}

int config_read(struct store *s, const char *path)
{
    s->config_path = arena_strndup(&s->arena, path, (int64_t)strlen(path));
    if (!s->config_path) return PEFT_ENOMEM;
    return parse_file(s, path, &s->config);
}

/* The path of a file of the folder, kept by the store.  1 = it is there. */
static int inside(struct store *s, const char *dir, const char *name, const char **out)
{
    char *path;
    int rc = path_join(s->h, dir, name, &path);
    if (rc < 0) return rc;
    *out = arena_strndup(&s->arena, path, (int64_t)strlen(path));
    mem_free(&s->h->mem, path);
    return *out ? path_kind(s->h, *out) == 1 : PEFT_ENOMEM;
}

/* --- shards */

struct shards {
    const char *dir;
    bool map;
    struct map files;               /* file name -> number */
    int64_t *first;                 /* a shard's first tensor; then the end */
    int64_t n;
};

static int read_shard(struct store *s, struct shards *sh, const char *name)
{
    int rc = map_add(&sh->files, name, (int64_t)strlen(name), sh->n);
    if (rc <= 0) return rc;
    const char *path;
    rc = inside(s, sh->dir, name, &path);
    if (rc < 0) return rc;
    if (rc == 0) return fail(PEFT_ENOTFOUND, "%s: this shard is missing", path);
    rc = store_read_file(s, path, sh->map, ONLY_SAFETENSORS);
    sh->first[++sh->n] = s->n;
    return rc;
}

static int read_weight_map(struct store *s, struct shards *sh, const json *weight_map,
                           const char *index)
{
    for (const json *m = json_first(weight_map); m; m = json_next(m)) {
        if (!json_string(m))
            return fail(PEFT_EFORMAT, "%s: tensor %.100s lies in %s, expected a file name", index,
                        json_key(m), json_kind_name(m));
        int rc = read_shard(s, sh, json_string(m));
        if (rc < 0) return rc;
    }
    for (const json *m = json_first(weight_map); m; m = json_next(m)) {
        const char *file = json_string(m);
        int64_t k = map_gets(&sh->files, file, 0), i = map_gets(&s->names, json_key(m), -1);
        if (i < sh->first[k] || i >= sh->first[k + 1])
            return fail(PEFT_EFORMAT, "%s: tensor %.100s is not in %.100s, where it should be",
                        index, json_key(m), file);
    }
    return PEFT_OK;
}

static int read_index(struct store *s, const char *dir, const char *index, bool map)
{
    json *root = NULL;
    int rc = parse_file(s, index, &root);
    if (rc < 0) return rc;
    const json *weight_map = json_get(root, "weight_map");
    struct shards sh = {.dir = dir, .map = map};
    map_init(&sh.files, &s->h->mem);
    if (!weight_map || json_kind(weight_map) != JSON_OBJECT || !json_first(weight_map)) {
        rc = fail(PEFT_EFORMAT, "%s: weight_map is %s, expected an object with tensors", index,
                  json_kind_name(weight_map));
    } else {
        sh.first = mem_array(&s->h->mem, json_count(weight_map) + 1, (int64_t)sizeof *sh.first);
        rc = sh.first ? read_weight_map(s, &sh, weight_map, index) : PEFT_ENOMEM;
    }
    mem_free(&s->h->mem, sh.first);
    map_free(&sh.files);
    json_free(root);
    return rc;
}

/* --- folders without safetensors */

struct listing {
    struct store *s;
    const char *gguf, *pickle, *other;
    int64_t n_gguf;
    int rc;
};

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), k = strlen(end);
    return n > k && strcmp(name + n - k, end) == 0;
}

static int32_t list_entry(void *arg, const char *name)
{
    static const char *const pickles[] = {".bin", ".pt", ".pth", ".ckpt"};
    struct listing *l = arg;
    const char **keep = NULL;
    for (size_t i = 0; i < ARRAY_LEN(pickles); i++)
        if (ends_with(name, pickles[i])) keep = &l->pickle;
    if (ends_with(name, ".safetensors")) keep = &l->other;
    if (ends_with(name, ".gguf")) {
        keep = &l->gguf;
        l->n_gguf++;
    }
    if (!keep) return 0;
    *keep = arena_strndup(&l->s->arena, name, (int64_t)strlen(name));
    l->rc = *keep ? PEFT_OK : PEFT_ENOMEM;
    return l->rc;
}

static int read_other(struct store *s, const char *dir, bool map)
{
    struct listing l = {.s = s};
    int32_t rc = s->h->io.list(s->h->io.ctx, dir, list_entry, &l);
    if (l.rc < 0) return l.rc;
    if (rc < 0) return fail(PEFT_EIO, "%s: the folder cannot be listed (error %d)", dir, (int)-rc);
    const char *path = dir;
    int no, count;
    if (l.n_gguf == 1 || (l.gguf && gguf_part(l.gguf, &no, &count) && count == l.n_gguf)) {
        rc = inside(s, dir, l.gguf, &path);
        if (rc >= 0) rc = gguf_first_part(s, path, &path);
        return rc < 0 ? rc : store_read_file(s, path, map, ONLY_ANY);
    }
    if (l.n_gguf > 1)
        return fail(PEFT_ENOTFOUND, "%s: holds %lld GGUF files; name the one to load", dir,
                    (long long)l.n_gguf);
    if (inside(s, dir, "adapter_config.json", &path) == 1)
        return fail(PEFT_ENOTFOUND, "%s: is an adapter and not a model; load its base model, then "
                    "the adapter", dir);
    if (l.pickle)
        return fail(PEFT_EUNSUPPORTED, "%.200s: only has pickled weights (%.60s), which can run "
                    "code and are not read; convert with Python: from transformers import "
                    "AutoModelForCausalLM as M; M.from_pretrained('FOLDER')"
                    ".save_pretrained('NEW_FOLDER')", dir, l.pickle);
    return fail(PEFT_ENOTFOUND, "%s: holds no weights%s%s; expected model.safetensors, "
                "model.safetensors.index.json or one GGUF file", dir,
                l.other ? " under a name that is known, only " : "", l.other ? l.other : "");
}

int folder_read(struct store *s, const char *dir, bool map)
{
    const char *config, *weights, *index;
    int has_config = inside(s, dir, "config.json", &config);
    int has_weights = inside(s, dir, "model.safetensors", &weights);
    int has_index = inside(s, dir, "model.safetensors.index.json", &index);
    if (has_config < 0 || has_weights < 0 || has_index < 0) return PEFT_ENOMEM;
    if (!has_weights && !has_index) return read_other(s, dir, map);
    if (!has_config)
        return fail(PEFT_ENOTFOUND, "%s: there is no config.json, which describes the model", dir);
    int rc = config_read(s, config);
    if (rc < 0) return rc;
    return has_weights ? store_read_file(s, weights, map, ONLY_SAFETENSORS)
                       : read_index(s, dir, index, map);
}
