/* EDA, "easy data augmentation" (Wei and Zou 2019): synonyms, random insertion, deletion and
 * swap of a share of a text's words; insertion without a thesaurus puts punctuation marks
 * (AEDA, Karimi et al. 2021).  And slips of the fingers: a neighbour on the keyboard, two
 * letters in the wrong order, one too few or twice.
 *
 * Words are what stands between spaces; Chinese characters are words by themselves. */
#include "prep/edit.h"
#include "text/unicode.h"

const char *const edit_names[EDITS] = {"synonyms", "insert", "delete", "swap", "noise"};

uint32_t draw_below(struct draws *d, int64_t n)
{
    uint64_t u = rng_u32(d->seed, d->stream, d->index + (d->used++ & 0xfffff));
    return (uint32_t)(u * (uint64_t)MAX(n, 1) >> 32);
}

/* --- words */

struct word {
    const char *at;
    int64_t n;
    int64_t from, to;               /* its core, without punctuation around it */
    struct synonym core;            /* what stands there now */
    bool gone;
    struct buf new;                 /* instead of the core, when it has a mem */
    struct buf more;                /* behind the word */
};
struct words {
    struct word *v;
    struct synonym *space;          /* before each, and at the end */
    int64_t n;
};

static bool is_core(int32_t c) { return uni_letter(c) || uni_number(c) || uni_mark(c); }

/* Counts, and fills what is given. */
static int64_t cut_words(const char *text, int64_t n, struct word *v, struct synonym *spaces)
{
    const char *at = text, *end = text + n, *space = text;
    int64_t count = 0;
    while (at < end) {
        int32_t c;
        const char *from = at, *core = NULL, *last = NULL;
        int k = uni_next(at, &c);
        at += k;
        if (uni_space(c)) continue;
        bool han = uni_han(c);
        for (const char *p = from;;) {
            if (is_core(c)) core = core ? core : p, last = p + k;
            if (han || at >= end) break;
            p = at;
            k = uni_next(at, &c);
            if (uni_space(c) || uni_han(c)) break;
            at += k;
        }
        if (v && core)
            v[count] = (struct word){from, at - from, core - from, last - from,
                                     {core, last - core}, false, {0}, {0}};
        else if (v)
            v[count] = (struct word){.at = from, .n = at - from, .core.at = from};
        if (v) spaces[count] = (struct synonym){space, from - space};
        count++;
        space = at;
    }
    if (v) spaces[count] = (struct synonym){space, end - space};
    return count;
}

static int words_of(struct mem *m, const char *text, int64_t n, struct words *w)
{
    *w = (struct words){.n = cut_words(text, n, NULL, NULL)};
    w->v = mem_array(m, MAX(w->n, 1), sizeof *w->v);
    w->space = mem_array(m, w->n + 1, sizeof *w->space);
    if (!w->v || !w->space) return PEFT_ENOMEM;
    cut_words(text, n, w->v, w->space);
    return PEFT_OK;
}

/* A word that goes takes the space before it along, and the first one that behind it. */
static void put_words(const struct words *w, struct buf *out)
{
    bool first = true;
    for (int64_t i = 0; i < w->n; i++) {
        const struct word *x = &w->v[i];
        if (x->gone) continue;
        if (!first || i == 0) buf_put(out, w->space[i].at, w->space[i].n);
        first = false;
        buf_put(out, x->at, x->from);
        if (x->new.mem) buf_put(out, x->new.data, x->new.n);
        else buf_put(out, x->core.at, x->core.n);
        buf_put(out, x->at + x->to, x->n - x->to);
        if (x->more.mem) buf_put(out, x->more.data, x->more.n);
    }
    buf_put(out, w->space[w->n].at, w->space[w->n].n);
}

static void words_free(struct mem *m, struct words *w)
{
    for (int64_t i = 0; w->v && i < w->n; i++) {
        if (w->v[i].new.mem) buf_free(&w->v[i].new);
        if (w->v[i].more.mem) buf_free(&w->v[i].more);
    }
    mem_free(m, w->v);
    mem_free(m, w->space);
}

/* --- which words may change */

static const char stop_words[] =
    "a,about,above,after,again,against,all,am,an,and,any,are,as,at,be,because,been,before,being,"
    "below,between,both,but,by,can,could,did,do,does,doing,don,down,during,each,few,for,from,"
    "further,had,has,have,having,he,her,here,hers,him,his,how,i,if,in,into,is,it,its,just,may,me,"
    "might,more,most,must,my,no,nor,not,now,of,off,on,once,only,or,other,our,out,over,own,re,s,"
    "same,she,should,so,some,such,t,than,that,the,their,them,then,there,these,they,this,those,"
    "through,to,too,under,until,up,very,was,we,were,what,when,where,which,while,who,whom,why,"
    "will,with,would,you,your";

static bool in_list(const char *list, const char *word, int64_t n)
{
    for (const char *at = list ? list : ""; *at;) {
        int64_t k = (int64_t)strcspn(at, ",");
        if (k == n && !memcmp(at, word, (size_t)n)) return true;
        at += k + (at[k] == ',');
    }
    return false;
}

/* The core in small letters. */
static int small_core(const struct word *w, struct buf *out)
{
    buf_clear(out);
    for (int64_t i = w->from; i < w->to;) {
        int32_t c;
        i += uni_next(w->at + i, &c);
        uni_lower(out, c);
    }
    return buf_check(out);
}

static bool is_fixed(const struct editor *e, const struct word *w, struct buf *scratch)
{
    return w->to == w->from || small_core(w, scratch) ||
           in_list(e->fixed, buf_str(scratch), scratch->n) ||
           in_list(e->fixed, w->at + w->from, w->to - w->from);
}

static bool is_title(const struct word *w)
{
    int32_t c;
    uni_next(w->at + w->from, &c);
    return uni_is_upper(c, true);
}

/* One of the word's synonyms, or n = 0.  Short function words have none, and in a list of
 * words names have none. */
static struct synonym synonym_of(const struct editor *e, struct draws *d, const struct word *w,
                                 bool one_word, struct buf *scratch)
{
    enum { MOST = 32 };
    struct synonym all[MOST], none = {NULL, 0};
    if (!e->words || is_fixed(e, w, scratch) || (one_word && is_title(w))) return none;
    if (in_list(stop_words, buf_str(scratch), scratch->n)) return none;
    int n = thesaurus_find(e->words, scratch->data, scratch->n, all, MOST), kept = 0;
    for (int i = 0; i < n; i++)
        if (!one_word || !memchr(all[i].at, ' ', (size_t)all[i].n)) all[kept++] = all[i];
    return kept ? all[draw_below(d, kept)] : none;
}

/* As the word was written: Small, Title or CAPITALS. */
static void put_cased(const struct word *like, struct synonym s, struct buf *out)
{
    int64_t letters = 0, upper = 0, at = like->from;
    bool title = false;
    while (at < like->to) {
        int32_t c;
        at += uni_next(like->at + at, &c);
        if (!letters++) title = uni_is_upper(c, true);
        upper += uni_is_upper(c, false);
    }
    for (int64_t i = 0; i < s.n;) {
        int32_t c;
        bool first = i == 0, capitals = letters > 1 && upper == letters;
        i += uni_next(s.at + i, &c);
        if (capitals || (first && title)) uni_upper(out, c, first && !capitals);
        else uni_append(out, c);
    }
}

/* --- the edits: each makes up to `most` changes and returns their number, or < 0 */

struct edit_job {
    const struct editor *e;
    struct draws *d;
    struct words *w;
    bool word;
    struct buf scratch;
    int64_t most;
    int64_t *order;                 /* of the words, at random */
};

static int edit_synonyms(struct edit_job *j)
{
    int done = 0;
    for (int64_t i = 0; i < j->w->n && done < j->most; i++) {
        struct word *w = &j->w->v[j->order[i]];
        struct synonym s = synonym_of(j->e, j->d, w, j->word, &j->scratch);
        if (!s.n) continue;
        buf_init(&w->new, j->e->mem);
        put_cased(w, s, &w->new);
        if (buf_check(&w->new)) return PEFT_ENOMEM;
        done++;
    }
    return done;
}

static int edit_insert(struct edit_job *j)
{
    static const char marks[] = ".;?:!,";
    int done = 0;
    for (int64_t i = 0; i < j->w->n && done < j->most && !j->word; i++) {
        struct word *from = &j->w->v[j->order[i]];
        struct synonym s = synonym_of(j->e, j->d, from, false, &j->scratch);
        struct word *to = &j->w->v[draw_below(j->d, j->w->n)];
        if (j->e->words && !s.n) continue;
        if (!to->more.mem) buf_init(&to->more, j->e->mem);
        buf_putc(&to->more, ' ');
        if (s.n) buf_put(&to->more, s.at, s.n);
        else buf_putc(&to->more, marks[draw_below(j->d, (int64_t)sizeof marks - 1)]);
        if (buf_check(&to->more)) return PEFT_ENOMEM;
        done++;
    }
    return done;
}

static int edit_delete(struct edit_job *j)
{
    int done = 0;
    for (int64_t i = 0; i < j->w->n && done < j->most && done + 1 < j->w->n; i++) {
        struct word *w = &j->w->v[j->order[i]];
        if (j->word || in_list(j->e->fixed, w->at + w->from, w->to - w->from)) continue;
        w->gone = true;
        done++;
    }
    return done;
}

static int edit_swap(struct edit_job *j)
{
    int done = 0;
    for (int64_t i = 0; i < j->most && j->w->n > 1 && !j->word; i++) {
        int64_t a = draw_below(j->d, j->w->n), b = draw_below(j->d, j->w->n);
        if (a == b) b = a + 1 < j->w->n ? a + 1 : a - 1;
        struct synonym *x = &j->w->v[a].core, *y = &j->w->v[b].core, t = *x;
        if (!x->n || !y->n || (x->n == y->n && !memcmp(x->at, y->at, (size_t)x->n))) continue;
        *x = *y;
        *y = t;
        done++;
    }
    return done;
}

static const char *const near_keys[26] = {
    "qwsz", "vghn", "xdfv", "serfcx", "wsdr", "drtgvc", "ftyhbv", "gyujnb", "ujko", "huikmn",
    "jiolm", "kop", "njk", "bhjm", "iklp", "ol", "wa", "edft", "awedxz", "rfgy", "yhji", "cfgb",
    "qase", "zsdc", "tghu", "asx"};

/* One slip in a word's letters, as code points; false = none is possible. */
static bool slip(struct draws *d, int32_t *c, int64_t *n)
{
    int64_t at = draw_below(d, *n);
    int32_t small = c[at] | 0x20;
    switch (draw_below(d, 4)) {
    case 0:
        if (small < 'a' || small > 'z') return false;
        const char *keys = near_keys[small - 'a'];
        c[at] = keys[draw_below(d, (int64_t)strlen(keys))];
        return true;
    case 1:
        if (at + 1 >= *n || c[at] == c[at + 1]) return false;
        small = c[at];
        c[at] = c[at + 1];
        c[at + 1] = small;
        return true;
    case 2:
        memmove(c + at, c + at + 1, (size_t)(--*n - at) * sizeof *c);
        return true;
    default:
        memmove(c + at + 1, c + at, (size_t)((*n)++ - at) * sizeof *c);
        return true;
    }
}

static int edit_noise(struct edit_job *j)
{
    enum { LETTERS = 64, LEAST = 3 };
    int done = 0;
    for (int64_t i = 0; i < j->w->n && done < j->most; i++) {
        struct word *w = &j->w->v[j->order[i]];
        int32_t c[LETTERS + 1];
        int64_t n = 0, at = w->from;
        while (at < w->to && n < LETTERS) at += uni_next(w->at + at, &c[n++]);
        if (n < LEAST || at < w->to || is_fixed(j->e, w, &j->scratch) || !slip(j->d, c, &n))
            continue;
        buf_init(&w->new, j->e->mem);
        for (int64_t k = 0; k < n; k++) uni_append(&w->new, c[k]);
        if (buf_check(&w->new)) return PEFT_ENOMEM;
        done++;
    }
    return done;
}

static int (*const edits[EDITS])(struct edit_job *) = {edit_synonyms, edit_insert, edit_delete,
                                                       edit_swap, edit_noise};

int edit_text(const struct editor *e, enum edit how, struct draws *d, const char *text, int64_t n,
              bool word, struct buf *out)
{
    struct words w;
    struct edit_job j = {.e = e, .d = d, .w = &w, .word = word};
    int rc = words_of(e->mem, text, n, &w);
    buf_init(&j.scratch, e->mem);
    if (!rc && !(j.order = mem_array(e->mem, MAX(w.n, 1), sizeof *j.order))) rc = PEFT_ENOMEM;
    for (int64_t i = 0; i < w.n && !rc; i++) j.order[i] = i;
    for (int64_t i = w.n - 1; i > 0 && !rc; i--) {
        int64_t k = draw_below(d, i + 1), t = j.order[i];
        j.order[i] = j.order[k];
        j.order[k] = t;
    }
    /* A share of the words, at least one. */
    j.most = MAX((int64_t)(e->strength * (double)w.n + 0.5), 1);
    if (!rc && w.n) rc = edits[how](&j);
    if (rc > 0) {
        put_words(&w, out);
        rc = buf_check(out) ? PEFT_ENOMEM : 1;
    }
    mem_free(e->mem, j.order);
    buf_free(&j.scratch);
    words_free(e->mem, &w);
    return rc;
}
