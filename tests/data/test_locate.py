"""Finding archives, and telling apart what is not read."""

import pytest

from hepcli.data import import_data
from hepcli.errors import DatasetError


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-matlab.tar.gz"),
        ("imagenet32", "Imagenet32_train.zip"),
    ],
)
def test_official_archives_of_another_version_are_named(tmp_path, name, other):
    source = tmp_path / "source"
    source.mkdir()
    with pytest.raises(DatasetError) as without:
        import_data(name, source, tmp_path / "data", print)
    (source / other).touch()
    with pytest.raises(DatasetError) as caught:
        import_data(name, source, tmp_path / "data", print)
    assert other in caught.value.what
    assert other not in without.value.what


def test_without_a_home_the_message_says_what_to_set(monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    for variable in ("HEP_DATA_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(DatasetError, match="no home") as caught:
        import_data("cifar10", None, None, print)
    assert "HEP_DATA_DIR" in caught.value.advice
