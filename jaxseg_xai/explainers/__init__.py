"""Explanation methods, one a file; a further one is a file and a line here."""

from jaxseg_xai.core.registry import Registry
from jaxseg_xai.explainers.base import Batch, Example, Explainer, Meta, Parts, Problem
from jaxseg_xai.explainers.runner import explain

EXPLAINERS = Registry(
    "jaxseg_xai.explainers",
    "explainer",
    {
        "misure": "jaxseg_xai.explainers.misure.search:Misure",
        "misure_paper": "jaxseg_xai.explainers.misure.paper:MisurePaper",
        "stable_misure": "jaxseg_xai.explainers.misure.stable:StableMisure",
        "ate": "jaxseg_xai.explainers.ate.ate:Ate",
        "ate_gradient": "jaxseg_xai.explainers.ate.gradient:AteGradient",
        "components": "jaxseg_xai.explainers.parts.components:ComponentAte",
        "integrated_gradients": "jaxseg_xai.explainers.gradient.integrated_gradients:"
        "IntegratedGradients",
        "smooth_grad": "jaxseg_xai.explainers.gradient.smooth_grad:SmoothGrad",
        "vargrad": "jaxseg_xai.explainers.gradient.vargrad:VarGrad",
        "guided_backprop": "jaxseg_xai.explainers.gradient.guided_backprop:GuidedBackprop",
        "input_x_gradient": "jaxseg_xai.explainers.gradient.input_x_gradient:InputXGradient",
        "expected_gradients": "jaxseg_xai.explainers.gradient.expected_gradients:ExpectedGradients",
        "occlusion": "jaxseg_xai.explainers.perturbation.occlusion:Occlusion",
        "rise": "jaxseg_xai.explainers.perturbation.rise:Rise",
        "block_groups": "jaxseg_xai.explainers.perturbation.block_groups:BlockGroups",
        "kernel_shap": "jaxseg_xai.explainers.perturbation.kernel_shap:KernelShap",
        "shapley_sampling": "jaxseg_xai.explainers.perturbation.shapley_sampling:ShapleySampling",
        "contrast_shapley": "jaxseg_xai.explainers.perturbation.contrast_shapley:ContrastShapley",
        "grad_cam": "jaxseg_xai.explainers.cam.grad_cam:GradCam",
        "grad_cam_plus_plus": "jaxseg_xai.explainers.cam.grad_cam_plus_plus:GradCamPlusPlus",
        "hires_cam": "jaxseg_xai.explainers.cam.hires_cam:HiResCam",
        "layer_cam": "jaxseg_xai.explainers.cam.layer_cam:LayerCam",
        "seg_xres_cam": "jaxseg_xai.explainers.cam.seg_xres_cam:SegXResCam",
        "eigen_cam": "jaxseg_xai.explainers.cam.eigen_cam:EigenCam",
        "score_cam": "jaxseg_xai.explainers.cam.score_cam:ScoreCam",
        "ablation_cam": "jaxseg_xai.explainers.cam.ablation_cam:AblationCam",
        "confidence": "jaxseg_xai.explainers.uncertainty.confidence:Confidence",
    },
    base=Explainer,
    # `--data.limit 3` sets something of the images, `--ate.block-size 8` something of a method.
    reserved=("data", "labels", "roi", "storage"),
)

__all__ = ["EXPLAINERS", "Batch", "Example", "Explainer", "Meta", "Parts", "Problem", "explain"]
