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

static int drift_at(peft_model *model, const char *adapter, double weight, peft_model *base,
                    const peft_dataset *probe, double *kl)
{
    peft_comparison c = { .size = sizeof c };
    int32_t rc = peft_adapter_set_weight(model, adapter, (float)weight);
    if (!rc) rc = peft_compare(model, base, probe, NULL, &c);
    *kl = c.kl;
    return rc;
}

int32_t peft_drift_hold(peft_model *model, const char *adapter, peft_model *base,
                        const peft_dataset *probe, double bound, peft_drift *out)
{
    KIT_ARG(model && adapter && base && probe, "no model, adapter, base or probe given");
    KIT_ARG(bound > 0, "a bound of %g, expected more than 0", bound);
    int rc = check_result(out);
    if (rc < 0) return kit_end(rc);
    peft_drift d = { .weight = 1 };
    double low = 0, high = 1, kl = 0;
    rc = drift_at(model, adapter, 1, base, probe, &d.before);
    if (!rc && d.before <= bound) {
        d.kl = d.before;
        give_result(out, &d, sizeof d);
        return PEFT_OK;
    }
    d.weight = 0;
    while (!rc && high - low > finest) {
        double middle = (low + high) / 2;
        rc = drift_at(model, adapter, middle, base, probe, &kl);
        if (rc) break;
        if (kl <= bound) low = middle, d.kl = kl, d.weight = middle;
        else high = middle;
    }
    /* The weight stays at what was found, or as trained. */
    int32_t end = peft_adapter_set_weight(model, adapter, rc ? 1 : (float)d.weight);
    if (!rc) rc = end;
    if (!rc) give_result(out, &d, sizeof d);
    return rc;
}
