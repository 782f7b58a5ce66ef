/* generation_config.json beside the weights: the ids that end an answer and how the
 * model's makers sample.  Written again as it was; made for a model from GGUF. */
#include <math.h>

#include "model/model.h"

enum { GEN_EOS = 32, GEN_BYTES = 1 << 20 };

struct gen_config {
    const char *text;               /* the file, or NULL */
    int64_t n;
    int32_t eos[GEN_EOS], n_eos;
    peft_generate_opts sampling;
};

/* An id or a list of them; those beyond the vocabulary cannot occur. */
static int read_eos(struct model *m, const json *j, const char *path)
{
    struct gen_config *g = m->gen;
    if (json_kind(j) == JSON_NULL) return PEFT_OK;
    const json *e = json_kind(j) == JSON_ARRAY ? json_first(j) : j;
    for (; e; e = json_kind(j) == JSON_ARRAY ? json_next(e) : NULL) {
        double id = json_number(e, NAN);
        if (isnan(id))
            return fail(PEFT_EFORMAT, "%s: eos_token_id holds %s, expected ids", path,
                        json_kind_name(e));
        if (id >= 0 && id < (double)m->hp.vocab && g->n_eos < GEN_EOS)
            g->eos[g->n_eos++] = (int32_t)id;
    }
    return PEFT_OK;
}

/* Without do_sample transformers takes the likeliest token, whatever else is set. */
static int read_sampling(struct gen_config *g, const json *root, const char *path)
{
    peft_generate_opts *o = &g->sampling;
    const struct { const char *key; float *to; double absent, hi; } rows[] = {
        { "temperature", &o->temperature, 1, 100 }, { "top_p", &o->top_p, 0, 1 },
        { "min_p", &o->min_p, 0, 1 }, { "repetition_penalty", &o->repeat_penalty, 0, 100 }
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const json *j = json_get(root, rows[i].key);
        double x = json_kind(j) == JSON_NULL ? rows[i].absent : json_number(j, NAN);
        if (!(x >= 0 && x <= rows[i].hi))
            return fail(PEFT_EFORMAT, "%s: %s, expected a number from 0 to %g", path, rows[i].key,
                        rows[i].hi);
        *rows[i].to = (float)x;
    }
    int64_t top_k = 0, beams = 0;
    const json *early = json_get(root, "early_stopping");
    int rc = json_int(root, "top_k", 0, INT32_MAX, &top_k);
    if (rc >= 0) rc = json_int(root, "num_beams", 0, PEFT_BEAMS_MAX, &beams);
    if (rc < 0) return fail_in(rc, "%s: ", path);
    o->top_k = (int32_t)top_k;
    if (!json_bool(json_get(root, "do_sample"), 0)) o->temperature = 0;
    if (o->temperature == 0) {
        o->num_beams = (int32_t)beams;
        o->length_penalty = (float)json_number(json_get(root, "length_penalty"), 0);
        o->early_stopping = json_kind(early) == JSON_STRING ? 2 : json_bool(early, 0);
    }
    if (o->temperature == 0) {
        o->top_p = o->min_p = 0;
        o->top_k = 0;
    }
    return PEFT_OK;
}

static int read_gen(struct model *m, const char *path)
{
    struct gen_config *g = m->gen;
    struct file_view v;
    json *root = NULL;
    int rc = file_open_view(&m->host, path, false, &v);
    if (rc < 0) return rc;
    if (v.n > GEN_BYTES)
        rc = fail(PEFT_EFORMAT, "%s: has %lld bytes, expected at most %d", path, (long long)v.n,
                  (int)GEN_BYTES);
    else rc = json_parse((const char *)v.data, v.n, path, &root);
    if (!rc && json_kind(root) != JSON_OBJECT)
        rc = fail(PEFT_EFORMAT, "%s: is %s, expected an object", path, json_kind_name(root));
    if (!rc) rc = read_eos(m, json_get(root, "eos_token_id"), path);
    if (!rc) rc = read_sampling(g, root, path);
    if (!rc) {
        g->n = v.n;
        g->text = arena_strndup(&m->arena, (const char *)v.data, v.n);
        if (!g->text) rc = PEFT_ENOMEM;
    }
    json_free(root);
    file_close_view(&m->host, &v);
    return rc;
}

int gen_load(struct model *m)
{
    char *dir = NULL, *path = NULL;
    m->gen = arena_alloc(&m->arena, sizeof(*m->gen));
    if (!m->gen) return PEFT_ENOMEM;
    if (!store_config(m->store)) return PEFT_OK;
    int64_t n = path_kind(&m->host, m->path) == 2 ? (int64_t)strlen(m->path)
                                                  : path_base(m->path) - m->path;
    dir = mem_strndup(&m->host.mem, n ? m->path : ".", MAX(n, 1));
    int rc = dir ? path_join(&m->host, dir, "generation_config.json", &path) : PEFT_ENOMEM;
    if (!rc && path_kind(&m->host, path) == 1) rc = read_gen(m, path);
    else if (!rc) rc = read_eos(m, json_get(store_config(m->store), "eos_token_id"), m->path);
    mem_free(&m->host.mem, path);
    mem_free(&m->host.mem, dir);
    return rc;
}

int gen_ends(const struct model *m, int32_t id)
{
    for (int32_t i = 0; i < m->gen->n_eos; i++)
        if (m->gen->eos[i] == id) return 1;
    return m->tok && tok_is_eot(m->tok, id);
}

void gen_sampling(const struct model *m, peft_generate_opts *o)
{
    const peft_generate_opts *from = &m->gen->sampling;
    o->temperature = from->temperature;
    o->top_k = from->top_k;
    o->top_p = from->top_p;
    o->min_p = from->min_p;
    o->repeat_penalty = from->repeat_penalty;
    o->num_beams = from->num_beams;
    o->length_penalty = from->length_penalty;
    o->early_stopping = from->early_stopping;
}

/* All ids that end a turn, the tokenizer's own end first. */
static void put_ends(const struct model *m, struct buf *b)
{
    const struct tok_info *t = tok_info(m->tok);
    int n = t->eos >= 0;
    if (n) buf_printf(b, "%d", t->eos);
    for (int32_t id = 0; id < t->n_vocab; id++)
        if (id != t->eos && tok_is_eot(m->tok, id)) buf_printf(b, "%s%d", n++ ? ", " : "", id);
}

int gen_save(struct model *m, const char *dir)
{
    struct buf b;
    char *path = NULL;
    buf_init(&b, &m->host.mem);
    if (m->gen->text) {
        buf_put(&b, m->gen->text, m->gen->n);
    } else if (!store_config(m->store) && m->tok && m->arch->style.causal && !m->head) {
        const struct tok_info *t = tok_info(m->tok);
        buf_puts(&b, "{\n  \"eos_token_id\": [");
        put_ends(m, &b);
        buf_puts(&b, "]");
        if (t->bos >= 0) buf_printf(&b, ",\n  \"bos_token_id\": %d", t->bos);
        if (t->pad >= 0) buf_printf(&b, ",\n  \"pad_token_id\": %d", t->pad);
        buf_puts(&b, "\n}\n");
    }
    int rc = buf_check(&b);
    if (!rc && b.n) rc = path_join(&m->host, dir, "generation_config.json", &path);
    if (!rc && b.n) rc = file_write(&m->host, path, b.data, b.n);
    mem_free(&m->host.mem, path);
    buf_free(&b);
    return rc;
}
