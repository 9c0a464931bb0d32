"""The page of a run's report: what was reached, beside what, how, and how to get it again; Markdown."""

import json
import shlex

import numpy as np

from .outcomes import CONVENTIONS, ONLY, RANK_COLUMN, baselines, capital, validated, validation_of
from .ranks import metrics_from

TRAIN_COUNTS = (
    (0, 0),
    (1, 5),
    (6, 10),
    (11, 20),
    (21, 50),
    (51, np.inf),
)  # lowest and highest of each bucket
FEWEST = 30  # targets, below which a mean says nothing
HIGHER_IS_BETTER = {"recall", "ndcg", "mrr", "hit", "map", "precision", "auc", "gauc"}
SPLITS = {
    "valid_and_test": "the last is the test target, the one before it the validation target, the rest is for training",
    "test_only": "the last is the test target, the rest is for training",
    "valid_only": "the last is the validation target, the rest is for training",
}


def page(folder, outcomes, tests, manifest, kept):
    """The text of ``report.md``."""
    first = outcomes[0]
    sections = [
        f"# {first.name} on {first.settings['dataset']}",
        headline(first, tests),
        f"## Results on the test part\n\n{results(outcomes)}",
        significance(first, tests),
        f"## Protocol\n\n{protocol(outcomes)}",
        f"## Training\n\n![Learning curve](learning_curve.png)\n\n{training(outcomes)}",
        cold_start([first, *baselines(outcomes)]),
        texts(first),
        f"## Settings\n\n{settings(outcomes)}",
        f"## To get these numbers again\n\n{reproduction(folder, manifest)}",
        f"## Files\n\n{files(folder, outcomes, kept)}",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def headline(first, tests):
    """One sentence: what was reached, and how far from the baselines."""
    kind = "masked" if first.test.masked else "unmasked"
    found = getattr(first.test, kind)
    metric = next(
        (name for name in ("ndcg@10", first.settings["valid_metric"].lower()) if name in found),
        next(iter(found)),
    )
    convention = (CONVENTIONS if first.test.masked else ONLY)[kind]
    beside = "".join(
        f"; {_signed(test[kind]['mean'])} against {test['baseline']} "
        f"(95 % interval {_signed(test[kind]['low'])} to {_signed(test[kind]['high'])})"
        for test in tests
        if kind in test and metric == test["metric"]
    )
    return f"**{pretty(metric)} {found[metric]:.4f}**, {convention}{beside}."


def results(outcomes):
    """A table for each convention, the better of model and baseline in bold."""
    parts = []
    rivals = [outcomes[0], *baselines(outcomes)]
    for kind, convention in CONVENTIONS.items():
        both_ways = [outcome for outcome in outcomes if outcome.test.masked]
        if both_ways:
            parts.append(f"**{capital(convention)}**\n\n{_metric_table(both_ways, kind, rivals)}")
    one_way = [outcome for outcome in outcomes if not outcome.test.masked]
    if one_way:
        parts.append(f"**{capital(ONLY['unmasked'])}**\n\n{_metric_table(one_way, 'unmasked', rivals)}")
    if len(outcomes) > len(rivals):
        parts.append(
            "A refit was trained on the validation targets too, for as many epochs as were best before. It is the "
            "model to serve; its numbers compare only with others that were trained so."
        )
    return "\n\n".join(parts)


def _metric_table(outcomes, kind, rivals):
    names = list(getattr(outcomes[0].test, kind))
    rows = []
    for outcome in outcomes:
        row = [outcome.name]
        for name in names:
            value = getattr(outcome.test, kind).get(name)
            others = [getattr(r.test, kind).get(name, value) for r in rivals if r in outcomes]
            best = outcome in rivals and len(others) > 1 and name.partition("@")[0] in HIGHER_IS_BETTER
            text = "" if value is None else f"{value:.4f}"
            row.append(f"**{text}**" if text and best and value == max(others) else text)
        rows.append(row)
    return table(["", *map(pretty, names)], rows)


def significance(first, tests):
    """The paired tests against the baselines."""
    parts = []
    for test in tests:
        title = f"## Is the difference from {test['baseline']} more than chance?"
        if "reason" in test:
            parts.append(f"{title}\n\nNot tested: {test['reason']}.")
            continue
        rows = [
            [
                convention,
                f"{test[kind]['ours']:.4f}",
                f"{test[kind]['theirs']:.4f}",
                _signed(test[kind]["mean"]),
                f"{_signed(test[kind]['low'])} to {_signed(test[kind]['high'])}",
                "< 0.001" if test[kind]["p"] < 0.001 else f"{test[kind]['p']:.3f}",
            ]
            for kind, convention in CONVENTIONS.items()
        ]
        head = ["NDCG@10 from the ranks", first.name, test["baseline"], "difference", "95 % interval", "p"]
        parts.append(
            f"{title}\n\n{table(head, rows)}\n\n{_verdict(first, test)} The interval is a paired bootstrap over the "
            f"{test['masked']['users']:,} users, p a sign-flip permutation test on their differences, "
            f"{test['resamples']:,} draws each. Both speak of the users, not of the seed: each model was trained once, "
            "and another seed moves its numbers too."
        )
    return "\n\n".join(parts)


def _verdict(first, test):
    """What the intervals say, in words."""
    sides = {}
    for kind, convention in CONVENTIONS.items():
        low, high = test[kind]["low"], test[kind]["high"]
        side = (
            "is higher" if low > 0 else "is lower" if high < 0 else "cannot be told apart from its baseline"
        )
        sides.setdefault(side, []).append(f"with {convention.partition(' (')[0]}")
    if len(sides) == 1:
        return f"{first.name} {next(iter(sides))} under both conventions."
    return f"{first.name} {' and '.join(f'{side} {where[0]}' for side, where in sides.items())}."


def protocol(outcomes):
    """How the numbers were made, as a list."""
    first = outcomes[0]
    chosen = first.settings
    split, order, mode = (chosen["eval_args"].get(key) for key in ("split", "order", "mode"))
    kind, value = next(iter((split or {"benchmark files": None}).items()))
    if kind == "LS":
        how = f"leave-one-out. Of each user's events in order of time, {SPLITS[value]}"
    elif kind == "RS":
        how = (
            f"parts {':'.join(map(str, value))}, {'in order of time' if order == 'TO' else 'drawn at random'}"
        )
    else:
        how = "ready-made files for training, validation and test"
    mode = mode.get("test") if isinstance(mode, dict) else mode
    n_items = getattr(first, "n_items", None)
    every = (
        f"all {n_items:,} items are ranked, none is sampled"
        if n_items
        else "all items are ranked, none is sampled"
    )
    lines = [
        f"**Split:** {how}.",
        f"**Ranking:** {every if mode in (None, 'full') else f'sampled candidates, `{mode}`'}.",
        f"**Choice:** {_choice(first)}. The test part was read once for each model, at its end.",
        f"**Seed:** {chosen.get('seed')}.",
    ]
    if first.test.masked:
        lines[2:2] = [
            "**History:** where it is masked, what the user had before the target is left out of the ranking, save the "
            "target itself; where it is not, it competes with the target.",
            "**Ties:** in the ranks, half of the items with the target's score come before it; RecBole's metrics break "
            f"ties arbitrarily. {_ties(outcomes)}".rstrip(),
        ]
    return "\n".join(f"- {line}" for line in lines)


def _choice(first):
    """Which epoch's weights are tested."""
    if not validated(first):
        return "the weights after the last epoch, for nothing was validated"
    return f"the weights of the epoch with the best {validation_of(first)}"


def _ties(outcomes):
    """What the ties come to: NDCG@10 from the ranks beside RecBole's, where both are known."""
    apart, compared = [], 0
    for outcome in outcomes:
        for kind, column in RANK_COLUMN.items():
            theirs = (getattr(outcome.test, kind) or {}).get("ndcg@10")
            if outcome.ranks is not None and theirs is not None:
                ours = metrics_from(outcome.ranks[column], [10])["ndcg@10"]
                compared += 1
                if abs(ours - theirs) > 6e-5:  # RecBole rounds to four digits
                    apart.append(
                        f"{outcome.name}, {CONVENTIONS[kind].partition(' (')[0]}: {ours:.4f}, not {theirs:.4f}"
                    )
    if apart:
        return f"This moves NDCG@10 ({'; '.join(apart)})."
    return "Here both give the same NDCG@10 to four digits." if compared else ""


def training(outcomes):
    """What each model cost, and some epochs of the first."""
    head = ["", "weights", "epochs", "kept epoch", "training time", "peak memory"]
    rows = [
        [
            outcome.name,
            f"{outcome.parameters:,}",
            str(len(outcome.curve)),
            str(outcome.best_epoch),
            _duration(outcome.seconds),
            f"{outcome.peak_memory_gib:.1f} GiB",
        ]
        for outcome in outcomes
    ]
    first, metric = outcomes[0], outcomes[0].settings["valid_metric"]
    shown = validated(first) or first.curve
    few = {int(place) for place in np.linspace(0, len(shown) - 1, 8).round()}
    few = [e for place, e in enumerate(shown) if place in few or e["epoch"] == first.best_epoch]
    epochs = [
        [
            f"**{entry['epoch']}**" if entry["epoch"] == first.best_epoch else str(entry["epoch"]),
            f"{entry['loss']:.4f}",
            f"{entry[metric.lower()]:.4f}" if metric.lower() in entry else "",
        ]
        for entry in few
    ]
    return (
        f"{table(head, rows)}\n\nEpochs count from 0. Training time is without validation and test; peak memory is "
        "that of the process up to the model's test.\n\n"
        f"<details><summary>Some epochs of {first.name}</summary>\n\n"
        f"{table(['epoch', 'training loss', f'validation {metric}'], epochs)}\n\n</details>"
    )


def cold_start(outcomes):
    """NDCG@10 and Recall@10, history masked, by how often the target stands in the training part."""
    outcomes = [outcome for outcome in outcomes if outcome.ranks is not None]
    if not outcomes:
        return ""
    rows = []
    for low, high in TRAIN_COUNTS:
        groups = [outcome.ranks[outcome.ranks["train_count"].between(low, high)] for outcome in outcomes]
        name = str(low) if low == high else f"> {low - 1}" if high == np.inf else f"{low}-{high}"
        row = [name, f"{len(groups[0]):,}"]
        for group in groups:
            found = metrics_from(group["rank_masked"], [10]) if len(group) >= FEWEST else {}
            row += [f"{found[m]:.4f}" if found else "too few" for m in ("ndcg@10", "recall@10")]
        rows.append(row)
    head = ["times in training", "targets"]
    head += [f"{outcome.name} {metric}" for outcome in outcomes for metric in ("NDCG@10", "Recall@10")]
    return (
        f"## Rare and new items\n\nTest targets by how often their item stands in the training part; "
        f"{CONVENTIONS['masked']}, from the ranks; fewer than {FEWEST} targets are too few.\n\n{table(head, rows)}"
    )


def texts(first):
    """The text vectors that the model read."""
    if not first.texts:
        return ""
    rows = []
    for field, artifact in first.texts.items():
        encoder = artifact["made_from"]["encoder"]
        with_text, n_rows = artifact["items_with_text"], artifact["rows"]
        coverage = f"{with_text:,} of {n_rows:,} ({_percent(with_text, n_rows)})"
        row = [f"`{field}`", encoder["name"], f"`{str(encoder['revision'])[:12]}`", coverage]
        rows.append([*row, str(artifact["dimension"]), f"`{artifact['key'][:12]}`"])
    head = ["field", "encoder", "revision", "items with text", "size", "artifact"]
    return f"## Texts\n\n{table(head, rows)}"


def settings(outcomes):
    """Every setting of each outcome, folded away; what is not set is left out."""
    parts = []
    for outcome in outcomes:
        chosen = sorted((key, value) for key, value in outcome.settings.items() if value is not None)
        lines = "\n".join(
            f"{key}: {json.dumps(value, ensure_ascii=False, default=str)}" for key, value in chosen
        )
        parts.append(f"<details><summary>{outcome.name}</summary>\n\n```yaml\n{lines}\n```\n\n</details>")
    return "\n\n".join(parts)


def reproduction(folder, manifest):
    """The command, the commit, the data and the versions."""
    command = manifest.get("command") or []
    command = ["python", *command] if command and command[0].endswith(".py") else command
    if (folder / "settings.json").is_file():  # a resumed run was called with its folder alone
        given = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        own = {key: value for key, value in given.items() if key not in ("resume", "run_name")}
        command = ["python", "run_recbole_llm.py", *(f"--{key}={value}" for key, value in own.items())]
    lines = [f"```\n{shlex.join(map(str, command))}\n```\n"]
    git = manifest.get("git")
    if git:
        lines.append(
            f"- code: commit `{git['commit']}`{', **with changes that are not committed**' * git['dirty']}"
        )
    for name, facts in manifest.get("dataset", {}).get("files", {}).items():
        lines.append(f"- `{name}`: {facts['bytes']:,} bytes, SHA-256 `{facts['sha256'][:16]}...`")
    if "versions" in manifest:
        lines.append(
            f"- {', '.join(f'{package} {version}' for package, version in manifest['versions'].items())}"
        )
        threads = f"{manifest['threads']} thread{'s' * (manifest['threads'] != 1)}"
        lines.append(f"- {manifest['device']}, {threads}, {manifest['platform']}")
    return "\n".join(lines)


def files(folder, outcomes, kept):
    """What lies in the folder."""
    lines = [
        "`metrics.json`: the metrics of this page, unrounded differences included",
        "`learning_curve.png`: the picture above",
        "`manifest.json`: versions, hashes of data and texts, seed, commit, command",
    ]
    if kept:
        names = ", ".join(f"`{name}`" for name in kept)
        lines.append(
            f"{names}: a row for each test target: user, item, rank, rank_masked, train_count, history_length"
        )
    if outcomes[0].settings.get("saved") is not False:
        found = [path.parent.relative_to(folder) for path in sorted(folder.rglob("best.safetensors"))]
        lines += [
            f"`{path.as_posix()}/`: weights (safetensors) and what a stopped training needs" for path in found
        ]
        if (folder / "settings.json").is_file():
            lines.append("`settings.json`: the settings that the run was given")
    return "\n".join(f"- {line}" for line in lines)


def table(head, rows):
    """A Markdown table; the first column stands left, the others right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def pretty(metric):
    """``ndcg@10`` as ``NDCG@10``, ``recall@10`` as ``Recall@10``."""
    name, _, k = metric.partition("@")
    name = name.upper() if name in ("ndcg", "mrr", "map", "auc", "gauc", "mae", "rmse") else name.capitalize()
    return f"{name}@{k}" if k else name


def _signed(value):
    return f"{value:+.4f}"


def _percent(part, whole):
    """A share with one decimal; 100 % only where nothing lacks."""
    share = 100 * part / whole if whole else 0.0
    return f"{min(share, 99.9) if part < whole else share:.1f} %"


def _duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02} min"
        if hours
        else f"{minutes} min {seconds:02} s"
        if minutes
        else f"{seconds} s"
    )
