"""Where raw data come from: a folder, a zip, a plain or gzipped file, a download with a checksum."""

import gzip
import http.client
import json
import os
import urllib.request
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

from dataset_prep.errors import PrepError
from dataset_prep.record import file_hash, replacing
from dataset_prep.screen import byte_bar

RAW_VARIABLE = "RECBOLE_LLM_RAW"
_DAMAGED = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)
_SHOWN_FROM = 20_000_000  # bytes; smaller files are read in less than the two seconds that deserve a bar


class Source:
    """The raw files of one data set, by their names, wherever they lie: a folder or a zip."""

    def __init__(self, path):
        self.path = Path(path)
        self.zip = None
        if self.path.is_dir():
            self.members = {member.name: member for member in self.path.iterdir() if member.is_file()}
        else:
            with _damage(self.path):
                self.zip = zipfile.ZipFile(self.path)
            self.members = {
                Path(info.filename).name: info for info in self.zip.infolist() if not info.is_dir()
            }

    def __contains__(self, member):
        return member in self.members

    def where(self, member):
        """The member's place, for messages and the record."""
        return f"{self.path}!{self.members[member].filename}" if self.zip else str(self.members[member])

    def file_of(self, member):
        """The file on disk that holds the member: itself, or the zip."""
        return self.path if self.zip else self.members[member]

    @contextmanager
    def open(self, member):
        """Binary reading of a member, with a progress bar over a big one; damage becomes a PrepError."""
        entry = self.members[member]
        size = entry.file_size if self.zip else entry.stat().st_size
        with _damage(self.where(member)), byte_bar() as bar:
            with self.zip.open(entry) if self.zip else entry.open("rb") as file:
                shown = size > _SHOWN_FROM
                yield bar.wrap_file(file, size, description=f"reading {member}") if shown else file


@contextmanager
def open_lines(path):
    """Binary reading of a plain or gzipped file of lines; damage becomes a PrepError."""
    path = Path(path)
    if not path.is_file():
        raise PrepError(f"{path} does not exist; give the path of the file")
    with _damage(path), byte_bar() as bar, path.open("rb") as raw:
        size = path.stat().st_size
        if not size:
            raise PrepError(f"{path} is empty; fetch it again")
        shown = bar.wrap_file(raw, size, description=f"reading {path.name}") if size > _SHOWN_FROM else raw
        yield gzip.GzipFile(fileobj=shown) if path.suffix == ".gz" else shown


def read_json(text):
    r"""The value of a JSON text, without lone surrogates: UTF-8 and pandas' strings cannot hold them.

    >>> read_json(r'{"a": "half \ud83d, whole \ud83d\ude00"}')
    {'a': 'half ?, whole 😀'}
    """
    return writable(json.loads(text)) if "\\ud" in text.lower() else json.loads(text)


def writable(value):
    """A value of plain lists, dicts and strings with each lone surrogate made a question mark."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


@contextmanager
def _damage(where):
    try:
        yield
    except _DAMAGED as error:
        raise PrepError(f"{where} is damaged ({error}); fetch it again") from error


def places(names, raw_path, out):
    """Folders and zips that may hold a data set, the likeliest first; only existing ones.

    Parameters
    ----------
    names : sequence of str
        What the folder or zip may be called, e.g. ``("ml-10m", "ml-10M100K")``.
    raw_path : path or None
        Where the user says it is; then nowhere else.
    out : path
        The folder of data sets; downloads are kept in its ``raw``.
    """
    if raw_path is not None:
        if not Path(raw_path).exists():
            raise PrepError(f"{raw_path} does not exist; raw_path must be a folder or a zip of raw files")
        if Path(raw_path).is_file() and Path(raw_path).suffix != ".zip":
            raise PrepError(f"{raw_path} is neither a folder nor a zip; give the folder of the raw files")
        roots = [Path(raw_path)]
    else:
        roots = [Path(os.environ[RAW_VARIABLE])] if os.environ.get(RAW_VARIABLE) else []
        roots.append(Path(out) / "raw")
    found = []
    for root in roots:
        inside = [root / name for name in names] + [root / f"{name}.zip" for name in names]
        found += [
            place for place in [*inside, root] if place.is_dir() or place.suffix == ".zip" and place.is_file()
        ]
    return found


def keep_downloads_in(out):
    """The folder for downloads: ``RECBOLE_LLM_RAW`` where it is set, else ``<out>/raw``."""
    return Path(os.environ.get(RAW_VARIABLE) or Path(out) / "raw")


def download(url, target, md5=None):
    """Fetch ``url`` to ``target``: streamed to a temporary name, checked, renamed.

    Parameters
    ----------
    url : str
    target : path
    md5 : str, optional
        The checksum that its publisher states.

    Raises
    ------
    PrepError
        Where the download fails or has another checksum; it says what to fetch by hand and where to put it.
    """
    by_hand = f"fetch {url} by hand and put it at {target}, or set {RAW_VARIABLE} or raw_path to its folder"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, replacing(target) as file, byte_bar() as bar:
            size = int(answer.headers.get("Content-Length") or 0)
            task = bar.add_task(f"fetching {Path(target).name}", total=size or None)
            received = 0
            while block := answer.read(1 << 20):
                file.write(block)
                received += len(block)
                bar.advance(task, len(block))
            if received < size:
                raise PrepError(f"{url} ended after {received:,} of {size:,} bytes; {by_hand}")
            file.flush()
            verify(file.name, md5, f"{url} has", by_hand)
    except (OSError, http.client.HTTPException) as error:
        raise PrepError(f"{url} cannot be fetched ({error}); {by_hand}") from error
    return Path(target)


def verify(path, md5, subject, cure):
    """Refuse a file whose md5 is not the published one."""
    if md5 is not None and (found := file_hash(path, "md5")) != md5:
        raise PrepError(f"{subject} md5 {found}, its publisher states {md5}; {cure}")
