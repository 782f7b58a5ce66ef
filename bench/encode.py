"""Text to ids, libpeft and the package `tokenizers` in turns, one thread each.

Both encode the same documents, a few thousand characters each, without special
tokens and offsets; the best of two rounds counts.  Run as a program, FOLDER TEXTS
ROUNDS, this file is the other side: it needs only the package.
"""
import glob
import json
import os
import struct
import subprocess
import sys
import sysconfig
import time

GOLDEN = "tests/golden/tokenizers/"
ROWS = [("SmolLM2, byte-level BPE", "smollm2"), ("MiniLM, WordPiece", "minilm"),
        ("Qwen2's kind, NFC, small", "kinds/qwen2"),
        ("Llama 2's kind, SentencePiece BPE, small", "kinds/llama2"),
        ("T5's kind, Unigram, small", "kinds/t5")]


def make_texts(path, size):
    """Python's library and the repository's prose, in turns of document and file."""
    files = sorted(glob.glob("docs/*.md") + glob.glob("*.md") +
                   glob.glob(sysconfig.get_paths()["stdlib"] + "/**/*.py", recursive=True))
    total = 0
    with open(path, "wb") as out:
        for name in files * 100:
            if total >= size:
                break
            with open(name, encoding="utf-8", errors="replace") as f:
                text = f.read()
            for at in range(0, len(text), 4000):
                data = text[at:at + 4000].encode()
                out.write(struct.pack("<i", len(data)) + data)
                total += len(data)


def read_texts(path):
    with open(path, "rb") as f:
        data = f.read()
    at, texts = 0, []
    while at < len(data):
        n, = struct.unpack_from("<i", data, at)
        texts.append(data[at + 4:at + 4 + n].decode())
        at += 4 + n
    return texts


def peer(folder, path, rounds):
    from tokenizers import BertWordPieceTokenizer, Tokenizer
    whole = folder + "/tokenizer.json"
    tokenizer = (Tokenizer.from_file(whole) if os.path.exists(whole)
                 else BertWordPieceTokenizer(folder + "/vocab.txt")._tokenizer)
    texts, best = read_texts(path), float("inf")
    for _ in range(rounds):
        start = time.monotonic()
        encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        best = min(best, time.monotonic() - start)
        n_ids = sum(len(e.ids) for e in encoded)
    print(json.dumps({"bytes": sum(len(t.encode()) for t in texts), "ids": n_ids,
                      "seconds": best}))


def measure(command):
    env = dict(os.environ, RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    run = subprocess.run(command, stdout=subprocess.PIPE, env=env, check=True)
    result = json.loads(run.stdout)
    result["megabytes_per_second"] = result["bytes"] / result["seconds"] / 1e6
    return result


def compare(env):
    """Our speed and the package's for each tokenizer."""
    texts, results = env.path("texts.bin"), {}
    make_texts(texts, env.megabytes * 1e6)
    for name, folder in ROWS:
        work = [GOLDEN + folder, texts, "2"]
        row = measure([env.program("bench_encode")] + work)
        if env.python:
            other = measure([env.python, __file__] + work)
            results[folder + ", tokenizers"] = other
            row["ratio"] = row["megabytes_per_second"] / other["megabytes_per_second"]
            if other["ids"] != row["ids"]:
                row["failed"] = "%d ids, the package has %d" % (row["ids"], other["ids"])
        results[folder] = dict(row, title=name)
    return results


if __name__ == "__main__":
    peer(sys.argv[1], sys.argv[2], int(sys.argv[3]))
