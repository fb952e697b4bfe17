"""imagen data: write scenes as pictures with captions; check a folder."""

import json
import sys
from pathlib import Path
from typing import Any

import typer

app = typer.Typer(help="Captioned images: make scenes, check a folder.", no_args_is_help=True)


@app.command()
def scenes(
    count: int = typer.Option(..., "--count", help="Pictures to write."),
    out: Path = typer.Option(..., "--out", help="The folder to write to."),
    size: int = typer.Option(64, "--size", help="Side in pixels."),
    seed: int = typer.Option(0, "--seed", help="Of the scenes."),
) -> None:
    """Render captioned scenes into a folder (pictures, .txt beside each, metadata.jsonl)."""
    from PIL import Image

    from open_imagen.data.synthetic import Scenes, ScenesConfig
    from open_imagen.errors import ConfigError
    from open_imagen.storage import atomic, write_text

    if count < 1:
        raise ConfigError(f"--count {count} must be at least 1.")
    source = Scenes(ScenesConfig(size=size, seed=seed, num_captions=max(count, 1)))
    rows = []
    for start in range(0, count, 64):
        batch = source.batch(start, min(64, count - start))
        for k, (image, caption) in enumerate(zip(batch.images, batch.captions, strict=True)):
            stem = f"{start + k:07d}"
            with atomic(out / f"{stem}.png") as path:
                Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(path, "PNG")
            write_text(out / f"{stem}.txt", caption + "\n")
            rows.append(json.dumps({"file_name": f"{stem}.png", "text": caption}) + "\n")
    write_text(out / "metadata.jsonl", "".join(rows))
    print(f"{count:,} pictures of {size}x{size} in {out}")


@app.command()
def things(
    out: Path = typer.Option(..., "--out", help="The folder of the atlas."),
    art: Path = typer.Option(
        None, "--art", metavar="DIR", help="Folder of the npm packages, unpacked or as .tgz."
    ),
    sizes: str = typer.Option("64,256", "--sizes", help="Sides in pixels: 64, 256, 1024."),
    workers: int = typer.Option(0, "--workers", help="Processes; 0: one for each core."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Fetch openly licensed emoji art and render it into an atlas. Run it again to go on."""
    from open_imagen.cli.things import make_atlas

    make_atlas(out, art, sizes, workers, as_json)


@app.command()
def check(
    data: str = typer.Argument(
        ..., metavar="DATA", help="A folder of captioned pictures, or tar files."
    ),
    size: int = typer.Option(64, "--size", help="The side that training will use."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Read every picture and caption and report what training would meet."""
    folder = Path(data)
    if data.endswith(".tar") or "://" in data or any(folder.glob("*.tar")):
        _check_shards(data, size, as_json)
    else:
        _check_folder(folder, size, as_json)


def _check_shards(data: str, size: int, as_json: bool) -> None:
    from collections import Counter

    from open_imagen.data.images import Unusable, decode
    from open_imagen.data.shards import expand, read_example
    from open_imagen.data.tar import Reader, scan
    from open_imagen.errors import DataError

    unusable, sizes = Counter[str](), Counter[str]()
    number = small = words = 0
    captions = set()
    names = expand(data)
    for name in names:
        reader = Reader(name)
        shard = scan(reader)
        unusable["truncated tar"] += not shard.whole
        for example in shard.examples:
            try:
                caption, picture = read_example(reader, example, "txt")
                image = decode(picture)
            except Unusable as error:
                unusable[error.reason] += 1
                continue
            number += 1
            small += min(image.size) < size
            sizes[f"{image.width}x{image.height}"] += 1
            words += len(caption.split())
            captions.add(caption)
        if not as_json:
            print(f"{name}: {len(shard.examples):,} examples", file=sys.stderr)
    report = {
        "shards": len(names),
        "usable": number,
        "unusable": {reason: count for reason, count in unusable.most_common() if count},
        "smaller_than_asked": small,
        "distinct_captions": len(captions),
        "mean_words": round(words / number, 1) if number else 0,
        "most_common_sizes": dict(sizes.most_common(3)),
    }
    _report(report, as_json)
    if not number:
        raise DataError(f"There is no usable example in {data}.")


def _report(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(report))
        return
    for key, value in report.items():
        print(f"{key.replace('_', ' '):20} {value}")


def _check_folder(data: Path, size: int, as_json: bool) -> None:
    from collections import Counter

    from open_imagen.cascade.records import open_image
    from open_imagen.data.folder import scan
    from open_imagen.errors import DataError

    found = scan(data)
    unreadable, small, sizes = [], 0, Counter[str]()
    for entry in found.entries:
        try:
            image = open_image(entry.image)
        except DataError as error:
            unreadable.append(str(error))
            continue
        small += min(image.size) < size
        sizes[f"{image.width}x{image.height}"] += 1
    words = [len(entry.caption.split()) for entry in found.entries]
    report = {
        "pictures": len(found.entries) + len(found.without_caption),
        "usable": len(found.entries) - len(unreadable),
        "without_caption": len(found.without_caption),
        "unreadable": len(unreadable),
        "smaller_than_asked": small,
        "distinct_captions": len({entry.caption for entry in found.entries}),
        "mean_words": round(sum(words) / len(words), 1) if words else 0,
        "most_common_sizes": dict(sizes.most_common(3)),
    }
    _report(report, as_json)
    for problem in unreadable[:10]:
        print(problem, file=sys.stderr)
    if found.without_caption:
        examples = ", ".join(str(path) for path in found.without_caption[:3])
        raise DataError(
            f"{len(found.without_caption)} pictures have no caption: {examples}.",
            "Write a .txt beside each, or list all in metadata.jsonl.",
        )
    if unreadable:
        raise DataError(f"{len(unreadable)} pictures cannot be read.")
    if not found.entries:
        raise DataError(f"There is no captioned picture in {data}.")
