/* All rows of a file: threads look at each by itself, then it is counted in file order. */
#include "prep/inspect.h"

#include "base/rng.h"
#include "prep/fields.h"

#include <math.h>
#include <stdio.h>

/* ---------------------------------------------------------------------- rows */

static int work(void *ctx, struct flow_row *r, int worker)
{
    struct inspection *x = ctx;
    struct facts *f = r->note;
    int rc = flow_parse(r);
    if (rc == PEFT_OK) rc = row_facts(&x->reader, r->row, f);
    if (rc == PEFT_EFORMAT || rc == PEFT_ENOTFOUND) {
        f->broken = true;
        snprintf(f->why, sizeof f->why, "%s", error_message());
        error_clear();
        return PEFT_OK;
    }
    return rc == PEFT_OK ? tally_row(&x->tally[worker], r->row, r->line) : rc;
}

/* Each row has the same chance to be among the examples (Vitter's reservoir). */
static int see_example(struct inspection *x, struct flow_row *r)
{
    json *row = NULL;
    int64_t at = x->rows;
    if (at >= EXAMPLES) {
        uint32_t draw = rng_u32(x->o.seed, rng_stream(RNG_SAMPLE, 0), (uint64_t)at);
        at = (int64_t)((uint64_t)draw * (uint64_t)(x->rows + 1) >> 32);
        if (at >= EXAMPLES) return PEFT_OK;
    }
    struct example_row *e = &x->example[at];
    int rc = json_parse(r->text, r->n, "JSON", &row);
    if (rc == PEFT_OK) rc = row_words(row, &x->text);
    if (rc == PEFT_OK) {
        const json *label = field_label(row);
        e->line = r->line;
        e->text = excerpt(&x->names, buf_str(&x->text), x->text.n, EXCERPT);
        buf_clear(&x->text);
        if (json_string(label)) buf_puts(&x->text, json_string(label));
        else if (label) json_write(&x->text, label);
        e->label = excerpt(&x->names, buf_str(&x->text), x->text.n, EXCERPT);
        rc = e->text && e->label ? buf_check(&x->text) : PEFT_ENOMEM;
    }
    json_free(row);
    return rc;
}

/* Keeps those of the first lines, without the path and line that the reason begins with. */
static int see_broken(struct inspection *x, int64_t line, const char *why)
{
    char begin[32];
    int64_t at = MIN(x->broken, x->o.examples);
    size_t n = strlen(x->path), k = (size_t)snprintf(begin, sizeof begin, "line %lld",
                                                     (long long)line);
    if (strncmp(why, x->path, n) == 0 && why[n] == ' ') why += n + 1;
    if (strncmp(why, begin, k) == 0 && (why[k] == ' ' || why[k] == ':')) why += k + 1;
    why += *why == ' ';
    x->broken++;
    for (; at > 0 && x->broken_row[at - 1].line > line; at--)
        if (at < x->o.examples) x->broken_row[at] = x->broken_row[at - 1];
    if (at == x->o.examples) return PEFT_OK;
    why = arena_strndup(&x->names, why, (int64_t)strlen(why));
    x->broken_row[at] = (struct broken_row){line, why};
    return why ? PEFT_OK : PEFT_ENOMEM;
}

static void see_number(struct inspection *x, double y)
{
    bool first = !x->numbers++;
    x->label_sum += y;
    x->label_least = first ? y : MIN(x->label_least, y);
    x->label_most = first ? y : MAX(x->label_most, y);
    x->label_fraction |= floor(y) < y;
}

static int take(void *ctx, struct flow_row *r)
{
    struct inspection *x = ctx;
    const struct facts *f = r->note;
    if (x->many) r->line = r->index + 1;
    if (f->broken) return see_broken(x, r->line, f->why);
    int rc = see_example(x, r);
    if (rc == PEFT_OK) rc = distinct_add(&x->distinct, f->hash);
    if (rc < 0) return rc;
    x->rows++;
    lengths_add(&x->chars, f->chars, r->line);
    lengths_add(&x->words, f->words, r->line);
    if (x->o.model) lengths_add(&x->tokens, f->tokens, r->line);
    if (f->width) lengths_add(&x->width, f->width, r->line);
    if (f->width) lengths_add(&x->height, f->height, r->line);
    if (!isnan(f->label)) see_number(x, f->label);
    x->script[f->script < 0 ? SCRIPTS : f->script]++;
    if (f->mixed && !x->mixed++) x->mixed_line = r->line;
    if (f->empty && !x->empty++) x->empty_line = r->line;
    return PEFT_OK;
}

/* A row that the reader could not make sense of. */
static int broken(void *ctx, int64_t line)
{
    return see_broken(ctx, line, error_message());
}

/* ----------------------------------------------------------------------- all */

/* Names of pictures are relative to the folder, or to that of the list. */
static int find_folder(struct inspection *x)
{
    x->many = path_kind(&x->host, x->path) == 2;
    const char *slash = x->many ? NULL : path_base(x->path);
    int64_t n = slash ? slash - x->path : (int64_t)strlen(x->path);
    x->reader.folder = n ? mem_strndup(&x->host.mem, x->path, n) : mem_strdup(&x->host.mem, ".");
    return x->reader.folder ? PEFT_OK : PEFT_ENOMEM;
}

static int begin(struct inspection *x)
{
    struct mem *m = &x->host.mem;
    arena_init(&x->names, m);
    buf_init(&x->text, m);
    distinct_init(&x->distinct, m);
    x->broken_row = mem_array(m, x->o.examples, sizeof *x->broken_row);
    int rc = x->broken_row ? lengths_init(&x->chars, m) : PEFT_ENOMEM;
    if (rc == PEFT_OK) rc = lengths_init(&x->words, m);
    if (rc == PEFT_OK) rc = lengths_init(&x->tokens, m);
    if (rc == PEFT_OK) rc = lengths_init(&x->width, m);
    if (rc == PEFT_OK) rc = lengths_init(&x->height, m);
    if (rc == PEFT_OK) rc = find_folder(x);
    x->n_tallies = rc == PEFT_OK ? flow_threads(&x->source) : 0;
    for (int i = 0; i < x->n_tallies && rc == PEFT_OK; i++) rc = tally_init(&x->tally[i], m);
    return rc;
}

static int sum_up(struct inspection *x)
{
    int rc = PEFT_OK;
    for (int i = 1; i < x->n_tallies && rc == PEFT_OK; i++)
        rc = tally_add(&x->tally[0], &x->tally[i]);
    tally_sort(&x->tally[0]);
    return rc;
}

static void end(struct inspection *x)
{
    struct mem *m = &x->host.mem;
    for (int i = 0; i < x->n_tallies; i++) tally_free(&x->tally[i]);
    lengths_free(&x->chars, m);
    lengths_free(&x->words, m);
    lengths_free(&x->tokens, m);
    lengths_free(&x->width, m);
    lengths_free(&x->height, m);
    mem_free(m, x->reader.folder);
    mem_free(m, x->broken_row);
    distinct_free(&x->distinct);
    buf_free(&x->text);
    arena_free(&x->names);
}

static int inspect(struct inspection *x, peft_tables **out)
{
    struct flow f = {.host = &x->host, .path = x->path, .source = &x->source,
                     .note = sizeof(struct facts), .ctx = x, .work = work, .take = take,
                     .broken = broken};
    int rc = begin(x);
    if (rc == PEFT_OK) rc = flow_run(&f);
    if (rc == PEFT_OK) rc = sum_up(x);
    if (rc == PEFT_OK && !x->rows && !x->broken) rc = fail(PEFT_EDATA, "%s: no rows", x->path);
    if (rc == PEFT_OK) rc = tables_new(&x->host, out);
    if (rc == PEFT_OK) rc = inspect_tables(x, *out);
    end(x);
    if (rc == PEFT_OK) return PEFT_OK;
    peft_tables_free(*out);
    *out = NULL;
    return rc;
}

int32_t peft_data_inspect(const char *path, const peft_inspect_opts *opts, peft_tables **out)
{
    KIT_ARG(path && out, "no path or no place for the result, expected both");
    struct inspection x = {.path = path};
    peft_info info = {.size = sizeof info};
    *out = NULL;
    int rc = take_options(&x.o, sizeof x.o, opts);
    if (rc == PEFT_OK) rc = take_options(&x.source, sizeof x.source, x.o.source);
    if (rc == PEFT_OK) rc = host_init(&x.host, x.source.host);
    if (rc < 0) return kit_end(rc);
    KIT_ARG(x.o.max_len >= 0 && x.o.examples >= 0 && x.o.examples <= 100000 && x.source.limit >= 0,
            "max_len %d, %d examples, limit %lld: expected none below 0 and at most 100000 "
            "examples", (int)x.o.max_len, (int)x.o.examples, (long long)x.source.limit);
    if (!x.o.examples) x.o.examples = 10;
    if (x.o.model && (rc = peft_model_info(x.o.model, &info)) < 0) return rc;
    KIT_ARG(!x.o.model || info.has_tokenizer, "a model without tokenizer counts no tokens");
    x.reader = (struct inspect_reader){.host = &x.host, .model = x.o.model, .causal = info.causal,
                                       .chat = info.has_chat_template};
    return kit_end(inspect(&x, out));
}
