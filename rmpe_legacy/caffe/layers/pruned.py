"""Convolutions and matrices with masks, of pruned and quantised networks.

Sources: compress_{conv,inner_product}_layer.cpp of yiwenguo/Dynamic-Network-Surgery@27d4926;
{dns,inq}_{conv,inner_product}_layer.cpp of 32l/Neural-Network-Model-Compressing@5e7d0e6.
"""

from __future__ import annotations

from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message

from .base import Layer, Shape
from .conv import Convolution
from .inner_product import InnerProduct
from .registry import register


class _Masked(Layer):
    """Base: further blobs are a mask of the weights and one of the bias.

    TRAIN changes masks by chance, or rounds weights to powers of two; only TEST is computed here.
    """

    masks = True  # False: what is stored is used as it is

    def masked_by(self) -> Message:
        """The message with the masks' fillers."""
        raise NotImplementedError

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        if len(self.declared) != 2:
            raise self.spec.error("needs a bias: without one the published layer reads past its blobs")
        own = self.masked_by()
        self.declare("weight_mask", self.declared[0].shape, own.weight_mask_filler, learns=False)
        self.declare("bias_mask", self.declared[1].shape, own.bias_mask_filler, learns=False)

    def blobs(self) -> list[Tensor]:
        """Return the weights and the bias as they are used. Raises LayerError in TRAIN."""
        if self.spec.phase == "TRAIN":
            raise self.spec.error("prunes or quantises its weights in TRAIN, which is not computed here; use TEST")
        weight, bias, *masks = super().blobs()
        return [weight * masks[0], bias * masks[1]] if self.masks else [weight, bias]


class _Convolution(_Masked, Convolution):
    """Convolution with such blobs."""


class _InnerProduct(_Masked, InnerProduct):
    """InnerProduct with such blobs."""


@register("CConvolution", form="")
class CConvolution(_Convolution):
    """Convolution by weights and a bias times their masks, of dynamic network surgery."""

    params = ("convolution_param", "cconvolution_param")

    def masked_by(self) -> Message:
        return self.spec.get("cconvolution_param")


@register("CInnerProduct", form="")
class CInnerProduct(_InnerProduct):
    """InnerProduct by weights and a bias times their masks, of dynamic network surgery."""

    params = ("inner_product_param", "cinner_product_param")

    def masked_by(self) -> Message:
        return self.spec.get("cinner_product_param")


@register("DNSConvolution", form="")
class DNSConvolution(_Convolution):
    """Convolution by weights and a bias times their masks, of dynamic network surgery.

    Differs: the published CPU code writes every image but the first to the wrong place.
    """

    params = ("convolution_param", "dns_convolution_param")

    def masked_by(self) -> Message:
        return self.spec.get("dns_convolution_param")


@register("DNSInnerProduct", form="")
class DNSInnerProduct(_InnerProduct):
    """InnerProduct by weights and a bias times their masks, of dynamic network surgery."""

    params = ("inner_product_param", "dns_inner_product_param")

    def masked_by(self) -> Message:
        return self.spec.get("dns_inner_product_param")


@register("INQConvolution", form="")
class INQConvolution(_Convolution):
    """Convolution by quantised weights, which are stored as they are used."""

    params = ("convolution_param", "inq_convolution_param")
    masks = False

    def masked_by(self) -> Message:
        return self.spec.get("inq_convolution_param")


@register("INQInnerProduct", form="")
class INQInnerProduct(_InnerProduct):
    """InnerProduct by quantised weights, which are stored as they are used."""

    params = ("inner_product_param", "inq_inner_product_param")
    masks = False

    def masked_by(self) -> Message:
        return self.spec.get("inq_inner_product_param")
