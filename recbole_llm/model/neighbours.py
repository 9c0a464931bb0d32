"""Users whose histories read alike, for LLM-ESR's self-distillation (https://arxiv.org/abs/2405.20646).

Shapes: U users with padding, B batch, L max history length, N users drawn, D text-vector size.
"""

import torch
import torch.nn.functional as F

from ..data.parts import ROW_END, histories

POOL = 100  # similar users kept per user, of which N are drawn for a batch


class Neighbours:
    """For each user the ``POOL`` users nearest by the mean text of their training histories, and those histories."""

    def __init__(self, similar_UP, item_seq_UL, length_U, count):
        self.similar_UP, self.item_seq_UL, self.length_U, self.count = (
            similar_UP,
            item_seq_UL,
            length_U,
            count,
        )

    @classmethod
    def of(cls, dataset, count):
        """The neighbours within the training part ``dataset``; users without a training row are nobody's neighbour."""
        user_U, end_U, length_U = _newest_rows(dataset)
        vectors_ID = torch.cat(
            [torch.as_tensor(field.vectors) for field in dataset.text_vectors.values()], 1
        ).float()
        item_seq_UL = torch.zeros(dataset.user_num, dataset.max_item_list_len, dtype=torch.long)
        item_N = dataset.events[dataset.iid_field]
        item_seq_UL[user_U] = histories(item_N, end_U, length_U, dataset.max_item_list_len)
        lengths = torch.zeros(dataset.user_num, dtype=torch.long)
        lengths[user_U] = length_U
        mean_UD = F.embedding_bag(item_seq_UL, vectors_ID, mode="mean", padding_idx=0)
        unit_UD = F.normalize(mean_UD, dim=1)
        pool = min(POOL, len(user_U) - 1)
        similar_UP = torch.zeros(dataset.user_num, pool, dtype=torch.long)
        for chunk in user_U.split(1024):
            likeness = unit_UD[chunk] @ unit_UD[user_U].t()
            likeness.masked_fill_(chunk[:, None] == user_U, -2.0)  # nobody is their own neighbour
            similar_UP[chunk] = user_U[likeness.topk(pool, 1).indices]
        return cls(similar_UP, item_seq_UL, lengths, min(count, pool))

    def draw(self, user_B):
        """The histories (B N, L) and lengths (B N,) of N similar users of each user, and N."""
        pool_BP = self.similar_UP.to(user_B.device)[user_B]
        chosen = torch.rand(pool_BP.shape, device=user_B.device).topk(self.count, 1).indices
        drawn = pool_BP.gather(1, chosen).flatten()
        return self.item_seq_UL.to(drawn.device)[drawn], self.length_U.to(drawn.device)[drawn], self.count


def _newest_rows(dataset):
    """The users of a training part with the end and length of each one's newest row."""
    rows = dataset.inter_feat
    order = torch.argsort(rows[ROW_END])
    user = rows[dataset.uid_field][order]
    newest = torch.cat([user[1:] != user[:-1], torch.ones(1, dtype=torch.bool)])
    chosen = order[newest]
    return user[newest], rows[ROW_END][chosen], rows[dataset.item_list_length_field][chosen]
