"""Errors that users are meant to read."""

from typing import Any


class UserError(ValueError):
    """Something the user can fix: the message names the file or key at fault and the remedy, in one line.

    The command line prints the message alone, without a traceback.

    >>> str(UserError("There is no photos/.", "point ingestion at a folder."))
    'There is no photos/. Remedy: point ingestion at a folder.'
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} Remedy: {remedy}")
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are pickled as `type(*args)`, which would lack the remedy: a worker process
        # could not send this error to its parent.
        return type(self), (self.problem, self.remedy)


class Paused(UserError):  # noqa: N818 - nothing went wrong
    """Work that ran out of its time and saved its state; the same command resumes it.

    Attributes:
        description: name of the work.
        done: steps taken so far, of `steps`.
    """

    def __init__(self, description: str, done: int, steps: int) -> None:
        super().__init__(
            f"Paused '{description}' after step {done:,} of {steps:,}; its state is saved.",
            "run the same command again: it resumes from there.",
        )
        self.description = description
        self.done = done
        self.steps = steps

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.description, self.done, self.steps)


def user_error(error: BaseException) -> UserError | None:
    """Return the `UserError` that `error` is, or that caused it; None if there is none.

    >>> try:
    ...     try:
    ...         raise UserError("photos.csv is empty.", "list one image per row.")
    ...     except UserError as empty:
    ...         raise RuntimeError("shard 3 failed") from empty
    ... except RuntimeError as error:
    ...     user_error(error).remedy
    'list one image per row.'
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, UserError):
            return link
        link = link.__cause__ or link.__context__
    return None
