"""The same model with weights that lie on no file's grid of 4 or 5 bits.

    LIBPEFT_LIBRARY=build/release/libpeft.so python bench/ungrid.py MODEL.gguf FOLDER

What is quantised from a model that was quantised before says little: some types hold
its values exactly.  Here every input channel of the linear layers is divided by a
random factor between 0.7 and 1.4, by which what makes that channel is multiplied: a
norm's weight, a row of the values' projection, a row of up_proj.  The model computes
what it did; its blocks are those of no file.  FOLDER gets BF16.  Needs safetensors.
Of families whose sublayers begin with an RMS norm and whose feed-forward layers are
gated: llama, mistral, qwen, gemma.
"""
import os
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file, save_file

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "bindings", "python"))

import libpeft                                                  # noqa: E402


def factors(rng, n):
    return np.exp(rng.uniform(-0.35, 0.35, n)).astype(np.float32)


def layer(t, at, rng, gemma, heads, groups):
    def norm(name, readers):
        s = factors(rng, t[at + name].size)
        t[at + name] = (t[at + name] + gemma) * s - gemma
        for reader in readers:
            t[at + reader] = t[at + reader] / s

    def rows(name, reader, of_channel):
        s = factors(rng, len(t[at + name]))
        t[at + name] = t[at + name] * s[:, None]
        t[at + reader] = t[at + reader] / s[of_channel]

    four = at + "pre_feedforward_layernorm.weight" in t
    attn, mlp = "self_attn.%s_proj.weight", "mlp.%s_proj.weight"
    norm("input_layernorm.weight", [attn % x for x in "qkv"])
    norm("pre_feedforward_layernorm.weight" if four else "post_attention_layernorm.weight",
         [mlp % "gate", mlp % "up"])
    size = len(t[at + attn % "v"]) // groups
    head = np.arange(heads) // (heads // groups)
    rows(attn % "v", attn % "o", (head[:, None] * size + np.arange(size)).ravel())
    rows(mlp % "up", mlp % "down", np.arange(len(t[at + mlp % "up"])))


def main():
    source, to = sys.argv[1:]
    rng = np.random.default_rng(5)
    with tempfile.TemporaryDirectory() as work:
        with libpeft.Model(source) as m:
            info = m.info
            m.save(work, dtype="f32")
        path = os.path.join(work, "model.safetensors")
        t = load_file(path)
        prefix = next(k for k in t if k.endswith("layers.0.input_layernorm.weight"))
        prefix = prefix[:prefix.index("0.")]
        for i in range(info.layers):
            layer(t, "%s%d." % (prefix, i), rng, float("gemma" in info.family), info.heads,
                  info.kv_heads)
        save_file(t, path, metadata={"format": "pt"})
        with libpeft.Model(work) as m:
            m.save(to, dtype="bf16")


main()
