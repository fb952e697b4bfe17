"""imagen evaluate report: several systems side by side on one page."""

import json
from pathlib import Path

import typer

from open_imagen.cli.generate import Json
from open_imagen.cli.measuring import counting
from open_imagen.errors import ConfigError


def report(
    runs: list[Path] = typer.Argument(
        ..., metavar="RUN...", help="Folders of evaluate prompts, over the same prompts."
    ),
    out: Path = typer.Option(..., "--out", "-o", metavar="FILE.html", help="The page."),
    scores: list[Path] = typer.Option(
        None,
        "--scores",
        metavar="DIR",
        help="Records of evaluate measure, judge, fid ...; ./scores without. May repeat.",
    ),
    study: Path = typer.Option(
        None, "--study", metavar="DIR", help="A study of imagen rate with these runs."
    ),
    price: list[str] = typer.Option(
        [], "--price", metavar="[NAME=]P", help="Price of an hour of the machine; may repeat."
    ),
    examples: int = typer.Option(2, "--examples", help="Prompts of each category with images."),
    images: int = typer.Option(2, "--images", "-n", help="Images shown of each prompt."),
    title: str = typer.Option("Comparison", "--title", help="Of the page."),
    as_json: bool = Json,
) -> None:
    """Compare runs over the same prompts: one self-contained HTML page.

    Numbers come from records (--scores); the judge of a world, the diversity of pixels and times
    are found without. Unlike prompts, image sizes and protocols are refused.
    """
    if out.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out {out} must end in .html.")
    for name, value in (("examples", examples), ("images", images)):
        if value < 0:
            raise ConfigError(f"--{name} {value} must be 0 or more.")
    prices = _prices(price)

    from open_imagen.evaluation.comparison import compare_runs
    from open_imagen.evaluation.comparison_page import write_comparison
    from open_imagen.worlds.suites import JUDGES

    assert JUDGES  # the worlds' judges are registered
    usual = Path("scores")
    folders = scores or ([usual] if usual.is_dir() else [])
    with counting("reading") as progress:
        found = compare_runs(runs, folders, study, prices, progress)
    write_comparison(found, out, title, examples, images)
    if as_json:
        table = {row.label: {n: one["value"] for n, one in row.values.items()}
                 for row in found.measures}  # fmt: skip
        print(json.dumps({"file": str(out), "systems": list(found.systems), "numbers": table}))
        return
    print(f"{len(found.systems)} systems, {len(found.measures)} numbers; look at {out}")


def _prices(texts: list[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise ConfigError(f"--price {text} is not a price.", "Write --price 2.5 or NAME=2.5.")
        found[name] = value
    return found
