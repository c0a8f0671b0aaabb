"""The explorer in the browser, and the static gallery of a batch run."""
