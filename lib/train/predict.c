/* How long training will take: nodes of small graphs are timed, which takes a
 * tenth of a second, and the planned graph's nodes summed up by them. */
#include "train/train.h"

/* Sizes of the measured graphs in tokens, and of one in which only attention counts. */
enum { SMALL = 32, LARGE = 256, LONG = 1024, HEAD = 48, ROUNDS = 6,
       REACH = 32 << 20 };

/* Of about `tokens` in all, in as few sequences as can be. */
static struct batch_size batch_of(const struct trainer *t, int64_t tokens)
{
    const struct dataset *d = t->d;
    int64_t each = MIN(d->max_len, tokens), seqs = MAX(tokens / MAX(each, 1), 1) * d->texts;
    if (d->vision) {
        each = d->max_len;
        seqs = MAX(1, tokens / LARGE * 2);
    }
    each = MAX(div_up(each, d->texts), 1);
    struct batch_size s = { .tokens = seqs * each,
                            .targets = MIN(MIN(seqs * each, tokens / 2), HEAD),
                            .seqs = seqs, .first = seqs * each };
    if (t->m->stack[STACK_ENCODER].end) s.first = s.others = s.tokens / 2;
    return s;
}

static int measure_pace(struct trainer *t, int64_t tokens, const char *only, double deadline)
{
    t->max = batch_of(t, tokens);
    return trainer_measure(t, only, deadline, MIN(REACH, t->slab));
}

/* The time that is spent on it is small beside that of the run.  What takes most of a step is
 * measured first, and all of it again while there is time: the best of several counts, and
 * rounds lie further apart than what holds a processor up. */
int predict_begin(struct trainer *t)
{
    static const double rate = 1e11, share = 0.02, least = 0.1, most = 1, large = 0.7;
    const struct batch_size max = t->max;
    double run = t->flops * (double)trainer_micros(t) * (double)t->steps / rate;
    double now = os_seconds(), time = MIN(MAX(run * share, least), most);
    if (t->pace) return PEFT_OK;
    int rc = pace_new(&t->m->host, &t->pace);
    for (int i = 0; i < ROUNDS && !rc && (!i || os_seconds() < now + time); i++) {
        rc = measure_pace(t, LARGE, NULL, now + time * large);
        if (!rc) rc = measure_pace(t, SMALL, NULL, now + time);
        if (!rc && t->d->max_len > LARGE) rc = measure_pace(t, LONG, "attention", now + time);
    }
    t->max = max;
    if (rc) {                               /* what is incomplete would pass for measured */
        pace_free(t->pace);
        t->pace = NULL;
    }
    return rc;
}

/* Clearing and adding up the gradients, and the optimizer's pass over all it has, which no
 * cache holds from step to step: that is half as fast. */
static double update_seconds(const struct trainer *t)
{
    double floats = 4.0 * (1 + 1 + 1 + 2) * (double)t->n_floats;
    double states = 2.0 * (double)(t->state_bytes * t->optimizer->states);
    return 2 * pace_bytes(t->pace, floats + states);
}

/* What the first step takes longer, whose memory is new.  All weights are read, also those of
 * which it makes copies. */
static double begin_seconds(const struct trainer *t)
{
    int64_t mapped = trainer_mapped(t);
    for (int64_t i = 0; i < t->n_list; i++)
        if (store_mapped(t->m->store, t->list[i].p->data)) mapped += param_bytes(t->list[i].p);
    int64_t bytes = t->slab + t->scratch * pool_threads(t->m->pool) + t->panels +
                    2 * 4 * t->n_floats + t->state_bytes * t->optimizer->states +
                    prefix_bytes(&t->prefix, &t->max);
    return pace_fresh(t->pace, (double)bytes) + pace_mapped((double)mapped);
}

/* Of one part of a step. */
static double part_seconds(const struct trainer *t)
{
    return t->each + t->planning;
}

double predict_step(const struct trainer *t)
{
    return (double)trainer_micros(t) * part_seconds(t) + t->beside + update_seconds(t);
}

/* The mean of an epoch's batches, or of the first so many. */
static struct batch_size mean_batch(struct trainer *t)
{
    enum { MANY = 100000 };
    struct batch_size sum = { 0 }, s;
    int64_t n = MIN(batcher_count(t->batcher, 0), MANY);
    for (int64_t i = 0; i < n; i++) {
        batcher_size(t->batcher, 0, i, &s);
        sum.tokens += s.tokens;
        sum.targets += s.targets;
        sum.seqs += s.seqs;
        sum.first += s.first;
        sum.others += s.others;
    }
    int64_t texts = t->d->texts, steps = div_up(n, trainer_micros(t));
    t->mean_tokens = (double)sum.tokens / (double)MAX(steps, 1);
    return (struct batch_size){ div_up(sum.tokens, n), div_up(sum.targets, n),
                                div_up(div_up(sum.seqs, n), texts) * texts, div_up(sum.first, n),
                                div_up(sum.others, n) };
}

/* What is computed below the cut, for all examples: seconds of one pass over them. */
static double below_seconds(const struct trainer *t, double tokens)
{
    return t->prefix.on ? t->once * tokens / (double)MAX(t->prefix.train.room.tokens, 1) : 0;
}

/* Of a run whose steps are made of mean batches, the last of which has been planned. */
static void predict_mean(struct trainer *t)
{
    int64_t parts = batcher_count(t->batcher, 0);
    double steps = (double)div_up(parts, trainer_micros(t)), share = 0;
    double below = below_seconds(t, (double)parts * (double)t->max.tokens);
    if (t->prefix.on)
        share = (double)t->prefix.train.cap / (double)MAX(t->prefix.train.at[t->d->n], 1);
    t->mean_seconds = (double)parts / steps * part_seconds(t) + t->beside +
                      update_seconds(t) + (1 - share) * below / steps;
    t->first_seconds = begin_seconds(t) + share * below * MIN((double)t->steps / steps, 1);
}

/* What is planned stays as it is. */
int predict_run(struct trainer *t)
{
    if (t->mean_seconds > 0 || t->stage != STAGE_IDLE) return PEFT_OK;
    const struct batch_size max = t->max;
    int64_t slab = t->slab, scratch = t->scratch, eval_slab = t->eval_slab;
    double flops = t->flops;
    t->has_tables = 1;
    int rc = predict_begin(t);
    t->max = mean_batch(t);
    if (!rc) rc = trainer_size(t);
    if (!rc) predict_mean(t);
    t->has_tables = 0;
    t->max = max;
    t->slab = slab;
    t->scratch = scratch;
    t->eval_slab = eval_slab;
    t->flops = flops;
    return rc;
}
