"""What a cure looks like, on films drawn so that the answer is known."""

import torch

from gifsplain.train.healing import GIVERS, LEAST, healing

SIZE = 64


def ward(finding: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Six films that get brighter downwards, each exposed in its own way; the first has a `finding` inside its box."""
    down = torch.linspace(0.3, 0.6, SIZE)[None, None, :, None].expand(6, 1, SIZE, SIZE)
    images = (
        down * torch.linspace(0.8, 1.2, 6)[:, None, None, None] + torch.linspace(-0.05, 0.05, 6)[:, None, None, None]
    )
    box = torch.zeros(SIZE, SIZE)
    box[24:44, 20:40] = 1
    images = images.clone()
    images[0, 0] += finding * box
    labels = torch.zeros(6, 2)
    labels[0, 0] = 1
    return images, labels, box


def cure(
    finding: float, sign: float, labels: torch.Tensor | None = None, parts: torch.Tensor | None = None
) -> torch.Tensor:
    images, known, box = ward(finding)
    parts = torch.zeros(6, dtype=torch.int64) if parts is None else parts
    rows = torch.tensor([0])
    return healing(images, known if labels is None else labels, parts, rows, box[None], torch.tensor([sign]))[0, 0]


def test_a_finding_is_taken_back_whatever_the_exposure() -> None:
    """In the middle of the box by all that it is brighter, in healthy films of any exposure."""
    change = cure(0.2, -1.0)
    assert abs(float(change[32:36, 28:32].mean()) + 0.2 + LEAST) < 0.03
    assert change[:4].abs().max() < 1e-3 and change[:, 60:].abs().max() < 1e-3


def test_air_is_filled() -> None:
    change = cure(-0.2, 1.0)
    assert abs(float(change[32:36, 28:32].mean()) - 0.2 - LEAST) < 0.03


def test_only_the_sign_of_a_cure_counts() -> None:
    """What is already darker than in healthy films is asked to get a little darker all the same; without a sign nothing is."""
    change = cure(-0.2, -1.0)
    assert float(change.max()) <= 0 and abs(float(change[32:36, 28:32].mean()) + LEAST) < 0.01
    assert not cure(0.2, 0.0).any()


def test_only_healthy_films_of_the_same_source_tell() -> None:
    labels = torch.zeros(6, 2)
    labels[:, 1] = 1
    assert not cure(0.2, -1.0, labels).any()
    labels[:, 1] = float("nan")  # unknown is not healthy
    assert not cure(0.2, -1.0, labels).any()
    assert not cure(0.2, -1.0, parts=torch.tensor([0, 1, 1, 1, 1, 1])).any()
    assert cure(0.2, -1.0, parts=torch.tensor([0, 1, 0, 1, 1, 1])).any()


def test_the_mean_of_those_that_fit_best_tells() -> None:
    """Givers differ inside the box; one more, whose border does not fit, is left out."""
    images, _, box = ward(0.2)
    more = torch.cat([images, images[5:]])
    inside = torch.tensor([0.01, 0.02, 0.03, 0.04, 0.05])
    assert len(inside) == GIVERS
    more[1:6, 0] -= inside[:, None, None] * box
    across = torch.linspace(0.6, 0.2, SIZE)[None, :].expand(SIZE, SIZE)
    more[6, 0] = across - 0.6 * box
    labels = torch.zeros(7, 2)
    labels[0, 0] = 1
    change = healing(
        more, labels, torch.zeros(7, dtype=torch.int64), torch.tensor([0]), box[None], torch.tensor([-1.0])
    )[0, 0]
    fitted = inside / torch.linspace(0.8, 1.2, 6)[1:] * 0.8  # contrast made that of the first film
    assert abs(float(change[32:36, 28:32].mean()) + 0.2 + float(fitted.mean()) + LEAST) < 0.03


def test_a_blur_hides_ribs() -> None:
    """What differs in fine stripes between patients is not asked."""
    images, labels, box = ward(0.2)
    stripes = 0.1 * (torch.arange(SIZE) % 4 < 2).float()[:, None] * box
    images[1:, 0] += stripes
    change = healing(
        images, labels, torch.zeros(6, dtype=torch.int64), torch.tensor([0]), box[None], torch.tensor([-1.0])
    )[0, 0]
    rows = change[28:40, 28:32].mean(1)
    assert float(rows.diff().abs().max()) < 0.01


def test_a_film_is_not_its_own_cure() -> None:
    images, _, box = ward(0.0)
    alone = torch.tensor([0, 1, 1, 1, 1, 1])
    assert not healing(images, torch.zeros(6, 2), alone, torch.tensor([0]), box[None], torch.tensor([-1.0])).any()
