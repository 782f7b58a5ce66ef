/* A PNG or JPEG file.  First byte: what is done with the picture.  A picture
 * may be far larger than its file: its rule is IMAGE_PIXELS. */
#include "data/image.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    uint8_t how = take_byte(&in);
    struct vision v = { .h = 8, .w = 8, .channels = how & 1 ? 1 : 3, .resize = how >> 1 & 1,
                        .crop = how >> 2 & 1, .crop_h = 8, .crop_w = 8, .size_h = 8, .size_w = 8,
                        .shortest = how & 8 ? 8 : 0,
                        .resample = (enum resample)((how >> 4) % RESAMPLE_COUNT) };
    struct host *h = begin_host();
    uint8_t *px = malloc((size_t)picture_bytes(&v));
    struct image im = { 0 };
    if (fine(image_decode(h, in.at, (int64_t)in.n, v.channels, &im))) {
        RULE(im.w > 0 && im.h > 0 && (int64_t)im.w * im.h <= IMAGE_PIXELS);
        touch(im.px, (int64_t)im.w * im.h * im.channels);
        image_free(h, &im);
    }
    RULE(heap_peak - heap_before <= (int64_t)in.n * 8256 * 4 * 2 + (32 << 20));
    disk_put("f.png", in.at, (int64_t)in.n);
    if (fine(picture_open(h, &v, "f.png", px))) touch(px, picture_bytes(&v));
    else RULE(strstr(error_message(), "f.png"));
    free(px);
    end();
    return 0;
}
