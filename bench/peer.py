"""The peer: the same training with PyTorch, transformers and PEFT.

Prints one JSON row a step, with the names of metrics.jsonl.
"""
import argparse
import json
import time

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def load(folder, dtype="float32"):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))


def make_adapter(args):
    rank, alpha = args.make_adapter
    torch.manual_seed(0)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=LINEAR, task_type="CAUSAL_LM")
    get_peft_model(load(args.folder), config).save_pretrained(args.adapter)


def train(args):
    torch.set_num_threads(args.threads)
    model = load(args.folder, args.dtype)
    if args.checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    if not args.full:
        model = PeftModel.from_pretrained(model, args.adapter, is_trainable=True)
    model.train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=args.lr, weight_decay=0.0)
    with open(args.data) as f:
        rows = [json.loads(line) for line in f]
    for i in range(0, len(rows), args.batch):
        start = time.monotonic()
        batch = rows[i:i + args.batch]
        ids = torch.tensor([row["input_ids"] for row in batch])
        labels = torch.tensor([row["labels"] for row in batch])
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        value = loss.item()
        seconds = time.monotonic() - start
        print(json.dumps({"step": i // args.batch + 1, "loss": value,
                          "tokens_per_second": ids.numel() / seconds}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("adapter")
    parser.add_argument("--make-adapter", type=int, nargs=2, metavar=("RANK", "ALPHA"))
    parser.add_argument("--data")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32", help="of the base's weights and products")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--full", action="store_true", help="all weights train, no adapter")
    args = parser.parse_args()
    if args.make_adapter:
        make_adapter(args)
    else:
        train(args)


main()
