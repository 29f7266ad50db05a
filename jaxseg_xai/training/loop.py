"""Train a segmentation model: cross-entropy plus soft Dice, AdamW, data-parallel."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from jaxseg_xai.core.errors import ConfigError, DataError, JaxsegError
from jaxseg_xai.core.fields import check
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.parse import json_of
from jaxseg_xai.core.progress import progress_bar
from jaxseg_xai.core.types import Source
from jaxseg_xai.devices.mesh import AXIS, device_mesh
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.bundle import ModelCard, bundle_of
from jaxseg_xai.models.folder import load_model, save_model, write_card
from jaxseg_xai.training.batches import training_batches
from jaxseg_xai.training.checkpoints import Checkpoints
from jaxseg_xai.training.config import TrainConfig
from jaxseg_xai.training.evaluate import evaluate
from jaxseg_xai.training.step import State, initial_state, make_step, trainable


def train(config: TrainConfig, command: str = "") -> dict[str, float]:
    """Train, keep the model with the best validation Dice in `config.out`, and test it.

    Args:
      config: the run; one that was interrupted continues from its last checkpoint.
      command: how to repeat it, for the model card.

    Returns:
      Dice per class on the test split (the validation split where there is no test split), and
      their mean under "mean".

    Raises:
      ConfigError: a setting out of its bounds, or a folder that holds another run.
      DataError: images that cannot be trained on.
      JaxsegError: the training diverged.
    """
    check(config)
    network = _fitting(config.open("train"), config)
    train_set, validation = (
        config.open(split, network.in_channels) for split in ("train", "validation")
    )
    _claim(config, network)
    optimizer = optax.adamw(_schedule(config), weight_decay=config.weight_decay)

    mesh = device_mesh()
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    replicated = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec(AXIS if config.batch_size % mesh.size == 0 else None))

    def initial() -> State:
        return initial_state(trainable(network, config.seed), optimizer)

    graphdef = nnx.graphdef(nnx.eval_shape(lambda: trainable(network, config.seed)))
    # Made under the same sharding as the step's outputs, so that the step compiles once. It runs
    # once: optimising how random numbers are drawn takes ten times as long as drawing them.
    state = jax.jit(
        initial,
        out_shardings=replicated,
        compiler_options={"xla_backend_optimization_level": 0},
    )()
    step_fn = jax.jit(
        make_step(graphdef, optimizer),
        donate_argnums=0,
        in_shardings=(replicated, split, split),
        out_shardings=replicated,
    )
    card = ModelCard(
        architecture=network.name,
        config=dataclasses.asdict(network),
        class_names=train_set.class_names,
        name_map={},
        about={"data": config.data, "command": command, "licence": config.licence}
        | {"seed": config.seed, "versions": {"jax": jax.__version__}},
    )

    def validate(state: State) -> float:
        bundle = bundle_of(card, nnx.merge(graphdef, state[0], state[1]))
        return evaluate(bundle.segmenter, bundle.variables, validation)["mean"]

    with Checkpoints(config.out / "checkpoints") as checkpoints:
        first, best = 0, -1.0
        if (found := checkpoints.latest()) is not None:
            first, best = found
            state = checkpoints.load(first, state)
            _forget_after(config.out, first)
        batches = training_batches(
            train_set,
            config.batch_size,
            spec=network.input_spec(),
            seed=config.seed,
            augment=config.augment,
            first_step=first,
        )
        progress = progress_bar(
            range(first, config.steps), initial=first, total=config.steps, unit="step"
        )
        for step, (images, labels) in zip(progress, batches, strict=False):
            state, loss = step_fn(state, images, labels)
            if on_cpu:
                # With several steps under way, devices waited for each other's gradients for ever
                # where the machine was busy.
                loss.block_until_ready()
            done = step + 1
            if done % config.eval_every and done != config.steps:
                continue
            if not math.isfinite(loss):
                raise JaxsegError(
                    f"the loss is {float(loss)} at step {done}: training diverged; lower "
                    "learning_rate and choose another out folder"
                )
            dice = validate(state)
            progress.set_postfix(loss=f"{float(loss):.4f}", dice=f"{dice:.4f}")
            _log(config.out, step=done, loss=float(loss), validation_dice=dice)
            # The model before the checkpoint: a run killed between the two repeats this step, and
            # does not take a best model for kept that it never wrote.
            if dice > best:
                best = dice
                model = nnx.merge(graphdef, state[0], state[1])
                save_model(config.out, model, card, config.weights_dtype)
            checkpoints.save(done, state, dice)
    return _test(config, card)


def _schedule(config: TrainConfig) -> optax.Schedule:
    warmup = min(max(1, config.steps // 20), max(1, config.steps - 1))
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, max(config.steps, warmup + 1)
    )


def _fitting(dataset: Source, config: TrainConfig) -> Architecture:
    """The network for a data set, as its first image shows it."""
    if not len(dataset):
        raise DataError(f"{config.data}: no training images")
    sample = dataset[0]
    network = config.network(np.shape(sample.image)[-1], len(dataset.class_names))
    spec, size = network.input_spec(), np.shape(sample.image)[:-1]
    if spec.fixed_size is None and any(side % spec.multiple_of for side in size):
        raise DataError(
            f"{sample.id}: {'x'.join(map(str, size))} is not a multiple of {spec.multiple_of}, as "
            f"this {network.name} needs; choose settings with fewer poolings, or pad the images"
        )
    prepare(sample, spec)
    return network


def _claim(config: TrainConfig, network: Architecture) -> None:
    """Note the settings in `config.out`, or find that a run of the same settings did."""
    path, new = config.out / "train.json", config.identity(network)
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps(new, indent=2) + "\n")
        old = json_of(path)
        if not isinstance(old, dict):
            raise ValueError("no table")
    except (OSError, ValueError) as error:
        raise JaxsegError(
            f"{path}: cannot be read or written ({error}); choose another out folder"
        ) from error
    changes = [
        f"{name} was {old.get(name, 'absent')}, is {new.get(name, 'absent')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if changes:
        raise ConfigError(
            f"{config.out} holds another run: {'; '.join(changes)}; choose another out folder, or "
            "delete this one to start again"
        )


def _test(config: TrainConfig, card: ModelCard) -> dict[str, float]:
    """Dice of the kept model on held-out images, noted on its card."""
    bundle = load_model(config.out)
    try:
        split, held_out = "test", config.open("test")
    except DataError:
        split, held_out = "validation", config.open("validation")
    dices = evaluate(bundle.segmenter, bundle.variables, held_out)
    noted = {name: None if math.isnan(d) else round(d, 4) for name, d in dices.items()}
    about = card.about | {"dice": noted, "dice_split": split, "dice_images": len(held_out)}
    write_card(config.out, dataclasses.replace(card, about=about))
    return dices


def _forget_after(out: Path, step: int) -> None:
    """Drop what was logged after the checkpoint that a run continues from: it comes again."""
    path = out / "metrics.jsonl"
    if path.exists():
        # A line without its end was cut off when the run was killed.
        lines = [x for x in path.read_text().splitlines(keepends=True) if x.endswith("\n")]
        path.write_text("".join(line for line in lines if json.loads(line)["step"] <= step))


def _log(out: Path, **entry: float) -> None:
    with (out / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({k: float(np.round(v, 6)) for k, v in entry.items()}) + "\n")
