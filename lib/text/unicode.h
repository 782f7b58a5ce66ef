/* Rank 3: characters.  The door to utf8proc. */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H

#include "base/host.h"

/* Bytes of the character at s, its code point in *cp.  The text is valid
 * UTF-8 and not at its end. */
static inline int uni_next(const char *s, int32_t *cp)
{
    const uint8_t *p = (const uint8_t *)s;
    if (p[0] < 0x80) return *cp = p[0], 1;
    if (p[0] < 0xe0) return *cp = (p[0] & 31) << 6 | (p[1] & 63), 2;
    if (p[0] < 0xf0) return *cp = (p[0] & 15) << 12 | (p[1] & 63) << 6 | (p[2] & 63), 3;
    *cp = (p[0] & 7) << 18 | (p[1] & 63) << 12 | (p[2] & 63) << 6 | (p[3] & 63);
    return 4;
}
/* Writes a code point as UTF-8 and returns its length. */
int uni_put(char out[4], int32_t cp);
void uni_append(struct buf *b, int32_t cp);

/* Classes of characters, as regular expressions name them. */
bool uni_letter(int32_t cp);        /* \p{L} */
bool uni_number(int32_t cp);        /* \p{N} */
bool uni_space(int32_t cp);         /* \s: White_Space */
bool uni_word(int32_t cp);          /* \w */
bool uni_punct(int32_t cp);         /* \p{P} or ASCII punctuation */
bool uni_mark(int32_t cp);          /* \p{M} */
bool uni_mark_nonspacing(int32_t cp);
bool uni_control(int32_t cp);       /* what BERT's clean_text removes */
bool uni_han(int32_t cp);           /* what BERT sets apart */

/* Lower case, appended: one character may become two. */
void uni_lower(struct buf *out, int32_t cp);
/* Upper and title case; the latter is for a word's first character. */
void uni_upper(struct buf *out, int32_t cp, bool title);
bool uni_is_upper(int32_t cp, bool title);  /* title: those count as well */
bool uni_is_lower(int32_t cp);
bool uni_decimal(int32_t cp);       /* \p{Nd} */
bool uni_printable(int32_t cp);     /* as Python's repr() shows it */
/* Appends a normal form of valid UTF-8.  Linear time, also for long runs of
 * combining marks.  `changes` (may be NULL) gets for each character appended
 * what it did to the text: 0 it stands in the place of one, 1 it is new, -k it
 * stands in the place of 1 + k. */
enum uni_form { UNI_NFC, UNI_NFD, UNI_NFKC, UNI_NFKD };
int uni_normalize(struct mem *m, enum uni_form form, const char *s, int64_t n, struct buf *out,
                  struct ids *changes);

/* Bytes of the extended grapheme cluster (UAX 29) at s, n > 0. */
int64_t uni_grapheme(const char *s, int64_t n);
/* First place of a short text in another, or NULL. */
const char *uni_find(const char *s, int64_t n, const char *what, int64_t n_what);

/* The printable characters that stand for the 256 bytes in byte-level
 * vocabularies (GPT-2): 0x21-0x7e, 0xa1-0xac and 0xae-0xff for themselves,
 * the others U+0100 upward in order. */
int32_t uni_of_byte(uint8_t byte);
int uni_to_byte(int32_t cp);        /* -1 = stands for none */

#endif
