"""Ray and new processes: RecBole loads without Ray, reports to today's Ray, takes the patches along."""

import sys
from importlib import import_module
from types import ModuleType

from .patching import rebind, stand_in


def import_quick_start():
    """The module `recbole.quick_start.quick_start`, imported while an empty `ray.tune` stands in (#1820).

    RecBole imports Ray for one line, a report from within a trial; this saves all others a second, and those
    without Ray an ImportError.
    """
    ray = sys.modules.get("ray")
    if ray is None:
        sys.modules["ray"] = ModuleType("ray")
        sys.modules["ray"].tune = ModuleType("ray.tune")
    try:
        return import_module("recbole.quick_start.quick_start")
    finally:
        if ray is None:
            del sys.modules["ray"]


quick_start = import_quick_start()


def report(**metrics):
    """Report ``metrics`` to Ray Tune as one dict; where no Ray is loaded, there is no trial."""
    tune = sys.modules.get("ray.tune")
    if tune is not None:
        tune.report(metrics)


def report_to_current_ray():
    """`objective_function` calls ``tune.report(**metrics)``, a form that Ray lost (#1820)."""
    stand_in(quick_start, "tune", report=report)


def objective_function(config_dict=None, config_file_list=None, saved=True):
    """RecBole's, under a name whose import patches RecBole first: a Ray worker looks it up by that.

    The test metrics stand in the result itself, too: Ray takes what a trial returns for its last report, and
    refuses a report without the metric that it compares trials by.
    """
    result = objective_function.replaced(config_dict, config_file_list, saved)
    return {**result, **result["test_result"]}


def run_recboles(rank, *args):
    """RecBole's, under a name whose import patches RecBole first: ``mp.spawn`` looks it up by that."""
    return run_recboles.replaced(rank, *args)


def carry_patches_to_new_processes():
    """Ray's workers, and RecBole's own processes per GPU, import RecBole afresh and must patch it too."""
    for function in (objective_function, run_recboles):
        rebind(quick_start, function.__name__, lambda original, function=function: function)
        function.__module__ = __name__
