"""An autoscaler's configuration: which types of nodes it names, and what is wrong with one that is none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from cluster.backends.ray.autoscaling import Autoscaler, counted, read_configuration
from cluster.backends.ray.session import Session
from cluster.errors import PermanentError, UnreachableError
from cluster.scaling import NodeType, Wanted


def write(folder: Path, document: Any) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def types(**more: Any) -> dict[str, Any]:
    return {"head_node_type": "head", "max_workers": 10, "available_node_types": {"head": {"resources": {"CPU": 1}}, **more}}


def test_types_of_workers_are_read_with_what_they_have(tmp_path: Path) -> None:
    found = read_configuration(write(tmp_path, types(
        gpus={"resources": {"CPU": 64, "GPU": 8, "memory": 2**40, "accelerator_type:H200": 1}, "min_workers": 1, "max_workers": 4},
        plain={"resources": {"CPU": 8}, "labels": {"pool": "a"}},
        old={"resources": {"CPU": 8, "GPU": 1}, "labels": {"ray.io/accelerator-type": "A100"}, "max_workers": 0},
    )))  # fmt: skip
    assert [(kind.name, kind.cpu, kind.memory_bytes, kind.accelerators, kind.least, kind.most) for kind in found] == [
        ("gpus", 64, 2**40, {"H200": 8}, 1, 4), ("old", 8, None, {"A100": 1}, 0, 0), ("plain", 8, None, {}, 0, 10),
    ]  # fmt: skip
    assert found[2].labels == {"pool": "a"}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("available_node_types: [", "cannot be read"),
        ("- a", "is no autoscaler's configuration"),
        ({}, "is no autoscaler's configuration .*available_node_types"),
        (types(bad={"resources": {"CPU": "many"}}), "is no autoscaler's configuration"),
        (types(bad={"resources": {"CPU": -1}, "max_workers": 1}), "is no autoscaler's configuration"),
        (types(bad={"min_workers": 5, "max_workers": 1}), "is no autoscaler's configuration"),
        (types(**{f"t{number}": {"resources": {"CPU": 1}} for number in range(101)}), "is no autoscaler's configuration"),
    ],
)
def test_a_file_that_is_no_configuration_is_told(tmp_path: Path, document: Any, words: str) -> None:
    with pytest.raises(PermanentError, match=words):
        read_configuration(write(tmp_path, document))
    with pytest.raises(PermanentError, match=r"CPN_RAY_AUTOSCALING: .*nowhere cannot be read"):
        read_configuration(tmp_path / "nowhere")


def test_types_are_told_with_how_many_are_there() -> None:
    kinds = [NodeType(name="a", cpu=1, most=4), NodeType(name="b", cpu=1, most=4)]
    found = counted(kinds, {"a": 2, "c": 1}, "1 of b could not be started")
    assert [(kind.name, kind.present, kind.absent) for kind in found.types] == [("a", 2, 2), ("b", 0, 4)]
    assert found.trouble == "1 of b could not be started"


class Answers:
    """A session whose calls answer what a test has put there, in this order; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def call(self, function: Any, *_arguments: Any) -> Any:
        self.asked.append(function.__name__)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_what_the_autoscaler_does_not_say_is_as_it_was() -> None:
    kind = NodeType(name="a", cpu=1, most=4)
    session = Answers((), ({"a": 1}, ""), RuntimeError("no answer"), UnreachableError("the head is away"), (), ({"a": 2}, "no quota"))

    async def scenario() -> None:
        autoscaler = Autoscaler(cast("Session", session), [kind])
        first, second = await autoscaler.look(), await autoscaler.look()
        assert first is not None
        assert (first.types[0].present, second) == (1, first)
        with pytest.raises(UnreachableError, match="the head is away"):
            await autoscaler.look()
        third = await autoscaler.look()
        assert third is not None
        assert (third.types[0].present, third.trouble) == (2, "no quota")

    asyncio.run(scenario())


def test_without_types_nothing_is_asked_for_and_a_request_that_fails_is_made_again() -> None:
    wanted = [Wanted(node_type="a", count=1)]

    async def scenario() -> None:
        none = Answers(())
        autoscaler = Autoscaler(cast("Session", none), [])
        assert await autoscaler.look() is None
        await autoscaler.ask_for(wanted)
        assert none.asked == ["reported_types"]
        some = Answers((NodeType(name="a", cpu=1, most=4),), ({}, ""), RuntimeError("no answer"), None)
        autoscaler = Autoscaler(cast("Session", some), [])
        await autoscaler.look()
        with pytest.raises(UnreachableError, match="does not take a request"):
            await autoscaler.ask_for(wanted)
        await autoscaler.ask_for(wanted)
        assert some.asked == ["reported_types", "standing", "request", "request"]

    asyncio.run(scenario())
