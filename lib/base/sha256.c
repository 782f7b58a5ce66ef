#include "base/sha256.h"

#include "base/cpu.h"

#include <stdio.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

static uint32_t turn_right(uint32_t x, int n) { return x >> n | x << (32 - n); }

/* The first 32 bits of the fractions of the roots of the first primes: square
 * roots begin the state, cube roots are the constants of the rounds. */
static const uint32_t sha_start[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
static const uint32_t sha_round[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
};

static void sha_block(struct sha256 *s)
{
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++) {
        const uint8_t *b = s->block + 4 * i;
        w[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (turn_right(a, 7) ^ turn_right(a, 18) ^ a >> 3) +
            (turn_right(b, 17) ^ turn_right(b, 19) ^ b >> 10);
    }
    memcpy(v, s->h, sizeof(v));
    for (int i = 0; i < 64; i++) {
        /* The eight words move on by one: their places do. */
        uint32_t e = v[(4 - i) & 7], a = v[-i & 7], b = v[(1 - i) & 7], c = v[(2 - i) & 7];
        uint32_t x = v[(7 - i) & 7] + (turn_right(e, 6) ^ turn_right(e, 11) ^ turn_right(e, 25)) +
            ((e & v[(5 - i) & 7]) ^ (~e & v[(6 - i) & 7])) + sha_round[i] + w[i];
        uint32_t y = (turn_right(a, 2) ^ turn_right(a, 13) ^ turn_right(a, 22)) +
            ((a & b) ^ (a & c) ^ (b & c));
        v[(3 - i) & 7] += x;
        v[(7 - i) & 7] = x + y;
    }
    for (int i = 0; i < 8; i++) s->h[i] += v[i];
}

#ifdef __x86_64__
/* The same by the processor's own rounds, four words at a time. */
__attribute__((target("sha,sse4.1"))) static void sha_block_x86(struct sha256 *s)
{
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i *h = (__m128i *)(void *)s->h, m[4];
    __m128i t = _mm_shuffle_epi32(_mm_loadu_si128(h), 0xb1);
    __m128i x = _mm_shuffle_epi32(_mm_loadu_si128(h + 1), 0x1b);
    __m128i a = _mm_alignr_epi8(t, x, 8), b = _mm_blend_epi16(x, t, 0xf0), a0 = a, b0 = b;
    for (int i = 0; i < 16; i++) {
        __m128i *w = &m[i & 3], last = m[(i + 3) & 3];
        if (i < 4) {
            *w = _mm_loadu_si128((const __m128i *)(const void *)s->block + i);
            *w = _mm_shuffle_epi8(*w, order);
        } else {
            t = _mm_alignr_epi8(last, m[(i + 2) & 3], 4);
            t = _mm_add_epi32(_mm_sha256msg1_epu32(*w, m[(i + 1) & 3]), t);
            *w = _mm_sha256msg2_epu32(t, last);
        }
        t = _mm_loadu_si128((const __m128i *)(const void *)sha_round + i);
        t = _mm_add_epi32(t, *w);
        b = _mm_sha256rnds2_epu32(b, a, t);
        a = _mm_sha256rnds2_epu32(a, b, _mm_shuffle_epi32(t, 0x0e));
    }
    t = _mm_shuffle_epi32(_mm_add_epi32(a, a0), 0x1b);
    x = _mm_shuffle_epi32(_mm_add_epi32(b, b0), 0xb1);
    _mm_storeu_si128(h, _mm_blend_epi16(t, x, 0xf0));
    _mm_storeu_si128(h + 1, _mm_alignr_epi8(x, t, 8));
}
#else
#define sha_block_x86 sha_block
#endif

void sha256_begin(struct sha256 *s)
{
    s->n = 0;
    s->fast = cpu_has_sha();
    memcpy(s->h, sha_start, sizeof(s->h));
}

void sha256_add(struct sha256 *s, const void *data, int64_t n)
{
    for (int64_t i = 0; i < n;) {
        int64_t at = s->n % 64, take = MIN(64 - at, n - i);
        memcpy(s->block + at, (const uint8_t *)data + i, (size_t)take);
        s->n += take;
        i += take;
        if (s->n % 64 == 0) (s->fast ? sha_block_x86 : sha_block)(s);
    }
}

void sha256_end(struct sha256 *s, uint8_t out[SHA256_BYTES])
{
    static const uint8_t pad[64] = { 0x80 };
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)s->n * 8 >> (56 - 8 * i));
    sha256_add(s, pad, (119 - s->n % 64) % 64 + 1);
    sha256_add(s, length, 8);
    for (int i = 0; i < SHA256_BYTES; i++) out[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

static void sha_hex(struct sha256 *s, char hex[SHA256_HEX])
{
    uint8_t out[SHA256_BYTES];
    sha256_end(s, out);
    for (int i = 0; i < SHA256_BYTES; i++) snprintf(hex + 2 * i, 3, "%02x", out[i]);
}

void sha256(const void *data, int64_t n, char hex[SHA256_HEX])
{
    struct sha256 s;
    sha256_begin(&s);
    sha256_add(&s, data, n);
    sha_hex(&s, hex);
}

int sha256_file(struct host *h, const char *path, char hex[SHA256_HEX])
{
    enum { PIECE = 1 << 16 };
    struct peft_io *io = &h->io;
    int32_t err = 0;
    struct sha256 s;
    uint8_t *piece = mem_alloc(&h->mem, PIECE);
    void *file = piece ? io->open(io->ctx, path, 0, &err) : NULL;
    int64_t at = 0, n = 0;
    sha256_begin(&s);
    while (file && (n = io->read(io->ctx, file, at, piece, PIECE)) > 0) {
        sha256_add(&s, piece, n);
        at += n;
    }
    if (file) io->close(io->ctx, file);
    mem_free(&h->mem, piece);
    if (!piece) return PEFT_ENOMEM;
    if (!file || n < 0) return fail(PEFT_EIO, "%s: cannot be read", path);
    sha_hex(&s, hex);
    return PEFT_OK;
}
