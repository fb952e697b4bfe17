"""Compiling the C++ kernels for this machine, once, into the cache directory."""

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from open_imagen.errors import MissingDependency
from open_imagen.storage import cache_directory

SOURCE_FOLDER = Path(__file__).with_name("csrc")
SOURCES = sorted(SOURCE_FOLDER.glob("*.cpp"))
HEADERS = sorted(SOURCE_FOLDER.glob("*.h"))
FLAGS = (
    *("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"),
    *("-std=c++17", "-shared", "-fPIC"),
    *(["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []),
)

_INT, _INT64, _POINTER = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
_ARGUMENTS: dict[str, list[Any]] = {
    "norm_act": [
        *(_POINTER, _INT, *[_INT64] * 4, ctypes.c_double, *[_POINTER] * 4, _INT64, _INT),
        *(_POINTER, _POINTER, _INT),
    ],
    "bfloat16_split": [_POINTER, _INT64, _INT64, _POINTER, _POINTER, _INT],
    "bfloat16_merge": [*[_POINTER] * 4, ctypes.c_float, _INT64, _INT64, _POINTER, _INT],
    "attention_forward": [*[_POINTER] * 3, _INT, *[_INT64] * 5, _POINTER, _INT],
    "attention_backward": [*[_POINTER] * 4, *[_INT64] * 5, _POINTER, _POINTER, _INT],
    "winograd_transform_weights": [_POINTER, *[_INT64] * 6, _POINTER, _INT],
    "winograd_conv2d": [*[_POINTER] * 4, _INT, ctypes.c_float, *[_INT64] * 5, _POINTER, _INT],
    "winograd_conv2d_weight_grad": [_POINTER, _POINTER, _INT, *[_INT64] * 5, _POINTER, _INT],
}
"""Of each function of csrc/kernels.h that returns a status."""


@functools.cache
def library() -> Any:
    """The kernels, compiled if they are not in the cache yet.

    Raises:
        MissingDependency: there is no C++ compiler, or it does not succeed.
    """
    file = cache_directory() / f"kernels-{_fingerprint()}.so"
    if not file.is_file():
        _compile(file)
    try:
        loaded = ctypes.CDLL(str(file))
    except OSError as error:
        raise MissingDependency(
            f"{file} cannot be loaded: {error}", "Remove it; it is built again."
        ) from error
    for name, arguments in _ARGUMENTS.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, _INT
    loaded.attention_kind.argtypes, loaded.attention_kind.restype = [_INT], _INT
    loaded.winograd_panel_width.restype = _INT64
    return loaded


def _fingerprint() -> str:
    """Of the sources, the flags, and the processor that they are compiled for."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:  # not Linux
        processor = platform.processor()
    code = (file.read_text(encoding="utf-8") for file in SOURCES + HEADERS)
    parts = (*code, " ".join(FLAGS), platform.machine(), processor)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _compile(file: Path) -> None:
    compiler = os.environ.get("CXX", "g++")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            made = Path(folder) / file.name
            command = [compiler, *FLAGS, *map(str, SOURCES), "-o", str(made)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            os.replace(made, file)
    except FileNotFoundError as error:
        raise MissingDependency(
            f"There is no C++ compiler {compiler!r}.", "Install g++, or name another one in CXX."
        ) from error
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines()
        first = [line for line in lines if "error" in line][:1] or lines[:1]
        raise MissingDependency(
            f"{compiler} does not build our kernels: {' '.join(first)}"
        ) from error
    except OSError as error:
        raise MissingDependency(f"Cannot write {file}: {error.strerror}.") from error
