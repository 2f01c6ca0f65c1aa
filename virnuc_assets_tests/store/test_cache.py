import pytest

from virnuc_assets.errors import StoreError
from virnuc_assets.store.cache import cache_folder, local_file, publish_file
from virnuc_assets.store.digests import sha256_file


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "proteins.arrow"
    path.write_bytes(b"sequences" * 1000)
    return path


def test_a_file_is_published_once_and_fetched_once(table, url, proxy, tmp_path):
    sha256, cache = sha256_file(table), tmp_path / "cache"
    where = publish_file(table, url, sha256)
    assert where == f"{url}/{sha256}/proteins.arrow"
    assert publish_file(table, url, sha256) == where
    assert proxy.count("PUT") == 1
    found = [local_file(where, sha256, cache) for _ in range(3)]
    assert set(found) == {cache / sha256 / "proteins.arrow"}
    assert found[0].read_bytes() == table.read_bytes()
    assert proxy.count("GET", "proteins.arrow") == 1


def test_a_damaged_copy_is_fetched_again(table, url, tmp_path):
    sha256 = sha256_file(table)
    where = publish_file(table, url, sha256)
    local_file(where, sha256, tmp_path / "cache").write_bytes(b"rotten")
    found = local_file(where, sha256, tmp_path / "cache")
    assert found.read_bytes() == table.read_bytes()


def test_another_object_under_the_name_is_refused(table, url, objects, tmp_path):
    sha256 = sha256_file(table)
    where = publish_file(table, url, sha256)
    objects.write(f"{sha256}/proteins.arrow", b"others")
    with pytest.raises(StoreError, match=r"proteins\.arrow: does not match its SHA-256"):
        local_file(where, sha256, tmp_path / "cache")
    assert publish_file(table, url, sha256) == where
    assert local_file(where, sha256, tmp_path / "cache").exists()


def test_a_path_is_itself(table, tmp_path):
    assert local_file(str(table), "0", tmp_path / "cache") == table
    assert not (tmp_path / "cache").exists()


def test_where_the_cache_is(tmp_path):
    assert cache_folder({"VIRNUC_CACHE": str(tmp_path)}) == tmp_path
    assert cache_folder({"XDG_CACHE_HOME": "/a/cache"}).as_posix() == "/a/cache/virnuc"
    assert cache_folder({}).parts[-2:] == (".cache", "virnuc")
