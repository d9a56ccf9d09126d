"""Exceptions of this tool: each says in one line what is wrong and in one line what to do."""


class HepError(Exception):
    """An error a user can act on; commands print it and exit with status 1.

    Args:
        what: what is wrong, naming the key or file and the offending value.
        advice: what is allowed or what to type next.
    """

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what, advice)
        self.what = what
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.what} {self.advice}"


class ConfigError(HepError):
    """A preset, key or value that is not allowed."""


class CodeError(HepError):
    """A user's own component that is not what it must be, or a file of them that fails or has changed."""


class DatasetError(HepError):
    """A data set that is missing, damaged or not what it claims to be."""


class CheckpointError(HepError):
    """A run folder or checkpoint that is missing, damaged or of another run."""


class OutputError(HepError):
    """A folder or file that cannot be written."""


class FolderBusyError(OutputError):
    """A run folder that another process is training into."""


class DivergenceError(HepError):
    """Training that left the finite numbers."""


class SweepError(HepError):
    """A sweep that cannot go on."""


class ProcessError(HepError):
    """One of several processes that train a run failed, or does not fit the others."""
