/* Agreement of labellers.  With p_o the share of rows on which two agree and p_e that which
 * their own shares of labels would give by chance, Cohen's kappa (1960) is
 * (p_o - p_e) / (1 - p_e).  Fleiss' (1971), of m labellers, takes for p_o the mean over rows of
 * (sum n_k^2 - m) / (m (m - 1)), n_k of them for label k, and for p_e the sum of the squared
 * shares of labels. */
#include "prep/flow.h"
#include "prep/labels.h"

#include <math.h>
#include <stdlib.h>

enum { AGREE_LABELS = 1024 };

struct agree_row {
    const char *json, *text;
    int64_t json_n, line;
    int32_t label[PEFT_LABELLERS];  /* + 1; 0 = none */
};
struct agree {
    struct host *host;
    peft_agree_opts o;
    const char *const *paths;
    int32_t files, file;            /* all; the one that is read */
    struct arena arena;
    struct buf text, label;
    struct map names, keys;         /* of labels; of texts, with the how manieth of equal ones */
    struct map seen;                /* how many of a text this file had so far */
    const char **name;
    struct agree_row *rows;
    int64_t n, cap, *confusion;
    peft_agreement found;
};

/* --- reading */

static int name_at(struct agree *a, int32_t *out)
{
    int64_t at = map_get(&a->names, a->label.data, a->label.n, -1);
    if (at < 0) {
        at = a->names.n;
        if (at == AGREE_LABELS)
            return fail(PEFT_EDATA, "more than %d different labels, expected classes",
                        AGREE_LABELS);
        char *copy = arena_strndup(&a->arena, a->label.data, a->label.n);
        int rc = copy ? map_add(&a->names, copy, a->label.n, at) : PEFT_ENOMEM;
        if (rc < 0) return rc;
        a->name[at] = copy;
    }
    *out = (int32_t)at;
    return PEFT_OK;
}

/* The row of this text, the k-th of equal ones, by a key that has k behind the text. */
static int agree_at(struct agree *a, const struct flow_row *r, struct agree_row **out)
{
    int64_t n = a->text.n, *count = NULL;
    int64_t had = map_get(&a->seen, buf_str(&a->text), n, 0);
    if (!had) {
        char *copy = arena_strndup(&a->arena, a->text.data, n);
        count = arena_alloc(&a->arena, sizeof *count);
        int rc = copy && count ? map_add(&a->seen, copy, n, (int64_t)(intptr_t)count) : PEFT_ENOMEM;
        if (rc < 0) return rc;
    } else
        count = (int64_t *)(intptr_t)had;
    buf_printf(&a->text, "%c%lld", 0, (long long)(*count)++);
    int64_t at = map_get(&a->keys, a->text.data, a->text.n, -1);
    if (at < 0) {
        at = a->n;
        if (a->n == a->cap) {
            int64_t cap = MAX(2 * a->cap, 256);
            struct agree_row *rows = mem_realloc(&a->host->mem, a->rows,
                                                 cap * (int64_t)sizeof *rows);
            if (!rows) return PEFT_ENOMEM;
            a->rows = rows;
            a->cap = cap;
        }
        char *key = arena_strndup(&a->arena, a->text.data, a->text.n);
        char *json_text = arena_strndup(&a->arena, r->text, r->n);
        int rc = key && json_text ? map_add(&a->keys, key, a->text.n, at) : PEFT_ENOMEM;
        if (rc < 0) return rc;
        a->rows[a->n++] = (struct agree_row){json_text, key, r->n, r->line, {0}};
    }
    *out = &a->rows[at];
    return PEFT_OK;
}

static int agree_labelled(struct agree *a, const struct flow_row *r)
{
    struct agree_row *row = NULL;
    int32_t label = 0;
    buf_clear(&a->text);
    buf_clear(&a->label);
    int rc = label_name(r->row, &a->label);
    if (rc <= 0 || (rc = name_at(a, &label)) < 0) return rc;
    if ((rc = label_text(r->row, &a->text)) < 0) return rc;
    if ((rc = agree_at(a, r, &row)) < 0) return rc;
    row->label[a->file] = label + 1;
    return PEFT_OK;
}

static int agree_take(void *ctx, struct flow_row *r)
{
    int rc = flow_parse(r);
    if (rc >= 0) {
        rc = agree_labelled(ctx, r);
        if (rc < 0) fail_in(rc, "%s line %lld: ", r->path, (long long)r->line);
    }
    json_free(r->row);
    r->row = NULL;
    return rc;
}

static int by_label_name(const void *x, const void *y)
{
    return strcmp(**(const char *const *const *)x, **(const char *const *const *)y);
}

/* Labels in the order of their names. */
static int sort_labels(struct agree *a)
{
    int64_t n = a->names.n;
    struct mem *mem = &a->host->mem;
    const char ***at = mem_array(mem, n, sizeof *at), **sorted = mem_array(mem, n, sizeof *sorted);
    int32_t *now = mem_array(mem, n, sizeof *now);
    int rc = at && sorted && now ? PEFT_OK : PEFT_ENOMEM;
    for (int64_t k = 0; !rc && k < n; k++) at[k] = &a->name[k];
    if (!rc) qsort(at, (size_t)n, sizeof *at, by_label_name);
    for (int64_t k = 0; !rc && k < n; k++) {
        sorted[k] = *at[k];
        now[at[k] - a->name] = (int32_t)k;
    }
    for (int64_t i = 0; !rc && i < a->n; i++)
        for (int32_t f = 0; f < a->files; f++)
            if (a->rows[i].label[f]) a->rows[i].label[f] = now[a->rows[i].label[f] - 1] + 1;
    if (!rc && n) memcpy(a->name, sorted, (size_t)n * sizeof *sorted);
    mem_free(mem, at);
    mem_free(mem, sorted);
    mem_free(mem, now);
    return rc;
}

/* --- figures */

static double kappa(double observed, double expected)
{
    return expected < 1 ? (observed - expected) / (1 - expected) : NAN;
}

static int compare_pair(struct agree *a, int32_t x, int32_t y)
{
    int64_t n = a->names.n, same = 0;
    double by_chance = 0;
    peft_agree_pair p = {.size = sizeof p, .a = x, .b = y, .n_labels = (int32_t)n,
                         .labels = a->name, .confusion = a->confusion};
    memset(a->confusion, 0, (size_t)(n * n) * sizeof *a->confusion);
    for (int64_t i = 0; i < a->n; i++) {
        const int32_t *l = a->rows[i].label;
        if (!l[x] || !l[y]) continue;
        a->confusion[(l[x] - 1) * n + l[y] - 1]++;
        p.rows++;
        same += l[x] == l[y];
    }
    for (int64_t k = 0; k < n; k++) {
        int64_t mine = 0, theirs = 0;
        for (int64_t j = 0; j < n; j++) {
            mine += a->confusion[k * n + j];
            theirs += a->confusion[j * n + k];
        }
        by_chance += (double)mine * (double)theirs;
    }
    double rows = (double)p.rows;
    p.agreement = p.rows ? (double)same / rows : NAN;
    p.kappa = p.rows ? kappa(p.agreement, by_chance / (rows * rows)) : NAN;
    if (!a->o.on_pair || !a->o.on_pair(a->o.ctx, &p)) return PEFT_OK;
    return fail(PEFT_ECANCELLED, "cancelled at labellers %d and %d", x + 1, y + 1);
}

/* How many labels a row has, the label that most gave (+ 1; 0 = a tie), and how many gave it. */
static int32_t votes(const struct agree *a, const struct agree_row *r, int32_t *majority,
                     int32_t *most)
{
    int32_t n = 0;
    *majority = *most = 0;
    for (int32_t f = 0; f < a->files; f++) {
        int32_t same = 0, first = 1;
        n += r->label[f] != 0;
        for (int32_t g = 0; g < a->files && r->label[f]; g++) {
            same += r->label[g] == r->label[f];
            if (g < f && r->label[g] == r->label[f]) first = 0;
        }
        if (same > *most) *most = same, *majority = r->label[f];
        else if (first && same == *most && same) *majority = 0;
    }
    return n;
}

static void count_all(struct agree *a)
{
    double m = a->files, share = 0, expected = 0, given[AGREE_LABELS] = {0};
    for (int64_t i = 0; i < a->n; i++) {
        const struct agree_row *r = &a->rows[i];
        int32_t majority, most, n = votes(a, r, &majority, &most);
        a->found.rows += n > 0;
        a->found.shared += n > 1;
        a->found.same += n > 1 && most == n;
        a->found.ties += n > 1 && !majority;
        if (n < a->files) continue;
        a->found.all++;
        int32_t same = 0;
        for (int32_t f = 0; f < a->files; f++) {
            given[r->label[f] - 1]++;
            for (int32_t g = 0; g < a->files; g++) same += f != g && r->label[f] == r->label[g];
        }
        share += same / (m * (m - 1));
    }
    double all = (double)a->found.all;
    for (int64_t k = 0; k < a->names.n; k++) expected += pow(given[k] / (all * m), 2);
    a->found.labels = (int32_t)a->names.n;
    a->found.percent = all > 0 ? share / all : NAN;
    a->found.fleiss = all > 0 ? kappa(share / all, expected) : NAN;
}

/* --- rows */

static int tell_disagreed(struct agree *a, const struct agree_row *r)
{
    const char *labels[PEFT_LABELLERS];
    int32_t majority, most, n = votes(a, r, &majority, &most);
    if (n < 2 || most == n || !a->o.on_row) return PEFT_OK;
    for (int32_t f = 0; f < a->files; f++)
        labels[f] = r->label[f] ? a->name[r->label[f] - 1] : NULL;
    peft_agree_row row = {.size = sizeof row, .line = r->line, .text = r->text, .n = a->files,
                          .labels = labels, .majority = majority ? a->name[majority - 1] : NULL};
    return a->o.on_row(a->o.ctx, &row) ? fail(PEFT_ECANCELLED, "cancelled at row %lld",
                                              (long long)r->line) : PEFT_OK;
}

static int put_agreed(struct agree *a, struct writer *w, const struct agree_row *r)
{
    int32_t majority, most, n = votes(a, r, &majority, &most);
    json *row = NULL;
    if (!majority || n < a->o.least) return PEFT_OK;
    int rc = json_parse(r->json, r->json_n, "a row", &row);
    if (rc) return rc;
    buf_clear(&a->text);
    label_open(&a->text, row, a->name[majority - 1]);
    buf_puts(&a->text, ", \"agreement\": ");
    buf_number(&a->text, round(1e4 * most / n) / 1e4);
    buf_puts(&a->text, "}\n");
    json_free(row);
    a->found.written++;
    writer_put(w, a->text.data, a->text.n);
    return buf_check(&a->text);
}

static int write_majority(struct agree *a)
{
    struct writer *w = NULL;
    int rc = a->o.out ? writer_open(a->host, a->o.out, &w) : PEFT_OK;
    for (int64_t i = 0; w && !rc && i < a->n; i++) rc = put_agreed(a, w, &a->rows[i]);
    if (w && rc) writer_abort(w);
    return w && !rc ? writer_commit(w) : rc;
}

static int agree_files(struct agree *a)
{
    struct mem *mem = &a->host->mem;
    int rc = PEFT_OK;
    for (a->file = 0; !rc && a->file < a->files; a->file++) {
        struct flow flow = {.host = a->host, .path = a->paths[a->file], .source = a->o.source,
                            .ctx = a, .take = agree_take};
        map_init(&a->seen, mem);
        rc = flow_run(&flow);
        map_free(&a->seen);
    }
    return rc;
}

static int compare_all(struct agree *a)
{
    struct mem *mem = &a->host->mem;
    a->name = mem_array(mem, AGREE_LABELS, sizeof *a->name);
    int rc = a->name ? agree_files(a) : PEFT_ENOMEM;
    if (!rc) rc = sort_labels(a);
    if (!rc) count_all(a);
    if (!rc && !a->found.shared)
        rc = fail(PEFT_EDATA, "%s and the others have no labelled row in common, expected the "
                  "same texts with labels", a->paths[0]);
    if (!rc) a->confusion = mem_array(mem, a->names.n * a->names.n, sizeof *a->confusion);
    if (!rc && !a->confusion) rc = PEFT_ENOMEM;
    for (int32_t x = 0; x < a->files; x++)
        for (int32_t y = x + 1; !rc && y < a->files; y++) rc = compare_pair(a, x, y);
    for (int64_t i = 0; !rc && i < a->n; i++) rc = tell_disagreed(a, &a->rows[i]);
    return rc ? rc : write_majority(a);
}

int32_t peft_data_agree(const char *const *paths, int32_t n, const peft_agree_opts *opts,
                        peft_agreement *out)
{
    KIT_ARG(paths && n >= 2 && n <= PEFT_LABELLERS, "%d files, expected 2 to %d", (int)n,
            PEFT_LABELLERS);
    for (int32_t i = 0; i < n; i++) KIT_ARG(paths[i] && *paths[i], "file %d has no name", (int)i);
    struct agree a = {.paths = paths, .files = n, .found = {.size = sizeof a.found}};
    struct host host;
    int rc = take_options(&a.o, sizeof a.o, opts);
    if (!rc) rc = check_result(out);
    if (!rc) rc = host_init(&host, a.o.source ? a.o.source->host : NULL);
    if (rc) return kit_end(rc);
    if (!a.o.least) a.o.least = 2;
    a.host = &host;
    arena_init(&a.arena, &host.mem);
    buf_init(&a.text, &host.mem);
    buf_init(&a.label, &host.mem);
    map_init(&a.names, &host.mem);
    map_init(&a.keys, &host.mem);
    rc = compare_all(&a);
    if (!rc) give_result(out, &a.found, sizeof a.found);
    mem_free(&host.mem, a.name);
    mem_free(&host.mem, a.rows);
    mem_free(&host.mem, a.confusion);
    map_free(&a.names);
    map_free(&a.keys);
    buf_free(&a.text);
    buf_free(&a.label);
    arena_free(&a.arena);
    return kit_end(rc);
}
