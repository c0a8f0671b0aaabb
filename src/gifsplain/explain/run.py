"""The one `explain`: encode, let a finder propose moves, choose strengths, draw the sweep, judge it."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import InputError, ModelError, TargetError
from gifsplain.explain import checks, record, rounding, strengths
from gifsplain.explain.compose import Composition
from gifsplain.explain.jobs import Job, Stage
from gifsplain.explain.maps import MAPS
from gifsplain.explain.moves import DirectionFinder
from gifsplain.explain.population import PopulationFinder
from gifsplain.explain.settings import Settings
from gifsplain.explain.strengths import Range
from gifsplain.models.budget import in_parts, peak_bytes
from gifsplain.models.precision import lowered
from gifsplain.models.prepare import to_images
from gifsplain.models.protocols import ModelCard, Pair
from gifsplain.types import Cost, Explanation, Images, Picture, Scores


def target_index(card: ModelCard, target: str) -> int:
    """Place of `target` among the classifier's outputs; upper and lower case matter only where they tell two apart.

    Raises:
        TargetError: When there is none of that name, or more than one, or its head was never trained.
    """
    exact = [index for index, name in enumerate(card.targets) if name == target]
    alike = [index for index, name in enumerate(card.targets) if name.casefold() == str(target).casefold()]
    found = exact or alike
    if not found:
        known = ", ".join(name for name in card.targets if name not in card.untrained)
        raise TargetError(f"{card.name} has no target {target!r}; it has {known}")
    index = found[0]
    if len(found) > 1:
        raise TargetError(
            f"{card.name} has {len(found)} outputs that are called {target!r} (numbers {', '.join(map(str, found))}); "
            "give its targets names that differ"
        )
    if card.targets[index] in card.untrained:
        raise TargetError(
            f"the head for {target!r} of {card.name} was never trained: its score says nothing; choose another"
        )
    return index


def case_names(pictures: Sequence[Picture], targets: Sequence[str], cases: Sequence[str] | None) -> list[str]:
    """One name a picture: `cases`, or the pictures' own.

    Raises:
        InputError: When there is nothing to explain, or names and pictures differ in number.
    """
    if isinstance(targets, str):
        raise InputError(f"expected a list of targets, got the text {targets!r}; write [{targets!r}]")
    if not pictures or not targets:
        raise InputError(f"expected at least one picture and one target, got {len(pictures)} and {len(targets)}")
    names = list(cases) if cases is not None else [picture.provenance.name for picture in pictures]
    if len(names) != len(pictures):
        raise InputError(f"expected one case name for each of {len(pictures)} pictures, got {len(names)}")
    return names


def explain(
    pair: Pair,
    finder: DirectionFinder,
    pictures: Sequence[Picture],
    targets: Sequence[str],
    settings: Settings = Settings(),
    *,
    cases: Sequence[str] | None = None,
) -> list[Explanation]:
    """Explanations of every picture and target, case by case; the same as one by one, but batched.

    Args:
        pair: Models that fit together.
        finder: Proposes one move for each image and target (`LatentShift()` or any other).
        pictures: At their own sizes; cropped and resized to the models' size.
        targets: Names of the classifier's outputs.
        settings: Wanted change, frames, composition, limits.
        cases: One name a picture; the pictures' own names where left out.

    Raises:
        TargetError: For a target that is unknown or untrained.
        InputError: When there is nothing to explain, or names and pictures differ in number.
    """
    names = case_names(pictures, targets, cases)
    indices = [target_index(pair.classifier.card, target) for target in targets]
    if settings.memory is not None:
        pair.budget.bytes = settings.memory
    results: list[Explanation] = []
    if pair.budget.bytes is not None and not pair.budget.measured:
        with peak_bytes() as peak:  # the first picture alone tells what one takes
            results += _explain_part(pair, finder, pictures[:1], names[:1], indices, replace(settings, batch=1))
        pair.budget.fit(peak())
    begun = len(results) // len(targets)

    def work(part: slice) -> list[Explanation]:
        own = slice(begun + part.start, begun + part.stop)
        return _explain_part(pair, finder, pictures[own], names[own], indices, settings)

    wanted = max(1, settings.batch // len(targets))
    for made in in_parts(work, len(pictures) - begun, pair.budget, wanted):
        results += made
    return results


def _explain_part(
    pair: Pair,
    finder: DirectionFinder,
    pictures: Sequence[Picture],
    names: Sequence[str],
    indices: Sequence[int],
    settings: Settings,
) -> list[Explanation]:
    started = time.perf_counter()
    images = to_images(pictures, pair.autoencoder.card).to(pair.device)
    stage = Stage(
        lowered(pair, settings.precision), settings.composition, settings.batch, clamp=settings.policy == "exact"
    )
    jobs = make_jobs(stage, finder, images, indices)
    for number, job in enumerate(jobs):
        require_scores(pair, job.input_scores, job.baseline_scores, job.target, names[number // len(indices)])
    with torch.no_grad():
        ranges = strengths.choose(stage, jobs, settings)
        for job, chosen in zip(jobs, ranges, strict=True):
            if 0.0 in chosen.strengths and 0.0 not in job.frames:
                job.frames[0.0] = (job.baseline, job.baseline_scores)
        stage.evaluate(jobs, [(n, s) for n, chosen in enumerate(ranges) for s in chosen.strengths])
        wrong = rounding.errors(replace(stage, pair=pair), jobs, ranges) if settings.precision != "float32" else None
    seconds = (time.perf_counter() - started) / len(jobs)
    owners = [number for number in range(len(pictures)) for _ in indices]
    made = [
        assemble(pair, finder, job, chosen, settings, case=names[n], picture=pictures[n], seconds=seconds)
        for job, chosen, n in zip(jobs, ranges, owners, strict=True)
    ]
    return made if wrong is None else [rounding.state(*both) for both in zip(made, wrong, strict=True)]


def require_scores(
    pair: Pair, on_image: Float[Tensor, " t"], on_baseline: Float[Tensor, " t"], target: int, name: str
) -> None:
    """Refuse scores that are no numbers: every comparison with them would silently say no.

    Raises:
        ModelError: Naming the case, the classifier and the target.
    """
    for scores, of in ((on_image, "the image"), (on_baseline, "what the autoencoder draws of it")):
        if not math.isfinite(score := float(scores[target])):
            card = pair.classifier.card
            raise ModelError(
                f"{name}: {card.name} gives {score} for {card.targets[target]} on {of}, expected a finite score; "
                "check the weights and the value range that its card declares"
            )


def make_jobs(stage: Stage, finder: DirectionFinder, images: Images, indices: Sequence[int]) -> list[Job]:
    """Encode once, propose a move for every image and target, score input and baseline; image by image, then target."""
    pair = stage.pair
    with torch.no_grad():
        latents = pair.autoencoder.encode(images)
        input_scores = stage.score(images)
    by_target = []
    for target in indices:
        proposal = finder.find(pair, images, latents, target, stage.composition)
        with torch.no_grad():
            by_target.append(
                (proposal, *_baselines(stage, images, proposal.reconstructions, proposal.scores, input_scores))
            )
    return [
        Job(
            image=images[i],
            latent=latents[i].detach(),
            target=target,
            move=proposal.moves[i][0],
            decoded=proposal.reconstructions[i],
            baseline=baseline[i],
            input_scores=input_scores[i],
            reconstruction_scores=drawn[i],
            baseline_scores=scores[i],
            gradients=proposal.costs(i)[0],
            decodes=proposal.costs(i)[1],
        )
        for i in range(images.shape[0])
        for target, (proposal, baseline, scores, drawn) in zip(indices, by_target, strict=True)
    ]


def _baselines(
    stage: Stage, images: Images, decoded: Images, scores: Float[Tensor, "b t"], input_scores: Float[Tensor, "b t"]
) -> tuple[Images, Float[Tensor, "b t"], Float[Tensor, "b t"]]:
    """Baseline frames, their scores, and the scores of D(z) as drawn; nothing is evaluated twice."""
    drawn = decoded.clamp(0, 1) if stage.clamp else decoded
    if stage.composition is Composition.RESIDUAL:
        return images, input_scores, stage.score(drawn)
    if not torch.equal(drawn, decoded):
        scores = stage.score(drawn)
    return drawn, scores, scores


def assemble(
    pair: Pair,
    finder: DirectionFinder,
    job: Job,
    chosen: Range,
    settings: Settings,
    *,
    case: str,
    picture: Picture,
    seconds: float,
) -> Explanation:
    """The result of one finished job, on the CPU, with its checks and its record."""
    frames = torch.stack([job.frames[s][0] for s in chosen.strengths]).cpu()
    scores = torch.stack([job.frames[s][1] for s in chosen.strengths]).cpu()
    grid = torch.tensor(chosen.strengths, dtype=torch.float64)
    counterfactual = chosen.counterfactual
    card = pair.classifier.card
    left_out = 0.0 not in chosen.strengths
    fit = finder.fit if isinstance(finder, PopulationFinder) else None
    explanation = Explanation(
        case=case,
        method=finder.name,
        target=card.targets[job.target],
        meaning=card.meaning,
        picture=picture,
        image=job.image.cpu(),
        reconstruction=(job.decoded.clamp(0, 1) if settings.policy == "exact" else job.decoded).cpu(),
        frames=frames,
        strengths=grid.float(),
        strength_unit=job.move.unit,
        frame_scores=scores[:, job.target],
        targets=card.targets,
        target_scores=scores,
        scores=Scores(
            float(job.input_scores[job.target]),
            float(job.reconstruction_scores[job.target]),
            float(scores[counterfactual, job.target]),
        ),
        counterfactual=counterfactual,
        stop_lower=chosen.lower,
        stop_higher=chosen.higher,
        map=MAPS[settings.map_name](frames, job.baseline.cpu()),
        map_name=settings.map_name,
        composition=settings.composition.value,
        cost=Cost(1, job.decodes, job.decodes + 1, job.gradients, seconds),
        start=job.baseline.cpu() if left_out else None,
        start_scores=job.baseline_scores.cpu() if left_out else None,
        record=record.make(pair, settings, picture, latent=job.latent, move=record.of_move(job.move), fit=fit),
    )
    cards = {"classifier": card, "autoencoder": pair.autoencoder.card}
    return replace(explanation, checks=checks.run(explanation, cards))
