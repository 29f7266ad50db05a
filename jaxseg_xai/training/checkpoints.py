"""Training checkpoints by Orbax: the latest, to resume from, and the best."""

from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from jaxseg_xai.core.errors import ModelError

_POLICIES = ocp.training.preservation_policies


class Checkpoints:
    """Checkpoints of one run in `folder`; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checkpointer = ocp.training.Checkpointer(
            str(folder.resolve()),
            # Orbax annotates its own policies too narrowly.
            preservation_policy=_POLICIES.AnyPreservationPolicy(  # pyright: ignore[reportArgumentType]
                [
                    _POLICIES.LatestN(1),
                    _POLICIES.BestN(n=1, get_metric_fn=lambda metrics: metrics["dice"]),
                ]
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._checkpointer.close()

    def save(self, step: int, state: Any, dice: float) -> None:
        """Save a pytree of arrays with its validation Dice."""
        self._checkpointer.save(step, state, metrics={"dice": dice})

    def latest(self) -> tuple[int, float] | None:
        """Step of the latest checkpoint and the best Dice so far, or None."""
        saved: list[Any] = list(self._checkpointer.checkpoints)
        if not saved:
            return None
        return max(c.step for c in saved), max(c.metrics["dice"] for c in saved)

    def load(self, step: int, like: Any) -> Any:
        """Load the pytree saved at a step, shaped and sharded as `like`.

        Raises:
          ModelError: the checkpoint is of another architecture, or damaged.
        """
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
        )
        try:
            state = self._checkpointer.load(step, abstract)
        except (ValueError, KeyError, OSError) as error:
            reason = str(error).split("\n")[0]
            raise ModelError(
                f"{self._folder}: checkpoint {step} is damaged or of another architecture "
                f"({reason}); choose another out folder, or the settings it was made with"
            ) from error
        same = jax.tree.map(lambda a, b: a.shape == b.shape, state, like)
        if not all(jax.tree.leaves(same)):
            raise ModelError(
                f"{self._folder}: checkpoint {step} is of another architecture; "
                "choose another out folder, or the settings it was made with"
            )
        return state
