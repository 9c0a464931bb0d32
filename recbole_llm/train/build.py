"""What stands before training: a run's configuration, its data and its model, at the start or as the run left it."""

import json
import sys
from pathlib import Path

import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import ModelType, dataset_arguments, evaluation_arguments, init_seed

from dataset_prep import prepare

from ..config import Config
from ..data.dataset import OffsetDataset, refuse_repeats
from ..data.intents import attach_session_intents
from ..data.texts import attach_item_texts, attach_text_vectors
from ..errors import ArtifactError, SettingError
from ..evaluation.manifest import data_files
from ..model import MODELS, get_model
from ..model.dense import dense
from ..model.unseen import ON_PREFIXES, can_leave_out_seen, without_repeats
from . import parallel, stages, values
from .keys import IDLE
from .resume import printable
from .trainer import trainer_for

SETTINGS = "settings.json"
ALIKE = """
    train_rows train_batch_size window_shift window_overlap epochs eval_step stopping_step learner learning_rate
    learning_rate_end learning_rate_tenth warmup_steps weight_decay average_decay enable_amp
    hidden_size n_layers n_heads
    MAX_ITEM_LIST_LENGTH seed eval_args split_column eval_batch_size valid_users mask_history metrics topk valid_metric
    no_repeats saved cold_share cold_by shorten_histories disturb_histories show_progress device_threads use_gpu gpu_id
    reproducibility
    clip_grad_norm raw_path artifact_path resume
    text_fields text_join text_generated text_encoder text_fallback text_pooling text_revision text_max_tokens
    text_endpoint text_compute_dtype text_dtype
"""  # what a baseline takes over from the model that it stands beside
SCORES = 2**25  # of a batch of an evaluation, rows times items, at most: 128 MiB
EVENTS = (
    2**15
)  # of such a batch, rows times MAX_ITEM_LIST_LENGTH, at most: larger ones leave the caches and are slower


def configure(model_name, given, files=()):
    """The configuration of a run: the data prepared, the model's class found, every key checked."""
    model_class = get_model(model_name)
    config = _config(model_class, given["dataset"], files, {k: v for k, v in given.items() if v is not None})
    values.check(config)
    stages.check(config)
    _refuse_rows_without(config)
    if config["train_rows"] == "dense" and not getattr(model_class, "causal", False):
        config.model_class = dense(model_class)
    elif config["no_repeats"] and can_leave_out_seen(model_class, config):
        config.model_class = without_repeats(model_class)
    _settle_no_repeats(config)
    if config["device_threads"]:
        torch.set_num_threads(config["device_threads"])
    # RecBole points ml-100k at its own wheel; whatever the data set, ours lies in <data_path>/<name>
    home = Path(config.external_config_dict.get("data_path") or "dataset")
    with parallel.first_alone():
        config["data_path"] = str(prepare(config["dataset"], config["raw_path"], home))
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL and "mask_history" not in config.external_config_dict:
        config["mask_history"] = True  # as RecBole ranks for such a model
    config["show_progress"] = bool(config["show_progress"]) and sys.stderr.isatty()
    return config


def _settle_no_repeats(config):
    """Refuse ``no_repeats`` of a user where no loss leaves out what a history has; that of a data set's file is off."""
    if not config["no_repeats"]:
        return
    if not getattr(config.model_class, "leaves_out_seen", False):
        wrong = (
            "no_repeats leaves seen items out of the full softmax of our models, of RecBole's with train_rows: dense, "
            f"and of its {', '.join(ON_PREFIXES)} with loss_type: CE, found {config['model']} with train_rows: "
            f"{config['train_rows']}; set no_repeats: False"
        )
    elif config["model"] in MODELS and config["loss"] not in ("ce", None):
        wrong = (
            f"no_repeats leaves seen items out of a full softmax, found loss: {config['loss']}; set loss: ce, or "
            "no_repeats: False"
        )
    else:
        return
    if "no_repeats" in config.external_config_dict:
        raise SettingError(wrong)
    config["no_repeats"] = False


def _refuse_rows_without(config, offsets=None):
    """Refuse protocols that need rows kept as offsets, and ranks of all items, where there are none."""
    if offsets is None:
        sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
        offsets = sequential and config["history_as_offsets"] and config["benchmark_filename"] is None
    for key in ("cold_share", "shorten_histories", "disturb_histories", "split_column"):
        if config[key] and not offsets:
            raise SettingError(
                f"{key} needs a sequential model whose data set has history_as_offsets; {config['model']} has none"
            )
    if config["split_column"] and "LS" not in config["eval_args"]["split"]:
        raise SettingError(
            f"split_column takes the parts from the file, but eval_args' split is {config['eval_args']['split']}; "
            "give one of the two"
        )
    for key in ("cold_share", "shorten_histories", "disturb_histories"):
        if config[key] and config["eval_args"]["mode"]["test"] != "full":
            raise SettingError(f"{key} needs the ranks of all items: set eval_args' mode to full")


def configured(given):
    """The configuration of what a command line gives, the files that it names among it."""
    own = {key: value for key, value in given.items() if key != "config_files"}
    return configure(own["model"], own, given.get("config_files", "").split())


def resolved(given):
    """What decides the result of a run: its ``settings``, defaults and presets too, and the hashes of its ``data``."""
    config = configured(given)
    settings = {key: value for key, value in config.final_config_dict.items() if key not in IDLE}
    return {"settings": printable(settings), "data": data_files(config["data_path"], config["dataset"])}


def configure_baseline(config):
    """The configuration of the model that ``baseline`` names: same data, size, rows, optimiser and stopping."""
    return configure(config["baseline"], alike(config["baseline"], config))


def alike(model_name, config, given=None):
    """The keys with which a model, of the keys ``given``, has data, size, rows, optimiser, stopping of ``config``'s.

    What the data set's file says of such a baseline goes before the model's settings, not before the user's.
    """
    by_user, needed = config.external_config_dict, config.of_baselines.get(model_name, {})
    config = config.final_config_dict | {key: needed[key] for key in needed.keys() - by_user.keys()}
    config["data_path"] = by_user.get("data_path")  # RecBole's own has the data set's name behind it
    same = [*ALIKE.split(), *dataset_arguments, *evaluation_arguments]
    shared = {key: config[key] for key in (*same, "dataset", "data_path") if key in config}
    shared["train_neg_sample_args"] = "None"
    if config["train_rows"] != "dense" and not can_leave_out_seen(get_model(model_name), {"loss_type": "CE"}):
        shared.pop("no_repeats")  # handed on it would count as the user's word, and be refused
    if config.get("inner_multiplier"):  # SASRec's names for the same sizes
        shared |= {"inner_size": config["inner_multiplier"] * config["hidden_size"], "loss_type": "CE"}
        shared |= {"hidden_dropout_prob": config["dropout"], "attn_dropout_prob": config["attention_dropout"]}
    return known_to(model_name, config["dataset"], shared, given)


def known_to(model_name, dataset, settings, given=None):
    """Those of ``settings`` that a training of this model on this data set, of the keys ``given``, may be given.

    A wrapper knows the keys of the ``backbone`` that it is given, too.
    """
    known = _config(get_model(model_name), dataset, given=given)._known_keys()
    return {key: value for key, value in settings.items() if key in known}


def _config(model_class, dataset, files=(), given=None):
    """A ``Config`` of what it is given alone; RecBole's own would read the command line as well."""
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        return Config(model_class, dataset, list(files), given)
    finally:
        sys.argv = arguments


def build(config):
    """The three parts of the data, the manifests of the texts by field, and the model at its start."""
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    if not isinstance(dataset, OffsetDataset):  # a model that makes its rows in another way
        _refuse_rows_without(config, offsets=False)
    if config["no_repeats"]:
        refuse_repeats(dataset)
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:  # elsewhere the key counts scores, not rows
        most = min(SCORES // dataset.item_num, EVENTS // config["MAX_ITEM_LIST_LENGTH"])
        config["eval_batch_size"] = min(config["eval_batch_size"], max(most, 1))
    parts = data_preparation(config, dataset)
    if max(config["topk"]) >= dataset.item_num:
        raise SettingError(
            f"topk asks for {max(config['topk'])} items, and `{config['dataset']}` has {dataset.item_num - 1}; "
            "set topk to fewer"
        )
    texts, train_set = {}, parts[0]._dataset
    if getattr(config.model_class, "reads_text", lambda config: False)(config):
        with parallel.first_alone():
            texts = attach_text_vectors(config, train_set, config["device"])
    if getattr(config.model_class, "reads_words", lambda config: False)(config):
        attach_item_texts(config, train_set)
    if getattr(config.model_class, "reads_intents", lambda config: False)(config):
        with parallel.first_alone():
            named = dict(
                zip(("training", "validation", "test"), (part._dataset for part in parts), strict=True)
            )
            texts |= attach_session_intents(config, train_set, config["device"], named)
    init_seed(config["seed"], config["reproducibility"])
    return parts, texts, config.model_class(config, train_set).to(config["device"])


def split(config):
    """The data sets of the training, validation and test part, for what needs no model."""
    init_seed(config["seed"], config["reproducibility"])
    return [loader._dataset for loader in data_preparation(config, create_dataset(config))]


def training_part(config):
    """The first of them."""
    return split(config)[0]


def restore(folder):
    """The trained model of a run, with the training part that it was built on.

    Raises
    ------
    ArtifactError
        If the run kept no weights.
    SettingError
        If a default is another one now.
    """
    folder = Path(folder)
    if not (folder / SETTINGS).is_file():
        raise ArtifactError(
            f"no {SETTINGS} in {folder}; give the folder of a run that was made with saved: True"
        )
    given = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    config = configured(given)
    config["checkpoint_dir"], config.taken_up = str(folder / "checkpoint"), True
    parts, _, model = build(config)
    trainer_for(config, model).load_trained()
    return model.eval(), parts[0]._dataset
