/* What a language model forgets while it learns: old rows that are repeated (--replay), texts on
 * which it is held (--drift-bound, --anchor-weight), and how far it has gone from its base on
 * them when it is done. */
#include <stdlib.h>
#include <string.h>

#include "train.h"

enum { PROBE_LEN = 128 };      /* tokens of a row of the probe, which each step may have one of */

/* Rows of --replay join those of --data. */
int forget_mix(struct run *run)
{
    const struct args *a = run->args;
    peft_dataset *old = NULL, *all = NULL;
    peft_dataset_stats stats = {.size = sizeof stats};
    double share = a->replay_share < 0 ? 0.2 : a->replay_share;
    if (!a->replay && a->replay_share > 0)
        return usage_error("--replay-share of which file?  --replay FILE");
    if (!a->replay || !(share > 0))
        return 0;
    int rc = open_data(a, run->model, a->replay, &old);
    if (rc)
        return rc;
    rc = peft_dataset_info(old, &stats);
    double want = share * (double)run->stats.rows;
    int64_t n = want < 1 ? 1 : want < (double)stats.rows ? (int64_t)(want + 0.5) : stats.rows;
    if (!rc)
        rc = peft_dataset_mix(run->data, old, n, a->seed, &all);
    peft_dataset_free(old);
    if (rc)
        return library_error(rc, "cannot mix old rows in");
    peft_dataset_free(run->data);
    run->data = all;
    run->replayed = n;
    rc = peft_dataset_info(run->data, &run->stats);
    return rc ? library_error(rc, "cannot use the data") : 0;
}

static bool has_texts(const struct run *run)
{
    return run->info.has_tokenizer && run->info.causal && !run->info.encoder_layers &&
           !run->info.labels && !strcmp(run->info.head, "language-model");
}

/* The texts that drift is measured on: always, unless memory is short or nobody wants it. */
int forget_begin(struct run *run)
{
    const struct args *a = run->args;
    bool held = a->drift_bound > 0 || a->anchor_weight > 0;
    bool off = a->probe && !strcmp(a->probe, "none");
    if (held && (off || !has_texts(run)))
        return usage_error("--drift-bound and --anchor-weight need a probe and a language model "
                           "with a tokenizer");
    if (off || !has_texts(run) || (a->memory_limit && !a->probe && !held))
        return 0;
    peft_dataset_opts opts = {.size = sizeof opts};
    int32_t room = run->info.max_len < PROBE_LEN ? run->info.max_len : PROBE_LEN;
    opts.max_len = a->max_len && a->max_len < room ? a->max_len : room;
    int32_t rc = peft_probe_load(run->model, a->probe, &opts, &run->probe);
    return rc ? library_error(rc, "cannot use the probe") : 0;
}

void forget_opts(const struct run *run, peft_train_opts *opts)
{
    if (!(run->args->drift_bound > 0 || run->args->anchor_weight > 0))
        return;
    opts->anchor = run->probe;
    opts->anchor_weight = (float)run->args->anchor_weight;
    opts->drift_bound = (float)run->args->drift_bound;
}

/* What has gone too far is weakened, for which its trainer must have ended. */
static int hold(struct run *run, peft_model *base)
{
    const char *const name = is_adapter(run->method) ? "default" : NULL;
    double bound = run->args->drift_bound, was = run->drift.kl;
    peft_drift d = {.size = sizeof d};
    if (!(bound > 0) || run->drift.kl <= bound)
        return 0;
    if (name && run->base_trains) {
        note("%swarning:%s the drift of %.4f is above the bound of %.4f; a smaller --lr or fewer "
             "--epochs keep nearer to the base", paint(stderr, YELLOW), paint(stderr, PLAIN), was,
             bound);
        return 0;
    }
    interrupt_release();
    interrupt_catch(NULL);
    peft_trainer_free(run->trainer);
    run->trainer = NULL;
    int32_t rc = peft_drift_hold(run->model, name, base, run->probe, bound, &d);
    float weight = (float)d.weight;
    if (!rc && name)
        rc = peft_adapter_set_weight(run->model, name, 1);
    if (!rc && name)
        rc = peft_adapter_combine(run->model, "held", &name, &weight, 1, NULL);
    if (!rc && name)
        rc = peft_adapter_disable(run->model, name);
    if (rc)
        return library_error(rc, "cannot hold the drift");
    if (name)
        run->adapter = "held";
    peft_eval_opts opts = {.size = sizeof opts};
    rc = peft_compare(run->model, base, run->probe, &opts, &run->drift);
    note("%s has %.3f of its weight now: its drift of %.4f was above the bound of %.4f",
         name ? "the adapter" : "what was trained", d.weight, was, bound);
    return rc ? library_error(rc, "cannot measure the drift") : 0;
}

int forget_finish(struct run *run)
{
    peft_model *base = NULL;
    peft_info info;
    peft_eval_opts opts = {.size = sizeof opts};
    if (!run->probe)
        return 0;
    int rc = open_model(run->args, &base, &info);
    run->drift.size = sizeof run->drift;
    if (!rc && (rc = peft_compare(run->model, base, run->probe, &opts, &run->drift)) != 0)
        rc = library_error(rc, "cannot measure the drift");
    if (!rc)
        rc = hold(run, base);
    peft_model_free(base);
    if (!rc && run->drift.tokens)
        note("forgetting: KL to the base %.4f a token on %s, perplexity %.2f before, %.2f now",
             run->drift.kl, run->args->probe ? run->args->probe : "the built-in probe",
             run->drift.reference_perplexity, run->drift.perplexity);
    return rc;
}
