#!/usr/bin/env python3
"""Fashion-MNIST (Xiao et al. 2017, MIT licence) as folders of PNG files, and a small ViT with random
weights.  Python alone, no packages; the data is Debian's dataset-fashion-mnist.

    fashion_mnist.py pictures OUT [--limit N] [--test N] [--classes 0-4]   OUT/train/NAME/*.png, OUT/test/...
    fashion_mnist.py model OUT [--dim 64] [--layers 4] [--heads 4] [--patch 7]
    fashion_mnist.py body MODEL OUT          the same model without its classification head

Then:   peft train OUT --data pictures/train --eval pictures/test --method full --out run
"""
import argparse
import gzip
import json
import os
import random
import shutil
import struct
import zlib

FROM = "/usr/share/datasets/fashion-mnist"
NAMES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
SIDE = 28


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels):
    rows = b"".join(b"\0" + pixels[i:i + SIDE] for i in range(0, SIDE * SIDE, SIDE))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def pictures(args):
    """The first N of each set that are of the wanted classes."""
    first, _, last = args.classes.partition("-")
    wanted = range(int(first), int(last or first) + 1)
    for part, stem, limit in (("train", "train", args.limit), ("test", "t10k", args.test)):
        with gzip.open("%s/%s-images-idx3-ubyte.gz" % (args.source, stem)) as f:
            images = f.read()[16:]
        with gzip.open("%s/%s-labels-idx1-ubyte.gz" % (args.source, stem)) as f:
            labels = f.read()[8:]
        for c in wanted:
            os.makedirs("%s/%s/%s" % (args.out, part, NAMES[c]), exist_ok=True)
        n = 0
        for i, label in enumerate(labels):
            if label not in wanted or n == (limit or len(labels)):
                continue
            with open("%s/%s/%s/%05d.png" % (args.out, part, NAMES[label], i), "wb") as f:
                f.write(png(images[i * SIDE * SIDE:(i + 1) * SIDE * SIDE]))
            n += 1
        print("%s: %d pictures of %d classes" % (part, n, len(wanted)))


def read_safetensors(path):
    with open(path, "rb") as f:
        data = f.read()
    n = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + n])
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
            for k, v in head.items() if k != "__metadata__"}


def write_safetensors(path, tensors):
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            f.write(data)


def model(args):
    """A ViTModel: normal weights of deviation 1/sqrt(inputs), norms 1, biases 0."""
    r = random.Random(args.seed)
    tensors, d, ff = {}, args.dim, 4 * args.dim

    def normal(name, shape, std):
        n = 1
        for s in shape:
            n *= s
        tensors[name] = ("F32", shape, struct.pack("<%df" % n, *(r.gauss(0, std) for _ in range(n))))

    def vector(name, n, value):
        tensors[name] = ("F32", [n], struct.pack("<%df" % n, *[value] * n))

    def linear(name, out, inputs):
        normal(name + ".weight", [out, inputs], inputs ** -0.5)
        vector(name + ".bias", out, 0.0)

    def norm(name):
        vector(name + ".weight", d, 1.0)
        vector(name + ".bias", d, 0.0)

    patches = (SIDE // args.patch) ** 2
    normal("embeddings.cls_token", [1, 1, d], 0.02)
    normal("embeddings.position_embeddings", [1, patches + 1, d], 0.02)
    normal("embeddings.patch_embeddings.projection.weight", [d, 1, args.patch, args.patch], 1 / args.patch)
    vector("embeddings.patch_embeddings.projection.bias", d, 0.0)
    for i in range(args.layers):
        at = "encoder.layer.%d." % i
        for part in ("query", "key", "value"):
            linear(at + "attention.attention." + part, d, d)
        linear(at + "attention.output.dense", d, d)
        linear(at + "intermediate.dense", ff, d)
        linear(at + "output.dense", d, ff)
        norm(at + "layernorm_before")
        norm(at + "layernorm_after")
    norm("layernorm")
    os.makedirs(args.out, exist_ok=True)
    write_safetensors(args.out + "/model.safetensors", tensors)
    config = {"architectures": ["ViTModel"], "model_type": "vit", "hidden_size": d, "num_hidden_layers": args.layers,
              "num_attention_heads": args.heads, "intermediate_size": ff, "hidden_act": "gelu", "image_size": SIDE,
              "patch_size": args.patch, "num_channels": 1, "qkv_bias": True, "layer_norm_eps": 1e-12,
              "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    processor = {"image_processor_type": "ViTImageProcessor", "do_resize": True, "resample": 2, "do_rescale": True,
                 "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5], "image_std": [0.5],
                 "size": {"height": SIDE, "width": SIDE}}
    for name, value in (("config.json", config), ("preprocessor_config.json", processor)):
        with open("%s/%s" % (args.out, name), "w") as f:
            json.dump(value, f, indent=1)
    print("%s: %d weights" % (args.out, sum(len(t[2]) // 4 for t in tensors.values())))


def body(args):
    shutil.copytree(args.model, args.out)
    tensors = read_safetensors(args.out + "/model.safetensors")
    write_safetensors(args.out + "/model.safetensors", {k.replace("vit.", "", 1): v for k, v in tensors.items()
                                                        if not k.startswith("classifier.")})
    with open(args.out + "/config.json") as f:
        config = json.load(f)
    config = {k: v for k, v in config.items() if k not in ("id2label", "label2id", "libpeft_pool")}
    config["architectures"] = ["ViTModel"]
    with open(args.out + "/config.json", "w") as f:
        json.dump(config, f, indent=1)


def main():
    p = argparse.ArgumentParser()
    s = p.add_subparsers(required=True)
    a = s.add_parser("pictures")
    a.add_argument("out")
    a.add_argument("--limit", type=int, default=0)
    a.add_argument("--test", type=int, default=0)
    a.add_argument("--classes", default="0-9")
    a.add_argument("--source", default=FROM)
    a.set_defaults(run=pictures)
    a = s.add_parser("model")
    a.add_argument("out")
    for name, value in (("dim", 64), ("layers", 4), ("heads", 4), ("patch", 7), ("seed", 0)):
        a.add_argument("--" + name, type=int, default=value)
    a.set_defaults(run=model)
    a = s.add_parser("body")
    a.add_argument("model")
    a.add_argument("out")
    a.set_defaults(run=body)
    args = p.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
