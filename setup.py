"""The long description: README.md without the front matter, which is for Spaces. All else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup

_, _, text = Path(__file__).with_name("README.md").read_text(encoding="utf-8").split("---\n", 2)
setup(long_description=text.lstrip(), long_description_content_type="text/markdown")
