/* Rows through threads, and the texts of rows of every schema. */
#include "disk.h"
#include "prep/fields.h"
#include "prep/flow.h"
#include "test.h"

static struct host host;

/* --- fields */

static const struct { const char *row, *fields, *label; } schemas[] = {
    {"{\"text\":\"a\"}", "text:text=a", NULL},
    {"{\"instruction\":\"a\",\"input\":\"b\",\"output\":\"c\",\"system\":\"d\","
     "\"history\":[[\"q\",\"r\"],[\"s\",\"t\"]]}",
     "instruction:input=a input:input=b output:answer=c system:system=d history[0]:input=q "
     "history[1]:answer=r history[2]:input=s history[3]:answer=t", NULL},
    {"{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"b\"},"
     "{\"from\":\"function_call\",\"value\":\"{}\"},{\"from\":\"observation\",\"value\":\"c\"}],"
     "\"system\":\"d\",\"tools\":\"[]\"}",
     "conversations[0]:input=a conversations[1]:answer=b conversations[2]:input=c "
     "system:system=d", NULL},
    {"{\"messages\":[{\"role\":\"system\",\"content\":\"a\"},{\"role\":\"user\",\"content\":"
     "[{\"type\":\"text\",\"text\":\"b\"},{\"type\":\"text\",\"text\":\"c\"}]},{\"role\":"
     "\"assistant\",\"content\":null,\"tool_calls\":[{\"name\":\"f\"}],\"thinking\":\"d\"},"
     "{\"role\":\"tool\",\"content\":\"e\"}]}",
     "messages[0]:system=a messages[1]:input=b messages[2]:input=c messages[3]:answer=d "
     "messages[4]:input=e", NULL},
    {"{\"prompt\":\"a\",\"completion\":\"b\",\"label\":true}",
     "prompt:input=a completion:answer=b", "true"},
    {"{\"prompt\":[{\"role\":\"user\",\"content\":\"a\"}],\"completion\":[{\"role\":"
     "\"assistant\",\"content\":\"b\"}]}", "prompt[0]:input=a completion[0]:answer=b", NULL},
    {"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}",
     "prompt:input=a chosen:answer=b rejected:answer=c", NULL},
    {"{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"}],\"chosen\":{\"from\":\"gpt\","
     "\"value\":\"b\"},\"rejected\":{\"from\":\"gpt\",\"value\":\"c\"}}",
     "conversations[0]:input=a chosen:answer=b rejected:answer=c", NULL},
    {"{\"prompt\":\"a\",\"completions\":[\"b\",\"c\"],\"labels\":[true,false]}",
     "prompt:input=a completions[0]:answer=b completions[1]:answer=c", "[true, false]"},
    {"{\"segments\":[{\"label\":true,\"text\":\"a\"},{\"label\":false,\"text\":\"b\"}]}",
     "segments[0]:text=a segments[1]:text=b", NULL},
    {"{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"train_detail\":[]}]}",
     "messages[0]:answer!=a", NULL},
    {"{\"anchor\":\"a\",\"positive\":\"b\",\"negative\":\"c\"}",
     "anchor:text=a positive:text=b negative:text=c", NULL},
    {"{\"sentence1\":\"a\",\"sentence2\":\"b\",\"score\":0.5}",
     "sentence1:text=a sentence2:text=b", "0.5"},
    {"{\"text\":\"a\",\"spans\":[[0,1,\"X\"]]}", "text:text!=a", NULL},
    {"{\"question\":\"a\",\"context\":\"b\",\"answers\":{\"text\":[\"c\"],\"answer_start\":[0]}}",
     "question:input=a context:input!=b answers[0]:answer!=c", NULL},
    {"{\"question\":\"a\",\"answer\":\"b\"}", "question:input=a answer:answer=b", NULL},
    {"{\"translation\":{\"en\":\"a\",\"fr\":\"b\"}}",
     "translation[0]:input=a translation[1]:answer=b", NULL},
    {"{\"tokens\":[\"a\",\"b\"],\"ner_tags\":[0,1]}", "tokens[0]:text=a tokens[1]:text=b",
     "[0, 1]"},
    {"{\"id\":\"x\",\"headline\":\"a\",\"label\":\"pos\",\"n\":3}", "headline:text=a", "\"pos\""},
    {"{\"input_ids\":[1,2]}", "", NULL},
};

static void test_fields(void)
{
    for (size_t k = 0; k < ARRAY_LEN(schemas); k++) {
        json *row;
        struct field f[16];
        struct buf b, label;
        buf_init(&b, &host.mem);
        buf_init(&label, &host.mem);
        CHECK_EQ(json_parse(schemas[k].row, (int64_t)strlen(schemas[k].row), "row", &row), 0);
        int64_t n = fields_of(row, f, 16);
        for (int64_t i = 0; i < n; i++) {
            char name[64];
            field_name(&f[i], name, sizeof name);
            buf_printf(&b, "%s%s:%s%s=%s", i ? " " : "", name, field_role_names[f[i].role],
                       f[i].fixed ? "!" : "", json_string(f[i].node));
        }
        CHECK_STR(buf_str(&b), schemas[k].fields);
        CHECK_EQ(fields_of(row, f, 0), n);
        const json *v = field_label(row);
        CHECK_EQ(v != NULL, schemas[k].label != NULL);
        if (v) json_write(&label, v);
        if (v) CHECK_STR(buf_str(&label), schemas[k].label);
        if (n) {
            CHECK_EQ(json_set_string(f[0].node, "longer than before", 6), 0);
            CHECK_STR(json_string(f[0].node), "longer");
        }
        json_free(row);
        buf_free(&b);
        buf_free(&label);
    }
}

/* --- flow */

enum { ROWS = 5000 };
static int64_t made_n;

static void make_rows(void)
{
    struct buf b;
    buf_init(&b, &host.mem);
    buf_puts(&b, "\n");
    for (int i = 0; i < ROWS; i++)
        buf_printf(&b, "{ \"text\": \"row %d %0*d\", \"n\": %d }%s", i, 1 + i * 7 % 300, 0, i,
                   i % 11 ? "\n" : "\n\n");
    disk_put("rows.jsonl", b.data, b.n);
    made_n = b.n;
    buf_free(&b);
}

struct seen {
    int64_t rows, changed, fail_work, fail_take;
    struct buf all;
    int64_t done, calls, cancel_at;
};

static int change_thirds(void *ctx, struct flow_row *r, int worker)
{
    struct seen *s = ctx;
    int rc = flow_parse(r);
    if (rc < 0) return rc;
    if (worker < 0 || worker >= POOL_MAX) return fail(PEFT_EARG, "worker %d", worker);
    if (s->fail_work && r->index >= s->fail_work)
        return fail(PEFT_EDATA, "line %lld is bad", (long long)r->line);
    *(int64_t *)r->note = (int64_t)json_number(json_get(r->row, "n"), -1);
    if (r->index % 3) return PEFT_OK;
    struct field f;
    fields_of(r->row, &f, 1);
    rc = json_set_string(f.node, "new", 3);
    return rc < 0 ? rc : flow_change(r);
}

static int put_row(void *ctx, struct flow_row *r)
{
    struct seen *s = ctx;
    int64_t n;
    if (*(int64_t *)r->note != r->index || r->index != s->rows++)
        return fail(PEFT_EARG, "row %lld out of order", (long long)r->index);
    if (s->fail_take && r->index == s->fail_take) return fail(PEFT_EIO, "cannot take");
    const char *text = flow_text(r, &n);
    if (r->out_n) s->changed++;
    buf_put(&s->all, text, n);
    buf_putc(&s->all, '\n');
    return PEFT_OK;
}

static int32_t on_progress(void *ctx, int64_t done, int64_t total)
{
    struct seen *s = ctx;
    if (done < s->done || done > total || total != made_n) s->calls = -1000000;
    s->done = done;
    s->calls++;
    return s->cancel_at && s->calls == s->cancel_at;
}

static int go(struct seen *s, int threads, int64_t limit)
{
    peft_source_opts o = {.size = sizeof o, .threads = threads, .limit = limit,
                          .progress = on_progress, .ctx = s};
    struct flow f = {.host = &host, .path = "rows.jsonl", .source = &o, .note = sizeof(int64_t),
                     .ctx = s, .work = change_thirds, .take = put_row};
    s->rows = s->changed = s->done = s->calls = 0;
    buf_clear(&s->all);
    return flow_run(&f);
}

static void test_threads(void)
{
    struct seen s = {0}, one = {0};
    buf_init(&s.all, &host.mem);
    buf_init(&one.all, &host.mem);
    CHECK_EQ(go(&one, 1, 0), 0);
    CHECK_EQ(one.rows, ROWS);
    CHECK_EQ(one.changed, (ROWS + 2) / 3);
    CHECK(one.calls > 0);
    static const char begin[] = "{\"text\": \"new\", \"n\": 0}\n{ \"text\": \"row 1 ";
    CHECK(strncmp(buf_str(&one.all), begin, sizeof begin - 1) == 0);
    for (int threads = 2; threads <= 5; threads += 3) {
        CHECK_EQ(go(&s, threads, 0), 0);
        CHECK_EQ(s.all.n, one.all.n);
        CHECK(s.all.n == one.all.n && memcmp(s.all.data, one.all.data, (size_t)s.all.n) == 0);
    }
    CHECK_EQ(go(&s, 2, 17), 0);
    CHECK_EQ(s.rows, 17);
    buf_free(&s.all);
    buf_free(&one.all);
}

static void test_failures(void)
{
    struct seen s = {0};
    int64_t live = host.mem.live;
    buf_init(&s.all, &host.mem);
    for (int threads = 1; threads <= 3; threads++) {
        s.fail_work = 2000;
        CHECK_EQ(go(&s, threads, 0), PEFT_EDATA);
        CHECK_EQ(s.rows, 2000);
        CHECK(strstr(error_message(), "line 2184 is bad") != NULL);
        s.fail_work = 0;
        s.fail_take = 3000;
        CHECK_EQ(go(&s, threads, 0), PEFT_EIO);
        s.fail_take = 0;
        s.cancel_at = 2;
        CHECK_EQ(go(&s, threads, 0), PEFT_ECANCELLED);
        s.cancel_at = 0;
    }
    buf_free(&s.all);
    CHECK_EQ(host.mem.live, live);
    disk_puts("rows.jsonl", "{\"text\": \"a\", \"n\": 0}\n{\"n\": 1}\n{\"n\" 2}\n");
    CHECK_EQ(go(&s, 2, 0), PEFT_EFORMAT);
    CHECK_STR(error_message(), "rows.jsonl line 3 column 6: expected ':'");
    buf_free(&s.all);
    CHECK_EQ(host.mem.live, live);
}

int main(void)
{
    peft_load_opts o = {.size = sizeof o, .io = &disk_io};
    host_init(&host, &o);
    RUN(test_fields);
    make_rows();
    RUN(test_threads);
    RUN(test_failures);
    disk_clear();
    return TEST_END();
}
