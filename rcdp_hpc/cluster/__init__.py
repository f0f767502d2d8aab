"""Slurm: writing and submitting jobs, asking for them later, and what they share (job.sh, site.sh)."""
