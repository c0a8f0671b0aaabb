"""What is watched while a StyleEx trains: reconstructions keep the score, fakes do not collapse, the condition acts."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from gifsplain.models.small import SmallClassifier
from gifsplain.models.stylegan import StyleConfig, StyleNet

CHUNK = 64
LEAST_SPREAD, MOST_SPREAD = 0.2, 2.5
"""Of noise fakes, by the images': outside they have collapsed, or live where nothing is encoded."""
LEAST_EFFECT = 0.002
"""Mean change of pictures between both ends of the condition."""
LEAST_AGREEMENT = 0.6
"""Share of reconstructions on the image's side of 0.5; half is chance."""
MEASURED = ("pixel_error", "score_error", "agreement", "spread_encoded", "spread_mapped", "spread_fakes")
"""Of every training."""


@dataclass(frozen=True)
class Guards:
    """Measurements on held-out images; `_error` is better when lower."""

    classifier: SmallClassifier
    config: StyleConfig
    held: UInt8[Tensor, "m c h w"]

    @property
    def names(self) -> tuple[str, ...]:
        """Of what `measure` tells."""
        effect = ("condition_effect",) if self.config.condition == "concat" else ()
        return *MEASURED, *(f"score_error/{target}" for target in self.config.targets), *effect

    @torch.no_grad()
    def measure(self, net: StyleNet, device: torch.device) -> dict[str, float]:
        """Reconstruction, score agreement, spreads of W, and the effect of the condition."""
        rows = [self._chunk(net, chunk.to(device).float() / 255) for chunk in self.held.split(CHUNK)]
        images, made, p, q, w = (torch.cat(parts) for parts in zip(*rows, strict=True))
        noise = torch.randn(CHUNK, self.config.w_dim, generator=torch.Generator().manual_seed(0)).to(device)
        mapped = net.mapping(noise)
        fakes = net.decode(net.code(mapped, p[:1].expand(CHUNK, -1)))
        found = {
            "pixel_error": float((made.clamp(0, 1) - images).abs().mean()),
            "score_error": float((p - q).abs().mean()),
            "agreement": float(((p > 0.5) == (q > 0.5)).float().mean()),
            "spread_encoded": float(w.std(0).norm()),
            "spread_mapped": float(mapped.std(0).norm()),
            "spread_fakes": float(fakes.std(0).mean() / images.std(0).mean()),
        }
        for j, target in enumerate(self.config.targets):
            found[f"score_error/{target}"] = float((p - q)[:, j].abs().mean())
        if self.config.condition == "concat":
            low, high = (net.decode(net.code(w[:CHUNK], torch.full_like(p[:CHUNK], value))) for value in (0.0, 1.0))
            found["condition_effect"] = float((high - low).abs().mean())
        return found

    def _chunk(self, net: StyleNet, images: Tensor) -> tuple[Tensor, ...]:
        p = torch.sigmoid(self.classifier(images))
        w = net.encoder(images)
        made = net.decode(net.code(w, p))
        return images, made, p, torch.sigmoid(self.classifier(made)), w


def alarms(found: Mapping[str, float]) -> tuple[str, ...]:
    """What is wrong with the measurements of the guards, one sentence each; nothing in a healthy training."""
    checks = (
        (
            found["spread_fakes"] >= LEAST_SPREAD,
            "samples hardly differ from each other; they have collapsed: lower rate or weights.adversarial",
        ),
        (
            found["spread_fakes"] <= MOST_SPREAD,
            "samples differ more than images; noise and encoder live apart in W: set match_every",
        ),
        (
            found["agreement"] >= LEAST_AGREEMENT,
            "reconstructions do not keep the score's side of 0.5: train longer or raise weights.classifier",
        ),
        (
            found.get("condition_effect", 1.0) >= LEAST_EFFECT,
            "the generator ignores its condition: lower condition_dropout or raise weights.classifier",
        ),
    )
    return tuple(sentence for right, sentence in checks if not right)
