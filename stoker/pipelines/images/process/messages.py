"""Decoded images as messages between this process and a decoder process."""

from dataclasses import asdict, fields
from typing import Any

import numpy as np
from PIL import Image

from stoker.pipelines.images.memory import memory_of, rgb_of
from stoker.pipelines.images.opening import ImageHeader
from stoker.pipelines.images.process.child import Buffer
from stoker.pipelines.images.process.pool import Result
from stoker.pipelines.rejected import Rejected

Message = tuple[dict[str, Any], Buffer]  # Any: JSON


def message_of(decoded: Any) -> Message:  # Any: DecodedImage, which imports this, or Rejected
    """What ``fields_of`` reads."""
    if isinstance(decoded, Rejected):
        return {"rejected": [decoded.reason, decoded.detail]}, b""
    source, pixels = decoded.source, decoded.pixels()
    memory = memory_of(source) if isinstance(source, np.ndarray) else None
    pixels = np.ascontiguousarray(pixels) if memory is None else memory
    others = {field.name: getattr(decoded, field.name) for field in fields(decoded)[1:] if field.name != "jpeg"}
    return {"shape": pixels.shape, **others, "header": asdict(decoded.header)}, pixels.reshape(-1).data


def fields_of(message: Result) -> dict[str, Any] | Rejected:  # Any: of several types
    """The arguments of a DecodedImage."""
    head, content = message
    if "rejected" in head:
        return Rejected(*head["rejected"])
    pixels = np.frombuffer(content.getbuffer(), np.uint8).reshape(head["shape"])
    others = {name: value for name, value in head.items() if name not in ("shape", "header", "transpose")}
    transpose = None if head["transpose"] is None else Image.Transpose(head["transpose"])
    source = rgb_of(pixels) if pixels.shape[2] == 4 else pixels
    return {"source": source, "header": ImageHeader(**head["header"]), "transpose": transpose} | others
