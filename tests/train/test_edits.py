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


@pytest.mark.parametrize(("factor", "wanted"), [(0.68, 0.70), (1.3, 1.2), (1.6, 1.41)])
def test_a_heart_that_fills_its_box_changes_nearly_as_much(factor: float, wanted: float) -> None:
    """Where the edge comes to lie is the root of `a (1 + (1 / factor - 1) exp(-(a / reach)^4)) = 1`, in half widths."""
    images, masks = _heart(half=16)
    middle = edits.rescaled(images, masks, torch.tensor([factor]))[0, 0, 48]
    assert float(((middle - 0.2) / 0.6).sum()) / 32 == pytest.approx(wanted, rel=0.04)


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
    return Batch(images, labels, masks, torch.zeros(count, dtype=torch.bool), torch.arange(count) // 6)


def test_an_exchanged_box_holds_what_its_label_says() -> None:
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        batch = _batch()
        made = edits.edit(batch, None, EditsConfig(exchanged_share=0.5), None)
        assert 3 <= made.edited.sum() <= 6  # some find no partner left
        for row in made.edited.nonzero().flatten().tolist():
            had, has = bool(batch.labels[row, 1]), made.labels[row, 1]
            bright = float(made.images[row, 0, 30:40, 30:40].mean()) > 0.4
            assert bright == bool(has) == bool(made.masks[row, 1].any())
            assert made.labels[row, 0].isnan()
            assert float(made.images[row, 0, 16:54, 16:54].std()) < 0.1 or has  # nothing of the finding is left
            seen.add((had, bool(has)))
            torch.testing.assert_close(made.images[row, 0, 70:], batch.images[row, 0, 70:], atol=2e-3, rtol=0)
        assert torch.equal(made.images[~made.edited], batch.images[~made.edited])
    assert seen == {(True, False), (True, True), (False, True), (False, False)}


def test_boxes_are_exchanged_within_a_part_only() -> None:
    """Findings of the second part lie lower; none comes into the first, nor the other way round."""
    batch = _batch()
    low = batch.masks.roll(40, dims=2)
    batch = batch._replace(masks=torch.where((batch.parts == 1)[:, None, None, None], low, batch.masks))
    alone = batch._replace(parts=torch.arange(12))
    assert not edits.edit(alone, None, EditsConfig(exchanged_share=1.0), None).edited.any()
    came = 0
    for seed in range(8):
        torch.manual_seed(seed)
        made = edits.edit(batch, None, EditsConfig(exchanged_share=0.5), None)
        for row in made.edited.nonzero().flatten().tolist():
            place = batch.masks[3 if batch.parts[row] == 0 else 6]
            assert not (made.masks[row] * (1 - place)).any()
            came += bool(made.masks[row].any())
    assert came > 5


def test_health_is_taken_from_where_it_fits_best() -> None:
    """Of two healthy films the one whose border has the film's own slope of brightness."""
    slope = torch.linspace(0.2, 0.6, SIZE).expand(1, SIZE, SIZE)
    images = torch.stack([slope, slope.flip(-1), 0.05 + 0.5 * slope, slope])
    labels, masks = torch.tensor([[1.0], [0.0], [0.0], [1.0]]), torch.zeros(4, 1, SIZE, SIZE)
    masks[[0, 3], 0, 30:60, 30:60] = 1
    images[[0, 3], 0, 34:56, 34:56] = 0.9
    batch = Batch(images, labels, masks, torch.zeros(4, dtype=torch.bool), torch.zeros(4, dtype=torch.long))
    made = next(
        found
        for seed in range(99)
        if torch.manual_seed(seed)
        and (found := edits.edit(batch, None, EditsConfig(exchanged_share=0.25), None)).edited[0]
        and found.labels[0, 0] == 0
    )
    torch.testing.assert_close(made.images[0], slope, atol=0.03, rtol=0)


def test_three_equal_channels_are_pasted_as_one() -> None:
    images = torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    place = _batch().masks[0, 1]
    one, _, _ = edits.fitted(images[0] * 0.5, images[1:], place)
    three, _, _ = edits.fitted((images[0] * 0.5).expand(3, -1, -1), images[1:].expand(-1, 3, -1, -1), place)
    torch.testing.assert_close(three, one.expand(-1, 3, -1, -1))


def test_a_width_changes_its_label_only_when_it_changes_far() -> None:
    images, boxes = _heart(8)
    labels = torch.tensor([[1.0], [0.0]] * 4)
    masks = (boxes * labels[:, :1, None])[:, None]
    outcomes: dict[float, set[float]] = {0.0: set(), 1.0: set()}
    for seed in range(10):
        torch.manual_seed(seed)
        batch = Batch(images, labels, masks, torch.zeros(8, dtype=torch.bool), torch.zeros(8))
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
    batch = Batch(
        images,
        torch.tensor([[float("nan")], [1.0]]),
        torch.zeros(2, 1, SIZE, SIZE),
        torch.zeros(2).bool(),
        torch.zeros(2),
    )
    made = edits.edit(batch, boxes, EditsConfig("Big", widened_share=1.0, exchanged_share=1.0), 0)
    assert not made.edited.any() and torch.equal(made.images, images)


def test_impossible_edits_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="edits need boxes"):
        edits.check_edits(EditsConfig(exchanged_share=0.1), ("Big",), boxes=False)
    with pytest.raises(ConfigurationError, match=r"edits\.widened must be one of"):
        edits.check_edits(EditsConfig("Heart", widened_share=0.1), ("Big",), boxes=True)
