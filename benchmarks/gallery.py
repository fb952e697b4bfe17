"""The gallery with many images: time to open it, and to page, add and delete.

python benchmarks/gallery.py --images 100000
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from open_imagen.cascade.records import encoded
from open_imagen.server.gallery import Gallery
from open_imagen.server.gallery_files import GalleryImage, image_path

RECORD: dict[str, Any] = {
    "prompt": "a red circle above a blue square", "negative": "", "seed": 0, "size": "8x8",
    "settings": {"base": {"steps": 8, "guidance": 1.0}}, "made_by": "generate", "model": "scenes",
    "model_hash": "0" * 16, "version": "0",
}  # fmt: skip


def fill(folder: Path, number: int, data: bytes) -> None:
    """A gallery of so many images, written faster than by the server: without flushing."""
    gallery = Gallery(folder, keep=10 * number)
    with gallery._index.transaction():
        for k in range(number):
            name = f"{k:022d}"
            image = GalleryImage(
                name, f"{name}.png", len(data), 0, True, f"key-{k % 3}", 1e9 + k, "png", 8, 8,
                RECORD,
            )  # fmt: skip
            path = image_path(folder, image)
            path.write_bytes(data)
            modified = path.stat().st_mtime_ns
            gallery._index.insert(GalleryImage(**{**image.__dict__, "modified": modified}))
    gallery.close()


def milliseconds(call: Callable[[], Any], times: int = 30) -> float:
    """The median of some calls."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - begun))
    return round(statistics.median(taken), 2)


def measure(folder: Path, number: int) -> dict[str, float]:
    """The figures of a gallery."""
    data = encoded(Image.new("RGB", (8, 8)), RECORD, "png")
    fill(folder, number, data)
    begun = time.perf_counter()
    gallery = Gallery(folder, keep=10 * number)
    report = {"images": number, "open ms": round(1000 * (time.perf_counter() - begun))}
    report["first page ms"] = milliseconds(lambda: gallery.latest("key-1", 31))
    report["middle page ms"] = milliseconds(lambda: gallery.latest("key-1", 31, 1e9 + number / 2))
    report["get ms"] = milliseconds(lambda: gallery.get(f"{number // 2:022d}"))
    report["add ms"] = milliseconds(lambda: gallery.add(data, "png", RECORD, "key-1"))
    gallery.keep = number // 2
    gallery._written = gallery.keep  # as if it had just been pruned: the next one drops one
    report["add and prune ms"] = milliseconds(lambda: gallery.add(data, "png", RECORD, "key-1"))
    oldest = iter(gallery._index.oldest_written(100))
    report["delete ms"] = milliseconds(lambda: gallery.delete(next(oldest)))
    gallery.close()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 100_000])
    options = parser.parse_args()
    for number in options.images:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(Path(folder), number)), flush=True)


if __name__ == "__main__":
    main()
