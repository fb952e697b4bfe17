"""Prompts on their way to the networks: read by the model's world, then encoded."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from open_imagen.errors import ConfigError, OpenImagenWarning
from open_imagen.text.cache import OnDemand, Remembered
from open_imagen.text.encoders import ENCODERS, load_encoder
from open_imagen.text.weights import Span, TokenFinder, parse_weights, relocated, weigh
from open_imagen.types import TextEncoder
from open_imagen.world import Reading, World, is_world, open_world

MAX_ENCODED = 512
"""How many prompts keep their tokens in memory: at most 600 MB with the paper's encoder."""
MAX_READINGS = 4096
"""How many prompts are remembered as the world has read them."""


class EncodedPrompt(NamedTuple):
    """A prompt and what guidance leads away from, as the networks read them."""

    prompt: str
    """As the world reads it."""
    tokens: Tensor
    """[L, C]."""
    negative: str = ""
    negative_tokens: Tensor | None = None
    """Of the negative prompt, or of the empty sentence; None without either."""


class WeightedPrompt(NamedTuple):
    """A prompt as the world reads it, and which of its words have weights."""

    prompt: str
    spans: list[Span]


def plain_prompt(prompt: str, weights: bool) -> str:
    """A prompt without the weights of its words, if it may have any."""
    return parse_weights(prompt)[0] if weights else prompt


class PromptEncoder:
    """A text encoder, and the world that reads prompts before it."""

    def __init__(self, text: TextEncoder, world: str = "") -> None:
        """Take a text encoder and open the world.

        Args:
            world: the name of the world; "" for none.
        """
        self.text = Remembered(text, limit=MAX_ENCODED)
        """The text encoder; each of its latest prompts is encoded once."""
        self.world_name = world
        self._readings: dict[str, Reading] = {}

    @property
    def world(self) -> World | None:
        """What knows the prompts of this model; None without one that this version has."""
        return open_world(self.world_name) if is_world(self.world_name) else None

    def read(self, prompt: str) -> Reading:
        """A prompt in the English that the model has learned; the prompt itself without a world."""
        if prompt not in self._readings:
            if len(self._readings) >= MAX_READINGS:
                self._readings.clear()
            world = self.world
            self._readings[prompt] = Reading(prompt) if world is None else world.read(prompt)
        return self._readings[prompt]

    def hint(self, prompt: str) -> str | None:
        """What the model does not know of a prompt, with the nearest words that it knows."""
        world = self.world
        return None if world is None else world.hint(prompt, self.text.encoder)

    def warn(self, prompts: Iterable[str]) -> None:
        """Warn of prompts that have a hint."""
        for prompt in dict.fromkeys(prompts):
            if hint := self.hint(prompt):
                warnings.warn(hint, OpenImagenWarning, stacklevel=5)

    def knows(self, prompts: Iterable[str]) -> bool:
        """Whether all of these prompts have been encoded."""
        return self.text.knows(self.read(prompt).prompt for prompt in prompts)

    def encode(
        self,
        prompts: Sequence[str],
        negatives: Sequence[str],
        empty: bool = False,
        weights: Sequence[bool] = (),
    ) -> list[EncodedPrompt]:
        """Each prompt with its negative prompt, "" for none.

        Args:
            empty: whether a stage needs the tokens of the empty sentence where there is no
                negative prompt.
            weights: for each prompt, whether "(word:1.3)" weighs words; for none if empty.

        Raises:
            ConfigError: a weight is out of range, or the encoder cannot weigh words.
        """
        weighs = list(weights) or [False] * len(prompts)
        own, against = (
            [self._read_weighted(one, weigh) for one, weigh in zip(texts, weighs, strict=True)]
            for texts in (prompts, negatives)
        )
        needs_empty = empty or any(one.spans for one in (*own, *against))
        wanted = [*own, *(one for one in against if one.prompt)]
        captions = [one.prompt for one in wanted] + ([""] if needs_empty else [])
        tokens = self.text.rows(captions)
        return [
            EncodedPrompt(
                prompt.prompt,
                self._weighed(prompt, tokens),
                negative.prompt,
                self._weighed(negative, tokens) if negative.prompt or empty else None,
            )
            for prompt, negative in zip(own, against, strict=True)
        ]

    def _read_weighted(self, prompt: str, weigh: bool) -> "WeightedPrompt":
        """A prompt as the world reads it, and the weights of its words."""
        plain, spans = parse_weights(prompt) if weigh else (prompt, [])
        read = self.read(plain).prompt if plain else ""
        spans, lost = relocated(spans, plain, read)
        for words in lost:
            warnings.warn(
                f"The weight of {words!r} is ignored: the prompt is read as {read!r}.",
                OpenImagenWarning,
                stacklevel=5,
            )
        return WeightedPrompt(read, spans)

    def _weighed(self, prompt: "WeightedPrompt", tokens: Mapping[str, Tensor]) -> Tensor:
        """The tokens of a prompt with its weights."""
        own = tokens[prompt.prompt]
        if not prompt.spans:
            return own
        if not isinstance(self.text.encoder, TokenFinder):
            raise ConfigError(
                f"The encoder {self.text.name} does not tell which tokens a word became, so words "
                "cannot have weights.",
                "Leave prompt_weights out.",
            )
        return weigh(own.float(), tokens[""].float(), *prompt, self.text.encoder)

    def release(self) -> None:
        """Give the encoder's memory back, if it can be loaded again."""
        if isinstance(self.text.encoder, OnDemand):
            self.text.encoder.release()


def load_on_demand(name: str, device: torch.device, folder: Path | None = None) -> OnDemand:
    """The text encoder of this name, loaded when it is first needed.

    Args:
        folder: where its files are, if that is known.

    Raises:
        UnknownName: there is no such encoder.
    """
    row = ENCODERS[name]
    make: Callable[[], TextEncoder] = partial(load_encoder, name, device, folder)
    return OnDemand(name, row.width, row.max_length, make)
