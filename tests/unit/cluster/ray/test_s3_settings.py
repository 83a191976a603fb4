"""Who has the settings of S3: nodes that cpn starts have them, tasks of users' programs have no credentials."""

from __future__ import annotations

from pathlib import Path

from cluster.backends.ray.local import LocalRay
from cluster.backends.ray.script_host import ray_environment
from tests.s3 import only

SETTINGS = {"CPN_S3_ENDPOINT": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


def test_a_head_of_ours_has_them(tmp_path: Path) -> None:
    head = LocalRay("one", tmp_path, cpus=1, memory_bytes=1)
    head._temporary = tmp_path
    with only(SETTINGS):
        assert SETTINGS.items() <= head._environment().items()
    with only({}):
        assert [name for name in head._environment() if name.startswith("AWS_")] == []


def test_tasks_of_a_program_have_no_credentials(tmp_path: Path) -> None:
    run = {"runtime_env": {"env_vars": {"MINE": "1"}}, "ray_jobs": None}
    with only(SETTINGS):
        assert ray_environment(run, tmp_path) == {"env_vars": {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "MINE": "1"}}
    with only({}):
        assert ray_environment({"runtime_env": None, "ray_jobs": None}, tmp_path) == {}
