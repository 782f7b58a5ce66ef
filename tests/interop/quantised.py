#!/usr/bin/env python3
"""A model whose types were chosen for each matrix, in transformers.

    python tests/interop/quantised.py MODEL.gguf [DYNAMIC.gguf]

The model's floats are given NF4 or BF16 and saved as a folder; transformers with
bitsandbytes must compute what libpeft computes from it, but for activations, which are
bfloat16 there as the folder's floats are.  DYNAMIC.gguf is written with GGML's types,
for llamacpp.py.
"""
import tempfile

from common import *
import bitsandbytes
from transformers import AutoModelForCausalLM

TEXTS = ["The capital of France is Paris, and the capital of Italy is Rome. Both are old.",
         "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + ",
         "Water boils at 100 degrees Celsius, which is 212 degrees Fahrenheit at sea level.",
         "Once upon a time, in a small village, there lived a girl who could talk to birds."]
CALIBRATION = os.path.join(ROOT, "examples", "data", "support.jsonl")


def log_softmax(z):
    z = np.asarray(z, np.float64)
    return z - np.logaddexp.reduce(z, -1, keepdims=True)


def kl(p, q):
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def ours(path):
    with libpeft.Model(path) as m:
        return np.concatenate([log_softmax(logits(m, m.tokenize(t))) for t in TEXTS]), [
            m.tokenize(t) for t in TEXTS]


def chosen(floats, to, types, bits, dtype):
    with libpeft.Model(floats) as m:
        q = m.quantize(m.dataset(CALIBRATION, max_len=128, limit=12), types=types, bits=bits,
                       batch=2, gradient_bytes=1 << 30)
        m.save(to, dtype=dtype)
        print("     %s: %.2f MB, KL %.4f on its text, %s" % (
            os.path.basename(to), m.info.weight_bytes / 1e6, q.kl, m.info.types), flush=True)
    return q


def main():
    with tempfile.TemporaryDirectory() as work:
        floats, folder = os.path.join(work, "floats"), os.path.join(work, "held")
        with libpeft.Model(sys.argv[1]) as m:
            m.save(floats, dtype="bf16")
        if len(sys.argv) > 2:
            chosen(floats, sys.argv[2], "q4_0,q4_k,q5_0,q5_k,q6_k,q8_0", 5.5, None)
        chosen(floats, folder, "nf4,bf16", 8.5, "held")
        full, ids = ours(floats)
        mine, _ = ours(folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
        linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
        four = [m for m in linear if isinstance(m, bitsandbytes.nn.Linear4bit)]
        check_true("layers of 4 bits and of floats", 0 < len(four) < len(linear),
                   "%d of %d" % (len(four), len(linear)))
        theirs = np.concatenate([log_softmax(torch_logits(model, i)) for i in ids])
        check("KL(ours || transformers)", kl(mine, theirs), 5e-3)
        agree = float((mine.argmax(-1) == theirs.argmax(-1)).mean())
        check_true("likeliest token the same", agree >= 0.95, "%.3f" % agree)
        print("     KL of the full model: ours %.5f, transformers %.5f" % (
            kl(full, mine), kl(full, theirs)))
    finish()


main()
