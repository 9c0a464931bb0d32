"""The seams: a method wrapped, a function rebound, a library replaced in a module; all keep the original."""

import sys
from functools import update_wrapper
from types import ModuleType


def wrap(owner, name, wrapper):
    """Put ``wrapper(original)`` in the place of the method ``owner.name``; wrap nothing twice.

    Parameters
    ----------
    owner : class
        A class of RecBole that itself defines ``name``.
    name : str
        The method.
    wrapper : callable
        Takes the original function, gives the new one.
    """
    original = vars(owner)[name]
    if not _made_by(wrapper, original):
        setattr(owner, name, keeping(original, wrapper(original), wrapper))


def rebind(module, name, wrapper):
    """Put ``wrapper(original)`` wherever a loaded module holds ``module.name``; rebind nothing twice.

    All modules, not only RecBole's: a script may have imported the function before it imported us.
    """
    original = getattr(module, name)
    if _made_by(wrapper, original):
        return
    replacement = keeping(original, wrapper(original), wrapper)
    for holder in list(sys.modules.values()):
        if getattr(holder, "__dict__", {}).get(name) is original:
            setattr(holder, name, replacement)


def keeping(original, replacement, wrapper=None):
    """``replacement`` with the name and docstring of ``original``, which stays reachable as ``replaced``."""
    update_wrapper(replacement, original)
    replacement.replaced, replacement.wrapper = original, wrapper
    return replacement


def _made_by(wrapper, function):
    """Whether ``wrapper`` made ``function`` or one that it replaces; wrappers of one name are one wrapper."""
    while hasattr(function, "replaced"):
        made = function.wrapper
        if made and (made.__module__, made.__qualname__) == (wrapper.__module__, wrapper.__qualname__):
            return True
        function = function.replaced
    return False


class StandIn(ModuleType):
    """A library as one module of RecBole sees it: the given names, and the library's own for all others.

    Parameters
    ----------
    library : module
        What is stood in for; kept as ``replaced``.
    names : keyword arguments
        What the module shall find instead of the library's attribute of that name.
    """

    def __init__(self, library, **names):
        super().__init__(library.__name__, library.__doc__)
        self.replaced = library
        vars(self).update(names)

    def __getattr__(self, name):
        """The library's own attribute, for all that is not replaced."""
        return getattr(self.replaced, name)


def stand_in(module, library_name, **names):
    """Let ``module`` find ``names`` in place of those of the library that it imported as ``library_name``."""
    library = getattr(module, library_name)
    if not isinstance(library, StandIn):
        setattr(module, library_name, StandIn(library, **names))
