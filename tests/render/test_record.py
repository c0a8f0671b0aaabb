"""explanation.json and arrays.npz: exact names, strict JSON, round trip."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gifsplain.errors import InputError
from gifsplain.render import record
from gifsplain.types import Scores, Stop

from . import fakes


def strict(content: bytes):
    def refuse(text):
        raise AssertionError(text)

    return json.loads(content, parse_constant=refuse)


def test_names_that_others_rely_on():
    explanation = fakes.explanation(n=5)
    read = strict(record.encode_record(explanation))
    assert set(read["scores"]) == {"input", "reconstruction", "counterfactual"}
    assert read["strengths"] == explanation.strengths.tolist()
    assert read["frame_scores"] == explanation.frame_scores.tolist()
    assert read["stop"] == "reached" and read["stops"] == {"lower": "reached", "higher": "score_bound"}
    assert set(read["checks"][0]) == {"name", "verdict", "text", "value"}
    assert read["checks"][2]["verdict"] == "warn" and read["checks"][3]["value"] is None
    assert read["case"] == "RG1_UNCI" and read["target"] == "Mass" and read["method"] == "latent-shift"
    assert read["record"]["settings"]["drop"] == 0.3 and read["picture"]["size"] == [1955, 1841]
    assert len(read["target_scores"]) == 5 and len(read["target_scores"][0]) == len(read["targets"]) == 6


number = st.floats(allow_nan=True, allow_infinity=False)


@given(scores=st.builds(Scores, number, number, number), case=st.text(max_size=20), stop=st.sampled_from(Stop))
@settings(max_examples=60, deadline=None)
def test_read_of_write_is_the_record(tmp_path_factory, scores, case, stop):
    base = fakes.explanation(fakes.phantom(8), n=3)
    explanation = replace(base, scores=scores, case=case, target="A / b <i>", stop_lower=stop)
    path = tmp_path_factory.mktemp("r") / "explanation.json"
    path.write_bytes(record.encode_record(explanation))
    read, made = record.read_record(path), record.record_of(explanation)
    for field in vars(made):
        if field not in ("scores", "checks"):
            assert getattr(read, field) == getattr(made, field), field
    assert repr(read.scores) == repr(made.scores)  # where nan equals nan
    assert repr(read.checks) == repr(made.checks).replace("value=nan", "value=None")


def test_folder_of_an_explanation_can_be_read(tmp_path):
    (tmp_path / "explanation.json").write_bytes(record.encode_record(fakes.map_only()))
    read = record.read_record(tmp_path)
    assert math.isnan(read.scores.counterfactual) and read.stop is Stop.NOT_SEARCHED


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": "gifsplain explanation 1"}', b"\xff\xfe"])
def test_what_is_no_record_is_refused(tmp_path, content):
    path = tmp_path / "explanation.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="expected a record"):
        record.read_record(path)


def test_missing_record_is_refused(tmp_path):
    with pytest.raises(InputError, match="found no such file"):
        record.read_record(tmp_path / "explanation.json")


def test_values_that_are_not_json_are_refused():
    with pytest.raises(InputError, match="plain JSON values"):
        record.encode_record(replace(fakes.explanation(), record={"a": object()}))


def test_arrays_read_back_equal():
    explanation = fakes.explanation(n=4)
    with np.load(io.BytesIO(record.encode_arrays(explanation))) as read:
        assert sorted(read) == [
            "frame_scores", "frames", "image", "map", "reconstruction", "strengths", "target_scores",
        ]  # fmt: skip
        for name in read:
            assert (read[name] == getattr(explanation, name).numpy()).all() and read[name].dtype == np.float32
