"""RecBole's S3Rec has two stages: it is pretrained on tasks of its own, and what that gives is finetuned.

Kun Zhou et al., "S3-Rec: Self-Supervised Learning for Sequential Recommendation with Mutual Information Maximization",
CIKM 2020, https://arxiv.org/abs/2008.07873. The first stage has no validation, for it ranks nothing: it lasts
``pretrain_epochs``. ``train_stage: finetune`` with a ``pre_model_path`` leaves it out.
"""

from copy import copy

from recbole.trainer.trainer import PretrainTrainer
from recbole.utils import get_trainer

from ..errors import SettingError

PRETRAINED = "pretrained"  # the folder of the first stage within that of the run


def check(config):
    """Refuse a model of stages that the road does not know, and an attribute to pretrain on that is not read.

    Raises
    ------
    SettingError
    """
    if not issubclass(get_trainer(config["MODEL_TYPE"], config["model"]), PretrainTrainer):
        return
    if config["model"] != "S3Rec":
        raise SettingError(
            f"{config['model']} is trained in stages that a run does not know; train it by RecBole's own run_recbole, "
            "one train_stage after the other, or choose another model"
        )
    read, attribute = (config["load_col"] or {}).get("item") or (), config["item_attribute"]
    if attribute not in read:
        raise SettingError(
            f"S3Rec is pretrained on an attribute of the items, and item_attribute is {attribute}, but of the .item "
            f"file {', '.join(read) or 'nothing'} is read; name a column by item_attribute and read it by load_col"
        )


def pretrains(config):
    """Whether another training comes before this one."""
    return config["model"] == "S3Rec" and config["train_stage"] == "pretrain"


def first(config):
    """The configuration of the first stage."""
    found = copy(config)
    epochs = config["pretrain_epochs"]
    found.final_config_dict = config.final_config_dict | {"epochs": epochs, "eval_step": 0}
    return found


def second(config, weights):
    """Make ``config`` that of the second stage, which starts from the file ``weights``."""
    config["train_stage"], config["pre_model_path"] = "finetune", str(weights)
