"""RecBole's trainers with averaged weights and the ranks of every target; what they keep on disk is in ``resume.py``.

The moving average of the weights is evaluated and saved in place of the last ones; it costs one pass over the weights a
step and spares tuning a decay of the learning rate. Pavel Izmailov et al., 2018, https://arxiv.org/abs/1803.05407
"""

import math
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
from recbole.trainer import trainer as recboles
from recbole.utils import get_trainer
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from ..data.dataset import NEXT_ITEMS, ROW_END, events_before
from ..errors import SettingError
from ..evaluation.ranks import RankTable, hide_seen, ranks_among, ranks_of
from . import parallel
from .collector import RankingCollector
from .memory import Memory, return_free_memory, return_large_blocks_at_once
from .resume import BEST, ResumingTrainer

FUSED = (
    torch.optim.Adam,
    torch.optim.AdamW,
)  # have a step in one pass: 64 million weights take 38 ms, not 544


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a part finds: RecBole's metrics under both conventions and a rank for every target.

    Sampled candidates and ready-made rows have RecBole's one result, in ``unmasked``, and no ranks.
    """

    unmasked: dict
    masked: dict | None = None
    ranks: RankTable | None = None


class RankingTrainer(ResumingTrainer):
    """A mixin in front of any of RecBole's trainers; ``trainer_for`` puts the two together."""

    def __init__(self, config, model):
        super().__init__(config, model)
        self.folder = Path(config["checkpoint_dir"])
        self.saved_model_file = str(self.folder / BEST)
        self.eval_collector = RankingCollector(config)
        self.enable_amp = bool(config["enable_amp"]) and multiplies_bfloat16(self.device.type)
        if self.enable_amp:
            # RecBole names no type, and CUDA's own is float16, in which small gradients are zero
            torch.set_autocast_dtype(self.device.type, torch.bfloat16)
        if parallel.world() > 1 and self.clip_grad_norm:
            raise SettingError(
                "clip_grad_norm would clip each process's part of a gradient alone; set it to None, or nproc to 1"
            )
        self.averaged = None
        if config["average_decay"]:
            self.averaged = averaged(model, config["average_decay"])
            self.optimizer.register_step_post_hook(lambda *_: self.averaged.update_parameters(self.model))
        self.steps, self.train_data = 0, None
        self.optimizer.register_step_pre_hook(self._set_pace)
        self.optimizer.register_step_pre_hook(lambda *_: parallel.sum_gradients(self.model.parameters()))
        self.optimizer.register_step_post_hook(Memory().tidy)
        return_large_blocks_at_once()
        self.curve = []  # one dict an epoch: loss, seconds, and the validation's metrics where it was validated
        self.on_epoch = lambda _: None  # called after every validation, or every epoch where there is none
        self.seconds_before = 0.0  # of a stage that came before
        self._resumed = self._ranks = self._other_way = None

    def _build_optimizer(self, **kwargs):
        if hasattr(self.model, "parameter_groups") and "params" not in kwargs:
            kwargs["params"] = self.model.parameter_groups()
        optimizer = super()._build_optimizer(**kwargs)
        if type(optimizer) in FUSED:
            for group in optimizer.param_groups:
                group["fused"] = True
        return optimizer

    # ------------------------------------------------------------------ epochs

    def fit(
        self, train_data, valid_data=None, verbose=True, saved=True, show_progress=False, callback_fn=None
    ):
        """RecBole's ``fit``; what was learnt up to the last validation, or epoch, is kept in ``last.safetensors``."""
        self.train_data = train_data
        self.validates = self.eval_step > 0 and bool(valid_data)
        parallel.share_rows(train_data)
        if self.finished:
            return self.best_valid_score, self.best_valid_result
        if self._resumed is not None:
            self._restore_randomness(self._resumed)

        def after_validation(epoch, score):
            if saved:
                self.save_progress(epoch)
            self.on_epoch(epoch)
            if callback_fn:
                callback_fn(epoch, score)

        return super().fit(train_data, valid_data, verbose, saved, show_progress, after_validation)

    def _set_pace(self, optimizer, *_):
        """Count the step and set its learning rate."""
        self.steps += 1
        c, of_epoch = self.config, len(self.train_data) if self.train_data else 0
        pace = pace_at(
            self.steps,
            self.epochs * of_epoch,
            c["warmup_steps"] or 0,
            c["learning_rate_end"],
            (c["learning_rate_tenth"] or 0) * of_epoch,
        )
        for group in optimizer.param_groups:  # a model may give some of its weights a rate of their own
            group["lr"] = group.get("peak", self.learning_rate) * pace

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        windows = getattr(train_data._dataset, "windows", None)
        if windows is not None:
            windows.cut(epoch_idx)
        self.model.epoch = epoch_idx
        started, terms = perf_counter(), {}
        loss_func = partial(self._noted, loss_func or self.model.calculate_loss, terms)
        loss = super()._train_epoch(train_data, epoch_idx, loss_func=loss_func, show_progress=show_progress)
        total = sum(parallel.of_each(sum(loss) if isinstance(loss, tuple) else loss))
        entry = {"epoch": epoch_idx, "loss": total / len(train_data), "seconds": perf_counter() - started}
        self.curve.append(entry | _means(terms, len(train_data)))
        return loss

    def _noted(self, loss_func, terms, interaction):
        """The loss of a batch, of several processes the part that this one has; its terms are added to ``terms``."""
        loss, own = loss_func(interaction), 1
        if parallel.world() > 1:
            known = interaction[NEXT_ITEMS] > 0 if NEXT_ITEMS in interaction else torch.ones(len(interaction))
            own = parallel.share(0 if self.train_data.lent else known.sum(), self.device)
            loss = tuple(term * own for term in loss) if isinstance(loss, tuple) else loss * own
        for name, term in getattr(self.model, "told_terms", {}).items():
            terms[name] = terms.get(name, 0) + term * own
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
        parallel.share_batches(eval_data)
        self.optimizer.zero_grad()  # the last step's gradients are as large as the weights
        live, self._eval_dataset = self.model, eval_data._dataset
        if self.averaged is not None and not load_best_model:
            self.model = self.averaged.module
        try:
            return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)
        finally:
            self.model = live
            return_free_memory()

    def evaluate_both_ways(self, eval_data, show_progress=False):
        """One pass over ``eval_data`` with the model as it is: an ``Evaluation``."""
        parallel.share_batches(eval_data)
        self._eval_dataset, self._before_targets = eval_data._dataset, events_before(eval_data)
        self._other_way, self._ranks = RankingCollector(self.config), RankTable()
        for collector in (self.eval_collector, self._other_way):
            collector.data_collect(self.train_data)
        try:
            result = dict(super().evaluate(eval_data, load_best_model=False, show_progress=show_progress))
            for collected in (self._ranks.batches, self._ranks.best):
                collected[:] = [batch for part in parallel.of_each(collected) for batch in part]
            if not self._ranks.batches:
                return Evaluation(result)
            other = dict(self.evaluator.evaluate(self._other_way.get_data_struct()))
            unmasked, with_mask = (other, result) if self.config["mask_history"] else (result, other)
            return Evaluation(unmasked, with_mask, self._ranks)
        finally:
            self._other_way = self._ranks = None

    def _full_sort_batch_eval(self, batched_data):
        rows, seen, row, target = batched_data
        interaction, scores, row, target = super()._full_sort_batch_eval((rows, None, row, target))
        dataset, wants_mask = self._eval_dataset, bool(self.config["mask_history"])
        if self._ranks is None and not wants_mask:
            return interaction, scores, row, target
        if ROW_END in rows:
            seen, order = dataset.history_of(rows), rows[ROW_END]
        elif seen is not None:  # a row is a user, with one target or more
            order = rows[dataset.uid_field][row]
        else:  # ready-made rows, of which no more is known
            return interaction, scores, row, target
        row, target = row.to(scores.device), target.to(scores.device)
        apart = scores if self._ranks is None else scores.clone()
        hidden = hide_seen(apart, *(part.to(scores.device) for part in seen), row, target)
        chosen, other = (hidden, scores) if wants_mask else (scores, hidden)
        if self._ranks is not None:
            self._other_way.eval_batch_collect(other, interaction, row, target)
            ranks = [ranks_of(kept, row, target) for kept in (scores, hidden)]
            cold = getattr(dataset, "cold", None)
            if cold is not None:
                cold = ranks_among(hidden, cold.to(hidden.device), row, target)
            before = self._events_before(rows, order, target)
            self._ranks.add(order, interaction[dataset.uid_field][row], target, *ranks, before, cold)
            self._ranks.add_best(hidden)
        return interaction, chosen, row, target

    def _events_before(self, rows, order, target):
        """How many events its user had before each target; of a general model the rows are users, their order too."""
        if ROW_END in rows:
            return self._eval_dataset.events_before(rows)
        pairs = zip(order.tolist(), target.tolist(), strict=True)
        return torch.tensor([self._before_targets[pair] for pair in pairs])


def pace_at(step, total, warmup, end, tenth=0):
    """The share of the learning rate at a step, from 1: it rises linearly, then falls along half a cosine to ``end``.

    After every ``tenth`` steps it is a tenth of that besides; 0: never.

    Ilya Loshchilov and Frank Hutter, "SGDR", ICLR 2017, https://arxiv.org/abs/1608.03983
    """
    if step < warmup:
        return step / warmup
    left = 0.1 ** ((step - 1) // tenth) if tenth else 1.0
    if end is None or end == 1 or total <= warmup:
        return left
    done = min((step - warmup) / (total - warmup), 1.0)
    return left * (end + (1 - end) * (1 + math.cos(math.pi * done)) / 2)


def averaged(model, decay):
    """A model of the same weights averaged by ``decay``, and faster at first, so that the start is forgotten.

    Weights that do not learn, as those of a language model beside its adapters, are the model's own, not copies.
    """

    @torch.no_grad()
    def take_in(means, current, count):
        learns = [row for row, mean in enumerate(means) if mean.data_ptr() != current[row].data_ptr()]
        share = 1 - min(decay, (1 + float(count)) / (10 + float(count)))
        torch._foreach_lerp_([means[row] for row in learns], [current[row] for row in learns], share)

    found = AveragedModel(model, multi_avg_fn=take_in)
    for own, copy in zip(model.parameters(), found.module.parameters(), strict=True):
        if not own.requires_grad:
            copy.data = own.data
    return found


def _means(terms, n_batches):
    """``terms`` of an entry of the curve: by name, what each adds to the loss; nothing where there is but one."""
    found = parallel.put_together({name: total.reshape(1) for name, total in terms.items()})
    if len(found) < 2:
        return {}
    return {"terms": {name: float(part_P.sum()) / n_batches for name, part_P in found.items()}}


def multiplies_bfloat16(device):
    """Whether ``device`` has instructions for bfloat16 products; without them they are slower than float32's."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return True
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def trainer_for(config, model):
    """RecBole's trainer for ``model`` (some models have one of their own) behind ``RankingTrainer``."""
    theirs = get_trainer(config["MODEL_TYPE"], config["model"])
    if issubclass(theirs, recboles.PretrainTrainer):  # ``stages`` has the stages
        theirs = recboles.Trainer
    with curves_in(Path(config["checkpoint_dir"]) / "tensorboard"):
        return type(f"Ranking{theirs.__name__}", (RankingTrainer, theirs), {})(config, model)


@contextmanager
def curves_in(folder):
    """Let RecBole's trainers write TensorBoard's files to ``folder``; alone they make one where the user stands."""
    original = recboles.get_tensorboard
    recboles.get_tensorboard = lambda logger: SummaryWriter(folder)
    try:
        yield
    finally:
        recboles.get_tensorboard = original
