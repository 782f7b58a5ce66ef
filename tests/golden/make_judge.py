"""Cases of tests/unit/test_judge.c: figures, intervals and paired tests by numpy, scikit-learn and scipy.

    pip install numpy scipy scikit-learn;  python tests/golden/make_judge.py > tests/golden/judge.txt

A case is: number of rows and of classes; accuracy, macro F1 and expected calibration error (15 bins, Guo et
al. 2017) of system a; low and high of the 95 % percentile bootstrap of its accuracy and of its macro F1;
accuracy and macro F1 of b; low and high of the gain of accuracy and of macro F1; p of the gain of accuracy by
exchanging the systems' rows at random; then, for each row, the true class, what a and b said, and how sure a was.
"""
import numpy as np
from scipy import stats
from sklearn.metrics import f1_score

DRAWS = 20000


def ece(sure, right, bins=15):
    edges, error = np.linspace(0, 1, bins + 1), 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        here = (sure > low) & (sure <= high)
        if here.any():
            error += here.mean() * abs(right[here].mean() - sure[here].mean())
    return error


def macro(is_, said):
    return f1_score(is_, said, average="macro", zero_division=0)


def middle(x):
    return np.percentile(x, [2.5, 97.5])


def main():
    rng = np.random.default_rng(11)
    for n, classes, good, better in [(60, 2, 0.7, 0.75), (120, 3, 0.6, 0.8), (200, 5, 0.5, 0.5), (40, 3, 0.9, 0.85)]:
        is_ = rng.integers(0, classes, n)
        draw = [np.where(rng.random(n) < p, is_, rng.integers(0, classes, n)) for p in (good, better)]
        a, b = draw
        sure = np.round(rng.uniform(1 / classes, 1, n), 3)
        drawn = rng.integers(0, n, (DRAWS, n))
        f = np.array([[macro(is_[i], a[i]), macro(is_[i], b[i])] for i in drawn[:4000]])
        right = np.stack([a == is_, b == is_]).astype(float)
        own = stats.bootstrap((right[0],), np.mean, n_resamples=DRAWS, method="percentile", rng=3).confidence_interval
        test = stats.permutation_test((right[1], right[0]), lambda x, y, axis: np.mean(x - y, axis=axis),
                                      permutation_type="samples", vectorized=True, n_resamples=DRAWS, rng=5)
        gain = middle((right[1] - right[0])[drawn].mean(axis=1))
        head = [right[0].mean(), macro(is_, a), ece(sure, right[0]), own.low, own.high, *middle(f[:, 0]),
                right[1].mean(), macro(is_, b), *gain, *middle(f[:, 1] - f[:, 0]), test.pvalue]
        print(n, classes, *("%.12g" % x for x in head))
        for row in zip(is_, a, b, sure):
            print(*row)


main()
