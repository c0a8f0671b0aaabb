"""Models of one's own: module:callable, torch.export programs, folders of diffusers, and a tiny VQGAN of torchxrayvision."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from gifsplain.errors import MissingExtraError, ModelError, WeightsError
from gifsplain.models import load, wrap, xrv
from gifsplain.models.inspect import inspect_autoencoder, inspect_classifier


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.last = nn.Linear(64, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(images.flatten(1) / 255)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An exported classifier and its declaration."""
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(Net().eval(), (torch.rand(2, 1, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(exported, tmp_path / "net.pt2")
    card = {"name": "mine", "targets": ["a", "b", "c"], "size": 8, "value_range": [0, 255], "output": "softmax_logits"}
    (tmp_path / "net.json").write_text(json.dumps(card))
    return tmp_path / "net.pt2"


def test_an_exported_program_scores_as_the_network_does(program: Path) -> None:
    model = load.load_classifier(str(program))
    images = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(model.scores(images), Net()(images * 255).softmax(1).detach(), atol=1e-5, rtol=1e-5)
    verdicts = {c.name: c.verdict.value for c in inspect_classifier(model)}
    assert verdicts["gradient"] == verdicts["runs"] == "pass"


def test_the_checksum_of_a_program_is_that_of_both_files(program: Path) -> None:
    first = load.load_classifier(str(program)).card.sha256
    beside = program.with_suffix(".json")
    assert first == hashlib.sha256(program.read_bytes() + beside.read_bytes()).hexdigest()
    beside.write_text(beside.read_text().replace("255", "1"))
    assert load.load_classifier(str(program)).card.sha256 != first


def test_a_program_without_its_declaration_says_what_is_missing(program: Path) -> None:
    program.with_suffix(".json").write_text('{"name": "mine"}')
    with pytest.raises(ModelError, match=r"net.json lacks size, targets"):
        load.load_classifier(str(program))
    program.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match=r"a .pt2 program and a .json declaration beside it"):
        load.load_classifier(str(program))


def test_a_callable_is_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models_of_mine.py").write_text(
        "import torch\nfrom gifsplain.models import wrap\n"
        "def good():\n    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))\n"
        "    return wrap.classifier(net, name='g', targets=('a', 'b'), size=8)\n"
        "def bad():\n    return torch.nn.Linear(2, 2)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load.load_classifier("models_of_mine:good").card.targets == ("a", "b")
    with pytest.raises(ModelError, match=r"got Linear, which lacks card"):
        load.load_classifier("models_of_mine:bad")
    with pytest.raises(ModelError, match=r"could not find 'models_of_mine:none'"):
        load.load_classifier("models_of_mine:none")


def test_a_diffusers_autoencoder_draws_grey(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    net = diffusers.AutoencoderKL(
        in_channels=3, out_channels=3, block_out_channels=(8, 8), norm_num_groups=4, latent_channels=2,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16,
    )  # fmt: skip
    net.save_pretrained(tmp_path / "kl")
    model = load.load_autoencoder(f"diffusers:{tmp_path / 'kl'}")
    images = torch.rand(2, 1, 16, 16)
    native = (images * 2 - 1).repeat(1, 3, 1, 1)
    expected = net.eval()(native).sample.mean(1, keepdim=True) / 2 + 0.5
    torch.testing.assert_close(model.decode(model.encode(images)), expected.detach(), atol=1e-5, rtol=1e-5)
    assert {c.name: c.verdict.value for c in inspect_autoencoder(model)}["deterministic"] == "pass"
    with pytest.raises(WeightsError, match=r"expected config.json"):
        load.load_autoencoder(f"diffusers:{tmp_path}")


def test_diffusers_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"install gifsplain\[diffusers\]"):
        load.load_autoencoder(f"diffusers:{tmp_path}")


YAML = """model:
  params:
    embed_dim: 4
    n_embed: 16
    ddconfig:
      double_z: false
      z_channels: 4
      resolution: 32
      in_channels: 3
      out_ch: 3
      ch: 32
      ch_mult:
      - 1
      - 1
      num_res_blocks: 1
      attn_resolutions:
      - 999
      dropout: 0.0
"""


def test_the_vqgan_of_the_user_is_found_by_its_real_class(tmp_path: Path) -> None:
    from torchxrayvision.baseline_models import ieee8023

    meta = ieee8023.model_urls["cxr2-vqgan-768-sd"]
    config = tmp_path / meta["config_url"].rsplit("/", 1)[-1]
    config.write_text(YAML)
    params = ieee8023._load_yaml(config)["model"]["params"]
    torch.manual_seed(0)
    net = ieee8023.VQModel(ddconfig=params["ddconfig"], n_embed=16, embed_dim=4)
    path = tmp_path / meta["weights_url"].rsplit("/", 1)[-1]
    torch.save({"state_dict": {**net.state_dict(), "loss.x": torch.ones(1)}, "callbacks": {"n": 1}}, path)
    model = xrv.vqgan("cxr2-vqgan-768-sd", tmp_path)
    assert model.card.size == 32
    images = torch.rand(1, 1, 32, 32)
    native = (images * 2 - 1).repeat(1, 3, 1, 1)
    expected = net.eval().decode(net.encode(native)[0])[:, :1].clamp(-1, 1) / 2 + 0.5
    torch.testing.assert_close(model.decode(model.encode(images)), expected.detach(), atol=1e-5, rtol=1e-5)


def test_the_built_in_autoencoder_passes_its_inspection() -> None:
    """Folded on its first run, it computes a little otherwise then."""
    found = {check.name: check.verdict.value for check in inspect_autoencoder(load.load_autoencoder("cxr"))}
    assert found == dict.fromkeys(("runs", "range", "gradient", "deterministic"), "pass")


def test_a_wrong_value_range_is_seen() -> None:
    class Passes(nn.Module):
        def encode(self, images: torch.Tensor) -> torch.Tensor:
            return images

        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            return latents * 4

    found = {c.name: c for c in inspect_autoencoder(wrap.autoencoder(Passes(), name="passes", size=8))}
    assert found["range"].verdict.value == "warn" and "is value_range right" in found["range"].text
