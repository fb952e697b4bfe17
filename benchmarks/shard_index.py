"""A simulated index of a billion examples: start-up, memory, first batch, resume, shuffling.

One real shard of 10,000 small captioned images stands under 100,000 names (links), and all rows of
shards.bin name the same records; everything else is what training does. Run:

    python benchmarks/shard_index.py FOLDER
"""

import io
import json
import os
import resource
import struct
import subprocess
import sys
import tarfile
import time
from pathlib import Path

SHARDS, PER_SHARD = 100_000, 10_000
BATCH = 256


def make(folder: Path) -> None:
    """Write the shard, its links and the index."""
    from PIL import Image

    from open_imagen.data.shard_index import FORMAT, INDEX, MEMBERS, RECORDS, digest, pack
    from open_imagen.data.shard_index import SHARDS as TABLE
    from open_imagen.data.shard_names import expand
    from open_imagen.data.tar import LocalReader, scan

    if (folder / "index" / INDEX).is_file():
        return
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    (folder / "index").mkdir(exist_ok=True)
    real = folder / "real.tar"
    with tarfile.open(real, "w") as tar:
        for k in range(PER_SHARD):
            image = io.BytesIO()
            Image.new("RGB", (64, 64), (k % 256, k // 256, 99)).save(image, "JPEG")
            for suffix, data in (("jpg", image.getvalue()), ("txt", f"caption {k}".encode())):
                header = tarfile.TarInfo(f"{k:09d}.{suffix}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    for k in range(SHARDS):
        link = folder / "shards" / f"{k:06d}.tar"
        if not link.is_symlink():
            link.symlink_to(real.resolve())
    records, lines = pack(scan(LocalReader(str(real))).examples)
    (folder / "index" / RECORDS).write_bytes(records)
    (folder / "index" / MEMBERS).write_bytes(lines)
    row = struct.pack("<4q", 0, PER_SHARD, real.stat().st_size, 1)
    (folder / "index" / TABLE).write_bytes(row * SHARDS)
    names = expand(str(folder / "shards"))
    about = {"format": FORMAT, "shards": SHARDS, "examples": SHARDS * PER_SHARD}
    text = json.dumps({**about, "names_sha256": digest(names)})
    (folder / "index" / INDEX).write_text(text, encoding="utf-8")


def memory() -> dict[str, float]:
    """Resident MiB of this process: all, and without mapped files (libraries)."""
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "RssAnon"):
            found[name] = round(int(value.split()[0]) / 1024, 1)
    return found


def measure(folder: Path, start: int) -> dict[str, object]:
    """Open the data in this process as a run does that begins at example ``start``."""
    begin = time.perf_counter()
    from open_imagen.data import open_source

    imported, before = time.perf_counter() - begin, memory()
    begin = time.perf_counter()
    settings = {"kind": "shards", "path": str(folder / "shards"), "size": 64}
    source = open_source({**settings, "index": str(folder / "index"), "workers": 1})
    opened = time.perf_counter() - begin
    batch = source.batch(start, BATCH)
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    for k in range(1, 5):
        source.batch(start + k * BATCH, BATCH)
    later = (time.perf_counter() - begin) / 4
    return {
        "examples": len(source),
        "start": start,
        "captions": batch.captions[:3],
        "import_seconds": round(imported, 2),
        "open_seconds": round(opened, 2),
        "first_batch_seconds": round(first, 2),
        "later_batch_seconds": round(later, 3),
        "memory_after_import": before,
        "memory": memory(),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        print(json.dumps(measure(folder, int(sys.argv[2]))))
        return
    make(folder)
    for start in (0, 700_000_000, 1_300_000_000):
        command = [sys.executable, __file__, str(folder), str(start)]
        found = subprocess.run(command, check=True, capture_output=True, env=os.environ, text=True)
        print(json.dumps(json.loads(found.stdout), indent=1))


if __name__ == "__main__":
    main()
