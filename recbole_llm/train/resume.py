"""What a trainer keeps on disk: the best weights, and all that a stopped training needs to end as if never stopped.

The best weights lie in ``<run>/checkpoint/best.safetensors``; what a stopped training needs to go on in
``<run>/checkpoint/last.safetensors``. Both are whole or absent, however the run ends.
"""

import json

import numpy as np
import torch
from recbole.trainer import Trainer

from ..compat.plain import plain, restored
from ..model import checkpoint

BEST, LAST = "best.safetensors", "last.safetensors"


class ResumingTrainer(Trainer):
    """RecBole's trainer with safe checkpoints and exact resume; the base of ``RankingTrainer``."""

    @property
    def finished(self):
        """Whether a resumed training had already come to its end."""
        return 0 < self.start_epoch and (
            self.start_epoch >= self.epochs or self.cur_step > self.stopping_step
        )

    def load_best(self, model_file=None):
        """Load the best weights of this run, or those of ``model_file``, into the model."""
        tensors, facts = checkpoint.load(model_file or self.saved_model_file)
        other = restored(checkpoint.lower(facts["other_parameter"], tensors))
        self.model.load_state_dict(tensors)
        self.model.load_other_parameter(other)

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        evaluated = self.model if self.averaged is None else self.averaged.module
        tensors = dict(evaluated.state_dict())
        other = plain(self.model.other_parameter(), "other_parameter")
        facts = {
            "model": self.config["model"],
            "epoch": epoch,
            "best_valid_score": float(self.best_valid_score),
            "other_parameter": checkpoint.lift(other, "<other>", tensors),
            "settings": printable(self.config.final_config_dict),
        }
        checkpoint.save(self.saved_model_file, tensors, facts)

    def save_progress(self, epoch):
        """Write all that the next epoch depends on, so that a resumed run gives what an uninterrupted one gives."""
        moments, optimizer = checkpoint.flatten_optimizer(self.optimizer.state_dict())
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        if self.averaged is not None:
            tensors |= {f"averaged.{name}": t for name, t in self.averaged.state_dict().items()}
        tensors |= {"rng.torch": torch.get_rng_state(), "rng.loader": self.train_data.generator.get_state()}
        _, keys, place, has_gauss, cached = np.random.get_state()
        tensors["rng.numpy"] = torch.from_numpy(keys.astype(np.int64))
        facts = {
            "epoch": epoch,
            "cur_step": self.cur_step,
            "steps": self.steps,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": printable(self.best_valid_result),
            "curve": self.curve,
            "numpy": [int(place), int(has_gauss), float(cached)],
            "optimizer": optimizer,
        }
        checkpoint.save(self.folder / LAST, tensors | moments, facts)

    def resume_checkpoint(self, resume_file):
        """Take up the state that ``save_progress`` wrote; ``fit`` goes on with the epoch after it."""
        tensors, facts = checkpoint.load(resume_file)
        of = {kind: {} for kind in ("model", "averaged", "rng", "optimizer")}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            of[kind][rest] = value
        self.model.load_state_dict(of["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(of["averaged"])
        self.optimizer.load_state_dict(checkpoint.unflatten_optimizer(tensors, facts["optimizer"]))
        self.start_epoch = facts["epoch"] + 1
        self.cur_step, self.steps, self.curve = facts["cur_step"], facts["steps"], facts["curve"]
        self.best_valid_score, self.best_valid_result = facts["best_valid_score"], facts["best_valid_result"]
        self._resumed = of["rng"], facts["numpy"]

    def _restore_randomness(self, states, numpy_place):
        torch.set_rng_state(states["torch"])
        self.train_data.generator.set_state(states["loader"])
        np.random.set_state(("MT19937", states["numpy"].numpy().astype(np.uint32), *numpy_place))


def printable(value):
    """``value`` as JSON can hold it: what is not a plain value becomes its text."""
    return json.loads(json.dumps(value, default=str))
