/* The only door to libpng.  Built with PEFT_PNG; without it pictures of this
 * kind are refused with the name of what is missing.
 *
 * libpng leaves by longjmp on an error: everything that must be released lies
 * in struct png_job, outside of the function that calls setjmp.  Grey and RGB
 * come as 8 bits a channel, palettes as RGB; of 16 bits the upper 8 stay and
 * alpha is dropped, as Pillow's convert("RGB") does. */
#include "data/image.h"

#ifdef PEFT_PNG
#include <png.h>
#include <setjmp.h>

struct png_job {
    struct host *host;
    const uint8_t *data;
    int64_t n, at;
    png_structp png;
    png_infop info;
    struct image *out;
    int rc;                         /* a failure with its message set, or 0 */
    char reason[96];
};

static void *png_take(png_structp png, png_alloc_size_t n)
{
    struct png_job *j = png_get_mem_ptr(png);
    void *p = n > INT32_MAX ? NULL : mem_alloc(&j->host->mem, (int64_t)n);
    if (!p && n <= INT32_MAX) j->rc = PEFT_ENOMEM;
    return p;
}

static void png_give(png_structp png, void *p)
{
    const struct png_job *j = png_get_mem_ptr(png);
    mem_free(&j->host->mem, p);
}

static void png_failed(png_structp png, png_const_charp why)
{
    struct png_job *j = png_get_error_ptr(png);
    size_t n = MIN(strlen(why), sizeof j->reason - 1);
    memcpy(j->reason, why, n);
    j->reason[n] = 0;
    png_longjmp(png, 1);
}

static void png_silent(png_structp png, png_const_charp why) { (void)png, (void)why; }

static void png_bytes(png_structp png, png_bytep to, size_t n)
{
    struct png_job *j = png_get_io_ptr(png);
    if ((int64_t)n > j->n - j->at) png_error(png, "the file ends within the picture");
    memcpy(to, j->data + j->at, n);
    j->at += (int64_t)n;
}

/* Everything that may longjmp. */
static void png_read_all(struct png_job *j)
{
    png_structp png = j->png;
    png_bytep exif = NULL;
    png_uint_32 exif_n = 0;
    if (setjmp(png_jmpbuf(png))) {
        if (!j->rc) j->rc = fail(PEFT_EFORMAT, "broken PNG: %s", j->reason);
        return;
    }
    png_set_user_limits(png, IMAGE_SIDE, IMAGE_SIDE);
    png_set_chunk_malloc_max(png, 8 << 20);
    png_set_chunk_cache_max(png, 128);
    png_set_read_fn(png, j, png_bytes);
    png_read_info(png, j->info);
    if (png_get_bit_depth(png, j->info) == 16) png_set_strip_16(png);
    png_set_expand(png);
    png_set_strip_alpha(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, j->info);
    int64_t w = png_get_image_width(png, j->info), h = png_get_image_height(png, j->info);
    int32_t channels = png_get_channels(png, j->info);
    if (png_get_rowbytes(png, j->info) != (size_t)w * (size_t)channels)
        png_error(png, "rows of an unknown form");
    if ((j->rc = image_alloc(j->host, w, h, channels, j->n, j->out))) return;
    for (int pass = 0; pass < passes; pass++)
        for (int64_t y = 0; y < h; y++) png_read_row(png, j->out->px + y * w * channels, NULL);
#ifdef PNG_eXIf_SUPPORTED
    if (png_get_eXIf_1(png, j->info, &exif_n, &exif))
        j->out->orientation = exif_orientation(exif, exif_n);
#endif
    /* What stands behind the pixels is of no use to us, broken or not. */
}

int png_decode(struct host *h, const uint8_t *data, int64_t n, struct image *out)
{
    struct png_job j = {.host = h, .data = data, .n = n, .out = out};
    *out = (struct image){.orientation = 1};
    j.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &j, png_failed, png_silent, &j,
                                     png_take, png_give);
    if (!j.png) return fail(PEFT_ENOMEM, "libpng cannot begin");
    j.info = png_create_info_struct(j.png);
    if (j.info) png_read_all(&j);
    else j.rc = fail(PEFT_ENOMEM, "libpng cannot begin");
    png_destroy_read_struct(&j.png, &j.info, NULL);
    if (j.rc) image_free(h, out);
    return j.rc;
}

/* --- writing */

struct png_writing {
    struct png_job job;
    struct buf *to;
};

static void png_put(png_structp png, png_bytep from, size_t n)
{
    struct png_writing *w = png_get_io_ptr(png);
    buf_put(w->to, from, (int64_t)n);
    if (w->to->oom) png_error(png, "out of memory");
}

static void png_flushed(png_structp png) { (void)png; }

static void png_write_all(struct png_writing *w, const struct image *im)
{
    png_structp png = w->job.png;
    int grey = im->channels == 1;
    if (setjmp(png_jmpbuf(png))) {
        w->job.rc = fail(w->to->oom ? PEFT_ENOMEM : PEFT_EIO, "PNG: %s", w->job.reason);
        return;
    }
    png_set_write_fn(png, w, png_put, png_flushed);
    png_set_IHDR(png, w->job.info, (png_uint_32)im->w, (png_uint_32)im->h, 8,
                 grey ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, w->job.info);
    for (int64_t y = 0; y < im->h; y++) png_write_row(png, im->px + y * im->w * im->channels);
    png_write_end(png, NULL);
}

int png_encode(struct host *h, const struct image *im, struct buf *out)
{
    struct png_writing w = {.job.host = h, .to = out};
    w.job.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &w.job, png_failed, png_silent,
                                          &w.job, png_take, png_give);
    if (!w.job.png) return fail(PEFT_ENOMEM, "libpng cannot begin");
    w.job.info = png_create_info_struct(w.job.png);
    if (w.job.info) png_write_all(&w, im);
    else w.job.rc = fail(PEFT_ENOMEM, "libpng cannot begin");
    png_destroy_write_struct(&w.job.png, &w.job.info);
    return w.job.rc;
}

#else

int png_encode(struct host *h, const struct image *im, struct buf *out)
{
    (void)h, (void)im, (void)out;
    return fail(PEFT_EUNSUPPORTED, "this build writes no PNG: install libpng's development files "
                "(libpng-dev) and build again");
}

int png_decode(struct host *h, const uint8_t *data, int64_t n, struct image *out)
{
    (void)h, (void)data, (void)n;
    *out = (struct image){0};
    return fail(PEFT_EUNSUPPORTED, "this build reads no PNG: install libpng's development files "
                "(libpng-dev) and build again");
}

#endif
