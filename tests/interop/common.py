"""What the interop scripts share: libpeft through its ctypes module, the same
trainings in PyTorch, and a way to read single gradients through the C API."""
import json
import math
import os
import sys
import warnings
import zlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "bindings", "python"))

import numpy as np                                              # noqa: E402
import torch                                                    # noqa: E402
import transformers                                             # noqa: E402

import libpeft                                                  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(2)

ADAMW = dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
FAILED = []


def check(name, value, limit):
    """Prints one figure and remembers when it is beyond its limit."""
    good = value <= limit
    print("%-4s %-58s %.3g (limit %.3g)" % ("ok" if good else "FAIL", name, value, limit),
          flush=True)
    if not good:
        FAILED.append(name)


def check_true(name, good, detail=""):
    print("%-4s %-58s %s" % ("ok" if good else "FAIL", name, detail), flush=True)
    if not good:
        FAILED.append(name)


def finish():
    print("%d failed%s" % (len(FAILED), ": " + ", ".join(FAILED) if FAILED else ""))
    sys.exit(1 if FAILED else 0)


# ------------------------------------------------------------------- numbers

def splitmix(seed, n):
    """n floats in [0, 1) of 24 bits from splitmix64, exact in float32."""
    i = np.arange(1, n + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + i * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) / float(1 << 24)).astype(np.float32)


def formula(name, shape):
    """(2u - 1) / sqrt(columns), seeded with the crc32 of the tensor's name."""
    u = splitmix(zlib.crc32(name.encode()), math.prod(shape))
    return ((2 * u - 1) / np.float32(math.sqrt(shape[-1]))).astype(np.float32).reshape(shape)


def formula_lora(model):
    """LoRA's start that the golden files use: A by formula(), B zero."""
    for name, p in model.named_parameters():
        if ".lora_A." in name:
            p.data = torch.from_numpy(formula(name.replace(".default", ""), tuple(p.shape)))
        elif ".lora_B." in name:
            p.data.zero_()


def worst(a, b):
    """The largest relative difference of two sequences."""
    assert len(a) == len(b), (len(a), len(b))
    return max(abs(x - y) / max(abs(y), 1e-3) for x, y in zip(a, b))


def max_diff(a, b):
    return float(np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)).max())


# ------------------------------------------------------------------- PyTorch

def torch_train(model, batches, lr, steps, trainable):
    """Losses before each step and after the last; gradient norm of each step."""
    model.train()
    for name, p in model.named_parameters():
        p.requires_grad_(bool(trainable(name)))
        p.grad = None
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=lr, foreach=False, **ADAMW)
    losses, norms = [], []
    for i in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = model(**batches[i % len(batches)]).loss
        loss.backward()
        losses.append(float(loss.detach()))
        norms.append(math.sqrt(sum(float(p.grad.double().norm()) ** 2
                                   for p in params if p.grad is not None)))
        optimizer.step()
    return losses, norms


def torch_logits(model, ids):
    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].float().numpy()


# ------------------------------------------------------------------- libpeft

def write_rows(path, batches):
    """Padded torch batches as JSONL: input_ids with labels, or with label."""
    rows = 0
    with open(path, "w", encoding="utf-8") as out:
        for batch in batches:
            for i, ids in enumerate(batch["input_ids"]):
                n = int(batch["attention_mask"][i].sum())
                row = {"input_ids": ids[:n].tolist()}
                labels = batch["labels"][i]
                if labels.ndim:
                    row["labels"] = labels[:n].tolist()
                else:
                    row["label"] = int(labels)
                out.write(json.dumps(row) + "\n")
                rows += 1
    return rows


def our_train(model, data, lr, steps, batch, **options):
    options = dict(lr=lr, steps=steps, batch=batch, schedule="constant", clip=-1,
                   weight_decay=0.01, no_shuffle=1, **options)
    losses, norms = [], []
    with model.trainer(data, **options) as trainer:
        for step in trainer:
            losses.append(step.loss)
            norms.append(step.grad_norm)
    return losses, norms


def read(model, name):
    return np.array(model.read(name), dtype=np.float32)


def our_gradients(model, data, batch, names):
    """Gradients of one batch, from AdamW's first step, which is
    lr g / (|g| + eps): with these two it is some 1e6 g, and what was the
    weight is lost in its rounding."""
    lr, eps = 9e5, 0.9
    before = {n: read(model, n).astype(np.float64) for n in names}
    with model.trainer(data, lr=lr, eps=eps, batch=batch, steps=1, schedule="constant",
                       clip=-1, no_shuffle=1) as trainer:
        step = trainer.step()
    found = {}
    for n in names:
        x = (before[n] - read(model, n)) / lr
        found[n] = x * eps / (1 - np.abs(x))
    return step, found


def logits(model, ids):
    return np.asarray(model.forward(ids)).copy()
