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
    return dict(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids.clone())


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
        apart, ranks = 0, [[], []]
        for p in ours.params():
            if not p.name.endswith("lora_A.weight"):
                continue
            a = read(ours, p.name).reshape(p.rows, p.cols)
            module = theirs.get_submodule("base_model.model." + p.name[:-len(".lora_A.weight")])
            b = module.lora_A["default"].weight.detach().numpy()
            ranks[0].append(len(a))
            ranks[1].append(len(b))
            n = min(len(a), len(b))
            space = np.linalg.svd(a[:n] @ b[:n].T, compute_uv=False)
            apart = max(apart, 1 - float(space.min()))
        check_true("eva ranks", sum(ranks[0]) == sum(ranks[1]), str(ranks))
        check("eva spaces", apart, 2e-2)
        our_train(ours, ours.dataset(data), 2e-3, 4, 4)
        ours.save_adapter(out)
        mine = logits(ours, ids)
    back = peft.PeftModel.from_pretrained(fresh(folder), out)
    check("eva in PEFT", max_diff(mine, torch_logits(back, ids)), 2e-5)


def main():
    with tempfile.TemporaryDirectory() as work:
        folder, data = os.path.join(work, "base"), os.path.join(work, "rows.jsonl")
        torch.manual_seed(1)
        LlamaForCausalLM(LlamaConfig(**CONFIG)).save_pretrained(folder)
        write_rows(data, [batch(1), batch(2)])
        for part in (adalora, eva):
            part(folder, data, work)
    finish()


main()
