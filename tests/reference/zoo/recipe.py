"""Deterministic weights and inputs for the segmentation-zoo golden files (NumPy only).

Every tensor is drawn from its own np.random.RandomState(zlib.crc32((salt + name).encode())),
a frozen stream, so a value depends on nothing but salt, name and shape.  `name` is the PyTorch
state_dict name and `shape` the PyTorch shape (OIHW kernels, (out, in) matrices).  Draws are made
in float64 in C order and cast to float32.  Held-out files use salt="v2:".

Rules, first match wins (last = the part of the name after the last dot):
  last in KEEP (grid, relative_position_index, attn_mask)  not generated: computed by the model
  num_batches_tracked              int64 zeros
  running_mean                     normal * 0.1
  running_var                      uniform(0.5, 1.5)
  A_log, A_logs                    log(uniform(0.5, 8))
  D, Ds, mix, skip_scale, spline_scaler    uniform(0.5, 1.5)
  dt_proj.bias, dt_projs_bias      log(expm1(d)), d = exp(uniform(log 0.01, log 0.3)),
                                   the inverse softplus of a step size d
  position_embeddings, absolute_pos_embed, relative_position_bias_table    normal * 0.2
  down_layers|up_layers.<digits>.<digits>.norm<digit>.bias    normal * 1.0: LightM-UNet's GroupNorms
                                   before ReLU; keeps the LayerNorm that follows well conditioned
  bias                             normal * 0.1
  1-D weight (norm scales)         uniform(0.5, 1.5), times a factor that keeps deep sums O(1):
                                   0.3 for names ending in .<digits>.bn2.weight and 0.5 for
                                   .<digits>.bn3.weight (they close a ResNet block's branch),
                                   0.5 for names containing fuse_layers (HRNet's fusion), 0.9 for
                                   .block.<digits>.1.weight (MobileNetV3's norms)
  dt_projs_weight                  (K, out, in): normal * sqrt(2 / in)
  x_proj_weight, x_proj.weight     normal * sqrt(0.1 / in), in = the last axis: tames the product
                                   B*C*u
  mamba.out_proj.weight, self_attention.out_proj.weight    normal * sqrt(0.5 / in)
  spline_weight                    (out, in, basis): normal * sqrt(0.5 / in)
  conv<digit><digit>d.weight       normal * 1.2 * sqrt(2 / fan_in): SegNet's decoder, whose inputs
                                   are mostly zeros after unpooling
  logit<digit>.weight              normal * 0.5 * sqrt(2 / fan_in): four heads are summed
  any other tensor                 normal * sqrt(2 / fan_in), fan_in = prod(shape[1:])
"""

import re
import zlib

import numpy as np

KEEP = ("grid", "relative_position_index", "attn_mask")
_UNIT = ("D", "Ds", "mix", "skip_scale", "spline_scaler")
_TABLE = ("position_embeddings", "absolute_pos_embed", "relative_position_bias_table")


def _damp(name):
    if "fuse_layers" in name:
        return 0.5
    if re.search(r"\.block\.\d+\.1\.weight$", name):
        return 0.9
    block = re.search(r"\.\d+\.(bn[23])\.weight$", name)
    return {"bn2": 0.3, "bn3": 0.5}[block[1]] if block else 1.0


def _tensor(name, shape, rs):
    last = name.rsplit(".", 1)[-1]
    normal, uniform = rs.standard_normal, rs.uniform
    if last == "running_mean":
        return 0.1 * normal(shape)
    if last == "running_var" or last in _UNIT:
        return uniform(0.5, 1.5, shape)
    if last in ("A_log", "A_logs"):
        return np.log(uniform(0.5, 8.0, shape))
    if name.endswith("dt_proj.bias") or last == "dt_projs_bias":
        return np.log(np.expm1(np.exp(uniform(np.log(0.01), np.log(0.3), shape))))
    if last in _TABLE:
        return 0.2 * normal(shape)
    if re.search(r"(down|up)_layers\.\d+\.\d+\.norm\d\.bias$", name):
        return normal(shape)
    if last == "bias":
        return 0.1 * normal(shape)
    if last == "weight" and len(shape) == 1:
        return uniform(0.5, 1.5, shape) * _damp(name)
    if last == "dt_projs_weight":
        return normal(shape) * np.sqrt(2.0 / shape[2])
    if re.search(r"\bx_proj[._]weight$", name):
        return normal(shape) * np.sqrt(0.1 / shape[-1])
    if re.search(r"\b(mamba|self_attention)\.out_proj\.weight$", name):
        return normal(shape) * np.sqrt(0.5 / shape[1])
    if last == "spline_weight":
        return normal(shape) * np.sqrt(0.5 / shape[1])
    gain = (
        1.2
        if re.search(r"^conv\d\dd\.weight$", name)
        else 0.5
        if re.search(r"^logit\d\.weight$", name)
        else 1.0
    )
    return gain * normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))


def weights(shapes, salt=""):
    """dict name -> shape  =>  dict name -> array, the KEEP buffers left out."""
    out = {}
    for name, shape in shapes.items():
        last = name.rsplit(".", 1)[-1]
        if last in KEEP:
            continue
        if last == "num_batches_tracked":
            out[name] = np.zeros(shape, np.int64)
            continue
        rs = np.random.RandomState(zlib.crc32((salt + name).encode()))
        out[name] = np.asarray(_tensor(name, tuple(shape), rs), np.float32)
    return out


def image(shape, seed):
    """Smooth waves and a soft disc plus noise, float32 in [0, 1], shape (n, c, h, w)."""
    n, c, h, w = shape
    rs = np.random.RandomState(seed)
    y, x = np.meshgrid(np.arange(h) / h, np.arange(w) / w, indexing="ij")
    out = np.empty(shape)
    for b in range(n):
        cy, cx, r = rs.uniform(0.3, 0.7), rs.uniform(0.3, 0.7), rs.uniform(0.15, 0.35)
        disc = 1.0 / (1.0 + np.exp((np.hypot(y - cy, x - cx) - r) * 25.0))
        for k in range(c):
            fy, fx, py, px = (
                rs.uniform(0.5, 3.0),
                rs.uniform(0.5, 3.0),
                rs.uniform(0, 6.28),
                rs.uniform(0, 6.28),
            )
            waves = np.sin(6.283185307179586 * fy * y + py) * np.cos(
                6.283185307179586 * fx * x + px
            )
            level = rs.uniform(-0.35, 0.35)
            out[b, k] = 0.5 + 0.2 * waves + level * disc + 0.08 * rs.standard_normal((h, w))
    return np.clip(out, 0.0, 1.0).astype(np.float32)


def cotangent(shape):
    """cos(i * 0.37), i the flat C-order index of NCHW logits; loss = sum(logits * cotangent)."""
    return np.cos(np.arange(int(np.prod(shape))) * 0.37).astype(np.float32).reshape(shape)


def sample64(x):
    """64 strided values of an activation in PyTorch's layout: flat[::max(1, size // 64)][:64]."""
    flat = np.asarray(x).reshape(-1)
    return flat[:: max(1, flat.size // 64)][:64]


def checksum(arrays):
    """crc32 over the float32/int64 bytes of a dict of arrays, in dict order."""
    crc = 0
    for a in arrays.values():
        crc = zlib.crc32(np.ascontiguousarray(a).tobytes(), crc)
    return crc
