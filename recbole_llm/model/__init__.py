"""The models by name: ours first, then those of installed plug-ins, then RecBole's."""

import difflib
from importlib.metadata import entry_points

from recbole import model as recbole_models
from recbole.utils import get_model as recbole_get_model

from ..errors import SettingError
from .llmseqrec import LLMSeqRec

MODELS = {"LLMSeqRec": LLMSeqRec}
PLUGINS = "recbole_llm.models"  # entry-point group: another package's model, by name


def get_model(name):
    """The model class called ``name``.

    Raises
    ------
    SettingError
        If nobody has such a model; the nearest name is given.
    """
    if name in MODELS:
        return MODELS[name]
    for plugin in entry_points(group=PLUGINS, name=name):
        return plugin.load()
    try:
        return recbole_get_model(name)
    except ValueError:
        near = difflib.get_close_matches(name, known_names(), 1)
        hint = f"did you mean {near[0]}?" if near else f"ours are {', '.join(MODELS)}"
        raise SettingError(f"no model is called {name}; {hint}") from None


def known_names():
    """The names of our models, of plug-ins and of RecBole's models, sorted."""
    kinds = ("general", "sequential", "context_aware", "knowledge_aware")
    files = []
    for kind in kinds:
        module = getattr(recbole_models, f"{kind}_recommender", None)
        files += [name for name in dir(module) if name[:1].isupper()] if module else []
    return sorted({*MODELS, *(plugin.name for plugin in entry_points(group=PLUGINS)), *files})
