"""Raster and NPY files: exact values, ranges by format, and one clear error for whatever cannot be used."""

import contextlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from gifsplain.errors import InputError
from gifsplain.io import images
from gifsplain.io.files import sha256_bytes
from gifsplain.io.images import load_bytes, load_image

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9)


def encode(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def varied(array):
    return array.min() < array.max()


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.uint8, SHAPES).filter(varied), st.sampled_from(["PNG", "TIFF", "BMP", "WEBP", "GIF"]))
def test_eight_bits_are_divided_by_255(array, kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    picture = load_bytes(encode(Image.fromarray(array), kind, **options), "x")
    np.testing.assert_array_equal(picture.pixels[0], array.astype(np.float32) / np.float32(255))
    assert picture.provenance.bits == 8
    assert picture.provenance.size == array.shape
    assert picture.provenance.format == kind


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.uint16, SHAPES).filter(varied), st.sampled_from(["PNG", "TIFF", "NPY"]))
def test_sixteen_bits_keep_their_depth(array, kind):
    content = npy(array) if kind == "NPY" else encode(Image.fromarray(array), kind)
    picture = load_bytes(content, "x")
    top, bits = (4095, 12) if array.max() < 4096 else (65535, 16)
    np.testing.assert_allclose(picture.pixels[0], array / top, atol=1e-7)
    assert picture.provenance.bits == bits


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]), SHAPES, elements=st.floats(0, 1, width=16)
    ).filter(varied)
)
def test_npy_floats_in_the_unit_range_are_taken_as_they_are(array):
    picture = load_bytes(npy(array), "x")
    np.testing.assert_array_equal(picture.pixels[0], array.astype(np.float32))


def test_the_record_names_the_file_and_its_hash(tmp_path):
    path = tmp_path / "chest 1.PNG"
    path.write_bytes(encode(Image.fromarray(GREY), "PNG"))
    record = load_image(path).provenance
    assert (record.name, record.format, record.size, record.bits) == ("chest 1", "PNG", (6, 8), 8)
    assert record.sha256 == sha256_bytes(path.read_bytes())
    assert record.steps == ("divided by 255",)


def test_a_declared_depth_of_a_png_is_used():
    content = encode(Image.fromarray(GREY.astype(np.uint16) * 16), "PNG")
    body = bytes([14])
    chunk = struct.pack(">I", 1) + b"sBIT" + body + struct.pack(">I", zlib.crc32(b"sBIT" + body))
    picture = load_bytes(content[:33] + chunk + content[33:], "x")
    np.testing.assert_allclose(picture.pixels[0], GREY * 16.0 / 16383, atol=1e-7)
    assert picture.provenance.bits == 14


def test_one_bit_palette_and_alpha():
    one = load_bytes(encode(Image.fromarray(GREY > 100), "PNG"), "x")
    np.testing.assert_array_equal(one.pixels[0], (GREY > 100).astype(np.float32))
    assert one.provenance.bits == 1
    palette = Image.fromarray(GREY).convert("P")
    np.testing.assert_allclose(load_bytes(encode(palette, "PNG"), "x").pixels[0] * 255, GREY, atol=1e-4)
    alpha = np.full_like(GREY, 255)
    opaque = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
    picture = load_bytes(encode(opaque, "PNG"), "x")
    np.testing.assert_allclose(picture.pixels[0] * 255, GREY, atol=1e-4)
    assert "opaque alpha dropped" in picture.provenance.steps


def test_transparency_is_laid_over_black():
    alpha = np.where(np.arange(8) < 4, 0, 255).astype(np.uint8)[None].repeat(6, 0)
    image = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
    picture = load_bytes(encode(image, "PNG"), "x")
    np.testing.assert_allclose(picture.pixels[0] * 255, np.where(alpha > 0, GREY, 0), atol=1e-4)
    marked = Image.fromarray(GREY)
    picture = load_bytes(encode(marked, "PNG", transparency=235), "x")
    np.testing.assert_allclose(picture.pixels[0] * 255, np.where(GREY == 235, 0, GREY), atol=1e-4)


def colour_image():
    channels = np.stack([GREY, GREY.T.reshape(6, 8), 255 - GREY], axis=-1)
    return channels, Image.fromarray(channels)


def test_colour_is_refused_greyed_or_kept():
    channels, image = colour_image()
    content = encode(image, "PNG")
    with pytest.raises(InputError, match=r'got colour.*colour="grey"'):
        load_bytes(content, "x")
    grey = load_bytes(content, "x", colour="grey").pixels
    np.testing.assert_allclose(grey[0], channels @ [0.299, 0.587, 0.114] / 255, atol=1e-6)
    kept = load_bytes(content, "x", colour="keep").pixels
    np.testing.assert_allclose(kept.permute(1, 2, 0) * 255, channels, atol=1e-4)


def test_equal_channels_are_grey():
    picture = load_bytes(encode(Image.fromarray(GREY).convert("RGB"), "PNG"), "x")
    np.testing.assert_allclose(picture.pixels[0] * 255, GREY, atol=1e-4)
    assert "equal channels taken as grey" in picture.provenance.steps


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_modes(mode):
    smooth = Image.fromarray(GREY).resize((64, 48), Image.Resampling.BILINEAR)
    image = smooth if mode == "L" else smooth.convert("RGB")
    if mode == "CMYK":
        black = Image.new("L", smooth.size, 0)
        image = Image.merge("CMYK", [black, black, black, Image.fromarray(255 - np.asarray(smooth))])
    picture = load_bytes(encode(image, "JPEG", quality=95), "x")
    np.testing.assert_allclose(picture.pixels[0] * 255, np.asarray(smooth), atol=6)
    assert picture.provenance.format == "JPEG"


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_exif_orientation_is_applied_once(turn, kind):
    image = Image.fromarray(GREY).resize((40, 30), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"quality": 100} if kind == "JPEG" else {}
    content = encode(image, kind, exif=exif, **options)
    array = np.asarray(image).astype(float)
    wanted = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.T,
        6: array[::-1].T,
        7: array[::-1, ::-1].T,
        8: array.T[::-1],
    }[turn]
    picture = load_bytes(content, "x")
    np.testing.assert_allclose(picture.pixels[0] * 255, wanted, atol=4 if kind == "JPEG" else 1e-4)
    assert picture.provenance.size == wanted.shape
    assert (f"EXIF orientation {turn} applied" in picture.provenance.steps) == (turn > 1)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((4, 4), np.uint8), "every pixel has the same value 0"),
        (np.full((4, 4), 0.5), "every pixel has the same value 0.5"),
        (np.array([[0.1, np.nan], [0.2, 0.3]]), "1 that are NaN"),
        (np.array([[0.1, np.inf], [-np.inf, 0.3]]), "2 that are NaN or infinite"),
        (np.array([[0.0, 300.0]] * 2), r"in \[0, 1\], got \[0, 300\]"),
        (np.array([[-0.1, 0.3]] * 2), r"got \[-0.1, 0.3\]"),
        (np.arange(4).reshape(2, 2), "got int64"),
        (np.arange(4).reshape(2, 2).astype(complex), "got complex128"),
        (np.array([["a", "b"]] * 2), "got <U1"),
        (np.zeros((5, 4, 4), np.uint8), r"got shape \(5, 4, 4\)"),
        (np.zeros((2, 3, 4, 4), np.uint8), r"got shape \(2, 3, 4, 4\)"),
        (np.zeros(9, np.uint8), r"got shape \(9,\)"),
        (np.zeros((0, 4), np.uint8), "got 0 x 4 pixels"),
    ],
)
def test_arrays_that_cannot_be_used(array, match):
    with pytest.raises(InputError, match=match):
        load_bytes(npy(array), "x")


@pytest.mark.parametrize("layout", [(1, 6, 8), (6, 8, 1)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_layouts(layout, order):
    array = np.asarray(GREY.reshape(layout), order=order)
    np.testing.assert_allclose(load_bytes(npy(array), "x").pixels[0] * 255, GREY, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 2])
def test_npy_colour_with_channels_first_or_last(axis):
    channels, _ = colour_image()
    array = np.moveaxis(channels, 2, axis)
    kept = load_bytes(npy(array), "x", colour="keep").pixels
    np.testing.assert_allclose(kept.permute(1, 2, 0) * 255, channels, atol=1e-4)


def test_pickled_arrays_are_never_unpickled():
    with pytest.raises(InputError, match="Python objects"):
        load_bytes(npy(np.array([[object()]], dtype=object)), "x")


def test_an_npy_header_that_promises_more_than_there_is():
    content = npy(np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match=r"truncated"):
        load_bytes(content.replace(b"(4, 4)", b"(9, 9)"), "x")
    huge = content.replace(b"'shape': (4, 4), }            ", b"'shape': (99999999, 99999999), }")
    with pytest.raises(InputError, match=r"80,000,000 pixels|truncated or damaged"):
        load_bytes(huge, "x")


def png_of_size(width, height):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(9001, 9001), (13000, 13000), (60000, 60000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bombs_are_refused_before_they_are_decoded(size):
    with pytest.raises(InputError, match=r"at most 80,000,000 pixels|truncated or damaged"):
        load_bytes(png_of_size(*size), "x")


def test_animations_and_pages_are_refused():
    pages = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    for kind in ("GIF", "TIFF", "PNG", "WEBP"):
        content = encode(pages[0], kind, save_all=True, append_images=pages[1:])
        with pytest.raises(InputError, match="got 2 frames or pages"):
            load_bytes(content, "x")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "NPY"])
def test_a_file_cut_anywhere_is_an_input_error_or_complete(kind):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 255, (40, 50), dtype=np.uint8)
    whole = npy(array) if kind == "NPY" else encode(Image.fromarray(array), kind)
    expected = load_bytes(whole, "x").pixels
    accepted = 0
    for end in np.unique(np.linspace(0, len(whole) - 1, 60).astype(int)):
        with contextlib.suppress(InputError):
            np.testing.assert_array_equal(load_bytes(whole[:end], "x").pixels, expected)
            accepted += 1
    assert accepted <= 3  # only the very end, where nothing of the image is missing


@settings(max_examples=80, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"\x93NUMPY\x01\0", b"BM", b"GIF89a"]),
)
def test_rubbish_is_an_input_error(content, start):
    with pytest.raises(InputError, match="x: expected"):
        load_bytes(start + content, "x")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"%PDF-1.7", "a PDF"),
        (b"<html>", "HTML"),
        (b"hello, I am a text", "none of them"),
    ],
)
def test_other_files_are_named(content, match):
    with pytest.raises(InputError, match=match):
        load_bytes(content, "x")


def test_paths_that_are_no_files(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file"):
        load_image(tmp_path / "none.png")
    with pytest.raises(InputError, match="got a folder"):
        load_image(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_image("a\0b.png")
    (tmp_path / "big.png").write_bytes(b"\x89PNG" + bytes(100))
    monkeypatch.setattr(images, "MAX_BYTES", 50)
    with pytest.raises(InputError, match="at most 50 bytes"):
        load_image(tmp_path / "big.png")


def test_a_window_is_for_dicom_only_and_the_steps_say_so():
    picture = load_bytes(encode(Image.fromarray(GREY), "PNG"), "x", window=0)
    assert "no window applied: only DICOM files have windows" in picture.provenance.steps


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    ("before", "bits"),
    [
        (png_chunk(b"tEXt", b"Comment\0sBIT\x09"), 16),
        (png_chunk(b"tEXt", b"Comment\0" + b"x" * 5000) + png_chunk(b"sBIT", b"\x0d"), 13),
    ],
)
def test_only_a_chunk_declares_a_depth(before, bits):
    samples = np.arange(48, dtype=np.uint16).reshape(6, 8) * (170 if bits == 13 else 1300)
    content = encode(Image.fromarray(samples), "PNG")
    picture = load_bytes(content[:33] + before + content[33:], "x")
    np.testing.assert_allclose(picture.pixels[0], samples / (2**bits - 1), atol=1e-6)


def tiff(samples, photometric, sample_format=1):
    """A plain TIFF of one strip."""
    data = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    height, width = samples.shape
    tags = {256: width, 257: height, 258: 8 * samples.itemsize, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height,
            279: len(data), 339: sample_format}  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(("kind", "sample_format"), [(np.uint8, 1), (np.uint16, 1), (np.float32, 3)])
def test_a_tiff_whose_white_is_zero_is_inverted_at_every_depth(kind, sample_format):
    unit = np.arange(48).reshape(6, 8) / 47
    top = 1 if kind is np.float32 else np.iinfo(kind).max
    samples = (unit * top).astype(kind)
    for photometric, expected in ((1, samples / top), (0, 1 - samples / top)):
        picture = load_bytes(tiff(samples, photometric, sample_format), "x")
        np.testing.assert_allclose(picture.pixels[0], expected, atol=1e-6)


def test_a_kind_of_tiff_that_is_not_read_is_not_called_damaged():
    with pytest.raises(
        InputError, match="x: expected PNG, .* got a damaged header or a kind that Pillow does not read"
    ):
        load_bytes(tiff(np.arange(48).reshape(6, 8) / 47, 1, 3), "x")


@pytest.mark.parametrize("kind", [">u2", ">f4", ">f8"])
def test_npy_in_the_other_byte_order(kind):
    samples = np.arange(48).reshape(6, 8) * 1300 if kind == ">u2" else np.arange(48).reshape(6, 8) / 47
    picture = load_bytes(npy(samples.astype(kind)), "x")
    np.testing.assert_allclose(picture.pixels[0], samples / (65535 if kind == ">u2" else 1), atol=1e-6)


def test_floats_that_rounding_leaves_outside_are_shown_with_their_digits():
    with pytest.raises(InputError, match=r"in \[0, 1\], got \[0, 1.00000012\]; .* clip what rounding leaves"):
        load_bytes(npy(np.linspace(0, 1 + 1.2e-7, 48).reshape(6, 8)), "x")


def test_names_that_are_no_text_are_shown_with_question_marks(tmp_path):
    path = tmp_path / os.fsdecode(b"a\xff.png")
    path.write_bytes(encode(Image.fromarray(GREY), "PNG"))
    assert load_image(path).provenance.name == "a?"


def test_the_transparent_value_of_sixteen_bits_is_laid_over_black():
    samples = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1300
    content = encode(Image.fromarray(samples), "PNG")
    content = content[:33] + png_chunk(b"tRNS", struct.pack(">H", 2600)) + content[33:]
    picture = load_bytes(content, "x")
    np.testing.assert_allclose(picture.pixels[0], np.where(samples == 2600, 0, samples) / 65535, atol=1e-6)


def test_signed_bytes_are_refused():
    with pytest.raises(InputError, match="x: expected unsigned samples, got signed ones of 8 bits"):
        load_bytes(tiff((np.arange(48) - 20).reshape(6, 8).astype(np.int8), 1, 2), "x")
