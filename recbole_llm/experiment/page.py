"""The page of a benchmark: results, differences, costs and how they were made; one file, the pictures inside.

Beside it lie the same numbers as CSV and JSON.
"""

import io
import json
from collections import Counter

import pandas as pd

from ..evaluation.leaks import told
from ..evaluation.making import weights
from ..evaluation.manifest import write_bytes, write_json
from ..evaluation.markdown import duration, pretty, signed, table, whole_percent
from ..evaluation.outcomes import CONVENTIONS, capital
from ..evaluation.protocol import history, split
from ..evaluation.significance import ONE_USER
from . import pictures, sections
from .html import as_html
from .results import differences, left_out, spread

PROTOCOL = (
    "Every item is ranked, none is sampled. Half of the items that tie with the target come before it. The differences "
    "are paired user by user: a 95 % bootstrap interval, the p of a sign-flip permutation test, that p corrected for "
    "all differences of the table (Holm; false discovery rate), and the p of Wilcoxon's signed-rank test; d is the "
    "mean difference in standard deviations over users. Of a user with several targets the mean is taken."
)
WIDE = 2  # metrics whose two conventions stand in one table


def write(home, findings, plan):
    """Write ``benchmark.html``, ``.md``, ``.csv`` and ``.json`` into ``home``; returns the path of the first."""
    rows = numbers(findings)
    apart = {
        (dataset, kind): differences(of_dataset(findings, dataset), plan.pairs, plan.compared, kind)
        for dataset in plan.datasets
        for kind in CONVENTIONS
        if not all_zero(of_dataset(findings, dataset))
    }
    parts = [f"# {' and '.join(plan.datasets)}: {len(plan.entries)} models", protocol(plan), origin(findings)]
    drawn, ours = {}, {plan.ours} if plan.ours else {first for first, _ in plan.pairs}
    for dataset in plan.datasets:
        here = of_dataset(findings, dataset)
        parts += [f"## {dataset}", results(here, plan.metrics), said_of(here), faults(here), split_of(here)]
        for kind, convention in CONVENTIONS.items():
            if (dataset, kind) in apart:
                parts.append(against(apart[dataset, kind], plan.compared, convention))
        parts.append(not_compared(here, plan.pairs))
        if any(found.seeds for found in here):
            drawn |= {
                f"{dataset}-bars.png": pictures.bars(here, ours, plan.compared),
                f"{dataset}-cost.png": pictures.cost(here, ours, plan.compared),
                f"{dataset}-curves.png": pictures.curves(here, ours),
            }
            parts += [
                f"![{pretty(plan.compared)} of each model]({dataset}-bars.png)",
                sections.slices(here, plan.compared),
                sections.made_new(here, plan.compared),
                sections.cut_short(here, plan.compared),
                sections.beyond_accuracy(here),
                f"![What it costs]({dataset}-cost.png)",
                sections.texts(here),
                sections.remarks(here),
                f"![How it is learnt]({dataset}-curves.png)",
            ]
        parts.append(chosen(here))
    text = "\n\n".join(filter(None, parts)) + "\n"
    for name, picture in drawn.items():
        write_bytes(home / name, picture)
    csv = io.StringIO()
    rows.to_csv(csv, index=False)
    write_bytes(home / "benchmark.csv", csv.getvalue().encode())
    tests = [
        {"dataset": dataset, "history": kind} | row
        for (dataset, kind), found in apart.items()
        for row in found.astype(object).where(found.notna(), None).to_dict("records")  # an effect may be None
    ]
    write_json(home / "benchmark.json", {"results": rows.to_dict("records"), "differences": tests})
    write_bytes(home / "benchmark.md", text.encode())
    write_bytes(home / "benchmark.html", as_html(text, drawn).encode())
    return home / "benchmark.html"


def of_dataset(findings, dataset):
    """The findings on one data set."""
    return [found for found in findings if found.dataset == dataset]


def numbers(findings):
    """A row for each value: data set, model, seed, history, metric; the same as the page's, unrounded."""
    return pd.DataFrame(
        [
            {
                "dataset": found.dataset,
                "model": found.name,
                "seed": seed,
                "history": kind,
                "metric": metric,
                "value": value,
            }
            for found in findings
            for (kind, metric), values in found.metrics.items()
            for seed, value in zip(found.seeds, values, strict=True)
        ],
        columns=["dataset", "model", "seed", "history", "metric", "value"],
    )


def protocol(plan):
    """How the numbers were made."""
    trials = {one.name: plan.trials[one.name] for one in plan.entries if one.space}
    others = ", ".join(one.name for one in plan.entries if not one.space)
    others = (
        f"Not searched, for they have no search space or all of it was given: {others}. " if others else ""
    )
    search = (
        f"Trials on the validation part: {', '.join(f'{name} {count}' for name, count in trials.items())}. The first "
        "is the model's defaults on the data set; the best was trained with every seed and read the test part. "
        f"{others}"
        if max(trials.values(), default=1) > 1
        else "No model was tuned. "
    )
    if len(plan.seeds) == 1:
        return f"{search}Seed {plan.seeds[0]} alone: nothing is said of seeds. {PROTOCOL}"
    return (
        f'{search}Seeds {", ".join(map(str, plan.seeds))}: "±" is the standard deviation over them, and differences '
        f"are between means over those that both models have. {PROTOCOL}"
    )


def split_of(findings):
    """How a data set was split and what that let the training part know, as a finished training has it."""
    done = sorted((found for found in findings if found.seeds), key=lambda found: found.leaks is None)
    if not done:
        return ""
    one_way = [found.name for found in findings if found.seeds and found.settings.get("no_repeats")]
    lines = [split(done[0].protocol), history(one_way)]
    return "\n".join(f"- {line}" for line in lines) + f"\n\n{told(done[0].leaks, done[0].protocol)}"


def origin(findings):
    """The commits where there is more than one, and what is not known of the trainings; empty where all is well."""
    commits, parts = Counter(commit for found in findings for commit in found.commits), []
    if len(commits) > 1:
        named = ", ".join(f"{commit} ({count})" for commit, count in commits.most_common())
        parts.append(f"The {commits.total()} trainings that read the test part were made at commits {named}.")
    older = "; ".join(
        f"{found.dataset}, {found.name}: {', '.join(found.unrecorded)}"
        for found in findings
        if found.unrecorded
    )
    if older:
        parts.append(
            "An older version began some trainings and did not record their settings, nor the data of trials; whether "
            f"these would be the same now is not known ({older})."
        )
    return " ".join(parts)


def results(findings, metrics):
    """The tables of one data set, the best of each column in bold; one for each convention where metrics are many."""
    short = {"masked": "masked", "unmasked": "not masked"}
    columns = {
        kind: {(kind, metric): f"{pretty(metric)} {word}" for metric in metrics}
        for kind, word in short.items()
    }
    if len(metrics) <= WIDE:
        return _results(findings, columns["masked"] | columns["unmasked"])
    parts = [f"**{capital(CONVENTIONS[kind])}**\n\n{_results(findings, columns[kind])}" for kind in short]
    return "\n\n".join(parts)


def _results(findings, columns):
    means = {
        key: [spread(found.metrics[key])[0] if found.seeds else None for found in findings] for key in columns
    }
    rows = []
    for place, found in enumerate(findings):
        row = [found.name]
        for key, of_each in means.items():
            best = bool(of_each[place]) and of_each[place] == max(m for m in of_each if m is not None)
            row.append(_value(found, key, best))
        cost = [
            duration(found.seconds),
            f"{found.memory_gib:.1f} GiB",
            weights(found.parameters, found.frozen),
        ]
        rows.append([*row, *(cost if found.seeds else ["", "", ""])])
    return table(["", *columns.values(), "a training", "memory", "weights"], rows)


def _value(found, key, best):
    if not found.seeds:
        return "failed"
    mean, deviation = spread(found.metrics[key])
    text = f"{mean:.4f}"
    text = f"**{text}**" if best else text
    return text if deviation is None else f"{text} ± {deviation:.4f}"


def said_of(findings):
    """What must be known before anything is compared; empty where there is nothing."""
    if all_zero(findings):
        return "No model has a target among its best items: all are 0, and nothing can be compared."
    if any(len(found.users["masked"]) == 1 for found in findings if found.seeds):
        return f"{capital(ONE_USER)}: nothing is said of differences over users."
    return ""


def all_zero(findings):
    """Whether every metric of all that was tested is 0."""
    values = [value for found in findings for values in found.metrics.values() for value in values]
    return bool(values) and not any(values)


def faults(findings):
    """What went wrong, one line a training."""
    lines = [f"- {found.name}, {fault}" for found in findings for fault in found.faults]
    head = "**What failed**; means and deviations are over the seeds that are left"
    return f"{head}\n\n" + "\n".join(lines) if lines else ""


def not_compared(findings, pairs):
    """The pairs that have no difference, one line each."""
    lines = [f"- {ours} and {other}: {why}" for ours, other, why in left_out(findings, pairs)]
    return "**What is not compared**\n\n" + "\n".join(lines) if lines else ""


def against(found, metric, convention):
    """The differences under one convention."""
    if not len(found):
        return ""
    rows = [
        [
            f"{row['model']} less {row['against']}",
            signed(row["mean"]),
            whole_percent(row["mean"] / row["theirs"], "+") if row["theirs"] else "",
            f"{signed(row['low'])} to {signed(row['high'])}",
            *(_chance(row[key]) for key in ("p", "holm", "false_discovery", "wilcoxon_p")),
            "" if pd.isna(row["effect"]) else f"{row['effect']:+.2f}",
        ]
        for row in found.to_dict("records")
    ]
    head = ["", pretty(metric), "of it", "95 % interval", "p", "Holm", "false discovery", "Wilcoxon", "d"]
    users = found["users"].iloc[0]
    return f"**{capital(convention)}: differences, {users:,} users**\n\n{table(head, rows)}{_alike(found, metric)}"


def _alike(found, metric):
    """The pairs whose users do not differ, in a paragraph of its own."""
    same = found[found["effect"].isna() & (found["mean"] == 0)]
    pairs = ", ".join(f"{row['model']} and {row['against']}" for row in same.to_dict("records"))
    return f"\n\nEvery user has the same {pretty(metric)} with both: {pairs}." if pairs else ""


def _chance(p):
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def chosen(findings):
    """What the tuned models were trained with, folded away."""
    parts = []
    for found in findings:
        if found.settings:
            lines = "\n".join(f"{key}: {json.dumps(value)}" for key, value in sorted(found.settings.items()))
            parts.append(
                f"<details><summary>{found.name}: settings</summary>\n\n```yaml\n{lines}\n```\n\n</details>"
            )
    return "\n\n".join(parts)
