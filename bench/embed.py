"""Sentences to vectors: libpeft beside sentence-transformers, batches of 32, in turns.

The same sentences, in the order of the file; sentence-transformers sorts them by length.
Run as a program, this file is one side: it loads, says so, and embeds all sentences for each
line on stdin; the first time it writes the vectors, float32, to a file.
"""
import argparse
import array
import json
import os
import statistics
import subprocess
import sys
import time

from contender import take_turns

BATCH, TEXTS = 32, 512
# 1 - cosine of a vector and PyTorch's in float32.
AGREE = {"f32": 1e-5, "bf16": 1e-2}


def ours(args, texts):
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "bindings", "python"))
    os.environ["LIBPEFT_LIBRARY"] = args.library
    import libpeft
    model = libpeft.Model(args.model, threads=args.threads, compute=args.compute)
    return lambda: model.embed_text(texts, batch=BATCH)


def theirs(args, texts):
    import torch
    from sentence_transformers import SentenceTransformer
    torch.set_num_threads(args.threads)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.compute]
    model = SentenceTransformer(args.model, device="cpu", model_kwargs={"dtype": dtype})
    return lambda: model.encode(texts, batch_size=BATCH, convert_to_tensor=True).float().numpy()


def work(args):
    with open(args.texts, encoding="utf-8") as f:
        texts = json.load(f)
    embed = {"ours": ours, "theirs": theirs}[args.work](args, texts)
    print(json.dumps({"texts": len(texts)}), flush=True)
    for i, _ in enumerate(sys.stdin):
        start = time.monotonic()
        vectors = embed()
        seconds = time.monotonic() - start
        if i == 0:
            with open(args.out, "wb") as f:
                f.write(vectors.tobytes())
        print(json.dumps({"seconds": seconds}), flush=True)


def read_vectors(path):
    vectors = array.array("f")
    with open(path, "rb") as f:
        vectors.frombytes(f.read())
    dim = len(vectors) // TEXTS
    return [vectors[i * dim:(i + 1) * dim] for i in range(TEXTS)]


def distance(a, b):
    """Of two lists of vectors of length 1, the largest 1 - cosine."""
    return max(1 - sum(x * y for x, y in zip(u, v)) for u, v in zip(a, b))


def has_peer(python):
    return python and not subprocess.run([python, "-c", "import sentence_transformers"],
                                         stderr=subprocess.DEVNULL).returncode


def compare(env):
    texts, commands, vectors = env.path("embed.json"), {}, {}
    with open(env.reviews, encoding="utf-8", errors="replace") as f:
        rows = [line.rstrip("\n").split("\t") for line in f]
    with open(texts, "w", encoding="utf-8") as f:
        json.dump([row[2].strip() for row in rows if len(row) == 3][:TEXTS], f)
    sides = {"libpeft": ("ours", sys.executable)}
    if has_peer(env.python):
        sides["sentence-transformers"] = ("theirs", env.python)
    for side, (who, python) in sides.items():
        for kind, says in (("f32", ""), ("bf16", ", bfloat16"))[:1 + env.half]:
            out = vectors[side + says] = env.path("embed-%s-%s.bin" % (who, kind))
            commands[side + says] = [python, __file__, "--work", who, "--model", env.minilm,
                                     "--texts", texts, "--threads", str(env.threads),
                                     "--compute", kind, "--out", out,
                                     "--library", env.program("libpeft.so")]
    results, reference = {}, vectors.get("sentence-transformers")
    for name, one in take_turns(commands, env.steps).items():
        speeds = [TEXTS / row["seconds"] for row in one.rows[1:]]
        r = results[name] = {"texts_per_second": statistics.median(speeds), "best": max(speeds),
                             "first_step": one.rows[0]["since_start"], "peak_bytes": one.peak}
        if not reference or vectors[name] == reference:
            continue
        far = r["vector_difference"] = distance(read_vectors(vectors[name]),
                                                read_vectors(reference))
        if far > AGREE["bf16" if "bfloat16" in name else "f32"]:
            r["failed"] = "vectors differ by %.2g of sentence-transformers" % far
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("work", "model", "texts", "compute", "out", "library"):
        parser.add_argument("--" + name)
    parser.add_argument("--threads", type=int, default=1)
    work(parser.parse_args())


if __name__ == "__main__":
    main()
