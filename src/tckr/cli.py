"""`kedro run`, except that what the user can put right is said in one line, without a traceback."""

import logging
import sys
import warnings
from collections.abc import Sequence
from typing import IO, Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.validation.exceptions import ParameterValidationError
from omegaconf.errors import OmegaConfBaseException

from tckr.disk import explained
from tckr.errors import user_error
from tckr.pipeline_registry import NAMES, STAGES

DEFAULT = "knowledge_recycling"

# Kedro says these in plain ValueErrors: a pipeline, node, namespace or dataset name that does not exist.
WRONG_NAME = ("Failed to find the pipeline named", "Pipeline does not contain", "No nodes match")


class OneLine(click.ClickException):
    """An error whose message is the whole story."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message in red on standard error."""
        click.secho(f"Error: {self.message}", fg="red", err=True, file=file)


def explain(error: BaseException) -> str | None:
    """Return the one line that tells the user what to do; None if `error` is a defect and needs its traceback."""
    readable = user_error(error)
    if readable is not None:
        return str(readable)
    full = explained(error)
    if full is not None:
        return str(full)
    text = " ".join(str(error).split())
    if isinstance(error, ParameterValidationError | OmegaConfBaseException):
        return text
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
    """
    owners = [name.split(".")[0] for name in namespaces]
    beside = list(dict.fromkeys(name for name in owners if name in NAMES and name not in STAGES))
    return beside if beside and all(owner in beside for owner in owners) else [DEFAULT, *beside]


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
        try:
            with warnings.catch_warnings():
                # `--pipeline=<name>` reads as it should, and works as long as Kedro is 1.x.
                warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")
                return super().invoke(ctx)
        except click.ClickException:
            raise
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            raise OneLine(message) from error


@click.group(name="tckr")
def cli() -> None:
    """Commands of this project."""


run = Run("run", callback=kedro_run.callback, params=kedro_run.params, help=kedro_run.help)
cli.add_command(run)
