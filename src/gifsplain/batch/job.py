"""A batch job: all that a process needs to know, picklable, and the configuration that its folder is bound to."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gifsplain.batch.files import Reading
from gifsplain.explain import record
from gifsplain.explain.settings import Settings
from gifsplain.io.manifest import Case
from gifsplain.models.protocols import Pair

NOT_NUMBERS = ("batch", "memory")
"""Settings that change how fast a result is made, not what it is."""


@dataclass(frozen=True)
class Models:
    """Names of the models (see `models.load`); loaded once in every process."""

    classifier: str = "cxr"
    autoencoder: str = "cxr"
    resize: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Outputs:
    """What is written besides the table."""

    formats: tuple[str, ...] = ()
    """Media by name (see `render.directory.FILES`); none when empty."""
    arrays: bool = False

    def __bool__(self) -> bool:
        return bool(self.formats) or self.arrays


@dataclass(frozen=True)
class Job:
    """One batch run."""

    folder: Path
    cases: tuple[Case, ...]
    targets: tuple[str, ...] = ()
    method: str = "latentshift"
    settings: Settings = field(default_factory=Settings)
    models: Models = field(default_factory=Models)
    outputs: Outputs = field(default_factory=Outputs)
    reading: Reading = field(default_factory=Reading)
    part: int = 32
    """Cases that are committed together: the most that a kill can cost a process."""
    retry_failed: bool = False
    """Whether what failed in an earlier run is tried again."""
    readers: int = 2
    encoders: int = 2


@dataclass(frozen=True)
class Configuration:
    """What makes the numbers; a folder holds results of exactly one."""

    values: dict[str, Any] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Of the values in a canonical form."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:16]

    def text(self) -> str:
        """Canonical JSON."""
        return json.dumps(self.values, indent=2, sort_keys=True) + "\n"


def configuration_of(job: Job, pair: Pair) -> Configuration:
    """The configuration of a job with its models loaded."""
    settings = {**asdict(job.settings), "composition": job.settings.composition.value}
    values = {
        "gifsplain": record.versions()["gifsplain"],
        "method": job.method,
        "settings": {key: value for key, value in settings.items() if key not in NOT_NUMBERS},
        "classifier": record.of_model(pair.classifier),
        "autoencoder": record.of_model(pair.autoencoder),
        "reading": asdict(job.reading),
        "outputs": {"formats": sorted(job.outputs.formats), "arrays": job.outputs.arrays},
    }
    return Configuration(json.loads(json.dumps(values)))
