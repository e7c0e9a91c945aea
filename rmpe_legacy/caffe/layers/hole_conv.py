"""Convolutions with holes, under names of their own. Sources: hole_conv_layer.cpp of yangguorun/SegStereo@717f590 and
conv_deeplab_layer.cpp of Winstonxu123/LSTM-CF@96cf867."""

from __future__ import annotations

from rmpe_legacy.caffe.proto.blobs import StoredBlob

from .base import Shape, count, shape_text
from .conv import Convolution
from .registry import register


@register("ConvolutionDeeplab", form="")
class ConvolutionDeeplab(Convolution):
    """Convolution of (N, C, H, W) whose dilation is `hole`, or hole_h and hole_w."""

    params = ("convolution_deeplab_param",)
    dilation_field = "hole"
    caffe_source = "conv_deeplab_layer.cpp"

    def setup(self, *bottom: Shape) -> None:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        super().setup(*bottom)

    def check_fits(self, index: int, stored: StoredBlob) -> None:
        """The bias is stored as 1 x 1 x 1 x num_output."""
        if stored.data.size != count(self.declared[index].shape):
            super().check_fits(index, stored)


@register("HoleConvolution", form="")
class HoleConvolution(ConvolutionDeeplab):
    """The same, with the parameters of Convolution; the dilation must be given."""

    params = ("convolution_param",)
    caffe_source = "hole_conv_layer.cpp"

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("convolution_param")
        if not any(map(param.has, ("hole", "hole_h", "hole_w"))):
            raise self.spec.error("give hole, or hole_h and hole_w; without one, use Convolution")
        super().setup(*bottom)
