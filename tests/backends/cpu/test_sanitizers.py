"""The kernels' C++ under the address and undefined-behaviour sanitizers, for several CPUs."""

import platform
import subprocess
from pathlib import Path

import pytest

from open_imagen.backends.cpu.build import SOURCE_FOLDER, SOURCES

HERE = Path(__file__).parent
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
COMMON = ("-O1", "-g", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-std=c++17")
TARGETS = {
    "this CPU": ("-march=native",),
    "AVX2": ("-march=x86-64-v3",),
    "SSE2": ("-march=x86-64",),
    "AMX, emulated": ("-march=x86-64-v3", "-include", str(HERE / "amx_emulation.h")),
}


def compile_and_run(tmp_path, target, sources, sanitizers=SANITIZERS):
    program = tmp_path / "driver"
    command = ["g++", *COMMON, *target, *sanitizers, f"-I{SOURCE_FOLDER}", *map(str, sources)]
    built = subprocess.run([*command, "-o", str(program)], capture_output=True, text=True)
    if built.returncode:
        return built
    # A library of OpenMP keeps its threads' memory to the end: that is no leak.
    environment = {"ASAN_OPTIONS": "allocator_may_return_null=1:detect_leaks=0"}
    return subprocess.run([str(program)], capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """Skips where there is no compiler with the sanitizers' libraries."""
    folder = tmp_path_factory.mktemp("sanitizers")
    (folder / "empty.cpp").write_text("int main() { return 0; }\n")
    try:
        done = compile_and_run(folder, (), [folder / "empty.cpp"])
    except FileNotFoundError:
        pytest.skip("there is no g++")
    if done.returncode:
        pytest.skip(f"no program can be built with libasan and libubsan: {done.stderr[-200:]}")


@pytest.mark.slow
@pytest.mark.usefixtures("sanitized")
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_kernels_stay_within_their_buffers(target, tmp_path):
    if target != TARGETS["this CPU"] and platform.machine() != "x86_64":
        pytest.skip("only for x86-64")
    done = compile_and_run(tmp_path, target, [HERE / "kernels_driver.cpp", *SOURCES])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "0 failures" in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("sanitized")
def test_a_read_beyond_a_buffer_is_seen(tmp_path):
    (tmp_path / "bad.cpp").write_text(
        "#include <vector>\n"
        "int main(int n, char **) { std::vector<int> x(n); return *(x.data() + n); }\n"
    )
    assert "heap-buffer-overflow" in compile_and_run(tmp_path, (), [tmp_path / "bad.cpp"]).stderr
