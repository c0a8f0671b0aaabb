"""The grey-scale chain against a slow transcription of PS3.3 and against pydicom."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from gifsplain.errors import DicomError
from gifsplain.io.images import load_bytes, load_image

from .dicom_maker import file_bytes, lut, radiograph, slow_lut, slow_window

STORED = np.array([[0, 1, 7, 100], [1000, 2047, 2048, 4095]])
TOLERANCE = 1e-6


def shown(dataset, **options):
    return load_bytes(file_bytes(dataset), "x", **options).pixels[0].numpy()


@settings(max_examples=60, deadline=None)
@given(
    centre=st.integers(-500, 5000),
    width=st.integers(1, 6000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    slope=st.sampled_from([1, 2, 0.5]),
    intercept=st.sampled_from([0, -1024, 3]),
    inverted=st.booleans(),
    signed=st.booleans(),
)
def test_window_equals_the_slow_transcription(centre, width, function, slope, intercept, inverted, signed):
    stored = STORED - (2048 if signed else 0)
    dataset = radiograph(
        stored,
        signed=signed,
        photometric="MONOCHROME1" if inverted else "MONOCHROME2",
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=centre,
        WindowWidth=width,
        VOILUTFunction=function,
    )
    expected = np.array(
        [[slow_window(x * slope + intercept, centre, width, function) for x in row] for row in stored.tolist()]
    )
    expected = 1 - expected if inverted else expected
    if len(set(expected.astype(np.float32).ravel().tolist())) == 1:
        with pytest.raises(DicomError, match="same value"):
            shown(dataset)
    else:
        np.testing.assert_allclose(shown(dataset), expected, atol=TOLERANCE)


@settings(max_examples=40, deadline=None)
@given(
    first=st.integers(-50, 200),
    entries=st.lists(st.integers(0, 4095), min_size=2, max_size=40).filter(lambda values: max(values) > min(values)),
    data=st.data(),
)
def test_voi_lut_equals_the_slow_transcription(first, entries, data):
    values = data.draw(st.lists(st.integers(-100, 300), min_size=6, max_size=6))
    stored = np.array(values).reshape(2, 3)
    dataset = radiograph(stored, signed=True, VOILUTSequence=[lut(first, 12, entries)])
    expected = np.array([slow_lut(x, first, entries) / 4095 for x in values]).reshape(2, 3)
    if expected.min() == expected.max():
        with pytest.raises(DicomError, match="same value"):
            shown(dataset)
    else:
        np.testing.assert_allclose(shown(dataset), expected, atol=TOLERANCE)


def test_modality_lut_comes_before_the_window_and_wins_over_rescale():
    entries = [round(4000 * (i / 4095) ** 2) for i in range(4096)]
    dataset = radiograph(STORED, WindowCenter=2000, WindowWidth=4001, RescaleSlope=5, RescaleIntercept=9)
    item = lut(0, 12, entries)
    item.ModalityLUTType = "US"
    dataset.ModalityLUTSequence = [item]
    expected = np.array([[slow_window(entries[x], 2000, 4001, "LINEAR") for x in row] for row in STORED.tolist()])
    np.testing.assert_allclose(shown(dataset), expected, atol=TOLERANCE)


def test_eight_bit_entries_may_be_packed():
    dataset = radiograph(np.array([[0, 1], [2, 3]]), bits=8, allocated=8)
    item = lut(0, 8, [0, 10, 20, 255])
    item.LUTData = bytes([0, 10, 20, 255])
    dataset.VOILUTSequence = [item]
    np.testing.assert_allclose(shown(dataset) * 255, [[0, 10], [20, 255]], atol=1e-4)


def test_a_descriptor_that_promises_too_few_bits_is_corrected_and_said():
    dataset = radiograph(np.array([[0, 1], [2, 3]]), VOILUTSequence=[lut(0, 8, [0, 100, 2000, 4095])])
    picture = load_bytes(file_bytes(dataset), "x")
    np.testing.assert_allclose(picture.pixels[0] * 4095, [[0, 100], [2000, 4095]], atol=1e-2)
    assert "LUT declares 8 bits but needs 12" in picture.provenance.steps


def choices():
    return radiograph(
        STORED,
        WindowCenter=[1000, 2000],
        WindowWidth=[500, 4096],
        WindowCenterWidthExplanation=["BONE", "Lung"],
        VOILUTSequence=[lut(0, 12, list(range(4096)), "standard")],
    )


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (None, lambda x: x / 4095),
        (0, lambda x: x / 4095),
        ("standard", lambda x: x / 4095),
        (1, lambda x: slow_window(x, 1000, 500, "LINEAR")),
        ("bone", lambda x: slow_window(x, 1000, 500, "LINEAR")),
        ("2", lambda x: slow_window(x, 2000, 4096, "LINEAR")),
        ("lung", lambda x: slow_window(x, 2000, 4096, "LINEAR")),
        ("none", lambda x: x / 4095),
    ],
)
def test_a_window_is_chosen_by_index_or_explanation(window, expected):
    wanted = np.array([[expected(x) for x in row] for row in STORED.tolist()])
    np.testing.assert_allclose(shown(choices(), window=window), wanted, atol=TOLERANCE)


@pytest.mark.parametrize("window", [3, -1, "abdomen"])
def test_a_window_that_is_not_offered_is_refused_with_the_offers(window):
    with pytest.raises(DicomError, match="0 standard, 1 BONE, 2 Lung"):
        shown(choices(), window=window)


def test_a_window_that_cannot_be_applied_is_left_out_and_said():
    picture = load_bytes(file_bytes(radiograph(STORED, WindowCenter=10, WindowWidth=0)), "x")
    assert any("left out" in step for step in picture.provenance.steps)
    np.testing.assert_allclose(picture.pixels[0], STORED / 4095, atol=TOLERANCE)


def test_an_unknown_voi_function_is_refused():
    with pytest.raises(DicomError, match="LINEAR_EXACT or SIGMOID, got 'CUBIC'"):
        shown(radiograph(STORED, WindowCenter=10, WindowWidth=10, VOILUTFunction="CUBIC"))


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", None, False),
    ],
)
def test_presentation_inverts_once_and_last(photometric, shape, inverted):
    elements = {} if shape is None else {"PresentationLUTShape": shape}
    dataset = radiograph(STORED, photometric=photometric, WindowCenter=1000, WindowWidth=1000, **elements)
    expected = np.array([[slow_window(x, 1000, 1000, "LINEAR") for x in row] for row in STORED.tolist()])
    np.testing.assert_allclose(shown(dataset), 1 - expected if inverted else expected, atol=TOLERANCE)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_background_and_does_not_stretch_the_range(photometric):
    stored = np.array([[4095, 4095, 100], [200, 300, 500]])
    dataset = radiograph(stored, photometric=photometric, PixelPaddingValue=4095)
    picture = load_bytes(file_bytes(dataset), "x")
    inside = (stored - 100) / 400
    inside = 1 - inside if photometric == "MONOCHROME1" else inside
    np.testing.assert_allclose(picture.pixels[0], np.where(stored == 4095, 0, inside), atol=TOLERANCE)
    assert "pixel padding set to background (33.3 % of the pixels)" in picture.provenance.steps


@pytest.mark.parametrize(("value", "limit"), [(-2000, -1500), (-1500, -2000)])
def test_a_padding_range_counts_in_either_order_and_with_signs(value, limit):
    stored = np.array([[-2000, -1600, -1500, -1499], [0, 10, 20, 1000]])
    dataset = radiograph(stored, bits=16, signed=True)
    dataset.add_new("PixelPaddingValue", "SS", value)
    dataset.add_new("PixelPaddingRangeLimit", "SS", limit)
    expected = np.where(stored <= -1500, 0, (stored + 1499) / 2499)
    np.testing.assert_allclose(shown(dataset), expected, atol=TOLERANCE)


def test_an_image_of_padding_only_is_refused():
    with pytest.raises(DicomError, match="every pixel is padding"):
        shown(radiograph(np.full((2, 2), 5), PixelPaddingValue=5))


def test_without_a_window_eight_bits_mean_what_they_say_and_more_are_stretched():
    eight = radiograph(np.array([[10, 20], [30, 40]]), bits=8, allocated=8)
    np.testing.assert_allclose(shown(eight) * 255, [[10, 20], [30, 40]], atol=1e-4)
    deep = radiograph(np.array([[10, 20], [30, 40]]))
    np.testing.assert_allclose(shown(deep), [[0, 1 / 3], [2 / 3, 1]], atol=TOLERANCE)


def test_only_stored_bits_count():
    stored = np.array([[1, 2], [3, 4095]])
    rubbish = radiograph(stored | 0xF000, bits=12)
    np.testing.assert_allclose(shown(rubbish), shown(radiograph(stored)), atol=0)
    shifted = radiograph(stored << 4, bits=12, HighBit=15)
    np.testing.assert_allclose(shown(shifted), shown(radiograph(stored)), atol=0)


def test_twelve_signed_bits_are_extended():
    stored = np.array([[-2048, -1], [0, 2047]])
    dataset = radiograph(stored & 0x0FFF, bits=12)
    dataset.PixelRepresentation = 1
    np.testing.assert_allclose(shown(dataset), (stored + 2048) / 4095, atol=TOLERANCE)


@pytest.mark.parametrize(
    "name", ["RG1_UNCI.dcm", "693_UNCI.dcm", "MR_small.dcm", "MR-SIEMENS-DICOM-WithOverlays.dcm", "vlut_04.dcm"]
)
def test_real_files_equal_pydicom(name):
    path = get_testdata_file(name)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    dataset = dcmread(path)
    values = apply_modality_lut(dataset.pixel_array, dataset)
    brightness = apply_voi_lut(values, dataset, prefer_lut=True).astype(np.float64)
    if "VOILUTSequence" in dataset:
        brightness /= 2 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
    else:
        low = float(dataset.get("RescaleIntercept", 0)) + (
            -(2 ** (dataset.BitsStored - 1)) * dataset.PixelRepresentation
        )
        high = low + (2**dataset.BitsStored - 1) * float(dataset.get("RescaleSlope", 1))
        brightness = (brightness - low) / (high - low)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        brightness = 1 - brightness
    if "PixelPaddingValue" in dataset:
        brightness[dataset.pixel_array == dataset.PixelPaddingValue] = 0
    np.testing.assert_allclose(load_image(path).pixels[0], brightness, atol=2e-5)


def test_the_chest_radiograph_has_dark_lungs_bright_bones_and_stands_upright():
    path = get_testdata_file("RG1_UNCI.dcm")
    if path is None:
        pytest.skip("pydicom-data is not installed")
    pixels = load_image(path).pixels[0]
    height, width = pixels.shape
    spine = pixels[height // 4 : 3 * height // 4, width // 2 - 40 : width // 2 + 40].mean()
    lung = pixels[height // 4 : height // 3, 5 * width // 16 : 6 * width // 16].mean()
    belly = pixels[-height // 8 :, width // 4 : 3 * width // 4].mean()
    assert lung < spine - 0.1
    assert lung < belly - 0.1
