"""A Ray autoscaler as far as it is asked: which nodes it may bring, what it could not start, and which nodes there shall be.

What it may bring comes from the autoscaler's state in the head's control store, where something reports it there; Ray's own
autoscaler does not, so an operator may name its configuration (`CPN_RAY_AUTOSCALING`, the file that the head was started with). How many
nodes of a type are there is told by the head too. Nodes are asked for by Ray's one list of requested resources, whole
nodes of a type each; whoever else sets that list on the same cluster is overruled. Functions block.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from cluster.backends.ray.session import Session
from cluster.errors import ClusterError, PermanentError, UnreachableError
from cluster.scaling import MOST_NODES, MOST_TYPES, NodeType, Scaling, Wanted

log = logging.getLogger(__name__)
# Of each type its resources, its labels, and how many there are at least and at most.
Groups = Mapping[str, tuple[Mapping[str, float], Mapping[str, str], int, int]]
_ACCELERATOR, _LABEL, _UNKNOWN_MODEL = "accelerator_type:", "ray.io/accelerator-type", "GPU"


class Autoscaler:
    """The autoscaler of the cluster that a session is connected to. `types` are those that an operator has named."""

    def __init__(self, session: Session, types: Sequence[NodeType]) -> None:
        self._session, self._named = session, tuple(types)
        self._types: tuple[NodeType, ...] = ()
        self._last: Scaling | None = None

    async def look(self) -> Scaling | None:
        """What it may bring, and what is there; None where there is no autoscaler that anybody knows of. Raises UnreachableError.

        What it does not say now is as it was.
        """
        try:
            self._types = await self._session.call(reported_types) or self._named
            self._last = counted(self._types, *await self._session.call(standing)) if self._types else None
        except ClusterError:
            raise
        except Exception as error:  # whatever the autoscaler's state is, nodes are counted without it
            log.warning("the autoscaler's state cannot be read: %s", error)
        return self._last

    async def ask_for(self, wanted: Sequence[Wanted]) -> None:
        """Ask for these nodes alone. Raises UnreachableError."""
        if not self._types:
            return
        try:
            await self._session.call(request, wanted, self._types)
        except ClusterError:
            raise
        except Exception as error:  # what Ray raises while its head is away is of many kinds
            raise UnreachableError(f"Ray's autoscaler does not take a request: {error}") from error


def read_configuration(path: Path) -> tuple[NodeType, ...]:
    """The types of workers in an autoscaler's configuration, none of them present. Raises PermanentError that says what is wrong."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        head, limit = document.get("head_node_type"), document.get("max_workers")
        return _types(
            {
                name: (item.get("resources") or {}, item.get("labels") or {}, item.get("min_workers") or 0,
                       limit if item.get("max_workers") is None else item["max_workers"])
                for name, item in document["available_node_types"].items() if name != head
            }
        )  # fmt: skip
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise PermanentError(f"CPN_RAY_AUTOSCALING: {path} cannot be read: {str(error).splitlines()[0]}") from error
    except (AttributeError, KeyError, TypeError, ValueError, ValidationError) as error:
        remedy = (
            "name the file that `ray start --autoscaling-config` was given, with available_node_types, each with resources and max_workers"
        )
        raise PermanentError(f"CPN_RAY_AUTOSCALING: {path} is no autoscaler's configuration ({type(error).__name__}); {remedy}") from error


def reported_types() -> tuple[NodeType, ...]:
    """The types that the autoscaler's state names, none of them present; none where nothing reports them.

    This process is connected to Ray.
    """
    from ray._private.state import state

    config = state.get_cluster_config()
    if config is None:
        return ()
    groups: Groups = {item.name: (dict(item.resources), {}, item.min_count, item.max_count) for item in config.node_group_configs}
    try:
        return _types(groups)
    except (ValueError, ValidationError) as error:
        log.warning("the autoscaler's state names types that cannot be: %s", error)
        return ()


def standing() -> tuple[dict[str, int], str]:
    """How many nodes of each type live, and what the autoscaler could not start lately, in words; empty when it could."""
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    there = Counter(node.ray_node_type_name for node in (*status.active_nodes, *status.idle_nodes))
    failed = [f"{item.count} of {item.ray_node_type_name} could not be started: {item.details or 'no word of why'}"
              for item in status.failed_launches[-1:]]  # fmt: skip
    return dict(there), "; ".join(failed)[:500]


def counted(types: Iterable[NodeType], there: Mapping[str, int], said: str = "") -> Scaling:
    """The types with how many nodes of each are there."""
    return Scaling(types=tuple(kind.model_copy(update={"present": there.get(kind.name, 0)}) for kind in types), trouble=said)


def request(wanted: Sequence[Wanted], types: Iterable[NodeType]) -> None:
    """Ask for whole nodes of these types, and for nothing else any more."""
    from ray.autoscaler.sdk import request_resources

    known = {kind.name: kind for kind in types}
    bundles = [_bundle(known[item.node_type]) for item in wanted if item.node_type in known for _ in range(item.count)]
    request_resources(bundles=bundles)


def _bundle(kind: NodeType) -> dict[str, float]:
    amounts = {"CPU": kind.cpu, "GPU": float(sum(kind.accelerators.values())), "memory": float(kind.memory_bytes or 0)}
    return {name: amount for name, amount in amounts.items() if amount}


def _types(groups: Groups) -> tuple[NodeType, ...]:
    """Raises ValidationError, ValueError."""
    if len(groups) > MOST_TYPES:
        raise ValueError(f"there are {len(groups)} types; {MOST_TYPES} are supported")
    return tuple(_type(name, *groups[name]) for name in sorted(groups))


def _type(name: str, resources: Mapping[str, float], labels: Mapping[str, str], least: int, most: int) -> NodeType:
    gpus, memory = int(resources.get("GPU", 0)), resources.get("memory")
    named = sorted(key.removeprefix(_ACCELERATOR) for key in resources if key.startswith(_ACCELERATOR))
    model = labels.get(_LABEL) or next(iter(named), _UNKNOWN_MODEL)
    return NodeType(
        name=name, cpu=float(resources.get("CPU", 0)), memory_bytes=None if memory is None else int(memory),
        accelerators={model: gpus} if gpus else {}, labels=dict(labels), least=least,
        # Ray writes -1 for no limit.
        most=MOST_NODES if most < 0 else most,
    )  # fmt: skip
