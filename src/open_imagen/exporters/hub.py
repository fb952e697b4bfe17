"""push(): a model folder as a repository on the Hugging Face hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_imagen.cascade.folder import locate, read_header, read_stages
from open_imagen.errors import CheckpointError, ConfigError, OutputError
from open_imagen.exporters.model_card import model_card, split_card
from open_imagen.storage import PICKLES, TensorFile, read_json

SUFFIXES = {".json", ".safetensors", ".onnx", ".md", ".txt", ".model", ".py"}
"""Of files that are sent."""
MAY_WRITE = ("admin", "write", "contributor")
"""Roles in an organisation that may create repositories."""
LOG_IN = "Run: hf auth login, or set HF_TOKEN to a token that may write."


@dataclass(frozen=True)
class Push:
    """What is sent, or would be."""

    repository: str
    card: str
    files: dict[str, Path]
    """Path in the repository -> file here; the card is not among them."""
    bytes: int
    licence: str
    private: bool
    url: str = ""
    """Of the commit; empty if nothing was sent."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "repository": self.repository,
            "url": self.url,
            "sent": bool(self.url),
            "private": self.private,
            "licence": self.licence,
            "bytes": self.bytes,
            "files": sorted([*self.files, "README.md"]),
        }


def push(
    model: str | Path,
    repository: str,
    private: bool = False,
    dry_run: bool = False,
    licence: str | None = None,
    token: str | None = None,
) -> Push:
    """Send a model folder, or a folder that `export` wrote for diffusers, to the hub.

    All checks come first: until the name, the folder, the token and its rights are found good,
    nothing is created or sent.

    Args:
        model: a folder, or a shipped model's name.
        repository: "org/name"; it is created if it is not there.
        private: whether it is private. A public repository of that name is refused then.
        dry_run: check the folder and the name, and send nothing; no token is needed.
        licence: its name on the hub, for the card; else what the folder's README says, else
            Apache-2.0.
        token: of the hub; the one that is logged in if None.

    Raises:
        ConfigError: the repository's name is wrong.
        UnknownName, CheckpointError: there is no such model, or it is damaged.
        OutputError: no token, no right, or the hub refuses.
    """
    check_repository_name(repository)
    prepared = prepare(model, repository, licence, private)
    if dry_run:
        return prepared
    api = _connect(token)
    _check_rights(api, repository)
    _check_visibility(api, repository, private)
    return _send(api, prepared)


def check_repository_name(repository: str) -> None:
    """Raises ConfigError unless it is "org/name" as the hub allows it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    hint = 'Write ORG/NAME, as in "my-name/my-model": letters, digits, "-", "_" and ".".'
    if repository.count("/") != 1:
        raise ConfigError(f"{repository!r} is not the name of a repository.", hint)
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ConfigError(
            f"{repository!r} is not the name of a repository: {error}", hint
        ) from error


def prepare(model: str | Path, repository: str, licence: str | None, private: bool) -> Push:
    """What would be sent, checked to the shapes of the weights.

    Raises:
        UnknownName, CheckpointError: there is no such model, or it is damaged or incomplete.
    """
    if str(model).startswith("hf:"):
        raise ConfigError(f"{model} is on the hub already.", "Give a folder of this machine.")
    folder = Path(model)
    if (folder / "model_index.json").is_file():
        header = _exported_header(folder)
    else:
        folder = locate(model)
        if not (folder / "cascade.json").is_file():
            raise CheckpointError(
                f"{folder} is a published folder of DeepFloyd IF, not a model folder.",
                "Its licence does not allow everyone to publish it again. imagen import deepfloyd "
                "makes a model folder.",
            )
        header = read_header(folder)
        read_stages(folder, header)
        header["lowres"] = read_json(folder / header["stages"][0] / "config.json").get("lowres")
    files = files_of(folder)
    card = model_card(folder, header, repository, licence)
    metadata, _ = split_card(card)
    size = sum(file.stat().st_size for file in files.values())
    return Push(repository, card, files, size, str(metadata["license"]), private)


def _exported_header(folder: Path) -> dict[str, Any]:
    """What a diffusers folder says of itself; its weights are opened."""
    index = read_json(folder / "model_index.json")
    if not isinstance(index, dict) or "_class_name" not in index:
        raise CheckpointError(f"{folder / 'model_index.json'} does not describe a pipeline.")
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        raise CheckpointError(f"{folder} has no weights as safetensors.")
    for file in weights:
        TensorFile(file)
    encoder = index.get("encoder")
    name = encoder.get("name", "") if isinstance(encoder, dict) else ""
    return {**index, "name": folder.resolve().name, "encoder": name, "stages": []}


def files_of(folder: Path) -> dict[str, Path]:
    """The files to send, by their path in the repository.

    Raises:
        CheckpointError: there are pickles among them.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in inside.parts):
            continue
        if any(path.match(pattern) for pattern in PICKLES):
            raise CheckpointError(
                f"{path} is a pickle, which can run any code when it is read; it is not sent.",
                "Move it out of the folder.",
            )
        if path.suffix in SUFFIXES or path.name in ("LICENSE", "LICENCE", "NOTICE"):
            found[inside.as_posix()] = path
    found.pop("README.md", None)
    return found


def _connect(token: str | None) -> Any:
    from huggingface_hub import HfApi, get_token

    token = token or get_token()
    if not token:
        raise OutputError("There is no token of the hub on this machine.", LOG_IN)
    return HfApi(token=token)


def _check_rights(api: Any, repository: str) -> None:
    """Whether the token's owner may create this repository."""
    owner = repository.split("/")[0]
    try:
        me = api.whoami()
    except Exception as error:
        raise _refused(error, "does not know this token, or cannot be reached", LOG_IN) from error
    role = (me.get("auth", {}).get("accessToken") or {}).get("role", "")
    if role == "read":
        raise OutputError(
            f"The token of {me['name']} may read and not write.",
            "Make one with the role write in the hub's settings, then: hf auth login.",
        )
    if owner == me["name"]:
        return
    roles = {org["name"]: org.get("roleInOrg", "write") for org in me.get("orgs", [])}
    if owner not in roles:
        mine = ", ".join([me["name"], *roles])
        raise OutputError(
            f"The token is {me['name']}'s, who is no member of {owner}.",
            f"Choose one of: {mine}; or log in as someone else.",
        )
    if roles[owner] not in MAY_WRITE:
        raise OutputError(
            f"{me['name']} has the role {roles[owner]!r} in {owner}, which may not write.",
            "Ask an administrator of the organisation.",
        )


def _check_visibility(api: Any, repository: str, private: bool) -> None:
    """Refuse to send what shall be private to a repository that everyone can read."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.model_info(repository)
    except RepositoryNotFoundError:
        return
    except Exception as error:
        raise _refused(error, f"does not show {repository}") from error
    if private and not info.private:
        raise OutputError(
            f"{repository} exists and is public; you asked for a private one.",
            "Make it private in its settings, choose another name, or leave --private out.",
        )


def _send(api: Any, prepared: Push) -> Push:
    from huggingface_hub import CommitOperationAdd

    repository = prepared.repository
    operations = [
        CommitOperationAdd(path_in_repo=path, path_or_fileobj=str(file))
        for path, file in prepared.files.items()
    ]
    operations.append(CommitOperationAdd("README.md", prepared.card.encode()))
    try:
        api.create_repo(repository, private=prepared.private, exist_ok=True)
        made = api.create_commit(
            repository, operations, commit_message="Add model with open_imagen"
        )
    except Exception as error:
        raise _refused(error, f"does not take {repository}") from error
    return Push(**{**prepared.__dict__, "url": str(made.commit_url)})


def _refused(error: Exception, what: str, hint: str = "") -> OutputError:
    """What the hub said, in one line."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    said = getattr(error, "server_message", None) or str(error).strip().split("\n")[0]
    number = f" ({status})" if status else ""
    hint = hint or (LOG_IN if status in (401, 403) else "Try again later.")
    return OutputError(f"The hub {what}{number}: {said}", hint)
