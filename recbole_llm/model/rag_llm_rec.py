"""RAGLLMRec: HierLLMRec whose user vector is joined by what it retrieves, items or past situations.

``rag_fusion`` names both what is retrieved and how it is used. Items near the query: ``gated``, ``cross_attn``, or
``prepend``, which puts them in front of the history. Situations of the training part like the present one (RaSeRec,
https://arxiv.org/abs/2412.18378): ``memory``, and ``knn_interp``, which learns nothing and mixes in what came next in
them. ``rag_fusion: none`` is HierLLMRec.

Ours: a fusion starts close to the model without it, so that training can begin from a trained HierLLMRec
(``start_from``); users, and what is retrieved, have numbers of size 1 where they are fused, so that neither outweighs
the other however long the item vectors are; the bank is built anew from current weights for every evaluation, and
before every ``rebuild_every``-th epoch. RaSeRec's first stage, a contrastive pre-training, is left out, and the bank
of its second, which stays as it is, here follows the weights.

Shapes: B batch, L longest history, T events asked for, I items with padding, K retrieved, M situations, W item-vector
size, H width of the Recommendation LLM.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ..compat.plain import restored
from ..errors import ArtifactError, SettingError
from . import checkpoint
from .hier_llm_rec import HierLLMRec
from .layout import Layout, so_far
from .memory import TrainingRows, next_places
from .rag_fusion import CrossAttention, Gated, MemoryFusion, interpolated, level
from .rag_settings import OF_SITUATIONS, Settings, check
from .retrieval import UNLIKE, Drawn, HiddenItems, HiddenRange, exactly, index_over


class RAGLLMRec(HierLLMRec):
    """The model; what it needs of the data set is what HierLLMRec needs, and the training rows for its bank."""

    settings_class = Settings

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        s = self.settings
        if s.rag_fusion in OF_SITUATIONS and not hasattr(dataset, "among_all"):
            raise SettingError(
                f"rag_fusion: {s.rag_fusion} tells what a user did later by the order of events, which only rows kept "
                "as offsets know; set history_as_offsets: True and give no benchmark_filename"
            )
        self.rows = TrainingRows(dataset, s.bank_size, config["seed"])
        self.bank, self.epoch = None, 0  # the trainer counts the epochs
        width = self.rec_llm.width
        match s.rag_fusion:
            case "gated":
                self.fusion = Gated(width, s.rag_agg)
            case "cross_attn":
                self.fusion = CrossAttention(width)
            case "memory":
                self.fusion = MemoryFusion(width, s.memory_alpha, s.memory_beta, s.dropout)
            case "prepend":
                self.retrieved_type = nn.Parameter(torch.empty(width).normal_(std=0.02))
        if s.start_from and not config.taken_up:
            self._start_from(Path(s.start_from))

    def check(self):
        """Refuse settings before anything is built of them."""
        super().check()
        check(self.settings, self.dense)

    @property
    def extra_length(self):
        """Places that a history may take beside its events: the items in front of it."""
        return self.settings.rag_top_k if self.settings.rag_fusion == "prepend" else 0

    @property
    def reads_other_items(self):
        """Whether a training batch reads items that it does not name: those that it retrieves."""
        return self.settings.rag_fusion not in ("none", "knn_interp")

    @property
    def not_exported(self):
        """Why no encoder of item vectors can be exported, in a sentence; None where it can."""
        if self.settings.rag_fusion == "none":
            return super().not_exported
        return "RAGLLMRec retrieves at every prediction, which no encoder can; export a HierLLMRec"

    def _start_from(self, folder):
        """Take the weights of a trained HierLLMRec; what is new keeps its start."""
        if not folder.is_dir():
            raise SettingError(f"start_from: no folder {folder}; give that of a HierLLMRec run")
        tensors, facts = checkpoint.load(folder / "checkpoint" / "best.safetensors")
        other = restored(checkpoint.lower(facts["other_parameter"], tensors))
        try:
            new, unknown = self.load_state_dict(tensors, strict=False)
        except RuntimeError as error:
            raise ArtifactError(
                f"start_from: {folder} holds a model of another shape; give a HierLLMRec trained with the same keys "
                f"({str(error).splitlines()[-1].strip()})"
            ) from None
        new = [name for name in new if not name.startswith(("fusion.", "retrieved_type"))]
        if unknown or new:
            raise ArtifactError(
                f"start_from: {folder} holds another model, e.g. its {(unknown + new)[0]}; give a HierLLMRec trained "
                "with the same keys"
            )
        self.load_other_parameter(other)

    # ------------------------------------------------------------------ users

    def encode(self, item_seq_BL, layout, beside):
        """(T, S): as HierLLMRec's, from histories and what was retrieved for them."""
        fusion = self.settings.rag_fusion
        if fusion == "prepend":
            return self.project(self._read_behind_retrieved(item_seq_BL, layout, beside))
        user_TH = self.pooled(layout.pack(item_seq_BL), layout)
        if fusion in ("gated", "cross_attn"):
            item_TK, known_TK = self.retrieve_items(user_TH, item_seq_BL, layout, beside)
            found_TKH = self._as_read(item_TK)
            both = (found_TKH,) if fusion == "gated" else (found_TKH, found_TKH)
            user_TH = self.fusion(level(user_TH), *both, known_TK)
        elif fusion == "memory":
            like_TK, row_TK = self.recall(user_TH, layout, beside)
            bank = self._bank()
            sequence_TKH = level(F.embedding(row_TK, bank.sequence_MH))
            target_TKH = self._as_read(bank.item_M[row_TK])
            user_TH = self.fusion(level(user_TH), sequence_TKH, target_TKH, like_TK > UNLIKE)
        return self.project(user_TH)

    def _as_read(self, item_TK):
        """(T, K, H): items as histories are read, on the scale of levelled users."""
        return self.input_map.level(F.embedding(item_TK, self.current_items()))

    def every_score(self, interaction):
        """(B, I): the score of every item as the next one, of the history's too."""
        s = self.settings
        if s.rag_fusion != "knn_interp" or s.lambda_knn == 0:
            return super().every_score(interaction)
        item_seq_BL, length_B = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        layout = Layout.of(length_B, only_last=True)
        user_BH = self.pooled(layout.pack(item_seq_BL), layout)
        like_BK, row_BK = self.recall(user_BH, layout, self.beside(interaction))
        score_BI = self.project(user_BH) @ self.scored_items().t()
        score_BI[:, 0] = UNLIKE
        return interpolated(score_BI, like_BK, self._bank().item_M[row_BK], s.lambda_knn, s.knn_temperature)

    def predict(self, interaction):
        """(B,): the score of the one given item of each row."""
        if self.settings.rag_fusion != "knn_interp":
            return super().predict(interaction)
        scores = self.every_score(interaction)
        return scores.gather(1, interaction[self.ITEM_ID][:, None]).squeeze(1)

    def remarks(self):
        """What a report says of the bank."""
        bank = self._kept.get("bank")
        if bank is None:
            return ()
        said = f"it ranked with a bank of {len(bank):,} situations, built from the weights that ranked"
        every = self.settings.rebuild_every
        if self.settings.rag_fusion == "memory" and every > 1:
            said += f", and was trained with banks of up to {every} epochs before"
        return (said,)

    # ------------------------------------------------------------------ retrieval

    @torch.no_grad()
    @exactly
    def retrieve_items(self, user_TH, item_seq_BL, layout, beside):
        """(T, K) item ids near each event's query, and whether they were found, none of its history."""
        s, item_IW = self.settings, self.current_items().float()
        history_TL = so_far(item_seq_BL[:, : layout.length], *layout.asked)
        hidden_TL = history_TL if s.exclude_history else history_TL[:, :0]
        match s.rag_query:
            case "user":
                query_TW, table_IW = self.project(user_TH.float()), self.scored(item_IW)
            case "mean_items" | "last_item":
                last = s.query_items if s.rag_query == "mean_items" else 1
                query_TW, table_IW = _mean_of_last(history_TL, item_IW, last), item_IW
        index = (
            self._index_of_items(table_IW)
            if s.rag_control == "none"
            else self._draws(table_IW, layout, beside)
        )
        like_TK, item_TK = index.nearest(query_TW, s.rag_top_k, HiddenItems(hidden_TL))
        return item_TK, like_TK > UNLIKE

    @torch.no_grad()
    def recall(self, user_TH, layout, beside):
        """(T, K) likenesses and rows of the bank's situations near each user vector, none that a user came to later."""
        bank = self._bank()
        if beside.user_B is None:  # a history of nobody in the data set
            nothing_T = torch.zeros(len(user_TH), dtype=torch.long, device=user_TH.device)
            return bank.index.nearest(user_TH, self.settings.rag_top_k, HiddenRange(nothing_T, nothing_T))
        user_T, place_T = next_places(layout, beside.user_B, beside.end_B)
        if self.training:  # its rows count the events of the training part
            place_T = self.rows.dataset.among_all(place_T)
        return bank.index.nearest(user_TH, self.settings.rag_top_k, HiddenRange(*bank.later(user_T, place_T)))

    def _index_of_items(self, table_IW):
        """What finds items, made once for a batch in training, for an evaluation otherwise."""
        if "index" not in self._kept:
            # a table that learns is another one at the next batch, and not worth more than a look at all of it
            exact_up_to = len(table_IW) if self.training else self.settings.exact_up_to
            self._kept["index"] = self._index(table_IW, self.settings.rag_similarity, exact_up_to)
        return self._kept["index"]

    def _draws(self, table_IW, layout, beside):
        """What draws items: in training by torch's generator, else by the seed, the user and the place of the event."""
        if self.training:
            return Drawn(table_IW)
        if beside.user_B is None:  # histories of nobody in the data set all draw the same
            count = layout.batch if layout.asked_T is not None else len(layout.place_T)
            return Drawn(table_IW, [self.rows.seed] * count)
        users_and_places = zip(
            *(part.tolist() for part in next_places(layout, beside.user_B, beside.end_B)), strict=True
        )
        # of numbers alone ``hash`` is the same in every process
        return Drawn(table_IW, [hash((self.rows.seed, *each)) for each in users_and_places])

    def _index(self, table_MW, similarity="cosine", exact_up_to=None):
        s = self.settings
        if exact_up_to is None:
            exact_up_to = s.exact_up_to
        return index_over(table_MW, similarity, exact_up_to, s.ivf_lists, s.ivf_probes)

    def _bank(self):
        """The bank of the epoch in training; in evaluation that of the weights as they are, built once."""
        if self.training:
            return self.bank
        if "bank" not in self._kept:
            self._kept["bank"] = self.rows.bank(self, self._index)
        return self._kept["bank"]

    def _read_behind_retrieved(self, item_seq_BL, layout, beside):
        """(B, H): the pooled vector of each history with the items that were found in front of it."""
        s = self.settings
        item_BK, known_BK = self.retrieve_items(None, item_seq_BL, layout, beside)
        item_BL = torch.cat([item_BK * known_BK, item_seq_BL[:, : layout.length]], 1)
        # no gap before the history
        item_BL = item_BL.gather(1, (item_BL == 0).long().argsort(dim=1, stable=True))
        count_B = known_BK.sum(1)
        longer = Layout.of(layout.length_B + count_B, only_last=True)
        input_TH = self.input_map(F.embedding(longer.pack(item_BL), self.current_items()))
        retrieved_T1 = (longer.position_T < count_B[longer.row_T])[:, None]
        input_TH = input_TH + self.retrieved_type * retrieved_T1
        hidden_TH = self.rec_llm(input_TH, self.pooling.needed(longer))
        if s.pool_ret or s.pool_user == "last":
            return self.pooling(hidden_TH, longer)
        own_T = layout.row_T * longer.length + count_B[layout.row_T] + layout.position_T
        return self.pooling(longer.pad(hidden_TH).flatten(0, 1)[own_T], layout)

    # ------------------------------------------------------------------ training

    def calculate_loss(self, interaction):
        """HierLLMRec's loss, on a bank that is at most ``rebuild_every`` epochs old."""
        if self.settings.rag_fusion == "memory":
            self._renew_bank(self.settings.rebuild_every)
        return super().calculate_loss(interaction)

    def _renew_bank(self, every):
        """Build the bank of training at the first step of epoch 0, ``every``, 2 ``every``, ..., by the weights then."""
        due = self.epoch - self.epoch % every
        if self.bank is not None and self.bank.epoch >= due:
            return
        if due < self.epoch:
            raise SettingError(
                f"resume: epoch {self.epoch} goes on with the bank of epoch {due}, whose weights are gone "
                f"(rebuild_every: {every}); train anew, or go on with --rebuild_every=1"
            )
        was_training = self.training
        self.eval()
        self.bank = self.rows.bank(self, self._index)
        self.train(was_training)


def _mean_of_last(history_TL, item_IW, count):
    """(T, W): the mean vector of the last ``count`` items of each history."""
    length_T1 = (history_TL != 0).sum(1, keepdim=True)
    place_TC = length_T1 - 1 - torch.arange(count, device=history_TL.device)
    item_TC = history_TL.gather(1, place_TC.clamp(min=0)) * (place_TC >= 0)
    counted_TC1 = (item_TC != 0)[..., None]
    return (F.embedding(item_TC, item_IW) * counted_TC1).sum(1) / counted_TC1.sum(1)
