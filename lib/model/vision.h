/* What a model of pictures reads, and how pictures are brought into that form:
 * preprocessor_config.json, as transformers' image processors mean it. */
#ifndef MODEL_VISION_H
#define MODEL_VISION_H

#include "base/base.h"

/* Codes as in Pillow, which preprocessor_config.json holds. */
enum resample { RESAMPLE_NEAREST, RESAMPLE_LANCZOS, RESAMPLE_BILINEAR, RESAMPLE_BICUBIC,
                RESAMPLE_BOX, RESAMPLE_HAMMING, RESAMPLE_COUNT };
enum { VISION_CHANNELS = 3 };           /* of pictures from files, at most */

struct vision {
    int32_t h, w, channels;             /* the model's input */
    int32_t patch_h, patch_w;
    int32_t resize, crop, rescale, normalize;   /* what is done, in this order */
    int32_t size_h, size_w;             /* 0 = by `shortest` */
    int32_t shortest;                   /* of the sides; the other keeps the proportion */
    int32_t crop_h, crop_w;
    enum resample resample;
    double scale;                       /* of bytes */
    float mean[VISION_CHANNELS], std[VISION_CHANNELS];
    char *text;                         /* preprocessor_config.json as it was, or NULL */
    int64_t text_n;
};

struct model;
/* Reads preprocessor_config.json beside the model; the family's usual
 * settings where there is none. */
int vision_open(struct model *m);
/* Writes it into a folder. */
int vision_save(const struct model *m, const char *dir);
/* pixels [channels, h, w] -> the rows of one picture's patches. */
void vision_patches(const struct vision *v, const float *pixels, float *rows);
int64_t vision_pixels(const struct vision *v);      /* numbers of one picture */
int64_t vision_tokens(const struct vision *v);      /* the class token and patches */
int64_t vision_patch(const struct vision *v);       /* numbers of one patch */

#endif
