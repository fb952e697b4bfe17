"""Which caption an example has this time: one of several, its tags shuffled, in a template."""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from open_imagen.errors import ConfigError

SLOT = "{caption}"


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """What is done with the captions of an example."""

    pick_caption: str = "first"
    """Of several captions: "first", or "random" for another one each time."""
    caption_weights: tuple[float, ...] = ()
    """How often each is picked, in their order; none for all alike."""
    caption_templates: tuple[str, ...] = ()
    """Texts that hold {caption}; one is drawn each time."""
    shuffle_tags: bool = False
    """Put the tags of a caption in another order each time."""
    keep_tags: int = 0
    """Tags at the start that stay where they are."""
    tag_separator: str = ","
    """What stands between tags."""

    def check_captions(self) -> None:
        """Check the settings of captions.

        Raises:
            ConfigError: a setting is wrong.
        """
        if self.pick_caption not in ("first", "random"):
            raise ConfigError(
                f'data.pick_caption = {self.pick_caption!r} must be "first" or "random".'
            )
        if self.caption_weights and self.pick_caption == "first":
            raise ConfigError(
                'data.caption_weights needs data.pick_caption = "random".',
            )
        weights = self.caption_weights
        if any(not 0 <= one < float("inf") for one in weights) or (weights and not any(weights)):
            raise ConfigError(
                f"data.caption_weights = {list(weights)} must be at least 0, and one above 0."
            )
        for template in self.caption_templates:
            if SLOT not in template:
                raise ConfigError(f"data.caption_templates: {template!r} does not hold {SLOT}.")
        if self.keep_tags < 0 or not self.tag_separator:
            raise ConfigError(
                f"data.keep_tags = {self.keep_tags} must be at least 0, and data.tag_separator "
                "must not be empty."
            )
        if self.keep_tags and not self.shuffle_tags:
            raise ConfigError("data.keep_tags needs data.shuffle_tags = true.")


class CaptionChooser:
    """Draws the caption of an example from those that it has."""

    def __init__(self, config: CaptionConfig) -> None:
        self.config = config
        self.is_endless = config.shuffle_tags
        """Whether captions hardly ever come twice."""

    def choose(self, captions: tuple[str, ...], rng: random.Random) -> str:
        """The caption; "" stands for one that cannot be used, and one can."""
        caption = self._pick(captions, rng)
        if self.config.shuffle_tags:
            caption = self._shuffled(caption, rng)
        if self.config.caption_templates:
            template = rng.choice(self.config.caption_templates)
            caption = template.replace(SLOT, caption)
        return caption

    def _weighted(self, captions: tuple[str, ...]) -> list[tuple[str, float]]:
        """The usable captions that can be picked, and their weights."""
        usable = [(text, place) for place, text in enumerate(captions) if text]
        if self.config.pick_caption == "first":
            return [(usable[0][0], 1.0)]
        weights = self.config.caption_weights or (1.0,) * len(captions)
        weighted = [
            (text, weights[place] if place < len(weights) else 0.0) for text, place in usable
        ]
        # An example may have none of the captions that have a weight.
        some = [one for one in weighted if one[1]]
        return some or [(text, 1.0) for text, _ in usable]

    def _pick(self, captions: tuple[str, ...], rng: random.Random) -> str:
        weighted = self._weighted(captions)
        if len(weighted) == 1:
            return weighted[0][0]
        texts, weights = zip(*weighted, strict=True)
        picked: str = rng.choices(texts, weights)[0]
        return picked

    def _shuffled(self, caption: str, rng: random.Random) -> str:
        separator, keep = self.config.tag_separator, self.config.keep_tags
        tags = [tag.strip() for tag in caption.split(separator) if tag.strip()]
        rest = tags[keep:]
        rng.shuffle(rest)
        joint = separator if separator.isspace() else f"{separator} "
        return joint.join(tags[:keep] + rest)

    def possible(self, captions: Iterable[tuple[str, ...]]) -> Iterator[str]:
        """Every caption that these can become; of shuffled tags, the order that they have."""
        templates = self.config.caption_templates or (SLOT,)
        for some in captions:
            for (text, _), template in itertools.product(self._weighted(some), templates):
                yield template.replace(SLOT, text)
