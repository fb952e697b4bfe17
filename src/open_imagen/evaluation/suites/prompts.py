"""A prompt with its category and metadata, and a suite of them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from open_imagen.evaluation.image_set import list_hash


class Prompt(NamedTuple):
    """A prompt of a suite."""

    text: str
    category: str
    metadata: dict[str, Any]
    """In GenEval's schema: tag, include, exclude, prompt; more keys may follow."""


def plain_prompt(text: str, category: str) -> Prompt:
    """A prompt without expectations."""
    return Prompt(text, category, {"tag": category, "include": [], "prompt": text})


@dataclass(frozen=True)
class Suite:
    """Prompts in order."""

    name: str
    prompts: tuple[Prompt, ...]

    @property
    def categories(self) -> list[str]:
        """The categories in the order of the prompts."""
        return list(dict.fromkeys(prompt.category for prompt in self.prompts))

    def record(self) -> dict[str, Any]:
        """What identifies it."""
        texts = [prompt.text for prompt in self.prompts]
        return {"suite": self.name, "count": len(texts), "sha256": list_hash(texts)}

    def first(self, number: int | None) -> "Suite":
        """The same with at most so many prompts in each category."""
        if number is None:
            return self
        by_category: dict[str, list[Prompt]] = {name: [] for name in self.categories}
        for prompt in self.prompts:
            if len(by_category[prompt.category]) < number:
                by_category[prompt.category].append(prompt)
        chosen = {prompt for prompts in by_category.values() for prompt in map(_key, prompts)}
        return Suite(self.name, tuple(p for p in self.prompts if _key(p) in chosen))


def _key(prompt: Prompt) -> tuple[str, str]:
    return prompt.category, prompt.text
