/* Making a trainer: options checked and filled in, what trains found by
 * building the largest batch's graph, memory known before anything runs. */
#include <math.h>
#include <stdio.h>

#include "train/train.h"

/* --- options */

static int check_options(struct trainer *t)
{
    peft_train_opts *o = &t->o;
    const char *optimizer = o->optimizer ? o->optimizer : "adamw";
    const char *schedule = o->schedule ? o->schedule : "cosine";
    const char *states = o->optimizer_states ? o->optimizer_states : "f32";
    for (int i = 0; optimizers[i]; i++)
        if (!strcmp(optimizers[i]->name, optimizer)) t->optimizer = optimizers[i];
    for (int i = 0; schedules[i]; i++)
        if (!strcmp(schedules[i]->name, schedule)) t->schedule = schedules[i];
    if (!t->optimizer) return fail(PEFT_EARG, "optimizer \"%s\", expected adamw", optimizer);
    if (!(t->storage = storage_for(states)))
        return fail(PEFT_EARG, "optimizer states \"%s\", expected f32, bf16 or 8bit", states);
    if (!t->schedule)
        return fail(PEFT_EARG, "schedule \"%s\", expected cosine, linear, constant or exponential",
                    schedule);
    if (o->beta1 == 0) o->beta1 = 0.9f;
    if (o->beta2 == 0) o->beta2 = 0.999f;
    if (o->eps == 0) o->eps = 1e-8f;
    if (o->clip == 0) o->clip = 1.0f;
    if (o->batch == 0) o->batch = 4;
    if (o->accumulate == 0) o->accumulate = 1;
    if (o->epochs == 0) o->epochs = o->steps > 0 ? INT32_MAX : 1;
    if (!(o->beta1 > 0 && o->beta1 < 1 && o->beta2 > 0 && o->beta2 < 1 && o->eps > 0 &&
          o->eps < 1))
        return fail(PEFT_EARG,
                    "beta1 %g, beta2 %g, eps %g, expected numbers within 0 and 1",
                    (double)o->beta1, (double)o->beta2, (double)o->eps);
    if (!(o->lr >= 0 && o->lr < 1e6f && o->weight_decay >= 0 && o->weight_decay < 1e6f &&
          o->warmup >= 0 && o->warmup < 1e9f && isfinite(o->clip)))
        return fail(PEFT_EARG, "learning rate %g, weight decay %g, warm-up %g, expected 0 or more",
                    (double)o->lr, (double)o->weight_decay, (double)o->warmup);
    if (o->batch < 1 || o->accumulate < 1 || o->epochs < 1 || o->steps < 0 ||
        o->accumulate > 1 << 15 || o->max_len < 0)
        return fail(PEFT_EARG, "batch %d, accumulate %d, epochs %d, steps %d, max_len %d, expected "
                    "1 or more", o->batch, o->accumulate, o->epochs, o->steps, o->max_len);
    if (!o->steps && o->epochs > 1 << 24)
        return fail(PEFT_EARG, "%d epochs, expected at most %d", o->epochs, 1 << 24);
    if (!(o->scale >= 0 && o->scale < 1e6f && o->margin >= 0 && o->margin < 1e6f))
        return fail(PEFT_EARG, "scale %g, margin %g, expected 0 or more", (double)o->scale,
                    (double)o->margin);
    if (o->memory_limit < 0)
        return fail(PEFT_EARG, "memory_limit %lld, expected 0 or more",
                    (long long)o->memory_limit);
    if (o->recompute < 0 || o->recompute > PEFT_RECOMPUTE_LAYERS)
        return fail(PEFT_EARG, "recompute %d, expected a PEFT_RECOMPUTE value", o->recompute);
    return PEFT_OK;
}

static enum recompute wished_policy(const struct trainer *t)
{
    switch (t->o.recompute) {
    case PEFT_RECOMPUTE_NONE: return RECOMPUTE_NONE;
    case PEFT_RECOMPUTE_LAYERS: return RECOMPUTE_LAYERS;
    default: return RECOMPUTE_CHEAP;
    }
}

/* Steps of the run: batches of an epoch in groups of `accumulate`, the last
 * group may be smaller.  Each epoch is packed anew, which takes its time: far
 * ahead, a limit by `steps` stands for the count, and epochs have one step. */
static int count_steps(struct trainer *t)
{
    int given = t->o.epochs < INT32_MAX;
    int64_t epoch = 0, ahead = (1 << (given ? 26 : 22)) / t->d->n + 1;
    t->steps = 0;
    while (epoch < t->o.epochs && (!t->o.steps || t->steps < t->o.steps)) {
        int64_t n = div_up(batcher_count(t->batcher, epoch), t->o.accumulate);
        int64_t left = t->o.epochs - epoch;
        /* Without packing all epochs have the same number of batches. */
        int64_t same = t->o.packing ? 1
                       : t->o.steps ? MIN(left, div_up(t->o.steps - t->steps, n))
                                    : left;
        if (t->o.packing && epoch >= ahead && given)
            return fail(PEFT_EARG, "%d epochs of packing are too many to be planned, expected a "
                        "number of steps instead", t->o.epochs);
        if (t->o.packing && epoch >= ahead) n = same = t->o.steps - t->steps;
        t->steps += t->o.packing ? n : n * same;
        epoch += same;
    }
    if (t->o.steps) t->steps = MIN(t->steps, t->o.steps);
    t->epochs = epoch;
    return PEFT_OK;
}

/* --- the largest batch, with arbitrary content */

struct dummy { struct batch b; int32_t *zeros, *start, *rows; float *targets; };

/* Sequences of equal length; with two stacks the first half of them has the
 * most tokens of sources, the other half those of targets.  What counts of a
 * sequence is its end, as answers are, from where attention reaches furthest. */
static int make_dummy(struct trainer *t, struct arena *a, const struct batch_size *size,
                      struct dummy *d)
{
    int two = t->m->stack[STACK_ENCODER].end > 0;
    int64_t seqs = size->seqs, half = two ? seqs / 2 : 0;
    int64_t tokens[2] = { size->first, two ? size->others : size->tokens };
    int64_t all = two ? tokens[0] + tokens[1] : tokens[1];
    int64_t n = MAX(all, MAX(size->targets, 2 * seqs)) + 1, each = half ? tokens[0] / half : 0;
    d->zeros = arena_alloc(a, n * 4);
    d->start = arena_alloc(a, (seqs + 1) * 4);
    d->rows = arena_alloc(a, n * 4);
    int64_t n_rows = seqs / t->d->texts, width = 0;
    if (t->d->task == TASK_MULTI) width = t->d->n_labels;
    d->targets = arena_alloc(a, (n_rows * width + 1) * 4);
    if (!d->zeros || !d->start || !d->rows || !d->targets) return PEFT_ENOMEM;
    for (int64_t s = 0; s < half; s++) d->start[s] = (int32_t)(s * each);
    each = tokens[1] / (seqs - half);
    int64_t first = all - tokens[1];
    for (int64_t s = half; s < seqs; s++) d->start[s] = (int32_t)(first + (s - half) * each);
    d->start[seqs] = (int32_t)all;
    int64_t counted = MAX(div_up(size->targets, seqs - half), 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t s = half + MIN(i / counted, seqs - half - 1), back = counted - 1 - i % counted;
        d->rows[i] = (int32_t)MAX(d->start[s + 1] - 1 - back % MAX(each, 1), first);
    }
    d->b = (struct batch){ .n = all,
                           .n_rows = n_rows,
                           .n_seq = seqs,
                           .ids = d->zeros,
                           .pos = d->zeros, .types = d->zeros,
                           .start = d->start,
                           .rows = d->rows,
                           .target = d->zeros,
                           .n_target = size->targets,
                           .label = d->zeros,
                           .value = (const float *)d->zeros,
                           .targets = d->targets, .span = d->rows,
                           .example = d->zeros, .same = d->zeros };
    return PEFT_OK;
}

static void take_max(struct trainer *t, const struct plan_report *r)
{
    t->slab = MAX(t->slab, r->slab);
    t->scratch = MAX(t->scratch, r->scratch);
    t->panels = MAX(t->panels, MAX(r->panels, PANELS_MIN));
    t->flops = MAX(t->flops, r->flops);
}

/* Weights of the model that are no float copies, and will be none: mapped ones are
 * forgotten as soon as their copy is made. */
static int is_as_stored(const struct trainer *t, const struct param *p)
{
    if (p->own) return 0;
    for (int64_t i = 0; i < t->n_list; i++)
        if (t->list[i].p == p) return !store_mapped(t->m->store, p->data);
    return 1;
}

/* Weights as they are held, of mapped files or not. */
static int64_t weight_bytes(const struct trainer *t, bool mapped)
{
    const struct model *m = t->m;
    int64_t bytes = 0;
    struct param *p;
    for (int64_t i = 0; (p = model_nth_param(m, i)); i++)
        if (p->counted && is_as_stored(t, p) && store_mapped(m->store, p->data) == mapped)
            bytes += param_bytes(p);
    return bytes;
}

int64_t trainer_mapped(const struct trainer *t) { return weight_bytes(t, true); }

/* The same of time: of the graph of each batch, or of that below the cut.  Pages of weights
 * that left memory come back. */
static double graph_time(const struct trainer *t, const struct plan_report *r)
{
    if (!t->pace) return 0;
    double mapped = (double)weight_bytes(t, true), all = mapped + (double)weight_bytes(t, false);
    return pace_plan(t->pace, t->graph) +
           (t->how.lean ? pace_mapped(r->frozen * mapped / MAX(all, 1)) : 0);
}

/* Whether what is frozen is worth keeping: only then are tables made. */
static int plan_prefix(struct trainer *t, const struct tensor *features)
{
    struct prefix *x = &t->prefix;
    const char *no = t->o.feature_cache < 0 ? "it was not wanted"
                     : t->epochs < 2 && !x->path ? "no example is seen twice"
                     : rope_by_length(t->m) ? "positions depend on the other texts of a batch"
                     : t->augment.on ? "pictures are drawn anew for each epoch"
                     : t->d->masks ? "masks are drawn anew for each epoch"
                                   : NULL;
    prefix_find(x, &t->pass, features);
    if (x->on && !no)
        return t->has_tables ? PEFT_OK : prefix_rows(x, t->d, &t->max, x->limit, &x->train);
    if (!x->on) return PEFT_OK;
    x->on = 0;
    x->why = no;
    return PEFT_OK;
}

/* Steps are cut in two graphs then: up to the cut, and from there on. */
static int plan_parts(struct trainer *t, const struct batch *b, struct arena *a)
{
    struct plan_report report;
    struct dummy d;
    int rc = pass_begin(&t->pass);
    if (rc) return rc;
    struct tensor *x = prefix_cut(&t->prefix, &t->pass, b, NULL);
    x = objective_loss(t->objective, &t->pass, b, x, 1.0f, NULL);
    if ((rc = graph_plan(t->graph, x, t->how.policy, &report))) return rc;
    take_max(t, &report);
    t->each = graph_time(t, &report);
    if ((rc = make_dummy(t, a, &t->prefix.train.room, &d))) return rc;
    batch_pass(&t->pass, &d.b, t->d->max_len);
    if ((rc = pass_begin(&t->pass))) return rc;
    prefix_below(&t->prefix, &t->pass, &d.b);
    rc = graph_plan(t->graph, NULL, RECOMPUTE_NONE, &report);
    if (rc) return rc;
    take_max(t, &report);
    t->once = graph_time(t, &report);
    return PEFT_OK;
}

/* Plans the graphs that a step builds; finds what trains and what lies below. */
static int plan_graphs(struct trainer *t, const struct batch *b, struct arena *a)
{
    struct plan_report report;
    int rc;
    batch_pass(&t->pass, b, t->d->max_len);
    t->pass.training = 1;
    if ((rc = pass_begin(&t->pass))) return rc;
    struct tensor *x = t->objective->features(&t->pass, b);
    if ((rc = plan_prefix(t, x))) return rc;
    x = objective_loss(t->objective, &t->pass, b, x, 1.0f, NULL);
    if (x && !x->needs_grad) return PEFT_OK;                  /* nothing trains: said later */
    rc = graph_plan(t->graph, x, t->how.policy, &report);
    if (rc || t->prefix.on) return rc ? rc : plan_parts(t, b, a);
    take_max(t, &report);
    t->each = graph_time(t, &report);
    return PEFT_OK;
}

/* The anchor's row, a graph of its own. */
static int plan_anchor(struct trainer *t)
{
    struct plan_report report;
    int rc = PEFT_OK;
    t->beside = 0;
    if (!t->anchor.d) return rc;
    int64_t n = batcher_count(t->anchor.batcher, 0);
    for (int64_t i = 0, longest = -1; i < n && !rc; i++) {
        struct batch_size s;
        batcher_size(t->anchor.batcher, 0, i, &s);
        if (s.tokens <= longest) continue;
        longest = s.tokens;
        struct tensor *x = anchor_loss(t, batcher_get(t->anchor.batcher, 0, i), NULL);
        if (!x) return PEFT_ENOMEM;
        if (!x->needs_grad) return PEFT_OK;
        if (!(rc = graph_plan(t->graph, x, t->how.policy, &report))) take_max(t, &report);
        t->beside = graph_time(t, &report);
    }
    return rc;
}

/* What an evaluation between steps needs beside the training graph. */
static int plan_evaluation(struct trainer *t, const struct batch *b)
{
    struct plan_report report = { 0 };
    t->pass.training = 0;
    batch_pass(&t->pass, b, t->d->max_len);
    int rc = pass_begin(&t->pass);
    if (rc) return rc;
    struct tensor *x = t->objective->features(&t->pass, b);
    if ((x = objective_loss(t->objective, &t->pass, b, x, 1.0f, NULL))) graph_keep(x);
    rc = graph_plan(t->graph, NULL, RECOMPUTE_NONE, &report);
    t->eval_slab = report.slab;
    return rc;
}

static int is_quantised(const struct trainer *t, const struct param *p)
{
    int64_t bytes = 0;
    if (p->type->is_float) return 0;
    model_to_float(t->m, p->name, 1, &bytes);
    fail(PEFT_EUNSUPPORTED,
         "%s is %s and cannot train: freeze it and add an adapter, or turn it to float (%.1f MB "
         "more)",
         p->name, p->type->name, (double)bytes / 1e6);
    return 1;
}

/* The default of the enabled adapters' methods; of several the smallest. */
static float adapter_lr(const struct model *m)
{
    float lr = 1;
    for (const struct adapter *a = m->adapters; a; a = a->next)
        if (a->enabled)
            lr = MIN(lr, a->method->encoder_lr > 0 && a->sites->part[1] ? a->method->encoder_lr
                                                                        : a->method->lr);
    return lr;
}

/* A parameter of the model that is an adapter's by its method. */
static int is_kept(const struct model *m, const struct param *p)
{
    for (const struct adapter *a = m->adapters; a; a = a->next)
        for (int64_t i = 0; a->method->keeps && a->enabled && i < a->n_saved; i++)
            if (a->saved[i].p == p) return 1;
    return 0;
}

static int list_trained(struct trainer *t)
{
    struct param *p;
    int64_t n = 0;
    int matrices = 0, vectors = 0, adapters = 0;
    for (int64_t i = 0; (p = model_nth_param(t->m, i)); i++) n += p->used && p->trainable;
    if (!n)
        return fail(PEFT_ESTATE,
                    "nothing is trainable: add an adapter or a head, or unfreeze weights");
    if (!(t->list = arena_alloc(&t->arena, n * (int64_t)sizeof(*t->list)))) return PEFT_ENOMEM;
    for (int64_t i = 0; (p = model_nth_param(t->m, i)); i++) {
        if (!p->used || !p->trainable) continue;
        if (is_quantised(t, p)) return PEFT_EUNSUPPORTED;
        int decays = !t->o.no_decay || !glob_match(t->o.no_decay, p->name);
        const struct storage *storage = storage_of(t->storage, param_len(p));
        t->list[t->n_list++] =
            (struct trained){ p, t->n_floats, param_len(p), t->n_blocks, t->state_bytes, storage,
                              decays ? t->o.weight_decay : 0 };
        t->n_blocks += div_up(param_len(p), STATE_BLOCK);
        t->state_bytes += storage_bytes(storage, param_len(p));
        t->n_floats += div_up(param_len(p), 16) * 16;          /* every tensor begins on 64 bytes */
        t->n_own += p->states * param_len(p);
        adapters += p->adapter || is_kept(t->m, p);
        if (p->adapter || is_kept(t->m, p) || p->is_new || p->layer < 0) continue;
        if (p->rows > 1) matrices++;
        else vectors++;
    }
    /* Biases and norms alone (BitFit) bear a far higher one than matrices. */
    float whole = matrices ? 2e-5f : vectors ? 5e-3f : 1e-3f;
    if (t->o.lr == 0) t->o.lr = adapters ? adapter_lr(t->m) : whole;
    return PEFT_OK;
}

int trainer_size(struct trainer *t)
{
    struct arena a;
    struct dummy d;
    arena_init(&a, &t->m->host.mem);
    t->slab = t->scratch = t->eval_slab = 0;
    t->flops = t->each = t->once = 0;
    graph_chunks(t->graph, t->how.chunks);
    int rc = make_dummy(t, &a, &t->max, &d);
    double begin = os_seconds();
    if (!rc) rc = plan_graphs(t, &d.b, &a);
    t->planning = os_seconds() - begin;
    if (!rc) rc = plan_anchor(t);
    if (!rc) rc = plan_evaluation(t, &d.b);
    graph_reset(t->graph);
    arena_free(&a);
    return rc;
}

/* Measures the nodes of the training graph of a batch of size t->max, as it is planned.  The
 * panels that it had stay. */
int trainer_measure(struct trainer *t, const char *only, double deadline, int64_t memory)
{
    struct plan_report report = { 0 };
    struct arena a;
    struct dummy d;
    arena_init(&a, &t->m->host.mem);
    int rc = make_dummy(t, &a, &t->max, &d);
    batch_pass(&t->pass, &d.b, t->d->max_len);
    t->pass.training = 1;
    if (!rc) rc = pass_begin(&t->pass);
    if (!rc) {
        struct tensor *x = t->objective->features(&t->pass, &d.b);
        x = objective_loss(t->objective, &t->pass, &d.b, x, 1.0f, NULL);
        rc = graph_plan(t->graph, x, t->how.policy, &report);
        t->panels = MAX(t->panels, report.panels);
    }
    if (!rc) rc = pace_measure(t->pace, t->graph, only, deadline, memory);
    graph_reset(t->graph);
    arena_free(&a);
    return rc;
}

static int plan_run(struct trainer *t)
{
    struct param *p;
    for (int64_t i = 0; (p = model_nth_param(t->m, i)); i++) p->used = 0;
    batcher_max(t->batcher, t->epochs, &t->max);
    t->whole = t->max.tokens;
    int rc = model_fits(t->m, t->d->max_len);
    if (!rc) rc = rope_reserve(t->m, t->d->max_len);
    if (!rc) rc = trainer_size(t);
    if (!rc) rc = list_trained(t);
    if (!rc) rc = budget_choose(t);
    return rc;
}

int trainer_batches(struct trainer *t)
{
    struct batch_opts b = { .batch = t->o.batch, .packing = t->o.packing, .max_len = t->o.max_len,
                            .shuffle = !t->o.no_shuffle, .seed = t->o.seed,
                            .augment = t->augment, .parts = t->how.parts };
    t->batcher = NULL;
    return batcher_new(t->d, &b, &t->batcher);
}

int trainer_new(struct model *m, struct dataset *d, const peft_train_opts *o, struct trainer **out)
{
    const struct objective *objective = objective_for(m, d, o->objective);
    if (!objective) return PEFT_EARG;
    struct trainer *t = mem_zalloc(&m->host.mem, sizeof(*t));
    if (!t) return PEFT_ENOMEM;
    arena_init(&t->arena, &m->host.mem);
    t->m = m;
    t->d = d;
    t->o = *o;
    t->objective = objective;
    m->trainers++;
    d->trainers++;
    int rc = check_options(t);
    if (!rc) rc = augment_parse(t->o.augment, &t->augment);
    if (!rc && t->augment.on && !d->vision)
        rc = fail(PEFT_EARG, "augmentation \"%s\", but the rows are no pictures", t->o.augment);
    t->how = (struct manner){ .parts = 1, .policy = wished_policy(t) };
    t->prefix = (struct prefix){ .m = m, .objective = objective, .path = t->o.cache_file,
                                 .limit = t->o.feature_cache ? t->o.feature_cache : FEATURE_CACHE,
                                 .file_limit = t->o.cache_file_limit };
    if (!rc) rc = trainer_batches(t);
    if (!rc) rc = graph_new(&m->host, &m->compute, &t->graph);
    if (!rc) rc = pass_mem_new(&m->host, &t->mem);
    t->loss = (struct loss_opts){ t->o.scale != 0 ? t->o.scale : 20, t->o.margin != 0 ? t->o.margin
                                                                                      : 5 };
    t->pass = (struct pass){ .m = m, .g = t->graph, .mem = t->mem, .seed = t->o.seed,
                             .loss = &t->loss };
    for (int plain = 0; plain < 2; plain++) tree_levels(t->levels[plain], plain);
    if (!rc) rc = anchor_new(t, (struct dataset *)(uintptr_t)t->o.anchor);
    if (!rc) rc = count_steps(t);
    if (!rc) rc = plan_run(t);
    for (struct adapter *a = m->adapters; a && !rc; a = a->next)
        if (a->enabled && a->method->run) rc = a->method->run(m, a, t->steps);
    if (rc) {
        trainer_free(t);
        return rc;
    }
    if (t->prefix.on && !m->prefix) m->prefix = &t->prefix;
    *out = t;
    return PEFT_OK;
}

static void zero_piece(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    memset((char *)arg + begin, 0, (size_t)(end - begin));
}

void trainer_zero(const struct trainer *t, void *p, int64_t bytes)
{
    compute_rows(&t->m->compute, bytes, NORM_GRAIN * (int64_t)sizeof(float), zero_piece, p);
}

static void *zeroed(struct trainer *t, int64_t bytes)
{
    void *p = mem_alloc(&t->m->host.mem, bytes);
    if (p) trainer_zero(t, p, bytes);
    return p;
}

int trainer_prepare(struct trainer *t)
{
    struct mem *mem = &t->m->host.mem;
    int rc = PEFT_OK;
    if (t->grads) return PEFT_OK;
    budget_begin(t);
    for (int64_t i = 0; i < t->n_list && !rc; i++) rc = param_own(t->m, t->list[i].p);
    if (!rc) rc = graph_reserve(t->graph, t->slab, t->scratch);
    if (!rc) rc = anchor_begin(t);
    if (rc) return rc;
    if (t->n_own && !t->own && !(t->own = mem_array(mem, t->n_own, 4))) return PEFT_ENOMEM;
    for (int k = 0; k < t->optimizer->states; k++)
        if (!t->state[k] && !(t->state[k] = zeroed(t, t->state_bytes))) return PEFT_ENOMEM;
    if (!t->norm_parts && !(t->norm_parts = mem_array(mem, div_up(t->n_floats, NORM_GRAIN), 8)))
        return PEFT_ENOMEM;
    if (t->prefix.on && !t->prefix.gather) {
        int64_t n = prefix_gather_rows(&t->prefix, &t->max) * t->prefix.width;
        if (!(t->prefix.gather = mem_alloc(mem, n * 4))) return PEFT_ENOMEM;
    }
    if (t->prefix.on && (rc = prefix_begin(&t->prefix, &t->prefix.train))) return rc;
    /* Last, since it marks that all is there. */
    if (!(t->grads = mem_alloc(mem, t->n_floats * 4))) return PEFT_ENOMEM;
    float *own = t->own;
    for (int64_t i = 0; i < t->n_list; i++) {
        struct param *p = t->list[i].p;
        p->grad = t->grads + t->list[i].at;
        p->state = p->states ? own : NULL;
        if (p->states) own += p->states * t->list[i].n;
    }
    return PEFT_OK;
}

static int64_t data_bytes(const struct dataset *d)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < d->n; i++) {
        const struct example *x = &d->rows[i];
        bytes += (int64_t)sizeof(*x) + (x->ids ? x->n * (x->labels ? 8 : 4) : 0);
        if (x->pixels) bytes += picture_bytes(d->vision);
    }
    return bytes;
}

/* What the process holds beside all that has a name: what it had before the model came, what
 * the library has allocated, and what neither shows: freed memory that the system did not get
 * back, the files' headers, and code that has not run yet. */
static int64_t process_bytes(const struct trainer *t, const peft_plan *p, int64_t unmapped)
{
    enum { CODE = 7 << 20, WORKER = 256 << 10 };
    const struct model *m = t->m;
    int64_t live = atomic_load(&m->host.mem.live), rest = live - p->data - unmapped;
    for (int64_t i = 0; i < t->n_list; i++)
        if (t->list[i].p->own) rest -= t->list[i].n * 4;
    if (t->grads) rest -= p->gradients + p->optimizer + p->activations + p->features;
    if (m->compute.scratch)
        rest -= m->compute.scratch_each * pool_threads(m->pool) + m->compute.panels_bytes;
    rest += MAX(0, os_rss_private() - m->private_before - live);
    return m->rss_before + MAX(0, rest) + store_header(m->store) + CODE +
           WORKER * pool_threads(m->pool);
}

int trainer_plan(const struct trainer *t, peft_plan *out)
{
    const struct model *m = t->m;
    struct param *p;
    int64_t mapped = trainer_mapped(t), unmapped = weight_bytes(t, false);
    for (int64_t i = 0; (p = model_nth_param(m, i)); i++)
        if (p->counted) out->total_params += param_len(p);
    for (int64_t i = 0; i < t->n_list; i++) {
        out->trainable_params += t->list[i].n;
        out->trainable += t->list[i].n * 4;
    }
    out->weights = unmapped + (t->how.lean ? MIN(t->held, mapped) : mapped);
    out->gradients = t->n_floats * 4;
    out->optimizer = t->state_bytes * t->optimizer->states + t->n_own * 4;
    out->activations = t->slab;
    out->scratch = t->scratch * pool_threads(m->pool) + t->panels;
    out->data = data_bytes(t->d) + anchor_bytes(t) + (t->anchor.d ? data_bytes(t->anchor.d) : 0);
    out->features = prefix_bytes(&t->prefix, &t->max);
    out->process = process_bytes(t, out, unmapped);
    out->peak = out->weights + out->trainable + out->gradients + out->optimizer + out->activations +
                out->scratch + out->data + out->features + out->process;
    out->evaluation = (t->o.memory_limit ? MAX(t->eval_slab - t->slab, 0) : t->eval_slab) +
                      prefix_eval_bytes(&t->prefix);
    out->steps = t->steps;
    out->tokens = (int64_t)(t->mean_tokens * (double)t->steps + 0.5);
    out->seconds_per_step = t->mean_seconds;
    out->seconds = t->mean_seconds * (double)t->steps + t->first_seconds;
    out->tokens_per_step = t->whole * t->o.accumulate;
    out->flops_per_step = t->flops * (double)trainer_micros(t);
    out->micro_batch = (int32_t)div_up(t->o.batch, t->how.parts);
    out->recompute_layers = t->how.policy == RECOMPUTE_NONE ? -1
                            : (int32_t)MIN(t->how.policy, t->m->hp.layers);
    out->memory_least = t->least;
    out->lr = (double)t->o.lr;
    memcpy(out->choice, t->choice, sizeof(t->choice));
    memcpy(out->manner, t->manner, sizeof(t->manner));
    return PEFT_OK;
}

void trainer_free(struct trainer *t)
{
    if (!t) return;
    struct mem *mem = &t->m->host.mem;
    budget_end(t);
    for (int64_t i = 0; i < t->n_list; i++)
        t->list[i].p->grad = t->list[i].p->state = NULL;
    mem_free(mem, t->grads);
    mem_free(mem, t->own);
    mem_free(mem, t->kept);
    for (int k = 0; k < STATES; k++) mem_free(mem, t->state[k]);
    mem_free(mem, t->norm_parts);
    if (t->m->prefix == &t->prefix) t->m->prefix = NULL;
    prefix_free(&t->prefix);
    anchor_free(t);
    mem_free(mem, t->profile);
    batcher_free(t->batcher);
    graph_free(t->graph);
    pace_free(t->pace);
    pass_mem_free(t->mem);
    arena_free(&t->arena);
    t->m->trainers--;
    t->d->trainers--;
    mem_free(mem, t);
}
