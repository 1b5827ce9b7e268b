"""Which GPUs are used, of those that llama.cpp's backends name."""

from contextlib import closing

import pytest
import real

from llmengine.errors import ConfigError
from llmengine.llama import device
from llmengine.llama.device import Device
from llmengine.llama.model import Model

RTX, RTX_AGAIN = ("CUDA0", "0000:01:00.0"), ("Vulkan0", "0000:01:00.0")
SECOND = ("CUDA1", "0000:02:00.0")
IRIS = ("Vulkan1", "0000:00:02.0")
NAMELESS = ("SYCL0", "")


def gpu(place: tuple[str, str], integrated: bool = False) -> Device:
    name, bus = place
    return Device(name, f"a GPU called {name}", 1, 2, 3, integrated, bus)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    """What the backends name; tests fill it."""
    found: list[Device] = []
    monkeypatch.setattr(device, "devices", lambda: found)
    return found


def names(wanted: str) -> list[str]:
    return [each.name for each in device.choose(wanted)]


def test_without_gpus_the_cpu_computes(seen: list[Device]) -> None:
    assert names("auto") == []


def test_all_gpus_are_used_each_once(seen: list[Device]) -> None:
    seen += [gpu(RTX), gpu(SECOND), gpu(RTX_AGAIN)]
    assert names("auto") == ["CUDA0", "CUDA1"]


def test_an_integrated_gpu_has_no_layers_beside_another(seen: list[Device]) -> None:
    seen += [gpu(IRIS, integrated=True), gpu(RTX)]
    assert names("auto") == ["CUDA0"]


def test_an_integrated_gpu_alone_is_used_by_one_backend(seen: list[Device]) -> None:
    seen += [gpu(IRIS, integrated=True), gpu(NAMELESS, integrated=True)]
    assert names("auto") == ["Vulkan1"]


def test_two_gpus_that_do_not_say_where_they_sit_are_two(seen: list[Device]) -> None:
    seen += [gpu(("MTL0", "")), gpu(("MTL1", ""))]
    assert names("auto") == ["MTL0", "MTL1"]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [("cuda", ["CUDA0"]), ("metal", ["MTL0"]), ("rocm", ["ROCm0"]), ("vulkan", ["Vulkan0"])],
)
def test_a_backend_is_named_as_users_know_it(
    seen: list[Device], wanted: str, chosen: list[str]
) -> None:
    seen += [gpu(RTX), gpu(RTX_AGAIN), gpu(("MTL0", "")), gpu(("ROCm0", "0000:03:00.0"))]
    assert names(wanted) == chosen


def test_the_cpu_computes_where_it_is_asked_for(seen: list[Device]) -> None:
    seen.append(gpu(RTX))
    assert names("cpu") == []


@pytest.mark.model
@pytest.mark.parametrize(
    ("place", "layers", "copied"),
    [(RTX, -1, True), (RTX, 2, True), (RTX, 1, False), (RTX, 0, False), (("MTL0", ""), -1, False)],
)
def test_states_are_copied_where_a_gpu_has_some(
    place: tuple[str, str], layers: int, copied: bool
) -> None:
    """The output, which goes to a GPU first, has none."""
    with closing(Model(real.MODEL, real.config(gpu_layers=layers))) as model:
        model.devices = [gpu(place)]
        assert model.copied is copied


def test_a_backend_that_is_not_there_is_told(seen: list[Device]) -> None:
    seen.append(gpu(RTX))
    with pytest.raises(ConfigError, match=r'"metal" is not there: .* sees CUDA0; '):
        device.choose("metal")
