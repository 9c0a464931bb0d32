"""The commands; each verb is a short call, and an error of the house is one sentence, not a traceback."""

import sys

from rich.console import Console

from dataset_prep import PrepError

from .errors import ArtifactError, BackendError, DataError, SettingError


def train(arguments=None):
    """``recbole-llm train`` and ``run_recbole_llm.py``: run one model and, if asked, its baseline and its refit."""
    from .train.run import main

    try:
        main(arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except (ArtifactError, BackendError, DataError, PrepError, SettingError) as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"[bold red]{type(error).__name__}:[/] ", end=""
        )
        print(error, file=sys.stderr)
        sys.exit(2)


VERBS = {"train": train}


def main():
    """The command ``recbole-llm <verb> --key=value ...``."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in VERBS:
        print(f"recbole-llm <verb> --key=value ...; the verbs are {', '.join(VERBS)}", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    VERBS[verb]()
