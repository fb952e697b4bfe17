"""The official client of Node: edits, streamed edits, variations and errors."""

import base64
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from server.test_edits import masked, outside, photo

SCRIPT = Path(__file__).parent / "client.mjs"


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory):
    """A folder in which the client is installed: OPENAI_NODE, or a fresh one by npm."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node here")
    if folder := os.environ.get("OPENAI_NODE"):
        return Path(folder)
    folder = tmp_path_factory.mktemp("node")
    found = subprocess.run(
        ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "openai"],
        capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    if found.returncode:
        pytest.skip("npm cannot install the client")
    return folder


@pytest.mark.slow
def test_the_official_client_of_node(serve, node_modules, tmp_path):
    url, _ = serve()
    image, mask = photo(), masked()
    image.save(tmp_path / "image.png")
    mask.save(tmp_path / "mask.png")
    ran = subprocess.run(
        ["node", SCRIPT, url, tmp_path / "image.png", tmp_path / "mask.png"],
        cwd=node_modules, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    out = json.loads(ran.stdout)
    assert [(one["seed"], one["steps"]) for one in out["edit"]] == [(5, 2), (6, 2)]
    made = np.asarray(Image.open(io.BytesIO(base64.b64decode(out["edit"][0]["b64_json"]))))
    kept = outside((30, 20, 60, 50))
    assert made.shape == (80, 104, 3)
    assert np.array_equal(made[:, 8:][kept], np.asarray(image)[kept])
    assert out["several"] == 2
    assert out["events"] == ["image_edit.partial_image", "image_edit.completed"]
    assert out["variations"] == [1, 1]
    assert out["error"] == {"status": 400, "param": "markup", "code": "unsupported_parameter"}
