"""What the page says of how its numbers were made: the training, the texts, the settings, the command, the files."""

import json
import shlex

import numpy as np

from .markdown import duration, percent, table
from .outcomes import validated


def weights(learning, frozen):
    """How many weights a model has, those that do not learn apart."""
    return f"{learning:,} and {frozen:,} frozen" if frozen else f"{learning:,}"


def asked(artifact):
    """What a language model read and wrote for the texts of an artifact, in words."""
    found = artifact.get("asked")
    if not found or not found["is_llm"]:
        return "none"
    return f"{found['backend']}: {found['read']:,} tokens read, {found['written']:,} written"


def training(outcomes):
    """What each model cost, and some epochs of the first."""
    head = ["", "weights", "epochs", "kept epoch", "training time", "peak memory"]
    rows = [
        [
            outcome.name,
            weights(outcome.parameters, outcome.frozen),
            str(len(outcome.curve)),
            str(outcome.best_epoch),
            duration(outcome.seconds),
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
    remarks = [f"{outcome.name}: {remark}." for outcome in outcomes for remark in outcome.remarks]
    return (
        f"{table(head, rows)}\n\nEpochs count from 0. Training time is without validation and test; peak memory is "
        f"that of the process up to the model's test. {' '.join(remarks)}\n\n"
        f"<details><summary>Some epochs of {first.name}</summary>\n\n"
        f"{table(['epoch', 'training loss', f'validation {metric}'], epochs)}\n\n</details>"
    )


def texts(first):
    """The text vectors that the model read."""
    if not first.texts:
        return ""
    rows = []
    for field, artifact in first.texts.items():
        encoder = artifact["made_from"]["encoder"]
        with_text, n_rows = artifact["items_with_text"], artifact["rows"]
        coverage = f"{with_text:,} of {n_rows:,} ({percent(with_text, n_rows)})"
        row = [f"`{field}`", encoder["name"], f"`{str(encoder['revision'])[:12]}`", coverage]
        made = [duration(artifact.get("seconds", 0)), asked(artifact)]
        rows.append([*row, str(artifact["dimension"]), f"`{artifact['key'][:12]}`", *made])
    head = [
        "field",
        "encoder",
        "revision",
        "items with text",
        "size",
        "artifact",
        "encoded in",
        "language model",
    ]
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
