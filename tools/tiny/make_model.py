#!/usr/bin/env python3
"""Writes an untrained tiny model in Hugging Face form: make_model.py FOLDER

The tokenizer is byte-level BPE.  Its merges are counted on corpus.jsonl and on
the demo's conversations, so both are made of short token sequences.  The
weights are random; make_model.sh has libpeft train them.
"""
import collections
import json
import os
import random
import re
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = [os.path.join(HERE, "corpus.jsonl"),
         os.path.join(HERE, "..", "..", "examples", "data", "support.jsonl")]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
          "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
# GPT-2's pattern.  [^\W\d_] and \d are \p{L} and \p{N} as far as these texts go.
PIECE = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
VOCAB, DIM, LAYERS, HEADS, KV_HEADS, FF, CONTEXT = 1024, 128, 4, 4, 2, 384, 512
SEED = 2026


def byte_characters():
    """GPT-2's printable stand-in for each byte."""
    own = {*range(33, 127), *range(161, 173), *range(174, 256)}
    rest = iter(range(256, 512))
    return [chr(b) if b in own else chr(next(rest)) for b in range(256)]


def word_counts(letters):
    counts = collections.Counter()
    for path in TEXTS:
        with open(path, encoding="utf-8") as f:
            for line in f:
                for message in json.loads(line)["messages"]:
                    counts.update(PIECE.findall(message["content"]))
    return {tuple(letters[b] for b in w.encode("utf-8")): n for w, n in counts.items()}


def joined(word, pair):
    out, i = [], 0
    while i < len(word):
        step = 2 if word[i:i + 2] == pair else 1
        out.append("".join(word[i:i + step]))
        i += step
    return tuple(out)


def find_merges(words, count):
    """The most frequent pair, again and again; ties go to the smaller pair."""
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        words = {joined(word, best): n for word, n in words.items()}
    return merges


def write_json(folder, name, data):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


def write_tokenizer(folder):
    letters = byte_characters()
    merges = find_merges(word_counts(letters), VOCAB - len(SPECIAL) - len(letters))
    tokens = SPECIAL + letters + [a + b for a, b in merges]
    vocab = {t: i for i, t in enumerate(tokens)}
    if len(vocab) != VOCAB:
        sys.exit("two merges give the same token")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    write_json(folder, "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": t, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}
                         for i, t in enumerate(SPECIAL)],
        "normalizer": None, "pre_tokenizer": byte_level,
        "post_processor": dict(byte_level, trim_offsets=False), "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": [f"{a} {b}" for a, b in merges]},
    })
    write_json(folder, "tokenizer_config.json", {
        "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False,
        "bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>", "model_max_length": CONTEXT, "chat_template": CHATML})


def write_config(folder):
    write_json(folder, "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB,
        "hidden_size": DIM, "intermediate_size": FF, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "hidden_act": "silu",
        "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True,
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0, "torch_dtype": "float32"})


def shapes():
    kv = DIM // HEADS * KV_HEADS
    yield "model.embed_tokens.weight", (VOCAB, DIM)
    for i in range(LAYERS):
        for name, shape in (
                ("input_layernorm", (DIM,)), ("self_attn.q_proj", (DIM, DIM)),
                ("self_attn.k_proj", (kv, DIM)), ("self_attn.v_proj", (kv, DIM)),
                ("self_attn.o_proj", (DIM, DIM)), ("post_attention_layernorm", (DIM,)),
                ("mlp.gate_proj", (FF, DIM)), ("mlp.up_proj", (FF, DIM)),
                ("mlp.down_proj", (DIM, FF))):
            yield f"model.layers.{i}.{name}.weight", shape
    yield "model.norm.weight", (DIM,)


def write_weights(folder):
    """safetensors: the header's length in 8 bytes, the header, the data."""
    rng, header, data = random.Random(SEED), {"__metadata__": {"format": "pt"}}, bytearray()
    for name, shape in shapes():
        size = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [1.0] * size if len(shape) == 1 else [rng.gauss(0, 0.02) for _ in range(size)]
        begin = len(data)
        data += struct.pack(f"<{size}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    os.makedirs(sys.argv[1], exist_ok=True)
    write_tokenizer(sys.argv[1])
    write_config(sys.argv[1])
    write_weights(sys.argv[1])
