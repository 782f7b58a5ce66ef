/* Inside data/: pictures as bytes, and what is done to them. */
#ifndef DATA_IMAGE_H
#define DATA_IMAGE_H

#include "data/data.h"

struct image {
    int32_t w, h, channels;         /* 1 grey or 3 RGB */
    uint8_t *px;                    /* [h, w, channels]; of the host's memory */
    int32_t orientation;            /* EXIF's, 1 to 8; 1 = upright */
};
enum { IMAGE_SIDE = 65500, IMAGE_PIXELS = 1 << 26 };

/* Decodes a PNG or JPEG file, upright, in that many channels (1 or 3).  Content
 * that is broken, of another kind or beyond IMAGE_PIXELS is PEFT_EFORMAT; a
 * kind that this build cannot read PEFT_EUNSUPPORTED. */
int image_decode(struct host *h, const uint8_t *data, int64_t n, int32_t channels,
                 struct image *out);
void image_free(struct host *h, struct image *im);
/* Memory for w x h; refuses sizes beyond the limits, or that n bytes of a file
 * could not hold. */
int image_alloc(struct host *h, int64_t w, int64_t high, int32_t channels, int64_t n,
                struct image *out);
/* Orientation from TIFF-structured EXIF data; 1 when it has none. */
int32_t exif_orientation(const uint8_t *p, int64_t n);

/* --- png.c, jpeg.c: the doors of libpng and libjpeg.  `out` in the file's own
 * channels; nothing is left allocated on failure. */
int png_decode(struct host *h, const uint8_t *data, int64_t n, struct image *out);
int png_encode(struct host *h, const struct image *im, struct buf *out);    /* appends */
int jpeg_decode(struct host *h, const uint8_t *data, int64_t n, struct image *out);

/* --- resample.c */
/* Pillow's Image.resize: in place, antialiased when it gets smaller. */
int image_resize(struct host *h, struct image *im, int32_t w, int32_t high, enum resample how);
/* The middle w x h; what lies outside of the picture is black. */
int image_center_crop(struct host *h, struct image *im, int32_t w, int32_t high);

#endif
