"""MovieLens -> atomic files: ml-100k from RecBole's own wheel, the others from GroupLens' raw files.

F. Maxwell Harper and Joseph A. Konstan, "The MovieLens Datasets: History and Context", TiiS 2015,
https://doi.org/10.1145/2827872. Read from a folder, a zip or a download; titles are put in order
("Matrix, The (1999)" -> "The Matrix", 1999), genres become a sequence, ids stay GroupLens' own.

    python -m dataset_prep.movielens ml-1m --raw_path ml-1m.zip --extra_text plots.csv plot
"""

import argparse
import importlib.util
import urllib.request
from pathlib import Path

import pandas as pd

from dataset_prep.atomic import Record, state_of, write_atomic
from dataset_prep.check import check_foreign
from dataset_prep.errors import PrepError
from dataset_prep.extra import as_plan, join_extra
from dataset_prep.grouplens import TYPES, read_graph, read_movies, read_ratings, read_users
from dataset_prep.record import file_hash
from dataset_prep.source import Source, download, keep_downloads_in, places, verify

HOST = "https://files.grouplens.org/datasets/movielens"
MD5 = {  # GroupLens publishes them beside the archives, as <HOST>/<name>.zip.md5
    "ml-100k": "0e33842e24a9c977be4e0107933c0723",
    "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
    "ml-10m": "ce571fd55effeba0271552578f2648bd",
    "ml-20m": "cd245b17a1ae2cc31bb14903e1204af3",
    "ml-25m": "6b51fb2759a8657d3bfcbfc42b592ada",
    "ml-32m": "d472be332d4daa821edc399621853b57",
    "ml-latest-small": None,  # made anew from time to time: its current checksum is fetched beside it
}
EVENTS = {  # ratings of the whole release, by its README
    "ml-100k": 100_000,
    "ml-1m": 1_000_209,
    "ml-10m": 10_000_054,
    "ml-20m": 20_000_263,
    "ml-25m": 25_000_095,
    "ml-32m": 32_000_204,
}
FILES = {"ml-100k": ("u.data", "ml-100k.inter"), "ml-1m": ("ratings.dat",), "ml-10m": ("ratings.dat",)}
FOLDERS = {"ml-10m": "ml-10M100K"}  # where the folder inside the zip is not named as the zip
NAMES = tuple(MD5)


def prepare(name, raw_path=None, out="dataset", extra_text=None):
    """Folder of atomic files of a MovieLens data set; made when it is not there yet.

    Parameters
    ----------
    name : str
        One of ``NAMES``.
    raw_path : path, optional
        A folder or a zip. Without it: the environment variable ``RECBOLE_LLM_RAW``, ``<out>/raw``,
        RecBole's wheel (ml-100k), a download.
    out : path
        The folder of data sets.
    extra_text : path or dict of path -> columns, optional
        Tables of text keyed by item id; each column becomes a ``token_seq`` of ``.item``.

    Returns
    -------
    Path
        ``<out>/<name>``. Atomic files that stand there without ``prep.json`` are the user's own: checked,
        used as they are.

    Raises
    ------
    PrepError
        Where the raw data are bad or nowhere to be found; it says what to fetch and where to put it.
    """
    if name not in MD5:
        raise PrepError(f"{name} is not a MovieLens data set, expected one of {', '.join(NAMES)}")
    directory = Path(out) / name
    plan = {str(path): [file_hash(path), *columns] for path, columns in as_plan(extra_text).items()}
    settings = {"name": name, "extra_text": plan}
    state = state_of(directory, name, settings, raw_path)
    if state == "foreign":
        check_foreign(directory, name)
    if state in ("foreign", "ready"):
        return directory
    source = find_source(name, raw_path, out)
    record = Record(name, settings)
    ratings = read_ratings(source, record)
    if len(ratings) != EVENTS.get(name, len(ratings)):
        record.note(
            f"{len(ratings):,} ratings, the release has {EVENTS[name]:,}: this is not the whole {name}"
        )
    movies = _with_every_rated(read_movies(source, record), ratings, record)
    movies, extra_types = join_extra(movies, extra_text, record)
    users = read_users(source, record)
    types = TYPES | extra_types | dict.fromkeys(users if users is not None else (), "token")
    write_atomic(directory, name, ratings, movies, users, types, record, read_graph(source, record))
    record.finish(directory)
    return directory


def find_source(name, raw_path=None, out="dataset"):
    """The raw files of a data set: those at hand, else RecBole's wheel (ml-100k), else a download."""
    names = [name, FOLDERS.get(name, name)]
    wanted = FILES.get(name, ("ratings.csv",))
    for place in places(names, raw_path, out):
        if place.is_file() and place.name == f"{name}.zip":
            verify(place, MD5[name], f"{place} has", "fetch it again, or unpack it and give the folder")
        source = Source(place)
        if any(member in source for member in wanted):
            return source
    url = f"{HOST}/{name}.zip"
    if raw_path is not None:
        raise PrepError(
            f"{raw_path} holds neither {name}.zip nor {' nor '.join(wanted)}; fetch {url} and unpack it there"
        )
    if name == "ml-100k" and (wheel := _wheel_folder(name)):
        return Source(wheel)
    target = keep_downloads_in(out) / f"{name}.zip"
    return Source(download(url, target, MD5[name] or _published_md5(url, target)))


def _wheel_folder(name):
    spec = importlib.util.find_spec("recbole")
    places_of_recbole = spec.submodule_search_locations if spec else []
    folders = [Path(place) / "dataset_example" / name for place in places_of_recbole]
    return next((folder for folder in folders if folder.is_dir()), None)


def _published_md5(url, target):
    try:
        with urllib.request.urlopen(f"{url}.md5", timeout=60) as answer:
            return next(word for word in answer.read().decode().split() if len(word) == 32)
    except (OSError, StopIteration) as error:
        raise PrepError(
            f"{url}.md5 cannot be fetched ({error}); fetch {url} by hand and put it at {target}"
        ) from error


def _with_every_rated(movies, ratings, record):
    """Movies, and a row without text for each rated one that the file of movies lacks."""
    lacking = pd.Index(ratings["item_id"].unique()).difference(movies["item_id"])
    if not len(lacking):
        return movies
    record.note(f"{len(lacking):,} rated items have no title, e.g. {lacking[0]}: kept with empty text")
    return pd.concat([movies, pd.DataFrame({"item_id": lacking})], ignore_index=True).fillna("")


def main(arguments=None):
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_prep.movielens", description="MovieLens -> atomic files"
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument(
        "--raw_path", help="folder or zip of the raw files (default: RECBOLE_LLM_RAW, else download)"
    )
    parser.add_argument("--out", default="dataset", help="folder of data sets (default: dataset)")
    parser.add_argument(
        "--extra_text",
        nargs="+",
        action="append",
        default=[],
        metavar=("FILE", "COLUMN"),
        help="table of text keyed by item id, and columns to take (default: all)",
    )
    given = parser.parse_args(arguments)
    extra_text = {file: columns for file, *columns in given.extra_text}
    try:
        print(prepare(given.name, given.raw_path, given.out, extra_text or None))
    except PrepError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
