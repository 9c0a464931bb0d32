"""What a trained model leaves: the test part read once, and all that the report says of it."""

import resource
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ..data.dataset import audience, train_counts
from ..data.texts import found_text_vectors
from ..evaluation.beyond import beyond_accuracy
from ..evaluation.leaks import leaks_of, warning
from . import parallel
from .resume import printable
from .trainer import Evaluation


@dataclass
class Outcome:
    """What one trained model leaves: enough for the report and nothing that needs the model again."""

    name: str
    settings: dict
    test: Evaluation
    valid: dict
    best_epoch: int
    curve: list
    seconds: float
    parameters: int
    n_items: int
    ranks: object  # DataFrame of evaluation.ranks, or None where the protocol gives none
    items: object  # DataFrame: a row per item, its train_count and, of a model with a gate, its id_share
    texts: dict = field(default_factory=dict)
    beyond: dict = field(default_factory=dict)  # evaluation.beyond's measures, where there are ranks
    shortened: dict = field(default_factory=dict)  # history length -> DataFrame of ranks
    disturbed: dict = field(default_factory=dict)  # share of random items -> DataFrame of ranks
    remarks: tuple = ()  # sentences that a model has on itself
    leaks: object = None  # evaluation.leaks.Leaks, or None where nothing is known
    peak_memory_gib: float = 0.0
    frozen: int = 0  # weights that do not learn


def test(trainer, test_data, config, screen, texts):
    """Read the test part once, with the best weights."""
    with parallel.first_alone():  # the first has the weights on disk
        trainer.load_best()
    evaluation = trainer.evaluate_both_ways(test_data, show_progress=config["show_progress"])
    dataset = trainer.train_data._dataset
    counts = train_counts(dataset)
    leaks = leaks_of(dataset, test_data._dataset)
    screen.warn(warning(leaks, config.final_config_dict))
    return Outcome(
        name=config["model"],
        settings=printable(config.final_config_dict),
        test=evaluation,
        valid=printable(trainer.best_valid_result or {}),
        best_epoch=best_of(trainer)["epoch"],
        curve=trainer.curve,
        n_items=dataset.item_num - 1,
        ranks=evaluation.ranks.frame(dataset, counts) if evaluation.ranks else None,
        items=_items(trainer.model, dataset, counts),
        texts=texts,
        beyond=_beyond(evaluation.ranks, config, dataset, counts) if evaluation.ranks else {},
        shortened=_told_otherwise(trainer, test_data, counts, "shortened", config["shorten_histories"]),
        disturbed=_told_otherwise(trainer, test_data, counts, "disturbed", config["disturb_histories"]),
        remarks=(
            *_stand_in(config, texts, trainer.model),
            *getattr(trainer.model, "remarks", tuple)(),
        ),
        leaks=leaks,
        **costs(trainer),
    )


def _stand_in(config, texts, model):
    """What there is to say where ``text_fallback`` read the texts, because ``text_encoder`` was not at hand."""
    readers = {artifact["made_from"]["encoder"]["name"] for artifact in texts.values()}
    readers.add(getattr(model, "text_model", None))
    # a folder goes by its own name
    wanted, fallback = (
        {config[key], Path(config[key] or "").name} for key in ("text_encoder", "text_fallback")
    )
    stood_in = sorted(readers & fallback - wanted - {None})
    return tuple(
        f"{name} read its texts in place of {config['text_encoder']}, which was not at hand"
        for name in stood_in
    )


def best_of(trainer):
    """The entry of the learning curve that is best on validation; the last one where nothing was validated."""
    validated = [entry for entry in trainer.curve if trainer.valid_metric in entry]
    return max(validated, key=lambda entry: entry[trainer.valid_metric]) if validated else trainer.curve[-1]


def costs(trainer):
    """Seconds of training, weights that learn and that do not, and the memory that the process has taken at most."""
    sizes = [(p.numel(), p.requires_grad) for p in trainer.model.parameters()]
    return {
        "seconds": trainer.seconds_before + sum(entry["seconds"] for entry in trainer.curve),
        "parameters": sum(size for size, learns in sizes if learns),
        "frozen": sum(size for size, learns in sizes if not learns),
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _items(model, dataset, count_I):
    """A row per item by its token, padding left out."""
    items = pd.DataFrame(
        {"train_count": count_I[1:].numpy()}, index=dataset.field2id_token[dataset.iid_field][1:]
    )
    share_I = getattr(model, "id_shares", lambda: None)()
    return items if share_I is None else items.assign(id_share=share_I[1:].cpu().numpy())


def _beyond(ranks, config, dataset, count_I):
    """``beyond_accuracy`` of the lists; their diversity where the texts of the data set have vectors."""
    fields = list(found_text_vectors(config, dataset).values())
    text_ID = present_I = None
    if fields:  # the cosine of the fields put together is the mean of theirs
        units = [
            field.vectors / np.linalg.norm(field.vectors, axis=1, keepdims=True).clip(1e-12)
            for field in fields
        ]
        text_ID = np.concatenate(units, 1) / len(fields) ** 0.5
        present_I = np.logical_and.reduce([field.present for field in fields])
    known_I, users = audience(dataset)
    return beyond_accuracy(ranks.lists(), count_I.numpy(), known_I.numpy(), users, text_ID, present_I)


def _told_otherwise(trainer, test_data, count_I, change, degrees):
    """By degree, the ranks where ``change`` (a context of the data set) was made to the histories that are read."""
    dataset, found = test_data._dataset, {}
    for degree in degrees or ():
        with getattr(dataset, change)(degree):
            found[degree] = trainer.evaluate_both_ways(test_data).ranks.frame(dataset, count_I)
    return found
