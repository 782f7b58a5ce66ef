#!/usr/bin/env python3
"""What `peft adapter check` says of good and broken adapters, against what PEFT and llama.cpp's
converter make of them.

    python tests/interop/readers.py [LLAMA_CPP_FOLDER] [NAME ...]

Each adapter begins as one that PEFT saved, whose logits are the truth; then its files are broken
in one way.  PEFT loads it (logits as the truth), refuses it (an exception) or misreads it.  With a
folder that has convert_lora_to_gguf.py the same for llama.cpp: the update alpha / rank B A of each
tensor of the GGUF file that it writes against the truth's weights merged less the base's.
What llama.cpp does not read right is converted (`peft adapter convert`) to a LoRA, or merged where
that is not possible, and must then be right in PEFT or transformers, and in llama.cpp.
"""
import shutil
import subprocess
import tempfile

from common import *
import peft
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, GPT2Config
from transformers import GPT2LMHeadModel

LLAMA = dict(vocab_size=131, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, intermediate_size=52, max_position_embeddings=128,
             pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.1)
QV = ["q_proj", "v_proj"]
IDS = [5, 17, 99, 30, 64, 8, 120, 41]
TENSORS = "adapter_model.safetensors"


def config(**values):
    """Changes members of adapter_config.json; None removes one."""
    def edit(folder):
        path = os.path.join(folder, "adapter_config.json")
        c = json.load(open(path))
        c.update(values)
        json.dump({k: v for k, v in c.items() if v is not None}, open(path, "w"))
    return edit


def tensors(change):
    """Gives each tensor a new name, or none."""
    def edit(folder):
        path = os.path.join(folder, TENSORS)
        out = {change(k): v.contiguous() for k, v in load_file(path).items()}
        save_file({k: v for k, v in out.items() if k}, path, metadata={"format": "pt"})
    return edit


def rename(old, new):
    return tensors(lambda k: k.replace(old, new))


def as_pickle(folder):
    torch.save(load_file(os.path.join(folder, TENSORS)), os.path.join(folder, "adapter_model.bin"))
    os.remove(os.path.join(folder, TENSORS))


def as_bf16(folder):
    path = os.path.join(folder, TENSORS)
    save_file({k: v.bfloat16() for k, v in load_file(path).items()}, path)


def as_shards(folder):
    os.rename(os.path.join(folder, TENSORS),
              os.path.join(folder, "adapter_model-00001-of-00001.safetensors"))
    json.dump({"weight_map": {}}, open(os.path.join(folder, TENSORS + ".index.json"), "w"))


def drop_tensors(part):
    return tensors(lambda k: None if part in k else k)


def lora(**values):
    return peft.LoraConfig(**dict(dict(task_type="CAUSAL_LM", r=4, lora_alpha=6, target_modules=QV,
                                       init_lora_weights=False), **values))


MANY = QV + ["k_proj", "o_proj", "up_proj", "down_proj", "gate_proj"]
# name: (base, PEFT's config, what breaks the files or None)
CASES = {
    "plain": ("llama", lora(), None),
    "all linear": ("llama", lora(target_modules="all-linear"), None),
    "rslora": ("llama", lora(use_rslora=True), None),
    "rank pattern": ("llama", lora(rank_pattern={"q_proj": 2}), None),
    "rank and alpha pattern": ("llama", lora(rank_pattern={"q_proj": 2},
                                             alpha_pattern={"q_proj": 3}), None),
    "alpha pattern": ("llama", lora(alpha_pattern={"layers.1.self_attn.v_proj": 3}), None),
    "one layer": ("llama", lora(layers_to_transform=[1]), None),
    "expression": ("llama", lora(target_modules=r".*layers\.1\..*(q|k)_proj"), None),
    "dora": ("llama", lora(use_dora=True), None),
    "lora_bias": ("llama-bias", lora(lora_bias=True), None),
    "bias all": ("llama-bias", lora(bias="all"), None),
    "saved lm_head": ("llama", lora(modules_to_save=["lm_head"]), None),
    "saved norm": ("llama", lora(modules_to_save=["norm"]), None),
    "embedding": ("llama", lora(target_modules=QV + ["embed_tokens"]), None),
    "lm_head": ("llama", lora(target_modules=QV + ["lm_head"]), None),
    "lm_head, tied": ("llama-tied", lora(target_modules=QV + ["lm_head"]), None),
    "token rows": ("llama", lora(trainable_token_indices=[5, 17]), None),
    "pissa": ("llama", lora(init_lora_weights="pissa"), None),
    "olora": ("llama", lora(init_lora_weights="olora"), None),
    "pissa, random": ("llama", lora(init_lora_weights="pissa_niter_1"), None),
    "gaussian": ("llama", lora(init_lora_weights="gaussian"), None),
    "conv1d": ("gpt2", lora(target_modules=["c_attn"], fan_in_fan_out=True), None),
    "conv1d, square": ("gpt2", lora(target_modules=["attn.c_proj"], fan_in_fan_out=True), None),
    "bf16": ("llama", lora(), as_bf16),
    "pickle": ("llama", lora(), as_pickle),
    "shards": ("llama", lora(), as_shards),
    "no config": ("llama", lora(), lambda f: os.remove(os.path.join(f, "adapter_config.json"))),
    "no tensors": ("llama", lora(), lambda f: os.remove(os.path.join(f, TENSORS))),
    "no peft_type": ("llama", lora(), config(peft_type=None)),
    "unknown type": ("llama", lora(), config(peft_type="NEWTUNE")),
    "no r": ("llama", lora(), config(r=None)),
    "r of another": ("llama", lora(), config(r=2)),
    "no alpha": ("llama", lora(), config(lora_alpha=None)),
    "no targets, defaults": ("llama", lora(), config(target_modules=None)),
    "no targets": ("llama", lora(target_modules=MANY), config(target_modules=None)),
    "fewer targets": ("llama", lora(), config(target_modules=["q_proj"])),
    "excluded": ("llama", lora(), config(exclude_modules=["v_proj"])),
    "fewer layers": ("llama", lora(), config(layers_to_transform=[0])),
    "no base": ("llama", lora(), config(base_model_name_or_path=None)),
    "no rank pattern": ("llama", lora(rank_pattern={"q_proj": 2}), config(rank_pattern={})),
    "no use_dora": ("llama", lora(use_dora=True), config(use_dora=None)),
    "no lora_bias": ("llama-bias", lora(lora_bias=True), config(lora_bias=None)),
    "no modules_to_save": ("llama", lora(modules_to_save=["lm_head"]),
                           config(modules_to_save=None)),
    "saved without tensors": ("llama", lora(), config(modules_to_save=["lm_head"])),
    "no token indices": ("llama", lora(trainable_token_indices=[5, 17]),
                         config(trainable_token_indices=None)),
    "no prefix": ("llama", lora(), rename("base_model.model.", "")),
    "other prefix": ("llama", lora(), rename("base_model.model.model.", "base_model.model.")),
    "named": ("llama", lora(), rename(".weight", ".default.weight")),
    "half": ("llama", lora(), drop_tensors("layers.1.self_attn.q_proj.lora_A")),
    "no such layer": ("llama", lora(), rename("layers.1.", "layers.7.")),
    "ia3": ("llama", peft.IA3Config(task_type="CAUSAL_LM", init_ia3_weights=False), None),
    "loha": ("llama", peft.LoHaConfig(r=4, target_modules=QV, init_weights=False), None),
    "adalora": ("llama", peft.AdaLoraConfig(init_r=4, target_r=2, total_step=10, target_modules=QV,
                                            init_lora_weights=False), None),
    "vera": ("llama", peft.VeraConfig(r=4, target_modules=QV, init_weights=False,
                                      save_projection=True), None),
    "ln": ("llama", peft.LNTuningConfig(task_type="CAUSAL_LM"), None),
    "prompt": ("llama", peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4), None),
}


def base(work, name):
    return AutoModelForCausalLM.from_pretrained(os.path.join(work, name), dtype=torch.float32)


def make(work, name, folder):
    """The true logits and the true change of each weight (None: not of weights)."""
    kind, settings, breaks = CASES[name]
    torch.manual_seed(3)
    model = peft.get_peft_model(base(work, kind), settings)
    for n, p in model.named_parameters():
        if p.requires_grad:
            p.data += 0.05 * torch.randn(p.shape)
    model.save_pretrained(folder)
    truth = torch_logits(model, IDS)
    if settings.is_prompt_learning:
        truth, change = truth, None
    else:
        merged = model.merge_and_unload().state_dict()
        plain = base(work, kind).state_dict()
        change = {k: (merged[k] - plain[k]).numpy() for k in plain
                  if not np.array_equal(merged[k], plain[k])}
    if breaks:
        breaks(folder)
    return truth, change


def in_peft(work, name, folder, truth):
    try:
        model = peft.PeftModel.from_pretrained(base(work, CASES[name][0]), folder)
        apart = max_diff(truth, torch_logits(model, IDS))
    except Exception as error:
        return "refuses", "%s: %.80s" % (type(error).__name__, " ".join(str(error).split()))
    return "loads" if apart < (0.05 if name == "bf16" else 1e-4) else "misreads", "%.2g" % apart


def gguf_names(kind):
    rows = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
            "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
    names = {"model.embed_tokens.weight": "token_embd.weight", "lm_head.weight": "output.weight"}
    for i in range(2):
        for hf, g in rows.items():
            block = "self_attn" if hf[0] in "qkvo" else "mlp"
            names["model.layers.%d.%s.%s.weight" % (i, block, hf)] = "blk.%d.%s.weight" % (i, g)
        names["transformer.h.%d.attn.c_attn.weight" % i] = "blk.%d.attn_qkv.weight" % i
        names["transformer.h.%d.attn.c_proj.weight" % i] = "blk.%d.attn_output.weight" % i
    return names


def plain_order(w, heads):
    """GGUF's interleaved rows of q and k as Hugging Face has them."""
    return w.reshape(heads, w.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)


def in_llama(work, name, folder, change, llama):
    import gguf
    out = os.path.join(folder, "out.gguf")
    done = subprocess.run([sys.executable, os.path.join(llama, "convert_lora_to_gguf.py"), "--base",
                           os.path.join(work, CASES[name][0]), "--outfile", out, folder],
                          capture_output=True, text=True)
    if done.returncode:
        return "refuses", done.stderr.strip().split("\n")[-1][-90:]
    reader = gguf.GGUFReader(out)
    alpha = float(reader.fields["adapter.lora.alpha"].parts[-1][0])
    parts = {t.name: np.array(t.data, np.float64) for t in reader.tensors}
    if "tied" in CASES[name][0] and "output.weight.lora_a" in parts:
        return "refuses", "the base has no output.weight"
    names, worst_of = gguf_names(name), 0.0
    for hf, delta in (change or {}).items():
        g = names.get(hf)
        delta = delta.T if "transformer" in hf else delta
        if not g or g + ".lora_a" not in parts:
            return "misreads", "nothing of " + hf
        a, b = parts[g + ".lora_a"], parts[g + ".lora_b"]
        if g == "token_embd.weight":
            a = a.T
            now = alpha / a.shape[0] * (b @ a).T
        else:
            now = alpha / a.shape[0] * b @ a
        if now.shape != delta.shape:
            return "refuses", "the shape of " + g
        for key, heads in (("attn_q.", 4), ("attn_k.", 2)):
            now = plain_order(now, heads) if key in g else now
        worst_of = max(worst_of, max_diff(now, delta))
    return "loads" if worst_of < (0.01 if name == "bf16" else 1e-5) else "misreads", (
        "%.2g" % worst_of)


def one(name, work, llama):
    folder = os.path.join(work, "adapter")
    shutil.rmtree(folder, ignore_errors=True)
    truth, change = make(work, name, folder)
    with libpeft.Model(os.path.join(work, CASES[name][0])) as model:
        said = libpeft.check_adapter(folder, base=model)
    print("    vllm: " + said["vllm"].verdict)
    verdict, detail = in_peft(work, name, folder, truth)
    check_true(name + " in PEFT", said["peft"].verdict == verdict, "%s, said %s [%s]" % (
        verdict, said["peft"].verdict, detail))
    if llama:
        verdict, detail = in_llama(work, name, folder, change, llama)
        check_true(name + " in llama.cpp", said["llama.cpp"].verdict == verdict,
                   "%s, said %s [%s]" % (verdict, said["llama.cpp"].verdict, detail))
    if said["llama.cpp"].verdict != "loads" and CASES[name][2] is None:
        converted(name, work, folder, truth, change, llama)


def converted(name, work, folder, truth, change, llama):
    out = os.path.join(work, "converted")
    shutil.rmtree(out, ignore_errors=True)
    kind = CASES[name][0]
    for merge in (0, 1):
        with libpeft.Model(os.path.join(work, kind)) as model:
            try:
                result = model.convert_adapter(folder, out, reader="llama.cpp", merge=merge)
                break
            except libpeft.PeftError as error:
                print("    not %s: %s" % ("merged" if merge else "folded", str(error)[-140:]))
    else:
        return
    if merge:
        model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
        check(name + " merged, in transformers", max_diff(truth, torch_logits(model, IDS)), 1e-4)
        return
    model = peft.PeftModel.from_pretrained(base(work, kind), out)
    check("%s as %s of rank %d, in PEFT" % (name, result.kind, result.rank),
          max_diff(truth, torch_logits(model, IDS)), 1e-4)
    said = libpeft.check_adapter(out)
    check_true(name + " converted, all load it", all(s.verdict == "loads" for s in said.values()))
    if llama:
        verdict, detail = in_llama(work, name, out, change, llama)
        check_true(name + " converted, in llama.cpp", verdict == "loads", detail)


def main():
    names = sys.argv[1:]
    llama = names.pop(0) if names and os.path.isdir(names[0]) else None
    with tempfile.TemporaryDirectory() as work:
        for kind, more in {"llama": {}, "llama-tied": dict(tie_word_embeddings=True),
                           "llama-bias": dict(attention_bias=True)}.items():
            torch.manual_seed(1)
            model = LlamaForCausalLM(LlamaConfig(**LLAMA, **more))
            model.save_pretrained(os.path.join(work, kind))
        torch.manual_seed(1)
        GPT2LMHeadModel(GPT2Config(vocab_size=131, n_embd=48, n_layer=2, n_head=4, n_positions=128,
                                   bos_token_id=1, eos_token_id=2, initializer_range=0.1)
                        ).save_pretrained(os.path.join(work, "gpt2"))
        for name in names or CASES:
            try:
                one(name, work, llama)
            except Exception as error:
                check_true(name + " raised", False, "%s: %s" % (type(error).__name__, error))
    finish()


main()
