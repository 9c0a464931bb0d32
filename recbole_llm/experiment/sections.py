"""What a benchmark's page says of the models beside its tables of results: slices, new items, lists and texts."""

import numpy as np

from ..evaluation.beyond import beyond_table, words
from ..evaluation.making import asked
from ..evaluation.markdown import duration, pretty, table
from ..evaluation.outcomes import CONVENTIONS
from ..evaluation.ranks import gain
from ..evaluation.slices import MADE_NEW, MASKED, of_made_new, sliced_by_history, sliced_by_item


def slices(findings, metric):
    """The metric by how often an item was seen in training, and by how long a history is; means over the seeds."""
    models = [(found.name, found.ranks) for found in findings if found.seeds]
    return (
        f"**Rare and new items: {pretty(metric)} by how often the target stands in training**; {MASKED}.\n\n"
        f"{sliced_by_item(models, [metric])}\n\n"
        f"**Short and long histories: {pretty(metric)} by how many events the user had before the target**\n\n"
        f"{sliced_by_history(models, [metric])}"
    )


def made_new(findings, metric):
    """The metric of items that lost their training events; empty where none did."""
    made = of_made_new([(found.name, found.ranks) for found in findings if found.seeds], metrics=[metric])
    return (
        f"**Items made new: {pretty(metric)}**. {MADE_NEW}, as each seed drew them; {MASKED}.\n\n{made}"
        if made
        else ""
    )


def cut_short(findings, metric):
    """The metric, or NDCG@10 in its place, of histories cut to their last events; empty where none were."""
    findings = [found for found in findings if found.shortened]
    if not findings:
        return ""
    lengths = list(findings[0].shortened)
    known = metric if metric in findings[0].shortened[lengths[0]] else "ndcg@10"
    rows = [
        [found.name, *(f"{found.shortened[length][known]:.4f}" for length in lengths), _whole(found, known)]
        for found in findings
    ]
    return (
        f"**Histories cut short: {pretty(known)} where no more than the last events are told**; "
        f"{CONVENTIONS['masked']}.\n\n{table(['events told', *lengths, 'as trained'], rows)}"
    )


def _whole(found, metric):
    """A metric with the whole histories, the mean over the seeds."""
    return f"{np.mean([gain(ranks['rank_masked'], metric).mean() for ranks in found.ranks]):.4f}"


def texts(findings):
    """What the text vectors cost, each once, with the models that read them; empty where none did."""
    read = {}
    for found in findings:
        for field, artifact in found.texts.items():
            read.setdefault((field, artifact["key"]), (artifact, []))[1].append(found.name)
    rows = [
        [
            f"`{field}`",
            ", ".join(names),
            artifact["made_from"]["encoder"]["name"],
            f"{artifact['items_with_text']:,}",
            duration(artifact.get("seconds", 0)),
            asked(artifact),
        ]
        for (field, _), (artifact, names) in read.items()
    ]
    head = ["texts", "read by", "encoder", "with text", "encoded in", "language model"]
    said = "made once, beside the time of a training; a language model is asked by `recbole-llm generate`"
    return f"**What the texts cost**; {said}.\n\n{table(head, rows)}" if rows else ""


def remarks(findings):
    """What the models have to say of themselves, each sentence once; empty where none has anything."""
    said = {}
    for found in findings:
        for remark in found.remarks:
            said.setdefault(remark, []).append(found.name)
    return "\n".join(f"- {', '.join(names)}: {remark}." for remark, names in said.items())


def beyond_accuracy(findings):
    """What the lists of each model are like, the mean over the seeds."""
    measured = [(found.name, found.beyond) for found in findings if found.seeds]
    return f"**Beyond accuracy**\n\n{words()}\n\n{beyond_table(measured)}"
