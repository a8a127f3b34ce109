"""ggml's block formats: 32 values share a scale (and an offset), as whisper.cpp stores them.

A row of values is cut into blocks of 32. The scale d and the offset m are fp16; the low halves of
the 16 bytes of a 4-bit block are its first 16 values, the high halves the other 16; the fifth bits
of a 5-bit block are the bits of one 32-bit number. Values: q8_0 ``d q``, q4_0 ``d (q - 8)``, q4_1
``d q + m``, q5_0 ``d (q - 16)``, q5_1 ``d q + m``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK = 32
_CHUNK = 1 << 15  # blocks at a time, so that what is in between stays in the cache


@dataclass(frozen=True)
class BlockFormat:
    """How many bits a value has, and whether the block has an offset."""

    name: str
    bits: int
    offset: bool = False

    @property
    def layout(self) -> np.dtype[np.void]:
        """The bytes of a block."""
        fields: list[tuple[str, str, tuple[int, ...]]] = [("d", "<f2", ())]
        if self.offset:
            fields.append(("m", "<f2", ()))
        if self.bits == 5:
            fields.append(("high", "u1", (4,)))
        fields.append(("q", "i1", (32,)) if self.bits == 8 else ("q", "u1", (16,)))
        return np.dtype(fields)


FORMATS = {
    2: BlockFormat("q4_0", 4),
    3: BlockFormat("q4_1", 4, offset=True),
    6: BlockFormat("q5_0", 5),
    7: BlockFormat("q5_1", 5, offset=True),
    8: BlockFormat("q8_0", 8),
}


def dequantize(
    data: memoryview, form: BlockFormat, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """The float32 values (shape) of blocks; the last axis is a multiple of 32."""
    blocks = np.frombuffer(data, form.layout)
    result = np.empty((len(blocks), BLOCK), np.float32)
    for start in range(0, len(blocks), _CHUNK):
        part, out = blocks[start : start + _CHUNK], result[start : start + _CHUNK]
        _values(part, form, out)
        out *= part["d"].astype(np.float32)[:, None]
        if form.offset:
            out += part["m"].astype(np.float32)[:, None]
    return result.reshape(shape)


def _values(blocks: npt.NDArray[np.void], form: BlockFormat, out: npt.NDArray[np.float32]) -> None:
    """The whole numbers of blocks, before scale and offset."""
    if form.bits == 8:
        out[:] = blocks["q"]
        return
    packed = blocks["q"]
    numbers = np.concatenate([packed & 0x0F, packed >> 4], axis=1)
    if form.bits == 5:
        numbers |= np.unpackbits(blocks["high"], axis=1, bitorder="little") << 4
    out[:] = numbers
    if not form.offset:
        out -= 1 << (form.bits - 1)
