"""Which numbers each setting of a training may be; whatever the loop or torch would fall over later is refused by name."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gifsplain.errors import ConfigurationError

Numbers = Sequence[float]


@dataclass(frozen=True)
class Range:
    """What a setting must be, in words, and whether its numbers (one, or all of a list) are; nan never is."""

    text: str
    holds: Callable[[Numbers], bool]


def _each(text: str, test: Callable[[float], bool]) -> Range:
    return Range(text, lambda numbers: all(test(number) for number in numbers))


COUNT = _each("1 or more", lambda n: n >= 1)
FROM_NONE = _each("0 or more", lambda n: n >= 0)
FINITE = _each("0 or more, and finite", lambda n: 0 <= n < math.inf)
NOT_TINY = _each("0.001 or more", lambda n: n >= 0.001)
POSITIVE = _each("above 0, and finite", lambda n: 0 < n < math.inf)
SHARE = _each("from 0 to 1", lambda n: 0 <= n <= 1)
SOME = _each("above 0, and at most 1", lambda n: 0 < n <= 1)
BELOW_ONE = _each("0 or more, and below 1", lambda n: 0 <= n < 1)
DEVICES = _each("1 or more, or -1 for all there are", lambda n: n >= 1 or n == -1)
SHARES = Range(
    "0 or more each, and together at most 1",
    lambda numbers: all(n >= 0 for n in numbers) and sum(numbers) <= 1 + 1e-9,  # 0.7 + 0.2 + 0.1 is a little more
)

OPTIMISER = {"epochs": POSITIVE, "rate": POSITIVE, "weight_decay": FINITE}
TRAINING = OPTIMISER | {"batch_size": COUNT, "warmup": FROM_NONE, "clip": FINITE, "evaluate_epochs": FINITE}
"""What several trainings share."""

RANGES: Mapping[str, Mapping[str, Range]] = {
    "LoopConfig": {
        "seed": FROM_NONE,
        "devices": DEVICES,
        "nodes": COUNT,
        "checkpoint_minutes": FROM_NONE,
        "log_every": COUNT,
        "patience": FROM_NONE,
    },
    "SourceConfig": {"weight": FINITE},
    "DataConfig": {"size": COUNT, "channels": COUNT, "fractions": SHARES},
    "AugmentConfig": {
        **dict.fromkeys(("rotation", "zoom", "aspect", "shift", "gamma", "contrast", "brightness"), FINITE),
        **dict.fromkeys(("blur_pixels", "noise"), FINITE),
        **dict.fromkeys(("blur_chance", "noise_chance"), SHARE),
    },
    "Hardening": {
        **dict.fromkeys(("reconstructed", "step_chance", "shade_chance"), SHARE),
        **dict.fromkeys(("latent_noise", "visible_step", "localise", "outline", "heal", "response"), FINITE),
        **dict.fromkeys(("falls", "adversarial", "mixup", "imitation"), FINITE),
        **dict.fromkeys(("localised", "outlined"), FROM_NONE),
    },
    "EditsConfig": {"widened_share": SHARE, "exchanged_share": SHARE},
    "ClassifierTraining": TRAINING
    | {
        "average": BELOW_ONE,
        "dropout": BELOW_ONE,
        "width": COUNT,
        "frozen": FROM_NONE,
        "balance": FINITE,
        "smoothing": BELOW_ONE,
        "box_weight": FINITE,
        "head_factor": FINITE,
        "spread": NOT_TINY,
    },
    "CrossFit": {"folds": COUNT},
    "AutoencoderConfig": {
        **dict.fromkeys(("size", "channels", "patch", "widths", "bottleneck"), COUNT),
        **dict.fromkeys(("blocks", "decoder_blocks"), FROM_NONE),
    },
    "AutoencoderLoss": {
        **dict.fromkeys(("squared", "absolute", "edges", "perceptual", "scores", "noise"), FINITE),
        **dict.fromkeys(("smoothness", "decorrelation"), FINITE),
        "edge_scales": COUNT,
        "smoothness_step": POSITIVE,
    },
    "FeatureConfig": {"layers": FROM_NONE, "images": FROM_NONE},
    "FrameConfig": {
        **dict.fromkeys(("power", "damping", "texture", "shading", "velocity"), FINITE),
        **dict.fromkeys(("blur", "cutoff", "shading_blur", "velocity_blur"), FINITE),
        **dict.fromkeys(("samples", "passes"), COUNT),
        "floor": SHARE,
    },
    "AutoencoderTraining": TRAINING | {"average": BELOW_ONE, "betas": BELOW_ONE},
    "Pretraining": TRAINING
    | {
        "width": COUNT,
        "view_size": COUNT,
        "least_area": SOME,
        "projection": COUNT,
        "temperature": POSITIVE,
        "pasted": FROM_NONE,
        "pasted_weight": FINITE,
        "dropout": BELOW_ONE,
    },
    "BottleneckExperiment": dict.fromkeys(("bottlenecks", "depths", "width", "images"), COUNT),
    "SmallTraining": OPTIMISER
    | dict.fromkeys(("widths", "batch"), COUNT)
    | {"average": BELOW_ONE, "emphasis": FINITE, "smoothing": BELOW_ONE, "evaluate_every": FROM_NONE},
    "StyleExWeights": dict.fromkeys(
        ("adversarial", "pixel", "perceptual", "latent", "classifier", "r1", "path"), FINITE
    ),
    "StyleExConfig": {"rate": POSITIVE, "evaluate_every": FROM_NONE, "chances": FINITE},
}
"""By configuration and field. `StyleConfig`, `Settings` and the rest of `StyleExConfig` look after themselves."""


def check(name: str, values: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse values of the configuration called `name` that are out of range; `prefix` is where they stand: `loop.`."""
    ranges = RANGES.get(name, {})
    for key, value in values.items():
        if key in ranges and not ranges[key].holds(list(_numbers(value))):
            raise ConfigurationError(f"{prefix}{key} must be {ranges[key].text}, got {_plain(value)}")


def _numbers(value: Any) -> Iterable[float]:
    """All numbers of a value, a list or a mapping, whatever their depth."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple):
        for inner in value:
            yield from _numbers(inner)
    elif isinstance(value, int | float):
        yield value


def _plain(value: Any) -> Any:
    """As it is written in YAML."""
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value
