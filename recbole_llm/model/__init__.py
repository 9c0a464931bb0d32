"""The models by name: ours first, then those of installed plug-ins, then RecBole's."""

from importlib import import_module
from importlib.metadata import entry_points

from recbole.utils import get_model as recbole_get_model

from ..errors import SettingError, meant
from .comparators.llm_infer import LLMInfer
from .comparators.llm_init import LLMInit
from .comparators.llm_seq_sim import LLMSeqSim
from .hier_llm_rec import HierLLMRec
from .llm4sbr import LLM4SBR
from .llmseqrec import LLMSeqRec
from .rag_llm_rec import RAGLLMRec
from .session.dhcn import DHCN
from .session.gcegnn import GCEGNN
from .session.srgnn import SRGNN
from .session.tagnn import TAGNN

OURS = (LLMSeqRec, HierLLMRec, RAGLLMRec, LLM4SBR, SRGNN, TAGNN, GCEGNN, DHCN)
COMPARATORS = (LLMInfer, LLMSeqSim, LLMInit)
MODELS = {model.__name__: model for model in (*OURS, *COMPARATORS)}
THEIRS = "RecBole-"  # in front of the name of a model of RecBole's that one of ours is called like
BOOSTERS = ("xgboost", "lightgbm")  # RecBole's wrappers around libraries that must be installed apart
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
    if name.startswith(THEIRS) and name in known_names():
        return type(name, (recbole_get_model(name.removeprefix(THEIRS)),), {})
    if name in known_names() or name.lower() in BOOSTERS:
        return recbole_get_model(name)
    hint = meant(name, known_names(), f"ours are {', '.join(MODELS)}")
    raise SettingError(f"no model is called {name}; {hint}")


def known_names():
    """The names of our models, of plug-ins and of RecBole's models, sorted.

    A model of RecBole's that has the name of one of ours is called ``RecBole-`` and its name.
    """
    theirs = []
    for kind in ("general", "sequential", "context_aware", "knowledge_aware"):
        module = import_module(f"recbole.model.{kind}_recommender")
        theirs += [name for name in dir(module) if isinstance(getattr(module, name), type)]
    theirs = [f"{THEIRS}{name}" if name in MODELS else name for name in theirs]
    return sorted({*MODELS, *(plugin.name for plugin in entry_points(group=PLUGINS)), *theirs})
