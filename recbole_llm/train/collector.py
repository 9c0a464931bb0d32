"""RecBole's collector of what metrics are computed from, for rows of one target and for several processes."""

import torch
from recbole.evaluator import Collector

from . import parallel

KINDS = ("rec.items", "rec.topk", "rec.meanrank", "rec.score", "data.label")
BY_BEST_ITEMS = {"rec.items", "rec.topk"}


class RankingCollector(Collector):
    """Collects what RecBole's does; where each row has one target, from the K best items alone.

    RecBole marks the targets in a matrix as large as the scores, sums it and looks the best items up in it; one
    comparison says the same.
    """

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        """Take in a batch: scores (B, I), and the row and item of each target."""
        needed = {kind for kind in KINDS if self.register.need(kind)}
        rows = torch.arange(len(scores_tensor), device=positive_u.device)
        if needed - BY_BEST_ITEMS or not torch.equal(positive_u, rows):
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        best_BK = scores_tensor.topk(max(self.topk), dim=-1).indices
        if "rec.items" in needed:
            self.data_struct.update_tensor("rec.items", best_BK)
        if "rec.topk" in needed:
            hit_BK = (best_BK == positive_i.to(best_BK.device)[:, None]).long()
            self.data_struct.update_tensor("rec.topk", torch.cat([hit_BK, torch.ones_like(hit_BK[:, :1])], 1))

    def get_data_struct(self):
        """What was collected for every target, of all processes."""
        found = self.data_struct._data_dict
        found |= parallel.put_together({kind: found[kind] for kind in KINDS if kind in found})
        return super().get_data_struct()
