"""The session graphs against graphs worked by hand, and against the sessions taken one by one."""

import pytest
import torch

from recbole_llm.model.layout import Layout
from recbole_llm.model.session.graph import AFTER, BEFORE, BOTH, SELF, SessionGraph, softmax, sums


def graph_of(*sessions):
    """The graphs of these lists of item ids."""
    longest = max(map(len, sessions)) + 2  # RecBole pads to a fixed length
    seq_BL = torch.tensor([[*items, *[0] * (longest - len(items))] for items in sessions])
    layout = Layout.of(torch.tensor([len(items) for items in sessions]), only_last=True)
    return SessionGraph.of(seq_BL, layout), layout


def edges_of(graph):
    """{(session, item, next item): (share of what comes before the second, of what comes after the first)}."""
    shares = zip(graph.share_before_E.tolist(), graph.share_after_E.tolist(), strict=True)
    ends = zip(graph.from_E.tolist(), graph.to_E.tolist(), strict=True)
    item, session = graph.item_N.tolist(), graph.session_N.tolist()
    return {(session[a], item[a], item[b]): pair for (a, b), pair in zip(ends, shares, strict=True)}


def test_the_graph_of_the_paper_s_figure():
    """Items 1 2 3 2 4: after 2 come 3 and 4, before 2 stand 1 and 3."""
    graph, _ = graph_of([1, 2, 3, 2, 4])
    assert graph.item_N.tolist() == [1, 2, 3, 4] and graph.count_N.tolist() == [1, 2, 1, 1]
    assert graph.item_N[graph.last_B].tolist() == [4]
    assert edges_of(graph) == {
        (0, 1, 2): (0.5, 1.0),
        (0, 2, 3): (1.0, 0.5),
        (0, 3, 2): (0.5, 1.0),
        (0, 2, 4): (1.0, 0.5),
    }


def test_a_step_that_occurs_twice_is_one_edge_and_an_item_may_follow_itself():
    graph, _ = graph_of([5, 6, 5, 6, 6])
    assert edges_of(graph) == {(0, 5, 6): (0.5, 1.0), (0, 6, 5): (1.0, 0.5), (0, 6, 6): (0.5, 0.5)}


def test_a_session_of_one_item_has_one_node_and_no_edge():
    graph, _ = graph_of([7])
    assert graph.item_N.tolist() == [7] and graph.last_B.tolist() == [0] and edges_of(graph) == {}


def test_sessions_keep_the_batch_s_numbers_and_share_nothing():
    sessions = [[3, 1, 3], [2], [1, 2, 1, 1, 4], [4, 4]]
    graph, layout = graph_of(*sessions)
    assert graph.item_N.tolist() == [1, 3, 2, 1, 2, 4, 4]
    assert graph.session_N.tolist() == [0, 0, 1, 2, 2, 2, 3]
    assert graph.item_N[graph.last_B].tolist() == [3, 2, 4, 4]
    assert graph.length_B.tolist() == [3, 1, 5, 2]
    padded_BL = layout.pad(graph.item_N[graph.node_T])
    assert [row[: len(items)].tolist() for row, items in zip(padded_BL, sessions, strict=True)] == sessions
    alone = {}
    for number, items in enumerate(sessions):
        alone |= {(number, *ends): pair for (_, *ends), pair in edges_of(graph_of(items)[0]).items()}
    assert edges_of(graph) == alone


def test_relations_name_each_neighbour_once_by_what_it_is():
    graph, _ = graph_of([1, 2, 1, 3, 3], [4])
    item = graph.item_N.tolist()
    found = {
        (item[a], item[b]): kind
        for a, b, kind in zip(*(part.tolist() for part in graph.relations), strict=True)
    }
    assert found == {
        (1, 1): SELF,
        (2, 2): SELF,
        (3, 3): SELF,
        (4, 4): SELF,
        (1, 2): BOTH,
        (2, 1): BOTH,
        (1, 3): AFTER,
        (3, 1): BEFORE,
    }


@pytest.mark.parametrize("most", [1, 3, 100])
def test_pieces_are_whole_sessions_and_leave_none_out(most):
    graph, _ = graph_of([3, 1, 3], [2], [1, 2, 1, 1, 4], [4, 4])
    pieces = graph.pieces(most)
    for kind, count in enumerate((4, len(graph.item_N), len(graph.to_E))):
        places = [place for piece in pieces for place in range(count)[piece[kind]]]
        assert places == list(range(count))
    for _, nodes, edges in pieces:
        ends = torch.cat([graph.from_E[edges], graph.to_E[edges]])
        assert ((ends >= nodes.start) & (ends < nodes.stop)).all()


def test_sums_and_shares_of_segments():
    segment_K, vector_KH = torch.tensor([0, 0, 2]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert sums(vector_KH, segment_K, 3).tolist() == [[4, 6], [0, 0], [5, 6]]
    score_K = torch.tensor([0.0, 0.0, 90.0])
    assert softmax(score_K, segment_K, 3).tolist() == [0.5, 0.5, 1]
    assert softmax(score_K, segment_K, 3, torch.tensor([3.0, 1.0, 1.0])).tolist() == [0.75, 0.25, 1]


def test_event_sums_follow_the_sessions():
    graph, layout = graph_of([3, 1, 3], [2], [1, 2])
    item_T1 = graph.item_N[graph.node_T].float()[:, None]
    assert graph.event_sums(item_T1).squeeze(1).tolist() == [7, 2, 3]
