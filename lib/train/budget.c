/* Training under a memory limit.
 *
 * What a step computes is given; how it is made is not: a batch may be worked
 * off in parts (the terms of the whole step are one divisor, so that parts sum
 * up to the batch), the first layers may be computed twice, the loss may take
 * fewer rows at a time, and mapped weights may leave memory as soon as they
 * have been read.  Of each combination the graph is planned, which gives its
 * bytes and its work, and the fastest that fits is taken.
 *
 * Between steps the memory of a step is lent to evaluation and generation. */
#include <stdio.h>
#include <stdlib.h>

#include "train/train.h"

enum { MEGA = 1000000 };

/* --- what a manner takes */

/* Most bytes of mapped weights that one operation reads. */
static int64_t largest_read(const struct model *m)
{
    int64_t most = 0;
    for (int64_t i = 0; i < m->n_params; i++)
        if (store_mapped(m->store, m->params[i]->data)) most = MAX(most, param_bytes(m->params[i]));
    return most * (m->hp.experts ? 3 : 1);
}

/* What is there whatever the manner: all but the slab, scratch, features and mapped weights. */
struct constant { int64_t bytes, mapped, lean; };

static int find_fixed(const struct trainer *t, struct constant *f)
{
    enum { AROUND = 256 << 10 };         /* pages beside those that were asked for */
    enum { SLACK = 2 * MEGA };           /* what differs from run to run */
    peft_plan p = { 0 };
    int rc = trainer_plan(t, &p);
    f->mapped = trainer_mapped(t);
    f->lean = MIN(f->mapped, largest_read(t->m) + AROUND);
    f->bytes = p.peak - p.activations - p.scratch - p.features - f->mapped + SLACK;
    return rc;
}

static int64_t bytes_of(const struct trainer *t, const struct constant *f)
{
    return f->bytes + (t->how.lean ? f->lean : f->mapped) + MAX(t->slab, t->eval_slab) +
           t->scratch * pool_threads(t->m->pool) + t->panels +
           prefix_bytes(&t->prefix, &t->max);
}

/* Values of a frozen part: those that are kept, and a batch's. */
static int64_t kept_bytes(const struct trainer *t)
{
    return t->prefix.on ? t->prefix.train.cap * 4 : 0;
}

/* --- the search */

struct fitting {
    struct trainer *t;
    struct constant fixed;
    int64_t limit, layers;
    int free;                            /* the policy is not the user's */
    struct manner best;
    double seconds;                      /* of the best; < 0 = none yet */
    int64_t bytes, cache;                /* cache: of a frozen part's values, of these bytes */
};

static int size_with(struct fitting *s, enum recompute policy)
{
    s->t->how.policy = policy;
    return trainer_size(s->t);
}

/* The fewest layers made twice with which the present manner fits: memory falls with their
 * number while time rises.  0 = none does, 1 = it is set and planned. */
static int fewest_layers(struct fitting *s)
{
    enum recompute low = s->t->how.policy;
    int64_t lo = RECOMPUTE_CHEAP, hi = s->layers;
    int rc = size_with(s, s->free ? RECOMPUTE_CHEAP : low);
    if (rc || bytes_of(s->t, &s->fixed) <= s->limit) return rc ? rc : 1;
    if (!s->free || !hi) return 0;
    if ((rc = size_with(s, (enum recompute)hi))) return rc;
    if (bytes_of(s->t, &s->fixed) > s->limit) return 0;
    while (hi - lo > 1) {
        int64_t mid = (lo + hi) / 2;
        if ((rc = size_with(s, (enum recompute)mid))) return rc;
        if (bytes_of(s->t, &s->fixed) <= s->limit) hi = mid;
        else lo = mid;
    }
    rc = size_with(s, (enum recompute)hi);
    return rc ? rc : bytes_of(s->t, &s->fixed) <= s->limit;
}

static int try_manner(struct fitting *s)
{
    int rc = fewest_layers(s);
    if (rc != 1) return rc;
    double seconds = predict_step(s->t);
    if (s->seconds >= 0 && seconds >= s->seconds) return PEFT_OK;
    s->seconds = seconds;
    s->best = s->t->how;
    s->bytes = bytes_of(s->t, &s->fixed);
    s->cache = kept_bytes(s->t);
    return PEFT_OK;
}

/* Cuts batches into about so many parts. */
static void cut_into(struct trainer *t, int64_t parts)
{
    t->how.parts = batcher_cut(t->batcher, (int32_t)MIN(parts, t->o.batch));
    batcher_max(t->batcher, t->epochs, &t->max);
}

static int64_t most_parts(const struct trainer *t)
{
    int64_t most = MAX(UINT16_MAX / t->o.accumulate, 1);
    /* The longest text may decide on the frequencies of all of its batch. */
    return objective_compares(t->objective) || rope_by_length(t->m) ? 1 : MIN(t->o.batch, most);
}

static const int64_t chunk_bytes[] = { 0, 8 << 20, 1 << 20 };

static int try_all(struct fitting *s)
{
    struct trainer *t = s->t;
    int64_t most = most_parts(t);
    for (int64_t parts = 1, last = 0; parts != last; last = parts, parts = MIN(2 * parts, most)) {
        cut_into(t, parts);
        for (size_t c = 0; c < ARRAY_LEN(chunk_bytes); c++)
            for (int lean = 0; lean <= (s->fixed.lean < s->fixed.mapped); lean++) {
                t->how = (struct manner){ t->how.parts, t->how.policy, chunk_bytes[c], lean };
                int rc = try_manner(s);
                if (rc) return rc;
                /* Nothing has been given up, so nothing is faster. */
                if (s->seconds >= 0 && s->best.parts == 1 && s->best.policy <= RECOMPUTE_CHEAP &&
                    !s->best.lean && !s->best.chunks)
                    return PEFT_OK;
            }
    }
    return PEFT_OK;
}

/* Megabytes by which a process differs from the next one that does the same. */
enum { VARIES = 2 };

/* The least memory of all manners: that of the smallest parts, or nearly so. */
static int find_least(struct fitting *s)
{
    struct trainer *t = s->t;
    enum recompute wished = t->how.policy;
    int64_t least = INT64_MAX, cache = t->prefix.limit;
    cut_into(t, most_parts(t));
    t->prefix.limit = 0;
    t->how.chunks = chunk_bytes[ARRAY_LEN(chunk_bytes) - 1];
    t->how.lean = 1;
    for (int k = 0; k <= s->free; k++) {
        int rc = size_with(s, k ? RECOMPUTE_LAYERS : wished);
        if (rc) return rc;
        least = MIN(least, bytes_of(s->t, &s->fixed));
    }
    t->prefix.limit = cache;
    t->how.policy = wished;
    t->least = (div_up(MAX(least, os_rss_peak()), MEGA) + VARIES) * MEGA;
    return PEFT_OK;
}

static int too_tight(const struct trainer *t, const struct constant *f)
{
    return fail(PEFT_ENOMEM, "a memory limit of %lld bytes is too small: the smallest that works "
                "is %lldM, of which %lldM are not the step's own",
                (long long)t->o.memory_limit, (long long)(t->least / MEGA),
                (long long)div_up(f->bytes + f->lean, MEGA));
}

/* --- what was chosen */

static void tell_choice(struct trainer *t, const struct fitting *s, double without, int64_t bytes)
{
    const struct manner *h = &t->how;
    char *to = t->choice;
    size_t cap = sizeof t->choice, n = 0;
    int64_t part = div_up(t->o.batch, h->parts);
    n += (size_t)snprintf(to, cap, "%lld of %d %s at a time", (long long)part, t->o.batch,
                          t->o.packing ? "packs" : "examples");
    if (h->policy > RECOMPUTE_CHEAP)
        n += (size_t)snprintf(to + n, cap - n, ", %lld of %lld layers computed twice",
                              (long long)MIN(h->policy, s->layers), (long long)s->layers);
    if (h->chunks) n += (size_t)snprintf(to + n, cap - n, ", loss in small chunks");
    if (h->lean) n += (size_t)snprintf(to + n, cap - n, ", weights leave memory once read");
    if (t->prefix.on)
        n += (size_t)snprintf(to + n, cap - n, ", %.0f MB of frozen outputs kept",
                              (double)kept_bytes(t) / MEGA);
    snprintf(to + n, cap - n, ": %.0f MB, %.0f %% of the speed without a limit (%.0f MB)",
             (double)s->bytes / MEGA, 100 * without / MAX(s->seconds, 1e-12),
             (double)bytes / MEGA);
}

/* A manner and the bytes of kept values as text, "parts/policy/chunks/lean/bytes". */
static void write_manner(const struct manner *h, int64_t cache, char *to, size_t cap)
{
    snprintf(to, cap, "%d/%d/%lld/%d/%lld", (int)h->parts, (int)h->policy, (long long)h->chunks,
             (int)h->lean, (long long)cache);
}

static int read_manner(struct fitting *s, const char *text)
{
    int64_t v[5] = { 0 };
    const char *at = text;
    int slashes = 0;
    for (size_t i = 0; i < ARRAY_LEN(v) && *at; i++) {
        char *end;
        v[i] = strtoll(at, &end, 10);
        slashes += *end == '/';
        at = end + (*end == '/');
    }
    s->best = (struct manner){ (int32_t)v[0], (enum recompute)v[1], v[2], v[3] == 1 };
    s->cache = v[4];
    if (!*at && slashes == 4 && v[0] > 0 && v[0] <= most_parts(s->t) && v[1] >= RECOMPUTE_NONE &&
        v[1] <= RECOMPUTE_LAYERS && v[2] >= 0 && v[4] >= 0)
        return PEFT_OK;
    return fail(PEFT_EARG, "manner \"%s\", expected that of a plan of this run", text);
}

/* The chosen manner is made the trainer's, with a batcher of the right size. */
static int settle(struct trainer *t, struct fitting *s)
{
    t->how = s->best;
    batcher_free(t->batcher);
    int rc = trainer_batches(t);
    if (rc) return rc;
    batcher_max(t->batcher, t->epochs, &t->max);
    if (t->prefix.on) t->prefix.limit = s->cache;
    if ((rc = trainer_size(t))) return rc;
    t->prefix.limit = kept_bytes(t);         /* nothing beside it is kept of other data */
    write_manner(&t->how, s->cache, t->manner, sizeof t->manner);
    t->held = s->fixed.lean;
    s->seconds = predict_step(t);
    s->bytes = bytes_of(t, &s->fixed);
    int64_t room = MAX(s->limit - s->bytes, 0) + MAX(t->slab, t->eval_slab);
    graph_limit(t->graph, room);
    t->m->limited = (struct limited){ t->graph, room, t->how.chunks, t->how.lean };
    return PEFT_OK;
}

static int64_t count_layers(const struct model *m)
{
    return MAX(m->stack[STACK_MAIN].end, m->stack[STACK_ENCODER].end);
}

/* Values of a frozen part save more than anything else costs, but for recomputing: what does
 * not fit of them is computed in each epoch. */
static int try_caches(struct fitting *s)
{
    struct trainer *t = s->t;
    int rc;
    for (;;) {
        if ((rc = try_all(s)) || s->seconds >= 0 || !t->prefix.limit) return rc;
        t->prefix.limit = t->prefix.limit > MEGA ? t->prefix.limit / 2 : 0;
    }
}

int budget_choose(struct trainer *t)
{
    struct fitting s = { .t = t, .limit = t->o.memory_limit, .layers = count_layers(t->m),
                        .free = t->o.recompute == PEFT_RECOMPUTE_AUTO, .seconds = -1 };
    if (!t->o.memory_limit) return PEFT_OK;
    int rc = predict_begin(t);
    if (!rc) rc = trainer_size(t);
    if (!rc) rc = find_fixed(t, &s.fixed);
    if (rc) return rc;
    double without = predict_step(t);
    int64_t bytes = bytes_of(t, &s.fixed), kept = kept_bytes(t);
    rc = find_least(&s);
    if (!rc && s.limit < t->least - VARIES * MEGA) return too_tight(t, &s.fixed);
    if (!rc) t->prefix.limit = kept;
    if (!rc) rc = t->o.manner ? read_manner(&s, t->o.manner) : try_caches(&s);
    if (!rc && s.seconds < 0 && !t->o.manner) return too_tight(t, &s.fixed);
    if (!rc) rc = settle(t, &s);
    if (!rc && s.bytes - VARIES * MEGA > s.limit) return too_tight(t, &s.fixed);
    if (!rc) tell_choice(t, &s, without, bytes);
    return rc;
}

/* --- while training */

/* Pages that have been touched so far leave as well. */
void budget_begin(struct trainer *t)
{
    struct model *m = t->m;
    if (!t->how.lean) return;
    for (int64_t i = 0; i < m->n_params; i++)
        store_forget(m->store, m->params[i]->data, param_bytes(m->params[i]));
    graph_on_read(t->graph, model_forget, m);
}

void budget_lend(struct trainer *t)
{
    if (t->o.memory_limit) t->m->limited.idle = t->graph;
}

/* A step in flight keeps its memory, beside which inference has little. */
void budget_take(struct trainer *t)
{
    struct model *m = t->m;
    if (!t->o.memory_limit) return;
    m->limited.idle = NULL;
    if (m->graph) graph_release(m->graph);
}

void budget_end(struct trainer *t)
{
    if (t->o.memory_limit) t->m->limited = (struct limited){ 0 };
}
