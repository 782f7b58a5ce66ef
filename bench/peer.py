"""The peer: the same training with PyTorch, transformers and PEFT.

Says on stdout that it is ready, and makes a step for each line on stdin, as
`peft bench --paced` does.
"""
import argparse
import json
import sys
import time

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def load(folder, dtype="float32"):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))


def make_adapter(folder, to, rank, alpha):
    torch.manual_seed(0)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=LINEAR, task_type="CAUSAL_LM")
    get_peft_model(load(folder), config).save_pretrained(to)


def trained_model(args):
    model = load(args.folder, args.dtype)
    if args.checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    if args.adapter:
        model = PeftModel.from_pretrained(model, args.adapter, is_trainable=True)
    elif args.last:
        first = len(model.model.layers) - args.last
        model.requires_grad_(False)
        for layer in model.model.layers[first:]:
            layer.requires_grad_(True)
    return model.train()


def collate(rows):
    """Padded to the longest of the batch, as DataCollatorForSeq2Seq does."""
    longest = max(len(row["input_ids"]) for row in rows)

    def filled(key, value):
        return torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in rows])

    ids, labels = filled("input_ids", 0), filled("labels", -100)
    if all(len(row["input_ids"]) == longest for row in rows):
        return {"input_ids": ids, "labels": labels}
    mask = torch.tensor([[int(k < len(row["input_ids"])) for k in range(longest)] for row in rows])
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def step(model, optimizer, rows):
    start = time.monotonic()
    loss = model(**collate(rows)).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    value = loss.item()
    return {"loss": value, "tokens": sum(len(row["input_ids"]) for row in rows),
            "trained_tokens": sum(x >= 0 for row in rows for x in row["labels"][1:]),
            "seconds": time.monotonic() - start}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--make-adapter", nargs=3, metavar=("TO", "RANK", "ALPHA"))
    parser.add_argument("--data")
    parser.add_argument("--adapter", help="LoRA; without it and --last, all weights train")
    parser.add_argument("--last", type=int, help="layers that train")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32", help="of the base's weights and products")
    parser.add_argument("--checkpointing", action="store_true")
    args = parser.parse_args()
    if args.make_adapter:
        to, rank, alpha = args.make_adapter
        make_adapter(args.folder, to, int(rank), int(alpha))
        return
    torch.set_num_threads(args.threads)
    model = trained_model(args)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=args.lr, weight_decay=0.0)
    with open(args.data) as f:
        rows = [json.loads(line) for line in f]
    print(json.dumps({"trainable": sum(p.numel() for p in trainable)}), flush=True)
    for i, _ in enumerate(sys.stdin):
        batch = rows[i * args.batch:(i + 1) * args.batch]
        print(json.dumps(step(model, optimizer, batch)), flush=True)


main()
