"""
`resources=` on a machine without a GPU: kernels are compiled, judged against limits and baseline.

Each project is a folder of its own with a copy of the attention package, so that a change to its
kernels is one line of text. All runs share one Triton cache.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import needs
import pytest
from copy_kernel import COPY, GOOD
from failing_tool import failing_tool

needs.triton()
needs.no_gpu()

SOURCE = Path(__file__).parents[2] / "flashcore_kernels"
ATTENTION = """
    import torch
    from pytest_kernelperf import kernel_perf
    from copied_kernels import attention

    @kernel_perf(requires="sm_90", resources={limits})
    def test_attention(kernelperf):
        q, k, v = (torch.randn(4, 8, 256, {headdim}, device="cuda").half() for _ in range(3))
        out = kernelperf(attention, q, k, v)
        assert out.shape == q.shape
        assert torch.allclose(out, q), "a value is asked for: only a GPU could tell"
"""


def with_attention(project, headdim, limits="{'targets': 'sm_90'}"):
    """
    Put a copy of the attention package and a test of it into the project.
    """
    target = project.path / "copied_kernels"
    shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns("__pycache__"))
    # Two packages can't register one name.
    op = target / "op.py"
    op.write_text(
        op.read_text().replace('"flashcore"', '"copied"').replace("flashcore::", "copied::")
    )
    project.write(ATTENTION.format(headdim=headdim, limits=limits))
    return target


def patch(file: Path, old: str, new: str) -> None:
    """
    Replace a line of a kernel; it must be there once, or an unchanged kernel would be compiled.
    """
    text = file.read_text()
    assert text.count(old) == 1, f"{file.name}: {old!r}"
    file.write_text(text.replace(old, new))


def hashes(folder: Path) -> dict[str, str]:
    """
    Return the machine code's hash of the one kernel that is stored for each target.
    """
    found = {}
    for file in (folder / "baselines").rglob("*.json"):
        (stored,) = json.loads(file.read_text())["kernels"].values()
        found[stored[0]["target"]] = stored[0]["code_hash"]
    return found


@needs.TRITON_3_6  # Triton 3.9 makes the same code of it with and without maxnreg.
def test_an_unchanged_attention_passes_and_a_spilling_one_is_regressed(gpuless):
    package = with_attention(gpuless, headdim=64)
    stored = gpuless.run_apart("--kernelperf-update")
    stored.assert_outcomes(passed=1)
    assert ["sm_90/test_it.json"] == gpuless.baseline_files()

    unchanged = gpuless.run_apart("--kernelperf")
    patch(
        package / "forward_hopper.py",
        '    if config.maxnreg is not None:\n        options["maxnreg"] = config.maxnreg\n',
        '    options["maxnreg"] = 104\n',
    )
    spilling = gpuless.run_apart("--kernelperf")

    unchanged.assert_outcomes(passed=1)
    unchanged.stdout.fnmatch_lines(["*compile sm_90*UNCHANGED SAME_CODE*"])
    spilling.assert_outcomes(failed=1)
    spilling.stdout.fnmatch_lines(["REGRESSED *test_attention [[]sm_90] (NEW_SPILLS)"])
    spilling.stdout.fnmatch_lines(["*spilled bytes 0 -> *"])


@pytest.mark.parametrize(
    ("old", "new", "reason", "said"),
    [
        (
            '"num_warps": config.num_warps,',
            '"num_warps": 2,',
            "LOST_TENSOR_CORES",
            "*warpgroup * -> 0*",
        ),
        (
            "grid = (triton.cdiv(seqlen_q, config.BLOCK_M), nheads, batch)",
            "from dataclasses import replace\n"
            "    doubled = replace(config, BLOCK_M=2 * config.BLOCK_M)\n"
            "    scalars = tuple(doubled.BLOCK_M if x is config.BLOCK_M else x for x in scalars)\n"
            "    grid = (triton.cdiv(seqlen_q, doubled.BLOCK_M), nheads, batch)",
            "LOWER_OCCUPANCY",
            "*registers * -> *",
        ),
    ],
    ids=["loses wgmma", "doubles the registers"],
)
def test_a_worse_attention_is_regressed(gpuless, old, new, reason, said):
    package = with_attention(gpuless, headdim=32)
    gpuless.run_apart("--kernelperf-update").assert_outcomes(passed=1)

    patch(package / "forward.py", old, new)
    result = gpuless.run_apart("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"REGRESSED *test_attention [[]sm_90] ({reason})", said])


def test_the_same_kernel_in_two_checkouts_has_the_same_hash(gpuless, monkeypatch):
    gpuless.write(COPY.format(line=GOOD, limits="{}"))
    gpuless.run_apart("--kernelperf-update").assert_outcomes(passed=1)
    here = hashes(gpuless.path)

    other = gpuless.path / "another" / "checkout"
    other.mkdir(parents=True)
    (other / "pytest.ini").write_text("[pytest]")
    # Moved down too: line tables differ, and Triton compiles it anew.
    (other / "test_it.py").write_text("\n\n" + (gpuless.path / "test_it.py").read_text())
    monkeypatch.setenv("TRITON_CACHE_DIR", str(gpuless.path / "cold"))
    gpuless.run_apart("--kernelperf-update", str(other)).assert_outcomes(passed=1)

    there = hashes(other)

    assert here == there
    assert 3 == len(set(here.values()))


def test_limits_need_nothing_stored(gpuless):
    limits = "{'registers': 4, 'targets': 'sm_80'}"
    gpuless.write(COPY.format(line=GOOD, limits=limits))

    result = gpuless.run_apart("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*(RESOURCE_LIMIT)", "  copy_kernel: registers *, at most 4 allowed"]
    )


def test_lost_kernels_are_not_judged_whatever_the_limits_and_fail_under_strict(gpuless):
    gpuless.write(COPY.format(line=GOOD, limits="{'registers': 99, 'targets': 'sm_80'}"))
    gpuless.run_apart("--kernelperf-update", "--kernelperf-strict").assert_outcomes(passed=1)
    kept = gpuless.run_apart("--kernelperf", "--kernelperf-strict")
    shutil.rmtree(gpuless.path / "baselines")

    lost = gpuless.run_apart("--kernelperf")
    strict = gpuless.run_apart("--kernelperf", "--kernelperf-strict")

    kept.assert_outcomes(passed=1)
    lost.assert_outcomes(passed=1)
    strict.assert_outcomes(failed=1)
    for result in (lost, strict):
        result.stdout.fnmatch_lines(
            [
                "NO_BASELINE *test_copy [[]sm_80] (WITHIN_LIMITS)",
                "kernelperf: 0 judged, 1 NOT judged (1 NO_BASELINE)",
            ]
        )


def test_a_kernel_that_does_not_compile_is_named_with_the_compilers_line(gpuless):
    limits = "{'targets': 'sm_80'}"
    gpuless.write(COPY.format(line="tl.store(y + at, tl.load(x + nowhere))", limits=limits))

    result = gpuless.run_apart("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["INVALID *(DOES_NOT_COMPILE)", "*sm_80: kernel copy_kernel: *nowhere is not defined*"]
    )


def test_what_does_not_compile_in_a_called_function_is_named_and_not_the_call(gpuless):
    called = """@triton.jit
    def moved(at):
        return at + nowhere

    @triton.jit
    def copy_kernel"""
    source = COPY.replace("@triton.jit\n    def copy_kernel", called)
    line = "tl.store(y + at, tl.load(x + moved(at)))"
    gpuless.write(source.format(line=line, limits="{'targets': 'sm_80'}"))

    result = gpuless.run_apart("--kernelperf")

    result.stdout.fnmatch_lines(["*sm_80: kernel copy_kernel: *nowhere is not defined*"])


def test_a_kernel_that_cannot_be_read_is_inconclusive_and_not_stored(gpuless, monkeypatch):
    failing_tool(gpuless.path, monkeypatch)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(gpuless.path / "cold"))
    source = COPY.format(line=GOOD, limits="{'targets': 'sm_80', 'registers': 1}")
    gpuless.write(source.replace("kernelperf(copy, x)", "assert kernelperf(copy, x).sum() == 0"))

    result = gpuless.run_apart("--kernelperf-update")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "INCONCLUSIVE *(FIGURES_UNREADABLE)",
            "*kernel copy_kernel: nvdisasm failed: no such format*",
            "refused*test_copy*",
            "kernelperf: 0 judged, 1 NOT judged (1 INCONCLUSIVE)",
        ]
    )
    assert [] == gpuless.baseline_files()


def test_a_target_that_does_not_compile_leaves_the_output_of_another_to_go_on_with(gpuless):
    source = COPY.replace(
        "BLOCK=1024)",
        "BLOCK=1000 if torch.cuda.get_device_capability()[0] == 9 else 1024)",
    ).replace("kernelperf(copy, x)", "assert kernelperf(copy, x).shape == x.shape")
    gpuless.write(source.format(line=GOOD, limits="{'targets': ('sm_90', 'sm_80'), 'spills': 0}"))

    result = gpuless.run_apart("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["INVALID *sm_90*(DOES_NOT_COMPILE)"])
    result.stdout.no_fnmatch_line("*AttributeError*")


def test_a_signature_that_cannot_be_inferred_says_how_to_give_it(gpuless):
    source = COPY.format(line=GOOD, limits="{'targets': 'sm_80'}")
    gpuless.write(source.replace("(x, y, x.numel(), BLOCK", "(x, y, object(), BLOCK"))

    result = gpuless.run_apart("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*signature can't be inferred*tl.constexpr*"])


def test_a_call_without_triton_kernels_is_told_so(gpuless):
    source = COPY.format(line=GOOD, limits="{'targets': 'sm_80'}")
    gpuless.write(source.replace("kernelperf(copy, x)", "kernelperf(torch.neg, x)"))

    result = gpuless.run_apart("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*launched no Triton kernel*"])


def test_nothing_is_stored_of_a_test_that_fails_by_itself(gpuless):
    source = COPY.format(line=GOOD, limits="{'targets': 'sm_80'}")
    gpuless.write(source.replace("kernelperf(copy, x)", "kernelperf(copy, x); assert False"))

    result = gpuless.run_apart("--kernelperf-update")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["refused*test_copy*the test itself failed*"])
    assert [] == gpuless.baseline_files()


def test_without_kernelperf_nothing_is_compiled(gpuless):
    gpuless.write(
        COPY.format(line=GOOD, limits="{}").replace("resources=", "requires='cuda', resources=")
    )

    result = gpuless.run_apart()

    result.assert_outcomes(skipped=1)
    assert [] == gpuless.baseline_files()


@pytest.mark.parametrize("still_set", [False, True])
def test_where_triton_interprets_that_is_said(gpuless, still_set) -> None:
    """As a test's own conftest may choose it, and take it back once kernels are imported."""
    gpuless.write(
        f"""
import os

os.environ["TRITON_INTERPRET"] = "1"
import triton.language

if not {still_set}:
    del os.environ["TRITON_INTERPRET"]
""",
        "conftest",
    )
    gpuless.write(COPY.format(line=GOOD, limits="{}"))

    result = gpuless.run_apart("--kernelperf")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Triton's interpreter was chosen in this process*unset it*"])
