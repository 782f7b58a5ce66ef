#!/usr/bin/env python3
"""labels.txt: what scikit-learn, statsmodels and cleanlab say of labels.

    pip install cleanlab statsmodels;  python tests/golden/make_labels.py

Lines of numbers:
  agree RATERS ROWS LABELS, a line of ROWS labels for each rater, cohen_kappa_score of the pairs
  (0,1) (0,2) .. (1,2) .., fleiss_kappa, mean share of pairs that agree
  faults ROWS LABELS, a line of given labels, a line of probabilities a row, the confident joint's
  issues as 0 and 1, then rows ranked by self confidence and by normalized margin
"""
import itertools
import os

import numpy as np
from cleanlab.filter import find_label_issues
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

rng = np.random.default_rng(5)
out = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "labels.txt"), "w")


def line(numbers, form="%d"):
    out.write(" ".join(form % x for x in numbers) + "\n")


def agree(raters, rows, labels, noise):
    truth = rng.integers(0, labels, rows)
    given = np.where(rng.random((raters, rows)) < noise, rng.integers(0, labels, (raters, rows)),
                     truth)
    out.write("agree %d %d %d\n" % (raters, rows, labels))
    for g in given:
        line(g)
    line([cohen_kappa_score(a, b) for a, b in itertools.combinations(given, 2)], "%.15g")
    table, _ = aggregate_raters(given.T)
    same = np.mean([np.mean(a == b) for a, b in itertools.combinations(given, 2)])
    line([fleiss_kappa(table), same], "%.15g")


def faults(rows, labels, sharp, missing=False):
    truth = rng.integers(0, labels - missing, rows)
    given = np.where(rng.random(rows) < 0.15, rng.integers(0, labels - missing, rows), truth)
    z = rng.normal(0, 1, (rows, labels))
    z[np.arange(rows), truth] += sharp
    p = np.exp(z)
    p = (p / p.sum(1, keepdims=True)).round(6).astype(np.float32).astype(float)
    out.write("faults %d %d\n" % (rows, labels))
    line(given)
    for row in p:
        line(row, "%.6f")
    ranked = [find_label_issues(given, p, filter_by="confident_learning",
                                return_indices_ranked_by=by)
              for by in ("self_confidence", "normalized_margin")]
    flags = np.zeros(rows, int)
    flags[ranked[0]] = 1
    line(flags)
    for r in ranked:
        line(r)


agree(2, 40, 2, 0.2)
agree(3, 60, 3, 0.4)
agree(5, 30, 4, 0.7)
faults(50, 2, 2)
faults(60, 3, 1.5)
faults(60, 5, 2.5)
faults(40, 3, 0.5)
out.close()
