"""Tests of training; a package, so that the tests share `tiny`."""
