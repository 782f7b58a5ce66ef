/* Forgetting: how far a model has drifted on texts that have nothing to do with its training.
 * The built-in probe is of this project, under its licence: prose, talk, facts, sums, code and
 * a few lines of other languages, in rows short enough for a step of training. */
#include <math.h>

#include "judge/judge.h"

static const char probe_rows[] =
    "{\"text\": \"The river rises in the hills north of the town and runs past the old mill "
    "before it reaches the sea. In spring, when the snow melts, the water covers the lower "
    "meadows, and the farmers move their sheep to the slopes. By June the grass is high again.\"}\n"
    "{\"text\": \"She put the letter on the table and looked out of the window. It had begun to "
    "rain. \\\"You could have told me,\\\" she said at last, without turning round. He did not "
    "answer, because there was nothing that he could say.\"}\n"
    "{\"text\": \"Question: What is the capital of France?\\nAnswer: The capital of France is "
    "Paris.\\n\\nQuestion: How many days are there in a week?\\nAnswer: There are seven days in a "
    "week.\"}\n"
    "{\"text\": \"Water boils at 100 degrees Celsius at sea level. The Earth goes around the Sun "
    "once a year, and the Moon goes around the Earth about once a month. Light travels faster "
    "than sound, which is why we see lightning before we hear thunder.\"}\n"
    "{\"text\": \"Twelve apples are shared among four children, so each child gets 12 / 4 = 3 "
    "apples. If each apple costs 2 euros, all of them together cost 12 * 2 = 24 euros.\"}\n"
    "{\"text\": \"def count_words(text):\\n    words = {}\\n    for word in text.lower().split():"
    "\\n        words[word] = words.get(word, 0) + 1\\n    return words\\n\"}\n"
    "{\"text\": \"To make bread, mix 500 g of flour with 300 ml of water, a little salt and some "
    "yeast. Knead the dough for ten minutes, let it rise for an hour in a warm place, and bake it "
    "for 40 minutes in a hot oven.\"}\n"
    "{\"text\": \"Dear Ms. Miller, thank you for your message of last Tuesday. I am happy to "
    "confirm our meeting on Friday at ten o'clock in our office. Please let me know if you need a "
    "parking space. Kind regards, Peter\"}\n"
    "{\"text\": \"User: Can you help me to choose a book for my daughter? She is nine.\\n"
    "Assistant: Of course! What does she like to read about: animals, adventures, or perhaps "
    "science?\\nUser: Adventures, I think.\"}\n"
    "{\"text\": \"The meeting of the council lasted three hours. A majority voted for the new "
    "bridge, which will be paid for by the state and the city in equal parts. Work is expected to "
    "begin next year and to take about two years.\"}\n"
    "{\"text\": \"Le chat dort sur la chaise pr\\u00e8s de la fen\\u00eatre. Der Zug nach Berlin "
    "f\\u00e4hrt um neun Uhr ab. El ni\\u00f1o come una manzana en el jard\\u00edn.\"}\n"
    "{\"text\": \"for (int i = 0; i < n; i++) {\\n    if (values[i] > max) {\\n        max = "
    "values[i];\\n    }\\n}\\nprintf(\\\"%d\\\\n\\\", max);\\n\"}\n";

int32_t peft_probe_load(const peft_model *model, const char *path, const peft_dataset_opts *opts,
                        peft_dataset **out)
{
    peft_dataset_opts o;
    KIT_ARG(model && out, "no model or place for the probe given");
    int rc = take_options(&o, sizeof o, opts);
    if (rc < 0) return kit_end(rc);
    if (!path) {
        o.text = probe_rows;
        o.text_n = sizeof probe_rows - 1;
    }
    return peft_dataset_load(model, path ? path : "probe.jsonl", &o, out);
}

/* What the limit of a search by halves is, in weights. */
static const double finest = 1.0 / 256;

/* The weights of a run that trained the model itself, in memory while they change. */
struct blend {
    struct mem mem;
    peft_model *model, *base;
    float *tuned, *room;            /* of all that train; of one tensor, for the base's */
    int64_t n, most;
};

/* The next tensor that trains, from *i on: its numbers, 0 = there is none. */
static int64_t next_tuned(const struct blend *b, int32_t *i, peft_param *p)
{
    for (*p = (peft_param){ .size = sizeof *p }; !peft_model_param(b->model, *i, p); ++*i)
        if (p->trainable) return ++*i, p->rows * p->cols;
    return 0;
}

static int blend_begin(struct blend *b)
{
    peft_param p;
    int64_t n, at = 0, rc = 0;
    for (int32_t i = 0; (n = next_tuned(b, &i, &p)) > 0; b->n += n) b->most = MAX(b->most, n);
    if (!b->n) return fail(PEFT_ESTATE, "nothing of the model trains, and no adapter is named");
    b->tuned = mem_array(&b->mem, b->n, sizeof *b->tuned);
    b->room = mem_array(&b->mem, b->most, sizeof *b->room);
    if (!b->tuned || !b->room) return PEFT_ENOMEM;
    for (int32_t i = 0; rc >= 0 && (n = next_tuned(b, &i, &p)) > 0; at += n)
        rc = peft_model_read(b->model, p.name, b->tuned + at, n);
    return rc < 0 ? kit_failed((int)rc) : PEFT_OK;
}

/* base + weight (tuned - base) of each. */
static int blend_to(struct blend *b, double weight)
{
    peft_param p;
    int64_t n, rc = 0;
    const float *tuned = b->tuned;
    for (int32_t i = 0; rc >= 0 && (n = next_tuned(b, &i, &p)) > 0; tuned += n) {
        if (weight < 1) rc = peft_model_read(b->base, p.name, b->room, n);
        for (int64_t k = 0; weight < 1 && rc >= 0 && k < n; k++)
            b->room[k] += (float)weight * (tuned[k] - b->room[k]);
        if (rc >= 0) rc = peft_model_write(b->model, p.name, weight < 1 ? b->room : tuned, n);
    }
    return rc < 0 ? kit_failed((int)rc) : PEFT_OK;
}

static int weigh(struct blend *b, const char *adapter, double weight)
{
    int rc = PEFT_OK;
    if (!adapter) return blend_to(b, weight);
    if ((rc = peft_adapter_set_weight(b->model, adapter, (float)weight)) != 0) rc = kit_failed(rc);
    return rc;
}

static int drift_at(struct blend *b, const char *adapter, double weight, const peft_dataset *probe,
                    double *kl)
{
    peft_comparison c = { .size = sizeof c };
    int rc = weigh(b, adapter, weight);
    if (!rc && (rc = peft_compare(b->model, b->base, probe, NULL, &c)) != 0) rc = kit_failed(rc);
    *kl = c.kl;
    return rc;
}

/* Where it fails it stays as trained. */
static int hold(struct blend *b, const char *adapter, const peft_dataset *probe, double bound,
                peft_drift *d)
{
    double low = 0, high = 1, kl = 0;
    int rc = adapter ? PEFT_OK : blend_begin(b);
    if (rc < 0) return rc;
    rc = drift_at(b, adapter, 1, probe, &d->before);
    d->kl = d->before;
    if (rc < 0 || d->before <= bound) return rc;
    d->weight = d->kl = 0;
    while (!rc && high - low > finest) {
        double middle = (low + high) / 2;
        rc = drift_at(b, adapter, middle, probe, &kl);
        if (kl <= bound) low = middle, d->kl = kl, d->weight = middle;
        else high = middle;
    }
    int end = weigh(b, adapter, rc ? 1 : d->weight);
    return rc ? rc : end;
}

int32_t peft_drift_hold(peft_model *model, const char *adapter, peft_model *base,
                        const peft_dataset *probe, double bound, peft_drift *out)
{
    KIT_ARG(model && base && probe, "no model, base or probe given");
    KIT_ARG(bound > 0, "a bound of %g, expected more than 0", bound);
    struct blend b = { .model = model, .base = base };
    mem_init(&b.mem, NULL, NULL);
    peft_drift d = { .weight = 1 };
    int rc = check_result(out);
    if (rc < 0) return kit_end(rc);
    rc = hold(&b, adapter, probe, bound, &d);
    mem_free(&b.mem, b.tuned);
    mem_free(&b.mem, b.room);
    if (!rc) give_result(out, &d, sizeof d);
    return kit_end(rc);
}
