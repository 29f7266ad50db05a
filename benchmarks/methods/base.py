"""What a case is, and the generic one: a method on a batch against PyTorch peers."""

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from benchmarks.agree.frozen import KINDS, compare_logits, frozen
from benchmarks.agree.kind import Ours, Subject, check
from benchmarks.agree.verdict import Validation, all_of
from benchmarks.arrays import Arrays, Inputs
from benchmarks.harness.machine import peak_memory
from benchmarks.harness.record import Measurement, PeerSample, Row, Timing
from benchmarks.harness.settings import COMPILED, Settings
from benchmarks.harness.timing import Pace, interleave, phase, timed
from benchmarks.methods.inputs import TORCH, choose_images, inputs_of, open_model, torch_net
from jaxseg_xai.core.errors import ConfigError, MissingExtraError
from jaxseg_xai.explainers import Explainer
from jaxseg_xai.models import Bundle
from jaxseg_xai.models.zoo.unet import UNetConfig
from jaxseg_xai.models.zoo.unet3d import UNet3DConfig

#: Name of ours -> the method with its settings, and what it explains.
Prepared = dict[str, tuple[Any, Inputs]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to measure.

    Attributes:
      name: on the command line.
      about: one line.
      defaults: settings where a flag is left out.
      quick: the same with --quick.
      has_peers: whether there is PyTorch code that does the same work.
      compiles: whether `torch.compile` can be tried on that.
      split_lanes: whether images are dealt out to the devices, so that their number must divide.
      all_devices: whether it always uses every device of this process.
    """

    name: str
    about: str
    defaults: Settings
    quick: Settings
    has_peers: bool = True
    compiles: bool = False
    split_lanes: bool = True
    all_devices: bool = False

    def run(self, settings: Settings, mesh: Mesh) -> Measurement:
        """Measure and validate it on the devices of a mesh."""
        raise NotImplementedError

    def check(self, settings: Settings) -> None:
        """Raise `ConfigError` or `MissingExtraError` for settings that the case cannot have."""
        if settings.peer not in ("none", "all") and not self.has_peers:
            raise ConfigError(f"case {self.name} has no PyTorch peer; use --peer none")
        if settings.peer in COMPILED and not self.compiles:
            raise ConfigError(f"case {self.name} has no compiled PyTorch peer; use --peer tuned")
        if settings.model.startswith(TORCH) and settings.peers not in ((), ("original",)):
            raise ConfigError(f"{settings.model}: only the U-Net is tuned; use --peer original")
        if self.all_devices and settings.devices != jax.local_device_count():
            raise ConfigError(
                f"case {self.name} uses all {jax.local_device_count()} devices; leave out --devices"
            )
        if settings.peers and self.has_peers:
            if importlib.util.find_spec("torch") is None:
                raise MissingExtraError(f"--peer {settings.peer}", "peers")
            from benchmarks.peers.running import torch_device  # PyTorch only where it is needed

            if torch_device().type != "cpu" and settings.devices > 1:
                raise ConfigError(
                    f"the PyTorch peers run on one GPU, and ours would on {settings.devices}: add "
                    "--devices 1, or use --peer none"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ran:
    """What a case has run, for its figures.

    Attributes:
      settings: of the case.
      ours: name -> ours: "ours", and other settings of it.
      compared: name of that with which the peers' results are compared.
      results: name -> what everyone returned.
      timings: name -> how long everyone took.
    """

    settings: Settings
    ours: dict[str, Ours]
    compared: str
    results: dict[str, Any]
    timings: dict[str, Timing]

    @property
    def main(self) -> Ours:
        """Ours that is compared."""
        return self.ours[self.compared]

    @property
    def found(self) -> Any:
        """Its explanations."""
        return self.results[self.compared]

    @property
    def peers(self) -> dict[str, Arrays]:
        """The peers' results."""
        return {name: found for name, found in self.results.items() if name not in self.ours}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodCase(Case):
    """A method on `lanes` images, against PyTorch peers and a frozen reference.

    A method that needs no more is one of these; others derive from it and say what differs.

    Attributes:
      explainer: the method and its settings.
      shorter: other settings with --quick.
      references: names of the frozen references, which are checked in every run.
      per_image: explainer -> further work that an explanation stands for, {"gradients": 50}.
      flops: ours -> floating-point operations of a repetition; None where not counted.
      flops_of: how they are counted.
      peer_images: images that the peers do which take one at a time, where all would take long.
      captum: function of `peers.with_captum` that does the same work.
      compared: which of ours has the settings of the peers.
    """

    explainer: Explainer
    shorter: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    references: tuple[str, ...] = ()
    per_image: Callable[[Any], Mapping[str, float]] = lambda explainer: {}
    flops: Callable[[Ours], float | None] = lambda ours: None
    flops_of: str = ""
    peer_images: int | None = None
    captum: str = ""
    compared: str = "ours"

    def run(self, settings: Settings, mesh: Mesh) -> Measurement:
        bundle, explainer = self.open(settings), self.explainer
        if settings.quick:
            explainer = dataclasses.replace(explainer, **self.shorter)  # pyright: ignore[reportArgumentType]
        phase("compiling")
        ours = {
            name: Ours(KINDS[one.name], one, bundle, inputs, mesh)
            for name, (one, inputs) in self.prepare(settings, bundle, explainer).items()
        }
        seconds = sum(one.seconds for one in ours.values())
        contenders = {name: self.contender(settings, ours, name) for name in ours}
        first = 0.0 if explainer.traceable else timed(contenders["ours"])[1]
        if settings.peers and self.has_peers:
            contenders |= self.peers(settings, ours[self.compared])
        timings, results = interleave(contenders, pace(settings))
        if first:  # programs were compiled then, or by an earlier case
            seconds = max(0.0, first - timings["ours"].median)
        ran = Ran(
            settings=settings, ours=ours, compared=self.compared, results=results, timings=timings
        )
        figures: Any = self.figures(ran)
        scales = {name: sample.scale for name, sample in figures.get("peer_sample", {}).items()}
        return Measurement(
            compile_seconds=seconds,
            timings=timings,
            memory=peak_memory(ours["ours"].compiled if explainer.traceable else None, mesh),
            validation=self.validate(ran, mesh),
            **({"ratios": ratios(timings, scales)} | figures),
        )

    def open(self, settings: Settings) -> Bundle:
        """The model."""
        return open_model(settings)

    def prepare(self, settings: Settings, bundle: Bundle, explainer: Any) -> Prepared:
        """Name -> settings of ours and what is explained; "ours" comes first."""
        images, classes = choose_images(bundle, settings, settings.lanes)
        return {"ours": (explainer, inputs_of(bundle, images, classes, explainer))}

    def contender(self, settings: Settings, ours: dict[str, Ours], name: str) -> Callable[[], Any]:
        """One repetition of ours of a name."""
        return ours[name]

    def peers(self, settings: Settings, ours: Ours) -> dict[str, Callable[[], Any]]:
        """Name -> one repetition of the peers that are asked for."""
        from benchmarks.peers import with_captum

        module, model, explainer = ours.kind.module(), peer_model(ours.bundle), ours.explainer
        few, many = self.peer_inputs(ours)
        found = asked_peers(
            settings,
            model,
            lambda: module.original(model, few, explainer),
            lambda fast: module.tuned(fast, many, explainer),
        )
        if self.captum and "original" in found and with_captum.has_captum():
            captum = getattr(with_captum, self.captum)
            found["captum"] = lambda: captum(model, few, explainer)
        return found

    def peer_inputs(self, ours: Ours) -> tuple[Inputs, Inputs]:
        """What is explained one at a time, and what all at once."""
        return ours.inputs.some(slice(self.peer_images)), ours.inputs

    def figures(self, ran: Ran) -> dict[str, Any]:
        """The fields of `Measurement` that say what was done: work, flops, peer_sample, series."""
        lanes = ran.settings.lanes
        more = {what: lanes * each for what, each in self.per_image(ran.main.explainer).items()}
        return {
            "work": {"explanations": float(lanes)} | more,
            "flops": self.flops(ran.main),
            "flops_of": self.flops_of,
            "peer_sample": images_done(ran),
        }

    def compared_results(self, ran: Ran) -> tuple[Any, dict[str, Arrays]]:
        """Our explanation, and name -> what a peer found, in the form that is compared."""
        return ran.found, ran.peers

    def validate(self, ran: Ran, mesh: Mesh) -> Validation:
        """Ours against the frozen references, and against the peers' on the images they did."""
        dtype = ran.settings.dtype
        verdicts = {f"frozen {name}": frozen(name, dtype, mesh) for name in self.references}
        subject = ran.main.subject(ran.main.bundle, dtype, moves=bool(ran.peers))
        if ran.peers and ran.settings.model.startswith(TORCH):
            same = _same_network(ran.main.bundle, subject)
            verdicts["logits"] = same
            subject = dataclasses.replace(subject, logits_off=same.max_abs_diff)
        found, expected = self.compared_results(ran)
        return all_of(verdicts | check(ran.main, jax.device_get(found), expected, subject))


def images_done(ran: Ran) -> dict[str, PeerSample]:
    """Peers that did not explain all images."""
    lanes, samples = ran.settings.lanes, {}
    for name, found in ran.peers.items():
        if (count := len(found["segment"])) < lanes:
            what = f"the first {count} of {lanes} images, one at a time"
            samples[name] = PeerSample(what=what, scale=lanes / count)
    return samples


def fewer_flops(forward: float, intervention: float) -> Row:
    """How much less an intervention costs than a forward pass."""
    return {
        "of a forward pass": float(forward),
        "of an intervention": float(intervention),
        "times fewer": forward / intervention,
    }


def peer_model(bundle: Bundle) -> Any:
    """The bundle's model in PyTorch, on the device and in the dtype of ours."""
    from benchmarks.agree.torch_nets import Peer
    from benchmarks.peers.running import place
    from benchmarks.peers.unet import torch_unet

    if bundle.name.startswith(TORCH):
        model: Any = Peer(torch_net(bundle.name))
    elif isinstance(config := bundle.card.architecture_config(), UNetConfig | UNet3DConfig):
        model = torch_unet(config, bundle.variables)
    else:
        raise ConfigError(f"{bundle.name}: the peers know the U-Net only; use --peer none")
    return place(model, bundle.segmenter.dtype)


def _same_network(bundle: Bundle, subject: Subject) -> Validation:
    """The verdict on the logits of ours, against those of a network that PyTorch has, too."""
    import torch

    from benchmarks.peers.unet import channels_first, class_logits

    model, images = peer_model(bundle), subject.inputs.images
    with torch.inference_mode():
        theirs = class_logits(model(channels_first(images, model.device)))
    expected = theirs.float().movedim(1, -1).cpu().numpy()
    return compare_logits(subject.logits(images), expected, subject.dtype)


def asked_peers(
    settings: Settings, model: Any, original: Callable[[], Any], tuned: Callable[[Any], Any]
) -> dict[str, Callable[[], Any]]:
    """Name -> one repetition of the peers that are asked for; `tuned` is given a fast model."""
    from benchmarks.peers.unet import compiled_copy, tuned_copy

    found: dict[str, Callable[[], Any]] = {"original": original}
    if settings.peers == ("original",):
        return found
    folded = tuned_copy(model)
    found["tuned"] = lambda: tuned(folded)
    if settings.peer in COMPILED:
        fast = compiled_copy(folded, COMPILED[settings.peer])
        found[settings.peer] = lambda: tuned(fast)
    return {name: found[name] for name in settings.peers}


def pace(settings: Settings) -> Pace:
    """How often and for how long everyone runs."""
    if settings.quick:
        return Pace(repetitions=settings.repetitions, slow_seconds=8.0)
    # A CPU's speed wanders for longer.
    short = 1.0 if jax.default_backend() == "cpu" else 0.5
    return Pace(repetitions=settings.repetitions, short_seconds=short, slow_seconds=60.0)


def ratios(timings: Mapping[str, Timing], scales: Mapping[str, float]) -> dict[str, float]:
    """Median time of each peer over ours on the same work, `scales` times what the peer did."""
    ours = timings["ours"].median
    return {
        name: timing.median * scales.get(name, 1.0) / ours
        for name, timing in timings.items()
        if not name.startswith("ours")
    }
