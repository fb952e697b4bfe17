"""The command: its groups, and how errors and warnings are shown. Heavy imports wait."""

import os
import sys
import warnings
from typing import Any

import typer

from open_imagen.cli import (
    data,
    edit,
    ema,
    embed,
    evaluate,
    evaluate_judges,
    evaluate_report,
    evaluate_shapes,
    evaluate_things,
    export,
    generate,
    imports,
    init,
    join,
    models,
    plan,
    rate,
    serve,
    sweep,
    train,
)
from open_imagen.errors import ConfigError, OpenImagenError, OpenImagenWarning
from open_imagen.version import __version__

app = typer.Typer(
    name="imagen",
    help="Type a sentence, get a picture.",
    epilog='Start with: imagen generate "a red circle above a blue square"',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"open-imagen {__version__}")
        raise typer.Exit


@app.callback()
def options(  # noqa: D103
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks of errors."),
    version: bool = typer.Option(
        False,
        "--version",
        help="Print the version and exit.",
        is_eager=True,
        callback=_show_version,
    ),
) -> None:
    if debug:
        os.environ["IMAGEN_DEBUG"] = "1"


app.command("generate")(generate.generate)
app.command("edit")(edit.edit)
app.command("upscale")(edit.upscale)
app.command("show")(generate.show)
app.command("models")(models.models)
app.command("init")(init.init)
app.command("train")(train.train)
app.command("join")(join.join)
app.command("export")(export.export)
app.command("push")(export.push)
app.command("embed")(embed.embed)
app.command("ema")(ema.ema)
app.command("plan")(plan.plan)
app.command("sweep")(sweep.sweep)
app.command("serve")(serve.serve)
app.add_typer(data.app, name="data")
app.add_typer(imports.app, name="import")
evaluate.app.command("shapes")(evaluate_shapes.shapes)
evaluate.app.command("super-resolution")(evaluate_shapes.super_resolution)
evaluate.app.command("judge")(evaluate_judges.judge)
evaluate.app.command("judge-accuracy")(evaluate_judges.judge_accuracy)
evaluate.app.command("paraphrases")(evaluate_judges.paraphrases)
evaluate.app.command("report")(evaluate_report.report)
evaluate.app.command("things")(evaluate_things.things)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(rate.app, name="rate")


def main() -> None:
    """Run the command. Exit 0: done; 1: the work failed; 2: wrong usage or a wrong setting."""
    warnings.showwarning = _show_warning
    try:
        app()
    except OpenImagenError as error:
        if os.environ.get("IMAGEN_DEBUG"):
            raise
        print(f"Error: {error}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def _show_warning(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
    """Our own warnings as one line; those of libraries are not for users."""
    if issubclass(category, OpenImagenWarning):
        print(f"Warning: {message}", file=sys.stderr)
