"""The version of the package, in one place for records and the command."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("open-imagen")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
