"""The tuning benchmark without a GPU: which candidates are timed, and what becomes of a worker."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import needs
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def tune(monkeypatch):
    """The benchmark, with a card that is always done and graphs that count their calls."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import paced_graph
    import tune_attention

    class Counted:
        def __init__(self, calls, count):
            for i in range(count):
                calls[i % len(calls)]()

        def sample_us(self):
            return 100.0

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(paced_graph, "capture", Counted)
    return tune_attention


@pytest.fixture
def small(tune):
    from attention_peers import Shape

    return Shape(64, 1, 2, 64, causal=True)


def exact(q, k, v, out):
    out.copy_(torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))


def unmasked(q, k, v, out):
    out.copy_(torch.nn.functional.scaled_dot_product_attention(q, k, v))


def one_bad_row(q, k, v, out):
    exact(q, k, v, out)
    out[0, 0, 63] *= 1.01


def unwritten(q, k, v, out):
    pass


def broken(q, k, v, out):
    raise RuntimeError("no such tile")


def test_only_what_runs_and_is_right_is_timed(tune, small, monkeypatch):
    tried = {f.__name__: f for f in (exact, unmasked, one_bad_row, unwritten, broken)}
    sets = [tune.tensors(small, "cpu") for _ in range(2)]
    events = []

    def sdpa(q, k, v, out):
        assert out is None  # a peer allocates its own

    monkeypatch.setattr(tune, "inputs", lambda shape: sets)
    monkeypatch.setattr(tune, "candidates", lambda shape, only: tried)
    monkeypatch.setattr(tune, "peers", lambda shape, first: {"FLASH": sdpa})
    tune.measure_shape(small, {"skipped"}, "", 3, lambda **event: events.append(event))

    checked = {e["name"]: e["ok"] for e in events if e["kind"] == "checked"}
    wrong = dict.fromkeys(("unmasked", "one_bad_row", "unwritten"), False)
    times = {e["name"]: (e["peer"], e["us"], e["n"]) for e in events if e["kind"] == "time"}
    assert checked == {"exact": True, **wrong}
    assert [e["name"] for e in events if e["kind"] == "failed"] == ["broken"]
    assert times == {"FLASH": (True, 100.0, 3), "exact": (False, 100.0, 3)}
    assert events[-1] == {"kind": "shape", "shape": small.name}


def test_a_skipped_candidate_is_not_tried(tune, small, monkeypatch):
    monkeypatch.setattr(tune, "inputs", lambda shape: [tune.tensors(small, "cpu")])
    monkeypatch.setattr(tune, "candidates", lambda shape, only: {"broken": broken})
    monkeypatch.setattr(tune, "peers", lambda shape, first: {"FLASH": lambda *args: None})
    events = []
    tune.measure_shape(small, {"broken"}, "", 1, lambda **event: events.append(event))

    assert [e["name"] for e in events if e["kind"] in ("failed", "time")] == ["FLASH"]


def test_a_worker_that_hangs_in_a_candidate_is_blamed_on_it(tune, tmp_path):
    progress = tmp_path / "lines"
    progress.write_text('{"kind": "start", "shape": "s", "name": "ws2"}\n')

    assert tune._blame(progress, crashed=False)
    last = json.loads(progress.read_text().splitlines()[-1])
    assert (last["kind"], last["name"], last["crashed"]) == ("hung", "ws2", False)


def test_a_worker_that_stops_while_timing_ends_the_run(tune, tmp_path, capsys):
    progress = tmp_path / "lines"
    progress.write_text('{"kind": "start", "shape": "s", "name": "timing"}\n')

    assert not tune._blame(progress, crashed=True)


def test_the_report_puts_the_best_of_ours_beside_the_best_peer(tune, tmp_path, capsys):
    progress, out = tmp_path / "lines", tmp_path / "out.json"
    shape = "4096x4 H16 D128"
    events = [
        {"kind": "time", "shape": shape, "name": name, "peer": peer, "us": us}
        for name, peer, us in (("a", False, 900.0), ("b", False, 800.0), ("CUDNN", True, 840.0))
    ]
    progress.write_text("".join(json.dumps(event) + "\n" for event in events))
    tune.report(Namespace(progress=str(progress), shapes="d128", top=1, out=str(out)))

    line = capsys.readouterr().out.split()
    assert line == f"{shape} x1.050 687TF | b 800.00 | CUDNN 840.00".split()
    assert [one["name"] for one in json.loads(out.read_text())[0]["ours"]] == ["b", "a"]


def test_words_pick_candidates_and_shapes(tune):
    import tune_candidates

    (shape,) = [s for s in tune_candidates.SHAPES["causal"] if (s.seqlen, s.batch) == (512, 8)]
    found = tune_candidates.candidates(shape, "ws3-n128-s5-c160-p1,plain-64x64")

    assert set(found) == {
        "ws3-n128-s5-c160-p1",
        "ws3-n128-s5-c160-p1-o",
        "plain-64x64-w4-s3",
    }
    assert tune_candidates.candidates(shape, "") != found
    assert not tune_candidates.has_one_of("256x32,512x", "128x8 H8 D64")


def test_a_whole_name_chooses_one_candidate(tune):
    import tune_candidates

    (shape,) = [s for s in tune_candidates.SHAPES["causal"] if (s.seqlen, s.batch) == (512, 32)]

    assert set(tune_candidates.candidates(shape, "=ws3-n128-s5-c160-p1=")) == {
        "ws3-n128-s5-c160-p1"
    }


def test_a_section_of_heads_holds_for_its_candidate_alone(tune, monkeypatch):
    import tune_candidates

    from flashcore_kernels import forward_hopper

    (shape,) = [s for s in tune_candidates.SHAPES["causal"] if (s.seqlen, s.batch) == (512, 32)]
    walked = []
    monkeypatch.setattr(
        forward_hopper,
        "hopper_forward",
        lambda *_, **__: walked.append(forward_hopper.tile_order(True, 256, 512, 64)),
    )
    found = tune_candidates.candidates(shape, "solo1-n64-s2-d1")

    for name in ("solo1-n64-s2-d1", "solo1-n64-s2-d1-h8", "solo1-n64-s2-d1-h32"):
        found[name](None, None, None, None)

    assert walked == [128, 8, 32]


def test_what_a_row_names_is_measured_at_the_shapes_that_get_the_row(tune):
    import tune_candidates

    from flashcore_kernels import configs

    for shape in (shape for shapes in tune_candidates.SHAPES.values() for shape in shapes):
        heads = shape.batch * shape.heads
        row = configs.select((9, 0), shape.headdim, shape.causal, shape.seqlen, shape.seqlen, heads)
        if row.hopper is not None:
            assert row.hopper.name in tune_candidates.candidates(shape, ""), shape.name


@needs.TRITON_3_6
def test_all_candidates_are_compiled_at_lengths_that_they_take(tune, monkeypatch):
    from flashcore_kernels import forward_hopper

    empty, launch_plan = torch.empty, forward_hopper.launch_plan
    compiled = []

    def plan(*tensors, config, **mask):
        _, *rest = launch_plan(*tensors, config=config, **mask)
        kernel = SimpleNamespace(warmup=lambda *args, **options: compiled.append(config))
        return kernel, *rest

    monkeypatch.setattr(torch, "empty", lambda size, device, dtype: empty(size, dtype=dtype))
    monkeypatch.setattr(forward_hopper, "launch_plan", plan)
    monkeypatch.setattr(forward_hopper, "_multiprocessors", lambda device_index: 132)

    tune.compile_slice(Namespace(slice="0/1", shapes="nine", only=""))

    assert list(forward_hopper.HOPPER_CONFIGS[64]) == compiled


def test_rows_for_calls_of_few_tiles_can_be_measured(tune):
    import tune_candidates

    from flashcore_kernels import configs

    rows = [
        configs.select((9, 0), s.headdim, s.causal, s.seqlen, s.seqlen, s.batch * s.heads)
        for s in tune_candidates.SHAPES["few"]
    ]

    assert len(set(rows)) == 5
    assert {row.max_tiles for row in rows} == {1584, configs.ANY, 132}
