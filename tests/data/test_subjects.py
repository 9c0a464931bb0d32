"""Nobody is told of a target or of what comes after it, and texts that were are refused."""

from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from shop import events, loaders, write

from recbole_llm.data import subjects
from recbole_llm.errors import ArtifactError, SettingError
from recbole_llm.text.templates import read_columns

NAMES = {f"i{k}": f"i{k}" for k in range(40)}
ROWS = [(f"u{u}", f"i{9 * u + k}", 100 * k) for u in range(3) for k in range(9)]


def parts(folder, rows, **keys):
    write(folder, rows)
    return [loader._dataset for loader in loaders(folder, **keys)]


def texts(found, folder="somewhere"):
    return SimpleNamespace(cuts={one.about: one.cut for one in found}, directory=folder)


def test_users_are_told_by_their_training_events_alone(tmp_path):
    train, *_ = parts(tmp_path, ROWS)
    found = list(subjects.users(train, NAMES, 4))
    assert [one.about for one in found] == ["u0", "u1", "u2"]
    assert found[1].lines == ("i12", "i13", "i14", "i15")  # i16 is the validation's target, i17 the test's
    assert found[1].cut == (7, "i15")


def test_rows_are_told_without_their_targets(tmp_path):
    _, valid, test = parts(tmp_path, ROWS)
    found = {one.about: one for one in subjects.sessions([valid, test], NAMES, 3)}
    assert found["u1@7"].lines == ("i13", "i14", "i15") and found["u1@7"].cut[:2] == (7, "i15")
    assert found["u1@8"].lines == ("i14", "i15", "i16") and len(found) == 6


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=events())
def test_no_target_and_nothing_after_it_is_told(tmp_path_factory, rows):
    rows = [(user, f"i{n}", time) for n, (user, _, time, _) in enumerate(rows)]  # each item once
    if not any(len([r for r in rows if r[0] == user]) > 3 for user in {r[0] for r in rows}):
        return
    folder = tmp_path_factory.mktemp("events")
    names = {item: item for _, item, _ in rows}
    when = {item: (user, time) for user, item, time in rows}
    split = parts(folder, rows)
    held_out = {}  # the first event of a user that is not training's
    for part in split[1:]:
        for user, item in zip(
            part.id2token("user_id", part.inter_feat["user_id"].numpy()),
            part.id2token("item_id", part.inter_feat["item_id"].numpy()),
            strict=True,
        ):
            held_out[user] = min(held_out.get(user, 10**9), when[item][1])
    for one in subjects.users(split[0], names, 99):
        assert all(when[line] < (one.about, held_out.get(one.about, 10**9)) for line in one.lines)
        assert all(when[line][0] == one.about for line in one.lines)
    for part in split:
        targets = part.id2token("item_id", part.inter_feat["item_id"].numpy())
        for target, one in zip(targets, subjects.sessions([part], names, 99), strict=True):
            user = one.about.partition("@")[0]
            assert when[target][0] == user and all(when[line] < when[target] for line in one.lines)
            assert one.cut[:2] == (
                len([1 for u, t in when.values() if (u, t) < when[target] and u == user]),
                one.lines[-1],
            )


def test_a_history_s_hash_is_that_of_its_items_in_their_order(tmp_path):
    rows = [
        (user, item, time) for user in "uv" for time, item in enumerate("abcd" if user == "u" else "bacd")
    ]
    part = parts(tmp_path, rows)[0]
    of_u, of_v = (subjects.history_hashes(part)[first : first + 4] for first in (0, 4))
    assert of_u[0] == of_v[0] and of_u[1] != of_v[1], "nothing before; a and b"
    assert of_u[2] != of_v[2] and of_u[3] != of_v[3], "the same items in another order"
    assert len({*of_u, *of_v}) == 7
    last = subjects.history_hashes(part, 1)
    tokens = part.field2id_token["item_id"][part.events["item_id"]]
    assert last[1:4] == [subjects.history_hash([token]) for token in tokens[:3]], "of no more than was told"


def test_texts_of_this_split_pass_and_of_a_later_one_are_refused(tmp_path):
    train, *_ = parts(tmp_path, ROWS)
    subjects.check_cuts(texts(subjects.users(train, NAMES, 4)), train)
    longer = {"split": {"LS": "test_only"}, "order": "TO", "group_by": "user", "mode": "full"}
    joined, *_ = parts(tmp_path, ROWS, eval_args=longer)
    assert next(subjects.users(joined, NAMES, 4)).cut == (8, "i7")
    with pytest.raises(ArtifactError, match=r"somewhere has read events .* of 3 of 3 users, e.g. u0, u1, u2"):
        subjects.check_cuts(texts(subjects.users(joined, NAMES, 4)), train)
    subjects.check_cuts(
        texts(subjects.users(train, NAMES, 4)), joined
    )  # older texts know no more than they may


def test_texts_of_another_order_of_events_are_refused(tmp_path):
    train, *_ = parts(tmp_path, ROWS)
    found = texts(subjects.users(train, NAMES, 4))
    other, *_ = parts(tmp_path, [(user, item, -time) for user, item, time in ROWS])
    with pytest.raises(ArtifactError, match="it was made from another split or data set"):
        subjects.check_cuts(found, other)


def test_a_history_longer_than_is_told_keeps_its_end(tmp_path):
    rows = [("u", f"i{k}", k) for k in range(30)]
    train, *_ = parts(tmp_path, rows)
    (only,) = subjects.users(train, NAMES, 50)
    assert only.lines == tuple(f"i{k}" for k in range(28))  # though rows hold four events


def table(folder, text):
    (folder / "x.item").write_text(text)
    return read_columns(folder / "x.item")


ITEMS = "item_id:token\ttitle:token_seq\tgenre:token_seq\tplot:token_seq\n" + "".join(
    f"{n}\tFilm {n}\t{'War' if n % 2 else 'Drama'}\tPlot of {n}\n" for n in range(20)
)


def test_items_are_told_by_the_named_columns(tmp_path):
    found = list(subjects.items(table(tmp_path, ITEMS), ["title", "attributes", "plot"]))
    assert found[3].about == "3" and found[3].cut is None
    assert found[3].lines == ("Title: Film 3", "Genre: War.", "Plot: Plot of 3")


def test_an_item_of_a_history_is_a_line(tmp_path):
    assert subjects.item_lines(table(tmp_path, ITEMS))["4"] == "Film 4 | Genre: Drama."
    bare = pd.DataFrame({"name": ["One", ""]}, index=["1", "2"])
    assert subjects.item_lines(bare) == {"1": "One", "2": ""}
    assert subjects.item_lines(bare, ids=True) == {"1": "One | Id: 1.", "2": ""}
    long = pd.DataFrame({"title": ["Oil | 5 oz " * 40]}, index=["9"])
    (line,) = subjects.item_lines(long, ids=True).values()
    name, behind = line.split(" | ")
    assert behind == "Id: 9." and name.startswith("Oil / 5 oz") and 120 < len(name) <= 128
    with pytest.raises(SettingError, match="no column of titles in the .item file; there are said"):
        subjects.item_lines(pd.DataFrame({"said": ["x"]}))
    with pytest.raises(SettingError, match="no column headline in the .item file"):
        subjects.item_lines(bare, "headline")


def test_of_a_person_only_what_is_named_is_told(tmp_path):
    (tmp_path / "shop.user").write_text(
        "user_id:token\tage:float\tgender:token\tzip:token\nu1\t25\tF\t10115\n"
    )
    config = {"data_path": tmp_path, "dataset": "shop", "USER_ID_FIELD": "user_id"}
    assert subjects.persons(config, ["gender", "age"]) == {"u1": "Gender: F. Age: 25."}
    with pytest.raises(SettingError, match="has no column phone; there are age, gender, zip"):
        subjects.persons(config, ["phone"])
    with pytest.raises(SettingError, match="user_fields names age, but there is no"):
        subjects.persons(config | {"dataset": "none"}, ["age"])
