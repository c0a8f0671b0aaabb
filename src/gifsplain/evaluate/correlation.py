"""How alike two maps are, and how complex one is; arrays in, numbers out."""

import numpy as np
from jaxtyping import Float

from gifsplain.evaluate.overlap import membership

Map = Float[np.ndarray, "h w"]
BINS = 100


def spearman(a: Map, b: Map) -> float:
    """Rank correlation of the pixels' absolute values, ties at their mean rank; nan where a map is constant."""
    from scipy.stats import rankdata  # takes a second to load

    ranks = [rankdata(np.abs(m), axis=None) for m in (a, b)]
    centred = [r - r.mean() for r in ranks]
    size = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / size if size > 0 else float("nan")


def top_overlap(a: Map, b: Map, share: float = 0.1) -> float:
    """IoU of the `share` largest values of both maps, ties shared out."""
    count = round(share * a.size)
    first, second = membership(a, count), membership(b, count)
    union = float(np.maximum(first, second).sum())
    return float(np.minimum(first, second).sum()) / union if union > 0 else float("nan")


def complexity(scores: Map, bins: int = BINS) -> float:
    """Entropy in nats of the histogram of absolute values between 0 and the largest; 0 for a constant map."""
    values = np.abs(scores).ravel()
    if values.max() <= 0 or values.max() == values.min():
        return 0.0
    counts, _ = np.histogram(values, bins=bins, range=(0.0, float(values.max())))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def complexity_rise(original: Map, randomised: Map, bins: int = BINS) -> float:
    """Relative rise of complexity when all weights are random: above 0 for a map that depends on the model.

    The efficient randomisation test (Hedstrom 2024): it compares no two maps, so it needs no similarity. nan where
    either map is constant: a random network whose score nothing moves gives a sweep no map at all.
    """
    before, after = complexity(original, bins), complexity(randomised, bins)
    return (after - before) / before if before > 0 and after > 0 else float("nan")
