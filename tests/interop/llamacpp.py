#!/usr/bin/env python3
"""Greedy text of llama.cpp and of libpeft from the same GGUF files, in an
environment with xllamacpp (llama.cpp prebuilt for Python) and numpy.

    python tests/interop/llamacpp.py MODEL.gguf [OTHER.gguf ...]

llama.cpp rounds activations to 8 bits before it multiplies quantised weights
(to 16 bits with F16 weights), and its texts never end here (EOS is barred in
both).  Where the texts part, the gap between the two candidates is shown, and
for each file how far the log probabilities of llama.cpp's two best tokens are
from ours at all positions before that: the one must explain the other.
"""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bindings", "python"))

import numpy as np                                              # noqa: E402
import xllamacpp                                                # noqa: E402

import libpeft                                                  # noqa: E402

PROMPTS = ["The capital of France is", "def fibonacci(n):\n    ",
           "Water boils at 100 degrees Celsius, which is", "Hello! 12 + 30 = ",
           "Once upon a time, in a small village,"]
TOKENS, NEAR = 32, 0.5


def server(path):
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx, params.n_gpu_layers, params.warmup, params.verbosity = 512, 0, False, -1
    params.n_parallel = 1
    params.cpuparams.n_threads = 2
    params.cpuparams_batch.n_threads = 2
    return xllamacpp.Server(params)


def theirs(llama, ids):
    reply = llama.handle_completions(dict(
        prompt=ids, n_predict=TOKENS, temperature=0.0, top_k=1, ignore_eos=True,
        cache_prompt=False, n_probs=2))
    return reply["choices"][0]["logprobs"]["content"]


def main():
    failed = 0
    for path in sys.argv[1:]:
        print("--", os.path.basename(path))
        llama, apart = server(path), []
        with libpeft.Model(path) as m:
            for prompt in PROMPTS:
                ids = m.tokenize(prompt) if m.info.has_tokenizer else [
                    5 + ord(c) % (m.info.vocab - 5) for c in prompt]
                steps = theirs(llama, ids)
                got = [t["id"] for t in steps]
                rows = np.array(m.forward(ids + got[:-1]), np.float64)[len(ids) - 1:]
                totals = np.logaddexp.reduce(rows, -1)
                if m.info.eos >= 0:
                    rows[:, m.info.eos] = -np.inf
                i = next((i for i, row in enumerate(rows) if int(row.argmax()) != got[i]), None)
                for row, total, step in list(zip(rows, totals, steps))[:i]:
                    apart += [abs(row[t["id"]] - total - t["logprob"])
                              for t in step["top_logprobs"][:2] if t["id"] != m.info.eos]
                if i is None:
                    text = m.detokenize(got) if m.info.has_tokenizer else got[:8]
                    print("ok   %d tokens equal: %r" % (len(got), text[:60]))
                    continue
                best, gap = int(rows[i].argmax()), float(rows[i].max() - rows[i][got[i]])
                top = steps[i]["top_logprobs"]
                failed += gap >= NEAR
                print("%-4s token %d of %r: ours %d, llama.cpp's %d; gap of the two best: ours "
                      "%.3f, llama.cpp's %.3f" % (
                          "FAIL" if gap >= NEAR else "near", i, prompt[:24], best, got[i], gap,
                          top[0]["logprob"] - top[1]["logprob"]))
        print("     log probabilities apart: median %.4f, largest %.4f" % (
            np.median(apart), max(apart)))
        del llama
    print("%d failed" % failed)
    return 1 if failed else 0


sys.exit(main())
