"""Errors a user can mend: each carries the exit code that the command line ends with."""

import difflib
from collections.abc import Iterable, Mapping, Sequence


class NMTError(Exception):
    """Something failed that its message, one line, tells how to mend."""

    exit_code = 1


class UsageError(NMTError):
    """A wrong option, setting or combination of them."""

    exit_code = 2


class SettingError(UsageError):
    """A setting with a value that it cannot have."""

    def __init__(self, key: str, value: object, rule: str) -> None:
        super().__init__(f"{key} = {value} is not possible: {rule}")
        self.key, self.value, self.rule = key, value, rule

    def as_option(self, names: Mapping[str, str]) -> UsageError:
        """The same of a command's option, whose name `names` has where it is not that of the setting."""
        name = names.get(self.key, self.key).replace("_", "-")
        return UsageError(f"--{name} {self.value} is not possible: {self.rule}")


class DataError(NMTError):
    """Parallel text that is misaligned, unreadable or empty."""

    exit_code = 3


class ModelError(NMTError):
    """A model or checkpoint that is missing, damaged or of another version."""

    exit_code = 4


class DeviceError(NMTError):
    """A device that is missing or out of memory."""

    exit_code = 5


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the known name nearest to `name`, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""


def unknown(what: str, name: str, known: Sequence[str]) -> UsageError:
    """`unknown WHAT 'NAME' (did you mean ...?): choose ...`, to be raised."""
    choices = f"{', '.join(known[:-1])} or {known[-1]}"
    return UsageError(f"unknown {what} '{name}'{did_you_mean(name, known)}: choose {choices}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or in main memory; torch says so in several ways."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    known = ("out of memory", "allocate memory", "not enough memory", "ALLOC_FAILED", "bad_alloc", "std::length_error")
    return isinstance(error, RuntimeError) and any(words in text for words in known)
