"""Xcode's command-line tools as far as edgekit uses them, in the forms that they were recorded in.

Installed as ``xcrun``, ``sw_vers``, ``security`` and ``codesign`` by ``tests.apple``. What it
"builds" is this file again, under the name of the program: it evaluates the real package by
``edgekit.mil`` where the Swift program would have Core ML run it.
"""

from __future__ import annotations

import hashlib
import json
import os
import plistlib
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(sys.argv[0]).absolute().parent
HOME = Path(__file__).resolve().parents[1]
STATE = json.loads((HERE / "state.json").read_text()) if (HERE / "state.json").exists() else {}
PROGRAM = "EdgekitCoreML"
CERTIFICATE = b"a certificate"


def main(called: list[str]) -> int:
    name, argv = Path(called[0]).name, called[1:]
    with (HERE / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps([name, *argv]) + "\n")
    said = " ".join([name, *argv])
    for beginning, (status, error) in STATE.get("fails", {}).items():
        if said.startswith(beginning):
            sys.stderr.write(error + "\n")
            return int(status)
    for beginning, tool in TOOLS.items():
        if said.startswith(beginning):
            return tool(argv) or 0
    sys.stderr.write(f"xcrun: error: unable to find utility {argv[0]!r}\n")
    return 72


def say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def option(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


def version(_argv: list[str]) -> None:
    say(STATE.get("version", "14.5"))


def find(argv: list[str]) -> None:
    say(f"/Applications/Xcode.app/Contents/Developer/usr/bin/{argv[-1]}")


def sdk(_argv: list[str]) -> None:
    say("/Applications/Xcode.app/Contents/Developer/Platforms/iPhoneOS.platform/iPhoneOS.sdk")


def build(argv: list[str]) -> None:
    products = Path(option(argv, "--scratch-path")) / "arm64-apple-macosx" / "release"
    if "--show-bin-path" in argv:
        say(products)
        return
    source = Path(option(argv, "--package-path"))
    assert (source / "Package.swift").is_file()
    assert list((source / "Sources" / PROGRAM).glob("*.swift"))
    products.mkdir(parents=True)
    # The tools' state is found beside the tools, wherever the program goes.
    program = f"#!{sys.executable}\nimport sys\nsys.argv[0] = {str(HERE / 'program')!r}\n"
    run = f"sys.path.insert(0, {str(HOME)!r})\nfrom tests import apple_tools\n"
    (products / PROGRAM).write_text(f"{program}{run}apple_tools.program(sys.argv[1])\n")
    (products / PROGRAM).chmod(0o755)


def compile_(argv: list[str]) -> None:
    package, folder = Path(argv[2]), Path(argv[3])
    say(folder / f"{package.stem}.mlmodelc" / "coremldata.bin")
    shutil.copytree(package, folder / f"{package.stem}.mlmodelc")


def devices(argv: list[str]) -> None:
    listed = {"info": {"outcome": "success"}, "result": {"devices": STATE.get("devices", [])}}
    Path(option(argv, "--json-output")).write_text(json.dumps(listed))
    say("Name   Hostname   Identifier   State   Model")


def install(argv: list[str]) -> None:
    application = Path(argv[-1])
    information = plistlib.loads((application / "Info.plist").read_bytes())
    assert (application / "embedded.mobileprovision").is_file()
    installed = HERE / information["CFBundleIdentifier"]
    shutil.rmtree(installed, ignore_errors=True)
    shutil.copytree(application, installed)
    (installed / "Documents").mkdir()


def copy(argv: list[str]) -> None:
    container = HERE / option(argv, "--domain-identifier")
    place = container / option(argv, "--destination")
    shutil.copytree(option(argv, "--source"), place)
    if STATE.get("tamper"):
        (place / "model.mlmodelc" / "Manifest.json").open("a").write(" ")


def launch(argv: list[str]) -> int:
    container = HERE / argv[-2]
    say("Launched application with dev.edgekit.runner bundle identifier.")
    say("Waiting for the application to terminate…")
    done = subprocess.run(
        [container / PROGRAM, argv[-1]], cwd=container / "Documents", stdout=-1, check=False
    )
    say(done.stdout.decode().replace("\n", "\r\n").removesuffix("\n"))
    if done.returncode < 0:
        say(f"App terminated due to signal {-done.returncode}.")
    return 1 if done.returncode else 0


def identities(_argv: list[str]) -> None:
    identity = hashlib.sha1(CERTIFICATE).hexdigest().upper()
    say(f'  1) {identity} "Apple Development: A Developer (AB12CD34EF)"')
    say("     1 valid identities found")


def profile(_argv: list[str]) -> None:
    rights = {"application-identifier": "AB12CD34EF.*", "get-task-allow": True}
    values = {
        "ProvisionedDevices": ["00008130-001C"],
        "DeveloperCertificates": [CERTIFICATE],
        "ExpirationDate": datetime.now(UTC).replace(tzinfo=None) + timedelta(days=7),
        "Entitlements": rights | STATE.get("rights", {}),
    }
    say(plistlib.dumps(values).decode())


def sign(argv: list[str]) -> None:
    rights = plistlib.loads(Path(option(argv, "--entitlements")).read_bytes())
    (HERE / "rights.json").write_text(json.dumps(rights))
    assert (Path(argv[-1]) / PROGRAM).is_file()


TOOLS: dict[str, Any] = {
    "sw_vers -productVersion": version,
    "xcrun --find": find,
    "xcrun --sdk iphoneos --show-sdk-path": sdk,
    "xcrun swift build": build,
    "xcrun coremlcompiler compile": compile_,
    "xcrun devicectl list devices": devices,
    "xcrun devicectl device install app": install,
    "xcrun devicectl device copy to": copy,
    "xcrun devicectl device process launch": launch,
    "security find-identity": identities,
    "security cms": profile,
    "codesign": sign,
}


# ------------------------------------------------- the program that is "built", in Python


def program(argument: str) -> None:
    """One part of a bench, as ``Parts.swift`` does it."""
    job = json.loads(argument)
    try:
        event = PARTS[job["part"]](job)
    except Exception as error:
        kind = "bundle" if "sha256" in str(error) else "internal"
        event = {"event": "error", "kind": kind, "message": str(error), "hint": ""}
    say(json.dumps(event))
    sys.exit(event["event"] == "error")


def begun(job: dict[str, Any]) -> None:
    say(json.dumps({"event": "phase", "name": "loading the model"}))
    if STATE.get("crash") == job["part"]:
        os.kill(os.getpid(), signal.SIGSEGV)


def outputs(job: dict[str, Any]) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """What the model gives for the golden inputs, what is expected, and the manifest."""
    import numpy as np

    from edgekit import mil
    from edgekit.formats.coreml_package import digest

    begun(job)
    got = digest(Path(job["model"]))
    if got != job["sha256"]:
        raise ValueError(f"it is not what was sent: expected sha256 {job['sha256']}, got {got}")
    manifest = json.loads((Path(job["bundle"]) / "manifest.json").read_text())
    loaded, golden = mil.load(Path(job["model"])), manifest["golden"]
    names = [
        [b["artifact"]["name"] for b in manifest["artifact"][s]] for s in ("inputs", "outputs")
    ]
    given, wanted = (
        [np.load(Path(job["bundle"]) / name) for name in golden[side]]
        for side in ("inputs", "outputs")
    )
    found = [
        mil.evaluate(loaded, dict(zip(names[0], sample, strict=True)))
        for sample in zip(*given, strict=True)
    ]
    # A classifier's scores come without the first axis.
    stacks = [
        np.stack([each[name] for each in found]).reshape(stored.shape)
        for name, stored in zip(names[1], wanted, strict=True)
    ]
    return [stack * STATE.get("skew", 1) for stack in stacks], wanted, manifest


def golden(job: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    got, wanted, manifest = outputs(job)
    pairs = zip(got, wanted, strict=True)
    errors = [float(np.abs(a.astype(float) - b).max()) for a, b in pairs]
    vectors = manifest["golden"]
    return {
        "event": "golden",
        "passed": all(e <= t for e, t in zip(errors, vectors["tolerances"], strict=True)),
        "max_error": max(errors),
        "worst_output": manifest["artifact"]["outputs"][0]["artifact"]["name"],
        "worst_error": max(errors),
        "tolerance": vectors["tolerances"][0],
        "sample_count": vectors["sample_count"],
        "runtime": {"name": "coreml", "module": "coreml", "version": "17.4.1"},
    }


def measure(job: dict[str, Any]) -> dict[str, Any]:
    begun(job)
    samples = []
    for _ in range(job["runs"]):
        start = time.perf_counter_ns()
        sum(range(100))
        samples.append(time.perf_counter_ns() - start)
    return {
        "event": "process",
        "first_load_ns": 5_000_000,
        "first_inference_ns": 2_000_000,
        "samples_ns": samples,
        "thermal_state": STATE.get("thermal_state", 0),
    }


def memory(job: dict[str, Any]) -> dict[str, Any]:
    return {"event": "memory", "peak_memory_bytes": 12_345_678}


def placement(job: dict[str, Any]) -> dict[str, Any]:
    counts = {"cpu": 1, "gpu": 0, "neural_engine": 7, "unknown": 0}
    told = None if STATE.get("old") else counts
    return {"event": "placement", "compute_units": job["computeUnits"], "operations": told}


def device(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "event": "device",
        "system": "iOS 17.4.1",
        "machine": "arm64",
        "cpu_model": "iPhone16,1",
        "cores": 6,
        "memory_total_bytes": 8_000_000_000,
    }


PARTS: dict[str, Any] = {
    "golden": golden,
    "measure": measure,
    "memory": memory,
    "placement": placement,
    "device": device,
}
