"""Images and sound that clients send: in the request itself, or by a URL."""

from __future__ import annotations

import base64
import binascii
import re

from llmengine.core import Media, ModelInfo
from llmengine.errors import InvalidRequest
from llmengine.server.bodies import ContentPart
from llmengine.server.media_fetch import MediaFetcher

MAX_MEDIA = 64  # of one request
# Bounded: what comes in may be long.
_DATA = re.compile(
    r"data:[\w.+/-]{0,100}(?:;[\w.+-]{1,50}=[\w.+-]{0,50}){0,4};base64,", re.ASCII | re.IGNORECASE
)


class MediaReader:
    """Reads the media of one request."""

    def __init__(self, info: ModelInfo, fetcher: MediaFetcher) -> None:
        self._info = info
        self._fetcher = fetcher
        self._count = 0

    def read(self, part: ContentPart, where: str) -> Media | None:
        """What a part of a message brings; None for text.

        Raises InvalidRequest, which names what is wrong with the part at `where`.
        """
        if part.type == "text" and part.text is not None:
            return None
        if part.type == "image_url":
            self._check("image", f"{where}.type")
            given = part.image_url
            url = given if given is None or isinstance(given, str) else given.url
            return Media("image", self._image(url, f"{where}.image_url"))
        if part.type == "input_audio":
            self._check("audio", f"{where}.type")
            if part.input_audio is None:
                raise _missing(f"{where}.input_audio")
            return Media("audio", _decoded(part.input_audio.data, f"{where}.input_audio.data"))
        if part.type == "text":
            raise _missing(f"{where}.text")
        raise _refused(
            f"{where}.type", f"{part.type[:50]!r} is not offered", code="unsupported_content"
        )

    def _check(self, kind: str, param: str) -> None:
        """Refuse what the model does not take, and more than one request may bring."""
        if kind not in self._info.media:
            what = {"image": "images", "audio": "sound"}[kind]
            remedy = "start the server with --mmproj and the projector that belongs to the model"
            if self._info.media:
                remedy = f"its projector is for {' and '.join(self._info.media)} only"
            raise _refused(
                param, f"{self._info.name} takes no {what}: {remedy}", code="unsupported_content"
            )
        self._count += 1
        if self._count > MAX_MEDIA:
            raise _refused(param, f"a request may bring {MAX_MEDIA} images and recordings")

    def _image(self, url: str | None, param: str) -> bytes:
        if url is None:
            raise _missing(param)
        if found := _DATA.match(url):
            return _decoded(url[found.end() :], param)
        scheme = url.partition(":")[0].lower() if ":" in url[:20] else ""
        if scheme == "data":
            raise _refused(param, "a data URL has the form data:image/png;base64,...")
        if scheme in ("http", "https"):
            return self._fetcher.fetch(url, param)
        raise _refused(param, "an http(s) or data URL is expected")


def _decoded(text: str, param: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _refused(param, "the data is no base64") from None
    if not found:
        raise _refused(param, "there is no data")
    return found


def _missing(param: str) -> InvalidRequest:
    return InvalidRequest(f"`{param}` is missing", param=param)


def _refused(param: str, reason: str, code: str = "invalid_media") -> InvalidRequest:
    return InvalidRequest(f"`{param}`: {reason}", param=param, code=code)
