/* Data sets: splits and batches. */
#include "test.h"

#include <unistd.h>

#include "data/data.h"

static struct host host;

static struct dataset *load(const char *rows)
{
    char path[64];
    struct dataset *d = NULL;
    struct data_opts o = {.max_len = 1000, .vocab = 300, .causal = 1};
    snprintf(path, sizeof path, "/tmp/peft-batch-%d.jsonl", (int)getpid());
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(rows, 1, strlen(rows), f) == strlen(rows));
    if (f) fclose(f);
    CHECK_EQ(data_load(&host, NULL, path, &o, &d), PEFT_OK);
    remove(path);
    return d;
}

/* --- splits */

/* Rows of 2..n+1 tokens; the first id tells the row. */
static struct dataset *numbered(int n)
{
    struct buf b;
    buf_init(&b, &host.mem);
    for (int i = 0; i < n; i++) {
        buf_printf(&b, "{\"input_ids\":[%d", i);
        for (int k = 0; k <= (i * 7) % 23; k++) buf_printf(&b, ",%d", k);
        buf_puts(&b, "]}\n");
    }
    struct dataset *d = load(buf_str(&b));
    buf_free(&b);
    return d;
}

static void test_split(void)
{
    struct dataset *d = numbered(100), *e, *f;
    CHECK_EQ(data_split(d, 0, 1, &e), PEFT_EARG);
    CHECK_EQ(data_split(d, 1, 1, &e), PEFT_EARG);
    CHECK_EQ(data_split(d, NAN, 1, &e), PEFT_EARG);
    CHECK_EQ(d->n, 100);
    CHECK_EQ(data_split(d, 0.2, 42, &e), PEFT_OK);
    CHECK_EQ(d->n, 80);
    CHECK_EQ(e->n, 20);
    int seen[100] = {0};
    for (int64_t i = 0; i < d->n; i++) {
        seen[d->rows[i].ids[0]]++;
        if (i) CHECK(d->rows[i].line > d->rows[i - 1].line);
    }
    for (int64_t i = 0; i < e->n; i++) {
        seen[e->rows[i].ids[0]]++;
        if (i) CHECK(e->rows[i].line > e->rows[i - 1].line);
    }
    for (int i = 0; i < 100; i++) CHECK_EQ(seen[i], 1);
    struct dataset *d2 = numbered(100), *e2;
    CHECK_EQ(data_split(d2, 0.2, 42, &e2), PEFT_OK);
    for (int i = 0; i < 20; i++) CHECK_EQ(e->rows[i].line, e2->rows[i].line);
    data_free(e2);
    data_free(d2);
    /* Freed in any order. */
    CHECK_EQ(data_split(e, 0.001, 42, &f), PEFT_OK);
    CHECK_EQ(f->n, 1);
    CHECK_STR(f->schema, "input_ids");
    data_free(d);
    CHECK(e->rows[0].ids[0] >= 0);
    data_free(e);
    CHECK_EQ(data_split(f, 0.5, 1, &e), PEFT_EARG);
    CHECK_EQ(f->rows[0].ids[1], 0);
    data_free(f);
    data_free(NULL);
}

/* --- batches */

/* Checks a batch against its examples; counts them in seen. */
static void check_batch(const struct dataset *d, const struct batch *b, int *seen)
{
    int64_t g = 0;
    CHECK_EQ(b->start[0], 0);
    CHECK_EQ(b->start[b->n_seq], b->n);
    for (int64_t s = 0; s < b->n_seq; s++) {
        const struct example *x = &d->rows[b->example[s]];
        seen[b->example[s]]++;
        CHECK_EQ(b->start[s + 1] - b->start[s], x->n);
        CHECK_EQ(b->label[s], x->label);
        CHECK_NEAR(b->value[s], x->value, 0);
        for (int32_t p = 0; p < x->n; p++) {
            int32_t at = b->start[s] + p;
            CHECK_EQ(b->ids[at], x->ids[p]);
            CHECK_EQ(b->pos[at], p);
            if (!x->labels || p + 1 == x->n || x->labels[p + 1] == -100) continue;
            CHECK(g < b->n_target);
            CHECK_EQ(b->rows[g], at);
            CHECK_EQ(b->target[g], x->labels[p + 1]);
            g++;
        }
    }
    CHECK_EQ(b->n_target, g);
}

/* Walks three epochs; returns a hash of the order. */
static uint64_t walk(const struct dataset *d, const struct batch_opts *o)
{
    struct batcher *b;
    uint64_t hash = 14695981039346656037u;
    struct batch_size most, real = {0}, size;
    CHECK_EQ(batcher_new(d, o, &b), PEFT_OK);
    int64_t calls = host.mem.calls;
    for (int64_t e = 0; e < 3; e++) {
        int seen[200] = {0};
        for (int64_t i = 0; i < batcher_count(b, e); i++) {
            batcher_size(b, e, i, &size);
            int64_t t = size.tokens, g = size.targets, s = size.seqs, pack = 0;
            const struct batch *x = batcher_get(b, e, i);
            CHECK(x->n == t && x->n_target == g && x->n_seq == s);
            CHECK(s > 0);
            check_batch(d, x, seen);
            if (!o->packing) CHECK(s == o->batch || i == batcher_count(b, e) - 1);
            CHECK(size.first == t && !size.others);
            real.tokens = MAX(real.tokens, t);
            real.targets = MAX(real.targets, g);
            real.seqs = MAX(real.seqs, s);
            for (int64_t k = 0; k < s; k++) {
                hash = (hash ^ (uint64_t)x->example[k]) * 1099511628211u;
                pack += d->rows[x->example[k]].n;
            }
            if (o->packing) CHECK(pack <= (int64_t)o->batch * (o->max_len ? o->max_len : 24));
        }
        for (int64_t i = 0; i < d->n; i++) CHECK_EQ(seen[i], 1);
    }
    CHECK_EQ(host.mem.calls, calls);
    batcher_max(b, 3, &most);
    real.first = real.tokens;
    CHECK(!memcmp(&most, &real, sizeof(most)));
    /* Any batch can be asked for at any time. */
    const struct batch *x = batcher_get(b, 1, 1);
    int32_t first = x->example[0];
    batcher_get(b, 0, 0);
    CHECK_EQ(batcher_get(b, 1, 1)->example[0], first);
    batcher_free(b);
    return hash;
}

static void test_batches(void)
{
    struct dataset *d = numbered(100);
    struct batch_opts o = {.batch = 7, .shuffle = 1, .seed = 3};
    uint64_t h = walk(d, &o);
    CHECK(h == walk(d, &o));
    o.seed = 4;
    CHECK(h != walk(d, &o));
    o.shuffle = 0;
    struct batcher *b;
    CHECK_EQ(batcher_new(d, &o, &b), PEFT_OK);
    CHECK_EQ(batcher_count(b, 5), 15);
    for (int i = 0; i < 7; i++) CHECK_EQ(batcher_get(b, 5, 1)->example[i], 7 + i);
    CHECK_EQ(batcher_get(b, 5, 14)->n_seq, 2);
    batcher_free(b);
    o.batch = 1000;
    walk(d, &(struct batch_opts){.batch = 1, .shuffle = 1});
    CHECK_EQ(batcher_new(d, &o, &b), PEFT_OK);
    CHECK_EQ(batcher_count(b, 0), 1);
    CHECK_EQ(batcher_get(b, 0, 0)->n_seq, 100);
    batcher_free(b);
    o.batch = 0;
    CHECK_EQ(batcher_new(d, &o, &b), PEFT_EARG);
    data_free(d);
}

static void test_packing(void)
{
    struct dataset *d = numbered(100);
    for (int batch = 1; batch <= 3; batch++) {
        struct batch_opts o = {.batch = batch, .packing = 1, .shuffle = 1, .seed = 9};
        uint64_t h = walk(d, &o);
        CHECK(h == walk(d, &o));
        o.max_len = 64;
        walk(d, &o);
    }
    struct batch_opts o = {.batch = 1, .packing = 1, .max_len = 23};
    struct batcher *b;
    CHECK_EQ(batcher_new(d, &o, &b), PEFT_EARG);
    /* First-fit by hand: lengths 2 9 16 23 7 14 21 5 12 19 ..., packs of 24. */
    o.max_len = 24;
    CHECK_EQ(batcher_new(d, &o, &b), PEFT_OK);
    static const int32_t pack0[] = {0, 1, 4, 7};
    CHECK(batcher_get(b, 0, 0)->n_seq >= 4);
    for (int i = 0; i < 4; i++) CHECK_EQ(batcher_get(b, 0, 0)->example[i], pack0[i]);
    CHECK_EQ(batcher_get(b, 0, 1)->example[0], 2);
    CHECK_EQ(batcher_get(b, 0, 2)->example[0], 3);
    batcher_free(b);
    /* First-fit leaves no two packs that would fit into one. */
    o = (struct batch_opts){.batch = 1, .packing = 1, .max_len = 40, .shuffle = 1};
    CHECK_EQ(batcher_new(d, &o, &b), PEFT_OK);
    int half = 0;
    for (int64_t i = 0; i < batcher_count(b, 0); i++) half += batcher_get(b, 0, i)->n <= 20;
    CHECK(half <= 1);
    batcher_free(b);
    data_free(d);
}

static void test_class_batches(void)
{
    struct dataset *d = load("{\"input_ids\":[1,2],\"label\":0.5}\n"
                             "{\"input_ids\":[3],\"label\":2}\n{\"input_ids\":[4],\"label\":0}\n");
    walk(d, &(struct batch_opts){.batch = 2});
    walk(d, &(struct batch_opts){.batch = 1, .packing = 1, .max_len = 24});
    struct batcher *b;
    CHECK_EQ(batcher_new(d, &(struct batch_opts){.batch = 2}, &b), PEFT_OK);
    CHECK_EQ(batcher_get(b, 0, 0)->n_target, 0);
    CHECK_NEAR(batcher_get(b, 0, 0)->value[0], 0.5, 0);
    batcher_free(b);
    data_free(d);
}

static void test_nothing_is_left(void)
{
    CHECK_EQ(host.mem.live, 0);
}

int main(void)
{
    host_init(&host, NULL);
    RUN(test_split);
    RUN(test_batches);
    RUN(test_packing);
    RUN(test_class_batches);
    RUN(test_nothing_is_left);
    return TEST_END();
}
