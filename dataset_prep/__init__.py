"""Public data and your own -> RecBole's atomic files; stands beside the package and imports nothing of it."""

from dataset_prep.errors import PrepError

__all__ = ["PrepError", "prepare"]


def prepare(name, raw_path=None, out="dataset"):
    """Folder of atomic files of a known data set, prepared when it is not there yet.

    Parameters
    ----------
    name : str
        A MovieLens name (``ml-100k``, ``ml-1m``, ...) or an Amazon one (``amazon-beauty``,
        ``amazon-books-18``).
    raw_path : path, optional
        Folder or zip of the raw files. Without it: the environment variable ``RECBOLE_LLM_RAW`` (a folder
        that holds ``<name>/``, ``<name>.zip`` or the files themselves), ``<out>/raw``, else a download.
    out : path
        The folder of data sets.

    Returns
    -------
    Path
        ``<out>/<name>``: nothing is done where its ``prep.json`` agrees with its files, and atomic files of
        the user's own are used as they are.

    Raises
    ------
    PrepError
        For an unknown name, bad raw data, or none; it says what to fetch and where to put it.
    """
    from pathlib import Path

    from dataset_prep import amazon, check, movielens
    from dataset_prep.record import state_of

    directory = Path(out) / name
    if (
        state_of(directory, name, None, raw_path) == "ready"
    ):  # prepared before, maybe with texts or filters of its own
        return directory
    if name in movielens.NAMES:
        return movielens.prepare(name, raw_path, out)
    if name in amazon.NAMES:
        return amazon.prepare(name, raw_path, out)
    if (directory / f"{name}.inter").exists():
        check.check_atomic(directory, name)
        return directory
    if (whole := name.removesuffix("-sessions")) in (*movielens.NAMES, *amazon.NAMES):
        # Amazon's times are days, or an order alone
        gap = " --gap_minutes=none" if whole in amazon.NAMES else ""
        raise PrepError(
            f"{directory / name}.inter does not exist; cut the sessions of {whole} with `recbole-llm prep sessions "
            f"--dataset={whole}{gap}`"
        )
    known = f"{', '.join(movielens.NAMES)}, amazon-<category>[-18|-23]"
    command = f"python -m dataset_prep.table --name {name} --inter FILE --user COLUMN --item COLUMN"
    raise PrepError(
        f"{name} is none of the data sets that can be prepared by name ({known}), and "
        f"{directory / name}.inter does not exist; put atomic files there, or make them of your own table: "
        f"`{command}`"
    )
