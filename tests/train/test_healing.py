"""What a cure looks like, on films drawn so that the answer is known."""

import torch

from gifsplain.train.healing import LEAST, healing

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
    """What is already darker than in healthy films is asked to get no brighter; without a sign nothing is asked."""
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
