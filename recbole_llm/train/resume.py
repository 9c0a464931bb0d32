"""What a trainer keeps on disk: the best weights, and all that a stopped training needs to end as if never stopped.

The best weights lie in ``<run>/checkpoint/best.safetensors``; what a stopped training needs to go on in
``<run>/checkpoint/last.safetensors``. Both are whole or absent, however the run ends.
"""

import json
from functools import cached_property

import numpy as np
import torch
from recbole.trainer import Trainer

from ..compat.plain import plain, restored, without_modules
from ..errors import ArtifactError, SettingError
from ..evaluation.manifest import changed_files, data_files
from ..model import checkpoint
from . import parallel
from .keys import OF_STAGES, changed

BEST, LAST = "best.safetensors", "last.safetensors"


class ResumingTrainer(Trainer):
    """RecBole's trainer with safe checkpoints and exact resume; the base of ``RankingTrainer``."""

    @property
    def finished(self):
        """Whether a resumed training had already come to its end."""
        return 0 < self.start_epoch and (
            self.start_epoch >= self.epochs or self.cur_step > self.stopping_step
        )

    @cached_property
    def data(self):
        """The hash of each file of the data set, as it was when it was first asked for."""
        return data_files(self.config["data_path"], self.config["dataset"])

    def load_best(self, model_file=None):
        """Load the best weights of this run, or those of ``model_file``, into the model.

        Raises
        ------
        ArtifactError
            If they were trained on other texts, on another number of items, or with other sizes.
        """
        file = model_file or self.saved_model_file
        self._put_in(file, *checkpoint.load(file))

    def _put_in(self, file, tensors, facts):
        other = restored(checkpoint.lower(facts["other_parameter"], tensors))
        self.model.load_other_parameter(other)  # first, for it says why weights of other items do not fit
        try:
            self.model.load_state_dict(tensors)
        except RuntimeError as error:
            raise ArtifactError(
                f"{file} does not fit this model ({str(error).splitlines()[-1].strip()}); use the data set and the "
                "keys that it was trained with, or train again"
            ) from None

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        # RecBole calls this when a validation finds the best weights, or after every epoch where there is none
        self.save_weights(epoch)
        if not self.validates:
            self.save_progress(epoch)
            self.on_epoch(epoch)

    def save_weights(self, epoch):
        """Write the weights that are evaluated, the averaged ones where there are such, as the best."""
        if parallel.rank() > 0:
            return
        evaluated = self.model if self.averaged is None else self.averaged.module
        tensors = dict(evaluated.state_dict())
        other = plain(without_modules(self.model.other_parameter()), "other_parameter")
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
        for number, states in enumerate(parallel.of_each(self._randomness())):
            tensors |= {f"rng.{number}.{name}": state for name, state in states.items()}
        facts = {
            "epoch": epoch,
            "cur_step": self.cur_step,
            "steps": self.steps,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": printable(self.best_valid_result),
            "curve": self.curve,
            "processes": parallel.world(),
            "data": self.data,
            "settings": printable(self.config.final_config_dict),
            "optimizer": optimizer,
        }
        if parallel.rank() == 0:
            checkpoint.save(self.folder / LAST, tensors | moments, facts)

    def resume_checkpoint(self, resume_file):
        """Take up the state that ``save_progress`` wrote; ``fit`` goes on with the epoch after it.

        Raises
        ------
        SettingError
            If it was written by another number of processes, whose random numbers would not go on where they stopped,
            or the data is not that with which the training was begun, or a default is not.
        """
        tensors, facts = checkpoint.load(resume_file)
        self._refuse_other_defaults(resume_file, facts)
        if facts["processes"] != parallel.world():
            raise SettingError(
                f"{resume_file} was written by {facts['processes']} processes, found {parallel.world()}; "
                f"go on with --nproc={facts['processes']}"
            )
        changed = changed_files(facts.get("data", self.data), self.data)  # an older version kept no hashes
        if changed:
            raise SettingError(
                f"{resume_file} was written on other data, {'; '.join(changed)} (SHA-256); bring those files back, or "
                "train anew in another folder"
            )
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
        own = f"{parallel.rank()}."
        self._resumed = {name.removeprefix(own): t for name, t in of["rng"].items() if name.startswith(own)}

    def load_trained(self):
        """Load the best weights of a run that ended before, by this version or an older one.

        Raises
        ------
        SettingError
            If a default is not that with which they were trained.
        """
        file = self.saved_model_file
        tensors, facts = checkpoint.load(file)
        self._refuse_other_defaults(file, facts)
        self._put_in(file, tensors, facts)

    def _refuse_other_defaults(self, file, facts):
        """Refuse settings that nobody gave and that were others when ``file`` was written: a preset was changed."""
        now, given = printable(self.config.final_config_dict), self.config.external_config_dict
        was = facts.get("settings", now)  # an older version kept none of a last epoch
        differs = changed(was, now, known=OF_STAGES.union(given))
        if differs:
            raise SettingError(
                f"{file} was written under other defaults: {'; '.join(differs)}; write the old values into that "
                "run's settings.json, or train anew in another folder"
            )

    def _randomness(self):
        """The states of all that draws random numbers in this process, as tensors by name."""
        _, keys, *place = np.random.get_state()
        states = {"torch": torch.get_rng_state(), "loader": self.train_data.generator.get_state()}
        states["numpy"] = torch.from_numpy(np.r_[keys.astype(np.float64), place])
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states

    def _restore_randomness(self, states):
        torch.set_rng_state(states["torch"])
        self.train_data.generator.set_state(states["loader"])
        *keys, place, has_gauss, cached = states["numpy"].tolist()
        np.random.set_state(("MT19937", np.array(keys, np.uint32), int(place), int(has_gauss), cached))
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.device)


def printable(value):
    """``value`` as JSON can hold it: what is not a plain value becomes its text."""
    return json.loads(json.dumps(value, default=str))
