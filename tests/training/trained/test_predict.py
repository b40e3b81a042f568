"""A trained model's answers for files, and the text that it writes on from a prompt."""

import os
from pathlib import Path

import pytest

from stoker.training.errors import TrainingError
from stoker.training.trained.load import load_trained
from stoker.training.trained.predict import files_of, predict, write
from tests.training import corpora
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, LSTM, run


def test_the_answers_for_files_are_those_of_the_evaluation_whatever_their_names(digits: Small, tmp_path: Path) -> None:
    result = run(digits, "cnn", CNN)
    trained = load_trained(digits.store, result.run, checkpoint="last", device="cpu")
    held_out = corpora.digits()[150:200]
    for sample in held_out:
        (tmp_path / "mine" / sample.key[-1]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / sample.key[-1] / sample.key).write_bytes(sample.fields["png"])
    done: list[int] = []
    answers = list(predict(trained, files_of([tmp_path / "mine"]), top=10, progress=done.append))
    assert done[-1] == len(answers) == 50
    said = {answer.path.name: answer.classes for answer in answers}
    wrong = {one["key"]: one for one in trained.info.metrics["wrong"]}
    correct = sum(said[sample.key][0][0] == sample.record["label"] for sample in held_out)
    assert correct / 50 == trained.info.metrics["accuracy"]
    for key, one in wrong.items():
        name, probability = said[key][0]
        assert name == one["predicted"]
        assert probability == pytest.approx(one["probability"], abs=1e-4)
    for classes in said.values():
        assert sum(probability for _, probability in classes) == pytest.approx(1, abs=1e-5)
        assert [probability for _, probability in classes] == sorted((one for _, one in classes), reverse=True)


def test_what_is_no_image_has_its_reason_and_stops_nothing(digits: Small, tmp_path: Path) -> None:
    trained = load_trained(digits.store, run(digits, "cnn", CNN | {"epochs": 1}).run, device="cpu")
    (tmp_path / "a.jpg").write_bytes(b"no image")
    (tmp_path / "b").write_bytes(b"")
    os.mkfifo(tmp_path / "c")
    with (tmp_path / "d").open("wb") as file:
        file.truncate(300 * 2**20)
    (tmp_path / "e").symlink_to(tmp_path / "nowhere")
    (tmp_path / "z").write_bytes(corpora.digits()[0].fields["png"])
    answers = list(predict(trained, [tmp_path / name for name in "abcdez"]))
    assert [bool(answer.problem) for answer in answers] == [True] * 5 + [False]
    assert answers[2].problem == "no regular file"
    assert answers[3].problem == "314,572,800 bytes; at most 268,435,456 are read"
    assert answers[4].to_json() == {"path": str(tmp_path / "e"), "error": "No such file or directory"}
    assert len(answers[5].classes) == 3


def test_large_files_are_not_in_memory_all_at_once(digits: Small, tmp_path: Path) -> None:
    trained = load_trained(digits.store, run(digits, "cnn", CNN | {"epochs": 1}).run, device="cpu")
    for name, size in (("a", 40), ("b", 40), ("c", 100), ("d", 300), ("e", 1), ("f", 1)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size * 2**20)
    done: list[int] = []
    answers = list(predict(trained, [tmp_path / name for name in "abcdef"], progress=done.append))
    assert [answer.path.name for answer in answers] == list("abcdef")
    assert done == [1, 2, 3, 4, 6]  # 64 MiB at once, unless a single file is larger


def test_folders_are_walked_in_order_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", ".hidden", "b/.git/x", "c/d/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = files_of([tmp_path / "b", tmp_path])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["b/1", "b/2", "a", "b/1", "b/2", "c/d/e"]
    assert files_of([tmp_path / ".hidden"]) == [tmp_path / ".hidden"]
    (tmp_path / "empty").mkdir()
    for path, message in (("none", "no such file or folder"), ("empty", "no file in it")):
        with pytest.raises(TrainingError, match=message):
            files_of([tmp_path / path])


def test_sidecars_of_a_folder_are_no_images(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.txt", "a.JSON", "b.png", "c.txt", "metadata.csv", "d/a.txt", "d/metadata.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = files_of([tmp_path])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a.jpg", "b.png", "c.txt", "d/a.txt"]
    assert files_of([tmp_path / "a.txt"]) == [tmp_path / "a.txt"]


def test_a_text_is_written_as_with_resume_and_its_options_are_its_own(handbook: Small) -> None:
    result = run(handbook, "lstm", LSTM)
    trained = load_trained(handbook.store, result.run, checkpoint="last", device="cpu")
    text = write(trained, "The ")
    assert text == run(handbook, "lstm", LSTM | {"prompt": "The "}, resume=True).sample
    assert text.startswith("The ")
    assert write(trained, "The ", seed=1) != text
    assert len(write(trained, "The ", sample_length=7, temperature=0.01).encode()) >= len(b"The ") + 7


def test_a_model_that_is_asked_for_what_it_cannot_do_says_what_it_can(digits: Small, handbook: Small) -> None:
    lstm = load_trained(handbook.store, run(handbook, "lstm", LSTM).run, device="cpu")
    cnn = load_trained(digits.store, run(digits, "cnn", CNN | {"epochs": 1}).run, device="cpu")
    with pytest.raises(TrainingError, match="model lstm has no answer for files; it writes texts: --prompt TEXT"):
        next(predict(lstm, [Path("x")]))
    with pytest.raises(TrainingError, match="model cnn writes no texts; name files for it"):
        write(cnn, "x")
