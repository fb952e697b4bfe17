"""The judges that models make, by name and path."""

import importlib

from open_imagen.errors import ConfigError, MissingDependency
from open_imagen.evaluation.judges.detector import open_geneval
from open_imagen.evaluation.judges.preference import open_clip_preference, open_linear_preference
from open_imagen.evaluation.judges.questions import (
    Dpg,
    SoftTifaMean,
    SoftTifaProduct,
    Tifa,
    open_questions,
    open_vqascore,
)
from open_imagen.evaluation.judges.spec import MODEL_JUDGES, JudgeSpec, ModelJudge

MODEL_JUDGES.register("vqascore")(open_vqascore)
for _kind in (Tifa, Dpg, SoftTifaMean, SoftTifaProduct):
    MODEL_JUDGES.register(_kind.name)(open_questions(_kind))
MODEL_JUDGES.register("geneval")(open_geneval)
MODEL_JUDGES.register("clip-preference")(open_clip_preference)
MODEL_JUDGES.register("linear-preference")(open_linear_preference)

PLUG_IN = "python:"
"""Before "module:function", of a judge that other code brings."""


def open_judge(spec: JudgeSpec) -> ModelJudge:
    """A judge by name, or "python:module:function" of other code.

    Raises:
        UnknownName: there is no such judge.
        MissingDependency: other code cannot be imported.
        OpenImagenError: its weights cannot be read.
    """
    if not spec.name.startswith(PLUG_IN):
        return MODEL_JUDGES[spec.name](spec)
    module, _, function = spec.name.removeprefix(PLUG_IN).partition(":")
    if not function:
        raise ConfigError(f"--judge {spec.name} names no function.", "Write python:module:function")
    try:
        made: ModelJudge = getattr(importlib.import_module(module), function)(spec)
    except (ImportError, AttributeError) as error:
        raise MissingDependency(
            f"The judge {spec.name} cannot be imported: {error}.",
            "Install its package, or put its folder into PYTHONPATH.",
        ) from error
    for name in ("label", "identity", "aggregation"):
        if not hasattr(made, name):
            raise ConfigError(f"The judge {spec.name} has no {name}: it is not a ModelJudge.")
    return made
