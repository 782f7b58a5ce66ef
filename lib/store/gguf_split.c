/* GGUF files in parts, as llama.cpp's gguf-split makes them:
 *
 *   NAME-00001-of-00003.gguf  all metadata; split.no 0, split.count 3,
 *                             split.tensors.count of all parts; some tensors or none
 *   NAME-00002-of-00003.gguf  split.no 1, ...; more tensors
 *
 * Only the names tie them together; any part may be named to open them. */
#include "store/impl.h"

enum { PART_SUFFIX = 20 };           /* "-00001-of-00003.gguf" */

static bool five_digits(const char *s, int *out)
{
    *out = 0;
    for (int i = 0; i < 5; i++) {
        if (s[i] < '0' || s[i] > '9') return false;
        *out = *out * 10 + s[i] - '0';
    }
    return true;
}

bool gguf_part(const char *path, int *no, int *count)
{
    size_t n = strlen(path);
    if (n < PART_SUFFIX) return false;
    const char *s = path + n - PART_SUFFIX;
    return s[0] == '-' && five_digits(s + 1, no) && !strncmp(s + 6, "-of-", 4) &&
        five_digits(s + 10, count) && !strcmp(s + 15, ".gguf") && *no >= 1 && *no <= *count;
}

/* The name of another part, whose number takes the place of this one's. */
static char *part_path(struct store *s, const char *path, int no)
{
    size_t n = strlen(path);
    char *to = arena_strndup(&s->arena, path, (int64_t)n);
    for (size_t i = n - PART_SUFFIX + 5; to && i > n - PART_SUFFIX; i--, no /= 10)
        to[i] = (char)('0' + no % 10);
    return to;
}

int gguf_first_part(struct store *s, const char *path, const char **out)
{
    int no, count;
    *out = path;
    if (!gguf_part(path, &no, &count) || no == 1) return PEFT_OK;
    *out = part_path(s, path, 1);
    if (!*out) return PEFT_ENOMEM;
    if (path_kind(s->h, *out) == 1) return PEFT_OK;
    return fail(PEFT_ENOTFOUND, "%s: the first of %d parts is missing", *out, count);
}

/* The part's own number and count must be those of its name. */
static int check_part(const struct store *keys, const char *path, int no, int count)
{
    int64_t told_no = -1, told_count = -1;
    int rc = store_int(keys, "split.no", 0, INT64_MAX, &told_no);
    if (rc >= 0) rc = store_int(keys, "split.count", 0, INT64_MAX, &told_count);
    if (rc < 0) return rc;
    if (told_no == no - 1 && told_count == count) return PEFT_OK;
    return fail(PEFT_EFORMAT, "%s: split.no is %lld and split.count %lld, expected %d and %d", path,
                (long long)told_no, (long long)told_count, no - 1, count);
}

static int read_part(struct store *s, const char *path, bool map, int no, int count)
{
    struct store *keys = NULL;
    struct file_view *v;
    if (path_kind(s->h, path) != 1)
        return fail(PEFT_ENOTFOUND, "%s: this part of %d is missing", path, count);
    int rc = store_new(s->h, path, &keys);
    if (rc < 0) return rc;
    rc = store_view(s, path, map, &v);
    if (rc == PEFT_OK && (v->n < 4 || memcmp(v->data, "GGUF", 4)))
        rc = fail(PEFT_EFORMAT, "%s: is no GGUF file", path);
    if (rc == PEFT_OK) rc = gguf_read(s, keys, v, path);
    if (rc == PEFT_OK) rc = check_part(keys, path, no, count);
    store_close(keys);
    return rc;
}

int gguf_read_parts(struct store *s, const char *path, bool map)
{
    int64_t told = 0, tensors = -1;
    int no, count, rc = store_int(s, "split.count", 0, INT64_MAX, &told);
    if (rc < 0 || told <= 1) return MIN(rc, PEFT_OK);
    if (!gguf_part(path, &no, &count))
        return fail(PEFT_EFORMAT, "%s: is one of %lld parts, expected a name that ends like "
                    "-00001-of-%05lld.gguf", path, (long long)told, (long long)told);
    rc = check_part(s, path, no, count);
    for (int i = 2; i <= count && rc == PEFT_OK; i++) {
        const char *part = part_path(s, path, i);
        rc = part ? read_part(s, part, map, i, count) : PEFT_ENOMEM;
    }
    if (rc == PEFT_OK) rc = store_int(s, "split.tensors.count", 0, INT64_MAX, &tensors);
    if (rc < 0) return rc;
    if (tensors >= 0 && tensors != s->n)
        return fail(PEFT_EFORMAT, "%s: the %d parts hold %lld tensors, expected %lld", path, count,
                    (long long)s->n, (long long)tensors);
    return PEFT_OK;
}
