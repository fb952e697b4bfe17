"""push(): against a hub of our own that speaks HTTP, and refusals before anything is sent."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

import open_imagen as oi
from open_imagen.cli.main import app
from open_imagen.errors import CheckpointError, ConfigError, OutputError, UnknownName
from open_imagen.exporters.model_card import split_card
from standins import make_cascade


class Hub(ThreadingHTTPServer):
    """What the hub answers, and all that it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.files = [], {}
        self.me = {
            "name": "ada",
            "type": "user",
            "orgs": [
                {"name": "lab", "roleInOrg": "write"},
                {"name": "club", "roleInOrg": "read"},
            ],
            "auth": {"accessToken": {"role": "write"}},
        }
        self.repositories = {}
        self.refuse = {}

    @property
    def sent(self):
        """Requests that change something."""
        return [path for method, path in self.requests if method != "GET"]


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, values, headers=()):
        body = json.dumps(values).encode()
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def note(self):
        path = self.path.split("?")[0]
        self.server.requests.append((self.command, path))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        for part, (status, message) in self.server.refuse.items():
            if part in path:
                self.answer(status, {"error": message}, [("X-Error-Message", message)])
                return None, None
        return path, body

    def do_GET(self):
        path, _ = self.note()
        if path == "/api/whoami-v2":
            self.answer(200, self.server.me)
        elif path is not None:
            name = path.removeprefix("/api/models/")
            if name in self.server.repositories:
                private = self.server.repositories[name]
                self.answer(200, {"id": name, "private": private, "siblings": [], "tags": []})
            else:
                self.answer(404, {"error": "no"}, [("X-Error-Code", "RepoNotFound")])

    def do_POST(self):
        path, body = self.note()
        if path is None:
            return
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            private = asked.get("private") or asked.get("visibility") == "private"
            self.server.repositories[name] = bool(private)
            self.answer(200, {"url": f"https://huggingface.co/{name}"})
        elif "/preupload/" in path:
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif "/commit/" in path:
            for line in body.splitlines():
                row = json.loads(line)
                if row["key"] == "file":
                    value = row["value"]
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
            made = {
                "commitUrl": "https://huggingface.co/lab/mine/commit/1",
                "commitOid": "1",
                "success": True,
            }
            self.answer(200, made)
        else:
            self.answer(200, {"warnings": [], "errors": []})


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("push") / "mine"
    trained = {"base": {"images": 1234, "data": {"kind": "folder"}}}
    make_cascade(name="mine", trained=trained).save(folder)
    return folder


def test_a_model_arrives_whole_with_a_card(hub, model):
    found = oi.push(model, "lab/mine", private=True)
    assert found.url == "https://huggingface.co/lab/mine/commit/1"
    assert hub.repositories == {"lab/mine": True}
    for path in sorted(model.rglob("*")):
        if path.is_file():
            assert hub.files[path.relative_to(model).as_posix()] == path.read_bytes()
    metadata, text = split_card(hub.files["README.md"].decode())
    assert metadata["library_name"] == "open-imagen"
    assert metadata["pipeline_tag"] == "text-to-image"
    assert metadata["license"] == "apache-2.0"
    assert {"text-to-image", "diffusion", "open-imagen"} <= set(metadata["tags"])
    assert 'oi.load("hf:lab/mine")' in text
    assert "| base | 64 | text | unet | v | 1,234 images seen (folder) |" in text
    assert not (model / "README.md").exists()


def test_what_the_readme_says_stays(hub, model, tmp_path):
    import shutil

    folder = tmp_path / "mine"
    shutil.copytree(model, folder)
    (folder / "README.md").write_text("---\nlicense: mit\ntags:\n- foxes\n---\n# My foxes\n")
    (folder / "LICENSE").write_text("mine")
    (folder / ".secret").write_text("hidden")
    (folder / "notes.log").write_text("x")
    found = oi.push(folder, "ada/foxes")
    metadata, text = split_card(hub.files["README.md"].decode())
    assert (metadata["license"], found.licence) == ("mit", "mit")
    assert metadata["tags"][0] == "foxes"
    assert text == "# My foxes\n"
    assert hub.files["LICENSE"] == b"mine"
    assert {".secret", "notes.log"}.isdisjoint(hub.files)
    oi.push(folder, "ada/foxes", licence="cc-by-4.0")
    metadata, _ = split_card(hub.files["README.md"].decode())
    assert metadata["license"] == "cc-by-4.0"


def test_an_exported_folder_is_a_model_of_diffusers(hub, model, tmp_path):
    oi.export(oi.load(model, device="cpu"), tmp_path / "out", text_encoder=False)
    oi.push(tmp_path / "out", "ada/pipe")
    metadata, text = split_card(hub.files["README.md"].decode())
    assert metadata["library_name"] == "diffusers"
    assert "DiffusionPipeline.from_pretrained" in text
    assert {"pipeline.py", "unet/open_imagen_network.py", "model_index.json"} <= set(hub.files)


def test_a_dry_run_sends_nothing_and_needs_no_token(hub, model, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    arguments = ["push", str(model), "lab/mine", "--dry-run"]
    told = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert "Nothing was sent" in told
    assert "base/model.safetensors" in told
    assert "license: apache-2.0" in told
    as_json = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout
    assert json.loads(as_json)["sent"] is False
    assert hub.requests == []


@pytest.mark.parametrize("name", ["mine", "a/b/c", "lab/", "lab/mi ne", "lab/-x", "lab/a--b", ""])
def test_bad_names_are_refused_before_all_else(hub, model, name):
    with pytest.raises(ConfigError, match="is not the name of a repository"):
        oi.push(model, name)
    assert hub.requests == []


def test_bad_models_are_refused_before_all_else(hub, model, tmp_path):
    import shutil

    with pytest.raises(UnknownName):
        oi.push("nothing", "lab/mine")
    with pytest.raises(ConfigError, match="on the hub already"):
        oi.push("hf:lab/other", "lab/mine")
    cut = tmp_path / "cut"
    shutil.copytree(model, cut)
    weights = cut / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        oi.push(cut, "lab/mine")
    pickled = tmp_path / "pickled"
    shutil.copytree(model, pickled)
    (pickled / "extra.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is a pickle"):
        oi.push(pickled, "lab/mine")
    assert hub.requests == []


def test_no_token_and_no_right_are_clear_and_change_nothing(hub, model, monkeypatch, tmp_path):
    with pytest.raises(OutputError, match=r"ada's, who is no member of other"):
        oi.push(model, "other/mine")
    with pytest.raises(OutputError, match="role 'read' in club"):
        oi.push(model, "club/mine")
    hub.me["auth"]["accessToken"]["role"] = "read"
    with pytest.raises(OutputError, match="may read and not write"):
        oi.push(model, "lab/mine")
    hub.refuse = {"whoami": (401, "Invalid username or password.")}
    with pytest.raises(OutputError, match="does not know this token") as caught:
        oi.push(model, "lab/mine")
    assert "hf auth login" in caught.value.hint
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    asked = len(hub.requests)
    with pytest.raises(OutputError, match="no token of the hub"):
        oi.push(model, "lab/mine")
    assert len(hub.requests) == asked
    assert hub.sent == []


def test_a_hub_that_refuses_is_quoted(hub, model):
    hub.repositories["ada/open"] = False
    with pytest.raises(OutputError, match="exists and is public"):
        oi.push(model, "ada/open", private=True)
    assert hub.sent == []
    hub.refuse = {"/api/repos/create": (403, "You have reached your quota")}
    with pytest.raises(OutputError, match=r"does not take ada/x \(403\): .*quota"):
        oi.push(model, "ada/x")
    hub.refuse = {"/commit/": (400, "The model is too large")}
    with pytest.raises(OutputError, match=r"\(400\): .*too large"):
        oi.push(model, "ada/x")
    assert hub.files == {}
