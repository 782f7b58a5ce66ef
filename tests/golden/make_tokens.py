# Adapters of token rows, of tied embeddings and of DoRA on embeddings, made by torch and Hugging
# Face PEFT: expected logits (expect.json), and ten training steps (trace.json) from init/.
#
#     python tests/golden/make_tokens.py          # in the repository root; torch, transformers, peft
import json, os, shutil, warnings
import torch
import torch.nn.functional as F
from peft import LoraConfig, TrainableTokensConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

warnings.filterwarnings("ignore")
OUT = "tests/golden/peft"
LLAMA, TIED, GPT2 = OUT + "/base_llama", OUT + "/base_tied", "tests/golden/tiny/gpt2"
IDS = torch.tensor([[1, 5, 9, 13, 2, 7]])
QV = ["q_proj", "v_proj"]
TASK = {"task_type": "CAUSAL_LM"}


def lora(**more):
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": QV, **TASK, **more})


CASES = {
    "tokens": (LLAMA, lambda: TrainableTokensConfig(token_indices=[9, 3], **TASK)),
    "tokens_lora": (LLAMA, lambda: lora(trainable_token_indices=[3, 9])),
    "tokens_dict": (LLAMA, lambda: lora(
        use_dora=True, trainable_token_indices={"embed_tokens": [9, 3], "lm_head": [1, 2, 60]})),
    "tokens_tied": (TIED, lambda: lora(trainable_token_indices=[9, 3])),
    "tied_lora": (TIED, lambda: lora(target_modules=QV + ["embed_tokens"])),
    "tied_lora_ensured": (TIED, lambda: lora(target_modules=QV + ["embed_tokens"],
                                             ensure_weight_tying=True)),
    "tied_dora_ensured": (TIED, lambda: lora(target_modules=["embed_tokens"], use_dora=True,
                                             ensure_weight_tying=True)),
    "tied_saved": (TIED, lambda: lora(modules_to_save=["embed_tokens"])),
    "tied_saved_both": (TIED, lambda: lora(modules_to_save=["embed_tokens", "lm_head"])),
    "tied_saved_ensured": (TIED, lambda: lora(modules_to_save=["embed_tokens"],
                                              ensure_weight_tying=True)),
    "dora_embed": (LLAMA, lambda: lora(target_modules=QV + ["embed_tokens"], use_dora=True)),
    "dora_gpt2": (GPT2, lambda: lora(target_modules=["c_attn", "c_proj", "wte"], use_dora=True,
                                     fan_in_fan_out=True)),
}
TRACES = ["tokens_lora", "tokens_tied", "tied_lora_ensured", "dora_embed"]


def adapted(base, config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    return get_peft_model(model, config())


def expected(name, base, config):
    model = adapted(base, config)
    torch.manual_seed(1)
    for n, p in model.named_parameters():
        if p.requires_grad:
            whole = any(k in n for k in ("magnitude", "modules_to_save", "token"))
            p.data.copy_(torch.randn_like(p) * 0.1 + (p.data if whole else 0))
    model.eval()
    folder = f"{OUT}/{name}"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    os.remove(folder + "/README.md")
    with torch.no_grad():
        logits = model(IDS).logits[0, -1]
    with open(folder + "/expect.json", "w") as f:
        json.dump({"ids": IDS[0].tolist(), "logits_last": logits.tolist()}, f)
    print(name, {k[17:]: list(v.shape) for k, v in load_file(
        folder + "/adapter_model.safetensors").items() if "layers.1" not in k})


def rows_of(vocab):
    g = torch.Generator().manual_seed(7)
    rows = []
    for _ in range(8):
        n = int(torch.randint(6, 13, (1,), generator=g))
        ids = torch.randint(0, vocab, (n,), generator=g).tolist()
        ids[2] = [3, 9][len(rows) % 2]
        k = int(torch.randint(1, 3, (1,), generator=g))
        rows.append({"input_ids": ids, "labels": [-100] * k + ids[k:]})
    return rows


def add_tied(model):
    """PEFT's A and B of a tied output layer are parameters of their own on the memory of the
    embedding's, so that an optimizer steps twice.  Here the gradients are added, as of one weight."""
    for use, own in (("A", "embedding_B"), ("B", "embedding_A")):
        head = getattr(model.base_model.model.lm_head, "lora_" + use)["default"].weight
        embed = getattr(model.base_model.model.model.embed_tokens, "lora_" + own)["default"]
        assert head.data_ptr() == embed.data_ptr()
        embed.grad += head.grad.T
        head.grad = None


def trace(name, base, config):
    model = adapted(base, config)
    torch.manual_seed(3)
    for n, p in model.named_parameters():
        if p.requires_grad and "lora_" in n and "magnitude" not in n:
            p.data.copy_(torch.randn_like(p) * 0.1)
    folder = f"{OUT}/trace_{name}"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder + "/init")
    os.remove(folder + "/init/README.md")
    tied = "ensured" in name
    params = [p for n, p in model.named_parameters()
              if p.requires_grad and not (tied and "lm_head" in n)]
    adamw = torch.optim.AdamW(params, lr=1e-2, weight_decay=0.01)
    rows = rows_of(model.config.vocab_size)
    losses, norms = [], []
    model.train()
    for step in range(10):
        total, count = 0, 0
        for i in range(4):
            row = rows[(4 * step + i) % 8]
            logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
            target = torch.tensor(row["labels"][1:])
            total = total + F.cross_entropy(logits, target, ignore_index=-100, reduction="sum")
            count += int((target != -100).sum())
        loss = total / count
        loss.backward()
        if tied:
            add_tied(model)
        norms.append(float(torch.nn.utils.clip_grad_norm_(params, 1.0)))
        adamw.step()
        adamw.zero_grad()
        losses.append(float(loss))
    with open(folder + "/trace.json", "w") as f:
        json.dump({"rows": rows, "loss": losses, "grad_norm": norms}, f)
    print("trace", name, losses[0], losses[-1])


def tied_base():
    """base_llama whose embeddings are its output layer too."""
    model = AutoModelForCausalLM.from_pretrained(LLAMA, tie_word_embeddings=True)
    model.tie_weights()
    model.save_pretrained(TIED)
    os.remove(TIED + "/generation_config.json")


tied_base()
for name, (base, config) in CASES.items():
    expected(name, base, config)
    if name in TRACES:
        trace(name, base, config)
