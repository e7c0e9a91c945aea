"""One data layer of each kind, and the small files that it reads."""

from pathlib import Path

import cv2
import h5py
import numpy as np

LAYERS = {
    "HDF5Data": """layer { name: "data" type: "HDF5Data" top: "data" top: "label"
        hdf5_data_param { source: "list.txt" batch_size: 3 shuffle: true } }""",
    "ImageData": """layer { name: "data" type: "ImageData" top: "data" top: "label"
        transform_param { mirror: true crop_size: 8 } image_data_param { source: "images.txt" batch_size: 3
        shuffle: true } }""",
    "WindowData": """layer { name: "data" type: "WindowData" top: "data" top: "label"
        transform_param { mirror: true crop_size: 8 } window_data_param { source: "windows.txt" batch_size: 4 } }""",
    "DataHeatmap": """layer { name: "data" type: "DataHeatmap" top: "data" top: "label" heatmap_data_param {
        source: "persons.txt" root_img_dir: "./" batchsize: 2 outsize: 16 label_width: 4 label_height: 4 shuffle: true
        multfact: 1 bbox_or_centerscale: "bbox" data_augment: true angle_max: 30 } }""",
    "VideoData": """layer { name: "data" type: "VideoData" top: "data" top: "label"
        video_data_param { video_type: VIDEO video_file: "%02d.png" } data_param { batch_size: 2 } }""",
}


def write_sources(folder: Path) -> None:
    names = [f"{i:02d}.png" for i in range(20)]
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.random.default_rng(i).integers(0, 256, (20, 24, 3), np.uint8))
    for name in ("a.h5", "b.h5"):
        with h5py.File(folder / name, "w") as file:
            file["data"] = np.random.default_rng(len(name)).random((7, 4)).astype(np.float32)
            file["label"] = np.arange(7, dtype=np.float32)
    (folder / "list.txt").write_text("a.h5\nb.h5\n")
    (folder / "images.txt").write_text("".join(f"{name} {i}\n" for i, name in enumerate(names[:7])))
    (folder / "windows.txt").write_text("".join(
        f"# {i}\n{name}\n3\n20\n24\n2\n{1 + i % 2} 0.9 2 3 15 16\n0 0.1 5 5 18 17\n"
        for i, name in enumerate(names[:5])))
    (folder / "persons.txt").write_text("".join(f"{name} 5,6,9,12 2,3,18,17 0\n" for name in names[:5]))
