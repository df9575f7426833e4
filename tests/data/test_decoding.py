"""Every kind of image is decoded to colors, by both decoders alike; one that is damaged is named."""

import io
import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import utils.data.decoding as decoding
from tests.data.readers import small
from tests.data.writers import encoded, write_images
from utils.data.augmentation import augment, center, generator
from utils.data.decoding import decode_image
from utils.data.formats.image_folder import ImageFolder
from utils.files.errors import DamagedImageError

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
GRAY16 = np.linspace(0, 65535, 1024).reshape(32, 32).astype(np.uint16)


def turned(orientation: int) -> bytes:
    exif = RGB.getexif()
    exif[0x0112] = orientation
    return encoded(RGB, exif=exif)


def gray(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[:, :, None], 3, axis=2)


KINDS: dict[str, tuple[bytes, np.ndarray | None]] = {
    "png": (encoded(RGB), np.asarray(RGB)),
    "jpeg": (encoded(RGB, "jpeg"), None),
    "gray jpeg": (encoded(RGB.convert("L"), "jpeg"), None),
    "gray": (encoded(RGB.convert("L")), gray(np.asarray(RGB.convert("L")))),
    "cmyk jpeg": (encoded(RGB.convert("CMYK"), "jpeg"), None),
    "palette": (encoded(RGB.quantize(16)), np.asarray(RGB.quantize(16).convert("RGB"))),
    "alpha": (encoded(RGB.convert("RGBA")), np.asarray(RGB)),
    "gray alpha": (encoded(RGB.convert("LA")), gray(np.asarray(RGB.convert("L")))),
    "one bit": (encoded(RGB.convert("1")), gray(np.asarray(RGB.convert("1").convert("L")))),
    "16 bits": (encoded(GRAY16), gray((GRAY16 >> 8).astype(np.uint8))),
    "16 bit tiff": (encoded(GRAY16, "tiff"), gray((GRAY16 >> 8).astype(np.uint8))),
    "on its side": (turned(6), np.rot90(np.asarray(RGB), -1)),
    "upside down": (turned(3), np.asarray(RGB)[::-1, ::-1]),
    "webp": (encoded(RGB, "webp", lossless=True), np.asarray(RGB)),
    "one pixel": (encoded(RGB.crop((0, 0, 1, 1))), np.asarray(RGB)[:1, :1]),
    "one pixel jpeg": (encoded(RGB.crop((0, 0, 1, 1)), "jpeg"), None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_is_decoded_to_colors(kind: str) -> None:
    content, expected = KINDS[kind]
    pixels = decode_image(content)
    assert pixels.dtype == torch.uint8 and pixels.shape[2] == 3
    assert expected is None or np.array_equal(pixels.numpy(), expected)
    assert center(pixels, 16).shape == augment(pixels, 16, generator(0, 0, 0)).shape == (16, 16, 3)


@pytest.mark.skipif(decoding.decode_jpeg is None, reason="torchcodec is not installed")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "jpeg" in kind])
def test_both_decoders_read_the_same_bits(kind: str) -> None:
    fast = decode_image(KINDS[kind][0])
    with mock.patch.object(decoding, "decode_jpeg", None):
        assert torch.equal(decode_image(KINDS[kind][0]), fast)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bits_of_gray_are_no_white(kind, tmp_path):
    """Whatever the name of their file says."""
    write_images(tmp_path)
    (tmp_path / "train/class0/000.png").write_bytes(encoded(GRAY16, kind))
    found = small(tmp_path).train.images[0, 4:36, 4:36].numpy()
    assert np.array_equal(found, gray((GRAY16 // 256).astype(np.uint8)))


@pytest.mark.parametrize(
    "pixels", [GRAY16.astype(np.float32), GRAY16.astype(np.int32) + 1, GRAY16.astype(np.int32) - 1]
)
def test_images_whose_white_is_unknown_are_refused(pixels):
    with pytest.raises(ValueError, match="not of 8 or 16 bits"):
        decode_image(encoded(pixels, "tiff"))


def with_codec(encoded: bytes) -> Tensor:
    """Stands for torchcodec: pixels in another order, and an error of its own."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except OSError as error:
        raise RuntimeError("decode_rows failed") from error


@pytest.mark.parametrize("decoder", [None, with_codec])
@pytest.mark.parametrize(
    "content", [KINDS["jpeg"][0][:-200], KINDS["png"][0][:-500], b"no image", b"", None],
    ids=["jpg", "png", "text", "empty", "gone"],
)  # fmt: skip
def test_a_damaged_image_is_named(tmp_path: Path, content: bytes | None, decoder) -> None:
    path = tmp_path / "broken.jpg"
    if content is not None:
        path.write_bytes(content)
    rows = ImageFolder("here", torch.tensor([0]), ["any"], np.array([os.fsencode(path)]))
    with mock.patch.object(decoding, "decode_jpeg", decoder), pytest.raises(DamagedImageError) as error:
        rows.pixels(0)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
