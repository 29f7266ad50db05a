"""The errors a user can cause: each message names the item and the remedy, in one line."""

from typing import Any

#: Letters of what a library or a file says within a message, and of a message: its begin and end.
_MOST_LETTERS, _BEGIN, _END = 160, 500, 250


class JaxsegError(Exception):
    """Base of every error this library raises on bad input; the CLI prints it and exits with 2.

    Whatever stands in a file or its name, the message is one line: what cannot be printed becomes a
    blank, and the middle of a very long one is left out.
    """

    def __init__(self, message: str = "") -> None:
        if len(message) > _BEGIN + _END:
            message = f"{message[:_BEGIN]} ... {message[-_END:]}"
        super().__init__("".join(c if c.isprintable() else " " for c in message))

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets the message as it is, whatever the arguments it was made of."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


def reason_of(error: BaseException) -> str:
    """What another library says is wrong, as a part of a message; the error's name if nothing."""
    text = str(error).strip().split("\n")[0]
    return shortened(text) or type(error).__name__


def shortened(text: str) -> str:
    """A text that may be long, as a part of a message."""
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 3]}..."


class DataError(JaxsegError):
    """An image, label map or data set that cannot be used (corrupt, NaN, wrong shape, ...)."""


class EmptyImageError(DataError):
    """An image of one value everywhere, a slice beside the brain say: nothing can be explained."""


class ModelError(JaxsegError):
    """A model folder, checkpoint or weight file that cannot be used."""


class MismatchError(ModelError):
    """Weights that are not those of the network.

    Attributes:
      details: all names that do not fit, a line each; the message has the first ones.
    """

    def __init__(self, message: str, details: str) -> None:
        super().__init__(message)
        self.details = details


class ConfigError(JaxsegError):
    """A flag, a configuration key or a value out of its range."""


class MissingExtraError(JaxsegError, ImportError):
    """An optional dependency is absent."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs an optional dependency: pip install 'jaxseg-xai[{extra}]'"
        )
