"""Definitions of sweeps, from files and from options."""

import copy

import pytest

from hepcli.config import (
    check_sweep,
    dump_sweep,
    label_of,
    labels_of,
    list_sweeps,
    load_sweep,
    parse_search,
    parse_seeds,
    parse_shard,
    parse_sweep,
    parse_vary,
    preset_text,
    sweep_differences,
    take_over,
    tell_apart,
)
from hepcli.errors import ConfigError

NAMES = [
    *["beyond", "cifar10-hopfield", "cifar10-methods", "family", "fast-free-phase", "fig3", "fig4-adjacent"],
    *["fig4-conv", "fig4-loop", "hardware", "loop-decay", "noise", "table1", "table2"],
]


def excluding(*combinations):
    axes = [{"name": "a", "key": "run.epochs", "values": [1, 2]}]
    return {"sweep": {"preset": "quickstart", "exclude": list(combinations)}, "axis": axes}


def definition(**tables):
    return check_sweep({"sweep": {"preset": "quickstart"}} | tables, "test")


def test_the_papers_sweeps_are_there():
    assert [info.name for info in list_sweeps()] == [f"sweeps/{name}" for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_every_sweep_opens_with_its_header(name):
    header = preset_text(f"sweeps/{name}").partition("\n\n")[0].splitlines()
    assert all(line.startswith("# ") for line in header)
    for field in ("# Source: ", f"# Command: hep sweep {name}", "# Expected: ", "# Time: "):
        assert any(line.startswith(field) for line in header), field


@pytest.mark.parametrize("name", NAMES)
def test_a_definition_survives_writing_and_reading(name):
    found = load_sweep(name).definition
    assert parse_sweep(dump_sweep(found), "copy") == found


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"axis": [{"name": "a", "key": "run.epochs", "values": []}]}, "axis a: is empty"),
        ({"axis": [{"name": "a", "points": []}]}, "axis a: is empty"),
        ({"axis": [{"name": "a", "key": "run.epochs"}]}, "either key and values, or points"),
        ({"axis": [{"name": "a", "key": "run.seed", "values": [1]}]}, "--seeds"),
        ({"axis": [{"name": "a", "kez": "run.seed"}]}, "did you mean axis.key"),
        (
            {"axis": [{"name": "a", "key": "run.seed", "value": [1]}]},
            "axis a.value = [1]: there is no such key",
        ),
        ({"axis": [{"name": "a", "key": "run.seed", "value": [1]}]}, "did you mean axis.values"),
        ({"sweep": {"preset": "quickstart", "seeds": [1, 1]}}, "1 is given twice"),
        ({"sweep": {"preset": "quickstart", "seeds": []}}, "at least one seed"),
        ({"sweep": {}}, "sweep.preset: is required"),
        ({"axis": [{"name": "a", "key": "run.epochs", "values": [1, 1]}]}, "1 is given twice"),
        ({"axis": [{"name": "a", "key": "run.epochs", "values": [1]}] * 2}, "two axes with that name"),
        ({"table": {"rows": ["b"]}}, "there is no such axis"),
        (
            {"axis": [{"name": "a", "key": "run.epochs", "values": [1]}], "table": {}},
            "must name axis a exactly once",
        ),
        ({"table": {"value": "test_top1"}}, 'table.value = "test_top1": there is no such value in summary'),
        ({"table": {"value": "test_top1"}}, "did you mean test.top1?"),
        ({"table": {"value": "validation.top1"}}, "did you mean selection.validation.top1?"),
        ({"figure": {"kind": "bars", "y": ["test_err"]}}, "did you mean test_error?"),
        ({"figure": {"kind": "curves", "y": ["images_per_second"]}}, "no such value in metrics.jsonl"),
        (
            {
                "axis": [{"name": "a", "key": "run.epochs", "values": [1, 2]}],
                "search": {"trials": 2, "objective": "train.tpo1"},
            },
            "did you mean train.top1?",
        ),
        (
            {
                "axis": [{"name": n, "key": f"run.{n}", "values": [1, 2]} for n in ("epochs", "devices")],
                "figure": {"kind": "lines", "x": "epochs"},
            },
            "figure: x, series or facet must name axis devices",
        ),
        (
            {
                "axis": [{"name": "a", "key": "run.epochs", "values": [1, 2]}],
                "figure": {"kind": "curves"},
            },
            "figure: series or facet must name axis a",
        ),
        ({"figure": {"kind": "pie"}}, "must be one of lines, bars, curves"),
        ({"figure": {"kind": "bars", "facet": "b"}}, 'figure.facet = "b": there is no such axis'),
        ({**excluding({"b": "1"})}, 'sweep.exclude = "b": there is no such axis'),
        ({**excluding({"a": "3"})}, 'sweep.exclude = "3": axis a has no such label'),
        ({**excluding({"a": "1"}, {"a": "2"})}, "leaves out every combination"),
        ({**excluding({})}, "leaves out every combination"),
    ],
)
def test_what_is_refused(tables, says):
    with pytest.raises(ConfigError) as error:
        definition(**tables)
    assert says in error.value.what
    assert error.value.advice


def test_all_faults_at_once():
    with pytest.raises(ConfigError) as error:
        definition(sweep={"preset": "quickstart", "seeds": [1, 1], "colour": 1}, figure={"kind": "pie"})
    assert "3 entries are not allowed" in error.value.what


def test_a_setting_holds_where_an_axis_leaves_it_open():
    points = [{"label": "a", "set": {"run.epochs": 3}}, {"label": "b"}]
    tables = {"sweep": {"preset": "quickstart", "set": {"run.epochs": 1}}}
    check_sweep(tables | {"axis": [{"name": "x", "points": points}]}, "test")
    with pytest.raises(ConfigError, match="cannot be overridden: axis x already sets this key"):
        check_sweep(tables | {"axis": [{"name": "x", "points": points[:1]}]}, "test")


def test_the_command_line_takes_a_key_from_points_that_set_several():
    points = [
        {"label": "a", "set": {"run.epochs": 3, "gradient.num_points": 2}},
        {"label": "b", "set": {"run.epochs": 5, "gradient.num_points": 4}},
    ]
    tables = {"axis": [{"name": "x", "points": points}]}
    assert take_over(tables, {"run.epochs": 1}) == (
        "run.epochs = 1 is used at every point, overriding 3, 5 from axis x.",
    )
    assert [point["set"] for point in points] == [{"gradient.num_points": 2}, {"gradient.num_points": 4}]


def test_the_command_line_takes_a_key_from_grids():
    tables = {"axis": [], "grid": [{"set": {"run.epochs": 3}, "axis": []}, {"axis": []}]}
    assert take_over(tables, {"run.epochs": 1}) == ("run.epochs = 1 is used in every grid, overriding 3.",)
    assert tables["grid"][0]["set"] == {}


def test_the_command_line_takes_nothing_from_an_axis_that_varies_nothing_else():
    points = [{"label": label, "set": {"gradient.num_points": label}} for label in "ab"]
    tables = {"axis": [parse_vary("run.epochs=1,2"), {"name": "x", "points": points}]}
    before = copy.deepcopy(tables)
    assert take_over(tables, {"run.epochs": 3, "gradient.num_points": 3}) == ()
    assert tables == before


def test_one_key_from_the_command_line():
    assert parse_vary("gradient.num_points=1,2") == {
        "name": "num_points",
        "key": "gradient.num_points",
        "values": [1, 2],
    }
    assert parse_vary('network.connections=["in-l1", "l1-out"],["in-out"]')["values"] == [
        ["in-l1", "l1-out"],
        ["in-out"],
    ]


def test_keys_together_from_the_command_line():
    axis = parse_vary("gradient.method:gradient.num_points=hep:2,hep_exact:1")
    assert axis["name"] == "method:num_points"
    assert axis["points"][1] == {
        "label": "hep_exact:1",
        "set": {"gradient.method": "hep_exact", "gradient.num_points": 1},
    }


def test_ranges_from_the_command_line():
    rate = {"name": "b", "key": "a.b", "low": 1e-3, "high": 1.0, "log": True, "integer": False}
    assert parse_vary("a.b=1e-3..1.0:log") == rate
    assert parse_vary("a.b=1..5") == rate | {"low": 1, "high": 5, "log": False, "integer": True}
    assert parse_vary("a.b=-2.5..-1") == rate | {"low": -2.5, "high": -1, "log": False}
    assert parse_vary("a.b=.001..1.0:log") == rate
    assert parse_vary("a.b=x..y")["values"] == ["x..y"]


def test_keys_that_end_alike_name_their_axes_in_full():
    texts = ("network.layers.l1.units=8,16", "network.layers.l2.units=8,16", "gradient.num_points=1,2")
    axes = [parse_vary(text) for text in texts]
    tell_apart(axes)
    assert [axis["name"] for axis in axes] == [
        "network.layers.l1.units",
        "network.layers.l2.units",
        "num_points",
    ]


@pytest.mark.parametrize(
    ("objective", "direction"),
    [
        ("validation_error", "minimize"),
        ("selection.validation.top1", "maximize"),
        ("train.loss", "minimize"),
        ("images_per_second", "maximize"),
        ("train.nudged_settled", "maximize"),
        ("train.top5,direction=minimize", "minimize"),
    ],
)
def test_a_search_seeks_what_is_better(objective, direction):
    search = parse_search(f"trials=3,objective={objective}")
    found = definition(search=search, axis=[parse_vary("optimizer.learning_rate=1e-3..1:log")])
    assert found.search.direction == direction


def test_a_search_survives_writing_and_reading():
    axes = [parse_vary("optimizer.learning_rate=1e-3..1:log"), parse_vary("gradient.num_points=1,2")]
    found = definition(search=parse_search("trials=30,sampler=random"), axis=axes)
    assert parse_sweep(dump_sweep(found), "copy") == found
    assert found.axis[0].bounds == (1e-3, 1.0)


def test_sweeps_of_before_are_written_as_they_were():
    """The folder of a sweep from options is named by what is written."""
    axes = [parse_vary("gradient.num_points=1,2")]
    written = definition(axis=axes).model_dump()
    assert written.keys() == {"sweep", "axis", "table", "figure"}
    assert written["axis"][0].keys() == {"name", "key", "values", "points"}


@pytest.mark.parametrize("text", ["trials", "trials=", "trials=1,trials=2", ",", "=3"])
def test_search_is_refused(text):
    with pytest.raises(ConfigError, match="--search"):
        parse_search(text)


RANGE = {"name": "a", "key": "optimizer.learning_rate", "low": 0.1, "high": 1.0}


@pytest.mark.parametrize(
    ("search", "axis", "says"),
    [
        (None, {}, "a range needs a search"),
        ({"trials": 3}, {"low": 2.0}, "low must be below high"),
        ({"trials": 3}, {"low": 0.0, "log": True}, "low must be above 0"),
        ({"trials": 3}, {"integer": True}, "must be whole numbers"),
        ({"trials": 3}, {"values": [1]}, "cannot have values or points"),
        ({"trials": 4}, {"low": 1, "high": 3, "integer": True}, "there are only 3 points to try"),
        ({}, {}, "search.trials: is required"),
        ({"trials": 0}, {}, "search.trials = 0"),
        ({"trials": 3, "sampler": "cma"}, {}, "must be one of random, tpe, grid"),
        ({"trials": 3, "sampler": "grid"}, {}, "sampler grid needs values, not a range"),
        ({"trials": 3, "objective": "test_error"}, {}, "nothing is selected on test data"),
        ({"trials": 3, "objective": "test.top1"}, {}, "nothing is selected on test data"),
        ({"trials": 3, "objective": "selection.test.top1"}, {}, "nothing is selected on test data"),
        ({"trials": 3, "objective": "homeostatic_loss"}, {}, "nothing is selected on test data"),
        (
            {"trials": 3, "pruner": "median", "objective": "train_error"},
            {},
            "needs objective validation_error",
        ),
        ({"trialz": 3, "trials": 3}, {}, "did you mean search.trials"),
    ],
)
def test_what_no_search_can_be(search, axis, says):
    tables = {"axis": [RANGE | axis]} | ({} if search is None else {"search": search})
    with pytest.raises(ConfigError) as error:
        definition(**tables)
    assert says in str(error.value)


@pytest.mark.parametrize("text", ["a.b", "=1", "a.b=", "a.b=1,,2", "a.b:c.d=1:2,3", "a..b=1", "a.b= "])
def test_vary_is_refused(text):
    with pytest.raises(ConfigError, match="--vary") as error:
        parse_vary(text)
    assert "KEY=V1,V2" in error.value.advice


def test_seeds():
    assert parse_seeds("0-2,7") == (0, 1, 2, 7)
    for text in ("", "2-1", "a", "1,", "-1", "0-99999999"):
        with pytest.raises(ConfigError, match="--seeds"):
            parse_seeds(text)


def test_shards():
    assert parse_shard("3/4") == (3, 4)
    for text in ("3/2", "2/2", "1", "a/b", "-1/2", "0/0"):
        with pytest.raises(ConfigError, match="--shard"):
            parse_shard(text)


def test_only_the_work_makes_a_difference():
    axis = [{"name": "a", "key": "run.epochs", "values": [1, 2]}]
    one = definition(axis=axis)
    other = definition(axis=axis, figure={"kind": "bars", "x": "a"})
    assert sweep_differences(one, other) == []
    longer = definition(axis=[axis[0] | {"values": [1, 3]}])
    assert [key for key, _, _ in sweep_differences(one, longer)] == ["axis a"]


def test_an_unquoted_dotted_key_sets_that_key_alone(tmp_path):
    """TOML makes a table in a table of it; the rest of that table stays the preset's."""
    file = tmp_path / "sweep.toml"
    keys = 'homeostasis.num_draws = 2\n"run.epochs" = 1\nhardware.weight_bits = 4\n'
    file.write_text(f'[sweep]\npreset = "quickstart"\n[sweep.set]\n{keys}')
    expected = {"homeostasis.num_draws": 2, "run.epochs": 1, "hardware.weight_bits": 4}
    assert load_sweep(str(file)).definition.sweep.set == expected


def test_presets_of_a_definition_lie_beside_it(tmp_path, monkeypatch):
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/mine.toml").write_text('extends = "quickstart"\n')
    file = tmp_path / "exp/sweep.toml"
    point = '[[axis]]\nname = "net"\npoints = [{ label = "mine", preset = "mine.toml" }]\n'
    file.write_text(f'[sweep]\npreset = "quickstart"\n{point}')
    found = set()
    for folder in (tmp_path, tmp_path / "exp"):
        monkeypatch.chdir(folder)
        definition = load_sweep(str(file.relative_to(folder))).definition
        found.add((definition.sweep.preset, definition.axis[0].places[0].preset))
    assert found == {("quickstart", str(tmp_path / "exp/mine.toml"))}


def test_another_exclude_is_another_sweep():
    axis = [{"name": "a", "key": "run.epochs", "values": [1, 2]}]
    one = definition(axis=axis)
    other = definition(axis=axis, sweep={"preset": "quickstart", "exclude": [{"a": "2"}]})
    assert [key for key, _, _ in sweep_differences(one, other)] == ["exclude"]


def test_long_values_keep_their_labels_unless_they_would_be_alike():
    """Sweeps of earlier versions are named after them."""
    one = [*"abcdefghijklmnop", "x"]
    two = one[1:]
    cut = label_of(one)
    assert labels_of([one, two, "plain", 0.5]) == [cut, label_of(two), "plain", "0.5"]
    assert cut.endswith("...")
    labels = labels_of([one, [*one[:-1], "q"], one])
    assert labels[0] == labels[2] != labels[1]
