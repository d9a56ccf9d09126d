"""Results of sweeps, kept small in presets/results/, and the tables that RESULTS.md makes of them."""
