"""Single models of RecBole that stumble over today's SciPy and PyTorch, or over RecBole itself."""

from functools import cache
from importlib import import_module

import torch
from recbole.config import Config
from recbole.model.general_recommender import Pop
from recbole.model.sequential_recommender import KSR
from recbole.utils import ModelType, utils
from scipy import sparse

from .patching import rebind, stand_in, wrap

DOK_MODULES = (
    "general_recommender.gcmc",
    "general_recommender.lightgcn",
    "general_recommender.ncl",
    "general_recommender.ngcf",
    "general_recommender.spectralcf",
    "knowledge_aware_recommender.kgin",
    "knowledge_aware_recommender.mcclk",
)


class UpdatableDok(sparse.dok_matrix):
    """A ``dok_matrix`` with the ``_update`` that SciPy has lost."""

    def _update(self, entries):
        """Set many entries at once, without a check: {(row, column): value}."""
        self._dict.update(entries)


def restore_dok_update():
    """``dok_matrix._update`` for the seven models that fill their graph with it (#2034)."""
    for name in DOK_MODULES:
        stand_in(import_module(f"recbole.model.{name}"), "sp", dok_matrix=UpdatableDok)


def read_relations_in_single_precision():
    """KSR multiplies float32 states by its relation vectors, which RecBole preloads in float64."""

    def reading(original):
        def __init__(self, config, dataset):
            original(self, config, dataset)
            self.relation_Matrix = self.relation_Matrix.float()

        return __init__

    wrap(KSR, "__init__", reading)


def count_every_interaction():
    """Pop counts each interaction, also where a batch has an item twice, and no sampled negative (#2198).

    As it stands it counts an item once a batch, negatives too, so that its results hang on the batch size (#1844).
    """

    def labelled(original):
        def __init__(self, config, dataset):
            original(self, config, dataset)
            self.label_field = config["LABEL_FIELD"]

        return __init__

    def counting(original):
        def calculate_loss(self, interaction):
            before = self.item_cnt.clone()
            loss = original(self, interaction)
            items = interaction[self.ITEM_ID]
            if self.label_field in interaction:
                items = items[interaction[self.label_field] > 0]
            self.item_cnt = before + torch.bincount(items, minlength=self.n_items)[:, None]
            self.max_cnt = self.item_cnt.max(0).values
            return loss

        return calculate_loss

    wrap(Pop, "__init__", labelled)
    wrap(Pop, "calculate_loss", counting)


def count_no_flops_without_predict():
    """1 FLOP, RecBole's word for "not counted", for the CPR models: they refuse to ``predict``."""

    def counting(original):
        def get_flops(model, *args, **options):
            if type(model).__name__ in ("GRU4RecCPR", "SASRecCPR"):
                return 1
            return original(model, *args, **options)

        return get_flops

    rebind(utils, "get_flops", counting)


def ask_for_no_negatives_with_full_softmax():
    """No sampled negatives for a sequential model whose loss is CE, unless the user asks for some.

    RecBole's own defaults name one negative and the loss CE together, and then refuse the two: without this,
    ``run_recbole(model="SASRec", dataset="ml-100k")`` ends in an error.
    """

    def defaulting(original):
        def _set_default_parameters(self):
            settings = self.final_config_dict
            sequential = settings["MODEL_TYPE"] == ModelType.SEQUENTIAL
            if sequential and settings.get("loss_type") == "CE":
                settings["train_neg_sample_args"] = self.external_config_dict.get("train_neg_sample_args")
            original(self)

        return _set_default_parameters

    wrap(Config, "_set_default_parameters", defaulting)


@cache
def switch_anomaly_detection_off():
    """PyTorch's search for NaN in every backward operation, which RecBole's ``sine.py`` leaves on for all models.

    Once, so that a user who wants it can switch it on after the import.
    """
    import_module("recbole.model.sequential_recommender.sine")
    torch.autograd.set_detect_anomaly(False)
