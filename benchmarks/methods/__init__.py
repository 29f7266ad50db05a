"""The cases by name. A further one is a file beside these and a line in `_ALL`."""

from benchmarks.methods.ate import ATE, ATE_512, ATE_WIDE, OCCLUSION
from benchmarks.methods.ate_3d import ATE_3D, ATE_3D_DRAWN
from benchmarks.methods.ate_regions import REGIONS
from benchmarks.methods.ate_screen import SCREEN
from benchmarks.methods.base import Case
from benchmarks.methods.components import COMPONENTS
from benchmarks.methods.forward import FORWARD
from benchmarks.methods.maps import CONFIDENCE, GRAD_CAM, INTEGRATED_GRADIENTS
from benchmarks.methods.masks import KERNEL_SHAP, KERNEL_SHAP_REGION, RISE, RISE_REGION
from benchmarks.methods.misure import MISURE, MISURE_512
from benchmarks.methods.misure_3d import MISURE_3D
from benchmarks.methods.misure_tables import LANES, QUALITY
from benchmarks.methods.reading import READING
from benchmarks.methods.scaling import SCALING
from benchmarks.methods.shap_3d import SHAP_3D
from benchmarks.methods.sizes import SIZES
from benchmarks.methods.store import STORE
from benchmarks.methods.sweep import SWEEP, SWEEP_64
from benchmarks.methods.windows import WINDOWS

_ALL: tuple[Case, ...] = (
    FORWARD,
    *(ATE, ATE_512, ATE_WIDE, ATE_3D, ATE_3D_DRAWN, OCCLUSION, SCREEN, REGIONS, WINDOWS),
    COMPONENTS,
    *(MISURE, MISURE_512, MISURE_3D, LANES, QUALITY),
    *(RISE, RISE_REGION, KERNEL_SHAP, KERNEL_SHAP_REGION, SHAP_3D),
    *(GRAD_CAM, INTEGRATED_GRADIENTS, CONFIDENCE),
    *(SWEEP, SWEEP_64, STORE),
    *(*SIZES, READING),
    SCALING,
)

#: Name -> case, in the order of `list`.
CASES: dict[str, Case] = {case.name: case for case in _ALL}
