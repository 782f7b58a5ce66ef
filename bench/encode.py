"""Text to ids, libpeft and the package `tokenizers` in turns, one thread each.

Both encode the same documents, a few thousand characters each, without special
tokens and offsets; the best of some rounds counts.  Prints a table, writes
encode.json.  With --peer this file is the other side: it needs only the
package.
"""
import argparse
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


def main():
    if sys.argv[1:2] == ["--peer"]:
        return peer(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("program", "python", "out"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--megabytes", type=float, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    texts = os.path.join(args.out, "texts.bin")
    make_texts(texts, args.megabytes * 1e6)
    results = {}
    print("%-44s %12s %12s %8s" % ("text to ids, one thread", "libpeft", "tokenizers", "ratio"))
    for name, folder in ROWS:
        work = [GOLDEN + folder, texts, str(args.rounds)]
        row = {"libpeft": measure([args.program] + work)}
        speed = row["libpeft"]["megabytes_per_second"]
        line = "%-44s %7.1f MB/s" % (name, speed)
        if args.python:
            other = row["tokenizers"] = measure([args.python, __file__, "--peer"] + work)
            line += " %7.1f MB/s %8.1f" % (other["megabytes_per_second"],
                                           speed / other["megabytes_per_second"])
            if other["ids"] != row["libpeft"]["ids"]:
                line += "  (%d ids, %d)" % (row["libpeft"]["ids"], other["ids"])
        print(line, flush=True)
        results[folder] = row
    path = os.path.join(args.out, "encode.json")
    with open(path, "w") as f:
        json.dump({"rounds": args.rounds, "results": results}, f, indent=2)
    print("All figures: %s\n" % path)


main()
