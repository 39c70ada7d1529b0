"""The scripts behind docs/evidence.md, as far as they need no card."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import replace

import pytest

from pytest_kernelperf.model import Kernel

# They import the attention kernels.
pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("benchmarks")


def _row(shape, status="UNCHANGED", **fields):
    known = {
        "shape": shape,
        "status": status,
        "reason": "WITHIN_MARGIN",
        "processes": 1,
        "card": "GPU-1",
        "notes": [],
        "time_us": 10.0,
        "change": 0.001,
        "change_interval": [-0.001, 0.003],
        "margin": 0.01,
        "finds": 0.02,
    }
    return known | fields


def test_the_slowed_copy_can_be_made_of_the_package_as_it_is(tmp_path):
    import slowed

    slowed.make(tmp_path)

    patched = {file for file, *_ in slowed._PATCHES}
    for path in (tmp_path / slowed.NAME).glob("*.py"):
        original = (slowed.SOURCE / path.name).read_text()
        differs = path.read_text() != original
        assert differs == (path.name in patched | {"__init__.py", "op.py"}), path.name


def test_all_nine_shapes_run_a_kernel_that_is_patched():
    import slowed
    from gate_evidence import SHAPES

    from flashcore_kernels.configs import select

    rows = [select((9, 0), 64, False, seqlen, seqlen, 8 * batch) for seqlen, batch in SHAPES]

    assert {"solo"} == {row.hopper.family if row.hopper else "" for row in rows}
    assert "forward_hopper_solo.py" in {file for file, *_ in slowed._PATCHES}


@pytest.mark.parametrize("per_step", [0.0002, 0.0007, 0.004])
def test_a_slowdown_is_dialled_in(per_step):
    from slowed import Found, dial

    asked = []

    def measure(steps):
        asked.append(steps)
        # A first part of the chain hides in the pipeline.
        change = max(0.0, per_step * (steps - 7))
        return Found(steps, change, change - 0.001, change + 0.001)

    found = dial(measure, 0.0275, 0.0325)

    assert 0.0275 <= found.change <= 0.0325
    assert all(steps % 2 for steps in asked)


def test_a_slowdown_that_can_not_be_dialled_in_is_the_nearest():
    from slowed import Found, dial

    def measure(steps):
        change = 0.02 if steps < 40 else 0.05
        return Found(steps, change, change, change)

    assert 0.02 == dial(measure, 0.0275, 0.0325).change


def test_the_perf_test_is_narrowed_to_what_is_proven():
    from evidence_runs import TEST, gate_test

    text = gate_test()

    assert '    percentiles=(50,),\n    timer="device",\n    requires="sm_90",\n)' in text
    assert len(TEST.read_text().splitlines()) - 1 == len(text.splitlines())


def test_a_slowed_test_chooses_the_chains_before_each_test(tmp_path):
    from evidence_runs import gate_test
    from gate_evidence import slow_test

    text = slow_test(gate_test(), tmp_path, {(512, 8): 31})

    compile(text, "test_attention.py", "exec")
    assert "from flashcore_kernels import attention\n" not in text
    assert "extra_steps.update({(512, 8): 31})" in text


def test_verdicts_get_their_projects_by_the_files_of_the_tests():
    from gate_evidence import PROJECTS, file_of, named

    rows = [
        _row(f"{seqlen}x{batch}", file=file_of(project))
        for project in PROJECTS
        for seqlen, batch in PROJECTS[project]
    ]

    projects = [row["project"] for row in named(rows, list(PROJECTS))]

    assert ["unchanged"] * 9 + ["slower3"] * 3 + ["slower10"] * 9 == projects
    assert [] == named(rows[1:], list(PROJECTS))
    assert [] == named([rows[0] | {"file": file_of("slower3")}, *rows[1:]], list(PROJECTS))


def test_the_table_counts_verdicts_and_processes():
    from gate_evidence import table

    runs = [
        {"seconds": 30.0, "verdicts": [_row("512x8", project="unchanged")]},
        {
            "seconds": 32.0,
            "verdicts": [
                _row(
                    "512x8",
                    "INCONCLUSIVE",
                    project="unchanged",
                    processes=5,
                    time_us=10.1,
                    change_interval=[0.001, 0.012],
                    notes=["process 4 is missing: killed"],
                )
            ],
        },
    ]

    head, project, held, shape, note = table(runs, {})

    assert head.startswith("2 runs, 31.0 s each (30.0 to 32.0)")
    assert "unchanged: of 2 1 UNCHANGED, 1 INCONCLUSIVE" == project
    assert "  the interval holds no change in 1 of 2" == held
    assert "processes 1: 1, 5: 1" in shape
    assert "10.050 us, range 1.00%" in shape
    assert "1 x process 4 is missing: killed" == note


def test_what_was_saved_is_found_by_a_later_call(tmp_path):
    from evidence_runs import load, save

    path = tmp_path / "new" / "summary.json"
    assert {"runs": []} == load(path)
    save({"runs": [1]}, path)

    assert {"runs": [1]} == load(path)
    assert ["summary.json"] == [each.name for each in path.parent.iterdir()]


def test_the_archive_has_what_there_is(tmp_path):
    from evidence_runs import pack

    folder = tmp_path / "folder"
    (folder / "baselines").mkdir(parents=True)
    for name in ("baselines/one.json", "run0.run.gz", "run0.json"):
        (folder / name).write_text("x")

    pack(folder, ["summary.json", "run*.run.gz", "baselines"], tmp_path / "all.tar.gz")

    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        assert ["baselines", "baselines/one.json", "run0.run.gz"] == archive.getnames()


@pytest.mark.parametrize(
    ("earlier", "problems", "kept"),
    [
        ([], ["", "", ""], 3),
        ([], ["", "broken", "broken", ""], 3),
        ([], ["broken", "", ""], 1),
        ([""], ["broken", "", "broken", "broken", ""], 4),
        (["broken"], ["broken", ""], 1),
    ],
)
def test_runs_are_kept_as_they_end_until_the_first_or_two_in_a_row_have_a_problem(
    tmp_path, earlier, problems, kept
):
    from evidence_runs import keep, load

    found = {"runs": [{"problem": problem} for problem in earlier]}

    keep(found, iter([{"problem": problem} for problem in problems]), tmp_path, (), None)

    expected = [{"problem": problem} for problem in [*earlier, *problems[:kept]]]
    assert expected == found["runs"] == load(tmp_path / "summary.json")["runs"]


def test_each_run_that_is_kept_is_in_the_archive(tmp_path):
    from evidence_runs import keep

    target = tmp_path / "all.tar.gz"

    def runs():
        for number in range(2):
            (tmp_path / f"run{number}.run.gz").write_text("x")
            yield {"problem": ""}

    keep({"runs": []}, runs(), tmp_path, ("run*.run.gz",), target)

    with tarfile.open(target) as archive:
        assert ["run0.run.gz", "run1.run.gz", "summary.json"] == archive.getnames()


@pytest.fixture
def two_runs(tmp_path):
    """Pytest's arguments for two runs that write when they were imported and when they measured."""
    for name in ("one", "two"):
        (tmp_path / f"test_{name}.py").write_text(
            "import pathlib, time\n"
            f"log = pathlib.Path({str(tmp_path / 'log')!r})\n"
            f"log.open('a').write('{name} imported\\n')\n"
            "def test_it():\n"
            "    time.sleep(3)\n"
            f"    log.open('a').write('{name} done\\n')\n"
        )
    return [[f"test_{name}.py", "--rootdir", str(tmp_path)] for name in ("one", "two")]


def test_the_next_run_imports_while_one_measures_and_waits_for_its_turn(two_runs, tmp_path):
    from evidence_runs import Budget, relay

    ended = list(relay(two_runs, tmp_path, Budget(100)))

    log = (tmp_path / "log").read_text().splitlines()
    assert [0, 0] == [one.status for one in ended], ended
    assert {"one imported", "two imported"} == {*log[:2]}
    assert ["one done", "two done"] == log[2:]


def test_a_spent_budget_ends_the_relay_before_the_next_turn(two_runs, tmp_path, capsys):
    from evidence_runs import Budget, relay

    class Once(Budget):
        def allows(self, seconds):
            return not (tmp_path / "log").exists()

    assert 1 == len(list(relay(two_runs, tmp_path, Once(100))))
    assert "two done" not in (tmp_path / "log").read_text()
    assert "1 runs are left" in capsys.readouterr().out


def test_sizes_that_are_known_are_kept(tmp_path):
    known = {"512x32 +3 %": {"steps": 31, "change": 0.03, "low": 0.029, "high": 0.031}}
    (tmp_path / "sizes.json").write_text(json.dumps(known))
    import slowed

    wanted = {"512x32 +3 %": slowed.Wanted(512, 32, 0.0275, 0.0325)}

    assert known == slowed.size(tmp_path, wanted)


@pytest.mark.parametrize("name", ["gate_evidence", "against_evidence", "compare_rates"])
def test_a_script_tells_its_options_without_a_card(benchmarks, name):
    done = subprocess.run(
        [sys.executable, str(benchmarks / f"{name}.py"), "--help"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert "--budget-seconds" in done.stdout


def test_twenty_runs_against_a_revision_judge_both_slowdowns_and_sixty_identical_kernels():
    from against_evidence import SAME, SLOWED, shapes_of

    runs = [shapes_of(number) for number in range(20)]

    assert dict.fromkeys(SLOWED, 10) == Counter(run[0] for run in runs)
    same = Counter(shape for run in runs for shape in run[1:])
    assert 60 == same.total()
    assert {*SAME} == {*same}
    assert all(len(run) == len({*run}) for run in runs)


def test_only_slowed_shapes_leave_the_package_as_it_was(tmp_path, monkeypatch):
    import slowed
    from against_evidence import BASE, BRANCH, SLOWED, make_repository

    slowed.make(tmp_path)
    sizes = {f"{BRANCH} {s}x{b}": {"steps": 31} for s, b in SLOWED}

    home = make_repository(tmp_path, sizes)

    changed = subprocess.run(
        ["git", "diff", "--name-only", BASE, BRANCH, "--", ".", f":!{slowed.NAME}"],
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ["flashcore_kernels/__init__.py"] == changed.stdout.split()
    called = (
        "import torch, flashcore_kernels as ours\n"
        "names = []\n"
        "ours._attention = lambda *a: names.append('same')\n"
        "ours.flashcore_slowed.attention = lambda *a: names.append('slowed')\n"
        "for seqlen, batch in ((512, 32), (512, 8), (256, 32)):\n"
        "    ours.attention(torch.empty(batch, 1, seqlen, 1), 0, 0)\n"
        "print(*names)"
    )
    done = subprocess.run(
        [sys.executable, "-c", called], cwd=home, capture_output=True, text=True, check=False
    )
    assert ["slowed", "same", "slowed"] == done.stdout.split(), done.stderr


def test_a_record_says_whether_both_sides_ran_the_same_machine_code(make, tmp_path):
    from against_evidence import same_code

    from pytest_kernelperf.model import Against
    from pytest_kernelperf.store.runs import RunWriter

    kernel = Kernel("attention", 155, 0, 0, code_hash="ab")
    own = make.recorded()
    writer = RunWriter(tmp_path / "run.gz")
    for batch, digest in ((8, "ab"), (16, "cd")):
        case = replace(own.measurement.case, test=f"test_attention[128-{batch}]")
        measurement = replace(own.measurement, case=case, kernels=(kernel,))
        before = replace(measurement, kernels=(replace(kernel, code_hash=digest),))
        against = Against("before", "1" * 40, before)
        writer.append(replace(own, measurement=measurement, against=against))
    writer.close()

    assert {"128x8": True, "128x16": False} == same_code(tmp_path / "run.gz")


def test_every_second_comparison_holds_the_slower_kernel_too():
    from compare_rates import names_of

    names = [names_of(number, 200, 100) for number in range(200)]

    assert 100 == sum("larger" in one for one in names)
    assert 5 == sum("larger" in one for one in names[:10])


def test_alarms_and_finds_are_counted():
    from compare_rates import told

    def row(which, standing):
        return {"which": which, "kind": "softmax", "standing": standing, "slowdown": 0.01}

    rows = [row("equal", "alike"), row("equal", "faster"), row("larger", "slower")]

    assert "equal: 1 alarms in 2 pairs; slowed: 1 of 1 found" == told(rows)[-1]


def test_the_table_against_a_revision_says_which_kernels_were_identical():
    from against_evidence import table

    rows = [
        _row("512x32", "REGRESSED", is_slowed=True, same_code=False, processes=3),
        _row("512x8", is_slowed=False, same_code=True, processes=3),
        _row("128x8", is_slowed=False, same_code=True, processes=5),
    ]
    runs = [
        {"seconds": 25.0, "problem": None, "verdicts": rows},
        {"seconds": 5.0, "problem": "exit status 2: ", "verdicts": []},
    ]

    said = table(runs, {})

    assert "1 runs of 2, 25.0 s each" == said[0]
    assert "slowed: of 1 1 REGRESSED; 0 with the same machine code on both sides" == said[1]
    assert "identical: of 2 2 UNCHANGED; 2 with the same machine code on both sides" == said[3]
