"""What may enter a study, and where its server may listen: pictures, facts, files, addresses."""

from pathlib import Path

import pytest
from PIL import Image

from gifsplain.cli import main
from gifsplain.errors import ConfigurationError, InputError
from gifsplain.study import config, create, intake, pictures
from gifsplain.study.web.serving import Listen, serving

from . import drawn
from .conftest import SECRET, SMALL, Study


def test_bad_pictures_harm_nothing(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    drawn.grey(drawn.phantom(0, 32)).save(good, pnginfo=None)
    stored = pictures.store(good, tmp_path, "image")
    assert (stored.width, stored.frames) == (32, 1)
    for name, data, message in (
        ("text.png", b"hello", "cannot be decoded"),
        ("cut.png", good.read_bytes()[:200], "cannot be decoded"),
        ("film.mp4", b"\0\0\0\x18ftypmp42" + b"\0" * 50, "cannot be decoded"),
        ("evil.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "cannot be decoded"),
        ("vector.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be decoded"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(InputError, match=message):
            pictures.store(path, tmp_path, "image")
    Image.new("L", (40_000, 1_000)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="pixels"):
        pictures.store(tmp_path / "bomb.png", tmp_path, "image")
    with pytest.raises(InputError, match="found none at"):
        pictures.store(tmp_path / "absent.png", tmp_path, "image")
    frames = [Image.new("L", (8, 8), i % 255) for i in range(pictures.MAX_FRAMES + 5)]
    frames[0].save(tmp_path / "long.gif", save_all=True, append_images=frames[1:], duration=20)
    with pytest.raises(InputError, match="at most 120 frames"):
        pictures.store(tmp_path / "long.gif", tmp_path, "animation")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("fact.patient_name", "Doe", "may identify a patient"),
        ("fact.MRN", "1", "may identify a patient"),
        ("fact.Study Date", "x", "may identify a patient"),
        ("fact.note", "born 1961-02-03", "looks like a date"),
        ("fact.note", "19610203", "looks like a date"),
        ("fact.note", "3.2.1961", "looks like a date"),
        ("fact.age", "94", "above 89"),
        ("fact.note", "x" * 70, "longer than 60"),
    ],
)
def test_facts_that_identify_patients_are_refused(tmp_path: Path, column: str, value: str, message: str) -> None:
    setup = config.load(SMALL)
    path = drawn.cases_csv(tmp_path, setup, per_stratum=1, side=16)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0] + f",{column}", *(f"{line},{value}" for line in lines[1:])]))
    with pytest.raises(InputError, match=message):
        intake.read_cases(path, setup)


def test_listening_beyond_loopback_needs_a_secret_a_name_and_tls(study: Study, tmp_path: Path) -> None:
    folder = study.folder
    assert serving(folder, Listen()).hosts == ("127.0.0.1", "localhost", "[::1]")
    (folder / "secret").unlink()  # as after unpacking a backup
    assert len(serving(folder, Listen()).secret) > 32 and (folder / "secret").stat().st_mode & 0o077 == 0
    secret = tmp_path / "secret"
    for host in ("0.0.0.0", "::", "192.0.2.1", "study.example"):
        with pytest.raises(ConfigurationError, match="expected --secret-file .* TLS"):
            serving(folder, Listen(host))
    secret.write_text("short")
    with pytest.raises(ConfigurationError, match="at least 32 random characters"):
        serving(folder, Listen("0.0.0.0", secret_file=secret))
    secret.write_text("a" * 50)
    with pytest.raises(ConfigurationError, match="at least 32 random characters"):
        serving(folder, Listen("0.0.0.0", secret_file=secret))
    secret.write_text(SECRET)
    with pytest.raises(ConfigurationError, match="expected TLS"):
        serving(folder, Listen("0.0.0.0", "study.example", secret_file=secret))
    with pytest.raises(ConfigurationError, match="--public-name"):
        serving(folder, Listen("0.0.0.0", secret_file=secret, tls=True))
    with pytest.raises(ConfigurationError, match="outside the study folder"):
        serving(folder, Listen("0.0.0.0", "study.example", secret_file=folder / "secret", tls=True))
    with pytest.raises(ConfigurationError, match="expected --secret-file"):
        serving(folder, Listen("127.0.0.1", "study.example", behind_proxy=True))
    wide = serving(folder, Listen("0.0.0.0", "study.example", secret_file=secret, tls=True))
    assert wide.secure and wide.hosts[0] == "study.example" and SECRET not in repr(wide)


def test_study_files_are_private(study: Study, tmp_path: Path) -> None:
    setup = config.load(SMALL)
    cases = drawn.cases_csv(tmp_path, setup, per_stratum=3, side=16)
    create.create(create.Plan(tmp_path / "new", SMALL.read_text()), intake.read_cases(cases, setup))
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    for name in ("secret", "key.csv"):
        assert (tmp_path / "new" / name).stat().st_mode & 0o077 == 0
    with pytest.raises(InputError, match="which exists"):
        create.create(create.Plan(tmp_path / "new", SMALL.read_text()), intake.read_cases(cases, setup))


def test_a_folder_that_is_no_study_is_not_said_to_be_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["study", "serve", str(tmp_path / "nowhere")])
    said = capsys.readouterr()
    assert "Serving" not in said.out and "nowhere" in said.err
