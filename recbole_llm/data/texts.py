"""The text vectors of a data set: one artifact per field, found or made, aligned to RecBole's item ids."""

import csv
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..errors import ArtifactError, BackendError, SettingError
from ..llm.texts import Texts
from ..text.artifact import AlignedVectors, build_artifact, find_artifact, import_vectors
from ..text.encoder import make_encoder
from ..text.joined import Joined
from ..text.location import warn_of_stand_in
from ..text.templates import REVIEWS, field_template, read_columns, review_texts
from ..text.vocabulary import warn_of_unknown
from .dataset import OffsetDataset

ENCODER = (
    *("text_encoder", "text_pooling", "text_revision", "text_batch_size", "text_endpoint"),
    *("text_max_tokens", "text_compute_dtype"),
)  # the keys that choose an encoder
JOINED = "item"  # what all fields as one text are called


def attach_text_vectors(config, dataset, device="cpu"):
    """Give ``dataset`` (a training part) its ``text_vectors`` and ``text_fingerprints``, each a dict by field.

    Fields are the columns of ``text_fields``, or all of them as one where ``text_join`` says so, what ``recbole-llm
    generate`` wrote (``text_generated``), and the ready-made vectors of ``text_vectors``.

    Raises
    ------
    SettingError
        If neither names a field, or a field is not a column of the ``.item`` file.
    ArtifactError
        If an item has no vector and ``text_missing`` is ``error``.
    """
    ready_made, fields = config["text_vectors"] or {}, _fields(config)
    if not fields and not ready_made and not config["text_generated"]:
        raise SettingError(
            "text_fields names no column and text_vectors no file; name one, or use fusion: id_only"
        )
    root, dtype = Path(config["artifact_path"]) / config["dataset"], config["text_dtype"]
    made = {field: import_vectors(root, field, path, dtype=dtype) for field, path in ready_made.items()}
    for field, texts, encoder, template in _asked(config, dataset, fields, device):
        made[field] = build_artifact(
            root, field, texts, encoder, template, dtype, bool(config["show_progress"])
        )
    tokens = dataset.field2id_token[dataset.iid_field]
    dataset.text_vectors = {
        name: art.align(tokens, missing=config["text_missing"]) for name, art in made.items()
    }
    dataset.text_fingerprints = {name: art.fingerprint for name, art in made.items()}
    for name, artifact in made.items():
        if share := artifact.manifest.get("unknown_tokens"):
            warn_of_unknown(artifact.manifest["made_from"]["encoder"]["name"], name, share)
    if config["text_control"]:
        _take_the_sense_out(dataset, config["text_control"], config["seed"])
    manifests = {name: art.manifest for name, art in made.items()}
    for name, folder in (config["text_generated"] or {}).items():
        manifests[name] = manifests[name] | {"asked": Texts.load(folder).asked}
    return manifests


def attach_item_texts(config, dataset):
    """Give ``dataset`` (a training part) its ``item_texts``: one string an item id, empty where nothing is known.

    Raises
    ------
    SettingError
        If no key names a text, or a field is not a column of the ``.item`` file.
    """
    tokens, fields = dataset.field2id_token[dataset.iid_field], _fields(config)
    if not fields and not config["text_generated"]:
        raise SettingError(
            "text_fields names no column and text_generated no folder, but the items' texts are read; name one, or "
            "take a model that reads none"
        )
    known = [texts for _, texts, _ in _written(config, dataset, fields)]
    dataset.item_texts = [
        " ".join(text for texts in known for text in texts.get(str(token), ())) for token in tokens
    ]
    if config["text_control"] == "random":
        raise SettingError(
            "text_control: random makes noise of text vectors, but here the texts themselves are read; set "
            "text_control: shuffled"
        )
    if config["text_control"]:
        _check_control(config["text_control"])
        order = exchanged(dataset.item_num, np.random.default_rng(config["seed"]))
        dataset.item_texts = [dataset.item_texts[item] for item in order]


def found_text_vectors(config, dataset):
    """The ``AlignedVectors`` of ``text_fields`` by field, of those that were made before; nothing is encoded."""
    root, found = Path(config["artifact_path"]) / config["dataset"], {}
    tokens = dataset.field2id_token[dataset.iid_field]
    with suppress(
        ArtifactError, BackendError, SettingError
    ):  # no such column or encoder here: then none were made
        for field, texts, encoder, template in _asked(config, dataset, _fields(config), "cpu"):
            artifact = find_artifact(root, field, texts, encoder, template, config["text_dtype"])
            if artifact is not None:
                found[field] = artifact.align(tokens, missing="mask")
    return found


def _fields(config):
    fields = config["text_fields"] or []
    return [fields] if isinstance(fields, str) else list(fields)


def _asked(config, dataset, fields, device):
    """(field, texts, encoder, template) of each field."""
    if fields or config["text_generated"]:
        encoder = encoder_of(config, device)
        for field, texts, template in _written(config, dataset, fields):
            yield field, texts, encoder, template


def _written(config, dataset, fields):
    """(field, texts by token, template) of each field, without a vector yet."""
    for field, folder in (config["text_generated"] or {}).items():
        texts = _generated(folder)
        yield field, texts.by_token(), texts.template
    if not fields:
        return
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    if not path.is_file():
        raise SettingError(
            f"text_fields names {', '.join(fields)}, but there is no {path}; write the items' texts there, a column a "
            "field, or use a model that reads no text (fusion: id_only)"
        )
    table = read_columns(path)
    columns = [field for field in fields if field != REVIEWS.name]
    if config["text_join"] and columns:
        template = Joined.of(field_template(table, field) for field in columns)
        yield JOINED, template.texts(table), template
        fields = [field for field in fields if field == REVIEWS.name]
    for field in fields:
        template, texts = _texts(config, dataset, table, field)
        yield field, texts, template


def encoder_of(config, device="cpu"):
    """The encoder that the keys ``text_...`` ask for; ``text_fallback`` where it is not at hand and one is named."""
    own = {"pooling": config["text_pooling"], "revision": config["text_revision"]}
    own["trust_remote_code"] = bool(config["trust_remote_code"])
    try:
        return _encoder(config, config["text_encoder"], device, **own)
    except BackendError as error:
        if not config["text_fallback"]:
            raise
        warn_of_stand_in(error, config["text_fallback"])
        # the other's pooling and commit are not its own
        return _encoder(config, config["text_fallback"], device)


def _encoder(config, name, device, **own):
    return make_encoder(
        name,
        **own,
        device=device,
        batch_size=config["text_batch_size"],
        max_tokens=None if config["text_endpoint"] else config["text_max_tokens"],
        endpoint=config["text_endpoint"],
        compute_dtype=config["text_compute_dtype"],
    )


def _generated(folder):
    """What was written of the items."""
    texts = Texts.load(folder)
    kind = texts.manifest["made_from"]["kind"]
    if kind != "items":
        raise SettingError(f"text_generated: {folder} speaks of {kind}, expected items")
    return texts


def _take_the_sense_out(dataset, control, seed):
    """Controls: every item has the texts of another (``shuffled``), or noise as wide as its texts (``random``).

    A model that gains as much from these as from the right texts has learnt nothing from what they say.
    """
    _check_control(control)
    rng = np.random.default_rng(seed)
    order = exchanged(dataset.item_num, rng)
    for name, field in dataset.text_vectors.items():
        if control == "shuffled":
            vectors, present = field.vectors[order], field.present[order]
        else:
            noise = rng.normal(size=field.vectors.shape) * field.vectors[field.present].std(0)
            vectors, present = np.where(field.present[:, None], noise, 0).astype(np.float32), field.present
        dataset.text_vectors[name] = AlignedVectors(vectors, present)
        dataset.text_fingerprints[name] += f"-{control}-{seed}"


def _check_control(control):
    if control not in ("shuffled", "random"):
        raise SettingError(f"text_control is {control!r}, expected shuffled or random")


def exchanged(n_items, rng):
    """(I,): for each item the one whose texts it gets; padding keeps its own."""
    return np.r_[0, 1 + rng.permutation(n_items - 1)]


def _texts(config, dataset, table, field):
    if field == REVIEWS.name:
        return REVIEWS, {token: () for token in table.index} | review_texts(training_reviews(config, dataset))
    template = field_template(table, field)
    return template, template.texts(table)


def training_reviews(config, dataset):
    """Item token -> [(review, helpful votes)] of training interactions alone, from the ``.inter`` file.

    A review that came with a validation or test interaction is never read: it speaks of what is to be predicted. Nor is
    any other of the same user about the same item, for the file does not tell which of them came when.
    """
    if not isinstance(dataset, OffsetDataset):
        raise SettingError(
            f"text field `{REVIEWS.name}` needs history_as_offsets: it tells training events from the others"
        )
    path = Path(config["data_path"]) / f"{config['dataset']}.inter"
    inter = pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, keep_default_na=False, dtype=str)
    inter.columns = [column.partition(":")[0] for column in inter.columns]
    if "review" not in inter:
        raise SettingError(
            f"text field `{REVIEWS.name}` needs a column `review` in {path}; take it out of text_fields"
        )
    in_training = torch.zeros(len(dataset.events), dtype=torch.bool)
    in_training[dataset.own_places()] = True
    known, held_out = (_pairs(dataset, part) for part in (in_training, ~in_training))
    known -= held_out
    reviews = {}
    helpful = inter["helpful"] if "helpful" in inter else ["0"] * len(inter)
    columns = (inter[dataset.uid_field], inter[dataset.iid_field], inter["review"], helpful)
    for user, item, review, votes in zip(*columns, strict=True):
        if (user, item) in known and review:
            reviews.setdefault(item, []).append((review, float(votes or 0)))
    return reviews


def _pairs(dataset, places):
    """The (user, item) tokens of some of the data set's events."""
    fields = (dataset.uid_field, dataset.iid_field)
    # as NumPy's: a tensor of one id would give a token, not an array of one
    ids = [(field, dataset.events[field][places].numpy()) for field in fields]
    return set(zip(*(dataset.id2token(*one) for one in ids), strict=True))
