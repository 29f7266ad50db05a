"""What the contract tests must be told of a method: one entry a method, and nothing else."""

from typing import NamedTuple


class Cheap(NamedTuple):
    """How to test a method.

    Attributes:
      settings: that make it cheap on images of 8 x 8 pixels.
      random: whether another seed gives another result.
      knows_class: whether another class gives another result.
    """

    settings: dict
    random: bool = False
    knows_class: bool = True


METHODS = {
    "misure": Cheap({"num_iterations": 3, "max_dilations": 2, "element_size": 3}),
    "stable_misure": Cheap(
        {"num_starts": 2, "num_iterations": 3, "max_dilations": 2, "element_size": 3}
    ),
    "misure_paper": Cheap({"num_iterations": 3, "max_dilations": 2, "element_size": 3}),
    "ate": Cheap({"block_size": 2, "num_patches": 3, "num_screen": 1}, random=True),
    "ate_gradient": Cheap({"block_size": 2, "num_fields": 2}, random=True),
    "components": Cheap({"num_others": 2, "layers": ("first",)}),
    "integrated_gradients": Cheap({"num_nodes": 2}),
    "smooth_grad": Cheap({"num_samples": 3}, random=True),
    "vargrad": Cheap({"num_samples": 3}, random=True),
    "guided_backprop": Cheap({}),
    "input_x_gradient": Cheap({}),
    "expected_gradients": Cheap({"num_samples": 3, "num_others": 2}, random=True),
    "occlusion": Cheap({"block_size": 3}),
    "rise": Cheap({"num_masks": 7, "grid": 3, "batch_size": 3}, random=True),
    "block_groups": Cheap(
        {"block_size": 2, "num_orders": 2, "threshold": 0.0, "outcome": "soft_dice"}
    ),
    "kernel_shap": Cheap({"block_size": 3, "num_samples": 200}, random=True),
    "shapley_sampling": Cheap({"block_size": 3, "num_pairs": 2}, random=True),
    "contrast_shapley": Cheap({"outcome": "soft_dice"}),
    "grad_cam": Cheap({}),
    "grad_cam_plus_plus": Cheap({}),
    "hires_cam": Cheap({}),
    "layer_cam": Cheap({}),
    "seg_xres_cam": Cheap({"window": 3}),
    "eigen_cam": Cheap({}, knows_class=False),
    "score_cam": Cheap({"batch_size": 3}),
    "ablation_cam": Cheap({"batch_size": 3}),
    "confidence": Cheap({"band_width": 1}),
}
