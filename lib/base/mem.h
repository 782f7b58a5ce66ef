/* The only allocator.  All memory of a model is counted and goes through the
 * host's hook, which is also how the tests make the n-th allocation fail. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdatomic.h>

struct mem {
    void *(*alloc)(void *ctx, void *ptr, size_t old_size, size_t new_size);
    void *ctx;
    _Atomic int64_t live, peak;    /* bytes */
    _Atomic int64_t calls;         /* allocations so far; a test counts them */
    _Atomic int64_t limit;         /* of `live`; 0 = none */
};

/* While files are read, memory is limited by their size, so that a small one
 * cannot ask for much: in all FILE_TIMES the files and FILE_MEMORY.  Of that a
 * tree of JSON, which the C library's heap holds, has a share of its own. */
enum {
    FILE_TIMES = 8, FILE_MEMORY = 32 << 20,
    JSON_TIMES = 6, JSON_MEMORY = 16 << 20,
};
/* Begins such a limit, with FILE_MEMORY less JSON_MEMORY, unless one is there;
 * file_open_view adds each file's size once, whoever reads it what else he
 * needs.  mem_budget_end takes what mem_budget gave. */
bool mem_budget(struct mem *m);
void mem_budget_more(struct mem *m, int64_t bytes);      /* no effect without a limit */
void mem_budget_end(struct mem *m, bool began);

/* Uses libc when `alloc` is NULL. */
void mem_init(struct mem *m,
              void *(*alloc)(void *, void *, size_t, size_t), void *ctx);
/* 64-byte aligned.  NULL with PEFT_ENOMEM's message set when there is none, or
 * when `size` is negative or absurd.  Size 0 gives a valid pointer. */
void *mem_alloc(struct mem *m, int64_t size);
void *mem_zalloc(struct mem *m, int64_t size);
/* n * size with overflow checked; zeroed. */
void *mem_array(struct mem *m, int64_t n, int64_t size);
void *mem_realloc(struct mem *m, void *ptr, int64_t size);
void mem_free(struct mem *m, void *ptr);           /* NULL allowed */
char *mem_strdup(struct mem *m, const char *s);
char *mem_strndup(struct mem *m, const char *s, int64_t n);

/* Bump arena: many small objects of one lifetime, freed together. */
struct arena {
    struct mem *mem;
    struct arena_block *first, *now;
};
void arena_init(struct arena *a, struct mem *m);
void *arena_alloc(struct arena *a, int64_t size);  /* zeroed, 16-byte aligned */
char *arena_strndup(struct arena *a, const char *s, int64_t n);
/* Forgets the objects and keeps the blocks: no allocation when the same use
 * follows again. */
void arena_reset(struct arena *a);
void arena_free(struct arena *a);

#endif
