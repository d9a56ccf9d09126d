"""Searches: what is chosen, by whom, and what becomes of it; nothing is trained but where it says so."""

import json
import math
import random

import pytest

from hepcli.config import check_sweep, dump_config, load_config
from hepcli.errors import ConfigError, SweepError
from hepcli.experiments.sweeps import study
from hepcli.experiments.sweeps.definition import SweepRequest
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.joining import join
from hepcli.experiments.sweeps.plan import plan
from hepcli.experiments.sweeps.points import probe, resolve
from hepcli.experiments.sweeps.report import report
from hepcli.experiments.sweeps.search import Search
from hepcli.experiments.sweeps.trials import Trial
from hepcli.experiments.sweeps.worker import WorkRequest, work

optuna = pytest.importorskip("optuna")

RATE = {"name": "rate", "key": "optimizer.learning_rate", "low": 1e-3, "high": 1.0, "log": True}
STEPS = {"name": "steps", "key": "relaxation.nudged_steps", "low": 1, "high": 3, "integer": True}
NAMES = {"name": "activation", "key": "network.activation", "values": ["sigmoid", "dsilu"]}


def make_search(path, axes=(RATE,), settings=None, **search):
    tables = {
        "sweep": {"preset": "quickstart", "set": {"data.validation_examples": 500} | (settings or {})},
        "search": {"trials": 6} | search,
        "axis": list(axes),
    }
    folder = SweepFolder(path)
    join(folder, check_sweep(tables, "test"), ())
    return Search(folder, folder.definition())


def error_of(places):
    """An objective with its least at a rate of 0.03."""
    return 0.1 + 0.1 * abs(math.log10(places.get("rate", 1.0) / 0.03)) + 0.01 * places.get("steps", 0)


def settle(search, number, state="done", epochs=1):
    """What a worker leaves of a trial: records of its runs, and their claims settled."""
    (result,) = [one for one in search.results() if one.trial.number == number]
    for point in result.trial.points:
        claim = search.folder.journal(point).claim()
        run = search.folder.run(point)
        run.path.mkdir(parents=True)
        top1 = 1 - error_of(result.trial.places)
        lines = [{"epoch": n + 1, "validation": {"top1": top1}} for n in range(epochs)]
        (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if state == "done":
            summary = {"config_hash": point.hash, "selection": {"validation": {"top1": top1}}}
            (run.path / "summary.json").write_text(json.dumps(summary))
        claim.settle(state)


def run_all(search):
    while search.propose():
        settle(search, len(search.results()) - 1)


def trials_of(search):
    path = str(search.folder.path / "optuna.journal")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
    return optuna.load_study(study_name="hep", storage=storage).trials


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_is_the_same_again(tmp_path, sampler):
    searches = [make_search(tmp_path / name, (RATE, STEPS, NAMES), sampler=sampler) for name in "ab"]
    for search in searches:
        run_all(search)
    first, second = ([result.trial for result in search.results()] for search in searches)
    assert first == second
    assert len(first) == 6
    assert all(1e-3 <= one.places["rate"] <= 1.0 and one.places["steps"] in (1, 2, 3) for one in first)
    assert all(one.points[0].settings["optimizer.learning_rate"] == one.places["rate"] for one in first)


def test_tpe_gets_closer_than_random(tmp_path):
    best = {}
    for sampler in ("random", "tpe"):
        search = make_search(tmp_path / sampler, sampler=sampler, trials=30)
        run_all(search)
        values = [result.value for result in search.results()]
        best[sampler] = sum(sorted(values)[:10]) / 10
    assert best["tpe"] < best["random"]


def test_a_finite_space_is_tried_whole_and_nothing_twice(tmp_path):
    for sampler in ("tpe", "random"):
        search = make_search(tmp_path / sampler, (STEPS, NAMES), sampler=sampler)
        run_all(search)
        tried = [(one.trial.places["steps"], one.trial.places["activation"]) for one in search.results()]
        assert sorted(tried) == [(n, name) for n in (1, 2, 3) for name in ("dsilu", "sigmoid")]


def test_only_one_chooses_at_a_time(tmp_path):
    search, other = make_search(tmp_path), make_search(tmp_path)
    claim = search._claim(0)
    assert not other.propose()
    claim.settle("released")
    assert other.propose()
    assert [result.state for result in search.results()] == ["waiting"]
    assert search.is_open


def test_the_study_holds_each_trial_once_whatever_became_of_it(tmp_path):
    search = make_search(tmp_path, trials=4)
    for number, state in enumerate(["done", "failed", "pruned", "done"]):
        assert search.propose()
        if state != "failed":
            settle(search, number, state)
            continue
        journal = search.folder.journal(search.results()[number].trial.points[0])
        for _ in range(2):
            journal.claim().settle("failed", what="It broke.", advice="Mend it.")
    assert not search.propose()
    search.record()
    search.record()
    trials = trials_of(search)
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "PRUNED", "COMPLETE"]
    assert [trial.user_attrs["trial"] for trial in trials] == [0, 1, 2, 3]
    assert trials[1].user_attrs["error"] == "It broke. Mend it."
    made = report(tmp_path).record
    assert made["best"]["value"] == min(trial.value for trial in trials if trial.state.name == "COMPLETE")
    assert made["trials"] == {"done": 2, "pruned": 1, "failed": 1, "running": 0, "waiting": 0}


def test_a_torn_or_damaged_study_is_mended(tmp_path):
    search = make_search(tmp_path, trials=3)
    run_all(search)
    search.record()
    journal = tmp_path / "optuna.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-7])  # a writer was killed
    assert search.record() == []
    assert [trial.user_attrs["trial"] for trial in trials_of(search)] == [0, 1, 2]
    journal.write_bytes(b"damage\n" + whole)
    assert "was damaged and has been rebuilt" in search.record()[0]
    assert [trial.user_attrs["trial"] for trial in trials_of(search)] == [0, 1, 2]


@pytest.mark.parametrize("warmup", [0, 1, 2])
def test_the_pruner_ends_what_is_worse_than_the_median(tmp_path, warmup):
    search = make_search(tmp_path, trials=8, sampler="random", pruner="median", warmup_epochs=warmup)
    for number in range(8):
        search.propose()
        settle(search, number, epochs=2)
    results = search.results()
    by_value = sorted(results, key=lambda result: result.value)
    points = [by_value[place].trial.points[0] for place in (0, -1)]
    assert [search.prunes(point) for point in points] == [False, warmup < 2]


def test_a_configuration_that_is_not_allowed_fails_and_the_search_goes_on(tmp_path):
    decay = {"name": "decay", "key": "optimizer.weight_decay", "values": [1e-4, 0.0]}
    rule = {"name": "rule", "key": "optimizer.feedback_learning", "values": ["gradient", "kolen_pollack"]}
    search = make_search(tmp_path, (decay, rule), sampler="grid", trials=4)
    while search.propose():
        pass
    results = search.results()
    assert [tuple(one.trial.places.values()) for one in results] == [
        *(("0.0001", "gradient"), ("0.0001", "kolen_pollack")),
        *(("0.0", "gradient"), ("0.0", "kolen_pollack")),
    ]
    assert [one.state for one in results] == ["waiting"] * 3 + ["failed"]
    assert "needs optimizer.weight_decay above 0" in results[3].error


def test_its_points_read_their_preset_from_where_the_search_was_moved_to(tmp_path):
    def joined(project):
        tables = {
            "sweep": {"preset": str(project / "mine.toml"), "seeds": [0]},
            "search": {"trials": 2, "pruner": "median"},
            "axis": [RATE],
        }
        folder = SweepFolder(project / "search")
        join(folder, check_sweep(tables, "test"), ())
        return Search(folder, folder.definition())

    (tmp_path / "here").mkdir()
    preset = dump_config(load_config("quickstart", ["data.validation_examples=500"]))
    (tmp_path / "here/mine.toml").write_text(preset)
    assert joined(tmp_path / "here").propose()
    (tmp_path / "here").rename(tmp_path / "there")
    search = joined(tmp_path / "there")
    assert search.propose()
    points = search.folder.points()
    assert {point.preset for point in points} == {str(tmp_path / "there/mine.toml")}
    assert [resolve(point).config.run.seed for point in points] == [0, 0]
    assert not any(map(search.prunes, points))


def test_more_trials_are_added_and_none_taken_away(tmp_path):
    search = make_search(tmp_path, trials=2)
    run_all(search)
    with pytest.raises(ConfigError, match=r"contains another sweep: search\.trials is 2 there"):
        make_search(tmp_path, trials=3)
    more = search.definition.model_copy(update={"search": search.settings.model_copy(update={"trials": 3})})
    join(search.folder, more, (), extend=True)
    longer = Search(search.folder, search.folder.definition())
    run_all(longer)
    assert [result.trial.number for result in longer.results()] == [0, 1, 2]
    wider = longer.settings.model_copy(update={"trials": 4, "objective": "train_error"})
    before = (search.folder.path / "sweep.toml").read_bytes()
    with pytest.raises(ConfigError, match=r"search\.objective"):
        join(search.folder, search.definition.model_copy(update={"search": wider}), (), extend=True)
    assert (search.folder.path / "sweep.toml").read_bytes() == before
    fewer = search.definition.model_copy(update={"search": search.settings.model_copy(update={"trials": 1})})
    with pytest.raises(ConfigError, match="3 trials have already been started"):
        join(search.folder, fewer, (), extend=True)


def test_places_that_are_one_configuration_are_refused(tmp_path):
    axis = [{"name": "devices", "key": "run.devices", "values": [1, 2]}]
    table = {"trials": 2, "objective": "images_per_second", "direction": "maximize"}
    definition = check_sweep({"sweep": {"preset": "quickstart"}, "axis": axis, "search": table}, "test")
    with pytest.raises(ConfigError, match="two points have the same configuration"):
        probe(definition)


def test_what_a_search_lacks_is_told_before_it_starts(tmp_path, monkeypatch):
    request = SweepRequest(
        preset="quickstart",
        vary=["optimizer.learning_rate=0.1..1:log"],
        search="trials=3",
        out=tmp_path / "s",
    )
    with pytest.raises(ConfigError, match=r"needs data\.validation_examples above 0"):
        plan(request)
    with pytest.raises(ConfigError, match="--shard cannot be used with a search"):
        plan(request._replace(shard="0/2"))
    monkeypatch.setattr(study, "find_spec", lambda name: None)
    with pytest.raises(SweepError, match="needs Optuna, which is not installed"):
        plan(request)


@pytest.mark.parametrize(
    ("view", "key"),
    [
        ('[table]\nvalue = "validation_error"', "data.validation_examples"),
        ('[figure]\nkind = "bars"\ny = ["selection.validation.loss"]', "data.validation_examples"),
        ('[figure]\nkind = "curves"\ny = ["asymmetry.cosine.total"]', "run.measure_examples"),
    ],
)
def test_what_no_run_would_record_is_told_before_it_starts(tmp_path, view, key):
    file = tmp_path / "own.toml"
    file.write_text(f'[sweep]\npreset = "quickstart"\n\n{view}\n')
    request = SweepRequest(sweep=str(file), out=tmp_path / "s")
    with pytest.raises(ConfigError, match=f"needs {key} above 0") as error:
        plan(request)
    assert f"--set {key}=" in error.value.advice
    assert len(plan(request._replace(overrides=[f"{key}=1000"])).points) == 1


@pytest.mark.usefixtures("small_data")
def test_a_worker_trains_what_it_chooses(tmp_path, small):
    settings = dict(override.split("=") for override in small if "schedule" not in override)
    fixed = {key: int(value) for key, value in settings.items()} | {"data.validation_examples": 10}
    search = make_search(tmp_path, settings=fixed | {"run.epochs": 1}, trials=2)
    list(work(WorkRequest(tmp_path), lambda: False))
    assert [result.state for result in search.results()] == ["done", "done"]
    assert all(0 <= result.value <= 100 for result in search.results())
    made = report(tmp_path)
    assert [row[1] for row in made.grids[0].rows] in (["0", "1"], ["1", "0"])
    files = ["table.csv", "table.json", "table.md", "table.tex", "figure.png"]
    assert [file.name for file in made.files] == files
    assert len(trials_of(search)) == 2


def outcomes(count, diverges_above=0.1):
    """Results of trials spread evenly over the rate, of which those above a rate diverged."""
    found = []
    for number in range(count):
        rate = 10 ** (-3 + 3 * ((7 * number) % count + 0.5) / count)
        places = {"rate": rate, "steps": 1 + number % 3}
        has_failed = rate > diverges_above
        value = None if has_failed else error_of(places)
        state = "failed" if has_failed else "done"
        found.append(study.Result(Trial(number, places, [], None), state, value, {}))
    return found


def test_a_search_learns_from_trials_that_diverge(tmp_path):
    """Where a third of the range diverges, tpe soon leaves it alone."""
    search = make_search(tmp_path, (RATE, STEPS), sampler="tpe", trials=60)
    axes, results = search.definition.axis, outcomes(30)
    assert sum(result.state == "failed" for result in results) == 10
    chosen = [study.suggest(search.settings, axes, results, attempt)["rate"] for attempt in range(30)]
    assert sum(rate > 0.1 for rate in chosen) < 5


def test_trials_that_stopped_improving_count_for_the_pruner_later_on(tmp_path):
    """Else the median of a late epoch is that of the few trials that went on improving."""
    search = make_search(tmp_path, trials=8, pruner="median")

    def trial(number, *errors, state="done"):
        value = min(errors) if state == "done" else None
        return study.Result(Trial(number, {"rate": 0.1}, [], None), state, value, dict(enumerate(errors, 1)))

    over = [*(trial(number, 20.0, 18.0) for number in range(4)), trial(4, 18.0, 16.0, 14.0, 12.0)]
    for errors, is_worse in (((19.0, 17.0, 15.0), False), ((22.0, 21.0, 19.0), True)):
        own = trial(5, *errors, state="running")
        assert study.is_worse(search.settings, search.definition.axis, over, own) is is_worse


def test_importance_is_told_once_it_means_something(tmp_path):
    search = make_search(tmp_path, (RATE, STEPS), trials=60)
    axes = search.definition.axis
    assert study.importances(search.settings, axes, outcomes(19, 2.0)) == {}
    found = study.importances(search.settings, axes, outcomes(40, 2.0))
    assert list(found) == ["rate", "steps"]
    assert found["rate"] > 0.6
    order = random.Random(1)
    shares = [
        share
        for _ in range(20)
        for noise in [[one._replace(value=order.random()) for one in outcomes(20, 2.0)]]
        for share in study.importances(search.settings, axes, noise).values()
    ]
    assert len(shares) == 40
    assert shares.count(None) >= 34  # where no axis matters, one of 20 is taken for more than chance
    assert study.importances(search.settings, axes[:1], outcomes(40, 2.0)) == {}


def test_a_definition_with_ranges_becomes_a_search_by_an_option(tmp_path):
    """Ranges are for searches, and --search makes one."""
    file = tmp_path / "mine.toml"
    file.write_text(
        '[sweep]\npreset = "quickstart"\nset = {"data.validation_examples" = 500}\n'
        '[[axis]]\nname = "lr"\nkey = "optimizer.learning_rate"\nlow = 0.001\nhigh = 1.0\nlog = true\n'
    )
    with pytest.raises(ConfigError, match="a range needs a search"):
        plan(SweepRequest(str(file), out=tmp_path / "out"))
    planned = plan(SweepRequest(str(file), out=tmp_path / "out", search="trials=3,sampler=random"))
    assert (planned.definition.search.trials, planned.definition.search.sampler) == (3, "random")
    file.write_text(file.read_text() + "[search]\ntrials = 5\n")
    planned = plan(SweepRequest(str(file), out=tmp_path / "out", search="sampler=random"))
    assert (planned.definition.search.trials, planned.definition.search.sampler) == (5, "random")
