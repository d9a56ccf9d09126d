"""Curves of several runs in one figure."""

import json

import pytest

from hepcli.config import config_hash, dump_config, load_config
from hepcli.errors import ConfigError, OutputError
from hepcli.experiments.compare import compare, draw_again
from hepcli.experiments.sweeps.figure import figure_of


def fake_run(folder, *overrides, shift=0.0, validation=True):
    """What a comparison reads of a run that was begun."""
    resolved = load_config("quickstart", overrides)
    folder.mkdir()
    (folder / "config.toml").write_text(dump_config(resolved))
    lines = []
    for epoch in (1, 2, 3):
        split = {"top1": epoch / 4 + shift, "loss": 1 / epoch}
        line = {"epoch": epoch, "train": split, "test": split, "weight_angle_deg": None}
        lines.append(line | ({"validation": split} if validation else {}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder, config_hash(resolved.config)


@pytest.fixture
def drawn(monkeypatch):
    """What is handed over to be drawn."""
    kept = []
    monkeypatch.setattr("hepcli.experiments.compare._draw", lambda collection, out: kept.append(collection))
    return kept


def test_seeds_are_one_curve_and_the_legend_names_what_differs(tmp_path, drawn):
    runs = [
        fake_run(tmp_path / f"{rate}-{seed}", f"optimizer.learning_rate={rate}", f"run.seed={seed}")[0]
        for rate in (0.1, 0.2)
        for seed in (0, 1)
    ]
    compare(runs)
    assert drawn[0].axes == {"learning_rate": ["0.1", "0.2"]}
    assert drawn[0].figure.series == ("learning_rate",)
    assert drawn[0].figure.y == ("train.loss", "train_error", "validation_error", "test_error")
    compare([*runs, fake_run(tmp_path / "old", "run.seed=7", validation=False)[0]])
    assert "validation_error" not in drawn[1].figure.y


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_the_suffix_decides_the_format(tmp_path, suffix, start):
    runs = [fake_run(tmp_path / str(seed), f"run.seed={seed}", shift=seed / 10)[0] for seed in (0, 1)]
    file, notices = compare(runs, ["validation_error", "weight_angle_deg"], tmp_path / f"figure{suffix}")
    assert file.read_bytes().startswith(start)
    assert notices == ()


def test_nothing_else_is_replaced(tmp_path):
    run, _ = fake_run(tmp_path / "run")
    own = tmp_path / "figure.figure.json"
    own.write_text('{"a": 1}')
    with pytest.raises(ConfigError, match=r"figure\.figure\.json, where the data .* contains something else"):
        compare([run], ["test_error"], tmp_path / "figure.png")
    assert own.read_text() == '{"a": 1}'
    (run / "curves.figure.json").touch()
    with pytest.raises(ConfigError, match="belongs to the run"):
        compare([run], ["test_error"], run / "curves.pdf")


def test_what_cannot_be_drawn_is_said(tmp_path):
    run, _ = fake_run(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"\.png, \.pdf, \.svg"):
        compare([run], out=tmp_path / "figure.bmp")
    with pytest.raises(ConfigError, match=r'no value "test\.top2"') as error:
        compare([run], ["test.top2"], tmp_path / "figure.png")
    assert "test.top1" in error.value.advice
    with pytest.raises(ConfigError, match="--y is empty"):
        compare([run], [""], tmp_path / "figure.png")
    with pytest.raises(ConfigError, match=r"contains no config\.toml"):
        compare([tmp_path], out=tmp_path / "figure.png")
    with pytest.raises(ConfigError, match=r"contains no config\.toml"):
        compare([run, tmp_path / "misspelt"], out=tmp_path / "figure.png")
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(ConfigError, match="finished an epoch"):
        compare([run], out=tmp_path / "figure.png")


def test_runs_that_go_on_are_shown_beside_those_that_are_finished(tmp_path, drawn):
    runs = []
    for rate, epochs in ((0.1, 3), (0.2, 2)):
        folder, own_hash = fake_run(tmp_path / str(rate), f"optimizer.learning_rate={rate}")
        lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        (folder / "metrics.jsonl").write_text("".join(lines[:epochs]))
        runs.append(folder)
        if epochs == 3:
            summary = json.loads(lines[-1]) | {"config_hash": own_hash, "dataset": "fashion_mnist_mini"}
            (folder / "summary.json").write_text(json.dumps(summary))
    assert compare(runs, ["test_error"])[1] == ()
    (runs[0] / "summary.json").write_text(json.dumps(summary | {"config_hash": "another"}))
    assert "The run counts as unfinished" in compare(runs, ["test_error"])[1][0]
    figure = figure_of(drawn[0])
    assert {one.label: one.x for one in figure.panels[0].series} == {
        "learning rate = 0.1": (1, 2, 3),
        "learning rate = 0.2": (1, 2),
    }
    assert "1 of 2 runs not finished" in figure.caption


def test_a_figure_says_in_what_else_its_runs_differ(tmp_path, drawn):
    """The legend names what tells them apart, which may not be what made the difference."""
    one, _ = fake_run(tmp_path / "a", "gradient.num_points=2", "run.seed=0", "run.devices=1")
    two, _ = fake_run(
        tmp_path / "b", "gradient.num_points=4", "run.seed=1", "relaxation.free_steps=20",
        "network.layers.l1.units=16",
    )  # fmt: skip
    notices = compare([one, two])[1]
    assert notices == (
        "The runs differ in more than gradient.num_points, by which they are grouped: "
        "relaxation.free_steps, network.layers.",
    )
    caption = figure_of(drawn[0]).caption
    assert "; seeds 0–1 (1 per condition); the runs also differ in" in caption.replace(
        "2 of 2 runs not finished; ", ""
    )
    assert "relaxation.free steps, network.layers" in caption
    assert "mean" not in caption


def test_a_mean_of_runs_of_different_lengths_says_so(tmp_path, drawn):
    runs = [fake_run(tmp_path / str(seed), f"run.seed={seed}")[0] for seed in (0, 1)]
    compare(runs)
    assert "late epochs" not in figure_of(drawn[0]).caption
    lines = (runs[1] / "metrics.jsonl").read_text().splitlines(keepends=True)
    (runs[1] / "metrics.jsonl").write_text(lines[0])
    compare(runs)
    assert "late epochs: only the runs that reached them" in figure_of(drawn[1]).caption


def test_where_a_run_is_trained_and_followed_makes_no_curve_of_its_own(tmp_path, drawn):
    runs = [fake_run(tmp_path / str(n), f"run.devices={n}", f"run.seed={n}")[0] for n in (1, 2)]
    compare(runs)
    assert drawn[0].axes == {}


def test_figures_are_drawn_again_from_their_data(tmp_path):
    folder, _ = fake_run(tmp_path / "a")
    compare([folder], ("test_error",), tmp_path / "first.png")
    before = (tmp_path / "first.png").read_bytes()
    (tmp_path / "first.png").unlink()
    data = tmp_path / "first.figure.json"
    assert draw_again([data]) == [tmp_path / "first.png"]
    assert (tmp_path / "first.png").read_bytes() == before
    assert draw_again([data], tmp_path / "second.svg")[0].read_bytes().startswith(b"<?xml")
    with pytest.raises(ConfigError, match="2 figures"):
        draw_again([data, data], tmp_path / "third.png")
    with pytest.raises(ConfigError, match=r"is not a \.figure\.json file"):
        draw_again([data, folder])
    with pytest.raises(ConfigError, match="figures can be written only as"):
        draw_again([data], tmp_path / "third.txt")
    record = json.loads(data.read_text())
    record["panels"][0]["series"][0]["x"].append(1.0)
    data.write_text(json.dumps(record))
    with pytest.raises(OutputError, match=r"first\.figure\.json cannot be drawn"):
        draw_again([data])
