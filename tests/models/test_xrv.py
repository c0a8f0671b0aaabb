"""torchxrayvision's real classes with random weights, saved as its releases are and found in a cache folder."""

import io
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchxrayvision as xrv

from gifsplain.errors import ModelError, WeightsError
from gifsplain.models import load
from gifsplain.models import xrv as adapter
from gifsplain.models.checkpoint import read_checkpoint
from gifsplain.types import ScoreMeaning


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torchxrayvision cache."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".torchxrayvision" / "models_data"
    folder.mkdir(parents=True)
    return folder


def densenet() -> torch.nn.Module:
    torch.manual_seed(0)
    return xrv.models.DenseNet().eval()


@pytest.mark.parametrize(
    "name", ["densenet121-res224-all", pytest.param("densenet121-res224-rsna", marks=pytest.mark.slow)]
)
def test_a_densenet_of_the_user_is_found_and_scores_as_the_library_does(home: Path, name: str, capsys) -> None:
    url = xrv.models.model_urls[name]["weights_url"]
    torch.save(densenet(), home / url.rsplit("/", 1)[-1])
    mine = load.load_classifier(f"xrv:{name}")
    theirs = xrv.models.DenseNet(weights=name)
    images = torch.rand(2, 1, 224, 224)
    torch.testing.assert_close(mine.scores(images), theirs(images * 2048 - 1024).detach(), atol=1e-6, rtol=0)
    assert mine.card.meaning is ScoreMeaning.CALIBRATED
    unnamed = xrv.models.model_urls[name]["labels"].count("")
    assert len(mine.card.untrained) == unnamed
    assert capsys.readouterr().out == ""


def test_the_calibration_is_piecewise_linear_with_nan_heads_at_one_half() -> None:
    thresholds = torch.tensor([0.1, 0.5, float("nan")])
    logits = torch.randn(50, 3) * 4
    expected = xrv.models.op_norm(logits.sigmoid(), thresholds)
    torch.testing.assert_close(adapter.calibrated(thresholds)(logits), expected)


def test_the_resnet_autoencoder_of_the_user_is_found(home: Path) -> None:
    torch.manual_seed(0)
    theirs = xrv.autoencoders.ResNetAE().eval()
    url = xrv.autoencoders.model_urls["101-elastic"]["weights_url"]
    torch.save(theirs.state_dict(), home / url.rsplit("/", 1)[-1])
    mine = load.load_autoencoder("xrv:101-elastic")
    images = torch.rand(1, 1, 224, 224)
    latents = mine.encode(images)
    assert latents.shape == (1, 512, 3, 3)
    expected = theirs(images * 2048 - 1024)["out"] / 2048 + 0.5
    torch.testing.assert_close(mine.decode(latents), expected.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_the_resnet_of_the_user_is_found(home: Path) -> None:
    import torchvision

    net = torchvision.models.resnet50(num_classes=18, weights=None)
    net.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    url = xrv.models.model_urls["resnet50-res512-all"]["weights_url"]
    torch.save(net.state_dict(), home / url.rsplit("/", 1)[-1])
    model = load.load_classifier("xrv:resnet50-res512-all")
    assert model.card.size == 512
    assert model.card.untrained == ("Lung Lesion", "Enlarged Cardiomediastinum")
    assert model.scores(torch.rand(1, 1, 512, 512)).shape == (1, 18)


@pytest.mark.slow
def test_jfhealthcare_of_the_user_is_found(home: Path) -> None:
    from torchxrayvision.baseline_models import jfhealthcare

    config = json.loads((Path(jfhealthcare.__file__).parent / "config" / "example.json").read_text())
    theirs = jfhealthcare.classifier.Classifier(SimpleNamespace(**{**config, "pretrained": False}))
    torch.save(theirs.state_dict(), home / adapter.JFHEALTHCARE_FILE)
    model = load.load_classifier("xrv:jfhealthcare")
    images = torch.rand(1, 1, 512, 512)
    scores = model.scores(images)
    assert scores.shape == (1, 5)
    torch.testing.assert_close(scores, model.logits(images).sigmoid())


def chexpert_zip(path: Path, extra: dict[str, object]) -> Path:
    """The first checkpoint of each group of targets, with random weights, packed as the ensemble's zip is."""
    from torchxrayvision.baseline_models.chexpert import model

    config = json.loads((Path(model.__file__).parent / "predict_configs.json").read_text())
    firsts = {tuple(sorted(m[0].items())): m[0] for m in config["task2models"].values()}
    tasks = {task: i for i, task in enumerate(config["task2models"])}
    with zipfile.ZipFile(path, "w") as archive:
        for first in firsts.values():
            torch.manual_seed(len(archive.namelist()))
            net = torch.nn.DataParallel(model.DenseNet121(tasks, first["is_3class"], False))
            held = io.BytesIO()
            torch.save({"task_sequence": tasks, "model_state": net.state_dict(), "ckpt_info": {}, **extra}, held)
            archive.writestr(first["ckpt_path"], held.getvalue())
    return path


@pytest.mark.slow
def test_the_chexpert_ensemble_of_the_user_scores_as_the_library_does(tmp_path: Path) -> None:
    from torchxrayvision.baseline_models import chexpert

    path = chexpert_zip(tmp_path / "chexpert.zip", {})
    mine = adapter.chexpert(path, num_models=1)
    theirs = chexpert.DenseNet(weights_zip=str(path), num_models=1)
    images = torch.rand(1, 1, 320, 320)
    expected = theirs(images * 2048 - 1024).detach()
    torch.testing.assert_close(mine.scores(images), expected, atol=1e-4, rtol=0)
    assert mine.card.targets == tuple(theirs.targets)


def test_a_chexpert_checkpoint_runs_nothing_of_what_it_carries(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "ran").write_text, ("x",))

    path = chexpert_zip(tmp_path / "chexpert.zip", {"more": Evil()})
    with pytest.raises(WeightsError, match="is not the CheXpert ensemble's zip"):
        adapter.chexpert(path, num_models=1)
    assert not (tmp_path / "ran").exists()


def test_absent_weights_name_the_file_and_the_place(home: Path) -> None:
    for name in ("xrv:densenet121-res224-all", "xrv:jfhealthcare", "xrv:resnet50-res512-all"):
        with pytest.raises(WeightsError, match=r"are not on this machine .* put it into .*models_data"):
            load.load_classifier(name)
    for name in ("xrv:101-elastic", "xrv:cxr2-vqgan-768-sd"):
        with pytest.raises(WeightsError, match="are not on this machine"):
            load.load_autoencoder(name)
    with pytest.raises(WeightsError, match="expected the CheXpert ensemble's zip"):
        load.load_classifier("xrv:chexpert=/nowhere.zip")
    with pytest.raises(ModelError, match="no classifier is called 'nose'"):
        load.load_classifier("nose")


def test_a_checkpoint_runs_nothing_of_what_it_carries(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "ran").write_text, ("x",))

    path = tmp_path / "evil.pt"
    torch.save({"state_dict": {"a": torch.ones(1)}, "callback": Evil()}, path)
    with pytest.raises(WeightsError, match="expected a PyTorch checkpoint"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_a_damaged_checkpoint_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "half.pt").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(WeightsError, match="could not read it"):
        read_checkpoint(tmp_path / "half.pt")
