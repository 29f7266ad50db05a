"""`jaxseg-xai train`: a U-Net into a model folder."""

from jaxseg_xai.cli.command import EXIT_OK, Command
from jaxseg_xai.training.config import TrainConfig


def run(config: TrainConfig, command: str) -> int:
    """Train and print the Dice on held-out images."""
    from jaxseg_xai.training.loop import train  # Orbax takes a second to import

    dices = train(config, command)
    print("held-out Dice: " + ", ".join(f"{name} {dice:.4f}" for name, dice in dices.items()))
    print(f"model: {config.out}")
    return EXIT_OK


COMMAND = Command(
    config=TrainConfig,
    run=run,
    example="jaxseg-xai train --data triangle --steps 2500 --out runs/triangle",
)
