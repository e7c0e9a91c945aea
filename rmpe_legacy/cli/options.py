"""Options shared by several commands, and their parsing."""

from __future__ import annotations

import argparse
import math
import os
import sys
from typing import TYPE_CHECKING, TextIO

from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.wording import describe_error, shorten, shorten_list

if TYPE_CHECKING:
    from rmpe_legacy.caffe.net import Net
    from rmpe_legacy.formats.base import Setting
    from rmpe_legacy.pose.detector_options import DetectorOptions

ENGINES = ("exact", "torch", "inductor", "onnxruntime", "openvino", "auto")  # of rmpe_legacy.engines
MAX_INPUT_SIZE = 65536  # per axis of --input-shape


def add_net_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--phase", choices=("TRAIN", "TEST"), default="TEST",
                         help="the phase whose layers to use (default: TEST)")
    command.add_argument("--level", type=int, default=0, help="level for the prototxt's min_level and max_level rules "
                         "(default: 0)")
    command.add_argument("--stage", action="append", default=[], metavar="NAME",
                         help="stage for the prototxt's stage rules; repeatable")
    _add_layer_options(command)
    add_python_option(command)


def _add_layer_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dialect", default="auto", metavar="NAME",
                         help="the Caffe fork whose fields, defaults and layer types apply; see `rmpe dialects` "
                         "(default: the first that knows everything in the file)")
    command.add_argument("--plugin", action="append", default=[], metavar="FILE.py",
                         help="a Python file that registers your own layers; repeatable")


def add_network_options(command: argparse.ArgumentParser, *which: str, has_default: bool = True,
                        repeatable: bool = False) -> None:
    default = " (default: the demo network for synthetic people)" if has_default else ""
    action, default = ("append", f"; repeatable{default}") if repeatable else ("store", default)
    if "detector" in which:
        command.add_argument("--detector", nargs=2, action=action, metavar=("PROTOTXT", "CAFFEMODEL"),
                             help=f"the detector's deploy.prototxt and weights{default}")
        _add_detector_options(command)
    if "pose" in which:
        command.add_argument("--pose", nargs="+", action=action, metavar="FILE", required=not has_default,
                             help=f"the pose network: PROTOTXT CAFFEMODEL, one .t7, or one .onnx{default}")
        _add_onnx_options(command)
        command.add_argument("--batch", type=int, default=16, metavar="N", help="crops per forward (default: 16)")
        add_de_transform_option(command)


def add_image_options(command: argparse.ArgumentParser, published: str | None = "demo",
                     threads: int | None = None, output: str | None = None) -> None:
    command.add_argument("--output", default=output, required=output is None, metavar="DIR", help="output folder; "
                         "results that are already there are kept, and the run resumes"
                         + (" (default: %(default)s)" if output else ""))
    command.add_argument("--published", choices=("demo", "demo-test", "torch7", "testres", "alphapose"), default=None,
                         help="the published program to follow: demo (demo.py), demo-test (demo.py on a test set), "
                         "torch7 (predict/main.lua), testres (the authors' stored results), or alphapose (their "
                         "successor AlphaPose, for any joint set) "
                         f"(default: {published or 'torch7 for a .t7, demo-test'}; alphapose for an .onnx)")
    command.set_defaults(default_published=published)
    command.add_argument("--threshold", type=float, metavar="SCORE", help="detections with a higher score are people "
                         "(default: 0.3 for demo, 0.1 for alphapose, the paper's 0.09 for the others)")
    add_run_options(command, threads)


def add_pictures_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--no-pictures", dest="pictures", action="store_false",
                         help="do not write annotated images and videos; this saves time")


def add_run_options(command: argparse.ArgumentParser, threads: int | None = None) -> None:
    """Where networks run. threads: the default of --threads; None: all."""
    add_python_option(command)
    command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    add_engine_option(command)
    command.add_argument("--threads", type=int, default=threads, metavar="N", help="CPU threads per process "
                         "(the last bits of results depend on it; default: "
                         + ("%(default)s)" if threads else "all)"))


def add_workers_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=int, metavar="N", help="images to process at once on the CPU; --threads is "
                         "divided among them, and each needs memory of its own (default: one per thread, at most 4)")


def _add_detector_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("a detector other than the authors'", "any SSD, Faster R-CNN, R-FCN, YOLO v2 or "
                                       "YOLO v3; the defaults are those of the published program of its kind")
    group.add_argument("--person-class", type=int, metavar="N", help="the detector's label for people; 0 is the "
                       "background (default: its only class)")
    group.add_argument("--label-map", metavar="FILE", help="a LabelMap prototxt with the names of the detector's "
                       "classes, instead of --person-class")
    group.add_argument("--detector-mean", type=numbers, metavar="M|M,M,M", help="mean to subtract, per channel in "
                       "--detector-channel-order")
    group.add_argument("--detector-raw-scale", type=float, metavar="F", help="the value of white before the mean is "
                       "subtracted: 1 or 255")
    group.add_argument("--detector-scale", type=float, metavar="F", help="factor to apply after the mean is subtracted")
    group.add_argument("--detector-channel-order", choices=("RGB", "BGR"), help="channel order of the input")
    group.add_argument("--detector-size", type=size, metavar="H,W|SHORT,LONG", help="input height and width, instead "
                       "of the prototxt's; for Faster R-CNN and R-FCN, the length of the shorter side and the limit "
                       "for the longer one")


def detector_options(args: argparse.Namespace) -> DetectorOptions:
    """What the options of `_add_detector_options` say; nothing for a command without them."""
    from rmpe_legacy.pose.detector_options import DetectorOptions

    if "person_class" not in args:
        return DetectorOptions()
    return DetectorOptions(args.person_class, args.label_map, args.detector_mean, args.detector_raw_scale,
                           args.detector_scale, args.detector_channel_order, args.detector_size)


def add_engine_option(command: argparse.ArgumentParser, default: str | None = "exact",
                      what: str = "what runs the networks") -> None:
    """default: None where the command has no engine unless one is asked for."""
    command.add_argument("--engine", choices=ENGINES, default=default, help=f"{what}: exact is the "
                         "reference; the others are faster, and are compared with it first; auto takes the fastest one "
                         "on this machine"
                         + (f" (default: {default})" if default else ""))


def _add_onnx_options(command: argparse.ArgumentParser) -> None:
    onnx = command.add_argument_group("an .onnx pose network", "top-down, with an input N x 3 x height x width and "
                                      "heatmaps N x joints x height x width or two SimCC vectors N x joints x bins")
    onnx.add_argument("--joints", metavar="SET", help="mpii16, coco17, halpe26, or a JSON file with keypoints and "
                      "skeleton as in COCO's categories (default: coco17)")
    add_input_options(onnx)
    onnx.add_argument("--box-padding", type=float, default=1.25, metavar="F", help="size of the crop relative to the "
                      "box (default: 1.25)")


def add_input_options(group, mean: str = "0", order: str = "RGB", raw_scale: float = 1.0) -> None:
    """How an image becomes a network's input."""
    group.add_argument("--mean", type=numbers, default=numbers(mean), metavar="M|M,M,M", help="mean to subtract, per "
                       f"channel in --channel-order (default: {mean})")
    group.add_argument("--std", type=numbers, default=(1.0,), metavar="S|S,S,S", help="standard deviation to "
                       "divide by, after the mean is subtracted (default: 1)")
    group.add_argument("--channel-order", choices=("RGB", "BGR"), default=order,
                       help="channel order of the input (default: %(default)s)")
    group.add_argument("--raw-scale", type=float, default=raw_scale, metavar="F", help="the value of white before the "
                       "mean is subtracted: 1 or 255 (default: %(default)g)")


def numbers(text: str) -> tuple[float, ...]:
    """The numbers of "104,117,123"."""
    wrong = f"{text!r} is neither a finite number nor several with commas, such as 104,117,123"
    return tuple(_finite(number, wrong) for number in text.split(","))


def size(text: str) -> tuple[int, int]:
    """The height and width of "227,227"."""
    sizes = _sizes(text)
    if len(sizes) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a height and a width, such as 227,227")
    return sizes[0], sizes[1]


def _sizes(text: str) -> tuple[int, ...]:
    """The whole numbers of "3,224,224", each from 1 to MAX_INPUT_SIZE."""
    try:
        sizes = tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not whole numbers with commas, such as 3,224,224") from None
    if min(sizes) < 1 or max(sizes) > MAX_INPUT_SIZE:
        raise argparse.ArgumentTypeError(f"{text!r} has a size that is not from 1 to {MAX_INPUT_SIZE}")
    return sizes


def add_format_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--format", nargs="+", action="extend", default=["ours"], metavar="F", help="also write the "
                         "results in the formats of other tools, one or more of coco-results, alphapose, openpose, "
                         "mpii (.mat). The package's own files are always written")


def add_compare_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--input", action="append", default=[], metavar="NAME=FILE",
                         help="run on this .npy, .npz or image file (default: random numbers); repeatable")
    command.add_argument("--image", choices=("detector", "pose"), default="pose", help="how to preprocess images "
                         "(default: pose); see rmpe forward --help")
    command.add_argument("--tolerance", type=tolerance, default=1e-4, metavar="T",
                         help="largest accepted difference of a blob relative to its range (default: 1e-4)")
    command.add_argument("--seed", type=seed, default=1701, help="seed of the random numbers (default: 1701)")
    add_net_options(command)
    add_de_transform_option(command)


def add_source_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lenient", action="store_true", help="leave out unknown layers and fields and layers that "
                         "need labels, and accept missing weights; everything left out is reported")
    command.add_argument("--drop-parallel", action="store_true", help="leave out the parallel SPPE of a .t7")
    command.add_argument("--key", metavar="NAME", help="the entry that contains the network, if a .t7 contains a table")


def add_de_transform_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--de-transform", choices=("paper", "published-identity", "published-ignored"),
                         help="what `de_transform: true` means (default: paper, with a warning)")


def finite(text: str) -> float:
    """A number other than nan and inf."""
    return _finite(text, f"{text!r} is not a finite number")


def _finite(text: str, wrong: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(wrong)
    return value


def seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to {(1 << 63) - 1}")
    return seed


def tolerance(text: str) -> float:
    tolerance = float(text)
    if not 0 <= tolerance < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a finite number of at least 0")
    return tolerance


def input_shape(text: str) -> tuple[tuple[int, ...], str | None]:
    """Parse "NAME=1,3,224,224" or "3,224,224" into sizes and name."""
    name, equals, sizes = text.rpartition("=")
    if equals and not name:
        raise argparse.ArgumentTypeError(f"{text!r} names no input before its =")
    return _sizes(sizes), name or None


def dynamic_axes(text: str) -> tuple[str, ...]:
    """Parse "batch,height,width", or some of the three."""
    axes = tuple(text.split(","))
    if unknown := [axis for axis in axes if axis not in ("batch", "height", "width")]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not an axis; give some of batch,height,width")
    return axes


def setting_of(args: argparse.Namespace) -> Setting:
    """Return the options of `add_net_options` and `add_de_transform_option` as a Setting."""
    from rmpe_legacy.formats.base import Setting

    return Setting(args.phase, args.level, tuple(args.stage), args.dialect, args.de_transform, args.allow_python)


def load_plugins(paths: list[str]) -> None:
    """Run the user's Python files, so that their @register lines take effect.

    Raises:
        RmpeError: A file is missing, ends the program or fails; the message gives the line that fails.
    """
    import runpy

    for path in paths:
        if not os.path.isfile(path):
            raise RmpeError(f"{path}: no such plugin file")
        try:
            runpy.run_path(path)
        except SystemExit as error:  # would end the command too, with the plugin's exit code
            raise RmpeError(f"{path}: the plugin calls sys.exit({error.code!r}), so the command was not run; a plugin "
                            "must only register layers") from None
        except Exception as error:
            raise RmpeError(f"{path}: the plugin fails: {describe_error(error)}; -v shows the traceback") from error


def prepare(args: argparse.Namespace) -> None:
    """Do what --plugin and --threads of `add_caffe_options` ask for."""
    import torch

    load_plugins(args.plugin)
    if args.threads:
        torch.set_num_threads(args.threads)


def refuse_inputs(net: Net) -> None:
    """Raise NetError for a network whose caller must give it values, which `rmpe train` and `rmpe test` do not have."""
    if net.inputs:
        raise NetError(f"nothing fills {shorten_list([repr(name) for name in net.inputs])} of the network "
                       f"{shorten(net.name)!r}; give a network with data layers instead of inputs (train_val.prototxt)")


def result_stream(output: str | None) -> TextIO | None:
    """Return the stream for messages: standard error if results go to standard output."""
    return sys.stderr if output == "-" else sys.stdout


def add_python_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--allow-python", action="store_true",
                         help="import the modules of layers of type Python. They can run any code, so use this only "
                         "for networks you trust (show and hash never import them)")


def add_caffe_options(command: argparse.ArgumentParser, phase: str | None = None) -> None:
    """Options of Caffe's own program, by its names, with one dash or two. phase: add --phase, with this default."""
    if phase is not None:
        command.add_argument("-phase", "--phase", choices=("TRAIN", "TEST"), default=phase,
                             help="the phase whose layers to use (default: %(default)s)")
    command.add_argument("-gpu", "--gpu", metavar="ID", help="the GPU to use (default: the CPU; for train, a GPU if "
                         "the solver's solver_mode is GPU). Several GPUs need one process each: torchrun "
                         "--nproc-per-node N -m rmpe_legacy train ...")
    command.add_argument("-level", "--level", type=int, default=0, help="level for the prototxt's min_level and "
                         "max_level rules")
    command.add_argument("-stage", "--stage", default="", metavar="A,B", help="stages for the prototxt's stage rules")
    _add_layer_options(command)
    command.add_argument("--threads", type=positive, metavar="N", help="CPU threads per process (the last bits of "
                         "results depend on it; default: all)")
    add_de_transform_option(command)
    add_python_option(command)


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to {(1 << 16) - 1}")
    return value


def device_of(gpu: str | None, solver_wants: bool = False) -> tuple[str, str]:
    """Return the torch device for --gpu, and Caffe's log line about it.

    solver_wants: the solver's solver_mode is GPU; then a GPU is used if there is one.
    """
    import torch

    if gpu is None:
        return ("cuda:0", "Using GPUs 0") if solver_wants and torch.cuda.is_available() else ("cpu", "Use CPU.")
    if gpu == "all" or "," in gpu:
        raise RmpeError(f"--gpu {gpu}: one process uses one GPU; start one for each: "
                        "torchrun --nproc-per-node N -m rmpe_legacy train ..., without --gpu")
    if not gpu.isdigit():
        raise RmpeError(f"--gpu {gpu}: give the number of a GPU, as in --gpu 0")
    if not torch.cuda.is_available():
        raise RmpeError(f"--gpu {gpu}: there is no GPU that PyTorch can use; leave --gpu out to use the CPU")
    return f"cuda:{int(gpu)}", f"Using GPUs {gpu}"


def stages_of(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)
