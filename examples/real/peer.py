"""The same training with PyTorch, transformers and PEFT as a run of libpeft had: its rows, epochs, batch, and of
LoRA its rank and modules; AdamW with a linear schedule, each epoch evaluated and the best one kept. HOW says
the rest: `usual` is what PEFT's users take (LoRA 2e-4 with alpha = 2 r, a head 1e-3), `same` is libpeft's choice.
`peft eval --with torch=OUT` then measures both by the same means.
Usage: peer.py BASE RUN DATA OUT usual|same    BASE: a Hugging Face folder; DATA: has train.jsonl, valid.jsonl"""
import json
import os
import resource
import shutil
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import (AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer,
                          DataCollatorForSeq2Seq, DataCollatorWithPadding, Trainer, TrainingArguments)

base, run, data, out, how = sys.argv[1:]


def read(path, optional=False):
    return json.load(open(path, encoding="utf-8")) if not optional or os.path.exists(path) else None


ours = read(run + "/training_args.json")
lora = read(run + "/adapter_config.json", optional=True)
rows = {name: [json.loads(line) for line in open("%s/%s.jsonl" % (data, name), encoding="utf-8")]
        for name in ("train", "valid")}
labels = sorted({row["label"] for row in rows["train"] if "label" in row})
tokenizer = AutoTokenizer.from_pretrained(base)
torch.manual_seed(0)


def encoded(row):
    """As libpeft reads a row: a conversation by the chat template, a prompt with its completion as they are."""
    if labels:
        return {**tokenizer(row["text"], truncation=True), "labels": labels.index(row["label"])}
    if "prompt" in row:
        prompt, answer = row["prompt"], row["completion"]
    else:
        turns = row.get("messages") or [{"role": "user", "content": row["instruction"] + "\n" + row["input"]},
                                        {"role": "assistant", "content": row["output"]}]
        prompt = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
        answer = turns[-1]["content"]
    answer += tokenizer.eos_token
    asked, whole = (tokenizer(s, add_special_tokens=False)["input_ids"] for s in (prompt, prompt + answer))
    n = next((i for i, pair in enumerate(zip(asked, whole)) if pair[0] != pair[1]), len(asked))
    return {"input_ids": whole, "labels": [-100] * n + whole[n:]}


if labels:
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(labels), id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)}, pad_token_id=tokenizer.pad_token_id)
else:
    model = AutoModelForCausalLM.from_pretrained(base)
if lora:
    scale = ({"lora_alpha": lora["lora_alpha"], "use_rslora": lora["use_rslora"]} if how == "same"
             else {"lora_alpha": 2 * lora["r"]})
    model = get_peft_model(model, LoraConfig(r=lora["r"], target_modules=lora["target_modules"],
                                             task_type="SEQ_CLS" if labels else "CAUSAL_LM", **scale))
else:
    for name, p in model.named_parameters():
        p.requires_grad = name.startswith(("classifier", "score"))
batch, accumulate = int(ours["batch"]), int(ours["accumulate"])
epochs = max(1, round(ours["steps"] * batch * accumulate / len(rows["train"])))
trainer = Trainer(
    model=model, data_collator=(DataCollatorWithPadding if labels else DataCollatorForSeq2Seq)(tokenizer),
    train_dataset=[encoded(row) for row in rows["train"]], eval_dataset=[encoded(row) for row in rows["valid"]],
    args=TrainingArguments(
        out + "/trainer", num_train_epochs=epochs, use_cpu=not torch.cuda.is_available(),
        bf16=hasattr(model.config, "num_key_value_heads"),  # SmolLM2, as `--compute auto`
        per_device_train_batch_size=batch, gradient_accumulation_steps=accumulate,
        learning_rate=ours["learning_rate"] if how == "same" else 2e-4 if lora else 1e-3,
        lr_scheduler_type="linear", warmup_steps=int(ours["warmup"] * ours["steps"]), eval_strategy="epoch",
        save_strategy="epoch", save_total_limit=1, load_best_model_at_end=True, report_to="none",
        logging_steps=10, disable_tqdm=True, dataloader_pin_memory=False))
told = trainer.train()
model.save_pretrained(out)
if lora and labels:  # PEFT's files have no place for the names of the classes
    config = read(out + "/adapter_config.json")
    json.dump({**config, "libpeft_labels": labels}, open(out + "/adapter_config.json", "w"))
tokenizer.save_pretrained(out)
shutil.rmtree(out + "/trainer")
told = {"epochs": epochs, "batch": batch, "steps": told.global_step, "lr": trainer.args.learning_rate,
        "minutes": round(told.metrics["train_runtime"] / 60, 2),
        "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000}
json.dump(told, open(out + "/peer.json", "w"))
print(told)
