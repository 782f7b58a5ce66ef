/* The model card, README.md beside an adapter: front matter as Hugging Face PEFT
 * writes it, then what is known of base, data and training. */
#include <math.h>

#include "adapt/io.h"

static const char card_mark[] = "<!-- made by libpeft; without this line it is never replaced -->";

uint64_t card_weights(const struct adapter *a)
{
    uint64_t h = HASH_FLOATS;
    for (int64_t i = 0; i < a->n_sites; i++)
        for (int k = 0; k < PARTS; k++)
            if (adapted_owns(&a->sites[i], k))
                h = hash_floats(h, a->sites[i].part[k]->own, param_len(a->sites[i].part[k]));
    for (int64_t i = 0; i < a->n_saved; i++)
        h = hash_floats(h, a->saved[i].mine, param_len(a->saved[i].p));
    return h ? h : 1;
}

/* What a task of PEFT's is called on the Hugging Face hub, and in transformers. */
static const struct { const char *task, *tag, *class; } card_tasks[] = {
    { "CAUSAL_LM", "text-generation", "AutoModelForCausalLM" },
    { "SEQ_2_SEQ_LM", "text2text-generation", "AutoModelForSeq2SeqLM" },
    { "SEQ_CLS", "text-classification", "AutoModelForSequenceClassification" },
    { "TOKEN_CLS", "token-classification", "AutoModelForTokenClassification" },
    { "QUESTION_ANS", "question-answering", "AutoModelForQuestionAnswering" },
    { "FEATURE_EXTRACTION", "feature-extraction", "AutoModel" },
};

static void put_front(struct buf *b, const char *base, const char *method, const char *tag)
{
    buf_puts(b, "---\nbase_model: ");
    buf_json(b, base, (int64_t)strlen(base));
    buf_puts(b, "\nlibrary_name: peft\n");
    if (tag) buf_printf(b, "pipeline_tag: %s\n", tag);
    buf_puts(b, "tags:\n- ");
    struct buf of;
    buf_init(&of, b->mem);
    buf_printf(&of, "base_model:adapter:%s", base);
    buf_json(b, of.n ? of.data : "", of.n);
    b->oom = b->oom || of.oom;
    buf_free(&of);
    buf_printf(b, "\n- %s\n- transformers\n---\n\n%s\n\n", method, card_mark);
}

/* Four digits. */
static void put_figure(struct buf *b, const char *name, double x)
{
    double unit = 1;
    while (isfinite(x) && x != 0 && fabs(x * unit) < 1000 && unit < 1e15) unit *= 10;
    buf_printf(b, "%s ", name);
    buf_number(b, round(x * unit) / unit);
}

static void put_run(struct buf *b, const struct card *c)
{
    buf_puts(b, "## Training\n\n");
    if (*c->data) buf_printf(b, "- data: `%s`, SHA-256 `%s`\n", c->data, c->hash);
    buf_printf(b, "- %lld rows, %lld steps", (long long)c->rows, (long long)c->steps);
    put_figure(b, ", epochs", c->epochs);
    if (isfinite(c->loss)) put_figure(b, ", last loss", c->loss);
    buf_printf(b, "\n- %s, %s schedule", c->optimizer, c->schedule);
    put_figure(b, ", learning rate", c->lr);
    put_figure(b, ", weight decay", c->decay);
    buf_printf(b, ", batch %lld x %lld, seed %llu\n", (long long)c->batch,
               (long long)c->accumulate, (unsigned long long)c->seed);
    if (c->eval_rows) {
        buf_printf(b, "- evaluation on %lld rows:", (long long)c->eval_rows);
        put_figure(b, " loss", c->eval_loss);
    }
    for (int32_t i = 0; i < c->n_metrics; i++) {
        buf_printf(b, ", %s", c->metrics[i].name);
        put_figure(b, "", c->metrics[i].value);
    }
    buf_puts(b, c->eval_rows ? "\n\n" : "\n");
}

static void put_card(const struct model *m, const struct adapter *a, struct buf *b)
{
    const char *base = a->base ? a->base : base_name(m), *class = "AutoModel", *tag = NULL;
    const char *task = m->hp.enc_layers ? "SEQ_2_SEQ_LM" : head_kinds[m->kind].task_type;
    int members = 0;
    if (m->vision) {
        tag = m->head ? "image-classification" : "image-feature-extraction";
        class = m->head ? "AutoModelForImageClassification" : class;
    }
    for (size_t i = 0; i < ARRAY_LEN(card_tasks) && task && !m->vision; i++)
        if (!strcmp(card_tasks[i].task, task)) {
            tag = card_tasks[i].tag;
            class = card_tasks[i].class;
        }
    put_front(b, base, a->method->name, tag);
    buf_printf(b, "# %s of %s\n\nAn adapter (%s: %s) for a %s model of %lld layers and hidden size "
               "%lld.\n\n", a->method->name, base, a->method->peft_type, a->method->about,
               m->arch->name, (long long)m->hp.layers, (long long)m->hp.dim);
    if (a->card && a->card->steps) put_run(b, a->card);
    buf_puts(b, "## Settings\n\n```json\n");
    settings_write(a, b, &members);
    tokens_write(m, a, b, &members);
    buf_printf(b, "%s\n}\n```\n\n## Use\n\n```python\nfrom peft import PeftModel\n"
               "from transformers import %s\nmodel = PeftModel.from_pretrained(%s.from_pretrained(",
               members ? "" : "{", class, class);
    buf_json(b, base, (int64_t)strlen(base));
    buf_printf(b, "), \"this-folder\")\n```\n\n```c\npeft_adapter_load(model, \"default\", "
               "\"this-folder\");\n```\n\n### Framework versions\n\n- libpeft %d.%d.%d\n",
               PEFT_VERSION / 10000, PEFT_VERSION / 100 % 100, PEFT_VERSION % 100);
}

/* The bytes of a README.md in `dir` that is not ours; n = 0 when there is none. */
static int read_foreign(struct model *m, const char *dir, struct file_view *v)
{
    char *path;
    memset(v, 0, sizeof(*v));
    int rc = path_join(&m->host, dir, "README.md", &path);
    if (rc) return rc;
    if (path_kind(&m->host, path) == 1) rc = file_open_view(&m->host, path, false, v);
    mem_free(&m->host.mem, path);
    const char *text = (const char *)v->data;
    int64_t mark = (int64_t)sizeof(card_mark) - 1;
    for (int64_t i = 0; !rc && i + mark <= v->n; i++)
        if (text[i] == '<' && !memcmp(text + i, card_mark, (size_t)mark)) {
            file_close_view(&m->host, v);
            memset(v, 0, sizeof(*v));
        }
    return rc;
}

int card_write(struct model *m, const struct adapter *a, const char *dir, const char *tmp)
{
    struct file_view v;
    struct buf b;
    char *path;
    int rc = read_foreign(m, dir, &v);
    if (rc || (rc = path_join(&m->host, tmp, "README.md", &path))) return rc;
    buf_init(&b, &m->host.mem);
    if (!v.n) put_card(m, a, &b);
    rc = buf_check(&b);
    if (!rc) rc = file_write(&m->host, path, v.n ? (const char *)v.data : b.data, v.n ? v.n : b.n);
    if (v.n) file_close_view(&m->host, &v);
    buf_free(&b);
    mem_free(&m->host.mem, path);
    return rc;
}
