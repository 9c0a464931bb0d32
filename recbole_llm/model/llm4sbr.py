"""LLM4SBR: what a language model says of a session, long-term and short-term, aligned with any session model.

Shutong Qiao et al., "LLM4SBR: A Lightweight and Effective Framework for Integrating Large Language Models in
Session-based Recommendation", 2024, https://arxiv.org/abs/2402.13840. Equation numbers are the paper's.

The ``backbone`` reads sessions; each of its two views of a session, local and global, meets the text of one of ours.
Training needs no language model and ranking neither: answers are made ahead (``recbole-llm generate sessions``) or
stand-ins take their place (``intents.py``).

In the paper answers reach the score by two gates alone, single numbers; what they say is left to the alignment. Here
the score also has what the paper ranks by without a session model, the cosines of the answers with the items' names,
each view's by one learned weight (``infer_score``). The weights begin at zero, and stay there if answers say nothing.

Differs further from the released code: names and answers are whitened; a missing answer has a learned vector and is
left out of the alignment; ``fuse`` has two further ways; the text enters the session vector by the gates alone in
``scalar_gate``, which is the code's way; several views of one anchor are each gated by the anchor as it was; the
learning rate is constant (``learning_rate_tenth: 3`` is the paper's). ``start: backbone`` begins with the backbone's
own session vector; where the backbone gives all of these one length, as a layer norm does, they keep it: free in its
length, the vector learns the rows by heart.

Shapes: B sessions, I items with padding, N items of a batch, H hidden, W text-vector size, V views, A anchors.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from ..config import settings_from
from ..errors import SettingError
from . import losses
from .backbones import backbone, inner_model
from .intents import check_views, intents_of, query
from .items import rows_of
from .ranges import NOT_NEGATIVE, check_ranges
from .session.base import SessionRecommender, SessionSettings

STRIDE = 10.0  # of a view's weight: a cosine is small beside a score, and Adam goes no further than its rate


@dataclass(frozen=True)
class Settings(SessionSettings):
    """The keys of ``properties/model/LLM4SBR.yaml``, where each has its meaning and its default."""

    backbone: str
    views: dict
    session_intents: dict | None
    intent_control: Literal["none", "shuffled", "random"]
    topk_localize: int
    localize: Literal["sum", "mean", "softmax"]
    whiten: Literal["none", "pca", "relaxed", "full"]
    whiten_dim: int
    infer_score: bool
    fuse: Literal["scalar_gate", "vector_gate", "concat"]
    start: Literal["backbone", "random"]
    lambda_au: float
    au: Literal["both", "align", "uniform"]


class LLM4SBR(SessionRecommender):
    """The wrapper; its items, its reading of sessions and its score are the backbone's."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset, settings_from(config, Settings))
        s = self.settings
        check(s)
        del self.item_embedding  # the backbone has its own
        self.backbone = backbone(inner_model(s.backbone, config, dataset))
        size = self.backbone.items().shape[1]
        self.intents = None
        self.anchors = ("fused",) if "fused" in s.views.values() else ("global", "local")
        if s.views:
            self.intents = intents_of(s, dataset, s.intent_control, config["seed"])
            self.text_fingerprints = dict(dataset.text_fingerprints)
            self.project = nn.Linear(self.intents.unit_IW.shape[1], size)  # eq. (7), one for all views
            self.no_answer = nn.Parameter(torch.zeros(size))
        gate_size = size if s.fuse == "vector_gate" else 1
        self.gates = nn.ModuleDict({view: nn.Linear(size, gate_size, bias=False) for view in s.views})
        parts = len(self.anchors) + (len(s.views) if s.fuse == "concat" else 0)
        self.join = nn.Linear(parts * size, size)
        for module in (self.join, *self.gates.values(), *([self.project] if s.views else [])):
            for weight in module.parameters():
                nn.init.uniform_(weight, -(size**-0.5), size**-0.5)
        self.infers = bool(s.views) and s.infer_score
        if self.infers:
            self.infer_weight_V = nn.Parameter(torch.zeros(len(s.views)))
            self.n_fixed = self.intents.unit_IW.shape[1]
        if s.start == "backbone":
            self._start_as_the_backbone(size)

    @torch.no_grad()
    def _start_as_the_backbone(self, size):
        """Let every gate be open and pass on the view, if it is one, that the backbone scores with."""
        for gate in self.gates.values():
            gate.weight.zero_()
        own = "fused" if "fused" in self.anchors else self.backbone.own_view
        if own is not None:  # else it joins both of its views itself
            place = self.anchors.index(own) * size
            self.join.weight.zero_()
            self.join.bias.zero_()
            self.join.weight[:, place : place + size].fill_diagonal_(1)

    @staticmethod
    def reads_text(config):
        """Whether this configuration needs the names' vectors."""
        return bool(config["views"])

    @staticmethod
    def reads_intents(config):
        """Whether this configuration needs answers that were made ahead."""
        return bool(config["views"]) and bool(config["session_intents"])

    @property
    def reads_other_items(self):
        """Whether a training batch needs the ids of all items: their names' vectors do, and the backbone may."""
        return self.intents is not None or self.backbone.reads_other_items

    def remarks(self):
        """What a report says of the answers."""
        return () if self.intents is None else self.intents.remarks

    def items(self, item_N=None):
        """(I, H): the backbone's items; (N, H) of those that ``item_N`` names."""
        return self.backbone.items(item_N)

    # ------------------------------------------------------------------ sessions

    def encode(self, item_seq_BL, layout, beside):
        """(B, H): the session vectors, the texts of the views among them; (B, H + W) with ``infer_score``."""
        views = self.views(item_seq_BL, layout, self.current_items())
        answers = self.answers(item_seq_BL, layout, beside.end_B)
        texts = self.texts(answers)
        self._kept["views"], self._kept["texts"] = views, texts
        fused_BH = self.fused(views, texts)
        if not self.infers:
            return fused_BH
        return torch.cat([fused_BH, query(answers, STRIDE * self.infer_weight_V)], 1)

    def views(self, item_seq_BL, layout, item_IH):
        """What the backbone makes of the sessions of a batch."""
        return self.backbone.views(item_seq_BL, layout, item_IH)

    def scored(self, item_IH, item_N=None):
        """(I, H + W): items and their names, those of ``item_N`` alone where it is given; (I, H) without the names."""
        if not self.infers:
            return item_IH
        return torch.cat([item_IH, rows_of(self.intents.unit_IW, item_N)], 1)

    def answers(self, item_seq_BL, layout, end_B):
        """By view, the answers pinned to names (B, W) and whether there is one (B,), eqs. (1)-(5)."""
        if self.intents is None:
            return {}
        return self.intents(layout.pack(item_seq_BL), layout.row_T, layout.last_B, end_B)

    def texts(self, answers):
        """By view, the projected answers t_v (B, H) and whether there is one (B,), eq. (7)."""
        found = {}
        for view, (answer_BW, known_B) in answers.items():
            text_BH = self.project(answer_BW)
            found[view] = torch.where(known_B[:, None], text_BH, self.no_answer.to(text_BH.dtype)), known_B
        return found

    def anchor(self, name, views):
        """(B, H): the session vector that a view's text meets."""
        match name:
            case "global":
                return views.global_BH
            case "local":
                return views.local_BH
            case "fused":
                return self.backbone.session(views)

    def fused(self, views, texts):
        """(B, H): the gated views of the session joined, eqs. (10)-(12)."""
        s, parts, more = self.settings, [], []
        for name in self.anchors:
            gated_BH = anchor_BH = self.anchor(name, views)
            for view, met in s.views.items():
                if met != name:
                    continue
                text_BH, _ = texts[view]
                if s.fuse == "concat":
                    more.append(text_BH)
                gated_BH = gated_BH * self._opened(self.gates[view](torch.sigmoid(anchor_BH + text_BH)))
            parts.append(gated_BH)
        fused_BH = self.join(torch.cat(parts + more, 1))
        if s.start == "random" or not self.backbone.fixed_length:
            return fused_BH
        own_BH = self.backbone.session(views)
        return F.normalize(fused_BH, dim=1) * own_BH.norm(dim=1, keepdim=True)

    def _opened(self, gate):
        """How far gates are open: as far as they say, or begun at 1; those of a vector between 0 and 1, or 2."""
        s = self.settings
        if s.fuse == "vector_gate":
            return torch.sigmoid(gate) * (2 if s.start == "backbone" else 1)
        return gate + 1 if s.start == "backbone" else gate

    # ------------------------------------------------------------------ scores and loss

    def scores(self, session_BH, views):
        """(B, I): the score of every item after each session, as the backbone scores."""
        return self.backbone.scores(session_BH, views)

    def score_of(self, session_BH, views, item_B):
        """(B,): the score of one item after each session."""
        return self.backbone.score_of(session_BH, views, item_B)

    def session_loss(self, session_BH, views, target_B, seen_BL=None):
        """The backbone's loss of what came after each session, eq. (14)."""
        return self.backbone.session_loss(session_BH, views, target_B, seen_BL)

    def regularisation(self, interaction):
        """By name, the backbone's further loss, and lambda times the alignment of each view with its text, eq. (15)."""
        s, views, terms = self.settings, self._kept["views"], super().regularisation(interaction)
        if s.lambda_au > 0:
            for view, (text_BH, known_B) in self._kept["texts"].items():
                anchor_BH = self.anchor(s.views[view], views)
                found = losses.alignment_and_uniformity(anchor_BH[known_B], text_BH[known_B], s.au)
                if found is not None:
                    terms[f"alignment, {view}"] = s.lambda_au * found
        return terms


def check(s):
    """Refuse settings that cannot be or that contradict each other, each in one sentence."""
    check_ranges(s, {"lambda_au": NOT_NEGATIVE})
    check_views(s)
    if "fused" in s.views.values() and set(s.views.values()) != {"fused"}:
        raise SettingError("config key `views` has a view that meets the fused session vector; then all must")
