"""`manage.py score_routing` and `train_routing`, and the outcomes they read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from proxy.complexity.outcomes import BadOutcomes, Outcome, Question, read_table, sets
from proxy.complexity.scoring import loads, score, shipped

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
OUTCOMES = SHARED / "routing" / "outcomes.csv.gz"
HEADER = "task,prompt,weak_correct,strong_correct"

needs_outcomes = pytest.mark.skipif(not OUTCOMES.exists(), reason=f"no outcomes to train on: {OUTCOMES} is absent")


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def run(command: str, **options: object) -> str:
    out = io.StringIO()
    call_command(command, stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Forty questions; of those of MMLU the long ones gain, of GSM8K none does."""
    source = random.Random(7)  # noqa: S311 - the same draws every time
    rows = io.StringIO()
    table = csv.writer(rows)
    table.writerow(HEADER.split(","))
    for at in range(40):
        words = source.randint(3, 80)
        prompt = (
            "Why is it, " + " ".join(source.choice(("this", "is", "long,", "7", "x")) for _ in range(words)) + "?\nA. x\nB. y"
        )
        maths = at % 4 == 0
        table.writerow(["gsm8k" if maths else "nutrition", prompt, maths or words < 40, True])
    return write(tmp_path / "outcomes.csv", rows.getvalue())


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_a_table_is_read_gzipped_or_not(tmp_path: Path, name: str) -> None:
    text = f'{HEADER}\nastronomy,"Is it\nred, ""or"" not?",True,False\ngsm8k,2 + 2?,False,True\n'
    table = read_table(write(tmp_path / name, text))
    assert table.questions == [Question("astronomy", 'Is it\nred, "or" not?'), Question("gsm8k", "2 + 2?")]
    assert table.outcomes == [Outcome(True, False), Outcome(False, True)]


def test_columns_may_stand_in_any_order_and_outcomes_be_missing(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "rows.csv", "prompt,extra,task\nWhy?,1,law\n"))
    assert table.questions == [Question("law", "Why?")]
    assert table.outcomes == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "lacks the column prompt, task"),
        ("task,weak_correct\nlaw,True\n", "lacks the column prompt"),
        (f"{HEADER}\nlaw,Why?,True,True\nlaw,Why?,yes,True\n", "row 2: 'yes' is neither True nor False"),
        (f"{HEADER}\nlaw,Why?,True\n", "row 1: None is neither True nor False"),
        (f'{HEADER}\nlaw,"Why?,True,True\n', "unexpected end of data"),
    ],
)
def test_what_is_no_table_of_outcomes_is_told_with_its_place(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BadOutcomes, match=reason):
        read_table(write(tmp_path / "rows.csv", text))


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"\x1f\x8bgarbage", gzip.compress(b"task,prompt\n" * 99, mtime=0)[:-9]], ids=range(3)
)
def test_a_broken_file_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(BadOutcomes, match=r"rows\.csv"):
        read_table(path)


def test_subjects_and_grade_school_maths_are_judged_apart() -> None:
    questions = [Question(task, "Why?") for task in ("law", "gsm8k", "nutrition")]
    assert sets(questions) == {"all": [0, 1, 2], "mmlu": [0, 2], "gsm8k": [1]}


def test_every_row_gets_its_score(tmp_path: Path, questions: Path) -> None:
    out = tmp_path / "scores.json"
    said = run("score_routing", csv=questions, out=out)
    assert json.loads(out.read_text()) == [score(question.prompt) for question in read_table(questions).questions]
    assert said.splitlines()[0] == "Scored 40 prompts."


def test_what_the_scores_are_worth_is_said_where_the_outcomes_are_known(tmp_path: Path, questions: Path) -> None:
    _, everything, mmlu, maths = run("score_routing", csv=questions, out=tmp_path / "scores.json").splitlines()
    assert everything.startswith("all: 40 questions, APGR 0.")
    assert everything.endswith("% of the strong model's calls saved at 95% of its accuracy")
    assert maths == "gsm8k: 10 questions, no gap between the two models"
    assert mmlu.startswith("mmlu: 30 questions, APGR 0.")


def test_nothing_is_said_of_prompts_without_outcomes(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.csv", "task,prompt\nlaw,Why?\n")
    assert run("score_routing", csv=rows, out=tmp_path / "scores.json") == "Scored 1 prompts.\n"


@pytest.mark.parametrize("command", ["score_routing", "train_routing"])
def test_a_file_that_cannot_be_read_is_an_error_of_one_line(tmp_path: Path, command: str) -> None:
    with pytest.raises(CommandError, match="No such file"):
        run(command, csv=tmp_path / "absent.csv", out=tmp_path / "out")
    with pytest.raises(CommandError, match="lacks the column"):
        run(command, csv=write(tmp_path / "rows.csv", "a,b\n"), out=tmp_path / "out")


def test_there_is_nothing_to_learn_without_outcomes(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no outcomes to learn from"):
        run("train_routing", csv=write(tmp_path / "rows.csv", "task,prompt\nlaw,Why?\n"), out=tmp_path)


def test_training_writes_a_model_and_its_figures(tmp_path: Path, questions: Path) -> None:
    run("train_routing", csv=questions, out=tmp_path, no_figures=True)
    assert not (tmp_path / "figures.json").exists()
    model = loads((tmp_path / "model.json").read_text())
    assert model.weights["characters"].weak > 0
    assert model.weights.keys() < shipped().weights.keys()


def test_scoring_needs_no_server_and_no_secret(tmp_path: Path, questions: Path) -> None:
    """A fresh clone can do it: nothing in the environment, no state folder."""
    out = tmp_path / "scores.json"
    command = [sys.executable, "manage.py", "score_routing", "--csv", str(questions), "--out", str(out)]
    environment = {"PATH": os.environ["PATH"], "GATEHOUSE_HOME": str(tmp_path / "nowhere")}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    assert len(json.loads(out.read_text())) == 40


@needs_outcomes
def test_the_shipped_model_is_what_training_makes_of_the_outcomes(tmp_path: Path) -> None:
    run("train_routing", csv=OUTCOMES, out=tmp_path, no_figures=True)
    again = loads((tmp_path / "model.json").read_text())
    for name, weight in shipped().weights.items():
        assert tuple(again.weights[name]) == pytest.approx(tuple(weight), rel=1e-3, abs=1e-4)
    assert again.steps == pytest.approx(shipped().steps, abs=1e-3)


@needs_outcomes
def test_our_figures_are_those_of_whoever_judges_the_scores(tmp_path: Path) -> None:
    header, *rows = list(csv.reader(io.StringIO(gzip.decompress(OUTCOMES.read_bytes()).decode(), newline="")))
    some = io.StringIO()
    csv.writer(some).writerows([header, *rows[::8]])
    sample, out = write(tmp_path / "some.csv.gz", some.getvalue()), tmp_path / "scores.json"
    said = run("score_routing", csv=sample, out=out)
    judge = [sys.executable, str(SHARED / "score.py"), "routing", str(sample), str(out)]
    judged = json.loads(subprocess.run(judge, check=True, capture_output=True, text=True).stdout)
    assert judged["all"] > 0.55
    for name, value in judged.items():
        found = re.search(rf"^{name}: .*APGR (0\.\d+)", said, re.MULTILINE)
        assert found
        assert float(found[1]) == pytest.approx(value, abs=1e-4)
