#!/usr/bin/env python3
"""Makes tests/golden/embed: a tiny bare BERT with its vocabulary, rows for embedding training, and the
losses of ten AdamW steps under sentence-transformers' losses.

    make_embed.py [OUT]

Needs torch, transformers and sentence-transformers."""
import json, os, random, sys
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast
from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.models import Pooling, Transformer

OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "embed")
WORDS = """the a red green blue old new big small door window lamp table chair opens closes shines
stands breaks is was near under over kitchen garden hall in on""".split()


def sentence(r, n):
    return " ".join(r.choice(WORDS) for _ in range(n))


def rows(r):
    match = [{"anchor": sentence(r, r.randint(2, 7)), "positive": sentence(r, r.randint(2, 9)),
              "negative": sentence(r, r.randint(2, 6))} for _ in range(10)]
    alike = [{"sentence1": sentence(r, r.randint(2, 7)), "sentence2": sentence(r, r.randint(2, 8)),
              "score": r.randint(0, 5) / 5} for _ in range(10)]
    return match, alike


def train(folder, data, texts, values, make_loss):
    torch.manual_seed(0)
    body = Transformer(folder)
    model = SentenceTransformer(modules=[body, Pooling(body.get_embedding_dimension(), "mean")],
                                device="cpu")
    loss_of = make_loss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    model.eval()
    out = []
    for step in range(10):
        part = data[step * 5 % 10:step * 5 % 10 + 5]
        features = [model.preprocess([row[k] for row in part]) if hasattr(model, "preprocess")
                    else model.tokenize([row[k] for row in part]) for k in texts]
        labels = torch.tensor([row[values] for row in part]) if values else None
        loss = loss_of(features, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        out.append(loss.item())
    return out


def main():
    os.makedirs(OUT, exist_ok=True)
    r = random.Random(5)
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + sorted(set(WORDS))
    with open(os.path.join(OUT, "vocab.txt"), "w") as f:
        f.write("\n".join(vocab) + "\n")
    BertTokenizerFast(os.path.join(OUT, "vocab.txt"), do_lower_case=True)
    torch.manual_seed(1)
    model = BertModel(BertConfig(
        vocab_size=len(vocab), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=32, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0), add_pooling_layer=False)
    for p in model.parameters():
        if p.dim() > 1:
            p.data *= 4
    model.save_pretrained(OUT)
    with open(os.path.join(OUT, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "cls_token": "[CLS]",
                   "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]",
                   "mask_token": "[MASK]"}, f, indent=1)
    match, alike = rows(r)
    golden = {}
    for name, data, texts, values, make in [
        ("match", match, ["anchor", "positive", "negative"], None,
         losses.MultipleNegativesRankingLoss),
        ("triplet", match, ["anchor", "positive", "negative"], None, losses.TripletLoss),
        ("cosent", alike, ["sentence1", "sentence2"], "score", losses.CoSENTLoss),
        ("cosine", alike, ["sentence1", "sentence2"], "score", losses.CosineSimilarityLoss)]:
        golden[name] = train(OUT, data, texts, values, make)
    for name, data in ("match", match), ("alike", alike):
        with open(os.path.join(OUT, name + ".jsonl"), "w") as f:
            f.writelines(json.dumps(row) + "\n" for row in data)
    with open(os.path.join(OUT, "golden.json"), "w") as f:
        json.dump(golden, f, indent=1)
    print(json.dumps(golden))


main()
