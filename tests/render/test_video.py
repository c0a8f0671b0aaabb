"""Animations read back by other readers: Pillow for GIF, WebP, APNG; PyAV for MP4."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gifsplain.errors import InputError
from gifsplain.render import frames, gif, ink, video

from . import fakes


@pytest.fixture(scope="module")
def film():
    return frames.make_film(fakes.explanation(fakes.radiograph(224), n=7))


def pillow_frames(content: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(content)) as picture:
        found = []
        for index in range(picture.n_frames):
            picture.seek(index)
            found.append(np.asarray(picture.convert("RGB")).astype(int))
    return found


@pytest.mark.parametrize(("ending", "error"), [(".gif", 2), (".png", 0), (".webp", None)])
def test_animation_reads_back(film, ending, error):
    content = video.encode(film, Path("a" + ending))
    read = pillow_frames(content)
    assert len(read) == 12 and read[0].shape == film.colours(0).shape
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.info["loop"] == 0
    for shown, index in zip(read, film.order, strict=True):
        wanted = film.colours(index).astype(int)
        if error is None:
            assert np.abs(shown - wanted).mean() < 3
        else:
            assert np.abs(shown - wanted).max() <= error


def test_gif_states_its_pace(film):
    with Image.open(io.BytesIO(video.encode_gif(film))) as picture:
        assert picture.info["duration"] == 60


def test_equal_frames_stay_frames():
    explanation = fakes.explanation(n=4)
    film = frames.Film(np.zeros((4, 20, 30), np.uint8), ink.palette(), frames.there_and_back(4), 60)
    assert len(pillow_frames(video.encode_gif(film))) == 6
    assert explanation.has_sweep


@given(st.integers(0, 2**31 - 1), st.integers(1, 6), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_gif_of_noise_is_exact_where_the_palette_is_no_ramp(seed, n, height, width):
    random = np.random.default_rng(seed)
    stack = random.integers(0, gif.TRANSPARENT, (n, height, width), dtype=np.uint8)
    palette = random.integers(0, 256, (256, 3), dtype=np.uint8)
    order = frames.there_and_back(n)
    read = pillow_frames(gif.encode(list(stack), order, palette, milliseconds=40))
    assert len(read) == len(order)
    for shown, index in zip(read, order, strict=True):
        assert (shown == palette[stack[index]]).all()


def test_greys_never_drift_by_more_than_one():
    ramp = np.clip(np.arange(40)[:, None, None] // 2 + np.arange(200)[None, None, :], 0, ink.GREYS - 1).astype(np.uint8)
    read = pillow_frames(gif.encode(list(ramp), range(40), ink.palette(), milliseconds=40, ramp=ink.GREYS))
    worst = max(np.abs(shown - ink.palette()[one].astype(int)).max() for shown, one in zip(read, ramp, strict=True))
    assert 0 < worst <= 2  # one step of the palette is 1.03 greys


def test_mp4_reads_back(film):
    content = video.encode_mp4(film)
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        read = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(stream)]
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.codec_context.name in ("h264", "mpeg4")
        assert float(stream.average_rate) == pytest.approx(1000 / 60, rel=0.01)
    assert len(read) == 12 and read[0].shape[0] % 2 == 0 and read[0].shape[1] % 2 == 0
    assert np.abs(read[3] - film.colours(film.order[3])).mean() < 4


def test_mp4_can_start_before_it_is_loaded(film):
    content = video.encode_mp4(film)
    assert content.index(b"moov") < content.index(b"mdat")


def test_colour_film_becomes_a_gif_with_one_palette():
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    film = frames.make_film(fakes.explanation(image, n=3))
    read = pillow_frames(video.encode_gif(film))
    assert len(read) == 4
    assert np.abs(read[0] - film.colours(film.order[0])).mean() < 8


def test_video_planes_are_those_of_the_library(film):
    """Oracle: FFmpeg's own conversion of the same colours."""
    for index in (0, 3):
        picture = av.VideoFrame.from_ndarray(film.colours(index), format="rgb24")
        expected = picture.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG").to_ndarray()
        got, height = video.yuv_planes(film, index), film.frames.shape[1]
        assert got.shape == expected.shape and got.dtype == np.uint8
        off = np.abs(got.astype(int) - expected.astype(int))
        assert off[:height].max() <= 2 and off.mean() < 0.6


def test_without_x264_the_next_encoder_serves(film, monkeypatch):
    monkeypatch.setattr(video, "mp4_encoder", lambda: "mpeg4")
    with av.open(io.BytesIO(video.encode_mp4(film))) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
        assert sum(1 for _ in container.decode(video=0)) == 12


def test_unknown_ending_is_refused(film):
    with pytest.raises(InputError, match=r"ending in \.gif"):
        video.encode(film, Path("a.avi"))
