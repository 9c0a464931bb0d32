"""A small world with a known answer: users who walk round ``N_ITEMS`` items; after item i always comes i + 1."""

import zlib
from types import SimpleNamespace

import numpy as np
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed

from recbole_llm.model import MODELS
from recbole_llm.text.artifact import AlignedVectors
from recbole_llm.train.build import configure, known_to
from recbole_llm.train.trainer import trainer_for

N_ITEMS = 17
TINY = {
    "hidden_size": 16,
    "n_layers": 1,
    "n_experts": 2,
    "whiten_dim": 8,
    "dropout": 0.0,
    "adaptor_dropout": 0.0,
    "MAX_ITEM_LIST_LENGTH": 8,
    "train_batch_size": 16,
    "enable_amp": False,
    "learning_rate": 0.01,
    "text_fields": ["title"],
    "topk": [1, 3],
    "valid_metric": "NDCG@3",
    "show_progress": False,
}


def write_carousel(directory, *, n_users=40, n_items=N_ITEMS, shuffled=False, name="carousel"):
    """Atomic files of the carousel under ``directory / name``; the rows in another order if ``shuffled``."""
    folder = directory / name
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    rows = []
    for user in range(n_users):
        start, length = rng.integers(n_items), rng.integers(5, 20)
        rows += [f"u{user}\ti{(start + step) % n_items}\t{1000 + 7 * step}" for step in range(length)]
    if shuffled:
        rows = [rows[place] for place in rng.permutation(len(rows))]
    head = "user_id:token\titem_id:token\ttimestamp:float\n"
    (folder / f"{name}.inter").write_text(head + "\n".join(rows) + "\n")
    items = [f"i{number}\tHorse number {number}\tred" for number in range(n_items)]
    (folder / f"{name}.item").write_text(
        "item_id:token\ttitle:token_seq\tcolour:token\n" + "\n".join(items) + "\n"
    )
    return directory


def token_vectors(tokens, size=12, *, salt=0, without=()):
    """Random vectors that depend on the token alone, so that RecBole's numbering of items cannot matter."""
    vectors = np.stack(
        [np.random.default_rng([zlib.crc32(t.encode()), salt]).normal(size=size) for t in tokens]
    )
    present = np.array([place > 0 and token not in without for place, token in enumerate(tokens)])
    return AlignedVectors(np.where(present[:, None], vectors, 0).astype(np.float32), present)


def house(directory, model="LLMSeqRec", *, salt=0, without=(), fields=("title",), **keys):
    """A model on the carousel with all that belongs to it: config, train, valid, test (loaders) and model."""
    given = {"model": model, "dataset": "carousel", "data_path": str(directory)}
    names = TINY if model in MODELS else ("topk", "valid_metric", "show_progress")
    size = known_to(model, "carousel", {key: TINY[key] for key in names})
    config = configure(model, given | size | keys)
    config["checkpoint_dir"] = str(directory / "checkpoint")
    init_seed(config["seed"], config["reproducibility"])
    train, valid, test = data_preparation(config, create_dataset(config))
    tokens = train._dataset.field2id_token["item_id"]
    train._dataset.text_vectors = {
        field: token_vectors(tokens, salt=salt + number, without=without)
        for number, field in enumerate(fields)
    }
    train._dataset.text_fingerprints = {field: f"{salt:064d}" for field in fields}
    init_seed(config["seed"], config["reproducibility"])
    built = config.model_class(config, train._dataset)
    return SimpleNamespace(config=config, train=train, valid=valid, test=test, model=built)


NOISY = {"dropout": 0.2, "adaptor_dropout": 0.2, "eval_step": 1, "warmup_steps": 5, "stopping_step": 50}


def trained(folder, place, epochs, *, resume=None, stop_after=None, **keys):
    """A world trained for some epochs, its checkpoint under ``place``; stopped by Ctrl-C after an epoch if asked."""
    world = house(folder, epochs=epochs, **NOISY | keys)
    world.config["checkpoint_dir"] = str(place)
    world.trainer = trainer_for(world.config, world.model)
    if resume:
        world.trainer.resume_checkpoint(resume)

    def interrupt(epoch):
        if epoch == stop_after:
            raise KeyboardInterrupt

    world.trainer.on_epoch = interrupt
    try:
        world.trainer.fit(world.train, world.valid, verbose=False)
    except KeyboardInterrupt:
        assert stop_after is not None
    return world


def assert_same_batches(ours, theirs):
    for our_batch, their_batch in zip(ours, theirs, strict=True):
        our_rows, their_rows = (b[0] if isinstance(b, tuple) else b for b in (our_batch, their_batch))
        assert set(their_rows.interaction) <= set(our_rows.interaction)
        for column, values in their_rows.interaction.items():
            assert torch.equal(our_rows[column], values), column
            assert our_rows[column].dtype == values.dtype, column
        if isinstance(our_batch, tuple):
            for one, other in zip(our_batch[1:], their_batch[1:], strict=True):
                assert one is other is None or torch.equal(one, other)
