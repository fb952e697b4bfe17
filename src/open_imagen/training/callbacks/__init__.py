"""What runs after every step beside training: logs, samples, validation, alignment, progress."""

from open_imagen.training.callbacks.alignment import Alignment
from open_imagen.training.callbacks.base import CallbackContext, build_callbacks
from open_imagen.training.callbacks.held_out import HeldOut
from open_imagen.training.callbacks.log import Log
from open_imagen.training.callbacks.page import Page
from open_imagen.training.callbacks.progress import ProgressBar, ProgressLines
from open_imagen.training.callbacks.samples import Samples
from open_imagen.training.callbacks.standard import CALLBACKS
from open_imagen.training.callbacks.tensorboard import TensorBoard
from open_imagen.training.callbacks.tracking import Tracker
from open_imagen.training.callbacks.validation import Validation

__all__ = [
    "CALLBACKS",
    "Alignment",
    "CallbackContext",
    "HeldOut",
    "Log",
    "Page",
    "ProgressBar",
    "ProgressLines",
    "Samples",
    "TensorBoard",
    "Tracker",
    "Validation",
    "build_callbacks",
]
