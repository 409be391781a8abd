"""Prediction: the same numbers as evaluation, reasons that are measured, and one line for every bad file."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import skag
from skag import runs
from skag.errors import DataError, RunError
from skag.inference import calibration, discriminant, evaluate, evidence, predict, recordings
from skag.inference.fusion import stream_weight
from skag.inference.loaded import load_run
from skag.inference.scores import load_predictions
from skag.methods.skeleton_agent import class_knowledge, sentences
from skag.readers.source import Unusable
from skag.skeleton.layouts import load_layout
from skag.skeleton.store import Clip, SkeletonStore, write_store

from .helpers.commands import failure, invoke
from .helpers.runs import opened, untrained
from .helpers.tiny import CLASSES, clip

CPU = torch.device("cpu")


def answers(predictor: predict.Predictor, *paths: Path, split: str | None = None, **options: object) -> list:
    items = recordings.each_recording(paths, predictor.layout, split=split)
    return list(predict.predict_recordings(predictor, items, **options))


@pytest.mark.parametrize("streams", [["j"], ["jm"], ["j", "bm"]])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_a_stores_test_clips_are_predicted_as_by_evaluation(
    streams: list[str], batch_size: int, tiny_store: Path, tmp_path: Path
) -> None:
    folders = [untrained(tiny_store, tmp_path / stream, stream, seed=n) for n, stream in enumerate(streams)]
    result = evaluate.evaluate_runs(folders, device=CPU)
    saved = [load_predictions(folder, result.split) for folder in folders]
    weights = [stream_weight(stream) for stream in streams]
    wanted = sum(w * one.probabilities for w, one in zip(weights, saved, strict=True)) / sum(weights)
    found = answers(opened(*folders, batch_size=batch_size), tiny_store, split=result.split, evidence=False)
    assert [one.name for one in found] == saved[0].names
    np.testing.assert_allclose([one.prediction.uncalibrated for one in found], wanted, atol=1e-6)


def test_measured_motion_is_asked_as_by_evaluation(run_folder: Path, tiny_store: Path) -> None:
    result = evaluate.evaluate_runs([run_folder], kinematics=True, device=CPU)
    saved, alone = load_predictions(run_folder, result.split), opened(run_folder)
    predictor = opened(run_folder, kinematics=True)
    found = answers(predictor, tiny_store, split=result.split)
    with SkeletonStore(tiny_store) as store:
        opinion = predictor.kinematics.probabilities(store, store.splits[result.split], store.layout)
    wanted = discriminant.multiply(saved.probabilities, opinion)
    np.testing.assert_allclose([one.prediction.uncalibrated for one in found], wanted, atol=1e-6)
    right = 100 * (wanted.argmax(1) == saved.labels).mean()
    assert (result.kinematics.together.top1, result.kinematics.alone.top1) == (right, 100)
    assert predictor.calibration.networks[:1] == alone.calibration.networks  # each has a calibration of its own
    assert predictor.calibration.confidences != alone.calibration.confidences
    for one in found:  # of a joint that is held still, by the network's part alone
        assert abs(one.prediction.evidence.joints[0].drop) <= 1
    still = found[0].prediction.evidence
    assert still != answers(alone, tiny_store, split=result.split)[0].prediction.evidence


def test_files_are_predicted_as_the_store_that_convert_makes_of_them(run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    clips = {f"{name}/{n}": clip(label, n) for label, name in enumerate(CLASSES) for n in range(3)}
    for name, keypoints in clips.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        gap = keypoints.copy()
        gap[0, 2, 3] = np.nan
        np.save(folder / f"{name}.npy", gap)
    invoke("convert", folder, tmp_path / "own.h5", "--layout", "kinect-v1", "--quiet")
    predictor = opened(run_folder)
    direct = answers(predictor, folder, evidence=False)
    stored = answers(predictor, tmp_path / "own.h5", evidence=False)
    assert [one.name for one in direct] == [one.name for one in stored]
    for one, other in zip(direct, stored, strict=True):
        np.testing.assert_allclose(one.prediction.uncalibrated, other.prediction.uncalibrated, atol=1e-6)
    right = [one.prediction.label == one.name.split("/")[0] for one in direct]
    assert sum(right) >= 10  # of 12


def test_an_array_is_predicted_as_a_file_of_it(run_folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "new.npy", clip(2))
    (one,) = answers(opened(run_folder), tmp_path / "new.npy")
    run = skag.load(run_folder)
    for array in (clip(2), clip(2)[0], clip(2).astype(np.float64), np.r_[clip(2), 0 * clip(2)]):
        found = run.predict(array)
        np.testing.assert_allclose(found.probabilities, one.prediction.probabilities, atol=1e-6)
        assert found.label == one.prediction.label == "raise left hand"


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((5, 20)),
        np.zeros((5, 19, 3)),
        np.zeros((0, 20, 3)),
        np.zeros((5, 20, 3)),
        np.full((5, 20, 3), np.nan),
        np.full((1, 5, 20, 3), "x"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused_in_a_line(array: np.ndarray, run_folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        skag.load(run_folder).predict(array)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("the array has")


def test_an_array_of_huge_numbers_is_odd(run_folder: Path) -> None:
    found = skag.load(run_folder).predict(np.random.default_rng(0).normal(0, 1e38, (9, 20, 3)), evidence=False)
    assert np.isfinite(found.probabilities).all() and any("unit" in remark for remark in found.odd)


def test_the_run_is_calibrated_once_on_its_held_out_clips(run_folder: Path) -> None:
    told: list[str] = []
    first = opened(run_folder, note=told.append)
    held_out = json.loads((run_folder / "data.json").read_text())["validation"]
    assert first.calibration.fitted_on == len(held_out) and told == [
        f"Calibrating on {len(held_out)} clips held out from training."
    ]
    kept = (run_folder / "calibration.json").read_text()
    assert opened(run_folder, note=told.append).calibration == first.calibration and len(told) == 1
    checkpoint = torch.load(run_folder / "best.pt", weights_only=True)
    checkpoint["model"]["class_head.bias"] += 1
    torch.save(checkpoint, run_folder / "best.pt")
    assert opened(run_folder, note=told.append).calibration != first.calibration and len(told) == 2
    assert (run_folder / "calibration.json").read_text() != kept


def test_without_its_store_a_run_is_used_as_it_is(run_folder: Path, tiny_store: Path, tmp_path: Path) -> None:
    facts = json.loads((run_folder / "data.json").read_text())
    (run_folder / "data.json").write_text(json.dumps(facts | {"store": str(tmp_path / "gone.h5")}))
    told: list[str] = []
    predictor = opened(run_folder, note=told.append)
    assert predictor.calibration is None and "not calibrated" in told[0]
    found = next(predictor.predict([recordings.cleaned(Clip("x", -1, clip(0)), predictor.layout)]))
    np.testing.assert_allclose(found.probabilities, found.uncalibrated, atol=1e-6)
    with pytest.raises(RunError, match="--data"):
        list(predict.predict_recordings(predictor, [], abstain=0.1))
    assert opened(run_folder, store=tiny_store).calibration is not None


def test_none_of_these_is_the_answer_below_the_threshold(run_folder: Path) -> None:
    predictor = opened(run_folder)
    threshold = predictor.calibration.threshold(0.25)
    run = skag.load(run_folder)
    nothing = run.predict(np.random.default_rng(0).normal(0, 0.3, (30, 20, 3)), abstain=0.25)
    surest = max((run.predict(clip(label, seed), abstain=0.25) for label in range(4) for seed in range(3)),
                 key=lambda found: found.probability)  # fmt: skip
    for found in (nothing, surest):
        assert found.threshold == threshold
        assert (found.label is None) == (found.probability < threshold)
    assert surest.label is not None
    assert run.predict(clip(0)).threshold is None


def test_the_moving_hand_carries_the_decision(run_folder: Path) -> None:
    run = skag.load(run_folder)
    found = [run.predict(clip(label, seed), every_joint=True) for label, seed in ((0, 1), (1, 2), (2, 3))]
    assert [one.label for one in found] == CLASSES[:3]
    assert [one.evidence.joints[0].joint for one in found] == ["right hand", "right hand", "left hand"]
    for one in found:
        assert len(one.evidence.joints) == 20
        if one.evidence.instead is not None:
            assert one.evidence.carried_by[0] == one.evidence.joints[0].joint
            assert one.evidence.instead[0] != one.label
        else:
            assert one.evidence.carried_by == ()
    assert any(one.evidence.instead for one in found)
    assert {one.evidence.ranked_by for one in found} == {"removal"}
    without = run.predict(clip(0), evidence=False)
    assert without.evidence is None and without.to_dict()["evidence"] is None


def test_the_drop_of_a_joint_is_that_of_a_recording_in_which_it_stands_still(run_folder: Path) -> None:
    run, layout = skag.load(run_folder), load_layout("kinect-v1")
    predictor = opened(run_folder)
    cleaned = recordings.cleaned(Clip("x", -1, clip(0)), layout)
    (prepared,) = predictor.prepare([cleaned])
    whole = run.predict(clip(0), every_joint=True)
    effect = {one.joint: one.drop for one in whole.evidence.joints}
    hand = layout.index["right hand"]
    held = evidence.held_still(prepared.rows, [hand], layout)
    assert (held[:, 0, hand] == held[0, 0, hand]).all()
    others = np.delete(np.arange(20), hand)
    assert torch.equal(held[:, :, others], prepared.rows[:, :, others])
    stiff = predictor.calibrated(predictor.uncalibrated([replace(prepared, rows=held)]))[0]
    drop = whole.probability - stiff[CLASSES.index(whole.label)]
    assert effect["right hand"] == pytest.approx(drop, abs=1e-6)
    fast = run.predict(clip(0)).evidence
    (first,) = fast.joints
    assert fast.ranked_by == "gradient" and first.drop == pytest.approx(effect[first.joint], abs=1e-6)
    assert first.joint == fast.ranking[0] and sorted(fast.ranking) == sorted(layout.joints)


@pytest.mark.parametrize("kinematics", [False, True])
def test_joints_are_ranked_by_the_slope_of_the_odds_toward_where_they_are_held_still(
    kinematics: bool, run_folder: Path, tiny_store: Path, tmp_path: Path
) -> None:
    other = untrained(tiny_store, tmp_path / "b", "b", seed=3)
    predictor = opened(run_folder, *([] if kinematics else [other]), kinematics=kinematics)
    clips = [recordings.cleaned(Clip("x", -1, clip(label)[:, : 30 - label]), predictor.layout) for label in range(2)]
    prepared, opinion = predictor.prepare(clips), predictor.opinion(clips)
    together, effects = evidence.look(predictor, prepared, opinion)
    np.testing.assert_allclose(together, predictor.uncalibrated(prepared, opinion), atol=1e-9)

    def odds(share: float, joint: int) -> np.ndarray:
        moved = []
        for each in prepared:
            rows = each.rows.split(each.frames.tolist())
            held = torch.cat([evidence.held_still(one, [joint], predictor.layout) for one in rows])
            moved.append(replace(each, rows=each.rows + share * (held - each.rows)))
        found = predictor.calibrated(predictor.uncalibrated(moved, opinion))
        p = found[np.arange(2), together.argmax(1)]
        return np.log(p) - np.log1p(-p)

    for joint in (predictor.layout.index["right hand"], predictor.layout.index["left knee"]):
        slope = (odds(0.01, joint) - odds(-0.01, joint)) / 0.02
        np.testing.assert_allclose(effects[:, joint], slope, rtol=0.05, atol=0.02)


def test_reasons_take_few_looks_and_what_they_print_is_measured(run_folder: Path) -> None:
    predictor = opened(run_folder)
    clips = [recordings.cleaned(Clip("x", -1, clip(label % 4, label)), predictor.layout) for label in range(11)]
    network, looks = predictor.runs[0].model, []
    network.register_forward_hook(lambda _, inputs, __: looks.append(len(inputs[0])))
    list(predictor.predict(clips, evidence=False))
    single = sum(looks)
    found = list(predictor.predict(clips))
    assert sum(looks) - single == single * (1 + 3)  # and one pass back
    assert any(one.evidence.instead for one in found)
    for one, item in zip(found, clips, strict=True):
        if one.evidence.instead is None:
            continue
        held = [predictor.layout.index[name] for name in one.evidence.carried_by]
        (prepared,) = predictor.prepare([item])
        rows = evidence.held_still(prepared.rows, held, predictor.layout)
        (stiff,) = predictor.calibrated(predictor.uncalibrated([replace(prepared, rows=rows)]))
        name, probability = one.evidence.instead
        assert predictor.classes[int(stiff.argmax())] == name != one.likeliest
        assert stiff.max() == pytest.approx(probability, abs=1e-5)


def test_without_a_gradient_every_joint_is_measured(run_folder: Path) -> None:
    predictor = opened(run_folder)
    whole = recordings.cleaned(Clip("x", -1, clip(0)), predictor.layout)
    (measured,) = predictor.predict([whole], every_joint=True)
    run = predictor.runs[0]

    class Silent:
        model = run.model

        def log_scores(self, x: torch.Tensor, candidates: object = None) -> torch.Tensor:
            return run.classifier.log_scores(x).detach()

    silent = replace(predictor, runs=(replace(run, classifier=Silent()),))
    (found,) = silent.predict([whole])
    assert found.evidence == measured.evidence


def test_joints_that_were_not_seen_stay_unseen_when_held_still() -> None:
    layout = load_layout("coco")
    rows = torch.rand(6, 2, 17, 3) + 1
    rows[2, 0, 9] = 0
    rows[:, 1] = 0
    held = evidence.held_still(rows, [9, 10], layout)
    assert (held[2, 0, 9] == 0).all() and (held[:, 1] == 0).all()
    assert torch.equal(held[..., 2], rows[..., 2])  # confidences
    seen = [0, 1, 3, 4, 5]
    torch.testing.assert_close(held[seen, 0, 9, :2], rows[seen, 0, 9, :2].mean(0).expand(5, 2))


def test_sentences_are_those_that_the_kept_network_was_trained_with(run_folder: Path) -> None:
    run = load_run(run_folder, CPU)
    later = [key for record in runs.read_lines(run_folder / "refreshes.jsonl") for key in record["exchanges"]]
    assert later
    (run_folder / class_knowledge.FILE).unlink()  # as a run of version 0.1.0

    def change(name: str, sentence: str) -> dict:
        return {"class": name, "sentence": sentence, "joints": []}

    refreshes = [
        {"epoch": 2, "exchanges": later, "changed": [change(CLASSES[0], "early")]},
        {"epoch": 3, "effective": 5, "exchanges": [], "changed": [change(CLASSES[0], "late")]},
        {"epoch": 8, "exchanges": [], "changed": [change(CLASSES[1], "too late")]},
    ]
    (run_folder / "refreshes.jsonl").write_text("".join(json.dumps(one) + "\n" for one in refreshes))
    said = {}
    for kept in (2, 3, 5, 9):
        torch.save({"model": run.model.state_dict(), "epoch": kept}, run_folder / "best.pt")
        said[kept] = sentences(load_run(run_folder, CPU))
        assert set(said[kept]) == set(CLASSES)
    assert [said[kept][CLASSES[0]] for kept in (3, 5)] == ["early", "late"]
    assert said[2][CLASSES[0]].startswith("The key features of raise right hand")
    assert said[9][CLASSES[1]] == "too late" and said[5][CLASSES[1]] == said[2][CLASSES[1]]
    (run_folder / "refreshes.jsonl").write_text("[]\n")
    with pytest.raises(RunError, match="damaged"):
        sentences(run)
    for name in ("refreshes.jsonl", "dialogues.jsonl"):
        (run_folder / name).unlink()
    assert sentences(run) == {}


def test_runs_of_other_classes_or_joints_are_not_fused(run_folder: Path, tiny_store: Path, tmp_path: Path) -> None:
    other = untrained(tiny_store, tmp_path / "other")
    facts = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(facts | {"classes": CLASSES[::-1]}))
    with pytest.raises(RunError, match="other classes"):
        opened(run_folder, other)
    facts["layout"] = load_layout("nturgb+d").to_dict()
    (other / "config.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match="layout"):
        opened(run_folder, other)


def test_a_run_is_not_fused_with_itself(run_folder: Path) -> None:
    with pytest.raises(RunError, match="is given twice"):
        opened(run_folder, run_folder / ".." / run_folder.name)


def test_fused_runs_have_a_calibration_of_their_own(tiny_store: Path, tmp_path: Path) -> None:
    folders = [untrained(tiny_store, tmp_path / stream, stream) for stream in ("j", "b")]
    together = opened(*folders)
    assert together.calibration.networks == tuple(map(calibration.network_hash, folders))
    assert [path.name for path in sorted(folders[0].glob("calibration*"))] != ["calibration.json"]
    elsewhere = untrained(tiny_store, tmp_path / "other", "b", held_out=range(5, 9), seed=1)
    assert opened(folders[0], elsewhere).calibration is None


# ---- the command


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Good and bad recordings by what is wrong with them."""
    folder = tmp_path / "files"
    folder.mkdir()
    found = {name: folder / f"{name}.npy" for name in ("good", "also-good", "joints", "empty", "nobody", "cut")}
    np.save(found["good"], clip(0, 1))
    np.save(found["also-good"], clip(2, 3))
    np.save(found["joints"], np.ones((9, 25, 3)))
    np.save(found["empty"], np.zeros((0, 20, 3)))
    np.save(found["nobody"], np.zeros((9, 20, 3)))
    found["cut"].write_bytes(found["good"].read_bytes()[:-7])
    found["text"] = folder / "text.txt"
    found["text"].write_text("nothing")
    found["gone"] = folder / "gone.npy"
    found["layout"] = folder / "layout.h5"
    with write_store(found["layout"], load_layout("nturgb+d")) as writer:
        writer.add(Clip("x", 0, np.ones((1, 3, 25, 3), np.float32)))
        writer.finish(["a"])
    return found


def test_a_bad_file_is_one_line_and_the_others_go_on(
    run_folder: Path, files: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["skag", "predict", str(run_folder), *map(str, files.values()), "--json", "-q"])
    with pytest.raises(SystemExit) as caught:
        skag.cli.main()
    printed = capsys.readouterr()
    assert caught.value.code == 1 and "Traceback" not in printed.err
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [Path(line["file"]).stem for line in lines] == [path.stem for path in files.values()]
    assert [line["label"] for line in lines[:2]] == ["raise right hand", "raise left hand"]
    assert all("error" in line for line in lines[2:])
    told = printed.err.splitlines()
    assert len(told) == len(files) - 2 + 1
    assert told[-1].startswith(f"skag: recordings or files that could not be used: {len(files) - 2}, predicted: 2;")
    for line, words in zip(told, ("20", "no frames", "no joint", "needs", "no reader", "does not exist", "nturgb+d"),
                           strict=False):  # fmt: skip
        assert words in line and line.startswith("skag: ")


def test_every_recording_of_a_folder_with_several_formats_has_its_line(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    np.save(folder / "array.npy", clip(0, 1))
    lines = [",".join(f"{v}_{axis}" for v in range(20) for axis in "xyz"), *(",".join(map(str, row)) for row in
             clip(2, 3)[0].reshape(-1, 60))]  # fmt: skip
    (folder / "table.csv").write_text("\n".join(lines))
    for number in range(6):
        (folder / f"broken{number}.csv").write_text("")
    code, printed = failure(monkeypatch, capsys, "predict", run_folder, folder, "--no-reasons")
    assert code == 1 and "could not be used: 6, predicted: 2;" in printed
    assert all(f"broken{number}.csv" in printed for number in range(6))


def test_a_reason_that_all_recordings_share_is_said_once(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    for number in range(5):
        np.save(folder / f"{number}.npy", np.ones((9, 25, 3)))
    code, printed = failure(monkeypatch, capsys, "predict", run_folder, folder)
    first, last = printed.splitlines()[-2:]
    assert code == 1 and printed.count("25 joints") == 1 and "could not be used: 5, predicted: 0;" in last
    assert first.startswith("skag: all 5 recordings fail for the same reason; the first, ") and ": 0 has 25 " in first
    np.save(folder / "5.npy", clip(0, 1))
    code, printed = failure(monkeypatch, capsys, "predict", run_folder, folder, "--no-reasons")
    assert code == 1 and printed.count("25 joints") == 5 and "predicted: 1;" in printed
    for number in range(2, 6):
        (folder / f"{number}.npy").unlink()
    assert failure(monkeypatch, capsys, "predict", run_folder, folder)[1].count("25 joints") == 2


def test_the_table_for_people(run_folder: Path, files: dict) -> None:
    shown = invoke("predict", run_folder, files["good"], files["also-good"])
    row = next(line for line in shown.splitlines() if " good " in line)
    assert "raise right hand" in row and re.search(r"right hand( \(|.* \d+ points)", row)
    assert "What the dialogue says of these classes:\n  raise right hand: " in shown
    plain = invoke("predict", run_folder, files["good"], "--no-reasons")
    assert "carried by" not in plain and "raise right hand" in plain


def test_json_lines_hold_everything(run_folder: Path, files: dict) -> None:
    (line,) = invoke("predict", run_folder, files["good"], "--abstain", 0.5, "--json", "-q").splitlines()
    found = json.loads(line)
    assert set(found) == {
        "file",
        "recording",
        "frames",
        "label",
        "top",
        "threshold",
        "sentence",
        "odd",
        "evidence",
        "calibrated",
    }
    assert found["calibrated"] and sum(one["probability"] for one in found["top"]) == pytest.approx(1)
    assert set(found["evidence"]) == {"joints", "carried_by", "instead", "ranking", "ranked_by"}
    assert found["label"] in (found["top"][0]["class"], None)


def test_usage_that_makes_no_sense_is_refused(
    run_folder: Path, files: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for options, words in (
        (["--window", "3"], "3s"),
        (["--window", "0s"], "no time span"),
        (["--window", "1.5f"], "no time span"),
        (["--stride", "1s"], "--window"),
        (["--abstain", "0.9"], "0.5"),
        (["--every-joint", "--no-reasons"], "--no-reasons"),
    ):
        code, line = failure(monkeypatch, capsys, "predict", run_folder, files["good"], *options)
        assert code == 2 and words in line
    code, line = failure(monkeypatch, capsys, "predict", run_folder, files["good"], "--split", "x")
    assert code == 1 and "leave --split out" in line


def test_cleaned_recordings_are_what_a_store_holds(tiny_store: Path) -> None:
    with SkeletonStore(tiny_store) as store:
        keypoints = store.keypoints(0)
        clean = recordings.cleaned(Clip("x", -1, np.r_[keypoints, 0 * keypoints].astype(np.float64)), store.layout)
        np.testing.assert_array_equal(clean.keypoints, keypoints)
    gap = keypoints.copy()
    gap[0, 1, 2] = np.nan
    given = gap.copy()
    assert not recordings.cleaned(Clip("x", -1, given), load_layout("kinect-v1")).keypoints[0, 1, 2].any()
    np.testing.assert_array_equal(given, gap)  # the caller's array stays as it is
    with pytest.raises(Unusable, match="confidence"):
        recordings.cleaned(Clip("x", -1, keypoints, np.ones((1, 3, 20))), load_layout("kinect-v1"))


def test_a_long_numpy_file_stays_on_the_disk(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "long.npy", clip(0))
    layout = load_layout("kinect-v1")
    monkeypatch.setattr(recordings, "MAX_ROW", 100)
    (found,) = recordings.each_recording([tmp_path / "long.npy"], layout)
    assert isinstance(found.clip.keypoints, np.memmap) and found.clip.name == "long"
    data = (tmp_path / "long.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(data[:-9])
    np.save(tmp_path / "objects.npy", np.array([{}] * 200, object), allow_pickle=True)
    for name in ("cut", "objects"):
        (found,) = recordings.each_recording([tmp_path / f"{name}.npy"], layout)
        assert isinstance(found, recordings.Failure) and "damaged" in found.reason


def test_a_long_recording_of_utkinect_needs_no_labels(run_folder: Path, tmp_path: Path) -> None:
    rows = ["{} {}".format(4 * n, " ".join(map(str, frame.ravel()))) for n, frame in enumerate(clip(0)[0])]
    (tmp_path / "joints_s01_e02.txt").write_text("\n".join(rows))
    (one,) = answers(opened(run_folder), tmp_path / "joints_s01_e02.txt")
    assert (one.name, one.frames, one.prediction.label) == ("s01_e02", 14, "raise right hand")


# ---- the examples of docs/predict.md


def examples(kind: str) -> list[str]:
    """The code blocks of a kind; the first blocks of commands have none."""
    text = (Path(__file__).parents[1] / "docs" / "predict.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def as_in_the_docs(run_folder: Path, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    run_folder.rename("runs/ucla-j")
    untrained(tiny_store, Path("runs/ucla-b"), "b")
    np.save("tomorrow.npy", clip(0))
    np.save("long.npy", np.concatenate([clip(0, 1, 100), clip(2, 2, 100)], 1))


@pytest.mark.parametrize("number", range(len(examples("python"))))
def test_python_examples_run(number: int, as_in_the_docs: None, capsys: pytest.CaptureFixture) -> None:
    exec(compile(examples("python")[number], f"docs/predict.md, example {number}", "exec"), {})
    assert "right hand" in capsys.readouterr().out


@pytest.mark.parametrize("command", re.findall(r"^skag (.*)$", "".join(examples("")), re.MULTILINE))
def test_commands_run(command: str, as_in_the_docs: None) -> None:
    assert "hand" in invoke(*shlex.split(command))


def test_derived_joints_are_added_as_a_store_adds_them(tmp_path: Path) -> None:
    layout = load_layout("coco-17+3")
    recorded = np.random.default_rng(0).uniform(1, 9, (1, 4, 17, 2)).astype(np.float32)
    confidence = np.full((1, 4, 17), 0.5, np.float32)
    with write_store(tmp_path / "x.h5", layout) as writer:
        writer.add(Clip("x", 0, recorded, confidence))
        writer.finish(["a"])
    clean = recordings.cleaned(Clip("x", -1, recorded, confidence), layout)
    with SkeletonStore(tmp_path / "x.h5") as store:
        np.testing.assert_array_equal(clean.keypoints, store.keypoints(0))
        np.testing.assert_array_equal(clean.confidence, store.confidence(0))
