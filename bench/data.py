"""Rows of tokens that all contenders read, from the prose of this repository."""
import json
import os
import random
import subprocess

TEXTS = ("README.md", "docs/embedding.md", "docs/cli.md", "examples/data/support.jsonl",
         "include/peft.h")


def tokens(peft, model):
    text = ""
    for name in TEXTS:
        with open(name, encoding="utf-8") as f:
            text += f.read()
    out = subprocess.run([peft, "tokenize", model, "--plain", "--json"], input=text.encode(),
                         stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout)["ids"]


def short_lengths(n, mean=40, most=256):
    """Lengths of short examples: most are shorter than the mean, a few are long."""
    draw = random.Random(5)
    lengths = [min(most, max(4, int(draw.lognormvariate(0, 0.85) * 28))) for _ in range(n)]
    scale = mean * n / sum(lengths)
    return [min(most, max(4, round(x * scale))) for x in lengths]


def write_rows(path, ids, lengths, masked=0.0):
    """A row for each length, of which the first share is not trained."""
    at = 0
    with open(path, "w") as f:
        for n in lengths:
            row = [ids[(at + k) % len(ids)] for k in range(n)]
            quiet = int(n * masked)
            f.write(json.dumps({"input_ids": row,
                                "labels": [-100] * quiet + row[quiet:]}) + "\n")
            at += n
    return os.path.abspath(path)
