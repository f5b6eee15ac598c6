"""Every fault by its number: the tests that it has to pass, or why it cannot be run here."""

from __future__ import annotations

from dataclasses import dataclass

_NET, _DISK, _PROC = (f"tests/lab/faults/{name}.py::" for name in ("network", "disks", "processes"))
_BAD = "tests/devices/test_bad_network.py::"
_SSH = "tests/devices/test_ssh.py::"
_PUSH = "tests/devices/test_push.py::"
_PROBE = "tests/devices/test_probe.py::"
_PROVISION = "tests/devices/test_provision.py::"
_CONTRACT = "tests/devices/test_ssh.py::TestSsh::"
_DRIVE = "tests/benchmarking/test_drive.py::"
_RUNNER = "tests/runtime_stubs/test_runner_bench.py::"
_ARCHIVES = "tests/hostile/test_archives.py::"
_ONNX = "tests/sources/test_onnx.py::"
_TFLITE = "tests/hostile/test_tflite.py::"
_KERAS = "tests/hostile/test_tensorflow.py::"


@dataclass(frozen=True)
class Fault:
    """What goes wrong; the node ids of its tests, or why there are none."""

    what: str
    tests: tuple[str, ...] = ()
    not_here: str = ""


FAULTS = {
    1: Fault(
        "reset at 0, 1, 50, 99 and 100 % of the bytes",
        (
            _NET + "test_a_cut_on_the_way_up",
            _NET + "test_a_cut_on_the_way_down",
            _BAD + "test_a_cut_push_sends_no_more_than_a_chunk_again",
        ),
    ),
    2: Fault(
        "reset during manifest, rename, verify", (_NET + "test_a_reset_before_every_request",)
    ),
    3: Fault(
        "black hole in a push",
        (
            _NET + "test_a_black_hole_in_a_push",
            _BAD + "test_a_stalled_peer_is_noticed_in_push_run_and_pull",
        ),
    ),
    4: Fault(
        "black hole in a benchmark",
        (
            _NET + "test_a_black_hole_in_a_benchmark",
            _RUNNER + "TestEnding::test_it_ends_when_signs_of_life_stop",
        ),
    ),
    5: Fault("link down for 5 s", (_NET + "test_a_link_that_is_down_for_five_seconds",)),
    6: Fault(
        "300 ms and 1 Mbit/s",
        (
            _NET + "test_a_slow_and_distant_device",
            _BAD + "test_a_healthy_slow_peer_is_not_taken_for_dead",
        ),
    ),
    7: Fault(
        "one connection in twenty is reset",
        (
            _NET + "test_one_connection_in_twenty_is_reset",
            _BAD + "test_a_lost_connection_is_opened_again_and_the_push_goes_on",
            _BAD + "test_who_gives_up_says_why",
        ),
    ),
    8: Fault("no banner, or a stall after it", (_SSH + "TestReaching::test_a_server_that_stalls",)),
    9: Fault(
        "a bit flipped in the stream",
        (_NET + "test_a_flipped_bit_on_the_way_up", _NET + "test_a_flipped_bit_on_the_way_down"),
    ),
    10: Fault("rekeying every 1 MiB", (_NET + "test_rekeying_every_mebibyte",)),
    11: Fault("no SFTP", (_SSH + "TestReaching::test_a_server_without_sftp",)),
    12: Fault(
        "no more sessions, no more connections",
        (
            _SSH + "TestReaching::test_a_server_out_of_sessions",
            _NET + "test_a_server_that_takes_no_more_connections",
        ),
    ),
    13: Fault(
        "the session is stopped",
        (
            _SSH + "TestLoss::test_a_frozen_server_is_noticed_while_a_command_runs",
            _SSH + "TestLoss::test_a_frozen_server_is_noticed_during_a_transfer",
        ),
    ),
    14: Fault(
        "the session is killed",
        (
            _SSH + "TestLoss::test_a_killed_session_is_a_loss_not_a_status",
            _PUSH + "test_a_real_cut_of_the_connection_is_resumed",
        ),
    ),
    15: Fault(
        "no Python, no sha256sum, a shell that talks",
        (
            _PROBE + "test_a_device_without_python",
            _PUSH + "test_any_way_to_compute_a_sha256_will_do",
            _PROBE + "test_a_device_over_ssh",
        ),
    ),
    16: Fault(
        "another architecture, a missing runtime or library, an old glibc",
        (
            _PROBE + "test_what_there_is_and_what_is_needed_are_said",
            _PROVISION + "test_a_wheel_for_another_processor_is_refused_unsent",
            _PROVISION + "test_a_library_for_another_processor_is_found_in_a_wheel_that_lies",
            _PROVISION + "test_devices_that_no_wheel_is_made_for",
            _PROVISION + "test_what_does_not_load_there_is_not_installed",
        ),
    ),
    17: Fault("another host key", (_SSH + "TestHostKeys::test_a_changed_key_is_a_hard_stop",)),
    18: Fault("a disk too small from the start", (_PUSH + "test_a_full_disk",)),
    19: Fault("a disk that fills up", (_PUSH + "test_a_disk_that_fills_up_in_the_middle",)),
    20: Fault("no inodes, read-only, noexec", (_DISK + "test_no_inodes_read_only_and_noexec",)),
    21: Fault(
        "a byte changed after the push",
        (_DRIVE + "TestHere::test_a_byte_changed_on_the_device_is_refused",),
    ),
    22: Fault("staging on another filesystem", (_DISK + "test_staging_on_another_disk",)),
    23: Fault("the host's disk is full", (_DISK + "test_a_result_that_cannot_be_saved_is_shown",)),
    24: Fault("no power at each step", (_DISK + "test_the_power_fails_before_every_request",)),
    25: Fault("no power at random times", (_DISK + "test_the_power_fails_at_any_time",)),
    26: Fault(
        "no power right after success",
        (
            _DISK + "test_the_power_fails_right_after_success",
            _DISK + "test_over_ssh_success_is_durable_too",
        ),
    ),
    27: Fault(
        "the client is ended at each step", (_PROC + "test_a_push_that_is_ended_at_each_step",)
    ),
    28: Fault(
        "the client dies in a benchmark",
        (
            _PROC + "test_a_benchmark_whose_client_dies",
            _RUNNER + "TestEnding::test_it_ends_when_its_standard_input_closes",
        ),
    ),
    29: Fault(
        "the runner crashes, or is killed for memory",
        (
            _RUNNER + "TestMisbehaviour::test_a_signal_is_named_with_its_phase",
            _PROC + "test_a_runner_that_is_killed_for_memory",
        ),
    ),
    30: Fault("the runner hangs", (_RUNNER + "TestMisbehaviour::test_a_hang_is_killed",)),
    31: Fault(
        "a gigabyte of output",
        (
            _RUNNER + "TestMisbehaviour::test_a_gigabyte_is_not_kept",
            _RUNNER + "TestMisbehaviour::test_a_flood_of_answers_is_cut",
            _CONTRACT + "test_run_keeps_the_end_of_too_much_output",
        ),
    ),
    32: Fault("32 open files on the client", (_PROC + "test_few_open_files",)),
    33: Fault(
        "an empty model, one that is cut, another kind of file",
        (
            "tests/cli/test_errors.py::test_not_a_model",
            _ONNX + "test_a_truncated_file_is_refused",
            _ONNX + "test_a_file_of_something_else_is_refused",
            _TFLITE + "test_cut_at_every_byte",
        ),
    ),
    34: Fault(
        "odd names",
        (
            _PROC + "test_odd_names",
            _CONTRACT + "test_arguments_arrive_as_they_are",
            _CONTRACT + "test_listdir",
        ),
    ),
    35: Fault(
        "a source that changes during the push",
        (_PUSH + "test_a_source_that_is_not_what_it_was_never_becomes_visible",),
    ),
    36: Fault(
        "a manifest from the future",
        ("tests/test_bundle.py::test_another_schema_is_refused_with_both_versions",),
    ),
    37: Fault(
        "archives that lead elsewhere",
        (
            _ARCHIVES + "test_a_name_that_leads_elsewhere",
            _ARCHIVES + "test_an_entry_that_is_no_plain_file",
            _ARCHIVES + "test_a_name_twice",
        ),
    ),
    38: Fault(
        "archive bombs, shared bytes",
        (
            _ARCHIVES + "test_a_bomb_takes_no_memory_and_no_disk",
            _ARCHIVES + "test_entries_that_share_bytes",
        ),
    ),
    39: Fault(
        "external data that leave their folder",
        (
            _ONNX + "test_external_data_that_leave_the_folder_are_refused",
            "tests/hostile/test_onnx.py::test_external_data_that_are_no_file",
        ),
    ),
    40: Fault(
        "a malformed flatbuffer",
        (
            _TFLITE + "test_offsets_that_leave_the_file_or_wrap",
            _KERAS + "test_the_eight_bytes_that_crash_an_interpreter",
        ),
    ),
    41: Fault("code in a model", (_KERAS + "test_it_is_refused_unrun",)),
    42: Fault("an older signed bundle", not_here="bundles are not signed, so none is an older one"),
    43: Fault(
        "a rogue server",
        (
            _PROC + "test_a_rogue_listing",
            _PROC + "test_a_rogue_server_takes_no_push",
            _DRIVE + "TestWhatADeviceMaySay::test_an_odd_line_is_refused",
        ),
    ),
    44: Fault(
        "a staging folder made by others",
        (
            _PUSH + "test_folders_that_are_links_are_refused",
            _PUSH + "test_a_staging_folder_that_is_a_link_is_not_taken_over",
            _PROC + "test_a_staging_folder_that_was_open_to_the_world",
        ),
    ),
    45: Fault(
        "terminal escapes from the device",
        (
            _PROBE + "test_what_a_device_says_is_disarmed",
            _SSH + "TestReaching::test_a_server_that_speaks_something_else",
            _DRIVE + "TestWhatADeviceMaySay::test_errors_are_typed_and_their_texts_cleaned",
        ),
    ),
    46: Fault("two pushes of one bundle", (_PUSH + "test_two_pushes_at_once",)),
    47: Fault(
        "two benchmarks",
        (
            _RUNNER + "TestLock::test_a_second_bench_does_not_measure_beside_the_first",
            _RUNNER + "TestLock::test_a_second_bench_waits_for_the_first",
            _RUNNER + "TestLock::test_one_device_measures_for_one_folder_at_a_time",
            _PROVISION + "test_an_installation_waits",
        ),
    ),
    48: Fault("a push during a benchmark", (_PROC + "test_a_push_during_a_benchmark",)),
    49: Fault(
        "a sweep that races a push",
        (_PROC + "test_a_sweep_that_races_a_push", _PUSH + "test_old_stagings_are_swept"),
    ),
    50: Fault("a clock that is wrong or jumps", (_PROC + "test_a_clock_that_is_wrong_or_jumps",)),
    51: Fault("expiry", not_here="bundles do not expire: there is nothing to judge by a clock"),
}
