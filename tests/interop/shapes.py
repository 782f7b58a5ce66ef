#!/usr/bin/env python3
"""Random tiny models of many shapes, made by transformers, against libpeft:
logits, the gradient of every tensor, and 10-step losses of full tuning and of
two LoRAs; then our adapter back in PEFT and our saved folder back in transformers.

    python tests/interop/shapes.py [NAME ...]
"""
import copy
import json
import shutil
import tempfile

from common import *
import peft
from transformers import (AutoModelForCausalLM, AutoModelForSequenceClassification, BertConfig,
                          BertForSequenceClassification, LlamaConfig, LlamaForCausalLM,
                          LlamaForSequenceClassification, MistralConfig, MistralForCausalLM,
                          MistralForSequenceClassification, Qwen2Config, Qwen2ForCausalLM,
                          Qwen2ForSequenceClassification, Qwen3Config, Qwen3ForCausalLM,
                          Qwen3ForSequenceClassification)

IDS = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
BASE = dict(vocab_size=131, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, intermediate_size=52, max_position_embeddings=128, **IDS)
ODD = dict(BASE, hidden_size=54, num_attention_heads=6, num_key_value_heads=2, head_dim=10)
BERT = dict(vocab_size=101, hidden_size=36, num_hidden_layers=2, num_attention_heads=3,
            intermediate_size=50, max_position_embeddings=64, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, num_labels=3, pad_token_id=0)
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BERT_LINEAR = ["query", "key", "value", "dense"]


def rope(theta=10000.0, kind="default", **more):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **more))


def old_rope(theta, scaling=None):
    """config.json as transformers before 5 wrote it."""
    def edit(config):
        config.pop("rope_parameters", None)
        config["rope_theta"] = theta
        config["rope_scaling"] = scaling
    return edit


def without(*keys):
    def edit(config):
        for key in keys:
            config.pop(key, None)
    return edit


LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)


def llama(base=BASE, **more):
    return LlamaForCausalLM, LlamaConfig(**dict(base, **rope(), **more) if "rope_parameters"
                                         not in more else dict(base, **more))


# name: (class, config), edit of config.json, how to save
SHAPES = {
    "llama": (llama(), None, {}),
    "llama_odd": (llama(ODD), None, {}),
    "llama_odd_biases_untied": (llama(ODD, attention_bias=True, mlp_bias=True,
                                      tie_word_embeddings=False), None, {}),
    "llama_attention_bias": (llama(attention_bias=True, tie_word_embeddings=True), None, {}),
    "llama_mlp_bias": (llama(mlp_bias=True), None, {}),
    "llama_mqa": (llama(dict(BASE, hidden_size=30, num_attention_heads=5, num_key_value_heads=1)),
                  None, {}),
    "llama_mha_1layer": (llama(dict(BASE, num_key_value_heads=4, num_hidden_layers=1)),
                         without("num_key_value_heads", "head_dim"), {}),
    "llama_5layers_eps": (llama(dict(BASE, num_hidden_layers=5), rms_norm_eps=1e-2), None, {}),
    "llama_head_dim_2": (llama(dict(BASE, hidden_size=21, num_attention_heads=3,
                                    num_key_value_heads=3, head_dim=2)), None, {}),
    "llama_rope_linear_new": (llama(**rope(500.0, "linear", factor=4.0)), None, {}),
    "llama_rope_linear_old": (llama(**rope(500.0, "linear", factor=4.0)),
                              old_rope(500.0, {"type": "linear", "factor": 4.0}), {}),
    "llama_rope3_old": (llama(**rope(777.0, "llama3", **LLAMA3)),
                        old_rope(777.0, dict(rope_type="llama3", **LLAMA3)), {}),
    "llama_rope3_new": (llama(ODD, **rope(777.0, "llama3", **LLAMA3)), None, {}),
    "llama_theta_old": (llama(**rope(123.0)), old_rope(123.0), {}),
    "llama_unused_window": (llama(), lambda c: c.update(sliding_window=3), {}),
    "llama_theta_absent": (llama(**rope(10000.0)), without("rope_parameters"), {}),
    "llama_bf16": (llama(ODD), None, dict(dtype=torch.bfloat16)),
    "llama_f16": (llama(tie_word_embeddings=True), None, dict(dtype=torch.float16)),
    "llama_sharded": (llama(ODD), None, dict(max_shard_size="30KB")),
    "llama_sharded_bf16": (llama(), None, dict(dtype=torch.bfloat16, max_shard_size="20KB")),
    "llama_tied_with_head": (llama(tie_word_embeddings=True), None, dict(head="same")),
    "llama_tied_other_head": (llama(tie_word_embeddings=True), None, dict(head="other")),
    "llama_cls": ((LlamaForSequenceClassification,
                   LlamaConfig(**BASE, **rope(), num_labels=4)), None, {}),
    "llama_cls_tied_bf16": ((LlamaForSequenceClassification,
                             LlamaConfig(**ODD, **rope(), num_labels=2,
                                         tie_word_embeddings=True)),
                            None, dict(dtype=torch.bfloat16)),
    "mistral_window5": ((MistralForCausalLM, MistralConfig(**ODD, **rope(), sliding_window=5)),
                        None, {}),
    "mistral_window1": ((MistralForCausalLM, MistralConfig(**BASE, **rope(), sliding_window=1)),
                        None, {}),
    "mistral_no_window": ((MistralForCausalLM, MistralConfig(**BASE, **rope(3e5),
                                                             sliding_window=None)), None, {}),
    "mistral_cls": ((MistralForSequenceClassification,
                     MistralConfig(**BASE, **rope(), sliding_window=6, num_labels=2)), None, {}),
    "qwen2": ((Qwen2ForCausalLM, Qwen2Config(**BASE, **rope(1e6))), None, {}),
    "qwen2_unused_window": ((Qwen2ForCausalLM, Qwen2Config(
        **BASE, **rope(1e6), sliding_window=4, use_sliding_window=False)), None, {}),
    "qwen2_window": ((Qwen2ForCausalLM, Qwen2Config(
        **BASE, **rope(1e6), sliding_window=4, use_sliding_window=True, max_window_layers=1)),
        None, dict(may_refuse=True)),
    "qwen2_cls": ((Qwen2ForSequenceClassification, Qwen2Config(**BASE, **rope(), num_labels=3)),
                  None, {}),
    "qwen3_odd_tied": ((Qwen3ForCausalLM, Qwen3Config(**ODD, **rope(1e6),
                                                      tie_word_embeddings=True)), None, {}),
    "qwen3_bias": ((Qwen3ForCausalLM, Qwen3Config(**ODD, **rope(1e6), attention_bias=True)),
                   None, {}),
    "qwen3_cls": ((Qwen3ForSequenceClassification, Qwen3Config(**ODD, **rope(), num_labels=2)),
                  None, {}),
    "llama_gelu": (llama(hidden_act="gelu"), None, dict(may_refuse=True)),
    "llama_yarn": (llama(**rope(1e4, "yarn", factor=4.0, original_max_position_embeddings=32)),
                   None, dict(may_refuse=True)),
    "llama_dynamic": (llama(**rope(1e4, "dynamic", factor=4.0)), None, dict(may_refuse=True)),
    "bert": ((BertForSequenceClassification, BertConfig(**BERT)), None, {}),
    "bert_relu_1type": ((BertForSequenceClassification, BertConfig(
        **dict(BERT, type_vocab_size=1, hidden_act="relu"))), None, dict(may_refuse=True)),
    "bert_gelu_new_bf16": ((BertForSequenceClassification, BertConfig(
        **dict(BERT, hidden_act="gelu_new", num_labels=2))), None,
        dict(may_refuse=True, dtype=torch.bfloat16)),
}


def randomize(model):
    """Every term must matter: larger weights than the library's own, norms
    around 1, biases that are not 0."""
    for name, p in model.named_parameters():
        x = torch.randn(p.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
        if p.ndim == 1:
            norm = "norm" in name.lower() and name.endswith("weight")
            x = x * 0.1 + 1.0 if norm else x * 0.05
        else:
            x = x * (0.15 if "embed" in name else 0.8 / math.sqrt(p.shape[1]))
        p.data.copy_(x)


def make_batch(seed, vocab, labels):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, vocab, (3, 17), generator=g)
    mask = torch.ones_like(ids)
    for row, n in ((1, 11), (2, 4)):
        ids[row, n:] = 0
        mask[row, n:] = 0
    if labels:
        return dict(input_ids=ids, attention_mask=mask,
                    labels=torch.randint(0, labels, (3,), generator=g))
    y = ids.clone()
    y[mask == 0] = -100
    y[1, :3] = -100
    return dict(input_ids=ids, attention_mask=mask, labels=y)


def save_model(folder, cls, config, edit, how):
    torch.manual_seed(0)
    model = cls._from_config(config, attn_implementation="eager").float()
    randomize(model)
    model.tie_weights()
    if "dtype" in how:
        model = model.to(how["dtype"])
    model.save_pretrained(folder, max_shard_size=how.get("max_shard_size", "5GB"))
    if "head" in how:
        from safetensors.torch import load_file, save_file
        path = os.path.join(folder, "model.safetensors")
        tensors = load_file(path)
        head = tensors["model.embed_tokens.weight"].clone()
        tensors["lm_head.weight"] = head if how["head"] == "same" else head.flip(0).contiguous()
        save_file(tensors, path, metadata={"format": "pt"})
    if edit:
        path = os.path.join(folder, "config.json")
        values = json.load(open(path))
        edit(values)
        json.dump(values, open(path, "w"))


def load_torch(auto, folder, dtype=torch.float32):
    model = auto.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    model.config.use_cache = False
    return model


def forward_ids(vocab):
    g = torch.Generator().manual_seed(7)
    return [torch.randint(5, vocab, (n,), generator=g).tolist() for n in (1, 2, 24, 61)]


def compare_logits(name, torch_model, ours, vocab, limit=5e-5):
    check(name, max(max_diff(torch_logits(torch_model, ids), logits(ours, ids))
                    for ids in forward_ids(vocab)), limit)


def gradients(name, auto, folder, data, batch):
    """Every tensor's gradient: |difference| / |gradient|, the latter at least
    1e-4 of the whole (a key's bias has none but rounding without rope)."""
    model = load_torch(auto, folder).train()
    loss = model(**batch).loss
    loss.backward()
    theirs = {n: p.grad.double().numpy().ravel() for n, p in model.named_parameters()
              if p.grad is not None}
    whole = math.sqrt(sum(float(g @ g) for g in theirs.values()))
    with libpeft.Model(folder) as ours:
        ours.to_float("*")
        ours.unfreeze("*")
        have = [p.name for p in ours.params()]
        missing = sorted(set(theirs) - set(have))
        check_true(name + " names", not missing, " ".join(missing))
        rows = ours.dataset(data, limit=3)
        step, got = our_gradients(ours, rows, 3, [n for n in have if n in theirs])
    check(name + " loss", abs(step.loss - float(loss.detach())) / float(loss.detach()), 2e-5)
    check(name + " gradient norm", abs(step.grad_norm - whole) / whole, 1e-4)
    errors = {n: np.linalg.norm(got[n] - theirs[n]) / max(np.linalg.norm(theirs[n]), 1e-4 * whole)
              for n in got}
    at = max(errors, key=errors.get)
    check("%s gradients (%d tensors, worst %s)" % (name, len(errors), at.split("model.")[-1]),
          errors[at], 1e-3)


def lora_run(name, auto, folder, data, batches, targets, rank, labels, **more):
    torch.manual_seed(1234)
    heads = [n for n in ("score", "classifier") if labels and hasattr(load_torch(auto, folder), n)]
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets,
                             task_type="SEQ_CLS" if labels else "CAUSAL_LM",
                             modules_to_save=heads or None, **more)
    model = peft.get_peft_model(load_torch(auto, folder), config)
    start = os.path.join(folder, "start")
    model.save_pretrained(start, save_embedding_layers=False)
    trains = {n for n, p in model.named_parameters() if p.requires_grad}
    theirs = torch_train(model, batches, 2e-3, 10, lambda n: n in trains)
    with libpeft.Model(folder) as ours:
        ours.load_adapter(start)
        rows = ours.dataset(data)
        got = our_train(ours, rows, 2e-3, 10, 3)
        check(name + " losses", worst(got[0], theirs[0]), 1e-4)
        check(name + " gradient norms", worst(got[1], theirs[1]), 1e-3)
        check_true(name + " trainable", ours.info.trainable == sum(
            p.numel() for n, p in model.named_parameters() if n in trains))
        vocab = ours.info.vocab
        compare_logits(name + " trained, logits", model, ours, vocab, 5e-4)
        adapter = os.path.join(folder, "ours")
        ours.save_adapter(adapter)
        back = peft.PeftModel.from_pretrained(load_torch(auto, folder), adapter)
        compare_logits(name + " our adapter in PEFT", back, ours, vocab)
        ids = forward_ids(vocab)
        on = [logits(ours, i) for i in ids]
        ours.merge()
        check(name + " merged", max(max_diff(a, logits(ours, i)) for a, i in zip(on, ids)),
              2e-2 if any(p.type in ("BF16", "F16") for p in ours.params()) else 5e-5)
        merged = [logits(ours, i) for i in ids]
        for shard, dtype, limit in ((0, "f32", 1e-5), (20000, "bf16", 0.3)):
            out = os.path.join(folder, "merged")
            shutil.rmtree(out, ignore_errors=True)
            ours.save(out, dtype=dtype, shard_bytes=shard)
            hf = load_torch(auto, out)
            check("%s merged folder %s in transformers" % (name, dtype),
                  max(max_diff(a, torch_logits(hf, i)) for a, i in zip(merged, ids)),
                  max(limit, 5e-5))
            with libpeft.Model(out) as again:
                check("%s merged folder %s, libpeft and transformers" % (name, dtype),
                      max(max_diff(logits(again, i), torch_logits(hf, i)) for i in ids), 5e-5)


def one(name, work):
    (cls, config), edit, how = SHAPES[name]
    folder = os.path.join(work, name)
    labels = config.num_labels if "Sequence" in cls.__name__ else 0
    auto = AutoModelForSequenceClassification if labels else AutoModelForCausalLM
    save_model(folder, cls, config, edit, how)
    vocab = config.vocab_size
    batches = [make_batch(101, vocab, labels), make_batch(202, vocab, labels)]
    data = os.path.join(folder, "data.jsonl")
    write_rows(data, batches)
    try:
        ours = libpeft.Model(folder)
    except libpeft.PeftError as error:
        check_true(name + " refused", how.get("may_refuse", False), str(error))
        return
    with ours:
        compare_logits(name + " logits", load_torch(auto, folder), ours, vocab)
    gradients(name, auto, folder, data, batches[0])
    model = load_torch(auto, folder)
    theirs = torch_train(model, batches, 1e-3, 10, lambda n: True)
    with libpeft.Model(folder) as ours:
        ours.to_float("*")
        got = our_train(ours, ours.dataset(data), 1e-3, 10, 3)
        check(name + " full losses", worst(got[0], theirs[0]), 1e-4)
        check(name + " full gradient norms", worst(got[1], theirs[1]), 1e-3)
        out = os.path.join(folder, "full")
        ours.save(out)
        compare_logits(name + " full, our folder in transformers", load_torch(auto, out), ours,
                       vocab)
    bert = config.model_type == "bert"
    lora_run(name + " lora all", auto, folder, data, batches,
             r".*encoder\.layer\.\d+\..*(query|key|value|dense)" if bert else LINEAR, 8, labels)
    shutil.rmtree(os.path.join(folder, "ours"))
    lora_run(name + " rslora q,v", auto, folder, data, batches,
             ["query", "value"] if bert else ["q_proj", "v_proj"], 3, labels, use_rslora=True,
             init_lora_weights=False)


def main():
    with tempfile.TemporaryDirectory() as work:
        for name in sys.argv[1:] or SHAPES:
            print("--", name)
            try:
                one(name, work)
            except Exception as error:
                check_true(name + " raised", False, "%s: %s" % (type(error).__name__, error))
    finish()


main()
