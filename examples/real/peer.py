"""The same training with PyTorch, transformers and PEFT, at their usual settings and the budget of a run of
libpeft: its epochs and batch (by its training_args.json). `peft eval --with peer=OUT` then holds both
against each other on the same rows.
Usage: peer.py BASE RUN TRAIN.jsonl OUT head|lora    BASE: a Hugging Face folder"""
import json
import random
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

base, run, train, out, method = sys.argv[1:]
args = json.load(open(run + "/training_args.json"))
rows = [json.loads(line) for line in open(train, encoding="utf-8")]
batch = int(args["batch"])
epochs = max(1, round(args["steps"] * batch * int(args["accumulate"]) / len(rows)))
tokenizer = AutoTokenizer.from_pretrained(base)
torch.manual_seed(0)
labels = sorted({row["label"] for row in rows}) if "label" in rows[0] else None
if labels:
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(labels), id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)})
    model.config.pad_token_id = tokenizer.pad_token_id or 0
else:
    model = AutoModelForCausalLM.from_pretrained(base)


def ids_of(row):
    if labels:
        ids = tokenizer(row["text"], truncation=True, max_length=256)["input_ids"]
        return ids, labels.index(row["label"])
    turns = row.get("messages")
    if not turns:
        asked = row.get("prompt") or row["instruction"] + "\n" + row["input"]
        turns = [{"role": "user", "content": asked},
                 {"role": "assistant", "content": row.get("completion") or row["output"]}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    prompt = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    n = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    return ids, [-100] * n + ids[n:]


if method == "lora":
    model = get_peft_model(model, LoraConfig(
        r=16, lora_alpha=32, target_modules="all-linear", task_type="SEQ_CLS" if labels else "CAUSAL_LM"))
else:
    for name, p in model.named_parameters():
        p.requires_grad = name.startswith(("classifier", "score"))
lr = 2e-4 if method == "lora" else 1e-3
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0)
data = [ids_of(row) for row in rows]
steps, done, began = epochs * -(-len(data) // batch), 0, time.monotonic()
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 - i / steps)
model.train()
for epoch in range(epochs):
    random.Random(epoch).shuffle(data)
    for i in range(0, len(data), batch):
        part = data[i:i + batch]
        n = max(len(ids) for ids, _ in part)
        ids = torch.tensor([x + [0] * (n - len(x)) for x, _ in part])
        mask = torch.tensor([[1] * len(x) + [0] * (n - len(x)) for x, _ in part])
        wanted = torch.tensor([y if labels else y + [-100] * (n - len(y)) for _, y in part])
        loss = model(input_ids=ids, attention_mask=mask, labels=wanted).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        done += 1
        if done % 50 == 0:
            print("step %d of %d, loss %.3f" % (done, steps, loss), file=sys.stderr)
if labels and method == "lora":
    model = model.merge_and_unload()  # an adapter's folder would not hold the labels' names
model.save_pretrained(out)
tokenizer.save_pretrained(out)
print(json.dumps({"epochs": epochs, "batch": batch, "steps": steps, "lr": lr,
                  "minutes": round((time.monotonic() - began) / 60, 2)}))
