#!/usr/bin/env python3
"""Writes the three tiny tokenizers of tests/unit/test_data.c beside this file.

chat   byte-level BPE with ChatML tokens and template; adds no BOS
plain  byte-level BPE whose template adds <s>; no chat template
bert   WordPiece with [CLS] and [SEP]

Ids: special tokens first, then the 256 bytes, then one token for each merge.
"""
import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
          "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ a", "Ċ Ċ", "u s", "e r", "us er"]
WORDS = "the a cat dog runs sleeps good bad and is . , ! ##s ##ing".split()


def byte_characters():
    """GPT-2's printable stand-in for each byte."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 0
    for b in range(256):
        if b in own:
            table[b] = chr(b)
        else:
            table[b] = chr(256 + extra)
            extra += 1
    return table


def added(token, at):
    return {"id": at, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True}


def write(folder, name, data):
    os.makedirs(os.path.join(HERE, folder), exist_ok=True)
    with open(os.path.join(HERE, folder, name), "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=True, indent=None, separators=(",", ":"))
        f.write("\n")


def bpe(folder, special, post, config):
    vocab = {}
    for token in [*special, *byte_characters().values()]:
        vocab[token] = len(vocab)
    for merge in MERGES:
        vocab.setdefault(merge.replace(" ", ""), len(vocab))
    write(folder, "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(t, i) for i, t in enumerate(special)],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                          "use_regex": True},
        "post_processor": post,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": MERGES},
    })
    write(folder, "tokenizer_config.json", config)


def template(before):
    piece = {"SpecialToken": {"id": before, "type_id": 0}}
    one, two = ({"Sequence": {"id": s, "type_id": 0}} for s in "AB")
    return {"type": "TemplateProcessing", "single": [piece, one], "pair": [piece, one, piece, two],
            "special_tokens": {before: {"id": before, "ids": [0], "tokens": [before]}}}


bpe("chat", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
    {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
     "unk_token": "<|endoftext|>", "chat_template": CHATML})
bpe("plain", ["<s>", "</s>"], template("<s>"),
    {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
     "add_bos_token": True})
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
os.makedirs(os.path.join(HERE, "bert"), exist_ok=True)
with open(os.path.join(HERE, "bert", "vocab.txt"), "w", encoding="utf-8") as out:
    out.write("\n".join(SPECIAL + WORDS) + "\n")
write("bert", "tokenizer_config.json",
      {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "cls_token": "[CLS]",
       "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"})
