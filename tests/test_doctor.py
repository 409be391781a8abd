"""What `skag doctor` finds, on machines that have it and machines that do not."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from skag import doctor
from skag.backends import PROVIDERS
from skag.cli import app

from .helpers.recordings import ROOT
from .helpers.servers import serve


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without keys, servers and caches."""
    monkeypatch.chdir(tmp_path)
    for provider in PROVIDERS.values():
        monkeypatch.delenv(provider.key, raising=False)
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name in packages:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)


def test_the_lists_of_packages_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}

    assert set(doctor.REQUIRED) == names(project["dependencies"])
    extras = {extra: names(wanted) for extra, wanted in project["optional-dependencies"].items() if extra != "dev"}
    assert {extra: set(packages) for extra, (packages, _) in doctor.EXTRAS.items()} == extras


def test_the_clip_weights_are_those_that_open_clip_names() -> None:
    from skag.text import open_clip as text_open_clip

    text_open_clip.import_open_clip()
    published = text_open_clip._published("ViT-B-32", None)
    assert published["hf_hub"].rstrip("/") == doctor.CLIP and published["tag"] == "openai"
    assert doctor.CLIP_FILES == text_open_clip._HUB_NAMES


def test_everything_is_named_and_nothing_that_is_needed_is_missing_here() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    wanted = {"Python", "Packages", "Device", "Memory", "Threads", "Ollama", "API keys", "CLIP weights"}
    assert wanted | {"Text encoders", "Extra onnx", "Caches", "Free disk"} <= findings.keys()
    assert findings["Device"]["facts"]["torch"] == torch.__version__
    assert all(finding["advice"] for finding in findings.values() if finding["state"] != "ok")
    shown = CliRunner().invoke(app, ["doctor"]).stdout
    assert "ollama serve" in shown and torch.__version__ in shown


def test_a_missing_package_is_wrong_and_an_optional_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "h5py", "onnxruntime", "transformers")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "pip install h5py" in result.stdout and "pip install 'skag[onnx]'" in result.stdout
    states = [doctor.packages().state, doctor.optional_packages("onnx").state, doctor.sentence_encoders().state]
    assert states == ["wrong", "missing", "missing"]


def test_keys_are_told_to_be_set_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.api_keys().state == "missing"
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-verysecret")
    monkeypatch.setenv("OLLAMA_HOST", "http://me:verysecret@far.example:11434")
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert "verysecret" not in result.output and "set: DEEPSEEK_API_KEY" in result.stdout
    assert doctor.api_keys().facts == {p.key: p.key == "DEEPSEEK_API_KEY" for p in PROVIDERS.values()}


def test_ollama_and_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve("ollama") as server:
        monkeypatch.setenv("OLLAMA_HOST", server.address)
        server.installed |= {"qwen3:8b"}
        assert doctor.ollama_server().facts["models"] == ["qwen3:8b", "tiny:latest"]
        server.installed.clear()
        assert "ollama pull" in doctor.ollama_server().advice
    gone = doctor.ollama_server()
    assert gone.state == "missing" and gone.found == f"no server answers at {server.address}"
    monkeypatch.setenv("OLLAMA_HOST", "http://[bad")
    assert doctor.ollama_server(network=True).state == "missing"


def test_no_other_machine_is_spoken_to_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("ollama.Client", lambda **options: asked.append("ollama"))
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *given, **options: asked.append("hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    monkeypatch.setenv("OLLAMA_HOST", "far.example")
    doctor.examine()
    assert asked == []
    doctor.examine(network=True)
    assert asked == ["ollama", "hub"]


def test_clip_weights_in_the_hubs_cache_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not on this machine" in doctor.clip_weights().found
    weights = tmp_path / "weights"
    weights.write_bytes(b"0" * 3 * 1024**2)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, file: str(weights))
    found = doctor.clip_weights()
    assert (found.state, found.facts["bytes"]) == ("ok", 3 * 1024**2) and "3.0 MB" in found.found


def test_caches_and_disk_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "dialogues.h5").write_bytes(b"0" * 5000)
    assert doctor.caches(Path("cache")).facts["cache"] == 5000
    (tmp_path / "cache" / "prepared").mkdir()
    (tmp_path / "cache" / "prepared" / "a.clips").write_bytes(b"0" * 2000)
    found = doctor.caches(Path("cache"))
    assert found.facts["cache"] == 7000 and "cache/prepared 2 KB" in found.found
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1))
    assert doctor.disk().found == "1 B" and "make room" in doctor.disk().advice


@pytest.mark.parametrize(
    ("has", "told"), [({"avx512_bf16": True, "amx_bf16": False}, True), ({"avx2": True}, False), (None, None)]
)
def test_a_processor_that_multiplies_bf16_is_told(
    has: dict[str, bool] | None, told: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    if has is None:
        monkeypatch.delattr("torch.cpu.get_capabilities", raising=False)
    else:
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: has, raising=False)
    found = doctor.device()
    assert found.facts["multiplies_bf16"] is told
    assert ("train.precision=bf16" in found.found) == bool(told)


def test_a_card_that_this_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    found = doctor.device()
    assert found.state == "missing" and "built without CUDA" in found.advice
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert doctor.device().state == "ok"
