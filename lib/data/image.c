/* Bytes of a PNG or JPEG file -> an upright picture of 1 or 3 channels. */
#include "data/image.h"

int image_alloc(struct host *h, int64_t w, int64_t high, int32_t channels, int64_t n,
                struct image *out)
{
    /* No compression that we read makes more than 8256 pixels of a byte (PNG:
     * 1032 bytes of 8 pixels), so a small file cannot claim much memory. */
    if (w < 1 || high < 1 || w > IMAGE_SIDE || high > IMAGE_SIDE || w * high > IMAGE_PIXELS ||
        w * high / 8256 > n)
        return fail(PEFT_EFORMAT, "a picture of %lld x %lld in %lld bytes, expected at most %d "
                    "pixels and data for them", (long long)w, (long long)high, (long long)n,
                    IMAGE_PIXELS);
    if (channels != 1 && channels != 3)
        return fail(PEFT_EFORMAT, "a picture of %d channels, expected 1 or 3", channels);
    uint8_t *px = mem_alloc(&h->mem, w * high * channels);
    if (!px) return PEFT_ENOMEM;
    *out = (struct image){(int32_t)w, (int32_t)high, channels, px, 1};
    return PEFT_OK;
}

void image_free(struct host *h, struct image *im)
{
    mem_free(&h->mem, im->px);
    im->px = NULL;
}

/* --- EXIF: TIFF's header (byte order, 42, offset) and first directory */

static uint32_t tiff_number(const uint8_t *p, int bytes, bool little)
{
    uint32_t x = 0;
    for (int i = 0; i < bytes; i++) x = x << 8 | p[little ? bytes - 1 - i : i];
    return x;
}

int32_t exif_orientation(const uint8_t *p, int64_t n)
{
    bool little = n >= 8 && p[0] == 'I';
    if (n < 8 || p[0] != p[1] || (p[0] != 'I' && p[0] != 'M') ||
        tiff_number(p + 2, 2, little) != 42)
        return 1;
    int64_t at = tiff_number(p + 4, 4, little);
    if (at > n - 2) return 1;
    int64_t entries = tiff_number(p + at, 2, little);
    for (at += 2; entries-- > 0 && at <= n - 12; at += 12) {
        if (tiff_number(p + at, 2, little) != 0x0112) continue;
        uint32_t value = tiff_number(p + at + 8, 2, little);
        return value >= 1 && value <= 8 ? (int32_t)value : 1;
    }
    return 1;
}

/* How an orientation is undone, as Pillow's exif_transpose: swap the axes,
 * then mirror them. */
static const struct { uint8_t swap, flip_x, flip_y; } turns[9] = {
    [2] = {0, 1, 0}, [3] = {0, 1, 1}, [4] = {0, 0, 1}, [5] = {1, 0, 0},
    [6] = {1, 1, 0}, [7] = {1, 1, 1}, [8] = {1, 0, 1}
};

static int turn_upright(struct host *h, struct image *im)
{
    int k = im->orientation, c = im->channels;
    struct image to;
    if (k < 2 || k > 8) return PEFT_OK;
    int32_t w = turns[k].swap ? im->h : im->w, high = turns[k].swap ? im->w : im->h;
    int rc = image_alloc(h, w, high, c, INT64_MAX, &to);
    if (rc) return rc;
    for (int64_t y = 0; y < high; y++)
        for (int64_t x = 0; x < w; x++) {
            int64_t u = turns[k].flip_x ? w - 1 - x : x, v = turns[k].flip_y ? high - 1 - y : y;
            int64_t from = turns[k].swap ? u * im->w + v : v * im->w + u;
            memcpy(to.px + (y * w + x) * c, im->px + from * c, (size_t)c);
        }
    image_free(h, im);
    *im = to;
    return PEFT_OK;
}

/* Grey repeated, or Pillow's "L": ITU-R 601 in 16 bits. */
static int to_channels(struct host *h, struct image *im, int32_t channels)
{
    struct image to;
    if (im->channels == channels) return PEFT_OK;
    int rc = image_alloc(h, im->w, im->h, channels, INT64_MAX, &to);
    if (rc) return rc;
    int64_t n = (int64_t)im->w * im->h;
    for (int64_t i = 0; i < n && channels == 3; i++) memset(to.px + 3 * i, im->px[i], 3);
    for (int64_t i = 0; i < n && channels == 1; i++) {
        const uint8_t *p = im->px + 3 * i;
        to.px[i] = (uint8_t)((p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16);
    }
    image_free(h, im);
    *im = to;
    return PEFT_OK;
}

int image_decode(struct host *h, const uint8_t *data, int64_t n, int32_t channels,
                 struct image *out)
{
    static const struct {
        const char *magic;
        int64_t n;
        int (*decode)(struct host *h, const uint8_t *data, int64_t n, struct image *out);
    } kinds[] = {{"\x89PNG\r\n\x1a\n", 8, png_decode}, {"\xff\xd8\xff", 3, jpeg_decode}};
    *out = (struct image){0};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (n < kinds[i].n || memcmp(data, kinds[i].magic, (size_t)kinds[i].n) != 0) continue;
        int rc = kinds[i].decode(h, data, n, out);
        if (!rc) rc = turn_upright(h, out);
        if (!rc) rc = to_channels(h, out, channels);
        if (rc) image_free(h, out);
        return rc;
    }
    return fail(PEFT_EFORMAT, "neither a PNG nor a JPEG file");
}
