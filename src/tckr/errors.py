"""The one error that users are meant to read."""


class UserError(ValueError):
    """Something the user can put right: names the file or key at fault and the remedy, in one line.

    The command line prints its message alone, without a traceback.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} Remedy: {remedy}")
        self.problem = problem
        self.remedy = remedy
