"""Reports of sweeps with damage: said, and never taken for a result."""

import json
import re

import pytest

from hepcli.config import dump_config, load_config
from hepcli.errors import ConfigError, OutputError, SweepError
from hepcli.experiments.sweeps.report import report

from .fakes import fake_ordinary_run, fake_sweep


def test_a_summary_of_another_configuration_is_left_out_by_name(tmp_path):
    fake_ordinary_run(tmp_path / "a", 0.5)
    fake_ordinary_run(tmp_path / "b", 0.6, ("run.seed=1",))
    (tmp_path / "a" / "config.toml").write_text(dump_config(load_config("quickstart", ("run.epochs=99",))))
    made = report(tmp_path)
    assert "a/summary.json does not match the config.toml next to it" in made.notices[0]
    assert made.record["runs"]["done"] == 1


@pytest.mark.parametrize(
    "text", [b"", b"\xff", b"[]", b"null", b"[3]", b"{}", b'[{"hash": "a"}]', b"[" * 100_000, None, "../out"]
)
def test_a_damaged_list_of_points_is_said(tmp_path, text):
    fake_sweep(tmp_path, [None] * 18)
    file = tmp_path / "points.json"
    if text is None:
        file.unlink()
    elif isinstance(text, str):
        records = json.loads(file.read_bytes())
        file.write_text(json.dumps([records[0] | {"folder": text}]))
    else:
        file.write_bytes(text)
    with pytest.raises(SweepError, match=r"points\.json"):
        report(tmp_path)


def test_points_of_another_definition_are_said(tmp_path):
    fake_sweep(tmp_path, [None] * 18)
    file = tmp_path / "points.json"
    file.write_text(file.read_text().replace('"N"', '"M"'))
    with pytest.raises(SweepError, match="do not belong to the same sweep"):
        report(tmp_path)


@pytest.mark.parametrize(
    "change", [{"seed": 7}, {"folder": "n-1-s0-1"}, {"hash": "0" * 12}], ids=lambda change: next(iter(change))
)
def test_a_point_that_is_not_of_the_sweep_is_said(tmp_path, change):
    fake_sweep(tmp_path, [0.8] * 18)
    file = tmp_path / "points.json"
    records = json.loads(file.read_bytes())
    file.write_text(json.dumps([records[0] | change, *records[1:]]))
    with pytest.raises(SweepError, match="do not belong to the same sweep"):
        report(tmp_path)


def test_a_summary_that_is_gone_is_said(tmp_path):
    folder, points = fake_sweep(tmp_path, [0.8] * 18)
    file = folder.run(points[0]).path / "summary.json"
    file.unlink()
    made = report(tmp_path)
    (notice,) = made.notices
    assert notice.startswith(
        f"{file} is missing, although the run was finished. To train it again, run: hep "
    )
    assert made.record["runs"] == {"done": 17, "running": 0, "waiting": 0, "failed": 1}
    assert made.record["cells"][0]["n"] == 2


def test_a_journal_that_is_damaged_takes_no_result(tmp_path):
    folder, points = fake_sweep(tmp_path, [0.8] * 17 + [None])
    whole = report(tmp_path)
    first, last = (folder.journal(point) for point in (points[0], points[-1]))
    first.latest().file.write_text("{")
    last.claim()
    last.latest().file.write_text('{"state": "clamed"}')
    made = report(tmp_path)
    assert made.record["cells"] == whole.record["cells"]
    assert made.notices == (
        f"{first.latest().file} is damaged; according to the other entries, the point is done.",
        f"{last.latest().file} is damaged; according to the other entries, the point is running.",
    )
    assert (folder.state(points[0]), folder.state(points[-1])) == ("done", "running")
    first.latest().file.unlink()
    assert report(tmp_path).record["cells"] == whole.record["cells"]


def test_a_summary_that_lacks_the_value_is_named(tmp_path):
    folder, points = fake_sweep(tmp_path, [0.8] * 18)
    file = folder.run(points[3]).path / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"test": {}}))
    with pytest.raises(ConfigError) as error:
        report(tmp_path)
    assert error.value.what == f'there is no value "test_error" in {file}.'
    assert "selected_test_error" in error.value.advice
    assert " test_error" not in error.value.advice


def test_a_line_that_lacks_the_value_is_named(tmp_path):
    view = {"kind": "curves", "series": ["N", "|β|"]}
    folder, points = fake_sweep(tmp_path, [0.8] * 18, figure=view)
    file = folder.run(points[3]).path / "metrics.jsonl"
    file.write_text(file.read_text().replace('"top1"', '"tap1"'))
    with pytest.raises(ConfigError, match=f'"test_error" in {re.escape(str(file))}'):
        report(tmp_path)


@pytest.mark.parametrize("line", [b'{"epoch": [1]}', b'{"epoch": 1, "test": 3}', b"{}", b"[" * 100_000])
def test_a_damaged_line_of_metrics_is_said(tmp_path, line):
    folder, points = fake_sweep(tmp_path, [0.8] + [None] * 17)
    (folder.run(points[0]).path / "metrics.jsonl").write_bytes(line + b"\n")
    with pytest.raises(OutputError, match="damaged at line 1"):
        report(tmp_path)
