"""Embeddings on disk: every caption once, unpadded, in 16 bits, memory-mapped.

A folder with ``store.json`` (what encoded them) and shards

    tokens-RANK-NUMBER.safetensors
        tokens   [T, C] bfloat16, or float16 in the trainer's cache: the tokens of all captions, one
                 after another
        lengths  [N] int32, tokens of each caption
        hashes   [N, 16] uint8, BLAKE2b of each caption

A shard is whole or not there, and a second pass over the same captions finds nothing to do.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from open_imagen.devices import sent
from open_imagen.errors import CheckpointError, ConfigError, DataError
from open_imagen.storage import read_json, save_tensors, write_json
from open_imagen.text.cache import rows_of
from open_imagen.types import TextEmbedding, TextEncoder

FORMAT = 1
BATCH = 64
"""Captions encoded together; always the same ones, so that a resumed job writes the same bits."""


def digest(caption: str) -> bytes:
    """What a caption is known by: 16 bytes."""
    return hashlib.blake2b(caption.encode(), digest_size=16).digest()


def fingerprint(encoder: TextEncoder) -> dict[str, Any]:
    """What must agree for embeddings to be of use: the encoder and its own numbers."""
    probe = encoder(["a red circle above a blue square"]).tokens.float().cpu()
    # Six digits of a few sums: other weights differ, another machine's rounding does not.
    sums = [f"{float(value):.2e}" for value in (probe.sum(), probe.square().sum(), probe[0, 0, 0])]
    return {"encoder": encoder.name, "width": encoder.width, "probe": sums}


EMBED_AGAIN = (
    "Run imagen embed again; what is there is kept. Give it the recipe: the captions of its "
    "validation data and the prompts of its samples are embedded too."
)


class Store:
    """A TextEncoder that looks captions up instead of encoding them."""

    def __init__(self, folder: Path) -> None:
        """Map the shards of a folder.

        Raises:
            CheckpointError: it is no such folder, of a newer format, or a shard is damaged.
        """
        facts = read_json(folder / "store.json")
        if facts.get("format", FORMAT + 1) > FORMAT:
            raise CheckpointError(
                f"{folder} was written by a newer version.", "Update open-imagen."
            )
        self.folder, self.facts = folder, facts
        self.name: str = facts["encoder"]
        self.width: int = facts["width"]
        self.max_length: int = facts["max_length"]
        self._files: list[Any] = []
        keys, places = [], []
        for path in shards(folder):
            try:
                file: Any = safe_open(path, framework="pt")
                hashes = file.get_tensor("hashes").numpy()
                lengths = file.get_tensor("lengths").numpy().astype(np.int64)
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"The embeddings {path} are damaged ({error}).",
                    "Remove that file and run imagen embed again.",
                ) from error
            starts = np.cumsum(lengths) - lengths
            keys.append(hashes.view(np.uint64))
            number = np.full_like(starts, len(self._files))
            places.append(np.stack([number, starts, lengths], axis=1))
            self._files.append(file.get_slice("tokens"))
        joined = np.concatenate(keys) if keys else np.zeros((0, 2), np.uint64)
        order = np.argsort(joined[:, 0], kind="stable")
        self._keys = joined[order]
        self._places = np.concatenate(places)[order] if places else np.zeros((0, 3), np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, caption: str) -> bool:
        return self._find(caption) is not None

    @property
    def numbers(self) -> int:
        """Of all tokens that are there."""
        return self.width * int(self._places[:, 2].sum())

    def tokens(self, caption: str) -> Tensor:
        """[L, width] in 16 bits, as mapped from the file.

        Raises:
            DataError: the caption was never embedded.
        """
        place = self._find(caption)
        if place is None:
            raise DataError(
                f"The embeddings in {self.folder} do not hold the caption {caption[:60]!r}.",
                EMBED_AGAIN,
            )
        file, start, length = place
        found: Tensor = self._files[file][start : start + length]
        return found

    def num_tokens(self, caption: str) -> int:
        """The number of tokens of a caption."""
        return len(self.tokens(caption))

    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """[B, L, width] float32 and mask.

        Raises:
            DataError: a caption was never embedded.
        """
        rows = [self.tokens(caption) for caption in captions]
        return TextEmbedding.of(rows).to("cpu", torch.float32)

    def check(self, encoder: str) -> "Store":
        """This store, if it was made by this encoder.

        Raises:
            ConfigError: it was made by another.
        """
        if encoder != self.name:
            raise ConfigError(
                f"The embeddings in {self.folder} were made by {self.name}, not by {encoder}.",
                "Make others with imagen embed, or change the recipe's encoder.",
            )
        return self

    def count_missing(self, captions: Sequence[str]) -> int:
        """How many of these captions are not there; of a million in a few seconds."""
        if not len(self):
            return len(captions)
        wanted = np.frombuffer(b"".join(map(digest, captions)), np.uint64).reshape(-1, 2)
        places = np.searchsorted(self._keys[:, 0], wanted[:, 0]).clip(max=len(self) - 1)
        doubtful = np.nonzero((self._keys[places] != wanted).any(axis=1))[0].tolist()
        return sum(captions[k] not in self for k in doubtful)

    def check_captions(self, captions: Iterable[str]) -> None:
        """Check that all of these captions are there, before the first is asked for.

        Raises:
            DataError: some are not; the message has their number and one of them.
        """
        wanted = list(dict.fromkeys(captions))
        if number := self.count_missing(wanted):
            one = next(caption for caption in wanted if caption not in self)
            raise DataError(
                f"The embeddings in {self.folder} lack {number:,} of {len(wanted):,} captions, as "
                f"{one[:60]!r}.",
                EMBED_AGAIN,
            )

    def _find(self, caption: str) -> tuple[int, int, int] | None:
        first, second = np.frombuffer(digest(caption), np.uint64)
        place = int(np.searchsorted(self._keys[:, 0], first))
        while place < len(self._keys) and self._keys[place, 0] == first:
            if self._keys[place, 1] == second:
                file, start, length = self._places[place].tolist()
                return file, start, length
            place += 1
        return None


class PackedStore:
    """A TextEncoder of a store, all of it in one table on a device: a batch is one look-up.

    Captions that are not in it are encoded by another encoder.
    """

    def __init__(self, store: Store, rest: TextEncoder, device: torch.device) -> None:
        self.store, self.rest = store, rest
        self.name, self.width, self.max_length = store.name, store.width, store.max_length
        tables = [file[:] for file in store._files]
        lengths = [len(table) for table in tables]
        self._starts = [0, *accumulate(lengths)]
        self._table = torch.cat([table.to(device) for table in tables])

    def num_tokens(self, caption: str) -> int:
        """The number of tokens of a caption."""
        return self.rest.num_tokens(caption)

    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """[B, L, width] float32 and mask, on the table's device."""
        places = [self.store._find(caption) for caption in captions]
        found = [(self._starts[p[0]] + p[1], p[2]) for p in places if p is not None]
        if len(found) < len(captions):
            return self.rest(captions).to(self._table.device)
        starts, lengths = sent(torch.tensor(found), self._table.device).T[:, :, None]
        return rows_of(self._table, starts, lengths, max(length for _, length in found))


class StoreFirst:
    """A TextEncoder that looks captions up, and encodes those that are not in the store."""

    def __init__(self, store: Store, encoder: TextEncoder) -> None:
        self.store, self.encoder = store, encoder
        self.name, self.width, self.max_length = store.name, store.width, store.max_length

    def num_tokens(self, caption: str) -> int:
        """The number of tokens of a caption."""
        return self.encoder.num_tokens(caption)

    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """[B, L, width] float32 and mask, on the CPU."""
        missing = [one for one in dict.fromkeys(captions) if one not in self.store]
        rows: dict[str, Tensor] = {}
        if missing:
            text = self.encoder(missing).to("cpu")
            for caption, tokens, mask in zip(missing, text.tokens, text.mask, strict=True):
                rows[caption] = tokens[mask]
        found = [rows[one] if one in rows else self.store.tokens(one) for one in captions]
        return TextEmbedding.of([one.float() for one in found])


def shards(folder: Path) -> list[Path]:
    """The whole shards of a store."""
    return sorted(folder.glob("tokens-*.safetensors"))


def embed(
    captions: Iterable[str],
    encoder: TextEncoder,
    folder: Path,
    rank: int = 0,
    ranks: int = 1,
    per_shard: int = 16_384,
    progress: Callable[[int], None] | None = None,
    dtype: torch.dtype = torch.bfloat16,
    reuse: Sequence[Store] = (),
) -> int:
    """Embed captions that are not in the store yet; returns their number.

    Killed at any moment and called again with the same captions it goes on after its last whole
    shard and ends with the same bits. Ranks take captions by their hash, each its own.

    Args:
        per_shard: captions in a shard; a multiple of 64.
        progress: told how many are done.
        dtype: of the tokens.
        reuse: stores by the same encoder, from which captions that they have are copied.

    Raises:
        ConfigError: the folder holds embeddings of another encoder.
        OutputError: it cannot be written; whole shards stay.
    """
    _open_for_writing(folder, encoder)
    known, number = set(), 0
    for path in shards(folder):
        with safe_open(path, framework="pt") as file:
            known |= {row.tobytes() for row in file.get_tensor("hashes").numpy()}
        number += path.name.startswith(f"tokens-{rank:05d}-")
    for store in reuse:
        encoder = StoreFirst(store, encoder)
    fresh = _unknown(captions, known, rank, ranks)
    done = 0
    while chunk := list(islice(fresh, per_shard)):
        rows: list[Tensor] = []
        for some in (chunk[k : k + BATCH] for k in range(0, len(chunk), BATCH)):
            text = encoder(some)
            for tokens, mask in zip(text.tokens, text.mask, strict=True):
                rows.append(tokens[mask].to("cpu", dtype))
            done += len(some)
            if progress is not None:
                progress(done)
        _write_shard(folder / f"tokens-{rank:05d}-{number:06d}.safetensors", chunk, rows)
        number += 1
    return done


def _open_for_writing(folder: Path, encoder: TextEncoder) -> None:
    """Check that a folder can take embeddings of this encoder; make it a store if it is none.

    Raises:
        ConfigError: the folder holds embeddings of another encoder.
    """
    facts = {"format": FORMAT, "max_length": encoder.max_length, **fingerprint(encoder)}
    if not (folder / "store.json").is_file():
        write_json(folder / "store.json", facts)
        return
    there = read_json(folder / "store.json")
    if any(there.get(key) != facts[key] for key in ("encoder", "width", "probe")):
        raise ConfigError(
            f"{folder} holds embeddings by {there.get('encoder')}, of another version perhaps; "
            f"{encoder.name} cannot be mixed in.",
            "Choose another folder.",
        )


def _write_shard(path: Path, captions: Sequence[str], rows: Sequence[Tensor]) -> None:
    """Write the tokens [L, C] of some captions as one shard."""
    hashes = np.frombuffer(b"".join(map(digest, captions)), np.uint8).reshape(-1, 16)
    save_tensors(
        path,
        {
            "tokens": torch.cat(list(rows)),
            "lengths": torch.tensor([len(row) for row in rows], dtype=torch.int32),
            "hashes": torch.from_numpy(hashes.copy()),
        },
    )


def _unknown(captions: Iterable[str], known: set[bytes], rank: int, ranks: int) -> Iterator[str]:
    """Captions of this rank that are new, each once."""
    for caption in captions:
        key = digest(caption)
        if key not in known and int.from_bytes(key[:8], "little") % ranks == rank:
            known.add(key)
            yield caption
