"""MovieLens in each of its layouts -> atomic files, and the roads on which raw data are found."""

import hashlib
import json
import zipfile

import pandas as pd
import pytest

import dataset_prep
from dataset_prep import movielens
from dataset_prep.atomic import PrepError, check_atomic
from dataset_prep.extra import read_extra
from dataset_prep.titles import in_order, split_year

MOVIES = (
    "1::Matrix, The (1999)::Action|Sci-Fi\n2::Misérables, Les (1995)::Drama\n"
    "3::No Genre (2001)::(no genres listed)\n"
)
RATINGS = "1::2::4::978300760\n1::1::5::978300760\n2::3::3::978300001\n1::3::1::978300759\n"
USERS = "1::F::1::10::02460\n2::M::56::16::70072\n"


@pytest.fixture
def raw(tmp_path):
    """A folder that holds a small ``ml-1m`` in the layout of the real one."""
    folder = tmp_path / "raw" / "ml-1m"
    folder.mkdir(parents=True)
    (folder / "movies.dat").write_bytes(MOVIES.encode("latin-1"))
    (folder / "ratings.dat").write_text(RATINGS)
    (folder / "users.dat").write_text(USERS)
    return folder.parent


def text_of(directory, suffix):
    return (directory / f"{directory.name}.{suffix}").read_text("utf-8")


def rows_of(directory, suffix):
    table = pd.read_csv(
        directory / f"{directory.name}.{suffix}", sep="\t", quoting=3, dtype=str, keep_default_na=False
    )
    return table.rename(columns=lambda name: name.split(":")[0])


@pytest.mark.parametrize(
    ("raw_title", "title", "year"),
    [
        ("Matrix, The (1999)", "The Matrix", "1999"),
        ("Enfer, L' (1994)", "L'Enfer", "1994"),
        ("Star Maker, The (Uomo delle stelle, L') (1995)", "The Star Maker (L'Uomo delle stelle)", "1995"),
        ("Postino, Il (The Postman) (1994)", "Il Postino (The Postman)", "1994"),
        ("Seven Samurai (The Magnificent Seven) (Shichinin no samurai) (1954)",
         "Seven Samurai (The Magnificent Seven) (Shichinin no samurai)", "1954"),
        ("Good, The Bad and The Ugly, The (1966)", "The Good, The Bad and The Ugly", "1966"),
        ("Associate, The (L'Associe)(1982)", "The Associate (L'Associe)", "1982"),
        ("Thing (a.k.a. Killer, The) (1989)", "Thing (a.k.a. The Killer)", "1989"),
        ("Land Before Time III (1995) (V)", "Land Before Time III", "1995"),
        ("Show, A (2005-2010)", "A Show", "2005"),
        ("Paris, Texas (1984)", "Paris, Texas", "1984"),
        ("Ciao, Professore! (Io me la cavo ) (1993)", "Ciao, Professore! (Io me la cavo)", "1993"),
        ("Babylon 5", "Babylon 5", ""),
    ],
)  # fmt: skip
def test_titles_are_put_in_order(raw_title, title, year):
    without_year, found = split_year(raw_title)
    assert (in_order(without_year), found) == (title, year)


def test_ml_1m_layout_becomes_three_atomic_files(raw, tmp_path):
    directory = movielens.prepare("ml-1m", raw, tmp_path / "out")
    assert directory == tmp_path / "out" / "ml-1m"
    assert text_of(directory, "inter") == (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "1\t3\t1\t978300759\n1\t2\t4\t978300760\n1\t1\t5\t978300760\n2\t3\t3\t978300001\n"
    )
    assert text_of(directory, "item") == (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tgenre:token_seq\n"
        "1\tThe Matrix\t1999\tAction Sci-Fi\n2\tLes Misérables\t1995\tDrama\n3\tNo Genre\t2001\t\n"
    )
    assert text_of(directory, "user").splitlines()[1] == "1\tF\t1\t10\t02460"
    assert check_atomic(directory, "ml-1m")["inter"]["rows"] == 4
    prep = json.loads((directory / "prep.json").read_text())
    assert prep["notes"] == ["4 ratings, the release has 1,000,209: this is not the whole ml-1m"]
    assert [list(entry["rows"].values()) for entry in prep["inputs"]] == [[4], [3], [2]]


def test_csv_layout_keeps_half_stars_and_quoted_titles(tmp_path):
    raw = tmp_path / "ml-20m"
    raw.mkdir()
    (raw / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n7,10,3.5,1112486027\n7,99,5.0,1112486000\n"
    )
    (raw / "movies.csv").write_text(
        'movieId,title,genres\n10,"""Great, The"" Ones, The (1998)",Comedy|Drama\n'
    )
    directory = movielens.prepare("ml-20m", raw, tmp_path / "out")
    assert text_of(directory, "inter").splitlines()[1:] == ["7\t99\t5\t1112486000", "7\t10\t3.5\t1112486027"]
    assert text_of(directory, "item").splitlines()[1:] == [
        '10\tThe "Great, The" Ones\t1998\tComedy Drama',
        "99\t\t\t",
    ]
    assert not (directory / "ml-20m.user").exists()
    assert "1 rated items have no title, e.g. 99" in (directory / "prep.json").read_text()


def test_old_ml_100k_layout_reads_the_genre_flags(tmp_path):
    (tmp_path / "u.data").write_text("196\t1\t3\t881250949\n")
    flags = ["0"] * 19
    flags[1] = flags[18] = "1"
    (tmp_path / "u.item").write_bytes(
        "|".join(["1", "Café, Le (1995)", "", "", "", *flags]).encode("latin-1") + b"\n"
    )
    (tmp_path / "u.user").write_text("196|49|M|writer|55105\n")
    directory = movielens.prepare("ml-100k", tmp_path, tmp_path / "out")
    assert text_of(directory, "item").splitlines()[1] == "1\tLe Café\t1995\tAction Western"
    assert text_of(directory, "user").splitlines()[1] == "196\t49\tM\twriter\t55105"


def test_ml_100k_comes_from_recboles_wheel_with_its_slips_mended(tmp_path, monkeypatch):
    monkeypatch.delenv("RECBOLE_LLM_RAW", raising=False)
    directory = dataset_prep.prepare("ml-100k", out=tmp_path)
    items = rows_of(directory, "item").set_index("item_id")
    assert list(items) == ["movie_title", "release_year", "genre"]
    assert items.loc["113"].tolist() == ["The Horseman on the Roof (Le Hussard sur le toit)", "1995", "Drama"]
    assert items.loc["267"].tolist() == ["", "", ""]
    assert items.loc["1412"].tolist()[:2] == ["Land Before Time III: The Time of the Great Giving", "1995"]
    inter = rows_of(directory, "inter")
    assert len(inter) == 100_000 and len(items) == 1_682
    assert (
        inter.groupby("user_id", sort=False)["timestamp"]
        .apply(lambda t: t.astype(int).is_monotonic_increasing)
        .all()
    )


def test_ml_100k_keeps_the_knowledge_graph_of_recboles_wheel(tmp_path, monkeypatch):
    monkeypatch.delenv("RECBOLE_LLM_RAW", raising=False)
    directory = dataset_prep.prepare("ml-100k", out=tmp_path)
    triples, links = rows_of(directory, "kg"), rows_of(directory, "link")
    assert list(triples) == ["head_id", "relation_id", "tail_id"] and len(triples) == 91_631
    assert links.set_index("item_id").loc["476", "entity_id"] == "m.08gjyx"
    assert set(links["item_id"]) <= set(rows_of(directory, "item")["item_id"])


def test_a_prepared_data_set_is_not_prepared_again(raw, tmp_path):
    directory = movielens.prepare("ml-1m", raw, tmp_path)
    before = (directory / "ml-1m.inter").stat().st_mtime_ns
    (raw / "ml-1m" / "movies.dat").unlink()
    assert movielens.prepare("ml-1m", out=tmp_path) == directory
    assert (directory / "ml-1m.inter").stat().st_mtime_ns == before


def test_a_changed_setting_prepares_again(raw, tmp_path):
    directory = movielens.prepare("ml-1m", raw, tmp_path)
    plots = tmp_path / "plots.csv"
    plots.write_text('movieId,plot,other\n1,"A hacker, awake",x\n')
    movielens.prepare("ml-1m", raw, tmp_path, extra_text={plots: ["plot"]})
    assert rows_of(directory, "item")["plot"].tolist() == ["A hacker, awake", "", ""]


def test_the_main_job_takes_a_data_set_as_its_owner_prepared_it(raw, tmp_path):
    plots = tmp_path / "plots.csv"
    plots.write_text("item_id,plot\n1,A hacker wakes up\n")
    directory = movielens.prepare("ml-1m", raw, tmp_path, extra_text={plots: ["plot"]})
    assert dataset_prep.prepare("ml-1m", None, tmp_path) == directory
    assert "plot" in rows_of(directory, "item")


def test_the_users_own_atomic_files_are_used_as_they_are_which_is_said_once(tmp_path, capsys):
    (tmp_path / "ml-1m").mkdir()
    content = "user_id:token\titem_id:token\ttimestamp:float\n1\t1\t1\n"
    (tmp_path / "ml-1m" / "ml-1m.inter").write_text(content)
    directory = dataset_prep.prepare("ml-1m", out=tmp_path)
    assert dataset_prep.prepare("ml-1m", out=tmp_path) == directory
    assert capsys.readouterr().out.count("used as it is") == 1
    assert [path.name for path in directory.iterdir()] == ["ml-1m.inter"]
    assert text_of(directory, "inter") == content


def zipped(raw, monkeypatch, md5=None):
    path = raw / "ml-1m.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (raw / "ml-1m").iterdir():
            archive.write(file, f"ml-1m/{file.name}")
            file.unlink()
    (raw / "ml-1m").rmdir()
    monkeypatch.setitem(movielens.MD5, "ml-1m", md5 or hashlib.md5(path.read_bytes()).hexdigest())
    return path


def test_a_zip_is_found_through_the_environment_and_read_in_place(raw, tmp_path, monkeypatch):
    zipped(raw, monkeypatch)
    monkeypatch.setenv("RECBOLE_LLM_RAW", str(raw))
    directory = dataset_prep.prepare("ml-1m", out=tmp_path / "out")
    assert len(rows_of(directory, "inter")) == 4
    (entry,) = json.loads((directory / "prep.json").read_text())["inputs"]
    assert entry["rows"] == {"ratings.dat": 4, "movies.dat": 3, "users.dat": 2}


def test_a_zip_with_another_checksum_is_refused(raw, tmp_path, monkeypatch):
    path = zipped(raw, monkeypatch, md5="0" * 32)
    with pytest.raises(
        PrepError, match=rf"ml-1m.zip has md5 [0-9a-f]{{32}}, its publisher states {'0' * 32}; fetch it"
    ):
        movielens.prepare("ml-1m", path, tmp_path)


def test_a_damaged_zip_is_refused(raw, tmp_path, monkeypatch):
    path = zipped(raw, monkeypatch)
    data = bytearray(path.read_bytes())
    monkeypatch.setitem(movielens.MD5, "ml-1m", None)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(PrepError, match="ml-1m.zip is damaged .* fetch it again"):
        movielens.prepare("ml-1m", path, tmp_path)
    start = data.index(b"ml-1m/") + 30
    data[start : start + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(PrepError, match=r"ml-1m.zip!ml-1m/\w+.dat is damaged"):
        movielens.prepare("ml-1m", path, tmp_path)


def test_a_download_is_checked_kept_and_read(raw, tmp_path, monkeypatch):
    monkeypatch.delenv("RECBOLE_LLM_RAW", raising=False)
    path = zipped(raw, monkeypatch)
    monkeypatch.setattr(movielens, "HOST", raw.as_uri())
    directory = movielens.prepare("ml-1m", out=tmp_path / "out")
    assert len(rows_of(directory, "inter")) == 4
    assert (tmp_path / "out" / "raw" / "ml-1m.zip").read_bytes() == path.read_bytes()


def test_a_download_with_a_wrong_checksum_leaves_nothing(raw, tmp_path, monkeypatch):
    monkeypatch.delenv("RECBOLE_LLM_RAW", raising=False)
    zipped(raw, monkeypatch, md5="1" * 32)
    monkeypatch.setattr(movielens, "HOST", raw.as_uri())
    with pytest.raises(
        PrepError, match=f"states {'1' * 32}; fetch .*ml-1m.zip by hand and put it at .*raw/ml-1m.zip"
    ):
        movielens.prepare("ml-1m", out=tmp_path / "out")
    assert not list((tmp_path / "out" / "raw").iterdir())


def test_a_release_without_fixed_checksum_is_checked_by_the_one_beside_it(raw, tmp_path, monkeypatch):
    monkeypatch.delenv("RECBOLE_LLM_RAW", raising=False)
    zipped(raw, monkeypatch).rename(raw / "ml-latest-small.zip")
    monkeypatch.setattr(movielens, "HOST", raw.as_uri())
    with pytest.raises(PrepError, match="ml-latest-small.zip.md5 cannot be fetched"):
        movielens.prepare("ml-latest-small", out=tmp_path)
    (raw / "ml-latest-small.zip.md5").write_text(f"{'2' * 32}  ml-latest-small.zip\n")
    with pytest.raises(PrepError, match=f"its publisher states {'2' * 32}"):
        movielens.prepare("ml-latest-small", out=tmp_path)


def test_without_data_and_network_the_message_says_what_to_fetch_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.delenv("RECBOLE_LLM_RAW", raising=False)
    monkeypatch.setattr(movielens, "HOST", (tmp_path / "nowhere").as_uri())
    with pytest.raises(PrepError) as caught:
        dataset_prep.prepare("ml-20m", out=tmp_path / "out")
    url = f"{movielens.HOST}/ml-20m.zip"
    place = tmp_path / "out" / "raw" / "ml-20m.zip"
    assert f"{url} cannot be fetched" in str(caught.value)
    assert f"fetch {url} by hand and put it at {place}, or set RECBOLE_LLM_RAW" in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("ratings.dat", RATINGS.replace("::", ","), "ratings.dat:1: 1 fields parted by '::', expected 4"),
        ("ratings.dat", RATINGS + "3::1::5\n", "ratings.dat:5: 3 fields parted by '::', expected 4"),
        ("ratings.dat", RATINGS + "3::1::5::9::9\n", "ratings.dat:5: 5 fields parted by '::', expected 4"),
        ("ratings.dat", "1::2::3::4::5\n" * 2, "ratings.dat:1: 5 fields parted by '::', expected 4"),
        ("ratings.dat", RATINGS + "3::1::5::noon\n", "ratings.dat:5: timestamp 'noon' is not a whole number"),
        ("ratings.dat", RATINGS + "3::1::::1\n", "ratings.dat:5: rating '' is not a number"),
        ("ratings.dat", "", "ratings.dat has no rating after 0 lines; fetch it again"),
        ("movies.dat", MOVIES + "1::Again (2000)::Drama\n", "movies.dat:4: item id '1' stands a second time"),
        (
            "movies.dat",
            MOVIES + "x::Other (2000)::Drama\n",
            "movies.dat:4: item id 'x' is not a whole number",
        ),
        (
            "movies.dat",
            MOVIES + "4;Other (2000);Drama\n",
            "movies.dat:4: 1 fields parted by '::', expected 3",
        ),
        ("users.dat", "1::F\n", "users.dat:1: 2 fields parted by '::', expected 5"),
        ("movies.dat", None, "ml-1m has no movies.dat; it belongs to the data set, fetch it too"),
        (
            "ratings.dat",
            None,
            "raw holds neither ml-1m.zip nor ratings.dat; fetch https://files.grouplens.org/",
        ),
    ],
)
def test_bad_raw_files_are_refused_with_file_and_line(raw, tmp_path, file, content, message):
    if content is None:
        (raw / "ml-1m" / file).unlink()
    else:
        (raw / "ml-1m" / file).write_text(content, encoding="latin-1")
    with pytest.raises(PrepError, match=message):
        movielens.prepare("ml-1m", raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_csv_header_is_refused(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId;movieId;rating;timestamp\n1;2;3;4\n")
    with pytest.raises(
        PrepError, match="ratings.csv:1: the header is 'userId;movieId;rating;timestamp', expected 'userId,"
    ):
        movielens.prepare("ml-25m", tmp_path, tmp_path / "out")


def test_a_raw_path_that_is_a_table_is_refused(raw, tmp_path):
    with pytest.raises(PrepError, match="ratings.dat is neither a folder nor a zip; give the folder"):
        movielens.prepare("ml-1m", raw / "ml-1m" / "ratings.dat", tmp_path)


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(PrepError, match="ml-2m is not a MovieLens data set, expected one of ml-100k, ml-1m"):
        movielens.prepare("ml-2m", out=tmp_path)
    with pytest.raises(
        PrepError, match="shop is none of the data sets .* `python -m dataset_prep.table --name shop"
    ):
        dataset_prep.prepare("shop", out=tmp_path)


@pytest.mark.parametrize(("whole", "gap"), [("ml-1m", ""), ("amazon-beauty", " --gap_minutes=none")])
def test_who_asks_for_sessions_is_told_how_they_are_cut(tmp_path, whole, gap):
    with pytest.raises(PrepError, match=f"`recbole-llm prep sessions --dataset={whole}{gap}`"):
        dataset_prep.prepare(f"{whole}-sessions", out=tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("a.json", '{"1": "one", "2": "two"}', {"text": {"1": "one", "2": "two"}}),
        ("a.json", '{"1": {"plot": "one", "x": "N/A"}}', {"plot": {"1": "one"}, "x": {"1": ""}}),
        (
            "a.jsonl",
            '{"item_id": 1, "plot": "one"}\n{"item_id": 2, "plot": null}\n',
            {"plot": {"1": "one", "2": ""}},
        ),
        ("a.tsv", "sku\tplot\n1\tone\n", {"plot": {"1": "one"}}),
        ("a.jsonl", '{"id": 1, "plot": "a\u2028b"}\r\n', {"plot": {"1": "a\u2028b"}}),
        ("a.csv", 'id,plot\n1,"a\nb\u2028c"\n', {"plot": {"1": "a\nb\u2028c"}}),
        ("a.item", 'item_id:token\tplot:token_seq\n1\t"one\n', {"plot": {"1": '"one'}}),
    ],
)
def test_extra_text_is_read_from_each_kind_of_table(tmp_path, file, content, expected):
    (tmp_path / file).write_text(content)
    assert read_extra(tmp_path / file).to_dict() == expected


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.csv", "id,plot\n1,one\n1,two\n", "a.csv: id '1' stands twice"),
        ("a.csv", "id,plot\n1,one,two\n", "a.csv: row 1 has 3 fields, expected 2"),
        ("a.csv", "id,summary\n1,one\n", "a.csv: no column `plot`, only summary"),
        ("a.csv", "id,plot\n9,one\n", "a.csv: none of its 1 ids, e.g. '9', is an item"),
        ("a.csv", "id,plot\n", "a.csv has no row"),
        ("a.json", "[1]", "a.json holds a list, expected a map of item id to text"),
        ("a.json", '{"1":\n"x"', "a.json:2: not JSON"),
        ("a.jsonl", '{"id": 1, "plot": "x"}\n{', "a.jsonl:2: not JSON"),
        ("a.xml", "<a/>", "a.xml: extra text must be .csv"),
        ("a.csv", None, "a.csv does not exist; extra_text must name"),
    ],
)
def test_bad_extra_text_is_refused(raw, tmp_path, file, content, message):
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(PrepError, match=message):
        movielens.prepare("ml-1m", raw, tmp_path / "out", extra_text={tmp_path / file: ["plot"]})


def test_the_command_line_prepares_and_reports(raw, tmp_path, capsys):
    movielens.main(["ml-1m", "--raw_path", str(raw), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out" / "ml-1m")
    with pytest.raises(SystemExit, match="1"):
        movielens.main(["ml-1m", "--raw_path", str(tmp_path / "no"), "--out", str(tmp_path / "new")])
    assert "no does not exist; raw_path must be a folder or a zip" in capsys.readouterr().err


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory):
    """The real raw files, prepared: users 1-2999, all films, plots."""
    source, raw = shared_data / "raw" / "ml-1m", tmp_path_factory.mktemp("raw") / "ml-1m"
    raw.mkdir()
    for name, link in (("ratings_users_1_2999.dat", "ratings.dat"), ("movies.dat",) * 2, ("users.dat",) * 2):
        (raw / link).symlink_to(source / name)
    extra = {source / "movies_extrainfos.dat": ["plot"]}
    return movielens.prepare("ml-1m", raw, tmp_path_factory.mktemp("out"), extra_text=extra)


def test_real_titles_years_genres_and_plots_equal_the_reference(real, shared_data):
    reference = rows_of(shared_data / "atomic" / "ml-1m", "item")
    ours = rows_of(real, "item")
    assert len(ours) == 3_883
    for column in ("item_id", "movie_title", "release_year", "genre", "plot"):
        assert ours[column].tolist() == reference[column].tolist()


def test_real_histories_equal_the_reference_up_to_ties(real, shared_data):
    """The reference breaks ties as another project happened to; ours keep the order of ratings.dat."""
    columns = ["user_id", "item_id", "timestamp"]
    ours = pd.read_csv(real / "ml-1m.inter", sep="\t").set_axis(
        ["user_id", "item_id", "rating", "timestamp"], axis=1
    )
    reference = shared_data / "atomic" / "ml-1m" / "ml-1m.inter"
    theirs = pd.read_csv(reference, sep="\t", nrows=487_650).set_axis(columns, axis=1)
    assert len(ours) == 487_650 and ours["user_id"].nunique() == 2_999
    assert ours[["user_id", "timestamp"]].equals(theirs[["user_id", "timestamp"]])
    untied = ~ours.duplicated(["user_id", "timestamp"], keep=False)
    assert int(untied.sum()) == 487_650 - 377_990
    assert ours["item_id"][untied].equals(theirs["item_id"][untied])
    order = ["user_id", "timestamp", "item_id"]
    sets = [table[columns].sort_values(order, ignore_index=True) for table in (ours, theirs)]
    assert sets[0].equals(sets[1])


def test_real_ties_keep_the_order_of_the_raw_file(real, shared_data):
    lines = (shared_data / "raw" / "ml-1m" / "ratings_users_1_2999.dat").read_text().splitlines()[:60]
    tied = [line.split("::")[1] for line in lines if line.startswith("1::") and line.endswith("::978824268")]
    ours = rows_of(real, "inter").head(60)
    same = ours[(ours["user_id"] == "1") & (ours["timestamp"] == "978824268")]
    assert same["item_id"].tolist() == tied == ["595", "2687", "745", "588", "1"]


def test_real_users_equal_the_reference(real, shared_data):
    assert text_of(real, "user") == (shared_data / "atomic" / "ml-1m" / "ml-1m.user").read_text()
