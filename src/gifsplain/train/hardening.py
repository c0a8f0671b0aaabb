"""Making a classifier fit to be explained: reconstructions, adversarial steps, gradients inside boxes, teachers."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from gifsplain.errors import ConfigurationError
from gifsplain.models import deform, load, trained, wrap
from gifsplain.models.networks import LAYERS
from gifsplain.models.networks import Autoencoder as FramedAutoencoder
from gifsplain.models.protocols import Autoencoder
from gifsplain.train import losses, outline
from gifsplain.train.evidence import Evidence, Films, Wide, single
from gifsplain.train.healing import healing
from gifsplain.train.latent_gradient import decode_first_order, latent_gradient, own_network
from gifsplain.train.mixing import Mixture, draw_mixture
from gifsplain.train.rows import DataConfig
from gifsplain.types import Images

TRIAL = 1e-3
"""Length of the trial step that tells how much a direction draws, in root mean squares of the latent."""
SQUARES = 28
"""Squares along a side in which a change is looked for."""
BELIEVABLE = (0.25, 0.03)
"""Largest change of a film that should answer the question: of the mean of a square, of the mean of all pixels."""


@dataclass(frozen=True)
class Hardening:
    """What makes a classifier fit to be explained: it sees what the autoencoder draws, small steps do not fool it."""

    autoencoder: str = ""
    """Folder of a finished autoencoder training, or a name of `gifsplain models list`."""
    reconstructed: float = 0.0
    """Share of each batch that is replaced by its reconstructions."""
    latent_noise: float = 0.0
    """Largest standard deviation of the noise on their latents; drawn anew for each image."""
    visible_step: float = 0.0
    """Largest step that raises the loss before the image is drawn, as the largest change that it draws (to within about a
    quarter: scaled from one trial): of the mean of a square of a 28th of the side. Its direction is the latent's gradient."""
    step_chance: float = 0.5
    """Share of batches that take such a step."""
    shade_chance: float = 0.0
    """Share of those steps that go through code and shading alone, anywhere, against the target `edits.widened` alone: its
    outline shall tell, not how bright it is."""
    confine_step: bool = False
    """Keep that step out of the expert boxes: inside them a change shall change the score."""
    localise: float = 0.0
    """Weight of a term that wants the latent's gradient inside the expert boxes (needs `boxes`): right for the right
    reasons, as Ross et al. 2017 ask of the input's gradient."""
    localised: int = 8
    """Most images of a batch for which that gradient is taken; each for one of its boxed targets."""
    outline: float = 0.0
    """Weight of a term that wants what lowering the target `edits.widened` draws to look like making it narrower."""
    outline_sides: bool = False
    """The worse of the left and the right half of the change counts for two thirds of that term: a shift is no narrowing."""
    outlined: int = 2
    """Images of a batch for which that term is taken, beside `localised`; with the usual box where experts drew none."""
    heal: float = 0.0
    """Weight of a term that wants what lowering a boxed target draws to look like what films without any target show in its
    box."""
    healed: tuple[str, ...] = ()
    """The targets that it is asked of."""
    brightened: tuple[str, ...] = ()
    """Targets that are darker than what they replace (air, as in Pneumothorax): their cure is brighter; that of all others is
    darker."""
    response: float = 0.0
    """Weight of a term that wants the logit of those images to fall in proportion to what is drawn, along the straight
    path that this gradient gives (compare local linearity, Qin et al. 2019)."""
    falls: tuple[float, ...] = ()
    """Wanted fall of each target's logit at the end of the path, where a `BELIEVABLE` change is drawn; at most twice as
    much, so that no smaller change does it. Much more than what divides a target's positives from its negatives makes the
    logit follow everything."""
    adversarial: float = 0.0
    """Size of one signed-gradient step in the image that raises the loss, of full scale."""
    mixup: float = 0.0
    """Parameter of the beta distribution for mixing pairs of images and labels, in half of the batches; 0: never."""
    teachers: tuple[str, ...] = ()
    """Folders of finished classifier trainings whose mean logits are imitated; they may have more targets."""
    crossfit: tuple[Path, ...] = ()
    """Instead of teachers: folders of `gifsplain train cross-fit` on the same films, whose mean out-of-fold logits are
    imitated where all of them know one."""
    imitation: float = 0.0
    """Weight of that term."""


class Hardener:
    """The frozen models that `config` names, on the training's device; `judge` is the averaged classifier."""

    def __init__(self, config: Hardening, rows: DataConfig, judge: trained.ClassifierNet, fabric: Fabric) -> None:
        self.config, self.judge, self.fabric = config, judge, fabric
        self.signs = torch.tensor([_sign(name, config) for name in rows.targets], device=fabric.device)
        self.teachers = [_teacher(name, rows, fabric) for name in config.teachers]
        needed = config.reconstructed or config.localise
        self.autoencoder = _autoencoder(config.autoencoder, rows, fabric) if needed else None
        if (config.outline or config.heal or config.shade_chance) and not _layered(self.autoencoder):
            raise ConfigurationError(
                f"hardening.outline, heal and shade_chance need an autoencoder with shading and deformation, "
                f"{config.autoencoder} has none; train one with frame.layered"
            )

    def harden(
        self, images: Images, labels: Tensor, masks: Tensor | None = None, widened: int | None = None
    ) -> tuple[Images, Tensor, Mixture | None]:
        """The batch to train on, and how it was mixed, its labels with it. `masks`: boxes of each target, image size."""
        if self.autoencoder is not None and self.config.reconstructed:
            images = self._redraw(self.autoencoder, images, labels, masks, widened)
        if self.config.adversarial:
            images = self._worst_step(images, labels)
        if not self.config.mixup or float(torch.rand(())) >= 0.5:
            return images, labels, None
        mixture = draw_mixture(images.shape[0], self.config.mixup, images.device)
        return mixture.of(images), mixture.of(labels), mixture

    @torch.no_grad()
    def imitated(self, images: Images) -> Tensor | None:
        """Mean logits of the teachers; None without any."""
        if not self.teachers:
            return None
        with self.fabric.autocast():
            logits = [net.raw_logits(images).float()[:, columns] for net, columns in self.teachers]
            return torch.stack(logits).mean(0)

    def evidence(self, films: Films, wide: Wide | None = None) -> Evidence | None:
        """Latents of boxed images, for one boxed target each; None where nothing is to be localised.

        With `wide` (and `outline`) the last ones are of images that were drawn for the widened target, boxed or not.
        """
        images, masks = films.images, films.masks
        if not self.config.localise or self.autoencoder is None or masks is None:
            return None
        boxed = masks.flatten(2).sum(2) > 0
        rows = boxed.any(1).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), device=rows.device)[: self.config.localised]]
        targets = torch.multinomial(boxed[rows].float(), 1).flatten() if len(rows) else rows
        places, narrowing, outlined = masks[rows, targets], None, 0
        if wide is not None and self.config.outline:
            more = torch.randperm(len(images), device=images.device)[: self.config.outlined]
            theirs = torch.where(boxed[more, wide.target][:, None, None], masks[more, wide.target], wide.usual[more])
            rows, places = torch.cat([rows, more]), torch.cat([places, theirs])
            targets = torch.cat([targets, torch.full_like(more, wide.target)])
            narrowing, outlined = outline.narrowing(len(rows), theirs), len(more)
        if not len(rows):
            return None
        healed = None
        if self.config.heal:
            signs = self.signs[targets]
            signs[len(rows) - outlined :] = 0  # those may be healthy, and their outline tells
            healed = healing(images, films.labels, films.parts, rows, places, signs)
        with torch.no_grad(), self.fabric.autocast():
            latents = self.autoencoder.encode(images[rows]).float()
        if self.config.latent_noise:
            latents = latents + torch.randn_like(latents) * self.config.latent_noise * _any_part(latents)
        return Evidence(latents, targets, _places(places[:, None], latents)[:, 0], narrowing, healed)

    def explained(self, model: trained.ClassifierNet, evidence: Evidence) -> dict[str, Tensor]:
        """Terms about Latent Shift's straight path: how far the move lies outside the boxes, how the logit answers it."""
        if self.autoencoder is None:
            raise AssertionError("evidence exists only with an autoencoder")
        evidence = single(evidence)
        moved = evidence.latents.detach()
        gradient, drawn = latent_gradient(self.autoencoder, model, moved, evidence.targets)
        net = own_network(self.autoencoder)
        layers = _changes(net, gradient, drawn, evidence.regions.shape[-2:])
        terms = {"misplaced": torch.stack([losses.energy_inside(one, evidence.regions) for one in layers]).mean()}
        if evidence.narrowing is not None and net is not None:
            terms["outline"] = outline.unlike_narrowing(
                net, moved, gradient, drawn, evidence.narrowing, sides=self.config.outline_sides
            )
        if evidence.healing is not None and net is not None:
            terms["healing"] = outline.unlike_change(net, moved, gradient, drawn, evidence.healing)
        if self.config.response:
            terms["response"] = self._response(self.autoencoder, model, evidence, gradient.detach())
        return terms

    def _response(
        self, autoencoder: Autoencoder, model: trained.ClassifierNet, evidence: Evidence, gradient: Tensor
    ) -> Tensor:
        """How far the logit's fall on the way to a believable change lies outside one to two times its part of `falls`."""
        latents = evidence.latents.detach()
        unit, change = _trial(autoencoder, latents, -gradient)
        peak, mean = BELIEVABLE
        most = torch.minimum(peak / _peak(change), mean / change.abs().mean((1, 2, 3)).clamp_min(1e-9))
        share = torch.rand(len(latents), device=latents.device)
        wanted = torch.tensor(self.config.falls, device=latents.device)[evidence.targets]
        ends = torch.cat([latents, latents + unit * _along(share * most, latents)])
        with torch.no_grad(), self.fabric.autocast():
            drawn = autoencoder.decode(ends).float().clamp(0, 1)
        with self.fabric.autocast():
            logits = model.raw_logits(drawn).float()
        start, end = logits.gather(1, evidence.targets.repeat(2)[:, None])[:, 0].chunk(2)
        return losses.proportionate(start - end, share * wanted)

    def _redraw(
        self, autoencoder: Autoencoder, images: Images, labels: Tensor, masks: Tensor | None, widened: int | None
    ) -> Images:
        """Some images become what the autoencoder draws of them, from latents that were moved a little."""
        config, count = self.config, round(self.config.reconstructed * images.shape[0])
        chosen = torch.randperm(images.shape[0], device=images.device)[:count]
        with torch.no_grad(), self.fabric.autocast():
            latents = autoencoder.encode(images[chosen]).float()
        if config.latent_noise:
            latents = latents + torch.randn_like(latents) * config.latent_noise * _any_part(latents)
        if config.visible_step and float(torch.rand(())) < config.step_chance:
            if widened is not None and config.shade_chance and float(torch.rand(())) < config.shade_chance:
                step = self._visible_step(autoencoder, latents, _only(labels[chosen], widened), moving=False)
            else:
                outside = None
                if config.confine_step and masks is not None:
                    outside = 1 - _places(masks[chosen].amax(1, keepdim=True), latents)
                step = self._visible_step(autoencoder, latents, labels[chosen], outside)
            latents = latents + step
        with torch.no_grad(), self.fabric.autocast():
            drawn = autoencoder.decode(latents).float().clamp(0, 1)
        images = images.clone()
        images[chosen] = drawn
        return images

    def _visible_step(
        self,
        autoencoder: Autoencoder,
        latents: Tensor,
        labels: Tensor,
        outside: Tensor | None = None,
        *,
        moving: bool = True,
    ) -> Tensor:
        """A step against the averaged classifier, so long that what it draws can (nearly) be seen; `moving`: also by
        deformation, where the latent has it."""
        moved = latents.requires_grad_(True)
        with self.fabric.autocast():
            before = decode_first_order(autoencoder, moved).float().clamp(0, 1)
        (gradient,) = torch.autograd.grad(self._cost(before, labels), moved)
        latents.requires_grad_(False)
        gradient = gradient if moving else _still(gradient)
        gradient = gradient if outside is None else _within(autoencoder, gradient, outside)
        unit, change = _trial(autoencoder, latents, gradient)
        wanted = self.config.visible_step * torch.rand(len(latents), device=latents.device)
        return unit * _along(wanted / _peak(change), latents)

    def _cost(self, images: Images, labels: Tensor) -> Tensor:
        with self.fabric.autocast():
            logits = self.judge.raw_logits(images).float()
        return losses.masked_bce(logits, labels)

    def _worst_step(self, images: Images, labels: Tensor) -> Images:
        """One signed-gradient step against the averaged classifier (Goodfellow et al. 2015)."""
        moved = images.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self._cost(moved, labels), moved)
        return (images + self.config.adversarial * gradient.sign()).clamp(0, 1).detach()


def _sign(target: str, config: Hardening) -> float:
    """Of a cure's change of brightness; 0 where none is asked."""
    return 0.0 if target not in config.healed else 1.0 if target in config.brightened else -1.0


def _within(autoencoder: Autoencoder, moves: Tensor, places: Float[Tensor, "b 1 h w"]) -> Tensor:
    """The part of a latent's move that moves the code in some places of its grid."""
    net = own_network(autoencoder)
    frame = net.frame if net is not None else None
    return moves * places if frame is None else frame.unshift(frame.shift(moves) * places)


def _still(moves: Tensor) -> Tensor:
    """The part of a layered latent's move that deforms nothing: the frame mixes only channels of the code."""
    return torch.cat([moves[:, : -LAYERS[1]], torch.zeros_like(moves[:, -LAYERS[1] :])], 1)


def _only(labels: Float[Tensor, "b t"], target: int) -> Float[Tensor, "b t"]:
    """All other labels unknown."""
    chosen = torch.full_like(labels, float("nan"))
    chosen[:, target] = labels[:, target]
    return chosen


@torch.no_grad()
def _trial(autoencoder: Autoencoder, latents: Tensor, direction: Tensor) -> tuple[Tensor, Images]:
    """A step along `direction` and the change that it draws, in single precision as it may be small."""
    unit = TRIAL * _root_mean_square(latents) * direction / _root_mean_square(direction).clamp_min(1e-12)
    with torch.autocast(latents.device.type, enabled=False):
        return unit, autoencoder.decode(latents + unit) - autoencoder.decode(latents)


def _peak(change: Images) -> Float[Tensor, " b"]:
    """Largest mean change of a square."""
    squares: Tensor = F.avg_pool2d(change, max(1, change.shape[-1] // SQUARES))
    return squares.abs().amax((1, 2, 3)).clamp_min(1e-6)


def _along(factors: Float[Tensor, " b"], latents: Tensor) -> Tensor:
    return factors.view(-1, *[1] * (latents.ndim - 1))


def _root_mean_square(latents: Tensor) -> Tensor:
    return latents.flatten(1).square().mean(1).sqrt().view(-1, *[1] * (latents.ndim - 1))


def _any_part(latents: Tensor) -> Tensor:
    """One number in [0, 1] for each latent."""
    return torch.rand(latents.shape[0], device=latents.device).view(-1, *[1] * (latents.ndim - 1))


def _places(masks: Float[Tensor, "b 1 s s"], latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    """Masks on the latent's grid: a place counts fully from half covered on."""
    return (2 * F.adaptive_avg_pool2d(masks, (latents.shape[2], latents.shape[3]))).clamp(max=1)


def _layered(autoencoder: Autoencoder | None) -> bool:
    net = own_network(autoencoder) if autoencoder is not None else None
    return net is not None and net.config.layered


def _changes(
    net: FramedAutoencoder | None, gradient: Float[Tensor, "b c h w"], drawn: Images, grid: torch.Size
) -> list[Float[Tensor, "b h w"]]:
    """Energy in each place of the move that the gradient gives, a layer each: code, shading, what deformation draws."""
    moves = net.frame.shift(gradient) if net is not None and net.frame is not None else gradient
    if net is None or not net.config.layered:
        return [moves.square().sum(1)]
    code, shading, velocity = moves.split([net.config.bottleneck[0], *LAYERS], dim=1)
    deformed = deform.warped_change(drawn, velocity)
    seen = deform.cell_means(deformed.square(), grid)
    return [code.square().sum(1), shading.square().sum(1), seen.sum(1)]


def check_hardening(config: Hardening, targets: tuple[str, ...], *, boxes: bool, widened: bool = False) -> None:
    """Refuse halves of settings; `boxes`: expert boxes are given, `widened`: a target's width is edited."""
    if config.response and (not config.localise or len(config.falls) != len(targets)):
        raise ConfigurationError(
            f"hardening.response needs hardening.localise and one of hardening.falls for each of {len(targets)} targets, "
            f"got {len(config.falls)}"
        )
    if (config.reconstructed or config.localise) and not config.autoencoder:
        raise ConfigurationError("hardening.reconstructed and hardening.localise need hardening.autoencoder")
    if config.shade_chance and not (config.visible_step and widened):
        raise ConfigurationError("hardening.shade_chance needs hardening.visible_step and edits.widened_share")
    if config.outline and config.outlined < 1:
        raise ConfigurationError(f"hardening.outlined must be at least 1, got {config.outlined}; or leave outline out")
    if config.outline and not (config.localise and widened):
        raise ConfigurationError("hardening.outline needs hardening.localise and edits.widened_share")
    if bool(config.heal) != bool(config.healed) or (config.heal and not config.localise):
        raise ConfigurationError("hardening.heal and hardening.healed go together, and need hardening.localise")
    for name, given, known in (("healed", config.healed, targets), ("brightened", config.brightened, config.healed)):
        if not set(given) <= set(known):
            raise ConfigurationError(f"hardening.{name} must be some of {known}, got {given}")
    if (config.localise or config.confine_step) and not boxes:
        raise ConfigurationError("hardening.localise and hardening.confine_step need boxes")
    if config.teachers and config.crossfit:
        raise ConfigurationError("give hardening.teachers or hardening.crossfit, not both")
    if bool(config.imitation) != bool(config.teachers or config.crossfit):
        raise ConfigurationError("hardening.imitation goes together with hardening.teachers or hardening.crossfit")


def _teacher(name: str, rows: DataConfig, fabric: Fabric) -> tuple[trained.ClassifierNet, list[int]]:
    """A finished classifier and which of its outputs are the targets: it may know more of them."""
    net, _ = trained.load_classifier_net(Path(name))
    missing = [target for target in rows.targets if target not in net.config.targets]
    if missing:
        raise ConfigurationError(f"teacher {name} knows {net.config.targets}, expected {missing} as well")
    columns = [net.config.targets.index(target) for target in rows.targets]
    return fabric.to_device(wrap.place(net)), columns  # folded: it only predicts


def _autoencoder(name: str, rows: DataConfig, fabric: Fabric) -> Autoencoder:
    found = trained.autoencoder(Path(name)) if Path(name).is_dir() else load.load_autoencoder(name)
    if found.card.size != rows.size:
        raise ConfigurationError(f"{name} draws {found.card.size} pixels, the data has {rows.size}")
    net = getattr(found, "net", None)
    if isinstance(net, nn.Module):
        fabric.to_device(net)
    return found
