"""The report of a run: one HTML file that needs no network and no script.

`write_report` writes it. Each section of the page is a function of `RunFiles`, which reads the files of a run directory
and collects what is missing or damaged. Pictures are SVG in the page, drawn by `charts`, so that the report does not
need matplotlib.
"""
