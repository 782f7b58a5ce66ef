/* A word's synonyms.
 *
 * MyThes (OpenOffice's, LibreOffice's th_*.dat): the first line names the charset, then
 *
 *     word|meanings
 *     (noun)|synonym|other one|wider word (generic term)|opposite (antonym)
 *     ... one line a meaning
 *
 * Terms that are marked are used only when they are similar ones. */
#include "prep/edit.h"
#include "text/unicode.h"

#include <stdlib.h>

static const char *line_end(const struct thesaurus *t, const char *at)
{
    const char *end = t->at + t->n, *stop = memchr(at, '\n', (size_t)(end - at));
    return stop ? stop : end;
}

static int add_word(struct thesaurus *t, const char *word, int64_t n, const char *entry)
{
    struct buf small;
    buf_init(&small, &t->host->mem);
    for (int64_t i = 0; i < n;) {
        int32_t c;
        i += uni_next(word + i, &c);
        uni_lower(&small, c);
    }
    bool same = small.n == n && !memcmp(small.data, word, (size_t)n);
    const char *key = same ? word : arena_strndup(&t->arena, buf_str(&small), small.n);
    int rc = buf_check(&small);
    if (!rc) rc = key ? map_add(&t->index, key, small.n, entry - t->at) : PEFT_ENOMEM;
    buf_free(&small);
    return MIN(rc, PEFT_OK);
}

static int index_lines(struct thesaurus *t)
{
    int64_t line = 1;
    int rc = PEFT_OK;
    for (const char *at = t->at, *end = t->at + t->n; at < end && !rc; line++) {
        const char *stop = line_end(t, at), *tab = memchr(at, '\t', (size_t)(stop - at));
        if (tab > at) rc = add_word(t, at, tab - at, tab + 1);
        else if (stop > at && *at != '#' && *at != '\r')
            return fail(PEFT_EFORMAT, "line %lld: expected a word, a tab and its synonyms with "
                        "commas", (long long)line);
        at = stop + 1;
    }
    return rc;
}

static int index_mythes(struct thesaurus *t)
{
    const char *end = t->at + t->n, *at = line_end(t, t->at) + 1;
    int64_t line = 2;
    int rc = PEFT_OK;
    while (at < end && !rc) {
        const char *stop = line_end(t, at), *bar = memchr(at, '|', (size_t)(stop - at));
        int64_t meanings = 0;
        for (const char *s = bar ? bar + 1 : stop; s < stop && *s >= '0' && *s <= '9'; s++)
            meanings = MIN(meanings * 10 + (*s - '0'), 1 << 20);
        if (stop == at) meanings = 0;
        else if (!bar || !meanings)
            return fail(PEFT_EFORMAT, "line %lld: expected word|number of meanings",
                        (long long)line);
        else rc = add_word(t, at, bar - at, at);
        at = stop + 1;
        line += 1 + meanings;
        for (; meanings > 0 && at < end; meanings--) at = line_end(t, at) + 1;
    }
    return rc;
}

static bool is_named(const char *line, int64_t n, const char *name)
{
    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == ' ')) n--;
    if ((int64_t)strlen(name) != n) return false;
    for (int64_t i = 0; i < n; i++)
        if ((line[i] | 0x20) != (name[i] | 0x20)) return false;
    return true;
}

/* Latin-1 and its relatives as far as letters go. */
static int read_charset(struct thesaurus *t)
{
    static const char *const latin[] = {"ISO8859-1", "ISO-8859-1", "ISO8859-15", "ISO-8859-15",
                                        "WINDOWS-1252", "CP1252"};
    int64_t n = line_end(t, t->at) - t->at;
    for (size_t i = 0; i < ARRAY_LEN(latin); i++) {
        if (!is_named(t->at, n, latin[i])) continue;
        t->mythes = true;
        for (int64_t k = 0; k < t->n; k++) uni_append(&t->text, (uint8_t)t->at[k]);
        t->at = t->text.data;
        t->n = t->text.n;
        return buf_check(&t->text);
    }
    t->mythes = is_named(t->at, n, "UTF-8") || is_named(t->at, n, "UTF8");
    int64_t bad = utf8_check(t->at, t->n);
    if (bad == t->n) return PEFT_OK;
    return fail(PEFT_EFORMAT, "byte %lld is not valid UTF-8; expected that, or a MyThes file whose "
                "first line says ISO8859-1", (long long)bad + 1);
}

int thesaurus_open(struct host *h, const char *path, struct thesaurus *t)
{
    *t = (struct thesaurus){.host = h};
    arena_init(&t->arena, &h->mem);
    map_init(&t->index, &h->mem);
    buf_init(&t->text, &h->mem);
    size_t n = strlen(path);
    char *data = mem_strdup(&h->mem, path);
    if (!data) return PEFT_ENOMEM;
    if (n > 4 && !strcmp(path + n - 4, ".idx")) memcpy(data + n - 4, ".dat", 4);
    int rc = file_open_view(h, data, true, &t->file);
    if (!rc) {
        t->at = (const char *)t->file.data;
        t->n = t->file.n;
        if (t->n >= 3 && !memcmp(t->at, "\xef\xbb\xbf", 3)) t->at += 3, t->n -= 3;
        rc = read_charset(t);
        if (!rc) rc = t->mythes ? index_mythes(t) : index_lines(t);
        if (!rc && !t->index.n) rc = fail(PEFT_EFORMAT, "no words");
        if (rc) fail_in(rc, "%s: ", data);
    }
    mem_free(&h->mem, data);
    if (rc) thesaurus_close(t);
    return rc;
}

void thesaurus_close(struct thesaurus *t)
{
    if (!t->host) return;
    map_free(&t->index);
    arena_free(&t->arena);
    buf_free(&t->text);
    if (t->file.data) file_close_view(t->host, &t->file);
    *t = (struct thesaurus){0};
}

/* Takes a term without its mark; others than similar ones are none. */
static bool usable(struct synonym *s)
{
    static const char similar[] = " (similar term)";
    int64_t k = (int64_t)sizeof similar - 1;
    while (s->n && (s->at[0] == ' ' || s->at[0] == '\t')) s->at++, s->n--;
    while (s->n && strchr(" \t\r", s->at[s->n - 1])) s->n--;
    if (s->n > k && !memcmp(s->at + s->n - k, similar, (size_t)k)) s->n -= k;
    return s->n > 0 && s->at[s->n - 1] != ')';
}

/* Terms of a line between marks. */
static int terms_of(const char *at, const char *stop, char between, const char *word, int64_t n,
                    struct synonym *out, int cap)
{
    int found = 0;
    while (at <= stop && found < cap) {
        const char *next = memchr(at, between, (size_t)(stop - at));
        if (!next) next = stop;
        struct synonym s = {at, next - at};
        if (usable(&s) && !(s.n == n && !memcmp(s.at, word, (size_t)n))) out[found++] = s;
        at = next + 1;
    }
    return found;
}

int thesaurus_find(const struct thesaurus *t, const char *word, int64_t n, struct synonym *out,
                   int cap)
{
    int64_t place = map_get(&t->index, word, n, -1);
    if (place < 0) return 0;
    const char *at = t->at + place, *end = t->at + t->n, *stop = line_end(t, at);
    if (!t->mythes) return terms_of(at, stop, ',', word, n, out, cap);
    const char *bar = memchr(at, '|', (size_t)(stop - at));
    int found = 0;
    for (long k = bar ? strtol(bar + 1, NULL, 10) : 0; k > 0 && stop < end && !found; k--) {
        at = stop + 1;
        stop = line_end(t, at);
        bar = memchr(at, '|', (size_t)(stop - at));     /* behind the part of speech */
        if (bar) found = terms_of(bar + 1, stop, '|', word, n, out, cap);
    }
    return found;
}
