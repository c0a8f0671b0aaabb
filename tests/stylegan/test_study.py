"""Direction pages become a reader study that the study tool takes, serves and exports."""

import pandas as pd
import pytest
import torch
from PIL import Image
from sqlmodel import select
from typer.testing import CliRunner

from gifsplain.cli import app
from gifsplain.errors import InputError
from gifsplain.explain import fits
from gifsplain.render import direction_study
from gifsplain.render.direction_study import ReadCase, StudyPlan
from gifsplain.study import config as study_config
from gifsplain.study import create, intake
from gifsplain.study.store import answers, people
from gifsplain.study.store.records import Presentation

from . import planted

PLAN = StudyPlan("eigenfind", ("wanted",), ranks=2, per_target=4)


@pytest.fixture
def pair(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = planted.eigen_pair(3)[0]
    images = found.autoencoder.decode(planted.latents(30, scale=0.03))
    settings = fits.FitSettings(candidates=6, kept=3, degree=1.0, attfind_images=0)
    fits.save(fits.fit_pair(found, images, settings), fits.cache_path(found))
    return found


def cases_of(pair, count=24):
    """Every second image has the finding."""
    images = pair.autoencoder.decode(planted.latents(count, seed=4, scale=0.03))
    return [ReadCase(f"chest/{i}.png", frozenset({"wanted"} if i % 2 else ()), image) for i, image in enumerate(images)]


def test_a_study_of_directions_is_taken_by_the_study_tool(pair, tmp_path):
    cases = direction_study.write_study(pair, cases_of(pair), PLAN, tmp_path / "made")
    text = (cases.parent / "study.yaml").read_text()
    config = study_config.parse(text)
    assert [c.key for c in config.conditions] == ["rank-1", "rank-2"]
    pool = intake.read_cases(cases, config)
    assert len(pool) == config.cases.per_target
    assert pool["truth"].mean() == 0.5
    assert (pool["score"] > 0.5).all()
    with Image.open(next((cases.parent / "pictures").glob("*-animation.gif"))) as animation:
        assert animation.width == animation.height, "the player's bar would cover the strip of scores"
    create.create(create.Plan(tmp_path / "study", text), pool)
    assert len(list((tmp_path / "study" / "media").iterdir())) == len(pool) * (1 + 2 * 3)


def test_what_readers_see_comes_out_as_comments(pair, tmp_path):
    cases = direction_study.write_study(pair, cases_of(pair), PLAN, tmp_path / "made")
    text = (cases.parent / "study.yaml").read_text()
    create.create(create.Plan(tmp_path / "study", text), intake.read_cases(cases, study_config.parse(text)))
    store = create.open_study(tmp_path / "study")
    try:
        people.add_readers(store, ["reader-1"])
        with store.read() as session:
            page = session.exec(select(Presentation).order_by(Presentation.read, Presentation.position)).first()
            key, condition, reader = page.key, page.condition, page.person_id
        seen = "the heart gets wider, and so does the aorta"
        assert answers.comment(store, answers.Write(reader, key, "first"), seen) is answers.Outcome.SAVED
        for question, value in (("visible", 4), ("belongs", 2)):
            answers.answer(store, answers.Write(reader, key, f"request-{question}"), question, value)
    finally:
        store.close()
    done = CliRunner().invoke(app, ["study", "export", str(tmp_path / "study"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    (row,) = pd.read_csv(tmp_path / "out" / "comments.csv").to_dict("records")
    assert row["comment"] == seen
    assert (row["condition"], row["reader"], row["target"]) == (condition, "reader-1", "wanted")


def test_cases_are_certain_balanced_and_used_once(pair):
    cases = cases_of(pair)
    scores = torch.cat([pair.classifier.scores(case.image[None]) for case in cases])
    both = StudyPlan("eigenfind", ("wanted", "other"), per_target=4)
    known = [ReadCase(c.name, c.findings | ({"other"} if i % 3 else set()), c.image) for i, c in enumerate(cases)]
    chosen = direction_study.choose(scores, ("wanted", "other"), known, both)
    places = [i for part in chosen.values() for i in part]
    assert len(set(places)) == len(places)
    for target, part in chosen.items():
        truth = [target in known[i].findings for i in part]
        assert sum(truth) * 2 == len(truth)
        assert (scores[part, both.targets.index(target)] > 0.5).all()


def test_what_cannot_be_studied_is_refused(pair, tmp_path):
    with pytest.raises(InputError, match="expected 9 directions"):
        direction_study.write_study(pair, cases_of(pair), StudyPlan("eigenfind", ("wanted",), ranks=9), tmp_path / "x")
    healthy = [ReadCase(case.name, frozenset(), case.image) for case in cases_of(pair)]
    with pytest.raises(InputError, match="none of wanted, true"):
        direction_study.write_study(pair, healthy, PLAN, tmp_path / "x")
