/* trials.jsonl: the first line tells the search, each other one a run that ended.  The
 * file is written anew with each of them, so that it is always whole. */
#include <math.h>
#include <stdio.h>

#include "judge/tune.h"

static void put_key(struct buf *b, const char *key, double value)
{
    buf_printf(b, ", \"%s\": ", key);
    buf_number(b, value);
}

static void put_run(struct buf *b, const peft_trial *r)
{
    buf_printf(b, "{\"trial\": %d, \"rung\": %d, \"settings\": {", r->trial, r->rung);
    for (int i = 0; i < r->n; i++) {
        buf_printf(b, "%s\"%s\": ", i ? ", " : "", r->name[i]);
        buf_json(b, r->value[i], (int64_t)strlen(r->value[i]));
    }
    buf_puts(b, "}");
    put_key(b, "share", r->share);
    put_key(b, "steps", (double)r->steps);
    put_key(b, "best_step", (double)r->best_step);
    put_key(b, "loss", r->loss);
    put_key(b, "value", r->value_best);
    put_key(b, "seconds", r->seconds);
    buf_printf(b, ", \"ended\": \"%s\", \"best\": %d}\n", r->ended, r->best);
}

static int take_run(struct trials *t, const json *j, const struct space *s)
{
    peft_trial *more = mem_realloc(&t->host->mem, t->run, (t->n + 1) * (int64_t)sizeof(*more));
    int64_t trial = 0, rung = 0, steps = 0, best_step = 0;
    if (!more) return PEFT_ENOMEM;
    t->run = more;
    peft_trial *r = &more[t->n];
    *r = (peft_trial){ .size = sizeof(*r), .n = s->n, .before = 1 };
    int ok = json_int(j, "trial", 0, INT32_MAX, &trial) == 1 &&
             json_int(j, "rung", 0, 64, &rung) == 1 &&
             json_int(j, "steps", 0, INT64_C(1) << 53, &steps) == 1 &&
             json_int(j, "best_step", 0, INT64_C(1) << 53, &best_step) == 1;
    const json *settings = json_get(j, "settings");
    for (int i = 0; i < s->n && ok; i++) {
        const json *v = json_get(settings, s->axis[i].knob->name);
        ok = json_string(v) != NULL;
        r->name[i] = s->axis[i].knob->name;
        if (ok) snprintf(r->value[i], sizeof(r->value[i]), "%s", json_string(v));
    }
    const char *ended = json_string(json_get(j, "ended"));
    if (!ok || !ended)
        return fail(PEFT_EFORMAT, "%s: line %lld is no run of this search", t->path,
                    (long long)t->n + 2);
    r->trial = (int32_t)trial;
    r->rung = (int32_t)rung;
    r->steps = steps;
    r->best_step = best_step;
    r->share = json_number(json_get(j, "share"), NAN);
    r->loss = json_number(json_get(j, "loss"), NAN);
    r->value_best = json_number(json_get(j, "value"), NAN);
    r->seconds = json_number(json_get(j, "seconds"), 0);
    r->best = json_number(json_get(j, "best"), 0) > 0;
    snprintf(r->ended, sizeof(r->ended), "%s", ended);
    t->n++;
    return PEFT_OK;
}

static int take_line(struct trials *t, const char *line, int64_t n, const char *head, int first,
                     const struct space *s)
{
    json *j = NULL;
    int64_t want = (int64_t)strlen(head);
    if (first) {
        if (n == want && !memcmp(line, head, (size_t)n)) return PEFT_OK;
        return fail(PEFT_ESTATE, "%s is of another search: it has %.*s, this one is %s", t->path,
                    (int)MIN(n, 400), line, head);
    }
    int rc = json_parse(line, n, "trials.jsonl", &j);
    if (!rc) rc = take_run(t, j, s);
    json_free(j);
    return rc;
}

static int take_file(struct trials *t, const char *head, const struct space *s)
{
    struct file_view v;
    int rc = file_open_view(t->host, t->path, false, &v);
    if (rc) return rc;
    const char *at = (const char *)v.data, *end = at + v.n, *line;
    int first = 1;
    while (!rc && at < end && (line = memchr(at, '\n', (size_t)(end - at)))) {
        rc = take_line(t, at, line - at, head, first, s);
        first = 0;
        at = line + 1;
    }
    if (!rc) buf_put(&t->text, v.data, at - (const char *)v.data);
    file_close_view(t->host, &v);
    return rc ? rc : buf_check(&t->text);
}

int trials_open(struct trials *t, const char *dir, const char *head, const struct space *s)
{
    buf_init(&t->text, &t->host->mem);
    int rc = path_join(t->host, dir, "trials.jsonl", &t->path);
    if (rc) return rc;
    if (path_kind(t->host, t->path)) return take_file(t, head, s);
    buf_printf(&t->text, "%s\n", head);
    rc = buf_check(&t->text);
    return rc ? rc : file_write(t->host, t->path, t->text.data, t->text.n);
}

int trials_add(struct trials *t, const peft_trial *run)
{
    peft_trial *more = mem_realloc(&t->host->mem, t->run, (t->n + 1) * (int64_t)sizeof(*more));
    if (!more) return PEFT_ENOMEM;
    t->run = more;
    put_run(&t->text, run);
    int rc = buf_check(&t->text);
    if (!rc) rc = file_write(t->host, t->path, t->text.data, t->text.n);
    if (!rc) more[t->n++] = *run;
    return rc;
}

const peft_trial *trials_find(const struct trials *t, int32_t trial, int32_t rung)
{
    for (int64_t i = 0; i < t->n; i++)
        if (t->run[i].trial == trial && t->run[i].rung == rung &&
            strcmp(t->run[i].ended, "budget"))
            return &t->run[i];
    return NULL;
}

void trials_free(struct trials *t)
{
    mem_free(&t->host->mem, t->run);
    mem_free(&t->host->mem, t->path);
    buf_free(&t->text);
}
