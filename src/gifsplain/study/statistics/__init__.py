"""Statistics of a reader study: pure functions, a table in, numbers out (docs/study.md has the formulas and sources)."""
