"""What is in a picture of the things world: objects, where they are, and the ground behind them.

The picture is taken apart (`segment`), and a classifier says what each patch shows. Patches that
it does not know alone may belong to one object (a pair of footprints, a bulb and its rays), and
one patch may be two objects that touch: both are tried, and taken where the classifier is sure.
What remains unknown counts as wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.worlds.things.colors import NAMES, recolor
from open_imagen.worlds.things.judge_network import Classifier, Labels, Scores
from open_imagen.worlds.things.scenes import COLORS, SHAPE, SIGN, Item
from open_imagen.worlds.things.segment import (
    GRAY,
    Ground,
    Patch,
    Split,
    crops,
    split,
)

CLOSE = 0.08
"""Patches closer than this may belong to one object."""
MOST = 10
"""With more patches than this in a picture, no groups of them are tried."""
NECK = 0.3
"""Touching objects are cut where a patch is narrower than this share of its widest place."""
SAME = 0.06
"""Mean OKLab-like difference (RGB 0 to 1) below which recoloring leaves an object as it was."""
GROUND_DISTANCE = 0.2
"""Further than this from every named color (RGB, length), a ground has no known color."""


class FoundObject(NamedTuple):
    """An object in a picture; lengths in units of the picture's side."""

    name: str
    """A thing's label, "shape star", "sign", or "" where the judge is not sure."""
    guess: str
    """The likeliest name, sure or not."""
    probability: float
    style: str
    color: str
    """What it was recoloured towards; "" as drawn."""
    also: frozenset[str]
    """Colors that it has as drawn: recoloring towards them changes nothing."""
    x: float
    y: float
    side: float
    """The longer side of its box."""
    area: float


class Seen(NamedTuple):
    """What is in a picture."""

    objects: tuple[FoundObject, ...]
    ground: str
    """As in Scene.ground: "" transparent, a color, or two; "?" an unknown one."""


@dataclass(frozen=True, kw_only=True)
class Sure:
    """When the judge takes the classifier's word."""

    probability: float = 0.5
    margin: float = 0.2
    """To the second best."""


class _Row(NamedTuple):
    """A patch and what the classifier says of it."""

    patch: Patch
    crop: Tensor
    things: Tensor
    style: int
    color: int


class Judge:
    """Looks at pictures with a classifier."""

    def __init__(self, classifier: Classifier, sure: Sure | None = None) -> None:
        self.classifier = classifier
        self.sure = sure or Sure(**classifier.facts.get("sure", {}))

    @property
    def labels(self) -> Labels:
        """The names of the classes."""
        return self.classifier.labels

    def look(self, images: Tensor) -> list[Seen]:
        """What pictures uint8 [B, 3 or 4, S, S] show."""
        parts = split(images)
        atoms = self._rows(parts, parts.patches)
        grouped = self._rows(parts, [_groups(patches) for patches in parts.patches])
        chosen = [self._choose(a, g) for a, g in zip(atoms, grouped, strict=True)]
        halves = []
        for picture, rows in enumerate(chosen):
            unknown = [k for k, row in enumerate(rows) if not self.known(row.things)]
            halves.append([cut(parts, picture, rows[k].patch) for k in unknown])
        found = self._rows(parts, [[h for pair in pairs for h in pair] for pairs in halves])
        seen = []
        for rows, pairs, cuts, ground in zip(chosen, halves, found, parts.grounds, strict=True):
            doubtful = [row for row in rows if not self.known(row.things)]
            kept = [row for row in rows if self.known(row.things)]
            place = 0
            for row, pair in zip(doubtful, pairs, strict=True):
                both = cuts[place : place + len(pair)]
                place += len(pair)
                apart = len(both) == 2 and all(self.known(half.things) for half in both)
                kept.extend(both if apart else [row])
            seen.append(Seen(tuple(map(self._object, kept)), name_ground(ground)))
        return seen

    def known(self, scores: Tensor) -> bool:
        """Whether one crop's probabilities name something for sure."""
        best, places = scores.topk(2)
        sure = self.sure
        return (
            int(places[0]) != self.labels.none
            and float(best[0]) >= sure.probability
            and float(best[0] - best[1]) >= sure.margin
        )

    def _rows(self, parts: Split, patches: Sequence[Sequence[Patch]]) -> list[list[_Row]]:
        """Classify patches, by picture."""
        owners = [k for k, some in enumerate(patches) for _ in some]
        flat = [patch for some in patches for patch in some]
        images = crops(parts, owners, flat)
        scores: Scores = self.classifier(images)
        rows: list[list[_Row]] = [[] for _ in patches]
        styles, colors = scores.styles.argmax(1).tolist(), scores.colors.argmax(1).tolist()
        for k, (owner, patch) in enumerate(zip(owners, flat, strict=True)):
            rows[owner].append(_Row(patch, images[k], scores.things[k], styles[k], colors[k]))
        return rows

    def _choose(self, atoms: Sequence[_Row], groups: Sequence[_Row]) -> list[_Row]:
        """Choose the objects of an image among groups of patches and single patches.

        First groups that are recognised and contain an unrecognised patch, then the remaining
        patches.
        """
        known = {row.patch.members: self.known(row.things) for row in atoms}
        taken: set[int] = set()
        chosen = []
        order = sorted(groups, key=lambda row: (-len(row.patch.members), -float(row.things.max())))
        for row in order:
            members = set(row.patch.members)
            inside = [sure for names, sure in known.items() if set(names) <= members]
            if self.known(row.things) and not members & taken and not all(inside):
                chosen.append(row)
                taken |= members
        return chosen + [row for row in atoms if not set(row.patch.members) & taken]

    def _object(self, row: _Row) -> FoundObject:
        guess = self.labels.name(int(row.things.argmax()))
        x, y = row.patch.center
        return FoundObject(
            guess if self.known(row.things) else "",
            guess,
            float(row.things.max()),
            self.labels.styles[row.style],
            self.labels.colors[row.color],
            colors_of(row.crop),
            x,
            y,
            row.patch.side,
            row.patch.area,
        )


def name_of(item: Item) -> str:
    """The judge's name of what an item is."""
    if item.thing == SIGN:
        return "sign"
    return f"shape {item.label}" if item.thing == SHAPE else item.label


def name_ground(ground: Ground) -> str:
    """A ground in words; "?" where a color has no name."""
    if ground.transparent:
        return ""
    names = []
    for color in ground.colors:
        shades = torch.tensor(list(COLORS.values())) / 255
        away = (shades - torch.tensor(color)).norm(dim=1)
        near = int(away.argmin())
        names.append(list(COLORS)[near] if float(away[near]) <= GROUND_DISTANCE else "?")
    return "?" if "?" in names else " and ".join(dict.fromkeys(names))


def colors_of(crop: Tensor) -> frozenset[str]:
    """The named colors towards which recoloring changes a crop [4, S, S] hardly."""
    cover = crop[3:]
    sprite = torch.cat([(crop[:3] - (1 - cover) * GRAY).clamp(0, 1), cover])[None]
    sprite = F.avg_pool2d(sprite, 2)
    tried = recolor(sprite.expand(len(NAMES), -1, -1, -1), torch.arange(len(NAMES)))
    apart = (tried[:, :3] - sprite[:, :3]).square().sum(1).sqrt().sum((1, 2))
    apart = apart / sprite[:, 3].sum().clamp(min=1e-3)
    return frozenset(name for name, d in zip(NAMES, apart.tolist(), strict=True) if d < SAME)


def _groups(patches: Sequence[Patch]) -> list[Patch]:
    """Pairs of close patches, and all that are close to each other in a chain."""
    if not 2 <= len(patches) <= MOST:
        return []
    pairs = [a.joined(b) for k, a in enumerate(patches) for b in patches[:k] if a.gap(b) < CLOSE]
    chains: list[list[Patch]] = []
    for patch in patches:
        near = [c for c in chains if any(patch.gap(other) < CLOSE for other in c)]
        joined = [patch, *(other for chain in near for other in chain)]
        chains = [*(chain for chain in chains if chain not in near), joined]
    for chain in chains:
        if len(chain) > 2:
            whole = chain[0]
            for patch in chain[1:]:
                whole = whole.joined(patch)
            pairs.append(whole)
    return pairs


def cut(parts: Split, picture: int, patch: Patch) -> tuple[Patch, Patch] | tuple[()]:
    """A patch as two that touch at its narrowest place; nothing where it has no neck.

    The neck is taken out of the picture, and the second half gets a number of its own.
    """
    labels = parts.labels[picture]
    mask = torch.zeros_like(labels, dtype=torch.bool)
    for member in patch.members:
        mask |= labels == member
    best: tuple[float, int, int, int] | None = None
    for axis in (0, 1):
        width = mask.sum(1 - axis)
        filled = width.nonzero().flatten()
        first, last = int(filled[0]), int(filled[-1]) + 1
        start, end = first + (last - first) // 4, last - (last - first) // 4
        if last - first < 8:  # too small for two
            continue
        before = after = start + int(width[start:end].argmin())
        least = int(width[before])
        while int(width[after]) <= least + 1 and after < end:
            after += 1
        share = least / int(width.max())
        if share <= NECK and (best is None or share < best[0]):
            best = (share, axis, before, after)
    if best is None:
        return ()
    _, axis, before, after = best
    along = torch.arange(mask.shape[0])
    along = along[:, None] if axis == 0 else along[None, :]
    neck = mask & (along >= before) & (along < after)
    labels[neck] = 0
    parts.image[picture, :, neck] = 0
    number = int(parts.labels.max()) + 1
    labels[mask & (along >= after)] = number
    first_half = _patch_of(mask & (along < before), patch.members)
    return first_half, _patch_of(mask & (along >= after), (number,))


def _patch_of(mask: Tensor, members: tuple[int, ...]) -> Patch:
    side = mask.shape[-1]
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return Patch(
        int(columns[0]) / side,
        int(rows[0]) / side,
        (int(columns[-1]) + 1) / side,
        (int(rows[-1]) + 1) / side,
        float(mask.sum()) / side**2,
        members,
    )


LOW, HIGH = 0.1, 0.9
NEAR = 3
"""Pixels around an object in which a transparent ground need not be clear yet."""
CLEAR, CLEAR_SHARE, SHARPEST = 0.02, 0.98, 1.5


class Transparency(NamedTuple):
    """Of a picture with alpha."""

    clear: float
    """Share of the pixels away from objects with an alpha of at most 0.02."""
    edge: float
    """Mean width of outer edges from 10 to 90 % of alpha in pixels; NaN where there is none."""

    @property
    def right(self) -> bool:
        """Whether the ground is clear and edges are sharp."""
        return self.clear >= CLEAR_SHARE and self.edge <= SHARPEST


def transparency(image: Tensor) -> Transparency:
    """Measure the transparent ground of one picture uint8 [4, S, S].

    The width of edges is the area of their pixels by their length, which is the sum of what alpha
    rises by (the coarea formula); a sharp edge drawn with exact areas has 0.8.
    """
    alpha = image[3].float() / 255
    # Objects as the judge finds them: what is too small for it counts as ground.
    small = split(image[None])
    mask = F.interpolate((small.labels > 0).float()[:, None], alpha.shape)[0, 0] > 0
    away = ~_grown(mask & (alpha > SOLID_CORE), NEAR)
    clear = float((alpha[away] <= CLEAR).float().mean()) if bool(away.any()) else 1.0
    outer = _grown(alpha < LOW, NEAR) & _grown(alpha > HIGH, NEAR)
    cover = alpha.clamp(LOW, HIGH)
    area = float(((cover > LOW) & (cover < HIGH) & outer).sum())
    length = float(torch.hypot(*torch.gradient(cover))[outer].sum()) / (HIGH - LOW)
    return Transparency(clear, area / length if length else float("nan"))


SOLID_CORE = 0.2


def _grown(mask: Tensor, by: int) -> Tensor:
    return F.max_pool2d(mask.float()[None, None], 2 * by + 1, stride=1, padding=by)[0, 0] > 0
