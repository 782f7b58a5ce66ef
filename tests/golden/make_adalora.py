#!/usr/bin/env python3
"""AdaLoRA's ten steps by PEFT on the tiny Llama, with a schedule that drops ranks within
them: losses, gradient norms, ranks after each step, and the adapter before and after.

    cd tests/golden/peft && python ../make_adalora.py
"""
import json
import os
import shutil

import torch
from peft import AdaLoraConfig, get_peft_model
from transformers import LlamaForCausalLM

OUT, STEPS = "trace_adalora", 10


def batch(rows):
    t = max(len(r["input_ids"]) for r in rows)
    x, y = torch.zeros(len(rows), t, dtype=torch.long), torch.full((len(rows), t), -100)
    mask = torch.zeros(len(rows), t, dtype=torch.long)
    for i, r in enumerate(rows):
        n = len(r["input_ids"])
        x[i, :n], y[i, :n] = torch.tensor(r["input_ids"]), torch.tensor(r["labels"])
        mask[i, :n] = 1
    return dict(input_ids=x, labels=y, attention_mask=mask)


def main():
    with open("../traces/rows.jsonl") as file:
        given = dict(rows=[json.loads(line) for line in file])
    config = AdaLoraConfig(init_r=4, target_r=2, tinit=1, tfinal=3, deltaT=2, total_step=STEPS,
                           orth_reg_weight=0.5, lora_alpha=8, target_modules="all-linear",
                           task_type="CAUSAL_LM")
    torch.manual_seed(0)
    m = get_peft_model(LlamaForCausalLM.from_pretrained("base_llama", dtype=torch.float32,
                                                        attn_implementation="eager"), config)
    torch.manual_seed(3)
    for n, p in m.named_parameters():
        if p.requires_grad:
            p.data = torch.randn_like(p) * (0.3 if "lora_E" not in n else 0.8)
    shutil.rmtree(OUT, ignore_errors=True)
    m.save_pretrained(OUT + "/init")
    params = [p for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=1e-2, weight_decay=0.01)
    out = dict(rows=given["rows"], loss=[], grad_norm=[], ranks=[])
    m.train()
    for s in range(STEPS):
        rows = [given["rows"][(4 * s + j) % 8] for j in range(4)]
        loss = m(**batch(rows)).loss
        loss.backward()
        out["grad_norm"].append(float(torch.nn.utils.clip_grad_norm_(params, 1.0)))
        optimizer.step()
        m.base_model.update_and_allocate(s)
        optimizer.zero_grad()
        pattern = m.peft_config["default"].rank_pattern or {}
        out["ranks"].append(sum(sum(v) for v in pattern.values()))
        out["loss"].append(float(loss))
    m.eval()
    ids = [1, 5, 9, 13, 2, 7]
    with torch.no_grad():
        out["ids"] = ids
        out["logits_last"] = m(input_ids=torch.tensor([ids])).logits[0, -1].tolist()
    out["modules"] = {k.rsplit(".lora_E", 1)[0]: sum(v) for k, v in sorted(pattern.items())}
    m.save_pretrained(OUT + "/final")
    for name in ("init", "final"):
        os.remove("%s/%s/README.md" % (OUT, name))
    with open(OUT + "/trace.json", "w") as file:
        json.dump(out, file)
    print(out["loss"], out["ranks"], out["modules"])


if __name__ == "__main__":
    main()
