"""
The device timer on a real card: what it reads, and what it leaves behind.
"""

from __future__ import annotations

import gc
from statistics import median

import pytest
from measuring import job, p50_us, random, rounds_of, take

torch = pytest.importorskip("torch")

from flashcore_kernels import attention  # noqa: E402 - torch may be missing
from pytest_kernelperf.errors import SubjectError  # noqa: E402
from pytest_kernelperf.measure import Job, Subject, measure  # noqa: E402
from pytest_kernelperf.measure.card import Card  # noqa: E402
from pytest_kernelperf.measure.graph import capture, nodes_of  # noqa: E402
from pytest_kernelperf.measure.nvml import nvml_card  # noqa: E402
from pytest_kernelperf.model import Case, Plan  # noqa: E402

pytestmark = pytest.mark.h100


@pytest.mark.parametrize("timer", ["device", "launch"])
def test_each_round_calls_on_other_addresses(timer):
    """
    Torch's allocator hands the blocks of one round back to the next.
    """
    addresses = set()

    def add(x):
        addresses.add(x.data_ptr())
        return x + 1

    take(Subject(add, (random(512, 1024),)), timer, "warm", rounds=1)
    few = len(addresses)
    take(Subject(add, (random(512, 1024),)), timer, "warm", rounds=8)

    assert len(addresses) >= few + 8


def test_a_spin_of_known_length_is_read_right(card):
    """
    100 000 cycles at the canary's clock, and an add of 1-3 µs.
    """
    x = random(1024)

    def fn(x):
        torch.cuda._sleep(100_000)
        return x + 1

    found = take(Subject(fn, (x,)), "device", "warm")

    spin_us = 100_000 / median(rounds_of(found)[0].clock_mhz)
    assert spin_us + 2.0 == pytest.approx(p50_us(found), abs=2.5)


def test_a_device_sample_is_a_graph_of_many_calls(add):
    found = take(add, "device")

    first = rounds_of(found)[0]
    assert "graph" == found.method
    assert found.plan.calls_per_sample > 100
    assert 1.0 < p50_us(found) < 4.0
    assert all(slack_us >= 0 for slack_us in first.slack_us)
    assert len(first.times_us) == len(first.clock_mhz) == found.plan.samples
    assert (found.checks.outputs_checked, found.checks.poisoned) > (0, 0)


def test_the_kernels_of_a_call_are_named_with_their_registers(add):
    (kernel,) = take(add, "device").kernels

    assert "elementwise" in kernel.name
    assert kernel.registers is not None
    assert 8 <= kernel.registers <= 255


def test_nodes_of_library_calls_are_counted():
    a = random(1024, 1024)
    torch.mm(a, a)
    nodes = nodes_of(capture(lambda _: torch.mm(a, a) + 1, 1))

    assert nodes is not None
    assert nodes.count >= 2
    assert all(kernel.name for kernel in nodes.kernels)


@pytest.mark.parametrize("size", [1024, 4096])
def test_paced_rounds_repeat(size):
    """
    Without any right to lock clocks, two measurements agree to 2 % (1 % for the large one).
    """
    a, b = random(size, size), random(size, size)
    first, second = (take(Subject(torch.mm, (a, b)), "device") for _ in range(2))

    assert 1.0 == pytest.approx(p50_us(first) / p50_us(second), abs=0.02 if size == 1024 else 0.01)


def test_cold_inputs_are_slower_than_warm_ones():
    """
    16 MB fit into the L2: a reduction reads them from there, or from memory.
    """
    x = random(8 * 2**20)
    cold, warm = (take(Subject(torch.sum, (x,)), "device", l2) for l2 in ("cold", "warm"))

    assert (cold.plan.input_sets > 2, warm.plan.input_sets) == (True, 1)
    assert p50_us(cold) > 1.1 * p50_us(warm)


def test_a_pinned_plan_is_reused_exactly(add):
    plan = take(add, "device").plan
    _, (again,) = measure(add, [job("device", pinned=plan)])

    assert plan == again.plan


def test_a_random_callable_is_captured_too():
    subject = Subject(
        lambda x: torch.nn.functional.dropout(x, 0.5), (random(512, 512),), deterministic=False
    )

    assert "graph" == take(subject, "device").method


def test_an_argument_rewritten_in_place_is_restored_before_each_sample():
    x = random(1024, 1024)
    before = x.clone()

    found = take(Subject(lambda x: x.mul_(2), (x,), mutates=("x",)), "device")

    assert found.plan.calls_per_sample <= found.plan.input_sets
    assert torch.equal(before * 2, x)


def test_an_argument_that_is_only_written_is_poisoned_and_checked():
    x, out = random(512, 512), random(512, 512)

    found = take(
        Subject(lambda x, out: torch.add(x, 1, out=out), (x, out), mutates=("out",)), "device"
    )

    assert torch.equal(x + 1, out)
    assert found.checks.poisoned > 0


def test_a_triton_kernel_is_captured_and_named():
    triton = pytest.importorskip("triton")
    from pytest_kernelperf.measure.polling_kernel import poll

    del triton
    word = torch.full((16,), 5, dtype=torch.int32, device="cuda")

    def fn(word):
        poll[(1,)](word, 3, num_warps=1)
        return word + 1

    found = take(Subject(fn, (word,)), "device", "warm")

    assert "graph" == found.method
    assert "poll" == found.kernels[0].name


def test_memory_is_given_back(add):
    take(add, "device")
    gc.collect()
    before = torch.cuda.memory_allocated()
    take(add, "device")
    gc.collect()

    assert before == torch.cuda.memory_allocated()


def test_copies_that_do_not_fit_are_refused_before_an_out_of_memory(monkeypatch):
    monkeypatch.setattr(Card, "free_bytes", lambda _: 2**20)

    with pytest.raises(SubjectError, match="MiB"):
        measure(Subject(lambda x: x + 1, (random(2**20),)), [job("device")])


def test_the_users_stream_is_used_and_stays_current(add):
    side = torch.cuda.Stream()
    seen = set()

    def fn(x):
        if not torch.cuda.is_current_stream_capturing():
            seen.add(torch.cuda.current_stream().cuda_stream)
        return x + 1

    with torch.cuda.stream(side):
        for timer in ("device", "launch", "wall"):
            take(Subject(fn, add.args), timer, samples=20)
        assert side == torch.cuda.current_stream()

    assert side.cuda_stream in seen


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("timer", ["device", "launch", "wall"])
def test_a_callable_is_measured_on_the_gpu_of_its_tensors(timer):
    """
    The other GPU than the current one: its name, its clock, its memory, its triton kernels too.
    """
    x = torch.randn(512, 1024, device="cuda:1")
    q = torch.randn(2, 4, 128, 64, device="cuda:1", dtype=torch.float16)

    for subject in (Subject(lambda x: x + 1, (x,)), Subject(attention, (q, q, q))):
        found = take(subject, timer, samples=20)

        (process,) = found.processes
        assert nvml_card(1).facts().uuid == process.environment.gpu.uuid
        assert nvml_card(0).facts().uuid != process.environment.gpu.uuid
        assert found.kernels
        assert 1.0 < p50_us(found) < 100.0
        assert 0 == torch.cuda.current_device()


def test_setup_gives_new_arguments_each_round():
    made = []

    def setup():
        made.append(random(256, 256))
        return (made[-1],), {}

    take(Subject(lambda x: x + 1, setup=setup), "device", rounds=3)

    assert len(made) >= 4


def test_every_round_of_a_pinned_plan_finds_the_same_graphs():
    """
    The first graphs after ordinary launches run without gaps; no round must be one of them.
    """
    x = torch.randn(256, 1024, device="cuda", dtype=torch.float16)
    plan = Plan(300, 300, 2000.0, 8, 6, 1)
    case = Case("", "", "", "device", "warm", "paced")

    _, (measured,) = measure(Subject(torch.neg, (x,)), [Job(case, pinned=plan)])

    rounds = [median(one.times_us) for one in measured.processes[0].rounds]
    assert max(rounds) / min(rounds) < 1.03
