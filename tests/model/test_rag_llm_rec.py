"""RAGLLMRec: what it may retrieve and what it must not, and that it is HierLLMRec where retrieval says nothing."""

import copy
import json
import shutil

import carousel
import pandas as pd
import pytest
import torch
from carousel import N_ITEMS, TINY, house, trained, write_carousel
from recbole.data.interaction import Interaction
from tiny_llm import WORDS, write_tiny_llm
from torch.nn import functional as F

from recbole_llm.data.parts import ROW_END
from recbole_llm.errors import ArtifactError, SettingError
from recbole_llm.evaluation.ranks import ranks_of
from recbole_llm.model import base, checkpoint, retrieval
from recbole_llm.model.layout import Layout
from recbole_llm.model.rag_fusion import Gated, MemoryFusion, interpolated
from recbole_llm.train import run as road
from recbole_llm.train.build import configured, known_to, restore, split
from recbole_llm.train.resume import LAST
from recbole_llm.train.trainer import trainer_for

ITEM_FUSIONS = ("gated", "cross_attn")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_carousel(tmp_path_factory.mktemp("rag"))


def rag(folder, fusion, **keys):
    if fusion == "prepend":
        keys = {"train_rows": "prefix", "rag_query": "mean_items"} | keys
    return house(folder, "RAGLLMRec", rag_fusion=fusion, rag_top_k=3, **keys)


def a_batch(world):
    return next(iter(world.test))[0]


# ---------------------------------------------------------------------- search


NOTHING = retrieval.HiddenRange(torch.zeros(20, dtype=torch.long), torch.zeros(20, dtype=torch.long))


def some(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_exact_search_is_what_a_loop_finds_in_chunks_of_any_size(monkeypatch):
    query, table = some(9, 4), some(30, 4)
    for similarity in ("cosine", "l2"):
        for cells in (1, 70, 10**6):
            monkeypatch.setattr(retrieval, "CELLS", cells)
            like, row = retrieval.Exact(table, similarity).nearest(query, 5, NOTHING)
            for one in range(9):
                alone = F.cosine_similarity(query[one][None], table)
                if similarity == "l2":
                    alone = -(query[one] - table).pow(2).sum(1)
                assert row[one].tolist() == alone.topk(5).indices.tolist()
                assert torch.allclose(like[one], alone.topk(5).values, atol=1e-5)


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
def test_under_autocast_a_search_finds_what_it_finds_without(similarity):
    query, table = some(9, 64), some(300, 64)
    index = retrieval.Exact(table, similarity)
    with torch.autocast("cpu", torch.bfloat16):
        under = retrieval.Exact(table, similarity).nearest(query, 20, NOTHING)
    assert all(map(torch.equal, under, index.nearest(query, 20, NOTHING)))


@pytest.mark.parametrize("query", ["user", "mean_items"])
def test_under_autocast_the_same_items_are_retrieved(folder, query):
    model = rag(folder, "gated", rag_query=query, head="tied").model.eval()
    items, length = torch.tensor([[3, 5, 7, 9], [2, 4, 0, 0]]), torch.tensor([4, 2])
    layout = Layout.of(length)
    user, like = model.pooled(layout.pack(items), layout), []
    for enabled in (False, True):
        model._kept.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model.retrieve_items(user, items, layout, base.Beside())
            like.append(model._kept["index"].table_MW)
    assert torch.equal(*like)


def test_under_autocast_the_bank_is_the_same(folder):
    model = rag(folder, "memory").model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        under = model.rows.bank(model, retrieval.Exact).sequence_MH
    assert torch.equal(under, model.rows.bank(model, retrieval.Exact).sequence_MH)


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
def test_exact_search_is_what_faiss_finds_in_all_lists_and_what_is_hidden_stays_so(similarity):
    pytest.importorskip("faiss")
    query, table = some(20, 8), some(400, 8)
    ours = retrieval.Exact(table, similarity)
    theirs = retrieval.InvertedLists(table, similarity, n_lists=4, n_probes=4)
    first = torch.arange(20) * 10
    ranges = retrieval.HiddenRange(first, first + 3)
    items = retrieval.HiddenItems(torch.stack([first, first + 1, first * 0], 1))
    for hidden in (NOTHING, ranges, items):
        (like, row), (their_like, their_row) = (each.nearest(query, 5, hidden) for each in (ours, theirs))
        assert torch.equal(row, their_row) and torch.allclose(like, their_like, atol=1e-4)
        assert not hidden.holds(row).any()


def test_large_tables_go_to_faiss_and_too_few_rows_for_its_lists_do_not(monkeypatch):
    pytest.importorskip("faiss")
    assert type(retrieval.index_over(some(500, 8), "cosine", 400, 4, 1)) is retrieval.InvertedLists
    assert type(retrieval.index_over(some(500, 8), "cosine", 600, 4, 1)) is retrieval.Exact
    assert type(retrieval.index_over(some(500, 8), "cosine", 400, 100, 1)) is retrieval.Exact
    monkeypatch.setattr(retrieval, "find_spec", lambda name: None)
    assert type(retrieval.index_over(some(500, 8), "cosine", 400, 4, 1)) is retrieval.Exact


@pytest.mark.parametrize("query", ["user", "mean_items", "last_item"])
@pytest.mark.parametrize("head", ["embed", "tied", "classifier"])
def test_neither_padding_nor_what_the_history_holds_is_retrieved(folder, query, head):
    score = "dot" if head == "classifier" else "cosine"
    model = rag(folder, "gated", rag_query=query, head=head, score=score).model.eval()
    items, length = torch.tensor([[3, 5, 7, 9], [2, 4, 0, 0]]), torch.tensor([4, 2])
    layout = Layout.of(length)
    user = model.pooled(layout.pack(items), layout)
    found, known = model.retrieve_items(user, items, layout, base.Beside())
    found, known = layout.pad(found), layout.pad(known)
    for row, position in ((0, 0), (0, 3), (1, 1)):
        assert known[row, position].all()
        assert not set(found[row, position].tolist()) & {0, *items[row, : position + 1].tolist()}
    loose = rag(folder, "gated", rag_query="last_item", exclude_history=False).model.eval()
    found, _ = loose.retrieve_items(user, items, layout, base.Beside())
    assert (found[:, 0] == layout.pack(items)).all(), "nearest to the last item is itself"


def test_where_all_but_a_few_items_are_seen_the_rest_is_marked_as_not_found(folder):
    model = house(folder, "RAGLLMRec", rag_top_k=5, MAX_ITEM_LIST_LENGTH=20).model.eval()
    items = torch.arange(1, N_ITEMS - 1)[None]  # two items are left
    layout = Layout.of(torch.tensor([items.shape[1]]), only_last=True)
    found, known = model.retrieve_items(
        model.pooled(layout.pack(items), layout), items, layout, base.Beside()
    )
    assert known.sum() == 2 and set(found[known].tolist()) == {N_ITEMS - 1, N_ITEMS}
    assert torch.isfinite(model(items, torch.tensor([items.shape[1]]))).all()


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_in_front_of_a_history_stands_what_was_found_and_no_more(folder, pooling):
    # two items are left for the first, three for the second
    items = torch.tensor([[*range(1, N_ITEMS - 1)], [*range(3, N_ITEMS), 0]])
    length, scores = (items > 0).sum(1), []
    for most in (3, 5, 50):
        keys = {"rag_query": "mean_items", "train_rows": "prefix", "rag_top_k": most}
        keys |= {"pool_user": pooling, "MAX_ITEM_LIST_LENGTH": 20, "rag_fusion": "prepend"}
        model = house(folder, "RAGLLMRec", **keys).model.eval()
        scores.append(model(items, length))
    assert torch.allclose(scores[0], scores[1], atol=1e-5) and torch.allclose(*scores[1:], atol=1e-5)
    alone = model(items[1:], length[1:])
    assert torch.allclose(scores[0][1:], alone, atol=1e-5)


# ---------------------------------------------------------------------- the bank


@pytest.mark.parametrize("rows", ["dense", "prefix"])
def test_the_bank_holds_every_training_target_once_with_what_came_next(folder, rows):
    world = rag(folder, "memory", train_rows=rows)
    bank, dataset = world.model.eval()._bank(), world.train._dataset
    targets = dataset.inter_feat[ROW_END]
    assert torch.equal(bank.place_M, targets.sort().values)
    assert torch.equal(bank.item_M, dataset.events["item_id"][bank.place_M])
    assert torch.equal(bank.user_M, dataset.events["user_id"][bank.place_M])
    held_out = [part._dataset.inter_feat[ROW_END] for part in (world.valid, world.test)]
    assert not torch.isin(torch.cat(held_out), bank.place_M).any()


@pytest.mark.parametrize("rows", ["dense", "prefix"])
def test_nobody_is_shown_what_the_same_user_did_at_that_place_or_later(folder, rows):
    world = rag(folder, "memory", train_rows=rows)
    model = world.model.eval()
    bank, asked = model._bank(), 0
    batch = next(iter(world.train))
    layout = Layout.of(batch["item_length"], only_last=rows == "prefix")
    beside = model.beside(batch)
    user = model.pooled(layout.pack(batch["item_id_list"]), layout)
    model.settings.__dict__["rag_top_k"] = len(bank)  # all there are, so that nothing escapes
    like, row = model.recall(user, layout, beside)
    from recbole_llm.model.memory import next_places

    users, places = next_places(layout, beside.user_B, beside.end_B)
    for one in range(len(users)):
        found = row[one][like[one] > retrieval.UNLIKE]
        mine = bank.user_M[found] == users[one]
        assert (bank.place_M[found][mine] < places[one]).all()
        hidden = int(((bank.user_M == users[one]) & (bank.place_M >= places[one])).sum())
        assert len(found) == len(bank) - hidden
        asked += hidden
    assert asked, "there was something to hide"


def test_a_bank_of_some_is_drawn_by_the_seed(folder):
    world = rag(folder, "memory", bank_size=50)
    first, second = (world.model.eval().rows.bank(world.model, retrieval.Exact) for _ in range(2))
    assert len(first) == 50 and torch.equal(first.place_M, second.place_M)
    assert (first.place_M.diff() > 0).all()


@pytest.mark.parametrize("most", [50, 10**6])
def test_the_bank_does_not_depend_on_how_the_windows_of_an_epoch_are_cut(folder, most):
    world = rag(folder, "memory", bank_size=most, window_shift=True, MAX_ITEM_LIST_LENGTH=4)
    model, windows, banks = world.model.eval(), world.train._dataset.windows, []
    for epoch in (0, 3):
        windows.cut(epoch)
        before = windows.start
        banks.append(model.rows.bank(model, retrieval.Exact))
        assert windows.start is before, "training goes on with its own"
    assert torch.equal(banks[0].place_M, banks[1].place_M)
    assert torch.equal(banks[0].sequence_MH, banks[1].sequence_MH)


@pytest.mark.parametrize("most", [50, 10**6])
def test_the_bank_of_windows_is_that_of_prefix_rows(folder, most):
    keys = {"bank_size": most, "MAX_ITEM_LIST_LENGTH": 4}
    first, second = (
        rag(folder, "memory", train_rows=rows, **keys).model.eval() for rows in ("dense", "prefix")
    )
    second.load_state_dict(first.state_dict())
    dense, prefix = first._bank(), second._bank()
    for name in ("sequence_MH", "item_M", "user_M", "place_M"):
        assert torch.equal(getattr(dense, name), getattr(prefix, name)), name
    assert first.rows.dataset.windows is not None, "training goes on with windows"


@pytest.mark.parametrize("rows", ["dense", "prefix"])
def test_situations_that_were_drawn_are_read_alone(folder, rows):
    world, read = rag(folder, "memory", bank_size=5, train_rows=rows), []
    whole = world.model.pooled
    world.model.pooled = lambda item_T, layout: read.append(layout.batch) or whole(item_T, layout)
    assert len(world.model.eval()._bank()) == sum(read) == 5


@pytest.mark.parametrize("rows", ["dense", "prefix"])
def test_nobody_is_shown_what_he_did_later_where_some_items_were_made_new(folder, rows):
    world = rag(folder, "memory", train_rows=rows, cold_share=0.2)
    model, dataset = world.model.eval(), world.train._dataset
    bank = model._bank()
    assert dataset.cold.any() and not dataset.cold[bank.item_M].any()
    whole = world.test._dataset  # counts all events
    assert torch.equal(whole.events["item_id"][bank.place_M], bank.item_M)
    assert torch.equal(whole.events["user_id"][bank.place_M], bank.user_M)
    model.settings.__dict__["rag_top_k"] = len(bank)
    for training, loader in ((True, world.train), (False, world.valid)):
        batch = next(iter(loader))
        batch = batch if training else batch[0]
        layout, beside = Layout.of(batch["item_length"], only_last=True), model.beside(batch)
        user = model.pooled(layout.pack(batch["item_id_list"]), layout)
        model.training, model.bank = training, bank
        like, row = model.recall(user, layout, beside)
        model.eval()
        place = dataset.among_all(beside.end_B) if training else beside.end_B
        for one in range(len(user)):
            found = row[one][like[one] > retrieval.UNLIKE]
            mine = bank.user_M[found] == beside.user_B[one]
            assert (bank.place_M[found][mine] < place[one]).all()
            hidden = (bank.user_M == beside.user_B[one]) & (bank.place_M >= place[one])
            assert len(found) == len(bank) - hidden.sum()


@pytest.mark.parametrize("fusion", ["memory", "knn_interp"])
def test_a_history_of_nobody_in_the_data_set_can_be_ranked(folder, fusion):
    world = rag(folder, fusion)
    items, length = torch.tensor([[3, 5, 7]]), torch.tensor([3])
    assert torch.isfinite(world.model.eval()(items, length)).all()
    history = Interaction({"item_id_list": items, "item_length": length})
    assert torch.isfinite(world.model.full_sort_predict(history)).all()


@pytest.mark.parametrize("fusion", ["memory", "knn_interp"])
def test_situations_need_the_order_of_events(folder, fusion):
    with pytest.raises(SettingError, match="which only rows kept as offsets know; set history_as_offsets"):
        rag(folder, fusion, history_as_offsets=False, train_rows="prefix")


@pytest.mark.parametrize("fusion", ["memory", "knn_interp"])
def test_a_model_that_is_taken_up_again_ranks_as_its_report_says(folder, tmp_path, fusion):
    words = [*WORDS, "Title", "Horse", "number", ":", ".", *map(str, range(N_ITEMS))]
    encoder = write_tiny_llm(tmp_path / "encoder", "bert", words)
    keys = known_to("RAGLLMRec", "carousel", TINY) | {"epochs": 3, "eval_step": 1, "lambda_knn": 0.5}
    keys |= {"data_path": folder, "artifact_path": tmp_path, "run_path": tmp_path, "text_encoder": encoder}
    keys |= {"rag_fusion": fusion, "bank_size": 40, "text_max_tokens": 16, "MAX_ITEM_LIST_LENGTH": 4}
    named = {"model": "RAGLLMRec", "dataset": "carousel"} | keys
    run = road.main([f"--{key}={value}" for key, value in named.items()])
    reported = pd.read_parquet(run / "ranks.parquet").set_index("user")["rank"]
    model, train_set = restore(run)
    *_, test_set = split(configured(json.loads((run / "settings.json").read_text())))
    rows = test_set[torch.arange(len(test_set))]
    rank = ranks_of(model.full_sort_predict(rows), torch.arange(len(rows)), rows["item_id"])
    tokens = train_set.id2token("user_id", rows["user_id"].numpy())
    assert dict(zip(tokens, rank.tolist(), strict=True)) == reported.to_dict()


def test_the_bank_of_training_is_renewed_as_often_as_asked_and_that_of_ranking_always(folder):
    world = rag(folder, "memory", rebuild_every=2)
    model, batch = world.model, next(iter(world.train))
    built = []
    for epoch in range(4):
        model.epoch = epoch
        model.train()
        model.calculate_loss(batch)
        built.append(model.bank.epoch)
        model.eval()
        model.full_sort_predict(a_batch(world))
        assert model._bank().epoch == epoch
    assert built == [0, 0, 2, 2]


def test_a_report_says_what_the_bank_was(folder):
    model = rag(folder, "memory", bank_size=50).model.eval()
    assert model.remarks() == ()
    model.full_sort_predict(a_batch(rag(folder, "memory")))
    (said,) = model.remarks()
    assert said == "it ranked with a bank of 50 situations, built from the weights that ranked"


@pytest.mark.parametrize(("stop_after", "every"), [(2, 1), (1, 2), (2, 2)])
def test_a_resumed_training_goes_on_with_the_bank_that_it_had_or_not_at_all(
    folder, tmp_path, monkeypatch, stop_after, every
):
    monkeypatch.setattr(carousel, "NOISY", {"dropout": 0.2, "eval_step": 1, "stopping_step": 50})
    keys = {"model": "RAGLLMRec", "rag_fusion": "memory", "rebuild_every": every}
    trained(folder, tmp_path / "stopped", 5, stop_after=stop_after, **keys)
    last = tmp_path / "stopped" / LAST
    if (stop_after + 1) % every:
        with pytest.raises(
            SettingError, match="resume: epoch 3 goes on with the bank of epoch 2, whose weights"
        ):
            trained(folder, tmp_path / "stopped", 5, resume=last, **keys)
        return
    resumed = trained(folder, tmp_path / "stopped", 5, resume=last, **keys)
    whole = trained(folder, tmp_path / "whole", 5, **keys)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight), name


def test_a_report_says_how_old_the_banks_of_training_were(folder):
    model = rag(folder, "memory", bank_size=50, rebuild_every=3).model.eval()
    model._bank()
    assert model.remarks()[0].endswith(", and was trained with banks of up to 3 epochs before")


def test_a_copy_of_the_model_shares_the_training_rows(folder):
    model = rag(folder, "memory").model
    assert copy.deepcopy(model).rows is model.rows


# ---------------------------------------------------------------------- fusions


def plain(folder, **keys):
    return house(folder, "HierLLMRec", **keys)


@pytest.mark.parametrize("fusion", ["gated", "cross_attn", "memory", "none"])
def test_a_gate_of_one_gives_the_scores_without_retrieval(folder, fusion):
    world, without = rag(folder, fusion), plain(folder)
    world.model.load_state_dict(without.model.state_dict(), strict=False)
    if fusion == "gated":
        torch.nn.init.constant_(world.model.fusion.gate.bias, 1e4)
    scores = [w.model.eval().full_sort_predict(a_batch(w)) for w in (world, without)]
    assert torch.allclose(*scores, atol=1e-5)


def test_no_share_for_the_situations_gives_the_scores_without_them(folder):
    world, without = rag(folder, "knn_interp", lambda_knn=0.0), plain(folder)
    world.model.load_state_dict(without.model.state_dict())
    batch = a_batch(world)
    assert torch.allclose(
        world.model.eval().full_sort_predict(batch), without.model.eval().full_sort_predict(batch)
    )
    assert torch.allclose(world.model.predict(batch), without.model.predict(batch))


def test_interpolation_by_hand():
    score, like, item = (
        torch.tensor([[0.0, 0.0, 1.0986123]]),
        torch.tensor([[0.0, 0.0]]),
        torch.tensor([[1, 2]]),
    )
    chance = interpolated(score, like, item, 0.5, 1.0).exp()
    assert torch.allclose(chance, torch.tensor([[0.1, 0.35, 0.55]]))
    nothing = torch.full((1, 2), retrieval.UNLIKE)
    alone = interpolated(score, nothing, item, 0.5, 1.0)
    assert torch.allclose(alone.softmax(1), score.softmax(1))


def test_the_gate_by_hand():
    gate = Gated(2, "mean")
    with torch.no_grad():
        gate.project.weight.copy_(torch.eye(2))
        gate.gate.weight.zero_()
        gate.gate.bias.fill_(torch.tensor(3.0).log())  # a gate of 3/4
    found = torch.tensor([[[5.0, 1.0], [3.0, 1.0], [1.0, 50.0]]])  # the mean of the first two is (4, 1)
    known, user = torch.tensor([[True, True, False]]), torch.tensor([[-1.0, 1.0]])
    assert torch.allclose(gate(user, found, known), torch.tensor([[-0.75 + 0.25, 0.75 - 0.25]]), atol=1e-4)
    assert torch.equal(gate(user, found, ~known & known), user), "nothing found, nothing mixed in"


@pytest.mark.parametrize("fusion", ["gated", "cross_attn", "memory"])
def test_what_is_fused_does_not_depend_on_the_spread_of_the_table(folder, fusion):
    scores = []
    for spread in (1.0, 0.02):
        world = rag(folder, fusion, table_spread=spread)
        torch.manual_seed(1)
        for weight in world.model.fusion.parameters():  # some start at zero, and would say nothing
            torch.nn.init.normal_(weight, std=0.3)
        scores.append(world.model.eval().full_sort_predict(a_batch(world))[:, 1:])
    assert torch.allclose(*scores, atol=2e-3)


def test_the_share_mixed_in_is_what_the_gate_says(folder):
    world = rag(folder, "gated", table_spread=0.02)
    model, seen = world.model.eval(), {}
    torch.nn.init.zeros_(model.fusion.gate.weight)
    model.fusion.register_forward_hook(lambda _, given, made: seen.update(user=given[0], fused=made))
    model.full_sort_predict(a_batch(world))
    gate = torch.sigmoid(torch.tensor(3.0))
    said = seen["fused"] - gate * seen["user"]
    assert torch.allclose(
        said.norm(dim=1) / seen["user"].norm(dim=1), (1 - gate) / gate.new_ones(1), atol=1e-3
    )


def test_alpha_of_one_leaves_the_user_alone_and_beta_chooses_the_channel():
    torch.manual_seed(0)
    user, sequence, target = torch.randn(2, 4), torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    known = torch.ones(2, 3, dtype=torch.bool)
    memory = MemoryFusion(4, 1.0, 0.5, 0.0).eval()
    for weight in memory.parameters():
        torch.nn.init.normal_(weight)
    assert torch.allclose(memory(user, sequence, target, known), user)
    memory.alpha, memory.beta = 0.0, 1.0
    assert torch.allclose(
        memory(user, sequence, target, known), memory.by_sequence(user, sequence, target, known)
    )
    memory.beta = 0.0
    assert torch.allclose(
        memory(user, sequence, target, known), memory.by_target(user, target, sequence, known)
    )


@pytest.mark.parametrize("fusion", ["gated", "cross_attn", "prepend", "memory", "knn_interp"])
def test_every_fusion_learns_the_carousel(folder, fusion):
    world = rag(folder, fusion, epochs=25, eval_step=25, average_decay="None")
    trainer = trainer_for(world.config, world.model)
    trainer.fit(world.train, world.valid, verbose=False, saved=True)
    assert trainer.evaluate_both_ways(world.test).unmasked["recall@1"] > 0.9


@pytest.mark.parametrize("fusion", ["gated", "cross_attn", "prepend", "memory"])
def test_retrieval_learns(folder, fusion):
    world = rag(folder, fusion)
    model = world.model
    for weight in model.parameters():  # some start at zero, and block what stands before them
        torch.nn.init.normal_(weight, std=0.1)
    model.calculate_loss(next(iter(world.train))).backward()
    new = [p for name, p in model.named_parameters() if name.startswith(("fusion", "retrieved_type"))]
    if fusion == "memory":  # beta is 1: the second channel is left out
        new = list(model.fusion.by_sequence.parameters())
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in new if p.ndim > 1 or fusion == "prepend"
    )


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("fusion", ["gated", "cross_attn", "memory", "knn_interp"])
def test_the_vector_of_an_event_does_not_depend_on_later_ones(folder, fusion, pooling):
    world = rag(folder, fusion, pool_user=pooling)
    torch.manual_seed(1)
    for name, weight in world.model.named_parameters():  # some start at zero, and would say nothing
        if name.startswith("fusion"):
            torch.nn.init.normal_(weight, std=0.3)
    model, batch = world.model.eval(), next(iter(world.train))
    layout, beside = Layout.of(batch["item_length"]), model.beside(batch)
    changed = batch["item_id_list"].clone()
    last = batch["item_length"] - 1
    rows = torch.arange(len(changed))
    changed[rows, last] = changed[rows, last] % N_ITEMS + 1
    before, after = (
        layout.pad(model.encode(items, layout, beside)) for items in (batch["item_id_list"], changed)
    )
    earlier = torch.arange(layout.length) < last[:, None]
    assert torch.allclose(before[earlier], after[earlier], atol=1e-5) and earlier.any()
    assert not torch.allclose(before[rows, last], after[rows, last], atol=1e-3)


@pytest.mark.parametrize("fusion", ["gated", "cross_attn", "memory"])
def test_a_sampled_loss_retrieves_among_all_items_too(folder, fusion, monkeypatch):
    found = []
    for most in (0, 10**9):  # vectors of all items, or of those that the batch names where that is enough
        monkeypatch.setattr(base, "MOST", most)
        keys = {"loss": "ssm", "n_negatives": 2, "train_batch_size": 1, "MAX_ITEM_LIST_LENGTH": 4}
        world = rag(folder, fusion, **keys)
        world.model.eval()
        world.model.bank = world.model.rows.bank(world.model, retrieval.Exact) if fusion == "memory" else None
        torch.manual_seed(0)
        found.append(world.model.calculate_loss(next(iter(world.train))).item())
    assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize("fusion", ["gated", "cross_attn", "memory"])
def test_the_scores_do_not_depend_on_company(folder, fusion):
    world = rag(folder, fusion)
    batch = a_batch(world)
    scores = world.model.eval().full_sort_predict(batch)
    alone = torch.cat(
        [world.model.full_sort_predict(batch[torch.tensor([row])]) for row in range(len(batch))]
    )
    assert torch.allclose(alone, scores, atol=1e-5)


def test_random_items_stand_in_for_retrieved_ones_the_same_in_every_evaluation(folder):
    near, drawn = (rag(folder, "gated", rag_control=control) for control in ("none", "random"))
    for world in (near, drawn):
        torch.nn.init.constant_(world.model.fusion.gate.bias, -5.0)
    batch = a_batch(drawn)
    first, second = (drawn.model.eval().full_sort_predict(batch) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.allclose(first, near.model.eval().full_sort_predict(batch), atol=1e-2)


@pytest.mark.parametrize("fusion", ["gated", "prepend"])
def test_random_items_do_not_hang_on_the_batch_that_a_user_stands_in(folder, fusion):
    world = rag(folder, fusion, rag_control="random")
    if fusion == "gated":
        torch.nn.init.constant_(world.model.fusion.gate.bias, -5.0)
    model, batch = world.model.eval(), a_batch(world)
    together = model.full_sort_predict(batch)
    backwards = torch.arange(len(batch)).flip(0)
    alone = torch.cat([model.full_sort_predict(batch[row[None]]) for row in backwards])
    assert torch.allclose(alone.flip(0), together, atol=1e-5)
    other = rag(folder, fusion, rag_control="random")
    other.model.load_state_dict(model.state_dict())
    other.model.rows.seed += 1
    assert not torch.allclose(other.model.eval().full_sort_predict(batch), together, atol=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_random_items_are_none_of_the_history(folder, training):
    keys = {"rag_control": "random", "MAX_ITEM_LIST_LENGTH": 20}
    model = rag(folder, "gated", **keys).model.train(training)
    items = torch.arange(1, N_ITEMS - 1)[None].repeat(50, 1)  # two items are left
    layout = Layout.of(torch.full((50,), items.shape[1]), only_last=True)
    found, known = model.retrieve_items(
        model.pooled(layout.pack(items), layout), items, layout, base.Beside()
    )
    assert (known.sum(1) == 2).all() and set(found[known].tolist()) == {N_ITEMS - 1, N_ITEMS}
    alone, somebody = (
        torch.ones(200, 1, dtype=torch.long),
        base.Beside(None, None, *torch.arange(400).view(2, 200)),
    )
    layout = Layout.of(torch.ones(200, dtype=torch.long), only_last=True)
    found, known = model.retrieve_items(model.pooled(layout.pack(alone), layout), alone, layout, somebody)
    assert known.all() and set(found.flatten().tolist()) == set(range(2, N_ITEMS + 1)), "each may be drawn"


# ---------------------------------------------------------------------- starting from a trained model


def test_it_starts_from_a_trained_model(folder, tmp_path):
    trained, place = plain(folder, epochs=3, eval_step=3), tmp_path / "checkpoint" / "best.safetensors"
    told = {"other_parameter": trained.model.other_parameter()}
    checkpoint.save(place, trained.model.state_dict(), told)
    world = rag(folder, "gated", start_from=str(tmp_path))
    torch.nn.init.constant_(world.model.fusion.gate.bias, 1e4)
    batch = a_batch(world)
    assert torch.allclose(
        world.model.eval().full_sort_predict(batch), trained.model.eval().full_sort_predict(batch), atol=1e-5
    )
    with pytest.raises(ArtifactError, match="holds a model of another shape"):
        rag(folder, "gated", start_from=str(tmp_path), hidden_size=8)
    with pytest.raises(ArtifactError, match="holds another model"):
        rag(folder, "gated", start_from=str(tmp_path), n_layers=2)
    told["other_parameter"]["text_fingerprints"]["title"] = "of another text"
    checkpoint.save(place, trained.model.state_dict(), told)
    with pytest.raises(ArtifactError, match="trained with of another text as `title`"):
        rag(folder, "gated", start_from=str(tmp_path))
    with pytest.raises(SettingError, match="start_from: no folder nowhere"):
        rag(folder, "gated", start_from="nowhere")


def test_a_run_is_taken_up_again_without_the_model_that_it_started_from(folder, tmp_path):
    keys = known_to("RAGLLMRec", "carousel", TINY) | {"data_path": folder, "run_path": tmp_path, "epochs": 2}
    keys |= {"artifact_path": tmp_path, "text_encoder": "nobody/has-this-model"}

    def run(model, **more):
        named = {"model": model, "dataset": "carousel", "run_name": model} | keys | more
        return road.main([f"--{key}={value}" for key, value in named.items()])

    first = run("HierLLMRec")
    second = run("RAGLLMRec", start_from=first)
    shutil.rmtree(first)
    restore(second)
    assert road.main([f"--resume={second}", "--epochs=3"]) == second
    with pytest.raises(SettingError, match="start_from: no folder"):
        run("RAGLLMRec", start_from=first, run_name="third")


@pytest.mark.parametrize(
    ("fusion", "keys", "message"),
    [
        ("prepend", {"train_rows": "dense"}, "prepend retrieves once for a whole history"),
        (
            "prepend",
            {"start_from": "a", "rec_llm": "sasrec"},
            "sasrec has a vector for each position, and rag_fusion",
        ),
        ("prepend", {"rag_query": "user"}, "prepend retrieves before the history is read"),
        (
            "gated",
            {"rag_similarity": "l2", "head": "classifier", "score": "dot"},
            "distances mean nothing; set rag_similarity: cosine",
        ),
        (
            "gated",
            {"rag_similarity": "l2"},
            "l2 ranks as cosine does where rag_query: user and score: cosine",
        ),
        ("gated", {"lambda_knn": 1.5}, "config key `lambda_knn` is 1.5, expected from 0 to 1"),
        (
            "memory",
            {"rag_control": "random"},
            "random draws items, but rag_fusion: memory recalls situations",
        ),
        ("memory", {"rag_query": "last_item"}, "rag_query: last_item is of items that are retrieved"),
        ("knn_interp", {"rag_similarity": "l2"}, "recalls situations; set rag_similarity: cosine"),
        (
            "memory",
            {"item_llm_mode": "full", "loss": "nce"},
            "would read every item's text at every step, for rag_fusion: memory looks among all items",
        ),
        ("gates", {}, "config key `rag_fusion` is 'gates', expected one of gated, cross_attn, prepend"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_a_sentence(folder, fusion, keys, message):
    with pytest.raises(SettingError) as refusal:
        rag(folder, fusion, **keys)
    assert message in str(refusal.value)
