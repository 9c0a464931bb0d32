"""An even layout packs a round number of events, and no reader from left to right is told of it."""

import pytest
import torch
from carousel import house, write_carousel
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.model import base, dense
from recbole_llm.model.layout import Layout, evened, rounded, so_far


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_lengths_are_evened_within_their_parts(lengths):
    length_B = torch.tensor(lengths).sort().values
    found_B, missing = evened(length_B, 4), rounded(sum(lengths)) - sum(lengths)
    parts = [part for part in length_B.tensor_split(4) if len(part)]
    room = sum(int((part[-1] - part).sum()) for part in parts)
    assert int((found_B - length_B).sum()) == min(missing, room)
    assert (found_B >= length_B).all() and torch.equal(found_B, found_B.sort().values)
    ends = [int(part[-1]) for part in parts for _ in part]
    assert (found_B <= torch.tensor(ends)).all()


def test_so_far_is_what_stands_up_to_each_event():
    items = torch.tensor([[4, 7, 2], [9, 5, 0]])
    layout = Layout.of(torch.tensor([3, 2]))
    found = so_far(items, *layout.asked)
    assert {tuple(row) for row in found.tolist()} == {(9, 0, 0), (9, 5, 0), (4, 0, 0), (4, 7, 0), (4, 7, 2)}
    assert torch.equal(found.gather(1, layout.position_T[:, None]).squeeze(1), layout.pack(items))
    assert torch.equal(so_far(items, *Layout.of(torch.tensor([3, 2]), only_last=True).asked), items)


def test_few_round_numbers_are_near_to_all():
    found = [rounded(count) for count in range(1, 10_000)]
    assert all(count <= near <= count * 33 / 32 for count, near in enumerate(found, 1))
    assert found[:64] == list(range(1, 65)) and len(set(found)) < 400


def test_an_even_layout_knows_the_last_events_and_the_lengths():
    length_B = torch.tensor([30, 7, 41, 41, 12, 3, 25, 40])
    plain, even = Layout.of(length_B), Layout.of(length_B, even=True)
    assert (len(plain.place_T), len(even.place_T)) == (199, 200)
    place_BL = torch.arange(8 * 41).view(8, 41)
    assert torch.equal(plain.pack(place_BL)[plain.last_B], even.pack(place_BL)[even.last_B])
    assert torch.equal(even.length_B, length_B) and torch.equal(even.row_T, even.pack(place_BL) // 41)
    for part in even.parts:
        assert torch.equal(part.length_B, part.length_B.sort().values), (
            "the parts keep the order of the whole"
        )


MODELS = {
    "LLMSeqRec": {"dropout": 0.0, "adaptor_dropout": 0.0},
    "SASRec": {"train_rows": "dense", "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0},
    "HierLLMRec": {"input_dropout": 0.0, "dropout": 0.0},
}


@pytest.mark.parametrize("model", MODELS)
def test_a_loss_and_its_gradients_are_those_of_the_plain_layout(tmp_path, monkeypatch, model):
    write_carousel(tmp_path)
    world = house(tmp_path, model, enable_amp=False, train_batch_size=40, **MODELS[model])
    batch, found, counts = next(iter(world.train)), [], []
    monkeypatch.setattr(Layout, "pack", counted(Layout.pack, counts))
    for is_even in (False, True):
        for room in (base, dense):
            monkeypatch.setattr(room, "is_even", lambda device, said=is_even: said)
        world.model.zero_grad()
        torch.manual_seed(0)  # the gates of the experts are noisy
        loss = world.model.train().calculate_loss(batch)
        loss.backward()
        found.append([loss, *(p.grad for p in world.model.parameters() if p.grad is not None)])
    assert len(set(counts)) == 2, "nothing was evened"
    for plain, even in zip(*found, strict=True):
        torch.testing.assert_close(even, plain, rtol=1e-4, atol=1e-6)


def counted(pack, counts):
    def packed(layout, padded_BL):
        if layout.parts:
            counts.append(len(layout.place_T))
        return pack(layout, padded_BL)

    return packed
