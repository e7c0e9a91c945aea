"""rmpe: look at, run and convert the original RMPE networks."""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from .errors import RmpeError
from .terminal import abandon, finish, say, tell
from .wording import printable, shorten_list

# torch and what needs it is imported inside the commands: `rmpe nms` must not wait for it.

MAX_INPUT_SIZE = 65536  # of one axis of --input-shape


def show(args: argparse.Namespace) -> int:
    """List a network's layers with the shapes they give and the parameters they have; or what a weights file holds.

    With --weights, the exit code is 1 if these do not fit the network, or leave parameters without a value.
    """
    from .reading import first_bytes
    from .torch7.reader import encoding_of

    start = first_bytes(args.file, 4096)
    is_torch7 = encoding_of(start) is not None
    if args.weights and (is_torch7 or b"\0" in start):
        raise RmpeError(f"{args.file}: holds weights, and --weights {args.weights} compares weights with a prototxt; "
                        "exchange the two if they are the wrong way round")
    if is_torch7:
        from .torch7.describe import describe_torch7

        say(describe_torch7(args.file))
        return 0
    from .show import describe_net, describe_weights

    if b"\0" in start:
        say(describe_weights(args.file))
        return 0
    _load_plugins(args.plugin)
    described = describe_net(args.file, args.phase, args.level, args.stage, args.dialect, args.weights)
    say(described.text)
    if described.misfits:
        tell(f"{args.weights}: does not fit, or lacks, {shorten_list(described.misfits)}")
    return 1 if described.misfits else 0


def layers(args: argparse.Namespace) -> None:
    """List the layer types with their cases against the real Caffe; or one type with its parameters and cases."""
    import json

    from .layers_table import describe_layer, describe_layers, layer_details, layers_table, read_evidence

    evidence = read_evidence()
    if args.type is None:
        say(json.dumps(layers_table(evidence), indent=1) if args.json else describe_layers(evidence))
    else:
        details = layer_details(args.type, evidence)
        say(json.dumps(details, indent=1) if args.json else describe_layer(details))


def forward(args: argparse.Namespace) -> None:
    """Run a network on inputs from files and write blobs to an .npz."""
    from .forward import run_forward

    _load_plugins(args.plugin)
    blobs = run_forward(_load(args), args.input, args.blobs, args.output, args.device, args.image)
    told = _beside(args.output)
    for name, value in blobs.items():
        say(f"{name:<24} {tuple(value.shape)}", told)
    say(f"written to {args.output}", told)


def detect(args: argparse.Namespace) -> int:
    """Find people in pictures: boxes as the authors' files, as JSON, and drawn."""
    from .pipeline.commands import run_detect

    return _run_on_pictures(args, lambda options: run_detect(args.inputs, args.detector, options))


def pose(args: argparse.Namespace) -> int:
    """Estimate a pose in each box of a proposals folder, as predict/main.lua did: testres.h5."""
    from .pipeline.commands import run_pose

    return _run_on_pictures(args, lambda options: run_pose(args.proposals, args.images, args.pose, options))


def demo(args: argparse.Namespace) -> int:
    """The whole of RMPE: from pictures or videos to annotated pictures, poses as JSON and in the authors' files."""
    from .pipeline.commands import run_demo

    report = Path(args.report) if args.report else None
    return _run_on_pictures(args, lambda options: run_demo(args.inputs, args.detector, args.pose, options, report))


def reproduce(args: argparse.Namespace) -> int:
    """The paper's recipe, from pictures to its tables: paper | measured | difference, and why a row cannot be measured.

    Also with several processes: torchrun --nproc-per-node N -m rmpe_legacy reproduce ...; the files are the same.
    """
    if args.kind == "coco":
        from .pipeline.reproduce import reproduce_coco

        say(reproduce_coco(args.predictions, args.ground_truth).text)
        return 0
    if args.kind == "demo":
        from .pipeline.reproduce_demo import reproduce_demo

        return _run_on_pictures(args, lambda options: reproduce_demo(args.detector, args.pose, options, args.pictures,
                                                                     args.world, args.quick))
    from .pipeline.reproduce import MpiiFiles, reproduce_mpii

    if args.published is None:
        args.published = "torch7" if len(args.pose) == 1 else "demo-test"
    paths = {name: Path(value) if (value := getattr(args, name)) else None
             for name in ("images", "proposals", "ground_truth", "groups", "report")}
    given = MpiiFiles(paths["images"], args.pose, args.detector, paths["proposals"], paths["ground_truth"],
                      paths["groups"], args.split, args.row)
    return _run_on_pictures(args, lambda options: reproduce_mpii(given, options, paths["report"]))


def _run_on_pictures(args: argparse.Namespace, run: Callable) -> int:
    """Run a command over pictures with a progress bar; 2 if some could not be read."""
    from .pipeline.commands import Options
    from .pipeline.world import join_world

    with join_world() as world:
        options = Options(Path(args.output), args.published, args.threshold, args.device, getattr(args, "batch", 1),
                          args.threads, getattr(args, "de_transform", None), _surroundings(world), args.allow_python)
        try:
            outcome = run(options)
        except KeyboardInterrupt:
            tell("interrupted; the same command goes on where it stopped")
            return 130
    if outcome.text:
        say(outcome.text)
    return 2 if outcome.skipped else 0


def _surroundings(world):
    """A bar and sentences on stderr; of several processes only the first has a bar."""
    from tqdm import tqdm

    from .pipeline.job import Surroundings

    def progress(items):
        return tqdm(items, unit="picture", disable=None if world.first else True, dynamic_ncols=True)

    return Surroundings(world, progress, lambda text: tqdm.write(printable(f"rmpe: {text}"), file=sys.stderr))


def nms(args: argparse.Namespace) -> None:
    """Merge the pose network's poses into persons, as the published pose NMS does, and write the authors' files."""
    from .pipeline.nms_command import run_nms

    say(run_nms(args.proposals, args.poses, args.output, args.variant, args.image_sizes))


def evaluate(args: argparse.Namespace) -> None:
    """Judge poses against the truth: the official table; with --output also JSON and curves."""
    from .evaluation.evaluate import evaluate as run

    options = {key: getattr(args, key) for key in ("groups", "split", "protocol") if hasattr(args, key)}
    say(run(args.kind, args.predictions, args.ground_truth, args.output, name=args.name, **options))


def convert(args: argparse.Namespace) -> int:
    """Convert a network, compare the result with what it was made of, and write the comparison beside it."""
    from .convert.command import Trial, run_convert
    from .convert.deploy import InputShape
    from .convert.source import SourceOptions

    if args.no_verify and args.input:
        raise RmpeError("--input names what to compare on, and --no-verify does not compare; leave out one of them")
    _load_plugins(args.plugin)
    options = SourceOptions(tuple(args.until), tuple(InputShape(*shape) for shape in args.input_shape), args.lenient,
                            not args.drop_parallel, args.key)
    trial = None if args.no_verify else Trial(args.input, args.image, args.tolerance, args.seed)
    done = run_convert(args.source, args.destination, _setting(args), options, trial, args.force)
    for note in done.notes:
        tell(f"note: {note}")
    for file in done.files:
        say(f"written to {file}")
    if done.verdict:
        say(done.verdict) if done.same else tell(done.verdict)
    return 0 if done.same else 1


def verify(args: argparse.Namespace) -> int:
    """Are two networks the same? Run both on the same inputs and compare blob by blob: exit code 0 for yes, 1 for no.

    A side is PROTOTXT,WEIGHTS (weights as .caffemodel, .h5, .safetensors or .pt); opencv:PROTOTXT,CAFFEMODEL for
    OpenCV 4's importer; a .safetensors or .json that `rmpe convert` wrote; a .t7, .onnx or .py; or the blobs of
    `rmpe forward`, .npz. Weights alone get the other side's prototxt. A .py is a program, and is run.
    """
    from .convert.command import Trial, run_verify
    from .convert.source import SourceOptions

    _load_plugins(args.plugin)
    trial = Trial(args.input, args.image, args.tolerance, args.seed)
    options = SourceOptions(lenient=args.lenient, parallel=not args.drop_parallel, key=args.key)
    verdict = run_verify(args.a, args.b, _setting(args), trial, args.html, options)
    say(verdict, _beside(args.html))
    return 0 if verdict.same else 1


def hash_(args: argparse.Namespace) -> None:
    """Say what a network and its weights are by their content alone, in whichever files they come."""
    from .convert.identity import identify

    _load_plugins(args.plugin)
    setting = replace(_setting(args), allow_python=None)  # what a network is does not depend on running its modules
    for what, digits in identify(args.source, setting).items():
        say(f"{what:<8} {digits}")


def _beside(output: str | None) -> TextIO | None:
    """Where to print while results go to `output`: standard error if that is standard output."""
    return sys.stderr if output == "-" else sys.stdout


def _setting(args: argparse.Namespace):
    from .convert.network_json import Setting

    return Setting(args.phase, args.level, tuple(args.stage), args.dialect, args.de_transform, args.allow_python)


def _load(args: argparse.Namespace):
    from .load import load_net

    return load_net(args.prototxt, args.caffemodel, args.phase, args.level, args.stage, args.dialect,
                    args.de_transform, not args.lenient, allow_python=args.allow_python)


def _load_plugins(paths: list[str]) -> None:
    """Run the user's Python files, so that their @register lines take effect."""
    import runpy

    for path in paths:
        if not Path(path).is_file():
            raise RmpeError(f"{path}: no such plugin file")
        runpy.run_path(path)  # an error in it is the user's to see, with its traceback


def _net_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--phase", choices=("TRAIN", "TEST"), default="TEST")
    command.add_argument("--level", type=int, default=0, help="for min_level and max_level rules")
    command.add_argument("--stage", action="append", default=[], metavar="NAME", help="for stage rules; repeatable")
    command.add_argument("--dialect", choices=("rmpe", "ssd", "bvlc"), default="rmpe",
                         help="whose fields and defaults hold (default: rmpe)")
    command.add_argument("--plugin", action="append", default=[], metavar="FILE.py",
                         help="a Python file that registers layers of your own; repeatable")
    _python_option(command)


def _python_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--allow-python", action="store_true",
                         help="import the modules that layers of type Python name; they are programs and can do "
                         "anything, so only for a network that you trust (show and hash never import any)")


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser("rmpe", description=__doc__)
    parser.add_argument("--version", action="version", version=f"rmpe_legacy {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")

    command = _command(commands, "show", show)
    command.add_argument("file", help="a prototxt, a caffemodel, or a .t7 file")
    command.add_argument("--weights", metavar="CAFFEMODEL", help="also compare the network with these weights")
    _net_options(command)

    command = _command(commands, "layers", layers)
    command.add_argument("type", nargs="?", metavar="TYPE", help="show this one, for example Convolution")
    command.add_argument("--json", action="store_true", help="as JSON")

    command = _command(commands, "forward", forward)
    command.add_argument("prototxt")
    command.add_argument("caffemodel", nargs="?", help="without it, parameters are as their fillers make them")
    command.add_argument("--input", action="append", default=[], metavar="NAME=FILE",
                         help="a .npy, an .npz or a picture for one input; repeatable. A picture is resized to the "
                         "input's size in the prototxt")
    command.add_argument("--blobs", default=None, metavar="all|A,B", help="which to write (default: the outputs)")
    command.add_argument("--output", default="blobs.npz", metavar="OUT.npz",
                         help="where to write the blobs; - is standard output (default: %(default)s)")
    command.add_argument("--image", choices=("detector", "pose"), default="pose",
                         help="how a picture becomes an input: RGB from 0 to 1 (pose, the default), or BGR from 0 to "
                         "255 minus the mean (detector)")
    _de_transform_option(command)
    command.add_argument("--lenient", action="store_true", help="leave out what is not known, and say so")
    command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    _net_options(command)

    command = _command(commands, "detect", detect)
    command.add_argument("inputs", nargs="+", metavar="IMAGE|DIR|VIDEO")
    _network_options(command, "detector")
    _picture_options(command)

    command = _command(commands, "pose", pose)
    command.add_argument("--proposals", required=True, metavar="DIR", help="a folder with index.txt, score.txt and "
                         "test-bbox.h5, as rmpe detect writes it")
    command.add_argument("--images", required=True, metavar="DIR", help="the pictures that index.txt lists")
    _network_options(command, "pose")
    _picture_options(command)

    command = _command(commands, "demo", demo)
    command.add_argument("inputs", nargs="+", metavar="IMAGE|DIR|VIDEO")
    _network_options(command, "detector", "pose")
    command.add_argument("--report", metavar="OUT.html", help="a page that shows every step on every picture")
    _picture_options(command, output="rmpe_output")

    command = _command(commands, "nms", nms)
    command.add_argument("--proposals", required=True, metavar="DIR", help="a folder with index.txt, score.txt and "
                         "test-bbox.h5")
    command.add_argument("--poses", required=True, metavar="H5", help="the pose network's results, testres.h5")
    command.add_argument("--output", required=True, metavar="DIR", help="where pred.txt, scores.txt, "
                         "scores-proposals.txt and index.txt go")
    command.add_argument("--variant", choices=("batch", "demo"), default="batch",
                         help="batch_nms.py (default) or demo_pose_NMS.py")
    command.add_argument("--image-sizes", metavar="FILE", help="text, `name width height` per line: grow the boxes as "
                         "the demo did (with --variant demo)")

    _evaluate_options(_command(commands, "evaluate", evaluate))
    _reproduce_options(_command(commands, "reproduce", reproduce))
    _convert_options(commands)
    return parser


def _reproduce_options(command: argparse.ArgumentParser) -> None:
    kinds = command.add_subparsers(dest="kind", metavar="mpii|coco|demo", required=True)
    mpii = kinds.add_parser("mpii", help="Table 3, MPII validation; and why Table 1 cannot be measured")
    mpii.add_argument("--images", required=True, metavar="DIR", help="MPII's pictures")
    _network_options(mpii, "detector", "pose", shipped=False)
    mpii.add_argument("--proposals", metavar="DIR", help="a detector's boxes (index.txt, score.txt, test-bbox.h5), in "
                      "place of --detector")
    mpii.add_argument("--ground-truth", metavar="FILE", help="as for rmpe evaluate mpii")
    mpii.add_argument("--groups", metavar="FILE", help="as for rmpe evaluate mpii")
    mpii.add_argument("--split", choices=("train", "test"), default="train", help="of RELEASE (default: train)")
    mpii.add_argument("--row", default="full", metavar="NAME", help="the row of Table 3 that the pose network was "
                      "trained for (default: full); rows of several runs with one --output stand in one table")
    mpii.add_argument("--report", metavar="OUT.html", help="a page that shows every step")
    _picture_options(mpii, published=None, threads=1)
    coco = kinds.add_parser("coco", help="Table 2; and why nobody can measure it")
    coco.add_argument("--predictions", metavar="FILE", help="results with COCO's 17 joints, JSON")
    coco.add_argument("--ground-truth", metavar="FILE", help="person_keypoints_*.json")
    drawn = kinds.add_parser("demo", help="the same steps on drawn people, whose joints are known")
    _network_options(drawn, "detector", "pose")
    drawn.add_argument("--pictures", type=int, metavar="N", help="how many (default: 300, or 24 with --quick)")
    drawn.add_argument("--quick", action="store_true", help="only the first rows, of the detector's own boxes")
    drawn.add_argument("--world", type=int, default=1_000_003, metavar="SEED", help="other pictures (default: "
                       "%(default)s)")
    _picture_options(drawn, published="demo-test", threads=1)


def _network_options(command: argparse.ArgumentParser, *which: str, shipped: bool = True) -> None:
    default = " (default: the small one for drawn people)" if shipped else ""
    if "detector" in which:
        command.add_argument("--detector", nargs=2, metavar=("PROTOTXT", "CAFFEMODEL"),
                             help=f"deploy.prototxt and weights{default}")
    if "pose" in which:
        command.add_argument("--pose", nargs="+", metavar="FILE", required=not shipped,
                             help=f"the pose network: PROTOTXT CAFFEMODEL, or one .t7{default}")
        command.add_argument("--batch", type=int, default=16, metavar="N", help="crops at once (default: 16)")
        _de_transform_option(command)


def _picture_options(command: argparse.ArgumentParser, published: str | None = "demo",
                     threads: int | None = None, output: str | None = None) -> None:
    command.add_argument("--output", default=output, required=output is None, metavar="DIR", help="where results go; "
                         "what is finished there is not computed again" + (" (default: %(default)s)" if output else ""))
    command.add_argument("--published", choices=("demo", "demo-test", "torch7", "testres"), default=published,
                         help="whose growth of boxes, crops, read-out, rounding and pose NMS: demo.py, the same over a "
                         "test set, predict/main.lua, or the authors' stored results (default: "
                         f"{published or 'torch7 for a .t7, else demo-test'})")
    command.add_argument("--threshold", type=float, metavar="SCORE", help="detections above it are people (default: "
                         "0.3 for demo, the paper's 0.09 for the others)")
    _python_option(command)
    command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    command.add_argument("--threads", type=int, default=threads, metavar="N", help="of the processor, in each process; "
                         "sums are rounded otherwise with another number (default: "
                         + ("%(default)s)" if threads else "all)"))


def _convert_options(commands) -> None:
    command = _command(commands, "convert", convert)
    command.add_argument("source", nargs="+", help="a prototxt and a weights file; a .safetensors or .json that this "
                         "command wrote; a .t7; or weights alone")
    command.add_argument("destination", help="its suffix says what to write: .caffemodel, .h5, .safetensors, .pt, "
                         ".onnx, .py or .prototxt; a folder (or NAME/) gets prototxt and caffemodel")
    command.add_argument("--until", action="append", default=[], metavar="BLOB",
                         help="convert what this blob depends on, and no more; repeatable")
    command.add_argument("--input-shape", action="append", type=_input_shape, default=[], metavar="[NAME=]SIZES",
                         help="the shape of an input, with or without the batch: data=3,227,227. Data layers become "
                         "inputs of this shape. For a .t7, C,H,W (default: the size that its STN takes). Repeatable")
    command.add_argument("--no-verify", action="store_true", help="do not run and compare the two networks")
    command.add_argument("--force", action="store_true", help="replace files of the same kind that are there already")
    _source_options(command)
    _trial_options(command)

    command = _command(commands, "verify", verify)
    command.add_argument("a", metavar="A")
    command.add_argument("b", metavar="B")
    command.add_argument("--html", metavar="FILE", help="draw the comparison as a page; - is standard output")
    _source_options(command)
    _trial_options(command)
    command.set_defaults(code_of_mistakes=2)  # 1 says that the networks differ

    command = _command(commands, "hash", hash_)
    command.add_argument("source", nargs="+", help="weights of any kind, a prototxt, both, or a .t7")
    _net_options(command)
    _de_transform_option(command)


def _trial_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--input", action="append", default=[], metavar="NAME=FILE",
                         help="run on this .npy, .npz or picture (default: random numbers); repeatable")
    command.add_argument("--image", choices=("detector", "pose"), default="pose", help="how a picture becomes an input")
    command.add_argument("--tolerance", type=_tolerance, default=1e-4, metavar="T",
                         help="how far blobs may differ, as a part of their range (default: 1e-4)")
    command.add_argument("--seed", type=_seed, default=1701, help="of the random numbers (default: 1701)")
    _net_options(command)
    _de_transform_option(command)


def _source_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lenient", action="store_true", help="leave out unknown layers and fields, layers that "
                         "compare with labels, and weights that are missing; each is reported")
    command.add_argument("--drop-parallel", action="store_true", help="leave out the parallel SPPE of a .t7")
    command.add_argument("--key", metavar="NAME", help="the entry that holds the network, if a .t7 holds a table")


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to {(1 << 63) - 1}")
    return seed


def _tolerance(text: str) -> float:
    tolerance = float(text)
    if not 0 <= tolerance < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a finite number of at least 0")
    return tolerance


def _input_shape(text: str) -> tuple[tuple[int, ...], str | None]:
    """The sizes and the name of "NAME=1,3,224,224" or "3,224,224"."""
    name, equals, sizes = text.rpartition("=")
    values = tuple(map(int, sizes.split(",")))
    if min(values) < 1 or max(values) > MAX_INPUT_SIZE or bool(equals) != bool(name):
        raise ValueError
    return values, name or None


def _de_transform_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--de-transform", choices=("paper", "published-identity", "published-ignored"),
                         help="what de_transform: true shall mean (default: paper, with a warning)")


def _evaluate_options(command: argparse.ArgumentParser) -> None:
    kinds = command.add_subparsers(dest="kind", metavar="mpii|pckh|coco", required=True)
    mpii = kinds.add_parser("mpii", help="MPII multi-person AP, as the official Matlab toolkit computes it")
    mpii.add_argument("predictions", help="a .mat with pred, a pred.txt (or its folder), or JSON with 16 joints")
    mpii.add_argument("ground_truth", help="a .mat with annolist or RELEASE, an annotation list (.txt), or JSON")
    mpii.add_argument("--groups", metavar="FILE", help="groups_v12.mat for RELEASE, or MPI_MP_*_annotations.json to "
                      "name the pictures of an annolist")
    mpii.add_argument("--split", choices=("train", "test"), default="train", help="of RELEASE (default: train)")
    pckh = kinds.add_parser("pckh", help="PCKh of single persons")
    pckh.add_argument("predictions", help="an .h5 or .mat with preds, or a .npy: (people, 16, 2)")
    pckh.add_argument("ground_truth", help="the hourglass's valid.h5, or detections_our_format.mat")
    pckh.add_argument("--protocol", choices=("official", "tompson", "demo", "all"), default="all")
    coco = kinds.add_parser("coco", help="COCO keypoint AP, by pycocotools")
    coco.add_argument("predictions", help="a results file, JSON with 17 joints")
    coco.add_argument("ground_truth", help="person_keypoints_*.json")
    for kind in (mpii, pckh, coco):
        kind.add_argument("--output", metavar="DIR", help="write the numbers as JSON and curves as PNG there")
        kind.add_argument("--name", help="of the method, for the table (default: the name of the predictions' file)")


def _command(commands, name: str, run: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=run.__doc__.partition("\n")[0], description=run.__doc__)
    command.set_defaults(run=run)
    return command


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 if it went well, 1 with a sentence on stderr if not, 2 if some pictures were skipped.

    Of verify, 1 says that the networks differ, and 2 comes with the sentence.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if "run" not in args:
        parser.print_help(sys.stderr)
        return 2
    warnings.showwarning = _print_warning
    try:
        code = args.run(args)
        finish()
        return code or 0
    except RmpeError as error:  # the message is the whole story; any other exception is our bug
        tell(error)
        return getattr(args, "code_of_mistakes", 1)
    except MemoryError:
        tell("this needs more memory than there is")
        return getattr(args, "code_of_mistakes", 1)
    except KeyboardInterrupt:
        tell("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        abandon(sys.stdout)
    return 0


def _print_warning(message, category, filename, lineno, file=None, line=None) -> None:
    tell(f"warning: {message}")
