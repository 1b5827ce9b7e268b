"""Image files, decoded within limits."""

from __future__ import annotations

import io
import warnings

from msgspec import Struct

from llmengine.errors import InvalidRequest

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 2**25
MAX_RATIO = 200  # of the longer side to the shorter one: more is refused by models themselves


class Picture(Struct, frozen=True):
    width: int
    height: int
    pixels: bytes  # three for each, from left to right and from the top


def picture(data: bytes) -> Picture:
    """The first frame of an image file, turned as its camera was held; transparency is white.

    Raises InvalidRequest before anything is decoded that would not be taken.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused below, and of odd metadata
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(*image.size)
                image.load()
                return _flat(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        known = ", ".join(FORMATS[:-1])
        raise InvalidRequest(
            f"an image is of no known format: send {known} or {FORMATS[-1]}", code="invalid_image"
        ) from None
    except Image.DecompressionBombError:
        raise _too_large("far too many") from None
    except InvalidRequest:
        raise
    except Exception as error:  # whatever a broken file makes a decoder raise
        raise InvalidRequest(
            f"an image is damaged: {str(error)[:200] or type(error).__name__}", code="invalid_image"
        ) from None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _too_large(f"{width} x {height}")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise InvalidRequest(
            f"an image has {width} x {height} pixels: one side may be {MAX_RATIO} times the other",
            code="invalid_image",
        )


def _too_large(size: str) -> InvalidRequest:
    return InvalidRequest(
        f"an image has {size} pixels, more than {MAX_PIXELS:,}: make it smaller",
        code="image_too_large",
    )


def _flat(image: object) -> Picture:
    from PIL import Image

    assert isinstance(image, Image.Image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    found = image.convert("RGB")
    return Picture(found.width, found.height, found.tobytes())
