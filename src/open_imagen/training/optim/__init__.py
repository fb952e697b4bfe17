"""Optimisers, one a file, by name in a registry; learning-rate schedule and gradient clipping."""

from open_imagen.training.optim.adafactor import Adafactor
from open_imagen.training.optim.adamw import build_adamw
from open_imagen.training.optim.base import OPTIMIZERS, OptimConfig
from open_imagen.training.optim.clipping import clip
from open_imagen.training.optim.combined import CombinedOptimizer, count_state, make_optimizer
from open_imagen.training.optim.muon import Muon
from open_imagen.training.optim.schedulefree import build_schedulefree

__all__ = [
    "OPTIMIZERS",
    "Adafactor",
    "CombinedOptimizer",
    "Muon",
    "OptimConfig",
    "build_adamw",
    "build_schedulefree",
    "clip",
    "count_state",
    "make_optimizer",
]
