"""Packed batches: linear layers see the T real events of B histories, and only attention sees padding.

ml-1m's windows are 57 % full, and linear layers, gates and the loss are most of the work; packing leaves the empty
places out of them.

A training batch has another T at every step, and where oneDNN multiplies (bfloat16 on a processor), it writes a kernel
for every shape it meets: on a processor with AMX a quarter of a step's time. ``even`` makes shapes meet again.

Shapes: B batch, L longest history of the batch, T events of the batch (T <= B L).
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Layout:
    """Where the packed events stand in the padded batch: history by history, the shortest first."""

    place_T: torch.Tensor  # place of each event among the B * L places of the padded batch
    position_T: torch.Tensor  # its position in its history, from 0
    last_B: torch.Tensor  # packed place of each history's last event
    batch: int
    length: int
    parts: tuple = ()  # layouts of histories of like length, which together hold the packed events in their order
    asked_T: torch.Tensor | None = None  # packed places whose vectors an encoder is to give; None: all

    @classmethod
    def of(cls, length_B, n_parts=4, only_last=False, even=False):
        """The layout of histories of these lengths (each at least 1), which stand at the left of their rows.

        With ``only_last`` an encoder gives the vectors of their last events alone, (B, H), and spares work on the rest.
        With ``even`` some of the padding behind the histories is packed as if it were events, so that T is a round
        number; for readers from left to right, whose events do not see it.
        """
        real_B, order_B = length_B.sort(stable=True)
        length_B = evened(real_B, n_parts) if even else real_B
        longest = int(length_B[-1])
        position_L = torch.arange(longest, device=length_B.device)
        row_T, position_T = torch.nonzero(position_L < length_B[:, None], as_tuple=True)
        last_B = torch.empty_like(order_B).index_copy_(0, order_B, length_B.cumsum(0) - length_B + real_B - 1)
        parts = ()
        if n_parts > 1:
            parts = tuple(cls.of(part, n_parts=1) for part in length_B.tensor_split(n_parts) if len(part))
        asked_T = last_B if only_last else None
        place_T = order_B[row_T] * longest + position_T
        return cls(place_T, position_T, last_B, len(length_B), longest, parts, asked_T)

    @property
    def row_T(self):
        """The history of each event, by its row in the batch."""
        return self.place_T // self.length

    @property
    def asked(self):
        """The rows and the positions, (T,) each, of the events whose vectors are asked for."""
        return of_asked(self.row_T, self), of_asked(self.position_T, self)

    @property
    def length_B(self):
        """How many events each history has."""
        return self.position_T[self.last_B] + 1

    def pack(self, padded_BL):
        """(T, ...): the events of a padded (B, >= L, ...) tensor."""
        return padded_BL[:, : self.length].flatten(0, 1)[self.place_T]

    def pad(self, packed_T):
        """(B, L, ...): the packed events in their places, zeros elsewhere."""
        empty = packed_T.new_zeros(self.batch * self.length, *packed_T.shape[1:])
        return empty.index_copy(0, self.place_T, packed_T).view(self.batch, self.length, *packed_T.shape[1:])


def of_asked(packed_T, layout):
    """The rows of a packed (T, ...) tensor that belong to the events whose vectors the layout asks for."""
    return packed_T if layout.asked_T is None else packed_T[layout.asked_T]


def so_far(item_seq_BL, row_T, position_T):
    """(T, L): for events at these positions of these rows the items up to each, its own among them; zeros behind."""
    position_L = torch.arange(item_seq_BL.shape[1], device=item_seq_BL.device)
    return item_seq_BL[row_T].masked_fill(position_L > position_T[:, None], 0)


def evened(length_B, n_parts):
    """(B,) sorted lengths, some of them longer, so that they add up to a round number; sorted still.

    None becomes longer than the longest of its part, so that attention pads no more than before; where that does not
    leave enough room, the sum stays uneven.
    """
    total = int(length_B.sum())
    missing = rounded(total) - total
    room_B = torch.cat([part[-1:] - part for part in length_B.tensor_split(n_parts)])
    room_above_B = room_B.flip(0).cumsum(0).flip(0) - room_B  # the longest become longer first
    return length_B + (missing - room_above_B).clamp(min=0).minimum(room_B)


def rounded(count):
    """The next round number, of six binary digits and zeros: at most 1/32 more, and 32 of them to an octave."""
    grain = 1 << max(count.bit_length() - 6, 0)
    return -(-count // grain) * grain


def is_even(device):
    """Whether layouts for training on ``device`` should be ``even``: where products are in bfloat16 on a processor."""
    return device.type == "cpu" and torch.is_autocast_enabled("cpu")


@dataclass(frozen=True)
class FullLayout:
    """The layout in which every place is an event, so that packing is a mere change of shape; for export.

    What stands behind a history's last event is computed too; it cannot be seen from before it.
    """

    position_T: torch.Tensor
    batch: int
    length: int
    asked_T: torch.Tensor | None = None
    parts = ()

    @classmethod
    def of(cls, batch, length, device):
        """The layout of ``batch`` histories of ``length`` places each."""
        return cls(torch.arange(length, device=device).repeat(batch), batch, length)

    def pack(self, padded_BL):
        """(T, ...) of (B, L, ...)."""
        return padded_BL.flatten(0, 1)

    def pad(self, packed_T):
        """(B, L, ...) of (T, ...)."""
        return packed_T.unflatten(0, (self.batch, self.length))
