/* What other programs make of an adapter's files, as their sources have it:
 *   peft       Hugging Face PEFT 0.21: peft_model.py, utils/save_and_load.py (load_state_dict with
 *              strict=False: what fits nothing is passed over, what lacks keeps its initial value),
 *              utils/other.py, tuners/lora/layer.py
 *   vllm       lora/peft_helper.py, lora/lora_model.py, lora/utils.py, lora/lora_weights.py
 *   llama.cpp  convert_lora_to_gguf.py, conversion/, src/llama-adapter.cpp (scale = alpha / rank,
 *              the rank by the tensor's shape)
 * A reader's verdict is that of the gravest rule that applies; what is refused is not misread. */
#include <stdio.h>

#include "adapt/readers.h"

enum { PEFT = 1, VLLM = 2, LLAMA = 4 };
static const struct reader { const char *name; uint8_t bit; } readers[PEFT_READERS] = {
    { "peft", PEFT }, { "vllm", VLLM }, { "llama.cpp", LLAMA }
};

#define CONVERT "peft adapter convert --for "
#define MERGE "peft adapter convert --merge, or --rank R"
struct rule { uint8_t fact, readers, verdict; const char *why, *fix; };
static const struct rule rules[] = {
    /* --- the folder */
    { FACT_NO_CONFIG, PEFT | VLLM | LLAMA, PEFT_REFUSES, "there is no adapter_config.json", "" },
    { FACT_NO_WEIGHTS, PEFT | VLLM | LLAMA, PEFT_REFUSES,
      "there is no adapter_model.safetensors", "" },
    { FACT_SHARDS, PEFT | VLLM | LLAMA, PEFT_REFUSES,
      "the tensors are in several files; one is looked for, adapter_model.safetensors",
      "join them with safetensors" },
    { FACT_PICKLE, PEFT | VLLM | LLAMA, PEFT_LOADS,
      "a pickle, whose tensors were not looked at here",
      "save it with safe_serialization=True" },
    { FACT_MLX, PEFT | VLLM | LLAMA, PEFT_REFUSES, "an adapter of MLX, which only MLX reads",
      CONVERT "peft" },
    { FACT_GGUF, PEFT | VLLM, PEFT_REFUSES, "a GGUF file, which only llama.cpp reads",
      CONVERT "peft" },
    { FACT_GGUF_OTHER, PEFT | VLLM | LLAMA, PEFT_REFUSES, "a file that is no adapter: "
      "general.type is not \"adapter\", or adapter.type not \"lora\"", "" },

    /* --- adapter_config.json.  config.py: loaded_attributes["peft_type"]; vLLM does not ask. */
    { FACT_NO_TYPE, PEFT, PEFT_REFUSES, "peft_type is absent (a KeyError)", CONVERT "peft" },
    { FACT_UNKNOWN_TYPE, PEFT, PEFT_REFUSES, "no method of this name is known", "" },
    /* peft_helper.py wants r and lora_alpha and utils.py names of LoRA; convert_lora_to_gguf.py
     * takes lparams["lora_alpha"] and ends at names that are not LoRA's. */
    { FACT_OTHER_TYPE, VLLM | LLAMA, PEFT_REFUSES, "not a LoRA", MERGE },
    { FACT_PROMPT, VLLM | LLAMA, PEFT_REFUSES, "not a LoRA, nor a change of weights", "" },
    /* LoraConfig's default is 8; another size is a size mismatch of load_state_dict. */
    { FACT_NO_RANK, VLLM, PEFT_REFUSES, "r is absent, which is required", CONVERT "vllm" },
    { FACT_NO_ALPHA, PEFT, PEFT_MISREADS, "lora_alpha is absent: it takes 8, whatever was trained",
      "add lora_alpha" },
    { FACT_NO_ALPHA, VLLM | LLAMA, PEFT_REFUSES, "lora_alpha is absent, which is required",
      "add lora_alpha" },
    { FACT_NO_TARGETS, VLLM, PEFT_REFUSES, "target_modules is absent, which is required",
      CONVERT "vllm" },
    { FACT_OTHER_TARGETS, PEFT, PEFT_MISREADS, "target_modules is absent: it adapts the "
      "architecture's default modules, and passes this one over", CONVERT "peft" },
    { FACT_NO_BASE, PEFT | LLAMA, PEFT_LOADS,
      "base_model_name_or_path is absent: the base must be named", "" },
    { FACT_RSLORA, LLAMA, PEFT_MISREADS, "it ignores use_rslora and scales by alpha / r, not "
      "alpha / sqrt(r)", CONVERT "llama.cpp" },
    { FACT_ALPHAS, LLAMA, PEFT_MISREADS, "it ignores alpha_pattern and scales all by lora_alpha",
      CONVERT "llama.cpp" },
    /* lora_weights.py: one scaling factor, of r and lora_alpha; the ranks are the tensors'. */
    { FACT_SCALES, VLLM, PEFT_MISREADS, "it ignores rank_pattern and alpha_pattern and scales all "
      "by lora_alpha and r", CONVERT "vllm" },
    { FACT_DORA, VLLM | LLAMA, PEFT_REFUSES, "DoRA is not supported", MERGE },
    { FACT_BIAS, VLLM | LLAMA, PEFT_REFUSES, "biases of an adapter are not supported", MERGE },
    { FACT_SAVED, VLLM, PEFT_REFUSES, "modules kept whole are not supported", MERGE },
    { FACT_TOKENS, VLLM, PEFT_REFUSES, "trained token rows are refused, unless "
      "--max-lora-trainable-tokens of a newer vLLM allows them", MERGE },
    { FACT_TOKENS, LLAMA, PEFT_REFUSES, "trained token rows are not supported", MERGE },
    { FACT_EXPERTS, VLLM, PEFT_LOADS, "experts as one parameter: only for models that vLLM keeps "
      "so", "" },
    { FACT_EXPERTS, LLAMA, PEFT_REFUSES, "experts as one parameter are not supported", MERGE },
    { FACT_ALORA, VLLM, PEFT_MISREADS, "it ignores alora_invocation_tokens and adapts all tokens",
      "" },
    /* conversion/gpt2.py transposes Conv1D's weights, and PEFT's files have B A as [out, in]. */
    { FACT_TURNED, LLAMA, PEFT_REFUSES, "fan_in_fan_out: the conversion transposes the product, "
      "whose shape then does not fit", MERGE },
    { FACT_TURNED_SQUARE, LLAMA, PEFT_MISREADS, "fan_in_fan_out: the conversion transposes the "
      "product", MERGE },
    { FACT_VARIANT, VLLM | LLAMA, PEFT_MISREADS, "a variant of LoRA that it does not know and "
      "takes for the plain one", MERGE },
    /* layer.py: pissa_init and olora_init compute the start anew and take it out of the base. */
    { FACT_START, PEFT, PEFT_LOADS, "the initial values are computed anew and taken out of the "
      "base, which must be the same", CONVERT "peft" },
    { FACT_START_RANDOM, PEFT, PEFT_MISREADS, "the initial values are computed anew with other "
      "random numbers, so another base results",
      "save in PEFT with path_initial_model_for_weight_conversion" },
    { FACT_START_DATA, PEFT, PEFT_MISREADS, "its initial values were taken out of the base, and "
      "cannot be computed from it alone",
      "save in PEFT with path_initial_model_for_weight_conversion" },
    { FACT_START, VLLM | LLAMA, PEFT_MISREADS, "the initial values were taken out of the base, and "
      "it does not know", CONVERT "vllm, or llama.cpp" },
    { FACT_START_RANDOM, VLLM | LLAMA, PEFT_MISREADS, "the initial values were taken out of the "
      "base, and it does not know", "save in PEFT with path_initial_model_for_weight_conversion" },
    { FACT_START_DATA, VLLM | LLAMA, PEFT_MISREADS, "the initial values were taken out of the "
      "base, and it does not know", "save in PEFT with path_initial_model_for_weight_conversion" },
    { FACT_LARGE_RANK, VLLM, PEFT_LOADS, "a rank above 16 needs --max-lora-rank", "" },
    { FACT_HUGE_RANK, VLLM, PEFT_REFUSES, "ranks above 512 are not supported",
      "peft adapter convert --rank 512" },

    /* --- tensors beside it */
    { FACT_DORA_UNSAID, PEFT, PEFT_MISREADS, "use_dora is not set: it passes the magnitudes over",
      "set use_dora" },
    { FACT_DORA_UNSAID, VLLM | LLAMA, PEFT_REFUSES, "DoRA is not supported", MERGE },
    { FACT_BIAS_UNSAID, PEFT, PEFT_MISREADS, "lora_bias is not set: it passes the bias over",
      "set lora_bias" },
    { FACT_BIAS_UNSAID, VLLM | LLAMA, PEFT_REFUSES, "biases of an adapter are not supported",
      MERGE },
    { FACT_TOKENS_UNSAID, PEFT, PEFT_MISREADS, "trainable_token_indices is absent: it passes the "
      "rows over", "add trainable_token_indices" },
    { FACT_TOKENS_UNSAID, VLLM | LLAMA, PEFT_REFUSES, "trained token rows are not supported",
      MERGE },
    { FACT_RANK_UNSAID, PEFT, PEFT_REFUSES, "the tensor's rank is not that of r and rank_pattern "
      "(a size mismatch)", "set r or rank_pattern" },
    { FACT_RANK_UNSAID, VLLM, PEFT_MISREADS, "the tensor's rank is not r, by which it scales",
      "set r or rank_pattern, then " CONVERT "vllm" },
    { FACT_UNCOVERED, PEFT, PEFT_MISREADS, "target_modules does not name the module: it passes the "
      "tensor over", "add it to target_modules" },
    /* save_and_load.py maps the names that it expects and hands the others on. */
    { FACT_NO_PREFIX, PEFT, PEFT_MISREADS, "the name does not begin with base_model.model.: it "
      "warns and passes the tensor over", "add the prefix" },
    /* With the name the key is the parameter's own, which load_state_dict takes. */
    { FACT_NAMED, VLLM | LLAMA, PEFT_REFUSES, "the adapter's own name is part of the tensor's",
      "load and save it with PEFT" },
    { FACT_HALF, PEFT, PEFT_MISREADS, "one of A and B is absent: it keeps its initial values", "" },
    { FACT_HALF, VLLM | LLAMA, PEFT_REFUSES, "one of A and B is absent", "" },
    /* lora/utils.py: "unsupported LoRA weight"; convert_lora_to_gguf.py: "Unexpected name". */
    { FACT_WHOLE, VLLM | LLAMA, PEFT_REFUSES, "a tensor of the model that the adapter replaces is "
      "not supported", MERGE },
    { FACT_NORM, VLLM, PEFT_REFUSES, "a tensor of the model that the adapter replaces is not "
      "supported", MERGE },
    /* llama-adapter.cpp: "for now, we don't really care". */
    { FACT_NORM, LLAMA, PEFT_MISREADS, "the conversion keeps norms, and they are passed over at "
      "loading", MERGE },
    { FACT_SAVED_ABSENT, PEFT, PEFT_REFUSES, "none of its tensors is there (a KeyError)",
      "remove modules_to_save" },

    /* --- and its base */
    { FACT_NO_MODULE, PEFT | VLLM, PEFT_MISREADS, "the base has no such module: it passes the "
      "tensor over", "" },
    { FACT_NO_MODULE, LLAMA, PEFT_REFUSES, "the base has no such module", "" },
    { FACT_BARE, PEFT | VLLM, PEFT_MISREADS, "the name is that of the bare body, without the head "
      "on it: the tensor is passed over", CONVERT "peft" },
    { FACT_SHAPE, PEFT | VLLM | LLAMA, PEFT_REFUSES, "the shape is not that of the base's module",
      "" },
    /* convert_lora_to_gguf.py: "lm_head is present in adapter, but is ignored in base model". */
    { FACT_TIED_HEAD, LLAMA, PEFT_REFUSES, "the base's output layer is its embedding", MERGE }
};

static void judge_reader(const struct facts *f, const struct reader *r, peft_adapter_report *out)
{
    int at = out->n_readers++;
    out->readers[at] = r->name;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        const struct rule *rule = &rules[i];
        if (!f->has[rule->fact] || !(rule->readers & r->bit)) continue;
        if (out->verdicts[at] != PEFT_REFUSES && rule->verdict != PEFT_LOADS)
            out->verdicts[at] = rule->verdict;
        if (out->n_findings == PEFT_FINDINGS) continue;
        peft_finding *to = &out->findings[out->n_findings++];
        *to = (peft_finding){ .reader = r->name, .verdict = rule->verdict, .why = rule->why,
                              .fix = rule->fix };
        memcpy(to->found, f->found[rule->fact], sizeof(to->found));
    }
}

int adapter_check(struct host *h, const struct model *m, const char *dir, const char *reader,
                  peft_adapter_report *out)
{
    struct facts *f;
    int asked = 0;
    for (int i = 0; i < PEFT_READERS; i++) asked += !reader || !strcmp(reader, readers[i].name);
    if (!asked)
        return fail(PEFT_EARG, "reader \"%s\", expected peft, vllm or llama.cpp", reader);
    if (!(f = mem_zalloc(&h->mem, sizeof(*f)))) return PEFT_ENOMEM;
    int rc = facts_collect(h, m, dir, f);
    if (!rc) {
        memcpy(out->method, f->method, sizeof(out->method));
        out->rank = f->rank;
        out->tensors = f->tensors;
        for (int i = 0; i < PEFT_READERS; i++)
            if (!reader || !strcmp(reader, readers[i].name)) judge_reader(f, &readers[i], out);
    }
    mem_free(&h->mem, f);
    return rc;
}
