"""The examples that end each command's help. A test parses every one of them."""

from __future__ import annotations

EXAMPLES_HEAD = "examples:"
EXAMPLES = {
    "show": ("deploy.prototxt", "deploy.prototxt --weights my.caffemodel"),
    "draw": ("deploy.prototxt network.html", "train_val.prototxt train.svg --phase TRAIN --until pool5"),
    "layers": ("", "Convolution"),
    "dialects": ("", "rcnn"),
    "forward": ("deploy.prototxt my.caffemodel --input data=photo.jpg --blobs all --output blobs.npz",
                "deploy.prototxt my.caffemodel --input data=cat.jpg --mean 104,117,123 --raw-scale 255"),
    "detect": ("photos/ --detector deploy.prototxt ssd.caffemodel --output boxes",
               "clip.mp4 --detector test.prototxt rcnn.caffemodel --person-class 15 --output boxes"),
    "pose": ("--boxes boxes --images photos/ --pose final_model.t7 --output poses",
             "--boxes detections.json --images photos/ --pose net.onnx --joints coco17 --output poses"),
    "demo": ("photos/ --detector ssd.prototxt ssd.caffemodel --pose final_model.t7 --report out.html",
             "clip.mp4 --boxes detections.json --pose net.onnx --joints coco17 --format openpose"),
    "serve": ("", "--detector ssd.prototxt ssd.caffemodel --pose final_model.t7 --pose net.onnx"),
    "nms": ("--proposals poses --poses poses/testres.h5 --output people",
            "--proposals p --poses p/testres.h5 --output people --variant alphapose --joints coco17"),
    "evaluate": ("mpii pred.mat annolist.mat", "coco out/coco_results.coco17.json person_keypoints_val2017.json"),
    "reproduce": ("demo --output out --quick",
                  "mpii --images mpii --detector ssd.prototxt ssd.caffemodel --pose p.t7 --output out"),
    "pgpg": ("fit --help", "sample --help"),
    "train-pose": ("--solver solver.prototxt --annotations train.txt --images images/",
                   "--solver solver.prototxt --drawn 1"),
    "convert": ("deploy.prototxt my.caffemodel my.onnx", "final_model.t7 out/"),
    "verify": ("deploy.prototxt,my.caffemodel my.onnx",
               "deploy.prototxt,my.caffemodel opencv:deploy.prototxt,my.caffemodel"),
    "hash": ("my.caffemodel", "deploy.prototxt my.caffemodel"),
    "models": ("", "final-model"),
    "identify": ("some.caffemodel", "final.t7 annotations.mat"),
    "train": ("-solver solver.prototxt -weights base.caffemodel",
              "-solver solver.prototxt -snapshot my_iter_100.solverstate"),
    "test": ("-model train_val.prototxt -weights my.caffemodel",
             "-model train_val.prototxt -weights my.caffemodel -iterations 100"),
    "time": ("-model deploy.prototxt", "-model deploy.prototxt -iterations 20 --no-backward"),
    "make-lmdb": ("people_lmdb --coco person_keypoints_train2014.json --images train2014/",
                  "mpii_lmdb --mpii mpii_human_pose_v1_u12_1.mat --images images/"),
    "run": ("classify.py photo.jpg", "--py2 demo.ipynb"),
    "prototxt": ("", "ssd500/train"),
    "plugin": ("new MyLayer", "new MyLayer --folder plugins --field alpha --field beta"),
    "gpu-check": ("", "--report numbers.json --rounds 10"),
}


def epilog(command: str) -> str:
    """The last lines of a command's help; "" for a command without examples."""
    lines = [f"  rmpe {command} {example}".rstrip() for example in EXAMPLES.get(command, ())]
    return "\n".join([EXAMPLES_HEAD, *lines]) if lines else ""
