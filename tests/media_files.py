"""Images and recordings that the tests make."""

from __future__ import annotations

import io
import wave

import numpy as np
from PIL import Image

from llmengine.core import Media


def image(seed: int, width: int = 40, height: int = 24, format: str = "PNG") -> Media:
    """A picture of noise, each seed another."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, format)
    return Media("image", file.getvalue())


def sound(tone: float, seconds: float = 2.0, rate: int = 16_000) -> Media:
    """A hum of so many hertz, as a WAV file."""
    times = np.arange(int(seconds * rate)) / rate
    samples = (np.sin(2 * np.pi * tone * times) * 2**14).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(samples.tobytes())
    return Media("audio", file.getvalue())
