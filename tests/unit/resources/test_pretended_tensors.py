"""
Stand-ins for GPU tensors: what a program may ask of them without a GPU, and what it may not.
"""

from __future__ import annotations

import needs
import pytest

from pytest_kernelperf.errors import NoValueError

torch = pytest.importorskip("torch")
needs.triton()
needs.no_gpu()

from pytest_kernelperf.resources.machine import Machine  # noqa: E402
from pytest_kernelperf.resources.tensors import moved  # noqa: E402


@pytest.fixture
def machine():
    made = Machine()
    with made.on("sm_90"), made.running():
        yield made


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(4, 8, device="cuda", dtype=torch.float16),
        lambda: torch.zeros((4, 8), device=torch.device("cuda:1")).half(),
        lambda: torch.ones(4, 8).cuda().to(torch.float16),
        lambda: torch.empty(4, 8, dtype=torch.float16).to("cuda"),
        lambda: torch.randint(0, 5, (4, 8), device="cuda").half(),
        lambda: torch.randn(
            4, 8, device="cuda", generator=torch.Generator(device="cuda").manual_seed(1)
        ).half(),
        lambda: torch.randn(8, 4, device="cuda").t().contiguous().half(),
        lambda: torch.randn(2, 4, 8, device="cuda")[0].half(),
    ],
)
def test_a_tensor_made_for_cuda_looks_like_one_there(make):
    tensor = make()

    assert type(tensor) is torch.Tensor
    assert (True, "cuda:1") == (tensor.is_cuda, str(tensor.device))
    assert ((4, 8), (8, 1), torch.float16) == (tensor.shape, tensor.stride(), tensor.dtype)
    assert 0 == tensor.data_ptr() % 16


@pytest.mark.usefixtures("machine")
def test_a_view_keeps_its_offset_so_that_its_alignment_is_right():
    view = torch.zeros(16, device="cuda")[1:]

    assert 4 == view.data_ptr() % 16


@pytest.mark.usefixtures("machine")
def test_an_operation_in_place_returns_the_tensor_itself():
    tensor = torch.zeros(4, device="cuda")

    assert tensor.add_(1) is tensor


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.sum().item(),
        lambda x: x.cpu(),
        lambda x: bool((x > 0).all()),
        lambda x: torch.allclose(x, x + 1),
    ],
)
def test_a_value_is_refused(ask):
    with pytest.raises(NoValueError, match="without a GPU there is none"):
        ask(torch.zeros(4, device="cuda"))


@pytest.mark.usefixtures("machine")
def test_tensors_on_the_cpu_are_as_ever():
    assert 3.0 == torch.ones(3).sum().item()


def test_the_current_card_is_the_targets(machine):
    assert (9, 0) == torch.cuda.get_device_capability()
    with torch.cuda.device(0):
        assert (8, 0) == torch.cuda.get_device_capability()
        assert "cuda:0" == str(torch.empty(1, device="cuda").device)
    assert machine.target == "sm_90"


@pytest.mark.usefixtures("machine")
def test_moving_keeps_one_tensor_one_tensor():
    tensor = torch.zeros(4, device="cuda")

    (first, second), number = moved(([tensor, tensor], 7), 2)

    assert first is second
    assert ("cuda:2", 7) == (str(first.device), number)


def test_nothing_is_left_behind():
    before = torch.cuda.get_device_capability, torch.Generator
    with Machine().running():
        pass

    assert before == (torch.cuda.get_device_capability, torch.Generator)
    assert not torch.cuda.is_available()


@pytest.mark.usefixtures("machine")
def test_code_that_looks_for_dispatch_modes_sees_none_of_ours():
    """Else it takes another way than on a card, and another kernel is compiled."""
    from torch.utils._python_dispatch import TorchDispatchMode

    assert 0 == torch._C._len_torch_dispatch_stack()
    with TorchDispatchMode():
        assert 1 == torch._C._len_torch_dispatch_stack()
