#!/usr/bin/env python3
"""`peft train` as a user runs it, on a folder without a tokenizer and rows of
input_ids: every method's losses against the same training in PyTorch.

    python tests/interop/methods.py
"""
import shutil
import subprocess
import tempfile

from common import *
import peft
from transformers import (AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig,
                          LlamaForCausalLM)

PEFT = os.environ.get("PEFT_COMMAND", os.path.join(ROOT, "build", "release", "peft"))
CONFIG = dict(vocab_size=131, hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
              num_key_value_heads=2, intermediate_size=52, max_position_embeddings=128,
              pad_token_id=0, bos_token_id=1, eos_token_id=2)


def peft_train(name, folder, data, out, *args):
    done = subprocess.run(
        [PEFT, "train", folder, "--data", data, "--out", out, "--schedule", "constant", "--warmup",
         "0", "--weight-decay", "0.01", "--clip", "0", "--no-shuffle", "--batch", "3", "--steps",
         "10", "--json", *args], capture_output=True, text=True)
    rows = []
    for line in done.stdout.splitlines():
        row = json.loads(line)
        if "loss" in row and "step" in row and "grad_norm" in row:
            rows.append(row)
    check_true(name + " exit status %d" % done.returncode, done.returncode == 0,
               done.stderr.strip()[-300:] if done.returncode else "")
    return [r["loss"] for r in rows], [r["grad_norm"] for r in rows]


def compare(name, got, theirs):
    check_true(name + " rows", len(got[0]) == len(theirs[0]), "%d" % len(got[0]))
    check(name + " losses", worst(got[0], theirs[0]), 1e-4)
    check(name + " gradient norms", worst(got[1], theirs[1]), 1e-3)


def batch(seed, labels=0):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 131, (3, 17), generator=g)
    mask = torch.ones_like(ids)
    ids[1, 11:] = 0
    mask[1, 11:] = 0
    y = ids.clone()
    y[mask == 0] = -100
    if labels:
        y = torch.randint(0, labels, (3,), generator=g)
    return dict(input_ids=ids, attention_mask=mask, labels=y)


def main():
    with tempfile.TemporaryDirectory() as work:
        for tied in (False, True):
            tag = "tied" if tied else "untied"
            folder = os.path.join(work, tag)
            torch.manual_seed(3)
            model = LlamaForCausalLM(LlamaConfig(**CONFIG, tie_word_embeddings=tied,
                                                 initializer_range=0.1))
            model.save_pretrained(folder)
            fresh = lambda: AutoModelForCausalLM.from_pretrained(   # noqa: E731
                folder, dtype=torch.float32, attn_implementation="eager")
            batches = [batch(1), batch(2)]
            data, classes = os.path.join(work, "ids.jsonl"), os.path.join(work, "classes.jsonl")
            write_rows(data, batches)
            out = os.path.join(work, "out")
            layers = ["model.layers.%d." % i for i in range(3)]
            head = "lm_head" if not tied else "embed_tokens"
            runs = {
                "head": (["--method", "head"], lambda n: n.startswith("lm_head") or
                         tied and "embed_tokens" in n),
                "none, norms": (["--method", "none", "--unfreeze", "*norm*"],
                                lambda n: "norm" in n),
                "full, layer 0 frozen": (["--method", "full", "--freeze", "0-0"],
                                         lambda n: not n.startswith(layers[0])),
                "full, layers -2:-1 frozen": (["--method", "full", "--freeze=-2:-1"],
                                              lambda n: not n.startswith(tuple(layers[1:]))),
                "full": (["--method", "full"], lambda n: True),
                "none, last layer and head": (
                    ["--method", "none", "--unfreeze", "model.layers.2.*,lm_head.*"],
                    lambda n: n.startswith(layers[2]) or n.startswith("lm_head")),
            }
            for name, (args, trains) in runs.items():
                if tied and "head" in name and name != "head":
                    continue
                shutil.rmtree(out, ignore_errors=True)
                title = "%s %s" % (tag, name)
                m = fresh()
                theirs = torch_train(m, batches, 1e-3, 10, trains)
                compare(title, peft_train(title, folder, data, out, "--lr", "1e-3", *args), theirs)
                if os.path.exists(os.path.join(out, "config.json")):
                    back = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
                    ids = batches[0]["input_ids"][0].tolist()
                    check(title + " result in transformers",
                          max_diff(torch_logits(back, ids), torch_logits(m, ids)), 5e-4)
                else:
                    print("     %s wrote %s" % (title, sorted(os.listdir(out))))
            del head
        # A classification head by the labels in the data: what we start from is
        # read back from a run that does not learn.
        folder = os.path.join(work, "untied")
        batches = [batch(1, 3), batch(2, 3)]
        write_rows(classes, batches)
        for method in ("head", "lora", "full"):
            zero, out = os.path.join(work, "zero"), os.path.join(work, "run")
            for path in (zero, out):
                shutil.rmtree(path, ignore_errors=True)
            title = "labels, " + method
            options = ["--method", method, "--seed", "5"]
            peft_train(title + " (start)", folder, classes, zero, "--lr", "1e-30", *options)
            got = peft_train(title, folder, classes, out, "--lr", "2e-3", *options)
            print("     %s wrote %s" % (title, sorted(os.listdir(out))))
            if os.path.exists(os.path.join(zero, "adapter_config.json")):
                base = AutoModelForSequenceClassification.from_pretrained(
                    folder, num_labels=3, dtype=torch.float32, attn_implementation="eager")
                m = peft.PeftModel.from_pretrained(base, zero, is_trainable=True)
                names = {n for n, p in m.named_parameters() if p.requires_grad}
                trains = names.__contains__
            else:
                m = AutoModelForSequenceClassification.from_pretrained(
                    zero, dtype=torch.float32, attn_implementation="eager")
                trains = (lambda n: n.startswith("score")) if method == "head" else (
                    lambda n: True)
            compare(title, got, torch_train(m, batches, 2e-3, 10, trains))
            m.eval()
            ids = batches[0]["input_ids"][0].tolist()
            with torch.no_grad():
                want = m(input_ids=torch.tensor([ids])).logits[0].numpy()
            bare = os.path.exists(os.path.join(out, "adapter_config.json"))
            with libpeft.Model(folder if bare else out) as ours:
                if bare:
                    ours.load_adapter(out)
                check(title + " result", max_diff(logits(ours, ids), want), 5e-4)
    finish()


main()
