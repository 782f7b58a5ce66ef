/* Folders of sentence-transformers: modules.json lists the modules that follow
 * the transformer, Pooling/config.json tells which tokens are averaged,
 * sentence_bert_config.json or, since version 6, tokenizer_config.json how long
 * a text may be. */
#include <stdio.h>

#include "model/load.h"

/* PEFT_OK with *out NULL when there is no such file. */
static int read_beside(struct model *m, const char *dir, const char *name, json **out)
{
    struct file_view v;
    char *path = NULL;
    *out = NULL;
    int rc = path_join(&m->host, dir, name, &path);
    if (!rc && path_kind(&m->host, path) == 1 &&
        !(rc = file_open_view(&m->host, path, false, &v))) {
        rc = json_parse((const char *)v.data, v.n, name, out);
        file_close_view(&m->host, &v);
    }
    mem_free(&m->host.mem, path);
    return rc;
}

/* Flags of older versions, or the name of newer ones. */
static int read_pooling(struct model *m, const char *folder)
{
    static const struct { const char *flag, *name; int pool; } modes[] = {
        { "pooling_mode_mean_tokens", "mean", POOL_MEAN },
        { "pooling_mode_cls_token", "cls", POOL_CLS },
        { "pooling_mode_lasttoken", "lasttoken", POOL_LAST },
        { "pooling_mode_weightedmean_tokens", "weightedmean", POOL_WEIGHTED },
        { "pooling_mode_max_tokens", "max", -1 },
        { "pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", -1 },
    };
    char name[256];
    json *j = NULL;
    int found = 0;
    snprintf(name, sizeof(name), "%.200s/config.json", folder);
    int rc = read_beside(m, m->path, name, &j);
    const char *mode = json_string(json_get(j, "pooling_mode"));
    for (size_t i = 0; i < ARRAY_LEN(modes) && !rc; i++) {
        if (mode ? strcmp(mode, modes[i].name) != 0 : !json_bool(json_get(j, modes[i].flag), 0))
            continue;
        if (found++ || modes[i].pool < 0) m->sentence.other = "Pooling of another kind";
        m->sentence.pool = modes[i].pool;
    }
    json_free(j);
    return rc;
}

static int read_module(struct model *m, const json *module)
{
    const char *type = json_string(json_get(module, "type"));
    const char *path = json_string(json_get(module, "path"));
    const char *dot = type ? strrchr(type, '.') : NULL, *name = dot ? dot + 1 : type;
    if (!name || !path || path[0] == '/' || strstr(path, ".."))
        return fail(PEFT_EFORMAT, "%s/modules.json: expected types and paths", m->path);
    if (!strcmp(name, "Pooling")) return read_pooling(m, path);
    if (!strcmp(name, "Normalize")) m->sentence.normalize = 1;
    else if (strcmp(name, "Transformer") != 0) {
        m->sentence.other = arena_strndup(&m->arena, name, (int64_t)strlen(name));
        if (!m->sentence.other) return PEFT_ENOMEM;
    }
    return PEFT_OK;
}

int load_sentence(struct model *m)
{
    static const struct { const char *file, *key; } lengths[] = {
        { "sentence_bert_config.json", "max_seq_length" },
        { "tokenizer_config.json", "model_max_length" },
    };
    json *modules = NULL, *config;
    m->sentence.pool = POOL_MEAN;
    if (path_kind(&m->host, m->path) != 2) return PEFT_OK;
    int rc = read_beside(m, m->path, "modules.json", &modules);
    for (const json *j = json_first(modules); j && !rc; j = json_next(j)) rc = read_module(m, j);
    for (size_t i = 0; i < ARRAY_LEN(lengths) && !rc && modules && !m->sentence.max_len; i++) {
        rc = read_beside(m, m->path, lengths[i].file, &config);
        double n = json_number(json_get(config, lengths[i].key), 0);
        if (n >= 1 && n < INT32_MAX) m->sentence.max_len = (int64_t)n;
        json_free(config);
    }
    json_free(modules);
    return rc;
}
