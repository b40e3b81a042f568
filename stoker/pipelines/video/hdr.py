"""Tone mapping of HDR frames (PQ and HLG) to SDR: BT.709 primaries, shown by displays as in BT.1886.

Sources: SMPTE ST 2084 (PQ, also in ITU-R BT.2100, table 4), ITU-R BT.2100, table 5 (HLG), ITU-R BT.2390, section 5.4
(roll-off of highlights), ITU-R BT.2408 (reference white of 203 cd/_M2), ITU-R BT.2087 and SMPTE EG 432-1 (primaries),
ITU-R BT.1886 (gamma of SDR displays). All arithmetic is on linear light.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

PQ, HLG = 16, 18  # FFmpeg's numbers of transfer characteristics, those of ITU-T H.273
_BT2020_MATRIX = 9
_UNSPECIFIED = 2
_WHITE = 203.0  # cd/_M2 of a white page in HDR, which SDR shows as full white
_PQ_PEAK = 10_000.0  # cd/_M2 at PQ's highest code
_HLG_PEAK = 1_000.0  # cd/_M2 of the display that HLG is made for
_HLG_GAMMA = 1.2  # of that display
_SDR_GAMMA = 2.4
_CODES = 1 << 16
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128  # of PQ
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32

# Linear light of a pixel in the primaries of BT.2020 and of P3 with D65, in those of BT.709.
_TO_BT709 = {
    9: np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32),
    12: np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0196, -0.0786, 1.0979]], np.float32),
}
_BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)

Floats = npt.NDArray[np.float32]
Frame = Any  # av.VideoFrame: PyAV is untyped to us


def is_hdr(frame: Frame) -> bool:
    """Whether the frame is PQ or HLG."""
    return frame.color_trc in (PQ, HLG)


def tone_map(frame: Frame) -> npt.NDArray[np.uint8]:
    """The frame's pixels for SDR, (height, width, 3)."""
    matrix = _BT2020_MATRIX if frame.colorspace == _UNSPECIFIED else None
    codes = frame.reformat(format="rgb48le", src_colorspace=matrix).to_ndarray()
    light = _pq_light()[codes] if frame.color_trc == PQ else _hlg_light(codes)
    light = _roll_off(light, float(light.max()))
    if frame.color_primaries != 1:  # BT.709 already; unspecified: BT.2020, as HDR is
        light = light @ _TO_BT709.get(frame.color_primaries, _TO_BT709[9]).T
    np.clip(light, 0, 1, out=light)
    # Square roots spread the codes of dark tones, of which 16 bits of linear light have too few.
    return _display_codes()[(np.sqrt(light, out=light) * (_CODES - 1)).astype(np.uint16)]


@lru_cache(1)
def _pq_light() -> Floats:
    """Light of each 16-bit PQ code, white is 1."""
    return (_pq_to_nits(np.arange(_CODES) / (_CODES - 1)) / _WHITE).astype(np.float32)


def _pq_to_nits(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    power = signal ** (1 / _M2)
    nits: npt.NDArray[np.float64] = _PQ_PEAK * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)
    return nits


def _nits_to_pq(nits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    power = (nits / _PQ_PEAK) ** _M1
    signal: npt.NDArray[np.float64] = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return signal


@lru_cache(1)
def _hlg_scene() -> Floats:
    """Scene light of each 16-bit HLG code, from 0 to 1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.arange(_CODES) / (_CODES - 1)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)


def _hlg_light(codes: npt.NDArray[np.uint16]) -> Floats:
    """Light of a display of 1,000 cd/_M2, white is 1."""
    scene = _hlg_scene()[codes]
    luminance = np.maximum(scene @ _BT2020_LUMINANCE, 1e-6)
    light: Floats = scene * (_HLG_PEAK / _WHITE * luminance ** (_HLG_GAMMA - 1))[..., None]
    return light


def _roll_off(light: Floats, peak: float) -> Floats:
    """Light with its highlights, up to ``peak``, brought below white; the rest stays as it is."""
    if peak <= 1:
        return light
    curve = _roll_off_curve(round(peak, 1))
    scale = (_CODES - 1) / np.sqrt(_PQ_PEAK / _WHITE)
    rolled: Floats = curve[(np.sqrt(light) * scale).astype(np.uint16)]
    return rolled


@lru_cache(64)
def _roll_off_curve(peak: float) -> Floats:
    """BT.2390's curve in the PQ domain, by the square root of light."""
    light = (np.arange(_CODES) / (_CODES - 1)) ** 2 * _PQ_PEAK
    top, white = _nits_to_pq(np.array([peak * _WHITE, _WHITE]))
    signal, limit = np.minimum(_nits_to_pq(light) / top, 1), min(1.0, white / top)
    knee = 1.5 * limit - 0.5
    t = np.clip((signal - knee) / max(1 - knee, 1e-9), 0, 1)
    rolled = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * limit
    return (_pq_to_nits(np.where(signal < knee, signal, rolled) * top) / _WHITE).astype(np.float32)


@lru_cache(1)
def _display_codes() -> npt.NDArray[np.uint8]:
    """8-bit codes by the square root of light."""
    root = np.arange(_CODES) / (_CODES - 1)
    return np.round(255 * root ** (2 / _SDR_GAMMA)).astype(np.uint8)
