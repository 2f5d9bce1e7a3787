"""The errors that users are meant to read."""


class UserError(ValueError):
    """Something the user can put right: names the file or key at fault and the remedy, in one line.

    The command line prints its message alone, without a traceback.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} Remedy: {remedy}")
        self.problem = problem
        self.remedy = remedy


class Paused(UserError):  # noqa: N818 - nothing went wrong
    """Work that ran out of its time and saved where it stood; the same command goes on from there.

    Attributes:
        done: steps taken so far, of `steps`.
    """

    def __init__(self, description: str, done: int, steps: int) -> None:
        super().__init__(
            f"Paused '{description}' after step {done:,} of {steps:,}; where it stood is saved.",
            "run the same command again: it goes on from there.",
        )
        self.done = done
        self.steps = steps
