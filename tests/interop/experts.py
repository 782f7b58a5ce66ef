#!/usr/bin/env python3
"""LoRA on experts both ways: PEFT loads what libpeft saves, as one parameter and as modules.

Usage: experts.py    (torch, transformers, peft)"""
import tempfile

from common import *
import peft
from transformers import AutoModelForCausalLM

LORA = dict(rank=3, alpha=6, rslora=False)
BOTH = "mlp.experts.gate_up_proj,mlp.experts.down_proj"
KINDS = {
    "one parameter": dict(LORA, targets="q_proj", target_parameters=BOTH),
    "only parameters": dict(LORA, targets="-", target_parameters=BOTH),
    "gate and up": dict(LORA, targets="v_proj", target_parameters="mlp.experts.gate_up_proj"),
    "router too": dict(LORA, targets="q_proj", target_parameters=BOTH, modules_to_save="gate"),
    "modules": dict(LORA, targets="q_proj,w1,w2,w3,gate_proj,up_proj,down_proj"),
}


def one(family, name, work):
    folder = os.path.join(ROOT, "tests/golden/tiny", family)
    model = libpeft.Model(folder)
    model.add_adapter("default", **KINDS[name])
    data = os.path.join(work, "rows.jsonl")
    rows = torch.randint(5, 96, (4, 14), generator=torch.Generator().manual_seed(3)).tolist()
    with open(data, "w") as f:
        for r in rows:
            f.write(json.dumps(dict(input_ids=r, labels=r)) + "\n")
    for _ in model.trainer(model.dataset(data), steps=8, lr=5e-3, batch=2):
        pass
    start = os.path.join(work, "adapter")
    model.save_adapter(start)
    ids = list(range(7, 23))
    ours = np.asarray(model.forward(ids))
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, start)
    want = torch_logits(theirs, ids)
    check("%s, %s" % (family, name), max_diff(ours.reshape(want.shape), want), 2e-5)


with tempfile.TemporaryDirectory() as work:
    for family in ("mixtral", "qwen3_moe"):
        for name in KINDS:
            one(family, name, os.path.join(work))
finish()
