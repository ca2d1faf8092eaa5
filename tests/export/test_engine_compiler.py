"""What the process that builds an engine gives to TensorRT's parser, by the plugins that there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.export.engine.compiler import WITHOUT_ALIGN, _prepared
from ksnet_deploy.ops.functions import ALIGN, DEFORM_CONV, DOMAIN, TOPK_SPLIT
from ksnet_deploy.ops.library import load_plugins

OLD = frozenset({DEFORM_CONV, TOPK_SPLIT})
"""Operators of a plugin library that was built before there was a plugin for the whole alignment."""


def custom(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node if node.domain == DOMAIN)


@pytest.mark.slow
def test_the_parser_gets_each_alignment_whole_where_there_is_a_plugin_for_it(small_onnx: Callable[..., Path]) -> None:
    path = small_onnx("32x48", "float32")
    model, count, note = _prepared(str(path), OLD | {ALIGN})
    assert custom(model) == {ALIGN: 2, TOPK_SPLIT: 6}
    assert (count, note) == (8, None)
    assert not model.functions
    for node in model.graph.node:
        named = {attribute.name: attribute.s for attribute in node.attribute if attribute.name.startswith("plugin_")}
        assert named == ({"plugin_namespace": b"ksnet", "plugin_version": b"1"} if node.domain == DOMAIN else {})


@pytest.mark.slow
def test_a_library_of_an_earlier_version_gets_the_convolutions_and_the_user_a_note(
    small_onnx: Callable[..., Path],
) -> None:
    model, count, note = _prepared(str(small_onnx("32x48", "float32")), OLD)
    assert custom(model) == {DEFORM_CONV: 2, TOPK_SPLIT: 6}
    assert (count, note) == (8, WITHOUT_ALIGN)


def test_without_plugins_every_body_is_written_out(small_onnx: Callable[..., Path]) -> None:
    model, count, note = _prepared(str(small_onnx("32x48", "float32")), None)
    assert not custom(model)
    assert (count, note) == (8, None)


def played_tensorrt(*operators: str) -> SimpleNamespace:
    """TensorRT whose registry has these operators once a library is loaded."""
    registry = SimpleNamespace(all_creators=[])

    def load_library(_path: str) -> None:
        registry.all_creators.extend(
            SimpleNamespace(name=name, plugin_version="1", plugin_namespace=DOMAIN) for name in operators
        )

    registry.load_library = load_library
    return SimpleNamespace(__name__="tensorrt", __version__="10.16", get_plugin_registry=lambda: registry)


def test_loading_tells_which_operators_a_library_has() -> None:
    for operators in (OLD, OLD | {ALIGN}):
        trt = played_tensorrt(*operators)
        for _ in range(2):
            assert load_plugins(trt, Path("lib.so")) == operators
        assert len(trt.get_plugin_registry().all_creators) == len(operators)
    with pytest.raises(BackendError, match=f"{TOPK_SPLIT} not registered; build it again"):
        load_plugins(played_tensorrt(ALIGN, DEFORM_CONV), Path("lib.so"))
