"""Labels come back in their place; whatever a bundle does, the parent gets an error of its own tree."""

from __future__ import annotations

import copy
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from dicomnode.errors import (
    GateFailed,
    Refused,
    RunCancelled,
    RunCrashed,
    RunFailed,
    RunOutOfMemory,
    RunTimedOut,
    TooManyProcesses,
)
from dicomnode.pipeline.memory import held_mb, started_by
from dicomnode.pipeline.runner import STDERR
from tests.harness.toy_pipeline import in_windows
from tests.imaging.builders import ORIENTATIONS, mr_headers, write_series
from tests.pipeline.conftest import run, write_noise


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_labels_come_back_on_the_grid_of_their_input_in_every_orientation(runner_of, tmp_path):
    runner = runner_of()
    pids = set()
    for name, orientation in ORIENTATIONS.items():
        paths, frames = write_noise(tmp_path / name, orientation)
        outcome = run(runner, paths[::-1])
        pids.add(runner.pid)
        bright = frames > 500
        np.testing.assert_array_equal(outcome.findings.labels, bright.astype(np.uint8))
        assert outcome.findings.labels.dtype == np.uint8
        volume_ml = bright.sum() * outcome.findings.geometry.voxel_ml
        assert outcome.findings.statistics["bright"].volume_ml == pytest.approx(volume_ml)
        assert outcome.findings.statistics["all"].mean == pytest.approx(frames[bright].mean())
        assert outcome.volume_facts["maximum"] == frames.max()
        assert set(outcome.timings) == {"decode", "preprocess", "forward", "postprocess", "measure"}
    assert len(pids) == 1


def test_what_is_begun_goes_on_with_the_run_and_what_is_forgotten_leaves_no_trace(
    runner_of, series, tmp_path
):
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"no DICOM")
    other, frames = write_noise(tmp_path / "other", ORIENTATIONS["sagittal"], (6, 9, 8))
    first_echo = mr_headers()
    second_echo = copy.deepcopy(first_echo)
    for ds in second_echo:
        ds.SOPInstanceUID, ds.EchoTime = generate_uid(), "92"
    several = write_series([*first_echo, *second_echo], np.zeros((10, 12, 10), np.uint16), tmp_path)
    runner = runner_of()
    expected = run(runner, series).findings
    first = runner.pid
    for paths in ([broken], series, several):
        runner.begin(paths)
        runner.forget()
    runner.forget()
    runner.begin(other)
    np.testing.assert_array_equal(run(runner, other).findings.labels, frames > 500)
    runner.begin([broken])
    with pytest.raises(Refused, match="no DICOM file"):
        run(runner, series)
    np.testing.assert_array_equal(run(runner, series).findings.labels, expected.labels)
    assert runner.pid == first


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        ("os._exit(3)", RunCrashed),
        ("image = image[..., :-1]", RunFailed),
        ("return torch.cat([image * 0] * 3 + [image + 1], dim=1)", GateFailed),
    ],
)
def test_a_misbehaving_bundle_becomes_an_error_and_the_next_run_a_fresh_child(
    runner_of, series, extra, error
):
    runner = runner_of(extra=extra)
    runner.start()
    first = runner.pid
    with pytest.raises(error):
        run(runner, series)
    assert runner.pid is None
    assert is_gone(first)


def test_a_run_that_holds_more_memory_than_the_pipeline_declares_is_ended(runner_of, series):
    runner = runner_of(extra="hoard = torch.ones(300_000_000); time.sleep(60)", memory_mb=1000)
    runner.start()
    first = runner.pid
    with pytest.raises(RunOutOfMemory, match="1000 MB"):
        run(runner, series)
    assert is_gone(first)


def test_what_its_children_hold_counts_too(runner_of, series):
    more = 'import time; b = b"x" * 1_200_000_000; time.sleep(60)'
    hoard = f"import sys, subprocess; subprocess.run([sys.executable, '-c', {more!r}])"
    with pytest.raises(RunOutOfMemory):
        run(runner_of(extra=hoard, memory_mb=1000), series)


@pytest.mark.parametrize(
    "error",
    [
        "RuntimeError('applying transform') from torch.OutOfMemoryError('CUDA')",
        "RuntimeError('CUDA error: out of memory')",
        "MemoryError()",
    ],
)
def test_memory_that_ran_out_is_told_from_other_failures(runner_of, series, error):
    runner = runner_of(extra=f"raise {error}")
    runner.start()
    first = runner.pid
    with pytest.raises(RunOutOfMemory):
        run(runner, series)
    assert is_gone(first)


def test_a_model_for_which_there_is_no_memory_when_it_loads_is_told_from_one_that_does_not_fit(
    runner_of, series
):
    def load(folder):
        network = folder / "scripts" / "network.py"
        text = network.read_text()
        network.write_text(text.replace("super().__init__()", "raise torch.OutOfMemoryError('CUDA')"))

    with pytest.raises(RunOutOfMemory):
        run(runner_of(load), series)


def test_a_run_tells_the_most_memory_that_it_held_also_where_it_holds_it_no_more(runner_of, series):
    runner = runner_of(extra="torch.ones(150_000_000)", memory_mb=4000)
    peak = run(runner, series).peak
    assert 600 < peak.host_mb < 4000
    assert peak.device_mb is None, "there is no GPU"
    assert held_mb(started_by(runner.pid)) < peak.host_mb - 300


def test_a_frugal_run_takes_one_window_at_a_time_and_the_next_run_as_many_as_before(runner_of, series):
    dark_where_there_are_more = "image = image if image.shape[0] == 1 else image * 0"
    runner = runner_of(in_windows, extra=dark_where_there_are_more)
    assert not run(runner, series).findings.labels.any()
    assert run(runner, series, frugal=True).findings.labels.any()
    assert not run(runner, series).findings.labels.any()


def test_a_crash_says_how_the_process_ended(runner_of, series):
    runner = runner_of(extra="__import__('ctypes').string_at(0)")
    with pytest.raises(RunCrashed) as caught:
        run(runner, series)
    assert caught.value.returncode == -signal.SIGSEGV
    assert runner.pid is None


def test_a_failure_names_the_class_and_the_line_and_never_the_values(runner_of, series):
    with pytest.raises(RunFailed) as caught:
        run(runner_of(extra="raise KeyError('PATIENT^NAME')"), series)
    assert caught.value.kind == "KeyError"
    assert caught.value.where.startswith("forward (network.py:")
    assert "PATIENT" not in str(caught.value)


def test_a_run_over_its_limit_is_ended_and_so_is_what_it_started(runner_of, series, tmp_path):
    extra = "os.fork() == 0 and os.setsid(); time.sleep(600)"
    runner = runner_of(extra=extra, time_limit_s=2)
    runner.start()
    started = time.monotonic()
    with pytest.raises(RunTimedOut):
        run(runner, series)
    assert time.monotonic() - started < 10
    assert not processes_with(str(tmp_path))


def test_a_run_that_forks_and_forks_is_ended_with_all_that_it_started(runner_of, series, tmp_path):
    forks = "any(os.fork() == 0 and not os.setsid() for _ in range(300)); time.sleep(600)"
    runner = runner_of(extra=forks, memory_mb=100_000)
    with pytest.raises(TooManyProcesses, match="64"):
        run(runner, series)
    assert runner.pid is None
    assert not processes_with(str(tmp_path))


def test_a_cancelled_run_is_cut(runner_of, series):
    runner = runner_of(extra="time.sleep(600)")
    runner.start()
    looks = iter([False] * 8)
    with pytest.raises(RunCancelled):
        run(runner, series, cancelled=lambda: next(looks, True))
    assert runner.pid is None


def test_a_model_that_does_not_load_in_time_is_given_up(runner_of, series):
    with pytest.raises(RunTimedOut):
        run(runner_of(start_limit_s=0.3), series)


def test_weights_that_do_not_fit_the_network_fail_the_start(runner_of, series):
    def rename(folder):
        network = folder / "scripts" / "network.py"
        network.write_text(network.read_text().replace("self.level", "self.other"))

    with pytest.raises(RunFailed, match="RuntimeError in start"):
        run(runner_of(rename), series)


def test_what_a_bundle_prints_does_not_break_the_contract(runner_of, series, tmp_path):
    runner = runner_of(extra="print('{\"kind\":\"done\"}', flush=True); os.write(1, b'x' * 400000)")
    assert run(runner, series).findings.labels.any()
    runner.close()
    assert 0 < (tmp_path / "scratch" / STDERR).stat().st_size <= 256 * 1024


def test_a_refused_input_keeps_the_child_warm(runner_of, series, tmp_path):
    runner = runner_of()
    (tmp_path / "blank").mkdir()
    blank = write_series(mr_headers(), np.zeros((5, 12, 10), np.uint16), tmp_path / "blank")

    def too_dark(facts):
        raise Refused("TOO_DARK", f"{facts['maximum']:.0f}")

    for attempt, code in (
        (lambda: run(runner, series[:-2] + series[-1:]), "MISSING_SLICES"),
        (lambda: run(runner, blank), "BLANK"),
        (lambda: run(runner, series, suits=too_dark), "TOO_DARK"),
    ):
        runner.start()
        pid = runner.pid
        with pytest.raises(Refused) as caught:
            attempt()
        assert caught.value.code == code
        assert runner.pid == pid
    assert run(runner, series).findings.labels.any()


def test_a_child_is_replaced_after_its_share_of_runs(runner_of, series):
    runner = runner_of(recycle_after=1)
    run(runner, series)
    assert runner.pid is None
    run(runner, series)


def test_a_label_file_that_is_a_link_is_not_followed(runner_of, series, tmp_path):
    secret = tmp_path / "secret.npy"
    np.save(secret, np.zeros((5, 12, 10), np.uint8))
    extra = f"import numpy; numpy.save = lambda file, *a, **k: os.symlink({str(secret)!r}, file)"
    with pytest.raises(GateFailed, match="cannot be read"):
        run(runner_of(extra=extra), series)


def processes_with(text):
    found = []
    for name in (path.name for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            command = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if text in command and "dicomnode.pipeline.child" in command:
            found.append(int(name))
    return found
