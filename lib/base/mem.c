/* Counted, 64-byte aligned memory on top of the host's realloc-like hook.
 *
 *   origin ... [ header: 64 bytes ][ the caller's bytes, 64-byte aligned ]
 *
 * The hook's blocks may have any alignment: the header remembers where the
 * block began. */
#include "base/pool.h"

#include <stdlib.h>

enum { MEM_ALIGN = 64 };
/* Sizes above this are arithmetic gone wrong, not a request. */
static const int64_t size_limit = (int64_t)MIN(SIZE_MAX >> 1, (uint64_t)1 << 48) - 2 * MEM_ALIGN;

struct mem_header {
    void *origin;      /* what the hook returned */
    size_t span;       /* bytes asked of the hook */
    int64_t size;      /* bytes asked of us */
};

/* Large blocks are pages of their own, which the system has back at once: what malloc keeps of
 * them for later would be resident beside all that is planned.  A sanitizer sees blocks of
 * malloc only. */
#if defined(__SANITIZE_ADDRESS__)
static const size_t own_pages = SIZE_MAX;
#else
static const size_t own_pages = 256 << 10;
#endif

static void *libc_alloc(void *ctx, void *ptr, size_t old_size, size_t new_size)
{
    bool was = ptr && old_size >= own_pages, is = new_size >= own_pages;
    if (ptr && new_size && was != is) {
        void *to = libc_alloc(ctx, NULL, 0, new_size);
        if (!to) return NULL;
        memcpy(to, ptr, MIN(old_size, new_size));
        libc_alloc(ctx, ptr, old_size, 0);
        return to;
    }
    if (was || is) return os_pages(ptr, old_size, new_size);
    if (new_size) return realloc(ptr, new_size);
    free(ptr);
    return NULL;
}

void mem_init(struct mem *m, void *(*alloc)(void *, void *, size_t, size_t), void *ctx)
{
    m->alloc = alloc ? alloc : libc_alloc;
    m->ctx = ctx;
    atomic_init(&m->live, 0);
    atomic_init(&m->peak, 0);
    atomic_init(&m->calls, 0);
    atomic_init(&m->limit, 0);
}

bool mem_budget(struct mem *m)
{
    int64_t none = 0;
    return atomic_compare_exchange_strong(&m->limit, &none, atomic_load(&m->live) +
                                          FILE_MEMORY - JSON_MEMORY);
}

void mem_budget_more(struct mem *m, int64_t bytes)
{
    int64_t limit = atomic_load(&m->limit);
    if (limit) atomic_store(&m->limit, add_ok(limit, bytes, &limit) ? limit : INT64_MAX);
}

void mem_budget_end(struct mem *m, bool began)
{
    if (began) atomic_store(&m->limit, 0);
}

static struct mem_header *header_of(void *ptr)
{
    return (struct mem_header *)((char *)ptr - MEM_ALIGN);
}

static void count_bytes(struct mem *m, int64_t change)
{
    int64_t live = atomic_fetch_add(&m->live, change) + change;
    int64_t peak = atomic_load(&m->peak);
    while (live > peak && !atomic_compare_exchange_weak(&m->peak, &peak, live)) {}
}

static void *no_memory(int64_t size)
{
    fail(PEFT_ENOMEM, "out of memory: %lld bytes were asked for", (long long)size);
    return NULL;
}

/* Allocates, or resizes when `old` is not NULL. */
static void *resize(struct mem *m, void *old, int64_t size)
{
    if (size < 0 || size > size_limit) return no_memory(size);
    size_t span = (size_t)size + 2 * MEM_ALIGN - 1, old_span = 0, old_shift = 0;
    void *old_origin = NULL;
    int64_t old_size = 0;
    if (old) {
        struct mem_header *h = header_of(old);
        old_origin = h->origin;
        old_span = h->span;
        old_size = h->size;
        old_shift = (size_t)((char *)old - (char *)old_origin);
    }
    int64_t limit = atomic_load(&m->limit);
    if (limit && size > old_size && size - old_size > limit - atomic_load(&m->live)) {
        fail(PEFT_ENOMEM, "the file is too small for the memory that it asks for: %lld bytes more",
             (long long)(size - old_size));
        return NULL;
    }
    atomic_fetch_add(&m->calls, 1);
    char *origin = m->alloc(m->ctx, old_origin, old_span, span);
    if (!origin) return no_memory(size);
    size_t shift = MEM_ALIGN + (MEM_ALIGN - ((uintptr_t)origin & (MEM_ALIGN - 1))) % MEM_ALIGN;
    char *ptr = origin + shift;
    /* The block may have moved to another alignment. */
    if (old && shift != old_shift)
        memmove(ptr, origin + old_shift, (size_t)MIN(old_size, size));
    *header_of(ptr) = (struct mem_header){origin, span, size};
    count_bytes(m, size - old_size);
    return ptr;
}

void *mem_alloc(struct mem *m, int64_t size)
{
    return resize(m, NULL, size);
}

void *mem_zalloc(struct mem *m, int64_t size)
{
    void *p = mem_alloc(m, size);
    if (p) memset(p, 0, (size_t)size);
    return p;
}

void *mem_array(struct mem *m, int64_t n, int64_t size)
{
    int64_t bytes;
    if (n < 0 || size < 0 || !mul_ok(n, size, &bytes)) return no_memory(INT64_MAX);
    return mem_zalloc(m, bytes);
}

void *mem_realloc(struct mem *m, void *ptr, int64_t size)
{
    return resize(m, ptr, size);
}

void mem_free(struct mem *m, void *ptr)
{
    if (!ptr) return;
    struct mem_header *h = header_of(ptr);
    atomic_fetch_sub(&m->live, h->size);
    m->alloc(m->ctx, h->origin, h->span, 0);
}

char *mem_strndup(struct mem *m, const char *s, int64_t n)
{
    char *p = n < INT64_MAX ? mem_alloc(m, n + 1) : no_memory(n);
    if (!p) return NULL;
    if (n > 0) memcpy(p, s, (size_t)n);
    p[n] = 0;
    return p;
}

char *mem_strdup(struct mem *m, const char *s)
{
    return mem_strndup(m, s, (int64_t)strlen(s));
}

/* --- arena: a list of blocks; those before `now` are full, those after it are
 * left from before the last reset.  A new block always goes to the end, so an
 * earlier use of the same shape finds its blocks again. */

enum { ARENA_BLOCK = 64 * 1024 };
struct arena_block {
    struct arena_block *next;
    int64_t cap, used;
    _Alignas(16) char data[];
};

void arena_init(struct arena *a, struct mem *m)
{
    *a = (struct arena){.mem = m};
}

static struct arena_block *arena_fit(struct arena *a, int64_t size)
{
    struct arena_block *last = NULL;
    for (struct arena_block *b = a->now ? a->now : a->first; b; b = b->next) {
        if (b != a->now) b->used = 0;
        if (b->cap - b->used >= size) return b;
        last = b;
    }
    int64_t cap = MAX(size, (int64_t)ARENA_BLOCK - MEM_ALIGN);
    struct arena_block *b = mem_alloc(a->mem, (int64_t)sizeof *b + cap);
    if (!b) return NULL;
    *b = (struct arena_block){.cap = cap};
    if (last) last->next = b;
    else a->first = b;
    return b;
}

void *arena_alloc(struct arena *a, int64_t size)
{
    int64_t room;
    if (size < 0 || size > size_limit || !align_ok(MAX(size, 1), 16, &room))
        return no_memory(size);
    struct arena_block *b = arena_fit(a, room);
    if (!b) return NULL;
    a->now = b;
    void *p = b->data + b->used;
    b->used += room;
    memset(p, 0, (size_t)room);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, int64_t n)
{
    char *p = n < INT64_MAX ? arena_alloc(a, n + 1) : no_memory(n);
    if (p && n > 0) memcpy(p, s, (size_t)n);
    return p;
}

void arena_reset(struct arena *a)
{
    a->now = NULL;
}

void arena_free(struct arena *a)
{
    for (struct arena_block *b = a->first, *next; b; b = next) {
        next = b->next;
        mem_free(a->mem, b);
    }
    *a = (struct arena){.mem = a->mem};
}
