/* Small changes of a text that leave its meaning (nearly) as it is. */
#ifndef PREP_EDIT_H
#define PREP_EDIT_H

#include "prep/prep.h"

/* --- thesaurus.c: lines "word<TAB>synonym,synonym" in UTF-8, or MyThes' .dat file as office
 * suites ship it (its .idx beside it is not needed) */
struct thesaurus {
    struct host *host;
    struct file_view file;
    struct buf text;                /* of a file that is not UTF-8: as UTF-8 */
    struct arena arena;
    struct map index;               /* a word in small letters -> where its entry begins */
    const char *at;                 /* the text */
    int64_t n;
    bool mythes;
};
int thesaurus_open(struct host *h, const char *path, struct thesaurus *t);
void thesaurus_close(struct thesaurus *t);
/* Synonyms of a word, of MyThes' first meaning that has any: their number, at most cap. */
struct synonym { const char *at; int64_t n; };
int thesaurus_find(const struct thesaurus *t, const char *word, int64_t n, struct synonym *out,
                   int cap);

/* --- edit.c */
enum edit { EDIT_SYNONYMS, EDIT_INSERT, EDIT_DELETE, EDIT_SWAP, EDIT_NOISE, EDITS };
extern const char *const edit_names[EDITS];
/* Random numbers of one copy of one row. */
struct draws { uint64_t seed, stream, index; uint32_t used; };
struct editor {
    struct mem *mem;
    const struct thesaurus *words;  /* or NULL */
    const char *fixed;              /* words that stay, in a list with commas; or NULL */
    double strength;                /* share of the words that change */
};
/* Appends the changed text: 1, or 0 when nothing could be changed.  `word`: the text is one
 * word of a list, which stays one. */
int edit_text(const struct editor *e, enum edit how, struct draws *d, const char *text, int64_t n,
              bool word, struct buf *out);
/* [0, n) */
uint32_t draw_below(struct draws *d, int64_t n);

#endif
