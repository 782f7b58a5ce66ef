"""Types chosen for each matrix against one type for all, at equal bytes.

    LIBPEFT_LIBRARY=build/release/libpeft.so python bench/dynamic.py FOLDER [FOLDER ...]

FOLDER holds a model of floats.  It is calibrated on half of the passages of this
repository's prose and measured on the other half, and on the texts of examples/data,
which are of another kind.  Language models: KL a token; encoders: 1 - cosine of the mean
hidden state.  With gguf-py also the usual recipe: embeddings, head, first and last layer
in Q8_0, the rest in Q4_K.
"""
import argparse
import glob
import json
import os
import random
import shutil
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "bindings", "python"))

import libpeft                                                  # noqa: E402

try:
    import gguf
    import numpy as np
except ImportError:
    gguf = None


def passages():
    """Prose of the repository, without tables and code."""
    found = []
    for path in [os.path.join(ROOT, "README.md")] + sorted(glob.glob(os.path.join(
            ROOT, "docs", "*.md"))):
        with open(path, encoding="utf-8") as f:
            for part in f.read().split("\n\n"):
                words = " ".join(part.split())
                if len(words) > 240 and not part.lstrip().startswith(("|", "`", "    ")):
                    found.append(words)
    random.Random(7).shuffle(found)
    return found


def others():
    found = []
    with open(os.path.join(ROOT, "examples", "data", "support.jsonl"), encoding="utf-8") as f:
        for line in f:
            found += [m["content"] for m in json.loads(line).get("messages", [])]
    found = [t for t in dict.fromkeys(found) if len(t) > 60]
    random.Random(7).shuffle(found)
    return found


def write(path, texts, lm):
    with open(path, "w", encoding="utf-8") as f:
        for text in texts:
            f.write(json.dumps({"text": text} if lm else {"text": text, "label": "x"}) + "\n")
    return path


def splice(narrow, wide, to, layers):
    """The file `narrow` with the outer tensors of `wide`."""
    a, b = gguf.GGUFReader(narrow), gguf.GGUFReader(wide)
    writer = gguf.GGUFWriter(to, a.fields["general.architecture"].contents())
    for key, field in a.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), field.types[0], sub_type=sub)
    outer = ("token_embd", "output.", "blk.0.", "blk.%d." % (layers - 1))
    for t, u in zip(a.tensors, b.tensors):
        assert t.name == u.name
        pick = u if t.name.startswith(outer) else t
        writer.add_tensor(t.name, np.array(pick.data), raw_dtype=pick.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Bench:
    def __init__(self, folder, args, work):
        self.folder, self.args, self.work = folder, args, work
        self.ref = libpeft.Model(folder, threads=args.threads)
        lm = self.lm = self.ref.info.head == "language-model"
        texts = passages()
        half = min(len(texts) // 2, args.rows)
        self.calibrate = write(self.at("cal.jsonl"), texts[:half], lm)
        self.tests = [self.data(self.ref, write(self.at(name), rows, lm)) for name, rows in (
            ("same.jsonl", texts[half:2 * half]), ("other.jsonl", others()[:args.rows]))]

    def at(self, name):
        return os.path.join(self.work, name)

    def data(self, model, path):
        return model.dataset(path, max_len=self.args.length)

    def show(self, name, model, note=""):
        found = [model.compare(self.ref, d, batch=4) for d in self.tests]
        far = [c.kl if self.lm else 1 - c.cosine for c in found]
        print("| %s | %.2f | %.5f | %.5f | %s | %s |" % (
            name, model.info.weight_bytes / 1e6, *far,
            "%.2f" % found[0].perplexity if self.lm else "", model.info.types + note), flush=True)
        return model.info.weight_bytes

    def open(self, name):
        return libpeft.Model(self.at(name), threads=self.args.threads)

    def beside(self, name, path):
        self.dynamic(self.show(name, self.open(path)))

    def dynamic(self, budget):
        """The file's bytes, which lack what GGUF has no place for (poolers)."""
        model = libpeft.Model(self.folder, threads=self.args.threads)
        start = time.time()
        q = model.quantize(self.data(model, self.calibrate), types=self.args.types, batch=4,
                           budget=budget + self.dropped, gradient_bytes=1 << 30)
        seconds = time.time() - start
        model.save(self.at("dynamic.gguf"))
        del model
        self.show("chosen", self.open("dynamic.gguf"), " (%s, %.0f s)" % (q.rule, seconds))

    def run(self):
        info = self.ref.info
        print("\n%s: %s, %d layers, %s\n" % (os.path.basename(self.folder.rstrip("/")),
                                             info.family, info.layers, info.types))
        print("| | MB | %s | other text | perplexity | types |" % ("KL" if self.lm else "1 - cos"))
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
        self.dropped = 0
        if not self.lm:
            self.ref.save(self.at("f32.gguf"), dtype="f32")
            full = sum(p.rows * p.cols for p in self.ref.params()) * 4
            self.dropped = full - self.open("f32.gguf").info.weight_bytes
        for name in filter(None, self.args.uniform.split(",")):
            self.ref.save(self.at(name + ".gguf"), dtype=name)
            self.show("%s for all" % name.upper(), self.open(name + ".gguf"))
        against = self.args.against.split(",")
        if "q4_k" in against or "wide" in against:
            self.ref.save(self.at("q4_k.gguf"), dtype="q4_k")
        if "q4_k" in against:
            self.beside("Q4_K for all", "q4_k.gguf")
        if "wide" in against and gguf and self.lm:
            self.ref.save(self.at("q8_0.gguf"), dtype="q8_0")
            splice(self.at("q4_k.gguf"), self.at("q8_0.gguf"), self.at("wide.gguf"), info.layers)
            self.beside("outer layers in Q8_0", "wide.gguf")
        if "nf4" in against:
            self.ref.save(self.at("nf4"), dtype="nf4")
            self.beside("NF4", "nf4")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--types", help="what can be chosen (default: all of GGML's blocks)")
    parser.add_argument("--against", default="q4_k,wide,nf4")
    parser.add_argument("--uniform", default="", help="types to show without a choice beside")
    parser.add_argument("--keep", help="where the last chosen GGUF file goes")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--length", type=int, default=192)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    for folder in args.folders:
        with tempfile.TemporaryDirectory() as work:
            Bench(folder, args, work).run()
            if args.keep:
                shutil.copy(os.path.join(work, "dynamic.gguf"), args.keep)


main()
