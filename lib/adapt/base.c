/* Which model an adapter was made for, and why one does not fit.
 *
 * Our files carry, in the metadata of adapter_model.safetensors, a string
 *     libpeft_base = {"family": "llama", "layers": 30, "dim": 576, "print": "7f0480..."}
 * The print is PRINT_N weights of the attention outputs, from places that depend on
 * the sizes alone, as bytes: 128 + 127 x / |largest x|.  Two prints are compared by
 * their correlation, which quantising leaves near 1 (SmolLM2 in NF4: 0.996), as does
 * fine-tuning (after 10 full steps 1.000), whereas that of two models is 0 within
 * 0.13.  So the same model in another type, or trained further, is the same base. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "adapt/io.h"

enum { PRINT_N = 64, PRINT_CHUNK = 256 };
static const double same_base = 0.5;

static float print_weight(const struct model *m, int i)
{
    float chunk[PRINT_CHUNK];
    int64_t layer = i * m->hp.layers / PRINT_N;
    const struct site *s = m->layers[layer].at[SLOT_O];
    if (!s) return 0;
    const struct param *w = s->w;
    int64_t row = (i * 7919 + 13) % w->rows, col = (i * 104729 + 7) % w->cols;
    int64_t begin = col / PRINT_CHUNK * PRINT_CHUNK, n = MIN(PRINT_CHUNK, w->cols - begin);
    qtype_expand(w->type, chunk, w->data, param_row(m, w, row) * w->cols + begin, n);
    return chunk[col - begin];
}

static void make_print(const struct model *m, uint8_t print[PRINT_N])
{
    float x[PRINT_N], most = 0;
    for (int i = 0; i < PRINT_N; i++) most = fmaxf(most, fabsf(x[i] = print_weight(m, i)));
    for (int i = 0; i < PRINT_N; i++)
        print[i] = (uint8_t)(128 + (most > 0 && most < 1e30f ? lrintf(127 * x[i] / most) : 0));
}

int base_write(const struct model *m, struct buf *b)
{
    uint8_t print[PRINT_N];
    make_print(m, print);
    buf_printf(b, "{\"family\": \"%s\", \"layers\": %lld, \"dim\": %lld, \"print\": \"",
               m->arch->name, (long long)m->hp.layers, (long long)m->hp.dim);
    for (int i = 0; i < PRINT_N; i++) buf_printf(b, "%02x", print[i]);
    buf_puts(b, "\"}");
    return buf_check(b);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 1 where there is nothing to compare. */
static double correlation(const struct model *m, const char *hex)
{
    uint8_t print[PRINT_N];
    double xy = 0, xx = 0, yy = 0;
    make_print(m, print);
    for (int i = 0; i < PRINT_N; i++) {
        int hi = hex_digit(hex[2 * i]), lo = hi < 0 ? -1 : hex_digit(hex[2 * i + 1]);
        if (lo < 0) return 1;
        double x = print[i] - 128, y = hi * 16 + lo - 128;
        xy += x * y;
        xx += x * x;
        yy += y * y;
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : 1;
}

const char *base_name(const struct model *m)
{
    return store_format(m->store) == STORE_GGUF ? m->name : m->path;
}

/* Whether two names may be of one model: the last component of one in the other. */
static int names_agree(const char *a, const char *b)
{
    const char *names[2] = { a, b };
    char plain[2][128];
    for (int k = 0; k < 2; k++) {
        size_t n = strlen(names[k]), end = n, j = 0;
        while (end && strchr("/\\", names[k][end - 1])) end--;
        size_t at = end;
        while (at && !strchr("/\\", names[k][at - 1])) at--;
        for (; at < end && j + 1 < sizeof(plain[k]); at++) {
            char c = names[k][at];
            if (c >= 'A' && c <= 'Z') c = (char)(c + 32);
            if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) plain[k][j++] = c;
        }
        plain[k][j] = 0;
    }
    return strstr(plain[0], plain[1]) || strstr(plain[1], plain[0]);
}

int base_check(const struct model *m, const struct adapter *a, const struct store *st)
{
    const char *text = NULL, *ours = base_name(m);
    json *root = NULL;
    if (m->any_base) return PEFT_OK;
    int found = store_string(st, "libpeft_base", &text, NULL);
    if (found < 0) return found;
    if (!found) {
        if (a->base && *a->base && !names_agree(a->base, ours))
            host_log(&m->host, 1, "adapter \"%s\" was trained on \"%s\", this model is \"%s\": "
                     "its files do not tell whether they are the same", a->name, a->base, ours);
        return PEFT_OK;
    }
    int rc = json_parse(text, (int64_t)strlen(text), "libpeft_base", &root);
    if (rc) return rc;
    const char *family = json_string(json_get(root, "family"));
    const char *print = json_string(json_get(root, "print"));
    double layers = json_number(json_get(root, "layers"), (double)m->hp.layers);
    double dim = json_number(json_get(root, "dim"), (double)m->hp.dim);
    if (layers != (double)m->hp.layers || dim != (double)m->hp.dim)
        rc = fail(PEFT_EFORMAT, "the adapter was made for a %s model of %g layers and hidden size "
                  "%g, this %s model has %lld and %lld (trained on \"%s\")",
                  family ? family : "other", layers, dim, m->arch->name, (long long)m->hp.layers,
                  (long long)m->hp.dim, a->base ? a->base : "?");
    else if (print && strlen(print) == 2 * PRINT_N && correlation(m, print) < same_base)
        rc = fail(PEFT_EFORMAT, "the adapter was trained on \"%s\", whose weights are others than "
                  "those of this model, \"%s\", of the same size; the option any_base loads it "
                  "all the same", a->base ? a->base : "?", ours);
    json_free(root);
    return rc;
}

/* --- hints */

/* The highest layer's number in the names of the file, -1 = none. */
static int64_t last_layer(const struct store *st)
{
    int64_t last = -1;
    for (int64_t i = 0; i < store_count(st); i++)
        for (const char *s = strchr(store_at(st, i)->name, '.'); s; s = strchr(s + 1, '.')) {
            size_t n = strspn(s + 1, "0123456789");
            if (!n || n > 6 || s[n + 1] != '.') continue;
            last = MAX(last, (int64_t)strtol(s + 1, NULL, 10));
            break;
        }
    return last;
}

/* Columns of the first A on a layer that reads hidden states; 0 = none. */
static int64_t hidden_size(const struct store *st)
{
    static const char *const ends[] = { "q_proj.lora_A.weight", "query.lora_A.weight",
                                        "c_attn.lora_A.weight", "k_proj.lora_A.weight",
                                        "v_proj.lora_A.weight", "up_proj.lora_A.weight" };
    for (int64_t i = 0; i < store_count(st); i++)
        for (size_t k = 0; k < ARRAY_LEN(ends); k++) {
            const struct store_tensor *t = store_at(st, i);
            if (t->n_dims == 2 && adapter_has_ending(t->name, ends[k])) return t->dims[1];
        }
    return 0;
}

int base_hint(const struct model *m, const struct adapter *a, const struct store *st, int rc)
{
    char was[512], hint[400] = "";
    int64_t layers = last_layer(st) + 1, dim = hidden_size(st), n = 0;
    const char *ours = base_name(m);
    size_t room = sizeof(hint);
    if (rc != PEFT_EFORMAT && rc != PEFT_EUNSUPPORTED) return rc;
    if (layers > m->hp.layers)
        n = snprintf(hint, room, "; made for %lld layers, this model has %lld", (long long)layers,
                     (long long)m->hp.layers);
    if (dim && dim != m->hp.dim)
        n += snprintf(hint + n, room - (size_t)n, "; made for a model with hidden size %lld, this "
                      "one has %lld", (long long)dim, (long long)m->hp.dim);
    if (a->base && *a->base && !names_agree(a->base, ours))
        n += snprintf(hint + n, room - (size_t)n, "; trained on \"%.120s\", this is \"%.100s\"",
                      a->base, ours);
    snprintf(was, sizeof(was), "%s", error_message());
    return n ? fail(rc, "%s%s", was, hint) : rc;
}

/* --- modules that adapter_config.json names and the file has no tensors of */

static int in_list(const json *list, const struct site *s)
{
    for (const json *j = json_first(list); j; j = json_next(j)) {
        const char *name = json_string(j);
        if (name && (adapter_has_ending(s->name, name) || adapter_has_ending(s->peft_name, name)))
            return 1;
    }
    return 0;
}

static int is_there(const struct adapter *a, const struct site *s)
{
    for (const struct adapted *d = a->sites; d < a->sites + a->n_sites; d++)
        if (d->site == s) return 1;
    for (int64_t i = 0; i < a->n_saved; i++)
        if (a->saved[i].p == s->w || (s->b && a->saved[i].p == s->b)) return 1;
    return 0;
}

int base_complete(const struct model *m, const struct adapter *a, const json *config)
{
    const json *targets = json_get(config, "target_modules");
    static const char *const narrower[] = { "layers_to_transform", "exclude_modules" };
    for (size_t i = 0; i < ARRAY_LEN(narrower); i++) {
        const json *j = json_get(config, narrower[i]);
        if (j && json_kind(j) != JSON_NULL) return PEFT_OK;
    }
    for (int64_t i = 0; i < m->n_sites && json_kind(targets) == JSON_ARRAY; i++) {
        const struct site *s = m->sites[i];
        if (s->expert >= 0 || !(s->kind & a->method->at) || !in_list(targets, s)) continue;
        if (!is_there(a, s))
            return fail(PEFT_EFORMAT, "the adapter has no tensors of %s, which its target_modules "
                        "name: this model has %lld layers", s->name, (long long)m->hp.layers);
    }
    return PEFT_OK;
}
