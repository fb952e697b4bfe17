"""Images a second from tar shards of JPEGs, against the decoder alone.

    python benchmarks/loader.py

Writes shards of 256-pixel JPEGs in a temporary folder, as img2dataset would, then reads them at 64
pixels in shuffled order; beside it the decoder alone on the same bytes in memory. Medians.
"""

import argparse
import io
import statistics
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from open_imagen.data.images import decode, to_square
from open_imagen.data.loader import Loader
from open_imagen.worlds.sources import open_source


def picture(k: int) -> bytes:
    """Smooth colours with some grain: about as large as a photograph of its size."""
    rng = np.random.default_rng(k)
    small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((256, 256), Image.Resampling.BICUBIC)).astype(int)
    grained = (pixels + rng.integers(-6, 7, pixels.shape)).clip(0, 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(grained).save(data, format="JPEG", quality=90)
    return data.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        pictures = [picture(k) for k in range(200)]
        per_shard = 1000
        for shard in range(0, options.images, per_shard):
            with tarfile.open(f"{name}/{shard // per_shard:05d}.tar", "w") as tar:
                for k in range(shard, min(shard + per_shard, options.images)):
                    for suffix, data in (("jpg", pictures[k % 200]), ("txt", b"a caption")):
                        header = tarfile.TarInfo(f"{k:09d}.{suffix}")
                        header.size = len(data)
                        tar.addfile(header, io.BytesIO(data))
        settings = {"kind": "shards", "path": name, "size": 64, "workers": 1}
        began = time.perf_counter()
        source = open_source(settings)
        opened = time.perf_counter() - began
        pool = ThreadPoolExecutor(options.workers)

        def alone(k: int) -> None:
            to_square(decode(pictures[k % 200], 64), 64)

        read, decoded = [], []
        for _ in range(options.rounds):
            batches = Loader(source, 100, options.workers).after(0)
            next(batches)  # its threads have begun
            began = time.perf_counter()
            for _ in range(20):
                next(batches)
            read.append(2000 / (time.perf_counter() - began))
            batches.close()  # type: ignore[attr-defined]
            began = time.perf_counter()
            list(pool.map(alone, range(2000)))
            decoded.append(2000 / (time.perf_counter() - began))
        size = sum(path.stat().st_size for path in Path(name).iterdir()) / 2**20
    print(f"{options.images:,} JPEGs of 256 pixels, {size:,.0f} MiB; indexed in {opened:.2f} s")
    print(f"loader        {statistics.median(read):8,.0f} images/s at 64 pixels")
    print(f"decoder alone {statistics.median(decoded):8,.0f} images/s, {options.workers} threads")


if __name__ == "__main__":
    main()
