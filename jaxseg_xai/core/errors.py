"""The errors a user can cause: each message names the item and the remedy, in one line."""


class JaxsegError(Exception):
    """Base of every error this library raises on bad input; the CLI prints it and exits with 2."""


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
