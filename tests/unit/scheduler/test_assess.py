"""Assess: what stands against a job at a cluster, and what it would cost there."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from cluster.drivers import BY_PODS, Driver, Lack
from cluster.model import ClusterSpec
from scheduler.assess import Assessment, InputData, assess, from_refusal, granted_quote, is_local
from scheduler.engine.reasons import POLICY, Reason
from scheduler.links import Inbound, Sample
from tests.records import NOW, cluster_spec, job_spec
from tests.unit.workloads.samples import licence, product, version
from workloads.catalogue.policy import Refusal, Rule
from workloads.ray_jobs import RayJobs

SH, GZ = cluster_spec("sh-1"), cluster_spec("gz-1", jurisdiction="CN-GZ", inbound_bandwidth_mib_s=256.0)


def flights(*licences: Any, **terms: Any) -> InputData:
    """The flights, 1 GiB that lie at sh-1."""
    return InputData("flights", product(**terms), version(), licences or (licence(),))


def judged(cluster: ClusterSpec, *inputs: InputData, **fields: Any) -> Assessment:
    return assess(job_spec(**fields), inputs, cluster, NOW)


@pytest.mark.parametrize("rule", list(Rule))
def test_every_rule_of_the_catalogue_is_a_reason_of_policy(rule: Rule) -> None:
    against = from_refusal(Refusal(rule, None, "what is missing", "who can change it"))
    assert (against.reason.label, against.message, against.remedy) == (rule.value, "what is missing", "who can change it")
    assert against.reason in POLICY


def test_a_job_that_may_run_has_a_quote_and_nothing_against_it() -> None:
    found = judged(SH, flights())
    assert (found.cluster, found.reason, found.against) == ("sh-1", Reason.FITS, ())
    assert str(found.quote.total if found.quote else None) == "0.40 CNY"


def test_data_that_lies_elsewhere_takes_time_and_costs() -> None:
    here, there = judged(SH, flights()), judged(GZ, flights())
    assert (here.transfer_bytes, here.transfer_s) == (0, 0.0)
    assert (there.transfer_bytes, there.transfer_s) == (2**30, 4.0)
    assert there.quote is not None
    assert [str(line.amount) for line in there.quote.lines if line.item == "transfer"] == ["0.50 CNY"]


def test_transfers_take_as_long_as_their_links_did() -> None:
    slow = Inbound(256.0, {"sh-1": (Sample(64 * 2**20, 1.0, NOW),), "us-1": (Sample(2**20, 1.0, NOW),)})
    found = assess(job_spec(), [flights()], GZ, NOW, slow)
    assert (found.transfer_s, found.starts_at) == (16.0, NOW + 16.0)


def test_what_a_clusters_caches_hold_lies_there() -> None:
    held = Inbound(256.0, held=frozenset({version().sha256, "f" * 64}))
    found = assess(job_spec(), [flights()], GZ, NOW, held)
    assert (found.transfer_bytes, found.transfer_s, found.held) == (0, 0.0, frozenset({version().sha256}))
    there = judged(GZ, flights()).quote
    assert found.quote is not None
    assert there is not None
    assert "transfer" not in {line.item for line in found.quote.lines}
    assert there.total.amount - found.quote.total.amount == Decimal("0.50")


def test_what_was_brought_ahead_takes_no_time_and_is_paid_by_who_reads_it_first() -> None:
    sha256 = version().sha256
    ahead = Inbound(256.0, held=frozenset({sha256}), ahead=frozenset({sha256}))
    found, without = assess(job_spec(), [flights()], GZ, NOW, ahead), judged(GZ, flights())
    assert (found.transfer_bytes, found.transfer_s, found.moves) == (0, 0.0, ())
    assert found.quote is not None
    assert without.quote is not None
    assert found.quote.total == without.quote.total
    alone = Inbound(256.0, ahead=frozenset({sha256}))
    assert assess(job_spec(), [flights()], GZ, NOW, alone).transfer_s == without.transfer_s, "another node has it, and not every one"


def test_the_quote_for_fewer_workers_leaves_out_what_is_held_too() -> None:
    held, elastic = Inbound(256.0, held=frozenset({version().sha256})), job_spec(resources={"workers": {"min": 1, "max": 4}})
    found = assess(elastic, [flights()], GZ, NOW, held)
    fewer = granted_quote(elastic, [flights()], GZ, found, 2)
    assert fewer is not None
    assert "transfer" not in {line.item for line in fewer.lines}


def test_a_job_without_data_takes_no_transfer() -> None:
    assert judged(GZ).transfer_s == 0.0


@pytest.mark.parametrize(
    ("cluster", "inputs", "fields", "expected"),
    [
        (SH, [InputData("f", product(), version(), ())], {}, ["licence_missing"]),
        (GZ, [flights(licence(jurisdictions=["CN-SH"]))], {}, ["licence_jurisdiction"]),
        (GZ, [flights(jurisdictions=["CN-SH"])], {"placement": {"clusters": ["sh-1"]}}, ["product_jurisdiction", "job_cluster"]),
        (SH, [], {"budget": "0.39 CNY"}, ["over_budget"]),
        (SH, [], {"budget": "0.40 CNY"}, []),
        (SH, [], {"budget": "5.00 USD"}, ["currency"]),
        (SH, [flights(price={"per_run": "1.00 USD"})], {"budget": "0.01 CNY"}, ["currency"]),
        (GZ, [flights(purposes=["marketing"])], {"budget": "0.01 CNY"}, ["product_purpose", "over_budget"]),
    ],
)  # fmt: skip
def test_what_stands_against_it_in_the_order_of_reasons(
    cluster: ClusterSpec, inputs: list[InputData], fields: dict[str, Any], expected: list[str]
) -> None:
    found = judged(cluster, *inputs, **fields)
    assert [against.reason.label for against in found.against] == expected
    assert found.reason.label == (expected[0] if expected else "fits")


def test_data_in_another_currency_cannot_be_quoted() -> None:
    found = judged(SH, flights(price={"per_run": "1.00 USD"}))
    assert found.quote is None
    assert [(item.message, item.remedy) for item in found.against] == [
        ("nycflights/flights is priced in USD, the cluster charges CNY", "use data priced in the cluster's currency")
    ]


def test_words_about_money_say_how_much_is_missing() -> None:
    (short,) = judged(SH, budget="0.10 CNY").against
    assert short.message == "the quote of 0.40 CNY at sh-1 is over the budget of 0.10 CNY"
    assert short.remedy == (
        "raise the budget to 0.40 CNY, or lower max_runtime or resources, or give stop_at_budget: true to be stopped before it is exceeded"
    )
    (other,) = judged(SH, budget="0.10 EUR").against
    assert (other.message, other.remedy) == ("the budget is in EUR, cluster sh-1 charges CNY", "give the budget in CNY")


def test_the_quote_is_the_ceiling_at_max_runtime_for_all_workers() -> None:
    found = judged(SH, resources={"cpu": 2, "memory": "1GiB", "workers": 3}, max_runtime="30m")
    assert str(found.quote.total if found.quote else None) == "1.14 CNY"


def test_a_replica_at_the_cluster_is_local() -> None:
    assert is_local(version(), "sh-1")
    assert not is_local(version(), "gz-1")


@pytest.mark.parametrize(
    ("rules", "asked", "reasons"),
    [
        (None, {}, [Reason.KIND_UNSUPPORTED]),
        (RayJobs(), {}, []),
        (RayJobs(), {"runtime_env": {"pip": ["x"]}}, [Reason.KIND_UNSUPPORTED]),
        (None, {"budget": "0.01 CNY"}, [Reason.KIND_UNSUPPORTED, Reason.OVER_BUDGET]),
        (None, {"placement": {"clusters": ["gz-1"]}}, [Reason.JOB_CLUSTER, Reason.KIND_UNSUPPORTED]),
    ],
)
def test_a_kind_that_a_cluster_does_not_run_stands_behind_rights_and_before_money(
    rules: RayJobs | None, asked: dict[str, Any], reasons: list[Reason]
) -> None:
    member = SH.model_copy(update={"backend": "ray", "ray_jobs": rules})
    found = judged(member, kind="ray", command=["python", "main.py"], **asked)
    assert [item.reason for item in found.against] == reasons
    assert (found.quote is not None, judged(member).against) == (True, ())


BY_JOB_API = Driver(way="job-api", why="the cluster has Ray 2.9.3, the agent 2.60.0")
SHARE = {"accelerator": {"model": "H200", "share": 0.5}}


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({}, ""),
        ({"resources": {"accelerator": {"model": "H200", "count": 2}}}, ""),
        ({"kind": "sql", "command": [], "sql": "SELECT 1"}, "a job of kind sql"),
        ({"kind": "training"}, "a job of kind training"),
        ({"resources": {"workers": 2}}, "a gang"),
        ({"resources": {"workers": {"min": 1, "max": 2}}}, "a gang"),
        ({"inputs": {"flights": "nyc/flights@1"}}, "a job with inputs"),
        ({"resources": SHARE}, "a share of an accelerator"),
    ],
)  # fmt: skip
def test_what_the_job_api_cannot_run_is_refused_there_with_the_reason(fields: dict[str, Any], missing: str) -> None:
    spec = job_spec(**fields)
    found = assess(spec, (), GZ, NOW, None, BY_JOB_API)
    assert assess(spec, (), GZ, NOW).against == ()
    if not missing:
        assert found.against == ()
        return
    (against,) = found.against
    assert against.reason is Reason.KIND_UNSUPPORTED
    assert against.message == f"the cluster is driven by Ray's Job API ({BY_JOB_API.why}), which cannot run {missing}"
    assert "run the agent on a node, with the cluster's own Ray and Python" in against.remedy


BY_CHOICE = {"asked": "auto", "engine": "daft", "workers": 3, "asked_workers": 3, "reason": "", "input_bytes": 0, "one_worker_s": 0.0}
ANY_RAY = GZ.model_copy(update={"ray_jobs": RayJobs(runtime_env=("env_vars", "py_modules", "pip"), wheelhouse="/wheels")})
A_MAP = {"kind": "map", "command": [], "files": {"step.py": "def fn(table): return table"}, "map": {"function": "step.py"}}


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({}, ""),
        ({"resources": {"workers": 2}}, ""),
        ({"kind": "sql", "command": [], "sql": "SELECT 1"}, ""),
        ({"resources": {"accelerator": {"model": "H200", "count": 2}}}, ""),
        ({"resources": {"workers": {"min": 2, "max": 8}}}, ""),
        ({"kind": "ray", "command": ["python", "main.py"], "runtime_env": {"env_vars": {"A": "1"}}}, ""),
        ({**A_MAP, "inputs": {"flights": "nyc/flights@1"}}, "a job of kind map"),
        ({"kind": "sql", "command": [], "sql": "SELECT 1", "engine": "daft"}, "a statement for Daft"),
        ({"kind": "sql", "command": [], "sql": "SELECT 1", "chosen_engine": BY_CHOICE}, "a statement for Daft"),
        ({"resources": SHARE}, "a share of an accelerator"),
        ({"kind": "ray", "command": ["python", "main.py"], "resources": {"cpu": 0.5}}, "a node of Ray with 0.5 cores"),
        ({"kind": "ray", "command": ["python", "main.py"], "runtime_env": {"pip": ["x"]}},
         "a job of kind ray that brings packages (runtime_env.pip)"),
    ],
)  # fmt: skip
def test_what_pods_cannot_run_is_refused_there_with_the_reason(fields: dict[str, Any], missing: str) -> None:
    found = assess(job_spec(**fields), (), ANY_RAY, NOW, None, BY_PODS)
    messages = [item.message for item in found.against]
    assert messages == ([f"the cluster runs pods of Kubernetes, which cannot run {missing}"] if missing else [])
    assert all(item.reason is Reason.KIND_UNSUPPORTED and item.remedy.endswith("choose a cluster of backend ray") for item in found.against)


RAY, SQL = {"kind": "ray", "command": ["python", "main.py"]}, {"kind": "sql", "command": [], "sql": "SELECT 1"}


@pytest.mark.parametrize(
    ("lack", "fields", "message"),
    [
        (Lack.KUBERAY, RAY, "the cluster has no RayJob (ray.io/v1)"),
        (Lack.RAY_RIGHT, RAY, "this agent has no right to the cluster's RayJobs"),
        (Lack.KUEUE, RAY, "the LocalQueue team-a, and the cluster has no Kueue"),
        (Lack.KUEUE, SQL, "the LocalQueue team-a, and the cluster has no Kueue"),
        (Lack.SUSPENSION, SQL, "this API server cannot suspend Jobs, so they would start past it"),
        (Lack.KUBERAY, SQL, ""), (Lack.RAY_RIGHT, SQL, ""), (Lack.SUSPENSION, RAY, ""),
    ],
)  # fmt: skip
def test_what_a_cluster_lacks_stands_against_the_jobs_that_need_it(lack: Lack, fields: dict[str, Any], message: str) -> None:
    driver = Driver(way="pods", queue="team-a", lacks=(lack,))
    found = assess(job_spec(**fields), (), ANY_RAY, NOW, None, driver).against
    assert [(item.reason, message in item.message) for item in found] == ([(Reason.KIND_UNSUPPORTED, True)] if message else [])
    assert all("ask its operator" in item.remedy for item in found)


@pytest.mark.parametrize(("limit", "refused"), [(0, False), (2600, True), (2700, False)])
def test_a_job_that_brings_more_than_a_cluster_takes_is_refused_there_with_both_sizes(limit: int, refused: bool) -> None:
    spec = job_spec(command=["sh", "main.sh"], files={"main.sh": "echo 你好\n" * 200})
    found = assess(spec, (), GZ, NOW, None, Driver(way="pods", most_code_bytes=limit)).against
    assert [(item.reason, item.message) for item in found] == [
        (Reason.KIND_UNSUPPORTED, "the job brings 2.6 KiB of files, environment and statement, and the cluster takes 2.5 KiB")
    ] * refused
    assert assess(spec, (), GZ, NOW, None, Driver(way="job-api", why="x")).against == ()
    with_store = GZ.model_copy(update={"backend": "kubernetes", "result_store": "s3://of/gz"})
    assert assess(spec, (), with_store, NOW, None, Driver(way="pods", most_code_bytes=limit)).against == ()


def test_inputs_that_fit_into_no_cache_together_are_named_with_sizes_and_a_way_out() -> None:
    a, b = (InputData(name, product(), version(number=number, sha256=name * 64), (licence(),)) for number, name in enumerate("ab", 1))
    room = Inbound(256.0, most_bytes=2 * 2**30 - 1)
    assert assess(job_spec(), [a], GZ, NOW, room).against == ()
    (found,) = assess(job_spec(), [a, b], GZ, NOW, room).against
    assert found.reason is Reason.DATA_TOO_LARGE
    assert found.message == (
        "the inputs that have to be copied there take 2.0 GiB (nycflights/flights@1 1.0 GiB, nycflights/flights@2 1.0 GiB), "
        "and its cache holds 2.0 GiB"
    )
    assert found.remedy == ("publish replicas on disks of gz-1, or have its operator raise CPN_CACHE_GIB of its agent, or run at sh-1")


@pytest.mark.parametrize(
    ("most_bytes", "uris", "refused"),
    [
        (1, {"gz-1": "/data/a"}, False),
        (1, {"gz-1": "https://gz/a"}, True),
        (1, {"sh-1": "/data/a", "gz-1": "/data/a"}, False),
        (2**30, {"sh-1": "/data/a"}, False),
        (None, {"sh-1": "/data/a"}, False),
    ],
    ids=["on a disk there", "there, and on no disk", "on a disk there too", "it just fits", "nothing is told of the cache"],
)
def test_what_lies_on_a_disk_of_the_cluster_takes_no_room_in_its_cache(most_bytes: int | None, uris: dict[str, str], refused: bool) -> None:
    replicas = [{"cluster": name, "uri": uri} for name, uri in uris.items()]
    found = assess(
        job_spec(), [InputData("f", product(), version(replicas=replicas), (licence(),))], GZ, NOW, Inbound(1.0, most_bytes=most_bytes)
    )
    assert [against.reason for against in found.against] == [Reason.DATA_TOO_LARGE] * refused


def test_a_version_that_is_read_twice_takes_its_room_once() -> None:
    twice = [flights(), InputData("again", product(), version(), (licence(),))]
    assert assess(job_spec(), twice, GZ, NOW, Inbound(1.0, most_bytes=2**30)).against == ()
