#!/usr/bin/env python3
"""Adapters that libpeft writes as GGUF and for MLX-LM, in llama.cpp and MLX-LM themselves, and
the GGUF files that llama.cpp's converter makes of the same adapter.

    python tests/interop/formats.py BASE_FOLDER ADAPTER [CONVERTER]

BASE_FOLDER is a language model with tokenizer (SmolLM2, floats), ADAPTER one of PEFT or ours for
it, plain or rsLoRA; CONVERTER the path of convert_lora_to_gguf.py in a checkout.  Needs xllamacpp,
mlx, mlx_lm, gguf and numpy.  llama.cpp rounds to 16 bits with F16 weights, hence its limit.
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bindings", "python"))

import gguf                                                     # noqa: E402
import mlx.core as mx                                           # noqa: E402
import numpy as np                                              # noqa: E402
import xllamacpp                                                # noqa: E402
from mlx_lm.tuner.utils import load_adapters                    # noqa: E402
from mlx_lm.utils import load_model                             # noqa: E402

import libpeft                                                  # noqa: E402

PROMPTS = ["The capital of France is", "Water boils at 100 degrees Celsius, which is",
           "Hello! 12 + 30 = ", "Once upon a time, in a small village,"]
TOKENS = 24
failed = 0


def check(what, value, limit):
    global failed
    failed += not value <= limit
    print("%-4s %-52s %.3g (limit %g)" % ("ok" if value <= limit else "FAIL", what, value, limit))


def llama_steps(base, adapter, prompts):
    params = xllamacpp.CommonParams()
    params.model.path = base
    params.n_ctx, params.n_gpu_layers, params.warmup, params.verbosity = 512, 0, False, -1
    params.n_parallel = 1
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 1.0)]
    server = xllamacpp.Server(params)
    for ids in prompts:
        reply = server.handle_completions(dict(
            prompt=ids, n_predict=TOKENS, temperature=0.0, top_k=1, ignore_eos=True,
            cache_prompt=False, n_probs=2))
        yield reply["choices"][0]["logprobs"]["content"]


def in_llama(base, adapter, file):
    with libpeft.Model(base) as m:
        m.load_adapter(adapter)
        prompts = [m.tokenize(p) for p in PROMPTS]
        apart, other = 0.0, 0
        for ids, steps in zip(prompts, llama_steps(base, file, prompts)):
            got = [s["id"] for s in steps]
            rows = np.array(m.forward(ids + got[:-1]), np.float64)[len(ids) - 1:]
            totals = np.logaddexp.reduce(rows, -1)
            for row, total, step in zip(rows, totals, steps):
                apart = max([apart] + [abs(row[t["id"]] - total - t["logprob"])
                                       for t in step["top_logprobs"] if t["id"] != m.info.eos])
            rows[:, m.info.eos] = -np.inf
            other += sum(int(row.argmax()) != g for row, g in zip(rows, got))
    check("llama.cpp: tokens that differ of %d" % (TOKENS * len(PROMPTS)), other, 0)
    check("llama.cpp: log probabilities", apart, 0.05)


def in_mlx(base, adapter, folder):
    mx.set_default_device(mx.cpu)
    model, _ = load_model(Path(base))
    model = load_adapters(model, folder)
    model.eval()
    with libpeft.Model(base) as m:
        m.load_adapter(adapter)
        ids = m.tokenize(PROMPTS[1])
        ours = np.array(m.forward(ids))
    theirs = np.array(model(mx.array([ids])).astype(mx.float32))[0]
    check("MLX-LM: logits, relative", abs(ours - theirs).max() / abs(ours).max(), 2e-5)


def tensors(path):
    return {t.name: (tuple(t.shape), t.tensor_type, t.data.tobytes())
            for t in gguf.GGUFReader(path).tensors}


def main():
    base, adapter = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as tmp:
        f16, file, folder = (os.path.join(tmp, n) for n in ("base.gguf", "lora.gguf", "mlx"))
        with libpeft.Model(base) as m:
            m.save(f16, dtype="f16")
            m.load_adapter(adapter)
            m.save_adapter(file)
            m.save_adapter(folder, format="mlx")
        in_llama(f16, adapter, file)
        in_mlx(base, adapter, folder)
        if len(sys.argv) > 3:
            theirs = os.path.join(tmp, "theirs.gguf")
            subprocess.run([sys.executable, sys.argv[3], "--base", base, "--outfile", theirs,
                            adapter], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            a, b = tensors(file), tensors(theirs)
            check("converter: tensors that differ of %d" % len(a),
                  sum(a.get(k) != b.get(k) for k in a.keys() | b.keys()), 0)
    return 1 if failed else 0


sys.exit(main())
