"""Explanations made without a model: a radiograph, or a phantom, in which one round shadow grows and fades."""

import math
from dataclasses import replace

import numpy as np
import torch
from pydicom import dcmread
from pydicom.data import get_testdata_file
from torch.nn.functional import interpolate

from gifsplain.types import (
    Check,
    Cost,
    Explanation,
    Picture,
    Provenance,
    ScoreMeaning,
    Scores,
    Stop,
    Verdict,
)


def phantom(size: int = 64, channels: int = 1) -> torch.Tensor:
    """Two dark lungs on a light ground."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    lungs = sum((((x - side) / 0.3) ** 2 + (y / 0.7) ** 2 < 1).float() for side in (-0.45, 0.45))
    return (0.7 - 0.5 * lungs + 0.1 * y).clamp(0, 1).expand(channels, size, size).contiguous()


def radiograph(size: int = 224) -> torch.Tensor:
    """RG1_UNCI of pydicom-data, cut square: the one radiograph whose pictures may be shown."""
    data = dcmread(get_testdata_file("RG1_UNCI.dcm", download=False))
    pixels = data.pixel_array.astype(np.float32)
    pixels = 1 - (pixels - pixels.min()) / (pixels.max() - pixels.min())
    side = min(pixels.shape)
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    square = torch.from_numpy(pixels[top : top + side, left : left + side])[None, None]
    return interpolate(square, size=(size, size), mode="area")[0]


def explanation(
    image: torch.Tensor | None = None,
    *,
    n: int = 21,
    meaning: ScoreMeaning = ScoreMeaning.CALIBRATED,
    target: str = "Mass",
    method: str = "latent-shift",
    case: str = "RG1_UNCI",
) -> Explanation:
    """A shadow at a fixed place whose depth follows the strength; scores by a logistic curve."""
    image = phantom() if image is None else image
    size = image.shape[-1]
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    blob = torch.exp(-((x - 0.32) ** 2 + (y - 0.4) ** 2) / 0.012)
    strengths = torch.linspace(-3.2, 0.8, n)
    strengths = strengths - strengths[strengths.abs().argmin()]
    wave = 1 + 0.35 * torch.sin(6 * y + strengths[:, None, None, None])
    frames = (image + 0.09 * strengths.reshape(-1, 1, 1, 1) * blob * wave).clamp(0, 1)
    logits = 0.9 * strengths + 1.1
    scores = logits if meaning is ScoreMeaning.LOGIT else torch.sigmoid(logits)
    targets = (target, "Nodule", "Lung Opacity", "Pleural_Thickening", "Effusion", "Cardiomegaly")
    others = [0.2 + 0.06 * k + 0.02 * (k - 2) * strengths for k in range(1, 6)]
    baseline = int(strengths.abs().argmin())
    return Explanation(
        case=case,
        method=method,
        target=target,
        meaning=meaning,
        picture=Picture(
            image,
            Provenance(
                f"{case}.dcm",
                "ab" * 32,
                "DICOM",
                (1955, 1841),
                15,
                ("rescale", "window 8192/16384", "inverted (MONOCHROME1)"),
            ),
        ),
        image=image,
        reconstruction=(image + 0.02 * torch.sin(40 * x)).clamp(0, 1),
        frames=frames,
        strengths=strengths,
        strength_unit="latent distance 1",
        frame_scores=scores,
        targets=targets,
        target_scores=torch.stack([scores, *others], dim=1),
        scores=Scores(float(scores[baseline]), float(scores[baseline]) - 0.04, float(scores[0])),
        counterfactual=0,
        stop_lower=Stop.REACHED,
        stop_higher=Stop.SCORE_BOUND,
        map=(frames - frames[baseline]).abs().amax(dim=(0, 1)),
        map_name="max",
        composition="residual",
        checks=(
            Check("autoencoder gap", Verdict.PASS, "The autoencoder alone lowers the score by 0.04.", -0.04),
            Check("wanted change", Verdict.PASS, "The score falls by 0.30, as asked.", 0.30),
            Check(
                "reconstruction error",
                Verdict.WARN,
                "The error lies at the 97th percentile of chest radiographs.",
                0.97,
            ),
            Check("visible change", Verdict.FAIL, "The change is too small to see <b>anywhere</b>.", math.nan),
        ),
        cost=Cost(encodes=1, decodes=34, predictions=34, gradients=1, seconds=1.234),
        record={
            "versions": {"gifsplain": "0.1.0", "torch": "2.14.1"},
            "classifier": {"name": "cxr", "size": 224, "sha256": "cd" * 32},
            "autoencoder": {"name": "cxr-ae", "size": 224, "sha256": "ef" * 32},
            "settings": {"drop": 0.3, "rise": 0.05, "frames": n, "policy": "exact", "strengths": None},
            "seed": 0,
        },
    )


def map_only(image: torch.Tensor | None = None) -> Explanation:
    """What a method gives that only draws a map."""
    sweep = explanation(image)
    return replace(
        sweep,
        method="grad",
        frames=sweep.image[None],
        strengths=torch.zeros(1),
        frame_scores=sweep.frame_scores[sweep.baseline][None],
        target_scores=sweep.target_scores[sweep.baseline][None],
        counterfactual=0,
        scores=Scores(sweep.scores.input, sweep.scores.reconstruction, math.nan),
        stop_lower=Stop.NOT_SEARCHED,
        stop_higher=Stop.NOT_SEARCHED,
        map_name="grad",
        composition="none",
    )


def without_zero(size: int = 64) -> Explanation:
    """A sweep as the policy `paper-2021` makes it: strength 0 is kept apart."""
    sweep = explanation(phantom(size), n=11)
    kept = slice(0, sweep.baseline - 2)  # two more are left out, so that the nearest frame differs from the start
    return replace(
        sweep,
        frames=sweep.frames[kept],
        strengths=sweep.strengths[kept],
        frame_scores=sweep.frame_scores[kept],
        target_scores=sweep.target_scores[kept],
        start=sweep.frames[sweep.baseline],
        start_scores=sweep.target_scores[sweep.baseline],
    )
