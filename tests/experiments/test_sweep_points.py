"""From definitions to points."""

import json
import shutil

import pytest

from hepcli.config import check_sweep, config_hash, dump_sweep, load_sweep, parse_sweep
from hepcli.errors import ConfigError, SweepError
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.joining import join
from hepcli.experiments.sweeps.points import absolute_preset, expand, program_of, resolve


def points(axis, **sweep):
    return expand(check_sweep({"sweep": {"preset": "quickstart"} | sweep, "axis": axis}, "test"))


@pytest.mark.parametrize(
    ("name", "number", "programs"),
    [
        ("table1", 50, 5),
        ("fig3", 42, 2),
        ("fig4-adjacent", 10, 2),
        ("fig4-loop", 10, 2),
        ("loop-decay", 9, 3),
        ("fig4-conv", 6, 2),
        ("table2", 27, 9),
        ("beyond", 75, 13),
        ("fast-free-phase", 9, 3),
        ("cifar10-hopfield", 10, 5),
        ("cifar10-methods", 21, 5),
        ("noise", 24, 4),
        ("family", 21, 7),
        ("hardware", 108, 36),
    ],
)
def test_every_point_of_the_papers_sweeps(name, number, programs):
    found = expand(load_sweep(name).definition)
    assert len({point.hash for point in found}) == len(found) == number
    assert all(point.folder.endswith(point.hash) for point in found)
    assert len({program_of(resolve(point).config) for point in found}) == programs


def test_the_online_row_runs_1200_steps():
    online = [p for p in expand(load_sweep("table1").definition) if p.labels["estimator"] == "online, N = 4"]
    for point in online:
        config = resolve(point).config
        turns = config.gradient.num_points * config.gradient.online_cycles
        assert turns * config.relaxation.nudged_steps == 1200
        assert config.relaxation.nudged_steps == 60


def test_the_product_of_axes_and_seeds():
    found = points(
        [
            {"name": "N", "key": "gradient.num_points", "values": [1, 2]},
            {"name": "m", "points": [{"label": "a"}, {"label": "b", "set": {"gradient.method": "rbp"}}]},
        ],
        seeds=[3, 5],
        set={"run.epochs": 1},
    )
    assert [(p.labels["N"], p.labels["m"], p.seed) for p in found[:3]] == [
        ("1", "a", 3), ("1", "a", 5), ("1", "b", 3),
    ]  # fmt: skip
    assert len(found) == 8
    assert found[0].folder == f"n-1-m-a-s3-{found[0].hash}"
    config = resolve(found[-1]).config
    assert (config.gradient.method, config.gradient.num_points, config.run.seed) == ("rbp", 2, 5)
    assert config_hash(config) == found[-1].hash
    assert config.run.epochs == 1


def test_a_preset_that_extends_a_file_beside_it(tmp_path, monkeypatch):
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "base.toml").write_text('extends = "quickstart"\n[run]\nepochs = 3\n')
    (folder / "mine.toml").write_text('extends = "base.toml"\n[data]\nbatch_size = 25\n')
    monkeypatch.chdir(tmp_path)
    axes = [{"name": "N", "key": "gradient.num_points", "values": [1]}]
    same = points(axes, set={"run.epochs": 3, "data.batch_size": 25})
    assert [point.hash for point in points(axes, preset="presets/mine.toml")] == [same[0].hash]
    point = points(axes, preset=absolute_preset("presets/mine.toml"))[0]
    monkeypatch.chdir("/")
    assert config_hash(resolve(point).config) == point.hash == same[0].hash
    (folder / "base.toml").write_text('extends = "quickstart"\n[run]\nepochs = 4\n')
    with pytest.raises(ConfigError, match=r"mine\.toml has changed since this sweep was started"):
        resolve(point)


def joined(path, seeds):
    """A sweep in that folder, as the command that began it finds it again."""
    axes = [{"name": "r", "key": "gradient.beta_radius", "values": [0.1, 0.2]}]
    definition = check_sweep({"sweep": {"preset": "quickstart", "seeds": seeds}, "axis": axes}, "test")
    join(SweepFolder(path), definition, expand(definition))
    return path / "points.json"


@pytest.mark.parametrize("what", ["of another sweep", "seed", "hash", "folder", "epochs"])
def test_points_that_are_not_those_of_the_definition_are_no_changed_preset(tmp_path, what):
    file = joined(tmp_path / "a", [0, 1])
    records = json.loads(file.read_bytes())
    if what == "of another sweep":
        shutil.copy(joined(tmp_path / "b", [1, 2]), file)
    elif what == "epochs":
        file.write_text(json.dumps([records[0] | {"settings": {"run.epochs": 7}}, *records[1:]]))
    else:
        other = {"seed": 3, "hash": "0" * 12, "folder": "r-0.1-s7"}[what]
        file.write_text(json.dumps([records[0] | {what: other}, *records[1:]]))
    with pytest.raises(SweepError, match=r"points\.json does not belong to the sweep in sweep\.toml"):
        joined(tmp_path / "a", [0, 1])
    file.unlink()
    joined(tmp_path / "a", [0, 1])


def test_a_preset_that_has_changed_is_said(tmp_path):
    file = joined(tmp_path, [0])
    file.write_text(file.read_text().replace(json.loads(file.read_bytes())[0]["hash"], "0" * 12))
    with pytest.raises(ConfigError, match="the preset quickstart has changed"):
        joined(tmp_path, [0])


def test_all_problems_of_all_points_once():
    with pytest.raises(ConfigError) as error:
        points(
            [
                {"name": "a", "key": "gradient.num_pionts", "values": [1, 2]},
                {"name": "b", "key": "gradient.beta_radius", "values": [0.5, "half"]},
            ],
            seeds=[0, 1],
        )
    assert error.value.what.count("did you mean gradient.num_points?") == 2
    assert error.value.what.count('"half": must be a number') == 1


def test_excluded_combinations_are_no_points():
    axes = [
        {"name": "N", "key": "gradient.num_points", "values": [1, 2]},
        {"name": "r", "key": "gradient.beta_radius", "values": [0.1, 0.2]},
    ]
    found = points(axes, exclude=[{"N": "1", "r": "0.2"}], seeds=[0, 1])
    assert {(p.labels["N"], p.labels["r"]) for p in found} == {("1", "0.1"), ("2", "0.1"), ("2", "0.2")}
    assert len(found) == 6
    assert {p.labels["r"] for p in points(axes, exclude=[{"r": "0.1"}])} == {"0.2"}


def test_a_union_of_grids():
    """A star around the middle: each grid varies one key, and what both have is there once."""
    first = {"name": "N", "key": "gradient.num_points", "values": [2, 4]}
    second = {"name": "r", "key": "gradient.beta_radius", "values": [0.5, 0.1]}
    shared = {"name": "a", "key": "network.initial_angle_deg", "values": [0.0, 90.0]}
    tables = {"sweep": {"preset": "quickstart"}, "axis": [shared], "grid": [{"axis": [first]}]}
    tables["grid"].append({"axis": [second], "set": {"relaxation.free_steps": 150}})
    definition = check_sweep(tables, "test")
    found = expand(definition)
    assert parse_sweep(dump_sweep(definition), "copy") == definition
    assert definition.labels == {"a": ["0.0", "90.0"], "N": ["2", "4", "–"], "r": ["–", "0.5", "0.1"]}
    assert [(p.labels["N"], p.labels["r"]) for p in found if p.labels["a"] == "0.0"] == [
        *(("2", "–"), ("4", "–")),
        ("–", "0.1"),
    ]
    assert len({p.hash for p in found}) == len(found) == 6


def test_grids_that_nothing_tells_apart_are_refused():
    """A table would show one of them, and a figure their mean."""
    axis = {"name": "N", "key": "gradient.num_points", "values": [1, 2]}
    grids = [{"axis": [axis], "set": {"homeostasis.weight": weight}} for weight in (0.0, 1.0)]
    with pytest.raises(ConfigError, match=r"two grids have a point \(N 1, seed 0\), with different settings"):
        expand(check_sweep({"sweep": {"preset": "quickstart"}, "grid": grids}, "test"))


def test_duplicate_points():
    places = [{"label": "one", "set": {"run.epochs": 20}}, {"label": "two", "set": {}}]
    with pytest.raises(ConfigError, match=r"two points have the same configuration: \(a one, seed 0\)"):
        points([{"name": "a", "points": places}])
