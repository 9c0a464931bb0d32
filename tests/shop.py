"""A shop of a few rows: any events as atomic files, and the three parts that are made of them."""

from hypothesis import strategies as st
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed

from recbole_llm.train.build import configure


def write(folder, rows, columns="user_id:token\titem_id:token\ttimestamp:float"):
    (folder / "shop").mkdir(parents=True, exist_ok=True)
    (folder / "shop" / "shop.inter").write_text(
        "\n".join([columns, *("\t".join(map(str, r)) for r in rows)]) + "\n"
    )


def loaders(folder, dataset_class=create_dataset, **keys):
    given = {"model": "SASRec", "dataset": "shop", "data_path": str(folder), "MAX_ITEM_LIST_LENGTH": 4}
    given |= {
        "train_neg_sample_args": "None",
        "train_batch_size": 3,
        "eval_batch_size": 5,
        "show_progress": False,
    }
    given |= keys
    config = configure(given["model"], given)
    config["checkpoint_dir"] = str(folder / "saved")
    init_seed(3, True)
    return data_preparation(config, dataset_class(config))


@st.composite
def events(draw):
    """Events of a few users with distinct times within a user, in any order of the file."""
    counts = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    rows = []
    for user, count in enumerate(counts):
        times = draw(st.permutations(range(count)))
        rows += [
            (f"u{user}", f"i{draw(st.integers(0, 6))}", 10 + time, draw(st.integers(1, 5))) for time in times
        ]
    return draw(st.permutations(rows))
