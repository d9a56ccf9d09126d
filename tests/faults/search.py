"""A search under SIGKILL: `python -m tests.faults.search --trials 30 --kills 10`, by hand.

Two workers and their parent are killed at random, ten times in all; a killed parent is started again. At the
end every trial must be there once, its run whole and done once, and the same in Optuna's own study.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

TINY = """
extends = "quickstart"
[run]
epochs = 2
devices = 1
[data]
validation_examples = 500
batch_size = 100
[network]
connections = ["in-l1", "l1-out", "out-l1"]
[network.layers.l1]
kind = "dense"
units = 16
[network.layers.out]
kind = "dense"
units = 10
[relaxation]
free_steps = 20
nudged_steps = 10
"""

SEARCH = """
[sweep]
preset = "tiny.toml"
[search]
sampler = "{sampler}"
trials = {trials}
seed = {seed}
[[axis]]
name = "rate"
key = "optimizer.learning_rate"
low = 0.001
high = 3
log = true
[[axis]]
name = "beta"
key = "gradient.beta_radius"
low = 0.05
high = 2
log = true
[[axis]]
name = "angle"
key = "network.initial_angle_deg"
low = 0
high = 90
"""


def write_search(folder: Path, sampler: str, trials: int, seed: int) -> Path:
    """The definition of a small search on the bundled data."""
    (folder / "tiny.toml").write_text(TINY)
    file = folder / f"{sampler}-{seed}.toml"
    file.write_text(SEARCH.format(sampler=sampler, trials=trials, seed=seed))
    return file


def command_of(definition: Path, out: Path, jobs: int) -> list[str]:
    return [sys.executable, "-m", "hepcli", "sweep", str(definition), "--out", str(out), "--jobs", str(jobs)]


def workers_of(parent: int) -> list[int]:
    """The processes whose parent that is."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def run(definition: Path, out: Path, trials: int, kills: int, random: Random, jobs: int = 2) -> Counter[str]:
    """Run a search to its end under kills; what was killed."""
    killed: Counter[str] = Counter()
    moments = sorted(random.uniform(1, trials) for _ in range(kills))
    process = subprocess.Popen(command_of(definition, out, jobs), stderr=subprocess.DEVNULL)
    while process.poll() is None or process.returncode:
        if process.poll() is not None:
            process = subprocess.Popen(command_of(definition, out, jobs), stderr=subprocess.DEVNULL)
        begun = len(list(out.glob("trials/*.json")))
        time.sleep(0.2)
        if not moments or begun < moments[0]:
            continue
        time.sleep(random.uniform(0, 10))
        workers = workers_of(process.pid)
        if process.poll() is not None or not workers:
            continue
        what = "the sweep" if random.random() < 0.3 else "a worker"
        os.kill(process.pid if what == "the sweep" else random.choice(workers), signal.SIGKILL)
        if what == "the sweep":
            process.wait()
        moments.pop(0)
        killed[what] += 1
        print(f"killed {what} with {begun} trials begun", flush=True)
    return killed


def check(out: Path, trials: int) -> None:
    """Every trial once, its run whole, and the study the same."""
    import optuna

    there = [json.loads(file.read_text()) for file in sorted(out.glob("trials/*.json"))]
    assert [trial["number"] for trial in there] == list(range(trials))
    points = [point for trial in there for point in trial["points"]]
    assert len({point["hash"] for point in points}) == trials
    for point in points:
        entries = sorted((out / "claims" / point["hash"]).glob("*.json"))
        states = [json.loads(file.read_text() or "{}").get("state") for file in entries]
        assert (states.count("done"), states[-1]) == (1, "done"), (point["folder"], states)
        run = out / "runs" / point["folder"]
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
        assert json.loads((run / "summary.json").read_text())["epochs"] == len(lines)
    backend = optuna.storages.journal.JournalFileBackend(str(out / "optuna.journal"))
    study = optuna.load_study(study_name="hep", storage=optuna.storages.JournalStorage(backend))
    assert sorted(trial.user_attrs["trial"] for trial in study.trials) == list(range(trials))
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}
    best = json.loads((out / "table.json").read_text())["best"]
    assert (study.best_value, study.best_trial.user_attrs["trial"]) == (best["value"], best["trial"])
    resumed = sum(len(list((out / "claims" / point["hash"]).glob("*.json"))) > 2 for point in points)
    print(f"{trials} trials, each done once; {resumed} of them were taken over; best {best['value']:.2f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hep-search-"))
    print(folder, flush=True)
    definition = write_search(folder, "tpe", arguments.trials, 0)
    killed = run(definition, folder / "search", arguments.trials, arguments.kills, Random(arguments.seed))
    print(dict(killed))
    check(folder / "search", arguments.trials)


if __name__ == "__main__":
    main()
