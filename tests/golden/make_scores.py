"""Cases of tests/unit/test_score.c: scores by sacrebleu and rouge-score.

    pip install sacrebleu rouge-score;  python tests/golden/make_scores.py > tests/golden/scores.txt

A case is a line of fields parted by tabs: number of rows, BLEU, chrF, ROUGE-1, -2, -L (mean F1), then
said and wanted of each row, with the escapes \\n, \\t and \\\\.  The words are made up here.
"""
import random

import sacrebleu
from rouge_score import rouge_scorer

WORDS = ("the a cat dog sat on mat, mat. 3.14 1,000 10-20 e.g. U.S. (yes) [no] {x} a/b 50% $5 don't it's \"so\" "
         "&amp; &lt;b&gt; &quot;q&quot; <skipped> über naïve façade 東京 日本 привет İstanbul Kelvin K x- -y .5 5. ,, "
         "... -- a\u00a0b c\u2003d e\u0301 \U0001f600 run runs running A.B.C. x.y 7.a a.7 ; : ! ?").split(" ")


def text(rnd, n):
    parts = [rnd.choice(WORDS) for _ in range(n)]
    return "".join(w + rnd.choice([" ", " ", " ", "", "\n", "-\n", "  ", "\t"]) for w in parts)


def near(rnd, s):
    words = s.split(" ")
    for _ in range(max(1, len(words) // 4)):
        i = rnd.randrange(len(words))
        words[i] = rnd.choice([words[i].upper(), rnd.choice(WORDS), "", words[i] + "."])
    return " ".join(words)


def escape(s):
    return s.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def main():
    rnd = random.Random(7)
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    for case in range(100):
        rows = rnd.choice([1, 1, 2, 3, 5])
        wanted = [text(rnd, rnd.choice([1, 3, 8, 20])) for _ in range(rows)]
        said = [rnd.choice([near(rnd, w), near(rnd, w), w, text(rnd, 8), ""]) for w in wanted]
        rouge = [scorer.score(w, s) for w, s in zip(wanted, said)]
        figures = [sacrebleu.corpus_bleu(said, [wanted]).score, sacrebleu.corpus_chrf(said, [wanted]).score]
        figures += [sum(r[k].fmeasure for r in rouge) / rows for k in ("rouge1", "rouge2", "rougeL")]
        pairs = [escape(t) for p in zip(said, wanted) for t in p]
        print("\t".join([str(rows)] + ["%.12g" % f for f in figures] + pairs))


if __name__ == "__main__":
    main()
