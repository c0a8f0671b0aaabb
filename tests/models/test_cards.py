"""Cards and weights of trained models that are damaged, or do not belong together, are refused with the file's name."""

import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from gifsplain.errors import ModelError, WeightsError
from gifsplain.models import builtin, diffusers, own, trained

CONFIG = {"targets": ["a", "b"], "size": 8, "channels": 1}
CARD = {"name": "mine", "size": 8, "channels": 1, "targets": ["a", "b"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, save({"weight": torch.zeros(2, 3)}, metadata={"config": json.dumps(CONFIG)}))
    return tmp_path


def write(folder: Path, content: bytes, **card: object) -> None:
    (folder / "m.safetensors").write_bytes(content)
    values = {**CARD, "sha256": hashlib.sha256(content).hexdigest(), **card}
    (folder / "m.json").write_text(json.dumps(values))


def read(folder: Path) -> tuple[dict[str, object], dict[str, object]]:
    return builtin.read_weights("m", builtin.read_card("m", folder), folder)


def test_what_belongs_together_is_read(folder: Path) -> None:
    config, state = read(folder)
    assert config == CONFIG and torch.equal(state["weight"], torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "expected JSON in UTF-8"),
        (b"{", "expected JSON in UTF-8"),
        (json.dumps(CARD).encode("utf-16"), "expected JSON in UTF-8"),
        (b"[]", "expected a JSON object, got list"),
        (b'{"name": "mine"}', "it lacks channels, sha256, size"),
    ],
)
def test_a_card_that_is_none(folder: Path, text: bytes, words: str) -> None:
    (folder / "m.json").write_bytes(text)
    with pytest.raises(WeightsError, match=f"m.json: .*{words}"):
        read(folder)


@pytest.mark.parametrize("changed", [{"targets": ["b", "a"]}, {"size": 16}, {"channels": 3}])
def test_a_card_that_says_something_else_than_the_weights(folder: Path, changed: dict[str, object]) -> None:
    """Targets in another order would give every score another name."""
    write(folder, (folder / "m.safetensors").read_bytes(), **changed)
    with pytest.raises(WeightsError, match=f"m.json: expected the {next(iter(changed))} of m.safetensors"):
        read(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected a whole safetensors file"),
        (struct.pack("<Q", 2**62) + b"{}", "expected a whole safetensors file"),
        (b"\x80\x04\x95", "expected a whole safetensors file"),
        (save({"weight": torch.zeros(2)}), "expected a configuration in its header"),
        (save({"weight": torch.zeros(2)}, metadata={"config": "{"}), "expected a configuration in its header"),
        (save({"weight": torch.zeros(2)}, metadata={"config": "3"}), "expected a configuration in its header"),
    ],
)
def test_weights_that_are_none_with_a_checksum_that_fits(folder: Path, content: bytes, words: str) -> None:
    write(folder, content)
    with pytest.raises(WeightsError, match=words):
        read(folder)


def test_another_checksum_and_other_tensors(folder: Path) -> None:
    content = (folder / "m.safetensors").read_bytes()
    found = hashlib.sha256(content).hexdigest()
    for wrong in ("0" * 64, found[:8], "", None):
        write(folder, content, sha256=wrong)
        with pytest.raises(WeightsError, match=f"expected sha256 {wrong}, got {found}; the file or its card"):
            read(folder)
    with pytest.raises(WeightsError, match="mine: expected the weights of its configuration, got others"):
        builtin.fill(nn.Linear(3, 2), {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, "mine")


def test_a_header_that_names_no_network(tmp_path: Path) -> None:
    content = save({"weight": torch.zeros(2)}, metadata={"config": "{}"})
    (tmp_path / "classifier.safetensors").write_bytes(content)
    (tmp_path / "classifier.json").write_text(json.dumps({**CARD, "sha256": hashlib.sha256(content).hexdigest()}))
    with pytest.raises(WeightsError, match="expected backbone and targets in the header"):
        trained.load_classifier_net(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_declaration_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "n.pt2").write_bytes(b"PK")
    (tmp_path / "n.json").write_text(text)
    with pytest.raises(WeightsError, match="n.json: expected (JSON|a JSON object)"):
        own.exported_classifier(tmp_path / "n.pt2")


def test_a_program_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "n.pt2").write_bytes(b"PK")
    (tmp_path / "n.json").write_text(json.dumps(CARD))
    with pytest.raises(WeightsError, match=r"n.pt2: expected a program of torch.export.save"):
        own.exported_classifier(tmp_path / "n.pt2")


@pytest.mark.parametrize("spec", [":", ".relative:x", "math:", "math:pi"])
def test_names_that_lead_to_no_function(spec: str) -> None:
    with pytest.raises(ModelError, match="expected module:callable"):
        own.from_callable(spec)


def test_a_folder_of_diffusers_without_weights(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="expected an AutoencoderKL, could not read it"):
        diffusers.load_autoencoder(tmp_path)
