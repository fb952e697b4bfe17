"""imagen ema: post-hoc EMA, a model of a run with averaged weights of another length."""

from pathlib import Path

import typer

from open_imagen.errors import ConfigError


def ema(
    run: Path = typer.Argument(..., metavar="RUN", help="A run folder with posthoc_ema/ in it."),
    sigma_rel: float = typer.Option(
        ...,
        "--sigma-rel",
        metavar="S",
        help="Length of the average relative to the run, 0.01 to 0.25.",
    ),
    images: int = typer.Option(
        0, "--images", metavar="N", help="After this many images of the run; at its end if 0."
    ),
    out: Path = typer.Option(..., "--out", "-o", metavar="DIR", help="The model folder to write."),
) -> None:
    """Choose the length of the weight average (EMA) after training."""
    from open_imagen.training.export import write_model
    from open_imagen.training.posthoc_ema import FOLDER, reconstruct
    from open_imagen.training.recipe import read_recipe

    recipe = read_recipe(run / "recipe.toml")
    if recipe.adapter.rank:
        raise ConfigError(
            f"{run} trained an adapter, whose averages are not a model's.",
            "Use its RUN/adapter as it is.",
        )
    weights, profile = reconstruct(run / FOLDER, sigma_rel, images)
    trained = {"images": profile.images_seen, "sigma_rel": sigma_rel}
    write_model(recipe, weights.items(), out, trained)
    print(f"{out}: sigma_rel = {sigma_rel} at {profile.images_seen:,} images")
