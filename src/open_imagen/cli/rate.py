"""imagen rate: let people compare pictures, and report what they said."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from open_imagen.cli.serve import address_of, check_root_path, set_up_logging
from open_imagen.errors import ConfigError, MissingDependency, install_hint

if TYPE_CHECKING:
    from open_imagen.evaluation.human.study import Participation

app = typer.Typer(help="Let people compare pictures.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Let people compare pictures."""


@app.command()
def serve(
    runs: list[Path] = typer.Argument(
        None,
        metavar="RUN...",
        help="Folders of imagen evaluate prompts; none to go on with a study.",
    ),
    study: Path = typer.Option(..., "--study", "-s", metavar="DIR", help="Where votes are kept."),
    protocol: str = typer.Option(
        "drawbench", "--protocol", metavar="P", help="drawbench or coco; both are the paper's."
    ),
    reference: Path = typer.Option(
        None, "--reference", metavar="RUN", help="The reference pictures of the coco protocol."
    ),
    seed: int = typer.Option(0, "--seed", help="Of orders and sides."),
    raters: int = typer.Option(
        None,
        "--raters",
        metavar="N",
        help="For each part of a new study; the paper's without (25; coco 73, 51); 0: no limit.",
    ),
    parts_per_rater: int = typer.Option(
        None,
        "--parts-per-rater",
        metavar="N",
        help="Of a new study; drawbench: 1 category as in the paper; 0: all.",
    ),
    controls: bool = typer.Option(
        None,
        "--controls/--no-controls",
        help="Interleave trials with a known answer; as in the paper only coco without.",
    ),
    host: str = typer.Option("127.0.0.1", "--host", help="Address to listen on."),
    port: int = typer.Option(8001, "--port", help="Port to listen on; 0 for a free one."),
    allow_hosts: list[str] = typer.Option(
        [], "--allow-host", metavar="NAME", help="A name of this server; may repeat."
    ),
    root_path: str = typer.Option(
        "", "--root-path", metavar="PATH", help="The path under which a proxy shows the page."
    ),
) -> None:
    """Open a blind side-by-side page; votes go to DIR/votes.db.

    Stop and start it as you like: raters go on where they were.
    """
    from open_imagen.evaluation.human.study import FILE, create, open_study
    from open_imagen.evaluation.human.votes import Store
    from open_imagen.server.sockets import listen

    try:
        from open_imagen.server.guard import allowed_hosts
        from open_imagen.server.rating_app import make_app
        from open_imagen.server.run import Server
    except ImportError as error:
        raise MissingDependency(
            f"The rating page needs a web server ({error}).",
            install_hint("serve"),
        ) from error

    root_path = check_root_path(root_path)
    if (study / FILE).is_file():
        chosen = open_study(study)
        if runs and {run.resolve() for run in runs} - set(chosen.runs.values()):
            raise ConfigError(
                f"{study} is a study of {', '.join(chosen.runs)}, not of these runs.",
                "Choose another --study, or leave out RUN to go on with it.",
            )
        if any(given is not None for given in (raters, parts_per_rater, controls)):
            raise ConfigError(
                f"{study} is a study already: --raters, --parts-per-rater and --controls are "
                "chosen when it begins.",
                "Leave them out, or choose another --study.",
            )
    else:
        if not runs:
            raise ConfigError(f"There is no study in {study}.", "Name the runs to compare.")
        terms = _participation(protocol, raters, parts_per_rater, controls)
        chosen = create(study, runs, protocol, reference, seed, terms)
    store = Store(chosen)
    trials = sum(len(part) for part in chosen.parts.values())
    print(
        f"{' against '.join(chosen.runs)}: {trials} trials in {len(chosen.parts)} parts",
        file=sys.stderr,
    )
    set_up_logging()
    hosts = allowed_hosts(host, False, tuple(allow_hosts))
    server = Server(make_app(store, hosts, root_path))
    with listen(host, port) as listener:
        address = f"{address_of(listener)}{root_path}/"
        print(f"Rate at {address}  (Ctrl+C ends it; votes are kept)", flush=True)
        server.run(sockets=[listener])
    store.close()


def _participation(
    protocol: str, raters: int | None, parts_per_rater: int | None, controls: bool | None
) -> "Participation | None":
    """The protocol's, with what was given over it."""
    from dataclasses import replace

    from open_imagen.evaluation.human.study import PROTOCOLS

    if protocol not in PROTOCOLS:
        return None  # creating the study says so
    terms = PROTOCOLS[protocol]
    if raters is not None:
        terms = replace(terms, raters_per_part=dict.fromkeys(terms.raters_per_part, raters))
    if parts_per_rater is not None:
        terms = replace(terms, parts_per_rater=parts_per_rater)
    if controls is not None:
        terms = replace(terms, controls=controls)
    return terms


@app.command()
def sample(
    source: Path = typer.Argument(
        ..., metavar="SOURCE", help="COCO's captions_*.json, or a folder of captioned images."
    ),
    images: Path = typer.Option(
        None, "--images", metavar="DIR", help="The images that the captions are of."
    ),
    count: int = typer.Option(200, "--count", help="Pairs; 200 as in the paper."),
    no_people: bool = typer.Option(
        False, "--no-people", help="Only captions without the paper's words for people."
    ),
    seed: int = typer.Option(0, "--seed", help="Of the draw."),
    out: Path = typer.Option(..., "--out", "-o", metavar="DIR", help="A new folder."),
) -> None:
    """Draw caption-image pairs for the coco protocol, as prompts and reference images."""
    from open_imagen.evaluation.human.sampling import IMAGES, PROMPTS, sample_pairs

    pairs = sample_pairs(source, out, images, count, seed, no_people)
    print(f"{len(pairs)} pairs in {out}. Then:")
    suite = f"--suite {out / PROMPTS} -n 1 --out"
    print(f"    imagen evaluate prompts MODEL {suite} RUN")
    print(f"    imagen evaluate prompts folder:{out / IMAGES} {suite} REFERENCE")
    print("    imagen rate serve RUN --protocol coco --reference REFERENCE --study DIR")


@app.command()
def report(
    study: Path = typer.Argument(..., metavar="DIR", help="The study's folder."),
    min_controls: float = typer.Option(
        None,
        "--min-controls",
        help="Leave out raters with fewer right answers in control trials; as in the paper "
        "without: coco 0.8, drawbench nobody.",
    ),
    out: Path = typer.Option(None, "--out", "-o", metavar="FILE.html", help="DIR/report.html."),
    votes: Path = typer.Option(None, "--csv", metavar="FILE.csv", help="Also write every vote."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Preferences with 95 % intervals, by category, with agreement; one HTML page."""
    from open_imagen.evaluation.human.report import report as summary
    from open_imagen.evaluation.human.report import write_report
    from open_imagen.evaluation.human.study import open_study
    from open_imagen.evaluation.human.votes import FILE, Store
    from open_imagen.storage import write_json, write_text

    chosen = open_study(study)
    if not (study / FILE).is_file():
        raise ConfigError(f"{study} has no votes yet.", "Collect them with imagen rate serve.")
    store = Store(chosen)
    found = summary(store, min_controls)
    page = out or study / "report.html"
    write_report(found, page)
    write_json(page.with_suffix(".json"), found)
    if votes is not None:
        write_text(votes, store.to_csv())
    store.close()
    if as_json:
        print(json.dumps(found))
        return
    for name, question in found["questions"].items():
        print(name)
        for pair in question.get("pairs", {}).values():
            a, b = pair["systems"]
            rate = pair["win_rate"]
            print(
                f"    {a} {pair['a']['value']:.1%}, indifferent {pair['tie']['value']:.1%}, {b} "
                f"{pair['b']['value']:.1%}; win rate {rate['value']:.1%} "
                f"[{rate['low']:.1%}, {rate['high']:.1%}], {pair['votes']} votes"
            )
        for system, score in question.get("systems", {}).items():
            print(f"    {system} {score['value']:.1f} [{score['low']:.1f}, {score['high']:.1f}]")
        for system, score in question.get("strengths", {}).items():
            print(f"    {system} {score['value']:+.2f} [{score['low']:+.2f}, {score['high']:+.2f}]")
    left_out = len(found["raters_left_out"])
    print(f"{found['raters']} raters, {left_out} left out; look at {page}")
