"""The parts of `hep sweep`: points, claims on them, workers, and the report."""
