"""The data layers of SSD and RMPE."""
# ruff: noqa: N802  the scripts' names

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rmpe_legacy.pycaffe.net_spec import layers
from rmpe_legacy.pycaffe.proto import caffe_pb2


def CreateAnnotatedDataLayer(source: str, batch_size: int = 32, backend: int | None = None, output_label: bool = True,
                             train: bool = True, label_map_file: str = "", anno_type: int | None = None,
                             transform_param: Mapping[str, Any] | None = None,
                             batch_sampler: Sequence[Mapping[str, Any]] = ({},)) -> Any:
    """Make a layer that reads images with boxes from a store; returns the Top of the data, or those of data and label.
    """
    annotated: dict[str, Any] = {"label_map_file": label_map_file, "batch_sampler": list(batch_sampler)}
    if anno_type is not None:
        annotated["anno_type"] = anno_type
    store = {"batch_size": batch_size, "source": source,
             "backend": caffe_pb2.DataParameter.LMDB if backend is None else backend}
    return layers.AnnotatedData(name="data", annotated_data_param=annotated, data_param=store,
                                **_common(output_label, train, transform_param))


def CreateHeatmapDataLayer(output_label: bool = True, train: bool = True, visualise: bool = False,
                           transform_param: Mapping[str, Any] | None = None,
                           heatmap_data_param: Mapping[str, Any] | None = None) -> Any:
    """Make a layer that reads crops of people with heatmaps of their joints; returns the Top of the data, or those of
    data and label.
    """
    return layers.DataHeatmap(name="data", visualise=visualise, heatmap_data_param=dict(heatmap_data_param or {}),
                              **_common(output_label, train, transform_param))


def _common(output_label: bool, train: bool, transform_param: Mapping[str, Any] | None) -> dict[str, Any]:
    phase = caffe_pb2.Phase.Value("TRAIN" if train else "TEST")
    return {"ntop": 1 + bool(output_label), "include": {"phase": phase},
            "transform_param": dict(transform_param or {})}
