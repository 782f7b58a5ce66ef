/* What is true of an adapter's folder: found in adapter_config.json, in the names and
 * shapes of its tensors, and in how they fit each other and a base model.  Nothing of
 * it is an error here: readers.c says what each reader makes of it. */
#include <stdio.h>

#include "adapt/readers.h"

static void fact(struct facts *f, enum fact which, const char *found, int64_t n)
{
    if (f->has[which]) return;
    f->has[which] = 1;
    snprintf(f->found[which], sizeof(f->found[which]), "%.*s", (int)MIN(n, 200), found);
}
static void fact_key(struct facts *f, enum fact which, const char *found)
{
    fact(f, which, found, (int64_t)strlen(found));
}

/* --- adapter_config.json */

/* Python's idea of true. */
static int is_on(const json *j)
{
    switch (json_kind(j)) {
    case JSON_NULL: return 0;
    case JSON_BOOL: return json_bool(j, 0);
    case JSON_NUMBER: return json_number(j, 0) != 0;
    case JSON_STRING: return *json_string(j) != 0;
    default: return json_first(j) != NULL;
    }
}
static int is_given(const json *c, const char *key)
{
    const json *j = json_get(c, key);
    return j && json_kind(j) != JSON_NULL;
}

static const struct { const char *key; uint8_t fact; } switches[] = {
    { "use_dora", FACT_DORA }, { "lora_bias", FACT_BIAS }, { "modules_to_save", FACT_SAVED },
    { "trainable_token_indices", FACT_TOKENS }, { "target_parameters", FACT_EXPERTS },
    { "alora_invocation_tokens", FACT_ALORA }, { "use_qalora", FACT_VARIANT },
    { "use_bdlora", FACT_VARIANT }, { "arrow_config", FACT_VARIANT },
    { "kasa_config", FACT_VARIANT }, { "monteclora_config", FACT_VARIANT },
    { "layer_replication", FACT_VARIANT }
};

/* Values of init_lora_weights that take the initial product out of the base. */
static const struct { const char *prefix; uint8_t fact; } init_facts[] = {
    { "pissa_niter_", FACT_START_RANDOM }, { "pissa", FACT_START }, { "olora", FACT_START },
    { "loftq", FACT_START_DATA }, { "corda", FACT_START_DATA }, { "lora_ga", FACT_START_DATA }
};

/* PeftType of PEFT 0.21.2 (peft/utils/peft_types.py), beside those of methods[]. */
static const char other_types[] =
    " MULTITASK_PROMPT_TUNING ADALORA ADAMSS BOFT"
    " ADAPTION_PROMPT BEFT LILY POLY FROD PVERA FOURIERFT GLORA XLORA HRA VBLORA UNILORA CPT MISS"
    " RANDLORA ROAD TRAINABLE_TOKENS HIRA SHIRA C3A WAVEFT OSF DELORA GRALORA CARTRIDGE TINYLORA"
    " PSOFT PEANUT SHADOW SUPERTUNING DEFT ";

static int is_known_type(const char *type)
{
    char word[40];
    for (int i = 0; methods[i]; i++)
        if (!strcmp(methods[i]->peft_type, type)) return 1;
    snprintf(word, sizeof(word), " %s ", type);
    return strlen(type) < 36 && strstr(other_types, word) != NULL;
}

/* 1 = it is a LoRA, of which there is more to say. */
static int type_facts(struct facts *f, const json *c)
{
    const char *type = json_string(json_get(c, "peft_type"));
    if (!type && (json_get(c, "lora_parameters") || json_get(c, "fine_tune_type"))) {
        fact_key(f, FACT_MLX, "lora_parameters");
        return 0;
    }
    snprintf(f->method, sizeof(f->method), "%s", type ? type : "");
    if (!type) {
        fact_key(f, FACT_NO_TYPE, "peft_type");
        return 1;
    }
    if (!is_known_type(type)) fact_key(f, FACT_UNKNOWN_TYPE, type);
    else if (strcmp(type, "LORA"))
        fact_key(f, strstr(" PROMPT_TUNING MULTITASK_PROMPT_TUNING P_TUNING PREFIX_TUNING CPT ",
                           type) ? FACT_PROMPT : FACT_OTHER_TYPE, type);
    return !f->has[FACT_PROMPT] && !f->has[FACT_OTHER_TYPE];
}

static void config_facts(struct facts *f, const json *c)
{
    const char *bias = json_string(json_get(c, "bias"));
    const char *init = json_string(json_get(c, "init_lora_weights"));
    if (!is_given(c, "base_model_name_or_path")) fact_key(f, FACT_NO_BASE, "adapter_config.json");
    if (!type_facts(f, c)) return;
    for (size_t i = 0; i < ARRAY_LEN(switches); i++)
        if (is_on(json_get(c, switches[i].key)))
            fact_key(f, (enum fact)switches[i].fact, switches[i].key);
    if (bias && strcmp(bias, "none")) fact_key(f, FACT_BIAS, "bias");
    for (size_t i = 0; i < ARRAY_LEN(init_facts) && init; i++) {
        if (strncmp(init, init_facts[i].prefix, strlen(init_facts[i].prefix))) continue;
        fact_key(f, (enum fact)init_facts[i].fact, init);
        break;
    }
    if (!is_given(c, "r")) fact_key(f, FACT_NO_RANK, "r");
    if (!is_given(c, "lora_alpha")) fact_key(f, FACT_NO_ALPHA, "lora_alpha");
    if (!is_given(c, "target_modules") && !f->has[FACT_EXPERTS])
        fact_key(f, FACT_NO_TARGETS, "target_modules");
    f->rank = (int64_t)MIN(MAX(json_number(json_get(c, "r"), 8), 0.0), 1e9);
    if (f->rank > 512) fact_key(f, FACT_HUGE_RANK, "r");
    else if (f->rank > 16) fact_key(f, FACT_LARGE_RANK, "r");
    snprintf(f->method, sizeof(f->method), "%s", f->has[FACT_DORA] ? "dora" : "lora");
}

/* --- tensors */

enum ending { IS_A, IS_B, IS_EMBED_A, IS_EMBED_B, IS_BIAS, IS_MAGNITUDE, IS_BASE, IS_TOKENS,
              IS_WHOLE };
static const struct { const char *text; uint8_t kind; } tensor_endings[] = {
    { ".lora_A.weight", IS_A }, { ".lora_B.weight", IS_B }, { ".lora_embedding_A", IS_EMBED_A },
    { ".lora_embedding_B", IS_EMBED_B }, { ".lora_B.bias", IS_BIAS },
    { ".lora_magnitude_vector", IS_MAGNITUDE }, { ".lora_magnitude_vector.weight", IS_MAGNITUDE },
    { ".base_layer.weight", IS_BASE }, { ".trainable_tokens_delta", IS_TOKENS }
};

static enum ending ending_of(const char *name, int64_t *module)
{
    int64_t n = (int64_t)strlen(name);
    for (size_t i = 0; i < ARRAY_LEN(tensor_endings); i++) {
        int64_t k = (int64_t)strlen(tensor_endings[i].text);
        *module = n - k;
        if (n > k && !strcmp(name + n - k, tensor_endings[i].text))
            return (enum ending)tensor_endings[i].kind;
    }
    const char *dot = strrchr(name, '.');
    *module = dot ? dot - name : n;
    return IS_WHOLE;
}

/* One module's A and B: bit 0, bit 1 seen; what A reads and B writes. */
struct pair { int64_t seen, in, out; };
enum { LONG_LIST = 4096 };
struct walk {
    struct facts *f;
    const json *config;
    const struct model *m;
    struct adapter settings;        /* r, lora_alpha and use_rslora, for settings_rank */
    struct map names, sites;        /* of pairs, of m->sites */
    struct pair *pairs;
    int64_t n_pairs;
    int long_lists;                 /* too many targets to look each tensor up */
};

/* The last number between dots that does not come first, as PEFT finds the layer. */
static int64_t layer_of(const char *name)
{
    int64_t layer = -1;
    for (const char *s = strchr(name, '.'); s; s = strchr(s + 1, '.')) {
        size_t n = strspn(s + 1, "0123456789");
        if (!n || n > 6 || s[1 + n] != '.') continue;
        layer = 0;
        for (size_t i = 1; i <= n; i++) layer = 10 * layer + (s[i] - '0');
    }
    return layer;
}

static int facts_lists(const json *list, const char *module)
{
    for (const json *j = json_first(list); j; j = json_next(j))
        if (json_string(j) && adapter_has_ending(module, json_string(j))) return 1;
    return 0;
}

/* Whether target_modules and what narrows it name the module.  An expression is
 * taken at its word. */
static int is_covered(const json *c, const char *module)
{
    const json *targets = json_get(c, "target_modules"), *layers;
    if (facts_lists(json_get(c, "exclude_modules"), module)) return 0;
    if (json_kind(targets) == JSON_ARRAY && !facts_lists(targets, module)) return 0;
    layers = json_get(c, "layers_to_transform");
    int64_t layer = layer_of(module);
    if (json_kind(layers) == JSON_NUMBER) return (double)layer == json_number(layers, -1);
    const json *j = json_first(layers);
    while (j && json_number(j, -1) != (double)layer) j = json_next(j);
    return !json_first(layers) || j;
}

/* The modules that PEFT adapts when a LoRA's target_modules is absent: one set or
 * another of these by the architecture (peft/utils/constants.py). */
static int is_default(const char *module)
{
    static const char *const names[] = { "q_proj", "v_proj", "query", "value", "query_key_value",
                                         "c_attn", "Wqkv" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (adapter_has_ending(module, names[i])) return 1;
    return 0;
}

/* Of target_parameters, whose tensors have all experts' ranks below each other. */
static int of_experts(const struct walk *w, const char *module)
{
    return w->f->has[FACT_EXPERTS] && strstr(module, "experts");
}

static double scale_of(const struct walk *w, double rank, double alpha)
{
    return w->settings.rslora ? alpha * alpha / rank : alpha / rank;
}

/* What the config gives the module against the size in the file. */
static int rank_facts(struct walk *w, const char *module, const char *from, int64_t rank)
{
    struct facts *f = w->f;
    int32_t want;
    float alpha;
    if (of_experts(w, module)) return PEFT_OK;
    int rc = settings_rank(&w->settings, w->config, module, module, &want, &alpha);
    if (rc) return rc;
    if (rank != want) fact_key(f, FACT_RANK_UNSAID, from);
    if (w->settings.rslora && rank > 1) fact_key(f, FACT_RSLORA, "use_rslora");
    if (alpha != w->settings.alpha) fact_key(f, FACT_ALPHAS, module);
    if (scale_of(w, want, (double)alpha) !=
        scale_of(w, w->settings.rank, (double)w->settings.alpha))
        fact_key(f, FACT_SCALES, module);
    return PEFT_OK;
}

static const struct site *site_named(const struct walk *w, const char *prefix, const char *module)
{
    char full[320];
    snprintf(full, sizeof(full), "%s%s", prefix, module);
    int64_t i = map_gets(&w->sites, full, -1);
    return i < 0 ? NULL : w->m->sites[i];
}

static void base_facts(struct walk *w, const struct store_tensor *t, const char *module,
                       enum ending kind)
{
    const struct site *s = site_named(w, "", module);
    const struct slot_row *head = slot_find(w->m->arch, SLOT_LM_HEAD);
    if (!s && head && !strcmp(head->hf, module) && w->m->global[SLOT_EMBED]) {
        fact_key(w->f, FACT_TIED_HEAD, module);
        s = w->m->global[SLOT_EMBED];
    }
    if (of_experts(w, module)) return;
    if (!s && w->m->arch->prefix && (s = site_named(w, w->m->arch->prefix, module)))
        fact_key(w->f, FACT_BARE, t->name);
    if (!s) {
        fact_key(w->f, FACT_NO_MODULE, t->name);
        return;
    }
    int64_t want = kind == IS_A || kind == IS_EMBED_B ? s->w->cols : s->w->rows;
    int columns = kind == IS_A || kind == IS_EMBED_A;
    if (t->n_dims == 2 && t->dims[columns] != want) fact_key(w->f, FACT_SHAPE, t->name);
}

/* A and B of a module, with or without a base. */
static int pair_facts(struct walk *w, const struct store_tensor *t, const char *name, int64_t n,
                      enum ending kind)
{
    struct facts *f = w->f;
    char module[256];
    int is_a = kind == IS_A || kind == IS_EMBED_A;
    snprintf(module, sizeof(module), "%.*s", (int)MIN(n, 255), name);
    if (map_add(&w->names, name, n, w->n_pairs) < 0) return PEFT_ENOMEM;
    struct pair *pair = &w->pairs[map_get(&w->names, name, n, 0)];
    w->n_pairs += pair == w->pairs + w->n_pairs;
    pair->seen |= is_a ? 1 : 2;
    if (kind == IS_A) pair->in = t->dims[1];
    if (kind == IS_B) pair->out = t->dims[0];
    if (!w->long_lists && !is_covered(w->config, module) && !of_experts(w, module))
        fact_key(f, FACT_UNCOVERED, t->name);
    if (f->has[FACT_NO_TARGETS] && !is_default(module))
        fact_key(f, FACT_OTHER_TARGETS, module);
    if (w->m) base_facts(w, t, module, kind);
    if (t->n_dims < 2) return PEFT_OK;
    return rank_facts(w, module, t->name, t->dims[!is_a]);
}

static void whole_facts(struct walk *w, const char *from, const char *name)
{
    int norm = strstr(name, "_layernorm") || strstr(name, ".norm");
    fact_key(w->f, norm ? FACT_NORM : FACT_WHOLE, from);
}

static int tensor_facts(struct walk *w, const struct store_tensor *t)
{
    struct facts *f = w->f;
    const char *name = t->name;
    int64_t n;
    if (!strncmp(name, PREFIX, strlen(PREFIX))) name += strlen(PREFIX);
    else fact_key(f, FACT_NO_PREFIX, name);
    if (strstr(name, ".lora_") && !strstr(name, ".lora_magnitude")) {
        const char *last = strstr(name, ".lora_") + 1, *dot = strchr(last, '.');
        if (dot && strcmp(dot, ".weight") && strcmp(dot, ".bias")) {
            fact_key(f, FACT_NAMED, t->name);
            return PEFT_OK;
        }
    }
    enum ending kind = ending_of(name, &n);
    if (kind <= IS_EMBED_B) return pair_facts(w, t, name, n, kind);
    if (kind == IS_BIAS)
        fact_key(f, f->has[FACT_BIAS] ? FACT_BIAS : FACT_BIAS_UNSAID, t->name);
    if (kind == IS_MAGNITUDE && !f->has[FACT_DORA]) fact_key(f, FACT_DORA_UNSAID, t->name);
    if (kind == IS_TOKENS && !f->has[FACT_TOKENS]) fact_key(f, FACT_TOKENS_UNSAID, t->name);
    if (kind == IS_WHOLE) whole_facts(w, t->name, name);
    return PEFT_OK;
}

/* modules_to_save of which the file has none: PEFT looks their tensors up. */
static void saved_facts(struct walk *w, const struct store *st)
{
    const json *list = json_get(w->config, "modules_to_save");
    char module[256];
    int64_t n;
    for (int64_t i = 0; i < store_count(st); i++) {
        const char *name = store_at(st, i)->name;
        if (ending_of(name, &n) != IS_WHOLE) continue;
        snprintf(module, sizeof(module), "%.*s", (int)MIN(n, 255), name);
        for (const json *j = json_first(list); j; j = json_next(j))
            if (json_string(j) && strstr(module, json_string(j))) return;
    }
    if (w->f->has[FACT_SAVED]) fact_key(w->f, FACT_SAVED_ABSENT, "modules_to_save");
}

static int walk_tensors(struct walk *w, const struct store *st)
{
    int rc = PEFT_OK;
    for (int64_t i = 0; i < store_count(st) && !rc; i++) rc = tensor_facts(w, store_at(st, i));
    for (int64_t i = 0; i < store_count(st) && !rc; i++) {
        const char *name = store_at(st, i)->name;
        int64_t n;
        if (!strncmp(name, PREFIX, strlen(PREFIX))) name += strlen(PREFIX);
        enum ending kind = ending_of(name, &n);
        int64_t at = kind <= IS_EMBED_B ? map_get(&w->names, name, n, -1) : -1;
        if (at < 0) continue;
        const struct pair *p = &w->pairs[at];
        if (p->seen != 3) fact_key(w->f, FACT_HALF, store_at(st, i)->name);
        if (json_bool(json_get(w->config, "fan_in_fan_out"), 0) && kind == IS_B)
            fact_key(w->f, p->in == p->out ? FACT_TURNED_SQUARE : FACT_TURNED,
                     store_at(st, i)->name);
    }
    if (!rc) saved_facts(w, st);
    return rc;
}

static int lora_facts(struct host *h, struct walk *w, const struct store *st)
{
    const struct model *m = w->m;
    w->settings.method = method_by_name("lora");
    w->settings.rank = (int32_t)MIN(w->f->rank, 1 << 30);
    w->settings.alpha = (float)json_number(json_get(w->config, "lora_alpha"), 8);
    w->settings.rslora = (uint8_t)json_bool(json_get(w->config, "use_rslora"), 0);
    w->long_lists = json_count(json_get(w->config, "target_modules")) > LONG_LIST;
    map_init(&w->names, &h->mem);
    map_init(&w->sites, &h->mem);
    w->pairs = mem_array(&h->mem, store_count(st) + 1, sizeof(*w->pairs));
    int rc = w->pairs ? PEFT_OK : PEFT_ENOMEM;
    for (int64_t i = 0; m && i < m->n_sites && !rc; i++) {
        const char *names[] = { m->sites[i]->name, m->sites[i]->peft_name,
                                model_file_name(m, m->sites[i]->name),
                                model_file_name(m, m->sites[i]->peft_name) };
        for (int k = 0; k < 4 && !rc; k++)
            if (map_add(&w->sites, names[k], (int64_t)strlen(names[k]), i) < 0) rc = PEFT_ENOMEM;
    }
    if (!rc) rc = walk_tensors(w, st);
    mem_free(&h->mem, w->pairs);
    map_free(&w->names);
    map_free(&w->sites);
    return rc;
}

/* --- the folder */

static int has_file(struct host *h, const char *dir, const char *name, char **path)
{
    *path = NULL;
    int rc = path_join(h, dir, name, path);
    return rc ? rc : path_kind(h, *path) == 1;
}

static int facts_config(struct host *h, struct facts *f, const char *dir, json **root)
{
    struct file_view v;
    char *path;
    int there = has_file(h, dir, "adapter_config.json", &path), rc = MIN(there, 0);
    if (!there) fact_key(f, FACT_NO_CONFIG, "adapter_config.json");
    if (there > 0 && !(rc = file_open_view(h, path, false, &v))) {
        rc = json_parse((const char *)v.data, v.n, "adapter_config.json", root);
        file_close_view(h, &v);
    }
    mem_free(&h->mem, path);
    if (!rc && *root && json_kind(*root) != JSON_OBJECT)
        rc = fail(PEFT_EFORMAT, "adapter_config.json is %s, expected an object",
                  json_kind_name(*root));
    if (!rc && *root) config_facts(f, *root);
    return rc;
}

static int find_weights(struct host *h, struct facts *f, const char *dir)
{
    static const struct { const char *name; uint8_t fact; } others[] = {
        { "adapter_model.bin", FACT_PICKLE },
        { "adapter_model.safetensors.index.json", FACT_SHARDS }
    };
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        char *path;
        int there = has_file(h, dir, others[i].name, &path);
        mem_free(&h->mem, path);
        if (there < 0) return there;
        if (!there) continue;
        fact_key(f, (enum fact)others[i].fact, others[i].name);
        return PEFT_OK;
    }
    if (!f->has[FACT_MLX]) fact_key(f, FACT_NO_WEIGHTS, "adapter_model.safetensors");
    return PEFT_OK;
}

static int folder_facts(struct host *h, struct walk *w, const char *dir)
{
    struct facts *f = w->f;
    struct store *st = NULL;
    json *root = NULL;
    char *path = NULL;
    int rc = facts_config(h, f, dir, &root);
    int there = rc ? 0 : has_file(h, dir, "adapter_model.safetensors", &path);
    int lora = root && !f->has[FACT_OTHER_TYPE] && !f->has[FACT_PROMPT] && !f->has[FACT_MLX];
    w->config = root;
    if (!rc && there <= 0) rc = there ? there : find_weights(h, f, dir);
    else if (!rc && !(rc = store_open_safetensors(h, path, true, &st))) {
        f->tensors = store_count(st);
        if (lora) rc = settings_check_patterns(root);
        if (lora && !rc) rc = lora_facts(h, w, st);
    }
    store_close(st);
    json_free(root);
    mem_free(&h->mem, path);
    return rc;
}

static int gguf_facts(struct host *h, struct facts *f, const char *path)
{
    struct store *st;
    const char *type = "", *kind = "";
    int rc = store_open(h, path, true, &st);
    if (rc) return rc;
    f->tensors = store_count(st);
    int is_gguf = store_format(st) == STORE_GGUF;
    if (is_gguf && store_string(st, "general.type", &type, NULL) >= 0 &&
        store_string(st, "adapter.type", &kind, NULL) >= 0 && !strcmp(type, "adapter") &&
        !strcmp(kind, "lora"))
        fact_key(f, FACT_GGUF, "general.type");
    else fact_key(f, FACT_GGUF_OTHER, is_gguf ? "general.type" : path_base(path));
    snprintf(f->method, sizeof(f->method), "%s", kind);
    store_close(st);
    return PEFT_OK;
}

int facts_collect(struct host *h, const struct model *m, const char *path, struct facts *f)
{
    struct walk w = { .f = f, .m = m };
    bool began = mem_budget(&h->mem);
    int kind = path_kind(h, path), rc;
    memset(f, 0, sizeof(*f));
    if (kind == 1) rc = gguf_facts(h, f, path);
    else if (kind == 2) rc = folder_facts(h, &w, path);
    else rc = fail(PEFT_ENOTFOUND, "there is no such folder or file");
    mem_budget_end(&h->mem, began);
    return fail_path(rc, path);
}
