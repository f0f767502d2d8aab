#!/usr/bin/env bash
# Submit preparation, search and training as a chain: each starts when the one before it has ended well, and is
# cancelled when that failed.
#   slurm/chain.sh CONFIG RUN [sbatch options for all three]
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG RUN [sbatch options]" >&2
    exit 2
fi
export CONFIG=$1 RUN=$2
shift 2
after=()
for stage in prepare search train; do
    job=$(sbatch --parsable --export=ALL --kill-on-invalid-dep=yes "${after[@]}" "$@" "slurm/$stage.sbatch")
    job=${job%%;*}
    echo "$stage: job $job"
    after=("--dependency=afterok:$job")
done
echo "follow with: squeue --me; rcdp status $RUN"
