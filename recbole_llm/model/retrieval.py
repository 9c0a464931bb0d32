"""The nearest rows of a table for each query, without those that a query may not get.

Exactly (in float32, whatever autocast says), in bounded memory, or approximately through FAISS (Matthijs Douze et al.,
https://arxiv.org/abs/2401.08281): its inverted lists look at a part of the table, and more than K rows are fetched to
make up for those left out.

Shapes: T queries, M rows of the table, W vector size, K rows asked for, C queries of a chunk, L longest history, F rows
fetched.
"""

from dataclasses import dataclass
from functools import wraps
from importlib.util import find_spec

import torch
import torch.nn.functional as F

CELLS = 8_000_000  # likenesses held at a time
UNLIKE = -torch.inf  # the likeness of a row that a query may not get
ROWS_PER_LIST = 39  # that FAISS wants at least to find an inverted list's centre
FETCHED = 4  # times K, as in RaSeRec


def exactly(method):
    """A method of a module or an index without autocast: of products in bfloat16 the nearest are not the nearest."""

    @wraps(method)
    def in_float32(*given, **named):
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return method(*given, **named)

    return in_float32


@dataclass(frozen=True)
class HiddenItems:
    """Padding, and the items (T, L) of each query's history."""

    item_TL: torch.Tensor

    def mask(self, part, like_CM):
        """Set the likeness of what is hidden from the queries ``part`` to ``UNLIKE``, in place."""
        like_CM.scatter_(1, self.item_TL[part], UNLIKE)
        like_CM[:, 0] = UNLIKE

    def holds(self, row_TF):
        """(T, F): whether rows are hidden."""
        return (row_TF[..., None] == self.item_TL[:, None]).any(-1) | (row_TF == 0)


@dataclass(frozen=True)
class HiddenRange:
    """The rows from ``first_T`` to before ``end_T``, of each query its own."""

    first_T: torch.Tensor
    end_T: torch.Tensor

    def mask(self, part, like_CM):
        """Set the likeness of what is hidden from the queries ``part`` to ``UNLIKE``, in place."""
        row_M = torch.arange(like_CM.shape[1], device=like_CM.device)
        like_CM.masked_fill_((row_M >= self.first_T[part, None]) & (row_M < self.end_T[part, None]), UNLIKE)

    def holds(self, row_TF):
        """(T, F): whether rows are hidden."""
        return (row_TF >= self.first_T[:, None]) & (row_TF < self.end_T[:, None])


class Exact:
    """All rows are looked at.

    Parameters
    ----------
    table_MW : Tensor
    similarity : {"cosine", "l2"}
        The cosine, or the squared distance with a minus in front.
    """

    def __init__(self, table_MW, similarity="cosine"):
        self.is_cosine = similarity == "cosine"
        self.table_MW = _units(table_MW) if self.is_cosine else table_MW.float()
        self.square_M = self.table_MW.pow(2).sum(1)

    @torch.no_grad()
    @exactly
    def nearest(self, query_TW, k, hidden):
        """The likenesses (T, K) and row numbers (T, K) of the K nearest rows, best first.

        Where fewer than K are left for a query, hidden rows fill up its places, with likeness ``UNLIKE``.
        """
        k, rows = min(k, len(self.table_MW)), max(CELLS // len(self.table_MW), 1)
        found = []
        for start in range(0, len(query_TW), rows):
            part = slice(start, min(start + rows, len(query_TW)))
            like_CM = self._likeness(query_TW, part)
            hidden.mask(part, like_CM)
            found.append(like_CM.topk(k, dim=1))
        return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])

    def _likeness(self, query_TW, part):
        """(C, M), of the queries ``part``."""
        if self.is_cosine:
            return _units(query_TW[part]) @ self.table_MW.t()
        query_CW = query_TW[part].float()
        like_CM = query_CW @ self.table_MW.t()
        return 2 * like_CM - self.square_M - query_CW.pow(2).sum(1, keepdim=True)


class Drawn(Exact):
    """A control: rows drawn at random in place of the nearest, for each query by a seed of its own or by torch's one.

    With seeds a query draws the same in whatever batch it stands.
    """

    def __init__(self, table_MW, seeds=None):
        self.table_MW, self.seeds = table_MW, seeds

    def _likeness(self, query_TW, part):
        count = len(self.table_MW)
        if self.seeds is None:
            like_CM = torch.rand(len(query_TW[part]), count)
        else:
            like_CM = torch.stack([_drawn_by(seed, count) for seed in self.seeds[part]])
        return like_CM.to(query_TW.device)


class InvertedLists:
    """FAISS's IVF-Flat: rows lie in lists around ``n_lists`` centres, and a query looks at the nearest ``n_probes``."""

    def __init__(self, table_MW, similarity="cosine", n_lists=128, n_probes=8):
        import faiss

        self.is_cosine = similarity == "cosine"
        table_MW = (_units(table_MW) if self.is_cosine else table_MW.float()).detach().cpu().numpy()
        metric = faiss.METRIC_INNER_PRODUCT if self.is_cosine else faiss.METRIC_L2
        centres = (faiss.IndexFlatIP if self.is_cosine else faiss.IndexFlatL2)(table_MW.shape[1])
        self.index = faiss.IndexIVFFlat(centres, table_MW.shape[1], n_lists, metric)
        self.index.train(table_MW)
        self.index.add(table_MW)
        self.index.nprobe = n_probes

    @torch.no_grad()
    def nearest(self, query_TW, k, hidden):
        """As ``Exact.nearest``, of the rows that were looked at."""
        query_TW = _units(query_TW) if self.is_cosine else query_TW.float()
        like, row = self.index.search(query_TW.cpu().numpy(), min(FETCHED * k, self.index.ntotal))
        like_TF = torch.from_numpy(like if self.is_cosine else -like).to(query_TW.device)
        row_TF = torch.from_numpy(row).to(query_TW.device)
        like_TF = like_TF.masked_fill((row_TF < 0) | hidden.holds(row_TF.clamp(min=0)), UNLIKE)
        like_TK, place_TK = like_TF.topk(min(k, like_TF.shape[1]), dim=1)
        return like_TK, row_TF.gather(1, place_TK).clamp(min=0)


def index_over(table_MW, similarity, exact_up_to, n_lists, n_probes):
    """``Exact`` up to so many rows, or where FAISS (extra ``serve``) is not installed; else ``InvertedLists``."""
    large = len(table_MW) > max(exact_up_to, ROWS_PER_LIST * n_lists)
    if large and find_spec("faiss"):
        return InvertedLists(table_MW, similarity, n_lists, n_probes)
    return Exact(table_MW, similarity)


def _drawn_by(seed, count):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def _units(vectors):
    return F.normalize(vectors.float(), dim=1)
