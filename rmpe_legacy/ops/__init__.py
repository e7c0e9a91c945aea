"""The tensor operators of csrc/ as functions, one file each. They work on tensors, not on layers."""

import torch  # noqa: F401  (first: the library with the operators needs torch's)

try:
    import rmpe_legacy._C  # noqa: F401  (loading it registers the operators)
except ImportError as error:
    raise ImportError(f"rmpe_legacy._C cannot be loaded ({error}); build it for this torch and Python: "
                      "pip install --no-build-isolation -e .") from error

from .eltwise_affine import eltwise_affine
from .prediction_heatmap import prediction_heatmap
from .spatial_transformer import (
    from_torch7_theta,
    identity_theta,
    invert_theta,
    spatial_de_transformer,
    spatial_transformer,
    spatial_transformer_composite,
    to_torch7_theta,
    torch7_spatial_transformer,
)

__all__ = [
    "eltwise_affine",
    "from_torch7_theta",
    "identity_theta",
    "invert_theta",
    "prediction_heatmap",
    "spatial_de_transformer",
    "spatial_transformer",
    "spatial_transformer_composite",
    "to_torch7_theta",
    "torch7_spatial_transformer",
]
