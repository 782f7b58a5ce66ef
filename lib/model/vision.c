/* preprocessor_config.json <-> struct vision.  Both spellings are known: sizes
 * as one number (before transformers 4.26) or as an object, and settings at
 * the root or, in processor_config.json of transformers 5, in "image_processor". */
#include <math.h>

#include "model/load.h"

/* What image processors take for granted. */
static const struct vision defaults[] = {
    [IMAGE_VIT] = { .resize = 1, .rescale = 1, .normalize = 1, .resample = RESAMPLE_BILINEAR,
                    .mean = { 0.5f, 0.5f, 0.5f }, .std = { 0.5f, 0.5f, 0.5f } },
    [IMAGE_CLIP] = { .resize = 1, .crop = 1, .rescale = 1, .normalize = 1,
                     .resample = RESAMPLE_BICUBIC,
                     .mean = { 0.48145466f, 0.4578275f, 0.40821073f },
                     .std = { 0.26862954f, 0.26130258f, 0.27577711f } },
};

static int read_flag(const json *j, const char *key, int32_t *out)
{
    const json *v = json_get(j, key);
    if (json_kind(v) == JSON_NULL) return PEFT_OK;
    if (json_kind(v) != JSON_BOOL)
        return fail(PEFT_EFORMAT, "\"%s\" is %s, expected true or false", key, json_kind_name(v));
    *out = json_bool(v, 0);
    return PEFT_OK;
}

static int read_side(const json *j, const char *key, int32_t *out)
{
    int64_t n = 0;
    int rc = json_int(j, key, 1, 1 << 14, &n);
    if (rc > 0) *out = (int32_t)n;
    return MIN(rc, PEFT_OK);
}

/* "size": a number (the shorter side when there is a crop, else both), or an
 * object of height and width, or of the shorter side. */
static int read_size(const json *j, struct vision *v)
{
    const json *size = json_get(j, "size");
    if (json_kind(size) == JSON_NULL) return PEFT_OK;
    v->size_h = v->size_w = v->shortest = 0;
    if (json_kind(size) == JSON_NUMBER) {
        int32_t n = 0;
        int rc = read_side(j, "size", &n);
        if (v->crop) v->shortest = n;
        else v->size_h = v->size_w = n;
        return rc;
    }
    int rc = read_side(size, "height", &v->size_h);
    if (!rc) rc = read_side(size, "width", &v->size_w);
    if (!rc) rc = read_side(size, "shortest_edge", &v->shortest);
    if (rc) return rc;
    if (json_get(size, "longest_edge") || (!v->shortest && (!v->size_h || !v->size_w)))
        return fail(PEFT_EUNSUPPORTED, "\"size\" has other members than height and width, or "
                    "shortest_edge");
    return PEFT_OK;
}

static int read_crop(const json *j, struct vision *v)
{
    const json *size = json_get(j, "crop_size");
    if (json_kind(size) == JSON_NULL) return PEFT_OK;
    if (json_kind(size) == JSON_NUMBER) {
        int rc = read_side(j, "crop_size", &v->crop_h);
        v->crop_w = v->crop_h;
        return rc;
    }
    int rc = read_side(size, "height", &v->crop_h);
    return rc ? rc : read_side(size, "width", &v->crop_w);
}

/* One number for all channels, or a list of as many. */
static int read_channels(const json *j, const char *key, int32_t channels, int positive,
                         float *out)
{
    const json *list = json_get(j, key), *x = json_first(list);
    int one = json_kind(list) == JSON_NUMBER || json_count(list) == 1;
    if (json_kind(list) == JSON_NULL) return PEFT_OK;
    if (!one && json_count(list) < channels)
        return fail(PEFT_EFORMAT, "\"%s\" has %d numbers, expected %d", key,
                    (int)json_count(list), channels);
    for (int32_t c = 0; c < MIN(channels, VISION_CHANNELS); c++) {
        double value = json_number(json_kind(list) == JSON_NUMBER ? list : x, NAN);
        if (!(fabs(value) <= 1e6) || (positive && !(value >= 1e-6)))
            return fail(PEFT_EFORMAT, "\"%s\" of channel %d is no sensible number", key, c);
        out[c] = (float)value;
        if (!one) x = json_next(x);
    }
    return PEFT_OK;
}

static int read_settings(const json *j, struct vision *v)
{
    int64_t resample = (int64_t)v->resample;
    int rc = read_flag(j, "do_resize", &v->resize);
    if (!rc) rc = read_flag(j, "do_center_crop", &v->crop);
    if (!rc) rc = read_flag(j, "do_rescale", &v->rescale);
    if (!rc) rc = read_flag(j, "do_normalize", &v->normalize);
    if (!rc) rc = read_size(j, v);
    if (!rc) rc = read_crop(j, v);
    if (!rc) rc = MIN(json_int(j, "resample", 0, RESAMPLE_COUNT - 1, &resample), PEFT_OK);
    if (!rc) rc = read_channels(j, "image_mean", v->channels, 0, v->mean);
    if (!rc) rc = read_channels(j, "image_std", v->channels, 1, v->std);
    if (rc) return rc;
    v->resample = (enum resample)resample;
    v->scale = json_number(json_get(j, "rescale_factor"), v->scale);
    if (!(fabs(v->scale) <= 1e6)) return fail(PEFT_EFORMAT, "\"rescale_factor\" is out of range");
    return PEFT_OK;
}

static int read_file(struct model *m, const char *dir, const char *name, const char *member)
{
    struct vision *v = m->vision;
    struct file_view view;
    json *root = NULL;
    char *path;
    int rc = path_join(&m->host, dir, name, &path);
    if (rc) return rc;
    if (path_kind(&m->host, path) == 1 && !(rc = file_open_view(&m->host, path, false, &view))) {
        rc = json_parse((const char *)view.data, view.n, name, &root);
        const json *j = member ? json_get(root, member) : root;
        if (!rc && json_kind(j) == JSON_OBJECT) {
            v->text_n = view.n;
            v->text = arena_strndup(&m->arena, (const char *)view.data, view.n);
            rc = v->text ? read_settings(j, v) : PEFT_ENOMEM;
            if (rc) fail_in(rc, "%s: ", path);
        }
        /* What is kept is written as preprocessor_config.json. */
        if (member) v->text = NULL;
        file_close_view(&m->host, &view);
        json_free(root);
    }
    mem_free(&m->host.mem, path);
    return rc;
}

int vision_open(struct model *m)
{
    const struct hparams *hp = &m->hp;
    struct vision *v = arena_alloc(&m->arena, sizeof(*v));
    char *dir = model_folder(m);
    if (!v || !dir) {
        mem_free(&m->host.mem, dir);
        return PEFT_ENOMEM;
    }
    *v = defaults[m->arch->style.image];
    v->h = v->crop_h = (int32_t)hp->image[0];
    v->w = v->crop_w = (int32_t)hp->image[1];
    if (v->crop) v->shortest = MIN(v->h, v->w);
    else v->size_h = v->h, v->size_w = v->w;
    v->channels = (int32_t)hp->channels;
    v->patch_h = (int32_t)hp->patch[0];
    v->patch_w = (int32_t)hp->patch[1];
    v->scale = 1.0 / 255;
    m->vision = v;
    int rc = read_file(m, dir, "processor_config.json", "image_processor");
    if (!rc) rc = read_file(m, dir, "preprocessor_config.json", NULL);
    mem_free(&m->host.mem, dir);
    return rc;
}

/* --- writing */

static void put_floats(struct buf *b, const char *key, const float *x, int32_t n)
{
    buf_printf(b, ",\n  \"%s\": [", key);
    for (int32_t i = 0; i < MIN(n, VISION_CHANNELS); i++) {
        buf_puts(b, i ? ", " : "");
        buf_number(b, (double)x[i]);
    }
    buf_puts(b, "]");
}

static void put_settings_of(struct buf *b, const struct vision *v, int clip)
{
    static const char *const bools[] = { "false", "true" };
    buf_printf(b, "{\n  \"do_center_crop\": %s,\n  \"do_normalize\": %s,\n  \"do_rescale\": %s,\n"
               "  \"do_resize\": %s", bools[v->crop], bools[v->normalize], bools[v->rescale],
               bools[v->resize]);
    if (v->crop)
        buf_printf(b, ",\n  \"crop_size\": {\"height\": %d, \"width\": %d}", v->crop_h, v->crop_w);
    put_floats(b, "image_mean", v->mean, v->channels);
    put_floats(b, "image_std", v->std, v->channels);
    buf_printf(b, ",\n  \"image_processor_type\": \"%s\",\n  \"resample\": %d,\n"
               "  \"rescale_factor\": ", clip ? "CLIPImageProcessor" : "ViTImageProcessor",
               (int)v->resample);
    buf_number(b, v->scale);
    if (v->shortest) buf_printf(b, ",\n  \"size\": {\"shortest_edge\": %d", v->shortest);
    else buf_printf(b, ",\n  \"size\": {\"height\": %d, \"width\": %d", v->size_h, v->size_w);
    buf_puts(b, "}\n}\n");
}

int vision_save(const struct model *cm, const char *dir)
{
    struct model *m = (struct model *)(uintptr_t)cm;
    const struct vision *v = m->vision;
    struct buf b;
    char *path = NULL;
    buf_init(&b, &m->host.mem);
    if (v->text) buf_put(&b, v->text, v->text_n);
    else put_settings_of(&b, v, m->arch->style.image == IMAGE_CLIP);
    int rc = buf_check(&b);
    if (!rc) rc = path_join(&m->host, dir, "preprocessor_config.json", &path);
    if (!rc) rc = file_write(&m->host, path, b.data, b.n);
    mem_free(&m->host.mem, path);
    buf_free(&b);
    return rc;
}

/* Row (i, j) of patches holds its pixels by channel, line, column, the order of
 * the convolution's weights. */
void vision_patches(const struct vision *v, const float *pixels, float *rows)
{
    for (int32_t i = 0; i < v->h / v->patch_h; i++)
        for (int32_t j = 0; j < v->w / v->patch_w; j++)
            for (int32_t c = 0; c < v->channels; c++)
                for (int32_t y = 0; y < v->patch_h; y++, rows += v->patch_w) {
                    int64_t line = (int64_t)c * v->h + i * v->patch_h + y;
                    memcpy(rows, pixels + line * v->w + j * v->patch_w,
                           (size_t)v->patch_w * sizeof(float));
                }
}

int64_t vision_pixels(const struct vision *v) { return (int64_t)v->channels * v->h * v->w; }
int64_t vision_tokens(const struct vision *v)
{
    return 1 + (int64_t)(v->h / v->patch_h) * (v->w / v->patch_w);
}
int64_t vision_patch(const struct vision *v)
{
    return (int64_t)v->channels * v->patch_h * v->patch_w;
}
