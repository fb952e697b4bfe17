"""imagen data: write shapes as pictures with captions; check a folder."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from PIL.Image import Image

    from open_imagen.data.duplicates import Fingerprint

NAMED = 10
"""Problems of a kind that are told one by one."""

app = typer.Typer(help="Captioned images: draw a world, check a folder.", no_args_is_help=True)


@app.command()
def shapes(
    count: int = typer.Option(..., "--count", help="Pictures to write."),
    out: Path = typer.Option(..., "--out", help="The folder to write to."),
    size: int = typer.Option(64, "--size", help="Side in pixels."),
    seed: int = typer.Option(0, "--seed", help="Of the scenes."),
) -> None:
    """Render captioned shapes into a folder (pictures, .txt beside each, metadata.jsonl)."""
    from PIL import Image

    from open_imagen.errors import ConfigError
    from open_imagen.storage import atomic, write_text
    from open_imagen.worlds.shapes.source import Shapes, ShapesConfig

    if count < 1:
        raise ConfigError(f"--count {count} must be at least 1.")
    source = Shapes(ShapesConfig(size=size, seed=seed, num_captions=max(count, 1)))
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
    caption: str = typer.Option(
        "",
        "--caption",
        help='Of tar files: the member with the caption, or "json:KEY" (default txt); of metadata: '
        "the column (default text).",
    ),
    duplicates: bool = typer.Option(
        False, "--duplicates", help="Find pictures that look the same, by perceptual hashes."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Read every picture and caption and report what training would meet."""
    tally = Tally(size, duplicates)
    folder = Path(data).expanduser()
    is_tar = data.endswith((".tar", ".tar.gz", ".tgz", ".tar.zst")) or "://" in data or "::" in data
    if is_tar or any(folder.glob("*.tar")):
        _check_shards(data, tally, caption or "txt", as_json)
    else:
        _check_folder(folder, tally, caption or "text", as_json)


@app.command()
def index(
    data: str = typer.Argument(
        ..., metavar="DATA", help="Tar files, as in data.path; or a recipe that names them."
    ),
    out: Path = typer.Option(..., "--out", help="The folder of the index; for data.index."),
    workers: int = typer.Option(0, "--workers", help="Processes; 0: one for each core."),
    part: str = typer.Option(
        "1/1", "--part", metavar="K/N", help="Only the K-th of N parts, for several machines."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Index tar shards on disk, so that training starts in seconds. Run it again to go on."""
    from open_imagen.cli.data_index import make_index

    make_index(data, out, workers, part, as_json)


class Tally:
    """What there is of usable examples, and of others by the reason why they are not."""

    def __init__(self, size: int, finds_duplicates: bool = False) -> None:
        self.size = size
        self.finds_duplicates = finds_duplicates
        self.names: list[str] = []
        self.prints: list[Fingerprint] = []
        self.usable = self.small = self.words = 0
        self.skipped, self.sizes = Counter[str](), Counter[str]()
        self.captions: set[str] = set()

    def add(self, name: str, image: "Image", caption: str) -> None:
        """Count an example."""
        if self.finds_duplicates:
            from open_imagen.data.duplicates import fingerprint

            self.names.append(name)
            self.prints.append(fingerprint(image))
        self.usable += 1
        self.small += min(image.size) < self.size
        self.sizes[f"{image.width}x{image.height}"] += 1
        self.words += len(caption.split())
        self.captions.add(caption)

    def report(self) -> dict[str, Any]:
        """The counts in plain values."""
        return {
            "usable": self.usable,
            "skipped": {reason: n for reason, n in self.skipped.most_common() if n},
            "smaller_than_asked": self.small,
            "distinct_captions": len(self.captions),
            "mean_words": round(self.words / self.usable, 1) if self.usable else 0,
            "most_common_sizes": dict(self.sizes.most_common(3)),
            **(self._duplicates() if self.finds_duplicates else {}),
        }

    def _duplicates(self) -> dict[str, Any]:
        from open_imagen.data.duplicates import extra, find_duplicates

        groups = find_duplicates(self.prints)
        return {
            "duplicates": extra(groups),
            "duplicate_groups": [[self.names[number] for number in group] for group in groups],
        }


def _check_shards(data: str, tally: Tally, caption: str, as_json: bool) -> None:
    from open_imagen.data.images import SkippedExample, decode
    from open_imagen.data.shard_names import expand
    from open_imagen.data.shards import index_of, open_reader, read_example
    from open_imagen.errors import DataError

    names = expand(data)
    for name in names:
        reader = open_reader(name)
        shard = index_of(reader)
        tally.skipped["truncated tar"] += not shard.whole
        for example in shard.examples:
            try:
                sample = read_example(reader, example, (caption,))
                text = next(filter(None, sample.captions))
                tally.add(f"{reader.name}:{example.key}", decode(sample.data), text)
            except SkippedExample as error:
                tally.skipped[error.reason] += 1
        if not as_json:
            print(f"{reader.name}: {len(shard.examples):,} examples", file=sys.stderr)
    _report({"shards": len(names), **tally.report()}, as_json)
    if not tally.usable:
        raise DataError(f"There is no usable example in {data}.")


def _report(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(report))
        return
    groups = report.pop("duplicate_groups", [])
    for key, value in report.items():
        print(f"{key.replace('_', ' '):20} {value}")
    for group in groups:
        print("look the same:       " + "  ".join(group))


def _check_folder(data: Path, tally: Tally, column: str, as_json: bool) -> None:
    from open_imagen.data.folder_scan import Layout, scan
    from open_imagen.data.images import SkippedExample, decode, read_file
    from open_imagen.errors import DataError

    found, left_out = scan(data, Layout(columns=(column,))), []
    for entry in found.entries:
        try:
            tally.add(str(entry.image), decode(read_file(entry.image)), entry.caption)
        except SkippedExample as error:
            tally.skipped[error.reason] += 1
            left_out.append(f"{entry.image}: {error}")
    report = {
        "images": len(found.images),
        "without_caption": len(found.without_caption),
        "wrong_caption": len(found.problems),
        "not_in_metadata": len(found.unlisted),
        "formats_not_read": dict(found.other_formats),
        **tally.report(),
    }
    _report(report, as_json)
    messages = (one.message for one in found.problems[:NAMED])
    for problem in [*messages, *left_out[:NAMED], *(f"Left out: {n}" for n in found.notes())]:
        print(problem, file=sys.stderr)
    if found.problems:
        raise DataError(
            f"{len(found.problems)} captions cannot be used: {found.problems[0].message}"
        )
    if found.without_caption:
        examples = ", ".join(str(path) for path in found.without_caption[:3])
        raise DataError(
            f"{len(found.without_caption)} pictures have no caption: {examples}.",
            "Write a .txt beside each, list all in metadata.jsonl, or give them all one in "
            "data.caption.",
        )
    if not tally.usable:
        raise DataError(f"There is no usable captioned picture in {data}.")
