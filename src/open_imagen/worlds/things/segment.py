"""The ground of a picture, and the connected patches that stand out from it, for the judge.

Images are premultiplied RGBA or RGB. Two patches whose boxes overlap are one object: objects of
the world's scenes leave a gap between their boxes. Whether patches that lie apart belong together
is the judge's question: it asks its classifier.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SIDE = 128
"""Larger pictures are averaged down to this side."""
CROP = 64
CHANNELS = 4
"""Of a crop: the object over a gray ground, and how much it covers."""
GRAY = 0.5
SOLID, CONTRAST = 0.2, 0.16
"""A pixel belongs to an object above this alpha, or this far from an opaque ground (RGB 0 to 1)."""
VALLEY = 0.6
"""A pixel with less than this share of the contrast on both sides of it is a gap."""
FULL = 0.25
"""Contrast to an opaque ground above which a pixel counts as covered."""
TWO_TONES = 0.15
"""Distance of opposite borders above which the ground has two colors."""
DUST = 0.0012
"""Patches of a smaller share of the picture are ignored."""
OVERLAP = 0.15
"""Share of the smaller of two boxes that must overlap for patches to be one object."""
MARGIN = 0.06
"""Around an object in its crop, as a share of its longer side; and one pixel."""


class Ground(NamedTuple):
    """What lies behind the objects of one picture."""

    transparent: bool
    colors: tuple[tuple[float, float, float], ...]
    """None where it is transparent; two of a two-tone ground, left or upper first. 0 to 1."""


class Patch(NamedTuple):
    """A connected patch, or several that belong together; lengths in units of the side."""

    left: float
    top: float
    right: float
    bottom: float
    area: float
    members: tuple[int, ...]
    """Their numbers in the picture's labels."""

    @property
    def side(self) -> float:
        """The longer side of its box."""
        return max(self.right - self.left, self.bottom - self.top)

    @property
    def center(self) -> tuple[float, float]:
        """The centre, (x, y)."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def joined(self, other: "Patch") -> "Patch":
        """Both as one."""
        return Patch(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
            self.area + other.area,
            (*self.members, *other.members),
        )

    def gap(self, other: "Patch") -> float:
        """How far their boxes are apart along the axis that separates them; negative: not."""
        return max(
            max(self.left, other.left) - min(self.right, other.right),
            max(self.top, other.top) - min(self.bottom, other.bottom),
        )


class Split(NamedTuple):
    """A batch of pictures, taken apart."""

    image: Tensor
    """Premultiplied by what objects cover, with that as fourth channel, float [B, 4, S, S]."""
    labels: Tensor
    """Which patch each pixel belongs to, 0 for none, int32 [B, S, S]."""
    grounds: list[Ground]
    patches: list[list[Patch]]
    """Of each picture, largest first."""


def split(images: Tensor) -> Split:
    """Take pictures uint8 [B, 3 or 4, S, S] apart."""
    pixels = reduced(images)
    ground, seam, grounds = find_grounds(pixels)
    color, alpha = pixels[:, :3], pixels[:, 3]
    transparent = torch.tensor([one.transparent for one in grounds], device=pixels.device)
    transparent = transparent[:, None, None]
    contrast = _contrast(color, ground, seam)
    cover = torch.where(transparent, alpha, (contrast / FULL).clamp(max=1))
    strength = torch.where(transparent, alpha / SOLID, contrast / CONTRAST)
    mask = (strength > 1) & ~_valleys(torch.where(transparent, alpha, contrast))
    weight = torch.where(transparent, 1.0, cover)[:, None]  # RGBA is premultiplied already
    image = torch.cat([color * weight, cover[:, None]], 1)
    labels, patches = find_patches(mask.cpu().numpy())
    return Split(image, torch.from_numpy(labels).to(pixels.device), grounds, patches)


def reduced(images: Tensor) -> Tensor:
    """Premultiplied RGBA in [0, 1] of at most `SIDE` pixels, float [B, 4, S, S]."""
    pixels = images.float() / 255
    side = pixels.shape[-1]
    if side > SIDE:
        if side % SIDE == 0:
            pixels = F.avg_pool2d(pixels, side // SIDE)
        else:
            pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    if pixels.shape[1] == 4:
        return pixels
    return torch.cat([pixels, torch.ones_like(pixels[:, :1])], 1)


def find_grounds(pixels: Tensor) -> tuple[Tensor, Tensor, list[Ground]]:
    """The ground of images: its color at each pixel, the edge between two tones, and its names.

    The colors are [B, 3, S, S], medians of the border's four sides; the edge is bool [B, S, S].
    """
    side = pixels.shape[-1]
    rows = [pixels[:, :, 0], pixels[:, :, -1], pixels[:, :, :, 0], pixels[:, :, :, -1]]
    border = torch.cat(rows, 2)
    transparent = border[:, 3].median(1).values < 0.5
    top, bottom, left, right = (row[:, :3].median(2).values for row in rows)
    across, down = (left - right).norm(dim=1), (top - bottom).norm(dim=1)
    two = (torch.maximum(across, down) > TWO_TONES) & ~transparent
    stacked = (down > across) & two
    whole = border[:, :3].median(2).values * ~transparent[:, None]
    first = torch.where(two[:, None], torch.where(stacked[:, None], top, left), whole)
    second = torch.where(two[:, None], torch.where(stacked[:, None], bottom, right), whole)
    ends = torch.where(
        stacked[:, None, None, None], torch.stack(rows[2:], 1), torch.stack(rows[:2], 1)
    )[:, :, :3]
    nearer = [(ends - color[:, None, :, None]).norm(dim=2) for color in (first, second)]
    seam = (nearer[0] <= nearer[1]).float().sum(2).mean(1)
    place = torch.arange(side, device=pixels.device) + 0.5
    along = torch.where(stacked[:, None, None], place[:, None], place[None, :])
    upper = along < seam[:, None, None]
    ground = torch.where(upper[:, None], first[:, :, None, None], second[:, :, None, None])
    close = ((along - seam[:, None, None]).abs() < max(1.5, side / 42)) & two[:, None, None]
    facts = zip(transparent.tolist(), two.tolist(), first.tolist(), second.tolist(), strict=True)
    grounds = [
        Ground(clear, () if clear else ((*a,), (*b,)) if both else ((*a,),))
        for clear, both, a, b in facts
    ]
    return ground, close, grounds


def _contrast(color: Tensor, ground: Tensor, seam: Tensor) -> Tensor:
    """Distance of each pixel from its ground, [B, S, S]; by a seam, from any mix of its colors."""
    contrast = (color - ground).square().sum(1).sqrt()
    if not bool(seam.any()):
        return contrast
    other = ground.flip(2).flip(3)
    span = other - ground
    share = ((color - ground) * span).sum(1, keepdim=True) / span.square().sum(
        1, keepdim=True
    ).clamp(min=1e-6)
    mixed = (color - ground - share.clamp(0, 1) * span).norm(dim=1)
    return torch.where(seam, mixed, contrast)


def _valleys(contrast: Tensor) -> Tensor:
    """Pixels between higher ones on two opposite sides, within two pixels: narrow gaps."""
    padded = F.pad(contrast[:, None], (2, 2, 2, 2))[:, 0]
    side = contrast.shape[-1]

    def at(dx: int, dy: int) -> Tensor:
        return padded[:, 2 + dy : 2 + dy + side, 2 + dx : 2 + dx + side]

    across = torch.minimum(torch.maximum(at(-1, 0), at(-2, 0)), torch.maximum(at(1, 0), at(2, 0)))
    down = torch.minimum(torch.maximum(at(0, -1), at(0, -2)), torch.maximum(at(0, 1), at(0, 2)))
    return contrast < VALLEY * torch.maximum(across, down)


def find_patches(
    masks: NDArray[np.bool_], merge: bool = True
) -> tuple[NDArray[np.int32], list[list[Patch]]]:
    """Connected patches (with diagonals) of masks [B, S, S]: labels and boxes.

    Runs of pixels in a row are joined with those that they touch in the next one.

    Args:
        merge: those whose boxes overlap are one.
    """
    count, side = masks.shape[0], masks.shape[-1]
    wide = np.zeros((count, side + 1, side + 2), np.int8)
    wide[:, :side, 1:-1] = masks
    steps = np.diff(wide.reshape(count * (side + 1), side + 2), axis=1)
    rows, starts = np.nonzero(steps == 1)
    _, ends = np.nonzero(steps == -1)
    roots = _join_runs(rows, starts, ends, side)
    names, members = np.unique(roots, return_inverse=True)
    size = len(names)
    areas = np.bincount(members, ends - starts, size)
    low = np.full((2, size), side, np.int64)
    high = np.zeros((2, size), np.int64)
    heights = rows % (side + 1)
    np.minimum.at(low[0], members, starts)
    np.minimum.at(low[1], members, heights)
    np.maximum.at(high[0], members, ends)
    np.maximum.at(high[1], members, heights + 1)
    owners = np.zeros(size, np.int64)
    owners[members] = rows // (side + 1)
    kept = areas >= DUST * side * side
    labels = _paint_runs(rows, starts, ends, np.where(kept[members], members + 1, 0), count, side)
    patches: list[list[Patch]] = [[] for _ in range(count)]
    for k in np.flatnonzero(kept).tolist():
        box = (low[0, k], low[1, k], high[0, k], high[1, k])
        left, top, right, bottom = (float(edge) / side for edge in box)
        area = float(areas[k]) / side**2
        patches[int(owners[k])].append(Patch(left, top, right, bottom, area, (k + 1,)))
    return labels, [merge_overlapping(found) if merge else found for found in patches]


def _join_runs(
    rows: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64], side: int
) -> NDArray[np.int64]:
    """For each run, the smallest number of the runs that it is connected with."""
    pitch = side + 4
    first = np.searchsorted(rows * pitch + ends, (rows + 1) * pitch + starts, "left")
    last = np.searchsorted(rows * pitch + starts, (rows + 1) * pitch + ends, "right")
    number = np.maximum(last - first, 0)
    above = np.repeat(np.arange(len(rows)), number)
    offsets = np.arange(len(above)) - np.repeat(np.cumsum(number) - number, number)
    below = first[above] + offsets
    roots = np.arange(len(rows))
    while True:
        least = np.minimum(roots[above], roots[below])
        before = roots.copy()
        # A root takes the smaller of the two, and all that point at it follow.
        np.minimum.at(roots, before[above], least)
        np.minimum.at(roots, before[below], least)
        roots = roots[roots]
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]
        if np.array_equal(roots, before):
            return roots


def _paint_runs(
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    values: NDArray[np.int64],
    count: int,
    side: int,
) -> NDArray[np.int32]:
    """Runs as pixels, [count, side, side]."""
    steps = np.zeros((count * (side + 1), side + 1), np.int64)
    np.add.at(steps, (rows, starts), values)
    np.subtract.at(steps, (rows, ends), values)
    painted = steps.cumsum(1, dtype=np.int64).astype(np.int32)
    return painted.reshape(count, side + 1, side + 1)[:, :side, :side].copy()


def merge_overlapping(patches: Sequence[Patch]) -> list[Patch]:
    """Patches whose boxes overlap become one; largest first."""
    merged: list[Patch] = []
    for patch in sorted(patches, key=lambda one: -one.area):
        while True:
            hit = next((other for other in merged if _overlap(patch, other)), None)
            if hit is None:
                break
            merged.remove(hit)
            patch = hit.joined(patch)
        merged.append(patch)
    return sorted(merged, key=lambda one: -one.area)


def _overlap(one: Patch, other: Patch) -> bool:
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    smaller = min((box.right - box.left) * (box.bottom - box.top) for box in (one, other))
    return across > 0 and down > 0 and across * down > OVERLAP * smaller


def crops(parts: Split, owners: Sequence[int], chosen: Sequence[Patch]) -> Tensor:
    """Each patch alone on gray in a square of its own, float [N, 4, CROP, CROP].

    Args:
        owners: which picture of the batch each patch is from.
    """
    if not chosen:
        return torch.zeros(0, CHANNELS, CROP, CROP)
    device, side = parts.image.device, parts.image.shape[-1]
    rows = torch.tensor(owners, device=device)
    labels = parts.labels[rows]
    most = max(len(patch.members) for patch in chosen)
    own = torch.zeros_like(labels, dtype=torch.bool)
    for k in range(most):
        names = [patch.members[k] if k < len(patch.members) else -1 for patch in chosen]
        own |= labels == torch.tensor(names, device=device)[:, None, None]
    others = (labels > 0) & ~own
    # Of a neighbor, its soft edge is left out as well.
    beside = F.max_pool2d(others[:, None].float(), 3, stride=1, padding=1) > 0
    image = parts.image[rows] * (own[:, None] | ~beside)
    half = [patch.side * (0.5 + MARGIN) + 1 / side for patch in chosen]
    middle = torch.tensor([patch.center for patch in chosen], device=device)
    reach = torch.tensor(half, device=device)
    down, across = (sampling(middle[:, k], reach, side) for k in (1, 0))
    small = torch.einsum("nih,nchw->nciw", down, image)
    found = torch.einsum("njw,nciw->ncij", across, small)
    found[:, :3] += (1 - found[:, 3:]) * GRAY
    return found


def sampling(middle: Tensor, reach: Tensor, side: int) -> Tensor:
    """Weights [N, CROP, side] of a triangle filter that takes ``middle`` +- ``reach`` to a crop."""
    step = 2 * reach * side / CROP
    places = (torch.arange(CROP, device=middle.device) + 0.5) / CROP * 2 - 1
    at = (middle[:, None] + reach[:, None] * places) * side
    pixels = torch.arange(side, device=middle.device) + 0.5
    width = step.clamp(min=1)[:, None, None]
    weights = (1 - (at[:, :, None] - pixels).abs() / width).clamp(min=0)
    return weights / width
