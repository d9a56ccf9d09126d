"""One estimator of the learning signal a file; `hepcli/settings/parts.py` names them."""
