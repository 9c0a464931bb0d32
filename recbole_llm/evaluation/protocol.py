"""How a data set was split and its test part ranked, in the words that a run's report and a benchmark's page share."""

KEPT = ("eval_args", "split_column", "benchmark_filename")  # what ``split`` reads of the settings
SPLITS = {
    "valid_and_test": "the last is the test target, the one before it the validation target, the rest is for training",
    "test_only": "the last is the test target, the rest is for training",
    "valid_only": "the last is the validation target, the rest is for training",
}
HISTORY = (
    "**History:** where it is masked, what the user had before the target is left out of the ranking, save the target "
    "itself; where it is not, it competes with the target."
)


def split(settings):
    """How the settings divide the events into training, validation and test, as one line."""
    return f"**Split:** {_how(settings)}."


def history(models):
    """What becomes of the items that a user has had, as one line; ``models`` are those that have ``no_repeats``."""
    if not models:
        return HISTORY
    return f"{HISTORY} With `no_repeats` ({', '.join(models)}) what the model has read of it has no chance, either way."


def _how(settings):
    asked = settings["eval_args"]
    if settings.get("benchmark_filename") or not asked.get("split"):
        return "ready-made files for training, validation and test"
    if settings.get("split_column"):
        return f"column `{settings['split_column']}` says which events are targets of training, validation or test"
    kind, value = next(iter(asked["split"].items()))
    if kind == "LS":
        when = "in random order" if drawn(settings) else "in order of time"
        return f"leave-one-out. Of each user's events {when}, {SPLITS[value]}"
    whose = "all events" if asked.get("group_by") in (None, "none") else "each user's events"
    when = "drawn at random" if drawn(settings) else "in order of time"
    return f"{whose}, {when}, in parts of {' : '.join(map(str, value))}"


def drawn(settings):
    """Whether chance, not time, says which events are for training."""
    by_file = settings.get("benchmark_filename") or settings.get("split_column")
    return settings["eval_args"].get("order") == "RO" and not by_file
