"""Slurm: planning, writing and submitting jobs, and their status; job.sh and site.sh are part of every job."""
