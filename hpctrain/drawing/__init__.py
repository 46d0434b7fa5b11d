"""Drawings as SVG and tables as HTML, which use the colours of one style sheet; for the report and for families."""
