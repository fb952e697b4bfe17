"""What runs after every step beside training: logs, samples, validation, alignment, progress."""

from open_imagen.training.callbacks.alignment import Alignment
from open_imagen.training.callbacks.log import Log
from open_imagen.training.callbacks.progress import ProgressBar, ProgressLines
from open_imagen.training.callbacks.samples import Samples
from open_imagen.training.callbacks.tensorboard import TensorBoard
from open_imagen.training.callbacks.validation import Validation

__all__ = [
    "Alignment",
    "Log",
    "ProgressBar",
    "ProgressLines",
    "Samples",
    "TensorBoard",
    "Validation",
]
