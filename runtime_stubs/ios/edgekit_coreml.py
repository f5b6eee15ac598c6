#!/usr/bin/env python3
"""What measures a Core ML model: on a Mac, or on an iPhone that is attached to it.

The runner in the folder above does here what it does for every format. This file has Xcode's
tools build a small program in Swift (once for each version of its source) and compile the
model, and takes both to the iPhone if there is one; that program then does each part of a
bench. The standard library only, Python 3.8 and newer: Xcode brings one.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import plistlib
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, Sequence

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import edgekit_runner as runner  # noqa: E402 (it lies in the bundle, which is on no path)

del sys.path[0]

Event = Dict[str, Any]
Failure = runner.Failure

PROGRAM = "EdgekitCoreML"
COMPUTE_UNITS = ("cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")
IOS = "16.0"  # as Package.swift has it
TOOL_S = 600.0
LIST_S = "20"
SERIOUS = 2  # of ProcessInfo.ThermalState: from here on the system slows down
HEAT = "0x8"  # as a Raspberry Pi says that its limit of heat is reached
SAID_BYTES = 1500
ANY = "any"
IDENTIFIER = "dev.edgekit.runner"
BUNDLE_ON_PHONE = "edgekit"
PROFILES = (
    "Library/Developer/Xcode/UserData/Provisioning Profiles",
    "Library/MobileDevice/Provisioning Profiles",
)
NO_XCODE = (
    "runtime-missing",
    "Xcode's tools are not there",
    "install Xcode, open it once, then: sudo xcode-select --switch /Applications/Xcode.app",
)
# What Xcode's tools say -> the kind of failure, what it means, and what to do.
TROUBLES = {
    "unable to find utility": NO_XCODE,
    "invalid active developer path": NO_XCODE,
    "agreed to the Xcode license": (
        "runtime-missing",
        "the licence of Xcode has not been agreed to",
        "on the Mac: sudo xcodebuild -license accept",
    ),
    "could not be, unlocked": (
        "device",
        "the iPhone is locked",
        "unlock it, and keep it so until the measurement ends",
    ),
    "errSecInternalComponent": (
        "device",
        "the keychain that signs the runner is locked",
        "on the Mac, in the session that measures: security unlock-keychain",
    ),
}


# ------------------------------------------------------------------------------ parts


class Report(runner.Report):
    """What a part says; between its lines devicectl says things of its own."""

    def hear(self, line: bytearray) -> None:
        if line.lstrip().startswith(b"{"):
            super().hear(line)
        else:
            self.stderr = (self.stderr + line + b"\n")[-SAID_BYTES:]

    def conclude(self, status: int) -> Event:
        if status != 0:
            check_trouble(self.stderr.decode("utf-8", "replace"))
        return super().conclude(status)


class Parts(runner.Parts):
    """The parts of a bench, done by the program in Swift."""

    def __init__(self, arguments: argparse.Namespace, root: Path, scratch: Path) -> None:
        super().__init__(arguments)
        self.last = [part for part in self.last if part in ("memory", "energy")] + ["placement"]
        self._attached, self._root, self._scratch = arguments.attached, root, scratch
        self._manifest = runner.read_manifest(arguments.bundle)
        chosen = "cpuOnly" if arguments.cpu else self._manifest["delegate"] or "cpuOnly"
        self._job: Event = {
            "computeUnits": arguments.compute_units or chosen,
            "runs": arguments.runs,
            "seconds": arguments.seconds,
            "warmupRuns": arguments.warmup_runs,
            "warmupSeconds": arguments.warmup_seconds,
        }
        self._command: list[str] = []
        self._hottest = 0

    def argv(self, part: str) -> list[str]:
        return [*self._command, json.dumps({**self._job, "part": part}, sort_keys=True)]

    def report(self, part: str) -> Report:
        return Report(part)

    def run(self, part: str) -> Event:
        if part == "energy":
            return {"event": "energy", "why": "Apple's systems tell no program what they take"}
        event: Event = super().run(part)
        self._hottest = max(self._hottest, event.get("thermal_state", 0))
        return event

    def state(self) -> Event:
        return {"throttle_bits": HEAT} if self._hottest >= SERIOUS else {}

    def kill(self) -> None:
        """End what runs; devicectl hands a signal on to the iPhone only if it can be caught."""
        if self._attached and self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
        super().kill()

    def prepare(self) -> Iterator[Event]:
        names = [name for name in self._manifest["digests"] if name.startswith(f"{HERE.name}/")]
        runner.check_digests(self._bundle, self._manifest["digests"], sorted(names))
        yield from self._on_phone() if self._attached else self._here()

    def _here(self) -> Iterator[Event]:
        yield phase("building the runner, unless it is there")
        self._command = [str(self._built("macos", ()))]
        yield phase("compiling the model")
        model = self._compiled(())
        self._job.update(bundle=str(self._bundle), model=str(model), sha256=digest(model))

    def _on_phone(self) -> Iterator[Event]:
        yield phase("looking for the iPhone")
        phone = self._phone()
        profile, identity = self._provisioning(phone["hardwareProperties"]["udid"])
        yield phase("building the runner, unless it is there")
        sdk = self._xcrun("finding the SDK", "--sdk", "iphoneos", "--show-sdk-path").strip()
        program = self._built("ios", ("--triple", f"arm64-apple-ios{IOS}", "--sdk", sdk))
        application, identifier = self._signed(program, profile, identity)
        yield phase("compiling the model")
        version = phone["deviceProperties"]["osVersionNumber"]
        model = self._compiled(("--platform", "ios", "--deployment-target", version))
        yield phase(f"sending it to {phone['deviceProperties']['name']}")
        device = ("--device", phone["identifier"])
        self._xcrun(
            *("installing the runner", "devicectl", "device", "install", "app", *device),
            str(application),
        )
        self._xcrun(
            *("sending the bundle", "devicectl", "device", "copy", "to", *device),
            *("--domain-type", "appDataContainer", "--domain-identifier", identifier),
            *("--source", str(self._gathered(model)), "--remove-existing-content", "true"),
            *("--destination", f"Documents/{BUNDLE_ON_PHONE}"),
        )
        self._command = [
            *("xcrun", "devicectl", "device", "process", "launch", *device),
            *("--console", "--terminate-existing", identifier),
        ]
        # The application starts in its container: these lie in its documents.
        paths = {"bundle": BUNDLE_ON_PHONE, "model": f"{BUNDLE_ON_PHONE}/{model.name}"}
        self._job.update(paths, sha256=digest(model))
        yield self.run("device")

    # ------------------------------------------------------------- the program and the model

    def _built(self, platform: str, options: Sequence[str]) -> Path:
        """The program for a platform: built once for each version of its source."""
        sources = [HERE / "Package.swift", *sorted((HERE / "Sources").rglob("*.swift"))]
        key = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
        kept = self._root / "runners" / f"coreml-{platform}-{key[:16]}"
        if (kept / PROGRAM).is_file():
            return kept / PROGRAM
        # A copy: the bundle cannot be written to, and a build writes beside its source.
        source, products = self._scratch / "source", str(self._scratch / "build")
        for path in sources:
            copy = source / path.relative_to(HERE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(path), str(copy))
        build = (
            *("swift", "build", "--configuration", "release", *options),
            *("--package-path", str(source), "--scratch-path", products),
        )
        self._xcrun("building the runner", *build)
        made = Path(self._xcrun("finding what was built", *build, "--show-bin-path").strip())
        aside = self._scratch / "runner"
        aside.mkdir()
        shutil.copy(str(made / PROGRAM), str(aside / PROGRAM))
        kept.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # another bench was faster; its program is the same
            aside.rename(kept)
        return kept / PROGRAM

    def _compiled(self, options: Sequence[str]) -> Path:
        """The model as Core ML loads it."""
        package = self._bundle / self._manifest["artifact"]["path"]
        folder = self._scratch / "compiled"
        folder.mkdir()
        compile_ = ("coremlcompiler", "compile", str(package), str(folder), *options)
        self._xcrun("compiling the model", *compile_, kind="model")
        made = folder / f"{package.stem}.mlmodelc"
        if not made.is_dir():
            raise Failure("model", f"coremlcompiler made no {made.name}")
        return made

    def _gathered(self, model: Path) -> Path:
        """All that the iPhone needs, in one folder."""
        folder = self._scratch / "phone"
        folder.mkdir()
        golden = self._manifest["golden"]
        for name in (runner.MANIFEST, *golden["inputs"], *golden["outputs"]):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(self._bundle / name), str(folder / name))
        shutil.copytree(str(model), str(folder / model.name))
        return folder

    # ------------------------------------------------------------------------- the iPhone

    def _phone(self) -> Event:
        """The attached iPhone or iPad that was asked for, ready to be used."""
        listing = self._scratch / "devices.json"
        listing_to = ("--timeout", LIST_S, "--json-output", str(listing))
        self._xcrun("listing the devices", "devicectl", "list", "devices", *listing_to)
        try:
            devices = json.loads(listing.read_text(encoding="utf-8"))["result"]["devices"]
            return chosen(devices, self._attached)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Failure("device", f"devicectl's list of devices is odd: {error!r}") from error

    def _provisioning(self, udid: str) -> tuple[Path, str]:
        """A development profile for the iPhone, and the identity in the keychain that it names."""
        known = self._tool("looking for identities", "security", "find-identity", "-v")
        for folder in PROFILES:
            for path in sorted((Path.home() / folder).glob("*.mobileprovision")):
                profile = self._profile(path)
                if not is_fit(profile, udid):
                    continue
                for certificate in profile["DeveloperCertificates"]:
                    identity = hashlib.sha1(certificate).hexdigest().upper()  # noqa: S324
                    if identity in known:
                        return path, identity
        raise Failure(
            "device",
            f"no provisioning profile on this Mac lets edgekit's runner run on the iPhone {udid}",
            "in Xcode, with the iPhone attached, run any application with the identifier "
            "dev.edgekit.runner on it once (automatic signing makes the profile), then try again",
        )

    def _profile(self, path: Path) -> Event:
        text = self._tool("reading a profile", "security", "cms", "-D", "-i", str(path))
        profile: Event = plistlib.loads(text.encode())
        return profile

    def _signed(self, program: Path, profile: Path, identity: str) -> tuple[Path, str]:
        """An application of the program that the iPhone runs, and its identifier."""
        allowed = self._profile(profile)["Entitlements"]["application-identifier"]
        team, _, pattern = allowed.partition(".")
        identifier = IDENTIFIER if pattern == "*" else pattern.replace("*", "edgekit.runner")
        application = self._scratch / f"{PROGRAM}.app"
        application.mkdir()
        shutil.copy(str(program), str(application / PROGRAM))
        shutil.copyfile(str(profile), str(application / "embedded.mobileprovision"))
        write_plist(application / "Info.plist", information(identifier))
        entitlements = self._scratch / "entitlements.plist"
        rights = {"application-identifier": f"{team}.{identifier}", "get-task-allow": True}
        write_plist(entitlements, {**rights, "com.apple.developer.team-identifier": team})
        sign = ("codesign", "--force", "--sign", identity, "--entitlements", str(entitlements))
        self._tool("signing the runner", *sign, str(application))
        return application, identifier

    # -------------------------------------------------------------------------- the tools

    def _xcrun(self, doing: str, *argv: str, kind: str = "device") -> str:
        return self._tool(doing, "xcrun", *argv, kind=kind)

    def _tool(self, doing: str, *argv: str, kind: str = "device") -> str:
        """Run a tool to its end, and return what it said; it dies with this process."""
        pipe = subprocess.PIPE
        try:
            process = self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except FileNotFoundError:
            raise Failure(*NO_XCODE) from None
        try:
            stdout, stderr = process.communicate(timeout=TOOL_S)
        except subprocess.TimeoutExpired:
            raise Failure(kind, f"{doing} took more than {TOOL_S:g} s") from None
        finally:
            self.kill()
            self._process = None
        said = stdout.decode("utf-8", "replace")
        if process.returncode != 0:
            complaint = stderr.decode("utf-8", "replace").strip() or said.strip()
            check_trouble(complaint)
            raise Failure(kind, f"{doing} failed: {complaint[-SAID_BYTES:] or 'no reason given'}")
        return said


def phase(name: str) -> Event:
    return {"event": "phase", "name": name}


def check_trouble(said: str) -> None:
    for sign, (kind, message, hint) in TROUBLES.items():
        if sign in said:
            raise Failure(kind, message, hint)


def digest(folder: Path) -> str:
    """The sha256 of a folder: over each file's name and digest, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(runner.entries_under(folder)):
        total.update(name.encode() + b"\0")
        total.update(bytes.fromhex(runner.digest(folder / name)))
    return total.hexdigest()


def chosen(devices: Sequence[Event], wanted: str) -> Event:
    """The device that was asked for, of those that devicectl lists."""
    phones = [d for d in devices if d["hardwareProperties"].get("deviceType") in ("iPhone", "iPad")]
    near = [d for d in phones if d["connectionProperties"].get("tunnelState") != "unavailable"]
    named = [d for d in near if wanted == ANY or wanted in names(d)]
    there = ", ".join(repr(names(device)[0]) for device in near)
    if not near:
        raise Failure(
            "device", "no iPhone is attached to this Mac", "attach it with its cable, and unlock it"
        )
    if len(named) != 1:
        several = "several iPhones are attached" if named else f"no iPhone {wanted!r} is attached"
        raise Failure("device", f"{several}; there are {there}", "name one with --attached")
    (device,) = named
    name = repr(names(device)[0])
    if device["connectionProperties"].get("pairingState") != "paired":
        raise Failure("device", f"{name} does not trust this Mac", "unlock it and tap Trust")
    if device["deviceProperties"].get("developerModeStatus") != "enabled":
        hint = "on the iPhone: Settings, Privacy & Security, Developer Mode"
        raise Failure("device", f"{name} is not in Developer Mode", hint)
    return device


def names(device: Event) -> tuple[str, ...]:
    """What a device goes by, its own name first."""
    own = device["deviceProperties"].get("name") or device["identifier"]
    return own, device["identifier"], device["hardwareProperties"].get("udid", "")


def is_fit(profile: Event, udid: str) -> bool:
    """Whether a profile is for development on a device, and for no other application's name."""
    allowed = profile["Entitlements"].get("application-identifier", "")
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)  # as plistlib has it
    return bool(
        udid in profile.get("ProvisionedDevices", ())
        and profile["Entitlements"].get("get-task-allow")
        and profile["ExpirationDate"] > now
        # The name of one of the user's own applications would replace that on the iPhone.
        and allowed.endswith(("*", IDENTIFIER))
    )


def information(identifier: str) -> Event:
    """The Info.plist of the application."""
    return {
        "CFBundleIdentifier": identifier,
        "CFBundleExecutable": PROGRAM,
        "CFBundleName": "edgekit",
        "CFBundlePackageType": "APPL",
        "CFBundleShortVersionString": "1.0",
        "CFBundleVersion": "1",
        "CFBundleSupportedPlatforms": ["iPhoneOS"],
        "DTPlatformName": "iphoneos",
        "LSRequiresIPhoneOS": True,
        "MinimumOSVersion": IOS,
        "UIDeviceFamily": [1, 2],
        "UILaunchScreen": {},
    }


def write_plist(path: Path, values: Event) -> None:
    path.write_bytes(plistlib.dumps(values))


# ----------------------------------------------------------------------- command line


def bench(emit: runner.Events, arguments: argparse.Namespace) -> None:
    """Compare the golden vectors on a Mac or an iPhone, then measure there."""
    root = arguments.lock.parent if arguments.lock else Path(tempfile.gettempdir())
    staging = root / "staging"  # what is left there is swept
    staging.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=str(staging), prefix="coreml-") as scratch:
        runner.supervise(emit, arguments, Parts(arguments, root, Path(scratch)))


def parser() -> runner.Parser:
    top = runner.Parser(prog="edgekit_coreml", description=(__doc__ or "").partition("\n")[0])
    commands = top.add_subparsers(dest="command", required=True, parser_class=runner.Parser)
    benching = runner.command(commands, bench)
    runner.add_visit_arguments(benching)
    runner.add_bench_arguments(benching)
    benching.add_argument("--processes", type=int, default=5)
    benching.add_argument("--compute-units", choices=COMPUTE_UNITS, help="the recipe's otherwise")
    benching.add_argument("--attached", help="an iPhone's name or identifier, or `any`")
    return top


if __name__ == "__main__":
    # What lies in a bundle must not be imported by accident; this file's folder is on the path.
    sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or ".") != str(HERE)]
    sys.exit(runner.main(parser=parser))
