"""`kedro run`, except that what the user can put right is said in one line, without a traceback."""

import contextlib
import copy
import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import settings
from kedro.io import DatasetNotFoundError
from kedro.validation.exceptions import ParameterValidationError
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from tckr.disk import explained
from tckr.errors import UserError, user_error
from tckr.interrupt import Interrupted, unwinding
from tckr.parameters import parse
from tckr.pipeline_registry import NAMES, RELEASE, STAGES

DEFAULT = "knowledge_recycling"

# Others call no hooks where the nodes run.
RUNNERS = ("SequentialRunner", "ThreadRunner")

# Kedro says these in plain ValueErrors: a pipeline, node, namespace or dataset name that does not exist.
WRONG_NAME = ("Failed to find the pipeline named", "Pipeline does not contain", "No nodes match")


class OneLine(click.ClickException):
    """An error whose message is the whole story."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message in red on standard error."""
        click.secho(f"Error: {self.message}", fg="red", err=True, file=file)


def explain(error: BaseException) -> str | None:
    """Return the one line that tells the user what to do; None if `error` is a defect and needs its traceback."""
    readable = user_error(error) or explained(error)
    if readable is not None:
        return str(readable)
    text = " ".join(str(error).split())
    if isinstance(error, ParameterValidationError | OmegaConfBaseException):
        return text
    if isinstance(error, MissingConfigException | YAMLError):
        return f"{text.rstrip('.')}. Remedy: correct that file of conf/, or put it there."
    if isinstance(error, DatasetNotFoundError):
        return f"{text.rstrip('.')}. Remedy: `kedro catalog describe-datasets` shows the names."
    if isinstance(error, ValueError) and text.startswith(WRONG_NAME):
        return f"{text} Remedy: `kedro registry list` and `kedro registry describe` show the names."
    return None


def _is_news(record: logging.LogRecord) -> bool:
    """Keep Kedro from logging, ahead of our one line, an error that the user can put right."""
    error = sys.exc_info()[1]
    return error is None or explain(error) is None


def named(namespaces: Sequence[str]) -> list[str]:
    """Return the pipelines that hold these stages; without any, the default.

    By its name, `__default__` spares the imports of the pipelines beside it and names the MLflow run.

    >>> named(["student_training"]), named(["unadapted.student_training"])
    (['knowledge_recycling'], ['unadapted'])
    >>> named(["release"]), named(["privacy_audit", "release"])
    (['release'], ['knowledge_recycling'])
    """
    owners = [name.split(".")[0] for name in namespaces]
    beside = list(dict.fromkeys(name for name in owners if name in NAMES and name not in STAGES))
    if beside and all(owner in beside for owner in owners):
        return beside
    return [
        DEFAULT,
        *(name for name in beside if name != RELEASE),
    ]  # beside others it is their last


class Run(click.Command):
    """Kedro's own run command with readable errors."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run; turn an error that can be explained into one line and exit code 1."""
        for name in (
            "kedro.pipeline.node",
            "kedro.runner.runner",
            "kedro.runner.sequential_runner",
        ):
            logging.getLogger(name).addFilter(_is_news)
        if not (ctx.params["pipeline"] or ctx.params["pipelines"]):
            ctx.params["pipelines"] = named(ctx.params["namespaces"] or [])
        project = getattr(ctx.obj, "project_path", None) or Path.cwd()
        try:
            # Relative places count from the project, wherever in it the command is given.
            with contextlib.chdir(project), warnings.catch_warnings(), unwinding(), _told():
                # `--pipeline=<name>` reads as it should, and works as long as Kedro is 1.x.
                warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")
                check_choice(ctx.params, project)
                return super().invoke(ctx)
        except click.ClickException:
            raise
        except KeyboardInterrupt as stopped:
            raise OneLine(*describe_interrupt(stopped)) from stopped
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            raise OneLine(message) from error


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell the hooks of whatever ended a run without Kedro's own hooks being told: an interrupt, above all."""
    try:
        yield
    except BaseException:
        for hook in settings.HOOKS:
            if hasattr(hook, "on_interrupt"):
                hook.on_interrupt()
        raise


def describe_interrupt(stopped: KeyboardInterrupt) -> tuple[str, int]:
    """Return what to say of an interrupted run, and its exit code, 128 and the number of the signal.

    >>> describe_interrupt(Interrupted(signal.SIGTERM))[1]
    143
    """
    number = stopped.number if isinstance(stopped, Interrupted) else signal.SIGINT
    name = signal.Signals(number).name
    return (
        f"Stopped by {name}. Remedy: the same command with resume=last among its --params takes up what was made.",
        128 + number,
    )


def check_choice(choice: Mapping[str, Any], project: Path) -> None:
    """Check the environment and the runner before Kedro looks for them.

    Args:
        choice: options of the command line.
        project: folder of the project.

    Raises:
        UserError: there is no such environment, or the runner is not one for this project.
    """
    place = project / (choice.get("conf_source") or settings.CONF_SOURCE)
    if choice.get("env") and place.is_dir() and not (place / choice["env"]).is_dir():
        known = sorted(folder.name for folder in place.iterdir() if folder.is_dir())
        raise UserError(
            f"There is no environment {choice['env']}.", f"give --env one of {', '.join(known)}."
        )
    runner = str(choice.get("runner") or "SequentialRunner").rpartition(".")[2]
    if runner not in RUNNERS:
        raise UserError(
            f"{runner} cannot run this project: what was made from what is recorded in this process alone.",
            "leave --runner out: the long stages use all cores by themselves.",
        )


def _parameters(ctx: click.Context, option: click.Parameter, value: Any) -> Any:
    """Read `--params`; a file of `--config` has read it already."""
    del ctx, option
    try:
        return value if isinstance(value, dict) else parse(value or "")
    except UserError as error:
        raise OneLine(str(error)) from error


def _options() -> list[click.Parameter]:
    """Return Kedro's options, of which `--params` also takes lists and quoted texts."""
    options = [copy.copy(option) for option in kedro_run.params]
    for option in options:
        if option.name == "params":
            option.callback = _parameters
    return options


@click.group(name="tckr")
def cli() -> None:
    """Commands of this project."""


run = Run("run", callback=kedro_run.callback, params=_options(), help=kedro_run.help)
cli.add_command(run)
