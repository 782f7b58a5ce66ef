/* peft_adapter_convert: an adapter becomes one that other programs read right, and what was
 * written is loaded again and compared with the original. */
#include <math.h>
#include <stdio.h>

#include "adapt/adapt.h"
#include "api/api.h"

enum { PROBE_TOKENS = 128, PROBE_IDS = 24, PROBE_RANDOM = 4 };
static const char *const probe_texts[] = {
    "The quick brown fox jumps over the lazy dog, and nobody in the village was surprised.",
    "def area(radius):\n    return 3.14159 * radius ** 2\n\nprint(area(2.5))",
    "In 1969 two people walked on the Moon for the first time; a third one stayed in orbit.",
    "Wie sp\xc3\xa4t ist es? Il est d\xc3\xa9j\xc3\xa0 midi, said the clock: 12:00!"
};

/* --- what is compared: ids, or pixels of a model of pictures */

struct probe { int32_t *ids; float *pixels; int32_t n; int64_t len; float *logits; };
struct proof {
    peft_model *model;
    peft_info info;
    struct probe *probe;
    int32_t n, random;
    const char *const *texts;
};

static int probe_ids(struct proof *p, struct probe *to, int32_t i)
{
    struct mem *mem = &model_of(p->model)->host.mem;
    const char *text = p->random ? "" : p->texts[i];
    int32_t most = MIN(PROBE_TOKENS, MAX(p->info.max_len, 1));
    int64_t n = p->random ? MIN(PROBE_IDS, most)
                          : peft_tokenize(p->model, text, strlen(text), PEFT_TOK_SPECIAL, NULL, 0);
    if (n < 0) return (int)n;
    if (!(to->ids = mem_array(mem, MAX(n, 1), 4))) return PEFT_ENOMEM;
    if (!p->random) n = peft_tokenize(p->model, text, strlen(text), PEFT_TOK_SPECIAL, to->ids, n);
    for (int64_t k = 0; k < n && p->random; k++)
        to->ids[k] = (int32_t)(rng_u32(11, rng_stream(RNG_SAMPLE, (uint32_t)i), (uint64_t)k) %
                               (uint32_t)MAX(p->info.vocab, 1));
    to->n = (int32_t)MIN(n, most);
    return n < 0 ? (int)n : PEFT_OK;
}

/* The length of a probe's answer. */
static int64_t answer_len(const struct proof *p, const struct probe *b)
{
    const peft_info *f = &p->info;
    if (!f->outputs) return f->embed_dim;
    int each = f->each_token || !strcmp(f->head, "language-model") || !strcmp(f->head, "masked-lm");
    return (int64_t)f->outputs * (each && b->ids ? b->n : 1);
}

static int32_t probe_answer(struct proof *p, peft_model *model, const struct probe *b, float *to)
{
    const peft_info *f = &p->info;
    int32_t start = MAX(f->decoder_start, 0);
    if (b->pixels && !f->outputs) return peft_embed_pixels(model, b->pixels, 1, 0, to);
    if (b->pixels) return peft_forward_pixels(model, b->pixels, 1, to);
    if (f->encoder_layers && f->outputs) {
        int32_t keep = b->ids[0];
        b->ids[0] = start;
        int32_t rc = peft_forward_pair(model, b->ids, b->n, b->ids, b->n, to);
        b->ids[0] = keep;
        return rc;
    }
    return f->outputs ? peft_forward(model, b->ids, b->n, to)
                      : peft_embed(model, b->ids, b->n, 0, to);
}

/* The original's answers, with the adapter on. */
static int proof_begin(struct proof *p, const peft_convert_opts *o)
{
    struct mem *mem = &model_of(p->model)->host.mem;
    p->info.size = sizeof(p->info);
    int rc = peft_model_info(p->model, &p->info);
    if (rc) return rc;
    int64_t pixels = (int64_t)p->info.channels * p->info.image_height * p->info.image_width;
    p->random = pixels || !p->info.has_tokenizer;
    p->texts = o->texts ? o->texts : probe_texts;
    p->n = p->random ? PROBE_RANDOM : o->texts ? o->n_texts : (int32_t)ARRAY_LEN(probe_texts);
    if (!(p->probe = mem_array(mem, p->n, sizeof(*p->probe)))) return PEFT_ENOMEM;
    for (int32_t i = 0; i < p->n && !rc; i++) {
        struct probe *b = &p->probe[i];
        if (pixels && !(b->pixels = mem_array(mem, pixels, 4))) return PEFT_ENOMEM;
        if (pixels) rng_fill_normal(b->pixels, pixels, 1.0f, 11, (uint64_t)i);
        else rc = probe_ids(p, b, i);
        if (rc || (!pixels && !b->n)) continue;
        b->len = answer_len(p, b);
        if (!(b->logits = mem_array(mem, b->len, 4))) return PEFT_ENOMEM;
        rc = probe_answer(p, p->model, b, b->logits);
    }
    return rc;
}

static int proof_compare(struct proof *p, peft_model *model, peft_converted *out)
{
    struct mem *mem = &model_of(p->model)->host.mem;
    int rc = PEFT_OK;
    out->max_logit_diff = 0;
    for (int32_t i = 0; i < p->n && !rc; i++) {
        const struct probe *b = &p->probe[i];
        if (!b->len) continue;
        float *now = mem_array(mem, b->len, 4);
        rc = now ? probe_answer(p, model, b, now) : PEFT_ENOMEM;
        for (int64_t k = 0; k < b->len && !rc; k++) {
            double d = fabs((double)now[k] - (double)b->logits[k]);
            if (!(d <= out->max_logit_diff)) out->max_logit_diff = isnan(d) ? INFINITY : d;
        }
        mem_free(mem, now);
        out->texts++;
        out->tokens += b->n;
    }
    if (!rc && !out->texts) rc = fail(PEFT_EARG, "the texts to compare on are empty");
    return rc;
}

static void proof_end(struct proof *p)
{
    struct mem *mem = &model_of(p->model)->host.mem;
    for (int32_t i = 0; p->probe && i < p->n; i++) {
        mem_free(mem, p->probe[i].ids);
        mem_free(mem, p->probe[i].pixels);
        mem_free(mem, p->probe[i].logits);
    }
    mem_free(mem, p->probe);
}

/* --- what is written: beside its place, where it goes when it is proven */

struct staged { struct host *host; const char *path; char *tmp; int is_file; };

static int stage(struct staged *s)
{
    struct host *h = s->host;
    size_t n = strlen(s->path);
    struct buf b;
    s->is_file = n > 5 && !strcmp(s->path + n - 5, ".gguf");
    if (!s->is_file) return dir_begin(h, s->path, &s->tmp);
    buf_init(&b, &h->mem);
    buf_printf(&b, "%s.%d.tmp.gguf", s->path, os_pid());
    int rc = buf_check(&b);
    if (!rc && !(s->tmp = mem_strdup(&h->mem, buf_str(&b)))) rc = PEFT_ENOMEM;
    buf_free(&b);
    return rc;
}

static int stage_end(struct staged *s, int rc)
{
    struct host *h = s->host;
    char *tmp = s->tmp;
    if (!tmp) return rc;
    if (!s->is_file && !rc) return dir_commit(h, s->path, tmp);
    if (!s->is_file) {
        dir_abort(h, tmp);
        return rc;
    }
    if (!rc && h->io.rename(h->io.ctx, tmp, s->path) < 0)
        rc = fail(PEFT_EIO, "%s: cannot create", s->path);
    if (rc) h->io.remove(h->io.ctx, tmp);
    mem_free(&h->mem, tmp);
    return rc;
}

/* --- the kinds of results */

static const char FROM[] = "convert-from", TO[] = "convert-to", BACK[] = "convert-back";

struct convert {
    struct model *m;
    const peft_convert_opts *o;
    struct proof proof;
    struct staged to;
    peft_converted *out;
};

static int convert_merged(struct convert *c)
{
    const struct host *h = &c->m->host;
    peft_save_opts save = { .size = sizeof(save), .dtype = c->o->dtype };
    peft_load_opts load = { .size = sizeof(load), .threads = pool_threads(c->m->pool),
                            .alloc = h->mem.alloc, .alloc_ctx = h->mem.ctx, .io = &h->io };
    peft_model *model = c->proof.model, *written = NULL;
    int rc = peft_adapter_merge(model, FROM);
    if (!rc) rc = peft_model_save(model, c->to.tmp, &save);
    if (!rc) rc = peft_model_load(c->to.tmp, &load, &written);
    if (!rc) rc = proof_compare(&c->proof, written, c->out);
    peft_model_free(written);
    snprintf(c->out->kind, sizeof(c->out->kind), "merged");
    return rc;
}

/* Writes adapter `name`, and reads it again in its place. */
static int convert_written(struct convert *c, const char *name)
{
    peft_adapter_save_opts save = { .size = sizeof(save), .format = c->o->format,
                                    .dtype = c->o->dtype };
    peft_model *model = c->proof.model;
    const struct adapter *a = adapter_find(c->m, name);
    snprintf(c->out->kind, sizeof(c->out->kind), "%s", a->method->name);
    c->out->rank = a->rank * (a->shifts ? 2 : 1);
    int rc = peft_adapter_save_as(model, name, c->to.tmp, &save);
    if (!rc) rc = peft_adapter_disable(model, FROM);
    if (!rc) rc = peft_adapter_load(model, BACK, c->to.tmp);
    if (!rc) rc = proof_compare(&c->proof, model, c->out);
    return rc;
}

/* Whether the reader, or all of them, wants one rank and one scale. */
static int wants_plain(const peft_convert_opts *o)
{
    return !o->reader || strcmp(o->reader, "peft");
}

static int convert_run(struct convert *c, const char *path)
{
    const peft_convert_opts *o = c->o;
    peft_model *model = c->proof.model;
    struct adapter *folded;
    int rc = peft_adapter_load(model, FROM, path);
    if (!rc) rc = proof_begin(&c->proof, o);
    if (!rc) rc = stage(&c->to);
    if (rc) return rc;
    if (o->merge) return convert_merged(c);
    const struct adapter *a = adapter_find(c->m, FROM);
    const char *why = adapter_unfoldable(a);
    int32_t most = 0;
    for (int64_t i = 0; i < a->n_sites; i++)
        most = MAX(most, a->sites[i].rank * (a->shifts ? 2 : 1));
    int svd = o->rank && (why || most > o->rank);
    if (!svd && !wants_plain(o)) return convert_written(c, FROM);
    if (why && !svd)
        return fail(PEFT_EUNSUPPORTED, "%s: %s; expected to merge it, or a rank for a LoRA that is "
                    "near to it", path, why);
    rc = adapter_fold(c->m, TO, a, svd ? o->rank : 0, &folded, &c->out->weight_error);
    return rc ? rc : convert_written(c, TO);
}

static int check_readers(const peft_convert_opts *o)
{
    static const char *const names[] = { "peft", "vllm", "llama.cpp" };
    int known = !o->reader;
    for (size_t i = 0; i < ARRAY_LEN(names) && !known; i++) known = !strcmp(o->reader, names[i]);
    if (!known)
        return fail(PEFT_EARG, "reader \"%s\", expected peft, vllm or llama.cpp", o->reader);
    if (o->rank < 0 || o->rank > 1 << 16 || !(o->limit >= 0))
        return fail(PEFT_EARG, "rank %d, limit %g, expected 0 to 65536 and 0 or more",
                    (int)o->rank, o->limit);
    if (o->texts && o->n_texts < 1) return fail(PEFT_EARG, "no texts given");
    return PEFT_OK;
}

int32_t peft_adapter_convert(peft_model *model, const char *path, const char *out,
                             const peft_convert_opts *opts, peft_converted *result)
{
    peft_convert_opts o;
    peft_converted mine = { .size = sizeof(mine) };
    ARG(model, "no model given");
    ARG(path && *path && out && *out, "no path given");
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc && result) rc = check_result(result);
    if (!rc) rc = check_readers(&o);
    if (!rc) rc = no_trainers(model_of(model));
    if (rc) return rc;
    if (model_of(model)->adapters)
        return fail(PEFT_ESTATE, "the model has an adapter, expected none while one is converted");
    struct convert c = { .m = model_of(model), .o = &o, .proof = { .model = model },
                         .to = { .host = &model_of(model)->host, .path = out }, .out = &mine };
    struct fp_mode fp = fp_enter();
    rc = convert_run(&c, path);
    fp_leave(fp);
    double limit = o.limit > 0 ? o.limit : mine.weight_error > 0 ? INFINITY : 1e-4;
    if (!rc && !(mine.max_logit_diff <= limit))
        rc = fail(PEFT_EUNSUPPORTED, "%s: the logits of what was written differ by %.3g, expected "
                  "at most %g; nothing is kept", out, mine.max_logit_diff, limit);
    rc = stage_end(&c.to, rc);
    const char *const names[] = { BACK, TO, FROM };
    for (int i = 0; i < 3; i++) {
        struct adapter *a = adapter_find(c.m, names[i]);
        if (a) adapter_remove(c.m, a);
    }
    proof_end(&c.proof);
    if (!rc && result) give_result(result, &mine, sizeof(mine));
    return rc;
}
