"""Does a segmentation network see a narrower heart when Cardiomegaly is lowered? A second opinion beside shrinks_and_clears.py.

    python benchmarks/segmented_heart.py DATA [--split val] [--method latentshift-steps] [--network segmenter.safetensors]

Trains a network (EfficientNet-Lite0 from ImageNet, a small decoder; needs the extra train) on the masks of heart and lungs that
radiologists drew in covid-chestxray, another source than the films that are explained; rows of the split train, of every licence, since
nothing of it is shipped. Prints its Dice on the other rows, then, for the boxed films of `--split`, how much of the heart's
segment is left between 35 and 80 % of the box's height, on each side of the box's middle, and its width over the widest lungs; with
Effusion lowered in the same films as a control, to its end and matched, as in shrinks_and_clears.py. `--network` keeps the
weights, or reads them where they are.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest
from shrinks_and_clears import around, as_large, change
from torch import Tensor, nn

from gifsplain.evaluate import cases
from gifsplain.evaluate.config import Setup
from gifsplain.explain.methods import explain_with
from gifsplain.explain.settings import Settings
from gifsplain.io import memory
from gifsplain.models import backbones
from gifsplain.models.load import load_models
from gifsplain.models.prepare import centre_crop
from gifsplain.train import augment, imagenet
from gifsplain.types import Explanation

SIZE = 224
KINDS = ("cardiomediastinum", "lungs")
GRIDS = {7: 1280, 14: 112, 28: 40, 56: 24}
"""Sides of the feature maps that the decoder uses, and their channels."""
STEPS, BATCH, RATE = 400, 16, 1e-3
SIDE = 0.005
"""A side counts as come in from so much of the width on."""


class Segmenter(nn.Module):
    """Images `b 1 224 224` in [0, 1] to logits `b 2 224 224` of heart and lungs."""

    def __init__(self, *, pretrained: bool) -> None:
        super().__init__()
        net = backbones.build_classifier(backbones.ClassifierConfig(("none",), "efficientnet-lite0", SIZE, 1, 0.0))
        if pretrained:
            backbones.load_lite_imagenet(net, imagenet.lite_weights("efficientnet-lite0"))
        self.body = net.body
        self.across = nn.ModuleDict({str(side): nn.Conv2d(width, 64, 1) for side, width in GRIDS.items()})
        self.mixed = nn.ModuleDict(
            {
                str(s): nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
                for s in GRIDS
                if s > 7
            }
        )
        self.head = nn.Linear(64, len(KINDS))

    def forward(self, images: Tensor) -> Tensor:
        """Coarse maps are made finer and joined by finer ones (feature pyramid, Lin et al. 2017)."""
        maps, found = images * 2 - 1, {}
        for layer in self.body:
            maps = layer(maps)
            found[maps.shape[-1]] = maps
        joined = self.across["7"](found[7])
        for side in (14, 28, 56):
            joined = F.interpolate(joined, size=(side, side), mode="bilinear") + self.across[str(side)](found[side])
            joined = self.mixed[str(side)](joined)
        logits = self.head(joined.movedim(1, -1)).movedim(-1, 1)
        return F.interpolate(logits, scale_factor=SIZE / 56, mode="bilinear")


def square(path: Path) -> NDArray[np.uint8]:
    """The middle square, 224 x 224."""
    with Image.open(path) as image:
        crop = centre_crop(image.height, image.width)
        box = (crop.left, crop.top, crop.left + crop.side, crop.top + crop.side)
        return np.asarray(image.convert("L").crop(box).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def read(data: Path) -> tuple[Tensor, Tensor, NDArray[np.bool_]]:
    """Images `n 1 s s`, masks `n 2 s s` (nan where none was drawn), and which rows train."""
    rows = pd.read_csv(data / "masks.csv").merge(pd.read_csv(data / "metadata.csv"), on="path")
    rows = rows[rows["kind"].isin(KINDS) & (rows["view"] != "L")]
    paths = sorted(rows["path"].unique())
    place = {path: number for number, path in enumerate(paths)}
    masks = np.full((len(paths), len(KINDS), SIZE, SIZE), np.nan, dtype=np.float32)
    for line in rows.itertuples():
        masks[place[line.path], KINDS.index(line.kind)] = square(data / line.mask_path) > 127
    images = np.stack([square(data / path) for path in paths])[:, None].astype(np.float32) / 255
    training = rows.groupby("path")["split"].first().loc[paths].to_numpy() == "train"
    return torch.from_numpy(images), torch.from_numpy(masks), training


def train(images: Tensor, masks: Tensor) -> Segmenter:
    """Half of each batch has a heart; augmented as the classifiers are."""
    torch.manual_seed(0)
    net, config = Segmenter(pretrained=True).train(), augment.AugmentConfig()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.02)
    drawn = [(~masks[:, kind, 0, 0].isnan()).nonzero().flatten() for kind in range(len(KINDS))]
    for step in range(STEPS):
        chosen = torch.cat([rows[torch.randint(len(rows), (BATCH // 2,))] for rows in drawn])
        affines = augment.draw_affines(BATCH, config, "cpu")
        seen = augment.expose(augment.warp(images[chosen], affines), config)
        known = ~masks[chosen, :, :1, :1].isnan()
        wanted = augment.warp(masks[chosen].nan_to_num(), affines, padding="zeros")
        costs = F.binary_cross_entropy_with_logits(net(seen), wanted, reduction="none")
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, step / 30) * (1 + np.cos(np.pi * step / STEPS)) / 2
        optimizer.zero_grad()
        ((costs * known).sum() / (known.sum() * SIZE**2)).backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"  step {step} of {STEPS}", flush=True)
    return net.eval()


@torch.no_grad()
def segment(net: Segmenter, images: Tensor) -> Tensor:
    """Probabilities of heart and lungs."""
    return torch.cat([net(part).sigmoid() for part in images.split(16)])


def dice(found: Tensor, wanted: Tensor) -> list[float]:
    """Of each image that has the mask."""
    known = ~wanted[:, 0, 0].isnan()
    ours, theirs = found[known] > 0.5, wanted[known] > 0.5
    both = 2 * (ours & theirs).sum((1, 2)) / (ours.sum((1, 2)) + theirs.sum((1, 2)))
    return [float(value) for value in both]


def halves(parts: Tensor, box: tuple[int, int, int, int]) -> tuple[float, float, float]:
    """Mean width in pixels of the heart's segment left and right of the box's middle; the lungs' largest width."""
    left, top, right, bottom = box
    heart = parts[0, top + round(0.35 * (bottom - top)) : top + round(0.8 * (bottom - top))]
    middle = (left + right) // 2
    rows = [row.nonzero().flatten() for row in parts[1] > 0.5]
    widest = max((int(row[-1] - row[0]) + 1 for row in rows if len(row)), default=1)
    return float(heart[:, :middle].sum(1).mean()), float(heart[:, middle:].sum(1).mean()), float(widest)


def compare(net: Segmenter, made: Explanation, frame: int, box: tuple[int, int, int, int]) -> list[float]:
    """Heart's width and its share of the lungs' width, after over before; how far each side has come in, of the width."""
    frames = torch.stack([made.frames[made.baseline], made.frames[frame]]).clamp(0, 1)
    (left, right, lungs), (left_now, right_now, lungs_now) = (halves(parts, box) for parts in segment(net, frames))
    width = max(left + right, 1e-6)
    ratio = (left_now + right_now) / width
    return [ratio, ratio * lungs / lungs_now, (left - left_now) / width, (right - right_now) / width]


def main() -> None:
    """Train or read the network, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--method", nargs="+", default=["latentshift", "latentshift-steps"])
    parser.add_argument("--classifier", default="cxr", help="as for gifsplain explain")
    parser.add_argument("--autoencoder", default="cxr", help="as for gifsplain explain")
    parser.add_argument("--network", type=Path)
    options = parser.parse_args()
    memory.keep_freed()
    images, masks, training = read(options.data)
    if options.network is not None and options.network.is_file():
        net = Segmenter(pretrained=False).eval()
        net.load_state_dict(load_file(options.network))
    else:
        net = train(images[training], masks[training])
        if options.network is not None:
            save_file(net.state_dict(), options.network)
    found = segment(net, images[~training])
    for number, kind in enumerate(KINDS):
        scores = dice(found[:, number], masks[~training][:, number])
        print(
            f"{kind}: Dice {np.mean(scores):.3f} on {len(scores)} films that did not train it, least {min(scores):.2f}"
        )
    pair = load_models(options.classifier, options.autoencoder)
    setup = Setup(options.data / "metadata.csv", Path("unused"), sources=("nih",), split=options.split)
    marked = cases.draw(cases.marked(setup, cases.load_cases(setup), "Cardiomegaly"), options.limit, 0)
    names = [case.key for case in marked]
    pictures = cases.as_pictures(cases.load_pictures(marked, pair.classifier.card), names)
    for method in options.method:
        made = explain_with(method, pair, pictures, ["Cardiomegaly", "Effusion"], Settings(), cases=names)
        rows = []
        for case, own, control in zip(marked, made[::2], made[1::2], strict=True):
            if not (own.baseline and control.baseline):
                continue  # one of them does not fall at all
            box, least = around(cases.expert_mask(case, SIZE)), min(change(own, 0), change(control, 0))
            matched = [as_large(one, least) for one in (own, control)]
            rows.append(
                compare(net, own, 0, box)
                + [
                    compare(net, one, at, box)[0]
                    for one, at in ((control, 0), (own, matched[0]), (control, matched[1]))
                ]
            )
        report(method, np.array(rows))


def report(method: str, rows: NDArray[np.float64]) -> None:
    """Print one method."""
    width, share, left, right, control, own, other = rows.T
    print(
        f"{method}, {len(rows)} films: heart {np.median(width):.3f} of its width (median), narrower in {(width < 1).mean():.0%}, "
        f"by 3 % in {(width < 0.97).mean():.0%}; over the lungs' width {np.median(share):.3f} of before\n"
        f"  image's left side comes in in {(left > SIDE).mean():.0%}, right in {(right > SIDE).mean():.0%}, "
        f"both in {((left > SIDE) & (right > SIDE)).mean():.0%}\n"
        f"  while lowering Effusion, to its end: {np.median(control):.3f}; matched: own {np.median(own):.3f}, control "
        f"{np.median(other):.3f}, narrower than the control in {(own < other).sum()} of {len(rows)} "
        f"(sign test p = {binomtest(int((own < other).sum()), int((own != other).sum())).pvalue:.2g})"
    )


if __name__ == "__main__":
    main()
