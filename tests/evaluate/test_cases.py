"""Manifests, boxes and masks as people write them: patients, numbers, separators."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from gifsplain.errors import InputError
from gifsplain.evaluate import bootstrap, cases, directions_verdict, tables, verdicts
from gifsplain.evaluate.config import Setup

World = Callable[..., Setup]


def write(setup: Setup, *rows: str, separator: str = ",") -> None:
    lines = ["path,source,patient_id,labels,split", *rows]
    setup.manifest.write_text("\n".join(line.replace(",", separator) for line in lines) + "\n")


def test_rows_without_a_patient_are_not_one_patient(world: World) -> None:
    """The interval is that of all resamples of three pictures, 27 of them, written out."""
    setup = world()
    write(setup, "a.png,x,,Mass,val", "b.png,x, ,Mass,val", "c.png,x,,Mass,val")
    patients = [case.patient for case in cases.load_cases(setup)]
    assert patients == ["a.png", "b.png", "c.png"]
    values = np.array([0.1, 0.2, 0.6])
    every = [np.mean(draw) for draw in itertools.product(values, repeat=3)]
    found = bootstrap.mean_interval(values, patients)
    assert (found.low, found.high) == pytest.approx((min(every), max(every)))


def test_text_of_a_manifest_stays_as_it_is_written(world: World) -> None:
    setup = world(where=("source=01",), sources=("01",))
    write(setup, "001,01,007,Mass,val", "2,01,7,NA,val", "3.50,01,7.0,,val", "4,1,9,Mass,val")
    found = cases.load_cases(setup)
    assert [case.key for case in found] == ["001", "2", "3.50"]
    assert [case.path.name for case in found] == ["001", "2", "3.50"]
    assert [case.patient for case in found] == ["007", "7", "7.0"]
    assert [case.labels for case in found] == [{"Mass"}, {"NA"}, set()]
    assert [case.labelled for case in found] == [True, True, False]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_are_read_as_elsewhere(world: World, separator: str) -> None:
    setup = world()
    expected = cases.marked(setup, cases.load_cases(setup), "Effusion")
    for path in (setup.manifest, setup.box_file, setup.mask_file):
        path.write_text(path.read_text().replace(",", separator))
    assert cases.marked(setup, cases.load_cases(setup), "Effusion") == expected
    assert sum(len(case.boxes) for case in expected) >= 4


def test_a_box_that_is_no_number_is_named(world: World) -> None:
    setup = world()
    pool = cases.load_cases(setup)
    for bad in ("", "wide", "nan", "inf"):
        setup.box_file.write_text(f"path,label,x,y,w,h\nval-0.png,Mass,1,2,3,4\nval-3.png,Mass,1,2,{bad},4\n")
        with pytest.raises(InputError, match=rf"boxes\.csv, row 3: expected a number in w, got '{bad}'"):
            cases.marked(setup, pool, "Mass")


def test_rows_that_do_not_fit_the_header_are_named(world: World) -> None:
    setup = world()
    write(setup, "a.png,x,p,Mass,val", "b.png,x,p")
    with pytest.raises(InputError, match="row 3: fewer fields"):
        cases.load_cases(setup)
    setup.manifest.write_text("path,labels,split\n")
    with pytest.raises(InputError, match="no rows for split 'val'"):
        cases.load_cases(setup)


def test_one_patient_has_no_interval_and_no_verdict() -> None:
    values, patients = np.array([0.2, 0.3, 0.4]), ["p", "p", "p"]
    mean = bootstrap.mean_interval(values, patients)
    other = bootstrap.statistic_interval(lambda rows: float(values[rows].mean()), patients)
    for found in (mean, other):
        assert found.value == pytest.approx(0.3)
        assert np.isnan([found.low, found.high]).all()
    over = {"over_random-map": mean.value, "over_random-map_low": mean.low, "over_random-map_high": mean.high}
    row = {"classifier": "one", "target": "Mass", "method": "grad", "n": 3, **over}
    shown = tables.against_controls(pd.DataFrame([row]), ("random-map",))
    assert shown["IoU over random-map"].tolist() == ["0.30"]


def test_a_finder_on_one_patient_is_not_told_apart() -> None:
    common = {"by": "budget", "at": 0.03, "target": "Mass", "raises": True, "selection": "independent", "patient": "p"}
    rows = pd.DataFrame(
        [
            {**common, "method": method, "image": image, "explained": method == "eigenfind"}
            for method in ("eigenfind", "random", "pca")
            for image in range(4)
        ]
    )
    (said,) = directions_verdict.sentences(rows, 0.03)
    assert said == "eigenfind within a mean change of 0.03, less random +1.00, less pca +1.00: not above both controls."


def test_a_manifest_without_split_is_not_measured_as_if_it_were_one(world: World) -> None:
    setup = world()
    table = pd.read_csv(setup.manifest).drop(columns="split")
    table.to_csv(setup.manifest, index=False)
    with pytest.raises(InputError, match="has no column split to look for 'val' in; add it, or name 'all' instead"):
        cases.load_cases(setup)
    assert len(cases.load_cases(replace(setup, split="all"))) == len(table)


@pytest.mark.parametrize(("difference", "word"), [(0.12, "lose 0.120"), (-0.02, "gain 0.020")])
def test_a_gain_is_not_called_a_negative_loss(difference: float, word: str) -> None:
    (said,) = verdicts.reconstruction(pd.DataFrame({"label": ["Positive"], "difference": [difference]}))
    assert word in said and "-" not in said.split("(")[0]
