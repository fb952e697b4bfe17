"""Every benchmark, one after the other, into docs/reference/benchmarks.md.

    benchmarks/environment.sh
    .venv-peers/bin/python benchmarks/all.py
    .venv-peers/bin/python benchmarks/all.py --only sampling_loop,roofline

Each runs in a process of its own. What they measured is kept in benchmarks/results.json, with the
single rounds, when and where: the latest run of each benchmark on each kind of machine. That page
shows the newest run of each table, research/benchmarks.md all of them. Let nothing else work on the
machine meanwhile: half an hour to an hour.
"""

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from measuring import Table

from open_imagen.storage import read_json, write_json, write_text

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs" / "reference" / "benchmarks.md"
HISTORY = HERE.parent / "research" / "benchmarks.md"
BENCHMARKS = (
    *("guided_forward", "sampling_loop", "training_step", "efficient_unet", "cold_start"),
    *("thresholding", "growth", "roofline", "gpu"),
)
HERE_TOO = [name for name in BENCHMARKS if name != "gpu" or torch.cuda.is_available()]
"""Those that this machine can run."""
PACKAGES = ("open-imagen", "torch", "diffusers", "imagen-pytorch")
INSTRUCTIONS = {"amx_bf16": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}
"""What a processor says it has, and its name: the best of them counts."""
HEAD = """# Benchmarks

<!-- Written by benchmarks/all.py. Do not edit. -->

This package and its peers take turns in one run on the same work. Figures are medians; the single
rounds are in `benchmarks/results.json`. {which}
[Speed](SPEED) explains what makes this package fast.
"""
NEWEST = HEAD.replace("SPEED", "../guides/speed.md").format(
    which="Each table is the newest run; other machines are in `research/benchmarks.md`."
)
ALL = HEAD.replace("SPEED", "../docs/guides/speed.md").format(
    which="Every kind of machine is here, the newest run first."
)


def machine() -> str:
    """Processor, cores, AMX or SIMD, memory."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    flags = facts.get("flags", "").split()
    known = (f" with {name}" for flag, name in INSTRUCTIONS.items() if flag in flags)
    instructions = next(known, "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = facts.get("model name", platform.processor()).strip()
    return f"{os.cpu_count()} cores of {name}{instructions}, {memory:.0f} GiB"


def versions() -> str:
    """Of Python and of what is compared."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        found.append(f"{package} {importlib.metadata.version(package)}")
    return ", ".join(found)


def run(name: str, rounds: int) -> dict[str, Any]:
    """One benchmark's tables, with where and when."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tables.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(file)]
        command += ["--rounds", str(rounds)] if rounds else []
        subprocess.run(command, check=True)
        tables = read_json(file)
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    return {"date": day, "machine": machine(), "versions": versions(), "tables": tables}


def newest(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each table of a benchmark once: from the newest run that has it."""
    shown: set[str] = set()
    kept = []
    for found in sorted(runs, key=lambda one: one["date"], reverse=True):
        tables = [table for table in found["tables"] if table["title"] not in shown]
        shown |= {table["title"] for table in tables}
        if tables:
            kept.append({**found, "tables": tables})
    return kept


def page(results: dict[str, Any], head: str) -> str:
    parts, said = [head], ""
    for name in BENCHMARKS:
        if name not in results:
            continue
        parts.append(f"## `{name}.py`\n")
        for found in results[name]:
            where = f"{found['machine']}; {found['versions']}; {found['date']}."
            parts.append(f"{'As above.' if where == said else where}\n")
            said = where
            parts += [Table(**table).markdown() for table in found["tables"]]
    return "\n".join(parts)


def write_pages(results: dict[str, Any]) -> None:
    """The newest figures for users, all of them for the record."""
    write_text(PAGE, page({name: newest(runs) for name, runs in results.items()}, NEWEST))
    write_text(HISTORY, page(results, ALL))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(HERE_TOO), help="some of them, with commas")
    parser.add_argument("--rounds", type=int, default=0, help="of each, if not what it has itself")
    parser.add_argument("--write", action="store_true", help="write the pages, measure nothing")
    options = parser.parse_args()
    chosen = [] if options.write else options.only.split(",")
    if unknown := set(chosen) - set(BENCHMARKS):
        parser.error(
            f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}"
        )
    results = read_json(RESULTS) if RESULTS.is_file() else {}
    for name in chosen:
        print(f"# {name}", flush=True)
        found = run(name, options.rounds)
        others = [one for one in results.get(name, []) if one["machine"] != found["machine"]]
        results[name] = [found, *others]
        write_json(RESULTS, results)
        write_pages(results)
    write_pages(results)


if __name__ == "__main__":
    main()
