"""A segmentation model as the explainers see it: a description and a pure function."""

import dataclasses
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from jaxseg_xai.core.errors import JaxsegError, ModelError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.output_spec import OutputSpec

#: What a model computes in. float32 is that of IEEE on every device: by itself JAX would let GPUs
#: and TPUs round the factors of products to 10 or 7 bits. tensorfloat32 is what GPUs would do.
Dtype = Literal["float32", "tensorfloat32", "bfloat16"]

#: Fields of a model's input that whoever uses it may choose.
_OF_INPUT = ("pad", "pad_to", "grey", "fixed_size")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sites:
    """What a family says about its inside.

    Attributes:
      cam_layer: the layer whose channels class activation maps weigh; "" leaves it to the method.
    """

    cam_layer: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segmenter:
    """A model as explainers see it; frozen and hashable by value, so that jit caches hold.

    Attributes:
      apply: hashable pure function (variables, inputs [B, *S, C]) -> what the model returns.
      input: what it takes.
      output: what it returns.
      sites: what is known of its inside.
      dtype: what it computes in; logits are float32 whatever it is.
      differentiable: whether it has a gradient with respect to its inputs.
    """

    apply: Any
    input: InputSpec
    output: OutputSpec
    sites: Sites = Sites()
    dtype: Dtype = "float32"
    differentiable: bool = True

    def logits(self, variables: Any, inputs: jax.Array) -> jax.Array:
        """Prepared inputs [B, *S, C] -> float32 logits [B, *S, K] on the same grid.

        Neither resizes nor normalises its input: `prepare` did.

        Raises:
          ModelError: the model cannot be applied, or its output is not as described.
        """
        shape = inputs.shape
        self._check_input(shape)
        if self.dtype == "bfloat16":
            variables, inputs = jax.tree.map(_to_bfloat16, (variables, inputs))
        with jax.default_matmul_precision(self.dtype):
            try:
                raw = self.apply(variables, inputs)
            except JaxsegError:
                raise
            except Exception as error:  # whatever somebody's model raises
                reason = str(error).strip().split("\n")[0]
                low = "leave dtype out, " * (self.dtype == "bfloat16")
                raise ModelError(
                    f"the model cannot be applied to images {shape}: {type(error).__name__}: "
                    f"{reason}; {low}describe the sizes that it takes (input.multiple_of or "
                    "input.fixed_size), and write it in JAX without Python control flow on values"
                ) from error
        logits = self.output.read(raw, shape[1:-1])
        if logits.shape[0] != shape[0]:
            raise ModelError(
                f"the model gives logits of {logits.shape[0]} images for {shape[0]}; return those "
                "of every image of the batch"
            )
        return logits

    def __call__(self, variables: Any, inputs: jax.Array) -> jax.Array:
        """The same as `logits`: a `Segmenter` is a `Predict`."""
        return self.logits(variables, inputs)

    def replace(self, **changes: Any) -> "Segmenter":
        """A copy with other `pad`, `pad_to`, `grey`, `fixed_size` (of its input), or other fields.

        Raises:
          ModelError: the model cannot have such a value.
        """
        of_input = {name: changes.pop(name) for name in _OF_INPUT if name in changes}
        spec = changes.pop("input", self.input)
        size = tuple(of_input.get("fixed_size") or ())
        if size and spec.fixed_size not in (None, size):
            raise ModelError(
                f"images cannot be resized to {size}: the model takes {spec.fixed_size} only; "
                "leave sizes out"
            )
        spec = dataclasses.replace(spec, **of_input)
        if (dtype := changes.get("dtype", self.dtype)) not in get_args(Dtype):
            raise ModelError(f"dtype is {dtype!r}; use {', '.join(get_args(Dtype))}")
        return dataclasses.replace(self, input=spec, **changes)

    def _check_input(self, shape: tuple[int, ...]) -> None:
        spec = self.input
        if len(shape) != spec.rank + 2 or shape[-1] != spec.channels:
            axes = "H, W" if spec.rank == 2 else "D, H, W"
            raise ModelError(
                f"the model takes [B, {axes}, {spec.channels}], not {tuple(shape)}; prepare the "
                "images for it (jaxseg_xai.core.inputs.prepare)"
            )
        sizes = shape[1:-1]
        wanted = spec.fixed_size or tuple(size - size % spec.multiple_of for size in sizes)
        if sizes != wanted:
            what = f"size {wanted}" if spec.fixed_size else f"multiples of {spec.multiple_of}"
            raise ModelError(
                f"the model takes {what}, not {sizes}; prepare the images for it "
                "(jaxseg_xai.core.inputs.prepare)"
            )


def _to_bfloat16(x: Any) -> Any:
    return jnp.asarray(x, jnp.bfloat16) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x
