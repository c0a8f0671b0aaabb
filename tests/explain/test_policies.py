"""The published schedules against slow transcriptions of their description (DESIGN 4.3), one strength at a time."""

import numpy as np
import pytest
import torch

from gifsplain.explain.methods import explain_with
from gifsplain.explain.settings import Settings
from gifsplain.models.prepare import to_images
from gifsplain.models.protocols import Pair
from gifsplain.types import Images

from .fakes import pair, picture


class Slow:
    """Eq. 1 and 2 in float32 for one image, through a second sigmoid, with a cache of nothing."""

    def __init__(self, models: Pair, image: Images, target: int) -> None:
        self.models, self.target = models, target
        self.low, self.high = models.autoencoder.card.value_range
        self.z = models.autoencoder.encode(image).detach().requires_grad_(True)
        score = models.classifier.scores(models.autoencoder.decode(self.z))[:, target].sigmoid()
        (self.gradient,) = torch.autograd.grad(score, self.z)

    def frame(self, lam: float) -> torch.Tensor:
        return self.models.autoencoder.decode(self.z + lam * self.gradient).detach()

    def prediction(self, lam: float) -> float:
        return float(self.models.classifier.scores(self.frame(lam))[0, self.target].sigmoid())

    def native(self, lam: float) -> torch.Tensor:
        return self.frame(lam) * (self.high - self.low) + self.low


def bounds_2021(slow: Slow) -> tuple[float, list[float]]:
    """-1 to -10 by one, then by ten to -1000; until it rises again or has fallen by more than 0.15; arange in ten."""
    visited = [0.0, *[-float(i) for i in range(1, 11)], *[-float(i) for i in range(20, 1001, 10)]]
    start, last = slow.prediction(0.0), slow.prediction(0.0)
    for bound in visited:
        now = slow.prediction(bound)
        if last < now or start - 0.15 > now or bound <= -1000:
            break
        last = now
    return bound, list(np.arange(bound, 0, np.abs(bound / 10)))


def bounds_0_0_6(slow: Slow) -> tuple[float, list[float]]:
    """Step 10 growing by lambda // 10; five stop rules; keeps the step that broke one; linspace with zero."""
    start, last, bound = slow.prediction(0.0), slow.prediction(0.0), 0.0
    base = slow.native(0.0)
    while True:
        now = slow.prediction(bound)
        change = (base - slow.native(bound)).abs().sum()
        rules = (last < now, now < 0.05, start - 0.8 > now, bound <= -3000, change > base.abs().sum() * 0.05)
        if any(rules):
            break
        last, bound = now, bound - 10.0 + bound // 10
    return bound, list(np.linspace(bound, 0, 10))


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1024.0, 1024.0)])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("policy", "transcription"), [("paper-2021", bounds_2021), ("latentshift-0.0.6", bounds_0_0_6)]
)
def test_published_policy_equals_its_transcription(policy, transcription, seed, value_range) -> None:
    models, image = pair(seed, value_range=value_range), picture(seed)
    slow = Slow(models, to_images(image, models.autoencoder.card), 1)
    bound, lambdas = transcription(slow)
    frames = torch.cat([slow.frame(lam) for lam in lambdas])
    made = explain_with("latentshift", models, [image], ["B"], Settings(policy=policy))[0]
    np.testing.assert_allclose(made.strengths.numpy(), lambdas, rtol=1e-6)
    assert float(made.strengths[0]) == pytest.approx(bound)
    torch.testing.assert_close(made.frames, frames, atol=1e-5, rtol=0)
    base = slow.frame(0.0)[0, 0]
    if policy == "paper-2021":
        expected = (base - frames[0, 0]).abs()
    else:
        expected = torch.stack([(frames[k, 0] - frames[k + 1, 0]).abs() for k in range(9)]).mean(0)
    torch.testing.assert_close(made.map, expected, atol=1e-5, rtol=0)


def test_the_second_sigmoid_keeps_every_published_score_between_one_half_and_0_74() -> None:
    models = pair(3)
    slow = Slow(models, to_images(picture(3), models.autoencoder.card), 0)
    assert all(0.5 <= slow.prediction(lam) <= 0.7311 for lam in (-1000.0, -10.0, 0.0, 10.0, 1000.0))
