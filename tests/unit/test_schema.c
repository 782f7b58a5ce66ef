/* Schemas: what rows are said to be, and conversations in all their forms. */
#include "test.h"

#include "data/row.h"

#include <unistd.h>

static struct host host;
static struct tokenizer *chat;
static char path[64];
#define S "<|im_start|>"
#define E "<|im_end|>"

/* JSON with ' for " is easier to read here. */
static const char *quoted(const char *text)
{
    static char out[2000];
    snprintf(out, sizeof out, "%s", text);
    for (char *c = out; *c; c++) *c = *c == '\'' ? '"' : *c;
    return out;
}

static int load(const char *text, struct dataset **d)
{
    struct data_opts o = {.max_len = 100, .vocab = 300, .causal = 1};
    const char *rows = quoted(text);
    FILE *f = fopen(path, "w");
    if (f) fputs(rows, f), fclose(f);
    return data_load(&host, chat, path, &o, d);
}

static void refuse(const char *text, int code, const char *why)
{
    struct dataset *d = NULL;
    CHECK_EQ(load(text, &d), code);
    if (!strstr(error_message(), why)) printf("  %s\n", error_message());
    CHECK(strstr(error_message(), why) && !d);
    data_free(d);
}

/* Row 0 as text, with what is trained in [ ]. */
static const char *marked(const struct dataset *d)
{
    static char out[1000];
    struct buf b;
    buf_init(&b, &host.mem);
    const struct example *x = d->rows;
    int on = 0;
    for (int32_t p = 0; p < x->n; p++) {
        int now = x->labels && x->labels[p] != NOT_TRAINED;
        if (now != on) buf_puts(&b, now ? "[" : "]");
        on = now;
        tok_piece(chat, x->ids[p], &b);
    }
    if (on) buf_puts(&b, "]");
    snprintf(out, sizeof out, "%s", buf_str(&b));
    buf_free(&b);
    return out;
}

static void test_names(void)
{
    static const struct { const char *row, *name, *why, *near; int trains; } rows[] = {
        {"{'text':'a'}", "text", "text", "text-spans but for spans", 1},
        {"{'instruction':'a','output':'b','history':[]}", "alpaca", "instruction and output", "",
         1},
        {"{'instruction':'a','input':'b'}", "", "", "alpaca but for output", 0},
        {"{'conversations':[]}", "sharegpt", "conversations", "", 1},
        {"{'messages':[],'label':true}", "kto", "messages and label", "", 0},
        {"{'prompt':'a','completion':'b','label':false}", "kto",
         "prompt and completion and label", "", 0},
        {"{'prompt':'a','completion':'b','label':'x'}", "prompt-completion",
         "prompt and completion", "kto but for label", 1},
        {"{'instruction':'a','output':'b','kto_tag':true}", "kto", "", "", 0},
        {"{'prompt':'a','chosen':'b','rejected':'c'}", "chosen-rejected", "", "", 1},
        {"{'instruction':'a','chosen':'b','rejected':'c'}", "alpaca-preference", "", "", 1},
        {"{'conversations':[],'chosen':{},'rejected':{}}", "sharegpt-preference", "", "", 1},
        {"{'prompt':'a','completions':['b'],'labels':[true]}", "stepwise", "", "", 0},
        {"{'prompt':'a','answer':'b'}", "prompt", "prompt", "prompt-completion but for completion",
         0},
        {"{'segments':[]}", "segments", "segments", "", 1},
        {"{'anchor':'a','positive':'b'}", "match", "", "", 1},
        {"{'sentence1':'a','sentence2':'b','score':1}", "alike", "", "", 1},
        {"{'image':'a','label':'b'}", "image-label", "", "", 0},
        {"{'source':'a','target':'b'}", "source-target", "source and target", "", 1},
        {"{}", "", "", "", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *text = quoted(rows[i].row);
        struct schema_match m;
        json *row = NULL;
        CHECK_EQ(json_parse(text, (int64_t)strlen(text), "row", &row), PEFT_OK);
        CHECK_EQ(schema_of(row, &m), *rows[i].name != 0);
        CHECK_STR(m.name, rows[i].name);
        CHECK_EQ(m.trains, rows[i].trains);
        if (*rows[i].why) CHECK_STR(m.why, rows[i].why);
        CHECK(strstr(m.near, rows[i].near) != NULL);
        CHECK(!*m.name == !*m.use);
        json_free(row);
    }
}

static void test_refused(void)
{
    refuse("{'prompt':'a','completion':'b','label':true}", PEFT_EUNSUPPORTED,
           " line 1: rows of the schema kto (prompt and completion and label) are for KTO");
    refuse("{'prompt':'a'}", PEFT_EUNSUPPORTED, "GRPO");
    refuse("{'prompt':'a','completions':['b'],'labels':[true]}", PEFT_EUNSUPPORTED, "PRM");
    refuse("{'instruction':'a'}", PEFT_EFORMAT,
           "found instruction, which is alpaca but for output");
    refuse("{'text':'a'}\n\n{'prompt':'a','completion':'b'}", PEFT_EFORMAT,
           " line 3: expected text as in the first row (text, line 1); found prompt, completion "
           "(prompt-completion)");
    refuse("{'text':'a','label':1}\n{'text':'b','label':'good'}", PEFT_EFORMAT,
           " line 2: label: expected a number as in line 1, which has \"1\"; found the name "
           "\"good\"");
    refuse("{'text':'a','label':'x'}\n{'text':'b','label':2}", PEFT_EFORMAT,
           " line 2: label: expected a name as in line 1, which has \"x\"; found the number "
           "\"2\"");
    refuse("{'conversations':[{'from':'function_call','value':'f('}]}", PEFT_EFORMAT,
           "\"function_call\" line 1 column 1");
    refuse("{'instruction':'a','output':'b','history':[['a']]}", PEFT_EFORMAT, "\"history\"");
    refuse("{'messages':[{'role':'assistant','content':'b','train_detail':[{}]}]}", PEFT_EFORMAT,
           "begin_offset");
}

/* What "train" and "train_detail" leave out, histories, roles of other programs. */
static void test_conversations(void)
{
    static const struct { const char *row, *marks; } rows[] = {
        {"{'messages':[{'role':'user','content':'a'},{'role':'assistant','content':'bcd efg',"
         "'train_detail':[{'begin_offset':0,'end_offset':2,'train':false}]}]}",
         S "user\na" E "\n" S "assistant\nbcd[ efg" E "]\n"},
        {"{'messages':[{'role':'user','content':'ab','train':true},{'role':'assistant',"
         "'content':'c','train':false}]}", S "user\n[ab" E "]\n" S "assistant\nc" E "\n"},
        {"{'instruction':'a','input':'','output':'b','history':[['p','q']]}",
         S "user\np" E "\n" S "assistant\n[q" E "]\n" S "user\na" E "\n" S "assistant\n[b" E
         "]\n"},
        {"{'conversations':[{'from':'human','value':'a'},{'from':'gpt','value':'b'}]}",
         S "user\na" E "\n" S "assistant\n[b" E "]\n"},
        {"{'conversations':[{'from':'human','value':'a'},{'from':'observation','value':'o'},"
         "{'from':'gpt','value':'b'}]}",
         S "user\na" E "\n" S "tool\no" E "\n" S "assistant\n[b" E "]\n"},
        {"{'conversations':[{'from':'human','value':'a'},{'from':'function_call','value':"
         "'{\\'name\\':\\'f\\'}'},{'from':'gpt','value':'b'}],'system':'s','tools':'[]'}",
         S "system\ns" E "\n" S "user\na" E "\n" S "assistant\n[" E "]\n" S "assistant\n[b" E
         "]\n"},
        {"{'segments':[{'label':false,'text':'ab'},{'label':true,'text':'cd'}]}", "ab[cd]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct dataset *d = NULL;
        CHECK_EQ(load(rows[i].row, &d), PEFT_OK);
        if (d) CHECK_STR(marked(d), rows[i].marks);
        data_free(d);
    }
}

static void test_preferences(void)
{
    static const char *const rows[] = {
        "{'prompt':'a','chosen':'b','rejected':'c'}",
        "{'instruction':'a','input':'i','chosen':'b','rejected':'c'}",
        "{'conversations':[{'from':'human','value':'a'}],'chosen':{'from':'gpt','value':'b'},"
        "'rejected':{'from':'gpt','value':'c'}}",
        "{'chosen':[{'role':'user','content':'a'},{'role':'assistant','content':'b'}],"
        "'rejected':[{'role':'user','content':'a'},{'role':'assistant','content':'c'}]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct dataset *d = NULL;
        CHECK_EQ(load(rows[i], &d), PEFT_OK);
        CHECK(d && d->task == TASK_PAIR && d->texts == 2 && d->rows[0].ends[0] * 2 == d->rows[0].n);
        data_free(d);
    }
}

int main(void)
{
    host_init(&host, NULL);
    snprintf(path, sizeof path, "/tmp/peft-schema-%d.jsonl", (int)getpid());
    if (tok_open_folder(&host, "tests/golden/data/chat", &chat) < 0) {
        printf("%s\n", error_message());
        return 1;
    }
    RUN(test_names);
    RUN(test_refused);
    RUN(test_conversations);
    RUN(test_preferences);
    tok_free(chat);
    CHECK_EQ(host.mem.live, 0);
    remove(path);
    return TEST_END();
}
