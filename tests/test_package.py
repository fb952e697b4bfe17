"""What a user meets first: the import, the names, the help."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import open_imagen


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_importing_the_package_and_asking_for_help_does_not_import_torch():
    code = (
        "import sys, open_imagen, open_imagen.cli.main as m\n"
        "sys.argv = ['imagen', '--help']\n"
        "try: m.main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert run(code).stdout.endswith("False False\n")


def test_every_public_name_exists():
    for name in open_imagen.__all__:
        assert getattr(open_imagen, name) is not None
    assert set(open_imagen.__all__) == set(dir(open_imagen))


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(open_imagen, "Imagen")


def test_python_dash_m_is_the_command():
    found = subprocess.run(
        [sys.executable, "-m", "open_imagen", "--help"], capture_output=True, text=True
    )
    assert found.returncode == 0
    assert "generate" in found.stdout


def test_networks_build_on_the_meta_device():
    network = open_imagen.networks.build("imagen-base-64", device="meta")
    assert "imagen-base-64" in open_imagen.networks.names()
    assert all(p.is_meta for p in network.parameters())


def test_extras_are_installed_from_the_source_code_and_exist():
    root = Path(__file__).parents[1]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    pages = [*root.glob("src/**/*.py"), *root.glob("docs/**/*.md"), *root.glob("*.md")]
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    # The name is not published: whoever took it could have it installed.
    assert [page.name for page, text in texts.items() if "open-imagen[" in text] == []
    named = {name for text in texts.values() for name in re.findall(r'install_hint\("(\w+)"', text)}
    assert named
    assert named <= extras.keys()


WINDOWS = """
import os, pkgutil, sys
sys.modules |= {name: None for name in ("fcntl", "resource", "pwd", "grp", "termios")}
import torch, transformers.modeling_utils
for name in ("fork", "sysconf", "sched_getaffinity", "getuid", "geteuid", "killpg", "mkfifo"):
    delattr(os, name)
import importlib, open_imagen
for module in pkgutil.walk_packages(open_imagen.__path__, "open_imagen."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from open_imagen.devices import free_memory, pick_device
assert free_memory(torch.device("cpu")) > 0
"""


def test_every_module_is_imported_where_there_is_no_posix():
    done = run(WINDOWS)
    assert done.returncode == 0, done.stderr
