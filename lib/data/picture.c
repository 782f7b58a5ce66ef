/* A picture file -> what the model reads: decoded, resized, cropped as
 * preprocessor_config.json says, kept as bytes; normalised when a batch is made. */
#include "data/image.h"

#include <math.h>
#include <stdio.h>

/* The size after do_resize: as given, or by the shorter side. */
static int resize_step(struct host *h, const struct vision *v, struct image *im)
{
    int64_t w = v->size_w, high = v->size_h;
    if (!v->resize) return PEFT_OK;
    if (v->shortest) {
        int64_t least = MIN(im->w, im->h), most = MAX(im->w, im->h);
        most = v->shortest * most / least;
        w = im->w <= im->h ? v->shortest : most;
        high = im->w <= im->h ? most : v->shortest;
    }
    if (w > IMAGE_SIDE || high > IMAGE_SIDE || w * high > IMAGE_PIXELS)
        return fail(PEFT_EFORMAT, "a picture of %d x %d, too thin to be resized", im->w, im->h);
    return image_resize(h, im, (int32_t)w, (int32_t)high, v->resample);
}

int64_t picture_bytes(const struct vision *v) { return (int64_t)v->w * v->h * v->channels; }

int picture_read(struct host *h, const struct vision *v, const uint8_t *data, int64_t n,
                 uint8_t *to)
{
    struct image im = {0};
    if (v->channels != 1 && v->channels != 3)
        return fail(PEFT_EUNSUPPORTED, "the model reads %d channels, picture files have 1 or 3",
                    v->channels);
    int rc = image_decode(h, data, n, v->channels, &im);
    if (!rc) rc = resize_step(h, v, &im);
    if (!rc && v->crop) rc = image_center_crop(h, &im, v->crop_w, v->crop_h);
    if (!rc && (im.w != v->w || im.h != v->h))
        rc = fail(PEFT_EDATA, "a picture of %d x %d after preprocessor_config.json, the model "
                  "reads %d x %d", im.w, im.h, v->w, v->h);
    if (!rc) memcpy(to, im.px, (size_t)picture_bytes(v));
    image_free(h, &im);
    return rc;
}

int picture_open(struct host *h, const struct vision *v, const char *path, uint8_t *to)
{
    struct file_view view;
    int rc = file_open_view(h, path, false, &view);
    if (rc) return rc;
    rc = picture_read(h, v, view.data, view.n, to);
    file_close_view(h, &view);
    return rc ? fail_in(rc, "%s: ", path) : rc;
}

void picture_pixels(const struct vision *v, const uint8_t *px, float *to)
{
    int64_t n = (int64_t)v->w * v->h;
    double scale = v->rescale ? v->scale : 1;
    for (int32_t c = 0; c < v->channels; c++) {
        double mean = v->normalize ? (double)v->mean[c] : 0;
        double std = v->normalize ? (double)v->std[c] : 1;
        float level[256];
        for (int i = 0; i < 256; i++) level[i] = (float)((i * scale - mean) / std);
        for (int64_t i = 0; i < n; i++) to[c * n + i] = level[px[i * v->channels + c]];
    }
}
