/* Pictures through the model: logits and embeddings. */
#include <math.h>

#include "api/api.h"

enum { TOGETHER = 8 };              /* pictures of one pass */

struct pictures {
    struct model *m;
    int embed;
    float *patches;                 /* [TOGETHER][tokens - 1][patch] */
    int32_t *start, *pos;
};

static int need_pictures(const struct model *m, int head)
{
    if (!m->vision) return fail(PEFT_ESTATE, "this model reads text, not pictures");
    if (head && !m->head)
        return fail(PEFT_ESTATE, "this model has no head, expected peft_head_add or "
                    "peft_embed_image");
    return PEFT_OK;
}

static int run_some(struct pictures *p, const float *pixels, int32_t n, float *out)
{
    struct model *m = p->m;
    const struct vision *v = m->vision;
    int64_t tokens = vision_tokens(v);
    for (int64_t s = 0; s < n; s++) {
        vision_patches(v, pixels + s * vision_pixels(v),
                       p->patches + s * (tokens - 1) * vision_patch(v));
        for (int64_t i = 0; i < tokens; i++) p->pos[s * tokens + i] = (int32_t)i;
    }
    for (int32_t s = 0; s <= n; s++) p->start[s] = (int32_t)(s * tokens);
    struct pass pass = { .m = m, .g = m->graph, .mem = m->mem, .n = n * tokens, .n_seq = n,
                         .pos = p->pos, .start = p->start, .patches = p->patches };
    int rc = pass_begin(&pass);
    if (rc) return rc;
    struct tensor *x = model_hidden(&pass);
    x = p->embed ? model_embedding(&pass, x) : model_classify(&pass, model_pooled(&pass, x));
    if (x) graph_keep(x);
    rc = graph_forward(pass.g);
    if (!rc) memcpy(out, x->x, (size_t)tensor_len(x) * sizeof(float));
    return rc;
}

static int run_pictures(struct model *m, const float *pixels, int32_t n, int embed, float *out)
{
    struct mem *mem = &m->host.mem;
    int64_t tokens = vision_tokens(m->vision), most = MIN(n, TOGETHER);
    int64_t cols = !embed ? m->hp.labels : m->global[SLOT_PROJECTION] ? m->hp.projection
                                                                        : m->hp.dim;
    struct pictures p = { .m = m, .embed = embed };
    struct fp_mode fp = fp_enter();
    int rc = model_graph(m);
    p.patches = mem_array(mem, most * (tokens - 1), vision_patch(m->vision) * 4);
    p.pos = mem_array(mem, most * tokens, 4);
    p.start = mem_array(mem, most + 1, 4);
    if (!rc && (!p.patches || !p.pos || !p.start)) rc = PEFT_ENOMEM;
    for (int32_t i = 0; i < n && !rc; i += TOGETHER)
        rc = run_some(&p, pixels + i * vision_pixels(m->vision), MIN(TOGETHER, n - i),
                      out + i * cols);
    mem_free(mem, p.patches);
    mem_free(mem, p.pos);
    mem_free(mem, p.start);
    fp_leave(fp);
    return rc;
}

static void normalize_rows(const struct model *m, float *x, int32_t n, int64_t cols)
{
    const struct kernels *k = m->compute.k;
    for (int32_t i = 0; i < n; i++, x += cols) {
        double sum = k->sum_squares(x, cols);
        if (sum > 0) k->axpy(x, x, (float)(1.0 / sqrt(sum)), 0, cols);
    }
}

int32_t peft_forward_pixels(peft_model *model, const float *pixels, int32_t n, float *logits)
{
    ARG(model && pixels && logits && n > 0, "no model, pixels or room for logits given");
    int rc = need_pictures(model_of(model), 1);
    return rc ? rc : run_pictures(model_of(model), pixels, n, 0, logits);
}

int32_t peft_embed_pixels(peft_model *model, const float *pixels, int32_t n, int32_t normalize,
                          float *embeddings)
{
    ARG(model && pixels && embeddings && n > 0, "no model, pixels or room for embeddings given");
    struct model *m = model_of(model);
    int rc = need_pictures(m, 0);
    if (!rc) rc = run_pictures(m, pixels, n, 1, embeddings);
    if (!rc && normalize)
        normalize_rows(m, embeddings, n, m->global[SLOT_PROJECTION] ? m->hp.projection : m->hp.dim);
    return rc;
}

/* Allocated: pixels of one picture. */
static int read_picture(struct model *m, const char *path, const void *bytes, size_t n, float **out)
{
    struct mem *mem = &m->host.mem;
    uint8_t *px = mem_alloc(mem, picture_bytes(m->vision));
    *out = mem_alloc(mem, vision_pixels(m->vision) * 4);
    int rc = px && *out ? PEFT_OK : PEFT_ENOMEM;
    if (!rc)
        rc = path ? picture_open(&m->host, m->vision, path, px)
                  : picture_read(&m->host, m->vision, bytes, (int64_t)n, px);
    if (!rc) picture_pixels(m->vision, px, *out);
    mem_free(mem, px);
    if (!rc) return PEFT_OK;
    mem_free(mem, *out);
    *out = NULL;
    return rc;
}

int32_t peft_image_read(peft_model *model, const char *path, const void *bytes, size_t n,
                        float *pixels)
{
    float *x = NULL;
    ARG(model && (path || bytes) && pixels, "no model, picture or room for pixels given");
    struct model *m = model_of(model);
    int rc = need_pictures(m, 0);
    if (!rc) rc = read_picture(m, path, bytes, n, &x);
    if (!rc) memcpy(pixels, x, (size_t)vision_pixels(m->vision) * 4);
    mem_free(&m->host.mem, x);
    return rc;
}

static void softmax(float *x, int64_t n)
{
    float top = x[0], sum = 0;
    for (int64_t i = 1; i < n; i++) top = MAX(top, x[i]);
    for (int64_t i = 0; i < n; i++) sum += x[i] = expf(x[i] - top);
    for (int64_t i = 0; i < n; i++) x[i] /= sum;
}

int32_t peft_classify_image(peft_model *model, const char *path, const void *bytes, size_t n,
                            float *probabilities)
{
    float *x = NULL;
    ARG(model && (path || bytes) && probabilities,
        "no model, picture or room for probabilities given");
    struct model *m = model_of(model);
    int rc = need_pictures(m, 1);
    if (!rc) rc = read_picture(m, path, bytes, n, &x);
    if (!rc) rc = run_pictures(m, x, 1, 0, probabilities);
    if (!rc && m->hp.labels > 1) softmax(probabilities, m->hp.labels);
    mem_free(&m->host.mem, x);
    return rc;
}

int32_t peft_embed_image(peft_model *model, const char *path, const void *bytes, size_t n,
                         int32_t normalize, float *embedding)
{
    float *x = NULL;
    ARG(model && (path || bytes) && embedding, "no model, picture or room for the embedding given");
    struct model *m = model_of(model);
    int rc = need_pictures(m, 0);
    if (!rc) rc = read_picture(m, path, bytes, n, &x);
    if (!rc) rc = peft_embed_pixels(model, x, 1, normalize, embedding);
    mem_free(&m->host.mem, x);
    return rc;
}
