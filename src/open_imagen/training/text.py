"""How the captions of a run become embeddings: from a cache, from memory, or encoded per batch."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from open_imagen.devices import free_memory
from open_imagen.distributed import all_gather_object, world
from open_imagen.errors import ConfigError, OpenImagenError, OutputError, TrainingError
from open_imagen.storage import cache_directory
from open_imagen.text.cache import ByLength, Packed, Remembered
from open_imagen.text.letters import with_letters
from open_imagen.text.store import PackedStore, Store, StoreFirst, digest, embed, fingerprint
from open_imagen.types import Source, TextEmbedding, TextEncoder

log = logging.getLogger("open_imagen.training")

GPU_MEMORY_DIVISOR = 8
"""All embeddings are moved to the GPU if they take no more than this part of its free memory."""
CAPTIONS_PER_CALL = (16, 512)
"""Captions encoded together where each batch is encoded by itself, on a CPU and on a GPU."""
MANY = 5_000_000
"""Examples from which captions are encoded with each batch: to know them all would take the memory
that an index of the data saves."""
FEW = 1_000
"""Fewer captions are encoded anew at every start, in seconds, and kept in memory."""
PER_SHARD = 4_096
"""Captions in a file of the cache; what a kill loses at most."""
LARGE = 2**32
"""Bytes of embeddings from which a run suggests imagen embed."""
SAMPLE = 256
"""Captions whose tokens are counted, to estimate the size of all."""
EMBED_FIRST = (
    "Encode them once with: imagen embed RECIPE --out DIR (also under torchrun, on several GPUs), "
    'and set embeddings = "DIR" in the recipe.'
)

Progress = Callable[[int, int], None]
"""(captions encoded, of how many)"""


class CaptionEncoder:
    """Captions -> embeddings on the device of training.

    Embeddings that imagen embed wrote are read as they are. Otherwise every caption is encoded
    once and kept: in files that later runs with the same captions and encoder read, or in memory if
    they are few. Captions that hardly ever come twice, because they are endless or of millions of
    examples, are encoded with each batch.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        source: Source,
        letters: int,
        device: torch.device,
        bf16: bool,
        cache: str | None = "",
    ) -> None:
        """Choose how captions are encoded and cached.

        Args:
            letters: letters of quoted text that the network reads; see text/letters.py.
            bf16: encode under bfloat16 autocast where each batch is encoded by itself.
            cache: the folder for embeddings, the user's cache folder if empty; None: in memory.
        """
        self.letters, self.device = letters, device
        self.cache = None if cache is None else Path(cache or cache_directory() / "captions")
        self._is_endless = getattr(source, "endless_captions", False)
        self.encoder: TextEncoder
        if isinstance(encoder, Store):
            self.encoder = encoder
        elif is_by_batch(source):
            self.encoder = ByLength(encoder, bf16, CAPTIONS_PER_CALL[device.type == "cuda"])
        else:
            self.encoder = Remembered(encoder, torch.float16)
        self._note = "" if isinstance(encoder, Store) else describe_many(encoder, source)
        self._lookup: TextEncoder = self.encoder
        self._is_warm = False

    def warm(
        self,
        captions: Iterable[str],
        progress: Progress | None = None,
        prompts: Iterable[str] = (),
    ) -> None:
        """Encode all captions of a run once, before the first step. Every process must call it.

        Always all of them and in one order, so that a resumed run computes the same numbers.

        Args:
            prompts: what is sampled beside them; never kept on disk.

        Raises:
            OutputError: they do not fit the disk.
            ConfigError: they do not fit the memory.
            TrainingError: another process failed, or its files cannot be seen.
            DataError: embeddings that imagen embed wrote lack some.
        """
        if self._is_warm:
            return
        self._is_warm = True
        if self._note:
            log.info("%s", self._note)
        if isinstance(self.encoder, Store) and not self._is_endless:
            self.encoder.check_captions([*captions, *prompts])
        if not isinstance(self.encoder, Remembered):
            return
        # Batches hold captions of like length, so that little is spent on padding.
        distinct = sorted(set(captions), key=lambda caption: (len(caption), caption))
        if self.cache is None or len(distinct) < FEW:
            self._warm_memory(self.encoder, [*distinct, *prompts], progress)
        else:
            self._warm_cache(self.encoder, distinct, self.cache, progress)
            self.encoder.warm(prompts)

    def _warm_memory(
        self, remembered: Remembered, captions: Sequence[str], progress: Progress | None
    ) -> None:
        if len(captions) >= FEW:
            _check_memory(remembered.encoder, captions)
        report = None if progress is None else (lambda done: progress(done, len(captions)))
        remembered.warm(captions, 64 if self.device.type == "cpu" else 512, report)
        if self._fits_device(remembered.numbers):
            self._lookup = Packed(remembered, self.device)

    def _warm_cache(
        self,
        remembered: Remembered,
        captions: Sequence[str],
        cache: Path,
        progress: Progress | None,
    ) -> None:
        encoder = remembered.encoder
        store = open_store(encoder, captions, cache, progress)
        rest = StoreFirst(store, remembered)
        self._lookup = rest
        if self._fits_device(store.numbers):
            self._lookup = PackedStore(store, rest, self.device)

    def _fits_device(self, numbers: int) -> bool:
        size = numbers * torch.float16.itemsize
        return self.device.type == "cuda" and size < free_memory(self.device) / GPU_MEMORY_DIVISOR

    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """The embeddings of captions on the device, with the letters of quoted text."""
        return with_letters(self._lookup(captions), captions, self.letters).to(self.device)


def is_by_batch(source: Source) -> bool:
    """Whether the captions of a source are encoded with each batch."""
    return bool(getattr(source, "endless_captions", False)) or len(source) > MANY


def describe_many(encoder: TextEncoder, source: Source) -> str:
    """What is done with the captions of a source that has too many to keep; "" of others."""
    if getattr(source, "endless_captions", False) or len(source) <= MANY:
        return ""
    size = len(source) * encoder.max_length * encoder.width * torch.float16.itemsize
    return (
        f"{len(source):,} examples: captions are encoded with each batch, and none is kept. The "
        f"embeddings of all would take up to {format_bytes(size)}; where there is room for them, "
        f"training is faster with embeddings. {EMBED_FIRST}"
    )


def open_store(
    encoder: TextEncoder, captions: Sequence[str], cache: Path, progress: Progress | None = None
) -> Store:
    """The embeddings of these captions in a cache; missing ones are encoded.

    Each process encodes its share.

    Raises:
        OutputError: they do not fit the disk.
        TrainingError: another process failed, or its files cannot be seen.
    """
    failure: OpenImagenError | None = None
    folder = cache / encoder_name(encoder) / set_name(captions)
    try:
        _encode_share(encoder, captions, folder, progress)
    except OpenImagenError as error:  # the others wait for an answer
        failure = error
    problems = all_gather_object("" if failure is None else str(failure))
    if failure is not None:
        raise failure
    if problem := next(filter(None, problems), ""):
        raise TrainingError(problem)
    store = Store(folder)
    missing = store.count_missing(captions)
    if any(all_gather_object(missing)):
        raise TrainingError(
            f"{missing:,} of {len(captions):,} captions that other processes encoded are not in "
            f"{folder}.",
            "Set train.caption_cache to a folder that all machines share.",
        )
    return store


def _encode_share(
    encoder: TextEncoder, captions: Sequence[str], folder: Path, progress: Progress | None
) -> None:
    here, total = world(), len(captions)
    there = len(Store(folder)) if (folder / "store.json").is_file() else 0
    if there < total:
        size = estimate_bytes(captions, encoder.num_tokens, encoder.max_length, encoder.width)
        _check_disk(folder.parent, round(size * (1 - there / total)))
        log.info(
            "Encoding %s captions with %s: about %s in %s, which later runs read.%s",
            *(f"{total - there:,} of {total:,}" if there else f"{total:,}", encoder.name),
            *(format_bytes(size), folder, f" {EMBED_FIRST}" if size > LARGE else ""),
        )

    def report(done: int) -> None:
        if progress is not None:  # the other processes are about as far
            progress(min(there + done * here.size, total), total)

    others = [] if there == total else [Store(one) for one in _other_stores(folder)]
    share = (here.rank, here.size, PER_SHARD)
    embed(captions, encoder, folder, *share, report, torch.float16, others)


def _other_stores(folder: Path) -> list[Path]:
    """Folders beside this one: of other sets of captions, by the same encoder."""
    found = folder.parent.glob("*/store.json")
    return sorted(path.parent for path in found if path.parent != folder)


def encoder_name(encoder: TextEncoder) -> str:
    """A name for what an encoder computes: its weights included, whatever they are called."""
    facts = {**fingerprint(encoder), "max_length": encoder.max_length}
    content = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    return f"{encoder.name}-{content.hexdigest()[:16]}"


def set_name(captions: Iterable[str]) -> str:
    """A name for a set of captions."""
    content = hashlib.sha256()
    for key in sorted(map(digest, captions)):
        content.update(key)
    return content.hexdigest()[:16]


def estimate_bytes(
    captions: Sequence[str], num_tokens: Callable[[str], int], max_length: int, width: int
) -> int:
    """What the embeddings of captions take, from the tokens of some of them."""
    some = captions[:: -(-len(captions) // SAMPLE)]
    tokens = sum(min(num_tokens(one), max_length) for one in some) / len(some)
    return round(tokens * len(captions) * width * torch.float16.itemsize)


def _check_disk(cache: Path, size: int) -> None:
    place = next(one for one in (cache, *cache.absolute().parents) if one.is_dir())
    free = shutil.disk_usage(place).free
    if size > free:
        raise OutputError(
            f"The embeddings of the captions take about {format_bytes(size)}; "
            f"{format_bytes(free)} are free "
            f"in {cache}.",
            "Set train.caption_cache to a folder with more room.",
        )


def _check_memory(encoder: TextEncoder, captions: Sequence[str]) -> None:
    size = estimate_bytes(captions, encoder.num_tokens, encoder.max_length, encoder.width)
    free = free_memory(torch.device("cpu"))
    if size > free:
        raise ConfigError(
            f"The embeddings of {len(captions):,} captions take about {format_bytes(size)} of "
            f"memory; {format_bytes(free)} are free.",
            "Use fewer captions.",
        )


def format_bytes(size: int) -> str:
    """A size for readers.

    >>> format_bytes(3 * 2**29), format_bytes(2**23)
    ('1.5 GiB', '8 MiB')
    """
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"
