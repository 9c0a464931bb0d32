"""Amazon reviews and metadata -> atomic files, in the layouts of 2014, 2018 and 2023.

Each release is two files of lines, plain or gzipped: reviews and product metadata.
2014: R. He and J. McAuley, WWW 2016, https://jmcauley.ucsd.edu/data/amazon/ (metadata are Python literals).
2018: J. Ni, J. Li and J. McAuley, EMNLP 2019, https://nijianmo.github.io/amazon/.
2023: Y. Hou et al., arXiv 2403.03952, https://amazon-reviews-2023.github.io/ (``parent_asin``, milliseconds).
Names are RecBole's: ``amazon-beauty`` (2014), ``amazon-luxury-beauty-18``, ``amazon-video-games-23``.

    python -m dataset_prep.amazon amazon-beauty --raw_path downloads/
    python -m dataset_prep.amazon my-shop --reviews reviews.jsonl.gz --metadata meta.jsonl.gz
"""

import argparse
from pathlib import Path

import pandas as pd

from dataset_prep.amazon_lines import ITEM_COLUMNS, read_metadata, read_reviews
from dataset_prep.atomic import Record, first_of_each_pair, k_core, state_of, write_atomic
from dataset_prep.check import check_foreign
from dataset_prep.errors import PrepError
from dataset_prep.extra import as_plan, join_extra
from dataset_prep.record import file_hash
from dataset_prep.source import download, keep_downloads_in, places

_SNAP = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
_LAB = "https://mcauleylab.ucsd.edu/public_datasets/data"
RELEASES = {  # reviews and metadata; no checksums are published, gzip's own is checked in reading
    "": (_SNAP + "/reviews_{}_5.json.gz", _SNAP + "/meta_{}.json.gz"),
    "-18": (
        _LAB + "/amazon_v2/categoryFilesSmall/{}_5.json.gz",
        _LAB + "/amazon_v2/metaFiles2/meta_{}.json.gz",
    ),
    "-23": (
        _LAB + "/amazon_2023/raw/review_categories/{}.jsonl.gz",
        _LAB + "/amazon_2023/raw/meta_categories/meta_{}.jsonl.gz",
    ),
}
_IN_ALL = (
    "Automotive Books CDs_and_Vinyl Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music "
    "Electronics Grocery_and_Gourmet_Food Home_and_Kitchen Kindle_Store Movies_and_TV Musical_Instruments "
    "Office_Products Patio_Lawn_and_Garden Pet_Supplies Sports_and_Outdoors Tools_and_Home_Improvement "
    "Toys_and_Games Video_Games"
)
_SINCE_2018 = (
    "All_Beauty Appliances Arts_Crafts_and_Sewing Gift_Cards Industrial_and_Scientific "
    "Magazine_Subscriptions Software"
)
CATEGORIES = {
    "": f"{_IN_ALL} Apps_for_Android Baby Beauty Health_and_Personal_Care Amazon_Instant_Video",
    "-18": f"{_IN_ALL} {_SINCE_2018} AMAZON_FASHION Luxury_Beauty Prime_Pantry",
    "-23": f"{_IN_ALL} {_SINCE_2018} Amazon_Fashion Baby_Products Beauty_and_Personal_Care Handmade_Products "
    "Health_and_Household Health_and_Personal_Care Subscription_Boxes",
}


def _name(category, release):
    words = category.lower().removeprefix("amazon_").replace("_and_", "_").replace("_", "-")
    return f"amazon-{words}{release}"


DUMPS = {  # data set name -> (release, category as the files spell it)
    _name(category, release): (release, category)
    for release, categories in CATEGORIES.items()
    for category in categories.split()
}
NAMES = tuple(DUMPS)
TYPES = {"helpful": "float", "review_summary": "token_seq", "review": "token_seq"} | ITEM_COLUMNS


def prepare(name, raw_path=None, out="dataset", *, reviews=None, metadata=None, k=5, extra_text=None):
    """Folder of atomic files of an Amazon category; made when it is not there yet.

    ``.inter``: user_id, item_id, rating, timestamp (Unix seconds), helpful (votes), review_summary, review.
    ``.item``: item_id, title, brand, categories (the path, joined by `` > ``), price, description.

    Parameters
    ----------
    name : str
        One of ``NAMES``, or any name together with ``reviews`` and ``metadata``.
    raw_path : path, optional
        The folder of the two files. Without it: ``RECBOLE_LLM_RAW``, ``<out>/raw``, a download.
    out : path
        The folder of data sets.
    reviews, metadata : path, optional
        The two files themselves.
    k : int
        Users and items with fewer interactions are dropped, again and again until none is left; 0 keeps all.
    extra_text : path or dict of path -> columns, optional
        Tables of text keyed by item id.

    Returns
    -------
    Path
        ``<out>/<name>``.
    """
    directory = Path(out) / name
    plan = {str(path): [file_hash(path), *columns] for path, columns in as_plan(extra_text).items()}
    settings = {"name": name, "k": k, "extra_text": plan}
    state = state_of(directory, name, settings, raw_path or reviews)
    if state == "foreign":
        check_foreign(directory, name)
    if state in ("foreign", "ready"):
        return directory
    if bool(reviews) != bool(metadata):
        raise PrepError("give both reviews and metadata: a data set needs the two files")
    if not reviews:
        reviews, metadata = find_files(name, raw_path, out)
    record = Record(name, settings)
    inter = _filtered(read_reviews(reviews, record), k, record)
    items = _complete(read_metadata(metadata, set(inter["item_id"]), record), inter, record)
    items, extra_types = join_extra(items, extra_text, record)
    write_atomic(directory, name, inter, items, None, TYPES | extra_types, record)
    record.finish(directory)
    return directory


def find_files(name, raw_path=None, out="dataset"):
    """Reviews and metadata of a known data set: those at hand, else downloads."""
    if name not in DUMPS:
        raise PrepError(
            f"{name} is not a known Amazon data set (such as amazon-beauty, amazon-books-18, "
            "amazon-video-games-23); give reviews and metadata to prepare files under a name of your own"
        )
    release, category = DUMPS[name]
    folders = [place for place in places([name, category], raw_path, out) if place.is_dir()]
    files = []
    for url, stems in zip(
        RELEASES[release],
        ((f"reviews_{category}_5", f"reviews_{category}", f"{category}_5", category), (f"meta_{category}",)),
        strict=True,
    ):
        url = url.format(category)
        wanted = [stem + ending for stem in stems for ending in (".json.gz", ".jsonl.gz", ".json", ".jsonl")]
        found = next(
            (folder / file for folder in folders for file in wanted if (folder / file).is_file()), None
        )
        if found is None and raw_path is not None:
            raise PrepError(f"{raw_path} holds no {url.rpartition('/')[2]}; fetch {url} and put it there")
        files.append(found or download(url, keep_downloads_in(out) / name / url.rpartition("/")[2]))
    return files


def _filtered(inter, k, record):
    """One review per user and item, then the k-core."""
    inter = inter.sort_values("time_ms", kind="stable")  # milliseconds order events that share a second
    kept = first_of_each_pair(inter.drop(columns="time_ms"))
    record.step("repeated reviews", len(inter), len(kept), "same user and item: the earliest stays")
    core, rounds = k_core(kept, k, k)
    why = f"users and items with fewer than {k} reviews, {len(rounds)} rounds"
    record.step(f"{k}-core", len(kept), len(core), why, rounds=rounds)
    if core.empty:
        raise PrepError(f"no review of {len(kept):,} is left in the {k}-core; lower k")
    return core


def _complete(items, inter, record):
    """Items with metadata, and a row without text for each of the others that has interactions."""
    lacking = pd.Index(inter["item_id"].unique()).difference(items["item_id"])
    if len(lacking):
        record.note(
            f"{len(lacking):,} of {inter['item_id'].nunique():,} items have no metadata, e.g. {lacking[0]}"
        )
    return pd.concat([items, pd.DataFrame({"item_id": lacking})], ignore_index=True)


def main(arguments=None):
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_prep.amazon", description="Amazon reviews -> atomic files"
    )
    parser.add_argument(
        "name", help="amazon-beauty, amazon-books-18, ... or your own name with --reviews, --metadata"
    )
    parser.add_argument(
        "--raw_path", help="folder of the two files (default: RECBOLE_LLM_RAW, else download)"
    )
    parser.add_argument("--reviews", help="file of reviews, .json or .jsonl, plain or .gz")
    parser.add_argument("--metadata", help="file of product metadata")
    parser.add_argument("--out", default="dataset", help="folder of data sets (default: dataset)")
    parser.add_argument("--k", type=int, default=5, help="k-core filter (default: 5; 0 keeps all)")
    given = vars(parser.parse_args(arguments))
    try:
        print(prepare(**given))
    except PrepError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
