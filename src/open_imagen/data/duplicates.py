"""Images that look the same, found by perceptual hashes.

The hash is the sign of the 8 x 8 lowest frequencies of a 32 x 32 grey image against their median.
Scaling, compression and slight changes of colour move few of its 64 bits. Two images are duplicates
if at most `distance` bits differ and their thumbnails are alike, which tells plain images apart.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE, FREQUENCIES = 32, 8
BANDS = 4
"""Of 16 bits. Hashes that differ in at most 7 bits differ in at most one in some band."""
MOST_DISTANCE = 2 * BANDS - 1
FLIPS = (0, *(1 << bit for bit in range(16)))
ALIKE = 12.0
"""Root mean square difference of thumbnails of 8 x 8 pixels, of 255, up to which they are alike."""
COMPARED = 64
"""Groups of one band that an image is compared with: bounds the work for uniform data."""


class Fingerprint(NamedTuple):
    """What is stored of an image to compare it with others."""

    bits: int
    thumbnail: bytes
    """8 x 8 RGB."""


def fingerprint(image: Image.Image) -> Fingerprint:
    """The perceptual hash of an RGB image, and a thumbnail."""
    grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    cosines = _cosines()
    low = cosines @ np.asarray(grey, np.float64) @ cosines.T
    low[0, 0] = np.median(low)  # the mean brightness says little
    # Rounded, so that a plain image has the same hash at every brightness.
    low = np.round(low, 3)
    bits = int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")
    return Fingerprint(bits, image.resize((8, 8), Image.Resampling.BOX).tobytes())


@cache
def _cosines() -> NDArray[np.float64]:
    """The lowest rows of the cosine transform."""
    places = (2 * np.arange(SIDE) + 1) * np.pi / (2 * SIDE)
    rows: NDArray[np.float64] = np.cos(np.arange(FREQUENCIES)[:, None] * places[None])
    return rows


def find_duplicates(prints: Sequence[Fingerprint], distance: int = 6) -> list[list[int]]:
    """Groups of images that look the same, by their numbers; each image is in one group at most.

    Args:
        distance: bits that may differ, at most `MOST_DISTANCE`.
    """
    groups: list[list[int]] = []
    bands: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, one in enumerate(prints):
        keys = [(band, one.bits >> 16 * band & 0xFFFF) for band in range(BANDS)]
        near = (
            group
            for band, bits in keys
            for flip in FLIPS
            for group in bands.get((band, bits ^ flip), ())[-COMPARED:]
        )
        # With the first image of a group, so that groups do not grow along chains.
        same = next((g for g in near if is_same(prints[groups[g][0]], one, distance)), None)
        if same is not None:
            groups[same].append(number)
            continue
        for key in keys:
            bands[key].append(len(groups))
        groups.append([number])
    return [group for group in groups if len(group) > 1]


def is_same(one: Fingerprint, other: Fingerprint, distance: int) -> bool:
    """Whether two images look the same."""
    if (one.bits ^ other.bits).bit_count() > distance:
        return False
    first, second = (np.frombuffer(p.thumbnail, np.uint8).astype(float) for p in (one, other))
    return float(np.sqrt(np.mean((first - second) ** 2))) <= ALIKE


def extra(groups: Iterable[Sequence[int]]) -> int:
    """How many images would go if one of each group were kept."""
    return sum(len(group) - 1 for group in groups)
