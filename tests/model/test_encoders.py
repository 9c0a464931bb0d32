"""Packing, biases and intervals by hand; every variant of the encoder is causal and does not see padding."""

from dataclasses import dataclass

import pytest
import torch

from recbole_llm.model.attention import AttentionBias, IntervalTables, mix, time_bucket
from recbole_llm.model.encoders import LiGREncoder, SASRecEncoder
from recbole_llm.model.layout import Layout


@dataclass
class Sizes:
    hidden_size: int = 8
    n_layers: int = 2
    n_heads: int = 2
    inner_multiplier: int = 2
    dropout: float = 0.0
    attention_dropout: float = 0.0
    position: str = "learned"
    time_mode: str = "none"
    time_unit: float = 1.0
    max_interval: int = 6


VARIANTS = [
    *({"position": position} for position in ("learned", "rotary", "relative", "none")),
    {"time_mode": "bias"},
    {"time_mode": "tisasrec"},
]


def test_packing_and_padding_by_hand():
    layout = Layout.of(torch.tensor([2, 3, 1]))
    padded = torch.tensor([[1, 2, 0, 0], [3, 4, 5, 0], [6, 0, 0, 0]])
    assert layout.pack(padded).tolist() == [6, 1, 2, 3, 4, 5]  # the shortest history first
    assert layout.position_T.tolist() == [0, 0, 1, 0, 1, 2]
    assert layout.last_B.tolist() == [2, 5, 0]
    assert layout.pad(layout.pack(padded)).tolist() == padded[:, :3].tolist()
    assert [(part.batch, part.length) for part in layout.parts] == [(1, 1), (1, 2), (1, 3)]


@pytest.mark.parametrize("position", ["rotary", "learned"])
def test_histories_of_like_length_are_mixed_as_all_at_once_would(position):
    torch.manual_seed(0)
    encoder = LiGREncoder(Sizes(position=position), 9).eval()
    lengths = torch.tensor([3, 9, 1, 7, 7, 2, 5])
    events, layout = torch.randn(34, 8), Layout.of(lengths)
    whole = Layout.of(lengths, n_parts=1)
    assert len(layout.parts) == 4 and not whole.parts
    assert torch.allclose(encoder(events, layout, None), encoder(events, whole, None), atol=1e-6)


@pytest.mark.parametrize("encoder_class", [LiGREncoder, SASRecEncoder])
@pytest.mark.parametrize("variant", [{}, {"time_mode": "bias"}, {"n_layers": 1, "position": "rotary"}])
def test_the_last_events_alone_are_what_they_are_among_all(encoder_class, variant):
    torch.manual_seed(0)
    encoder = encoder_class(Sizes(**variant), 9).eval()
    lengths = torch.tensor([3, 9, 1, 7])
    events, elapsed_BL = torch.randn(20, 8), torch.arange(9).repeat(4, 1)
    layout = Layout.of(lengths)
    alone = encoder(events, Layout.of(lengths, only_last=True), elapsed_BL)
    assert torch.allclose(alone, encoder(events, layout, elapsed_BL)[layout.last_B], atol=1e-6)


def test_time_buckets_by_hand():
    gaps = torch.tensor([0, 1, 3, 7, -3, 2**40])
    assert time_bucket(gaps, 1.0).tolist() == [0, 2, 4, 6, 4, 63]
    assert time_bucket(torch.tensor([60]), 60.0).tolist() == [2]


def test_the_bias_is_the_table_of_distances_and_gaps():
    bias = AttentionBias(1, 4, time_unit=1.0)
    bias.by_distance.data = torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    bias.by_gap.data[:, 0] = torch.arange(64.0)
    found = bias(Layout.of(torch.tensor([3])), torch.tensor([[0, 1, 4]]))[0, 0]
    assert found[2].tolist() == [30 + 4, 20 + 4, 10]  # gaps 4, 3, 0: buckets int(2 log2(5)) = 4, 4, 0
    assert found[0, 1] < -1e30 and found[1, 2] < -1e30


def test_intervals_are_counted_in_the_users_shortest_step():
    tables = IntervalTables(1, max_interval=6)
    tables.key.weight.data = torch.arange(7.0)[:, None]
    key, _ = tables(Layout.of(torch.tensor([4, 2])), torch.tensor([[0, 2, 2, 100], [0, 5, 0, 0]]))
    assert key[0, 3, :, 0].tolist() == [6, 6, 6, 0]  # 50, 49, 49 steps of 2, clipped to 6
    assert key[0, 1, :2, 0].tolist() == [1, 0]
    assert key[1, 1, :2, 0].tolist() == [1, 0]  # one step of 5


def test_attention_with_dropout_keeps_the_mean_and_drops_nothing_at_a_rate_near_none():
    torch.manual_seed(0)
    layout, events = Layout.of(torch.tensor([5, 3])), torch.randn(8, 3, 2, 4)
    whole = mix(events, layout)
    assert torch.allclose(mix(events, layout, dropout=1e-9), whole, atol=1e-6)
    mean = torch.stack([mix(events, layout, dropout=0.4) for _ in range(4000)]).mean(0)
    assert (mean - whole).abs().max() < 0.08


def test_intervals_do_not_know_the_times_to_come():
    tables = IntervalTables(1, max_interval=60)
    tables.key.weight.data = torch.arange(61.0)[:, None]
    layout = Layout.of(torch.tensor([4]))
    slow, fast = (tables(layout, torch.tensor([[0, 4, 12, last]]))[0][0, :, :, 0].tril() for last in (50, 13))
    assert slow[:3].tolist() == fast[:3].tolist()
    assert slow[3].tolist() == [12, 11, 9, 0] and fast[3].tolist() == [13, 9, 1, 0]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_an_event_depends_on_itself_and_the_past_alone(variant):
    torch.manual_seed(0)
    encoder = LiGREncoder(Sizes(**variant), 6).eval()
    for parameter in encoder.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    layout, elapsed = Layout.of(torch.tensor([5, 2])), torch.tensor([[0, 2, 3, 9, 20], [0, 4, 0, 0, 0]])
    events = torch.randn(7, 8)
    before = encoder(events, layout, elapsed)
    events[5] += 1.0  # the fourth event of the first history, which is packed behind the shorter one
    after = encoder(events, layout, elapsed)
    assert torch.allclose(before[2:5], after[2:5], atol=1e-6)
    assert torch.allclose(before[:2], after[:2], atol=1e-6), "another user's events changed"
    assert (before[5:] - after[5:]).abs().amax(1).min() > 1e-4, (
        "the changed event and those after it must move"
    )


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_company_in_the_batch_does_not_matter(variant):
    torch.manual_seed(0)
    encoder = LiGREncoder(Sizes(**variant), 6).eval()
    events, elapsed = torch.randn(7, 8), torch.tensor([[0, 2, 3, 9, 20], [0, 4, 0, 0, 0]])
    together = encoder(events, Layout.of(torch.tensor([5, 2])), elapsed)[:2]
    assert torch.allclose(encoder(events[:2], Layout.of(torch.tensor([2])), elapsed[1:]), together, atol=1e-6)


@pytest.mark.parametrize("mode", ["bias", "tisasrec"])
def test_times_change_what_the_encoder_says(mode):
    torch.manual_seed(0)
    encoder = LiGREncoder(Sizes(time_mode=mode), 6).eval()
    for parameter in encoder.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    events, layout = torch.randn(3, 8), Layout.of(torch.tensor([3]))
    slow, fast = (encoder(events, layout, torch.tensor([times])) for times in ([0, 900, 1000], [0, 1, 3]))
    assert not torch.allclose(slow[2], fast[2], atol=1e-4)


def test_rotary_positions_are_relative():
    encoder = LiGREncoder(Sizes(position="rotary", n_layers=1), 6).eval()
    query_key = torch.randn(2, 1, 1, 4)
    from recbole_llm.model.attention import _rotate

    near, far, apart = (_rotate(query_key, torch.tensor(places)) for places in ([0, 2], [7, 9], [0, 5]))
    dot = (near[0] * near[1]).sum()
    assert torch.allclose(dot, (far[0] * far[1]).sum(), atol=1e-5)
    assert not torch.allclose(dot, (apart[0] * apart[1]).sum(), atol=1e-3)
    assert encoder.position is None


def test_the_plain_encoder_is_causal_too():
    encoder = SASRecEncoder(Sizes(), 6).eval()
    events, layout = torch.randn(4, 8), Layout.of(torch.tensor([4]))
    before = encoder(events, layout, None)
    events[3] += 1.0
    assert torch.allclose(before[:3], encoder(events, layout, None)[:3], atol=1e-6)
