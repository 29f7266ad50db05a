"""Names that wrappers of a network have put before all others."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from jaxseg_xai.core.errors import ModelError

#: Attributes under which wrappers keep a network: DataParallel, Lightning modules, torch.compile.
_PREFIXES = ("module.", "net.", "model.", "_orig_mod.")


def readings(
    arrays: Mapping[str, np.ndarray], left_out: Sequence[str] = ()
) -> Iterator[dict[str, np.ndarray]]:
    """The arrays under the file's own names, then without one prefix after the other.

    A prefix is one that most names have: what stands beside the network (a loss that has weights)
    keeps its name.

    Args:
      arrays: flat name -> array.
      left_out: modules that are dropped, by the file's name of them or one without a prefix.

    Raises:
      ModelError: a module to leave out is not there.
    """
    names = {name: name for name in arrays}
    forms = [names]
    while prefix := _most_common(names.values()):
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
        forms.append(names)
    dropped = {name for name in arrays for form in forms if _within(form[name], left_out)}
    for module in left_out:
        if not any(_within(form[name], [module]) for name in dropped for form in forms):
            raise ModelError(
                f"name_map leaves out {module!r}, which is not in the file; it has "
                f"{', '.join(sorted({name.split('.')[0] for name in arrays})[:5])}"
            )
    for form in forms:
        yield {short: arrays[name] for name, short in form.items() if name not in dropped}


def _most_common(names: Collection[str]) -> str:
    for prefix in _PREFIXES:
        if 2 * sum(name.startswith(prefix) for name in names) > len(names):
            return prefix
    return ""


def _within(name: str, modules: Sequence[str]) -> bool:
    return any(f"{name}.".startswith(f"{module}.") for module in modules)
