"""bfloat16: near the float32 result, its error measured and stated, float32 untouched."""

import pytest
import torch

from gifsplain.errors import InputError, ModelError
from gifsplain.explain.latent_shift import LatentShift
from gifsplain.explain.methods import explain_with
from gifsplain.explain.run import explain
from gifsplain.explain.settings import Settings
from gifsplain.models import precision
from gifsplain.models.load import find_device, load_models
from gifsplain.types import Explanation

from .fakes import pair, picture

SCORE_TOLERANCE = 0.02
PIXEL_TOLERANCE = 0.02


def made(number_format: precision.Precision, **settings: object) -> list[Explanation]:
    pictures = [picture(seed) for seed in range(4)]
    chosen = Settings(frames=7, precision=number_format, **settings)  # type: ignore[arg-type]
    return explain(pair(), LatentShift(), pictures, ["A"], chosen)


def test_frames_and_scores_stay_near_those_of_float32() -> None:
    for exact, rough in zip(made("float32", strengths=(-1, 1)), made("bf16", strengths=(-1, 1)), strict=True):
        assert rough.frames.dtype == rough.frame_scores.dtype == torch.float32
        assert not torch.equal(exact.frames, rough.frames)  # something was shortened
        torch.testing.assert_close(exact.frames, rough.frames, rtol=0, atol=PIXEL_TOLERANCE)
        torch.testing.assert_close(exact.frame_scores, rough.frame_scores, rtol=0, atol=SCORE_TOLERANCE)


def test_the_stated_error_is_the_difference_to_the_float32_frame() -> None:
    models = pair()
    for one in made("bf16"):
        (check,) = [check for check in one.checks if check.name == "rounding"]
        move_free = one.record["rounding_error"]
        true_score = float(models.classifier.scores(one.frames[one.counterfactual][None])[0, 0])
        assert check.value == move_free["score"]
        # the score of the shown pixels in float32 lies between: both errors are small
        assert abs(true_score - one.scores.counterfactual) <= SCORE_TOLERANCE
        assert move_free["score"] <= SCORE_TOLERANCE and 0 < move_free["pixel_largest"] <= PIXEL_TOLERANCE
        assert move_free["pixel_mean"] <= move_free["pixel_largest"]


def test_a_map_method_says_that_it_draws_in_float32(caplog: pytest.LogCaptureFixture) -> None:
    found = {
        chosen: explain_with("grad", pair(), [picture()], ["A"], Settings(precision=chosen))[0]
        for chosen in precision.PRECISIONS
    }
    assert torch.equal(found["bf16"].map, found["float32"].map)
    assert found["bf16"].record["settings"]["precision"] == "float32"
    assert [entry.getMessage() for entry in caplog.records if entry.name.endswith("drawn")] == [
        "grad draws its map in float32; precision bf16 is for sweeps"
    ]


def test_float32_has_no_such_check() -> None:
    assert all(check.name != "rounding" for one in made("float32") for check in one.checks)
    models = pair()
    assert precision.lowered(models, "float32") is models


def test_a_model_that_cannot_be_reached_is_refused() -> None:
    models = pair()

    class Own:
        card = models.autoencoder.card
        encode, decode = models.autoencoder.encode, models.autoencoder.decode

    hidden = type(models)(models.classifier, Own())
    with pytest.raises(InputError, match=r"bf16 needs a model of models\.wrap"):
        precision.lowered(hidden, "bf16")


def test_devices_have_names() -> None:
    models = pair()
    assert load_models(models.classifier, models.autoencoder, device="cpu").device == torch.device("cpu")
    assert find_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ModelError, match="expected a device of this machine"):
        find_device("no-such-device")
    with pytest.raises(ModelError, match="found it on cpu"):
        load_models(models.classifier, models.autoencoder, device="meta")


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="precision must be one of float32, bf16"):
        Settings(precision="half")  # type: ignore[arg-type]


@pytest.mark.parametrize(("bf16", "amx", "helps"), [(False, False, False), (True, False, True), (False, True, True)])
def test_only_real_bfloat16_helps(monkeypatch: pytest.MonkeyPatch, bf16: bool, amx: bool, helps: bool) -> None:
    """oneDNN says yes to any AVX-512, and emulates."""
    monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert precision.helps(torch.device("cpu")) is helps
    assert not precision.helps(torch.device("mps"))
