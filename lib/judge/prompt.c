/* Prompts as ids.  Examples are earlier turns where the model has a chat template, else
 * texts before; of those asked for, as many as there is room for. */
#include <stdlib.h>

#include "judge/board.h"

void prompt_init(struct prompt *p, struct mem *mem)
{
    *p = (struct prompt){ .answer_at = 0 };
    ids_init(&p->ids, mem);
}
void prompt_free(struct prompt *p) { ids_free(&p->ids); }

/* A conversation in the making: its turns, and the strings that were made for it. */
struct turns { peft_message *v; int32_t n; struct arena arena; };

static const char *joined(struct turns *t, const char *format, const char *a, const char *b)
{
    struct buf text;
    buf_init(&text, t->arena.mem);
    buf_printf(&text, format, a, b);
    char *s = buf_check(&text) ? NULL : arena_strndup(&t->arena, buf_str(&text), text.n);
    buf_free(&text);
    return s;
}

/* "Which of these is it: A, B or C?" */
static const char *question_of(const struct peft_board *j, struct turns *t)
{
    struct buf b;
    if (j->question) return j->question;
    buf_init(&b, t->arena.mem);
    buf_puts(&b, "Which of these is it: ");
    for (int32_t i = 0; i < j->n_labels; i++)
        buf_printf(&b, "%s%s", !i ? "" : i + 1 < j->n_labels ? ", " : " or ", j->labels[i]);
    buf_puts(&b, "?");
    char *s = buf_check(&b) ? NULL : arena_strndup(&t->arena, buf_str(&b), b.n);
    buf_free(&b);
    return s;
}

/* A row's own turns without a system message of its own, which is only the first. */
static int add_turns(const struct peft_board *j, struct turns *t, const struct ask *a)
{
    for (int32_t i = 0; i < a->n; i++) {
        peft_message m = a->messages[i];
        if (!strcmp(m.role, "system") && t->n) continue;
        if (a->kind == ASK_CLASS && i == a->n - 1) {
            const char *question = question_of(j, t);
            m.content = question ? joined(t, "%s\n\n%s", m.content, question) : NULL;
            if (!m.content) return PEFT_ENOMEM;
        }
        t->v[t->n++] = m;
    }
    return PEFT_OK;
}

/* The whole conversation as text: turns for the model's template, or lines. */
static int chat_text(const struct peft_board *j, const peft_model *m, const struct ask *row,
                     const struct ask *const *shots, int32_t n, const char *answer, struct buf *out)
{
    struct turns t = { NULL, 0, { 0 } };
    int64_t cap = row->n + 2;
    for (int32_t i = 0; i < n; i++) cap += shots[i]->n + 1;
    arena_init(&t.arena, out->mem);
    int rc = (t.v = arena_alloc(&t.arena, cap * (int64_t)sizeof(*t.v))) ? PEFT_OK : PEFT_ENOMEM;
    if (!rc && n && !strcmp(row->messages[0].role, "system")) t.v[t.n++] = row->messages[0];
    for (int32_t i = 0; i < n && !rc; i++) {
        rc = add_turns(j, &t, shots[i]);
        t.v[t.n++] = (peft_message){ "assistant", shots[i]->answer };
    }
    if (!rc) rc = add_turns(j, &t, row);
    if (!rc && answer) t.v[t.n++] = (peft_message){ "assistant", answer };
    int64_t bytes = rc ? 0 : peft_chat_render(m, t.v, t.n, !answer, NULL, 0);
    char *text = bytes > 0 ? arena_alloc(&t.arena, bytes + 1) : NULL;
    if (!rc && bytes < 0) rc = kit_failed((int32_t)bytes);
    if (!rc && bytes > 0 && !text) rc = PEFT_ENOMEM;
    if (!rc && text && (bytes = peft_chat_render(m, t.v, t.n, !answer, text, bytes)) > 0)
        buf_put(out, text, bytes);
    arena_free(&t.arena);
    return rc ? rc : buf_check(out);
}

static void plain_ask(const struct ask *a, const char *answer, struct buf *out)
{
    for (int32_t i = 0; i < a->n; i++)
        if (a->kind == ASK_RAW) buf_puts(out, a->messages[i].content);
        else
            buf_printf(out, "%s: %s\n", a->kind == ASK_CLASS ? "Text" : a->messages[i].role,
                       a->messages[i].content);
    if (a->kind != ASK_RAW) buf_puts(out, a->kind == ASK_CLASS ? "Label:" : "assistant:");
    if (answer) buf_printf(out, "%s%s%s", a->kind == ASK_RAW ? "" : " ", answer,
                           a->kind == ASK_CLASS ? "\n" : "");
}

static int plain_text(const struct ask *row, const struct ask *const *shots, int32_t n,
                      const char *answer, struct buf *out)
{
    for (int32_t i = 0; i < n; i++) {
        plain_ask(shots[i], shots[i]->answer, out);
        buf_puts(out, "\n\n");
    }
    plain_ask(row, answer, out);
    return buf_check(out);
}

static int encode(const peft_model *m, struct buf *text, int whole, struct ids *out)
{
    peft_info info = { .size = sizeof(info) };
    int32_t rc = peft_model_info(m, &info);
    int64_t n = rc ? rc : peft_tokenize(m, buf_str(text), (size_t)text->n, PEFT_TOK_SPECIAL, NULL,
                                        0);
    if (n < 0) return kit_failed((int32_t)n);
    out->n = 0;
    for (int64_t i = 0; i < n; i++) ids_push(out, 0);
    if (ids_check(out)) return PEFT_ENOMEM;
    peft_tokenize(m, buf_str(text), (size_t)text->n, PEFT_TOK_SPECIAL, out->v, n);
    if (!whole && out->n > 1 && out->v[out->n - 1] == info.eos) out->n--;
    if (out->n > 1 && out->v[0] == info.bos && out->v[1] == info.bos)   /* the template's too */
        memmove(out->v, out->v + 1, (size_t)(--out->n) * sizeof(*out->v));
    return PEFT_OK;
}

static int by_draw(const void *a, const void *b)
{
    const struct ask *x = *(const struct ask *const *)a, *y = *(const struct ask *const *)b;
    return (x > y) - (x < y);
}

/* Examples of the row's kind in the order in which they were drawn; those of classes are
 * taken by turns, one of each label. */
static int32_t choose(const struct peft_board *j, const struct ask *row, int32_t n,
                      const struct ask **out)
{
    int32_t found = 0;
    for (int64_t round = 0; found < n; round++) {
        int32_t before = found;
        for (int32_t label = 0; label < MAX(j->n_labels, 1) && found < n; label++) {
            int64_t skip = round;
            for (int64_t i = 0; i < j->shots.n; i++) {
                const struct ask *a = &j->shots.v[i];
                if (a->kind != row->kind) continue;
                if (a->kind == ASK_CLASS && strcmp(a->answer, j->labels[label]) != 0) continue;
                if (skip-- > 0) continue;
                out[found++] = a;
                break;
            }
            if (row->kind != ASK_CLASS) break;
        }
        if (found == before) break;
    }
    qsort(out, (size_t)found, sizeof(*out), by_draw);
    return found;
}

static int text_ids(struct peft_board *j, const peft_model *m, const struct ask *row,
                    const struct ask *const *shots, int32_t n, const char *answer, struct ids *out)
{
    peft_info info = { .size = sizeof(info) };
    struct buf text;
    int rc = peft_model_info(m, &info);
    if (rc) return kit_failed(rc);
    buf_init(&text, out->mem);
    rc = info.has_chat_template && row->kind != ASK_RAW
             ? chat_text(j, m, row, shots, n, answer, &text)
             : plain_text(row, shots, n, answer, &text);
    if (!rc) rc = encode(m, &text, answer != NULL, out);
    buf_free(&text);
    return rc;
}

int prompt_make(struct peft_board *j, const peft_model *m, const struct ask *row, int32_t shots,
                const char *answer, int64_t room, struct prompt *out)
{
    struct mem *mem = &j->host.mem;
    const struct ask **list = mem_array(mem, MAX(shots, 1), sizeof(*list));
    struct ids before;
    if (!list) return PEFT_ENOMEM;
    ids_init(&before, mem);
    int32_t n = choose(j, row, shots, list);
    int rc = text_ids(j, m, row, list, n, answer, &out->ids);
    while (!rc && n && out->ids.n > room) rc = text_ids(j, m, row, list, --n, answer, &out->ids);
    if (!rc && answer) rc = text_ids(j, m, row, list, n, NULL, &before);
    out->answer_at = answer ? 0 : out->ids.n;
    while (answer && out->answer_at < MIN(before.n, out->ids.n - 1) &&
           before.v[out->answer_at] == out->ids.v[out->answer_at])
        out->answer_at++;
    out->shots = n;
    ids_free(&before);
    mem_free(mem, list);
    return rc;
}
