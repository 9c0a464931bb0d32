"""The switches of an ablation: each changes something, and gives settings that are not refused."""

import pytest
import yaml
from carousel import write_carousel

from recbole_llm.config import PROPERTIES, settings_from
from recbole_llm.model import get_model, hier_llm_rec, rag_llm_rec
from recbole_llm.train.build import configure


@pytest.mark.parametrize(
    ("model", "checks"),
    [("HierLLMRec", [hier_llm_rec.check]), ("RAGLLMRec", [hier_llm_rec.check, rag_llm_rec.check])],
)
def test_every_switch_changes_the_model_and_is_allowed(tmp_path, model, checks):
    write_carousel(tmp_path)
    given = {"model": model, "dataset": "carousel", "data_path": str(tmp_path)}
    full = configure(model, given)
    kinds = yaml.safe_load((PROPERTIES / "ablation" / f"{model}.yaml").read_text())
    for name, switch in (pair for kind in kinds.values() for pair in kind.items()):
        config = configure(model, given | switch)
        assert all(config[key] != full[key] for key in switch), name
        for check in checks:
            check(settings_from(config, get_model(model).settings_class), config["train_rows"] == "dense")
