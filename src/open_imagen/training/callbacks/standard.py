"""The callbacks of every run, by name."""

from open_imagen.training.callbacks.alignment import Alignment
from open_imagen.training.callbacks.base import CALLBACKS, CallbackContext
from open_imagen.training.callbacks.held_out import HeldOut
from open_imagen.training.callbacks.log import Log
from open_imagen.training.callbacks.page import Page
from open_imagen.training.callbacks.samples import Samples
from open_imagen.training.callbacks.tensorboard import TensorBoard
from open_imagen.training.callbacks.validation import Validation
from open_imagen.training.loop import Callback

__all__ = ["CALLBACKS"]


@CALLBACKS.register("validation")
def _validation(context: CallbackContext) -> Callback | None:
    if context.held_out is None or not context.recipe.train.validate_every:
        return None
    return Validation(context.folder, context.held_out)


@CALLBACKS.register("alignment")
def _alignment(context: CallbackContext) -> Callback | None:
    return context.alignment and Alignment(context.folder, context.alignment)


@CALLBACKS.register("held_out")
def _held_out(context: CallbackContext) -> Callback | None:
    train = context.recipe.train
    if context.held_out is None or context.distance is None or not train.distance_every:
        return None
    return HeldOut(context.folder, context.held_out, context.distance, train.distance_images)


@CALLBACKS.register("samples")
def _samples(context: CallbackContext) -> Callback:
    return Samples(context.folder)


@CALLBACKS.register("log")
def _log(context: CallbackContext) -> Callback:
    return Log(context.folder)


@CALLBACKS.register("tensorboard")
def _tensorboard(context: CallbackContext) -> Callback:
    return TensorBoard(context.folder)


@CALLBACKS.register("page")
def _page(context: CallbackContext) -> Callback:
    return Page(context.folder)
