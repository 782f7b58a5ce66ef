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


def main():
    with tempfile.TemporaryDirectory() as work:
        folder, data = os.path.join(work, "base"), os.path.join(work, "rows.jsonl")
        torch.manual_seed(1)
        LlamaForCausalLM(LlamaConfig(**CONFIG)).save_pretrained(folder)
        write_rows(data, [batch(1), batch(2)])
        for part in (adalora,):
            part(folder, data, work)
    finish()


main()
