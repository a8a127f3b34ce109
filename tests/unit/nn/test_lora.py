"""Adapters of low rank: nothing changes when they are put in, they alone are learnt, and merging
them changes nothing either."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from mynah.errors import ConfigError, ModelError  # noqa: E402
from mynah.nn.lora import add_lora, kept, merged, restore  # noqa: E402


def make() -> nn.Module:
    torch.manual_seed(1)
    parts = {"query": nn.Linear(6, 4), "key": nn.Linear(6, 4, bias=False), "out": nn.Linear(4, 3)}
    return nn.ModuleDict({"a": nn.ModuleDict(parts), "norm": nn.LayerNorm(3)})


def run(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    a = model["a"]
    return model["norm"](a["out"](torch.tanh(a["query"](x)) * a["key"](x)))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(2))


def test_at_first_nothing_changes_and_then_merging_does_not(x: torch.Tensor) -> None:
    model, plain = make(), make()
    assert add_lora(model, ["*.query", "a.key"], rank=2, alpha=6.0, base=b"\x01\x02") == 2
    assert torch.equal(run(model, x), run(plain, x))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.5)
    for _ in range(3):
        (run(model, x)[:, 0] - x[:, 0]).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not torch.allclose(run(model, x), run(plain, x), atol=1e-2)
    names = {f"a.{layer}.{part}" for layer in ("query", "key") for part in ("lora_down", "lora_up")}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == names
    state = merged(model)
    assert state.keys() == plain.state_dict().keys()
    plain.load_state_dict(state)
    torch.testing.assert_close(run(plain, x), run(model, x), atol=1e-6, rtol=1e-5)
    for name in ("a.out.weight", "a.query.bias", "norm.weight"):
        assert torch.equal(state[name], make().state_dict()[name])


def test_a_checkpoint_holds_the_adapters_alone(x: torch.Tensor) -> None:
    model, other = make(), make()
    for one in (model, other):
        add_lora(one, ["*.out"], rank=1, alpha=2.0, base=b"\x07")
    torch.nn.init.normal_(model["a"]["out"].lora_up)
    saved = {name: value.clone() for name, value in kept(model).items()}
    assert set(saved) == {"a.out.lora_down", "a.out.lora_up", "lora_base"}
    restore(other, saved, "run")
    assert torch.equal(run(other, x), run(model, x))
    with pytest.raises(ModelError, match="run: its adapters were made for other weights"):
        restore(other, {**saved, "lora_base": saved["lora_base"] + 1}, "run")
    with pytest.raises(ModelError, match="run: has no tensor a.out.lora_up"):
        restore(other, {k: v for k, v in saved.items() if "up" not in k}, "run")


def test_without_adapters_everything_is_kept(x: torch.Tensor) -> None:
    model, other = make(), make()
    torch.nn.init.normal_(model["a"]["key"].weight)
    assert kept(model).keys() == model.state_dict().keys() == merged(model).keys()
    restore(other, kept(model), "run")
    assert torch.equal(run(other, x), run(model, x))


def test_names_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match=r"'\*.value'; there are \*.key, \*.out, \*.query"):
        add_lora(make(), ["*.query", "*.value"], rank=1, alpha=1.0)
    with pytest.raises(ConfigError, match="no linear layer is called 'norm'"):
        add_lora(make(), ["norm"], rank=1, alpha=1.0)
