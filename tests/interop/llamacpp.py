#!/usr/bin/env python3
"""Greedy text of llama.cpp and of libpeft from the same GGUF files, in an
environment with xllamacpp (llama.cpp prebuilt for Python) and numpy.

    python tests/interop/llamacpp.py MODEL.gguf [OTHER.gguf ...]

llama.cpp rounds activations to 8 bits before it multiplies quantised weights.
Where the texts part, the gap between the two candidates in our logits is
shown: it must be no larger than what that rounding does to logits.
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
        return_tokens=True, cache_prompt=False, n_probs=2, post_sampling_probs=False))
    if isinstance(reply, list):
        reply = reply[0]
    return reply["tokens"], reply.get("completion_probabilities", [])


def main():
    failed = 0
    for path in sys.argv[1:]:
        print("--", os.path.basename(path))
        llama = server(path)
        with libpeft.Model(path) as m:
            for prompt in PROMPTS:
                ids = m.tokenize(prompt) if m.info.has_tokenizer else [
                    5 + ord(c) % (m.info.vocab - 5) for c in prompt]
                got, probs = theirs(llama, ids)
                mine, at = list(ids), None
                for i, token in enumerate(got):
                    row = np.asarray(m.forward(mine))[-1]
                    best = int(row.argmax())
                    if best != token:
                        at = (i, best, token, float(row[best] - row[token]))
                        break
                    mine.append(token)
                if at is None:
                    text = m.detokenize(got) if m.info.has_tokenizer else got[:8]
                    print("ok   %d tokens equal: %r" % (len(got), text[:60]))
                    continue
                near = at[3] < NEAR
                failed += not near
                gap = ""
                if len(probs) > at[0]:
                    top = probs[at[0]].get("top_logprobs", [])
                    if len(top) > 1:
                        gap = ", llama.cpp's gap %.3f" % (top[0]["logprob"] - top[1]["logprob"])
                print("%-4s token %d of %r: ours %d, llama.cpp's %d, our gap %.3f%s" % (
                    "near" if near else "FAIL", at[0], prompt[:24], at[1], at[2], at[3], gap))
        del llama
    print("%d failed" % failed)
    return 1 if failed else 0


sys.exit(main())
