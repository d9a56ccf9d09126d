"""Tests of the numerical core; a package, so that the tests share `reference` and `cases`."""
