"""Does a model keep what its card declares? Each finding is a verdict and a sentence."""

import torch

from gifsplain.errors import GifsplainError
from gifsplain.models.protocols import Autoencoder, Classifier, ModelCard
from gifsplain.types import Check, Images, ScoreMeaning, Verdict

_IMAGES = 8


def _samples(card: ModelCard) -> Images:
    """Smooth random pictures over the whole range, black, white and a ramp: enough to see a dead or saturated output."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(_IMAGES - 3, card.channels, 7, 7, generator=generator)
    size = (card.size, card.size)
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    ramp = torch.linspace(0, 1, card.size).expand(1, card.channels, *size)
    return torch.cat([smooth, torch.zeros_like(ramp), torch.ones_like(ramp), ramp])


def _check(name: str, good: bool, text: str, bad: str, *, verdict: Verdict = Verdict.FAIL) -> Check:
    return Check(name, Verdict.PASS if good else verdict, text if good else bad)


def inspect_classifier(model: Classifier) -> tuple[Check, ...]:
    """Output shape, gradient to the input, plausible meaning, dependence on the input, untrained heads."""
    card, images = model.card, _samples(model.card)
    try:
        with torch.enable_grad():
            free = images.clone().requires_grad_(True)
            logits = model.logits(free)
            weights = torch.linspace(1, 2, logits.shape[1])  # outputs that sum to a constant must not cancel
            (gradient,) = torch.autograd.grad((logits * weights).sum(), free)
        scores = model.link(logits.detach())
    except (GifsplainError, RuntimeError) as error:
        return (Check("runs", Verdict.FAIL, f"{card.name} does not run on {tuple(images.shape)}: {error}"),)
    return (
        Check("runs", Verdict.PASS, f"takes {tuple(images.shape[1:])}, gives {len(card.targets)} targets"),
        _check(
            "gradient",
            bool(gradient.abs().sum() > 0) and bool(gradient.isfinite().all()),
            "the gradient reaches the input",
            "no finite gradient reaches the input: the net detaches or rounds somewhere",
        ),
        _meaning(card, scores),
        _varies(card, scores),
        _check(
            "trained heads",
            not card.untrained,
            "every head is declared trained",
            f"never trained, refused by name: {', '.join(card.untrained)}",
            verdict=Verdict.WARN,
        ),
    )


def _meaning(card: ModelCard, scores: torch.Tensor) -> Check:
    low, high = float(scores.min()), float(scores.max())
    if card.meaning is ScoreMeaning.LOGIT:
        inside = low < 0 or high > 1
        bad = f"declared as logits, yet all lie in [{low:.2f}, {high:.2f}]: probabilities?"
        return _check("meaning", inside, f"logits in [{low:.2f}, {high:.2f}]", bad, verdict=Verdict.WARN)
    if not (low >= 0 and high <= 1):
        text = f"declared as {card.meaning.value}, got values in [{low:.2f}, {high:.2f}]"
        return Check("meaning", Verdict.FAIL, text)
    squeezed = low >= 0.5 and high <= 0.7311
    bad = f"all scores lie in [{low:.2f}, {high:.2f}]: the mark of a second sigmoid; declare output='probabilities'"
    return _check(
        "meaning", not squeezed, f"{card.meaning.value} in [{low:.2f}, {high:.2f}]", bad, verdict=Verdict.WARN
    )


def _varies(card: ModelCard, scores: torch.Tensor) -> Check:
    still = [n for n, s in zip(card.targets, scores.std(dim=0), strict=True) if s < 1e-6 and n not in card.untrained]
    bad = f"the score does not depend on the image for {', '.join(still)}"
    return _check("depends on the image", not still, "every trained score changes with the image", bad)


def inspect_autoencoder(model: Autoencoder) -> tuple[Check, ...]:
    """Shape of the round trip, range of what is drawn, gradient through the decoder, determinism."""
    card, images = model.card, _samples(model.card)
    try:
        model.decode(model.encode(images))  # a network that is folded on its first run computes a little otherwise then
        with torch.enable_grad():
            latents = model.encode(images).detach().requires_grad_(True)
            drawn = model.decode(latents)
            (gradient,) = torch.autograd.grad(drawn.square().sum(), latents)
        again = model.decode(model.encode(images)).detach()
    except (GifsplainError, RuntimeError) as error:
        return (Check("runs", Verdict.FAIL, f"{card.name} does not run on {tuple(images.shape)}: {error}"),)
    drawn = drawn.detach()
    each = torch.atleast_2d(drawn).flatten(1)
    # of the middle image: all black or white is what few decoders were made for
    low, high = float(each.amin(1).median()), float(each.amax(1).median())
    return (
        _check(
            "runs",
            drawn.shape == images.shape,
            f"latents of shape {tuple(latents.shape[1:])}",
            f"draws {tuple(drawn.shape)} for {tuple(images.shape)}",
        ),
        _check(
            "range",
            low > -0.5 and high < 1.5,
            f"draws values in [{low:.2f}, {high:.2f}]",
            f"draws values in [{low:.2f}, {high:.2f}] of a nominal [0, 1]: is value_range right?",
            verdict=Verdict.WARN,
        ),
        _check(
            "gradient",
            bool(gradient.abs().sum() > 0) and bool(gradient.isfinite().all()),
            "the gradient reaches the latent",
            "no finite gradient reaches the latent",
        ),
        _check(
            "deterministic",
            torch.equal(again, drawn),
            "the same image is drawn the same way twice",
            "two decodes of one image differ: switch off noise and sampling",
        ),
    )
