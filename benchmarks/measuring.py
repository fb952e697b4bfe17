"""What the benchmarks share: rounds that alternate, medians, peak memory, tables."""

import argparse
import json
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from open_imagen.devices import has_bf16

Cell = str | int | float | None


@dataclass
class Table:
    """One table of docs/reference/benchmarks.md."""

    title: str
    about: str
    """What does what, and what the columns hold."""
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    rounds: dict[str, list[float]] = field(default_factory=dict)
    """The single measurements behind the medians, in seconds, kept but not shown."""

    def keep(self, taken: Mapping[str, list[float]], key: str = "") -> dict[str, float]:
        """Keep the rounds of some ways, under a key; their medians, in seconds."""
        self.rounds |= {f"{key}, {way}" if key else way: times for way, times in taken.items()}
        return medians(taken)

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns)]
        lines += [[shown(cell) for cell in row] for row in self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"### {self.title}\n\n{self.about}\n\n{table}\n"


def dtypes() -> tuple[torch.dtype, ...]:
    """In which networks are measured on a CPU: bfloat16 only where it has arithmetic for it."""
    half = (torch.bfloat16,) if has_bf16(torch.device("cpu")) else ()
    return (torch.float32, *half)


def called(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def shown(cell: Cell) -> str:
    """A number with three digits that mean something."""
    if cell is None:
        return ""
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"


def alternate(
    ways: Mapping[str, Callable[[], Any]], rounds: int, warm: int = 1
) -> dict[str, list[float]]:
    """Seconds of each way in each round; they take turns, so that a busy moment meets them all.

    On a GPU until its work is done, nothing being left over from the way before.
    """
    settle = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for _ in range(warm):
        for way in ways.values():
            way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            settle()
            begun = time.perf_counter()
            way()
            settle()
            taken[name].append(time.perf_counter() - begun)
    return taken


def medians(taken: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def apart(function: Callable[..., Any], *given: Any) -> Any:
    """The function's result, worked out in a process of its own; it must be one of a module."""
    context = multiprocessing.get_context("spawn")
    end, other = context.Pipe()
    process = context.Process(target=_tell, args=(other, function, given))
    process.start()
    other.close()
    try:
        return end.recv()
    except EOFError:
        raise SystemExit(f"{function.__name__}{given} died before it had a result.") from None
    finally:
        process.join()


def _tell(pipe: Any, function: Callable[..., Any], given: tuple[Any, ...]) -> None:
    pipe.send(function(*given))


def peak_memory(make: Callable[..., Callable[[], Any]], *given: Any) -> float:
    """Megabytes that ``make(*given)`` and twice its result take, in a process of their own.

    Counted over what the process held before, seen every two milliseconds. What ``make`` imports
    counts too, but for torch.
    """
    return float(apart(_made_and_called, make, given)[0])


def _made_and_called(
    make: Callable[..., Callable[[], Any]], given: tuple[Any, ...]
) -> tuple[float, float]:
    def work() -> None:
        call = make(*given)
        for _ in range(2):
            call()

    return highest(work)


def highest(work: Callable[[], Any]) -> tuple[float, float]:
    """What `resident` tells at its highest while ``work`` is done, over what it told before."""
    before, found, done = resident(), [0.0, 0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            found[:] = map(max, found, resident())

    watching = threading.Thread(target=watch)
    watching.start()
    work()
    done.set()
    watching.join()
    return found[0] - before[0], found[1] - before[1]


def resident() -> tuple[float, float]:
    """Megabytes of this process (Linux): its own, and with the pages of mapped files, which the
    kernel takes back when it needs them."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    own = int(sizes["RssAnon"]) / 1024
    return own, own + int(sizes["RssFile"]) / 1024


def script(measure: Callable[..., Iterator[Table]], about: str, **options: dict[str, Any]) -> None:
    """The command line of one benchmark: its tables as text, and with ``--json`` into a file.

    Args:
        options: arguments of ``measure``, each with what argparse needs to know.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the tables here too")
    for name, settings in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    given = vars(parser.parse_args())
    file = given.pop("json")
    tables = []
    for table in measure(**given):
        print(table.markdown(), flush=True)
        tables.append(asdict(table))
    if file:
        file.write_text(json.dumps(tables, indent=1) + "\n")
