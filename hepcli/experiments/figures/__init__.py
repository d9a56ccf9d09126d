"""Figures: what they show, as data, and how that is drawn and written."""
