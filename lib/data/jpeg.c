/* The only door to libjpeg (libjpeg-turbo).  Built with PEFT_JPEG; without it
 * pictures of this kind are refused with the name of what is missing.
 *
 * libjpeg leaves through its error manager by longjmp: everything that must be
 * released lies in struct jpeg_job.  Grey stays grey, YCbCr becomes RGB, and
 * CMYK, which files of this kind hold inverted, RGB as Pillow mixes it. */
#include "data/image.h"

#ifdef PEFT_JPEG
#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>

#include <jerror.h>

/* Progressive files repeat the picture; more scans than this only cost time. */
enum { SCANS = 64 };

struct jpeg_job {
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    struct jpeg_decompress_struct jpeg;
    jmp_buf leave;
    struct host *host;
    struct image *out;
    uint8_t *row;                   /* of four channels */
    int64_t n;
    int rc;                         /* a failure with its message set, or 0 */
};

static void jpeg_failed(j_common_ptr c)
{
    struct jpeg_job *j = c->client_data;
    char why[JMSG_LENGTH_MAX];
    c->err->format_message(c, why);
    j->rc = c->err->msg_code == JERR_OUT_OF_MEMORY ? fail(PEFT_ENOMEM, "libjpeg: %s", why)
                                                   : fail(PEFT_EFORMAT, "broken JPEG: %s", why);
    longjmp(j->leave, 1);
}

static void jpeg_stop(struct jpeg_job *j, int rc)
{
    j->rc = rc;
    longjmp(j->leave, 1);
}

static void jpeg_silent(j_common_ptr c, int level) { (void)c, (void)level; }
static void jpeg_no_output(j_common_ptr c) { (void)c; }
static void jpeg_nothing(j_decompress_ptr c) { (void)c; }

static boolean jpeg_no_more(j_decompress_ptr c)
{
    jpeg_stop(c->client_data, fail(PEFT_EFORMAT, "broken JPEG: the file ends within the picture"));
    return FALSE;
}

static void jpeg_skip(j_decompress_ptr c, long n)
{
    if (n < 0 || (size_t)n > c->src->bytes_in_buffer) jpeg_no_more(c);
    c->src->next_input_byte += n;
    c->src->bytes_in_buffer -= (size_t)n;
}

static void jpeg_watch(j_common_ptr c)
{
    struct jpeg_job *j = c->client_data;
    if (j->jpeg.input_scan_number > SCANS)
        jpeg_stop(j, fail(PEFT_EFORMAT, "broken JPEG: more than %d scans", SCANS));
}

/* 255 - c, 255 - m ... are what the file holds: R = C K / 255, rounded. */
static void mix_cmyk(const uint8_t *from, uint8_t *to, int64_t w)
{
    for (int64_t x = 0; x < w; x++, from += 4, to += 3)
        for (int k = 0; k < 3; k++) {
            int ink = (255 - from[k]) * from[3] + 128;
            to[k] = (uint8_t)(from[3] - (((ink >> 8) + ink) >> 8));
        }
}

static void jpeg_orientation(struct jpeg_job *j)
{
    for (jpeg_saved_marker_ptr m = j->jpeg.marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && !memcmp(m->data, "Exif\0", 6))
            j->out->orientation = exif_orientation(m->data + 6, m->data_length - 6);
}

/* Everything that may longjmp. */
static void jpeg_read_all(struct jpeg_job *j)
{
    j_decompress_ptr c = &j->jpeg;
    if (setjmp(j->leave)) return;
    jpeg_create_decompress(c);
    c->client_data = j;
    c->src = &j->source;
    c->progress = &j->progress;
    jpeg_save_markers(c, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(c, TRUE);
    jpeg_orientation(j);
    int32_t inks = c->num_components, channels = inks == 1 ? 1 : 3;
    int32_t kept = j->out->orientation;
    c->out_color_space = inks == 1 ? JCS_GRAYSCALE : inks == 4 ? JCS_CMYK : JCS_RGB;
    int64_t w = c->image_width;
    if ((j->rc = image_alloc(j->host, w, c->image_height, channels, j->n, j->out))) return;
    j->out->orientation = kept;
    if (inks == 4 && !(j->row = mem_alloc(&j->host->mem, w * 4))) {
        j->rc = PEFT_ENOMEM;
        return;
    }
    jpeg_start_decompress(c);
    while (c->output_scanline < c->output_height) {
        uint8_t *to = j->out->px + (int64_t)c->output_scanline * w * channels;
        JSAMPROW row = j->row ? j->row : to;
        jpeg_read_scanlines(c, &row, 1);
        if (j->row) mix_cmyk(j->row, to, w);
    }
}

int jpeg_decode(struct host *h, const uint8_t *data, int64_t n, struct image *out)
{
    struct jpeg_job *j = mem_zalloc(&h->mem, sizeof *j);
    *out = (struct image){.orientation = 1};
    if (!j) return PEFT_ENOMEM;
    j->host = h;
    j->out = out;
    j->n = n;
    j->jpeg.client_data = j;
    j->jpeg.err = jpeg_std_error(&j->errors);
    j->errors.error_exit = jpeg_failed;
    j->errors.emit_message = jpeg_silent;
    j->errors.output_message = jpeg_no_output;
    j->source = (struct jpeg_source_mgr){.next_input_byte = data, .bytes_in_buffer = (size_t)n,
        .init_source = jpeg_nothing, .fill_input_buffer = jpeg_no_more,
        .skip_input_data = jpeg_skip, .resync_to_restart = jpeg_resync_to_restart,
        .term_source = jpeg_nothing};
    j->progress.progress_monitor = jpeg_watch;
    jpeg_read_all(j);
    jpeg_destroy_decompress(&j->jpeg);
    int rc = j->rc;
    mem_free(&h->mem, j->row);
    mem_free(&h->mem, j);
    if (rc) image_free(h, out);
    return rc;
}

#else

int jpeg_decode(struct host *h, const uint8_t *data, int64_t n, struct image *out)
{
    (void)h, (void)data, (void)n;
    *out = (struct image){0};
    return fail(PEFT_EUNSUPPORTED, "this build reads no JPEG: install libjpeg-turbo's development "
                "files (libjpeg-dev) and build again");
}

#endif
