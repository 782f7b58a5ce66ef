/* Growable bytes with a sticky out-of-memory flag: append often, check once. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

struct buf {
    struct mem *mem;
    char *data;            /* NUL-terminated when n > 0 or buf_str was called */
    int64_t n, cap;
    bool oom;
};
void buf_init(struct buf *b, struct mem *m);
void buf_free(struct buf *b);
void buf_clear(struct buf *b);                       /* keeps the memory */
void buf_put(struct buf *b, const void *data, int64_t n);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes; invalid UTF-8 becomes U+FFFD. */
void buf_json(struct buf *b, const char *s, int64_t n);
/* Shortest decimal that reads back to the same double; "null" if not finite;
 * independent of the locale. */
void buf_number(struct buf *b, double x);
void buf_real(struct buf *b, double x);             /* the same, never without a point */
/* PEFT_OK or PEFT_ENOMEM. */
int buf_check(const struct buf *b);
const char *buf_str(struct buf *b);                  /* "" when empty or oom */

/* Growable int32 array, same manner. */
struct ids {
    struct mem *mem;
    int32_t *v;
    int64_t n, cap;
    bool oom;
};
void ids_init(struct ids *a, struct mem *m);
void ids_free(struct ids *a);
void ids_push(struct ids *a, int32_t id);
void ids_put(struct ids *a, const int32_t *ids, int64_t n);
int ids_check(const struct ids *a);

#endif
