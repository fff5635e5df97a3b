"""Tests of the plugin run pytest themselves."""

pytest_plugins = ["pytester"]
