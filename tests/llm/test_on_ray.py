"""A pool of actors on two nodes gives what one process gives, byte for byte, and goes on where it was."""

from functools import partial

import pytest

from recbole_llm.errors import BackendError, SettingError
from recbole_llm.llm.backend import Request
from recbole_llm.llm.cache import Cache
from recbole_llm.llm.fake import FakeBackend
from recbole_llm.llm.local import LocalBackend
from recbole_llm.llm.on_ray import Pool, RayBackend, RayEncoder, connect
from recbole_llm.text.artifact import build_artifact
from recbole_llm.text.encoder import make_encoder
from recbole_llm.text.templates import GENERATED

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
REQUESTS = [Request(f"{'Once upon a time, ' * (n % 4)}Tom{n}", max_tokens=8) for n in range(90)]


@pytest.fixture(scope="module")
def stories(shared_data):
    return str(shared_data.parent / "models" / "stories260K")


def test_two_nodes_answer_as_one_process(cluster, stories, one_thread):
    make = partial(LocalBackend, stories, batch_tokens=400)
    pool = RayBackend(make(), make, Pool(2, cluster.address))
    answers = list(pool.complete(REQUESTS))
    assert sorted(number for number, _ in answers) == list(range(len(REQUESTS)))
    assert dict(answers) == dict(make().complete(REQUESTS))
    assert (pool.name, pool.revision) == (make().name, make().revision)
    assert "_model" not in vars(pool.backend)


def test_two_nodes_encode_as_one_process(cluster, tmp_path, one_thread):
    make = partial(make_encoder, batch_size=16)
    texts = {f"i{n}": (f"A film about {n} {'brave ' * (n % 9)}dogs",) for n in range(150)}
    kinds = {"one": make(), "two": RayEncoder(make(), make, Pool(2, cluster.address))}
    one, two = (build_artifact(tmp_path / name, "text", texts, kinds[name], GENERATED) for name in kinds)
    assert one.directory.name == two.directory.name
    for name in ("vectors.safetensors", "tokens.txt"):
        assert (one.directory / name).read_bytes() == (two.directory / name).read_bytes()


def broken(folder):
    def say(prompt):
        if prompt == "p70" and not (folder / "mended").exists():
            raise BackendError("no more")
        with open(folder / "asked", "a") as log:
            log.write(f"{prompt}\n")
        return prompt.upper()

    return FakeBackend(say)


def test_what_came_back_before_it_broke_off_is_not_asked_for_again(cluster, tmp_path):
    make = partial(broken, tmp_path)
    pool = RayBackend(make(), make, Pool(1, cluster.address))
    requests = [Request(f"p{n}") for n in range(90)]
    with Cache(tmp_path / "answers.sqlite") as cache:
        with pytest.raises(BackendError, match="no more"):
            list(cache.complete(requests, pool, "t@1"))
        kept = len(cache)
        (tmp_path / "mended").touch()
        found = dict(cache.complete(requests, pool, "t@1"))
    assert [found[n].text for n in range(90)] == [f"P{n}" for n in range(90)]
    asked = (tmp_path / "asked").read_text().split()
    assert kept >= 32 and len(asked) <= 90 + 2 * 32  # what was under way, and what had not yet come back


def test_what_is_no_address_is_one_sentence():
    with pytest.raises(SettingError, match="no Ray cluster answers at ray_address foo; start one with"):
        connect("foo")


def test_no_cluster_is_one_sentence(monkeypatch):
    import ray

    def nobody(**_):
        raise ConnectionError("nobody there")  # Ray itself says so after a minute and a half

    monkeypatch.setattr(ray, "init", nobody)
    with pytest.raises(SettingError, match="no Ray cluster answers at ray_address host:1; start one with"):
        connect("host:1")
