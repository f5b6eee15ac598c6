"""Every command's arguments; nothing heavy is imported, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse

from edgekit import __version__
from edgekit.errors import UsageError

# Not typing's own, and pathlib only when a path is given: both take longer to import than
# everything else that `--help` needs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any, NoReturn

PRECISIONS = (
    *("float32", "float16", "int8-static", "int8-static-int16", "int8-dynamic"),
    *("int8-weight-only", "int4-weight-only", "int4-dynamic"),
    *("palettized-6bit", "palettized-4bit"),
)
FORMATS = ("litert", "onnxruntime", "coreml")
COMPUTE_UNITS = ("cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")
EXPORTS = {
    "android": "a Gradle module with the model, a typed Kotlin class, and the gate",
    "ios": "a Swift package with the model, a typed class, and a script for Xcode",
    "c": "the model as a C array for TensorFlow Lite for Microcontrollers",
    "cmake": "a C++17 wrapper as a CMake package, for LiteRT or ONNX Runtime",
    "ort-package": "ONNX Runtime's model package: one directory for several accelerators",
    "python": "a Python package for boards, with a service and its systemd unit",
}
REPORTS = ("text", "junit", "github", "markdown")
_WHERE = "local[:/folder], [open]ssh://[user@]host[:port][/folder] or adb://[serial]"
PREFERENCES = ("latency", "size", "energy", "accuracy")


class Parser(argparse.ArgumentParser):
    """Wrong usage is an error like any other: a message, a hint, exit code 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"`{self.prog} --help` shows how it is used")


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="edgekit",
        description="A trained network onto a phone, a Jetson or any board: small and fast "
        "enough, still right, and measured there.",
        epilog="exit codes: 0 done, 1 a check or gate failed, 2 bad input or usage, 3 the "
        "device or the connection failed, 4 a tool failed",
    )
    top.add_argument("--version", action="version", version=f"edgekit {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, example, add) in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=f"example: {example}",
        )
        add(command)
        command.add_argument(
            "--json", action="store_true", help="one JSON object on standard output"
        )
        command.add_argument("--verbose", action="store_true", help="log, and show tracebacks")
    return top


def parse(words: list[str]) -> argparse.Namespace:
    """The arguments of a command line.

    Raises:
        UsageError: it does not make sense.
    """
    top = parser()
    arguments = top.parse_args(words)
    if arguments.command in _OF_A_PROJECT:
        _check_subject(arguments, top.parse_args([arguments.command]))
    return arguments


def is_about_a_project(arguments: argparse.Namespace) -> bool:
    """Whether a command is about all of edgekit.toml."""
    if arguments.command in _OF_A_PROJECT:
        return getattr(arguments, _OF_A_PROJECT[arguments.command][0]) is None
    return arguments.command in ("init", "check")


_OF_A_PROJECT = {
    "build": ("model", {"project", "locked", "jobs"}, {"no_cache", "output"}),
    "verify": ("bundle", {"project", "rebuild"}, set()),
    "bench": (
        "bundle",
        {"project"},
        {"accept_new", "retry", "only", "at_once", "runs", "seconds", "processes", "threads"}
        | {"deadline", "cpu", "compute_units", "attached", "device_python", "output"}
        | {"provision", "wheels"},
    ),
}
"""Commands about one thing or about a project: what the one thing is called, the options of a
project, and those of both."""

_COMMON = {"command", "json", "verbose"}
_REQUIRED = {"build": {"device": "--device", "output": "-o/--output"}}


def _check_subject(given: argparse.Namespace, defaults: argparse.Namespace) -> None:
    """Every option that was given is one of what the command is about, and none is lacking."""
    subject, own, both = _OF_A_PROJECT[given.command]
    project = is_about_a_project(given)
    told = {name for name, value in vars(given).items() if value != getattr(defaults, name)}
    odd = told - own - both - _COMMON if project else told & own
    hint = f"`edgekit {given.command} --help` shows how it is used"
    if odd:
        option = f"--{min(odd).replace('_', '-')}"
        about = f"for a {subject}" if project else f"for a project, not for one {subject}"
        raise UsageError(f"{option} is {about}", hint)
    required = _REQUIRED.get(given.command, {})
    lacking = [text for name, text in required.items() if getattr(given, name) is None]
    if lacking and not project:
        raise UsageError(f"the following arguments are required: {', '.join(lacking)}", hint)


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text)


def _fraction(text: str) -> float:
    """Of the multiply-accumulates; who asks for zeros in a pattern is told what they bring."""
    hint = "give the share of the multiply-accumulates that is to go: --prune 0.25"
    if ":" in text:
        raise UsageError(
            f"--prune removes whole channels, not weights in a pattern as {text}: LiteRT and ONNX "
            "Runtime store zeros like any other weight and multiply by them, so they save neither "
            "bytes nor time",
            hint,
        )
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--prune takes a fraction, not {text!r}", hint) from None


def _devices(command: Parser) -> None:
    command.add_argument(
        "words",
        nargs="*",
        metavar="[calibrate|probe|add] NAME",
        help="show all of one device; measure small networks on it for better plans; ask what a "
        "target is; draft a profile of it",
    )
    _target(command)
    command.add_argument("--force", action="store_true", help="replace a profile of that name")
    how = command.add_argument_group("calibrating")
    how.add_argument("--minutes", type=float, default=2.0, help="of measuring there (2)")
    how.add_argument("--device-python", metavar="PATH", help="the Python to use there")


def _inspect(command: Parser) -> None:
    _model(command)
    command.add_argument(
        "--target",
        action="append",
        default=[],
        choices=FORMATS,
        help="say what this format is not known to take; may be given several times",
    )


def _plan(command: Parser) -> None:
    _model(command)
    _decision(command)
    command.add_argument(
        "--no-calibration", action="store_true", help="plan without calibration data"
    )
    _target(
        command.add_argument_group("the very device"),
        default=None,
        purpose="use a calibration only if it is of this machine and of the runtimes there: ",
    )


def _init(command: Parser) -> None:
    _model(command)
    command.add_argument(
        "--device", action="append", default=[], metavar="NAME",
        help="a target; may be given several times (raspberry-pi-5)",
    )  # fmt: skip
    command.add_argument("--calibration", type=_path, metavar="X.npz")
    command.add_argument("--evaluate", type=_path, metavar="XY.npz")
    command.add_argument(
        "--schema", action="store_true", help="write edgekit.schema.json for editors, too"
    )
    command.add_argument("-o", "--output", type=_path, metavar="FILE", help="(edgekit.toml)")


def _build(command: Parser) -> None:
    _model(command, "?")
    _decision(command, required=False)
    whole = command.add_argument_group("all of edgekit.toml (without MODEL)")
    _project(whole)
    whole.add_argument(
        "--locked", action="store_true", help="fail, and say why, where anything is not as locked"
    )
    whole.add_argument(
        "--jobs", type=int, metavar="N",
        help="bundles at a time (one for each core, as long as 1 GiB and 12 times the largest "
        "model's file is free for each)",
    )  # fmt: skip
    data = command.add_argument_group("data")
    data.add_argument(
        "--calibration",
        type=_path,
        metavar="X",
        help="samples for static int8: an .npz, or a folder",
    )
    data.add_argument(
        "--evaluate", type=_path, metavar="XY", help="samples x and labels y that decide"
    )
    data.add_argument(
        "--metric",
        help="top1, cosine, mae, auc or module:function; by default chosen by the labels",
    )
    shown = command.add_argument_group("what an application sees")
    shown.add_argument(
        "--image-input", action="append", default=[], metavar="NAME=rgb,scale=S,bias=B",
        help="an input is a picture: rgb, bgr or gray, and the model's input is scale * pixel + "
        "bias, with one number or one for each channel (0.5/0.5/0.5)",
    )  # fmt: skip
    shown.add_argument(
        "--labels", type=_path, metavar="FILE", help="the names of the classes, one on a line"
    )
    contest = command.add_argument_group("measuring")
    contest.add_argument(
        "--measure", action="store_true",
        help="build the best few, measure them on the target in turn, keep the measured best",
    )  # fmt: skip
    _target(contest, default=None, purpose="where; this machine when left out: ")
    contest.add_argument("--measure-count", type=int, metavar="N", help="how many, at most (3)")
    _provisioning(command)
    command.add_argument("--no-cache", action="store_true", help="neither read nor keep results")
    command.add_argument(
        "-o", "--output", type=_path, metavar="OUT.edgekit",
        help="one file when it ends in .edgekit, else a folder; of a project the folder of all "
        "bundles (build, beside edgekit.toml)",
    )  # fmt: skip


def _verify(command: Parser) -> None:
    command.add_argument("bundle", type=_path, nargs="?", metavar="BUNDLE")
    whole = command.add_argument_group("all of edgekit.toml (without BUNDLE)")
    whole.add_argument(
        "--rebuild", action="store_true",
        help="build again with an empty cache, and compare every byte with edgekit.lock",
    )  # fmt: skip
    _project(whole)


def _check(command: Parser) -> None:
    _project(command)
    command.add_argument(
        "--results", type=_path, action="append", default=[], metavar="PATH",
        help="what `bench -o` wrote, a file or a folder; may be given several times (results, "
        "beside edgekit.toml)",
    )  # fmt: skip
    command.add_argument("--baseline", type=_path, metavar="LOCK", help="of another state")
    command.add_argument(
        "--baseline-results", type=_path, action="append", default=[], metavar="PATH",
        help="the results of that state",
    )  # fmt: skip
    command.add_argument("--strict", action="store_true", help="what is inconclusive fails, too")
    command.add_argument("--format", choices=REPORTS, default="text", help="(text)")


def _export(command: Parser) -> None:
    _bundle(command)
    command.add_argument(
        "others", type=_path, nargs="*", metavar="BUNDLE",
        help="the same model for other accelerators, for --ort-package",
    )  # fmt: skip
    platforms = command.add_mutually_exclusive_group(required=True)
    for platform, what in EXPORTS.items():
        platforms.add_argument(
            f"--{platform}", dest="to", metavar="DIR", type=_to(platform), help=what
        )
    command.add_argument(
        "--name", metavar="NAME", help="what your code calls the model (after the model's file)"
    )


def _to(platform: str) -> Callable[[str], tuple[str, Path]]:
    return lambda text: (platform, _path(text))


def _push(command: Parser) -> None:
    _bundle(command)
    _targets(command)
    _provisioning(command)


def _bench(command: Parser) -> None:
    _bundle(command, "?")
    _project(command.add_argument_group("all of edgekit.toml (without BUNDLE)"))
    _targets(command)
    how = command.add_argument_group("measuring")
    how.add_argument("--runs", type=int, default=50, help="at least, per process (50)")
    how.add_argument("--seconds", type=float, default=1.0, help="at least, per process (1)")
    how.add_argument("--processes", type=int, default=5, help="fresh processes (5)")
    how.add_argument("--threads", type=int, help="CPU threads (the recipe's)")
    how.add_argument(
        "--deadline", type=float, metavar="S", help="for all of it (15 minutes more than asked for)"
    )
    how.add_argument("--cpu", action="store_true", help="leave the accelerator alone")
    how.add_argument(
        "--sustained", type=float, metavar="MINUTES",
        help="then run for so long without a pause: what it settles at, beside the first minute",
    )  # fmt: skip
    how.add_argument(
        "--profile", action="store_true", help="what each operation takes (ONNX Runtime)"
    )
    how.add_argument(
        "--trtexec", action="store_true",
        help="on a Jetson: build an engine and time it by NVIDIA's own tool, too (ONNX)",
    )  # fmt: skip
    how.add_argument(
        "--no-energy", action="store_true", help="spare the 20 s that a power sensor is read for"
    )
    apple = command.add_argument_group("Core ML, on a Mac with Xcode")
    apple.add_argument("--compute-units", choices=COMPUTE_UNITS, help="(the recipe's)")
    apple.add_argument(
        "--attached", metavar="NAME",
        help="the iPhone attached to that Mac, by name or identifier; `any` for the only one",
    )  # fmt: skip
    command.add_argument("--device-python", metavar="PATH", help="the Python to use there")
    _provisioning(command)
    command.add_argument(
        "-o", "--output", type=_path, metavar="RESULT.json", help="a folder for several devices"
    )


def _compare(command: Parser) -> None:
    command.add_argument("first", type=_path, metavar="A")
    command.add_argument("second", type=_path, metavar="B")
    _target(command)
    command.add_argument(
        "--pairs", type=int, default=10, help="of fresh processes, one for each, 5 at least (10)"
    )
    command.add_argument(
        "--seconds", type=float, default=1.5, help="of measuring, at least, in each process (1.5)"
    )
    _provisioning(command)


def _provisioning(command: Parser) -> None:
    bare = command.add_argument_group("a device without the runtime")
    bare.add_argument(
        "--provision", action="store_true",
        help="fetch it here, and install it below edgekit's folder there, which needs no network",
    )  # fmt: skip
    bare.add_argument("--wheels", type=_path, metavar="FOLDER", help="take it from here, offline")


def _toolchain(command: Parser) -> None:
    command.add_argument("action", choices=("list", "install"))
    command.add_argument("tool", nargs="?", help="one tool; all of them when left out")
    command.add_argument("--installer", choices=("uv", "pip"), help="what builds environments")
    command.add_argument(
        "--wheels", type=_path, metavar="FOLDER", help="install from here, offline"
    )


_COMMANDS: dict[str, tuple[str, str, Callable[[Parser], None]]] = {
    "devices": (
        "what is known of the devices; `calibrate` measures one, `probe` looks at one, `add` "
        "drafts its profile",
        "edgekit devices probe --on ssh://pi@raspberry",
        _devices,
    ),
    "inspect": (
        "size, multiply-accumulates, activation peak and operators of a model",
        "edgekit inspect model.onnx --target litert",
        _inspect,
    ),
    "plan": (
        "what would be built for a device, and why; what was ruled out, and why",
        "edgekit plan model.onnx --device pixel-8 --max-latency-ms 5",
        _plan,
    ),
    "init": (
        "write an edgekit.toml: models, targets and budgets, for `build` and `check`",
        "edgekit init model.onnx --device raspberry-pi-5 --device pixel-8",
        _init,
    ),
    "build": (
        "build a bundle for a device, proven against the original; without a model all of "
        "edgekit.toml",
        "edgekit build model.onnx --device raspberry-pi-5 --calibration x.npz "
        "--evaluate xy.npz --max-drop 0.01 -o model.edgekit",
        _build,
    ),
    "verify": (
        "check every digest of a bundle; with --rebuild build all of edgekit.toml again, and "
        "compare",
        "edgekit verify model.edgekit",
        _verify,
    ),
    "check": (
        "the budgets of edgekit.toml, and a baseline: the gate for CI",
        "edgekit check --baseline main.lock --format junit",
        _check,
    ),
    "export": (
        "what an app embeds of a bundle: one platform's files, and code to call the model",
        "edgekit export model.edgekit --c firmware/model",
        _export,
    ),
    "push": (
        "put a bundle on a device, verified there",
        "edgekit push model.edgekit --on ssh://pi@raspberry",
        _push,
    ),
    "bench": (
        "push a bundle, compare its golden vectors there and measure it; without a bundle all of "
        "edgekit.toml",
        "edgekit bench model.edgekit --on ssh://pi@raspberry -o result.json",
        _bench,
    ),
    "compare": (
        "measure two bundles in turn: is B faster than A, slower, the same, or undecided",
        "edgekit compare old.edgekit new.edgekit --on ssh://pi@raspberry",
        _compare,
    ),
    "toolchain": (
        "the tools that edgekit runs in environments of their own",
        "edgekit toolchain install",
        _toolchain,
    ),
}


def _model(command: Parser, count: str | None = None) -> None:
    command.add_argument(
        "model", type=_path, nargs=count, metavar="MODEL",
        help="an .onnx, .pt2, .tflite, .keras or .h5 file, or a SavedModel's folder",
    )  # fmt: skip
    command.add_argument(
        "--trust", action="store_true", help="let code run that a Keras file or SavedModel carries"
    )
    command.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=1,3,224,224",
        help="fix an input's dynamic axes; may be given several times",
    )


def _decision(command: Parser, *, required: bool = True) -> None:
    command.add_argument(
        "--device", required=required, metavar="NAME", help="see `edgekit devices`"
    )
    goal = command.add_argument_group("goal")
    goal.add_argument("--max-latency-ms", type=float, metavar="MS")
    goal.add_argument("--max-size-mb", type=float, metavar="MB", help="of the artifact, 1e6 bytes")
    goal.add_argument("--max-memory-mb", type=float, metavar="MB")
    goal.add_argument("--max-energy-mj", type=float, metavar="MJ", help="per inference")
    goal.add_argument(
        "--max-drop", type=float, metavar="DROP",
        help="how far the metric may fall below the original's, in its own unit (0.005; mae 2 %%)",
    )  # fmt: skip
    goal.add_argument("--prefer", choices=PREFERENCES, default="latency", help="(latency)")
    narrow = command.add_argument_group("narrowing the choice")
    narrow.add_argument("--format", action="append", default=[], choices=FORMATS)
    narrow.add_argument("--precision", action="append", default=[], choices=PRECISIONS)
    narrow.add_argument(
        "--prune", type=_fraction, metavar="FRACTION",
        help="remove channels and ends of kernels until this share of the multiply-accumulates is "
        "gone (0.25)",
    )  # fmt: skip
    narrow.add_argument("--threads", type=int, metavar="N", help="CPU threads (the best number)")
    narrow.add_argument(
        "--power-mode", action="append", default=[], metavar="NAME",
        help="assume the best of these modes of the device, or `all`; its default mode is "
        "assumed otherwise",
    )  # fmt: skip


def _project(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--project", type=_path, metavar="FILE", help="(edgekit.toml, here or in a folder above)"
    )


def _bundle(command: Parser, count: str | None = None) -> None:
    command.add_argument("bundle", type=_path, nargs=count, metavar="BUNDLE")


def _target(
    command: argparse._ActionsContainer, default: str | None = "local", purpose: str = ""
) -> None:
    command.add_argument(
        "--on",
        default=default,
        metavar="TARGET",
        help=purpose + _WHERE + (f" ({default})" if default else ""),
    )
    command.add_argument(
        "--accept-new", action="store_true", help="record the key of a host seen for the first time"
    )


def _targets(command: Parser) -> None:
    """One target, or many."""
    command.add_argument(
        "--on", action="append", metavar="TARGET",
        help=f"{_WHERE} (local); may be given several times",
    )  # fmt: skip
    command.add_argument(
        "--accept-new", action="store_true", help="record the key of a host seen for the first time"
    )
    command.add_argument(
        "--retry", type=int, default=3, metavar="N",
        help="how often to connect again when the connection is lost (3)",
    )  # fmt: skip
    many = command.add_argument_group("many devices")
    many.add_argument("--fleet", type=_path, metavar="FLEET.toml", help="all of its devices")
    many.add_argument(
        "--only", action="append", default=[], metavar="NAME",
        help="those of this name, tag or group; may be given several times",
    )  # fmt: skip
    many.add_argument("--at-once", type=int, default=32, metavar="N", help="at a time (32)")
