"""The report of a comparison: one HTML file with its tables, figures and links to the reports of its cells."""
