"""The package as others install it: a wheel in an environment of its own, far from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from .helpers.recordings import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-q", "-w"]
    done = subprocess.run([*build, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("skag-*.whl")
    return found


def test_the_wheel_holds_every_file_that_is_read_at_run_time(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = [path for path in (ROOT / "skag").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.relative_to(ROOT).as_posix() for path in wanted} <= names
    prompts = {path.relative_to(ROOT / "prompts").as_posix() for path in (ROOT / "prompts").rglob("*.txt")}
    assert {f"skag/prompt_files/{name}" for name in prompts} <= names


@pytest.mark.long
def test_the_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """From simulated recordings to an evaluated run. The dependencies are those of this environment."""
    where = tmp_path / "env"
    venv.create(where, with_pip=False)
    site = next((where / "lib").glob("python*")) / "site-packages"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True)
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # not its .pth of a checkout
    python, environment = where / "bin" / "python", dict(os.environ, OMP_NUM_THREADS="1")
    environment.pop("PYTHONPATH", None)

    def skag(*words: str) -> str:
        command = [str(python), "-m", "skag", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    found = subprocess.run(
        [str(python), "-c", "import skag; print(skag.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(found.stdout.strip()).is_relative_to(where)
    skag("simulate", "recordings")
    skag("convert", "recordings/recordings.pkl", "demo.h5", "--classes", "recordings/classes.txt")
    skag("describe", "demo.h5", "--llm", "measured", "--store", "d.h5")
    small = ["network.channels=16,16", "network.strides=2,2", "data.num_frames=16", "train.ema=0"]
    settings = [word for each in small for word in ("--set", each)]
    skag("train", "demo.h5", "--recipe", "demo", "--epochs", "1", *settings, "--store", "d.h5", "--out", "run")
    assert "top-1" in skag("eval", "run")
