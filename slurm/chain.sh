#!/usr/bin/env bash
# Submit preparation, search and training as a chain of jobs: each starts when the previous one has succeeded, and is
# cancelled when the previous one has failed.
#   slurm/chain.sh CONFIG RUN [sbatch options for all three]
set -euo pipefail
if [ $# -lt 2 ] || [ -z "$1" ] || [ -z "$2" ]; then
    echo "usage: $0 CONFIG RUN [sbatch options]" >&2
    exit 2
fi
export CONFIG=$1 RUN=$2
shift 2
# shellcheck source=rcdp_hpc/cluster/site.sh
. "${RCDP_SITE:-slurm/site.sh}"
mkdir -p "$RUN/jobs"
jobs=()
submit() {
    local stage=$1 job digest
    shift
    if ! job=$(sbatch --parsable --export=ALL --kill-on-invalid-dep=yes "$@" "slurm/$stage.sbatch"); then
        # The earlier jobs are useless without this one.
        if [ ${#jobs[@]} -gt 0 ]; then scancel "${jobs[@]}"; fi
        exit 1
    fi
    job=${job%%;*}
    jobs+=("$job")
    echo "$stage: job $job"
    # `rcdp status` reads this file; each line has the SHA-256 of its other keys.
    digest=$(printf '{"job":"%s","stage":"%s"}' "$job" "$stage" | sha256sum)
    printf '{"stage": "%s", "job": "%s", "sha256": "%s"}\n' "$stage" "$job" "${digest%% *}" >>"$RUN/jobs/submitted.jsonl"
    after=--dependency=afterok:$job
}
submit prepare "${EVERY_JOB[@]}" "${PREPARE_JOB[@]}" "$@"
submit search "${EVERY_JOB[@]}" "${SEARCH_JOB[@]}" "$@" "$after"
submit train "${EVERY_JOB[@]}" "${TRAIN_JOB[@]}" "$@" "$after"
printf 'follow with: squeue --me; rcdp status %q\n' "$RUN"
