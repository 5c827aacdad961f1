"""Many runs: papers, sweeps, statistics, tables, reports."""
