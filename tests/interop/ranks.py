#!/usr/bin/env python3
"""Methods that choose ranks, and starts that come from data or from a quantised
base, against PEFT.

    python tests/interop/ranks.py
"""
import tempfile

from common import *
import peft
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

CONFIG = dict(vocab_size=131, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, intermediate_size=96, max_position_embeddings=128,
              pad_token_id=0, initializer_range=0.1)


def batch(seed, rows=4):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 131, (rows, 14), generator=g)
    labels = ids.clone()
    labels[:, 0] = -100         # a first token is trained by neither, but PEFT's EVA counts it
    return dict(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels)


def fresh(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                attn_implementation="eager")


def adalora(folder, data, work):
    """Trained here with dropped ranks, loaded by PEFT, saved by it, loaded here."""
    ids = batch(1)["input_ids"][0].tolist()
    out, back = os.path.join(work, "adalora"), os.path.join(work, "adalora.peft")
    for target in (4, 1):
        with libpeft.Model(folder) as ours:
            ours.add_adapter(method="adalora", rank=6, settings=dict(target_r=target, tinit=2,
                                                                     tfinal=3))
            our_train(ours, ours.dataset(data), 2e-2, 12, 4)
            ours.save_adapter(out)
            mine = logits(ours, ids)
        with open(os.path.join(out, "adapter_config.json")) as file:
            ranks = [sum(v) for v in json.load(file)["rank_pattern"].values()]
        check_true("adalora budget", sum(ranks) == target * len(ranks), str(ranks))
        theirs = peft.PeftModel.from_pretrained(fresh(folder), out)
        check("adalora in PEFT", max_diff(mine, torch_logits(theirs, ids)), 2e-5)
        theirs.save_pretrained(back)
        with libpeft.Model(folder) as again:
            again.load_adapter(back)
            check("adalora back", max_diff(mine, logits(again, ids)), 2e-5)


def eva(folder, data, work):
    """The start by both from the same batch: ranks, and the space that each A spans."""
    ids, out = batch(1)["input_ids"][0].tolist(), os.path.join(work, "eva")
    config = peft.LoraConfig(r=6, lora_alpha=12, target_modules="all-linear",
                             task_type="CAUSAL_LM", init_lora_weights="eva",
                             eva_config=peft.EvaConfig(rho=2, tau=0.999))
    theirs = peft.get_peft_model(fresh(folder), config)
    whole = {k: torch.cat([batch(1)[k], batch(2)[k]]) for k in batch(1)}
    peft.initialize_lora_eva_weights(theirs, [whole], show_progress_bar=False)
    with libpeft.Model(folder) as ours:
        ours.add_adapter(rank=6, alpha=12, rslora=-1)
        ours.init_adapter_eva(ours.dataset(data), batch=8, rho=2, tau=0.999)
        apart, ranks, least = 0, [[], []], 1
        inputs = {}
        base = fresh(folder)
        for name, module in base.named_modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_pre_hook(lambda m, x, name=name: inputs.__setitem__(
                    name, x[0][:, 1:].detach().reshape(-1, x[0].shape[-1])))
        with torch.no_grad():
            base(**whole)
        for p in ours.params():
            if not p.name.endswith("lora_A.weight"):
                continue
            a = read(ours, p.name).reshape(p.rows, p.cols)
            module = theirs.get_submodule("base_model.model." + p.name[:-len(".lora_A.weight")])
            b = module.lora_A["default"].weight.detach().numpy()
            ranks[0].append(len(a))
            ranks[1].append(len(b))
            x = inputs[p.name[:-len(".lora_A.weight")]].double().numpy()
            x = x - x.mean(0)
            most = np.linalg.svd(x, compute_uv=False) ** 2
            least = min(least, np.sum((x @ a.T) ** 2) / most[:len(a)].sum())
            apart = max(apart, 1 - np.sum((x @ b.T) ** 2) / most[:len(b)].sum())
        check_true("eva ranks", sum(ranks[0]) == sum(ranks[1]), str(ranks))
        print("     of the variance that ranks can explain PEFT's A lacks %.2g" % apart)
        check("eva variance, ours", 1 - least, 2e-3)
        our_train(ours, ours.dataset(data), 2e-3, 4, 4)
        ours.save_adapter(out)
        mine = logits(ours, ids)
    back = peft.PeftModel.from_pretrained(fresh(folder), out)
    check("eva in PEFT", max_diff(mine, torch_logits(back, ids)), 2e-5)


def loftq(folder, data, work):
    """On NF4 made at loading: W - Q - s B A against the whole decomposition."""
    ids, out = batch(1)["input_ids"][0].tolist(), os.path.join(work, "loftq")
    full = fresh(folder)
    with libpeft.Model(folder, quant="nf4") as ours:
        ours.add_adapter(rank=6, init="loftq")
        worst_left = 0
        for name, module in full.named_modules():
            if not isinstance(module, torch.nn.Linear) or name == "lm_head":
                continue
            w = module.weight.detach().numpy()
            q = read(ours, name + ".weight").reshape(w.shape)
            a = read(ours, name + ".lora_A.weight").reshape(6, -1)
            b = read(ours, name + ".lora_B.weight").reshape(-1, 6)
            values = np.linalg.svd(w - q, compute_uv=False)
            best = math.sqrt(np.sum(values[6:] ** 2))
            left = np.linalg.norm(w - q - 12 / math.sqrt(6) * b @ a)
            worst_left = max(worst_left, left / best - 1)
            module.weight.data = torch.from_numpy(q)
        check("loftq, what is left", worst_left, 1e-4)
        ours.save_adapter(out)
        mine = logits(ours, ids)
    back = peft.PeftModel.from_pretrained(full, out)
    check("loftq in PEFT", max_diff(mine, torch_logits(back, ids)), 5e-5)


def main():
    with tempfile.TemporaryDirectory() as work:
        folder, data = os.path.join(work, "base"), os.path.join(work, "rows.jsonl")
        torch.manual_seed(1)
        LlamaForCausalLM(LlamaConfig(**CONFIG)).save_pretrained(folder)
        write_rows(data, [batch(1), batch(2)])
        for part in (adalora, eva, loftq):
            part(folder, data, work)
    finish()


main()
