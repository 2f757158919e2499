import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sciad._atomic import plain, read_json, replacing, write_json, write_text
from sciad._errors import InputError
from sciad.app.run import Run, data_facts


def pelts() -> xr.Dataset:
    return xr.Dataset(
        {"hare": ("year", [30.0, 47.2, np.nan], {"units": "thousands"})},
        {"year": [1900, 1901, 1902]},
        {"comment": "who", "options": {"a": 1}},
    )


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail_half_way():
        with replacing(path) as scratch:
            scratch.write_text("half")
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail_half_way()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


WRITER = """
    import sys
    from sciad._atomic import write_json
    number = 0
    while True:
        number += 1
        write_json(sys.argv[1], {"number": number, "filling": [number] * 20000})
"""


@pytest.mark.parametrize("delay", [0.02, 0.13, 0.31])
def test_killed_writer_leaves_a_whole_file(tmp_path, delay):
    path = tmp_path / "metrics.json"
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), str(path)]) as writer:
        until = time.monotonic() + 30
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
    value = json.loads(path.read_text())
    assert value["filling"] == [value["number"]] * 20000


def test_folder_below_a_file_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    for act in (Run.require_room, Run.create):
        with pytest.raises(InputError, match=r"cannot make the run folder .*Choose another with `--runs DIR`"):
            act(tmp_path / "file" / "runs", "pelts")
    with pytest.raises(InputError, match=r"Cannot write .*Choose a folder that exists and may be written"):
        write_text(tmp_path / "absent" / "a.txt", "")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "a b"])
def test_names_that_are_no_folder_names_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="expected letters, digits"):
        Run.create(tmp_path, name)


def test_earlier_runs_are_kept(tmp_path):
    for number in range(3):
        run = Run.create(tmp_path, "pelts")
        run.write("metrics.json", {"number": number})
        run.close()
    kept = {path.parent.name: json.loads(path.read_text())["number"] for path in tmp_path.glob("*/metrics.json")}
    assert kept == {"pelts": 2, "pelts.1": 0, "pelts.2": 1}


def test_require_room_moves_nothing(tmp_path):
    run = Run.create(tmp_path, "pelts")
    run.write("metrics.json", {})
    run.close()
    Run.require_room(tmp_path, "pelts")
    assert [path.name for path in tmp_path.iterdir()] == ["pelts"]


def test_run_that_another_process_writes_is_left_alone(tmp_path):
    script = "import sys, time; from sciad.app.run import Run; r = Run.create(sys.argv[1], 'pelts'); "
    script += "r.write('settings.json', {}); print('ready', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(InputError, match="is being written by another process"):
            Run.require_room(tmp_path, "pelts")
        with pytest.raises(InputError, match="is being written by another process"):
            Run.create(tmp_path, "pelts")
    finally:
        holder.kill()
        holder.communicate()
    Run.create(tmp_path, "pelts")
    assert (tmp_path / "pelts.1" / "settings.json").is_file()


def test_datasets_come_back(tmp_path):
    run = Run.create(tmp_path, "pelts")
    run.write("data.nc", pelts())
    back = run.read("data.nc")
    xr.testing.assert_equal(back, pelts())
    assert back["hare"].attrs["units"] == "thousands"
    with pytest.raises(InputError, match="has not come that far"):
        run.read("posterior.nc")


def test_open_says_what_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"is not a run: it does not exist"):
        Run.open(tmp_path / "absent")
    with pytest.raises(InputError, match=r"is not a run: it has no settings\.json"):
        Run.open(tmp_path)


def test_json_holds_what_json_can(tmp_path):
    write_json(tmp_path / "a.json", {"nan": np.nan, "path": Path("x"), "ints": np.arange(2), "on": np.bool_(True)})
    assert read_json(tmp_path / "a.json") == {"nan": None, "path": "x", "ints": [0, 1], "on": True}
    assert plain((1, [np.float32(0.5)])) == [1, [0.5]]
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="is not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match="Cannot read"):
        read_json(tmp_path / "absent.json")


def test_facts_see_every_change():
    whole = data_facts(pelts())
    assert whole["variables"]["hare"] | {"dtype": ""} == {
        "dims": ["year"], "shape": [3], "dtype": "", "unit": "thousands", "missing": 1, "least": 30.0, "greatest": 47.2,
    }  # fmt: skip
    one = pelts()
    changed = [one.assign_coords(year=[1, 2, 3]), one.rename(hare="lynx"), one + 1, one.isel(year=[0, 1])]
    assert len({whole["sha256"], *(data_facts(other)["sha256"] for other in changed)}) == 5


def test_log_keeps_lines_and_times(tmp_path):
    run = Run.create(tmp_path, "pelts")
    run.log("fitting")
    run.log("done\n")
    lines = run.path("log.txt").read_text().splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == ["fitting", "done"]
