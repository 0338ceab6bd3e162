"""How the pages are built: `make docs`."""

project = "nashquant"
copyright = "the nashquant authors"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "nashquant"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
# Links to files outside this folder (the changelog, the licence) are right in the repository.
suppress_warnings = ["myst.xref_missing"]
