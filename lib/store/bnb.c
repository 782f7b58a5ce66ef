/* bitsandbytes' checkpoints in Hugging Face folders.
 *
 * 4 bits (QLoRA, Dettmers et al. 2023); n = out * in, blocks of 64 or more:
 *   X.weight                   codes, two a byte, of the flattened [out, in]
 *   X.weight.absmax            F32 [blocks], or with double quantisation U8 [blocks]
 *   X.weight.nested_absmax     F32 [blocks / 256 rounded up]
 *   X.weight.nested_quant_map  F32 [256], X.weight.quant_map F32 [16]
 *   X.weight.quant_state.bitsandbytes__nf4, ..fp4
 *       U8, JSON: {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16",
 *       "shape": [out, in], "nested_blocksize": 256, "nested_dtype": "float32",
 *       "nested_offset": mean}; the nested_* only with double quantisation
 * 8 bits (LLM.int8, Dettmers et al. 2022): X.weight I8 [out, in], X.SCB F32 [out],
 * X.weight_format U8, 0 = by rows.
 *
 * A weight is put together once, at loading, into blocks that hold their scale
 * (quant.inc): it takes 4.5 or 9 bits a value in memory and is one tensor for
 * all code above.  Source: QuantState in bitsandbytes' functional.py. */
#include <math.h>

#include "store/impl.h"

enum { BNB_BLOCK = 64, BNB_BYTES = 36, INT8_BLOCK = 32 };

static const struct bnb_kind {
    const char *quant, *dtype, *type;        /* the last is the stored type's name */
    const float *levels;
} bnb_kinds[] = {
    {"nf4", "float32", "NF4", nf4_levels},   {"nf4", "float16", "NF4_F16", nf4_levels},
    {"nf4", "bfloat16", "NF4_BF16", nf4_levels},
    {"fp4", "float32", "FP4", fp4_levels},   {"fp4", "float16", "FP4_F16", fp4_levels},
    {"fp4", "bfloat16", "FP4_BF16", fp4_levels},
};

/* One weight's pieces. */
struct bnb {
    struct store_tensor *weight;
    const char *name;
    const json *state;
    int64_t block, scales, rows, cols;
    const struct qtype *type;
};

static const struct store_tensor *bnb_piece(const struct store *s, const char *name,
                                        const char *suffix)
{
    char text[256];
    size_t n = strlen(name), k = strlen(suffix);
    if (n + k >= sizeof text) return NULL;
    memcpy(text, name, n);
    memcpy(text + n, suffix, k + 1);
    return store_find(s, text);
}

/* A piece of a known type and count. */
static int need(const struct store *s, const struct bnb *b, const char *suffix, const char *type,
                int64_t count, const struct store_tensor **out)
{
    *out = bnb_piece(s, b->name, suffix);
    if (!*out) return fail(PEFT_EFORMAT, "tensor %.100s has no %s", b->name, suffix + 1);
    if (strcmp((*out)->type->name, type) || (*out)->count != count)
        return fail(PEFT_EFORMAT, "tensor %.100s: %s holds %lld of %s, expected %lld of %s",
                    b->name, suffix + 1, (long long)(*out)->count, (*out)->type->name,
                    (long long)count, type);
    return PEFT_OK;
}

static int read_bnb_state(struct bnb *b, const char *quant)
{
    const char *dtype = json_string(json_get(b->state, "dtype"));
    const json *shape = json_get(b->state, "shape"), *d = json_first(shape);
    int64_t n, bytes;
    int rc = json_int(b->state, "blocksize", 1, 1 << 20, &b->block);
    if (rc <= 0) return rc ? rc : fail(PEFT_EFORMAT, "its state has no blocksize");
    if (b->block % BNB_BLOCK)
        return fail(PEFT_EUNSUPPORTED, "blocks of %lld, expected a multiple of %d",
                    (long long)b->block, (int)BNB_BLOCK);
    double rows = json_number(d, -1), cols = json_number(json_next(d), -1);
    if (json_count(shape) != 2 || !(rows >= 1 && rows < 1e9 && cols >= 1 && cols < 1e9))
        return fail(PEFT_EUNSUPPORTED, "its state's shape is no [out, in]");
    b->rows = (int64_t)rows;
    b->cols = (int64_t)cols;
    for (size_t i = 0; i < ARRAY_LEN(bnb_kinds) && dtype; i++)
        if (!strcmp(bnb_kinds[i].quant, quant) && !strcmp(bnb_kinds[i].dtype, dtype))
            b->type = qtype_by_name(bnb_kinds[i].type);
    if (!b->type)
        return fail(PEFT_EUNSUPPORTED, "\"%.20s\" of dtype %.40s, expected nf4 or fp4 of float32, "
                    "float16 or bfloat16", quant, dtype ? dtype : "unknown");
    if (!mul_ok(b->rows, b->cols, &n) || !qtype_bytes(b->type, n, &bytes))
        return fail(PEFT_EFORMAT, "its size overflows");
    b->scales = (n + b->block - 1) / b->block;
    if (b->weight->bytes != (n + 1) / 2)
        return fail(PEFT_EFORMAT, "it has %lld bytes, its shape [%lld, %lld] needs %lld",
                    (long long)b->weight->bytes, (long long)b->rows, (long long)b->cols,
                    (long long)((n + 1) / 2));
    return PEFT_OK;
}

static int check_scales(const float *scale, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(scale[i]))
            return fail(PEFT_EFORMAT, "scale %lld is not finite", (long long)i);
    return PEFT_OK;
}

/* The scales, [b->scales], as floats. */
static int read_scales(struct store *s, const struct bnb *b, float *scale)
{
    const struct store_tensor *absmax, *level, *largest;
    int64_t block = SCALES_BLOCK;
    int rc = PEFT_OK;
    if (!bnb_piece(s, b->name, ".nested_absmax")) {
        rc = need(s, b, ".absmax", "F32", b->scales, &absmax);
        if (!rc) memcpy(scale, absmax->data, (size_t)absmax->bytes);
        return rc ? rc : check_scales(scale, b->scales);
    }
    double mean = json_number(json_get(b->state, "nested_offset"), NAN);
    if (isnan(mean)) return fail(PEFT_EFORMAT, "its state has no nested_offset");
    rc = json_int(b->state, "nested_blocksize", 1, 1 << 20, &block);
    if (rc >= 0) rc = need(s, b, ".absmax", "U8", b->scales, &absmax);
    if (!rc) rc = need(s, b, ".nested_quant_map", "F32", 256, &level);
    if (!rc) rc = need(s, b, ".nested_absmax", "F32", (b->scales + block - 1) / block, &largest);
    if (rc) return rc;
    const uint8_t *q = absmax->data;
    for (int64_t i = 0; i < b->scales; i++) {
        scale[i] = ((const float *)level->data)[q[i]] * ((const float *)largest->data)[i / block];
        scale[i] += (float)mean;
    }
    return check_scales(scale, b->scales);
}

static int join(struct store *s, struct bnb *b)
{
    int64_t n = b->rows * b->cols, bytes = 0;
    float *scale = mem_array(&s->h->mem, b->scales, (int64_t)sizeof *scale);
    qtype_bytes(b->type, n, &bytes);
    uint8_t *to = arena_alloc(&s->arena, bytes);
    int rc = scale && to ? read_scales(s, b, scale) : PEFT_ENOMEM;
    const uint8_t *codes = b->weight->data;
    for (int64_t i = 0; i < bytes / BNB_BYTES && !rc; i++) {
        memcpy(to + i * BNB_BYTES, &scale[i * BNB_BLOCK / b->block], 4);
        memcpy(to + i * BNB_BYTES + 4, codes + i * (BNB_BLOCK / 2),
               (size_t)MIN(BNB_BLOCK / 2, b->weight->bytes - i * (BNB_BLOCK / 2)));
    }
    mem_free(&s->h->mem, scale);
    if (rc) return rc;
    *b->weight = (struct store_tensor){.name = b->name, .type = b->type, .n_dims = 2,
                                       .dims = {b->rows, b->cols}, .count = n, .bytes = bytes,
                                       .data = to};
    return PEFT_OK;
}

/* `mark` begins the state's suffix in its name. */
static int join_4bit(struct store *s, const struct store_tensor *state, const char *mark,
                     const char *quant)
{
    char name[256];
    size_t n = (size_t)(mark - state->name);
    json *root = NULL;
    if (n >= sizeof name) return fail(PEFT_EUNSUPPORTED, "tensor %.100s: too long", state->name);
    memcpy(name, state->name, n);
    name[n] = 0;
    int64_t i = map_gets(&s->names, name, -1);
    if (i < 0) return fail(PEFT_EFORMAT, "tensor %.100s has no weight", state->name);
    struct bnb b = {.weight = &s->tensors[i], .name = s->tensors[i].name};
    int rc = json_parse(state->data, state->bytes, state->name, &root);
    b.state = root;
    if (!rc) rc = read_bnb_state(&b, quant);
    if (!rc) rc = join(s, &b);
    json_free(root);
    return rc < 0 ? fail_in(rc, "%s: tensor %.100s: ", s->path, name) : rc;
}

static int join_int8(struct store *s, const struct store_tensor *scb, size_t n)
{
    char name[256];
    if (n + 8 > sizeof name) return PEFT_OK;
    memcpy(name, scb->name, n);
    memcpy(name + n, ".weight", 8);
    int64_t i = map_gets(&s->names, name, -1);
    struct store_tensor *w = i < 0 ? NULL : &s->tensors[i];
    const struct store_tensor *format = bnb_piece(s, name, "_format");
    if (!w || strcmp(w->type->name, "I8") || w->n_dims != 2) return PEFT_OK;
    if (strcmp(scb->type->name, "F32") || scb->count != w->dims[0])
        return fail(PEFT_EFORMAT, "%s: tensor %.100s has %lld scales of %s, expected %lld of F32",
                    s->path, name, (long long)scb->count, scb->type->name, (long long)w->dims[0]);
    if (w->dims[1] % INT8_BLOCK || (format && (format->bytes != 1 || *(const char *)format->data)))
        return fail(PEFT_EUNSUPPORTED, "%s: tensor %.100s: LLM.int8 weights not by rows, or with "
                    "rows of %lld that are no multiple of %d", s->path, name,
                    (long long)w->dims[1], (int)INT8_BLOCK);
    int rc = check_scales(scb->data, scb->count);
    if (rc) return fail_in(rc, "%s: tensor %.100s: ", s->path, name);
    const struct qtype *type = qtype_by_name("LLM_INT8");
    int64_t blocks = w->count / INT8_BLOCK, each = w->dims[1] / INT8_BLOCK;
    char *to = arena_alloc(&s->arena, blocks * type->bytes);
    if (!to) return PEFT_ENOMEM;
    for (int64_t k = 0; k < blocks; k++) {
        memcpy(to + k * type->bytes, (const float *)scb->data + k / each, 4);
        memcpy(to + k * type->bytes + 4, (const char *)w->data + k * INT8_BLOCK, INT8_BLOCK);
    }
    w->type = type;
    w->bytes = blocks * type->bytes;
    w->data = to;
    return PEFT_OK;
}

int bnb_read(struct store *s)
{
    static const char mark[] = ".quant_state.bitsandbytes__";
    const json *config = json_get(s->config, "quantization_config");
    const char *method = json_string(json_get(config, "quant_method"));
    if (method && strcmp(method, "bitsandbytes") && strcmp(method, "fp8"))
        return fail(PEFT_EUNSUPPORTED, "%s: quantised by \"%.40s\", expected bitsandbytes or plain "
                    "floats", s->path, method);
    for (int64_t i = 0; i < s->n; i++) {
        const struct store_tensor *t = &s->tensors[i];
        const char *at = strstr(t->name, mark);
        size_t n = strlen(t->name);
        int rc = PEFT_OK;
        if (at) rc = join_4bit(s, t, at, at + sizeof mark - 1);
        else if (n > 4 && !strcmp(t->name + n - 4, ".SCB")) rc = join_int8(s, t, n - 4);
        if (rc) return rc;
    }
    return PEFT_OK;
}

/* --- writing */

const struct qtype *bnb_type(const char *quant, const struct qtype *held)
{
    const struct qtype *like = held->exact && held->flat ? held->exact : held;
    const char *dtype = like == &qtype_f16 ? "float16" : like == &qtype_bf16 ? "bfloat16"
                                                                             : "float32";
    for (size_t i = 0; i < ARRAY_LEN(bnb_kinds); i++)
        if (!strcmp(bnb_kinds[i].quant, quant) && !strcmp(bnb_kinds[i].dtype, dtype))
            return qtype_by_name(bnb_kinds[i].type);
    return NULL;
}

/* A tensor beside the weight. */
static void *add_piece(struct arena *a, const char *name, const char *suffix,
                       const struct qtype *type, int64_t count, struct store_out *o)
{
    size_t n = strlen(name), k = strlen(suffix);
    char *text = arena_alloc(a, (int64_t)(n + k + 1));
    void *data = arena_alloc(a, count * type->bytes);
    if (!text || !data) return NULL;
    memcpy(text, name, n);
    memcpy(text + n, suffix, k);
    *o = (struct store_out){.name = text, .type = type, .n_dims = 1, .dims = {count},
                            .data = data};
    return data;
}

static int put_bnb_state(struct host *h, struct arena *a, const struct bnb_out *w,
                     const struct bnb_kind *kind, float mean, struct store_out *o)
{
    struct buf b;
    buf_init(&b, &h->mem);
    buf_printf(&b, "{\"quant_type\": \"%s\", \"blocksize\": %d, \"dtype\": \"%s\", \"shape\": "
               "[%lld, %lld]", kind->quant, (int)BNB_BLOCK, kind->dtype, (long long)w->rows,
               (long long)w->cols);
    if (w->nested) {
        buf_printf(&b, ", \"nested_blocksize\": %d, \"nested_dtype\": \"float32\", "
                   "\"nested_offset\": ", (int)SCALES_BLOCK);
        buf_real(&b, (double)mean);
    }
    buf_putc(&b, '}');
    int rc = buf_check(&b);
    const char *suffix = strcmp(kind->quant, "nf4") ? ".quant_state.bitsandbytes__fp4"
                                                    : ".quant_state.bitsandbytes__nf4";
    void *to = rc ? NULL : add_piece(a, w->name, suffix, qtype_by_name("U8"), b.n, o);
    if (to) memcpy(to, b.data, (size_t)b.n);
    buf_free(&b);
    return to ? PEFT_OK : PEFT_ENOMEM;
}

int bnb_write(struct host *h, struct arena *a, const struct bnb_out *w, struct store_out *out,
              int64_t *n)
{
    const struct qtype *u8 = qtype_by_name("U8"), *f32 = &qtype_f32;
    const struct bnb_kind *kind = bnb_kinds;
    int64_t count = w->rows * w->cols, scales = div_up(count, BNB_BLOCK);
    float *scale = mem_array(&h->mem, scales, (int64_t)sizeof *scale), mean = 0;
    struct store_out *o = out;
    while (strcmp(kind->type, w->type->name)) kind++;
    uint8_t *codes = add_piece(a, w->name, "", u8, (count + 1) / 2, o++);
    void *absmax = add_piece(a, w->name, ".absmax", w->nested ? u8 : f32, scales, o++);
    float *map = add_piece(a, w->name, ".quant_map", f32, 16, o++), *largest = NULL, *levels = NULL;
    if (w->nested) {
        largest = add_piece(a, w->name, ".nested_absmax", f32, div_up(scales, SCALES_BLOCK), o++);
        levels = add_piece(a, w->name, ".nested_quant_map", f32, 256, o++);
    }
    int rc = scale && codes && absmax && map && (!w->nested || (largest && levels)) ? PEFT_OK
                                                                                   : PEFT_ENOMEM;
    if (!rc) {
        out->n_dims = 2;
        out->dims[1] = 1;
        for (int64_t i = 0; i < scales; i++) {
            const uint8_t *from = (const uint8_t *)w->blocks + i * BNB_BYTES;
            memcpy(&scale[i], from, 4);
            memcpy(codes + i * (BNB_BLOCK / 2), from + 4,
                   (size_t)MIN(BNB_BLOCK / 2, (count + 1) / 2 - i * (BNB_BLOCK / 2)));
        }
        memcpy(map, kind->levels, 16 * sizeof *map);
        if (w->nested) {
            mean = scales_pack(absmax, largest, scale, scales);
            tree_levels(levels, 0);
        } else {
            memcpy(absmax, scale, (size_t)scales * sizeof *scale);
        }
        rc = put_bnb_state(h, a, w, kind, mean, o++);
    }
    mem_free(&h->mem, scale);
    *n = o - out;
    return rc;
}
