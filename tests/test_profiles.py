"""The shipped profiles are sound, and the loader says exactly what is wrong with another."""

from pathlib import Path

import pytest

from edgekit import profiles, resources
from edgekit.domain import Extension, Family, Format
from edgekit.errors import ProfileError

FOLDER = resources.folder(profiles.PROJECT_FOLDER)
SHIPPED = sorted(file.stem for file in FOLDER.glob("*.toml"))
KNOWN_FORMATS = {
    "litert": Format.LITERT,
    "tflite-runtime": Format.LITERT,
    "onnxruntime": Format.ONNXRUNTIME,
    "coreml": Format.COREML,
}


@pytest.fixture(autouse=True)
def _no_other_profiles(tmp_path, monkeypatch):
    """Neither a project's nor the user's own profiles."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def shipped(name):
    return profiles.read(FOLDER / f"{name}.toml")


def changed(tmp_path, old, new, name="raspberry-pi-5"):
    """A copy of a shipped profile with one text replaced, and the line it was on."""
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / f"{name}.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path, text[: text.index(old)].count("\n") + 1


def refusal(path):
    with pytest.raises(ProfileError) as caught:
        profiles.read(path)
    return caught.value


def test_there_are_at_least_24_profiles():
    assert len(SHIPPED) >= 24
    assert list(profiles.names()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_is_sound(name):
    profile = shipped(name)
    assert profile.name == name
    assert profile.cpu.architecture in ("aarch64", "x86_64")
    peaks = [c.max_clock_mhz * c.macs_per_cycle.float32 for c in profile.cpu.clusters]
    assert peaks == sorted(peaks, reverse=True), "the fastest cluster comes first"
    for cluster in profile.cpu.clusters:
        rates = cluster.macs_per_cycle
        assert (rates.float16 is not None) == (Extension.FP16 in cluster.extensions)
        assert rates.int8 >= 2 * rates.float32
    assert profile.power.idle_watts < min(mode.watts for mode in profile.power.modes)
    assert all((mode.cpu_cores or 1) <= profile.cpu.cores for mode in profile.power.modes)
    for runtime in profile.runtimes:
        assert runtime.formats == (KNOWN_FORMATS[runtime.name],)
    for accelerator in profile.accelerators:
        assert set(accelerator.reached_by) <= {runtime.name for runtime in profile.runtimes}
    assert all(source.strip() for source in profile.sources.values())


@pytest.mark.parametrize("name", SHIPPED)
def test_tops_are_dense(name):
    for accelerator in shipped(name).accelerators:
        tops = accelerator.tops
        assert (tops.int8 or 0) <= 300
        assert (tops.float16 or 0) <= (tops.int8 or 300)
        assert (tops.float32 or 0) <= (tops.float16 or 300)


@pytest.mark.parametrize(
    ("name", "int8"), [("jetson-orin-nano", 20), ("jetson-orin-nano-super", 33.5)]
)
def test_sparse_tops_are_halved(name, int8):
    assert shipped(name).accelerators[0].tops.int8 == int8


def test_apple_devices_take_core_ml_only():
    apple = [p for p in map(shipped, SHIPPED) if p.family is Family.APPLE]
    assert apple
    assert all(p.formats == (Format.COREML,) for p in apple)


@pytest.mark.parametrize(
    ("old", "new", "says", "hint"),
    [
        ("cores = 4", "coers = 4", "unknown key 'coers' in [cpu.clusters[0]]", "cores"),
        ("watts = 8", "wats = 8", "unknown key 'wats' in [power.modes[0]]", "watts"),
        ("total_mib =", "total =", "unknown key 'total' in [memory]", "write total_mib"),
        ("max_clock_mhz =", "max_clock =", "unknown key 'max_clock'", "write max_clock_mhz"),
        ("cores = 4", "cores = 0", "cpu.clusters[0].cores: expected `int` >= 1", ""),
        ('family = "board"', 'family = "bord"', "family: invalid enum value 'bord'", ""),
        ("model_budget_mib = 4096", "model_budget_mib = 9000", "more than total_mib", ""),
        ('name = "raspberry-pi-5"', 'name = "pi-5"', "name is 'pi-5'", "name the file"),
    ],
)
def test_an_error_names_file_and_line(tmp_path, old, new, says, hint):
    path, line = changed(tmp_path, old, new)
    error = refusal(path)
    assert error.message.startswith(f"{path}:{line}: ")
    assert says in error.message
    assert hint in error.hint


def test_a_missing_key_names_its_table(tmp_path):
    path, line = changed(tmp_path, "idle_watts = 2.7\n", "")
    error = refusal(path)
    assert error.message == f"{path}:{line - 1}: [power] lacks the key 'idle_watts'"


def test_a_number_needs_a_source(tmp_path):
    path, _ = changed(tmp_path, '"power.idle_watts" = ', '"elsewhere" = ')
    line = path.read_text(encoding="utf-8").splitlines().index("idle_watts = 2.7") + 1
    error = refusal(path)
    assert error.message == f"{path}:{line}: power.idle_watts has no source"
    assert "[sources]" in error.hint


def test_the_second_of_an_array_is_told_from_the_first(tmp_path):
    old = "cores = 4\nmax_clock_mhz = 1800"
    path, line = changed(tmp_path, old, "cores = 0\nmax_clock_mhz = 1800", name="rock-5b")
    assert refusal(path).message.startswith(f"{path}:{line}: cpu.clusters[1].cores")


def test_bad_toml_names_file_and_line(tmp_path):
    path, line = changed(tmp_path, "[memory]", "[memory")
    error = refusal(path)
    assert str(path) in error.message
    assert f"line {line}" in error.message


def test_a_missing_file_is_a_profile_error(tmp_path):
    assert "cannot read" in refusal(tmp_path / "nowhere.toml").message


def own(folder: Path, title: str) -> None:
    """The profile ``x`` in a folder, made from a shipped one."""
    text = (FOLDER / "raspberry-pi-5.toml").read_text(encoding="utf-8")
    text = text.replace('name = "raspberry-pi-5"', 'name = "x"')
    folder.mkdir(parents=True)
    path = folder / "x.toml"
    path.write_text(text.replace("Raspberry Pi 5 (8 GB)", title), encoding="utf-8")


def test_the_users_and_the_projects_folder_are_searched(tmp_path):
    own(tmp_path / "config" / "edgekit" / "devices", "the user's")
    assert profiles.find("x").title == "the user's"
    own(tmp_path / "device_profiles", "the project's")
    assert profiles.find("x").title == "the project's"
    assert "x" in profiles.names()


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(ProfileError) as caught:
        profiles.find("Jetson-Orin-Nanoo")
    assert "'Jetson-Orin-Nanoo'" in caught.value.message
    assert "jetson-orin-nano" in caught.value.hint
