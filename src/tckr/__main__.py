"""`python -m tckr` does what `kedro run` does."""

import sys
from pathlib import Path
from typing import Any

from kedro.framework.cli.utils import find_run_command
from kedro.framework.startup import bootstrap_project


def main(*args: Any, **kwargs: Any) -> Any:
    """Run a pipeline of the project in the current folder."""
    bootstrap_project(Path.cwd())
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")
    return find_run_command("tckr")(*args, **kwargs)


if __name__ == "__main__":
    main()
