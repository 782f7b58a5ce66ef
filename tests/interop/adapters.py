#!/usr/bin/env python3
"""PEFT's LoRA variants on a tiny Llama: loaded, trained and saved by libpeft,
then loaded by PEFT again.

    python tests/interop/adapters.py
"""
import tempfile

from common import *
import peft
from transformers import (AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig,
                          LlamaForCausalLM)

CONFIG = dict(vocab_size=131, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, intermediate_size=52, max_position_embeddings=128,
              pad_token_id=0, attention_bias=True, mlp_bias=True, initializer_range=0.1)
ATTENTION = ["q_proj", "v_proj"]
# name: (tied embeddings, LoraConfig, may be refused)
KINDS = {
    "plain": (False, dict(target_modules=ATTENTION), False),
    "all-linear": (False, dict(target_modules="all-linear"), False),
    "pattern": (False, dict(target_modules=r".*layers\.1\..*(q|k)_proj"), False),
    "one layer": (False, dict(target_modules=ATTENTION, layers_to_transform=[1]), False),
    "rank pattern": (False, dict(target_modules=ATTENTION, rank_pattern={"q_proj": 2},
                                 alpha_pattern={"layers.1.self_attn.v_proj": 3}), False),
    "rslora, rank pattern": (False, dict(target_modules=ATTENTION, use_rslora=True,
                                         rank_pattern={"q_proj": 2}), False),
    "bias lora_only": (False, dict(target_modules=ATTENTION, bias="lora_only"), True),
    "bias all": (False, dict(target_modules=ATTENTION, bias="all"), True),
    "saved lm_head": (False, dict(target_modules=ATTENTION, modules_to_save=["lm_head"]), False),
    "saved head and embedding": (False, dict(target_modules=ATTENTION, modules_to_save=[
        "lm_head", "embed_tokens"]), False),
    "saved norm": (False, dict(target_modules=ATTENTION, modules_to_save=["norm"]), True),
    "lm_head as target": (False, dict(target_modules=ATTENTION + ["lm_head"]), True),
    "embedding as target": (False, dict(target_modules=ATTENTION + ["embed_tokens"]), True),
    "tied, saved embedding": (True, dict(target_modules=ATTENTION, modules_to_save=[
        "embed_tokens"]), True),
    "tied, saved embedding, both": (True, dict(target_modules=ATTENTION, modules_to_save=[
        "embed_tokens"], ensure_weight_tying=True), False),
    "DoRA": (False, dict(target_modules=ATTENTION, use_dora=True), True),
    "lora_bias": (False, dict(target_modules=ATTENTION, lora_bias=True), True),
    "sequence classes": (False, dict(target_modules=ATTENTION, task_type="SEQ_CLS"), False),
}


def make_batch(seed, labels):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 131, (3, 14), generator=g)
    y = torch.randint(0, 3, (3,), generator=g) if labels else ids.clone()
    return dict(input_ids=ids, attention_mask=torch.ones_like(ids), labels=y)


def one(name, work):
    tied, options, may_refuse = KINDS[name]
    folder, start = os.path.join(work, "base%d" % tied), os.path.join(work, name)
    classes = options.get("task_type") == "SEQ_CLS"
    auto = AutoModelForSequenceClassification if classes else AutoModelForCausalLM
    more = dict(num_labels=3) if classes else {}

    def fresh():
        torch.manual_seed(11)       # the classification head that the base lacks
        return auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                    **more)

    config = peft.LoraConfig(**dict(dict(task_type="CAUSAL_LM", r=4, lora_alpha=8,
                                         init_lora_weights=False), **options))
    torch.manual_seed(5)
    model = peft.get_peft_model(fresh(), config)
    for n, p in model.named_parameters():
        if "modules_to_save" in n or p.requires_grad and n.endswith("bias"):
            p.data += 0.05 * torch.randn(p.shape)
    model.save_pretrained(start)
    trains = {n for n, p in model.named_parameters() if p.requires_grad}
    batches = [make_batch(1, classes), make_batch(2, classes)]
    data = os.path.join(work, "rows.jsonl")
    write_rows(data, batches)
    ids = batches[0]["input_ids"][0].tolist()
    with libpeft.Model(folder) as ours:
        try:
            ours.load_adapter(start)
        except libpeft.PeftError as error:
            check_true(name + " refused", may_refuse, str(error)[-130:])
            return
        check(name + " logits", max_diff(torch_logits(model, ids), logits(ours, ids)), 2e-5)
        check_true(name + " trainable", ours.info.trainable == sum(
            p.numel() for n, p in model.named_parameters() if n in trains), "%d %d" % (
            ours.info.trainable, sum(p.numel() for n, p in model.named_parameters()
                                     if n in trains)))
        theirs = torch_train(model, batches, 2e-3, 10, lambda n: n in trains)
        got = our_train(ours, ours.dataset(data), 2e-3, 10, 3)
        check(name + " losses", worst(got[0], theirs[0]), 1e-4)
        check(name + " gradient norms", worst(got[1], theirs[1]), 1e-3)
        out = os.path.join(work, name + ".ours")
        ours.save_adapter(out)
        back = peft.PeftModel.from_pretrained(fresh(), out)
        mine = logits(ours, ids)
        check(name + " back in PEFT", max_diff(mine, torch_logits(back, ids)), 2e-5)
        with libpeft.Model(folder) as again:
            again.load_adapter(out)
            check(name + " back in libpeft", max_diff(mine, logits(again, ids)), 2e-5)
        ours.merge()
        check(name + " merged", max_diff(mine, logits(ours, ids)), 2e-5)
        merged = os.path.join(work, name + ".merged")
        ours.save(merged)
        hf = auto.from_pretrained(merged, dtype=torch.float32)
        check(name + " merged, in transformers", max_diff(mine, torch_logits(hf, ids)), 2e-5)


def main():
    with tempfile.TemporaryDirectory() as work:
        for tied in (False, True):
            torch.manual_seed(1)
            model = LlamaForCausalLM(LlamaConfig(**CONFIG, tie_word_embeddings=tied))
            for n, p in model.named_parameters():
                if n.endswith("bias"):
                    p.data.normal_(0, 0.05)
            model.save_pretrained(os.path.join(work, "base%d" % tied))
        for name in sys.argv[1:] or KINDS:
            try:
                one(name, work)
            except Exception as error:
                check_true(name + " raised", False, "%s: %s" % (type(error).__name__, error))
    finish()


main()
