/* SentencePiece's character map, a table of replacements (`precompiled_charsmap`).
 *
 *   uint32 n, little-endian; n bytes of a double array (Aoe, IEEE TSE 1989, as
 *   darts-clone packs it), whose values are offsets into the UTF-8 text that
 *   follows; there a replacement ends with a NUL.
 *   unit: bits 0-7 and 31 label, bit 8 "a value follows", bits 10-30 offset to
 *   the children, times 256 if bit 9; a value is bits 0-30.
 *
 * As in the Hugging Face library, a grapheme of less than 6 bytes is replaced
 * as a whole by what its shortest known prefix stands for; else each character
 * by itself.  Offsets from the file are checked when they are followed. */
#include "text/tok.h"

enum { REPLACEMENT_MAX = 1024, GRAPHEME_MAX = 5 };

int charsmap_open(struct charsmap *m, const void *raw, int64_t n)
{
    const uint8_t *p = raw;
    int64_t size = n >= 4 ? (int64_t)p[0] | p[1] << 8 | p[2] << 16 | (int64_t)p[3] << 24 : 0;
    if (n < 8 || size < 4 || size % 4 != 0 || size > n - 4)
        return fail(PEFT_EFORMAT, "the character map has %lld bytes, its double array %lld",
                    (long long)n, (long long)size);
    *m = (struct charsmap){.raw = raw, .units = p + 4, .text = (const char *)p + 4 + size,
                           .n_raw = n, .n_units = size / 4, .n_text = n - 4 - size};
    int64_t bad = utf8_check(m->text, m->n_text);
    if (bad < m->n_text)
        return fail(PEFT_EFORMAT, "the character map's text is not UTF-8 at offset %lld",
                    (long long)bad);
    return PEFT_OK;
}

static bool unit_at(const struct charsmap *m, uint32_t at, uint32_t *unit)
{
    const uint8_t *p = m->units + 4 * (int64_t)at;
    if (at >= m->n_units) return false;
    *unit = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    return true;
}

static uint32_t unit_offset(uint32_t unit)
{
    return unit >> 10 << ((unit & 1u << 9) >> 6);
}

/* The replacement of the shortest known prefix, or NULL. */
static const char *replacement(const struct charsmap *m, const char *s, int64_t n, int64_t *len)
{
    uint32_t unit, value, at;
    if (!unit_at(m, 0, &unit)) return NULL;
    at = unit_offset(unit);
    for (int64_t i = 0; i < n && s[i]; i++) {
        uint8_t byte = (uint8_t)s[i];
        at ^= byte;
        if (!unit_at(m, at, &unit) || (unit & 0x800000ffu) != byte) return NULL;
        at ^= unit_offset(unit);
        if (!(unit & 1u << 8)) continue;
        if (!unit_at(m, at, &value)) return NULL;
        value &= 0x7fffffffu;
        if (value > m->n_text) return NULL;
        const char *text = m->text + value;
        const char *end = memchr(text, 0, (size_t)(m->n_text - value));
        *len = end ? end - text : m->n_text - value;
        return *len == 0 || ((uint8_t)*text & 0xc0) != 0x80 ? text : NULL;
    }
    return NULL;
}

static int64_t count_cps(const char *s, int64_t n)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) count += ((uint8_t)s[i] & 0xc0) != 0x80;
    return count;
}

/* Characters more are at the end; if there are fewer, the last one written says
 * how many, be it of this text or of the one before. */
static void note_changes(struct ids *changes, int64_t was, int64_t is)
{
    for (int64_t i = 0; i < is; i++) ids_push(changes, i >= was);
    if (is < was && changes->n > 0 && !changes->oom)
        changes->v[changes->n - 1] += (int32_t)(is - was);
}

static int put_replaced(const struct charsmap *m, const char *s, int64_t n, struct buf *out,
                        struct ids *changes, bool *found)
{
    int64_t len = 0;
    const char *text = replacement(m, s, n, &len);
    *found = text != NULL;
    if (len > REPLACEMENT_MAX)
        return fail(PEFT_EFORMAT, "the character map has a replacement of %lld bytes",
                    (long long)len);
    if (text) buf_put(out, text, len);
    if (text && changes) note_changes(changes, count_cps(s, n), count_cps(text, len));
    return PEFT_OK;
}

int charsmap_apply(const struct charsmap *m, const char *s, int64_t n, struct buf *out,
                   struct ids *changes)
{
    int rc = PEFT_OK;
    for (int64_t at = 0; at < n && rc == PEFT_OK;) {
        int64_t end = at + uni_grapheme(s + at, n - at);
        bool found = false;
        if (end - at <= GRAPHEME_MAX) rc = put_replaced(m, s + at, end - at, out, changes, &found);
        while (!found && at < end && rc == PEFT_OK) {
            int32_t cp;
            int len = uni_next(s + at, &cp);
            bool known;
            rc = put_replaced(m, s + at, len, out, changes, &known);
            if (!known) buf_put(out, s + at, len);
            if (!known && changes) ids_push(changes, 0);
            at += len;
        }
        at = end;
    }
    if (rc == PEFT_OK && changes) rc = ids_check(changes);
    return rc < 0 ? rc : buf_check(out);
}

/* --- base64 (RFC 4648, section 4), as tokenizer.json holds the map */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int charsmap_base64(struct arena *a, const char *s, const uint8_t **raw, int64_t *n)
{
    int8_t value[256];
    int64_t len = (int64_t)strlen(s), pad = 0;
    memset(value, -1, sizeof value);
    for (int i = 0; i < 64; i++) value[(uint8_t)base64_digits[i]] = (int8_t)i;
    while (pad < 2 && pad < len && s[len - 1 - pad] == '=') pad++;
    uint8_t *out = arena_alloc(a, len / 4 * 3 + 3);
    if (!out) return PEFT_ENOMEM;
    *raw = out;
    *n = len / 4 * 3 - pad;
    uint32_t bits = 0;
    for (int64_t i = 0; i < len; i++) {
        int v = i < len - pad ? value[(uint8_t)s[i]] : 0;
        if (v < 0 || len % 4 != 0)
            return fail(PEFT_EFORMAT, "tokenizer.json: the character map is not base64 at offset "
                        "%lld", (long long)i);
        bits = bits << 6 | (uint32_t)v;
        if (i % 4 < 3) continue;
        out[i / 4 * 3] = (uint8_t)(bits >> 16);
        out[i / 4 * 3 + 1] = (uint8_t)(bits >> 8);
        out[i / 4 * 3 + 2] = (uint8_t)bits;
    }
    return PEFT_OK;
}

void charsmap_put_base64(struct buf *b, const uint8_t *raw, int64_t n)
{
    for (int64_t i = 0; i < n; i += 3) {
        uint32_t bits = (uint32_t)raw[i] << 16;
        if (i + 1 < n) bits |= (uint32_t)raw[i + 1] << 8;
        if (i + 2 < n) bits |= raw[i + 2];
        buf_putc(b, base64_digits[bits >> 18]);
        buf_putc(b, base64_digits[bits >> 12 & 63]);
        buf_putc(b, i + 1 < n ? base64_digits[bits >> 6 & 63] : '=');
        buf_putc(b, i + 2 < n ? base64_digits[bits & 63] : '=');
    }
}
