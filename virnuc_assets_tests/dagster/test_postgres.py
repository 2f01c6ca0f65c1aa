"""The deployment that keeps runs and events in Postgres, with a real server of its own."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from virnuc_assets.demo import sample
from virnuc_assets_tests.dagster.platform import REPOSITORY, Platform

pytestmark = [pytest.mark.slow, pytest.mark.platform]

PROGRAMS = [shutil.which(name) for name in ("initdb", "pg_ctl")]


@contextmanager
def connection(port, database):
    import psycopg2

    opened = psycopg2.connect(host="127.0.0.1", port=port, user="virnuc", dbname=database)
    opened.autocommit = True
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="module")
def database():
    """The port of a server with an empty database; it runs as nobody where we are root."""
    pytest.importorskip("psycopg2", reason="pip install '.[postgres]' brings it")
    if None in PROGRAMS:
        pytest.skip("no Postgres server here: initdb and pg_ctl are not on the PATH")
    initdb, pg_ctl = PROGRAMS
    is_root = os.geteuid() == 0
    user = pwd.getpwnam("nobody") if is_root else pwd.getpwuid(os.geteuid())
    as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if is_root else {}
    folder = Path(tempfile.mkdtemp(prefix="virnuc-pg-"))
    os.chown(folder, user.pw_uid, user.pw_gid)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
    data = folder / "pg"
    start = ["--log", folder / "pg.log", "--options", options, "--wait", "start"]
    for command in (
        [initdb, "--pgdata", data, "--username", "virnuc", "--auth", "trust"],
        [pg_ctl, "--pgdata", data, *start],
    ):
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, **as_user)
    try:
        with connection(port, "postgres") as to_server, to_server.cursor() as cursor:
            cursor.execute("CREATE DATABASE virnuc")
        yield port
    finally:
        stop = [pg_ctl, "--pgdata", data, "--mode", "immediate", "stop"]
        subprocess.run(stop, cwd=folder, check=True, stdout=subprocess.DEVNULL, **as_user)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def platform(database, tmp_path_factory):
    yaml = (REPOSITORY / "deploy" / "postgres" / "dagster.yaml").read_text()
    assert "port: 5432" in yaml
    platform = Platform(
        tmp_path_factory.mktemp("platform"), yaml.replace("port: 5432", f"port: {database}")
    )
    platform.environ["VIRNUC_POSTGRES_PASSWORD"] = "the server trusts whoever asks"
    platform.start()
    yield platform
    platform.stop()


def test_the_demo_sample_goes_from_the_inbox_to_its_report(platform):
    platform.layout.inbox.mkdir(exist_ok=True)
    shutil.copy(sample.FASTA, platform.layout.inbox / "demo.fa")
    platform.until("a report on the demo", lambda: platform.has_report("demo"))
    platform.until("all runs end", platform.all_runs_succeeded)


def test_a_backfill_takes_three_samples(platform):
    platform.backfill_by_jobs(["one", "two", "three"])


def test_runs_and_events_are_in_postgres_alone(platform, database):
    with connection(database, "virnuc") as opened, opened.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM runs WHERE status = 'SUCCESS'")
        assert cursor.fetchone() == (len(platform.runs()),)
        cursor.execute("SELECT count(*) FROM event_logs WHERE asset_key IS NOT NULL")
        assert cursor.fetchone()[0] > 0
    assert list(platform.home.rglob("*.db")) == []
