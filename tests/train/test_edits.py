"""Edited films: geometry of a wider heart, what an exchanged box holds, and that editing says nothing about the label."""

import pytest
import torch

from gifsplain.errors import ConfigurationError
from gifsplain.train import edits
from gifsplain.train.edits import Batch, EditsConfig

SIZE = 96


def _heart(count: int = 1, half: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright bar `2 half` wide in the middle, and its box."""
    images = torch.full((count, 1, SIZE, SIZE), 0.2)
    masks = torch.zeros(count, SIZE, SIZE)
    images[:, :, 36:60, 48 - half : 48 + half] = 0.8
    masks[:, 36:60, 48 - half : 48 + half] = 1
    return images, masks


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.5])
def test_a_heart_becomes_as_wide_as_asked(factor: float) -> None:
    images, masks = _heart()
    middle = edits.rescaled(images, masks * 0 + _heart(half=20)[1], torch.tensor([factor]))[0, 0, 48]
    width = float(((middle - 0.2) / 0.6).sum())
    assert width == pytest.approx(24 * factor, rel=0.12)
    assert torch.cat([middle[:4], middle[-4:]]).sub(0.2).abs().max() < 1e-5


def test_no_film_folds_over_itself() -> None:
    """Along each row the place that is shown moves right as the pixel does, for every factor in use."""
    ramp = torch.linspace(0, 1, SIZE).expand(1, 1, SIZE, SIZE)
    factors = [value for pairs in (edits.FAR, edits.NEAR) for pair in pairs for value in pair]
    for factor in factors:
        shown = edits.rescaled(ramp, _heart(half=16)[1], torch.tensor([factor]))
        assert (shown.diff(dim=-1) >= -1e-6).all(), factor


def _batch(count: int = 12) -> Batch:
    """Two targets; every third image has a boxed finding of the second, bright, target."""
    images = 0.2 + 0.05 * torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    labels, masks = torch.zeros(count, 2), torch.zeros(count, 2, SIZE, SIZE)
    for row in range(0, count, 3):
        labels[row, 1] = 1
        masks[row, 1, 20:50, 20:50] = 1
        images[row, 0, 22:48, 22:48] += 0.5
    return Batch(images, labels, masks, torch.zeros(count, dtype=torch.bool))


def test_an_exchanged_box_holds_what_its_label_says() -> None:
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        batch = _batch()
        made = edits.edit(batch, None, EditsConfig(exchanged_share=0.5), None)
        assert made.edited.sum() == 6
        for row in made.edited.nonzero().flatten().tolist():
            had, has = bool(batch.labels[row, 1]), made.labels[row, 1]
            bright = float(made.images[row, 0, 30:40, 30:40].mean()) > 0.5
            assert bright == bool(has) == bool(made.masks[row, 1].any())
            assert made.labels[row, 0].isnan()
            seen.add((had, bool(has)))
            torch.testing.assert_close(made.images[row, 0, 70:], batch.images[row, 0, 70:], atol=1e-4, rtol=0)
        assert torch.equal(made.images[~made.edited], batch.images[~made.edited])
    assert seen == {(True, False), (False, True), (False, False)}


def test_a_width_changes_its_label_only_when_it_changes_far() -> None:
    images, boxes = _heart(8)
    labels = torch.tensor([[1.0], [0.0]] * 4)
    masks = (boxes * labels[:, :1, None])[:, None]
    outcomes: dict[float, set[float]] = {0.0: set(), 1.0: set()}
    for seed in range(10):
        torch.manual_seed(seed)
        batch = Batch(images, labels, masks, torch.zeros(8, dtype=torch.bool))
        made = edits.edit(batch, boxes, EditsConfig("Big", widened_share=1.0), 0)
        widths = ((made.images[:, 0, 48] - 0.2) / 0.6).sum(1) / 24
        for before, after, width in zip(
            labels[:, 0].tolist(), made.labels[:, 0].tolist(), widths.tolist(), strict=True
        ):
            outcomes[before].add(after)
            turned = before != after
            assert (width < 0.94 if before else width > 1.08) == turned, (before, after, width)
        assert torch.equal(made.masks[:, 0].flatten(1).any(1), made.labels[:, 0] == 1)
    assert outcomes == {0.0: {0.0, 1.0}, 1.0: {0.0, 1.0}}


def test_unknown_and_unboxed_stay_as_they_are() -> None:
    images, boxes = _heart(2)
    batch = Batch(images, torch.tensor([[float("nan")], [1.0]]), torch.zeros(2, 1, SIZE, SIZE), torch.zeros(2).bool())
    made = edits.edit(batch, boxes, EditsConfig("Big", widened_share=1.0, exchanged_share=1.0), 0)
    assert not made.edited.any() and torch.equal(made.images, images)


def test_impossible_edits_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="edits need boxes"):
        edits.check_edits(EditsConfig(exchanged_share=0.1), ("Big",), boxes=False)
    with pytest.raises(ConfigurationError, match=r"edits\.widened must be one of"):
        edits.check_edits(EditsConfig("Heart", widened_share=0.1), ("Big",), boxes=True)
