"""Array shapes and types are checked while the tests run."""

from beartype import BeartypeConf, beartype

typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""beartype with the numeric tower: an int is a float."""
