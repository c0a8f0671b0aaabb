"""How far to trust an explanation: each check is a pure function from an explanation to a verdict and a sentence."""

from collections.abc import Callable, Mapping
from typing import Any

from gifsplain.models.protocols import ModelCard
from gifsplain.types import Check, Explanation, ScoreMeaning, Stop, Verdict

GAP_WARN, GAP_FAIL = 0.12, 0.30
"""Change of the score by the autoencoder alone: the paper's mean on positives (appendix K), and its wanted drop; for logits
the same parts of the drop that was asked for."""
INVISIBLE = 0.02
"""A change whose 99th percentile stays below this part of full scale (five grey levels of 256) cannot be seen."""
WIGGLE = 0.02
"""Steps back of the score along the sweep up to this are not counted."""


def autoencoder_gap(explanation: Explanation) -> Check:
    """What the autoencoder alone does to the score."""
    scores = explanation.scores
    gap = scores.reconstruction - scores.input
    unit = _wanted_drop(explanation) / GAP_FAIL if explanation.meaning is ScoreMeaning.LOGIT else 1.0
    verdict = (
        Verdict.FAIL if abs(gap) > GAP_FAIL * unit else Verdict.WARN if abs(gap) > GAP_WARN * unit else Verdict.PASS
    )
    way = "lowers" if gap < 0 else "raises"
    text = f"Encoding and decoding alone {way} the score by {abs(gap):.2f} ({scores.input:.2f} to {scores.reconstruction:.2f})."
    if verdict is not Verdict.PASS:
        text += " The animation explains the reconstruction, which the classifier sees differently from the input."
    return Check("autoencoder_gap", verdict, text, gap)


def _wanted_drop(explanation: Explanation) -> float:
    """The fall that was asked for; what a change of a logit has to be compared with, as logits have no scale of their own."""
    settings = explanation.record.get("settings", {})
    return float(settings.get("drop", 0.0)) or GAP_FAIL


def reconstruction_error(explanation: Explanation, card: ModelCard) -> Check:
    """Mean absolute error of the reconstruction against the percentiles of the autoencoder's model card."""
    error = float((explanation.image - explanation.reconstruction).abs().mean())
    limits: Mapping[str, float] = card.details.get("reconstruction_mae_percentiles", {})
    if not {"p95", "p99"} <= limits.keys():
        text = f"The reconstruction differs by {error:.3f} of full scale; {card.name} states no usual range to compare with."
        return Check("reconstruction_error", Verdict.WARN, text, error)
    if error <= limits["p95"]:
        text = f"The reconstruction differs by {error:.3f} of full scale, usual for {card.name} (95 % below {limits['p95']:.3f})."
        return Check("reconstruction_error", Verdict.PASS, text, error)
    verdict = Verdict.FAIL if error > limits["p99"] else Verdict.WARN
    text = (
        f"The reconstruction differs by {error:.3f} of full scale, more than {'99' if verdict is Verdict.FAIL else '95'} % of the "
        f"images that {card.name} was measured on: the image may not be what the models were made for."
    )
    return Check("reconstruction_error", verdict, text, error)


def typical_latent(explanation: Explanation, card: ModelCard) -> Check | None:
    """Length of the latent against the percentiles of the autoencoder's card; None where one of the two is not known.

    An autoencoder may well draw an image that it was not made for; its latent then lies far outside the usual ones.
    """
    norm = explanation.record.get("latent_norm")
    limits: Mapping[str, float] = card.details.get("latent_norm_percentiles", {})
    if norm is None or not {"p95", "p99"} <= limits.keys():
        return None
    length = float(norm)
    if length <= limits["p95"]:
        text = f"The latent has length {length:.0f}, usual for {card.name} (95 % below {limits['p95']:.0f})."
        return Check("typical_latent", Verdict.PASS, text, length)
    verdict = Verdict.FAIL if length > 1.25 * limits["p99"] else Verdict.WARN
    text = (
        f"The latent has length {length:.0f}; 99 % of the images that {card.name} was measured on stay below "
        f"{limits['p99']:.0f}: this image may be no frontal chest radiograph or an unusual one."
    )
    return Check("typical_latent", verdict, text, length)


def wanted_change(explanation: Explanation) -> Check:
    """Whether the search met the wanted change; where a fall was wanted and only a rise was found, it has not."""
    stop = explanation.stop
    change = explanation.scores.counterfactual - explanation.baseline_score
    if stop is Stop.REACHED:
        return Check("wanted_change", Verdict.PASS, f"The score changed by {change:+.2f}, as wanted.", change)
    if stop is Stop.NOT_SEARCHED:
        text = f"Strengths were given, not searched; the score changed by {change:+.2f}."
        return Check("wanted_change", Verdict.WARN, text, change)
    if (schedule := explanation.record.get("settings", {}).get("policy", "exact")) != "exact":
        text = f"The schedule {schedule} ended: {_REASONS[stop]} (changed by {change:+.2f}). Its goal is its own: drop and rise do not count."
        return Check("wanted_change", Verdict.WARN if stop is Stop.SCORE_BOUND else Verdict.FAIL, text, change)
    no_fall = explanation.stop_lower in _REASONS and explanation.stop_lower is not Stop.SCORE_BOUND
    if no_fall and explanation.counterfactual > explanation.baseline:
        text = f"No image with a lower score was found: {_REASONS[stop]}; what is shown raises it (by {change:+.2f})."
    else:
        text = f"The wanted change was not reached: {_REASONS[stop]} (changed by {change:+.2f})."
    if explanation.method == "latentshift" and stop not in (Stop.SCORE_BOUND, Stop.ZERO_GRADIENT):
        text += " The method latentshift-steps, which auto tries by itself, turns where this straight path ends."
    text += _room(explanation)
    return Check("wanted_change", Verdict.WARN if stop is Stop.SCORE_BOUND else Verdict.FAIL, text, change)


def _room(explanation: Explanation) -> str:
    """What to ask instead where a score is lower than the fall that was wanted of it; empty elsewhere."""
    drop, start = _wanted_drop(explanation), explanation.baseline_score
    searched = explanation.stop_lower is not Stop.NOT_SEARCHED
    if not searched or explanation.meaning is ScoreMeaning.LOGIT or not 0 <= start < drop:
        return ""
    half, rise = round(start / 2, 2), round(min(0.3, (1 - start) / 2), 2)
    asked = [f"for less (drop {half:.2f})"] * (half >= 0.05) + [f"for what would raise it (rise {rise:.2f})"] * (
        rise >= 0.05
    )
    return f" A score of {start:.2f} cannot fall by {drop:.2f}, so the search went as far as it could; ask {' or '.join(asked)}."


_REASONS = {
    Stop.SCORE_BOUND: "the score has less room than the wanted change",
    Stop.TURNED: "the score turned back before",
    Stop.PIXEL_LIMIT: "the image would have changed too much",
    Stop.LATENT_LIMIT: "the latent would have moved too far",
    Stop.STRENGTH_LIMIT: "the largest strength was used up",
    Stop.BUDGET: "the allowed evaluations were used up",
    Stop.ZERO_GRADIENT: "the gradient is zero",
    Stop.NO_DIRECTION: "no direction that the method tried moves the score that way",
}


def monotone(explanation: Explanation) -> Check:
    """Whether the score follows the strength without stepping back."""
    scores = explanation.frame_scores
    back = float((scores.cummax(0).values - scores).max())  # many small steps back add up
    if back <= WIGGLE:
        return Check("monotone", Verdict.PASS, "The score rises with the strength over the whole sweep.", back)
    text = (
        f"The score falls back by up to {back:.2f} along the sweep: the path is not a simple more or less of one thing."
    )
    return Check("monotone", Verdict.WARN, text, back)


def visible_change(explanation: Explanation) -> Check:
    """Whether the change can be seen: a large change of the score without one looks adversarial."""
    difference = (explanation.frames[explanation.counterfactual] - explanation.baseline_frame).abs().flatten()
    strong = float(difference.kthvalue(max(1, round(0.99 * difference.numel()))).values)
    if strong >= INVISIBLE:
        text = f"The strongest hundredth of the pixels changes by {strong:.2f} of full scale or more."
        return Check("visible_change", Verdict.PASS, text, strong)
    text = (
        f"The strongest hundredth of the pixels changes by only {strong:.3f} of full scale: too little to see. "
        "The score moved through an adversarial-looking change; do not read the animation as anatomy."
    )
    return Check("visible_change", Verdict.FAIL, text, strong)


def gradient(explanation: Explanation) -> Check:
    """Whether there was a direction at all."""
    if Stop.ZERO_GRADIENT in (explanation.stop_lower, explanation.stop_higher):
        text = (
            "The classifier's output does not depend on the latent here (zero gradient): there is nothing to explain."
        )
        return Check("gradient", Verdict.FAIL, text, 0.0)
    if Stop.NO_DIRECTION in (explanation.stop_lower, explanation.stop_higher):
        text = (
            "None of the directions that the method tried moves the score the wanted way here; "
            "another method may find one."
        )
        return Check("gradient", Verdict.FAIL, text)
    return Check("gradient", Verdict.PASS, "The classifier's output depends on what the autoencoder can draw.")


def trained_target(explanation: Explanation, card: ModelCard) -> Check:
    """Whether the target's head was trained; an untrained one is refused before, so this states the fact."""
    if explanation.target in card.untrained:
        text = f"The head for {explanation.target} of {card.name} was never trained: its score means nothing."
        return Check("trained_target", Verdict.FAIL, text)
    return Check("trained_target", Verdict.PASS, f"{card.name} declares the head for {explanation.target} as trained.")


_SWEEP: tuple[Callable[[Explanation], Check], ...] = (
    autoencoder_gap,
    wanted_change,
    monotone,
    visible_change,
    gradient,
)


def run(explanation: Explanation, cards: Mapping[str, ModelCard]) -> tuple[Check, ...]:
    """All checks that apply; `cards` has the keys `classifier` and `autoencoder`.

    A search that found no allowed change has no sweep either, but has to answer for it; maps get the last ones only.
    """
    searched = {explanation.stop_lower, explanation.stop_higher} != {Stop.NOT_SEARCHED}
    sweep: list[Any] = (
        list(_SWEEP) if explanation.has_sweep else [autoencoder_gap, wanted_change, gradient] if searched else []
    )
    made = [check(explanation) for check in sweep]
    fitting = (
        reconstruction_error(explanation, cards["autoencoder"]),
        typical_latent(explanation, cards["autoencoder"]),
    )
    made[1:1] = [check for check in fitting if check is not None]
    return (*made, trained_target(explanation, cards["classifier"]))
