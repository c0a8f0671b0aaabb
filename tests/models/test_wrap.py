"""Wrapping: value ranges, links, refusals; and the resize against scikit-image and torchxrayvision."""

import inspect

import numpy as np
import pytest
import skimage.transform
import torch
import torchvision
import torchxrayvision as xrv
from hypothesis import given
from hypothesis.strategies import integers

from gifsplain.errors import InputError, ModelError, TargetError
from gifsplain.explain.run import target_index
from gifsplain.models import wrap
from gifsplain.models.inspect import inspect_autoencoder, inspect_classifier
from gifsplain.models.prepare import to_image
from gifsplain.models.protocols import Autoencoder, Classifier, ModelCard
from gifsplain.models.resample import resize
from gifsplain.types import Picture, Provenance, ScoreMeaning


class Mean(torch.nn.Module):
    """Two outputs from the mean pixel of the native image."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean(dim=(1, 2, 3)) * self.scale
        return torch.stack([mean, -mean], dim=1)


def of(pixels: torch.Tensor) -> Picture:
    return Picture(pixels, Provenance("p", "", "test", tuple(pixels.shape[-2:]), 8))


def test_a_native_range_is_reached_and_left() -> None:
    model = wrap.classifier(
        Mean(), name="m", targets="ab", size=4, value_range=(-1024, 1024), meaning=ScoreMeaning.LOGIT
    )
    assert model.scores(torch.ones(1, 1, 4, 4))[0].tolist() == [1024, -1024]
    assert model.scores(torch.full((1, 1, 4, 4), 0.5))[0].tolist() == [0, 0]
    images = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(wrap.from_range(wrap.to_native(images, (-7, 3)), (-7, 3)), images)


@pytest.mark.parametrize("output", ["logits", "softmax_logits", "probabilities"])
def test_scores_are_the_declared_probabilities(output: wrap.Output) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    if output == "probabilities":
        net.append(torch.nn.Sigmoid())
    model = wrap.classifier(net, name="m", targets="abc", size=4, output=output)
    images = torch.rand(5, 1, 4, 4)
    expected = {"logits": torch.sigmoid, "softmax_logits": lambda r: r.softmax(1), "probabilities": lambda r: r}
    torch.testing.assert_close(model.scores(images), expected[output](net(images)), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(torch.sigmoid(model.logits(images)), model.scores(images))


def test_the_users_module_stays_as_it_is() -> None:
    net = torchvision.models.resnet18(num_classes=2)
    model = wrap.classifier(net, name="r", targets="ab", size=32, repeat=3)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    assert isinstance(model, Classifier)
    assert model.scores(torch.rand(2, 1, 32, 32)).shape == (2, 2)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.rand(1, 1, 5, 4), "takes images of shape b 1 4 4"),
        (torch.rand(1, 3, 4, 4), "takes images of shape b 1 4 4"),
    ],
)
def test_what_does_not_fit_is_refused(images: torch.Tensor, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        wrap.classifier(Mean(), name="m", targets="ab", size=4).scores(images)


def test_whole_numbers_are_refused() -> None:
    card = wrap.classifier(Mean(), name="m", targets="ab", size=4).card
    with pytest.raises(ModelError, match="takes floating-point images"):
        wrap._check(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), card)


def test_wrong_declarations_are_refused() -> None:
    with pytest.raises(ModelError, match="declares 3 targets, its output has shape"):
        wrap.classifier(Mean(), name="m", targets="abc", size=4).scores(torch.rand(1, 1, 4, 4))
    with pytest.raises(ModelError, match="has no encode"):
        wrap.autoencoder(Mean(), name="m", size=4)


def test_partners_must_fit_or_be_resized() -> None:
    net = xrv.autoencoders.ResNetAE()
    drawer = wrap.autoencoder(net, name="ae", size=224, value_range=(-1024, 1024))
    assert isinstance(drawer, Autoencoder)
    small = wrap.classifier(Mean(), name="m", targets="ab", size=32)
    with pytest.raises(ModelError, match="wrap the classifier with models.wrap.resized"):
        wrap.pair(small, drawer)
    models = wrap.pair(wrap.resized(small, 224), drawer)
    assert models.classifier.scores(torch.rand(1, 1, 224, 224)).shape == (1, 2)
    assert models.classifier.card.details["resized_from"] == 224


@given(integers(64, 400), integers(64, 400), integers(5, 64))
def test_resize_equals_scikit_image(height: int, width: int, size: int) -> None:
    image = np.random.default_rng(height * 1000 + width).random((height, width)).astype(np.float32)
    expected = skimage.transform.resize(image, (size, size), order=1, mode="constant", cval=0.5, anti_aliasing=True)
    got = resize(torch.from_numpy(image)[None], (size, size), border=0.5)[0].numpy()
    assert np.abs(expected - got).max() < 1e-5


@pytest.mark.parametrize("shape", [(300, 250), (251, 300), (700, 1001), (224, 224)])
def test_preparation_equals_torchxrayvisions_own_transforms(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    native = xrv.utils.normalize(image, 255, reshape=True)
    expected = xrv.datasets.XRayResizer(224)(xrv.datasets.XRayCenterCrop()(native))
    picture = of(torch.from_numpy(image / 255)[None])
    got = to_image(picture, ModelCard("xrv", "classifier", 224, value_range=(-1024, 1024))) * 2048 - 1024
    assert np.abs(got.numpy() - expected).max() < 0.05  # of a range of 2048


def test_colour_is_not_dropped_in_silence() -> None:
    with pytest.raises(InputError, match="the picture has 3; load it with colour='grey'"):
        to_image(of(torch.rand(3, 9, 9)), ModelCard("m", "classifier", 8))


def test_inspection_finds_a_second_sigmoid_a_dead_output_and_a_detached_input() -> None:
    class Twice(Mean):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images * 4 - 2).sigmoid()

    twice = {c.name: c for c in inspect_classifier(wrap.classifier(Twice(), name="t", targets="ab", size=8))}
    assert "second sigmoid" in twice["meaning"].text
    dead = {c.name: c for c in inspect_classifier(wrap.classifier(Mean(0.0), name="d", targets="ab", size=8))}
    assert dead["depends on the image"].verdict.value == "fail"
    assert dead["gradient"].verdict.value == "fail"
    fine = inspect_classifier(wrap.classifier(Mean(3.0), name="f", targets="ab", size=8, value_range=(-1, 1)))
    assert [c.verdict.value for c in fine] == ["pass"] * 5


def test_inspection_of_an_autoencoder() -> None:
    class Same(torch.nn.Module):
        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        def decode(self, z: torch.Tensor) -> torch.Tensor:
            return z / 2

    found = inspect_autoencoder(wrap.autoencoder(Same(), name="same", size=8))
    assert [c.verdict.value for c in found] == ["pass"] * 4


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (torch.rand(1, 9, 9) * 255, r"in \[0, 1\], got \[.*\]; scale them"),
        (torch.rand(1, 9, 9) - 0.5, r"in \[0, 1\], got"),
        (torch.zeros(1, 9, 9, dtype=torch.uint8), "float32 tensor in .*, got torch.uint8"),
        (torch.rand(1, 9, 9, dtype=torch.float64), "got torch.float64"),
        (np.zeros((1, 9, 9), np.float32), "got ndarray"),
        (torch.rand(9, 9), r"axes c h w, got \(9, 9\)"),
        (torch.rand(1, 1, 9, 9), "axes c h w"),
        (torch.rand(1, 0, 9), "axes c h w"),
        (torch.rand(1, 9, 9, device="meta"), "with values"),
    ],
)
def test_pictures_that_are_not_what_they_say_are_refused(pixels: object, words: str) -> None:
    picture = Picture(pixels, Provenance("mine", "", "test", (9, 9), 8))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"mine: expected pixels .*{words}"):
        to_image(picture, ModelCard("m", "classifier", 8))


def test_rounding_and_graphs_of_a_picture_are_left_behind() -> None:
    pixels = (torch.rand(1, 9, 9, generator=torch.Generator().manual_seed(0)) * 1.0005).requires_grad_(True)
    image = to_image(of(pixels), ModelCard("m", "classifier", 9))
    assert not image.requires_grad and image.min() >= 0 and image.max() <= 1


def test_a_meaning_may_be_given_as_its_text() -> None:
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model = wrap.classifier(Mean(9.0), name="m", targets="ab", size=8, meaning="logit")
    assert model.card.meaning is ScoreMeaning.LOGIT
    assert torch.equal(model.scores(images), model.logits(images)) and model.scores(images).max() > 1


def test_any_list_of_targets_is_taken_and_what_is_asked_for_must_be_one() -> None:
    """ImageNet's has a crane and a crane, a Cardigan and a cardigan; torchxrayvision's has heads without a name."""
    names = ("crane", "Cardigan", "cardigan", "", "crane", "Mass")
    card = inspect.unwrap(wrap.classifier)(Mean(), name="m", targets=names, size=np.int64(8)).card
    assert card.targets[3] == "(unused 3)" and type(card.size) is int
    assert [target_index(card, name) for name in ("Cardigan", "cardigan", "mASS")] == [1, 2, 5]
    for name, places in (("crane", "0, 4"), ("CARDIGAN", "1, 2")):
        with pytest.raises(TargetError, match=rf"m has 2 outputs that are called '{name}' \(numbers {places}\)"):
            target_index(card, name)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"meaning": "odds"}, "expected meaning to be one of logit, probability, calibrated probability, got 'odds'"),
        ({"output": "odds"}, "expected output to be one of logits, softmax_logits, probabilities, got 'odds'"),
        ({"size": True}, "expected size as one whole number, .* got True"),
        ({"value_range": (1.0, 1.0)}, r"expected value_range as \(black, white\), .* got \(1.0, 1.0\)"),
        ({"net": torch.sigmoid}, "expected a torch.nn.Module, got builtin"),
    ],
)
def test_declarations_that_make_no_sense_are_refused(values: dict[str, object], words: str) -> None:
    """Without the checker of types, which only tests have."""
    given = {"net": Mean(), "name": "m", "targets": ("a", "b"), "size": 8, **values}
    with pytest.raises(ModelError, match=f"m: {words}"):
        inspect.unwrap(wrap.classifier)(**given)  # type: ignore[arg-type]


def test_networks_that_return_more_than_a_tensor_are_named() -> None:
    class Odd(torch.nn.Module):
        def __init__(self, *given: object) -> None:
            super().__init__()
            self.given = given

        def forward(self, images: torch.Tensor) -> object:
            return self.given

        def encode(self, images: torch.Tensor) -> object:
            return self.given

        def decode(self, latents: torch.Tensor) -> object:
            return self.given[0]

    images = torch.rand(2, 1, 8, 8)
    with pytest.raises(ModelError, match="m gives tuple, expected one tensor"):
        wrap.classifier(Odd(), name="m", targets="ab", size=8, meaning=ScoreMeaning.LOGIT).scores(images)
    drawer = wrap.autoencoder(Odd(torch.rand(2, 1, 4, 4)), name="d", size=8)
    with pytest.raises(ModelError, match="encode of d gives tuple"):
        drawer.encode(images)
    with pytest.raises(ModelError, match=r"d declares images of shape \(2, 1, 8, 8\), its decode gives \(2, 1, 4, 4\)"):
        drawer.decode(torch.rand(2, 3))
