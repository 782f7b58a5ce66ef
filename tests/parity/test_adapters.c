/* Adapters that Hugging Face PEFT wrote: the same logits; what we write reads back, and
 * merging changes nothing. */
#include "trace.h"

static peft_model *base(void) { return load_model("tests/golden/peft/base_llama"); }

static void check_fixture(const char *name)
{
    peft_model *m = base(), *m2 = base();
    json *expect = read_json_file(at("tests/golden/peft/%s/expect.json", name));
    CHECK_EQ(peft_adapter_load(m, "default", at("tests/golden/peft/%s", name)), PEFT_OK);
    CHECK_NEAR(last_apart(m, expect), 0, 2e-5);
    /* Off is the base again, on is back. */
    if (!strstr(name, "seqcls")) {
        CHECK_EQ(peft_adapter_disable(m, "default"), PEFT_OK);
        CHECK(last_apart(m, expect) > 0.01);
        CHECK_EQ(peft_adapter_enable(m, "default"), PEFT_OK);
    }
    CHECK_NEAR(last_apart(m, expect), 0, 2e-5);
    CHECK_EQ(peft_adapter_save(m, "default", at("%s/%s", test_dir, name)), PEFT_OK);
    CHECK_EQ(peft_adapter_load(m2, "again", at("%s/%s", test_dir, name)), PEFT_OK);
    CHECK_NEAR(last_apart(m2, expect), 0, 2e-5);
    if (!strstr(name, "bias") && !model_of(m)->adapters->method->virtual) {
        CHECK_EQ(peft_adapter_merge(m, "default"), PEFT_OK);
        CHECK_NEAR(last_apart(m, expect), 0, 2e-5);
    } else {
        CHECK_EQ(peft_adapter_merge(m, "default"), PEFT_EUNSUPPORTED);
    }
    json_free(expect);
    peft_model_free(m);
    peft_model_free(m2);
}

static void test_lora(void) { check_fixture("lora"); }
static void test_rslora(void) { check_fixture("rslora"); }
static void test_lora_bias(void) { check_fixture("lora_bias"); }
static void test_lora_mts(void) { check_fixture("lora_mts"); }
static void test_lora_pattern(void) { check_fixture("lora_pattern"); }
static void test_lora_seqcls(void) { check_fixture("lora_seqcls"); }

static void test_lora_embed(void) { check_fixture("lora_embed"); }
static void test_dora(void) { check_fixture("dora"); }

static void test_ia3(void) { check_fixture("ia3"); }
static void test_ln(void) { check_fixture("ln"); }
static void test_vera(void) { check_fixture("vera"); }
static void test_loha(void) { check_fixture("loha"); }
static void test_lokr(void) { check_fixture("lokr"); }
static void test_oft(void) { check_fixture("oft"); }
static void test_adalora(void) { check_fixture("adalora"); }
static void test_prompt(void) { check_fixture("prompt"); }
static void test_ptuning(void) { check_fixture("ptuning"); }
static void test_prefix(void) { check_fixture("prefix"); }
static void test_refused(void)
{
    peft_model *m = base();
    CHECK_EQ(peft_adapter_load(m, "default", "tests/golden/peft/base_llama"), PEFT_ENOTFOUND);
    CHECK_EQ(peft_adapter_load(m, "bad name", "tests/golden/peft/lora"), PEFT_EARG);
    CHECK_EQ(peft_adapter_load(m, "default", "tests/golden/tiny/llama/lora_step0"), PEFT_EFORMAT);
    CHECK_EQ(peft_adapter_save(m, "default", at("%s/none", test_dir)), PEFT_ENOTFOUND);
    peft_model_free(m);
}

/* --- ten steps of AdaLoRA, with clipping and accumulation */

/* The ranks left, all modules' and each one's by its own name, are PEFT's; and what is
 * written then, and what PEFT wrote, give its logits. */
static void check_ranks(peft_model *m, const json *trace)
{
    const struct adapter *a = model_of(m)->adapters;
    const json *want = json_first(json_get(trace, "modules"));
    const char *dirs[] = { "tests/golden/peft/trace_adalora/final", at("%s/ranks", test_dir) };
    for (int64_t i = 0; i < a->n_sites; i++) {
        const json *j = want;
        int n = 0;
        while (j && strcmp(json_key(j), a->sites[i].site->name)) j = json_next(j);
        for (int k = 0; k < a->sites[i].rank; k++) n += a->sites[i].part[2]->own[k] != 0;
        CHECK_EQ(n, json_number(j, -1));
    }
    CHECK_NEAR(last_apart(m, trace), 0, 1e-4);
    CHECK_EQ(peft_adapter_save(m, "default", dirs[1]), PEFT_OK);
    for (int k = 0; k < 2; k++) {
        peft_model *other = base();
        CHECK_EQ(peft_adapter_load(other, "default", dirs[k]), PEFT_OK);
        CHECK_NEAR(last_apart(other, trace), 0, k ? 1e-4 : 2e-5);
        CHECK_EQ(peft_adapter_save(other, "default", at("%s/again", test_dir)), PEFT_OK);
        peft_model_free(other);
        other = base();
        CHECK_EQ(peft_adapter_load(other, "default", at("%s/again", test_dir)), PEFT_OK);
        CHECK_NEAR(last_apart(other, trace), 0, k ? 1e-4 : 2e-5);
        CHECK_EQ(peft_adapter_merge(other, "default"), PEFT_OK);
        CHECK_NEAR(last_apart(other, trace), 0, k ? 1e-4 : 2e-5);
        peft_model_free(other);
    }
}

static void check_ranks_trace(int accumulate)
{
    json *trace = read_json_file("tests/golden/peft/trace_adalora/trace.json");
    peft_model *m = base();
    CHECK_EQ(peft_adapter_load(m, "default", "tests/golden/peft/trace_adalora/init"), PEFT_OK);
    trace_follow(m, trace, accumulate);
    check_ranks(m, trace);
    peft_model_free(m);
    json_free(trace);
}

static void test_trace_adalora(void)
{
    check_ranks_trace(1);
    check_ranks_trace(2);
}

int main(void)
{
    golden_begin();
    RUN(test_lora);
    RUN(test_rslora);
    RUN(test_lora_bias);
    RUN(test_lora_mts);
    RUN(test_lora_pattern);
    RUN(test_lora_seqcls);
    RUN(test_lora_embed);
    RUN(test_dora);
    RUN(test_ia3);
    RUN(test_ln);
    RUN(test_vera);
    RUN(test_loha);
    RUN(test_lokr);
    RUN(test_oft);
    RUN(test_adalora);
    RUN(test_prompt);
    RUN(test_ptuning);
    RUN(test_prefix);
    RUN(test_refused);
    RUN(test_trace_adalora);
    golden_end();
    return TEST_END();
}
