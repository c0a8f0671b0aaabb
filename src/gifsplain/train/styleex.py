"""Training of a StyleEx: generator, encoder and discriminator around a frozen classifier (Atad et al. 2022).

One step: fakes from half the images (encoded) and from noise; the discriminator learns on them; then generator,
mapping and encoder learn together on the same fakes.
"""

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from gifsplain.errors import ConfigurationError, require
from gifsplain.models.small import SmallClassifier, normalised_difference
from gifsplain.models.stylegan import Discriminator, StyleConfig, StyleNet
from gifsplain.train import optimise
from gifsplain.train import styleex_losses as losses
from gifsplain.train.config import LoopConfig
from gifsplain.train.rows import DataConfig, Table
from gifsplain.train.styleex_guards import Guards, alarms
from gifsplain.types import Images

MATCHED = 512
"""Least number of training images whose codes say where in W noise is put; four for each dimension of W."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StyleExWeights:
    """Weight of each loss; 0 leaves one out."""

    adversarial: float = 0.3
    pixel: float = 2.0
    perceptual: float = 1.0
    latent: float = 0.1
    """Both re-encoding terms: of reconstructions, and of noise fakes (which ties the encoder to the mapping's W)."""
    classifier: float = 1.0
    r1: float = 0.1
    path: float = 0.0
    """2 is usual on a GPU; it costs a double backward through the generator."""


@dataclass(frozen=True)
class StyleExConfig:
    """A whole StyleEx training."""

    model: StyleConfig = field(default_factory=StyleConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    weights: StyleExWeights = field(default_factory=StyleExWeights)
    steps: int = 8000
    warmup: int = 500
    """Steps of reconstruction alone before the discriminator joins."""
    adversarial_every: int = 1
    """Every so many steps the discriminator joins; the steps between learn reconstruction alone, from whole batches."""
    match_every: int = 1000
    """Every so many steps after the warm-up noise is given the encoder's mean and covariance in W; 0: never."""
    batch: int = 16
    rate: float = 2e-3
    momentum: float = 0.0
    """Of Adam for generator, mapping and encoder."""
    decay_from: float = 1.0
    """Share of the steps after which the learning rates fall, linearly, to a twentieth."""
    average: float = 0.998
    """Decay of the averaged weights of generator and encoder."""
    r1_every: int = 16
    """Counted in steps of the discriminator."""
    path_every: int = 8
    latent_every: int = 4
    condition_dropout: float = 0.5
    """Share of encoder passes without the condition, where the generator is conditioned."""
    augment: float = 0.5
    """Probability that an image is shifted, scaled, turned and changed in brightness a little; never mirrored."""
    evaluate_every: int = 500
    data: DataConfig = field(default_factory=lambda: DataConfig(sources=()))
    chances: dict[str, float] = field(default_factory=dict)
    """How often an image is drawn, by the manifest's column `source`; 1 where nothing is said, 0 never. The weight of
    its manifest multiplies it. Card and guards look at images that are drawn more often than once, if there are any."""
    classifier: Path = Path("classifier.safetensors")
    """The explained classifier: weights of `train small-classifier`."""

    def __post_init__(self) -> None:
        every = self.adversarial_every, self.r1_every, self.path_every, self.latent_every
        shares = self.condition_dropout, self.augment, self.decay_from
        from_none, means = (self.warmup, self.match_every), (self.momentum, self.average)
        checks = {
            "batch must be 2 or more (half of it is encoded, half sampled)": (self.batch >= 2, self.batch),
            "steps must be 1 or more": (self.steps >= 1, self.steps),
            "adversarial_every, r1_every, path_every and latent_every must be 1 or more": (min(every) >= 1, every),
            "warmup and match_every must be 0 or more": (min(from_none) >= 0, from_none),
            "condition_dropout, augment and decay_from must lie in [0, 1]": (all(0 <= s <= 1 for s in shares), shares),
            "momentum and average must lie in [0, 1)": (all(0 <= value < 1 for value in means), means),
        }
        require(checks, ConfigurationError)


@dataclass(frozen=True)
class StyleExData:
    """Images in memory and how often each is drawn."""

    images: UInt8[Tensor, "n c h w"]
    chances: Float[Tensor, " n"]
    held: UInt8[Tensor, "m c h w"]
    """Held-out images on which the guards look."""


def augment_images(images: Images, chance: float) -> Images:
    """Small shifts, scales, turns and brightness changes; never a mirror image: the heart's side is diagnostic."""
    b = images.shape[0]
    spread = torch.tensor(
        [0.05, 0.05, 0.04, 0.04, 0.05, 0.06], device=images.device
    )  # turn, scale, x, y, light, contrast
    draw = (torch.rand(b, 6, device=images.device) * 2 - 1) * spread
    turn, scale, dx, dy, light, contrast = (draw * (torch.rand(b, 1, device=images.device) < chance)).unbind(1)
    cos, sin, size = torch.cos(turn), torch.sin(turn), 1 + scale
    matrix = torch.stack([cos * size, -sin * size, 2 * dx, sin * size, cos * size, 2 * dy], 1).reshape(b, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    moved = (moved - 0.5) * (1 + contrast)[:, None, None, None] + 0.5 + light[:, None, None, None]
    return moved.clamp(0, 1)


class StyleExTrainee:
    """What `train.loop.run` trains; `show` is given the averaged networks at every evaluation."""

    def __init__(
        self,
        config: StyleExConfig,
        data: StyleExData,
        classifier: SmallClassifier,
        fabric: Fabric,
        show: Callable[[StyleNet, int], None] = lambda net, step: None,
    ) -> None:
        torch.manual_seed(config.loop.seed)
        self.config, self.data, self.fabric = config, data, fabric
        self.classifier = classifier.to(fabric.device).eval().requires_grad_(False)
        self.net = StyleNet(config.model).to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.critic = Discriminator(config.model).to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=config.rate, betas=(config.momentum, 0.99))
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), lr=config.rate, betas=(0.0, 0.99))
        self.path_mean = torch.zeros((), device=fabric.device)
        self.last = config.steps - 1
        self.show = show
        self.guards = Guards(self.classifier, config.model, data.held)

    def step(self, step: int) -> Mapping[str, Tensor]:
        """One update of the discriminator and one of generator, mapping and encoder."""
        self.prepare(step)
        images, turn = self.draw_images(), critic_turn(self.config, step)
        half = images.shape[0] if turn is None else images.shape[0] // 2
        with self.fabric.autocast():
            maps = self.classifier.maps(images)
            logits = self.classifier.head_logits(maps[-1])
            fake, codes, conditions = self.make_fakes(images[:half], torch.sigmoid(logits), images.shape[0] - half)
        log: dict[str, Tensor] = {}
        if turn is not None:
            log |= self.train_critic(images, torch.sigmoid(logits), fake.detach(), conditions, turn)
        with self.fabric.autocast():
            terms = self.fidelity(images[:half], fake[:half], [m[:half] for m in maps], logits[:half])
            if turn is not None:
                terms["adversarial"] = losses.adversarial_loss(self.critic(fake, conditions))
            if step % self.config.latent_every == 0:
                terms["latent"] = F.l1_loss(self.net.encoder(fake), codes.detach()) * self.config.latent_every
        self.update(terms)
        if self.config.weights.path and turn is not None and turn % self.config.path_every == 0:
            log["path"] = self.regularise_paths()
        self.follow(step)
        return log | {name: term.detach() for name, term in terms.items()}

    def prepare(self, step: int) -> None:
        """Learning rates of this step; noise matched to the encoder when it is time."""
        factor = rate_factor(self.config, step)
        for optimiser in (self.optimiser, self.critic_optimiser):
            optimise.set_rates(optimiser, factor)
        after = step - self.config.warmup
        if self.config.match_every and after >= 0 and (after % self.config.match_every == 0 or step == self.last):
            self.match_noise(step)

    @torch.no_grad()
    def match_noise(self, step: int) -> None:
        """Noise samples become samples of what is encoded: otherwise both live in regions of W apart."""
        count = max(MATCHED, 4 * self.config.model.w_dim)
        chosen = torch.multinomial(
            self.data.chances, count, replacement=True, generator=torch.Generator().manual_seed(step)
        )  # the same on every process
        images = self.data.images[chosen]
        for net in (self.net, self.averaged):
            parts = [net.encoder(part.to(self.fabric.device).float() / 255) for part in images.split(64)]
            net.mapping.match(torch.cat(parts).float())

    def draw_images(self) -> Images:
        """A batch of augmented training images, drawn with replacement."""
        index = torch.multinomial(self.data.chances, self.config.batch, replacement=True)
        images = self.data.images[index].to(self.fabric.device).float() / 255
        return augment_images(images, self.config.augment)

    def make_fakes(
        self, images: Images, probabilities: Float[Tensor, "n t"], noise: int
    ) -> tuple[Images, Tensor, Float[Tensor, "n t"]]:
        """Reconstructions of `images`, then `noise` samples; their w; and the probabilities that the critic is told."""
        concat, half = self.config.model.condition == "concat", images.shape[0]
        encoded = self.net.encoder(images)
        sampled = self.net.mapping(torch.randn(noise, self.config.model.w_dim, device=images.device))
        w = torch.cat([encoded, sampled])
        seen = probabilities[: w.shape[0]]
        if not concat:
            fake = self.net.decode(w)
            if noise:  # an unconditional fake is told apart by what the classifier says of it
                seen = torch.cat([seen[:half], torch.sigmoid(self.classifier(fake[half:].detach()))])
            return fake, w, seen
        code = self.net.code(w, seen)
        keep = (torch.rand(w.shape[0], 1, device=w.device) >= self.config.condition_dropout) | (
            torch.arange(w.shape[0], device=w.device)[:, None] >= half
        )
        code = torch.cat([w, code[:, w.shape[1] :] * keep], 1)
        return self.net.decode(code), w, seen

    def train_critic(
        self, images: Images, real: Float[Tensor, "b t"], fake: Images, conditions: Float[Tensor, "b t"], turn: int
    ) -> dict[str, Tensor]:
        """Update number `turn` of the discriminator; R1 joins every `r1_every` of them."""
        with self.fabric.autocast():
            scores, fakes = self.critic(images, real), self.critic(fake, conditions)
            loss = losses.discriminator_loss(scores, fakes)
        log = {"critic": loss.detach(), "real": scores.detach().mean(), "fake": fakes.detach().mean()}
        if turn % self.config.r1_every == 0 and self.config.weights.r1:
            inputs = images.detach().requires_grad_(True)
            penalty = losses.gradient_penalty(self.critic(inputs, real.float()), inputs)
            loss = loss + self.config.weights.r1 / 2 * self.config.r1_every * penalty
            log["r1"] = penalty.detach()
        self.apply(loss, self.critic, self.critic_optimiser)
        return log

    def fidelity(
        self, images: Images, made: Images, maps: list[Tensor], logits: Float[Tensor, "b t"]
    ) -> dict[str, Tensor]:
        """Losses between images and reconstructions: pixels, the classifier's features, its scores."""
        seen = self.classifier.maps(made)
        return {
            "pixel": 2 * F.l1_loss(made.float(), images),  # the specification's range is [-1, 1]
            "perceptual": normalised_difference(seen, maps),
            "classifier": losses.bernoulli_divergence(self.classifier.head_logits(seen[-1]), logits.float()),
        }

    def update(self, terms: dict[str, Tensor]) -> None:
        """One update of generator, mapping and encoder by the weighted sum of `terms`."""
        weights = self.config.weights
        total = sum(getattr(weights, name) * term for name, term in terms.items())
        assert isinstance(total, Tensor)
        self.apply(total, self.net, self.optimiser)

    def regularise_paths(self) -> Tensor:
        """Path length regularisation on noise fakes, in float32, as an update of its own."""
        w = self.net.mapping(
            torch.randn(max(1, self.config.batch // 2), self.config.model.w_dim, device=self.fabric.device)
        )
        lengths = losses.path_lengths(self.net.decode(self.net.code(w, None)), w)
        self.path_mean = self.path_mean.lerp(lengths.detach().mean(), 0.01)
        penalty = (lengths - self.path_mean).square().mean()
        self.apply(penalty * self.config.weights.path * self.config.path_every, self.net, self.optimiser)
        return penalty.detach()

    def apply(self, loss: Tensor, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Backward, mean over processes, update of `module` alone."""
        parameters = list(module.parameters())
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, slope in zip(parameters, slopes, strict=True):
            parameter.grad = self.average(slope)
        optimiser.step()

    def average(self, slope: Tensor | None) -> Tensor | None:
        """Mean of a gradient over all processes."""
        if slope is None or self.fabric.world_size == 1:
            return slope
        mean = self.fabric.all_reduce(slope, reduce_op="mean")
        assert isinstance(mean, Tensor)
        return mean

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the averaged weights towards the trained ones."""
        decay = min(self.config.average, 1 - 1 / (step + 1))
        ours, theirs = list(self.averaged.parameters()), list(self.net.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What `evaluate` tells."""
        return self.guards.names

    def evaluate(self, step: int) -> Mapping[str, float]:
        """The guards, on held-out images with the averaged weights; what is wrong after the warm-up is logged."""
        found = self.guards.measure(self.averaged, self.fabric.device)
        if self.fabric.is_global_zero:
            self.show(self.averaged, step)
            for sentence in alarms(found) if step > self.config.warmup else ():
                logger.warning("step %d: %s", step, sentence)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Everything that a step changes."""
        return {
            "net": self.net.state_dict(),
            "critic": self.critic.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "critic_optimiser": self.critic_optimiser.state_dict(),
            "path_mean": self.path_mean,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        for name in ("net", "critic", "averaged", "optimiser", "critic_optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.path_mean = state["path_mean"].to(self.fabric.device)


def row_chances(config: StyleExConfig, table: Table) -> NDArray[np.float64]:
    """How often each row is drawn: its source's entry in `chances` times the weight of its manifest.

    Raises:
        ConfigurationError: When `chances` names a source that no row is of.
    """
    source = table.facts.get("source")
    known = set() if source is None else {str(name) for name in source.dropna()}
    if unknown := sorted(set(config.chances) - known):
        raise ConfigurationError(
            f"chances names {', '.join(unknown)}, sources of the rows are {', '.join(sorted(known)) or 'none'}"
        )
    named = np.ones(len(table.names)) if source is None else source.map(lambda s: config.chances.get(s, 1.0)).to_numpy()
    found: NDArray[np.float64] = named * table.weights
    return found


def critic_turn(config: StyleExConfig, step: int) -> int | None:
    """Which turn of the discriminator `step` is, counted from 0; None where it does not take part."""
    after = step - config.warmup
    return after // config.adversarial_every if after >= 0 and after % config.adversarial_every == 0 else None


def rate_factor(config: StyleExConfig, step: int) -> float:
    """Learning rate by its full value: 1, from `decay_from` on down to a twentieth at the last step."""
    start = config.decay_from * config.steps
    return 1.0 if step < start else max(0.05, 1 - 0.95 * (step + 1 - start) / max(1.0, config.steps - start))
