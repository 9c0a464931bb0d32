"""RecBole's trainers with safe checkpoints, averaged weights, exact resume and the ranks of every target.

The best weights lie in ``<run>/checkpoint/best.safetensors``; what a stopped training needs to go on in
``<run>/checkpoint/last.safetensors``. Both are whole or absent, however the run ends.

The moving average of the weights is evaluated and saved in place of the last ones; it costs one pass over the weights a
step and spares tuning a decay of the learning rate. Pavel Izmailov et al., 2018, https://arxiv.org/abs/1803.05407
"""

import ctypes
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from recbole.evaluator import Collector
from recbole.trainer import Trainer
from recbole.utils import get_trainer
from torch.optim.swa_utils import AveragedModel

from ..compat.plain import plain as plain_value
from ..compat.plain import restored
from ..data.dataset import ROW_END
from ..evaluation.ranks import RankTable, masked, ranks_of
from ..model import checkpoint

BEST, LAST = "best.safetensors", "last.safetensors"
TIDY_EVERY = 20  # steps between two hand-backs of freed memory


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a part finds: RecBole's metrics under both conventions and a rank for every target.

    A protocol other than the full ranking of sequential rows has RecBole's one result, in ``unmasked``, and no ranks.
    """

    unmasked: dict
    masked: dict | None = None
    ranks: RankTable | None = None


class RankingTrainer(Trainer):
    """A mixin in front of any of RecBole's trainers; ``trainer_for`` puts the two together."""

    def __init__(self, config, model):
        super().__init__(config, model)
        self.folder = Path(config["checkpoint_dir"])
        self.saved_model_file = str(self.folder / BEST)
        self.enable_amp = bool(self.enable_amp) and multiplies_bfloat16(self.device.type)
        self.averaged = None
        if config["average_decay"]:
            self.averaged = AveragedModel(model, multi_avg_fn=moving_average(config["average_decay"]))
            self.optimizer.register_step_post_hook(lambda *_: self.averaged.update_parameters(self.model))
        self.steps = 0
        self.optimizer.register_step_pre_hook(self._warm_up)
        self.optimizer.register_step_post_hook(self._tidy)
        self.curve = []  # one dict an epoch: loss, seconds, and the validation's metrics where it was validated
        self.on_epoch = lambda epoch: (
            None
        )  # called after every validation, or every epoch where there is none
        self._resumed, self._collectors = None, None

    def _build_optimizer(self, **kwargs):
        if hasattr(self.model, "parameter_groups") and "params" not in kwargs:
            kwargs["params"] = self.model.parameter_groups()
        return super()._build_optimizer(**kwargs)

    # ------------------------------------------------------------------ epochs

    def fit(
        self, train_data, valid_data=None, verbose=True, saved=True, show_progress=False, callback_fn=None
    ):
        """RecBole's ``fit``; what was learnt up to the last validation is kept in ``last.safetensors``."""
        self.train_data = train_data
        self.validates = self.eval_step > 0 and bool(valid_data)
        if self.finished:
            return self.best_valid_score, self.best_valid_result
        if self._resumed is not None:
            self._restore_randomness(*self._resumed)

        def after_validation(epoch, score):
            if saved:
                self.save_progress(epoch)
            self.on_epoch(epoch)
            if callback_fn:
                callback_fn(epoch, score)

        return super().fit(train_data, valid_data, verbose, saved, show_progress, after_validation)

    @property
    def finished(self):
        """Whether a resumed training had already come to its end."""
        return 0 < self.start_epoch and (
            self.start_epoch >= self.epochs or self.cur_step > self.stopping_step
        )

    def _warm_up(self, optimizer, *_):
        """Let the learning rate rise linearly over the first ``warmup_steps`` steps."""
        self.steps += 1
        if self.steps <= (self.config["warmup_steps"] or 0):
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * self.steps / self.config["warmup_steps"]

    def _tidy(self, *_):
        if self.steps % TIDY_EVERY == 0:
            return_free_memory()

    def _train_epoch(self, train_data, epoch_idx, *args, **kwargs):
        windows = getattr(train_data._dataset, "windows", None)
        if windows is not None:
            windows.cut(epoch_idx)
        self.model.epoch = epoch_idx
        started = perf_counter()
        loss = super()._train_epoch(train_data, epoch_idx, *args, **kwargs)
        total = sum(loss) if isinstance(loss, tuple) else loss
        self.curve.append(
            {"epoch": epoch_idx, "loss": total / len(train_data), "seconds": perf_counter() - started}
        )
        if not self.validates:
            self.on_epoch(epoch_idx)
        return loss

    def _valid_epoch(self, valid_data, show_progress=False):
        score, result = super()._valid_epoch(valid_data, show_progress)
        self.curve[-1] |= {key: float(value) for key, value in result.items()}
        return score, result

    # ------------------------------------------------------------------ evaluation

    @torch.no_grad()
    def evaluate(self, eval_data, load_best_model=True, model_file=None, show_progress=False):
        """RecBole's metrics of ``eval_data``, seen items masked if ``mask_history`` says so."""
        if load_best_model:
            self.load_best(model_file)
        live, self._eval_dataset = self.model, eval_data._dataset
        if self.averaged is not None and not load_best_model:
            self.model = self.averaged.module
        try:
            return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)
        finally:
            self.model = live

    def evaluate_both_ways(self, eval_data, show_progress=False):
        """One pass over ``eval_data`` with the model as it is: an ``Evaluation``."""
        self._eval_dataset = eval_data._dataset
        table, collectors = RankTable(), (Collector(self.config), Collector(self.config))
        for collector in collectors:
            collector.data_collect(self.train_data)
        self._collectors = table, collectors
        try:
            result = super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)
        finally:
            self._collectors = None
        if not table.batches:
            return Evaluation(dict(result))
        unmasked, with_mask = (dict(self.evaluator.evaluate(c.get_data_struct())) for c in collectors)
        return Evaluation(unmasked, with_mask, table)

    def _full_sort_batch_eval(self, batched_data):
        interaction, scores, row, target = super()._full_sort_batch_eval(batched_data)
        dataset = self._eval_dataset
        wants_mask = bool(self.config["mask_history"])
        if ROW_END not in interaction or (self._collectors is None and not wants_mask):
            return interaction, scores, row, target
        row, target = row.to(scores.device), target.to(scores.device)
        seen = (part.to(scores.device) for part in dataset.history_of(batched_data[0]))
        hidden = masked(scores, *seen, row, target)
        if self._collectors is not None:
            table, collectors = self._collectors
            for collector, kept in zip(collectors, (scores, hidden), strict=True):
                collector.eval_batch_collect(kept, interaction, row, target)
            ranks = (ranks_of(kept, row, target) for kept in (scores, hidden))
            length = interaction[dataset.item_list_length_field]
            table.add(interaction[dataset.uid_field], target, *ranks, length)
        return interaction, hidden if wants_mask else scores, row, target

    # ------------------------------------------------------------------ checkpoints

    def load_best(self, model_file=None):
        """Load the best weights of this run, or those of ``model_file``, into the model."""
        tensors, facts = checkpoint.load(model_file or self.saved_model_file)
        other = restored(checkpoint.lower(facts["other_parameter"], tensors))
        self.model.load_state_dict(tensors)
        self.model.load_other_parameter(other)

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        evaluated = self.model if self.averaged is None else self.averaged.module
        tensors = dict(evaluated.state_dict())
        other = plain_value(self.model.other_parameter(), "other_parameter")
        facts = {
            "model": self.config["model"],
            "epoch": epoch,
            "best_valid_score": float(self.best_valid_score),
            "other_parameter": checkpoint.lift(other, "<other>", tensors),
            "settings": plain(self.config.final_config_dict),
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
            "best_valid_result": plain(self.best_valid_result),
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


def moving_average(decay):
    """How ``AveragedModel`` takes in new weights: by ``decay``, and faster at first, so that the start is forgotten."""

    @torch.no_grad()
    def take_in(averaged, current, count):
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + float(count)) / (10 + float(count))))

    return take_in


def multiplies_bfloat16(device):
    """Whether ``device`` has instructions for bfloat16 products; without them they are slower than float32's."""
    if device != "cpu":
        return True
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def trainer_for(config, model):
    """RecBole's trainer for ``model`` (some models have one of their own) behind ``RankingTrainer``."""
    theirs = get_trainer(config["MODEL_TYPE"], config["model"])
    return type(f"Ranking{theirs.__name__}", (RankingTrainer, theirs), {})(config, model)


def return_free_memory():
    """Hand freed memory back to the system where the C library is glibc; elsewhere do nothing.

    The tensors of a step have other sizes every step; glibc keeps the gaps: ml-1m's process grew to
    5.5 GiB within nine epochs with no tensor left behind.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def plain(value):
    """``value`` as JSON can hold it: what is not a plain value becomes its text."""
    return json.loads(json.dumps(value, default=str))
