/* Back-translation (Sennrich et al. 2016): what comes back from another language says the
 * same in other words. */
#include "prep/augment.h"

static const struct { const char *name[2]; } defaults[] = {
    {{"Translate into French. Answer with the translation only.\n\n{text}",
      "Translate into English. Answer with the translation only.\n\n{text}"}},
    {{"translate English to French: {text}", "translate French to English: {text}"}},
};

/* The prompt with the text in its place. */
static char *fill(struct arena *a, const char *prompt, const char *text)
{
    static const char slot[] = "{text}";
    const char *at = strstr(prompt, slot);
    size_t n = at ? (size_t)(at - prompt) : strlen(prompt), k = strlen(text);
    const char *rest = at ? at + strlen(slot) : "";
    char *s = arena_alloc(a, (int64_t)(n + k + strlen(rest)) + 1);
    if (!s) return NULL;
    memcpy(s, prompt, n);
    memcpy(s + n, text, k);
    memcpy(s + n + k, rest, strlen(rest));
    return s;
}

/* An answer in the making; each piece of it is a chance to be cancelled. */
struct inquiry {
    peft_message message;
    peft_generate_opts opts;
    struct buf said;
    const peft_source_opts *source;
    bool *cancelled;
};

static int32_t on_text(void *ctx, const char *piece, size_t n)
{
    struct inquiry *q = ctx;
    buf_put(&q->said, piece, (int64_t)n);
    if (q->source->progress && q->source->progress(q->source->ctx, 0, 0)) *q->cancelled = true;
    return q->said.oom || *q->cancelled;
}

/* Without the space around it. */
static int keep_answer(struct arena *a, struct buf *b, const char **out)
{
    const char *s = buf_str(b);
    int64_t n = b->n;
    while (n && strchr(" \n\t\r", s[n - 1])) n--;
    while (n && strchr(" \n\t\r", *s)) s++, n--;
    *out = arena_strndup(a, s, n);
    return *out ? buf_check(b) : PEFT_ENOMEM;
}

/* A text that is too long for the model has no answer; when none has one, the reason is
 * told. */
static int ask_each(peft_model *model, const peft_request *r, struct inquiry *q, int32_t n)
{
    int32_t answered = 0, rc = PEFT_OK;
    for (int32_t i = 0; i < n; i++) {
        buf_clear(&q[i].said);
        int32_t failed = peft_generate_batch(model, &r[i], 1, 1);
        if (failed < 0 && failed != PEFT_EARG) return kit_failed(failed);
        if (failed < 0) rc = kit_failed(failed);
        answered += failed >= 0;
    }
    return answered ? PEFT_OK : rc;
}

/* Empty texts have empty answers. */
static int ask_all(const struct augment_run *a, peft_model *model, const char *prompt,
                   const char *const *texts, int32_t n, struct arena *arena, const char **out)
{
    const peft_augment_opts *o = &a->o;
    bool cancelled = false;
    peft_generate_opts plain = {.size = sizeof plain};
    peft_request *r = arena_alloc(arena, n * (int64_t)sizeof *r);
    struct inquiry *q = arena_alloc(arena, n * (int64_t)sizeof *q);
    int32_t *of = arena_alloc(arena, n * (int64_t)sizeof *of), asked = 0;
    int rc = r && q && of ? take_options(&plain, sizeof plain, o->generate) : PEFT_ENOMEM;
    for (int32_t i = 0; i < n && !rc; i++) {
        struct inquiry *x = &q[asked];
        const char *text = fill(arena, prompt, texts[i]);
        if (!text) rc = PEFT_ENOMEM;
        else if (*texts[i]) {
            buf_init(&x->said, arena->mem);
            x->opts = plain;
            x->opts.on_text = on_text;
            x->opts.ctx = x;
            x->source = &a->source;
            x->cancelled = &cancelled;
            x->message = (peft_message){"user", text};
            r[asked] = (peft_request){.size = sizeof *r, .messages = &x->message, .n = 1,
                                      .opts = &x->opts};
            of[asked++] = i;
        }
        out[i] = "";
    }
    if (!rc && asked) {
        rc = peft_generate_batch(model, r, asked, o->batch);
        if (rc == PEFT_EARG) rc = ask_each(model, r, q, asked);
        else if (rc < 0) kit_failed(rc);
        if (rc < 0) fail_in(rc, "back-translation: ");
        if (cancelled) rc = fail(PEFT_ECANCELLED, "cancelled");
    }
    for (int32_t i = 0; i < asked; i++) {
        if (rc >= 0) rc = keep_answer(arena, &q[i].said, &out[of[i]]);
        buf_free(&q[i].said);
    }
    return MIN(rc, PEFT_OK);
}

int translate_texts(const struct augment_run *a, const char *const *texts, int32_t n,
                    struct arena *arena, const char **out)
{
    const peft_augment_opts *o = &a->o;
    peft_model *model[2] = {o->through, o->back ? o->back : o->through};
    const char *prompt[2] = {o->through_prompt, o->back_prompt};
    for (int k = 0; k < 2; k++) {
        peft_info info = {.size = sizeof info};
        int rc = peft_model_info(model[k], &info);
        if (rc < 0) return kit_failed(rc);
        if (!prompt[k]) prompt[k] = defaults[info.encoder_layers > 0].name[k];
        if (!*prompt[k]) break;
        rc = ask_all(a, model[k], prompt[k], texts, n, arena, out);
        if (rc) return rc;
        texts = out;
    }
    return PEFT_OK;
}
