"""Runs and sweeps as reports read them, without any training."""

import json

from hepcli.config import check_sweep, config_hash, dump_config, load_config
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.joining import join
from hepcli.experiments.sweeps.points import expand

AXES = [
    {"name": "|β|", "key": "gradient.beta_radius", "values": [0.05, 0.5]},
    {"name": "N", "key": "gradient.num_points", "values": [1, 2, 4]},
]
TABLES = ["table.csv", "table.json", "table.md", "table.tex", "runs.csv"]


def fake_run(folder, top1, name, epochs=3):
    """What a report reads of a finished run of a configuration of that hash; None is undefined."""
    folder.mkdir(parents=True, exist_ok=True)
    split = {"top1": top1, "loss": 0.5}
    lines = [{"epoch": e + 1, "test": split, "train": split, "weight_angle_deg": None} for e in range(epochs)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "summary.json").write_text(
        json.dumps(lines[-1] | {"selection": {"test": {"top1": top1}}, "config_hash": name})
    )


def fake_ordinary_run(folder, top1, overrides=()):
    resolved = load_config("quickstart", overrides)
    fake_run(folder, top1, config_hash(resolved.config))
    (folder / "config.toml").write_text(dump_config(resolved))


def fake_sweep(path, results, **views):
    """A sweep whose points had these accuracies; None was not run."""
    tables = {"sweep": {"preset": "quickstart", "title": "A title", "seeds": [0, 1, 2]}, "axis": AXES}
    definition = check_sweep(tables | views, "test")
    folder, points = SweepFolder(path), expand(definition)
    join(folder, definition, points)
    for point, top1 in zip(points, results, strict=True):
        if top1 is not None:
            fake_run(folder.run(point).path, top1, point.hash)
            folder.journal(point).claim().settle("done")
    return folder, points
