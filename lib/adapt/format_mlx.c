/* Adapters of MLX-LM: adapters.safetensors with NAME.lora_a, NAME.lora_b and, of DoRA,
 * NAME.m (see foreign.c), and whole tensors under their names; adapter_config.json
 * with fine_tune_type "lora", "dora" or "full", lora_parameters {rank, scale, dropout,
 * keys} and num_layers.  Names are transformers' but for the table below.
 *
 * The reader puts LoRA on the modules called by keys, in each of the last num_layers
 * layers by the name within the layer, outside by the full name, then takes the
 * tensors: a module without tensors stays as it was, since its B is zero.  So
 * the tensors alone say which modules an adapter has, also with fewer keys.
 * Source: MLX-LM's tuner/utils.py, lora.py and dora.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "adapt/io.h"

/* Beginnings of names that differ. */
static const struct { const char *hf, *mlx; } mlx_names[] = {
    { "transformer.", "model." },           /* GPT-2 */
    { "gpt_neox.layers.", "model.h." },
    { "gpt_neox.", "model." },
    { "embed_out", "model.embed_out" }
};

static int mlx_module(const struct model *m, const struct site *s, char *to, size_t cap)
{
    static const char *const experts[] = { "gate_proj", "up_proj", "down_proj" };
    const char *rest = s->name, *begin = "", *mark = strstr(s->name, ".experts.");
    (void)m;
    for (size_t i = 0; i < ARRAY_LEN(mlx_names) && !*begin; i++)
        if (!strncmp(s->name, mlx_names[i].hf, strlen(mlx_names[i].hf))) {
            begin = mlx_names[i].mlx;
            rest = s->name + strlen(mlx_names[i].hf);
        }
    if (s->expert < 0) snprintf(to, cap, "%s%s", begin, rest);
    else
        snprintf(to, cap, "%s%.*s.switch_mlp.%s", begin, (int)(mark - rest), rest,
                 experts[s->slot - SLOT_EXPERT]);
    return 1;
}

/* A number among lora_parameters; `absent` where there is none. */
static int mlx_number(const json *c, const char *key, double absent, double *to)
{
    char path[64];
    snprintf(path, sizeof(path), "lora_parameters.%s", key);
    const json *j = json_get(c, path);
    *to = json_number(j, absent);
    if (json_kind(j) != JSON_NULL && json_kind(j) != JSON_NUMBER)
        return fail(PEFT_EFORMAT, "adapter_config.json: %s is %s, expected a number", path,
                    json_kind_name(j));
    return PEFT_OK;
}

static int mlx_settings(struct load *l, const char *path, json **config)
{
    const char *type = json_string(json_get(*config, "fine_tune_type"));
    double scale, dropout;
    struct buf b;
    (void)path;
    type = type ? type : "lora";
    if (strcmp(type, "lora") && strcmp(type, "dora") && strcmp(type, "full"))
        return fail(PEFT_EUNSUPPORTED, "adapter_config.json: fine_tune_type \"%s\", expected lora, "
                    "dora or full", type);
    int rc = mlx_number(*config, "dropout", 0, &dropout);
    if (!rc) rc = mlx_number(*config, "scale", strcmp(type, "full") ? NAN : 1, &scale);
    if (rc) return rc;
    if (!(fabs(scale) < 1e30))
        return fail(PEFT_EFORMAT, "adapter_config.json: lora_parameters.scale is %s, expected a "
                    "number", isnan(scale) ? "absent" : "too large");
    buf_init(&b, &l->m->host.mem);
    buf_printf(&b, "{\"peft_type\": \"LORA\", \"use_dora\": %s, \"ensure_weight_tying\": true, "
               "\"lora_alpha\": 0, \"lora_dropout\": ", strcmp(type, "dora") ? "false" : "true");
    buf_number(&b, dropout);
    buf_puts(&b, "}");
    rc = buf_check(&b);
    json_free(*config);
    *config = NULL;
    l->scale = scale;
    if (!rc) rc = json_parse(b.data, b.n, "adapter_config.json", config);
    buf_free(&b);
    return rc;
}

/* The name within its layer, after the first component that is a number. */
static const char *mlx_key(const char *module)
{
    for (const char *at = strchr(module, '.'); at; at = strchr(at + 1, '.')) {
        size_t n = strspn(at + 1, "0123456789");
        if (n && at[n + 1] == '.') return at + n + 2;
    }
    return module;
}

static int mlx_compare(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

static int mlx_put_keys(struct adapter_out *o, struct buf *b)
{
    const struct adapter *a = o->a;
    const char **keys = arena_alloc(&o->t, (a->n_sites + 1) * (int64_t)sizeof(*keys)), *last = "";
    char module[200];
    if (!keys) return PEFT_ENOMEM;
    for (int64_t i = 0; i < a->n_sites; i++) {
        mlx_module(o->m, a->sites[i].site, module, sizeof(module));
        const char *key = mlx_key(module);
        if (!(keys[i] = arena_strndup(&o->t, key, (int64_t)strlen(key)))) return PEFT_ENOMEM;
    }
    qsort(keys, (size_t)a->n_sites, sizeof(*keys), mlx_compare);
    for (int64_t i = 0; i < a->n_sites; i++) {
        if (!strcmp(keys[i], last)) continue;
        buf_puts(b, *last ? ", " : "");
        buf_json(b, keys[i], (int64_t)strlen(keys[i]));
        last = keys[i];
    }
    return PEFT_OK;
}

static int mlx_put_config(struct adapter_out *o, struct buf *b)
{
    const struct adapter *a = o->a;
    int64_t layers = o->m->hp.layers, first = layers - 1;
    const char *base = a->base ? a->base : o->m->path;
    for (int64_t i = 0; i < a->n_sites; i++)
        if (a->sites[i].site->layer >= 0) first = MIN(first, a->sites[i].site->layer);
    buf_printf(b, "{\n  \"fine_tune_type\": \"%s\",\n  \"lora_parameters\": {\n    \"rank\": %d,\n"
               "    \"scale\": ", a->method->name, (int)o->rank);
    buf_real(b, o->scale);
    buf_puts(b, ",\n    \"dropout\": ");
    buf_real(b, (double)a->dropout);
    buf_puts(b, ",\n    \"keys\": [");
    if (mlx_put_keys(o, b)) return PEFT_ENOMEM;
    buf_puts(b, "]\n  },\n  \"model\": ");
    buf_json(b, base, (int64_t)strlen(base));
    buf_printf(b, ",\n  \"num_layers\": %lld\n}\n", (long long)(layers - first));
    return buf_check(b);
}

static int mlx_save(struct adapter_out *o, const char *path)
{
    struct buf b;
    int rc = foreign_collect(o);
    if (rc) return rc;
    adapter_cast(o);
    buf_init(&b, &o->m->host.mem);
    rc = mlx_put_config(o, &b);
    if (!rc) rc = adapter_put_folder(o, path, &b, NULL, 0);
    buf_free(&b);
    return rc;
}

const struct adapter_format format_mlx = {
    .name = "mlx", .tensors = "adapters.safetensors", .mark = "lora_parameters",
    .settings = mlx_settings, .give = foreign_give, .save = mlx_save,
    .methods = { "lora", "dora" }, .endings = { ".lora_a", ".lora_b", ".m" },
    .turned = { { 1, 1 }, { 1, 1 } }, .one_rank = 1, .whole = 1, .module = mlx_module
};
