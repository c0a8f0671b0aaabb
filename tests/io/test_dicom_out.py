"""Explanations as DICOM: they read back equal, say that they are synthetic, name nobody unless asked, and are valid."""

import copy
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import torch
from pydicom import dcmread, dcmwrite
from pydicom.uid import ComputedRadiographyImageStorage

from gifsplain.errors import DicomError, InputError
from gifsplain.io import dicom_draw
from gifsplain.io.dicom_out import Derived, write_dicom, write_segmentation
from gifsplain.io.dicom_study import Study, remove_written
from gifsplain.types import Explanation, Picture, Provenance, ScoreMeaning, Scores, Stop

from .dicom_maker import SECRET, file_bytes, radiograph

KINDS = ("cine", "overlay", "image", "segmentation")
SECRETS = (SECRET, "Doe", "SECRET-ID-77", "SECRET-ACC", "19010203", "20200102")


def derived(height=120, width=128, frames=4, target="Mass"):
    rng = np.random.default_rng(0)
    heat = np.zeros((height, width), np.float32)
    heat[height // 4 : height // 2, width // 4 : width // 2] = np.linspace(0.1, 0.4, width // 2 - width // 4)
    return Derived(
        target=target,
        method="latent-shift",
        image=rng.random((height, width), np.float32),
        frames=rng.random((frames, height, width), np.float32),
        scores=np.linspace(0.2, 0.9, frames, dtype=np.float32),
        map=heat,
        meaning="calibrated probability",
    )


@pytest.fixture(scope="module")
def source():
    dataset = radiograph(np.arange(120 * 128).reshape(120, 128) % 4096)
    dataset.PatientName = "Müller^Jörg=Doe"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    return dataset


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    given = derived()
    return given, {kind: dcmread(path) for kind, path in write_dicom(given, tmp_path_factory.mktemp("fresh")).items()}


def test_pixels_read_back_equal(fresh):
    given, objects = fresh
    assert tuple(objects) == ("cine", "overlay", "image", "segmentation")
    cine = objects["cine"].pixel_array
    np.testing.assert_array_equal(cine[:, :120], np.rint(given.frames * 255))
    np.testing.assert_array_equal(objects["image"].pixel_array, np.rint(given.image * 255))
    np.testing.assert_array_equal(objects["segmentation"].pixel_array, given.map >= 0.5 * given.map.max())
    painted = objects["overlay"].pixel_array[:120]
    np.testing.assert_array_equal(painted, np.rint(dicom_draw.paint(given.image, given.map) * 255))
    outside = given.map == 0
    np.testing.assert_array_equal(painted[outside], np.rint(given.image * 255)[outside][:, None].repeat(3, 1))


def test_an_overlay_drawn_elsewhere_is_taken(tmp_path):
    given = derived()
    drawn = np.random.default_rng(1).random((120, 128, 3), np.float32)
    given = Derived(**{**given.__dict__, "overlay": drawn})
    paths = write_dicom(given, tmp_path)
    np.testing.assert_array_equal(dcmread(paths["overlay"]).pixel_array[:120], np.rint(drawn * 255))


@pytest.mark.parametrize("kind", KINDS)
def test_everything_says_that_it_is_synthetic(fresh, kind):
    dataset = fresh[1][kind]
    assert list(dataset.ImageType)[:2] == (
        ["DERIVED", "SECONDARY"] if kind != "segmentation" else ["DERIVED", "PRIMARY"]
    )
    assert "not for diagnosis" in dataset.SeriesDescription
    assert "Mass" in dataset.SeriesDescription
    assert "Not for diagnosis" in dataset.ImageComments
    assert dataset.ContributingEquipmentSequence[0].Manufacturer == "gifsplain"
    if kind != "segmentation":
        assert "SYNTHETIC" in dataset.DerivationDescription
        assert dataset.BurnedInAnnotation == "NO"


def test_the_cine_plays_there_and_back_with_a_score_below_each_frame(fresh):
    given, objects = fresh
    cine = objects["cine"]
    assert (cine.NumberOfFrames, float(cine.FrameTime), cine.PreferredPlaybackSequencing) == (4, 100.0, 1)
    strips = cine.pixel_array[:, 120:]
    assert strips.shape[1] > 10
    assert all(strip.max() > 150 for strip in strips)
    assert len({strip.tobytes() for strip in strips}) == len(given.scores)
    assert cine.ImageComments.endswith("0.2, 0.4333, 0.6667, 0.9")


def test_a_narrow_image_gets_no_caption(tmp_path):
    paths = write_dicom(derived(16, 24), tmp_path)
    assert dcmread(paths["cine"]).pixel_array.shape == (4, 16, 24)


@pytest.mark.parametrize("size", [(120, 128), (64, 64)])
def test_without_leave_they_join_the_study_but_name_nobody(tmp_path, source, size):
    paths = write_dicom(derived(*size), tmp_path, source)
    assert len(paths) == (3 if size == (120, 128) else 4)
    for path in paths.values():
        content = path.read_bytes()
        for secret in (*SECRETS, "Müller"):
            assert secret.encode("utf-8") not in content
            assert secret.encode("latin-1") not in content
        dataset = dcmread(path)
        assert (dataset.PatientName, dataset.PatientIdentityRemoved) == ("Anonymous^Synthetic", "YES")
        assert (dataset.StudyInstanceUID, dataset.StudyDate) == (source.StudyInstanceUID, "")
        assert dataset.SeriesInstanceUID != source.SeriesInstanceUID


def test_without_a_dicom_source_the_study_is_new(tmp_path):
    studies = {dcmread(write_dicom(derived(), tmp_path)["cine"]).StudyInstanceUID for _ in range(2)}
    assert len(studies) == 2


def test_with_leave_they_join_the_study_in_new_series(tmp_path, source):
    paths = write_dicom(derived(), tmp_path, source, keep_identity=True)
    objects = {kind: dcmread(path) for kind, path in paths.items()}
    assert set(objects) == {"cine", "overlay", "segmentation"}  # the source itself is the image
    for dataset in objects.values():
        assert dataset.StudyInstanceUID == source.StudyInstanceUID
        assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
        assert str(dataset.PatientName) == "Müller^Jörg=Doe"
        assert dataset.PatientID == "SECRET-ID-77"
        assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert dataset.SourceImageSequence[0].ReferencedSOPClassUID == ComputedRadiographyImageStorage
    assert objects["cine"].SeriesInstanceUID == objects["overlay"].SeriesInstanceUID
    assert objects["cine"].SeriesInstanceUID != objects["segmentation"].SeriesInstanceUID
    assert len({dataset.SOPInstanceUID for dataset in objects.values()}) == 3


def test_a_map_of_another_size_than_the_source_refers_to_the_written_image(tmp_path, source):
    paths = write_dicom(derived(64, 64), tmp_path, source, keep_identity=True)
    image, segmentation = dcmread(paths["image"]), dcmread(paths["segmentation"])
    (series,) = segmentation.ReferencedSeriesSequence
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID


def test_several_targets_share_one_study_with_series_of_their_own(tmp_path):
    study = Study.of()
    one = write_dicom(derived(target="Mass"), tmp_path / "a", study)
    two = write_dicom(derived(target="Effusion"), tmp_path / "b", study)
    first, second = dcmread(one["cine"]), dcmread(two["cine"])
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.PatientID == second.PatientID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.SeriesNumber != second.SeriesNumber


def test_burnt_in_identity_and_lossy_compression_are_carried_on(tmp_path, source):
    burnt = radiograph(np.arange(64).reshape(8, 8), BurnedInAnnotation="YES", LossyImageCompression="01")
    burnt.LossyImageCompressionRatio = 10
    burnt.LossyImageCompressionMethod = "ISO_10918_1"
    dataset = dcmread(write_dicom(derived(), tmp_path, burnt)["cine"])
    assert (dataset.BurnedInAnnotation, dataset.PatientIdentityRemoved) == ("YES", "NO")
    assert (dataset.LossyImageCompression, dataset.LossyImageCompressionRatio) == ("01", 10)


def test_a_map_of_zeros_gives_no_segmentation(tmp_path):
    given = derived()
    still = Derived(**{**given.__dict__, "map": np.zeros_like(given.map)})
    paths = write_dicom(still, tmp_path)
    assert "segmentation" not in paths
    shown = dcmread(paths["image"])
    with pytest.raises(InputError, match="nothing to segment"):
        write_segmentation(still, tmp_path / "s.dcm", Study.of(), shown)


def test_requests_that_do_not_fit(tmp_path, source):
    given = derived()
    with pytest.raises(InputError, match="of one size"):
        Derived(**{**given.__dict__, "map": np.zeros((3, 3), np.float32)})
    with pytest.raises(InputError, match="threshold above 0"):
        Derived(**{**given.__dict__, "threshold": 0.0})
    with pytest.raises(InputError, match="DICOM source to keep"):
        write_dicom(given, tmp_path, None, keep_identity=True)
    (tmp_path / "x.dcm").write_bytes(b"rubbish")
    with pytest.raises(DicomError, match="cannot be read"):
        write_dicom(given, tmp_path, tmp_path / "x.dcm", keep_identity=True)


def test_strange_target_names_make_valid_text(tmp_path):
    paths = write_dicom(derived(target="Läsion\\links\n" + "x" * 80), tmp_path)
    title = dcmread(paths["cine"]).SeriesDescription
    assert isinstance(title, str)
    assert len(title) <= 64
    assert "Läsion links" in title


def test_an_explanation_becomes_plain_arrays():
    given = derived(8, 8)
    record = Provenance("x", "0", "PNG", (8, 8), 8)
    explanation = Explanation(
        case="x",
        method="latent-shift",
        target="Mass",
        meaning=ScoreMeaning.CALIBRATED,
        picture=Picture(torch.zeros(1, 8, 8), record),
        image=torch.from_numpy(given.image)[None],
        reconstruction=torch.zeros(1, 8, 8),
        frames=torch.from_numpy(given.frames)[:, None],
        strengths=torch.linspace(-1, 1, 4),
        strength_unit="lambda",
        frame_scores=torch.from_numpy(given.scores),
        targets=("Mass",),
        target_scores=torch.zeros(4, 1),
        scores=Scores(0.5, 0.5, 0.2),
        counterfactual=0,
        stop_lower=Stop.REACHED,
        stop_higher=Stop.REACHED,
        map=torch.from_numpy(given.map),
        map_name="max",
        composition="residual",
    )
    got = Derived.of(explanation)
    for name in ("image", "frames", "scores", "map"):
        np.testing.assert_array_equal(getattr(got, name), getattr(given, name))
    assert (got.target, got.method, got.meaning) == ("Mass", "latent-shift", "calibrated probability")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
@pytest.mark.parametrize("kind", ["fresh", "nameless", "kept", "kept, other size"])
def test_dciodvfy_finds_no_error(tmp_path, source, kind):
    size = (64, 64) if kind == "kept, other size" else (120, 128)
    paths = write_dicom(
        derived(*size), tmp_path, None if kind == "fresh" else source, keep_identity=kind.startswith("kept")
    )
    for path in paths.values():
        result = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        report = result.stdout + result.stderr
        assert not [line for line in report.splitlines() if line.startswith("Error")], report


def test_only_what_an_earlier_run_wrote_is_removed(tmp_path):
    paths = write_dicom(derived(), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    foreign = radiograph(np.zeros((8, 8), np.uint16))
    foreign.save_as(paths["overlay"], enforce_file_format=True)  # somebody's own file by one of our names
    assert set(remove_written(tmp_path)) == set(paths.values()) - {paths["overlay"]}
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "overlay.dcm"}
    (tmp_path / "cine.dcm").write_text("no DICOM at all")
    assert remove_written(tmp_path) == []


def test_a_source_without_the_prefix_of_a_file_is_one_too(tmp_path, source):
    bare = copy.deepcopy(source)
    del bare.file_meta
    dcmwrite(tmp_path / "old.dcm", bare, implicit_vr=True, little_endian=True)
    paths = write_dicom(derived(), tmp_path, tmp_path / "old.dcm")
    assert dcmread(paths["cine"]).StudyInstanceUID == source.StudyInstanceUID
    (tmp_path / "text.dcm").write_text("no object")
    with pytest.raises(DicomError, match="expected a DICOM source"):
        write_dicom(derived(), tmp_path, tmp_path / "text.dcm")


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"])
def test_a_source_that_cannot_be_referred_to_gives_objects_all_the_same(tmp_path, source, keyword):
    lacking = copy.deepcopy(source)
    delattr(lacking, keyword)
    paths = write_dicom(derived(), tmp_path, lacking)
    assert set(paths) == set(KINDS)  # the segmentation refers to the image
    refers = "SourceImageSequence" in dcmread(paths["cine"])
    assert refers == (keyword == "SeriesInstanceUID")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("StudyDate", "2020-01-02"), ("StudyTime", "12:30"), ("PatientSex", "female"), ("PatientBirthDate", "1901.02.03")],
)
def test_identity_that_breaks_the_standard_counts_as_unknown(tmp_path, source, keyword, value):
    broken = copy.deepcopy(source)
    with warnings.catch_warnings(action="ignore"):
        setattr(broken, keyword, value)
    made = write_dicom(derived(), tmp_path, broken, keep_identity=True)
    for path in made.values():
        assert not dcmread(path)[keyword].value
        assert dcmread(path).PatientID == source.PatientID


def test_a_weight_with_a_decimal_comma_counts_as_unknown(tmp_path, source):
    heavy = copy.deepcopy(source)
    heavy.PatientWeight = "70.5"
    (tmp_path / "in.dcm").write_bytes(file_bytes(heavy).replace(b"70.5", b"70,5"))
    made = write_dicom(derived(), tmp_path, tmp_path / "in.dcm", keep_identity=True)
    assert dcmread(made["cine"]).PatientWeight is None
